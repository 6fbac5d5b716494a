"""How steeply people's choices follow a machine's evidence: maximum likelihood, with and without lapses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from analysis.agreement.evidence import AnsweredTasks
from analysis.arrays import Floats

MOST_LAPSE = 0.5

STEEPEST = 1e4
"""Slope, per root mean square of the evidence, beyond which the machine counts as certain."""


def fit_slopes(tasks: AnsweredTasks, weights: Floats, begun: float = 0.0) -> Floats:
    """Return the maximum-likelihood slope for each row of unit weights; 0 or infinity on the boundaries.

    The score falls with the slope, so that Newton's steps, kept within a bracket that each of them narrows, find its
    root. Evidence is measured in its root mean square.
    """
    x = tasks.evidence / tasks.scale
    w = weights[:, tasks.unit]

    def score(slope: Floats) -> tuple[Floats, Floats]:
        rises = expit(slope[:, None] * x)
        first = (w * (tasks.right - tasks.answers * rises)) @ x
        second = (w * (tasks.answers * rises * (1 - rises))) @ x**2
        return first, second

    rows = len(weights)
    low, high = np.zeros(rows), np.full(rows, STEEPEST)
    flat = score(low)[0] <= 0
    certain = ~flat & (score(high)[0] >= 0)
    slope = np.full(rows, begun * tasks.scale if 0 < begun < math.inf else 1.0)
    for _ in range(100):
        first, second = score(slope)
        low, high = np.where(first > 0, slope, low), np.where(first > 0, high, slope)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = slope + first / second
        inside = (step >= low) & (step <= high)
        new = np.where(inside, step, (low + high) / 2)
        done = np.abs(new - slope) <= 1e-9 * (1 + slope)
        slope = new
        if (done | flat | certain).all():
            break
    return np.where(flat, 0.0, np.where(certain, np.inf, slope / tasks.scale))


def fit_with_lapse(
    tasks: AnsweredTasks, w: Floats, slope: float, lapse: float, warm: bool = False
) -> tuple[float, float]:
    """Return the maximum-likelihood slope and lapse rate; the slope is 0 or infinite on the boundaries."""
    x = tasks.evidence / tasks.scale
    n, s = w * tasks.answers, w * tasks.right
    total = n.sum()

    def objective(parameters: Floats) -> tuple[float, Floats]:
        rises = expit(parameters[0] * x)
        p = np.clip(parameters[1] / 2 + (1 - parameters[1]) * rises, 1e-12, 1 - 1e-12)
        residual = (s - n * p) / (p * (1 - p))
        gradient = np.array([residual @ ((1 - parameters[1]) * rises * (1 - rises) * x), residual @ (0.5 - rises)])
        return -float(s @ np.log(p) + (n - s) @ np.log1p(-p)) / total, -gradient / total

    # The likelihood may have two tops, one steep with lapses and one flat without: both are tried, unless a fit to
    # nearly the same data says where to begin.
    begun = min(max(slope * tasks.scale, 0.1), 50.0)
    fits = [
        minimize(
            objective, [factor * begun, start], jac=True, method="L-BFGS-B", bounds=[(0, STEEPEST), (0, MOST_LAPSE)]
        )
        for factor, start in ((1.0, max(lapse, 0.02)), (3.0, 0.2))[: 1 if warm else 2]
    ]
    best = min(fits, key=lambda fit: fit.fun)
    found = float(best.x[0])
    if found >= STEEPEST * (1 - 1e-9):
        return math.inf, float(best.x[1])
    return found / tasks.scale, float(best.x[1])


def fit_part(tasks: AnsweredTasks, units: NDArray[np.bool_], lapse: bool) -> tuple[float, float]:
    """Return slope and lapse rate of some units; the evidence keeps its scale."""
    slope = float(fit_slopes(tasks, units[None, :].astype(np.float64))[0])
    return fit_with_lapse(tasks, units[tasks.unit].astype(np.float64), slope, 0.0) if lapse else (slope, 0.0)


def chance_of_right(evidence: Floats, slope: float) -> Floats:
    """Return sigmoid(slope * evidence), also for an infinite slope."""
    if math.isinf(slope):
        return np.asarray(0.5 + 0.5 * np.sign(evidence))
    return np.asarray(expit(slope * evidence))
