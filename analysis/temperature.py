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

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from analysis.agreement import log_loss, number_units, observer_name, pair_answers, shared_groups
from analysis.estimands import spell_estimand
from analysis.reliability import percentile_estimate, resample_weights, spell_group
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.observers.base import SimilarityObserver

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FOLDS = 10
RESAMPLES = 1000
RESAMPLES_WITH_LAPSE = 200
MOST_LAPSE = 0.5
STEEPEST = 1e4
"""Slope, per root mean square of the evidence, beyond which the machine counts as certain."""

OTHER_EVIDENCE = ("lpips", "random", "oracle", "label")
"""Observers without the temperature of similarity observers: LPIPS has one of its own, the others have none."""


@dataclass(frozen=True)
class TemperatureFit:
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
        Before minus after: above 0 where the fit foretells people better.
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


@dataclass(frozen=True)
class _Tasks:
    """Tasks that people and machine answered: evidence, answers, right answers and unit of each."""

    evidence: Floats
    answers: Floats
    right: Floats
    unit: Integers

    @property
    def scale(self) -> float:
        """Root mean square of the evidence, over answers."""
        return math.sqrt(float((self.answers * self.evidence**2).sum() / self.answers.sum()))


def fit_temperature(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    used: float | None = None,
    lapse: bool = False,
    folds: int = FOLDS,
    resamples: int | None = None,
    seed: int = 0,
) -> tuple[TemperatureFit, ...]:
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
    resamples
        Replicates of the bootstrap over units; by default 1,000, or 200 with a lapse rate.
    seed
        Of bootstrap and folds.

    Raises
    ------
    AnalysisError
        If the observer's evidence can't be had back from its probabilities (they are 0 or 1, or all 1/2), its
        temperature must be named, or too few units are shared.
    """
    observer = observer_name(machine)
    used = _known_temperature(observer) if used is None else used
    if not (math.isfinite(used) and used > 0):
        raise AnalysisError(f"A temperature is a number above 0; {used} is not.")
    results = []
    for names, own, theirs in shared_groups(people, machine, ["condition", "difficulty", "references"]):
        where = spell_group({"model": observer, **names})
        tasks = _gather(own, theirs, used, where)
        units = int(tasks.unit.max()) + 1
        rng = np.random.default_rng(seed)
        count = resamples or (RESAMPLES_WITH_LAPSE if lapse else RESAMPLES)
        weights = resample_weights(units, count, rng)
        estimand = spell_estimand("new units", observer=observer)

        slope, lapsed = _fit_part(tasks, np.ones(units, dtype=bool), lapse)
        if lapse:
            fitted = np.array([_fit_with_lapse(tasks, row[tasks.unit], slope, lapsed, warm=True) for row in weights])
            slopes, lapses = fitted[:, 0], fitted[:, 1]
        else:
            slopes, lapses = _fit_slopes(tasks, weights, slope), np.zeros(count)
        with np.errstate(divide="ignore"):
            value, replicates = float(np.divide(1.0, slope)), 1 / slopes
        what = "maximum likelihood, with a lapse rate" if lapse else "maximum likelihood"
        if value == math.inf:
            what += "; on the boundary: people do not follow the machine's evidence"
        if value == 0:
            what += "; on the boundary: people always follow the machine's evidence"
        before, after, gain = _cross_validate(tasks, used, lapse, folds, weights, rng, observer)
        results.append(
            TemperatureFit(
                observer=observer,
                **names,
                temperature=percentile_estimate(
                    value, replicates, what, units, "temperature", estimand, (0.0, math.inf)
                ),
                lapse=percentile_estimate(
                    lapsed, lapses, what, units, "proportion of trials", estimand, (0.0, MOST_LAPSE)
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
    return tuple(results)


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
        raise AnalysisError(f"Temperatures are above 0 and lapse rates from 0 to 1; got {used}, {new} and {lapse}.")
    evidence = _evidence(machine["probability"].to_numpy(dtype=np.float64), used, observer_name(machine))
    return machine.assign(probability=lapse / 2 + (1 - lapse) * expit(evidence / new))


def _known_temperature(observer: str) -> float:
    if observer.split(":")[0] in OTHER_EVIDENCE:
        raise AnalysisError(
            f"The observer {observer!r} has not the temperature of similarity observers. Say which it answered with: "
            "used=..., in the units of its evidence."
        )
    return SimilarityObserver.temperature


def _evidence(probability: Floats, used: float, where: str) -> Floats:
    """Return the evidence behind probabilities."""
    if ((probability <= 0) | (probability >= 1)).any():
        count = int(((probability <= 0) | (probability >= 1)).sum())
        raise AnalysisError(
            f"{where}: {count} of {len(probability)} probabilities are 0 or 1, and say nothing of how much evidence is "
            "behind them. A temperature can be fitted to observers that are never certain."
        )
    return np.asarray(used * (np.log(probability) - np.log1p(-probability)))


def _gather(people: pd.DataFrame, machine: pd.DataFrame, used: float, where: str) -> _Tasks:
    """Join people's answers to the evidence behind the machine's, task by task."""
    pairs = pair_answers(people, machine)
    pairs["unit_number"] = number_units(pairs, where, observer_name(machine))
    table = pairs.groupby("trial", sort=True).agg(
        unit=("unit_number", "first"),
        probability=("probability", "first"),
        answers=("correct", "size"),
        right=("correct", "sum"),
    )
    table = table.sort_values(["unit", "probability", "answers", "right"], kind="stable")
    evidence = _evidence(table["probability"].to_numpy(dtype=np.float64), used, where)
    if not np.abs(evidence).max() > 1e-12:
        raise AnalysisError(
            f"{where}: all probabilities are one half. The observer prefers no query, whatever its temperature."
        )
    return _Tasks(
        evidence,
        table["answers"].to_numpy(dtype=np.float64),
        table["right"].to_numpy(dtype=np.float64),
        table["unit"].to_numpy(dtype=np.int64),
    )


def _fit_slopes(tasks: _Tasks, weights: Floats, begun: float = 0.0) -> Floats:
    """Return the maximum-likelihood slope for each row of unit weights; 0 or infinity on the boundaries.

    The score falls with the slope, so that Newton's steps, kept within a bracket that each of them narrows, find its
    root. Evidence is measured in its root mean square.
    """
    x = tasks.evidence / tasks.scale
    w = weights[:, tasks.unit]

    def score(slope: Floats) -> tuple[Floats, Floats]:
        rises = expit(slope[:, None] * x)
        first = (w * (tasks.right - tasks.answers * rises)) @ x
        second = (w * (tasks.answers * rises * (1 - rises))) @ x**2
        return first, second

    rows = len(weights)
    low, high = np.zeros(rows), np.full(rows, STEEPEST)
    flat = score(low)[0] <= 0
    certain = ~flat & (score(high)[0] >= 0)
    slope = np.full(rows, begun * tasks.scale if 0 < begun < math.inf else 1.0)
    for _ in range(100):
        first, second = score(slope)
        low, high = np.where(first > 0, slope, low), np.where(first > 0, high, slope)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = slope + first / second
        inside = (step >= low) & (step <= high)
        new = np.where(inside, step, (low + high) / 2)
        done = np.abs(new - slope) <= 1e-9 * (1 + slope)
        slope = new
        if (done | flat | certain).all():
            break
    return np.where(flat, 0.0, np.where(certain, np.inf, slope / tasks.scale))


def _fit_with_lapse(tasks: _Tasks, w: Floats, slope: float, lapse: float, warm: bool = False) -> tuple[float, float]:
    """Return the maximum-likelihood slope and lapse rate; the slope is 0 or infinite on the boundaries."""
    x = tasks.evidence / tasks.scale
    n, s = w * tasks.answers, w * tasks.right
    total = n.sum()

    def objective(parameters: Floats) -> tuple[float, Floats]:
        rises = expit(parameters[0] * x)
        p = np.clip(parameters[1] / 2 + (1 - parameters[1]) * rises, 1e-12, 1 - 1e-12)
        residual = (s - n * p) / (p * (1 - p))
        gradient = np.array([residual @ ((1 - parameters[1]) * rises * (1 - rises) * x), residual @ (0.5 - rises)])
        return -float(s @ np.log(p) + (n - s) @ np.log1p(-p)) / total, -gradient / total

    # The likelihood may have two tops, one steep with lapses and one flat without: both are tried, unless a fit to
    # nearly the same data says where to begin.
    begun = min(max(slope * tasks.scale, 0.1), 50.0)
    fits = [
        minimize(
            objective, [factor * begun, start], jac=True, method="L-BFGS-B", bounds=[(0, STEEPEST), (0, MOST_LAPSE)]
        )
        for factor, start in ((1.0, max(lapse, 0.02)), (3.0, 0.2))[: 1 if warm else 2]
    ]
    best = min(fits, key=lambda fit: fit.fun)
    found = float(best.x[0])
    if found >= STEEPEST * (1 - 1e-9):
        return math.inf, float(best.x[1])
    return found / tasks.scale, float(best.x[1])


def _cross_validate(
    tasks: _Tasks, used: float, lapse: bool, folds: int, weights: Floats, rng: np.random.Generator, observer: str
) -> tuple[Estimate, Estimate, Estimate]:
    """Return log-loss before and after the fit, and their difference; each unit's fit knows nothing of the unit."""
    units = weights.shape[1]
    if folds < 2:
        raise AnalysisError("Cross-validation needs two folds at least.")
    fold = rng.permutation(np.arange(units) % min(folds, units))
    after = np.empty(len(tasks.unit))
    for number in range(min(folds, units)):
        held = fold == number
        slope, lapsed = _fit_part(tasks, ~held, lapse)
        rows = held[tasks.unit]
        after[rows] = lapsed / 2 + (1 - lapsed) * _rise(tasks.evidence[rows], slope)
    count = np.bincount(tasks.unit, tasks.answers)
    sums = {
        name: np.bincount(tasks.unit, _loss(p, tasks))
        for name, p in (("before", _rise(tasks.evidence, 1 / used)), ("after", after))
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
                f"{observer}: people follow its evidence so closely in some folds that a certain forecast fails in "
                "another, and the loss is infinite. Fit a lapse rate (lapse=True), or collect more answers."
            )
        replicates = weights @ total / (weights @ count)
        found.append(percentile_estimate(value, replicates, words[name], units, "nats per trial", estimand))
    return found[0], found[1], found[2]


def _fit_part(tasks: _Tasks, units: NDArray[np.bool_], lapse: bool) -> tuple[float, float]:
    """Return slope and lapse rate of some units; the evidence keeps its scale."""
    slope = float(_fit_slopes(tasks, units[None, :].astype(np.float64))[0])
    return _fit_with_lapse(tasks, units[tasks.unit].astype(np.float64), slope, 0.0) if lapse else (slope, 0.0)


def _rise(evidence: Floats, slope: float) -> Floats:
    """Return sigmoid(slope * evidence), also for an infinite slope."""
    if math.isinf(slope):
        return np.asarray(0.5 + 0.5 * np.sign(evidence))
    return np.asarray(expit(slope * evidence))


def _loss(probability: Floats, tasks: _Tasks) -> Floats:
    """Return the log-loss of each task's answers, summed; nothing is lost where nothing happened."""
    right, wrong = tasks.right, tasks.answers - tasks.right
    ones, zeros = np.ones_like(right), np.zeros_like(right)
    with np.errstate(invalid="ignore"):
        hit = np.where(right > 0, right * log_loss(probability, ones), 0.0)
        miss = np.where(wrong > 0, wrong * log_loss(probability, zeros), 0.0)
    return np.asarray(hit + miss)
