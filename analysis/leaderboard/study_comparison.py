"""Comparing a result file with its study: the result is made again from the study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.leaderboard.consistency import Counts, Inspection, compare_scores, conclude, every_count, name_cell, spell
from analysis.leaderboard.making import make_results
from analysis.leaderboard.pictures import open_sheet
from analysis.leaderboard.result import PeopleCounts, Result, Sheet
from benchmark.errors import LeaderboardError, VimiError
from benchmark.progress import Reporter
from benchmark.study import Study

if TYPE_CHECKING:
    import pandas as pd

PROBABILITY_TOLERANCE = 1e-4
"""By how much a unit's sum of probabilities may differ from the study's: devices differ in their last digits."""

PICTURE_TOLERANCE = 6.0
"""Mean difference of a unit's pictures (of 255) from the study's: other versions of the WebP library compress
differently.
"""


def compare_with_study(
    result: Result, study: Study, pool_sizes: pd.DataFrame | None, database: str, reporter: Reporter | None
) -> list[Inspection]:
    """Make the result again from its study, and say where the file differs."""
    try:
        made = make_results(
            study, models=[result.model.name], pool_sizes=pool_sizes, people=bool(result.people),
            pictures=bool(result.pictures), database=database, reporter=reporter,
        )[0]  # fmt: skip
    except VimiError as error:
        return [Inspection("study", False, f"It can't be made from {study.root}: {error}")]
    facts = [
        f"{name}: the file says {spell(mine)}, the study {spell(theirs)}"
        for name, mine, theirs in _facts(result, made)
        if mine != theirs
    ]
    return [
        conclude("study", facts, f"Weights, stimuli, pool, protocol and units match {study.root}.",
               f"It was not made from the present state of {study.root}."),
        _compare_counts(result, made),
        conclude("scores of the study", wrong := list(compare_scores(result.scores, made.scores, "the study gives")),
               f"All {len(made.scores)} match the study.", f"{len(wrong)} do not match the study."),
        _compare_pictures(result, made),
    ]  # fmt: skip


def _facts(result: Result, made: Result) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a file and its study say of the same things."""
    for part in ("model", "pool", "protocol"):
        mine, theirs = (getattr(own, part).model_dump(mode="json") for own in (result, made))
        yield from ((f"{part} {name}", mine[name], theirs[name]) for name in theirs)
    shown = {facts.condition: facts for facts in made.stimuli}
    for facts in result.stimuli:
        yield (
            f"stimuli, {facts.condition}",
            facts.model_dump(),
            (shown.pop(facts.condition).model_dump() if facts.condition in shown else None),
        )
    yield from ((f"stimuli, {condition}", None, facts.model_dump()) for condition, facts in shown.items())
    yield "notes", result.notes, made.notes
    yield "hash of the study", result.made.study, made.made.study
    yield "seed", result.made.seed, made.made.seed
    yield "experiment", result.made.experiment, made.made.experiment
    yield "number of units", len(result.units), len(made.units)
    for mine, theirs in zip(result.units, made.units):
        yield f"unit {theirs.layer}:{theirs.index}", _rounded(mine.model_dump()), _rounded(theirs.model_dump())


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 9) if isinstance(value, float) else value for name, value in values.items()}


def _compare_counts(result: Result, made: Result) -> Inspection:
    mine, theirs = ({own.key: own for own in every_count(of)} for of in (result, made))
    wrong = [f"{name_cell(counts)}: the study has no such answers" for key, counts in mine.items() if key not in theirs]
    wrong += [f"{name_cell(counts)}: the file lacks them" for key, counts in theirs.items() if key not in mine]
    for key in mine.keys() & theirs.keys():
        wrong += [f"{name_cell(mine[key])}: {text}" for text in _count_differences(mine[key], theirs[key], result)]
    answers = sum(sum(counts.answered) for counts in theirs.values())
    hint = "; if people have answered since, make a new file" if result.people else ""
    return conclude("counts of the study", sorted(wrong), f"All counts match the study's {answers:,} answers.",
                  f"Its counts do not match the study's answers{hint}.")  # fmt: skip


def _count_differences(mine: Counts, theirs: Counts, result: Result) -> Iterator[str]:
    if isinstance(mine, PeopleCounts) or isinstance(theirs, PeopleCounts):
        if mine != theirs:
            yield (
                f"the file says {sum(mine.right):,} of {sum(mine.answered):,} right, the study "
                f"{sum(theirs.right):,} of {sum(theirs.answered):,}" + (
                    "" if (sum(mine.right), sum(mine.answered)) != (sum(theirs.right), sum(theirs.answered))
                    else ", but by other people or about other units"
                )
            )  # fmt: skip
        return
    for number, pairs in enumerate(zip(mine.right, mine.answered, theirs.right, theirs.answered)):
        right, answered, true, asked = pairs
        if (right, answered) != (true, asked):
            unit = result.units[number]
            said = f"the file says {right} of {answered} right, the study {true} of {asked}"
            yield f"unit {unit.layer}:{unit.index}: {said}"
    if mine.related != theirs.related:
        yield f"related: the file says {mine.related}, the study {theirs.related}"
    apart = len(mine.probability) != len(theirs.probability) or not np.allclose(
        mine.probability, theirs.probability, rtol=0, atol=PROBABILITY_TOLERANCE
    )
    if apart:
        yield "probabilities of the right answers differ"


def _compare_pictures(result: Result, made: Result) -> Inspection:
    theirs = {sheet.condition: sheet for sheet in made.pictures}
    wrong = [
        f"the sheet of {sheet.condition} differs from what the study showed"
        for sheet in result.pictures
        if sheet.condition not in theirs or not _shows_the_same(sheet, theirs[sheet.condition])
    ]
    return conclude("pictures of the study", wrong, "Its pictures match the study.",
                  "Its pictures do not match the study.")  # fmt: skip


def _shows_the_same(one: Sheet, other: Sheet) -> bool:
    if (one.columns, one.side, one.units) != (other.columns, other.side, other.units):
        return False
    try:
        first, second = (np.asarray(open_sheet(sheet), dtype=np.float32) for sheet in (one, other))
    except LeaderboardError:
        return False
    # By row of pictures: one unit's that was exchanged must not drown among hundreds that were not.
    rows = np.abs(first - second).reshape(len(one.units), -1).mean(axis=1)
    return bool((rows <= PICTURE_TOLERANCE).all())
