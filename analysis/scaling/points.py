"""What a figure of slopes shows: models as points, lines with their bands, and why a slope is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import t

from analysis.scaling.predictors import LEAST_MODELS, PREDICTORS, predictor_values
from analysis.scaling.results import Refusal, ScalingResult, ScalingStudy


def scaling_points(
    study: ScalingStudy, means: pd.DataFrame | None = None, models: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return what the figure of slopes takes.

    Parameters
    ----------
    study
        The slopes.
    means, models
        What they were fitted to; without them a refused slope has no points.

    Returns
    -------
    Points, one row a model, condition and predictor, where there are as many models as a slope needs; slopes, one row a
    condition and predictor, or the reason why there is none; and the lines with their bands.
    """
    points, slopes, bands = [], [], []
    for result in study:
        names = {"condition": result.condition, "predictor": result.predictor}
        if isinstance(result, Refusal):
            slopes.append({**names, "slope": np.nan, "low": np.nan, "high": np.nan, "refused": result.reason})
            if means is None or models is None or len(result.models) < LEAST_MODELS:
                continue
            own = _points_of(result, means, models)
        else:
            own = result.points
            slope = result.slope.estimate
            slopes.append(
                {**names, "slope": slope.value, "low": slope.low, "high": slope.high, "refused": "", "unit": slope.unit}
            )
            bands.append(_band(result).assign(**names))
        known = own["standard_error"].to_numpy(dtype=np.float64) if "standard_error" in own else np.zeros(len(own))
        reach = 1.96 * np.nan_to_num(known)
        points.append(
            own[["model", "family", "x", "value"]].assign(
                **names, label=PREDICTORS[result.predictor].label, low=np.clip(own["value"] - reach, -1, 1),
                high=np.clip(own["value"] + reach, -1, 1),
            )
        )  # fmt: skip
    empty = pd.DataFrame()
    return (
        pd.concat(points, ignore_index=True) if points else empty,
        pd.DataFrame(slopes),
        pd.concat(bands, ignore_index=True) if bands else empty,
    )


def _points_of(result: Refusal, means: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return the points that a refused slope would have had."""
    own = means[(means["condition"] == result.condition) & means["model"].isin(result.models)]
    own = own.merge(models[["model", "family"]], on="model", how="left")
    return own.assign(x=own["model"].map(predictor_values(models, result.predictor)))


def _band(result: ScalingResult) -> pd.DataFrame:
    """Return the line of least squares with the 95 % band of the mean, at places along the predictor."""
    x = result.points["x"].to_numpy(dtype=np.float64)
    slope = result.least_squares
    centre, spread = float(x.mean()), float(((x - x.mean()) ** 2).sum())
    noise = slope.standard_error * np.sqrt(spread)  # residual standard deviation
    places = np.linspace(x.min(), x.max(), 41)
    value = result.fit.intercept + slope.value * places
    error = noise * np.sqrt(1 / len(x) + (places - centre) ** 2 / spread)
    reach = float(t.ppf(0.975, slope.degrees_of_freedom)) * error
    return pd.DataFrame({"x": places, "value": value, "low": value - reach, "high": value + reach})
