"""Writing pictures into a study: lossless, and named after their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.cache import Cache
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
    study: Study, pool: Pool, pictures: Mapping[int, str], crop: int, reporter: Reporter | None = None
) -> dict[int, str]:
    """Write the canonical crops of some pictures of a pool; those that the cache holds are not encoded again.

    Parameters
    ----------
    study
        Where they are written.
    pool
        The pool.
    pictures
        From place to the name that the picture had when the pool was surveyed.
    crop
        Side of the crops.
    reporter
        Shows progress.

    Returns
    -------
    The names of what was written, by place: another name than was given is that of a picture that has changed.
    """
    wanted = sorted(pictures)
    cache = Cache.beside(study.root)

    def store(place: int) -> str:
        picture = pictures[place]
        if cache.take_picture(picture, LOSSLESS, study.image_path(picture)):
            return picture
        picture = store_picture(study, to_pixels(pool.crop(place, crop)))
        cache.keep_picture(picture, LOSSLESS, study.image_path(picture))
        return picture

    names: dict[int, str] = {}
    with (reporter or Reporter()).task("Storing pictures", len(wanted)) as advance:
        for place, picture in zip(wanted, map_ahead(store, wanted, ahead=64)):
            names[place] = picture
            advance(1)
    return names
