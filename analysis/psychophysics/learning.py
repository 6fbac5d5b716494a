"""Learning: how answers change over a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from analysis.multiple_tests import spell_p
from analysis.psychophysics.cells import main_trials, split_cells
from analysis.results import Record, ResultList
from analysis.sandwich import Clusters, clustered_difference, clustered_estimate, clustered_proportion
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class Learning(Record):
    """How answers change over a session, in one cell.

    Attributes
    ----------
    cell
        What the cell is.
    slope
        Change of the proportion correct from the first trial of the cell to the last, by a straight line.
    p
        p of no change.
    log_odds
        The same change by logistic regression, in log odds; None where it has no finite estimate.
    first_half, second_half
        Proportions up to the cell's median trial index, and beyond it.
    difference
        Second half less first.
    """

    cell: dict[str, str]
    slope: Estimate
    p: float
    log_odds: Estimate | None
    first_half: Estimate
    second_half: Estimate
    difference: Estimate

    @property
    def verdict(self) -> str:
        """What the cell says of learning, in words."""
        name, halves = " ".join(self.cell.values()), f"{self.first_half} in the first half, {self.second_half} after"
        if not self.slope.excludes_zero:
            return f"{name}: no change over a session is shown ({halves}; p {spell_p(self.p)})."
        word = "improve" if self.slope.value > 0 else "get worse"
        return f"{name}: people {word} over a session by {self.slope} ({halves}; p {spell_p(self.p)})."


@threaded
def learning_curve(
    table: pd.DataFrame,
    by: Sequence[str] = ("model", "condition", "references"),
    *,
    factors: Sequence[str] = ("unit", "participant"),
    **settings: Unpack[Settings],
) -> ResultList[Learning]:
    """Estimate how answers change over a session.

    Parameters
    ----------
    table
        Table of judgements; main trials alone are used.
    by
        Columns that make the cells.
    factors
        What answers hang together through: ``("participant",)`` speaks for new people and these units.
    settings
        As for every estimator: :class:`Settings`.

    Raises
    ------
    AnalysisError
        If all trials of a cell have the same place in their sessions.
    """
    level = choose(settings).level
    results = []
    for cell, own in split_cells(main_trials(table), by):
        place, correct = own["trial_index"].to_numpy(np.float64), own["correct"].to_numpy(np.float64)
        if np.ptp(place) == 0:
            raise AnalysisError(
                f"Learning of {' '.join(cell.values())} can't be seen: all its trials have the same place in their "
                "sessions. Leave this analysis out."
            )
        clusters = Clusters.of(own, factors)
        value, influence = straight_line(place, correct)
        slope = clustered_estimate(
            value, influence, clusters, unit="change of the proportion correct over a session", level=level,
        )  # fmt: skip
        early = place <= np.median(place)
        if early.all():  # more than half of the trials come last
            early = place < place.max()
        halves = [
            clustered_proportion(
                correct[half],
                Clusters.of(own[half], factors),
                unit="proportion correct",
                level=level,
            )
            for half in (early, ~early)
        ]
        results.append(
            Learning(
                cell=cell,
                slope=slope,
                p=clusters.p_value(value, influence),
                log_odds=_logistic(place, correct, clusters, level),
                first_half=halves[0],
                second_half=halves[1],
                difference=clustered_difference(correct, ~early, early, clusters, level),
            )
        )
    return ResultList(results)


def straight_line(place: NDArray[np.float64], correct: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the change of a straight line over the whole range, and each answer's influence on it."""
    centred = (place - place.mean()) / np.ptp(place)
    spread = float((centred**2).sum())
    value = float((centred * correct).sum()) / spread
    influence: NDArray[np.float64] = centred * (correct - correct.mean() - value * centred) / spread
    return value, influence


def _logistic(
    place: NDArray[np.float64], correct: NDArray[np.float64], clusters: Clusters, level: float
) -> Estimate | None:
    """Return the change over the whole range in log odds, by Newton's method."""
    if correct.min() == correct.max():
        return None
    design = np.column_stack([np.ones(len(place)), (place - place.mean()) / np.ptp(place)])
    coefficients = np.array([logit(correct.mean()), 0.0])
    for _ in range(50):
        chance = expit(design @ coefficients)
        information = (design * (chance * (1 - chance))[:, None]).T @ design
        try:
            step = np.linalg.solve(information, design.T @ (correct - chance))
        except np.linalg.LinAlgError:  # the curve has become a step, and every chance 0 or 1
            return None
        coefficients = coefficients + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    else:
        return None  # right and wrong answers lie on either side of a place: the slope has no finite estimate
    influence = (design * (correct - chance)[:, None]) @ np.linalg.inv(information)[1]
    return clustered_estimate(float(coefficients[1]), influence, clusters, unit="log odds", level=level)
