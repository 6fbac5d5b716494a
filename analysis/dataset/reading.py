"""Reading a data set: from a study, an import, an export, or a file in the schema of responses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.dataset.data import EXPORT, KIND, Dataset, read_manifest
from analysis.dataset.facts import derive_sessions, order_units, unit_facts
from analysis.dataset.models import model_facts, read_models, with_models
from analysis.importing.cells import spell
from analysis.importing.checks import check_names, check_times
from analysis.importing.faults import Faults
from analysis.importing.layout import name_without_ending, read_csv_text, read_parquet
from analysis.importing.schema import conform, convert, with_origin
from benchmark import schemas
from benchmark.errors import ImportFailure, suggest
from benchmark.hashing import hash_file
from benchmark.model_card import ModelCard
from benchmark.units import unit_names

if TYPE_CHECKING:
    from benchmark.study import Study


SEVERAL_PROTOCOLS = "answers of several protocols, which are never comparable as they stand"


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
        ``family``, ``parameters``, ``training_images``, ``samples_seen``, ``top1`` (0 to 1), ``year``, ``twin``,
        ``same_units_as`` (the model whose units these are, too).

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
    manifest = read_manifest(path)
    if manifest.get("kind") == KIND:
        return _read_import(path, manifest)
    if "experiment" in manifest:
        return _read_study(Study.open(path), database, pilot)
    for name in ("responses.parquet", "responses.csv"):
        if (path / name).is_file():
            return _read_export(path, path / name, manifest)
    raise ImportFailure(
        f"{path} holds no answers: it is neither a study nor an import, and has no responses.parquet or "
        "responses.csv. Read other tables with vimi import-csv, and the 2023 release with vimi import-imi."
    )


def _read_study(study: Study, database: str, pilot: bool) -> Dataset:
    from benchmark.responses import read_responses

    responses = checked_answers(read_responses(study, database, pilot=pilot), study.root)
    if responses.empty:
        raise ImportFailure(
            f"{study.root} has no answers yet. Collect people's answers with vimi serve, machines' with vimi observe, "
            "simulated people's with vimi simulate."
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
        units=order_units(units),
        models=model_facts(responses["model"].unique(), cards=cards, parameters=counted),
        protocol=_protocols(responses),
        notes=_all_notes(notes, responses),
        sources={"manifest.json": hash_file(study.manifest_path)},
        origin={"importer": "study", "study": study.hash, "pilot": pilot},
    )


def _study_sessions(study: Study, url: str, pilot: bool) -> pd.DataFrame:
    """Return people's sessions in a study's database, if it has ever been hosted."""
    from benchmark.database import read_sessions, reading_people

    with reading_people(study, url) as people:
        return schemas.SESSIONS.empty() if people is None else read_sessions(*people, pilot=pilot)


def _read_import(root: Path, manifest: dict[str, Any]) -> Dataset:
    if manifest.get("state") != "complete":
        raise ImportFailure(f"The import in {root} was interrupted before it was complete. Import again.")
    responses = checked_answers(schemas.RESPONSES.read(root / "responses.parquet"), root / "responses.parquet")
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
        models=read_models(path) if path.is_file() else model_facts(responses["model"].unique()),
        protocol=_protocols(responses),
        notes=tuple(manifest.get("notes", ())),
        sources=dict(manifest.get("sources", {})),
        origin=dict(manifest.get("origin", {})),
    )


def _read_export(root: Path, table: Path, manifest: dict[str, Any]) -> Dataset:
    """Read a folder with a table of responses, and one of sessions if it is there."""
    responses = checked_answers(_read_table(table, schemas.RESPONSES), table)
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
        raise ImportFailure(f"{path} is a pickle. Reading one can run code, so vimi reads none. Give the CSV.")
    if not path.name.lower().endswith((".parquet", ".csv", ".csv.gz")):
        raise ImportFailure(f"{path} is neither Parquet nor CSV. Read other formats with vimi import-csv.")
    responses = checked_answers(_read_table(path, schemas.RESPONSES), path)
    sessions = derive_sessions(responses)
    people = responses.loc[(responses["observer_kind"] == "human").fillna(False).to_numpy(dtype=bool), "rt_ms"]
    notes = check_times(people, str(path))
    return _assemble(name_without_ending(path.name), responses, sessions, notes, {path.name: hash_file(path)})


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
        frame = with_origin(read_parquet(path), path.name, first=1)
    else:
        frame = read_csv_text(path, delimiter=",")
    known = [name for name in frame.columns if not name.startswith("\x00") and name != "__index_level_0__"]
    columns_here = schema.columns_of(known)
    names = [column.name for column in columns_here]
    strange = [name for name in known if name not in names]
    if strange and not extra:
        raise ImportFailure(
            f"{path}: unknown column {strange[0]!r}. {suggest(strange[0], names)} Read a table of another shape with "
            "vimi import-csv and a mapping."
        )
    missing = [c for c in schema.columns if not c.nullable and c.name not in known]
    if missing:
        raise ImportFailure(
            f"{path}: the column {missing[0].name!r} is missing ({missing[0].meaning}). Read a table of another shape "
            "with vimi import-csv and a mapping."
        )
    faults = Faults(str(path), frame)
    columns = {}
    for column in columns_here:
        if column.name in known:
            values = frame[column.name]
            if column.kind == "string" and values.dtype.kind in "Oif":
                values = pd.Series([None if pd.isna(v) else spell(v) for v in values], index=values.index, dtype="str")
            columns[column.name] = convert(values, column, faults)
            if column.name in ("observer", "session"):
                check_names(columns[column.name].astype("str"), repr(column.name), faults)
    faults.check()
    return conform(schema, pd.DataFrame(columns, index=frame.index))


def checked_answers(responses: pd.DataFrame, where: Path) -> pd.DataFrame:
    """Return a table of responses in which every answer is there once and every session is one person's.

    Two rows are one answer if they share an identifier, or else everything, place in the session included.

    Raises
    ------
    ImportFailure
        Naming the first answer that is there twice, the first session with two observers, or the first person with
        two values of one attribute.
    """
    twice = responses["response_id"].duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        name = responses["response_id"].iloc[row]
        first = int((responses["response_id"] == name).to_numpy().argmax())
        raise ImportFailure(
            f"{where}: {int(twice.sum()):,} of {len(responses):,} answers appear twice (first: response_id {name!r}, "
            f"answers {first + 1:,} and {row + 1:,}). Each answer must count once: remove the copies."
        )
    rows = responses.drop(columns="response_id")
    copied = rows.duplicated().to_numpy()
    if copied.any():
        row = int(copied.argmax())
        first = int((rows.duplicated(keep="last").to_numpy() & _equal_rows(rows, row)).argmax())
        raise ImportFailure(
            f"{where}: {int(copied.sum()):,} of {len(responses):,} answers repeat another in all but response_id "
            f"(first: answers {first + 1:,} and {row + 1:,}, trial {rows['trial_index'].iloc[row]} of session "
            f"{rows['session'].iloc[row]!r}). Each answer must count once: remove the copies."
        )
    _check_one(responses, "session", "observer", where, "Name sessions by their observer too")
    for column in responses.columns:
        if column.startswith(schemas.PERSON):
            _check_one(responses, "observer", column, where, "An attribute of people is one value each")
    return responses


def _equal_rows(rows: pd.DataFrame, place: int) -> NDArray[np.bool_]:
    """Return which rows share session and position with one row."""
    same = (rows["session"] == rows["session"].iloc[place]) & (rows["trial_index"] == rows["trial_index"].iloc[place])
    return np.asarray(same.fillna(False), dtype=np.bool_)


def _check_one(responses: pd.DataFrame, name: str, value: str, where: Path, remedy: str) -> None:
    """Check that what has one name has one value."""
    pairs = responses[[name, value]].dropna().drop_duplicates()
    shared = pairs[pairs[name].duplicated(keep=False)]
    if len(shared):
        own = shared[shared[name] == shared[name].iloc[0]]
        raise ImportFailure(
            f"{where}: the {name} {own[name].iloc[0]!r} has several values of {value}: {own[value].iloc[0]!r} and "
            f"{own[value].iloc[1]!r}. {remedy}."
        )


def _protocols(responses: pd.DataFrame) -> str:
    return " and ".join(sorted(map(str, responses["protocol"].unique())))


def _all_notes(notes: Any, responses: pd.DataFrame) -> tuple[str, ...]:
    """Return notes, with those that the answers themselves call for."""
    found = list(notes)
    if responses["protocol"].nunique() > 1:
        found.append(f"{SEVERAL_PROTOCOLS}: {_protocols(responses)}")
    return tuple(dict.fromkeys(found))
