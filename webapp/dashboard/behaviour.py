"""How people answer: catch trials, practice, reaction times, signs of programs; and what went wrong."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from scipy.stats import quantile_test

from analysis.exclusions import protocol_rules
from benchmark.database import answers, people, sessions
from benchmark.estimate import LEVEL, Estimate
from benchmark.responses import reaction_seconds
from webapp.assignment import own_rows
from webapp.dashboard.counting import (
    LATEST,
    QUANTILES,
    Kind,
    is_complete,
    wilson,
)
from webapp.hosting import Hosting
from webapp.store import problems, read_setting, write_setting


@dataclass(frozen=True)
class Quality:
    """How well people follow the task.

    Attributes
    ----------
    catch
        Share of finished sessions that pass the catch trials.
    practice
        Share of people who come through the practice, of those who came to the end of it.
    usable
        Share of finished sessions that are usable.
    visible, focused
        Share of answers during which the page stayed visible, and the window kept the focus.
    rules
        Table of ``rule``, ``meaning``, ``fail`` and ``fail only this``, over finished sessions.
    signs
        Table of ``sign``, ``people`` and ``times``: what may hint at a program. It decides nothing by itself.
    """

    catch: Estimate | None
    practice: Estimate | None
    usable: Estimate | None
    visible: Estimate | None
    focused: Estimate | None
    rules: pd.DataFrame
    signs: pd.DataFrame


def quality(hosting: Hosting, kind: Kind = "human") -> Quality:
    """Return how well people follow the task."""
    own = (own_rows(hosting, sessions), people.c.kind == kind)
    with hosting.database.reading() as connection:
        reasons = connection.execute(
            sa.select(sessions.c.reasons)
            .join_from(sessions, people, sessions.c.participant == people.c.id)
            .where(*own, sessions.c.status == "complete")
        ).scalars()
        failed = [[part for part in (text or "").split(", ") if part] for text in reasons]
        passed, missed = connection.execute(
            sa.select(
                sa.func.count(sa.distinct(people.c.id)).filter(sessions.c.leased_at.is_not(None)),
                sa.func.count(sa.distinct(people.c.id)).filter(people.c.outcome == "failed practice"),
            )
            .join_from(people, sessions, sessions.c.participant == people.c.id)
            .where(*own)
        ).one()
        seen = connection.execute(
            sa.select(
                sa.func.count(answers.c.visible), sa.func.count().filter(answers.c.visible),
                sa.func.count(answers.c.focused), sa.func.count().filter(answers.c.focused),
            )
            .join_from(answers, sessions, answers.c.session == sessions.c.id)
            .join(people, sessions.c.participant == people.c.id)
            .where(*own, answers.c.kind != "practice")
        ).one()  # fmt: skip
        evidence = connection.execute(
            sa.select(people.c.evidence).where(own_rows(hosting, people), people.c.kind == kind,
                                               people.c.evidence.is_not(None))
        ).scalars().all()  # fmt: skip
    rules = [
        (rule.name, rule.meaning, sum(rule.name in f for f in failed), sum(f == [rule.name] for f in failed))
        for rule in protocol_rules(hosting.study.protocol)
    ]
    count = len(failed)
    catch = hosting.rules.catch_trials > 0
    return Quality(
        catch=wilson(count - sum("catch" in f for f in failed), count, "proportion of sessions") if catch else None,
        practice=wilson(passed, passed + missed, "proportion of people"),
        usable=wilson(sum(not f for f in failed), count, "proportion of sessions"),
        visible=wilson(seen[1], seen[0], "proportion of answers"),
        focused=wilson(seen[3], seen[2], "proportion of answers"),
        rules=pd.DataFrame(rules, columns=["rule", "meaning", "fail", "fail only this"]),
        signs=_signs(evidence),
    )


def _signs(evidence: Sequence[str]) -> pd.DataFrame:
    """Count the signs of programs in what was recorded about people."""
    who: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for text in evidence:
        known = json.loads(text)
        signs = {f"automation: {name}": 1 for name in known.get("automation", [])}
        signs |= {f"trap: {name}": int(number) for name, number in known.get("traps", {}).items()}
        signs |= {f"signed agent: {name}": 1 for name in known.get("agents", [])}
        who.update(signs.keys())
        times.update(signs)
    return pd.DataFrame(
        [(sign, number, times[sign]) for sign, number in who.most_common()], columns=["sign", "people", "times"]
    )


@dataclass(frozen=True)
class SessionTimes:
    """How long people take, in seconds.

    Attributes
    ----------
    medians
        Median of the main answers of each finished session, in order.
    quantiles
        Quantiles of these medians, each with a distribution-free interval over sessions.
    answers
        Answers that they rest on.
    """

    medians: NDArray[np.float64]
    quantiles: dict[float, Estimate]
    answers: int


def reaction_times(hosting: Hosting, kind: Kind = "human") -> SessionTimes:
    """Return how long people take: quantiles over sessions, since answers of one person are correlated."""
    query = (
        sa.select(answers.c.session, answers.c.rt_ms)
        .join_from(answers, sessions, answers.c.session == sessions.c.id)
        .join(people, sessions.c.participant == people.c.id)
        .where(
            own_rows(hosting, sessions), people.c.kind == kind, sessions.c.status == "complete",
            answers.c.kind == "main", answers.c.rt_ms.is_not(None),
        )
    )  # fmt: skip
    with hosting.database.reading() as connection:
        rows = connection.execute(query).fetchall()
    frame = pd.DataFrame(rows, columns=["session", "rt_ms"])
    seconds = frame.assign(seconds=reaction_seconds(frame["rt_ms"])).groupby("session")["seconds"]
    medians = np.sort(seconds.median().to_numpy(dtype=np.float64))
    return SessionTimes(medians, {q: _quantile(medians, q) for q in QUANTILES} if len(medians) else {}, len(frame))


def _quantile(values: NDArray[np.float64], share: float) -> Estimate:
    """Estimate a quantile with the interval between two order statistics (Conover, 1999, section 3.2)."""
    value = float(np.quantile(values, share))
    interval = quantile_test(values, q=value, p=share).confidence_interval(LEVEL)
    low, high = float(interval.low), float(interval.high)
    return Estimate(
        value, min(low, value) if math.isfinite(low) else 0.0, max(high, value) if math.isfinite(high) else math.inf,
        "order statistics of session medians", len(values), "s", "people who come as these did", LEVEL,
    )  # fmt: skip


@dataclass(frozen=True)
class Problems:
    """What went wrong.

    Attributes
    ----------
    kinds
        Table of ``kind``, ``times``, ``trials`` (how many different ones) and ``last`` (seconds since 1970).
    latest
        Table of the latest: ``at``, ``kind``, ``trial``, ``participant``, ``detail``. The detail was sent by
        browsers: whoever shows it must escape it.
    """

    kinds: pd.DataFrame
    latest: pd.DataFrame


def found_problems(hosting: Hosting, latest: int = LATEST) -> Problems:
    """Return missing pictures, slow decoding and errors, with the trials they happened in."""
    own = problems.c.study == hosting.identity
    with hosting.database.reading() as connection:
        kinds = connection.execute(
            sa.select(
                problems.c.kind, sa.func.count(), sa.func.count(sa.distinct(problems.c.trial)),
                sa.func.max(problems.c.at),
            )
            .where(own)
            .group_by(problems.c.kind)
            .order_by(sa.func.count().desc(), problems.c.kind)
        ).fetchall()  # fmt: skip
        rows = connection.execute(
            sa.select(problems.c.at, problems.c.kind, problems.c.trial, problems.c.pseudonym, problems.c.detail)
            .where(own)
            .order_by(problems.c.at.desc(), problems.c.id.desc())
            .limit(latest)
        ).fetchall()
    return Problems(
        pd.DataFrame(kinds, columns=["kind", "times", "trials", "last"]),
        pd.DataFrame(rows, columns=["at", "kind", "trial", "participant", "detail"]),
    )


def is_paused(hosting: Hosting) -> bool:
    """Whether newcomers are turned away for now."""
    with hosting.database.reading() as connection:
        return bool(read_setting(connection, hosting.identity, "paused", False))


EARLY_LOOKS = "early_looks"
"""Setting under which it is kept who took the answers out before the plan was filled, for the report to say so."""


def early_looks(hosting: Hosting) -> list[dict[str, Any]]:
    """Return when answers were taken out before every planned slot was filled: ``at`` and ``what``."""
    with hosting.database.reading() as connection:
        return list(read_setting(connection, hosting.identity, EARLY_LOOKS, []))


def note_look(hosting: Hosting, what: str) -> None:
    """Note that answers are taken out, if that is early."""
    if hosting.pilot or is_complete(hosting):
        return
    with hosting.database.writing() as connection:
        known = list(read_setting(connection, hosting.identity, EARLY_LOOKS, []))
        known.append({"at": hosting.clock(), "what": what})
        write_setting(connection, hosting.identity, EARLY_LOOKS, known)
