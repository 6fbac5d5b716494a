"""Analyses of simulated studies: those of real ones, made fast enough for thousands of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar
from warnings import warn

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, t

from analysis import proportions
from analysis.comparison import join_means
from analysis.intervals.quantiles import critical_value
from analysis.intervals.wilson import bound_proportion, wilson_interval
from analysis.multiple_tests import ALPHA
from analysis.power.simulation import Answers
from analysis.proportions import ClusteredMeans, cluster_means
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL

P = ParamSpec("P")
R = TypeVar("R")


def alpha_was_level(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take its ``alpha`` by the name that it had before, with a warning."""

    @wraps(function)
    def call(*args: P.args, **values: P.kwargs) -> R:
        if "level" in values and "alpha" not in values:
            words = "the size of a test is now called alpha, and level is the coverage of an interval: write alpha="
            warn(f"{function.__name__}: {words}{values['level']}", FutureWarning, stacklevel=2)
            values["alpha"] = values.pop("level")
        return function(*args, **values)

    return call


@dataclass(frozen=True)
class Slopes:
    """Regressions of models' means on a predictor, one a simulated study.

    Attributes
    ----------
    slope, error
        Shape (studies,): slope and its standard error.
    freedom
        Degrees of freedom: models - 2.
    """

    slope: NDArray[np.float64]
    error: NDArray[np.float64]
    freedom: int

    @property
    def p(self) -> NDArray[np.float64]:
        """Two-sided p of each slope; where the means lie exactly on a line, 0, or 1 if the line is level."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.abs(self.slope) / self.error
        ratio = np.where(np.isnan(ratio), 0.0, ratio)
        p: NDArray[np.float64] = 2 * t.sf(ratio, self.freedom)
        return p

    def passing_margin(self, alpha: float = ALPHA) -> NDArray[np.float64]:
        """Return the smallest margin within which each slope is shown to be equivalent to 0."""
        margin: NDArray[np.float64] = np.abs(self.slope) + t.ppf(1 - alpha, self.freedom) * self.error
        return margin


def regress_means(means: NDArray[np.float64], predictor: NDArray[np.float64]) -> Slopes:
    """Regress models' means on a predictor by ordinary least squares.

    Parameters
    ----------
    means
        Shape (studies, models).
    predictor
        Shape (models,).

    Raises
    ------
    AnalysisError
        With fewer than three models, or models that do not differ in the predictor.
    """
    models = len(predictor)
    centred = predictor - predictor.mean()
    spread = float(centred @ centred)
    if models < 3 or spread == 0:
        raise AnalysisError("A slope needs at least three models, and models that differ in the predictor.")
    slope = means @ centred / spread
    rest = means - means.mean(axis=1, keepdims=True) - slope[:, None] * centred
    error = np.sqrt((rest**2).sum(axis=1) / (models - 2) / spread)
    return Slopes(slope, error, models - 2)


def model_means(answers: Answers, condition: int = 0) -> NDArray[np.float64]:
    """Return each model's proportion correct in a condition: the mean over units of each unit's proportion.

    Only main trials with references count.
    """
    layout = answers.layout
    counted = ~answers.catch & ~answers.blank & (answers.condition == condition)
    unit = answers.unit[counted]
    size = layout.models * layout.units
    asked = np.bincount(unit, minlength=size)
    right = np.bincount(unit, weights=answers.correct[counted], minlength=size)
    proportions = np.divide(right, asked, out=np.zeros(size), where=asked > 0).reshape(layout.models, layout.units)
    means: NDArray[np.float64] = proportions.sum(axis=1) / (asked > 0).reshape(proportions.shape).sum(axis=1)
    return means


def cluster_cells(answers: Answers, *cells: NDArray[np.bool_]) -> ClusteredMeans:
    """Return the means of some sets of answers, as ``analysis.proportions`` makes them."""
    kept = np.flatnonzero(np.logical_or.reduce(cells))
    cell = np.select([own[kept] for own in cells], range(len(cells))).astype(np.int64)
    codes = [
        np.unique(code[kept], return_inverse=True)[1].astype(np.int64)
        for code in (answers.unit, answers.participant, answers.model)
    ]
    units, models = int(codes[0].max()) + 1, int(codes[2].max()) + 1
    return cluster_means(
        proportions.Answers(
            correct=answers.correct[kept].astype(np.float64),
            cell=cell,
            unit=codes[0],
            person=codes[1],
            model=codes[2],
            cells=pd.DataFrame(index=range(len(cells))),
            weight=np.ones(units),
            unit_names=np.zeros(units, dtype=np.str_),
            model_names=np.zeros(models, dtype=np.str_),
        )
    )


def difference_p(answers: Answers, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the difference of two sets of answers and its two-sided p, as ``analysis.comparison`` makes it."""
    means = cluster_cells(answers, first, second)
    joint = join_means(means, ("first", "second"))
    return float(means.values[0] - means.values[1]), float(2 * norm.sf(abs(joint.scores()[0, 1])))


def interval_width(answers: Answers, model: int = 0, condition: int = 0, level: float = LEVEL) -> float:
    """Return how wide the interval of a model's proportion correct is: that of ``analysis.proportions``."""
    kept = ~answers.catch & ~answers.blank & (answers.condition == condition) & (answers.model == model)
    means = cluster_cells(answers, kept)
    value = float(means.values[0])
    if value in (0.0, 1.0):
        count = min(int(means.counts["units"][0]), int(means.counts["people"][0]))
        low, high = wilson_interval(value, count, critical_value(level))
    else:
        low, high = bound_proportion(
            value, float(means.two_way[0]), float(means.freedom[0]), float(means.binomial[0]), level
        )
    return high - low
