"""The hierarchical model of detection: participants' d' and criterion, drawn from normal distributions.

The integral over them is done by adaptive Gauss-Hermite quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import log_ndtr, logsumexp, ndtri
from scipy.stats import chi2, t

from analysis.estimands import spell_estimand
from analysis.psychophysics.detection_rates import ROOT_TWO, corrected_rates
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate

NODES = 9
"""Nodes of the quadrature along each of its two dimensions, placed around each participant's posterior."""

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
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    first, second = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    log_weight = np.log(np.outer(weights, weights).ravel() / (2 * math.pi))

    def by_node(mean: NDArray[np.float64], spread: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        # The nodes sit around each participant's own posterior, found once from their corrected rates: with plain
        # nodes, a participant with many answers would fall between two of them.
        centre, width = _own_posterior(trials, chosen, mean, spread)
        d = centre[:, :1] + width[:, :1] * first
        c = centre[:, 1:] + width[:, 1:] * second
        prior = -0.5 * (((d - mean[0]) / spread[0]) ** 2 + ((c - mean[1]) / spread[1]) ** 2) - np.log(spread).sum()
        jacobian = np.log(width).sum(axis=1)[:, None] + 0.5 * (first**2 + second**2) + log_weight
        return d, c, _log_likelihood(trials, chosen, d, c) + prior + jacobian

    def negative(parameters: NDArray[np.float64]) -> float:
        terms = by_node(parameters[:2], np.exp(parameters[2:]))[2]
        return -float(logsumexp(terms, axis=1).sum())

    def with_gradient(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # By Fisher's identity, the gradient is the posterior mean of that of the participants' distribution.
        spread = np.exp(parameters[2:])
        d, c, terms = by_node(parameters[:2], spread)
        total = logsumexp(terms, axis=1, keepdims=True)
        posterior = np.exp(terms - total)
        gradient = np.empty(4)
        for n, value in enumerate((d, c)):
            away = (value - parameters[n]) / spread[n]
            gradient[n] = (posterior * away).sum() / spread[n]
            gradient[2 + n] = (posterior * (away**2 - 1)).sum()
        return -float(total.sum()), -gradient

    hits, alarms = corrected_rates(counts)
    own_d, own_c = (ndtri(hits) - ndtri(alarms)) / ROOT_TWO, -(ndtri(hits) + ndtri(alarms)) / 2
    begin = np.array([np.median(own_d), np.median(own_c), math.log(0.3), math.log(0.3)])
    spreads = (math.log(_LEAST_SPREAD), math.log(_MOST_SPREAD))
    bounds = [(-8.0, 8.0), (-8.0, 8.0), spreads, spreads]
    fitted = minimize(with_gradient, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300})
    mean, spread = fitted.x[:2], np.exp(fitted.x[2:])
    d, c, terms = by_node(mean, spread)
    posterior = np.exp(terms - logsumexp(terms, axis=1, keepdims=True))
    errors = _standard_errors(negative, fitted.x)
    half = float(t.ppf((1 + level) / 2, people - 1)) * errors
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
        shrunk_d_prime=(posterior * d).sum(axis=1),
        shrunk_criterion=(posterior * c).sum(axis=1),
        log_likelihood=-float(fitted.fun),
    )


def _log_likelihood(
    trials: NDArray[np.float64], chosen: NDArray[np.float64], d: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each participant's log-likelihood at each node, without the binomial coefficients."""
    hit, alarm = d / ROOT_TWO - c, -d / ROOT_TWO - c
    total = np.zeros(np.broadcast_shapes(d.shape, c.shape))
    for n, z in enumerate((hit, alarm)):
        yes, no = chosen[:, n, None], trials[:, n, None] - chosen[:, n, None]
        total += yes * log_ndtr(z) + no * log_ndtr(-z)
    return total


def _own_posterior(
    trials: NDArray[np.float64], chosen: NDArray[np.float64], mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mode and width of each participant's posterior of d' and criterion, by Newton's method.

    The log posterior is concave, and its gradient in z(hits) and z(false alarms) is that of a probit.
    """
    place = np.tile(mean, (len(trials), 1))
    sign = np.array([1.0, -1.0]) / ROOT_TWO
    information = np.tile(1 / spread**2, (len(trials), 1))
    for _ in range(12):
        z = place[:, :1] * sign - place[:, 1:]
        log_density = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        yes, no = np.exp(log_density - log_ndtr(z)), np.exp(log_density - log_ndtr(-z))
        missed = trials - chosen
        slope = chosen * yes - missed * no
        curve = chosen * yes * (z + yes) + missed * no * (no - z)
        gradient = np.column_stack([(slope * sign).sum(axis=1), -slope.sum(axis=1)]) - (place - mean) / spread**2
        a = (curve * sign**2).sum(axis=1) + 1 / spread[0] ** 2
        b = -(curve * sign).sum(axis=1)
        e = curve.sum(axis=1) + 1 / spread[1] ** 2
        determinant = a * e - b**2
        step = np.column_stack([e * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]])
        step /= determinant[:, None]
        place = place + np.clip(step, -2.0, 2.0)
        information = np.column_stack([a, e])
        if np.abs(step).max() < 1e-8:
            break
    return place, 1 / np.sqrt(information)


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
    value = 0.0 if best <= bottom + 1e-6 else math.exp(best)
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
