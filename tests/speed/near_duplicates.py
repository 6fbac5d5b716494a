"""How many planted near-duplicates are found, and how many unrelated pictures are taken for one, by kind of pool.

    python -m tests.speed.near_duplicates --folder IMAGES --array PICTURES.npz:test_pictures

Pools: handwritten digits (scikit-learn), pictures like X-rays of one region, textures of one spectrum, and, if given,
photographs in a folder and pictures in an array. In each, copies of some pictures are planted: recompressed, resized,
brightened, mirrored, shifted, cropped.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmark.model_sources import load_card
from benchmark.model_zoo import load_model
from benchmark.observers.embedding import BATCH, embed_batch
from stimuli.near_duplicates import (
    EMBEDDED_SIDE,
    EMBEDDER,
    Thresholds,
    find_thresholds,
    near_duplicates,
    perceptual_hash,
)
from stimuli.pictures import canonical_crop, resize_to, to_pixels

PLANTED = 40


def _recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=20)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def _inner(image: Image.Image, left: float, rest: float) -> Image.Image:
    """Cut shares of the sides off: one of the left side, one of the three others."""
    width, height = image.size
    across, down = max(1, round(width * left)), round(height * rest)
    return image.crop((across, down, width - (across if rest else 0), height - down))


ALTERED = {
    "recompressed": _recompressed,
    "resized": lambda image: image.resize((max(8, image.width * 2 // 3), max(8, image.height * 2 // 3))),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "mirrored": ImageOps.mirror,
    "shifted by 3 %": lambda image: _inner(image, 0.03, 0),
    "inner 95 %": lambda image: _inner(image, 0.025, 0.025),
    "inner 90 %": lambda image: _inner(image, 0.05, 0.05),
    "inner 80 %": lambda image: _inner(image, 0.1, 0.1),
}


def paint_x_rays(count: int) -> list[Image.Image]:
    """Return pictures of two dark fields, ribs and a spine, each a little different, under noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:256j, -1:1:256j]  # type: ignore[misc]
    noise = paint_noise(count, 1.3, rng)
    pictures = []
    for number in range(count):
        shade = 0.75 + 0.15 * np.exp(-((x / 0.12) ** 2))
        for side in (-1, 1):
            centre, width, height = side * (0.42 + 0.04 * rng.normal()), 0.28 + 0.03 * rng.normal(), 0.55
            shade = shade - 0.5 * np.exp(-((((x - centre) / width) ** 2 + ((y + 0.05) / height) ** 2) ** 2))
        for rib in range(8):
            level = -0.8 + 0.2 * rib + 0.03 * rng.normal()
            shade = shade + 0.05 * np.exp(-(((y - level - 0.25 * x**2) / 0.025) ** 2))
        pictures.append(_grey(255 * (shade + 0.07 * noise[number])))
    return pictures


def paint_noise(count: int, slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return noise with a spectrum of 1/f**slope, standardised, shape (count, 256, 256)."""
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    frequency[0, 0] = 1
    made = np.real(np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 256, 256))) / frequency**slope))
    return np.asarray(made / made.std(axis=(1, 2), keepdims=True))


def _grey(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def digits(count: int) -> list[Image.Image]:
    """Return handwritten digits of 8 pixels, enlarged to 64."""
    from sklearn.datasets import load_digits

    return [
        Image.fromarray((digit * 15.9).astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST).convert("RGB")
        for digit in load_digits().images[:count]
    ]


@dataclass(frozen=True)
class Planted:
    """A pool with planted copies behind its own pictures, as the survey sees it.

    Attributes
    ----------
    count
        Pictures of the pool itself.
    chosen
        Those of which there are copies.
    kinds
        How these were altered, one after the other.
    hashes, embeddings
        Of all pictures.
    limits
        From where on pictures are near-duplicates, found on all of them.
    """

    count: int
    chosen: NDArray[np.int64]
    kinds: tuple[str, ...]
    hashes: NDArray[np.int64]
    embeddings: NDArray[np.float16]
    limits: Thresholds

    def groups(self, limits: Thresholds | None = None) -> dict[int, int]:
        """Return how many of the pool's own pictures are in each group, without the copies."""
        own = slice(self.count)
        return Counter(near_duplicates(self.hashes[own], self.embeddings[own], limits or self.limits).tolist())

    def recall(self, limits: Thresholds | None = None) -> dict[str, float]:
        """Return the share of the copies that are found, by how they were altered."""
        shares = {}
        for number, kind in enumerate(self.kinds):
            copies = self.count + number * len(self.chosen) + np.arange(len(self.chosen))
            hits = [
                len(set(near_duplicates(self.hashes[pair], self.embeddings[pair], limits or self.limits).tolist())) == 1
                for pair in np.stack([self.chosen, copies], axis=1)
            ]
            shares[kind] = float(np.mean(hits))
        return shares


def plant(pictures: list[Image.Image], planted: int, kinds: Iterable[str] = tuple(ALTERED)) -> Planted:
    """Plant copies of some pictures behind all pictures, and look at them as the survey does."""
    rng = np.random.default_rng(1)
    kinds = tuple(kinds)
    chosen = rng.choice(len(pictures), min(planted, len(pictures) // 4), replace=False)
    every = pictures + [ALTERED[kind](pictures[place]) for kind in kinds for place in chosen]
    model = load_model(load_card(EMBEDDER))
    hashes: list[int] = []
    vectors: list[NDArray[np.float16]] = []
    for start in range(0, len(every), BATCH):
        crops = [canonical_crop(picture, 224) for picture in every[start : start + BATCH]]
        hashes += [perceptual_hash(crop) for crop in crops]
        small = np.stack([to_pixels(resize_to(crop, EMBEDDED_SIDE)).transpose(2, 0, 1) for crop in crops])
        vectors.append(embed_batch(model, torch.from_numpy(small)).numpy().astype(np.float16))
    codes, features = np.array(hashes, dtype=np.int64), np.concatenate(vectors)
    return Planted(len(pictures), chosen, kinds, codes, features, find_thresholds(codes, features))


def measure(name: str, pictures: list[Image.Image]) -> None:
    """Plant copies among pictures, group all of them, and print what came of it."""
    pool = plant(pictures, PLANTED)
    for kind, limits in (("fixed", Thresholds()), ("adapted", pool.limits)):
        groups = pool.groups(limits)
        print(f"{name}, {len(pictures)} pictures, {kind}: {limits.facts()}")
        print(f"    without copies: {len(groups)} groups, the largest of {max(groups.values())}")
        found = ", ".join(f"{how} {share:.2f}" for how, share in pool.recall(limits).items())
        print(f"    copies found: {found}", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="a folder of unrelated photographs")
    parser.add_argument("--array", default="", help="FILE.npz:NAME of an array of pictures")
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    measure("digits", digits(min(arguments.count, 256)))
    measure("x-rays", paint_x_rays(min(arguments.count, 256)))
    measure("textures", [_grey(128 + 50 * values) for values in paint_noise(min(arguments.count, 256), 1.0, rng)])
    if arguments.folder:
        files = sorted(path for path in arguments.folder.rglob("*") if path.is_file())[: arguments.count]
        measure(arguments.folder.name, [Image.open(path).convert("RGB") for path in files])
    if arguments.array:
        file, _, array = arguments.array.rpartition(":")
        measure(Path(file).name, [Image.fromarray(picture) for picture in np.load(file)[array][: arguments.count]])


if __name__ == "__main__":
    main()
