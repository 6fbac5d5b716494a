"""What is asked of a visualiser and what it gives back: a set of pictures for one unit and sign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.units import Unit

IMAGES = 9
"""Pictures in a set: one side of references."""


@dataclass(frozen=True)
class Threshold:
    """What a set has to beat, and the scale that it is measured on.

    All numbers have the sign of the set: for the minimal side activations are turned, so that larger is always
    more extreme.

    Attributes
    ----------
    best
        Activation of the most extreme natural picture.
    median_reference
        Median activation of the unit's most extreme natural pictures.
    middle
        Median activation over the pool: the zero point of ratios.
    deviation
        Standard deviation over the pool.
    """

    best: float
    median_reference: float
    middle: float
    deviation: float

    @property
    def span(self) -> float:
        """Distance from the middle of the pool to its best picture; never zero."""
        return max(self.best - self.middle, 1e-3 * self.deviation, 1e-12)

    def over_best(self, activation: float) -> float:
        """Return an activation in units of the best natural picture's, above the middle of the pool."""
        return (activation - self.middle) / self.span

    def over_median(self, activation: float) -> float:
        """Return an activation in units of the median reference's, above the middle of the pool."""
        return (activation - self.middle) / max(self.median_reference - self.middle, 1e-3 * self.deviation, 1e-12)

    def margin(self, activation: float) -> float:
        """Return how far an activation exceeds the best natural picture's, in standard deviations."""
        return (activation - self.best) / max(self.deviation, 1e-12)


@dataclass(frozen=True)
class SetRequest:
    """A set to be made: a unit, the end of its activations, and what to beat there."""

    unit: Unit
    sign: int
    threshold: Threshold

    @property
    def side(self) -> str:
        """Which references the set is for."""
        return "max" if self.sign > 0 else "min"

    @property
    def name(self) -> str:
        """Name of the set, which its randomness is keyed by."""
        return f"{self.unit}:{self.side}"


@dataclass(frozen=True)
class SetResult:
    """A finished set.

    Attributes
    ----------
    request
        What was asked.
    pixels
        Shape (images, canvas, canvas, 3), uint8; from the weakest to the strongest.
    activations
        Shape (images,): of the finished 8-bit pictures, with the sign of the set.
    diversity_loss
        Mean similarity of the pictures in the unit's layer.
    steps
        Optimisation steps, summed over all runs that the set took.
    seconds
        Time the set took; sets that share a batch share its time.
    """

    request: SetRequest
    pixels: NDArray[np.uint8]
    activations: NDArray[np.float64]
    diversity_loss: float
    steps: int
    seconds: float

    @property
    def accepted(self) -> bool:
        """Whether the weakest picture beats the best natural one."""
        return bool(self.activations.min() > self.request.threshold.best)
