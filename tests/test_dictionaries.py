"""Fitting bases to a layer: bounded, repeatable, killed and resumed, and measured on pictures that were held out."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.bases import BasisName, parse_basis, read_basis
from benchmark.bases.learning import LearningSettings
from benchmark.errors import BasisError, NonFiniteActivation, StudyMismatch
from benchmark.model_zoo import Model
from stimuli.dictionaries import positions as reading
from stimuli.dictionaries.fitting import FittingPlan, FittingSettings, basis_path, fit_bases
from stimuli.dictionaries.positions import Pictures, PositionPlan, Positions, read_positions, split_pictures
from stimuli.pool_sources import open_pool
from stimuli.survey import survey_pool
from tests.test_command_line import refused, vimi

LAYER = "layer3.0.add"
LEARNING = LearningSettings(epochs=3, batch_size=64)


@pytest.fixture(scope="module")
def pictures(labelled_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pictures, list[str]]:
    """Sixty pictures with their groups."""
    pool = open_pool(f"imagenet:{labelled_folder}")
    survey = survey_pool(pool, tmp_path_factory.mktemp("survey"), crop=48)
    labels = tuple(survey.table["label"].astype(str))
    return Pictures(pool, survey.places, tuple(survey.table["picture"]), labels), list(survey.table["group"])


def plan_for(model: Model, pictures: tuple[Pictures, list[str]], *names: str, layer: str = LAYER) -> FittingPlan:
    wanted = {layer: tuple(parse_basis(name) for name in names)}
    settings = FittingSettings(k=4, learning=LEARNING, per_picture=16)
    return FittingPlan(model, wanted, pictures[0], pictures[1], settings, crop=48, batch_size=8)


def test_groups_are_never_on_both_sides(pictures: tuple[Pictures, list[str]]) -> None:
    own = pictures[0]
    groups = [number // 4 for number in range(len(own))]
    learned, held_out = split_pictures(own, groups, 0.2, 0)
    of = dict(zip(own.hashes, groups))
    assert not {of[name] for name in learned.hashes} & {of[name] for name in held_out.hashes}
    assert 0.2 * len(own) <= len(held_out) < 0.3 * len(own) and len(learned) + len(held_out) == len(own)
    assert split_pictures(own, groups, 0.2, 1)[1].hashes != held_out.hashes


def test_sampled_positions_are_the_layers(
    resnet: Model, pictures: tuple[Pictures, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the shards are; and a picture's sample does not depend on its neighbours."""
    layers = (resnet.layer_map[LAYER], resnet.layer_map["layer1.0.conv1"])
    plan = PositionPlan(resnet, layers, pictures[0], 5, 0, crop=48, batch_size=8)
    read_positions(plan, tmp_path / "one")
    whole = torch.cat(list(Positions(plan, tmp_path / "one", LAYER).parts()))
    assert whole.shape == (5 * len(pictures[0]), layers[0].width)
    monkeypatch.setattr(reading, "SHARD", 16)
    read_positions(plan, tmp_path / "many")
    parts = Positions(plan, tmp_path / "many", LAYER)
    assert len(parts.paths) == 4 and torch.equal(torch.cat(list(parts.parts())), whole)
    every = PositionPlan(resnet, layers, pictures[0], 10_000, 0, crop=48, batch_size=8)
    read_positions(every, tmp_path / "all")
    all_positions = torch.cat(list(Positions(every, tmp_path / "all", LAYER).parts()))
    first = all_positions[: len(all_positions) // len(pictures[0])]
    assert all(any(torch.equal(row, other) for other in first) for row in whole[:5])


def test_an_epoch_has_every_position_once_in_an_order_of_its_own(
    resnet: Model, pictures: tuple[Pictures, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a buffer that holds less than all of them, too."""
    monkeypatch.setattr(reading, "SHARD", 8)
    plan = PositionPlan(resnet, (resnet.layer_map[LAYER],), pictures[0], 8, 0, crop=48, batch_size=8)
    read_positions(plan, tmp_path)
    monkeypatch.setattr(reading, "BUFFER_BYTES", 4 * plan.layers[0].width * 150)
    own = Positions(plan, tmp_path, LAYER)
    one, again, two = (torch.cat(list(own.epoch(32, number, 0))) for number in (0, 0, 1))
    assert len(one) == own.steps(32) * 32 == len(own) // 32 * 32
    assert torch.equal(one, again) and not torch.equal(one, two)
    rows = {tuple(row) for row in torch.cat(list(own.parts())).tolist()}
    assert {tuple(row) for row in one.tolist()} <= rows


def test_one_pass_serves_all_bases_and_a_second_call_does_nothing(
    resnet: Model, pictures: tuple[Pictures, list[str]], tmp_path: Path
) -> None:
    names = ("topk-32", "ordered-32", "topk-32-frozen_decoder", "rotation", "pca-8")
    passes: list[int] = []
    handle = resnet.module.register_forward_hook(lambda module, args, out: passes.append(len(args[0])))
    made = fit_bases(plan_for(resnet, pictures, *names), tmp_path)
    # Eight batches of eight to read, and for each basis three passes over the two or three held-out batches.
    held_out = made[0].card.training.held_out
    replaced = 3 * len(names) * -(-held_out // 8)
    assert len(passes) == -(-(60 - held_out) // 8) + -(-held_out // 8) + replaced
    passes.clear()
    again = fit_bases(plan_for(resnet, pictures, *names), tmp_path)
    handle.remove()
    assert not passes and [basis.weights_hash for basis in again] == [basis.weights_hash for basis in made]
    by_name = {basis.card.name: basis.card for basis in made}
    for card in by_name.values():
        assert card.quality is not None and card.training.pictures + card.training.held_out == 60
        assert card.model_weights == resnet.weights_hash
    rotation = by_name["rotation"].quality
    assert rotation is not None and rotation.r2 == pytest.approx(1, abs=1e-4)
    swapped = rotation.replacement
    assert swapped is not None and swapped.top1_replaced == 1 and swapped.recovered == pytest.approx(1, abs=1e-3)
    topk = by_name["topk-32"].quality
    assert topk is not None and topk.l0 <= 4 and topk.positions == 16 * held_out
    assert not list(tmp_path.glob("positions")) and not list(tmp_path.glob("*.learning.*"))


def test_bases_are_repeatable_and_differ_by_seed(
    resnet: Model, pictures: tuple[Pictures, list[str]], tmp_path: Path
) -> None:
    plan = plan_for(resnet, pictures, "topk-32", "topk-32-other_seed")
    one, other = fit_bases(plan, tmp_path / "one"), fit_bases(plan, tmp_path / "two")
    assert [basis.weights_hash for basis in one] == [basis.weights_hash for basis in other]
    assert one[0].weights_hash != one[1].weights_hash


def test_another_setting_is_not_mixed_with_what_is_there(
    resnet: Model, pictures: tuple[Pictures, list[str]], tmp_path: Path
) -> None:
    plan = plan_for(resnet, pictures, "topk-32")
    fit_bases(plan, tmp_path)
    with pytest.raises(StudyMismatch, match="other pictures, weights or settings"):
        fit_bases(replace(plan, settings=replace(plan.settings, k=3)), tmp_path)


def test_a_training_that_is_stopped_goes_on_to_the_same_weights(
    resnet: Model, pictures: tuple[Pictures, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.bases.topk import TopKLearner

    plan = plan_for(resnet, pictures, "ordered-32")
    (whole,) = fit_bases(plan, tmp_path / "whole")
    monkeypatch.setattr("stimuli.dictionaries.fitting.KEEP_EVERY", 0.0)
    learn, steps = TopKLearner.learn, 0

    def stop_after_a_few(self: TopKLearner, *arguments: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 13:
            raise KeyboardInterrupt
        learn(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TopKLearner, "learn", stop_after_a_few)
    with pytest.raises(KeyboardInterrupt):
        fit_bases(plan, tmp_path / "stopped")
    (resumed,) = fit_bases(plan, tmp_path / "stopped")
    total = whole.card.training.positions // 64 * LEARNING.epochs
    assert steps == 13 + total - 12  # the twelve that were taken are not taken again
    assert resumed.weights_hash == whole.weights_hash


TRAIN = """
import sys
from tests.test_dictionaries import train_in_a_process
train_in_a_process(sys.argv[1], sys.argv[2])
"""


def train_in_a_process(folder: str, out: str) -> None:
    """Fit a dictionary slowly enough to be killed; run in a process of its own."""
    import stimuli.dictionaries.fitting as fitting
    from benchmark.workflow.dictionaries import train_dictionary

    torch.set_num_threads(1)
    fitting.KEEP_EVERY = 0.0
    train_dictionary(
        "timm:test_resnet", LAYER, pool=f"folder:{folder}", width=64, k=4, epochs=25, batch_size=64, positions=32,
        out=out, weights="random", crop=48, device="cpu",
    )  # fmt: skip


def test_a_training_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    labelled_folder: Path, tmp_path: Path
) -> None:
    def run(out: Path, seconds: float | None) -> int:
        arguments = [sys.executable, "-c", TRAIN, str(labelled_folder), str(out)]
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            if seconds is not None:
                begun = time.monotonic()
                while process.poll() is None and time.monotonic() - begun < seconds:
                    # Kills fall where something has begun, however long imports take on this machine.
                    if any(out.rglob("*.safetensors")) and random.random() < 0.1:
                        break
                    time.sleep(0.05)
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
            return process.wait()

    assert run(tmp_path / "whole", None) == 0
    for _ in range(2):
        if run(tmp_path / "killed", 120) == 0:
            break
    assert run(tmp_path / "killed", None) == 0
    (one,) = (tmp_path / "whole").rglob("*@topk-64.safetensors")
    (other,) = (tmp_path / "killed").rglob("*@topk-64.safetensors")
    assert read_basis(one).weights_hash == read_basis(other).weights_hash


def test_what_can_not_be_fitted_is_said(resnet: Model, pictures: tuple[Pictures, list[str]], tmp_path: Path) -> None:
    with pytest.raises(BasisError, match=r"can't be active"):
        fit_bases(plan_for(resnet, pictures, "topk-3"), tmp_path)
    with pytest.raises(BasisError, match=r"needs at least 5,000"):
        fit_bases(plan_for(resnet, pictures, "topk-5000"), tmp_path)
    with pytest.raises(BasisError, match=r"has 1,000 directions"):
        fit_bases(plan_for(resnet, pictures, "pca-1000"), tmp_path)
    with pytest.raises(BasisError, match=r"can't be split"):
        fit_bases(replace(plan_for(resnet, pictures, "topk-32"), groups=["one"] * 60), tmp_path)


def test_a_layer_that_is_not_finite_is_named(
    resnet: Model, pictures: tuple[Pictures, list[str]], tmp_path: Path
) -> None:
    module = resnet.module.get_submodule("layer1.0.conv1")
    spoil = lambda _module, _args, out: out * float("nan")  # noqa: E731
    handle = module.register_forward_hook(spoil, prepend=True)
    try:
        with pytest.raises(NonFiniteActivation, match=r"layer1\.0\.conv1"):
            fit_bases(plan_for(resnet, pictures, "topk-32", layer="layer1.0.conv1"), tmp_path)
    finally:
        handle.remove()


def test_the_command_line_trains_shows_and_checks(labelled_folder: Path, tmp_path: Path) -> None:
    asked = (
        "dictionary", "train", "timm:test_resnet", "--weights", "random", "--layer", LAYER, "--pool",
        f"folder:{labelled_folder}", "--width", 32, "--k", 4, "--epochs", 2, "--out", tmp_path, "--device", "cpu",
    )  # fmt: skip
    outcome = vimi(*asked)
    assert outcome.code == 0, outcome.err
    (path,) = tmp_path.rglob(basis_path(tmp_path, LAYER, BasisName("topk", 32)).name)
    assert "R2, held out" in outcome.out and "vimi dictionary check" in outcome.out
    assert vimi("dictionary", "show", path).out in outcome.out
    checked = vimi("dictionary", "check", path, "--model", "timm:test_resnet", "--weights", "random")
    assert checked.code == 0 and "fits layer3.0.add" in checked.out
    other = vimi("dictionary", "check", path, "--model", "timm:test_vit", "--weights", "random")
    assert other.code == 2 and "fail" in other.out
    refused(vimi(*asked[:6], "layer9", *asked[7:]), "There is no layer 'layer9'")
    refused(vimi(*asked, "--kind", "tokp"), "Did you mean 'topk'?")
    refused(vimi(*asked, "--k", 33), "can't be active")


def test_stability_is_the_cosine_of_matched_directions() -> None:
    from stimuli.dictionaries.quality import match_atoms

    rows = torch.eye(4)
    assert match_atoms(rows, rows[[2, 0, 3, 1]]) == pytest.approx(np.ones(4))
    assert match_atoms(rows, rows[:2]).tolist() == [1, 1, 0, 0]
