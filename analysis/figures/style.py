"""The style of all figures: colours, sizes, order of drawing, labels.

matplotlib keeps its settings in one place for the whole process. Figures here are made and written inside
``drawing()``, which lends them fixed settings and puts the old ones back, one thread at a time; no figure is known
to pyplot, so none has to be closed, except those that a result's ``plot()`` opens for a user.
"""

from __future__ import annotations

import functools
import math
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.figures.tables import in_order, known_intervals
from analysis.figures.words import printable
from benchmark.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Fill = Literal["full", "none", "left"]

INK = "#1f2a37"
MUTED = "#5b6773"
FAINT = "#9aa5b1"
GRID = "#e6e9ed"
WARNING = "#a3333d"
PALE_WARNING = "#fbeceb"
COLOURS = {"natural": "#1b7f79", "synthetic": "#c8553d"}
OTHER_COLOURS = ("#35549b", "#9a6a00", "#7b3f8c", "#4d5b66", "#b0306a", "#2f7d32")
"""For conditions, or other series, that have no colour of their own."""
MARKERS = {"natural": "o", "synthetic": "s"}
OTHER_MARKERS = ("D", "^", "v", "P", "X", "<")
SHAPES = ("o", "s", *OTHER_MARKERS, ">", "p", "d", "h")
"""Markers of what is distinguished by shape alone, such as families of models."""
FILLS: tuple[Fill, ...] = ("full", "none", "left")
"""How markers are filled, in the order in which series take them."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 2)), (0, (3, 1, 1, 1)))
"""Lines of series that share a colour."""

WIDTH = 7.0
"""Inches: the text of an A4 page, and 672 pixels on a screen."""
TEXT = 8.5
SMALL = 7.5
SMALLEST = 7.0
HALO: dict[str, Any] = {"linewidth": 1.8, "foreground": "white"}
"""What keeps names readable where they cross lines."""

SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.titlepad": 5.0,
    "axes.labelsize": TEXT,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL + 0.5,
    "ytick.labelsize": SMALL + 0.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": TEXT,
    "lines.solid_capstyle": "butt",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "vimi",
    "svg.image_inline": True,
}

_one_at_a_time = threading.RLock()
_place: ContextVar[Any] = ContextVar("place", default=None)
"""Where the next figure is opened: None for one by itself, PYPLOT, or axes of somebody's figure that make room."""
PYPLOT = "pyplot"

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


@contextmanager
def drawing() -> Iterator[None]:
    """Lend matplotlib the settings of these figures, and put its own back."""
    import matplotlib

    with _one_at_a_time, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


@contextmanager
def drawing_into(axes: Axes | None) -> Iterator[None]:
    """Draw figures in place of these axes, or as new pyplot figures if there are none.

    Axes make room for panels: they are taken out of their figure, and a part of the figure stands where they were.
    """
    token = _place.set(PYPLOT if axes is None else axes)
    try:
        yield
    finally:
        _place.reset(token)


def is_composed() -> bool:
    """Say whether what is drawn is a part of somebody's figure, whose layout is theirs."""
    return _place.get() not in (None, PYPLOT)


