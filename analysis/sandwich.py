"""Cluster-robust errors: what a mean, a slope or a d' is worth when answers of one person, or about one unit, agree.

Answers hang together twice: through the unit they are about and through the person who gives them. Each answer's
influence on an estimate is summed over clusters; the variance is the sum of squares over units, plus that over people,
less that over their crossings, which both of them count: Cameron, Gelbach & Miller (2011), Robust inference with
multiway clustering, Journal of Business & Economic Statistics 29, equation 2.11. Where this falls below the larger of
the two one-way variances, the larger one stands (as MacKinnon, Nielsen & Webb, 2024, advise). The
same as ``analysis.proportions`` does for proportions by unit, for anything whose influences are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, t

from analysis.estimands import Scope, spell_estimand
from analysis.proportions import bound_proportion, satterthwaite, wilson_interval
from benchmark.estimate import Estimate

LEVEL = 0.95
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
        """What an estimate with these clusters speaks for: a factor that is not clustered stays what it is."""
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
        crossing = self.codes[0] * self.counts[1] + self.codes[1]
        both = sum(variances) - _one_way(influence, np.unique(crossing, return_inverse=True)[1])
        total = np.array([max(both, *variances)])
        first, second = (np.array([value]) for value in variances)
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
    count = len(sums)
    return float((sums**2).sum()) * count / (count - 1) if count > 1 else 0.0


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
    (``analysis.proportions.bound_proportion``). Where all answers are alike, it is Wilson's for as many answers as
    there are clusters.
    """
    value, smallest, estimand = float(values.mean()), clusters.smallest, clusters.estimand
    if smallest < 2:
        return Estimate(value, 0.0, 1.0, _ALONE, 1, unit, estimand, level)
    if value in (0.0, 1.0):
        low, high = wilson_interval(value, smallest, float(norm.ppf((1 + level) / 2)))
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
    half = float(t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)
    low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(value, min(low, value), max(high, value), clusters.method(freedom), smallest, unit, estimand, level)
