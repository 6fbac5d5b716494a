"""Weights: only ever data, from files, packages and hubs; and random ones that belong to a seed."""

from __future__ import annotations

import argparse
import collections
import pickle
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from benchmark.conversion import convert_checkpoint
from benchmark.errors import WeightsError
from benchmark.hashing import hash_state
from benchmark.model_card import ModelCard, WeightsSpec
from benchmark.model_sources import load_card
from benchmark.model_zoo import (
    Model,
    build_untrained,
    load_model,
    load_weights_file,
    read_checkpoint,
    weights_on_machine,
)

State = dict[str, torch.Tensor]


class TouchOnLoad:
    """An object whose pickle, when it is loaded, calls a function that leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


class EvaluateOnLoad(TouchOnLoad):
    """The same through ``eval``."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"__import__('pathlib').Path({str(self.marker)!r}).touch()",)


class SystemOnLoad(TouchOnLoad):
    """The same through the shell."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.marker}",)


class Settings(dict[str, Any]):
    """A dictionary of a class of its own, as training scripts keep their arguments in."""


@pytest.fixture(scope="module")
def tiny() -> ModelCard:
    return load_card("timm:test_resnet")


@pytest.fixture(scope="module")
def state(tiny: ModelCard) -> State:
    return {name: value.clone() for name, value in build_untrained(tiny, 7).state_dict().items()}


def save(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def loaded_into(tiny: ModelCard, path: Path) -> State:
    module = build_untrained(tiny, 0)
    load_weights_file(module, path, tiny)
    return module.state_dict()


# ---------------------------------------------------------------- no code from a file


@pytest.mark.parametrize("trap", [TouchOnLoad, EvaluateOnLoad])
@pytest.mark.parametrize("archive", [True, False], ids=["today's format", "the old format"])
def test_a_checkpoint_that_would_run_code_is_refused_and_its_weights_can_be_taken_out_safely(
    tmp_path: Path, state: State, trap: type[TouchOnLoad], archive: bool
) -> None:
    marker = tmp_path / "marker"
    content = {"state_dict": state, "trap": trap(marker)}
    path = save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    target = tmp_path / "bad.safetensors"
    assert str(path) in message and "run code" in message
    assert f"vimi models convert {path} {target}" in message
    assert convert_checkpoint(path, target) == len(state)
    assert same(load_file(target), state)
    assert not marker.exists()
    # The trap is a real one: this is what a reader that unpickles everything would do.
    spring, arguments = trap(marker).__reduce__()
    spring(*arguments)
    assert marker.exists()


def test_a_checkpoint_that_calls_the_shell_is_refused_without_the_advice_to_run_it(
    tmp_path: Path, state: State
) -> None:
    path = save({"state_dict": state, "trap": SystemOnLoad(tmp_path / "marker")}, tmp_path / "bad.pth")
    for attempt in (lambda: read_checkpoint(path), lambda: convert_checkpoint(path, tmp_path / "bad.safetensors")):
        with pytest.raises(WeightsError, match="system") as caught:
            attempt()
        assert str(path) in str(caught.value)
        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "bad.safetensors").exists()


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        (argparse.Namespace(lr=0.1, data=Path("x")), "argparse.Namespace"),
        (Settings(lr=0.1, inner=Settings(deep=[1, 2])), "Settings"),
        (collections.defaultdict(list, losses=[0.3, 0.2]), "collections.defaultdict"),
        (collections.deque([1.0, 2.0], maxlen=3), "collections.deque"),
        (np.arange(3.0), "numpy"),
        (np.float64(3.0), "numpy"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (frozenset({"a"}), "builtins.frozenset"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_training_scripts_leave_in_checkpoints_is_named_and_falls_away(
    tmp_path: Path, state: State, odd: object, named: str
) -> None:
    path = save({"epoch": 90, "model": state, "args": odd}, tmp_path / "trained.ckpt")
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    assert named in str(caught.value) and "vimi models convert" in str(caught.value)
    target = tmp_path / "weights.safetensors"
    assert convert_checkpoint(path, target) == len(state)
    assert same(load_file(target), state)


def test_of_several_dictionaries_of_tensors_the_largest_is_taken(tmp_path: Path, state: State) -> None:
    few = dict(list(state.items())[:3])
    content = {"optimizer": {"momentum": few}, "model": state, "args": argparse.Namespace()}
    convert_checkpoint(save(content, tmp_path / "a.pth"), tmp_path / "a.safetensors")
    assert same(load_file(tmp_path / "a.safetensors"), state)


def test_a_checkpoint_without_tensors_is_not_converted(tmp_path: Path) -> None:
    path = save({"args": argparse.Namespace(a=1)}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match=r"empty\.pth holds neither a dictionary of tensors"):
        convert_checkpoint(path, tmp_path / "empty.safetensors")
    assert not (tmp_path / "empty.safetensors").exists()


def broken_files(folder: Path, state: State) -> list[Path]:
    whole = save(state, folder / "whole.pth").read_bytes()
    contents = {
        "half.pth": whole[: len(whole) // 2],
        "nothing.pth": b"",
        "text.pth": b"hello\n",
        "pickle.pth": pickle.dumps({"a": Path("x")}, protocol=2),
        "half.safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents] + [folder / "absent.pth", folder]


@pytest.mark.parametrize("number", range(7))
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, state: State, number: int) -> None:
    path = broken_files(tmp_path, state)[number]
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    if path.suffix != ".safetensors":
        with pytest.raises(WeightsError) as caught:
            convert_checkpoint(path, tmp_path / "out.safetensors")
        assert str(path) in str(caught.value)


def test_a_checkpoint_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds a Tensor, not a dictionary"):
        read_checkpoint(save(torch.ones(3), tmp_path / "tensor.pth"))


# ---------------------------------------------------------------- weights that fit


@pytest.mark.parametrize("key", ["", "state_dict", "model", "weights"])
@pytest.mark.parametrize("prefix", ["", "module.model."])
def test_weights_are_found_where_the_card_says(
    tmp_path: Path, tiny: ModelCard, state: State, key: str, prefix: str
) -> None:
    named: dict[str, Any] = {prefix + name: value for name, value in state.items()}
    if prefix:
        named["module.normalizer.mean"] = torch.zeros(3)
    path = save({key: named, "epoch": 3} if key else named, tmp_path / "weights.pth")
    card = tiny.model_copy(update={"weights": WeightsSpec(source="timm", state=key, prefix=prefix)})
    assert same(loaded_into(card, path), state)


def test_safetensors_are_read(tmp_path: Path, tiny: ModelCard, state: State) -> None:
    save_file(state, tmp_path / "weights.safetensors")
    assert same(loaded_into(tiny, tmp_path / "weights.safetensors"), state)


def test_weights_under_other_names_are_taken_in_order_if_all_shapes_agree(
    tmp_path: Path, tiny: ModelCard, state: State
) -> None:
    renamed = {f"layer{number}": value for number, value in enumerate(state.values())}
    assert same(loaded_into(tiny, save(renamed, tmp_path / "renamed.pth")), state)


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path, tiny: ModelCard, state: State) -> None:
    wrong = {**state, "layer2.0.conv2.weight": torch.zeros(48, 48, 5, 5)}
    path = save(wrong, tmp_path / "wrong.pth")
    with pytest.raises(WeightsError) as caught:
        loaded_into(tiny, path)
    message = str(caught.value)
    assert str(path) in message and tiny.timm in message
    assert "layer2.0.conv2.weight has shape (48, 48, 5, 5), the model needs (48, 48, 3, 3)" in message


def test_missing_and_unexpected_weights_are_named(tmp_path: Path, tiny: ModelCard, state: State) -> None:
    other = {name: value for name, value in state.items() if name != "fc.bias"} | {"head.bias": torch.zeros(7)}
    with pytest.raises(WeightsError) as caught:
        loaded_into(tiny, save(other, tmp_path / "other.pth"))
    assert "missing fc.bias; unexpected head.bias" in str(caught.value)


def test_a_model_with_weights_from_a_file_carries_the_hash_of_the_file(
    tmp_path: Path, tiny: ModelCard, state: State
) -> None:
    save_file(state, tmp_path / "one.safetensors")
    save_file({name: value * 2 for name, value in state.items()}, tmp_path / "two.safetensors")
    one = load_model(tiny, weights=str(tmp_path / "one.safetensors"))
    two = load_model(tiny, weights=str(tmp_path / "two.safetensors"))
    assert one.name.startswith(f"{tiny.name}@") and two.name.startswith(f"{tiny.name}@")
    assert one.name != two.name
    assert one.weights_hash == hash_state(state) != two.weights_hash
    with pytest.raises(WeightsError, match=r"There is no checkpoint .*three\.safetensors"):
        load_model(tiny, weights=str(tmp_path / "three.safetensors"))


# ---------------------------------------------------------------- weights from a package


def test_the_weights_of_a_package_recognise_a_cat() -> None:
    card = load_card("efficientnet_lite0")
    path = weights_on_machine(card)
    assert path is not None and path.is_file()
    model = load_model(card)
    assert model.name == "efficientnet_lite0"
    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    photograph = Image.fromarray(skimage.data.chelsea()).crop((75, 0, 375, 300)).resize((224, 224))
    pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None]
    with torch.no_grad():
        best = int(model.module(model.prepare(pixels)).argmax())
    assert best in range(281, 286)  # the five classes of domestic cats
    assert model.weights_hash == load_model(card).weights_hash
    assert model.weights_hash != load_model(card, weights="random").weights_hash


def test_a_package_that_is_not_installed_is_named_with_the_command(tiny: ModelCard) -> None:
    card = tiny.model_copy(update={"weights": WeightsSpec(source="wheel:absent_weights/models/a.pth")})
    with pytest.raises(WeightsError, match=r"'absent-weights', which is not installed.*uv pip install absent-weights"):
        load_model(card)


# ---------------------------------------------------------------- random weights and twins


def layers_of(model: Model) -> list[tuple[str, int]]:
    return [(layer.name, layer.width) for layer in model.layer_map.layers]


def test_a_twin_has_the_architecture_of_its_model_and_weights_of_the_seed(tiny: ModelCard, checkpoint: Path) -> None:
    trained = load_model(tiny, weights=str(checkpoint))
    twin = load_model(tiny.as_twin(), seed=5)
    assert twin.name == f"{tiny.name}-twin" and twin.card.twin
    assert layers_of(twin) == layers_of(trained)
    assert [len(channels) for channels in twin.layer_map.representatives().values()] == [
        len(channels) for channels in trained.layer_map.representatives().values()
    ]
    assert twin.weights_hash == load_model(tiny.as_twin(), seed=5).weights_hash
    assert len({twin.weights_hash, trained.weights_hash, load_model(tiny.as_twin(), seed=6).weights_hash}) == 3


def test_a_twin_ignores_the_weights_that_its_model_is_given(tiny: ModelCard, checkpoint: Path) -> None:
    with_weights = load_model(tiny.as_twin(), weights=str(checkpoint), seed=5)
    assert with_weights.weights_hash == load_model(tiny.as_twin(), seed=5).weights_hash


def test_random_weights_are_marked_in_the_name(tiny: ModelCard) -> None:
    model = load_model(tiny, weights="random", seed=5)
    assert model.name == f"{tiny.name}@random"
    assert model.card.training is None
    assert model.weights_hash == load_model(tiny.as_twin(), seed=5).weights_hash


@pytest.mark.parametrize("architecture", ["resnet18", "test_byobnet", "test_efficientnet"])
def test_no_normalisation_of_random_weights_silences_its_branch(architecture: str) -> None:
    module = build_untrained(load_card(f"timm:{architecture}"), 3)
    norms = [inner for inner in module.modules() if isinstance(inner, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert not norm.running_mean.any() and torch.equal(norm.running_var, torch.ones_like(norm.running_var))


def test_building_leaves_the_global_generator_and_the_warnings_alone(tiny: ModelCard) -> None:
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    filters = list(warnings.filters)
    first = hash_state(build_untrained(tiny, 1).state_dict())
    assert torch.equal(torch.rand(3), wanted)
    assert warnings.filters == filters
    assert first == hash_state(build_untrained(tiny, 1).state_dict())


# ---------------------------------------------------------------- hubs


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with empty caches and no network; returns where torch keeps downloads."""

    def unknown_host(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown_host)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    return tmp_path / "torch" / "checkpoints"


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("timm:test_resnet", "test_resnet.r160_in1k"),
        ("googlenet", "inception5h.pth"),
        ("resnet50_l2", "resnet50_l2_eps3.ckpt"),
    ],
)
def test_missing_weights_without_a_network_are_an_error_with_two_ways_out(lonely: Path, name: str, where: str) -> None:
    card = load_card(name)
    assert weights_on_machine(card) is None
    with pytest.raises(WeightsError) as caught:
        load_model(card)
    message = str(caught.value)
    assert card.name in message and where in message
    assert "not on this machine" in message
    assert 'weights = "FILE"' in message and 'weights = "random"' in message
    assert not lonely.is_dir() or not list(lonely.iterdir())


