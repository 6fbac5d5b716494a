"""A participant's way through the study, step by step; every step is a row in the database.

device -> consent -> colour vision -> instructions -> quiz -> practice -> trials -> comments -> debriefing, or out of
it with an outcome of its own. Pages, bots and routes call these functions; none of them remembers anything itself,
so that a reload, another tab, another device or another server goes on at the same place.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from benchmark.database import answers, people, sessions
from benchmark.errors import HostingError
from webapp.agents import Writing, note_agent, note_writing
from webapp.assignment import choose_cell, end_session, own_study, rows_of_study
from webapp.hosting import Hosting
from webapp.recruitment import Outcome, Visitor, hash_identifier
from webapp.store import payments, read_setting, withdrawals

Phase = Literal[
    "device", "consent", "colour vision", "instructions", "quiz", "practice", "trials", "comments", "debriefing", "end"
]
PHASES: tuple[Phase, ...] = (
    "device", "consent", "colour vision", "instructions", "quiz", "practice", "trials", "comments", "debriefing", "end",
)  # fmt: skip

COLOUR_VISION = ("normal", "deficient", "unsure", "no answer")
"""Answers to the question on colour vision."""

BROWSERS = ("chrome", "edge", "firefox", "safari", "other")
"""Families of browsers that are distinguished; nothing else of the user agent is kept."""

LONGEST_COMMENT = 4000
MOST_SIGNS = 20
"""Different signs of a program that are kept of a participant."""

Refusal = Literal["closed", "paused", "already took part", "no link"]


@dataclass(frozen=True)
class Device:
    """What the device check needs to know, and nothing more.

    Attributes
    ----------
    width, height
        Of the window, in CSS pixels.
    browser
        Family of the browser.
    capable
        Whether the browser can draw the task.
    evidence
        Signs of automation, such as ``webdriver``.
    megabits
        Speed of the connection in Mbit/s; None if it was not measured.
    """

    width: int
    height: int
    browser: str = "other"
    capable: bool = True
    evidence: tuple[str, ...] = ()
    megabits: float | None = None


@dataclass(frozen=True)
class Participant:
    """A participant as the database knows them."""

    id: int
    token: str
    pseudonym: str
    receipt: str
    phase: Phase
    cell: str | None
    outcome: str | None
    practice_attempts: int
    quiz_attempts: int
    consent_hash: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> Participant:
        """Return the participant of a row."""
        return cls(
            row.id, row.token, row.pseudonym, row.receipt, row.phase, row.cell, row.outcome, row.practice_attempts,
            row.quiz_attempts, row.consent_hash,
        )  # fmt: skip


@dataclass(frozen=True)
class Arrival:
    """Who came in, or why they can't."""

    participant: Participant | None
    refusal: Refusal | None = None


# What every page and every answer asks is put together once: SQLAlchemy takes longer to do so than SQLite to answer.
_OWN = sa.select(people).where(rows_of_study(people))
_BY_TOKEN = _OWN.where(people.c.token == sa.bindparam("token"))
_HELD_BY_TOKEN = _BY_TOKEN.with_for_update()
_HELD_BY_PERSON = _OWN.where(people.c.person == sa.bindparam("person")).with_for_update()
_BY_PSEUDONYM = sa.select(people).where(people.c.pseudonym == sa.bindparam("pseudonym"))
_INSERT = people.insert()
_BY_ID = sa.select(people).where(people.c.id == sa.bindparam("participant"))
_UPDATE = people.update().where(people.c.id == sa.bindparam("participant"))
_OPEN_SESSION = (
    sa.select(sessions)
    .where(sessions.c.participant == sa.bindparam("participant"), sessions.c.status == "open")
    .order_by(sessions.c.id.desc())
)
_SESSIONS = sa.select(sa.func.count()).where(sessions.c.participant == sa.bindparam("participant"))
_INSERT_SESSION = sessions.insert()
_HELD_OPEN_SESSION = _OPEN_SESSION.with_for_update()


def find(connection: Connection, hosting: Hosting, token: str) -> Participant | None:
    """Return the participant with a token, or None; with it, the row is held until the transaction ends."""
    if not 16 <= len(token) <= 64:
        return None
    row = connection.execute(_HELD_BY_TOKEN, {**own_study(hosting), "token": token}).first()
    return Participant.of(row) if row else None


