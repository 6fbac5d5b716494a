"""``--json`` on every verb that reports: one document on stdout, everything else on stderr."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.leaderboard import result
from analysis.leaderboard.result import write_result
from analysis.report.document import Finding, Report
from analysis.report.writing import Written
from benchmark import __version__
from benchmark.bases import read_basis
from benchmark.bases.base import BasisCard
from benchmark.bases.rotation import RotationBasis
from benchmark.command_line.reporting import REPORTING, plain
from benchmark.doctor import Diagnosis
from benchmark.estimate import Estimate
from benchmark.study import Study
from benchmark.workflow import building
from benchmark.workflow.dictionaries import FittedBasis
from benchmark.workflow.leaderboard import Addition, ReleaseOutcome
from benchmark.workflow.starting import start
from stimuli.forecast import BuildForecast, Item
from tests.hosted import make_hosted_study
from tests.imported import imi_table
from tests.leaderboards import made_up_result
from tests.test_command_line import Outcome, vimi


def document(outcome: Outcome, path: str, code: int = 0) -> dict[str, Any]:
    """Return the one document of a verb."""
    assert outcome.code == code, outcome.err
    told: dict[str, Any] = json.loads(outcome.out)
    assert (told["verb"], told["vimi"]) == (path, __version__) and len(told) > 2
    return told


PUBLISHED = Path(result.__file__).parent / "results" / "clip_vit_b32"

Answers = Callable[[str], dict[str, Any]]


@pytest.fixture
def tell(tmp_path: Path, tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Return what a verb tells, each in a cheap case of its own; long jobs are stood in for by what they return."""
    monkeypatch.chdir(tmp_path)
    hosted = make_hosted_study(tmp_path / "hosted", recruitment={"recruiter": "prolific"}).root

    def noisy(outcome: Any) -> Callable[..., Any]:
        """Return a job that prints on its way."""

        def job(*_: Any, **__: Any) -> Any:
            print("a library says something")
            return outcome

        return job

    def answers() -> list[Any]:
        folder = start(tmp_path / "answers", "analyse").folder
        return ["import-csv", folder / "answers.csv", "--mapping", folder / "mapping.toml"]

    def report() -> list[Any]:
        made = Report("title", (), ("note",), (Finding("People can.", "because", "tested"),), ())
        monkeypatch.setattr("benchmark.workflow.analyze", noisy((made, Written(Path("page"), Path("r"), 1, 2, 3))))
        return ["analyze", "imported"]

    def basis() -> Path:
        path = tmp_path / "rotation.safetensors"
        if not path.exists():
            card = BasisCard(name="rotation", kind="rotation", model="m", layer="l", dimensions=2, width=2)
            RotationBasis(card, {"centre": torch.zeros(2), "axes": torch.eye(2)}).write(path)
        return path

    def fitted() -> list[Any]:
        made = FittedBasis(read_basis(basis()), basis())
        monkeypatch.setattr("benchmark.workflow.dictionaries.train_dictionary", noisy(made))
        return ["dictionary", "train", "m", "--layer", "l", "--pool", "bundled"]

    def release() -> list[Any]:
        outcome = ReleaseOutcome((), {}, {"one": "no weights"})
        monkeypatch.setattr("benchmark.workflow.leaderboard.make_release", noisy(outcome))
        return ["leaderboard", "release"]

    def addition() -> list[Any]:
        place = write_result(made_up_result("one", units=20), tmp_path / "w" / "results")
        added = Addition("one", (place,), Path("study"), True, {"check": 1.5}, tmp_path / "w" / "results")
        monkeypatch.setattr("benchmark.workflow.leaderboard.add_model", noisy(added))
        return ["leaderboard", "add", "one"]

    def results() -> Path:
        write_result(made_up_result("one", units=20), tmp_path / "files")
        return tmp_path / "files"

    def release_table() -> list[Any]:
        (tmp_path / "imi").mkdir()
        imi_table().to_csv(tmp_path / "imi" / "responses_main.csv", index=False)
        return ["import-imi", tmp_path / "imi", "--out", tmp_path / "imported"]

    def restored() -> list[Any]:
        assert vimi("backup", hosted, "--out", tmp_path / "kept").code == 0
        return ["restore", hosted, tmp_path / "kept", "--replace"]

    def demo() -> list[Any]:
        made = building.Demo(tiny_study, [], Path("figure"), Path("trial"), Path("gallery"))
        monkeypatch.setattr("benchmark.workflow.run_demo", noisy(made))
        return ["demo"]

    def forecast() -> list[Any]:
        made = BuildForecast((Item("units", "one", 1.0, 2),), 3, "vimi1", 4, 5, 6.0, ("warning",))
        monkeypatch.setattr("benchmark.workflow.forecast", noisy(made))
        return ["build", tiny_study.root / "experiment.toml", "--dry-run"]

    def built() -> list[Any]:
        monkeypatch.setattr("benchmark.workflow.build", noisy(tiny_study))
        return ["build", tiny_study.root / "experiment.toml"]

    def converted() -> list[Any]:
        torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
        return ["models", "convert", tmp_path / "weights.pt", tmp_path / "weights.safetensors"]

    def examined() -> list[Any]:
        monkeypatch.setattr("benchmark.doctor.examine", noisy([Diagnosis("ok", "python", "3.11")]))
        return ["doctor"]

    def gallery() -> list[Any]:
        monkeypatch.setattr("benchmark.workflow.make_gallery", noisy(Path("index.html")))
        return ["gallery", "study"]

    def site() -> list[Any]:
        monkeypatch.setattr("benchmark.workflow.leaderboard.build_leaderboard_site", noisy(Path("index.html")))
        return ["leaderboard", "build"]

    def observed() -> list[Any]:
        copy = shutil.copytree(tiny_study.root, tmp_path / "copy")
        return ["observe", copy, "--observer", "oracle", "--observer", "lowlevel"]

    cases: dict[str, Callable[[], list[Any]]] = {
        "new": lambda: ["new", "mine"],
        "demo": demo,
        "build": built,
        "build --dry-run": forecast,
        "observe": observed,
        "gallery": gallery,
        "models list": lambda: ["models", "list"],
        "models show": lambda: ["models", "show", "timm:test_resnet"],
        "models check": lambda: ["models", "check", "timm:test_resnet", "--weights", "random", "--natural-only"],
        "models convert": converted,
        "simulate": lambda: ["simulate", hosted, "--participants", "3", "--dropout", "0"],
        "recruitment": lambda: ["recruitment", hosted],
        "payments": lambda: ["payments", hosted],
        "export": lambda: ["export", hosted, "--database", f"sqlite:///{hosted / 'simulation.sqlite'}"],
        "analyze": report,
        "power": lambda: ["power", "--budget", "5000"],
        "power --goal": lambda: ["power", "--simulations", "50"],
        "preregister": lambda: ["preregister", hosted],
        "import-csv": answers,
        "import-imi": release_table,
        "leaderboard add": addition,
        "leaderboard show": lambda: ["leaderboard", "show", "--results", results(), "--model", "one"],
        "leaderboard verify": lambda: ["leaderboard", "verify", PUBLISHED],
        "leaderboard build": site,
        "leaderboard release": release,
        "backup": lambda: ["backup", hosted, "--out", tmp_path / "kept"],
        "restore": restored,
        "doctor": examined,
        "dictionary train": fitted,
        "dictionary show": lambda: ["dictionary", "show", basis()],
        "dictionary check": lambda: ["dictionary", "check", basis()],
    }
    assert {name.partition(" -")[0] for name in cases} == REPORTING

    def ask(name: str) -> dict[str, Any]:
        return document(vimi(*cases[name](), "--json"), name.partition(" -")[0])

    ask.cases = list(cases)  # type: ignore[attr-defined]
    return ask


