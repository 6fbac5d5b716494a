"""What studies of many models cost: measured here, predicted for accelerators. Run by hand; prints tables.

    python -m tests.speed.cluster [--pool imagenet:PATH] [--out FILE.csv] [--repeats 3]
    python -m tests.speed.cluster --from docs/cluster_measurements.csv

The first form measures every stage on this machine with networks of random weights, one torch thread, in seconds of
processor (others may use the machine), and takes some twelve minutes of processor. Small builds of whole studies are
measured as well; nothing is fitted to them. Either form then fits :mod:`tests.speed.cost_model`, compares what was held
out with what is predicted, and predicts the nine models of 2023 and 800 of timm's for 1, 8 and 64 accelerators.

The speed of accelerators is not measured here: it is fitted to figures that timm publishes (:data:`PUBLISHED`).
"""

from __future__ import annotations

import argparse
import csv
import gc
import math
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter, process_time
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmark import schemas
from benchmark.device import prepare_torch
from benchmark.estimate import Estimate
from benchmark.experiment import Experiment
from benchmark.hashing import hash_rows, picture_keys
from benchmark.layers import Layer
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model
from benchmark.observers.embedding import resized
from benchmark.observers.lowlevel import describe as describe_picture
from benchmark.progress import Reporter
from benchmark.protocol import load_protocol
from benchmark.randomness import generator_from
from benchmark.readings import ActivationReader, Tap, unit_activations
from benchmark.study import Study
from benchmark.units import Unit, draw_units
from benchmark.workflow import build
from stimuli.activations import BATCH_ON_CPU
from stimuli.building import Builder
from stimuli.exemplars import choose_exemplars, exemplar_rows
from stimuli.image_store import store_picture
from stimuli.loading import model_pixels
from stimuli.near_duplicates import near_duplicates
from stimuli.order_statistics import Extremes, ExtremeTracker, content_ties, full_order
from stimuli.pictures import canonical_crop, to_pixels
from stimuli.pool_sources import open_pool
from stimuli.pools import Pool
from stimuli.stage_costs import activation_bytes
from stimuli.survey import survey_pool
from stimuli.unit_statistics import describe as describe_unit
from stimuli.visualization import fast
from stimuli.visualization.diversity import features_by_picture
from stimuli.visualization.sets import IMAGES, SetRequest, Threshold
from tests.speed.cost_model import (
    BYTES,
    PARTS,
    TERMS,
    CostModel,
    Hardware,
    Measurement,
    Network,
    StudySize,
    core_seconds,
    fit_costs,
    model_work,
    predict_studies,
    survey_work,
)

NINE = (
    "googlenet", "densenet201", "resnet50", "resnet50_l2", "clip_resnet50", "wide_resnet50", "vit_b32",
    "clip_vit_b32", "convnext_b",
)  # fmt: skip
"""Cards of the nine models of 2023."""

MEASURED = {
    "timm:test_resnet": 256, "timm:mobilenetv3_large_100": 128, "efficientnet_lite0": 128, "timm:resnet18": 96,
    "timm:vit_small_patch32_224": 96, "timm:densenet121": 64, "resnet50": 64, "vit_b32": 64, "timm:convnext_tiny": 32,
    "wide_resnet50": 32,
}  # fmt: skip
"""Networks whose forward passes are timed, and over how many pictures."""

VISUALISED = {
    "timm:test_resnet": (96, 224), "timm:mobilenetv3_large_100": (64, 128), "efficientnet_lite0": (64, 128),
    "timm:resnet18": (64, 128), "timm:vit_small_patch32_224": (224,), "timm:densenet121": (64,), "resnet50": (64, 112),
}  # fmt: skip
"""Networks whose visualisations are timed, and on what canvases."""

BUILT = (
    ("timm:test_resnet", 400, 300, 12), ("timm:resnet18", 200, 84, 6), ("timm:mobilenetv3_large_100", 100, 20, 4),
    ("efficientnet_lite0", 300, 100, 0),
)  # fmt: skip
"""Whole studies that are built: network, pictures, units, units with synthetic pictures (64 px, at most 24 steps)."""

MOST_GIGAFLOPS = 400.0
"""Networks of timm that take more for a picture are left out of the 800: a handful would be most of the sum."""

OBSERVERS = ("efficientnet_lite0", "efficientnet_lite2")
"""Cards of the networks that observe in the release; the first also looks for near-duplicates."""

SAMPLED_NAMES = 100
"""Names drawn from timm's list of pretrained models: what 800 models are assumed to be like."""

PUBLISHED = {
    "mobilenetv3_large_100": 13556.89, "vit_small_patch32_224": 13379.42, "resnet18": 11188.75,
    "efficientnet_lite0": 9657.18, "resnet26": 5987.24, "vit_base_patch32_clip_224": 5121.46,
    "vit_base_patch32_224": 5114.30, "vit_small_patch16_224": 4616.60, "resnet50": 3729.86, "regnety_040": 3558.64,
    "convnext_tiny": 3120.16, "densenet121": 3031.71, "resnet50_clip": 2836.87, "densenet169": 2499.14,
    "wide_resnet50_2": 2093.0, "densenet201": 1924.0, "convnext_base": 1310.0,
}  # fmt: skip
"""Pictures per second of an RTX 3090 at 224 px, mixed precision, channels last, as timm publishes them in
``results/benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv`` of its repository. Not measured by vimi."""


# ---------------------------------------------------------------- what networks do


