"""Estimates in the rows of tables."""

from __future__ import annotations

import numpy as np

from benchmark.estimate import Estimate


def spread_out(name: str, estimate: Estimate | None) -> dict[str, float]:
    """Return an estimate as three entries of a row: ``name``, ``name_low``, ``name_high``; missing for None."""
    if estimate is None:
        return {name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
