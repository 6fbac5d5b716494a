"""Whether the headline hangs on choices that could have been made differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.figures import plot_specification_curve
from analysis.multiverse import Headline, run_multiverse
from analysis.proportions import Mean, estimate_proportions
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft, capital
from analysis.scaling import ScalingResult, ScalingStudy, fit_scaling, tabulate_means
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

MOST = 400
"""Specifications that the figure can carry; with more in the grid, a seeded sample with the protocol's own in it."""


def vary_choices(material: Material, study: ScalingStudy | None = None) -> Section:
    """Return the section on the multiverse of exclusions and analysis choices.

    Parameters
    ----------
    material
        The material.
    study
        The slopes; those on the first predictor that are carried are varied too.
    """
    draft = SectionDraft("robustness")
    if not material.settings.thorough:
        draft.absent.append("a quick report skips the grid of exclusions.")
    else:
        with draft.trying("multiverse"):
            _go_through(draft, material, _carried(material, study))
    return draft.section(
        "Is the result robust to exclusions?",
        "The headline under every combination of exclusion rules: each as in the protocol, stricter, more lenient or "
        "left out.",
    )


def _go_through(draft: SectionDraft, material: Material, slopes: Sequence[tuple[str, str]]) -> None:
    own = material.dataset
    asked = own.responses[own.responses["difficulty"] == material.difficulty]
    found = run_multiverse(
        asked, own.sessions, headlines=_headlines(material, slopes), most=MOST, seed=material.settings.seed,
        reporter=material.reporter,
    )  # fmt: skip
    choices = f"{len(found.choices)} choices: {', '.join(found.choices)}."
    if found.idle:
        draft.absent.append(found.idle_sentence)
    agreements = {own.headline: own for own in found.agreement()}
    tables = dict(tuple(found.distinct().groupby("headline")))
    names = [name for name in _in_order(material) if name in tables]
    for name in names:
        if name in agreements:
            draft.find(capital(agreements[name].sentence()), choices)
    if not found.choices:
        return
    for name in names:
        table = tables[name]
        slope = table["unit"].iloc[0] != "proportion correct"
        axes = plot_specification_curve(
            table.reset_index(drop=True), found.choices, no_effect=0.0 if slope else 0.5,
            value_label=str(table["unit"].iloc[0]),
        )  # fmt: skip
        draft.draw(
            f"specifications-{name.replace(' ', '-')}", f"Specification curve, {name}", axes, table,
            "Every column is one way to exclude sessions and take the mean. Ways that keep the same answers are "
            "drawn once. The protocol's own is marked.",
        )  # fmt: skip
    if found.failed:
        draft.absent.append(f"{len(found.failed)} specifications leave no answers to estimate from.")


def _in_order(material: Material) -> list[str]:
    """Return the names that headlines may have, in the order of all other sections."""
    slopes = [f"{condition} on {name}" for condition in material.conditions for name in material.settings.predictors]
    return [*material.conditions, *slopes]


def _carried(material: Material, study: ScalingStudy | None) -> list[tuple[str, str]]:
    """Return condition and predictor of the slopes to vary."""
    wanted = material.settings.predictors[:1]
    carried = [own for own in study or () if isinstance(own, ScalingResult)]
    return [(own.condition, own.predictor) for own in carried if own.predictor in wanted]


def _headlines(material: Material, slopes: Sequence[tuple[str, str]]) -> Mapping[str, Headline]:
    """Return the headline by both kinds of mean: proportions by condition, and slopes where they can be carried."""

    def headline(mean: Mean) -> Headline:
        def estimate(table: pd.DataFrame) -> dict[str, Estimate]:
            by_condition = estimate_proportions(table, ("condition",), mean=mean)
            found = {cell.names["condition"]: cell.estimate for cell in by_condition}
            return found | (_slopes(material, table, slopes, mean) if slopes else {})

        return estimate

    return {"units": headline("units"), "answers": headline("answers")}


def _slopes(
    material: Material, table: pd.DataFrame, slopes: Sequence[tuple[str, str]], mean: Mean
) -> dict[str, Estimate]:
    """Return the slopes that were carried with the protocol's answers; one that is not carried now is left out.

    They rest on what the verdicts rest on, so that the protocol's own is the slope of the headline. The mixed model is
    not fitted hundreds of times: its slopes are varied with the robust error.
    """
    rung = material.settings.rung
    means = estimate_proportions(table, ("model", "condition"), mean=mean, units=material.units)
    conditions = list(dict.fromkeys(condition for condition, _ in slopes))
    predictors = list(dict.fromkeys(predictor for _, predictor in slopes))
    try:
        study = fit_scaling(
            tabulate_means(means), material.dataset.models, predictors=predictors, conditions=conditions, joint=(),
            rung=rung if rung != "mixed model" else "robust", drawing=material.settings.drawing,
        )  # fmt: skip
    except AnalysisError:
        return {}
    return {
        f"{result.condition} on {result.predictor}": result.slope.estimate
        for result in study
        if isinstance(result, ScalingResult)
    }
