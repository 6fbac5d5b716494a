"""A data set: answers, and all that an analysis must know beside them.

Answers come from a study, from an import (see :mod:`analysis.importing`) or from a file that is in the schema of
responses already. Whatever they come from, analyses get the same tables: responses, sessions, units and models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.importing.cells import to_booleans, to_numbers
from analysis.importing.faults import Faults
from analysis.importing.layout import read_csv_text
from analysis.importing.schema import conform, convert, with_origin
from analysis.judgements import PEOPLE, unit_names
from benchmark import __version__, schemas
from benchmark.errors import ImportFailure, StudyError, suggest
from benchmark.model_card import TWIN_SUFFIX, ModelCard, card_names, load_card
from benchmark.storage import write_atomically, write_json
from benchmark.tasks import PLANTED

if TYPE_CHECKING:
    from benchmark.study import Study

KIND = "import of vimi"
"""What the manifest of an import calls itself."""

EXPORT = "export of vimi"

UNIT_FACTS = ["unit", "model", "layer", "depth", "width", "kind"]

MODEL_FACTS = ["model", "family", "parameters", "training_images", "samples_seen", "top1", "year", "twin"]
_MODEL_NUMBERS = ["parameters", "training_images", "samples_seen", "top1", "year"]

SEVERAL_PROTOCOLS = "answers of several protocols, which are never comparable as they stand"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Answers, and what is known of their sessions, units and models.

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
        ``year`` (of publication) and ``twin`` (whether its weights are random). What is not known is NaN or empty.
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
        write_atomically(root / "models.csv", lambda path: _plain_numbers(self.models).to_csv(path, index=False))
        files = ["responses.parquet", "sessions.parquet", "units.parquet", "models.csv"]
        finished = {
            "state": "complete",
            "versions": _versions(),
            "rows": {"responses": len(self.responses), "sessions": len(self.sessions), "units": len(self.units)},
            "files": {name: hash_file(root / name) for name in files},
        }
        write_json(root / "manifest.json", {**facts, **finished})
        return root


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    from benchmark.study import package_versions

    return package_versions()


def _check_target(root: Path) -> None:
    """Refuse to write over what is no import."""
    if root.exists() and not root.is_dir():
        raise ImportFailure(f"{root} is a file; an import is written to a folder.")
    if not root.is_dir() or not any(root.iterdir()):
        return
    if _manifest(root).get("kind") != KIND:
        raise ImportFailure(f"{root} is not empty and holds no import. Choose another folder.")


def _manifest(root: Path) -> dict[str, Any]:
    """Return a folder's manifest; empty if it has none."""
    path = root / "manifest.json"
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportFailure(f"{path} can't be read: {error}") from None
    return values if isinstance(values, dict) else {}