def draws(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Make a function draw with the settings of these figures, whatever those of the process are."""

    @functools.wraps(function)
    def inside(*arguments: Arguments.args, **named: Arguments.kwargs) -> Returned:
        with drawing():
            return function(*arguments, **named)

    return inside


# ---------------------------------------------------------------- room


def wrapped(text: str, inches: float, size: float = SMALL) -> str:
    """Break text into lines that fit a width."""
    characters = max(12, int(inches * 72 / (size * 0.53)))
    return "\n".join(textwrap.wrap(printable(text), characters, break_long_words=True)) if text else ""


def limited(values: ArrayLike, include: Sequence[float] = (), margin: float = 0.05) -> tuple[float, float]:
    """Return limits of an axis that hold all finite values, with a margin, and are never the same."""
    every = np.concatenate([np.ravel(np.asarray(values, dtype=np.float64)), np.asarray(include, dtype=np.float64)])
    every = every[np.isfinite(every)]
    if not len(every):
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    span = high - low
    if span <= 1e-12 * max(1.0, abs(high)):
        span = max(abs(high), 1.0) * 0.2
    return low - margin * span, high + margin * span


# ---------------------------------------------------------------- looks


@dataclass(frozen=True)
class SeriesStyle:
    """How one series is drawn: a colour, a lighter one for its intervals, a marker and its fill, and a kind of line.

    Marker and fill differ between all series that share a colour, so nobody needs colour to tell them apart.
    """

    name: str
    colour: str
    marker: str
    fill: Fill = "full"
    dashes: Any = "-"

    def mark(self, size: float) -> dict[str, Any]:
        """Return the marker as keywords of ``Line2D``: white inside where it is not filled."""
        filled = self.fill == "full"
        edge = 0.5 if size >= 3 else 0.0
        return {
            "marker": self.marker, "markersize": size,
            "markerfacecolor": "white" if self.fill == "none" else self.colour,
            "markerfacecoloralt": "white", "fillstyle": "left" if self.fill == "left" else "full",
            "markeredgecolor": "white" if filled else self.colour, "markeredgewidth": edge if filled else 0.9,
        }  # fmt: skip

    @property
    def tint(self) -> str:
        """The colour of intervals."""
        return lighter(self.colour, 0.58)

    @property
    def pale(self) -> str:
        """The colour of bands."""
        return lighter(self.colour, 0.80)


def lighter(colour: str, by: float) -> str:
    """Mix a colour with white."""
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * by):02x}" for part in parts)


def series_styles(names: Iterable[object], first: Sequence[str] = ("natural", "synthetic")) -> dict[str, SeriesStyle]:
    """Return how each of several series is drawn; natural and synthetic look the same in every figure.

    Colour, marker and fill together repeat only after 108 other series.
    """
    styles = {}
    others = 0
    for name in in_order(names, first):
        if name in COLOURS:
            styles[name] = SeriesStyle(name, COLOURS[name], MARKERS[name])
        else:
            styles[name] = _other_look(name, others)
            others += 1
    return styles


def _other_look(name: str, turn: int) -> SeriesStyle:
    """Return the look of a series that has none by custom.

    Marker and fill differ between the first 18 whatever their colours; each further 18 shift the colours by one.
    """
    colours, markers = len(OTHER_COLOURS), len(OTHER_MARKERS)
    around, marker = divmod(turn, markers)
    shift, fill = divmod(around, len(FILLS))
    return SeriesStyle(
        name, OTHER_COLOURS[(turn + shift) % colours], OTHER_MARKERS[marker], FILLS[fill], DASHES[around % len(DASHES)]
    )


def shapes(names: Iterable[object]) -> dict[str, tuple[str, Fill]]:
    """Return a marker and a fill for each name, where colour already says something else; 36 differ."""
    distinct = sorted({str(name) for name in names})
    return {
        name: (SHAPES[turn % len(SHAPES)], FILLS[turn // len(SHAPES) % len(FILLS)])
        for turn, name in enumerate(distinct)
    }


# ---------------------------------------------------------------- figures


def open_figure(
    height: float,
    *,
    width: float = WIDTH,
    note: str = "",
    key: Sequence[tuple[Any, str]] = (),
    foot: Sequence[str] = (),
) -> Figure | SubFigure:
    """Return a figure with room at its head for a note and for a key of what is drawn, and at its foot for a list.

    Parameters
    ----------
    height, width
        Inches, without the head.
    note
        What must be said wherever these numbers appear: it stands in a strip above all else.
    key
        Handles and their names.
    foot
        Entries of a list, ready to print, set in columns below all panels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if is_composed():
        return _part_of_figure(_place.get(), note, key, foot)
    lines = wrapped(note[:1].upper() + note[1:], width - 0.3)
    strip = (0.12 + 0.145 * (lines.count("\n") + 1) + 0.06) if lines else 0.0
    widths = [0.40 + 0.074 * len(label) for _, label in key]
    columns = max(1, min(len(key), int((width - 0.2) / max(widths)))) if key else 1
    if sum(widths) <= width - 0.2:
        columns = max(1, len(key))
    rows = math.ceil(len(key) / columns)
    head = strip + (0.20 * rows + 0.05 if key else 0.0)
    entry = 0.2 + 0.056 * max(map(len, foot), default=0)
    foot_columns = max(1, min(len(foot), int((width - 0.1) / entry)))
    foot_rows = math.ceil(len(foot) / foot_columns)
    below = 0.145 * foot_rows + 0.1 if foot else 0.0
    whole = height + head + below
    if _place.get() == PYPLOT:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(width, whole), layout="constrained")
    else:
        figure = Figure(figsize=(width, whole), layout="constrained")
        FigureCanvasAgg(figure)
    figure.get_layout_engine().set(rect=(0, below / whole, 1, height / whole))  # type: ignore[union-attr, call-arg]
    for turn, text in enumerate(foot):
        column, row = divmod(turn, foot_rows)
        x, y = 0.1 + column * (width - 0.1) / foot_columns, 0.145 * (foot_rows - row - 1) + 0.07
        figure.text(x / width, y / whole, text, fontsize=SMALLEST, color=INK, va="bottom")
    if lines:
        figure.suptitle(
            lines, x=0.14 / width, y=1 - 0.09 / whole, ha="left", va="top", fontsize=SMALL, color=WARNING,
            linespacing=1.3, bbox={"facecolor": PALE_WARNING, "edgecolor": "none", "boxstyle": "square,pad=0.4"},
        )  # fmt: skip
    if key:
        handles = [handle for handle, _ in key]
        figure.legend(
            handles, [printable(label) for _, label in key], loc="upper left", ncols=columns,
            bbox_to_anchor=(0.03 / width, 1 - strip / whole), borderaxespad=0.1, handlelength=1.6, columnspacing=1.6,
            handletextpad=0.6, labelspacing=0.3,
        )  # fmt: skip
    return figure


