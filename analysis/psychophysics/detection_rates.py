"""Hits and false alarms, their rates, and d' from a proportion correct."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from benchmark.errors import AnalysisError

ROOT_TWO = math.sqrt(2.0)


def d_prime_from_proportion(proportion: ArrayLike) -> NDArray[np.float64]:
    """Return the d' of an unbiased observer in two-alternative forced choice: sqrt(2) z(proportion correct).

    A proportion of 1 gives infinity and 0 minus infinity, as the definition says.
    """
    share = np.asarray(proportion, dtype=np.float64)
    if not np.all((share >= 0) & (share <= 1)):
        raise AnalysisError("A proportion correct lies between 0 and 1.")
    distance: NDArray[np.float64] = ROOT_TWO * ndtri(share)
    return distance


def count_choices(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Count hits and false alarms.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Columns whose combinations are counted apart.

    Returns
    -------
    One row for each combination, sorted, with ``upper_trials`` and ``hits`` (the maximal query on top; the upper one
    chosen) and ``lower_trials`` and ``false_alarms`` (the maximal query below; the upper one chosen).

    Raises
    ------
    AnalysisError
        If the table is empty.
    """
    if table.empty:
        raise AnalysisError("There are no judgements to count hits and false alarms in.")
    top, upper = table["max_on_top"].to_numpy(), table["upper"].to_numpy()
    parts = {"upper_trials": top, "hits": top * upper, "lower_trials": 1 - top, "false_alarms": (1 - top) * upper}
    keys = [table[name].astype(str).to_numpy() for name in by]
    counts = pd.DataFrame(parts).groupby(keys, sort=True).sum()
    counts.index.names = list(by)
    return counts.reset_index()


def corrected_rates(counts: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return hit and false-alarm rates with the log-linear correction: (x + 1/2) / (n + 1), in every row.

    Reference: Hautus (1995), Corrections for extreme proportions and their biasing effects on estimated values of d',
    Behavior Research Methods 27.
    """
    hits = (counts["hits"].to_numpy(np.float64) + 0.5) / (counts["upper_trials"].to_numpy(np.float64) + 1)
    alarms = (counts["false_alarms"].to_numpy(np.float64) + 0.5) / (counts["lower_trials"].to_numpy(np.float64) + 1)
    return hits, alarms
