"""Power by simulation: the whole study is simulated again and again, and analysed as the real one will be.

What is asked of a design is a *goal*:

- ``slope``: models' means regressed on the predictor; is the slope told from 0 (Student's t, models - 2)?
- ``equivalence``: is that slope shown to lie within a declared margin of 0 (two one-sided tests)?
- ``difference``: are two models told apart (two-way cluster-robust error, over units and participants)?
- ``condition``: are two conditions told apart for one model, over the same units (the same error)?
- ``width``: is a model's interval as narrow as asked?

Tests of means and slopes are those of the analysis, made fast enough for thousands of studies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom, norm, t
from statsmodels.stats.proportion import proportion_confint

from analysis import proportions
from analysis.comparison import join_means
from analysis.estimands import Scope, spell_estimand
from analysis.power.design import Bill, Design
from analysis.power.simulation import Answers, Population, draw_answers, judgement_table
from analysis.power.variances import (
    Counts,
    Variances,
    approximate_effect,
    approximate_power,
    difference_variance,
    expected_proportion,
    latent_deviation,
    link_difference,
    link_slope,
    mean_variance,
    slope_variance,
)
from analysis.proportions import ClusteredMeans, cluster_means
from analysis.wilson import bound_proportion, wilson_interval
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.progress import Reporter

Goal = Literal["slope", "equivalence", "difference", "condition", "width"]
GOALS: tuple[Goal, ...] = ("slope", "equivalence", "difference", "condition", "width")

SIMULATIONS = 1000
LEVEL = 0.05

UNITS: dict[Goal, str] = {
    "slope": "proportion correct per decade",
    "equivalence": "proportion correct per decade",
    "difference": "proportion correct",
    "condition": "proportion correct",
    "width": "proportion correct",
}
"""Unit of measurement of each goal's effect."""

_SCOPES: dict[Goal, Scope] = {
    "slope": "new models",
    "equivalence": "new models",
    "difference": "new units and people",
    "condition": "new units and people",
    "width": "new units and people",
}

_WORDS: dict[Goal, str] = {
    "slope": "the slope of the models' means is told from 0 (ordinary least squares, Student's t)",
    "equivalence": "the slope of the models' means is shown to be equivalent to 0 (two one-sided tests)",
    "difference": "two models are told apart (two-way cluster-robust error)",
    "condition": "two conditions of a model are told apart (two-way cluster-robust error)",
    "width": "a model's interval is as narrow as asked (two-way cluster-robust error)",
}


