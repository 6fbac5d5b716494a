"""What kind of unit is it: statistics of its activations, and the flags that keep some units apart.

Flags have no scale: multiplying a layer's activations by any number changes none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark import schemas
from benchmark.layers import LayerMap
from benchmark.protocol import Windows
from benchmark.units import Unit, unit_columns
from stimuli.activations import Activations

CONSTANT_RANGE = 1e-8
"""Activations that differ by less than this share of their layer's median range are constant. The protocol of 2023
says 1e-8 without a unit: a protocol can say so, too."""
CONSTANT_SHARE = 1e-6
"""So are activations that differ by less than this share of their size: rounding alone moves them."""
DEAD_RANGE = 1e-3
"""A unit whose range is less than this share of its layer's median range is dead."""
SILENT_SHARE = 0.05
"""A unit is silent if nine tenths of all pictures move it over less than this share of its range."""


@dataclass(frozen=True)
class UnitStatistics:
    """Statistics of one unit's activations over a pool; the fields are those of the table."""

    flag: str
    low: float
    high: float
    mean: float
    deviation: float
    range_over_deviation: float
    relative_range: float
    positive_share: float
    central_share: float
    query_gap: float
    tie_share: float


def describe(
    column: NDArray[np.float32],
    order: NDArray[np.int64],
    layer_range: float,
    windows: Windows,
    constant_range: float = 0.0,
) -> UnitStatistics:
    """Describe a unit.

    Parameters
    ----------
    column
        Shape (pictures,): its activations.
    order
        Places of the pictures, ascending by activation.
    layer_range
        Median range of the units of its layer.
    windows
        Where its easy queries come from.
    constant_range
        The protocol's absolute bound on what is constant, if it has one.
    """
    values = column.astype(np.float64)
    ranked = values[order]
    low, high = float(ranked[0]), float(ranked[-1])
    spread, deviation = high - low, float(values.std())
    size = max(abs(low), abs(high))
    central = float(np.subtract(*np.quantile(values, [0.95, 0.05])))
    easy = windows.queries.get("easy")
    gap = np.nan
    if easy is not None and deviation > 0:
        bottom = ranked[easy.start : easy.stop]
        top = ranked[::-1][easy.start : easy.stop]
        gap = float((top.mean() - bottom.mean()) / deviation)
    if spread < constant_range or spread <= CONSTANT_RANGE * layer_range or spread <= CONSTANT_SHARE * size:
        flag = "constant"
    elif spread < DEAD_RANGE * layer_range:
        flag = "dead"
    elif central < SILENT_SHARE * spread:
        flag = "silent"
    else:
        flag = ""
    tied = np.zeros(len(ranked), dtype=bool)
    equal = ranked[1:] == ranked[:-1]
    tied[1:] |= equal
    tied[:-1] |= equal
    return UnitStatistics(
        flag=flag,
        low=low,
        high=high,
        mean=float(values.mean()),
        deviation=deviation,
        range_over_deviation=spread / deviation if deviation > 0 else np.nan,
        relative_range=spread / layer_range if layer_range > 0 else np.nan,
        positive_share=float((values > 0).mean()),
        central_share=central / spread if spread > 0 else np.nan,
        query_gap=gap,
        tie_share=float(tied.mean()),
    )


def layer_ranges(activations: Activations, layer_map: LayerMap) -> dict[str, float]:
    """Return the median range of each layer's units, constant ones left out."""
    low, high = (side.values[:, 0].astype(np.float64) for side in (activations.low, activations.high))
    result: dict[str, float] = {}
    for layer in layer_map.layers:
        ends = np.stack([side[layer.columns] * layer.scale + layer.shift for side in (low, high)])
        own = np.abs(ends[1] - ends[0])
        own = own[own > CONSTANT_SHARE * np.abs(ends).max(axis=0)]
        result[layer.space] = float(np.median(own)) if len(own) else 0.0
    return result


def statistics_table(units: list[Unit], statistics: list[UnitStatistics], used: list[bool]) -> pd.DataFrame:
    """Return the table of units with their statistics."""
    fields = UnitStatistics.__dataclass_fields__
    values = {name: [getattr(row, name) for row in statistics] for name in fields}
    return schemas.UNIT_STATISTICS.conform(pd.DataFrame({**unit_columns(units), "used": used, **values}))


def choose_used(flags: list[str], wanted: int) -> list[bool]:
    """Return which of the drawn units are used: the first ``wanted`` that are not constant."""
    used: list[bool] = []
    for flag in flags:
        used.append(flag != "constant" and sum(used) < wanted)
    return used
