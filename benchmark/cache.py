"""A cache of work that belongs to pictures, not to a study: it is done once for all studies beside each other.

It lies in the folder ``.vimi-cache`` beside the studies (in the leaderboard's workspace: ``studies/.vimi-cache``), or
where the environment variable ``VIMI_CACHE`` says; ``VIMI_CACHE=off`` turns it off. Nothing depends on it: any part of
it may be deleted at any time, and what is missing or damaged is computed again.

Entries are files that are written once, in one step, and never changed, so that any number of processes may read and
write at the same time. Each has a checksum of its contents; one that does not fit is deleted and computed again.
Encoded pictures are entries of their own, which studies share with it where the file system can.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache as remember
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import StorageError
from benchmark.hashing import hash_array, hash_file, hash_settings, pack_hashes, unpack_hashes
from benchmark.storage import write_atomically

VARIABLE = "VIMI_CACHE"
FOLDER = ".vimi-cache"
OFF = ("off", "0", "no", "none", "false")

LAYOUT = 2
"""Version of what is cached and how: another number makes other entries."""

_IDS = "_ids"
_VALUES = "values"
_PACKAGES = ("numpy", "pillow", "scipy", "torch")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Rows:
    """Cached values, one row a picture.

    Attributes
    ----------
    index
        Row of each picture, by its identifier.
    arrays
        Values by name, each of shape (pictures, ...).
    """

    index: dict[str, int] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)

    def get(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the rows of one array by picture."""
        if not self.index:
            return {}
        values = self.arrays[name]
        return {picture: values[row] for picture, row in self.index.items()}


