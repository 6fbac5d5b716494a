"""How good do feature visualisations look beside lucent's, and what do they cost? Run by hand, and look at the sheet.

    python -m tests.speed.side_by_side --out FOLDER [--cifar FILE] [--canvas N] [--images N] [--lucent-steps N]

Units of EfficientNet-Lite0, and of a small vision transformer, early, middle and deep. Both make pictures that maximise
a unit: the preset ``fast`` as a study would, with what has to be beaten measured on the bundled pictures (or on those
of the file), and torch-lucent 0.1.8 with its own transforms and its channel objective. Activations are measured in the
same way for both, on the finished 8-bit pictures without any transform. Each unit's cost is in processor seconds of
one thread, in the same process, so that lucent profits from vimi's allocator settings.

``--cifar`` names an .npz file with ``train_pictures``, ``train_labels``, ``test_pictures`` (n, 32, 32, 3) and
``test_labels``; the transformer is trained on it, in some minutes, and kept in the folder. Without it, only the
convolutional network is shown.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional

from benchmark.device import prepare_torch
from benchmark.experiment import VisualizationSettings
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model
from benchmark.own_models import offer_model
from benchmark.randomness import generator_from
from benchmark.units import Unit
from stimuli.pictures import canonical_crop, resize_to, to_pixels
from stimuli.pool_sources import open_pool
from stimuli.synthetic import preset_settings
from stimuli.visualization import fast
from stimuli.visualization.sets import SetRequest
from stimuli.visualization.thresholds import measure_thresholds

CNN_UNITS = (
    ("blocks.1.0.conv_pw", 5), ("blocks.2.1.conv_pwl", 9), ("blocks.3.1.conv_pw", 40), ("blocks.4.1.conv_pw", 50),
    ("blocks.5.1.conv_pwl", 7), ("blocks.6.0.conv_pwl", 30),
)  # fmt: skip
VIT_UNITS = (
    ("blocks.0.mlp.fc1", 3), ("blocks.1.mlp.fc2", 20), ("blocks.1.mlp.fc1", 40), ("blocks.2.mlp.fc2", 11),
    ("blocks.2.mlp.fc1", 7), ("blocks.3.mlp.fc1", 90),
)  # fmt: skip
POOL = 400
"""Pictures of a pool that thresholds are measured on."""
CELL = 112
"""Side of a picture on the sheet."""
SHOWN = 4
"""Pictures of each set on the sheet."""

Pictures = NDArray[np.uint8]


def small_vit() -> nn.Module:
    """Return a vision transformer for pictures of 32 pixels, untrained."""
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=64, depth=4, num_heads=2, mlp_ratio=3, num_classes=10)


def train_vit(data: Path, weights: Path, epochs: int, console: Console) -> nn.Module:
    """Return the transformer with the weights in a file, trained first if there is none."""
    network = small_vit()
    if weights.is_file():
        network.load_state_dict(load_file(weights))
        return network
    torch.manual_seed(0)
    network = small_vit()
    with np.load(data) as arrays:
        pictures, labels = (torch.from_numpy(arrays[f"train_{name}"].copy()) for name in ("pictures", "labels"))
        held, truth = (torch.from_numpy(arrays[f"test_{name}"].copy()) for name in ("pictures", "labels"))
    begun = process_time()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.5e-3, weight_decay=0.05)
    batch = 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=epochs * (len(pictures) // batch))
    for epoch in range(epochs):
        took = process_time() - begun
        console.print(f"Training: epoch {epoch + 1} of {epochs}, {took:.0f} processor s", highlight=False)
        order = torch.randperm(len(pictures))
        for start in range(0, len(order) - batch + 1, batch):
            rows = order[start : start + batch]
            seen = _normal(pictures[rows])
            if torch.rand(()) < 0.5:
                seen = seen.flip(-1)
            shift = torch.randint(0, 5, (2,)).tolist()
            seen = functional.pad(seen, (2, 2, 2, 2), mode="reflect")[..., shift[0] : shift[0] + 32, shift[1] :][
                ..., :32
            ]
            loss = functional.cross_entropy(network(seen), labels[rows].long(), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        right = torch.cat([network(_normal(part)).argmax(1) for part in held.split(250)]) == truth
    save_file(network.state_dict(), weights)
    console.print(f"Small transformer: {process_time() - begun:.0f} processor s, {right.float().mean():.3f} right.")
    return network


def _normal(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.permute(0, 3, 1, 2).float().div(127.5).sub(1)


@dataclass
class Made:
    """Pictures for a unit, and what they reached and cost."""

    pixels: Pictures
    activations: NDArray[np.float64]
    steps: int
    seconds: float


def measure(model: Model, request: SetRequest, pixels: Pictures) -> NDArray[np.float64]:
    """Return the unit's activations for finished pictures, without any transform."""
    prefix = fast.Prefix(model, model.layer_map[request.unit.layer], pixels.shape[1], dtype=torch.float32)
    seen = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        values = prefix.activations(prefix.features(seen), len(seen))
    return values[:, request.unit.index].double().numpy()


