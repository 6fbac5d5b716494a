"""Means of models in one condition, with the errors of all their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.comparison.joint_means import JointMeans, join_means, spell_sharing
from analysis.estimands import Drawing
from analysis.judgement_table import plain
from analysis.proportions import Answers, Mean, cluster_means, read_answers
from analysis.proportions.answers import Codes
from analysis.same_units import check_one_model_a_name, group_models
from benchmark.errors import AnalysisError, NameNotFound


def model_means(
    table: pd.DataFrame,
    *,
    condition: str | None = None,
    models: Sequence[str] | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    same_units: Mapping[str, str] | None = None,
) -> JointMeans:
    """Return the models' means in a condition, with the errors of all their differences.

    Models are paired by unit where their units are the same (``analysis.same_units``): a model and its twin, and what
    ``same_units`` declares. Whether names of units coincide otherwise does not matter.

    Raises
    ------
    AnalysisError, NameNotFound
        As in :func:`compare_models`.
    """
    own = choose_condition(table, condition)
    if models is not None:
        known = sorted(own["model"].astype(str).unique())
        for name in models:
            if name not in known:
                raise NameNotFound("model with answers", name, known)
        own = own[own["model"].isin(models)]
    if own["model"].nunique() < 2:
        raise AnalysisError("A comparison needs at least two models with answers.")
    check_one_model_a_name(own)
    answers = read_answers(own, ("model",), drawing=drawing, units=units)
    places = _places(answers, group_models(answers.model_names.tolist(), same_units))
    means = cluster_means(answers, mean=mean, unit_clusters=places)
    names = answers.cells["model"].tolist()
    return join_means(means, names, spell_sharing(means, "models", names))


def choose_condition(table: pd.DataFrame, condition: str | None) -> pd.DataFrame:
    """Return the judgements of one condition.

    Raises
    ------
    AnalysisError
        If none is named and there are several.
    NameNotFound
        If there are no answers in the one that is named.
    """
    table = plain(table)
    known = sorted(table["condition"].astype(str).unique())
    if condition is None:
        if len(known) > 1:
            raise AnalysisError(f"The judgements mix the conditions {', '.join(known)}: name one with condition=....")
        return table
    if str(condition) not in known:
        raise NameNotFound("condition with answers", str(condition), known)
    return table[table["condition"] == str(condition)]


def _places(answers: Answers, groups: Mapping[str, str]) -> Codes:
    """Return for each unit the number of its place: the group of its model, and its name without the model's."""
    model_of = np.zeros(len(answers.unit_names), dtype=np.int64)
    model_of[answers.unit] = answers.model
    models = answers.model_names[model_of].tolist()
    own = [(groups[model], unit.removeprefix(f"{model}/")) for unit, model in zip(answers.unit_names.tolist(), models)]
    numbers = {place: number for number, place in enumerate(sorted(set(own)))}
    return np.array([numbers[place] for place in own], dtype=np.int64)
