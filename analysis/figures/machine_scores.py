"""Scores of machine observers against model size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures.labels import label_points
from analysis.figures.style import (
    FAINT,
    INK,
    MUTED,
    SMALLEST,
    WIDTH,
    draws,
    lighter,
    log_ticks,
    mark_level,
    open_figure,
    series_styles,
    tidy,
    title,
    wrapped,
)
from analysis.figures.tables import in_order
from analysis.figures.words import display_names
from analysis.scaling.predictors import LEAST_MODELS, PREDICTORS
from benchmark.errors import AnalysisError

if TYPE_CHECKING:
    from analysis.machines.performance import MachineScore
    from benchmark.estimate import Estimate


def why_no_regression(sizes: Mapping[str, float | None]) -> str:
    """Say why models of these sizes support no slope, by the rule of ``fit_scaling``, or return nothing if they do.

    Parameters
    ----------
    sizes
        Number of parameters of each model; None where it is not known.
    """
    known = [float(size) for size in sizes.values() if size and not math.isnan(size)]
    unknown = len(sizes) - len(known)
    beside = f" ({unknown} more of unknown size)" if unknown else ""
    if not known:
        return f"No slope on size: the number of parameters is known of none of {len(sizes)} models." if sizes else ""
    if len(known) == 1:
        return f"No slope on size: there is 1 model of known size{beside}."
    distinct = sorted(set(known))
    if len(distinct) == 1:
        return f"No slope on size: all {len(known)} models have the same number of parameters{beside}."
    decades = math.log10(distinct[-1] / distinct[0])
    least = PREDICTORS["parameters"].least_range
    models = f"{len(known)} models" + (f" of {len(distinct)} sizes" if len(distinct) < len(known) else "")
    if len(distinct) < LEAST_MODELS or decades < least:
        return (
            f"No slope on size: {models} over {decades:.2f} decades of parameters{beside}; a slope needs "
            f"{LEAST_MODELS} models over {least:g} decades."
        )
    return ""


@draws
def plot_machine_scores(scores: Sequence[MachineScore], parameters: dict[str, int], note: str = "") -> Any:
    """Plot proportion correct against model size, with twins and the low-level observer beside.

    Parameters
    ----------
    scores
        The scores of one observer a model.
    parameters
        Parameters of each model.
    note
        What must be said wherever these numbers appear.

    Returns
    -------
    The matplotlib axes, one per condition.

    Raises
    ------
    AnalysisError
        If there are no scores.
    """
    if not scores:
        raise AnalysisError("The figure 'machine scores' has nothing to show: there are no scores.")
    conditions = in_order(score.condition for score in scores)
    narrow = (WIDTH - 0.7) / max(2, len(conditions))
    key = [_entry(FAINT, "D", "low-level observer"), _entry(MUTED, "o", "trained")]
    key.append(_entry(INK, "s", "random-weight twin", hollow=True))
    present = [any(s.low_level is not None for s in scores), True, any(s.twin is not None for s in scores)]
    figure = open_figure(
        3.5, width=0.7 + narrow * len(conditions), note=note, key=[one for one, there in zip(key, present) if there]
    )
    axes = figure.subplots(1, len(conditions), sharey=True, squeeze=False)[0]
    axes[0].set_ylim(*_limits(scores))
    axes[0].set_ylabel("proportion correct, 95 % interval over units")
    styles = series_styles(conditions)
    labels = []
    for axis, condition in zip(axes, conditions):
        own = sorted((s for s in scores if s.condition == condition), key=lambda s: (parameters[s.model], s.model))
        positions = np.array([parameters[score.model] / 1e6 for score in own])
        low, high = float(positions.min()), float(positions.max())
        decades = float(np.log10(high / low))
        step = max(0.004, 0.018 * decades)
        _points(axis, positions * 10**-step, [score.low_level for score in own], FAINT, "D")
        _points(axis, positions, [score.score for score in own], styles[condition].colour, "o")
        _points(axis, positions * 10**step, [score.twin for score in own], INK, "s", hollow=True)
        mark_level(axis, 0.5, "chance" if axis is axes[0] else "")
        axis.set_xscale("log")
        room = 10 ** max(0.03, 0.14 * decades)
        axis.set_xlim(low / room, high * room)
        ticks = log_ticks(low / room, high * room, 5)
        axis.set_xticks(ticks, [f"{tick:.3g} M" for tick in ticks])
        axis.minorticks_off()
        title(axis, f"{condition} references", colour=styles[condition].colour)
        axis.set_xlabel("parameters (log scale)")
        reason = why_no_regression({score.model: parameters[score.model] for score in own})
        if reason:
            axis.text(
                0.5, 0.01, wrapped(reason, narrow - 0.5, SMALLEST), transform=axis.transAxes, fontsize=SMALLEST,
                color=MUTED, va="bottom", ha="center",
            )  # fmt: skip
        tidy(axis)
        labels.append((axis, positions, own))
    for axis, positions, own in labels:
        ends = [(x, e) for x, s in zip(positions, own) for e in (s.low_level, s.score, s.twin) if e is not None]
        shown = display_names(_short_name(s.model) for s in own)
        label_points(
            axis, positions, [s.score.value for s in own],
            [shown[_short_name(s.model)] for s in own],
            bars=[(x * 10**-0.002, e.low, x * 10**0.002, e.high) for x, e in ends],
        )  # fmt: skip
    return axes


def _entry(colour: str, marker: str, label: str, hollow: bool = False) -> tuple[Any, str]:
    """Return an entry of the key."""
    from matplotlib.lines import Line2D

    return (
        Line2D([], [], color=lighter(colour, 0.58), linewidth=5, marker=marker, markersize=4.5,
               markerfacecolor="white" if hollow else colour, markeredgecolor=colour if hollow else "white"),
        label,
    )  # fmt: skip


def _points(
    axis: Any,
    positions: Any,
    estimates: Sequence[Estimate | None],
    colour: str,
    marker: str,
    hollow: bool = False,
) -> None:
    """Draw estimates with their intervals."""
    known = [(x, e) for x, e in zip(positions, estimates) if e is not None]
    if not known:
        return
    x = np.array([position for position, _ in known])
    values = np.array([[e.value, e.value - e.low, e.high - e.value] for _, e in known])
    axis.errorbar(
        x, values[:, 0], yerr=values[:, 1:].T, fmt=marker, color=colour, ecolor=lighter(colour, 0.58), elinewidth=4.5,
        capsize=0, markersize=4.5, markerfacecolor="white" if hollow else colour,
        markeredgecolor=colour if hollow else "white", markeredgewidth=0.8 if hollow else 0.5, zorder=3,
    )  # fmt: skip


def _limits(scores: Sequence[MachineScore]) -> tuple[float, float]:
    """Return the limits of proportions correct: from .3, or wherever the lowest interval ends, to just above 1."""
    shown = [e for score in scores for e in (score.low_level, score.score, score.twin) if e is not None]
    margin = 0.02
    return min([0.3, *(e.low - margin for e in shown)]), max([1.0, *(e.high for e in shown)]) + margin


def _short_name(model: str) -> str:
    return model.replace("efficientnet_", "")
