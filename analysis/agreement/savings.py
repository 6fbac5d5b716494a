"""The most that a machine can save: one that knows each unit's true human score."""

from __future__ import annotations

import math

from analysis.agreement.powered_means import SharedPeople
from analysis.arrays import Floats
from benchmark.errors import AnalysisError


def saving_bound(
    unit: float,
    person: float,
    answer: float,
    *,
    answers_per_unit: float,
    answers_per_person: float,
    labelled: int = 1,
    unlabelled: float = math.inf,
) -> float:
    """Return the saving of a machine that knows each unit's true human score: what no machine can pass.

    With ``n`` labelled units, ``k`` answers each, ``m`` by one person, the human-only variance is
    ``(unit + (m person + answer) / k) / n``. A perfect machine on ``N`` further units leaves ``unit / (n + N)`` of the
    first part: its optimal weight is ``N / (n + N)``. The rest is the luck of people and answers, which nothing about
    the units predicts. The bound is the ratio of the two.

    Parameters
    ----------
    unit, person, answer
        Variances between units, between people, and of single answers beyond both.
    answers_per_unit, answers_per_person
        The numbers k and m.
    labelled, unlabelled
        The numbers n and N; with endlessly many further units, the default, n does not matter.

    Raises
    ------
    AnalysisError
        If a variance is negative, all are 0, or a number of answers is not positive.
    """
    if min(unit, person, answer) < 0 or answers_per_unit <= 0 or answers_per_person <= 0 or labelled < 1:
        raise AnalysisError("A bound on savings needs variances of at least 0, and at least one answer and one unit.")
    luck = (answers_per_person * person + answer) / answers_per_unit
    if unit + luck == 0:
        raise AnalysisError("All variances are 0: there is nothing to save.")
    left = 0.0 if math.isinf(unlabelled) else unit * labelled / (labelled + unlabelled)
    return math.inf if left + luck == 0 else (unit + luck) / (left + luck)


def saving_bounds(y: Floats, counts: Floats, further: int, shared: SharedPeople) -> tuple[float, float]:
    """Return the bound on the saving with so many further units and with endlessly many; NaN with one answer a unit."""
    if (counts < 2).any():
        return math.nan, math.nan
    n = len(y)
    seen = float(y.var(ddof=1))
    noise = min(float((y * (1 - y) / (counts - 1)).mean()), seen)
    unit = seen - noise
    if noise + n * shared.variance <= 0:
        return math.inf if unit > 0 else 1.0, math.inf if unit > 0 else 1.0
    luck = noise + n * shared.variance
    return (unit + luck) / (unit * n / (n + further) + luck), (unit + luck) / luck
