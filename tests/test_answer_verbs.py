"""The verbs from answers to claims: import, preregister, analyze, power; and what they say to mistakes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.dataset import read_dataset
from tests.hosted import make_hosted_study
from tests.imported import imi_table
from tests.test_command_line import refused, vimi
from tests.test_report import small_dataset

MAPPING = """
name = "pilot"
protocol = "ours"
[columns]
observer = "person"
model = { value = "resnet50" }
layer = "layer"
index = "channel"
condition = "kind"
correct = "right"
position = { column = "key", values = { u = "upper", d = "lower" } }
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(models=2, conditions=("natural",)).write(tmp_path_factory.mktemp("answers") / "small")


def write_table(folder: Path, right: str = "1") -> Path:
    rows = ["person,layer,channel,kind,right,key"]
    rows += [f"p{k % 3},layer1,{k},natural,{right if k == 3 else k % 2},{'ud'[k % 2]}" for k in range(12)]
    path = folder / "answers.csv"
    path.write_text("\n".join(rows))
    (folder / "map.toml").write_text(MAPPING)
    return path


def test_another_laboratory_s_table_comes_in_and_is_summed_up(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    done = vimi("import-csv", path, "--mapping", tmp_path / "map.toml", "--out", tmp_path / "in")
    assert done.code == 0, done.err
    assert "12 answers of 3 sessions" in done.out and "vimi analyze" in done.out
    dataset = read_dataset(tmp_path / "in")
    assert dataset.name == "pilot" and len(dataset.responses) == 12


def test_a_broken_row_is_named_with_its_column_and_reason(tmp_path: Path) -> None:
    path = write_table(tmp_path, right="perhaps")
    done = vimi("import-csv", path, "--mapping", tmp_path / "map.toml", "--out", tmp_path / "in")
    refused(done, "row 5", "right", "perhaps")
    assert not (tmp_path / "in").exists()


def test_the_release_of_2023_comes_in(tmp_path: Path) -> None:
    folder = tmp_path / "human_responses"
    folder.mkdir()
    imi_table(16).to_csv(folder / "responses_main.csv", index=False)
    done = vimi("import-imi", tmp_path, "--out", tmp_path / "imi")
    assert done.code == 0, done.err
    assert "main" in done.out and "googlenet" in done.out
    refused(vimi("import-imi", tmp_path, "--table", "best", "--out", tmp_path / "other"), "lower_quality")
    refused(vimi("import-imi", tmp_path / "nowhere"), "nowhere")


def test_analyze_writes_a_report_and_prints_what_the_answers_say(imported: Path, tmp_path: Path) -> None:
    done = vimi("analyze", imported, "--quick", "--out", tmp_path / "report")
    assert done.code == 0, done.err
    assert "googlenet, natural references: people answer " in done.out and "averaged over units" in done.out
    assert "Over all answers, each counted once" in done.out
    assert "No slope on parameters, training images, accuracy (natural)" in done.out
    assert (tmp_path / "report" / "report.html").is_file()
    estimates = pd.read_csv(tmp_path / "report" / "estimates.csv")
    assert len(estimates) > 30


@pytest.mark.usefixtures("undrawn")
def test_analyze_says_what_is_wrong_with_its_options(imported: Path, tmp_path: Path) -> None:
    refused(vimi("analyze", tmp_path / "nowhere"), "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    refused(vimi("analyze", imported, "--quick", "--out", tmp_path / "full"), "something other")
    refused(vimi("analyze", imported, "--quick", "--smallest-effect", "parameter=0.03"), "parameters")
    refused(vimi("analyze", imported, "--quick", "--smallest-effect", "parameters=-1"), "above 0")
    refused(vimi("analyze", imported, "--quick", "--rules", "catsh"), "catch")
    refused(vimi("analyze", imported, "--quick", "--mean", "unit"), "units")
    wrong = vimi("analyze", imported, "--smallest-effect", "parameters")
    assert wrong.code == 2 and "PREDICTOR=VALUE" in wrong.err


@pytest.mark.usefixtures("undrawn")
def test_rules_can_be_left_out_or_chosen(imported: Path, tmp_path: Path) -> None:
    everybody = vimi("analyze", imported, "--quick", "--rules", "none", "--out", tmp_path / "all")
    assert everybody.code == 0, everybody.err
    assert "0 of 32 sessions" in (tmp_path / "all" / "report.html").read_text(encoding="utf-8")
    some = vimi("analyze", imported, "--quick", "--rules", "complete, catch", "--out", tmp_path / "some")
    assert some.code == 0, some.err
    rules = pd.read_csv(tmp_path / "some" / "tables" / "answers-exclusions.csv")
    assert rules["rule"].tolist() == ["complete", "catch"]


def test_a_plan_is_drafted_filled_frozen_and_kept(tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study").root
    drafted = vimi("preregister", study)
    assert drafted.code == 0, drafted.err
    (plan,) = study.glob("*plan*.toml")
    refused(vimi("preregister", study, "--plan", plan), str(plan))  # it still has its blanks
    assert not (study / "preregistration.json").exists()


def test_power_is_assessed_and_budgets_are_spent(imported: Path) -> None:
    done = vimi("power", "--goal", "slope", "--effect", "0.05", "--simulations", "60")
    assert done.code == 0, done.err
    assert "per decade" in done.out
    spent = vimi("power", "--budget", "5000")
    assert spent.code == 0 and "units" in spent.out
    ahead = vimi("power", imported, "--until", "0.02")
    assert ahead.code == 0 and "points" in ahead.out
    refused(vimi("power", "--goal", "slop"), "slope")
    refused(vimi("power", "--budget", "5000", "--aim", "fame"), "slope")
    assert vimi("power", "--until", "0.02").code == 2
