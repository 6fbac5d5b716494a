"""Pools: the pictures that natural stimuli come from.

A pool lists its pictures in a fixed order and decodes any one of them. Its pictures have a source, perhaps a
label, and perhaps a group that is known from where they come (crops of one photograph). What lies in the same place
and is no picture of the pool is left out, counted and named: see :attr:`Pool.left_out`.
"""

from __future__ import annotations

import glob
import os
import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby, pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image

from benchmark.data_sets import data_set_name
from benchmark.errors import PoolError, first_line
from benchmark.model_card import ModelCard
from stimuli.pictures import canonical_crop, decode, is_picture

Seen = Literal["seen", "unseen", "unknown"]

KEPT_CROPS = 2**28
"""Bytes of crops that a pool keeps in memory: those of 1,783 pictures at 224 pixels."""

MOST_BYTES = 2**27
"""Bytes of a file that are read at once, at most."""

_ENDINGS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
    ".pbm", ".pnm", ".tga", ".dds", ".ico", ".jp2", ".j2k", ".psd", ".avif", ".heic", ".heif", ".jxl", ".qoi",
}  # fmt: skip
"""Endings of files that are meant as pictures: if one of these can't be decoded, that is an error.

Any other file is a picture if it begins like one, and is left out and named if not.
"""

_SYSTEM_FILES = {"thumbs.db", "desktop.ini", ".ds_store", ".localized", ".directory"}
_NAMED = 5
"""Files that a sentence names, at most."""

BESIDE = "no pictures"
DANGLING = "links that lead nowhere"
LOOPS = "links to a folder that contains them"
HIDDEN = "hidden files and folders"
SPECIAL = "neither files nor folders"
FURTHER = "further pictures of a WebDataset sample"


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
    left_out
        Names of files that lie among the pictures and do not belong to the pool, by the reason why.
    remarks
        What else must be said of the pool, in sentences.
    """

    name: str
    entries: Sequence[Entry]
    data_set: str = ""
    split: str = ""
    left_out: Mapping[str, Sequence[str]] = {}
    remarks: Sequence[str] = ()
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

    def content(self, place: int) -> bytes | None:
        """Return the bytes of a picture's file, which identify it; None if it has no file of its own.

        Raises
        ------
        UnreadablePicture
            If the file can't be read.
        """
        return None

    def decode(self, content: bytes, place: int) -> Image.Image:
        """Return what :meth:`original` returns, from the bytes of the picture's file."""
        return decode(content, self.entries[place].source)

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

    def notices(self) -> list[str]:
        """Say, in sentences, what was left out of the pool and what was assumed about it."""
        sentences = [
            f"Left out of the pool, {len(names):,} {reason}: {name_some(names)}."
            for reason, names in self.left_out.items()
        ]
        return [*self.remarks, *sentences]

    def seen_by(self, card: ModelCard) -> Seen:
        """Say whether a model saw these pictures in training, as far as that can be known."""
        if card.training is None:
            return "unseen"
        if not self.data_set or self.data_set not in map(data_set_name, card.training.data):
            return "unknown"
        by_split: dict[str, Seen] = {"train": "seen", "val": "unseen"}
        return by_split.get(self.split, "unknown")