def _part_of_figure(axes: Axes, note: str, key: Sequence[tuple[Any, str]], foot: Sequence[str]) -> SubFigure:
    """Put a part of a figure in the place of axes, with note, key and list around its panels.

    Raises
    ------
    AnalysisError
        If the axes stand in no grid.
    """
    place = axes.get_subplotspec()
    if place is None:
        raise AnalysisError(
            "These axes are not in a grid, so vimi can't put panels there. Make them with plt.subplots() or "
            "figure.add_subplot()."
        )
    whole = axes.figure
    inches = float(axes.get_position().width * whole.bbox.width / whole.get_figure(root=True).dpi)
    axes.remove()
    part: SubFigure = whole.add_subfigure(place)
    if note:
        part.suptitle(wrapped(note[:1].upper() + note[1:], inches), fontsize=SMALL, color=WARNING, linespacing=1.3)
    if key:
        part.legend(
            [handle for handle, _ in key], [printable(label) for _, label in key], loc="outside upper left",
            ncols=max(1, min(len(key), int(inches / 1.6))), fontsize=SMALL, handlelength=1.6,
        )  # fmt: skip
    if foot:
        part.supxlabel(wrapped("   ".join(foot), inches, SMALLEST), fontsize=SMALLEST, color=INK)
    return part


def key_of(styles: Iterable[SeriesStyle]) -> list[tuple[Any, str]]:
    """Return the key of several series: interval and point of each."""
    from matplotlib.lines import Line2D

    return [
        (
            Line2D([], [], color=look.tint, linewidth=5, **look.mark(4.5)),
            look.name,
        )
        for look in styles
    ]


def shape_key(name: str, marker: str, fill: Fill) -> tuple[Any, str]:
    """Return the entry of a key for what is distinguished by the shape of its marker alone."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", **SeriesStyle(name, MUTED, marker, fill).mark(5)), name


def hollow_key(label: str, marker: str = "D") -> tuple[Any, str]:
    """Return the entry of hollow marks in a key."""
    from matplotlib.lines import Line2D

    return (
        Line2D([], [], linestyle="none", marker=marker, markersize=5, markerfacecolor="none", markeredgecolor=INK,
               markeredgewidth=0.9),
        label,
    )  # fmt: skip


def tidy(axis: Axes, grid: str = "y") -> None:
    """Leave out what carries no information."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(FAINT)
    if grid:
        axis.grid(axis=grid)  # type: ignore[arg-type]
    if grid == "x":
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axis.set_axisbelow(True)


def few_ticks(axis: Axes, which: str = "x", most: int = 5) -> None:
    """Set ticks at few round numbers."""
    from matplotlib.ticker import MaxNLocator

    (axis.xaxis if which == "x" else axis.yaxis).set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))


def title(axis: Axes, text: str, inches: float = WIDTH, colour: str = INK) -> None:
    """Write what a panel shows above its left edge."""
    axis.set_title(wrapped(text, inches, TEXT), loc="left", color=colour)


