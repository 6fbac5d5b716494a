"""Units: their spelling, near names, and how they are drawn."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import NameNotFound, VimiError
from benchmark.layers import NEURON, Layer, LayerMap, Reading, TensorPlace
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, build_untrained
from benchmark.protocol import Aggregator
from benchmark.tracing import trace_layers
from benchmark.units import Unit, check_unit, draw_units, reserve, unit_columns

WORDS = "abcxyz_0189.-"
aggregators = st.sampled_from(get_args(Aggregator))
layer_names = st.text(WORDS, min_size=1)
units = st.builds(
    Unit,
    model=st.text(WORDS + ":@", min_size=1),
    layer=layer_names,
    index=st.integers(0, 10**6),
    basis=st.one_of(st.just(NEURON), st.text(WORDS + ":", min_size=1)),
    aggregator=aggregators,
)


def make_map(*columns: list[int]) -> LayerMap:
    """Return a map of layers with the given columns; equal columns are rank-equivalent units."""
    width = 1 + max(max(layer) for layer in columns)
    place = TensorPlace("reading", "output", 1)
    layers = [
        Layer(f"layer{n}", "convolution", np.array(index), np.ones(len(index)), np.zeros(len(index)), place)
        for n, index in enumerate(columns)
    ]
    return LayerMap(tuple(layers), (Reading(place, 0, width),))


@pytest.fixture(scope="module")
def paper_resnets() -> dict[str, LayerMap]:
    """The layers of the three ResNet-50s of the paper."""
    maps: dict[str, LayerMap] = {}
    for name in ("resnet50", "resnet50_l2", "clip_resnet50"):
        card = load_card(name)
        maps[name] = trace_layers(build_untrained(card, 0).eval().requires_grad_(False), card.input.size, card.layers)
    return maps


# ---------------------------------------------------------------- names


@given(unit=units)
@settings(deadline=None, max_examples=200)
def test_a_unit_reads_back_as_it_is_spelled(unit: Unit) -> None:
    assert Unit.parse(str(unit)) == unit


@pytest.mark.parametrize(
    ("unit", "spelled"),
    [
        (Unit("resnet50", "layer3.2.conv1", 17), "resnet50/layer3.2.conv1/17"),
        (Unit("vit_b32", "blocks.3.mlp.fc1", 17, aggregator="cls"), "vit_b32/blocks.3.mlp.fc1/17:cls"),
        (Unit("resnet50", "layer3.2.conv1", 17, basis="topk-4096"), "resnet50/layer3.2.conv1@topk-4096/17"),
    ],
)
def test_the_spelling_is_the_documented_one(unit: Unit, spelled: str) -> None:
    assert str(unit) == spelled


@pytest.mark.parametrize("text", ["", "resnet50", "resnet50/layer1", "resnet50/layer1/", "resnet50/layer1/x", "a/b/-1"])
def test_what_names_no_unit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        VimiError, match=r"is not a unit; write model/layer/index, such as resnet50/layer3\.2\.conv1/17"
    ):
        Unit.parse(text)


def test_an_unknown_aggregator_is_answered_with_the_near_one() -> None:
    with pytest.raises(NameNotFound, match=r"no aggregator 'maxx'.*'max'"):
        Unit.parse("vit_b32/blocks.3.mlp.fc1/17:maxx")


def test_an_unknown_layer_is_answered_with_the_near_one(resnet: Model) -> None:
    with pytest.raises(NameNotFound, match=r"no eligible layer 'layer1\.0\.cnv1'.*'layer1\.0\.conv1'"):
        check_unit(Unit("tiny", "layer1.0.cnv1", 0), resnet.layer_map)


def test_an_index_beyond_the_layer_is_answered_with_the_range(resnet: Model) -> None:
    check_unit(Unit("tiny", "layer1.0.conv1", 31), resnet.layer_map)
    with pytest.raises(NameNotFound) as caught:
        check_unit(Unit("tiny", "layer1.0.conv1", 32), resnet.layer_map)
    assert "tiny/layer1.0.conv1/32" in str(caught.value)
    assert "tiny/layer1.0.conv1/31" in str(caught.value)
    assert "layer1.0.conv1 has units 0 to 31" in str(caught.value)


def test_the_key_of_ties_leaves_the_model_out_and_nothing_else() -> None:
    unit = Unit("one", "layer1", 3)
    assert unit.key(1) == Unit("two", "layer1", 3).key(1)
    others = [
        unit.key(2),
        Unit("one", "layer2", 3).key(1),
        Unit("one", "layer1", 4).key(1),
        Unit("one", "layer1", 3, basis="topk").key(1),
        Unit("one", "layer1", 3, aggregator="cls").key(1),
    ]
    assert len({unit.key(1), *others}) == 6


def test_the_columns_of_a_table_name_the_units() -> None:
    columns = unit_columns([Unit("one", "layer1", 3), Unit("one", "layer2", 4, aggregator="cls")])
    assert columns == {
        "model": ["one", "one"],
        "layer": ["layer1", "layer2"],
        "basis": [NEURON, NEURON],
        "index": [3, 4],
        "aggregator": ["mean", "cls"],
    }


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("rule", ["imi2023", "canonical"])
def test_the_seed_alone_decides_which_units_are_drawn(resnet: Model, rule: str) -> None:
    def draw(seed: int, count: int = 30) -> list[Unit]:
        return draw_units("tiny", resnet.layer_map, rule=rule, count=count, seed=seed)  # type: ignore[arg-type]

    assert draw(42) == draw(42)
    assert draw(42) != draw(43)
    assert draw(42)[:10] == draw(42, count=10)
    assert len(set(draw(42))) == 30
    for unit in draw(42):
        check_unit(unit, resnet.layer_map)


def test_the_aggregator_belongs_to_the_drawn_units(resnet: Model) -> None:
    means = draw_units("tiny", resnet.layer_map, rule="canonical", count=10, seed=1)
    maxima = draw_units("tiny", resnet.layer_map, rule="canonical", count=10, seed=1, aggregator="max")
    assert [(unit.layer, unit.index) for unit in means] == [(unit.layer, unit.index) for unit in maxima]
    assert {unit.aggregator for unit in maxima} == {"max"}


@given(widths=st.lists(st.integers(1, 6), min_size=1, max_size=5), count=st.integers(1, 40), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_a_model_with_too_few_units_gives_all_of_them_once(widths: list[int], count: int, seed: int) -> None:
    starts = np.cumsum([0, *widths])
    layer_map = make_map(*[list(range(start, start + width)) for start, width in zip(starts, widths)])
    drawn = draw_units("model", layer_map, rule="imi2023", count=count, seed=seed)
    assert len(drawn) == len(set(drawn)) == min(count, sum(widths))
    if count >= sum(widths):
        everything = {(layer.name, index) for layer in layer_map.layers for index in range(layer.width)}
        assert {(unit.layer, unit.index) for unit in drawn} == everything


@pytest.mark.parametrize("rule", ["imi2023", "canonical"])
def test_layers_are_drawn_uniformly_however_wide_they_are(rule: str) -> None:
    widths, count = [30_000, 300_000, 90_000], 3_000
    starts = np.cumsum([0, *widths])
    layer_map = make_map(*[list(range(start, start + width)) for start, width in zip(starts, widths)])
    drawn = draw_units("model", layer_map, rule=rule, count=count, seed=5)  # type: ignore[arg-type]
    by_layer = Counter(unit.layer for unit in drawn)
    deviation = 5 * np.sqrt(count * (1 / 3) * (2 / 3))
    for layer in layer_map.layers:
        assert abs(by_layer[layer.name] - count / 3) < deviation
        # Channels uniformly: the mean of their places lies in the middle.
        places = [unit.index / layer.width for unit in drawn if unit.layer == layer.name]
        assert abs(np.mean(places) - 0.5) < 5 / np.sqrt(12 * len(places))
        assert min(places) < 0.02 and max(places) > 0.98


@given(
    columns=st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=6), min_size=1, max_size=5),
    count=st.integers(1, 20),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_the_canonical_rule_draws_the_first_unit_of_each_class_and_no_other(
    columns: list[list[int]], count: int, seed: int
) -> None:
    layer_map = make_map(*columns)
    first: dict[int, tuple[str, int]] = {}
    for layer, index in zip(layer_map.layers, columns):
        for channel, column in enumerate(index):
            first.setdefault(column, (layer.name, channel))
    drawn = [(unit.layer, unit.index) for unit in draw_units("m", layer_map, rule="canonical", count=count, seed=seed)]
    assert len(drawn) == len(set(drawn)) == min(count, len(first))
    assert set(drawn) <= set(first.values())
    owners = layer_map.owners()
    assert {column: owners[column] for column in first} == first


def test_the_canonical_rule_draws_no_copy_from_a_real_model(resnet: Model) -> None:
    layer_map = resnet.layer_map
    distinct = sum(len(channels) for channels in layer_map.representatives().values())
    assert distinct < layer_map.unit_count
    drawn = draw_units("tiny", layer_map, rule="canonical", count=10**6, seed=3)
    assert len(drawn) == distinct
    columns = [int(layer_map[unit.layer].columns[unit.index]) for unit in drawn]
    assert len(set(columns)) == distinct
    assert not any(".bn" in unit.layer for unit in drawn)  # each follows the convolution that it normalises


@pytest.mark.parametrize("rule", ["imi2023", "canonical"])
def test_the_three_resnets_of_the_paper_share_one_list_of_units(rule: str, paper_resnets: dict[str, LayerMap]) -> None:
    lists = []
    for name, layer_map in paper_resnets.items():
        places = {layer.name: place for place, layer in enumerate(layer_map.layers)}
        drawn = draw_units(name, layer_map, rule=rule, count=100, seed=42)  # type: ignore[arg-type]
        lists.append([(places[unit.layer], unit.index) for unit in drawn])
    assert len(lists) == 3 and lists[0] == lists[1] == lists[2]


def test_a_reserve_is_drawn_in_the_proportion_of_the_protocol() -> None:
    assert reserve(84, 100, 84) == 100
    assert reserve(24, 100, 84) == 29
    assert reserve(1, 100, 84) == 2
    assert reserve(10, 5, 5) == 10
