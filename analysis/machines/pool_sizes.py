"""How much a machine observer's score depends on the size of the pool.

Difficulty is a rank, not a quantile: over fewer pictures, the same references and queries reach further into a unit's
ranking, which is another experiment with its own protocol. Scores over several sizes therefore share a figure
(:func:`analysis.figures.plot_pool_sizes`) and never a leaderboard's table; what is estimated here says how far a
score would move if the pool were another.

Over the smallest pool that carries a protocol, references and queries of the two sides meet in the middle of the
ranking and every observer nears chance: a score falls faster the nearer its pool is to that size, and the single steps
say more than the slope that sums them up.

All changes are paired by unit. Intervals are those of :mod:`analysis.intervals.means`, over units: they speak
for new units over these very pools. Smaller pools are one nested draw of the whole, and another draw would move the
scores over them a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Unpack

import numpy as np
import pandas as pd

from analysis.estimands import spell_estimand
from analysis.intervals.means import Interval, estimate_mean
from analysis.machines.performance import UNIT_KEY, MachineScore, score_machines, set_flagged_apart
from analysis.results import Plotted, Record, ResultList
from analysis.settings import Chosen, Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.model_card import TWIN_SUFFIX
from benchmark.observers.base import LOW_LEVEL, SHUFFLED

QUANTITIES = ("score", "low_level", "excess", "twin", "trained_minus_twin")
"""What is followed over sizes; the names are those of :class:`analysis.machines.performance.MachineScore`."""

_DIFFERENCES = {"excess": ("score", "low_level"), "trained_minus_twin": ("score", "twin")}


@dataclass(frozen=True)
class PoolSizeChange(Record):
    """How the numbers of a machine row change from a pool to a smaller one, paired by unit.

    Attributes
    ----------
    larger, smaller
        Pictures in the two pools.
    halvings
        log2 of their ratio.
    per_halving
        Whether the changes are for each halving between the two (the slope over all sizes between them), rather than
        for the whole way.
    score, low_level, excess, twin, trained_minus_twin
        Value over the smaller pool minus value over the larger one; None where there is nothing to compare.
    """

    larger: int
    smaller: int
    halvings: float
    per_halving: bool
    score: Estimate
    low_level: Estimate | None
    excess: Estimate | None
    twin: Estimate | None
    trained_minus_twin: Estimate | None

    def sentence(self, what: str, quantity: str = "score") -> str:
        """Say how one of the numbers changes.

        Parameters
        ----------
        what
            Whose number it is: ``"efficientnet_lite0"``.
        quantity
            One of :data:`QUANTITIES`.

        Returns
        -------
        The sentence; empty where the number is not known.
        """
        estimate: Estimate | None = getattr(self, quantity)
        if estimate is None:
            return ""
        way = f"from {self.larger:,} to {self.smaller:,} pictures"
        if self.per_halving:
            subject = f"{way[0].upper()}{way[1:]}, each halving of the pool"
        elif abs(self.halvings - 1) < 0.05:
            subject = f"Halving the pool {way}"
        else:
            subject = f"Taking the pool {way}"
        name = {
            "score": "the score",
            "low_level": "the low-level observer's score",
            "excess": "the excess over low-level",
            "twin": "the twin's score",
            "trained_minus_twin": "trained minus twin",
        }[quantity]
        if estimate.method.startswith("no interval"):
            return f"{subject} changes {name} of {what} by {str(estimate).partition(' ')[0]}, the same in every unit."
        if not estimate.excludes_zero:
            return f"{subject} does not change {name} of {what} by an amount told from 0: {estimate}."
        if estimate.value > 0:
            return f"{subject} raises {name} of {what} by {estimate}."
        lowered = Estimate(
            -estimate.value, -estimate.high, -estimate.low, estimate.method, estimate.n, estimate.unit,
            estimate.estimand, estimate.level,
        )  # fmt: skip
        return f"{subject} lowers {name} of {what} by {lowered}."


@dataclass(frozen=True)
class PoolSizeCurve(Plotted, Record):
    """A machine observer's score of one model over pools of several sizes.

    Attributes
    ----------
    model, condition, difficulty, references, observer
        Whose answers to what.
    related
        Whether the observer is a relative of the model.
    sizes
        Pictures in the pools, the largest first.
    points
        The score over each of them, each under a protocol of its own.
    steps
        The change from each size to the next smaller one.
    per_halving
        The slope over all sizes: the change for each halving of the pool; None if there is one size.
    """

    model: str
    condition: str
    difficulty: str
    references: str
    observer: str
    related: bool
    sizes: tuple[int, ...]
    points: tuple[MachineScore, ...]
    steps: tuple[PoolSizeChange, ...]
    per_halving: PoolSizeChange | None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What each step does to the score, and then what each halving does to score and excess."""
        what = f"{self.model} ({self.condition}, by {self.observer})"
        said = [step.sentence(what) for step in self.steps]
        if self.per_halving is not None and len(self.steps) > 1:
            said.append(self.per_halving.sentence(what))
        if self.per_halving is not None:
            said.append(self.per_halving.sentence(what, "excess"))
        return tuple(sentence for sentence in said if sentence)

    def fields(self) -> dict[str, Any]:
        """Return what names the curve in the row of a table."""
        names = ("model", "condition", "difficulty", "references", "observer", "related")
        return {name: getattr(self, name) for name in names}

    def _draw(self, **options: Any) -> Any:
        """Draw the score against the size of the pool."""
        return self._draw_all([self], **options)

    @staticmethod
    def _draw_all(curves: Sequence[PoolSizeCurve], **options: Any) -> Any:
        """Draw scores against the size of the pool, a panel for each model and observer."""
        from analysis.figures import plot_pool_sizes

        return plot_pool_sizes(pd.concat([own.frame() for own in curves], ignore_index=True), **options)

    def frame(self) -> pd.DataFrame:
        """Return the data of the figure, one row for each size and quantity.

        Every size has a protocol of its own, which stands beside it: rows of two sizes are not to be ranked together.

        Returns
        -------
        Columns ``model``, ``condition``, ``difficulty``, ``references``, ``observer``, ``related``, ``protocol``,
        ``pool_size``, ``quantity`` (of :data:`QUANTITIES`), ``value``, ``low``, ``high``, ``method``, ``units``.
        """
        return pd.DataFrame(
            [
                {**self.fields(), "protocol": point.protocol, "pool_size": size, **row}
                for size, point in zip(self.sizes, self.points)
                for row in _rows(point)
            ]
        )


