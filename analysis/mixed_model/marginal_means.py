"""Proportions correct that a fitted model implies: averages over units and people, not those of an average one.

The probability at a random effect of zero is that of a median unit, and too far from the guess rate; what a study
reports is the mean over units and people. Integrating a distribution function over a normal variable has a closed form
for the probit, and for the logit as a mixture of normal ones (``expectation_propagation.normal_mixture``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtr
from scipy.stats import norm, t

from analysis.estimands import spell_estimand
from analysis.mixed_model.design import Integers
from analysis.mixed_model.expectation_propagation import normal_mixture
from analysis.mixed_model.links import Floats, LinkName
from analysis.results import Record, ResultList, name_row
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate

if TYPE_CHECKING:
    from analysis.mixed_model.fit import MixedModelFit

UNIT_OF_MEASUREMENT = "proportion correct"


@dataclass(frozen=True)
class MarginalMean(Record):
    """The proportion correct that a model implies for a group of answers.

    Attributes
    ----------
    names
        What the group is: the values of the columns that make it.
    estimate
        The proportion, with its interval.
    """

    names: dict[str, str]
    estimate: Estimate

    @staticmethod
    def _draw_all(means: Sequence[MarginalMean], **options: Any) -> Any:
        """Draw the means below one another."""
        from analysis.figures import plot_estimates

        labels = [", ".join(own.names.values()) or "all answers" for own in means]
        table = pd.DataFrame([own.row() for own in means]).assign(label=labels)
        return plot_estimates(table, **{"value_label": UNIT_OF_MEASUREMENT, **options})

    def row(self) -> dict[str, Any]:
        """Return the group as a row of a table."""
        return name_row(self.names, self.estimate)


class MarginalMeans(ResultList[MarginalMean]):
    """The proportions correct that a model implies, one a group of answers."""

    @property
    def caption(self) -> str:
        """What the means are of."""
        return "Proportions correct that the model implies, random effects integrated out."


def integrate(eta: Floats, variance: float | Floats, link: LinkName) -> tuple[Floats, Floats, Floats]:
    """Return the mean of F over a normal variable, and its first two derivatives by the variable's mean.

    The derivative by the variance is half of the second one.
    """
    scales, weights = normal_mixture(link)
    mean, slope, bend = (np.zeros_like(eta) for _ in range(3))
    for scale, weight in zip(scales, weights):
        width = np.sqrt(scale**2 + variance)
        scaled = eta / width
        first = weight * np.exp(-0.5 * scaled**2) / (math.sqrt(2 * math.pi) * width)
        mean += weight * ndtr(scaled)
        slope += first
        bend -= first * scaled / width
    return mean, slope, bend


def marginal_means(fit: MixedModelFit, by: Sequence[str] = (), level: float = LEVEL) -> MarginalMeans:
    """Return the proportion correct that the model implies for each group of answers.

    Parameters
    ----------
    by
        Columns of the table that make the groups; none for all answers together. A factor with one level in every
        group (a model and its units, by model) stays at its conditional mode: the mean speaks for that very model.
        All other random effects are integrated out.

    Raises
    ------
    AnalysisError
        If a column is missing.
    """
    table = fit.table.iloc[fit.design.rows].reset_index(drop=True)
    missing = [name for name in by if name not in table]
    if missing:
        raise AnalysisError(f"The table has no column {', '.join(map(repr, missing))} to group by.")
    keys = [table[name].astype(object) for name in by]
    if keys:
        groups, index = pd.factorize(pd.MultiIndex.from_arrays(keys), sort=True)
        labels = [tuple(label) for label in index]
    else:
        groups, labels = np.zeros(len(table), dtype=np.int64), [()]
    kept = [which for which, factor in enumerate(fit.design.factors) if _one_level(factor.codes, groups)]
    order = np.argsort(groups, kind="stable")
    ends = np.searchsorted(groups[order], np.arange(len(labels) + 1))
    means = []
    for number, label in enumerate(labels):
        own = order[ends[number] : ends[number + 1]]
        names = {name: str(value) for name, value in zip(by, label)}
        means.append(MarginalMean(names, _group_mean(fit, own, kept, by, level)))
    return MarginalMeans(means)


def _one_level(codes: Integers, groups: Integers) -> bool:
    """Say whether every group has one level of a factor."""
    first = np.zeros(int(groups.max()) + 1, dtype=np.int64)
    first[groups] = codes
    return bool(np.array_equal(first[groups], codes))


def _group_mean(fit: MixedModelFit, rows: Integers, kept: Sequence[int], by: Sequence[str], level: float) -> Estimate:
    """Return the mean of one group, with its interval by the delta method on the scale of the link."""
    design, system, sds = fit.design, fit.system, fit.scales
    mode = fit.optimum.evaluation.mode.unknowns
    eta = design.fixed[rows] @ fit.coefficients
    for which in kept:
        eta = eta + sds[which] * _multiplied(fit, which, rows, mode[system.positions[which][rows]])
    variance = fit.random_variance(rows, kept)
    guess = design.guess if isinstance(design.guess, float) else design.guess[rows]
    span = 1 - guess - fit.model.lapse
    mean, slope, bend = integrate(eta, variance, fit.model.link)
    value = float(np.mean(guess + span * mean))
    weights = np.broadcast_to(span, slope.shape) / len(rows)
    # How the mean follows the unknowns at given standard deviations, and these standard deviations.
    by_coefficient = design.fixed[rows].T @ (weights * slope)
    free = np.flatnonzero(fit.optimum.moving)
    by_sd = np.array([_by_spread(fit, int(which), kept, rows, weights * bend) for which in free])
    if kept:
        total = np.zeros(system.size)
        for which in kept:
            pushed = _multiplied(fit, which, rows, weights * slope)
            total += sds[which] * np.bincount(system.positions[which][rows], pushed, minlength=system.size)
        total[system.fixed_start :] = by_coefficient
        error = float(total @ fit.optimum.evaluation.factorised.solve(total, fixed=True))
        by_sd = by_sd + fit.optimum.slopes.T @ by_coefficient
        error += float(by_sd @ fit.covariance[: len(free), : len(free)] @ by_sd)
    else:
        change = np.concatenate([by_sd, by_coefficient])
        error = float(change @ fit.covariance @ change)
    names = [factor.name for factor in design.factors]
    compares = fit.model.models in names and names.index(fit.model.models) not in kept
    # A mean in a condition speaks for new models if the condition may do something else in each of them.
    within = {inside for inside, _ in design.stratum if inside & set(by)}
    compares = compares and all(fit.varies_between_models(inside) for inside in within)
    freedom = fit.freedom(design.names[0]) if compares else math.inf
    scope = fit.scope if compares or fit.scope != "new models" else "new units and people"
    low, high, method = 0.0, 1.0, "no interval: the fit did not converge"
    bottom, top = float(np.mean(guess)), 1 - fit.model.lapse
    if freedom < 1:
        method = "no interval: too few models to speak for new ones"
    elif fit.converged and error > 0 and bottom < value < top:
        # On the logit of where the mean lies between the asymptotes, so that the interval stays between them.
        share = (value - bottom) / (top - bottom)
        width = float(t.ppf((1 + level) / 2, freedom) if math.isfinite(freedom) else norm.ppf((1 + level) / 2))
        width *= math.sqrt(error) / ((top - bottom) * share * (1 - share))
        low, high = (bottom + (top - bottom) * float(expit(logit(share) + sign * width)) for sign in (-1, 1))
        how = f"t with {freedom:.0f} degrees of freedom" if math.isfinite(freedom) else "normal"
        integrated = [name for which, name in enumerate(names) if which not in kept]
        method = f"delta method ({how}), integrated over {', '.join(integrated) or 'nothing'}; {fit.method}"
    count = (
        fit.number_of_models
        if compares
        else min(
            (len(np.unique(f.codes[rows])) for which, f in enumerate(design.factors) if which not in kept),
            default=len(rows),
        )
    )
    return Estimate(
        value, min(low, value), max(high, value), method, count, UNIT_OF_MEASUREMENT, spell_estimand(scope), level
    )


def _multiplied(fit: MixedModelFit, which: int, rows: Integers, numbers: Floats) -> Floats:
    """Return numbers of some answers times what the effects of a factor are multiplied by there."""
    values = fit.system.values[which]
    return numbers if values is None else numbers * values[rows]


def _by_spread(fit: MixedModelFit, which: int, kept: Sequence[int], rows: Integers, weights: Floats) -> float:
    """Return how the mean follows the logarithm of a standard deviation, or a shear of random slopes."""
    count = len(fit.scales)
    column, added = (which, None) if which < count else fit.system.sheared()[which - count]
    if column in kept:
        return 0.0
    one = _multiplied(fit, column, rows, weights)
    two = _multiplied(fit, column, rows, one) if added is None else one * added[rows]
    return float(fit.scales[column] ** 2 * two.sum())


def conditional_modes(fit: MixedModelFit, factor: str) -> pd.DataFrame:
    """Return the random effects of a factor: what its levels differ by, shrunken as far as their answers leave open.

    A column of a random slope has a name of its own: ``"x | participant"``.

    Returns
    -------
    One row a level, sorted by name: ``level``, ``effect`` and ``standard_error`` on the scale of the link, and
    ``answers``. By expectation propagation the effects are posterior means, else modes.
    """
    own = fit.design.factor(factor)
    which = [other.name for other in fit.design.factors].index(factor)
    evaluation = fit.optimum.evaluation
    selected = evaluation.factorised.select_inverse(fixed=True)
    effects, variances = np.zeros(own.size), np.zeros(own.size)
    parts = _parts(fit, which)
    for one, weight in parts:
        effects += weight * evaluation.mode.unknowns[fit.system.levels[one]]
        variances += weight**2 * selected.variances[fit.system.levels[one]]
        for other, second in parts:
            if one != other:
                shared = np.zeros(own.size)
                shared[own.codes] = selected.entry(one, other)
                variances += weight * second * shared
    made = pd.DataFrame(
        {
            "level": own.labels,
            "effect": effects,
            "standard_error": np.sqrt(np.maximum(variances, 0.0)),
            "answers": np.bincount(own.codes, minlength=own.size),
        }
    )
    return made.sort_values("level", ignore_index=True)


def _parts(fit: MixedModelFit, which: int) -> list[tuple[int, float]]:
    """Return the factors that make up an effect of a level, and the weight of each."""
    start = 0
    for term in fit.design.terms:
        if which in term.factors:
            shears = fit.optimum.shears[start : start + term.shears]
            root = term.root(fit.scales[list(term.factors)], shears)[term.factors.index(which)]
            return [(column, float(weight)) for column, weight in zip(term.factors, root) if weight]
        start += term.shears
    return [(which, float(fit.scales[which]))]
