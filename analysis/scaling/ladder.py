"""One slope: its fits to a condition's models, or why there is none; and notes on its points.

The rungs are least squares, the same slope with a robust error, meta-regression and, where one is given, the mixed
model. ``analysis.scaling.study`` asks
for every slope of a study, and gives each its place in a family of tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.multiple_tests import spell_p
from analysis.scaling.permutation import PermutationTest
from analysis.scaling.predictors import LEAST_MODELS, Predictor
from analysis.scaling.regression import LeastSquaresFit, Slope, least_squares, make_slope, meta_regression
from analysis.scaling.results import INFLUENTIAL, MixedModel, MixedModelSlope, Refusal, Rung
from analysis.scaling.robust import UNEVEN, check_spread, robust_slope
from benchmark.estimate import Estimate

FULL_LEVERAGE = 0.99
"""From this leverage on, one model decides the slope: the others only say what it differs from."""


@dataclass(frozen=True)
class FittedSlope:
    """A result before its family is known."""

    points: pd.DataFrame
    fit: LeastSquaresFit
    least_squares: Slope
    robust: Slope | Refusal
    meta_regression: Slope | Refusal
    mixed_model: MixedModelSlope | Refusal | None
    between_models: Estimate | None
    within_families: Slope | Refusal
    spread: PermutationTest | None
    warnings: tuple[str, ...]
    effective_sample_size: str


def own_points(points: pd.DataFrame, values: pd.Series, condition: str) -> pd.DataFrame:
    """Return a condition's models that have the predictor, from the lowest to the highest."""
    own = points[points["condition"] == condition]
    own = own[own["model"].isin(values.index)]
    own = own.assign(x=values.reindex(own["model"]).to_numpy())
    return own.sort_values(["x", "value", "model"], ignore_index=True)


def why_not(own: pd.DataFrame, predictor: Predictor) -> str:
    """Say why models do not support a slope; return nothing if they do."""
    x = own["x"].to_numpy()
    if len(own) < LEAST_MODELS:
        return f"{count_models(len(own))}, but a slope needs at least {LEAST_MODELS}"
    close = 1e-9 * max(1.0, float(np.abs(x).max()))
    if np.ptp(x) <= close:
        return f"all {len(own)} models have the same {predictor.column.replace('_', ' ')}"
    centred = x - x.mean()
    leverage = 1 / len(x) + centred**2 / float(centred @ centred)
    if leverage.max() >= FULL_LEVERAGE:
        alone = own["model"].iloc[int(leverage.argmax())]
        return f"one model ({alone}) against {_spell(len(x) - 1)}"
    distinct = np.unique(np.round(x / close) * close)
    if len(distinct) < 3:
        low = own["model"][x <= distinct[0] + close]
        high = own["model"][x > distinct[0] + close]
        smaller = low if len(low) < len(high) else high
        return (
            f"two values only: {_spell(len(smaller))} models ({', '.join(sorted(smaller))}) against "
            f"{_spell(len(x) - len(smaller))}"
        )
    if np.ptp(x) < predictor.least_range:
        return (
            f"the {len(x)} models span only {np.ptp(x):.2f} on the scale of {predictor.label}; a slope needs at least "
            f"{predictor.least_range:g}"
        )
    if least_squares(x, own["value"].to_numpy()).standard_errors[0] <= 1e-12:
        return "the means lie exactly on a line, so no standard error can be estimated"
    return ""