def with_lucent(model: Model, request: SetRequest, canvas: int, images: int, steps: int) -> Made:
    """Make pictures with lucent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lucent.optvis import objectives, param, render, transform

        layer, unit = request.unit.layer, request.unit.index
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        objective: Any = f"{layer.replace('.', '_')}:{unit}"
        transforms = list(transform.standard_transforms)
        tokens = model.layer_map[layer].place.axis != 1
        if tokens:
            # A transformer takes its own size alone, and its layers have no channels for lucent's objective.
            transforms.append(nn.Upsample(size=(canvas, canvas), mode="bilinear", align_corners=True))
            name = layer.replace(".", "_")
            objective = objectives.Objective(lambda hooks: -hooks(name)[..., unit].mean())
        transforms.append(model.normalize)
        # A copy: lucent leaves its hooks, and the tensors they hold.
        module = copy.deepcopy(model.module).requires_grad_(True)
        begun = process_time()
        last = render.render_vis(
            module, objective, lambda: param.image(canvas, batch=images), transforms=transforms, preprocess=False,
            thresholds=(steps,), progress=False, show_image=False, fixed_image_size=canvas,
        )[-1]  # fmt: skip
        took = process_time() - begun
    pixels = np.rint(np.clip(last, 0, 1) * 255).astype(np.uint8)
    return Made(pixels, measure(model, request, pixels), steps, took)


def with_fast(model: Model, request: SetRequest, settings: fast.FastSettings) -> Made:
    """Make pictures with the preset ``fast``."""
    begun = process_time()
    (result,) = fast.visualize(model, model.layer_map[request.unit.layer], [request], settings, seed=42)
    took = process_time() - begun
    return Made(result.pixels, measure(model, request, result.pixels), result.steps, took)


def requests_of(model: Model, units: tuple[tuple[str, int], ...], canvas: int, pool: Pictures) -> Iterator[SetRequest]:
    """Yield what each unit's pictures have to beat."""
    seen = torch.from_numpy(pool).float() / 255
    for layer, index in units:
        prefix = fast.Prefix(model, model.layer_map[layer], canvas, dtype=torch.float32)
        with torch.inference_mode():
            values = [prefix.activations(prefix.features(part), len(part)) for part in seen.split(32)]
        column = torch.cat(values)[:, index].numpy()
        unit = Unit(model.name, layer, index)
        yield measure_thresholds(prefix, [unit], [column], pool.__getitem__, canvas=canvas, seed=0)[0]


def bundled_pictures(canvas: int) -> Pictures:
    """Return some of the bundled pictures."""
    pool = open_pool("bundled")
    rows = generator_from(0, "side by side").choice(len(pool), POOL, replace=False).tolist()
    crops = (resize_to(canonical_crop(pool.original(row), 224), canvas) for row in rows)
    return np.stack([to_pixels(crop).transpose(2, 0, 1) for crop in crops])


def _strip(made: Made, cell: int) -> Image.Image:
    """Return a set's strongest, weakest and some pictures between them, side by side."""
    chosen = np.argsort(-made.activations)[np.linspace(0, len(made.activations) - 1, SHOWN).round().astype(int)]
    strip = Image.new("RGB", (SHOWN * (cell + 2), cell), "white")
    for number, picture in enumerate(chosen):
        strip.paste(resize_to(Image.fromarray(made.pixels[picture]), cell), (number * (cell + 2), 0))
    return strip


