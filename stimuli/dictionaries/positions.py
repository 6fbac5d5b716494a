"""Sampled positions of layers' tensors, read in one pass over pictures, for all layers and bases at once.

Positions are kept in shards on disk that outlive a kill. Learning goes through the shards in a random order and
shuffles as many of them together as fit into a buffer, so that memory is bounded whatever the number of pictures: the
model, one batch and one shard while reading; three times :data:`BUFFER_BYTES` while learning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from benchmark.errors import BasisError, NonFiniteActivation
from benchmark.hashing import hash_settings, picture_keys
from benchmark.layers import Layer
from benchmark.model_zoo import Model
from benchmark.progress import Advance
from benchmark.randomness import generator_from, mix, seed_from, uniforms
from benchmark.readings import Tap
from benchmark.storage import write_atomically
from stimuli.loading import batches, model_pixels
from stimuli.pools import Pool

SHARD = 1024
"""Pictures in a shard: a killed pass loses at most the reading of so many."""
BUFFER_BYTES = 256 * 2**20
"""Positions that are shuffled together take no more memory than this."""


@dataclass(frozen=True)
class Pictures:
    """Some pictures of a pool.

    Attributes
    ----------
    pool
        The pool.
    places
        Shape (pictures,): their places in it.
    hashes
        Hashes of their canonical crops, in the same order.
    labels
        Their classes, in the same order; empty where they have none.
    """

    pool: Pool
    places: NDArray[np.int64]
    hashes: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    def part(self, rows: NDArray[np.int64]) -> Pictures:
        """Return some of them."""
        labels = tuple(self.labels[row] for row in rows) if self.labels else ()
        return Pictures(self.pool, self.places[rows], tuple(self.hashes[row] for row in rows), labels)

    @property
    def hash(self) -> str:
        """Hash of the set of pictures, whatever their order."""
        return hash_settings(sorted(self.hashes))


def split_pictures(pictures: Pictures, groups: Sequence[object], share: float, seed: int) -> tuple[Pictures, Pictures]:
    """Split pictures into those to learn from and those to measure on; a group is never on both sides.

    Parameters
    ----------
    pictures
        All pictures.
    groups
        The group of each.
    share
        Share that is held out, at least.
    seed
        Decides which.
    """
    names = np.array([str(group) for group in groups])
    distinct, number = np.unique(names, return_inverse=True)
    order = np.argsort([seed_from(seed, "held out", name) for name in distinct.tolist()], kind="stable")
    counts = np.bincount(number)[order]
    kept = order[: int(np.searchsorted(counts.cumsum(), share * len(names))) + 1] if share else order[:0]
    held_out = np.isin(number, kept)
    return pictures.part(np.flatnonzero(~held_out)), pictures.part(np.flatnonzero(held_out))


@dataclass(frozen=True)
class PositionPlan:
    """What positions are sampled from.

    Attributes
    ----------
    model
        The model that is read.
    layers
        Its layers.
    pictures
        The pictures.
    per_picture
        How many positions of each picture at most, for each layer.
    seed
        Decides which.
    view, crop
        What the model sees of a picture: see :func:`stimuli.loading.model_pixels`.
    batch_size
        Pictures in a batch.
    """

    model: Model
    layers: tuple[Layer, ...]
    pictures: Pictures
    per_picture: int
    seed: int
    view: str = "canonical"
    crop: int = 224
    batch_size: int = 32

    @cached_property
    def identity(self) -> str:
        """Hash of everything that the positions depend on."""
        return hash_settings(
            [
                self.model.weights_hash, [layer.name for layer in self.layers], list(self.pictures.hashes),
                self.per_picture, self.seed, self.view, self.crop, self.batch_size, self.model.device.type,
                self.model.card.input.model_dump(mode="json"),
            ]
        )  # fmt: skip

    @property
    def shards(self) -> list[range]:
        """The shards, as ranges of pictures: whole batches."""
        step = self.batch_size * math.ceil(SHARD / self.batch_size)
        count = len(self.pictures)
        return [range(start, min(start + step, count)) for start in range(0, count, step)]

    def path(self, folder: Path, shard: range) -> Path:
        """Return the file of a shard."""
        return folder / f"{shard.start:09d}-{shard.stop:09d}.safetensors"

    def has(self, path: Path) -> bool:
        """Whether a file is a complete shard of this plan."""
        if not path.is_file():
            return False
        try:
            with safe_open(path, framework="pt") as file:
                return bool((file.metadata() or {}).get("identity") == self.identity)
        except (OSError, SafetensorError):
            return False


def read_positions(plan: PositionPlan, folder: Path, advance: Advance = lambda count: None) -> None:
    """Read the shards that a folder lacks.

    Raises
    ------
    NonFiniteActivation
        If a layer gives NaN or infinity; the message names picture and layer.
    """
    for shard in plan.shards:
        path = plan.path(folder, shard)
        if plan.has(path):
            advance(len(shard))
            continue
        parts = _read_shard(plan, shard, advance)
        write_atomically(path, lambda target: save_file(parts, target, {"identity": plan.identity}), durable=False)  # noqa: B023


def _read_shard(plan: PositionPlan, shard: range, advance: Advance) -> dict[str, torch.Tensor]:
    model, pictures = plan.model, plan.pictures
    seen: dict[str, torch.Tensor] = {}

    def receiver(layer: Layer) -> Any:
        def receive(tensor: torch.Tensor) -> None:
            # Taken at once: a later in-place operation may overwrite the tensor.
            seen[layer.name] = tensor.movedim(layer.place.axis, -1).float().cpu().clone()

        return receive

    def read(row: int) -> NDArray[np.uint8]:
        place = int(pictures.places[row])
        return model_pixels(pictures.pool, place, model.card.input, plan.view, plan.crop, pictures.hashes[row])

    keys = picture_keys(list(pictures.hashes)) ^ mix(seed_from(plan.seed, "positions"))
    taps = [Tap(model.module, layer.place, receiver(layer)) for layer in plan.layers]
    parts: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in plan.layers}
    try:
        for members, pixels in batches(read, shard, plan.batch_size):
            for tap in taps:
                tap.rearm()
            with torch.inference_mode():
                model.module(model.prepare(pixels))
            for name, tensor in seen.items():
                skipped = model.prefix_tokens if tensor.ndim == 3 else 0
                own = tensor.reshape(len(pixels), -1, tensor.shape[-1])[: len(members), skipped:]
                if not bool(torch.isfinite(own).all()):
                    bad = int((~torch.isfinite(own)).flatten(1).any(1).nonzero()[0])
                    source = pictures.pool.entries[int(pictures.places[members[bad]])].source
                    raise NonFiniteActivation(
                        f"{model.name} gives NaN or infinity for picture {source} in layer {name}. A basis can only be "
                        "fitted to finite positions: check the weights, or leave the picture out."
                    )
                parts[name].append(_sample(own, keys[members], plan.per_picture))
            advance(len(members))
    finally:
        for tap in taps:
            tap.handle.remove()
    return {name: torch.cat(own) for name, own in parts.items()}


def _sample(tensor: torch.Tensor, keys: NDArray[np.uint64], count: int) -> torch.Tensor:
    """Return so many positions of each picture, drawn by its key; all of them, in order, if it has no more."""
    available = tensor.shape[1]
    if available <= count:
        return tensor.reshape(-1, tensor.shape[-1])
    order = np.sort(uniforms(keys, 0, available).argsort(axis=1, kind="stable")[:, :count], axis=1)
    chosen = torch.from_numpy(order)[..., None].expand(-1, -1, tensor.shape[-1])
    return tensor.gather(1, chosen).reshape(-1, tensor.shape[-1])


class Positions:
    """The sampled positions of a layer, on disk.

    Parameters
    ----------
    plan, folder
        What was read, and where.
    layer
        Which layer.
    """

    def __init__(self, plan: PositionPlan, folder: Path, layer: str) -> None:
        self.layer = layer
        self.paths = [plan.path(folder, shard) for shard in plan.shards]
        shapes = [self._shape(path) for path in self.paths]
        self.counts = [shape[0] for shape in shapes]
        self.dimensions = shapes[0][1] if shapes else 0

    def __len__(self) -> int:
        return sum(self.counts)

    def _shape(self, path: Path) -> tuple[int, ...]:
        with safe_open(path, framework="pt") as file:
            return tuple(file.get_slice(self.layer).get_shape())

    def _load(self, number: int) -> torch.Tensor:
        with safe_open(self.paths[number], framework="pt") as file:
            return cast(torch.Tensor, file.get_tensor(self.layer))

    def parts(self) -> Iterator[torch.Tensor]:
        """Yield the positions shard by shard, in order."""
        for number in range(len(self.paths)):
            yield self._load(number)

    def steps(self, batch_size: int) -> int:
        """Return how many batches an epoch has; the last positions that fill none are left out."""
        return len(self) // batch_size

    def epoch(self, batch_size: int, number: int, seed: int) -> Iterator[torch.Tensor]:
        """Yield the batches of an epoch, in an order that depends on the seed and the epoch alone.

        Shards come in a random order; as many as fit into the buffer are shuffled together.
        """
        generator = generator_from(seed, "epoch", number)
        most = max(1, BUFFER_BYTES // (4 * self.dimensions))
        buffer: list[torch.Tensor] = []
        held = 0
        rest = torch.empty((0, self.dimensions))
        order = generator.permutation(len(self.paths)).tolist()
        for turn, shard in enumerate(order):
            buffer.append(self._load(shard))
            held += self.counts[shard]
            following = self.counts[order[turn + 1]] if turn + 1 < len(order) else most
            if held + following <= most and turn + 1 < len(order):
                continue
            pooled = torch.cat([rest, *buffer])
            pooled = pooled[torch.from_numpy(generator.permutation(len(pooled)))]
            whole = len(pooled) // batch_size * batch_size
            yield from torch.split(pooled[:whole], batch_size)
            rest, buffer, held = pooled[whole:].clone(), [], 0


def check_enough(positions: int, width: int, k: int, batch_size: int, name: str) -> None:
    """Check that there are enough positions to fit a dictionary to.

    Raises
    ------
    BasisError
        If there are fewer than latents, or than a batch.
    """
    least = max(width, batch_size, 10 * k)
    if positions < least:
        raise BasisError(
            f"{name} can't be fitted to {positions:,} positions: it needs at least {least:,}. Use more pictures, more "
            "positions a picture, or fewer latents."
        )
