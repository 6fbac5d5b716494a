"""Traits of simulated people, true values of units, and how a bot recognises a task by its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import HostingError
from benchmark.protocol import DIFFICULTIES, REFERENCES
from benchmark.randomness import generator_from
from benchmark.tasks import TASK_COLUMNS
from benchmark.units import PLANTED, UNIT_COLUMNS
from webapp.answering import ShownTrial


@dataclass(frozen=True)
class BotPopulation:
    """What simulated people are like.

    Attributes
    ----------
    unit_logit, model_sd, unit_sd
        How understandable units are: the logit of the share of tasks that an average person sees through, and its
        spread over models and over the units of a model.
    person_sd
        Spread of people's ability, in logits.
    condition_shift, difficulty_shift, one_side_shift
        Logits for each condition behind the natural one, for each step of difficulty, and for tasks that show
        references of one side alone. Without references there is nothing to see through: people guess.
    planted_logit
        How understandable the units of catch and practice trials are.
    lapse
        Share of trials in which somebody guesses although they know.
    position_sd
        Spread of people's preference for the upper query when they guess, in logits.
    inattentive
        Share of people who look at the practice only, and always press the same button afterwards.
    hasty
        Share of people who skip the instructions.
    slow
        Share of people who take longer than the protocol allows.
    unable
        Share of people who take the task the wrong way round, and so fail the practice.
    unwilling, small_window
        Shares of people who do not consent, and whose window is too small.
    dropout
        Share of people who leave at a moment that is drawn from all steps of their way.
    goodbye, back
        Of those who leave: the share who says so, and, of the silent ones, the share who comes back.
    back_seconds
        Mean time until they come back.
    double_click
        Share of answers that are sent a second time at once.
    """

    unit_logit: float = 0.8
    model_sd: float = 0.4
    unit_sd: float = 1.0
    person_sd: float = 0.5
    condition_shift: float = -0.5
    difficulty_shift: float = -0.7
    one_side_shift: float = -0.3
    planted_logit: float = 7.0
    lapse: float = 0.02
    position_sd: float = 0.3
    inattentive: float = 0.05
    hasty: float = 0.02
    slow: float = 0.02
    unable: float = 0.03
    unwilling: float = 0.02
    small_window: float = 0.02
    dropout: float = 0.3
    goodbye: float = 0.3
    back: float = 0.3
    back_seconds: float = 1800.0
    double_click: float = 0.1

    def __post_init__(self) -> None:
        for name in ("lapse", "inattentive", "hasty", "slow", "unable", "unwilling", "small_window", "dropout",
                     "goodbye", "back", "double_click"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise HostingError(f"{name} of simulated people must be between 0 and 1, not {getattr(self, name)}.")


class Truth:
    """What bots know and how often: the truth that a study of them must recover.

    Parameters
    ----------
    seed
        The truth of a unit depends on this and on the unit's name alone.
    population
        What people are like.
    """

    def __init__(self, seed: int, population: BotPopulation) -> None:
        self.seed = seed
        self.population = population
        self._logits: dict[tuple[Any, ...], float] = {}

    def logit(self, task: Mapping[str, Any], references: str) -> float:
        """Return the logit of the probability that an average person sees through a task."""
        unit = tuple(task[name] for name in UNIT_COLUMNS)
        given = self.population
        if task["model"] == PLANTED:
            return given.planted_logit
        if unit not in self._logits:
            model = generator_from(self.seed, "truth of a model", task["model"]).normal(0, given.model_sd)
            own = generator_from(self.seed, "truth of a unit", *unit).normal(0, given.unit_sd)
            self._logits[unit] = given.unit_logit + float(model) + float(own)
        value = self._logits[unit] + given.difficulty_shift * DIFFICULTIES.index(task["difficulty"])
        value += 0.0 if task["condition"] == "natural" else given.condition_shift
        value += given.one_side_shift if references in ("max", "min") else 0.0
        return -np.inf if references == "none" else value

    def probability(self, task: Mapping[str, Any], references: str) -> float:
        """Return the probability that an attentive person, drawn at random, answers a task rightly."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(41)
        knows = sigmoid(self.logit(task, references) + self.population.person_sd * nodes)
        return float(0.5 + 0.5 * (1 - self.population.lapse) * (weights @ knows) / weights.sum())

    def table(self, tasks: pd.DataFrame) -> pd.DataFrame:
        """Return the truth as a table: one row for each unit, condition, difficulty and kind of references."""
        keys = [*UNIT_COLUMNS, "condition", "difficulty"]
        distinct = tasks.loc[tasks["model"] != PLANTED, keys].drop_duplicates().to_dict("records")
        rows = [
            {**row, "references": references, "probability": self.probability(row, references)}
            for row in distinct
            for references in REFERENCES
        ]
        return pd.DataFrame(rows, columns=[*keys, "references", "probability"])


def sigmoid(logit: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of a logit; minus infinity is 0."""
    return np.asarray(0.5 * (1 + np.tanh(np.asarray(logit, dtype=np.float64) / 2)))


class Recognition:
    """Finds the task that a trial shows by its pictures, as somebody with the study on the desk would.

    Parameters
    ----------
    tasks
        All distinct tasks of the study.
    """

    def __init__(self, tasks: pd.DataFrame) -> None:
        self._by_queries: dict[frozenset[str], list[dict[str, Any]]] = {}
        for row in tasks[[*TASK_COLUMNS, "query_max", "query_min", "references_max", "references_min"]].to_dict(
            "records"
        ):
            queries = frozenset((row["query_max"], row["query_min"]))
            self._by_queries.setdefault(queries, []).append({str(name): value for name, value in row.items()})

    def find(self, shown: ShownTrial) -> tuple[dict[str, Any], str]:
        """Return the task of a trial, and which references it shows.

        Two units may share their queries: references then tell which it is. Where none are shown there is nothing to
        see through, so that it does not matter.
        """
        fitting = [
            task
            for task in self._by_queries.get(frozenset((shown.upper, shown.lower)), [])
            if set(shown.left) <= set(task["references_min"]) and set(shown.right) <= set(task["references_max"])
        ]
        if not fitting:
            raise HostingError(
                "A bot was shown pictures that belong to no task of the study. Check that the address is a server of "
                "this study."
            )
        sides = (bool(shown.left), bool(shown.right))
        return fitting[0], {(True, True): "both", (True, False): "min", (False, True): "max"}.get(sides, "none")
