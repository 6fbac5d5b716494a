"""Interpretability against size, data and accuracy: slopes, what they rest on, and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures import plot_leverage, plot_margins, plot_prior_sweep, plot_scaling
from analysis.figures.words import number
from analysis.intervals.quantiles import critical_value
from analysis.report.document import Finding, Section
from analysis.report.material import SectionDraft, capital
from analysis.scaling import (
    MixedModelSlope,
    Refusal,
    ScalingResult,
    ScalingStudy,
    Slope,
    scaling_points,
)
from analysis.scaling.predictors import LEAST_MODELS
from analysis.scaling.results import INFLUENTIAL
from benchmark.estimate import LEVEL, Estimate

EXCESS = "excess over the low-level observer"
"""What machines' slopes may be of, beside their proportion correct."""

MOST_SIDE_BY_SIDE = 3
"""Conditions whose slopes share a figure; of more, each predictor has one of its own."""


def verdict_findings(study: ScalingStudy, about: str = "") -> list[Finding]:
    """Return the verdict on every slope as a finding; slopes that are refused for one reason share one.

    ``about`` begins every sentence: whose answers, and which quantity, where it is not people's proportion correct.
    """
    found = []
    before = f"{about}: " if about else ""
    refused: dict[str, list[Refusal]] = {}
    for result in study:
        verdict = result.verdict
        if isinstance(result, Refusal):
            refused.setdefault(result.reason, []).append(result)
        else:
            found.append(Finding(capital(before + verdict.sentence), f"Because {verdict.because}", verdict.kind))
    for reason, slopes in refused.items():
        sentence = f"{before}no slope on {_spell_refused(slopes)}."
        found.append(Finding(capital(sentence), f"Because {reason}.", "refused"))
    return found


def _spell_refused(refused: Sequence[Refusal]) -> str:
    """Name the slopes that are refused, conditions of one predictor together: "parameters (natural, synthetic)"."""
    conditions: dict[tuple[str, ...], list[str]] = {}
    for predictor in dict.fromkeys(own.predictor for own in refused):
        having = tuple(own.condition for own in refused if own.predictor == predictor)
        conditions.setdefault(having, []).append(predictor)
    return "; ".join(f"{', '.join(predictors)} ({', '.join(having)})" for having, predictors in conditions.items())


def describe_scaling(
    study: ScalingStudy, means: pd.DataFrame | None = None, models: pd.DataFrame | None = None
) -> Section:
    """Return the section on slopes.

    Parameters
    ----------
    study
        The slopes.
    means, models
        What they were fitted to, so that points are shown where a slope is refused.
    """
    draft = SectionDraft("scaling")
    carried = add_slopes(draft, study, means, models)
    draft.tabulate(
        "tests", "Tests with fewer assumptions, and evidence for no slope", [_test_row(result) for result in carried],
        "Permutation p-values use all orders of the models if these are few enough. BF01 above 1 is evidence for no "
        "slope; above 3 counts as support.",
    )  # fmt: skip
    draft.tabulate("ladder", "Slopes by increasingly complete analyses", _ladder_rows(carried), folded=len(carried) > 3)
    draft.tabulate(
        "margins", "Which margins would pass the tests", [_margin_row(result) for result in carried],
        "Equivalence asks whether the slope lies within the margin on both sides, non-improvement whether it lies "
        "below it. A study must declare its margin before the data; these are the smallest margins that would pass.",
    )  # fmt: skip
    draft.tabulate("joint", "Size and training data jointly", _joint_rows(study))
    for condition, joint in study.joint.items():
        if isinstance(joint, Refusal):
            draft.lack(f"{joint.reason}.", f"{condition} on {joint.predictor}")
    if carried:
        with draft.trying("figure of margins"):
            margins = _margins(carried)
            draft.draw(
                "margins", "Slopes against margins", plot_margins(margins), margins,
                "95 % intervals and, thicker, 90 % intervals, which correspond to the two one-sided tests.",
            )  # fmt: skip
        with draft.trying("figure of Bayes factors"):
            sweep = _sweep(carried)
            draft.draw(
                "prior-sweep", "Bayes factors over the width of the prior", plot_prior_sweep(sweep), sweep,
                "Above 1: evidence for no slope.",
            )  # fmt: skip
    for result in carried:
        with draft.trying("figure of leverage"):
            _draw_leverage(draft, result)
    return draft.section(
        "Do larger models, more data or more accuracy help?",
        "Slopes of model means. However many people answered, the sample is the models. "
        + " ".join(_sample_sizes(carried)),
    )


