"""The report: what stands in it, what it says it can't do, and the page and files that it becomes."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.dataset import Dataset, unit_facts
from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.published import published_models
from analysis.report import (
    Figure,
    Finding,
    Report,
    ReportSettings,
    ReportTable,
    Section,
    make_report,
    render_page,
    settings_for,
    write_report,
)
from analysis.report.page import cells_of, flat, methods_of, spell_number
from analysis.scaling import ScalingResult, fit_scaling, tabulate_means
from benchmark.errors import AnalysisError, StudyError
from benchmark.estimate import Estimate
from tests.simulated import as_responses, session_facts

NAMES = list(published_models()["model"])


def small_dataset(models: int = 5, conditions: tuple[str, ...] = ("natural", "synthetic"), seed: int = 1) -> Dataset:
    layout = Layout(
        models=models, units=12, sessions=16, trials=12, catch_trials=2, conditions=conditions, references_none=0.15
    )
    truth = Population(conditions={"synthetic": -1.0}, unit=0.8, unit_condition=0.3)
    table = simulate_judgements(layout, truth, seed=seed)
    table["model"] = table["model"].cat.rename_categories({f"model-{k}": NAMES[k] for k in range(models)})
    responses = as_responses(table)
    responses["response_id"] = [f"answer-{k}" for k in range(len(responses))]
    rng = np.random.default_rng(seed)
    responses["confidence"] = pd.array(rng.integers(1, 4, len(responses)), dtype="Int64")
    responses["rt_ms"] = rng.lognormal(8, 0.4, len(responses))
    sessions = session_facts(responses, seed)
    units = unit_facts(responses)
    units["depth"] = np.linspace(0, 1, len(units))
    facts = published_models().assign(twin=False, samples_seen=np.nan, year=np.nan)
    known = facts[facts["model"].isin(NAMES[:models])].reset_index(drop=True)
    return Dataset("small", responses, sessions, units, known, "imi2023", ("made for a test",))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return small_dataset()


@pytest.fixture(scope="module")
def report(dataset: Dataset) -> Report:
    return make_report(dataset, ReportSettings(thorough=False, smallest_effect={"parameters": 0.05}))


def test_the_sections_stand_in_the_order_of_reading(report: Report) -> None:
    assert report.names == [
        "answers", "scores", "differences", "scaling", "mixed-model", "robustness", "controls", "difficulty",
        "confidence", "reliability", "outlook", "registration",
    ]  # fmt: skip
    with pytest.raises(KeyError):
        report.section("weather")


def test_every_estimate_has_an_interval_a_method_and_an_estimand(report: Report) -> None:
    estimates = report.estimates()
    assert len(estimates) > 100
    numbers = estimates[["value", "low", "high"]].to_numpy(dtype=float)
    assert not np.isnan(numbers).any()
    assert (numbers[:, 1] <= numbers[:, 0]).all() and (numbers[:, 0] <= numbers[:, 2]).all()
    # "Never" is an answer to how many more sessions it takes; anything else endless has no interval, and says so.
    endless = np.isinf(numbers[:, 1]) & np.isinf(numbers[:, 2]) & np.isfinite(numbers[:, 0])
    assert estimates["method"][endless].str.startswith("no interval").all()
    assert (estimates["method"] != "").all() and (estimates["estimand"] != "").all()
    assert (estimates["n"] > 0).all() and (estimates["unit"] != "").all()


def test_the_headline_is_the_verdict_on_each_slope_with_its_number(report: Report, dataset: Dataset) -> None:
    from analysis.report import Material

    material = Material(dataset, ReportSettings(smallest_effect={"parameters": 0.05}))
    study = fit_scaling(
        tabulate_means(material.proportions), dataset.models, smallest_effect={"parameters": 0.05}
    )  # fmt: skip
    carried = [result for result in study if isinstance(result, ScalingResult)]
    assert [finding.kind for finding in report.headline] == [result.verdict.kind for result in carried]
    for finding, result in zip(report.headline, carried):
        assert str(result.slope.estimate) in finding.sentence
        assert f"{len(result.points)} models" in finding.sentence
        declared = "no smallest effect was declared" not in finding.because
        assert declared == (result.predictor == "parameters")


def test_what_was_not_asked_for_is_said(report: Report) -> None:
    assert "a quick report" in " ".join(report.section("mixed-model").absent)
    assert "a quick report" in " ".join(report.section("robustness").absent)
    assert "no plan was frozen" in " ".join(report.section("registration").absent)


@pytest.mark.usefixtures("undrawn")
def test_a_condition_that_some_models_lack_is_reported_for_the_others() -> None:
    whole = small_dataset(models=5)
    lacking = whole.responses["model"].isin(NAMES[:2]) & (whole.responses["condition"] == "synthetic")
    kept = whole.responses[~lacking].reset_index(drop=True)
    made = make_report(Dataset(**{**whole.__dict__, "responses": kept}), ReportSettings(thorough=False))
    table = next(table for table in made.section("scores").tables if table.name == "models")
    assert table.frame.groupby("condition").size().to_dict() == {"natural": 5, "synthetic": 3}
    assert any("synthetic" in str(finding.sentence) for finding in made.section("scaling").findings)


def test_a_thorough_report_of_two_models_fits_the_mixed_model_and_the_grid() -> None:
    made = make_report(small_dataset(models=2, conditions=("natural",)), ReportSettings())
    names = [table.name for table in made.section("mixed-model").tables]
    assert {"lapse", "effects", "means", "learning"} <= set(names)
    assert [figure.name for figure in made.section("robustness").figures] == ["specifications-natural"]
    refused = [finding for finding in made.section("scaling").findings if finding.kind == "refused"]
    assert len(refused) == 1 and "a slope needs at least 4" in refused[0].because
    assert [finding.kind for finding in made.headline] == ["", "", "refused"]


def test_no_answers_at_all_are_refused(dataset: Dataset) -> None:
    empty = Dataset(**{**dataset.__dict__, "responses": dataset.responses.iloc[:0]})
    with pytest.raises(AnalysisError, match="no main answers left"):
        make_report(empty)


def test_a_table_without_a_study_has_the_paper_s_rules_and_no_plan() -> None:
    settings = settings_for(None)
    assert [rule.name for rule in settings.rules] == [
        "complete", "catch", "total time", "instruction time", "positions", "practice",
    ]  # fmt: skip
    assert settings.registration is None and settings.smallest_effect == {}


# ---------------------------------------------------------------- the page


def test_the_page_needs_nothing_else_and_carries_its_data(report: Report) -> None:
    page = render_page(report)
    targets = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert targets and all(target.startswith(("#", "data:text/csv")) for target in targets)
    assert "<script" not in page and "@import" not in page and "url(http" not in page
    figures = [figure for section in report.sections for figure in section.figures]
    assert page.count("<figure id=") == len(figures) > 8
    assert len(re.findall(r'\bid="([^"]+)"', page)) == len(set(re.findall(r'\bid="([^"]+)"', page)))
    for figure in figures:
        assert len(figure.data)


def test_a_link_holds_the_data_behind_its_figure(report: Report) -> None:
    page = render_page(report)
    link = re.search(r'download="comparison.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', page)
    assert link is not None
    table = pd.read_csv(io.BytesIO(base64.b64decode(link[1])))
    shown = next(figure.data for figure in report.section("scores").figures if figure.name == "comparison")
    assert np.allclose(table["value"], shown["value"].astype(float))


def estimate(value: float, low: float, high: float, method: str = "by hand") -> Estimate:
    return Estimate(value, low, high, method, 3, "proportion correct", "these units")


def test_what_people_wrote_can_t_become_markup() -> None:
    evil = "<script>alert(1)</script>"
    table = ReportTable(
        "t", evil, pd.DataFrame({"model": [evil], "score": [estimate(0.5, 0.4, 0.6)]}, dtype=object), evil
    )
    section = Section("s", evil, evil, (Finding(evil, evil, "improves"),), (table,), (), (evil,), (evil,))
    page = render_page(Report(evil, ((evil, evil),), (evil,), (Finding(evil),), (section,), {"note": evil}))
    assert "<script" not in page and page.count("&lt;script&gt;") > 8


def test_intervals_of_one_column_are_drawn_on_one_scale_and_said_once() -> None:
    rows = pd.DataFrame({"score": [estimate(0.5, 0.4, 0.6), estimate(0.7, 0.6, 0.8), None]}, dtype=object)
    table = ReportTable("t", "title", rows)
    first, second, none = (row[0] for row in cells_of(table))
    assert first.text == ".500 [.400, .600]" and none.text == "–"
    left = [float(re.search(r'<rect x="([\d.]+)"', str(cell.drawing))[1]) for cell in (first, second)]  # type: ignore[index]
    assert left[0] < left[1]
    assert methods_of(table) == ["proportion correct: by hand, 95 %; for these units"]
    assert list(flat(rows).columns) == ["score", "score_low", "score_high", "score_n", "score_method"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, ".000"),
        (0.25, ".250"),
        (-0.0312, "-.031"),
        (1.0, "1"),
        (0.0001, "1.0e-04"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (float("inf"), "∞"),
    ],
)
def test_numbers_are_written_shortly(number: float, text: str) -> None:
    assert spell_number(number) == text


# ---------------------------------------------------------------- the files


def test_the_folder_holds_every_figure_table_and_estimate(report: Report, tmp_path: Path) -> None:
    written = write_report(report, tmp_path / "report")
    figures = list((written.folder / "figures").glob("*.svg"))
    assert len(figures) == written.figures == len(list((written.folder / "figures").glob("*.csv")))
    assert len(list((written.folder / "tables").glob("*.csv"))) == written.tables
    stored = pd.read_csv(written.folder / "estimates.csv")
    assert len(stored) == written.estimates == len(report.estimates())
    assert written.page.read_text(encoding="utf-8").startswith("<!doctype html>")
    first = {path.name for path in figures}
    figure = Figure("f", "f", "<svg/>", pd.DataFrame({"a": [1]}))
    again = write_report(Report("other", (), (), (), (Section("s", "t", figures=(figure,)),)), written.folder)
    assert {path.name for path in (again.folder / "figures").glob("*.svg")} == {"s-f.svg"} and first


def test_a_folder_with_something_else_in_it_is_left_alone(report: Report, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match="something other"):
        write_report(report, tmp_path)
    with pytest.raises(StudyError, match="is a file"):
        write_report(report, tmp_path / "thesis.txt")


@pytest.mark.usefixtures("undrawn")
def test_the_same_answers_give_the_same_estimates_in_any_order(dataset: Dataset, report: Report) -> None:
    mixed = dataset.responses.sample(frac=1, random_state=3).reset_index(drop=True)
    settings = ReportSettings(thorough=False, smallest_effect={"parameters": 0.05})
    names = ["section", "table", "of", "quantity", "value", "low", "high"]
    one = report.estimates()[names]
    other = make_report(Dataset(**{**dataset.__dict__, "responses": mixed}), settings).estimates()[names]
    key = ["section", "table", "of", "quantity"]
    one, other = (table.sort_values(key, kind="stable").reset_index(drop=True) for table in (one, other))
    assert one[key].equals(other[key])
    numbers = ["value", "low", "high"]
    apart = ~np.isclose(one[numbers].astype(float), other[numbers].astype(float), atol=1e-8, equal_nan=True)
    assert not apart.any(), one[apart.any(axis=1)]
