"""The folder of an export: written to a temporary folder, described by a manifest, and moved when it is complete."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.dataset.data import EXPORT
from benchmark import __version__
from benchmark.errors import HostingError
from benchmark.hashing import hash_file
from benchmark.storage import disk_errors, write_json
from benchmark.study import Study

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ExportSource:
    """What an export was made from.

    Attributes
    ----------
    name
        Name of the study's folder.
    format
        Format of the export.
    study, protocol, stimuli_hash
        Hash of the study, identity of its protocol, hash of its stimuli.
    notes
        What goes wherever the study's numbers go.
    options
        What was asked for.
    made_at
        When, in UTC.
    """

    name: str
    format: str
    study: str
    protocol: str
    stimuli_hash: str
    notes: tuple[str, ...]
    options: dict[str, bool]
    made_at: str

    @classmethod
    def of(cls, study: Study, format: str, options: dict[str, bool]) -> ExportSource:
        """Return what an export of a study is made from."""
        return cls(
            study.root.resolve().name, format, study.hash, study.protocol.identity, study.stimuli_hash,
            tuple(study.manifest["notes"]), options, datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip


@dataclass
class Folder:
    """A folder that is being written.

    Attributes
    ----------
    root
        Where it is written to.
    source
        What it is made from.
    files
        Rows of each file by its path from the root; None for files that are no table.
    tables
        Rows of each table, which may lie in many files.
    """

    root: Path
    source: ExportSource
    files: dict[str, int | None] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)

    def place(self, name: str, rows: int | None = None) -> Path:
        """Return where to write a file that belongs to the export; its folder is made if needed."""
        self.files[name] = rows
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, text: str, rows: int | None = None) -> None:
        """Write text, in UTF-8."""
        self.place(name, rows).write_bytes(text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as readable JSON."""
        self.write(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def copy(self, path: Path, name: str) -> None:
        """Copy a file into the export."""
        shutil.copyfile(path, self.place(name))


@contextmanager
def new_export(target: Path, source: ExportSource) -> Iterator[Folder]:
    """Let an export be written, and put it into its place when it is whole.

    Until then, and if anything goes wrong, the place is as it was. What a killed process leaves behind is a folder
    whose name begins with a dot, without a manifest.

    Raises
    ------
    HostingError
        If the folder holds something that is no export, or an export that was changed since.
    StorageError
        If it can't be written.
    """
    check_target(target)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            folder = Folder(unfinished, source)
            yield folder
            write_json(unfinished / MANIFEST, describe(folder))
            unfinished.chmod(0o755)
            _replace(target, unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def describe(folder: Folder) -> dict[str, Any]:
    """Return the manifest of an export: what it was made from, and rows and hash of every file."""
    source = folder.source
    return {
        "kind": EXPORT,
        "format": source.format,
        "vimi": __version__,
        "made_at": source.made_at,
        "study_name": source.name,
        "study": source.study,
        "protocol": source.protocol,
        "stimuli_hash": source.stimuli_hash,
        "notes": list(source.notes),
        "options": source.options,
        "tables": folder.tables,
        "files": [
            {
                "path": name,
                "bytes": (folder.root / name).stat().st_size,
                "sha256": hash_file(folder.root / name),
                **({} if rows is None else {"rows": rows}),
            }
            for name, rows in sorted(folder.files.items())
        ],
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an export.

    Raises
    ------
    HostingError
        If the folder is no export.
    """
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict) or values.get("kind") != EXPORT:
        raise HostingError(f"{folder} is not an export by vimi: it has no valid {MANIFEST}.")
    return values


def find_changes(folder: Path) -> list[str]:
    """Return what differs between an export and its manifest, in words; nothing if all is as it was written.

    Raises
    ------
    HostingError
        If the folder is no export.
    """
    known = {entry["path"]: entry["sha256"] for entry in read_manifest(folder)["files"]}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {MANIFEST}
    return [
        *(f"{name} is missing" for name in sorted(set(known) - present)),
        *(f"{name} was added" for name in sorted(present - set(known))),
        *(f"{name} was changed" for name in sorted(present & set(known)) if hash_file(folder / name) != known[name]),
    ]


def check_target(target: Path) -> None:
    """Check that an export may be written to a folder.

    Raises
    ------
    HostingError
        If it is a file, holds something else, or holds an export that was changed since.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise HostingError(f"{target} is not a folder; an export needs a folder. Choose another name with --out.")
    if not target.is_dir() or not any(target.iterdir()):
        return
    try:
        changes = [change for change in find_changes(target) if not change.endswith(" is missing")]
    except HostingError:
        raise HostingError(
            f"{target} is neither empty nor an export by vimi, so vimi writes nothing there. Choose a new folder with "
            "--out."
        ) from None
    if changes:
        raise HostingError(
            f"{target} is an earlier export that has changed since ({changes[0]}). vimi won't replace it: choose a "
            "new folder with --out, or remove this one."
        )


def _replace(target: Path, finished: Path) -> None:
    """Replace an earlier folder by a finished one; restore the earlier one if that fails."""
    if not target.exists():
        finished.rename(target)
        return
    earlier = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    target.replace(earlier)
    try:
        finished.rename(target)
    except OSError:
        earlier.replace(target)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
