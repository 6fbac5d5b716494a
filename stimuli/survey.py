"""Surveying a pool: one look at every picture, before any model sees one.

The survey decodes each picture once and keeps its content hash, size, perceptual hash, planted activations and,
where groups are not known from the source, an embedding. It works in shards that outlive a kill.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from benchmark import schemas
from benchmark.errors import PoolError, UnreadablePicture
from benchmark.hashing import hash_pixels, hash_rows, hash_settings, pack_hashes, unpack_hashes
from benchmark.model_card import load_card
from benchmark.model_zoo import Model, load_model
from benchmark.observers.embedding import BATCH, embed_batch
from benchmark.storage import write_atomically
from stimuli.loading import map_ahead
from stimuli.near_duplicates import EMBEDDER, join_groups, near_duplicates, perceptual_hash
from stimuli.pictures import resize_to, to_pixels
from stimuli.planted import DETECTORS, scores
from stimuli.pools import Pool

SHARD = 2048
"""Pictures between two moments that a killed survey goes on from."""

MOST_KEPT = 65_536
"""Pictures of a pool, at most, whose embeddings are handed on: 320 MiB of features."""

Progress = Callable[[int], None]
Keep = Callable[[Model, list[str], NDArray[np.float32]], None]
"""Is given the network that embedded the pool, the pictures' hashes and their embeddings, one row a picture."""


@dataclass(frozen=True)
class Survey:
    """What a survey found.

    Attributes
    ----------
    table
        One row per picture, in the order of the pool, exact copies and unreadable files left out.
    places
        Shape (pictures,): where each row's picture stands in the pool.
    planted
        Shape (pictures, detectors): activations of the planted units.
    unreadable
        Files that were skipped, with the reason.
    copies
        How many pictures were exact copies of another and were left out.
    """

    table: pd.DataFrame
    places: NDArray[np.int64]
    planted: NDArray[np.float32]
    unreadable: tuple[tuple[str, str], ...]
    copies: int

    @property
    def hash(self) -> str:
        """Hash of the list of pictures, with labels and groups."""
        return hash_rows(self.table)

    @property
    def has_labels(self) -> bool:
        """Whether the pool has class labels."""
        return bool(self.table["label"].notna().any())

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the pool."""
        sizes = Counter(self.table["group"])
        shared = sum(size for size in sizes.values() if size > 1)
        return {
            "size": len(self.table),
            "hash": self.hash,
            "groups": len(sizes),
            "share_in_shared_groups": round(shared / len(self.table), 6),
            "exact_copies_left_out": self.copies,
            "unreadable_skipped": len(self.unreadable),
            "unreadable": [name for name, _ in self.unreadable[:100]],
            "labelled": self.has_labels,
        }


def survey_pool(
    pool: Pool,
    folder: Path,
    *,
    crop: int,
    skip_unreadable: bool = False,
    device: torch.device | str = "cpu",
    progress: Progress = lambda count: None,
    keep: Keep | None = None,
) -> Survey:
    """Look at every picture of a pool.

    Parameters
    ----------
    pool
        The pool.
    folder
        A folder of its own, where shards are kept; it is removed when the survey is complete.
    crop
        Side of the canonical crop.
    skip_unreadable
        Whether files that are no readable picture are left out; otherwise the first one is an error.
    device
        Where pictures are embedded and compared.
    progress
        Called with the number of pictures done since the last call.
    keep
        Is given the embeddings, if any were needed and the pool has at most :data:`MOST_KEPT` pictures, so that no
        observer embeds the pictures again.

    Raises
    ------
    UnreadablePicture
        Naming the first unreadable file, unless they are to be skipped.
    PoolError
        If nothing is left.
    """
    need_groups = any(entry.group is None for entry in pool.entries)
    embedder = load_model(load_card(EMBEDDER), device=device) if need_groups else None
    # Near-duplicates are found in half precision; only what is handed on has to be exact.
    exact = keep is not None and embedder is not None and len(pool) <= MOST_KEPT
    identity = hash_settings([pool.name, crop, need_groups, exact, [e.source for e in pool.entries]])
    shards: list[dict[str, NDArray[Any]]] = []
    for number, start in enumerate(range(0, len(pool), SHARD)):
        places = range(start, min(start + SHARD, len(pool)))
        path = folder / f"{number:06d}.safetensors"
        shard = _read_shard(path, identity)
        if shard is None or (len(shard["failures"]) and not skip_unreadable):
            shard = _survey_places(pool, places, crop, skip_unreadable, embedder, exact, progress)
            contents = {name: np.ascontiguousarray(value) for name, value in shard.items()}
            write_atomically(path, lambda target: save_file(contents, target, {"identity": identity}))  # noqa: B023
        else:
            progress(len(places))
        shards.append(shard)
    survey = _join(pool, shards, device)
    if keep is not None and embedder is not None and exact:
        pictures = [name for shard in shards for name in unpack_hashes(shard["pictures"])]
        keep(embedder, pictures, np.concatenate([shard["embeddings"] for shard in shards]))
    shutil.rmtree(folder)
    return survey


def _read_shard(path: Path, identity: str) -> dict[str, NDArray[Any]] | None:
    """Return a finished shard of the same survey, if there is one."""
    from safetensors import safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            if (file.metadata() or {}).get("identity") != identity:
                return None
        return dict(load_file(path))
    except (OSError, SafetensorError):
        return None


@dataclass(frozen=True)
class _Look:
    """One picture, looked at."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    perceptual_hash: int
    planted: NDArray[np.float32]
    small: NDArray[np.uint8] | None


