"""Storing answers: what the browser is told, and what it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from benchmark.database import answers, people, read_sessions, sessions
from benchmark.responses import read_responses
from tests.answered import answer_one, right_queries
from tests.hosted import Clock, host, make_hosted_study, walk_to_practice
from webapp.answering import Acknowledgement, Answer, ShownTrial, current_trial, record_answer
from webapp.bots import Recognition
from webapp.hosting import Hosting, SteadyClock
from webapp.participation import Participant, look_up


def make(tmp_path: Path, **changes: Any) -> Hosting:
    return host(make_hosted_study(tmp_path / "study", **changes))


def reply_to(hosting: Hosting, person: Participant, shown: ShownTrial, right: bool = True) -> Acknowledgement:
    """Answer a trial, rightly or wrongly."""
    from benchmark.tasks import assemble_tasks

    task, _ = Recognition(assemble_tasks(hosting.study.stimuli())).find(shown)
    upper = (task["query_max"] == shown.upper) == right
    assert isinstance(hosting.clock, Clock)
    hosting.clock.pass_by(4)
    answer = Answer(
        participant=person.token, trial=shown.trial, position="upper" if upper else "lower", confidence=3, rt_ms=3000,
        input="keyboard",
    )  # fmt: skip
    return record_answer(hosting, answer)


def answer_block(hosting: Hosting, person: Participant, right: bool = True) -> list[Acknowledgement]:
    shown = current_trial(hosting, person.token)
    replies = []
    while shown is not None:
        replies.append(reply_to(hosting, person, shown, right))
        shown = replies[-1].next
    return replies


def test_feedback_is_given_in_practice_alone_where_it_is_off(tmp_path: Path) -> None:
    session = {"main_trials": 6, "catch_trials": 2, "responses_per_unit": 3, "feedback": False}
    hosting = make(tmp_path, session=session)
    person = walk_to_practice(hosting)
    practice = answer_block(hosting, person)
    assert [reply.correct for reply in practice] == [True] * 5
    main = answer_block(hosting, person)
    assert len(main) == 8
    for reply in main:
        assert (reply.correct, reply.right, reply.answered) == (None, None, None)
        assert reply.next is None or reply.next.feedback is False
    assert read_responses(hosting.study)["correct"].all()


def test_feedback_counts_main_and_catch_trials(tmp_path: Path) -> None:
    hosting = make(tmp_path)
    person = walk_to_practice(hosting)
    answer_block(hosting, person)
    replies = answer_block(hosting, person, right=False)
    assert [(reply.right, reply.answered) for reply in replies] == [(0, n + 1) for n in range(8)]
    known = look_up(hosting, person.token)
    assert known is not None and known.outcome == "complete"  # whoever finishes has finished, right or wrong


def test_every_answer_says_what_it_is_an_answer_to(tmp_path: Path) -> None:
    hosting = make(tmp_path)
    person = walk_to_practice(hosting)
    answer_block(hosting, person)
    answer_block(hosting, person)
    stored = read_responses(hosting.study)
    assert stored["trial_index"].tolist() == list(range(13)) and stored["session"].nunique() == 1
    assert (stored["protocol"] == hosting.study.protocol.identity).all()
    assert (stored["study"] == hosting.study.hash).all() and (
        stored["stimuli_hash"] == hosting.study.stimuli_hash
    ).all()
    assert (stored["consent_hash"] == hosting.consent_hash).all() and (stored["input"] == "keyboard").all()
    main = stored[stored["kind"] == "main"]
    assert main["weights_hash"].tolist() == [f"weights of {model}" for model in main["model"]]
    assert not main.duplicated(["model", "layer", "index"]).any() and (main["references"] == "none").sum() == 1


def test_the_pilot_s_answers_never_mix_with_the_study_s(tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study")
    pilot, real = host(study, pilot=True), host(study)
    for hosting in (pilot, real):
        person = walk_to_practice(hosting)
        answer_block(hosting, person)
    assert len(read_responses(study)) == 5 and len(read_responses(study, pilot=True)) == 5
    assert read_responses(study, pilot=True)["study"].str.startswith("pilot:").all()
    assert not set(read_responses(study)["observer"]) & set(read_responses(study, pilot=True)["observer"])


def test_a_trial_says_nothing_of_its_neighbour_but_which_pictures_to_fetch(tmp_path: Path) -> None:
    hosting = make(tmp_path)
    person = walk_to_practice(hosting)
    shown = current_trial(hosting, person.token)
    assert shown is not None
    reply = reply_to(hosting, person, shown)
    assert reply.next is not None
    following = {*reply.next.left, *reply.next.right, reply.next.upper, reply.next.lower}
    assert shown.upcoming[0] == sorted(following)


@pytest.mark.parametrize("name", ["rt_ms", "onset_delay_ms"])
def test_times_are_finite_and_not_negative(name: str) -> None:
    for value in (float("nan"), float("inf"), -0.1):
        with pytest.raises(ValidationError):
            Answer.model_validate({"participant": "a" * 32, "trial": "b" * 32, "position": "upper", name: value})


# -------------------------------------------------------------------- clocks


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_durations_stay_right_though_the_machine_s_clock_is_set(
    step: float, capsys: pytest.CaptureFixture[str]
) -> None:
    wall, running = [1_700_000_000.0], [500.0]
    clock = SteadyClock(lambda: wall[0], lambda: running[0])
    first = clock()
    for seconds, set_by in ((10.0, 0.0), (20.0, step), (30.0, 0.0)):
        wall[0] += seconds + set_by
        running[0] += seconds
        clock()
    assert first == 1_700_000_000 and clock() - first == pytest.approx(60)
    said = capsys.readouterr().out
    assert said.count("clock was set") == 1 and ("back by 3,600 s" if step < 0 else "forward by 3,600 s") in said


@pytest.mark.parametrize("moment", ["instructions", "amid the trials", "after an answer"])
def test_who_is_honest_stays_usable_though_the_clock_goes_back_an_hour(tmp_path: Path, moment: str) -> None:
    """A server that is started again follows the machine's clock: what can't be known then is judged by nobody."""
    hosting = make(tmp_path)
    clock = hosting.clock
    assert isinstance(clock, Clock)
    if moment == "instructions":
        participant = walk_to_practice(hosting, instruction_seconds=-3600)
    else:
        participant = walk_to_practice(hosting)
    known = right_queries(hosting)
    given = 0
    while (trial := current_trial(hosting, participant.token)) is not None:
        given += trial.block == "trials"
        if moment != "instructions" and given == 4 and trial.block == "trials":
            clock.pass_by(-3600 if moment == "amid the trials" else 0)
        answer_one(hosting, participant.token, True, known, seconds=40)
        if moment == "after an answer" and given == 4:
            clock.pass_by(-3600)
    with hosting.database.reading() as connection:
        session = connection.execute(sa.select(sessions)).one()
        person = connection.execute(sa.select(people)).one()
        times = connection.execute(sa.select(answers.c.server_ms)).scalars().all()
        read = read_sessions(connection, hosting.identity)
    assert session.usable, session.reasons
    assert all(value is None or value >= 0 for value in times)
    if moment == "instructions":
        assert person.instruction_seconds is None
    else:
        assert read["total_seconds"].isna().all()