def add_slopes(
    draft: SectionDraft,
    study: ScalingStudy,
    means: pd.DataFrame | None = None,
    models: pd.DataFrame | None = None,
    about: str = "",
) -> list[ScalingResult]:
    """Add verdicts, figure and table of slopes to a section; returns the slopes that are given.

    Parameters
    ----------
    draft
        The section.
    study, means, models
        As in :func:`describe_scaling`.
    about
        Whose answers, and which quantity, where it is not people's proportion correct.
    """
    draft.findings.extend(verdict_findings(study, about))
    carried = [result for result in study if isinstance(result, ScalingResult)]
    of = f", {about}" if about else ""
    if carried or (means is not None and len(means) > 1):
        with draft.trying(f"figure of the slopes{of}"):
            _draw_slopes(draft, study, means, models, of)
    rows = [_slope_row(result) for result in carried]
    draft.tabulate(f"slopes{of}", f"Slopes, and the models behind them{of}", rows, _FAMILY)
    for result in carried:
        for text in result.warnings:
            draft.caution(f"{text.rstrip('.')}.", f"{result.condition} on {result.predictor}")
    return carried


_FAMILY = (
    "p-values are corrected by Holm's method over the declared family, and the adjusted intervals agree with them. "
    "Slopes are least-squares estimates; each verdict names the standard error that it uses. The p of ordinary least "
    "squares, which assumes equally precise and unrelated models, is shown for comparison."
)


def _slope_row(result: ScalingResult) -> dict[str, Any]:
    model, leverage = result.highest_leverage
    influential, cook = result.most_influential
    ends = result.leave_one_out
    return {
        "condition": result.condition,
        "predictor": result.predictor,
        "slope": result.slope.estimate,
        "p": result.slope.p,
        "p, Holm": result.place.adjusted,
        "adjusted interval": result.adjusted,
        "p, least squares": result.least_squares.p,
        "models": len(result.points),
        "highest leverage": f"{number(leverage, 2)} ({model})",
        "largest Cook": f"{number(cook, 2)} ({influential})",
        "one left out": f"{number(ends.low)} to {number(ends.high)}",
    }


def _test_row(result: ScalingResult) -> dict[str, Any]:
    factor = result.bayes_factor
    return {
        "condition": result.condition,
        "predictor": result.predictor,
        "permutation p": result.permutation.p,
        "Spearman": result.spearman.coefficient,
        "its p": result.spearman.p,
        "BF01 (JZS)": factor.bf01,
        "over the sweep": f"{factor.sweep['bf01'].min():.2f} to {factor.sweep['bf01'].max():.2f}",
        "BF01 (BIC, rough)": factor.bf01_bic,
        "between models (SD)": result.between_models,
        "spread of residuals (Spearman)": result.spread.coefficient if result.spread else None,
        "p, spread": result.spread.p if result.spread else None,
    }


def _ladder_rows(results: Sequence[ScalingResult]) -> list[dict[str, Any]]:
    rows = []
    for result in results:
        mixed = result.mixed_model
        rungs: list[tuple[str, Slope | Refusal | None]] = [
            ("least squares on means", result.least_squares),
            ("the same slope, robust error", result.robust),
            ("meta-regression", result.meta_regression),
            ("mixed model", mixed.slope if isinstance(mixed, MixedModelSlope) else mixed),
            ("within families (sensitivity)", result.within_families),
        ]
        for name, rung in rungs:
            if rung is None:
                continue
            given = rung if isinstance(rung, Slope) else None
            rows.append(
                {
                    "condition": result.condition,
                    "predictor": result.predictor,
                    "rung": name,
                    "slope": given.estimate if given else None,
                    "p": given.p if given else None,
                    "degrees of freedom": given.degrees_of_freedom if given else None,
                    "refused because": rung.reason if isinstance(rung, Refusal) else "",
                }
            )
    return rows


def _margin_row(result: ScalingResult) -> dict[str, Any]:
    passing = result.passing_margins
    declared = result.equivalence
    return {
        "condition": result.condition,
        "predictor": result.predictor,
        "90 % interval": passing.interval,
        "equivalence from": passing.equivalence,
        "non-improvement from": passing.non_improvement,
        "declared": declared.margin if declared else "none",
        "p, equivalence": declared.p if declared else None,
        "p, non-improvement": declared.p_non_improvement if declared else None,
    }


