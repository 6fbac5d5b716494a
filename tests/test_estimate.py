from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.estimate import Estimate


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, "by hand", 84, "proportion correct", "these units")


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.75, 0.7, 0.8), ".750 [.700, .800]"),
        ((1.0, 0.957, 1.0), "1.000 [.957, 1.000]"),
        ((-0.05, -0.1, 0.02), "-.050 [-.100, .020]"),
        ((0.0, 0.0, 0.0), ".000 [.000, .000]"),
        ((-1.0, -1.25, 10.05), "-1.000 [-1.250, 10.1]"),
        ((0.99951, 0.5, 0.99999), "1.000 [.500, 1.000]"),
    ],
)
def test_an_estimate_is_written_as_papers_write_proportions(numbers: tuple[float, float, float], text: str) -> None:
    assert str(estimate(*numbers)) == text


def test_an_estimate_that_is_unknown_is_written_as_a_dash() -> None:
    assert str(estimate(math.nan, math.nan, math.nan)) == "– [–, –]"


@pytest.mark.parametrize("numbers", [(0.5, 0.6, 0.7), (0.8, 0.6, 0.7), (0.5, math.nan, 0.7), (0.5, 0.7, 0.3)])
def test_a_value_outside_its_interval_is_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="outside its interval"):
        estimate(*numbers)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3).map(sorted))
def test_an_interval_excludes_zero_if_zero_is_not_between_its_ends(ends: list[float]) -> None:
    low, value, high = ends
    assert estimate(value, low, high).excludes_zero == (not low <= 0 <= high)


@pytest.mark.parametrize("ends", [(0.0, 0.2), (-0.2, 0.0), (-0.1, 0.1)])
def test_an_interval_that_touches_zero_includes_it(ends: tuple[float, float]) -> None:
    assert not estimate(sum(ends) / 2, *ends).excludes_zero


def test_an_estimate_survives_json() -> None:
    original = estimate(0.75, 0.7, 0.8)
    assert Estimate(**json.loads(json.dumps(original.as_dict()))) == original
    assert original.level == 0.95


def test_an_estimate_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate(0.75, 0.7, 0.8).value = 0.9  # type: ignore[misc]
