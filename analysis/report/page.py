"""The page: sections as one HTML file that needs nothing else, can be printed, and carries its data."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report.document import Report, ReportTable
from benchmark import __version__
from benchmark.estimate import Estimate
from benchmark.plumbing import PLUMBING

FEW_ROWS = 24
"""Longer tables are folded."""

WIDTH, HEIGHT = 92, 14
"""Size of the drawing of an interval in a cell, in CSS pixels."""

MOST_DRAWN = 3
"""Tables with more columns of estimates are too wide for drawings."""

LONG_WORD = 18
"""Longer words may be broken anywhere, but not into narrow columns."""

WIDE = 8
"""Tables with more columns are set smaller, and have no room for drawings."""

MOST_FINDINGS = 8
"""Findings of a section that are shown at once; the others are folded below them."""

NOTHING = Markup("")


@dataclass(frozen=True)
class PageCell:
    """A cell as the page shows it: its text, the drawing of its interval, and whether it is a number."""

    text: str
    drawing: Markup
    number: bool = False
    hint: str = ""

    @property
    def kind(self) -> str:
        """How the cell is set: a number in one line; a text with a long word, such as a name, broken where need be."""
        if self.number:
            return "number"
        return "name" if max(map(len, self.text.split()), default=0) > LONG_WORD else ""


def render_page(report: Report) -> str:
    """Return the report as one HTML page."""
    environment = Environment(
        loader=PackageLoader("analysis", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    loader = environment.loader
    assert loader is not None
    style, _, _ = loader.get_source(environment, "style.css")
    return environment.get_template("page.html").render(
        report=report, style=Markup(style), cells=cells_of, methods=methods_of, csv=csv_link, markup=Markup,
        few=FEW_ROWS, wide=WIDE, shown=MOST_FINDINGS, plumbing=PLUMBING, version=__version__,
        manifest=json.dumps(report.manifest, indent=1, default=str),
    )  # fmt: skip


def cells_of(table: ReportTable) -> list[list[PageCell]]:
    """Return the cells of a table; intervals of one column are drawn on one scale, where there is room for it."""
    holding = [name for name in table.frame if any(isinstance(cell, Estimate) for cell in table.frame[name])]
    room = len(holding) <= MOST_DRAWN and len(table.frame.columns) <= WIDE
    scales = {name: _scale(table.frame[name]) if room else None for name in table.frame.columns}
    return [[_cell(row[name], scales[name]) for name in table.frame.columns] for _, row in table.frame.iterrows()]


def methods_of(table: ReportTable) -> list[str]:
    """Return how the intervals of a table were computed and what they generalise to, each said once."""
    found: dict[str, None] = {}
    for name in table.frame.columns:
        for cell in table.frame[name]:
            if isinstance(cell, Estimate):
                text = f"{cell.unit}: {cell.method}"
                text += f", {100 * cell.level:g} %" if "%" not in cell.method and "no interval" not in text else ""
                text += f"; for {cell.estimand}" if cell.estimand else ""
                found[text] = None
    return list(found)


def csv_link(frame: pd.DataFrame) -> str:
    """Return a table as a link that holds it, so that the page alone is enough."""
    text = flat(frame).to_csv(index=False, lineterminator="\n")
    return "data:text/csv;charset=utf-8;base64," + b64encode(text.encode()).decode()


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with each column of estimates spread into value, low, high, n and method."""
    parts: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        if not any(isinstance(cell, Estimate) for cell in column):
            parts[str(name)] = column.to_numpy()
            continue
        for field in ("value", "low", "high", "n", "method"):
            label = str(name) if field == "value" else f"{name}_{field}"
            parts[label] = [getattr(cell, field) if isinstance(cell, Estimate) else None for cell in column]
    return pd.DataFrame(parts)


def _scale(column: pd.Series) -> tuple[float, float] | None:
    """Return the ends of the scale on which a column's intervals are drawn; None if it has fewer than two."""
    ends = [end for cell in column if isinstance(cell, Estimate) for end in (cell.low, cell.high)]
    finite = [end for end in ends if math.isfinite(end)]
    if len(ends) < 4 or not finite or min(finite) == max(finite):
        return None
    return min(finite), max(finite)


def _cell(value: Any, scale: tuple[float, float] | None) -> PageCell:
    if isinstance(value, Estimate):
        hint = f"n = {value.n:,}. {value.method}. {value.estimand}".strip()
        return PageCell(str(value), draw_interval(value, scale) if scale else NOTHING, True, hint)
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return PageCell("–", NOTHING)
    if isinstance(value, bool | np.bool_):
        return PageCell("yes" if value else "no", NOTHING)
    if isinstance(value, int | np.integer):
        return PageCell(f"{value:,}", NOTHING, number=True)
    if isinstance(value, float | np.floating):
        return PageCell(spell_number(float(value)), NOTHING, number=True)
    return PageCell(str(value), NOTHING)


def spell_number(value: float) -> str:
    """Write a number with three significant digits, as papers do."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) >= 1:
        return f"{int(value):,}"
    if abs(value) < 1:
        # As estimates write them: no zero before the point.
        return f"{value:.3f}".replace("0.", ".", 1) if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def draw_interval(estimate: Estimate, scale: tuple[float, float]) -> Markup:
    """Draw an interval as SVG on a scale with the given ends: a bar for what is uncertain, a tick for the value."""
    low, high = scale
    span = high - low

    def at(value: float) -> float:
        return round(3 + (WIDTH - 6) * (min(max(value, low), high) - low) / span, 1)

    left, right, middle = at(estimate.low), at(estimate.high), at(estimate.value)
    zero = ""
    if low < 0 < high:
        zero = f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="0" y2="{HEIGHT}"/>'
    return Markup(
        f'<svg class="interval" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">{zero}'
        f'<rect x="{left}" y="4" width="{max(right - left, 1):.1f}" height="6" rx="3"/>'
        f'<line class="value" x1="{middle}" x2="{middle}" y1="2" y2="12"/></svg>'
    )