def _joint_rows(study: ScalingStudy) -> list[dict[str, Any]]:
    return [
        {"condition": condition, "predictor": slope.predictor, "slope, holding the other": slope.estimate, "p": slope.p}
        for condition, joint in study.joint.items()
        if not isinstance(joint, Refusal)
        for slope in joint.slopes
    ]


def _sample_sizes(results: Sequence[ScalingResult]) -> list[str]:
    """Return what the slopes of each condition rest on, each said once."""
    found = dict.fromkeys(
        f"{capital(result.condition)}: {result.effective_sample_size[:1].lower()}{result.effective_sample_size[1:]}"
        for result in results
    )
    return list(found) or ["No slope could be estimated."]


def _draw_slopes(
    draft: SectionDraft, study: ScalingStudy, means: pd.DataFrame | None, models: pd.DataFrame | None, of: str
) -> None:
    points, fits, bands = scaling_points(study, means, models)
    if points.empty:
        draft.lack(f"a figure of slopes needs at least {LEAST_MODELS} models, as a slope does.")
        return
    quantity = EXCESS if EXCESS in of else "proportion correct"
    whose = of.removesuffix(f", {quantity}")
    parts = {"size, data and accuracy": (f"slopes{of}", points, fits, bands)}
    if points["condition"].nunique() > MOST_SIDE_BY_SIDE:
        parts = {
            str(name): (f"slopes on {name}{of}", own, *(_about(table, name) for table in (fits, bands)))
            for name, own in points.groupby("predictor", sort=False)
        }
    for against, (name, own, slopes, lines) in parts.items():
        draft.draw(
            name, f"{capital(quantity)} against {against}{whose}",
            plot_scaling(own, slopes, lines, value_label=quantity), own,
            "Lines and bands: least squares with a 95 % band of the mean. A panel without a line has no valid slope. "
            f"Fewer than {LEAST_MODELS} models get no panel.",
        )  # fmt: skip


def _about(table: pd.DataFrame, predictor: object) -> pd.DataFrame:
    return table[table["predictor"] == predictor] if len(table) else table


def _draw_leverage(draft: SectionDraft, result: ScalingResult) -> None:
    points = result.points
    without = points["slope_without"]
    # One model fewer, and a slope and a constant to estimate.
    reach = critical_value(LEVEL, len(points) - 3) * points["standard_error_without"]
    data = points[["model", "leverage", "slope_without"]].assign(
        cooks_distance=points["cook"], slope_without_low=without - reach, slope_without_high=without + reach
    )
    slope = result.least_squares.estimate
    axes = plot_leverage(
        data, leverage_threshold=2 * 2 / len(points), cooks_threshold=INFLUENTIAL,
        slope=(slope.value, slope.low, slope.high), condition=result.condition,
    )  # fmt: skip
    draft.draw(
        f"leverage-{result.condition}-{result.predictor.replace(' ', '-')}",
        f"Influence of single models on the slope of {result.condition} on {result.predictor}", axes, data,
        "In red: leverage above twice its mean, or a Cook's distance above 1. Right: the slope without each model; "
        "the band is the slope of all models. Both have 95 % least-squares intervals.",
    )  # fmt: skip


def _margins(results: Sequence[ScalingResult]) -> pd.DataFrame:
    rows = []
    for own in results:
        estimate: Estimate = own.slope.estimate
        inner = own.passing_margins.interval
        rows.append(
            {
                "condition": own.condition,
                "predictor": own.predictor,
                "value": estimate.value,
                "low_95": estimate.low,
                "high_95": estimate.high,
                "low_90": inner.low,
                "high_90": inner.high,
                "margin": own.equivalence.margin if own.equivalence else np.nan,
                "smallest_margin": own.passing_margins.equivalence,
                "unit": estimate.unit,
                "verdict": own.verdict.kind,
            }
        )
    return pd.DataFrame(rows)


def _sweep(results: Sequence[ScalingResult]) -> pd.DataFrame:
    parts = [
        own.bayes_factor.sweep.rename(columns={"scale": "prior_width", "bf01": "value"}).assign(
            series=f"{own.condition}, {own.predictor}"
        )
        for own in results
    ]
    return pd.concat(parts, ignore_index=True)
