"""From the counts of a result file to its scores, the same numbers that ``vimi observe`` and ``vimi analyze`` print.

Counts are spread out into a table of answers, one row each, and that table goes through the very functions that
scored the study. Since those only use each unit's share of right answers (and, of people, each person's with each
unit), nothing is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.intervals.means import BCA, Interval
from analysis.judgement_table import judgements
from analysis.leaderboard.result import MachineCounts, PeopleCounts, Result, Score
from analysis.machines.performance import MachineScore, score_machines
from analysis.machines.pool_sizes import score_pool_sizes
from analysis.proportions import estimate_proportions
from analysis.reliability import estimate_reliability
from benchmark import schemas
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.model_card import TWIN_SUFFIX
from benchmark.observers.base import LOW_LEVEL
from benchmark.progress import Reporter
from benchmark.units import unit_names

QUANTITIES: Mapping[str, str] = {
    "score": "proportion correct",
    "mis": "machine interpretability score: mean probability of the right answer",
    "low_level": "proportion correct of the low-level observer on the same tasks",
    "excess": "score minus low-level, paired by unit: the headline of a machine",
    "twin": "proportion correct on the random-weight twin",
    "trained_minus_twin": "score minus twin, paired by unit",
    "twin_low_level": "proportion correct of the low-level observer on the twin",
    "twin_excess": "twin minus low-level on the twin, paired by unit",
    "score_per_halving": "change of the score for each halving of the pool",
    "excess_per_halving": "change of the excess for each halving of the pool",
    "trained_minus_twin_per_halving": "change of trained minus twin for each halving of the pool",
    "reliability": "how well unit means would agree with those of as many new answers",
    "noise_ceiling": "the largest correlation with unit means that the noise in them allows",
}
"""What a score may be, and what it means."""

PEOPLE = "people"
"""The observer of people's scores: all of them together."""

CONTROLS = (LOW_LEVEL, "random", "oracle", "label")
"""Machine observers that mark the scale; they have no excess and no rank."""

FOLLOWED = ("score", "excess", "trained_minus_twin")
"""Quantities that are followed over smaller pools."""

_MACHINE = ("score", "mis", "low_level", "excess", "twin", "trained_minus_twin")


def spread_machine_counts(result: Result, pool_size: int | None = None) -> pd.DataFrame:
    """Spread a result's machine counts out into a table of responses.

    Parameters
    ----------
    result
        The result.
    pool_size
        Of the counts; the whole pool's if not given.
    """
    size = result.pool.size if pool_size is None else pool_size
    return _together(_spread_machine(result, counts) for counts in result.machines if counts.pool_size == size)


def spread_people_counts(results: Iterable[Result], kind: str = "human") -> pd.DataFrame:
    """Spread people's counts out into a table of responses; people who judged several models are the same in all."""
    return _together(
        _spread_people(result, counts) for result in results for counts in result.people if counts.kind == kind
    )


