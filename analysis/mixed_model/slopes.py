"""The slope on a property of models, by the mixed model on single answers: the third rung of the ladder of scaling."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.estimands import Drawing, spell_estimand
from analysis.mixed_model.design import split_random
from analysis.mixed_model.fit import MixedModel, MixedModelFit
from analysis.mixed_model.marginal_means import integrate
from analysis.scaling.predictors import Predictor
from analysis.scaling.regression import make_slope
from analysis.scaling.results import MixedModelSlope
from benchmark.errors import AnalysisError

COLUMN = "predictor"


def slopes_from(
    table: pd.DataFrame, model: MixedModel, drawing: Drawing = "layer-uniform"
) -> Callable[[str, Predictor, pd.Series], MixedModelSlope | str]:
    """Return the function that fits the slopes of a table of judgements.

    Parameters
    ----------
    table
        Judgements of all conditions.
    model
        Link, lapse, method and random effects; its fixed effects are replaced by the predictor.
    drawing
        How units were drawn, for the estimand. The model weights every answer alike.

    Returns
    -------
    From condition, predictor and its values by model to the slope, or to the reason why there is none: what
    :func:`analysis.scaling.fit_scaling` takes as ``mixed_model``.
    """

    def fit(condition: str, predictor: Predictor, values: pd.Series) -> MixedModelSlope | str:
        if values.index.has_duplicates:
            name = values.index[values.index.duplicated()][0]
            return f"Two models are called {str(name)!r}: models of one name are not merged. Name them apart."
        own = table[(table["condition"] == condition) & table["model"].isin(values.index)]
        placed = own["model"].astype(str).map(values).to_numpy(dtype=np.float64)
        asked = own.assign(**{COLUMN: placed - float(values.mean())})
        try:
            random = None if model.random is None else _within_condition(model.random)
            fitted = replace(model, fixed=(COLUMN,), random=random).fit(asked)
            return slope_of(fitted, predictor, drawing)
        except AnalysisError as error:
            return str(error)

    return fit


def _within_condition(random: Sequence[str]) -> tuple[str, ...]:
    """Leave out what only tells conditions apart."""
    kept = []
    for name in random:
        effects, group = split_random(name)
        if "condition" not in group.split(":"):
            kept.append(group if re.search(r"\bcondition\b", effects) else name)
    return tuple(dict.fromkeys(kept))


def slope_of(fit: MixedModelFit, predictor: Predictor, drawing: Drawing = "layer-uniform") -> MixedModelSlope:
    """Return a fit's slope, on the scale of the link and on that of proportions.

    The slope of the proportion is the average over answers of the derivative of the marginal mean, integrated over the
    random effects; its standard error is the latent one times the same factor, the factor taken as known.

    Raises
    ------
    AnalysisError
        If the slope has no standard error or no degrees of freedom.
    """
    latent = fit.fixed[COLUMN]
    variance = fit.random_variance()
    _, rise, _ = integrate(fit.design.fixed @ fit.coefficients, variance, fit.model.link)
    guess = fit.design.guess if isinstance(fit.design.guess, float) else np.asarray(fit.design.guess)
    factor = float(np.mean((1 - guess - fit.model.lapse) * rise))
    slope = make_slope(
        predictor.name,
        latent.value * factor,
        fit.standard_errors[COLUMN] * factor,
        fit.freedom(COLUMN),
        n=fit.number_of_models,
        unit=predictor.unit,
        method=f"mixed model, average derivative of the marginal mean; {fit.method}",
        estimand=spell_estimand("new models", drawing),
    )
    return MixedModelSlope(latent, slope)
