"""Trials and answers: the one function through which every answer of a person, or of a bot, is stored.

The browser gets a trial with a token and sends the token back with the answer. Which trial is next follows from the
committed answers alone. An answer is acknowledged after its transaction is committed; sending it again, from a retry,
a double click or another tab, gets the same acknowledgement and stores nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.engine import Connection, Row

from benchmark.database import answers, people, sessions
from webapp.agents import pointer_signs
from webapp.assignment import end_session, lease_slot, settle
from webapp.hosting import Hosting
from webapp.layout import Row as Trial
from webapp.layout import place_pictures
from webapp.participation import (
    Participant,
    begin_session,
    check_silence,
    count_sessions,
    find,
    known_duration,
    next_phase,
    note_seen,
    note_sign,
    open_session,
    was_silent,
)
from webapp.renditions import NAME, Rendition

TRIALS_AHEAD = 5
"""How many trials ahead a browser is told which pictures they show."""

Milliseconds = Annotated[float, Field(ge=0, le=86_400_000, allow_inf_nan=False)]
Token = Annotated[str, Field(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
TraceName = Annotated[str, Field(max_length=24, pattern=r"^[a-z_]+$")]
TraceValue = Annotated[float, Field(allow_inf_nan=False)]


Block = Literal["practice", "trials"]
"""What a participant works on: a round of practice, or the trials that count."""


class Answer(BaseModel):
    """An answer, as a browser or a bot sends it.

    Attributes
    ----------
    participant, trial
        Tokens of the participant and of the trial.
    position
        Which of the two queries was chosen.
    confidence
        1 to 3.
    rt_ms
        From the first frame of the decoded pictures to the key or button going down.
    onset_delay_ms
        From all pictures decoded to that frame.
    visible, focused
        Whether the page stayed visible, and the window kept the focus.
    input
        How the answer was given.
    early_inputs
        Keys and clicks before the buttons were unlocked; they count for nothing.
    trace
        Pointer and keys in summary, numbers by name.
    rendition
        How the pictures that were shown had been sent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    participant: Token
    trial: Token
    position: Literal["upper", "lower"]
    confidence: int | None = Field(default=None, ge=1, le=3)
    rt_ms: Milliseconds | None = None
    onset_delay_ms: Milliseconds | None = None
    visible: bool | None = None
    focused: bool | None = None
    input: Literal["pointer", "keyboard", "button"] | None = None
    early_inputs: int | None = Field(default=None, ge=0, le=100_000)
    trace: dict[TraceName, TraceValue] = Field(default_factory=dict, max_length=24)
    rendition: Annotated[str, Field(pattern=rf"^{NAME.pattern}$", max_length=24)] | None = None


class ShownTrial(BaseModel):
    """A trial as sent to the browser: it does not reveal the right query, the unit or the purpose of the trial.

    ``upcoming`` names the pictures of the trials that follow, trial by trial, each in the order of their names.
    """

    trial: str
    number: int
    of: int
    block: Block
    left: list[str]
    right: list[str]
    upper: str
    lower: str
    feedback: bool
    upcoming: list[list[str]]


class Acknowledgement(BaseModel):
    """What the browser gets back once an answer is safe.

    Attributes
    ----------
    state
        ``stored``; ``known`` if it had been stored before; ``stale`` if it does not belong to the trial that is next;
        ``unknown`` if no participant has the token.
    position
        Which query is stored as the answer: another tab may have been faster.
    correct
        Whether the stored answer is right, where feedback is given.
    right, answered
        Right answers so far, and all answers so far, where feedback is given; practice does not count.
    next
        The next trial of the block, if there is one.
    """

    state: Literal["stored", "known", "stale", "unknown"]
    position: Literal["upper", "lower"] | None = None
    correct: bool | None = None
    right: int | None = None
    answered: int | None = None
    next: ShownTrial | None = None


