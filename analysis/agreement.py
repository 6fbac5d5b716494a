"""Agreement of people and machines: on units, on models, on single answers, and in how sure a machine is.

On units and models: correlation of human proportions correct with machine scores, raw and corrected for the noise of
both (Spearman, 1904, The proof and measurement of association between two things). On single answers: error
consistency, Cohen's kappa of being right (Geirhos, Meding & Wichmann, NeurIPS 2020), with its sign, beside that of two
people. In how sure: calibration, and the log-loss of a machine's probabilities as forecasts of what people choose.

People come as a table of judgements, machines as a table of ``machine_answers``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, t

from analysis.estimands import spell_estimand
from analysis.judgements import judgements
from analysis.reliability import (
    KEYS,
    LEAST_UNITS,
    LEVEL,
    RESAMPLES,
    intraclass_of_sums,
    percentile_estimate,
    resample_weights,
    spell_group,
    spread_out,
)
from benchmark.errors import AnalysisError, suggest
from benchmark.estimate import Estimate
from benchmark.model_card import TWIN_SUFFIX
from benchmark.tasks import PLANTED

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Score = Literal["probability", "correct"]

ALL_MODELS = "all models"
LEAST_MODELS = 3
BINS = 10

MACHINE_COLUMNS = {
    "observer": "name of the machine observer",
    "model": "name of the model",
    "condition": "kind of the references",
    "difficulty": "quantile of the queries",
    "references": "which sides were shown",
    "unit": "name of the unit, as in a table of judgements",
    "layer": "layer of the unit",
    "task": "name of the task, as in a table of judgements",
    "correct": "1 if the maximal query was chosen, else 0",
    "probability": "the machine's probability that the maximal query is right",
}
"""Columns of a table of machine answers, and what they mean."""


def machine_answers(
    responses: pd.DataFrame,
    observer: str,
    *,
    references: tuple[str, ...] | None = ("both",),
    twins: bool = False,
) -> pd.DataFrame:
    """Return one machine observer's answers, with their probabilities, in the names that judgements use.

    Parameters
    ----------
    responses
        Table of responses.
    observer
        Name of the observer.
    references
        Which sides must have been shown; None keeps all answers.
    twins
        Whether to keep answers about random-weight twins.

    Returns
    -------
    One row a task, with the columns of ``MACHINE_COLUMNS``; names are categories.

    Raises
    ------
    AnalysisError
        If there is no such machine observer, it has given no probabilities, or it answered a task twice.
    """
    machines = responses[(responses["observer_kind"] == "machine") & (responses["kind"] == "main")]
    own = machines[machines["observer"] == observer]
    if own.empty:
        known = machines["observer"].unique().tolist()
        raise AnalysisError(f"There are no answers of a machine observer {observer!r}. {suggest(observer, known)}")
    keep = own["model"] != PLANTED
    if references is not None:
        keep &= own["references"].isin(references)
    if not twins:
        keep &= ~own["model"].str.endswith(TWIN_SUFFIX)
    own = own[keep]
    table = judgements(own, observer_kinds=("machine",), references=references, twins=twins)
    probability = own["probability"].to_numpy(dtype=np.float64)
    if np.isnan(probability).any():
        raise AnalysisError(
            f"{observer} has given no probability in {int(np.isnan(probability).sum())} of {len(own)} answers: "
            "only observers that say how sure they are can be compared with people here."
        )
    table = table.assign(probability=probability, observer=observer)
    table = table.astype({"observer": "category"})[list(MACHINE_COLUMNS)]
    twice = table.duplicated(["task", "condition", "difficulty", "references"])
    if twice.any():
        raise AnalysisError(
            f"{observer} answered {int(twice.sum())} tasks twice, the first of them "
            f"{table.loc[twice, 'task'].iloc[0]}. Answers to old stimuli may be among them: keep those of one study."
        )
    return table


# ------------------------------------------------------------------------------------------ units and models


@dataclass(frozen=True)
class UnitAgreement:
    """How human and machine scores of units go together, in one model and condition, or in all models.

    Attributes
    ----------
    pearson, spearman
        Correlation over units of human proportion correct and machine score.
    disattenuated
        Pearson's over the square root of the reliability of the human means: what it would be with endless answers to
        these tasks. None where that reliability is not positive. It may exceed 1; see ``remark``.
    disattenuated_spearman
        The same for Spearman's, with the reliability of the means in place of that of ranks: an approximation.
    disattenuated_both
        Corrected for the machine's finite number of tasks as well; None where it has one task a unit. This takes the
        tasks of people and machine for independent draws; where they are the same, it corrects too much.
    human_reliability, machine_reliability
        Intraclass reliabilities of the unit means.
    """

    observer: str
    model: str
    condition: str
    difficulty: str
    references: str
    score: Score
    pearson: Estimate
    spearman: Estimate
    human_reliability: Estimate | None
    machine_reliability: Estimate | None
    disattenuated: Estimate | None
    disattenuated_spearman: Estimate | None
    disattenuated_both: Estimate | None
    remark: str

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table: each estimate with its interval."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("observer", *KEYS, "score")}
        row["units"] = self.pearson.n
        for name in (
            "pearson",
            "spearman",
            "human_reliability",
            "machine_reliability",
            "disattenuated",
            "disattenuated_spearman",
            "disattenuated_both",
        ):
            row |= spread_out(name, getattr(self, name))
        row["remark"] = self.remark
        return row


def unit_agreement(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    score: Score = "probability",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[UnitAgreement, ...]:
    """Correlate human and machine scores over units: within each model, and over all models if there are several.

    Parameters
    ----------
    people
        Table of judgements.
    machine
        Table of machine answers.
    score
        What is averaged over a unit's tasks: the machine's probability of the right answer (as in MIS), or whether it
        is right.
    resamples, seed
        Of the bootstrap over units; within each replicate reliabilities are estimated anew.

    Raises
    ------
    AnalysisError
        If people and machine share fewer than ``LEAST_UNITS`` units, or one of them scores all units alike.
    """
    results = []
    for names, own, theirs in shared_groups(people, machine):
        results.append(_correlate_units(names, own, theirs, score, resamples, seed))
    for names, own, theirs in shared_groups(people, machine, KEYS[1:]):
        if own["model"].nunique() > 1:
            results.append(_correlate_units({"model": ALL_MODELS, **names}, own, theirs, score, resamples, seed))
    return tuple(results)


@dataclass(frozen=True)
class ModelAgreement:
    """How human and machine scores of models go together.

    Attributes
    ----------
    table
        One row a model: ``human``, ``machine`` and ``units``.
    these_models
        Pearson's correlation, for these models: units are resampled within each.
    pearson, spearman
        For new models: Fisher's z with as many models as there are, however many answers they rest on.
    """

    observer: str
    condition: str
    difficulty: str
    references: str
    score: Score
    table: pd.DataFrame
    these_models: Estimate
    pearson: Estimate
    spearman: Estimate


def model_agreement(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    score: Score = "probability",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[ModelAgreement, ...]:
    """Correlate mean human and machine scores over models, for each condition, difficulty and kind of references.

    Means are over the units that both have answered about. With Fisher's z the error of Pearson's correlation is
    1 / sqrt(n - 3), that of Spearman's sqrt((1 + r^2 / 2) / (n - 3)): Bonett & Wright (2000), Psychometrika 65.

    Raises
    ------
    AnalysisError
        If there are fewer than ``LEAST_MODELS`` models, or people or machine score all of them alike.
    """
    results = []
    for names, own, theirs in shared_groups(people, machine, KEYS[1:]):
        units = _unit_table(own, theirs, score, spell_group({"model": ALL_MODELS, **names}))
        means = units.groupby("model", sort=True)[["human", "machine"]].mean()
        means["units"] = units.groupby("model", sort=True).size()
        count = len(means)
        where = spell_group({"model": ALL_MODELS, **names})
        if count < LEAST_MODELS:
            raise AnalysisError(
                f"{where}: {count} models are shared by people and machine; a correlation over models needs "
                f"{LEAST_MODELS} at least, and says little with fewer than ten. Compare units instead."
            )
        human, other = means["human"].to_numpy(), means["machine"].to_numpy()
        _check_spread(human, other, where, "models")
        rng = np.random.default_rng(seed)
        replicates = [np.empty((resamples, count)), np.empty((resamples, count))]
        for number, (_, part) in enumerate(units.groupby("model", sort=True)):
            weights = resample_weights(len(part), resamples, rng) / len(part)
            for replicate, column in zip(replicates, ("human", "machine")):
                replicate[:, number] = weights @ part[column].to_numpy()
        value = float(_pearson(np.ones((1, count)), human, other)[0])
        these = percentile_estimate(
            value,
            _row_correlation(*replicates),
            f"Pearson correlation over {count} models, units resampled within each",
            len(units),
            "correlation",
            spell_estimand("new units", observer=observer_name(theirs)),
            (-1.0, 1.0),
        )
        rank = float(_pearson(np.ones((1, count)), rankdata(human), rankdata(other))[0])
        estimand = spell_estimand("new models", observer=observer_name(theirs))
        results.append(
            ModelAgreement(
                observer=observer_name(theirs),
                **names,
                score=score,
                table=means.reset_index(),
                these_models=these,
                pearson=_fisher(value, 1.0, count, "Pearson", estimand),
                spearman=_fisher(rank, 1 + rank**2 / 2, count, "Spearman", estimand),
            )
        )
    return tuple(results)


def _fisher(value: float, factor: float, count: int, name: str, estimand: str) -> Estimate:
    """Return a correlation with the interval of Fisher's z."""
    if count <= 3 or abs(value) >= 1:
        why = "three models leave no degrees of freedom" if count <= 3 else "the correlation is perfect"
        return Estimate(
            value,
            -1.0,
            1.0,
            f"no interval: {why}; {name} correlation over {count} models",
            count,
            "correlation",
            estimand,
        )
    half = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt(factor / (count - 3))
    low, high = (math.tanh(math.atanh(value) + side * half) for side in (-1, 1))
    method = f"{name} correlation over {count} models, Fisher's z"
    return Estimate(value, low, high, method, count, "correlation", estimand)


