"""Scores of machine observers against the size of the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.style import (
    COLOURS,
    FAINT,
    INK,
    SMALL,
    SMALLEST,
    WIDTH,
    SeriesStyle,
    draws,
    limited,
    mark_level,
    open_figure,
    tidy,
)
from analysis.figures.tables import check_numbers, check_table, known_intervals
from analysis.figures.words import display_names, quantity
from benchmark.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANCE = 0.5
SERIES = {
    "low_level": SeriesStyle("low-level observer", FAINT, "D"),
    "score": SeriesStyle("trained", COLOURS["natural"], "o"),
    "twin": SeriesStyle("random-weight twin", INK, "s", "none"),
}
"""How each quantity is drawn, from left to right."""
APART = 0.03
"""Between the series of one size, as a share of the panel's width."""
ROOM = 0.35
"""Beside the smallest and the largest size, in halvings."""


@draws
def plot_pool_sizes(table: pd.DataFrame, *, note: str = "") -> NDArray[Any]:
    """Plot proportion correct against the size of the pool, a panel for each model and observer.

    Trained model, random-weight twin and low-level observer stand side by side at every size. Each size is a protocol
    of its own, which is why this is a figure and not a column of a table.

    Parameters
    ----------
    table
        One row a model, observer, size and quantity: ``model``, ``observer``, ``pool_size``, ``quantity`` (``score``,
        ``twin``, ``low_level``; rows of other quantities are left out), ``value``, ``low``, ``high``, as from
        :meth:`analysis.machines.PoolSizeCurve.frame`; it must be of one condition, difficulty and kind of references.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, one a model and observer.

    Raises
    ------
    AnalysisError
        If the table has no score, lacks columns, mixes conditions, or holds a value outside its interval.
    """
    own = check_table(table, "pool sizes", ["model", "observer", "pool_size", "quantity"])
    own = own[own["quantity"].isin(SERIES)].reset_index(drop=True)
    if not (own["quantity"] == "score").any():
        raise AnalysisError(
            "The figure 'pool sizes' has nothing to show: its table has no row of the quantity 'score'."
        )
    for name in ("condition", "difficulty", "references"):
        if name in own.columns and own[name].nunique() > 1:
            raise AnalysisError(
                f"The figure 'pool sizes' shows one {name} at a time, but its table has "
                f"{', '.join(sorted(map(str, own[name].unique())))}: draw one figure for each."
            )
    check_numbers(own, "pool sizes", ["pool_size"])
    panels = sorted(set(zip(own["model"].astype(str), own["observer"].astype(str))))
    columns = len(panels) if len(panels) <= 3 else 2 if len(panels) == 4 else 3
    rows = -(-len(panels) // columns)
    present = {name: look for name, look in SERIES.items() if (own["quantity"] == name).any()}
    key = [_entry(present[name]) for name in ("score", "twin", "low_level") if name in present]
    width = WIDTH if columns > 1 else 4.6
    figure = open_figure(rows * (2.5 if columns > 1 else 3.1) + 0.2, width=width, note=note, key=key)
    axes = np.ravel(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    shown = [own["value"].to_numpy(), own.loc[known_intervals(own), ["low", "high"]].to_numpy().ravel()]
    low, high = limited(np.concatenate(shown), [CHANCE], 0.05)
    axes[0].set_ylim(low, min(high, 1.02))
    sizes = sorted((int(size) for size in own["pool_size"].unique()), reverse=True)
    ticks = sizes[:: -(-len(sizes) // (8 if columns == 1 else 5))]
    axes[0].set_xscale("log", base=2)
    axes[0].set_xlim(sizes[-1] / 2**ROOM, sizes[0] * 2**ROOM)
    axes[0].set_xticks(ticks, [f"{size:,}" if size < 10_000 else quantity(size) for size in ticks])
    names = display_names((name for panel in panels for name in panel), int((width / columns - 0.35) * 15))
    for turn, axis in enumerate(axes):
        if turn >= len(panels):
            axis.set_axis_off()
            # The panel above is then the lowest of its column, and carries the ticks.
            axes[turn - columns].tick_params(labelbottom=True)
            axes[turn - columns].set_xlabel("pictures in the pool (log scale)", fontsize=SMALL)
            continue
        model, observer = panels[turn]
        part = own[(own["model"].astype(str) == model) & (own["observer"].astype(str) == observer)]
        _draw_panel(axis, part, present, APART * (np.log2(sizes[0] / sizes[-1]) + 2 * ROOM))
        # Nearly all answers are better over larger pools, so that there is room at the right.
        mark_level(axis, CHANCE, "chance" if turn == 0 else "", right=True)
        axis.set_title(f"{names[model]}\nby {names[observer]}", loc="left", fontsize=SMALL + 0.5)
        tidy(axis)
        if turn % columns == 0:
            axis.set_ylabel("proportion correct,\n95 % interval over units", fontsize=SMALL)
        if turn >= len(axes) - columns:
            axis.set_xlabel("pictures in the pool (log scale)", fontsize=SMALL)
    return axes[: len(panels)]


def _entry(look: SeriesStyle) -> tuple[Any, str]:
    """Return an entry of the key."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=look.tint, linewidth=5, **look.mark(4.5)), look.name


def _draw_panel(axis: Axes, table: pd.DataFrame, present: dict[str, SeriesStyle], apart: float) -> None:
    """Draw one model's series, so many halvings apart."""
    axis.minorticks_off()
    axis.tick_params(axis="x", labelsize=SMALLEST)
    offsets = apart * (np.arange(len(present)) - (len(present) - 1) / 2)
    for offset, (name, look) in zip(offsets, present.items()):
        rows = table[table["quantity"] == name].sort_values("pool_size")
        if rows.empty:
            continue
        x = rows["pool_size"].to_numpy(np.float64) * 2**offset
        known = known_intervals(rows)
        low, high = (rows[end].to_numpy(np.float64)[known] for end in ("low", "high"))
        axis.vlines(x[known], low, high, color=look.tint, linewidth=4.0, zorder=2)
        axis.plot(x, rows["value"], color=look.colour, linewidth=0.9, zorder=3, **look.mark(4.0))
