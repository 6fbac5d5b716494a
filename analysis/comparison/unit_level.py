"""Tests of the 2023 paper: on unit means, as if each were one independent number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2, t

from analysis.comparison.models import choose_condition
from analysis.estimands import spell_estimand
from analysis.multiple_tests import adjust_holm
from analysis.results import Record
from benchmark.errors import AnalysisError


@dataclass(frozen=True)
class UnitLevelTest(Record):
    """The paper's tests on unit means: Kruskal-Wallis over models, then Conover's with Holm's correction.

    They take each unit's mean as one independent number, and so speak for new units answered by these people alone.

    Attributes
    ----------
    statistic, p
        Of Kruskal & Wallis (1952).
    models, units
        How many there are.
    pairs
        One row a pair: ``first``, ``second``, ``statistic``, ``p``, ``p_holm``.
    estimand
        What the tests speak for.
    """

    statistic: float
    p: float
    models: int
    units: int
    pairs: pd.DataFrame
    estimand: str


def compare_unit_means(table: pd.DataFrame, *, condition: str | None = None) -> UnitLevelTest:
    """Compare models by their unit means, as the 2023 paper does.

    Source of the pairwise test: Conover & Iman (1979), On multiple-comparisons procedures, Los Alamos report
    LA-7677-MS: t = (R_i - R_j) / sqrt(S^2 (N - 1 - H) / (N - k) (1/n_i + 1/n_j)) on N - k degrees of freedom.

    Raises
    ------
    AnalysisError
        If there are fewer than two models, several conditions, or all units agree.
    """
    own = choose_condition(table, condition)
    means = own.groupby(["model", "unit"], observed=True)["correct"].mean().reset_index()
    names = sorted(means["model"].astype(str).unique())
    if len(names) < 2:
        raise AnalysisError("A comparison needs at least two models with answers.")
    if len(means) <= len(names) or np.ptp(means["correct"].to_numpy()) == 0:
        raise AnalysisError(
            "The unit means can't be ranked: each model has only one unit, or all units have the same mean."
        )
    ranks = means["correct"].round(12).rank()
    groups = [ranks[(means["model"] == name).to_numpy()].to_numpy() for name in names]
    count, size = np.array([len(group) for group in groups]), len(ranks)
    mean_rank = np.array([group.mean() for group in groups])
    spread = float(((ranks - (size + 1) / 2) ** 2).sum()) / (size - 1)
    statistic = float((count * (mean_rank - (size + 1) / 2) ** 2).sum() / spread)
    scale = spread * (size - 1 - statistic) / (size - len(names))
    rows = []
    for a, first in enumerate(names):
        for b in range(a + 1, len(names)):
            error = math.sqrt(max(scale, 0.0) * (1 / count[a] + 1 / count[b]))
            gap = float(mean_rank[a] - mean_rank[b])
            ratio = gap / error if error > 0 else math.copysign(math.inf, gap) if gap else 0.0
            p = float(2 * t.sf(abs(ratio), size - len(names)))
            rows.append({"first": first, "second": names[b], "statistic": ratio, "p": p})
    pairs = pd.DataFrame(rows)
    pairs["p_holm"] = adjust_holm(pairs["p"].to_numpy())
    p = float(chi2.sf(statistic, len(names) - 1))
    return UnitLevelTest(statistic, p, len(names), size, pairs, spell_estimand("new units"))
