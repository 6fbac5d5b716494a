"""Scaling as one object: slopes of interpretability on properties of models, and what they can carry.

For every condition and predictor there is a ladder: least squares on the models' means, then a meta-regression that
also knows each mean's standard error and a variance between models, then the mixed model on single answers, where one
is given. All rungs speak for new models, and refer to t with models - coefficients degrees of freedom. Beside them:
leverage and Cook's distance, the range of slopes with one model left out, exact permutation tests, sensitivity to the
family of architectures, Bayes factors, and, where a smallest effect was declared, equivalence and non-improvement.

What the data can't carry is refused: a :class:`Refusal` stands in the place of the slope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.estimands import Drawing, spell_estimand
from analysis.multiple_tests import adjust_holm
from analysis.scaling.equivalence import SlopeEquivalence, assess_equivalence
from analysis.scaling.families import Place, Test, declare_families, take_places
from analysis.scaling.predictors import LEAST_MODELS, Predictor, find_predictor, predictor_values
from analysis.scaling.regression import (
    LeastSquaresFit,
    Slope,
    condition_number,
    least_squares,
    make_slope,
    meta_regression,
)
from analysis.scaling.verdicts import MarginTests
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import Estimate

if TYPE_CHECKING:
    from analysis.proportions import Proportions
from analysis.scaling.results import (
    INFLUENTIAL,
    RUNGS,
    JointRegression,
    MixedModel,
    MixedModelSlope,
    Refusal,
    Rung,
    ScalingResult,
    ScalingStudy,
    slope_of_rung,
)

FULL_LEVERAGE = 0.99
"""From this leverage on, one model decides the slope: the others only say what it differs from."""

MODELS_PER_PREDICTOR = 5
MOST_CONDITION = 10.0
"""Predictors with a larger condition number are too alike to be told apart by a few models."""


def tabulate_means(proportions: Proportions) -> pd.DataFrame:
    """Return estimated proportions as the table of means that :func:`fit_scaling` takes.

    Standard errors are two-way, over units and people.

    Raises
    ------
    AnalysisError
        If the proportions are not by model and condition.
    """
    if set(proportions.by) != {"model", "condition"}:
        raise AnalysisError(
            f"The proportions are by {', '.join(proportions.by)}; slopes need one for each model and condition: "
            'estimate_proportions(table, by=("model", "condition")).'
        )
    return pd.DataFrame(
        [
            {
                "model": cell.names["model"], "condition": cell.names["condition"], "value": cell.estimate.value,
                "standard_error": cell.errors.two_way, "low": cell.estimate.low, "high": cell.estimate.high,
                "answers": cell.answers,
            }
            for cell in proportions.cells
        ]
    )  # fmt: skip


def fit_scaling(
    means: pd.DataFrame,
    models: pd.DataFrame,
    *,
    predictors: Sequence[str] = ("parameters", "training images", "accuracy"),
    conditions: Sequence[str] | None = None,
    families: Mapping[str, Sequence[Test]] | None = None,
    smallest_effect: Mapping[str, float | None] | None = None,
    mixed_model: MixedModel | None = None,
    joint: Sequence[str] = ("parameters", "training images"),
    rung: Rung = "least squares",
    drawing: Drawing = "layer-uniform",
    seed: int = 0,
) -> ScalingStudy:
    """Estimate the slopes of interpretability on properties of models.

    Parameters
    ----------
    means
        One row a model and condition: ``model``, ``condition``, ``value`` (proportion correct); and, if known,
        ``standard_error`` and ``answers``.
    models
        One row a model: ``model``, ``family``, and the columns of the predictors.
    predictors
        Names of declared predictors.
    conditions
        Conditions to analyse; all of the means if not given, sorted.
    families
        By name, the tests (condition, predictor) that are corrected together; one family of all slopes if not given.
    smallest_effect
        By predictor, the declared smallest effect of interest, in the unit of the slope. There is no default, and
        without one there is no verdict on equivalence.
    mixed_model
        Fits the third rung.
    joint
        Predictors that are also tried at once.
    rung
        Which rung tests and verdicts rest on. Where that rung is refused, so is the slope.
    drawing
        How the means weight units, for the estimand.
    seed
        Of permutation tests with more models than can be counted.

    Raises
    ------
    AnalysisError
        If a table lacks a column, a model has two means in a condition, or families do not fit the tests.
    """
    points = _check_means(means, models)
    named = sorted(points["condition"].unique()) if conditions is None else list(dict.fromkeys(conditions))
    predictors = list(dict.fromkeys(predictors))
    if rung not in RUNGS:
        raise NameNotFound("rung", str(rung), RUNGS)
    if rung == "mixed model" and mixed_model is None:
        raise AnalysisError("Verdicts can't rest on the mixed model without one: give mixed_model.")
    for name in smallest_effect or {}:
        find_predictor(name)
    tests = declare_families(named, predictors, families)
    estimand = spell_estimand("new models", drawing)
    in_study = set(models["model"].astype(str))
    drafts: dict[Test, _Draft | Refusal] = {}
    held: dict[Test, float] = {}
    for condition in named:
        for name in predictors:
            values = predictor_values(models, name)
            draft = _draft(points, values, condition, find_predictor(name), mixed_model, rung, estimand, in_study)
            drafts[condition, name] = draft
            held[condition, name] = _p_that_holds_its_place(points, values, condition, draft, rung)
    places: dict[str, dict[Test, Place]] = {}
    margins: dict[Test, MarginTests] = {}
    for family, members in tests.items():
        places[family] = dict(zip(members, take_places(family, [held[test] for test in members])))
        margins |= _margin_tests(members, drafts, smallest_effect or {}, rung)
    of_test = {test: place for members in places.values() for test, place in members.items()}
    results = tuple(
        draft
        if isinstance(draft, Refusal)
        else ScalingResult(
            condition=test[0],
            predictor=test[1],
            points=draft.points,
            rung=rung,
            fit=draft.fit,
            least_squares=draft.least_squares,
            meta_regression=draft.meta_regression,
            mixed_model=draft.mixed_model,
            between_models=draft.between_models,
            within_families=draft.within_families,
            place=of_test[test],
            margins=margins.get(test),
            warnings=draft.warnings,
            effective_sample_size=draft.effective_sample_size,
            seed=seed,
        )
        for test, draft in drafts.items()
    )
    together = [name for name in joint if name in predictors]
    jointly = {c: _fit_joint(points, models, c, together, estimand) for c in named} if len(together) > 1 else {}
    return ScalingStudy(results, jointly, places, rung)


@dataclass(frozen=True)
class _Draft:
    """A result before its family is known."""

    points: pd.DataFrame
    fit: LeastSquaresFit
    least_squares: Slope
    meta_regression: Slope | Refusal
    mixed_model: MixedModelSlope | Refusal | None
    between_models: Estimate | None
    within_families: Slope | Refusal
    warnings: tuple[str, ...]
    effective_sample_size: str


def _check_means(means: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return the means with the families of their models, in an order that does not depend on the rows'."""
    for column in ("model", "condition", "value"):
        if column not in means.columns:
            raise AnalysisError(f"The table of means has no column {column!r}.")
    if "model" not in models.columns:
        raise AnalysisError("The table of models has no column 'model'.")
    columns = [c for c in ("model", "condition", "value", "standard_error", "answers") if c in means.columns]
    table = means[columns].assign(
        model=means["model"].astype(str), condition=means["condition"].astype(str),
        value=means["value"].astype(np.float64),
    )  # fmt: skip
    if table.empty:
        raise AnalysisError("There are no means to analyse.")
    twice = table[table.duplicated(["model", "condition"])]
    if len(twice):
        raise AnalysisError(f"{twice['model'].iloc[0]} has two means in the condition {twice['condition'].iloc[0]}.")
    wrong = table[~np.isfinite(table["value"])]
    if len(wrong):
        raise AnalysisError(f"The mean of {wrong['model'].iloc[0]} in {wrong['condition'].iloc[0]} is no number.")
    if "standard_error" not in table:
        table["standard_error"] = np.nan
    unknown = sorted(set(table["model"]) - set(models["model"].astype(str)))
    if unknown:
        raise AnalysisError(f"The table of models says nothing of {', '.join(unknown)}.")
    known = models["family"].astype("str") if "family" in models.columns else pd.Series("", index=models.index)
    family = dict(zip(models["model"].astype(str), known.fillna("")))
    return table.assign(family=table["model"].map(family))