@threaded
def score_pool_sizes(
    responses: pd.DataFrame,
    statistics: pd.DataFrame | None = None,
    *,
    interval: Interval = "student",
    **settings: Unpack[Settings],
) -> ResultList[PoolSizeCurve]:
    """Score every machine observer on every trained model over pools of several sizes.

    Parameters
    ----------
    responses
        The table of responses with a column ``pool_size``, as from
        :func:`benchmark.workflow.observe_pool_sizes`.
    statistics
        The table of unit statistics; flagged units are kept apart.
    interval
        As for :func:`analysis.intervals.means.estimate_mean`.
    settings
        As for every estimator: :class:`Settings`.

    Returns
    -------
    One curve for each model, condition, difficulty, kind of references and observer, low-level apart. A step is made of
    the units that were asked about at both of its sizes, the slope of those asked about at all of them: each unit's
    slope of its proportion correct on log2(largest size / size) by least squares, averaged over units.

    Raises
    ------
    AnalysisError
        If the column is missing, or the answers of one size are under two protocols.
    """
    chosen = choose(settings)
    if "pool_size" not in responses:
        raise AnalysisError(
            "The responses don't say which pool each was given over (column pool_size). Collect answers over smaller "
            "pools with benchmark.workflow.observe_pool_sizes."
        )
    points: dict[tuple[str, ...], dict[int, MachineScore]] = {}
    for size, part in responses.groupby("pool_size", sort=True):
        for score in score_machines(part, statistics, interval=interval, **settings):
            key = (score.model, score.condition, score.difficulty, score.references, score.observer)
            points.setdefault(key, {})[int(size)] = score
    kept = ["model", *UNIT_KEY, "condition", "difficulty", "references", "observer", "pool_size", "correct"]
    machines = responses.loc[(responses["observer_kind"] == "machine") & (responses["kind"] == "main"), kept]
    machines, _ = set_flagged_apart(machines, statistics)
    return ResultList(_curve(key, points[key], machines, chosen, interval) for key in sorted(points))


