"""Texts in figures: names that fit and can be printed, and numbers as papers write them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

LONGEST_NAME = 28
"""Letters of a name; longer ones lose their middle."""


@functools.lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())


def printable(text: object) -> str:
    """Return text that the figures' font can write: a missing character becomes a box, a dollar sign is kept."""
    known = _characters()
    return "".join(c if ord(c) in known or c == "\n" else "\N{WHITE SQUARE}" for c in str(text)).replace("$", r"\$")


def display_names(names: Iterable[object], longest: int = LONGEST_NAME) -> dict[str, str]:
    """Return names as they are written in figures: long ones lose their middle, but all stay distinct."""
    distinct = sorted({str(name) for name in names})
    while True:
        short = {name: shorten(name, longest) for name in distinct}
        if len(set(short.values())) == len(distinct) or longest >= max(map(len, distinct)):
            return {name: printable(text) for name, text in short.items()}
        longest += 4


def shorten(name: str, longest: int) -> str:
    """Take out the middle of a name that is too long."""
    if len(name) <= longest:
        return name
    tail = longest * 2 // 5
    return f"{name[: longest - tail - 1]}…{name[len(name) - tail :]}"


def number(value: float, decimals: int = 3) -> str:
    """Write a number as papers do: no zero before the point, and a true minus."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{abs(value):.{decimals}f}"
    text = text.removeprefix("0") if abs(value) < 1 and decimals else text
    return f"−{text}" if value < 0 and float(f"{value:.{decimals}f}") else text


def with_interval(value: float, low: float, high: float, decimals: int = 3) -> str:
    """Write a value with its interval."""
    return f"{number(value, decimals)} [{number(low, decimals)}, {number(high, decimals)}]"


SINGULARS = {"people": "person", "units": "unit", "models": "model"}
"""Nouns that tables name in the plural."""


def counted(n: int, noun: str) -> str:
    """Write how many: 1 model, 9 models, 2 people. The noun may be given in the singular or in the plural."""
    one = SINGULARS.get(noun, noun)
    return f"{n:,} {one}" if n == 1 else f"{n:,} {'people' if one == 'person' else one + 's'}"


def quantity(value: float) -> str:
    """Write a large number shortly: 25 M, 1.3 M, 2 bn."""
    for size, letter in ((1e12, "tn"), (1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9999:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"