@dataclass(frozen=True)
class Cache:
    """A cache in a folder, or none.

    Attributes
    ----------
    folder
        Where its entries lie; None if it is turned off.
    """

    folder: Path | None

    @classmethod
    def beside(cls, study: Path) -> Cache:
        """Return the cache that a study uses: the one that ``VIMI_CACHE`` names, or the one beside the study."""
        named = os.environ.get(VARIABLE, "").strip()
        if named.lower() in OFF:
            return cls(None)
        return cls(Path(named).expanduser() if named else study.resolve().parent / FOLDER)

    def read(self, kind: str, settings: Any) -> Rows:
        """Return what is cached of a kind of work with certain settings; an entry that is damaged is deleted.

        Parameters
        ----------
        kind
            What was computed: ``survey``, ``embeddings``, ``lowlevel``.
        settings
            Everything that the values depend on besides the pictures; anything that JSON can say.
        """
        if self.folder is None:
            return Rows()
        index: dict[str, int] = {}
        parts: list[Arrays] = []
        count = 0
        for path in _entries(self._place(kind, settings)):
            arrays = _read_entry(path)
            if arrays is None or (parts and _shapes(arrays) != _shapes(parts[0])):
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            for row, picture in enumerate(unpack_hashes(arrays[_IDS])):
                index[picture] = count + row
            count += len(arrays[_IDS])
            parts.append(arrays)
        names = [name for name in parts[0] if name != _IDS] if parts else []
        return Rows(index, {name: np.concatenate([part[name] for part in parts]) for name in names})

    def add(self, kind: str, settings: Any, pictures: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> str:
        """Cache values, one row a picture.

        Parameters
        ----------
        kind, settings
            As for :meth:`read`.
        pictures
            Identifiers: hashes of 32 hexadecimal digits.
        arrays
            Values by name, each of shape (pictures, ...).

        Returns
        -------
        Why nothing could be cached, or nothing: if the cache can't be written, work continues.
        """
        if self.folder is None or not len(pictures):
            return ""
        from safetensors.numpy import save_file

        contents = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        contents[_IDS] = pack_hashes(pictures)
        checksum = _checksum(contents)
        path = self._place(kind, settings) / f"{checksum}.safetensors"
        try:
            write_atomically(path, lambda target: save_file(contents, target, {"checksum": checksum}), durable=False)
        except (StorageError, OSError) as error:
            return f"Work on pictures could not be cached, and will be done again: {error}"
        return ""

    def complete(
        self,
        kind: str,
        settings: Any,
        known: dict[str, NDArray[Any]],
        pictures: Iterable[str],
        compute: Callable[[list[str]], NDArray[Any]],
        say: Callable[[str], None],
    ) -> bool:
        """Complete what is known of pictures, each once: what the cache lacks is computed, and cached.

        Parameters
        ----------
        kind, settings
            As for :meth:`read`.
        known
            What is known already, by picture; gets what was missing, first the cached, then the computed, each in the
            order of the pictures.
        pictures
            Identifiers of the pictures that are needed; may repeat.
        compute
            Called, unless nothing is left to compute, with the pictures that are; returns an array of shape
            (pictures, ...).
        say
            Told, in a sentence, why nothing could be cached.

        Returns
        -------
        Whether anything was missing.
        """
        return self.shelf(kind, settings).complete(known, pictures, compute, say)

    def shelf(self, kind: str, settings: Any) -> Shelf:
        """Return a kind of work with certain settings, whose entries are read once."""
        return Shelf(self, kind, settings)

    def take_picture(self, picture: str, settings: Any, path: Path) -> bool:
        """Put an encoded picture where a study wants it, if the cache has it; say whether it had.

        Nothing is copied where both lie in one file system: the study's file is another name of the cached one.

        Parameters
        ----------
        picture
            Hash of its pixels.
        settings
            How it is encoded; anything that JSON can say.
        path
            The study's file.
        """
        if self.folder is None:
            return False
        for entry in _pictures(self._picture_folder(settings, picture), picture):
            try:
                if hash_file(entry) != entry.stem.partition("-")[2]:
                    entry.unlink()
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                _link(entry, path)
            except (StorageError, OSError):
                continue
            return True
        return False

    def keep_picture(self, picture: str, settings: Any, path: Path) -> None:
        """Cache a study's encoded picture; if the cache can't be written, work continues."""
        if self.folder is None:
            return
        folder = self._picture_folder(settings, picture)
        with contextlib.suppress(StorageError, OSError):
            folder.mkdir(parents=True, exist_ok=True)
            _link(path, folder / f"{picture}-{hash_file(path)}{path.suffix}")

    def _picture_folder(self, settings: Any, picture: str) -> Path:
        assert self.folder is not None
        return self.folder / "pictures" / hash_settings([LAYOUT, settings]) / picture[:2]

    def _place(self, kind: str, settings: Any) -> Path:
        assert self.folder is not None
        return self.folder / kind / hash_settings([LAYOUT, _versions(), settings])


@dataclass
class Shelf:
    """A kind of work with certain settings, whose cached entries are read once: at the first call that needs them."""

    cache: Cache
    kind: str
    settings: Any
    _rows: dict[str, NDArray[Any]] | None = None

    def complete(
        self,
        known: dict[str, NDArray[Any]],
        pictures: Iterable[str],
        compute: Callable[[list[str]], NDArray[Any]],
        say: Callable[[str], None],
    ) -> bool:
        """Complete what is known of pictures, as :meth:`Cache.complete` does."""
        missing = [picture for picture in dict.fromkeys(pictures) if picture not in known]
        if not missing:
            return False
        if self._rows is None:
            self._rows = self.cache.read(self.kind, self.settings).get(_VALUES)
        rows = self._rows
        known.update((picture, rows[picture]) for picture in missing if picture in rows)
        left = [picture for picture in missing if picture not in rows]
        if left:
            values = compute(left)
            known.update(zip(left, values, strict=True))
            problem = self.cache.add(self.kind, self.settings, left, {_VALUES: values})
            if problem:
                say(problem)
        return True


def size_of(folder: Path) -> int:
    """Return how many bytes the entries below a folder take; pictures that a study shares take none of their own."""
    sizes = []
    for path in folder.rglob("*.*"):
        with contextlib.suppress(OSError):
            facts = path.stat()
            if stat.S_ISREG(facts.st_mode) and (path.suffix == ".safetensors" or facts.st_nlink == 1):
                sizes.append(facts.st_size)
    return sum(sizes)


def _link(source: Path, path: Path) -> None:
    """Give a file another name, or a copy where file systems don't allow that; what has that name already stays."""
    try:
        os.link(source, path)
    except FileExistsError:
        return
    except OSError:
        write_atomically(path, lambda target: _copy(source, target), durable=False)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _pictures(folder: Path, picture: str) -> list[Path]:
    """Return the cached files of a picture; none if somebody deletes them meanwhile."""
    try:
        return sorted(folder.glob(f"{picture}-*"))
    except OSError:
        return []


@remember
def _versions() -> dict[str, str]:
    """Return the versions of what can change the last bit of a value."""
    found = {"machine": platform.machine()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _entries(folder: Path) -> list[Path]:
    """Return the files of a kind of work; none if somebody deletes them meanwhile."""
    try:
        return sorted(folder.glob("*.safetensors"))
    except OSError:
        return []


def _read_entry(path: Path) -> Arrays | None:
    """Return the contents of an entry, or None if it is gone, damaged, or was changed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            checksum = (file.metadata() or {}).get("checksum")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
        return None
    if _IDS not in arrays or checksum != path.stem or _checksum(arrays) != checksum:
        return None
    return arrays if all(len(values) == len(arrays[_IDS]) for values in arrays.values()) else None


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    return hash_settings([(name, hash_array(arrays[name])) for name in sorted(arrays)])


def _shapes(arrays: Arrays) -> dict[str, tuple[Any, ...]]:
    return {name: (values.dtype.str, *values.shape[1:]) for name, values in sorted(arrays.items())}
