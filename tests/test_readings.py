"""Readings: the columns of one pass give every eligible layer what hooks of one's own give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmark.errors import ActivationError
from benchmark.layers import LayerMap, TensorPlace
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, build_untrained
from benchmark.protocol import Aggregator
from benchmark.readings import ActivationReader, PlaceReader, aggregate, forward_to, unit_activations
from benchmark.tracing import trace_layers
from tests.direct_hooks import channel_axis, layer_tensor, mean_per_channel, randomize, record

SIZE = {"test_vit": 160, "test_vit2": 64}
ARCHITECTURES = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet"]


@dataclass
class Built:
    """A tiny architecture with random normalisations, its layers, and three pictures for it."""

    module: nn.Module
    layer_map: LayerMap
    pictures: torch.Tensor


@cache
def make(architecture: str, aggregator: Aggregator = "mean", patterns: tuple[str, ...] = ()) -> Built:
    size = SIZE.get(architecture, 96)
    module = randomize(build_untrained(load_card(f"timm:{architecture}"), 0))
    pictures = torch.randn((3, 3, size, size), generator=torch.Generator().manual_seed(1))
    return Built(module, trace_layers(module, size, patterns, aggregator), pictures)


def read(built: Built, aggregator: Aggregator = "mean", prefix_tokens: int = 0) -> dict[str, torch.Tensor]:
    """Return every layer's reduced activations through vimi's columns."""
    with ActivationReader(built.module, built.layer_map, aggregator, prefix_tokens) as reader:
        columns = reader.read(built.pictures)
    assert columns.shape == (3, built.layer_map.column_count) and columns.dtype == torch.float32
    return {
        layer.name: unit_activations(columns, layer.columns, layer.scale, layer.shift)
        for layer in built.layer_map.layers
    }


def assert_near(found: torch.Tensor, wanted: torch.Tensor, name: str) -> None:
    scale = float(wanted.abs().max())
    assert scale > 0
    torch.testing.assert_close(
        found.double(), wanted.double(), rtol=1e-4, atol=1e-4 * scale, msg=lambda text: f"{name}: {text}"
    )


# ---------------------------------------------------------------- columns against hooks


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_columns_give_the_means_that_hooks_on_every_layer_give(architecture: str) -> None:
    built = make(architecture)
    found = read(built)
    recording = record(built.module, built.pictures)
    assert len(found) >= 20
    for name, means in found.items():
        tensor = layer_tensor(built.module, recording, name)
        assert_near(means, mean_per_channel(tensor, channel_axis(built.module, name, tensor)), name)


def test_the_architectures_hold_what_makes_reading_hard() -> None:
    modules = {name: build_untrained(load_card(f"timm:{name}"), 0) for name in ARCHITECTURES}
    in_place = {name: any(getattr(m, "inplace", False) for m in module.modules()) for name, module in modules.items()}
    assert in_place["test_resnet"] and in_place["test_efficientnet"] and in_place["test_byobnet"]
    assert all(make(name).layer_map.products for name in ("test_vit", "test_convnext", "test_efficientnet"))
    assert make("test_resnet").layer_map.column_count < make("test_resnet").layer_map.unit_count


@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext"])
def test_a_picture_is_read_alike_alone_and_among_others(architecture: str) -> None:
    built = make(architecture)
    with ActivationReader(built.module, built.layer_map) as reader:
        together = reader.read(built.pictures)
        alone = torch.cat([reader.read(picture[None]) for picture in built.pictures])
        again = reader.read(built.pictures)
    assert torch.equal(together, again)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_the_layers_of_a_card_are_read_through_their_patterns() -> None:
    built = make("test_vit", patterns=load_card("vit_b32").layers)
    found, recording = read(built), record(built.module, built.pictures)
    assert len(found) == 36
    for name, means in found.items():
        assert_near(means, recording.outputs[name].mean(1), name)


def test_a_layer_scale_between_branch_and_sum_is_followed() -> None:
    built = make("test_vit2")
    found, recording = read(built), record(built.module, built.pictures)
    for name, means in found.items():
        assert_near(means, layer_tensor(built.module, recording, name).mean(1), name)


# ---------------------------------------------------------------- aggregators


def test_the_mean_of_patches_leaves_the_class_token_out() -> None:
    built = make("test_vit", "patches")
    found, recording = read(built, "patches", prefix_tokens=1), record(built.module, built.pictures)
    differing = 0
    for name, values in found.items():
        tokens = layer_tensor(built.module, recording, name)
        assert_near(values, tokens[:, 1:].mean(1), name)
        differing += int((values - tokens.mean(1)).abs().max() > 1e-3 * tokens.mean(1).abs().max())
    assert differing > len(found) / 2


def test_the_class_token_is_read_alone() -> None:
    built = make("test_vit", "cls")
    found, recording = read(built, "cls", prefix_tokens=1), record(built.module, built.pictures)
    for name, values in found.items():
        assert_near(values, layer_tensor(built.module, recording, name)[:, 0], name)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_efficientnet"])
def test_the_maximum_is_taken_over_all_positions(architecture: str) -> None:
    built = make(architecture, "max")
    found, recording = read(built, "max"), record(built.module, built.pictures)
    for name, values in found.items():
        tensor = layer_tensor(built.module, recording, name)
        axis = channel_axis(built.module, name, tensor)
        assert_near(values, tensor.amax([d for d in range(1, tensor.ndim) if d != axis]), name)


def test_a_cnn_has_patches_but_no_class_token(resnet: Model) -> None:
    pictures = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with ActivationReader(resnet.module, resnet.layer_map, "patches") as reader:
        patches = reader.read(pictures)
    with ActivationReader(resnet.module, resnet.layer_map) as reader:
        assert torch.equal(reader.read(pictures), patches)
    reader = ActivationReader(resnet.module, resnet.layer_map, "cls")
    with reader, pytest.raises(ActivationError, match="'cls' needs a sequence of tokens"):
        reader.read(pictures)


@given(
    batch=st.integers(1, 3),
    windows=st.integers(1, 3),
    channels=st.integers(1, 4),
    side=st.integers(1, 3),
    last=st.booleans(),
    aggregator=st.sampled_from(["mean", "max"]),
)
@settings(deadline=None, max_examples=60)
def test_windows_of_a_picture_are_reduced_together(
    batch: int, windows: int, channels: int, side: int, last: bool, aggregator: Aggregator
) -> None:
    generator = torch.Generator().manual_seed(batch * 100 + windows * 10 + side)
    tensor = torch.randn((batch * windows, channels, side, side), generator=generator, dtype=torch.float64)
    reduce = np.mean if aggregator == "mean" else np.max
    wanted = reduce(tensor.numpy().reshape(batch, windows, channels, side * side), axis=(1, 3))
    given_tensor = tensor.permute(0, 2, 3, 1) if last else tensor
    found = aggregate(given_tensor, 3 if last else 1, batch, aggregator)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-12)


def test_half_precision_is_reduced_in_single_precision() -> None:
    tensor = torch.full((1, 1, 64, 64), 100.0, dtype=torch.float16)
    tensor[..., 0, 0] = 101.0
    assert aggregate(tensor, 1, 1).dtype == torch.float32
    assert float(aggregate(tensor, 1, 1)) == pytest.approx(100 + 1 / 4096, rel=1e-7)


# ---------------------------------------------------------------- modules that run several times


class SharedBlock(nn.Module):
    """A block that uses its activation twice and one convolution twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.shared = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.act(self.norm(self.first(x)))
        inner = self.shared(torch.tanh(self.shared(inner)))
        return self.act(inner + x)


