"""The order of units and people by their answers, and what is drawn after it: names decide nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.answer_order import order_by_answers
from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.psychophysics import measure_confidence, reaction_times
from analysis.reliability import estimate_reliability


def asked(seed: int = 1) -> pd.DataFrame:
    table = simulate_judgements(Layout(models=2, units=8, tasks=2, sessions=9, trials=8), Population(), seed=seed)
    rng = np.random.default_rng(seed)
    sure = rng.integers(1, 4, len(table)).astype(float)
    return table.assign(confidence=sure, rt_ms=rng.lognormal(8, 0.5, len(table)))


def renamed(table: pd.DataFrame, seed: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    made = table.copy()
    for column in ("participant", "unit"):
        names = sorted(table[column].astype(str).unique())
        new = {name: f"{column}{place:03d}" for name, place in zip(names, rng.permutation(len(names)))}
        made[column] = table[column].astype(str).map(new).astype("category")
    return made.sample(frac=1, random_state=seed).reset_index(drop=True)


def test_order_is_that_of_the_answers():
    rng = np.random.default_rng(0)
    unit, person, mark = rng.integers(0, 12, 400), rng.integers(0, 9, 400), rng.integers(0, 6, 400)
    of_units, of_people = rng.permutation(12), rng.permutation(9)
    first = order_by_answers(unit, person, mark)
    second = order_by_answers(of_units[unit], of_people[person], mark)
    assert sorted(set(first[0])) == list(range(12))
    assert sorted(set(first[1])) == list(range(9))
    assert np.array_equal(first, second)


def test_numbers_belong_to_units_and_people():
    unit, person, mark = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 2]), np.array([1, 0, 1, 1, 1])
    for old, new in zip((unit, person), order_by_answers(unit, person, mark)):
        assert len(set(zip(old, new))) == len(set(old)) == len(set(new))


@pytest.mark.parametrize(
    "analyse",
    [
        lambda table: estimate_reliability(table, splits=40, resamples=100).frame(),
        lambda table: measure_confidence(table, resamples=50).frame(),
        lambda table: measure_confidence(table, resample="units and participants", resamples=50).frame(),
        lambda table: pd.DataFrame([vars(own.ratio) for own in reaction_times(table)]),
    ],
    ids=["reliability", "confidence", "confidence of new units", "reaction times"],
)
def test_names_and_the_order_of_rows_decide_nothing(analyse):
    first, second = (analyse(table).select_dtypes("number") for table in (asked(), renamed(asked())))
    pd.testing.assert_frame_equal(first, second, rtol=1e-8, atol=1e-10)
