"""Flags of units have no scale, and constant units get no task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from benchmark import model_zoo
from benchmark.layers import Layer, LayerMap, TensorPlace
from benchmark.model_card import ModelCard
from benchmark.model_sources import load_card
from benchmark.model_zoo import build_untrained
from benchmark.progress import Reporter
from benchmark.protocol import Window, Windows, load_protocol
from benchmark.study import Study
from benchmark.units import Unit
from stimuli import building
from stimuli.activations import Activations
from stimuli.building import Builder
from stimuli.order_statistics import Extremes
from stimuli.unit_statistics import UnitStatistics, choose_used, describe, layer_ranges
from tests.conftest import make_experiment

WINDOWS = Windows(400, Window(0, 20), {"easy": Window(20, 10)})
NORMAL = np.random.default_rng(0).normal(size=400).astype(np.float32)
RARE = np.where(np.arange(400) % 50 == 0, 1, 0.001 * NORMAL).astype(np.float32)


def described(values: NDArray[Any], layer_range: float = 6.0, factor: float = 1.0) -> UnitStatistics:
    column = (values * factor).astype(np.float32)
    return describe(column, np.argsort(column, kind="stable"), layer_range * factor, WINDOWS)


UNITS = {
    "ordinary": (NORMAL, ""),
    "shifted": (NORMAL + 100, ""),
    "relu-like": (np.maximum(NORMAL, 0), ""),
    "exactly constant": (np.full(400, 3.0), "constant"),
    "zero": (np.zeros(400), "constant"),
    "constant but for rounding": (3 + 1e-7 * np.sign(NORMAL), "constant"),
    "a billionth of its layer": (1e-9 * NORMAL, "constant"),
    "dead": (1e-4 * NORMAL, "dead"),
    "silent": (RARE, "silent"),
    "silent below": (-RARE, "silent"),
}


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_flagged_as_what_it_is(name: str) -> None:
    values, flag = UNITS[name]
    assert described(values).flag == flag


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("factor", [1e-6, 1e-3, 7.0, 1e6, -1.0, -1e-6])
def test_multiplying_a_layer_by_any_number_changes_no_flag(name: str, factor: float) -> None:
    values, flag = UNITS[name]
    column = (values * factor).astype(np.float32)
    layer_range = abs(6.0 * factor)
    assert describe(column, np.argsort(column, kind="stable"), layer_range, WINDOWS).flag == flag


@settings(max_examples=100, deadline=None)
@given(
    seed=some.integers(0, 10_000),
    spread=some.floats(-7, 1),
    shift=some.sampled_from([0.0, 1.0, -40.0]),
    zeros=some.floats(0, 0.99),
    exponent=some.integers(-20, 20),
)
def test_scaling_by_powers_of_two_changes_no_flag_and_no_scale_free_number(
    seed: int, spread: float, shift: float, zeros: float, exponent: int
) -> None:
    generator = np.random.default_rng(seed)
    values = np.where(generator.random(400) < zeros, 0, generator.normal(size=400)) * 10**spread + shift
    first, second = described(values), described(values, factor=2.0**exponent)
    for name in ("flag", "range_over_deviation", "relative_range", "positive_share", "central_share", "query_gap",
                 "tie_share"):  # fmt: skip
        a, b = getattr(first, name), getattr(second, name)
        assert a == b if isinstance(a, str) else a == pytest.approx(b, rel=1e-9, nan_ok=True), name


def test_the_numbers_are_those_of_the_column() -> None:
    values = np.arange(400, dtype=np.float32)
    found = described(values, layer_range=798)
    assert (found.low, found.high, found.mean) == (0, 399, 199.5)
    assert found.deviation == pytest.approx(values.std())
    assert found.range_over_deviation == pytest.approx(399 / values.std())
    assert found.relative_range == 0.5
    assert found.positive_share == 399 / 400
    assert found.central_share == pytest.approx(0.9)
    assert found.query_gap == pytest.approx((399 - 24.5 - 24.5) / values.std(), rel=1e-6)
    assert found.tie_share == 0


def test_the_tie_share_counts_all_pictures_that_share_their_activation() -> None:
    assert described(np.maximum(NORMAL, 0)).tie_share == (NORMAL <= 0).mean()
    assert described(np.repeat(np.arange(200), 2)).tie_share == 1
    assert described(np.array([0, 0, *range(1, 399)])).tie_share == 2 / 400


# -------------------------------------------------------------------- ranges of layers


def activations_of(spans: list[float], means: list[float], scale: list[float]) -> tuple[Activations, LayerMap]:
    count = len(spans)
    columns = np.arange(count)
    layer = Layer("it", "convolution", columns, np.array(scale), np.zeros(count), TensorPlace("it", "output", 1))
    low = np.array(means, np.float32)[:, None] - np.array(spans, np.float32)[:, None] / 2
    high = low + np.array(spans, np.float32)[:, None]
    places = np.zeros((count, 1), np.int32)
    sides = Extremes(low, places), Extremes(high, places)
    return Activations((), np.zeros((0, 2), np.float32), *sides, {}), LayerMap((layer,), ())


@pytest.mark.parametrize("factor", [1.0, 2.0**-20, 2.0**20])
def test_a_layers_range_is_the_median_of_its_units_that_are_not_constant(factor: float) -> None:
    spans = [factor * span for span in (0.0, 1.0, 2.0, 9.0, 0.0, 0.0, 0.0)]
    means = [factor] * len(spans)
    measured, layer_map = activations_of(spans, means, [1.0] * len(spans))
    assert layer_ranges(measured, layer_map)["it"] == pytest.approx(2 * factor)
    measured, layer_map = activations_of(spans, means, [-3.0] * len(spans))
    assert layer_ranges(measured, layer_map)["it"] == pytest.approx(6 * factor)


def test_a_layer_of_constant_units_has_no_range_and_its_units_are_constant() -> None:
    measured, layer_map = activations_of([0.0, 0.0], [1.0, 0.0], [1.0, 1.0])
    layer_range = layer_ranges(measured, layer_map)["it"]
    assert layer_range == 0
    assert described(np.ones(400), layer_range).flag == "constant"


# -------------------------------------------------------------------- who is used


@given(
    flags=some.lists(some.sampled_from(["", "constant", "dead", "silent"]), max_size=30), wanted=some.integers(0, 35)
)
def test_the_first_units_that_are_not_constant_are_used(flags: list[str], wanted: int) -> None:
    used = choose_used(flags, wanted)
    able = [place for place, flag in enumerate(flags) if flag != "constant"]
    assert [place for place, kept in enumerate(used) if kept] == able[:wanted]


def silence(module: nn.Module, channels: slice) -> None:
    """Make units of a layer constant."""
    module.get_submodule("layer1.0.conv1").weight.data[channels] = 0


@pytest.fixture(scope="module")
def half_silent(labelled_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose model has some constant units, and whose twin has others; built up to its exemplars."""
    checkpoint = tmp_path_factory.mktemp("weights") / "half.safetensors"
    module = build_untrained(load_card("timm:test_resnet"), 7)
    silence(module, slice(0, 16))
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, str(checkpoint))
    experiment = make_experiment(labelled_folder, checkpoint, units={"per_model": 32})
    models = tuple(entry for entry in experiment.models if entry.twin)
    study = Study.create(tmp_path_factory.mktemp("study") / "half", experiment.model_copy(update={"models": models}))

    def whole_layer(model: str, *args: object, **options: object) -> list[Unit]:
        return [Unit(model, "layer1.0.conv1", index) for index in range(32)]

    def with_silent_twin(card: ModelCard, seed: int) -> nn.Module:
        built = build_untrained(card, seed)
        if card.twin:
            silence(built, slice(8, 24))
        return built

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setattr(model_zoo, "build_untrained", with_silent_twin)
        patch.setattr(building, "draw_units", whole_layer)
        builder = Builder(study, "cpu", False, Reporter())
        for stage in ("units", "activations", "exemplars"):
            builder.run(stage)
    return study


