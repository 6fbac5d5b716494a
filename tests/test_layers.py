"""Eligible layers by rule, and the canonical rule checked in numbers."""

from __future__ import annotations

import gc
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from benchmark.errors import NameNotFound
from benchmark.layers import LayerMap
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, build_untrained, load_model
from benchmark.readings import ActivationReader, unit_activations
from benchmark.tracing import find_blocks, kind_of, trace_layers
from tests.direct_hooks import Keep, channel_axis, layer_tensor, mean_per_channel, randomize, record

RESNET = {f"layer#.#.{part}" for part in ("conv#", "bn#", "add")}
CLIP_RESNET = {
    f"stages.#.#.{part}" for part in ("conv#_#x#.conv", "conv#_kxk.conv", "conv#_#x#.bn", "conv#_kxk.bn", "add")
}
DENSENET = {f"features.denseblock#.denselayer#.{part}" for part in ("norm#", "conv#")} | {
    f"features.transition#.{part}" for part in ("norm", "conv")
}
CONVNEXT = {f"stages.#.blocks.#.{part}" for part in ("conv_dw", "norm", "mlp.fc#", "add")}
VIT = {f"blocks.#.{part}" for part in ("norm#", "attn", "mlp.fc#", "mlp")}
GOOGLENET = {
    f"mixed#{letter}_{part}_pre_relu_conv"
    for letter in "abcde"
    for part in ("#x#", "#x#_bottleneck", "pool_reduce")
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "layers", "units", "canonical", "spellings"),
    [
        ("googlenet", 54, 6_972, 6_972, GOOGLENET),
        ("resnet50", 112, 60_416, 37_760, RESNET),
        ("resnet50_l2", 112, 60_416, 37_760, RESNET),
        ("clip_resnet50", 112, 60_416, 37_760, CLIP_RESNET),
        ("wide_resnet50", 112, 75_520, 45_312, RESNET),
        ("densenet201", 398, 129_504, 17_024, DENSENET),
        ("convnext_b", 180, 144_384, 144_384, CONVNEXT),
        ("vit_b32", 72, 82_944, 73_728, VIT),
        ("clip_vit_b32", 72, 82_944, 73_728, VIT),
    ],
)
def test_the_nine_models_of_the_paper_have_its_layers_and_units(
    name: str, layers: int, units: int, canonical: int, spellings: set[str]
) -> None:
    model = load_model(load_card(name), weights="random", seed=1)
    layer_map = model.layer_map
    del model
    gc.collect()
    assert len(layer_map.layers) == layers
    assert layer_map.unit_count == units
    assert sum(len(channels) for channels in layer_map.representatives().values()) == canonical
    found = {re.sub(r"\d+", "#", layer.name) for layer in layer_map.layers}
    assert found == (spellings & found if name == "googlenet" else spellings)
    assert not layer_map.unreadable
    assert [layer.depth for layer in layer_map.layers] == pytest.approx(np.linspace(0, 1, layers))


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("architecture", "blocks", "sums"),
    [
        ("test_resnet", r"layer\d\.\d\.", 4),
        ("test_vit", r"blocks\.\d\.", 12),
        ("test_convnext", r"stages\.\d\.blocks\.\d\.", 9),
        ("test_efficientnet", r"blocks\.[1-4]\.0\.", 0),
        ("test_byobnet", r"stages\.\d\.\d\.", 4),
        ("test_mambaout", r"stages\.\d\.blocks\.\d\.", 6),
        ("vit_tiny_patch16_224", r"blocks\.\d+\.", 24),
        ("mobilenetv3_small_050", r"blocks\.[0-4]\.\d\.", 7),
        ("regnetx_002", r"s\d\.b\d+\.", 13),
        ("resnet18d", r"layer\d\.\d\.", 8),
    ],
)
def test_everything_inside_the_repeated_blocks_is_eligible_and_nothing_else(
    architecture: str, blocks: str, sums: int
) -> None:
    module = build_untrained(load_card(f"timm:{architecture}"), 0).eval()
    wanted = {
        name
        for name, inner in module.named_modules()
        if re.match(blocks, name)
        and isinstance(inner, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.LayerNorm)
        and not re.search(r"downsample|shortcut", name)
    }
    layer_map = trace_layers(module, load_card(f"timm:{architecture}").input.size)
    added = [layer.name for layer in layer_map.layers if layer.kind == "residual sum"]
    assert {layer.name for layer in layer_map.layers} - set(added) == wanted
    assert len(added) == sums
    assert len({layer.name for layer in layer_map.layers}) == len(layer_map.layers)
    assert not [layer.name for layer in layer_map.layers if re.search(r"stem|head|downsample|shortcut", layer.name)]


