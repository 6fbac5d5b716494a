"""Sensitivity apart from bias: d', criterion and position bias, by model and condition.

Each trial shows two queries, one above the other. Read as detection theory reads two-alternative forced choice
(Macmillan & Creelman, 2005, Detection theory: a user's guide, chapter 7), the side of the maximal query is the
stimulus and the side chosen the response: choosing the upper query is a hit where the maximal one is on top, and a
false alarm where it is not. With z the quantile function of the normal distribution,

    d' = (z(hits) - z(false alarms)) / sqrt(2),        criterion = -(z(hits) + z(false alarms)) / 2.

Without bias, d' is sqrt(2) z(proportion correct). A positive criterion means that the lower query is preferred. Such a
preference lowers the proportion of right answers, but not d'.

Two answers are given for every cell. *Pooled*: the rates of all answers together, with an interval for new units and
new people. *Hierarchical*: each participant has a d' and a criterion of their own, drawn from normal distributions;
their means and spreads are fitted by maximum likelihood, the integral over participants done by Gauss-Hermite
quadrature (the random-effects form of the model: DeCarlo, 1998, Signal detection theory and generalized linear models,
Psychological Methods 3). No cell is ever corrected for being empty in that fit; a participant's own posterior mean is
drawn towards the rest the more, the fewer their answers. Where people differ, the mean of their d' exceeds the d' of
pooled rates: averaging probabilities flattens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from scipy.special import ndtri

from analysis.multiple_tests import spell_p
from analysis.psychophysics.cells import split_cells
from analysis.psychophysics.detection_hierarchy import Hierarchy, fit_hierarchy
from analysis.psychophysics.detection_rates import ROOT_TWO, corrected_rates, count_choices
from analysis.results import Record, ResultList, spread_out
from analysis.sandwich import (
    Clusters,
    clustered_difference,
    clustered_estimate,
    clustered_proportion,
    difference_influence,
)
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class Detection(Record):
    """Sensitivity and bias in one cell: a model and a condition, say.

    Attributes
    ----------
    cell
        What the cell is: ``{"model": "resnet50", "condition": "natural"}``.
    answers, participants
        How many there are.
    d_prime, criterion
        From the pooled rates; two-way cluster-robust intervals.
    typical_d_prime, typical_criterion
        Means over participants, from the hierarchical fit; None with fewer than three participants.
    spread_d_prime, spread_criterion
        Standard deviations between participants, from the same fit; 0 where maximum likelihood sees none.
    upper
        Share of answers that chose the upper query.
    bias
        Proportion right where the maximal query is on top, less that where it is below: 0 without bias.
    bias_p
        p of no such difference.
    individuals
        One row a participant: counts, ``d_prime`` and ``criterion`` with the log-linear correction, and their posterior
        means ``shrunk_d_prime`` and ``shrunk_criterion`` (equal to the former where there is no hierarchical fit).
    """

    cell: dict[str, str]
    answers: int
    participants: int
    d_prime: Estimate
    criterion: Estimate
    typical_d_prime: Estimate | None
    typical_criterion: Estimate | None
    spread_d_prime: Estimate | None
    spread_criterion: Estimate | None
    upper: Estimate
    bias: Estimate
    bias_p: float
    individuals: pd.DataFrame

    @property
    def verdict(self) -> str:
        """What the cell says of position bias, in words."""
        name = " ".join(self.cell.values())
        if self.bias.method.startswith("no interval"):
            return f"{name}: position bias can't be judged: {self.bias.method.removeprefix('no interval: ')}."
        if not self.bias.excludes_zero:
            return f"{name}: no position bias is seen (difference {self.bias}, p {spell_p(self.bias_p)})."
        side = "upper" if self.bias.value > 0 else "lower"
        return f"{name}: people prefer the {side} query (difference {self.bias}, p {spell_p(self.bias_p)})."

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table: each estimate with the ends of its interval."""
        row: dict[str, Any] = {**self.cell, "answers": self.answers, "participants": self.participants}
        for name in (
            "d_prime", "criterion", "typical_d_prime", "typical_criterion", "spread_d_prime", "spread_criterion",
            "upper", "bias",
        ):  # fmt: skip
            row |= spread_out(name, getattr(self, name))
        return {**row, "bias_p": self.bias_p}


