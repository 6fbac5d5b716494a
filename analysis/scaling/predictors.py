"""What interpretability is regressed on: named predictors of models, each with its unit of measurement.

A predictor is declared: it has a name, comes from one column of a table of models, and says in which unit its slope
is read (a decade, ten points). Only declared predictors can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import AnalysisError, NameNotFound
from benchmark.model_sources import load_card

if TYPE_CHECKING:
    from benchmark.study import Study


LEAST_MODELS = 4
"""Fewer models carry no slope, whatever the predictor."""


@dataclass(frozen=True)
class Predictor:
    """A property of models that a slope may be asked for.

    Attributes
    ----------
    name
        Its name, as in plans and families.
    column
        Column of the table of models that it is made from.
    transform
        From the column's values to the scale of the regression.
    step
        What one unit of that scale is, for "proportion correct per ...".
    label
        For the axis of a figure.
    least_range
        Models that span less of the scale carry no slope.
    """

    name: str
    column: str
    transform: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    step: str
    label: str
    least_range: float

    @property
    def unit(self) -> str:
        """Unit of measurement of the slope of a proportion correct."""
        return f"proportion correct per {self.step}"


PREDICTORS: dict[str, Predictor] = {
    predictor.name: predictor
    for predictor in (
        Predictor("parameters", "parameters", np.log10, "decade of parameters", "log10 parameters", 0.5),
        Predictor(
            "training images", "training_images", np.log10, "decade of training images", "log10 training images", 0.5
        ),
        Predictor("accuracy", "top1", lambda share: 10 * share, "10 points of accuracy", "top-1 in 10 points", 0.5),
        Predictor("samples seen", "samples_seen", np.log10, "decade of samples seen", "log10 samples seen", 0.5),
        Predictor("year", "year", lambda year: year, "year", "year", 2.0),
    )
}
"""The declared predictors. Accuracy is a share in the table (.7613), and its slope is read per 10 points.

"Training images" counts distinct pictures; "samples seen" counts every showing. Models that saw two thousand million
pictures for thirty-four thousand million samples differ much in the one and less in the other.
"""

_POSITIVE = ("parameters", "training images", "samples seen")


def find_predictor(name: str) -> Predictor:
    """Return a declared predictor.

    Raises
    ------
    NameNotFound
        If there is none of that name.
    """
    if name not in PREDICTORS:
        raise NameNotFound("predictor", name, PREDICTORS)
    return PREDICTORS[name]


def predictor_values(models: pd.DataFrame, name: str) -> pd.Series:
    """Return a predictor on the scale of its regression.

    Parameters
    ----------
    models
        One row a model, with the column ``model`` and the predictor's own.
    name
        Name of the predictor.

    Returns
    -------
    Indexed by model; models whose value is missing are left out.

    Raises
    ------
    AnalysisError
        If a model has two rows, the column is missing, or a value can't be on this scale.
    """
    predictor = find_predictor(name)
    for column in ("model", predictor.column):
        if column not in models.columns:
            raise AnalysisError(f"The table of models has no column {column!r}, which the predictor {name!r} needs.")
    twice = models["model"][models["model"].duplicated()]
    if len(twice):
        raise AnalysisError(f"The table of models has two rows for {twice.iloc[0]}.")
    raw = models.set_index(models["model"].astype(str))[predictor.column].astype(np.float64).dropna()
    wrong = ~np.isfinite(raw) | (raw <= 0 if name in _POSITIVE else False)
    if name == "accuracy":
        wrong |= (raw < 0) | (raw > 1)
    if wrong.any():
        model = raw.index[int(np.asarray(wrong).argmax())]
        kind = "a share between 0 and 1" if name == "accuracy" else "a positive number"
        raise AnalysisError(f"{predictor.column} of {model} is {raw[model]:g}; it must be {kind}.")
    return pd.Series(predictor.transform(raw.to_numpy()), index=raw.index, name=name)


def models_from_cards(names: Iterable[str]) -> pd.DataFrame:
    """Return the table of models that model cards make.

    Parameters
    ----------
    names
        Names of cards, or ``timm:NAME``.

    Returns
    -------
    One row a model: ``model``, ``family``, ``parameters``, ``training_images`` and ``top1``; what a card does not
    know is missing.
    """
    return _table({name: load_card(name).model_dump() for name in names})


def models_from_study(study: Study) -> pd.DataFrame:
    """Return the table of a study's models, as :func:`models_from_cards` does; twins are left out.

    Parameters are those counted on the networks that were loaded.
    """
    facts = study.manifest["models"]
    return _table(
        {name: {**facts[name]["card"], "parameters": facts[name]["parameters"]} for name in study.asked_models}
    )


def _table(cards: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    rows = [
        {
            "model": name,
            "family": card["family"],
            "parameters": float(card["parameters"]) if card.get("parameters") else np.nan,
            "training_images": float(card["training"]["images"]) if card.get("training") else np.nan,
            "top1": card["accuracy"]["top1"] / 100 if card.get("accuracy") else np.nan,
        }
        for name, card in cards.items()
    ]
    return pd.DataFrame(rows, columns=["model", "family", "parameters", "training_images", "top1"])
