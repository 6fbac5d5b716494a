"""Scaling as one object: slopes of interpretability on properties of models, and what they support.

For every condition and predictor there is a ladder: least squares on the models' means; the same slope with a robust
error, by family where models are relatives, which verdicts rest on if nothing else is declared; a meta-regression that
also knows each mean's standard error and a variance between models; and the mixed model on single answers, where one
is given. All rungs speak for new models, and refer to t with at most models - coefficients degrees of freedom. Beside
them:
leverage and Cook's distance, the range of slopes with one model left out, exact permutation tests, sensitivity to the
family of architectures, Bayes factors, and, where a smallest effect was declared, equivalence and non-improvement.

What the data can't carry is refused: a :class:`Refusal` stands in the place of the slope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np
import pandas as pd

from analysis.arguments import check_kind
from analysis.estimands import Drawing, spell_estimand
from analysis.multiple_tests import adjust_holm
from analysis.scaling.equivalence import SlopeEquivalence, assess_equivalence
from analysis.scaling.families import FamilyPlace, Test, declare_families, take_places
from analysis.scaling.ladder import FULL_LEVERAGE, FittedSlope, count_models, fit_slope, own_points, two_sided, why_not
from analysis.scaling.predictors import LEAST_MODELS, Predictor, find_predictor, predictor_values
from analysis.scaling.regression import condition_number, least_squares, make_slope
from analysis.scaling.results import (
    RUNGS,
    JointRegression,
    MixedModel,
    Refusal,
    Rung,
    ScalingResult,
    ScalingStudy,
    slope_of_rung,
)
from analysis.scaling.verdicts import MarginTests
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import LEVEL

if TYPE_CHECKING:
    from analysis.proportions import Proportions

MODELS_PER_PREDICTOR = 5
MOST_CONDITION = 10.0
"""Predictors with a larger condition number are too alike for a few models to distinguish them."""


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
            f"The proportions are by {', '.join(proportions.by)}; slopes need one proportion for each model and "
            'condition: estimate_proportions(table, by=("model", "condition")).'
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


@threaded
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
    rung: Rung = "robust",
    drawing: Drawing = "layer-uniform",
    **settings: Unpack[Settings],
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
        Which rung tests and verdicts rest on: ``"robust"``, ``"least squares"`` (as the 2023 slopes),
        ``"meta-regression"`` or ``"mixed model"``. Where that rung is refused, so is the slope.
    drawing
        How the means weight units, for the estimand.
    settings
        As for every estimator: :class:`Settings`. The seed is that of permutation tests with more models than can be
        counted. Verdicts are at the .05 level, so ``level`` is .95; ``result.slope.interval(level)`` gives others.

    Raises
    ------
    AnalysisError
        If a table lacks a column, a model has two means in a condition, families do not fit the tests, or the level is
        not .95.
    """
    check_kind(means, pd.DataFrame, "means", "tabulate_means(estimate_proportions(...)) makes one of proportions.")
    check_kind(models, pd.DataFrame, "models", "data.models of a data set is one, and published_models() another.")
    chosen = choose(settings)
    if chosen.level != LEVEL:
        raise AnalysisError(
            f"Verdicts on slopes are tests at the .05 level, with intervals of {LEVEL:.0%}; level={chosen.level:g} is "
            "not possible here. An interval of another level: study.result(condition, predictor).slope.interval(level)."
        )
    points = _check_means(means, models)
    named = sorted(points["condition"].unique()) if conditions is None else list(dict.fromkeys(conditions))
    predictors = list(dict.fromkeys(predictors))
    if rung not in RUNGS:
        raise NameNotFound("rung", str(rung), RUNGS)
    if rung == "mixed model" and mixed_model is None:
        raise AnalysisError("Verdicts from the mixed model need a fit: give mixed_model.")
    for name in smallest_effect or {}:
        find_predictor(name)
    tests = declare_families(named, predictors, families)
    estimand = spell_estimand("new models", drawing)
    in_study = set(models["model"].astype(str))
    drafts: dict[Test, FittedSlope | Refusal] = {}
    held: dict[Test, float] = {}
    for condition in named:
        for name in predictors:
            values = predictor_values(models, name)
            draft = fit_slope(points, values, condition, find_predictor(name), mixed_model, rung, estimand, in_study)
            drafts[condition, name] = draft
            held[condition, name] = _p_that_holds_its_place(
                points, values, find_predictor(name), condition, draft, rung
            )
    places: dict[str, dict[Test, FamilyPlace]] = {}
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
            robust=draft.robust,
            meta_regression=draft.meta_regression,
            mixed_model=draft.mixed_model,
            between_models=draft.between_models,
            within_families=draft.within_families,
            spread=draft.spread,
            place=of_test[test],
            margins=margins.get(test),
            warnings=draft.warnings,
            effective_sample_size=draft.effective_sample_size,
            seed=chosen.seed,
        )
        for test, draft in drafts.items()
    )
    together = [name for name in joint if name in predictors]
    jointly = {c: _fit_joint(points, models, c, together, estimand) for c in named} if len(together) > 1 else {}
    return ScalingStudy(results, jointly, places, rung)


