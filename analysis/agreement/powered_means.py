"""Prediction-powered means: human unit means and a machine's scores, tuned, with their variance."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.arrays import Floats, Integers
from analysis.intervals.quantiles import critical_value
from analysis.variance_components import split_variance
from benchmark.estimate import LEVEL

LEAST_PEOPLE = 5
"""Fewer people tell nothing of how people differ: the interval then speaks for these people alone."""

LEAST_FREEDOM = 5.0
"""Student's t gets no fewer degrees of freedom: below, intervals were seen to cover more than 97 %."""


@dataclass(frozen=True)
class Labels:
    """Human answers, and the machine's scores of the same and of further units."""

    unit: Integers
    person: Integers
    correct: Floats
    labelled: Floats
    unlabelled: Floats

    @property
    def counts(self) -> Floats:
        """Answers about each unit."""
        return np.bincount(self.unit).astype(np.float64)

    @property
    def means(self) -> Floats:
        """Proportion correct of each unit."""
        return np.asarray(np.bincount(self.unit, self.correct) / self.counts)


@dataclass(frozen=True)
class PoweredMean:
    """A mean, its variance and degrees of freedom; and how it was tuned."""

    value: float
    variance: float
    freedom: float
    tuning: float

    def half_width(self, level: float = LEVEL) -> float:
        """Return half the width of the interval."""
        return critical_value(level, self.freedom) * math.sqrt(self.variance)


@dataclass(frozen=True)
class SharedPeople:
    """What people's answering about several units adds to the variance of a mean over units.

    ``doubt`` is half the variance of that estimate: what Satterthwaite's formula needs, also where the estimate is 0.
    """

    variance: float
    doubt: float


def human_only_mean(y: Floats, shared: SharedPeople) -> PoweredMean:
    """Return the mean of unit means."""
    n = len(y)
    return _join(float(y.mean()), [(float(y.var(ddof=1)) / n, n - 1.0)], shared, 0.0)


def powered_mean(y: Floats, labelled: Floats, unlabelled: Floats, shared: SharedPeople) -> PoweredMean:
    """Return the prediction-powered mean.

    The machine's scores are scaled to a standard deviation of 1/2, the largest that a proportion can have: the best
    weight is then never beyond 1, where the library cuts it off. Scaling uses the machine's scores alone, and leaves
    the estimate valid.
    """
    ppi_mean_ci, ppi_mean_pointestimate = ppi_library()
    every = np.concatenate([labelled, unlabelled])
    scaled = (every - every.mean()) / (2 * every.std())
    f, g = scaled[: len(labelled)], scaled[len(labelled) :]
    low, high = (float(np.squeeze(end)) for end in ppi_mean_ci(y, f, g, alpha=1 - LEVEL))
    value = (low + high) / 2
    # The library does not tell its weight, but the estimate is linear in it.
    without, full = (float(np.squeeze(ppi_mean_pointestimate(y, f, g, lam=weight))) for weight in (0.0, 1.0))
    if abs(full - without) > 1e-9:
        tuning = min(max((value - without) / (full - without), 0.0), 1.0)
    else:
        # Means of the machine's scores are the same in both sets: move one score by a hair.
        moved = g + np.where(np.arange(len(g)) == 0, 1e-4, 0.0)
        with_hair = float(np.squeeze(ppi_mean_pointestimate(y, f, moved)))
        tuning = min(max((with_hair - without) / (float(moved.mean()) - float(f.mean())), 0.0), 1.0)
    n, further = len(y), len(g)
    error = ((high - low) / (2 * critical_value(LEVEL))) ** 2
    imputed = tuning**2 * float(g.var()) / further
    residual = max(error - imputed, 0.0) * n / (n - 2)
    parts = [(residual, n - 2.0), (imputed * further / (further - 1), further - 1.0)]
    return _join(value, parts, shared, tuning)


def _join(value: float, parts: list[tuple[float, float]], shared: SharedPeople, tuning: float) -> PoweredMean:
    """Add variances; degrees of freedom by Satterthwaite (1946), Biometrics Bulletin 2."""
    variance = sum(part for part, _ in parts) + shared.variance
    below = sum(part**2 / freedom for part, freedom in parts) + shared.doubt
    return PoweredMean(value, variance, max(variance**2 / below, LEAST_FREEDOM) if below > 0 else LEAST_FREEDOM, tuning)


def ppi_library() -> tuple[Any, Any]:
    """Return the library's functions; importing it takes seconds, and would silence all warnings for good."""
    with warnings.catch_warnings():
        from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
    return ppi_mean_ci, ppi_mean_pointestimate


def shared_by_people(labels: Labels) -> SharedPeople:
    """Return what people's answering about several units adds to the variance of the mean over units.

    A mean over units gives each answer the weight 1 / (n k). The variance between people enters the mean by the sum of
    people's squared weights; the variance of unit means holds that part already which falls on single units.
    """
    people, n = int(labels.person.max()) + 1, len(labels.labelled)
    if people < LEAST_PEOPLE:
        return SharedPeople(0.0, 0.0)
    weight = 1 / (n * labels.counts[labels.unit])
    _, cell = np.unique(labels.unit * people + labels.person, return_inverse=True)
    beyond = float((np.bincount(labels.person, weight) ** 2).sum() - (np.bincount(cell, weight) ** 2).sum())
    beyond = max(beyond, 0.0)
    person, spread = _person_variance(labels)
    return SharedPeople(person * beyond, (spread * beyond) ** 2 / (people - 1))


def _person_variance(labels: Labels) -> tuple[float, float]:
    """Return the variance between people, 0 where the estimate is negative; and that with the luck of their answers.

    The second is the expected mean square between people over their answers each: the estimate is a difference of mean
    squares, and varies as much as the larger of them.
    """
    given = np.bincount(labels.person).astype(np.float64)
    right = np.bincount(labels.person, labels.correct)
    n, people = float(given.sum()), len(given)
    size = (n - float((given**2).sum()) / n) / (people - 1)
    if n <= people:
        return 0.0, float(right.sum() / n * (1 - right.sum() / n))
    level = float((right**2 / given).sum())
    within = (float(right.sum()) - level) / (n - people)
    components = split_variance(labels.counts, np.bincount(labels.unit, labels.correct), given, right)
    if components is not None:
        person = components.person
    else:
        # One answer a unit: units are then part of what varies within a person.
        between = (level - float(right.sum()) ** 2 / n) / (people - 1)
        person = max((between - within) / size, 0.0)
    return person, person + within / size
