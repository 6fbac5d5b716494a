"""Models with two random effects a group, integrated by adaptive Gauss-Hermite quadrature.

A group (a unit, or a participant) answers in several cells. On the scale of the link its place in a cell is
``base + u1 * on_first + u2 * on_second``, with ``u1`` and ``u2`` standard normal. Detection has participants as groups
and d' and criterion as effects; the difficulty curve has units as groups, and their heights and slopes.
``analysis.mixed_model`` fits the same likelihood with any number of crossed effects, where no quadrature is possible.

Reference: Pinheiro & Bates (1995), Approximations to the log-likelihood function in the nonlinear mixed-effects model,
J. Comput. Graph. Stat. 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from analysis.arrays import Floats
from analysis.mixed_model.links import Link

NODES = 9
"""Nodes along each of the two dimensions, placed around each group's posterior."""


@dataclass(frozen=True)
class Posterior:
    """What each group may be.

    Attributes
    ----------
    log_likelihood
        Of all answers, without binomial coefficients.
    first, second
        Shape (groups, nodes): ``u1`` and ``u2``.
    weights
        Shape (groups, nodes): the posterior probability of each node.
    eta
        Shape (groups, nodes, cells): places on the scale of the link.
    """

    log_likelihood: float
    first: Floats
    second: Floats
    weights: Floats
    eta: Floats


def integrate(
    base: Floats, on_first: Floats, on_second: Floats, answers: Floats, right: Floats, link: Link
) -> Posterior:
    """Integrate over both effects of every group.

    Parameters
    ----------
    base, on_first, on_second
        Shape (cells,): the place of a mean group, and what the effects add for each standard deviation.
    answers, right
        Shape (groups, cells): binomial counts.
    link
        From places to chances.
    """
    wrong = answers - right
    mode = np.zeros((len(answers), 2))
    for _ in range(25):
        eta = base + mode[:, :1] * on_first + mode[:, 1:] * on_second
        if_right, if_wrong = link.scores(eta)
        slope = right * if_right + wrong * if_wrong
        curve = -answers * if_right * if_wrong  # Fisher's information on eta
        gradient = np.column_stack([slope @ on_first, slope @ on_second]) - mode
        a, b, c = 1 + curve @ on_first**2, curve @ (on_first * on_second), 1 + curve @ on_second**2
        determinant = a * c - b**2
        step = np.column_stack([c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]])
        step = np.clip(step / determinant[:, None], -1.0, 1.0)
        mode = mode + step
        if np.abs(step).max() < 1e-7:
            break
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    left, up = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    log_weight = np.log(np.outer(weights, weights).ravel() / (2 * math.pi))
    # Nodes lie at mode + S n, S S' being the inverse of the information.
    s11 = np.sqrt(c / determinant)
    s21 = -b / determinant / s11
    s22 = np.sqrt(np.maximum(a / determinant - s21**2, 1e-300))
    first = mode[:, :1] + s11[:, None] * left
    second = mode[:, 1:] + s21[:, None] * left + s22[:, None] * up
    eta = base + first[..., None] * on_first + second[..., None] * on_second
    log_right, log_wrong = link.log_chances(eta)
    likelihood = np.einsum("gnc,gc->gn", log_right, right) + np.einsum("gnc,gc->gn", log_wrong, wrong)
    terms = likelihood - 0.5 * (first**2 + second**2) + 0.5 * (left**2 + up**2) + log_weight
    terms = terms + (np.log(s11) + np.log(s22))[:, None]
    total = logsumexp(terms, axis=1, keepdims=True)
    return Posterior(float(total.sum()), first, second, np.exp(terms - total), eta)
