"""Means of models in one condition, with the errors of all their differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.comparison.joint_means import JointMeans, join_means, spell_sharing
from analysis.estimands import Drawing
from analysis.proportions import Answers, Mean, cluster_means, read_answers
from analysis.proportions.answers import Codes
from benchmark.errors import AnalysisError, NameNotFound


def model_means(
    table: pd.DataFrame,
    *,
    condition: str | None = None,
    models: Sequence[str] | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
) -> JointMeans:
    """Return the models' means in a condition, with the errors of all their differences.

    Units at the same place of the same architecture belong together: a twin and its model share them.

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
        raise AnalysisError("A comparison needs two models with answers.")
    answers = read_answers(own, ("model",), drawing=drawing, units=units)
    places = _places(answers)
    means = cluster_means(answers, mean=mean, unit_clusters=places)
    return join_means(means, answers.cells["model"].tolist(), spell_sharing(means, "models"))


def choose_condition(table: pd.DataFrame, condition: str | None) -> pd.DataFrame:
    """Return the judgements of one condition.

    Raises
    ------
    AnalysisError
        If none is named and there are several.
    NameNotFound
        If there are no answers in the one that is named.
    """
    known = sorted(table["condition"].astype(str).unique())
    if condition is None:
        if len(known) > 1:
            raise AnalysisError(f"The judgements mix the conditions {', '.join(known)}: name the one to compare in.")
        return table
    if condition not in known:
        raise NameNotFound("condition with answers", condition, known)
    return table[table["condition"] == condition]


def _places(answers: Answers) -> Codes:
    """Return for each unit the number of its place: its name without the model's.

    Names that don't begin with their model's are places of their own.
    """
    model_of = np.zeros(len(answers.unit_names), dtype=np.int64)
    model_of[answers.unit] = answers.model
    names = [
        unit.removeprefix(f"{answers.model_names[model]}/")
        for unit, model in zip(answers.unit_names.tolist(), model_of.tolist())
    ]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
