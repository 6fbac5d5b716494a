"""Model cards: what a model is, how it is built, and what it was trained on.

A card is a small TOML file in ``benchmark/cards``. Any other timm model needs none: its card is made from what
timm knows of it, and what only its author can know (the training data of unknown weights) is asked for. A network of
one's own needs none either: see :mod:`benchmark.own_models`.
"""

from __future__ import annotations

import re
import warnings
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from benchmark.data_sets import data_set_names
from benchmark.documents import Document, parse, read_toml
from benchmark.errors import CardError, NameNotFound, suggest

TWIN_SUFFIX = "-twin"
"""What the name of a model's random-weight twin ends with."""

OWN = ("python", "object")
"""Kinds of sources that make the network itself, instead of only its weights: own models."""

Interpolation = Literal["bilinear", "bicubic"]
CropMode = Literal["center", "squash", "border"]

TRAINING_DATA: dict[str, tuple[str, int]] = {
    # token of a timm tag -> data set, number of training pictures
    "in1k": ("imagenet-1k", 1_281_167),
    "in21k": ("imagenet-21k", 14_197_122),
    "in22k": ("imagenet-21k", 14_197_122),
    "openai": ("openai-wit", 400_000_000),
    "laion400m": ("laion-400m", 400_000_000),
    "laion2b": ("laion-2b", 2_000_000_000),
    "lvd142m": ("lvd-142m", 142_000_000),
    "dfn2b": ("dfn-2b", 2_000_000_000),
    "dfn5b": ("dfn-5b", 5_000_000_000),
    "yfcc100m": ("yfcc-100m", 100_000_000),
}
"""What the tags of timm's pretrained weights say about training data, where that is certain."""

OTHER_DATA = re.compile(
    r"(in\d|inw|ig|ssl|swsl|wsl|swag|seer|jft|merged|webli|datacomp|laion|yfcc|dfn|cc\d|m\d+m).*|indomain"
)
"""Tokens of a tag that name data of which the tag does not tell enough, unless :data:`TRAINING_DATA` has them."""


class InputSpec(Document):
    """What a model wants to see.

    Attributes
    ----------
    size
        Height and width, in pixels.
    crop_ratio
        Side of the central crop over the shorter side of the resized picture, in the model's own transform. Above 1
        the picture is padded.
    crop_mode
        How a picture becomes square in the model's own transform: ``center`` cuts, ``squash`` changes the aspect
        ratio, ``border`` adds borders.
    interpolation
        How pictures are resized for it.
    mean, std
        Per channel, of pictures scaled to [0, 1].
    """

    size: int = Field(gt=0)
    crop_ratio: float = Field(gt=0, le=2)
    crop_mode: CropMode = "center"
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @model_serializer(mode="wrap")
    def _without_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the common crop mode out, so that studies from before there were others keep their hashes."""
        values: dict[str, Any] = serialize(self)
        if values.get("crop_mode") == "center":
            del values["crop_mode"]
        return values


class TrainingSpec(Document):
    """What a model was trained on: data sets by name, and the number of pictures in the largest.

    :func:`load_card` gives known data sets the spelling that pools use, too: see :mod:`benchmark.data_sets`. A card
    that was stored with a result stays as it was written, and so does its hash.
    """

    data: tuple[str, ...]
    images: int = Field(gt=0)
    note: str = ""


class AccuracySpec(Document):
    """A model's accuracy in percent, and how it was measured."""

    top1: float = Field(ge=0, le=100)
    measured: str


class WeightsSpec(Document):
    """Where a model's weights come from.

    Attributes
    ----------
    source
        ``timm`` (timm's own hub entry), ``wheel:PACKAGE/PATH`` (a file inside an installed package),
        ``url:ADDRESS``; or, of an own model, ``python:MODULE:FUNCTION`` (a function that returns the network with its
        weights) or ``object:NAME`` (a network of this process, see :func:`benchmark.own_models.offer_model`).
    state
        Key under which a checkpoint keeps its weights; empty if it is the weights.
    prefix
        Beginning of the names of the weights that belong to the model; it is removed.
    """

    source: str
    state: str = ""
    prefix: str = ""


