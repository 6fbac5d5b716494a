"""What an experimenter may know while a study runs: every number of the admin page, as a plain function.

People and simulated people never stand in one number, nor do a study and its pilot, and only usable sessions count
where answers are judged. Means stay in here: an early look at them is a temptation to stop when they please (peeking),
so that they come out when every planned slot is filled, or as confidence sequences, which may be looked at any time.
Functions read the database alone, mostly in aggregates, so that a page with 60,000 answers behind it is drawn at once.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from scipy.stats import norm, quantile_test
from sqlalchemy.engine import Connection
from statsmodels.stats.proportion import proportion_confint

from analysis.confidence_sequences import estimate_at_any_time
from analysis.exclusions import protocol_rules
from analysis.variance_components import Components, split_variance
from benchmark.database import answers, people, sessions
from benchmark.estimate import Estimate
from benchmark.protocol import Protocol
from benchmark.tasks import UNIT_COLUMNS
from webapp.assignment import CellState, cell_states, own_rows
from webapp.hosting import Hosting
from webapp.participation import PHASES
from webapp.store import problems, read_setting, write_setting

Kind = Literal["human", "simulated"]
"""Whose numbers: people's, or simulated people's."""

LEVEL = 0.95
CELL = ("model", "condition", "difficulty")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LATEST = 50
"""Problems and participants listed at most."""

NEW_UNITS = "new units of this model and new people; references on both sides"
THESE_UNITS = "these units, new people whose sessions are usable; references on both sides"


def wilson(successes: int, tries: int, unit: str, estimand: str = "") -> Estimate | None:
    """Return a proportion with Wilson's interval, or None if nothing was tried.

    Reference: Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22.
    """
    if tries == 0:
        return None
    low, high = (float(end) for end in proportion_confint(successes, tries, 1 - LEVEL, method="wilson"))
    value = successes / tries
    return Estimate(value, min(low, value), max(high, value), "Wilson interval", tries, unit, estimand, LEVEL)


def kinds_present(hosting: Hosting) -> list[Kind]:
    """Return whose numbers there are: people always, simulated people if any came."""
    with hosting.database.reading() as connection:
        query = sa.select(people.c.id).where(own_rows(hosting, people), people.c.kind == "simulated").limit(1)
        return ["human", "simulated"] if connection.execute(query).first() else ["human"]


# -------------------------------------------------------------------- recruitment


@dataclass(frozen=True)
class Recruitment:
    """Who came, how far they got, and where they left.

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
    """Count who came, how far they got and where they left."""
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


# -------------------------------------------------------------------- cost


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
        full, part = connection.execute(
            sa.select(
                sa.func.count().filter(people.c.finished_at.is_not(None)),
                sa.func.count().filter(people.c.outcome == "failed practice"),
            ).where(own_rows(hosting, people), people.c.kind == kind)
        ).one()
        missing = len(_unfilled(connection, hosting, kind))
    each = hosting.payment_usd
    partly = int(part) if hosting.recruitment.partial_payment_usd else 0
    so_far = full * each + partly * hosting.recruitment.partial_payment_usd
    share = wilson(usable, finished, "proportion of sessions", "finished sessions of people who come as these did")
    what = "pay until every planned slot is filled, without fees"
    if share is None:
        expected = Estimate(
            so_far + missing * each, so_far + missing * each, math.inf,
            "nobody has finished yet: as if every session were usable", 0, "USD", what,
        )  # fmt: skip
    else:
        # The middle of Wilson's interval stands in for the share, which may still be 0.
        square = float(norm.ppf((1 + LEVEL) / 2)) ** 2
        middle = (usable + square / 2) / (finished + square)
        expected = Estimate(
            so_far + missing * each / middle, so_far + missing * each / share.high,
            so_far + missing * each / share.low if share.low > 0 else math.inf,
            "from the Wilson interval of the share of usable sessions", finished, "USD", what,
        )  # fmt: skip
    return Cost(each, int(full), partly, so_far, missing, share, expected)


def _unfilled(connection: Connection, hosting: Hosting, kind: Kind) -> set[str]:
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
        return not _unfilled(connection, hosting, kind)


# -------------------------------------------------------------------- coverage


def slots(hosting: Hosting) -> list[CellState]:
    """Return how far every cell is, whoever holds its slots."""
    with hosting.database.reading() as connection:
        return cell_states(connection, hosting)


def coverage(hosting: Hosting, kind: Kind = "human") -> pd.DataFrame:
    """Return the usable main answers about each unit in each condition.

    Returns
    -------
    One row for each unit, condition and difficulty that the study asks about, those without an answer too: what
    names a unit, ``condition``, ``difficulty``, ``target`` (answers that are planned), ``answers``, and ``position``,
        counting the units of a model.
    """
    keys = [*UNIT_COLUMNS, "condition", "difficulty"]
    asked = pd.concat([plan.cell.tasks[keys].drop_duplicates() for plan in hosting.layout.cells.values()])
    # A later wave asks about an anchor's units once more.
    asked = asked.groupby(keys, sort=True).size().rename("target").reset_index()
    asked["target"] *= hosting.rules.responses_per_unit
    query = (
        _usable(hosting, kind, *(answers.c[name] for name in keys), sa.func.count().label("answers"))
        .where(answers.c.kind == "main")
        .group_by(*(answers.c[name] for name in keys))
    )
    with hosting.database.reading() as connection:
        counted = pd.DataFrame(connection.execute(query).fetchall(), columns=[*keys, "answers"])
    table = asked.merge(counted.astype({"answers": "int64"}), on=keys, how="left")
    table["answers"] = table["answers"].fillna(0).astype(int)
    table = table.sort_values(["condition", "difficulty", *UNIT_COLUMNS], ignore_index=True)
    table["position"] = table.groupby(list(CELL)).cumcount() + 1
    return table