def _survey_places(
    pool: Pool,
    places: range,
    crop: int,
    skip_unreadable: bool,
    embedder: Model | None,
    exact: bool,
    progress: Progress,
) -> dict[str, NDArray[Any]]:
    """Look at some pictures."""
    size, method = (embedder.card.input.size, embedder.card.input.interpolation) if embedder else (0, "bicubic")

    def inspect(place: int) -> _Look | UnreadablePicture:
        try:
            original = pool.original(place)
        except UnreadablePicture as error:
            if skip_unreadable:
                return error
            raise
        image = pool.crop(place, crop, original)
        small = to_pixels(resize_to(image, size, method)).transpose(2, 0, 1) if embedder else None
        return _Look(to_pixels(image), *original.size, perceptual_hash(image), scores(image), small)

    kept: list[int] = []
    failures: list[str] = []
    pictures: list[str] = []
    looks: list[_Look] = []
    waiting: list[NDArray[np.uint8]] = []
    embeddings: list[NDArray[np.floating]] = []
    precision = np.float32 if exact else np.float16

    def flush() -> None:
        if waiting and embedder:
            batch = np.stack(waiting + [waiting[0]] * (BATCH - len(waiting)))
            vectors = embed_batch(embedder, torch.from_numpy(batch))[: len(waiting)]
            embeddings.append(vectors.cpu().numpy().astype(precision))
            waiting.clear()

    for place, seen in zip(places, map_ahead(inspect, places, ahead=4 * BATCH)):
        progress(1)
        if isinstance(seen, UnreadablePicture):
            failures.append(f"{pool.entries[place].source}\x1f{seen}")
            continue
        kept.append(place)
        pictures.append(hash_pixels(seen.pixels))
        if seen.small is not None:
            waiting.append(seen.small)
            if len(waiting) == BATCH:
                flush()
        looks.append(_Look(seen.pixels[:0], seen.width, seen.height, seen.perceptual_hash, seen.planted, None))
    flush()
    features = cast(int, embedder.module.num_features) if embedder else 0
    return {
        "places": np.array(kept, dtype=np.int64),
        "pictures": pack_hashes(pictures),
        "sizes": np.array([(seen.width, seen.height) for seen in looks], dtype=np.int64).reshape(-1, 2),
        "hashes": np.array([seen.perceptual_hash for seen in looks], dtype=np.int64),
        "planted": np.array([seen.planted for seen in looks], dtype=np.float32).reshape(-1, len(DETECTORS)),
        "embeddings": np.concatenate(embeddings) if embeddings else np.zeros((0, features), precision),
        "failures": np.frombuffer("\x1e".join(failures).encode(), dtype=np.uint8),
    }


def _join(pool: Pool, shards: list[dict[str, NDArray[Any]]], device: torch.device | str) -> Survey:
    """Put shards together, leave exact copies out and find groups."""
    failures = [
        tuple(item.split("\x1f", 1))
        for shard in shards
        for item in shard["failures"].tobytes().decode().split("\x1e")
        if item
    ]
    places = np.concatenate([shard["places"] for shard in shards])
    if not len(places):
        name, reason = failures[0]
        raise PoolError(
            f"The pool {pool.name!r} holds no readable picture: none of its {len(failures):,} files is one. The first, "
            f"{name}: {reason}"
        )
    pictures = [name for shard in shards for name in unpack_hashes(shard["pictures"])]
    _, first = np.unique(pictures, return_index=True)
    kept = np.sort(first)
    entries = [pool.entries[place] for place in places[kept]]
    hashes = np.concatenate([shard["hashes"] for shard in shards])[kept]
    sizes = np.concatenate([shard["sizes"] for shard in shards])[kept]
    pairs: list[tuple[int, int]] = []
    if any(entry.group is None for entry in entries):
        found = [shard["embeddings"].astype(np.float16) for shard in shards if len(shard["embeddings"])]
        embeddings = np.concatenate(found)[kept]
        pairs = near_duplicates(hashes, embeddings, device=device)
    table = pd.DataFrame(
        {
            "picture": [pictures[n] for n in kept],
            "source": [entry.source for entry in entries],
            "label": [entry.label for entry in entries],
            "group": join_groups(len(kept), pairs, [entry.group for entry in entries]),
            "width": sizes[:, 0],
            "height": sizes[:, 1],
            "perceptual_hash": hashes,
        }
    )
    return Survey(
        schemas.POOL.conform(table),
        places[kept],
        np.concatenate([shard["planted"] for shard in shards])[kept],
        tuple((name, reason) for name, reason in failures),
        len(places) - len(kept),
    )
