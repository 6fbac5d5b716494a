"""What stages of a build take where it follows from their settings: bytes of files, steps of visualisations.

The whole model of costs, which predicts studies on other machines, is fitted by ``tests/speed/cost_model.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

PLACES_BYTES = 8
FLOAT_BYTES = 4
KEPT_BYTES = 16
"""Of an extreme: value and place, on both sides."""

TYPICAL_STEPS = 208
"""Steps after which sets converge, averaged over six layers of EfficientNet-Lite0; a lower cap is reached instead."""
RECIPE_RUNS = 12
"""Runs per set of the preset ``imi2023``: one plain, the search over weights, seven bisections."""
SECONDS_PER_ENTRY = 1.5e-8
"""Of keeping extremes, for each column and picture, on one core."""
SYNTHETIC_BYTES = 2.2
"""Of a synthetic picture's pixel, stored lossless."""


def activation_bytes(pictures: int, sampled: int, columns: int, extremes: int) -> int:
    """Return the bytes of a model's activations: sampled units whole, extremes of all columns."""
    return FLOAT_BYTES * sampled * pictures + KEPT_BYTES * columns * min(extremes, pictures)


def shard_bytes(pictures: int, sampled: int, columns: int, extremes: int, shards: Sequence[int]) -> int:
    """Return the bytes of all shards of a pass, which exist until they are merged.

    Parameters
    ----------
    pictures, sampled, columns, extremes
        As for :func:`activation_bytes`.
    shards
        Pictures in each shard.
    """
    assert sum(shards) == pictures
    return sum(activation_bytes(count, sampled, columns, extremes) + PLACES_BYTES * count for count in shards)


def synthetic_bytes(sets: int, images: int, canvas: int, per_pixel: float = SYNTHETIC_BYTES) -> int:
    """Return the bytes of synthetic pictures."""
    return round(sets * images * per_pixel * canvas**2)


def keeping_seconds(pictures: int, columns: int, extremes: int) -> float:
    """Return the seconds that one core spends on keeping the extremes of a pass, and on writing them."""
    return SECONDS_PER_ENTRY * pictures * columns + 2e-9 * KEPT_BYTES * columns * extremes


def steps_of_sets(most_steps: int, *, least_steps: int = 0, check_every: int = 0) -> float:
    """Return how many steps a set is expected to take, in steps of its optimiser.

    Parameters
    ----------
    most_steps
        The cap.
    least_steps
        Steps before which the preset ``imi2023`` does not stop; 0 for the preset ``fast``.
    check_every
        Steps between two looks of the preset ``fast``, each of which costs a forward pass.
    """
    if least_steps:
        return 4.0 * RECIPE_RUNS * min(most_steps, 2 * least_steps)
    return min(most_steps, TYPICAL_STEPS) * (1 + (0.4 / check_every if check_every else 0.0))
