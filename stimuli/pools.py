"""Pools: the pictures that natural stimuli come from.

A pool lists its pictures in a fixed order and decodes any one of them. Its pictures have a source, perhaps a
label, and perhaps a group that is known from where they come (crops of one photograph).
"""

from __future__ import annotations

import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image

from benchmark.errors import NameNotFound, PoolError
from benchmark.model_card import ModelCard
from stimuli.pictures import canonical_crop, decode

Seen = Literal["seen", "unseen", "unknown"]

KEPT_CROPS = 2**28
"""Bytes of crops that a pool keeps in memory: those of 1,783 pictures at 224 pixels."""

_PICTURE_MEMBERS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"}
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Entry:
    """A picture of a pool: where it lies, its class label and its source photograph, where known."""

    source: str
    label: str | None = None
    group: str | None = None


class Pool(ABC):
    """Pictures in a fixed order.

    Attributes
    ----------
    name
        What the pool is called in the manifest.
    entries
        Its pictures, sorted by source.
    data_set, split
        The public data set that it is (part of), where that is known: ``imagenet-1k``, ``train``.
    """

    name: str
    entries: Sequence[Entry]
    data_set: str = ""
    split: str = ""
    few_sources: bool = False
    """Whether the pictures come from so few photographs that a task must show some of them twice."""

    def __len__(self) -> int:
        return len(self.entries)

    @abstractmethod
    def original(self, place: int) -> Image.Image:
        """Return a picture in its original size, as upright RGB.

        Raises
        ------
        UnreadablePicture
            If it can't be decoded.
        """

    def crop(self, place: int, side: int, original: Image.Image | None = None) -> Image.Image:
        """Return the one crop of a picture that everybody sees; it must not be changed.

        Survey, every model's pass and the image store look at the same crops one after the other, so the first ones
        are kept, as many as :data:`KEPT_CROPS` bytes hold.

        Parameters
        ----------
        place
            Which picture.
        side
            Side of the crop in pixels.
        original
            The picture in its original size, if it has been decoded already.

        Raises
        ------
        UnreadablePicture
            If it can't be decoded.
        """
        kept = self._crops.get((place, side))
        if kept is None:
            kept = canonical_crop(self.original(place) if original is None else original, side)
            if (len(self._crops) + 1) * 3 * side**2 <= KEPT_CROPS:
                self._crops[place, side] = kept
        return kept

    @cached_property
    def _crops(self) -> dict[tuple[int, int], Image.Image]:
        return {}

    def seen_by(self, card: ModelCard) -> Seen:
        """Say whether a model saw these pictures in training, as far as that can be known."""
        if card.training is None:
            return "unseen"
        if not self.data_set or self.data_set not in card.training.data:
            return "unknown"
        by_split: dict[str, Seen] = {"train": "seen", "val": "unseen"}
        return by_split.get(self.split, "unknown")


class FilePool(Pool):
    """A pool of files below a folder."""

    def __init__(self, name: str, root: Path, paths: Sequence[Path], labels: Sequence[str] | None = None) -> None:
        self.name = name
        self.root = root
        order = sorted(range(len(paths)), key=lambda n: paths[n].relative_to(root).as_posix())
        self.entries = [
            Entry(paths[n].relative_to(root).as_posix(), labels[n] if labels is not None else None) for n in order
        ]

    def original(self, place: int) -> Image.Image:
        """Return a picture in its original size."""
        path = self.root / self.entries[place].source
        return decode(path, str(path))


def folder_pool(root: Path) -> FilePool:
    """Make a pool of every file below a folder, whatever its name; hidden files are left out."""
    return FilePool("folder", root, _files(root))


def imagenet_pool(root: Path) -> FilePool:
    """Make a pool of a folder with a subfolder for each class, as ImageNet is kept.

    ``root`` may be the split itself or have a subfolder ``val`` (preferred: held out) or ``train``.
    """
    _check_folder(root)
    split = next((name for name in ("val", "train") if (root / name).is_dir()), "")
    top = root / split if split else root
    paths = _files(top)
    loose = [path for path in paths if path.parent == top]
    if loose:
        raise PoolError(
            f"{top} has pictures outside any class folder ({loose[0].name}). The layout is CLASS/PICTURE; for a plain "
            "folder use folder:PATH."
        )
    pool = FilePool("imagenet", top, paths, [path.relative_to(top).parts[0] for path in paths])
    pool.data_set = "imagenet-1k"
    pool.split = split or (root.name if root.name in ("val", "train") else "")
    return pool


def imagenette_pool(root: Path) -> FilePool:
    """Make a pool of Imagenette's validation pictures, downloaded by torchvision if they are not there."""
    from torchvision.datasets import Imagenette

    have = (root / "imagenette2").is_dir()
    try:
        data = Imagenette(str(root), split="val", size="full", download=not have)
    except Exception as error:
        raise PoolError(
            f"Imagenette is not in {root} and could not be fetched: {error}. Fetch it where there is a network."
        ) from None
    top = root / "imagenette2" / "val"
    samples = [(Path(path), data.wnids[label]) for path, label in data._samples]
    pool = FilePool("imagenette", top, [path for path, _ in samples], [label for _, label in samples])
    pool.data_set, pool.split = "imagenet-1k", ""
    return pool


