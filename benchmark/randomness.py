"""Randomness that can be repeated: seeds made of words, tie-breaking keys, counter-based uniforms.

Nothing in vimi draws from a global generator. What is random is keyed by what it belongs to, so that it
never depends on the order in which things are computed or on who shares a batch.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Keys = NDArray[np.uint64]


def seed_from(*words: str | int) -> int:
    """Return a seed in [0, 2**63) that belongs to these words: ``seed_from(42, "units", "resnet50")``."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_from(*words: str | int) -> np.random.Generator:
    """Return a numpy generator seeded with :func:`seed_from`."""
    return np.random.default_rng(seed_from(*words))


def mix(keys: ArrayLike) -> Keys:
    """Scramble 64-bit keys so that near keys get unrelated values (the finaliser of splitmix64).

    Reference: Steele, Lea & Flood (2014), Fast splittable pseudorandom number generators, OOPSLA.
    """
    with np.errstate(over="ignore"):
        z = np.asarray(keys, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def tie_keys(unit_key: ArrayLike, picture_keys: ArrayLike) -> Keys:
    """Return the numbers that order pictures with equal activations, one per unit and picture.

    Parameters
    ----------
    unit_key
        64-bit key of a unit (seed included), or an array of them that broadcasts against the pictures.
    picture_keys
        64-bit keys of pictures, made of their content: a picture's place in its folder has no influence.
    """
    return mix(np.asarray(unit_key, dtype=np.uint64) ^ mix(picture_keys))


def uniforms(keys: ArrayLike, counters: ArrayLike, count: int) -> NDArray[np.float64]:
    """Return uniforms in [0, 1) that depend on each key and its counter alone.

    Parameters
    ----------
    keys
        Shape (n,): one 64-bit key for each stream.
    counters
        Shape (n,) or a single number: which draw of each stream, the optimisation step, for example.
    count
        Uniforms per stream and draw.

    Returns
    -------
    Shape (n, count).
    """
    base = mix(np.asarray(keys, dtype=np.uint64) ^ mix(np.asarray(counters, dtype=np.uint64)))
    with np.errstate(over="ignore"):
        words = mix(base[:, None] + np.arange(1, count + 1, dtype=np.uint64)[None, :])
    return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)
