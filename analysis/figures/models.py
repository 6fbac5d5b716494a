"""Comparisons of models: scores, ranks, one condition against another, units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.labels import label_points, numbers_for_names
from analysis.figures.style import (
    FAINT,
    GRID,
    INK,
    MUTED,
    SMALLEST,
    SeriesStyle,
    dodge,
    draw_intervals,
    draws,
    few_ticks,
    hide,
    hollow_key,
    key_of,
    limited,
    mark_level,
    name_rows,
    open_figure,
    series_styles,
    stripe_rows,
    tidy,
    title,
)
from analysis.figures.tables import check_numbers, check_table, in_order, known_intervals
from analysis.figures.words import counted, display_names, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANCE = 0.5


@draws
def plot_model_comparison(
    table: pd.DataFrame, *, quantity: str = "proportion correct", chance: float | None = CHANCE, note: str = ""
) -> Axes:
    """Plot every model's score with its interval, conditions side by side, the best model on top.

    Parameters
    ----------
    table
        One row a model and condition: ``model``, ``condition``, ``value``, ``low``, ``high``; ``n``, how many units,
        and ``group``, letters that indistinguishable models share, are written beside; ``published``, where it is not
        missing, becomes a hollow mark.
    quantity
        What the values are.
    chance
        Level of guessing; None draws none.
    note
        What must be said wherever these numbers appear.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    own = check_table(table, "model comparison", ["model", "condition"])
    own["condition"] = own["condition"].astype(str)
    own["model"] = own["model"].astype(str)
    own = own.sort_values(["model", "condition"], ignore_index=True)
    conditions = in_order(own["condition"])
    styles = series_styles(conditions)
    models = _best_first(own, conditions)
    names = display_names(models)
    offsets = dict(zip(conditions, dodge(len(conditions))))
    key = key_of(styles.values()) if len(conditions) > 1 else []
    published = "published" in own.columns and bool(own["published"].notna().any())
    if published:
        key = [*(key or key_of(styles.values())), hollow_key("published in 2023")]
    row_height = (0.11 if len(models) <= 16 else 0.05) + (0.145 if len(models) <= 16 else 0.105) * len(conditions)
    figure = open_figure(0.75 + row_height * max(3, len(models)), note=note, key=key)
    axis: Axes = figure.subplots()
    ends = own.loc[known_intervals(own), ["low", "high"]].to_numpy()
    shown = [own["value"].to_numpy(), ends.ravel()]
    if published:
        shown.append(own["published"].dropna().to_numpy(np.float64))
    axis.set_xlim(*limited(np.concatenate(shown), [] if chance is None else [chance], 0.04))
    stripe_rows(axis, len(models))
    for condition in conditions:
        rows = own[own["condition"] == condition]
        places = np.array([models.index(model) for model in rows["model"]]) + offsets[condition]
        draw_intervals(axis, places, rows, styles[condition], across=True, point=5.5 if len(conditions) > 6 else 4.5)
        if published:
            axis.plot(
                rows["published"].to_numpy(np.float64), places, linestyle="none", marker="D", markersize=6,
                markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.9, zorder=3,
            )  # fmt: skip
    name_rows(axis, [names[model] for model in models])
    if chance is not None:
        mark_level(axis, chance, "chance", across=True)
    same = "n" in own.columns and own["n"].nunique(dropna=False) == 1 and bool(own["n"].notna().all())
    each = f", n = {int(own['n'].iloc[0]):,} each" if same else ""
    which = f", {printable(conditions[0])} references" if len(conditions) == 1 else ""
    axis.set_xlabel(f"{printable(quantity)}{which}, with its interval{each}")
    tidy(axis, "x")
    place = 1.015
    for column, heading, breadth in (("group", "group", 0.075), ("n", "n", 0.06)):
        if column not in own.columns or not own[column].notna().any() or (column == "n" and same):
            continue
        longest = max(len(str(text)) for text in own[column].dropna())
        axis.text(place, 1.0, heading, transform=axis.transAxes, fontsize=SMALLEST, color=MUTED, va="bottom")
        for _, row in own[own[column].notna()].iterrows():
            at = models.index(row["model"]) + offsets[row["condition"]]
            text = f"{int(row[column]):,}" if column == "n" else printable(row[column])
            axis.text(
                place, at, text, transform=axis.get_yaxis_transform(), fontsize=SMALLEST, va="center_baseline",
                color=styles[row["condition"]].colour,
            )  # fmt: skip
        place += max(breadth, 0.013 * longest + 0.02)
    return axis


