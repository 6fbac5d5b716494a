"""One pass over the pool: every layer, exact, resumable, in bounded memory, and never mixed up."""

from __future__ import annotations

import copy
import gc
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from benchmark.errors import NonFiniteActivation, StudyError, StudyMismatch
from benchmark.hashing import hash_pixels, hash_state
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model
from benchmark.protocol import load_protocol
from benchmark.readings import Tap
from benchmark.tracing import trace_layers
from benchmark.units import Unit, draw_units
from stimuli.activations import (
    ActivationPlan,
    measure_activations,
    measure_shard,
    merge_shards,
    read_activations,
    read_shard,
    shard_places,
)
from stimuli.loading import model_pixels
from stimuli.order_statistics import full_order
from stimuli.pictures import canonical_crop, to_pixels
from stimuli.pool_sources import open_pool
from stimuli.pools import Entry, Pool
from stimuli.survey import Survey, survey_pool
from tests.conftest import paint_picture

FAMILIES = ["resnet", "vit", "convnext", "efficientnet", "byobnet"]
SIDE = 64


class PaintedPool(Pool):
    """Painted pictures, each a group of its own."""

    name = "painted"

    def __init__(self, numbers: Sequence[int], side: int = 48) -> None:
        self.numbers = list(numbers)
        self.side = side
        self.entries = [Entry(f"{number:05d}.png", group=str(number)) for number in numbers]

    def original(self, place: int) -> Image.Image:
        return Image.fromarray(paint_picture(self.numbers[place], self.side, self.side))


def survey_of(pool: Pool, folder: Path) -> Survey:
    return survey_pool(pool, folder / "survey", crop=48)


def small(name: str, side: int = SIDE, **options: Any) -> Model:
    """Return a tiny model that sees small pictures, with batch norms that are not the identity."""
    model = load_model(load_card(f"timm:test_{name}"), weights="random", seed=2, **options)
    card = model.card.model_copy(update={"input": model.card.input.model_copy(update={"size": side})})
    generator = torch.Generator().manual_seed(3)
    for module in model.module.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.normal_(0, 1, generator=generator)  # half of the scales are negative
            module.bias.data.normal_(0, 0.3, generator=generator)
    return rebuilt(replace(model, card=card))


def rebuilt(model: Model) -> Model:
    """Return a model whose weights were changed, traced and hashed anew."""
    layer_map = trace_layers(model.module, model.card.input.size, model.card.layers, model.aggregator)
    return replace(model, layer_map=layer_map, weights_hash=hash_state(model.module.state_dict()))


@pytest.fixture(scope="module")
def tiny() -> Model:
    return small("resnet", 32)


@pytest.fixture(scope="module")
def pool() -> PaintedPool:
    return PaintedPool(range(45))


