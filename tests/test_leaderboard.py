"""Result files, and the tables that are made of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from analysis.comparison.ranks import rank_models
from analysis.dataset import read_dataset
from analysis.exclusions import exclude, protocol_rules
from analysis.intervals import means
from analysis.judgement_table import judgements
from analysis.leaderboard.making import make_published_results, make_results
from analysis.leaderboard.result import Result, present_results, read_result, read_results, write_result
from analysis.leaderboard.scores import interval_of, score_result, spread_machine_counts
from analysis.leaderboard.standings import Leaderboard, Row, Standing, build_leaderboard
from analysis.machines.performance import unit_means
from analysis.proportions import estimate_proportions
from analysis.published import published_means
from benchmark.errors import DocumentError, LeaderboardError, NameNotFound
from benchmark.plumbing import PLUMBING
from benchmark.responses import machine_responses
from benchmark.simulation_settings import SimulationSettings
from benchmark.study import Study
from benchmark.workflow import leaderboard as jobs
from benchmark.workflow import observe_study, score_study, simulate
from benchmark.workflow.leaderboard import add_model, add_study, make_release, read_leaderboard
from tests.leaderboards import SEER, made_up_result

LITE = "features:efficientnet_lite0"


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Bootstraps of few resamples: how good intervals are is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(means, "RESAMPLES", 400)
        yield


@pytest.fixture(scope="module")
def answered(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study, with answers by machines and by simulated people."""
    folder = tmp_path_factory.mktemp("answered") / "study"
    shutil.copytree(tiny_study.root, folder)
    study = Study.open(folder)
    for observer in ("lowlevel", "label", LITE):
        observe_study(study, observer, references=("both", "none"))
    simulate(study, SimulationSettings(participants=16, seed=1, dropout=0.1))
    return study


@pytest.fixture(scope="module")
def results(answered: Study) -> dict[str, Result]:
    made = make_results(answered, database=f"sqlite:///{answered.root / 'simulation.sqlite'}")
    return {result.model.name: result for result in made}


@pytest.fixture(scope="module")
def trained(results: dict[str, Result]) -> Result:
    return next(result for name, result in results.items() if name.startswith("test_resnet"))


# ---------------------------------------------------------------- from a study to a file


def test_a_file_gives_the_very_scores_of_the_study(answered: Study, trained: Result) -> None:
    own = [score for score in score_study(answered) if score.model == trained.model.name]
    assert len(own) >= 6
    for score in own:
        for quantity in ("score", "mis", "low_level", "excess", "twin", "trained_minus_twin"):
            estimate = getattr(score, quantity)
            found = [
                other.estimate
                for other in trained.scores
                if (other.quantity, other.condition, other.references, other.observer)
                == (quantity, score.condition, score.references, score.observer)
            ]
            # A mean probability's last digit decides between resamples that are equal to it.
            tolerance = 1e-3 if quantity == "mis" else 1e-9
            expected = [pytest.approx(estimate.as_dict(), abs=tolerance)] if estimate else []
            assert [e.as_dict() for e in found] == expected


def test_counts_spread_out_again_are_the_answers_of_each_unit(answered: Study, trained: Result) -> None:
    before = machine_responses(answered)
    after = spread_machine_counts(trained)
    keys = ["model", "condition", "references", "observer"]
    compared = 0
    for key, part in after.groupby(keys):
        own = before[(before[keys] == list(key)).all(axis=1) & (before["kind"] == "main")]
        assert len(own) == len(part)
        for value in ("correct", "probability"):
            if part[value].notna().all():
                left, right = unit_means(own, value), unit_means(part, value)
                np.testing.assert_allclose(left.loc[right.index].astype(float), right.astype(float), atol=1e-8)
        compared += 1
    assert compared >= 10
    assert after["model"].str.endswith("-twin").any()


