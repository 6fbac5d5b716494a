"""Observers made of the networks of model cards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark import __version__
from benchmark.cache import Cache
from benchmark.hashing import hash_file, hash_settings, pack_hashes, unpack_hashes
from benchmark.model_card import ModelCard
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model, weights_on_machine
from benchmark.observers.base import Kinship, SimilarityObserver
from benchmark.observers.embedding import NotLoaded, Spread, embed_study_pictures
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
        name, _, layers = specification.partition("@")
        self.name = f"features:{specification}"
        self.study = study
        self.layers = tuple(filter(None, layers.split("+")))
        self.reporter = reporter
        self._card_name, self._device = name, torch.device(device)
        known = _Weights(Cache.beside(study.root), load_card(name))
        found = "" if self.layers else known.recall()
        if found:
            self.card, self.weights_hash = known.card, found
        else:
            self.card, self.weights_hash = self.model.card, self.model.weights_hash
            known.remember(self.model)
        for layer in self.layers:
            self.model.layer_map[layer]  # an unknown layer is an error that suggests the near one
        self.kinship = Kinship.of(self.card)

    @cached_property
    def model(self) -> Model:
        """The network; loaded when it is first asked for."""
        return load_observer(self._card_name, self.study.experiment.seed, self._device)

    def embed(self, pictures: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the features, one row per picture; what the study has embedded before is not embedded again."""
        network = NotLoaded(self.card, self.weights_hash, self._device, lambda: self.model)
        return embed_study_pictures(self.study, network, pictures, self.layers, self.reporter, self.spread)


@dataclass(frozen=True)
class _Weights:
    """The hash of the weights in a card's file, which is known before they are loaded if they were loaded before."""

    cache: Cache
    card: ModelCard

    def recall(self) -> str:
        """Return the hash; empty if it is not known."""
        settings = self._settings
        if settings is None:
            return ""
        found = self.cache.read("weights", settings).get("hash")
        return "".join(unpack_hashes(row[None])[0] for row in found.values())

    def remember(self, model: Model) -> None:
        """Cache the hash of a loaded model, if its card matches the model's own card."""
        settings = self._settings
        same = model.card.input == self.card.input and Kinship.of(model.card) == Kinship.of(self.card)
        if settings is not None and same:
            self.cache.add("weights", settings, [hash_settings(settings)], {"hash": pack_hashes([model.weights_hash])})

    @cached_property
    def _settings(self) -> dict[str, str] | None:
        """Everything that the hash depends on; None where the weights don't lie in one file, or nothing is cached."""
        if self.cache.folder is None or self.card.is_own or self.card.twin:
            return None
        file = weights_on_machine(self.card)
        if file is None:
            return None
        return {
            "card": self.card.model_dump_json(), "file": hash_file(file), "timm": version("timm"), "vimi": __version__,
        }  # fmt: skip
