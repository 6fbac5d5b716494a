"""Type-2 AUROC: whether right answers were given with more confidence than wrong ones of the same person."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.errors import AnalysisError


def type2_auroc(correct: ArrayLike, confidence: ArrayLike, participant: ArrayLike) -> float:
    """Return the chance that a right answer was given with more confidence than a wrong one of the same person.

    Parameters
    ----------
    correct, confidence, participant
        Shape (answers,): 1 or 0, a level of confidence, and who answered.

    Raises
    ------
    AnalysisError
        If nobody gave both right and wrong answers.
    """
    right = np.asarray(correct, dtype=np.float64) == 1
    levels, level = np.unique(np.asarray(confidence, dtype=np.float64), return_inverse=True)
    people, person = np.unique(np.asarray(participant).astype(str), return_inverse=True)
    counts = np.zeros((len(people), 2, len(levels)))
    np.add.at(counts, (person, right.astype(int), level), 1.0)
    above, pairs = concordance(counts)
    if not pairs.sum():
        raise AnalysisError(
            "Type-2 AUROC compares right with wrong answers of the same person, and nobody here gave both."
        )
    return float(above.sum() / pairs.sum())


def concordance(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for counts of shape (..., wrong and right, levels), the pairs that agree (ties half) and all pairs."""
    wrong, right = counts[..., 0, :], counts[..., 1, :]
    below = np.cumsum(wrong, axis=-1) - wrong
    return (right * (below + wrong / 2)).sum(axis=-1), right.sum(axis=-1) * wrong.sum(axis=-1)
