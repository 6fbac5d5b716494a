"""A machine's probabilities as forecasts of what people choose, scored by log-loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.agreement.machines import observer_name
from analysis.agreement.pairing import ALL_MODELS, number_units, pair_answers, shared_groups
from analysis.arrays import Floats, Integers
from analysis.estimands import spell_estimand
from analysis.groups import KEYS, spell_group
from analysis.intervals.bootstrap import percentile_estimate, resample_weights
from analysis.reliability.analysis_of_variance import intraclass_of_sums
from analysis.results import Record, ResultList, spread_out
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class ForecastScore(Record):
    """How well a machine's probabilities predict single human answers; losses in nats a trial, lower is better.

    Attributes
    ----------
    machine
        Mean log-loss of the machine's probabilities.
    coin
        That of a coin: log 2.
    constant
        That of one probability of being right for all trials: the proportion correct on all other units.
    unit_means
        That of each unit's other answers, drawn towards the constant as far as the intraclass correlation demands: what
        people themselves tell about a unit. None where no unit has two answers.
    over_constant, over_unit_means
        Machine minus baseline, paired by trial: below 0 where the machine predicts better.
    clipped
        Share of trials whose probability was moved to the nearest of ``clip`` and 1 - ``clip``.
    """

    observer: str
    condition: str
    difficulty: str
    references: str
    trials: int
    machine: Estimate
    coin: float
    constant: Estimate
    unit_means: Estimate | None
    over_coin: Estimate
    over_constant: Estimate
    over_unit_means: Estimate | None
    clip: float
    clipped: float

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table."""
        row: dict[str, Any] = {
            name: getattr(self, name) for name in ("observer", *KEYS[1:], "trials", "coin", "clipped")
        }
        for name in ("machine", "constant", "unit_means", "over_coin", "over_constant", "over_unit_means"):
            row |= spread_out(name, getattr(self, name))
        return row


@threaded
def score_forecasts(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    clip: float = 0.001,
    **settings: Unpack[Settings],
) -> ResultList[ForecastScore]:
    """Score a machine's probabilities as forecasts of people's answers to the same tasks.

    Parameters
    ----------
    clip
        Probabilities nearer than this to 0 or 1 are moved to it: one certain forecast that fails would otherwise make
        the mean infinite. With 0 they stay, and the loss may be infinite.
    settings
        As for every estimator: :class:`Settings`. Units are resampled: trials of a unit stay together.

    Raises
    ------
    AnalysisError
        If fewer than ``LEAST_UNITS`` units are shared.
    """
    chosen = choose(settings)
    if not 0 <= clip < 0.5:
        raise AnalysisError(f"The clip of probabilities must lie between 0 and 1/2, not at {clip}.")
    results = []
    for names, own, theirs in shared_groups(people, machine, KEYS[1:]):
        where = spell_group({"model": ALL_MODELS, **names})
        pairs = pair_answers(own, theirs)
        unit = number_units(pairs, where, observer_name(theirs))
        h = pairs["correct"].to_numpy(dtype=np.float64)
        raw = pairs["probability"].to_numpy(dtype=np.float64)
        p = np.clip(raw, clip, 1 - clip)
        n, s = (np.bincount(unit, values).astype(np.float64) for values in (np.ones(len(h)), h))
        units = len(n)
        weights = resample_weights(units, chosen.resamples, np.random.default_rng(chosen.seed))
        estimand = spell_estimand("new units", observer=observer_name(theirs))

        def averaged(
            losses: Floats,
            kept: NDArray[np.bool_],
            what: str,
            unit: Integers = unit,
            weights: Floats = weights,
            units: int = units,
            estimand: str = estimand,
        ) -> Estimate:
            total = np.bincount(unit[kept], losses[kept], minlength=units)
            count = np.bincount(unit[kept], minlength=units).astype(np.float64)
            value = float(total.sum() / count.sum())
            if not math.isfinite(value):
                why = "a certain forecast failed, and its loss is infinite"
                return Estimate(
                    value,
                    -math.inf,
                    math.inf,
                    f"no interval: {why}; {what}",
                    units,
                    "nats per trial",
                    estimand,
                    chosen.level,
                )
            drawn = weights @ count
            with np.errstate(divide="ignore", invalid="ignore"):
                replicates = np.where(drawn > 0, weights @ total / drawn, np.nan)
            return percentile_estimate(
                value, replicates, what, int((count > 0).sum()), "nats per trial", estimand, level=chosen.level
            )

        every = np.ones(len(h), dtype=bool)
        of_machine = log_loss(p, h)
        constant = ((s.sum() - s + 1) / (n.sum() - n + 2))[unit]
        of_constant = log_loss(constant, h)
        several = (n > 1)[unit]
        of_units = log_loss(_predict_by_unit(unit, h, n, s, constant), h)
        results.append(
            ForecastScore(
                observer=observer_name(theirs),
                **names,
                trials=len(h),
                machine=averaged(of_machine, every, "mean log-loss of human answers"),
                coin=math.log(2),
                constant=averaged(of_constant, every, "mean log-loss, one probability from all other units"),
                unit_means=averaged(of_units, several, "mean log-loss, unit's other answers (beta-binomial)")
                if several.any()
                else None,
                over_coin=averaged(of_machine - math.log(2), every, "log-loss, machine minus coin"),
                over_constant=averaged(of_machine - of_constant, every, "log-loss, machine minus constant"),
                over_unit_means=(
                    averaged(of_machine - of_units, several, "log-loss, machine minus unit's other answers")
                    if several.any()
                    else None
                ),
                clip=clip,
                clipped=float((raw != p).mean()),
            )
        )
    return ResultList(results)


def _predict_by_unit(unit: Integers, h: Floats, n: Floats, s: Floats, constant: Floats) -> Floats:
    """Return each answer's probability of being right by the other answers about its unit.

    The mean of a beta distribution whose prior mean is the constant, and whose prior weighs as many answers as the
    intraclass correlation r of single answers says: (1 - r) / r. Units that do not differ leave the constant.
    """
    correlation = float(intraclass_of_sums(np.ones((1, len(n))), n, s, s)[0][0]) if n.max() > 1 else 0.0
    if math.isnan(correlation) or correlation <= 0:
        return constant
    prior = max((1 - correlation) / correlation, 1.0)  # a unit that was always right so far can still be wrong
    return np.asarray((s[unit] - h + prior * constant) / (n[unit] - 1 + prior))


def log_loss(probability: Floats, outcome: Floats) -> Floats:
    """Return minus the log of the probability that each outcome (1 or 0) was given, in nats."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(np.where(outcome > 0.5, probability, 1 - probability)))