@dataclass(frozen=True)
class Slopes:
    """Regressions of models' means on a predictor, one a simulated study.

    Attributes
    ----------
    slope, error
        Shape (studies,): slope and its standard error.
    freedom
        Degrees of freedom: models - 2.
    """

    slope: NDArray[np.float64]
    error: NDArray[np.float64]
    freedom: int

    @property
    def p(self) -> NDArray[np.float64]:
        """Two-sided p of each slope; where the means lie exactly on a line, 0, or 1 if the line is level."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.abs(self.slope) / self.error
        ratio = np.where(np.isnan(ratio), 0.0, ratio)
        p: NDArray[np.float64] = 2 * t.sf(ratio, self.freedom)
        return p

    def passing_margin(self, level: float = LEVEL) -> NDArray[np.float64]:
        """Return the smallest margin within which each slope is shown to be equivalent to 0."""
        margin: NDArray[np.float64] = np.abs(self.slope) + t.ppf(1 - level, self.freedom) * self.error
        return margin


def regress_means(means: NDArray[np.float64], predictor: NDArray[np.float64]) -> Slopes:
    """Regress models' means on a predictor by ordinary least squares.

    Parameters
    ----------
    means
        Shape (studies, models).
    predictor
        Shape (models,).

    Raises
    ------
    AnalysisError
        With fewer than three models, or models that do not differ in the predictor.
    """
    models = len(predictor)
    centred = predictor - predictor.mean()
    spread = float(centred @ centred)
    if models < 3 or spread == 0:
        raise AnalysisError("A slope needs at least three models, and models that differ in the predictor.")
    slope = means @ centred / spread
    rest = means - means.mean(axis=1, keepdims=True) - slope[:, None] * centred
    error = np.sqrt((rest**2).sum(axis=1) / (models - 2) / spread)
    return Slopes(slope, error, models - 2)


def model_means(answers: Answers, condition: int = 0) -> NDArray[np.float64]:
    """Return each model's proportion correct in a condition: the mean over units of each unit's proportion.

    Only main trials with references count.
    """
    layout = answers.layout
    counted = ~answers.catch & ~answers.blank & (answers.condition == condition)
    unit = answers.unit[counted]
    size = layout.models * layout.units
    asked = np.bincount(unit, minlength=size)
    right = np.bincount(unit, weights=answers.correct[counted], minlength=size)
    proportions = np.divide(right, asked, out=np.zeros(size), where=asked > 0).reshape(layout.models, layout.units)
    means: NDArray[np.float64] = proportions.sum(axis=1) / (asked > 0).reshape(proportions.shape).sum(axis=1)
    return means


def cluster_cells(answers: Answers, *cells: NDArray[np.bool_]) -> ClusteredMeans:
    """Return the means of some sets of answers, as ``analysis.proportions`` makes them."""
    kept = np.flatnonzero(np.logical_or.reduce(cells))
    cell = np.select([own[kept] for own in cells], range(len(cells))).astype(np.int64)
    codes = [
        np.unique(code[kept], return_inverse=True)[1].astype(np.int64)
        for code in (answers.unit, answers.participant, answers.model)
    ]
    units, models = int(codes[0].max()) + 1, int(codes[2].max()) + 1
    return cluster_means(
        proportions.Answers(
            correct=answers.correct[kept].astype(np.float64),
            cell=cell,
            unit=codes[0],
            person=codes[1],
            model=codes[2],
            cells=pd.DataFrame(index=range(len(cells))),
            weight=np.ones(units),
            unit_names=np.zeros(units, dtype=np.str_),
            model_names=np.zeros(models, dtype=np.str_),
        )
    )


def difference_p(answers: Answers, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the difference of two sets of answers and its two-sided p, as ``analysis.comparison`` makes it."""
    means = cluster_cells(answers, first, second)
    joint = join_means(means, ("first", "second"))
    return float(means.values[0] - means.values[1]), float(2 * norm.sf(abs(joint.scores()[0, 1])))


def interval_width(answers: Answers, model: int = 0, condition: int = 0, level: float = 0.95) -> float:
    """Return how wide the interval of a model's proportion correct is: that of ``analysis.proportions``."""
    kept = ~answers.catch & ~answers.blank & (answers.condition == condition) & (answers.model == model)
    means = cluster_cells(answers, kept)
    value = float(means.values[0])
    if value in (0.0, 1.0):
        count = min(int(means.counts["units"][0]), int(means.counts["people"][0]))
        low, high = wilson_interval(value, count, float(norm.ppf((1 + level) / 2)))
    else:
        low, high = bound_proportion(
            value, float(means.two_way[0]), float(means.freedom[0]), float(means.binomial[0]), level
        )
    return high - low


@dataclass(frozen=True)
class Power:
    """What a design can do.

    Attributes
    ----------
    design, goal
        What was assessed, and for what.
    effect
        The true effect; for equivalence usually 0.
    bound
        The declared margin of equivalence, or the width asked for; None for other goals.
    power
        Share of simulated studies that reach the goal.
    seen
        What the studies found: mean slope, difference or width.
    bill
        What they cost on average.
    """

    design: Design
    goal: Goal
    effect: float
    bound: float | None
    power: Estimate
    seen: Estimate
    bill: Bill

    @property
    def sentence(self) -> str:
        """The result in words."""
        chance = f"{100 * self.power.value:.0f} % [{100 * self.power.low:.0f}, {100 * self.power.high:.0f}]"
        points = 100 * abs(self.effect)
        bound = 0.0 if self.bound is None else 100 * self.bound
        match self.goal:
            case "slope" if self.effect == 0:
                return f"Where models' size changes nothing, a slope is found all the same in {chance} of studies."
            case "slope":
                return f"A slope of {points:.1f} points per decade is found with a power of {chance}."
            case "equivalence":
                true = f"a true slope of {points:.1f}" if self.effect else "no true slope"
                return (
                    f"With {true}, equivalence within {bound:.1f} points per decade is shown with a power of {chance}."
                )
            case "difference" | "condition":
                what = "Two models" if self.goal == "difference" else "Two conditions of a model"
                return f"{what} that differ by {points:.1f} points are told apart with a power of {chance}."
        return (
            f"A model's 95 % interval is {100 * self.seen.value:.1f} points wide on average, and at most {bound:.1f} "
            f"points in {chance} of studies."
        )


