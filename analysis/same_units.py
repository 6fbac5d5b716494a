"""Which models have the same units, and may be paired; and which models only share a name.

Units of two models are the same where the models are: a model and its random-weight twin, which has the same places of
the same architecture; a treated model and the parent that it was made from; or models that a data set declares to have
the same units. Nothing follows from names: three ResNet-50s with different weights share one list of layers and
channels, and channel 17 of one has nothing to do with channel 17 of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from benchmark.errors import AnalysisError
from benchmark.model_card import TWIN_SUFFIX

SAME_UNITS = "same_units_as"
"""Column of a table of models: the model whose units these are, too."""

PARENT = "parent"
"""Column of a table of models: the model that this one was made from, place by place."""

VERSIONS = (
    "weights", "weights_hash", "version", "model_version", "revision", "checkpoint", "family", "parameters",
    "training_images", "samples_seen", "top1", "year",
)  # fmt: skip
"""Columns that hold one value for a model: where they hold several, several models go by one name."""


def read_same_units(models: pd.DataFrame | None) -> dict[str, str]:
    """Return what a table of models declares: from a model to the one whose units it has, too.

    Parameters
    ----------
    models
        One row a model, with the column ``model`` and maybe ``same_units_as`` and ``parent``; None declares nothing.
    """
    declared: dict[str, str] = {}
    for column in (PARENT, SAME_UNITS):
        if models is None or column not in models:
            continue
        for model, other in zip(models["model"].astype(str), models[column].astype(object)):
            if isinstance(other, str) and other.strip():
                declared[model] = other.strip()
    return declared


def group_models(names: Iterable[str], same_units: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return for each model the name of its group: models of one group have the same units.

    Parameters
    ----------
    names
        Names of models. ``net-twin`` is the twin of ``net``.
    same_units
        From a model to the one whose units it has, too: what a data set declares (``Dataset.same_units``).
    """
    group: dict[str, str] = {}

    def find(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    def join(one: str, other: str) -> None:
        first, second = sorted((find(one), find(other)))
        group[second] = first

    known = [str(name) for name in names]
    for name in known:
        join(name, name.removesuffix(TWIN_SUFFIX))
    for name, other in (same_units or {}).items():
        join(str(name), str(other))
        join(str(other), str(other).removesuffix(TWIN_SUFFIX))
    return {name: find(name) for name in known}


def check_one_model_a_name(table: pd.DataFrame, model: str = "model") -> None:
    """Refuse a table in which several models share a name.

    Parameters
    ----------
    table
        One row an answer. Columns that hold a model's weights, version or size are looked at, if there are any.
    model
        Column that names the models.

    Raises
    ------
    AnalysisError
        Naming the model, the column, and its values.
    """
    if model not in table:
        return
    for column in VERSIONS:
        if column == model or column not in table or table.columns.duplicated().any():
            continue
        own = table[[model, column]].astype(object)
        pairs = own[own[column].notna()].drop_duplicates()
        several = pairs[model].duplicated(keep=False)
        if several.any():
            name = pairs.loc[several, model].iloc[0]
            values = pairs.loc[pairs[model] == name, column].map(str).tolist()
            raise AnalysisError(
                f"The name {str(name)!r} stands for {len(values)} models: the column {column!r} holds "
                f"{', '.join(values[:4])}{', …' if len(values) > 4 else ''} for it. vimi does not merge models that "
                f"share a name. Give each its own name, e.g. table.assign({model}=table.{model}.astype(str) + '@' + "
                f"table.{column}.astype(str)), and rename their units too. If the column does not describe models, "
                "drop it."
            )
