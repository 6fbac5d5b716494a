"""Figures: they take estimates and return axes, and compute no statistics of their own.

Every function takes tables as its docstring says (the data behind the figure, ready to be saved beside it) and returns
matplotlib axes, for ``save_figure`` and ``figure_as_svg``. matplotlib is loaded when the first figure is drawn.
"""

from __future__ import annotations

from analysis.figures.agreement import plot_calibration, plot_human_machine, plot_reliability_curve
from analysis.figures.design import plot_design_frontier, plot_power
from analysis.figures.estimates import plot_estimates, plot_residuals
from analysis.figures.machine_scores import plot_machine_scores, why_no_regression
from analysis.figures.models import (
    plot_model_comparison,
    plot_natural_against_synthetic,
    plot_ranks,
    plot_unit_distribution,
)
from analysis.figures.output import figure_as_svg, figure_of, save_figure
from analysis.figures.pool_sizes import plot_pool_sizes
from analysis.figures.robustness import (
    plot_guessing,
    plot_intervals_compared,
    plot_specification_curve,
    plot_variance_components,
)
from analysis.figures.scaling import plot_leverage, plot_margins, plot_prior_sweep, plot_scaling
from analysis.figures.tasks import plot_confidence, plot_difficulty, plot_layers

__all__ = [
    "figure_as_svg",
    "figure_of",
    "plot_calibration",
    "plot_confidence",
    "plot_design_frontier",
    "plot_difficulty",
    "plot_estimates",
    "plot_guessing",
    "plot_human_machine",
    "plot_intervals_compared",
    "plot_layers",
    "plot_leverage",
    "plot_machine_scores",
    "plot_margins",
    "plot_model_comparison",
    "plot_natural_against_synthetic",
    "plot_pool_sizes",
    "plot_power",
    "plot_prior_sweep",
    "plot_ranks",
    "plot_reliability_curve",
    "plot_residuals",
    "plot_scaling",
    "plot_specification_curve",
    "plot_unit_distribution",
    "plot_variance_components",
    "save_figure",
    "why_no_regression",
]
