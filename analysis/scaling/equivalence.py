"""Is a slope as good as zero, or at least no improvement? Two one-sided tests, with a declared smallest effect.

That a slope is not significant says nothing of its size. Equivalence is shown where both one-sided hypotheses, "the
slope is at most -m" and "the slope is at least m", are rejected; non-improvement where the second one is. Both need
m, the smallest effect of interest, declared before the answers are seen: there is no default.

References: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15; Lakens (2017), Equivalence tests, Soc. Psychol.
Personal. Sci. 8; Campbell (2020), Equivalence testing for linear regression, arXiv 2004.01757.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.results import Record
from analysis.scaling.regression import Slope
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

ALPHA = 0.05
NO_VERDICT = "no verdict: no smallest effect was declared"


@dataclass(frozen=True)
class PassingMargins(Record):
    """The smallest margins that would pass, for planning: a margin chosen after the fact shows nothing.

    Attributes
    ----------
    interval
        The 90 % interval of the slope; it lies within (-m, m) exactly where equivalence within m is shown at 5 %.
    equivalence
        Equivalence is shown for every margin above this one.
    non_improvement
        Non-improvement is shown for every margin above this one; below 0, the slope is significantly negative.
    """

    interval: Estimate
    equivalence: float
    non_improvement: float


@dataclass(frozen=True)
class SlopeEquivalence(Record):
    """Equivalence and non-improvement of a slope within a declared margin.

    Attributes
    ----------
    margin
        The declared smallest effect of interest, in the unit of the slope.
    p_lower, p_upper
        One-sided p-values of "the slope is at most -margin" and of "the slope is at least margin".
    margins
        What would pass.
    """

    margin: float
    p_lower: float
    p_upper: float
    margins: PassingMargins

    @property
    def p(self) -> float:
        """The p-value of the two one-sided tests: the larger of the two."""
        return max(self.p_lower, self.p_upper)

    @property
    def p_non_improvement(self) -> float:
        """The p-value of the one-sided test of non-improvement."""
        return self.p_upper

    @property
    def equivalent(self) -> bool:
        """Whether this slope, tested alone, is equivalent to 0 within the margin."""
        return self.p < ALPHA

    @property
    def non_improving(self) -> bool:
        """Whether this slope, tested alone, does not improve by more than the margin."""
        return self.p_upper < ALPHA


def passing_margins(slope: Slope) -> PassingMargins:
    """Return the smallest margins that would pass at 5 %, and the interval that they come from."""
    low, high = slope.interval(1 - 2 * ALPHA)
    interval = replace(slope.estimate, low=low, high=high, level=1 - 2 * ALPHA)
    return PassingMargins(interval, max(abs(low), abs(high)), high)


def assess_equivalence(slope: Slope, smallest_effect: float | None) -> SlopeEquivalence:
    """Test a slope for equivalence to 0 and for non-improvement.

    Parameters
    ----------
    slope
        The slope, of whichever rung.
    smallest_effect
        The smallest effect of interest, in the unit of the slope; declared beforehand.

    Raises
    ------
    AnalysisError
        If it was not declared, or is not positive.
    """
    if smallest_effect is None:
        raise AnalysisError(
            f"{NO_VERDICT[0].upper()}{NO_VERDICT[1:]} for {slope.predictor}. Declare one, in {slope.estimate.unit}, in "
            "the plan that is frozen before answers come in."
        )
    if not (np.isfinite(smallest_effect) and smallest_effect > 0):
        raise AnalysisError(
            f"The smallest effect for {slope.predictor} is {smallest_effect}; it must be a positive number, in "
            f"{slope.estimate.unit}."
        )
    return SlopeEquivalence(
        smallest_effect, slope.p_above(-smallest_effect), slope.p_below(smallest_effect), passing_margins(slope)
    )
