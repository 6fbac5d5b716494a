"""What a basis is: directions in a layer's activation space whose coordinates are units.

A basis belongs to one layer of one model. It *encodes* the layer's tensor at each position into latents and *decodes*
latents back. The neurons are the plainest basis; the latents of a dictionary (a sparse autoencoder) are another. A
basis is stored as one safetensors file with its card inside.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from benchmark.documents import Document, parse
from benchmark.errors import BasisError
from benchmark.hashing import hash_state
from benchmark.layers import spell_space
from benchmark.storage import write_atomically

Control = Literal["", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "other_seed"]
"""What makes a dictionary a control: the part of it that stays random, or only another seed."""

DENSE_SHARE = 0.1
"""A latent that is active at more than this share of positions is called dense: a bias in disguise."""


class BasisTraining(Document):
    """What a basis was fitted to.

    Attributes
    ----------
    pool, pictures_hash
        Name of the pool, and the hash of the training pictures.
    pictures, held_out
        Pictures that it was fitted to, and pictures kept for measuring its quality.
    positions
        Positions of the layer's tensor that were sampled from the training pictures.
    epochs, batch_size, learning_rate
        How long and in which steps; 0 epochs where nothing is learned.
    """

    pool: str = ""
    pictures_hash: str = ""
    pictures: int = Field(default=0, ge=0)
    held_out: int = Field(default=0, ge=0)
    positions: int = Field(default=0, ge=0)
    epochs: int = Field(default=0, ge=0)
    batch_size: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=0.0, ge=0)


class Replacement(Document):
    """What the network's answers lose when a layer is replaced by its reconstruction, on held-out pictures.

    Attributes
    ----------
    answers
        ``labels`` of the pool, or the network's ``own`` first answer where there are none that fit its outputs.
    top1, top1_replaced, top1_mean
        Share of pictures with the right answer: as the network is, with the reconstruction, and with the layer's mean.
    cross_entropy, cross_entropy_replaced, cross_entropy_mean
        The same for the cross-entropy, in nats.
    recovered
        Share of the cross-entropy that the mean costs and the reconstruction saves: 1 for a perfect reconstruction.
    """

    answers: Literal["labels", "own"]
    top1: float
    top1_replaced: float
    top1_mean: float
    cross_entropy: float
    cross_entropy_replaced: float
    cross_entropy_mean: float
    recovered: float | None


class BasisQuality(Document):
    """How well a basis describes its layer, on held-out pictures.

    Attributes
    ----------
    positions
        Positions that were measured.
    r2
        Share of the layer's variance that decoding the latents explains.
    l0
        Mean number of latents that are not zero at a position.
    dead, dense
        Share of latents that are active nowhere, and at more than a tenth of all positions.
    prefix_r2
        ``r2`` of the first latents alone, by their number.
    replacement
        What the network loses with the reconstruction in the layer's place; None if it is no classifier.
    """

    positions: int = Field(ge=0)
    r2: float
    l0: float
    dead: float
    dense: float
    prefix_r2: dict[int, float] = Field(default_factory=dict)
    replacement: Replacement | None = None


class BasisCard(Document):
    """What is known of a basis.

    Attributes
    ----------
    name
        As units spell it: ``topk-1024``.
    kind
        What made it: a name in the registry of kinds.
    model, model_weights
        The model that it belongs to, and the hash of its weights.
    layer
        The layer, by name.
    dimensions, width
        Channels of the layer, and latents.
    k
        How many latents are active at a position; None if that varies.
    control
        Empty, or which part of the dictionary stayed random.
    seed
        Seed of everything random in it.
    one_sided
        Whether latents are never negative: most pictures then have the same smallest activation, zero.
    origin
        ``trained``, ``drawn``, or where it was imported from.
    training, quality
        What it was fitted to, and how well.
    versions
        Versions of the software that made it.
    """

    name: str
    kind: str
    model: str
    model_weights: str = ""
    layer: str
    dimensions: int = Field(gt=0)
    width: int = Field(gt=0)
    k: int | None = Field(default=None, gt=0)
    control: Control = ""
    seed: int = Field(default=0, ge=0)
    one_sided: bool = False
    origin: str = "trained"
    training: BasisTraining = BasisTraining()
    quality: BasisQuality | None = None
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def space(self) -> str:
        """Layer and basis as names of units have them: ``blocks.4@topk-1024``."""
        return spell_space(self.layer, self.name)


class Basis(ABC):
    """Directions in a layer's activation space.

    Parameters
    ----------
    card
        What is known of it.
    tensors
        Its tensors, float32.
    """

    kind: ClassVar[str]

    def __init__(self, card: BasisCard, tensors: Mapping[str, torch.Tensor]) -> None:
        self.card = card
        self.tensors = {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}
        self._check()

    @classmethod
    @abstractmethod
    def shapes(cls, card: BasisCard) -> dict[str, tuple[int, ...]]:
        """Return the tensors that a basis of this card consists of, with their shapes."""

    @abstractmethod
    def encode(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the latents of positions of shape (n, dimensions), float32, as shape (n, width)."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the positions that latents of shape (n, width) stand for, shape (n, dimensions)."""

    @property
    @abstractmethod
    def directions(self) -> torch.Tensor:
        """What one unit of each latent adds to the layer, shape (width, dimensions)."""

    def respond(self, positions: torch.Tensor) -> torch.Tensor:
        """Return what latents are made of before anything is cut off, shape (n, width).

        Visualisations climb it: a latent that is silent at the start has a gradient here.
        """
        return self.encode(positions)

    @cached_property
    def weights_hash(self) -> str:
        """Hash of its tensors."""
        return hash_state(self.tensors)

    def to(self, device: torch.device | str) -> Self:
        """Return the basis on a device."""
        target = torch.device(device)
        if all(tensor.device == target for tensor in self.tensors.values()):
            return self
        return type(self)(self.card, {name: tensor.to(target) for name, tensor in self.tensors.items()})

    def with_card(self, **changes: Any) -> Self:
        """Return the basis with some facts of its card replaced."""
        return type(self)(self.card.model_copy(update=changes), self.tensors)

    def encode_tensor(self, tensor: torch.Tensor, axis: int, *, responses: bool = False) -> torch.Tensor:
        """Return the latents at every position of a layer's tensor, in the place of its channels.

        Parameters
        ----------
        tensor
            Shape (pictures, ..., channels on ``axis``, ...).
        axis
            The channel axis.
        responses
            Whether to return :meth:`respond` in place of the latents.
        """
        moved = tensor.movedim(axis, -1)
        flat = moved.reshape(-1, moved.shape[-1]).float()
        work = self.respond if responses else self.encode
        return work(flat).reshape(*moved.shape[:-1], self.card.width).movedim(-1, axis)

    def write(self, path: Path, **marks: str) -> None:
        """Write the basis as a safetensors file that holds its card, and further marks beside it."""
        contents = {name: tensor.cpu() for name, tensor in self.tensors.items()}
        metadata = {"card": self.card.model_dump_json(), **marks}
        write_atomically(path, lambda target: save_file(contents, target, metadata))

    def _check(self) -> None:
        """Check that the tensors are those of a basis of this kind and card.

        Raises
        ------
        BasisError
            If one is missing, has another shape, or is not finite.
        """
        for name, shape in self.shapes(self.card).items():
            tensor = self.tensors.get(name)
            if tensor is None:
                raise BasisError(f"The basis {self.card.name} lacks the tensor {name!r}, of shape {shape}.")
            if tuple(tensor.shape) != shape:
                raise BasisError(
                    f"The tensor {name!r} of the basis {self.card.name} has the shape {tuple(tensor.shape)}, and "
                    f"{self.card.width} latents in {self.card.dimensions} dimensions need {shape}."
                )
            if not torch.isfinite(tensor).all():
                raise BasisError(
                    f"The tensor {name!r} of the basis {self.card.name} holds NaN or infinity, so its latents can't be "
                    "ranked. Train it again with a smaller learning rate."
                )


def read_card(path: Path) -> BasisCard:
    """Read the card of a basis file.

    Raises
    ------
    BasisError
        If the file is missing, is no safetensors file, or has no card.
    """
    if not path.is_file():
        raise BasisError(f"There is no basis file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("card", "")
    except (OSError, SafetensorError) as error:
        raise BasisError(f"{path} can't be read as safetensors ({error}).") from None
    if not text:
        raise BasisError(
            f"{path} has no card, so vimi did not write it. Import another program's dictionary with "
            "'vimi dictionary import'."
        )
    try:
        values = json.loads(text)
    except ValueError:
        raise BasisError(f"The card in {path} is not JSON; the file is damaged.") from None
    return parse(BasisCard, values, f"the card in {path}")