def test_the_robust_resnet_is_refused_converted_and_loaded(lonely: Path) -> None:
    card = load_card("resnet50_l2")
    network = build_untrained(card, 9).state_dict()
    lonely.mkdir(parents=True)
    named = {f"module.model.{name}": value for name, value in network.items()}
    content = {
        "model": {**named, "module.normalizer.new_mean": torch.zeros(3)},
        "args": Settings(eps=3.0),
        "epoch": 105,
    }
    path = save(content, lonely / "resnet50_l2_eps3.ckpt", _use_new_zipfile_serialization=False)
    assert weights_on_machine(card) == path
    with pytest.raises(WeightsError) as caught:
        load_model(card)
    command = next(line.strip() for line in str(caught.value).splitlines() if "models convert" in line)
    source, target = (Path(word) for word in command.split()[-2:])
    assert source == path
    convert_checkpoint(source, target)
    model = load_model(card)
    assert model.name == "resnet50_l2"
    assert model.weights_hash == hash_state(network)


def test_lucents_weights_are_found_where_torch_keeps_downloads(lonely: Path) -> None:
    card = load_card("googlenet")
    network = build_untrained(card, 9).state_dict()
    lonely.mkdir(parents=True)
    save(network, lonely / "inception5h.pth")
    assert load_model(card).weights_hash == hash_state(network)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_names_that_a_wrapper_gave_are_the_networks_own_without_it(
    tmp_path: Path, tiny: ModelCard, state: State, wrapper: str
) -> None:
    # In another order, so that loading by position would mix tensors of one shape up.
    named = {wrapper + name: state[name] for name in sorted(state, reverse=True)}
    loaded = loaded_into(tiny, save(named, tmp_path / "wrapped.pth"))
    assert hash_state(loaded) == hash_state(state)


