"""Plumbing checks: studies and results whose numbers show that the parts work together, and measure nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.protocol import Protocol

PLUMBING = "plumbing check, not a measurement"
"""What a study is called, wherever its numbers appear, if its pool can't keep sources apart."""

SHOWN = "these numbers show that the parts work together, and nothing about the models"
"""What the numbers of such a study say."""

MOST_REPEATED = 0.01
"""A larger share of pictures that repeat a group within their task makes a plumbing check: the pool leaks."""


def repeats_groups(share: float, protocol: Protocol | None = None) -> bool:
    """Whether so many pictures repeat a group of their task that numbers measure nothing.

    Parameters
    ----------
    share
        Share of pictures that repeat a group.
    protocol
        The protocol, if it is known: one that does not keep groups apart may repeat them.
    """
    return share > MOST_REPEATED and (protocol is None or protocol.rules.pool.distinct_groups)