def summarize_coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Return the fewest and most answers per unit by model, condition and difficulty, from :func:`coverage`."""
    grouped = table.groupby(list(CELL), sort=True)
    return grouped.agg(
        units=("answers", "size"), fewest=("answers", "min"), most=("answers", "max"), answers=("answers", "sum"),
        of=("target", "sum"),
    ).reset_index()  # fmt: skip


def _usable(hosting: Hosting, kind: Kind, *columns: Any) -> sa.Select[Any]:
    """Return a query over the answers of usable sessions."""
    return (
        sa.select(*columns)
        .join_from(answers, sessions, answers.c.session == sessions.c.id)
        .join(people, sessions.c.participant == people.c.id)
        .where(own_rows(hosting, sessions), sessions.c.usable, people.c.kind == kind)
    )


# -------------------------------------------------------------------- precision


@dataclass(frozen=True)
class Precision:
    """How sure the mean of a model is in a condition, and what it would take to be as sure as planned.

    Attributes
    ----------
    model, condition, difficulty
        What it is about.
    units
        Units that are asked about.
    sessions
        Usable sessions in which they could be asked about.
    answers
        Their answers with references on both sides.
    width
        Width of the present interval, for new units and new people; None if there is too little to say.
    narrowest
        Width that no number of sessions gets below with these units.
    more_sessions
        Sessions that are still needed for the target; infinity where they would not help; None if unknown.
    units_needed
        Units that the target needs at least, where the present ones are too few.
    verdict
        The same in a sentence.
    mean
        The mean, once it may be seen.
    at_any_time
        The present end of its confidence sequence, if the experiment shows those.
    """

    model: str
    condition: str
    difficulty: str
    units: int
    sessions: int
    answers: int
    width: float | None
    narrowest: float | None
    more_sessions: Estimate | None
    units_needed: int | None
    verdict: str
    mean: Estimate | None
    at_any_time: Estimate | None


def precision(hosting: Hosting, kind: Kind = "human") -> list[Precision]:
    """Return how sure every model's mean is in every condition; the means themselves only when they may be seen."""
    asked = coverage(hosting, kind).groupby(list(CELL)).size()
    full = [answers.c[name] for name in (*UNIT_COLUMNS, "condition", "difficulty")]
    cell = [answers.c[name] for name in CELL]
    right = sa.func.count().filter(answers.c.correct)
    shown = sa.and_(answers.c.kind == "main", answers.c.references == main_references(hosting.study.protocol))
    with hosting.database.reading() as connection:
        by_unit = _frame(
            connection,
            _usable(hosting, kind, *full, sa.func.count().label("n"), right.label("right"))
            .where(shown)
            .group_by(*full),
        )
        by_session = _frame(
            connection,
            _usable(hosting, kind, *cell, sessions.c.id, sessions.c.ended_at, sa.func.count().label("n"),
                    right.label("right"))
            .where(shown)
            .group_by(*cell, sessions.c.id, sessions.c.ended_at)
            .order_by(sessions.c.ended_at, sessions.c.id),
        )  # fmt: skip
        usable = _frame(
            connection,
            sa.select(sessions.c.cell, sa.func.count().label("n"))
            .join_from(sessions, people, sessions.c.participant == people.c.id)
            .where(own_rows(hosting, sessions), sessions.c.usable, people.c.kind == kind)
            .group_by(sessions.c.cell),
        )
        complete = not _unfilled(connection, hosting, kind)
    session_counts = dict(zip(usable["cell"], usable["n"]))
    units, people_ = dict(iter(by_unit.groupby(list(CELL)))), dict(iter(by_session.groupby(list(CELL))))
    in_sequence = hosting.study.experiment.hosting.show_means == "confidence_sequences"
    found = []
    for key, count in asked.items():
        own = _sessions_of(hosting, key, session_counts)
        found.append(
            _precision(
                key,
                int(count),
                own,
                units.get(key),
                people_.get(key),
                hosting.study.experiment.hosting.target_width,
                complete,
                in_sequence,
            )
        )
    return found


def main_references(protocol: Protocol) -> str:
    """Return which references most main trials show: the others are controls, and are scored apart."""
    shares = protocol.rules.session.references
    return max(shares, key=lambda name: shares[name])


