"""How exact a mean, a difference or a slope will be: by formula, from variance components of single answers.

An answer about one model is right or wrong. Its variance p (1 - p) has parts: between units, between people, between
a unit's tasks, and the rest, which is the answer's own (with a person's taste for certain units in it, as long as
nobody answers twice about one). A mean over a crossed design has the variance

    unit / units + participant / people + task / tasks + answer / answers

where a part is divided by how many independent draws of it the mean averages over: Cornfield & Tukey (1956), Average
values of mean squares in factorials, Annals of Mathematical Statistics 27; for people crossed with stimuli, Judd,
Westfall & Kenny (2017), Experiments with more than one random factor, Annual Review of Psychology 68.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, t

from analysis.power.design import Design
from analysis.power.simulation import Population
from analysis.results import Record
from analysis.variance_components import Components
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL

NODES = 41
"""Of the Gauss-Hermite quadrature over each random effect."""

N = TypeVar("N", float, NDArray[np.float64])
"""A number, or an array of them: formulas take one design, or many at once."""


@dataclass(frozen=True)
class Variances(Record):
    """Variance components of single answers, on the scale of proportions.

    Attributes
    ----------
    mean
        Proportion of right answers.
    unit, participant, task, answer
        Variance between units, people and tasks of a unit, and of answers beyond them.
    model
        Variance between models of one size, beyond units and people.
    participant_model
        Variance of a person's liking of certain models: crossed sessions do not remove it.
    unit_condition
        What of the variance between units is peculiar to a condition: a difference of conditions keeps it.
    """

    mean: float
    unit: float
    participant: float
    answer: float
    task: float = 0.0
    model: float = 0.0
    participant_model: float = 0.0
    unit_condition: float = 0.0

    def __post_init__(self) -> None:
        parts = (
            self.unit,
            self.participant,
            self.answer,
            self.task,
            self.model,
            self.participant_model,
            self.unit_condition,
        )
        if not 0 <= self.mean <= 1 or not all(math.isfinite(part) and part >= 0 for part in parts):
            raise AnalysisError(f"Variance components can't be negative, nor a mean lie outside 0 to 1: {self}.")

    @classmethod
    def from_deviations(
        cls, mean: float, unit: float, participant: float, *, task: float = 0.0, model: float = 0.0
    ) -> Variances:
        """Return the components of answers with these standard deviations, as proportions; the rest is the answers'.

        Raises
        ------
        AnalysisError
            If right and wrong answers can't vary as much.
        """
        rest = mean * (1 - mean) - unit**2 - participant**2 - task**2
        if rest < 0:
            raise AnalysisError(
                f"Right and wrong answers with a mean of {mean} have a variance of {mean * (1 - mean):.4f}, which is "
                f"less than units ({unit**2:.4f}), people ({participant**2:.4f}) and tasks ({task**2:.4f}) together."
            )
        return cls(mean, unit**2, participant**2, rest, task**2, model**2)

    @classmethod
    def from_components(cls, components: Components, model: float = 0.0) -> Variances:
        """Return the components that real answers gave; ``model`` is the variance between models, if known."""
        return cls(components.mean, components.unit, components.person, components.answer, model=model)

    @classmethod
    def from_population(cls, population: Population, condition: str = "") -> Variances:
        """Return the components of a model of middle size, from effects on the scale of the link.

        Each random effect's part is the variance of the probability given that effect alone, averaged over the others
        (Gauss-Hermite quadrature). What the effects do together counts with the answers. Learning is left out.
        """
        deviations = {
            "unit": math.hypot(population.unit, population.unit_condition),
            "participant": population.participant,
            "task": population.task,
            "model": population.model,
            "unit_condition": population.unit_condition,
        }
        middle = population.intercept + population.conditions.get(condition, 0.0)
        total = latent_deviation(population)
        mean = expected_proportion(population, middle, total)
        z, weights = _hermite()
        parts = {}
        for name, deviation in deviations.items():
            rest = math.sqrt(max(total**2 - deviation**2, 0.0))
            given = np.array([expected_proportion(population, middle + deviation * value, rest) for value in z])
            parts[name] = float(weights @ (given - mean) ** 2)
        # The models' own part is no luck of units and people: what is left to an answer excludes it.
        between = parts["unit"] + parts["participant"] + parts["task"] + parts["model"]
        return cls(
            mean, parts["unit"], parts["participant"], mean * (1 - mean) - between, parts["task"], parts["model"],
            unit_condition=parts["unit_condition"],
        )  # fmt: skip


def latent_deviation(population: Population) -> float:
    """Return the standard deviation of eta over models of one size, units, tasks and people."""
    effects = (population.model, population.unit, population.unit_condition, population.task, population.participant)
    return math.sqrt(sum(value**2 for value in effects))


def _hermite() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and weights for averaging over a standard normal distribution."""
    z, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return z, weights / weights.sum()