def fit_slope(
    points: pd.DataFrame,
    values: pd.Series,
    condition: str,
    predictor: Predictor,
    mixed_model: MixedModel | None,
    rung: Rung,
    estimand: str,
    in_study: set[str],
) -> FittedSlope | Refusal:
    """Fit one slope by every method, or say why there is none."""
    own = own_points(points, values, condition)
    names = tuple(own["model"])

    def refusal(reason: str) -> Refusal:
        return Refusal(condition, predictor.name, reason, names)

    if reason := why_not(own, predictor):
        others = int((points["condition"] == condition).sum()) - len(own)
        if others and len(own) < LEAST_MODELS:
            reason += f", and the predictor is unknown for the other {others}"
        return refusal(reason)
    x, y = own["x"].to_numpy(), own["value"].to_numpy()
    n = len(y)

    def slope(value: float, error: float, freedom: float, method: str) -> Slope:
        return make_slope(
            predictor.name, value, error, freedom, n=n, unit=predictor.unit, method=method, estimand=estimand
        )

    fit = least_squares(x, y)
    least = slope(
        float(fit.coefficients[0]), float(fit.standard_errors[0]), fit.degrees_of_freedom,
        f"ordinary least squares on {n} model means",
    )  # fmt: skip
    families = list(own["family"])
    answer = robust_slope(x, y, families)
    robust: Slope | Refusal
    if isinstance(answer, str):
        robust = refusal(answer)
    elif answer.standard_error <= 1e-12:
        robust = refusal("the residuals that a robust error is made from are all 0")
    else:
        robust = slope(answer.slope, answer.standard_error, answer.degrees_of_freedom, answer.method)
    spread = check_spread(x, y)
    meta: Slope | Refusal
    between: Estimate | None = None
    errors = own["standard_error"].to_numpy(dtype=np.float64)
    if not (np.isfinite(errors).all() and (errors > 0).all()):
        without = [name for name, error in zip(names, errors) if not (np.isfinite(error) and error > 0)]
        meta = refusal(f"no positive standard error is known for the mean of {', '.join(without)}")
    else:
        found = meta_regression(x, y, errors)
        meta = slope(
            float(found.coefficients[0]), float(found.standard_errors[0]), found.degrees_of_freedom,
            f"random-effects meta-regression of {n} model means, REML, Knapp-Hartung",
        )  # fmt: skip
        between = Estimate(
            found.between, found.between_low, found.between_high,
            f"REML, Q-profile interval; Q({found.degrees_of_freedom}) = {found.heterogeneity:.1f}, p = {found.p:.3g}",
            n, "proportion correct", estimand,
        )  # fmt: skip
    mixed: MixedModelSlope | Refusal | None = None
    if mixed_model is not None:
        fitted = mixed_model(condition, predictor, pd.Series(x, index=pd.Index(names), name=predictor.name))
        mixed = refusal(fitted) if isinstance(fitted, str) else fitted
    if rung == "robust" and isinstance(robust, Refusal):
        return robust
    if rung == "meta-regression" and isinstance(meta, Refusal):
        return meta
    if rung == "mixed model" and not isinstance(mixed, MixedModelSlope):
        return mixed if isinstance(mixed, Refusal) else refusal("no mixed model was given")
    own = _leave_one_out(own.assign(leverage=fit.leverage, cook=fit.cook))
    return FittedSlope(
        own, fit, least, robust, meta, mixed, between, _fit_within_families(own, refusal, slope), spread,
        _warnings(points, own, condition, in_study, least, spread), _effective_sample_size(own, fit.degrees_of_freedom),
    )  # fmt: skip


def _leave_one_out(own: pd.DataFrame) -> pd.DataFrame:
    """Add slope, standard error and p with each model left out."""
    rows = []
    freedom = len(own) - 3
    for left_out in range(len(own)):
        x, y = np.delete(own["x"].to_numpy(), left_out), np.delete(own["value"].to_numpy(), left_out)
        centred = x - x.mean()
        spread = float(centred @ centred)
        value = float(centred @ y) / spread
        residual = y - y.mean() - value * centred
        error = float(np.sqrt(residual @ residual / freedom / spread))
        # The rest may lie exactly on a line: its slope is then certain, as far as these points go.
        p = two_sided(value, error, freedom) if error > 1e-12 else float(abs(value) < 1e-12)
        rows.append((value, error, p))
    names = ["slope_without", "standard_error_without", "p_without"]
    columns = ["model", "family", "x", "value", "standard_error", "leverage", "cook", "answers"]
    kept = own[[column for column in columns if column in own.columns]]
    return pd.concat([kept, pd.DataFrame(rows, columns=names, index=own.index)], axis=1)


def two_sided(value: float, error: float, freedom: float) -> float:
    """Return the p-value of a slope with this standard error, from Student's t."""
    from scipy.stats import t

    return float(2 * t.sf(abs(value) / error, freedom))


