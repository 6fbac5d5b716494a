"""What an estimate speaks for: said in every estimate, in the same words everywhere.

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

Scope = Literal["these units and people", "new units and people", "new units", "new models"]
Drawing = Literal["layer-uniform", "unit-uniform"]

_SCOPES: dict[Scope, str] = {
    "these units and people": "these models, these units and people",
    "new units and people": "these models, new units and people",
    "new units": "these models, new units, these people",
    "new models": "new models, new units and people",
}


def spell_estimand(scope: Scope, drawing: Drawing = "layer-uniform", observer: str = "") -> str:
    """Return the words for an estimand, as they stand in ``Estimate.estimand``."""
    return f"{_SCOPES[scope]}; {drawing}" + (f"; by {observer}" if observer else "")


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
