"""Slopes of a few models whose errors differ in spread, or are shared within families: the inference verdicts rest on.

Least squares takes all models for equally exact and independent. Nine real models are neither: if small ones scatter
more than large ones, or relatives err together, its test of a slope of 0 rejects up to five times as often as it says.
Here the slope is that of least squares, and its error comes from the models' own residuals:

- every model by itself, where no two are known to be relatives: the sandwich of White (1980, Econometrica 48), each
  residual divided by (1 - leverage)^.6, between HC2 (.5) and HC3 (1);
- clusters by family, where some models are relatives: CR2 of Bell & McCaffrey (2002, Survey Methodology 28).

Both refer to Student's t with the degrees of freedom of Bell & McCaffrey, which count how many residuals the slope
really rests on: Imbens & Kolesar (2016), Rev. Econ. Stat. 98; Pustejovsky & Tipton (2018), J. Bus. Econ. Stat. 36.
Exponents and clusters were chosen by simulation among HC2, HC3, HC4m, CR3, wild bootstraps, and a regression that
averages over spreads and correlations: see ``docs/scaling.md`` for what each world gave, and what it costs.

What no such test can do is refused: two families, each with its own range of the predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.scaling.permutation import MOST_EXACT, PermutationTest, permute_spearman

EXPONENT = 0.6
"""Of 1 - leverage, where every model is by itself: HC2 has .5, HC3 has 1."""

FEW_FAMILIES = 4
"""With so many families or fewer, degrees of freedom are also counted as if relatives shared half of their variance."""

MOST_SHARED = 1.25
"""Of two families: how many times errors that relatives share may multiply the slope's variance, before it is refused.
"""

UNEVEN = 0.05
"""The check of residual spread speaks up below this p-value."""


@dataclass(frozen=True)
class RobustFit:
    """The error of a least-squares slope, from residuals of models or families.

    Attributes
    ----------
    slope, standard_error
        The slope of least squares, and its error.
    degrees_of_freedom
        Of Student's t, by Bell and McCaffrey; at least 1, seldom whole.
    clusters
        Models or families that count as independent.
    method
        What was done, in words that a paper could print.
    """

    slope: float
    standard_error: float
    degrees_of_freedom: float
    clusters: int
    method: str


def robust_weights(
    x: NDArray[np.float64], clusters: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return what turns means into a slope and its robust error; it depends on the predictor alone.

    Parameters
    ----------
    x
        Shape (models,): the predictor; not constant.
    clusters
        Shape (models,): what errors may be shared in. All different: models by themselves.

    Returns
    -------
    Weights of the slope, shape (models,); weights of each cluster's part in the error, shape (clusters, models): the
    error is the root of the sum of squares of these times the means; and the degrees of freedom.
    """
    models = len(x)
    design = np.column_stack([np.ones(models), x - x.mean()])
    inverse = np.linalg.inv(design.T @ design)
    hat = design @ inverse @ design.T
    rest = np.eye(models) - hat
    weights = inverse[1] @ design.T
    names = np.unique(clusters)
    power = EXPONENT if len(names) == models else 0.5
    parts = np.empty((len(names), models))
    for row, name in enumerate(names):
        own = np.flatnonzero(clusters == name)
        values, vectors = np.linalg.eigh(rest[np.ix_(own, own)])
        # A direction without any residual (a cluster that fixes a coefficient by itself) has no part in the error.
        scale = np.where(values > 1e-9, np.maximum(values, 1e-9), np.inf) ** -power
        parts[row] = (weights[own] @ (vectors * scale) @ vectors.T) @ rest[own]
    freedom = _freedom(parts @ parts.T)
    if len(names) < models and len(names) <= FEW_FAMILIES:
        half = 0.5 * np.eye(models) + 0.5 * (clusters[:, None] == clusters[None, :])
        freedom = min(freedom, _freedom(parts @ half @ parts.T))
    return weights, parts, max(freedom, 1.0)