@threaded
def detect(
    table: pd.DataFrame, by: Sequence[str] = ("model", "condition"), **settings: Unpack[Settings]
) -> ResultList[Detection]:
    """Estimate d', criterion and position bias in each cell.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Columns that make the cells.
    settings
        As for every estimator: :class:`Settings`.

    Returns
    -------
    One result a cell, sorted by its names.

    Raises
    ------
    AnalysisError
        If the table is empty, or a cell shows the maximal query on one side alone.
    """
    level = choose(settings).level
    if table.empty:
        raise AnalysisError("There are no judgements to estimate d' from.")
    return ResultList(_detect_cell(own, cell, level) for cell, own in split_cells(table, by))


def _detect_cell(own: pd.DataFrame, cell: dict[str, str], level: float) -> Detection:
    name = " ".join(cell.values())
    top = own["max_on_top"].to_numpy(dtype=np.float64)
    upper = own["upper"].to_numpy(dtype=np.float64)
    if top.min() == top.max():
        raise AnalysisError(
            f"d' and bias of {name} can't be estimated: in all {len(own):,} answers the maximal query was "
            f"{'on top' if top[0] else 'below'}. Sides must be balanced, as the protocols of vimi have them."
        )
    clusters = Clusters.of(own)
    total = count_choices(own, ["participant"])
    pooled = total[["upper_trials", "hits", "lower_trials", "false_alarms"]].sum().to_frame().T
    (hit,), (alarm,) = corrected_rates(pooled)
    # Influence of each answer on z(hits) and z(false alarms), by the delta method.
    density = [math.exp(-0.5 * float(ndtri(rate)) ** 2) / math.sqrt(2 * math.pi) for rate in (hit, alarm)]
    on_hit = top * (upper - upper[top == 1].mean()) / (top.sum() * density[0])
    on_alarm = (1 - top) * (upper - upper[top == 0].mean()) / ((1 - top).sum() * density[1])
    z_hit, z_alarm = float(ndtri(hit)), float(ndtri(alarm))
    d_prime = clustered_estimate(
        (z_hit - z_alarm) / ROOT_TWO,
        (on_hit - on_alarm) / ROOT_TWO,
        clusters,
        unit="d'",
        level=level,
    )
    criterion = clustered_estimate(
        -(z_hit + z_alarm) / 2, -(on_hit + on_alarm) / 2, clusters, unit="criterion", level=level
    )
    bias, p = _bias(own, clusters, level)
    individuals, typical = _individuals(total, level)
    return Detection(
        cell=cell,
        answers=len(own),
        participants=len(total),
        d_prime=d_prime,
        criterion=criterion,
        typical_d_prime=typical.d_prime if typical else None,
        typical_criterion=typical.criterion if typical else None,
        spread_d_prime=typical.spread_d_prime if typical else None,
        spread_criterion=typical.spread_criterion if typical else None,
        upper=clustered_proportion(upper, clusters, unit="proportion upper", level=level),
        bias=bias,
        bias_p=p,
        individuals=individuals,
    )


def _bias(own: pd.DataFrame, clusters: Clusters, level: float) -> tuple[Estimate, float]:
    """Estimate the difference between right answers with the maximal query on top and below, and its p."""
    top, correct = own["max_on_top"].to_numpy(np.float64), own["correct"].to_numpy(np.float64)
    value, influence = difference_influence(correct, top == 1, top == 0)
    return clustered_difference(correct, top == 1, top == 0, clusters, level), clusters.p_value(value, influence)


def _individuals(counts: pd.DataFrame, level: float) -> tuple[pd.DataFrame, Hierarchy | None]:
    """Return the table of participants, and the hierarchical fit where there are enough of them."""
    hits, alarms = corrected_rates(counts)
    table = counts.assign(
        d_prime=(ndtri(hits) - ndtri(alarms)) / ROOT_TWO, criterion=-(ndtri(hits) + ndtri(alarms)) / 2
    )
    if len(counts) < 3:
        return table.assign(shrunk_d_prime=table["d_prime"], shrunk_criterion=table["criterion"]), None
    typical = fit_hierarchy(counts, level)
    return table.assign(shrunk_d_prime=typical.shrunk_d_prime, shrunk_criterion=typical.shrunk_criterion), typical
