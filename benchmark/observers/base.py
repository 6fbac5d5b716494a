"""What an observer is: somebody, or something, that answers trials.

A machine sees a trial as people do: two queries, one above the other, and references that are said to be maximal
or minimal. It answers with the probability that the upper query belongs to the maximal side. Nothing in what it
is given tells which query that is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from benchmark.data_sets import data_set_names
from benchmark.model_card import ModelCard
from benchmark.randomness import generator_from

Indices = NDArray[np.int64]

LOW_LEVEL = "lowlevel"
"""Name of the observer that every other machine observer is measured against."""

SHUFFLED = ":shuffled"
"""What the name of an observer ends with where references were dealt to the sides at random."""

CHUNK = 1024
"""Trials compared at once: the bound on memory."""


@dataclass(frozen=True)
class Kinship:
    """What an observer is made of: families of architectures, and training data."""

    families: frozenset[str] = frozenset()
    data: frozenset[str] = frozenset()

    @classmethod
    def of(cls, card: ModelCard) -> Kinship:
        """Return the kinship of an observer made of a card's model."""
        return cls(frozenset({card.family}), frozenset(data_set_names(card.training.data if card.training else ())))

    def related_to(self, card: ModelCard) -> bool:
        """Whether a model is a relative: one family, or a shared set of training data."""
        return card.family in self.families or bool(
            self.data & set(data_set_names(card.training.data if card.training else ()))
        )


@dataclass(frozen=True)
class Presentation:
    """Trials as they are shown; pictures are given by their position in ``pictures``.

    Attributes
    ----------
    pictures
        Hashes of all pictures that occur.
    queries
        Shape (trials, 2): the upper and the lower query.
    references_max, references_min
        Shape (trials, K); -1 where a side is not shown.
    query_activations
        Shape (trials, 2): what the unit makes of the queries. Only the oracle may look.
    activations_max, activations_min
        Shape (trials, K): what the unit makes of the references. Only the oracle may look.
    labels
        Shape (pictures,): class labels, empty where there are none.
    """

    pictures: tuple[str, ...]
    queries: Indices
    references_max: Indices
    references_min: Indices
    query_activations: NDArray[np.float64]
    activations_max: NDArray[np.float64]
    activations_min: NDArray[np.float64]
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.queries)

    def part(self, rows: slice | Indices) -> Presentation:
        """Return some of the trials."""
        return replace(
            self,
            queries=self.queries[rows],
            references_max=self.references_max[rows],
            references_min=self.references_min[rows],
            query_activations=self.query_activations[rows],
            activations_max=self.activations_max[rows],
            activations_min=self.activations_min[rows],
        )

    def shuffle_references(self, seed: int) -> Presentation:
        """Return the trials with each trial's references dealt to the two sides at random.

        Whatever an observer then knows of the sides is wrong or luck: every honest one is at chance.
        """
        generator = generator_from(seed, "shuffled references")
        both = np.concatenate([self.references_max, self.references_min], axis=1)
        active = np.concatenate([self.activations_max, self.activations_min], axis=1)
        order = np.argsort(generator.random(both.shape), axis=1)
        both, active = np.take_along_axis(both, order, 1), np.take_along_axis(active, order, 1)
        k = self.references_max.shape[1]
        return replace(
            self,
            references_max=both[:, :k],
            references_min=both[:, k:],
            activations_max=active[:, :k],
            activations_min=active[:, k:],
        )


class Observer(ABC):
    """Answers trials.

    Attributes
    ----------
    name
        What the observer is called in tables: ``features:efficientnet_lite0``.
    kinship
        What it is made of, so that relatives of a model can be marked.
    weights_hash
        Hash of the network it is made of, if any: no model is ever observed by itself.
    """

    name: str
    kinship: Kinship = Kinship()
    weights_hash: str = ""

    @abstractmethod
    def answer(self, trials: Presentation) -> NDArray[np.float64]:
        """Return, for each trial, the probability that the upper query belongs to the maximal side."""


class SimilarityObserver(Observer):
    """Chooses the query that is more like the maximal and less like the minimal references.

    Each picture is embedded once; a trial is then dot products. With cosine similarity s, the mean similarity
    of a query to a side's references is the product with the mean of their unit vectors:

        D(q) = s(q, E+) - s(q, E-),   p = sigmoid((D(upper) - D(lower)) / temperature)

    as in the Machine Interpretability Score (Zimmermann, Klindt & Brendel, NeurIPS 2024), read with .16 as a
    temperature. The authors' open code (klindtlab/MachInterp, MIT) multiplies by .16 instead, which keeps scores near
    .5: a temperature of 1 / .16 gives its scores. A side that is not shown contributes nothing.
    """

    temperature: float = 0.16

    @abstractmethod
    def embed(self, pictures: tuple[str, ...]) -> NDArray[np.float32]:
        """Return one row per picture; the rows are compared by cosine."""

    def answer(self, trials: Presentation) -> NDArray[np.float64]:
        """Return, for each trial, the probability that the upper query belongs to the maximal side."""
        vectors = unit_rows(self.embed(trials.pictures))
        evidence = np.empty(len(trials))
        for start in range(0, len(trials), CHUNK):
            rows = slice(start, start + CHUNK)
            part = trials.part(rows)
            direction = mean_vectors(vectors, part.references_max) - mean_vectors(vectors, part.references_min)
            contrast = vectors[part.queries[:, 0]] - vectors[part.queries[:, 1]]
            evidence[rows] = np.einsum("td,td->t", contrast, direction)
        return sigmoid(evidence / self.temperature)


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale rows to unit length; a row of zeros stays."""
    rows = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def mean_vectors(vectors: NDArray[np.float32], members: Indices) -> NDArray[np.float32]:
    """Return the mean row of each trial's members, zero where a side is not shown (members of -1)."""
    shown = members >= 0
    counts = shown.sum(axis=1)
    shares = np.repeat(1 / np.maximum(counts, 1), counts).astype(np.float32)
    rows = np.concatenate([[0], np.cumsum(counts)])
    return np.asarray(csr_array((shares, members[shown], rows), shape=(len(members), len(vectors))) @ vectors)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))
