"""Robustness of a result: analyst's choices, method of the interval, answers without references, variances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.style import (
    FAINT,
    INK,
    MUTED,
    SMALL,
    SMALLEST,
    WARNING,
    WIDTH,
    SeriesStyle,
    dodge,
    draw_intervals,
    draws,
    few_ticks,
    key_of,
    lighter,
    limited,
    mark_level,
    name_rows,
    open_figure,
    series_styles,
    shapes,
    stripe_rows,
    tidy,
    title,
)
from analysis.figures.tables import check_table, in_order, known_intervals
from analysis.figures.words import counted, display_names, printable, shorten, with_interval
from benchmark.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANCE = 0.5
APART = "#35549b"
"""Colour of specifications whose interval does not hold the value of no effect."""


@draws
def plot_specification_curve(
    table: pd.DataFrame,
    settings: Sequence[str],
    *,
    protocol: str = "protocol",
    no_effect: float | None = 0.0,
    value_label: str = "slope",
    note: str = "",
) -> NDArray[Any]:
    """Plot the result of every specification, from the lowest to the highest, above what each specification was.

    Parameters
    ----------
    table
        One row a specification: ``value``, ``low``, ``high``, a column for each setting, and whether it is the one
        that the protocol declares.
    settings
        Names of the columns of settings, from top to bottom.
    protocol
        Name of the column, true for the declared specification; it may be missing.
    no_effect
        A level to compare with; None draws none.
    value_label
        What the values are.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes: the curve, the settings.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval; if there are no settings.
    """
    if not settings:
        raise AnalysisError("The figure 'specification curve' needs at least one column of settings.")
    own = check_table(table, "specification curve", list(settings))
    texts = {name: own[name].astype(str) for name in settings}
    own["_order"] = ["\0".join(parts) for parts in zip(*texts.values())]
    declared = own[protocol].astype(bool) if protocol in own.columns else pd.Series(False, index=own.index)
    own["_declared"] = declared
    own = own.sort_values(["value", "_order"], ignore_index=True, kind="stable")
    levels = {name: _levels(own[name]) for name in settings}
    rows = sum(len(values) for values in levels.values()) + 0.5 * (len(settings) - 1)
    below = 0.35 + 0.155 * rows
    figure = open_figure(2.5 + below, note=note)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.5, below])
    count = len(own)
    places = np.arange(count, dtype=np.float64)
    pitch = (WIDTH - 1.9) * 72 / max(count, 1)
    breadth = float(np.clip(0.72 * pitch, 0.5, 6.0))
    point = float(np.clip(pitch * 1.1, 1.4, 4.5))
    apart = np.zeros(count, bool)
    if no_effect is not None:
        apart = ((own["low"] > no_effect) | (own["high"] < no_effect)).to_numpy() & known_intervals(own)
    margin = max(0.7, 0.015 * count)
    upper.set_xlim(-margin, count - 1 + margin)
    ends = own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()
    upper.set_ylim(*limited(np.concatenate([ends, own["value"]]), [] if no_effect is None else [no_effect], 0.08))
    for mask, colour in ((~apart, "#7d8894"), (apart, APART)):
        if mask.any():
            draw_intervals(upper, places[mask], own[mask], SeriesStyle("", colour, "o"), width=breadth, point=0)
            upper.plot(places[mask], own["value"][mask], linestyle="none", marker="o", markersize=point, color=colour,
                       markeredgewidth=0, zorder=4)  # fmt: skip
    if no_effect is not None:
        mark_level(upper, no_effect, "no effect" if no_effect == 0 else "")
        share = f"{int(apart.sum()):,} of {counted(count, 'specification')} lie wholly on one side"
        upper.text(1.0, 1.01, share, transform=upper.transAxes, fontsize=SMALLEST, ha="right", va="bottom",
                   color=APART)  # fmt: skip
    for place in np.flatnonzero(own["_declared"]):
        row = own.loc[place]
        for axis in (upper, lower):
            axis.axvline(place, color=lighter(WARNING, 0.75), linewidth=max(breadth, 1.6), zorder=0.6)
        upper.plot([place, place], [row["low"], row["high"]], color=lighter(WARNING, 0.4),
                   linewidth=max(breadth, 3.0), zorder=5)  # fmt: skip
        upper.plot(place, row["value"], marker="o", markersize=max(point, 5), color=WARNING, markeredgecolor="white",
                   markeredgewidth=0.6, zorder=6)  # fmt: skip
        upper.text(
            0.0, 1.01, f"as declared: {with_interval(row['value'], row['low'], row['high'])}, "
            f"place {place + 1} of {count:,}", transform=upper.transAxes, fontsize=SMALLEST, color=WARNING, va="bottom",
        )  # fmt: skip
    upper.set_ylabel(printable(value_label))
    upper.spines["bottom"].set_visible(False)
    upper.tick_params(axis="x", length=0, labelbottom=False)
    tidy(upper)
    upper.spines["bottom"].set_visible(False)
    _draw_settings(lower, own, settings, levels, apart)
    return np.array([upper, lower], dtype=object)


def _levels(column: pd.Series) -> list[str]:
    """Return the distinct values of a setting: numbers by size, all else by the alphabet."""
    distinct = list(column.drop_duplicates())
    try:
        distinct.sort()
    except TypeError:
        distinct.sort(key=str)
    return list(dict.fromkeys(str(value) for value in distinct))


def _draw_settings(
    axis: Axes, own: pd.DataFrame, settings: Sequence[str], levels: dict[str, list[str]], apart: NDArray[np.bool_]
) -> None:
    """Draw which specification has which settings: neighbours that share one run together."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    axis.set_ylim(0, 1)
    place = 0.0
    ticks, labels = [], []
    for name in settings:
        texts = own[name].astype(str).to_numpy()
        for turn, level in enumerate(levels[name]):
            axis.axhspan(place - 0.40, place + 0.40, color="#f3f5f7", linewidth=0, zorder=0.5)
            for mask, colour in ((~apart, "#7d8894"), (apart, APART)):
                vertices = [
                    corner
                    for first, last in _runs((texts == level) & mask)
                    for corner in (
                        (first - 0.5, place - 0.34), (first - 0.5, place + 0.34), (last + 0.5, place + 0.34),
                        (last + 0.5, place - 0.34), (first - 0.5, place - 0.34),
                    )
                ]  # fmt: skip
                if vertices:
                    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(vertices) // 5)
                    axis.add_patch(PathPatch(Path(vertices, codes), facecolor=colour, linewidth=0, zorder=2))
            ticks.append(place)
            labels.append(printable(shorten(level, 22)))
            if turn == 0:
                axis.text(1.012, place - 0.42, printable(shorten(str(name).replace("_", " "), 24)),
                          transform=axis.get_yaxis_transform(), fontsize=SMALL, color=INK, va="top")  # fmt: skip
            place += 1.0
        place += 0.5
    axis.set_ylim(place - 1.0, -0.5)
    axis.set_yticks(ticks, labels, fontsize=SMALLEST)
    axis.set_xlabel(f"{counted(len(own), 'specification')}, from the lowest result to the highest")
    axis.set_xticks([])
    axis.spines[["left", "bottom", "top", "right"]].set_visible(False)
    axis.tick_params(length=0)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and last position of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(first), int(after) - 1) for first, after in edges.reshape(-1, 2)]