def test_peoples_scores_are_those_of_the_analysis(answered: Study, trained: Result) -> None:
    dataset = read_dataset(answered, f"sqlite:///{answered.root / 'simulation.sqlite'}")
    counted = exclude(dataset.responses, dataset.sessions, protocol_rules(answered.protocol)).responses
    table = judgements(counted, references=None)
    flags = answered.statistics()
    assert not (flags["used"] & (flags["flag"] != "")).any()
    expected = estimate_proportions(table, by=("model", "condition", "difficulty", "references"))
    cells = [cell for cell in expected if cell.names["model"] == trained.model.name]
    assert len(cells) >= 3
    for cell in cells:
        (found,) = [
            score.estimate
            for score in trained.scores
            if (score.quantity, score.observer_kind) == ("score", "simulated")
            and (score.condition, score.references) == (cell.names["condition"], cell.names["references"])
        ]
        assert (found.value, found.n) == (pytest.approx(cell.estimate.value), cell.estimate.n)
        # People have other names in a file, drawn anew in every study, and ends may hang on their order.
        assert (found.low, found.high) == pytest.approx((cell.estimate.low, cell.estimate.high), abs=0.03)


def test_nobody_is_to_be_known_from_a_file(answered: Study, trained: Result) -> None:
    dataset = read_dataset(answered, f"sqlite:///{answered.root / 'simulation.sqlite'}")
    people = dataset.responses.loc[dataset.responses["observer_kind"] == "simulated", ["observer", "session"]]
    text = json.dumps(trained.content)
    assert len(people) and not any(name in text for column in people for name in people[column].unique())


def test_a_model_shown_the_same_has_the_same_stimuli_in_any_study(trained: Result, results: dict[str, Result]) -> None:
    other = next(result for result in results.values() if result is not trained)
    assert {facts.condition for facts in trained.stimuli} == {"natural", "synthetic"}
    hashes = [facts.hash for result in (trained, other) for facts in result.stimuli]
    assert len(set(hashes)) == 4


def test_a_study_that_nobody_answered_has_no_results(tiny_study: Study) -> None:
    with pytest.raises(LeaderboardError, match=r"There are no answers about test_resnet.*vimi observe"):
        make_results(tiny_study, people=False)


# ---------------------------------------------------------------- files


def test_a_file_is_written_once_and_reads_as_it_was(trained: Result, tmp_path: Path) -> None:
    path = write_result(trained, tmp_path)
    assert path.relative_to(tmp_path).parts[:-1] == (
        trained.model.name, trained.model.weights[:12], trained.protocol.identity
    )  # fmt: skip
    back = read_result(path)
    assert back == trained and back.is_sealed and back.place == path.relative_to(tmp_path)
    before = path.stat().st_mtime_ns
    assert write_result(trained, tmp_path) == path and path.stat().st_mtime_ns == before
    path.write_text(path.read_text().replace('"title": "test', '"title": "best'))
    with pytest.raises(LeaderboardError, match="never changes"):
        write_result(trained, tmp_path)


def test_a_file_that_was_changed_makes_no_table(tmp_path: Path) -> None:
    path = write_result(made_up_result("model"), tmp_path)
    path.write_text(path.read_text().replace('"title": "model"', '"title": "modes"'))
    assert read_result(path).model.title == "modes"
    with pytest.raises(LeaderboardError, match="changed after it was written"):
        read_results(tmp_path)


@pytest.mark.parametrize("name", ["../../escape", "a/b", ".hidden", "..", "<script>", "x" * 200])
def test_no_name_leaves_the_folder(name: str) -> None:
    place = (
        made_up_result("model")
        .model_copy(update={"model": made_up_result("model").model.model_copy(update={"name": name})})
        .place
    )
    assert len(place.parts) == 4 and ".." not in place.parts and not place.parts[0].startswith(".")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(extra=1), "unknown key"),
        (lambda v: v.update(format=9), "format 9"),
        (lambda v: v["machines"][0].update(right=v["machines"][0]["right"][:-1]), "one number per unit"),
        (lambda v: v["machines"][0].update(answered=[0] * 84), "more right answers than answers"),
        (lambda v: v["machines"].append(v["machines"][0]), "appears twice"),
        (lambda v: v["scores"][0].update(low=0.99999, high=1.0), "within its interval"),
        (lambda v: v["scores"][0].update(value="nan"), "within its interval"),
        (lambda v: v["people"][0]["unit"].__setitem__(0, 84), "does not have"),
        (lambda v: v["people"][0]["person"].__setitem__(0, 30), "not among the people"),
        (lambda v: v.pop("made"), "required"),
    ],
)
def test_a_file_that_breaks_the_layout_is_refused(
    change: Callable[[dict[str, object]], object], words: str, tmp_path: Path
) -> None:
    values = {**made_up_result("model", people={"study": 0.8}).content, "hash": "0"}
    change(values)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(values))
    with pytest.raises(LeaderboardError, match=words):
        read_result(path)


