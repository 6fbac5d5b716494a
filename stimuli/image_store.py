"""Writing pictures into a study: lossless, and named after their pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.hashing import hash_pixels
from benchmark.progress import Reporter
from benchmark.storage import write_atomically
from benchmark.study import Study
from stimuli.loading import map_ahead
from stimuli.pictures import to_pixels
from stimuli.pools import Pool

LOSSLESS: dict[str, Any] = {"lossless": True, "quality": 50, "method": 0}
"""Fastest of WebP's lossless settings: a tenth larger than the slowest, at a twelfth of its time."""


def store_picture(study: Study, pixels: NDArray[np.uint8]) -> str:
    """Write a picture of shape (height, width, 3) and return its name, the hash of its pixels."""
    picture = hash_pixels(pixels)
    path = study.image_path(picture)
    if not path.is_file():
        image = Image.fromarray(pixels)
        write_atomically(path, lambda target: image.save(target, "WEBP", **LOSSLESS), durable=False)
    return picture


def store_crops(
    study: Study, pool: Pool, places: Iterable[int], crop: int, reporter: Reporter | None = None
) -> dict[int, str]:
    """Write the canonical crops of some pictures of a pool; returns their names by place."""
    wanted = sorted(set(places))

    def store(place: int) -> str:
        return store_picture(study, to_pixels(pool.crop(place, crop)))

    names: dict[int, str] = {}
    with (reporter or Reporter()).task("Storing pictures", len(wanted)) as advance:
        for place, picture in zip(wanted, map_ahead(store, wanted, ahead=64)):
            names[place] = picture
            advance(1)
    return names
