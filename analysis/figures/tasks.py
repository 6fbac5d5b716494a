"""Scores against properties of a task: difficulty of the queries, confidence of the answer, depth of the layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.style import (
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
    limited,
    mark_level,
    name_rows,
    open_figure,
    separated,
    series_styles,
    shape_key,
    shapes,
    stripe_rows,
    tidy,
)
from analysis.figures.tables import check_numbers, check_table, in_order, known_intervals
from analysis.figures.words import display_names, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANCE = 0.5
DIFFICULTIES = ("easy", "medium", "hard", "very_hard")


def _panel_columns(panels: int) -> int:
    return panels if panels <= 3 else 3 if panels in (5, 6, 9) else 4 if panels <= 20 else 5


def _title_length(columns: int) -> int:
    """Return how many characters of a name fit above a panel."""
    return int((WIDTH / columns - 0.3) * 15)


@draws
def plot_difficulty(table: pd.DataFrame, curves: pd.DataFrame | None = None, *, note: str = "") -> NDArray[Any]:
    """Plot proportion correct from easy to very hard queries, a panel for each model.

    Parameters
    ----------
    table
        One row a model, condition and difficulty: ``model``, ``condition``, ``difficulty``, ``value``, ``low``,
        ``high``; optionally ``position``: where the difficulty stands across (its quantile, say). Without it
        difficulties stand evenly, from easy to very hard.
    curves
        Fitted curves: ``model``, ``condition``, ``position``, ``value``, ``low``, ``high``. Without positions in the
        table, 0 is the first difficulty that occurs, 1 the second, and so on.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, one a model.

    Raises
    ------
    AnalysisError
        If a table lacks rows or columns, or holds a value outside its interval.
    """
    own = check_table(table, "difficulty", ["model", "condition", "difficulty"])
    own[["model", "condition", "difficulty"]] = own[["model", "condition", "difficulty"]].astype(str)
    difficulties = in_order(own["difficulty"], DIFFICULTIES)
    if "position" not in own.columns:
        own["position"] = [float(difficulties.index(name)) for name in own["difficulty"]]
    check_numbers(own, "difficulty", ["position"])
    lines = None
    if curves is not None and len(curves):
        lines = check_table(curves, "difficulty", ["model", "condition", "position"])
        lines[["model", "condition"]] = lines[["model", "condition"]].astype(str)
    places = own.groupby("difficulty", observed=True)["position"].first()
    ticks = [float(places[name]) for name in difficulties]
    labels = [printable(name.replace("_", " ")) for name in difficulties]
    gap = min(np.diff(sorted(ticks)), default=1.0) or 1.0
    models, styles, axes = _small_panels(own, lines, note, 1.75)
    columns = _panel_columns(len(models))
    offsets = dict(zip(styles, dodge(len(styles), 0.22)))
    for turn, (axis, model) in enumerate(zip(axes, models)):
        reach = [] if lines is None else lines["position"].to_numpy(np.float64)
        left, right = limited(np.append(reach, ticks), [], 0.0)
        axis.set_xlim(left - 0.35 * gap, right + 0.35 * gap)
        for name, look in styles.items():
            if lines is not None:
                curve = lines[(lines["model"] == model) & (lines["condition"] == name)].sort_values("position")
                if len(curve):
                    draw_band(axis, curve["position"], curve["value"], curve["low"], curve["high"], look)
            rows = own[(own["model"] == model) & (own["condition"] == name)].sort_values("position")
            if len(rows):
                x = rows["position"].to_numpy(np.float64) + offsets[name] * gap
                if lines is None:
                    axis.plot(x, rows["value"], color=look.tint, linewidth=0.8, zorder=1.8)
                draw_intervals(axis, x, rows, look, width=4.5)
        axis.set_xticks(ticks, labels if columns <= 3 else [label.replace(" ", "\n") for label in labels])
        mark_level(axis, CHANCE, "chance" if turn == 0 else "")
        tidy(axis)
        axis.tick_params(axis="x", labelsize=SMALLEST, length=0)
    return axes


def _small_panels(
    own: pd.DataFrame, lines: pd.DataFrame | None, note: str, height: float
) -> tuple[list[str], dict[str, SeriesStyle], NDArray[Any]]:
    """Return models, conditions with their looks, and a panel for each model, with the same limits."""
    models = sorted(set(own["model"]))
    styles = series_styles(own["condition"])
    columns = _panel_columns(len(models))
    rows = -(-len(models) // columns)
    width = WIDTH if columns > 1 else 4.6
    tall = height if columns > 2 else height * 1.35
    figure = open_figure(rows * tall + 0.35, width=width, note=note, key=key_of(styles.values()))
    axes = np.ravel(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    names = display_names(models, _title_length(columns))
    shown = [own["value"].to_numpy(), own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()]
    if lines is not None:
        shown.append(lines[["low", "high"]].to_numpy().ravel())
    axes[0].set_ylim(*limited(np.concatenate(shown), [CHANCE], 0.05))
    for turn, axis in enumerate(axes):
        if turn >= len(models):
            axis.set_axis_off()
            # The panel above is then the lowest of its column, and carries the ticks.
            axes[turn - columns].tick_params(labelbottom=True)
            continue
        axis.set_title(names[models[turn]], loc="left", fontsize=SMALL + 0.5)
        if turn % columns == 0:
            axis.set_ylabel("proportion correct", fontsize=SMALL)
    return models, styles, axes[: len(models)]


@draws
def plot_confidence(table: pd.DataFrame, discrimination: pd.DataFrame | None = None, *, note: str = "") -> NDArray[Any]:
    """Plot proportion correct at each confidence, how many answers were that confident, and type-2 areas.

    Parameters
    ----------
    table
        One row a condition (and model) and confidence: ``condition``, ``confidence`` (1, 2, 3), ``value``, ``low``,
        ``high``, ``share`` of the answers; optionally ``model`` and ``share_low``, ``share_high``.
    discrimination
        One row a condition (and model): ``condition``, ``value``, ``low``, ``high``: the area under the type-2
        characteristic, .5 where confidence says nothing about being right; optionally ``model``.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes: for each model accuracy and, below it, shares; last, where given, the areas.

    Raises
    ------
    AnalysisError
        If a table lacks rows or columns, or holds a value outside its interval.
    """
    own = _with_models(check_table(table, "confidence", ["condition", "confidence", "share"]))
    check_numbers(own, "confidence", ["confidence", "share"])
    with_ends = {"share_low", "share_high"} <= set(own.columns)
    if with_ends:
        check_table(own, "confidence", [], [("share", "share_low", "share_high")])
    areas = None
    if discrimination is not None and len(discrimination):
        areas = _with_models(check_table(discrimination, "confidence", ["condition"]))
    models = sorted(set(own["model"]))
    conditions = in_order([*own["condition"], *(areas["condition"] if areas is not None else [])])
    styles = series_styles(conditions)
    columns = _panel_columns(len(models))
    lines = -(-len(models) // columns)
    tall = 2.5 if columns < 3 else 1.9 if columns < 5 else 1.55
    beside = areas is not None and columns == 1
    below = 0.0 if areas is None or beside else 0.75 + (0.07 + 0.10 * len(conditions)) * len(set(areas["model"]))
    width = WIDTH if columns > 1 or beside else 4.6
    figure = open_figure(lines * tall + 0.3 + below, width=width, note=note, key=key_of(styles.values()))
    if areas is not None and beside:
        parts: Any = figure.subfigures(1, 2, width_ratios=[1.5, 1])
    elif areas is not None:
        parts = figure.subfigures(2, 1, height_ratios=[lines * tall + 0.3, below])
    else:
        parts = np.array([figure.subfigures(1, 1)])
    grid = parts[0].subplots(
        2 * lines, columns, sharex=True, squeeze=False, height_ratios=[3, 1] * lines
    )  # fmt: skip
    shown = own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()
    limits = limited(np.concatenate([shown, own["value"]]), [CHANCE], 0.05)
    levels = sorted(set(own["confidence"].astype(np.float64)))
    gap = min(np.diff(levels), default=1.0)
    offsets = dict(zip(conditions, dodge(len(conditions), 0.34) * gap))
    breadth = gap * (0.5 if len(conditions) == 1 else 0.62 / len(conditions))
    most = float(own["share_high" if with_ends else "share"].max())
    names = display_names(models, _title_length(columns))
    axes: list[Any] = []
    for turn in range(lines * columns):
        upper, lower = (grid[2 * (turn // columns) + part, turn % columns] for part in (0, 1))
        if turn >= len(models):
            upper.set_axis_off()
            lower.set_axis_off()
            continue
        upper.set_ylim(*limits)
        lower.set_ylim(0, most * 1.06)
        lower.set_xlim(levels[0] - 0.55 * gap, levels[-1] + 0.55 * gap)
        for condition in conditions:
            rows = own[(own["model"] == models[turn]) & (own["condition"] == condition)].sort_values("confidence")
            if not len(rows):
                continue
            x = rows["confidence"].to_numpy(np.float64) + offsets[condition]
            look = styles[condition]
            upper.plot(x, rows["value"], color=look.tint, linewidth=0.8, zorder=1.8)
            draw_intervals(upper, x, rows, look)
            lower.bar(x, rows["share"], width=breadth, color=look.tint, linewidth=0)
            if with_ends:
                ends = separated(rows["share_low"].to_numpy(np.float64), rows["share_high"].to_numpy(np.float64))
                lower.plot(np.repeat(x, 3), ends, color=look.colour, linewidth=1.6)
        upper.set_title(names[models[turn]], loc="left", fontsize=SMALL + 0.5)
        mark_level(upper, CHANCE, "chance" if turn == 0 else "")
        for axis in (upper, lower):
            tidy(axis)
            axis.set_xticks(levels, [f"{level:g}" for level in levels])
        few_ticks(lower, "y", 2)
        upper.tick_params(axis="x", length=0, labelbottom=False)
        lowest = turn + columns >= len(models)
        lower.tick_params(axis="x", length=0, labelbottom=lowest)
        if lowest:
            lower.set_xlabel("confidence", fontsize=SMALL)
        if turn % columns == 0:
            upper.set_ylabel("proportion correct" if columns < 5 else "correct", fontsize=SMALL)
            lower.set_ylabel("share", fontsize=SMALL)
        else:
            upper.tick_params(labelleft=False)
            lower.tick_params(labelleft=False)
        axes += [upper, lower]
    if areas is not None:
        axes.append(_areas_panel(parts[1].subplots(), areas, styles, beside))
    return np.array(axes, dtype=object)


def _with_models(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with models and conditions as text; a table without models is about all of them."""
    table["model"] = table["model"].astype(str) if "model" in table.columns else "all models"
    table["condition"] = table["condition"].astype(str)
    return table


