"""What an estimate generalises to: stated in every estimate, in the same words everywhere.

Two choices make an estimand. *Scope*: the very models, units and people at hand; these models, but new units and
people like those (what a leaderboard means); or new models of such sizes (what a claim of scaling means). Wider scope,
more sources of luck, wider interval. *Drawing*: units were drawn a layer uniformly, then a unit in it; the mean over
such units weights every layer alike (layer-uniform). The mean over all units of the model (unit-uniform) weights each
drawn unit by the width of its layer.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import AnalysisError
from benchmark.units import UNIT_COLUMNS, unit_names

Scope = Literal["these units and people", "new people", "new units", "new units and people", "new models"]
Drawing = Literal["layer-uniform", "unit-uniform"]

_SCOPES: dict[Scope, tuple[str, str, str]] = {
    "these units and people": ("these models", "these units", "these people"),
    "new people": ("these models", "these units", "new people"),
    "new units": ("these models", "new units", "these people"),
    "new units and people": ("these models", "new units", "new people"),
    "new models": ("new models", "new units", "new people"),
}
"""Of each scope: which models, units and people an estimate speaks for."""

SCOPES: tuple[Scope, ...] = tuple(_SCOPES)


def spell_estimand(scope: Scope, drawing: Drawing = "layer-uniform", observer: str = "") -> str:
    """Return the words for an estimand, as they stand in ``Estimate.estimand``.

    Parameters
    ----------
    scope
        Which models, units and people it speaks for.
    drawing
        How units are weighted.
    observer
        Name of a machine observer: it takes the place of the people.
    """
    models, units, people = _SCOPES[scope]
    if observer:
        return f"{models}, {units}; {drawing}; by {observer}"
    if units.split()[0] == people.split()[0]:
        units, people = f"{units} and {people.split()[1]}", ""
    return ", ".join(part for part in (models, units, people) if part) + f"; {drawing}"


def name_units(units: pd.DataFrame) -> pd.DataFrame:
    """Return a table of units with the column ``unit``, spelled as in judgements."""
    if "unit" in units.columns:
        return units.astype({"unit": str})
    missing = [name for name in UNIT_COLUMNS if name not in units.columns]
    if missing:
        raise AnalysisError(f"The table of units has neither the column 'unit' nor {', '.join(missing)}.")
    return units.assign(unit=unit_names(units).astype(str))


def unit_weights(units: pd.Series, layers: pd.DataFrame, drawing: Drawing) -> NDArray[np.float64]:
    """Return the weight of each unit in a mean.

    Parameters
    ----------
    units
        Names of units.
    layers
        One row a unit, with the columns ``unit``, ``model`` and ``width`` (units in its layer).
    drawing
        Layer-uniform weights are all 1; unit-uniform ones are the widths of the layers.

    Returns
    -------
    Shape (units,): weights with mean 1 within each model. With unit-uniform drawing, NaN where a width is unknown.
    """
    if drawing == "layer-uniform":
        return np.ones(len(units))
    facts = layers.drop_duplicates("unit").set_index("unit").reindex(units)
    width = facts["width"].to_numpy(dtype=np.float64)
    mean = pd.Series(width).groupby(facts["model"].astype(str).to_numpy()).transform("mean").to_numpy()
    weights: NDArray[np.float64] = width / mean
    return weights


def known_weights(units: pd.Series, layers: pd.DataFrame | None, drawing: Drawing) -> NDArray[np.float64]:
    """Return the weight of each unit in a mean, or refuse where a weight is not known.

    Raises
    ------
    AnalysisError
        With unit-uniform drawing, if there is no table of units, or a unit's layer has no width in it.
    """
    if drawing == "layer-uniform":
        return np.ones(len(units))
    if layers is None or not {"unit", "model", "width"} <= set(layers.columns):
        raise AnalysisError(
            "The unit-uniform mean weights each unit by the width of its layer: give the table of units, with the "
            "columns unit, model and width."
        )
    weights = unit_weights(units, layers, drawing)
    unknown = ~(weights > 0)
    if unknown.any():
        raise AnalysisError(
            f"The table of units lacks the layer's width for {int(unknown.sum())} of {len(units)} units (first: "
            f"{units.iloc[int(unknown.argmax())]}). The unit-uniform mean needs it for all units."
        )
    return weights
