"""Proportion correct per unit, model, condition, difficulty and layer, with intervals that name their scope.

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
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from analysis.estimands import Drawing, Scope
from analysis.proportions.answers import Codes, read_answers
from analysis.proportions.clustered_means import ClusteredMeans, Mean, cluster_means
from analysis.proportions.intervals import Interval, cell_components, choose_interval, estimate_cell
from analysis.results import AnalysisResult, Plotted, Record, name_row
from analysis.settings import Settings, choose
from analysis.threads import threaded
from analysis.variance_components import Components
from benchmark.errors import NameNotFound
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class StandardErrors(Record):
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
class ProportionCell(Record):
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
        Variance between units, people and answers; None where they can't be distinguished.
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
            **name_row(self.names, self.estimate),
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
class Proportions(Plotted, AnalysisResult):
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

    def _draw(self, **options: Any) -> Any:
        """Draw models below one another with their conditions side by side; other cells below one another."""
        from analysis.figures import plot_estimates, plot_model_comparison

        table = self.frame()
        if self.by == ("model", "condition"):
            return plot_model_comparison(table, **options)
        label = table[list(self.by)].astype(str).agg(", ".join, axis=1) if self.by else "all answers"
        asked = {"value_label": "proportion correct", "level": 0.5, "level_label": "chance", **options}
        return plot_estimates(table.assign(label=label), **asked)

    def readable(self) -> pd.DataFrame:
        """Return one row a cell as people read it."""
        return pd.DataFrame(
            [
                {
                    **cell.names, "proportion correct": str(cell.estimate), "units": cell.units, "people": cell.people,
                    "answers": cell.answers,
                }
                for cell in self.cells
            ]
        )  # fmt: skip

    @property
    def caption(self) -> str:
        """What the proportions generalise to, and how their intervals were computed, if that is the same for all."""
        said = dict.fromkeys(f"for {own.estimand}" for own in (cell.estimate for cell in self.cells) if own.estimand)
        levels = dict.fromkeys(f"{100 * cell.estimate.level:g} % intervals" for cell in self.cells)
        return f"Proportion correct, {' or '.join(levels)}, {' or '.join(said)}.".replace(", .", ".")

    def frame(self) -> pd.DataFrame:
        """Return one row a cell: names, estimate, counts, standard errors and variance components."""
        return pd.DataFrame([cell.row() for cell in self.cells])


@threaded
def estimate_proportions(
    table: pd.DataFrame,
    by: Sequence[str] = ("model", "condition"),
    *,
    interval: Interval | None = None,
    scope: Scope | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    **settings: Unpack[Settings],
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
    settings
        As for every estimator: :class:`Settings`.

    Returns
    -------
    One cell for each combination that has answers, in the order of their names.

    Raises
    ------
    AnalysisError
        If there are no answers, or the interval does not speak for the scope.
    """
    chosen = choose(settings)
    how = choose_interval(interval, scope, by)
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
        estimate = estimate_cell(means, number, rows[number], how, drawing, mean, chosen)
        cells.append(
            ProportionCell(
                names={str(key): str(value) for key, value in names.items()},
                estimate=estimate,
                units=int(units_in[number]),
                people=int(means.counts["people"][number]),
                answers=int(means.counts["answers"][number]),
                right=int(means.counts["right"][number]),
                errors=errors[number],
                components=cell_components(answers, rows[number]),
            )
        )
    return Proportions(tuple(by), tuple(cells))


def _count_distinct(cell: Codes, code: Codes) -> Codes:
    """Return how many different codes occur in each cell."""
    distinct = np.unique(cell * (int(code.max()) + 1) + code)
    return np.bincount(distinct // (int(code.max()) + 1)).astype(np.int64)


def standard_errors(means: ClusteredMeans) -> list[StandardErrors]:
    """Return the standard errors of every cell, by source."""
    columns = (means.binomial, means.variances("people"), means.variances("units"), means.two_way)
    return [StandardErrors(*(math.sqrt(value) for value in row)) for row in np.stack(columns, axis=1).tolist()]
