"""Families of tests: Holm's correction, and the intervals that agree with it.

Reference: Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from analysis.multiple_tests import adjust_holm
from analysis.results import Record
from analysis.scaling.regression import Slope
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate

Test = tuple[str, str]
"""Condition and predictor."""


@dataclass(frozen=True)
class FamilyPlace(Record):
    """A test's place in its family.

    Attributes
    ----------
    family, size
        Name of the family, and how many tests were declared for it.
    p, adjusted
        The p-value by itself, and after Holm.
    level
        Level of the interval that agrees with Holm: it is off zero exactly where the adjusted p is below 5 %.
    """

    family: str
    size: int
    p: float
    adjusted: float
    level: float

    def interval(self, slope: Slope) -> Estimate:
        """Return a slope with its Holm-adjusted interval."""
        low, high = slope.interval(self.level)
        method = (
            f"{slope.estimate.method}; interval at {100 * self.level:.2f} %, the level of its step in Holm's procedure "
            f"over {self.size} tests ({self.family}): off zero exactly where the adjusted p is below .05"
        )
        return replace(slope.estimate, low=low, high=high, method=method, level=self.level)

    def simultaneous_interval(self, slope: Slope) -> Estimate:
        """Return a slope with Bonferroni's interval: all of a family's intervals cover jointly with 95 %."""
        level = 1 - (1 - LEVEL) / self.size
        low, high = slope.interval(level)
        method = f"{slope.estimate.method}; Bonferroni over {self.size} tests ({self.family})"
        return replace(slope.estimate, low=low, high=high, method=method, level=level)


def declare_families(
    conditions: Sequence[str], predictors: Sequence[str], families: Mapping[str, Sequence[Test]] | None
) -> dict[str, tuple[Test, ...]]:
    """Return the families of tests: those declared, or one of all slopes.

    Raises
    ------
    AnalysisError
        If a test is in no family, in two, or is not made.
    """
    made = list(product(conditions, predictors))
    if families is None:
        return {"all slopes": tuple(made)}
    declared: list[Test] = [(str(c), str(p)) for tests in families.values() for c, p in tests]
    for test in made:
        if declared.count(test) != 1:
            where = "no declared family" if test not in declared else "more than one family"
            raise AnalysisError(
                f"The slope on {test[1]} in the condition {test[0]} is in {where}: put it into exactly one."
            )
    for test in declared:
        if test not in made:
            raise AnalysisError(
                f"A family contains the slope on {test[1]} in the condition {test[0]}, which is not analysed. "
                f"Conditions: {', '.join(conditions)}; predictors: {', '.join(predictors)}."
            )
    return {name: tuple((str(test[0]), str(test[1])) for test in tests) for name, tests in families.items() if tests}


def take_places(family: str, p_values: Sequence[float]) -> list[FamilyPlace]:
    """Return the places of a family's tests.

    Holm compares the j-th smallest p with alpha / (m - j + 1), and stops at the first that is larger; a test that it
    rejects has an interval of that level, and those behind it have the level at which it stopped.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = adjust_holm(p)
    size, alpha = len(p), 1 - LEVEL
    order = np.argsort(p, kind="stable")
    stopped = next((step for step, test in enumerate(order) if p[test] >= alpha / (size - step)), size - 1)
    steps = np.empty(size, dtype=int)
    steps[order] = np.minimum(np.arange(size), stopped)
    return [
        FamilyPlace(family, size, float(p[n]), float(adjusted[n]), 1 - alpha / (size - int(steps[n])))
        for n in range(size)
    ]
