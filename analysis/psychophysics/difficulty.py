"""How the proportion correct falls as queries come closer to the middle of a unit's activations.

A difficulty is a quantile: easy queries are the pictures next to the references, very hard ones lie 15 % of the pool
from either end. The curve is a psychometric function whose stimulus is

    x = -z(quantile),

z being the quantile function of the normal distribution: how many standard deviations the query would lie from the
median if activations were normal; 0 where both queries are the same. A judgement is right with probability

    .5 + (.5 - lapse) logistic(a + b x).

Units differ: each has an intercept and a slope of its own, drawn from a two-dimensional normal distribution. Mean,
spreads and correlation are fitted by maximum likelihood; the integral over units is done by adaptive Gauss-Hermite
quadrature (Pinheiro & Bates, 1995, Approximations to the log-likelihood function in the nonlinear mixed-effects model,
Journal of Computational and Graphical Statistics 4). A unit that was asked about at two difficulties alone thus still
has a curve, drawn towards that of all.

Intervals add two sources. Units: the sandwich of the marginal likelihood's scores. Participants, who are no part of
the model: an answer moves the fit by its own score, averaged over what its unit may be given all answers, and by what
it changes of that; summed over a participant's answers, what goes beyond the noise of single answers is added.

The curve of a cell is the mean over units, not the curve of a typical unit: the distribution of units is integrated
out. Fewer than three difficulties make no curve: two make a difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from analysis.psychophysics.cells import split_cells
from analysis.psychophysics.difficulty_inference import THRESHOLD, Inference
from analysis.psychophysics.difficulty_model import GUESS, Counts, fit_parameters, mean_chance
from analysis.psychophysics.quantiles import query_distance
from analysis.results import Plotted, Record
from analysis.sandwich import Clusters, clustered_difference, clustered_proportion
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

LEAST_DIFFICULTIES = 3
_CURVE_POINTS = 61


@dataclass(frozen=True)
class Point:
    """The proportion correct at one difficulty, as observed and as the curve has it."""

    difficulty: str
    quantile: float
    observed: Estimate
    fitted: float


@dataclass(frozen=True)
class DifficultyCurve(Record):
    """The psychometric function of one cell: a model and a condition, say.

    Attributes
    ----------
    cell
        What the cell is: ``{"model": "resnet50", "condition": "natural"}``.
    points
        Observed proportions, from the easiest on.
    slope
        Mean over units of b, the rise on the logistic scale for each standard deviation that queries lie further out.
    unit_spread, slope_spread
        Standard deviations between units of the curve's height (at the mean x) and of its slope. Their intervals hold
        the other parameters (likelihood ratio).
    curve
        Columns ``quantile``, ``value``, ``low``, ``high``: the mean over units with a pointwise band.
    threshold
        Quantile at which the mean proportion falls to ``THRESHOLD``; None where that lies outside the tested quantiles.
    threshold_note
        Why there is no threshold; else empty.
    units
        One row a unit: ``answers``, ``slope`` (its posterior mean), and by difficulty its posterior mean proportion.
    lapse
        Share of lapses that was assumed.
    log_likelihood
        Of the fit.
    band
        How the band was made.
    """

    cell: dict[str, str]
    points: tuple[Point, ...]
    slope: Estimate
    unit_spread: Estimate
    slope_spread: Estimate
    curve: pd.DataFrame
    threshold: Estimate | None
    threshold_note: str
    units: pd.DataFrame
    lapse: float
    log_likelihood: float
    band: str

    @property
    def verdict(self) -> str:
        """What the curve says, in words."""
        name = " ".join(self.cell.values())
        ends = (
            f"from {self.points[0].observed} ({self.points[0].difficulty}) to {self.points[-1].observed} "
            f"({self.points[-1].difficulty})"
        )
        if not self.slope.excludes_zero:
            return f"{name}: no change with difficulty is shown ({ends})."
        word = "falls" if self.slope.value > 0 else "rises"
        text = f"{name}: the proportion correct {word} with difficulty, {ends}"
        if self.threshold is not None:
            return f"{text}; it is {THRESHOLD:.2f} at the quantile {self.threshold}."
        return f"{text}; {self.threshold_note}."

    def frame(self) -> pd.DataFrame:
        """Return one row a difficulty: the observed proportion with its interval, and the curve's."""
        return pd.DataFrame(
            [
                {
                    **self.cell, "difficulty": point.difficulty, "quantile": point.quantile,
                    "value": point.observed.value, "low": point.observed.low, "high": point.observed.high,
                    "fitted": point.fitted,
                }
                for point in self.points
            ]
        )  # fmt: skip


@dataclass(frozen=True)
class DifficultyCurves(Plotted, Record):
    """Curves of all cells that can carry one, and why the others can't."""

    curves: tuple[DifficultyCurve, ...]
    refused: tuple[str, ...]

    def _draw(self, **options: Any) -> Any:
        """Draw the points and the curves, a panel for each model."""
        from analysis.figures import plot_difficulty

        if not self.curves:
            raise AnalysisError(f"There is no curve to draw: {'; '.join(self.refused)}")
        lines = pd.concat([own.curve.assign(**own.cell) for own in self.curves], ignore_index=True)
        named = {"quantile": "position"}
        return plot_difficulty(self.frame().rename(columns=named), lines.rename(columns=named), **options)

    def frame(self) -> pd.DataFrame:
        """Return the points of all curves."""
        return pd.concat([curve.frame() for curve in self.curves], ignore_index=True)


