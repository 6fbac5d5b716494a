"""Reaction times of right and wrong answers: whether wrong ones are hasty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.estimands import spell_estimand
from analysis.intervals.quantiles import percentile_ends
from analysis.psychophysics.cells import main_trials, split_cells
from analysis.results import Record, ResultList
from analysis.settings import Chosen, Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.responses import reaction_seconds

RESAMPLES = 2000
_BY_PERSON = spell_estimand("new people")


@dataclass(frozen=True)
class ReactionTimes(Record):
    """Reaction times in one cell.

    Attributes
    ----------
    cell
        What the cell is.
    right, wrong
        Medians over participants of their median time of right, and wrong, answers, in seconds; None if nobody gave
        such answers.
    ratio
        Wrong over right: the median over participants who gave both; None if there are fewer than two.
    answers, left_out
        Answers with a time, and those whose time is missing or not above 0.
    """

    cell: dict[str, str]
    right: Estimate | None
    wrong: Estimate | None
    ratio: Estimate | None
    answers: int
    left_out: int


@threaded
def reaction_times(
    table: pd.DataFrame,
    by: Sequence[str] = ("model", "condition", "references"),
    **settings: Unpack[Settings],
) -> ResultList[ReactionTimes]:
    """Summarise reaction times of right and wrong answers.

    Parameters
    ----------
    table
        Table of judgements; main trials alone are used.
    by
        Columns that make the cells; those without any time are left out.
    settings
        As for every estimator: :class:`Settings`. Participants are resampled.

    Raises
    ------
    AnalysisError
        If no answer has a reaction time.
    """
    chosen = choose(settings)
    main = main_trials(table)
    seconds = reaction_seconds(main["rt_ms"])
    usable = (seconds > 0).to_numpy() & np.isfinite(seconds.to_numpy())
    if not usable.any():
        raise AnalysisError(f"None of the {len(main):,} answers has a reaction time. Leave this analysis out.")
    results = []
    for cell, own in split_cells(main.assign(seconds=seconds.to_numpy(), usable=usable), by):
        good = own[own["usable"]]
        if good.empty:
            continue
        person = good["participant"].astype(str)
        medians = good.groupby([person, good["correct"] == 1], sort=True)["seconds"].median().unstack()
        right, wrong = (
            medians[side].dropna().to_numpy(np.float64) if side in medians else np.empty(0) for side in (True, False)
        )
        both = (
            (medians[False] / medians[True]).dropna().to_numpy(np.float64) if len(medians.columns) == 2 else np.empty(0)
        )
        results.append(
            ReactionTimes(
                cell=cell,
                right=_median(right, "s", chosen),
                wrong=_median(wrong, "s", chosen),
                ratio=_median(both, "ratio", chosen) if len(both) > 1 else None,
                answers=len(good),
                left_out=len(own) - len(good),
            )
        )
    return ResultList(results)


def _median(values: NDArray[np.float64], unit: str, settings: Chosen) -> Estimate | None:
    """Return the median with a percentile bootstrap over participants."""
    level, resamples = settings.level, settings.resamples
    if not len(values):
        return None
    value = float(np.median(values))
    if len(values) == 1:
        return Estimate(value, 0.0, math.inf, "no interval: one participant", 1, unit, _BY_PERSON, level)
    rng = np.random.default_rng(settings.seed)
    sample = np.median(rng.choice(np.sort(values), size=(resamples, len(values))), axis=1)
    low, high = percentile_ends(sample, level)
    method = (
        f"median over participants of their medians, percentile bootstrap over participants, {resamples:,} resamples"
    )
    return Estimate(value, min(low, value), max(high, value), method, len(values), unit, _BY_PERSON, level)