def expected_proportion(population: Population, middle: float, deviation: float) -> float:
    """Return the expected proportion correct where eta is normal with this middle and standard deviation."""
    z, weights = _hermite()
    return float(weights @ population.probability(middle + deviation * z))


def expected_means(design: Design, slope: float = 0.0, condition: int = 0) -> NDArray[np.float64]:
    """Return each model's expected proportion correct, shape (models,), for a slope on the scale of the link."""
    population = design.truth
    middle = population.intercept + population.conditions.get(design.conditions[condition], 0.0)
    total = latent_deviation(population)
    return np.array([expected_proportion(population, middle + slope * value, total) for value in design.values])


def link_slope(design: Design, points: float) -> float:
    """Return the slope on the link's scale at which the models' expected means fall on a line of this slope.

    Parameters
    ----------
    points
        Slope of the regression of the expected means on the predictor, in proportion correct per decade.

    Raises
    ------
    AnalysisError
        If the models do not differ in the predictor, or proportions between chance and 1 have no room for it.
    """
    if design.models < 3 or design.spread == 0:
        raise AnalysisError("A slope needs at least three models, and models that differ in the predictor.")
    if points == 0:
        return 0.0

    def fitted(slope: float) -> float:
        return float(design.values @ expected_means(design, slope)) / design.spread - points

    bound = 50.0 / max(design.span, 1e-9)
    low, high = (0.0, bound) if points > 0 else (-bound, 0.0)
    if (fitted(low) > 0) == (fitted(high) > 0):
        raise AnalysisError(
            f"Proportions between {design.truth.guess:g} and {1 - design.truth.lapse:g} have no room for a slope of "
            f"{100 * points:g} points a decade over {design.span:.2f} decades."
        )
    return float(brentq(fitted, low, high, xtol=1e-10))


def link_difference(design: Design, points: float) -> float:
    """Return the distance on the link's scale, half above and half below the middle, of two means so far apart.

    Raises
    ------
    AnalysisError
        If there is no room for it.
    """
    two = design.model_copy(update={"models": 2, "predictor": (-0.5, 0.5), "decades": None})
    two = two.model_copy(update={"truth": design.truth.model_copy(update={"model": 0.0})})
    if points == 0:
        return 0.0

    def apart(distance: float) -> float:
        means = expected_means(two, distance)
        return float(means[1] - means[0]) - abs(points)

    if apart(100.0) < 0:
        raise AnalysisError(f"Two proportions correct can't be {100 * abs(points):g} points apart around this mean.")
    return math.copysign(float(brentq(apart, 0.0, 100.0, xtol=1e-10)), points)


@dataclass(frozen=True)
class SampleSizes(Generic[N]):
    """How much is asked about one model, in one condition: of one design, or of many (arrays of one shape).

    Attributes
    ----------
    units, people, answers
        Units, people who answer about it, and their answers that count.
    tasks
        Tasks of a unit; with fewer answers than tasks, not all are asked.
    """

    units: N
    people: N
    answers: N
    tasks: float = math.inf

    @staticmethod
    def of(design: Design) -> SampleSizes[float]:
        """Return the sizes of a design."""
        return SampleSizes(design.units, design.sessions, design.answers, design.tasks)

    @property
    def tasks_asked(self) -> N:
        """Tasks that are asked about at least once."""
        asked: N = np.minimum(self.units * self.tasks, self.answers)
        return asked


@dataclass(frozen=True)
class Parts(Generic[N]):
    """The variance of a mean, a difference or a slope, by where it comes from."""

    unit: N
    participant: N
    task: N
    answer: N
    model: N | float = 0.0

    @property
    def variance(self) -> N:
        """All of it."""
        return self.unit + self.participant + self.task + self.answer + self.model

    @property
    def standard_error(self) -> N:
        """Its root."""
        root: N = np.sqrt(self.variance)
        return root

    @property
    def shares(self: Parts[float]) -> dict[str, float]:
        """What share each source has; 0 for all where there is no variance."""
        names = ("unit", "participant", "task", "answer", "model")
        return {name: getattr(self, name) / self.variance if self.variance else 0.0 for name in names}


