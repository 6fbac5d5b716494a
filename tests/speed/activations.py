"""How fast is the activation pass against a bare forward pass? Run by hand; prints a table.

    python -m tests.speed.activations [MODEL ...] [--pictures N] [--rounds N] [--device cpu]

Both sides decode the same pictures with the same loader in the same batches. "bare" only runs timm's forward;
"pass" reads every eligible layer and keeps all columns and extremes. Rounds alternate, and medians of the ratio
round by round are given, because machines drift.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table

from benchmark.device import choose_device, prepare_torch
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model, weights_on_machine
from benchmark.protocol import load_protocol
from benchmark.units import draw_units
from stimuli.activations import BATCH_ON_ACCELERATOR, BATCH_ON_CPU, ActivationPlan, measure_shard
from stimuli.loading import batches, model_pixels
from stimuli.pool_sources import open_pool
from stimuli.pools import Pool
from stimuli.survey import Survey, survey_pool


class RepeatedPool(Pool):
    """A pool's pictures over and over, decoded once: for an accelerator that is faster than decoding."""

    name = "repeated"

    def __init__(self, pool: Pool, count: int) -> None:
        self.entries = [pool.entries[n % len(pool)] for n in range(count)]
        self.images = [pool.original(n) for n in range(min(len(pool), 256))]

    def original(self, place):
        return self.images[place % len(self.images)]


def bare(model: Model, plan: ActivationPlan, places: range) -> float:
    """Return pictures per second of timm's forward with the same loader."""

    def read(row):
        return model_pixels(plan.pool, int(plan.survey.places[row]), model.card.input, plan.view, plan.crop)

    begun = perf_counter()
    with torch.inference_mode():
        for _, pixels in batches(read, places, plan.batch_size):
            out = model.module(model.prepare(pixels))
    out.cpu()
    return len(places) / (perf_counter() - begun)


def full(plan: ActivationPlan, places: range, folder: Path) -> float:
    """Return pictures per second of the whole pass, its file included."""
    begun = perf_counter()
    measure_shard(plan, places).write(folder / "shard.safetensors", plan.identity)
    return len(places) / (perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["efficientnet_lite0", "efficientnet_lite2", "resnet50"])
    parser.add_argument("--pictures", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pool", default="bundled")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    prepare_torch(device)
    pool = open_pool(arguments.pool)
    batch = BATCH_ON_CPU if device.type == "cpu" else BATCH_ON_ACCELERATOR
    table = Table("model", "layers", "units", "readings", "bare", "pass", "share of bare", box=None, title=str(device))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = survey_pool(pool, folder / "survey", crop=224)
        count = min(arguments.pictures, len(known.table)) if device.type == "cpu" else arguments.pictures
        if count > len(known.table):
            rows = [n % len(known.table) for n in range(count)]
            pool = RepeatedPool(pool, count)
            table_rows = known.table.iloc[rows].reset_index(drop=True)
            places = torch.arange(count).numpy()
            known = Survey(table_rows, places, known.planted[rows], (), 0)
        for card_name in arguments.models:
            card = load_card(card_name)
            model = load_model(card, weights="" if weights_on_machine(card) else "random", device=device)
            units = draw_units(model.name, model.layer_map, rule="canonical", count=100, seed=0)
            plan = ActivationPlan(model, pool, known, tuple(units), 200, load_protocol("vimi1"), 0, batch_size=batch)
            plan.__dict__["pictures"] = [""] * count if isinstance(pool, RepeatedPool) else plan.pictures
            if isinstance(pool, RepeatedPool):
                plan.__dict__["ties"] = lambda units, places: places
            places = range(count)
            bare(model, plan, range(min(count, 4 * batch)))
            pairs = [(bare(model, plan, places), full(plan, places, folder)) for _ in range(arguments.rounds)]
            table.add_row(
                card_name,
                str(len(model.layer_map.layers)),
                f"{model.layer_map.unit_count:,}",
                str(len(model.layer_map.readings)),
                f"{statistics.median(b for b, _ in pairs):.1f}/s",
                f"{statistics.median(f for _, f in pairs):.1f}/s",
                f"{statistics.median(f / b for b, f in pairs):.3f}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
