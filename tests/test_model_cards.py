"""Model cards: the twelve that ship, those made from what timm knows, and who is whose relative."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from benchmark import model_zoo
from benchmark.errors import CardError, DocumentError, NameNotFound
from benchmark.experiment import ModelEntry
from benchmark.model_card import ModelCard, card_from_timm, card_names, read_card, training_from_tag
from benchmark.model_sources import load_card
from benchmark.model_zoo import load_model
from stimuli.materials import resolve_card

PAPER = [
    "clip_resnet50",
    "clip_vit_b32",
    "convnext_b",
    "densenet201",
    "googlenet",
    "resnet50",
    "resnet50_l2",
    "vit_b32",
    "wide_resnet50",
]
BUNDLED = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]

CARD = """
name = "mine"
title = "Mine"
timm = "test_resnet"
family = "resnet"
{more}
[weights]
source = "timm"
[input]
size = 160
crop_ratio = 0.95
interpolation = "bicubic"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""


def write_card(folder: Path, more: str = "") -> Path:
    path = folder / "mine.toml"
    path.write_text(CARD.format(more=more), encoding="utf-8")
    return path


def test_the_nine_models_of_the_paper_and_the_three_bundled_ones_have_cards() -> None:
    assert card_names() == sorted(PAPER + BUNDLED)


@pytest.mark.parametrize("name", PAPER + BUNDLED)
def test_a_card_says_what_it_must(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert timm.is_model(card.architecture)
    assert card.training is not None and card.parameters is not None
    assert card.licence != "unknown" and card.source
    assert (card.accuracy is not None) == (name in PAPER)
    assert not card.twin


@pytest.mark.parametrize(
    ("name", "images", "data"),
    [
        ("resnet50_l2", 1_281_167, "imagenet-1k"),
        ("clip_resnet50", 400_000_000, "openai-wit"),
        ("clip_vit_b32", 2_000_000_000, "laion-2b"),
    ],
)
def test_training_data_is_that_of_the_paper(name: str, images: int, data: str) -> None:
    training = load_card(name).training
    assert training is not None
    assert training.data == (data,) and training.images == images


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet5", "'resnet50'"),
        ("ResNet50", "'resnet50'"),
        ("googlnet", "'googlenet'"),
        ("efficientnet-lite0", "'efficientnet_lite0'"),
        ("timm:test_resnt", "'test_resnet'"),
        ("test_resnet.r160_in1", "'r160_in1k'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_near_one(name: str, near: str) -> None:
    with pytest.raises((NameNotFound, CardError)) as caught:
        load_card(name)
    assert near in str(caught.value)


def test_a_timm_name_without_its_mark_is_answered_with_how_to_write_it() -> None:
    with pytest.raises(NameNotFound, match=r"'resnet18'.*write 'timm:resnet18'"):
        load_card("resnet18")


def test_a_card_wins_over_a_timm_model_of_its_name() -> None:
    assert load_card("resnet50").timm == "resnet50.tv_in1k"
    assert load_card("timm:resnet50").timm.startswith("resnet50.")
    assert load_card("timm:resnet50").name != "resnet50"


def test_a_timm_model_needs_no_file_and_its_default_weights_are_named() -> None:
    card = load_card("timm:test_resnet")
    assert card.name == card.timm == "test_resnet.r160_in1k"
    assert card.input.size == 160
    assert card.family == "resnet"
    assert card == load_card("test_resnet.r160_in1k") == card_from_timm("test_resnet")


def test_the_parameters_of_a_model_without_a_file_are_counted() -> None:
    card = load_card("timm:test_resnet")
    model = load_model(card, weights="random")
    assert card.parameters is None
    assert model.card.parameters == sum(parameter.numel() for parameter in model.module.parameters())


@pytest.mark.parametrize(
    ("tag", "data", "images"),
    [
        ("a1_in1k", ("imagenet-1k",), 1_281_167),
        ("augreg_in21k", ("imagenet-21k",), 14_197_122),
        ("augreg_in21k_ft_in1k", ("imagenet-21k", "imagenet-1k"), 14_197_122),
        ("fb_in22k_ft_in1k_384", ("imagenet-21k", "imagenet-1k"), 14_197_122),
        ("openai", ("openai-wit",), 400_000_000),
        ("laion2b_ft_in1k", ("laion-2b", "imagenet-1k"), 2_000_000_000),
        ("lvd142m", ("lvd-142m",), 142_000_000),
    ],
)
def test_training_data_is_read_from_a_tag_that_says_it(tag: str, data: tuple[str, ...], images: int) -> None:
    training = training_from_tag(tag)
    assert training is not None
    assert training.data == data and training.images == images
    assert tag in training.note


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "fcmae",
        "dino",
        "webli_ft_in1k",  # WebLI, of unknown size
        "sw_in12k_ft_in1k",  # ImageNet-12k
        "fb_swsl_ig1b_ft_in1k",  # a billion pictures of Instagram
        "swag_ft_in1k",  # 3.6 billion of them
        "ns_jft_in1k",  # JFT-300M, without its labels
        "m30m_ft_in22k_in1k",  # a merger of 30 million
        "openai_ft_in12k_in1k",
    ],
)
def test_training_data_is_not_guessed_from_a_tag_that_says_only_part_of_it(tag: str) -> None:
    assert training_from_tag(tag) is None


