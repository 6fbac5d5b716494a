"""Embedding pictures with the networks of model cards."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch import nn

from benchmark.cache import Cache
from benchmark.engines.base import Engine, Equipment, Piece
from benchmark.engines.local import LocalEngine
from benchmark.errors import ObserverError
from benchmark.hashing import hash_settings, pack_hashes, unpack_hashes
from benchmark.model_card import InputSpec, ModelCard
from benchmark.model_zoo import Model
from benchmark.progress import Advance, Reporter
from benchmark.readings import PlaceReader
from benchmark.storage import write_atomically
from benchmark.study import Study

BATCH = 16

BATCHES_IN_A_PIECE = 8
"""Batches that are embedded as one piece of work: seconds on two cores, and some 600 kB of vectors."""


def embed_batch(model: Model, pixels: torch.Tensor) -> torch.Tensor:
    """Embed pictures with a model's last feature layer: what its classifier gets to see.

    Parameters
    ----------
    model
        The model.
    pixels
        Shape (batch, 3, height, width), uint8, of the model's input size.

    Returns
    -------
    Shape (batch, features), rows of unit length.

    Raises
    ------
    ObserverError
        If the network has no classifier that could be found.
    """
    module: Any = model.module  # timm's models share these methods, but no type
    pictures = model.prepare(pixels)
    with torch.inference_mode():
        if hasattr(module, "forward_features") and _leaves_logits_out(getattr(module, "forward_head", None)):
            features = module.forward_head(module.forward_features(pictures), pre_logits=True)
        else:
            features = _classifier_input(model, pictures)
        return nn.functional.normalize(features.float().flatten(1), dim=1)


def _leaves_logits_out(head: Any) -> bool:
    """Whether a head can return what its classifier gets to see, as timm's heads can."""
    return callable(head) and "pre_logits" in inspect.signature(head).parameters


def _classifier_input(model: Model, pictures: torch.Tensor) -> torch.Tensor:
    """Return what goes into the classifier of a model without timm's head.

    The classifier is what its ``get_classifier()`` returns, else the last linear layer of the forward pass.
    """
    module: Any = model.module
    named = module.get_classifier() if hasattr(module, "get_classifier") else None
    linear = [inner for inner in module.modules() if isinstance(inner, nn.Linear)]
    seen: list[torch.Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for layer in ([named] if isinstance(named, nn.Module) else linear)
    ]
    try:
        module(pictures)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ObserverError(
            f"{model.name} has no last feature layer that vimi can find: its forward pass runs no linear layer. Give "
            "the network a method get_classifier() that returns its classifier, or observe with one of its eligible "
            f"layers: features:NAME@{model.layer_map.layers[-1].name}."
        )
    if seen[-1].shape[0] != len(pictures):
        raise ObserverError(
            f"The input of the last linear layer of {model.name} has shape {tuple(seen[-1].shape)}; vimi needs one "
            "row per picture. Give the network a method get_classifier() that returns its classifier."
        )
    return seen[-1]


def embed_layers(model: Model, pixels: torch.Tensor, layers: tuple[str, ...]) -> torch.Tensor:
    """Embed pictures with the mean activations of some eligible layers, each scaled to unit length and joined."""
    places = [model.layer_map[layer].place for layer in layers]
    with PlaceReader(model.module, places, prefix_tokens=model.prefix_tokens) as reader:
        parts = reader.read_places(model.prepare(pixels))
    return torch.cat([nn.functional.normalize(part.float(), dim=1) for part in parts], dim=1)


@dataclass(frozen=True)
class NotLoaded:
    """A network that is loaded when it is needed: not where the cache holds what it would say.

    Attributes
    ----------
    card, weights_hash, device
        As of the :class:`Model` that ``load`` returns.
    load
        Loads it.
    """

    card: ModelCard
    weights_hash: str
    device: torch.device
    load: Callable[[], Model]

    @property
    def name(self) -> str:
        """The name of its card."""
        return self.card.name


