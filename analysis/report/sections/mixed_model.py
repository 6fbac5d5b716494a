"""The mixed model on single answers: what varies, marginal means, and how much they depend on assumptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.mixed_model import MixedModel, MixedModelFit
from analysis.mixed_model.design import default_random
from analysis.mixed_model.sensitivities import (
    estimate_lapse,
    guessing_sensitivity,
    lapse_sweep,
    learning_sensitivity,
)
from analysis.mixed_model.slopes import slopes_from
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

LEAST_MODELS = 5
"""With fewer models, what differs between them is a fixed effect: a variance of two or three is none."""

LEAST_ANSWERS = 3
"""Answers a task needs on average before tasks get a variance of their own."""


LAPSES = (0.0, 0.025, 0.05)
"""Lapse rates to try; every one is a fit."""


def lapse_of(material: Material) -> tuple[float, Estimate | None]:
    """Return the lapse rate to assume: given, or from catch trials, or none; and the estimate it comes from."""
    if material.settings.lapse is not None:
        return material.settings.lapse, None
    try:
        estimate = estimate_lapse(material.people(("catch",), None))
    except AnalysisError:
        return 0.0, None
    return estimate.value, estimate


def describe_model(table: pd.DataFrame, lapse: float) -> MixedModel:
    """Return the mixed model that a table of judgements supports."""
    several = table["condition"].nunique() > 1
    models = table["model"].nunique()
    fixed = (["condition"] if several else []) + (["model"] if 1 < models < LEAST_MODELS else [])
    random = list(default_random(table, ["condition"] if several else []))
    if models < LEAST_MODELS:
        random = [name for name in random if "model" not in name.split(":")]
    if len(table) >= LEAST_ANSWERS * table.groupby(["task", "condition"], observed=True).ngroups:
        random.append("task")
    return MixedModel(tuple(fixed) or "1", tuple(random), lapse=lapse)


def mixed_model_rung(material: Material) -> Callable[..., Any] | None:
    """Return the function that fits the mixed-model slope; None with too few models."""
    table = material.headline
    if table["model"].nunique() < LEAST_MODELS:
        return None
    return slopes_from(table, describe_model(table, lapse_of(material)[0]), material.settings.drawing)


def describe_mixed_model(material: Material) -> Section:
    """Return the section on the mixed model."""
    draft = SectionDraft("mixed-model")
    lapse, estimated = lapse_of(material)
    lead = (
        "A model of correct answers with a guess rate of .5 and random effects of units, people and other sources of "
        "variation. Proportions are integrated over the random effects."
    )
    if not material.settings.thorough:
        draft.absent.append("the mixed model was not fitted, because a quick report was asked for.")
        return draft.section("What varies?", lead)
    if estimated is not None:
        draft.tabulate(
            "lapse", "Lapses, from catch trials", [{"lapse rate": estimated, "assumed below": lapse}],
        )  # fmt: skip
    table = material.headline
    model = describe_model(table, lapse)
    with draft.trying("mixed model"):
        _describe_fit(draft, material, model, model.fit(table))
    return draft.section("What varies?", lead)


def _describe_fit(draft: SectionDraft, material: Material, model: MixedModel, fit: MixedModelFit) -> None:
    """Say what a fitted model finds, and how far that hangs on what it assumes."""
    table = material.headline
    with draft.trying("effects"):
        _add_effects(draft, fit)
    with draft.trying("learning"):
        learned = learning_sensitivity(model, table, fit)
        draft.tabulate("learning", "With learning over the session", learned.frame().to_dict("records"), folded=True)
    with draft.trying("guessing"):
        blank = material.people(("main",), ("none",))
        offset = guessing_sensitivity(model, table, blank, fit)
        draft.tabulate(
            "guessing", "With a guess rate for each unit", offset.frame().to_dict("records"), folded=True
        )  # fmt: skip
    with draft.trying("lapses"):
        sweep = lapse_sweep(model, table, LAPSES, reporter=material.reporter)
        draft.tabulate("lapse-sweep", "Over lapse rates", sweep.frame().to_dict("records"), folded=True)


def _add_effects(draft: SectionDraft, fit: MixedModelFit) -> None:
    if fit.misleading is not None:
        draft.tabulate(
            "misleading", "Units that are answered below chance",
            [{"share of units": fit.misleading, "set apart": len(fit.set_apart)}],
            "The effects below are those of the other units.",
        )  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"effect": "fixed", "name": name, "estimate": own} for name, own in fit.fixed.items()
    ] + [
        {"effect": "standard deviation", "name": name, "estimate": own} for name, own in fit.standard_deviations.items()
    ]
    draft.tabulate(
        "effects", "Effects, on the scale of the link", rows,
        f"Log-likelihood {fit.log_likelihood:,.2f}, {fit.parameters} parameters, {fit.design.size:,} answers; "
        f"{fit.method}.",
    )  # fmt: skip
    means = fit.marginal_means(("model", "condition"))
    draft.tabulate(
        "means", "Marginal means, on the scale of proportions",
        [{**own.names, "proportion correct": own.estimate} for own in means],
    )  # fmt: skip
    draft.cautions.extend(fit.notes)
