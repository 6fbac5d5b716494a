"""Which pictures are really one: near-duplicates by perceptual hash and by embedding.

A perceptual hash finds copies that were recompressed, resized or recoloured; the embedding of a trained network finds
mirrored and cropped ones. How near is near depends on the pool: any two of 800 photographs of as many classes
have a cosine of at most .75 (embedded at 224 pixels), while half of all pairs of handwritten digits are above .94.
So thresholds are ranked against the pool's own pairs; on a pool of varied photographs they are the fixed ones.

``python -m tests.speed.near_duplicates`` plants copies in pools of several kinds and counts what is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_BITS = 64
NEAR_BITS = 10
"""Pictures whose hashes differ in at most so many bits are near-duplicates, if they are also alike."""
ALIKE = 0.5
"""Least cosine of the embeddings of near-duplicates by hash; flat pictures share hashes by chance."""
SAME = 0.9
"""Pictures whose embeddings have at least this cosine are near-duplicates whatever their hashes."""

FEW = 50
"""Pictures from which on thresholds follow the pool: fewer say too little of what is usual."""
COMPARED = 2_000
"""Pictures, evenly spaced in the pool, whose pairs say what is usual in a larger one."""
UNUSUAL = 3.0
"""Standard deviations, beyond the median pair, from which on two unrelated pictures are unusually alike."""

EMBEDDED_SIDE = 128
"""Side of the picture that is embedded, in pixels: at 224, the embedding takes four times as long."""

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


@dataclass(frozen=True)
class Thresholds:
    """From where on two pictures of a pool are near-duplicates.

    Two pictures are, if their hashes differ in at most ``certain_bits`` and their cosine is at least :data:`ALIKE`; or
    in at most ``near_bits`` and their cosine is at least ``alike``; or if their cosine is at least ``same``.
    """

    near_bits: int = NEAR_BITS
    certain_bits: int = 0
    alike: float = ALIKE
    same: float = SAME

    @property
    def adapted(self) -> bool:
        """Whether the pool is so uniform that thresholds are stricter than those for varied photographs."""
        return (self.near_bits, self.alike, self.same) != (NEAR_BITS, ALIKE, SAME)

    def facts(self) -> dict[str, Any]:
        """Return the thresholds as the manifest states them."""
        return {**asdict(self), "adapted_to_pool": self.adapted}


def find_thresholds(hashes: NDArray[np.int64], embeddings: NDArray[np.floating]) -> Thresholds:
    """Return the thresholds of a pool, ranked against how alike its pictures are to each other.

    What unrelated pictures of the pool rarely reach is extrapolated from the median and the lower quartile of all
    pairs, which copies hardly move unless every fourth pair is one: the median less :data:`UNUSUAL` standard deviations
    of a normal distribution with that quartile, for bits between hashes and for the logarithm of 1 - cosine.

    Parameters
    ----------
    hashes
        Shape (pictures,): perceptual hashes.
    embeddings
        Shape (pictures, features), rows of unit length.
    """
    if len(hashes) < FEW:
        return Thresholds()
    chosen = np.unique(np.linspace(0, len(hashes) - 1, min(len(hashes), COMPARED)).round().astype(np.int64))
    upper = np.triu_indices(len(chosen), 1)
    signs = hash_signs(hashes[chosen])
    apart = ((HASH_BITS - signs @ signs.T) / 2)[upper]
    vectors = embeddings[chosen].astype(np.float32)
    distance = np.log(np.maximum(1 - (vectors @ vectors.T)[upper], 1e-6))
    bits, unlike = _rarely_below(apart), float(np.exp(_rarely_below(distance)))
    return Thresholds(
        near_bits=int(np.clip(np.floor(0.75 * bits), 0, NEAR_BITS)),
        certain_bits=int(np.clip(np.floor(bits / 6), 0, NEAR_BITS)),
        alike=round(max(ALIKE, 1 - unlike), 4),
        same=round(max(SAME, 1 - unlike / 4), 4),
    )


def _rarely_below(values: NDArray[np.floating]) -> float:
    """Return a value that is rarely undercut by a normal distribution with the same median and lower quartile."""
    lower, median = np.quantile(values, [0.25, 0.5])
    return float(median - UNUSUAL * (median - lower) / 0.6745)


def near_duplicates(
    hashes: NDArray[np.int64],
    embeddings: NDArray[np.floating],
    thresholds: Thresholds | None = None,
    *,
    device: torch.device | str = "cpu",
    block: int = 2048,
) -> NDArray[np.int64]:
    """Return a number for each picture, the same for pictures that chains of near-duplicates join.

    All pairs are compared, block by block, and joined at once, so that no list of pairs is kept: memory is bounded by
    the block, time grows with the square of the pool (50,000 pictures take about a minute on two cores).

    Parameters
    ----------
    hashes
        Shape (pictures,): perceptual hashes.
    embeddings
        Shape (pictures, features), rows of unit length.
    thresholds
        From where on pictures are near-duplicates; :func:`find_thresholds` of the pool if not given.
    device
        Where the products are computed.
    block
        Rows compared at once.

    Returns
    -------
    Shape (pictures,): the first picture of each one's group.
    """
    limits = thresholds or find_thresholds(hashes, embeddings)
    signs = torch.from_numpy(hash_signs(hashes)).to(device)
    features = torch.from_numpy(np.ascontiguousarray(embeddings)).to(device)
    groups = np.arange(len(hashes))
    for start in range(0, len(hashes), block):
        rows = features[start : start + block].float()
        for other in range(start, len(hashes), block):
            apart = (HASH_BITS - signs[start : start + block] @ signs[other : other + block].T) / 2
            cosine = rows @ features[other : other + block].float().T
            found = ((apart <= limits.near_bits) & (cosine >= limits.alike)) | (cosine >= limits.same)
            found |= (apart <= limits.certain_bits) & (cosine >= ALIKE)
            first, second = (side.cpu().numpy() for side in found.nonzero(as_tuple=True))
            groups = join(groups, start + first, other + second)
    return groups


def join(groups: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join the groups of pairs of pictures; each group is called after its first picture."""
    edges = np.stack([groups[first], groups[second]])
    edges = edges[:, edges[0] != edges[1]]
    if not edges.shape[1]:
        return groups
    count = len(groups)
    graph = coo_array((np.ones(edges.shape[1], dtype=np.int8), (edges[0], edges[1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, leader = np.unique(component, return_index=True)  # the first picture of each component
    return np.asarray(leader[component][groups], dtype=np.int64)


def join_groups(groups: NDArray[np.int64], declared: Sequence[str | None]) -> list[str]:
    """Return the name of each picture's group: what shares a declared group or a number is one group.

    Parameters
    ----------
    groups
        Shape (pictures,): numbers of the groups of near-duplicates, as :func:`near_duplicates` returns them.
    declared
        The group that the pool declares for each picture, or None.

    Returns
    -------
    Names: the declared one of the group's first picture, or the number of that picture behind a ``#``.
    """
    first: dict[str, int] = {}
    links = [(first.setdefault(name, member), member) for member, name in enumerate(declared) if name is not None]
    pairs = np.array(links, dtype=np.int64).reshape(-1, 2)
    joined = join(groups, pairs[:, 0], pairs[:, 1])
    return [declared[leader] or f"#{leader}" for leader in joined.tolist()]