@pytest.fixture
def unknown_training(tmp_path: Path) -> ModelCard:
    return read_card(write_card(tmp_path))


def test_unknown_training_data_is_asked_for_with_the_lines_to_write(
    unknown_training: ModelCard, checkpoint: Path
) -> None:
    with pytest.raises(CardError) as caught:
        load_model(unknown_training, weights=str(checkpoint), need_training=True)
    message = str(caught.value)
    assert "What mine" in message and "[[models]]" in message
    assert 'training_data = ["imagenet-1k"]' in message and "training_images = " in message
    assert load_model(unknown_training, weights=str(checkpoint)).card.training is None


def test_training_data_that_an_experiment_states_is_taken_over(tmp_path: Path, checkpoint: Path) -> None:
    entry = ModelEntry(card=str(write_card(tmp_path)), training_data=("stripes", "blots"), training_images=60)
    card = resolve_card(entry)
    assert card.training is not None
    assert card.training.data == ("stripes", "blots") and card.training.images == 60
    assert load_model(card, weights=str(checkpoint), need_training=True).card.training == card.training


def test_random_weights_need_no_training_data(unknown_training: ModelCard) -> None:
    assert load_model(unknown_training, weights="random", need_training=True).card.training is None


def test_parameters_that_contradict_the_model_are_an_error_with_both_numbers(tmp_path: Path) -> None:
    real = load_model(load_card("timm:test_resnet"), weights="random").card.parameters
    card = read_card(write_card(tmp_path, "parameters = 1_234"))
    with pytest.raises(CardError) as caught:
        load_model(card, weights="random")
    assert "mine" in str(caught.value) and "1,234" in str(caught.value) and f"{real:,}" in str(caught.value)


def test_patterns_that_match_nothing_are_an_error_that_shows_them(tmp_path: Path) -> None:
    card = read_card(write_card(tmp_path, 'layers = ["layr1.*.conv1"]'))
    with pytest.raises(CardError, match=r"No layer of mine.*'layr1\.\*\.conv1'.*match none"):
        load_model(card, weights="random")


def test_a_card_may_name_its_layers_by_patterns(tmp_path: Path) -> None:
    card = read_card(write_card(tmp_path, 'layers = ["layer1.*.conv1", "layer[2].0.bn1", "layer3.*"]'))
    names = [layer.name for layer in load_model(card, weights="random").layer_map.layers]
    # A star stands for one part of a path, and nothing else is special.
    assert names == ["layer1.0.conv1", "layer3.0"]


def test_an_unknown_key_of_a_card_suggests_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"model card mine\.toml.*paramters.*'parameters'"):
        read_card(write_card(tmp_path, "paramters = 3"))


