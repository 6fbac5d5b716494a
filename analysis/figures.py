"""Figures: they take estimates and return axes, and compute no statistics of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from analysis.performance import MachineScore
from benchmark.estimate import Estimate
from benchmark.storage import write_atomically

INK = "#1f2a37"
FAINT = "#9aa5b1"
COLOURS = {"natural": "#1b7f79", "synthetic": "#c8553d"}
LEAST_MODELS = 5
LEAST_DECADES = 0.5
"""Fewer models, or models over a shorter range, carry no regression on size."""


def why_no_regression(parameters: Sequence[int]) -> str:
    """Say why a regression on model size would be meaningless, or return nothing if it would not be."""
    distinct = sorted(set(parameters))
    if len(distinct) < 2:
        return "One model: nothing to regress on."
    decades = float(np.log10(distinct[-1] / distinct[0]))
    if len(distinct) < LEAST_MODELS or decades < LEAST_DECADES:
        return f"{len(distinct)} models over {decades:.2f} decades of parameters carry no regression: no line is drawn."
    return ""


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
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    conditions = sorted({score.condition for score in scores})
    figure, axes = pyplot.subplots(
        1, len(conditions), figsize=(4.6 * len(conditions) + 0.6, 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, condition in zip(axes[0], conditions):
        own = sorted((s for s in scores if s.condition == condition), key=lambda s: parameters[s.model])
        positions = np.array([parameters[score.model] / 1e6 for score in own])
        colour = COLOURS.get(condition, INK)
        step = 0.008
        _points(axis, positions * 10**-step, [score.low_level for score in own], FAINT, "D", "low-level observer")
        _points(axis, positions, [score.score for score in own], colour, "o", "trained")
        _points(axis, positions * 10**step, [score.twin for score in own], INK, "s", "random-weight twin", hollow=True)
        axis.axhline(0.5, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        axis.set_xscale("log")
        axis.set_xlim(positions.min() * 0.93, positions.max() * 1.07)
        axis.set_xticks(positions, [f"{_short_name(s.model)}\n{p:.2f} M" for s, p in zip(own, positions)])
        axis.minorticks_off()
        axis.set_title(f"{condition} references", loc="left", fontsize=11, color=INK)
        axis.set_xlabel("parameters (log scale)")
        axis.text(
            0.0, -0.26, why_no_regression([parameters[score.model] for score in own]), transform=axis.transAxes,
            fontsize=7.5, color=INK, va="top", wrap=True,
        )  # fmt: skip
        _tidy(axis)
    axes[0, 0].set_ylabel("proportion correct, 95 % interval over units")
    axes[0, 0].set_ylim(*_limits(scores))
    axes[0, 0].text(
        0.01, 0.505, "chance", transform=axes[0, 0].get_yaxis_transform(), fontsize=8, color=FAINT, va="bottom"
    )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    if note:
        figure.suptitle(note.capitalize(), x=0.99, ha="right", fontsize=9, color="#a3333d")
    return axes[0]


def save_figure(axes: Any, path: Path) -> None:
    """Write the figure that axes belong to as PNG, and close it."""
    from matplotlib import pyplot

    figure = np.ravel(axes)[0].figure
    write_atomically(path, lambda target: figure.savefig(target, format="png", dpi=160))
    pyplot.close(figure)


def _points(
    axis: Any,
    positions: Any,
    estimates: Sequence[Estimate | None],
    colour: str,
    marker: str,
    label: str,
    hollow: bool = False,
) -> None:
    """Draw estimates with their intervals."""
    known = [(x, e) for x, e in zip(positions, estimates) if e is not None]
    if not known:
        return
    x = np.array([position for position, _ in known])
    values = np.array([[e.value, e.value - e.low, e.high - e.value] for _, e in known])
    axis.errorbar(
        x, values[:, 0], yerr=values[:, 1:].T, fmt=marker, color=colour, ecolor=colour, elinewidth=1.4, capsize=0,
        markersize=6, markerfacecolor="white" if hollow else colour, label=label,
    )  # fmt: skip


def _limits(scores: Sequence[MachineScore]) -> tuple[float, float]:
    """Return the limits of proportions correct: from .3, or wherever the lowest interval ends, to just above 1."""
    shown = [e for score in scores for e in (score.low_level, score.score, score.twin) if e is not None]
    margin = 0.02
    return min([0.3, *(e.low - margin for e in shown)]), max([1.0, *(e.high for e in shown)]) + margin


def _short_name(model: str) -> str:
    return model.replace("efficientnet_", "")


def _tidy(axis: Any) -> None:
    """Leave out what carries no information."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(FAINT)
    axis.tick_params(colors=INK, labelsize=8)
    axis.grid(axis="y", color="#e6e9ed", linewidth=0.8)
    axis.set_axisbelow(True)
