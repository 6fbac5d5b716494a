"""Rows that can't be read as they are described: which, in which column, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import ImportFailure

FILE, ROW = "\x00file", "\x00row"
"""Columns that say where a row comes from: its file's name and its number there, the header being row 1."""

MOST = 10
"""How many faults a message names; the rest are counted."""


class Faults:
    """Collects what is wrong with the rows of a table, so that one message can name all of it.

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
        self._found: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def name_row(self, position: int) -> str:
        """Return how a row is called: by its number, and by its file if there are several."""
        row = f"row {int(self._rows[position]):,}"
        return f"{self._files[position]}, {row}" if self._several else row

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
            self._found.append((position, f"{self.name_row(position)}: {column}{said}; {reason}"))

    def rows(self) -> NDArray[np.bool_]:
        """Return which rows have a fault already, shape (rows,)."""
        found = np.zeros(len(self._rows), dtype=bool)
        found[[position for position, _ in self._found]] = True
        return found

    def absorb(self, other: Faults) -> None:
        """Take the faults of another table's rows over; they come behind those that are here."""
        self._found += [(len(self._rows) + position, line) for position, line in other._found]
        other._found = []

    def check(self) -> None:
        """Raise if there are any.

        Raises
        ------
        ImportFailure
            Naming the first rows, with column and reason, and counting the others.
        """
        if not self._found:
            return
        found = sorted(self._found, key=lambda fault: fault[0])
        rows = len({position for position, _ in found})
        lines = [line for _, line in found[:MOST]]
        if len(found) > MOST:
            lines.append(f"… and {len(found) - MOST:,} more")
        raise ImportFailure(
            f"{self.what}: {rows:,} of {len(self._rows):,} rows can't be read as described.\n  " + "\n  ".join(lines)
        )


def _is_missing(cell: Any) -> bool:
    return cell is None or cell is pd.NA or cell == "" or (isinstance(cell, float) and np.isnan(cell))
