"""Fitting a basis to positions of a layer, batch by batch; the loop around it is in :mod:`stimuli.dictionaries`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from benchmark.bases.base import Basis, BasisCard


@dataclass(frozen=True, eq=False)
class LayerMoments:
    """Mean and size of a layer's positions, over the training pictures.

    Attributes
    ----------
    centre
        Shape (dimensions,): the mean position.
    scale
        Root mean square of a centred channel, one number for the whole layer.
    """

    centre: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True)
class LearningSettings:
    """How a basis is fitted.

    Attributes
    ----------
    epochs
        Passes over the sampled positions.
    batch_size
        Positions in a step.
    learning_rate
        Adam's at the start; it falls to 0.
    """

    epochs: int = 8
    batch_size: int = 512
    learning_rate: float = 2e-3


class Learner(ABC):
    """Fits a basis.

    Parameters
    ----------
    card
        Card of the basis to fit.
    settings
        How.
    moments
        Of the layer.
    """

    def __init__(self, card: BasisCard, settings: LearningSettings, moments: LayerMoments) -> None:
        self.card, self.settings, self.moments = card, settings, moments

    @property
    def epochs(self) -> int:
        """Passes over the positions that this kind needs."""
        return self.settings.epochs

    @abstractmethod
    def learn(self, positions: torch.Tensor, progress: float) -> None:
        """Learn from a batch of shape (n, dimensions); ``progress`` is the share of all steps taken before it."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Return all that later steps depend on, so that a killed training goes on to the same weights."""

    @abstractmethod
    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a state."""

    @abstractmethod
    def finish(self) -> Basis:
        """Return the basis."""
