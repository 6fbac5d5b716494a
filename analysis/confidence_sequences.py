"""Confidence sequences: intervals for a mean that stay valid if you look after every session and stop at any time.

An ordinary interval holds for a sample size that was fixed beforehand; who looks every hour and stops when they like
what they see is wrong more often than it says. A confidence sequence holds at all times at once: the chance that it
ever leaves out the mean is at most 1 - level, whatever rule stops the study. It is wider for that.

The sequence here is the hedged capital process of Waudby-Smith & Ramdas (2024), Estimating means of bounded random
variables by betting, JRSS B 86, section 4.3 and theorem 3: for each candidate mean m, two gamblers bet that the data
lie above and below m; m is dropped when their joint capital exceeds 1 / (1 - level), which by Ville's inequality
happens with probability 1 - level at most if m is right. Nothing is assumed but that values lie in [0, 1] and that
each has the same mean given those before it.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.estimate import LEVEL, Estimate

GRID = 500
"""Steps of the grid of candidate means; ends of an interval are moved outwards to the next step."""

TRUNCATION = 0.5
"""Most of its capital that a gambler stakes at once (c in the paper)."""

_AT_ONCE = 256
"""Observations worked on together, to bound memory."""

METHOD = "confidence sequence by betting (hedged capital): holds at all times at once"


def follow_mean(values: ArrayLike, level: float = LEVEL) -> NDArray[np.float64]:
    """Return the confidence sequence of a mean.

    Parameters
    ----------
    values
        Observations in [0, 1], in the order in which they came.
    settings
        As for every estimator: :class:`Settings`. The level is the chance that the sequence covers the
        mean at all times.

    Returns
    -------
    Shape (observations, 2): lower and upper end after each observation. Intervals only ever shrink (the running
    intersection of the paper). Should they ever contradict each other, which data of one mean make improbable, the
    last interval that was not empty stands.

    Raises
    ------
    ValueError
        If a value lies outside [0, 1], or the level outside (0, 1).
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not np.all((data >= 0) & (data <= 1)):
        raise ValueError("A confidence sequence needs a one-dimensional array of numbers in [0, 1].")
    if not 0 < level < 1:
        raise ValueError(f"The level of a confidence sequence must lie between 0 and 1, not at {level}.")
    grid = np.linspace(0.0, 1.0, GRID + 1)
    stakes = _stakes(data, 1 - level)
    limit = np.log(2 / (1 - level))  # each gambler holds half the capital: hedged with theta = 1/2
    log_up, log_down = np.zeros(GRID + 1), np.zeros(GRID + 1)
    ends = np.empty((len(data), 2))
    # A gambler who stakes nothing on an impossible side keeps the division by zero out of the paper's c / m.
    most_up = TRUNCATION / np.maximum(grid, 1e-12)
    most_down = TRUNCATION / np.maximum(1 - grid, 1e-12)
    for begin in range(0, len(data), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        surprise = data[part, None] - grid
        stake = stakes[part, None]
        up = log_up + np.cumsum(np.log1p(np.minimum(stake, most_up) * surprise), axis=0)
        down = log_down + np.cumsum(np.log1p(-np.minimum(stake, most_down) * surprise), axis=0)
        log_up, log_down = up[-1], down[-1]
        # Capital of the first falls with m and that of the second rises: what each refutes lies on one side.
        ends[part, 0] = np.where(up >= limit, grid, 0.0).max(axis=1)
        ends[part, 1] = np.where(down >= limit, grid, 1.0).min(axis=1)
    return _only_shrinking(ends)


def _stakes(data: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Return the predictable plug-in stakes (equation 26 of the paper): each depends on earlier observations alone."""
    times = np.arange(1, len(data) + 1)
    means = (0.5 + np.cumsum(data)) / (times + 1)
    variances = (0.25 + np.cumsum((data - means) ** 2)) / (times + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    stakes: NDArray[np.float64] = np.sqrt(2 * np.log(2 / alpha) / (before * times * np.log1p(times)))
    return stakes


def _only_shrinking(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersect each interval with those before it, up to the first contradiction."""
    shrunk = np.column_stack([np.maximum.accumulate(ends[:, 0]), np.minimum.accumulate(ends[:, 1])])
    empty = np.flatnonzero(shrunk[:, 0] > shrunk[:, 1])
    if len(empty):
        shrunk[empty[0] :] = shrunk[empty[0] - 1] if empty[0] else (0.0, 1.0)
    return shrunk


@threaded
def estimate_at_any_time(values: ArrayLike, *, unit: str, estimand: str, **settings: Unpack[Settings]) -> Estimate:
    """Return the mean so far with the present end of its confidence sequence.

    Parameters
    ----------
    values
        Observations in [0, 1], in the order in which they came: means of sessions, not single answers, which
        hang together.
    unit
        Unit of measurement.
    estimand
        What the mean speaks for.
    settings
        As for every estimator: :class:`Settings`. The level is the chance that the sequence covers the
        mean at all times.

    Raises
    ------
    ValueError
        If there are no observations, or one lies outside [0, 1].
    """
    level = choose(settings).level
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        raise ValueError("There are no values to estimate from.")
    low, high = (float(end) for end in follow_mean(data, level)[-1])
    # The mean so far may lie outside an interval that earlier data narrowed; the interval is what holds.
    mean = min(max(float(data.mean()), low), high)
    return Estimate(mean, low, high, METHOD, len(data), unit, estimand, level)