class FilePool(Pool):
    """A pool of files below a folder."""

    def __init__(
        self,
        name: str,
        root: Path,
        paths: Sequence[Path],
        labels: Sequence[str] | None = None,
        left_out: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.left_out = left_out or {}
        spelled = [spell_path(path.relative_to(root)) for path in paths]
        order = sorted(range(len(paths)), key=spelled.__getitem__)
        for first, second in pairwise(order):
            if spelled[first] == spelled[second]:
                raise PoolError(
                    f"The pool has two files that would both be called {spelled[first]}: one file name is not UTF-8, "
                    "and the other equals its escaped form. Rename one of them."
                )
        self.entries = [Entry(spelled[n], labels[n] if labels is not None else None) for n in order]
        self._paths = [paths[n] for n in order]

    def original(self, place: int) -> Image.Image:
        """Return a picture in its original size."""
        path = self._paths[place]
        return decode(path, spell_path(path))

    def content(self, place: int) -> bytes | None:
        """Return the bytes of a picture's file, None if they are too many to be read at once."""
        path = self._paths[place]
        try:
            return path.read_bytes() if path.stat().st_size <= MOST_BYTES else None
        except OSError:
            decode(path, spell_path(path))  # says what is wrong
            raise

    def decode(self, content: bytes, place: int) -> Image.Image:
        """Return a picture from the bytes of its file."""
        return decode(content, spell_path(self._paths[place]))


def spell_path(path: Path | PurePosixPath | str) -> str:
    """Return a path as text; bytes of a name that are not UTF-8 are spelled as ``\\xNN``."""
    text = path.as_posix() if isinstance(path, Path | PurePosixPath) else path
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def name_some(names: Sequence[str]) -> str:
    """Name some things: the first of them, and how many more there are."""
    further = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {further:,} more" if further > 0 else "")


def folder_pool(root: Path) -> FilePool:
    """Make a pool of every picture below a folder, whatever its name; hidden files are left out."""
    paths, left_out = _files(root)
    return FilePool("folder", root, paths, left_out=left_out)


def image_folder_pool(root: Path, data_set: str = "", split: str = "", kind: str = "imagefolder") -> FilePool:
    """Make a pool of a folder with a subfolder for each class, as torchvision's ``ImageFolder`` reads it.

    Parameters
    ----------
    root
        The folder. It may be the split itself, or have a subfolder ``val`` (preferred: held out), ``test`` or
        ``train``, if it then has no class folders.
    data_set
        Name of the public data set that the pictures are (part of); empty if they are of none.
    split
        Which split of it; if not given, the name of the folder where that says it.
    kind
        What the source of the pool is called in messages.

    Raises
    ------
    PoolError
        If there are pictures outside class folders.
    """
    top, found = _split_folder(root)
    paths, left_out = _files(top)
    loose = [path for path in paths if path.parent == top]
    if loose:
        raise PoolError(
            f"{spell_path(top)} has pictures outside any class folder ({spell_path(loose[0].name)}). The layout must "
            f"be CLASS/PICTURE. For a plain folder, use folder:PATH instead of {kind}:PATH."
        )
    labels = [spell_path(path.relative_to(top).parts[0]) for path in paths]
    name = data_set_name(data_set) if data_set else "imagefolder"
    pool = FilePool(name, top, paths, labels, left_out)
    if data_set:
        pool.data_set, pool.split = name, split or found
    return pool


def _split_folder(root: Path) -> tuple[Path, str]:
    """Return the folder of class folders, and the split that it is (``train``, ``val``), if names say it."""
    _check_folder(root)
    inner = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if set(inner) & {"train", "val"} or (inner and set(inner) <= set(_SPLITS)):
        split = next(name for name in ("val", "test", "train") if name in inner)
        return root / split, _SPLITS[split]
    return root, _SPLITS.get(root.name, "")


_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "val", "training": "train"}
"""What names of folders say of the split; a test split is as unseen as one for validation."""


def imagenet_pool(root: Path) -> FilePool:
    """Make a pool of ImageNet-1k's folders, whose names are its WordNet ids.

    ``root`` may be the split itself or have a subfolder ``val`` (preferred: held out) or ``train``. If a class folder
    is not one of ImageNet's, the pool is a labelled folder of no known data set, and that is said.
    """
    pool = image_folder_pool(root, "imagenet-1k", kind="imagenet")
    strange = sorted({str(entry.label) for entry in pool.entries} - imagenet_classes())
    if strange:
        pool.name, pool.data_set, pool.split = "imagefolder", "", ""
        pool.remarks = (
            f"imagenet:{spell_path(root)} is not ImageNet-1k: {len(strange):,} class folders are not among its classes "
            f"({name_some(strange)}). vimi takes it as a labelled folder of an unknown data set and can't say which "
            'models saw it. Name the data set: source = "imagefolder:PATH" and data_set = "NAME" under [pool].',
        )
    else:
        pool.name = "imagenet"
    return pool


@cache
def imagenet_classes() -> frozenset[str]:
    """Return the WordNet ids of the 1,000 classes of ImageNet-1k, as timm lists them."""
    from timm.data import ImageNetInfo

    return frozenset(ImageNetInfo("imagenet-1k").label_names())