class SharedNetwork(nn.Module):
    """Two such blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.ModuleList([SharedBlock(8), SharedBlock(8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


def make_shared() -> Built:
    torch.manual_seed(0)
    module = randomize(SharedNetwork())
    pictures = torch.randn((3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    return Built(module, trace_layers(module, 32), pictures)


def test_a_sum_is_read_at_the_call_that_sees_it_although_its_activation_runs_twice() -> None:
    built = make_shared()
    found = read(built)
    recording = record(built.module, built.pictures)
    for number in (0, 1):
        block = built.module.get_submodule(f"blocks.{number}")
        given_tensor = recording.inputs[f"blocks.{number}"]
        with torch.no_grad():
            inner = torch.relu(block.norm(block.first(given_tensor)))
            total = block.shared(torch.tanh(block.shared(inner))) + given_tensor
        assert_near(found[f"blocks.{number}.add"], total.mean((2, 3)), "sum")
        assert_near(found[f"blocks.{number}.norm"], recording.outputs[f"blocks.{number}.norm"].mean((2, 3)), "norm")


def test_a_layer_that_runs_twice_is_no_single_layer_and_is_named_as_left_out() -> None:
    layer_map = make_shared().layer_map
    names = [layer.name for layer in layer_map.layers]
    assert names == [f"blocks.{number}.{part}" for number in (0, 1) for part in ("first", "norm", "add")]
    assert {name for name, _ in layer_map.unreadable} == {"blocks.0.shared", "blocks.1.shared"}
    assert all("more than once" in reason for _, reason in layer_map.unreadable)


# ---------------------------------------------------------------- affine maps behind affine maps


class NormChain(nn.Module):
    """A block whose normalisations follow one another, over a concatenation and a scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.first = nn.BatchNorm2d(width)
        self.second = nn.BatchNorm2d(2 * width)
        self.gamma = nn.Parameter(torch.ones(2 * width, 1, 1))
        self.third = nn.BatchNorm2d(2 * width)
        self.back = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv(x)
        inner = self.second(torch.cat([self.first(inner), inner], dim=1))
        inner = self.third(inner * self.gamma.reshape(1, -1, 1, 1))
        return torch.tanh(self.back(inner) + x)


