"""A random rotation of a layer: a basis that nothing was learned for.

If people understand a random rotation of the neurons as well as the neurons, the neurons are no better than any other
directions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from benchmark.bases.learning import Learner
from benchmark.bases.pca import LinearBasis
from benchmark.randomness import generator_from


class RotationBasis(LinearBasis):
    """A random orthogonal matrix, uniform over rotations and reflections."""

    kind = "rotation"


class RotationLearner(Learner):
    """Draws the matrix: the Q of a Gaussian matrix, with the signs of R's diagonal (Mezzadri 2007, math-ph/0609050)."""

    @property
    def epochs(self) -> int:
        """Nothing is learned."""
        return 0

    def learn(self, positions: torch.Tensor, progress: float) -> None:
        """Do nothing."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return nothing: the seed says all."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Do nothing."""

    def finish(self) -> RotationBasis:
        """Return the rotation."""
        side = self.card.dimensions
        gaussian = torch.from_numpy(generator_from(self.card.seed, "rotation", side).standard_normal((side, side)))
        q, r = torch.linalg.qr(gaussian)
        axes = (q * r.diagonal().sign()).T[: self.card.width]
        return RotationBasis(self.card, {"centre": self.moments.centre, "axes": axes})


BASIS, LEARNER = RotationBasis, RotationLearner
