"""Quantiles that intervals are made of: of Student's t and the normal distribution, and of bootstrap replicates."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm, t

from analysis.arrays import Floats


def critical_value(level: float, freedom: float = math.inf) -> float:
    """Return how many standard errors a two-sided interval reaches: of Student's t, or of the normal distribution."""
    middle = (1 + level) / 2
    return float(norm.ppf(middle) if freedom == math.inf else t.ppf(middle, freedom))


def percentile_ends(replicates: Floats, level: float) -> tuple[float, float]:
    """Return the ends of a percentile interval: the replicates outside of which at most (1 - level) / 2 lie each.

    Nothing is interpolated, which would be undefined between a finite and an infinite replicate.
    """
    low, high = (1 - level) / 2, (1 + level) / 2
    return (
        float(np.quantile(replicates, low, method="lower")),
        float(np.quantile(replicates, high, method="higher")),
    )