# Put together once: see webapp.participation.
_OF_PARTICIPANT = answers.c.participant == sa.bindparam("participant")
_STORED = sa.select(answers.c.choice, answers.c.query_top, answers.c.kind).where(
    _OF_PARTICIPANT, answers.c.token == sa.bindparam("token")
)
_RIGHT = sa.select(sa.func.count().filter(answers.c.correct), sa.func.count()).where(
    _OF_PARTICIPANT, answers.c.kind != "practice"
)
_TIMED_OUT = (
    sa.select(sessions)
    .where(sessions.c.participant == sa.bindparam("participant"), sessions.c.status == "timed out")
    .order_by(sessions.c.id.desc())
)
_UPDATE_SESSION = sessions.update().where(sessions.c.id == sa.bindparam("own"))
_INSERT_ANSWER = answers.insert()
_IN_SESSION = sa.select(sa.func.count()).select_from(answers).where(answers.c.session == sa.bindparam("session"))
_DONE = {
    "practice": _IN_SESSION.where(answers.c.kind == "practice"),
    "trials": _IN_SESSION.where(answers.c.kind != "practice"),
}


def current_trial(hosting: Hosting, token: str) -> ShownTrial | None:
    """Return the trial that a participant is at, or None outside practice and trials.

    Calling it notes when the trial was handed out.
    """
    with hosting.database.writing() as connection:
        known = find(connection, hosting, token)
        if known is None or known.phase not in ("practice", "trials"):
            return None
        known = check_silence(connection, hosting, known)
        session = begin_session(connection, hosting, known)
        if known.phase == "trials" and session.slot is None:
            lease_slot(connection, hosting, session.id)
            session = begin_session(connection, hosting, known)
        shown = _present(connection, hosting, known, session)
        # A page stands before the first trial: it is handed out anew when that page has been read.
        first = shown is not None and shown.block == "trials" and shown.number == 1
        _issue(connection, hosting, known, session, first=first)
        return shown


def name_current_trial(hosting: Hosting, participant: int) -> str | None:
    """Return the name of a participant's current trial, for the experimenter; it is never sent to a browser."""
    with hosting.database.reading() as connection:
        row = connection.execute(sa.select(people).where(people.c.id == participant)).first()
        session = open_session(connection, participant) if row is not None else None
        if row is None or session is None:
            return None
        trials, done = _block(connection, hosting, session, "trials" if session.slot else "practice")
        return str(trials[done]["trial"]) if done < len(trials) else None


def record_answer(hosting: Hosting, answer: Answer) -> Acknowledgement:
    """Store an answer, once; the acknowledgement is made after the commit."""
    try:
        with hosting.database.writing() as connection:
            return _record(connection, hosting, answer)
    except sa.exc.IntegrityError:
        # Another server stored the same answer between our look and our insert.
        with hosting.database.writing() as connection:
            return _record(connection, hosting, answer)


def _record(connection: Connection, hosting: Hosting, answer: Answer) -> Acknowledgement:
    known = find(connection, hosting, answer.participant)
    if known is None:
        return Acknowledgement(state="unknown")
    stored = connection.execute(_STORED, {"participant": known.id, "token": answer.trial}).first()
    if stored is not None:
        return _acknowledge(connection, hosting, known, "known", stored.choice, stored.query_top, stored.kind)
    session = open_session(connection, known.id, hold=True) if known.phase in ("practice", "trials") else None
    if session is not None and was_silent(hosting, session):
        end_session(connection, hosting, known.id, "timed out")
        session = None
    for own in _sessions_answered(connection, known, session):
        block: Block = "trials" if own.slot else "practice"
        trials, done = _block(connection, hosting, own, block)
        if done >= len(trials) or hosting.trial_token(own.id, trials[done]["trial"]) != answer.trial:
            continue
        trial = trials[done]
        choice = _insert(connection, hosting, known, own, trial, answer)
        if own.status == "open":
            _move_on(connection, hosting, known, own, trials, done + 1)
        if own.status == "open" and done + 1 < len(trials):
            # The block goes on: nothing has changed of what was read but how many trials are answered.
            reply = Acknowledgement(state="stored", next=_show(hosting, own, block, trials, done + 1))
            return _judge(connection, hosting, known, reply, choice, trial["query_top"], trial["kind"])
        return _acknowledge(connection, hosting, known, "stored", choice, trial["query_top"], trial["kind"])
    return _acknowledge(connection, hosting, known, "stale")


def _sessions_answered(connection: Connection, known: Participant, session: Row[Any] | None) -> Iterator[Row[Any]]:
    """Yield the sessions that an answer may belong to: the open one; asked for only then, one that was given up."""
    if session is not None:
        yield session
    silent = _silent_session(connection, known)
    if silent is not None:
        yield silent