def test_a_block_is_a_member_of_a_series_on_the_main_path() -> None:
    module = build_untrained(load_card("timm:test_resnet"), 0)
    assert find_blocks(module) == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        trace_layers(build_untrained(load_card("timm:test_resnet"), 0).train(), 64)


def test_an_unknown_layer_is_answered_with_the_near_one(resnet: Model) -> None:
    with pytest.raises(NameNotFound, match=r"no eligible layer 'layer3\.0\.con2'.*'layer3\.0\.conv2'"):
        resnet.layer_map["layer3.0.con2"]


def test_tracing_leaves_no_hook_behind(vit: Model) -> None:
    assert not any(inner._forward_hooks or inner._forward_pre_hooks for inner in vit.module.modules())


# ---------------------------------------------------------------- before the activation function


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_byobnet", "mobilenetv3_small_050"])
def test_a_normalisation_that_is_fused_with_its_activation_is_read_in_front_of_it(architecture: str) -> None:
    card = load_card(f"timm:{architecture}")
    module = randomize(build_untrained(card, 0))
    layer_map = trace_layers(module, card.input.size)
    pictures = torch.randn((3, 3, card.input.size, card.input.size), generator=torch.Generator().manual_seed(1))
    recording = record(module, pictures)
    with ActivationReader(module, layer_map) as reader:
        columns = reader.read(pictures)
    changed = 0
    for layer in layer_map.layers:
        if layer.kind != "normalisation":
            continue
        read = unit_activations(columns, layer.columns, layer.scale, layer.shift).double()
        before = mean_per_channel(layer_tensor(module, recording, layer.name), 1)
        behind = mean_per_channel(recording.outputs[layer.name], 1)
        scale = before.abs().max()
        assert (read - before).abs().max() < 1e-4 * scale
        changed += int((before - behind).abs().max() > 1e-2 * scale)
        if (before - behind).abs().max() > 1e-2 * scale:
            assert (read - behind).abs().max() > 1e-2 * scale
    assert changed >= 3


# ---------------------------------------------------------------- the canonical rule in numbers


def ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return ranks along the pictures, shape (pictures, units)."""
    return np.argsort(np.argsort(values, axis=0), axis=0)


def leak(module: nn.Module) -> nn.Module:
    """Let rectifiers leak: behind others, channels of a deep random network are silent for all pictures by chance."""
    for inner in list(module.modules()):
        for name, child in inner.named_children():
            if isinstance(child, nn.ReLU):
                setattr(inner, name, nn.LeakyReLU(0.2))
    return module


def mean_of_maps(tensor: torch.Tensor) -> torch.Tensor:
    """Return the means of feature maps, so that a large model's whole recording fits into memory."""
    return tensor.mean((2, 3)) if tensor.ndim == 4 else tensor