@draws
def plot_natural_against_synthetic(
    table: pd.DataFrame,
    *,
    conditions: tuple[str, str] = ("natural", "synthetic"),
    quantity: str = "proportion correct",
    note: str = "",
) -> Axes:
    """Plot one condition against the other: a cross of two intervals for each model, and the line of equality.

    Parameters
    ----------
    table
        One row a model: ``model`` and, for each of the two conditions, its value under the condition's own name, and
        the ends of its interval under ``natural_low``, ``natural_high`` and so on. A model that was not run in one
        condition lacks all three, and is drawn on the margin.
    conditions
        Names of the conditions: across, upwards.
    quantity
        What the values are.
    note
        What must be said wherever these numbers appear.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a value outside its interval.
    """
    across, up = conditions
    columns = {name: (name, f"{name}_low", f"{name}_high") for name in conditions}
    own = check_table(
        table, f"{across} against {up}", ["model"], [columns[across], columns[up]], may_lack=True
    )  # fmt: skip
    own["model"] = own["model"].astype(str)
    own = own.sort_values("model", ignore_index=True)
    full = display_names(own["model"])
    names, foot = numbers_for_names(own["model"], 24)
    styles = series_styles(conditions)
    both = own[own[across].notna() & own[up].notna()]
    only = {name: own[own[name].notna() & own[other].isna()] for name, other in ((across, up), (up, across))}
    limits = {}
    for name in conditions:
        numbers = own.loc[known_intervals(own, *columns[name][1:]) | own[name].isna(), list(columns[name])]
        limits[name] = list(limited(np.append(numbers.to_numpy(np.float64), own[name].to_numpy(np.float64)), [], 0.08))
    # The line of equality stays in view, at a corner at least.
    extent = max(high - low for low, high in limits.values())
    for name, other in ((across, up), (up, across)):
        limits[name][0] = min(limits[name][0], limits[other][1] - 0.3 * extent)
    # Beyond the lower end of each axis is room for models that lack this condition.
    strip = 0.042 * extent
    shelf = {}
    for name, other in ((up, across), (across, up)):
        count = len(only[other])
        shelf[name] = limits[name][0]
        limits[name][0] -= strip * (count + 0.4) if count else 0
    spans = {name: high - low for name, (low, high) in limits.items()}
    inches = 5.2 / max(spans.values())
    figure = open_figure(0.55 + inches * spans[up], width=max(3.2, 0.75 + inches * spans[across]), note=note, foot=foot)
    axis: Axes = figure.subplots()
    axis.set(xlim=limits[across], ylim=limits[up], aspect="equal")
    ends = max(limits[across][0], limits[up][0]), min(limits[across][1], limits[up][1])
    axis.plot(ends, ends, color=MUTED, linewidth=1.0, zorder=1)
    axis.annotate(
        "equal", (ends[1], ends[1]), xytext=(-8, -8), textcoords="offset points", rotation=45, fontsize=SMALLEST,
        color=MUTED, va="bottom", ha="right", rotation_mode="anchor",
    )  # fmt: skip
    for name, sideways in ((across, True), (up, False)):
        if limits[name][0] < CHANCE < limits[name][1]:
            mark_level(axis, CHANCE, across=sideways)
            spot = (CHANCE, 1.0) if sideways else (1.0, CHANCE)
            axis.annotate(
                "chance", spot, xycoords=axis.get_xaxis_transform() if sideways else axis.get_yaxis_transform(),
                xytext=(3, -2) if sideways else (-2, 2), textcoords="offset points", fontsize=SMALLEST, color=MUTED,
                va="top" if sideways else "bottom", ha="left" if sideways else "right",
            )  # fmt: skip
    if len(both):
        draw_intervals(axis, both[up], both, styles[across], across=True, columns=columns[across], point=0, width=4)
        draw_intervals(axis, both[across], both, styles[up], columns=columns[up], point=0, width=4)
        axis.plot(
            both[across], both[up], linestyle="none", marker="o", markersize=4.5, color=INK, zorder=4,
            markeredgecolor="white", markeredgewidth=0.5,
        )  # fmt: skip
    for name, sideways in ((across, True), (up, False)):
        rows = only[name].sort_values([name, "model"], kind="stable")
        if not len(rows):
            continue
        other = up if sideways else across
        edge = axis.axhline if sideways else axis.axvline
        edge(shelf[other], color=GRID, linewidth=0.8)
        places = shelf[other] - strip * (np.arange(len(rows)) + 0.7)
        draw_intervals(axis, places, rows, styles[name], across=sideways, columns=columns[name], width=4)
        for (_, row), place in zip(rows.iterrows(), places):
            text = f"{full[row['model']]}, no {printable(other)}"
            # Towards the roomier side of the bar.
            first, last = row[columns[name][1]], row[columns[name][2]]
            early = first - limits[name][0] < limits[name][1] - last
            end, step = (last, 4) if early else (first, -4)
            axis.annotate(
                text, (end, place) if sideways else (place, end), xytext=(step, 0) if sideways else (0, step),
                textcoords="offset points", fontsize=SMALLEST, color=styles[name].colour,
                ha=("left" if early else "right") if sideways else "center",
                va="center" if sideways else ("bottom" if early else "top"), rotation=0 if sideways else 90,
            )  # fmt: skip
    axis.set_xlabel(f"{printable(quantity)}, {printable(across)} references", color=styles[across].colour)
    axis.set_ylabel(f"{printable(quantity)}, {printable(up)} references", color=styles[up].colour)
    few_ticks(axis, "x", 6)
    few_ticks(axis, "y", 6)
    tidy(axis, "both")
    if len(both):
        a, b = columns[across], columns[up]
        bars = np.vstack(
            [both[[a[1], b[0], a[2], b[0]]].to_numpy(np.float64), both[[a[0], b[1], a[0], b[2]]].to_numpy(np.float64)]
        )
        bars[:, [0, 2]] = np.clip(bars[:, [0, 2]], limits[across][0], limits[across][1])
        bars[:, [1, 3]] = np.clip(bars[:, [1, 3]], limits[up][0], limits[up][1])
        label_points(axis, both[across], both[up], [names[m] for m in both["model"]], bars=bars)
    return axis


