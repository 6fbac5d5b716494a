"""From a file to the one crop of it that people and models see.

Every picture becomes 8-bit RGB, upright. What can't be shown faithfully is an error with the file's name, never
a silently wrong picture.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from benchmark.errors import UnreadablePicture
from benchmark.model_card import InputSpec

BACKGROUND = (128, 128, 128)
"""What transparent parts of a picture show: the grey of the page that trials are shown on."""

Resampling = Literal["bilinear", "bicubic"]
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decode(source: bytes | Path, name: str) -> Image.Image:
    """Decode a picture into upright 8-bit RGB.

    CMYK, greyscale, palette, 16-bit and floating-point pictures are converted; EXIF rotation is applied;
    transparent parts show the grey of the page.

    Parameters
    ----------
    source
        The bytes of the file, or its path.
    name
        What to call it in messages.

    Raises
    ------
    UnreadablePicture
        If it is no picture, truncated or too large to be decoded safely.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright)
    except FileNotFoundError:
        raise UnreadablePicture(f"{name} is missing.") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error).rstrip(".")
        raise UnreadablePicture(
            f"{name} can't be read: {reason}. Repair or remove it, or build with --skip-unreadable, which leaves it "
            "out and counts it in the manifest."
        ) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return Image.fromarray(_eight_bit(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Scale pictures of more than 8 bits to 8.

    16-bit pictures are scaled by the range of their type; wider ones too if their values fit into it, and are
    kept as they are if they fit into 8 bits; floats by 0 to 1 if they fit. What fits nowhere is scaled by its own
    range.
    """
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are not finite")
    least, most = float(values.min()), float(values.max())
    low, high = 0.0, 1.0 if image.mode == "F" else 65535.0
    if image.mode == "I" and most <= 255:
        high = 255.0
    if least < low or most > high:
        low, high = least, most
    return cast(
        NDArray[np.uint8], np.rint(np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    )


def center_crop(
    image: Image.Image, size: int, ratio: float = 0.875, resampling: Resampling = "bilinear"
) -> Image.Image:
    """Resize the shorter side to ``size / ratio`` pixels and cut out the centre.

    With the defaults and 224 pixels this is the paper's Resize(256) and CenterCrop(224). All is rounded as
    torchvision and timm round it, so that the pixels are theirs.
    """
    shorter = math.floor(size / ratio)
    short = min(image.size)
    width, height = (shorter * side // short for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), _FILTERS[resampling])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def canonical_crop(image: Image.Image, size: int) -> Image.Image:
    """Return the crop that people and all models see."""
    return center_crop(image, size)


def resize_to(image: Image.Image, size: int, resampling: Resampling = "bicubic") -> Image.Image:
    """Resize a square picture."""
    return image if image.size == (size, size) else image.resize((size, size), _FILTERS[resampling])


def model_view(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Return what a model's own transform makes of an original picture."""
    return center_crop(image, spec.size, spec.crop_ratio, spec.interpolation)


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return pixels of shape (height, width, 3)."""
    return np.array(image.convert("RGB"), dtype=np.uint8)