def test_what_is_no_result_file_says_so(tmp_path: Path) -> None:
    for name, text in (("empty.json", ""), ("list.json", "[1]"), ("deep.json", "[" * 100_000)):
        (tmp_path / name).write_text(text)
        with pytest.raises(LeaderboardError, match=name):
            read_result(tmp_path / name)
    with pytest.raises(LeaderboardError, match="no folder"):
        read_results(tmp_path / "nothing")


# ---------------------------------------------------------------- tables


def only(board: Leaderboard) -> tuple[Row, ...]:
    (table,) = board.tables
    return table.rows


def standing(row: Row, observer: str = SEER) -> Standing:
    found = [own for own in row.standings if own.observer == observer]
    assert len(found) == 1
    return found[0]


def test_machines_are_ranked_by_their_excess_and_not_by_their_score() -> None:
    high_score = made_up_result("high-score", score=0.95, low_level=0.93)
    high_excess = made_up_result("high-excess", score=0.85, low_level=0.6)
    rows = only(build_leaderboard([high_score, high_excess]))
    assert [row.name for row in rows] == ["high-excess", "high-score"]
    first, second = map(standing, rows)
    assert first.rank and second.rank and (first.rank.value, first.rank.high) == (1, 1) and second.rank.value == 2
    assert first.quantity == "excess" and first.score.value < second.score.value
    assert first.groups != second.groups


def test_answers_over_a_part_of_the_pool_are_no_answers_of_the_row() -> None:
    whole = made_up_result("model", followed=False)
    part = whole.machines[0].model_copy(
        update={"pool_size": 25_000, "protocol": "vimi1+12345678", "right": (0,) * 84, "answered": (10,) * 84}
    )
    both = whole.model_copy(update={"machines": (part, *whole.machines)}).sealed()
    rows = only(build_leaderboard([both, made_up_result("other")]))
    own = standing(next(row for row in rows if row.name == "model"))
    assert own.answers == 20 * 84 and own.rank is not None


def test_models_that_are_not_told_apart_share_a_group() -> None:
    rows = only(build_leaderboard([made_up_result("one", seed=100), made_up_result("other", seed=1000)]))
    assert {standing(row).groups for row in rows} == {"a"}
    assert {(standing(row).rank.low, standing(row).rank.high) for row in rows} == {(1, 2)}  # type: ignore[union-attr]


def test_people_are_ranked_by_themselves_and_crossed_people_are_known_again() -> None:
    made = [
        made_up_result("one", people={"study": 0.9}),
        made_up_result("two", people={"study": 0.7}),
        made_up_result("three", people={"study": 0.8}),
    ]
    rows = only(build_leaderboard(made))
    assert [row.name for row in rows] == ["one", "three", "two"]
    found = [standing(row, "people") for row in rows]
    assert [own.rank.value for own in found if own.rank] == [1, 2, 3]
    assert found[0].rank and found[0].rank.high == 1
    from analysis.leaderboard.scores import counted_judgements

    table = counted_judgements(made)
    assert table["participant"].nunique() == 30  # and not thirty a model
    expected = {own.model: own.rank.as_dict() for own in rank_models(table, condition="natural")}
    assert {row.name: standing(row, "people").rank.as_dict() for row in rows} == expected  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"related": True}, "relative"),
        ({"low_level": None}, "low-level observer has not answered"),
        ({"twin": None}, "its random-weight twin has no score"),
        ({"units": 60}, "60 of 84 units"),
        ({"followed": False}, "score over smaller pools was not measured"),
        ({"kind": "untrained"}, "random weights"),
        ({"notes": [PLUMBING]}, PLUMBING),
    ],
)
def test_a_row_that_lacks_something_is_shown_unranked_with_what_it_lacks(
    changes: dict[str, object], reason: str
) -> None:
    lacking = made_up_result("lacking", score=0.99, **changes)  # type: ignore[arg-type]
    rows = only(build_leaderboard([lacking, made_up_result("one"), made_up_result("two")]))
    own = standing(next(row for row in rows if row.name == "lacking"))
    assert own.rank is None and not own.groups and any(reason in missing for missing in own.missing)
    others = [standing(row) for row in rows if row.name != "lacking"]
    assert {other.rank.high for other in others if other.rank} == {2}  # it takes no place from them


