"""Where models come from: the card of a model, by whatever name it is asked for.

A source is a function that returns the card of a name, or None if the name does not belong to it. vimi asks the sources
in the order of their registration. To add one, write the function and register it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

from benchmark import own_models
from benchmark.data_sets import data_set_names
from benchmark.errors import CardError, NameNotFound, is_near
from benchmark.model_card import HUB, TWIN_SUFFIX, ModelCard, card_from_timm, card_names, read_card
from benchmark.registry import Registry

SOURCES: Registry[Callable[[str], ModelCard | None]] = Registry("source of models")
"""By name, the sources in the order in which they are asked."""


def load_card(name: str) -> ModelCard:
    """Return the card of a model.

    Parameters
    ----------
    name
        One of these, in this order: the name of a card that ships with vimi; the name of a network that was offered
        to this process (:func:`benchmark.own_models.offer_model`); a path to a card's TOML file; the name of an entry
        point in the group ``vimi.models``; ``timm:NAME``; an own function, ``MODULE:FUNCTION``; a timm model with its
        tag (``resnet50.a1_in1k``). ``-twin`` behind any of them gives the card of the random-weight twin.

    Raises
    ------
    NameNotFound
        If nothing of that name is known; the message suggests near names.
    CardError
        If an own function can't be used; the message names its line.
    """
    if name.endswith(TWIN_SUFFIX):
        return load_card(name.removesuffix(TWIN_SUFFIX)).as_twin()
    for source in SOURCES:
        card = SOURCES[source](name)
        if card is None:
            continue
        if card.training is None or data_set_names(card.training.data) == card.training.data:
            return card
        training = card.training.model_copy(update={"data": data_set_names(card.training.data)})
        return card.model_copy(update={"training": training})
    raise _unknown(name)


@SOURCES.register("shipped")
def shipped_card(name: str) -> ModelCard | None:
    """Return a card that ships with vimi."""
    return _shipped_card(name) if name in card_names() else None


@SOURCES.register("offered")
def offered_card(name: str) -> ModelCard | None:
    """Return the card of a network that was offered to this process."""
    offered = own_models.find_offered(name)
    return None if offered is None else offered.card


@SOURCES.register("file")
def card_of_file(name: str) -> ModelCard | None:
    """Return the card in a TOML file."""
    return read_card(Path(name)) if name.endswith(".toml") else None


@SOURCES.register("entry point")
def card_of_entry_point(name: str) -> ModelCard | None:
    """Return the card of a model that an installed package offers."""
    found = own_models.find_entry_points()
    return own_models.card_from_function(found[name], name) if name in found else None


@SOURCES.register("timm")
def card_of_timm(name: str) -> ModelCard | None:
    """Return the card of a timm model that is named as one: ``timm:NAME``, or an address of a hub."""
    if name.startswith("timm:"):
        return _from_timm(name.removeprefix("timm:"))
    return _from_timm(name) if HUB.match(name) else None


@SOURCES.register("function")
def card_of_function(name: str) -> ModelCard | None:
    """Return the card of a function that returns a network."""
    return own_models.card_from_function(name) if ":" in name else None


@SOURCES.register("timm, by its tag")
def card_of_tag(name: str) -> ModelCard | None:
    """Return the card of a timm model with its tag."""
    return _from_timm(name) if "." in name and not name.endswith(".py") else None


def _unknown(name: str) -> Exception:
    """Return the error for a name that no source knows."""
    if Path(name).with_suffix(".py").is_file():
        return CardError(
            f"{Path(name).with_suffix('.py')} is a file of Python: name the function in it that returns the network, "
            f"as {Path(name).stem}:FUNCTION."
        )
    from benchmark.timm_loading import timm

    if timm.is_model(name):
        hint = f"timm has a model of that name; write 'timm:{name}' to use it."
        return NameNotFound("model card", name, card_names(), hint)
    known = [
        *card_names(),
        *own_models.offered_names(),
        *own_models.find_entry_points(),
        *(f"timm:{m}" for m in timm.list_models()),
    ]
    # Who mistyped a name is told the near one; only a name near to nothing may be that of a notebook's network.
    hint = "" if is_near(name, known) else own_models.how_to_offer(name)
    return NameNotFound("model", name, known, hint)


@cache
def _shipped_card(name: str) -> ModelCard:
    """Read a card that ships with vimi; an entry point of the same name is not used, and that is said."""
    if name in own_models.find_entry_points():
        warnings.warn(
            f"An installed package also offers a model {name!r}. vimi uses its own card of that name; load the other "
            f"one as {own_models.find_entry_points()[name]!r}.",
            stacklevel=4,
        )
    with resources.as_file(resources.files("benchmark") / "cards" / f"{name}.toml") as path:
        return read_card(path)


@cache
def _from_timm(name: str) -> ModelCard:
    return card_from_timm(name)