def _freedom(products: NDArray[np.float64]) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of squares, from the covariance of what is squared."""
    return float(np.trace(products) ** 2 / (products**2).sum())


def robust_slope(
    x: NDArray[np.float64], y: NDArray[np.float64], families: Sequence[str] | None = None
) -> RobustFit | str:
    """Return the slope of model means with an error that survives unequal and shared errors, or why there is none.

    Parameters
    ----------
    x, y
        Shape (models,): the predictor, which is not constant, and the means.
    families
        Family of each model; the empty name where it is not known, which then counts as a family of its own.

    Returns
    -------
    The fit; or, in words, why no test of these models keeps its level.
    """
    names = cluster_names(len(x), families)
    codes = np.unique(names, return_inverse=True)[1].astype(np.int64)
    count = int(codes.max()) + 1
    shared = shared_inflation(x, codes)
    if count == 2 and shared > MOST_SHARED:
        return (
            "the models are of two families that lie apart on the predictor: effects of family can't be separated "
            f"from the slope and could multiply its variance by {shared:.1f}, so no test is valid here. Add models of "
            "other families, or models of these families with other values"
        )
    if count <= 2:
        # One family shares all; two that overlap tell too little of how families differ.
        codes = np.arange(len(x), dtype=np.int64)
    weights, parts, freedom = robust_weights(x, codes)
    error = float(np.sqrt(((parts @ y) ** 2).sum()))
    clusters = int(codes.max()) + 1
    return RobustFit(float(weights @ y), error, freedom, clusters, _spell(len(x), clusters, names, families))


def cluster_names(models: int, families: Sequence[str] | None) -> list[str]:
    """Return the name of each model's family; a model of an unknown family has one of its own."""
    known = [""] * models if families is None else list(families)
    return [name or f"\0{place:09d}" for place, name in enumerate(known)]


def shared_inflation(x: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Return the factor by which fully correlated errors of relatives would multiply the slope's variance.

    It is the design effect of Kish for a slope: the sum over families of (sum of x - mean)^2 over that of squares.
    """
    centred = x - x.mean()
    sums = np.bincount(clusters, weights=centred)
    return float((sums @ sums) / (centred @ centred))


def check_spread(x: NDArray[np.float64], y: NDArray[np.float64]) -> PermutationTest | None:
    """Test whether residuals spread more at one end of the predictor: Spearman's correlation of their sizes with it.

    Residuals of least squares are divided by sqrt(1 - leverage), so that a model that pulls the line to itself is not
    taken for an exact one. Nine models show only gross differences: that none is found does not show that there is
    none, and the verdict does not depend on it.

    Returns
    -------
    The correlation with its permutation test (from ten models on, Student's t); None where the residuals are all alike.
    """
    centred = x - x.mean()
    leverage = 1 / len(x) + centred**2 / float(centred @ centred)
    residual = y - y.mean() - centred * float(centred @ y) / float(centred @ centred)
    size = np.round(np.abs(residual) / np.sqrt(np.maximum(1 - leverage, 1e-9)), 12)
    if np.ptp(size) == 0:
        return None
    if len(x) < MOST_EXACT:
        return permute_spearman(x, size)
    # The check stands beside every slope, and counting more assignments would take longer than all the rest.
    from scipy.stats import spearmanr

    found = spearmanr(x, size)
    return PermutationTest(float(found.statistic), float(found.pvalue), 0.0, "Spearman's rank correlation, Student's t")


def _spell(models: int, clusters: int, names: Sequence[str], families: Sequence[str] | None) -> str:
    own = f"least squares on {models} model means, heteroscedasticity-robust error"
    if clusters < models:
        return f"{own} with clusters by family ({clusters} families, CR2, Bell-McCaffrey)"
    unknown = sum(name.startswith("\0") for name in names)
    if families is None or unknown == models:
        why = "no family is known"
    elif len(set(names)) == models:
        why = "no two models are relatives" if not unknown else f"no two are known to be relatives, {unknown} unknown"
    elif len(set(names)) == 1:
        why = "all are of one family"
    else:
        why = "two families, too few to cluster by"
    return f"{own}, each model separately ({why}; HC with exponent {EXPONENT:g}, Bell-McCaffrey)"
