"""What follows from a fitted difficulty curve: influences of answers, bands, thresholds and units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr
from scipy.stats import chi2, t

from analysis.arrays import Floats
from analysis.estimands import spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.psychophysics.difficulty_model import (
    GUESS,
    LEAST_LOG_SPREAD,
    Counts,
    answer_scores,
    cholesky_factor,
    gradient_of,
    integrate,
    mean_chance,
)
from analysis.sandwich import Clusters, satterthwaite
from benchmark.estimate import Estimate

THRESHOLD = 0.75


class Inference:
    """What follows from a fit: influences of answers, bands, thresholds and units."""

    def __init__(
        self,
        parameters: Floats,
        counts: Counts,
        clusters: Clusters,
        unit: NDArray[np.int64],
        place: NDArray[np.int64],
        correct: Floats,
        level: float,
    ) -> None:
        self.parameters, self.counts, self.clusters, self.level = parameters, counts, clusters, level
        self.posterior = integrate(parameters, counts)
        if_right, if_wrong = answer_scores(parameters, counts, self.posterior)
        wrong = counts.answers - counts.right
        by_unit = np.einsum("ud,udp->up", counts.right, if_right) + np.einsum("ud,udp->up", wrong, if_wrong)
        # What one more right answer, less one more wrong one, adds to the total score: directly, and by moving its
        # unit's posterior (the derivative of the marginal score by the weight of an answer inside the integral).
        chance = GUESS + (1 - GUESS - counts.lapse) * expit(self.posterior.eta)
        expected = np.einsum("und,un->ud", chance, self.posterior.weights)
        change = if_right - if_wrong + self._moved(parameters, counts)
        by_answer = (correct - expected[unit, place])[:, None] * change[unit, place]
        # A spread of 0 lies on its bound: neither it nor, for slopes, their covariance then moves.
        self.free = [0, 1]
        if parameters[2] > LEAST_LOG_SPREAD + 0.5:
            self.free += [2, 3]
        if parameters[4] > LEAST_LOG_SPREAD + 0.5:
            self.free.append(4)
        information = self._information()[np.ix_(self.free, self.free)]
        values, vectors = np.linalg.eigh((information + information.T) / 2)
        # A direction that the answers say nothing of is left as it is, instead of being inverted.
        inverse = np.where(values > values.max() * 1e-10, 1 / np.maximum(values, 1e-300), 0.0)
        inverted = (vectors * inverse) @ vectors.T
        self.by_unit: Floats = by_unit[:, self.free] @ inverted
        self.by_answer: Floats = by_answer[:, self.free] @ inverted

    def _moved(self, parameters: Floats, counts: Counts) -> Floats:
        """Return the posterior covariance of a unit's score with log p(right) - log p(wrong), shape (units, d, 5)."""
        posterior = self.posterior
        one, _, two = cholesky_factor(parameters)
        if_right, if_wrong = counts.link.scores(posterior.eta)
        by_eta = if_right * counts.right[:, None] + if_wrong * (counts.answers - counts.right)[:, None]
        plain, sloped = by_eta.sum(axis=-1), by_eta @ counts.x
        parts = (
            plain,
            sloped,
            one * posterior.first * plain,
            posterior.first * sloped,
            two * posterior.second * sloped,
        )
        score = np.stack(parts, axis=-1)
        weights = posterior.weights
        score = score - np.einsum("unp,un->up", score, weights)[:, None]
        log_right, log_wrong = counts.link.log_chances(posterior.eta)
        moved: Floats = np.einsum("unp,und,un->udp", score, log_right - log_wrong, weights, optimize=True)
        return moved

    def _information(self) -> Floats:
        """Return minus the Hessian of the log-likelihood, from differences of its gradient."""
        hessian = np.empty((5, 5))
        for n in range(5):
            step = 1e-4 * max(1.0, abs(self.parameters[n]))
            ends = []
            for sign in (1, -1):
                moved = self.parameters.copy()
                moved[n] += sign * step
                ends.append(gradient_of(moved, self.counts, integrate(moved, self.counts)))
            hessian[n] = (ends[0] - ends[1]) / (2 * step)
        return -hessian

    def variance(self, by_parameter: Floats) -> tuple[float, float]:
        """Return the variance of a quantity with such derivatives by the parameters, and its degrees of freedom."""
        units = len(self.by_unit)
        from_units = float(((self.by_unit @ by_parameter[self.free]) ** 2).sum()) * units / (units - 1)
        if "participant" not in self.clusters.names:
            return from_units, units - 1.0
        person = self.clusters.codes[self.clusters.names.index("participant")]
        people = int(person.max()) + 1
        influence = self.by_answer @ by_parameter[self.free]
        sums = np.bincount(person, weights=influence)
        from_people = max(float((sums**2).sum()) * people / (people - 1) - float((influence**2).sum()), 0.0)
        total, first, second = (np.array([value]) for value in (from_units + from_people, from_units, from_people))
        freedom = satterthwaite(total, first, np.array([units - 1.0]), second, np.array([people - 1.0]))
        return float(total[0]), float(freedom[0])

    def method(self, freedom: float) -> str:
        """Return the method of an interval."""
        return (
            f"maximum likelihood with units as random; units (sandwich) and participants (influence) added "
            f"({self.clusters.words}), Student's t on {freedom:.1f} degrees of freedom"
        )

    def slope(self) -> Estimate:
        """Return the mean slope."""
        variance, freedom = self.variance(np.eye(5)[1])
        half = critical_value(self.level, freedom) * math.sqrt(variance)
        value = float(self.parameters[1])
        return Estimate(
            value, value - half, value + half, self.method(freedom), self.clusters.smallest,
            "log odds per SD of distance", self.clusters.estimand, self.level,
        )  # fmt: skip

    def _derivatives(self, x: Floats) -> Floats:
        """Return the derivatives of the mean curve by the parameters, shape (points, 5)."""
        columns = []
        for n in range(5):
            up, down = self.parameters.copy(), self.parameters.copy()
            up[n] += 1e-5
            down[n] -= 1e-5
            lapse = self.counts.lapse
            columns.append((mean_chance(up, x, lapse) - mean_chance(down, x, lapse)) / 2e-5)
        return np.column_stack(columns)

    def band(self, x: Floats) -> tuple[Floats, Floats, float]:
        """Return the pointwise band of the mean curve, and its smallest degrees of freedom.

        It is made on the logistic scale between the guess rate and the ceiling, so that it stays between them.
        """
        gain = 1 - GUESS - self.counts.lapse
        value = np.clip((mean_chance(self.parameters, x, self.counts.lapse) - GUESS) / gain, 1e-9, 1 - 1e-9)
        derivatives = self._derivatives(x) / gain / (value * (1 - value))[:, None]
        halves, freedoms = np.empty(len(x)), np.empty(len(x))
        for n, row in enumerate(derivatives):
            variance, freedoms[n] = self.variance(row)
            halves[n] = t.ppf((1 + self.level) / 2, freedoms[n]) * math.sqrt(variance)
        middle = np.log(value / (1 - value))
        exact = GUESS + gain * value
        low = np.minimum(GUESS + gain * expit(middle - halves), exact)
        high = np.maximum(GUESS + gain * expit(middle + halves), exact)
        return low, high, float(freedoms.min())

    def threshold(self, centre: float, distance: Floats) -> tuple[Estimate | None, str]:
        """Return the quantile at which the mean curve crosses the threshold, or why it does not."""

        def excess(x: float) -> float:
            chance = mean_chance(self.parameters, np.array([x - centre]), self.counts.lapse)
            return float(chance[0]) - THRESHOLD

        near, far = float(distance.min()), float(distance.max())
        if excess(near) * excess(far) > 0:
            side = "above" if excess(near) > 0 else "below"
            return None, f"it stays {side} {THRESHOLD:.2f} at all tested quantiles"
        x = float(brentq(excess, near, far, xtol=1e-10))
        place = np.array([x - centre])
        rise = (excess(x + 1e-5) - excess(x - 1e-5)) / 2e-5
        variance, freedom = self.variance(self._derivatives(place)[0] / -rise)
        half = critical_value(self.level, freedom) * math.sqrt(variance)
        value, low, high = float(ndtr(-x)), float(ndtr(-x - half)), min(float(ndtr(-x + half)), 0.5)
        method = f"{self.method(freedom)}, delta method on the scale of the distance"
        estimate = Estimate(
            value, min(low, value), max(high, value), method, max(self.clusters.smallest, 1), "quantile",
            self.clusters.estimand, self.level,
        )  # fmt: skip
        return estimate, ""

    def spread(self, which: int, unit: str) -> Estimate:
        """Return a standard deviation between units, with its likelihood-ratio interval, other parameters held.

        Slopes' spread is the length of its row of the Cholesky factor; the interval scales the row.
        """
        one, cross, two = cholesky_factor(self.parameters)
        value = one if which == 2 else math.hypot(cross, two)
        method = "maximum likelihood (adaptive quadrature); likelihood-ratio interval, other parameters held"
        limit = self.posterior.log_likelihood - float(chi2.ppf(self.level, 1)) / 2

        def excess(log_scale: float) -> float:
            moved = self.parameters.copy()
            moved[which] += log_scale
            if which == 4:
                moved[3] *= math.exp(log_scale)
            return integrate(moved, self.counts).log_likelihood - limit

        bottom, top = math.log(1e-3 / value), math.log(20.0 / value)
        low = 0.0 if bottom >= 0 or excess(bottom) >= 0 else value * math.exp(brentq(excess, bottom, 0.0, xtol=1e-4))
        high = math.inf if top <= 0 or excess(top) >= 0 else value * math.exp(brentq(excess, 0.0, top, xtol=1e-4))
        units = len(self.counts.answers)
        value = 0.0 if value <= 2e-3 else value
        estimand = spell_estimand("new units")
        return Estimate(value, min(low, value), high, method, units, unit, estimand, self.level)

    def units(self, names: NDArray[np.str_], present: Sequence[str]) -> pd.DataFrame:
        """Return each unit's posterior means."""
        _, cross, two = cholesky_factor(self.parameters)
        weights = self.posterior.weights
        slope = self.parameters[1] + (weights * (cross * self.posterior.first + two * self.posterior.second)).sum(
            axis=1
        )
        chance = GUESS + (1 - GUESS - self.counts.lapse) * expit(self.posterior.eta)
        means = np.einsum("und,un->ud", chance, weights)
        columns = {"unit": names, "answers": self.counts.answers.sum(axis=1).astype(np.int64), "slope": slope}
        return pd.DataFrame({**columns, **{difficulty: means[:, n] for n, difficulty in enumerate(present)}})
