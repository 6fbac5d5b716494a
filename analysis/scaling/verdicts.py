"""What a slope allows to be said: one table from numbers to sentences.

====================================  ==============================================================================
verdict                               holds where
====================================  ==============================================================================
refused                               the data can't carry the slope; nothing is estimated
improves, declines                    the Holm-adjusted interval lies above, or below, 0
equivalent within m                   both one-sided tests within the declared m pass, after Holm over the family
does not improve by more than m       the upper one passes, after Holm over the family
undecided                             none of these
====================================  ==============================================================================

The first line that holds is the verdict. "Equivalent" and "does not improve" need m, the declared smallest effect of
interest; a p-value above .05 is never a reason for either. Other lines that hold as well are told in the because.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.multiple_tests import spell_p
from analysis.results import ShownAsText
from analysis.scaling.equivalence import ALPHA, NO_VERDICT, SlopeEquivalence
from analysis.scaling.families import FamilyPlace
from analysis.scaling.regression import Slope
from benchmark.estimate import Estimate

Kind = Literal["improves", "declines", "does not improve by more than m", "equivalent within m", "undecided", "refused"]
KINDS: tuple[Kind, ...] = (
    "refused", "improves", "declines", "equivalent within m", "does not improve by more than m", "undecided",
)  # fmt: skip
"""In the order in which they are tried."""


@dataclass(frozen=True)
class Verdict(ShownAsText):
    """What may be said.

    Attributes
    ----------
    kind
        Which line of the table.
    sentence
        The claim, with its number, interval and number of models.
    because
        Why this and nothing stronger.
    """

    kind: Kind
    sentence: str
    because: str

    def __str__(self) -> str:
        return f"{self.sentence} Because {self.because}"


@dataclass(frozen=True)
class MarginTests:
    """The tests against a declared margin, after Holm over the family.

    Attributes
    ----------
    tests
        The tests of this slope alone.
    p_equivalence, p_non_improvement
        Holm-adjusted p-values.
    size
        Over how many slopes of the family each was adjusted: those with a declared margin.
    """

    tests: SlopeEquivalence
    p_equivalence: float
    p_non_improvement: float
    size: int


def judge(condition: str, slope: Slope, place: FamilyPlace, margins: MarginTests | None) -> Verdict:
    """Return the verdict on a slope.

    Parameters
    ----------
    condition
        Condition of the means.
    slope
        The slope that the verdict rests on.
    place
        Its place in its family.
    margins
        Its tests against the declared margin; None if none was declared.
    """
    adjusted = place.interval(slope)
    kind: Kind
    if adjusted.low > 0:
        kind = "improves"
    elif adjusted.high < 0:
        kind = "declines"
    elif margins and margins.p_equivalence < ALPHA:
        kind = "equivalent within m"
    elif margins and margins.p_non_improvement < ALPHA:
        kind = "does not improve by more than m"
    else:
        kind = "undecided"
    return Verdict(kind, _sentence(kind, condition, slope, margins), _because(kind, slope, place, adjusted, margins))


def refuse(condition: str, predictor: str, reason: str) -> Verdict:
    """Return the verdict if the data support no slope; it contains no number of a slope."""
    return Verdict("refused", f"{condition}: no slope on {predictor} is given.", f"{reason}.")


def _sentence(kind: Kind, condition: str, slope: Slope, margins: MarginTests | None) -> str:
    margin = f"{margins.tests.margin:g}" if margins else ""
    claim = {
        "improves": f"interpretability improves with {slope.predictor}",
        "declines": f"interpretability declines with {slope.predictor}",
        "equivalent within m": f"the slope on {slope.predictor} is equivalent to 0 within {margin}",
        "does not improve by more than m": (
            f"interpretability does not improve by more than {margin} with {slope.predictor}"
        ),
        "undecided": f"whether interpretability changes with {slope.predictor} is undecided",
    }[kind]
    found = slope.estimate
    return f"{condition}: {claim}: {found} {found.unit} ({100 * found.level:g} % interval), over {found.n} models."


def _because(kind: Kind, slope: Slope, place: FamilyPlace, adjusted: Estimate, margins: MarginTests | None) -> str:
    side = {"improves": "lies above 0", "declines": "lies below 0"}.get(kind, "includes 0")
    family = f"{place.size} tests, {place.family}" if place.size > 1 else "1 test"
    parts = [
        f"the Holm-adjusted interval [{_number(adjusted.low)}, {_number(adjusted.high)}] {side} "
        f"(p {spell_p(place.p)}; {spell_p(place.adjusted)} after Holm over {family})"
    ]
    method, _, reference = slope.estimate.method.rpartition(", t(")
    rests = f"all tests use {method or slope.estimate.method}"
    if reference:
        rests += f", {slope.degrees_of_freedom:.3g} degrees of freedom"
    if margins is None:
        parts += [f"on equivalence and non-improvement: {NO_VERDICT}", rests]
        return "; ".join(parts) + "."
    tests = margins.tests
    inner = tests.margins.interval
    interval = f"90 % interval [{_number(inner.low)}, {_number(inner.high)}]"
    same = "is shown" if margins.p_equivalence < ALPHA else "is not shown"
    no_gain = "is shown" if margins.p_non_improvement < ALPHA else "is not shown"
    parts.append(
        f"equivalence within {tests.margin:g} {same} ({interval}; p {spell_p(tests.p)}; "
        f"{spell_p(margins.p_equivalence)} after Holm over {_slopes(margins.size)})"
    )
    parts.append(
        f"improvement of no more than {tests.margin:g} {no_gain} (p {spell_p(tests.p_non_improvement)}; "
        f"{spell_p(margins.p_non_improvement)} after Holm over {_slopes(margins.size)})"
    )
    parts.append(
        f"the smallest margins that would pass, tested alone, are {_number(tests.margins.equivalence)} for equivalence "
        f"and {_number(tests.margins.non_improvement)} for non-improvement"
    )
    parts.append(rests)
    return "; ".join(parts) + "."


def _number(value: float) -> str:
    """Write a number with three decimals, or as many more as keep it off zero: its sign is what verdicts rest on."""
    decimals = 3
    while abs(value) > 1e-9 and float(f"{value:.{decimals}f}") == 0:
        decimals += 1
    text = f"{value:.{decimals}f}".replace("-0.000", "0.000") if abs(value) <= 1e-9 else f"{value:.{decimals}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _slopes(size: int) -> str:
    return "the one slope with a margin" if size == 1 else f"the {size} slopes with a margin"
