from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import schemas
from benchmark.errors import StudyError
from benchmark.study import Study
from benchmark.tasks import TASK_COLUMNS, assemble_tasks, present, task_names
from benchmark.units import PLANTED, UNIT_COLUMNS
from tests.hand_made import REFERENCES, SIDES, make_stimuli, make_tasks


def stimuli_of(*parts: pd.DataFrame) -> pd.DataFrame:
    return schemas.concatenate(parts, schemas.STIMULI)


def test_each_unit_task_difficulty_and_condition_is_one_row() -> None:
    stimuli = stimuli_of(
        make_stimuli("a", units=3, tasks=4, difficulties=("easy", "hard"), synthetic=True),
        make_stimuli("b", units=2, tasks=4),
    )
    tasks = assemble_tasks(stimuli)
    counts = tasks.groupby(["model", "condition", "difficulty"]).size().to_dict()
    assert counts == {
        ("a", "natural", "easy"): 12,
        ("a", "natural", "hard"): 12,
        ("a", "synthetic", "easy"): 12,
        ("a", "synthetic", "hard"): 12,
        ("b", "natural", "easy"): 8,
    }
    assert not tasks.duplicated(TASK_COLUMNS).any()


def test_natural_references_belong_to_one_task_and_synthetic_ones_to_all_of_the_unit() -> None:
    tasks = assemble_tasks(make_stimuli("a", units=2, tasks=3, synthetic=True))
    for row in tasks.to_dict("records"):
        for side in SIDES:
            assert row[f"query_{side}"] == f"a {row['index']} {side} {row['task']} easy"
            middle = row["task"] if row["condition"] == "natural" else "synthetic"
            assert row[f"references_{side}"] == [f"a {row['index']} {side} {middle} {n}" for n in range(REFERENCES)]


def test_queries_are_natural_whatever_the_references_are() -> None:
    tasks = assemble_tasks(make_stimuli("a", units=2, tasks=3, synthetic=True))
    natural, synthetic = (tasks[tasks["condition"] == c].reset_index() for c in ("natural", "synthetic"))
    for side in SIDES:
        assert natural[f"query_{side}"].tolist() == synthetic[f"query_{side}"].tolist()
        assert natural[f"activation_query_{side}"].tolist() == synthetic[f"activation_query_{side}"].tolist()


def test_activations_go_with_their_pictures() -> None:
    tasks = assemble_tasks(make_stimuli("a", units=1, tasks=2))
    assert tasks["activations_max"].tolist() == [[9.0, 8.0, 7.0]] * 2
    assert tasks["activations_min"].tolist() == [[-9.0, -8.0, -7.0]] * 2


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_tasks_do_not_depend_on_the_order_of_the_stimuli(seed: int) -> None:
    stimuli = stimuli_of(
        make_stimuli("b", units=2, tasks=2, difficulties=("easy", "medium"), synthetic=True),
        make_stimuli("a", units=1, tasks=3),
    )
    shuffled = stimuli.iloc[np.random.default_rng(seed).permutation(len(stimuli))].reset_index(drop=True)
    pd.testing.assert_frame_equal(assemble_tasks(shuffled), assemble_tasks(stimuli))


def test_tasks_come_in_canonical_order() -> None:
    tasks = assemble_tasks(stimuli_of(make_stimuli("b", 2, synthetic=True), make_stimuli("a", 2)))
    keys = list(tasks[["condition", "difficulty", *UNIT_COLUMNS, "task"]].itertuples(index=False, name=None))
    assert keys == sorted(keys)


def test_a_unit_without_references_on_one_side_has_no_tasks() -> None:
    stimuli = make_stimuli("a", units=2, tasks=2)
    cut = stimuli[~((stimuli["index"] == 1) & (stimuli["side"] == "min") & (stimuli["role"] == "reference"))]
    assert set(assemble_tasks(cut)["index"]) == {0}


def test_a_task_without_one_of_its_queries_is_left_out() -> None:
    stimuli = make_stimuli("a", units=1, tasks=3)
    cut = stimuli[~((stimuli["task"] == 1) & (stimuli["side"] == "max") & (stimuli["role"] == "query"))]
    assert assemble_tasks(cut)["task"].tolist() == [0, 2]


def test_stimuli_without_any_complete_task_are_an_error() -> None:
    stimuli = make_stimuli("a", units=2)
    with pytest.raises(StudyError, match="no complete task"):
        assemble_tasks(stimuli[stimuli["side"] == "max"])


def with_labels(stimuli: pd.DataFrame, labels: dict[tuple[str, str, int], str]) -> pd.DataFrame:
    keys = list(zip(stimuli["role"], stimuli["side"], stimuli["position"]))
    return schemas.STIMULI.conform(stimuli.assign(label=[labels.get(key) for key in keys]))


def test_label_overlap_is_the_share_of_the_right_side_minus_that_of_the_wrong_one() -> None:
    labels = {
        ("query", "max", 0): "cat",
        ("query", "min", 0): "dog",
        **{("reference", "max", n): label for n, label in enumerate(("cat", "cat", "dog"))},
        **{("reference", "min", n): label for n, label in enumerate(("dog", "bird", "cat"))},
    }
    tasks = assemble_tasks(with_labels(make_stimuli("a", units=1, tasks=1), labels))
    # The cat: two of three on its own side, one of three on the other; the dog: one of three on either.
    assert tasks["label_overlap"].iloc[0] == pytest.approx((1 / 3 + 0) / 2)
    assert tasks["label_query_max"].iloc[0] == "cat"


