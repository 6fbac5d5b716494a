"""Coverage of every unit, widths of intervals, and how many more sessions a target needs."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa

from analysis.confidence_sequences import estimate_at_any_time
from analysis.power.forecast import Outlook, look_out, why_unknown
from analysis.variance_components import split_variance
from benchmark.database import answers, people, sessions
from benchmark.estimate import LEVEL, Estimate
from benchmark.units import UNIT_COLUMNS
from webapp.assignment import CellState, cell_states, own_rows
from webapp.dashboard.counting import (
    CELL,
    NEW_UNITS,
    THESE_UNITS,
    Kind,
    main_references,
    read_frame,
    unfilled_slots,
    usable_answers,
)
from webapp.hosting import Hosting


def slots(hosting: Hosting) -> list[CellState]:
    """Return the progress of every cell."""
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
        usable_answers(hosting, kind, *(answers.c[name] for name in keys), sa.func.count().label("answers"))
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
    outlook
        The width of the present interval, and what more sessions would do; None if there is too little to say.
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
    outlook: Outlook | None
    verdict: str
    mean: Estimate | None
    at_any_time: Estimate | None


def precision(hosting: Hosting, kind: Kind = "human") -> list[Precision]:
    """Return the precision of every model's mean in every condition, and the means only when they may be seen."""
    asked = coverage(hosting, kind).groupby(list(CELL)).size()
    full = [answers.c[name] for name in (*UNIT_COLUMNS, "condition", "difficulty")]
    cell = [answers.c[name] for name in CELL]
    right = sa.func.count().filter(answers.c.correct)
    shown = sa.and_(answers.c.kind == "main", answers.c.references == main_references(hosting.study.protocol))
    with hosting.database.reading() as connection:
        by_unit = read_frame(
            connection,
            usable_answers(hosting, kind, *full, sa.func.count().label("n"), right.label("right"))
            .where(shown)
            .group_by(*full),
        )
        by_session = read_frame(
            connection,
            usable_answers(hosting, kind, *cell, sessions.c.id, sessions.c.ended_at, sa.func.count().label("n"),
                    right.label("right"))
            .where(shown)
            .group_by(*cell, sessions.c.id, sessions.c.ended_at)
            .order_by(sessions.c.ended_at, sessions.c.id),
        )  # fmt: skip
        usable = read_frame(
            connection,
            sa.select(sessions.c.cell, sa.func.count().label("n"))
            .join_from(sessions, people, sessions.c.participant == people.c.id)
            .where(own_rows(hosting, sessions), sessions.c.usable, people.c.kind == kind)
            .group_by(sessions.c.cell),
        )
        complete = not unfilled_slots(connection, hosting, kind)
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
        return Precision(*key, units, sessions_, count or 0, None, why_unknown(found), None, at_any_time)
    outlook = look_out(key, found, units, sessions_, target)
    if complete:
        mean = Estimate(
            found.mean, max(found.mean - found.half_width, 0.0), min(found.mean + found.half_width, 1.0),
            "variance components of units and people, Student's t", min(found.units, found.people),
            "proportion correct", NEW_UNITS, LEVEL,
        )  # fmt: skip
    verdict = outlook.answer[0].upper() + outlook.answer[1:]
    return Precision(*key, units, sessions_, count or 0, outlook, verdict, mean, at_any_time)
