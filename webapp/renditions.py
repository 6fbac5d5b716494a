"""Pictures as they are sent: as stored, in the size that is shown, or smaller for slow networks.

``original``: the study's own files. ``lossless-160``: at 160 pixels, lossless. ``compact-160``: at 160 pixels, a JPEG
of quality 92 with full colour resolution. ``full`` in the place of a number: not made smaller. Every answer records
which was shown. What was made is kept in ``STUDY/renditions``, and may be deleted: it is made again, the same.

Pictures that serve as a query anywhere are never made smaller, and all of them have one length in each kind. A file's
length tells how much detail a picture has, and with that, often, which query belongs to which group.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.errors import HostingError, StorageError
from benchmark.storage import write_atomically
from benchmark.study import Study

if TYPE_CHECKING:
    from PIL import Image

RECIPE = 1
"""Version of how renditions are made; it changes with every change of their pixels."""

SIZES = (96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768)
"""Sides to which pictures are made smaller, in pixels; few, so that most of them are made once for many people."""

QUALITY = 92
"""Of compact pictures. On 50 photographs of 224 px: 19 kB on average, in place of 61, and a PSNR of 43 dB."""

QUERY_BYTES = (1024, 0.75)
"""Length of a compact query: so many bytes, and so many a pixel; what does not fit gets a lower quality."""

Kind = Literal["original", "lossless", "compact"]

NAME = re.compile(r"(original|(lossless|compact)-(full|\d{2,3}))")


@dataclass(frozen=True)
class Rendition:
    """A way to send pictures.

    Attributes
    ----------
    kind
        How they are encoded.
    side
        Longest side in pixels; None where they keep their own.
    """

    kind: Kind = "original"
    side: int | None = None

    def __str__(self) -> str:
        return self.kind if self.kind == "original" else f"{self.kind}-{self.side or 'full'}"

    @property
    def recorded(self) -> str:
        """What is stored with an answer: the rendition's name, and the version of its method."""
        return "original" if self.kind == "original" else f"{self}/{RECIPE}"

    @classmethod
    def read(cls, name: str) -> Rendition:
        """Return the rendition of a name.

        Raises
        ------
        HostingError
            If there is no such rendition.
        """
        match = NAME.fullmatch(name)
        if match is None or (match[3] and match[3] != "full" and int(match[3]) not in SIZES):
            raise HostingError(f"There is no rendition {name!r}. Examples: original, lossless-160, compact-full.")
        if match[1] == "original":
            return cls()
        return cls("lossless" if match[2] == "lossless" else "compact", None if match[3] == "full" else int(match[3]))


class Renditions:
    """The pictures of a study, as they are sent.

    Parameters
    ----------
    study
        The study.
    queries
        Pictures that serve as a query anywhere.
    secret
        Decides what is added to a query that is shorter than the longest.
    """

    def __init__(self, study: Study, queries: Collection[str], secret: str) -> None:
        self._study = study
        self._queries = frozenset(queries)
        self._secret = secret
        self._folder = study.root / "renditions"

    @cached_property
    def side(self) -> int:
        """Longest side of the study's pictures, in pixels; all are cut alike."""
        from PIL import Image

        name = min(self._queries, default="")
        try:
            with Image.open(self._study.image_path(name)) as image:
                return max(image.size)
        except (OSError, ValueError):
            return 224

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides that are offered: those that save something."""
        return tuple(size for size in SIZES if size <= 0.9 * self.side)

    @cached_property
    def mean_bytes(self) -> float:
        """Length of the study's files on average, from a sample."""
        names = sorted(self._queries)[:: max(1, len(self._queries) // 100)]
        sizes = [path.stat().st_size for path in map(self._study.image_path, names) if path.is_file()]
        return sum(sizes) / len(sizes) if sizes else 0.0

    @cached_property
    def longest(self) -> int:
        """Length of the longest query's file in bytes."""
        paths = [self._study.image_path(name) for name in self._queries]
        return max((path.stat().st_size if path.is_file() else 0 for path in paths), default=0)

    @cached_property
    def compact_length(self) -> int:
        """Length of every compact query."""
        fixed, a_pixel = QUERY_BYTES
        return fixed + round(a_pixel * self.side**2)

    @cached_property
    def _filler(self) -> bytes:
        """What is added; made once, since the time to make it would reveal how much is missing."""
        return hashlib.shake_128(self._secret.encode()).digest(max(self.longest, self.compact_length))

    def is_query(self, name: str) -> bool:
        """Whether a picture serves as a query anywhere."""
        return name in self._queries

    def is_ready(self, name: str, rendition: Rendition) -> bool:
        """Whether a picture need not be made first."""
        return self._is_file(name, rendition) or self._path(name, rendition).is_file()

    def body(self, name: str, rendition: Rendition) -> bytes:
        """Return the bytes to send for a picture.

        Raises
        ------
        OSError
            If the picture is missing or can't be read.
        """
        if not self.is_query(name):
            return self._made(name, rendition)
        made = self._made(name, Rendition(rendition.kind))
        wanted = self.compact_length if rendition.kind == "compact" else self.longest
        # What is added stands behind the picture's own data, where decoders do not look, and can't be compressed away.
        return made + self._filler[: max(0, wanted - len(made))]

    def _is_file(self, name: str, rendition: Rendition) -> bool:
        """Whether a picture is sent as stored in the study."""
        kept = rendition.side is None or rendition.side >= self.side or self.is_query(name)
        return rendition.kind == "original" or (rendition.kind == "lossless" and kept)

    def _path(self, name: str, rendition: Rendition) -> Path:
        side = "full" if self.is_query(name) else rendition.side or "full"
        ending = "jpg" if rendition.kind == "compact" else "webp"
        return self._folder / f"{rendition.kind}-{side}-{RECIPE}" / name[:2] / f"{name}.{ending}"

    def _made(self, name: str, rendition: Rendition) -> bytes:
        if self._is_file(name, rendition):
            return self._study.image_path(name).read_bytes()
        path = self._path(name, rendition)
        try:
            return path.read_bytes()
        except OSError:
            made = self._encode(name, rendition)
        with suppress(OSError, StorageError):  # a study that can't be written to is served all the same
            write_atomically(path, lambda unfinished: _write(unfinished, made), durable=False)
        return made

    def _encode(self, name: str, rendition: Rendition) -> bytes:
        from PIL import Image

        with Image.open(self._study.image_path(name)) as opened:
            image = opened.convert("RGB")
        side = None if self.is_query(name) else rendition.side
        if side is not None and side < max(image.size):
            image = _shrink(image, side / max(image.size))
        if rendition.kind == "lossless":
            return _save(image, format="WEBP", lossless=True, method=0, quality=0)
        if not self.is_query(name):
            return _save(image, format="JPEG", quality=QUALITY, subsampling=0)
        quality = QUALITY
        while len(made := _save(image, format="JPEG", quality=quality, subsampling=0)) > self.compact_length:
            if quality > 40:
                quality -= 4
            else:
                image = _shrink(image, 0.9)
        return made


def _write(path: Path, body: bytes) -> None:
    path.write_bytes(body)


def _shrink(image: Image.Image, factor: float) -> Image.Image:
    """Return a smaller picture."""
    from PIL import Image

    width, height = (max(1, round(factor * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _save(image: Image.Image, **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, **options)
    return body.getvalue()