def test_every_verb_that_reports_prints_one_document(tell: Answers) -> None:
    told = {name: tell(name) for name in tell.cases}  # type: ignore[attr-defined]
    assert told["build"]["models"][0]["units_used"] == 8 and told["build"]["sessions"] > 0
    assert told["build --dry-run"]["stages"] == [{"stage": "units", "what": "one", "seconds": 1.0, "bytes": 2}]
    assert {row["observer"] for row in told["observe"]["scores"]} == {"oracle"}
    assert {"score", "score_low", "score_high", "units"} <= set(told["observe"]["scores"][0])
    assert {row["card"] for row in told["models list"]["cards"]} >= {"resnet50", "efficientnet_lite0"}
    assert sum(row["units"] for row in told["models show"]["layers"]) == told["models show"]["units"]
    assert all({"check", "state", "found", "seconds"} == set(row) for row in told["models check"]["checks"])
    assert sum(told["simulate"]["outcomes"].values()) == told["simulate"]["people"] == 3
    assert {"value", "low", "high", "n"} <= set(told["simulate"]["recovered"][0]["recovered"])
    assert len(told["recruitment"]["briefing"]["codes"]) == 6
    assert told["payments"]["total_usd"] == 0 or told["payments"]["paid_in_full"] >= 0
    assert told["analyze"]["findings"] == [{"sentence": "People can.", "because": "because", "kind": "tested"}]
    assert told["power"]["budget"] == 5000 and told["power"]["table"][0]["budget"] > 0
    assert told["power --goal"]["goal"] == "slope" and told["power --goal"]["sentences"]
    assert told["import-csv"]["answers"] == 204
    assert told["leaderboard add"]["rows"] and told["leaderboard add"]["seconds"] == {"check": 1.5}
    assert told["leaderboard show"]["rows"][0]["model"] == "one"
    assert {"model", "check", "verdict", "sentence"} <= set(told["leaderboard show"]["validity"][0])
    assert told["leaderboard verify"]["holds"] and told["leaderboard verify"]["files"][0]["inspections"]
    assert told["leaderboard release"]["skipped"] == {"one": "no weights"}
    assert told["doctor"]["findings"] == [{"state": "ok", "what": "python", "found": "3.11"}]


