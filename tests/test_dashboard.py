"""The experimenter's numbers: what was put in comes out, and means stay in."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from analysis.judgement_table import judgements
from analysis.power import sessions_until
from analysis.power.forecast import look_out, more_sessions
from analysis.variance_components import split_variance
from benchmark.database import answers, sessions
from benchmark.responses import read_responses
from benchmark.study import Study
from tests.answered import answer_one, fallible, right_queries, take_part
from tests.hosted import Clock, host, make_hosted_study, walk_to_practice
from webapp import dashboard
from webapp.hosting import Hosting
from webapp.participation import Device, add_evidence, arrive, check_device, decline
from webapp.store import report_problem

KIND: dashboard.Kind = "simulated"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_hosted_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def hosting(study: Study, tmp_path: Path) -> Hosting:
    return host(study, f"sqlite:///{tmp_path / 'people.sqlite'}")


def with_settings(hosting: Hosting, **changes: Any) -> None:
    """Change settings of hosting without building another study."""
    experiment = hosting.study.experiment
    hosting.study.experiment = experiment.model_copy(
        update={"hosting": experiment.hosting.model_copy(update=changes)}
    )  # fmt: skip


def fill(hosting: Hosting, seed: int = 0) -> None:
    """Fill every planned slot."""
    for number in range(100):
        if dashboard.is_complete(hosting, KIND):
            return
        take_part(hosting, fallible(seed + number, 0.9))
    raise AssertionError("The slots do not fill.")


def test_an_empty_study_has_numbers_too(hosting: Hosting) -> None:
    found = dashboard.recruitment(hosting)
    assert (found.arrived, found.finished, found.completion) == (0, 0, None)
    assert len(dashboard.last_seen(hosting)) == 0
    assert dashboard.quality(hosting).catch is None
    assert dashboard.reaction_times(hosting).quantiles == {}
    assert len(dashboard.found_problems(hosting).latest) == 0
    assert set(dashboard.coverage(hosting)["answers"]) == {0}
    assert all(found.outlook is None and found.mean is None for found in dashboard.precision(hosting))
    money = dashboard.cost(hosting)
    assert money.so_far == 0 and math.isinf(money.expected.high)
    assert dashboard.kinds_present(hosting) == ["human"]


def test_recruitment_says_where_people_are_and_where_they_left(hosting: Hosting) -> None:
    assert isinstance(hosting.clock, Clock)
    take_part(hosting)
    walk_to_practice(hosting)
    hosting.clock.pass_by(hosting.resume_seconds + 1)
    walk_to_practice(hosting)
    newcomer = arrive(hosting, None, kind="simulated").participant
    assert newcomer is not None
    check_device(hosting, newcomer.token, Device(1280, 800))
    decline(hosting, newcomer.token)
    found = dashboard.recruitment(hosting, KIND)
    assert (found.arrived, found.at_work, found.silent, found.finished) == (4, 1, 1, 1)
    assert dict(zip(found.outcomes["outcome"], found.outcomes["people"])) == {"complete": 1, "no consent": 1}
    assert found.steps["reached"].tolist() == [4, 3, 3, 1, 1, 1]
    assert found.phases.to_dict("records") == [{"phase": "practice", "at work": 1, "silent": 1}]
    assert found.completion is not None and found.completion.n == 3
    seen = dashboard.last_seen(hosting, KIND)
    assert seen["phase"].tolist() == ["practice"] and seen["seconds since"].iloc[0] == 0
    assert dashboard.recruitment(hosting, "human").arrived == 0, "Simulated people stand apart."
    assert dashboard.kinds_present(hosting) == ["human", "simulated"]


def test_everyone_who_finished_is_paid_excluded_or_not(hosting: Hosting) -> None:
    take_part(hosting)
    take_part(hosting, seconds=0.5)  # too quick to be usable
    money = dashboard.cost(hosting, KIND)
    planned = sum(plan.planned for plan in hosting.layout.cells.values())
    assert money.paid_people == 2 and money.so_far == pytest.approx(2 * hosting.payment_usd)
    assert money.missing == planned - 1
    assert money.usable is not None and money.usable.value == 0.5
    assert money.expected.value > money.so_far + money.missing * money.each
    quality = dashboard.quality(hosting, KIND)
    rules = quality.rules.set_index("rule")
    assert rules.loc["total time", "fail only this"] == 1 and rules.loc["catch", "fail"] == 0
    assert quality.catch is not None and quality.catch.value == 1 and quality.catch.n == 2
    assert quality.practice is not None and quality.practice.value == 1
    assert quality.visible is not None and quality.visible.value == 1


def test_failing_the_practice_is_counted(hosting: Hosting) -> None:
    participant = walk_to_practice(hosting)
    known = right_queries(hosting)
    while answer_one(hosting, participant.token, False, known) is not None:
        pass
    quality = dashboard.quality(hosting, KIND)
    assert quality.practice is not None and quality.practice.value == 0 and quality.practice.n == 1
    assert dashboard.cost(hosting, KIND).so_far == 0


def test_coverage_counts_usable_answers_only(hosting: Hosting) -> None:
    take_part(hosting)
    take_part(hosting, seconds=0.5)
    take_part(hosting, most=3)
    table = dashboard.coverage(hosting, KIND)
    assert table["answers"].sum() == hosting.rules.main_trials
    assert len(table) == 12 and table.groupby("model")["position"].max().tolist() == [6, 6]
    summary = dashboard.summarize_coverage(table)
    assert summary["of"].tolist() == [18, 18] and summary["fewest"].min() == 0


def test_a_full_study_covers_every_unit_alike_and_only_then_shows_means(hosting: Hosting) -> None:
    take_part(hosting, fallible(100))
    take_part(hosting, fallible(101))
    early = dashboard.precision(hosting, KIND)
    assert all(found.mean is None and found.at_any_time is None for found in early)
    fill(hosting)
    table = dashboard.coverage(hosting, KIND)
    assert (table["answers"] >= table["target"]).all()
    assert table["answers"].max() - table["answers"].min() <= 1
    late = dashboard.precision(hosting, KIND)
    assert all(found.mean is not None or found.outlook is None for found in late)
    assert any(found.mean is not None for found in late)
    assert all(found.mean is None for found in dashboard.precision(hosting, "human"))
    assert all(state.usable == state.slots for state in dashboard.slots(hosting))


def test_nothing_but_precision_ever_holds_a_mean(hosting: Hosting) -> None:
    """Two studies whose people differ only in how often they are right give the same numbers, widths aside."""
    for number in range(3):
        take_part(hosting, fallible(number, 0.9))
    before = [
        dashboard.recruitment(hosting, KIND).steps, dashboard.coverage(hosting, KIND), dashboard.slots(hosting),
        dashboard.reaction_times(hosting, KIND).medians.tolist(), dashboard.cost(hosting, KIND),
    ]  # fmt: skip
    with hosting.database.writing() as connection:
        connection.execute(answers.update().where(answers.c.kind == "main").values(correct=False))
    after = [
        dashboard.recruitment(hosting, KIND).steps, dashboard.coverage(hosting, KIND), dashboard.slots(hosting),
        dashboard.reaction_times(hosting, KIND).medians.tolist(), dashboard.cost(hosting, KIND),
    ]  # fmt: skip
    for one, other in zip(before, after):
        assert one.equals(other) if isinstance(one, pd.DataFrame) else one == other
    hidden = {field.name for field in fields(dashboard.Precision)} - {"mean", "at_any_time"}
    for found in dashboard.precision(hosting, KIND):
        assert found.mean is None and found.at_any_time is None
        assert not any(name in ("right", "correct") for name in hidden)


def test_confidence_sequences_are_a_setting(study: Study, tmp_path: Path) -> None:
    own = Study.open(study.root)
    hosting = host(own, f"sqlite:///{tmp_path / 'people.sqlite'}")
    with_settings(hosting, show_means="confidence_sequences")
    for number in range(4):
        take_part(hosting, fallible(number))
    for found in dashboard.precision(hosting, KIND):
        assert found.mean is None, "The mean itself waits for the plan all the same."
        assert found.at_any_time is not None and "all times" in found.at_any_time.method
        assert found.at_any_time.n <= 4


def test_precision_says_when_no_number_of_sessions_helps(hosting: Hosting) -> None:
    pieces = split_variance([30] * 6, [28, 12, 29, 15, 30, 18], [3] * 60, [2] * 24 + [3] * 24 + [1] * 12)
    assert pieces is not None
    more = more_sessions(pieces, 6, 60, 0.05)
    assert math.isinf(more.value) and math.isinf(more.high)
    narrowest = pieces.width_after(math.inf, 6)
    words = look_out(("m", "natural", "easy"), pieces, 6, 60, 0.05).answer
    assert f"at best {narrowest:.3f}" in words and "No number of sessions" in words
    wide = more_sessions(pieces, 6, 60, 2 * narrowest)
    assert wide.low <= wide.value <= wide.high


def test_the_dashboard_and_the_forecast_say_the_same_of_sessions_still_needed(hosting: Hosting, tmp_path: Path) -> None:
    for number in range(8):
        take_part(hosting, fallible(number))
    responses = read_responses(hosting.study, f"sqlite:///{tmp_path / 'people.sqlite'}")
    with hosting.database.reading() as connection:
        usable = connection.execute(sa.select(sessions.c.name).where(sessions.c.usable)).scalars().all()
    table = judgements(responses[responses["session"].isin(usable)], observer_kinds=(KIND,))
    for target in (0.08, 0.3):
        with_settings(hosting, target_width=target)
        found = {
            (own.model, own.condition, own.difficulty): own
            for own in dashboard.precision(hosting, KIND)
            if own.outlook is not None
        }
        said = sessions_until(table, target)
        assert found and said.outlooks
        for own in said.outlooks:
            beside = found[own.model, own.condition, own.difficulty]
            assert beside.outlook is not None and beside.outlook.width_now == pytest.approx(own.width_now)
            ends = [(e.value, e.low, e.high) for e in (own.more, beside.outlook.more)]
            assert ends[0] == ends[1], (target, own.model)
            assert own.sentence.endswith(beside.outlook.answer) and beside.verdict[1:] == beside.outlook.answer[1:]
            assert (
                own.narrowest == beside.outlook.narrowest
                and own.units_needed.value == beside.outlook.units_needed.value
            )


def test_reaction_times_are_quantiles_over_sessions(hosting: Hosting) -> None:
    for seconds in (4.0, 5.0, 6.0):
        take_part(hosting, seconds=seconds)
    found = dashboard.reaction_times(hosting, KIND)
    assert found.medians.tolist() == [3.8, 4.8, 5.8]
    middle = found.quantiles[0.5]
    assert middle.unit == "s" and middle.value == 4.8 and middle.n == 3 and middle.low == 0 and math.isinf(middle.high)
    assert found.answers == 3 * hosting.rules.main_trials


def test_signs_of_programs_are_counted(hosting: Hosting) -> None:
    newcomer = arrive(hosting, None, kind="simulated").participant
    assert newcomer is not None
    check_device(hosting, newcomer.token, Device(1280, 800, evidence=("webdriver",)))
    add_evidence(hosting, newcomer.token, "hidden field")
    add_evidence(hosting, newcomer.token, "hidden field")
    signs = dashboard.quality(hosting, KIND).signs.set_index("sign")
    assert signs.loc["automation: webdriver", "people"] == 1
    assert signs.loc["trap: hidden field", "times"] == 2


def test_problems_are_named_with_their_trials(hosting: Hosting) -> None:
    with hosting.database.writing() as connection:
        for number in range(3):
            report_problem(connection, hosting.identity, "slow decode", trial=f"slot-{number % 2}", detail="900 ms")
        report_problem(connection, hosting.identity, "missing image", trial="slot-7", detail="abc.webp")
        report_problem(connection, "another study", "missing image", trial="slot-9")
    found = dashboard.found_problems(hosting)
    assert found.kinds[["kind", "times", "trials"]].values.tolist() == [["slow decode", 3, 2], ["missing image", 1, 1]]
    assert found.latest["trial"].tolist()[0] == "slot-7" and len(found.latest) == 4
    assert len(dashboard.found_problems(hosting, latest=2).latest) == 2


def test_a_pilot_stands_apart(study: Study, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'people.sqlite'}"
    take_part(host(study, url, pilot=True))
    hosting = host(study, url)
    assert dashboard.recruitment(hosting, KIND).arrived == 0
    assert dashboard.coverage(hosting, KIND)["answers"].sum() == 0
    assert dashboard.recruitment(host(study, url, pilot=True), KIND).finished == 1


@pytest.mark.parametrize(("successes", "tries"), [(0, 5), (5, 5), (3, 7)])
def test_wilson_intervals_stay_inside(successes: int, tries: int) -> None:
    found = dashboard.wilson(successes, tries, "proportion of people")
    assert found is not None and 0 <= found.low <= successes / tries <= found.high <= 1
    assert dashboard.wilson(0, 0, "proportion of people") is None
