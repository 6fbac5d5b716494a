"""A number with its uncertainty: what every result of vimi is made of."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

LEVEL = 0.95
"""Coverage of intervals, unless another is asked for."""


@dataclass(frozen=True)
class Estimate:
    """A value and its interval.

    Attributes
    ----------
    value
        The estimate itself.
    low, high
        Ends of the interval, in the same unit of measurement.
    method
        How the interval was made, in words that a paper could print.
    n
        How many independent things it rests on (units, for a proportion averaged over units).
    unit
        Unit of measurement: ``"proportion correct"``.
    estimand
        What the value is an estimate of: which models, units and people it speaks for.
    level
        Coverage that the interval aims at.
    """

    value: float
    low: float
    high: float
    method: str
    n: int
    unit: str
    estimand: str = ""
    level: float = LEVEL

    def __post_init__(self) -> None:
        if not (math.isnan(self.value) or self.low <= self.value <= self.high):
            raise ValueError(f"The value {self.value} lies outside its interval [{self.low}, {self.high}].")

    def __str__(self) -> str:
        spell = {RANK: _whole, DISATTENUATED: _within_one}.get(self.unit, spell_value)
        return f"{spell(self.value)} [{spell(self.low)}, {spell(self.high)}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def as_dict(self) -> dict[str, float | int | str]:
        """Return the fields, for JSON."""
        return asdict(self)


RANK = "rank"
"""Unit of ranks: they are whole numbers."""
DISATTENUATED = "disattenuated correlation"
"""Unit of correlations over their ceiling, whose estimates may lie beyond 1, where no correlation does."""


def _whole(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else spell_value(value)


def _within_one(value: float) -> str:
    """Write a disattenuated correlation; values above 1 are written in words."""
    if abs(value) > 1:
        return "above 1" if value > 0 else "below -1"
    return spell_value(value)


def spell_value(value: float) -> str:
    """Write a number as papers do: three decimals, no zero before the point; one from 10 on, whole from 100 on."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
