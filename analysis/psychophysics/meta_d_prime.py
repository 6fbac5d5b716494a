"""meta-d': the d' that an observer with perfect access to their own evidence would need to produce this confidence.

Maniscalco & Lau (2012), Consciousness and Cognition 21; fitted by maximum likelihood to tables of counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri

from analysis.psychophysics.detection_rates import ROOT_TWO
from benchmark.errors import AnalysisError

CONFIDENCES = (1, 2, 3)
"""Levels of confidence that the task offers."""

LEAST_D_PRIME = 0.05
"""Below this d' there is next to nothing to be confident about, and M-ratio divides by nothing."""


@dataclass(frozen=True)
class MetaFit:
    """Maximum-likelihood fits of meta-d', one for each table of counts.

    Attributes
    ----------
    d_prime, criterion
        Shape (tables,): d' on the scale of two-alternative forced choice, and the criterion.
    meta_d_prime
        Shape (tables,): meta-d', on the same scale.
    log_likelihood
        Shape (tables,): of confidence given stimulus and side, without the multinomial coefficients.
    usable
        Shape (tables,): whether d' is large enough for a fit, and the fit has converged.
    """

    d_prime: NDArray[np.float64]
    criterion: NDArray[np.float64]
    meta_d_prime: NDArray[np.float64]
    log_likelihood: NDArray[np.float64]
    usable: NDArray[np.bool_]


