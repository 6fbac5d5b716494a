"""Rows that can't be read as they are described: which, in which column, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import ImportFailure

FILE, ROW = "\x00file", "\x00row"
"""Columns that say where a row comes from: its file's name and its number there, the header being row 1."""

_Where = tuple[int, int, Any]
"""Where a row stands: the number of its file, its own number, and the file's name."""

MOST = 10
"""How many faults a message names; the rest are counted."""


class Faults:
    """Collects the errors of a table's rows, so that one message can name all of them.

    Parameters
    ----------
    what
        What is read, as the message begins.
    origin
        Table with the columns ``FILE`` and ``ROW``, one row for each row that is read.
    """

    def __init__(self, what: str, origin: pd.DataFrame) -> None:
        self.what = what
        self._rows = origin[ROW].to_numpy()
        self._files = origin[FILE].to_numpy(dtype=object)
        self._several = origin[FILE].nunique() > 1
        self._found: list[tuple[_Where, str, str]] = []
        self._order = {file: number for number, file in enumerate(dict.fromkeys(self._files.tolist()))}

    def __len__(self) -> int:
        return len(self._found)

    def name_row(self, position: int) -> str:
        """Return how a row is called: by its number, and by its file if there are several."""
        row = f"row {int(self._rows[position]):,}"
        return f"{self._files[position]}, {row}" if self._several else row

    def _where(self, position: int) -> _Where:
        file = self._files[position]
        return self._order[file], int(self._rows[position]), file

    def add(self, wrong: NDArray[np.bool_], column: str, reason: str, values: Any = None) -> None:
        """Add the rows that are wrong in the same way.

        Parameters
        ----------
        wrong
            Shape (rows,).
        column
            What the user calls the column.
        reason
            What is wrong with it; ``{value}`` stands for the cell.
        values
            The cells, shape (rows,).
        """
        if not wrong.any():
            return
        cells = None if values is None else np.asarray(values, dtype=object)
        for position in np.flatnonzero(wrong).tolist():
            cell = "empty" if cells is None or _is_missing(cells[position]) else repr(cells[position])
            said = f" is {cell}" if cells is not None else ""
            self._found.append((self._where(position), column, f"{self.name_row(position)}: {column}{said}; {reason}"))

    def rows(self) -> NDArray[np.bool_]:
        """Return which rows have a fault already, shape (rows,)."""
        found = {where[1:] for where, _, _ in self._found}
        pairs = zip(self._rows.tolist(), self._files.tolist())
        return np.fromiter((pair in found for pair in pairs), dtype=bool, count=len(self._rows))

    def absorb(self, other: Faults) -> None:
        """Take the faults of another table's rows over, those of a part of the same files."""
        self._found += other._found
        other._found = []

    def check(self, besides: str = "") -> None:
        """Raise if there are any. A row counts once, and a cell is named once, by its first error.

        Parameters
        ----------
        besides
            What is wrong with the table as a whole.

        Raises
        ------
        ImportFailure
            Naming the first rows, with column and reason, and counting the others.
        """
        if not self._found:
            return
        first: dict[tuple[_Where, str], str] = {}
        for where, column, line in self._found:
            first.setdefault((where, column), line)
        found = sorted(first.items(), key=lambda fault: fault[0][0][:2])
        rows = len({where for (where, _), _ in found})
        several = len({(row, file) for row, file in zip(self._rows.tolist(), self._files.tolist())})
        lines = [line for _, line in found[:MOST]]
        if len(found) > MOST:
            lines.append(f"… and {len(found) - MOST:,} more")
        if besides:
            lines.append(f"Besides, {besides}")
        raise ImportFailure(
            f"{self.what}: {rows:,} of {several:,} rows can't be read as described.\n  " + "\n  ".join(lines)
        )


def _is_missing(cell: Any) -> bool:
    return cell is None or cell is pd.NA or cell == "" or (isinstance(cell, float) and np.isnan(cell))
