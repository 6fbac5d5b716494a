from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from benchmark import schemas
from benchmark.errors import NameNotFound, ObserverError, StageMissing, StudyError
from benchmark.observers.base import Observer, Presentation
from benchmark.observers.reference_points import OracleObserver, RandomObserver
from benchmark.responses import observe, read_responses, store_responses
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.units import PLANTED
from benchmark.workflow import observe_study, score_study
from tests.conftest import make_experiment
from tests.hand_made import answer_rows, make_stimuli, open_copy


@pytest.fixture
def study(tiny_study: Study, tmp_path: Path) -> Study:
    """A copy of the tiny study, to write answers into."""
    return open_copy(tiny_study, tmp_path / "study")


class Stubborn(Observer):
    """Always gives the upper query the same probability."""

    def __init__(self, name: str, upper: float) -> None:
        self.name, self.upper = name, upper

    def answer(self, trials: Presentation) -> NDArray[np.float64]:
        return np.full(len(trials), self.upper)


def stored(study: Study) -> list[str]:
    return sorted(path.name for path in (study.root / "responses").iterdir())


def test_each_observer_has_a_file_and_all_are_read_as_one_table(study: Study) -> None:
    for observer in (OracleObserver(), RandomObserver(), Stubborn("features:efficientnet_lite0", 0.7)):
        store_responses(study, observe(study, observer))
    assert stored(study) == ["features-efficientnet_lite0.parquet", "oracle.parquet", "random.parquet"]
    table = read_responses(study)
    count = len(assemble_tasks(study.stimuli()))
    assert table["observer"].value_counts().to_dict() == {
        "oracle": count,
        "random": count,
        "features:efficientnet_lite0": count,
    }
    assert table["response_id"].is_unique
    assert list(table.columns) == schemas.RESPONSES.names


def test_what_is_read_is_what_was_stored(study: Study) -> None:
    answers = observe(study, OracleObserver(), references=("both", "none"))
    store_responses(study, answers)
    pd.testing.assert_frame_equal(read_responses(study), answers)


def test_answers_given_again_replace_those_given_before(study: Study) -> None:
    store_responses(study, observe(study, RandomObserver()))
    store_responses(study, observe(study, Stubborn("stubborn", 0.9)))
    store_responses(study, observe(study, Stubborn("stubborn", 0.2)))
    table = read_responses(study)
    count = len(assemble_tasks(study.stimuli()))
    assert table["observer"].value_counts().to_dict() == {"random": count, "stubborn": count}
    own = table[table["observer"] == "stubborn"]
    assert np.where(own["query_top"] == "max", own["probability"], 1 - own["probability"]) == pytest.approx(0.2)


def test_answers_with_other_sides_shown_stay_when_an_observer_answers_again(study: Study) -> None:
    store_responses(study, observe(study, Stubborn("stubborn", 0.9), references=("both", "max")))
    store_responses(study, observe(study, Stubborn("stubborn", 0.2), references=("max", "none")))
    table = read_responses(study)
    upper = np.where(table["query_top"] == "max", table["probability"], 1 - table["probability"])
    means = pd.Series(upper).groupby(table["references"]).agg(["min", "max", "size"])
    count = len(assemble_tasks(study.stimuli()))
    assert means["size"].to_dict() == {"both": count, "max": count, "none": count}
    assert means["min"].to_dict() == pytest.approx({"both": 0.9, "max": 0.2, "none": 0.2})
    assert means["max"].to_dict() == pytest.approx({"both": 0.9, "max": 0.2, "none": 0.2})


def test_answers_to_other_stimuli_do_not_stay(study: Study) -> None:
    store_responses(study, observe(study, RandomObserver()).assign(stimuli_hash="old stimuli", references="max"))
    store_responses(study, observe(study, RandomObserver()))
    assert set(read_responses(study)["stimuli_hash"]) == {study.stimuli_hash}


def test_answers_on_shuffled_references_do_not_replace_the_honest_ones(study: Study) -> None:
    for shuffle in (False, True):
        observe_study(study, "oracle", shuffle_references=shuffle, device="cpu")
    assert stored(study) == ["oracle-shuffled.parquet", "oracle.parquet"]
    shares = read_responses(study).groupby("observer")["correct"].mean()
    assert shares["oracle"] > shares["oracle:shuffled"]


def test_several_observers_in_one_table_are_stored_each_in_its_file(study: Study) -> None:
    both = schemas.concatenate(
        [answer_rows("a", [(0, True)], "one"), answer_rows("a", [(0, False)], "two")], schemas.RESPONSES
    )
    store_responses(study, both)
    assert stored(study) == ["one.parquet", "two.parquet"]
    assert read_responses(study).set_index("observer")["correct"].to_dict() == {"one": True, "two": False}


def test_a_study_without_answers_has_an_empty_table_with_all_columns(study: Study) -> None:
    table = read_responses(study)
    assert table.empty
    assert list(table.columns) == schemas.RESPONSES.names