def _fit_within_families(
    own: pd.DataFrame, refusal: Callable[[str], Refusal], slope: Callable[[float, float, float, str], Slope]
) -> Slope | Refusal:
    """Fit the slope with a constant for each family of architectures, or say why not."""
    counts = own["family"].value_counts()
    if (own["family"] == "").any():
        unknown = own.loc[own["family"] == "", "model"]
        return refusal(f"the family of {', '.join(unknown)} is not known")
    if len(counts) == 1:
        return refusal(f"all models are of one family ({counts.index[0]})")
    freedom = len(own) - len(counts) - 1
    if freedom < 2:
        return refusal(f"{len(own)} models of {len(counts)} families leave too little to separate size from family")
    dummies = np.column_stack([(own["family"] == name).to_numpy(dtype=np.float64) for name in sorted(counts.index)[1:]])
    inner = own["x"] - own.groupby("family")["x"].transform("mean")
    total = float((inner**2).sum())
    if total <= 1e-9 * float(((own["x"] - own["x"].mean()) ** 2).sum()):
        return refusal("within families all models have the same value")
    share = (inner**2).groupby(own["family"]).sum() / total
    if share.max() >= FULL_LEVERAGE and counts[share.idxmax()] < 3:
        return refusal(f"only the two models of the family {share.idxmax()} differ within a family")
    if float((inner**2).max() / total) >= FULL_LEVERAGE:
        return refusal(
            f"one model ({own.loc[(inner**2).idxmax(), 'model']}) alone determines the slope within families"
        )
    fit = least_squares(np.column_stack([own["x"], dummies]), own["value"].to_numpy())
    if fit.standard_errors[0] <= 1e-12:
        return refusal("within families the means lie exactly on lines")
    families = ", ".join(f"{counts[name]} {name}" for name in sorted(counts.index))
    return slope(
        float(fit.coefficients[0]), float(fit.standard_errors[0]), fit.degrees_of_freedom,
        f"ordinary least squares with a constant for each family ({families})",
    )  # fmt: skip


def _warnings(
    points: pd.DataFrame,
    own: pd.DataFrame,
    condition: str,
    in_study: set[str],
    least: Slope,
    spread: PermutationTest | None,
) -> tuple[str, ...]:
    """Say what a reader must know of the points."""
    said = []
    judged = set(points.loc[points["condition"] == condition, "model"])
    if absent := sorted(in_study - judged):
        said.append(f"{len(judged)} of {len(in_study)} models have a {condition} mean; {', '.join(absent)} has none.")
        if len(absent) > 1:
            said[-1] = said[-1].replace(" has none.", " have none.")
    if lacking := sorted(judged - set(own["model"])):
        said.append(f"Left out, because the predictor is unknown: {', '.join(lacking)}.")
    common = own["x"].mode().iloc[0]
    others = own[own["x"] != common]
    if 0 < len(others) <= 2 < len(own) - len(others):
        names = ", ".join(sorted(others["model"]))
        said.append(
            f"{_spell(len(others))[0].upper()}{_spell(len(others))[1:]} models in all ({names}) differ from the other "
            f"{_spell(len(own) - len(others))}: the slope is this contrast, and includes everything else in which "
            "they differ."
        )
    worst = own.loc[own["cook"].idxmax()]
    if worst["cook"] > INFLUENTIAL:
        said.append(
            f"The slope depends on one influential model: {worst['model']} (Cook's distance {worst['cook']:.2f}); "
            f"without it, it is {worst['slope_without']:.3f}."
        )
    signs = np.sign(own["slope_without"])
    if (signs != np.sign(least.value)).any():
        turning = own.loc[signs != np.sign(least.value), "model"]
        said.append(f"The slope changes its sign without {_either(turning)}.")
    elif least.p < 1 - least.estimate.level and (own["p_without"] >= 1 - least.estimate.level).any():
        losing = own.loc[own["p_without"] >= 1 - least.estimate.level]
        row = losing.loc[losing["p_without"].idxmax()]
        said.append(
            f"Tested alone, by least squares, the slope is off zero, but not without {_either(losing['model'])} "
            f"(p up to {spell_p(row['p_without'])})."
        )
    if spread is not None and spread.p < UNEVEN:
        end = "highest" if spread.coefficient > 0 else "lowest"
        said.append(
            f"Models scatter more at the {end} values of the predictor (Spearman {spread.coefficient:.2f} of the "
            f"sizes of residuals, p {spell_p(spread.p)}): ordinary least squares, which assumes equal precision, "
            "can't be trusted here."
        )
    unknown = sorted(own.loc[own["family"] == "", "model"])
    if unknown:
        who = "no model" if len(unknown) == len(own) else f"{len(own) - len(unknown)} of {len(own)} models"
        said.append(
            f"The family of architectures is known for {who}. If related models share errors, this test ignores that. "
            "Give the families in the table of models."
        )
    return tuple(said)


def _effective_sample_size(own: pd.DataFrame, freedom: int) -> str:
    asked = ""
    if "answers" in own.columns and own["answers"].notna().all():
        asked = f", not the {int(own['answers'].sum()):,} answers about them"
    return (
        f"The sample size of this slope is {len(own)} models{asked}: it generalises to new models, with at most "
        f"{freedom} degrees of freedom."
    )


_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _spell(number: int) -> str:
    return _WORDS[number] if number < len(_WORDS) else str(number)


def _either(names: pd.Series) -> str:
    """Join names, in order, as alternatives."""
    words = sorted(names)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def count_models(number: int) -> str:
    """Return how many models there are, in words of a sentence."""
    return f"{number} model" + ("" if number == 1 else "s")
