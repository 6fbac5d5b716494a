"""Surveying a pool: one look at every picture, before any model sees one.

The survey decodes each picture once and keeps its content hash, size, perceptual hash, planted activations and,
where groups are not known from the source, an embedding. It works in shards that outlive a kill. What it has seen of a
file's bytes is cached for other studies on the same pictures: see :mod:`benchmark.cache`.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from benchmark import schemas
from benchmark.cache import Cache, Rows
from benchmark.errors import PoolError, UnreadablePicture
from benchmark.hashing import (
    hash_bytes,
    hash_file,
    hash_pixels,
    hash_rows,
    hash_settings,
    pack_hashes,
    unpack_hashes,
)
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model, weights_on_machine
from benchmark.observers.embedding import BATCH, embed_batch
from benchmark.storage import write_atomically
from stimuli.loading import map_ahead
from stimuli.near_duplicates import (
    EMBEDDED_SIDE,
    EMBEDDER,
    NEAR_BITS,
    SAME,
    Thresholds,
    find_thresholds,
    join_groups,
    near_duplicates,
    perceptual_hash,
)
from stimuli.pictures import resize_to, to_pixels
from stimuli.planted import DETECTORS, scores
from stimuli.pools import Pool, name_some

SHARD = 512
"""Pictures between two moments that a killed survey goes on from: seconds of work."""

MOST_CACHED = 65_536
"""Pictures of a pool, at most, of which is cached what was seen: 180 MB."""

MOSTLY = 0.5
"""Share of a pool in groups of near-duplicates from which on that is said."""
LARGE = 0.1
"""Share of a pool in one group of near-duplicates from which on that is said."""

Progress = Callable[[int], None]


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
    thresholds
        From where on pictures were taken for near-duplicates; None if the pool declares all groups.
    animations
        How many files have several frames, of which the first was used.
    problem
        Why what was seen could not be cached, if it could not.
    """

    table: pd.DataFrame
    places: NDArray[np.int64]
    planted: NDArray[np.float32]
    unreadable: tuple[tuple[str, str], ...]
    copies: int
    thresholds: Thresholds | None = None
    animations: int = 0
    problem: str = ""

    @property
    def hash(self) -> str:
        """Hash of the list of pictures, with labels and groups."""
        return hash_rows(self.table)

    @property
    def has_labels(self) -> bool:
        """Whether the pool has class labels."""
        return bool(self.table["label"].notna().any())

    def facts(self) -> dict[str, Any]:
        """Return the manifest's entry for the pool."""
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
            "largest_group": max(sizes.values()),
            "animations_shown_by_first_frame": self.animations,
            "near_duplicates": None if self.thresholds is None else self.thresholds.facts(),
        }

    def notices(self) -> list[str]:
        """Say, in sentences, what users of the pool should know about it."""
        facts = self.facts()
        sentences = [self.problem] if self.problem else []
        if self.copies:
            sentences.append(f"Left out of the pool, {self.copies:,} exact copies of other pictures.")
        if self.unreadable:
            names = name_some([name for name, _ in self.unreadable])
            sentences.append(f"Left out of the pool, {len(self.unreadable):,} unreadable pictures: {names}.")
        if self.animations:
            sentences.append(f"{self.animations:,} files have several frames; the first frame is the picture.")
        if self.thresholds is None:
            return sentences
        if self.thresholds.adapted:
            sentences.append(
                "The pictures of the pool are much alike, so near-duplicates must be nearer than usual: cosine "
                f"{self.thresholds.same:g} (usually {SAME:g}), or hashes {self.thresholds.near_bits} bits apart "
                f"(usually {NEAR_BITS}). Shifted, cropped and mirrored copies may be missed."
            )
        share, largest = facts["share_in_shared_groups"], facts["largest_group"]
        if share > MOSTLY or largest > max(LARGE * len(self.table), 2):
            sentences.append(
                f"{share:.0%} of the pictures have near-duplicates in the pool; the largest group has {largest:,} of "
                f"{len(self.table):,}. A task never shows two pictures of a group, so few groups leave little choice."
            )
        return sentences


