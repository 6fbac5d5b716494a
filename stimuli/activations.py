"""One pass over the pool: every eligible layer of a model, exactly, in bounded memory.

Sampled units keep the activation of every picture; every other unit keeps its extremes. The pass works in
shards of whole batches that outlive a kill, and any split of the pool into shards, merged in any order, gives
the same file. Memory is bounded by batch x units for the batch in work, (buffer + extremes) x units for the
trackers, and sampled units x pictures for the columns, whatever the number of pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from benchmark.errors import NonFiniteActivation, StudyError, StudyMismatch
from benchmark.hashing import hash_array, hash_settings, picture_keys
from benchmark.layers import LayerMap
from benchmark.model_zoo import Model
from benchmark.progress import Reporter
from benchmark.protocol import Protocol
from benchmark.readings import ActivationReader
from benchmark.storage import write_atomically, write_json
from benchmark.units import Unit
from stimuli.loading import batches, model_pixels
from stimuli.order_statistics import Extremes, ExtremeTracker, TieKeys, content_ties, place_ties
from stimuli.pools import Pool
from stimuli.survey import Survey

MOST_SHARDS = 16
LEAST_SHARD = 1024
"""A killed pass loses at most a shard: a sixteenth of its work, or some thousand pictures. Each shard holds the
extremes of all units, which is why there are not more."""

BATCH_ON_CPU = 16
BATCH_ON_ACCELERATOR = 256


@dataclass(frozen=True)
class Plan:
    """Everything that a model's activations depend on.

    Attributes
    ----------
    model
        The model that is read.
    pool, survey
        The pictures.
    units
        Sampled units, which keep the activation of every picture.
    extremes
        How many extremes a side every unit keeps.
    protocol
        Says how ties are ordered.
    seed
        The experiment's seed.
    view, crop
        What the model sees of a picture: see :func:`stimuli.loading.model_pixels`.
    batch_size
        Pictures in a batch: activations are exact for a batch shape, and equal within rounding across shapes.
    """

    model: Model
    pool: Pool
    survey: Survey
    units: tuple[Unit, ...]
    extremes: int
    protocol: Protocol
    seed: int
    view: str = "canonical"
    crop: int = 224
    batch_size: int = BATCH_ON_CPU

    @property
    def pictures(self) -> list[str]:
        """Hashes of the pictures, in the order of the pool's table."""
        return list(self.survey.table["picture"])

    @property
    def header(self) -> dict[str, Any]:
        """What the file says it was made of; other weights, pictures or preprocessing give another one."""
        return {
            "model": self.model.name,
            "weights": self.model.weights_hash,
            "preprocessing": hash_settings([self.model.card.input.model_dump(mode="json"), self.view, self.crop]),
            "pictures": hash_settings(self.pictures),
            "aggregator": self.model.aggregator,
            "sampled": [str(unit) for unit in self.units],
            "units": self.model.layer_map.unit_count,
            "extremes": self.extremes,
            "ties": self.protocol.rules.tasks.ties,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "device": self.model.device.type,
        }

    @property
    def identity(self) -> str:
        """Hash of the header."""
        return hash_settings(self.header)

    @cached_property
    def ties(self) -> TieKeys:
        """What orders equal activations of any unit of the model."""
        if self.protocol.rules.tasks.ties == "place":
            return place_ties
        keys = np.array([unit.key(self.seed) for unit in all_units(self.model)], dtype=np.uint64)
        return content_ties(keys, picture_keys(self.pictures))


@dataclass(frozen=True)
class Activations:
    """A model's activations over a pool.

    Attributes
    ----------
    units
        The sampled units.
    columns
        Shape (sampled units, pictures), float32.
    low, high
        Extremes of all units, in the order of the layer map.
    header
        What they were made of.
    """

    units: tuple[Unit, ...]
    columns: NDArray[np.float32]
    low: Extremes
    high: Extremes
    header: dict[str, Any]

    @property
    def hash(self) -> str:
        """Hash of the values."""
        arrays = (self.columns, self.low.values, self.low.places, self.high.values, self.high.places)
        return hash_settings([hash_array(array) for array in arrays])

    def column(self, unit: Unit) -> NDArray[np.float32]:
        """Return a sampled unit's activations, shape (pictures,)."""
        return np.asarray(self.columns[self.units.index(unit)])

    def extreme_tie_share(self) -> NDArray[np.float64]:
        """Return, for every unit, the share of its extremes whose activation another extreme has as well."""
        tied = 0.0
        for side in (self.low, self.high):
            equal = side.values[:, 1:] == side.values[:, :-1]
            ends = np.zeros((len(equal), 1), dtype=bool)
            tied = tied + (np.hstack([equal, ends]) | np.hstack([ends, equal])).sum(axis=1)
        return np.asarray(tied / (2 * self.low.values.shape[1]))


