"""What a user sees of results that the README tells them to make: in a notebook, and when they are printed."""

from __future__ import annotations

import inspect
import re
from html import escape

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import (
    MixedModel,
    compare_conditions,
    compare_models,
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
from analysis.power import Layout, Population, default_protocol_design
from analysis.psychophysics import Detection, DifficultyCurves
from analysis.results import AnalysisResult, ResultList, ShownAsText

CHOICES = tuple(choice for choice in rule_choices() if choice.name in ("positions", "catch"))
SHOWN = (
    "proportions", "conditions", "models", "scaling", "ranks", "fit", "dataset", "description", "exclusion",
    "multiverse", "assessment", "cell", "difference", "detection", "slope",
)  # fmt: skip


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[AnalysisResult, list[str]]]:
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
        "scaling": (scaling, [first.predictor, first.verdict.kind, "tested by the method"]),
        "ranks": (ranks, [str(ranks.models[0].rank), "ranks are certain"]),
        "fit": (fit, [str(fit.fixed["intercept"]), "log-likelihood", "participant"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_a_result_shows_its_numbers_with_their_intervals(
    name: str, results: dict[str, tuple[AnalysisResult, list[str]]]
) -> None:
    result, wanted = results[name]
    printed, markup = str(result), result._repr_html_()
    for words in wanted:
        assert words in printed
        assert escape(words) in markup
    assert "Estimate(" not in printed and "a<b" not in markup
    readable = result.readable()
    assert isinstance(readable, pd.DataFrame) and len(readable)
    assert name == "description" or markup.count("<tr") == len(readable) + 1


@pytest.mark.parametrize("name", SHOWN)
def test_the_frame_of_a_result_is_plain(name: str, results: dict[str, tuple[AnalysisResult, list[str]]]) -> None:
    frame = results[name][0].frame()
    assert len(frame) and frame.columns.is_unique
    plain = (str, int, float, np.generic, type(None))
    assert all(isinstance(cell, plain) for column in frame for cell in frame[column].tolist())
    assert not any("Estimate(" in str(cell) for column in frame for cell in frame[column].tolist())


@pytest.mark.parametrize("name", SHOWN)
def test_a_result_is_a_table_of_latex(name: str, results: dict[str, tuple[AnalysisResult, list[str]]]) -> None:
    result = results[name][0]
    text = result.to_latex(label="tab:one")
    assert r"\toprule" in text and r"\label{tab:one}" in text and text.count(r"\\") == len(result.readable()) + 1
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert all(
        line.count("&") - line.count(r"\&") == len(result.readable().columns) - 1
        for line in body.splitlines()
        if r"\\" in line
    )
    assert not re.search(r"(?<!\\)[%_#]", body)


def test_several_results_are_one(results: dict[str, tuple[AnalysisResult, list[str]]]) -> None:
    one = results["detection"][0]
    assert isinstance(one, Detection)
    both = ResultList([one, one])
    pd.testing.assert_frame_equal(both.frame().iloc[:1], one.frame())
    assert len(both.readable()) == 2 and str(one.d_prime) in str(both) and both == (one, one)
    assert ResultList(()).frame().empty and str(ResultList(())) == "No results."


ASKED = {
    "Choice", "Costs", "Design", "Layout", "MixedModel", "Plan", "Population", "Predictor", "Rule",
    "ReportSettings", "Screening", "SimulatedObserver",
}  # fmt: skip
"""Classes that say what is asked, and are no results."""
ELSEWHERE = {"AnalysisError", "Estimate", "Result", "Section"}
"""An error, a number, a file, and a part of a report that shows itself whole."""
INSIDE = {
    "Answers", "ChecklistItem", "ClusteredMeans", "ExpectationPropagation", "Figure", "Finding", "JointMeans",
    "Laplace", "Link", "Mapping", "Material", "RobustFit", "SessionFacts", "SessionTable", "ReportTable",
}  # fmt: skip
"""Parts that chapters share, and that no estimator returns."""


def test_every_class_of_the_chapters_is_a_result_or_says_what_is_asked() -> None:
    chapters = [value for name in analysis.__all__ if inspect.ismodule(value := getattr(analysis, name))]
    classes = {
        name: found
        for chapter in chapters
        for name in chapter.__all__
        if inspect.isclass(found := getattr(chapter, name))
    }
    for name, found in classes.items():
        if name not in ASKED | ELSEWHERE | INSIDE:
            assert hasattr(found, "_repr_html_"), name
            assert found.__str__ is not object.__str__ or name == "Report", name
            assert hasattr(found, "frame") or issubclass(found, ShownAsText) or name == "Report", name


def test_nothing_to_show_is_said() -> None:
    empty = DifficultyCurves((), ("a: too few answers",))
    assert str(empty).startswith("Curves of all cells") and "too few answers" in str(empty)
