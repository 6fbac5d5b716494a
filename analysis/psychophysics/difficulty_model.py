"""The model of the difficulty curve: its likelihood, with units integrated out, and its fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp

from analysis.arrays import Floats
from benchmark.errors import AnalysisError

GUESS = 0.5

NODES = 9
"""Nodes of the quadrature along each of its two dimensions, placed around each unit's posterior."""

LEAST_LOG_SPREAD, MOST_LOG_SPREAD = math.log(1e-3), math.log(20.0)


@dataclass(frozen=True)
class Counts:
    """Answers and right ones of each unit at each difficulty, and what the difficulties are."""

    answers: Floats
    right: Floats
    x: Floats
    lapse: float


@dataclass(frozen=True)
class Posterior:
    """What each unit may be: nodes in units of the standard normal, shape (units, nodes), and their weights."""

    log_likelihood: float
    first: Floats
    second: Floats
    weights: Floats
    eta: Floats


def cholesky_factor(parameters: Floats) -> tuple[float, float, float]:
    """Return the Cholesky factor of the covariance of intercepts and slopes."""
    return math.exp(parameters[2]), float(parameters[3]), math.exp(parameters[4])


def log_chances(eta: Floats, lapse: float) -> tuple[Floats, Floats]:
    """Return the logs of the chances of a right and a wrong answer."""
    gain = 1 - GUESS - lapse
    right = np.log(GUESS + gain * expit(eta))
    # 1 - guess - gain F = gain (1 - F) + lapse
    wrong = (
        np.logaddexp(math.log(gain) + log_expit(-eta), math.log(lapse)) if lapse else math.log(gain) + log_expit(-eta)
    )
    return right, wrong


def answer_score(eta: Floats, lapse: float) -> tuple[Floats, Floats]:
    """Return the derivative by eta of the logs of the chances of a right and a wrong answer."""
    gain = 1 - GUESS - lapse
    up, down = expit(eta), expit(-eta)
    if_right = gain * up * down / (GUESS + gain * up)
    # Without lapses, gain F (1 - F) / (gain (1 - F)) is F, also where 1 - F is too small a number to divide by.
    if_wrong = -up if lapse == 0 else -gain * up * down / (gain * down + lapse)
    return if_right, if_wrong


def integrate(parameters: Floats, counts: Counts) -> Posterior:
    """Integrate over units by adaptive Gauss-Hermite quadrature."""
    one, cross, two = cholesky_factor(parameters)
    base = parameters[0] + parameters[1] * counts.x
    on_first, on_second = one + cross * counts.x, two * counts.x
    wrong = counts.answers - counts.right
    mode = np.zeros((len(counts.answers), 2))
    for _ in range(25):
        eta = base + mode[:, :1] * on_first + mode[:, 1:] * on_second
        if_right, if_wrong = answer_score(eta, counts.lapse)
        slope = counts.right * if_right + wrong * if_wrong
        curve = -counts.answers * if_right * if_wrong  # Fisher's information on eta
        gradient = np.column_stack([slope @ on_first, slope @ on_second]) - mode
        a, b, c = 1 + curve @ on_first**2, curve @ (on_first * on_second), 1 + curve @ on_second**2
        determinant = a * c - b**2
        step = np.column_stack([c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]])
        step = np.clip(step / determinant[:, None], -1.0, 1.0)
        mode = mode + step
        if np.abs(step).max() < 1e-7:
            break
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    left, right = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    log_weight = np.log(np.outer(weights, weights).ravel() / (2 * math.pi))
    # Nodes lie at mode + S n, S S' being the inverse of the information.
    s11 = np.sqrt(c / determinant)
    s21 = -b / determinant / s11
    s22 = np.sqrt(np.maximum(a / determinant - s21**2, 1e-300))
    first = mode[:, :1] + s11[:, None] * left
    second = mode[:, 1:] + s21[:, None] * left + s22[:, None] * right
    eta = base + first[..., None] * on_first + second[..., None] * on_second
    log_right, log_wrong = log_chances(eta, counts.lapse)
    likelihood = np.einsum("und,ud->un", log_right, counts.right) + np.einsum("und,ud->un", log_wrong, wrong)
    terms = likelihood - 0.5 * (first**2 + second**2) + 0.5 * (left**2 + right**2) + log_weight
    terms = terms + (np.log(s11) + np.log(s22))[:, None]
    total = logsumexp(terms, axis=1, keepdims=True)
    return Posterior(float(total.sum()), first, second, np.exp(terms - total), eta)


def answer_scores(parameters: Floats, counts: Counts, posterior: Posterior) -> tuple[Floats, Floats]:
    """Return the score of a right and of a wrong answer about each unit at each difficulty, shape (units, d, 5)."""
    one, _, two = cholesky_factor(parameters)
    scores = []
    for by_eta in answer_score(posterior.eta, counts.lapse):
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