def _silent_session(connection: Connection, known: Participant) -> Row[Any] | None:
    """Return the latest session of somebody who was silent for too long.

    An answer that waited in the browser all that time is still an answer: it is stored where it belongs, even if
    another tab has begun anew meanwhile.
    """
    return connection.execute(_TIMED_OUT, {"participant": known.id}).first()


def _insert(
    connection: Connection, hosting: Hosting, known: Participant, session: Row[Any], trial: Trial, answer: Answer
) -> str:
    """Insert an answer; returns which query was chosen: max or min."""
    top = trial["query_top"]
    choice = top if answer.position == "upper" else ("min" if top == "max" else "max")
    now = hosting.clock()
    waited = None if session.issued_at is None else known_duration(session.issued_at, now)
    before = connection.execute(_IN_SESSION, {"session": session.id}).scalar_one()
    columns = (
        "trial", "kind", "model", "layer", "basis", "index", "aggregator", "condition", "difficulty", "references",
        "task", "query_top",
    )  # fmt: skip
    seen = {"confidence", "rt_ms", "onset_delay_ms", "visible", "focused", "input", "early_inputs"}
    values = {
        **hosting.provenance,
        **{name: trial[name] for name in columns},
        **answer.model_dump(include=seen),
        "participant": known.id,
        "session": session.id,
        "token": answer.trial,
        "weights_hash": hosting.weights.get(trial["model"]),
        "consent_hash": known.consent_hash,
        "trial_index": before,
        "choice": choice,
        "correct": choice == "max",
        "server_ms": None if waited is None else waited * 1000,
        "trace": json.dumps(answer.trace) if answer.trace else None,
        "rendition": Rendition.read(answer.rendition).recorded if answer.rendition else None,
        "answered_at": now,
    }
    connection.execute(_INSERT_ANSWER, values)
    if answer.trace.get("untrusted", 0) > 0:
        note_sign(connection, known.id, "untrusted input")  # events that a script made, not a person's hand
    for sign in pointer_signs(answer.trace, answer.input == "pointer"):
        note_sign(connection, known.id, sign)
    return str(choice)


def _move_on(
    connection: Connection, hosting: Hosting, known: Participant, session: Row[Any], trials: list[Trial], done: int
) -> None:
    """Note that an answer was given, and start the next phase after the last answer of a block."""
    _issue(connection, hosting, known, session)
    if done < len(trials):
        return
    now = hosting.clock()
    values: dict[str, Any] = {}
    if session.slot:
        settle(connection, hosting, session.id)
        values = {"phase": next_phase(hosting, "trials"), "outcome": "complete", "finished_at": now, "ended_at": now}
    else:
        attempts = session.practice_attempts + 1
        connection.execute(sessions.update().where(sessions.c.id == session.id).values(practice_attempts=attempts))
        values = {"practice_attempts": attempts}
        if _practice_is_right(connection, session.id, len(trials)):
            lease_slot(connection, hosting, session.id)
            values["phase"] = "trials"
        elif attempts >= hosting.rules.practice_attempts:
            connection.execute(
                sessions.update()
                .where(sessions.c.id == session.id)
                .values(status="screened out", holds=False, ended_at=now)
            )
            values |= {"phase": "end", "outcome": "failed practice", "ended_at": now}
    connection.execute(people.update().where(people.c.id == known.id).values(**values))


def _practice_is_right(connection: Connection, session: int, length: int) -> bool:
    """Whether all answers of the last round of practice are right."""
    last = sa.select(answers.c.correct).where(answers.c.session == session).order_by(answers.c.id.desc()).limit(length)
    return all(connection.execute(last).scalars())


def _issue(
    connection: Connection, hosting: Hosting, known: Participant, session: Row[Any], *, first: bool = False
) -> None:
    """Note that a trial was sent just now, and whether it is the first one that counts."""
    now = hosting.clock()
    values: dict[str, Any] = {"issued_at": now, "seen_at": now}
    if first or (session.slot and session.first_trial_at is None):
        values["first_trial_at"] = now
    connection.execute(_UPDATE_SESSION, {"own": session.id, **values})
    note_seen(connection, known.id, now)


