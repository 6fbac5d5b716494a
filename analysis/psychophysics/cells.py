"""Cells of a table of judgements: its main trials by model and condition, say."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmark.errors import AnalysisError

ALL_ANSWERS = 'judgements(responses, references=None, kinds=("main", "repeated"))'


def main_trials(table: pd.DataFrame) -> pd.DataFrame:
    """Return the main trials of a table of judgements.

    Raises
    ------
    AnalysisError
        If there are none.
    """
    own = table[table["kind"].astype(str) == "main"]
    if own.empty:
        raise AnalysisError("There are no main trials in the table of judgements.")
    return own


def split_cells(table: pd.DataFrame, by: Sequence[str]) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Return the cells of a table, sorted by their names."""
    keys = pd.MultiIndex.from_arrays([table[name].astype(str).to_numpy() for name in by], names=list(by))
    codes, cells = pd.factorize(keys, sort=True)
    return [(dict(zip(by, names, strict=True)), table[codes == code]) for code, names in enumerate(cells)]
