"""A study's own texts: taken over from where the experimenter keeps them, so that the study folder is whole.

``[texts] folder`` and ``consent`` of the experiment say where they lie. What is taken over stands in
``STUDY/texts/LANGUAGE/``, and ``STUDY/texts/taken_over.json`` keeps the hash of each file as it came. A text is
written again only when its source has changed since. A text that was edited inside the study stays as it is; if its
source has changed as well, neither is right by itself, and the experimenter is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.errors import DocumentError, StudyError
from benchmark.experiment import TextSettings
from benchmark.hashing import hash_bytes
from benchmark.storage import disk_errors, write_atomically, write_json

LARGEST_TEXT = 200_000
"""Bytes of a text; anything larger is no text for participants."""

KINDS = (".md", ".toml")
"""Files that are taken over: pages, labels and the quiz."""

_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")
_RECORD = "taken_over.json"


@dataclass(frozen=True)
class TextChanges:
    """What taking over would change.

    Attributes
    ----------
    folder
        The study's texts.
    written
        Texts to write, by their path in the folder.
    removed
        Texts to remove: their source is gone, and nobody has edited them.
    record
        Hash of every text as it came.
    """

    folder: Path
    written: dict[str, bytes]
    removed: tuple[str, ...]
    record: dict[str, str]

    def apply(self) -> None:
        """Write and remove."""
        if not self.record and not self.removed:
            return
        for name, content in self.written.items():
            write_atomically(self.folder / name, partial(_write, content))
        for name in self.removed:
            with disk_errors(self.folder / name):
                (self.folder / name).unlink(missing_ok=True)
        write_json(self.folder / _RECORD, dict(sorted(self.record.items())))


def compare_texts(folder: Path, settings: TextSettings) -> TextChanges:
    """Compare a study's texts with their sources; nothing is written yet.

    Parameters
    ----------
    folder
        ``STUDY/texts``; it need not exist.
    settings
        Where the sources are.

    Raises
    ------
    DocumentError
        If a source is missing, too large or no text.
    StudyError
        If a text was edited in the study and its source has changed too.
    """
    record = _read_record(folder)
    places = [Path(place) for place in (settings.folder, settings.consent) if place]
    if record and places and not any(place.exists() for place in places):
        return TextChanges(folder, {}, (), record)  # the study has moved: what it took over is all there is
    sources = dict(_read_sources(settings))
    written: dict[str, bytes] = {}
    for name, content in sources.items():
        came, now = record.get(name), hash_bytes(content)
        here = _hash_of(folder / name)
        if here == now or (came == now and here is not None):
            continue
        if here is not None and here != came:
            raise StudyError(
                f"{folder / name} was edited in the study, and its source has changed too. Copy your edits into the "
                f"source named in [texts], delete {folder / name}, and build again."
            )
        written[name] = content
    gone = [name for name in record if name not in sources]
    removed = tuple(name for name in gone if _hash_of(folder / name) == record[name])
    return TextChanges(folder, written, removed, {name: hash_bytes(content) for name, content in sources.items()})


def _read_sources(settings: TextSettings) -> Iterator[tuple[str, bytes]]:
    """Iterate over the experimenter's texts by their path in the study's folder; the consent's own file comes last."""
    if settings.folder:
        root = Path(settings.folder)
        if not root.is_dir():
            raise DocumentError(f"[texts] folder: there is no folder {root}.")
        for path in sorted(root.glob("*")):
            if path.suffix in KINDS:
                raise DocumentError(
                    f"[texts] folder: {path} is not in a language's folder. Move it to {root / settings.language}."
                )
            if path.is_dir() and _LANGUAGE.fullmatch(path.name):
                for text in sorted(path.glob("*")):
                    if text.suffix in KINDS and text.is_file() and not text.name.startswith("."):
                        yield f"{path.name}/{text.name}", _read_source(text, "folder")
    if settings.consent:
        path = Path(settings.consent)
        if path.suffix != ".md":
            raise DocumentError(f"[texts] consent: {path} is not a Markdown file; its name must end in .md.")
        yield f"{settings.language}/consent.md", _read_source(path, "consent")


def _read_source(path: Path, key: str) -> bytes:
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise DocumentError(f"[texts] {key}: {path} is larger than {LARGEST_TEXT // 1000} kB; shorten it.")
        content = path.read_bytes()
        content.decode("utf-8")
    except UnicodeDecodeError:
        raise DocumentError(f"[texts] {key}: {path} is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise DocumentError(f"[texts] {key}: {path} can't be read: {error.strerror}.") from None
    return content


def _read_record(folder: Path) -> dict[str, str]:
    path = folder / _RECORD
    if not path.is_file():
        return {}
    try:
        return {str(name): str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError, OSError) as error:
        raise StudyError(
            f"{path} can't be read ({error}); delete it and the texts beside it, and build again."
        ) from None


def _hash_of(path: Path) -> str | None:
    return hash_bytes(path.read_bytes()) if path.is_file() else None


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)
