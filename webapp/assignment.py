"""Who gets which session slot, so that every unit ends with its judgements.

A slot is leased when a participant passes the practice, given back after inactivity, and offered anew until a usable
session holds it. Since the slots of a cell are passes over its units, units then differ by one judgement at most. If
all slots are taken by people who are still at work, the next one is opened behind the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from analysis.exclusions import judge_sessions, protocol_rules
from benchmark.database import answers, people, read_answers, read_sessions, sessions
from benchmark.errors import HostingError
from benchmark.randomness import generator_from
from webapp.hosting import Hosting

ON_THEIR_WAY = ("consent", "colour vision", "instructions", "quiz", "practice")
"""Phases of people who have no slot yet."""


@dataclass(frozen=True)
class CellState:
    """How far a cell is.

    Attributes
    ----------
    name
        Its name.
    slots
        Slots to fill.
    usable
        Slots that a usable session holds.
    leased
        Slots that somebody is working on.
    coming
        People in the cell who have no slot yet and were seen lately.
    """

    name: str
    slots: int
    usable: int
    leased: int
    coming: int

    @property
    def free(self) -> int:
        """Free slots."""
        return self.slots - self.usable - self.leased


def own_rows(hosting: Hosting, table: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition that a row belongs to the hosted study, or to its pilot."""
    return sa.and_(table.c.study == hosting.identity, table.c.pilot == hosting.pilot)