def imagenette_pool(root: Path) -> FilePool:
    """Make a pool of Imagenette's validation pictures, downloaded by torchvision if they are not there."""
    from torchvision.datasets import Imagenette

    have = (root / "imagenette2").is_dir()
    try:
        data = Imagenette(str(root), split="val", size="full", download=not have)
    except Exception as error:
        raise PoolError(
            f"Imagenette is not in {root} and could not be downloaded: {error}. Download it on a machine with "
            "internet access."
        ) from None
    top = root / "imagenette2" / "val"
    samples = [(Path(path), data.wnids[label]) for path, label in data._samples]
    pool = FilePool("imagenette", top, [path for path, _ in samples], [label for _, label in samples])
    pool.data_set, pool.split = "imagenet-1k", ""
    return pool


class WebDatasetPool(Pool):
    """Pictures in the tar shards of a WebDataset, one a sample; its ``.cls`` or ``.txt`` neighbour is its label."""

    name = "webdataset"

    def __init__(self, shards: Sequence[Path]) -> None:
        members: list[_Member] = []
        left_out: dict[str, list[str]] = {}
        for shard in shards:
            found, beside = _index_shard(shard)
            members += found
            for reason, names in beside.items():
                left_out.setdefault(reason, []).extend(names)
        members.sort(key=lambda member: member.source)
        for first, second in pairwise(members):
            if first.source == second.source:
                raise PoolError(
                    f"The pool has two pictures called {first.source}, in {first.shard} and {second.shard}: vimi "
                    "names pictures by their shard and their position in it. Give every shard its own name."
                )
        self.left_out = left_out
        self.entries = [Entry(member.source, member.label) for member in members]
        self._where = [(member.shard, member.offset, member.size) for member in members]

    def original(self, place: int) -> Image.Image:
        """Return a picture in its original size."""
        return self.decode(self.content(place), place)

    def content(self, place: int) -> bytes:
        """Return the bytes of a picture's member of its shard."""
        shard, offset, size = self._where[place]
        with shard.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def decode(self, content: bytes, place: int) -> Image.Image:
        """Return a picture from its bytes."""
        return decode(content, f"{self.entries[place].source} in {spell_path(self._where[place][0])}")


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise PoolError(f"The pool's folder {spell_path(root)} does not exist.")
    if not root.is_dir():
        raise PoolError(f"The pool {spell_path(root)} is a file; give a folder of pictures.")


