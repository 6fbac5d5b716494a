"""Own models: functions, entry points and networks of a notebook; their twins; the smoke test."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from benchmark.errors import CardError, DocumentError, NameNotFound, ObserverError, VimiError
from benchmark.experiment import Experiment
from benchmark.hashing import hash_state
from benchmark.model_card import ModelCard, read_card
from benchmark.model_sources import load_card
from benchmark.model_zoo import build_untrained, load_model
from benchmark.observers.embedding import embed_batch
from benchmark.own_models import explain_state_error, find_entry_points, offer_model, offered_names, withdraw_model
from benchmark.smoke_test import SmokeTest, smoke_test, varied_pictures
from benchmark.workflow import build, observe_study
from tests.conftest import write_pictures
from tests.experiments import FEW, small_experiment
from tests.test_command_line import refused, vimi

SIZE = 32
FACTS: dict[str, Any] = {"input": {"size": SIZE}, "training": {"data": ["stripes"], "images": 60}}

MODULE = """from tests.test_own_models import Net
from safetensors.torch import load_file

def make(pretrained=True):
    network = Net()
    if pretrained:
        network.load_state_dict(load_file("weights.safetensors"))
    return network

make.card = {"input": {"size": 32}, "training": {"data": ["stripes"], "images": 60}}
"""


class Block(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(torch.relu(self.norm(self.conv1(x))))


class Net(nn.Module):
    """A residual network as a user would write it, with a place for whatever a test wants to go wrong."""

    def __init__(self, wrong: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.head = nn.Linear(8, 10)
        self.wrong = wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wrong(torch.relu(self.stem(x)))
        return self.head(self.blocks(x).mean((2, 3)))


class Scaled(Net):
    """With a raw parameter, which no module resets."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 8).view(1, 8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.scale.mean()