def simulate_power(
    design: Design,
    goal: Goal = "slope",
    *,
    effect: float = 0.0,
    bound: float | None = None,
    level: float = LEVEL,
    family: int = 1,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Power:
    """Simulate studies of a design, analyse each, and count how many reach the goal.

    Parameters
    ----------
    design
        The design.
    goal
        What is asked of it.
    effect
        The true effect, as a proportion: per decade for slopes; between two models, or between the first two
        conditions. It is set on the link's scale so that the expected proportions have it.
    bound
        Margin of equivalence (proportion per decade), or width asked for; needed by those two goals alone.
    level
        Of each test; an interval's coverage is 95 %.
    family
        In how large a family of tests it stands: the level is divided by it, as for the smallest p by Holm.
    simulations
        How many studies.
    seed
        Of all draws. Study number i is the same whatever their number, so that effects compare on the same luck.
    reporter
        Is told of progress.

    Raises
    ------
    AnalysisError
        If the design can't carry the goal, or there is no room for the effect.
    """
    _check_goal(design, goal, bound, simulations, level)
    studied, population, outcome = _prepare(design, goal, effect)
    found = np.empty((simulations, outcome.size))
    people = np.empty(simulations)
    layout, screening = studied.layout, studied.screening
    with (reporter or Reporter()).task(f"Studies, {goal} {100 * effect:.1f} points", simulations) as advance:
        for number in range(simulations):
            rng = np.random.default_rng([seed, number])
            answers = draw_answers(layout, population, rng, outcome.predictor, screening)
            found[number] = outcome.measure(answers)
            people[number] = answers.recruited / layout.slots
            advance(1)
    reached, seen = outcome.judge(found, level / family, bound)
    slots = design.layout.slots
    # A goal may need fewer models than the design has: people and money are those of the whole design.
    per_session = float(people.mean())
    stimuli = design.cost - slots * design.session_cost
    money = stimuli + slots * design.session_cost * per_session / design.people_per_session
    return Power(
        design,
        goal,
        effect,
        bound,
        _share(reached, goal, level / family),
        _average(seen, goal),
        Bill(slots, slots * per_session, money),
    )


def simulate_analysis(
    design: Design,
    analyse: Callable[[pd.DataFrame], float],
    *,
    effect: float = 0.0,
    level: float = LEVEL,
    simulations: int = 100,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Estimate:
    """Return the power of any analysis to find a slope: of a mixed model, say, too slow for a thousand studies.

    Parameters
    ----------
    design
        The design.
    analyse
        Gets a study's table of judgements (main trials with references) with the column ``predictor``, and returns a p.
    effect
        The true slope, in proportion correct per decade.
    level, simulations, seed, reporter
        As for :func:`simulate_power`, which simulates the same studies.

    Raises
    ------
    AnalysisError
        If the design can't carry a slope, or an analysis returns no p.
    """
    _check_goal(design, "slope", None, simulations, level)
    one, population, outcome = _prepare(design, "slope", effect)
    reached = np.zeros(simulations, dtype=bool)
    with (reporter or Reporter()).task("Studies, analysed one by one", simulations) as advance:
        for number in range(simulations):
            rng = np.random.default_rng([seed, number])
            answers = draw_answers(one.layout, population, rng, outcome.predictor, one.screening)
            table = judgement_table(answers, outcome.predictor)
            p = analyse(table[(table["kind"] == "main") & (table["references"] == "both")].reset_index(drop=True))
            if not 0 <= p <= 1:
                raise AnalysisError(f"The analysis of study {number} returned {p}, which is no p-value.")
            reached[number] = p <= level
            advance(1)
    found = _share(reached, "slope", level)
    method = f"share of {simulations:,} simulated studies with p at most {level:.3g}; Wilson interval"
    return replace(found, method=method)


@dataclass(frozen=True)
class _Outcome:
    """How a goal measures one study, and judges all of them."""

    size: int
    predictor: NDArray[np.float64]
    measure: Callable[[Answers], NDArray[np.float64]]
    judge: Callable[[NDArray[np.float64], float, float | None], tuple[NDArray[np.bool_], NDArray[np.float64]]]


def _prepare(design: Design, goal: Goal, effect: float) -> tuple[Design, Population, _Outcome]:
    """Return the design to simulate (with no more models than needed), its truth, and how it is analysed."""
    population = design.population
    if goal in ("slope", "equivalence"):
        population = replace(population, slope=link_slope(design, effect))

        def judge_slopes(
            found: NDArray[np.float64], level: float, bound: float | None
        ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
            slopes = regress_means(found, design.values)
            reached = slopes.p <= level if goal == "slope" else slopes.passing_margin(level) < (bound or 0.0)
            return reached, slopes.slope

        one = design.model_copy(update={"conditions": design.conditions[:1]})
        return one, population, _Outcome(design.models, design.values, model_means, judge_slopes)
    # These models, whichever they are: their differences are the question, not a source of luck.
    models = design.models if design.crossed else 2 if goal == "difference" else 1
    names = design.conditions[: 2 if goal == "condition" else 1]
    few = design.model_copy(update={"models": models, "predictor": (), "decades": None, "conditions": names})
    population = replace(population, model=0.0)
    if goal == "condition":
        population = replace(population, conditions=_condition_effects(design, effect))
        return few, population, _Outcome(2, np.zeros(models), _measure_conditions, _judge_difference)
    if goal == "difference":
        predictor = np.zeros(models)
        predictor[:2] = 0.5, -0.5
        population = replace(population, slope=link_difference(design, effect))
        return few, population, _Outcome(2, predictor, _measure_models, _judge_difference)

    def judge_width(
        found: NDArray[np.float64], level: float, bound: float | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        return found[:, 0] <= (bound or 0.0), found[:, 0]

    return (
        few,
        population,
        _Outcome(1, np.zeros(models), lambda answers: np.array([interval_width(answers)]), judge_width),
    )


def _measure_models(answers: Answers) -> NDArray[np.float64]:
    """Return the difference of the first two models, and its p."""
    counted = ~answers.catch & ~answers.blank
    return np.array(difference_p(answers, *(counted & (answers.model == number) for number in (0, 1))))


def _measure_conditions(answers: Answers) -> NDArray[np.float64]:
    """Return the difference of the first two conditions for the first model, and its p."""
    counted = ~answers.catch & ~answers.blank & (answers.model == 0)
    return np.array(difference_p(answers, *(counted & (answers.condition == number) for number in (0, 1))))


def _judge_difference(
    found: NDArray[np.float64], level: float, bound: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    return found[:, 1] <= level, found[:, 0]


def _condition_effects(design: Design, effect: float) -> dict[str, float]:
    """Return what the second condition adds on the link's scale for the first to be better by ``effect``.

    Raises
    ------
    AnalysisError
        If there is no room for it.
    """
    from scipy.optimize import brentq

    # Of one model, whichever it is.
    population = replace(design.population, model=0.0)
    total = latent_deviation(population)
    first, second = design.conditions[:2]
    start = population.intercept + population.conditions.get(first, 0.0)
    wanted = expected_proportion(population, start, total) - effect
    low, high = (expected_proportion(population, start + bound, total) for bound in (-50.0, 50.0))
    if not low < wanted < high:
        raise AnalysisError(
            f"There is no room for conditions that differ by {100 * effect:g} points: the first one's proportion "
            f"correct is {wanted + effect:.3f}, and the second one's would be {wanted:.3f}."
        )
    shift = brentq(lambda added: expected_proportion(population, start + added, total) - wanted, -50.0, 50.0)
    return {**population.conditions, second: population.conditions.get(first, 0.0) + float(shift)}


def _check_goal(design: Design, goal: Goal, bound: float | None, simulations: int, level: float) -> None:
    """Refuse goals that the design can't carry."""
    if simulations < 1 or not 0 < level < 1:
        raise AnalysisError(f"Power needs at least one simulation and a level between 0 and 1, not {level:g}.")
    if goal in ("slope", "equivalence") and (design.models < 3 or design.spread == 0):
        raise AnalysisError("A slope needs at least three models, and models that differ in the predictor.")
    if goal == "difference" and design.models < 2:
        raise AnalysisError("A difference between models needs two of them; the design has one.")
    if goal == "condition" and len(design.conditions) < 2:
        raise AnalysisError(f"A difference between conditions needs two; the design has only {design.conditions[0]!r}.")
    if goal in ("equivalence", "width") and not (bound is not None and bound > 0):
        what = "a declared margin" if goal == "equivalence" else "a width to reach"
        raise AnalysisError(f"The goal {goal!r} needs {what} above 0; there is no default.")


def _share(reached: NDArray[np.bool_], goal: Goal, level: float) -> Estimate:
    """Return the power, with Wilson's interval over simulations."""
    count, n = int(reached.sum()), len(reached)
    low, high = proportion_confint(count, n, method="wilson")
    words = f"share of {n:,} simulated studies in which {_WORDS[goal]}, level {level:.3g}; Wilson interval"
    value = count / n
    return Estimate(
        value, min(float(low), value), max(float(high), value), words, n, "probability", spell_estimand(_SCOPES[goal])
    )


def _average(seen: NDArray[np.float64], goal: Goal) -> Estimate:
    """Return the mean of what simulated studies found."""
    value, n = float(seen.mean()), len(seen)
    estimand = spell_estimand(_SCOPES[goal])
    if n < 2:
        return Estimate(value, -math.inf, math.inf, "no interval: one simulated study", n, UNITS[goal], estimand)
    half = float(norm.ppf(0.975) * seen.std(ddof=1) / math.sqrt(n))
    return Estimate(
        value, value - half, value + half, f"mean of {n:,} simulated studies; normal interval", n, UNITS[goal], estimand
    )


def predict_error(design: Design, goal: Goal, variances: Variances | None = None) -> tuple[float, float]:
    """Return the standard error that a goal's estimate will have by formula, and its degrees of freedom.

    For ``width``, the error is that of a model's mean.
    """
    found = Variances.from_population(design.population) if variances is None else variances
    counts = Counts.of(design)
    if goal in ("slope", "equivalence"):
        parts = slope_variance(found, counts, spread=design.spread, crossed=design.crossed, models=design.models)
        return parts.standard_error, design.models - 2
    if goal == "difference":
        parts = difference_variance(found, counts, crossed=design.crossed, models=design.models)
        people = counts.people * (1 if design.crossed else 2)
        return parts.standard_error, min(2 * counts.units, people) - 1
    if goal == "width":
        parts = mean_variance(found, counts, design.models if design.crossed else 1)
        return parts.standard_error, min(counts.units, counts.people) - 1
    # Conditions share units, and have people of their own.
    parts = mean_variance(found, counts, design.models if design.crossed else 1)
    variance = 2 * (parts.variance - parts.unit + found.unit_condition / counts.units)
    return math.sqrt(variance), min(counts.units, counts.people) - 1


def smallest_detectable(
    design: Design,
    goal: Goal = "slope",
    *,
    power: float = 0.8,
    level: float = LEVEL,
    family: int = 1,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Estimate:
    """Return the smallest effect that a design finds with a given power.

    For slopes and differences, studies are simulated at five effects around the one that a formula gives, and a
    probit regression of what they find on the effect tells where the power is reached. For equivalence it is the
    smallest margin that is passed with this power where there is no effect, and for widths the width that so many
    studies stay below: quantiles of the simulated studies.

    Parameters
    ----------
    simulations
        Studies in all.

    Returns
    -------
    The effect, in the unit of the goal's effect; its interval is that of the simulation.

    Raises
    ------
    AnalysisError
        If the design can't carry the goal, or has no room for an effect that it would find with this power.
    """
    if not level < power < 1:
        raise AnalysisError(f"A power must lie between the level {level:g} and 1, not at {power:g}.")
    _check_goal(design, goal, 1.0, simulations, level)
    if simulations < 50:
        raise AnalysisError(f"The smallest effect can't be told from {simulations} simulations; take at least 50.")
    if goal in ("equivalence", "width"):
        return _quantile_of(design, goal, power, level / family, simulations, seed, reporter)
    error, freedom = predict_error(design, goal)
    at = [approximate_effect(error, chance, freedom, level / family) for chance in _around(power)]
    each = -(-simulations // len(at))
    # Studies of their own for every effect: the interval takes them as independent.
    seeds = np.random.SeedSequence([seed, len(at)]).generate_state(len(at)).tolist()
    shares = [
        simulate_power(
            design, goal, effect=effect, level=level, family=family, simulations=each, seed=own, reporter=reporter
        ).power.value
        for effect, own in zip(at, seeds)
    ]
    value, low, high = _invert(np.array(at), np.array(shares), each, power)
    return Estimate(
        value,
        low,
        high,
        f"effect at which {power:.0%} of simulated studies succeed: probit regression over {each * len(at):,} studies "
        f"at {len(at)} effects, {_WORDS[goal]}, level {level / family:.3g}",
        each * len(at),
        UNITS[goal],
        spell_estimand(_SCOPES[goal]),
    )


def _around(power: float) -> list[float]:
    """Return powers on either side of the one asked for, evenly on the probit scale."""
    middle = float(norm.ppf(power))
    return [float(norm.cdf(middle + step)) for step in (-0.6, -0.3, 0.0, 0.3, 0.6)]


def _invert(
    effects: NDArray[np.float64], shares: NDArray[np.float64], each: int, power: float
) -> tuple[float, float, float]:
    """Return the effect at which a probit regression reaches the power, with its interval (delta method)."""
    import statsmodels.api as sm

    right = np.rint(shares * each)
    if right.min() == each or right.max() == 0:
        raise AnalysisError("All simulated studies end alike; take another power, or more simulations.")
    # Half a success and half a failure more keep a regression finite where one effect's studies all succeed.
    counts = np.column_stack([right + 0.5, each - right + 0.5])
    fit = sm.GLM(
        counts, sm.add_constant(effects / effects.mean()), family=sm.families.Binomial(sm.families.links.Probit())
    ).fit()
    intercept, slope = fit.params
    if slope <= 0:
        raise AnalysisError("Power does not rise with the effect in these simulations; take more of them.")
    value = float((norm.ppf(power) - intercept) / slope)
    gradient = np.array([-1 / slope, -value / slope])
    half = float(norm.ppf(0.975) * np.sqrt(gradient @ fit.cov_params() @ gradient))
    scale = float(effects.mean())
    return scale * value, scale * (value - half), scale * (value + half)


def _quantile_of(
    design: Design, goal: Goal, power: float, level: float, simulations: int, seed: int, reporter: Reporter | None
) -> Estimate:
    """Return the bound that so large a share of simulated studies meets, with the interval of the order statistics."""
    studied, population, outcome = _prepare(design, goal, 0.0)
    bounds = np.empty(simulations)
    with (reporter or Reporter()).task(f"Studies, {goal}", simulations) as advance:
        for number in range(simulations):
            answers = draw_answers(
                studied.layout,
                population,
                np.random.default_rng([seed, number]),
                outcome.predictor,
                studied.screening,
            )
            measured = outcome.measure(answers)
            if goal == "equivalence":
                measured = regress_means(measured[None], design.values).passing_margin(level)
            bounds[number] = measured[0]
            advance(1)
    ordered = np.sort(bounds)
    place = min(math.ceil(power * simulations), simulations) - 1
    low = int(binom.ppf(0.025, simulations, power))
    high = min(int(binom.ppf(0.975, simulations, power)) + 1, simulations)
    return Estimate(
        float(ordered[place]),
        float(ordered[max(low - 1, 0)]),
        float(ordered[high - 1]),
        f"bound that {power:.0%} of {simulations:,} simulated studies meet; {_WORDS[goal]}, level {level:.3g}; "
        "interval by order statistics",
        simulations,
        UNITS[goal],
        spell_estimand(_SCOPES[goal]),
    )


@dataclass(frozen=True)
class Assessment:
    """What a design can do for a goal, ready to be printed.

    Attributes
    ----------
    design, goal
        What was assessed.
    smallest
        The smallest effect that is found with the power asked for.
    asked
        The power for the effect that was asked about; None if none was.
    table
        Facts of the design: ``what``, ``value``.
    sentences
        The answers in words.
    """

    design: Design
    goal: Goal
    smallest: Estimate
    asked: Power | None
    table: pd.DataFrame
    sentences: tuple[str, ...]


def describe_power(
    design: Design,
    goal: Goal = "slope",
    *,
    effect: float | None = None,
    bound: float | None = None,
    power: float = 0.8,
    level: float = LEVEL,
    family: int = 1,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Assessment:
    """Assess a design for a goal: the smallest effect it finds, the power for a given one, and what it costs.

    Parameters
    ----------
    effect
        Effect to give the power for. For equivalence it is the true slope, 0 if not given.
    bound
        Margin of equivalence or width asked for.
    power, level, family, simulations, seed, reporter
        As for :func:`smallest_detectable`.
    """
    smallest = smallest_detectable(
        design, goal, power=power, level=level, family=family, simulations=simulations, seed=seed, reporter=reporter
    )
    asked = None
    if bound is not None if goal in ("equivalence", "width") else effect is not None:
        asked = simulate_power(
            design, goal, effect=effect or 0.0, bound=bound, level=level, family=family, simulations=simulations,
            seed=seed, reporter=reporter,
        )  # fmt: skip
    sentences = [smallest_sentence(design, goal, smallest, power)]
    if asked:
        sentences.append(asked.sentence)
    sentences += _advice(design, goal)
    return Assessment(design, goal, smallest, asked, design_table(design, goal), tuple(sentences))


def smallest_sentence(design: Design, goal: Goal, smallest: Estimate, power: float) -> str:
    """Say the smallest effect that a design finds."""
    size = f"{100 * smallest.value:.1f} points [{100 * smallest.low:.1f}, {100 * smallest.high:.1f}]"
    chance, models = f"{100 * power:.0f} %", f"{design.models:,} models over {design.span:.2f} decades"
    asked = f"{design.units:,} units and {design.answers:,.0f} answers a model"
    match goal:
        case "slope":
            return f"With {models}, {chance} power needs a slope of {size} per decade."
        case "equivalence":
            return (
                f"With {models} and no true slope, equivalence is shown with {chance} power within a margin of {size} "
                "per decade, and within no smaller one."
            )
        case "difference":
            return f"With {asked}, {chance} power needs two models that differ by {size}."
        case "condition":
            return (
                f"With {asked} in each condition, {chance} power needs two conditions of a model that differ by {size}."
            )
    return f"With {asked}, a model's 95 % interval is at most {size} wide in {chance} of studies."


def design_table(design: Design, goal: Goal) -> pd.DataFrame:
    """Return the facts of a design: ``what``, ``value``."""
    error, freedom = predict_error(design, goal)
    rows: list[tuple[str, str]] = [
        ("models", f"{design.models:,} over {design.span:.2f} decades"),
        ("conditions", ", ".join(design.conditions)),
        ("units a model", f"{design.units:,}"),
        ("sessions that count", f"{design.layout.slots:,} ({'crossed' if design.crossed else 'nested'})"),
        ("answers a model and condition", f"{design.answers:,.0f}"),
        ("answers a unit and condition", f"{design.answers / design.units:,.1f}"),
        ("people who must come", f"{design.layout.slots * design.people_per_session:,.0f}"),
        ("a session that counts", f"USD {design.session_cost:,.2f}"),
        ("cost", f"USD {design.cost:,.0f}"),
        (f"standard error of the {'mean' if goal == 'width' else goal}", f"{100 * error:.2f} points"),
        ("degrees of freedom", f"{freedom:,.0f}"),
    ]
    return pd.DataFrame(rows, columns=["what", "value"])


def _advice(design: Design, goal: Goal) -> list[str]:
    """Say where the variance comes from."""
    found = Variances.from_population(design.population)
    counts = Counts.of(design)
    if goal in ("slope", "equivalence"):
        parts = slope_variance(found, counts, spread=design.spread, crossed=design.crossed, models=design.models)
        share = parts.shares["model"]
        return [
            f"{100 * share:.0f} % of the slope's variance is between models of one size: no number of units or people "
            "makes it smaller; more models, over more decades, do."
        ]
    if goal == "condition":
        return []
    parts = (
        difference_variance(found, counts, crossed=design.crossed, models=design.models)
        if goal == "difference"
        else mean_variance(found, counts, design.models if design.crossed else 1)
    )
    shares = parts.shares
    return [
        f"Of the variance, {100 * shares['unit']:.0f} % are the units', {100 * shares['participant']:.0f} % the "
        f"people's, {100 * (shares['answer'] + shares['task']):.0f} % the single answers'."
    ]


__all__ = [
    "GOALS",
    "Assessment",
    "Goal",
    "Power",
    "Slopes",
    "approximate_power",
    "cluster_cells",
    "describe_power",
    "design_table",
    "difference_p",
    "interval_width",
    "model_means",
    "predict_error",
    "regress_means",
    "simulate_analysis",
    "simulate_power",
    "smallest_detectable",
    "smallest_sentence",
]
