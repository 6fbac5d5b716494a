"""Differences between models, and between conditions: with errors that know which units and people are shared.

Where sessions mix models, the same people answer about several; where twins are compared, the same places of an
architecture are. Both are in the covariance of the means, which is summed over the clusters that two models share.
Where nothing is shared, the models are independent, and the same formula says so.

A family of differences is judged together in two ways. Holm (1979), A simple sequentially rejective multiple test
procedure, Scandinavian Journal of Statistics 6, needs nothing but p-values. Max-T (Westfall & Young, 1993,
Resampling-based multiple testing; Hothorn, Bretz & Westfall, 2008, Simultaneous inference in general parametric models,
Biometrical Journal 50) uses how the differences vary together, and gives intervals that hold all at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2, norm, t

from analysis.arrays import Floats
from analysis.estimands import Drawing, spell_estimand
from analysis.multiple_tests import adjust_holm
from analysis.proportions import LEVEL, Answers, ClusteredMeans, Mean, cluster_means, read_answers
from analysis.proportions.answers import Codes
from analysis.sandwich import satterthwaite
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import Estimate

DRAWS = 20_000
"""Draws from the joint distribution of the means."""

UNIT = "difference of proportions correct"
_CHUNK = 4_000_000
"""Differences drawn at a time: bounds memory."""


@dataclass(frozen=True)
class JointMeans:
    """Means that vary together, ordered from the highest to the lowest.

    Attributes
    ----------
    names
        What they are means of.
    values
        Shape (means,).
    covariance
        Shape (means, means): symmetric, without negative eigenvalues.
    errors
        Shape (means, means): standard error of each difference.
    freedom
        Shape (means, means): degrees of freedom of each difference's error.
    method
        How the errors were made.
    units
        Shape (means, means): how many units each difference rests on.
    """

    names: tuple[str, ...]
    values: Floats
    covariance: Floats
    errors: Floats
    freedom: Floats
    method: str
    units: Codes

    def scores(self) -> Floats:
        """Return every difference in standard normal terms, shape (means, means): row minus column."""
        difference = self.values[:, None] - self.values[None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.errors > 0, difference / self.errors, 0.0)
        # From the upper tail, where precision is.
        result: Floats = np.sign(ratio) * norm.isf(t.sf(np.abs(ratio), self.freedom))
        return np.clip(result, -38.0, 38.0)

    def critical_difference(self, quantile: float) -> Floats:
        """Return how large each difference must be to reach a standard normal quantile, shape (means, means)."""
        result: Floats = t.isf(norm.sf(quantile), self.freedom) * self.errors
        return result


def join_means(means: ClusteredMeans, names: Sequence[str], words: str = "") -> JointMeans:
    """Return cells' means with the errors of all their differences.

    Parameters
    ----------
    means
        The means, and what units and participants add to them.
    names
        Name of each cell.
    words
        What the method adds about the clusters.

    Raises
    ------
    AnalysisError
        If a cell has fewer than two units or participants: it can't speak for new ones.
    """
    units, people = means.counts["units"], means.counts["people"]
    for count, what in ((units, "unit"), (people, "participant")):
        if count.min() < 2:
            name = names[int(count.argmin())]
            raise AnalysisError(
                f"{name} rests on 1 {what}, which can't speak for new ones: a difference from it has no error. Leave "
                "it out, or gather more answers."
            )
    # What is drawn must not depend on names: the best comes first.
    order = np.array(sorted(range(len(names)), key=lambda k: (-round(float(means.values[k]), 12), names[k])))
    values = means.values[order]
    sources = {source: means.covariance(source)[np.ix_(order, order)] for source in ("units", "people", "crossings")}
    floor = np.diag(_variance_without_spread(values, np.minimum(units, people)[order]))
    by_units, by_people = sources["units"] + floor, sources["people"] + floor
    two_way = sources["units"] + sources["people"] - sources["crossings"] + floor
    spread_units, spread_people = _of_differences(by_units), _of_differences(by_people)
    variance = np.maximum(_of_differences(two_way), np.maximum(spread_units, spread_people))
    freedom = satterthwaite(
        variance,
        spread_units,
        _cluster_freedom(means, "units", order, by_units),
        spread_people,
        _cluster_freedom(means, "people", order, by_people),
    )
    shared = _shared_clusters(means, "units")[np.ix_(order, order)]
    count = units[order]
    method = (
        f"two-way sandwich over units and participants ({int(means.counts['answers'].sum()):,} answers"
        f"{', ' + words if words else ''})"
    )
    agreeing = [names[k] for k in order if means.values[k] in (0.0, 1.0)]
    if agreeing:
        method += f", with 2 right and 2 wrong answers added for {', '.join(agreeing)}, where all answers agree"
    return JointMeans(
        tuple(names[k] for k in order),
        values,
        _nearest_covariance(two_way),
        np.sqrt(np.maximum(variance, 0.0)),
        freedom,
        method,
        (count[:, None] + count[None, :] - shared).astype(np.int64),
    )


def _variance_without_spread(values: Floats, count: Codes) -> Floats:
    """Return the variance that a cell gets where all answers agree, 0 elsewhere.

    It is that of Agresti & Coull (1998), with as many answers as there are units or participants, if those are fewer.
    """
    middle = (count * values + 2) / (count + 4)
    return np.where((values == 0) | (values == 1), middle * (1 - middle) / (count + 4), 0.0)


def _of_differences(covariance: Floats) -> Floats:
    """Return the variance of each difference."""
    own = np.diag(covariance)
    result: Floats = own[:, None] + own[None, :] - 2 * covariance
    np.fill_diagonal(result, 0.0)
    return result


def _shared_clusters(means: ClusteredMeans, source: str) -> Codes:
    """Return how many clusters each two cells share, shape (cells, cells); on the diagonal, how many each has."""
    own = means.scores[source].copy()
    own.data = np.ones_like(own.data)
    return np.asarray((own.T @ own).toarray()).round().astype(np.int64)


def _cluster_freedom(means: ClusteredMeans, source: str, order: Codes, covariance: Floats) -> Floats:
    """Return the degrees of freedom of one clustering's variance of each difference, shape (cells, cells).

    Two independent samples have Welch's (1947); one sample that both share, its size less 1; in between, all clusters
    less 2.
    """
    shared = _shared_clusters(means, source)[np.ix_(order, order)].astype(np.float64)
    count, own = np.diag(shared), np.diag(covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = own**2 / np.maximum(count - 1, 1)
        welch = (own[:, None] + own[None, :]) ** 2 / (parts[:, None] + parts[None, :])
    welch = np.where(np.isfinite(welch), welch, np.minimum(count[:, None], count[None, :]) - 1)
    union = count[:, None] + count[None, :] - shared
    freedom = np.where(shared == 0, welch, np.where(union == shared, union - 1, union - 2))
    return np.maximum(freedom, 1.0)


def _nearest_covariance(matrix: Floats) -> Floats:
    """Return a covariance matrix without the negative eigenvalues that a difference of matrices may have."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    result: Floats = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return result