def constant_channels(study: Study, twin: bool) -> set[int]:
    statistics = study.statistics()
    own = statistics[statistics["model"].str.endswith("-twin") == twin]
    return set(own.loc[(own["flag"] == "constant") & (own["layer"] == "layer1.0.conv1"), "index"])


def test_constant_units_are_reported_and_get_no_tasks(half_silent: Study) -> None:
    assert constant_channels(half_silent, twin=False) == set(range(16))
    statistics = half_silent.statistics()
    constant = statistics[statistics["flag"] == "constant"]
    assert not constant["used"].any()
    shown = half_silent.stimuli()
    asked = set(zip(shown["model"], shown["layer"], shown["index"]))
    assert not asked & set(zip(constant["model"], constant["layer"], constant["index"]))
    used = statistics[statistics["used"]]
    assert set(zip(used["model"], used["layer"], used["index"])) <= asked
    flags = half_silent.manifest["stages"]["exemplars"]["flags"]
    for model, own in constant.groupby("model"):
        assert flags[model]["constant"] == len(own)


def test_a_twin_has_its_models_units_but_for_those_that_are_constant_in_it(half_silent: Study) -> None:
    assert constant_channels(half_silent, twin=True) == set(range(8, 24))
    statistics = half_silent.statistics()
    is_twin = statistics["model"].str.endswith("-twin")
    units = [set(zip(part["layer"], part["index"])) for part in (statistics[~is_twin], statistics[is_twin])]
    assert units[0] == units[1]
    used = statistics[statistics["used"]]
    of_model, of_twin = (
        set(zip(part["layer"], part["index"]))
        for part in (used[~used["model"].str.endswith("-twin")], used[used["model"].str.endswith("-twin")])
    )
    silent = statistics[is_twin & (statistics["flag"] == "constant")]
    assert of_twin == of_model - set(zip(silent["layer"], silent["index"]))
    assert ("layer1.0.conv1", 4) not in of_model | of_twin  # constant in the model alone
    assert ("layer1.0.conv1", 20) in of_model - of_twin  # constant in the twin alone


def test_the_protocol_of_2023_has_an_absolute_bound_and_the_default_has_none() -> None:
    column = np.linspace(0, 5e-9, 60).astype(np.float32)
    order = np.argsort(column, kind="stable")
    flags = {
        name: describe(column, order, 1e-7, WINDOWS, load_protocol(name).rules.units.constant_range).flag
        for name in ("imi2023", "vimi1")
    }
    assert flags == {"imi2023": "constant", "vimi1": ""}