def all_units(model: Model) -> Iterator[Unit]:
    """Iterate over all units of a model, in the order of its layer map."""
    for layer in model.layer_map.layers:
        for index in range(layer.width):
            yield Unit(model.name, layer.name, index, aggregator=model.aggregator)


def unit_position(unit: Unit, layer_map: LayerMap) -> int:
    """Return a unit's position in the list of all units."""
    return layer_map.offsets()[unit.layer] + unit.index


def shard_places(count: int, batch_size: int, shards: int) -> list[range]:
    """Cut places 0 to ``count`` into at most ``shards`` ranges of whole batches."""
    step = batch_size * max(1, math.ceil(count / (shards * batch_size)))
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def measure_activations(
    plan: Plan, folder: Path, *, shards: int | None = None, reporter: Reporter | None = None
) -> Activations:
    """Read a model's activations over a pool, going on where a killed pass stopped.

    Parameters
    ----------
    plan
        What to measure.
    folder
        Where the file and its shards are kept.
    shards
        Into how many parts the pool is cut, if not as many as its size suggests.
    reporter
        Shows progress.

    Raises
    ------
    NonFiniteActivation
        If the model gives NaN or infinity; the message names picture, layer and unit.
    StudyMismatch
        If the folder holds activations of something else.
    """
    if (folder / "header.json").is_file():
        return read_activations(folder, plan)
    count = len(plan.survey.table)
    ranges = shard_places(count, plan.batch_size, shards or min(MOST_SHARDS, math.ceil(count / LEAST_SHARD)))
    paths = [folder / "shards" / f"{places.start:09d}-{places.stop:09d}.safetensors" for places in ranges]
    with (reporter or Reporter()).task(f"Activations of {plan.model.name}", count) as advance:
        for places, path in zip(ranges, paths):
            if _is_shard_of(path, plan.identity):
                advance(len(places))
            else:
                measure_shard(plan, places, path, advance)
    activations = merge_shards(plan, paths)
    _write(activations, folder)
    for path in paths:
        path.unlink()
    (folder / "shards").rmdir()
    return activations


def measure_shard(plan: Plan, places: Sequence[int], path: Path, advance: Any = lambda count: None) -> None:
    """Measure some pictures and write them as a shard.

    Parameters
    ----------
    plan
        What to measure.
    places
        Rows of the pool's table. They begin at a multiple of the batch size, so that every picture has the
        same neighbours in its batch however the pool is cut.
    path
        Where the shard goes.
    advance
        Called with the number of pictures done since the last call.
    """
    model, layer_map = plan.model, plan.model.layer_map
    sampled = torch.tensor([unit_position(unit, layer_map) for unit in plan.units], device=model.device)
    trackers = [
        ExtremeTracker(layer_map.unit_count, plan.extremes, largest=largest, ties=plan.ties, device=model.device)
        for largest in (False, True)
    ]
    columns: list[torch.Tensor] = []
    pool_places = plan.survey.places

    def read(row: int) -> NDArray[np.uint8]:
        return model_pixels(plan.pool, int(pool_places[row]), model.card.input, plan.view, plan.crop)

    with ActivationReader(model.module, layer_map, model.aggregator, model.prefix_tokens) as reader:
        for members, pixels in batches(read, places, plan.batch_size):
            values = reader.read(model.prepare(pixels))[: len(members)]
            if not bool(torch.isfinite(values).all()):
                raise _non_finite(plan, members, values)
            columns.append(values.index_select(1, sampled).cpu())
            by_unit = values.T.contiguous()
            for tracker in trackers:
                tracker.add(by_unit, members)
            advance(len(members))
    low, high = (tracker.result(in_order=False) for tracker in trackers)
    contents = {
        "columns": np.ascontiguousarray(torch.cat(columns).T.numpy()),
        "places": np.asarray(list(places), dtype=np.int64),
        "low_values": low.values,
        "low_places": low.places,
        "high_values": high.values,
        "high_places": high.places,
    }
    write_atomically(path, lambda target: save_file(contents, target, {"identity": plan.identity}))