def test_people_need_enough_judgements_of_every_unit() -> None:
    few = made_up_result("few", people={"study": 0.9}, answers_per_unit=12)
    rows = only(build_leaderboard([few, made_up_result("one", people={"study": 0.9})]))
    own = standing(next(row for row in rows if row.name == "few"), "people")
    assert own.rank is None and own.answers == 12 * 84 and own.missing == ("12 of 27 judgements a unit at least",)
    other = standing(next(row for row in rows if row.name == "one"), "people")
    assert other.missing == ("no other model to rank it against",)
    simulated = made_up_result("bots", people={"study": 0.9}, people_kind="simulated")
    assert "simulated people" in standing(only(build_leaderboard([simulated]))[0], "people").missing


def test_flagged_units_are_no_part_of_a_score_and_keep_no_model_from_its_rank() -> None:
    flagged = made_up_result("flagged", flags={3: "dead"})
    rows = only(build_leaderboard([flagged, made_up_result("one")]))
    own = standing(next(row for row in rows if row.name == "flagged"))
    assert own.rank is not None and own.units == 83
    judged = made_up_result("judged", flags={3: "dead"}, people={"study": 0.9})
    rows = only(build_leaderboard([judged, made_up_result("one", people={"study": 0.8})]))
    own = standing(next(row for row in rows if row.name == "judged"), "people")
    assert own.rank is not None and own.units == 83


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flags": dict.fromkeys(range(43), "dead")}, "less than half of its units count"),
        ({"flags": dict.fromkeys(range(83), "dead")}, "less than half of its units count"),
        ({"flags": dict.fromkeys(range(84), "dead")}, ""),
        ({"score": 1.0, "low_level": 0.0}, "all units have the same score"),
    ],
)
def test_what_can_not_be_ranked_takes_no_rank_from_others(changes: dict[str, object], reason: str) -> None:
    odd = [made_up_result(name, people={"study": 0.9}, **changes) for name in ("odd", "even")]  # type: ignore[arg-type]
    rows = only(build_leaderboard([*odd, made_up_result("one"), made_up_result("two")]))
    ranked = {row.name for row in rows if (own := row.standing("machine", SEER)) and own.rank}
    assert ranked == {"one", "two"}
    found = [own for row in rows if row.name in ("odd", "even") and (own := row.standing("machine", SEER))]
    assert len(found) == (2 if reason else 0)
    assert all(any(reason in words for words in own.missing) for own in found)


def test_a_twin_in_which_few_units_count_is_no_control() -> None:
    made = made_up_result("quiet")
    units = tuple(unit.model_copy(update={"twin_flag": "constant" if n else ""}) for n, unit in enumerate(made.units))
    quiet = made.model_copy(update={"units": units})
    quiet = quiet.model_copy(update={"scores": score_result(quiet)}).sealed()
    rows = only(build_leaderboard([quiet, made_up_result("one"), made_up_result("two")]))
    own = standing(next(row for row in rows if row.name == "quiet"))
    assert own.rank is None and own.missing == ("less than half of its units count in the random-weight twin",)


def test_results_that_may_not_be_compared_never_share_a_table() -> None:
    made = [
        made_up_result("a"),
        made_up_result("b", identity="imi2023"),
        made_up_result("c", identity="vimi1+12345678"),
        made_up_result("d", pool="other photographs"),
        made_up_result("e", condition="synthetic", method={"preset": "fast", "canvas": 64, "steps": 60}),
        made_up_result("f", condition="synthetic", method={"preset": "fast", "canvas": 224, "steps": 504}),
    ]
    for name, canvas, said in (("g", 64, {}), ("h", "model", {}), ("i", 64, {"shown": "pixels"})):
        method = {"preset": "fast", "canvas": canvas, "steps": 60, "version": 2, "shown": "smooth", **said}
        made.append(made_up_result(name, condition="synthetic", method=method))
    board = build_leaderboard(made)
    assert sorted(tuple(row.name for row in table.rows) for table in board) == [(name,) for name in "abcdefghi"]
    keys = ["protocol", "pool_identity", "condition", "difficulty", "method"]
    assert len(board.frame()[keys].drop_duplicates()) == 9
    assert {row.name for table in build_leaderboard(made, protocol="vimi1") for row in table.rows} == set("acdefghi")
    assert {row.name for table in build_leaderboard(made, protocol="imi2023") for row in table.rows} == {"b"}


