"""Cluster-robust errors: the precision of a mean, a slope or a d' when answers of one person, or about one unit, are
correlated.

Answers hang together twice: through the unit they are about and through the person who gives them. Each answer's
influence on an estimate is summed over clusters; the variance is the sum of squares over units, plus that over people,
less that over their crossings, which both of them count: Cameron, Gelbach & Miller (2011), Robust inference with
multiway clustering, Journal of Business & Economic Statistics 29, equation 2.11. Where this falls below the larger of
the two one-way variances, the larger one stands (as MacKinnon, Nielsen & Webb, 2024, advise).

Here is what every two-way error of this package rests on, and the estimates of anything whose influences are known.
Means of many cells at once are in ``analysis.proportions``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from analysis.arrays import Floats
from analysis.estimands import Scope, spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.intervals.wilson import bound_proportion, wilson_interval
from benchmark.estimate import LEVEL, Estimate

FACTORS = ("unit", "participant")
"""What answers hang together through, unless something else is said."""

_WORDS = {"unit": "units", "participant": "participants"}
_SCOPES: dict[frozenset[str], Scope] = {
    frozenset(): "these units and people",
    frozenset({"unit"}): "new units",
    frozenset({"participant"}): "new people",
    frozenset({"unit", "participant"}): "new units and people",
}
_ALONE = "no interval: one unit and one participant can't speak for new ones"
_NOTHING = 1e-24
"""A variance below this is rounding."""


def few_clusters(count: NDArray[np.integer]) -> Floats:
    """Return the factor that makes the variance over so few clusters unbiased where they are alike: G / (G - 1)."""
    result: Floats = count / np.maximum(count - 1.0, 1.0)
    return result


def two_way_variance(first: Floats, second: Floats, crossings: Floats) -> Floats:
    """Return two-way variances from those by either factor and by their crossings: never below a one-way variance."""
    return np.maximum(first + second - crossings, np.maximum(first, second))


def satterthwaite(
    total: Floats, first: Floats, first_freedom: Floats, second: Floats, second_freedom: Floats
) -> Floats:
    """Return the degrees of freedom of a two-way variance, at least 1.

    They lie between those of the smaller sample and the sum of both: Satterthwaite (1946), An approximate distribution
    of estimates of variance components, Biometrics Bulletin 2.
    """
    squares = first**2 / first_freedom + second**2 / second_freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(squares > 0, total**2 / squares, np.minimum(first_freedom, second_freedom))
    result: Floats = np.clip(freedom, np.minimum(first_freedom, second_freedom), first_freedom + second_freedom)
    return np.maximum(result, 1.0)


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
        return " x ".join(f"{count:,} {_WORDS[name]}" for name, count in zip(self.names, self.counts))

    @property
    def estimand(self) -> str:
        """What an estimate with these clusters generalises to: factors without clusters are treated as fixed."""
        return spell_estimand(_SCOPES[frozenset(self.names)])

    def variance(self, influence: NDArray[np.float64]) -> tuple[float, float]:
        """Return the variance of an estimate, and its degrees of freedom (Satterthwaite's, if there are two factors).

        Parameters
        ----------
        influence
            Shape (answers,): how much each answer moves the estimate. It sums to 0.
        """
        variances = [_one_way(influence, own) for own in self.codes]
        if not variances:
            return math.inf, 1.0
        if len(variances) == 1:
            return variances[0], self.counts[0] - 1.0
        crossing = np.unique(self.codes[0] * self.counts[1] + self.codes[1], return_inverse=True)[1]
        first, second, both = (np.array([value]) for value in (*variances, _one_way(influence, crossing)))
        total = two_way_variance(first, second, both)
        left, right = (np.array([count - 1.0]) for count in self.counts)
        return float(total[0]), float(satterthwaite(total, first, left, second, right)[0])

    def p_value(self, distance: float, influence: NDArray[np.float64]) -> float:
        """Return the two-sided p of a distance from what is tested; 1 where nothing varies or can be clustered."""
        variance, freedom = self.variance(influence)
        if not _NOTHING < variance < math.inf:
            return 1.0
        return float(2 * t.sf(abs(distance) / math.sqrt(variance), freedom))

    def method(self, freedom: float) -> str:
        """Return the method of an interval, for a paper."""
        kind = "two-way sandwich" if len(self.names) > 1 else "sandwich"
        return f"{kind} over {self.words}, Student's t on {freedom:.1f} degrees of freedom"


def _one_way(influence: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    """Return the variance with one factor, with the usual correction for few clusters."""
    sums = np.bincount(codes, weights=influence)
    return float((sums**2).sum() * few_clusters(np.array(len(sums)))) if len(sums) > 1 else 0.0


def clustered_proportion(
    values: NDArray[np.float64], clusters: Clusters, *, unit: str, level: float = LEVEL
) -> Estimate:
    """Estimate a proportion over answers.

    Parameters
    ----------
    values
        Shape (answers,): 0 or 1.
    clusters
        What the answers hang together through.
    unit
        Unit of measurement.
    level
        Coverage of the interval.

    Returns
    -------
    The proportion; its interval is Wilson's with the effective number of answers that the clustered variance implies
    (``analysis.intervals.wilson.bound_proportion``). Where all answers are alike, it is Wilson's for as many answers as
    there are clusters.
    """
    value, smallest, estimand = float(values.mean()), clusters.smallest, clusters.estimand
    if smallest < 2:
        return Estimate(value, 0.0, 1.0, _ALONE, 1, unit, estimand, level)
    if value in (0.0, 1.0):
        low, high = wilson_interval(value, smallest, critical_value(level))
        method = f"Wilson interval for {smallest:,} independent answers, because all agree ({clusters.words})"
        return Estimate(value, low, high, method, smallest, unit, estimand, level)
    variance, freedom = clusters.variance((values - value) / len(values))
    low, high = bound_proportion(value, variance, freedom, value * (1 - value) / len(values), level)
    method = f"{clusters.method(freedom)}, Wilson interval"
    return Estimate(value, min(low, value), max(high, value), method, smallest, unit, estimand, level)


def clustered_estimate(
    value: float,
    influence: NDArray[np.float64],
    clusters: Clusters,
    *,
    unit: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    level: float = LEVEL,
) -> Estimate:
    """Return an estimate whose influences are known, with its interval, which stops at the bounds of the possible."""
    smallest, estimand = clusters.smallest, clusters.estimand
    variance, freedom = clusters.variance(influence)
    if smallest < 2 or variance <= _NOTHING:
        reason = _ALONE if smallest < 2 else "no interval: all clusters agree"
        return Estimate(value, *bounds, reason, max(smallest, 1), unit, estimand, level)
    half = critical_value(level, freedom) * math.sqrt(variance)
    low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(value, min(low, value), max(high, value), clusters.method(freedom), smallest, unit, estimand, level)


def difference_influence(
    correct: NDArray[np.float64], first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64]]:
    """Return the difference of two proportions of one table, and each answer's influence on it, shape (answers,)."""
    one, two = correct[first].mean(), correct[second].mean()
    influence: NDArray[np.float64] = first * (correct - one) / first.sum() - second * (correct - two) / second.sum()
    return float(one - two), influence


def clustered_difference(
    correct: NDArray[np.float64],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    clusters: Clusters,
    level: float = LEVEL,
) -> Estimate:
    """Estimate the difference of two proportions of one table, whose clusters they share."""
    value, influence = difference_influence(correct, first, second)
    return clustered_estimate(
        value, influence, clusters, unit="difference of proportions correct", bounds=(-1.0, 1.0), level=level
    )
