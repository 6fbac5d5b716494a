from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import schemas
from benchmark.errors import DocumentError
from benchmark.experiment import Experiment
from benchmark.study import Study
from benchmark.trials import LESS_OBVIOUS, SessionCell, check_units, lay_out_trials, make_cells, planned_sessions
from benchmark.units import PLANTED, UNIT_COLUMNS
from benchmark.workflow import check_sessions
from tests.hand_made import REFERENCES, SIDES, make_protocol, make_tasks

PAPER = {"resnet50": 84}


def cell_of(
    units: dict[str, int], protocol: str = "vimi1", seed: int = 1, tasks: int = 4, **session: object
) -> SessionCell:
    """Return the only cell of crossed sessions about so many units."""
    rules = make_protocol(protocol, **session)
    cells = make_cells(make_tasks(units, tasks), rules, seed, set(units))
    assert len(cells) == 1
    return cells[0]


@pytest.fixture(scope="module")
def paper_trials() -> pd.DataFrame:
    """The sessions of one model of 84 units with 20 tasks each, by the default protocol: 63 of them."""
    return lay_out_trials([cell_of(PAPER, tasks=20)])


def units_of(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(rows[UNIT_COLUMNS].itertuples(index=False, name=None))


def test_84_units_with_30_answers_each_take_63_sessions_of_40(paper_trials: pd.DataFrame) -> None:
    main = paper_trials[paper_trials["kind"] == "main"]
    assert paper_trials["session"].nunique() == 63
    assert set(main.groupby("session").size()) == {40}
    assert set(main.groupby(UNIT_COLUMNS).size()) == {30}


@pytest.mark.parametrize("protocol", ["vimi1", "imi2023"])
def test_a_session_is_five_practice_trials_and_then_forty_main_and_five_catch_trials(protocol: str) -> None:
    rows = pd.DataFrame(cell_of(PAPER, protocol).session(0))
    assert rows["trial_index"].tolist() == list(range(50))
    assert rows["kind"][:5].tolist() == ["practice"] * 5
    assert Counter(rows["kind"][5:]) == {"main": 40, "catch": 5}


def test_practice_is_four_obvious_planted_units_and_then_a_less_obvious_one(paper_trials: pd.DataFrame) -> None:
    for _, session in paper_trials[paper_trials["kind"] == "practice"].groupby("session"):
        units = units_of(session.sort_values("trial_index"))
        assert units[-1] == LESS_OBVIOUS
        assert len(set(units)) == 5
        assert {unit[0] for unit in units} == {PLANTED}


def test_catch_trials_are_obvious_planted_units_each_once_in_a_session(paper_trials: pd.DataFrame) -> None:
    for _, session in paper_trials[paper_trials["kind"] == "catch"].groupby("session"):
        units = units_of(session)
        assert len(set(units)) == 5
        assert LESS_OBVIOUS not in units
        assert {unit[0] for unit in units} == {PLANTED}


def test_no_catch_trial_repeats_a_practice_trial_of_its_session(paper_trials: pd.DataFrame) -> None:
    for _, session in paper_trials[paper_trials["kind"] != "main"].groupby("session"):
        assert not session.duplicated([*UNIT_COLUMNS, "condition", "task"]).any()


def test_catch_trials_are_interleaved_with_main_trials(paper_trials: pd.DataFrame) -> None:
    places = paper_trials.loc[paper_trials["kind"] == "catch", "trial_index"] - 5
    # Uniform over 45 places: the standard error of the mean place follows.
    error = math.sqrt((45**2 - 1) / 12 / len(places))
    assert abs(places.mean() - 22) < 4 * error
    counts = Counter(place // 15 for place in places)
    assert all(abs(counts[third] - len(places) / 3) < 4 * math.sqrt(len(places) * 2 / 9) for third in range(3))


def test_planted_units_are_never_main_trials_and_main_units_never_catch(paper_trials: pd.DataFrame) -> None:
    assert ((paper_trials["kind"] == "main") == (paper_trials["model"] != PLANTED)).all()


@given(
    units=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    main_trials=st.integers(1, 14),
    responses=st.integers(1, 7),
    tasks=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_units_never_repeat_in_a_session_and_are_asked_about_equally_often(
    units: list[int], main_trials: int, responses: int, tasks: int, seed: int
) -> None:
    models = {f"model{n}": count for n, count in enumerate(units)}
    total = sum(units)
    main_trials = min(main_trials, total)
    cell = cell_of(
        models, seed=seed, tasks=tasks, main_trials=main_trials, responses_per_unit=responses, catch_trials=2
    )
    assert cell.planned == math.ceil(total * responses / main_trials)
    asked: Counter[int] = Counter()
    turns: dict[int, list[int]] = defaultdict(list)
    for number in range(cell.planned + 3):
        session = cell.main_units(number)
        assert len({unit for unit, _ in session}) == main_trials
        for unit, turn in session:
            asked[unit] += 1
            turns[unit].append(turn)
        spread = [asked[unit] for unit in range(total)]
        # After every session, refills included, no unit is more than one answer ahead of another.
        assert max(spread) - min(spread) <= 1
        if number == cell.planned - 1:
            assert min(spread) >= responses
            assert max(spread) <= responses + 1
    assert all(seen == list(range(len(seen))) for seen in turns.values())


@given(
    extra=st.integers(0, 20),
    main_trials=st.integers(2, 15),
    share=st.sampled_from([0.1, 0.15, 0.25, 0.5]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_trials_without_references_have_their_share_of_each_session_and_are_spread_over_units(
    extra: int, main_trials: int, share: float, seed: int
) -> None:
    references = {"both": 1 - share, "none": share}
    cell = cell_of({"a": main_trials + extra}, seed=seed, main_trials=main_trials, references=references)
    shown: Counter[int] = Counter()
    for number in range(cell.planned):
        kinds = cell.reference_kinds(number)
        assert kinds.count("none") == math.ceil(round(share * main_trials, 9))
        assert kinds.count("both") == main_trials - kinds.count("none")
        shown.update(unit for (unit, _), kind in zip(cell.main_units(number), kinds) if kind == "none")
    counts = [shown[unit] for unit in range(len(cell.units))]
    mean = sum(counts) / len(counts)
    assert all(abs(count - mean) < 2 for count in counts)


def test_each_unit_has_a_tenth_of_its_trials_without_references_give_or_take_one(
    paper_trials: pd.DataFrame,
) -> None:
    main = paper_trials[paper_trials["kind"] == "main"]
    without = main[main["references"] == "none"]
    assert set(without.groupby("session").size()) == {4}
    counts = without.groupby(UNIT_COLUMNS).size()
    assert len(counts) == 84 and set(counts) <= {2, 3, 4}
    assert set(paper_trials.loc[paper_trials["kind"] != "main", "references"]) == {"both"}


def test_the_protocol_of_2023_always_shows_both_sides() -> None:
    cell = cell_of(PAPER, "imi2023")
    kinds = {row["references"] for number in range(4) for row in cell.session(number)}
    assert kinds == {"both"}


def test_all_kinds_of_references_get_their_shares() -> None:
    shares = {"both": 0.4, "max": 0.2, "min": 0.2, "none": 0.2}
    cell = cell_of({"a": 30}, main_trials=20, references=shares)
    assert all(
        Counter(cell.reference_kinds(number)) == {"both": 8, "max": 4, "min": 4, "none": 4} for number in range(6)
    )


def test_sessions_can_do_without_trials_that_show_both_sides() -> None:
    cell = cell_of({"a": 30}, main_trials=20, references={"max": 0.5, "min": 0.5})
    assert all(Counter(cell.reference_kinds(number)) == {"max": 10, "min": 10} for number in range(6))


def test_the_tasks_of_a_unit_take_turns(paper_trials: pd.DataFrame) -> None:
    main = paper_trials[paper_trials["kind"] == "main"]
    firsts = set()
    for _, own in main.sort_values(["session", "trial_index"]).groupby(UNIT_COLUMNS):
        numbers = own["task"].tolist()
        assert all(later == (earlier + 1) % 20 for earlier, later in pairwise(numbers))
        assert set(Counter(numbers).values()) == {1, 2}
        firsts.add(numbers[0])
    assert len(firsts) > 5


def test_the_maximal_query_is_on_top_in_half_of_the_trials_of_every_kind(paper_trials: pd.DataFrame) -> None:
    for _, rows in [*paper_trials.groupby("kind"), *paper_trials.groupby("references")]:
        share = (rows["query_top"] == "max").mean()
        assert abs(share - 0.5) < 4 * math.sqrt(0.25 / len(rows))


def test_side_is_drawn_for_each_trial_and_not_for_each_task(paper_trials: pd.DataFrame) -> None:
    repeated = paper_trials.groupby([*UNIT_COLUMNS, "condition", "task"])["query_top"].nunique()
    assert (repeated == 2).any()


def test_the_strongest_reference_comes_first_and_the_others_are_shuffled(paper_trials: pd.DataFrame) -> None:
    orders: Counter[tuple[int, ...]] = Counter()
    differ = 0
    for row in paper_trials.to_dict("records"):
        places = {side: [int(name.rpartition("/")[2]) for name in row[f"references_{side}"]] for side in SIDES}
        for order in places.values():
            assert order[0] == 0
            assert sorted(order) == list(range(REFERENCES))
            orders[tuple(order)] += 1
        differ += places["max"] != places["min"]
    total = sum(orders.values())
    assert len(orders) == math.factorial(REFERENCES - 1)
    assert all(abs(count - total / len(orders)) < 4 * math.sqrt(total / 4) for count in orders.values())
    assert abs(differ / len(paper_trials) - 0.5) < 4 * math.sqrt(0.25 / len(paper_trials))


def test_a_trial_shows_the_pictures_of_its_task(paper_trials: pd.DataFrame) -> None:
    for row in paper_trials.to_dict("records"):
        stem = "/".join(str(row[name]) for name in ("model", "layer", "index", "condition", "difficulty", "task"))
        for side in SIDES:
            assert row[f"query_{side}"] == f"{stem}/{side}/query"
            assert set(row[f"references_{side}"]) == {f"{stem}/{side}/{n}" for n in range(REFERENCES)}


def test_trials_have_distinct_names_and_the_columns_of_their_schema(paper_trials: pd.DataFrame) -> None:
    assert list(paper_trials.columns) == schemas.TRIALS.names
    assert paper_trials["trial"].is_unique
    for _, session in paper_trials.groupby("session", sort=False):
        assert session["trial_index"].tolist() == list(range(len(session)))


def test_crossed_sessions_ask_about_several_models_and_do_not_name_them() -> None:
    models = {"resnet50": 30, "vit_b32": 30, "convnext_b": 30}
    protocol = make_protocol("vimi1", main_trials=20, responses_per_unit=4)
    (cell,) = make_cells(make_tasks(models), protocol, 1, set(models))
    trials = lay_out_trials([cell])
    main = trials[trials["kind"] == "main"]
    assert set(main.groupby("session")["model"].nunique()) == {3}
    assert not any(model in name for name in trials["session"].unique() for model in models)
    assert set(main["model"].value_counts()) == {120}


def test_nested_sessions_ask_about_one_model_each() -> None:
    models = {"resnet50": 20, "vit_b32": 25}
    protocol = make_protocol("imi2023", main_trials=20, responses_per_unit=4)
    cells = make_cells(make_tasks(models), protocol, 1, set(models))
    assert [cell.name for cell in cells] == ["resnet50-natural-easy", "vit_b32-natural-easy"]
    trials = lay_out_trials(cells)
    main = trials[trials["kind"] == "main"]
    assert set(main.groupby("session")["model"].nunique()) == {1}
    assert main.groupby("model")["session"].nunique().to_dict() == {"resnet50": 4, "vit_b32": 5}


def test_conditions_and_difficulties_are_never_mixed_in_a_session() -> None:
    tasks = make_tasks({"a": 12}, conditions=("natural", "synthetic"), difficulties=("easy", "hard"))
    protocol = make_protocol(main_trials=10, responses_per_unit=3)
    trials = lay_out_trials(make_cells(tasks, protocol, 1, {"a"}))
    main = trials[trials["kind"] == "main"]
    assert len(main.groupby(["condition", "difficulty"])) == 4
    assert set(main.groupby("session")[["condition", "difficulty"]].nunique().to_numpy().ravel()) == {1}


def test_catch_and_practice_trials_have_the_condition_of_their_session() -> None:
    tasks = make_tasks({"a": 12}, conditions=("natural", "synthetic"))
    trials = lay_out_trials(make_cells(tasks, make_protocol(main_trials=10, responses_per_unit=3), 1, {"a"}))
    assert set(trials.groupby("session")["condition"].nunique()) == {1}
    assert set(trials[trials["kind"] == "catch"]["condition"]) == {"natural", "synthetic"}


def test_people_are_never_asked_about_twins() -> None:
    tasks = make_tasks({"a": 12, "a-twin": 12})
    trials = lay_out_trials(make_cells(tasks, make_protocol(main_trials=10, responses_per_unit=3), 1, {"a"}))
    assert set(trials["model"]) == {"a", PLANTED}


def test_people_are_never_asked_about_twins_in_a_built_study(tiny_study: Study) -> None:
    trials = tiny_study.trials()
    twins = {name for name, facts in tiny_study.manifest["models"].items() if facts["twin"]}
    assert twins and set(tiny_study.stimuli()["model"]) > twins
    assert set(trials["model"]) == set(tiny_study.manifest["models"]) - twins | {PLANTED}


def test_refill_slots_come_from_the_same_function_and_keep_the_rules() -> None:
    cell = cell_of({"a": 13, "b": 12}, main_trials=10, responses_per_unit=4, catch_trials=2)
    planned = lay_out_trials([cell])
    refills = schemas.TRIALS.conform(
        pd.DataFrame([row for number in range(cell.planned, cell.planned + 15) for row in cell.session(number)])
    )
    assert not set(refills["trial"]) & set(planned["trial"])
    together = pd.concat([planned, refills])
    for _, session in refills.groupby("session"):
        assert Counter(session["kind"]) == {"practice": 5, "main": 10, "catch": 2}
        main = session[session["kind"] == "main"]
        assert not main.duplicated(UNIT_COLUMNS).any()
        assert (main["references"] == "none").sum() == 1
    counts = together[together["kind"] == "main"].groupby(UNIT_COLUMNS).size()
    assert counts.max() - counts.min() <= 1
    numbers = together[together["kind"] == "main"].sort_values(["session", "trial_index"])
    for _, own in numbers.groupby(UNIT_COLUMNS):
        assert all(later == (earlier + 1) % 4 for earlier, later in pairwise(own["task"]))


def test_a_slot_is_the_same_whichever_slots_were_asked_for_before() -> None:
    cells = [cell_of({"a": 13}, main_trials=9, responses_per_unit=4) for _ in range(2)]
    forwards = [list(cells[0].session(number)) for number in range(12)]
    backwards = [list(cells[1].session(number)) for number in reversed(range(12))][::-1]
    assert forwards == backwards


def test_the_same_seed_lays_out_the_same_trials_and_another_seed_others() -> None:
    first, again, other = (lay_out_trials([cell_of({"a": 12}, seed=seed, main_trials=10)]) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    for column in ("index", "task", "query_top", "references", "kind"):
        assert first[column].tolist() != other[column].tolist()
    assert first["references_max"].tolist() != other["references_max"].tolist()


def test_too_few_units_are_an_error_that_says_what_to_set() -> None:
    with pytest.raises(DocumentError) as caught:
        cell_of({"a": 7}, main_trials=8)
    message = str(caught.value)
    assert "natural-easy has 7" in message
    assert "main_trials to at most 7" in message
    assert "add units or models" in message
    check_units("anything", 8, 8)


def test_nested_sessions_need_enough_units_of_each_model() -> None:
    models = {"a": 12, "b": 5}
    with pytest.raises(DocumentError, match="b-natural-easy has 5"):
        make_cells(make_tasks(models), make_protocol("imi2023", main_trials=10), 1, set(models))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": {"per_model": 4}}, "the natural condition has 8"),
        (
            {"stimuli": {"conditions": ["natural", "synthetic"]}, "visualization": {"units": 3}},
            "the synthetic condition has 6",
        ),
        ({"protocol": "imi2023", "units": {"per_model": 8}}, "the natural condition has 8"),
    ],
)
def test_too_few_units_are_found_before_anything_is_built(changes: dict[str, object], message: str) -> None:
    values: dict[str, object] = {
        "models": [{"card": "resnet50", "twin": True}, {"card": "vit_b32"}],
        "session": {"main_trials": 10},
        **changes,
    }
    with pytest.raises(DocumentError, match=message):
        check_sessions(Experiment.model_validate(values))


def test_sessions_are_planned_so_that_every_unit_gets_its_answers() -> None:
    assert planned_sessions(84, make_protocol("imi2023")) == 63
    assert planned_sessions(85, make_protocol("imi2023")) == 64


def test_practice_and_catch_trials_never_share_a_query() -> None:
    """Practice tells its answers: whoever met a query there would know a catch trial by it."""
    protocol = make_protocol(main_trials=10, catch_trials=5)
    tasks = make_tasks({"a": 12})
    [cell] = make_cells(tasks, protocol, 3, {"a"})
    practice = {row[side] for n in range(40) for row in cell.practice(n) for side in ("query_max", "query_min")}
    slots = [row for n in range(40) for row in cell.session(n)]
    catch = {row[side] for row in slots if row["kind"] == "catch" for side in ("query_max", "query_min")}
    practised = {row[side] for row in slots if row["kind"] == "practice" for side in ("query_max", "query_min")}
    assert practice and catch and not (practice | practised) & catch
