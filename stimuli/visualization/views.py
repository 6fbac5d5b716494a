"""Random views of a picture: shift, turn and scale in one resampling, drawn separately for each picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmark.randomness import Keys, uniforms


@dataclass(frozen=True)
class ViewRange:
    """How far views reach.

    Attributes
    ----------
    shift
        Largest shift, as a share of the picture's margin.
    angle
        Largest turn in degrees, either way.
    scale
        Largest relative change of size, either way.
    """

    shift: float = 0.5
    angle: float = 5.0
    scale: float = 0.05


def draw_views(keys: Keys, steps: NDArray[np.int64], extent: ViewRange, picture: int, view: int) -> NDArray[np.float32]:
    """Draw one view for each picture; it depends on the picture's key and step alone.

    Parameters
    ----------
    keys
        Shape (n,): keys of the pictures.
    steps
        Shape (n,): steps they have reached.
    extent
        How far views reach.
    picture, view
        Sides of the picture and of the part of it that is seen, in its pixels.

    Returns
    -------
    Shape (n, 2, 3): affine maps from the view's coordinates to the picture's, both in [-1, 1].
    """
    random = 2 * uniforms(keys, steps, 4) - 1
    angle = np.deg2rad(extent.angle) * random[:, 0]
    size = view / picture * (1 + extent.scale * random[:, 1])
    margin = (picture - view) / picture
    maps = np.empty((len(keys), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = size * np.cos(angle)
    maps[:, 0, 1], maps[:, 1, 0] = -size * np.sin(angle), size * np.sin(angle)
    maps[:, :, 2] = extent.shift * margin * random[:, 2:]
    return maps.astype(np.float32)


def weigh_by_coverage(extent: ViewRange, picture: int, view: int) -> NDArray[np.float32]:
    """Return one over how often views show each pixel, at most four.

    A corner of the finished picture lies in a quarter of the views: without the weights its gradient is a quarter of
    the middle's, and it looks unfinished. Turns and scales, which move a border by little, are left out.

    Parameters
    ----------
    extent
        How far views reach.
    picture, view
        Sides of the picture and of the part of it that is seen, in its pixels.

    Returns
    -------
    Shape (picture, picture).
    """
    reach = extent.shift * (picture - view) / 2
    if reach == 0:
        return np.ones((picture, picture), dtype=np.float32)
    distance = np.abs(np.arange(picture) + 0.5 - picture / 2)
    seen = np.clip((view / 2 + reach - distance) / (2 * reach), 0, 1)
    return (1 / np.maximum(np.outer(seen, seen), 0.25)).astype(np.float32)


def look_at(pictures: torch.Tensor, maps: torch.Tensor, side: int) -> torch.Tensor:
    """Return views of pictures.

    Parameters
    ----------
    pictures
        Shape (n, 3, height, width).
    maps
        Shape (n, 2, 3), from :func:`draw_views`.
    side
        Height and width of the views in pixels.
    """
    grid = functional.affine_grid(maps, [len(pictures), 3, side, side], align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def central_view(pictures: torch.Tensor, margin: int, side: int) -> torch.Tensor:
    """Return the finished picture: the margin cut off, resized only if the model needs another size."""
    size = pictures.shape[-1]
    inner = pictures[..., margin : size - margin, margin : size - margin]
    if inner.shape[-1] == side:
        return inner
    return functional.interpolate(inner, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
