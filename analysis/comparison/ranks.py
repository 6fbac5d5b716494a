"""Ranks of models, with sets that jointly contain the true ranks of all models.

A model's rank is 1 + how many models are truly better. Which ones surely are, is decided by testing for every ordered
pair whether the first is better than the second, all pairs together, step by step, so that the chance of a single wrong
"better" is at most 5 %. A model then ranks after all that are surely better, and before all that are surely worse:
Mogstad, Romano, Shaikh & Wilhelm (2024), Inference for ranks with applications to mobility across neighbourhoods and
academic achievement across countries, Review of Economic Studies 91 (simultaneous sets, section 3; as in Chetverikov et
al., arXiv 2401.15205). The steps are Romano & Wolf's (2005), Exact and approximate stepdown methods for multiple
hypothesis testing, JASA 100.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from analysis.comparison.joint_means import DRAWS, JointMeans, draw_scores
from analysis.comparison.models import model_means
from analysis.estimands import Drawing, spell_estimand
from analysis.proportions import Mean
from analysis.results import AnalysisResult, Plotted, Record
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, RANK, Estimate, spell_value

MOST_KEPT = 10_000_000
"""Drawn differences that are kept in memory."""


@dataclass(frozen=True)
class RankedModel(Record):
    """A model's rank.

    Attributes
    ----------
    model
        Its name.
    value
        Its mean.
    rank
        Its rank, 1 for the highest mean, and the lowest and highest rank that it may have.
    better, worse
        The models that are surely better, and surely worse.
    """

    model: str
    value: float
    rank: Estimate
    better: tuple[str, ...]
    worse: tuple[str, ...]


@dataclass(frozen=True)
class Ranks(Plotted, AnalysisResult):
    """Models from the highest mean to the lowest, with simultaneous confidence sets for their ranks.

    Attributes
    ----------
    models
        The models, in the order of their means.
    groups
        Neighbours in that order of whom no two are distinguishable; a group that lies within another is not listed.
    """

    models: tuple[RankedModel, ...]
    groups: tuple[tuple[str, ...], ...]

    def __iter__(self) -> Iterator[RankedModel]:
        return iter(self.models)

    def _draw(self, **options: Any) -> Any:
        """Draw every model's rank with its interval."""
        from analysis.figures import plot_ranks

        named = {"rank_low": "low", "rank_high": "high", "groups": "group"}
        return plot_ranks(self.frame().rename(columns=named), **options)

    def readable(self) -> pd.DataFrame:
        """Return one row a model as people read it."""
        table = self.frame()[["model", "value", "groups"]]
        table.insert(2, "rank", [str(own.rank) for own in self.models])
        return table.assign(value=[spell_value(own.value) for own in self.models])

    @property
    def caption(self) -> str:
        """How many places the answers settle."""
        return self.sentence()

    def frame(self) -> pd.DataFrame:
        """Return one row a model: value, rank, lowest and highest rank, and the groups that it belongs to."""
        rows = []
        for own in self.models:
            letters = [_letter(k) for k, group in enumerate(self.groups) if own.model in group]
            rows.append(
                {
                    "model": own.model, "value": own.value, "rank": own.rank.value, "rank_low": own.rank.low,
                    "rank_high": own.rank.high, "groups": " ".join(letters), "surely_better": len(own.better),
                    "surely_worse": len(own.worse), "method": own.rank.method, "estimand": own.rank.estimand,
                    "level": own.rank.level,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def sentence(self) -> str:
        """Say how many places the answers settle."""
        settled = sum(own.rank.low == own.rank.high for own in self.models)
        apart = sum(len(own.worse) for own in self.models)
        pairs = len(self.models) * (len(self.models) - 1) // 2
        ranks = f"{settled} of {len(self.models)} ranks are certain"
        return f"{apart} of {pairs} pairs of models are distinguishable; {ranks}."


@threaded
def rank_models(
    table: pd.DataFrame,
    *,
    condition: str | None = None,
    models: Sequence[str] | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    same_units: Mapping[str, str] | None = None,
    **settings: Unpack[Settings],
) -> Ranks:
    """Rank models by proportion correct in a condition.

    Parameters
    ----------
    table
        Table of judgements.
    condition
        Which condition; may be left out where there is one.
    models
        Which models; all if None.
    drawing, mean, units
        As in ``proportions.estimate_proportions``.
    same_units
        As in ``comparison.compare_models``: what is paired.
    settings
        As for every estimator: :class:`Settings`. The level is the probability that all sets hold the true ranks.

    Raises
    ------
    AnalysisError
        As ``comparison.compare_models``.
    """
    chosen = choose(settings)
    level, seed = chosen.level, chosen.seed
    joint = model_means(
        table, condition=condition, models=models, drawing=drawing, mean=mean, units=units, same_units=same_units
    )
    return rank_joint_means(joint, estimand=spell_estimand("new units and people", drawing), level=level, seed=seed)


@threaded
def rank_values(
    names: Sequence[str],
    values: NDArray[np.floating],
    covariance: NDArray[np.floating],
    *,
    estimand: str,
    freedom: float = np.inf,
    count: int = 0,
    **settings: Unpack[Settings],
) -> Ranks:
    """Rank estimates with a known covariance, such as published means with standard errors.

    Parameters
    ----------
    names
        What is ranked.
    values
        Shape (things,): the estimates.
    covariance
        Shape (things, things), or (things,): variances of independent estimates.
    estimand
        What the values speak for.
    freedom
        Degrees of freedom of the errors.
    count
        Independent things that a value rests on (units), if known.
    settings
        As in :func:`rank_models`.

    Raises
    ------
    AnalysisError
        If there are fewer than two, or a number is missing, or a difference has no error.
    """
    chosen = choose(settings)
    level, seed = chosen.level, chosen.seed
    data, matrix = np.asarray(values, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
    if len(names) < 2 or len(set(names)) != len(names):
        raise AnalysisError(f"A ranking needs at least two different names; there are {len(set(names))}.")
    if data.shape != (len(names),) or matrix.shape != (len(names), len(names)):
        raise AnalysisError(
            f"A ranking of {len(names)} needs as many values, and either their variances or their covariance."
        )
    if not (np.isfinite(data).all() and np.isfinite(matrix).all()):
        raise AnalysisError("A value or a variance to rank by is missing or infinite.")
    order = np.array(sorted(range(len(names)), key=lambda k: (-round(float(data[k]), 12), names[k])))
    data, matrix = data[order], matrix[np.ix_(order, order)]
    variance = np.diag(matrix)[:, None] + np.diag(matrix)[None, :] - 2 * matrix
    if (variance[~np.eye(len(names), dtype=bool)] <= 0).any():
        raise AnalysisError(
            "A difference has no sampling error: its variance is not above 0, so ranks have no uncertainty to estimate."
        )
    joint = JointMeans(
        tuple(names[k] for k in order), data, matrix, np.sqrt(np.maximum(variance, 0.0)),
        np.full(matrix.shape, freedom, dtype=np.float64), "given errors", np.full(matrix.shape, count, dtype=np.int64),
    )  # fmt: skip
    return rank_joint_means(joint, estimand=estimand, level=level, seed=seed)


def rank_joint_means(joint: JointMeans, *, estimand: str, level: float = LEVEL, seed: int = 0) -> Ranks:
    """Rank means that vary together."""
    better = surely_better(joint, level, seed)
    names, values = joint.names, np.round(joint.values, 12)
    count = len(names)
    method = (
        f"simultaneous confidence sets for the ranks of {count} models (Mogstad et al., 2024): step-down tests of all "
        f"{count * (count - 1)} ordered pairs, {joint.method}, {DRAWS:,} draws"
    )
    models = []
    for k, name in enumerate(names):
        above, below = np.flatnonzero(better[:, k]), np.flatnonzero(better[k])
        rank = Estimate(
            1.0 + int((values > values[k]).sum()), 1.0 + len(above), float(count - len(below)), method,
            int(joint.units[k, k]), RANK, estimand, level,
        )  # fmt: skip
        models.append(
            RankedModel(
                name, float(joint.values[k]), rank, tuple(names[a] for a in above), tuple(names[b] for b in below)
            )
        )
    return Ranks(tuple(models), _groups(names, better))


def surely_better(joint: JointMeans, level: float, seed: int) -> NDArray[np.bool_]:
    """Test for every ordered pair whether the first is better than the second.

    Returns
    -------
    Shape (means, means): whether the row is surely better than the column. With probability ``level`` or more, no such
    verdict is wrong.
    """
    count = len(joint.names)
    scores = joint.scores()
    better = np.zeros((count, count), dtype=bool)
    pairs = np.argwhere(~np.eye(count, dtype=bool))
    left = np.arange(len(pairs))
    # Small families are drawn once and kept; large ones again in every step, from the same seed.
    kept = list(draw_scores(joint, pairs, seed)) if DRAWS * len(pairs) <= MOST_KEPT else None
    while len(pairs):
        drawn = (own[:, left] for own in kept) if kept is not None else draw_scores(joint, pairs, seed)
        maxima = np.concatenate([own.max(axis=1) for own in drawn])
        # No less than what a single test needs: maxima over pairs of one model alone may be anything.
        quantile = max(float(np.quantile(maxima, level, method="higher")), float(norm.ppf(level)))
        passed = scores[pairs[:, 0], pairs[:, 1]] > quantile
        if not passed.any():
            break
        better[tuple(pairs[passed].T)] = True
        pairs, left = pairs[~passed], left[~passed]
    return better


def _groups(names: Sequence[str], better: NDArray[np.bool_]) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of neighbours of whom no two are distinguishable."""
    apart = better | better.T
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(names)):
        end = start + 1
        while end < len(names) and not apart[start:end, end].any():
            end += 1
        if end > reached:
            groups.append(tuple(names[start:end]))
            reached = end
    return tuple(groups)


def _letter(number: int) -> str:
    """Return a group's letter: a, b, ..., z, aa, ab, ..."""
    first, last = divmod(number, 26)
    return (_letter(first - 1) if first else "") + chr(ord("a") + last)
