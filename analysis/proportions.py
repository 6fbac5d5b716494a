"""Proportion correct, with intervals that say what they speak for: per unit, model, condition, difficulty and layer.

The estimate is the mean over units of the units' proportions, as in the 2023 paper (``mean="units"``), or the mean
over answers; where every unit has equally many answers, both are the same. What is uncertain about it depends on what
it is to speak for:

================== ======================= ==============================================================
interval           scope                   how it is made
================== ======================= ==============================================================
two-way            new units and people    sandwich: units + participants - their crossings (the default)
two-way bootstrap  new units and people    units and participants resampled ("pigeonhole"): conservative
variance comp...   new units and people    method-of-moments components of a crossed design
units              new units               BCa bootstrap over unit means: the paper's
people             new people              sandwich over participants, around each unit's own mean
answers            these units and people  Wilson's interval for so many answers
models             new models              sandwich: models + participants - their crossings
================== ======================= ==============================================================

Participants are clusters, not sessions: whoever takes part twice is one person.

References: Cameron, Gelbach & Miller (2011), Robust inference with multiway clustering, Journal of Business & Economic
Statistics 29, equation 2.11; MacKinnon, Nielsen & Webb (2024), Jackknife inference with two-way clustering (the largest
of the three variances where the two-way one is the smallest); Dean & Pagano (2015), Evaluating confidence interval
methods for binomial proportions in clustered surveys, Journal of Survey Statistics and Methodology 3 (Wilson's interval
with an effective number of answers); Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import norm, t

from analysis.estimands import Drawing, Scope, known_weights, spell_estimand
from analysis.judgements import unit_names
from analysis.variance_components import Components, split_variance
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import Estimate
from benchmark.tasks import UNIT_COLUMNS

Interval = Literal["two-way", "two-way bootstrap", "variance components", "units", "people", "answers", "models"]
Mean = Literal["units", "answers"]
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

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

DEPTHS = ("first third", "middle third", "last third")
"""Thirds of a model's depth, by the position of the layer: up to 1/3, up to 2/3, beyond."""

LAYER_FACTORS = {"layer_type": "what computes the layer", "depth": "which third of the model the layer lies in"}
"""Factors that come from the table of units."""

LEVEL = 0.95
BOOTSTRAPS = 2_000
UNIT = "proportion correct"
_CHUNK = 250
"""Resamples at a time: bounds the memory of the two-way bootstrap."""


@dataclass(frozen=True)
class StandardErrors:
    """Standard errors of one proportion, by the sources of luck that they count.

    Attributes
    ----------
    binomial
        Of single answers, as if they had nothing to do with each other.
    participants, units
        Clustered by participants, or by units.
    two_way
        Of both: the square root of units squared + participants squared - crossings squared; the largest of the
        three where that difference is the smallest.
    """

    binomial: float
    participants: float
    units: float
    two_way: float


@dataclass(frozen=True)
class ProportionCell:
    """Proportion correct in one cell: one model and condition, say.

    Attributes
    ----------
    names
        What the cell is: the factors' values.
    estimate
        The proportion and its interval.
    units, people, answers, right
        How many there are.
    errors
        Standard errors by source.
    components
        Variance between units, people and answers; None where they can't be told apart.
    """

    names: dict[str, str]
    estimate: Estimate
    units: int
    people: int
    answers: int
    right: int
    errors: StandardErrors
    components: Components | None

    def row(self) -> dict[str, Any]:
        """Return the cell as a row of a table."""
        parts = self.components
        return {
            **self.names,
            **self.estimate.as_dict(),
            "units": self.units,
            "people": self.people,
            "answers": self.answers,
            "right": self.right,
            "error_binomial": self.errors.binomial,
            "error_participants": self.errors.participants,
            "error_units": self.errors.units,
            "error_two_way": self.errors.two_way,
            "variance_unit": parts.unit if parts else None,
            "variance_person": parts.person if parts else None,
            "variance_answer": parts.answer if parts else None,
        }