def _areas_panel(axis: Axes, areas: pd.DataFrame, styles: dict[str, SeriesStyle], beside: bool) -> Axes:
    models = sorted(set(areas["model"]))
    ends = areas.loc[known_intervals(areas), ["low", "high"]].to_numpy().ravel()
    axis.set_xlim(*limited(np.concatenate([ends, areas["value"]]), [CHANCE], 0.06))
    stripe_rows(axis, len(models))
    for (name, look), offset in zip(styles.items(), dodge(len(styles))):
        rows = areas[areas["condition"] == name]
        draw_intervals(axis, [models.index(m) + offset for m in rows["model"]], rows, look, across=True)
    names = display_names(models, 24)
    name_rows(axis, [names[model] for model in models])
    mark_level(axis, CHANCE, "says nothing", across=True)
    axis.set_xlabel("area under the type-2 curve" if beside else "area under the type-2 curve: does confidence tell"
                    " right answers from wrong ones?")  # fmt: skip
    tidy(axis, "x")
    return axis


@draws
def plot_layers(
    table: pd.DataFrame,
    types: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    *,
    note: str = "",
) -> NDArray[Any]:
    """Plot proportion correct against the depth of the layer, a panel for each model, and by type of layer.

    Parameters
    ----------
    table
        One row a layer and condition: ``model``, ``layer``, ``condition``, ``depth`` (0, the picture, to 1, the
        output), ``value``, ``low``, ``high``; optionally ``layer_type``, which sets the shape of the mark.
    types
        One row a type of layer and condition: ``layer_type``, ``condition``, ``value``, ``low``, ``high``.
    curves
        ``model``, ``condition``, ``depth``, ``value``, ``low``, ``high``.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, one a model; last, where given, the types.

    Raises
    ------
    AnalysisError
        If a table lacks rows or columns, or holds a value outside its interval.
    """
    own = _with_models(check_table(table, "layers", ["model", "layer", "condition", "depth"]))
    check_numbers(own, "layers", ["depth"])
    lines = None if curves is None or not len(curves) else _with_models(
        check_table(curves, "layers", ["model", "condition", "depth"])
    )  # fmt: skip
    kinds = None
    if types is not None and len(types):
        kinds = check_table(types, "layers", ["layer_type", "condition"])
        kinds[["layer_type", "condition"]] = kinds[["layer_type", "condition"]].astype(str)
    own["layer_type"] = own["layer_type"].astype(str) if "layer_type" in own.columns else ""
    kinds_of_layers = sorted(set(own["layer_type"]))
    markers = shapes(kinds_of_layers)
    models = sorted(set(own["model"]))
    styles = series_styles([*own["condition"], *(kinds["condition"] if kinds is not None else [])])
    columns = _panel_columns(len(models))
    rows = -(-len(models) // columns)
    width = WIDTH if columns > 1 else 4.6
    tall = (1.6 if columns > 2 else 2.3) * rows + 0.35
    below = 0.0 if kinds is None else 0.75 + (0.09 + 0.12 * len(styles)) * len(set(kinds["layer_type"]))
    key = key_of(styles.values()) + (
        [shape_key(kind or "other", *markers[kind]) for kind in kinds_of_layers] if len(markers) > 1 else []
    )
    figure = open_figure(tall + below, width=width, note=note, key=key)
    parts: Any = (
        figure.subfigures(2, 1, height_ratios=[tall, below]) if kinds is not None else [figure.subfigures(1, 1)]
    )
    axes = np.ravel(parts[0].subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    shown = [own["value"].to_numpy(), own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()]
    if lines is not None:
        shown.append(lines[["low", "high"]].to_numpy().ravel())
    axes[0].set_ylim(*limited(np.concatenate(shown), [CHANCE], 0.05))
    axes[0].set_xlim(-0.04, max(1.0, float(own["depth"].max())) + 0.04)
    names = display_names(models, _title_length(columns))
    offsets = dict(zip(styles, dodge(len(styles), 0.022 if columns <= 2 else 0.03)))
    for turn, axis in enumerate(axes):
        if turn >= len(models):
            axis.set_axis_off()
            axes[turn - columns].tick_params(labelbottom=True)
            continue
        most = max(own[own["model"] == models[turn]].groupby("condition", observed=True).size())
        breadth = float(np.clip(90.0 / columns / most, 1.2, 4.5))
        for name, look in styles.items():
            here = (own["model"] == models[turn]) & (own["condition"] == name)
            if lines is not None:
                curve = lines[(lines["model"] == models[turn]) & (lines["condition"] == name)].sort_values("depth")
                if len(curve):
                    draw_band(axis, curve["depth"], curve["value"], curve["low"], curve["high"], look)
            for kind in kinds_of_layers:
                members = own[here & (own["layer_type"] == kind)].sort_values(["depth", "layer"])
                if len(members):
                    mark = SeriesStyle(
                        name, look.colour, *(markers[kind] if len(markers) > 1 else (look.marker, look.fill))
                    )
                    draw_intervals(axis, members["depth"] + offsets[name], members, mark, width=breadth,
                                   point=min(4.5, breadth + 1.5), unbounded=False)  # fmt: skip
        axis.set_title(names[models[turn]], loc="left", fontsize=SMALL + 0.5)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", ".5", "", "1"])
        mark_level(axis, CHANCE, "chance" if turn == 0 else "")
        tidy(axis)
        if turn % columns == 0:
            axis.set_ylabel("proportion correct", fontsize=SMALL)
        if turn + columns >= len(models):
            axis.set_xlabel("depth: picture 0, output 1", fontsize=SMALL)
    axes = axes[: len(models)]
    if kinds is not None:
        axis = parts[1].subplots()
        order = sorted(set(kinds["layer_type"]))
        ends = kinds.loc[known_intervals(kinds), ["low", "high"]].to_numpy().ravel()
        axis.set_xlim(*limited(np.concatenate([ends, kinds["value"]]), [CHANCE], 0.05))
        stripe_rows(axis, len(order))
        for (name, look), offset in zip(styles.items(), dodge(len(styles))):
            members = kinds[kinds["condition"] == name]
            draw_intervals(axis, [order.index(k) + offset for k in members["layer_type"]], members, look, across=True)
        short = display_names(order, 24)
        name_rows(axis, [short[kind] for kind in order])
        mark_level(axis, CHANCE, across=True)
        axis.set_xlabel("proportion correct, by type of layer")
        tidy(axis, "x")
        axes = np.array([*axes, axis], dtype=object)
    return axes


__all__: Sequence[str] = ["plot_confidence", "plot_difficulty", "plot_layers"]
