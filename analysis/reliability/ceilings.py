"""What a reliability leaves to be reached: ceilings of correlations and of predicted answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd

from analysis.arguments import check_kind
from analysis.arrays import Floats, Integers
from analysis.estimands import spell_estimand
from analysis.groups import count_answers, groups, spell_group
from analysis.intervals.means import estimate_mean
from analysis.reliability.intervals import keep_prefix
from analysis.results import Record, ResultList
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class AccuracyCeiling(Record):
    """How often single answers can be predicted with knowledge of units, but not of people.

    Attributes
    ----------
    lower
        Each answer predicted by the majority of the unit's other answers: what is surely possible.
    upper
        Each answer predicted by the majority of all the unit's answers, its own among them: what is surely not exceeded
        by a rule that gives one answer a unit.
    """

    model: str
    condition: str
    difficulty: str
    references: str
    lower: Estimate
    upper: Estimate


@threaded
def accuracy_ceiling(judgements: pd.DataFrame, **settings: Unpack[Settings]) -> ResultList[AccuracyCeiling]:
    """Estimate how often a single answer could be predicted at best, for each model and condition.

    Raises
    ------
    AnalysisError
        If fewer than ``LEAST_UNITS`` units have two answers.
    """
    level = choose(settings).level
    results = []
    for names, own in groups(judgements):
        counts = count_answers(own, least=2, where=spell_group(names))
        k, s = counts["answers"].to_numpy(), counts["right"].to_numpy()

        def majority(right: Integers, of: Integers) -> Floats:
            return np.where(2 * right == of, 0.5, (2 * right > of).astype(np.float64))

        # Without one right answer, s - 1 of k - 1 are right; without a wrong one, s of k - 1 are.
        others = (s * majority(s - 1, k - 1) + (k - s) * (1 - majority(s, k - 1))) / k
        estimand = spell_estimand("new units")
        unit = "proportion predicted"
        results.append(
            AccuracyCeiling(
                **names,
                lower=estimate_mean(others, unit=unit, level=level, estimand=estimand),
                upper=estimate_mean(np.maximum(s, k - s) / k, unit=unit, level=level, estimand=estimand),
            )
        )
    return ResultList(results)


def noise_ceiling(reliability: Estimate) -> Estimate:
    """Return the highest correlation that a score can be expected to have with unit means of such reliability.

    It is the square root of the reliability (Spearman, 1904). A reliability below 0 gives a ceiling of 0; one above 1,
    which sampling error can give, a ceiling of 1.
    """
    check_kind(reliability, Estimate, "reliability", "estimate_reliability(...)[0].reliability is one.")
    value, low, high = (
        math.sqrt(min(max(end, 0.0), 1.0)) for end in (reliability.value, reliability.low, reliability.high)
    )
    note = "; 0 stands for a negative reliability" if reliability.low < 0 else ""
    return Estimate(
        value,
        low,
        high,
        keep_prefix(reliability.method, f"square root of the reliability: {{}}{note}"),
        reliability.n,
        "correlation",
        reliability.estimand,
        reliability.level,
    )
