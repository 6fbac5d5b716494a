"""Whole experiments with known truth: people, units, tasks, models, lapses, in nested or crossed sessions.

A judgement is right with probability ``guess + (1 - guess - lapse) * F(eta)``, where ``eta`` adds up what the model,
the condition, the unit, the unit in this condition, the task and the person contribute, on the scale of the link F
(logit or probit). This is the model that ``analysis.mixed_model`` fits.

Not everybody attends, and not everybody stays. Whoever fails a rule on catch trials or positions is replaced by
somebody new until every session counts, as a study's refill slots do it; those who were sent home are counted,
because most of them are paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from scipy.special import expit, ndtr
from scipy.stats import binom

from analysis.judgement_table import COLUMNS
from benchmark.documents import Document, explain
from benchmark.errors import AnalysisError

Link = Literal["logit", "probit"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_ROUNDS = 1000
"""Beyond so many people for one session, rules and people do not fit each other."""


if TYPE_CHECKING:
    Described = Document
else:

    class _Called(type(Document)):
        """Calls of a class say in words what is wrong with the values, as reading a file does."""

        def __call__(cls, **values: Any) -> Any:
            """Make an instance."""
            try:
                return super().__call__(**values)
            except ValidationError as error:
                raise AnalysisError(explain(cls, error, cls.__name__)) from None

    class Described(Document, metaclass=_Called):
        """A table of a design's file, or what a call gives: both are checked by the same rules."""

        model_config = ConfigDict(protected_namespaces=(), allow_inf_nan=False)


class Layout(Described):
    """Who is asked what.

    Attributes
    ----------
    models, units, tasks
        Models, units of each model, tasks of each unit and condition.
    conditions
        Names of the conditions.
    sessions
        Sessions that count, of each condition: of each model where people are nested in a model, in all where they
        are crossed.
    trials, catch_trials
        Main and catch trials of a session.
    crossed
        Whether a session mixes all models (crossed), or stays with one (nested), as in the 2023 paper.
    references_none
        Share of a session's main trials that show no references, rounded up to whole trials; they count for no result.
    """

    models: int = Field(default=9, ge=1, le=10_000)
    units: int = Field(default=84, ge=1)
    tasks: int = Field(default=10, ge=1)
    conditions: tuple[str, ...] = ("natural",)
    sessions: int = Field(default=63, ge=1)
    trials: int = Field(default=40, ge=1)
    catch_trials: int = Field(default=0, ge=0)
    crossed: bool = False
    references_none: float = Field(default=0.0, ge=0, le=1)

    @field_validator("conditions")
    @classmethod
    def _named_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) != len(names):
            raise ValueError(f"name at least one condition, and none twice, not {list(names)}")
        return names

    @property
    def slots(self) -> int:
        """Sessions in all."""
        return self.sessions * len(self.conditions) * (1 if self.crossed else self.models)

    @property
    def blank_trials(self) -> int:
        """Main trials of a session without references."""
        return int(np.ceil(round(self.references_none * self.trials, 9)))

    @property
    def main_answers(self) -> int:
        """Answers of a session that results rest on."""
        return self.trials - self.blank_trials

    @property
    def answers(self) -> float:
        """Answers about each model in each condition."""
        return self.sessions * self.main_answers / (self.models if self.crossed else 1)


