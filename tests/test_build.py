"""A build from end to end: resumable everywhere, the same twice, and plain about everything that is wrong."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmark.errors import (
    ActivationError,
    DocumentError,
    NameNotFound,
    PoolTooSmall,
    StudyLocked,
    StudyMismatch,
    UnreadablePicture,
    VimiError,
    WeightsError,
)
from benchmark.experiment import Experiment
from benchmark.hashing import hash_pixels
from benchmark.model_zoo import load_model
from benchmark.plumbing import PLUMBING
from benchmark.study import STAGES, Study
from benchmark.tasks import assemble_tasks
from benchmark.units import PLANTED, UNIT_COLUMNS
from benchmark.workflow import build
from stimuli.activations import read_activations
from stimuli.materials import resolve_card
from stimuli.pictures import canonical_crop, model_view, to_pixels
from tests.conftest import paint_picture, write_pictures
from tests.experiments import FEW, small_experiment, write_experiment

SYNTHETIC = {
    "stimuli": {"conditions": ["natural", "synthetic"], "references": 2, "tasks": 2},
    "visualization": {"canvas": 32, "steps": 4, "units": 4},
}


@pytest.fixture(scope="module")
def few_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def both_conditions(few_pictures: Path, checkpoint: Path) -> Experiment:
    return small_experiment(few_pictures, checkpoint, **SYNTHETIC)


@pytest.fixture(scope="module")
def undisturbed(both_conditions: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small study in both conditions, built in one go; tests that change it must copy it."""
    return build(both_conditions, tmp_path_factory.mktemp("undisturbed") / "study")


@pytest.fixture
def own_pictures(tmp_path: Path) -> Path:
    """A folder of pictures that a test may spoil."""
    return write_pictures(tmp_path / "pictures", FEW)


def pictures_of(study: Study) -> set[str]:
    return {path.name for path in (study.root / "images").rglob("*") if path.is_file()}


