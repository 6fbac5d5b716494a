"""Buckets that refill: how much a visitor may do at once, and in the long run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic


class Rates:
    """How much each of many has done lately; only the latest few thousand are remembered.

    Parameters
    ----------
    burst
        What a full bucket holds.
    rate
        What it gains a second.
    most
        How many buckets are kept.
    clock
        Tells the time in seconds.
    """

    def __init__(self, burst: float, rate: float, most: int = 5000, clock: Callable[[], float] = monotonic) -> None:
        self.burst, self.rate, self.most, self.clock = burst, rate, most, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def left(self, name: str) -> float:
        """Return what a bucket holds; less than nothing if more was taken than it held."""
        now = self.clock()
        held, at = self._buckets.get(name, (self.burst, now))
        return min(self.burst, held + (now - at) * self.rate)

    def allow(self, name: str) -> bool:
        """Take one out of a bucket if it holds one; returns whether it did."""
        left = self.left(name)
        self._keep(name, left - 1 if left >= 1 else left)
        return left >= 1

    def take(self, name: str) -> float:
        """Take one out of a bucket, whatever it holds; returns the seconds until it would have been there."""
        left = self.left(name) - 1
        self._keep(name, left)
        return max(0.0, -left / self.rate)

    def _keep(self, name: str, left: float) -> None:
        self._buckets.pop(name, None)
        self._buckets[name] = (left, self.clock())
        if len(self._buckets) > self.most:
            self._buckets.popitem(last=False)
