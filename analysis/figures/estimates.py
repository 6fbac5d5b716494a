"""Forest plots of estimates with intervals, and residuals of a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures.style import (
    INK,
    MUTED,
    SeriesStyle,
    draw_intervals,
    draws,
    limited,
    mark_level,
    name_rows,
    open_figure,
    stripe_rows,
    tidy,
    title,
)
from analysis.figures.tables import check_numbers, check_table
from analysis.figures.words import display_names, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

BINS = 20
"""Groups of answers of like probability."""


@draws
def plot_estimates(
    table: pd.DataFrame,
    *,
    value_label: str = "estimate",
    level: float | None = None,
    level_label: str = "",
    note: str = "",
) -> Axes:
    """Plot estimates below one another, each with its interval, the first row on top.

    Parameters
    ----------
    table
        One row an estimate: ``label``, ``value``, ``low``, ``high``; optionally ``outer_low`` and ``outer_high``, an
        interval that holds together with all others, drawn as a thin line.
    value_label
        What the values are.
    level
        A value to compare with, such as 0 or chance; None draws none.
    level_label
        What that value is.
    note
        What must be said wherever these numbers appear.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    own = check_table(table, "estimates", ["label"])
    own[["low", "high"]] = own[["low", "high"]].replace([-np.inf, np.inf], np.nan)
    places = np.arange(len(own))
    figure = open_figure(0.75 + 0.22 * max(3, len(own)), note=note)
    axis: Axes = figure.subplots()
    outer = {"outer_low", "outer_high"} <= set(own.columns)
    ends = own[["value", "low", "high", *(["outer_low", "outer_high"] if outer else [])]].to_numpy(np.float64)
    axis.set_xlim(*limited(ends[np.isfinite(ends)], [] if level is None else [level], 0.04))
    stripe_rows(axis, len(own))
    look = SeriesStyle("", INK, "o")
    if outer:
        draw_intervals(
            axis, places, own, look, across=True, columns=("value", "outer_low", "outer_high"), width=1.2, point=0,
            unbounded=False,
        )  # fmt: skip
    draw_intervals(axis, places, own, look, across=True)
    names = display_names(own["label"].astype(str), 44)
    name_rows(axis, [names[label] for label in own["label"].astype(str)])
    if level is not None:
        mark_level(axis, level, level_label, across=True)
    thin = "\nthin lines: intervals that hold together" if outer else ""
    axis.set_xlabel(f"{printable(value_label)}, with its interval{thin}")
    tidy(axis, "x")
    return axis


@draws
def plot_residuals(table: pd.DataFrame, *, note: str = "") -> NDArray[Any]:
    """Plot quantile residuals: against the normal distribution, and their means against the predicted probability.

    Parameters
    ----------
    table
        One row an answer: ``residual``, standard normal if the model holds, and ``probability``, what was predicted.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes: quantiles, and means of groups of answers of like probability, each with the interval of a mean
    of normal numbers. Levels' effects are estimated from the same answers and shrunken, so that the lowest groups lie a
    little below 0 and the highest a little above it even where the model holds: look for curvature and jumps.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds something else than numbers.
    """
    check_numbers(table, "residuals", ["residual", "probability"])
    from scipy.stats import norm

    residual = np.sort(table["residual"].to_numpy(np.float64))
    expected = norm.ppf((np.arange(len(residual)) + 0.5) / len(residual))
    shown = np.unique(np.linspace(0, len(residual) - 1, min(len(residual), 400)).round().astype(int))
    figure = open_figure(3.0, note=note)
    left, right = figure.subplots(1, 2)
    reach = float(np.abs(expected).max()) * 1.05
    left.plot([-reach, reach], [-reach, reach], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    left.plot(expected[shown], residual[shown], linestyle="none", marker="o", markersize=2.5, color=INK)
    left.set_xlabel("expected of a normal distribution")
    left.set_ylabel("quantile residual")
    title(left, "Quantiles", 3.2)
    order = np.argsort(table["probability"].to_numpy(np.float64), kind="stable")
    groups = [part for part in np.array_split(order, min(BINS, max(len(order) // 10, 1))) if len(part)]
    at = np.array([table["probability"].to_numpy(np.float64)[part].mean() for part in groups])
    means = np.array([table["residual"].to_numpy(np.float64)[part].mean() for part in groups])
    bound = 1.96 / np.sqrt([len(part) for part in groups])
    right.vlines(at, means - bound, means + bound, color="#c3cad1", linewidth=3)
    right.plot(at, means, linestyle="none", marker="o", markersize=4, color=INK)
    right.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    right.set_xlabel("predicted probability")
    right.set_ylabel("mean residual")
    title(right, "Means of groups of answers, 95 % of a mean of normal numbers", 3.2)
    for axis in (left, right):
        tidy(axis, "y")
    return np.array([left, right])


__all__ = ["plot_estimates", "plot_residuals"]