def files_of(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


# -------------------------------------------------------------------- the same twice, and resumable


def test_a_build_stage_by_stage_gives_what_one_in_one_go_gives(
    both_conditions: Experiment, undisturbed: Study, tmp_path: Path
) -> None:
    for number, stage in enumerate(STAGES):
        study = build(both_conditions, tmp_path / "study", stage=stage)
        assert list(study.manifest["stages"]) == list(STAGES[: number + 1])
    assert study.hash == undisturbed.hash
    assert pictures_of(study) == pictures_of(undisturbed)


def test_building_again_changes_no_file(both_conditions: Experiment, undisturbed: Study) -> None:
    before, known = files_of(undisturbed.root), undisturbed.hash
    again = build(both_conditions, undisturbed.root)
    assert again.hash == known
    after = files_of(undisturbed.root)
    assert {path.name for path in before if after[path] != before[path]} <= {".lock"}
    assert set(after) == set(before)


def test_the_frozen_experiment_of_a_study_builds_the_same_study(undisturbed: Study, tmp_path: Path) -> None:
    again = build(undisturbed.root / "experiment.toml", tmp_path / "study")
    assert again.hash == undisturbed.hash
    assert pictures_of(again) == pictures_of(undisturbed)
    pd.testing.assert_frame_equal(again.trials(), undisturbed.trials())


def test_a_moved_pool_and_a_moved_study_are_the_same_study(
    both_conditions: Experiment, undisturbed: Study, few_pictures: Path, tmp_path: Path
) -> None:
    moved = both_conditions.pool.model_copy(
        update={"source": f"folder:{shutil.copytree(few_pictures, tmp_path / 'moved')}"}
    )
    copied = shutil.copytree(undisturbed.root, tmp_path / "copied")
    before = files_of(copied)
    study = build(both_conditions.model_copy(update={"pool": moved}), copied)
    assert study.hash == undisturbed.hash
    changed = {path.name for path, time in files_of(copied).items() if time != before[path]}
    assert changed <= {".lock", "experiment.toml"}
    assert study.experiment.pool.source == moved.source


def test_another_seed_gives_another_study(few_pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    one, other = (build(small_experiment(few_pictures, checkpoint, seed=seed), tmp_path / str(seed)) for seed in (1, 2))
    assert one.hash != other.hash
    assert one.stimuli_hash != other.stimuli_hash
    assert one.units()[["layer", "index"]].to_numpy().tolist() != other.units()[["layer", "index"]].to_numpy().tolist()


# -------------------------------------------------------------------- kills


def run_vimi(arguments: list[str]) -> None:
    """Run the command line in a process of its own."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    sys.argv = ["vimi", *arguments]
    from benchmark.command_line import main

    main()


@pytest.fixture(scope="module")
def start_vimi() -> Iterator[Callable[..., Any]]:
    """Start ``vimi`` processes that needn't import everything anew: they fork from a process that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmark.workflow", "benchmark.command_line.tables", "stimuli.building"])
    started = []

    def start(*arguments: object) -> Any:
        process = context.Process(target=run_vimi, args=([str(argument) for argument in arguments],))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()


def wait_for(process: Any, condition: Callable[[], bool], or_ends: bool = False) -> None:
    """Wait until a condition holds while a process is running, or until it ends where that is as good."""
    limit = time.monotonic() + 500
    while not condition():
        if or_ends and process.exitcode == 0:
            return
        assert process.is_alive(), f"the process ended with {process.exitcode} before it got that far"
        assert time.monotonic() < limit, "the process never got that far"
        process.join(0.001)


def test_a_build_that_is_killed_at_random_moments_ends_as_if_nothing_had_happened(
    both_conditions: Experiment, undisturbed: Study, tmp_path: Path, start_vimi: Callable[..., Any]
) -> None:
    file = write_experiment(tmp_path / "experiment.toml", both_conditions)
    out = tmp_path / "study"
    # A moment is a number of files that are there: it is reached on slow and on fast machines.
    moments = np.random.default_rng(5).choice(len(files_of(undisturbed.root)) - 4, size=3, replace=False) + 1
    killed = 0
    for moment in sorted(moments.tolist()):
        process = start_vimi("build", file, "--out", out)
        wait_for(process, lambda: sum(len(files) for _, _, files in os.walk(out)) >= moment, or_ends=True)  # noqa: B023
        process.kill()
        process.join()
        # On a loaded machine this process may look too late, and the build is over: then there was nothing to kill.
        assert process.exitcode in (-signal.SIGKILL, 0)
        killed += process.exitcode != 0
    assert killed
    study = build(file, out)
    assert study.hash == undisturbed.hash
    assert pictures_of(study) == pictures_of(undisturbed)
    pd.testing.assert_frame_equal(study.trials(), undisturbed.trials())
    assert {path.relative_to(out) for path in files_of(out)} == {
        path.relative_to(undisturbed.root) for path in files_of(undisturbed.root)
    }


def test_an_interrupted_build_says_so_and_goes_on(
    both_conditions: Experiment, undisturbed: Study, tmp_path: Path, start_vimi: Callable[..., Any]
) -> None:
    file = write_experiment(tmp_path / "experiment.toml", both_conditions)
    out = tmp_path / "study"
    process = start_vimi("build", file, "--out", out)
    wait_for(process, lambda: (out / "images").is_dir())
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    assert build(file, out).hash == undisturbed.hash


def test_a_second_build_of_the_same_folder_is_refused_and_the_first_goes_on(
    both_conditions: Experiment, undisturbed: Study, tmp_path: Path, start_vimi: Callable[..., Any]
) -> None:
    file = write_experiment(tmp_path / "experiment.toml", both_conditions)
    out = tmp_path / "study"
    process = start_vimi("build", file, "--out", out)
    wait_for(process, lambda: (out / "manifest.json").is_file())
    with pytest.raises(StudyLocked, match=f"number {process.pid}"):
        build(file, out)
    process.join()
    assert process.exitcode == 0
    assert Study.open(out).hash == undisturbed.hash


# -------------------------------------------------------------------- what a study holds


def test_both_conditions_ask_with_natural_queries_about_natural_and_synthetic_references(undisturbed: Study) -> None:
    stimuli = undisturbed.stimuli()
    own = stimuli[stimuli["model"] != PLANTED]
    assert set(own["condition"]) == {"natural", "synthetic"}
    assert set(own.loc[own["role"] == "query", "condition"]) == {"natural"}
    synthetic = own[own["condition"] == "synthetic"]
    assert (synthetic["task"] == -1).all()
    assert (synthetic.groupby([*UNIT_COLUMNS, "side"]).size() == 2).all()
    tasks = assemble_tasks(stimuli)
    assert {(c, len(part)) for c, part in tasks[tasks["model"] != PLANTED].groupby("condition")} == {
        ("natural", 2 * 6 * 2),  # model and twin, units, tasks
        ("synthetic", 4 * 2),  # only the model, and only so many units
    }


def test_every_picture_of_every_trial_is_in_the_study(undisturbed: Study) -> None:
    trials = undisturbed.trials()
    shown = {*trials["query_max"], *trials["query_min"]}
    for side in ("max", "min"):
        shown |= {picture for row in trials[f"references_{side}"] for picture in row}
    assert shown <= {name.removesuffix(".webp") for name in pictures_of(undisturbed)}
    assert set(trials["kind"]) == {"main", "catch", "practice"}
    assert set(trials["condition"]) == {"natural", "synthetic"}


def test_people_are_asked_about_models_and_never_about_twins(undisturbed: Study) -> None:
    main = undisturbed.trials().query("kind == 'main'")
    twins = [name for name, facts in undisturbed.manifest["models"].items() if facts["twin"]]
    assert len(twins) == 1
    assert not set(main["model"]) & set(twins)
    assert set(undisturbed.trials().query("kind != 'main'")["model"]) == {PLANTED}


def test_a_twin_has_the_units_of_its_model(tiny_study: Study) -> None:
    names = tiny_study.manifest["models"]
    twin = next(name for name, facts in names.items() if facts["twin"])
    model = twin.removesuffix("-twin")
    assert names[twin]["weights_hash"] != names[model]["weights_hash"]
    statistics = tiny_study.statistics()
    used = {
        name: part.loc[part["used"], ["layer", "index"]].to_numpy().tolist()
        for name, part in statistics.groupby("model")
    }
    assert used[twin] == used[model]
    assert len(used[model]) == 8
    drawn = tiny_study.units().set_index("model")[["layer", "index", "depth"]]
    assert drawn.loc[twin].to_numpy().tolist() == drawn.loc[model].to_numpy().tolist()


def test_a_model_with_weights_from_a_file_carries_their_hash_in_its_name(tiny_study: Study, checkpoint: Path) -> None:
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]
    assert f"test_resnet.r160_in1k@{digest}" in tiny_study.manifest["models"]
    assert f"test_resnet.r160_in1k@{digest}" in set(tiny_study.trials()["model"])


def test_natural_exemplars_are_the_ends_of_every_units_ranking(undisturbed: Study) -> None:
    stimuli = undisturbed.stimuli().query("condition == 'natural' and model != 'planted'")
    windows = undisturbed.protocol.windows(FEW)
    places = {picture: place for place, picture in enumerate(undisturbed.pool()["picture"])}
    for model, own in stimuli.groupby("model"):
        measured = read_activations(undisturbed.activations(str(model)))
        for unit in measured.units:
            column = measured.column(unit)
            mine = own[(own["layer"] == unit.layer) & (own["index"] == unit.index)]
            if not len(mine):
                continue
            order = np.argsort(column, kind="stable")
            assert len(set(column.tolist())) == FEW, "without ties any sort agrees"
            for side, ranked in (("max", order[::-1]), ("min", order)):
                for role, window in (("reference", windows.references), ("query", windows.queries["easy"])):
                    chosen = mine[(mine["side"] == side) & (mine["role"] == role)]
                    expected = {int(place) for place in ranked[window.start : window.stop]}
                    assert {places[picture] for picture in chosen["picture"]} <= expected
                    assert len(chosen) == (4 if role == "reference" else 2)
                    for row in chosen.itertuples():
                        assert column[places[row.picture]] == np.float32(row.activation)
                        assert ranked[row.rank] == places[row.picture]


def test_a_pool_of_few_sources_makes_the_study_a_plumbing_check(tiny_study: Study) -> None:
    repeated = tiny_study.manifest["stages"]["exemplars"]["share_of_pictures_repeating_a_group"]
    natural = tiny_study.stimuli().query("condition == 'natural' and model != 'planted'")
    assert repeated == pytest.approx(natural["group_repeated"].mean(), abs=1e-6)
    assert tiny_study.is_plumbing_check == (repeated > 0.01)


def test_constant_units_get_no_tasks_and_the_next_drawn_take_their_place(
    few_pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    state = load_file(checkpoint)
    weight = state["layer1.0.conv1.weight"]
    weight[:8] = 0.0
    weight[8:16] *= 1e-6
    save_file(state, tmp_path / "spoilt.safetensors")
    (tmp_path / "card.toml").write_text(
        'name = "one-layer"\ntitle = "One layer"\ntimm = "test_resnet"\nfamily = "resnet"\n'
        'layers = ["layer1.0.conv1"]\nweights = { source = "timm" }\n'
        'training = { data = ["stripes"], images = 60 }\n'
        "input = { size = 64, crop_ratio = 0.95, interpolation = 'bilinear', mean = [0.5, 0.5, 0.5], "
        "std = [0.5, 0.5, 0.5] }\n"
    )
    models = [{"card": str(tmp_path / "card.toml"), "weights": str(tmp_path / "spoilt.safetensors")}]
    experiment = small_experiment(few_pictures, checkpoint, models=models, units={"per_model": 26})
    study = build(experiment, tmp_path / "study")
    statistics = study.statistics()
    flags = dict(zip(statistics["index"], statistics["flag"]))
    assert {index for index, flag in flags.items() if flag == "constant"} == set(range(8)) & set(flags)
    assert {index for index, flag in flags.items() if flag == "dead"} == set(range(8, 16)) & set(flags)
    assert len(flags) == 31  # 26 x 100 / 84, rounded up
    used = set(statistics.loc[statistics["used"], "index"])
    assert used == {index for index, flag in flags.items() if flag != "constant"}
    stimuli = study.stimuli().query("model != 'planted'")
    assert set(stimuli["index"]) == used
    assert set(study.trials().query("kind == 'main'")["index"]) <= used
    facts = study.manifest["stages"]["exemplars"]
    name = stimuli["model"].iloc[0]
    assert facts["flags"][name]["constant"] == len(set(range(8)) & set(flags))
    assert facts["used"][name] == len(used)


def test_a_model_whose_units_are_nearly_all_constant_is_refused_in_words(
    few_pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    state = load_file(checkpoint)
    for name, value in state.items():
        if value.dim() == 4:
            value.zero_()
        elif name.endswith("bias"):
            value.fill_(0.5)
    save_file(state, tmp_path / "silenced.safetensors")
    with pytest.raises(ActivationError, match=r"All 8 units drawn from test_resnet.* are constant"):
        build(small_experiment(few_pictures, tmp_path / "silenced.safetensors"), tmp_path / "study")


def test_the_protocol_of_2023_takes_exact_ranks_and_one_model_a_session(
    few_pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    models = [
        {"card": "timm:test_resnet", "weights": "random"},
        {"card": "timm:test_convnext", "weights": "random"},
    ]
    study = build(small_experiment(few_pictures, checkpoint, protocol="imi2023", models=models), tmp_path / "study")
    assert study.manifest["protocol"].startswith("imi2023+")
    stimuli = study.stimuli().query("model != 'planted'")
    for _, own in stimuli.groupby([*UNIT_COLUMNS, "side"]):
        references, queries = own[own["role"] == "reference"], own[own["role"] == "query"]
        assert sorted(references["rank"]) == list(range(4))
        assert sorted(queries["rank"]) == [4, 5]
        for position in range(2):  # a stratum of two ranks for each position
            assert set(references.loc[references["position"] == position, "rank"]) == set(
                range(2 * position, 2 * position + 2)
            )
    main = study.trials().query("kind == 'main'")
    assert (main.groupby("session")["model"].nunique() == 1).all()
    assert main["model"].nunique() == 2
    assert set(main["references"]) == {"both"}
    assert not stimuli["group_repeated"].any()


def test_sessions_of_the_default_protocol_mix_models(tiny_study: Study) -> None:
    main = tiny_study.trials().query("kind == 'main' and condition == 'natural'")
    assert (main.groupby("session")["model"].nunique() == 2).mean() > 0.5
    assert set(main["references"]) == {"both", "none"}


def test_difficulties_take_their_queries_from_their_quantiles(
    labelled_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    stimuli = {"conditions": ["natural"], "difficulties": ["easy", "very_hard", "hard"], "references": 2, "tasks": 1}
    pool = {"source": f"imagenet:{labelled_folder}", "crop": 32}
    study = build(small_experiment(labelled_folder, checkpoint, stimuli=stimuli, pool=pool), tmp_path / "study")
    rows = study.stimuli().query("model != 'planted' and role == 'query'")
    assert rows.groupby("difficulty")["rank"].unique().map(list).to_dict() == {
        "easy": [2],
        "hard": [3],  # .05 x 60
        "very_hard": [9],  # .15 x 60
    }
    assert set(study.trials().query("kind == 'main'")["difficulty"]) == {"easy", "hard", "very_hard"}
    assert study.stimuli().query("model != 'planted'")["label"].notna().all()
    assert study.trials().query("kind == 'main'")["label_overlap"].notna().all()


def test_with_the_view_of_the_model_each_model_sees_the_original_through_its_own_transform(
    few_pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    pool = {"source": f"folder:{few_pictures}", "crop": 32, "view": "model"}
    study = build(small_experiment(few_pictures, checkpoint, pool=pool), tmp_path / "study", stage="activations")
    name = next(iter(study.manifest["models"]))
    measured = read_activations(study.activations(name))
    entry = study.experiment.models[0]
    model = load_model(resolve_card(entry), weights=str(checkpoint), seed=study.experiment.seed)
    unit = next(unit for unit in measured.units if ".conv" in unit.layer)
    seen: list[torch.Tensor] = []
    model.module.get_submodule(unit.layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    source = study.pool()["source"].iloc[4]
    image = model_view(Image.open(few_pictures / source).convert("RGB"), model.card.input)
    pixels = torch.from_numpy(to_pixels(image).transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        model.module(model.prepare(pixels))
    expected = float(seen[0][0, unit.index].mean())
    assert measured.column(unit)[4] == pytest.approx(expected, rel=1e-4, abs=1e-5)


# -------------------------------------------------------------------- pools


def test_names_of_files_may_be_in_any_script(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Bilder & 図 #1"
    write_pictures(folder, FEW)
    names = ["Ürsprung ß.png", "漢字 (1).png", "🙂.png", "a'b\"c%20.png"]
    for old, new in zip(sorted(folder.iterdir()), names):
        old.rename(folder / new)
    out = tmp_path / "étude 研究"
    study = build(small_experiment(folder, checkpoint), out)
    assert set(names) <= set(study.pool()["source"])
    assert build(small_experiment(folder, checkpoint), out).hash == study.hash


def test_pictures_of_every_mode_become_the_crop_that_they_show(checkpoint: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", FEW - 7)
    picture = Image.fromarray(paint_picture(900))
    others = [Image.fromarray(paint_picture(901 + number)) for number in range(6)]
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side: turn by 90 degrees to show it
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=turned)
    others[0].convert("L").save(folder / "grey.png")
    others[1].convert("CMYK").save(folder / "print.tif")
    others[2].convert("P").save(folder / "palette.gif")
    deep = np.asarray(others[3].convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    clear = others[4].convert("RGBA")
    clear.putalpha(0)
    clear.save(folder / "clear.png")
    others[5].convert("1").save(folder / "bits.png")
    study = build(small_experiment(folder, checkpoint), tmp_path / "study", stage="units")
    table = study.pool().set_index("source")
    expected = {
        "turned.png": picture,
        "grey.png": others[0].convert("L").convert("RGB"),
        "print.tif": others[1].convert("CMYK").convert("RGB"),
        "palette.gif": others[2].convert("P").convert("RGB"),
        "deep.png": others[3].convert("L").convert("RGB"),
        "clear.png": Image.new("RGB", others[4].size, (128, 128, 128)),
        "bits.png": others[5].convert("1").convert("RGB"),
    }
    for name, image in expected.items():
        assert table.at[name, "picture"] == hash_pixels(to_pixels(canonical_crop(image, 32))), name
        assert (table.at[name, "width"], table.at[name, "height"]) == image.size


def test_a_pool_in_shards_is_read_with_its_labels(checkpoint: Path, tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"shard-00{shard}.tar", "w") as tar:
            for number in range(shard * FEW // 2, (shard + 1) * FEW // 2):
                buffer = io.BytesIO()
                Image.fromarray(paint_picture(number)).save(buffer, "PNG")
                for name, data in (
                    (f"{number:04d}.png", buffer.getvalue()),
                    (f"{number:04d}.cls", b"%d" % (number % 3)),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    pool = {"source": f"webdataset:{tmp_path}/shard-{{000..001}}.tar", "crop": 32}
    study = build(small_experiment(tmp_path, checkpoint, pool=pool), tmp_path / "study")
    table = study.pool()
    assert len(table) == FEW
    assert table["label"].tolist() == [str(number % 3) for number in range(FEW)]
    crop = canonical_crop(Image.fromarray(paint_picture(4)), 32)
    assert table["picture"][4] == hash_pixels(to_pixels(crop))
    assert study.trials().query("kind == 'main'")["label_overlap"].notna().all()


def test_an_unreadable_file_is_named_and_nothing_is_lost(own_pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    broken = own_pictures / "0007.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    experiment = small_experiment(own_pictures, checkpoint)
    with pytest.raises(UnreadablePicture, match=r"0007\.png") as caught:
        build(experiment, tmp_path / "study")
    assert "--skip-unreadable" in str(caught.value)
    broken.write_bytes(whole)
    assert build(experiment, tmp_path / "study").manifest["pool"]["size"] == FEW


def test_unreadable_files_are_skipped_when_asked_for_and_counted(
    own_pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (own_pictures / "0003.png").write_bytes((own_pictures / "0003.png").read_bytes()[:200])
    (own_pictures / "notes.txt").write_text("no picture")
    experiment = small_experiment(own_pictures, checkpoint)
    study = build(experiment, tmp_path / "study", skip_unreadable=True)
    facts = study.manifest["pool"]
    assert facts["unreadable_skipped"] == 1
    assert set(facts["unreadable"]) == {"0003.png"}
    assert "notes.txt" in str(facts["left_out"])
    assert facts["size"] == FEW - 1
    assert build(experiment, tmp_path / "study", skip_unreadable=True).hash == study.hash


def test_exact_copies_are_left_out_and_counted(own_pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(own_pictures / "0000.png", own_pictures / "copy.png")
    study = build(small_experiment(own_pictures, checkpoint), tmp_path / "study", stage="units")
    assert study.manifest["pool"]["exact_copies_left_out"] == 1
    assert study.manifest["pool"]["size"] == FEW
    assert study.pool()["picture"].is_unique


def test_a_pool_that_is_too_small_is_refused_with_the_smallest_that_would_do(
    own_pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    stimuli = {"conditions": ["natural"], "references": 3, "tasks": 3}
    experiment = small_experiment(own_pictures, checkpoint, stimuli=stimuli)
    with pytest.raises(PoolTooSmall, match="24 pictures"):  # 2 x 3 x (3 + 1)
        build(experiment, tmp_path / "study")
    for number in range(FEW, 24):
        Image.fromarray(paint_picture(number)).save(own_pictures / f"{number:04d}.png")
    assert build(experiment, tmp_path / "study", stage="exemplars").manifest["pool"]["size"] == 24


@pytest.mark.parametrize("change", ["removed", "added", "renamed"])
def test_a_pool_that_has_lost_or_won_a_picture_since_is_refused(
    undisturbed: Study, both_conditions: Experiment, own_pictures: Path, tmp_path: Path, change: str
) -> None:
    copied = shutil.copytree(undisturbed.root, tmp_path / "study")
    pool = both_conditions.pool.model_copy(update={"source": f"folder:{own_pictures}"})
    if change == "added":
        Image.fromarray(paint_picture(FEW)).save(own_pictures / "new.png")
    elif change == "removed":
        (own_pictures / "0004.png").unlink()
    else:
        (own_pictures / "0004.png").rename(own_pictures / "0004b.png")
    with pytest.raises(VimiError, match="has changed since"):
        build(both_conditions.model_copy(update={"pool": pool}), copied)


@pytest.mark.parametrize(
    ("stage", "view"),
    [("units", "canonical"), ("units", "model"), ("activations", "canonical"), ("exemplars", "canonical")],
)
def test_a_picture_that_was_replaced_since_the_survey_is_named(
    own_pictures: Path, checkpoint: Path, tmp_path: Path, stage: str, view: str
) -> None:
    pool = {"source": f"folder:{own_pictures}", "crop": 32, "view": view}
    experiment = small_experiment(own_pictures, checkpoint, **SYNTHETIC | {"pool": pool})
    study = build(experiment, tmp_path / "study", stage=stage)
    source = "0004.png"
    if stage != "units":
        # The strongest picture of a unit is an exemplar, and what the unit's synthetic pictures must beat.
        measured = read_activations(study.activations(next(iter(study.manifest["models"]))))
        source = study.pool()["source"][int(measured.columns[0].argmax())]
    Image.fromarray(paint_picture(500)).save(own_pictures / source)
    with pytest.raises(StudyMismatch, match=f"{source} has changed since the pool was surveyed"):
        build(experiment, tmp_path / "study", stage=STAGES[STAGES.index(stage) + 1])


# -------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "imi2023"}, "protocol was 'vimi1', is 'imi2023'"),
        ({"seed": 4}, "seed was 3, is 4"),
        ({"units": {"per_model": 5}}, "units.per_model was 6, is 5"),
    ],
)
def test_a_study_of_another_experiment_is_refused_with_the_difference_and_kept(
    undisturbed: Study, few_pictures: Path, checkpoint: Path, changes: dict[str, Any], words: str
) -> None:
    known = undisturbed.hash
    with pytest.raises(StudyMismatch) as caught:
        build(small_experiment(few_pictures, checkpoint, **SYNTHETIC | changes), undisturbed.root)
    assert words in str(caught.value)
    assert undisturbed.hash == known


def test_other_weights_under_the_same_file_name_make_no_mixed_study(
    both_conditions: Experiment, undisturbed: Study, checkpoint: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(undisturbed.root, tmp_path / "study")
    state = {name: value + 0.01 if value.dim() == 4 else value for name, value in load_file(checkpoint).items()}
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / checkpoint.name
    save_file(state, other)
    entry = both_conditions.models[0].model_copy(update={"weights": str(other)})
    study = build(both_conditions.model_copy(update={"models": (entry,)}), copied)
    fresh = build(both_conditions.model_copy(update={"models": (entry,)}), tmp_path / "fresh")
    assert study.manifest["stages"] == fresh.manifest["stages"]
    assert study.hash != undisturbed.hash
    assert set(study.stimuli()["model"]) == set(fresh.stimuli()["model"])


def test_an_unknown_stage_is_refused_with_the_near_one(both_conditions: Experiment, tmp_path: Path) -> None:
    with pytest.raises(NameNotFound, match="Did you mean 'exemplars'"):
        build(both_conditions, tmp_path / "study", stage="exemplar")
    assert not (tmp_path / "study").exists()


def test_too_few_units_for_a_session_are_refused_before_anything_is_built(
    few_pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    experiment = small_experiment(few_pictures, checkpoint, session={"main_trials": 7, "responses_per_unit": 4})
    with pytest.raises(DocumentError, match="main_trials to at most 6"):
        build(experiment, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_model_may_be_named_only_once(few_pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    models = [
        {"card": "timm:test_vit", "weights": "random"},
        {"card": "test_vit.r160_in1k", "weights": "random"},
    ]
    with pytest.raises(VimiError, match=r"test_vit\.r160_in1k@random.*once"):
        build(small_experiment(few_pictures, checkpoint, models=models), tmp_path / "study")


def test_weights_without_known_training_data_ask_for_it(few_pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(
        'name = "unknown"\ntitle = "Unknown"\ntimm = "test_resnet"\nfamily = "resnet"\nweights = { source = "timm" }\n'
        "input = { size = 64, crop_ratio = 0.95, interpolation = 'bilinear', mean = [0.5, 0.5, 0.5], "
        "std = [0.5, 0.5, 0.5] }\n"
    )
    models = [{"card": str(tmp_path / "card.toml"), "weights": str(checkpoint)}]
    with pytest.raises(VimiError, match="training_data"):
        build(small_experiment(few_pictures, checkpoint, models=models), tmp_path / "study")


def test_pools_of_few_photographs_are_marked_from_the_start(checkpoint: Path, tmp_path: Path) -> None:
    experiment = small_experiment(tmp_path, checkpoint, pool={"source": "bundled", "crop": 32})
    study = build(experiment, tmp_path / "study", stage="units")
    assert PLUMBING in study.manifest["notes"]
    assert study.manifest["pool"]["groups"] == 20


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"card": "timm:test_resnat"}, NameNotFound),
        (
            {"card": "timm:test_resnet", "weights": "nowhere.pt", "training_data": ["x"], "training_images": 3},
            WeightsError,
        ),
        ({"card": "timm:test_resnet"}, VimiError),  # its own weights, which nobody has fetched
    ],
)
def test_what_is_cheap_to_fail_fails_before_the_pool_is_surveyed(
    few_pictures: Path, checkpoint: Path, tmp_path: Path, entry: dict[str, object], error: type[VimiError]
) -> None:
    good = {"card": "timm:test_vit", "weights": "random"}
    with pytest.raises(error):
        build(small_experiment(few_pictures, checkpoint, models=[good, entry]), tmp_path / "study")
    assert not (tmp_path / "study" / "survey").exists()
