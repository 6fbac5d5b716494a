"""Observers that mark the ends of the scale: one that guesses, one that knows, one that only knows labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark.observers.base import Observer, Presentation


class RandomObserver(Observer):
    """Knows nothing: every answer is a coin."""

    name = "random"

    def answer(self, trials: Presentation) -> NDArray[np.float64]:
        """Return one half for every trial; ties are broken by a seeded coin when answers are stored."""
        return np.full(len(trials), 0.5)


class OracleObserver(Observer):
    """Reads the unit's activations and chooses the query on the side of the maximal references.

    It compares activations along the direction from the minimal to the maximal references, so that it answers
    by the references it is shown: right on every honest natural trial, at chance where they are shuffled.
    """

    name = "oracle"

    def answer(self, trials: Presentation) -> NDArray[np.float64]:
        """Return 1 or 0, and one half where the references say nothing."""
        middle = trials.query_activations.mean(axis=1)

        def mean(members: NDArray[np.int64], activations: NDArray[np.float64]) -> NDArray[np.float64]:
            shown = members >= 0
            total = np.where(shown, activations, 0).sum(axis=1)
            return np.asarray(np.where(shown.any(axis=1), total / np.maximum(shown.sum(axis=1), 1), middle))

        high = mean(trials.references_max, trials.activations_max)
        low = mean(trials.references_min, trials.activations_min)
        difference = trials.query_activations[:, 0] - trials.query_activations[:, 1]
        return np.asarray(0.5 + 0.5 * np.sign(difference) * np.sign(high - low))


class LabelObserver(Observer):
    """Knows the class labels and nothing else: chooses the query whose class is commoner on the maximal side."""

    name = "label"

    def answer(self, trials: Presentation) -> NDArray[np.float64]:
        """Return 1, 0, or one half where labels do not tell the queries apart."""
        _, codes = np.unique(np.asarray(trials.labels or [""] * len(trials.pictures)), return_inverse=True)
        unlabelled = np.array([not label for label in trials.labels] or [True] * len(trials.pictures))
        codes = np.where(unlabelled, -1, codes)

        def share(queries: NDArray[np.int64], side: NDArray[np.int64]) -> NDArray[np.float64]:
            own = codes[queries][:, None]
            return np.asarray(((codes[side] == own) & (own >= 0) & (side >= 0)).mean(axis=1))

        upper, lower = trials.queries[:, 0], trials.queries[:, 1]
        evidence = share(upper, trials.references_max) - share(upper, trials.references_min)
        evidence -= share(lower, trials.references_max) - share(lower, trials.references_min)
        return np.asarray(0.5 + 0.5 * np.sign(evidence))
