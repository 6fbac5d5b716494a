"""From a file to the one crop of it that people and models see.

Every picture becomes 8-bit RGB, upright. What can't be shown faithfully is an error with the file's name, never
a silently wrong picture.
"""

from __future__ import annotations

import io
import math
from functools import cache
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from benchmark.errors import UnreadablePicture, spell_error
from benchmark.model_card import InputSpec

BACKGROUND = (128, 128, 128)
"""What transparent parts of a picture show: the grey of the page that trials are shown on."""

MOST_PIXELS = 100_000_000
"""Pixels of a picture, at most: 300 MB once decoded, in each thread that decodes."""

THIN = 64
"""A picture whose longer side has more than so many times the pixels of its shorter side is cropped before it is
resized: at 256 pixels of the shorter side, the whole of it could fill the memory."""

_REFUSED_FORMATS = {"EPS", "PDF", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}
"""Formats that Pillow hands to another program (EPS goes to Ghostscript), or only recognises."""

_COMMON_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Formats that are tried first."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ROWS = 512
"""Rows of a picture of more than 8 bits that are scaled at once: the bound on memory."""

Resampling = Literal["bilinear", "bicubic"]
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decode(source: bytes | Path, name: str) -> Image.Image:
    """Decode a picture into upright 8-bit RGB.

    CMYK, greyscale, palette, 16-bit and floating-point pictures are converted; EXIF rotation is applied;
    transparent parts show the grey of the page. Of an animation or a file of several pages, the first frame is used.

    Parameters
    ----------
    source
        The bytes of the file, or its path.
    name
        What to call it in messages.

    Returns
    -------
    The picture. Its ``info`` is empty, except that ``frames`` says ``"many"`` if the file has more than one.

    Raises
    ------
    UnreadablePicture
        If decoding fails for any reason: it is no picture, truncated, damaged, or too large to decode safely.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as image:
            _check_size(image)
            frames = {"frames": "many"} if _has_many_frames(image) else {}
            image.load()
            decoded = _to_rgb(_upright(image))
            decoded.info.clear()
            decoded.info.update(frames)
            return decoded
    except FileNotFoundError:
        raise UnreadablePicture(f"{name} is missing.") from None
    except Exception as error:  # a damaged file makes decoders raise anything: struct.error, NotImplementedError, ...
        raise UnreadablePicture(
            f"{name} can't be read: {_reason(error)}. Repair or remove it. Or build with --skip-unreadable, which "
            "skips it and counts it in the manifest."
        ) from None


def is_picture(path: Path) -> bool:
    """Say whether a file begins like a picture of a format that vimi decodes; nothing is decoded."""
    try:
        with Image.open(path, formats=_formats()):
            return True
    except Exception:
        return False


@cache
def _formats() -> list[str]:
    """Return the formats that are decoded: all of Pillow's but those that run other programs, or hold no pixels."""
    Image.init()
    others = [name for name in Image.ID if name not in {*_REFUSED_FORMATS, *_COMMON_FORMATS}]
    return [*_COMMON_FORMATS, *others]


def _check_size(image: Image.Image) -> None:
    """Refuse a picture whose pixels would fill the memory, before they are decoded."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"it has {width:,} x {height:,} pixels, and vimi decodes at most {MOST_PIXELS:,} (make it smaller)"
        )


def _has_many_frames(image: Image.Image) -> bool:
    """Whether a file is an animation or has several pages; what cameras add to a JPEG (MPO) is no frame of it."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # the first frame may be whole where the second is damaged
        return False


