"""Families of tests: p-values adjusted for how many there are.

Reference: Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Floats


def adjust_holm(p_values: Sequence[float] | NDArray[np.floating]) -> Floats:
    """Return Holm's adjusted p-values, in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    # statsmodels' multipletests does the same, and collects garbage each time: far too slow for a simulation.
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


ALPHA = 0.05
"""Size that a test is meant to have; a p-value is never written across it.

It is called alpha, as in statsmodels and G*Power. ``level`` is the coverage of an interval everywhere, and a ``size``
is what a test attains, or that of a sample, an effect or a model.
"""


def spell_p(p: float) -> str:
    """Write a p-value with three decimals, or as many more as keep it on its side of .05."""
    if p < 0.001:
        return "< .001"
    decimals = 3
    while (float(f"{p:.{decimals}f}") < ALPHA) != (p < ALPHA) and decimals < 9:
        decimals += 1
    return f"{p:.{decimals}f}".replace("0.", ".", 1) if p < 0.9995 else "1.000"
