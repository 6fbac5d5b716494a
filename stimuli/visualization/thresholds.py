"""What synthetic pictures have to beat: natural pictures, measured at the canvas that synthetic ones have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.randomness import generator_from
from benchmark.units import Unit
from stimuli.visualization.fast import Prefix
from stimuli.visualization.sets import SetRequest, Threshold

STRONGEST = 32
"""Most extreme pictures of a unit, by its activations over the pool, that are measured at the canvas."""
TYPICAL = 64
"""Random pictures of the pool that give its median and spread at the canvas."""
BATCH = 16

ReadPixels = Callable[[int], NDArray[np.uint8]]


def measure_thresholds(
    prefix: Prefix,
    units: Sequence[Unit],
    columns: Sequence[NDArray[np.float32]],
    read: ReadPixels,
    *,
    canvas: int,
    seed: int,
) -> list[SetRequest]:
    """Return the sets to make for units of one layer, with what each has to beat.

    A picture at another canvas than the model's own input has other activations: natural pictures are measured
    as synthetic ones are shown. The best is the most extreme of all pictures measured, which are the unit's
    most extreme ones over the pool and a random sample.

    Parameters
    ----------
    prefix
        The model up to the units' layer.
    units
        Units of that layer.
    columns
        Their activations over the pool.
    read
        Returns the canonical crop of a picture at the canvas, shape (3, canvas, canvas), by row of the pool.
    canvas
        Side of the pictures.
    seed
        Chooses the random sample.
    """
    size = len(columns[0])
    typical = generator_from(seed, "typical pictures", size).choice(size, min(TYPICAL, size), replace=False)
    strongest = [(column.argsort()[::-1][:STRONGEST], column.argsort()[:STRONGEST]) for column in columns]
    rows = sorted({*typical.tolist(), *(int(row) for pair in strongest for part in pair for row in part)})
    measured = _measure(prefix, rows, read, canvas)
    place = {row: number for number, row in enumerate(rows)}
    usual = [place[int(row)] for row in typical]
    requests: list[SetRequest] = []
    for unit, (top, bottom) in zip(units, strongest):
        values = measured[:, unit.index].astype(np.float64)
        for sign, extreme in ((1, top), (-1, bottom)):
            signed = sign * values
            own = [place[int(row)] for row in extreme]
            threshold = Threshold(
                # Only of the unit's own rows: which other units share the layer changes nothing.
                best=float(signed[own + usual].max()),
                median_reference=float(np.median(signed[own])),
                middle=float(np.median(signed[usual])),
                deviation=float(signed[usual].std()),
            )
            requests.append(SetRequest(unit, sign, threshold))
    return requests


def _measure(prefix: Prefix, rows: Sequence[int], read: ReadPixels, canvas: int) -> NDArray[np.float32]:
    """Return the layer's activations of some pictures, shape (rows, channels)."""
    from torch.nn import functional

    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(rows), BATCH):
        members = rows[start : start + BATCH]
        pixels = torch.from_numpy(np.stack([read(row) for row in members])).to(prefix.model.device).float() / 255
        if prefix.side != canvas:
            pixels = functional.interpolate(
                pixels, size=(prefix.side, prefix.side), mode="bilinear", align_corners=False, antialias=True
            )
        with torch.inference_mode():
            parts.append(prefix.activations(prefix.features(pixels), len(members)).cpu().numpy())
    return np.concatenate(parts)
