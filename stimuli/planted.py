"""Units whose truth is known by construction: detectors of a colour, an orientation, a texture.

Catch and practice trials come from these. They are written by hand and measured on pixels, so that no trained
network, and no machine observer, decides whom to exclude from a study of people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.randomness import generator_from
from benchmark.units import PLANTED, Unit

SIDE = 64
"""Side, in pixels, of the reduced picture that detectors look at."""

_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Detector:
    """A planted unit.

    Attributes
    ----------
    layer, index
        Its place among the planted units.
    sees
        What it responds to, in words.
    score
        Its activation, from the :class:`Look` of a picture.
    paint
        Makes a picture that it responds to strongly (sign +1) or weakly (-1): shape (3, side, side) in
        [0, 1], from noise.
    obvious
        Whether nobody who looks can miss it.
    """

    layer: str
    index: int
    sees: str
    score: Callable[[SeenPicture], float]
    paint: Callable[[np.random.Generator, int, int], NDArray[np.float64]]
    obvious: bool = True

    @property
    def unit(self) -> Unit:
        """The unit that represents the detector in tables."""
        return Unit(PLANTED, self.layer, self.index)


@dataclass(frozen=True)
class SeenPicture:
    """What detectors see of a picture: its reduced pixels and the energies of its gradients.

    Attributes
    ----------
    colour
        Mean of red, green and blue, shape (3,), in [0, 1].
    orientation
        Gradient energy across vertical, horizontal, rising and falling edges, shape (4,).
    fineness
        Energy of the finest detail relative to all contrast.
    """

    colour: NDArray[np.float64]
    orientation: NDArray[np.float64]
    fineness: float


def look(image: Image.Image) -> SeenPicture:
    """Reduce a picture to what the detectors need."""
    small = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255
    grey = small @ _GREY
    down, across = np.gradient(grey)
    rising, falling = (across - down) / np.sqrt(2), (across + down) / np.sqrt(2)
    # An edge that runs one way has its gradient the other way; only clear orientations count.
    orientation = np.array([np.mean(np.abs(g) ** 2) for g in (across, down, rising, falling)])
    blurred = (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]) / 4
    detail = np.mean((grey[1:-1, 1:-1] - blurred) ** 2)
    return SeenPicture(small.mean((0, 1)), orientation, float(np.sqrt(detail)))


def _contrast(first: int, second: int) -> Callable[[SeenPicture], float]:
    """Return the score of a detector that prefers one orientation to another."""

    def score(seen: SeenPicture) -> float:
        a, b = seen.orientation[first], seen.orientation[second]
        return float((a - b) / (a + b + 1e-4))

    return score


def _colour(weights: tuple[float, float, float]) -> Callable[[SeenPicture], float]:
    """Return the score of a detector of a colour."""
    return lambda seen: float(np.dot(weights, seen.colour))


def _noise(generator: np.random.Generator, side: int, keep: Callable[..., NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return noise of unit variance whose spectrum is 1/f times a filter of the frequencies (fy, fx)."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :]
    weight = keep(fy, fx) / np.maximum(np.hypot(fy, fx), 1 / side)
    weight[0, 0] = 0.0
    spectrum = np.fft.fft2(generator.normal(size=(side, side))) * weight
    noise = np.real(np.fft.ifft2(spectrum))
    return np.asarray(noise / (noise.std() + 1e-12))


def _everything(fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones(np.broadcast_shapes(fy.shape, fx.shape))


def _paint_colour(weights: tuple[float, float, float]) -> Callable[..., NDArray[np.float64]]:
    """Return a painter of clouds in a colour, or in the opposite one."""

    def paint(generator: np.random.Generator, side: int, sign: int) -> NDArray[np.float64]:
        clouds = np.stack([_noise(generator, side, _everything) for _ in range(3)]) * 0.5
        tint = sign * np.asarray(weights)[:, None, None] * 2.2
        return np.asarray(1 / (1 + np.exp(-(clouds + tint))))

    return paint


def _paint_orientation(angle: float) -> Callable[..., NDArray[np.float64]]:
    """Return a painter of stripes whose edges run at an angle (degrees from the vertical), or across it."""

    def paint(generator: np.random.Generator, side: int, sign: int) -> NDArray[np.float64]:
        direction = np.deg2rad(angle + (0 if sign > 0 else 90))

        def keep(fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
            radius = np.hypot(fy, fx) + 1e-12
            along = np.abs(fx * np.cos(direction) + fy * np.sin(direction)) / radius
            return np.where((along > 0.97) & (radius > 4 / side), 1.0, 0.0)

        stripes = _noise(generator, side, keep)
        tints = generator.normal(0, 0.3, size=(3, 1, 1))
        return np.asarray(1 / (1 + np.exp(-(1.2 * stripes[None] + tints))))

    return paint


def _paint_texture(generator: np.random.Generator, side: int, sign: int) -> NDArray[np.float64]:
    """Paint something finely textured, or something smooth."""

    def keep(fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
        radius = np.hypot(fy, fx)
        band = (radius > 0.1) & (radius < 0.25) if sign > 0 else radius < 3 / side
        return np.where(band, 1.0, 0.0)

    texture = _noise(generator, side, keep)
    tints = generator.normal(0, 0.3, size=(3, 1, 1))
    return np.asarray(1 / (1 + np.exp(-((1.2 if sign > 0 else 0.6) * texture[None] + tints))))


_RED, _GREEN, _BLUE, _LIGHT = (1.0, -0.5, -0.5), (-0.5, 1.0, -0.5), (-0.5, -0.5, 1.0), (0.299, 0.587, 0.114)

DETECTORS: tuple[Detector, ...] = (
    Detector("colour", 0, "red", _colour(_RED), _paint_colour(_RED)),
    Detector("colour", 1, "green", _colour(_GREEN), _paint_colour(_GREEN)),
    Detector("colour", 2, "blue", _colour(_BLUE), _paint_colour(_BLUE)),
    Detector("colour", 3, "light", _colour(_LIGHT), _paint_colour(_LIGHT)),
    Detector("texture", 0, "fine detail", lambda seen: seen.fineness, _paint_texture),
    Detector("orientation", 0, "vertical edges", _contrast(0, 1), _paint_orientation(0.0)),
    Detector("orientation", 1, "rising edges", _contrast(3, 2), _paint_orientation(45.0), obvious=False),
)
"""All planted units. Their order is part of the schema: append, never insert."""


def scores(image: Image.Image) -> NDArray[np.float32]:
    """Return the activations of all planted units for a picture, shape (detectors,)."""
    seen = look(image)
    return np.array([detector.score(seen) for detector in DETECTORS], dtype=np.float32)


def paint(detector: Detector, sign: int, number: int, side: int, seed: int) -> NDArray[np.uint8]:
    """Return a synthetic picture for a planted unit, shape (side, side, 3)."""
    generator = generator_from(seed, "planted", str(detector.unit), sign, number)
    pixels = detector.paint(generator, side, sign)
    return np.asarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))
