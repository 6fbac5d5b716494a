"""That results draw themselves: as figures of pyplot, and as parts of figures of somebody's own."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot

from analysis import (
    MixedModel,
    calibrate,
    check_guessing,
    compare_intervals,
    compare_models,
    estimate_proportions,
    fit_scaling,
    judgements,
    measure_confidence,
    published_models,
    rank_models,
    reliability_curve,
    run_multiverse,
    simulate_dataset,
    tabulate_means,
)
from analysis.agreement import machine_answers
from analysis.figures import plot_model_comparison
from analysis.figures.output import figure_of
from analysis.power import Layout, Population
from analysis.psychophysics import DifficultyCurves
from analysis.results import ResultList
from analysis.simulated_dataset import SimulatedObserver
from benchmark.errors import AnalysisError, NameNotFound

NAMES = (
    "proportions", "one factor", "models", "ranks", "scaling", "multiverse", "fit", "means", "contrasts", "intervals",
    "reliability", "confidence", "guessing", "calibration",
)  # fmt: skip


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    layout = Layout(models=5, units=6, sessions=6, trials=12, conditions=("natural", "synthetic"))
    made = SimulatedObserver("features:made")
    dataset = simulate_dataset(layout, Population(), seed=2, models=published_models().iloc[:5], observers=[made])
    table = judgements(dataset.responses)
    natural = table[table["condition"] == "natural"]
    proportions = estimate_proportions(table)
    fit = MixedModel(("condition",), ("unit", "participant")).fit(table)
    return {
        "proportions": proportions,
        "one factor": estimate_proportions(natural, by=("unit",)),
        "models": compare_models(natural),
        "ranks": rank_models(natural),
        "scaling": fit_scaling(tabulate_means(proportions), dataset.models),
        "multiverse": run_multiverse(dataset.responses, dataset.sessions, most=3),
        "fit": fit,
        "means": fit.marginal_means(("condition",)),
        "contrasts": fit.contrasts("condition"),
        "intervals": compare_intervals(natural),
        "reliability": reliability_curve(table[table["references"] == "both"], answers=[2, 4], resamples=50),
        "confidence": measure_confidence(table.assign(confidence=1 + np.arange(len(table)) % 3), resamples=50),
        "guessing": check_guessing(table.assign(references="none")),
        "calibration": calibrate(table, machine_answers(dataset.responses, "features:made"), bins=3, resamples=50),
    }


@pytest.fixture(autouse=True)
def closed() -> Any:
    yield
    pyplot.close("all")


@pytest.mark.parametrize("name", NAMES)
def test_a_result_opens_a_figure_of_pyplot(name: str, results: dict[str, Any]) -> None:
    axes = results[name].plot()
    assert pyplot.fignum_exists(figure_of(axes).number) and len(pyplot.get_fignums()) == 1
    assert all(len(one.get_children()) > 5 for one in np.ravel(axes))


@pytest.mark.parametrize("name", NAMES)
def test_a_result_takes_the_place_of_axes(name: str, results: dict[str, Any]) -> None:
    figure, grid = pyplot.subplots(1, 2, figsize=(14, 6), layout="constrained")
    axes = results[name].plot(grid[0])
    assert figure_of(axes) is figure and len(pyplot.get_fignums()) == 1
    assert grid[0] not in figure.axes and grid[1] in figure.axes
    figure.draw_without_rendering()
    assert figure.get_layout_engine() is not None
    half = figure.bbox.width / 2
    assert all(one.bbox.x1 <= half * 1.02 for one in np.ravel(axes))


def test_residuals_are_drawn(results: dict[str, Any]) -> None:
    left, right = results["fit"].plot_residuals()
    assert left.get_xlabel().startswith("expected") and right.get_xlabel() == "predicted probability"


def test_figures_of_the_report_stay_unknown_to_pyplot(results: dict[str, Any]) -> None:
    results["ranks"].plot()
    before = pyplot.get_fignums()
    plot_model_comparison(results["proportions"].frame())
    assert pyplot.get_fignums() == before


def test_settings_of_the_process_are_left_as_they_were(results: dict[str, Any]) -> None:
    before = dict(matplotlib.rcParams)
    results["proportions"].plot()
    assert dict(matplotlib.rcParams) == before


def test_axes_outside_a_grid_are_refused(results: dict[str, Any]) -> None:
    figure = pyplot.figure()
    with pytest.raises(AnalysisError, match=r"not in a grid.*plt.subplots"):
        results["ranks"].plot(figure.add_axes((0, 0, 1, 1)))


def test_nothing_to_draw_is_said(results: dict[str, Any]) -> None:
    with pytest.raises(AnalysisError, match="no results"):
        ResultList(()).plot()
    with pytest.raises(AnalysisError, match="no figure for several Difference"):
        ResultList(results["models"].differences).plot()
    with pytest.raises(AnalysisError, match="too few"):
        DifficultyCurves((), ("a: too few answers",)).plot()


def test_an_unknown_headline_is_named(results: dict[str, Any]) -> None:
    with pytest.raises(NameNotFound, match="natural"):
        results["multiverse"].plot(headline="naturel")
