"""Bots: simulated people of known ability, who take part through the same functions as people.

A bot lives as a generator: it takes a step, says for how many seconds it now reads, looks or thinks, and goes on.
Whoever plays the lives decides what time is: a clock that jumps from one event to the next, or real time. So leases,
silences and races interleave as they would, and an hour of people takes seconds.

What a bot knows of a trial is what a person sees, its pictures. Which of them is right it finds in the study's own
tasks, in this process and over HTTP alike; no token, and nothing that a server sends, tells it.
"""

from webapp.bots.crowd import Crowd, draw_crowd
from webapp.bots.hosts import SIMULATED, Host, LocalHost, RemoteHost, Reply, handle_step
from webapp.bots.lives import Acknowledged, Bot, Story, Traits
from webapp.bots.playing import Life, SimulatedClock, play, play_in_real_time
from webapp.bots.population import BotPopulation, Recognition, Truth, sigmoid

__all__ = [
    "SIMULATED",
    "Acknowledged",
    "Bot",
    "BotPopulation",
    "Crowd",
    "Host",
    "Life",
    "LocalHost",
    "Recognition",
    "RemoteHost",
    "Reply",
    "SimulatedClock",
    "Story",
    "Traits",
    "Truth",
    "draw_crowd",
    "handle_step",
    "play",
    "play_in_real_time",
    "sigmoid",
]  # fmt: skip