def mean_variance(variances: Variances, sizes: SampleSizes[N], models: int = 1) -> Parts[N]:
    """Return the variance of a model's mean, for new units and people.

    Parameters
    ----------
    variances, sizes
        The components; what is asked about the model.
    models
        How many models a session mixes, at random: people then differ in how often they answer about this one.
    """
    people = variances.participant + variances.participant_model
    return Parts(
        unit=variances.unit / sizes.units,
        participant=people / sizes.people + people * _unevenness(sizes, models) * (1 - 1 / models),
        task=variances.task / sizes.tasks_asked,
        answer=variances.answer / sizes.answers,
    )


def contrast_variance(
    variances: Variances, sizes: SampleSizes[N], *, crossed: bool, models: int = 2, balanced: bool = False
) -> Parts[N]:
    """Return what each model adds to the variance of a contrast between models: twice this is that of a difference.

    Nested, every model has people of its own, and their luck stays. Crossed, the same people answer about all models
    and cancel, up to how unevenly their trials fall on the models.

    Parameters
    ----------
    variances, sizes
        The components; what is asked about one model.
    crossed
        Whether the same people answer about all models.
    models
        How many models a crossed session mixes.
    balanced
        Whether a person answers equally often about each model; if not, trials fall as in the layout of a study:
        without replacement from all units.
    """
    parts = mean_variance(variances, sizes)
    if not crossed:
        return parts
    uneven = (0.0 if balanced else variances.participant) * _unevenness(sizes, models)
    return replace(parts, participant=variances.participant_model / sizes.people + uneven)


def _unevenness(sizes: SampleSizes[N], models: int) -> N:
    """Return what uneven numbers of a person's answers per model add to a contrast, per participant variance.

    They are multivariate hypergeometric: a session's trials are drawn without replacement from all models' units.
    """
    if models == 1:
        return 0.0 * sizes.answers
    trials, pool = sizes.answers * models / sizes.people, models * sizes.units
    uneven: N = np.maximum(pool - trials, 0.0) / np.maximum(pool - 1, 1.0) / sizes.answers
    return uneven


def difference_variance(variances: Variances, sizes: SampleSizes[N], *, crossed: bool, models: int = 2) -> Parts[N]:
    """Return the variance of the difference of two models' means."""
    one = contrast_variance(variances, sizes, crossed=crossed, models=models)
    return Parts(2 * one.unit, 2 * one.participant, 2 * one.task, 2 * one.answer)


def slope_variance(
    variances: Variances, sizes: SampleSizes[N], *, spread: float, crossed: bool = False, models: int = 9
) -> Parts[N]:
    """Return the variance of the slope of models' means on a predictor.

    Parameters
    ----------
    spread
        Sum of squares of the predictor about its mean.
    """
    if not spread > 0:
        raise AnalysisError("Models that do not differ in the predictor have no slope on it.")
    one = contrast_variance(variances, sizes, crossed=crossed, models=models)
    return Parts(
        one.unit / spread, one.participant / spread, one.task / spread, one.answer / spread, variances.model / spread
    )


def answers_for_difference(
    variances: Variances,
    half_width: float,
    *,
    answers_per_unit: float = 1.0,
    trials: int = 40,
    crossed: bool = False,
    models: int = 2,
    balanced: bool = True,
    level: float = LEVEL,
) -> float:
    """Return how many answers a model are needed for a difference of two models to be so exact; not rounded.

    Units and people grow with the answers: units are ``answers / answers_per_unit``, people ``answers / trials``
    nested, ``models`` times as many crossed.

    Parameters
    ----------
    half_width
        Half the width of the interval of the difference.
    answers_per_unit
        Answers about each unit.
    trials
        Answers of a person.
    crossed, models, balanced
        As for :func:`contrast_variance`.
    level
        Coverage of the interval.
    """
    if not half_width > 0 or answers_per_unit < 1:
        raise AnalysisError("An interval needs a width above 0, and a unit at least one answer.")
    allowed = (half_width / float(norm.ppf((1 + level) / 2))) ** 2 / 2

    def excess(answers: float) -> float:
        people = answers * (models if crossed else 1) / trials
        sizes = SampleSizes(answers / answers_per_unit, people, answers)
        parts = contrast_variance(variances, sizes, crossed=crossed, models=models, balanced=balanced)
        return parts.variance / allowed - 1

    # Every part falls as one over the answers, but for the small correction of uneven sessions.
    high = max(1.0, excess(1.0) + 1)
    while excess(high) > 0:
        high *= 2
    return high if excess(high) == 0 else float(brentq(excess, 1e-6, high, xtol=1e-9, rtol=1e-14))


