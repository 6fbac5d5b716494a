"""Where pools come from: a pool by its source, ``KIND`` or ``KIND:PLACE``.

To add a kind, write a function from a :class:`Source` to a pool and register it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.data_sets import data_set_name
from benchmark.errors import NameNotFound, PoolError
from benchmark.registry import Registry
from stimuli.bundled import BundledPool
from stimuli.pools import (
    Pool,
    WebDatasetPool,
    find_shards,
    folder_pool,
    image_folder_pool,
    imagenet_pool,
    imagenette_pool,
)


@dataclass(frozen=True)
class PoolSource:
    """What a pool is asked for by.

    Attributes
    ----------
    kind, place
        What stands before and behind the colon.
    data_set, split
        The public data set that the pictures are part of, and which split of it, where the source does not say it.
    """

    kind: str
    place: str
    data_set: str
    split: str

    @property
    def path(self) -> Path:
        """The place as a path.

        Raises
        ------
        PoolError
            If there is none.
        """
        if not self.place:
            raise PoolError(f"The pool {self.kind!r} needs a path: {self.kind}:PATH.")
        return Path(self.place)


KINDS: Registry[Callable[[PoolSource], Pool]] = Registry("kind of pool")
"""By kind, what opens a pool of it."""


@KINDS.register("bundled")
def _bundled(source: PoolSource) -> Pool:
    return BundledPool()


@KINDS.register("folder")
def _folder(source: PoolSource) -> Pool:
    return _named(folder_pool(source.path), source)


@KINDS.register("imagefolder")
def _imagefolder(source: PoolSource) -> Pool:
    return image_folder_pool(source.path, source.data_set, source.split)


@KINDS.register("imagenet")
def _imagenet(source: PoolSource) -> Pool:
    return imagenet_pool(source.path)


@KINDS.register("imagenette")
def _imagenette(source: PoolSource) -> Pool:
    return imagenette_pool(Path(source.place) if source.place else Path.home() / ".cache" / "vimi" / "imagenette")


@KINDS.register("webdataset")
def _webdataset(source: PoolSource) -> Pool:
    return _named(WebDatasetPool(find_shards(source.place)), source)


def _named(pool: Pool, source: PoolSource) -> Pool:
    """Return the pool under the name of its data set, if one is given."""
    if source.data_set:
        pool.name = pool.data_set = data_set_name(source.data_set)
        pool.split = source.split
    return pool


def open_pool(source: str, data_set: str = "", split: str = "") -> Pool:
    """Open a pool by the source that an experiment names.

    Parameters
    ----------
    source
        Its source: ``bundled``, ``folder:PATH``, ``imagefolder:PATH``, ``imagenet:PATH``, ``imagenette``,
        ``webdataset:SHARDS``.
    data_set, split
        The public data set that the pictures are part of, and which split of it, where the source does not say it.

    Raises
    ------
    NameNotFound
        If there is no such kind of pool.
    PoolError
        If it is missing or empty.
    """
    kind, _, place = source.partition(":")
    if kind not in KINDS:
        spelled = "Write bundled, folder:PATH, imagefolder:PATH, imagenet:PATH, imagenette or webdataset:SHARDS."
        raise NameNotFound("kind of pool", kind, KINDS, spelled)
    pool = KINDS[kind](PoolSource(kind, place, data_set, split))
    if data_set and data_set_name(data_set) != pool.data_set:
        raise PoolError(
            f"The pool {source} can't be called {data_set!r}: its source already names its data set. Only "
            "folder:PATH, imagefolder:PATH and webdataset:SHARDS take data_set."
        )
    if not len(pool):
        beside = "".join(f" {notice}" for notice in pool.notices())
        raise PoolError(f"The pool {source} is empty. Give a folder with pictures.{beside}")
    return pool
