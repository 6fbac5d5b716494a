"""Storing answers: what the browser is told, and what it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmark.responses import read_responses
from tests.hosted import Clock, host, make_hosted_study, walk_to_practice
from webapp.answering import Acknowledgement, Answer, Presentation, current_trial, record_answer
from webapp.bots import Recognition
from webapp.hosting import Hosting
from webapp.participation import Participant, look_up


def make(tmp_path: Path, **changes: Any) -> Hosting:
    return host(make_hosted_study(tmp_path / "study", **changes))


def reply_to(hosting: Hosting, person: Participant, shown: Presentation, right: bool = True) -> Acknowledgement:
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
    assert shown.upcoming == sorted(following)


@pytest.mark.parametrize("name", ["rt_ms", "onset_delay_ms"])
def test_times_are_finite_and_not_negative(name: str) -> None:
    for value in (float("nan"), float("inf"), -0.1):
        with pytest.raises(ValidationError):
            Answer.model_validate({"participant": "a" * 32, "trial": "b" * 32, "position": "upper", name: value})