def allocation_table(variances: Variances, allocations: list[tuple[int, int]], trials: int = 40) -> pd.DataFrame:
    """Return how exact a model's mean is for several splits of work between units and people.

    Parameters
    ----------
    variances
        The components.
    allocations
        Units and people of each split.
    trials
        Answers of a person.

    Returns
    -------
    One row a split: ``units``, ``people``, ``answers``, ``answers per unit``, ``standard error``, and the shares of
    the variance that are the ``units'``, ``people's`` and ``answers'``.
    """
    rows = []
    for units, people in allocations:
        parts = mean_variance(variances, SampleSizes(units, people, people * trials))
        rows.append(
            {
                "units": units,
                "people": people,
                "answers": people * trials,
                "answers per unit": people * trials / units,
                "standard error": parts.standard_error,
                "units' share": parts.shares["unit"],
                "people's share": parts.shares["participant"],
                "answers' share": parts.shares["answer"] + parts.shares["task"],
            }
        )
    return pd.DataFrame(rows)


def compare_sessions(design: Design, half_width: float = 0.03, variances: Variances | None = None) -> pd.DataFrame:
    """Compare nested with crossed sessions: how exact a difference is, and what it takes to make it exact.

    Parameters
    ----------
    design
        The design; whichever way its sessions are, both ways are compared with as many answers a model.
    half_width
        Half the width that the interval of a difference of two models should have.
    variances
        The components; from the design's truth if None.

    Returns
    -------
    One row for nested, one for crossed sessions: ``standard error of a mean`` and ``of a difference`` at the design's
    answers; the share of a difference's variance that is the ``people's``; and the ``answers a model`` for the half
    width at the design's answers per unit, and at one answer per unit.
    """
    found = Variances.from_population(design.truth) if variances is None else variances
    rows = []
    for crossed in (False, True):
        people = design.answers / design.main_answers * (design.models if crossed else 1)
        sizes = SampleSizes(design.units, people, design.answers, design.tasks)
        mean, difference = (
            mean_variance(found, sizes, design.models if crossed else 1),
            difference_variance(found, sizes, crossed=crossed, models=design.models),
        )
        row: dict[str, object] = {
            "sessions": "crossed" if crossed else "nested",
            "standard error of a mean": mean.standard_error,
            "standard error of a difference": difference.standard_error,
            "people's share": difference.shares["participant"],
        }
        for per_unit in (design.answers / design.units, 1.0):
            row[f"answers a model at {per_unit:g} per unit"] = answers_for_difference(
                found, half_width, answers_per_unit=max(per_unit, 1.0), trials=design.main_answers,
                crossed=crossed, models=design.models, balanced=False,
            )  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def approximate_power(error: float, effect: float, freedom: float, alpha: float = 0.05) -> float:
    """Return the power of a two-sided t test by the noncentral t distribution."""
    from scipy.stats import nct

    if error == 0:
        return 1.0 if effect else alpha
    critical, shift = float(t.ppf(1 - alpha / 2, freedom)), abs(effect) / error
    return float(np.clip(nct.sf(critical, freedom, shift) + nct.cdf(-critical, freedom, shift), 0, 1))


def approximate_effect(error: float, power: float, freedom: float, alpha: float = 0.05) -> float:
    """Return the effect that a two-sided t test finds with this power, by the noncentral t distribution."""
    if not alpha < power < 1:
        raise AnalysisError(f"A power must lie between alpha {alpha:g} and 1, not at {power:g}.")
    high = error
    while approximate_power(error, high, freedom, alpha) < power:
        high *= 2
    return float(brentq(lambda effect: approximate_power(error, effect, freedom, alpha) - power, 0.0, high))
