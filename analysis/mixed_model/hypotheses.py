"""Tests on fitted mixed models: linear hypotheses on fixed effects, contrasts of groups, and nested fits compared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import chi2, f, norm, t

from analysis.estimands import spell_estimand
from analysis.mixed_model.links import Floats
from analysis.multiple_tests import adjust_holm
from analysis.results import Record, ResultList
from benchmark.errors import AnalysisError, first_line
from benchmark.estimate import Estimate

if TYPE_CHECKING:
    from analysis.mixed_model.fit import MixedModelFit

SAME = 1e-8
"""Columns of two designs that differ by less, of their own size, are the same."""


@dataclass(frozen=True)
class WaldTest(Record):
    """A test of linear hypotheses on the fixed effects of a mixed model, by Wald.

    Attributes
    ----------
    hypothesis
        What was tested.
    statistic
        F.
    degrees_of_freedom
        How many independent hypotheses there are.
    residual_degrees_of_freedom
        The smallest of the effects involved; infinite if none speaks for new models: F is then chi-square over its
        degrees of freedom.
    p
        Two-sided.
    """

    hypothesis: str
    statistic: float
    degrees_of_freedom: int
    residual_degrees_of_freedom: float
    p: float


@dataclass(frozen=True)
class LinearTest(Record):
    """A test of one linear hypothesis on the fixed effects.

    Attributes
    ----------
    hypothesis
        What was tested.
    estimate
        The combination of effects on its left, with its Wald interval.
    statistic
        How far it is from what the hypothesis says, in standard errors.
    p
        Two-sided.
    """

    hypothesis: str
    estimate: Estimate
    statistic: float
    p: float


@dataclass(frozen=True)
class Contrast(Record):
    """The difference between two groups of answers, on the scale of the link.

    Attributes
    ----------
    first, second
        The groups: first minus second.
    difference
        The difference of their mean fixed effects, with its Wald interval.
    p, p_holm
        Two-sided, and adjusted for all pairs.
    """

    first: str
    second: str
    difference: Estimate
    p: float
    p_holm: float

    @staticmethod
    def _draw_all(contrasts: Sequence[Contrast], **options: Any) -> Any:
        """Draw the differences below one another."""
        from analysis.figures import plot_estimates

        rows = [{"label": f"{own.first} - {own.second}", **own.difference.as_dict()} for own in contrasts]
        what = f"difference, {contrasts[0].difference.unit}"
        return plot_estimates(pd.DataFrame(rows), **{"value_label": what, "level": 0.0, **options})


@dataclass(frozen=True)
class LikelihoodRatio(Record):
    """A likelihood-ratio test of a mixed model within another.

    Attributes
    ----------
    smaller, larger
        What each has: fixed effects, and random effects behind a stroke.
    statistic
        Twice the difference of the log-likelihoods.
    degrees_of_freedom
        How many parameters the larger one has more.
    reference
        What the statistic is compared with.
    p
        The chance of a statistic as large.
    """

    smaller: str
    larger: str
    statistic: float
    degrees_of_freedom: int
    reference: str
    p: float


def freedom_of(fit: MixedModelFit, weights: Floats) -> float:
    """Return the degrees of freedom of linear combinations: the fewest of the effects that take part."""
    involved = np.abs(np.atleast_2d(weights)).max(axis=0) > 0
    return min((fit.freedom(name) for name, used in zip(fit.design.names, involved) if used), default=math.inf)


def read_constraints(spec: str | Sequence[str], names: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the matrix and the values of linear constraints.

    Parameters
    ----------
    spec
        ``"condition[T.synthetic] = 0"``, several joined by commas or in a list; a name alone is compared with 0.
    names
        The coefficients.

    Raises
    ------
    AnalysisError
        If it can't be read, or names an effect that there is not.
    """
    from formulaic.utils.constraints import LinearConstraints  # type: ignore[import-untyped, unused-ignore]

    text = spec if isinstance(spec, str) else ", ".join(spec)
    sides = [[side.strip() for side in part.split("=")] for part in text.split(",")]
    # A number on the right is read here: formulaic takes "= -1" for an operator of its own.
    values = [_number(side[1]) if len(side) == 2 else 0.0 for side in sides]
    whole = ", ".join(f"{side[0]} = 0" if value is not None else " = ".join(side) for side, value in zip(sides, values))
    try:
        read = LinearConstraints.from_spec(whole, variable_names=list(names))
    except Exception as error:  # formulaic raises errors of many kinds
        raise AnalysisError(
            f"The hypothesis {text!r} can't be read ({first_line(error)}). Name fixed effects as in "
            f"'{names[-1]} = 0'; there are {', '.join(names)}."
        ) from error
    right = np.asarray(read.constraint_values, dtype=np.float64) + np.array([value or 0.0 for value in values])
    return np.asarray(read.constraint_matrix, dtype=np.float64), right