def merge_shards(plan: Plan, paths: Sequence[Path]) -> Activations:
    """Merge shards, in any order, into the activations of the whole pool.

    Raises
    ------
    StudyMismatch
        If a shard is of another plan.
    StudyError
        If the shards do not cover the pool exactly once.
    """
    count = len(plan.survey.table)
    columns = np.empty((len(plan.units), count), dtype=np.float32)
    covered = np.zeros(count, dtype=np.int64)
    units = plan.model.layer_map.unit_count
    low = ExtremeTracker(units, plan.extremes, largest=False, ties=plan.ties)
    high = ExtremeTracker(units, plan.extremes, largest=True, ties=plan.ties)
    for path in paths:
        if not _is_shard_of(path, plan.identity):
            raise StudyMismatch(f"{path} is no shard of {plan.model.name} over this pool; remove it and build again.")
        shard = load_file(path)
        columns[:, shard["places"]] = shard["columns"]
        covered[shard["places"]] += 1
        low.add_extremes(Extremes(shard["low_values"], shard["low_places"]))
        high.add_extremes(Extremes(shard["high_values"], shard["high_places"]))
    if (covered != 1).any():
        raise StudyError(f"The shards of {plan.model.name} do not cover the pool exactly once; build again.")
    return Activations(plan.units, columns, low.result(), high.result(), plan.header)


def read_activations(folder: Path, plan: Plan | None = None) -> Activations:
    """Read a model's activations.

    Parameters
    ----------
    folder
        Where they were written.
    plan
        What they must have been made of, if given.

    Raises
    ------
    StudyMismatch
        If they were made of other weights, pictures or settings; the message says which.
    """
    try:
        header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "activations.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise StudyError(f"The activations in {folder} can't be read ({error}); remove the folder and build again.") from None
    if plan is not None and header != json.loads(json.dumps(plan.header)):
        differing = [key for key, value in plan.header.items() if header.get(key) != value]
        raise StudyMismatch(
            f"The activations in {folder} were made with other {', '.join(differing)}. They can't be mixed with these: "
            "build into another folder, or remove that one."
        )
    return Activations(
        tuple(Unit.parse(name) for name in header["sampled"]),
        arrays["columns"],
        Extremes(arrays["low_values"], arrays["low_places"]),
        Extremes(arrays["high_values"], arrays["high_places"]),
        header,
    )


def _write(activations: Activations, folder: Path) -> None:
    contents = {
        "columns": activations.columns,
        "low_values": activations.low.values,
        "low_places": activations.low.places,
        "high_values": activations.high.values,
        "high_places": activations.high.places,
    }
    write_atomically(folder / "activations.safetensors", lambda target: save_file(contents, target))
    # The header is written last: where it is, the tensors are complete.
    write_json(folder / "header.json", activations.header)


def _is_shard_of(path: Path, identity: str) -> bool:
    """Whether a path is a complete shard of a plan."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="np") as file:
            return bool((file.metadata() or {}).get("identity") == identity)
    except (OSError, SafetensorError):
        return False


def _non_finite(plan: Plan, members: list[int], values: torch.Tensor) -> NonFiniteActivation:
    """Return the error for NaN or infinity, naming picture, layer and unit."""
    row, position = (int(n) for n in (~torch.isfinite(values)).nonzero()[0])
    layer = next(
        layer
        for layer in reversed(plan.model.layer_map.layers)
        if plan.model.layer_map.offsets()[layer.name] <= position
    )
    index = position - plan.model.layer_map.offsets()[layer.name]
    source = plan.survey.table["source"].iloc[members[row]]
    return NonFiniteActivation(
        f"{plan.model.name} gives {float(values[row, position])} for the picture {source} in layer {layer.name}, unit "
        f"{index}. Activations that are not finite can't be ranked: check the weights, or leave the picture out."
    )
