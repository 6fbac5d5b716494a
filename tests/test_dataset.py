"""A data set is the same wherever its answers come from: a study, an import, an export or a plain table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.dataset import (
    MODEL_FACTS,
    UNIT_FACTS,
    Dataset,
    derive_sessions,
    describe,
    model_facts,
    read_dataset,
    with_models,
)
from analysis.importing.imi import import_imi
from benchmark import schemas
from benchmark.errors import ImportFailure, StudyError
from benchmark.study import Study
from benchmark.units import unit_names
from benchmark.workflow import observe_study
from tests.imported import imi_table, write_imi


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return import_imi(write_imi(tmp_path_factory.mktemp("release"), imi_table(16, version=2)))


@pytest.fixture(scope="module")
def observed(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with answers of a machine."""
    root = tmp_path_factory.mktemp("observed") / "study"
    shutil.copytree(tiny_study.root, root)
    study = Study.open(root)
    observe_study(study, "lowlevel", device="cpu")
    return study


def as_text(responses: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV, truth values as words."""
    table = responses.copy()
    for column in schemas.RESPONSES.columns:
        if column.kind == "boolean":
            table[column.name] = table[column.name].map({True: "TRUE", False: "FALSE"})
    table.to_csv(path, index=False)
    return path


# ---------------------------------------------------------------- where it comes from


def test_a_study_gives_its_answers_units_and_models(observed: Study) -> None:
    dataset = read_dataset(observed.root)
    assert set(dataset.responses["observer_kind"]) == {"machine"}
    assert dataset.sessions.empty
    assert list(dataset.units.columns) == UNIT_FACTS and list(dataset.models.columns) == MODEL_FACTS
    assert dataset.units[["depth", "width"]].notna().all(axis=None) and (dataset.units["kind"] != "").all()
    asked = dataset.responses[dataset.responses["model"] != "planted"]
    assert set(dataset.units["unit"]) == set(unit_names(asked))
    models = dataset.models.set_index("model")
    manifest = observed.manifest["models"]
    assert set(models.index) == set(manifest)
    assert models["twin"].to_dict() == {name: facts["twin"] for name, facts in manifest.items()}
    assert models["parameters"].to_dict() == {name: facts["parameters"] for name, facts in manifest.items()}
    trained = next(name for name, facts in manifest.items() if facts["card"]["training"])
    assert models.loc[trained, "training_images"] == 60
    assert dataset.notes == tuple(observed.manifest["notes"])
    assert dataset.protocol == observed.protocol.identity
    assert read_dataset(observed).responses.equals(dataset.responses)


def test_people_in_a_study_keep_what_is_known_of_their_sessions(
    observed: Study, imported: Dataset, tmp_path: Path
) -> None:
    root = tmp_path / "study"
    shutil.copytree(observed.root, root)
    machine = pd.read_parquet(next((root / "responses").glob("*.parquet")))
    people = machine.head(12).assign(
        observer_kind="human", observer="somebody", session="a", response_id=[f"h{n}" for n in range(12)]
    )
    schemas.RESPONSES.write(people, root / "responses" / "somebody.parquet")
    dataset = read_dataset(root)
    assert len(dataset.responses) == len(machine) + 12
    assert dataset.sessions["session"].tolist() == ["a"]


def test_a_study_without_answers_says_how_to_get_some(tiny_study: Study) -> None:
    with pytest.raises(ImportFailure, match=r"no answers yet.*vimi observe"):
        read_dataset(tiny_study)


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_a_table_in_the_schema_is_read_as_it_is(ending: str, imported: Dataset, tmp_path: Path) -> None:
    path = tmp_path / f"answers.{ending}"
    if ending == "parquet":
        imported.responses.to_parquet(path)
    else:
        as_text(imported.responses, path)
    dataset = read_dataset(path)
    pd.testing.assert_frame_equal(dataset.responses, imported.responses)
    assert dataset.sessions["session"].tolist() == imported.sessions["session"].tolist()
    assert dataset.sessions["total_seconds"].isna().all()
    pd.testing.assert_frame_equal(dataset.models, imported.models)
    pd.testing.assert_frame_equal(dataset.units, imported.units)
    assert dataset.name == "answers" and list(dataset.sources) == [path.name]


def test_an_export_is_read_with_its_sessions_and_notes(imported: Dataset, tmp_path: Path) -> None:
    as_text(imported.responses, tmp_path / "responses.csv")
    imported.sessions.assign(usable=True).to_csv(tmp_path / "sessions.csv", index=False)
    manifest = {"kind": "export of vimi", "study_name": "exported", "notes": ["only a trial run"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    dataset = read_dataset(tmp_path)
    assert (dataset.name, dataset.notes) == ("exported", ("only a trial run",))
    pd.testing.assert_frame_equal(dataset.sessions, imported.sessions)


def test_answers_of_two_protocols_never_share_a_table_silently(imported: Dataset, tmp_path: Path) -> None:
    mixed = imported.responses.copy()
    mixed.loc[:9, "protocol"] = "vimi1"
    mixed.to_parquet(tmp_path / "mixed.parquet")
    dataset = read_dataset(tmp_path / "mixed.parquet")
    assert dataset.protocol == "imi2023 and vimi1"
    assert any("several protocols" in note and "imi2023 and vimi1" in note for note in dataset.notes)


def test_what_holds_no_answers_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ImportFailure, match=r"no file or folder"):
        read_dataset(tmp_path / "nothing")
    with pytest.raises(ImportFailure, match=r"holds no answers.*import-csv"):
        read_dataset(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(ImportFailure, match="neither Parquet nor CSV"):
        read_dataset(tmp_path / "a.txt")
    (tmp_path / "a.pkl").write_text("hello")
    with pytest.raises(ImportFailure, match="pickle"):
        read_dataset(tmp_path / "a.pkl")
    (tmp_path / "a.parquet").write_text("hello")
    with pytest.raises(ImportFailure, match="not a readable Parquet"):
        read_dataset(tmp_path / "a.parquet")


# ---------------------------------------------------------------- a row that breaks the schema


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"choice": "left"}, ["'choice' is 'left'", "max, min"]),
        ({"correct": "perhaps"}, ["'correct' is 'perhaps'", "neither true nor false"]),
        ({"index": "1.5"}, ["'index' is '1.5'", "no whole number"]),
        ({"rt_ms": "soon"}, ["'rt_ms' is 'soon'", "no number"]),
        ({"confidence": 7}, ["'confidence' is '7'", "1, 2 or 3"]),
        ({"session": ""}, ["'session' is empty", "it is needed"]),
        ({"answered_at": "yesterday"}, ["'answered_at' is 'yesterday'", "no time"]),
        ({"difficulty": "esay"}, ["'difficulty' is 'esay'", "Did you mean 'easy'"]),
    ],
)
def test_a_row_that_breaks_the_schema_is_named_with_its_column_and_reason(
    cells: dict[str, Any], words: list[str], imported: Dataset, tmp_path: Path
) -> None:
    table = imported.responses.head(20).astype(object)
    for name, value in cells.items():
        table.loc[4, name] = value
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ImportFailure) as caught:
        read_dataset(tmp_path / "a.csv")
    for word in ["1 of 20 rows", "row 6: ", *words]:
        assert word in str(caught.value)


def test_a_column_that_is_missing_or_unknown_is_named(imported: Dataset, tmp_path: Path) -> None:
    for change, words in (
        ({"columns": ["choice"]}, "'choice' is missing"),
        ({"columns": []}, "unknown column 'chioce'.*'choice'"),
    ):
        table = imported.responses.head(5).drop(**change)
        if not change["columns"]:
            table = table.assign(chioce="max")
        table.to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(ImportFailure, match=words):
            read_dataset(tmp_path / "a.csv")


# ---------------------------------------------------------------- writing


def test_an_import_comes_back_as_it_was_written_and_says_what_it_is_made_of(imported: Dataset, tmp_path: Path) -> None:
    folder = imported.write(tmp_path / "imports" / "imi")
    back = read_dataset(folder)
    for name in ("responses", "sessions", "units", "models"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(imported, name))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["kind"] == "import of vimi" and manifest["state"] == "complete"
    assert manifest["sources"] == dict(imported.sources) and manifest["versions"]["pandas"] == pd.__version__
    assert set(manifest["files"]) == {"responses.parquet", "sessions.parquet", "units.parquet", "models.csv"}
    assert "Dataset" not in (folder / "models.csv").read_text().splitlines()[0]
    assert "25557032," in (folder / "models.csv").read_text()


def test_writing_again_replaces_an_import_but_nothing_else(imported: Dataset, tmp_path: Path) -> None:
    folder = imported.write(tmp_path / "imi")
    imported.write(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(ImportFailure, match="is neither empty nor an import"):
        imported.write(tmp_path / "other")
    with pytest.raises(ImportFailure, match="is a file"):
        imported.write(tmp_path / "other" / "thesis.txt")
    assert (tmp_path / "other" / "thesis.txt").read_text() == "years of work"


def test_a_study_is_never_written_over(imported: Dataset, tiny_study: Study) -> None:
    before = tiny_study.manifest_path.read_bytes()
    with pytest.raises(ImportFailure, match="is neither empty nor an import"):
        imported.write(tiny_study.root)
    assert tiny_study.manifest_path.read_bytes() == before


def test_an_interrupted_import_says_so_and_can_be_repeated(
    imported: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(schemas.Schema, "write", break_off)
        with pytest.raises(KeyboardInterrupt):
            imported.write(tmp_path / "imi")
    with pytest.raises(ImportFailure, match="interrupted"):
        read_dataset(tmp_path / "imi")
    assert len(read_dataset(imported.write(tmp_path / "imi")).responses) == len(imported.responses)


# ---------------------------------------------------------------- facts


def test_sessions_are_told_from_answers_as_far_as_they_tell(imported: Dataset) -> None:
    answers = imported.responses.head(200).copy()
    begun = pd.Timestamp("2024-05-01 12:00", tz="UTC")
    answers["answered_at"] = begun + pd.to_timedelta(np.arange(200), unit="s")
    machine = answers.head(3).assign(observer_kind="machine", session="robot")
    sessions = derive_sessions(pd.concat([machine, answers]))
    assert sessions["session"].tolist() == answers["session"].unique().tolist()
    assert sessions["begun_at"].tolist() == answers.groupby("session", sort=False)["answered_at"].min().tolist()
    assert sessions["ended_at"].tolist() == answers.groupby("session", sort=False)["answered_at"].max().tolist()
    assert sessions[["total_seconds", "instruction_seconds", "practice_attempts"]].isna().all(axis=None)
    assert sessions["cell"][0] == "googlenet-natural-easy"
    crossed = answers.assign(session="one", model=np.where(np.arange(200) % 2, "resnet50", "googlenet"), kind="main")
    assert derive_sessions(crossed)["cell"].tolist() == ["natural+synthetic-easy"]
    assert derive_sessions(machine).empty


def test_models_are_known_by_their_cards_and_no_others() -> None:
    table = model_facts(["resnet50", "resnet50-twin", "newnet", "planted"]).set_index("model")
    assert list(table.index) == ["newnet", "resnet50", "resnet50-twin"]
    assert table.loc["resnet50", ["family", "parameters", "training_images", "top1", "twin"]].tolist() == [
        "resnet", 25_557_032, 1_281_167, pytest.approx(0.7613), False,
    ]  # fmt: skip
    assert table.loc["resnet50-twin", "twin"] and np.isnan(table.loc["resnet50-twin", "top1"])
    assert table.loc["newnet"].drop(["family", "twin", "same_units_as"]).isna().all()


def test_a_table_of_models_can_be_given_later(imported: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "models.csv"
    path.write_text("model,top1,samples_seen,year\nresnet50,0.8,1e9,2015\ngooglenet,,,2014\nunasked,0.5,,\n")
    imported.write(tmp_path / "imi")
    models = read_dataset(tmp_path / "imi", models=path).models.set_index("model")
    assert models.loc["resnet50", ["top1", "samples_seen", "year", "parameters"]].tolist() == [0.8, 1e9, 2015, 25557032]
    assert models.loc["googlenet", "top1"] == pytest.approx(0.6915) and models.loc["googlenet", "year"] == 2014
    assert "unasked" not in models.index


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,top1\nresnet50,0.8\n", "'model' is missing"),
        ("model,top\nresnet50,0.8\n", "unknown column 'top'"),
        ("model,top1\nresnet50,76.1\n", r"row 2: top1 is '76.1'; an accuracy is a share"),
        ("model,year\nresnet50,old\n", "row 2: year is 'old'; no number"),
        ("model,year\nresnet50,1\nresnet50,2\n", "row 3: model is 'resnet50'"),
        ("model,year\nunasked,1\n", "has no row for any model"),
    ],
)
def test_a_table_of_models_that_is_wrong_is_refused_in_words(
    text: str, words: str, imported: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "models.csv"
    path.write_text(text)
    with pytest.raises(ImportFailure, match=words):
        with_models(imported, path)


def test_a_description_counts_what_is_there(imported: Dataset) -> None:
    description = describe(imported, rows=2)
    assert description.counts["answers"].sum() == len(imported.responses)
    assert description.counts["right"].sum() == imported.responses["correct"].sum()
    assert len(description.first) == 2
    assert "answered_at" in description.missing and "total_seconds" not in description.missing
    assert all(note in str(description) for note in imported.notes)


def test_parquet_that_breaks_the_schema_is_refused(imported: Dataset, tmp_path: Path) -> None:
    folder = imported.write(tmp_path / "imi")
    imported.responses.drop(columns="choice").to_parquet(folder / "responses.parquet")
    with pytest.raises(StudyError, match="choice"):
        read_dataset(folder)


def test_reading_answers_loads_no_torch() -> None:
    code = (
        "import sys, analysis.dataset, analysis.importing.imi, analysis.importing.mapping\n"
        "from analysis.dataset import model_facts\n"
        "model_facts(['resnet50', 'timm:resnet18', 'newnet', 'a.b'])\n"
        "assert not {'torch', 'timm', 'matplotlib', 'statsmodels'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
