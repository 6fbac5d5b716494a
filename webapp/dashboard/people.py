"""Who came, who left where, who was seen last, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray

from analysis.intervals.quantiles import critical_value
from benchmark.database import answers, people, sessions
from benchmark.estimate import LEVEL, Estimate
from webapp.assignment import own_rows
from webapp.dashboard.counting import (
    LATEST,
    Kind,
    unfilled_slots,
    wilson,
)
from webapp.hosting import Hosting
from webapp.participation import PHASES


@dataclass(frozen=True)
class Recruitment:
    """How many people came, how far they got, and where they left.

    Attributes
    ----------
    arrived, at_work, silent, finished, withdrawn
        People: all; not at the end and seen lately; not at the end and silent for longer than a session is kept;
        through to the end; withdrawn since.
    steps
        Table of ``step``, ``reached`` and ``share`` of all who arrived. Of people who withdrew, only the consent and
        the end are known any more.
    phases
        Table of ``phase``, ``at work`` and ``silent``: where those are who have not come to an end.
    outcomes
        Table of ``outcome`` and ``people``.
    completion
        Share who finished of those who are no longer at work.
    arrivals
        When people came, and when those who finished did: seconds since 1970, in order.
    endings
        As ``arrivals``.
    """

    arrived: int
    at_work: int
    silent: int
    finished: int
    withdrawn: int
    steps: pd.DataFrame
    phases: pd.DataFrame
    outcomes: pd.DataFrame
    completion: Estimate | None
    arrivals: NDArray[np.float64]
    endings: NDArray[np.float64]


def recruitment(hosting: Hosting, kind: Kind = "human") -> Recruitment:
    """Count how many people came, how far they got and where they left."""
    own = (
        sa.select(sessions.c.participant, sa.func.count(sessions.c.leased_at).label("leased"))
        .where(own_rows(hosting, sessions))
        .group_by(sessions.c.participant)
        .subquery()
    )
    columns = (
        people.c.phase, people.c.outcome, people.c.arrived_at, people.c.seen_at, people.c.finished_at,
        people.c.consented_at, people.c.instruction_seconds, own.c.leased,
    )  # fmt: skip
    query = (
        sa.select(*columns)
        .join_from(people, own, own.c.participant == people.c.id, isouter=True)
        .where(own_rows(hosting, people), people.c.kind == kind)
        .order_by(people.c.arrived_at)
    )
    with hosting.database.reading() as connection:
        frame = pd.DataFrame(connection.execute(query).fetchall(), columns=[column.name for column in columns])
    outcome = frame["outcome"].fillna("")
    finished = frame["finished_at"].notna()
    # Whoever failed the device check may still try a larger window: an outcome, but no end.
    under_way = (outcome == "") & (frame["phase"] != "end")
    recent = frame["seen_at"].astype(float) >= hosting.clock() - hosting.resume_seconds
    steps = [
        ("arrived", len(frame)),
        ("consented", int(frame["consented_at"].notna().sum())),
        ("read the instructions", int(frame["instruction_seconds"].notna().sum())),
        ("began the practice", int(frame["leased"].notna().sum())),
        ("passed the practice", int((frame["leased"].fillna(0).astype(int) > 0).sum())),
        ("finished", int(finished.sum())),
    ]
    phases = [
        (name, int((here & recent).sum()), int((here & ~recent).sum()))
        for name in PHASES
        if name != "end" and (here := under_way & (frame["phase"] == name)).any()
    ]
    counted = Counter(outcome[outcome != ""])
    done = len(frame) - int((under_way & recent).sum())
    return Recruitment(
        arrived=len(frame),
        at_work=int((under_way & recent).sum()),
        silent=int((under_way & ~recent).sum()),
        finished=int(finished.sum()),
        withdrawn=int((outcome == "withdrawn").sum()),
        steps=pd.DataFrame(
            [(name, count, count / len(frame) if len(frame) else 0.0) for name, count in steps],
            columns=["step", "reached", "share"],
        ),
        phases=pd.DataFrame(phases, columns=["phase", "at work", "silent"]),
        outcomes=pd.DataFrame(counted.most_common(), columns=["outcome", "people"]),
        completion=wilson(int(finished.sum()), done, "proportion of people", "people who come as these did"),
        arrivals=frame["arrived_at"].to_numpy(dtype=np.float64),
        endings=np.sort(frame.loc[finished, "finished_at"].to_numpy(dtype=np.float64)),
    )


def last_seen(hosting: Hosting, kind: Kind = "human") -> pd.DataFrame:
    """Return who is at work, latest first: ``participant``, ``phase``, ``answers``, ``seconds since``."""
    counts = (
        sa.select(answers.c.participant, sa.func.count().label("answers")).group_by(answers.c.participant).subquery()
    )
    query = (
        sa.select(people.c.pseudonym, people.c.phase, sa.func.coalesce(counts.c.answers, 0), people.c.seen_at)
        .join_from(people, counts, counts.c.participant == people.c.id, isouter=True)
        .where(
            own_rows(hosting, people), people.c.kind == kind, people.c.phase != "end", people.c.outcome.is_(None),
            people.c.seen_at >= hosting.clock() - hosting.resume_seconds,
        )
        .order_by(people.c.seen_at.desc())
        .limit(LATEST)
    )  # fmt: skip
    with hosting.database.reading() as connection:
        rows = connection.execute(query).fetchall()
    frame = pd.DataFrame(rows, columns=["participant", "phase", "answers", "seconds since"])
    frame["seconds since"] = (hosting.clock() - frame["seconds since"].astype(float)).clip(lower=0)
    return frame


@dataclass(frozen=True)
class Cost:
    """What people are paid, without the recruiter's fees.

    Attributes
    ----------
    each
        Pay of a session, in USD.
    paid_people
        Who is to be paid in full: whoever finished, excluded, withdrawn or not.
    partly_paid
        Who is paid in part: whoever consented and failed the practice, if the experiment pays for that.
    so_far
        Pay of both.
    missing
        Planned slots that no usable session fills yet.
    usable
        Share of finished sessions that are usable.
    expected
        Pay in all once every planned slot is filled, at the share of usable sessions so far.
    """

    each: float
    paid_people: int
    partly_paid: int
    so_far: float
    missing: int
    usable: Estimate | None
    expected: Estimate


def cost(hosting: Hosting, kind: Kind = "human") -> Cost:
    """Return what has to be paid so far, and what will have to be in all."""
    with hosting.database.reading() as connection:
        finished, usable = connection.execute(
            sa.select(sa.func.count(), sa.func.count().filter(sessions.c.usable))
            .join_from(sessions, people, sessions.c.participant == people.c.id)
            .where(own_rows(hosting, sessions), people.c.kind == kind, sessions.c.status == "complete")
        ).one()
        full = connection.execute(
            sa.select(sa.func.count().filter(people.c.finished_at.is_not(None))).where(
                own_rows(hosting, people), people.c.kind == kind
            )
        ).scalar_one()
        sent_away = connection.execute(
            sa.select(people.c.outcome, sa.func.count())
            .where(own_rows(hosting, people), people.c.kind == kind, people.c.finished_at.is_(None))
            .group_by(people.c.outcome)
        ).fetchall()
        missing = len(unfilled_slots(connection, hosting, kind))
    each = hosting.payment_usd
    parts = {outcome: int(count) for outcome, count in sent_away if hosting.part_payment_usd(outcome)}
    partly = sum(parts.values())
    so_far = full * each + sum(count * hosting.part_payment_usd(outcome) for outcome, count in parts.items())
    share = wilson(usable, finished, "proportion of sessions", "finished sessions of people who come as these did")
    what = "pay until every planned slot is filled, without fees"
    if share is None:
        expected = Estimate(
            so_far + missing * each, so_far + missing * each, math.inf,
            "nobody has finished yet: as if every session were usable", 0, "USD", what,
        )  # fmt: skip
    else:
        # The middle of Wilson's interval stands in for the share, which may still be 0.
        square = critical_value(LEVEL) ** 2
        middle = (usable + square / 2) / (finished + square)
        expected = Estimate(
            so_far + missing * each / middle, so_far + missing * each / share.high,
            so_far + missing * each / share.low if share.low > 0 else math.inf,
            "from the Wilson interval of the share of usable sessions", finished, "USD", what,
        )  # fmt: skip
    return Cost(each, int(full), partly, so_far, missing, share, expected)
