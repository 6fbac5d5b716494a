"""A study folder: created once, opened again, refused with the reason when it is another's or none."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.errors import StageMissing, StudyError, StudyLocked, StudyMismatch
from benchmark.experiment import Experiment
from benchmark.hashing import hash_pixels, hash_rows
from benchmark.plumbing import PLUMBING
from benchmark.storage import only_process
from benchmark.study import STAGES, Study
from tests.conftest import make_experiment


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return make_experiment(tmp_path / "pictures", tmp_path / "weights.safetensors")


@pytest.fixture
def study(tmp_path: Path, experiment: Experiment) -> Study:
    return Study.create(tmp_path / "study", experiment)


@pytest.fixture
def copied(tiny_study: Study, tmp_path: Path) -> Study:
    """A copy of the tiny study that may be spoilt."""
    return Study(shutil.copytree(tiny_study.root, tmp_path / "copy"))


def test_a_created_study_can_be_opened_and_knows_its_experiment(study: Study, experiment: Experiment) -> None:
    opened = Study.open(study.root)
    assert opened.experiment.hash == experiment.hash
    assert opened.experiment.model_dump() == experiment.model_dump()
    assert opened.protocol.identity == experiment.resolve_protocol().identity
    assert opened.manifest["stages"] == {}
    assert opened.manifest["versions"]["torch"]


def test_the_frozen_experiment_is_a_file_that_can_be_built_from(study: Study) -> None:
    values = tomllib.loads((study.root / "experiment.toml").read_text(encoding="utf-8"))
    assert values["stimuli"]["tasks"] == 3
    assert "unit_rule" not in values["units"]


def test_creating_the_same_study_again_keeps_what_is_there(study: Study, experiment: Experiment) -> None:
    study.finish_stage("units", "in", {"pool": "out"})
    again = Study.create(study.root, experiment)
    assert again.stage_outputs("units") == {"pool": "out"}


def test_where_pictures_and_weights_lie_does_not_make_another_experiment(study: Study, tmp_path: Path) -> None:
    moved = make_experiment(tmp_path / "elsewhere", tmp_path / "else" / "weights.safetensors")
    assert Study.create(study.root, moved).manifest["experiment"] == moved.hash


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, ["seed was 3, is 4"]),
        ({"protocol": "imi2023"}, ["protocol was 'vimi1', is 'imi2023'"]),
        (
            {"stimuli": {"references": 3, "tasks": 4, "conditions": ["natural", "synthetic"]}},
            ["stimuli.tasks was 3, is 4"],
        ),
        ({"pool": {"source": "folder:elsewhere", "crop": 64}}, ["pool.crop was 48, is 64"]),
        ({"units": {"per_model": 8, "rule": "imi2023"}}, ["units.rule was None, is 'imi2023'"]),
        ({"models": [{"card": "timm:test_vit", "weights": "random"}]}, ["models was", "test_resnet"]),
    ],
)
def test_another_experiment_is_refused_with_the_setting_that_differs(
    study: Study, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    other = make_experiment(tmp_path / "pictures", tmp_path / "weights.safetensors", **changes)
    with pytest.raises(StudyMismatch) as caught:
        Study.create(study.root, other)
    for word in [*words, str(study.root), "another folder"]:
        assert word in str(caught.value)


def test_a_setting_inside_a_list_of_models_is_named_too(study: Study, experiment: Experiment) -> None:
    first, second = experiment.models
    other = experiment.model_copy(update={"models": (first.model_copy(update={"twin": False}), second)})
    with pytest.raises(StudyMismatch, match=r"models\[0\]\.twin was True, is False"):
        Study.create(study.root, other)


def test_only_what_differs_is_named(study: Study, experiment: Experiment) -> None:
    with pytest.raises(StudyMismatch) as caught:
        study.check_experiment(experiment.model_copy(update={"seed": 9}))
    assert "protocol" not in str(caught.value)
    assert "weights" not in str(caught.value)


def test_a_folder_that_is_no_study_can_not_be_opened_and_the_message_says_how_to_build_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StudyError, match="vimi build") as caught:
            Study.open(folder)
        assert str(folder) in str(caught.value)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, experiment: Experiment) -> None:
    (tmp_path / "photographs").mkdir()
    with pytest.raises(StudyError, match="photographs"):
        Study.create(tmp_path, experiment)
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


def test_a_file_is_no_place_for_a_study(tmp_path: Path, experiment: Experiment) -> None:
    (tmp_path / "file").write_text("content")
    with pytest.raises(StudyError, match="is a file; a study is a folder"):
        Study.create(tmp_path / "file", experiment)
    with pytest.raises(StudyError, match="is a file; a study is a folder"), Study(tmp_path / "file").building():
        pytest.fail("a file was built in")


def test_a_study_that_was_killed_before_its_manifest_was_written_is_created_again(
    study: Study, experiment: Experiment
) -> None:
    study.manifest_path.unlink()
    assert Study.create(study.root, experiment).manifest["stages"] == {}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'"words"', b"[1, 2]", b"{}"])
def test_a_broken_manifest_is_an_error_that_names_it(study: Study, content: bytes) -> None:
    study.manifest_path.write_bytes(content)
    with pytest.raises(StudyError, match=r"manifest\.json"):
        Study.open(study.root).stage_outputs("units")


def test_a_broken_frozen_experiment_is_an_error_that_names_it(study: Study) -> None:
    (study.root / "experiment.toml").write_text("seed = [")
    with pytest.raises(Exception, match=r"experiment\.toml is not valid TOML"):
        _ = Study.open(study.root).experiment


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_missing_stage_would_have_made_is_refused_with_the_command_that_makes_it(
    study: Study, stage: Any
) -> None:
    with pytest.raises(StageMissing) as caught:
        study.stage_outputs(stage)
    command = f"vimi build {study.root / 'experiment.toml'} --out {study.root} --stage {stage}"
    assert command in str(caught.value)


def test_tables_of_stages_that_have_not_run_are_refused(study: Study) -> None:
    for read, stage in (
        (study.pool, "units"),
        (study.units, "units"),
        (study.statistics, "exemplars"),
        (study.stimuli, "exemplars"),
        (study.trials, "trials"),
    ):
        with pytest.raises(StageMissing, match=f"--stage {stage}"):
            read()


def test_a_stage_is_done_only_for_the_inputs_it_was_made_from(study: Study) -> None:
    assert not study.stage_is_done("units", "these")
    study.finish_stage("units", "these", {"pool": "hash"}, seconds=3)
    assert study.stage_is_done("units", "these")
    assert not study.stage_is_done("units", "those")
    assert study.manifest["stages"]["units"]["seconds"] == 3


def test_the_hash_of_a_study_is_that_of_its_experiment_and_outputs_only(study: Study) -> None:
    study.finish_stage("units", "in", {"pool": "a"})
    first = study.hash
    study.finish_stage("units", "other", {"pool": "a"}, sessions=3)
    study.add_note("a note")
    with study.timed("units", "something"):
        pass
    assert study.hash == first
    study.finish_stage("units", "in", {"pool": "b"})
    assert study.hash != first


def test_the_hash_does_not_depend_on_how_parquet_files_were_written(copied: Study) -> None:
    manifest = copied.manifest["stages"]
    before = copied.hash
    for path in copied.root.rglob("*.parquet"):
        old = path.read_bytes()
        pd.read_parquet(path).to_parquet(path, index=False, compression="gzip", row_group_size=17)
        assert path.read_bytes() != old
    assert copied.hash == before
    stimuli, trials = copied.stimuli(), copied.trials()
    natural, synthetic = (stimuli[stimuli["condition"] == kind] for kind in ("natural", "synthetic"))
    assert hash_rows(natural) == manifest["exemplars"]["outputs"]["stimuli"]
    assert hash_rows(synthetic) == manifest["visualizations"]["outputs"]["stimuli"]
    assert hash_rows(trials) == manifest["trials"]["outputs"]["trials"]
    assert hash_rows(copied.units()) == manifest["units"]["outputs"]["units"]
    assert hash_rows(copied.pool()) == manifest["units"]["outputs"]["pool"]


def test_the_manifest_says_what_went_into_the_study(tiny_study: Study) -> None:
    manifest = json.loads(tiny_study.manifest_path.read_text(encoding="utf-8"))
    assert list(manifest["stages"]) == list(STAGES)
    assert all(stage["state"] == "done" for stage in manifest["stages"].values())
    assert {"torch", "timm", "numpy", "pillow", "python", "vimi"} <= set(manifest["versions"])
    assert all(len(facts["weights_hash"]) == 32 for facts in manifest["models"].values())
    assert manifest["protocol"] == tiny_study.protocol.identity
    assert manifest["pool"]["size"] == len(tiny_study.pool())


def test_every_picture_is_stored_losslessly_under_the_hash_of_its_pixels(tiny_study: Study) -> None:
    files = sorted((tiny_study.root / "images").rglob("*.webp"))
    assert {path.stem for path in files} == set(tiny_study.stimuli()["picture"])
    for path in files:
        assert hash_pixels(tiny_study.image(path.stem)) == path.stem
        assert path.parent.name == path.stem[:2]


def test_a_missing_or_broken_picture_is_named(copied: Study) -> None:
    first, second = copied.stimuli()["picture"].unique()[:2]
    copied.image_path(first).unlink()
    with pytest.raises(StudyError, match=first):
        copied.image(first)
    copied.image_path(second).write_bytes(copied.image_path(second).read_bytes()[:40])
    with pytest.raises(StudyError, match=f"{second}.*broken"):
        copied.image(second)


def test_pictures_come_as_8_bit_colour(tiny_study: Study) -> None:
    pixels = tiny_study.image(tiny_study.stimuli()["picture"].iloc[0])
    assert pixels.dtype == np.uint8
    assert pixels.shape == (48, 48, 3)


def test_notes_are_kept_once_and_mark_a_plumbing_check(study: Study) -> None:
    assert not study.is_plumbing_check
    study.add_note(PLUMBING)
    study.add_note(PLUMBING)
    assert study.manifest["notes"] == [PLUMBING]
    assert study.is_plumbing_check


def test_durations_are_kept_beside_the_study_in_order(study: Study) -> None:
    for what in ("first", "second"):
        with study.timed("units", what):
            pass
    timings = pd.read_parquet(study.root / "timings.parquet")
    assert timings["what"].tolist() == ["first", "second"]
    assert (timings["seconds"] >= 0).all()


def test_building_holds_the_folder_and_clears_what_a_killed_process_left(study: Study) -> None:
    left = study.root / "images" / "ab" / ".half.webp.x.tmp"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    with study.building():
        assert not left.exists()
        with pytest.raises(StudyLocked), only_process(study.root):
            pytest.fail("two processes built one study")


def test_answers_of_every_observer_have_a_file_of_their_own(study: Study) -> None:
    names = ["lowlevel", "features:resnet50", "features:resnet50:shuffled", "features:cards/own.toml"]
    paths = {study.response_path(name) for name in names}
    assert len(paths) == len(names)
    assert {path.parent for path in paths} == {study.root / "responses"}
