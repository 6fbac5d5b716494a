"""One pass over the pool: every eligible layer of a model, exactly, in bounded memory.

Sampled units keep the activation of every picture; every other unit keeps its extremes, which are stored once
for all units of a rank-equivalence class: they are affine views of one column. The pass works in shards of whole
batches that outlive a kill, and any split of the pool into shards, merged in any order, gives the same file.

Memory, whatever the number of pictures N: the model and one batch; a buffer of at most 256 MiB; 16 bytes for each
column and extreme kept (twice the protocol's reach), three times that while merging; and 4 N bytes for each
sampled unit.
"""

from __future__ import annotations

import json
import math
import shutil
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from benchmark.engines.base import Equipment, Piece
from benchmark.errors import NonFiniteActivation, StudyError, StudyMismatch
from benchmark.hashing import hash_array, hash_settings, picture_keys
from benchmark.layers import NEURON, LayerMap
from benchmark.model_zoo import Model
from benchmark.progress import Advance, Reporter
from benchmark.protocol import Protocol
from benchmark.readings import unit_activations
from benchmark.storage import remove_unfinished, write_atomically, write_json
from benchmark.units import Unit
from stimuli.loading import batches, model_pixels
from stimuli.order_statistics import Extremes, ExtremeTracker, TieKeys, content_ties, place_ties
from stimuli.pools import Pool
from stimuli.survey import Survey

MOST_SHARDS = 16
LEAST_SHARD = 1024
"""A killed pass loses at most a shard: a sixteenth of its work, or some thousand pictures. Each shard holds the
extremes of all units, which is why there are not more."""

BATCH_ON_CPU = 32
BATCH_ON_ACCELERATOR = 256


@dataclass(frozen=True)
class ActivationPlan:
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
    device
        Kind of device that the model is read on, if this process has it on another, because workers read it.
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
    device: str = ""

    @cached_property
    def pictures(self) -> list[str]:
        """Hashes of the pictures, in the order of the pool's table."""
        return list(self.survey.table["picture"])

    @property
    def header(self) -> dict[str, Any]:
        """The file's record of its inputs; other weights, pictures or preprocessing give another record."""
        return {
            "model": self.model.name,
            "weights": self.model.weights_hash,
            "preprocessing": hash_settings([self.model.card.input.model_dump(mode="json"), self.view, self.crop]),
            "pictures": hash_settings(self.pictures),
            "aggregator": self.model.aggregator,
            "sampled": [str(unit) for unit in self.units],
            "columns": self.model.layer_map.column_count,
            "extremes": self.extremes,
            "ties": self.protocol.rules.tasks.ties,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "device": self.device or self.model.device.type,
            **self._bases,
        }

    @property
    def _bases(self) -> dict[str, Any]:
        """The header's record of bases; headers of models without any have none."""
        bases = {space: basis.weights_hash for space, basis in self.model.bases.items()}
        return {"bases": bases} if bases else {}

    @cached_property
    def identity(self) -> str:
        """Hash of the header."""
        return hash_settings(self.header)

    @cached_property
    def ties(self) -> TieKeys:
        """What orders equal activations, by column: all units of a rank-equivalence class order ties alike."""
        if self.protocol.rules.tasks.ties == "place":
            return place_ties
        spaces = {layer.space: (layer.name, layer.basis) for layer in self.model.layer_map.layers}
        owners = [
            Unit(self.model.name, layer, index, basis, self.model.aggregator).key(self.seed)
            for space, index in self.model.layer_map.owners()
            for layer, basis in (spaces.get(space, ("", NEURON)),)
        ]
        return content_ties(np.array(owners, dtype=np.uint64), picture_keys(self.pictures))

    def column(self, unit: Unit) -> int:
        """Return the column that a unit is a view of."""
        return int(self.model.layer_map[unit.space].columns[unit.index])


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
        Extremes of all columns of the layer map; :meth:`extremes` gives those of a unit.
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

    def extremes(self, unit: Unit, layer_map: LayerMap) -> tuple[Extremes, Extremes]:
        """Return the smallest and the largest activations of any unit, sampled or not, each of shape (1, count)."""
        layer = layer_map[unit.space]
        column, scale, shift = (values[unit.index] for values in (layer.columns, layer.scale, layer.shift))
        sides = [
            Extremes((side.values[[column]] * scale + shift).astype(np.float32), side.places[[column]])
            for side in (self.low, self.high)
        ]
        low, high = sides if scale >= 0 else reversed(sides)
        return low, high

    def extreme_tie_share(self) -> NDArray[np.float64]:
        """Return, for every column, the share of its extremes whose activation another extreme has as well."""
        tied = 0.0
        for side in (self.low, self.high):
            equal = side.values[:, 1:] == side.values[:, :-1]
            ends = np.zeros((len(equal), 1), dtype=bool)
            tied = tied + (np.hstack([equal, ends]) | np.hstack([ends, equal])).sum(axis=1)
        return np.asarray(tied / (2 * self.low.values.shape[1]))


