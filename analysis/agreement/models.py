"""Agreement on models: mean human and machine scores, correlated over models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from analysis.agreement.correlation import check_spread, row_correlation, weighted_pearson
from analysis.agreement.machines import Score, observer_name
from analysis.agreement.pairing import ALL_MODELS, shared_groups, unit_table
from analysis.estimands import spell_estimand
from analysis.groups import KEYS, spell_group
from analysis.intervals.bootstrap import percentile_estimate, resample_weights
from analysis.intervals.quantiles import critical_value
from analysis.results import Record, ResultList
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

LEAST_MODELS = 3


@dataclass(frozen=True)
class ModelAgreement(Record):
    """Agreement of human and machine scores of models.

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


@threaded
def model_agreement(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    score: Score = "probability",
    **settings: Unpack[Settings],
) -> ResultList[ModelAgreement]:
    """Correlate mean human and machine scores over models, for each condition, difficulty and kind of references.

    Means are over the units that both have answered about. With Fisher's z the error of Pearson's correlation is
    1 / sqrt(n - 3), that of Spearman's sqrt((1 + r^2 / 2) / (n - 3)): Bonett & Wright (2000), Psychometrika 65.

    Raises
    ------
    AnalysisError
        If there are fewer than ``LEAST_MODELS`` models, or people or machine score all of them alike.
    """
    chosen = choose(settings)
    results = []
    for names, own, theirs in shared_groups(people, machine, KEYS[1:]):
        units = unit_table(own, theirs, score, spell_group({"model": ALL_MODELS, **names}))
        means = units.groupby("model", sort=True)[["human", "machine"]].mean()
        means["units"] = units.groupby("model", sort=True).size()
        count = len(means)
        where = spell_group({"model": ALL_MODELS, **names})
        if count < LEAST_MODELS:
            raise AnalysisError(
                f"{where}: people and machine share {count} models. A correlation over models needs at least "
                f"{LEAST_MODELS}, and is uninformative with fewer than ten. Compare units instead."
            )
        human, other = means["human"].to_numpy(), means["machine"].to_numpy()
        check_spread(human, other, where, "models")
        rng = np.random.default_rng(chosen.seed)
        replicates = [np.empty((chosen.resamples, count)) for _ in range(2)]
        for number, (_, part) in enumerate(units.groupby("model", sort=True)):
            weights = resample_weights(len(part), chosen.resamples, rng) / len(part)
            for replicate, column in zip(replicates, ("human", "machine")):
                replicate[:, number] = weights @ part[column].to_numpy()
        value = float(weighted_pearson(np.ones((1, count)), human, other)[0])
        these = percentile_estimate(
            value,
            row_correlation(*replicates),
            f"Pearson correlation over {count} models, units resampled within each",
            len(units),
            "correlation",
            spell_estimand("new units", observer=observer_name(theirs)),
            (-1.0, 1.0),
            chosen.level,
        )
        rank = float(weighted_pearson(np.ones((1, count)), rankdata(human), rankdata(other))[0])
        estimand = spell_estimand("new models", observer=observer_name(theirs))
        results.append(
            ModelAgreement(
                observer=observer_name(theirs),
                **names,
                score=score,
                table=means.reset_index(),
                these_models=these,
                pearson=_fisher(value, 1.0, count, "Pearson", estimand, chosen.level),
                spearman=_fisher(rank, 1 + rank**2 / 2, count, "Spearman", estimand, chosen.level),
            )
        )
    return ResultList(results)


def _fisher(value: float, factor: float, count: int, name: str, estimand: str, level: float) -> Estimate:
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
            level,
        )
    half = critical_value(level) * math.sqrt(factor / (count - 3))
    low, high = (math.tanh(math.atanh(value) + side * half) for side in (-1, 1))
    method = f"{name} correlation over {count} models, Fisher's z"
    return Estimate(value, low, high, method, count, "correlation", estimand, level)