def test_filters_keep_the_ranks_among_all() -> None:
    made = [made_up_result("good", score=0.95), made_up_result("worse", score=0.8, family="second")]
    (row,) = only(build_leaderboard(made, family="second"))
    assert row.name == "worse" and standing(row).rank.value == 2  # type: ignore[union-attr]
    for words in ({"family": "secnod"}, {"observer": "features:ser"}, {"model": "worst"}, {"condition": "naturel"}):
        with pytest.raises(NameNotFound, match="Did you mean"):
            build_leaderboard(made, **words)  # type: ignore[arg-type]


def test_an_own_model_is_shown_by_the_address_that_added_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownnets.py").write_text(
        "def plain():\n    raise RuntimeError('not to be made')\ndef told():\n    pass\ntold.card = {'name': 'mine'}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = [made_up_result(name) for name in ("ownnets.plain", "mine", "other")]
    monkeypatch.setattr("analysis.leaderboard.result.read_results", lambda *folders: made)
    for address, name in {"ownnets:plain": "ownnets.plain", "ownnets:told": "mine", "other": "other"}.items():
        assert [row.name for table in read_leaderboard(model=address) for row in table.rows] == [name]
    with pytest.raises(NameNotFound):
        read_leaderboard(model="ownnets:tolt")


def test_people_and_machines_of_two_files_join_one_row() -> None:
    whole = made_up_result("model", people={"study": 0.8})
    machines = whole.model_copy(update={"people": (), "scores": tuple(s for s in whole.scores if s.observer == SEER)})
    people = whole.model_copy(
        update={"machines": (), "scores": tuple(s for s in whole.scores if s.observer == "people")}
    )
    (row,) = only(build_leaderboard([machines.sealed(), people.sealed()]))
    assert [own.observer for own in row.standings] == ["people", SEER] and len(row.results) == 2


def test_people_of_two_studies_are_scored_together() -> None:
    first = made_up_result("model", people={"first": 0.9}, answers_per_unit=20)
    second = made_up_result("model", people={"second": 0.7}, answers_per_unit=10, seed=5)
    second = second.model_copy(
        update={"machines": (), "scores": tuple(s for s in second.scores if s.observer == "people")}
    )
    (row,) = only(build_leaderboard([first, second.sealed()]))
    own = standing(row, "people")
    right = sum(sum(counts.right) for result in row.results for counts in result.people)
    assert own.answers == 30 * 84 and own.score.value == pytest.approx(right / (30 * 84))


def test_files_that_contradict_each_other_are_refused_and_replaced_ones_are_not_read() -> None:
    old, new = made_up_result("model", seed=1), made_up_result("model", seed=2)
    with pytest.raises(LeaderboardError, match="different counts of model/natural/easy/both/features:seer"):
        build_leaderboard([old, new])
    units = (old.units[0].model_copy(update={"flag": "dead"}), *old.units[1:])
    with pytest.raises(LeaderboardError, match="differ in their units or flags"):
        build_leaderboard([old, old.model_copy(update={"units": units}).sealed()])
    newer = new.model_copy(update={"replaces": (old.hash,)}).sealed()
    assert present_results([old, newer]) == [newer]
    assert len(only(build_leaderboard([old, newer]))) == 1


def test_the_published_means_stand_under_their_own_protocol_with_their_source() -> None:
    board = build_leaderboard([*make_published_results(), made_up_result("mine", people={"study": 0.9})])
    published = [table for table in board if table.protocol.identity == "imi2023"]
    assert {table.condition: len(table.rows) for table in published} == {"natural": 9, "synthetic": 7}
    means = published_means().set_index(["model", "condition"])
    for table in published:
        for row in table.rows:
            (own,) = row.standings
            assert own.score.value == means.loc[(row.name, table.condition), "value"] and own.answers == 2520
            assert own.rank is not None and own.observer_kind == "published"
            assert row.results[0].source.startswith("Zimmermann") and not row.results[0].machines


# ---------------------------------------------------------------- the panel


def checks(result: Result, name: str) -> list[tuple[str, str]]:
    (row,) = only(build_leaderboard([result]))
    return [(check.verdict, check.sentence) for check in row.checks if check.name == name]


