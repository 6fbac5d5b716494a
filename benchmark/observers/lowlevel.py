"""The low-level observer: a dozen numbers of colour and spectrum, and nothing a network would have to learn.

It is the control of every machine score: what it can answer needs no understanding of the unit.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.cache import Cache
from benchmark.observers.base import LOW_LEVEL, SimilarityObserver
from benchmark.progress import Reporter
from benchmark.study import Study

SIDE = 64
FEATURES = (
    "mean red", "mean green", "mean blue",
    "contrast of red", "contrast of green", "contrast of blue",
    "energy, coarse", "energy, medium", "energy, fine", "energy, finest",
    "share of horizontal frequencies", "share of diagonal frequencies",
)  # fmt: skip


def describe(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the dozen numbers of a picture of shape (height, width, 3)."""
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255
    grey = small @ np.array([0.299, 0.587, 0.114])
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)[None, :]
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :]
    radius = np.hypot(fy, fx)
    edges = (1 / SIDE, 0.05, 0.12, 0.25, 0.75)
    bands = [power[(radius >= low) & (radius < high)].sum() for low, high in pairwise(edges)]
    total = power[radius >= edges[0]].sum() + 1e-9
    angle = np.abs(np.arctan2(fy, fx))
    across = power[(np.minimum(angle, np.pi - angle) < np.pi / 8) & (radius > 0)].sum() / total
    diagonal = power[(np.abs(np.minimum(angle, np.pi - angle) - np.pi / 4) < np.pi / 8) & (radius > 0)].sum() / total
    energies = np.log(np.array(bands) / power.size + 1e-9)
    return np.concatenate([small.mean((0, 1)), small.std((0, 1)), energies, [across, diagonal]])


class LowLevelObserver(SimilarityObserver):
    """Compares pictures by their :data:`FEATURES`, standardised over the pictures of the study."""

    name = LOW_LEVEL

    def __init__(self, study: Study, reporter: Reporter | None = None) -> None:
        self.study = study
        self.reporter = reporter or Reporter()
        settings = {"side": SIDE, "features": FEATURES}
        self._cached = Cache.beside(study.root).shelf("lowlevel", settings)
        self._known: dict[str, NDArray[np.float64]] = {}

    def embed(self, pictures: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the standardised features, one row per picture."""
        self._describe(pictures)
        rows = np.stack([self._known[picture] for picture in pictures])
        spread = rows.std(axis=0)
        return np.asarray((rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1), dtype=np.float32)

    def _describe(self, pictures: tuple[str, ...]) -> None:
        """Describe pictures, each once: what has been described before is remembered, or read from the cache."""

        def compute(missing: list[str]) -> NDArray[np.float64]:
            numbers = np.empty((len(missing), len(FEATURES)))
            with self.reporter.task("Colours and spectra of pictures", len(missing)) as advance:
                for row, picture in enumerate(missing):
                    numbers[row] = describe(self.study.image(picture))
                    advance(1)
            return numbers

        self._cached.complete(self._known, pictures, compute, self.reporter.say)
