"""Scores against properties of models: regressions on few models, leverage, and what they exclude."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.labels import label_points, name_lines, numbers_for_names
from analysis.figures.style import (
    FAINT,
    GRID,
    INK,
    MUTED,
    SMALL,
    SMALLEST,
    TEXT,
    WARNING,
    WIDTH,
    SeriesStyle,
    draw_band,
    draw_intervals,
    draws,
    few_ticks,
    hide,
    lighter,
    limited,
    log_ticks,
    mark_level,
    name_rows,
    open_figure,
    series_styles,
    shape_key,
    shapes,
    stripe_rows,
    tidy,
    wrapped,
)
from analysis.figures.tables import check_numbers, check_table, in_order, known_intervals
from analysis.figures.words import counted, display_names, number, printable, quantity, with_interval
from benchmark.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 3
"""Panels side by side."""


@draws
def plot_scaling(
    points: pd.DataFrame,
    fits: pd.DataFrame,
    bands: pd.DataFrame | None = None,
    *,
    value_label: str = "proportion correct",
    note: str = "",
) -> NDArray[Any]:
    """Plot scores against what models are: a row of panels for each predictor, a column for each condition.

    Parameters
    ----------
    points
        One row a model, condition and predictor: ``model``, ``condition``, ``predictor``, ``x`` on the scale of the
        regression, ``value``, ``low``, ``high``; optionally ``family``, which sets the shape of the mark, and
        ``label``, what is written below the panel: where it begins with "log10", ticks show the numbers themselves.
    fits
        One row a condition and predictor: ``condition``, ``predictor``, ``slope``, ``low``, ``high``, and ``refused``:
        why there is no slope, or nothing. Optionally ``unit``: of the slope.
    bands
        The lines with their intervals: ``condition``, ``predictor``, ``x``, ``value``, ``low``, ``high``. Without a
        band no line is drawn.
    value_label
        What the values are.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, panel by panel.

    Raises
    ------
    AnalysisError
        If a table lacks rows or columns, or holds a value outside its interval.
    """
    own = check_table(points, "scaling", ["model", "condition", "predictor", "x"])
    check_numbers(own, "scaling", ["x"])
    slopes = check_table(fits, "scaling", ["condition", "predictor"], [("slope", "low", "high")], may_lack=True)
    lines = None if bands is None or not len(bands) else check_table(bands, "scaling", ["condition", "predictor", "x"])
    conditions = in_order(own["condition"])
    # Panels keep the order in which predictors are given; within a panel order says nothing.
    predictors = list(dict.fromkeys(own["predictor"].astype(str)))
    own = own.sort_values("model", kind="stable", ignore_index=True)
    panels = [(predictor, condition) for predictor in predictors for condition in conditions]
    columns = 1 if len(panels) == 1 else 2 if len(conditions) == 1 else min(len(conditions), MOST_COLUMNS)
    # Of more conditions than stand side by side, each predictor begins a new row.
    each = 1 if len(conditions) == 1 else columns * -(-len(conditions) // columns)
    places = [each * turn + at for turn in range(len(predictors)) for at in range(len(conditions))]
    rows = -(-(places[-1] + 1) // columns)
    styles = series_styles(conditions)
    names, foot = numbers_for_names(own["model"], 20)
    families = sorted(own["family"].astype(str).unique()) if "family" in own.columns else []
    markers = shapes(families)
    key = [shape_key(family, *markers[family]) for family in families] if len(families) > 1 else []
    width = WIDTH if columns > 1 else 4.6
    figure = open_figure(2.9 * rows + 0.1, width=width, note=note, key=key, foot=foot)
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
    axes = grid[places]
    inches = width / columns - 0.55
    for place, axis, (predictor, condition) in zip(places, axes, panels):
        look = styles[condition]
        here = own[(own["predictor"].astype(str) == predictor) & (own["condition"].astype(str) == condition)]
        fit = slopes[
            (slopes["predictor"].astype(str) == predictor) & (slopes["condition"].astype(str) == condition)
        ]  # fmt: skip
        label = _axis_label(here, predictor)
        drawn = None
        if lines is not None:
            drawn = lines[
                (lines["predictor"].astype(str) == predictor) & (lines["condition"].astype(str) == condition)
            ].sort_values("x")
        many = f", {counted(len(here), 'model')}" if len(here) else ""
        said = _say_slope(fit, wrapped(f"{condition} references{many}", inches, TEXT), inches)
        axis.set_title(said, loc="left", color=look.colour, fontsize=TEXT, linespacing=1.25)
        same_condition = own[own["condition"].astype(str) == condition]
        ends = same_condition.loc[known_intervals(same_condition), ["low", "high"]].to_numpy().ravel()
        shown = [ends, same_condition["value"].to_numpy()]
        if lines is not None:
            shown.append(lines.loc[lines["condition"].astype(str) == condition, ["low", "high"]].to_numpy().ravel())
        axis.set_ylim(*limited(np.concatenate(shown), [], 0.06))
        every = own.loc[own["predictor"].astype(str) == predictor, "x"].to_numpy(np.float64)
        axis.set_xlim(*limited(every, [], 0.14))
        if drawn is not None and len(drawn) and not _refused(fit):
            draw_band(axis, drawn["x"], drawn["value"], drawn["low"], drawn["high"], look)
        for family in families or [""]:
            members = here[here["family"].astype(str) == family] if families else here
            mark = SeriesStyle(condition, look.colour, *(markers[family] if families else (look.marker, look.fill)))
            if len(members):
                draw_intervals(axis, members["x"], members, mark, width=4.5)
        _predictor_ticks(axis, label)
        if axis.get_ylim()[0] < 0.5 < axis.get_ylim()[1]:
            mark_level(axis, 0.5, "chance")
        tidy(axis, "y")
        few_ticks(axis, "y", 5)
        if place % columns == 0:
            axis.set_ylabel(printable(value_label))
        if not len(here):
            axis.text(0.5, 0.5, "no points", transform=axis.transAxes, ha="center", color=MUTED, fontsize=SMALL)
    for place in set(range(len(grid))) - set(places):
        hide(grid[place])
    for axis, (predictor, condition) in zip(axes, panels):
        here = own[(own["predictor"].astype(str) == predictor) & (own["condition"].astype(str) == condition)]
        known = here[known_intervals(here)]
        bars = known[["x", "low", "x", "high"]].to_numpy(np.float64)
        label_points(axis, here["x"], here["value"], [names[str(m)] for m in here["model"]], bars=bars)
    return axes


def _refused(fit: pd.DataFrame) -> str:
    """Return why a slope was refused, or nothing."""
    if not len(fit):
        return "no regression was asked for"
    if "refused" in fit.columns and isinstance(fit["refused"].iloc[0], str) and fit["refused"].iloc[0]:
        return str(fit["refused"].iloc[0])
    return "no slope was given" if np.isnan(fit["slope"].iloc[0]) else ""


def _say_slope(fit: pd.DataFrame, head: str, inches: float) -> str:
    """Return the lines above a panel."""
    reason = _refused(fit)
    if reason:
        return f"{head}\n{wrapped(f'No line: {reason}', inches, TEXT)}"
    row = fit.iloc[0]
    unit = str(row["unit"]).removeprefix("proportion correct ") if "unit" in fit.columns else ""
    # The predictor's name stands below the panel.
    unit = unit.removesuffix(f" of {row['predictor']}")
    return f"{head}\n" + wrapped(f"slope {with_interval(row['slope'], row['low'], row['high'])} {unit}", inches, TEXT)


def _axis_label(points: pd.DataFrame, predictor: str) -> str:
    """Return what is written below a panel."""
    if "label" in points.columns and len(points):
        return str(points["label"].iloc[0])
    from analysis.scaling.predictors import PREDICTORS

    return PREDICTORS[predictor].label if predictor in PREDICTORS else predictor


def _predictor_ticks(axis: Axes, label: str) -> None:
    """Write the numbers that readers know: counts for logarithms, per cent for accuracy in tens of points."""
    low, high = axis.get_xlim()
    if label.startswith("log10 "):
        places = log_ticks(10**low, 10**high, 5)
        axis.set_xticks(np.log10(places), [quantity(place) for place in places])
        axis.set_xlabel(f"{printable(label.removeprefix('log10 '))} (log scale)")
    elif label == "top-1 in 10 points":
        few_ticks(axis, "x", 5)
        axis.xaxis.set_major_formatter(lambda place, _: f"{10 * place:.3g} %")
        axis.set_xlabel("ImageNet top-1 accuracy")
    else:
        few_ticks(axis, "x", 5)
        axis.set_xlabel(printable(label))
    axis.set_xlim(low, high)


@draws
def plot_leverage(
    table: pd.DataFrame,
    *,
    leverage_threshold: float | None = None,
    cooks_threshold: float | None = None,
    slope: tuple[float, float, float] | None = None,
    condition: str = "",
    note: str = "",
) -> NDArray[Any]:
    """Plot the influence of each model on a regression: leverage, Cook's distance, residual, slope without the model.

    Parameters
    ----------
    table
        One row a model: ``model``, ``leverage``, ``cooks_distance`` (infinite where the leverage is 1); optionally
        ``residual``, and ``slope_without``, ``slope_without_low``, ``slope_without_high``: the slope if the model is
        left out, missing where there is none then.
    leverage_threshold, cooks_threshold
        Beyond these a mark is in red, with its number.
    slope
        Slope of all models with the ends of its interval, drawn as a band.
    condition
        Condition, for the colour.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes: leverage, Cook's distance and, where given, residual and slope without the model.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column or a number, or holds a slope outside its interval.
    """
    sweep = ("slope_without", "slope_without_low", "slope_without_high")
    with_slopes = all(name in table.columns for name in sweep)
    own = check_table(
        table, "leverage", ["model", "leverage", "cooks_distance"], [sweep] if with_slopes else [],
        may_lack=True,
    )  # fmt: skip
    check_numbers(own, "leverage", ["leverage", *(["residual"] if "residual" in own.columns else [])])
    if own["cooks_distance"].isna().any():
        raise AnalysisError(
            "The figure 'leverage' can't show a missing Cook's distance. For leverage 1, give infinity."
        )
    own["model"] = own["model"].astype(str)
    own = own.sort_values(["leverage", "model"], ascending=[False, True], ignore_index=True)
    look = series_styles([condition])[condition] if condition else SeriesStyle("", MUTED, "o")
    names = display_names(own["model"], 24)
    rows = np.arange(len(own))
    figure = open_figure(0.85 + 0.2 * max(3, len(own)), note=note)
    panels: list[tuple[str, str, float | None]] = [
        ("leverage", "leverage", leverage_threshold),
        ("cooks_distance", "Cook's distance", cooks_threshold),
    ]
    if "residual" in own.columns:
        panels.append(("residual", "residual", None))
    ratios = [1.0] * len(panels) + ([1.35] if with_slopes else [])
    axes = figure.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for axis, (column, label, threshold) in zip(axes, panels):
        value = own[column].to_numpy(np.float64)
        finite = value[np.isfinite(value)]
        limits = list(limited(np.append(finite, 0.0), [threshold] if threshold is not None else [], 0.12))
        if column != "residual":
            limits[0] = 0.0
        else:
            limits = [-max(map(abs, limits)), max(map(abs, limits))]
        # Room for the number beside a mark.
        limits[1] += 0.22 * (limits[1] - limits[0]) if threshold is not None else 0
        axis.set_xlim(limits[0], limits[1])
        stripe_rows(axis, len(own))
        shown = np.where(np.isfinite(value), value, limits[1] * 0.86)
        axis.hlines(rows, 0, shown, color=look.tint, linewidth=2.2, zorder=2)
        beyond = value > threshold if threshold is not None else np.zeros(len(value), bool)
        for mask, colour in ((~beyond, look.colour), (beyond, WARNING)):
            axis.plot(shown[mask], rows[mask], linestyle="none", marker="o", markersize=4.5, color=colour, zorder=4)
        for row in np.flatnonzero(beyond):
            axis.annotate(
                number(value[row], 2), (shown[row], row), xytext=(4, 0), textcoords="offset points", va="center",
                fontsize=SMALLEST, color=WARNING,
            )  # fmt: skip
        if threshold is not None:
            mark_level(axis, threshold, number(threshold, 2), across=True)
        if column == "residual":
            axis.axvline(0, color=FAINT, linewidth=0.8)
        axis.set_xlabel(label)
        few_ticks(axis, "x", 3)
        tidy(axis, "x")
    if with_slopes:
        axis = axes[-1]
        ends = own.loc[known_intervals(own, *sweep[1:]), list(sweep[1:])].to_numpy(np.float64).ravel()
        axis.set_xlim(*limited(np.concatenate([ends, own[sweep[0]].dropna()]), [0.0, *(slope or ())], 0.06))
        stripe_rows(axis, len(own))
        if slope is not None:
            axis.axvspan(slope[1], slope[2], color=lighter(INK, 0.86), linewidth=0, zorder=0.5)
            axis.axvline(slope[0], color=MUTED, linewidth=1.0, zorder=1)
            axis.text(slope[0], 1.0, "all models", transform=axis.get_xaxis_transform(), fontsize=SMALLEST,
                      color=MUTED, ha="center", va="bottom")  # fmt: skip
        there = own[own[sweep[0]].notna()]
        draw_intervals(axis, there.index, there, look, across=True, columns=sweep)
        for row in own.index[own[sweep[0]].isna()]:
            axis.text(0.5, row, "no slope without it", transform=axis.get_yaxis_transform(), fontsize=SMALLEST,
                      color=WARNING, ha="center", va="center")  # fmt: skip
        axis.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axis.set_xlabel("slope without the model")
        few_ticks(axis, "x", 4)
        tidy(axis, "x")
    name_rows(axes[0], [names[model] for model in own["model"]])
    return axes  # type: ignore[no-any-return]


@draws
def plot_margins(table: pd.DataFrame, *, value_label: str = "slope", note: str = "") -> Axes:
    """Plot slopes against the declared smallest effects of interest.

    Parameters
    ----------
    table
        One row a slope: ``predictor``, ``value``, ``low_90``, ``high_90``, ``low_95``, ``high_95``; optionally
        ``condition``, ``margin`` (declared; missing where none was), ``smallest_margin`` (the smallest that would
        pass), ``unit`` and ``verdict``, a few words.
    value_label
        What the values are.
    note
        What must be said wherever these numbers appear.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside one of its intervals.
    """
    wide, narrow = ("value", "low_95", "high_95"), ("value", "low_90", "high_90")
    own = check_table(table, "margins", ["predictor"], [wide, narrow])
    own["condition"] = own["condition"].astype(str) if "condition" in own.columns else ""
    for column in ("margin", "smallest_margin"):
        own[column] = own[column].astype(np.float64).abs() if column in own.columns else np.nan
    styles = {**series_styles(c for c in own["condition"] if c), "": SeriesStyle("", "#35549b", "o")}
    numbers = own[["low_95", "high_95", "margin", "smallest_margin"]].to_numpy(np.float64).ravel()
    reach = float(np.abs(np.concatenate([numbers[np.isfinite(numbers)], own["value"]])).max()) or 1.0
    figure = open_figure(0.95 + (0.36 if len(own) <= 16 else 0.28) * max(2, len(own)), note=note, key=_margin_key(own))
    axis: Axes = figure.subplots()
    axis.set_xlim(-1.08 * reach, 1.08 * reach)
    stripe_rows(axis, len(own))
    names = []
    for row, line in own.iterrows():
        look = styles[line["condition"]]
        place = float(row)
        one = own.loc[[row]]
        if np.isfinite(line["margin"]):
            axis.fill_betweenx([place - 0.42, place + 0.42], -line["margin"], line["margin"], color="#d9e4d2",
                               linewidth=0, zorder=1)  # fmt: skip
        if np.isfinite(line["smallest_margin"]):
            for side in (-1, 1):
                at = side * line["smallest_margin"]
                inward = at - side * 0.014 * reach
                axis.plot([inward, at, at, inward], place + np.array([-0.26, -0.26, 0.26, 0.26]), color=INK,
                          linewidth=1.0, zorder=3)  # fmt: skip
        draw_intervals(axis, [place], one, look, across=True, columns=wide, width=2.2, point=0)
        draw_intervals(axis, [place], one, look, across=True, columns=narrow, width=6.5)
        name = ", ".join(str(line[c]) for c in ("predictor", "condition") if line[c])
        if "unit" in own.columns and isinstance(line["unit"], str) and line["unit"]:
            name += f"\n{line['unit'].removeprefix('proportion correct ')}"
        names.append(printable(name))
        if "verdict" in own.columns and isinstance(line["verdict"], str):
            axis.text(1.015, place, wrapped(line["verdict"], 1.5, SMALLEST), transform=axis.get_yaxis_transform(),
                      fontsize=SMALLEST, color=INK, va="center")  # fmt: skip
    axis.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.2)
    name_rows(axis, names, size=SMALL)
    axis.set_xlabel(f"{printable(value_label)}, with its 90 % (broad) and 95 % (narrow) interval")
    few_ticks(axis, "x", 7)
    tidy(axis, "x")
    return axis


def _margin_key(table: pd.DataFrame) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    key: list[tuple[Any, str]] = []
    if np.isfinite(table["margin"]).any():
        key.append((Patch(facecolor="#d9e4d2"), "declared too small to matter"))
    if np.isfinite(table["smallest_margin"]).any():
        bracket = Line2D([], [], color=INK, linewidth=0, marker="$[\\,]$", markersize=9)
        key.append((bracket, "smallest margin that would pass"))
    return key


@draws
def plot_prior_sweep(
    table: pd.DataFrame,
    *,
    declared: float | None = None,
    value_label: str = "Bayes factor for no slope over a slope (BF01)",
    note: str = "",
) -> Axes:
    """Plot Bayes factors over the width of the prior, so that none can be picked.

    Parameters
    ----------
    table
        ``prior_width`` and ``value``, both positive; optionally ``series``, and ``low`` and ``high`` where the number
        itself is uncertain (drawn from a posterior).
    declared
        The declared width of the prior.
    value_label
        What the values are.
    note
        What must be said wherever these numbers appear.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a number that is not positive.
    """
    intervals = [("value", "low", "high")] if {"low", "high"} <= set(table.columns) else []
    own = check_table(table, "prior sweep", ["prior_width", "value"], intervals)
    check_numbers(own, "prior sweep", ["prior_width", "value"])
    numbers = own[["prior_width", "value", *(["low", "high"] if intervals else [])]].to_numpy(np.float64)
    if not (numbers > 0).all():
        raise AnalysisError("The figure 'prior sweep' needs positive widths and positive Bayes factors.")
    own["series"] = own["series"].astype(str) if "series" in own.columns else ""
    series = list(dict.fromkeys(own["series"]))
    styles = series_styles(series, ())
    from matplotlib.patches import Patch

    figure = open_figure(3.2, width=5.6, note=note, key=[(Patch(facecolor=GRID), "between 1/3 and 3: says little")])
    axis: Axes = figure.subplots()
    logs = np.log10(numbers[:, 1:])
    low, high = limited(logs, [-1.0, 1.0], 0.06)
    left, right = limited(np.log10(numbers[:, 0]), [], 0.04)
    axis.set(xlim=(left, right), ylim=(low, high))
    axis.axhspan(np.log10(1 / 3), np.log10(3), color=GRID, linewidth=0, zorder=0)
    mark_level(axis, 0.0)
    ends = []
    for name in series:
        rows = own[own["series"] == name].sort_values("prior_width")
        x, y = np.log10(rows["prior_width"]), np.log10(rows["value"])
        if intervals:
            draw_band(axis, x, y, np.log10(rows["low"]), np.log10(rows["high"]), styles[name])
        else:
            axis.plot(x, y, color=styles[name].colour, linewidth=1.5, linestyle=styles[name].dashes, zorder=3)
        axis.plot(x, y, linestyle="none", zorder=4, **styles[name].mark(4))
        ends.append(float(y.iloc[-1]))
    name_lines(axis, right, ends, series, [styles[name].colour for name in series])
    if declared is not None:
        mark_level(axis, float(np.log10(declared)), f"declared, {number(declared)}", across=True)
    widths = sorted(set(numbers[:, 0]))
    ticks = widths if len(widths) <= 7 else log_ticks(10**left, 10**right, 6)
    axis.set_xticks(np.log10(ticks), [number(tick, 2) for tick in ticks])
    ratios = (1e-6, 1e-4, 1e-3, 1e-2, 1 / 10, 1 / 3, 1, 3, 10, 100, 1e3, 1e4, 1e6)
    places = [p for p in ratios if low <= np.log10(p) <= high]
    if high - low > 8:
        places = [10.0**power for power in range(int(np.ceil(low)), int(high) + 1, max(1, int((high - low) / 6)))]
    axis.set_yticks(np.log10(places), [_ratio(place) for place in places])
    axis.set_xlabel("width of the prior (log scale)")
    axis.set_ylabel(printable(value_label), fontsize=SMALL)
    tidy(axis, "y")
    return axis


def _ratio(value: float) -> str:
    """Write a Bayes factor as a whole number or one over it."""
    larger = max(value, 1 / value)
    text = f"{round(larger):,}" if larger < 1e5 else f"1e{round(np.log10(larger))}"
    return text if value >= 1 else f"1/{text}"


__all__ = ["plot_leverage", "plot_margins", "plot_prior_sweep", "plot_scaling"]
