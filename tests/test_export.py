"""Export: the same rows in every format, nothing secret in any, and folders that are whole or not there."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.exclusions import protocol_rules
from benchmark import schemas
from benchmark.database import people, sessions
from benchmark.errors import DatabaseError, HostingError, NameNotFound
from benchmark.hashing import hash_pixels
from benchmark.responses import read_responses, store_responses
from benchmark.schemas import Column, Schema
from benchmark.study import Study
from tests.hand_made import answer_rows
from tests.hosted import Clock, host, make_hosted_study
from tests.test_command_line import refused, vimi
from webapp.answering import Answer, current_trial, record_answer
from webapp.export import ANSWERS, FORMATS, TRIALS, Export, export_study, folder, tables
from webapp.export.datasets import _labels, parse, read_export, spell
from webapp.export.folder import ExportSource, find_changes, new_export, read_manifest
from webapp.export.tables import ORDER, ExportTable, sessions_schema
from webapp.hosting import Hosting
from webapp.participation import (
    Device,
    Participant,
    agree,
    answer_colour_vision,
    arrive,
    check_device,
    finish_instructions,
    leave_comments,
    withdraw,
)
from webapp.recruitment import Visitor

FORMULA = '=HYPERLINK("x")\n\tI am Jane Doe, Ünïcode, "quoted"'
PERSON = "5f0c1d2e3b4a59687f6e5d4c"


def take_part(hosting: Hosting, person: str, *, answers: int = 1000, wrong: bool = False) -> Participant:
    """Let somebody come and answer so many trials, rightly unless said otherwise."""
    stimuli = hosting.study.stimuli()
    right = set(stimuli.loc[(stimuli["role"] == "query") & (stimuli["side"] == "max"), "picture"])
    visitor = Visitor(person=person, submission=f"submission-{person}", study="recruiters-study")
    participant = arrive(hosting, visitor, kind="simulated").participant
    assert participant is not None and isinstance(hosting.clock, Clock)
    check_device(hosting, participant.token, Device(1280, 800, "chrome"))
    agree(hosting, participant.token)
    answer_colour_vision(hosting, participant.token, "normal")
    hosting.clock.pass_by(60.25)
    finish_instructions(hosting, participant.token)
    for number in range(answers):
        trial = current_trial(hosting, participant.token)
        if trial is None:
            break
        hosting.clock.pass_by(5 + 1 / 3)
        upper = (trial.upper in right) != (wrong and trial.block == "trials")
        record_answer(
            hosting,
            Answer(
                participant=participant.token, trial=trial.trial, position="upper" if upper else "lower",
                confidence=None if number % 5 == 0 else 2, rt_ms=1000 + number / 7, onset_delay_ms=16.625,
                visible=True if number % 2 else None, focused=False, input="keyboard", early_inputs=number % 3,
                trace={"moves": number, "distance": 0.1},
            ),
        )  # fmt: skip
    return participant


@dataclass
class Exported:
    """A study that people and machines have answered, and all exports of it."""

    study: Study
    hosting: Hosting
    root: Path
    made: dict[str, Export]

    def place(self, format: str) -> Path:
        return self.root / format


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """A study with answers of every kind, exported to every format."""
    root = tmp_path_factory.mktemp("export")
    study = make_hosted_study(root / "study", recruitment={"recruiter": "prolific"})
    study.add_note("a note that goes along")
    hosting = host(study)
    first = take_part(hosting, PERSON)
    leave_comments(hosting, first.token, FORMULA)
    take_part(hosting, "second-person", wrong=True)
    take_part(hosting, "third-person", answers=8)  # leaves amid the trials
    gone = take_part(hosting, "fourth-person")
    withdraw(hosting, gone.receipt)
    pilot = host(study, pilot=True)
    take_part(pilot, "pilot-person")
    pilot.database.close()
    mine = {"protocol": study.protocol.identity, "study": study.hash, "stimuli_hash": study.stimuli_hash}
    for observer in ("features:efficientnet_lite0", "features-efficientnet.lite0"):  # alike once cut to letters
        rows = [
            answer_rows(model, [(0, True), (1, False)], observer, session=f"{observer}/{model}", **mine)
            for model in ("efficientnet_lite0", "efficientnet_lite1")
        ]
        store_responses(study, schemas.concatenate(rows, schemas.RESPONSES))
    made = {format: export_study(study, format, root / format) for format in FORMATS}
    yield Exported(study, hosting, root, made)
    hosting.database.close()


def fresh_copy(study: Study, root: Path) -> Study:
    """Return a copy of a study that nobody has answered."""
    shutil.copytree(
        study.root, root, ignore=shutil.ignore_patterns("responses", "exports", "hosting.json", "*.sqlite*")
    )
    return Study.open(root)


def expected_rows(study: Study, **options: Any) -> pd.DataFrame:
    """Return what the one reader reads, in the order and with the times of an export."""
    rows = read_responses(study, **options)
    rows["answered_at"] = rows["answered_at"].dt.round("us").dt.as_unit("us")
    return schemas.RESPONSES.conform(rows.sort_values(ORDER, kind="stable"))


# -------------------------------------------------------------------- the same rows


@pytest.mark.parametrize("format", ANSWERS)
def test_every_format_has_the_same_rows(exported: Exported, format: str) -> None:
    expected = expected_rows(exported.study)
    assert set(expected["observer_kind"]) == {"machine", "simulated"} and expected["session"].nunique() == 7
    pd.testing.assert_frame_equal(read_export(exported.place(format)), expected)
    assert exported.made[format].rows["responses"] == len(expected)


def test_a_plain_reader_of_csv_gets_the_schema(exported: Exported) -> None:
    for path in (exported.place("csv") / "responses.csv", *exported.place("psych-ds").glob("data/*responses_data.csv")):
        read = schemas.RESPONSES.conform(pd.read_csv(path, dtype={"vimi_version": "str", "response_id": "str"}))
        expected = expected_rows(exported.study)
        for name in ("trial", "correct", "confidence", "visible", "references", "consent_hash"):
            assert read[name].astype(object).fillna("").tolist() == expected[name].astype(object).fillna("").tolist()
        assert np.allclose(read["rt_ms"], expected["rt_ms"], equal_nan=True)
        assert (read["answered_at"] == expected["answered_at"])[expected["answered_at"].notna()].all()


def test_a_plain_reader_of_parquet_gets_kinds_and_values(exported: Exported) -> None:
    table = pq.read_table(exported.place("parquet") / "responses.parquet")
    assert table.column_names == schemas.RESPONSES.names
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["correct"] == "bool" and kinds["trial_index"] == "int64" and kinds["rt_ms"] == "double"
    assert kinds["answered_at"] == "timestamp[us, tz=UTC]"
    assert table.column("response_id").to_pylist() == expected_rows(exported.study)["response_id"].tolist()


def test_bids_holds_one_file_for_each_session_of_each_observer(exported: Exported) -> None:
    root, expected = exported.place("bids"), expected_rows(exported.study)
    participants = pd.read_csv(root / "participants.tsv", sep="\t")
    assert sorted(participants["observer"]) == sorted(expected["observer"].unique())
    assert participants["participant_id"].is_unique
    files = list(root.glob("sub-*/ses-*/beh/*_beh.tsv"))
    assert len(files) == expected["session"].nunique()
    for path in files:
        rows = pd.read_csv(path, sep="\t", keep_default_na=False)
        assert rows["session"].nunique() == 1
        observer = participants.set_index("participant_id")["observer"][path.name.split("_")[0]]
        assert set(rows["observer"]) == {observer}


@pytest.mark.parametrize("format", ANSWERS)
def test_sessions_come_with_the_verdict_of_every_rule(exported: Exported, format: str) -> None:
    root = exported.place(format)
    if format == "parquet":
        read = pd.read_parquet(root / "sessions.parquet")
    elif format == "bids":
        parts = [pd.read_csv(path, sep="\t", na_values="n/a") for path in root.glob("sub-*/*_sessions.tsv")]
        read = pd.concat(parts).drop(columns="session_id")
    else:
        read = pd.read_csv(next(root.rglob("*sessions*.csv")))
    rules = protocol_rules(exported.study.protocol)
    assert list(read.columns) == sessions_schema(rules).names
    with exported.hosting.database.reading() as connection:
        stored = connection.execute(
            sa.select(sessions.c.name, sessions.c.usable, sessions.c.status)
            .join(people)
            .where(people.c.study == exported.hosting.identity, ~people.c.pilot)
        ).all()
    by_name = read.set_index("session")
    assert sorted(by_name.index) == sorted(row.name for row in stored)
    for row in stored:
        assert by_name["session_status"][row.name] == row.status
        assert bool(by_name["usable"][row.name]) == bool(row.usable)
        assert bool(by_name["passes_complete"][row.name]) == (row.status == "complete")
        assert bool(by_name["usable"][row.name]) == pd.isna(by_name["reasons"][row.name])
    assert sorted(by_name["usable"]) == [False, False, True]


def test_only_usable_sessions_if_that_is_asked_for(exported: Exported, tmp_path: Path) -> None:
    made = export_study(exported.study, "csv", tmp_path / "csv", usable_only=True)
    rows = read_export(made.folder)
    whole = read_export(exported.place("csv"))
    assert rows["session"].nunique() == 5 and made.rows["sessions"] == 1
    machines = whole["observer_kind"] == "machine"
    assert (rows["observer_kind"] == "machine").sum() == machines.sum()
    assert read_manifest(made.folder)["options"]["usable_only"] is True


def test_a_pilot_is_exported_alone(exported: Exported, tmp_path: Path) -> None:
    made = export_study(exported.study, "bids", tmp_path / "pilot", pilot=True)
    rows = read_export(made.folder)
    pd.testing.assert_frame_equal(rows, expected_rows(exported.study, pilot=True))
    assert rows["observer"].nunique() == 1 and rows["study"].str.startswith("pilot:").all()
    assert not set(rows["response_id"]) & set(read_export(exported.place("csv"))["response_id"])
    assert "pilot" in (made.folder / "README.md").read_text(encoding="utf-8")


def test_a_study_that_was_never_hosted_exports_its_machines(exported: Exported, tmp_path: Path) -> None:
    study = fresh_copy(exported.study, tmp_path / "study")
    with pytest.raises(HostingError, match="no answers to export"):
        export_study(study, "csv")
    assert not (study.root / "exports" / "csv").exists()
    store_responses(study, answer_rows("efficientnet_lite0", [(0, True)], stimuli_hash=study.stimuli_hash))
    for format in ANSWERS:
        made = export_study(study, format)
        assert made.folder == study.root / "exports" / format
        assert made.rows == {"responses": 1, "sessions": 0}
        assert len(read_export(made.folder)) == 1
    with pytest.raises(HostingError, match="never been hosted"):
        export_study(study, "csv", pilot=True)


def test_who_withdraws_while_answers_are_read_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_hosted_study(tmp_path / "study", recruitment={"recruiter": "prolific"})
    hosting = host(study)
    stays, goes = take_part(hosting, "a", answers=7), take_part(hosting, "b", answers=7)

    def read_and_withdraw(*arguments: Any, **options: Any) -> pd.DataFrame:
        rows = read_responses(*arguments, **options)
        withdraw(hosting, goes.receipt)
        return rows

    monkeypatch.setattr(tables, "read_responses", read_and_withdraw)
    made = export_study(study, "csv", traces=True)
    assert set(read_export(made.folder)["observer"]) == {stays.pseudonym}
    for path in made.folder.iterdir():
        assert goes.pseudonym not in path.read_text(encoding="utf-8")
    hosting.database.close()


# -------------------------------------------------------------------- spelling

_ODD = Schema(
    "odd",
    (
        Column("text", "string", "a text"), Column("perhaps", "string", "a text or nothing", nullable=True),
        Column("count", "integer", "a number", nullable=True), Column("size", "number", "a number", nullable=True),
        Column("yes", "boolean", "yes or no", nullable=True), Column("at", "time", "a moment", nullable=True),
    ),
)  # fmt: skip

_LINES = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            _LINES,
            st.none() | _LINES.filter(lambda text: text not in ("", "n/a")),
            st.none() | st.integers(-(2**53), 2**53),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.booleans(),
            st.none() | st.datetimes(pd.Timestamp("1990-01-01"), pd.Timestamp("2200-01-01")),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["", "n/a"]),
)
def test_what_is_spelled_can_be_read(rows: list[tuple[Any, ...]], missing: str) -> None:
    frame = pd.DataFrame(rows, columns=_ODD.names, dtype="object")
    frame["at"] = pd.to_datetime(frame["at"], utc=True).dt.as_unit("us")
    table = ExportTable(_ODD, _ODD.conform(frame))
    again = parse(spell(table, missing), _ODD, missing)
    again["at"] = again["at"].dt.as_unit("us")
    pd.testing.assert_frame_equal(again, table.frame)


def test_labels_of_bids_differ_even_where_case_does_not_count() -> None:
    labels = _labels(["features:a-b", "featuresab", "FeaturesAB", ":", "é"])
    assert list(labels) == ["features:a-b", "featuresab", "FeaturesAB", ":", "é"]
    assert len({label.casefold() for label in labels.values()}) == 5
    assert all(re.fullmatch("[A-Za-z0-9]+", label) for label in labels.values())


# -------------------------------------------------------------------- codebooks and standards


def columns_of(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return list(pq.read_schema(path).names)
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("format", FORMATS)
def test_the_codebook_says_what_every_column_means(exported: Exported, format: str) -> None:
    root = exported.place(format)
    book = json.loads((root / "codebook.json").read_text(encoding="utf-8"))
    readable = (root / "codebook.md").read_text(encoding="utf-8")
    names = {column["name"] for table in book["tables"].values() for column in table["columns"]}
    assert all(column["meaning"] for table in book["tables"].values() for column in table["columns"])
    assert all(f"`{name}`" in readable for name in names)
    found = [path for path in root.rglob("*") if path.suffix in (".csv", ".tsv", ".parquet")]
    found = [path for path in found if "experiment" not in path.parts and path.name != "participants.tsv"]
    assert found
    for path in found:
        assert set(columns_of(path)) - {"session_id"} <= names
    if format in ANSWERS:
        answers = book["tables"]["responses"]
        assert [column["name"] for column in answers["columns"]] == schemas.RESPONSES.names
        assert {c["name"]: c.get("values") for c in answers["columns"]}["choice"] == ["max", "min"]


_DATASET = {"name", "description", "schemaVersion", "dateCreated", "version", "keywords", "variableMeasured"}
_PROPERTY = {"name", "description", "unitText"}
_KEYWORDS = {"study", "site", "subject", "session", "task", "condition", "trial", "stimulus", "description"}


def break_psych_ds_rules(root: Path) -> list[str]:
    """Return which rules of the Psych-DS 1.5 validator a folder breaks: its errors, and warnings on names and terms."""
    found: list[str] = []
    try:
        metadata = json.loads((root / "dataset_description.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ["MISSING_DATASET_DESCRIPTION"]
    if metadata.get("@context") not in ("https://schema.org/", "http://schema.org/", "https://schema.org"):
        found.append("INVALID_JSONLD_FORMATTING")
    if metadata.get("@type") != "Dataset":
        found.append("INCORRECT_DATASET_TYPE")
    found += [f"JSON_KEY_REQUIRED {k}" for k in ("name", "description", "variableMeasured") if not metadata.get(k)]
    variables = metadata.get("variableMeasured", [])
    terms = (set(metadata) - {"@context", "@type"}) - _DATASET
    for variable in variables:
        found += [] if variable.get("@type") == "PropertyValue" else ["OBJECT_TYPE_MISSING"]
        terms |= set(variable) - {"@type"} - _PROPERTY
    found += [f"INVALID_SCHEMAORG_PROPERTY {term}" for term in sorted(terms)]
    files = sorted((root / "data").rglob("*.csv"))
    found += [] if files else ["MISSING_DATAFILE"]
    for path in files:
        if not re.fullmatch(r"([a-z]+-[a-zA-Z0-9]+)(_[a-z]+-[a-zA-Z0-9]+)*_data\.csv", path.name):
            found.append(f"FILENAME_KEYWORD_FORMATTING_ERROR {path.name}")
        keywords = {part.partition("-")[0] for part in path.stem.split("_")[:-1]}
        found += [f"FILENAME_UNOFFICIAL_KEYWORD_WARNING {word}" for word in sorted(keywords - _KEYWORDS)]
        header, *rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8")), strict=True)) or [[]]
        found += [] if header and len(set(header)) == len(header) else ["CSV_HEADER_MISSING"]
        found += [] if all(len(row) == len(header) for row in rows) else ["CSV_HEADER_LENGTH_MISMATCH"]
        unknown = set(header) - {variable.get("name") for variable in variables}
        found += [f"CSV_COLUMN_MISSING_FROM_METADATA {name}" for name in sorted(unknown)]
    ignored = (root / ".psychdsignore").read_text(encoding="utf-8").split()
    specified = {"dataset_description.json", "README.md", "CHANGES.md", ".psychdsignore", "data", *ignored}
    found += [f"FILE_NOT_CHECKED {path.name}" for path in root.iterdir() if path.name not in specified]
    return found


def test_psych_ds_keeps_the_rules_of_its_validator(exported: Exported, tmp_path: Path) -> None:
    full = export_study(exported.study, "psych-ds", tmp_path / "full", comments=True, traces=True)
    for root in (exported.place("psych-ds"), full.folder):
        assert break_psych_ds_rules(root) == []
    assert len(list(full.folder.glob("data/*.csv"))) == 4


def test_the_check_of_psych_ds_finds_what_is_wrong(exported: Exported, tmp_path: Path) -> None:
    root = tmp_path / "broken"
    shutil.copytree(exported.place("psych-ds"), root)
    path = root / "dataset_description.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["variableMeasured"] = [v for v in metadata["variableMeasured"] if v["name"] != "choice"]
    del metadata["description"]
    path.write_text(json.dumps(metadata), encoding="utf-8")
    (root / "data" / "answers.csv").write_text("choice\nmax,min\n", encoding="utf-8")
    broken = {rule.partition(" ")[0] for rule in break_psych_ds_rules(root)}
    assert broken == {
        "JSON_KEY_REQUIRED", "CSV_COLUMN_MISSING_FROM_METADATA", "FILENAME_KEYWORD_FORMATTING_ERROR",
        "CSV_HEADER_LENGTH_MISMATCH",
    }  # fmt: skip


def bids_problems(root: Path) -> set[tuple[str, str]]:
    """Return severity and code of all that the validator of BIDS finds."""
    command = [str(Path(sys.executable).parent / "bids-validator-deno"), str(root), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    report = json.loads(done.stdout)
    assert report["summary"]["totalFiles"] > 5
    return {(issue["severity"], issue["code"]) for issue in report["issues"]["issues"]}


@pytest.mark.skipif(
    importlib.util.find_spec("bids_validator_deno") is None, reason="the validator of BIDS is not installed"
)
def test_bids_passes_its_validator(exported: Exported, tmp_path: Path) -> None:
    full = export_study(exported.study, "bids", tmp_path / "full", comments=True, traces=True)
    only_the_laboratory_knows = {
        ("warning", "JSON_KEY_RECOMMENDED"), ("warning", "SIDECAR_KEY_RECOMMENDED"), ("warning", "NO_AUTHORS"),
        ("warning", "TOO_FEW_AUTHORS"),
    }  # fmt: skip
    assert bids_problems(full.folder) <= only_the_laboratory_knows
    next(full.folder.glob("sub-*/ses-*/beh/*_beh.tsv")).rename(full.folder / "sub-x_strange.tsv")
    assert ("error", "NOT_INCLUDED") in bids_problems(full.folder)


# -------------------------------------------------------------------- nothing secret


def every_byte(root: Path) -> bytes:
    names = "\n".join(path.relative_to(root).as_posix() for path in sorted(root.rglob("*")))
    return names.encode() + b"\n".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def unpacked(root: Path) -> bytes:
    """Return all that an export holds, compressed tables as text too."""
    texts = [pd.read_parquet(path).to_csv() for path in sorted(root.rglob("*.parquet"))]
    return every_byte(root) + "\n".join(texts).encode()


def secrets_of(exported: Exported) -> set[str]:
    """Return all in the database that must not leave it: whatever names a person, or opens a door."""
    with exported.hosting.database.reading() as connection:
        rows = connection.execute(sa.select(people)).mappings().all()
    found = {str(row[name]) for row in rows for name in ("token", "receipt", "person", "submission")}
    found |= {PERSON, "second-person", "third-person", "pilot-person", "recruiters-study"}
    found |= {key.decode() for key in exported.hosting.keys.values()}
    return found - {"None"}


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_secret_is_exported(exported: Exported, format: str) -> None:
    content = unpacked(exported.place(format))
    secret = secrets_of(exported)
    assert len(secret) > 20
    assert not [word for word in secret if word.encode() in content]
    assert str(exported.root).encode() not in content
    assert b"Jane Doe" not in content
    if format in TRIALS:
        assert not re.search(rb"\bP[0-9A-F]{10}\b", content)


def test_nothing_secret_is_exported_with_all_tables(exported: Exported, tmp_path: Path) -> None:
    for format in ANSWERS:
        made = export_study(exported.study, format, tmp_path / format, comments=True, traces=True)
        content = unpacked(made.folder)
        assert b"Jane Doe" in content
        assert not [word for word in secrets_of(exported) if word.encode() in content]


def test_comments_stand_in_a_table_of_their_own_and_run_nowhere(exported: Exported, tmp_path: Path) -> None:
    harmless = "'" + FORMULA
    for format in ("csv", "parquet", "psych-ds"):
        made = export_study(exported.study, format, tmp_path / format, comments=True)
        path = next(path for path in made.folder.rglob("*comments*") if path.is_file())
        read = pd.read_parquet(path) if format == "parquet" else pd.read_csv(path)
        assert read["comment"].tolist() == [harmless]
        assert made.rows["comments"] == 1
    made = export_study(exported.study, "bids", tmp_path / "bids", comments=True)
    header, row, end = (made.folder / "sourcedata" / "comments.tsv").read_text(encoding="utf-8").split("\n")
    assert end == "" and len(row.split("\t")) == len(header.split("\t"))
    assert row.split("\t")[-1] == harmless.replace("\n", "\\n").replace("\t", "\\t")
    for path in tmp_path.rglob("*"):
        if path.suffix in (".csv", ".tsv"):
            text = io.StringIO(path.read_text(encoding="utf-8"), newline="")
            cells = [cell for row in csv.reader(text) for cell in row]
            assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]


def test_traces_belong_to_the_answers(exported: Exported, tmp_path: Path) -> None:
    made = export_study(exported.study, "csv", tmp_path / "csv", traces=True)
    traces = pd.read_csv(made.folder / "traces.csv")
    rows = read_export(made.folder)
    by_people = rows[rows["observer_kind"] != "machine"]
    assert sorted(traces["response_id"]) == sorted(by_people["response_id"])
    assert set(json.loads(traces["trace"].iloc[-1])) == {"moves", "distance"}


# -------------------------------------------------------------------- folders


@pytest.mark.parametrize("format", FORMATS)
def test_the_manifest_says_what_the_export_is(exported: Exported, format: str) -> None:
    root, study = exported.place(format), exported.study
    manifest = read_manifest(root)
    assert find_changes(root) == []
    assert manifest["study"] == study.hash and manifest["stimuli_hash"] == study.stimuli_hash
    assert manifest["protocol"] == study.protocol.identity and manifest["format"] == format
    assert manifest["notes"] == ["a note that goes along"]
    assert "a note that goes along" in (root / "README.md").read_text(encoding="utf-8")
    assert exported.made[format].files == len(manifest["files"]) + 1 == len([p for p in root.rglob("*") if p.is_file()])
    rows = sum(entry.get("rows", 0) for entry in manifest["files"])
    assert rows >= sum(manifest["tables"].values())


def test_only_an_unchanged_export_is_replaced(exported: Exported, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    export_study(exported.study, "csv", target)
    export_study(exported.study, "parquet", target)
    assert not (target / "responses.csv").exists() and len(read_export(target))
    (target / "sessions.parquet").unlink()
    export_study(exported.study, "csv", target)
    (target / "my analysis.txt").write_text("mine")
    with pytest.raises(HostingError, match=r"my analysis\.txt was added"):
        export_study(exported.study, "csv", target)
    (target / "my analysis.txt").unlink()
    with (target / "responses.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(HostingError, match=r"responses\.csv was changed"):
        export_study(exported.study, "csv", target)
    with pytest.raises(HostingError, match=r"has changed since it was exported: responses\.csv was changed"):
        read_export(target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_strangers_folders_are_left_alone(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(HostingError, match="not a folder"):
        export_study(exported.study, "csv", tmp_path / "file")
    with pytest.raises(HostingError, match="not a folder"):
        export_study(exported.study, "csv", tmp_path / "link")
    for place in (tmp_path, exported.study.root):
        before = sorted(path.name for path in place.iterdir())
        with pytest.raises(HostingError, match="an export by vimi"):
            export_study(exported.study, "csv", place)
        assert sorted(path.name for path in place.iterdir()) == before


def test_an_interrupted_export_leaves_what_was_there(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    export_study(exported.study, "csv", target)
    before = every_byte(target)

    def fail(*arguments: Any) -> None:
        raise KeyboardInterrupt  # it is no Exception: what is tidied up here is tidied up after any error

    for name in ("describe", "_replace"):  # before the manifest is there, and after
        with monkeypatch.context() as patch:
            patch.setattr(folder, name, fail)
            for place in (target, tmp_path / "new"):
                with pytest.raises(KeyboardInterrupt):
                    export_study(exported.study, "csv", place)
    assert every_byte(target) == before and find_changes(target) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_export_leaves_is_no_export(exported: Exported, tmp_path: Path) -> None:
    with new_export(tmp_path / "out", ExportSource.of(exported.study, "csv", {})) as unfinished:
        unfinished.write("responses.csv", "x\n")
        assert not (tmp_path / "out").exists()
        assert unfinished.root.name.startswith(".out.")
        with pytest.raises(HostingError, match="an export by vimi"):
            read_export(unfinished.root)
    assert (tmp_path / "out").is_dir()


def test_a_target_that_can_not_be_replaced_is_put_back(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    export_study(exported.study, "csv", target)

    def refuse(path: Path, other: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError):
        export_study(exported.study, "parquet", target)
    assert read_manifest(target)["format"] == "csv" and find_changes(target) == []


def test_what_is_asked_for_must_make_sense(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(NameNotFound, match="psych-ds"):
        export_study(exported.study, "psychds", tmp_path / "out")
    with pytest.raises(HostingError, match="--usable-only does not apply"):
        export_study(exported.study, "jspsych", tmp_path / "out", usable_only=True)
    with pytest.raises(DatabaseError, match="There is no database"):
        export_study(exported.study, "csv", tmp_path / "out", database=f"sqlite:///{tmp_path / 'typo.sqlite'}")
    with pytest.raises(HostingError, match="holds trials"):
        read_export(exported.place("jspsych"))
    assert not (tmp_path / "typo.sqlite").exists() and not (tmp_path / "out").exists()


# -------------------------------------------------------------------- trials


def shown_pictures(row: pd.Series, side: str) -> list[str]:
    return list(row[f"references_{side}"]) if row["references"] in ("both", side) else []


def file_of(picture: str) -> str:
    return f"images/{picture[:2]}/{picture}.webp"


def test_jspsych_gets_the_trials_and_not_the_answers(exported: Exported) -> None:
    root = exported.place("jspsych")
    trials = exported.study.trials()
    key = pd.read_csv(root / "key.csv", dtype={"slot": str}).set_index("name")
    settings_file = json.loads((root / "website" / "settings.json").read_text(encoding="utf-8"))
    assert settings_file["slots"] == sorted(key["slot"].unique()) and settings_file["locked_ms"] == 1500
    files = {
        slot: json.loads((root / "website" / "trials" / f"{slot}.json").read_text(encoding="utf-8"))
        for slot in settings_file["slots"]
    }
    assert sum(map(len, files.values())) == len(trials) == len(key)
    assert set(trials["references"]) >= {"both", "none"}
    for _, row in trials.iterrows():
        known = key.loc[row["trial"]]
        shown = files[known["slot"]][row["trial_index"]]
        assert set(shown) == {"trial", "block", "left", "right", "upper", "lower"}
        assert shown["trial"] == known["trial"]
        assert shown["left"] == [file_of(name) for name in shown_pictures(row, "min")]
        assert shown["right"] == [file_of(name) for name in shown_pictures(row, "max")]
        right, wrong = ("upper", "lower") if known["right"] == "upper" else ("lower", "upper")
        assert shown[right] == file_of(row["query_max"]) and shown[wrong] == file_of(row["query_min"])
        assert shown["block"] == ("practice" if row["kind"] == "practice" else "trials")


@pytest.mark.parametrize("format, public", [("jspsych", "website"), ("psychopy", "experiment")])
def test_participants_files_hold_every_picture_and_no_word_about_it(
    exported: Exported, format: str, public: str
) -> None:
    root = exported.place(format) / public
    pictures = sorted(root.rglob("*.webp"))
    texts = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".webp"]
    named = {name for path in texts for name in re.findall(r"images/[^\",]+\.webp", path.read_text(encoding="utf-8"))}
    assert named == {path.relative_to(root).as_posix() for path in pictures}
    for path in pictures[::20]:
        assert hash_pixels(exported.study.image(path.stem)) == path.stem
    assert not (root / "key.csv").exists()
    trials = exported.study.trials()
    tables_of_trials = [path for path in texts if path.parent.name in ("trials", "conditions")]
    assert len(tables_of_trials) == trials["session"].nunique()
    told = set(trials["trial"]) | set(trials["session"]) | set(trials["model"]) | set(trials["layer"])
    told |= {"catch", "main", "query", "references", "natural", "easy", "correct"}
    for path in tables_of_trials:
        assert not [word for word in told if word in path.read_text(encoding="utf-8")]


def test_the_page_loads_nothing_from_elsewhere(exported: Exported) -> None:
    for path in exported.place("jspsych").rglob("*"):
        if path.suffix in (".html", ".js", ".css", ".json") and "website" in path.parts:
            assert "//" not in re.sub(r"^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_psychopy_gets_conditions_with_places_for_all_pictures(exported: Exported) -> None:
    root = exported.place("psychopy")
    trials = exported.study.trials().set_index("trial")
    key = pd.read_csv(root / "key.csv", dtype={"slot": str})
    layout = pd.read_csv(root / "experiment" / "layout.csv")
    places = layout["place"].tolist()
    for slot, part in key.groupby("slot"):
        conditions = pd.read_csv(root / "experiment" / "conditions" / f"{slot}.csv", keep_default_na=False)
        assert all(name.isidentifier() for name in conditions.columns)
        assert set(places) == set(conditions.columns) - {"trial", "block", "number"}
        assert conditions["trial"].tolist() == part["trial"].tolist()
        for (_, shown), (_, known) in zip(conditions.iterrows(), part.iterrows()):
            row = trials.loc[known["name"]]
            assert shown[known["right"]] == file_of(row["query_max"])
            for side, hidden in (("left", "min"), ("right", "max")):
                cells = [shown[name] for name in places if name.startswith(f"{side}_")]
                assert [cell for cell in cells if cell] == [file_of(name) for name in shown_pictures(row, hidden)]
    # No two pictures overlap, and left is left.
    boxes = layout[["x", "y", "width"]].to_numpy()
    for one, other in combinations(boxes, 2):
        assert np.abs(one[:2] - other[:2]).max() >= (one[2] + other[2]) / 2 - 1e-9
    assert (layout.loc[layout["place"].str.startswith("left"), "x"] < 0).all()
    assert (np.abs(layout["y"]) + layout["width"] / 2 <= 0.5).all()


# -------------------------------------------------------------------- the command line


def test_the_verb_writes_an_export(exported: Exported, tmp_path: Path) -> None:
    done = vimi("export", exported.study.root, "--format", "psych-ds", "--out", tmp_path / "out", "--comments")
    assert done.code == 0, done.err
    assert "comments: 1 rows" in done.out and str(tmp_path / "out") in done.out
    assert break_psych_ds_rules(tmp_path / "out") == []
    refused(vimi("export", exported.study.root, "--format", "bid"), "'bids'")
    refused(vimi("export", exported.study.root, "--out", exported.study.root), "an export by vimi", "--out")
    refused(vimi("export", tmp_path / "nothing"), "not a study")
