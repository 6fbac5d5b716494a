"""Calibration: whether a machine is as sure as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from analysis.agreement.machines import observer_name
from analysis.agreement.pairing import ALL_MODELS, number_units, pair_answers, shared_groups
from analysis.arrays import Floats, Integers
from analysis.estimands import spell_estimand
from analysis.groups import KEYS, spell_group
from analysis.intervals.bootstrap import percentile_estimate, resample_weights
from analysis.intervals.quantiles import percentile_ends
from analysis.results import Plotted, Record, ResultList
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

BINS = 10


@dataclass(frozen=True)
class Calibration(Plotted, Record):
    """Whether a machine is as sure as it should be.

    What is compared is how sure it is of the query it prefers (1/2 to 1), since nothing tells it which query is right.

    Attributes
    ----------
    target
        ``people``: how often people chose the query that the machine prefers. ``truth``: how often that is right.
    bins
        One row a bin of equal width that holds trials: ``low``, ``high``, ``trials``, ``confidence`` (mean),
        ``outcome`` (share), ``outcome_low`` and ``outcome_high`` (percentile bootstrap over units; missing where
        more than one replicate in twenty has no trial in the bin).
    error
        Expected calibration error: mean distance of confidence and outcome over bins, weighted by trials.
    brier
        Mean squared difference of confidence and outcome.
    """

    observer: str
    condition: str
    difficulty: str
    references: str
    target: Literal["people", "truth"]
    bins: pd.DataFrame
    error: Estimate
    brier: Estimate

    def _draw(self, **options: Any) -> Any:
        """Draw how often answers were as the machine prefers, against how sure it was."""
        return self._draw_all([self], **options)

    @staticmethod
    def _draw_all(found: Sequence[Calibration], **options: Any) -> Any:
        """Draw several calibrations in one panel."""
        from analysis.figures import plot_calibration

        return plot_calibration(calibration_points(found), **options)


def calibration_points(found: Sequence[Calibration]) -> pd.DataFrame:
    """Return the data of the figure, one row a bin with an interval.

    Returns
    -------
    Columns ``series``, ``predicted``, ``value``, ``low``, ``high``, ``n``, and the bin's ends ``from`` and ``to``.
    """
    names = {
        "confidence": "predicted", "outcome": "value", "outcome_low": "low", "outcome_high": "high", "trials": "n",
        "low": "from", "high": "to",
    }  # fmt: skip
    parts = [own.bins.rename(columns=names).assign(series=f"{own.observer}, {own.condition}") for own in found]
    return pd.concat(parts, ignore_index=True).dropna(subset=["low", "high"]).reset_index(drop=True)


@threaded
def calibrate(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    target: Literal["people", "truth"] = "people",
    bins: int = BINS,
    **settings: Unpack[Settings],
) -> ResultList[Calibration]:
    """Compare how sure a machine is with what people choose, or with the truth, on the tasks that both answered.

    Parameters
    ----------
    target
        What confidence is compared with: every answer of people (``people``), or each shared task once (``truth``).
    bins
        Bins of equal width between 1/2 and 1. The error of few trials in many bins is biased upwards.
    settings
        As for every estimator: :class:`Settings`. Units are resampled.

    Raises
    ------
    AnalysisError
        If fewer than ``LEAST_UNITS`` units are shared.
    """
    chosen = choose(settings)
    if bins < 1:
        raise AnalysisError("Calibration needs at least one bin.")
    results = []
    for names, own, theirs in shared_groups(people, machine, KEYS[1:]):
        where = spell_group({"model": ALL_MODELS, **names})
        pairs = pair_answers(own, theirs)
        if target == "truth":
            pairs = pairs.drop_duplicates("trial").reset_index(drop=True)
        unit = number_units(pairs, where, observer_name(theirs))
        p = pairs["probability"].to_numpy(dtype=np.float64)
        confidence = np.maximum(p, 1 - p)
        hit = pairs["correct"].to_numpy(dtype=np.float64) if target == "people" else np.ones(len(p))
        outcome = np.where(p == 0.5, 0.5, np.where(p > 0.5, hit, 1 - hit))
        place = np.minimum(((confidence - 0.5) * 2 * bins).astype(np.int64), bins - 1)
        units = int(unit.max()) + 1
        cell = unit * bins + place

        def per_unit(values: Floats, cell: Integers = cell, units: int = units) -> Floats:
            return np.asarray(np.bincount(cell, values, minlength=units * bins), dtype=np.float64).reshape(units, bins)

        n, sure, right = per_unit(np.ones(len(p))), per_unit(confidence), per_unit(outcome)
        squares = np.bincount(unit, (confidence - outcome) ** 2)
        weights = resample_weights(units, chosen.resamples, np.random.default_rng(chosen.seed))
        every = np.ones((1, units))

        def distance(weights: Floats, n: Floats = n, sure: Floats = sure, right: Floats = right) -> Floats:
            return np.asarray(np.abs(weights @ sure - weights @ right).sum(axis=1) / (weights @ n).sum(axis=1))

        estimand = spell_estimand("new units", observer=observer_name(theirs))
        error = percentile_estimate(
            float(distance(every)[0]),
            distance(weights),
            f"expected calibration error, {bins} bins of equal width from 1/2 to 1 (few trials a bin bias it upwards)",
            units,
            "probability",
            estimand,
            (0.0, 1.0),
            chosen.level,
        )
        brier = percentile_estimate(
            float(squares.sum() / n.sum()),
            weights @ squares / (weights @ n.sum(axis=1)),
            "Brier score (mean squared error of the preferred query's probability)",
            units,
            "squared probability",
            estimand,
            (0.0, 1.0),
            chosen.level,
        )
        results.append(
            Calibration(observer_name(theirs), **names, target=target, error=error, brier=brier,
                        bins=_bin_table(n, sure, right, weights, bins, chosen.level))
        )  # fmt: skip
    return ResultList(results)


def _bin_table(n: Floats, sure: Floats, right: Floats, weights: Floats, bins: int, level: float) -> pd.DataFrame:
    """Return the bins that hold trials."""
    edges = np.linspace(0.5, 1, bins + 1)
    rows = []
    for number in np.flatnonzero(n.sum(axis=0) > 0):
        count = weights @ n[:, number]
        drawn = count > 0
        share = (weights @ right[:, number])[drawn] / count[drawn]
        missing = 1 - drawn.mean() > 1 / 20
        low, high = (np.nan, np.nan) if missing else percentile_ends(share, level)
        rows.append(
            {
                "low": edges[number],
                "high": edges[number + 1],
                "trials": int(n[:, number].sum()),
                "confidence": sure[:, number].sum() / n[:, number].sum(),
                "outcome": right[:, number].sum() / n[:, number].sum(),
                "outcome_low": low,
                "outcome_high": high,
            }
        )
    return pd.DataFrame(rows)
