"""Correlations of many resamples at once."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from analysis.arrays import Floats
from benchmark.errors import AnalysisError


def check_spread(human: Floats, machine: Floats, where: str, what: str) -> None:
    """Refuse a correlation with a constant."""
    for name, values in (("people", human), ("the machine observer", machine)):
        if np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
            raise AnalysisError(
                f"{where}: all {len(values)} {what} have the same score from {name} ({values.mean():.3f}), so no "
                "correlation is defined. Compare mean scores instead, or use harder queries."
            )


def weighted_pearson(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Return Pearson's correlation for each row of weights; NaN if one variable is constant."""
    x, y = x - x.mean(), y - y.mean()
    n = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / n, weights @ y / n
    of_x, of_y = weights @ x**2 / n - mean_x**2, weights @ y**2 / n - mean_y**2
    together = weights @ (x * y) / n - mean_x * mean_y
    usable = (of_x > 1e-12 * x.var()) & (of_y > 1e-12 * y.var())
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(usable, np.clip(together / np.sqrt(of_x * of_y), -1, 1), np.nan)


def weighted_spearman(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Return Spearman's correlation for each row of whole-number weights."""
    counts = weights.astype(np.int64)
    drawn = np.repeat(np.tile(np.arange(len(x)), len(counts)), counts.ravel()).reshape(len(counts), -1)
    return row_correlation(rankdata(x[drawn], axis=1), rankdata(y[drawn], axis=1))


def row_correlation(x: Floats, y: Floats) -> Floats:
    """Return Pearson's correlation of each row of two tables; NaN where a row does not vary."""
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 1e-12, np.clip((x * y).sum(axis=1) / scale, -1, 1), np.nan)
