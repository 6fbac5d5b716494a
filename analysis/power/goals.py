"""Goals: what is asked of a design, and how a simulated study is measured and judged by it.

- ``slope``: models' means regressed on the predictor; is the slope told from 0 (Student's t, models - 2)?
- ``equivalence``: is that slope shown to lie within a declared margin of 0 (two one-sided tests)?
- ``difference``: can two models be distinguished (two-way cluster-robust error, over units and participants)?
- ``condition``: can two conditions be distinguished for one model, over the same units (the same error)?
- ``width``: is a model's interval as narrow as asked?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.estimands import Scope
from analysis.power.analyses import difference_p, interval_width, model_means, regress_means
from analysis.power.design import Design
from analysis.power.simulation import Answers, Population
from analysis.power.variances import expected_proportion, latent_deviation, link_difference, link_slope
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


def check_goal(design: Design, goal: Goal, bound: float | None, simulations: int, level: float) -> None:
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


@dataclass(frozen=True)
class Outcome:
    """How a goal measures one study, and judges all of them."""

    size: int
    predictor: NDArray[np.float64]
    measure: Callable[[Answers], NDArray[np.float64]]
    judge: Callable[[NDArray[np.float64], float, float | None], tuple[NDArray[np.bool_], NDArray[np.float64]]]


def prepare_studies(design: Design, goal: Goal, effect: float) -> tuple[Design, Population, Outcome]:
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
        return one, population, Outcome(design.models, design.values, model_means, judge_slopes)
    # These models, whichever they are: their differences are the question, not a source of luck.
    models = design.models if design.crossed else 2 if goal == "difference" else 1
    names = design.conditions[: 2 if goal == "condition" else 1]
    few = design.model_copy(update={"models": models, "predictor": (), "decades": None, "conditions": names})
    population = replace(population, model=0.0)
    if goal == "condition":
        population = replace(population, conditions=_condition_effects(design, effect))
        return few, population, Outcome(2, np.zeros(models), _measure_conditions, _judge_difference)
    if goal == "difference":
        predictor = np.zeros(models)
        predictor[:2] = 0.5, -0.5
        population = replace(population, slope=link_difference(design, effect))
        return few, population, Outcome(2, predictor, _measure_models, _judge_difference)

    def judge_width(
        found: NDArray[np.float64], level: float, bound: float | None
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
