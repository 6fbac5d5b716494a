"""The hierarchical model of detection: participants' d' and criterion, drawn from normal distributions.

The integral over them is that of ``analysis.psychophysics.quadrature``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import ndtri
from scipy.stats import chi2

from analysis.arrays import Floats
from analysis.estimands import spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.mixed_model.links import Link
from analysis.psychophysics.detection_rates import ROOT_TWO, corrected_rates
from analysis.psychophysics.quadrature import Posterior, integrate
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate

SIGNS = np.array([1.0, -1.0]) / ROOT_TWO
"""What d' adds to z(hits) and z(false alarms)."""

_LEAST_SPREAD, _MOST_SPREAD = 1e-3, 4.0
"""Standard deviations between participants that are looked for, in units of d'; below the least, they are 0."""


@dataclass(frozen=True)
class Hierarchy:
    """The hierarchical fit: means and spreads of participants' d' and criterion, and each one's posterior means."""

    d_prime: Estimate
    criterion: Estimate
    spread_d_prime: Estimate
    spread_criterion: Estimate
    shrunk_d_prime: NDArray[np.float64]
    shrunk_criterion: NDArray[np.float64]
    log_likelihood: float


def fit_hierarchy(counts: pd.DataFrame, level: float = LEVEL) -> Hierarchy:
    """Fit normal distributions of d' and criterion over participants, by maximum likelihood.

    Parameters
    ----------
    counts
        One row a participant, as ``count_choices`` makes them.
    level
        Coverage of the intervals of the means (observed information; Student's t with participants - 1 degrees of
        freedom, since the spreads are estimated from so many).

    Raises
    ------
    AnalysisError
        If there are fewer than three participants.
    """
    people = len(counts)
    if people < 3:
        raise AnalysisError(
            f"A hierarchical fit of d' needs three participants, not {people}: a spread can't be told from "
            f"{'two' if people == 2 else 'one'}. Use the pooled estimate."
        )
    trials = counts[["upper_trials", "lower_trials"]].to_numpy(np.float64)
    chosen = counts[["hits", "false_alarms"]].to_numpy(np.float64)

    def posterior_at(parameters: Floats) -> Posterior:
        """Integrate over participants: cells are hits and false alarms, effects are d' and criterion."""
        mean, spread = parameters[:2], np.exp(parameters[2:])
        return integrate(
            mean[0] * SIGNS - mean[1], spread[0] * SIGNS, np.full(2, -spread[1]), trials, chosen, Link("probit", 0.0)
        )

    def negative(parameters: Floats) -> float:
        return -posterior_at(parameters).log_likelihood

    def with_gradient(parameters: Floats) -> tuple[float, Floats]:
        # By Fisher's identity, the gradient is the posterior mean of that of the participants' distribution.
        found, spread = posterior_at(parameters), np.exp(parameters[2:])
        gradient = np.empty(4)
        for n, away in enumerate((found.first, found.second)):
            gradient[n] = (found.weights * away).sum() / spread[n]
            gradient[2 + n] = (found.weights * (away**2 - 1)).sum()
        return -found.log_likelihood, -gradient

    hits, alarms = corrected_rates(counts)
    own_d, own_c = (ndtri(hits) - ndtri(alarms)) / ROOT_TWO, -(ndtri(hits) + ndtri(alarms)) / 2
    begin = np.array([np.median(own_d), np.median(own_c), math.log(0.3), math.log(0.3)])
    spreads = (math.log(_LEAST_SPREAD), math.log(_MOST_SPREAD))
    bounds = [(-8.0, 8.0), (-8.0, 8.0), spreads, spreads]
    fitted = minimize(with_gradient, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300})
    mean, spread = fitted.x[:2], np.exp(fitted.x[2:])
    found = posterior_at(fitted.x)
    errors = _standard_errors(negative, fitted.x)
    half = critical_value(level, people - 1) * errors
    method = (
        f"hierarchical maximum likelihood over {people:,} participants (Gauss-Hermite quadrature), observed "
        f"information, Student's t with {people - 1} degrees of freedom"
    )
    estimand = spell_estimand("new people")
    means = [
        Estimate(
            float(mean[n]), float(mean[n] - half[n]), float(mean[n] + half[n]), method, people, unit, estimand, level
        )
        for n, unit in enumerate(("d'", "criterion"))
    ]
    return Hierarchy(
        d_prime=means[0],
        criterion=means[1],
        spread_d_prime=_spread(negative, fitted.x, 2, "standard deviation of d'", people, estimand, level),
        spread_criterion=_spread(negative, fitted.x, 3, "standard deviation of the criterion", people, estimand, level),
        shrunk_d_prime=mean[0] + spread[0] * (found.weights * found.first).sum(axis=1),
        shrunk_criterion=mean[1] + spread[1] * (found.weights * found.second).sum(axis=1),
        log_likelihood=-float(fitted.fun),
    )


def _spread(
    negative: Callable[[NDArray[np.float64]], float],
    place: NDArray[np.float64],
    which: int,
    unit: str,
    people: int,
    estimand: str,
    level: float,
) -> Estimate:
    """Return a standard deviation; in its interval, twice the log-likelihood falls by at most chi-square's quantile."""
    limit = -negative(place) - chi2.ppf(level, 1) / 2
    bottom, top = math.log(_LEAST_SPREAD), math.log(_MOST_SPREAD)

    def excess(value: float) -> float:
        moved = place.copy()
        moved[which] = value
        return float(-negative(moved) - limit)

    best = float(place[which])
    low = 0.0 if excess(bottom) >= 0 else math.exp(brentq(excess, bottom, best, xtol=1e-4))
    high = math.inf if excess(top) >= 0 else math.exp(brentq(excess, best, top, xtol=1e-4))
    value = 0.0 if best <= bottom + 0.5 else math.exp(best)
    method = "maximum likelihood (Gauss-Hermite quadrature); likelihood-ratio interval, other parameters held"
    return Estimate(value, min(low, value), high, method, people, unit, estimand, level)


def _standard_errors(
    negative: Callable[[NDArray[np.float64]], float], place: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the standard errors of the first two parameters from the observed information, spreads held fixed.

    Means and log spreads are nearly orthogonal; a spread at its lower bound has no curvature to invert.
    """
    step = 1e-3
    hessian = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            total = 0.0
            for si in (1, -1):
                for sj in (1, -1):
                    moved = place.copy()
                    moved[i] += si * step
                    moved[j] += sj * step
                    total += si * sj * negative(moved)
            hessian[i, j] = total / (4 * step**2)
    return np.sqrt(np.diag(np.linalg.inv(hessian)))