def trained(make: Callable[[], nn.Module] = Net) -> nn.Module:
    """Return a network whose weights and batch statistics no initialiser makes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        network = make()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
    return network


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, in which they are, with a module of ten lines and its weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "my_model.py").write_text(MODULE)
    save_file(trained().state_dict(), "weights.safetensors")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"my_model", "other", "broken", "unfinished"}:
            del sys.modules[name]


@pytest.fixture
def offered() -> Iterator[Callable[..., ModelCard]]:
    """Offer networks, and forget them afterwards."""
    yield lambda network, name="mine", **facts: offer_model(network, name, **{**FACTS, **facts})
    for name in offered_names():
        withdraw_model(name)


def write(folder: Path, text: str, name: str = "other") -> str:
    """Write a module, after the imports that all of them need."""
    (folder / f"{name}.py").write_text(f"import torch\nfrom tests.test_own_models import Net, Scaled\n{text}")
    return f"{name}:make"


# -------------------------------------------------------------------- functions


def test_a_function_of_ten_lines_is_a_model(folder: Path) -> None:
    card = load_card("my_model:make")
    assert card.name == card.title == "my_model.make" and card.weights.source == "python:my_model:make"
    assert card.input.size == SIZE and card.timm == "" and card.family == "net"
    assert card.training is not None and card.training.images == 60
    assert card.source.startswith("my_model:make (my_model.py, hash ")
    model = load_model(card, need_training=True)
    assert model.weights_hash == hash_state(trained().state_dict())
    assert model.card.parameters == sum(p.numel() for p in trained().parameters())
    assert [layer.name for layer in model.layer_map.layers[:4]] == [
        "blocks.0.conv1", "blocks.0.norm", "blocks.0.conv2", "blocks.0.add",
    ]  # fmt: skip


def test_what_nobody_states_of_the_input_is_assumed_and_that_is_said(folder: Path) -> None:
    card = load_card(write(folder, "def make():\n    return Net()\nmake.card = {'input': {'size': 48}}\n"))
    assert (card.input.size, card.input.crop_ratio, card.input.mean[0]) == (48, 0.875, 0.485)
    assert card.input_note == "assumed, since nobody states it: crop_ratio, interpolation, mean, std"
    assert load_card("my_model:make").input_note.endswith("crop_ratio, interpolation, mean, std")


def test_what_a_network_of_timm_says_of_its_input_and_family_is_taken_over(folder: Path) -> None:
    card = load_card(write(folder, "import timm\ndef make():\n    return timm.create_model('test_resnet')\n"))
    config = timm.get_pretrained_cfg("test_resnet")
    assert config is not None
    assert (card.input.size, card.input.crop_ratio, card.input.mean) == (160, config.crop_pct, tuple(config.mean))
    assert card.family == "resnet" and card.input_note == ""


def test_how_pictures_are_cropped_is_the_centre_unless_author_or_network_says_otherwise(folder: Path) -> None:
    """It is the one fact of an input that has a default, and is not among the assumed ones."""
    plain = load_card(write(folder, "def make():\n    return Net()\nmake.card = {}\n"))
    assert plain.input.crop_mode == "center" and "crop_mode" not in plain.input_note
    line = "def make():\n    return Net()\nmake.card = {'input': {'size': 48, 'crop_mode': 'squash'}}\n"
    assert load_card(write(folder, line, "stated")).input.crop_mode == "squash"
    told = "def make():\n    net = Net()\n    net.pretrained_cfg = {'crop_mode': %r}\n    return net\n"
    assert load_card(write(folder, told % "border", "told")).input.crop_mode == "border"
    with pytest.raises(VimiError, match="crop_mode"):
        load_card(write(folder, told % "diagonal", "unknown"))


def test_a_function_may_name_its_model_and_a_name_that_is_taken_is_refused(folder: Path) -> None:
    line = "def make():\n    return Net()\nmake.card = {'name': %r}\n"
    assert load_card(write(folder, line % "net-8")).name == "net-8"
    for number, (name, word) in enumerate(
        [
            ("resnet50", "is already the name of a model"),
            ("a/b", "letters, digits"),
            ("x-twin", "'-twin'"),
            ("resnet18.a1", "already"),
        ]
    ):
        with pytest.raises(CardError, match=word):
            load_card(write(folder, line % name, f"other{number}"))
        del sys.modules[f"other{number}"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("make = 3", ["other:make is a int", "def make(): return"]),
        ("make = Net()", ["other:make is a Net", "function that returns"]),
        ("def make():\n    Net()", ["'NoneType' instead of a torch.nn.Module", "'return'"]),
        ("def make():\n    return Net(), {}", ["'tuple' instead", "FUNCTION.card"]),
        ("def make(size):\n    return Net()", ["needs the arguments size", "defaults"]),
        ("def make():\n    x = 1\n    return x / 0", ["ZeroDivisionError: division by zero", "other.py, line 5"]),
        ("def make():\n    return Net(\n", ["Importing other", "SyntaxError", "other.py, line 4"]),
        ("import no_such_package\ndef make(): ...", ["no_such_package", "ModuleNotFoundError", "other.py, line 3"]),
        ("def make():\n    return Net()\nmake.card = 3", ["'card' that is a int", "dictionary"]),
        (
            "def make():\n    return Net()\nmake.card = {'timm': 'x'}",
            ["other:make.card", "'timm' is read from the network"],
        ),
        ("def make():\n    return Net()\nmake.card = {'famly': 'x'}", ["other:make.card", "famly", "'family'"]),
        ("def make():\n    return Net()\nmake.card = {'input': {'sise': 3}}", ["[input] sise", "'size'"]),
        ("def mke():\n    return Net()", ["no function in other 'make'", "'mke'"]),
    ],
)
def test_what_is_wrong_with_a_function_is_said_without_a_traceback(folder: Path, text: str, words: list[str]) -> None:
    with pytest.raises((CardError, DocumentError, NameNotFound)) as caught:
        load_card(write(folder, text))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_modl:make", ["no Python module 'my_modl'", "'my_model'", "current folder"]),
        ("my_model.part:make", ["no Python module 'my_model.part'"]),
        ("my_model.py:make", ["my_model:make"]),
        ("models/my_model:make", ["my_model:make"]),
        ("my_model:", ["MODULE:FUNCTION"]),
        ("my model:make", ["MODULE:FUNCTION"]),
    ],
)
def test_a_function_that_is_not_there_is_answered_with_the_near_one(folder: Path, name: str, words: list[str]) -> None:
    with pytest.raises((CardError, NameNotFound)) as caught:
        load_card(name)
    for word in words:
        assert word in str(caught.value)


def test_weights_that_a_function_can_not_load_are_named_with_the_ways_out(folder: Path) -> None:
    (folder / "weights.safetensors").rename("elsewhere.safetensors")
    card = load_card("my_model:make")
    with pytest.raises(
        CardError, match=r"make\(pretrained=True\) raised FileNotFoundError.*line 7.*weights = \"FILE\""
    ):
        load_model(card)
    model = load_model(card, weights="elsewhere.safetensors")
    assert model.name.startswith("my_model.make@")
    assert model.weights_hash == hash_state(trained().state_dict())


def test_unknown_training_data_is_asked_for_beside_the_function_too(folder: Path) -> None:
    card = load_card(write(folder, "def make():\n    return Net()\nmake.card = {'input': {'size': 32}}\n"))
    with pytest.raises(CardError) as caught:
        load_model(card, need_training=True)
    for word in (
        "What other.make was trained on",
        "[[models]]",
        "FUNCTION.card",
        "--training-data",
        "--training-images",
    ):
        assert word in str(caught.value)


def test_a_card_in_a_file_may_name_a_function_in_place_of_timm(folder: Path) -> None:
    text = """
    name = "filed"
    title = "Filed"
    family = "net"
    {more}
    [weights]
    source = "{source}"
    [input]
    size = 32
    crop_ratio = 1.0
    interpolation = "bilinear"
    mean = [0.5, 0.5, 0.5]
    std = [0.5, 0.5, 0.5]
    """
    path = folder / "filed.toml"
    path.write_text(text.format(source="python:my_model:make", more=""))
    assert load_model(load_card("filed.toml")).weights_hash == hash_state(trained().state_dict())
    path.write_text(text.format(source="python:my_model:make", more='timm = "test_resnet"'))
    with pytest.raises(DocumentError, match="leave 'timm' out"):
        read_card(path)
    path.write_text(text.format(source="timm", more=""))
    with pytest.raises(DocumentError, match="'timm' is required"):
        read_card(path)


# -------------------------------------------------------------------- entry points


@pytest.fixture
def package(folder: Path) -> Callable[..., None]:
    """Install a package that offers models: what pip would leave behind."""

    def install(name: str, **models: str) -> None:
        information = folder / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{model} = {address}" for model, address in models.items()]
        (information / "entry_points.txt").write_text("\n".join(["[vimi.models]", *lines]))
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))

    return install


def test_a_package_offers_models_by_name(package: Callable[..., None]) -> None:
    package("something", tiny="my_model:make")
    assert find_entry_points() == {"tiny": "my_model:make"}
    card = load_card("tiny")
    assert card.name == "tiny" and card.weights.source == "python:my_model:make"
    assert load_card("tiny-twin").twin
    listed = vimi("models")
    assert listed.code == 0 and "tiny" in listed.out and "my_model:make" in listed.out
    with pytest.raises(NameNotFound, match="'tiny'"):
        load_card("tny")


def test_a_card_wins_over_an_entry_point_and_that_is_said(package: Callable[..., None]) -> None:
    from benchmark import model_sources

    package("something", googlenet="my_model:make")
    model_sources._shipped_card.cache_clear()
    with pytest.warns(UserWarning, match=r"offers a model 'googlenet'.*'my_model:make'"):
        assert load_card("googlenet").timm
    model_sources._shipped_card.cache_clear()


def test_two_packages_that_offer_one_name_are_told_apart(package: Callable[..., None]) -> None:
    package("first", tiny="my_model:make")
    package("second", tiny="other:make")
    with pytest.raises(CardError, match=r"Two installed packages.*my_model:make and other:make|other:make and my_mod"):
        load_card("tiny")


# -------------------------------------------------------------------- networks of a notebook


def test_a_network_of_this_process_is_a_model_and_is_left_as_it_was(offered: Callable[..., ModelCard]) -> None:
    network = trained().train()
    card = offered(network, family="resnet", layers=["blocks.*.conv1"])
    assert load_card("mine") == card and card.weights.source == "object:mine" and card.family == "resnet"
    model = load_model(load_card("mine"), need_training=True)
    assert [layer.name for layer in model.layer_map.layers] == [f"blocks.{n}.conv1" for n in range(3)]
    assert model.weights_hash == hash_state(network.state_dict())
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())
    again = offered(trained(Scaled))  # a cell that runs again
    assert again.family == "scaled" and load_model(load_card("mine")).weights_hash != model.weights_hash


def test_a_network_that_was_offered_to_another_process_is_asked_for_again(offered: Callable[..., ModelCard]) -> None:
    card = offered(trained())
    withdraw_model("mine")
    for load in (lambda: load_card("mine"), lambda: load_model(card), lambda: load_model(card.as_twin())):
        with pytest.raises(VimiError, match=r"offer_model\(network, 'mine'\).*each new process"):
            load()


def test_what_can_not_be_offered_is_refused(
    offered: Callable[..., ModelCard], folder: Path, package: Callable[..., None]
) -> None:
    package("something", tiny="my_model:make")
    for network, name, facts, word in (
        ({}, "mine", {}, "is a dict; offer"),
        (trained(), "resnet50", {}, "is already the name of a model"),
        (trained(), "a:b", {}, "no ':'"),
        (trained(), "tiny", {}, "An installed package"),
        (trained(), "mine", {"inputs": {"size": 3}}, "'input'"),
        (trained(), "mine", {"layers": 3}, "layers"),
    ):
        with pytest.raises((CardError, DocumentError), match=word):
            offered(network, name, **facts)
    assert offered_names() == []


# -------------------------------------------------------------------- twins


def test_a_twin_is_the_untrained_network_of_a_seed(folder: Path) -> None:
    card = load_card("my_model:make").as_twin()
    state = torch.random.get_rng_state()
    first, again, other = (hash_state(build_untrained(card, seed).state_dict()) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_a_way_to_make_it_untrained_the_network_resets_itself(offered: Callable[..., ModelCard]) -> None:
    network = trained()
    twin = build_untrained(offered(network).as_twin(), 3)
    before, after = network.state_dict(), twin.state_dict()
    for name in before:
        if name.endswith(("weight", "conv1.bias")):
            assert not torch.equal(before[name], after[name]), name
    assert bool((after["blocks.1.norm.running_mean"] == 0).all()) and bool((after["blocks.1.norm.weight"] == 1).all())
    assert not torch.equal(network.state_dict()["stem.weight"], after["stem.weight"])


def test_a_parameter_that_nothing_resets_is_refused_by_name(folder: Path, offered: Callable[..., ModelCard]) -> None:
    with pytest.raises(CardError, match=r"keep trained values: scale belong.*offer_model.*untrained=FUNCTION"):
        build_untrained(offered(trained(Scaled)).as_twin(), 0)
    text = "def make():\n    return Scaled()\nmake.card = {'input': {'size': 32}, 'family': 'x'}\n"
    with pytest.raises(CardError, match=r"scale belong.*other:make take a keyword 'pretrained'"):
        build_untrained(load_card(write(folder, text)).as_twin(), 0)


def test_a_stored_buffer_that_nothing_resets_is_refused_by_name(offered: Callable[..., ModelCard]) -> None:
    network = trained()
    network.register_buffer("centre", torch.rand(8))
    with pytest.raises(CardError, match="centre belong"):
        build_untrained(offered(network).as_twin(), 0)


def test_a_table_that_training_starts_from_is_no_trained_value(offered: Callable[..., ModelCard]) -> None:
    network = trained(Scaled)
    card = offered(network, untrained=Scaled)
    with pytest.raises(CardError, match="scale are the trained values"):
        build_untrained(card.as_twin(), 0)  # this one was never trained away from where it began
    with torch.no_grad():
        network.scale += 0.1  # type: ignore[operator]
    assert torch.equal(build_untrained(card.as_twin(), 0).scale, Scaled().scale)  # type: ignore[arg-type]


def kept_weights() -> nn.Module:
    """Return what a function that forgets about ``pretrained`` returns for the twin."""
    network = Net()
    network.stem.load_state_dict(trained().stem.state_dict())  # type: ignore[union-attr, operator]
    return network


@pytest.mark.parametrize(
    ("untrained", "words"),
    [
        (
            kept_weights,
            [
                "twin of mine can't",
                "stem.weight, stem.bias are the trained values",
                "two different seeds",
                "untrained=",
            ],
        ),
        (trained, ["stem.weight", "and 22 more come out the same", "set a seed itself"]),
        (lambda: 3, ["the untrained= of", "'int' instead"]),
        (lambda: 1 / 0, ["ZeroDivisionError", "test_own_models.py, line"]),
    ],
)
def test_an_untrained_network_that_is_not_random_is_refused(
    offered: Callable[..., ModelCard], untrained: Callable[[], Any], words: list[str]
) -> None:
    card = offered(trained(), untrained=untrained)
    with pytest.raises(CardError) as caught:
        build_untrained(card.as_twin(), 0)
    for word in words:
        assert word in str(caught.value)


# -------------------------------------------------------------------- studies


def test_a_whole_study_is_built_from_an_own_model_with_its_twin_and_answered_by_it(
    folder: Path, tmp_path: Path, offered: Callable[..., ModelCard]
) -> None:
    pictures = write_pictures(tmp_path / "pictures", FEW)
    models = [{"card": "my_model:make", "twin": True}, {"card": "mine", "weights": "random"}]
    offered(trained(), training={"data": ["blots"], "images": 60}, family="mine")
    experiment: Experiment = small_experiment(pictures, folder / "weights.safetensors", models=models)
    study = build(experiment, tmp_path / "study")
    known = study.manifest["models"]
    assert set(known) == {"my_model.make", "my_model.make-twin", "mine@random"}
    assert known["my_model.make"]["card"]["weights"]["source"] == "python:my_model:make"
    assert len({facts["weights_hash"] for facts in known.values()}) == 3
    observe_study(study, "features:mine")
    withdraw_model("mine")
    with pytest.raises(NameNotFound, match="offer_model"):
        build(experiment, tmp_path / "study").experiment  # noqa: B018
        raise AssertionError("an offered network must be asked for")


def test_pictures_are_compared_by_what_goes_into_the_last_linear_layer(offered: Callable[..., ModelCard]) -> None:
    offered(trained())
    model = load_model(load_card("mine"))
    pixels = torch.from_numpy(varied_pictures(3, SIZE, 0))
    network = model.module
    assert isinstance(network, Net)
    with torch.no_grad():
        expected = network.blocks(torch.relu(network.stem(model.prepare(pixels)))).mean((2, 3))
    assert torch.allclose(embed_batch(model, pixels), nn.functional.normalize(expected, dim=1), atol=1e-6)
    network.head = nn.Identity()  # type: ignore[assignment]
    with pytest.raises(ObserverError, match=r"get_classifier\(\).*features:NAME@blocks"):
        embed_batch(model, pixels)


# -------------------------------------------------------------------- smoke test


def failures(tested: SmokeTest) -> dict[str, str]:
    return {check.name: check.words for check in tested.failed}


def test_a_sound_model_passes_every_check(folder: Path) -> None:
    tested = smoke_test(load_card("my_model:make"), seed=3, device="cpu", need_training=True)
    tested.require()
    assert [check.name for check in tested.checks] == [
        "network", "training data", "parameters", "same weights again", "forward pass", "layers", "activations",
        "evaluation mode", "neighbours", "channels", "gradient", "twin",
    ]  # fmt: skip
    assert tested.card.parameters and tested.layers == 12 and tested.units == 96
    assert tested.weights_hash == hash_state(trained().state_dict())
    assert tested.seconds_per_picture is not None and tested.seconds_per_picture > 0
    random = smoke_test(load_card("timm:test_vit"), weights="random", synthetic=False, device="cpu")
    assert random.passed and not {"twin", "gradient", "training data"} & {check.name for check in random.checks}


def with_nan(x: torch.Tensor) -> torch.Tensor:
    return x / 0 - x / 0


def with_dropout(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.dropout(x, 0.5)  # which does not ask whether the network is in training


def with_batch(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(0, keepdim=True)


def with_one_picture(x: torch.Tensor) -> torch.Tensor:
    if len(x) > 2:
        raise ValueError("at most two pictures")
    return x


@pytest.mark.parametrize(
    ("wrong", "check", "words"),
    [
        (with_nan, "forward pass", ["NaN or infinity", "mean and std"]),
        (with_dropout, "evaluation mode", ["second time", "blocks.0.conv1", "dropout"]),
        (with_batch, "neighbours", ["depend on the other pictures", "batch norm"]),
        (torch.zeros_like, "channels", ["100 % of the channels", "all of blocks.0.conv1"]),
        (torch.Tensor.detach, "gradient", ["no gradient", "blocks.0.conv1", '["natural"]']),
        (with_one_picture, "activations", ["a batch of 6 pictures raises ValueError", "any number"]),
        (lambda x: x[:, :3], "forward pass", ["can't be run on two RGB pictures of 32 px", "RuntimeError"]),
    ],
)
def test_what_would_spoil_a_build_is_found(
    offered: Callable[..., ModelCard], wrong: Callable[[torch.Tensor], torch.Tensor], check: str, words: list[str]
) -> None:
    tested = smoke_test(offered(trained(lambda: Net(wrong)), untrained=lambda: Net(wrong)), device="cpu")
    found = failures(tested)
    assert check in found
    with pytest.raises(CardError, match="mine can't be studied") as caught:
        tested.require()
    for word in words:
        assert word in found[check] and word in str(caught.value)


def test_a_network_without_blocks_is_asked_for_its_layers(offered: Callable[..., ModelCard]) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    tested = smoke_test(offered(plain), device="cpu")
    (words,) = failures(tested).values()
    assert "no repeated blocks" in words and 'layers = ["*"]' in words and "modules are 0, 1, 2" in words
    assert smoke_test(offered(plain, layers=["0"]), device="cpu").passed


def test_a_network_of_other_parameters_or_layers_than_its_card_is_found(offered: Callable[..., ModelCard]) -> None:
    found = failures(smoke_test(offered(trained(), parameters=5), device="cpu"))
    assert set(found) == {"parameters"} and "says 5 parameters" in found["parameters"]
    found = failures(smoke_test(offered(trained(), untrained=Scaled), device="cpu"))
    assert set(found) == {"twin"} and "parameters differ from the trained one's" in found["twin"]


def test_what_is_no_control_is_no_twin(offered: Callable[..., ModelCard]) -> None:
    def dead() -> nn.Module:
        network = plain_network()
        for parameter in network.parameters():
            nn.init.constant_(parameter, float(torch.rand(())))
        nn.init.constant_(network[0].bias, -1e6)  # type: ignore[arg-type]
        return network

    def broken() -> nn.Module:
        network = plain_network()
        nn.init.constant_(network[2].weight, float("nan"))  # type: ignore[arg-type]
        return network

    for untrained, words in ((dead, "can't serve as a control"), (broken, "NaN or infinite")):
        card = offered(plain_network(), untrained=untrained, layers=["1", "2"])
        found = failures(smoke_test(card, synthetic=False, device="cpu"))
        assert set(found) == {"twin"} and words in found["twin"]


def plain_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_a_network_that_is_no_ordinary_one_fails_a_check(offered: Callable[..., ModelCard]) -> None:
    def lazy() -> nn.Module:
        return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU())

    found = failures(smoke_test(offered(lazy(), untrained=lazy, family="lazy"), device="cpu"))
    assert "none lazy" in found["network"]


def test_weights_that_are_drawn_anew_each_time_are_no_weights(folder: Path) -> None:
    text = "def make():\n    return Net()\nmake.card = {'input': {'size': 32}, 'family': 'x'}\n"
    found = failures(smoke_test(load_card(write(folder, text)), device="cpu"))
    assert set(found) == {"same weights again"} and 'weights = "random"' in found["same weights again"]


def test_what_can_not_even_be_built_fails_the_first_check_alone(folder: Path) -> None:
    card = load_card("my_model:make")
    (folder / "weights.safetensors").unlink()
    tested = smoke_test(card.model_copy(update={"training": None}), need_training=True, device="cpu")
    assert set(failures(tested)) == {"network", "training data"} == {check.name for check in tested.checks}
    assert (tested.layers, tested.units, tested.weights_hash, tested.seconds_per_picture) == (0, 0, "", None)


def test_the_command_line_shows_and_checks_own_models(folder: Path) -> None:
    shown = vimi("models", "show", "my_model:make")
    assert shown.code == 0
    for word in ("my_model.make", "family net", "stripes: 60 pictures", "assumed, since nobody states it", "12 layers"):
        assert word in shown.out
    checked = vimi("models", "check", "my_model:make")
    assert checked.code == 0 and "my_model.make can be studied" in checked.out and "twin" in checked.out
    write(folder, "def make():\n    return Scaled()\n")
    outcome = vimi("models", "check", "other:make")
    refused(outcome, "other.make can't be studied", "scale belong", "same weights again")
    assert "fail" in outcome.out
    refused(vimi("models", "check", "my_model:mak"), "'make'")


def test_pictures_of_the_smoke_test_differ_and_can_be_made_again() -> None:
    first, again, other = (varied_pictures(4, 24, 1, number) for number in (0, 0, 1))
    assert first.shape == (4, 3, 24, 24) and (first == again).all() and not (first == other).all()
    assert len({picture.tobytes() for picture in first}) == 4


def test_what_lies_in_the_current_folder_hides_nothing_of_vimis(folder: Path) -> None:
    (folder / "analysis.py").write_text("raise RuntimeError('a user\\'s own analysis')\n")
    (folder / "neighbour.py").write_text("SIZE = 48\n")
    code = (
        "from benchmark.model_sources import load_card\nload_card('other:make')\n"
        "import analysis; print(analysis.__file__)"
    )
    (folder / "other.py").write_text(
        "import torch, neighbour\nfrom torch import nn\ndef make():\n    import analysis.published\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=folder, timeout=500)
    assert done.returncode == 0, done.stderr
    assert str(folder) not in done.stdout and "analysis" in done.stdout


class Halved(Net):
    """A network that, untrained, has a branch which says nothing."""

    def __init__(self) -> None:
        super().__init__()
        for name, parameter in self.named_parameters():
            if "blocks.1" in name:
                nn.init.zeros_(parameter)


def test_what_should_be_known_of_a_model_that_can_be_studied_is_no_failure(offered: Callable[..., ModelCard]) -> None:
    tested = smoke_test(offered(trained(), untrained=Halved, training=None), device="cpu")
    doubts = {check.name: check.words for check in tested.checks if check.doubtful}
    assert tested.passed and set(doubts) == {"training data", "twin"}
    assert "training_images under [[models]]" in doubts["training data"]
    assert re.search(r"\d+ of the random-weight twin's \d+ units are the same", doubts["twin"])


def test_a_state_that_does_not_fit_is_explained_in_one_line_with_its_keys() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2))
    wrapped = {f"module.{name}": value for name, value in plain.state_dict().items()}
    with pytest.raises(RuntimeError) as caught:
        plain.load_state_dict(wrapped)
    words = explain_state_error(str(caught.value))
    assert "missing 0.weight, 0.bias, 1.weight and 3 more; unexpected module.0.weight" in words
    assert 'removeprefix("module.")' in words and "\n" not in words
    with pytest.raises(RuntimeError) as caught:
        plain.load_state_dict({**plain.state_dict(), "2.weight": torch.zeros(3, 4)})
    words = explain_state_error(str(caught.value))
    assert "another size: 2.weight, copying a param with shape torch.Size([3, 4])" in words
    assert explain_state_error("out of memory") == ""


def test_a_mistyped_name_gets_the_near_one_and_no_word_about_notebooks() -> None:
    with pytest.raises(NameNotFound) as caught:
        load_card("efficientnet_liteO")
    assert "'efficientnet_lite0'" in str(caught.value) and "notebook" not in str(caught.value)
    with pytest.raises(NameNotFound, match="A network of a notebook"):
        load_card("zzz_qqq")
