"""The demo: its experiment, and its whole path on one real bundled model at a tiny scale."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from benchmark.command_line import main
from benchmark.experiment import Experiment
from benchmark.model_sources import load_card
from benchmark.model_zoo import weights_on_machine
from benchmark.plumbing import PLUMBING
from benchmark.study import Study
from benchmark.workflow import building as workflow
from benchmark.workflow import check_sessions, demo_experiment
from stimuli.bundled import BundledPool
from tests.conftest import write_pictures

LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


def test_the_demo_builds_three_real_models_with_twins_on_the_bundled_photographs() -> None:
    experiment = demo_experiment()
    assert tuple(entry.card for entry in experiment.models) == LITE
    assert all(entry.twin and entry.weights == "" for entry in experiment.models)
    assert experiment.pool.source == "bundled"
    assert experiment.protocol == "vimi1"
    assert set(experiment.stimuli.conditions) == {"natural", "synthetic"}


def test_the_demo_needs_no_network() -> None:
    for name in LITE:
        path = weights_on_machine(load_card(name))
        assert path is not None
        assert path.is_file()


def test_the_demos_pool_and_units_are_enough_for_its_protocol() -> None:
    experiment = demo_experiment()
    check_sessions(experiment)
    size = len(BundledPool())
    assert experiment.resolve_protocol().for_pool(size).windows(size, experiment.stimuli.difficulties).size == size


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The demo with one of its models, few pictures and few units."""
    folder = write_pictures(tmp_path_factory.mktemp("demo"), 24)
    return Experiment.model_validate(
        {
            "pool": {"source": f"folder:{folder}", "crop": 64},
            "models": [{"card": "efficientnet_lite0", "twin": True}],
            "units": {"per_model": 4},
            "stimuli": {"conditions": ["natural", "synthetic"], "references": 3, "tasks": 2},
            "visualization": {"canvas": 32, "steps": 4, "units": 2},
            "session": {"main_trials": 2, "responses_per_unit": 2},
        }
    )


def test_the_demo_runs_end_to_end_and_says_what_to_look_at_and_what_to_run_next(
    small_demo: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workflow, "demo_experiment", lambda: small_demo)
    out = tmp_path / "demo"
    monkeypatch.setattr("sys.argv", ["vimi", "demo", "--out", str(out), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr()
    study = Study.open(out)
    results = {name: out / "results" / name for name in ("machine_scores.csv", "machine_scores.png", "trial.png")}
    for path in [*results.values(), out / "gallery" / "index.html"]:
        assert path.is_file()
    for name in ("machine_scores.png", "trial.png"):
        with Image.open(results[name]) as image:
            assert min(image.size) > 200
        assert str(results[name]) in printed.out
    assert str(out / "gallery" / "index.html") in printed.out
    *_, look, build, people, serve = printed.out.strip().splitlines()
    assert "browser" in look and build == "  vimi new my_study --story build"
    assert people.endswith("run:") and serve == f"  vimi serve {out} --preview"
    # The table: trained model, conditions, low-level, excess, twin.
    rows = re.findall(r"^efficientnet_lite0 +(natural|synthetic) +\.?[\d.]+ ?\[", printed.out, re.MULTILINE)
    assert sorted(rows) == ["natural", "synthetic"]
    for heading in ("low-level", "excess", "twin", "trained - twin"):
        assert heading in printed.out
    assert "features:efficientnet_lite2" in printed.out
    assert "never ranked" in printed.out
    assert (PLUMBING in printed.out.lower()) == study.is_plumbing_check
    assert "Surveying the pool" in printed.err
    assert "Surveying the pool" not in printed.out

    scores = pd.read_csv(results["machine_scores.csv"])
    assert set(scores["model"]) == {"efficientnet_lite0"}
    # A model never observes itself, but its twin may be shown to it.
    assert not ((scores["observer"] == "features:efficientnet_lite0") & (scores["model"] == "efficientnet_lite0")).any()
    hash_before = study.hash
    with pytest.raises(SystemExit) as again:
        main()
    assert not again.value.code
    assert Study.open(out).hash == hash_before
