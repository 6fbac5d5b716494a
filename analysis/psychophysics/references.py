"""One side's share: trials with both sides of references, the maximal or the minimal side alone, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.psychophysics.cells import ALL_ANSWERS, main_trials, split_cells
from analysis.results import Record, ResultList
from analysis.sandwich import Clusters, clustered_difference, clustered_proportion
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.protocol import REFERENCES


@dataclass(frozen=True)
class ReferencesComparison(Record):
    """Proportions correct with both sides of references, one, or none, in one cell.

    Attributes
    ----------
    cell
        What the cell is: ``{"model": "resnet50", "condition": "natural"}``.
    proportions
        For each kind of references shown: the proportion correct.
    differences
        For each kind but ``both``: its proportion less that with both sides; empty where both were never shown.
    max_minus_min
        Proportion with the maximal side alone less that with the minimal side alone; None unless both kinds exist.
    """

    cell: dict[str, str]
    proportions: dict[str, Estimate]
    differences: dict[str, Estimate]
    max_minus_min: Estimate | None

    @property
    def verdict(self) -> str:
        """Which side carries the task, in words."""
        name = " ".join(self.cell.values())
        parts = ", ".join(f"{kind} {estimate}" for kind, estimate in self.proportions.items())
        if self.max_minus_min is None:
            return f"{name}: {parts}."
        if not self.max_minus_min.excludes_zero:
            return f"{name}: {parts}; neither side alone is shown to carry more than the other."
        side = "maximal" if self.max_minus_min.value > 0 else "minimal"
        return f"{name}: {parts}; the {side} side alone carries more (difference {self.max_minus_min})."

    def frame(self) -> pd.DataFrame:
        """Return one row for each kind of references, with the difference from both sides."""
        rows = []
        for kind, estimate in self.proportions.items():
            difference = self.differences.get(kind)
            rows.append(
                {
                    **self.cell, "references": kind, "value": estimate.value, "low": estimate.low,
                    "high": estimate.high, "difference": difference.value if difference else None,
                    "difference_low": difference.low if difference else None,
                    "difference_high": difference.high if difference else None,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)


@threaded
def compare_references(
    table: pd.DataFrame, by: Sequence[str] = ("model", "condition"), **settings: Unpack[Settings]
) -> ResultList[ReferencesComparison]:
    """Compare answers to trials with both sides of references, one side, and none.

    Parameters
    ----------
    table
        Table of judgements, with all kinds of references; main trials alone are used.
    by
        Columns that make the cells.
    settings
        As for every estimator: :class:`Settings`. Intervals are two-way clustered; differences are not paired, but
        share their clusters.

    Raises
    ------
    AnalysisError
        If the table shows a single kind of references.
    """
    level = choose(settings).level
    own = main_trials(table)
    kinds = own["references"].astype(str)
    if kinds.nunique() < 2:
        raise AnalysisError(
            f"All {len(own):,} answers were given with references {kinds.iloc[0]!r}: there is nothing to compare. Take "
            f"the table from {ALL_ANSWERS}, or ask some trials with one side or none ([session] references)."
        )
    results = []
    for cell, part in split_cells(own, by):
        shown = part["references"].astype(str).to_numpy()
        correct = part["correct"].to_numpy(np.float64)
        clusters = Clusters.of(part)

        def difference(
            first: str,
            second: str,
            shown: NDArray[Any] = shown,
            correct: NDArray[np.float64] = correct,
            clusters: Clusters = clusters,
        ) -> Estimate:
            return clustered_difference(correct, shown == first, shown == second, clusters, level)

        present: list[str] = [kind for kind in REFERENCES if (shown == kind).any()]
        proportions = {
            kind: clustered_proportion(
                correct[shown == kind], Clusters.of(part[shown == kind]), unit="proportion correct", level=level,
            )
            for kind in present
        }  # fmt: skip
        others = {kind: difference(kind, "both") for kind in present if kind != "both" and "both" in present}
        sides = difference("max", "min") if {"max", "min"} <= set(present) else None
        results.append(ReferencesComparison(cell, proportions, others, sides))
    return ResultList(results)
