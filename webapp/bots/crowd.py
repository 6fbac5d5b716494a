"""Bots that share a truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.protocol import SessionRules
from benchmark.randomness import generator_from
from benchmark.tasks import assemble_tasks
from webapp.bots.hosts import Host
from webapp.bots.lives import Bot, Story
from webapp.bots.playing import Life
from webapp.bots.population import BotPopulation, Recognition, Truth


@dataclass
class Crowd:
    """Bots that share a truth.

    Attributes
    ----------
    tasks
        All distinct tasks of the study.
    truth
        What units are like.
    bots
        Who comes, in the order in which they do.
    arrivals
        When each comes, in seconds.
    """

    tasks: pd.DataFrame
    truth: Truth
    bots: list[Bot]
    arrivals: list[float]

    @property
    def stories(self) -> list[Story]:
        """What became of the bots."""
        return [bot.story for bot in self.bots]

    def lives(self, *hosts: Host) -> list[tuple[float, Life]]:
        """Return the bots' lives, dealt to hosts in turn."""
        return [
            (when, bot.live(hosts[number % len(hosts)]))
            for number, (when, bot) in enumerate(zip(self.arrivals, self.bots))
        ]


def draw_crowd(
    stimuli: pd.DataFrame, rules: SessionRules, *, participants: int, seed: int = 0, interval: float = 60.0,
    population: BotPopulation | None = None, slow_seconds: float = 75.0, first: int = 0, truth_seed: int | None = None,
) -> Crowd:  # fmt: skip
    """Draw simulated people.

    Parameters
    ----------
    stimuli
        The table of stimuli.
    rules
        The protocol's rules on sessions.
    participants
        How many.
    seed
        Of all that is random about them.
    interval
        Mean seconds between two arrivals.
    population
        What they are like.
    slow_seconds
        How long slow ones take for a trial.
    first
        Number of the first: with the seed it decides who somebody is.
    truth_seed
        Of what is true of the units, if it is not that of the people.
    """
    given = population or BotPopulation()
    tasks = assemble_tasks(stimuli)
    truth = Truth(seed if truth_seed is None else truth_seed, given)
    recognition = Recognition(tasks)
    bots = [
        Bot(number, seed, given, truth, recognition, rules, slow_seconds)
        for number in range(first, first + participants)
    ]
    arrivals = np.cumsum(generator_from(seed, "arrivals", first).exponential(interval, size=participants)).tolist()
    return Crowd(tasks, truth, bots, arrivals)