def _check_means(means: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return the means with the families of their models, in an order that does not depend on the order of rows."""
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
        raise AnalysisError(f"The mean of {wrong['model'].iloc[0]} in {wrong['condition'].iloc[0]} is not a number.")
    if "standard_error" not in table:
        table["standard_error"] = np.nan
    unknown = sorted(set(table["model"]) - set(models["model"].astype(str)))
    if unknown:
        raise AnalysisError(f"The table of models has no row for {', '.join(unknown)}.")
    known = models["family"].astype("str") if "family" in models.columns else pd.Series("", index=models.index)
    family = dict(zip(models["model"].astype(str), known.fillna("")))
    return table.assign(family=table["model"].map(family))


def _p_that_holds_its_place(
    points: pd.DataFrame,
    values: pd.Series,
    predictor: Predictor,
    condition: str,
    draft: FittedSlope | Refusal,
    rung: Rung,
) -> float:
    """Return a test's p-value; a refused test holds its place in its family, for leaving it out would be a choice.

    It holds it with the p-value that least squares would have had (of one model against six: that of a t-test), or
    with 1 where there is none, or where no test keeps its level: a small p that means nothing would ease the others.
    """
    if isinstance(draft, FittedSlope):
        return slope_of_rung(rung, draft.least_squares, draft.robust, draft.meta_regression, draft.mixed_model).p
    own = own_points(points, values, condition)
    if rung == "robust" and not why_not(own, predictor):
        return 1.0
    try:
        fit = least_squares(own["x"].to_numpy(), own["value"].to_numpy())
    except AnalysisError:
        return 1.0
    value, error = float(fit.coefficients[0]), float(fit.standard_errors[0])
    return two_sided(value, error, fit.degrees_of_freedom) if error > 1e-12 else 1.0


def _margin_tests(
    members: Sequence[Test],
    drafts: Mapping[Test, FittedSlope | Refusal],
    margins: Mapping[str, float | None],
    rung: Rung,
) -> dict[Test, MarginTests]:
    """Test a family's slopes against their margins, each kind of test corrected over all that have a margin."""
    with_margin = [test for test in members if margins.get(test[1]) is not None]
    tested: dict[Test, SlopeEquivalence] = {}
    for test in with_margin:
        draft = drafts[test]
        if isinstance(draft, FittedSlope):
            chosen = slope_of_rung(rung, draft.least_squares, draft.robust, draft.meta_regression, draft.mixed_model)
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
    """Regress on several predictors jointly, or say why not."""
    together = pd.concat([predictor_values(models, name) for name in predictors], axis=1).dropna()
    own = own_points(points, together[predictors[0]], condition)
    names = tuple(own["model"])
    what = " + ".join(predictors)

    def refusal(reason: str) -> Refusal:
        return Refusal(condition, what, reason, names)

    if len(own) < LEAST_MODELS or round(len(own) / MODELS_PER_PREDICTOR) < len(predictors):
        return refusal(
            f"{count_models(len(own))} for {len(predictors)} predictors, but each needs about {MODELS_PER_PREDICTOR}"
        )
    x = together.reindex(own["model"]).to_numpy()
    for column, name in enumerate(predictors):
        alone = own.assign(x=x[:, column])
        if reason := why_not(alone, find_predictor(name)):
            return refusal(f"{name}: {reason}")
    number = condition_number(x)
    if number > MOST_CONDITION:
        return refusal(f"the predictors are too alike (condition number {number:.1f})")
    fit = least_squares(x, own["value"].to_numpy())
    if fit.leverage.max() >= FULL_LEVERAGE:
        return refusal(f"one model ({names[int(fit.leverage.argmax())]}) determines a coefficient alone")
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