def read_dataset(
    path: Path | str | Study, database: str = "", *, pilot: bool = False, models: Path | str | None = None
) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    path
        A study or its folder; a folder that an import or ``vimi export`` wrote; or a Parquet or CSV file in the
        schema of responses.
    database
        URL of a study's database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.
    pilot
        Read people's answers to the study's pilot instead of those to the study.
    models
        A CSV file with a row a model that says more of models than is known: the column ``model`` and any of
        ``family``, ``parameters``, ``training_images``, ``samples_seen``, ``top1`` (0 to 1), ``year``.

    Raises
    ------
    ImportFailure
        If there is nothing at the path that can be read as answers.
    StudyError
        If a table breaks its schema.
    """
    from benchmark.study import Study

    if isinstance(path, Study):
        return _completed(_read_study(path, database, pilot), models)
    return _completed(_read_path(Path(path), database, pilot), models)


def _completed(dataset: Dataset, models: Path | str | None) -> Dataset:
    return dataset if models is None else with_models(dataset, models)


def _read_path(path: Path, database: str, pilot: bool) -> Dataset:
    from benchmark.study import Study

    if not path.exists():
        raise ImportFailure(f"There is no file or folder {path}.")
    if path.is_file():
        return _read_file(path)
    manifest = _manifest(path)
    if manifest.get("kind") == KIND:
        return _read_import(path, manifest)
    if "experiment" in manifest:
        return _read_study(Study.open(path), database, pilot)
    for name in ("responses.parquet", "responses.csv"):
        if (path / name).is_file():
            return _read_export(path, path / name, manifest)
    raise ImportFailure(
        f"{path} holds no answers: it is no study, no import, and has no responses.parquet or responses.csv. Tables of "
        "another shape come in with vimi import-csv, the 2023 release with vimi import-imi."
    )


# ---------------------------------------------------------------- studies


def _read_study(study: Study, database: str, pilot: bool) -> Dataset:
    from benchmark.responses import read_responses

    responses = read_responses(study, database, pilot=pilot)
    if responses.empty:
        raise ImportFailure(
            f"{study.root} has no answers yet. People answer with vimi serve, machines with vimi observe, simulated "
            "people with vimi simulate."
        )
    manifest = study.manifest
    stored = _study_sessions(study, database, pilot)
    derived = derive_sessions(responses)
    sessions = schemas.concatenate([stored, derived[~derived["session"].isin(stored["session"])]], schemas.SESSIONS)
    known = study.units()
    units = unit_facts(responses)
    details = known.assign(unit=unit_names(known)).drop_duplicates("unit").set_index("unit")
    for column in ("depth", "width", "kind"):
        units[column] = units["unit"].map(details[column])
    units["kind"] = units["kind"].fillna("")
    cards = {name: ModelCard.model_validate(facts["card"]) for name, facts in manifest.get("models", {}).items()}
    counted = {name: facts.get("parameters") for name, facts in manifest.get("models", {}).items()}
    notes = list(manifest["notes"])
    return Dataset(
        name=study.root.resolve().name,
        responses=responses,
        sessions=sessions,
        units=_order_units(units),
        models=model_facts(responses["model"].unique(), cards=cards, parameters=counted),
        protocol=_protocols(responses),
        notes=_all_notes(notes, responses),
        sources={"manifest.json": hash_file(study.manifest_path)},
        origin={"importer": "study", "study": study.hash, "pilot": pilot},
    )


def _study_sessions(study: Study, url: str, pilot: bool) -> pd.DataFrame:
    """Return people's sessions in a study's database, if it has ever been hosted."""
    from benchmark.database import Database, database_url, hosting_identity, read_sessions

    identity = hosting_identity(study)
    database = Database(database_url(study, url)) if identity else None
    if database is None or (database.path is not None and not database.path.is_file()):
        return schemas.SESSIONS.empty()
    try:
        with database.reading() as connection:
            return read_sessions(connection, identity, pilot=pilot)
    finally:
        database.close()


# ---------------------------------------------------------------- files and folders


def _read_import(root: Path, manifest: dict[str, Any]) -> Dataset:
    if manifest.get("state") != "complete":
        raise ImportFailure(f"The import in {root} was interrupted while it was written. Import again.")
    responses = schemas.RESPONSES.read(root / "responses.parquet")
    units = unit_facts(responses)
    stored = root / "units.parquet"
    if stored.is_file():
        units = pd.read_parquet(stored)
    path = root / "models.csv"
    return Dataset(
        name=str(manifest.get("name", root.resolve().name)),
        responses=responses,
        sessions=schemas.SESSIONS.read(root / "sessions.parquet"),
        units=units,
        models=_read_models(path) if path.is_file() else model_facts(responses["model"].unique()),
        protocol=_protocols(responses),
        notes=tuple(manifest.get("notes", ())),
        sources=dict(manifest.get("sources", {})),
        origin=dict(manifest.get("origin", {})),
    )


def _read_export(root: Path, table: Path, manifest: dict[str, Any]) -> Dataset:
    """Read a folder with a table of responses, and one of sessions if it is there."""
    responses = _read_table(table, schemas.RESPONSES)
    own = table.with_name(f"sessions{table.suffix}")
    stored = _read_table(own, schemas.SESSIONS, extra=True) if own.is_file() else schemas.SESSIONS.empty()
    derived = derive_sessions(responses)
    sessions = schemas.concatenate([stored, derived[~derived["session"].isin(stored["session"])]], schemas.SESSIONS)
    notes = manifest.get("notes", ()) if manifest.get("kind") == EXPORT else ()
    name = str(manifest.get("study_name", root.resolve().name))
    sources = {path.name: hash_file(path) for path in (table, own) if path.is_file()}
    return _assemble(name, responses, sessions, notes, sources)


def _read_file(path: Path) -> Dataset:
    """Read a file in the schema of responses."""
    if path.suffix in (".pkl", ".pickle"):
        raise ImportFailure(f"{path} is a pickle, which can run code when it is read: vimi reads none. Give the CSV.")
    if not path.name.lower().endswith((".parquet", ".csv", ".csv.gz")):
        raise ImportFailure(f"{path} is neither Parquet nor CSV. Other formats come in with vimi import-csv.")
    responses = _read_table(path, schemas.RESPONSES)
    sessions = derive_sessions(responses)
    return _assemble(path.name.partition(".")[0], responses, sessions, (), {path.name: hash_file(path)})


def _assemble(name: str, responses: pd.DataFrame, sessions: pd.DataFrame, notes: Any, sources: Any) -> Dataset:
    return Dataset(
        name=name,
        responses=responses,
        sessions=sessions,
        units=unit_facts(responses),
        models=model_facts(responses["model"].unique()),
        protocol=_protocols(responses),
        notes=_all_notes(notes, responses),
        sources=sources,
        origin={"importer": "table"},
    )


def _read_table(path: Path, schema: schemas.Schema, *, extra: bool = False) -> pd.DataFrame:
    """Read a table in a schema of vimi, from Parquet or from CSV, and name what breaks the schema.

    Parameters
    ----------
    path
        The file.
    schema
        What it must hold.
    extra
        Whether other columns are left out instead of refused.
    """
    if path.suffix == ".parquet":
        try:
            frame = with_origin(pd.read_parquet(path), path.name, first=1)
        except (OSError, ValueError) as error:
            raise ImportFailure(f"{path} is no readable Parquet file: {error}") from None
    else:
        frame = read_csv_text(path, delimiter=",")
    known = [name for name in frame.columns if not name.startswith("\x00")]
    strange = [name for name in known if name not in schema.names]
    if strange and not extra:
        raise ImportFailure(
            f"{path}: unknown column {strange[0]!r}. {suggest(strange[0], schema.names)} A table of another shape "
            "comes in with vimi import-csv and a mapping."
        )
    missing = [c for c in schema.columns if not c.nullable and c.name not in known]
    if missing:
        raise ImportFailure(
            f"{path}: the column {missing[0].name!r} is missing ({missing[0].meaning}). A table of another shape comes "
            "in with vimi import-csv and a mapping."
        )
    faults = Faults(str(path), frame)
    columns = {}
    for column in schema.columns:
        if column.name in known:
            columns[column.name] = convert(frame[column.name], column, faults)
    faults.check()
    return conform(schema, pd.DataFrame(columns, index=frame.index))


# ---------------------------------------------------------------- facts


def derive_sessions(responses: pd.DataFrame, facts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the table of sessions as far as answers tell it.

    Parameters
    ----------
    responses
        Table of responses. Sessions of machines are left out: exclusions judge people.
    facts
        What is known beside: a column ``session`` and any columns of the table of sessions.

    Returns
    -------
    One row a session, in order of appearance, schema ``SESSIONS``. What is neither told nor given is missing, and
    rules that look at it let the session pass.
    """
    people = responses[responses["observer_kind"].isin(PEOPLE)]
    if people.empty:
        return schemas.SESSIONS.empty()
    grouped = people.groupby("session", sort=False)
    names = ["study", "protocol", "observer_kind", "observer", "session_status"]
    table = grouped[names].first().reset_index()
    times = grouped["answered_at"].agg(["min", "max"]) if people["answered_at"].notna().any() else None
    table["cell"] = table["session"].map(_cells(people)).to_numpy()
    table["slot"] = None
    table["begun_at"] = pd.NaT if times is None else table["session"].map(times["min"])
    table["ended_at"] = pd.NaT if times is None else table["session"].map(times["max"])
    table["earlier_participation"] = False
    for column in ("total_seconds", "instruction_seconds"):
        table[column] = np.nan
    for column in ("practice_attempts", "colour_vision", "language", "evidence"):
        table[column] = None
    if facts is not None:
        own = facts.drop_duplicates("session").set_index("session")
        for column in own.columns:
            known = table["session"].map(own[column])
            table[column] = known.astype(object).where(known.notna(), table[column].astype(object))
    return conform(schemas.SESSIONS, table)


