"""Garbage of the server, collected on a timer.

Streamlit collects all garbage after every run of a page, which stops the whole process for longer than the run takes:
a tenth of a second and more, for every click of everybody. What is alive once the server has started stays alive, so
that it need not be looked at again. What sessions leave behind is collected at times of our own, which together take a
hundredth of the time at most.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from time import perf_counter

SHORTEST_INTERVAL = 10.0
"""Seconds between two collections at least."""

LARGEST_SHARE = 0.01
"""Share of the time that collections may take: the longer one takes, the later comes the next."""

YOUNG_OBJECTS = 20_000
"""New objects after which Python itself looks at those, and only at those."""


class Collector:
    """Collects garbage in a thread of its own.

    Parameters
    ----------
    collect
        Does it; returns how many objects went.

    Attributes
    ----------
    pauses
        Seconds that the last thousand collections took.
    """

    def __init__(self, collect: Callable[[], int] = gc.collect) -> None:
        self.pauses: list[float] = []
        self._collect = collect
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vimi.collector", daemon=True)

    def start(self) -> None:
        """Take all that is alive for what stays, and begin."""
        gc.collect()
        gc.freeze()
        # The oldest generation is ours: Python would collect it amid somebody's click.
        gc.set_threshold(YOUNG_OBJECTS, 20, 1_000_000)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._done.set()

    def collect(self) -> float:
        """Collect now; returns the seconds until the next collection."""
        begun = perf_counter()
        self._collect()
        pause = perf_counter() - begun
        self.pauses = [*self.pauses[-999:], pause]
        return max(SHORTEST_INTERVAL, pause / LARGEST_SHARE)

    def _run(self) -> None:
        interval = SHORTEST_INTERVAL
        while not self._done.wait(interval):
            interval = self.collect()
