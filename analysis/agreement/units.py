"""Agreement on units: human proportions correct against a machine's scores.

Raw, and corrected for the noise of both: Spearman (1904), The proof and measurement of association between two things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from analysis.agreement.correlation import check_spread, weighted_pearson, weighted_spearman
from analysis.agreement.machines import Score, observer_name
from analysis.agreement.pairing import ALL_MODELS, shared_groups, unit_table
from analysis.arrays import Floats
from analysis.estimands import spell_estimand
from analysis.groups import KEYS, spell_group
from analysis.intervals.bootstrap import percentile_estimate, resample_weights
from analysis.reliability.analysis_of_variance import intraclass_of_sums
from analysis.results import Record, ResultList, spread_out
from analysis.settings import Chosen, Settings, choose
from analysis.threads import threaded
from benchmark.estimate import DISATTENUATED, Estimate


@dataclass(frozen=True)
class UnitAgreement(Record):
    """Agreement of human and machine scores of units, in one model and condition, or in all models.

    Attributes
    ----------
    pearson, spearman
        Correlation over units of human proportion correct and machine score.
    disattenuated
        Pearson's over the square root of the reliability of the human means: what it would be with endless answers to
        these tasks. None where that reliability is not positive. It may exceed 1; see ``remark``.
    disattenuated_spearman
        The same for Spearman's, with the reliability of the means in place of that of ranks: an approximation.
    disattenuated_both
        Corrected for the machine's finite number of tasks as well; None where it has one task a unit. This takes the
        tasks of people and machine for independent draws; where they are the same, it corrects too much.
    human_reliability, machine_reliability
        Intraclass reliabilities of the unit means.
    """

    observer: str
    model: str
    condition: str
    difficulty: str
    references: str
    score: Score
    pearson: Estimate
    spearman: Estimate
    human_reliability: Estimate | None
    machine_reliability: Estimate | None
    disattenuated: Estimate | None
    disattenuated_spearman: Estimate | None
    disattenuated_both: Estimate | None
    remark: str

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table: each estimate with its interval."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("observer", *KEYS, "score")}
        row["units"] = self.pearson.n
        for name in (
            "pearson",
            "spearman",
            "human_reliability",
            "machine_reliability",
            "disattenuated",
            "disattenuated_spearman",
            "disattenuated_both",
        ):
            row |= spread_out(name, getattr(self, name))
        row["remark"] = self.remark
        return row


@threaded
def unit_agreement(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    score: Score = "probability",
    **settings: Unpack[Settings],
) -> ResultList[UnitAgreement]:
    """Correlate human and machine scores over units: within each model, and over all models if there are several.

    Parameters
    ----------
    people
        Table of judgements.
    machine
        Table of machine answers.
    score
        What is averaged over a unit's tasks: the machine's probability of the right answer (as in MIS), or whether it
        is right.
    settings
        As for every estimator: :class:`Settings`. Units are resampled; reliabilities are estimated anew each time.

    Raises
    ------
    AnalysisError
        If people and machine share fewer than ``LEAST_UNITS`` units, or one of them scores all units alike.
    """
    chosen = choose(settings)
    results = []
    for names, own, theirs in shared_groups(people, machine):
        results.append(_correlate_units(names, own, theirs, score, chosen))
    for names, own, theirs in shared_groups(people, machine, KEYS[1:]):
        if own["model"].nunique() > 1:
            results.append(_correlate_units({"model": ALL_MODELS, **names}, own, theirs, score, chosen))
    return ResultList(results)


def _correlate_units(
    names: dict[str, str], own: pd.DataFrame, theirs: pd.DataFrame, score: Score, chosen: Chosen
) -> UnitAgreement:
    """Correlate the units of one group."""
    where = spell_group(names)
    units = unit_table(own, theirs, score, where)
    human, other = units["human"].to_numpy(), units["machine"].to_numpy()
    check_spread(human, other, where, "units")
    count = len(units)
    observer = observer_name(theirs)
    estimand = spell_estimand("new units", observer=observer)
    rng = np.random.default_rng(chosen.seed)
    weights = resample_weights(count, chosen.resamples, rng)
    every = np.ones((1, count))

    pearson, pearsons = float(weighted_pearson(every, human, other)[0]), weighted_pearson(weights, human, other)
    spearman, spearmans = float(weighted_spearman(every, human, other)[0]), weighted_spearman(weights, human, other)

    def bootstrapped(value: float, replicates: Floats, what: str, unit: str = "correlation") -> Estimate:
        bounds = (-1.0, 1.0) if unit == "correlation" else (-math.inf, math.inf)
        return percentile_estimate(value, replicates, what, count, unit, estimand, bounds, chosen.level)

    remarks = []
    sums = {side: units[[f"{side}_count", f"{side}_total", f"{side}_squares"]].to_numpy(dtype=np.float64).T
            for side in ("human", "machine")}  # fmt: skip
    reliabilities: dict[str, Estimate | None] = {}
    noise: dict[str, tuple[float, Floats] | None] = {}
    for side, what in (("human", "answers"), ("machine", "tasks")):
        if sums[side][0].max() < 2:
            reliabilities[side], noise[side] = None, None
            remarks.append(f"The {side} reliability is unknown: there is one of its {what} a unit.")
            continue
        value = float(intraclass_of_sums(every, *sums[side])[1][0])
        replicates = intraclass_of_sums(weights, *sums[side])[1]
        reliabilities[side] = bootstrapped(
            value, replicates, f"intraclass correlation of unit means over {what}", "reliability"
        )
        noise[side] = (value, replicates) if value > 0 else None
        if value <= 0:
            remarks.append(
                f"The {side} reliability is {value:.2f}: unit means hold no more than noise, and no correlation can be "
                "corrected for it."
            )

    def corrected(value: float, replicates: Floats, sides: tuple[str, ...], name: str) -> Estimate | None:
        parts = [noise[side] for side in sides]
        if any(part is None for part in parts):
            return None
        of_value, of_replicates = 1.0, np.ones(chosen.resamples)
        for part in parts:
            assert part is not None
            of_value *= part[0]
            of_replicates = of_replicates * np.maximum(part[1], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Where a replicate has no reliability left, the corrected correlation is anything of its sign.
            spread = np.where(of_replicates > 0, replicates / np.sqrt(of_replicates), np.copysign(np.inf, replicates))
        spread = np.where(np.isnan(replicates) | np.isnan(of_replicates), np.nan, spread)
        return bootstrapped(
            value / math.sqrt(of_value),
            spread,
            f"{name} correlation over units over the square root of the reliability of {' and '.join(sides)} means, "
            "estimated anew in each replicate",
            DISATTENUATED,
        )

    alone = corrected(pearson, pearsons, ("human",), "Pearson")
    if alone is not None and abs(alone.value) > 1:
        remarks.append(
            f"The disattenuated correlation is {alone.value:.2f}: beyond 1 by sampling error of correlation and "
            "reliability; it is not cut off, and reads as no sign of a ceiling below 1."
        )
    return UnitAgreement(
        observer=observer,
        **names,
        score=score,
        pearson=bootstrapped(pearson, pearsons, "Pearson correlation over units"),
        spearman=bootstrapped(spearman, spearmans, "Spearman correlation over units"),
        human_reliability=reliabilities["human"],
        machine_reliability=reliabilities["machine"],
        disattenuated=alone,
        disattenuated_spearman=corrected(spearman, spearmans, ("human",), "Spearman"),
        disattenuated_both=corrected(pearson, pearsons, ("human", "machine"), "Pearson"),
        remark=" ".join(remarks),
    )
