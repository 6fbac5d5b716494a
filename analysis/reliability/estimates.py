"""Reliability: how well the mean of a unit's answers would agree with the mean of as many new ones.

A unit's proportion correct rests on a handful of answers, and is noisy. Its *reliability* is the share of the variance
between unit means that is not noise, and the correlation to expect with a second set of as many answers. It caps
what a machine can reach: no score correlates with the noise of these people, so none correlates with their unit means
by more than the square root of the reliability (the *noise ceiling*).

Two ways lead to it, and both are given. Split halves: the answers of each unit are dealt into two halves at random, the
halves' unit means are correlated, and the correlation is stepped up to the full number of answers (Spearman, 1910;
Brown, 1910). Analysis of variance: the intraclass correlation, from mean squares between and within units (Shrout &
Fleiss, 1979, case 1; for proportions Ridout, Demetrio & Firth, 1999). A negative estimate says that units differ less
than chance would make them differ; it is reported as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from analysis.estimands import spell_estimand
from analysis.groups import KEYS, count_answers, groups, spell_group
from analysis.intervals.bootstrap import resample_weights
from analysis.reliability.analysis_of_variance import intraclass
from analysis.reliability.ceilings import noise_ceiling
from analysis.reliability.curves import TARGET, answers_needed
from analysis.reliability.intervals import reliability_estimate, reliability_of_fewer
from analysis.reliability.split_halves import (
    SPLITS,
    no_spread,
    order_by_people,
    split_answers,
    split_half,
    split_participants,
)
from analysis.results import Record, ResultList, spread_out
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class Reliability(Record):
    """How reliable the unit means of one model are, in one condition.

    Attributes
    ----------
    answers_per_unit
        Mean number of answers a unit: the number that all reliabilities here speak of.
    by_answers
        Split halves of each unit's answers, stepped up by Spearman-Brown.
    by_participants
        The same with people split, not answers: nobody is in both halves. None if nobody can be split.
    intraclass
        Intraclass correlation of the mean of so many answers.
    single
        Intraclass correlation of a single answer.
    needed
        Answers a unit that give the target reliability.
    ceiling
        Highest correlation that an errorless score of units can be expected to have with these unit means.
    """

    model: str
    condition: str
    difficulty: str
    references: str
    answers_per_unit: float
    by_answers: Estimate
    by_participants: Estimate | None
    intraclass: Estimate
    single: Estimate
    target: float
    needed: Estimate
    ceiling: Estimate

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table: each estimate with its interval."""
        row: dict[str, Any] = {name: getattr(self, name) for name in (*KEYS, "answers_per_unit")}
        row["units"] = self.intraclass.n
        for name in ("by_answers", "by_participants", "intraclass", "single", "needed", "ceiling"):
            row |= spread_out(name, getattr(self, name))
        return row


@threaded
def estimate_reliability(
    judgements: pd.DataFrame,
    *,
    splits: int = SPLITS,
    target: float = TARGET,
    **settings: Unpack[Settings],
) -> ResultList[Reliability]:
    """Estimate the reliability of unit means, for each model, condition, difficulty and kind of references.

    Parameters
    ----------
    judgements
        Table of judgements. Units with a single answer say nothing of noise and are left out.
    splits
        Random halves to average over.
    target
        Reliability that the number of answers needed is asked for; between 0 and 1.
    settings
        As for every estimator: :class:`Settings`. Units are resampled; the seed is that of splits as well.

    Raises
    ------
    AnalysisError
        If fewer than ``LEAST_UNITS`` units have two answers, or the unit means do not differ.
    """
    chosen = choose(settings)
    level = chosen.level
    if not 0 < target < 1:
        raise AnalysisError(f"A target reliability must lie between 0 and 1, not at {target}.")
    results = []
    for names, own in groups(judgements):
        where = spell_group(names)
        counts = order_by_people(own, count_answers(own, least=2, where=where))
        answers, right = counts["answers"].to_numpy(), counts["right"].to_numpy()
        rng = np.random.default_rng(chosen.seed)
        weights = resample_weights(len(counts), chosen.resamples, rng)
        every = np.ones((1, len(counts)))
        mean = float(answers.mean())

        estimand = spell_estimand("new units")
        stepped = float(intraclass(every, answers, right)[1][0])
        if math.isnan(stepped) or np.ptp(right / answers) == 0:
            raise no_spread(where)
        icc = reliability_estimate(
            stepped,
            intraclass(weights, answers, right)[1],
            "intraclass correlation (one-way analysis of variance) of the mean of a unit's answers",
            len(counts),
            estimand,
            level,
        )
        one = reliability_of_fewer(
            icc, 1 / mean, "intraclass correlation (one-way analysis of variance) of a single answer"
        )
        halves = split_answers(answers, right, answers // 2, splits, rng)
        by_answers = split_half(
            halves, float(mean / (answers // 2).mean()), weights, "answers within each unit", where, estimand, level
        )
        parted = split_participants(own, counts, splits, rng)
        by_participants = (
            None if parted is None else split_half(parted, 2.0, weights, "participants", where, estimand, level)
        )
        results.append(
            Reliability(
                **names,
                answers_per_unit=mean,
                by_answers=by_answers,
                by_participants=by_participants,
                intraclass=icc,
                single=one,
                target=target,
                needed=answers_needed(one, target),
                ceiling=noise_ceiling(icc),
            )
        )
    return ResultList(results)
