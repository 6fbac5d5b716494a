"""Whole experiments with known truth: people, units, tasks, models, lapses, in nested or crossed sessions.

A judgement is right with probability ``guess + (1 - guess - lapse) * F(eta)``, where ``eta`` adds up what the model,
the condition, the unit, the unit in this condition, the task and the person contribute, on the scale of the link F
(logit or probit). This is the model that ``analysis.mixed_model`` fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from analysis.judgements import COLUMNS

Link = Literal["logit", "probit"]


@dataclass(frozen=True)
class Layout:
    """Who is asked what.

    Attributes
    ----------
    models, units, tasks
        Models, units of each model, tasks of each unit and condition.
    conditions
        Names of the conditions.
    sessions
        Sessions of each condition: of each model where people are nested in a model, in all where they are crossed.
    trials, catch_trials
        Main and catch trials of a session.
    crossed
        Whether a session mixes all models (crossed), or stays with one (nested), as in the 2023 paper.
    """

    models: int = 9
    units: int = 84
    tasks: int = 10
    conditions: tuple[str, ...] = ("natural",)
    sessions: int = 63
    trials: int = 40
    catch_trials: int = 0
    crossed: bool = False


@dataclass(frozen=True)
class Population:
    """The truth that judgements come from, on the scale of the link.

    Attributes
    ----------
    intercept
        Mean of the first condition, at predictor 0.
    conditions
        What other conditions add to it.
    slope
        Change per unit of the models' predictor (of log10 parameters, say), and, by condition, what is added to it.
    model, unit, unit_condition, task, participant
        Standard deviations of the random effects.
    lapse
        Share of trials on which a person answers wrongly whatever is shown; at eta of plus infinity, 1 - lapse is right.
    guess
        Probability of a right answer when nothing is seen.
    inattentive
        Share of people who guess throughout.
    learning
        Change over a session, from its first trial to its last.
    """

    intercept: float = 0.7
    conditions: Mapping[str, float] = field(default_factory=dict)
    slope: float = 0.0
    slopes: Mapping[str, float] = field(default_factory=dict)
    model: float = 0.25
    unit: float = 1.0
    unit_condition: float = 0.0
    task: float = 0.0
    participant: float = 0.4
    lapse: float = 0.0
    guess: float = 0.5
    inattentive: float = 0.0
    learning: float = 0.0
    link: Link = "logit"

    def probability(self, eta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of a right answer."""
        rises = expit(eta) if self.link == "logit" else ndtr(eta)
        probability: NDArray[np.float64] = self.guess + (1 - self.guess - self.lapse) * rises
        return probability


