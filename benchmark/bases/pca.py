"""Principal components of a layer's positions: the linear basis that explains most variance with fewest directions."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from benchmark.bases.base import Basis, BasisCard
from benchmark.bases.learning import LayerMoments, Learner, LearningSettings


class LinearBasis(Basis):
    """An orthonormal basis: latents are coordinates, of both signs."""

    @classmethod
    def shapes(cls, card: BasisCard) -> dict[str, tuple[int, ...]]:
        """Return the tensors of a linear basis."""
        return {"centre": (card.dimensions,), "axes": (card.width, card.dimensions)}

    def encode(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the coordinates of positions of shape (n, dimensions), as shape (n, width)."""
        return (positions - self.tensors["centre"]) @ self.tensors["axes"].T

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the positions with these coordinates, shape (n, dimensions)."""
        return self.tensors["centre"] + latents @ self.tensors["axes"]

    @property
    def directions(self) -> torch.Tensor:
        """The axes, shape (width, dimensions)."""
        return self.tensors["axes"]


class PCABasis(LinearBasis):
    """Principal components, in the order of the variance that they explain."""

    kind = "pca"


class PCALearner(Learner):
    """Collects the covariance in one pass, in float64."""

    def __init__(self, card: BasisCard, settings: LearningSettings, moments: LayerMoments) -> None:
        super().__init__(card, settings, moments)
        shape = (card.dimensions, card.dimensions)
        self.covariance = torch.zeros(shape, dtype=torch.float64, device=moments.centre.device)
        self.count = torch.zeros((), dtype=torch.int64)

    @property
    def epochs(self) -> int:
        """One pass is enough."""
        return 1

    def learn(self, positions: torch.Tensor, progress: float) -> None:
        """Add a batch to the covariance."""
        centred = (positions - self.moments.centre).double()
        self.covariance += centred.T @ centred
        self.count += len(positions)

    def state(self) -> dict[str, torch.Tensor]:
        """Return what was collected."""
        return {"covariance": self.covariance, "count": self.count}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a state."""
        self.covariance.copy_(state["covariance"])
        self.count.copy_(state["count"])

    def finish(self) -> PCABasis:
        """Return the first components; each axis points to where its largest weight is positive."""
        vectors = torch.linalg.eigh(self.covariance.cpu() / max(int(self.count), 1)).eigenvectors.flip(1).T
        axes = vectors[: self.card.width]
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        return PCABasis(self.card, {"centre": self.moments.centre, "axes": axes * largest.sign()})


BASIS, LEARNER = PCABasis, PCALearner