def _number(text: str) -> float | None:
    """Return the number that a text is, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def wald_test(fit: MixedModelFit, hypothesis: str | Sequence[str]) -> WaldTest:
    """Test linear hypotheses on fixed effects.

    The statistic is (Lb - q)' (L V L')^-1 (Lb - q) / r for r rows of L, compared with F on r and the fewest degrees of
    freedom of the effects involved (Student's t for one effect, squared).

    Raises
    ------
    AnalysisError
        If the hypothesis can't be read, holds twice the same, or the fit has no standard errors.
    """
    weights, values = read_constraints(hypothesis, fit.design.names)
    covariance = fit.cov_params().to_numpy()
    spread = weights @ covariance @ weights.T
    rank = int(np.linalg.matrix_rank(weights))
    if rank < len(weights):
        raise AnalysisError(f"The hypothesis {hypothesis!r} says one thing twice: leave the repetition out.")
    if not fit.converged:
        raise AnalysisError("The fit did not converge, so that it has no standard errors to test with.")
    away = weights @ fit.coefficients - values
    statistic = float(away @ np.linalg.solve(spread, away)) / rank
    freedom = freedom_of(fit, weights)
    if freedom < 1:
        raise AnalysisError("Too few models: what compares models has no degrees of freedom left to be tested with.")
    p = float(f.sf(statistic, rank, freedom) if math.isfinite(freedom) else chi2.sf(rank * statistic, rank))
    said = hypothesis if isinstance(hypothesis, str) else ", ".join(hypothesis)
    return WaldTest(said, statistic, rank, freedom, p)


def linear_tests(fit: MixedModelFit, hypothesis: str | Sequence[str], level: float) -> ResultList[LinearTest]:
    """Test hypotheses on fixed effects one by one; ``wald_test`` tests them together.

    Raises
    ------
    AnalysisError
        If a hypothesis can't be read.
    """
    said = [part.strip() for part in hypothesis.split(",")] if isinstance(hypothesis, str) else list(hypothesis)
    weights, values = read_constraints(said, fit.design.names)
    covariance = fit.cov_params().to_numpy()
    tests = []
    for words, row, value in zip(said, weights, values):
        estimate, error, freedom = _combine(fit, row, covariance, level, fit.nobs)
        away = (estimate.value - float(value)) / error if error > 0 and fit.converged else math.nan
        tests.append(LinearTest(words, estimate, away, _two_sided(away, freedom)))
    return ResultList(tests)


def _two_sided(statistic: float, freedom: float) -> float:
    """Return the two-sided p of a statistic; missing where there are no degrees of freedom."""
    if freedom < 1:
        return math.nan
    return 2 * float(t.sf(abs(statistic), freedom) if math.isfinite(freedom) else norm.sf(abs(statistic)))


def _combine(
    fit: MixedModelFit, weights: Floats, covariance: Floats, level: float, count: int
) -> tuple[Estimate, float, float]:
    """Return a linear combination of fixed effects, its standard error, and its degrees of freedom."""
    value, error = float(weights @ fit.coefficients), math.sqrt(max(float(weights @ covariance @ weights), 0.0))
    freedom = freedom_of(fit, weights)
    low, high = -math.inf, math.inf
    method = "no interval: the fit did not converge"
    if fit.converged and error > 0 and freedom >= 1:
        reach = float(t.ppf((1 + level) / 2, freedom) if math.isfinite(freedom) else norm.ppf((1 + level) / 2))
        low, high = value - reach * error, value + reach * error
        how = f"t with {freedom:.0f} degrees of freedom" if math.isfinite(freedom) else "normal"
        method = f"Wald, {how}; {fit.method}"
    involved = [name for name, weight in zip(fit.design.names, weights) if weight]
    new_models = bool(involved) and all(fit.speaks_for_new_models(name) for name in involved)
    scope = fit._scope(new_models)
    return Estimate(value, low, high, method, count, fit.scale, spell_estimand(scope), level), error, freedom


def contrast_groups(fit: MixedModelFit, by: str | Sequence[str], level: float) -> ResultList[Contrast]:
    """Return the differences between all pairs of groups of answers, on the scale of the link.

    A group's mean is that of its fixed effects over its answers; Holm's correction is over all pairs.

    Raises
    ------
    AnalysisError
        If a column is missing, or there are fewer than two groups.
    """
    names = [by] if isinstance(by, str) else list(by)
    table = fit.table.iloc[fit.design.rows].reset_index(drop=True)
    missing = [name for name in names if name not in table]
    if missing:
        raise AnalysisError(f"The table has no column {', '.join(map(repr, missing))} to group by.")
    groups = table.groupby(names, sort=True, observed=True).indices
    if len(groups) < 2:
        raise AnalysisError(f"All answers have one value of {', '.join(names)}: there is nothing to contrast.")
    spelled = {key: ", ".join(map(str, key if isinstance(key, tuple) else (key,))) for key in groups}
    means = {key: fit.design.fixed[rows].mean(axis=0) for key, rows in groups.items()}
    covariance = fit.cov_params().to_numpy()
    found: list[tuple[str, str, Estimate, float]] = []
    for first, second in itertools.combinations(groups, 2):
        weights = means[first] - means[second]
        weights[np.abs(weights) < SAME] = 0.0
        if not weights.any():
            raise AnalysisError(
                f"{spelled[first]} and {spelled[second]} have the same fixed effects: {', '.join(names)} is no fixed "
                "effect of this fit. Add it to the model, or look at conditional_modes."
            )
        estimate, error, freedom = _combine(fit, weights, covariance, level, len(table))
        tested = fit.converged and error > 0
        p = _two_sided(estimate.value / error, freedom) if tested else math.nan
        found.append((spelled[first], spelled[second], estimate, p))
    adjusted = adjust_holm([p for *_, p in found])
    return ResultList(Contrast(*own, float(holm)) for own, holm in zip(found, adjusted))


def likelihood_ratio(smaller: MixedModelFit, larger: MixedModelFit) -> LikelihoodRatio:
    """Compare two nested fits to the same answers.

    Where the larger one has one random effect more, the smaller one lies at the boundary of what is possible, and the
    reference is the mixture of two chi-squares with equal weights (Stram & Lee 1994, Variance components testing in the
    longitudinal mixed effects model, Biometrics 50): with and without its variance, and always with its correlations.
    With several more it is the plain chi-square, which is conservative.

    Raises
    ------
    AnalysisError
        If the fits are not of the same answers, link and method; are not nested; or differ in fixed effects and were
        fitted by a restricted likelihood, which then measures different things.
    """
    one, two = smaller.model, larger.model
    if (one.link, one.guess, one.lapse) != (two.link, two.guess, two.lapse):
        raise AnalysisError("The two fits differ in link, guess or lapse rate: their likelihoods can't be compared.")
    same = len(smaller.table) == len(larger.table) and np.array_equal(
        smaller.table[one.outcome].to_numpy(), larger.table[two.outcome].to_numpy()
    )
    if not same or smaller.set_apart != larger.set_apart:
        raise AnalysisError("The two fits are not of the same answers in the same order: fit both to one table.")
    if smaller.method != larger.method:
        raise AnalysisError(
            f"The fits were made in different ways ({smaller.method}; {larger.method}): use one method."
        )
    first, second = _sorted_design(smaller), _sorted_design(larger)
    fixed = second.shape[1] - first.shape[1]
    random = {own.name for own in larger.design.factors} - {own.name for own in smaller.design.factors}
    missing = {own.name for own in smaller.design.factors} - {own.name for own in larger.design.factors}
    left = first - second @ np.linalg.lstsq(second, first, rcond=None)[0]
    sheared = len(larger.system.shears) - len(smaller.system.shears)
    wider = bool(fixed or random or sheared)
    if missing or (left**2).sum() > SAME * (first**2).sum() or fixed < 0 or sheared < 0 or not wider:
        raise AnalysisError(
            f"{_spell(smaller)} is not a part of {_spell(larger)}: a likelihood-ratio test needs nested models, the "
            "smaller one first."
        )
    if fixed and "restricted" in smaller.method:
        raise AnalysisError(
            "Restricted likelihoods of models with different fixed effects can't be compared. Fit both by "
            'maximum likelihood, with method="propagation-joint" in MixedModel(...) or MixedModel.from_formula(...), '
            "or test the effects with wald_test."
        )
    statistic = max(2 * (larger.log_likelihood - smaller.log_likelihood), 0.0)
    inside = fixed + sheared
    more = inside + len(random)
    if len(random) == 1:
        below = float(statistic <= 0) if inside == 0 else float(chi2.sf(statistic, inside))
        p = 0.5 * below + 0.5 * float(chi2.sf(statistic, inside + 1))
        reference = f"half chi-square with {inside}, half with {inside + 1} degrees of freedom"
    else:
        p = float(chi2.sf(statistic, more))
        note = ", conservative for several variances" if random else ""
        reference = f"chi-square with {more} degrees of freedom{note}"
    return LikelihoodRatio(_spell(smaller), _spell(larger), statistic, more, reference, p)


def _sorted_design(fit: MixedModelFit) -> Floats:
    """Return the design matrix in the order of the table's rows."""
    return fit.design.fixed[np.argsort(fit.design.rows)]


def _spell(fit: MixedModelFit) -> str:
    """Write a model's effects: fixed ones, and random ones behind a stroke."""
    return f"{' + '.join(fit.design.names)} | {', '.join(own.name for own in fit.design.factors) or 'none'}"


def coefficient_table(fit: MixedModelFit) -> pd.DataFrame:
    """Return what statsmodels' tables of coefficients hold: one row a fixed effect."""
    names = list(fit.design.names)
    errors = pd.Series(fit.standard_errors, dtype=float)[names]
    estimates = pd.Series(dict(zip(names, fit.coefficients.tolist())), dtype=float)
    freedom = pd.Series({name: fit.freedom(name) for name in names}, dtype=float)
    ratio = (estimates / errors).where(errors > 0)
    usable = fit.converged & (freedom >= 1)
    p = [
        2 * float(t.sf(abs(z), df) if math.isfinite(df) else norm.sf(abs(z))) if good else math.nan
        for z, df, good in zip(ratio, freedom, usable)
    ]
    return pd.DataFrame({"coef": estimates, "std err": errors, "z or t": ratio, "df": freedom, "p": p}, index=names)
