"""The temperature of a machine observer: how sure it is for a given difference in similarity, fitted to people.

A similarity observer answers with p = sigmoid(evidence / temperature), where the evidence is a difference of
similarities (Zimmermann, Klindt & Brendel, NeurIPS 2024, and ``benchmark.observers.base``). The published temperature,
.16, makes scores comparable; it does not say how sure people are. Here it is fitted to people's answers to the same
tasks by maximum likelihood:

    P(person is right) = lapse / 2 + (1 - lapse) * sigmoid(evidence / temperature)

This is a logistic regression through the origin with slope 1 / temperature; with a lapse rate, the psychometric
function of a forced choice (Wichmann & Hill, 2001). Neither changes which query the machine prefers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from scipy.special import expit

from analysis.agreement.evidence import AnsweredTasks, evidence_behind, gather_tasks, known_temperature
from analysis.agreement.evidence_slopes import MOST_LAPSE, chance_of_right, fit_part, fit_slopes, fit_with_lapse
from analysis.agreement.forecasts import log_loss
from analysis.agreement.machines import observer_name
from analysis.agreement.pairing import shared_groups
from analysis.arrays import Floats
from analysis.estimands import spell_estimand
from analysis.groups import spell_group
from analysis.intervals.bootstrap import percentile_estimate, resample_weights
from analysis.results import Record, ResultList
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

FOLDS = 10
RESAMPLES = 1000
RESAMPLES_WITH_LAPSE = 200


@dataclass(frozen=True)
class TemperatureFit(Record):
    """A temperature that fits people's answers.

    Attributes
    ----------
    temperature
        The maximum-likelihood estimate. Infinite where people do not follow the evidence at all (or go against it);
        0 where they always follow it: the likelihood has its maximum on that boundary.
    lapse
        Share of trials in which people guess; None if it was not fitted.
    used
        The temperature that the observer answered with.
    trials
        Human answers fitted.
    before
        Log-loss of human answers with the temperature used, in nats a trial.
    after
        That with a temperature (and lapse) fitted to other units: cross-validated by unit.
    gain
        Before minus after: above 0 where the fit predicts people better.
    """

    observer: str
    condition: str
    difficulty: str
    references: str
    temperature: Estimate
    lapse: Estimate | None
    used: float
    trials: int
    before: Estimate
    after: Estimate
    gain: Estimate


@threaded
def fit_temperature(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    used: float | None = None,
    lapse: bool = False,
    folds: int = FOLDS,
    **settings: Unpack[Settings],
) -> ResultList[TemperatureFit]:
    """Fit a temperature to people's answers, for each condition, difficulty and kind of references.

    Parameters
    ----------
    people
        Table of judgements.
    machine
        Table of machine answers, with the probabilities that the observer gave.
    used
        The temperature that it gave them with; that of ``SimilarityObserver`` if nothing else is said.
    lapse
        Whether to fit a lapse rate (0 to 1/2) as well.
    folds
        Folds of units for cross-validation.
    settings
        As for every estimator: :class:`Settings`. By default 1,000 replicates over units, or 200 with a lapse rate.

    Raises
    ------
    AnalysisError
        If the observer's evidence can't be had back from its probabilities (they are 0 or 1, or all 1/2), its
        temperature must be named, or too few units are shared.
    """
    chosen = choose(settings, resamples=RESAMPLES_WITH_LAPSE if lapse else RESAMPLES)
    observer = observer_name(machine)
    used = known_temperature(observer) if used is None else used
    if not (math.isfinite(used) and used > 0):
        raise AnalysisError(f"A temperature must be above 0, not {used}.")
    results = []
    for names, own, theirs in shared_groups(people, machine, ["condition", "difficulty", "references"]):
        where = spell_group({"model": observer, **names})
        tasks = gather_tasks(own, theirs, used, where)
        units = int(tasks.unit.max()) + 1
        rng = np.random.default_rng(chosen.seed)
        weights = resample_weights(units, chosen.resamples, rng)
        estimand = spell_estimand("new units", observer=observer)

        slope, lapsed = fit_part(tasks, np.ones(units, dtype=bool), lapse)
        if lapse:
            fitted = np.array([fit_with_lapse(tasks, row[tasks.unit], slope, lapsed, warm=True) for row in weights])
            slopes, lapses = fitted[:, 0], fitted[:, 1]
        else:
            slopes, lapses = fit_slopes(tasks, weights, slope), np.zeros(chosen.resamples)
        with np.errstate(divide="ignore"):
            value, replicates = float(np.divide(1.0, slope)), 1 / slopes
        what = "maximum likelihood, with a lapse rate" if lapse else "maximum likelihood"
        if value == math.inf:
            what += "; on the boundary: people do not follow the machine's evidence"
        if value == 0:
            what += "; on the boundary: people always follow the machine's evidence"
        before, after, gain = _cross_validate(tasks, used, lapse, folds, weights, rng, observer, chosen.level)
        results.append(
            TemperatureFit(
                observer=observer,
                **names,
                temperature=percentile_estimate(
                    value, replicates, what, units, "temperature", estimand, (0.0, math.inf), chosen.level
                ),
                lapse=percentile_estimate(
                    lapsed, lapses, what, units, "proportion of trials", estimand, (0.0, MOST_LAPSE), chosen.level
                )
                if lapse
                else None,
                used=used,
                trials=int(tasks.answers.sum()),
                before=before,
                after=after,
                gain=gain,
            )
        )
    return ResultList(results)


def change_temperature(machine: pd.DataFrame, new: float, *, used: float, lapse: float = 0.0) -> pd.DataFrame:
    """Return a machine's answers as it would give them with another temperature, and a lapse rate.

    Parameters
    ----------
    machine
        Table of machine answers.
    new, used
        The temperature wanted, and the one that the probabilities were given with.
    lapse
        Share of trials in which it guesses.

    Raises
    ------
    AnalysisError
        If the evidence can't be had back from the probabilities.
    """
    if not (new > 0 and used > 0 and math.isfinite(used) and 0 <= lapse <= 1):
        raise AnalysisError(
            f"Temperatures must be above 0 and lapse rates between 0 and 1; got {used}, {new} and {lapse}."
        )
    evidence = evidence_behind(machine["probability"].to_numpy(dtype=np.float64), used, observer_name(machine))
    return machine.assign(probability=lapse / 2 + (1 - lapse) * expit(evidence / new))


def _cross_validate(
    tasks: AnsweredTasks,
    used: float,
    lapse: bool,
    folds: int,
    weights: Floats,
    rng: np.random.Generator,
    observer: str,
    level: float,
) -> tuple[Estimate, Estimate, Estimate]:
    """Return log-loss before and after the fit, and their difference; each unit is predicted by a fit without it."""
    units = weights.shape[1]
    if folds < 2:
        raise AnalysisError("Cross-validation needs at least two folds.")
    fold = rng.permutation(np.arange(units) % min(folds, units))
    after = np.empty(len(tasks.unit))
    for number in range(min(folds, units)):
        held = fold == number
        slope, lapsed = fit_part(tasks, ~held, lapse)
        rows = held[tasks.unit]
        after[rows] = lapsed / 2 + (1 - lapsed) * chance_of_right(tasks.evidence[rows], slope)
    count = np.bincount(tasks.unit, tasks.answers)
    sums = {
        name: np.bincount(tasks.unit, _loss(p, tasks))
        for name, p in (("before", chance_of_right(tasks.evidence, 1 / used)), ("after", after))
    }
    sums["gain"] = sums["before"] - sums["after"]
    words = {
        "before": "mean log-loss with the temperature used",
        "after": f"mean log-loss with the temperature fitted to other units ({min(folds, units)} folds)",
        "gain": "log-loss before minus after the fit, cross-validated by unit",
    }
    estimand = spell_estimand("new units", observer=observer)
    found = []
    for name, total in sums.items():
        value = float(total.sum() / count.sum())
        if not math.isfinite(value):
            raise AnalysisError(
                f"{observer}: in some folds people follow its evidence so closely that a certain prediction fails in "
                "another fold, and the loss is infinite. Fit a lapse rate (lapse=True), or collect more answers."
            )
        replicates = weights @ total / (weights @ count)
        found.append(
            percentile_estimate(value, replicates, words[name], units, "nats per trial", estimand, level=level)
        )
    return found[0], found[1], found[2]


def _loss(probability: Floats, tasks: AnsweredTasks) -> Floats:
    """Return the log-loss of each task's answers, summed; 0 for outcomes that never occurred."""
    right, wrong = tasks.right, tasks.answers - tasks.right
    ones, zeros = np.ones_like(right), np.zeros_like(right)
    with np.errstate(invalid="ignore"):
        hit = np.where(right > 0, right * log_loss(probability, ones), 0.0)
        miss = np.where(wrong > 0, wrong * log_loss(probability, zeros), 0.0)
    return np.asarray(hit + miss)