def draw_intervals(
    axis: Axes,
    positions: ArrayLike,
    table: pd.DataFrame,
    look: SeriesStyle,
    *,
    across: bool = False,
    columns: tuple[str, str, str] = ("value", "low", "high"),
    width: float = 5.0,
    point: float = 4.5,
    unbounded: bool = True,
) -> None:
    """Draw intervals as broad bars and, on them, small points.

    A row without an interval gets a dotted line over the whole panel; with ``unbounded`` false, a pale point alone.

    Parameters
    ----------
    axis
        Where to draw; its limits along the values should be set already.
    positions
        Where each row stands, on the other axis.
    table
        Rows with the columns of value and ends of the interval.
    look
        How the series is drawn.
    across
        Whether values run from left to right; otherwise from below to above.
    columns
        Names of the columns of value and ends of the interval.
    width, point
        Points: breadth of the bars, size of the marks. A point of 0 draws none.
    """
    places = np.asarray(positions, dtype=np.float64)
    value, low, high = (table[name].to_numpy(np.float64) for name in columns)
    known = known_intervals(table, columns[1], columns[2])
    if known.any():
        bars = separated(low[known], high[known]), np.repeat(places[known], 3)
        axis.plot(*(bars if across else bars[::-1]), color=look.tint, linewidth=width, zorder=2)
    for place in places[~known & ~np.isnan(value) & unbounded]:
        line = axis.axhline if across else axis.axvline
        line(place, color=look.colour, linewidth=1.0, linestyle=(0, (1, 2)), zorder=2)
    if not point:
        return
    for chosen, own in ((known | unbounded, look), (~known & (not unbounded), replace(look, colour=look.tint))):
        points = (value[chosen], places[chosen]) if across else (places[chosen], value[chosen])
        if chosen.any():
            axis.plot(*points, linestyle="none", color=own.colour, zorder=4, **own.mark(point))


def separated(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return both ends of each interval, with a gap after them, so that one path draws all intervals."""
    return np.column_stack([low, high, np.full(len(low), np.nan)]).ravel()


def draw_band(axis: Axes, x: ArrayLike, value: ArrayLike, low: ArrayLike, high: ArrayLike, look: SeriesStyle) -> None:
    """Draw a curve: the band of its interval, and a line in it."""
    axis.fill_between(x, low, high, color=look.pale, linewidth=0, zorder=1.5)
    axis.plot(x, value, color=look.colour, linewidth=1.3, linestyle=look.dashes, zorder=3)


def mark_level(
    axis: Axes,
    at: float,
    label: str = "",
    *,
    across: bool = False,
    colour: str = MUTED,
    inside: bool = False,
    right: bool = False,
) -> None:
    """Draw a dashed line at a level, such as chance; ``across`` as in ``draw_intervals``.

    A label of a line upwards stands above the panel, or ``inside``, where a title is above it; one of a
    line across stands at its left end, or at its ``right``.
    """
    line = axis.axvline if across else axis.axhline
    line(at, color=colour, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.2)
    if not label:
        return
    if across and inside:
        axis.annotate(
            printable(label), (at, 1.0), xycoords=axis.get_xaxis_transform(), xytext=(3, -1),
            textcoords="offset points", fontsize=SMALLEST, color=colour, va="top",
        )  # fmt: skip
    elif across:
        axis.text(
            at, 1.0, printable(label), transform=axis.get_xaxis_transform(), fontsize=SMALLEST, color=colour,
            va="bottom", ha="center",
        )  # fmt: skip
    else:
        axis.annotate(
            printable(label), (float(right), at), xycoords=axis.get_yaxis_transform(), xytext=(-4 if right else 4, 2),
            textcoords="offset points", fontsize=SMALLEST, color=colour, va="bottom", ha="right" if right else "left",
        )  # fmt: skip


def name_rows(axis: Axes, names: Sequence[str], positions: ArrayLike | None = None, size: float | None = None) -> None:
    """Write names beside rows, first row on top, and set the limits so that every row has the same room."""
    places = np.arange(len(names)) if positions is None else np.asarray(positions)
    axis.set_yticks(places, names, fontsize=size or SMALL + 0.5)
    axis.set_ylim(len(names) - 0.5, -0.5)


def stripe_rows(axis: Axes, rows: int) -> None:
    """Shade every other row, to lead the eye."""
    for row in range(1, rows, 2):
        axis.axhspan(row - 0.5, row + 0.5, color="#f5f7f9", linewidth=0, zorder=0)


def dodge(count: int, room: float = 0.56) -> NDArray[np.float64]:
    """Return where several series stand within one row."""
    return np.zeros(1) if count == 1 else np.linspace(-room / 2, room / 2, count)


def hide(axis: Axes) -> None:
    """Hide an empty panel."""
    axis.set_axis_off()


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round places between two positive numbers, for a logarithmic axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    best: list[float] = []
    for mantissas in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        step = 1 if len(mantissas) > 1 else max(1, math.ceil((last - first) / most))
        places = [m * 10.0**power for power in range(first, last + 1, step) for m in mantissas]
        inside = [place for place in places if low <= place <= high]
        if len(inside) > most:
            break
        best = inside
    if len(best) < 2:
        from matplotlib.ticker import MaxNLocator

        best = [float(x) for x in MaxNLocator(min(4, most)).tick_values(low, high) if low <= x <= high and x > 0]
    return best
