"""The neurons: the channels of the layer themselves."""

from __future__ import annotations

import torch

from benchmark.bases.base import Basis, BasisCard


class NeuronBasis(Basis):
    """The identity."""

    kind = "neuron"

    @classmethod
    def shapes(cls, card: BasisCard) -> dict[str, tuple[int, ...]]:
        """Return nothing: the identity has no tensors."""
        return {}

    def encode(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the positions."""
        return positions

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the latents."""
        return latents

    @property
    def directions(self) -> torch.Tensor:
        """The channels, shape (width, dimensions)."""
        return torch.eye(self.card.width, self.card.dimensions)


BASIS, LEARNER = NeuronBasis, None