class ElementCounter(TorchDispatchMode):
    """Counts the numbers that operations write; views write none."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, tuple | list) else (out,)
        returns = func._schema.returns
        for number, value in enumerate(made):
            alias = returns[min(number, len(returns) - 1)].alias_info if returns else None
            if isinstance(value, torch.Tensor) and (alias is None or alias.is_write):
                self.total += value.numel()
        return out


def similarity_flops(positions: int, channels: int, images: int = IMAGES) -> float:
    """Return operations per picture of the similarity of a set, as ``diversity_loss`` chooses its way."""
    by_position = images * positions * positions * images * channels
    by_channel = images * positions * channels * channels + images * images * channels * channels
    return 2 * min(by_position, by_channel) / images


def tally(model: Model, units: Sequence[Unit]) -> Network:
    """Count what a network does to one picture, in all and up to the layers of some units."""
    side = model.card.input.size
    wanted = list(dict.fromkeys(unit.layer for unit in units))
    flops, elements = FlopCounterMode(display=False), ElementCounter()
    seen: dict[str, tuple[float, float, float]] = {}

    def receive(name: str, layer: Layer) -> Callable[[torch.Tensor], None]:
        def note(tensor: torch.Tensor) -> None:
            features = features_by_picture(tensor, layer.place.axis, 1)
            similar = similarity_flops(features.shape[1], features.shape[2])
            seen[name] = (flops.get_total_flops() / 1e9, elements.total / 1e6, similar / 1e9)

        return note

    taps = [Tap(model.module, model.layer_map[name].place, receive(name, model.layer_map[name])) for name in wanted]
    with torch.inference_mode(), flops, elements:
        model.module(torch.zeros((1, 3, side, side)))
    for tap in taps:
        tap.handle.remove()
    layer_map = model.layer_map
    canvas = 64 if side != 64 else 96
    takes = fast.Prefix(model, layer_map.layers[-1], side, dtype=torch.float32).takes(canvas)
    return Network(
        model.name, sum(p.numel() for p in model.module.parameters()) / 1e6, flops.get_total_flops() / 1e9,
        elements.total / 1e6, len(layer_map.layers), layer_map.column_count, layer_map.unit_count, side, takes,
        tuple((sum(unit.layer == name for unit in units), *seen[name]) for name in wanted),
    )  # fmt: skip


def tally_card(card: str, count: int = 84) -> tuple[Model, Network]:
    """Load a card's network with random weights, and count."""
    model = load_model(load_card(card), weights="random")
    drawn = draw_units(model.name, model.layer_map, rule="canonical", count=count, seed=42)
    return model, replace(tally(model, drawn), name=card)


def fused_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Compute attention as a CPU does it: tensors without contents would otherwise take it term by term."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    if query.ndim != 4 or enable_gqa:
        return (query @ key.transpose(-1, -2)).softmax(-1) @ value
    return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def tally_shape(name: str) -> Network | None:
    """Count what a timm network does, with tensors that have no contents; None if it can't be run that way."""
    size = timm.get_pretrained_cfg(name).input_size
    flops, elements = FlopCounterMode(display=False), ElementCounter()
    with warnings.catch_warnings(), mock.patch.object(
        torch.nn.functional, "scaled_dot_product_attention", fused_attention
    ):  # fmt: skip
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                module = timm.create_model(name.partition(".")[0], pretrained=False).eval()
            with torch.no_grad(), flops, elements:
                module(torch.zeros((1, *size), device="meta"))
        except Exception:
            return None
        try:
            with torch.no_grad():
                module(torch.zeros((1, 3, size[-1] + 32, size[-1] + 32), device="meta"))
            scales = True
        except Exception:
            scales = False
    parameters = sum(p.numel() for p in module.parameters()) / 1e6
    return Network(name, parameters, flops.get_total_flops() / 1e9, elements.total / 1e6, 0, 0, 0, size[-1], scales)