def survey_pool(
    pool: Pool,
    folder: Path,
    *,
    crop: int,
    skip_unreadable: bool = False,
    device: torch.device | str = "cpu",
    progress: Progress = lambda count: None,
    cache: Cache | None = None,
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
    cache
        What has been seen of the same files before, and where to keep what is seen now; not used if the pool has more
        than :data:`MOST_CACHED` pictures.

    Raises
    ------
    UnreadablePicture
        Naming the first unreadable file, unless they are to be skipped.
    PoolError
        If nothing is left.
    """
    cache = cache if cache is not None and len(pool) <= MOST_CACHED else Cache(None)
    problem = ""
    need_groups = any(entry.group is None for entry in pool.entries)
    surveyor = _Surveyor(pool, crop, skip_unreadable, device if need_groups else None)
    surveyor.recall(cache)
    identity = hash_settings([pool.name, need_groups, surveyor.settings, [e.source for e in pool.entries]])
    shards: list[_Shard] = []
    for number, start in enumerate(range(0, len(pool), SHARD)):
        places = range(start, min(start + SHARD, len(pool)))
        path = folder / f"{number:06d}.safetensors"
        shard = _read_shard(path, identity)
        if shard is None or (len(shard["failures"]) and not skip_unreadable):
            shard = surveyor.survey(places, progress)
            problem = surveyor.keep(cache) or problem
            if not surveyor.recalled_all:
                contents = {name: np.ascontiguousarray(value) for name, value in shard.items()}
                write_atomically(path, lambda target: save_file(contents, target, {"identity": identity}))  # noqa: B023
        else:
            progress(len(places))
        shards.append(shard)
    survey = _join(pool, shards, device, problem)
    shutil.rmtree(folder, ignore_errors=True)
    return survey


_Shard = dict[str, NDArray[Any]]
_Look = dict[str, NDArray[Any]]
"""A picture, looked at: a row each of ``pictures``, ``sizes``, ``hashes``, ``planted``, ``frames``, ``embeddings``."""


def _read_shard(path: Path, identity: str) -> _Shard | None:
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


@dataclass
class _Waiting:
    """A surveyed picture that may still need its embedding: its file's key, known facts, embeddings."""

    key: str
    look: _Look
    small: NDArray[np.uint8] | None


class _Surveyor:
    """Looks at pictures, and remembers what it saw of which file."""

    def __init__(self, pool: Pool, crop: int, skip_unreadable: bool, device: torch.device | str | None) -> None:
        self.pool, self.crop, self.skip_unreadable, self.device = pool, crop, skip_unreadable, device
        self.settings = {
            "crop": crop, "embedder": _embedder_identity() if device is not None else "", "side": EMBEDDED_SIDE,
            "device": torch.device(device).type if device is not None else "", "detectors": len(DETECTORS),
        }  # fmt: skip
        self.known = Rows()
        self.recalled_all = True
        self._new: dict[str, _Look] = {}

    @cached_property
    def embedder(self) -> Model:
        """The network that embeds, loaded when the first picture needs it."""
        return load_model(load_card(EMBEDDER), device=self.device or "cpu")

    def recall(self, cache: Cache) -> None:
        """Read what is cached."""
        self.known = cache.read("survey", self.settings)

    def keep(self, cache: Cache) -> str:
        """Cache the survey; returns the reason if that was not possible."""
        new, self._new = self._new, {}
        if not new:
            return ""
        names = next(iter(new.values()))
        arrays = {name: np.stack([look[name] for look in new.values()]) for name in names}
        return cache.add("survey", self.settings, list(new), arrays)

    def survey(self, places: range, progress: Progress) -> _Shard:
        """Look at some pictures."""
        kept: list[int] = []
        failures: list[tuple[str, str]] = []
        looks: list[_Waiting] = []
        batch: list[_Waiting] = []
        for place, seen in zip(places, map_ahead(self._inspect, places, ahead=4 * BATCH)):
            progress(1)
            if isinstance(seen, UnreadablePicture):
                failures.append((self.pool.entries[place].source, str(seen)))
                continue
            kept.append(place)
            looks.append(seen)
            if seen.small is not None:
                batch.append(seen)
                if len(batch) == BATCH:
                    self._embed(batch)
        self._embed(batch)
        for seen in looks:
            if seen.key and seen.key not in self.known.index:
                self._new[seen.key] = seen.look
        names = {"pictures": (16, np.uint8), "sizes": (2, np.int64), "planted": (len(DETECTORS), np.float32)}
        shard: _Shard = {
            "places": np.array(kept, dtype=np.int64),
            "failures": np.frombuffer(json.dumps(failures).encode() if failures else b"", dtype=np.uint8),
        }
        for name in looks[0].look if looks else ():
            shard[name] = np.stack([seen.look[name] for seen in looks])
        for name, (width, kind) in names.items():
            shard.setdefault(name, np.zeros((0, width), kind))
        for name in ("hashes", "frames"):
            shard.setdefault(name, np.zeros(0, np.int64))
        shard.setdefault("embeddings", np.zeros((0, 0), np.float16))
        return shard

    def _inspect(self, place: int) -> _Waiting | UnreadablePicture:
        """Survey a picture, unless its file was surveyed before."""
        try:
            content = self.pool.content(place)
            key = hash_bytes(content) if content is not None else ""
            row = self.known.index.get(key)
            if row is not None:
                return _Waiting(key, {name: values[row] for name, values in self.known.arrays.items()}, None)
            original = self.pool.original(place) if content is None else self.pool.decode(content, place)
        except UnreadablePicture as error:
            if self.skip_unreadable:
                return error
            raise
        self.recalled_all = False
        image = self.pool.crop(place, self.crop, original)
        pixels = to_pixels(image)
        look = {
            "pictures": pack_hashes([hash_pixels(pixels)])[0],
            "sizes": np.array(original.size, dtype=np.int64),
            "hashes": np.array(perceptual_hash(image), dtype=np.int64),
            "planted": np.array(scores(image), dtype=np.float32),
            "frames": np.array("frames" in original.info, dtype=np.int64),
            "embeddings": np.zeros(0, np.float16),
        }
        if self.device is None:
            return _Waiting(key, look, None)
        return _Waiting(key, look, to_pixels(resize_to(image, EMBEDDED_SIDE)).transpose(2, 0, 1))

    def _embed(self, batch: list[_Waiting]) -> None:
        """Embed pictures, in a batch of one shape, and empty it. Half precision is enough to find near-duplicates."""
        if not batch:
            return
        small = [seen.small for seen in batch if seen.small is not None]
        pixels = torch.from_numpy(np.stack(small + small[:1] * (BATCH - len(small))))
        vectors = embed_batch(self.embedder, pixels)[: len(small)].cpu().numpy().astype(np.float16)
        for seen, vector in zip(batch, vectors):
            seen.look["embeddings"], seen.small = vector, None
        batch.clear()


def _embedder_identity() -> str:
    """Return a hash of the weights that embed, without loading them."""
    path = weights_on_machine(load_card(EMBEDDER))
    return hash_file(path) if path is not None else ""


def _join(pool: Pool, shards: list[_Shard], device: torch.device | str, problem: str) -> Survey:
    """Put shards together, leave exact copies out and find groups."""
    failures = [
        (name, reason)
        for shard in shards
        if len(shard["failures"])
        for name, reason in json.loads(shard["failures"].tobytes().decode())
    ]
    places = np.concatenate([shard["places"] for shard in shards])
    if not len(places):
        name, reason = failures[0]
        raise PoolError(
            f"The pool {pool.name!r} has no readable picture among its {len(failures):,} files. The first, {name}: "
            f"{reason}"
        )
    pictures = [name for shard in shards for name in unpack_hashes(shard["pictures"])]
    _, first = np.unique(pictures, return_index=True)
    kept = np.sort(first)
    entries = [pool.entries[place] for place in places[kept]]
    hashes = np.concatenate([shard["hashes"] for shard in shards])[kept]
    sizes = np.concatenate([shard["sizes"] for shard in shards])[kept]
    groups, thresholds = np.arange(len(kept)), None
    if any(entry.group is None for entry in entries):
        embeddings = np.concatenate([shard["embeddings"] for shard in shards if len(shard["embeddings"])])[kept]
        thresholds = find_thresholds(hashes, embeddings)
        groups = near_duplicates(hashes, embeddings, thresholds, device=device)
    table = pd.DataFrame(
        {
            "picture": [pictures[n] for n in kept],
            "source": [entry.source for entry in entries],
            "label": [entry.label for entry in entries],
            "group": join_groups(groups, [entry.group for entry in entries]),
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
        thresholds,
        int(np.concatenate([shard["frames"] for shard in shards])[kept].sum()),
        problem,
    )