def look_up(hosting: Hosting, token: str) -> Participant | None:
    """Return the participant with a token, or None."""
    with hosting.database.reading() as connection:
        row = connection.execute(_BY_TOKEN, {**own_study(hosting), "token": token}).first()
    return Participant.of(row) if row else None


def arrive(
    hosting: Hosting, visitor: Visitor | None, *, token: str = "", kind: str = "human", language: str = ""
) -> Arrival:
    """Let somebody in, or find them again.

    Parameters
    ----------
    hosting
        The hosted study.
    visitor
        Whom the recruiter's link names; None for open links.
    token
        The token that an open link carries after the first visit.
    kind
        ``human`` or ``simulated``.
    language
        Of the texts.
    """
    if hosting.closed_because:
        return Arrival(None, "closed")
    recruited = hosting.recruitment.recruiter != "open"
    if recruited and visitor is None:
        return Arrival(None, "no link")
    if visitor is None:
        token = token or secrets.token_urlsafe(24)
    try:
        return _arrive(hosting, visitor, token, kind, language)
    except sa.exc.IntegrityError:
        # Another server let the same person in between our look and our insert: the same link in two tabs.
        return _arrive(hosting, visitor, token, kind, language)


def _arrive(hosting: Hosting, visitor: Visitor | None, token: str, kind: str, language: str) -> Arrival:
    now = hosting.clock()
    with hosting.database.writing() as connection:
        if visitor is not None:
            person = hash_identifier(hosting.keys["people"], hosting.recruiter.name, visitor.person)
            submission = hash_identifier(hosting.keys["people"], "submission", visitor.submission)
        else:
            person = hash_identifier(hosting.keys["people"], "open", token)
            submission = None
        row = connection.execute(_HELD_BY_PERSON, {**own_study(hosting), "person": person}).first()
        if row is not None:
            if row.submission != submission:
                return Arrival(None, "already took part")
            return Arrival(_resume(connection, hosting, row, now))
        if read_setting(connection, hosting.identity, "paused", False):
            return Arrival(None, "paused")
        if visitor is not None and _took_part_before(connection, hosting, person):
            return Arrival(None, "already took part")
        pseudonym = "P" + secrets.token_hex(5).upper()
        newcomer = {
            **own_study(hosting), "kind": kind, "person": person, "submission": submission,
            "token": token if visitor is None else secrets.token_urlsafe(24), "pseudonym": pseudonym,
            "receipt": _receipt(), "recruiter": hosting.recruiter.name,
            "language": language or hosting.wording.language, "phase": "device", "quiz_attempts": 0,
            "practice_attempts": 0, "hosting_hash": hosting.study.experiment.hosting_hash, "arrived_at": now,
            "seen_at": now,
        }  # fmt: skip
        connection.execute(_INSERT, newcomer)
        if visitor is not None and hosting.recruitment.keep_identifiers and _has_payments(connection):
            connection.execute(
                payments.insert().values(
                    pseudonym=pseudonym, study=hosting.identity, recruiter=hosting.recruiter.name,
                    recruiter_id=visitor.person, submission_id=visitor.submission or None,
                )
            )  # fmt: skip
        row = connection.execute(_BY_PSEUDONYM, {"pseudonym": pseudonym}).one()
        return Arrival(Participant.of(row))


def _resume(connection: Connection, hosting: Hosting, row: Row[Any], now: float) -> Participant:
    """Find a participant again; after too long a break in the trials they start again with the practice."""
    note_seen(connection, row.id, now)
    return check_silence(connection, hosting, Participant.of(row))


def _took_part_before(connection: Connection, hosting: Hosting, person: str) -> bool:
    """Whether a person took part in the study's pilot, or in another study of the laboratory, where that counts."""
    # The pilot shows the very trials of the study; the other way round nothing is spoilt.
    before = sa.and_(people.c.study == hosting.identity, people.c.pilot, sa.literal(not hosting.pilot))
    if hosting.recruitment.once == "lab":
        before = before | (people.c.study != hosting.identity)
    query = (
        sa.select(people.c.id)
        .join(answers, answers.c.participant == people.c.id, isouter=True)
        .where(people.c.person == person, before)
        .where(answers.c.id.is_not(None) | (people.c.outcome == "withdrawn"))
    )
    return connection.execute(query).first() is not None


def _has_payments(connection: Connection) -> bool:
    """Whether the table of payments is there: it may be dropped alone."""
    return sa.inspect(connection).has_table(payments.name)