def _upright(image: Image.Image) -> Image.Image:
    """Rotate a picture by its EXIF orientation.

    ``ImageOps.exif_transpose`` also writes the EXIF data anew, which fails if another of its tags is damaged.
    """
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _reason(error: Exception) -> str:
    """Say in a few words why a picture could not be decoded."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture in a format that vimi decodes"
    if isinstance(error, MemoryError):
        return "it does not fit into the memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ValueError | SyntaxError | EOFError | OSError | Image.DecompressionBombError) and str(error):
        return str(error).rstrip(".")
    return spell_error(error).rstrip(".")


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
    values = np.asarray(image)
    least, most = float(values.min()), float(values.max())
    if not np.isfinite([least, most]).all():
        raise ValueError("it has NaN or infinite values")
    low, high = 0.0, 1.0 if image.mode == "F" else 65535.0
    if image.mode == "I" and most <= 255:
        high = 255.0
    if least < low or most > high:
        low, high = least, most
    scaled = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _ROWS):
        part = values[start : start + _ROWS].astype(np.float64)
        scaled[start : start + _ROWS] = np.rint(np.clip((part - low) / max(high - low, 1e-12), 0, 1) * 255)
    return scaled


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
    if max(image.size) > THIN * short:
        return _crop_thin(image, size, (width, height), _FILTERS[resampling])
    if (width, height) != image.size:
        image = image.resize((width, height), _FILTERS[resampling])
    return _cut_centre(image, size)


def _crop_thin(image: Image.Image, size: int, whole: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Return the central crop of a thin picture, resizing only what is seen of it.

    Parameters
    ----------
    image
        The picture.
    size
        Side of the crop.
    whole
        Width and height that the whole picture would be resized to.
    method
        How it is resized.
    """
    sides = tuple(min(side, max(size, 1)) if side > size else side for side in whole)
    starts = [(side - seen) / 2 for side, seen in zip(whole, sides)]
    scales = [side / full for side, full in zip(image.size, whole)]
    box = tuple(start * scale for start, scale in zip(starts, scales))
    ends = tuple((start + seen) * scale for start, seen, scale in zip(starts, sides, scales))
    # Limits guard against a rounding beyond the picture's edge, which Pillow refuses.
    limits = tuple(min(end, float(side)) for end, side in zip(ends, image.size))
    region = cast(tuple[float, float, float, float], (*box, *limits))
    return _cut_centre(image.resize(cast(tuple[int, int], sides), method, region), size)


def _cut_centre(image: Image.Image, size: int, fill: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """Cut a square out of the centre; a picture that is smaller is padded, rounded as torchvision and timm round."""
    missing = [max(size - side, 0) for side in image.size]
    if any(missing):
        ground = Image.new("RGB", (image.width + missing[0], image.height + missing[1]), fill)
        ground.paste(image, (missing[0] // 2, missing[1] // 2))
        image = ground
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def canonical_crop(image: Image.Image, size: int) -> Image.Image:
    """Return the crop that people and all models see."""
    return center_crop(image, size)


def resize_to(image: Image.Image, size: int, resampling: Resampling = "bicubic") -> Image.Image:
    """Resize a square picture."""
    return image if image.size == (size, size) else image.resize((size, size), _FILTERS[resampling])


def model_view(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Return what a model's own transform makes of an original picture: timm's evaluation transform, pixel by pixel.

    ``crop_mode`` says how a picture becomes square: ``center`` cuts the longer side off, ``squash`` changes the
    aspect ratio, ``border`` adds borders in the model's mean colour.
    """
    if spec.crop_mode == "center":
        return center_crop(image, spec.size, spec.crop_ratio, spec.interpolation)
    target = math.floor(spec.size / spec.crop_ratio)
    if spec.crop_mode == "squash":
        size, fill = (target, target), (0, 0, 0)
    else:
        ratio = max(image.size) / target
        size = cast(tuple[int, int], tuple(max(round(side / ratio), 1) for side in image.size))
        fill = cast(tuple[int, int, int], tuple(round(255 * value) for value in spec.mean))
    resized = image if image.size == size else image.resize(size, _FILTERS[spec.interpolation])
    return _cut_centre(resized, spec.size, fill)


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return pixels of shape (height, width, 3)."""
    return np.array(image.convert("RGB"), dtype=np.uint8)