class ModelCard(Document):
    """Everything vimi knows about a model without building it.

    Attributes
    ----------
    name, title
        What it is called in tables, and where there is room.
    timm
        timm's name of it, with the tag of its weights; empty for an own model.
    family
        Its family of architectures: models of one family are relatives.
    weights, input, training, accuracy
        Where its weights come from, what it wants to see, what it was trained on, how good it is.
    input_note
        What of the input is assumed, if its author did not state all of it.
    parameters, parameters_note
        Their number, and what must be known about it.
    licence, source
        Under which terms its weights may be used, and where they are from.
    layers
        Patterns of its eligible layers; empty for the general rule.
    twin
        Whether it is the random-weight twin of a model.
    """

    name: str
    title: str
    timm: str = ""
    family: str
    weights: WeightsSpec
    input: InputSpec
    input_note: str = ""
    training: TrainingSpec | None = None
    accuracy: AccuracySpec | None = None
    parameters: int | None = None
    parameters_note: str = ""
    licence: str = "unknown"
    source: str = ""
    layers: tuple[str, ...] = ()
    twin: bool = False

    @model_validator(mode="after")
    def _made_one_way(self) -> ModelCard:
        if self.is_own == bool(self.timm):
            raise ValueError(
                "weights.source makes the network, so leave 'timm' out"
                if self.is_own
                else "'timm' is required: timm's name of the architecture, unless weights.source is "
                "python:MODULE:FUNCTION"
            )
        return self

    @property
    def is_own(self) -> bool:
        """Whether the network is a user's own: made by a function of theirs, or offered by a notebook."""
        return self.weights.source.partition(":")[0] in OWN

    @property
    def architecture(self) -> str:
        """timm's name of the architecture, without the tag of the weights; of an own model, what makes it."""
        return self.weights.source if self.is_own else self.timm.partition(".")[0]

    @property
    def network(self) -> str:
        """What makes the network, in words: ``timm's resnet50.tv_in1k``, ``my_model:make``."""
        kind, _, place = self.weights.source.partition(":")
        return {"python": place, "object": f"the network offered as {place!r}"}.get(kind, f"timm's {self.timm}")

    def as_twin(self) -> ModelCard:
        """Return the card of the model's random-weight twin, which was trained on nothing."""
        return self.model_copy(
            update={
                "name": self.name + TWIN_SUFFIX,
                "title": f"{self.title}, random weights",
                "training": None,
                "accuracy": None,
                "twin": True,
            }
        )

    def is_related(self, other: ModelCard) -> bool:
        """Whether an observer made of the other model would judge a relative.

        Relatives share the family of architectures or a set of training data.
        """
        mine = set(data_set_names(self.training.data)) if self.training else set()
        theirs = set(data_set_names(other.training.data)) if other.training else set()
        return self.family == other.family or bool(mine & theirs)


def card_names() -> list[str]:
    """Return the names of the cards that ship with vimi."""
    folder = resources.files("benchmark") / "cards"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_card(path: Path | str) -> ModelCard:
    """Read a card from its file; an unknown key is an error that suggests the near one."""
    return parse(ModelCard, read_toml(path), f"model card {Path(path).name}")


def card_from_timm(name: str) -> ModelCard:
    """Make the card of a model that timm knows, with or without the tag of its weights.

    Raises
    ------
    NameNotFound
        If timm does not know it.
    """
    from benchmark import architectures  # noqa: F401  (registers vimi's own with timm)
    from benchmark.timm_loading import timm

    name = _present_timm_name(name)
    architecture, point, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise NameNotFound("timm model", architecture, timm.list_models())
    tags = [pretrained.partition(".")[2] for pretrained in timm.list_pretrained(f"{architecture}.*")]
    if point and not tag:
        raise CardError(
            f"The tag is missing after the dot in {name!r}. Write timm:{architecture} for timm's default weights, or "
            f"add a tag: {', '.join(tags) or 'timm has no weights for it'}."
        )
    if tag and tag not in tags:
        raise CardError(f"timm's {architecture} has no weights tagged {tag!r}. {suggest(tag, tags)}")
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise CardError(f"timm does not record the input of {architecture!r}; write a model card for it.")
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise CardError(
            f"timm's {name} takes pictures of {channels} channels and {height} x {width} pixels; vimi shows square "
            "RGB pictures. If it also runs on square ones, write a model card that states its input size."
        )
    crop_mode = config.crop_mode or "center"
    if crop_mode not in get_args(CropMode):
        raise CardError(
            f"timm's {name} crops pictures in the mode {crop_mode!r}, which vimi does not support. Write a model card "
            f"that states its input, with crop_mode one of {', '.join(get_args(CropMode))}."
        )
    # Without a tag, timm's default weights are meant: name them, so that they can't change silently.
    tag = tag or config.tag or ""
    full = f"{architecture}.{tag}" if tag else architecture
    return ModelCard(
        name=full,
        title=full,
        timm=full,
        family=timm_family(architecture),
        weights=WeightsSpec(source="timm"),
        input=InputSpec(
            size=config.input_size[-1],
            crop_ratio=config.crop_pct or 0.875,  # timm's default
            crop_mode=cast(CropMode, crop_mode),
            interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
            mean=tuple(config.mean),
            std=tuple(config.std),
        ),
        training=training_from_tag(tag),
        licence=config.license or "unknown",
        source=config.origin_url or (f"timm {full}" if full else ""),
    )