def _receipt() -> str:
    """Return a receipt code that can be copied by hand: no letters that look alike."""
    alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(4))


# -------------------------------------------------------------------- steps


def check_device(hosting: Hosting, token: str, device: Device) -> Participant:
    """Record the device check, and continue if the device is suitable; a larger window may be tried later."""
    rules = hosting.study.experiment.hosting
    fits = device.capable and device.width >= rules.window_width and device.height >= rules.window_height
    fits = fits and (device.megabits is None or device.megabits >= rules.slowest_connection)
    with hosting.database.writing() as connection:
        known = _at(connection, hosting, token)
        if known.phase != "device":
            return known
        values: dict[str, Any] = {
            "window_width": min(max(device.width, 0), 100_000),
            "window_height": min(max(device.height, 0), 100_000),
            "browser": device.browser if device.browser in BROWSERS else "other",
            "evidence": json.dumps({"automation": sorted(set(device.evidence))[:10]}),
            "connection_mbps": device.megabits,
            "outcome": None if fits else "screened out",
            "phase": "consent" if fits else "device",
        }
        return _change(connection, hosting, known, **values)


def agree(hosting: Hosting, token: str, consent_hash: str = "") -> Participant:
    """Record consent to the text with a hash (or the current text), and assign a cell if one has room."""
    with hosting.database.writing() as connection:
        known = _at(connection, hosting, token)
        if known.phase != "consent":
            return known
        cell = choose_cell(connection, hosting, known.pseudonym)
        if cell is None:
            return _leave(connection, hosting, known, "full")
        values = {"consent_hash": consent_hash or hosting.consent_hash, "consented_at": hosting.clock(), "cell": cell}
        return _advance(connection, hosting, known, **values)


def decline(hosting: Hosting, token: str) -> Participant:
    """Record that somebody does not consent."""
    with hosting.database.writing() as connection:
        known = _at(connection, hosting, token)
        return known if known.phase != "consent" else _leave(connection, hosting, known, "no consent")


def answer_colour_vision(hosting: Hosting, token: str, answer: str) -> Participant:
    """Record the answer to the question on colour vision."""
    if answer not in COLOUR_VISION:
        raise HostingError(f"{answer!r} is not an answer to the question on colour vision.")
    return _step(hosting, token, "colour vision", colour_vision=answer)


def answer_lines(hosting: Hosting, token: str, answer: Literal["upper", "lower", "equal"]) -> None:
    """Record which of the two lines somebody takes for the longer one.

    The figure looks like a well-known illusion whose lines are equal, but the lower line is longer by a third. People
    see that; a program that recognises the figure says that both are equal.
    """
    if answer != "lower":
        add_evidence(hosting, token, f"lines {answer}")


def finish_instructions(hosting: Hosting, token: str) -> Participant:
    """Record how long the instructions were read, and continue."""
    with hosting.database.writing() as connection:
        known = _at(connection, hosting, token)
        if known.phase != "instructions":
            return known
        begun = connection.execute(sa.select(people.c.instructions_at).where(people.c.id == known.id)).scalar_one()
        seconds = None if begun is None else known_duration(begun, hosting.clock())
        return _advance(connection, hosting, known, instruction_seconds=seconds)


def known_duration(begun: float, ended: float) -> float | None:
    """Return the seconds between two moments; None if a clock was set back between them: vimi judges nobody by that."""
    return ended - begun if ended >= begun else None


def answer_quiz(hosting: Hosting, token: str, right: bool) -> Participant:
    """Record an attempt at the comprehension quiz; people who fail read again and retry, without limit."""
    with hosting.database.writing() as connection:
        known = _at(connection, hosting, token)
        if known.phase != "quiz":
            return known
        attempts = known.quiz_attempts + 1
        if right:
            return _advance(connection, hosting, known, quiz_attempts=attempts)
        return _change(connection, hosting, known, quiz_attempts=attempts)


def leave_comments(hosting: Hosting, token: str, text: str) -> Participant:
    """Record the free text at the end; it may be empty."""
    return _step(hosting, token, "comments", comments=text.replace("\0", "").strip()[:LONGEST_COMMENT] or None)