def _correlate_units(
    names: dict[str, str], own: pd.DataFrame, theirs: pd.DataFrame, score: Score, resamples: int, seed: int
) -> UnitAgreement:
    """Correlate the units of one group."""
    where = spell_group(names)
    units = _unit_table(own, theirs, score, where)
    human, other = units["human"].to_numpy(), units["machine"].to_numpy()
    _check_spread(human, other, where, "units")
    count = len(units)
    observer = observer_name(theirs)
    estimand = spell_estimand("new units", observer=observer)
    rng = np.random.default_rng(seed)
    weights = resample_weights(count, resamples, rng)
    every = np.ones((1, count))

    pearson, pearsons = float(_pearson(every, human, other)[0]), _pearson(weights, human, other)
    spearman, spearmans = float(_spearman(every, human, other)[0]), _spearman(weights, human, other)

    def bootstrapped(value: float, replicates: Floats, what: str, unit: str = "correlation") -> Estimate:
        bounds = (-1.0, 1.0) if unit == "correlation" else (-math.inf, math.inf)
        return percentile_estimate(value, replicates, what, count, unit, estimand, bounds)

    remarks = []
    sums = {side: units[[f"{side}_count", f"{side}_total", f"{side}_squares"]].to_numpy(dtype=np.float64).T
            for side in ("human", "machine")}  # fmt: skip
    reliabilities: dict[str, Estimate | None] = {}
    noise: dict[str, tuple[float, Floats] | None] = {}
    for side, what in (("human", "answers"), ("machine", "tasks")):
        if sums[side][0].max() < 2:
            reliabilities[side], noise[side] = None, None
            remarks.append(f"The {side} reliability is unknown: there is one of its {what} a unit.")
            continue
        value = float(intraclass_of_sums(every, *sums[side])[1][0])
        replicates = intraclass_of_sums(weights, *sums[side])[1]
        reliabilities[side] = bootstrapped(
            value, replicates, f"intraclass correlation of unit means over {what}", "reliability"
        )
        noise[side] = (value, replicates) if value > 0 else None
        if value <= 0:
            remarks.append(
                f"The {side} reliability is {value:.2f}: unit means hold no more than noise, and no correlation can be "
                "corrected for it."
            )

    def corrected(value: float, replicates: Floats, sides: tuple[str, ...], name: str) -> Estimate | None:
        parts = [noise[side] for side in sides]
        if any(part is None for part in parts):
            return None
        of_value, of_replicates = 1.0, np.ones(resamples)
        for part in parts:
            assert part is not None
            of_value *= part[0]
            of_replicates = of_replicates * np.maximum(part[1], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Where a replicate has no reliability left, the corrected correlation is anything of its sign.
            spread = np.where(of_replicates > 0, replicates / np.sqrt(of_replicates), np.copysign(np.inf, replicates))
        spread = np.where(np.isnan(replicates) | np.isnan(of_replicates), np.nan, spread)
        return bootstrapped(
            value / math.sqrt(of_value),
            spread,
            f"{name} correlation over units over the square root of the reliability of {' and '.join(sides)} means, "
            "estimated anew in each replicate",
            "disattenuated correlation",
        )

    alone = corrected(pearson, pearsons, ("human",), "Pearson")
    if alone is not None and abs(alone.value) > 1:
        remarks.append(
            f"The disattenuated correlation is {alone.value:.2f}: beyond 1 by sampling error of correlation and "
            "reliability; it is not cut off, and reads as no sign of a ceiling below 1."
        )
    return UnitAgreement(
        observer=observer,
        **names,
        score=score,
        pearson=bootstrapped(pearson, pearsons, "Pearson correlation over units"),
        spearman=bootstrapped(spearman, spearmans, "Spearman correlation over units"),
        human_reliability=reliabilities["human"],
        machine_reliability=reliabilities["machine"],
        disattenuated=alone,
        disattenuated_spearman=corrected(spearman, spearmans, ("human",), "Spearman"),
        disattenuated_both=corrected(pearson, pearsons, ("human", "machine"), "Pearson"),
        remark=" ".join(remarks),
    )


def _unit_table(people: pd.DataFrame, machine: pd.DataFrame, score: Score, where: str) -> pd.DataFrame:
    """Return the units that both have answered about: mean, count, sum and sum of squares of each side.

    Ordered by what was answered, so that draws do not depend on names.
    """
    parts = []
    for side, table, column in (("human", people, "correct"), ("machine", machine, score)):
        if column not in table.columns:
            raise AnalysisError(f"Machines are compared by 'probability' or 'correct', not by {column!r}.")
        values = pd.DataFrame(
            {
                "unit": table["unit"].astype(str),
                "model": table["model"].astype(str),
                "value": table[column].astype(float),
            }
        )
        values["square"] = values["value"] ** 2
        sums = values.groupby(["model", "unit"], sort=True)[["value", "square"]].sum()
        sums[f"{side}_count"] = values.groupby(["model", "unit"], sort=True).size()
        parts.append(sums.rename(columns={"value": f"{side}_total", "square": f"{side}_squares"}))
    units = pd.concat(parts, axis=1, join="inner").reset_index()
    if len(units) < LEAST_UNITS:
        raise AnalysisError(
            f"{where}: people and {observer_name(machine)} share {len(units)} units, and {LEAST_UNITS} are needed. Let "
            "the observer answer the study that people answered, or collect answers about more units."
        )
    for side in ("human", "machine"):
        units[side] = units[f"{side}_total"] / units[f"{side}_count"]
    order = ["human_count", "human_total", "machine_total", "unit"]
    return units.sort_values(order, kind="stable").reset_index(drop=True)


def _check_spread(human: Floats, machine: Floats, where: str, what: str) -> None:
    """Refuse a correlation with something that does not vary."""
    for name, values in (("people", human), ("the machine observer", machine)):
        if np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
            raise AnalysisError(
                f"{where}: {name} scored all {len(values)} {what} alike ({values.mean():.3f}), and nothing correlates "
                "with what does not vary. Compare mean scores instead, or use harder queries."
            )


def _pearson(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Return Pearson's correlation for each row of weights; NaN where a side does not vary."""
    x, y = x - x.mean(), y - y.mean()
    n = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / n, weights @ y / n
    of_x, of_y = weights @ x**2 / n - mean_x**2, weights @ y**2 / n - mean_y**2
    together = weights @ (x * y) / n - mean_x * mean_y
    usable = (of_x > 1e-12 * x.var()) & (of_y > 1e-12 * y.var())
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(usable, np.clip(together / np.sqrt(of_x * of_y), -1, 1), np.nan)


def _spearman(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Return Spearman's correlation for each row of whole-number weights."""
    counts = weights.astype(np.int64)
    drawn = np.repeat(np.tile(np.arange(len(x)), len(counts)), counts.ravel()).reshape(len(counts), -1)
    return _row_correlation(rankdata(x[drawn], axis=1), rankdata(y[drawn], axis=1))


def _row_correlation(x: Floats, y: Floats) -> Floats:
    """Return Pearson's correlation of each row of two tables; NaN where a row does not vary."""
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 1e-12, np.clip((x * y).sum(axis=1) / scale, -1, 1), np.nan)


def observer_name(machine: pd.DataFrame) -> str:
    """Return the name of the one observer in a table of machine answers."""
    names = machine["observer"].astype(str).unique() if "observer" in machine.columns else np.array(["the machine"])
    if len(names) != 1:
        raise AnalysisError(f"One machine observer at a time is compared with people, not {len(names)}.")
    return str(names[0])


def shared_groups(
    people: pd.DataFrame, machine: pd.DataFrame, keys: list[str] | None = None
) -> Iterator[tuple[dict[str, str], pd.DataFrame, pd.DataFrame]]:
    """Yield what people and machine answered in each group that both have."""
    keys = KEYS if keys is None else keys
    for name, table in (("people", people), ("the machine observer", machine)):
        if table.empty:
            raise AnalysisError(f"There are no answers of {name} to compare.")
    theirs = {tuple(map(str, key)): part for key, part in machine.groupby(keys, observed=True, sort=True)}
    found = False
    for key, own in people.groupby(keys, observed=True, sort=True):
        names = tuple(map(str, key))
        if names in theirs:
            found = True
            yield dict(zip(keys, names)), own, theirs[names]
    if not found:
        raise AnalysisError(
            f"People and {observer_name(machine)} have no {', '.join(keys)} in common: nothing can be compared. People "
            f"answered {'/'.join(sorted(map(str, people['condition'].unique())))} with references "
            f"{'/'.join(sorted(map(str, people['references'].unique())))}, the observer "
            f"{'/'.join(sorted(map(str, machine['condition'].unique())))} with "
            f"{'/'.join(sorted(map(str, machine['references'].unique())))}."
        )


def pair_answers(people: pd.DataFrame, machine: pd.DataFrame) -> pd.DataFrame:
    """Return people's answers to tasks that the machine answered, with ``machine_correct`` and ``probability``."""
    keys = ["condition", "difficulty", "references", "task"]
    left = people[[*keys, "unit", "participant", "correct"]].astype(
        dict.fromkeys([*keys, "unit", "participant"], "str")
    )
    right = machine[[*keys, "correct", "probability"]].astype(dict.fromkeys(keys, "str"))
    right = right.rename(columns={"correct": "machine_correct"})
    pairs = left.merge(right, on=keys, how="inner", validate="many_to_one")
    pairs["trial"] = pairs["condition"] + "|" + pairs["difficulty"] + "|" + pairs["references"] + "|" + pairs["task"]
    return pairs.sort_values(["unit", "participant", "trial", "correct"], kind="stable").reset_index(drop=True)


# ------------------------------------------------------------------------------------------ single answers


@dataclass(frozen=True)
class ErrorConsistency:
    """Whether people and a machine are wrong in the same trials, beyond what their accuracies make happen.

    Attributes
    ----------
    kappa
        Cohen's kappa of being right, person against machine, averaged over people; below 0 where errors avoid each
        other.
    observed, expected
        Share of trials in which both are right or both wrong; and what independent errors would give.
    human
        Kappa of two people who answered the same task: the ceiling. None where no task was answered by two.
    people
        One row a person: trials, accuracies, observed, expected, kappa (missing where errors are missing).
    """

    observer: str
    condition: str
    difficulty: str
    references: str
    kappa: Estimate
    observed: float
    expected: float
    human: Estimate | None
    human_pairs: int
    people: pd.DataFrame
    remark: str

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("observer", *KEYS[1:], "observed", "expected")}
        return row | spread_out("kappa", self.kappa) | spread_out("human", self.human) | {"remark": self.remark}


def error_consistency(people: pd.DataFrame, machine: pd.DataFrame) -> tuple[ErrorConsistency, ...]:
    """Estimate error consistency on the tasks that people and machine share, for each condition and difficulty.

    With accuracies p of a person and q of the machine on the person's n trials, independent errors agree in
    e = p q + (1 - p)(1 - q) of them, and kappa is (o - e) / (1 - e) for the observed agreement o (Geirhos, Meding &
    Wichmann, 2020, equation 3). o - e is twice the covariance of being right; because p and q come from the same
    trials, the plain difference is too small by 1/n, and n / (n - 1) undoes it. Numerator and denominator are averaged
    over people by their trials before dividing, so that people without an error count as well. The interval is that
    of a ratio, with clusters of people and of units (Cameron, Gelbach & Miller, 2011).

    Raises
    ------
    AnalysisError
        If no person shares two tasks with the machine, all people and the machine are always right, or all trials
        are about one unit.
    """
    results = []
    for names, own, theirs in shared_groups(people, machine, KEYS[1:]):
        results.append(_error_consistency(names, own, theirs))
    return tuple(results)


def _error_consistency(names: dict[str, str], own: pd.DataFrame, theirs: pd.DataFrame) -> ErrorConsistency:
    where = spell_group({"model": ALL_MODELS, **names})
    observer = observer_name(theirs)
    pairs = pair_answers(own, theirs)
    trials = pairs.groupby("participant")["trial"].transform("size")
    alone = int(pairs.loc[trials < 2, "participant"].nunique()) if len(pairs) else 0
    pairs = pairs[trials >= 2].reset_index(drop=True)
    if pairs.empty:
        raise AnalysisError(
            f"{where}: nobody answered two tasks that {observer} answered as well. Let the observer answer the study "
            "that people answered."
        )
    if pairs["unit"].nunique() < LEAST_UNITS:
        raise AnalysisError(
            f"{where}: the shared trials are about {pairs['unit'].nunique()} units, and {LEAST_UNITS} are needed for "
            "an interval that speaks for new ones."
        )
    person = pd.Categorical(pairs["participant"]).codes.astype(np.int64)
    unit = pd.Categorical(pairs["unit"]).codes.astype(np.int64)
    h, m = pairs["correct"].to_numpy(dtype=np.float64), pairs["machine_correct"].to_numpy(dtype=np.float64)
    n = np.bincount(person).astype(np.float64)
    p, q = np.bincount(person, h) / n, np.bincount(person, m) / n
    share = (n / (n - 1))[person]
    above = 2 * share * (h - p[person]) * (m - q[person])
    agree = h * m + (1 - h) * (1 - m)
    below = 1 - agree + above
    if below.sum() <= 1e-9 * len(h):
        raise AnalysisError(
            f"{where}: people and {observer} agree in all trials because neither makes errors, and the consistency of "
            "errors is 0/0. Use harder queries."
        )
    kappa = float(above.sum() / below.sum())
    half, spread = _two_way_half_width(above - kappa * below, person, unit, float(below.sum()))
    method = (
        "Cohen's kappa of being right, means over people by their trials, covariance unbiased; "
        "two-way cluster-robust standard error (people and units), Student's t"
    )
    remarks = [f"{alone} people share one task with the observer, and are left out."] if alone else []
    estimand = spell_estimand("new units and people", observer=observer)
    bounded = (max(-1.0, kappa - half), min(1.0, kappa + half))
    if not spread:
        bounded, method = (-1.0, 1.0), "no interval: trials do not vary around the ratio; " + method
    observed = float(agree.mean())
    human, pairs_of_people, remark = _human_consistency(own, where)
    if remark:
        remarks.append(remark)
    if len(n) < 2:
        remarks.append("One person: the interval speaks for new units, not for new people.")
    ones = np.bincount(person, agree) / n
    chance = ones - np.bincount(person, above) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(1 - chance > 1e-9, (ones - chance) / (1 - chance), np.nan)
    table = pd.DataFrame(
        {
            "participant": pd.Categorical(pairs["participant"]).categories,
            "trials": n.astype(np.int64),
            "human": p,
            "machine": q,
            "observed": ones,
            "expected": chance,
            "kappa": each,
        }
    )
    return ErrorConsistency(
        observer=observer,
        **names,
        kappa=Estimate(
            kappa,
            min(bounded[0], kappa),
            max(bounded[1], kappa),
            method,
            min(len(n), int(unit.max()) + 1) if len(n) > 1 else int(unit.max()) + 1,
            "kappa",
            estimand,
        ),
        observed=observed,
        expected=float(1 - below.mean()),
        human=human,
        human_pairs=pairs_of_people,
        people=table,
        remark=" ".join(remarks),
    )


def _two_way_half_width(residual: Floats, person: Integers, unit: Integers, scale: float) -> tuple[float, bool]:
    """Return half the width of a ratio's interval, from the residuals of its linear form, and whether they vary."""
    people, units = int(person.max()) + 1, int(unit.max()) + 1
    by_person = float((np.bincount(person, residual) ** 2).sum()) * people / max(people - 1, 1)
    by_unit = float((np.bincount(unit, residual) ** 2).sum()) * units / max(units - 1, 1)
    cell = person * units + unit
    _, cell = np.unique(cell, return_inverse=True)
    by_cell = float((np.bincount(cell, residual) ** 2).sum())
    if people < 2:
        variance, count = by_unit, units
    else:
        # The difference can fall below what either clustering finds by itself, even below zero; then that holds.
        variance, count = max(by_person + by_unit - by_cell, by_person, by_unit), min(people, units)
    half = float(t.ppf((1 + LEVEL) / 2, max(count - 1, 1))) * math.sqrt(variance) / scale
    return half, variance > 0


def _human_consistency(people: pd.DataFrame, where: str) -> tuple[Estimate | None, int, str]:
    """Estimate the kappa of two people who answered the same task.

    Every pair of people counts once for each task that both answered. A person's accuracy is that in all own trials.
    """
    own = pd.DataFrame(
        {
            "task": people["task"].astype(str),
            "unit": people["unit"].astype(str),
            "person": people["participant"].astype(str),
            "correct": people["correct"].to_numpy(dtype=np.float64),
        }
    ).drop_duplicates(["task", "person"])
    size = own.groupby("person")["correct"].transform("size")
    own = own[size >= 2].sort_values(["unit", "task", "person"], kind="stable").reset_index(drop=True)
    if own.empty:
        return None, 0, "Nobody answered two tasks: the consistency of people among themselves is unknown."
    person = pd.Categorical(own["person"]).codes.astype(np.int64)
    task = pd.Categorical(own["task"]).codes.astype(np.int64)
    right = own["correct"].to_numpy()
    n = np.bincount(person).astype(np.float64)
    p = (np.bincount(person, right) / n)[person]
    r = (right - p) / (1 - 1 / n[person])
    together = np.bincount(task).astype(np.float64)
    pairs = int((together * (together - 1) / 2).sum())
    if not pairs:
        return None, 0, "No task was answered by two people: their consistency among themselves is unknown."
    # Sums over ordered pairs i, j of one task: of 2 r_i r_j, and of p_i (1 - p_j) + p_j (1 - p_i).
    of_r, of_p = np.bincount(task, r), np.bincount(task, p)
    above = 2 * (of_r**2 - np.bincount(task, r**2))
    below = 2 * (together - 1) * of_p - 2 * (of_p**2 - np.bincount(task, p**2))
    if below.sum() <= 1e-9 * pairs:
        return None, pairs, "People make no errors in shared tasks: their consistency among themselves is unknown."
    kappa = float(above.sum() / below.sum())
    unit = pd.Categorical(own.drop_duplicates("task").sort_values("task")["unit"]).codes.astype(np.int64)
    units, people_count = int(unit.max()) + 1, len(n)
    residual = above - kappa * below
    by_unit = float((np.bincount(unit, residual) ** 2).sum()) / float(below.sum()) ** 2 * units / max(units - 1, 1)
    # Leave each person out: all pairs with them go.
    own_above = np.bincount(person, 4 * r * (of_r[task] - r))
    own_below = np.bincount(person, 2 * ((together[task] - 1) * p + (of_p[task] - p) - 2 * p * (of_p[task] - p)))
    rest = below.sum() - own_below
    method = "Cohen's kappa of being right, all pairs of people on shared tasks, accuracies of all own trials"
    estimand = spell_estimand("new units and people")
    count = min(units, people_count)
    if (rest <= 1e-9 * pairs).any() or count < 3:
        why = f"{people_count} people and {units} units are too few, or one person is in all pairs"
        value = min(max(kappa, -1.0), 1.0)
        return Estimate(value, -1.0, 1.0, f"no interval: {why}; {method}", count, "kappa", estimand), pairs, ""
    without = (above.sum() - own_above) / rest
    by_person = float((people_count - 1) / people_count * ((without - without.mean()) ** 2).sum())
    half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * math.sqrt(by_unit + by_person)
    value = min(max(kappa, -1.0), 1.0)
    return (
        Estimate(
            value,
            max(-1.0, value - half),
            min(1.0, value + half),
            f"{method}; standard error from units (clusters) plus people (jackknife), Student's t",
            count,
            "kappa",
            estimand,
        ),
        pairs,
        "",
    )


# ------------------------------------------------------------------------------------- probabilities as forecasts


@dataclass(frozen=True)
class Calibration:
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


def calibrate(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    target: Literal["people", "truth"] = "people",
    bins: int = BINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Calibration, ...]:
    """Compare how sure a machine is with what people choose, or with the truth, on the tasks that both answered.

    Parameters
    ----------
    target
        What confidence is compared with: every answer of people (``people``), or each shared task once (``truth``).
    bins
        Bins of equal width between 1/2 and 1. The error of few trials in many bins is biased upwards.
    resamples, seed
        Of the bootstrap over units.

    Raises
    ------
    AnalysisError
        If fewer than ``LEAST_UNITS`` units are shared.
    """
    if bins < 1:
        raise AnalysisError("Calibration needs one bin at least.")
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
        weights = resample_weights(units, resamples, np.random.default_rng(seed))
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
        )
        brier = percentile_estimate(
            float(squares.sum() / n.sum()),
            weights @ squares / (weights @ n.sum(axis=1)),
            "Brier score (mean squared error of the preferred query's probability)",
            units,
            "squared probability",
            estimand,
            (0.0, 1.0),
        )
        results.append(
            Calibration(observer_name(theirs), **names, target=target, bins=_bin_table(n, sure, right, weights, bins),
                        error=error, brier=brier)
        )  # fmt: skip
    return tuple(results)


