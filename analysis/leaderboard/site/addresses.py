"""Addresses of the site: made of names alone, so that they never change, and safe wherever a name comes from.

A name becomes part of a path by keeping small and capital letters, digits and ``.``, ``_``, ``-``, ``+``, ``=``; every
other byte is written ``~2F``. So no name leaves its folder, hides itself, or means something to a browser, a server or
a file system; ``~`` needs no escaping in an address. Names that only differ in capital letters, which some file
systems take for one, get the beginning of a hash, as names do that are too long for a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmark.hashing import hash_settings
from benchmark.layers import NEURON
from benchmark.units import Unit

LONGEST = 100
"""Characters of a part of a path, before a hash is put in place of the rest."""

_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+=")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|\Z)", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever their ending."""


def safe_part(name: str, also: str = "") -> str:
    """Return a name as one part of a path.

    Parameters
    ----------
    name
        Any text. Different names become different parts, also where a file system knows no capital letters.
    also
        Further ASCII characters that may stay as they are.
    """
    keep = _SAFE | frozenset(also.encode("ascii"))
    data = name.encode("utf-8", "surrogatepass")
    text = "".join(chr(byte) if byte in keep else f"~{byte:02X}" for byte in data)
    if text[:1] == "." or _RESERVED.match(text):
        text = f"~{ord(text[0]):02X}{text[1:]}"
    if text[-1:] == ".":
        text = f"{text[:-1]}~2E"
    if len(text) > LONGEST:
        return f"{text[:LONGEST]}~~{hash_settings(name)[:16]}"
    if name != name.lower():
        return f"{text}~~{hash_settings(name)[:8]}"
    return text or "~"


def model_address(name: str) -> str:
    """Return the address of a model's page below the site: ``models/resnet50.html``."""
    return f"models/{safe_part(name, '@')}.html"


def unit_address(unit: Unit) -> str:
    """Return the address of a unit's page below the site.

    ``units/resnet50/layer3.2.conv1/17.html``; a basis other than the neurons' stands behind the layer
    (``layer3.2.conv1@topk-4096``), an aggregator other than the mean behind the index (``17-cls.html``).
    """
    basis = "" if unit.basis == NEURON else f"@{safe_part(unit.basis)}"
    aggregator = "" if unit.aggregator == "mean" else f"-{safe_part(unit.aggregator)}"
    return f"units/{safe_part(unit.model, '@')}/{safe_part(unit.layer)}{basis}/{unit.index}{aggregator}.html"


def anchor(*names: str, of: Sequence[str] = ()) -> str:
    """Return a name for a place on a page: small letters, digits and hyphens, and a hash of the names in full.

    Parameters
    ----------
    names
        What can be read in it.
    of
        What else tells it from other places.
    """
    words = "-".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] for name in names)))
    return f"{words[:LONGEST].strip('-') or 'place'}-{hash_settings([*names, *of])[:8]}"
