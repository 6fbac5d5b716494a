"""Means of cells, and how they vary together with units and participants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from analysis.arrays import Floats
from analysis.proportions.answers import Answers, Codes
from analysis.sandwich import few_clusters, satterthwaite, two_way_variance

Mean = Literal["units", "answers"]


@dataclass(frozen=True)
class ClusteredMeans:
    """Means of cells, and how they vary together with units and participants.

    Attributes
    ----------
    answers
        What they were computed from.
    values
        Shape (cells,).
    shares
        Shape (answers,): share of each answer in its cell's mean.
    counts
        Answers, right answers, units (or models) and people of each cell: shape (cells,) each.
    scores
        For units (or models), participants, and their crossings: shape (clusters, cells), what each cluster adds to
        each mean's deviation, with the small-sample factor sqrt(G / (G - 1)) of its cell.
    """

    answers: Answers
    values: Floats
    shares: Floats
    counts: dict[str, Codes]
    scores: dict[str, sparse.csc_array]

    def variances(self, source: str) -> Floats:
        """Return the variance of each mean by one clustering, shape (cells,)."""
        own = self.scores[source]
        return np.asarray(own.multiply(own).sum(axis=0), dtype=np.float64).ravel()

    def covariance(self, source: str) -> Floats:
        """Return the covariance of all means by one clustering, shape (cells, cells)."""
        own = self.scores[source]
        return np.asarray((own.T @ own).toarray(), dtype=np.float64)

    @property
    def binomial(self) -> Floats:
        """Variance of each mean as if its answers had nothing to do with each other, shape (cells,)."""
        squares = np.bincount(self.answers.cell, self.shares**2, minlength=len(self.values))
        result: Floats = self.values * (1 - self.values) * squares
        return result

    @property
    def two_way(self) -> Floats:
        """Two-way variance of each mean, shape (cells,): never below either one-way variance."""
        by_units, by_people = self.variances("units"), self.variances("people")
        return two_way_variance(by_units, by_people, self.variances("crossings"))

    @property
    def freedom(self) -> Floats:
        """Satterthwaite's degrees of freedom of the two-way variance, shape (cells,), at least 1."""
        by_units, by_people = self.variances("units"), self.variances("people")
        return satterthwaite(
            self.two_way, by_units, np.maximum(self.counts["units"] - 1.0, 1.0), by_people,
            np.maximum(self.counts["people"] - 1.0, 1.0),
        )  # fmt: skip


def cluster_means(
    answers: Answers,
    *,
    mean: Mean = "units",
    clusters: Literal["units", "models"] = "units",
    unit_clusters: Codes | None = None,
) -> ClusteredMeans:
    """Compute the means of all cells, and how units and participants move them.

    Parameters
    ----------
    answers
        The answers.
    mean
        Whether units, or answers, count alike within a cell.
    clusters
        What a cell is a sample of: units, or models (each model's mean then counts alike).
    unit_clusters
        Shape (units,): the cluster of each unit, if some units belong together (the same place in twins).
    """
    cells, unit = len(answers.cells), answers.unit
    people, cell = answers.people, answers.cell
    shares = answer_shares(answers, mean, clusters)
    asked, right = np.bincount(cell, minlength=cells), np.bincount(cell, answers.correct, minlength=cells)
    summed = np.clip(np.bincount(cell, shares * answers.correct, minlength=cells), 0.0, 1.0)
    # Where all answers agree, shares that sum to 1 but for rounding must not leave a trace of spread.
    values: Floats = np.where(right == asked, 1.0, np.where(right == 0, 0.0, summed))
    residual = shares * (answers.correct - values[cell])
    first = answers.model if clusters == "models" else unit if unit_clusters is None else unit_clusters[unit]
    crossing = np.unique(first * people + answers.person, return_inverse=True)[1]
    scores, counts = {}, {}
    for name, code in (("units", first), ("people", answers.person), ("crossings", crossing)):
        own = sparse.coo_array((residual, (code, cell)), shape=(int(code.max()) + 1, cells)).tocsc()
        count = np.diff(own.indptr).astype(np.int64)
        scale = np.sqrt(few_clusters(count))
        scores[name] = sparse.csc_array(own.multiply(scale[None, :]).tocsc())
        counts[name] = count
    counts["answers"], counts["right"] = asked.astype(np.int64), right.astype(np.int64)
    return ClusteredMeans(answers, values, shares, counts, scores)


def answer_shares(answers: Answers, mean: Mean, clusters: str = "units") -> Floats:
    """Return the share of each answer in its cell's mean: shape (answers,), summing to 1 in each cell."""
    cell, unit = answers.cell, answers.unit
    raw = answers.weight[unit]
    if mean == "units":
        raw = raw / _counts_of(cell * len(answers.weight) + unit)
    if clusters == "models":
        # Each model's answers get the weight 1 together.
        pair = np.unique(cell * (int(answers.model.max()) + 1) + answers.model, return_inverse=True)[1]
        raw = raw / np.bincount(pair, raw)[pair]
    shares: Floats = raw / np.bincount(cell, raw)[cell]
    return shares


def _counts_of(codes: Codes) -> Floats:
    """Return how often each row's code occurs, shape (rows,)."""
    _, inverse, count = np.unique(codes, return_inverse=True, return_counts=True)
    return count[inverse].astype(np.float64)