def lay_out(layout: Layout, rng: np.random.Generator) -> pd.DataFrame:
    """Return the trials of a design: every unit equally often, none twice in a session, tasks in turn.

    Returns
    -------
    One row a trial, with whole numbers ``condition``, ``model``, ``unit`` (over all models), ``task`` (over all units
    and conditions), ``participant`` and ``trial_index``.
    """
    parts = []
    people = 0
    for condition in range(len(layout.conditions)):
        groups = [np.arange(layout.models * layout.units)]
        if not layout.crossed:
            groups = list(groups[0].reshape(layout.models, layout.units))
        for group in groups:
            wanted = layout.sessions * layout.trials
            # Passes over all units, each in a new order; a session is a run of trials within these passes.
            sequence = np.concatenate([rng.permutation(group) for _ in range(-(-wanted // len(group)))])
            shown = _without_repeats(sequence[:wanted].reshape(layout.sessions, layout.trials), rng)
            flat = shown.ravel()
            turn = pd.Series(flat).groupby(flat).cumcount().to_numpy() % layout.tasks
            parts.append(
                pd.DataFrame(
                    {
                        "condition": condition,
                        "model": flat // layout.units,
                        "unit": flat,
                        "task": (condition * layout.models * layout.units + flat) * layout.tasks + turn,
                        "participant": people + np.repeat(np.arange(layout.sessions), layout.trials),
                        "trial_index": np.tile(np.arange(layout.trials), layout.sessions),
                    }
                )
            )
            people += layout.sessions
    return pd.concat(parts, ignore_index=True)


def _without_repeats(sessions: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Exchange units between sessions until no session asks twice about one, where its length allows."""
    rows = sessions.copy()
    for _ in range(200):
        repeated = [
            (row, column)
            for row in range(len(rows))
            for column in np.setdiff1d(np.arange(rows.shape[1]), np.unique(rows[row], return_index=True)[1])
        ]
        if not repeated or len(rows) == 1:
            break
        for row, column in repeated:
            other = int(rng.integers(len(rows)))
            place = int(rng.integers(rows.shape[1]))
            mine, theirs = rows[row, column], rows[other, place]
            if other != row and theirs not in rows[row] and mine not in rows[other]:
                rows[row, column], rows[other, place] = theirs, mine
    return rows


def simulate_judgements(
    layout: Layout, population: Population, *, seed: int, predictor: NDArray[np.float64] | None = None
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

    Returns
    -------
    A table of judgements, as ``analysis.judgements`` describes it, with two columns more: ``probability``, the truth
    of each row, and ``predictor``. Catch trials, if any, have kind ``catch`` and a unit of their own.
    """
    rng = np.random.default_rng(seed)
    trials = lay_out(layout, rng)
    if layout.catch_trials:
        trials = _add_catch_trials(trials, layout)
    catch = trials["kind"].to_numpy() == "catch" if layout.catch_trials else np.zeros(len(trials), dtype=bool)
    values = np.zeros(layout.models) if predictor is None else np.asarray(predictor, dtype=np.float64)
    model, condition = trials["model"].to_numpy(), trials["condition"].to_numpy()
    unit, participant = trials["unit"].to_numpy(), trials["participant"].to_numpy()
    units, people = layout.models * layout.units, int(participant.max()) + 1
    added = np.array([population.conditions.get(name, 0.0) for name in layout.conditions])
    slopes = np.array([population.slope + population.slopes.get(name, 0.0) for name in layout.conditions])
    unit_condition = rng.normal(0, population.unit_condition, (units, len(layout.conditions)))
    eta = (
        population.intercept
        + added[condition]
        + slopes[condition] * values[model]
        + rng.normal(0, population.model, layout.models)[model]
        + rng.normal(0, population.unit, units)[unit]
        + unit_condition[unit, condition]
        + rng.normal(0, population.task, units * layout.tasks * len(layout.conditions))[trials["task"].to_numpy()]
        + rng.normal(0, population.participant, people)[participant]
        + population.learning * trials["trial_index"].to_numpy() / max(layout.trials - 1, 1)
    )
    probability = population.probability(np.where(catch, np.inf, eta))
    careless = rng.random(people) < population.inattentive
    probability = np.where(careless[participant], population.guess, probability)
    correct = rng.random(len(trials)) < probability
    top = rng.random(len(trials)) < 0.5
    table = pd.DataFrame(
        {
            "correct": correct.astype(np.float64),
            "model": _names("model", model),
            "condition": pd.Categorical.from_codes(condition, categories=list(layout.conditions)),
            "difficulty": "easy",
            "references": "both",
            "unit": _names("unit", unit),
            "layer": "layer",
            "task": _names("task", trials["task"].to_numpy()),
            "participant": _names("person", participant),
            "session": _names("session", participant),
            "trial_index": trials["trial_index"].to_numpy(),
            "upper": (correct == top).astype(np.float64),
            "max_on_top": top.astype(np.float64),
            "confidence": np.nan,
            "rt_ms": np.nan,
            "kind": np.where(catch, "catch", "main"),
        }
    )[list(COLUMNS)]
    constant = ["difficulty", "references", "layer", "kind"]
    return table.astype(dict.fromkeys(constant, "category")).assign(probability=probability, predictor=values[model])


def _add_catch_trials(trials: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Append each session's catch trials; what they ask about does not matter, since their truth is known."""
    one = trials[trials["trial_index"] == 0]
    catch = one.loc[one.index.repeat(layout.catch_trials)].reset_index(drop=True)
    catch["trial_index"] = layout.trials + np.tile(np.arange(layout.catch_trials), len(one))
    return pd.concat([trials.assign(kind="main"), catch.assign(kind="catch")], ignore_index=True)


def _names(kind: str, codes: NDArray[np.int64]) -> pd.Categorical:
    """Return names that number things, as categories."""
    return pd.Categorical.from_codes(codes, categories=[f"{kind}-{code}" for code in range(int(codes.max()) + 1)])
