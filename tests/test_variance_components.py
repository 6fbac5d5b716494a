"""Variance components: recovered where the truth is known, and honest about what more sessions can't do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.power.forecast import component_ends
from analysis.variance_components import Components, split_variance

Table = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulate(
    seed: int, *, units: int = 84, people: int = 500, each: int = 5, unit_sd: float = 0.1, person_sd: float = 0.05
) -> Table:
    """Return unit, person and answer of every trial of a crossed study with a mean of .75."""
    generator = np.random.default_rng(seed)
    legibility = generator.normal(0, unit_sd, units)
    ability = generator.normal(0, person_sd, people)
    turns = np.concatenate([generator.permutation(units) for _ in range(people * each // units + 1)])[: people * each]
    who = np.repeat(np.arange(people), each)
    chance = np.clip(0.75 + legibility[turns] + ability[who], 0, 1)
    return turns, who, (generator.random(len(turns)) < chance).astype(float)


def count(table: Table) -> Components:
    unit, person, right = table
    found = split_variance(np.bincount(unit), np.bincount(unit, right), np.bincount(person), np.bincount(person, right))
    assert found is not None
    return found


def test_components_are_recovered() -> None:
    found = [count(simulate(seed)) for seed in range(60)]
    assert np.mean([c.unit for c in found]) == pytest.approx(0.1**2, rel=0.1)
    assert np.mean([c.person for c in found]) == pytest.approx(0.05**2, rel=0.25)
    assert np.mean([c.answer for c in found]) == pytest.approx(0.75 * 0.25 - 0.1**2 - 0.05**2, rel=0.03)


def test_the_interval_covers_the_mean_of_new_units_and_people() -> None:
    covered = 0
    for seed in range(300):
        found = count(simulate(1000 + seed, units=40, people=120))
        covered += abs(found.mean - 0.75) <= found.half_width
    assert 0.91 <= covered / 300 <= 0.99


def test_the_promised_number_of_sessions_gives_the_width() -> None:
    early = count(simulate(1, people=120))
    target = 0.062
    sessions = early.sessions_for(target, 84)
    assert 120 < sessions < math.inf
    assert early.width_after(sessions, 84) <= target < early.width_after(sessions - 2, 84)
    reached = [2 * count(simulate(seed, people=int(sessions))).half_width for seed in range(2, 12)]
    assert np.mean(reached) == pytest.approx(target, rel=0.15)


def test_no_number_of_sessions_helps_where_units_are_too_few() -> None:
    found = count(simulate(1, units=12, people=300))
    narrowest = found.width_after(math.inf, 12)
    assert found.sessions_for(0.9 * narrowest, 12) == math.inf
    assert found.sessions_for(1.5 * narrowest, 12) < math.inf
    needed = found.units_for(0.9 * narrowest)
    assert needed > 12 and found.width_after(math.inf, needed) <= 0.9 * narrowest


def test_the_ends_of_the_variance_between_units_surround_it() -> None:
    covered = 0
    for seed in range(200):
        low, high = component_ends(count(simulate(3000 + seed)))
        covered += low.unit <= 0.1**2 <= high.unit
    assert covered / 200 >= 0.9


def test_every_component_has_an_interval() -> None:
    truth = {"unit": 0.1**2, "person": 0.05**2, "answer": 0.75 * 0.25 - 0.1**2 - 0.05**2}
    held = dict.fromkeys(truth, 0)
    for seed in range(60):
        for name, found in count(simulate(5000 + seed, people=200, each=20)).estimates().items():
            assert found.low <= found.value <= found.high
            held[name] += found.low <= truth[name] <= found.high
    assert all(share >= 53 for share in held.values()), held


def test_what_counts_do_not_say() -> None:
    assert split_variance([4], [2], [2, 2], [1, 1]) is None  # one unit
    assert split_variance([1, 1], [1, 0], [1, 1], [1, 0]) is None  # nobody twice
    agreeing = split_variance([3, 3], [3, 3], [2, 2, 2], [2, 2, 2])
    assert agreeing is not None and not agreeing.spreads
    with pytest.raises(ValueError, match="not the same answers"):
        split_variance([2, 2], [1, 1], [3, 2], [1, 1])