def stop(hosting: Hosting, token: str) -> Participant:
    """Let a participant leave before the end; their session is returned and its slot given back."""
    with hosting.database.writing() as connection:
        known = _at(connection, hosting, token)
        if known.phase in ("comments", "debriefing", "end"):
            return known
        end_session(connection, hosting, known.id, "returned")
        return _change(connection, hosting, known, phase="end", outcome="returned", ended_at=hosting.clock())


def see(hosting: Hosting, token: str) -> None:
    """Note that a participant is still there."""
    now = hosting.clock()
    with hosting.database.writing() as connection:
        known = find(connection, hosting, token)
        if known is not None:
            note_seen(connection, known.id, now)


def note_seen(connection: Connection, participant: int, now: float) -> None:
    """Note when a participant was last heard of."""
    connection.execute(_UPDATE, {"participant": participant, "seen_at": now})


def add_evidence(hosting: Hosting, token: str, sign: str) -> None:
    """Record a sign that a program answers; it decides nothing by itself."""
    with hosting.database.writing() as connection:
        known = find(connection, hosting, token)
        if known is None:
            return
        note_sign(connection, known.id, sign)


def add_agent(hosting: Hosting, token: str, agent: str) -> None:
    """Record that an agent signed a participant's requests; it decides nothing by itself."""
    with hosting.database.writing() as connection:
        known = find(connection, hosting, token)
        if known is not None:
            note_agent(connection, known.id, agent)


def add_writing(hosting: Hosting, token: str, writing: Writing) -> None:
    """Record how a participant's comment was written, but nothing of its content."""
    with hosting.database.writing() as connection:
        known = find(connection, hosting, token)
        if known is not None and known.outcome != "withdrawn":
            note_writing(connection, known.id, writing)


def note_sign(connection: Connection, participant: int, sign: str) -> None:
    """Count a sign that a program answers, with a participant's other signs."""
    stored = connection.execute(sa.select(people.c.evidence).where(people.c.id == participant)).scalar()
    evidence = json.loads(stored) if stored else {}
    traps = evidence.setdefault("traps", {})
    if sign in traps or len(traps) < MOST_SIGNS:
        traps[sign[:40]] = traps.get(sign[:40], 0) + 1
    connection.execute(people.update().where(people.c.id == participant).values(evidence=json.dumps(evidence)))


def withdraw(hosting: Hosting, receipt: str) -> int | None:
    """Delete everything that the holder of a receipt code answered.

    What stays is that somebody withdrew and how many answers went, and the keyed hash by which the person is not let
    in twice. Payment is not touched.

    Returns
    -------
    How many answers were deleted, or None if no participant has that code.
    """
    code = receipt.strip().upper()
    with hosting.database.writing() as connection:
        # People of the pilot come here too: there may be no other server any more.
        own = sa.and_(people.c.study == hosting.identity, people.c.receipt == code)
        row = connection.execute(sa.select(people).where(own).with_for_update()).first()
        if row is None:
            return None
        if row.outcome == "withdrawn":
            return 0
        return erase(connection, hosting.identity, row.id, hosting.clock())


def erase(connection: Connection, study: str, participant: int, now: float) -> int:
    """Delete a participant's answers and log the deletion; returns the number of deleted answers."""
    deleted = int(connection.execute(answers.delete().where(answers.c.participant == participant)).rowcount)
    connection.execute(sessions.delete().where(sessions.c.participant == participant))
    connection.execute(
        people.update()
        .where(people.c.id == participant)
        .values(
            phase="end", outcome="withdrawn", comments=None, evidence=None, colour_vision=None, window_width=None,
            window_height=None, browser=None, connection_mbps=None, instruction_seconds=None, ended_at=now,
        )
    )  # fmt: skip
    connection.execute(withdrawals.insert().values(study=study, answers=deleted, at=now))
    return deleted


def count_right(hosting: Hosting, participant: int) -> tuple[int, int]:
    """Return how many answers of a participant are right, and how many there are; practice does not count."""
    with hosting.database.reading() as connection:
        right, answered = connection.execute(
            sa.select(sa.func.count().filter(answers.c.correct), sa.func.count()).where(
                answers.c.participant == participant, answers.c.kind != "practice"
            )
        ).one()
    return int(right), int(answered)


