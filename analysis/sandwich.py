"""Cluster-robust errors: what a mean, a slope or a d' is worth when answers of one person, or about one unit, agree.

Answers hang together twice: through the unit they are about and through the person who gives them. Each answer's
influence on an estimate is summed over clusters; the variance is the sum of squares over units, plus that over people,
less that over their crossings, which both of them count: Cameron, Gelbach & Miller (2011), Robust inference with
multiway clustering, Journal of Business & Economic Statistics 29, equation 2.11. Where this falls below the larger of
the two one-way variances, the larger one stands (as MacKinnon, Nielsen & Webb, 2024, advise).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

from benchmark.estimate import Estimate

LEVEL = 0.95
FACTORS = ("unit", "participant")
"""What answers hang together through, unless something else is said."""

_WORDS = {"unit": "units", "participant": "participants", "session": "sessions", "task": "tasks", "model": "models"}


@dataclass(frozen=True)
class Clusters:
    """Which cluster each answer belongs to, by each factor.

    Attributes
    ----------
    names
        The factors.
    codes
        For each factor, shape (answers,): number of the answer's cluster.
    """

    names: tuple[str, ...]
    codes: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, table: pd.DataFrame, factors: Sequence[str] = FACTORS) -> Clusters:
        """Return the clusters of a table of judgements; a factor with one cluster alone is left out."""
        codes = {name: pd.factorize(table[name].to_numpy(), sort=False)[0].astype(np.int64) for name in factors}
        kept = {name: own for name, own in codes.items() if len(own) and own.max() > 0}
        return cls(tuple(kept), tuple(kept.values()))

    @property
    def counts(self) -> tuple[int, ...]:
        """How many clusters each factor has."""
        return tuple(int(own.max()) + 1 for own in self.codes)

    @property
    def smallest(self) -> int:
        """Clusters of the factor that has fewest; 0 if nothing can be clustered."""
        return min(self.counts, default=0)

    @property
    def words(self) -> str:
        """How the clusters are named in a method: "84 units x 63 participants"."""
        return " x ".join(f"{count:,} {_WORDS.get(name, name)}" for name, count in zip(self.names, self.counts))

    def error(self, influence: NDArray[np.float64]) -> float:
        """Return the standard error of an estimate.

        Parameters
        ----------
        influence
            Shape (answers,): how much each answer moves the estimate. It sums to 0.
        """
        variances = [_one_way(influence, own) for own in self.codes]
        if len(variances) < 2:
            return math.sqrt(variances[0]) if variances else math.inf
        crossing = self.codes[0] * (int(self.codes[1].max()) + 1) + self.codes[1]
        both = sum(variances) - _one_way(influence, np.unique(crossing, return_inverse=True)[1])
        return math.sqrt(max(both, *variances))

    def half_width(self, influence: NDArray[np.float64], level: float = LEVEL) -> float:
        """Return half the width of the interval: Student's t, with the fewest clusters less 1 degrees of freedom."""
        if self.smallest < 2:
            return math.inf
        return float(t.ppf((1 + level) / 2, self.smallest - 1)) * self.error(influence)

    def p_value(self, distance: float, influence: NDArray[np.float64]) -> float:
        """Return the two-sided p of a distance from what is tested; 1 where nothing varies or can be clustered."""
        error = self.error(influence)
        if self.smallest < 2 or not 0 < error < math.inf:
            return 1.0
        return float(2 * t.sf(abs(distance) / error, self.smallest - 1))

    @property
    def method(self) -> str:
        """The method of an interval, for a paper."""
        kind = "two-way" if len(self.names) > 1 else "one-way"
        return f"{kind} cluster-robust ({self.words}), Student's t with {self.smallest - 1} degrees of freedom"


def _one_way(influence: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    """Return the variance with one factor, with the usual correction for few clusters."""
    sums = np.bincount(codes, weights=influence)
    count = len(sums)
    return float((sums**2).sum()) * count / (count - 1) if count > 1 else 0.0


def mean_influence(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the influence of each value on their mean."""
    influence: NDArray[np.float64] = (values - values.mean()) / len(values)
    return influence


def clustered_proportion(
    values: NDArray[np.float64], clusters: Clusters, *, unit: str, estimand: str, level: float = LEVEL
) -> Estimate:
    """Estimate a proportion.

    Parameters
    ----------
    values
        Shape (answers,): 0 or 1.
    clusters
        What the answers hang together through.
    unit
        Unit of measurement.
    estimand
        What the proportion speaks for.
    level
        Coverage of the interval.

    Returns
    -------
    The proportion; the interval is made on the logit scale (delta method), so that it stays between 0 and 1. Where
    all answers are alike, it is Wilson's for as many answers as there are clusters.
    """
    value, smallest = float(values.mean()), clusters.smallest
    if smallest < 2:
        return Estimate(value, 0.0, 1.0, "no interval: one unit and one participant", 1, unit, estimand, level)
    if value in (0.0, 1.0):
        low, high = proportion_confint(value * smallest, smallest, alpha=1 - level, method="wilson")
        low, high = min(float(low), value), max(float(high), value)
        method = f"Wilson interval for {smallest} answers, the fewest clusters ({clusters.words}): all answers agree"
        return Estimate(value, low, high, method, smallest, unit, estimand, level)
    half = clusters.half_width(mean_influence(values), level) / (value * (1 - value))
    low, high = float(expit(logit(value) - half)), float(expit(logit(value) + half))
    method = f"{clusters.method}, on the logit scale"
    return Estimate(value, min(low, value), max(high, value), method, smallest, unit, estimand, level)


def clustered_estimate(
    value: float,
    influence: NDArray[np.float64],
    clusters: Clusters,
    *,
    unit: str,
    estimand: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    level: float = LEVEL,
) -> Estimate:
    """Return an estimate whose influences are known, with its interval, which stops at the bounds of the possible."""
    smallest = clusters.smallest
    if smallest < 2:
        return Estimate(value, *bounds, "no interval: one unit and one participant", 1, unit, estimand, level)
    half = clusters.half_width(influence, level)
    if half == 0.0:
        return Estimate(value, *bounds, "no interval: all clusters agree", smallest, unit, estimand, level)
    low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(value, min(low, value), max(high, value), clusters.method, smallest, unit, estimand, level)