def test_a_network_with_random_weights_does_not_pass_for_an_understood_one() -> None:
    (told,) = checks(made_up_result("good", twin=0.6), "random twin")
    assert told[0] == "holds" and "better than its random-weight twin" in told[1]
    (same,) = checks(made_up_result("same", twin=0.9), "random twin")
    assert same[0] == "warns" and "is indistinguishable from its random-weight twin" in same[1]
    (worse,) = checks(made_up_result("worse", twin=0.99), "random twin")
    assert worse[0] == "warns" and "worse than" in worse[1]
    told_apart = made_up_result("good", twin=0.6), made_up_result("same", twin=0.9), made_up_result("worse", twin=0.99)
    (section,) = build_leaderboard(told_apart).tables[0].sections
    beside = dict(zip(section.column("model").cells, section.column("trained - twin").cells))
    assert beside["good"].endswith("]")
    assert beside["same"].endswith(", like random") and beside["worse"].endswith(", worse than random")
    (none,) = checks(made_up_result("none", twin=None), "random twin")
    assert none[0] == "unknown"


def test_the_panel_says_what_was_found_and_what_was_not_looked_at(trained: Result) -> None:
    names = [check.name for check in build_leaderboard([trained]).tables[0].rows[0].checks]
    assert {"random twin", "low-level observer", "labels", "no references", "pool size", "pool", "training", "ties",
            "dead units", "visualisations"} <= {*names, "visualisations"}  # fmt: skip
    assert checks(made_up_result("low", score=0.7), "low-level observer")[0][0] == "warns"
    assert checks(made_up_result("mine"), "no references")[0][0] == "unknown"
    assert checks(made_up_result("mine", flags={0: "silent"}), "dead units")[0][1].startswith("1 silent of 84")
    (plumbing,) = checks(made_up_result("crops", notes=[PLUMBING]), "pool")
    assert plumbing[0] == "fails" and "not a measurement" in plumbing[1]


# ---------------------------------------------------------------- adding


RELEASE = """
name = "tiny"
observers = ["lowlevel", "label", "features:efficientnet_lite0"]
smallest_pool_share = 0.5
[experiment]
units = { per_model = 6 }
stimuli = { conditions = ["natural", "synthetic"], references = 3, tasks = 3 }
visualization = { canvas = 32, steps = 8, units = 2, twins = true }
session = { main_trials = 2, responses_per_unit = 4 }
"""