def rows_of_study(table: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition that a row belongs to the study, or pilot, that :func:`own_study` names at execution."""
    return sa.and_(table.c.study == sa.bindparam("study"), table.c.pilot == sa.bindparam("pilot"))


# What everybody who agrees is asked about, put together once: SQLAlchemy takes longer to do so than SQLite to answer.
_OWN_SESSIONS = rows_of_study(sessions)
_SILENT = (
    sa.select(sessions.c.id)
    .where(_OWN_SESSIONS, sessions.c.status == "open", sessions.c.seen_at < sa.bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_HELD = (
    sa.select(sessions.c.cell, sessions.c.usable, sa.func.count())
    .where(_OWN_SESSIONS, sessions.c.holds)
    .group_by(sessions.c.cell, sessions.c.usable)
)
_COMING = (
    sa.select(people.c.cell, sa.func.count())
    .where(rows_of_study(people), people.c.phase.in_(ON_THEIR_WAY), people.c.seen_at >= sa.bindparam("limit"))
    .group_by(people.c.cell)
)
_TRIED = sa.select(sa.func.count(), sa.func.count(sessions.c.leased_at)).where(_OWN_SESSIONS)
_OPENED = sa.select(sessions.c.cell, sessions.c.slot).where(_OWN_SESSIONS, sessions.c.slot.is_not(None)).distinct()


def own_study(hosting: Hosting) -> dict[str, Any]:
    """Return what says that rows of the hosted study, or of its pilot, are asked about."""
    return {"study": hosting.identity, "pilot": hosting.pilot}


def refuse_mixing(hosting: Hosting) -> None:
    """Check that a study's database holds answers of people only, or of simulated people only.

    They would take one another's slots. A pilot, whose answers count for nothing, may mix them.

    Raises
    ------
    HostingError
        If it holds those of the other kind.
    """
    if hosting.pilot:
        return
    other = "human" if hosting.bots else "simulated"
    with hosting.database.reading() as connection:
        count = connection.execute(
            sa.select(sa.func.count(people.c.id.distinct()))
            .join(answers, answers.c.participant == people.c.id)
            .where(own_rows(hosting, people), people.c.kind == other)
        ).scalar_one()
    if not count:
        return
    if hosting.bots:
        raise HostingError(
            f"{hosting.database} holds answers of {count} people to this study, and simulated people would take their "
            "slots. Name a separate database with --database, or send the simulated people into the pilot with "
            "--pilot."
        )
    raise HostingError(
        f"{hosting.database} holds answers of {count} simulated people to this study, who would take real people's "
        "slots. Name another database with --database."
    )


def release_stale(connection: Connection, hosting: Hosting) -> int:
    """Give back the slots of people who have been silent for too long; returns how many."""
    limit = hosting.clock() - hosting.resume_seconds
    # Whoever is just now being served is not silent: their row is skipped, not waited for. (Two servers that waited
    # for each other's would never end.)
    silent = connection.execute(_SILENT, {**own_study(hosting), "limit": limit}).scalars().all()
    if not silent:
        return 0
    result = connection.execute(
        sessions.update()
        .where(sessions.c.id.in_(silent))
        .values(status="timed out", holds=False, ended_at=sessions.c.seen_at)
    )
    return int(result.rowcount)


def cell_states(connection: Connection, hosting: Hosting) -> list[CellState]:
    """Return the progress of every cell."""
    opened = _opened(connection, hosting)
    limit = hosting.clock() - hosting.resume_seconds
    held = connection.execute(_HELD, own_study(hosting)).fetchall()
    coming: dict[str | None, int] = {
        cell: int(count) for cell, count in connection.execute(_COMING, {**own_study(hosting), "limit": limit})
    }
    return [
        CellState(
            name,
            len(hosting.layout.slots(name, opened.get(name, ()))),
            sum(count for cell, usable, count in held if cell == name and usable),
            sum(count for cell, usable, count in held if cell == name and not usable),
            int(coming.get(name, 0)),
        )
        for name in hosting.layout.cells
    ]


def choose_cell(connection: Connection, hosting: Hosting, pseudonym: str) -> str | None:
    """Return the cell for a newcomer, or None if every cell is full.

    The cell that lacks the largest share of its slots comes first; ties are drawn. People who are on their way, and
    the newcomer too, count with the share of earlier ones who came through the practice: too many would need slots
    behind the plan.
    """
    release_stale(connection, hosting)
    share = _share_who_pass(connection, hosting)
    lacking = {
        state.name: (state.free - share * state.coming) / state.slots
        for state in cell_states(connection, hosting)
        if state.free >= share * (state.coming + 1)
    }
    if not lacking:
        return None
    most = max(lacking.values())
    best = [name for name, value in lacking.items() if value >= most - 1e-12]
    return best[int(generator_from(hosting.study.experiment.seed, "cell", pseudonym).integers(len(best)))]


def _share_who_pass(connection: Connection, hosting: Hosting) -> float:
    """Estimate the share of people who pass the practice, from those who have reached it."""
    tried, passed = connection.execute(_TRIED, own_study(hosting)).one()
    return float((passed + 4) / (tried + 5))  # four in five, until there is something to count


def lease_slot(connection: Connection, hosting: Hosting, session: int) -> str:
    """Give a session the first free slot, or open one beyond the plan.

    A participant never gets a slot twice. Servers that lease at the same moment can't get the same slot: the
    database refuses the second, which then takes the next.
    """
    release_stale(connection, hosting)
    row = connection.execute(sa.select(sessions).where(sessions.c.id == session)).one()
    opened = _opened(connection, hosting).get(row.cell, set())
    taken = set(
        connection.execute(
            sa.select(sessions.c.slot).where(own_rows(hosting, sessions), sessions.c.cell == row.cell, sessions.c.holds)
        ).scalars()
    )
    taken |= set(
        connection.execute(sa.select(sessions.c.slot).where(sessions.c.participant == row.participant)).scalars()
    )
    candidates = [slot for slot in hosting.layout.slots(row.cell, opened) if slot not in taken]
    now = hosting.clock()
    while True:
        slot = candidates.pop(0) if candidates else hosting.layout.next_slot(row.cell, opened)
        try:
            with connection.begin_nested():
                connection.execute(
                    sessions.update()
                    .where(sessions.c.id == session)
                    .values(slot=slot, holds=True, leased_at=now, seen_at=now)
                )
        except IntegrityError:
            opened = opened | {slot}
            continue
        return slot


def _opened(connection: Connection, hosting: Hosting) -> dict[str, set[str]]:
    """Return the slots of each cell that were ever leased."""
    rows = connection.execute(_OPENED, own_study(hosting))
    found: dict[str, set[str]] = {}
    for cell, slot in rows:
        found.setdefault(cell, set()).add(slot)
    return found


def settle(connection: Connection, hosting: Hosting, session: int) -> bool:
    """Finish a session: judge it by the protocol's exclusion rules, and keep or give back its slot.

    Returns whether it is usable. Whoever finished is paid all the same.
    """
    connection.execute(
        sessions.update().where(sessions.c.id == session).values(status="complete", ended_at=hosting.clock())
    )
    facts = {"pilot": hosting.pilot, "session": session}
    judged = judge_sessions(
        read_sessions(connection, hosting.identity, **facts),  # type: ignore[arg-type]
        read_answers(connection, hosting.identity, **facts),  # type: ignore[arg-type]
        protocol_rules(hosting.study.protocol),
    ).iloc[0]
    usable = bool(judged["usable"])
    row = connection.execute(sa.select(sessions.c.slot, sessions.c.holds).where(sessions.c.id == session)).one()
    holds = usable and (row.holds or not _is_held(connection, hosting, row.slot))
    connection.execute(
        sessions.update()
        .where(sessions.c.id == session)
        .values(usable=usable, reasons=judged["reasons"] or None, holds=holds)
    )
    return usable


def _is_held(connection: Connection, hosting: Hosting, slot: str) -> bool:
    """Whether somebody holds a slot."""
    query = sa.select(sessions.c.id).where(own_rows(hosting, sessions), sessions.c.slot == slot, sessions.c.holds)
    return connection.execute(query).first() is not None


def end_session(connection: Connection, hosting: Hosting, participant: int, status: str) -> None:
    """End the open session of a participant who left, and give its slot back."""
    connection.execute(
        sessions.update()
        .where(sessions.c.participant == participant, sessions.c.status == "open")
        .values(status=status, holds=False, ended_at=hosting.clock())
    )


def count_answers(connection: Connection, session: int) -> int:
    """Return how many answers a session has."""
    return int(
        connection.execute(
            sa.select(sa.func.count()).select_from(answers).where(answers.c.session == session)
        ).scalar_one()
    )