def _together(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return answers to one file's cells as one table of responses; it is checked once, and not cell by cell."""
    spread = list(parts)
    return schemas.RESPONSES.conform(pd.concat(spread, ignore_index=True)) if spread else schemas.RESPONSES.empty()


def _spread_machine(result: Result, counts: MachineCounts) -> pd.DataFrame:
    answered = np.array(counts.answered)
    unit = np.repeat(np.arange(len(answered)), answered)
    place = np.arange(len(unit)) - np.repeat(np.cumsum(answered) - answered, answered)
    correct = place < np.array(counts.right)[unit]
    probability: Any = None
    if counts.probability:
        with np.errstate(invalid="ignore", divide="ignore"):
            probability = (np.array(counts.probability) / answered)[unit]
    name = result.model.name + (TWIN_SUFFIX if counts.subject == "twin" else "")
    return _table(
        result, name, counts, unit, place, correct,
        observer_kind="machine", observer=counts.observer, related=counts.related, protocol=counts.protocol,
        session=f"{counts.observer}/{name}/{counts.condition}", probability=probability,
    )  # fmt: skip


def _spread_people(result: Result, counts: PeopleCounts) -> pd.DataFrame:
    answered = np.array(counts.answered, dtype=np.int64)
    entry = np.repeat(np.arange(len(answered)), answered)
    place = np.arange(len(entry)) - np.repeat(np.cumsum(answered) - answered, answered)
    people = np.array([f"{counts.study}/{code}" for code in counts.people], dtype=object)
    person = people[np.array(counts.person, dtype=np.int64)[entry]]
    return _table(
        result, result.model.name, counts, np.array(counts.unit, dtype=np.int64)[entry], place,
        place < np.array(counts.right, dtype=np.int64)[entry], observer_kind=counts.kind, observer=person,
        related=False, protocol=result.protocol.identity, session=person,
    )  # fmt: skip


def _table(
    result: Result, model: str, counts: MachineCounts | PeopleCounts, unit: Any, place: Any, correct: Any, **fields: Any
) -> pd.DataFrame:
    """Return answers with the columns of responses; which task an answer was given to is not in a result file."""
    facts = {
        name: pd.array([getattr(item, name) for item in result.units], dtype=kind).take(unit)
        for name, kind in (("layer", "str"), ("basis", "str"), ("index", "int64"), ("aggregator", "str"))
    }
    sides = pd.array(["min", "max"], dtype="str")
    columns = {
        "response_id": pd.array([f"{model}/{n}" for n in range(len(unit))], dtype="str"),
        "study": result.made.study,
        "session_status": "complete",
        "trial": "counted",
        "trial_index": place,
        "kind": "main",
        "model": model,
        **facts,
        "condition": counts.condition,
        "difficulty": counts.difficulty,
        "references": counts.references,
        "task": place,
        "query_top": "max",
        "choice": sides.take(np.asarray(correct, dtype=np.int64)),
        "correct": correct,
        "vimi_version": result.made.versions.get("vimi", ""),
        "stimuli_hash": result.stimuli_hash,
        **fields,
    }
    same = np.zeros(len(unit), dtype=np.int64)
    return pd.DataFrame(
        {
            # A text that stands in every row is taken from one: pandas would look at each of thousands.
            name: pd.array([value], dtype="str").take(same) if isinstance(value, str) else value
            for name, value in columns.items()
        }
    )


def unit_flags(result: Result) -> pd.DataFrame:
    """Return the flags of a result's units, of the model's and of the twin's, as a table of statistics has them."""
    rows = [
        {
            "model": name, "layer": unit.layer, "basis": unit.basis, "index": unit.index,
            "aggregator": unit.aggregator, "used": True, "flag": flag,
        }
        for unit in result.units
        for name, flag in ((result.model.name, unit.flag), (result.model.name + TWIN_SUFFIX, unit.twin_flag))
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["model", "layer", "basis", "index", "aggregator", "used", "flag"])


def interval_of(result: Result) -> Interval:
    """Return how a file's machine intervals were made, by its own words: older files have the paper's bootstrap."""
    return "bca" if any(score.method == BCA for score in result.scores) else "student"


def score_result(result: Result, reporter: Reporter | None = None, interval: Interval = "student") -> tuple[Score, ...]:
    """Compute every score of a result from its counts, the seed of bootstraps being that of its study.

    Parameters
    ----------
    result
        The result; its own scores are not looked at.
    reporter
        Shows progress.
    interval
        How machine intervals are made; :func:`interval_of` tells how a file's were.
    """
    kinds = sorted({counts.kind for counts in result.people})
    scores: list[Score] = []
    with (reporter or Reporter()).task(f"Scoring {result.model.name}", 1 + len(kinds)) as advance:
        if result.machines:
            scores += machine_scores(result, interval)
            advance(1)
        for kind in kinds:
            scores += _people_scores(result, kind)
            advance(1)
    return tuple(scores)


def machine_scores(result: Result, interval: Interval = "student") -> tuple[Score, ...]:
    """Compute the scores by machines, and those of the twin, from a result's counts."""
    if not result.machines:
        return ()
    sizes = sorted({counts.pool_size for counts in result.machines})
    answers = {size: spread_machine_counts(result, size) for size in {*sizes, result.pool.size}}
    parts = pd.concat([answers[size].assign(pool_size=size) for size in sizes], ignore_index=True)
    return (*_machine_scores(result, parts, interval), *_twin_scores(result, answers[result.pool.size], interval))


_anew: dict[str, Result] = {}


def with_todays_intervals(result: Result) -> Result:
    """Return a result with machine intervals of today's method, so that all rows of a table are made alike.

    A file whose intervals are older holds the counts that they were made from: today's are computed from these, once
    for each file and process. The file stays as it is. People's intervals and published ones are the file's.
    """
    if not is_computed_anew(result):
        return result
    if result.hash not in _anew:
        others = tuple(score for score in result.scores if score.observer_kind != "machine")
        _anew[result.hash] = result.model_copy(update={"scores": (*machine_scores(result), *others)})
    return _anew[result.hash]


def is_computed_anew(result: Result) -> bool:
    """Say whether the machine intervals that are shown of a result are not those in its file."""
    return bool(result.machines) and interval_of(result) != "student"


def _machine_scores(result: Result, answers: pd.DataFrame, interval: Interval) -> Iterator[Score]:
    """Yield machines' scores over the whole pool and over its parts, and how they change with its size."""
    for curve in score_pool_sizes(answers, unit_flags(result), seed=result.made.seed, interval=interval):
        for size, point in zip(curve.sizes, curve.points):
            for name in _MACHINE:
                yield from _record(name, getattr(point, name), point, size)
        if curve.per_halving is not None:
            for name in FOLLOWED:
                change: Estimate | None = getattr(curve.per_halving, name)
                yield from _record(f"{name}_per_halving", change, curve.points[0], curve.sizes[0])


def _twin_scores(result: Result, answers: pd.DataFrame, interval: Interval) -> Iterator[Score]:
    """Yield the twin's own excess over the whole pool: scored separately, under a name without the twin's suffix."""
    flags = unit_flags(result)
    trained = set(
        answers.loc[answers["model"] == result.model.name, _CELL].drop_duplicates().itertuples(index=False, name=None)
    )
    alone, flagged = (
        table[table["model"].str.endswith(TWIN_SUFFIX)].assign(model=result.model.name + "@twin")
        for table in (answers, flags)
    )
    for score in score_machines(alone, flagged, seed=result.made.seed, interval=interval) if len(alone) else ():
        if _cell(score) in trained:
            yield from _record("twin_low_level", score.low_level, score, result.pool.size)
            yield from _record("twin_excess", score.excess, score, result.pool.size)


_CELL = ["condition", "difficulty", "references", "observer"]


def _cell(score: MachineScore) -> tuple[str, ...]:
    return (score.condition, score.difficulty, score.references, score.observer)


def _record(quantity: str, estimate: Estimate | None, score: MachineScore, size: int) -> Iterator[Score]:
    if estimate is not None:
        yield _as_score(
            quantity, estimate, condition=score.condition, difficulty=score.difficulty, references=score.references,
            observer_kind="machine", observer=score.observer, pool_size=size,
        )  # fmt: skip


def _as_score(quantity: str, estimate: Estimate, **about: Any) -> Score:
    return Score.model_validate({"quantity": quantity, **about, **estimate.as_dict()})


def _people_scores(result: Result, kind: str) -> Iterator[Score]:
    """Yield people's proportions correct, with two-way intervals, and what noise leaves to be reached."""
    table = counted_judgements([result], kind)
    if table.empty:
        return  # every unit that they were asked about is flagged
    for cell in estimate_proportions(table, by=("condition", "difficulty", "references")):
        names = {name: cell.names[name] for name in ("condition", "difficulty", "references")}
        about = {**names, "observer_kind": kind, "observer": PEOPLE, "pool_size": result.pool.size}
        yield _as_score("score", cell.estimate, **about)
    try:
        reliabilities = estimate_reliability(table[table["references"] == "both"], seed=result.made.seed)
    except AnalysisError:
        return  # too few answers a unit to be split in halves
    for own in reliabilities:
        about = {
            "condition": own.condition, "difficulty": own.difficulty, "references": own.references,
            "observer_kind": kind, "observer": PEOPLE, "pool_size": result.pool.size,
        }  # fmt: skip
        for name, estimate in (("reliability", own.by_answers), ("noise_ceiling", own.ceiling)):
            if np.isfinite(estimate.value):
                yield _as_score(name, estimate, **about)


def merged_people_scores(results: Iterable[Result], kind: str) -> list[Score]:
    """Return people's scores of one model and one set of stimuli, all their answers taken together."""
    asked = [result for result in results if any(counts.kind == kind for counts in result.people)]
    if len(asked) < 2:
        return [score for result in asked for score in result.scores if score.observer_kind == kind]
    people = {counts.key: counts for result in asked for counts in result.people}
    return list(_people_scores(asked[0].model_copy(update={"people": tuple(people.values())}), kind))


def counted_judgements(results: Iterable[Result], kind: str = "human") -> pd.DataFrame:
    """Return people's judgements of some results, without flagged units; see ``analysis.judgement_table``."""
    known = list(results)
    table = judgements(spread_people_counts(known, kind), observer_kinds=(kind,), references=None)
    flags = pd.concat([unit_flags(result) for result in known])
    flagged = flags[flags["flag"] != ""]
    return table[~table["unit"].isin(unit_names(flagged))] if len(flagged) else table