@pytest.fixture
def release(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(RELEASE)
    return str(path)


def test_adding_goes_on_where_it_failed_and_adds_nothing_twice(
    release: str, labelled_folder: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "leaderboard"

    def add() -> jobs.Addition:
        return add_model(
            "timm:test_resnet", weights=str(checkpoint), training_data=("stripes",), training_images=60,
            pool=f"imagenet:{labelled_folder}", release=release, workspace=workspace,
        )  # fmt: skip

    with monkeypatch.context() as patched:

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("a network fell over\nand more")

        patched.setattr(jobs, "observe_study_together", fail)
        with pytest.raises(LeaderboardError, match=r"3 of 5, observe, failed\. RuntimeError: a network fell over"):
            add()
    assert "Traceback" in (workspace / "failure.log").read_text()
    built = [path for path in workspace.rglob("manifest.json") if "pool_sizes" not in path.parts]
    assert len(built) == 1
    stamp = (built[0].parent / "trials.parquet").stat().st_mtime_ns
    first = add()
    assert first.new and (built[0].parent / "trials.parquet").stat().st_mtime_ns == stamp
    again = add()
    assert not again.new and again.paths == first.paths and len(list((workspace / "results").rglob("*.json"))) == 1
    (result,) = read_results(workspace / "results")
    observers = {(counts.observer, counts.subject) for counts in result.machines}
    assert observers == {(name, who) for name in ("lowlevel", "label", LITE) for who in ("model", "twin")}
    assert {counts.references for counts in result.machines} == {"both", "none"}
    assert {counts.pool_size for counts in result.machines} == {60, 30}
    assert any(s.quantity == "trained_minus_twin" and s.condition == "synthetic" for s in result.scores)
    study = Study.open(first.study)
    other = add_study(study, workspace=workspace)
    assert not other.new and other.paths == first.paths


def test_what_is_wrong_with_a_model_is_said_before_anything_is_built(release: str, tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match=r"stage 1 of 5, check, failed[\s\S]*trained on"):
        _add_without_training(release, tmp_path)
    assert not (tmp_path / "w" / "studies").exists()
    with pytest.raises(DocumentError, match="a release has no models"):
        (tmp_path / "bad.toml").write_text('name = "bad"\nobservers = []\n[experiment]\nmodels = []\n')
        add_model("efficientnet_lite0", release=str(tmp_path / "bad.toml"), workspace=tmp_path / "w")
    with pytest.raises(NameNotFound, match="natural"):
        add_model("efficientnet_lite0", conditions=("naturel",), release=release, workspace=tmp_path / "w")


def _add_without_training(release: str, tmp_path: Path) -> None:
    from benchmark.model_sources import load_card
    from benchmark.model_zoo import build_untrained

    network = build_untrained(load_card("timm:test_resnet"), 3)
    add_model(network, name="mine", release=release, workspace=tmp_path / "w")


def test_a_release_leaves_out_what_is_not_on_the_machine_and_one_failure_stops_nobody(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def add(name: str, **_: object) -> jobs.Addition:
        asked.append(name)
        if name.endswith("0"):
            raise LeaderboardError("it fell over")
        return jobs.Addition(name, (), tmp_path, True)

    monkeypatch.setattr(jobs, "add_model", add)
    outcome = make_release(release=release, workspace=tmp_path)
    assert asked == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    assert outcome.failed == {"efficientnet_lite0": "it fell over"} and len(outcome.added) == 2
    assert len(outcome.skipped) == 9 and all("not on this machine" in reason for reason in outcome.skipped.values())


def test_the_released_results_are_read_where_nothing_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    released = read_leaderboard()
    write_result(made_up_result("mine"), tmp_path / "leaderboard" / "results")
    assert len(read_leaderboard().results) == len(released.results) + 1
    assert {result.model.name for result in read_leaderboard(["leaderboard/results"]).results} == {"mine"}


def test_rows_of_a_table_have_intervals_of_one_method_and_say_where_files_have_older_ones(tmp_path: Path) -> None:
    """Files made before machine intervals were changed hold BCa intervals: they are not put beside today's."""
    older, newer = made_up_result("older", score=0.9, low_level=0.7), made_up_result("newer", score=0.8, low_level=0.7)
    older = older.model_copy(update={"scores": score_result(older, interval="bca"), "hash": ""}).sealed()
    path = write_result(older, tmp_path)
    board = build_leaderboard([older, newer])
    section = board.tables[0].sections[0]
    assert {own.headline.method for own in section.standings} == {means.STUDENT}
    assert {own.score.method for own in section.standings} == {means.STUDENT}
    assert means.STUDENT in section.what and "recomputed from the files' counts for older" in section.what
    today = {score.key: score for score in score_result(older)}
    row = next(row for row in board.tables[0].rows if row.name == "older")
    shown = row.standings[0].headline
    assert any(shown == score.estimate for score in today.values() if score.quantity == "excess")
    assert row.results == (older,), "The file is shown as it is."
    assert read_result(path).scores == older.scores == score_result(older, interval=interval_of(older))
    assert means.BCA in path.read_text("utf-8"), "Older files keep their intervals, and are verified by these."
    alone = build_leaderboard([newer]).tables[0].sections[0].what
    assert "computed from" not in alone and means.STUDENT in alone


def test_the_released_rows_are_shown_with_todays_intervals() -> None:
    for table in read_leaderboard(["released"]):
        for section in table.sections:
            methods = {own.headline.method for own in section.standings}
            assert methods == ({means.STUDENT} if section.kind == "machine" else methods) and len(methods) == 1
            assert next(iter(methods)) in section.what


@pytest.mark.parametrize(
    ("name", "words"),
    [("resnet50", "trained on imagenet-1k as it was"), ("clip_vit_b32", "")],
)
def test_who_is_a_relative_of_every_observer_is_told_before_the_build(name: str, words: str) -> None:
    """Nobody should learn after hours that a model gets no rank."""
    from benchmark.model_sources import load_card
    from benchmark.release import load_release
    from benchmark.workflow.leaderboard import kinship_notice

    notice = kinship_notice(load_card(name), load_release("vimi1"))
    assert bool(notice) == bool(words) and words in notice
