"""How fast are feature visualisations against the bare network, lucent and the paper's recipe? Run by hand.

    python -m tests.speed.visualizations [--units N] [--steps N] [--recipe-steps N] [--device cpu]

Everything is measured in one run on EfficientNet-Lite0. "bare" is a forward and backward pass of timm's own
prefix; "fast" is the whole preset: spectra, views, diversity, Adam, multipliers and checks; "lucent" is
torch-lucent 0.1.8's render_vis with its channel objective, unit after unit, in this process, where it profits from
vimi's allocator settings; "lucent alone" is the same in a process of its own, as its users run it.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmark.device import choose_device, prepare_torch
from benchmark.layers import Layer
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model
from benchmark.randomness import generator_from
from benchmark.readings import forward_to
from benchmark.units import Unit
from stimuli.loading import map_ahead
from stimuli.pictures import canonical_crop, resize_to, to_pixels
from stimuli.pool_sources import open_pool
from stimuli.visualization import fast, recipe2023
from stimuli.visualization.sets import IMAGES, SetRequest, Threshold
from stimuli.visualization.thresholds import measure_thresholds

LAYERS = ("blocks.2.0.conv_pw", "blocks.4.0.conv_pw")


def synchronize(device: torch.device) -> None:
    """Wait for an accelerator."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long a piece of work takes."""
    synchronize(device)
    begun = perf_counter()
    work()
    synchronize(device)
    return perf_counter() - begun


def bare_step(model: Model, layer: Layer, images: int, canvas: int) -> Callable[[], object]:
    """Return a function that runs timm's prefix forward and backward once."""
    run = forward_to(model.module, layer.place)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn((images, 3, canvas, canvas), generator=generator).to(model.device)
    pictures = pictures.contiguous(memory_format=torch.channels_last).requires_grad_(True)

    def step() -> None:
        pictures.grad = None
        run(pictures)[:, 0].mean((1, 2)).sum().backward()

    return step


def out_of_reach(layer: str, units: list[int]) -> list[SetRequest]:
    """Return sets that are never accepted, so that each takes exactly the steps it may."""
    return [SetRequest(Unit("lite0", layer, unit), 1, Threshold(1e9, 1e9, 0.0, 1.0)) for unit in units]


