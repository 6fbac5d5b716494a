"""The 2023 release comes in whole: every column means what the paper says, and what breaks is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.dataset import Dataset, describe, read_dataset
from analysis.exclusions import judge_sessions, protocol_rules
from analysis.importing.imi import import_imi
from analysis.judgement_table import judgements
from benchmark.errors import ImportFailure
from benchmark.protocol import load_protocol
from tests.imported import IMI_CELLS, IMI_COLUMNS, TRAP, imi_table, write_imi


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return imi_table(48, version=1, seed=1)


@pytest.fixture(scope="module")
def dataset(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return import_imi(write_imi(tmp_path_factory.mktemp("release"), table).parent.parent)


def refused(table: pd.DataFrame, folder: Path) -> str:
    with pytest.raises(ImportFailure) as caught:
        import_imi(write_imi(folder, table))
    return str(caught.value)


def changed(table: pd.DataFrame, row: int, **cells: Any) -> pd.DataFrame:
    """Return the table with cells of one row changed."""
    copy = table.astype(object).copy()
    for name, value in cells.items():
        copy.loc[row, name] = value
    return copy


def main_row(table: pd.DataFrame, task: str = "resnet50_natural") -> int:
    """Return the position of a main trial."""
    rows = ~table["is_demo"] & ~table["catch_trial"] & table["task_id"].str.startswith(task)
    return int(np.flatnonzero(rows)[0])


def test_the_table_of_the_tests_has_the_shape_of_the_release(table: pd.DataFrame) -> None:
    assert len(IMI_COLUMNS) == len(set(IMI_COLUMNS)) == 45
    assert list(table.columns) == list(IMI_COLUMNS)


def test_every_row_comes_in_with_its_kind_and_answer(table: pd.DataFrame, dataset: Dataset) -> None:
    answers = dataset.responses
    assert len(answers) == len(table)
    wanted = np.where(table["is_demo"], "practice", np.where(table["catch_trial"], "catch", "main"))
    assert answers["kind"].tolist() == wanted.tolist()
    assert answers["correct"].tolist() == table["correct"].tolist()
    assert answers["choice"].tolist() == table["choice"].map({"a": "min", "b": "max"}).tolist()
    assert answers["query_top"].tolist() == table["switched_queries"].map({True: "max", False: "min"}).tolist()
    assert answers["confidence"].tolist() == table["confidence"].tolist()
    assert answers["rt_ms"].tolist() == table["rt"].tolist()
    upper = (answers["choice"] == answers["query_top"]).tolist()
    assert upper == (table["button_pressed"] <= 2).tolist()
    assert not any("button" in note for note in dataset.notes)


def test_models_conditions_and_difficulties_get_our_names(table: pd.DataFrame, dataset: Dataset) -> None:
    main = (dataset.responses["kind"] == "main").to_numpy()
    answers, raw = dataset.responses[main], table[main]
    cards = {
        "googlenet", "densenet201", "resnet50", "resnet50_l2", "clip_resnet50", "wide_resnet50", "vit_b32",
        "clip_vit_b32", "convnext_b",
    }  # fmt: skip
    assert set(answers["model"]) == set(dataset.models["model"]) == cards
    assert dataset.models[["parameters", "training_images", "top1"]].notna().all(axis=None)
    assert dataset.models.set_index("model").loc["clip_vit_b32", "training_images"] == 2e9
    assert dataset.models["top1"].between(0, 1).all()
    assert (answers["condition"] == raw["mode"].map({"natural": "natural", "optimized": "synthetic"}).to_numpy()).all()
    quantiles = {"": "easy", "_hard85": "very_hard", "_hard95": "hard", "_hard99": "medium"}
    for model, mode, hard, task in IMI_CELLS:
        own = answers[raw["task_id"].str.rpartition("-")[0].to_numpy() == task]
        assert set(own["difficulty"]) == {quantiles[hard]}, (model, mode, hard)
    assert answers["index"].tolist() == raw["channel"].astype(int).tolist()
    assert answers["layer"].tolist() == raw["layer"].tolist()
    assert answers["task"].tolist() == raw["batch"].astype(int).tolist()


@pytest.mark.parametrize("version", [1, 2])
def test_the_synthetic_hard_trials_of_resnet50_are_told_apart_by_the_name_of_the_task(
    version: Any, tmp_path: Path
) -> None:
    table = imi_table(16, version=version)
    mine = table["task_id"].str.startswith(TRAP) & ~table["is_demo"] & ~table["catch_trial"]
    assert set(table.loc[mine, "model"]) == {"resnet50" if version == 1 else "resnet50_hard95"}
    dataset = import_imi(write_imi(tmp_path, table))
    answers = dataset.responses[mine.to_numpy()]
    assert set(answers["model"]) == {"resnet50"}
    assert set(answers["condition"]) == {"synthetic"}
    assert set(answers["difficulty"]) == {"hard"}
    easy = dataset.responses.query("model == 'resnet50' and condition == 'synthetic' and difficulty == 'easy'")
    assert len(easy) == 40
    assert any("40 main trials stands in task_id" in note for note in dataset.notes) == (version == 1)


def test_anonymous_people_are_told_apart_by_task_and_response(table: pd.DataFrame, dataset: Dataset) -> None:
    assert set(table["participant_id"]) == {"anonymized"}
    assert len(dataset.sessions) == dataset.responses["session"].nunique() == 48
    assert dataset.responses["observer"].nunique() == 48
    assert any("anonymous" in note for note in dataset.notes)
    assert (dataset.responses.groupby("session")["kind"].value_counts()[:, "main"] == 40).all()


def test_two_responses_to_one_task_are_two_sessions(tmp_path: Path) -> None:
    table = imi_table(4)
    table["task_id"] = "resnet50_natural-7"
    table["model"] = table["model"].where(table["model"].isna() | table["catch_trial"], "resnet50")
    table["mode"] = table["mode"].where(table["mode"].isna() | table["catch_trial"], "natural")
    table["response_index"] = np.cumsum(table["trial_index"].diff().fillna(-1) < 0) - 1
    dataset = import_imi(write_imi(tmp_path, table))
    assert dataset.sessions["session"].tolist() == [f"resnet50_natural-7/{n}" for n in range(4)]


def test_named_people_keep_their_names(tmp_path: Path) -> None:
    dataset = import_imi(write_imi(tmp_path, imi_table(16, version=2)))
    assert set(dataset.responses["observer"]) == {f"P{n:04d}" for n in range(16)}
    assert not any("anonymous" in note for note in dataset.notes)


def test_practice_and_catch_trials_are_no_units_of_the_model_but_keep_the_condition_of_their_session(
    dataset: Dataset,
) -> None:
    aside = dataset.responses[dataset.responses["kind"] != "main"]
    assert set(aside["model"]) == {"planted"}
    per_session = dataset.responses.groupby("session")[["condition", "difficulty"]].nunique()
    assert (per_session == 1).all(axis=None)
    assert not (dataset.units["model"] == "planted").any()


def test_trials_are_counted_from_0_in_each_session(dataset: Dataset) -> None:
    for _, own in dataset.responses.groupby("session"):
        assert own["trial_index"].tolist() == list(range(len(own)))


def test_facts_of_sessions_come_along_and_exclusions_can_judge_them(table: pd.DataFrame, dataset: Dataset) -> None:
    first = table.groupby(["task_id", "response_index"], sort=False).first()
    assert dataset.sessions["total_seconds"].tolist() == first["total_response_time_details_extracted"].tolist()
    assert dataset.sessions["instruction_seconds"].tolist() == first["instruction_time_details_extracted"].tolist()
    assert dataset.sessions["practice_attempts"].tolist() == first["demo_trials_details_extracted"].tolist()
    assert not dataset.sessions["earlier_participation"].any()
    assert '"passed_checks": true' in dataset.sessions["evidence"][0]
    judged = judge_sessions(dataset.sessions, dataset.responses, protocol_rules(load_protocol("imi2023")))
    right = first["catch_trials_details_correctly_answered_extracted"]
    assert judged["catch"].tolist() == (right >= 4).tolist()
    assert judged[["total time", "instruction time", "practice", "first participation"]].all(axis=None)


def test_who_took_part_twice_is_known(tmp_path: Path) -> None:
    table = imi_table(16)
    table["multi_participation"] = table["task_id"].str.startswith("googlenet_natural")
    assert import_imi(write_imi(tmp_path, table)).sessions["earlier_participation"].sum() == 1


def test_analyses_can_start_from_it(dataset: Dataset) -> None:
    tidy = judgements(dataset.responses)
    assert len(tidy) == 48 * 40
    assert set(tidy["unit"].cat.categories) == set(dataset.units["unit"])


def test_row_order_does_not_matter(table: pd.DataFrame, dataset: Dataset, tmp_path: Path) -> None:
    shuffled = import_imi(write_imi(tmp_path, table.sample(frac=1, random_state=3)))
    again = shuffled.responses.set_index("response_id").loc[dataset.responses["response_id"]].reset_index()
    pd.testing.assert_frame_equal(again[dataset.responses.columns], dataset.responses)


def test_it_is_found_as_a_file_packed_or_not_and_in_its_folders(table: pd.DataFrame, tmp_path: Path) -> None:
    path = write_imi(tmp_path, table)
    packed = path.with_name("responses_all.csv.gz")
    table.head(200).to_csv(packed, index=False)
    for place in (path, path.parent, tmp_path):
        assert len(import_imi(place).responses) == len(table)
    assert len(import_imi(packed).responses) == len(import_imi(tmp_path, table="all").responses) == 200
    with pytest.raises(ImportFailure, match=r"responses_lower_quality\.csv"):
        import_imi(tmp_path, table="lower_quality")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "responses_main.pd.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(ImportFailure, match=r"pickle.*\.csv"):
        import_imi(path)


def test_what_was_imported_can_be_written_and_read(dataset: Dataset, tmp_path: Path) -> None:
    back = read_dataset(dataset.write(tmp_path / "imi"))
    pd.testing.assert_frame_equal(back.responses, dataset.responses)
    pd.testing.assert_frame_equal(back.sessions, dataset.sessions)
    assert back.notes == dataset.notes and back.sources == dataset.sources and len(back.sources) == 1
    assert "googlenet" in str(describe(back))


# ---------------------------------------------------------------- what breaks


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"choice": "c"}, ["'choice'", "'c'", "a (minimal) or b (maximal)"]),
        ({"confidence": 4}, ["'confidence'", "'4'", "1, 2 or 3"]),
        ({"correct": "perhaps"}, ["'correct'", "'perhaps'", "neither true nor false"]),
        ({"rt": "fast"}, ["'rt'", "'fast'"]),
        ({"rt": -3}, ["'rt'", "'-3'"]),
        ({"button_pressed": 6}, ["'button_pressed'", "'6'", "0 to 5"]),
        ({"mode": "blurred"}, ["'mode'", "'blurred'", "natural or optimized"]),
        ({"mode": "optimized"}, ["'mode'", "another condition"]),
        ({"model": "resnet51"}, ["'model'", "'resnet51'", "resnet50"]),
        ({"model": "googlenet"}, ["'model'", "task_id names another model"]),
        ({"model": "resnet50_hard90"}, ["'model'", "no difficulty"]),
        ({"channel": "many"}, ["'channel'", "'many'"]),
        ({"layer": None}, ["'layer'", "empty"]),
        ({"batch": None}, ["'batch'", "empty"]),
        ({"trial_index": "1.5"}, ["'trial_index'", "'1.5'"]),
        ({"task_id": None}, ["'task_id'", "empty"]),
    ],
)
def test_a_row_that_breaks_is_named_with_its_column_and_reason(cells: Any, words: list[str], tmp_path: Path) -> None:
    table = imi_table(16)
    row = main_row(table)
    message = refused(changed(table, row, **cells), tmp_path)
    for word in [f"row {row + 2}:", *words]:
        assert word in message, message


def test_a_choice_that_contradicts_the_verdict_is_named(tmp_path: Path) -> None:
    table = imi_table(16)
    row = main_row(table)
    flipped = "a" if table["choice"][row] == "b" else "b"
    message = refused(changed(table, row, choice=flipped), tmp_path)
    assert f"row {row + 2}: 'correct'" in message and "the choice says otherwise" in message


def test_a_button_at_the_other_query_is_reported_not_refused(tmp_path: Path) -> None:
    table = imi_table(16)
    row = main_row(table)
    dataset = import_imi(write_imi(tmp_path, changed(table, row, button_pressed=5 - table["button_pressed"][row])))
    assert any(f"in 1 of {len(table):,} rows the button" in note and f"row {row + 2}" in note for note in dataset.notes)


def test_a_cause_of_many_rows_is_one_line_with_three_examples(tmp_path: Path) -> None:
    table = imi_table(2).assign(choice="x")
    message = refused(table, tmp_path)
    assert f"{len(table)} of {len(table)} rows" in message
    assert f"\n  {len(table)} rows: 'choice'" in message and f"… and {len(table) - 3} more" in message, message
    assert message.count("('x')") == 3, message


def test_a_row_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    table = imi_table(2)
    message = refused(pd.concat([table, table.tail(1)]), tmp_path)
    assert f"row {len(table) + 2}: 'trial_index'" in message


def test_a_table_of_another_shape_is_sent_to_the_mapping(tmp_path: Path) -> None:
    message = refused(imi_table(1).drop(columns="switched_queries").rename(columns={"choice": "choise"}), tmp_path)
    assert "column 'switched_queries'" in message and "import-csv" in message
    assert "no rows" in refused(imi_table(1).head(0), tmp_path)
    other = tmp_path / "other.csv"
    other.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImportFailure, match="other"):
        import_imi(other)
    with pytest.raises(ImportFailure, match="no file or folder"):
        import_imi(tmp_path / "nowhere")
