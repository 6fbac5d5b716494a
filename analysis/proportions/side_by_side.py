"""Every interval for one proportion, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack, get_args

import numpy as np
import pandas as pd

from analysis.estimands import Drawing
from analysis.proportions.answers import read_answers
from analysis.proportions.bootstrap import bootstrap_two_way
from analysis.proportions.clustered_means import Mean, cluster_means
from analysis.proportions.estimates import StandardErrors, standard_errors
from analysis.proportions.intervals import Interval, cell_components, estimate_cell
from analysis.results import Plotted, Record
from analysis.settings import Settings, choose
from analysis.threads import threaded
from analysis.variance_components import Components
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class Intervals(Plotted, Record):
    """Every interval for one proportion, side by side.

    Attributes
    ----------
    estimates
        By name of the interval.
    errors
        Standard errors by source.
    pigeonhole
        Standard error by the two-way bootstrap.
    components
        Variance components; None where they can't be distinguished.
    """

    estimates: dict[Interval, Estimate]
    errors: StandardErrors
    pigeonhole: float
    components: Components | None

    def _draw(self, **options: Any) -> Any:
        """Draw the intervals below one another."""
        from analysis.figures import plot_intervals_compared

        return plot_intervals_compared(self.frame(), **options)

    def frame(self) -> pd.DataFrame:
        """Return one row an interval."""
        return pd.DataFrame([{"interval": name, **own.as_dict()} for name, own in self.estimates.items()])


@threaded
def compare_intervals(
    table: pd.DataFrame,
    *,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    **settings: Unpack[Settings],
) -> Intervals:
    """Return all intervals for the proportion correct in a table of judgements, taken as one cell.

    Parameters
    ----------
    table
        Judgements of the cell: one model and condition, say.
    drawing, mean, units, settings
        As in :func:`estimate_proportions`.

    Returns
    -------
    Every interval but the one for new models.

    Raises
    ------
    AnalysisError
        If there are no answers.
    """
    chosen = choose(settings)
    answers = read_answers(table, (), drawing=drawing, units=units)
    means = cluster_means(answers, mean=mean)
    rows = np.arange(len(answers.correct))
    names: list[Interval] = [name for name in get_args(Interval) if name != "models"]
    estimates = {name: estimate_cell(means, 0, rows, name, drawing, mean, chosen) for name in names}
    draws = bootstrap_two_way(means, rows, seed=chosen.seed, resamples=chosen.resamples)
    return Intervals(
        estimates, standard_errors(means)[0], float(draws.std(ddof=1)) if len(draws) > 1 else 0.0,
        cell_components(answers, rows),
    )  # fmt: skip
