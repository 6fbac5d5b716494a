"""Decoding pictures in threads, in order, a bounded distance ahead of their use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.errors import StudyMismatch
from benchmark.hashing import hash_pixels
from benchmark.model_card import InputSpec
from stimuli.pictures import model_view, resize_to, to_pixels
from stimuli.pools import Pool

Item = TypeVar("Item")
Result = TypeVar("Result")


def decoding_threads() -> int:
    """Return how many threads decode: one for each core this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, threads: int | None = None
) -> Iterator[Result]:
    """Apply a function in threads and yield the results in order.

    Parameters
    ----------
    work
        What to do with an item; an exception in it is raised where its result would have been.
    items
        What to do it with.
    ahead
        How many items may be in work or waiting: the bound on memory.
    threads
        How many work at once; :func:`decoding_threads` if not given.
    """
    pending: deque[Future[Result]] = deque()
    remaining = iter(items)
    with ThreadPoolExecutor(threads or decoding_threads()) as executor:
        try:
            pending.extend(executor.submit(work, item) for item in islice(remaining, ahead))
            while pending:
                result = pending.popleft().result()
                pending.extend(executor.submit(work, item) for item in islice(remaining, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()


def model_pixels(pool: Pool, place: int, spec: InputSpec, view: str, crop: int, picture: str = "") -> NDArray[np.uint8]:
    """Return what a model sees of a picture, shape (3, size, size).

    With the view ``canonical`` this is the crop that people see, resized to the model's input; with ``model``
    it is the model's own transform of the original.

    Raises
    ------
    StudyMismatch
        If ``picture``, the hash that the canonical crop had when the pool was surveyed, is not its hash now.
    """
    original = pool.original(place) if view == "model" else None
    seen = pool.crop(place, crop, original) if picture or original is None else original
    if picture:
        check_picture(hash_pixels(to_pixels(seen)), picture, pool.entries[place].source)
    image = resize_to(seen, spec.size, spec.interpolation) if original is None else model_view(original, spec)
    return np.ascontiguousarray(to_pixels(image).transpose(2, 0, 1))


def check_picture(found: str, expected: str, source: str) -> None:
    """Check that a picture is the one that was surveyed.

    Raises
    ------
    StudyMismatch
        If its pixels have changed.
    """
    if found != expected:
        raise StudyMismatch(
            f"The picture {source} has changed since the pool was surveyed. Restore it, or build into another folder: "
            "two versions of a picture can't be mixed in one study."
        )


def batches(
    read: Callable[[int], NDArray[np.uint8]], places: Iterable[int], batch_size: int
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield batches of pictures, decoded ahead of their use.

    Every batch has the same shape: the last one is filled up with its first picture, so that a picture's
    activations never depend on how many others are left.

    Yields
    ------
    The places of the pictures that count, and pixels of shape (batch_size, 3, height, width), uint8.
    """
    places = list(places)
    decoded = map_ahead(read, places, ahead=3 * batch_size)
    for start in range(0, len(places), batch_size):
        members = places[start : start + batch_size]
        pictures = list(islice(decoded, len(members)))
        pictures += pictures[:1] * (batch_size - len(members))
        yield members, torch.from_numpy(np.stack(pictures))