@draws
def plot_ranks(table: pd.DataFrame, *, note: str = "") -> NDArray[Any]:
    """Plot every model's rank with its interval; models that can't be distinguished share a shaded bar.

    Parameters
    ----------
    table
        One row a model: ``model``, ``rank``, ``low``, ``high``; optionally ``condition``, which makes panels, and
        ``group``, letters: models that share a letter can't be distinguished.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, one a condition.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a rank outside its interval.
    """
    own = check_table(table, "ranks", ["model"], [("rank", "low", "high")])
    own["model"] = own["model"].astype(str)
    own["condition"] = own["condition"].astype(str) if "condition" in own.columns else ""
    conditions = in_order(own["condition"])
    styles = series_styles(conditions)
    if conditions == [""]:
        styles = {"": SeriesStyle("", INK, "o")}
    most = int(own.groupby("condition", observed=True).size().max())
    columns = min(2, len(conditions))
    lines = -(-len(conditions) // columns)
    figure = open_figure(lines * (0.75 + 0.2 * max(3, most)), note=note)
    axes = np.ravel(figure.subplots(lines, columns, squeeze=False))
    names = display_names(own["model"], 28 if columns == 1 else 20)
    for axis, condition in zip(axes, conditions):
        rows = own[own["condition"] == condition].sort_values(["rank", "low", "high", "model"], kind="stable")
        rows = rows.reset_index(drop=True)
        letters = rows["group"].fillna("").astype(str) if "group" in rows.columns else pd.Series("", index=rows.index)
        alphabet = sorted(set("".join(letters)))
        ends = rows["high"].to_numpy(np.float64)
        last = max(len(rows), int(np.ceil(ends[np.isfinite(ends)].max(initial=1))))
        room = 0.045 * last * len(alphabet) + (0.05 * last if alphabet else 0)
        axis.set_xlim(0.5, last + 0.5 + room)
        stripe_rows(axis, len(rows))
        draw_intervals(axis, np.arange(len(rows)), rows, styles[condition], across=True,
                       columns=("rank", "low", "high"))  # fmt: skip
        for place, letter in enumerate(alphabet):
            at = last + 0.5 + 0.05 * last + 0.045 * last * (place + 0.5)
            members = np.flatnonzero([letter in own_letters for own_letters in letters])
            axis.plot([at, at], [members[0] - 0.36, members[-1] + 0.36], color=styles[condition].pale, linewidth=6)
            axis.plot(np.full(len(members), at), members, linestyle="none", marker="o", markersize=3.4,
                      color=styles[condition].colour)  # fmt: skip
        if alphabet:
            axis.text(
                last + 0.5 + 0.05 * last + 0.045 * last * len(alphabet) / 2, -0.62, "indistinguishable",
                fontsize=SMALLEST, color=MUTED, ha="center", va="bottom",
            )  # fmt: skip
        name_rows(axis, [names[model] for model in rows["model"]])
        step = max(1, -(-last // 10))
        axis.set_xticks([1, *range(step, last + 1, step)] if step > 1 else range(1, last + 1))
        axis.set_xlabel("rank, with its interval (1 is best)")
        tidy(axis, "x")
        if condition:
            title(axis, f"{condition}, {counted(len(rows), 'model')}", colour=styles[condition].colour)
    for axis in axes[len(conditions) :]:
        hide(axis)
    return axes[: len(conditions)]


@draws
def plot_unit_distribution(
    table: pd.DataFrame, means: pd.DataFrame | None = None, *, bins: int = 30, note: str = ""
) -> NDArray[Any]:
    """Plot how the scores of single units are spread, and how few answers alone would spread one common score.

    Parameters
    ----------
    table
        One row a unit: ``model``, ``condition``, ``unit``, ``value`` (its proportion correct) and ``noise``: a score
        drawn as if all units of the model were alike, so that only the few answers to each make them differ.
    means
        One row a model and condition: ``model``, ``condition``, ``value``, ``low``, ``high``.
    bins
        How many bars between 0 and 1.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, one a condition.

    Raises
    ------
    AnalysisError
        If the table has no rows, lacks a column, or holds a score that is no proportion.
    """
    own = check_table(table, "unit scores", ["model", "condition", "unit", "value", "noise"], [])
    check_numbers(own, "unit scores", ["value", "noise"])
    for column in ("model", "condition"):
        own[column] = own[column].astype(str)
    conditions = in_order(own["condition"])
    styles = series_styles(conditions)
    summary = None
    if means is not None:
        summary = check_table(means, "unit scores", ["model", "condition"])
        summary[["model", "condition"]] = summary[["model", "condition"]].astype(str)
        models = [m for m in _best_first(summary, conditions) if m in set(own["model"])]
        models += sorted(set(own["model"]) - set(models))
    else:
        models = sorted(set(own["model"]))
    names = display_names(models, 24)
    row = 0.62 if len(models) <= 12 else 0.45
    figure = open_figure(0.7 + row * max(2, len(models)), note=note, key=_unit_key(styles, means is not None))
    axes = figure.subplots(1, len(conditions), sharey=True, squeeze=False)[0]
    low = min(0.25, float(own[["value", "noise"]].min().min()) - 0.03)
    edges = np.linspace(0, 1, bins + 1)
    counts: dict[tuple[str, str, str], NDArray[np.float64]] = {}
    for (model, condition), rows in own.groupby(["model", "condition"], observed=True):
        for kind in ("value", "noise"):
            where = np.clip((rows[kind].to_numpy(np.float64) * bins + 1e-9).astype(int), 0, bins - 1)
            counts[str(model), str(condition), kind] = np.bincount(where, minlength=bins) / len(where)
    tallest = max(float(stack.max()) for stack in counts.values())
    for axis, condition in zip(axes, conditions):
        look = styles[condition]
        axis.set_xlim(low, 1.02)
        for place, model in enumerate(models):
            axis.axhline(place, color=FAINT, linewidth=0.6, zorder=1)
            if (model, condition, "value") not in counts:
                axis.text(0.5, place - 0.1, f"no {printable(condition)}", transform=axis.get_yaxis_transform(),
                          fontsize=SMALLEST, color=MUTED, ha="center")  # fmt: skip
                continue
            seen = place - counts[model, condition, "value"] / tallest * 0.82
            noise = place - counts[model, condition, "noise"] / tallest * 0.82
            axis.stairs(seen, edges, baseline=place, fill=True, color=look.tint, zorder=1.5)
            axis.stairs(noise, edges, baseline=place, color=INK, linewidth=0.8, zorder=1.6)
        if summary is not None:
            rows = summary[(summary["condition"] == condition) & summary["model"].isin(models)]
            places = np.array([models.index(model) for model in rows["model"]]) + 0.085
            draw_intervals(axis, places, rows, SeriesStyle("mean", INK, "o"), across=True, width=3.5, point=3)
        mark_level(axis, CHANCE, "chance" if axis is axes[0] else "", across=True, inside=True)
        axis.set_xlabel("proportion correct of a unit")
        tidy(axis, "x")
        title(axis, f"{condition} references", colour=look.colour)
    name_rows(axes[0], [names[model] for model in models])
    axes[0].set_ylim(len(models) - 0.72, -0.95)
    return axes  # type: ignore[no-any-return]


def _unit_key(styles: dict[str, SeriesStyle], means: bool) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    key: list[tuple[Any, str]] = [(Patch(facecolor=look.tint), f"units, {name}") for name, look in styles.items()]
    key.append((Line2D([], [], color=INK, linewidth=0.8), "if all units of a model were alike"))
    return [*key, *([(key_of([SeriesStyle("mean", INK, "o")])[0][0], "mean")] if means else [])]


def _best_first(table: pd.DataFrame, conditions: list[str]) -> list[str]:
    """Return models by their value in the first condition, then those that only later conditions have."""
    models: list[str] = []
    for condition in conditions:
        rows = table[table["condition"] == condition].sort_values(["value", "model"], ascending=[False, True])
        models += [model for model in rows["model"] if model not in models]
    return models


__all__ = ["plot_model_comparison", "plot_natural_against_synthetic", "plot_ranks", "plot_unit_distribution"]