def _cells(people: pd.DataFrame) -> pd.Series:
    """Return the cell of each session: its conditions and difficulties, and its model where there are several."""
    main = people[people["kind"] == "main"]
    asked = main if len(main) else people
    cell = _joined(asked, "condition")
    cell = cell + "-" + _joined(asked, "difficulty").reindex(cell.index)
    if asked["model"].nunique() > 1:
        models = _joined(asked, "model").reindex(cell.index)
        nested = ~models.str.contains("+", regex=False)
        cell = cell.where(~nested, models + "-" + cell)
    rest = pd.Index(people["session"].unique()).difference(cell.index)
    return pd.concat([cell, pd.Series("no main trials", index=rest)]) if len(rest) else cell


def _joined(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the distinct values of a column in each session, joined by a plus."""
    pairs = table[["session", column]].drop_duplicates().sort_values(["session", column])
    several = pairs["session"].duplicated(keep=False)  # rare: joining every group would take seconds
    single = pairs[~several].set_index("session")[column].astype("str")
    if not several.any():
        return single
    return pd.concat([single, pairs[several].groupby("session")[column].agg("+".join)])


def unit_facts(responses: pd.DataFrame) -> pd.DataFrame:
    """Return the units that answers are about, ordered by name; their depth and width are not known from answers."""
    columns = ["model", "layer", "basis", "index", "aggregator"]
    asked = responses.loc[responses["model"] != PLANTED, columns].drop_duplicates().reset_index(drop=True)
    table = pd.DataFrame({"unit": unit_names(asked) if len(asked) else pd.Series(dtype="str")})
    table["model"], table["layer"] = asked["model"], asked["layer"]
    table["depth"], table["width"], table["kind"] = np.nan, np.nan, ""
    return _order_units(table)


def _order_units(units: pd.DataFrame) -> pd.DataFrame:
    ordered = units.sort_values("unit", ignore_index=True)
    text = dict.fromkeys(["unit", "model", "layer", "kind"], "str")
    return ordered.astype({**text, "depth": np.float64, "width": np.float64})[UNIT_FACTS]


def model_facts(
    names: Any, *, cards: Mapping[str, ModelCard] | None = None, parameters: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Return what is known of models.

    Parameters
    ----------
    names
        Names of models; units whose truth is known by construction have none.
    cards
        Cards beside those that ship with vimi.
    parameters
        Numbers of parameters that were counted, where a card does not say.

    Returns
    -------
    One row a model, ordered by name, with the columns of ``MODEL_FACTS``; what is not known is NaN or empty.
    """
    rows = []
    for name in sorted({str(name) for name in names} - {PLANTED}):
        card = (cards or {}).get(name) or _shipped_card(name)
        row: dict[str, Any] = {"model": name, "family": "", "twin": name.endswith(TWIN_SUFFIX)}
        if card is not None:
            row |= {
                "family": card.family,
                "parameters": card.parameters,
                "training_images": card.training.images if card.training else None,
                "top1": card.accuracy.top1 / 100 if card.accuracy else None,
                "twin": card.twin,
            }
        row["parameters"] = row.get("parameters") or (parameters or {}).get(name)
        rows.append(row)
    return _order_models(pd.DataFrame(rows, columns=MODEL_FACTS))


def _shipped_card(name: str) -> ModelCard | None:
    """Return the card that ships with vimi, or None: asking timm would load torch."""
    return load_card(name) if name.removesuffix(TWIN_SUFFIX) in card_names() else None


def _order_models(table: pd.DataFrame) -> pd.DataFrame:
    table = table.sort_values("model", ignore_index=True)
    for column in _MODEL_NUMBERS:
        table[column] = pd.to_numeric(table[column]).astype(np.float64)
    table["family"] = table["family"].fillna("").astype("str")
    table["twin"] = table["twin"].fillna(False).astype(bool)
    return table.astype({"model": "str"})[MODEL_FACTS]


def with_models(dataset: Dataset, path: Path | str) -> Dataset:
    """Return the data set with what a CSV file says of its models; what the file leaves open stays.

    Raises
    ------
    ImportFailure
        If the file can't be read, names a model that nobody was asked about, or breaks its columns.
    """
    given = _read_models(Path(path))
    known = dataset.models.set_index("model")
    strange = sorted(set(given["model"]) - set(known.index))
    if strange and not set(given["model"]) & set(known.index):
        raise ImportFailure(f"{path} says nothing of the models in {dataset.name}: {', '.join(sorted(known.index))}.")
    table = given[given["model"].isin(known.index)].set_index("model")
    said = _columns_of(Path(path))
    for column in [name for name in MODEL_FACTS if name in said and name != "model"]:
        values = table[column]
        values = values[values.notna() & (values.astype(object) != "")]
        known.loc[values.index, column] = values
    return replace(dataset, models=_order_models(known.reset_index()))


def _columns_of(path: Path) -> list[str]:
    return [str(name) for name in pd.read_csv(path, nrows=0).columns]


def _read_models(path: Path) -> pd.DataFrame:
    """Read a table of models.

    Raises
    ------
    ImportFailure
        Naming the column or row that is wrong.
    """
    frame = read_csv_text(path, delimiter=",")
    names = [name for name in frame.columns if not name.startswith("\x00")]
    if "model" not in names:
        raise ImportFailure(f"{path}: the column 'model' is missing (name of the model).")
    strange = [name for name in names if name not in MODEL_FACTS]
    if strange:
        raise ImportFailure(f"{path}: unknown column {strange[0]!r}. {suggest(strange[0], MODEL_FACTS)}")
    faults = Faults(str(path), frame)
    table = pd.DataFrame(index=frame.index, columns=MODEL_FACTS, dtype=object)
    for name in names:
        cells = frame[name].mask(frame[name] == "")
        if name in _MODEL_NUMBERS:
            numbers, wrong = to_numbers(cells)
            faults.add(wrong | (numbers < 0).to_numpy(), name, "no number, or below zero", cells)
            if name == "top1":
                faults.add((numbers > 1).to_numpy(), name, "an accuracy is a share, 0 to 1", cells)
            table[name] = numbers
        elif name == "twin":
            table[name], wrong = to_booleans(cells)
            faults.add(wrong, name, "neither true nor false", cells)
        else:
            table[name] = cells
    faults.add(table["model"].isna().to_numpy(), "model", "a model needs a name", table["model"])
    faults.add(table["model"].duplicated().to_numpy(), "model", "the model stands in an earlier row", table["model"])
    faults.check()
    return _order_models(table)


def _plain_numbers(models: pd.DataFrame) -> pd.DataFrame:
    """Return the table of models as people like to read and edit it: whole numbers without a point."""
    shown = models.copy()
    for column in ("parameters", "training_images", "samples_seen", "year"):
        shown[column] = shown[column].round().astype("Int64")
    return shown


def _protocols(responses: pd.DataFrame) -> str:
    return " and ".join(sorted(map(str, responses["protocol"].unique())))


def _all_notes(notes: Any, responses: pd.DataFrame) -> tuple[str, ...]:
    """Return notes, with those that the answers themselves call for."""
    found = list(notes)
    if responses["protocol"].nunique() > 1:
        found.append(f"{SEVERAL_PROTOCOLS}: {_protocols(responses)}")
    return tuple(dict.fromkeys(found))


# ---------------------------------------------------------------- description


@dataclass(frozen=True, eq=False)
class Description:
    """What is in a data set, to be looked at before it is believed.

    Attributes
    ----------
    counts
        One row for each kind of trial, model, condition, difficulty and references: sessions, observers, units,
        answers, and how many of them are right.
    first
        The first rows of the responses, their most telling columns.
    missing
        Columns of responses and sessions that hold nothing, although an analysis could use them.
    """

    name: str
    protocol: str
    counts: pd.DataFrame
    first: pd.DataFrame
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{self.name} (protocol {self.protocol})", self.counts.to_string(index=False)]
        parts += ["First rows:", self.first.to_string(index=False)]
        if self.missing:
            parts.append(f"Not recorded: {', '.join(self.missing)}.")
        parts += [f"Note: {note}." for note in self.notes]
        return "\n\n".join(parts)


def describe(dataset: Dataset, rows: int = 3) -> Description:
    """Return what is in a data set: what was mapped to what, with counts, and the first rows.

    Parameters
    ----------
    dataset
        The data set.
    rows
        How many of the first rows to show.
    """
    answers = dataset.responses
    keys = ["kind", "model", "condition", "difficulty", "references"]
    unit = unit_names(answers) if len(answers) else pd.Series(dtype="str")
    grouped = answers.assign(unit=unit).groupby(keys, sort=True)
    counts = grouped.agg(
        sessions=("session", "nunique"),
        observers=("observer", "nunique"),
        units=("unit", "nunique"),
        answers=("correct", "size"),
        right=("correct", "sum"),
    ).reset_index()
    shown = ["observer", "session", "trial_index", "kind", "layer", "index", "task", "query_top", "choice", "correct"]
    first = answers.head(rows)[[*shown, "confidence", "rt_ms"]]
    wanted = [(answers, ("confidence", "rt_ms", "answered_at"))]
    if len(dataset.sessions):
        wanted.append((dataset.sessions, ("total_seconds", "instruction_seconds", "practice_attempts")))
    missing = [name for table, names in wanted for name in names if table[name].isna().all()]
    missing += [
        f"{name} of models" for name in ("parameters", "training_images", "top1") if _all_missing(dataset, name)
    ]
    missing += ["depth of units"] if dataset.units["depth"].isna().all() else []
    return Description(dataset.name, dataset.protocol, counts, first, tuple(missing), dataset.notes)


def _all_missing(dataset: Dataset, fact: str) -> bool:
    return bool(dataset.models[fact].isna().all())


__all__ = [
    "Dataset",
    "Description",
    "StudyError",
    "derive_sessions",
    "describe",
    "hash_file",
    "model_facts",
    "read_dataset",
    "unit_facts",
    "with_models",
]