def test_a_card_is_loaded_by_its_file(tmp_path: Path) -> None:
    path = write_card(tmp_path)
    assert load_card(str(path)) == read_card(path)
    with pytest.raises(DocumentError, match=r"There is no file .*absent\.toml"):
        load_card(str(tmp_path / "absent.toml"))


# ---------------------------------------------------------------- relatives


@pytest.mark.parametrize(
    ("first", "second", "related"),
    [
        ("efficientnet_lite0", "efficientnet_lite2", True),  # one family
        ("clip_resnet50", "resnet50", True),  # one family, other data
        ("vit_b32", "convnext_b", True),  # other families, the same data
        ("clip_vit_b32", "convnext_b", False),
        ("clip_resnet50", "clip_vit_b32", False),
        ("googlenet", "clip_vit_b32", False),
    ],
)
def test_relatives_share_a_family_or_training_data(first: str, second: str, related: bool) -> None:
    assert load_card(first).is_related(load_card(second)) is related
    assert load_card(second).is_related(load_card(first)) is related


def test_every_model_is_its_own_relative() -> None:
    assert all(load_card(name).is_related(load_card(name)) for name in card_names())


def test_a_twin_was_trained_on_nothing_and_keeps_its_family() -> None:
    twin = load_card("vit_b32-twin")
    assert twin.name == "vit_b32-twin" and twin.twin
    assert twin.training is None and twin.accuracy is None
    assert twin.architecture == load_card("vit_b32").architecture
    assert twin.is_related(load_card("clip_vit_b32"))  # both are vision transformers
    assert not twin.is_related(load_card("convnext_b"))  # whose data only the trained one shares


# -------------------------------------------------------------------- names that timm leads elsewhere


@pytest.mark.parametrize("name", ["hf_hub:timm/resnet50.a1_in1k", "timm:hf-hub:timm/resnet50.a1_in1k"])
def test_a_hub_address_of_timms_own_models_leads_to_the_model(name: str) -> None:
    assert load_card(name) == load_card("timm:resnet50.a1_in1k")


def test_a_name_that_timm_has_changed_leads_where_timm_leads_and_that_is_said() -> None:
    with pytest.warns(UserWarning, match="timm calls tf_efficientnet_b1_ns tf_efficientnet_b1.ns_jft_in1k today"):
        assert load_card("timm:tf_efficientnet_b1_ns").name == "tf_efficientnet_b1.ns_jft_in1k"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet50.", r"tag is missing after the dot.*timm:resnet50 .*a1_in1k"),
        ("resnet50.", r"tag is missing after the dot"),
        ("hf-hub:somebody/net", r"address of weights.*timm:ARCHITECTURE.*--weights"),
        ("local-dir:/weights", r"address of weights"),
        ("timm:timm/resnet50", r"no slash.*timm:resnet50"),
        ("timm:vit_base_patch16_sapiens2.fb", r"1024 x 768 pixels; vimi shows square"),
    ],
)
def test_a_timm_name_that_cannot_be_used_is_refused_with_what_to_write(name: str, said: str) -> None:
    with pytest.raises(CardError, match=said):
        load_card(name)


@pytest.mark.parametrize(
    ("name", "ratio", "mode"),
    [("timm:volo_d4_448.sail_in1k", 1.15, "center"), ("timm:eva02_base_patch14_448.mim_in22k_ft_in22k", 1.0, "squash")],
)
def test_what_timm_says_of_cropping_is_taken_over(name: str, ratio: float, mode: str) -> None:
    spec = load_card(name).input
    assert (spec.crop_ratio, spec.crop_mode) == (ratio, mode)


def test_only_weights_of_four_dimensions_are_laid_out_channels_last() -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
            self.rows = torch.nn.Parameter(torch.zeros(2, 3, 4, 5, 6))

    module = model_zoo._lay_out(Network(), torch.device("cpu"))
    assert module.blocks[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module.rows.is_contiguous()
