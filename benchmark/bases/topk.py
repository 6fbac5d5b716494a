"""TopK dictionaries: at each position the k largest responses are kept.

Gao et al. (2024), Scaling and evaluating sparse autoencoders, arXiv 2406.04093: the loss is the squared residual;
latents that have not been active for long learn to explain what the others leave over. Rows of the decoder have unit
norm, unless the encoder is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from benchmark.adam import Adam
from benchmark.bases.base import BasisCard
from benchmark.bases.learning import LayerMoments, Learner, LearningSettings
from benchmark.bases.sparse import Dictionary, keep_largest
from benchmark.randomness import generator_from

DEAD_AFTER = 32_768
"""A latent counts as dead in training once it was silent for so many positions."""
AUXILIARY = 1 / 32
"""Weight of what dead latents learn, relative to the main loss."""
LEAST_COSINE = 0.8
"""How near the rows of a soft-frozen decoder stay to their random start."""


class TopKDictionary(Dictionary):
    """A dictionary of which k latents are active at a position."""

    kind = "topk"

    def keep(self, responses: torch.Tensor) -> torch.Tensor:
        """Keep the k largest positive responses."""
        return keep_largest(responses, self.card.k or self.card.width)


class TopKLearner(Learner):
    """Fits a TopK dictionary by Adam, with gradients written out."""

    dictionary: type[Dictionary] = TopKDictionary

    def __init__(self, card: BasisCard, settings: LearningSettings, moments: LayerMoments) -> None:
        super().__init__(card, settings, moments)
        device = moments.centre.device
        rows = generator_from(card.seed, "dictionary", card.width, card.dimensions).standard_normal(
            (card.width, card.dimensions)
        )
        self.decoder = to_unit(torch.from_numpy(rows).float().to(device))
        self.start = self.decoder.clone()
        self.encoder = self.decoder.clone()
        self.bias = torch.zeros(card.width, device=device)
        self.silent = torch.zeros(card.width, dtype=torch.int64, device=device)
        learned = {"encoder": self.encoder, "bias": self.bias, "decoder": self.decoder}
        frozen = {"frozen_decoder": ("decoder",), "frozen_encoder": ("encoder", "bias")}.get(card.control, ())
        self.learned = {name: tensor for name, tensor in learned.items() if name not in frozen}
        self.adam = Adam(list(self.learned.values()), settings.learning_rate, fused=False)

    def learn(self, positions: torch.Tensor, progress: float) -> None:
        """Take a step of Adam with the gradient of the loss on a batch."""
        with torch.no_grad():
            inputs = (positions.float() - self.moments.centre) / self.moments.scale
            responses = torch.addmm(self.bias, inputs, self.encoder.T)
            values, places = responses.relu().topk(min(self.card.k or self.card.width, self.card.width), dim=1)
            residual, into_latents, into_decoder = self.gradients(inputs, values, places)
            into_responses = torch.zeros_like(responses).scatter_(1, places, into_latents * (values > 0))
            self._count(values, places, len(inputs))
            into_decoder = self._revive(responses, residual, into_responses, into_decoder)
            if self.has_unit_rows:
                # What would only lengthen a row is taken out, since rows are set back to unit norm.
                into_decoder = into_decoder - (into_decoder * self.decoder).sum(1, keepdim=True) * self.decoder
            gradients = {
                "encoder": into_responses.T @ inputs,
                "bias": into_responses.sum(0),
                "decoder": into_decoder,
            }
            for name, tensor in self.learned.items():
                tensor.grad = gradients[name]
        self.adam.rate = self.settings.learning_rate * min(1.0, 2 * (1 - progress))
        self.adam.step()
        self._constrain()

    def gradients(
        self, inputs: torch.Tensor, values: torch.Tensor, places: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradient of the mean squared residual.

        Parameters
        ----------
        inputs
            Shape (n, dimensions), centred and scaled.
        values, places
            Shape (n, k): the active latents.

        Returns
        -------
        The residual of the reconstruction, shape (n, dimensions); gradients for the values, shape (n, k), and for the
        decoder, shape (width, dimensions).
        """
        latents = torch.zeros((len(inputs), self.card.width), device=inputs.device).scatter_(1, places, values)
        residual = latents @ self.decoder - inputs
        slope = residual * (2 / inputs.numel())
        return residual, (slope @ self.decoder.T).gather(1, places), latents.T @ slope

    @property
    def has_unit_rows(self) -> bool:
        """Whether rows of the decoder have unit norm. A frozen encoder can't scale its latents, so its decoder does."""
        return self.card.control != "frozen_encoder"

    def _count(self, values: torch.Tensor, places: torch.Tensor, count: int) -> None:
        """Count for how many positions each latent has been silent."""
        self.silent += count
        self.silent[places[values > 0]] = 0

    def _revive(
        self,
        responses: torch.Tensor,
        residual: torch.Tensor,
        into_responses: torch.Tensor,
        into_decoder: torch.Tensor,
    ) -> torch.Tensor:
        """Add the gradients by which dead latents learn what the others leave over."""
        dead = (self.silent > DEAD_AFTER).nonzero()[:, 0]
        if not len(dead):
            return into_decoder
        own = keep_largest(responses[:, dead], max(1, self.card.dimensions // 2))
        rest = own @ self.decoder[dead] + residual
        slope = rest * (2 * AUXILIARY / rest.numel())
        into_responses[:, dead] += (slope @ self.decoder[dead].T) * (own > 0)
        into_decoder[dead] += own.T @ slope
        return into_decoder

    def _constrain(self) -> None:
        """Set the decoder's rows back to unit norm, near their start if it is soft-frozen."""
        if "decoder" not in self.learned or not self.has_unit_rows:
            return
        rows = to_unit(self.decoder)
        if self.card.control == "soft_frozen_decoder":
            cosine = (rows * self.start).sum(1, keepdim=True)
            aside = to_unit(rows - cosine * self.start)
            nearest = LEAST_COSINE * self.start + (1 - LEAST_COSINE**2) ** 0.5 * aside
            rows = torch.where(cosine < LEAST_COSINE, nearest, rows)
        self.decoder.copy_(rows)

    def state(self) -> dict[str, torch.Tensor]:
        """Return weights, Adam's moments and how long latents have been silent."""
        moments = {
            f"adam.{kind}.{name}": tensor
            for kind, tensors in (("mean", self.adam.means), ("square", self.adam.squares), ("step", self.adam.steps))
            for name, tensor in zip(self.learned, tensors)
        }
        return {"encoder": self.encoder, "bias": self.bias, "decoder": self.decoder, "silent": self.silent} | moments

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a state."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def finish(self) -> Dictionary:
        """Return the dictionary."""
        tensors = {
            "centre": self.moments.centre,
            "scale": self.moments.scale,
            "encoder": self.encoder,
            "bias": self.bias,
            "decoder": self.decoder,
        }
        return self.dictionary(self.card, tensors)


def to_unit(rows: torch.Tensor) -> torch.Tensor:
    """Return rows with unit norm."""
    return torch.nn.functional.normalize(rows, dim=1)


BASIS, LEARNER = TopKDictionary, TopKLearner