def _bin_table(n: Floats, sure: Floats, right: Floats, weights: Floats, bins: int) -> pd.DataFrame:
    """Return the bins that hold trials."""
    edges = np.linspace(0.5, 1, bins + 1)
    rows = []
    for number in np.flatnonzero(n.sum(axis=0) > 0):
        count = weights @ n[:, number]
        drawn = count > 0
        share = (weights @ right[:, number])[drawn] / count[drawn]
        missing = 1 - drawn.mean() > 1 / 20
        low, high = (np.nan, np.nan) if missing else np.quantile(share, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
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


@dataclass(frozen=True)
class ForecastScore:
    """How well a machine's probabilities foretell single human answers; losses in nats a trial, lower is better.

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
        Machine minus baseline, paired by trial: below 0 where the machine foretells better.
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


def score_forecasts(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    clip: float = 0.001,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[ForecastScore, ...]:
    """Score a machine's probabilities as forecasts of people's answers to the same tasks.

    Parameters
    ----------
    clip
        Probabilities nearer than this to 0 or 1 are moved to it: one certain forecast that fails would otherwise make
        the mean infinite. With 0 they stay, and the loss may be infinite.
    resamples, seed
        Of the bootstrap over units: trials of a unit stay together.

    Raises
    ------
    AnalysisError
        If fewer than ``LEAST_UNITS`` units are shared.
    """
    if not 0 <= clip < 0.5:
        raise AnalysisError(f"Probabilities are clipped between 0 and 1/2, not at {clip}.")
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
        weights = resample_weights(units, resamples, np.random.default_rng(seed))
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
                    value, -math.inf, math.inf, f"no interval: {why}; {what}", units, "nats per trial", estimand
                )
            drawn = weights @ count
            with np.errstate(divide="ignore", invalid="ignore"):
                replicates = np.where(drawn > 0, weights @ total / drawn, np.nan)
            return percentile_estimate(value, replicates, what, int((count > 0).sum()), "nats per trial", estimand)

        every = np.ones(len(h), dtype=bool)
        of_machine = log_loss(p, h)
        constant = ((s.sum() - s + 1) / (n.sum() - n + 2))[unit]
        of_constant = log_loss(constant, h)
        several = (n > 1)[unit]
        of_units = log_loss(_foretell_by_unit(unit, h, n, s, constant), h)
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
    return tuple(results)


def _foretell_by_unit(unit: Integers, h: Floats, n: Floats, s: Floats, constant: Floats) -> Floats:
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


def number_units(pairs: pd.DataFrame, where: str, observer: str) -> Integers:
    """Number the units of trials, in the order of their data."""
    units = pairs["unit"].nunique()
    if units < LEAST_UNITS:
        raise AnalysisError(
            f"{where}: people and {observer} answered tasks of {units} shared units, and {LEAST_UNITS} are needed. Let "
            "the observer answer the study that people answered, or collect answers about more units."
        )
    facts = pairs.groupby("unit")[["correct", "probability"]].agg(["size", "sum"])
    facts.columns = ["size", "right", "_", "probability"]
    order = facts.reset_index().sort_values(["size", "right", "probability", "unit"], kind="stable")["unit"]
    codes: Integers = pd.Index(order).get_indexer(pairs["unit"]).astype(np.int64)
    return codes