def test_weights_that_do_not_fit_are_counted_and_their_common_prefix_is_seen(
    tmp_path: Path, tiny: ModelCard, state: State
) -> None:
    foreign = {f"encoder.trunk.{name}": torch.zeros(3) for name in state}
    with pytest.raises(WeightsError) as caught:
        loaded_into(tiny, save(foreign, tmp_path / "foreign.pth"))
    message = str(caught.value)
    assert f"and {len(state) - 3} more; unexpected" in message
    assert "All names in the file begin with 'encoder.'" in message and 'prefix = "encoder." under [weights]' in message


@pytest.mark.parametrize("wrap", [lambda network: network, lambda network: {"epoch": 3, "model": network}])
def test_a_network_pickled_whole_is_converted_to_its_weights(
    tmp_path: Path, tiny: ModelCard, wrap: Callable[[nn.Module], object]
) -> None:
    network = build_untrained(tiny, 5)
    network.register_buffer("grid", torch.ones(3), persistent=False)
    whole = tmp_path / "whole.pt"
    torch.save(wrap(network), whole)
    with pytest.raises(WeightsError, match="holds more than weights"):
        read_checkpoint(whole)
    assert convert_checkpoint(whole, tmp_path / "weights.safetensors") == len(network.state_dict())
    assert hash_state(load_file(tmp_path / "weights.safetensors")) == hash_state(network.state_dict())


def test_gains_and_norms_of_an_untrained_network_silence_no_branch() -> None:
    network = build_untrained(load_card("timm:test_nfnet"), 0)
    gains = [value for name, value in network.named_parameters() if name.endswith("gain")]
    assert gains and all(bool(gain.any()) for gain in gains)
    norms = [
        inner
        for inner in build_untrained(load_card("timm:repvgg_a0"), 0).modules()
        if isinstance(inner, nn.BatchNorm2d)
    ]
    assert norms and all(bool((norm.weight == 1).all()) and not bool(norm.bias.any()) for norm in norms)
