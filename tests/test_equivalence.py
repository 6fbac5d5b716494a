"""Equivalence and non-improvement of slopes: the published ones, the definitions, and no verdict without a margin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from analysis.published import published_means, published_models
from analysis.scaling import ScalingResult, Slope, assess_equivalence, fit_scaling, make_slope, passing_margins
from benchmark.errors import AnalysisError


def slope_of(value: float, error: float, freedom: float = 7) -> Slope:
    return make_slope(
        "parameters", value, error, freedom, n=9, unit="proportion correct per decade of parameters",
        method="least squares", estimand="new models",
    )  # fmt: skip


def published_slope(predictor: str) -> Slope:
    study = fit_scaling(published_means(), published_models(), rung="least squares")
    result = study.result("natural", predictor)
    assert isinstance(result, ScalingResult)
    return result.slope


def test_published_slopes() -> None:
    size = published_slope("parameters")
    assert assess_equivalence(size, 0.01).p_non_improvement == pytest.approx(0.006, abs=5e-4)
    assert assess_equivalence(size, 0.05).p_lower == pytest.approx(0.80, abs=0.01)
    assert not assess_equivalence(size, 0.05).equivalent
    data = published_slope("training images")
    at_margin = assess_equivalence(data, 0.025)
    assert at_margin.equivalent
    assert (at_margin.margins.interval.low, at_margin.margins.interval.high) == pytest.approx((-0.022, 0.020), abs=6e-4)
    assert at_margin.margins.interval.level == pytest.approx(0.90)


def test_there_is_no_default_margin() -> None:
    with pytest.raises(AnalysisError, match="no smallest effect was declared"):
        assess_equivalence(slope_of(0.0, 0.01), None)
    for wrong in (0.0, -0.03, float("nan"), float("inf")):
        with pytest.raises(AnalysisError, match="positive number"):
            assess_equivalence(slope_of(0.0, 0.01), wrong)


def test_a_slope_without_error_or_freedom_is_none() -> None:
    for error, freedom in ((0.0, 7), (float("nan"), 7), (0.01, 0)):
        with pytest.raises(AnalysisError, match="can't be tested"):
            slope_of(0.01, error, freedom)


@given(st.floats(-0.3, 0.3), st.floats(1e-3, 0.2), st.integers(1, 40), st.floats(1e-3, 0.5))
@settings(max_examples=80, deadline=None)
def test_tests_intervals_and_margins_say_the_same(value: float, error: float, freedom: int, margin: float) -> None:
    slope = slope_of(value, error, freedom)
    found = assess_equivalence(slope, margin)
    assert found.p_lower == pytest.approx(t.sf((value + margin) / error, freedom))
    assert found.p_upper == pytest.approx(t.cdf((value - margin) / error, freedom))
    low, high = found.margins.interval.low, found.margins.interval.high
    if min(abs(margin - high), abs(margin + low)) > 1e-9:
        assert found.equivalent == (-margin < low and high < margin)
        assert found.non_improving == (high < margin)
        assert found.equivalent == (margin > found.margins.equivalence)
        assert found.non_improving == (margin > found.margins.non_improvement)
    assert not found.equivalent or found.non_improving
    assert passing_margins(slope) == found.margins


def test_at_the_smallest_margin_the_p_value_is_five_per_cent() -> None:
    slope = slope_of(-0.02, 0.015)
    margins = passing_margins(slope)
    assert assess_equivalence(slope, margins.equivalence).p == pytest.approx(0.05)
    better = slope_of(0.02, 0.015)
    assert assess_equivalence(better, passing_margins(better).non_improvement).p_non_improvement == pytest.approx(0.05)


def test_size_of_equivalence_at_the_margin() -> None:
    """With the true slope at the margin, equivalence is claimed in at most 5 % of experiments, and about that often."""
    rng = np.random.default_rng(0)
    x = np.linspace(6.8, 8, 9)
    centred = x - x.mean()
    claims = 0
    for _ in range(2000):
        y = 0.8 + 0.1 * centred + rng.normal(0, 0.01, 9)
        value = float(centred @ y / (centred @ centred))
        residual = y - y.mean() - value * centred
        claims += assess_equivalence(
            slope_of(value, float(np.sqrt(residual @ residual / 7 / (centred @ centred)))), 0.1
        ).equivalent
    assert 0.035 < claims / 2000 < 0.065