@pytest.fixture(scope="module")
def survey(pool: PaintedPool, tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return survey_of(pool, tmp_path_factory.mktemp("survey"))


def read_survey(path: Path) -> Survey:
    """Read a survey's table and places; the planted units play no part in a pass."""
    table = pd.read_parquet(path)
    return Survey(table.drop(columns="place"), table["place"].to_numpy(), np.zeros((len(table), 0), np.float32), (), 0)


def first_of(survey: Survey, count: int) -> Survey:
    return Survey(survey.table.iloc[:count], survey.places[:count], survey.planted[:count], (), 0)


def plan_of(model: Model, pool: Pool, survey: Survey, **changes: Any) -> ActivationPlan:
    values: dict[str, Any] = {
        "model": model,
        "pool": pool,
        "survey": survey,
        "units": tuple(draw_units(model.name, model.layer_map, rule="imi2023", count=30, seed=1)),
        "extremes": 6,
        "protocol": load_protocol("vimi1"),
        "seed": 1,
        "crop": 48,
        "batch_size": 8,
    }
    return ActivationPlan(**{**values, **changes})


def all_units(model: Model) -> tuple[Unit, ...]:
    return tuple(
        Unit(model.name, layer.name, index) for layer in model.layer_map.layers for index in range(layer.width)
    )


@pytest.fixture(scope="module")
def plan(tiny: Model, pool: PaintedPool, survey: Survey) -> ActivationPlan:
    return plan_of(tiny, pool, survey)


# -------------------------------------------------------------------- exact


@pytest.mark.parametrize("name", FAMILIES)
def test_one_pass_gives_what_direct_hooks_see_picture_by_picture(
    name: str, pool: PaintedPool, survey: Survey, tmp_path: Path
) -> None:
    model = small(name)
    short = first_of(survey, 5)
    plan = plan_of(model, pool, short, units=all_units(model), extremes=4)
    measured = measure_activations(plan, tmp_path / "activations", shards=1)
    direct: dict[str, list[NDArray[np.float32]]] = {layer.name: [] for layer in model.layer_map.layers}
    modules = dict(model.module.named_modules())
    for place in short.places.tolist():
        pixels = model_pixels(pool, place, model.card.input, "canonical", 48)
        handles = []
        for layer in model.layer_map.layers:

            def receive(tensor: torch.Tensor, layer: Any = layer) -> None:
                axis = 1 if tensor.ndim == 4 and layer.width == tensor.shape[1] else tensor.ndim - 1
                values = tensor.double().movedim(axis, -1).reshape(-1, layer.width).mean(0)
                direct[layer.name].append(values.numpy())

            if layer.kind == "residual sum" or layer.place.module != layer.name:  # no module gives this tensor
                tap = Tap(model.module, layer.place, receive)
                handles.append(tap.handle)
            else:
                handles.append(
                    modules[layer.name].register_forward_hook(lambda module, args, out, receive=receive: receive(out))
                )
        with torch.inference_mode():
            model.module(model.prepare(torch.from_numpy(pixels[None])))
        for handle in handles:
            handle.remove()
    start = 0
    for layer in model.layer_map.layers:
        expected = np.stack(direct[layer.name])
        found = measured.columns[start : start + layer.width].T
        start += layer.width
        scale = np.abs(expected).max() + 1e-6
        assert np.abs(found - expected).max() <= 2e-5 * scale, layer.name
    assert start == len(measured.columns)


@pytest.mark.parametrize("aggregator", ["cls", "patches", "max"])
def test_other_aggregators_are_read_as_exactly(
    aggregator: Any, pool: PaintedPool, survey: Survey, tmp_path: Path
) -> None:
    model = small("vit", 160, aggregator=aggregator)
    short = first_of(survey, 2)
    units = draw_units(model.name, model.layer_map, rule="imi2023", count=40, seed=1, aggregator=aggregator)
    measured = measure_activations(
        plan_of(model, pool, short, units=tuple(units), extremes=2, batch_size=2), tmp_path / "a"
    )
    for place in range(2):
        seen: dict[str, torch.Tensor] = {}
        taps = [
            Tap(model.module, layer.place, partial(seen.__setitem__, layer.name)) for layer in model.layer_map.layers
        ]
        pixels = model_pixels(pool, place, model.card.input, "canonical", 48)
        with torch.inference_mode():
            model.module(model.prepare(torch.from_numpy(pixels[None])))
        for tap in taps:
            tap.handle.remove()
        for unit in units:
            tensor = seen[unit.layer][0, :, unit.index].double()
            tokens = {"cls": tensor[:1].mean(), "patches": tensor[1:].mean(), "max": tensor.max()}
            assert measured.column(unit)[place] == pytest.approx(float(tokens[aggregator]), rel=1e-4, abs=1e-4)


def test_extremes_of_every_unit_are_exact_also_behind_a_negative_batch_norm(
    tiny: Model, pool: PaintedPool, survey: Survey, tmp_path: Path
) -> None:
    units = all_units(tiny)
    everything = measure_activations(plan_of(tiny, pool, survey, units=units), tmp_path / "all", shards=1)
    few = measure_activations(plan_of(tiny, pool, survey), tmp_path / "few", shards=3)
    layer_map = tiny.layer_map
    negative = [unit for unit in units if layer_map[unit.layer].scale[unit.index] < 0]
    assert len(negative) > 100
    for unit in units:
        column = everything.column(unit)
        low, high = few.extremes(unit, layer_map)
        for side, sign in ((low, 1), (high, -1)):
            expected = np.sort(sign * column)[:6] * sign
            assert np.array_equal(side.values[0], expected), unit
            assert np.array_equal(column[side.places[0]], side.values[0]), unit
            assert len(set(side.places[0].tolist())) == 6


def test_extremes_are_the_ends_of_the_full_order_of_a_column(plan: ActivationPlan, tmp_path: Path) -> None:
    measured = measure_activations(plan, tmp_path / "activations")
    owners = plan.model.layer_map.owners()
    for unit in plan.units:
        column = plan.column(unit)
        if owners[column] == (unit.layer, unit.index):
            order = full_order(measured.column(unit), column, plan.ties)
            assert np.array_equal(measured.low.places[column], order[:6])
            assert np.array_equal(measured.high.places[column], order[::-1][:6])


def test_the_share_of_ties_is_recorded(tiny: Model, pool: PaintedPool, survey: Survey, tmp_path: Path) -> None:
    module = copy.deepcopy(tiny.module)
    module.get_submodule("layer2.0.conv1").weight.data[5] = 0  # a unit that is zero for every picture
    silent = rebuilt(replace(tiny, module=module))
    measured = measure_activations(plan_of(silent, pool, survey), tmp_path / "activations")
    column = int(silent.layer_map["layer2.0.conv1"].columns[5])
    share = measured.extreme_tie_share()
    assert share.shape == (silent.layer_map.column_count,)
    assert share[column] == 1
    untied = [len(set(values)) == 12 for values in np.hstack([measured.low.values, measured.high.values]).tolist()]
    assert (share[untied] == 0).all() and np.mean(untied) > 0.9


# -------------------------------------------------------------------- shards


@settings(max_examples=6, deadline=None)
@given(data=some.data())
def test_any_split_and_order_of_shards_merges_to_the_same_hash(plan: ActivationPlan, data: some.DataObject) -> None:
    count = len(plan.survey.table)
    starts = range(0, count, plan.batch_size)
    chosen = data.draw(some.sets(some.sampled_from(starts[1:])))
    edges = [0, *sorted(chosen), count]
    parts = data.draw(some.permutations([range(a, b) for a, b in pairwise(edges)]))
    merged = merge_shards(plan, [measure_shard(plan, part) for part in parts])
    assert merged.hash == whole_hash(plan)


def whole_hash(plan: ActivationPlan, known: dict[str, str] = {}) -> str:  # noqa: B006
    if plan.identity not in known:
        known[plan.identity] = merge_shards(plan, [measure_shard(plan, range(len(plan.survey.table)))]).hash
    return known[plan.identity]


@pytest.mark.parametrize("ties", ["content", "place"])
def test_silent_units_merge_to_the_same_hash_whatever_the_shards(
    ties: str, tiny: Model, pool: PaintedPool, survey: Survey
) -> None:
    module = copy.deepcopy(tiny.module)
    for name in ("layer1.0.conv1", "layer3.0.conv2"):
        module.get_submodule(name).weight.data[::2] = 0
    model = rebuilt(replace(tiny, module=module))
    plan = plan_of(model, pool, survey, protocol=load_protocol("vimi1" if ties == "content" else "imi2023"))
    parts = [measure_shard(plan, part) for part in shard_places(45, 8, 4)]
    hashes = {merge_shards(plan, order).hash for order in (parts, parts[::-1], parts[2:] + parts[:2])}
    assert hashes == {whole_hash(plan)}


@settings(max_examples=100, deadline=None)
@given(count=some.integers(1, 5000), batch_size=some.integers(1, 70), shards=some.integers(1, 40))
def test_shards_are_whole_batches_that_cover_the_pool_once(count: int, batch_size: int, shards: int) -> None:
    parts = shard_places(count, batch_size, shards)
    assert [place for part in parts for place in part] == list(range(count))
    assert len(parts) <= shards
    assert all(part.start % batch_size == 0 for part in parts)


def test_shards_that_overlap_or_leave_a_gap_are_refused(plan: ActivationPlan) -> None:
    first, second, third = (measure_shard(plan, part) for part in (range(16), range(16, 32), range(32, 45)))
    for parts in ([first, second], [first, second, third, second], []):
        with pytest.raises(StudyError, match=r"do not cover the pool exactly once"):
            merge_shards(plan, parts)


def test_a_shard_survives_its_file(plan: ActivationPlan, tmp_path: Path) -> None:
    shard = measure_shard(plan, range(16, 45))
    shard.write(tmp_path / "one.safetensors", plan.identity)
    merged = merge_shards(plan, [read_shard(tmp_path / "one.safetensors", plan), measure_shard(plan, range(16))])
    assert merged.hash == whole_hash(plan)


def test_a_strangers_or_a_broken_shard_is_refused_by_name_and_measured_again(
    plan: ActivationPlan, tiny: Model, pool: PaintedPool, survey: Survey, tmp_path: Path
) -> None:
    other = plan_of(tiny, pool, survey, seed=2)
    paths = [tmp_path / "a" / "shards" / f"{p.start:09d}-{p.stop:09d}.safetensors" for p in shard_places(45, 8, 3)]
    for path, part in zip(paths, shard_places(45, 8, 3)):
        measure_shard(other, part).write(path, other.identity)
    paths[2].write_bytes(paths[2].read_bytes()[:1000])
    for path in paths[1:]:
        with pytest.raises(StudyMismatch, match=path.name):
            read_shard(path, plan)
    assert measure_activations(plan, tmp_path / "a", shards=3).hash == whole_hash(plan)


def test_shards_of_another_cut_and_what_a_kill_left_half_written_do_not_stop_a_pass(
    plan: ActivationPlan, tmp_path: Path
) -> None:
    shards = tmp_path / "a" / "shards"
    measure_shard(plan, range(8)).write(shards / "000000000-000000008.safetensors", plan.identity)
    (shards / ".000000000-000000016.safetensors.x.tmp").write_bytes(b"half")
    assert measure_activations(plan, tmp_path / "a", shards=3).hash == whole_hash(plan)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["activations.safetensors", "header.json"]


CHILD = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
import torch
from benchmark.device import prepare_torch
from benchmark.progress import Reporter
from stimuli import activations
from tests.test_activations import PaintedPool, plan_of, read_survey, small

class Loud(Reporter):
    @contextmanager
    def task(self, title, total):
        yield lambda count: print("batch", flush=True)

def save_loudly(*args, save=activations.save_file):
    save(*args)
    print("written, not yet moved", flush=True)

activations.save_file = save_loudly
for _ in range(int(sys.argv[3])):  # importing takes long: each process that is killed is a copy of this one
    pid = os.fork()
    if not pid:
        torch.set_num_threads(1)
        prepare_torch(torch.device("cpu"))
        print(os.getpid(), flush=True)
        plan = plan_of(small("resnet", 32), PaintedPool(range(45)), read_survey(Path(sys.argv[1])))
        activations.measure_activations(plan, Path(sys.argv[2]), shards=4, reporter=Loud())
        print("done", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 is a thing of Unix")
def test_a_pass_killed_at_random_moments_ends_with_the_same_hash(plan: ActivationPlan, tmp_path: Path) -> None:
    kept = tmp_path / "survey.parquet"
    plan.survey.table.assign(place=plan.survey.places).to_parquet(kept)
    folder = tmp_path / "killed"
    moments = [random.randint(0, 6) for _ in range(3)]  # of eleven: six batches, four shards, the whole
    command = [sys.executable, "-c", CHILD, str(kept), str(folder), str(len(moments))]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = iter(child.stdout.readline, "")
        line = next(lines)
        for moment in moments:
            victim = int(line)
            if "done\n" not in islice(lines, moment):
                with suppress(ProcessLookupError):  # it had finished after all
                    os.kill(victim, signal.SIGKILL)
            line = next((line for line in lines if line.strip().isdigit()), "")
    assert child.returncode == 0, moments
    assert measure_activations(plan, folder, shards=4).hash == whole_hash(plan), moments
    assert sorted(path.name for path in folder.iterdir()) == ["activations.safetensors", "header.json"], moments


def test_what_was_measured_before_a_stop_is_not_measured_again(
    plan: ActivationPlan, pool: PaintedPool, tmp_path: Path
) -> None:
    seen: list[int] = []
    last = 33

    class Stopping(PaintedPool):
        def original(self, place: int) -> Image.Image:
            if place == last:
                raise KeyboardInterrupt
            seen.append(place)
            return super().original(place)

    with pytest.raises(KeyboardInterrupt):
        measure_activations(replace(plan, pool=Stopping(range(45))), tmp_path / "a", shards=3)
    last = -1
    seen.clear()
    again = replace(plan, pool=Stopping(range(45)))  # a new process opens the pool anew
    assert measure_activations(again, tmp_path / "a", shards=3).hash == whole_hash(plan)
    assert sorted(seen) == list(range(32, 45))


def test_a_finished_pass_is_read_and_not_measured_again(plan: ActivationPlan, tmp_path: Path) -> None:
    first = measure_activations(plan, tmp_path / "a")

    class Untouched(PaintedPool):
        def original(self, place: int) -> Image.Image:
            raise AssertionError("nothing is left to look at")

    again = measure_activations(replace(plan, pool=Untouched(range(45))), tmp_path / "a")
    assert again.hash == first.hash == whole_hash(plan)
    assert again.units == plan.units
    for unit in plan.units[:5]:
        assert np.array_equal(again.column(unit), first.column(unit))


def test_a_picture_does_not_depend_on_how_many_follow_it(tiny: Model, tmp_path: Path) -> None:
    columns = []
    for count in (9, 17):
        pool = PaintedPool(range(count))
        plan = plan_of(tiny, pool, survey_of(pool, tmp_path), extremes=2)
        columns.append(measure_activations(plan, tmp_path / str(count)).columns[:, :9])
    assert np.array_equal(columns[0], columns[1])


# -------------------------------------------------------------------- NaN and infinity


def broken(model: Model, change: Callable[[nn.Module], None]) -> Model:
    module = copy.deepcopy(model.module)
    change(module)
    return rebuilt(replace(model, module=module))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_stops_with_picture_layer_and_unit(
    name: str, bad: float, pool: PaintedPool, survey: Survey
) -> None:
    model = small(name)
    layers = [
        layer
        for layer in model.layer_map.layers
        if getattr(model.module.get_submodule(layer.name) if layer.kind != "residual sum" else None, "weight", None)
        is not None
    ]
    for layer in {*{layer.kind: layer for layer in layers[:-2]}.values(), layers[0], layers[-1]}:
        index = layer.width // 2

        def change(module: nn.Module, layer: Any = layer, index: int = index) -> None:
            module.get_submodule(layer.name).weight.data[index] = bad

        with pytest.raises(NonFiniteActivation) as caught:
            measure_shard(plan_of(broken(model, change), pool, survey, units=(), batch_size=2), range(2))
        message = str(caught.value)
        assert f"layer {layer.name}, unit {index}." in message
        assert "picture 00000.png" in message and model.name in message


def test_the_picture_that_makes_a_model_overflow_is_named(tiny: Model, survey: Survey, tmp_path: Path) -> None:
    # Batch norm's statistics make one channel overflow for bright pictures only.
    class OneBright(PaintedPool):
        def original(self, place: int) -> Image.Image:
            return Image.new("RGB", (48, 48), (255, 255, 255) if place == 11 else (place, 124, 116))

    model = load_model(load_card("timm:test_resnet"), weights="random", seed=2)
    pool = OneBright(range(20))
    stem = next(module for module in model.module.modules() if isinstance(module, nn.Conv2d))
    stem.weight.data[:] = 0
    stem.weight.data[0, 2, 1, 1] = 1e30  # sees blue, which is dark in all pictures but one
    first = model.module.get_submodule("layer1.0.conv1")
    first.weight.data[3] = 0
    first.weight.data[3, 0, 1, 1] = 1e12
    for module in model.module.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.zero_()
            break
    plan = plan_of(rebuilt(model), pool, survey_of(pool, tmp_path), units=(), extremes=2)
    with pytest.raises(NonFiniteActivation, match=r"inf for picture 00011\.png in layer layer1\.0\.conv1, unit 3\."):
        measure_shard(plan, range(20))


def test_nothing_is_stored_of_a_shard_that_is_not_finite(
    tiny: Model, pool: PaintedPool, survey: Survey, tmp_path: Path
) -> None:
    def change(module: nn.Module) -> None:
        module.get_submodule("layer2.0.conv1").weight.data[0] = float("nan")

    with pytest.raises(NonFiniteActivation, match=r"check the weights"):
        measure_activations(plan_of(broken(tiny, change), pool, survey), tmp_path / "a", shards=2)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("header.json"))


# -------------------------------------------------------------------- never mixed


def test_activations_of_something_else_are_refused_with_what_differs(
    plan: ActivationPlan, tiny: Model, pool: PaintedPool, survey: Survey, tmp_path: Path
) -> None:
    measured = measure_activations(plan, tmp_path / "a")

    def change(module: nn.Module) -> None:
        module.get_submodule("layer2.0.conv1").weight.data[0, 0, 0, 0] += 1e-6

    bright = tiny.card.model_copy(update={"input": tiny.card.input.model_copy(update={"mean": (0.4, 0.5, 0.5)})})
    fewer = first_of(survey, 44)
    others = {
        "weights": plan_of(broken(tiny, change), pool, survey),
        "preprocessing": plan_of(replace(tiny, card=bright), pool, survey),
        "pictures": plan_of(tiny, pool, fewer),
        "seed": replace(plan, seed=2),
        "extremes": replace(plan, extremes=5),
        "sampled": replace(plan, units=plan.units[:-1]),
        "ties": replace(plan, protocol=load_protocol("imi2023")),
        "batch_size": replace(plan, batch_size=16),
    }
    for view in ({"view": "model"}, {"crop": 40}):
        with pytest.raises(StudyMismatch, match=r"different preprocessing,"):
            read_activations(tmp_path / "a", replace(plan, **view))
    for key, other in others.items():
        for take in (measure_activations, lambda plan, folder: read_activations(folder, plan)):
            with pytest.raises(StudyMismatch, match=rf"made with different {key},.*another folder"):
                take(other, tmp_path / "a")
    assert read_activations(tmp_path / "a", plan).hash == measured.hash
    assert read_activations(tmp_path / "a").hash == measured.hash


def test_the_header_says_what_the_file_was_made_of(plan: ActivationPlan, tmp_path: Path) -> None:
    measure_activations(plan, tmp_path / "a")
    header = json.loads((tmp_path / "a" / "header.json").read_text())
    assert header["weights"] == plan.model.weights_hash
    assert header["model"] == plan.model.name
    assert {"preprocessing", "pictures", "seed", "ties", "extremes", "sampled", "aggregator"} <= set(header)


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_damaged_file_is_an_error_that_names_its_folder(plan: ActivationPlan, damage: str, tmp_path: Path) -> None:
    measure_activations(plan, tmp_path / "a")
    path = tmp_path / "a" / "activations.safetensors"
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(StudyError, match=rf"{tmp_path / 'a'} can't be read.*build again"):
        read_activations(tmp_path / "a", plan)


def test_a_picture_that_changed_since_the_survey_is_refused_by_name(tiny: Model, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(paint_picture(number)).save(folder / f"{number:02d}.png")

    def files() -> Pool:
        opened = open_pool(f"folder:{folder}")
        opened.entries = [replace(entry, group=entry.source) for entry in opened.entries]
        return opened

    plan = plan_of(tiny, files(), survey_of(files(), tmp_path), extremes=2)
    changed = paint_picture(7)
    changed[24, 28] ^= 8
    Image.fromarray(changed).save(folder / "07.png")
    plan = replace(plan, pool=files())
    with pytest.raises(StudyMismatch, match=r"07\.png has changed since the pool was surveyed"):
        measure_activations(plan, tmp_path / "a")
    assert not list((tmp_path / "a").rglob("*.safetensors"))


# -------------------------------------------------------------------- memory


class FlatPool(Pool):
    """Many flat pictures that are quickly made; it counts how many were asked for."""

    name = "flat"

    def __init__(self, count: int) -> None:
        self.entries = [Entry(str(number), group=str(number)) for number in range(count)]
        self.asked = 0

    def original(self, place: int) -> Image.Image:
        self.asked += 1
        return Image.new("RGB", (32, 32), (place % 256, place // 256, 90))


def bytes_in_tensors() -> int:
    alive = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in alive}.values())


def test_memory_does_not_grow_with_the_number_of_pictures_but_for_sampled_units(tiny: Model) -> None:
    # The buffer is merged after every 1,024 pictures; behind the first merge all extremes are there.
    early, late, count, batch, sampled = 1280, 2304, 2304, 128, 3
    pool = FlatPool(count)
    crops = [canonical_crop(pool.original(place), 32) for place in range(count)]
    table = pd.DataFrame({"picture": [hash_pixels(to_pixels(crop)) for crop in crops], "source": "flat"})
    pool.asked = 0
    survey = Survey(table, np.arange(count), np.zeros((count, 0), np.float32), (), 0)
    units = all_units(tiny)[:sampled]
    plan = plan_of(tiny, pool, survey, units=units, crop=32, extremes=20, batch_size=batch)
    kept: dict[int, int] = {}
    done = 0

    def advance(step: int) -> None:
        nonlocal done
        done += step
        assert pool.asked <= done + 4 * batch  # pictures decoded ahead are bounded, too
        if done in (early, late):
            kept[done] = bytes_in_tensors()

    measure_shard(plan, range(count), advance)
    grown, own = kept[late] - kept[early], 4 * sampled * (late - early)
    assert own <= grown <= own + 4096
