"""The report of conditions with any name, of machines alone, and what it must not repeat or contradict."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.dataset import Dataset
from analysis.figures.style import series_styles, shapes
from analysis.machines.performance import MachineScores, score_machines
from analysis.power.simulation import Layout, Population
from analysis.proportions import estimate_proportions
from analysis.published import published_models
from analysis.report import Report, ReportSettings, make_report, render_page, write_report
from analysis.report.making import _scale
from analysis.report.material import Material, SectionDraft, said_once
from analysis.report.page import MOST_FINDINGS
from analysis.report.sections.robustness import _slopes
from analysis.report.sections.scaling import describe_scaling
from analysis.scaling import ScalingResult, fit_scaling, tabulate_means
from analysis.scaling.predictors import LEAST_MODELS
from analysis.simulated_dataset import SimulatedObserver, simulate_dataset
from benchmark.estimate import DISATTENUATED, RANK, Estimate

CONDITIONS = ("photo/hard", "blur <b>", "model")


@pytest.fixture(scope="module")
def three() -> Report:
    layout = Layout(models=2, units=6, sessions=4, trials=6, catch_trials=0, conditions=CONDITIONS)
    dataset = simulate_dataset(layout, Population(conditions={CONDITIONS[1]: -1.0}), seed=5)
    return make_report(dataset, ReportSettings(rules=(), thorough=False))


@pytest.fixture(scope="module")
def machines() -> Dataset:
    """Answers of two observers about four models of four sizes, and of nobody else."""
    layout = Layout(models=4, units=8, sessions=2, trials=8, catch_trials=0, conditions=("natural",))
    models = pd.DataFrame({"model": [f"own-{k}" for k in range(4)], "parameters": [1e6, 3e6, 1e7, 4e7]})
    observers = (SimulatedObserver("features:x", twin_skill=0.2), SimulatedObserver("lowlevel", 0.5, twin_skill=0.2))
    whole = simulate_dataset(layout, Population(), seed=6, models=models, observers=observers)
    alone = whole.responses[whole.responses["observer_kind"] == "machine"].reset_index(drop=True)
    return Dataset(**{**whole.__dict__, "responses": alone, "sessions": whole.sessions.iloc[:0]})


def table_of(report: Report, section: str, name: str) -> pd.DataFrame:
    return next(table.frame for table in report.section(section).tables if table.name == name)


# ---------------------------------------------------------------- conditions


def test_every_pair_of_conditions_is_compared_whatever_they_are_called(three: Report) -> None:
    frame = table_of(three, "differences", "conditions")
    pairs = {(row["first"].split(" ", 1)[1], row["second"].split(" ", 1)[1]) for _, row in frame.iterrows()}
    ordered = sorted(CONDITIONS)
    assert pairs == {(a, b) for k, a in enumerate(ordered) for b in ordered[k + 1 :]}
    assert len(frame) == 6 and (frame["p, Holm over all pairs"] >= frame["p (alone)"]).all()
    drawn = [figure for figure in three.section("scores").figures if "against" in figure.title]
    assert len(drawn) == 3


def test_names_of_conditions_are_no_paths_and_no_markup(three: Report, tmp_path: Path) -> None:
    written = write_report(three, tmp_path / "report")
    assert (tmp_path / "report" / "tables" / "differences-pairs-photo-hard.csv").is_file()
    page = written.page.read_text("utf-8")
    assert "blur &lt;b&gt;" in page and "blur <b>" not in page


def test_intervals_and_p_values_say_which_belong_together(three: Report) -> None:
    frame = table_of(three, "differences", "conditions")
    assert list(frame.columns)[2:6] == [
        "difference (alone)", "p (alone)", "difference (simultaneous)", "p, max-T (simultaneous)",
    ]  # fmt: skip
    for _, row in frame.iterrows():
        assert (row["p (alone)"] < 0.05) == row["difference (alone)"].excludes_zero
        assert (row["p, max-T (simultaneous)"] < 0.05) == row["difference (simultaneous)"].excludes_zero


# ---------------------------------------------------------------- means and counts


@pytest.mark.usefixtures("undrawn")
def test_the_headline_names_its_mean_and_gives_the_other_one() -> None:
    layout = Layout(models=1, units=5, sessions=3, trials=5, catch_trials=0, conditions=("natural",))
    dataset = simulate_dataset(layout, Population(), seed=7)
    # One unit has fewer answers than the others, so that the two means differ.
    unit = dataset.responses["index"].iloc[0]
    few = dataset.responses["index"].eq(unit) & (dataset.responses["session"] != dataset.responses["session"].iloc[0])
    dataset = Dataset(**{**dataset.__dict__, "responses": dataset.responses[~few].reset_index(drop=True)})
    counted = dataset.responses["correct"].astype(bool)
    by_unit = dataset.responses.assign(correct=counted).groupby("index")["correct"].mean().mean()
    found = {}
    for mean in ("units", "answers"):
        report = make_report(dataset, ReportSettings(rules=(), thorough=False, mean=mean))  # type: ignore[arg-type]
        found[mean] = report.headline[0]
        assert report.manifest["settings"]["mean"] == mean
    assert "averaged over units" in found["units"].sentence and f"{by_unit:.3f}"[1:] in found["units"].sentence
    share = f"{counted.mean():.3f}"[1:]
    assert share in found["units"].because and f"({counted.sum()} of {len(counted)})" in found["units"].because
    assert (
        "of the answers of simulated people are correct" in found["answers"].sentence
        and share in found["answers"].sentence
    )


def test_one_count_of_answers_runs_through_the_report(three: Report) -> None:
    facts = dict(three.facts)
    counted, headline = facts["Answers that count"].split(",")[0], facts["Headline numbers"].split(" ")[0]
    sentences = " ".join(finding.sentence for finding in three.section("answers").findings)
    assert f"{counted} of {counted} answers count" in sentences
    assert f"use {headline} of these {counted} answers" in sentences


def test_layers_and_difficulties_come_in_their_own_order() -> None:
    table = pd.DataFrame(
        {
            "model": "m", "condition": "natural", "unit": [f"m/l/{k}" for k in range(6)] * 2, "correct": [1.0, 0.0] * 6,
            "participant": ["a"] * 6 + ["b"] * 6, "difficulty": ["very_hard", "hard", "easy"] * 4,
        }
    )  # fmt: skip
    units = pd.DataFrame({"unit": [f"m/l/{k}" for k in range(6)], "depth": [0.9, 0.1, 0.5, 0.95, 0.2, 0.6]})
    depths = [cell.names["depth"] for cell in estimate_proportions(table, ("depth",), units=units)]
    assert depths == ["first third", "middle third", "last third"]
    found = [cell.names["difficulty"] for cell in estimate_proportions(table, ("difficulty",))]
    assert found == ["easy", "hard", "very_hard"]


# ---------------------------------------------------------------- machines


def test_machines_alone_have_slopes_and_every_model_in_the_headline(machines: Dataset) -> None:
    report = make_report(machines, ReportSettings(thorough=False, predictors=("parameters",)))
    section = report.section("machine-scaling")
    assert [finding.kind for finding in section.findings] and "features:x" in section.findings[0].sentence
    assert "excess over the low-level observer" in section.findings[0].sentence
    assert section.figures and len(table_of(report, "machine-scaling", section.tables[0].name)) == 1
    said = " ".join(finding.sentence for finding in report.headline)
    assert all(f"own-{k}" in said for k in range(4))
    fewer = machines.responses[machines.responses["model"].str.contains("own-[01]")].reset_index(drop=True)
    refused = make_report(Dataset(**{**machines.__dict__, "responses": fewer}), ReportSettings(thorough=False))
    assert refused.section("machine-scaling").findings[0].kind == "refused"


def test_a_control_is_no_verdict_on_a_model(machines: Dataset) -> None:
    none = machines.responses.assign(references="none")
    both = score_machines(pd.concat([machines.responses, none], ignore_index=True))
    assert isinstance(both, MachineScores) and "no references" in both._repr_html_()
    controls = [score for score in both if not score.is_headline]
    assert controls and all(score.verdict.startswith("Control, no references") for score in controls)
    assert all("twin" not in score.verdict for score in controls)


# ---------------------------------------------------------------- words and looks


def test_a_reason_that_many_share_is_said_once() -> None:
    draft = SectionDraft("x")
    for k in range(40):
        draft.lack("there is no random twin.", f"model-{k}")
    (absent,) = draft.section("x").absent
    assert absent == f"{'; '.join(f'model-{k}' for k in range(6))} and 34 more: there is no random twin."
    assert said_once("why.", ["", ""]) == "why."


def test_ranks_are_whole_and_what_lies_beyond_one_is_said_in_words() -> None:
    assert str(Estimate(6.0, 5.0, 7.0, "", 9, RANK)) == "6 [5, 7]"
    assert str(Estimate(0.935, 0.632, 10.3, "", 9, DISATTENUATED)) == ".935 [.632, above 1]"
    assert str(Estimate(52.105, 20.377, 241.0, "", 9, "answers")) == "52.1 [20.4, 241]"


def test_forty_series_differ_without_their_names() -> None:
    styles = series_styles([f"model-{k}" for k in range(40)] + ["natural", "synthetic"]).values()
    assert len({(look.colour, look.marker, look.fill) for look in styles}) == 42
    # Nobody needs colour to tell twenty conditions apart.
    few = series_styles([f"condition {k}" for k in range(18)] + ["natural", "synthetic"]).values()
    assert len({(look.marker, look.fill) for look in few}) == 20
    assert len(set(shapes(range(30)).values())) == 30


def test_more_than_a_few_findings_are_folded_and_none_is_lost(three: Report) -> None:
    draft = SectionDraft("many")
    for k in range(20):
        draft.find(f"finding number {k}")
    page = render_page(Report("t", (), (), (), (draft.section("many"),)))
    assert all(f"finding number {k}<" in page for k in range(20)) and "12 more findings" in page


# ---------------------------------------------------------------- scaling


def test_fewer_models_than_a_slope_needs_are_not_drawn_against_their_size() -> None:
    conditions = tuple(f"kind {number}" for number in range(8))
    layout = Layout(models=1, units=5, sessions=2, trials=5, catch_trials=0, conditions=conditions)
    models = published_models().iloc[:1]
    dataset = simulate_dataset(layout, Population(), seed=8, models=models)
    section = _scale(Material(dataset, ReportSettings(rules=(), thorough=False)), [])
    assert not section.figures
    assert any(f"at least {LEAST_MODELS} models" in text for text in section.absent)
    assert section.findings[0].kind == "refused"


@pytest.fixture(scope="module")
def six() -> Material:
    layout = Layout(models=6, units=5, sessions=3, trials=10, catch_trials=0, conditions=("b", "a"))
    models = published_models().iloc[:6]
    return Material(simulate_dataset(layout, Population(), seed=9, models=models), ReportSettings(rules=()))


def test_the_multiverse_varies_the_slope_that_the_headline_gives(six: Material) -> None:
    study = fit_scaling(tabulate_means(six.proportions), six.dataset.models, conditions=six.conditions)
    for condition in six.conditions:
        result = study.result(condition, "parameters")
        assert isinstance(result, ScalingResult)
        slopes = _slopes(six, six.headline, [(condition, "parameters")], "units")
        found, headline = slopes[f"{condition} on parameters"], result.slope.estimate
        assert (found.value, found.low, found.high) == pytest.approx((headline.value, headline.low, headline.high))
        assert found.low != pytest.approx(result.least_squares.estimate.low)


def test_the_figure_of_leverage_draws_what_its_caption_says(six: Material) -> None:
    study = fit_scaling(tabulate_means(six.proportions), six.dataset.models, conditions=six.conditions)
    section = describe_scaling(study)
    figure = next(figure for figure in section.figures if figure.name.startswith("leverage"))
    own = figure.data
    assert "without each model" in figure.caption
    assert (own["slope_without_low"] < own["slope_without"]).all()
    assert (own["slope_without"] < own["slope_without_high"]).all()


def test_one_finding_too_many_is_shown_and_more_are_folded(six: Material) -> None:
    def page(findings: int) -> str:
        draft = SectionDraft("some")
        for number in range(findings):
            draft.find(f"Finding {number}.")
        return render_page(Report("some", (), (), (), (draft.section("Some"),)))

    assert "more finding" not in page(MOST_FINDINGS + 1)
    assert "2 more findings" in page(MOST_FINDINGS + 2)
