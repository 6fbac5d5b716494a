"""Goals: what is asked of a design, and how a simulated study is measured and judged by it.

- ``slope``: models' means regressed on the predictor; is the slope told from 0 (Student's t, models - 2)?
- ``equivalence``: is that slope shown to lie within a declared margin of 0 (two one-sided tests)?
- ``difference``: can two models be distinguished (two-way cluster-robust error, over units and participants)?
- ``condition``: can two conditions be distinguished for one model, over the same units (the same error)?
- ``width``: is a model's interval as narrow as asked?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.estimands import Scope
from analysis.power.analyses import difference_p, interval_width, model_means, regress_means
from analysis.power.design import Design
from analysis.power.simulation import Answers, Population
from analysis.power.variances import (
    N,
    Parts,
    SampleSizes,
    Variances,
    difference_variance,
    expected_proportion,
    latent_deviation,
    link_difference,
    link_slope,
    mean_variance,
    slope_variance,
)
from benchmark.errors import AnalysisError

Goal = Literal["slope", "equivalence", "difference", "condition", "width"]
GOALS: tuple[Goal, ...] = ("slope", "equivalence", "difference", "condition", "width")

UNITS: dict[Goal, str] = {
    "slope": "proportion correct per decade",
    "equivalence": "proportion correct per decade",
    "difference": "proportion correct",
    "condition": "proportion correct",
    "width": "proportion correct",
}
"""Unit of measurement of each goal's effect."""

SCOPES: dict[Goal, Scope] = {
    "slope": "new models",
    "equivalence": "new models",
    "difference": "new units and people",
    "condition": "new units and people",
    "width": "new units and people",
}
WORDS: dict[Goal, str] = {
    "slope": "the slope of the models' means is told from 0 (ordinary least squares, Student's t)",
    "equivalence": "the slope of the models' means is shown to be equivalent to 0 (two one-sided tests)",
    "difference": "two models are distinguished (two-way cluster-robust error)",
    "condition": "two conditions of a model are distinguished (two-way cluster-robust error)",
    "width": "a model's interval is as narrow as asked (two-way cluster-robust error)",
}


def check_goal(design: Design, goal: Goal, bound: float | None, simulations: int, alpha: float) -> None:
    """Refuse goals that the design can't carry."""
    if simulations < 1 or not 0 < alpha < 1:
        raise AnalysisError(f"Power needs at least one simulation and an alpha between 0 and 1, not {alpha:g}.")
    if goal in ("slope", "equivalence") and (design.models < 3 or design.spread == 0):
        raise AnalysisError("A slope needs at least three models, and models that differ in the predictor.")
    if goal == "difference" and design.models < 2:
        raise AnalysisError("A difference between models needs two of them; the design has one.")
    if goal == "condition" and len(design.conditions) < 2:
        raise AnalysisError(f"A difference between conditions needs two; the design has only {design.conditions[0]!r}.")
    if goal in ("equivalence", "width") and not (bound is not None and bound > 0):
        what = "a declared margin" if goal == "equivalence" else "a width to reach"
        raise AnalysisError(f"The goal {goal!r} needs {what} above 0; there is no default.")


def predict_error(
    design: Design, goal: Goal, variances: Variances | None = None, sizes: SampleSizes[N] | None = None
) -> tuple[N, N]:
    """Return the standard error that a goal's estimate will have by formula, and its degrees of freedom.

    For ``width``, the error is that of a model's mean.

    Parameters
    ----------
    variances
        The components; from the design's truth if None.
    sizes
        How much is asked about each model, if not what the design says: many designs at once, say.
    """
    found = Variances.from_population(design.truth) if variances is None else variances
    asked: SampleSizes[N] = SampleSizes.of(design) if sizes is None else sizes  # type: ignore[assignment]
    parts, freedom = goal_variance(design, goal, found, asked)
    if goal == "condition":
        # Conditions share units, and have people of their own.
        return np.sqrt(2 * (parts.variance - parts.unit + found.unit_condition / asked.units)), freedom
    return parts.standard_error, freedom


def goal_variance(design: Design, goal: Goal, variances: Variances, sizes: SampleSizes[N]) -> tuple[Parts[N], N]:
    """Return the variance of a slope, of a difference of models, or else of a model's mean; and degrees of freedom.

    They are models - 2 for a slope, else one less than units or people, whichever are fewer.
    """
    crossed = design.crossed and design.models > 1
    if goal in ("slope", "equivalence"):
        parts = slope_variance(variances, sizes, spread=design.spread, crossed=crossed, models=design.models)
        return parts, design.models - 2 + 0 * sizes.units
    if goal == "difference":
        people = sizes.people * (1 if design.crossed else 2)
        parts = difference_variance(variances, sizes, crossed=crossed, models=design.models)
        return parts, np.minimum(2 * sizes.units, people) - 1
    parts = mean_variance(variances, sizes, design.models if design.crossed else 1)
    return parts, np.minimum(sizes.units, sizes.people) - 1


@dataclass(frozen=True)
class Outcome:
    """How a goal measures one study, and judges all of them."""

    size: int
    predictor: NDArray[np.float64]
    measure: Callable[[Answers], NDArray[np.float64]]
    judge: Callable[[NDArray[np.float64], float, float | None], tuple[NDArray[np.bool_], NDArray[np.float64]]]


def prepare_studies(design: Design, goal: Goal, effect: float) -> tuple[Design, Population, Outcome]:
    """Return the design to simulate (with no more models than needed), its truth, and how it is analysed."""
    population = design.truth
    if goal in ("slope", "equivalence"):
        population = population.model_copy(update={"slope": link_slope(design, effect)})

        def judge_slopes(
            found: NDArray[np.float64], alpha: float, bound: float | None
        ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
            slopes = regress_means(found, design.values)
            reached = slopes.p <= alpha if goal == "slope" else slopes.passing_margin(alpha) < (bound or 0.0)
            return reached, slopes.slope

        one = design.model_copy(update={"conditions": design.conditions[:1]})
        return one, population, Outcome(design.models, design.values, model_means, judge_slopes)
    # These models, whichever they are: their differences are the question, not a source of luck.
    models = design.models if design.crossed else 2 if goal == "difference" else 1
    names = design.conditions[: 2 if goal == "condition" else 1]
    few = design.model_copy(update={"models": models, "predictor": (), "decades": None, "conditions": names})
    population = population.model_copy(update={"model": 0.0})
    if goal == "condition":
        population = population.model_copy(update={"conditions": _condition_effects(design, effect)})
        return few, population, Outcome(2, np.zeros(models), _measure_conditions, _judge_difference)
    if goal == "difference":
        predictor = np.zeros(models)
        predictor[:2] = 0.5, -0.5
        population = population.model_copy(update={"slope": link_difference(design, effect)})
        return few, population, Outcome(2, predictor, _measure_models, _judge_difference)

    def judge_width(
        found: NDArray[np.float64], alpha: float, bound: float | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        return found[:, 0] <= (bound or 0.0), found[:, 0]

    return (
        few,
        population,
        Outcome(1, np.zeros(models), lambda answers: np.array([interval_width(answers)]), judge_width),
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
    found: NDArray[np.float64], alpha: float, bound: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    return found[:, 1] <= alpha, found[:, 0]


def _condition_effects(design: Design, effect: float) -> dict[str, float]:
    """Return what the second condition adds on the link's scale for the first to be better by ``effect``.

    Raises
    ------
    AnalysisError
        If there is no room for it.
    """
    from scipy.optimize import brentq

    # Of one model, whichever it is.
    population = design.truth.model_copy(update={"model": 0.0})
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