# ---------------------------------------------------------------- measuring


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median seconds of processor, and those of the clock, of a piece of work."""
    spent, passed = [], []
    for _ in range(repeats):
        gc.collect()
        begun, clock = process_time(), perf_counter()
        work()
        spent.append(process_time() - begun)
        passed.append(perf_counter() - clock)
    return statistics.median(spent), statistics.median(passed)


def measure(
    stage: str, name: str, amounts: dict[str, float], work: Callable[[], object], repeats: int, size: float = math.nan
) -> Measurement:
    """Time a piece of work."""
    seconds, wall = timed(work, repeats)
    return Measurement(stage, name, amounts, seconds, size, wall)


def enlarged_pools(pool: Pool, folder: Path, count: int) -> Iterator[tuple[str, Pool, float]]:
    """Yield pools of the same pictures in several sizes, as JPEG files, with the megapixels of one of them."""
    places = np.linspace(0, len(pool) - 1, min(count, len(pool))).astype(int).tolist()
    for width, height in ((256, 256), (375, 333), (500, 375), (800, 600)):
        own = folder / f"{width}x{height}"
        own.mkdir()
        for number, place in enumerate(places):
            pool.original(place).resize((width, height)).save(own / f"{number:04d}.jpg", quality=90)
        yield f"{width} x {height} px", open_pool(f"folder:{own}"), width * height / 1e6


def grouped(pool: Pool) -> Pool:
    """Return a pool whose pictures are known to be no near-duplicates, so that nothing is embedded or compared."""
    pool.entries = [replace(entry, group=entry.source) for entry in pool.entries]
    return pool


def measure_pictures(pool: Pool, repeats: int, folder: Path) -> Iterator[Measurement]:
    """Time what is done to pictures on processor cores: decoding, surveying, storing, reading back."""
    lite = load_card("efficientnet_lite0").input
    for name, sized, each in enlarged_pools(pool, folder, 64):
        count = len(sized)
        amounts = {"pictures": count, "megapixels": count * each}
        known = survey_pool(grouped(sized), folder / "survey", crop=224)
        keys = list(known.table["picture"])

        def decode() -> None:
            for place in range(count):
                model_pixels(sized, int(known.places[place]), lite, "canonical", 224, keys[place])

        yield measure("decoding", name, amounts, decode, repeats)
        written = folder / "pool.parquet"
        schemas.POOL.write(known.table, written)
        size = written.stat().st_size + known.planted.nbytes
        yield measure(
            "survey", name, amounts, lambda: survey_pool(sized, folder / "survey", crop=224), repeats, float(size)
        )
    crops = [canonical_crop(pool.original(n), 224) for n in range(48)]
    for side in (64, 128, 224):
        study = Study(folder / f"store{side}")
        pixels = [to_pixels(crop.resize((side, side))) for crop in crops]
        names: list[str] = []

        def store() -> None:
            for path in (study.root / "images").rglob("*.webp"):
                path.unlink()
            names[:] = [store_picture(study, each) for each in pixels]

        amounts = {"pictures": len(pixels), "megapixels": len(pixels) * side**2 / 1e6}
        store()
        stored = measure("encoding", f"photographs, {side} px", amounts, store, repeats)
        yield replace(stored, bytes=float(sum(study.image_path(name).stat().st_size for name in names)))
        if side == 224:
            images = SimpleNamespace(paths=[study.image_path(name) for name in names])

            def read() -> None:
                for path in images.paths:
                    with Image.open(path) as image:
                        resized(np.array(image.convert("RGB")), lite)

            yield measure("reading", "photographs, 224 px", {"pictures": len(names)}, read, repeats)
            arrays = [to_pixels(crop) for crop in crops]
            yield measure(
                "describing", "photographs, 224 px", {"pictures": len(arrays)},
                lambda: [describe_picture(array) for array in arrays], repeats,
            )  # fmt: skip


def measure_orders(repeats: int) -> Iterator[Measurement]:
    """Time what grows with columns and pictures but knows no network: extremes, merging, duplicates, choosing."""
    generator = generator_from(0, "cost of orders")
    for count in (1500, 3000):
        hashes = generator.integers(-(2**62), 2**62, count)
        vectors = generator.normal(size=(count, 1280)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        half = vectors.astype(np.float16)
        yield measure(
            "duplicates", f"{count} pictures", {"gigapairs": count**2 / 1e9},
            lambda: near_duplicates(hashes, half), repeats,
        )  # fmt: skip
    for columns, pictures, count in ((2000, 2048, 50), (2000, 4096, 250), (8000, 2048, 250), (16000, 1024, 50)):
        ties = content_ties(np.arange(columns, dtype=np.uint64), np.arange(pictures, dtype=np.uint64))
        values = torch.from_numpy(generator.normal(size=(pictures, columns)).astype(np.float32))
        halves: list[tuple[Extremes, Extremes]] = []

        def track() -> None:
            tracker = ExtremeTracker(columns, count, ties=ties)
            for start in range(0, pictures, BATCH_ON_CPU):
                tracker.add(values[start : start + BATCH_ON_CPU], range(start, start + BATCH_ON_CPU))
            halves[:] = [tracker.result(in_order=False)]

        merges = math.ceil(pictures / 1024)
        yield measure(
            "extremes", f"{columns} columns, {count} kept",
            {"megaentries": columns * pictures / 1e6, "megakept": 2 * merges * columns * count / 1e6}, track, repeats,
        )  # fmt: skip

        def merge() -> None:
            tracker = ExtremeTracker(columns, count, ties=ties)
            low, high = halves[0]
            for shift in range(4):
                moved = [Extremes(side.values + shift * 1e-3, side.places) for side in (low, high)]
                tracker.add_extremes(*moved)
            tracker.result()

        yield measure(
            "merging", f"{columns} columns, {count} kept", {"megakept": 4 * 2 * columns * count / 1e6}, merge, repeats
        )
    for pictures, units, tasks in ((1000, 20, 20), (1000, 40, 4), (10000, 12, 20), (50000, 8, 20), (50000, 8, 4)):
        yield measure_choosing(pictures, units, tasks, repeats)


def measure_choosing(pictures: int, units: int, tasks: int, repeats: int) -> Measurement:
    """Time the choice of exemplars over a pool of some size, rows of the table of stimuli included."""
    generator = generator_from(0, "cost of choosing", pictures)
    names = [f"{number:032x}" for number in range(pictures)]
    table = pd.DataFrame({"picture": names, "label": "", "group": [f"#{n}" for n in range(pictures)]})
    protocol = load_protocol("vimi1").for_pool(pictures).override({"tasks": {"per_unit": tasks}})
    windows = protocol.windows(pictures, ("easy",))
    members = [Unit("some", "layer", number) for number in range(units)]
    ties = content_ties(np.arange(units, dtype=np.uint64), picture_keys(names))
    columns = generator.normal(size=(units, pictures)).astype(np.float32)
    groups = np.arange(pictures)

    def choose() -> None:
        rows: list[dict[str, object]] = []
        for number, unit in enumerate(members):
            order = full_order(columns[number], number, ties)
            describe_unit(columns[number], order, 1.0, windows, 0.0)
            chosen = choose_exemplars(order, windows, protocol, seed=0, unit=unit, groups=groups)
            rows += exemplar_rows(unit, chosen, columns[number], table, "cost")
        hash_rows(schemas.STIMULI.conform(pd.DataFrame(rows)))

    shown = 2 * protocol.tasks_per_unit * (protocol.references_per_side + 1)
    amounts = {"rows": units * shown, "megaentries": units * pictures / 1e6}
    return measure("choosing", f"{pictures:,} pictures, {shown} shown", amounts, choose, repeats)


def measure_forward(card: str, model: Model, network: Network, pictures: int, repeats: int) -> Measurement:
    """Time a network's pass over pictures that are decoded already, all its columns read."""
    side = model.card.input.size
    shape = (BATCH_ON_CPU, 3, side, side)
    pixels = torch.from_numpy(generator_from(0, "pixels").integers(0, 256, shape, dtype=np.uint8))
    index, ones = np.arange(min(100, network.columns)), np.ones(min(100, network.columns))

    with ActivationReader(model.module, model.layer_map, model.aggregator, model.prefix_tokens) as reader:

        def run() -> None:
            for _ in range(pictures // BATCH_ON_CPU):
                columns = reader.read(model.prepare(pixels))
                unit_activations(columns, index, ones, 0 * ones)

        reader.read(model.prepare(pixels[:4]))
        amounts = {
            "pictures": pictures, "gigaflops": pictures * network.gigaflops,
            "megaelements": pictures * network.megaelements,
        }  # fmt: skip
        return measure("forward", card, amounts, run, repeats)


def measure_steps(
    card: str, model: Model, network: Network, canvases: Sequence[int], repeats: int
) -> list[Measurement]:
    """Time visualisations at three depths of a network: a prefix is copied, then sets take a few steps."""
    found: list[Measurement] = []
    layers = [min(model.layer_map.layers, key=lambda layer: abs(layer.depth - depth)) for depth in (0.15, 0.5, 0.85)]
    units = [Unit(model.name, layer.name, 0) for layer in layers]
    counted = tally(model, units).drawn

    def copy_prefixes() -> None:
        for layer in layers:
            fast.Prefix(model, layer, network.side, dtype=torch.float32)

    amounts = {"copies": len(layers), "megaparameters": len(layers) * network.megaparameters}
    found.append(measure("prefixes", card, amounts, copy_prefixes, repeats))
    for canvas, steps in ((canvases[0], 10), *((canvas, 3) for canvas in canvases)):
        settings = fast.FastSettings(canvas=canvas, steps=steps, sets=2, check_every=steps)
        for unit, layer, (_, flops, elements, similar) in zip(units, layers, counted):
            requests = [SetRequest(unit, sign, Threshold(1e9, 1e9, 0.0, 1.0)) for sign in (1, -1)]
            area = (canvas / network.side) ** 2 if network.scales else 1.0
            images = settings.sets * settings.images
            # Of a step, a forward pass and what its gradient takes, which is as much again; of the look at the end and
            # of each set that leaves, a forward pass.
            passes = images * (2 * steps + 1 + settings.sets)
            amounts = {
                "passes": passes / images, "megapixels": passes * settings.size**2 / 1e6,
                "gigaflops": passes * area * (flops + similar), "megaelements": passes * area * elements,
            }  # fmt: skip
            copied = timed(lambda: fast.Prefix(model, layer, canvas, dtype=torch.float32), 1)[0]
            run = lambda: list(fast.visualize(model, layer, requests, settings, seed=0))  # noqa: E731
            spent, wall = timed(run, repeats if canvas < 200 else 1)
            found.append(Measurement("steps", card, amounts, max(spent - copied, 1e-4), math.nan, wall))
    return found


def measure_networks(repeats: int, say: Callable[[str], None]) -> Iterator[Measurement | Network]:
    """Time networks: loading them, their passes, their visualisations."""
    for card, pictures in MEASURED.items():
        say(card)
        held: list[tuple[Model, Network]] = []
        begun, clock = process_time(), perf_counter()
        model = load_model(load_card(card), weights="random")
        seconds, wall = process_time() - begun, perf_counter() - clock
        drawn = draw_units(model.name, model.layer_map, rule="canonical", count=84, seed=42)
        network = replace(tally(model, drawn), name=card)
        held.append((model, network))
        yield network
        amounts = {"models": 1.0, "megaparameters": network.megaparameters, "layers": float(network.layers)}
        yield Measurement("loading", card, amounts, seconds, math.nan, wall)
        large = network.gigaflops > 5
        yield measure_forward(card, model, network, pictures, 1 if network.gigaflops > 20 else 2 if large else repeats)
        if card in VISUALISED:
            yield from measure_steps(card, model, network, VISUALISED[card], 2)


# ---------------------------------------------------------------- whole studies


def measure_build(card: str, pool: str, count: int, units: int, synthetic: int) -> Iterator[dict]:
    """Build a small study with one process and yield what each of its stages took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = open_pool(pool)
        (folder / "pictures").mkdir()
        places = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
        megapixels = 0.0
        for number, place in enumerate(places.tolist()):
            image = source.original(place)
            megapixels += image.width * image.height / 1e6
            image.save(folder / "pictures" / f"{number:04d}.jpg", quality=90)
        conditions = ["natural", "synthetic"] if synthetic else ["natural"]
        experiment = Experiment.model_validate(
            {
                "seed": 42,
                "pool": {"source": f"folder:{folder / 'pictures'}"},
                "models": [{"card": card, "weights": "random"}],
                "units": {"per_model": units},
                "stimuli": {"conditions": conditions, "references": 4, "tasks": 4},
                "visualization": {"canvas": 64, "steps": 24, **({"units": synthetic} if synthetic else {})},
                "session": {"main_trials": 4, "responses_per_unit": 4},
            }
        )
        spent: dict[str, tuple[float, float]] = {}
        original = Builder.run

        def staged(self: Builder, stage: Any) -> None:
            begun, clock = process_time(), perf_counter()
            original(self, stage)
            spent[stage] = (process_time() - begun, perf_counter() - clock)

        Builder.run = staged
        try:
            study = build(experiment, folder / "study", device="cpu", reporter=Reporter())
        finally:
            Builder.run = original
        stimuli = study.stimuli()
        made = stimuli[(stimuli["condition"] == "synthetic") & (stimuli["model"] != "planted")]
        drawn = study.units()
        steps = made.groupby(["layer", "index", "side"])["steps"].first()
        natural = stimuli[stimuli["condition"] == "natural"]
        facts = {
            "name": card, "pictures": len(study.pool()), "megapixels": megapixels / len(places),
            "sampled": len(drawn), "units": int(study.statistics()["used"].sum()),
            "extremes": min(study.protocol.windows(len(study.pool()), ("easy",)).reach, len(study.pool())),
            "stored": natural["picture"].nunique(), "synthetic": synthetic,
            "steps": float(steps.mean()) if len(steps) else 0.0, "canvas": 64,
        }  # fmt: skip
        folders = {
            "activations": study.root / "activations", "exemplars": study.root / "images",
            "units": study.tables / "pool.parquet",
        }  # fmt: skip
        for stage, (seconds, wall) in spent.items():
            place = folders.get(stage)
            files = [place] if place and place.is_file() else list(place.rglob("*")) if place else []
            size = sum(file.stat().st_size for file in files if file.is_file())
            yield {**facts, "stage": stage, "seconds": seconds, "wall": wall, "bytes": size if place else math.nan}


# ---------------------------------------------------------------- files


COLUMNS = ("kind", "stage", "name", "seconds", "wall", "bytes")


def write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write records of all kinds into one table; what a kind lacks stays empty."""
    names = [*COLUMNS, *sorted({key for record in records for key in record} - set(COLUMNS))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        for record in records:
            writer.writerow({key: _short(value) for key, value in record.items()})


def _short(value: Any) -> Any:
    """Write numbers with five digits, and those that are none as nothing."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.5g}"
    return value


def record_of(found: Measurement | Network, kind: str = "") -> dict[str, Any]:
    """Return a row of the table."""
    if isinstance(found, Measurement):
        facts = {key: value for key, value in asdict(found).items() if key != "amounts"}
        return {"kind": "stage", **facts, **found.amounts}
    facts = asdict(found)
    drawn = facts.pop("drawn")
    layers = ";".join(":".join(f"{value:.4g}" for value in layer) for layer in drawn)
    return {"kind": kind, **facts, "drawn": layers}


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read the table again."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if value != ""} for row in csv.DictReader(file)]


def measure_all(pool: str, repeats: int, console: Console) -> list[dict[str, Any]]:
    """Measure everything; returns the rows of the table."""
    torch.set_num_threads(1)
    prepare_torch(torch.device("cpu"))
    records: list[dict[str, Any]] = []
    begun = process_time()

    def say(what: str) -> None:
        console.print(f"{process_time() - begun:6.0f} s of processor: {what}")

    networks: dict[str, Network] = {}
    say("pictures")
    with tempfile.TemporaryDirectory() as name:
        records += [record_of(found) for found in measure_pictures(open_pool(pool), repeats, Path(name))]
    say("orders")
    records += [record_of(found) for found in measure_orders(repeats)]
    for found in measure_networks(repeats, say):
        if isinstance(found, Network):
            networks[found.name] = found
        records.append(record_of(found, "measured network"))
    for card, pictures, units, synthetic in BUILT:
        say(f"study of {card}")
        for facts in measure_build(card, pool, pictures, units, synthetic):
            records.append({"kind": "build", **facts})
    say("the nine models")
    for card in NINE:
        records.append(record_of(tally_card(card)[1], "of the nine"))
    say("timm's models")
    records += shape_records()
    say("done")
    return records


def shape_records() -> list[dict[str, Any]]:
    """Return rows of the observers' networks, of those whose speed was published, and of names of timm's list."""
    records = [record_of(replace(tally_card(card)[1], drawn=()), "observer") for card in OBSERVERS]
    for name, per_second in PUBLISHED.items():
        network = tally_shape(name)
        if network is not None:
            records.append({**record_of(network, "published"), "per_second": per_second})
    names = timm.list_models(pretrained=True)
    drawn = generator_from(0, "timm's models").choice(len(names), SAMPLED_NAMES, replace=False)
    for number in sorted(drawn.tolist()):
        network = tally_shape(names[number])
        records.append(
            {"kind": "of timm, not run", "name": names[number]} if network is None else record_of(network, "of timm")
        )
    return records


# ---------------------------------------------------------------- fitting, comparing, predicting


def stages_of(records: Sequence[dict[str, Any]]) -> list[Measurement]:
    """Return the measurements of stages, with the trials of the builds and the figures that were published."""
    found: list[Measurement] = []
    for row in records:
        if row["kind"] == "stage":
            amounts = {term: float(row[term]) for term in TERMS[row["stage"]] if term in row}
            size, wall = (float(row.get(name, "nan")) for name in ("bytes", "wall"))
            found.append(Measurement(row["stage"], row["name"], amounts, float(row["seconds"]), size, wall))
        elif row["kind"] == "build" and row["stage"] == "trials":
            amounts = {"units": float(row["units"]) + float(row["synthetic"])}
            found.append(Measurement("trials", row["name"], amounts, float(row["seconds"])))
        elif row["kind"] == "published":
            network = network_of(row)
            amounts = {
                "pictures": 1e3,
                "gigaflops": 1e3 * network.gigaflops,
                "megaelements": 1e3 * network.megaelements,
            }
            found.append(Measurement("accelerator", network.name, amounts, 1e3 / float(row["per_second"])))
    return found


def network_of(row: dict[str, Any]) -> Network:
    """Return the network of a row."""
    drawn = [layer.split(":") for layer in row.get("drawn", "").split(";") if layer]
    return Network(
        row["name"], *(float(row[name]) for name in ("megaparameters", "gigaflops", "megaelements")),
        *(int(row[name]) for name in ("layers", "columns", "units", "side")), row["scales"] in (True, "True"),
        tuple((int(n), float(a), float(b), float(c)) for n, a, b, c in drawn),
    )  # fmt: skip


def networks_of(records: Sequence[dict[str, Any]], kind: str) -> dict[str, Network]:
    """Return the networks of a kind by name."""
    return {row["name"]: network_of(row) for row in records if row["kind"] == kind}


def like_timm(records: Sequence[dict[str, Any]]) -> list[Network]:
    """Return networks with the sizes of those drawn from timm's list, and the layers of one of the nine each.

    Networks of more than :data:`MOST_GIGAFLOPS` are left out.
    """
    nine = list(networks_of(records, "of the nine").values())
    generator = generator_from(0, "layers of timm's models")
    made: list[Network] = []
    for shape in networks_of(records, "of timm").values():
        if shape.gigaflops > MOST_GIGAFLOPS:
            continue
        pattern = nine[int(generator.integers(len(nine)))]
        flops, elements = shape.gigaflops / pattern.gigaflops, shape.megaelements / pattern.megaelements
        drawn = tuple((n, a * flops, b * elements, c * flops) for n, a, b, c in pattern.drawn)
        made.append(replace(shape, layers=pattern.layers, columns=pattern.columns, units=pattern.units, drawn=drawn))
    return made


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table as the page has it."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def short(value: float) -> str:
    """Write a number with three digits."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if value == 0 or value >= 1e-3 else f"{value:.2e}"


def spread(estimate: Estimate, factor: float = 1.0) -> str:
    """Write an estimate with its interval."""
    if math.isinf(estimate.high):
        return f"{short(factor * estimate.value)} [no interval]"
    return f"{short(factor * estimate.value)} [{short(factor * estimate.low)}, {short(factor * estimate.high)}]"


def show_throughput(measured: Sequence[Measurement]) -> None:
    """Print how much of everything one core does in a second."""
    rows = []
    for found in measured:
        first = TERMS[found.stage][0]
        if found.stage in ("accelerator", "loading", "prefixes", "steps", "trials"):
            continue
        rows.append((found.stage, found.name, f"{short(found.amounts[first] / found.seconds)} {first}",
                     f"{found.wall / found.seconds:.1f}"))  # fmt: skip
    by_name: dict[str, list[Measurement]] = {}
    for found in measured:
        if found.stage == "steps":
            by_name.setdefault(found.name, []).append(found)
    for name, members in by_name.items():
        pixels = sum(m.amounts["megapixels"] for m in members) / sum(m.seconds for m in members)
        wall = sum(m.wall for m in members) / sum(m.seconds for m in members)
        rows.append(("steps", name, f"{short(pixels)} megapixels in all passes", f"{wall:.1f}"))
    show("Throughput of one core", ("stage", "with", "per second of processor", "wall / processor"), rows)


def show_fit(model: CostModel) -> None:
    """Print coefficients and errors of names that were held out."""
    rows = [
        (stage, term, spread(estimate, 1e3), estimate.n) for (stage, term), estimate in model.coefficients().items()
    ]
    show("Coefficients", ("stage", "amount", "milliseconds for one", "names"), rows)
    rows = [(stage, *(f"{100 * x:.0f} %" for x in (e.value, e.low, e.high)), e.n) for stage, e in
            model.held_out_errors().items()]  # fmt: skip
    show(
        "Relative error of a name predicted from the others", ("stage", "median", "smallest", "largest", "names"), rows
    )
    rows = [(stage, spread(estimate), BYTES[stage]) for stage, estimate in model.bytes_each.items()]
    show("Bytes", ("stage", "bytes for one", "of these"), rows)


def show_held_out(model: CostModel, measured: Sequence[Measurement]) -> None:
    """Print measured against predicted where a network was left out of the fit."""
    rows = []
    for stage in ("forward", "steps", "accelerator"):
        for name, error in model.stages[stage].held_out.items():
            spent = sum(found.seconds for found in measured if found.stage == stage and found.name == name)
            rows.append(
                (stage, name, short(spent), short(spent / math.exp(error)), f"{100 * math.expm1(-error):+.0f} %")
            )
    head = ("stage", "left out", "measured, s", "predicted from the others, s", "error")
    show("Networks that were left out", head, rows)


BUILD_PARTS = {
    "units": ("survey", "loading"), "activations": ("activations", "merging"), "exemplars": ("choosing", "storing"),
    "visualizations": ("visualizations",),
}  # fmt: skip


def show_builds(model: CostModel, records: Sequence[dict[str, Any]]) -> None:
    """Print measured against predicted of whole studies, to which nothing was fitted but what a trial takes."""
    networks = networks_of(records, "measured network")
    lite = networks["efficientnet_lite0"]
    rows = []
    builds: dict[str, list[dict[str, Any]]] = {}
    for row in records:
        if row["kind"] == "build":
            builds.setdefault(row["name"], []).append(row)
    for name, members in builds.items():
        facts = {key: float(members[0][key]) for key in ("pictures", "megapixels", "sampled", "units", "extremes",
                                                        "synthetic", "steps", "canvas")}  # fmt: skip
        design = StudySize(
            pictures=int(facts["pictures"]), megapixels=facts["megapixels"], units=int(facts["units"]),
            sampled=int(facts["sampled"]), extremes=int(facts["extremes"]), shown=40,
            synthetic=int(facts["synthetic"]), canvas=int(facts["canvas"]), steps=facts["steps"], copies=1, shards=1,
            embedder=(lite.gigaflops, lite.megaelements),
        )  # fmt: skip
        work = [*survey_work(design), *model_work(networks[name], design)]
        parts = core_seconds(model, work)
        total = [0.0, 0.0]
        for row in members:
            mine = [parts[part] for part in BUILD_PARTS.get(row["stage"], ()) if part in parts]
            if not mine:
                continue
            spent, told = float(row["seconds"]), sum(part.value for part in mine)
            total = [total[0] + spent, total[1] + told]
            errors = f"{100 * (told / spent - 1):+.0f} %"
            rows.append((name, row["stage"], short(spent), short(told), errors))
        rows.append((name, "**all of these**", *(short(x) for x in total), f"{100 * (total[1] / total[0] - 1):+.0f} %"))
        size = activation_bytes(design.pictures, design.sampled, networks[name].columns, design.extremes)
        written = next(float(row["bytes"]) for row in members if row["stage"] == "activations")
        rows.append((name, "activations, bytes", short(written), short(size), f"{100 * (size / written - 1):+.0f} %"))
    show("Whole studies on one core", ("study of", "stage", "measured, s", "predicted, s", "error"), rows)


def show_networks(records: Sequence[dict[str, Any]]) -> None:
    """Print what the nine networks and timm's are like."""
    rows = []
    for network in networks_of(records, "of the nine").values():
        upto = sum(n * a for n, a, _, _ in network.drawn) / sum(n for n, *_ in network.drawn) / network.gigaflops
        rows.append((network.name, f"{network.megaparameters:.1f}", f"{network.gigaflops:.2f}",
                     f"{network.megaelements:.1f}", network.layers, f"{network.units:,}", f"{network.columns:,}",
                     len(network.drawn), f"{upto:.2f}"))  # fmt: skip
    head = ("model", "M parameters", "GFLOP", "M elements", "layers", "units", "columns", "layers with drawn units",
            "share of FLOP up to them")  # fmt: skip
    show("The nine networks", head, rows)
    shapes = list(networks_of(records, "of timm").values())
    kept = [shape for shape in shapes if shape.gigaflops <= MOST_GIGAFLOPS]
    failed = sum(row["kind"] == "of timm, not run" for row in records)
    rows = []
    for name in ("megaparameters", "gigaflops", "megaelements", "side"):
        values = np.array([getattr(shape, name) for shape in kept], dtype=float)
        rows.append((name, *(short(float(q)) for q in np.percentile(values, [5, 25, 50, 75, 95])),
                     short(float(values.mean())), short(float(values.max()))))  # fmt: skip
    left = f"{failed} more could not be counted, {len(shapes) - len(kept)} take more than {MOST_GIGAFLOPS:g} GFLOP"
    title = f"{len(kept)} networks of timm ({left})"
    show(title, ("per picture", "5 %", "25 %", "50 %", "75 %", "95 %", "mean", "largest"), rows)


def designs_of(records: Sequence[dict[str, Any]]) -> dict[str, StudySize]:
    """Return what is made of a model: the release over the validation pictures, and that of 2023 over the others."""
    observers = tuple((each.gigaflops, each.megaelements) for each in networks_of(records, "observer").values())
    release = load_protocol("vimi1").for_pool(50_000)
    old = load_protocol("imi2023").for_pool(1_281_167)
    common = {
        "megapixels": MEGAPIXELS, "units": 84, "sampled": 100, "embedder": observers[0], "observers": observers,
        "described": True,
    }  # fmt: skip
    return {
        "validation": StudySize(
            pictures=50_000, extremes=release.windows(50_000, ("easy",)).reach, synthetic=84, parts=3, **common
        ),
        "training": StudySize(
            pictures=1_281_167, extremes=old.windows(1_281_167, ("easy",)).reach, synthetic=84, **common
        ),
    }


FILE_MEGABYTES = 0.11
"""Of an ImageNet photograph's file, assumed."""

MEGAPIXELS = 0.19
"""Of an ImageNet photograph: 500 x 375, its most frequent size."""

WAYS = {
    "one study": "one study, `vimi build --engine ray`",
    "one after the other": "`vimi leaderboard release --engine ray`",
    "side by side": "a `vimi leaderboard add` on each GPU",
}  # fmt: skip


def show_predictions(model: CostModel, records: Sequence[dict[str, Any]], base: Hardware) -> None:
    """Print hours and money for nine and for 800 models."""
    nine, many = list(networks_of(records, "of the nine").values()), like_timm(records)
    for name, design in designs_of(records).items():
        rows, parts, heavy = [], [], []
        alone = [predict_studies(model, [network], design, base).hours.value for network in many]
        for label, networks, times, manners in (
            ("9", nine, 1, tuple(WAYS)), ("800", many, 800 / len(many), ("one after the other", "side by side")),
        ):  # fmt: skip
            for manner in manners:
                for gpus in (1, 8, 64):
                    if manner == "side by side" and gpus == 1:
                        continue
                    hardware = replace(base, gpus=gpus)
                    found = predict_studies(model, networks, design, hardware, manner, times=max(1, round(times)))
                    # 800 are not a multiple of what was drawn.
                    scale = times / max(1, round(times))
                    hours = widened(found.hours, np.array(alone)) if label == "800" else found.hours
                    money = [scale * found.gpu_hours.value * price for price in (1, 2, 4)]
                    sizes = (scale * found.bytes / 1e9, scale * found.peak_bytes / 1e9)
                    rows.append((label, WAYS[manner], gpus, spread(hours, scale),
                                 " / ".join(short(price) for price in money), f"{100 * found.busy:.0f} %",
                                 *(short(size) for size in sizes)))  # fmt: skip
                    if label == "9" and manner != "side by side":
                        read = len(nine) * design.copies * design.pictures / found.by_part["activations"] / 3600
                        parts.append((WAYS[manner], gpus, *(short(60 * found.by_part[part]) for part in PARTS),
                                      short(read * FILE_MEGABYTES)))  # fmt: skip
            heavy += [(label, words) for words in found.outside]
        head = ("models", "how", "GPUs", "hours", "USD at 1 / 2 / 4 per GPU hour", "GPUs busy", "GB kept", "GB at most")
        show(f"Predicted: {name} pictures, {design.pictures:,}", head, rows)
        show(f"Minutes by part: nine models, {name} pictures", ("how", "GPUs", *PARTS, "MB/s read by passes"), parts)
        by_kind: dict[tuple[str, str], list[str]] = {}
        for label, words in heavy:
            by_kind.setdefault((label, words.partition(":")[0]), []).append(words.partition(": ")[2])
        print()
        for (label, stage), words in by_kind.items():
            worst = max(words, key=lambda text: float(text.partition(" ")[0]))
            print(f"- Heavier than what was measured, {label} models, {stage}: {len(words)} kinds, up to {worst}.")


def widened(hours: Estimate, own: np.ndarray) -> Estimate:
    """Widen an interval by what another draw of networks, of these hours, would change."""
    generator = generator_from(0, "names drawn anew")
    means = own[generator.integers(len(own), size=(2000, len(own)))].mean(axis=1) / own.mean()
    low, high = np.percentile(means, [2.5, 97.5])
    down = math.hypot(math.log(hours.value / hours.low), math.log(1 / low))
    up = math.hypot(math.log(hours.high / hours.value), math.log(high))
    return replace(hours, low=hours.value * math.exp(-down), high=hours.value * math.exp(up))


def show_sensitivity(model: CostModel, records: Sequence[dict[str, Any]], base: Hardware) -> None:
    """Print what other assumptions would change."""
    nine, design = list(networks_of(records, "of the nine").values()), designs_of(records)["validation"]
    hardware = replace(base, gpus=8)
    plain = predict_studies(model, nine, design, hardware).hours.value
    cases: list[tuple[str, Hardware, StudySize]] = [
        ("cores per GPU: 4", replace(hardware, cores_per_gpu=4), design),
        ("cores per GPU: 16", replace(hardware, cores_per_gpu=16), design),
        ("cores half as fast as here", replace(hardware, core=0.5), design),
        ("cores twice as fast as here", replace(hardware, core=2.0), design),
        ("accelerator three times as fast", replace(hardware, speed=3.0), design),
        ("single precision costs nothing", replace(hardware, exact=1.0), design),
        ("single precision takes 5 times as long", replace(hardware, exact=5.0), design),
        ("a step takes 6 forward passes", replace(hardware, step=6.0), design),
        ("a step takes 2 forward passes", replace(hardware, step=2.0), design),
        ("other work only 10 times as fast as on a core", replace(hardware, helper=10.0), design),
        ("2 sets in a batch, as on a CPU, at the same speed", replace(hardware, sets=2), design),
        ("sets take all 504 steps", hardware, replace(design, steps=504.0)),
        ("16 units with synthetic pictures", hardware, replace(design, synthetic=16)),
        ("no synthetic pictures", hardware, replace(design, synthetic=0)),
        ("no twins", hardware, replace(design, copies=1)),
        ("groups known, nothing embedded or compared", hardware, replace(design, embedder=None)),
    ]
    rows = [("as assumed", short(plain), "1.00")]
    for words, changed, made in cases:
        hours = predict_studies(model, nine, made, changed).hours.value
        rows.append((words, short(hours), f"{hours / plain:.2f}"))
    head = ("assumption", "hours", "relative")
    show("What would change it: nine models, one study, 8 GPUs, validation pictures", head, rows)


def main() -> None:
    """Measure or read, fit, compare and predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", default="bundled", help="pictures to measure with")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which medians are taken")
    parser.add_argument("--out", type=Path, default=None, help="CSV file to write measurements to")
    parser.add_argument("--from", dest="source", type=Path, default=None, help="CSV file to read in place of measuring")
    arguments = parser.parse_args()
    if arguments.source:
        records = read_csv(arguments.source)
    else:
        records = measure_all(arguments.pool, arguments.repeats, Console(width=150))
        target = arguments.out or Path(tempfile.mkdtemp()) / "measurements.csv"
        write_csv(target, records)
        records = read_csv(target)
    measured = stages_of(records)
    model = fit_costs(measured)
    base = Hardware(model.stages["accelerator"])
    show_throughput(measured)
    show_fit(model)
    show_held_out(model, measured)
    show_builds(model, records)
    show_networks(records)
    show_predictions(model, records, base)
    show_sensitivity(model, records, base)


if __name__ == "__main__":
    main()