def check_classes(module: nn.Module, layer_map: LayerMap, size: int, keep: Keep) -> None:
    """Check that a class holds one ranking and that no two classes hold the same."""
    count = 16
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn((count, 3, size // 8, size // 8), generator=generator, dtype=torch.float64)
    pictures = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    recording = record(module.double(), pictures, keep)
    values: dict[str, NDArray[np.float64]] = {}
    for layer in layer_map.layers:
        tensor = layer_tensor(module, recording, layer.name)
        values[layer.name] = mean_per_channel(tensor, channel_axis(module, layer.name, tensor)).numpy()
    owners = layer_map.owners()
    representatives = np.zeros((count, layer_map.column_count))
    used = np.array([name != "" for name, _ in owners])
    for column in np.flatnonzero(used):
        name, channel = owners[column]
        representatives[:, column] = values[name][:, channel]
    assert used.sum() == sum(len(channels) for channels in layer_map.representatives().values())

    # Within a class: the same ranks, or exactly the opposite ones.
    ranked = ranks(representatives)
    for layer in layer_map.layers:
        own, first = ranks(values[layer.name]), ranked[:, layer.columns]
        same, opposite = (own == first).all(axis=0), (own == count - 1 - first).all(axis=0)
        assert (same | opposite).all(), layer.name

    # Between classes: no two have |r| = 1. Such two would also have the same projection, up to its sign, on
    # any direction, so only neighbours in the order of a projection need a look.
    distinct = representatives[:, used]
    centred = distinct - distinct.mean(axis=0)
    spread = np.linalg.norm(centred, axis=0)
    assert (spread > 1e-9 * np.abs(distinct).max(axis=0)).all()
    unit = centred / spread
    projection = np.abs(np.random.default_rng(0).normal(size=count) @ unit)
    order = np.argsort(projection)
    for step in range(1, 20):
        near = np.abs(projection[order[step:]] - projection[order[:-step]]) < 1e-9
        if not near.any():
            break
        left, right = order[:-step][near], order[step:][near]
        assert (np.abs((unit[:, left] * unit[:, right]).sum(axis=0)) < 1 - 1e-12).all()
    else:
        raise AssertionError("Too many classes with one projection.")


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet"])
def test_a_class_of_units_holds_one_ranking_and_no_two_classes_the_same(architecture: str) -> None:
    module = randomize(build_untrained(load_card(f"timm:{architecture}"), 0))
    check_classes(module, trace_layers(module, 96), 96, torch.clone)


def test_the_last_layer_of_an_mlp_is_a_copy_of_its_branch() -> None:
    module = randomize(build_untrained(load_card("timm:test_vit"), 0))
    layer_map = trace_layers(module, 160, load_card("vit_b32").layers)
    assert layer_map.unit_count == 6 * (64 + 64 + 64 + 192 + 64 + 64)
    assert sum(len(channels) for channels in layer_map.representatives().values()) == layer_map.unit_count - 6 * 64
    check_classes(module, layer_map, 160, torch.clone)


@pytest.mark.parametrize(("name", "size"), [("resnet50", 64), ("densenet201", 32)])
def test_a_class_of_units_holds_one_ranking_in_models_of_the_paper_too(name: str, size: int) -> None:
    card = load_card(name)
    module = leak(randomize(build_untrained(card, 0)))
    check_classes(module, trace_layers(module, size, card.layers), size, mean_of_maps)


def test_the_maximum_commutes_with_no_affine_map_so_every_layer_is_read() -> None:
    module = randomize(build_untrained(load_card("timm:test_resnet"), 0))
    layer_map = trace_layers(module, 96, aggregator="max")
    assert layer_map.column_count == layer_map.unit_count
    assert sum(len(channels) for channels in layer_map.representatives().values()) == layer_map.unit_count
    assert not layer_map.products


# ---------------------------------------------------------------- linear layers over positions


@pytest.mark.parametrize("width", [16, 24])
def test_a_layer_that_mixes_positions_follows_from_no_mean_over_them(width: int) -> None:
    # With 16 channels there are as many as positions: a product would fit in shape, and be wrong.
    torch.manual_seed(0)
    mixer = MlpMixer(img_size=32, patch_size=8, num_blocks=2, embed_dim=width, num_classes=3)
    module = randomize(mixer)
    layer_map = trace_layers(module, 32)
    assert {layer.name for layer in layer_map.layers} >= {f"blocks.0.mlp_{part}.fc1" for part in ("tokens", "channels")}
    pictures = torch.randn((3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    recording = record(module, pictures)
    with ActivationReader(module, layer_map) as reader:
        columns = reader.read(pictures)
    for layer in layer_map.layers:
        if kind_of(module.get_submodule(layer.name) if layer.kind != "residual sum" else module) is None:
            continue
        read = unit_activations(columns, layer.columns, layer.scale, layer.shift)
        want = recording.outputs[layer.name].mean(1)
        torch.testing.assert_close(read, want, rtol=1e-4, atol=1e-5)


def test_blocks_of_bare_containers_count_where_a_model_has_no_others() -> None:
    def block(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))

    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(3, 4, 3))
    model.add_module("blocks", nn.Sequential(block(4), block(4), block(4)))
    assert find_blocks(model) == ["blocks.0", "blocks.1", "blocks.2"]
    names = [layer.name for layer in trace_layers(model.eval(), 16).layers]
    assert names == [f"blocks.{n}.{part}" for n in range(3) for part in (0, 2)]


def test_a_plain_row_of_layers_counts_but_for_its_stem_and_the_classifier() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
                nn.Conv2d(6, 5, 3), nn.ReLU(),
            )  # fmt: skip
            self.classifier = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]

    layers = trace_layers(Plain().eval(), 16).layers
    assert [(layer.name, layer.width) for layer in layers] == [("features.3", 6), ("features.4", 6), ("features.6", 5)]


def test_what_cannot_be_read_comes_with_advice() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.two(torch.relu(self.one(x)))) * 2

    found = trace_layers(nn.Sequential(Block(), Block()).eval(), 8)
    assert [name for name, _ in found.unreadable] == ["0.add", "1.add"]
    assert all("nn.Identity()" in reason for _, reason in found.unreadable)
