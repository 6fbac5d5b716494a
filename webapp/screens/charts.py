"""Charts of the experimenter's page: they take tables and compute nothing; nothing in them is loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.units import unit_names
from webapp.dashboard import Precision, SessionTimes

INK = "#1b1f24"
MUTED = "#565d66"
LINE = "#d9d7d0"
ACCENT = "#1b6b66"
WARM = "#b4472f"
PALE = "#efece4"

_HOUR = 3600.0
_PADDING = {"left": 14, "right": 18, "top": 14, "bottom": 12}


def draw_coverage(table: pd.DataFrame) -> Any:
    """Draw usable answers about each unit as a heat map: a row for each model and condition, a column for each unit.

    Parameters
    ----------
    table
        From :func:`webapp.dashboard.coverage`.
    """
    several = table["difficulty"].nunique() > 1
    data = table.assign(
        unit=unit_names(table),
        row=row_names(table, several),
        share=(table["answers"] / table["target"]).clip(upper=1),
    )[["row", "position", "unit", "answers", "target", "share"]]
    width = max(6, min(18, 940 // max(int(table["position"].max()), 1)))
    chart = (
        alt.Chart(data)
        .mark_rect(stroke="white", strokeWidth=1 if width > 8 else 0.4, cornerRadius=1.5)
        .encode(
            x=alt.X("position:O", title="unit of the model", axis=_sparse_axis(int(table["position"].max()))),
            y=alt.Y("row:N", title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False)),
            color=alt.Color(
                "share:Q",
                title="of the planned answers",
                scale=alt.Scale(domain=[0, 1], range=[PALE, "#7fb3ac", ACCENT]),
                legend=alt.Legend(format=".0%", orient="top", gradientLength=180, gradientThickness=9),
            ),
            tooltip=[
                alt.Tooltip("unit:N"),
                alt.Tooltip("answers:Q", title="usable answers"),
                alt.Tooltip("target:Q", title="planned"),
            ],
        )
        .properties(height=alt.Step(24), width=alt.Step(width))
    )
    return _finish(chart)


def row_names(table: pd.DataFrame, several: bool) -> pd.Series:
    """Return what rows of models and conditions are called; the difficulty is named where there are several."""
    names = table["model"] + " · " + table["condition"]
    return names + " · " + table["difficulty"] if several else names


def _sparse_axis(count: int) -> alt.Axis:
    """Return an axis of positions with a label at every tenth."""
    values = [1, *range(10, count + 1, 10)]
    return alt.Axis(values=values, labelAngle=0, ticks=False, domain=False)


def draw_arrivals(arrivals: NDArray[np.float64], endings: NDArray[np.float64]) -> Any:
    """Draw arrivals and completions over time.

    Parameters
    ----------
    arrivals, endings
        Times in seconds since 1970.
    """
    last = max(float(arrivals[-1]), float(endings[-1]) if len(endings) else 0.0)
    step = _step(last - float(arrivals[0]))
    begin = math.floor(float(arrivals[0]) / step) * step
    edges = begin + step * np.arange(int((last - begin) // step) + 2)
    data = pd.concat(
        [
            pd.DataFrame(
                {"at": pd.to_datetime(edges, unit="s", utc=True), "people": _counts(times, edges), "what": what}
            )
            for what, times in (("came", arrivals), ("finished", endings))
        ]
    )
    scale = alt.Scale(domain=["came", "finished"], range=["#b9b4a6", ACCENT])
    base = alt.Chart(data).encode(
        x=alt.X("at:T", title=None, axis=alt.Axis(grid=False, labelFlush=True, tickCount=8)),
        y=alt.Y("people:Q", title=f"people in {_duration(step)}", stack=None, axis=alt.Axis(tickCount=4)),
        color=alt.Color("what:N", title=None, scale=scale, legend=alt.Legend(orient="top", symbolType="square")),
        tooltip=[alt.Tooltip("at:T", format="%d %b %H:%M"), alt.Tooltip("what:N"), alt.Tooltip("people:Q")],
    )
    area = base.mark_area(interpolate="step-after", opacity=0.28, line=False)
    line = base.mark_line(interpolate="step-after", strokeWidth=1.8)
    return _finish(alt.layer(area, line).properties(height=190))


def _counts(times: NDArray[np.float64], edges: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return how many times are before each edge; the last is repeated, so that its step is drawn, too."""
    counts = np.histogram(times, np.append(edges[:-1], np.inf))[0]
    return np.append(counts, counts[-1])


def _step(span: float) -> float:
    """Return a round number of seconds, of which some 40 make up a span."""
    choices = [300.0, 900.0, _HOUR, 3 * _HOUR, 6 * _HOUR, 24 * _HOUR, 7 * 24 * _HOUR]
    return next((step for step in choices if span / step <= 80), choices[-1])


def _duration(seconds: float) -> str:
    if seconds < _HOUR:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / _HOUR:.0f} h" if seconds < 24 * _HOUR else f"{seconds / 24 / _HOUR:.0f} d"


