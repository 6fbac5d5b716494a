"""What the dashboard's numbers share: whose they are, which answers count, and whether the plan is filled."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from analysis.intervals.wilson import interval_of_count
from benchmark.database import answers, people, sessions
from benchmark.estimate import LEVEL, Estimate
from benchmark.protocol import Protocol
from webapp.assignment import own_rows
from webapp.hosting import Hosting

Kind = Literal["human", "simulated"]
"""Whose numbers: people's, or simulated people's."""

CELL = ("model", "condition", "difficulty")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LATEST = 50
"""Problems and participants listed at most."""

NEW_UNITS = "new units of this model and new people; references on both sides"
THESE_UNITS = "these units, new people whose sessions are usable; references on both sides"


def wilson(successes: int, tries: int, unit: str, estimand: str = "") -> Estimate | None:
    """Return a proportion with Wilson's interval, or None if nothing was tried."""
    if tries == 0:
        return None
    low, high = interval_of_count(successes, tries, LEVEL)
    return Estimate(successes / tries, low, high, "Wilson interval", tries, unit, estimand, LEVEL)


def kinds_present(hosting: Hosting) -> list[Kind]:
    """Return whose numbers there are: people always, simulated people if any came."""
    with hosting.database.reading() as connection:
        query = sa.select(people.c.id).where(own_rows(hosting, people), people.c.kind == "simulated").limit(1)
        return ["human", "simulated"] if connection.execute(query).first() else ["human"]


def unfilled_slots(connection: Connection, hosting: Hosting, kind: Kind) -> set[str]:
    """Return the planned slots that no usable session of that kind of people fills."""
    filled = set(
        connection.execute(
            sa.select(sessions.c.slot)
            .join_from(sessions, people, sessions.c.participant == people.c.id)
            .where(own_rows(hosting, sessions), sessions.c.usable, people.c.kind == kind)
        ).scalars()
    )
    return {slot for cell in hosting.layout.cells for slot in hosting.layout.slots(cell)} - filled


def is_complete(hosting: Hosting, kind: Kind = "human") -> bool:
    """Whether every planned slot is filled with a usable session: the stopping rule of the frozen plan."""
    with hosting.database.reading() as connection:
        return not unfilled_slots(connection, hosting, kind)


def usable_answers(hosting: Hosting, kind: Kind, *columns: Any) -> sa.Select[Any]:
    """Return a query over the answers of usable sessions."""
    return (
        sa.select(*columns)
        .join_from(answers, sessions, answers.c.session == sessions.c.id)
        .join(people, sessions.c.participant == people.c.id)
        .where(own_rows(hosting, sessions), sessions.c.usable, people.c.kind == kind)
    )


def read_frame(connection: Connection, query: sa.Select[Any]) -> pd.DataFrame:
    """Run a query and return what it found as a table."""
    result = connection.execute(query)
    return pd.DataFrame(result.fetchall(), columns=list(result.keys()))


def main_references(protocol: Protocol) -> str:
    """Return which references most main trials show: the others are controls, and are scored apart."""
    shares = protocol.rules.session.references
    return max(shares, key=lambda name: shares[name])
