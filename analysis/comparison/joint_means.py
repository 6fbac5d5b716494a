"""Means of several cells with their joint covariance: cells that share units or people share their errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from analysis.arrays import Floats
from analysis.proportions import ClusteredMeans
from analysis.proportions.answers import Codes
from analysis.sandwich import satterthwaite
from benchmark.errors import AnalysisError

DRAWS = 20_000
"""Draws from the joint distribution of the means."""

_CHUNK = 4_000_000
"""Differences drawn at a time: bounds memory."""


@dataclass(frozen=True)
class JointMeans:
    """Means that vary together, ordered from the highest to the lowest.

    Attributes
    ----------
    names
        What they are means of.
    values
        Shape (means,).
    covariance
        Shape (means, means): symmetric, without negative eigenvalues.
    errors
        Shape (means, means): standard error of each difference.
    freedom
        Shape (means, means): degrees of freedom of each difference's error.
    method
        How the errors were made.
    units
        Shape (means, means): how many units each difference rests on.
    """

    names: tuple[str, ...]
    values: Floats
    covariance: Floats
    errors: Floats
    freedom: Floats
    method: str
    units: Codes

    def scores(self) -> Floats:
        """Return every difference in standard normal terms, shape (means, means): row minus column."""
        difference = self.values[:, None] - self.values[None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.errors > 0, difference / self.errors, 0.0)
        # From the upper tail, where precision is.
        result: Floats = np.sign(ratio) * norm.isf(t.sf(np.abs(ratio), self.freedom))
        return np.clip(result, -38.0, 38.0)

    def critical_difference(self, quantile: float) -> Floats:
        """Return how large each difference must be to reach a standard normal quantile, shape (means, means)."""
        result: Floats = t.isf(norm.sf(quantile), self.freedom) * self.errors
        return result


def join_means(means: ClusteredMeans, names: Sequence[str], words: str = "") -> JointMeans:
    """Return cells' means with the errors of all their differences.

    Parameters
    ----------
    means
        The means, and what units and participants add to them.
    names
        Name of each cell.
    words
        What the method adds about the clusters.

    Raises
    ------
    AnalysisError
        If a cell has fewer than two units or participants: it can't speak for new ones.
    """
    units, people = means.counts["units"], means.counts["people"]
    for count, what in ((units, "unit"), (people, "participant")):
        if count.min() < 2:
            name = names[int(count.argmin())]
            raise AnalysisError(
                f"{name} rests on 1 {what}. One is not enough to generalise to new ones: a difference from it has no "
                "standard error. Leave it out, or collect more answers."
            )
    # What is drawn must not depend on names: the best comes first.
    order = np.array(sorted(range(len(names)), key=lambda k: (-round(float(means.values[k]), 12), names[k])))
    values = means.values[order]
    sources = {source: means.covariance(source)[np.ix_(order, order)] for source in ("units", "people", "crossings")}
    floor = np.diag(_variance_without_spread(values, np.minimum(units, people)[order]))
    by_units, by_people = sources["units"] + floor, sources["people"] + floor
    two_way = sources["units"] + sources["people"] - sources["crossings"] + floor
    spread_units, spread_people = _of_differences(by_units), _of_differences(by_people)
    variance = np.maximum(_of_differences(two_way), np.maximum(spread_units, spread_people))
    freedom = satterthwaite(
        variance,
        spread_units,
        _cluster_freedom(means, "units", order, by_units),
        spread_people,
        _cluster_freedom(means, "people", order, by_people),
    )
    shared = _shared_clusters(means, "units")[np.ix_(order, order)]
    count = units[order]
    method = (
        f"two-way sandwich over units and participants ({int(means.counts['answers'].sum()):,} answers"
        f"{', ' + words if words else ''})"
    )
    agreeing = [names[k] for k in order if means.values[k] in (0.0, 1.0)]
    if agreeing:
        method += f", with 2 right and 2 wrong answers added for {', '.join(agreeing)}, where all answers agree"
    return JointMeans(
        tuple(names[k] for k in order),
        values,
        _nearest_covariance(two_way),
        np.sqrt(np.maximum(variance, 0.0)),
        freedom,
        method,
        (count[:, None] + count[None, :] - shared).astype(np.int64),
    )


def _variance_without_spread(values: Floats, count: Codes) -> Floats:
    """Return the variance that a cell gets where all answers agree, 0 elsewhere.

    It is that of Agresti & Coull (1998), with as many answers as there are units or participants, if those are fewer.
    """
    middle = (count * values + 2) / (count + 4)
    return np.where((values == 0) | (values == 1), middle * (1 - middle) / (count + 4), 0.0)


def _of_differences(covariance: Floats) -> Floats:
    """Return the variance of each difference."""
    own = np.diag(covariance)
    result: Floats = own[:, None] + own[None, :] - 2 * covariance
    np.fill_diagonal(result, 0.0)
    return result


def _shared_clusters(means: ClusteredMeans, source: str) -> Codes:
    """Return how many clusters each two cells share, shape (cells, cells); on the diagonal, how many each has."""
    own = means.scores[source].copy()
    own.data = np.ones_like(own.data)
    return np.asarray((own.T @ own).toarray()).round().astype(np.int64)


def _cluster_freedom(means: ClusteredMeans, source: str, order: Codes, covariance: Floats) -> Floats:
    """Return the degrees of freedom of one clustering's variance of each difference, shape (cells, cells).

    Two independent samples have Welch's (1947); one sample that both share, its size less 1; in between, all clusters
    less 2.
    """
    shared = _shared_clusters(means, source)[np.ix_(order, order)].astype(np.float64)
    count, own = np.diag(shared), np.diag(covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = own**2 / np.maximum(count - 1, 1)
        welch = (own[:, None] + own[None, :]) ** 2 / (parts[:, None] + parts[None, :])
    welch = np.where(np.isfinite(welch), welch, np.minimum(count[:, None], count[None, :]) - 1)
    union = count[:, None] + count[None, :] - shared
    freedom = np.where(shared == 0, welch, np.where(union == shared, union - 1, union - 2))
    return np.maximum(freedom, 1.0)


def _nearest_covariance(matrix: Floats) -> Floats:
    """Return a covariance matrix without the negative eigenvalues that a difference of matrices may have."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    result: Floats = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return result