def _files(root: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """Return every picture below a folder, and the other files with the reason why they are left out.

    Links are followed, to files and to folders, as torchvision and timm follow them; a link to a folder that it lies
    in is cut.

    Raises
    ------
    PoolError
        If a folder can't be read.
    """
    _check_folder(root)
    found: list[Path] = []
    left_out: dict[str, list[str]] = {}
    for path, reason in _walk(root, ()):
        if not reason:
            found.append(path)
        elif path.name.lower() not in _SYSTEM_FILES:
            left_out.setdefault(reason, []).append(spell_path(path.relative_to(root)))
    return found, {reason: sorted(names) for reason, names in sorted(left_out.items())}


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, str]]:
    """Yield the files below a folder, each with the reason why it is not a picture (empty for pictures)."""
    try:
        status = folder.stat()
        here = (*above, (status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            members = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise PoolError(
            f"The folder {spell_path(folder)} of the pool can't be read: {error.strerror}. Change its permissions, or "
            "move it elsewhere."
        ) from None
    for entry in members:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            yield path, HIDDEN
        elif (kind := _kind_of(entry)) == "folder":
            status = entry.stat()
            if (status.st_dev, status.st_ino) in here:
                yield path, LOOPS
            else:
                yield from _walk(path, here)
        elif kind == "file":
            yield path, "" if path.suffix.lower() in _ENDINGS or _begins_like_one(path) else BESIDE
        else:
            yield path, DANGLING if entry.is_symlink() and not _leads_somewhere(path) else SPECIAL


def _kind_of(entry: os.DirEntry[str]) -> str:
    """Return ``folder`` or ``file``, links followed; empty for anything else, and for a link that leads nowhere."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # a link that leads to itself
        return ""


def _leads_somewhere(link: Path) -> bool:
    """Whether a link leads to anything; one that leads to itself does not."""
    try:
        link.stat()
    except OSError:
        return False
    return True


def _begins_like_one(path: Path) -> bool:
    """Whether a file without a picture's ending is a picture; names that systems leave behind never are."""
    return path.name.lower() not in _SYSTEM_FILES and is_picture(path)


def find_shards(place: str) -> list[Path]:
    """Expand ``shard-{000..012}.tar`` and ``shard-*.tar``, and download addresses."""
    names = [name for part in place.split(",") for name in _expand(part.strip()) if name]
    if not names:
        raise PoolError("The pool 'webdataset' needs shards: webdataset:PATH/shard-{000..012}.tar.")
    paths = [path for name in names for path in ([_fetch_shard(name)] if "://" in name else _match(name))]
    return list(dict.fromkeys(paths))


def _match(name: str) -> list[Path]:
    """Return the files that a pattern with ``*``, ``?`` or ``[...]`` matches, in order; a file's own name comes first.

    Raises
    ------
    PoolError
        If none matches, or a folder is named.
    """
    path = Path(name)
    if path.is_dir():
        raise PoolError(f"{name} is a folder; name its shards: webdataset:{path / '*.tar'}.")
    if path.exists() or not glob.has_magic(name):
        return [path]
    found = sorted(Path(match) for match in glob.glob(name, recursive=True) if Path(match).is_file())
    if not found:
        raise PoolError(
            f"No file matches the shards {name}. Check the path, or name the shards one by one, with commas."
        )
    return found


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
        raise PoolError(f"Shards can only be downloaded over https, not from {address}.")
    target = Path.home() / ".cache" / "vimi" / "shards" / re.sub(r"[^\w.-]", "_", address.partition("://")[2])
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(target))
        except Exception as error:
            raise PoolError(f"The shard {address} could not be downloaded: {error}.") from None
    return target


@dataclass(frozen=True)
class _Member:
    """A picture of a shard: its name in the pool, where its bytes lie, and its label."""

    source: str
    shard: Path
    offset: int
    size: int
    label: str | None


@dataclass
class _Sample:
    """Members of a shard that share a key: a WebDataset's sample."""

    pictures: list[tuple[str, str, int, int]] = field(default_factory=list)  # ending, name, offset, size
    label: str | None = None


def _index_shard(shard: Path) -> tuple[list[_Member], dict[str, list[str]]]:
    """List the pictures of a shard, one for each sample, and what was left out, by the reason why.

    A member's key is its name up to the first point, and its ending the rest, as WebDataset defines them: ``a.jpg`` and
    ``a.seg.png`` belong to one sample. Of a sample's pictures, that with a plain ending is the stimulus.
    """
    samples: dict[str, _Sample] = {}
    left_out: dict[str, list[str]] = {}
    try:
        with tarfile.open(shard, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                source = spell_path(f"{shard.name}/{member.name}")
                if name.name.startswith(".") or "__MACOSX" in name.parts:
                    left_out.setdefault(HIDDEN, []).append(source)
                    continue
                stem, _, ending = name.name.partition(".")
                sample = samples.setdefault(str(name.parent / stem), _Sample())
                suffix = name.suffix.lower()
                if suffix in _ENDINGS:
                    sample.pictures.append((f".{ending.lower()}", source, member.offset_data, member.size))
                elif suffix == ".cls" or (suffix == ".txt" and sample.label is None):
                    text = tar.extractfile(member) if member.size < 1000 else None
                    sample.label = text.read().decode("utf-8", "replace").strip() if text else sample.label
    except FileNotFoundError:
        raise PoolError(f"The shard {spell_path(shard)} does not exist.") from None
    except (tarfile.TarError, OSError, UnicodeError, ValueError) as error:
        raise PoolError(
            f"The shard {spell_path(shard)} is not a readable, uncompressed tar file: {first_line(error)}."
        ) from None
    members: list[_Member] = []
    for sample in samples.values():
        # The same member twice is for the pool to refuse; any other further picture is left out, and named.
        ordered = sorted(sample.pictures, key=lambda picture: (picture[0] not in _ENDINGS, picture[1]))
        for position, (name, copies) in enumerate(groupby(ordered, key=lambda picture: picture[1])):
            if position:
                left_out.setdefault(FURTHER, []).append(name)
            else:
                members += [_Member(name, shard, offset, size, sample.label) for _, _, offset, size in copies]
    return members, left_out
