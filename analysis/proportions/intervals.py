"""Intervals of a proportion: how each is computed, and what it generalises to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from analysis.estimands import Drawing, Scope, spell_estimand
from analysis.intervals.means import estimate_mean
from analysis.intervals.quantiles import critical_value, percentile_ends
from analysis.intervals.wilson import bound_proportion, wilson_interval
from analysis.proportions.answers import Answers, Codes
from analysis.proportions.bootstrap import bootstrap_two_way
from analysis.proportions.clustered_means import ClusteredMeans, Mean
from analysis.settings import Chosen
from analysis.variance_components import Components, split_variance
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import Estimate

Interval = Literal["two-way", "two-way bootstrap", "variance components", "units", "people", "answers", "models"]

SPEAKS_FOR: dict[Interval, Scope] = {
    "two-way": "new units and people",
    "two-way bootstrap": "new units and people",
    "variance components": "new units and people",
    "units": "new units",
    "people": "new people",
    "answers": "these units and people",
    "models": "new models",
}
"""The scope that each interval speaks for."""

DEFAULT_INTERVALS: dict[Scope, Interval] = {
    "new units and people": "two-way",
    "new units": "units",
    "new people": "people",
    "these units and people": "answers",
    "new models": "models",
}
"""The interval that each scope gets if none is named."""

UNIT = "proportion correct"


def choose_interval(interval: Interval | None, scope: Scope | None, by: Sequence[str]) -> Interval:
    """Return the interval to make.

    Raises
    ------
    AnalysisError
        If it does not speak for the scope.
    """
    if interval is not None and interval not in get_args(Interval):
        raise NameNotFound("interval", interval, get_args(Interval))
    if scope is not None and scope not in DEFAULT_INTERVALS:
        raise NameNotFound("scope", scope, DEFAULT_INTERVALS)
    how: Interval = interval or (DEFAULT_INTERVALS[scope] if scope else "two-way")
    if scope is not None and SPEAKS_FOR[how] != scope:
        fitting = [name for name, own in SPEAKS_FOR.items() if own == scope]
        raise AnalysisError(
            f"The interval {how!r} generalises to {SPEAKS_FOR[how]!r}, not to {scope!r}; for that, use "
            f"{' or '.join(fitting)}."
        )
    if how == "models" and "model" in by:
        raise AnalysisError("An estimate for new models is a mean over models: leave 'model' out of the factors.")
    if "unit" in by and how == "two-way" and scope is None:
        return "people"
    return how


def estimate_cell(
    means: ClusteredMeans,
    number: int,
    rows: Codes,
    how: Interval,
    drawing: Drawing,
    mean: Mean,
    settings: Chosen,
) -> Estimate:
    """Return the estimate of one cell."""
    level, seed = settings.level, settings.seed
    value = float(means.values[number])
    units, people = int(means.counts["units"][number]), int(means.counts["people"][number])
    count = int(means.counts["answers"][number])
    estimand = spell_estimand(SPEAKS_FOR[how], drawing)
    over = "models" if how == "models" else "units"
    kind = f"mean over {mean}" if how != "models" else f"mean over models of their means over {mean}"

    def result(low: float, high: float, method: str, n: int) -> Estimate:
        return Estimate(value, min(low, value), max(high, value), f"{method}; {kind}", n, UNIT, estimand, level)

    least = float(means.binomial[number])
    if how == "answers":
        effective = 1 / float((means.shares[rows] ** 2).sum())
        low, high = wilson_interval(value, effective, critical_value(level))
        return result(low, high, f"Wilson interval over {count:,} answers", count)
    if how == "people":
        low, high, method = _people_interval(means, rows, value, people, level)
        return result(low, high, method, people)
    if how == "units":
        return _bootstrap_units(means, rows, mean, kind, estimand, level, seed)
    if min(units, people) < 2:
        lacking = f"1 {over[:-1]}" if units < 2 else "1 participant"
        return result(0.0, 1.0, f"no interval: {lacking} can't speak for new ones", units)
    size = f"{units:,} {over} x {people:,} participants, {count:,} answers"
    if value in (0.0, 1.0):
        low, high = wilson_interval(value, min(units, people), critical_value(level))
        return result(
            low,
            high,
            f"Wilson interval for {min(units, people):,} independent answers, because all agree ({size})",
            units,
        )
    if how == "two-way bootstrap":
        draws = bootstrap_two_way(means, rows, seed=seed, resamples=settings.resamples)
        low, high = percentile_ends(draws, level)
        method = (
            f"two-way bootstrap over {over} and participants ({size}; {settings.resamples:,} resamples, percentiles)"
        )
        return result(low, high, method, units)
    if how == "variance components":
        parts = cell_components(means.answers, rows)
        if parts is None:
            return result(0.0, 1.0, f"no interval: the variance components can't be told apart ({size})", units)
        freedom = min(units, people) - 1.0
        low, high = bound_proportion(value, parts.standard_error**2, freedom, least, level)
        method = f"variance components of units, participants and answers ({size})"
        return result(
            low, high, f"{method}, Wilson interval with Student's t on {freedom:.0f} degrees of freedom", units
        )
    variance, freedom = float(means.two_way[number]), float(means.freedom[number])
    low, high = bound_proportion(value, variance, freedom, least, level)
    difference = sum(
        sign * means.variances(source)[number] for source, sign in (("units", 1), ("people", 1), ("crossings", -1))
    )
    stated = "" if difference >= variance else ", the larger one-way variance, for the two-way one is smaller"
    return result(
        low, high,
        f"two-way sandwich over {over} and participants ({size}{stated}), Wilson interval with Student's t on "
        f"{freedom:.1f} degrees of freedom",
        units,
    )  # fmt: skip


def _people_interval(
    means: ClusteredMeans, rows: Codes, value: float, people: int, level: float
) -> tuple[float, float, str]:
    """Return an interval for new people and these very units: deviations are from each unit's own mean."""
    answers = means.answers
    person, unit = np.unique(answers.person[rows], return_inverse=True)[1], answers.unit[rows]
    unit = np.unique(unit, return_inverse=True)[1]
    correct, shares = answers.correct[rows], means.shares[rows]
    normal = critical_value(level)
    if people < 2:
        return 0.0, 1.0, "no interval: 1 participant can't speak for new ones"
    if unit.max() == 0 and people == len(rows):
        low, high = wilson_interval(value, people, normal)
        return low, high, f"Wilson interval over {people:,} participants with one answer each"
    if value in (0.0, 1.0):
        low, high = wilson_interval(value, people, normal)
        return low, high, f"Wilson interval for {people:,} participants, because all agree"
    each = np.bincount(unit).astype(np.float64)
    own = np.bincount(unit, correct) / each
    # A unit that was asked about once has no mean of its own to deviate from: its answer deviates from the cell's.
    expected = np.where(each > 1, own, value)[unit]
    inflation = np.sqrt(np.where(each > 1, each / np.maximum(each - 1, 1), 1.0))[unit]
    scores = np.bincount(person, shares * inflation * (correct - expected))
    variance = float((scores**2).sum()) * people / (people - 1)
    method = f"sandwich over {people:,} participants around the means of {len(each):,} units"
    if variance == 0:
        low, high = wilson_interval(value, people, normal)
        return low, high, f"Wilson interval for {people:,} participants, because all agree about each unit"
    low, high = bound_proportion(value, variance, people - 1.0, 0.0, level)
    return low, high, f"{method}, Wilson interval with Student's t on {people - 1} degrees of freedom"


def _bootstrap_units(
    means: ClusteredMeans, rows: Codes, mean: Mean, kind: str, estimand: str, level: float, seed: int
) -> Estimate:
    """Return the paper's interval: a BCa bootstrap over units."""
    answers = means.answers
    unit, kept = np.unique(answers.unit[rows], return_inverse=True)[1], np.unique(answers.unit[rows])
    each = np.bincount(unit)
    weights = answers.weight[kept] * (each if mean == "answers" else 1.0)
    shares = np.bincount(unit, answers.correct[rows]) / each
    found = estimate_mean(shares, weights=weights, unit=UNIT, seed=seed, estimand=estimand, level=level, interval="bca")
    return replace(found, method=f"{found.method}; {kind}")


def cell_components(answers: Answers, rows: Codes) -> Components | None:
    """Return the variance components of one cell."""
    right = answers.correct[rows]
    sides = []
    for codes in (answers.unit[rows], answers.person[rows]):
        own = np.unique(codes, return_inverse=True)[1]
        sides += [np.bincount(own), np.bincount(own, right)]
    return split_variance(*sides)
