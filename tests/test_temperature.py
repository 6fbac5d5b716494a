"""Temperatures: against a logistic regression, against known truth, and on the boundaries of the likelihood."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize
from scipy.special import expit, logit

from analysis.agreement import change_temperature, fit_temperature
from benchmark.errors import AnalysisError

USED = 0.16


def study(
    seed: int, temperature: float, lapse: float = 0.0, *, units: int = 40, tasks: int = 4, answers: int = 3
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return people who follow a machine's evidence with a temperature and lapses, and the machine."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), tasks)
    evidence = rng.normal(0.15, 0.2, units * tasks)
    machine = pd.DataFrame(
        {
            "unit": [f"unit-{number}" for number in unit],
            "task": [f"unit-{number}#{place % tasks}" for place, number in enumerate(unit)],
            "probability": expit(evidence / USED),
            "correct": (evidence > 0).astype(float),
        }
    ).assign(observer="features:x", model="model", condition="natural", difficulty="easy", references="both", layer="l")
    chance = lapse / 2 + (1 - lapse) * expit(evidence / temperature)
    people = machine.loc[machine.index.repeat(answers)].reset_index(drop=True)
    people["correct"] = (rng.random(len(people)) < np.repeat(chance, answers)).astype(float)
    people["participant"] = [f"person-{number}" for number in rng.permutation(len(people)) // 20]
    return people.drop(columns=["probability", "observer"]), machine


def test_the_temperature_is_that_of_a_logistic_regression_through_the_origin() -> None:
    people, machine = study(1, 0.3)
    found = fit_temperature(people, machine, resamples=50)[0]
    joined = people.merge(machine[["task", "probability"]], on="task")
    fit = sm.Logit(joined["correct"], USED * logit(joined["probability"])).fit(disp=0)
    assert found.temperature.value == pytest.approx(1 / fit.params.iloc[0], rel=1e-6)
    assert found.trials == len(people)
    assert found.lapse is None
    loss = -np.log(np.where(joined["correct"] > 0, joined["probability"], 1 - joined["probability"]))
    assert found.before.value == pytest.approx(loss.mean())


def test_the_truth_is_recovered_and_covered() -> None:
    found = [fit_temperature(*study(seed, 0.3), resamples=200)[0].temperature for seed in range(40)]
    assert np.median([one.value for one in found]) == pytest.approx(0.3, rel=0.06)
    assert np.mean([one.low <= 0.3 <= one.high for one in found]) >= 0.86


def test_lapses_are_told_from_temperature() -> None:
    found = [
        fit_temperature(*study(seed, 0.08, 0.2, units=80), lapse=True, folds=2, resamples=4)[0] for seed in range(15)
    ]
    assert np.median([one.temperature.value for one in found]) == pytest.approx(0.08, rel=0.15)
    assert np.median([one.lapse.value for one in found if one.lapse is not None]) == pytest.approx(0.2, abs=0.05)
    # Without a lapse rate, the temperature has to make up for it.
    plain = [fit_temperature(*study(seed, 0.08, 0.2, units=80), folds=2, resamples=4)[0] for seed in range(15)]
    assert all(one.temperature.value > other.temperature.value for one, other in zip(plain, found))


def test_the_fit_with_lapses_has_the_highest_likelihood() -> None:
    people, machine = study(2, 0.1, 0.15, units=80)
    found = fit_temperature(people, machine, lapse=True, folds=2, resamples=20)[0]
    assert found.lapse is not None
    assert found.temperature.low <= found.temperature.value <= found.temperature.high
    joined = people.merge(machine[["task", "probability"]], on="task")
    evidence, right = USED * logit(joined["probability"].to_numpy()), joined["correct"].to_numpy()

    def loss(parameters: np.ndarray) -> float:
        p = parameters[1] / 2 + (1 - parameters[1]) * expit(evidence / parameters[0])
        return -float(np.log(np.where(right > 0, p, 1 - p)).sum())

    best = minimize(loss, [0.1, 0.1], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x
    assert [found.temperature.value, found.lapse.value] == pytest.approx(best, rel=1e-2)
    assert loss(np.array([found.temperature.value, found.lapse.value])) == pytest.approx(loss(best), abs=1e-4)


def test_a_fit_predicts_people_better_where_the_temperature_was_wrong_and_not_where_it_was_right() -> None:
    wrong = fit_temperature(*study(3, 0.5, units=80), resamples=200)[0]
    assert wrong.gain.low > 0
    assert wrong.gain.value == pytest.approx(wrong.before.value - wrong.after.value)
    right = fit_temperature(*study(4, USED, units=80), resamples=200)[0]
    assert right.gain.value < 0.01
    assert right.gain.low < 0


def test_another_temperature_gives_other_probabilities_and_the_same_choices() -> None:
    _, machine = study(5, 0.3)
    changed = change_temperature(machine, 0.4, used=USED)
    before, after = (logit(table["probability"].to_numpy()) for table in (machine, changed))
    assert after == pytest.approx(before * USED / 0.4)
    back = change_temperature(changed, USED, used=0.4)
    assert back["probability"].to_numpy() == pytest.approx(machine["probability"].to_numpy())
    lapsing = change_temperature(machine, USED, used=USED, lapse=0.2)
    assert lapsing["probability"].to_numpy() == pytest.approx(0.1 + 0.8 * machine["probability"].to_numpy())
    with pytest.raises(AnalysisError, match="above 0"):
        change_temperature(machine, 0.0, used=USED)


def test_people_who_go_against_the_evidence_have_an_infinite_temperature() -> None:
    people, machine = study(6, 0.3)
    against = people.merge(machine[["task", "probability"]], on="task")
    against["correct"] = (against["probability"] < 0.5).astype(float)
    found = fit_temperature(against.drop(columns="probability"), machine, resamples=20)[0]
    assert found.temperature.value == math.inf
    assert "do not follow" in found.temperature.method
    assert found.after.value == pytest.approx(math.log(2))


def test_people_who_always_follow_the_evidence_have_temperature_zero() -> None:
    people, machine = study(7, 0.3)
    follow = people.merge(machine[["task", "probability"]], on="task")
    follow["correct"] = (follow["probability"] > 0.5).astype(float)
    found = fit_temperature(follow.drop(columns="probability"), machine, resamples=20)[0]
    assert found.temperature.value == 0
    assert "always follow" in found.temperature.method
    assert found.after.value == 0


def test_neither_order_nor_names_matter() -> None:
    people, machine = study(8, 0.3)
    first = fit_temperature(people, machine, resamples=50)[0]
    second = fit_temperature(people.sample(frac=1, random_state=1), machine[::-1], resamples=50)[0]
    names = {"unit": "x" + people["unit"].str[::-1], "task": "x" + people["task"].str[::-1]}
    theirs = {"unit": "x" + machine["unit"].str[::-1], "task": "x" + machine["task"].str[::-1]}
    third = fit_temperature(people.assign(**names), machine.assign(**theirs), resamples=50)[0]
    for other in (second, third):
        for name in ("temperature", "before", "after", "gain"):
            for end in ("value", "low", "high"):
                expected = getattr(getattr(first, name), end)
                assert getattr(getattr(other, name), end) == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_probabilities_without_evidence_are_refused() -> None:
    people, machine = study(9, 0.3)
    with pytest.raises(AnalysisError, match="are 0 or 1"):
        fit_temperature(people, machine.assign(probability=machine["correct"]))
    with pytest.raises(AnalysisError, match="all probabilities are one half"):
        fit_temperature(people, machine.assign(probability=0.5))
    with pytest.raises(AnalysisError, match="Give the one it answered with"):
        fit_temperature(people, machine.assign(observer="lpips"))
    assert fit_temperature(people, machine.assign(observer="lpips"), used=0.05, resamples=20)[0].used == 0.05
    with pytest.raises(AnalysisError, match="above 0"):
        fit_temperature(people, machine, used=-1.0)
    with pytest.raises(AnalysisError, match="1 shared units"):
        fit_temperature(people, machine[machine["unit"] == "unit-1"])
    with pytest.raises(AnalysisError, match="two folds"):
        fit_temperature(people, machine, folds=1)