def embed_study_pictures(
    study: Study,
    model: Model | NotLoaded,
    pictures: tuple[str, ...],
    layers: tuple[str, ...] = (),
    reporter: Reporter | None = None,
    spread: Spread | None = None,
) -> NDArray[np.float32]:
    """Embed pictures of a study, each once: what has been embedded before is read from the study, or from the cache.

    Parameters
    ----------
    study
        The study.
    model
        The network.
    pictures
        Hashes of the pictures.
    layers
        Eligible layers to embed with, if not the last feature layer.
    reporter
        Shows progress.
    spread
        Who embeds, if not this process.

    Returns
    -------
    Shape (pictures, features), float32.
    """
    path = _embedding_path(study, model, layers)
    known = _read_embeddings(path)
    device = spread.device if spread else model.device
    settings = {"embedder": path.stem, "device": device.type, "batch": BATCH}
    reporter = reporter or Reporter()

    def compute(missing: list[str]) -> NDArray[np.float32]:
        engine = spread.engine if spread else LocalEngine()
        equipment: Equipment[Embedder] = spread.equipment if spread else _InHand(str(study.root.resolve()), path.stem)
        step = BATCHES_IN_A_PIECE * BATCH
        pieces = [
            EmbeddingPiece(equipment, path.stem, tuple(missing[start : start + step]))
            for start in range(0, len(missing), step)
        ]
        parts: dict[int, NDArray[np.float32]] = {}  # pieces finish in any order
        with reporter.task(f"Embedding with {model.name}", len(missing)) as advance:
            loaded = model.load() if isinstance(model, NotLoaded) else model
            tools = {equipment: Embedder(study, loaded, layers)}
            for number, vectors in engine.run(pieces, device=device, advance=advance, tools=tools):
                parts[number] = vectors
        return np.concatenate([parts[number] for number in range(len(pieces))])

    if Cache.beside(study.root).complete("embeddings", settings, known, pictures, compute, reporter.say):
        _write_embeddings(path, list(known), np.stack(list(known.values())))
    return np.stack([known[picture] for picture in pictures])


def _embedding_path(study: Study, model: Model | NotLoaded, layers: tuple[str, ...]) -> Path:
    return study.root / "embeddings" / f"{_embedding_key(model, layers)}.safetensors"


def _read_embeddings(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.is_file():
        return {}
    stored = load_file(path)
    return dict(zip(unpack_hashes(stored["pictures"]), stored["vectors"]))


def _write_embeddings(path: Path, pictures: Sequence[str], vectors: NDArray[np.float32]) -> None:
    contents = {"pictures": pack_hashes(pictures), "vectors": vectors}
    write_atomically(path, lambda target: save_file(contents, target))


def _embedding_key(model: Model | NotLoaded, layers: tuple[str, ...]) -> str:
    return hash_settings([model.weights_hash, model.card.input.model_dump(), layers])


@dataclass(frozen=True)
class Embedder:
    """A network that embeds pictures of a study."""

    study: Study
    model: Model
    layers: tuple[str, ...]

    def embed(self, pictures: Sequence[str], advance: Advance) -> NDArray[np.float32]:
        """Embed pictures, shape (pictures, features), in batches of one shape."""
        rows: list[NDArray[np.float32]] = []
        for start in range(0, len(pictures), BATCH):
            members = pictures[start : start + BATCH]
            pixels = [resized(self.study.image(picture), self.model.card.input) for picture in members]
            pixels += pixels[:1] * (BATCH - len(members))
            batch = torch.from_numpy(np.stack(pixels))
            vectors = embed_layers(self.model, batch, self.layers) if self.layers else embed_batch(self.model, batch)
            rows.append(vectors.cpu().numpy()[: len(members)])
            advance(len(members))
        return np.concatenate(rows)


@dataclass(frozen=True)
class EmbeddingPiece(Piece[Embedder, NDArray[np.float32]]):
    """Pictures that are embedded together: whole batches, the last one perhaps filled up.

    Attributes
    ----------
    equipment
        Loads the embedder.
    key
        What the vectors depend on besides the pictures, as the process that hands out the piece sees it.
    pictures
        Hashes of the pictures.
    """

    equipment: Equipment[Embedder]
    key: str
    pictures: tuple[str, ...]

    def run(self, tools: Embedder, advance: Advance) -> NDArray[np.float32]:
        """Embed the pictures.

        Raises
        ------
        ObserverError
            If the network has other weights here.
        """
        if _embedding_key(tools.model, tools.layers) != self.key:
            raise ObserverError(
                f"{socket.gethostname()} has other weights for {tools.model.name} than the machine that runs the "
                "study. Copy them there, or share the folder that holds them."
            )
        return tools.embed(self.pictures, advance)


@dataclass(frozen=True)
class Spread:
    """Embeds pictures for this process.

    Attributes
    ----------
    engine
        The engine.
    device
        Its device.
    equipment
        Loads the embedder where the work is done.
    """

    engine: Engine
    device: torch.device
    equipment: Equipment[Embedder]


@dataclass(frozen=True)
class _InHand(Equipment[Embedder]):
    """An embedder that this process has already."""

    root: str
    key: str

    def load(self) -> Embedder:
        raise ObserverError("An embedder made in this process can't be loaded in another one.")


def resized(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Resize a stored picture to a model's input; shape (3, size, size)."""
    image = Image.fromarray(pixels)
    if image.size != (spec.size, spec.size):
        method = Image.Resampling.BILINEAR if spec.interpolation == "bilinear" else Image.Resampling.BICUBIC
        image = image.resize((spec.size, spec.size), method)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