def draw_scores(joint: JointMeans, pairs: NDArray[np.int64], seed: int, draws: int = DRAWS) -> Iterator[Floats]:
    """Draw differences as they would vary if all means were equal, each in its own standard deviations.

    Yields
    ------
    Shape (some draws, pairs), in all ``draws`` rows: standard normal, correlated as the differences are.
    """
    first, second = pairs.T
    values, vectors = np.linalg.eigh(joint.covariance)
    # The signs of eigenvectors are arbitrary; so are vectors of equal eigenvalues, which the draws' law does not mind.
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    root = root * np.where(root.sum(axis=0) < 0, -1.0, 1.0)
    spread = np.sqrt(np.maximum(((root[first] - root[second]) ** 2).sum(axis=1), 0.0))
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // max(len(pairs), 1))
    for start in range(0, draws, size):
        own = rng.standard_normal((min(size, draws - start), len(values))) @ root.T
        difference = own[:, first] - own[:, second]
        yield np.divide(difference, spread, out=np.zeros_like(difference), where=spread > 1e-15)


def spell_sharing(means: ClusteredMeans, what: str, names: Sequence[str] = ()) -> str:
    """Say what cells share; with ``names`` of the cells, which of them share units."""
    units, people = (_shared_clusters(means, source) for source in ("units", "people"))
    by_units, by_people = (bool((own - np.diag(np.diag(own))).any()) for own in (units, people))
    if not (by_units or by_people):
        return f"{what} share neither units nor participants"
    if not names or not by_units:
        shared = [word for word, own in (("units", by_units), ("participants", by_people)) if own]
        return f"{what} share {' and '.join(shared)}" + ("" if len(shared) == 2 else " alone")
    groups: list[list[str]] = []
    for cell, name in enumerate(names):
        own = next((group for group in groups if units[cell, names.index(group[0])]), None)
        if own is None:
            groups.append([name])
        else:
            own.append(name)
    spelled = "; ".join(" and ".join(group) for group in groups if len(group) > 1)
    return f"{spelled} share units, {what} share {'participants' if by_people else 'no participants'}"