def test_observing_a_built_study_through_the_workflow_stores_scores_and_times_it(study: Study) -> None:
    returned = observe_study(study, "lowlevel", references=("both", "none"), device="cpu")
    pd.testing.assert_frame_equal(read_responses(study), returned)
    assert set(returned["model"]) == {*study.manifest["models"], PLANTED}
    assert score_study(study) == []  # the low-level observer is the control, not a score
    observe_study(study, "oracle", device="cpu")
    scores = score_study(study)
    trained = {name for name, facts in study.manifest["models"].items() if not facts["twin"]}
    assert {score.model for score in scores} == trained
    natural = [score for score in scores if score.condition == "natural"]
    assert [score.score.value for score in natural] == [1.0, 1.0]
    table = pd.read_csv(study.results / "machine_scores.csv", keep_default_na=False)
    assert len(table) == len(scores)
    assert set(table["note"]) == {"; ".join(study.manifest["notes"])}
    timings = pd.read_parquet(study.root / "timings.parquet")
    assert {"lowlevel", "oracle"} <= set(timings.loc[timings["stage"] == "observers", "what"])


def test_answers_to_stimuli_that_have_been_replaced_are_not_scored(study: Study) -> None:
    store_responses(study, observe(study, OracleObserver()).assign(stimuli_hash="older stimuli"))
    assert score_study(study) == []


def test_what_is_written_does_not_change_the_hash_of_the_study(study: Study) -> None:
    before = study.hash
    observe_study(study, "oracle", device="cpu")
    assert study.hash == before


def test_unknown_observers_and_kinds_of_references_are_refused_before_anything_is_stored(study: Study) -> None:
    with pytest.raises(NameNotFound, match="Did you mean 'oracle'"):
        observe_study(study, "oracl", device="cpu")
    with pytest.raises(NameNotFound, match="Did you mean 'none'"):
        observe_study(study, "oracle", references=("non",), device="cpu")  # type: ignore[arg-type]
    assert not (study.root / "responses").exists()


def test_a_study_without_exemplars_says_which_command_makes_them(
    checkpoint: Path, labelled_folder: Path, tmp_path: Path
) -> None:
    empty = Study.create(tmp_path / "empty", make_experiment(labelled_folder, checkpoint))
    with pytest.raises(StageMissing, match=r"has no exemplars yet\. Run: vimi build .* --stage exemplars"):
        observe_study(empty, "oracle", device="cpu")


def test_a_study_of_planted_units_alone_has_nobody_to_observe(study: Study) -> None:
    with pytest.raises(ObserverError, match="oracle"):
        observe(study, OracleObserver(), stimuli=make_stimuli(PLANTED, units=1))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("choice", "left", "responses: 'choice' is 'left' in row 1; it must be one of max, min"),
        ("kind", "test", "responses: 'kind' is 'test' in row 1; it must be one of main, catch, practice, repeated"),
        ("references", "all", "'references' is 'all' in row 1; it must be one of both, max, min, none"),
        ("difficulty", "impossible", "'difficulty' is 'impossible' in row 1"),
        ("observer_kind", "robot", "'observer_kind' is 'robot' in row 1"),
        ("model", None, "responses: 'model' is empty in row 1"),
        ("correct", None, "responses: 'correct' is empty in row 1"),
        ("index", "seven", "responses: 'index' is not of type 'integer'"),
        ("probability", "likely", "responses: 'probability' is not of type 'number'"),
    ],
)
def test_a_row_that_breaks_the_schema_is_named(study: Study, column: str, value: object, message: str) -> None:
    table = answer_rows("a", [(0, True), (1, False), (2, True)])
    cells: list[object] = table[column].astype(object).tolist()
    cells[1] = value
    broken = table.assign(**{column: pd.Series(cells, dtype=object)})
    with pytest.raises(StudyError) as caught:
        store_responses(study, broken)
    assert message in str(caught.value)
    assert not list((study.root / "responses").glob("*.parquet"))


def test_a_column_that_is_missing_or_unknown_is_named(study: Study) -> None:
    table = answer_rows("a", [(0, True)])
    with pytest.raises(StudyError, match=r"'choice' is missing \(which query was chosen\)"):
        store_responses(study, table.drop(columns="choice"))
    with pytest.raises(StudyError, match=r"unknown column 'confidense'\. Did you mean 'confidence'"):
        store_responses(study, table.assign(confidense=1))


def test_a_broken_file_of_answers_is_named_when_it_is_read(study: Study) -> None:
    observe_study(study, "oracle", device="cpu")
    path = study.response_path("oracle")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StudyError, match=r"oracle\.parquet is not a readable Parquet file"):
        read_responses(study)


def test_a_file_that_breaks_the_schema_is_named_when_it_is_read(study: Study) -> None:
    observe_study(study, "oracle", device="cpu")
    path = study.response_path("oracle")
    pd.read_parquet(path).assign(choice="left").to_parquet(path)
    with pytest.raises(StudyError, match="'choice' is 'left' in row 0"):
        read_responses(study)
