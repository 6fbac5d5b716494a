"""The command line: every verb, and one plain message with its exit code for whatever a user gets wrong."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import torch

from benchmark import __version__, storage, workflow
from benchmark.command_line import main
from benchmark.command_line.tables import print_study
from benchmark.model_card import card_names
from benchmark.model_sources import load_card
from benchmark.model_zoo import build_untrained
from benchmark.responses import read_responses
from benchmark.study import Study
from tests.conftest import write_pictures
from tests.experiments import FEW, small_experiment, write_experiment


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def vimi(*arguments: object) -> Outcome:
    """Run a command in this process."""
    out, err = StringIO(), StringIO()
    before, code = sys.argv, 0
    sys.argv = ["vimi", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
    return Outcome(code, out.getvalue(), err.getvalue())


def refused(outcome: Outcome, *words: str, code: int = 2) -> None:
    """Check that a command ended in one plain message that has these words."""
    assert outcome.code == code
    assert outcome.err.count("Error: ") == 1
    message = outcome.err[outcome.err.index("Error: ") :]
    for word in words:
        assert word in message
    assert "Traceback" not in outcome.err
    assert "Traceback" not in outcome.out


@dataclass(frozen=True)
class Place:
    """A folder with an experiment file, and the study that the command line built from it."""

    root: Path
    experiment: Path
    study: Path
    built: Outcome


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Place:
    root = tmp_path_factory.mktemp("place")
    pictures = write_pictures(root / "pictures", FEW)
    experiment = write_experiment(root / "experiment.toml", small_experiment(pictures, checkpoint))
    return Place(root, experiment, root / "study", vimi("build", experiment, "--out", root / "study"))


@pytest.fixture
def edited(place: Place, tmp_path: Path) -> Callable[[str, str], Path]:
    """Write the experiment with some text replaced."""

    def edit(old: str, new: str) -> Path:
        text = place.experiment.read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "edited.toml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    return edit


# -------------------------------------------------------------------- help


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ([], ["build", "observe", "gallery", "demo", "doctor", "models"]),
        (["demo"], ["--out", "--device"]),
        (["build"], ["--stage", "--skip-unreadable", "--twin", "--dry-run", "--out"]),
        (["observe"], ["--observer", "--references", "--shuffle-references"]),
        (["gallery"], ["STUDY"]),
        (["doctor"], ["installation"]),
        (["models"], ["show", "convert"]),
        (["models", "show"], ["--layers", "--weights"]),
        (["models", "convert"], ["CHECKPOINT", "OUT"]),
    ],
)
def test_every_verb_explains_itself(verb: list[str], words: list[str]) -> None:
    outcome = vimi(*verb, "--help")
    assert outcome.code == 0
    for word in words:
        assert word.lower() in outcome.out.lower()
    assert outcome.out.startswith("Usage: vimi")


def test_the_version_is_said_without_loading_anything_heavy() -> None:
    program = (
        "import sys\nsys.argv = ['vimi', '--version']\nfrom benchmark.command_line import main\n"
        "try:\n    main()\nfinally:\n    print(sorted({'torch', 'pandas', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"vimi {__version__}", "[]"]


@pytest.mark.parametrize("arguments", [["biuld"], ["build"], ["observe"], ["build", "a.toml", "--no-such-option"]])
def test_a_command_that_is_none_ends_with_2_and_how_to_write_it(arguments: list[str]) -> None:
    outcome = vimi(*arguments)
    assert outcome.code == 2
    assert "Usage: vimi" in outcome.err
    assert "Traceback" not in outcome.err


def test_the_installed_command_ends_with_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmark.command_line", "build", str(tmp_path / "missing.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 2
    assert done.stderr.strip() == f"Error: There is no file {tmp_path / 'missing.toml'}."
    assert done.stdout == ""


# -------------------------------------------------------------------- what is refused


def test_a_missing_experiment_file_is_named(tmp_path: Path) -> None:
    refused(vimi("build", tmp_path / "missing.toml"), f"There is no file {tmp_path / 'missing.toml'}")
    refused(vimi("build", tmp_path), "is a folder")


def test_a_broken_experiment_file_is_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("seed = 3\nprotocol = \n")
    refused(vimi("build", tmp_path / "broken.toml"), "broken.toml", "not valid TOML", "line 2")


def test_an_unknown_key_is_refused_with_the_near_one(edited: Callable[[str, str], Path]) -> None:
    refused(vimi("build", edited("per_model", "per_modle")), "per_modle", "Did you mean 'per_model'?", "edited.toml")


def test_a_wrong_value_is_refused_with_its_place(edited: Callable[[str, str], Path]) -> None:
    refused(vimi("build", edited("per_model = 6", 'per_model = "six"')), "[units] per_model", "'six'")


def test_an_unknown_model_is_refused_with_the_near_one(edited: Callable[[str, str], Path], tmp_path: Path) -> None:
    out = tmp_path / "study"
    refused(vimi("build", edited("timm:test_resnet", "timm:test_resnat"), "--out", out), "test_resnat", "'test_resnet'")
    refused(vimi("models", "show", "efficientnet_lite9"), "efficientnet_lite9", "Did you mean 'efficientnet_lite")
    refused(vimi("models", "show", "test_vit"), "timm:test_vit")


def test_an_unknown_layer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(
        'name = "tiny"\ntitle = "Tiny"\ntimm = "test_resnet"\nfamily = "resnet"\nweights = { source = "timm" }\n'
        'layers = ["layer1.0.conv7"]\n'
        "input = { size = 64, crop_ratio = 0.95, interpolation = 'bilinear', mean = [0.5, 0.5, 0.5], "
        "std = [0.5, 0.5, 0.5] }\n"
    )
    refused(vimi("models", "show", tmp_path / "card.toml"), "layer1.0.conv7", "layer1.0.conv")


def test_an_unknown_observer_is_refused_with_the_known_ones(place: Place) -> None:
    refused(vimi("observe", place.study, "--observer", "lowlevl"), "lowlevl", "Did you mean 'lowlevel'?")
    refused(vimi("observe", place.study, "--observer", "features:efficientnet_lite9"), "'efficientnet_lite")
    refused(vimi("observe", place.study, "--observer", "features"), "features:CARD")
    refused(vimi("observe", place.study, "--observer", "oracle:more"), "takes no argument after a colon")


def test_an_unknown_kind_of_references_is_refused_with_the_known_ones(place: Place) -> None:
    refused(vimi("observe", place.study, "--observer", "random", "--references", "both,maximal"), "'maximal'", "'max'")


def test_an_unknown_stage_and_an_unknown_device_are_refused(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "study"
    refused(vimi("build", place.experiment, "--out", out, "--stage", "trails"), "Did you mean 'trials'?")
    refused(vimi("build", place.experiment, "--out", out, "--device", "gpu"), "'gpu'", "cuda")


def test_a_folder_that_is_no_study_is_refused_with_how_to_build_one(place: Place, tmp_path: Path) -> None:
    for arguments in (["observe", tmp_path, "--observer", "random"], ["gallery", tmp_path]):
        refused(vimi(*arguments), f"{tmp_path} is not a study", "vimi build")
    (tmp_path / "photographs").mkdir()
    refused(vimi("build", place.experiment, "--out", tmp_path), "is neither empty nor a study", "photographs")


def test_a_file_in_place_of_the_study_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    refused(vimi("build", place.experiment, "--out", tmp_path / "file"), "is a file")
    assert (tmp_path / "file").read_text() == "content"


def test_too_few_units_for_a_session_are_refused_before_anything_is_built(
    edited: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file = edited("main_trials = 4", "main_trials = 40")
    refused(vimi("build", file, "--out", tmp_path / "study"), "40 main trials", "[session] main_trials to at most 6")
    refused(vimi("build", file, "--dry-run"), "[session] main_trials to at most 6")
    assert not (tmp_path / "study").exists()


def test_a_missing_and_an_empty_pool_are_refused_by_name(edited: Callable[[str, str], Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pictures = re.search(r'source = "folder:(.*)"', edited("seed", "seed").read_text())
    assert pictures is not None
    for folder, words in ((tmp_path / "missing", "does not exist"), (tmp_path / "empty", "is empty")):
        file = edited(pictures.group(1), str(folder))
        refused(vimi("build", file, "--out", tmp_path / f"study of {folder.name}"), str(folder), words)
        refused(vimi("build", file, "--dry-run"), str(folder), words)


def test_stages_that_are_missing_are_refused_with_the_command_that_makes_them(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert vimi("build", place.experiment, "--out", out, "--stage", "units").code == 0
    for arguments in (["observe", out, "--observer", "random"], ["gallery", out]):
        refused(vimi(*arguments), f"vimi build {out / 'experiment.toml'} --out {out} --stage exemplars")


def test_a_full_disk_ends_with_1_and_what_to_do(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    monkeypatch.setattr(storage.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))
    outcome = vimi("build", place.experiment, "--out", out, "--stage", "units")
    refused(outcome, "The disk is full", str(out), "Free some space and run the same command again", code=1)
    monkeypatch.undo()
    assert vimi("build", place.experiment, "--out", out, "--stage", "units").code == 0


def test_an_interrupted_command_ends_with_130_and_says_how_to_go_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "build", interrupted)
    outcome = vimi("build", place.experiment, "--out", tmp_path / "study")
    assert outcome.code == 130
    assert "run the same command again" in outcome.err
    assert "Traceback" not in outcome.err


# -------------------------------------------------------------------- models


def test_models_lists_every_card() -> None:
    outcome = vimi("models")
    assert outcome.code == 0
    assert len(card_names()) == 12
    for name in card_names():
        assert re.search(rf"^{name} ", outcome.out, re.MULTILINE), name
    assert re.search(r"^efficientnet_lite0 .* yes *$", outcome.out, re.MULTILINE)


def test_a_bundled_model_is_shown_with_its_layers_units_training_and_weights() -> None:
    outcome = vimi("models", "show", "efficientnet_lite0", "--layers")
    assert outcome.code == 0
    for word in ("4,652,008", "imagenet-1k: 1,281,167", "on this machine", "blocks.2.0.conv_pw", "canonical", "224 px"):
        assert word in outcome.out
    counted = re.search(r"(\d+) layers, ([\d,]+) units", outcome.out)
    assert counted is not None
    rows = re.findall(r"^(blocks\.\S+) +.*? +(\d+) +([\d,]+) +[\d,]+ *$", outcome.out, re.MULTILINE)
    assert sum(int(count) for _, count, _ in rows) == int(counted.group(1))
    assert sum(int(units.replace(",", "")) for _, _, units in rows) == int(counted.group(2).replace(",", ""))


def test_a_model_of_timm_without_a_card_is_shown_with_random_weights_where_its_own_are_missing() -> None:
    outcome = vimi("models", "show", "timm:test_vit")
    assert outcome.code == 0
    for word in ("371,240", "not on this machine", "blocks.#.mlp.fc1", "4,608 units", "160 px"):
        assert word in outcome.out


def test_a_checkpoint_that_holds_more_than_weights_is_refused_with_the_command_that_converts_it(
    tmp_path: Path,
) -> None:
    state = build_untrained(load_card("timm:test_resnet"), 3).state_dict()
    unsafe, safe = tmp_path / "training.pt", tmp_path / "training.safetensors"
    torch.save({"state_dict": state, "arguments": argparse.Namespace(rate=0.1)}, unsafe)
    refused(
        vimi("models", "show", "timm:test_resnet", "--weights", unsafe),
        "argparse.Namespace",
        f"vimi models convert {unsafe} {safe}",
    )
    converted = vimi("models", "convert", unsafe, safe)
    assert converted.code == 0
    assert f"{len(state)} tensors" in converted.out
    assert vimi("models", "show", "timm:test_resnet", "--weights", safe).code == 0


def test_what_can_not_be_converted_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file.pt").write_text("no checkpoint")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    for name in ("missing.pt", "file.pt", "none.pt"):
        refused(vimi("models", "convert", tmp_path / name, tmp_path / "out.safetensors"), name)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    (tmp_path / "file").write_text("")
    outcome = vimi("models", "convert", tmp_path / "weights.pt", tmp_path / "file" / "out.safetensors")
    refused(outcome, "out.safetensors", "can't be written", code=1)
    assert not (tmp_path / "out.safetensors").exists()


# -------------------------------------------------------------------- build


def test_a_build_says_what_it_made_and_what_to_do_next(place: Place) -> None:
    study = Study.open(place.study)
    assert place.built.code == 0
    for word in (str(place.study), study.hash, f"{FEW} pictures", "vimi observe", "vimi gallery"):
        assert word in place.built.out
    for name in study.manifest["models"]:
        assert name in place.built.out


def test_commands_are_printed_whole_on_lines_of_their_own_and_quoted(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = tmp_path.joinpath("a folder", *["whose name is very long"] * 5, "study")
    out.parent.mkdir(parents=True)
    built = vimi("build", place.experiment, "--out", out, "--stage", "units")
    assert f"  vimi build '{out}/experiment.toml' --out '{out}'" in built.out.splitlines(), built.out
    assert f"Study {out}" in built.out.splitlines()
    shutil.copytree(place.study, out, dirs_exist_ok=True)
    with redirect_stdout(StringIO()) as printed:
        print_study(Study.open(out))
    assert printed.getvalue().splitlines()[-3:] == [
        "Next:",
        f"  vimi observe '{out}' --observer lowlevel --observer features:efficientnet_lite0",
        f"  vimi gallery '{out}'",
    ]
    for line in built.out.splitlines() + printed.getvalue().splitlines():
        command = re.match(r"  vimi .*", line)
        assert command is None or len(shlex.split(line)) >= 3
    empty = tmp_path / "no study"
    empty.mkdir()
    refused(vimi("gallery", empty), f"vimi build EXPERIMENT.toml --out '{empty}'")


def test_brackets_in_a_folders_name_are_printed_as_they_are(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "study [bold] [/b] étude"
    outcome = vimi("build", place.experiment, "--out", out, "--stage", "units")
    assert outcome.code == 0
    assert out.name in " ".join(outcome.out.split())


def test_progress_goes_to_the_error_stream_only(place: Place) -> None:
    for title in ("Surveying the pool", "Activations of", "Storing pictures"):
        assert title in place.built.err
        assert title not in place.built.out


def test_a_dry_run_says_time_bytes_answers_and_money_and_builds_nothing(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = vimi("build", place.experiment, "--dry-run")
    assert outcome.code == 0
    assert list(tmp_path.iterdir()) == []
    assert re.search(r"in all +\d+(\.\d+)? (s|min) +[\d.]+ [kM]?B", outcome.out)
    spelled = " ".join(outcome.out.split())
    trials = Study.open(place.study).trials()
    sessions, answers = trials["session"].nunique(), int((trials["kind"] != "practice").sum())
    assert f"{sessions} sessions, {answers} answers, USD {sessions * 2.79:.0f}" in spelled
    assert "Nothing was built" in spelled
    for word in ("units", "activations", "exemplars", "test_resnet.r160_in1k@", "-twin", "time", "disk"):
        assert word in outcome.out


def test_twins_of_every_model_can_be_asked_for_on_the_command_line(
    place: Place, edited: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file = edited("twin = true", "twin = false")
    outcome = vimi("build", file, "--out", tmp_path / "study", "--twin")
    assert outcome.code == 0
    study = Study.open(tmp_path / "study")
    assert [facts["twin"] for facts in study.manifest["models"].values()] == [False, True]
    assert study.hash == Study.open(place.study).hash
    refused(vimi("build", file, "--out", tmp_path / "study"), "models[0].twin was True, is False")


# -------------------------------------------------------------------- observe and gallery


def test_several_observers_answer_with_several_kinds_of_references(place: Place, tmp_path: Path) -> None:
    folder = shutil.copytree(place.study, tmp_path / "study")
    outcome = vimi(
        "observe", folder, "--observer", "oracle", "--observer", "lowlevel", "--observer", "random",
        "--references", "both, none",
    )  # fmt: skip
    assert outcome.code == 0
    responses = read_responses(Study.open(folder))
    assert set(responses["observer"]) == {"oracle", "lowlevel", "random"}
    counts = responses.groupby(["observer", "references"]).size()
    assert set(counts.index) == {(o, r) for o in ("oracle", "lowlevel", "random") for r in ("both", "none")}
    assert counts.nunique() == 1
    main_trials = responses[(responses["kind"] == "main") & (responses["observer"] == "oracle")]
    assert main_trials.query("references == 'both'")["correct"].all()
    assert "oracle" in outcome.out
    assert (folder / "results" / "machine_scores.csv").is_file()


def test_shuffled_references_are_answers_of_their_own(place: Place, tmp_path: Path) -> None:
    folder = shutil.copytree(place.study, tmp_path / "study")
    assert vimi("observe", folder, "--observer", "oracle").code == 0
    assert vimi("observe", folder, "--observer", "oracle", "--shuffle-references").code == 0
    responses = read_responses(Study.open(folder))
    assert set(responses["observer"]) == {"oracle", "oracle:shuffled"}


def test_the_gallery_is_written_and_its_page_named(place: Place, tmp_path: Path) -> None:
    folder = shutil.copytree(place.study, tmp_path / "study")
    outcome = vimi("gallery", folder)
    assert outcome.code == 0
    assert outcome.out.strip() == str(folder / "gallery" / "index.html")
    assert (folder / "gallery" / "index.html").is_file()


def test_the_doctor_finds_nothing_wrong_here() -> None:
    outcome = vimi("doctor")
    assert outcome.code == 0
    assert "Everything is in place" in outcome.out
