"""Difficulties as quantiles: where the queries of each lie in the pool, and how far from its middle."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from analysis.arrays import Floats
from benchmark.errors import AnalysisError
from benchmark.protocol import DIFFICULTIES, Protocol


def query_quantiles(protocol: Protocol, pool: int | None = None) -> dict[str, float]:
    """Return the quantile in the middle of each difficulty's queries.

    Parameters
    ----------
    protocol
        Protocol of the study.
    pool
        Pictures in the pool; the protocol's nominal size if None. In a small pool easy queries lie further from the
        end than in a large one, because references take the outermost pictures.

    Returns
    -------
    For each difficulty that the pool can carry: the share of the pool beyond the middle of its queries.
    """
    size = pool or protocol.rules.pool.size
    found = {}
    for difficulty in DIFFICULTIES:
        if protocol.smallest_pool((difficulty,)) <= size:
            window = protocol.windows(size, (difficulty,)).queries[difficulty]
            found[str(difficulty)] = (window.start + window.count / 2) / size
    return found


def query_distance(quantile: ArrayLike) -> Floats:
    """Return the stimulus of the curve, -z(quantile).

    Raises
    ------
    AnalysisError
        If a quantile does not lie above 0 and up to one half.
    """
    share = np.asarray(quantile, dtype=np.float64)
    if not np.all((share > 0) & (share <= 0.5)):
        raise AnalysisError(
            f"A query's quantile lies above 0 and up to .5, not at {share[~((share > 0) & (share <= 0.5))][0]:g}."
        )
    distance: Floats = -ndtri(share)
    return distance