def draw_scores(joint: JointMeans, pairs: NDArray[np.int64], seed: int, draws: int = DRAWS) -> Iterator[Floats]:
    """Draw differences as they would vary if all means were equal, each in its own standard deviations.

    Yields
    ------
    Shape (some draws, pairs), in all ``draws`` rows: standard normal, correlated as the differences are.
    """
    first, second = pairs.T
    values, vectors = np.linalg.eigh(joint.covariance)
    # The signs of eigenvectors are arbitrary; so are vectors of equal eigenvalues, which the draws' law does not mind.
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    root = root * np.where(root.sum(axis=0) < 0, -1.0, 1.0)
    spread = np.sqrt(np.maximum(((root[first] - root[second]) ** 2).sum(axis=1), 0.0))
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // max(len(pairs), 1))
    for start in range(0, draws, size):
        own = rng.standard_normal((min(size, draws - start), len(values))) @ root.T
        difference = own[:, first] - own[:, second]
        yield np.divide(difference, spread, out=np.zeros_like(difference), where=spread > 1e-15)


# ------------------------------------------------------------------------------------------------------ families


@dataclass(frozen=True)
class Difference:
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
class Comparison:
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

    def table(self) -> pd.DataFrame:
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


def compare_models(
    table: pd.DataFrame,
    *,
    condition: str | None = None,
    models: Sequence[str] | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    level: float = LEVEL,
    seed: int = 0,
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
    level
        Coverage of each interval by itself, and of all simultaneous intervals together.
    seed
        Of the joint distribution.

    Returns
    -------
    Every pair, the better model first, pairs of the best model first.

    Raises
    ------
    AnalysisError
        If fewer than two models have answers, several conditions are mixed, or a model has 1 unit or participant.
    """
    joint = model_means(table, condition=condition, models=models, drawing=drawing, mean=mean, units=units)
    pairs = np.array([(a, b) for a in range(len(joint.names)) for b in range(a + 1, len(joint.names))])
    family = f"all pairs of {len(joint.names)} models" + (f", {condition}" if condition else "")
    estimand = spell_estimand("new units and people", drawing)
    return Comparison(family, _judge(joint, pairs, estimand, level, seed))


def model_means(
    table: pd.DataFrame,
    *,
    condition: str | None = None,
    models: Sequence[str] | None = None,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
) -> JointMeans:
    """Return the models' means in a condition, with the errors of all their differences.

    Units at the same place of the same architecture belong together: a twin and its model share them.

    Raises
    ------
    AnalysisError, NameNotFound
        As in :func:`compare_models`.
    """
    own = choose_condition(table, condition)
    if models is not None:
        known = sorted(own["model"].astype(str).unique())
        for name in models:
            if name not in known:
                raise NameNotFound("model with answers", name, known)
        own = own[own["model"].isin(models)]
    if own["model"].nunique() < 2:
        raise AnalysisError("A comparison needs two models with answers.")
    answers = read_answers(own, ("model",), drawing=drawing, units=units)
    places = _places(answers)
    means = cluster_means(answers, mean=mean, unit_clusters=places)
    return join_means(means, answers.cells["model"].tolist(), _sharing(means, "models"))


def choose_condition(table: pd.DataFrame, condition: str | None) -> pd.DataFrame:
    """Return the judgements of one condition.

    Raises
    ------
    AnalysisError
        If none is named and there are several.
    NameNotFound
        If there are no answers in the one that is named.
    """
    known = sorted(table["condition"].astype(str).unique())
    if condition is None:
        if len(known) > 1:
            raise AnalysisError(f"The judgements mix the conditions {', '.join(known)}: name the one to compare in.")
        return table
    if condition not in known:
        raise NameNotFound("condition with answers", condition, known)
    return table[table["condition"] == condition]


def _places(answers: Answers) -> Codes:
    """Return for each unit the number of its place: its name without the model's.

    Names that don't begin with their model's are places of their own.
    """
    model_of = np.zeros(len(answers.unit_names), dtype=np.int64)
    model_of[answers.unit] = answers.model
    names = [
        unit.removeprefix(f"{answers.model_names[model]}/")
        for unit, model in zip(answers.unit_names.tolist(), model_of.tolist())
    ]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _sharing(means: ClusteredMeans, what: str) -> str:
    """Say what cells share."""
    shared = []
    for source, word in (("units", "units"), ("people", "participants")):
        own = _shared_clusters(means, source)
        if (own - np.diag(np.diag(own))).any():
            shared.append(word)
    if not shared:
        return f"{what} share neither units nor participants"
    return f"{what} share {' and '.join(shared)}" + ("" if len(shared) == 2 else " alone")


def compare_conditions(
    table: pd.DataFrame,
    first: str = "natural",
    second: str = "synthetic",
    *,
    drawing: Drawing = "layer-uniform",
    mean: Mean = "units",
    units: pd.DataFrame | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> Comparison:
    """Compare two conditions within each model, paired by unit.

    Parameters
    ----------
    table
        Table of judgements.
    first, second
        The conditions: the difference is first minus second.
    drawing, mean, units, level, seed
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
    for name in (first, second):
        choose_condition(table, name)
    both = table[table["condition"].isin([first, second])]
    seen = both.groupby(["unit"], observed=True)["condition"].nunique()
    paired = both[both["unit"].isin(seen.index[seen == 2])]
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
    joint = join_means(means, names, f"paired by unit; {_sharing(means, 'cells')}")
    place = {name: number for number, name in enumerate(joint.names)}
    pairs = np.array([(place[f"{model} {first}"], place[f"{model} {second}"]) for model in kept])
    family = f"{first} minus {second} within each of {len(kept)} models"
    estimand = spell_estimand("new units and people", drawing)
    return Comparison(family, _judge(joint, pairs, estimand, level, seed), tuple(left_out))


def _judge(
    joint: JointMeans, pairs: NDArray[np.int64], estimand: str, level: float, seed: int
) -> tuple[Difference, ...]:
    """Return the differences of a family, with intervals and p-values."""
    first, second = pairs.T
    scores = np.abs(joint.scores()[first, second])
    maxima = np.sort(np.concatenate([np.abs(own).max(axis=1) for own in draw_scores(joint, pairs, seed)]))
    quantile = float(np.quantile(maxima, level, method="higher"))
    normal = float(norm.ppf((1 + level) / 2))
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


@dataclass(frozen=True)
class UnitLevelTest:
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
        raise AnalysisError("A comparison needs two models with answers.")
    if len(means) <= len(names) or np.ptp(means["correct"].to_numpy()) == 0:
        raise AnalysisError("The unit means can't be ranked: there is one unit a model, or all units agree.")
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
