"""Units: what they are called, and how they are drawn from a model's eligible layers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from benchmark.errors import NameNotFound, VimiError
from benchmark.layers import NEURON, LayerMap, spell_space
from benchmark.protocol import Aggregator, UnitRule
from benchmark.randomness import generator_from, seed_from

if TYPE_CHECKING:
    import pandas as pd

PLANTED = "planted"
"""The ``model`` of units whose truth is known by construction; their tasks are catch and practice trials."""

UNIT_COLUMNS = ["model", "layer", "basis", "index", "aggregator"]
"""The columns that name a unit in the row of a table."""

_SPELLING = re.compile(r"(?P<model>.+?)/(?P<layer>[^/@]+)(@(?P<basis>[^/]+))?/(?P<index>\d+)(:(?P<aggregator>\w+))?\Z")


@dataclass(frozen=True, order=True)
class Unit:
    """One unit of a model: layer, basis, index and how its positions become one number.

    It is spelled ``resnet50/layer3.2.conv1/17``; a basis other than the neurons' stands behind the layer
    (``resnet50/layer3.2.conv1@topk-4096/17``), an aggregator other than the mean behind the index
    (``vit_b32/blocks.3.mlp.fc1/17:cls``).
    """

    model: str
    layer: str
    index: int
    basis: str = NEURON
    aggregator: Aggregator = "mean"

    def __str__(self) -> str:
        aggregator = "" if self.aggregator == "mean" else f":{self.aggregator}"
        return f"{self.model}/{self.space}/{self.index}{aggregator}"

    @property
    def space(self) -> str:
        """Layer and basis, as the layer map knows them: ``blocks.4``, ``blocks.4@topk-1024``."""
        return spell_space(self.layer, self.basis)

    @classmethod
    def parse(cls, text: str) -> Unit:
        """Read a unit's name.

        Raises
        ------
        VimiError
            If the text does not name a unit.
        NameNotFound
            If it names an aggregator that does not exist.
        """
        match = _SPELLING.match(text)
        if match is None:
            raise VimiError(f"{text!r} is not a unit; write model/layer/index, such as resnet50/layer3.2.conv1/17.")
        parts = match.groupdict()
        aggregator = cast(Aggregator, parts["aggregator"] or "mean")
        if aggregator not in get_args(Aggregator):
            raise NameNotFound(
                "aggregator", aggregator, get_args(Aggregator), (f"It is the part of {text!r} after the colon.")
            )
        return cls(parts["model"], parts["layer"], int(parts["index"]), parts["basis"] or NEURON, aggregator)

    def fields(self) -> dict[str, Any]:
        """Return the columns that name the unit in a row of a table."""
        return {
            "model": self.model,
            "layer": self.layer,
            "index": self.index,
            "basis": self.basis,
            "aggregator": self.aggregator,
        }

    def key(self, seed: int) -> int:
        """Return the 64-bit key that orders this unit's ties.

        It leaves the model's name out: copies of one network under two names order their ties alike.
        """
        return seed_from(seed, "ties", self.layer, self.basis, self.index, self.aggregator)


def draw_units(
    model: str,
    layer_map: LayerMap,
    *,
    rule: UnitRule,
    count: int,
    seed: int,
    aggregator: Aggregator = "mean",
    basis: str = NEURON,
    layers: Sequence[str] = (),
) -> list[Unit]:
    """Draw units: a layer uniformly, then a channel uniformly in it, duplicates rejected.

    The draw depends only on the seed and on how many units each layer offers, in order: models of one
    architecture (the three ResNet-50s of the 2023 paper) share one list.

    Parameters
    ----------
    model
        Name of the model, for the units' names.
    layer_map
        Its eligible layers.
    rule
        ``imi2023`` draws from all units; ``canonical`` from one unit per rank-equivalence class.
    count
        How many to draw; if the model has fewer, all of them are drawn.
    seed
        The experiment's seed.
    aggregator
        Goes into the units' identity.
    basis
        The basis whose units are drawn.
    layers
        Draw from these layers alone, if any are named.

    Returns
    -------
    Distinct units in the order in which they were drawn.
    """
    representatives = layer_map.representatives() if rule == "canonical" else {}
    offered = [
        (layer.name, representatives[layer.space] if rule == "canonical" else np.arange(layer.width))
        for layer in layer_map.layers
        if layer.basis == basis and (not layers or layer.name in layers)
    ]
    offered = [(name, channels) for name, channels in offered if len(channels)]
    wanted = min(count, sum(len(channels) for _, channels in offered))
    generator = generator_from(seed, "units") if basis == NEURON else generator_from(seed, "units", basis)
    drawn: dict[Unit, None] = {}
    while len(drawn) < wanted:
        first, second = generator.random(2)
        name, channels = offered[int(first * len(offered))]
        index = int(channels[int(second * len(channels))])
        drawn[Unit(model, name, index, basis, aggregator)] = None
    return list(drawn)


def reserve(per_model: int, drawn: int, used: int) -> int:
    """Return how many units to draw so that ``per_model`` can be used, in the proportion of the protocol."""
    return math.ceil(per_model * drawn / used)


def check_unit(unit: Unit, layer_map: LayerMap) -> None:
    """Check that a unit exists.

    Raises
    ------
    NameNotFound
        If its layer is not eligible, or has fewer channels.
    """
    layer = layer_map[unit.space]
    if unit.index >= layer.width:
        last = str(replace(unit, index=layer.width - 1))
        raise NameNotFound("unit", str(unit), [last], f"{unit.space} has units 0 to {layer.width - 1}.")


def read_units(table: pd.DataFrame) -> list[Unit]:
    """Return the units that the rows of a table name; the reverse of :func:`unit_columns`."""
    rows = zip(*(table[name].tolist() for name in UNIT_COLUMNS))
    return [Unit(model, layer, int(index), basis, aggregator) for model, layer, basis, index, aggregator in rows]


def unit_columns(units: Sequence[Unit]) -> dict[str, list[str] | list[int]]:
    """Return the columns that name units in a table."""
    return {
        "model": [unit.model for unit in units],
        "layer": [unit.layer for unit in units],
        "basis": [unit.basis for unit in units],
        "index": [unit.index for unit in units],
        "aggregator": [str(unit.aggregator) for unit in units],
    }


def unit_names(table: pd.DataFrame) -> pd.Series:
    """Return the name of each row's unit, as :class:`Unit` spells it; each distinct unit is spelled once."""
    import pandas as pd

    distinct = table[UNIT_COLUMNS].drop_duplicates()
    names = pd.Series(
        [str(unit) for unit in read_units(distinct)], index=pd.MultiIndex.from_frame(distinct), dtype="str"
    )
    found = names.reindex(pd.MultiIndex.from_frame(table[UNIT_COLUMNS]))
    return pd.Series(found.to_numpy(), index=table.index, name="unit")