def lucent_run(module: torch.nn.Module, layer: str, units: list[int], steps: int, canvas: int) -> None:
    """Render units one after the other with lucent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lucent.optvis import param, render

        for unit in units:
            render.render_vis(
                module, f"{layer.replace('.', '_')}:{unit}", lambda: param.image(canvas, batch=IMAGES),
                thresholds=(steps,), progress=False, show_image=False,
            )  # fmt: skip


def lucent_alone(layer: str, units: list[int], steps: int, canvas: int) -> float:
    """Time lucent without anything of vimi around it but the model; runs in a fresh process."""
    module = load_model(load_card("efficientnet_lite0")).module.requires_grad_(True)
    lucent_run(module, layer, units[:1], 1, canvas)
    begun = perf_counter()
    lucent_run(module, layer, units, steps, canvas)
    return 1e3 * (perf_counter() - begun) / (len(units) * IMAGES * steps)


def per_image_step(arguments: argparse.Namespace, model: Model, settings: fast.FastSettings, console: Console) -> None:
    """Compare milliseconds per image and step."""
    table = Table("layer", "bare", "fast", "lucent", "fast / bare", "lucent / fast", "lucent alone", "/ fast", box=None)
    table.title = f"ms per image-step, {arguments.units} units x {IMAGES} images, {settings.canvas} px, {model.device}"
    units = list(range(arguments.units))
    plain = copy.deepcopy(model.module).requires_grad_(True)
    for name in LAYERS:
        layer = model.layer_map[name]
        images = settings.sets * IMAGES
        step = bare_step(model, layer, images, settings.canvas)
        counts = arguments.units * IMAGES * arguments.steps
        timed = replace(settings, steps=arguments.steps)
        lucent_units = units[: arguments.lucent_units]
        work = {
            "bare": (lambda: [step() for _ in range(arguments.steps)], images * arguments.steps),
            "fast": (lambda: list(fast.visualize(model, layer, out_of_reach(name, units), timed, seed=0)), counts),
            "lucent": (
                lambda: lucent_run(plain, name, lucent_units, arguments.lucent_steps, settings.canvas),
                len(lucent_units) * IMAGES * arguments.lucent_steps,
            ),
        }
        for run, _ in work.values():
            run()  # warm up
        rounds = [{key: 1e3 * seconds(run, model.device) / n for key, (run, n) in work.items()} for _ in range(3)]
        middle = {key: statistics.median(r[key] for r in rounds) for key in work}
        alone = float("nan")
        if model.device.type == "cpu":
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as own:
                timing = own.submit(lucent_alone, name, lucent_units, arguments.lucent_steps, settings.canvas)
                alone = timing.result()
        table.add_row(
            name,
            *(f"{middle[key]:.2f}" for key in ("bare", "fast", "lucent")),
            f"{statistics.median(r['fast'] / r['bare'] for r in rounds):.2f}",
            f"{statistics.median(r['lucent'] / r['fast'] for r in rounds):.2f}",
            f"{alone:.2f}",
            f"{alone / middle['fast']:.2f}",
        )
    console.print(table)


def per_accepted_unit(arguments: argparse.Namespace, model: Model, console: Console) -> None:
    """Compare seconds per unit with nine accepted diverse pictures a sign."""
    pool = open_pool(arguments.pool)
    canvas = arguments.recipe_canvas
    recipe = recipe2023.RecipeSettings.shrunk(canvas, arguments.recipe_steps)
    settings = fast.FastSettings(canvas=canvas, half=model.device.type == "cuda")
    factor = recipe2023.RecipeSettings.most_steps / arguments.recipe_steps
    table = Table("layer", "preset", "seconds", "sets accepted", "s / accepted set", "alike", "weakest", box=None)
    table.title = (
        f"per set of {IMAGES}, {canvas} px; imi2023 with all step numbers divided by {factor:g} "
        f"({recipe.least_steps} to {recipe.most_steps} steps a run)"
    )
    rows = generator_from(0, "speed").choice(len(pool), min(256, len(pool)), replace=False).tolist()

    def read(row: int) -> np.ndarray:
        return to_pixels(resize_to(canonical_crop(pool.original(rows[row]), 224), canvas)).transpose(2, 0, 1)

    pixels = list(map_ahead(read, range(len(rows)), ahead=64))
    ratios = []
    for name in LAYERS:
        layer = model.layer_map[name]
        prefix = fast.Prefix(model, layer, canvas, dtype=torch.float32)
        with torch.inference_mode():
            stacked = torch.from_numpy(np.stack(pixels)).float().to(model.device) / 255
            values = torch.cat([prefix.activations(prefix.features(p), len(p)).cpu() for p in stacked.split(32)])
        units = [Unit("lite0", name, unit) for unit in range(arguments.recipe_units)]
        columns = [values[:, unit.index].numpy() for unit in units]
        requests = measure_thresholds(prefix, units, columns, lambda row: pixels[row], canvas=canvas, seed=0)
        cost = {}
        for preset, run in (
            ("fast", lambda: list(fast.visualize(model, layer, requests, settings, seed=0))),
            ("imi2023", lambda: list(recipe2023.visualize(model, layer, requests, recipe, seed=0))),
        ):
            begun = perf_counter()
            made = run()
            synchronize(model.device)
            took = perf_counter() - begun
            accepted = [result for result in made if result.accepted]
            cost[preset] = took / max(len(accepted), 1)
            table.add_row(
                name,
                preset,
                f"{took:.1f}",
                f"{len(accepted)} of {len(made)}",
                f"{cost[preset]:.2f}",
                f"{np.mean([r.diversity_loss for r in made]):.2f}",
                f"{np.median([r.request.threshold.over_best(float(r.activations[0])) for r in made]):.2f}",
            )
        ratios.append(cost["imi2023"] / cost["fast"])
    console.print(table)
    console.print("imi2023 / fast: " + ", ".join(f"{ratio:.1f}" for ratio in ratios))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--canvas", type=int, default=224)
    parser.add_argument("--sets", type=int, default=0, help="sets in a batch; the default of the device if 0")
    parser.add_argument("--lucent-units", type=int, default=2)
    parser.add_argument("--lucent-steps", type=int, default=6)
    parser.add_argument("--recipe-canvas", type=int, default=64)
    parser.add_argument("--recipe-steps", type=int, default=200)
    parser.add_argument("--recipe-units", type=int, default=1)
    parser.add_argument("--pool", default="bundled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", choices=["step", "accepted"], default=None)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    prepare_torch(device)
    console = Console(width=120)
    model = load_model(load_card("efficientnet_lite0"), device=device)
    sets = arguments.sets or (2 if device.type == "cpu" else arguments.units)
    settings = fast.FastSettings(canvas=arguments.canvas, sets=sets, half=device.type == "cuda")
    if arguments.only != "accepted":
        per_image_step(arguments, model, settings, console)
    if arguments.only != "step":
        per_accepted_unit(arguments, model, console)


if __name__ == "__main__":
    main()
