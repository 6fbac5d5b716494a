"""What a user sees of results that the README tells them to make: in a notebook, and when they are printed."""

from __future__ import annotations

import inspect
from html import escape

import pandas as pd
import pytest

import analysis
from analysis import (
    Layout,
    MixedModel,
    Population,
    compare_conditions,
    compare_models,
    default_protocol_design,
    describe,
    describe_power,
    detect,
    estimate_proportions,
    exclude,
    fit_scaling,
    judgements,
    published_models,
    rank_models,
    rule_choices,
    run_multiverse,
    simulate_dataset,
    tabulate_means,
)
from analysis.rows import ShownAsTable

CHOICES = tuple(choice for choice in rule_choices() if choice.name in ("positions", "catch"))
SHOWN = (
    "proportions", "conditions", "models", "scaling", "ranks", "fit", "dataset", "description", "exclusion",
    "multiverse", "assessment", "cell", "difference", "detection", "slope",
)  # fmt: skip


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[ShownAsTable, list[str]]]:
    """Return results, and what each has to show."""
    layout = Layout(models=5, units=6, sessions=4, trials=12, conditions=("natural", "a<b"))
    dataset = simulate_dataset(layout, Population(), seed=2, models=published_models().iloc[:5])
    table = judgements(dataset.responses)
    natural = table[table["condition"] == "natural"]
    proportions = estimate_proportions(table)
    scaling = fit_scaling(tabulate_means(proportions), dataset.models)
    conditions = compare_conditions(table, "natural", "a<b")
    models = compare_models(natural)
    ranks = rank_models(natural)
    fit = MixedModel("1", ("unit", "participant")).fit(natural)
    first = scaling.results[0]
    exclusion = exclude(dataset.responses, dataset.sessions)
    multiverse = run_multiverse(dataset.responses, dataset.sessions, choices=CHOICES)
    assessment = describe_power(default_protocol_design(), "width", simulations=50)
    made = {
        "dataset": (dataset, ["480 answers, 40 sessions, 30 units, 5 models", "a<b", dataset.notes[0][1:]]),
        "description": (describe(dataset), ["simulated (protocol simulated)", "a<b", "Not recorded"]),
        "exclusion": (exclusion, ["0 of 40 sessions", "not judged"]),
        "multiverse": (
            multiverse,
            [
                str(multiverse.agreement()[0].protocol),
                "a<b",
                "6 specifications over positions, mean over",
                "nothing in these data: catch",
            ],
        ),
        "assessment": (assessment, [assessment.sentences[0], "sessions that count"]),
        "cell": (proportions.cells[0], [str(proportions.cells[0].estimate), "a<b", "binomial ."]),
        "difference": (models.differences[0], [str(models.differences[0].simultaneous), "p max t"]),
        "detection": (detect(natural)[0], [str(detect(natural)[0].d_prime), "individuals"]),
        "slope": (first, [first.predictor, "5 rows", "effective sample size"]),
    }
    return made | {
        "proportions": (proportions, [str(proportions.cells[0].estimate), "new units and people"]),
        "conditions": (conditions, [str(conditions.differences[0].difference), "natural minus a<b"]),
        "models": (models, [str(models.differences[-1].simultaneous), "all pairs of 5 models"]),
        "scaling": (scaling, [first.predictor, first.verdict.kind, "rung"]),
        "ranks": (ranks, [str(ranks.models[0].rank), "ranks are certain"]),
        "fit": (fit, [str(fit.fixed["intercept"]), "log-likelihood", "participant"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_a_result_shows_its_numbers_with_their_intervals(
    name: str, results: dict[str, tuple[ShownAsTable, list[str]]]
) -> None:
    result, wanted = results[name]
    printed, markup = str(result), result._repr_html_()
    for words in wanted:
        assert words in printed
        assert escape(words) in markup
    assert "Estimate(" not in printed and "a<b" not in markup
    frame = result.frame()
    assert isinstance(frame, pd.DataFrame) and len(frame)
    assert name == "description" or markup.count("<tr") == len(frame) + 1


ASKED = {
    "Choice", "Costs", "Design", "Frame", "Layout", "MixedModel", "Plan", "Population", "Predictor", "Rule",
    "Screening", "Settings", "SimulatedObserver",
}  # fmt: skip
"""Classes that say what is asked, and are no results."""
ELSEWHERE = {"AnalysisError", "Estimate", "Result", "Section"}
"""An error, a number, a file, and a part of a report that shows itself whole."""


def test_every_result_shows_itself() -> None:
    classes = {name for name in analysis.__all__ if inspect.isclass(getattr(analysis, name))}
    shown = {
        name
        for name in classes
        if hasattr(getattr(analysis, name), "_repr_html_")
        and (getattr(analysis, name).__str__ is not object.__str__ or name == "Report")
    }
    assert classes - shown == ASKED | ELSEWHERE


def test_nothing_to_show_is_said() -> None:
    empty = analysis.DifficultyCurves((), ("a: too few answers",))
    assert str(empty).startswith("Curves of all cells") and "too few answers" in str(empty)
