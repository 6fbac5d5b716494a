"""Differences between models, and between conditions: with errors that know which units and people are shared.

Where sessions mix models, the same people answer about several; a model and its twin, or models that a data set
declares to have the same units, are asked about at the same places. Both are in the covariance of the means, which is
summed over the clusters that two models share. Where nothing is shared, the models are independent, and the same
formula says so. Names of units pair nothing: different models whose units have the same names are not paired.

A family of differences is judged together in two ways. Holm (1979), A simple sequentially rejective multiple test
procedure, Scandinavian Journal of Statistics 6, needs nothing but p-values. Max-T (Westfall & Young, 1993,
Resampling-based multiple testing; Hothorn, Bretz & Westfall, 2008, Simultaneous inference in general parametric models,
Biometrical Journal 50) uses how the differences vary together, and gives intervals that hold all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from analysis.comparison.joint_means import DRAWS, JointMeans, draw_scores, join_means, spell_sharing
from analysis.comparison.models import choose_condition, model_means
from analysis.estimands import Drawing, spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.judgement_table import plain, require
from analysis.multiple_tests import adjust_holm, spell_p
from analysis.proportions import Mean, cluster_means, read_answers
from analysis.proportions.clustered_means import ClusteredMeans
from analysis.results import AnalysisResult, Plotted, Record
from analysis.same_units import check_one_model_a_name
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import Estimate

UNIT = "difference of proportions correct"


@dataclass(frozen=True)
class Difference(Record):
    """One difference of a family.

    Attributes
    ----------
    first, second
        What is compared: first minus second.
    difference
        The difference, with an interval of its own.
    simultaneous
        The same, with an interval that holds together with all others of the family.
    p
        Two-sided, by itself.
    p_holm, p_max_t
        Adjusted for the family.
    """

    first: str
    second: str
    difference: Estimate
    simultaneous: Estimate
    p: float
    p_holm: float
    p_max_t: float


@dataclass(frozen=True)
class Comparison(Plotted, AnalysisResult):
    """A family of differences.

    Attributes
    ----------
    family
        What the family is.
    differences
        All of it.
    left_out
        What could not be compared, and why.
    """

    family: str
    differences: tuple[Difference, ...]
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many differences the family has."""
        return len(self.differences)

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.differences)

    def _draw(self, **options: Any) -> Any:
        """Draw differences below one another; thin lines are the simultaneous intervals."""
        from analysis.figures import plot_estimates

        table = self.frame().rename(columns={"simultaneous_low": "outer_low", "simultaneous_high": "outer_high"})
        label = table["first"] + " - " + table["second"]
        return plot_estimates(table.assign(label=label), **{"value_label": UNIT, "level": 0.0, **options})

    def readable(self) -> pd.DataFrame:
        """Return one row a difference as people read it."""
        return pd.DataFrame(
            [
                {
                    "first": own.first, "second": own.second, "difference (alone)": str(own.difference),
                    "p (alone)": spell_p(own.p), "difference (simultaneous)": str(own.simultaneous),
                    "p, max-T": spell_p(own.p_max_t), "p, Holm": spell_p(own.p_holm),
                }
                for own in self.differences
            ]
        )  # fmt: skip

    @property
    def caption(self) -> str:
        """The family, and what could not be compared."""
        left_out = f" Left out: {'; '.join(self.left_out)}." if self.left_out else ""
        return f"First minus second, a family of {self.size}: {self.family}.{left_out}"

    def frame(self) -> pd.DataFrame:
        """Return one row a difference, with the family and its size."""
        rows: list[dict[str, Any]] = []
        for own in self.differences:
            one, all_ = own.difference, own.simultaneous
            rows.append(
                {
                    "first": own.first, "second": own.second, "value": one.value, "low": one.low, "high": one.high,
                    "simultaneous_low": all_.low, "simultaneous_high": all_.high, "p": own.p, "p_holm": own.p_holm,
                    "p_max_t": own.p_max_t, "units": one.n, "family": self.family, "family_size": self.size,
                    "method": all_.method, "estimand": one.estimand, "level": one.level,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)


@threaded
def compare_models(
    table: pd.DataFrame,
    *,
    condition: str | None = None,
    models: Sequence[str] | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    same_units: Mapping[str, str] | None = None,
    **settings: Unpack[Settings],
) -> Comparison:
    """Compare all pairs of models in a condition.

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
        From a model to the one whose units it has, too (``Dataset.same_units``): these are paired, and a model and its
        twin.
    settings
        As for every estimator: :class:`Settings`. The level is the coverage of each interval by itself, and of all
        simultaneous intervals together.

    Returns
    -------
    Every pair, the better model first, pairs of the best model first.

    Raises
    ------
    AnalysisError
        If fewer than two models have answers, several conditions are mixed, or a model has 1 unit or participant.
    """
    chosen = choose(settings)
    level, seed = chosen.level, chosen.seed
    joint = model_means(
        table, condition=condition, models=models, drawing=drawing, mean=mean, units=units, same_units=same_units
    )
    pairs = np.array([(a, b) for a in range(len(joint.names)) for b in range(a + 1, len(joint.names))])
    family = f"all pairs of {len(joint.names)} models" + (f", {condition}" if condition else "")
    estimand = spell_estimand("new units and people", drawing)
    return Comparison(family, _judge(joint, pairs, estimand, level, seed))


@threaded
def compare_conditions(
    table: pd.DataFrame,
    first: str = "natural",
    second: str = "synthetic",
    *,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    **settings: Unpack[Settings],
) -> Comparison:
    """Compare two conditions within each model, paired by unit.

    Parameters
    ----------
    table
        Table of judgements.
    first, second
        The conditions: the difference is first minus second.
    drawing, mean, units, settings
        As in :func:`compare_models`.

    Returns
    -------
    One difference a model, over the units with answers in both conditions; models without such units, or with fewer
    than two units or participants, are named in ``left_out``.

    Raises
    ------
    AnalysisError
        If no model has both conditions.
    """
    chosen = choose(settings)
    level, seed = chosen.level, chosen.seed
    table, first, second = plain(table), str(first), str(second)
    for name in (first, second):
        choose_condition(table, name)
    check_one_model_a_name(table)
    both = table[table["condition"].isin([first, second])]
    seen = both.astype({"model": object, "unit": object}).groupby(["model", "unit"])["condition"].transform("nunique")
    paired = both[seen == 2]
    left_out, kept = [], []
    for model in sorted(both["model"].astype(str).unique()):
        own = paired[paired["model"] == model]
        fewest = own.groupby("condition", observed=True)["participant"].nunique().min() if len(own) else 0
        if own.empty:
            left_out.append(f"{model}: no unit with answers in both conditions")
        elif own["unit"].nunique() < 2 or fewest < 2:
            left_out.append(f"{model}: 1 {'unit' if own['unit'].nunique() < 2 else 'participant'}")
        else:
            kept.append(model)
    if not kept:
        raise AnalysisError(f"No model can be compared between {first!r} and {second!r}: " + "; ".join(left_out) + ".")
    answers = read_answers(paired[paired["model"].isin(kept)], ("model", "condition"), drawing=drawing, units=units)
    means = cluster_means(answers, mean=mean)
    names = [f"{model} {condition}" for model, condition in answers.cells.itertuples(index=False, name=None)]
    pairs = [(f"{model} {first}", f"{model} {second}") for model in kept]
    family = f"{first} minus {second} within {'1 model' if len(kept) == 1 else f'each of {len(kept)} models'}"
    return _compare_paired(means, names, pairs, family, left_out, drawing, level, seed)


CELL = ("model", "condition", "difficulty", "references", "references_per_side")
"""What makes a cell within which groups of people are compared."""


@threaded
def compare_groups(
    table: pd.DataFrame,
    group: str,
    first: str,
    second: str,
    *,
    within: Sequence[str] | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    **settings: Unpack[Settings],
) -> Comparison:
    """Compare two groups of people, such as laymen and experts: people are nested in groups, units are crossed.

    Parameters
    ----------
    table
        Table of judgements.
    group
        Column that tells the groups: an attribute of people.
    first, second
        The groups: the difference is first minus second.
    within
        What makes a cell, each with a difference of its own; the columns of ``CELL`` that vary if None, and nothing for
        one difference over all answers.
    drawing, mean, units, settings
        As in :func:`compare_models`.

    Returns
    -------
    One difference a cell, over the units with answers by both groups; cells without such units, or with fewer than two
    units, or two people in a group, are named in ``left_out``.

    Raises
    ------
    AnalysisError
        If no cell has answers by both groups.
    NameNotFound
        If there is no such column or group.
    """
    chosen = choose(settings)
    level, seed = chosen.level, chosen.seed
    table = plain(require(table, ["correct", "model", "unit", "participant"]))
    if group not in table.columns:
        raise NameNotFound("column of the judgements", group, list(map(str, table.columns)))
    known = sorted(table[group].astype(str).unique())
    for name in (first, second):
        if name not in known:
            raise NameNotFound(f"group of {group}", name, known)
    if within is not None and "references_per_side" not in within:
        table = table.drop(columns="references_per_side", errors="ignore")  # pooled, because that was asked for
    if within is None:
        within = [name for name in CELL if name in table.columns and table[name].nunique() > 1]
    for name in within:
        if name not in table.columns:
            raise NameNotFound("column of the judgements", name, list(map(str, table.columns)))
    factors = [*within, group]
    own = table[table[group].astype(str).isin([first, second])].reset_index(drop=True)
    cell = own.groupby(list(within), observed=True).ngroup() if within else pd.Series(0, index=own.index)
    asked = own.groupby([cell, "model", "unit"], observed=True).ngroup()
    paired = (own[group].astype(str).groupby(asked).transform("nunique") == 2).to_numpy()
    kept, left_out = np.zeros(len(own), dtype=bool), []
    for number in sorted(cell.unique()):
        here = (cell == number).to_numpy()
        called = ", ".join(own.loc[here.argmax(), list(within)].astype(str)) or "all answers"
        answers_here = own[here & paired]
        fewest = answers_here.groupby(group, observed=True)["participant"].nunique().min() if len(answers_here) else 0
        if answers_here.empty:
            left_out.append(f"{called}: no unit with answers by both groups")
        elif answers_here["unit"].nunique() < 2 or fewest < 2:
            few = "unit" if answers_here["unit"].nunique() < 2 else "participant"
            left_out.append(f"{called}: 1 {few}")
        else:
            kept |= here & paired
    if not kept.any():
        raise AnalysisError(f"{first!r} and {second!r} can't be compared: " + "; ".join(left_out) + ".")
    answers = read_answers(own[kept], factors, drawing=drawing, units=units)
    means = cluster_means(answers, mean=mean)
    names = [", ".join(row) for row in answers.cells[factors].itertuples(index=False, name=None)]
    cells = [", ".join(row) for row in answers.cells[list(within)].drop_duplicates().itertuples(index=False, name=None)]
    prefixes = [f"{name}, " for name in cells] if within else [""]
    pairs = [(f"{prefix}{first}", f"{prefix}{second}") for prefix in prefixes]
    family = f"{first} minus {second}" + (f" within each of {len(pairs)} cells" if within else "")
    return _compare_paired(means, names, pairs, family, left_out, drawing, level, seed)


def _compare_paired(
    means: ClusteredMeans,
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    family: str,
    left_out: Sequence[str],
    drawing: Drawing,
    level: float,
    seed: int,
) -> Comparison:
    """Return the family of differences between cells, named one for one, that share their units."""
    joint = join_means(means, list(names), f"paired by unit; {spell_sharing(means, 'cells')}")
    place = {name: number for number, name in enumerate(joint.names)}
    numbers = np.array([(place[first], place[second]) for first, second in pairs])
    estimand = spell_estimand("new units and people", drawing)
    return Comparison(family, _judge(joint, numbers, estimand, level, seed), tuple(left_out))


def _judge(
    joint: JointMeans, pairs: NDArray[np.int64], estimand: str, level: float, seed: int
) -> tuple[Difference, ...]:
    """Return the differences of a family, with intervals and p-values."""
    first, second = pairs.T
    scores = np.abs(joint.scores()[first, second])
    maxima = np.sort(np.concatenate([np.abs(own).max(axis=1) for own in draw_scores(joint, pairs, seed)]))
    quantile = float(np.quantile(maxima, level, method="higher"))
    normal = critical_value(level)
    p = 2 * norm.sf(scores)
    above = len(maxima) - np.searchsorted(maxima, scores, side="left")
    # One is added to both: a simulated p-value is never 0 (Davison & Hinkley, 1997, equation 4.11).
    p_max_t = np.maximum((above + 1) / (len(maxima) + 1), p)
    p_holm = adjust_holm(p)
    alone, together = joint.critical_difference(normal), joint.critical_difference(max(quantile, normal))
    result = []
    for k, (a, b) in enumerate(pairs.tolist()):
        value, freedom = float(joint.values[a] - joint.values[b]), float(joint.freedom[a, b])
        count = int(joint.units[a, b])
        method = f"difference, {joint.method}, Student's t on {freedom:.1f} degrees of freedom"
        one = _difference(value, float(alone[a, b]), method, count, estimand, level)
        held = f"{method}; simultaneous over {len(pairs)} differences by max-T ({DRAWS:,} draws)"
        every = _difference(value, float(together[a, b]), held, count, estimand, level)
        result.append(
            Difference(joint.names[a], joint.names[b], one, every, float(p[k]), float(p_holm[k]), float(p_max_t[k]))
        )
    return tuple(result)


def _difference(value: float, half: float, method: str, count: int, estimand: str, level: float) -> Estimate:
    """Return a difference of proportions: its interval ends where proportions do."""
    return Estimate(value, max(value - half, -1.0), min(value + half, 1.0), method, count, UNIT, estimand, level)