@draws
def plot_intervals_compared(
    table: pd.DataFrame, *, value_label: str = "proportion correct", chance: float | None = None, note: str = ""
) -> NDArray[Any]:
    """Plot the same means under several methods of making an interval.

    Parameters
    ----------
    table
        One row a mean and method: ``interval``, the method's short name, ``value``, ``low``, ``high``; optionally
        ``model`` and ``condition``, and ``default``, true for the method that is used elsewhere.
    value_label
        What the values are.
    chance
        Level of guessing; None draws none.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, one a condition.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    own = check_table(table, "intervals compared", ["interval"])
    for column in ("model", "condition"):
        own[column] = own[column].astype(str) if column in own.columns else ""
    own["interval"] = own["interval"].astype(str)
    own["default"] = own["default"].astype(bool) if "default" in own.columns else False
    methods = list(dict.fromkeys(own["interval"]))
    conditions, models = in_order(own["condition"]), sorted(set(own["model"]))
    styles = {**series_styles(c for c in conditions if c), "": SeriesStyle("", APART, "o")}
    single = len(models) == 1
    columns = min(2, len(conditions))
    lines = -(-len(conditions) // columns)
    each = 0.16 if len(models) <= 12 else 0.11
    tall = 0.75 + (0.24 * len(methods) if single else (0.1 + each * len(methods)) * len(models))
    key = [] if single else _method_key(methods, own)
    figure = open_figure(lines * tall, note=note, key=key, width=WIDTH)
    axes = np.ravel(figure.subplots(lines, columns, sharey=True, squeeze=False))
    names = display_names(methods if single else models, 28)
    offsets = dodge(len(methods), 0.66)
    marks = shapes(methods)
    # One scale for all panels: widths are what is compared.
    ends = own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()
    reach = limited(np.concatenate([ends, own["value"]]), [] if chance is None else [chance], 0.05)
    for axis, condition in zip(axes, conditions):
        rows = own[own["condition"] == condition]
        axis.set_xlim(*reach)
        stripe_rows(axis, len(methods) if single else len(models))
        for turn, method in enumerate(methods):
            members = rows[rows["interval"] == method]
            if not len(members):
                continue
            look = SeriesStyle(method, styles[condition].colour if members["default"].all() else "#7d8894",
                        *(("o",) if single else marks[method]))  # fmt: skip
            places = (
                np.full(len(members), float(turn))
                if single
                else np.array([models.index(model) for model in members["model"]]) + offsets[turn]
            )
            draw_intervals(axis, places, members, look, across=True, width=5 if single or each > 0.12 else 3.5,
                           point=4.5 if each > 0.12 else 3.5)  # fmt: skip
        if chance is not None:
            mark_level(axis, chance, "chance", across=True, inside=bool(condition))
        axis.set_xlabel(f"{printable(value_label)}, with its interval")
        few_ticks(axis, "x", 5)
        tidy(axis, "x")
        if condition:
            title(axis, f"{condition} references" + (f", {models[0]}" if single and models[0] else ""),
                  colour=styles[condition].colour)  # fmt: skip
    name_rows(axes[0], [names[name] for name in (methods if single else models)])
    for axis in axes[len(conditions) :]:
        axis.set_axis_off()
    return axes[: len(conditions)]


def _method_key(methods: list[str], own: pd.DataFrame) -> list[tuple[Any, str]]:
    marks = shapes(methods)
    used = {method: bool(own.loc[own["interval"] == method, "default"].all()) for method in methods}
    return key_of(SeriesStyle(method, APART if used[method] else "#7d8894", *marks[method]) for method in methods)


@draws
def plot_guessing(table: pd.DataFrame, overall: pd.DataFrame | None = None, *, note: str = "") -> NDArray[Any]:
    """Plot trials without references, which only a leak lets anyone solve: by person, by unit, or by model.

    Parameters
    ----------
    table
        One row a person or unit: ``kind`` (a panel each), ``name``, ``value``, ``low``, ``high``; optionally
        ``flagged``: true where guessing alone does not explain the value, drawn in red and named.
    overall
        One row a kind: ``kind``, ``value``, ``low``, ``high``: the mean, drawn as a band.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, one a kind.

    Raises
    ------
    AnalysisError
        If a table lacks rows or columns, or holds a value outside its interval.
    """
    own = check_table(table, "guessing", ["kind", "name"])
    own[["kind", "name"]] = own[["kind", "name"]].astype(str)
    own["flagged"] = own["flagged"].astype(bool) if "flagged" in own.columns else False
    means = None
    if overall is not None and len(overall):
        means = check_table(overall, "guessing", ["kind"]).astype({"kind": str}).set_index("kind")
    kinds = sorted(set(own["kind"]))
    figure = open_figure(2.7, width=WIDTH if len(kinds) > 1 else 4.6, note=note)
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    ends = own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()
    axes[0].set_ylim(*limited(np.concatenate([ends, own["value"]]), [CHANCE], 0.06))
    for axis, kind in zip(axes, kinds):
        rows = own[own["kind"] == kind].sort_values(["value", "name"], ignore_index=True, kind="stable")
        pitch = (WIDTH / len(kinds) - 0.6) * 72 / len(rows)
        margin = max(0.7, 0.02 * len(rows))
        axis.set_xlim(-margin, len(rows) - 1 + margin)
        if means is not None and kind in means.index:
            mean = means.loc[kind]
            axis.axhspan(mean["low"], mean["high"], color=lighter(INK, 0.86), linewidth=0, zorder=0.5)
            axis.axhline(mean["value"], color=MUTED, linewidth=1.0, zorder=1)
            title(axis, f"{counted(len(rows), kind)}, mean {with_interval(mean['value'], mean['low'], mean['high'])}")
        else:
            title(axis, counted(len(rows), kind))
        breadth = float(np.clip(0.7 * pitch, 0.5, 5.0))
        for flag, colour in ((False, "#7d8894"), (True, WARNING)):
            members = rows[rows["flagged"] == flag]
            if len(members):
                draw_intervals(axis, members.index, members, SeriesStyle("", colour, "o"), width=breadth,
                               point=float(np.clip(pitch, 1.5, 4.5)))  # fmt: skip
        flagged = rows[rows["flagged"]]
        if len(flagged):
            listed = ", ".join(shorten(name, 18) for name in flagged["name"].iloc[::-1][:4])
            more = f" and {len(flagged) - 4} more" if len(flagged) > 4 else ""
            axis.text(0.02, 0.98, printable(f"not guessing alone:\n{listed}{more}"), transform=axis.transAxes,
                      fontsize=SMALLEST, color=WARNING, va="top")  # fmt: skip
        mark_level(axis, CHANCE, "guessing" if axis is axes[0] else "")
        axis.set_xticks([])
        axis.set_xlabel("from the lowest to the highest")
        tidy(axis)
    axes[0].set_ylabel("proportion correct without references")
    return axes  # type: ignore[no-any-return]


@draws
def plot_variance_components(
    table: pd.DataFrame, *, value_label: str = "standard deviation", note: str = ""
) -> NDArray[Any]:
    """Plot how much units, people and the rest make answers differ.

    Parameters
    ----------
    table
        One row a component: ``component``, ``value``, ``low``, ``high``; optionally ``condition``, and ``share`` of
        the variance of a mean, drawn as bars beside.
    value_label
        What the values are.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes: components and, where given, shares.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    own = check_table(table, "variance components", ["component"])
    own["component"] = own["component"].astype(str)
    own["condition"] = own["condition"].astype(str) if "condition" in own.columns else ""
    components = list(dict.fromkeys(own["component"]))
    conditions = in_order(own["condition"])
    styles = {**series_styles(c for c in conditions if c), "": SeriesStyle("", APART, "o")}
    with_shares = "share" in own.columns and bool(own["share"].notna().any())
    row = 0.14 + 0.15 * len(conditions)
    figure = open_figure(0.7 + row * max(2, len(components)), note=note,
                         key=key_of(styles[c] for c in conditions) if conditions != [""] else [])  # fmt: skip
    ratios = [2, 1] if with_shares else [1]
    axes = figure.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    ends = own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()
    axes[0].set_xlim(*limited(np.concatenate([ends, own["value"]]), [0.0], 0.04))
    offsets = dict(zip(conditions, dodge(len(conditions))))
    for axis in axes:
        stripe_rows(axis, len(components))
    for condition in conditions:
        rows = own[own["condition"] == condition]
        places = np.array([components.index(c) for c in rows["component"]]) + offsets[condition]
        draw_intervals(axes[0], places, rows, styles[condition], across=True)
        if with_shares:
            axes[1].barh(places, rows["share"], height=0.62 / len(conditions), color=styles[condition].tint,
                         linewidth=0)  # fmt: skip
    axes[0].axvline(0, color=FAINT, linewidth=0.8)
    names = display_names(components, 28)
    name_rows(axes[0], [names[component] for component in components])
    axes[0].set_xlabel(f"{printable(value_label)}, with its interval")
    tidy(axes[0], "x")
    if with_shares:
        axes[1].set_xlabel("share of the mean's variance")
        axes[1].set_xlim(0, max(1e-9, float(own["share"].max())) * 1.05)
        few_ticks(axes[1], "x", 4)
        tidy(axes[1], "x")
    return axes  # type: ignore[no-any-return]


__all__ = ["plot_guessing", "plot_intervals_compared", "plot_specification_curve", "plot_variance_components"]
