"""How simulated people take part in a study: the one place that says which settings there are, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(default: Any, help: str, **more: Any) -> Any:
    """Declare a setting that is an option of ``vimi simulate``; ``more`` is what typer's options take."""
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class SimulationSettings:
    """How simulated people of known ability take part in a study; ``vimi simulate`` has an option for each field.

    Attributes
    ----------
    participants
        How many come.
    seed
        Of all that is random about them. What is true of the units follows from the experiment's own seed, so that
        simulations add up.
    dropout, inattentive
        Shares of people who leave at a random moment, and who press the same button all the time.
    interval
        Mean seconds between two arrivals.
    until_full
        Let nobody come any more once every slot is filled; only in this process.
    pilot
        Whether they take part in the pilot.
    database
        URL of the database: by default ``simulation.sqlite`` in the study's folder. Over HTTP the server's, if it can
        be read from here: what is reported then comes from it, and otherwise from what was acknowledged to them.
    http
        Address of a server that was started with ``--bots``; in this process, on a clock that jumps from one event to
        the next, if not given.
    workers, speed
        Over HTTP: how many can do something at the same moment, and how much faster than people they live. The
        server's clock knows nothing of it: where the speed is not 1, the protocol's rules about time fail on the
        server, and are left out of what is reported.
    """

    participants: int = _option(50, "Send so many simulated people.", min=1)
    seed: int = _option(0, "Seed everything random with this number.")
    dropout: float = _option(0.3, "Let this share leave at a random moment.", min=0, max=1)
    inattentive: float = _option(0.05, "Let this share always press one button.", min=0, max=1)
    interval: float = _option(60.0, "Let so many seconds pass between two arrivals.", min=0)
    until_full: bool = _option(False, "Stop when every session slot is filled.")
    pilot: bool = _option(False, "Take part in the pilot.")
    database: str = _option("", "Use this database, not the study's simulation.sqlite.", metavar="URL")
    http: str = _option("", "Use the server there, started with --bots.", metavar="URL")
    workers: int = _option(16, "Let so many bots act at once, with --http.", min=1, max=256)
    speed: float = _option(1.0, "Live so much faster than people, with --http.", min=0.1)