def _sessions_of(hosting: Hosting, key: tuple[str, str, str], counts: dict[str, int]) -> int:
    """Return the usable sessions in whose cells a model is asked about."""
    total = 0
    for name, plan in hosting.layout.cells.items():
        tasks = plan.cell.tasks
        asked = (tasks["model"] == key[0]) & (tasks["condition"] == key[1]) & (tasks["difficulty"] == key[2])
        total += counts.get(name, 0) if bool(asked.any()) else 0
    return int(total)


def _precision(
    key: tuple[str, str, str],
    units: int,
    sessions_: int,
    by_unit: pd.DataFrame | None,
    by_session: pd.DataFrame | None,
    target: float,
    complete: bool,
    in_sequence: bool,
) -> Precision:
    found = count = None
    if by_unit is not None and by_session is not None:
        count = int(by_unit["n"].sum())
        found = split_variance(by_unit["n"], by_unit["right"], by_session["n"], by_session["right"])
    mean = at_any_time = None
    if by_session is not None and in_sequence:
        at_any_time = estimate_at_any_time(
            by_session["right"] / by_session["n"], unit="proportion correct", estimand=THESE_UNITS
        )
    if found is None or not found.spreads:
        verdict = "Too few answers yet to say how wide the interval is."
        return Precision(*key, units, sessions_, count or 0, None, None, None, None, verdict, None, at_any_time)
    width = 2 * found.half_width
    narrowest = found.width_after(math.inf, units)
    more = _more_sessions(found, units, sessions_, target)
    needed = None if math.isfinite(more.value) else found.units_for(target)
    if complete:
        mean = Estimate(
            found.mean, max(found.mean - found.half_width, 0.0), min(found.mean + found.half_width, 1.0),
            "variance components of units and people, Student's t", min(found.units, found.people),
            "proportion correct", NEW_UNITS, LEVEL,
        )  # fmt: skip
    verdict = _verdict(width, narrowest, more, needed, units, target)
    return Precision(*key, units, sessions_, count or 0, width, narrowest, more, needed, verdict, mean, at_any_time)


def _more_sessions(found: Components, units: int, so_far: int, target: float) -> Estimate:
    """Estimate how many more sessions the target needs; its interval carries the variance between units alone."""
    # Components speak of sessions that met the model at all; crossed sessions may miss it now and then.
    share = found.people / max(so_far, found.people)

    def more(components: Components) -> float:
        return max(math.ceil(components.sessions_for(target, units) / share) - so_far, 0) if _reaches(components) else (
            math.inf
        )  # fmt: skip

    def _reaches(components: Components) -> bool:
        return math.isfinite(components.sessions_for(target, units))

    low, high = found.unit_ends()
    value = more(found)
    return Estimate(
        value, min(more(low), value), max(more(high), value),
        "variance components; interval from the variance between units (chi-square)", found.units, "sessions",
        f"sessions like those so far until the interval is {target:g} wide", LEVEL,
    )  # fmt: skip


def _verdict(width: float, narrowest: float, more: Estimate, needed: int | None, units: int, target: float) -> str:
    if width <= target:
        return f"The interval is {width:.3f} wide: as narrow as planned ({target:g})."
    if needed is not None:
        return (
            f"No number of sessions reaches a width of {target:g} with {units} units: at best {narrowest:.3f}. "
            f"It takes {needed} units or more."
        )
    if math.isinf(more.high):
        range_ = f"at least {more.low:,.0f}; it may be that no number is enough"
    else:
        range_ = f"{more.low:,.0f} to {more.high:,.0f}"
    return f"About {more.value:,.0f} more sessions ({range_}) until the interval is {target:g} wide."


def _frame(connection: Connection, query: sa.Select[Any]) -> pd.DataFrame:
    result = connection.execute(query)
    return pd.DataFrame(result.fetchall(), columns=list(result.keys()))


# -------------------------------------------------------------------- quality


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
        who.update(signs.keys())
        times.update(signs)
    return pd.DataFrame(
        [(sign, number, times[sign]) for sign, number in who.most_common()], columns=["sign", "people", "times"]
    )


@dataclass(frozen=True)
class ReactionTimes:
    """How long people take, in milliseconds.

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


def reaction_times(hosting: Hosting, kind: Kind = "human") -> ReactionTimes:
    """Return how long people take: quantiles over sessions, since answers of one person hang together."""
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
    medians = np.sort(frame.groupby("session")["rt_ms"].median().to_numpy(dtype=np.float64))
    return ReactionTimes(medians, {q: _quantile(medians, q) for q in QUANTILES} if len(medians) else {}, len(frame))


def _quantile(values: NDArray[np.float64], share: float) -> Estimate:
    """Estimate a quantile with the interval between two order statistics (Conover, 1999, section 3.2)."""
    value = float(np.quantile(values, share))
    interval = quantile_test(values, q=value, p=share).confidence_interval(LEVEL)
    low, high = float(interval.low), float(interval.high)
    return Estimate(
        value, min(low, value) if math.isfinite(low) else 0.0, max(high, value) if math.isfinite(high) else math.inf,
        "order statistics of session medians", len(values), "ms", "people who come as these did", LEVEL,
    )  # fmt: skip


# -------------------------------------------------------------------- problems


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


# -------------------------------------------------------------------- early looks

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
