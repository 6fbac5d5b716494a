"""Preference for one side: who has it, and which units draw it."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from analysis.intervals.quantiles import critical_value
from analysis.intervals.wilson import wilson_interval
from analysis.multiple_tests import adjust_holm
from analysis.psychophysics.detection_rates import count_choices
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError


@threaded
def position_bias(table: pd.DataFrame, by: str = "participant", **settings: Unpack[Settings]) -> pd.DataFrame:
    """Test each participant, or each unit, for a preference for one side.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Column to go by: ``participant`` or ``unit``.
    settings
        As for every estimator: :class:`Settings`.

    Returns
    -------
    One row for each that was asked about on both sides, sorted by name: ``answers``, ``upper`` (share of answers that
    chose the upper query), ``right_above`` and ``right_below`` (proportion right with the maximal query on top and
    below), ``difference`` with ``low`` and ``high`` (Newcombe's interval of a difference of two proportions, 1998),
    ``p`` (Fisher's exact test of right or wrong against the side), ``p_holm`` (Holm's correction over the rows) and
    ``biased`` (``p_holm`` below .05).

    Raises
    ------
    AnalysisError
        If nobody was asked about both sides.
    """
    level = choose(settings).level
    counts = count_choices(table, [by])
    counts = counts[(counts["upper_trials"] > 0) & (counts["lower_trials"] > 0)].reset_index(drop=True)
    if counts.empty:
        raise AnalysisError(
            f"Position bias by {by} can't be tested: no {by} was asked with the maximal query on top and with it below."
        )
    above, below = counts["upper_trials"].to_numpy(), counts["lower_trials"].to_numpy()
    right_above = counts["hits"].to_numpy()
    right_below = below - counts["false_alarms"].to_numpy()
    p = np.array(
        [float(fisher_exact([[a, m - a], [b, n - b]])[1]) for a, m, b, n in zip(right_above, above, right_below, below)]
    )
    p_holm = adjust_holm(p)
    first, first_low, first_high = _wilson(right_above, above, level)
    second, second_low, second_high = _wilson(right_below, below, level)
    return pd.DataFrame(
        {
            by: counts[by],
            "answers": (above + below).astype(np.int64),
            "upper": (counts["hits"] + counts["false_alarms"]).to_numpy() / (above + below),
            "right_above": first,
            "right_below": second,
            "difference": first - second,
            "low": first - second - np.hypot(first - first_low, second_high - second),
            "high": first - second + np.hypot(first_high - first, second - second_low),
            "p": p,
            "p_holm": p_holm,
            "biased": p_holm < 0.05,
        }
    )


def _wilson(right: NDArray[np.float64], trials: NDArray[np.float64], level: float) -> tuple[NDArray[np.float64], ...]:
    """Return proportions and the ends of their Wilson intervals."""
    z = critical_value(level)
    share = right / trials
    low, high = np.array([wilson_interval(value, count, z) for value, count in zip(share, trials)]).T
    return share, low, high
