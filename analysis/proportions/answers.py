"""Answers as numbers: the cell, unit, person and model of each, and how much each unit counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arrays import Floats
from analysis.estimands import Drawing, known_weights, name_units
from analysis.judgement_table import plain, require, require_frame
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.protocol import Difficulty

Codes = NDArray[np.int64]

DEPTHS = ("first third", "middle third", "last third")
"""Thirds of a model's depth, by the position of the layer: up to 1/3, up to 2/3, beyond."""

ORDERS: dict[str, tuple[str, ...]] = {"depth": DEPTHS, "difficulty": get_args(Difficulty)}
"""Of factors whose values have an order of their own: that order."""

LAYER_FACTORS = {"layer_type": "what computes the layer", "depth": "which third of the model the layer lies in"}
"""Factors that come from the table of units."""


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
        What the numbers stand for. Two models may have units of one name; these are two units.
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


def encode(column: pd.Series, first: Sequence[str] = ()) -> tuple[Codes, NDArray[np.str_]]:
    """Number the values of a column: those that come first by custom in that order, the others by their names.

    Returns
    -------
    Shape (rows,): a number for each value; and the values that occur, in this order.

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
    custom = [first.index(name) if name in first else len(first) for name in names[kept]]
    order = np.lexsort((names[kept], custom))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[codes], names[kept][order]


def _compact(codes: Codes) -> tuple[Codes, Codes]:
    """Number the codes that occur without gaps; returns the new codes, and the old codes that they replace."""
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
    require_frame(table)
    if table.empty:
        raise AnalysisError("There are no answers to estimate a proportion from: the table of judgements is empty.")
    table = plain(require(table, ["unit", "participant", "model", "correct"]))
    _check_pooling(table, by)
    named = name_units(units) if units is not None else None
    person, _ = encode(table["participant"])
    model, model_list = encode(table["model"])
    unit, unit_list = encode(table["unit"])
    # One name in two models is two units.
    unit, kept_units = _compact(unit * len(model_list) + model)
    unit_list = unit_list[kept_units // len(model_list)]
    columns: dict[str, tuple[Codes, NDArray[np.str_]]] = {}
    for factor in by:
        if factor in LAYER_FACTORS:
            labels = layer_labels(unit_list, named, factor)
            codes, names = encode(pd.Series(labels, name=factor), ORDERS.get(factor, ()))
            columns[factor] = codes[unit], names
        elif factor in table.columns:
            columns[factor] = encode(table[factor], ORDERS.get(factor, ()))
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
        raise AnalysisError("The column 'correct' of the judgements must hold only 0 and 1.")
    return Answers(correct, cell, unit, person, model, cells, weight, unit_list, model_list)


def _check_pooling(table: pd.DataFrame, by: Sequence[str]) -> None:
    """Refuse to pool answers to different numbers of references.

    Raises
    ------
    AnalysisError
        Naming the numbers.
    """
    number = "references_per_side"
    if number not in table.columns or number in by or table[number].nunique() < 2:
        return
    known = [name for name in by if name in table.columns]
    within = table.groupby(known, observed=True)[number].nunique() if known else pd.Series([table[number].nunique()])
    if (within > 1).any():
        shown = ", ".join(sorted(table[number].astype(str).unique()))
        raise AnalysisError(
            f"The judgements mix different numbers of references a side ({shown}). Add references_per_side as a "
            "factor, keep the answers of one number, or make each number a condition with "
            "split_conditions(judgements)."
        )


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
            f"The table of units has no value for {int(facts.isna().sum())} of {len(unit_list)} units (first: "
            f"{unit_list[int(facts.isna().to_numpy().argmax())]})."
        )
    if factor == "layer_type":
        return [str(value) for value in facts]
    return [DEPTHS[min(int(3 * value), 2)] if 3 * value != int(3 * value) or value == 0 else
            DEPTHS[min(int(3 * value) - 1, 2)] for value in facts.astype(float)]  # fmt: skip
