"""Names beside points, as near as possible without overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.figures.style import FAINT, HALO, INK, MUTED, SMALLEST, is_composed
from analysis.figures.words import counted, display_names, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Boxes = NDArray[np.float64]
"""Rectangles in pixels, one a row: left, bottom, right, top."""

ANGLES = np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202])
DISTANCES = (5.0, 9.0, 14.0, 20.0, 28.0, 38.0, 50.0)
"""Points between a name and what it names."""
FARTHEST_WITHOUT_LINE = 9.0
MANY = 14
"""More names than this become numbers, and none goes far from its point: long lines would hide what they name."""


def numbers_for_names(names: Iterable[object], longest: int) -> tuple[dict[str, str], list[str]]:
    """Return what is written beside each point, and the list that explains it.

    A few names are written themselves, and need no list. Many are numbered, in the order of the alphabet.
    """
    distinct = sorted({str(name) for name in names})
    if len(distinct) <= MANY:
        return display_names(distinct, longest), []
    numbers = {name: str(turn) for turn, name in enumerate(distinct, start=1)}
    short = display_names(distinct, 40)
    return numbers, [f"{number}  {short[name]}" for name, number in numbers.items()]


def label_points(
    axis: Axes,
    x: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    *,
    bars: ArrayLike | None = None,
    colours: Sequence[str] | None = None,
    size: float = SMALLEST,
) -> list[str]:
    """Write names beside points; call it last, when the limits are set.

    Names are placed one after the other, those in the densest places first, each where it costs least: overlapping
    another name or leaving the panel is not allowed, covering points and bars costs, distance costs a little. A
    second round lets each move again, now that it knows the others. The order of the rows does not matter.

    Parameters
    ----------
    axis
        The panel.
    x, y
        Where the points are.
    names
        Their names, ready to print.
    bars
        Shape (bars, 4): rectangles to keep clear of, in data coordinates: left, bottom, right, top.
    colours
        Colours of the names.
    size
        Of the font, in points.

    Returns
    -------
    The names that found no room and were left out; the panel says how many.
    """
    from matplotlib.patheffects import withStroke

    if not len(names):
        return []
    figure = _lay_out(axis)
    scale = figure.dpi / 72
    points = axis.transData.transform(np.column_stack([np.asarray(x, float), np.asarray(y, float)]))
    panel = np.asarray(axis.bbox.extents)
    sizes = np.array([_extent(axis, name, size) for name in names])
    blocks = [_around(points, 2.6 * scale)]
    if bars is not None and len(np.atleast_2d(bars)):
        corners = np.atleast_2d(np.asarray(bars, dtype=np.float64))
        low, high = axis.transData.transform(corners[:, :2]), axis.transData.transform(corners[:, 2:])
        blocks.append(np.column_stack([np.minimum(low, high) - 2.5 * scale, np.maximum(low, high) + 2.5 * scale]))
    for text in axis.texts:
        box = text.get_window_extent()
        blocks.append(np.array([[box.x0, box.y0, box.x1, box.y1]]))
    if len(names) > MANY:
        # Room for saying how many names were left out.
        blocks.append(np.array([[panel[2] - 165 * scale, panel[1], panel[2], panel[1] + 11 * scale]]))
    blocked = np.vstack(blocks)

    near = np.linalg.norm(points[:, None] - points[None], axis=2)
    crowd = (near < 60 * scale).sum(axis=1)
    order = sorted(range(len(names)), key=lambda row: (-crowd[row], points[row][0], points[row][1], names[row]))
    choices = {row: _candidates(points[row], sizes[row], scale, len(names) > MANY) for row in order}
    placed: dict[int, int] = {}
    for _ in range(3):
        for row in order:
            placed.pop(row, None)
            boxes, distances = choices[row]
            others = np.array([choices[other][0][at] for other, at in placed.items()]).reshape(-1, 4)
            cost = 0.02 * distances * scale * sizes[row][1]
            cost = cost + _overlap(boxes, blocked).sum(axis=1)
            # A name nearer to another point than to its own would be read as that point's.
            reach = _distance(boxes, points)
            strangers = np.delete(reach, row, axis=1).min(axis=1, initial=np.inf)
            cost = cost + np.where(strangers < reach[:, row] + 2 * scale, 0.4, 0.0) * np.prod(sizes[row])
            forbidden = (_overlap(boxes, others) > 0).any(axis=1) | _outside(boxes, panel)
            cost = np.where(forbidden, np.inf, cost)
            best = int(np.argmin(cost))
            if np.isfinite(cost[best]) and cost[best] < (0.35 if len(names) > MANY else 0.75) * np.prod(sizes[row]):
                placed[row] = best
    for row, at in placed.items():
        boxes, distances = choices[row]
        box = boxes[at]
        middle = (box[:2] + box[2:]) / 2
        offset = (middle - points[row]) / scale
        line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2.5}
        axis.annotate(
            names[row], tuple(axis.transData.inverted().transform(points[row])), xytext=tuple(offset),
            textcoords="offset points", ha="center", va="center", fontsize=size, zorder=6,
            color=colours[row] if colours is not None else INK,
            arrowprops=line if distances[at] > FARTHEST_WITHOUT_LINE else None,
            path_effects=[withStroke(**HALO)],
        ).set_in_layout(False)  # fmt: skip
    left_out = sorted(names[row] for row in range(len(names)) if row not in placed)
    if left_out:
        written = np.array([choices[row][0][at] for row, at in placed.items()]).reshape(-1, 4)
        _say_left_out(axis, len(left_out), size, np.vstack([blocked, written]))
    return left_out


def _say_left_out(axis: Axes, count: int, size: float, blocked: Boxes) -> None:
    """Say how many names were left out: in the corner of the panel where least is covered."""
    said = f"{counted(count, 'name')} without room: see the table"
    extent = np.array(_extent(axis, said, size))
    panel = np.asarray(axis.bbox.extents)
    corners = [(1, 0), (0, 0), (1, 1), (0, 1)]
    lows = np.array([np.where(corner, panel[2:] - extent - 2, panel[:2] + 2) for corner in corners])
    covered = _overlap(np.column_stack([lows, lows + extent]), blocked).sum(axis=1)
    right, top = corners[int(np.argmin(covered))]
    axis.text(
        0.995 if right else 0.005, 0.995 if top else 0.005, said, transform=axis.transAxes, fontsize=size, color=MUTED,
        ha="right" if right else "left", va="top" if top else "bottom", zorder=6,
    )  # fmt: skip


def _lay_out(axis: Axes) -> Figure:
    """Give all panels of a figure their places, and return the figure; a figure that is laid out stays as it is.

    Names are placed in pixels. Laying many panels out takes seconds, so that it is done once, not for every panel.
    """
    from matplotlib.layout_engine import PlaceHolderLayoutEngine

    figure = axis.figure.get_figure(root=True)
    assert figure is not None
    if not isinstance(figure.get_layout_engine(), PlaceHolderLayoutEngine):
        figure.draw_without_rendering()
        if not is_composed():
            figure.set_layout_engine("none")
    return figure


def spread(wanted: ArrayLike, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Return places as near as can be to those wanted, at least a gap apart, between two ends.

    Neighbours that are too near are pooled around their mean, as in isotonic regression. If the ends leave no room for
    all gaps, the places are even.
    """
    target = np.asarray(wanted, dtype=np.float64)
    count = len(target)
    if count == 0:
        return target
    if (count - 1) * gap >= high - low:
        gap = (high - low) / max(1, count - 1)
    order = np.argsort(target, kind="stable")
    free = target[order] - gap * np.arange(count)
    blocks: list[list[float]] = []
    for place in free:
        blocks.append([float(place), 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, weight = blocks.pop()
            previous, before = blocks.pop()
            blocks.append([(mean * weight + previous * before) / (weight + before), weight + before])
    pooled = np.concatenate([np.full(int(weight), mean) for mean, weight in blocks])
    pooled = np.clip(pooled, low, high - gap * (count - 1)) + gap * np.arange(count)
    result = np.empty(count)
    result[order] = pooled
    return result


def name_lines(axis: Axes, at: float, heights: Sequence[float], names: Sequence[str], colours: Sequence[str]) -> None:
    """Write the names of lines beside their right ends, a line of text apart."""
    if list(names) == [""]:
        return
    figure = axis.figure.get_figure(root=True)
    assert figure is not None
    low, high = axis.get_ylim()
    figure.draw_without_rendering()
    gap = (SMALLEST + 2.0) / 72 * figure.dpi / axis.bbox.height * (high - low)
    for place, end, name, colour in zip(spread(heights, gap, low, high), heights, names, colours):
        axis.annotate(
            printable(name), (at, end), xytext=(at, place), textcoords="data", fontsize=SMALLEST, color=colour,
            va="center", ha="left", annotation_clip=False,
        )  # fmt: skip


def _extent(axis: Axes, name: str, size: float) -> tuple[float, float]:
    """Return the size of a name in pixels."""
    text = axis.text(0, 0, name, fontsize=size)
    box = text.get_window_extent()
    text.remove()
    return box.width + 2, box.height + 1


def _candidates(
    point: NDArray[np.float64], size: NDArray[np.float64], scale: float, many: bool
) -> tuple[Boxes, NDArray[np.float64]]:
    """Return possible positions of a name around its point, and their distances."""
    boxes, distances = [], []
    for distance in DISTANCES[:2] if many else DISTANCES:
        for angle in ANGLES:
            away = np.array([np.cos(angle), np.sin(angle)])
            # The nearest edge or corner of the name, not its middle, is that far from the point.
            middle = point + away * distance * scale + np.sign(np.round(away, 6)) * size / 2 * np.abs(away) ** 0.5
            boxes.append(np.concatenate([middle - size / 2, middle + size / 2]))
            distances.append(distance)
    return np.array(boxes), np.array(distances)


def _around(points: NDArray[np.float64], by: float) -> Boxes:
    return np.column_stack([points - by, points + by])


def _distance(boxes: Boxes, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance from each rectangle to each point; 0 within."""
    wide = np.maximum(boxes[:, None, 0] - points[None, :, 0], points[None, :, 0] - boxes[:, None, 2])
    tall = np.maximum(boxes[:, None, 1] - points[None, :, 1], points[None, :, 1] - boxes[:, None, 3])
    distance: NDArray[np.float64] = np.hypot(np.clip(wide, 0, None), np.clip(tall, 0, None))
    return distance


def _overlap(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Return the shared area of all pairs."""
    wide = np.minimum(boxes[:, None, 2], others[None, :, 2]) - np.maximum(boxes[:, None, 0], others[None, :, 0])
    tall = np.minimum(boxes[:, None, 3], others[None, :, 3]) - np.maximum(boxes[:, None, 1], others[None, :, 1])
    area: NDArray[np.float64] = np.clip(wide, 0, None) * np.clip(tall, 0, None)
    return area


def _outside(boxes: Boxes, panel: NDArray[np.float64]) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = (
        (boxes[:, 0] < panel[0]) | (boxes[:, 1] < panel[1]) | (boxes[:, 2] > panel[2]) | (boxes[:, 3] > panel[3])
    )
    return out