@dataclass(frozen=True)
class Proportions:
    """Proportions correct of several cells, in the order of their names."""

    by: tuple[str, ...]
    cells: tuple[ProportionCell, ...]

    def __iter__(self) -> Iterator[ProportionCell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def cell(self, **names: str) -> ProportionCell:
        """Return the one cell with these names.

        Raises
        ------
        NameNotFound
            If there is none, or more than one.
        """
        found = [cell for cell in self.cells if all(cell.names.get(key) == value for key, value in names.items())]
        if len(found) != 1:
            options = [", ".join(cell.names.values()) for cell in self.cells]
            raise NameNotFound("cell (or more than one)", ", ".join(names.values()), options)
        return found[0]

    def table(self) -> pd.DataFrame:
        """Return one row a cell: names, estimate, counts, standard errors and variance components."""
        return pd.DataFrame([cell.row() for cell in self.cells])


# ---------------------------------------------------------------------------------------------- answers as numbers


@dataclass(frozen=True)
class Answers:
    """Answers as numbers: what every estimate here is computed from.

    Attributes
    ----------
    correct
        Shape (answers,): 1 if right.
    cell, unit, person, model
        Shape (answers,): numbers of the answer's cell, unit, participant and model, in the order of their names.
    cells
        One row a cell: its names.
    weight
        Shape (units,): weight of each unit in a mean.
    unit_names, model_names
        What the numbers stand for.
    """

    correct: Floats
    cell: Codes
    unit: Codes
    person: Codes
    model: Codes
    cells: pd.DataFrame
    weight: Floats
    unit_names: NDArray[np.str_]
    model_names: NDArray[np.str_]

    @property
    def people(self) -> int:
        """How many participants there are."""
        return int(self.person.max()) + 1

    def of_cell(self, cell: int) -> Answers:
        """Return the answers of one cell alone, as a table with one cell."""
        own = self.cell == cell
        unit, kept = _compact(self.unit[own])
        person, _ = _compact(self.person[own])
        model, models = _compact(self.model[own])
        return Answers(
            self.correct[own],
            np.zeros(int(own.sum()), dtype=np.int64),
            unit,
            person,
            model,
            self.cells.iloc[[cell]].reset_index(drop=True),
            self.weight[kept],
            self.unit_names[kept],
            self.model_names[models],
        )


def encode(column: pd.Series) -> tuple[Codes, NDArray[np.str_]]:
    """Number the values of a column in the order of their names.

    Returns
    -------
    Shape (rows,): a number for each value; and the values that occur, sorted.

    Raises
    ------
    AnalysisError
        If a value is missing.
    """
    values = column.astype("category")
    codes = values.cat.codes.to_numpy().astype(np.int64)
    if len(codes) and codes.min() < 0:
        raise AnalysisError(
            f"The column {column.name!r} is empty in row {int((codes < 0).argmax())} of the judgements."
        )
    names = values.cat.categories.astype(str).to_numpy(dtype=str)
    codes, kept = _compact(codes)
    order = np.argsort(names[kept], kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[codes], names[kept][order]


def _compact(codes: Codes) -> tuple[Codes, Codes]:
    """Number the codes that occur without gaps; returns the new codes, and the old ones that they stand for."""
    present = np.flatnonzero(np.bincount(codes)) if len(codes) else np.zeros(0, dtype=np.int64)
    place = np.zeros(int(present[-1]) + 1 if len(present) else 0, dtype=np.int64)
    place[present] = np.arange(len(present))
    return place[codes], present.astype(np.int64)


def read_answers(
    table: pd.DataFrame, by: Sequence[str], *, drawing: Drawing = "layer-uniform", units: pd.DataFrame | None = None
) -> Answers:
    """Turn a table of judgements into numbers.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Factors that make a cell: columns of the table, or of ``LAYER_FACTORS``.
    drawing
        How units are weighted.
    units
        Table of units (``benchmark.schemas.UNITS``, or with a column ``unit``): for layers and unit-uniform means.

    Raises
    ------
    AnalysisError
        If there are no answers, a factor is unknown, or a unit's layer is.
    """
    if table.empty:
        raise AnalysisError("There are no answers to estimate a proportion from: the table of judgements is empty.")
    named = name_units(units) if units is not None else None
    unit, unit_list = encode(table["unit"])
    person, _ = encode(table["participant"])
    model, model_list = encode(table["model"])
    columns: dict[str, tuple[Codes, NDArray[np.str_]]] = {}
    for factor in by:
        if factor in LAYER_FACTORS:
            labels = layer_labels(unit_list, named, factor)
            codes, names = encode(pd.Series(labels, name=factor))
            columns[factor] = codes[unit], names
        elif factor in table.columns:
            columns[factor] = encode(table[factor])
        else:
            raise NameNotFound("factor", factor, [*table.columns, *LAYER_FACTORS])
    cell = np.zeros(len(table), dtype=np.int64)
    for codes, names in columns.values():
        cell = cell * len(names) + codes
    cell, kept = _compact(cell)
    left, rows = kept, {}
    for factor in reversed(list(columns)):
        names = columns[factor][1]
        rows[factor] = names[left % len(names)]
        left = left // len(names)
    cells = pd.DataFrame({factor: rows[factor] for factor in by}, index=range(len(kept)))
    weight = known_weights(pd.Series(unit_list), named, drawing)
    correct = table["correct"].to_numpy(dtype=np.float64)
    if not np.isin(correct, (0.0, 1.0)).all():
        raise AnalysisError("The column 'correct' of the judgements holds something else than 0 and 1.")
    return Answers(correct, cell, unit, person, model, cells, weight, unit_list, model_list)


def name_units(units: pd.DataFrame) -> pd.DataFrame:
    """Return a table of units with the column ``unit``, spelled as in judgements."""
    if "unit" in units.columns:
        return units.astype({"unit": str})
    missing = [name for name in UNIT_COLUMNS if name not in units.columns]
    if missing:
        raise AnalysisError(f"The table of units has neither the column 'unit' nor {', '.join(missing)}.")
    return units.assign(unit=unit_names(units).astype(str))


def layer_labels(unit_list: NDArray[np.str_], named: pd.DataFrame | None, factor: str) -> list[str]:
    """Return each unit's type of layer, or third of depth.

    Raises
    ------
    AnalysisError
        If the table of units is missing, or does not know a unit.
    """
    column = {"layer_type": "kind", "depth": "depth"}[factor]
    if named is None or column not in named.columns:
        raise AnalysisError(f"The factor {factor!r} needs the table of units, with the column {column!r}.")
    facts = named.drop_duplicates("unit").set_index("unit")[column].reindex(unit_list)
    if facts.isna().any():
        raise AnalysisError(
            f"The table of units says nothing of {int(facts.isna().sum())} of {len(unit_list)} units "
            f"(first: {unit_list[int(facts.isna().to_numpy().argmax())]})."
        )
    if factor == "layer_type":
        return [str(value) for value in facts]
    return [DEPTHS[min(int(3 * value), 2)] if 3 * value != int(3 * value) or value == 0 else
            DEPTHS[min(int(3 * value) - 1, 2)] for value in facts.astype(float)]  # fmt: skip


# ---------------------------------------------------------------------------------------- means and their variances


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
        return np.maximum(by_units + by_people - self.variances("crossings"), np.maximum(by_units, by_people))

    @property
    def freedom(self) -> Floats:
        """Satterthwaite's degrees of freedom of the two-way variance, shape (cells,), at least 1."""
        by_units, by_people = self.variances("units"), self.variances("people")
        return satterthwaite(
            self.two_way, by_units, np.maximum(self.counts["units"] - 1.0, 1.0), by_people,
            np.maximum(self.counts["people"] - 1.0, 1.0),
        )  # fmt: skip


def satterthwaite(
    total: Floats, first: Floats, first_freedom: Floats, second: Floats, second_freedom: Floats
) -> Floats:
    """Return the degrees of freedom of a two-way variance, at least 1.

    They lie between those of the smaller sample and the sum of both: Satterthwaite (1946), An approximate distribution
    of estimates of variance components, Biometrics Bulletin 2.
    """
    squares = first**2 / first_freedom + second**2 / second_freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(squares > 0, total**2 / squares, np.minimum(first_freedom, second_freedom))
    result: Floats = np.clip(freedom, np.minimum(first_freedom, second_freedom), first_freedom + second_freedom)
    return np.maximum(result, 1.0)


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
        scale = np.sqrt(count / np.maximum(count - 1.0, 1.0))
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


# ------------------------------------------------------------------------------------------------------- intervals


def wilson_interval(value: float, count: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's interval (1927, equation 5) of a proportion of so many answers, or effective answers.

    Parameters
    ----------
    value
        The proportion.
    count
        Answers that it rests on: need not be whole.
    quantile
        Of the standard normal, or of Student's t where ``count`` comes from an estimated variance.
    """
    square = quantile**2 / count
    middle = (value + square / 2) / (1 + square)
    half = quantile * math.sqrt(value * (1 - value) / count + square / (4 * count)) / (1 + square)
    return max(min(middle - half, value), 0.0), min(max(middle + half, value), 1.0)


def bound_proportion(value: float, variance: float, freedom: float, least: float, level: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion with an estimated variance.

    The effective number of answers is the one whose binomial variance is as large, and never more than ``least``'s,
    the variance of independent answers: no clustering makes a mean surer than that.

    Parameters
    ----------
    value, variance, freedom
        The proportion, its variance, and the degrees of freedom of that variance.
    least
        Variance of the proportion were all answers independent.
    level
        Coverage.
    """
    count = value * (1 - value) / max(variance, least)
    return wilson_interval(value, count, float(t.ppf((1 + level) / 2, freedom)))


def estimate_proportions(
    table: pd.DataFrame,
    by: Sequence[str] = ("model", "condition"),
    *,
    interval: Interval | None = None,
    scope: Scope | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> Proportions:
    """Estimate the proportion correct of every cell.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Factors that make a cell: ``model``, ``condition``, ``difficulty``, ``references``, ``unit``, ``layer``, and,
        with the table of units, ``layer_type`` and ``depth`` (thirds of the model).
    interval
        How the interval is made; the default follows from ``scope``, and is "two-way" if neither is given. A single
        unit is no sample of units: by unit, "two-way" becomes "people".
    scope
        What the estimate is to speak for.
    drawing
        Layer-uniform, or unit-uniform (which needs ``units``).
    mean
        Whether units, or answers, count alike within a cell.
    units
        Table of units: ``benchmark.schemas.UNITS``, or with a column ``unit`` and ``kind``, ``depth``, ``width``.
    level
        Coverage of the intervals.
    seed
        Of the bootstraps.

    Returns
    -------
    One cell for each combination that has answers, in the order of their names.

    Raises
    ------
    AnalysisError
        If there are no answers, or the interval does not speak for the scope.
    """
    how = _choose_interval(interval, scope, by)
    if isinstance(by, str):
        by = (by,)
    answers = read_answers(table, by, drawing=drawing, units=units)
    means = cluster_means(answers, mean=mean, clusters="models" if how == "models" else "units")
    rows = np.split(np.argsort(answers.cell, kind="stable"), np.cumsum(means.counts["answers"])[:-1])
    errors = standard_errors(means)
    frame = answers.cells.to_dict("records")
    units_in = means.counts["units"] if how != "models" else _count_distinct(answers.cell, answers.unit)
    cells = []
    for number, names in enumerate(frame):
        estimate = _estimate_cell(means, number, rows[number], how, drawing, mean, level, seed)
        cells.append(
            ProportionCell(
                names={str(key): str(value) for key, value in names.items()},
                estimate=estimate,
                units=int(units_in[number]),
                people=int(means.counts["people"][number]),
                answers=int(means.counts["answers"][number]),
                right=int(means.counts["right"][number]),
                errors=errors[number],
                components=_components(answers, rows[number]),
            )
        )
    return Proportions(tuple(by), tuple(cells))


def _choose_interval(interval: Interval | None, scope: Scope | None, by: Sequence[str]) -> Interval:
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
            f"The interval {how!r} speaks for {SPEAKS_FOR[how]!r}, not {scope!r}; that takes {' or '.join(fitting)}."
        )
    if how == "models" and "model" in by:
        raise AnalysisError("An estimate for new models is a mean over models: leave 'model' out of the factors.")
    if "unit" in by and how == "two-way" and scope is None:
        return "people"
    return how


def _count_distinct(cell: Codes, code: Codes) -> Codes:
    """Return how many different codes occur in each cell."""
    distinct = np.unique(cell * (int(code.max()) + 1) + code)
    return np.bincount(distinct // (int(code.max()) + 1)).astype(np.int64)


def standard_errors(means: ClusteredMeans) -> list[StandardErrors]:
    """Return the standard errors of every cell, by source."""
    columns = (means.binomial, means.variances("people"), means.variances("units"), means.two_way)
    return [StandardErrors(*(math.sqrt(value) for value in row)) for row in np.stack(columns, axis=1).tolist()]


def _components(answers: Answers, rows: Codes) -> Components | None:
    """Return the variance components of one cell."""
    right = answers.correct[rows]
    sides = []
    for codes in (answers.unit[rows], answers.person[rows]):
        own = np.unique(codes, return_inverse=True)[1]
        sides += [np.bincount(own), np.bincount(own, right)]
    return split_variance(*sides)


def _estimate_cell(
    means: ClusteredMeans,
    number: int,
    rows: Codes,
    how: Interval,
    drawing: Drawing,
    mean: Mean,
    level: float,
    seed: int,
) -> Estimate:
    """Return the estimate of one cell."""
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
        low, high = wilson_interval(value, effective, float(norm.ppf((1 + level) / 2)))
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
        low, high = wilson_interval(value, min(units, people), float(norm.ppf((1 + level) / 2)))
        return result(
            low,
            high,
            f"Wilson interval for {min(units, people):,} independent answers, because all agree ({size})",
            units,
        )
    if how == "two-way bootstrap":
        draws = bootstrap_two_way(means, rows, seed=seed)
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
        method = f"two-way bootstrap over {over} and participants ({size}; {BOOTSTRAPS:,} resamples, percentiles)"
        return result(float(low), float(high), method, units)
    if how == "variance components":
        parts = _components(means.answers, rows)
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
    normal = float(norm.ppf((1 + level) / 2))
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
    from analysis.performance import estimate_mean

    answers = means.answers
    unit, kept = np.unique(answers.unit[rows], return_inverse=True)[1], np.unique(answers.unit[rows])
    each = np.bincount(unit)
    weights = answers.weight[kept] * (each if mean == "answers" else 1.0)
    shares = np.bincount(unit, answers.correct[rows]) / each
    found = estimate_mean(shares, weights=weights, unit=UNIT, seed=seed, estimand=estimand, level=level)
    return replace(found, method=f"{found.method}; {kind}")


def bootstrap_two_way(means: ClusteredMeans, rows: Codes, *, seed: int, resamples: int = BOOTSTRAPS) -> Floats:
    """Resample units and participants of one cell, each with replacement (Owen, 2007).

    Answers are weighted by how often their unit and their participant were drawn; nothing is copied. Units and people
    are ordered by their answers before anything is drawn, so that names do not matter.

    Returns
    -------
    Shape (resamples,): the mean in each resample. A resample without any answer is left out, which only tiny data have.
    """
    answers = means.answers
    unit = np.unique(answers.unit[rows], return_inverse=True)[1]
    person = np.unique(answers.person[rows], return_inverse=True)[1]
    correct, shares = answers.correct[rows], means.shares[rows]
    unit, person = _order_by_answers(unit, person, correct)
    units, people = int(unit.max()) + 1, int(person.max()) + 1
    shape = (units, people)
    asked = sparse.coo_array((shares, (unit, person)), shape=shape).tocsr()
    right = sparse.coo_array((shares * correct, (unit, person)), shape=shape).tocsr()
    rng = np.random.default_rng(seed)
    results = []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        of_units = rng.multinomial(units, np.full(units, 1 / units), size).astype(np.float64)
        of_people = rng.multinomial(people, np.full(people, 1 / people), size).astype(np.float64)
        weight = ((of_units @ asked) * of_people).sum(axis=1)
        hits = ((of_units @ right) * of_people).sum(axis=1)
        results.append(hits[weight > 0] / weight[weight > 0])
    return np.concatenate(results)


def _order_by_answers(unit: Codes, person: Codes, correct: Floats) -> tuple[Codes, Codes]:
    """Renumber units and people by what was answered, whatever they are called.

    Colours are refined in rounds, as in the test of Weisfeiler & Leman (1968): a unit's colour sums up the colours of
    the people who answered about it, and how; people's, those of units. What ends with the same colour is alike.
    """
    marks = correct.astype(np.uint64) + np.uint64(1)
    of_units, of_people = np.zeros(unit.max() + 1, np.uint64), np.zeros(person.max() + 1, np.uint64)
    for _ in range(4):
        to_units, to_people = (
            _mix(of_people[person] * np.uint64(3) + marks),
            _mix(of_units[unit] * np.uint64(5) + marks),
        )
        next_units, next_people = of_units.copy(), of_people.copy()
        np.add.at(next_units, unit, to_units)
        np.add.at(next_people, person, to_people)
        of_units, of_people = _mix(next_units), _mix(next_people)
    return _rank(of_units)[unit], _rank(of_people)[person]


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter whole numbers over all 64 bits (the finisher of Steele, Lea & Flood's SplitMix64, 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _rank(colours: NDArray[np.uint64]) -> Codes:
    """Return the place of each colour in their order."""
    place = np.empty(len(colours), dtype=np.int64)
    place[np.argsort(colours, kind="stable")] = np.arange(len(colours))
    return place


# --------------------------------------------------------------------------------------------------- side by side


@dataclass(frozen=True)
class Intervals:
    """Every interval for one proportion, side by side.

    Attributes
    ----------
    estimates
        By name of the interval.
    errors
        Standard errors by source.
    pigeonhole
        Standard error by the two-way bootstrap.
    components
        Variance components; None where they can't be told apart.
    """

    estimates: dict[Interval, Estimate]
    errors: StandardErrors
    pigeonhole: float
    components: Components | None

    def table(self) -> pd.DataFrame:
        """Return one row an interval."""
        return pd.DataFrame([{"interval": name, **own.as_dict()} for name, own in self.estimates.items()])


def compare_intervals(
    table: pd.DataFrame,
    *,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> Intervals:
    """Return all intervals for the proportion correct in a table of judgements, taken as one cell.

    Parameters
    ----------
    table
        Judgements of the cell: one model and condition, say.
    drawing, mean, units, level, seed
        As in :func:`estimate_proportions`.

    Returns
    -------
    Every interval but the one for new models.

    Raises
    ------
    AnalysisError
        If there are no answers.
    """
    answers = read_answers(table, (), drawing=drawing, units=units)
    means = cluster_means(answers, mean=mean)
    rows = np.arange(len(answers.correct))
    names: list[Interval] = [name for name in get_args(Interval) if name != "models"]
    estimates = {name: _estimate_cell(means, 0, rows, name, drawing, mean, level, seed) for name in names}
    draws = bootstrap_two_way(means, rows, seed=seed)
    return Intervals(
        estimates, standard_errors(means)[0], float(draws.std(ddof=1)) if len(draws) > 1 else 0.0,
        _components(answers, rows),
    )  # fmt: skip
