"""Observers made of the networks of model cards."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.model_card import ModelCard, load_card
from benchmark.model_zoo import Model, load_model
from benchmark.observers.base import Kinship, SimilarityObserver
from benchmark.observers.embedding import Spread, embed_study_pictures
from benchmark.progress import Reporter
from benchmark.study import Study


def load_observer(name: str, seed: int = 0, device: torch.device | str = "cpu") -> Model:
    """Load the network of a card that observes; a process loads one that ships with vimi, or with timm, once.

    Parameters
    ----------
    name
        Name of the card.
    seed
        Seed of its weights, if they are random.
    device
        Where it shall live.
    """
    card = load_card(name)
    if card.is_own:  # a notebook may offer another network under the same name
        return load_model(card, seed=seed, device=device)
    return _load_once(card, seed if card.twin else 0, str(device))


@lru_cache(maxsize=4)
def _load_once(card: ModelCard, seed: int, device: str) -> Model:
    return load_model(card, seed=seed, device=device)


class FeatureObserver(SimilarityObserver):
    """Compares pictures by the features of a network: ``features:CARD`` or ``features:CARD@LAYER+LAYER``.

    By default it uses the last feature layer. Early layers turn it into a low-level observer: measured on the
    bundled models, three layers answer the trials of a random network as well as those of a trained one.

    Attributes
    ----------
    spread
        Who embeds pictures, if not this process.
    """

    spread: Spread | None = None

    def __init__(
        self, specification: str, study: Study, device: torch.device | str = "cpu", reporter: Reporter | None = None
    ) -> None:
        card, _, layers = specification.partition("@")
        self.name = f"features:{specification}"
        self.study = study
        self.layers = tuple(filter(None, layers.split("+")))
        self.reporter = reporter
        self.model = load_observer(card, study.experiment.seed, device)
        for layer in self.layers:
            self.model.layer_map[layer]  # an unknown layer is an error that suggests the near one
        self.kinship = Kinship.of(self.model.card)
        self.weights_hash = self.model.weights_hash

    def embed(self, pictures: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the features, one row per picture; what the study has embedded before is not embedded again."""
        return embed_study_pictures(self.study, self.model, pictures, self.layers, self.reporter, self.spread)
