"""Confidence sequences: they cover the truth at all times at once, and come to a point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from analysis.confidence_sequences import estimate_at_any_time, follow_mean

REPETITIONS = 400
LENGTH = 250


def ever_missed(truth: float, draw: object) -> float:
    """Return the share of sequences that leave out the truth at any time."""
    missed = 0
    for _ in range(REPETITIONS):
        ends = follow_mean(draw())  # type: ignore[operator]
        missed += bool(np.any((ends[:, 0] > truth) | (ends[:, 1] < truth)))
    return missed / REPETITIONS


@pytest.mark.parametrize("truth", [0.5, 0.83, 0.97])
def test_answers_are_covered_at_all_times(truth: float) -> None:
    generator = np.random.default_rng(3)
    assert ever_missed(truth, lambda: (generator.random(LENGTH) < truth).astype(float)) <= 0.05


def test_sessions_of_people_who_differ_are_covered_at_all_times() -> None:
    generator = np.random.default_rng(4)

    def draw() -> np.ndarray:
        ability = beta.rvs(8, 2, size=LENGTH, random_state=generator)
        trials = generator.integers(1, 6, size=LENGTH)
        return generator.binomial(trials, ability) / trials

    assert ever_missed(0.8, draw) <= 0.05


def test_sessions_laid_out_as_passes_over_units_are_covered_at_all_times() -> None:
    # In passes, what was shown already says a little about what comes: not quite the one mean that is assumed.
    generator = np.random.default_rng(5)
    units, length = 84, 6

    def draw() -> np.ndarray:
        legibility = generator.beta(6, 2, size=units)
        legibility += 0.75 - legibility.mean()
        turns = np.concatenate([generator.permutation(units) for _ in range(LENGTH * length // units + 1)])
        right = generator.random(len(turns)) < np.clip(legibility, 0, 1)[turns]
        return right[: LENGTH * length].reshape(LENGTH, length).mean(axis=1)

    assert ever_missed(0.75, draw) <= 0.06  # clipping moves the truth by a little


def test_an_interval_that_is_looked_at_often_would_not_have_covered() -> None:
    generator = np.random.default_rng(6)
    missed = 0
    for _ in range(REPETITIONS):
        data = (generator.random(LENGTH) < 0.5).astype(float)
        times = np.arange(10, LENGTH + 1)
        means = np.cumsum(data)[9:] / times
        missed += bool(np.any(np.abs(means - 0.5) > 1.96 * np.sqrt(0.25 / times)))
    assert missed / REPETITIONS > 0.2  # the trap that this module is there for


def test_the_sequence_narrows_and_nearly_keeps_up_with_an_ordinary_interval() -> None:
    generator = np.random.default_rng(7)
    ends = follow_mean(generator.beta(8, 2, size=2000))
    widths = ends[:, 1] - ends[:, 0]
    assert np.all(np.diff(widths) <= 1e-12)
    ordinary = 2 * 1.96 * np.sqrt(0.8 * 0.2 / 11 / 2000)
    assert widths[-1] < 3 * ordinary + 2 / 500


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_bounded_data_give_an_interval(values: list[float]) -> None:
    ends = follow_mean(values)
    assert np.all((ends[:, 0] >= 0) & (ends[:, 0] <= ends[:, 1]) & (ends[:, 1] <= 1))
    estimate = estimate_at_any_time(values, unit="proportion correct", estimand="people")
    assert estimate.low <= estimate.value <= estimate.high and estimate.n == len(values)


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_data_at_a_bound_keep_the_bound(answer: float) -> None:
    low, high = follow_mean(np.full(600, answer))[-1]
    assert low <= answer <= high and high - low < 0.05


def test_mirrored_data_give_the_mirrored_sequence() -> None:
    data = np.random.default_rng(8).random(400)
    ends, mirrored = follow_mean(data), follow_mean(1 - data)
    assert np.allclose(ends, 1 - mirrored[:, ::-1], atol=1 / 500 + 1e-9)


@pytest.mark.parametrize("values", [[1.2], [-0.1], [np.nan], [[0.5]]])
def test_data_outside_the_bounds_are_refused(values: object) -> None:
    with pytest.raises(ValueError, match="numbers in"):
        follow_mean(values)  # type: ignore[arg-type]


def test_levels_and_emptiness() -> None:
    with pytest.raises(ValueError, match="level"):
        follow_mean([0.5], level=1.0)
    with pytest.raises(ValueError, match="no values to estimate"):
        estimate_at_any_time([], unit="proportion correct", estimand="people")
    assert follow_mean([]).shape == (0, 2)
