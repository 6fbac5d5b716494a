"""How well units are understood: by model and condition, and which models differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import Comparison, compare_conditions, compare_models
from analysis.comparison.ranks import rank_models
from analysis.figures import (
    plot_intervals_compared,
    plot_model_comparison,
    plot_natural_against_synthetic,
    plot_ranks,
)
from analysis.multiple_tests import adjust_holm
from analysis.proportions import compare_intervals
from analysis.published import published_means
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft, capital

MEANS = {
    "units": "as the mean over units, each of which counts once",
    "answers": "as the share of all answers, each of which counts once",
}
"""What counts alike, by the setting."""

MOST_PAIRS = 6
"""Pairs of conditions that are drawn; the table has them all."""


def score_models(material: Material) -> Section:
    """Return the section on proportions by model and condition."""
    draft = SectionDraft("scores")
    proportions = material.proportions
    rows = [
        {
            **cell.names,
            "proportion correct": cell.estimate,
            "units": cell.units,
            "people": cell.people,
            "answers": cell.answers,
            "right answers": cell.right,
            "share right": cell.right / cell.answers,
        }
        for cell in proportions
    ]
    draft.tabulate(
        "models", "Proportion correct by model and condition", rows,
        "The proportion is the mean over units. The last column is the share of all answers: it differs where units "
        "have unequal numbers of answers." if material.settings.mean == "units" else
        "The proportion is the share of all answers, not the mean over units.",
    )  # fmt: skip
    table = proportions.frame()
    figure = _with_published(table)
    published = (
        " Hollow marks: means published in 2023, under a protocol of their own." if "published" in figure else ""
    )
    draft.draw(
        "comparison", "Proportion correct by model", plot_model_comparison(figure), figure,
        f"Bars are 95 % intervals over units and people.{published}",
    )  # fmt: skip
    pairs = list(combinations(material.conditions, 2))
    for first, second in pairs[:MOST_PAIRS]:
        both, named = _side_by_side(table, first, second)
        if len(both) > 1:
            draft.draw(
                f"{first}-{second}", f"{capital(first)} against {second} references",
                plot_natural_against_synthetic(both, conditions=named), both,
                f"Below the diagonal, people answer correctly more often with {first} than with {second} references.",
            )  # fmt: skip
    if len(pairs) > MOST_PAIRS:
        draft.lack(
            f"figures of {len(pairs) - MOST_PAIRS} of {len(pairs)} pairs of conditions; the table of differences "
            "between conditions has every pair."
        )
    with draft.trying("intervals side by side"):
        _compare_intervals(draft, material)
    return draft.section(
        "How well are units understood?",
        f"Proportion of {material.difficulty} main trials answered correctly (chance is .5), "
        f"{MEANS[material.settings.mean]}. Intervals are two-way: they allow for other units and other people.",
    )


def _with_published(table: pd.DataFrame) -> pd.DataFrame:
    """Add the means of 2023 to the models that were in it."""
    known = published_means().rename(columns={"value": "published"})[["model", "condition", "published"]]
    joined = table.merge(known, on=["model", "condition"], how="left")
    return joined if joined["published"].notna().any() else table


def _side_by_side(table: pd.DataFrame, *conditions: str) -> tuple[pd.DataFrame, tuple[str, str]]:
    """Return one row a model that has both conditions, and the names that the conditions have in it.

    These are their own, unless a column of the figure has that name already.
    """
    taken = ["model", *(f"{name}{end}" for name in conditions for end in ("", "_low", "_high"))]
    clash = len(set(taken)) < len(taken)
    first, second = (f"{name} (condition)" if clash else name for name in conditions)
    parts = []
    for condition, shown in zip(conditions, (first, second)):
        own = table[table["condition"] == condition].set_index("model")[["value", "low", "high"]]
        parts.append(own.rename(columns={"value": shown, "low": f"{shown}_low", "high": f"{shown}_high"}))
    return pd.concat(parts, axis=1, join="inner").reset_index(names="model"), (first, second)


def _compare_intervals(draft: SectionDraft, material: Material) -> None:
    """Show the same mean with each kind of interval."""
    rows: list[dict[str, Any]] = []
    drawn: list[pd.DataFrame] = []
    components: list[dict[str, Any]] = []
    for names, own in _cells(material.headline):
        intervals = compare_intervals(
            own, drawing=material.settings.drawing, mean=material.settings.mean, units=material.units,
            seed=material.settings.seed,
        )  # fmt: skip
        rows += [{**names, "interval": kind, "proportion correct": one} for kind, one in intervals.estimates.items()]
        drawn.append(intervals.frame().assign(**names))
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
        '"Units only" is the interval of the 2023 paper. The two-way bootstrap is conservative, because it counts '
        "the noise of single answers twice.",
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
    draft = SectionDraft("differences")
    asked: dict[str, Any] = {
        "drawing": material.settings.drawing, "mean": material.settings.mean, "units": material.units,
        "seed": material.settings.seed,
    }  # fmt: skip
    for condition in material.conditions:
        own = material.headline[material.headline["condition"] == condition]
        if own["model"].nunique() < 2:
            draft.lack("differences and ranks need two models, but there is only one.", condition)
            continue
        with draft.trying(f"{condition}: differences between models"):
            pairs = compare_models(own, condition=condition, same_units=material.dataset.same_units, **asked)
            _add_comparisons(
                draft, f"pairs-{condition}", f"Differences between models, {condition} references", [pairs]
            )
        with draft.trying(f"{condition}: ranks"):
            ranks = rank_models(own, condition=condition, same_units=material.dataset.same_units, **asked)
            draft.find(f"{capital(condition)}: {ranks.sentence()}", ranks.models[0].rank.method)
            data = ranks.frame().assign(condition=condition)
            draft.draw(
                f"ranks-{condition}", f"Ranks, {condition} references", plot_ranks(_as_ranks(data)), data,
                "Bars contain the true ranks of all models jointly. Models of the same shade are indistinguishable.",
            )  # fmt: skip
            rows = [
                {"model": own.model, "rank": own.rank, "groups": row["groups"]}
                for own, (_, row) in zip(ranks, data.iterrows())
            ]
            draft.tabulate(f"ranks-{condition}", f"Ranks, {condition} references", rows)
    found = []
    for first, second in combinations(material.conditions, 2):
        with draft.trying(f"{first} against {second}"):
            found.append(compare_conditions(material.headline, first, second, **asked))
    if found:
        what = found[0].family.partition(" within")[0] if len(found) == 1 else "differences between conditions"
        _add_comparisons(draft, "conditions", f"{capital(what)}, within each model", found)
    return draft.section(
        "Which models and conditions differ?",
        "Differences account for shared units and people. Holm's correction and simultaneous intervals (max-T) hold "
        "for the whole family of tests.",
    )


def _as_ranks(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"rank_low": "low", "rank_high": "high", "groups": "group"})


WHICH_GOES_WITH_WHICH = (
    "The first interval and its p are for this difference alone. The simultaneous interval and the p of max-T hold "
    "for the whole family and agree with each other. Holm's p has no matching interval: it may be below .05 when the "
    "simultaneous interval includes 0, and vice versa."
)


def _add_comparisons(draft: SectionDraft, name: str, title: str, comparisons: Sequence[Comparison]) -> None:
    """Add the table of one or several families of differences, and what is found in them.

    Several families, one a pair of conditions, are corrected by Holm together as well.
    """
    over_all = iter(adjust_holm(np.array([own.p for comparison in comparisons for own in comparison])))
    several = len(comparisons) > 1
    rows = []
    for comparison in comparisons:
        for own in comparison:
            row = {
                "first": own.first,
                "second": own.second,
                "difference (alone)": own.difference,
                "p (alone)": own.p,
                "difference (simultaneous)": own.simultaneous,
                "p, max-T (simultaneous)": own.p_max_t,
                "p, Holm": own.p_holm,
            }
            together = float(next(over_all))
            rows.append(row | ({"p, Holm over all pairs": together} if several else {}))
        for text in comparison.left_out:
            what, _, reason = text.partition(": ")
            draft.lack(reason, f"{comparison.family.partition(' within')[0]}, {what}" if several else what)
    families = "; ".join(f"{own.family}, {_tests(own.size)}" for own in comparisons)
    for comparison in comparisons:
        apart = sum(own.p_holm < 0.05 for own in comparison)
        draft.find(
            f"{capital(comparison.family.partition(' within')[0]) if several else title}: {apart} of {comparison.size} "
            f"{'differs' if comparison.size == 1 else 'differ'} after Holm's correction.",
            f"The family is {comparison.family}, {_tests(comparison.size)}.",
        )
    each = " Each pair of conditions is a family; the last column corrects over all of them." if several else ""
    draft.tabulate(name, title, rows, f"{WHICH_GOES_WITH_WHICH} Family: {families}.{each}")


def _tests(count: int) -> str:
    return f"{count} test" if count == 1 else f"{count:,} tests"