def test_affine_maps_are_followed_one_behind_the_other() -> None:
    torch.manual_seed(0)
    module = randomize(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Sequential(NormChain(6), NormChain(6))))
    pictures = torch.randn((3, 3, 24, 24), generator=torch.Generator().manual_seed(1))
    built = Built(module, trace_layers(module, 24), pictures)
    found, recording = read(built), record(module, pictures)
    names = [f"1.{number}.{part}" for number in (0, 1) for part in ("conv", "first", "second", "third", "back")]
    assert [name for name in found if not name.endswith(".add")] == names
    for name in names:
        assert_near(found[name], recording.outputs[name].mean((2, 3)), name)
    # One reading of the convolution serves everything behind it: nothing but a scale and a shift lies between.
    for number in (0, 1):
        column = set(built.layer_map[f"1.{number}.conv"].columns)
        assert all(
            set(built.layer_map[f"1.{number}.{part}"].columns) == column for part in ("first", "second", "third")
        )


# ---------------------------------------------------------------- hooks and prefixes


def test_hooks_live_only_as_long_as_the_reader(resnet: Model) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in resnet.module.modules())

    pictures = torch.zeros((1, 3, 64, 64))
    assert hooks() == 0
    with ActivationReader(resnet.module, resnet.layer_map) as reader:
        reader.read(pictures)
        assert hooks() == len(resnet.layer_map.readings)
    assert hooks() == 0
    with pytest.raises(RuntimeError), ActivationReader(resnet.module, resnet.layer_map) as reader:
        reader.read(torch.zeros((1, 4, 64, 64)))
    assert hooks() == 0


def test_places_are_read_in_the_order_in_which_they_were_asked_for(resnet: Model) -> None:
    layers = [resnet.layer_map["layer3.0.add"], resnet.layer_map["layer1.0.conv1"]]
    pictures = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with PlaceReader(resnet.module, [layer.place for layer in layers]) as reader:
        late, early = reader.read_places(pictures)
    recording = record(resnet.module, pictures)
    assert_near(late, layer_tensor(resnet.module, recording, "layer3.0.add").mean((2, 3)), "late")
    assert_near(early, recording.outputs["layer1.0.conv1"].mean((2, 3)), "early")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prefix_gives_the_whole_tensor_and_lets_gradients_through(architecture: str) -> None:
    built = make(architecture)
    recording = record(built.module, built.pictures)
    names = [layer.name for layer in built.layer_map.layers]
    for name in (names[0], names[len(names) // 2], names[-1]):
        place = built.layer_map[name].place
        tensor = forward_to(built.module, place)(built.pictures)
        wanted = layer_tensor(built.module, recording, name)
        assert tensor.shape[place.axis] == built.layer_map[name].width
        assert_near(tensor, wanted, name)
    pictures = built.pictures.clone().requires_grad_(True)
    forward_to(built.module, built.layer_map[names[0]].place)(pictures).sum().backward()
    assert pictures.grad is not None and bool(pictures.grad.abs().sum() > 0)


def test_what_lies_behind_a_prefix_is_never_computed(resnet: Model) -> None:
    ran: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _, __, name=name: ran.append(name))
        for name, module in resnet.module.named_modules()
    ]
    try:
        forward_to(resnet.module, resnet.layer_map["layer2.0.conv1"].place)(torch.zeros((1, 3, 64, 64)))
    finally:
        for handle in handles:
            handle.remove()
    assert "layer2.0.conv1" in ran
    assert not {"layer2.0.bn1", "layer3", "layer4", "fc"} & set(ran)
    assert not any(module._forward_hooks for module in resnet.module.modules())


def test_a_place_that_is_never_reached_is_an_error(resnet: Model) -> None:
    with pytest.raises(ActivationError, match=r"never reached output of 'layer1\.0\.conv1'"):
        forward_to(resnet.module, TensorPlace("layer1.0.conv1", "output", 1, call=2))(torch.zeros((1, 3, 64, 64)))
