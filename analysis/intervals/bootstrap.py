"""Bootstrap over units: how often each is drawn, and the interval that the replicates give."""

from __future__ import annotations

import math

import numpy as np

from analysis.arrays import Floats
from analysis.intervals.quantiles import percentile_ends
from benchmark.estimate import LEVEL, Estimate

MOST_UNDEFINED = 0.05
"""Share of replicates that may lack an answer before there is no interval."""


def resample_weights(count: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Return how often each of ``count`` items is drawn in each replicate; shape (resamples, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def percentile_estimate(
    value: float,
    replicates: Floats,
    what: str,
    n: int,
    unit: str,
    estimand: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    level: float = LEVEL,
) -> Estimate:
    """Return an estimate with the percentile interval of its bootstrap replicates over units.

    Replicates that have no answer (NaN) are left out; if more than ``MOST_UNDEFINED`` of them are, there is no
    interval, and the estimate says so.
    """
    defined = replicates[~np.isnan(replicates)]
    missing = len(replicates) - len(defined)
    if missing > MOST_UNDEFINED * len(replicates):
        return Estimate(
            value,
            *bounds,
            f"no interval: {missing} of {len(replicates)} bootstrap replicates over units have no value; {what}",
            n,
            unit,
            estimand,
            level,
        )
    low, high = percentile_ends(defined, level)
    left_out = f", {missing} without a value left out" if missing else ""
    return Estimate(
        value,
        max(min(low, value), bounds[0]),
        min(max(high, value), bounds[1]),
        f"{what}; percentile bootstrap over units ({len(replicates):,} replicates{left_out})",
        n,
        unit,
        estimand,
        level,
    )
