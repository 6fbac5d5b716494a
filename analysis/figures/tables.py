"""The tables behind figures: checks before drawing, and the order of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import AnalysisError


def check_table(
    table: pd.DataFrame,
    figure: str,
    columns: Sequence[str],
    intervals: Sequence[tuple[str, str, str]] = (("value", "low", "high"),),
    *,
    may_lack: bool = False,
) -> pd.DataFrame:
    """Return a copy of the table behind a figure, with rows counted from 0, after checking its content.

    Parameters
    ----------
    table
        The table.
    figure
        Name of the figure, for messages.
    columns
        Columns that it must have, those of intervals apart.
    intervals
        Names of the columns of value and ends of the interval.
    may_lack
        Whether a row may lack a value together with its interval.

    Raises
    ------
    AnalysisError
        If nothing is there to draw, a column is missing, a value is no finite number or lies outside its interval.
    """
    if not len(table):
        raise AnalysisError(f"The figure '{figure}' has nothing to show: its table has no rows.")
    wanted = [*columns, *(name for interval in intervals for name in interval)]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise AnalysisError(
            f"The figure '{figure}' needs the column(s) {', '.join(missing)}; its table has {', '.join(table.columns)}."
        )
    own = table.reset_index(drop=True).copy()
    for value, low, high in intervals:
        numbers = own[[value, low, high]].astype(np.float64).to_numpy()
        own[[value, low, high]] = numbers
        lacking = np.isnan(numbers).any(axis=1)
        if may_lack:
            lacking = np.isnan(numbers).any(axis=1) & ~np.isnan(numbers).all(axis=1)
        wrong = lacking | np.isinf(numbers[:, 0])
        slack = 1e-9 * np.maximum(1, np.abs(numbers[:, 0]))
        with np.errstate(invalid="ignore"):
            wrong |= (numbers[:, 0] < numbers[:, 1] - slack) | (numbers[:, 0] > numbers[:, 2] + slack)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise AnalysisError(
                f"The figure '{figure}' can't show row {row}: {value} {numbers[row, 0]:g}, {low} {numbers[row, 1]:g}, "
                f"{high} {numbers[row, 2]:g}. A value must be a number between the ends of its interval."
            )
    return own


def check_numbers(table: pd.DataFrame, figure: str, columns: Iterable[str]) -> None:
    """Check that columns hold finite numbers.

    Raises
    ------
    AnalysisError
        If one does not; the message names the column and the row.
    """
    for column in columns:
        finite = np.isfinite(table[column].astype(np.float64).to_numpy())
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise AnalysisError(f"The figure '{figure}' can't show row {row}: {column} is {table[column].iloc[row]}.")


def known_intervals(table: pd.DataFrame, low: str = "low", high: str = "high") -> NDArray[np.bool_]:
    """Say which rows have an interval: finite ends, and no method that begins with "no interval"."""
    known: NDArray[np.bool_] = np.isfinite(table[low].to_numpy(np.float64)) & np.isfinite(
        table[high].to_numpy(np.float64)
    )
    if "method" in table.columns:
        known &= ~table["method"].astype(str).str.startswith("no interval").to_numpy()
    return known


def in_order(names: Iterable[object], first: Sequence[str] = ("natural", "synthetic")) -> list[str]:
    """Return distinct names: those with a fixed order first, then the others alphabetically."""
    distinct = {str(name) for name in names}
    return [name for name in first if name in distinct] + sorted(distinct - set(first))
