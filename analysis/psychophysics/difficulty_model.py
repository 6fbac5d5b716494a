"""The model of the difficulty curve: its likelihood, with units integrated out, and its fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from analysis.arrays import Floats
from analysis.mixed_model.links import Link
from analysis.psychophysics import quadrature
from analysis.psychophysics.quadrature import Posterior
from benchmark.errors import AnalysisError

GUESS = 0.5

LEAST_LOG_SPREAD, MOST_LOG_SPREAD = math.log(1e-3), math.log(20.0)


@dataclass(frozen=True)
class Counts:
    """Answers and right ones of each unit at each difficulty, and what the difficulties are."""

    answers: Floats
    right: Floats
    x: Floats
    lapse: float

    @property
    def link(self) -> Link:
        """From places to chances."""
        return Link("logit", GUESS, self.lapse)


def cholesky_factor(parameters: Floats) -> tuple[float, float, float]:
    """Return the Cholesky factor of the covariance of intercepts and slopes."""
    return math.exp(parameters[2]), float(parameters[3]), math.exp(parameters[4])


def integrate(parameters: Floats, counts: Counts) -> Posterior:
    """Integrate over units."""
    one, cross, two = cholesky_factor(parameters)
    base = parameters[0] + parameters[1] * counts.x
    return quadrature.integrate(base, one + cross * counts.x, two * counts.x, counts.answers, counts.right, counts.link)


def answer_scores(parameters: Floats, counts: Counts, posterior: Posterior) -> tuple[Floats, Floats]:
    """Return the score of a right and of a wrong answer about each unit at each difficulty, shape (units, d, 5)."""
    one, _, two = cholesky_factor(parameters)
    scores = []
    for by_eta in counts.link.scores(posterior.eta):
        weighted = by_eta * posterior.weights[..., None]
        plain = weighted.sum(axis=1)
        on_first = np.einsum("und,un->ud", weighted, posterior.first)
        on_second = np.einsum("und,un->ud", weighted, posterior.second)
        parts = (plain, plain * counts.x, one * on_first, on_first * counts.x, two * on_second * counts.x)
        scores.append(np.stack(parts, axis=-1))
    return scores[0], scores[1]


def gradient_of(parameters: Floats, counts: Counts, posterior: Posterior) -> Floats:
    """Return the gradient of the log-likelihood by the parameters."""
    right, wrong = answer_scores(parameters, counts, posterior)
    total: Floats = np.einsum("ud,udp->p", counts.right, right) + np.einsum(
        "ud,udp->p", counts.answers - counts.right, wrong
    )
    return total


def fit_parameters(counts: Counts) -> tuple[Floats, float]:
    """Return the parameters that make the answers likeliest, and their log-likelihood."""

    def negative(parameters: Floats) -> tuple[float, Floats]:
        posterior = integrate(parameters, counts)
        return -posterior.log_likelihood, -gradient_of(parameters, counts, posterior)

    share = counts.right.sum() / counts.answers.sum()
    rescaled = float(np.clip((share - GUESS) / (1 - GUESS - counts.lapse), 0.05, 0.95))
    begin = np.array([math.log(rescaled / (1 - rescaled)), 0.5, math.log(0.8), 0.0, math.log(0.3)])
    spread = (LEAST_LOG_SPREAD, MOST_LOG_SPREAD)
    bounds = [(-30.0, 30.0), (-30.0, 30.0), spread, (-20.0, 20.0), spread]
    fitted = minimize(negative, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    if not np.isfinite(fitted.fun):
        raise AnalysisError("The difficulty curve could not be fitted: its likelihood is not finite.")
    return fitted.x, -float(fitted.fun)


def mean_chance(parameters: Floats, x: Floats, lapse: float) -> Floats:
    """Return the mean over units of the chance of a right answer, at each x (centred as in the fit)."""
    one, cross, two = cholesky_factor(parameters)
    spread = np.sqrt((one + cross * x) ** 2 + (two * x) ** 2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    eta = (parameters[0] + parameters[1] * x)[:, None] + spread[:, None] * nodes
    chance: Floats = GUESS + (1 - GUESS - lapse) * (expit(eta) @ weights) / math.sqrt(2 * math.pi)
    return chance
