"""Consistency: how far people agree with themselves when a task is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.psychophysics.cells import ALL_ANSWERS, split_cells
from analysis.results import Record, ResultList
from analysis.sandwich import Clusters, clustered_estimate, clustered_proportion
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class Consistency(Record):
    """How far people agree with themselves when a task is repeated, in one cell.

    Attributes
    ----------
    cell
        What the cell is.
    agreement
        Share of repeated trials with the same query chosen as the first time.
    kappa
        Agreement beyond chance (Cohen's kappa): 1 for full agreement, 0 for what the two proportions correct give
        already. None where an answer never varies.
    first, repeated
        Proportions correct of the two answers of such pairs.
    change
        Repeated less first.
    pairs, unpaired
        Repeated answers whose first answer was found, and those without one, which are left out.
    """

    cell: dict[str, str]
    agreement: Estimate
    kappa: Estimate | None
    first: Estimate
    repeated: Estimate
    change: Estimate
    pairs: int
    unpaired: int


@threaded
def repeat_consistency(
    table: pd.DataFrame, by: Sequence[str] = ("model", "condition", "references"), **settings: Unpack[Settings]
) -> ResultList[Consistency]:
    """Compare repeated answers with the first answer of the same person to the same task.

    Parameters
    ----------
    table
        Table of judgements, with main and repeated trials.
    by
        Columns that make the cells.
    settings
        As for every estimator: :class:`Settings`. Intervals are two-way clustered.

    Raises
    ------
    AnalysisError
        If there are no repeated trials, or none has a first answer.
    """
    level = choose(settings).level
    kind = table["kind"].astype(str)
    again = table[kind == "repeated"]
    if again.empty:
        raise AnalysisError(
            f"There are no repeated trials, so consistency can't be measured. Take the table from {ALL_ANSWERS}, or "
            "leave this analysis out."
        )
    keys = ["participant", "session", "condition", "difficulty", "references", "task"]
    main = _as_text(table[kind == "main"], keys)
    first = main.sort_values("trial_index", kind="stable").drop_duplicates(keys)
    pairs = _as_text(again, keys).merge(
        first[[*keys, "correct", "trial_index"]], on=keys, how="left", suffixes=("", "_first")
    )
    found = (pairs["trial_index_first"] < pairs["trial_index"]).to_numpy()
    if not found.any():
        raise AnalysisError(
            f"None of the {len(again):,} repeated answers has a first answer of the same person to the same task in "
            "the table. Main and repeated trials must come from the same sessions."
        )
    results = []
    for cell, own in split_cells(pairs.assign(found=found), by):
        good = own[own["found"]]
        if good.empty:
            continue
        clusters = Clusters.of(good)
        before, after = good["correct_first"].to_numpy(np.float64), good["correct"].to_numpy(np.float64)
        same = (before == after).astype(np.float64)
        share = [
            clustered_proportion(values, clusters, unit=unit, level=level)
            for values, unit in (
                (same, "proportion the same"), (before, "proportion correct"), (after, "proportion correct")
            )
        ]  # fmt: skip
        change = after - before
        results.append(
            Consistency(
                cell=cell,
                agreement=share[0],
                kappa=_kappa(before, after, clusters, level),
                first=share[1],
                repeated=share[2],
                change=clustered_estimate(
                    float(change.mean()), (change - change.mean()) / len(change), clusters,
                    unit="difference of proportions correct", bounds=(-1.0, 1.0), level=level,
                ),
                pairs=len(good),
                unpaired=len(own) - len(good),
            )
        )  # fmt: skip
    return ResultList(results)


def _kappa(
    before: NDArray[np.float64], after: NDArray[np.float64], clusters: Clusters, level: float
) -> Estimate | None:
    """Estimate Cohen's kappa of right and wrong, with the delta method."""
    p, q = before.mean(), after.mean()
    same = (before == after).astype(np.float64)
    agreed, chance = same.mean(), p * q + (1 - p) * (1 - q)
    if chance >= 1.0 - 1e-12:
        return None
    value = float((agreed - chance) / (1 - chance))
    on_chance = (2 * q - 1) * (before - p) + (2 * p - 1) * (after - q)
    influence = ((same - agreed) / (1 - chance) - (1 - agreed) / (1 - chance) ** 2 * on_chance) / len(same)
    return clustered_estimate(value, influence, clusters, unit="kappa", bounds=(-1.0, 1.0), level=level)


def _as_text(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    return table.assign(**{name: table[name].astype(str) for name in names})
