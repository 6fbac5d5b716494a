"""How often tests of a slope find one that is not there: the reason why a slope over models is tested on their means.

A regression of thousands of trials on a property of nine models takes every trial for a new observation. Sandwich
errors by participant, unit or both repair what hangs together within those, and leave out what is between models. With
clusters by model they are right for many models, and far too small for nine: Cameron, Gelbach & Miller (2008),
Bootstrap-based improvements for inference with clustered errors, Review of Economics and Statistics 90.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm, rankdata, t

from analysis.estimands import spell_estimand
from analysis.intervals.wilson import interval_of_count
from analysis.multiple_tests import ALPHA
from analysis.power.analyses import alpha_was_level, model_means, regress_means
from analysis.power.design import Design
from analysis.power.simulation import Answers
from analysis.power.variances import link_slope
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate
from benchmark.progress import Reporter

TESTS = (
    "naive trial-level logistic",
    "cluster by participant",
    "cluster by unit",
    "two-way unit + participant",
    "cluster by model, z",
    "cluster by model, t",
    "OLS on model means",
    "Spearman on model means",
)
"""Tests of a slope, from the most credulous to those that count models."""


@dataclass(frozen=True)
class LogisticSlope:
    """A logistic regression of single answers on a predictor of their models.

    Attributes
    ----------
    slope
        The slope.
    naive
        Its standard error if every answer were independent.
    influence
        Shape (answers,): how much each answer moves the slope.
    """

    slope: float
    naive: float
    influence: NDArray[np.float64]

    def error(self, *codes: NDArray[np.int64]) -> float:
        """Return the standard error with clusters by one factor, or by two crossed ones."""
        variances = [self._one_way(code) for code in codes]
        if len(codes) == 2:
            crossing = codes[0] * (int(codes[1].max()) + 1) + codes[1]
            return float(np.sqrt(max(sum(variances) - self._one_way(crossing), 0.0)))
        return float(np.sqrt(variances[0]))

    def _one_way(self, code: NDArray[np.int64]) -> float:
        numbers = np.unique(code, return_inverse=True)[1]
        sums = np.bincount(numbers, weights=self.influence)
        answers, count = len(code), len(sums)
        # The usual correction for few clusters and two coefficients.
        return float((sums**2).sum()) * count / (count - 1) * (answers - 1) / (answers - 2)


def logistic_slope(
    correct: NDArray[np.bool_], model: NDArray[np.int64], predictor: NDArray[np.float64]
) -> LogisticSlope:
    """Regress right and wrong answers on a predictor of their models, with an ordinary logit.

    Parameters
    ----------
    correct, model
        Shape (answers,): whether each is right, and its model's number.
    predictor
        Shape (models,).

    Raises
    ------
    AnalysisError
        If the regression does not converge: the predictor separates the answers perfectly.
    """
    total = np.bincount(model, minlength=len(predictor)).astype(np.float64)
    right = np.bincount(model, weights=correct, minlength=len(predictor))
    x = np.column_stack([np.ones(len(predictor)), predictor])
    share = np.clip(right.sum() / total.sum(), 1e-6, 1 - 1e-6)
    beta = np.array([np.log(share / (1 - share)), 0.0])
    for _ in range(50):
        fitted = expit(x @ beta)
        information = (x * (total * fitted * (1 - fitted))[:, None]).T @ x
        if np.linalg.cond(information) > 1e12:
            break
        step = np.linalg.solve(information, x.T @ (right - total * fitted))
        beta += step
        if np.abs(step).max() < 1e-10:
            covariance = np.linalg.inv(information)
            influence = (covariance[1] @ x.T)[model] * (correct - fitted[model])
            return LogisticSlope(float(beta[1]), float(np.sqrt(covariance[1, 1])), influence)
    raise AnalysisError("The logistic regression of answers on the predictor has no finite slope.")


def _p_values(answers: Answers, predictor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p of the six trial-level tests, in the order of ``TESTS``."""
    kept = ~answers.catch & ~answers.blank & (answers.condition == 0)
    unit, person, model = answers.unit[kept], answers.participant[kept], answers.model[kept]
    fit = logistic_slope(answers.correct[kept], model, predictor)
    errors = [fit.naive, fit.error(person), fit.error(unit), fit.error(unit, person), fit.error(model)]
    # A two-way variance can come out at 0; the test then finds everything.
    with np.errstate(divide="ignore"):
        z = abs(fit.slope) / np.array(errors)
    p = 2 * norm.sf(z)
    return np.array([*p, 2 * t.sf(z[-1], len(predictor) - 1)])


def _spearman_p(means: NDArray[np.float64], predictor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p of Spearman's correlation for many studies, by its t approximation."""
    ranks, order = rankdata(means, axis=1), rankdata(predictor)
    ranks -= ranks.mean(axis=1, keepdims=True)
    order -= order.mean()
    norms = np.sqrt((ranks**2).sum(axis=1) * (order @ order))
    r = np.clip(np.divide(ranks @ order, norms, out=np.zeros(len(means)), where=norms > 0), -1, 1)
    freedom = len(predictor) - 2
    with np.errstate(divide="ignore"):
        ratio = np.abs(r) * np.sqrt(freedom / (1 - r**2))
    p: NDArray[np.float64] = 2 * t.sf(ratio, freedom)
    return p


@alpha_was_level
def error_rates(
    design: Design,
    *,
    effect: float = 0.0,
    alpha: float = ALPHA,
    simulations: int = 1000,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Estimate]:
    """Return how often each test of a slope finds one, in simulated studies of a design.

    Parameters
    ----------
    design
        The design; its first condition is tested.
    effect
        The true slope, in proportion correct per decade: with 0, the rates are the tests' true sizes.
    alpha, simulations, seed, reporter
        As for ``simulate_power``.

    Returns
    -------
    For each of ``TESTS`` the share of studies with p at most alpha, with Wilson's interval.

    Raises
    ------
    AnalysisError
        If the design has fewer than three models, or they do not differ in the predictor.
    """
    slope = link_slope(design, effect)
    truth = design.truth.model_copy(update={"slope": slope})
    predictor = design.values
    p = np.empty((simulations, len(TESTS) - 2))
    means = np.empty((simulations, design.models))
    title = "Studies, all tests of a slope"
    for number, answers in design.studies(truth, predictor, simulations, seed, title, reporter):
        p[number] = _p_values(answers, predictor)
        means[number] = model_means(answers)
    every = np.column_stack([p, regress_means(means, predictor).p, _spearman_p(means, predictor)])
    return {name: _rate(every[:, column] <= alpha, alpha) for column, name in enumerate(TESTS)}


def _rate(found: NDArray[np.bool_], alpha: float) -> Estimate:
    count, n = int(found.sum()), len(found)
    low, high = interval_of_count(count, n, LEVEL)
    method = f"share of {n:,} simulated studies with p at most {alpha:g}; Wilson interval"
    return Estimate(count / n, low, high, method, n, "probability", spell_estimand("new models"))


def error_rate_table(
    design: Design, deviations: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3), *, simulations: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return the sizes of all tests for several standard deviations between models, one row a test."""
    columns = {
        f"{deviation:g}": {
            name: rate.value
            for name, rate in error_rates(
                design.changed(truth={"model": deviation}), simulations=simulations, seed=seed
            ).items()
        }
        for deviation in deviations
    }
    return pd.DataFrame(columns).loc[list(TESTS)].rename_axis("test").reset_index()
