"""How well units are understood: by model and condition, and which models differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.comparison import Comparison, compare_conditions, compare_models
from analysis.figures import (
    plot_intervals_compared,
    plot_model_comparison,
    plot_natural_against_synthetic,
    plot_ranks,
)
from analysis.proportions import compare_intervals
from analysis.published import published_means
from analysis.ranks import rank_models
from analysis.report.document import Section
from analysis.report.material import Draft, Material


def score_models(material: Material) -> Section:
    """Return the section on proportions by model and condition."""
    draft = Draft("scores")
    proportions = material.proportions
    rows = [
        {
            **cell.names,
            "proportion correct": cell.estimate,
            "units": cell.units,
            "people": cell.people,
            "answers": cell.answers,
        }
        for cell in proportions
    ]
    draft.tabulate("models", "Proportion correct by model and condition", rows)
    table = proportions.table()
    figure = _with_published(table)
    published = (
        " Hollow marks: means published in 2023, under a protocol of their own." if "published" in figure else ""
    )
    draft.draw(
        "comparison", "Proportion correct by model", plot_model_comparison(figure), figure,
        f"Bars are 95 % intervals over units and people.{published}",
    )  # fmt: skip
    both = _side_by_side(table)
    if len(both) > 1:
        draft.draw(
            "natural-synthetic", "Natural against synthetic references", plot_natural_against_synthetic(both), both,
            "Below the diagonal, natural exemplars explain units better than feature visualisations do.",
        )  # fmt: skip
    with draft.trying("intervals side by side"):
        _compare_intervals(draft, material)
    return draft.section(
        "How well are units understood?",
        f"Proportion of {material.difficulty} main trials answered rightly, chance .5, as the mean over units. "
        "Intervals are two-way: they allow for other units and other people.",
    )


def _with_published(table: pd.DataFrame) -> pd.DataFrame:
    """Add the means of 2023 to the models that were in it."""
    known = published_means().rename(columns={"value": "published"})[["model", "condition", "published"]]
    joined = table.merge(known, on=["model", "condition"], how="left")
    return joined if joined["published"].notna().any() else table


def _side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a model that has both conditions."""
    if not {"natural", "synthetic"} <= set(table["condition"]):
        return pd.DataFrame()
    parts = []
    for condition in ("natural", "synthetic"):
        own = table[table["condition"] == condition].set_index("model")[["value", "low", "high"]]
        names = {"value": condition, "low": f"{condition}_low", "high": f"{condition}_high"}
        parts.append(own.rename(columns=names))
    return pd.concat(parts, axis=1, join="inner").reset_index(names="model")


def _compare_intervals(draft: Draft, material: Material) -> None:
    """Show what each way of making an interval says of the same mean."""
    rows: list[dict[str, Any]] = []
    drawn: list[pd.DataFrame] = []
    components: list[dict[str, Any]] = []
    for names, own in _cells(material.headline):
        intervals = compare_intervals(
            own, drawing=material.settings.drawing, units=material.units, seed=material.settings.seed
        )
        rows += [{**names, "interval": kind, "proportion correct": one} for kind, one in intervals.estimates.items()]
        drawn.append(intervals.table().assign(**names))
        if intervals.components:
            shares, errors = intervals.components.estimates(), intervals.errors
            components.append(
                {
                    **names,
                    "units": shares["unit"],
                    "people": shares["person"],
                    "single answers": shares["answer"],
                    "SE, answers only": errors.binomial,
                    "SE, people": errors.participants,
                    "SE, units": errors.units,
                    "SE, two-way": errors.two_way,
                    "SE, two-way bootstrap": intervals.pigeonhole,
                }
            )
    draft.tabulate(
        "intervals", "The same means under several kinds of interval", rows,
        "Units only is the interval of the 2023 paper; the two-way bootstrap is conservative, since it counts the "
        "noise of single answers twice over.",
    )  # fmt: skip
    if drawn:
        data = pd.concat(drawn, ignore_index=True)
        draft.draw("intervals", "The same means under several intervals", plot_intervals_compared(data), data)
    draft.tabulate(
        "components", "Variance components of single answers, and standard errors of the mean", components,
        "Method of moments for crossed designs (Gao & Owen, 2017). More people make the last two parts of a mean's "
        "error smaller; only more units make the first one smaller.",
    )  # fmt: skip


def _cells(table: pd.DataFrame) -> list[tuple[Mapping[str, str], pd.DataFrame]]:
    groups = table.groupby(["model", "condition"], observed=True, sort=True)
    return [({"model": str(model), "condition": str(condition)}, own) for (model, condition), own in groups]


def compare(material: Material) -> Section:
    """Return the section on differences between models and conditions, and on ranks."""
    draft = Draft("differences")
    seed, drawing = material.settings.seed, material.settings.drawing
    for condition in material.conditions:
        own = material.headline[material.headline["condition"] == condition]
        if own["model"].nunique() < 2:
            draft.absent.append(f"{condition}: differences and ranks need two models, and there is one.")
            continue
        with draft.trying(f"{condition}: differences between models"):
            pairs = compare_models(
                own, condition=condition, drawing=drawing, units=material.units, seed=seed,
                same_units=material.dataset.same_units,
            )  # fmt: skip
            _add_comparison(draft, f"pairs-{condition}", f"Differences between models, {condition} references", pairs)
        with draft.trying(f"{condition}: ranks"):
            ranks = rank_models(
                own, condition=condition, drawing=drawing, units=material.units, seed=seed,
                same_units=material.dataset.same_units,
            )  # fmt: skip
            draft.find(f"{condition.capitalize()}: {ranks.sentence()}", ranks.models[0].rank.method)
            data = ranks.table().assign(condition=condition)
            draft.draw(
                f"ranks-{condition}", f"Ranks, {condition} references", plot_ranks(_as_ranks(data)), data,
                "Bars hold the true ranks of all models at once. Models of one shade can't be told apart.",
            )  # fmt: skip
            rows = [
                {"model": own.model, "rank": own.rank, "groups": row["groups"]}
                for own, (_, row) in zip(ranks, data.iterrows())
            ]
            draft.tabulate(f"ranks-{condition}", f"Ranks, {condition} references", rows)
    if {"natural", "synthetic"} <= set(material.conditions):
        with draft.trying("natural against synthetic"):
            differences = compare_conditions(material.headline, drawing=drawing, units=material.units, seed=seed)
            _add_comparison(draft, "conditions", "Natural minus synthetic, within each model", differences)
    return draft.section(
        "Which models differ?",
        "Differences know which units and people are shared. Holm's correction and simultaneous intervals (max-T) hold "
        "for the whole family at once.",
    )


def _as_ranks(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"rank_low": "low", "rank_high": "high", "groups": "group"})


def _add_comparison(draft: Draft, name: str, title: str, comparison: Comparison) -> None:
    rows = [
        {
            "first": own.first,
            "second": own.second,
            "difference": own.difference,
            "simultaneous interval": own.simultaneous,
            "p": own.p,
            "p, Holm": own.p_holm,
            "p, max-T": own.p_max_t,
        }
        for own in comparison
    ]
    apart = sum(own.p_holm < 0.05 for own in comparison)
    draft.find(
        f"{title}: {apart} of {comparison.size} differ after Holm's correction.",
        f"The family is {comparison.family}, {comparison.size} tests.",
    )
    draft.tabulate(name, title, rows, f"Family: {comparison.family}, {comparison.size} tests.")
    draft.absent.extend(comparison.left_out)