def test_what_is_printed_on_the_way_and_errors_go_to_the_error_stream(
    tell: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell("gallery")
    said = vimi("gallery", "study", "--json")
    assert "a library says something" in said.err and "library" not in said.out
    assert "a library says something" in vimi("gallery", "study").out
    wrong = vimi("payments", "nowhere", "--json")
    assert wrong.code == 2 and wrong.out == "" and wrong.err.startswith("Error: ")
    monkeypatch.setattr("benchmark.doctor.examine", lambda: [Diagnosis("fail", "torch", "is missing")])
    assert document(vimi("doctor", "--json"), "doctor", code=1)["findings"][0]["state"] == "fail"


def test_a_verb_that_never_ends_has_no_document(tell: Answers, tmp_path: Path) -> None:
    never = vimi("recruitment", tmp_path / "hosted", "--prolific-api", "x", "--every", "5", "--json")
    assert never.code == 2 and never.out == "" and "never ends" in never.err


def test_models_alone_lists_and_takes_the_option() -> None:
    assert json.loads(vimi("models", "--json").out) == json.loads(vimi("models", "list", "--json").out)
    assert vimi("models", "--json", "show", "resnet50").code == 2


def test_values_have_one_plain_form() -> None:
    estimate = Estimate(0.5, -np.inf, np.inf, "none", 3, "share")
    assert plain(estimate) | {"method": ""} == {
        "value": 0.5, "low": "-inf", "high": "inf", "method": "", "n": 3, "unit": "share", "estimand": "",
        "level": 0.95,
    }  # fmt: skip
    frame = pd.DataFrame({"n": np.array([1, 2]), "x": [np.nan, 1.5], "t": [pd.NaT, pd.Timestamp("2026-01-02")]})
    assert plain(frame) == [{"n": 1, "x": None, "t": None}, {"n": 2, "x": 1.5, "t": "2026-01-02T00:00:00"}]
    assert plain((Path("a"), Decimal("2.50"), np.bool_(True), pd.NA, datetime(2026, 1, 2))) == [
        "a", 2.5, True, None, "2026-01-02T00:00:00",
    ]  # fmt: skip
    with pytest.raises(TypeError, match="object"):
        plain(object())