def _own_points(points: pd.DataFrame, values: pd.Series, condition: str) -> pd.DataFrame:
    """Return a condition's models that have the predictor, from the lowest to the highest."""
    own = points[points["condition"] == condition]
    own = own[own["model"].isin(values.index)]
    own = own.assign(x=values.reindex(own["model"]).to_numpy())
    return own.sort_values(["x", "value", "model"], ignore_index=True)


def _why_not(own: pd.DataFrame, predictor: Predictor) -> str:
    """Say why models carry no slope, or return nothing if they do."""
    x = own["x"].to_numpy()
    if len(own) < LEAST_MODELS:
        return f"{_count(len(own), 'model')}, and a slope needs at least {LEAST_MODELS}"
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
        return "the means lie exactly on a line, so that there is nothing to measure an error from"
    return ""


def _draft(
    points: pd.DataFrame,
    values: pd.Series,
    condition: str,
    predictor: Predictor,
    mixed_model: MixedModel | None,
    rung: Rung,
    estimand: str,
    in_study: set[str],
) -> _Draft | Refusal:
    """Fit the rungs of one slope, or say why there is none."""
    own = _own_points(points, values, condition)
    names = tuple(own["model"])

    def refusal(reason: str) -> Refusal:
        return Refusal(condition, predictor.name, reason, names)

    if reason := _why_not(own, predictor):
        others = int((points["condition"] == condition).sum()) - len(own)
        if others and len(own) < LEAST_MODELS:
            reason += f", and the predictor is not known of the other {others}"
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
        answer = mixed_model(condition, predictor, pd.Series(x, index=pd.Index(names), name=predictor.name))
        mixed = refusal(answer) if isinstance(answer, str) else answer
    if rung == "meta-regression" and isinstance(meta, Refusal):
        return meta
    if rung == "mixed model" and not isinstance(mixed, MixedModelSlope):
        return mixed if isinstance(mixed, Refusal) else refusal("no mixed model was given")
    own = _leave_one_out(own.assign(leverage=fit.leverage, cook=fit.cook))
    return _Draft(
        own, fit, least, meta, mixed, between, _fit_within_families(own, refusal, slope),
        _warnings(points, own, condition, in_study, least), _effective_sample_size(own, fit.degrees_of_freedom),
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
        p = _two_sided(value, error, freedom) if error > 1e-12 else float(abs(value) < 1e-12)
        rows.append((value, error, p))
    names = ["slope_without", "standard_error_without", "p_without"]
    columns = ["model", "family", "x", "value", "standard_error", "leverage", "cook", "answers"]
    kept = own[[column for column in columns if column in own.columns]]
    return pd.concat([kept, pd.DataFrame(rows, columns=names, index=own.index)], axis=1)


def _two_sided(value: float, error: float, freedom: float) -> float:
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
        return refusal(f"{len(own)} models of {len(counts)} families leave too little to tell size from family")
    dummies = np.column_stack([(own["family"] == name).to_numpy(dtype=np.float64) for name in sorted(counts.index)[1:]])
    inner = own["x"] - own.groupby("family")["x"].transform("mean")
    total = float((inner**2).sum())
    if total <= 1e-9 * float(((own["x"] - own["x"].mean()) ** 2).sum()):
        return refusal("within families all models have the same value")
    share = (inner**2).groupby(own["family"]).sum() / total
    if share.max() >= FULL_LEVERAGE and counts[share.idxmax()] < 3:
        return refusal(f"only the two models of the family {share.idxmax()} differ within a family")
    if float((inner**2).max() / total) >= FULL_LEVERAGE:
        return refusal(f"one model ({own.loc[(inner**2).idxmax(), 'model']}) carries the slope within families")
    fit = least_squares(np.column_stack([own["x"], dummies]), own["value"].to_numpy())
    if fit.standard_errors[0] <= 1e-12:
        return refusal("within families the means lie exactly on lines")
    families = ", ".join(f"{counts[name]} {name}" for name in sorted(counts.index))
    return slope(
        float(fit.coefficients[0]), float(fit.standard_errors[0]), fit.degrees_of_freedom,
        f"ordinary least squares with a constant for each family ({families})",
    )  # fmt: skip


def _warnings(
    points: pd.DataFrame, own: pd.DataFrame, condition: str, in_study: set[str], least: Slope
) -> tuple[str, ...]:
    """Say what a reader must know of the points."""
    said = []
    judged = set(points.loc[points["condition"] == condition, "model"])
    if absent := sorted(in_study - judged):
        said.append(f"{len(judged)} of {len(in_study)} models have a {condition} mean; {', '.join(absent)} has none.")
        if len(absent) > 1:
            said[-1] = said[-1].replace(" has none.", " have none.")
    if lacking := sorted(judged - set(own["model"])):
        said.append(f"Left out, because the predictor is not known: {', '.join(lacking)}.")
    common = own["x"].mode().iloc[0]
    others = own[own["x"] != common]
    if 0 < len(others) <= 2 < len(own) - len(others):
        names = ", ".join(sorted(others["model"]))
        said.append(
            f"{_spell(len(others))[0].upper()}{_spell(len(others))[1:]} models in all ({names}) differ from the other "
            f"{_spell(len(own) - len(others))}: the slope is their contrast, with whatever else they differ in."
        )
    worst = own.loc[own["cook"].idxmax()]
    if worst["cook"] > INFLUENTIAL:
        said.append(
            f"The slope rests on one influential model: {worst['model']} (Cook's distance {worst['cook']:.2f}); "
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
            f"Tested alone the slope is off zero, but not without {_either(losing['model'])} "
            f"(p up to {row['p_without']:.3f})."
        )
    return tuple(said)


def _effective_sample_size(own: pd.DataFrame, freedom: int) -> str:
    asked = ""
    if "answers" in own.columns and own["answers"].notna().all():
        asked = f", not the {int(own['answers'].sum()):,} answers about them"
    return (
        f"The sample size of this slope is {len(own)} models{asked}: it is a claim about new models, and has "
        f"{freedom} degrees of freedom."
    )


def _p_that_holds_its_place(
    points: pd.DataFrame, values: pd.Series, condition: str, draft: _Draft | Refusal, rung: Rung
) -> float:
    """Return a test's p-value; a refused test holds its place in its family, for leaving it out would be a choice.

    It holds it with the p-value that least squares would have had (of one model against six: that of a t-test), or
    with 1 where there is none.
    """
    if isinstance(draft, _Draft):
        return slope_of_rung(rung, draft.least_squares, draft.meta_regression, draft.mixed_model).p
    own = _own_points(points, values, condition)
    try:
        fit = least_squares(own["x"].to_numpy(), own["value"].to_numpy())
    except AnalysisError:
        return 1.0
    value, error = float(fit.coefficients[0]), float(fit.standard_errors[0])
    return _two_sided(value, error, fit.degrees_of_freedom) if error > 1e-12 else 1.0


def _margin_tests(
    members: Sequence[Test], drafts: Mapping[Test, _Draft | Refusal], margins: Mapping[str, float | None], rung: Rung
) -> dict[Test, MarginTests]:
    """Test a family's slopes against their margins, each kind of test corrected over all that have a margin."""
    with_margin = [test for test in members if margins.get(test[1]) is not None]
    tested: dict[Test, SlopeEquivalence] = {}
    for test in with_margin:
        draft = drafts[test]
        if isinstance(draft, _Draft):
            chosen = slope_of_rung(rung, draft.least_squares, draft.meta_regression, draft.mixed_model)
            tested[test] = assess_equivalence(chosen, margins[test[1]])
    if not tested:
        return {}
    same = adjust_holm([tested[test].p if test in tested else 1.0 for test in with_margin])
    no_gain = adjust_holm([tested[test].p_non_improvement if test in tested else 1.0 for test in with_margin])
    return {
        test: MarginTests(tested[test], float(p), float(q), len(with_margin))
        for test, p, q in zip(with_margin, same, no_gain)
        if test in tested
    }


def _fit_joint(
    points: pd.DataFrame, models: pd.DataFrame, condition: str, predictors: Sequence[str], estimand: str
) -> JointRegression | Refusal:
    """Regress on several predictors at once, or say why not."""
    together = pd.concat([predictor_values(models, name) for name in predictors], axis=1).dropna()
    own = _own_points(points, together[predictors[0]], condition)
    names = tuple(own["model"])
    what = " + ".join(predictors)

    def refusal(reason: str) -> Refusal:
        return Refusal(condition, what, reason, names)

    if len(own) < LEAST_MODELS or round(len(own) / MODELS_PER_PREDICTOR) < len(predictors):
        return refusal(
            f"{_count(len(own), 'model')} for {len(predictors)} predictors, and each needs about {MODELS_PER_PREDICTOR}"
        )
    x = together.reindex(own["model"]).to_numpy()
    for column, name in enumerate(predictors):
        alone = own.assign(x=x[:, column])
        if reason := _why_not(alone, find_predictor(name)):
            return refusal(f"{name}: {reason}")
    number = condition_number(x)
    if number > MOST_CONDITION:
        return refusal(f"the predictors are too alike (condition number {number:.1f})")
    fit = least_squares(x, own["value"].to_numpy())
    if fit.leverage.max() >= FULL_LEVERAGE:
        return refusal(f"one model ({names[int(fit.leverage.argmax())]}) has a coefficient to itself")
    if fit.standard_errors.min() <= 1e-12:
        return refusal("the means lie exactly on a plane")
    slopes = tuple(
        make_slope(
            name, float(fit.coefficients[k]), float(fit.standard_errors[k]), fit.degrees_of_freedom, n=len(own),
            unit=find_predictor(name).unit, estimand=estimand,
            method=f"ordinary least squares on {len(own)} model means, jointly with "
            f"{' and '.join(other for other in predictors if other != name)}",
        )
        for k, name in enumerate(predictors)
    )  # fmt: skip
    return JointRegression(condition, slopes, number, fit, names)


_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _spell(number: int) -> str:
    return _WORDS[number] if number < len(_WORDS) else str(number)


def _either(names: pd.Series) -> str:
    """Join names, in order, as alternatives."""
    words = sorted(names)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
