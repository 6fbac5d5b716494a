"""Intraclass correlation: the share of variance that lies between units, from mean squares.

Shrout & Fleiss (1979), case 1; for proportions Ridout, Demetrio & Firth (1999).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import Floats


def intraclass(weights: Floats, answers: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    """Return the intraclass correlation of 0/1 answers, for each replicate.

    Parameters
    ----------
    weights
        Shape (replicates, units): how often each unit counts.
    answers, right
        Shape (units,).

    Returns
    -------
    Shape (replicates,) twice: of a single answer, and of a mean of the mean number of answers a unit. NaN where the
    answers do not differ at all.
    """
    k, s = np.asarray(answers, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return intraclass_of_sums(weights, k, s, s)


def intraclass_of_sums(weights: Floats, count: Floats, total: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """Return the intraclass correlation from counts, sums and sums of squares, as ``intraclass`` does.

    The estimator from mean squares for groups of unequal size: Donner (1986), A review of inference procedures for the
    intraclass correlation coefficient, International Statistical Review 54, section 2.
    """
    units = weights.sum(axis=1)
    n = weights @ count
    grand = weights @ total
    level = weights @ (total**2 / count)
    within = (weights @ squares - level) / np.maximum(n - units, 1)
    between = (level - grand**2 / n) / (units - 1)
    size = (n - weights @ count**2 / n) / (units - 1)
    spread = between + (size - 1) * within
    # Rounding leaves a crumb of spread where all answers are equal.
    none = spread <= 1e-12 * (weights @ squares) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        single = np.where(none, np.nan, (between - within) / spread)
    return single, step_up(single, n / units)


def step_up(correlation: Floats, factor: float | Floats) -> Floats:
    """Return the reliability of a mean of ``factor`` times as many answers (Spearman-Brown).

    Where the formula has no answer, because so negative a correlation can't be that of exchangeable answers, the
    reliability is minus infinity.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(np.isneginf(correlation), -np.inf, 1 + (np.asarray(factor) - 1) * correlation)
        return np.asarray(np.where(below > 0, factor * correlation / below, np.where(np.isnan(below), np.nan, -np.inf)))
