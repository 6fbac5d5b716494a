"""Reliability against the number of answers a unit, and how many answers give the one that is wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from analysis.arrays import Integers
from analysis.estimands import spell_estimand
from analysis.groups import KEYS, LEAST_UNITS, count_answers, groups, spell_group
from analysis.intervals.bootstrap import resample_weights
from analysis.reliability.analysis_of_variance import intraclass
from analysis.reliability.ceilings import noise_ceiling
from analysis.reliability.intervals import keep_prefix, reliability_estimate, reliability_of_fewer
from analysis.reliability.split_halves import SPLITS_RESAMPLED, mean_correlation, no_spread, split_answers
from analysis.results import Plotted, Record, ResultList, spread_out
from analysis.settings import Chosen, Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

TARGET = 0.9


@dataclass(frozen=True)
class CurvePoint(Record):
    """Reliability of the mean of some answers a unit: observed, where units have twice as many, and predicted."""

    answers: int
    predicted: Estimate
    observed: Estimate | None


@dataclass(frozen=True)
class ReliabilityCurve(Plotted, Record):
    """Reliability against answers a unit, for one model and condition.

    Attributes
    ----------
    points
        By number of answers. Predicted: Spearman-Brown from the intraclass correlation. Observed: correlation of two
        disjoint random sets of so many answers a unit, with no formula in between.
    """

    model: str
    condition: str
    difficulty: str
    references: str
    points: tuple[CurvePoint, ...]

    def frame(self) -> pd.DataFrame:
        """Return one row a point; observed values are missing where units have too few answers."""
        names = {name: getattr(self, name) for name in KEYS}
        return pd.DataFrame(
            [
                names
                | {"answers": point.answers, "units_observed": point.observed.n if point.observed else 0}
                | spread_out("predicted", point.predicted)
                | spread_out("observed", point.observed)
                for point in self.points
            ]
        )

    def _draw(self, **options: Any) -> Any:
        """Draw reliability and ceiling against answers for each unit."""
        return self._draw_all([self], **options)

    @staticmethod
    def _draw_all(curves: Sequence[ReliabilityCurve], **options: Any) -> Any:
        """Draw several curves in one panel."""
        from analysis.figures import plot_reliability_curve

        return plot_reliability_curve(curve_points(curves), **options)


def curve_points(curves: Sequence[ReliabilityCurve]) -> pd.DataFrame:
    """Return the data of the figure: the predicted curves, with what was observed where it could be.

    Returns
    -------
    Columns ``series``, ``answers``, ``value``, ``low``, ``high``, ``ceiling`` and ``observed_value`` with their ends.
    """
    rows = []
    for curve in curves:
        for point in curve.points:
            own, ceiling, observed = point.predicted, noise_ceiling(point.predicted), point.observed
            rows.append(
                {
                    "series": f"{curve.model}, {curve.condition}" if len(curves) > 1 else curve.condition,
                    "answers": point.answers, "value": own.value, "low": own.low, "high": own.high,
                    "ceiling": ceiling.value, "ceiling_low": ceiling.low, "ceiling_high": ceiling.high,
                    "observed_value": observed.value if observed else None,
                    "observed_low": observed.low if observed else None,
                    "observed_high": observed.high if observed else None,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


@threaded
def reliability_curve(
    judgements: pd.DataFrame,
    *,
    answers: Sequence[int] | None = None,
    splits: int = SPLITS_RESAMPLED,
    **settings: Unpack[Settings],
) -> ResultList[ReliabilityCurve]:
    """Estimate reliability against the number of answers a unit.

    Parameters
    ----------
    judgements
        Table of judgements.
    answers
        Numbers of answers; by default 1 to four times the mean number, about equally far apart in ratio.
    splits
        Pairs of disjoint sets to average over.
    settings
        As for every estimator: :class:`Settings`. Units are resampled, by default 1,000 times.

    Raises
    ------
    AnalysisError
        As ``estimate_reliability``.
    """
    chosen = choose(settings, resamples=1000)
    curves = []
    for names, own in groups(judgements):
        where = spell_group(names)
        counts = count_answers(own, least=2, where=where)
        k, right = counts["answers"].to_numpy(), counts["right"].to_numpy()
        rng = np.random.default_rng(chosen.seed)
        weights = resample_weights(len(counts), chosen.resamples, rng)
        value = float(intraclass(np.ones((1, len(counts))), k, right)[1][0])
        if math.isnan(value) or np.ptp(right / k) == 0:
            raise no_spread(where)
        estimand = spell_estimand("new units")
        whole = reliability_estimate(value, intraclass(weights, k, right)[1], "", len(counts), estimand, chosen.level)
        wanted = _steps(float(k.mean())) if answers is None else sorted(set(answers))
        if any(count < 1 for count in wanted):
            raise AnalysisError("Numbers of answers must be at least 1.")
        points = []
        for count in wanted:
            predicted = reliability_of_fewer(
                whole, count / float(k.mean()), "Spearman-Brown from the intraclass correlation (analysis of variance)"
            )
            points.append(CurvePoint(count, predicted, _observe(k, right, count, splits, chosen)))
        curves.append(ReliabilityCurve(**names, points=tuple(points)))
    return ResultList(curves)


def answers_needed(single: Estimate, target: float = TARGET) -> Estimate:
    """Return how many answers a unit give a reliability.

    Parameters
    ----------
    single
        Intraclass correlation of a single answer.
    target
        The reliability wanted.

    Returns
    -------
    The number by Spearman-Brown, solved for it; infinite where the correlation is not positive, because then no number
    of answers is known to give it.
    """

    def count(correlation: float) -> float:
        if correlation <= 0:
            return math.inf
        return target / (1 - target) * (1 - min(correlation, 1.0)) / correlation

    return Estimate(
        count(single.value),
        count(single.high),
        count(single.low),
        keep_prefix(single.method, f"Spearman-Brown solved for a reliability of {target:g}; {{}}"),
        single.n,
        "answers per unit",
        single.estimand,
        single.level,
    )


def _observe(answers: Integers, right: Integers, count: int, splits: int, settings: Chosen) -> Estimate | None:
    """Correlate two disjoint sets of ``count`` answers a unit; None where too few units have so many."""
    enough = answers >= 2 * count
    units = int(enough.sum())
    if units < LEAST_UNITS:
        return None
    rng = np.random.default_rng([settings.seed, count])
    k, s = answers[enough], right[enough]
    halves = split_answers(k, s, np.full(units, count), splits, rng)
    value = float(mean_correlation(np.ones((1, units)), halves)[0])
    if math.isnan(value):
        return None
    return reliability_estimate(
        value,
        mean_correlation(resample_weights(units, settings.resamples, rng), halves),
        f"mean correlation of two disjoint random sets of {count} answers a unit ({splits} draws)",
        units,
        spell_estimand("new units"),
        settings.level,
    )


def _steps(mean: float) -> list[int]:
    """Return whole numbers from 1 to four times the mean, about equally far apart in ratio."""
    return sorted({round(step) for step in np.geomspace(1, max(4 * mean, 4), 14)})
