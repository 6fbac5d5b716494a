"""Reliability that the interval of a published mean implies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Unpack

from analysis.intervals.quantiles import critical_value
from analysis.reliability.curves import TARGET
from analysis.results import Record
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError


@dataclass(frozen=True)
class ImpliedReliability(Record):
    """Reliability that a published mean with its interval implies.

    Attributes
    ----------
    reliability
        Of unit means; negative if units differ less than chance makes them differ.
    observed_deviation, true_deviation
        Standard deviations of unit means, and of what they would be with endless answers (0 if the variance is
        negative).
    ceiling
        Square root of the reliability, 0 if that is negative.
    needed
        Answers a unit for the target reliability; infinite if the reliability is not positive.
    """

    reliability: float
    observed_deviation: float
    true_deviation: float
    ceiling: float
    needed: float


@threaded
def implied_reliability(
    mean: float,
    low: float,
    high: float,
    units: int,
    answers: float,
    *,
    target: float = TARGET,
    **settings: Unpack[Settings],
) -> ImpliedReliability:
    """Return the reliability that a published mean over units, with its interval, implies.

    The interval's width gives the standard deviation of unit means, and the mean gives the chance part of it: with
    ``V`` the variance of unit means of ``k`` answers and ``p`` their mean, the variance between units with endless
    answers is ``(V - p (1 - p) / k) / (1 - 1 / k)``, since the expected binomial variance is ``p (1 - p)`` less the
    variance between units (Kuder & Richardson, 1937, formula 21).

    Parameters
    ----------
    mean, low, high
        Proportion correct and its interval by resampling units.
    units, answers
        How many units, and answers a unit.
    settings
        As for every estimator: :class:`Settings`. The level is that of the published interval.

    Raises
    ------
    AnalysisError
        If the figures can't be such an interval.
    """
    if not (0 < mean < 1 and low < high and low <= mean <= high and units >= 2 and answers > 1):
        raise AnalysisError(
            f"vimi can't compute a reliability from a mean of {mean} [{low}, {high}] with {units} units and "
            f"{answers} answers per unit. The mean must lie between 0 and 1 and within its interval, with at least "
            "two units and two answers."
        )
    error = (high - low) / (2 * critical_value(choose(settings).level))
    observed = error**2 * units
    true = (observed - mean * (1 - mean) / answers) / (1 - 1 / answers)
    reliability = true / observed
    factor = target / (1 - target)
    return ImpliedReliability(
        reliability=reliability,
        observed_deviation=math.sqrt(observed),
        true_deviation=math.sqrt(max(true, 0.0)),
        ceiling=math.sqrt(max(reliability, 0.0)),
        needed=factor * answers * (1 - reliability) / reliability if reliability > 0 else math.inf,
    )