def draw_widths(found: Sequence[Precision], target: float) -> Any:
    """Draw the width of each interval, the width no number of sessions gets below, and the target.

    Parameters
    ----------
    found
        Models and conditions; those without a width are left out.
    target
        Width that the study aims at.
    """
    table = pd.DataFrame(
        [
            (*names, item.outlook.width_now, item.outlook.narrowest, item.verdict)
            for item in found
            if item.outlook and (names := (item.model, item.condition, item.difficulty))
        ],
        columns=["model", "condition", "difficulty", "width", "narrowest", "verdict"],
    )
    table["row"] = row_names(table, table["difficulty"].nunique() > 1)
    table["state"] = np.where(table["width"] <= target, "as narrow as planned", "still too wide")
    y = alt.Y("row:N", title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False))
    bars = (
        alt.Chart(table)
        .mark_bar(height=11, cornerRadiusEnd=3)
        .encode(
            x=alt.X("width:Q", title="width of the 95 % interval", axis=alt.Axis(tickCount=6)),
            y=y,
            color=alt.Color(
                "state:N",
                title=None,
                scale=alt.Scale(domain=["as narrow as planned", "still too wide"], range=[ACCENT, "#b9b4a6"]),
                legend=alt.Legend(orient="top", symbolType="square"),
            ),
            tooltip=[alt.Tooltip("width:Q", format=".3f"), alt.Tooltip("verdict:N")],
        )
    )
    limits = (
        alt.Chart(table)
        .mark_tick(color=INK, thickness=2, size=19)
        .encode(x="narrowest:Q", y=y, tooltip=[alt.Tooltip("narrowest:Q", format=".3f", title="narrowest possible")])
    )
    rule = alt.Chart(pd.DataFrame({"target": [target]})).mark_rule(color=WARM, strokeWidth=1.6, strokeDash=[5, 3])
    return _finish(alt.layer(bars, limits, rule.encode(x="target:Q")).properties(height=alt.Step(30)))


def draw_intervals(found: Sequence[Precision], name: str) -> Any:
    """Draw intervals of means: those that may be seen.

    Parameters
    ----------
    found
        Models and conditions; those without the interval are left out.
    name
        ``mean`` or ``at_any_time``.
    """
    table = pd.DataFrame(
        [
            (item.model, item.condition, item.difficulty, estimate.value, estimate.low, estimate.high)
            for item in found
            if (estimate := getattr(item, name)) is not None
        ],
        columns=["model", "condition", "difficulty", "value", "low", "high"],
    )
    table["row"] = row_names(table, table["difficulty"].nunique() > 1)
    y = alt.Y("row:N", title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False))
    tips = [alt.Tooltip(f"{column}:Q", format=".3f") for column in ("value", "low", "high")]
    scale = alt.Scale(domain=[min(0.45, float(table["low"].min())), 1], nice=False)
    bars = (
        alt.Chart(table)
        .mark_rule(color=ACCENT, strokeWidth=3)
        .encode(x=alt.X("low:Q", title="proportion correct", scale=scale), x2="high:Q", y=y, tooltip=tips)
    )
    points = alt.Chart(table).mark_point(color=ACCENT, filled=True, size=70, opacity=1)
    chance = alt.Chart(pd.DataFrame({"chance": [0.5]})).mark_rule(color=MUTED, strokeDash=[4, 3])
    middles = points.encode(x=alt.X("value:Q", scale=scale), y=y, tooltip=tips)
    layers = alt.layer(chance.encode(x=alt.X("chance:Q", scale=scale)), bars, middles)
    return _finish(layers.properties(height=alt.Step(30)))


def draw_reaction_times(found: SessionTimes) -> Any:
    """Draw the distribution of the sessions' medians, and their median with its interval."""
    seconds = found.medians
    counts, edges = np.histogram(seconds, bins=min(40, max(6, int(len(seconds) ** 0.5) * 2)))
    table = pd.DataFrame({"begin": edges[:-1], "end": edges[1:], "sessions": counts})
    middle = found.quantiles[0.5]
    bars = (
        alt.Chart(table)
        .mark_rect(color="#8fbab5", stroke="white", strokeWidth=1)
        .encode(
            x=alt.X("begin:Q", title="median reaction time of a session, in seconds", axis=alt.Axis(tickCount=8)),
            x2="end:Q",
            y=alt.Y("sessions:Q", title="sessions", axis=alt.Axis(tickCount=4)),
            y2=alt.datum(0),
            tooltip=[alt.Tooltip("begin:Q", format=".2f"), alt.Tooltip("end:Q", format=".2f"), "sessions:Q"],
        )
    )
    line = alt.Chart(pd.DataFrame({"middle": [middle.value]})).mark_rule(color=INK, strokeWidth=2)
    return _finish(alt.layer(bars, line.encode(x="middle:Q")).properties(height=190))


def _finish(chart: Any) -> Any:
    """Give a chart the page's look, without a menu that leads elsewhere."""
    font = "Source Sans, sans-serif"
    return (
        chart.properties(usermeta={"embedOptions": {"actions": False}}, padding=_PADDING)
        .configure(background="transparent", font=font)
        .configure_view(strokeWidth=0)
        .configure_axis(
            labelColor=MUTED, titleColor=MUTED, gridColor="#e9e6de", domainColor=LINE, tickColor=LINE, labelFontSize=12,
            titleFontSize=12, titleFontWeight="normal", titlePadding=8,
        )
        .configure_axisY(labelColor=INK)
        .configure_legend(
            labelColor=INK, titleColor=MUTED, labelFontSize=12, titleFontSize=12, titleFontWeight="normal",
        )
    )  # fmt: skip
