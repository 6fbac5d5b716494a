"""The data set itself, and the folder that it is written to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.results import AnalysisResult
from analysis.same_units import read_same_units
from benchmark import __version__, schemas
from benchmark.errors import ImportFailure
from benchmark.hashing import hash_file
from benchmark.storage import write_atomically, write_json
from benchmark.units import UNIT_COLUMNS

KIND = "import of vimi"
"""What the manifest of an import calls itself."""

EXPORT = "export of vimi"
"""What the manifest of an export calls itself."""


@dataclass(frozen=True, eq=False)
class Dataset(AnalysisResult):
    """Answers, with facts of their sessions, units and models.

    Attributes
    ----------
    name
        What the data set is called.
    responses
        Table of responses, schema ``RESPONSES``.
    sessions
        Table of people's sessions, schema ``SESSIONS``; facts that were never recorded are missing.
    units
        One row a unit that is asked about: ``unit`` (its name, as in the table of judgements), ``model``, ``layer``,
        ``depth`` (position of its layer, 0 to 1, or NaN), ``width`` (units in its layer, or NaN) and ``kind`` (what
        computes the layer, or empty).
    models
        One row a model: ``model``, ``family``, ``parameters``, ``training_images`` (distinct pictures),
        ``samples_seen`` (pictures seen in training, repetitions counted), ``top1`` (ImageNet accuracy, 0 to 1),
        ``year`` (of publication), ``twin`` (whether its weights are random) and ``same_units_as`` (the model whose
        units these are, too: what may be paired by unit beside twins). What is not known is NaN or empty.
    protocol
        Identity of the protocol; several are joined by ``" and "``.
    notes
        What must be said wherever the numbers are shown.
    sources
        SHA-256 of each file that was read, by name.
    origin
        How the data set was made: by which importer, with which mapping.
    """

    name: str
    responses: pd.DataFrame
    sessions: pd.DataFrame
    units: pd.DataFrame
    models: pd.DataFrame
    protocol: str
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def same_units(self) -> dict[str, str]:
        """What is declared of models with the same units: from a model to the one whose units it has, too."""
        return read_same_units(self.models)

    def frame(self) -> pd.DataFrame:
        """Return how many answers there are, by who answers, kind of trial and condition."""
        keys = ["observer_kind", "kind", "condition"]
        units = self.responses.assign(unit=self.responses.groupby(UNIT_COLUMNS, observed=True, dropna=False).ngroup())
        counts = units.groupby(keys, observed=True, dropna=False, sort=True).agg(
            models=("model", "nunique"),
            units=("unit", "nunique"),
            observers=("observer", "nunique"),
            answers=("correct", "size"),
        )
        return counts.reset_index()

    def readable(self) -> pd.DataFrame:
        """Return the same as people read it."""
        return self.frame().rename(columns={"observer_kind": "answered by", "kind": "trials"})

    @property
    def caption(self) -> str:
        """The data set's name, its size, and notes that must accompany its numbers."""
        sizes = ((self.responses, "answer"), (self.sessions, "session"), (self.units, "unit"), (self.models, "model"))
        counts = ", ".join(f"{len(table):,} {name}{'' if len(table) == 1 else 's'}" for table, name in sizes)
        notes = "".join(f" {note[:1].upper()}{note[1:].rstrip('.')}." for note in self.notes)
        return f"{self.name} (protocol {self.protocol}): {counts}.{notes}"

    def write(self, folder: Path | str) -> Path:
        """Write the data set to a folder that :func:`read_dataset` reads.

        Every file is written atomically, the manifest last: a folder whose writing was interrupted says so when it is
        read. An earlier import in the folder is replaced.

        Returns
        -------
        The folder.

        Raises
        ------
        ImportFailure
            If the folder holds something that is no import.
        StorageError
            If it can't be written.
        """
        root = Path(folder)
        _check_target(root)
        facts = {
            "kind": KIND,
            "vimi": __version__,
            "name": self.name,
            "protocol": self.protocol,
            "notes": list(self.notes),
            "origin": dict(self.origin),
            "sources": dict(self.sources),
        }
        write_json(root / "manifest.json", {**facts, "state": "being written"})
        schemas.RESPONSES.write(self.responses, root / "responses.parquet")
        schemas.SESSIONS.write(self.sessions, root / "sessions.parquet")
        write_atomically(root / "units.parquet", lambda path: self.units.to_parquet(path, index=False))
        write_atomically(root / "models.csv", lambda path: plain_numbers(self.models).to_csv(path, index=False))
        files = ["responses.parquet", "sessions.parquet", "units.parquet", "models.csv"]
        finished = {
            "state": "complete",
            "versions": _versions(),
            "rows": {"responses": len(self.responses), "sessions": len(self.sessions), "units": len(self.units)},
            "files": {name: hash_file(root / name) for name in files},
        }
        write_json(root / "manifest.json", {**facts, **finished})
        return root


def _versions() -> dict[str, str]:
    from benchmark.study import package_versions

    return package_versions()


def _check_target(root: Path) -> None:
    """Refuse to overwrite a folder that is not an import."""
    if root.exists() and not root.is_dir():
        raise ImportFailure(f"{root} is a file; an import is written to a folder.")
    if not root.is_dir() or not any(root.iterdir()):
        return
    if read_manifest(root).get("kind") != KIND:
        raise ImportFailure(f"{root} is neither empty nor an import. Choose another folder.")


def read_manifest(root: Path) -> dict[str, Any]:
    """Return a folder's manifest; empty if it has none."""
    path = root / "manifest.json"
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportFailure(f"{path} can't be read: {error}") from None
    return values if isinstance(values, dict) else {}


def plain_numbers(models: pd.DataFrame) -> pd.DataFrame:
    """Return the table of models as people like to read and edit it: whole numbers without a point."""
    shown = models.copy()
    for column in ("parameters", "training_images", "samples_seen", "year"):
        shown[column] = shown[column].round().astype("Int64")
    return shown
