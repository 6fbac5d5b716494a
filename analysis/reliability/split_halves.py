"""Split halves: the answers of each unit are dealt into two halves at random, whose unit means are correlated.

The correlation is stepped up to the full number of answers: Spearman (1910); Brown (1910).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from analysis.answer_order import order_by_answers
from analysis.arrays import Floats, Integers
from analysis.reliability.analysis_of_variance import step_up
from analysis.reliability.intervals import reliability_estimate
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

SPLITS = 500

SPLITS_RESAMPLED = 100
"""Splits within each replicate of the bootstrap: an average over so many differs from one over all by a thousandth."""


@dataclass(frozen=True)
class Halves:
    """Unit means of two halves, in many splits: shape (units, splits), 0 in both where one half lacks the unit."""

    first: Floats
    second: Floats
    shown: Floats

    def part(self, count: int) -> Halves:
        """Return the first splits alone."""
        return Halves(self.first[:, :count], self.second[:, :count], self.shown[:, :count])


def split_answers(answers: Integers, right: Integers, size: Integers, splits: int, rng: np.random.Generator) -> Halves:
    """Deal each unit's answers into two disjoint random sets of ``size`` answers.

    Answers of a unit differ only in being right or wrong, so that the right ones in a set are hypergeometric.
    """
    shape = (splits, len(answers))
    k, s, m = (np.broadcast_to(values, shape) for values in (answers, right, size))
    first = rng.hypergeometric(s, k - s, m)
    second = rng.hypergeometric(s - first, k - s - (m - first), m)
    return Halves((first / m).T, (second / m).T, np.ones(shape).T)


def order_by_people(judgements: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Order units of equal counts by who answered about them, and how: so that random draws do not depend on names."""
    own = judgements[judgements["unit"].isin(counts["unit"])]
    unit = pd.Index(counts["unit"]).get_indexer(own["unit"].astype(str))
    person = pd.Categorical(own["participant"].astype(str)).codes
    place = np.empty(len(counts), dtype=np.int64)
    place[unit] = order_by_answers(unit, person, own["correct"])[0]
    ordered = counts.assign(place=place).sort_values(["answers", "right", "place"], ignore_index=True)
    return ordered.drop(columns="place")


def split_participants(
    judgements: pd.DataFrame, counts: pd.DataFrame, splits: int, rng: np.random.Generator
) -> Halves | None:
    """Deal people into two halves; None if there is but one person."""
    own = judgements[judgements["unit"].isin(counts["unit"])]
    person = pd.Categorical(own["participant"].astype(str)).codes.astype(np.int64)
    people = int(person.max()) + 1
    if people < 2:
        return None
    unit = pd.Index(counts["unit"]).get_indexer(own["unit"].astype(str))
    # Whoever is drawn into a half is known by the answers alone: renaming people changes nothing.
    person = order_by_answers(unit, person, own["correct"])[1]
    shape = (len(counts), people)
    given = csr_array((np.ones(len(own)), (unit, person)), shape=shape)
    right = csr_array((own["correct"].to_numpy(dtype=np.float64), (unit, person)), shape=shape)
    rank = np.argsort(rng.random((splits, people)), axis=1)
    first = (rank < people // 2).T.astype(np.float64)
    k, s = given @ first, right @ first
    others, right_others = counts["answers"].to_numpy()[:, None] - k, counts["right"].to_numpy()[:, None] - s
    shown = (k > 0) & (others > 0)
    return Halves(
        np.where(shown, s / np.maximum(k, 1), 0.0),
        np.where(shown, right_others / np.maximum(others, 1), 0.0),
        shown.astype(np.float64),
    )


def split_half(
    halves: Halves, factor: float, weights: Floats, what: str, where: str, estimand: str, level: float
) -> Estimate:
    """Average the correlation of halves over splits, step it up, and bootstrap units."""
    units, splits = halves.first.shape
    mean = mean_correlation(np.ones((1, units)), halves)
    if np.isnan(mean[0]):
        raise no_spread(where)
    value = step_up(mean, factor)[0]
    replicates = step_up(mean_correlation(weights, halves.part(SPLITS_RESAMPLED)), factor)
    return reliability_estimate(
        float(value),
        replicates,
        f"mean correlation of {splits} random halves of {what}, Spearman-Brown by {factor:.3g}",
        units,
        estimand,
        level,
    )


def mean_correlation(weights: Floats, halves: Halves) -> Floats:
    """Return the mean over splits of the correlation of two halves, for each replicate.

    Splits without a correlation, because a half does not vary, are left out. Sums over units are products of matrices:
    all replicates and splits at once.
    """
    x, y, m = halves.first, halves.second, halves.shown
    n = weights @ m
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = weights @ x / n, weights @ y / n
        of_x = weights @ (x * x) / n - mean_x**2
        of_y = weights @ (y * y) / n - mean_y**2
        together = weights @ (x * y) / n - mean_x * mean_y
        usable = (of_x > 1e-12) & (of_y > 1e-12)
        correlation = np.where(usable, together / np.sqrt(of_x * of_y), 0.0)
        return np.asarray(correlation.sum(axis=1) / usable.sum(axis=1))


def no_spread(where: str) -> AnalysisError:
    """Return what is raised where unit means do not differ."""
    return AnalysisError(
        f"{where}: all units have the same proportion of right answers, so that there is no variance between units "
        "whose reliability could be estimated. Units that differ, or harder queries, are needed."
    )