def jump(hosting: Hosting, token: str, phase: Phase) -> Participant:
    """Go to any phase, in a preview."""
    if not hosting.preview:
        raise HostingError("You can only jump between pages in a preview: start vimi serve with --preview.")
    with hosting.database.writing() as connection:
        known = _at(connection, hosting, token)
        end_session(connection, hosting, known.id, "returned")
        values: dict[str, Any] = {"cell": known.cell or next(iter(hosting.layout.cells))}
        if phase == "end":
            values["outcome"] = "failed practice"
        return _change(connection, hosting, known, phase=phase, **values)


# -------------------------------------------------------------------- moving on


def open_session(connection: Connection, participant: int, *, hold: bool = False) -> Row[Any] | None:
    """Return the open session of a participant, if there is one; held until the transaction ends, if so asked."""
    return connection.execute(_HELD_OPEN_SESSION if hold else _OPEN_SESSION, {"participant": participant}).first()


def was_silent(hosting: Hosting, session: Row[Any]) -> bool:
    """Whether nothing has been heard in a session for too long."""
    return bool(hosting.clock() - session.seen_at > hosting.resume_seconds)


def check_silence(connection: Connection, hosting: Hosting, participant: Participant) -> Participant:
    """Send participants back to the practice after too long a break in the trials; others stay where they are.

    It makes no difference whether their slot was given back meanwhile, and whether they reload the page or only wake
    their computer.
    """
    if participant.phase not in ("practice", "trials"):
        return participant
    session = open_session(connection, participant.id)
    if session is not None and not was_silent(hosting, session):
        return participant
    end_session(connection, hosting, participant.id, "timed out")
    return _change(connection, hosting, participant, phase=next_phase(hosting, "quiz"), practice_attempts=0)


def count_sessions(connection: Connection, participant: int) -> int:
    """Return how many sessions a participant has begun."""
    return int(connection.execute(_SESSIONS, {"participant": participant}).scalar_one())


def begin_session(connection: Connection, hosting: Hosting, participant: Participant) -> Row[Any]:
    """Return the open session of a participant, and begin one if there is none."""
    known = open_session(connection, participant.id)
    if known is not None:
        return known
    now = hosting.clock()
    begun = {
        **own_study(hosting), "participant": participant.id,
        "name": f"{participant.pseudonym}-{count_sessions(connection, participant.id) + 1}", "cell": participant.cell,
        "holds": False, "status": "open", "practice_attempts": 0, "begun_at": now, "seen_at": now,
    }  # fmt: skip
    connection.execute(_INSERT_SESSION, begun)
    session = open_session(connection, participant.id)
    if session is None:
        raise HostingError("The session that just began no longer exists; reload the page.")
    return session


def next_phase(hosting: Hosting, phase: Phase) -> Phase:
    """Return what follows a phase in this study."""
    asked = hosting.study.experiment.hosting
    skipped = {
        "colour vision": not asked.colour_vision,
        "quiz": not asked.quiz,
        "practice": hosting.rules.practice_obvious + hosting.rules.practice_less_obvious == 0,
        "comments": not asked.comments,
    }
    following = PHASES[PHASES.index(phase) + 1 :]
    return next(name for name in following if not skipped.get(name, False))


def _at(connection: Connection, hosting: Hosting, token: str) -> Participant:
    """Return the participant with a token; the caller makes sure that a step out of order changes nothing."""
    known = find(connection, hosting, token)
    if known is None:
        raise HostingError("No participant has this link. Open the link that you were given again.")
    return known


def _step(hosting: Hosting, token: str, phase: Phase, **values: Any) -> Participant:
    """Take a step that only records something."""
    with hosting.database.writing() as connection:
        known = _at(connection, hosting, token)
        return known if known.phase != phase else _advance(connection, hosting, known, **values)


def _advance(connection: Connection, hosting: Hosting, known: Participant, **values: Any) -> Participant:
    """Go on to the next phase."""
    phase = next_phase(hosting, known.phase)
    if phase == "instructions":
        values["instructions_at"] = hosting.clock()
    return _change(connection, hosting, known, phase=phase, **values)


def _leave(connection: Connection, hosting: Hosting, known: Participant, outcome: Outcome) -> Participant:
    """End a participant's way before its end."""
    return _change(connection, hosting, known, phase="end", outcome=outcome, ended_at=hosting.clock())


def _change(connection: Connection, hosting: Hosting, known: Participant, **values: Any) -> Participant:
    connection.execute(_UPDATE, {"participant": known.id, "seen_at": hosting.clock(), **values})
    return Participant.of(connection.execute(_BY_ID, {"participant": known.id}).one())
