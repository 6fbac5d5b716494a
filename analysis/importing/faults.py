"""Rows that can't be read as they are described: which, in which column, and why."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import ImportFailure

FILE, ROW = "\x00file", "\x00row"
"""Columns that say where a row comes from: its file's name and its number there, the header being row 1."""

_Where = tuple[int, int, Any]
"""Where a row stands: the number of its file, its own number, and the file's name."""

MOST = 10
"""How many lines a message has at most: one a fault, or one a cause where there are more faults."""

EXAMPLES = 3
"""How many rows the line of a cause names."""


class _Fault(NamedTuple):
    """A cell that can't be read: where it stands, how its row is called, its column, what it holds, and why not."""

    where: _Where
    row: str
    column: str
    cell: str
    reason: str


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
        self._found: list[_Fault] = []
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
            said = cell if cells is not None else ""
            self._found.append(_Fault(self._where(position), self.name_row(position), column, said, reason))

    def rows(self) -> NDArray[np.bool_]:
        """Return which rows have a fault already, shape (rows,)."""
        found = {fault.where[1:] for fault in self._found}
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
            Naming each row with column and reason; of more than ``MOST`` faults each cause once, the frequent first,
            with the number of its rows and the first ``EXAMPLES``.
        """
        if not self._found:
            return
        first: dict[tuple[_Where, str], _Fault] = {}
        for fault in self._found:
            first.setdefault((fault.where, fault.column), fault)
        found = sorted(first.values(), key=lambda fault: fault.where[:2])
        rows = len({fault.where for fault in found})
        several = len({(row, file) for row, file in zip(self._rows.tolist(), self._files.tolist())})
        lines = list(map(_spell_fault, found)) if len(found) <= MOST else _spell_causes(found)
        if besides:
            lines.append(f"Besides, {besides}")
        raise ImportFailure(
            f"{self.what}: {rows:,} of {several:,} rows can't be read as described.\n  " + "\n  ".join(lines)
        )


def _spell_fault(fault: _Fault) -> str:
    """Return the line of a fault."""
    return f"{fault.row}: {fault.column}{f' is {fault.cell}' if fault.cell else ''}; {fault.reason}"


def _spell_causes(found: list[_Fault]) -> list[str]:
    """Return a line a cause, with a count and examples; what has the same column and reason has one cause."""
    causes: dict[tuple[str, str], list[_Fault]] = {}
    for fault in found:
        causes.setdefault((fault.column, fault.reason), []).append(fault)
    ordered = sorted(causes.values(), key=len, reverse=True)
    lines = []
    for same in ordered[:MOST]:
        if len(same) == 1:
            lines.append(_spell_fault(same[0]))
            continue
        shown = ", ".join(f"{fault.row}{f' ({fault.cell})' if fault.cell else ''}" for fault in same[:EXAMPLES])
        more = f", … and {len(same) - EXAMPLES:,} more" if len(same) > EXAMPLES else ""
        lines.append(f"{len(same):,} rows: {same[0].column}; {same[0].reason}: {shown}{more}")
    if len(ordered) > MOST:
        others = sum(map(len, ordered[MOST:]))
        lines.append(f"… and {len(ordered) - MOST:,} more causes, in {others:,} cells")
    return lines


def _is_missing(cell: Any) -> bool:
    return cell is None or cell is pd.NA or cell == "" or (isinstance(cell, float) and np.isnan(cell))
