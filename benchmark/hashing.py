"""Hashes of content: canonical rows, pixels, tensors and settings; a file's bytes only where the file itself is meant.

Two builds of the same experiment must agree in the former, whatever library wrote the files and whenever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    import torch

LENGTH = 32
"""Hexadecimal digits kept of a SHA-256: 128 bits, enough that no two pictures ever share one by chance."""


def hash_bytes(*parts: bytes) -> str:
    """Hash byte strings; each is preceded by its length, so that parts can't run into each other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:LENGTH]


def hash_file(path: Path) -> str:
    """Return the whole SHA-256 of a file, as other programs print it: of what was read, or is handed on."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_settings(settings: Any) -> str:
    """Hash anything that JSON can say, independent of the order of its keys."""
    return hash_bytes(json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str).encode())


def hash_pixels(pixels: NDArray[np.uint8]) -> str:
    """Hash a picture of shape (height, width, 3): its size and its pixels."""
    if pixels.dtype != np.uint8:
        raise ValueError(f"Pixels are 8-bit; got {pixels.dtype}.")
    return hash_bytes(repr(pixels.shape).encode(), np.ascontiguousarray(pixels).tobytes())


def hash_array(array: NDArray[Any]) -> str:
    """Hash an array: kind, shape and values."""
    contiguous = np.ascontiguousarray(array)
    little = contiguous.astype(contiguous.dtype.newbyteorder("<"), copy=False)
    return hash_bytes(f"{little.dtype.str}{little.shape}".encode(), little.tobytes())


def hash_state(state: Mapping[str, torch.Tensor]) -> str:
    """Hash a model's weights and buffers, by name."""
    import torch

    parts: list[bytes] = []
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        parts.append(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        parts.append(hash_array(tensor.view(-1).view(torch.uint8).numpy()).encode() if tensor.numel() else b"")
    return hash_bytes(*parts)


def pack_hashes(hashes: Sequence[str]) -> NDArray[np.uint8]:
    """Return hexadecimal hashes as rows of bytes, shape (hashes, 16), to be stored beside tensors."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(len(hashes), LENGTH // 2)


def unpack_hashes(rows: NDArray[np.uint8]) -> list[str]:
    """Return the hexadecimal hashes that :func:`pack_hashes` packed."""
    return [row.tobytes().hex() for row in np.ascontiguousarray(rows)]


def picture_keys(hashes: Sequence[str]) -> NDArray[np.uint64]:
    """Return a 64-bit key for each picture, made of its content."""
    packed = pack_hashes(hashes)
    return np.ascontiguousarray(packed[:, :8]).view("<u8").reshape(-1).astype(np.uint64)


def hash_rows(frame: pd.DataFrame) -> str:
    """Hash a table by its rows: column names in order, then every value in a canonical spelling."""
    parts = [json.dumps(list(map(str, frame.columns))).encode()]
    for column in frame.columns:
        values = frame[column]
        if values.dtype.kind in "iub" and not values.isna().any():
            parts.append(values.to_numpy(dtype=np.int64).tobytes())
        elif values.dtype.kind in "iubf":
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            parts.append(np.where(np.isnan(numbers), np.nan, numbers + 0.0).tobytes())
        else:
            cells = values.to_numpy(dtype=object).tolist()
            parts.append(json.dumps([_plain(value) for value in cells], separators=(",", ":")).encode())
    return hash_bytes(*parts)


def _plain(value: Any) -> Any:
    """Return a table's cell as JSON can say it; a missing value is null."""
    if type(value) is str:
        return value
    if type(value) is list and set(map(type, value)) == {str}:
        return value  # names of pictures, which most cells of most tables hold
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return value if isinstance(value, str | int | float | bool) else (None if str(value) == "<NA>" else str(value))