def count_confidence(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return counts of judgements, shape (2, 2, 3): maximal query below or on top, lower or upper chosen, level."""
    counts = np.zeros((2, 2, len(CONFIDENCES)))
    np.add.at(counts, confidence_cells(table), 1.0)
    return counts


def confidence_cells(table: pd.DataFrame) -> tuple[NDArray[np.int64], ...]:
    """Return where each answer is counted: stimulus, response and confidence, shape (answers,) each."""
    return (
        table["max_on_top"].to_numpy(np.int64),
        table["upper"].to_numpy(np.int64),
        table["confidence"].to_numpy(np.int64) - 1,
    )


def fit_meta_d_prime(counts: NDArray[np.float64], iterations: int = 100) -> MetaFit:
    """Fit meta-d' to tables of counts.

    Parameters
    ----------
    counts
        Shape (..., 2, 2, K): stimulus (maximal query below, on top), response (lower, upper), and confidence, of K
        levels from unsure to sure. 1 / (2 K) is added everywhere, which makes the log-linear correction of the rates
        (Hautus, 1995) and keeps every criterion finite.
    iterations
        Most steps of Fisher's scoring; each is damped until the likelihood rises.

    Returns
    -------
    The fits, with the leading shape of the counts.

    Raises
    ------
    AnalysisError
        If there are fewer than two levels of confidence, or a stimulus was never shown.
    """
    shape, levels = counts.shape[:-3], counts.shape[-1]
    if levels < 2:
        raise AnalysisError("meta-d' needs at least two levels of confidence.")
    flat = np.asarray(counts, dtype=np.float64).reshape(-1, 2, 2, levels)
    if (flat.sum(axis=(2, 3)) == 0).any():
        raise AnalysisError("meta-d' needs trials with the maximal query on top and trials with it below.")
    flat = flat + 1 / (2 * levels)
    chosen = flat.sum(axis=-1)
    upper = ndtri(chosen[..., 1] / chosen.sum(axis=-1))  # (tables, stimulus): z of choosing the upper query
    distance, criterion = upper[:, 1] - upper[:, 0], -upper.sum(axis=1) / 2
    usable = distance / ROOT_TWO > LEAST_D_PRIME
    relative = np.where(usable, criterion / np.where(usable, distance, 1.0), 0.0)
    # Distance, in multiples of m, from the mean of a stimulus to the criterion, in the direction of the response.
    base = np.empty((len(flat), 2, 2))
    base[:, 0, 1], base[:, 1, 1] = relative + 0.5, relative - 0.5
    base[:, 0, 0], base[:, 1, 0] = -relative - 0.5, 0.5 - relative
    place = _begin(flat, base, distance)
    value, gradient, information = _evaluate(place, flat, base)
    damping = np.full(len(flat), 1e-3)
    done = ~usable
    size = place.shape[1]
    for _ in range(iterations):
        if done.all():
            break
        diagonal = np.einsum("bii->bi", information)
        damped = information + (damping[:, None] * diagonal + 1e-12)[:, None, :] * np.eye(size)
        step = np.clip(np.linalg.solve(damped, gradient[..., None])[..., 0], -1.0, 1.0)
        step[done] = 0.0
        tried = _evaluate(place + step, flat, base)
        better = tried[0] >= value - 1e-12
        still = np.abs(step).max(axis=1) < 1e-9
        place = np.where(better[:, None], place + step, place)
        value = np.where(better, tried[0], value)
        gradient = np.where(better[:, None], tried[1], gradient)
        information = np.where(better[:, None, None], tried[2], information)
        damping = np.clip(np.where(better, damping / 5, damping * 10), 1e-12, 1e8)
        done |= still
    return MetaFit(
        d_prime=(distance / ROOT_TWO).reshape(shape),
        criterion=criterion.reshape(shape),
        meta_d_prime=(place[:, 0] / ROOT_TWO).reshape(shape),
        log_likelihood=value.reshape(shape),
        usable=(usable & done).reshape(shape),
    )


def _begin(
    counts: NDArray[np.float64], base: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where the search begins: m at d', and criteria that fit the confidence of right answers."""
    levels = counts.shape[-1]
    increments = np.empty((len(counts), 2, levels - 1))
    for side in range(2):
        shares = counts[:, side, side, ::-1].cumsum(axis=-1)[:, ::-1]
        shares = shares / shares[:, :1]
        start = distance * base[:, side, side]
        places = -ndtri(np.exp(np.log(shares) + log_ndtr(-start)[:, None]))
        increments[:, side] = np.diff(places, axis=-1)
    return np.column_stack([distance, np.log(np.maximum(increments, 1e-3)).reshape(len(counts), -1)])


def _evaluate(
    place: NDArray[np.float64], counts: NDArray[np.float64], base: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return log-likelihood, its gradient and Fisher's information, for each table.

    ``place`` holds m and, for each side, logs of the distances from each criterion to the next.
    """
    tables, levels = len(place), counts.shape[-1]
    steps = np.exp(place[:, 1:]).reshape(tables, 2, levels - 1)
    offset = np.concatenate([np.zeros((tables, 2, 1)), np.cumsum(steps, axis=-1)], axis=-1)
    x = (place[:, 0, None, None] * base)[..., None] + offset[:, None]
    tail = log_ndtr(-x)
    ratio = np.exp(tail - tail[..., :1])  # chance of at least this confidence, given stimulus and side
    hazard = np.exp(-0.5 * x**2 - 0.5 * math.log(2 * math.pi) - tail)
    slope = np.zeros((*x.shape, place.shape[1]))
    slope[..., 0] = ratio * base[..., None] * (hazard[..., :1] - hazard)
    for side in range(2):
        for j in range(levels - 1):
            column = 1 + side * (levels - 1) + j
            inner = -(ratio * hazard)[:, :, side, j + 1 :] * steps[:, side, j, None, None]
            slope[:, :, side, j + 1 :, column] = inner
    chance = np.maximum(ratio - np.concatenate([ratio[..., 1:], np.zeros((*x.shape[:-1], 1))], axis=-1), 1e-300)
    slope = slope - np.concatenate([slope[..., 1:, :], np.zeros((*x.shape[:-1], 1, place.shape[1]))], axis=-2)
    value = (counts * np.log(chance)).sum(axis=(1, 2, 3))
    gradient = np.einsum("bsrk,bsrkp->bp", counts / chance, slope)
    expected = counts.sum(axis=-1, keepdims=True) / chance
    information = np.einsum("bsrk,bsrkp,bsrkq->bpq", expected, slope, slope, optimize=True)
    return value, gradient, information