def test_labels_that_give_everything_away_have_an_overlap_of_one_and_useless_ones_of_zero() -> None:
    stimuli = make_stimuli("a", units=1, tasks=1)
    telling = {(role, side, n): side for role in ("query", "reference") for side in SIDES for n in range(REFERENCES)}
    assert assemble_tasks(with_labels(stimuli, telling))["label_overlap"].tolist() == [1.0]
    useless = dict.fromkeys(telling, "same")
    assert assemble_tasks(with_labels(stimuli, useless))["label_overlap"].tolist() == [0.0]


def test_pictures_without_labels_have_no_overlap() -> None:
    tasks = assemble_tasks(make_stimuli("a", units=1, synthetic=True))
    assert tasks["label_overlap"].isna().all()
    assert set(tasks["label_query_max"]) == {""}


def test_a_group_that_repeats_among_references_counts_for_the_natural_condition_only() -> None:
    stimuli = make_stimuli("a", units=1, tasks=2, synthetic=True)
    spot = (stimuli["role"] == "reference") & (stimuli["task"] == 1) & (stimuli["position"] == 2)
    tasks = assemble_tasks(stimuli.assign(group_repeated=spot.to_numpy()))
    marked = tasks[tasks["group_repeated"]]
    assert list(zip(marked["condition"], marked["task"])) == [("natural", 1)]


def test_tasks_of_a_built_study_hold_exactly_the_pictures_of_its_stimuli(tiny_study: Study) -> None:
    stimuli = tiny_study.stimuli()
    tasks = assemble_tasks(stimuli)
    keys = [*UNIT_COLUMNS, "condition", "role", "side", "difficulty", "task", "position"]
    place = {
        key: p for *key, p in stimuli[[*keys, "picture"]].itertuples(index=False, name=None) for key in [tuple(key)]
    }
    for row in tasks.to_dict("records"):
        unit = tuple(row[name] for name in UNIT_COLUMNS)
        shared = -1 if row["condition"] == "synthetic" else row["task"]
        for side in SIDES:
            assert row[f"query_{side}"] == place[(*unit, "natural", "query", side, row["difficulty"], row["task"], 0)]
            for n, picture in enumerate(row[f"references_{side}"]):
                assert picture == place[(*unit, row["condition"], "reference", side, "", shared, n)]
    units = {"natural": 24, "synthetic": 6}
    own = tasks[tasks["model"] != PLANTED].drop_duplicates([*UNIT_COLUMNS, "condition"])
    assert own["condition"].value_counts().to_dict() == units


def test_a_presentation_shows_the_pictures_of_the_tasks_with_the_maximal_query_where_it_says() -> None:
    tasks = make_tasks({"a": 5, "b": 4}, tasks=3)
    trials, top = present(tasks, seed=5)
    for n, row in enumerate(tasks.to_dict("records")):
        upper, lower = (trials.pictures[place] for place in trials.queries[n])
        assert (upper, lower)[:: 1 if top[n] else -1] == (row["query_max"], row["query_min"])
        active = trials.query_activations[n][:: 1 if top[n] else -1]
        assert active.tolist() == [row["activation_query_max"], row["activation_query_min"]]
        for side, members in (("max", trials.references_max), ("min", trials.references_min)):
            assert [trials.pictures[place] for place in members[n]] == row[f"references_{side}"]
    assert trials.activations_max.tolist() == tasks["activations_max"].tolist()
    assert trials.activations_min.tolist() == tasks["activations_min"].tolist()


@pytest.mark.parametrize("references", ["both", "max", "min", "none"])
def test_sides_that_are_not_shown_are_not_in_the_presentation(references: str) -> None:
    trials, _ = present(make_tasks({"a": 5}), references=references)
    for side, members, active in (
        ("max", trials.references_max, trials.activations_max),
        ("min", trials.references_min, trials.activations_min),
    ):
        shown = references in ("both", side)
        assert ((members >= 0) == shown).all()
        assert (np.isfinite(active) == shown).all()


def test_the_maximal_query_is_on_top_in_half_of_the_trials() -> None:
    _, top = present(make_tasks({"a": 1000}, tasks=4), seed=1)
    assert abs(top.mean() - 0.5) < 4 * math.sqrt(0.25 / len(top))


def test_which_query_is_on_top_belongs_to_the_task_whoever_else_is_asked() -> None:
    tasks = make_tasks({"a": 20, "b": 20})
    everything = dict(zip(task_names(tasks), present(tasks, seed=3)[1]))
    part = tasks[tasks["model"] == "b"]
    assert all(everything[name] == top for name, top in zip(task_names(part), present(part, seed=3)[1]))


def test_another_seed_puts_other_queries_on_top() -> None:
    tasks = make_tasks({"a": 50})
    assert np.array_equal(present(tasks, seed=1)[1], present(tasks, seed=1)[1])
    assert not np.array_equal(present(tasks, seed=1)[1], present(tasks, seed=2)[1])


def test_the_numbers_of_pictures_do_not_tell_which_query_is_the_maximal_one() -> None:
    tasks = make_tasks({"a": 800}, tasks=4)
    # As in a study, pictures are named after their pixels: the name says nothing.
    generator = np.random.default_rng(0)
    for side in SIDES:
        tasks[f"query_{side}"] = [generator.bytes(8).hex() for _ in range(len(tasks))]
    trials, top = present(tasks, seed=2)
    smaller_number_is_on_top = trials.queries[:, 0] < trials.queries[:, 1]
    assert abs((smaller_number_is_on_top == top).mean() - 0.5) < 4 * math.sqrt(0.25 / len(top))


def test_labels_stand_beside_their_pictures() -> None:
    tasks = make_tasks({"a": 3})
    known = {tasks["query_max"][0]: "cat", tasks["references_min"][1][2]: "dog"}
    trials, _ = present(tasks, labels=known)
    found = {picture: label for picture, label in zip(trials.pictures, trials.labels) if label}
    assert found == known