class Population(Described):
    """The truth that judgements come from, on the scale of the link; and who comes.

    The defaults are what fits the natural condition of the 2023 study: units and people spread as its answers do, and
    the models as much as their published means do around the regression on their size (.023 as a proportion).

    Attributes
    ----------
    intercept
        Mean of the first condition, at predictor 0.
    conditions
        What other conditions add to it.
    slope, slopes
        Change per unit of the models' predictor (of log10 parameters, say), and, by condition, what is added to it.
    model, model_condition, unit, unit_condition, task, participant
        Standard deviations of the random effects.
    misleading, misled
        Share of the units (in a condition) that are answered below chance; and the range in which their probability of
        a right answer lies, before lapses, the same for everybody.
    lapse
        Share of trials on which a person answers wrongly whatever is shown: at best, 1 - lapse is right.
    guess, link
        Probability of a right answer when nothing is seen; the link.
    learning
        Change over a session, from its first trial to its last.
    inattentive
        Share of people who guess throughout.
    one_sided
        Share of people who always press at the same place.
    """

    intercept: float = 0.7
    conditions: dict[str, float] = Field(default_factory=dict)
    slope: float = 0.0
    slopes: dict[str, float] = Field(default_factory=dict)
    model: float = Field(default=0.25, ge=0)
    unit: float = Field(default=1.0, ge=0)
    unit_condition: float = Field(default=0.0, ge=0)
    task: float = Field(default=0.0, ge=0)
    participant: float = Field(default=0.4, ge=0)
    lapse: float = Field(default=0.0, ge=0, lt=0.5)
    guess: float = Field(default=0.5, ge=0, lt=1)
    inattentive: float = Field(default=0.0, ge=0, le=1)
    learning: float = 0.0
    link: Link = "logit"
    one_sided: float = Field(default=0.0, ge=0, le=1)
    model_condition: float = Field(default=0.0, ge=0)
    misleading: float = Field(default=0.0, ge=0, le=1)
    misled: tuple[float, float] = (0.1, 0.4)

    @model_validator(mode="after")
    def _shares(self) -> Population:
        if self.guess + self.lapse >= 1:
            raise ValueError(f"guess ({self.guess}) and lapse ({self.lapse}) leave no room for an answer that is known")
        if self.inattentive + self.one_sided > 1:
            raise ValueError(
                "inattentive and one-sided people together must be fewer than all; "
                f"{self.inattentive:.0%} and {self.one_sided:.0%} are more than everybody"
            )
        return self

    def probability(self, eta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of a right answer."""
        rises = expit(eta) if self.link == "logit" else ndtr(eta)
        probability: NDArray[np.float64] = self.guess + (1 - self.guess - self.lapse) * rises
        return probability


class Screening(Described):
    """Which sessions count: the rules of a protocol that a simulated session can fail.

    Times, rounds of practice and earlier participation are not simulated, so that their rules never speak here.

    Attributes
    ----------
    catch_correct
        Least share of catch trials answered rightly.
    each_position
        How often either position must be chosen at least, in ``trials`` main and catch trials; for longer and shorter
        sessions the number grows and shrinks with them.
    dropout
        Share of people who leave before the end.
    """

    catch_correct: float = Field(default=0.8, ge=0, le=1)
    each_position: float = Field(default=5.0, ge=0)
    trials: int = Field(default=45, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def passes(self, catch: NDArray[np.bool_], upper: Integers, trials: int) -> NDArray[np.bool_]:
        """Return which finished sessions count.

        Parameters
        ----------
        catch
            Shape (sessions, catch trials): whether each was answered rightly.
        upper
            Shape (sessions,): how often the upper position was chosen.
        trials
            Main and catch trials of a session.
        """
        wanted = self.each_position * trials / self.trials
        good: NDArray[np.bool_] = np.minimum(upper, trials - upper) >= wanted - 1e-9
        if catch.shape[1]:
            good &= catch.mean(axis=1) >= self.catch_correct - 1e-9
        return good

    def pass_probabilities(self, layout: Layout, population: Population) -> tuple[float, float, float]:
        """Return the chances of a finished session to count: of attentive, inattentive and one-sided people.

        Right answers fall on either position at random, so that whoever does not press one side throughout chooses
        each with probability one half, in every trial.
        """
        catch, trials = layout.catch_trials, layout.trials + layout.catch_trials
        least = int(np.ceil(self.catch_correct * catch - 1e-9))
        wanted = int(np.ceil(self.each_position * trials / self.trials - 1e-9))
        sides = float(binom.cdf(trials - wanted, trials, 0.5) - binom.cdf(wanted - 1, trials, 0.5))
        attentive = float(binom.sf(least - 1, catch, 1 - population.lapse))
        guessing = float(binom.sf(least - 1, catch, population.guess))
        pressing = float(binom.sf(least - 1, catch, 0.5)) if wanted <= 0 else 0.0
        return attentive * sides, guessing * sides, pressing


@dataclass(frozen=True)
class Answers:
    """The answers of a simulated experiment, in whole numbers: one entry an answer that counts.

    Attributes
    ----------
    correct
        Whether it is right.
    probability
        The truth it was drawn with.
    condition, model, unit, task, participant, trial_index
        Whole numbers; units count over all models, tasks over all units and conditions.
    max_on_top
        Whether the maximal query was the upper one.
    catch, blank
        Whether it is a catch trial, and whether no references were shown.
    recruited, unfinished, excluded
        How many people came; how many of them left; how many finished and failed a rule.
    layout
        What was asked.
    """

    correct: NDArray[np.bool_]
    probability: Floats
    condition: Integers
    model: Integers
    unit: Integers
    task: Integers
    participant: Integers
    trial_index: Integers
    max_on_top: NDArray[np.bool_]
    catch: NDArray[np.bool_]
    blank: NDArray[np.bool_]
    recruited: int
    unfinished: int
    excluded: int
    layout: Layout


def _lay_out(layout: Layout, rng: np.random.Generator) -> tuple[Integers, Integers, Integers]:
    """Return the trials of a design: every unit equally often, none twice in a session, tasks in turn.

    Units (over all models) and tasks (over all units and conditions) have the shape (sessions, trials); the third is
    the condition of each session.
    """
    pool, groups = (layout.models * layout.units, 1) if layout.crossed else (layout.units, layout.models)
    total = layout.models * layout.units
    units, tasks, conditions = [], [], []
    for condition in range(len(layout.conditions)):
        place, turn = _passes(groups, pool, layout.sessions, layout.trials, rng)
        unit = (place + (np.arange(groups) * pool)[:, None, None]).reshape(-1, layout.trials)
        units.append(unit)
        tasks.append((condition * total + unit) * layout.tasks + np.tile(turn, (groups, 1)) % layout.tasks)
        conditions.append(np.full(len(unit), condition))
    return np.concatenate(units), np.concatenate(tasks), np.concatenate(conditions)


def _passes(groups: int, pool: int, sessions: int, trials: int, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Return which unit each trial asks about, shape (groups, sessions, trials), and in which pass, the last two.

    Passes over all units follow one another, each in a new order, and a session is the next stretch. Where a pass
    begins inside a session, what that session has already shown comes later in the pass. With fewer units than
    trials, repeats within a session can't be avoided.
    """
    wanted = sessions * trials
    count = -(-wanted // pool)
    order = np.empty((groups, count, pool), dtype=np.int64)
    for number in range(count):
        keys = rng.random((groups, pool))
        begun = number * pool % trials if pool >= trials else 0
        if begun:
            # Shown units go behind all others; then whatever is not this session's any more is shuffled again.
            shown = order[:, number - 1, -begun:]
            np.put_along_axis(keys, shown, np.take_along_axis(keys, shown, axis=1) + 1, axis=1)
        own = keys.argsort(axis=1)
        if begun:
            own[:, trials - begun :] = rng.permuted(own[:, trials - begun :], axis=1)
        order[:, number] = own
    turn = np.repeat(np.arange(count), pool)
    laid_out = order.reshape(groups, -1)[:, :wanted].reshape(groups, sessions, trials)
    return laid_out, turn[:wanted].reshape(sessions, trials)


def simulate_judgements(
    layout: Layout,
    population: Population,
    *,
    seed: int,
    predictor: NDArray[np.float64] | None = None,
    screening: Screening | None = None,
) -> pd.DataFrame:
    """Simulate an experiment.

    Parameters
    ----------
    layout
        Who is asked what.
    population
        The truth.
    seed
        Of everything that is drawn.
    predictor
        Shape (models,): what the models' slope multiplies; 0 for all if None.
    screening
        Which sessions count; those that do not are replaced. None takes every session as it comes.

    Returns
    -------
    A table of judgements, as ``analysis.judgement_table`` describes it, with two columns more: ``probability``, the
    truth of each row, and ``predictor``. Catch trials, if any, have kind ``catch`` and a unit of their own.
    """
    answers = draw_answers(layout, population, np.random.default_rng(seed), predictor, screening)
    return judgement_table(answers, predictor)


def draw_answers(
    layout: Layout,
    population: Population,
    rng: np.random.Generator,
    predictor: NDArray[np.float64] | None = None,
    screening: Screening | None = None,
) -> Answers:
    """Simulate an experiment as arrays, which is what a thousand of them need; parameters as above.

    Raises
    ------
    AnalysisError
        If hardly anybody passes the screening.
    """
    unit, task, condition = _lay_out(layout, rng)
    slots, trials, catch = len(unit), layout.trials, layout.catch_trials
    values = np.zeros(layout.models) if predictor is None else np.asarray(predictor, dtype=np.float64)
    units = layout.models * layout.units
    added = np.array([population.conditions.get(name, 0.0) for name in layout.conditions])
    slopes = np.array([population.slope + population.slopes.get(name, 0.0) for name in layout.conditions])
    model = unit // layout.units
    per_unit = rng.normal(0, population.model, layout.models).repeat(layout.units) + rng.normal(
        0, population.unit, units
    )
    # What does not depend on who answers, by unit and condition.
    fixed = (
        population.intercept
        + added
        + np.outer(values.repeat(layout.units), slopes)
        + per_unit[:, None]
        + _normal(rng, population.unit_condition, (units, len(added)))
        + _normal(rng, population.model_condition, (layout.models, len(added))).repeat(layout.units, axis=0)
    )
    eta = fixed[unit, condition[:, None]]
    eta += _normal(rng, population.task, units * layout.tasks * len(added))[task]
    eta += population.learning * np.arange(trials) / max(trials - 1, 1)
    top = rng.random((slots, trials + catch)) < 0.5
    floor: Floats | None = None
    if population.misleading:
        below = rng.uniform(*population.misled, fixed.shape)
        below[rng.random(fixed.shape) >= population.misleading] = np.nan
        floor = below[unit, condition[:, None]]
    blank = np.zeros((slots, trials), dtype=bool)
    if layout.blank_trials:
        np.put_along_axis(blank, rng.random((slots, trials)).argsort(axis=1)[:, : layout.blank_trials], True, axis=1)
    correct = np.empty((slots, trials + catch), dtype=bool)
    probability = np.empty((slots, trials + catch))
    waiting = np.arange(slots)
    recruited = unfinished = excluded = 0
    for _ in range(MOST_ROUNDS):
        recruited += len(waiting)
        below_chance = None if floor is None else floor[waiting]
        chance, right = _answer(population, eta[waiting], blank[waiting], top[waiting], rng, below_chance)
        probability[waiting], correct[waiting] = chance, right
        if screening is None:
            break
        stayed = rng.random(len(waiting)) >= screening.dropout
        upper = (right == top[waiting]).sum(axis=1)
        good = screening.passes(right[:, trials:], upper, trials + catch)
        unfinished += int((~stayed).sum())
        excluded += int((stayed & ~good).sum())
        waiting = waiting[~(stayed & good)]
        if not len(waiting):
            break
    else:
        raise AnalysisError(
            f"{len(waiting)} sessions found nobody among {MOST_ROUNDS:,} people who passes the exclusion rules: fewer "
            "inattentive people, or milder rules."
        )

    def whole(main: NDArray[np.generic], more: int) -> Integers:
        """Lengthen the main trials' codes by catch trials, which take the session's first one."""
        return np.concatenate([main, np.repeat(main[:, :1], more, axis=1)], axis=1).ravel()

    return Answers(
        correct=correct.ravel(),
        probability=probability.ravel(),
        condition=condition.repeat(trials + catch),
        model=whole(model, catch),
        unit=whole(unit, catch),
        task=whole(task, catch),
        participant=np.arange(slots).repeat(trials + catch),
        trial_index=np.tile(np.arange(trials + catch), slots),
        max_on_top=top.ravel(),
        catch=np.tile(np.arange(trials + catch) >= trials, slots),
        blank=np.concatenate([blank, np.zeros((slots, catch), dtype=bool)], axis=1).ravel(),
        recruited=recruited,
        unfinished=unfinished,
        excluded=excluded,
        layout=layout,
    )


def _answer(
    population: Population,
    eta: Floats,
    blank: NDArray[np.bool_],
    top: NDArray[np.bool_],
    rng: np.random.Generator,
    below_chance: Floats | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the truth and the answers of new people, one a row; catch trials follow the main ones."""
    people, catch = len(eta), top.shape[1] - eta.shape[1]
    chance = population.probability(eta + _normal(rng, population.participant, (people, 1)))
    if below_chance is not None:
        chance = np.where(np.isnan(below_chance), chance, below_chance)
    chance[blank] = population.guess
    chance = np.concatenate([chance, np.full((people, catch), 1 - population.lapse)], axis=1)
    kind = rng.random(people)
    chance[kind < population.inattentive] = population.guess
    right = rng.random(chance.shape) < chance
    if population.one_sided:
        pressing = (kind >= population.inattentive) & (kind < population.inattentive + population.one_sided)
        upper = rng.random(people) < 0.5
        right[pressing] = top[pressing] == upper[pressing, None]
        chance[pressing] = 0.5
    return chance, right


def _normal(rng: np.random.Generator, deviation: float, shape: int | tuple[int, ...]) -> Floats:
    """Draw from a normal distribution; where it has no spread, nothing needs to be drawn."""
    return rng.normal(0, deviation, shape) if deviation else np.zeros(shape)


def judgement_table(answers: Answers, predictor: NDArray[np.float64] | None = None) -> pd.DataFrame:
    """Return simulated answers as a table of judgements with ``probability`` and ``predictor``."""
    layout, model, unit = answers.layout, answers.model, answers.unit
    values = np.zeros(layout.models) if predictor is None else np.asarray(predictor, dtype=np.float64)
    table = pd.DataFrame(
        {
            "correct": answers.correct.astype(np.float64),
            "model": _names("model", model),
            "condition": pd.Categorical.from_codes(answers.condition, categories=list(layout.conditions)),
            "difficulty": "easy",
            "references": np.where(answers.blank, "none", "both"),
            "unit": _names("unit", unit),
            "layer": "layer",
            "task": _names("task", answers.task),
            "participant": _names("person", answers.participant),
            "session": _names("session", answers.participant),
            "trial_index": answers.trial_index,
            "upper": (answers.correct == answers.max_on_top).astype(np.float64),
            "max_on_top": answers.max_on_top.astype(np.float64),
            "confidence": np.nan,
            "rt_ms": np.nan,
            "kind": np.where(answers.catch, "catch", "main"),
        }
    )[list(COLUMNS)]
    constant = ["difficulty", "references", "layer", "kind"]
    return table.astype(dict.fromkeys(constant, "category")).assign(
        probability=answers.probability, predictor=values[model]
    )


def _names(kind: str, codes: NDArray[np.int64]) -> pd.Categorical:
    """Return names that number things, as categories."""
    return pd.Categorical.from_codes(codes, categories=[f"{kind}-{code}" for code in range(int(codes.max()) + 1)])
