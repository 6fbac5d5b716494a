"""Simulated people who take part from the first page to the last, for tests of what stands behind the answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.hosted import Clock, walk_to_practice
from webapp.answering import Acknowledgement, Answer, ShownTrial, current_trial, record_answer
from webapp.hosting import Hosting
from webapp.participation import Participant, look_up

Choose = Callable[[ShownTrial, bool], bool]
"""Decides whether a trial is answered rightly, from the trial and from whether it is a practice trial."""


def right_queries(hosting: Hosting) -> set[str]:
    """Return the pictures that are right wherever they are a query."""
    stimuli = hosting.study.stimuli()
    return set(stimuli.loc[(stimuli["role"] == "query") & (stimuli["side"] == "max"), "picture"])


def answer_one(
    hosting: Hosting, token: str, right: bool, known: set[str], seconds: float = 5.0
) -> Acknowledgement | None:
    """Answer the trial that a participant is at; None if there is none."""
    trial = current_trial(hosting, token)
    if trial is None:
        return None
    if isinstance(hosting.clock, Clock):
        hosting.clock.pass_by(seconds)
    upper = (trial.upper in known) == right
    return record_answer(
        hosting,
        Answer(
            participant=token, trial=trial.trial, position="upper" if upper else "lower", confidence=2,
            rt_ms=1000 * seconds - 200, visible=True, focused=True, input="pointer",
        ),
    )  # fmt: skip


def take_part(
    hosting: Hosting, choose: Choose | None = None, *, most: int | None = None, seconds: float = 5.0
) -> Participant:
    """Let somebody come and answer until the trials are done, or until so many main and catch answers are given."""
    participant = walk_to_practice(hosting)
    known = right_queries(hosting)
    given = 0
    while (trial := current_trial(hosting, participant.token)) is not None:
        practice = trial.block == "practice"
        if not practice and most is not None and given >= most:
            break
        answer_one(hosting, participant.token, practice or choose is None or choose(trial, practice), known, seconds)
        given += not practice
    found = look_up(hosting, participant.token)
    assert found is not None
    return found


def fallible(seed: int, share: float = 0.8) -> Choose:
    """Return somebody who is right in a share of the trials."""
    generator = np.random.default_rng(seed)
    return lambda trial, practice: bool(generator.random() < share)