HUB = re.compile(r"(hf[-_]hub|local[-_]dir):", re.IGNORECASE)
"""How timm begins names of models that lie elsewhere than in its own list."""


def _present_timm_name(name: str) -> str:
    """Return the name under which timm has a model today: of its hub address, or of an old name of it.

    Raises
    ------
    CardError
        If the name is the address of a model that timm does not know, or of one that it removed.
    """
    if HUB.match(name):
        owner, _, model = name.partition(":")[2].partition("/")
        if HUB.match(name).group(1).lower().startswith("hf") and owner == "timm" and model:  # type: ignore[union-attr]
            return _present_timm_name(model)
        raise CardError(
            f"{name} is an address of weights, but vimi loads timm models by timm's own names. Download the "
            "checkpoint, name its architecture (timm:ARCHITECTURE), and give the file as weights under [[models]] or "
            "as --weights."
        )
    if "/" in name or "\\" in name:
        raise CardError(
            f"timm has no model called {name!r}: timm's names contain no slash. Write timm:NAME, such as "
            f"timm:{name.replace(chr(92), '/').rpartition('/')[2] or 'resnet50'}; a hub address begins with hf-hub:."
        )
    from timm.models import _registry

    architecture, _, tag = name.partition(".")
    renamed: dict[str, str | None] = getattr(_registry, "_deprecated_models", {})
    if architecture not in renamed:
        return name
    current = renamed[architecture]
    if current is None:
        raise CardError(f"timm has removed the model {architecture!r} and names no replacement.")
    present = f"{current.partition('.')[0]}.{tag}" if tag else current
    warnings.warn(f"timm calls {name} {present} today; vimi uses that name.", stacklevel=2)
    return present


def training_from_tag(tag: str) -> TrainingSpec | None:
    """Read training data from the tag of timm's weights, or None where the tag does not say for certain."""
    found = [TRAINING_DATA[token] for token in tag.split("_") if token in TRAINING_DATA]
    other = [token for token in tag.split("_") if OTHER_DATA.fullmatch(token)]
    tuned = "ft" in tag.split("_") and len(found) < 2  # the tag does not say what was trained on before
    if not found or tuned or any(token not in TRAINING_DATA for token in other):
        return None
    return TrainingSpec(
        data=tuple(dict.fromkeys(data for data, _ in found)),
        images=max(images for _, images in found),
        note=f"read from the tag {tag!r}",
    )


def ask_for_training(card: ModelCard) -> CardError:
    """Return the error that asks for a model's training data, with the lines to write."""
    kind = card.weights.source.partition(":")[0]
    ways = {
        "python": f", or beside the function of {card.network}: FUNCTION.card = "
        '{"training": {"data": ["imagenet-1k"], "images": 1281167}}',
        "object": ', to offer_model: training={"data": ["imagenet-1k"], "images": 1281167}, or to add_model: '
        "facts={'training': …}",
    }
    return CardError(
        f"What {card.name} was trained on is not known, and a scaling analysis needs it. Which data sets, and how many "
        'pictures has the largest? Say it in the experiment, under its [[models]]: training_data = ["imagenet-1k"] and '
        "training_images = 1281167; to vimi leaderboard add: --training-data imagenet-1k --training-images 1281167"
        f"{ways.get(kind, '')}."
    )


def timm_family(architecture: str) -> str:
    """Return the family of an architecture: the module of timm that it is defined in."""
    from benchmark.timm_loading import timm

    entrypoint: Any = timm.model_entrypoint(architecture)
    return str(entrypoint.__module__).rpartition(".")[2]