def _block(connection: Connection, hosting: Hosting, session: Row[Any], block: Block) -> tuple[list[Trial], int]:
    """Return the trials of the block that a session is in, and how many of them are answered."""
    done = int(connection.execute(_DONE[block], {"session": session.id}).scalar_one())
    if block == "trials":
        return hosting.layout.trials(session.slot), done
    earlier = int(session.name.rpartition("-")[2]) - 1
    trials = hosting.layout.practice(
        session.cell, _practice_round(hosting, session.participant, earlier, session.practice_attempts)
    )
    return trials, done - session.practice_attempts * len(trials)


def _practice_round(hosting: Hosting, participant: int, earlier: int, attempts: int) -> int:
    """Return the number of a round of practice: no two of a participant are the same.

    It follows from who practises and how often before, so that the pictures of the first round can be loaded while
    the instructions are read.
    """
    return participant * 100 + earlier * hosting.rules.practice_attempts + attempts


def first_pictures(hosting: Hosting, participant: Participant) -> list[list[str]]:
    """Return the pictures of the first trials of the practice, for somebody who is about to begin it."""
    if participant.cell is None:
        return []
    with hosting.database.reading() as connection:
        earlier = count_sessions(connection, participant.id)
        if open_session(connection, participant.id) is not None:
            earlier -= 1
    trials = hosting.layout.practice(participant.cell, _practice_round(hosting, participant.id, earlier, 0))
    return [list_pictures(trial) for trial in trials[:TRIALS_AHEAD]]


def list_pictures(trial: Trial) -> list[str]:
    """Return the pictures of a trial in the order of their names, which does not reveal their roles."""
    left, right, upper, lower = place_pictures(trial)
    return sorted({*left, *right, upper, lower})


def _present(connection: Connection, hosting: Hosting, known: Participant, session: Row[Any]) -> ShownTrial | None:
    """Return the next trial of a participant's block, as sent to the browser."""
    block: Block = "practice" if known.phase == "practice" else "trials"
    trials, done = _block(connection, hosting, session, block)
    return _show(hosting, session, block, trials, done) if done < len(trials) else None


def _show(hosting: Hosting, session: Row[Any], block: Block, trials: list[Trial], done: int) -> ShownTrial:
    """Return a trial of a block, as sent to the browser."""
    left, right, upper, lower = place_pictures(trials[done])
    upcoming = [list_pictures(trial) for trial in trials[done + 1 : done + 1 + TRIALS_AHEAD]]
    return ShownTrial(
        trial=hosting.trial_token(session.id, trials[done]["trial"]),
        number=done + 1,
        of=len(trials),
        block=block,
        left=left,
        right=right,
        upper=upper,
        lower=lower,
        feedback=block == "practice" or hosting.rules.feedback,
        upcoming=upcoming,
    )


def _acknowledge(
    connection: Connection,
    hosting: Hosting,
    known: Participant,
    state: Literal["stored", "known", "stale"],
    choice: str = "",
    query_top: str = "",
    kind: str = "",
) -> Acknowledgement:
    """Reply whether an answer was stored, and what comes next."""
    now_at = find(connection, hosting, known.token)
    reply = Acknowledgement(state=state)
    if now_at is not None and now_at.phase in ("practice", "trials"):
        session = open_session(connection, known.id)
        same_block = session is not None and not _block_has_just_begun(connection, hosting, session)
        if session is not None and (same_block or state == "stale"):
            reply.next = _present(connection, hosting, now_at, session)
    return _judge(connection, hosting, known, reply, choice, query_top, kind)


def _judge(
    connection: Connection,
    hosting: Hosting,
    known: Participant,
    reply: Acknowledgement,
    choice: str,
    query_top: str,
    kind: str,
) -> Acknowledgement:
    """Add the chosen query to a reply and, in blocks with feedback, whether it is right."""
    if choice:
        reply.position = "upper" if choice == query_top else "lower"
    if not choice or not (kind == "practice" or hosting.rules.feedback):
        return reply
    reply.correct = choice == "max"
    if kind != "practice":
        reply.right, reply.answered = connection.execute(_RIGHT, {"participant": known.id}).one()
    return reply


def _block_has_just_begun(connection: Connection, hosting: Hosting, session: Row[Any]) -> bool:
    """Whether no trial of the current block is answered, so that its opening page is due."""
    block: Block = "trials" if session.slot else "practice"
    return _block(connection, hosting, session, block)[1] == 0
