"""Pieces of the experimenter's page: headings, tiles and tables as HTML, and numbers as they are written in them.

Everything that is not ours is escaped: some of what a table shows was sent by browsers.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from benchmark.estimate import Estimate


def escape(value: object) -> str:
    """Return a value as text that a page shows as it is."""
    return html.escape(str(value))


def write_heading(text: str, note: str = "") -> None:
    """Write a heading, and a note below it."""
    below = f'<p class="v-note">{escape(note)}</p>' if note else ""
    st.html(f"<h2>{escape(text)}</h2>{below}")


def write_note(text: str) -> None:
    """Write a note."""
    st.html(f'<p class="v-note">{escape(text)}</p>')


def write_banner(text: str, good: bool = False) -> None:
    """Write what must not be overlooked."""
    st.html(f'<div class="v-banner{" good" if good else ""}" role="note">{escape(text)}</div>')


def make_tile(name: str, value: str, more: str = "") -> str:
    """Return a tile: ``value`` and ``more`` are HTML of ours."""
    return (
        f'<div class="v-tile"><div class="name">{escape(name)}</div><div class="value">{value}</div>'
        f'<div class="more">{more}</div></div>'
    )


def draw_tiles(tiles: Sequence[str]) -> None:
    """Draw a row of tiles."""
    st.html(f'<div class="v-tiles">{"".join(tiles)}</div>')


def make_track(done: int, of: int) -> str:
    """Return a bar that is filled so far."""
    share = 100 * done / of if of else 0
    return f'<div class="v-track"><i style="width:{share:.1f}%"></i></div>{share:.0f} % of the plan'


def draw_funnel(steps: pd.DataFrame) -> None:
    """Draw how many people, and what share, reached each step."""
    rows = "".join(
        f"<span>{escape(step.step)}</span>"
        f'<div class="v-track"><i style="width:{100 * step.share:.1f}%"></i></div><b>{step.reached:,}</b>'
        for step in steps.itertuples()
    )
    st.html(f'<div class="v-funnel">{rows}</div>')


def draw_table(
    frame: pd.DataFrame, numbers: Sequence[str] = (), codes: Sequence[str] = (), empty: str = "Nothing."
) -> None:
    """Draw a table; everything in it is escaped, since some of it was sent by browsers."""
    classes = {name: ' class="number"' if name in numbers else "" for name in frame.columns}
    head = "".join(f"<th{classes[name]}>{escape(name)}</th>" for name in frame.columns)
    body = "".join(
        "<tr>" + "".join(_cell(name, row[name], classes[name], name in codes) for name in frame.columns) + "</tr>"
        for row in frame.to_dict("records")
    )
    if not len(frame):
        body = f'<tr><td class="quiet" colspan="{max(len(frame.columns), 1)}">{escape(empty)}</td></tr>'
    table = f'<table class="v-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    st.html(f'<div class="v-scroll">{table}</div>')


def _cell(name: str, value: Any, style: str, code: bool) -> str:
    text = f"{value:,}" if isinstance(value, int) else escape(value)
    if code and text != "–":
        text = f"<code>{text}</code>"
    if name == "detail":
        return f'<td class="long"><div title="{text}">{text}</div></td>'
    return f"<td{style}>{text}</td>"


def spell_share(estimate: Estimate | None) -> str:
    """Write a proportion in large letters."""
    return "–" if estimate is None else f"{100 * estimate.value:.1f} <small>%</small>"


def spell_interval(estimate: Estimate | None) -> str:
    """Write the interval of a proportion, and its sample size."""
    if estimate is None:
        return "nothing to count yet"
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f} %, n = {estimate.n:,}"


def spell_percent(estimate: Estimate | None) -> str:
    """Write a proportion with its interval in whole per cent."""
    if estimate is None:
        return "–"
    return f"{100 * estimate.value:.0f} % [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def spell_usd(amount: float) -> str:
    """Write an amount of money; cents only where they matter."""
    return f"${amount:,.0f}" if amount >= 1000 else f"${amount:,.2f}"


def spell_seconds(seconds: float) -> str:
    """Write seconds with two decimals."""
    return "∞" if math.isinf(seconds) else f"{seconds:.2f}"


def spell_moment(at: float) -> str:
    """Write a moment, given in seconds since 1970, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%d %b %H:%M:%S}"
