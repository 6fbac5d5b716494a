"""A forecast agrees with what a build then makes, wherever it is not about seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import PoolTooSmall, VimiError
from benchmark.experiment import Experiment
from benchmark.study import Study
from benchmark.workflow import build, forecast
from stimuli.forecast import BuildForecast
from tests.conftest import make_experiment
from tests.experiments import small_experiment


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def agree(expected: BuildForecast, study: Study) -> None:
    """Check that a forecast has the sessions, answers and money that a study lays out."""
    trials = study.trials()
    sessions = trials["session"].nunique()
    assert expected.sessions == sessions
    assert expected.answers == int((trials["kind"] != "practice").sum())
    assert expected.payment_usd == pytest.approx(sessions * study.protocol.rules.session.payment_usd)
    assert expected.pictures == study.manifest["pool"]["size"]
    assert expected.protocol == study.manifest["protocol"]


@pytest.fixture(scope="module")
def tiny_forecast(labelled_folder: Path, checkpoint: Path) -> BuildForecast:
    return forecast(make_experiment(labelled_folder, checkpoint), device="cpu")


def test_sessions_answers_and_money_are_those_of_the_study(tiny_forecast: BuildForecast, tiny_study: Study) -> None:
    agree(tiny_forecast, tiny_study)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "protocol": "imi2023",
            "models": [
                {"card": "timm:test_resnet", "weights": "random"},
                {"card": "timm:test_convnext", "weights": "random"},
            ],
            "session": {"main_trials": 5, "responses_per_unit": 7, "catch_trials": 2},
        },
        {
            "stimuli": {"difficulties": ["easy", "very_hard"], "references": 2, "tasks": 2},
            "models": [
                {"card": "timm:test_resnet", "weights": "random"},
                {"card": "timm:test_resnet-twin"},
            ],
        },
    ],
    ids=["one model a session", "two difficulties and a twin that is an entry of its own"],
)
def test_they_agree_for_other_designs_too(
    labelled_folder: Path, checkpoint: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    experiment = small_experiment(labelled_folder, checkpoint, **changes)
    agree(forecast(experiment, device="cpu"), build(experiment, tmp_path / "study"))


def test_disk_space_is_within_a_factor_of_two_of_what_a_build_takes(
    tiny_forecast: BuildForecast, tiny_study: Study
) -> None:
    stages = {item.stage for item in tiny_forecast.items}
    assert stages == {"units", "activations", "exemplars", "visualizations"}
    for item in tiny_forecast.items:
        if item.stage == "activations":
            assert 0.5 < item.bytes / size_of(tiny_study.activations(item.what)) < 2, item.what
    stored = sum(item.bytes for item in tiny_forecast.items if item.stage in ("exemplars", "visualizations"))
    assert 0.5 < stored / size_of(tiny_study.root / "images") < 2
    assert tiny_forecast.bytes == sum(item.bytes for item in tiny_forecast.items)


def test_every_model_twin_and_stage_has_a_line(tiny_forecast: BuildForecast, tiny_study: Study) -> None:
    lines = {item.what for item in tiny_forecast.items if item.stage == "activations"}
    assert lines == set(tiny_study.manifest["models"])
    made = {item.what.partition(",")[0] for item in tiny_forecast.items if item.stage == "visualizations"}
    assert made == {name for name, facts in tiny_study.manifest["models"].items() if not facts["twin"]}
    sets = [item.what for item in tiny_forecast.items if item.stage == "visualizations"]
    assert all("6 sets of 3 at 32 px" in line for line in sets)
    assert all(item.seconds > 0 for item in tiny_forecast.items)
    assert tiny_forecast.seconds == pytest.approx(sum(item.seconds for item in tiny_forecast.items))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"stimuli": {"references": 3, "tasks": 8}}, PoolTooSmall, "64 pictures"),
        ({"session": {"main_trials": 7}}, VimiError, "main_trials to at most 6"),
        ({"pool": {"source": "folder:nowhere", "crop": 48}}, VimiError, "nowhere"),
    ],
)
def test_what_would_stop_the_build_stops_the_forecast(
    picture_folder: Path, checkpoint: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    experiment: Experiment = small_experiment(picture_folder, checkpoint, **changes)
    with pytest.raises(error, match=words):
        forecast(experiment, device="cpu")
