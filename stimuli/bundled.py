"""The bundled pool: a fixed set of crops of twenty photographs that come inside installed packages.

It exists so that everything can be run without a download. Crops of twenty photographs are no sample of the
visual world, and a task must show some photographs twice: studies on this pool are plumbing checks.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
from PIL import Image

from benchmark.randomness import generator_from
from stimuli.pictures import decode
from stimuli.pools import Entry, Pool

CROPS = 40
"""Crops of each photograph."""

PHOTOGRAPHS: dict[str, str] = {
    # file -> package
    **dict.fromkeys(
        ["astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
         "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
         "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"],
        "skimage.data",
    ),
    "china.jpg": "sklearn.datasets.images",
    "flower.jpg": "sklearn.datasets.images",
}  # fmt: skip

_SMALLEST_SHARE = 0.25
_SMALLEST_SIDE = 64
_FLAT = 6.0
"""A crop whose brightness varies less than this (standard deviation, of 255) shows nothing."""


class BundledPool(Pool):
    """Eight hundred crops, at many scales, of twenty photographs."""

    name = "bundled"
    few_sources = True

    def __init__(self) -> None:
        names = sorted(PHOTOGRAPHS)
        self.entries = [Entry(f"{name}#{n:02d}", group=name) for name in names for n in range(CROPS)]

    def original(self, place: int) -> Image.Image:
        """Return a crop in the resolution of its photograph."""
        name, _, number = self.entries[place].source.partition("#")
        return photograph(name).crop(crop_boxes(name)[int(number)])


@lru_cache(maxsize=len(PHOTOGRAPHS))
def photograph(name: str) -> Image.Image:
    """Return one of the photographs as RGB."""
    data = (resources.files(PHOTOGRAPHS[name]) / name).read_bytes()
    return decode(data, name)


@lru_cache(maxsize=len(PHOTOGRAPHS))
def crop_boxes(name: str) -> tuple[tuple[int, int, int, int], ...]:
    """Return the crops of a photograph: left, upper, right and lower edge, the same on every machine.

    The side is drawn uniformly on a logarithmic scale, from a quarter of the shorter side to all of it; crops
    that show nothing are drawn again.
    """
    image = photograph(name)
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    width, height = image.size
    shorter = min(width, height)
    smallest = max(_SMALLEST_SIDE, round(_SMALLEST_SHARE * shorter))
    generator = generator_from("bundled pool", name)
    boxes: list[tuple[int, int, int, int]] = []
    while len(boxes) < CROPS:
        side = round(smallest * (shorter / smallest) ** generator.random())
        left = int(generator.integers(0, width - side + 1))
        upper = int(generator.integers(0, height - side + 1))
        box = (left, upper, left + side, upper + side)
        if box not in boxes and grey[upper : upper + side, left : left + side].std() >= _FLAT:
            boxes.append(box)
    return tuple(boxes)
