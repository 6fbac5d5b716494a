"""Permutation tests of a slope and of Spearman's rank correlation: exact up to ten models, else by chance.

Under the hypothesis that the means of models have nothing to do with the predictor, every assignment of means to
models was equally likely. The p-value is the share of assignments whose coefficient is at least as far from zero as
the observed one; the observed assignment is one of them. Equal values are no trouble: assignments are counted, not
values. Reference: Fisher (1935), The design of experiments; Pitman (1937), Significance tests which may be applied to
samples from any populations, II.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

MOST_EXACT = 10
"""Up to so many models all assignments are counted: 10! = 3,628,800."""

DRAWS = 99_999
_CHUNK = 8
_TOLERANCE = 1e-9
"""Two coefficients that differ by less, as a share of the largest possible, are equal but for rounding."""


@dataclass(frozen=True)
class PermutationTest:
    """A permutation test.

    Attributes
    ----------
    coefficient
        The observed slope, or Spearman's correlation.
    p
        Two-sided p-value.
    error
        Standard error of a p-value that was drawn by chance; 0 for an exact one.
    method
        How it was made, in words that a paper could print.
    """

    coefficient: float
    p: float
    error: float
    method: str


def permute_slope(x: NDArray[np.float64], y: NDArray[np.float64], *, seed: int = 0) -> PermutationTest:
    """Test a slope by permuting the means over the models.

    Parameters
    ----------
    x, y
        Shape (models,): predictor and means; neither constant.
    seed
        Of the assignments that are drawn where there are too many to count.
    """
    x, y = _sort(x, y)
    centred = x - x.mean()
    p, error, method = _permute(x, y, seed)
    return PermutationTest(float(centred @ y / (centred @ centred)), p, error, method)


def permute_spearman(x: NDArray[np.float64], y: NDArray[np.float64], *, seed: int = 0) -> PermutationTest:
    """Test Spearman's rank correlation, with mean ranks for equal values; arguments as for :func:`permute_slope`."""
    ranks = _sort(rankdata(x), rankdata(y))
    a, b = (rank - rank.mean() for rank in ranks)
    p, error, method = _permute(*ranks, seed)
    return PermutationTest(float(a @ b / np.sqrt((a @ a) * (b @ b))), p, error, method)


def _sort(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Put points into the order of their values: draws then depend on neither the order of rows nor on names."""
    order = np.lexsort((y, x))
    return x[order], y[order]


def _permute(x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> tuple[float, float, str]:
    """Return p-value, its error and the method; all statistics are increasing in the sum of products."""
    a, b = x - x.mean(), y - y.mean()
    largest = float(np.sort(np.abs(a)) @ np.sort(np.abs(b)))
    observed = abs(float(a @ b)) - _TOLERANCE * largest
    if len(a) <= MOST_EXACT:
        count = sum(int((np.abs(sums) >= observed).sum()) for sums in _all_sums(a, b))
        total = factorial(len(a))
        return count / total, 0.0, f"exact permutation test, all {total:,} assignments"
    rng = np.random.default_rng(seed)
    count = 0
    for start in range(0, DRAWS, 10_000):
        shuffled = rng.permuted(np.tile(b, (min(10_000, DRAWS - start), 1)), axis=1)
        count += int((np.abs(shuffled @ a) >= observed).sum())
    p = (count + 1) / (DRAWS + 1)
    error = float(np.sqrt(p * (1 - p) / DRAWS))
    return p, error, f"permutation test, {DRAWS:,} random assignments (seed {seed}, standard error {error:.4f})"


def _all_sums(a: NDArray[np.float64], b: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Iterate over the sums of products under all assignments, in chunks of at most 8!."""
    inner = min(len(a), _CHUNK)
    table = _orders(inner)
    head, tail = a[: len(a) - inner], a[len(a) - inner :]
    for chosen in permutations(range(len(b)), len(head)):
        rest = np.delete(b, chosen)
        yield rest[table] @ tail + float(b[list(chosen)] @ head)


@cache
def _orders(length: int) -> NDArray[np.intp]:
    """Return all orders of so many things, shape (length!, length)."""
    return np.array(list(permutations(range(length))), dtype=np.intp).reshape(-1, length)