def shard_places(count: int, batch_size: int, shards: int) -> list[range]:
    """Cut places 0 to ``count`` into at most ``shards`` ranges of whole batches."""
    step = batch_size * max(1, math.ceil(count / (shards * batch_size)))
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def measure_activations(
    plan: ActivationPlan, folder: Path, *, shards: int | None = None, reporter: Reporter | None = None
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
    remove_unfinished(folder)
    if (folder / "header.json").is_file():
        return read_activations(folder, plan)
    count = len(plan.survey.table)
    ranges = shards_of(plan, shards)
    paths = [shard_path(folder, places) for places in ranges]
    with (reporter or Reporter()).task(f"Activations of {plan.model.name}", count) as advance:
        if len(ranges) == 1 and not paths[0].is_file():
            merged = merge_shards(plan, [measure_shard(plan, ranges[0], advance)])
        else:
            for places, path in zip(ranges, paths):
                if _is_shard_of(path, plan.identity):
                    advance(len(places))
                else:
                    measure_shard(plan, places, advance).write(path, plan.identity)
            merged = merge_shards(plan, (read_shard(path, plan) for path in paths))
    return _keep(merged, folder)


def shards_of(plan: ActivationPlan, shards: int | None = None) -> list[range]:
    """Return the shards that a plan's pool is cut into, as rows of its table: the same, whoever measures them.

    Parameters
    ----------
    plan
        What is measured.
    shards
        How many at most, if not as many as the size of the pool suggests.
    """
    count = len(plan.survey.table)
    return shard_places(count, plan.batch_size, shards or min(MOST_SHARDS, math.ceil(count / LEAST_SHARD)))


def shard_path(folder: Path, places: range) -> Path:
    """Return the file of a shard, below the folder of a model's activations."""
    return folder / "shards" / f"{places.start:09d}-{places.stop:09d}.safetensors"


@dataclass(frozen=True)
class ShardPiece(Piece[ActivationPlan, None]):
    """A shard that any worker can measure, and write where :func:`measure_activations` would write it.

    Attributes
    ----------
    equipment
        Loads the plan.
    folder
        Folder of the model's activations.
    start, stop
        Rows of the pool's table.
    identity
        That of the plan of the process that hands out the piece.
    """

    equipment: Equipment[ActivationPlan]
    folder: Path
    start: int
    stop: int
    identity: str

    def run(self, tools: ActivationPlan, advance: Advance) -> None:
        """Measure the shard and write it.

        Raises
        ------
        StudyMismatch
            If weights, pictures or settings are others here.
        """
        if tools.identity != self.identity:
            raise StudyMismatch(
                f"{socket.gethostname()} has other weights, pictures or settings for {tools.model.name} than the "
                "machine that runs the study, so nothing was measured there. Copy the weights and the pool, or share "
                "the folders that hold them."
            )
        places = range(self.start, self.stop)
        path = shard_path(self.folder, places)
        if not _is_shard_of(path, self.identity):
            measure_shard(tools, places, advance).write(path, self.identity)
        else:
            advance(len(places))


def missing_shards(plan: ActivationPlan, folder: Path, equipment: Equipment[ActivationPlan]) -> list[ShardPiece]:
    """Return the pieces of work that a plan lacks; none, once its activations are written."""
    remove_unfinished(folder)
    if (folder / "header.json").is_file():
        return []
    return [
        ShardPiece(equipment, folder, places.start, places.stop, plan.identity)
        for places in shards_of(plan)
        if not _is_shard_of(shard_path(folder, places), plan.identity)
    ]


def gather_activations(plan: ActivationPlan, folder: Path) -> Activations:
    """Merge the shards that others measured into the activations of the whole pool.

    Raises
    ------
    StudyMismatch
        If a shard can't be seen here, or the folder holds activations of something else.
    """
    if (folder / "header.json").is_file():
        return read_activations(folder, plan)
    return _keep(merge_shards(plan, (read_shard(shard_path(folder, part), plan) for part in shards_of(plan))), folder)


def _keep(merged: Activations, folder: Path) -> Activations:
    """Write the activations of the whole pool, replacing their shards."""
    _write(merged, folder)
    shutil.rmtree(folder / "shards", ignore_errors=True)
    return merged


@dataclass(frozen=True)
class Shard:
    """Activations of some of the pictures.

    Attributes
    ----------
    places
        Shape (pictures,): rows of the pool's table.
    columns
        Shape (sampled units, pictures).
    low, high
        Extremes of all columns among these pictures, in any order.
    """

    places: NDArray[np.int64]
    columns: NDArray[np.float32]
    low: Extremes
    high: Extremes

    def write(self, path: Path, identity: str) -> None:
        """Write the shard, marked as one of the plan of this identity."""
        contents = {
            "places": self.places,
            "columns": self.columns,
            "low_values": self.low.values,
            "low_places": self.low.places,
            "high_values": self.high.values,
            "high_places": self.high.places,
        }
        write_atomically(path, lambda target: save_file(contents, target, {"identity": identity}), durable=False)


def read_shard(path: Path, plan: ActivationPlan) -> Shard:
    """Read a shard.

    Raises
    ------
    StudyMismatch
        If it is not one of the plan's.
    """
    if not _is_shard_of(path, plan.identity):
        raise StudyMismatch(f"{path} is not a shard of {plan.model.name} over this pool; remove it and build again.")
    arrays = load_file(path)
    return Shard(
        arrays["places"],
        arrays["columns"],
        Extremes(arrays["low_values"], arrays["low_places"]),
        Extremes(arrays["high_values"], arrays["high_places"]),
    )


def measure_shard(plan: ActivationPlan, places: Sequence[int], advance: Advance = lambda count: None) -> Shard:
    """Measure some pictures.

    Parameters
    ----------
    plan
        What to measure.
    places
        Rows of the pool's table. They begin at a multiple of the batch size, so that every picture has the
        same neighbours in its batch however the pool is cut.
    advance
        Called with the number of pictures done since the last call.

    Raises
    ------
    NonFiniteActivation
        If the model gives NaN or infinity.
    """
    model, layer_map = plan.model, plan.model.layer_map
    layers = [layer_map[unit.space] for unit in plan.units]
    index = np.array([plan.column(unit) for unit in plan.units], dtype=np.int64)
    scale, shift = (
        np.array([getattr(layer, name)[unit.index] for layer, unit in zip(layers, plan.units)], dtype=np.float64)
        for name in ("scale", "shift")
    )
    finite_views = all(np.isfinite(layer.scale).all() and np.isfinite(layer.shift).all() for layer in layer_map.layers)
    tracker = ExtremeTracker(layer_map.column_count, plan.extremes, ties=plan.ties, device=model.device)
    sampled: list[torch.Tensor] = []
    pool_places, pictures = plan.survey.places, plan.pictures

    def read(row: int) -> NDArray[np.uint8]:
        place = int(pool_places[row])
        return model_pixels(plan.pool, place, model.card.input, plan.view, plan.crop, pictures[row])

    with model.reader() as reader:
        for members, pixels in batches(read, places, plan.batch_size):
            read_columns = reader.read(model.prepare(pixels))[: len(members)]
            own = unit_activations(read_columns, index, scale, shift)
            if not finite_views or not bool(torch.isfinite(read_columns).all() & torch.isfinite(own).all()):
                _check_finite(plan, members, read_columns)
            sampled.append(own.cpu())
            tracker.add(read_columns, members)
            advance(len(members))
    low, high = tracker.result(in_order=False)
    kept = np.ascontiguousarray(torch.cat(sampled).T.numpy())
    return Shard(np.asarray(list(places), dtype=np.int64), kept, low, high)


def merge_shards(plan: ActivationPlan, shards: Iterable[Shard]) -> Activations:
    """Merge shards, in any order, into the activations of the whole pool.

    Raises
    ------
    StudyError
        If the shards do not cover the pool exactly once.
    """
    count = len(plan.survey.table)
    columns = np.empty((len(plan.units), count), dtype=np.float32)
    covered = np.zeros(count, dtype=np.int64)
    tracker = ExtremeTracker(plan.model.layer_map.column_count, plan.extremes, ties=plan.ties)
    for shard in shards:
        columns[:, shard.places] = shard.columns
        covered[shard.places] += 1
        tracker.add_extremes(shard.low, shard.high)
    if (covered != 1).any():
        raise StudyError(f"The shards of {plan.model.name} do not cover the pool exactly once; build again.")
    low, high = tracker.result()
    return Activations(plan.units, columns, low, high, plan.header)


def read_activations(folder: Path, plan: ActivationPlan | None = None) -> Activations:
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
        raise StudyError(
            f"The activations in {folder} can't be read ({error}); remove the folder and build again."
        ) from None
    if plan is not None and header != json.loads(json.dumps(plan.header)):
        differing = [key for key, value in plan.header.items() if header.get(key) != value]
        raise StudyMismatch(
            f"The activations in {folder} were made with different {', '.join(differing)}, and vimi does not mix "
            "them. Build into another folder, or remove that one."
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
    write_atomically(folder / "activations.safetensors", lambda target: save_file(contents, target), durable=False)
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


def _check_finite(plan: ActivationPlan, members: list[int], columns: torch.Tensor) -> None:
    """Look for NaN and infinity in all units, in the order of the forward pass: the first is where it arose.

    Raises
    ------
    NonFiniteActivation
        Naming the first picture with one, and its first layer and unit.
    """
    exact = columns.double().cpu()
    for row, member in enumerate(members):
        for layer in plan.model.layer_map.layers:
            values = (exact[row, layer.columns] * torch.from_numpy(layer.scale) + torch.from_numpy(layer.shift)).float()
            bad = (~torch.isfinite(values)).nonzero()[:, 0]
            if len(bad):
                index = int(bad[0])
                raise NonFiniteActivation(
                    f"{plan.model.name} gives {float(values[index])} for picture "
                    f"{plan.survey.table['source'].iloc[member]} in layer {layer.space}, unit {index}. Only finite "
                    "activations can be ranked: check the weights, or leave the picture out."
                )
