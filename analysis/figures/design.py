"""Power, cost, and optimal designs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.labels import label_points, name_lines
from analysis.figures.style import (
    INK,
    SMALL,
    SeriesStyle,
    draw_band,
    draw_intervals,
    draws,
    few_ticks,
    limited,
    mark_level,
    open_figure,
    series_styles,
    tidy,
)
from analysis.figures.tables import check_numbers, check_table, known_intervals
from analysis.figures.words import display_names, number, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WANTED_POWER = 0.8


@draws
def plot_power(
    table: pd.DataFrame,
    *,
    across: str = "effect",
    across_label: str = "true slope, proportion correct per decade",
    wanted: float = WANTED_POWER,
    size: float | None = 0.05,
    declared: float | None = None,
    note: str = "",
) -> Axes:
    """Plot power with the intervals that a limited number of simulations leaves.

    Parameters
    ----------
    table
        One row a simulated design: a column for what varies, ``value``, ``low``, ``high``; optionally ``series``: one
        line each, named at its end.
    across
        Name of the column for what varies.
    across_label
        What it is.
    wanted
        Power that is asked for.
    size
        Level of the test, where power begins; None draws no line.
    declared
        The smallest effect of interest, or the planned number, on the same axis.
    note
        What must be said wherever these numbers appear.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    own = check_table(table, "power", [across])
    check_numbers(own, "power", [across])
    own["series"] = own["series"].astype(str) if "series" in own.columns else ""
    series = list(dict.fromkeys(own["series"]))
    styles = series_styles(series, ())
    figure = open_figure(3.4, width=5.8, note=note)
    axis: Axes = figure.subplots()
    axis.set_ylim(0, 1.02)
    x = own[across].to_numpy(np.float64)
    left, right = limited(x, [] if declared is None else [declared], 0.04)
    axis.set_xlim(left, right)
    mark_level(axis, wanted, f"power {number(wanted, 2)}")
    if size is not None:
        mark_level(axis, size, f"level {number(size, 2)}", right=True)
    if declared is not None:
        mark_level(axis, declared, f"declared, {declared:g}", across=True)
    for name in series:
        rows = own[own["series"] == name].sort_values(across)
        look = styles[name]
        if len(rows) > 1 and known_intervals(rows).all():
            draw_band(axis, rows[across], rows["value"], rows["low"], rows["high"], look)
        draw_intervals(axis, rows[across], rows, look, width=3.5, point=4)
    axis.set_xlabel(printable(across_label))
    axis.set_ylabel("power, with its simulation interval")
    few_ticks(axis, "x", 7)
    tidy(axis)
    last = own.sort_values(across).groupby("series", sort=False, observed=True)["value"].last()
    name_lines(axis, right, [float(last[name]) for name in series], series, [styles[name].colour for name in series])
    return axis


@draws
def plot_design_frontier(
    table: pd.DataFrame,
    *,
    cost_label: str = "cost",
    value_label: str = "standard error of a model's mean",
    note: str = "",
) -> Axes:
    """Plot designs by cost and expected precision; optimal designs are joined and named.

    Parameters
    ----------
    table
        One row a design: ``design`` (its name), ``cost``, ``value`` (less is better), ``low``, ``high``,
        ``on_frontier``; optionally ``planned``, true for the study's own.
    cost_label, value_label
        What these are.
    note
        What must be said wherever these numbers appear.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    own = check_table(table, "design frontier", ["design", "cost", "on_frontier"])
    check_numbers(own, "design frontier", ["cost"])
    own["cost"] = own["cost"].astype(np.float64)
    own["design"] = own["design"].astype(str)
    best = own["on_frontier"].astype(bool)
    planned = own["planned"].astype(bool) if "planned" in own.columns else pd.Series(False, index=own.index)
    figure = open_figure(3.8, width=6.2, note=note)
    axis: Axes = figure.subplots()
    ends = own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()
    low, high = limited(np.concatenate([ends, own["value"]]), [], 0.08)
    axis.set_xlim(*limited(own["cost"], [], 0.10))
    axis.set_ylim(low, high)
    others = own[~best & ~planned]
    if len(others):
        draw_intervals(axis, others["cost"], others, SeriesStyle("", "#9aa5b1", "o"), width=2.5, point=3.5)
    front = own[best].sort_values(["cost", "value"])
    if len(front):
        look = SeriesStyle("", "#35549b", "o")
        axis.plot(front["cost"], front["value"], drawstyle="steps-post", color=look.tint, linewidth=1.2, zorder=1.8)
        draw_intervals(axis, front["cost"], front, look)
    if planned.any():
        draw_intervals(axis, own.loc[planned, "cost"], own[planned], SeriesStyle("", "#a3333d", "D"), point=6)
    axis.set_xlabel(printable(cost_label))
    axis.set_ylabel(f"{printable(value_label)}, with its interval", fontsize=SMALL + 0.5)
    axis.xaxis.set_major_formatter(lambda place, _: f"{place:,.0f}" if abs(place) >= 10 else f"{place:g}")
    few_ticks(axis, "x", 6)
    tidy(axis, "both")
    named = own[best | planned]
    names = display_names(own["design"], 34)
    bars = named[["cost", "low", "cost", "high"]].to_numpy(np.float64)
    bars[:, [1, 3]] = np.clip(bars[:, [1, 3]], low, high)
    colours = ["#a3333d" if planned[row] else INK for row in named.index]
    label_points(axis, named["cost"], named["value"], [names[d] for d in named["design"]], bars=bars, colours=colours)
    return axis


__all__ = ["plot_design_frontier", "plot_power"]