def _curve(
    key: tuple[str, ...], points: dict[int, MachineScore], machines: pd.DataFrame, settings: Chosen, interval: Interval
) -> PoolSizeCurve:
    """Return the curve of one model and observer."""
    model, condition, difficulty, references, observer = key
    sizes = tuple(sorted(points, reverse=True))
    same = machines[
        (machines["condition"] == condition)
        & (machines["difficulty"] == difficulty)
        & (machines["references"] == references)
    ]
    means = _unit_means(same, model, observer, sizes)
    return PoolSizeCurve(
        model, condition, difficulty, references, observer,
        related=any(point.related for point in points.values()),
        sizes=sizes,
        points=tuple(points[size] for size in sizes),
        steps=tuple(_change(means, observer, pair, settings, interval, per_halving=False) for pair in pairwise(sizes)),
        per_halving=_change(means, observer, sizes, settings, interval, per_halving=True) if len(sizes) > 1 else None,
    )  # fmt: skip


def _unit_means(
    responses: pd.DataFrame, model: str, observer: str, sizes: Sequence[int]
) -> dict[str, pd.DataFrame | None]:
    """Return, for each quantity, the mean of every unit (rows) over every size (columns); None where none answered."""

    def means(of: str, by: str) -> pd.DataFrame | None:
        own = responses[(responses["model"] == of) & (responses["observer"] == by)]
        if own.empty:
            return None
        table = own.groupby([*UNIT_KEY, "pool_size"])["correct"].mean().unstack("pool_size")
        return table.reindex(columns=list(sizes))

    found = {
        "score": means(model, observer),
        # Answers to shuffled references check an observer; nothing is to be subtracted from them.
        "low_level": None if observer.endswith(SHUFFLED) else means(model, LOW_LEVEL),
        "twin": means(model + TWIN_SUFFIX, observer),
    }
    for name, (first, second) in _DIFFERENCES.items():
        one, other = found[first], found[second]
        found[name] = None if one is None or other is None else one - other
    return found


def _change(
    means: dict[str, pd.DataFrame | None],
    observer: str,
    sizes: Sequence[int],
    settings: Chosen,
    interval: Interval,
    *,
    per_halving: bool,
) -> PoolSizeChange:
    """Return the changes over some sizes, the largest first: of two sizes or, for each halving, of all."""
    halvings = np.log2(sizes[0] / np.array(sizes, dtype=np.float64))
    away = halvings - halvings.mean()
    weights = away / (away @ away) if per_halving else np.array([-1.0, 1.0])
    changes: dict[str, Estimate | None] = {}
    for name in QUANTITIES:
        table = means[name]
        complete = None if table is None else table[list(sizes)].dropna()
        if complete is None or complete.empty:
            changes[name] = None
            continue
        # Rounded: where all units change alike, rounding errors are no spread.
        values = np.round(complete.to_numpy(dtype=np.float64) @ weights, 12)
        by = {"low_level": LOW_LEVEL, "excess": f"{observer} minus {LOW_LEVEL}"}.get(name, observer)
        changes[name] = estimate_mean(
            values,
            unit="difference of proportions correct" + (" per halving of the pool" if per_halving else ""),
            seed=settings.seed,
            level=settings.level,
            interval=interval,
            estimand=f"{spell_estimand('new units', observer=by)}; over these pools",
        )
    score = changes.pop("score")
    if score is None:
        raise AnalysisError(f"No unit has answers over all pools of {', '.join(map(str, sizes))} pictures.")
    return PoolSizeChange(sizes[0], sizes[-1], float(halvings[-1]), per_halving, score, **changes)


def pool_size_changes(curves: Sequence[PoolSizeCurve]) -> pd.DataFrame:
    """Return how scores change with the size of the pool, one row for each curve, change and quantity.

    Returns
    -------
    Columns ``model``, ``condition``, ``difficulty``, ``references``, ``observer``, ``related``, ``larger``,
    ``smaller``, ``per_halving`` (the slope rather than a step), ``quantity``, ``value``, ``low``, ``high``, ``method``,
    ``units``.
    """
    rows = [
        {**curve.fields(), "larger": c.larger, "smaller": c.smaller, "per_halving": c.per_halving, **row}
        for curve in curves
        for c in (*curve.steps, *([curve.per_halving] if curve.per_halving else []))
        for row in _rows(c)
    ]
    return pd.DataFrame(rows)


def _rows(result: MachineScore | PoolSizeChange) -> list[dict[str, Any]]:
    """Return the part of a row that each known quantity fills."""
    found: list[tuple[str, Estimate | None]] = [(name, getattr(result, name)) for name in QUANTITIES]
    return [
        {"quantity": name, "value": e.value, "low": e.low, "high": e.high, "method": e.method, "units": e.n}
        for name, e in found
        if e is not None
    ]