class WebDatasetPool(Pool):
    """Pictures in the tar shards of a WebDataset; a picture's ``.cls`` or ``.txt`` neighbour is its label."""

    name = "webdataset"

    def __init__(self, shards: Sequence[Path]) -> None:
        members: list[tuple[str, Path, int, int, str | None]] = []
        for shard in shards:
            members += _index_shard(shard)
        members.sort(key=lambda member: member[0])
        for (name, first, *_), (other, second, *_) in pairwise(members):
            if name == other:
                raise PoolError(
                    f"The pool has two pictures called {name}, in {first} and {second}: pictures are named by their "
                    "shard and their place in it. Give every shard a name of its own."
                )
        self.entries = [Entry(name, label) for name, _, _, _, label in members]
        self._where = [(shard, offset, size) for _, shard, offset, size, _ in members]

    def original(self, place: int) -> Image.Image:
        """Return a picture in its original size."""
        shard, offset, size = self._where[place]
        with shard.open("rb") as file:
            file.seek(offset)
            return decode(file.read(size), f"{self.entries[place].source} in {shard}")


def open_pool(source: str) -> Pool:
    """Open a pool by the source that an experiment names.

    Raises
    ------
    NameNotFound
        If there is no such kind of pool.
    PoolError
        If it is missing or empty.
    """
    kind, _, place = source.partition(":")
    pool: Pool
    if kind == "bundled":
        from stimuli.bundled import BundledPool

        pool = BundledPool()
    elif kind == "folder":
        pool = folder_pool(_path(kind, place))
    elif kind == "imagenet":
        pool = imagenet_pool(_path(kind, place))
    elif kind == "imagenette":
        pool = imagenette_pool(Path(place) if place else Path.home() / ".cache" / "vimi" / "imagenette")
    elif kind == "webdataset":
        pool = WebDatasetPool(_shards(place))
    else:
        known = ("bundled", "folder", "imagenet", "imagenette", "webdataset")
        spelled = "Write bundled, folder:PATH, imagenet:PATH, imagenette or webdataset:SHARDS."
        raise NameNotFound("kind of pool", kind, known, spelled)
    if not len(pool):
        raise PoolError(f"The pool {source} is empty. Give a folder with pictures.")
    return pool


def _path(kind: str, place: str) -> Path:
    if not place:
        raise PoolError(f"The pool {kind!r} needs a path: {kind}:PATH.")
    return Path(place)


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise PoolError(f"The pool's folder {root} does not exist.")
    if not root.is_dir():
        raise PoolError(f"The pool {root} is a file; a folder of pictures is needed.")


def _files(root: Path) -> list[Path]:
    """Return every file below a folder that could be meant as a picture."""
    _check_folder(root)
    return [
        path
        for path in root.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.name.lower() not in _SYSTEM_FILES
    ]


def _shards(place: str) -> list[Path]:
    """Expand ``shard-{000..012}.tar`` and fetch what lies behind an address."""
    names = [name for part in place.split(",") for name in _expand(part.strip()) if name]
    if not names:
        raise PoolError("The pool 'webdataset' needs shards: webdataset:PATH/shard-{000..012}.tar.")
    return [_fetch_shard(name) if "://" in name else Path(name) for name in names]


def _expand(pattern: str) -> list[str]:
    """Expand one range in braces, as WebDataset writes it."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = range(int(first), int(last) + 1)
    return [
        name
        for number in numbers
        for name in _expand(pattern[: match.start()] + str(number).zfill(len(first)) + pattern[match.end() :])
    ]


def _fetch_shard(address: str) -> Path:
    """Return a local copy of a shard, fetched once."""
    import torch

    if not address.startswith(("https://", "http://")):
        raise PoolError(f"Shards are fetched by https, not from {address}.")
    target = Path.home() / ".cache" / "vimi" / "shards" / re.sub(r"[^\w.-]", "_", address.partition("://")[2])
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(target))
        except Exception as error:
            raise PoolError(f"The shard {address} could not be fetched: {error}.") from None
    return target


def _index_shard(shard: Path) -> list[tuple[str, Path, int, int, str | None]]:
    """List the pictures of a shard: name, shard, offset, size and label."""
    pictures: list[tuple[str, str, int, int]] = []
    labels: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                key = str(name.parent / name.name.partition(".")[0])
                suffix = name.suffix.lower()
                if suffix in _PICTURE_MEMBERS:
                    pictures.append((key, f"{shard.name}/{member.name}", member.offset_data, member.size))
                elif suffix in (".cls", ".txt") and member.size < 1000:
                    text = tar.extractfile(member)
                    labels[key] = text.read().decode("utf-8", "replace").strip() if text else ""
    except FileNotFoundError:
        raise PoolError(f"The shard {shard} does not exist.") from None
    except (tarfile.TarError, OSError) as error:
        raise PoolError(f"The shard {shard} is no readable, uncompressed tar file: {error}.") from None
    return [(name, shard, offset, size, labels.get(key)) for key, name, offset, size in pictures]