def draw_sheet(rows: list[tuple[SetRequest, Made, Made]], path: Path) -> None:
    """Write all units' pictures, ours on the left and lucent's on the right."""
    width, height, left = SHOWN * (CELL + 2), CELL + 16, 8
    columns = 2 if len(rows) > 6 else 1
    deep = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * (2 * width + 40), deep * height + 18), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (request, ours, theirs) in enumerate(rows):
        x, y = left + number // deep * (2 * width + 40), 16 + number % deep * height
        if number % deep == 0:
            draw.text((x, 2), "fast", fill="black")
            draw.text((x + width + 12, 2), "lucent", fill="black")
        draw.text((x, y + 1), f"{request.unit}  {np.median(ours.activations):.2f}", fill="black")
        draw.text((x + width + 12, y + 1), f"{np.median(theirs.activations):.2f}", fill="black")
        sheet.paste(_strip(ours, CELL), (x, y + 14))
        sheet.paste(_strip(theirs, CELL), (x + width + 12, y + 14))
    sheet.save(path, quality=82)


def _of_an_image_step(made: Made) -> float:
    """Return the processor milliseconds that one step of one picture took."""
    return 1e3 * made.seconds / made.steps / len(made.pixels)


def show_table(rows: list[tuple[SetRequest, Made, Made]], console: Console) -> None:
    """Print what was reached and what it cost."""
    table = Table("unit", "pool's best", "fast", "lucent", "steps", "/", "s a picture", "/", "ms", "/", box=None)
    table.title = "median activation (weakest); steps; processor seconds a picture; ms an image-step: fast, then lucent"
    for request, ours, theirs in rows:
        cells = [f"{np.median(made.activations):.2f} ({made.activations.min():.2f})" for made in (ours, theirs)]
        cells += [str(made.steps) for made in (ours, theirs)]
        cells += [f"{made.seconds / len(made.pixels):.1f}" for made in (ours, theirs)]
        cells += [f"{_of_an_image_step(made):.2f}" for made in (ours, theirs)]
        table.add_row(str(request.unit), f"{request.threshold.best:.2f}", *cells)
    console.print(table)
    ratio = np.array([_of_an_image_step(t) / _of_an_image_step(o) for _, o, t in rows])
    whole = np.array([t.seconds / len(t.pixels) / (o.seconds / len(o.pixels)) for _, o, t in rows])
    console.print(
        f"lucent / fast: image-step {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f}), "
        f"picture {np.median(whole):.2f} ({whole.min():.2f} to {whole.max():.2f})"
    )


def main() -> None:
    """Make the pictures, measure, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--canvas", type=int, default=224, help="of the convolutional network")
    parser.add_argument("--images", type=int, default=9)
    parser.add_argument("--lucent-steps", type=int, default=256)
    parser.add_argument("--only", choices=["cnn", "vit", "train"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    prepare_torch(torch.device("cpu"))
    torch.set_num_threads(1)
    console = Console(width=140)
    jobs: list[tuple[Callable[[], Model], tuple[tuple[str, int], ...], int, Callable[[int], Pictures]]] = []
    if arguments.only in (None, "cnn"):
        jobs.append(
            (lambda: load_model(load_card("efficientnet_lite0")), CNN_UNITS, arguments.canvas, bundled_pictures)
        )
    if arguments.cifar and arguments.only != "cnn":
        network = train_vit(arguments.cifar, arguments.out / "small_vit.safetensors", arguments.epochs, console)
        if arguments.only == "train":
            return
        half = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        offer_model(
            network, "small_vit", input={"size": 32, "crop_ratio": 1.0, **half},
            training={"data": ["cifar-10"], "images": 12_000}, untrained=small_vit,
        )  # fmt: skip

        def natural(canvas: int) -> Pictures:
            with np.load(arguments.cifar) as arrays:
                return np.ascontiguousarray(arrays["test_pictures"][:POOL].transpose(0, 3, 1, 2))

        jobs.append((lambda: load_model(load_card("small_vit")), VIT_UNITS, 32, natural))
    rows: list[tuple[SetRequest, Made, Made]] = []
    for load, units, canvas, pictures in jobs:
        model = load()
        wanted = VisualizationSettings(canvas=canvas)
        settings = replace(
            preset_settings(wanted, arguments.images, model.device, model.card.input.size, fast.patch_side(model)),
            sets=1,
        )
        for request in requests_of(model, units, canvas, pictures(canvas)):
            ours = with_fast(model, request, settings)
            # Its pictures have nothing to do with one another: as many as are shown are enough.
            theirs = with_lucent(model, request, canvas, min(SHOWN, arguments.images), arguments.lucent_steps)
            rows.append((request, ours, theirs))
            console.print(f"{request.unit}: {ours.seconds:.0f} and {theirs.seconds:.0f} processor s", highlight=False)
            draw_sheet(rows, arguments.out / "side_by_side.webp")
    show_table(rows, console)


if __name__ == "__main__":
    main()
