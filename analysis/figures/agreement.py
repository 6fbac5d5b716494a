"""How well people agree with themselves, and machines with people; whether stated probabilities hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.labels import name_lines
from analysis.figures.style import (
    INK,
    MUTED,
    SMALL,
    SMALLEST,
    WIDTH,
    SeriesStyle,
    dodge,
    draw_band,
    draw_intervals,
    draws,
    few_ticks,
    key_of,
    lighter,
    limited,
    log_ticks,
    mark_level,
    name_rows,
    open_figure,
    series_styles,
    stripe_rows,
    tidy,
    title,
)
from analysis.figures.tables import check_numbers, check_table, in_order, known_intervals
from analysis.figures.words import counted, display_names, number, printable, with_interval
from benchmark.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DOTS = 300
"""With more units than this, dots would hide each other: squares say how many lie where."""


@draws
def plot_reliability_curve(table: pd.DataFrame, *, wanted: float | None = None, note: str = "") -> NDArray[Any]:
    """Plot how reliable unit scores are against answers for each unit, and the ceiling that follows.

    Parameters
    ----------
    table
        One row a number of answers: ``answers``, ``value``, ``low``, ``high``; optionally ``series`` (condition, or
        model and condition), ``observed``: true at the number of answers that the study has, and ``ceiling``,
        ``ceiling_low``, ``ceiling_high``: the highest correlation that a score can show with these means.
    wanted
        A reliability to reach.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes: reliability and, where given, ceiling.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    above = ("ceiling", "ceiling_low", "ceiling_high")
    with_ceiling = all(name in table.columns for name in above)
    intervals = [("value", "low", "high"), *([above] if with_ceiling else [])]
    own = check_table(table, "reliability", ["answers"], intervals)
    check_numbers(own, "reliability", ["answers"])
    own["answers"] = own["answers"].astype(np.float64)
    if (own["answers"] <= 0).any():
        raise AnalysisError("The figure 'reliability' needs positive numbers of answers.")
    own["series"] = own["series"].astype(str) if "series" in own.columns else ""
    own["observed"] = own["observed"].astype(bool) if "observed" in own.columns else False
    series = in_order(own["series"])
    styles = series_styles(series)
    panels = len(intervals)
    figure = open_figure(3.2, width=WIDTH if panels == 2 else 5.2, note=note)
    axes = figure.subplots(1, panels, squeeze=False, sharex=True)[0]
    x = np.log10(own["answers"])
    left, right = limited(x, [], 0.04)
    ticks = log_ticks(10**left, 10**right, 6)
    for axis, columns, label in zip(
        axes, intervals, ("reliability of a unit's score", "ceiling: highest possible correlation")
    ):
        known = own[list(columns)].to_numpy(np.float64)
        axis.set_ylim(*limited(known, [0.0, 1.0], 0.02))
        axis.set_xlim(left, right)
        ends = []
        for name in series:
            rows = own[own["series"] == name].sort_values("answers")
            where = np.log10(rows["answers"])
            low, high = (np.clip(rows[column], *axis.get_ylim()) for column in columns[1:])
            draw_band(axis, where, rows[columns[0]], low, high, styles[name])
            seen = rows[rows["observed"]]
            if len(seen):
                draw_intervals(axis, np.log10(seen["answers"]), seen, styles[name], columns=columns)
            ends.append(float(rows[columns[0]].iloc[-1]))
        axis.set_xticks(np.log10(ticks), [f"{tick:,.0f}" if tick >= 1 else f"{tick:g}" for tick in ticks])
        axis.set_xlabel("answers for each unit (log scale)")
        title(axis, label)
        tidy(axis)
        if wanted is not None and axis is axes[0]:
            mark_level(axis, wanted, f"wanted, {number(wanted, 2)}")
        if axis is axes[-1]:
            name_lines(axis, right, ends, series, [styles[name].colour for name in series])
    return axes  # type: ignore[no-any-return]


