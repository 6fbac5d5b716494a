"""Figures: they take estimates and return axes, and compute no statistics of their own."""

from __future__ import annotations

from analysis.figures.machine_scores import LEAST_DECADES, LEAST_MODELS, plot_machine_scores, why_no_regression
from analysis.figures.output import figure_as_svg, save_figure

__all__ = [
    "LEAST_DECADES",
    "LEAST_MODELS",
    "figure_as_svg",
    "plot_machine_scores",
    "save_figure",
    "why_no_regression",
]
