"""Ordered dictionaries: TopK dictionaries whose every prefix reconstructs.

Wang et al. (2025), arXiv 2512.02194. A position has k active latents, so its prefixes have only k different
reconstructions: the partial sums in the order of the latents. The loss is their mean squared residual, over every
active latent's own prefix; nothing is sampled.
"""

from __future__ import annotations

import torch

from benchmark.bases.topk import TopKDictionary, TopKLearner


class OrderedDictionary(TopKDictionary):
    """A TopK dictionary with an order: the first latents alone reconstruct as well as they can."""

    kind = "ordered"


class OrderedLearner(TopKLearner):
    """Fits an ordered dictionary."""

    dictionary = OrderedDictionary

    def gradients(
        self, inputs: torch.Tensor, values: torch.Tensor, places: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradient of the squared residual, averaged over the prefixes of each position."""
        order = places.argsort(dim=1)
        sorted_places = places.gather(1, order)
        sorted_values = values.gather(1, order)
        rows = self.decoder[sorted_places]
        parts = sorted_values[..., None] * rows
        residuals = parts.cumsum(1) - inputs[:, None]
        active = (sorted_values > 0).float()
        weights = active / active.sum(1, keepdim=True).clamp_min(1)
        slopes = residuals * (weights * (2 / inputs.numel()))[..., None]
        # A latent is in its own prefix and in all longer ones.
        slopes = slopes.flip(1).cumsum(1).flip(1)
        into_values = torch.empty_like(values).scatter_(1, order, (slopes * rows).sum(-1))
        into_decoder = torch.zeros_like(self.decoder).index_add_(
            0, sorted_places.flatten(), (slopes * sorted_values[..., None]).flatten(0, 1)
        )
        return residuals[:, -1], into_values, into_decoder


BASIS, LEARNER = OrderedDictionary, OrderedLearner