@draws
def plot_human_machine(
    table: pd.DataFrame,
    agreement: pd.DataFrame | None = None,
    *,
    machine_label: str = "machine's score of the unit",
    note: str = "",
) -> NDArray[Any]:
    """Plot people's score of every unit against a machine's, and how their correlation compares with its ceiling.

    Parameters
    ----------
    table
        One row a unit: ``human``, ``machine``; optionally ``observer`` and ``condition``, a panel for each pair.
    agreement
        One row a panel: ``value``, ``low``, ``high`` (correlation), ``ceiling``, and where known ``ceiling_low``,
        ``ceiling_high``: the highest correlation that people's own noise allows; ``observer`` and ``condition`` as in
        the table; optionally ``corrected``, ``corrected_low``, ``corrected_high``: the correlation over its ceiling.
    machine_label
        What the machine's numbers are.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes: units, a panel for each observer and condition; last, where given, the correlations.

    Raises
    ------
    AnalysisError
        If a table lacks rows or columns, or holds a value outside its interval.
    """
    own = check_table(table, "people and machines", ["human", "machine"], [])
    check_numbers(own, "people and machines", ["human", "machine"])
    summary = None
    if agreement is not None and len(agreement):
        summary = check_table(agreement, "people and machines", ["ceiling"])
    for frame in (own, summary):
        if frame is not None:
            for column in ("observer", "condition"):
                frame[column] = frame[column].astype(str) if column in frame.columns else ""
    conditions = in_order([*own["condition"], *(summary["condition"] if summary is not None else [])])
    styles = {**series_styles(c for c in conditions if c), "": SeriesStyle("", "#35549b", "o")}
    observers = sorted(set(own["observer"]))
    pairs = own.groupby(["observer", "condition"], observed=True).groups
    panels = [(o, c) for o in observers for c in conditions if (o, c) in pairs]
    columns = 1 if len(panels) == 1 else 2 if len(panels) in (2, 4) else 3
    rows = -(-len(panels) // columns)
    width = WIDTH if columns > 1 else 4.4
    tall = rows * (3.0 if columns < 3 else 2.4)
    per_row = 0.16 + 0.14 * len(conditions)
    below = 0.0 if summary is None else 0.95 + per_row * max(2, len(set(summary["observer"])))
    figure = open_figure(tall + below, width=width, note=note)
    parts: Any = (
        figure.subfigures(2, 1, height_ratios=[tall, below]) if summary is not None else [figure.subfigures(1, 1)]
    )
    axes = np.ravel(parts[0].subplots(rows, columns, sharey=True, sharex="all", squeeze=False))
    axes[0].set_xlim(*limited(own["machine"], [], 0.04))
    axes[0].set_ylim(*limited(own["human"], [], 0.05))
    names = display_names(observers, int((width / columns - 0.4) * 14))
    for turn, axis in enumerate(axes):
        if turn >= len(panels):
            axis.set_axis_off()
            axes[turn - columns].tick_params(labelbottom=True)
            continue
        observer, condition = panels[turn]
        look = styles[condition]
        rows_here = own[(own["observer"] == observer) & (own["condition"] == condition)]
        _draw_units(axis, rows_here, look)
        which = f"{printable(condition)}, " if condition else ""
        said = (f"{names[observer]}\n" if observer else "") + f"{which}{counted(len(rows_here), 'unit')}"
        if summary is not None:
            own_row = summary[(summary["observer"] == observer) & (summary["condition"] == condition)]
            if len(own_row):
                row = own_row.iloc[0]
                said += f"\nr {with_interval(row['value'], row['low'], row['high'], 2)}, "
                said += f"ceiling {number(row['ceiling'], 2)}"
        axis.set_title(said, loc="left", color=look.colour, fontsize=SMALL + 0.5, linespacing=1.25)
        tidy(axis, "both")
        few_ticks(axis, "x", 5)
        if turn % columns == 0:
            axis.set_ylabel("people's proportion correct", fontsize=SMALL + 0.5)
        if turn + columns >= len(panels):
            axis.set_xlabel(printable(machine_label), fontsize=SMALL + 0.5)
    axes = axes[: len(panels)]
    if summary is not None:
        last = _correlations_panel(parts[1].subplots(), summary, conditions, styles)
        axes = np.array([*axes, last], dtype=object)
    return axes


def _draw_units(axis: Axes, rows: pd.DataFrame, look: SeriesStyle) -> None:
    """Draw units as dots, or as squares whose darkness says how many there are."""
    if len(rows) <= MOST_DOTS:
        axis.plot(rows["machine"], rows["human"], linestyle="none", marker="o", markersize=3.6, color=look.colour,
                  alpha=0.45, markeredgewidth=0, zorder=3)  # fmt: skip
        return
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    left, right = axis.get_xlim()
    low, high = axis.get_ylim()
    counts, x_edges, y_edges = np.histogram2d(
        rows["machine"], rows["human"], bins=(34, 26), range=((left, right), (low, high))
    )
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    # All squares of a shade are one shape: sharp in print, and small in a page.
    for count in sorted(set(counts[counts > 0])):
        corners = [
            corner
            for x, y in zip(*np.nonzero(counts == count))
            for corner in (
                (x_edges[x], y_edges[y]), (x_edges[x], y_edges[y + 1]), (x_edges[x + 1], y_edges[y + 1]),
                (x_edges[x + 1], y_edges[y]), (x_edges[x], y_edges[y]),
            )
        ]  # fmt: skip
        shade = lighter(look.colour, 0.85 * (1 - count / counts.max()))
        axis.add_patch(PathPatch(Path(corners, codes * (len(corners) // 5)), facecolor=shade, linewidth=0, zorder=2))
    axis.text(0.99, 0.02, f"darkest: {counted(int(counts.max()), 'unit')}", transform=axis.transAxes,
              fontsize=SMALLEST, color=MUTED, ha="right")  # fmt: skip


def _correlations_panel(
    axis: Axes, summary: pd.DataFrame, conditions: list[str], styles: dict[str, SeriesStyle]
) -> Axes:
    """Draw correlations against their ceilings."""
    observers = sorted(set(summary["observer"]))
    offsets = dict(zip(conditions, dodge(len(conditions))))
    with_ends = {"ceiling_low", "ceiling_high"} <= set(summary.columns)
    corrected = ("corrected", "corrected_low", "corrected_high")
    with_corrected = all(name in summary.columns for name in corrected)
    numbers = [summary["value"].to_numpy(), summary["ceiling"].to_numpy(np.float64)]
    numbers.append(summary.loc[known_intervals(summary), ["low", "high"]].to_numpy().ravel())
    if with_ends:
        numbers.append(summary[["ceiling_low", "ceiling_high"]].to_numpy(np.float64).ravel())
    axis.set_xlim(*limited(np.concatenate(numbers), [0.0, 1.0], 0.03))
    stripe_rows(axis, len(observers))
    for condition in conditions:
        rows = summary[summary["condition"] == condition].reset_index(drop=True)
        places = np.array([observers.index(name) for name in rows["observer"]]) + offsets[condition]
        half = 0.34 / len(conditions)
        for place, (_, row) in zip(places, rows.iterrows()):
            if with_ends:
                axis.fill_betweenx([place - half, place + half], row["ceiling_low"], row["ceiling_high"],
                                   color="#d6dae0", linewidth=0, zorder=1)  # fmt: skip
            axis.plot([row["ceiling"]] * 2, [place - half, place + half], color=INK, linewidth=1.4, zorder=3)
            if with_corrected:
                value, low, high = (float(row[name]) for name in corrected)
                text = with_interval(value, low, high, 2)
                axis.text(1.012, place, text, transform=axis.get_yaxis_transform(), fontsize=SMALLEST,
                          color=styles[condition].colour, va="center")  # fmt: skip
        draw_intervals(axis, places, rows, styles[condition], across=True)
    names = display_names(observers, 28)
    name_rows(axis, [names[name] for name in observers])
    if with_corrected:
        axis.text(1.012, 1.0, "of the ceiling", transform=axis.transAxes, fontsize=SMALLEST, color=MUTED, va="bottom")
    axis.text(0.0, 1.01, "bar: interval of the correlation; black line: its ceiling", transform=axis.transAxes,
              fontsize=SMALLEST, color=MUTED, va="bottom")  # fmt: skip
    axis.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.2)
    axis.set_xlabel("correlation over units")
    tidy(axis, "x")
    return axis


@draws
def plot_calibration(
    table: pd.DataFrame, *, predicted_label: str = "stated probability of being right", note: str = ""
) -> NDArray[Any]:
    """Plot how often answers were right against how probable that was said to be.

    Parameters
    ----------
    table
        One row a group of answers: ``predicted``, ``value``, ``low``, ``high``; optionally ``series``, and ``n``: how
        many answers, drawn below.
    predicted_label
        What was said.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes: calibration and, where given, numbers of answers.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    own = check_table(table, "calibration", ["predicted"])
    check_numbers(own, "calibration", ["predicted"])
    own["predicted"] = own["predicted"].astype(np.float64)
    own["series"] = own["series"].astype(str) if "series" in own.columns else ""
    series = in_order(own["series"])
    styles = series_styles(series)
    if series == [""]:
        styles = {"": SeriesStyle("", "#35549b", "o")}
    with_n = "n" in own.columns
    figure = open_figure(
        4.6 if with_n else 3.9, width=4.4, note=note, key=key_of(styles.values()) if series != [""] else []
    )
    ratios = [4, 1] if with_n else [1]
    axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    axis = axes[0]
    ends = own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()
    low, high = limited(np.concatenate([ends, own["value"], own["predicted"]]), [0.5, 1.0], 0.03)
    axis.set(xlim=(low, high), ylim=(low, high))
    axis.plot([low, high], [low, high], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    axis.annotate("as stated", (high, high), xytext=(-10, -6), textcoords="offset points", fontsize=SMALLEST,
                  color=MUTED, ha="right", va="center")  # fmt: skip
    # Series beside each other, not on each other.
    for name, aside in zip(series, dodge(len(series), 0.018 * (len(series) - 1) * (high - low))):
        rows = own[own["series"] == name].sort_values("predicted")
        rows["predicted"] += aside
        look = styles[name]
        axis.plot(rows["predicted"], rows["value"], color=look.tint, linewidth=0.8, zorder=1.8)
        draw_intervals(axis, rows["predicted"], rows, look)
        if with_n:
            axes[1].plot(rows["predicted"], rows["n"], color=look.colour, linewidth=1.0, linestyle=look.dashes,
                         **look.mark(3))  # fmt: skip
    axis.set_ylabel("proportion correct, with its interval")
    tidy(axis, "both")
    if with_n:
        axes[1].set_ylim(0, float(own["n"].max()) * 1.12)
        axes[1].set_ylabel("answers")
        few_ticks(axes[1], "y", 2)
        axes[1].yaxis.set_major_formatter(lambda place, _: f"{place:,.0f}")
        tidy(axes[1])
    axes[-1].set_xlabel(printable(predicted_label))
    return axes


__all__ = ["plot_calibration", "plot_human_machine", "plot_reliability_curve"]
