"""Dictionaries: an encoder, something that makes latents sparse, and a decoder whose rows are directions.

For a position x, with centre c and scale s of the layer: u = (x - c) / s, responses W u + b, latents z = those of them
that are kept, reconstruction c + s z D.
"""

from __future__ import annotations

from abc import abstractmethod

import torch

from benchmark.bases.base import Basis, BasisCard


class Dictionary(Basis):
    """A basis of sparse latents."""

    @classmethod
    def shapes(cls, card: BasisCard) -> dict[str, tuple[int, ...]]:
        """Return the tensors of a dictionary."""
        return {
            "centre": (card.dimensions,),
            "scale": (),
            "encoder": (card.width, card.dimensions),
            "bias": (card.width,),
            "decoder": (card.width, card.dimensions),
        }

    @abstractmethod
    def keep(self, responses: torch.Tensor) -> torch.Tensor:
        """Return the latents that responses of shape (n, width) leave."""

    def respond(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the responses of shape (n, width)."""
        tensors = self.tensors
        inputs = (positions - tensors["centre"]) / tensors["scale"]
        return torch.addmm(tensors["bias"], inputs, tensors["encoder"].T)

    def encode(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the latents of positions of shape (n, dimensions), as shape (n, width)."""
        return self.keep(self.respond(positions))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction from latents of shape (n, width), as shape (n, dimensions)."""
        return self.tensors["centre"] + self.tensors["scale"] * (latents @ self.tensors["decoder"])

    @property
    def directions(self) -> torch.Tensor:
        """Rows of the decoder in the layer's own unit."""
        return self.tensors["scale"] * self.tensors["decoder"]


def keep_largest(responses: torch.Tensor, k: int) -> torch.Tensor:
    """Keep the k largest of the positive responses at each position; everything else becomes 0."""
    values, places = responses.relu().topk(min(k, responses.shape[-1]), dim=-1, sorted=False)
    return torch.zeros_like(responses).scatter_(-1, places, values)
