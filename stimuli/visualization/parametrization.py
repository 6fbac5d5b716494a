"""lucent's picture parametrisation: a spectrum with equalised energy, decorrelated colours, a sigmoid.

Reference: Olah, Mordvintsev & Schubert (2017), Feature Visualization, Distill; constants from torch-lucent.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

from benchmark.randomness import seed_from

DEVIATION = 0.01
"""Standard deviation of the random spectrum that a picture starts from."""
MAGIC = 4.0
"""lucent divides the picture by this before the sigmoid; it keeps colours from saturating."""


@contextmanager
def quiet_lucent() -> Iterator[None]:
    """Silence what torch-lucent 0.1.8 and kornia 0.4.1 warn about on today's torch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lucent|kornia)\.")
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script")
        yield


def start_spectrum(key: int | str, size: int, *, images: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the random spectra that pictures start from.

    Each picture's start depends on the key and its number alone.

    Parameters
    ----------
    key
        What the set of pictures belongs to.
    size
        Height and width of the picture.
    images
        Pictures in the set.

    Returns
    -------
    Shape (images, 3, size, size // 2 + 1 or + 2, 2): real and imaginary parts.
    """
    shape = (3, size, scale_of(size).shape[-2], 2)
    starts = []
    for number in range(images):
        generator = torch.Generator().manual_seed(seed_from("spectrum", key, number))
        starts.append(torch.randn(shape, generator=generator) * DEVIATION)
    return torch.stack(starts).to(dtype)


@lru_cache(maxsize=8)
def scale_of(size: int) -> torch.Tensor:
    """Return the factor of every frequency, shape (size, frequencies, 1): one over its distance from zero."""
    with quiet_lucent():
        from lucent.optvis.param.spatial import rfft2d_freqs

    frequencies = rfft2d_freqs(size, size)
    return torch.tensor(1.0 / np.maximum(frequencies, 1.0 / size)).float()[..., None]


@lru_cache(maxsize=1)
def colour_matrix() -> torch.Tensor:
    """Return the matrix that gives decorrelated channels the colour statistics of photographs, shape (3, 3)."""
    with quiet_lucent():
        from lucent.optvis.param.color import color_correlation_normalized

    return torch.tensor(color_correlation_normalized)


def render(spectrum: torch.Tensor, size: int) -> torch.Tensor:
    """Return the pictures of spectra.

    Parameters
    ----------
    spectrum
        Shape (n, 3, size, frequencies, 2).
    size
        Height and width of the pictures.

    Returns
    -------
    Shape (n, 3, size, size), in (0, 1).
    """
    scaled = torch.view_as_complex(scale_of(size).to(spectrum) * spectrum)
    picture = torch.fft.irfftn(scaled, s=(size, size), norm="ortho")[..., :size, :size] / MAGIC
    colours = torch.einsum("nchw,dc->ndhw", picture, colour_matrix().to(spectrum))
    return torch.sigmoid(colours)