@threaded
def fit_difficulty_curves(
    table: pd.DataFrame,
    quantiles: Mapping[str, float],
    by: Sequence[str] = ("model", "condition"),
    *,
    lapse: float = 0.0,
    **settings: Unpack[Settings],
) -> DifficultyCurves:
    """Fit a difficulty curve to each cell that was asked about at three difficulties or more.

    Parameters
    ----------
    table
        Table of judgements.
    quantiles
        The quantile of each difficulty's queries: ``query_quantiles`` takes it from a protocol.
    by
        Columns that make the cells.
    lapse
        Share of trials that are answered wrongly whatever is shown (from catch trials, say).
    settings
        As for every estimator: :class:`Settings`.

    Raises
    ------
    AnalysisError
        If no cell can carry a curve, a difficulty has no quantile, or the lapse lies outside 0 to .5.
    """
    level = choose(settings).level
    if table.empty:
        raise AnalysisError("There are no judgements to fit a difficulty curve to.")
    if not 0 <= lapse < 0.5:
        raise AnalysisError(f"A share of lapses lies between 0 and .5, not at {lapse:g}.")
    unknown = sorted(set(table["difficulty"].astype(str)) - set(quantiles))
    if unknown:
        raise AnalysisError(
            f"The quantile of the difficulty {unknown[0]!r} is not known. Take the quantiles from the study's protocol "
            "and the size of its pool: query_quantiles(protocol, pool)."
        )
    curves, refused = [], []
    for cell, own in split_cells(table, by):
        try:
            curves.append(_fit_cell(own, cell, quantiles, lapse, level))
        except AnalysisError as error:
            refused.append(str(error))
    if not curves:
        raise AnalysisError(" ".join(refused))
    return DifficultyCurves(tuple(curves), tuple(refused))


def _fit_cell(
    own: pd.DataFrame, cell: dict[str, str], quantiles: Mapping[str, float], lapse: float, level: float
) -> DifficultyCurve:
    name = " ".join(cell.values())
    spelt = own["difficulty"].astype(str).to_numpy()
    present = sorted(set(spelt), key=lambda difficulty: quantiles[difficulty])
    shares = np.array([quantiles[difficulty] for difficulty in present])
    if len(np.unique(shares)) < LEAST_DIFFICULTIES:
        raise AnalysisError(_refuse(own, spelt, present, name, level))
    if own["unit"].nunique() < 2:
        raise AnalysisError(f"{name}: one unit alone makes no curve over units.")
    correct = own["correct"].to_numpy(np.float64)
    if correct.min() == correct.max():
        raise AnalysisError(f"{name}: all answers are {'right' if correct[0] else 'wrong'}, so no curve can be fitted.")
    if correct.mean() <= GUESS:
        raise AnalysisError(
            f"{name}: {correct.mean():.3f} of the answers are right, no more than by guessing: there is no curve."
        )
    place = pd.Categorical(spelt, categories=present).codes.astype(np.int64)
    unit_names, unit = np.unique(own["unit"].astype(str).to_numpy(), return_inverse=True)
    distance = query_distance(shares)
    centre = float(distance[place].mean())
    size = (len(unit_names), len(present))
    cells = unit * size[1] + place
    counts = Counts(
        answers=np.bincount(cells, minlength=math.prod(size)).astype(np.float64).reshape(size),
        right=np.bincount(cells, weights=correct, minlength=math.prod(size)).astype(np.float64).reshape(size),
        x=distance - centre,
        lapse=lapse,
    )
    parameters, log_likelihood = fit_parameters(counts)
    clusters = Clusters.of(own)
    inside = Inference(parameters, counts, clusters, unit, place, correct, level)
    fitted = mean_chance(parameters, counts.x, lapse)
    points = []
    for n, difficulty in enumerate(present):
        rows = place == n
        observed = clustered_proportion(correct[rows], Clusters.of(own[rows]), unit="proportion correct", level=level)
        points.append(Point(difficulty, float(shares[n]), observed, float(fitted[n])))
    x = np.linspace(distance.max(), distance.min(), _CURVE_POINTS)
    low, high, freedom = inside.band(x - centre)
    curve = pd.DataFrame(
        {
            "quantile": ndtr(-x),
            "value": np.clip(mean_chance(parameters, x - centre, lapse), low, high),
            "low": low,
            "high": high,
        }
    )
    threshold, note = inside.threshold(centre, distance)
    return DifficultyCurve(
        cell=cell,
        points=tuple(points),
        slope=inside.slope(),
        unit_spread=inside.spread(2, "standard deviation of log odds"),
        slope_spread=inside.spread(4, "standard deviation of log odds per SD of distance"),
        curve=curve,
        threshold=threshold,
        threshold_note=note,
        units=inside.units(unit_names, present),
        lapse=lapse,
        log_likelihood=log_likelihood,
        band=f"{inside.method(freedom)}, delta method; mean over units",
    )


def _refuse(own: pd.DataFrame, spelt: NDArray[np.str_], present: Sequence[str], name: str, level: float) -> str:
    """Say why there is no curve; two difficulties still make a difference."""
    if len(present) == 1:
        return f"{name}: one difficulty ({present[0]}) alone makes no curve."
    if len(present) > 2:
        return f"{name}: the difficulties {', '.join(present)} lie at fewer than three quantiles: no curve."
    correct = own["correct"].to_numpy(np.float64)
    first, second = spelt == present[0], spelt == present[1]
    difference = clustered_difference(correct, first, second, Clusters.of(own), level)
    return (
        f"{name}: two difficulties: a difference, no curve; {present[0]} less {present[1]} is {difference}. A curve "
        "takes at least three."
    )
