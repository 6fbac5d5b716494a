from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom, norm

from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.psychophysics import d_prime_from_proportion, detect, position_bias
from analysis.psychophysics.detection_hierarchy import fit_hierarchy
from analysis.psychophysics.detection_rates import corrected_rates, count_choices
from benchmark.errors import AnalysisError
from tests.borowski import main_trials, read_borowski


def observers(
    d_prime: float, criterion: float, *, people: int = 40, trials: int = 60, spread: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Simulate observers who compare noisy evidence with a criterion of their own."""
    rng = np.random.default_rng(seed)
    person, number = (grid.ravel() for grid in np.meshgrid(np.arange(people), np.arange(trials), indexing="ij"))
    own_d, own_c = rng.normal(d_prime, spread, people), rng.normal(criterion, spread, people)
    top = rng.random(len(person)) < 0.5
    evidence = rng.normal(np.where(top, 1, -1) * own_d[person] / math.sqrt(2), 1)
    upper = evidence > own_c[person]
    return pd.DataFrame(
        {
            "model": "model", "condition": "natural",
            "participant": [f"p{n:03d}" for n in person], "unit": [f"u{n:03d}" for n in number],
            "max_on_top": top.astype(float), "upper": upper.astype(float), "correct": (top == upper).astype(float),
        }
    )  # fmt: skip


def test_d_prime_of_an_unbiased_observer_is_that_of_the_tables() -> None:
    found = d_prime_from_proportion([0.879, 0.779, 0.705, 0.596, 0.5])
    # sqrt(2) z(p); the first to two digits as published, 1.66, comes from the proportion .8792
    np.testing.assert_allclose(found, [1.6546, 1.0873, 0.7620, 0.3437, 0.0], atol=1e-4)
    assert round(float(d_prime_from_proportion(0.8792)), 2) == 1.66
    with pytest.raises(AnalysisError, match="between 0 and 1"):
        d_prime_from_proportion([1.2])


def test_counts_and_corrected_rates_are_what_hand_counting_gives() -> None:
    table = observers(1.0, 0.2, people=5, trials=30, seed=3)
    counts = count_choices(table, ["participant"]).set_index("participant")
    for name, own in table.groupby("participant"):
        shown = own[own["max_on_top"] == 1]
        assert counts.loc[name, "upper_trials"] == len(shown)
        assert counts.loc[name, "hits"] == int((shown["upper"] == 1).sum())
        assert counts.loc[name, "false_alarms"] == int(((own["max_on_top"] == 0) & (own["upper"] == 1)).sum())
    extreme = pd.DataFrame({"upper_trials": [20], "hits": [20], "lower_trials": [20], "false_alarms": [0]})
    (hit,), (alarm,) = corrected_rates(extreme)
    assert hit == pytest.approx(20.5 / 21) and alarm == pytest.approx(0.5 / 21)


def test_sensitivity_and_bias_are_recovered_and_bias_leaves_d_prime_alone() -> None:
    for criterion in (0.0, 0.6):
        (found,) = detect(observers(1.4, criterion, people=60, trials=80, seed=5))
        assert found.d_prime.low < 1.4 < found.d_prime.high
        assert found.criterion.low < criterion < found.criterion.high
        assert found.bias.excludes_zero == (criterion > 0)
        assert ("prefer the lower" in found.verdict) == (criterion > 0)


def test_without_bias_d_prime_is_that_of_the_proportion_correct() -> None:
    table = observers(1.2, 0.0, people=50, trials=100, seed=8)
    (found,) = detect(table)
    assert found.d_prime.value == pytest.approx(float(d_prime_from_proportion(table["correct"].mean())), abs=0.01)


def test_the_hierarchy_finds_mean_and_spread_and_shrinks_people() -> None:
    table = observers(1.5, -0.2, people=120, trials=60, spread=0.5, seed=11)
    (found,) = detect(table)
    assert found.typical_d_prime is not None and found.spread_d_prime is not None
    assert found.spread_criterion is not None and found.typical_criterion is not None
    assert found.typical_d_prime.low < 1.5 < found.typical_d_prime.high
    assert found.typical_criterion.low < -0.2 < found.typical_criterion.high
    assert found.spread_d_prime.low < 0.5 < found.spread_d_prime.high
    assert found.spread_criterion.low < 0.5 < found.spread_criterion.high
    people = found.individuals
    assert people["shrunk_d_prime"].std() < people["d_prime"].std()
    # Rates averaged over people who differ flatten: the pooled d' lies below the mean of people's.
    assert found.d_prime.value < found.typical_d_prime.value


def test_the_hierarchical_likelihood_is_the_integral() -> None:
    counts = pd.DataFrame(
        {
            "participant": ["a", "b", "c"],
            "upper_trials": [12.0, 9.0, 20.0], "hits": [10.0, 9.0, 11.0],
            "lower_trials": [8.0, 11.0, 20.0], "false_alarms": [1.0, 4.0, 9.0],
        }
    )  # fmt: skip
    fit = fit_hierarchy(counts)
    mean = (fit.d_prime.value, fit.criterion.value)
    spread = (max(fit.spread_d_prime.value, 1e-3), max(fit.spread_criterion.value, 1e-3))
    axes = [np.linspace(centre - 8 * width, centre + 8 * width, 801) for centre, width in zip(mean, spread)]
    d, c = np.meshgrid(*axes, indexing="ij")
    prior = norm.pdf(d, mean[0], spread[0]) * norm.pdf(c, mean[1], spread[1])
    hit, alarm = ndtr(d / math.sqrt(2) - c), ndtr(-d / math.sqrt(2) - c)
    total = 0.0
    for row in counts.itertuples():
        like = binom.pmf(row.hits, row.upper_trials, hit) * binom.pmf(row.false_alarms, row.lower_trials, alarm)
        value = np.trapezoid(np.trapezoid(like * prior, axes[1], axis=1), axes[0])
        ways = math.comb(int(row.upper_trials), int(row.hits)) * math.comb(int(row.lower_trials), int(row.false_alarms))
        total += math.log(value / ways)
    assert fit.log_likelihood == pytest.approx(total, abs=2e-3)


def test_rows_and_names_do_not_matter() -> None:
    table = observers(1.0, 0.1, people=12, trials=30, spread=0.3, seed=2)
    (first,) = detect(table)
    again = table.sample(frac=1, random_state=1).reset_index(drop=True)
    again["participant"] = "x" + again["participant"]
    again["unit"] = "y" + again["unit"]
    (second,) = detect(again.astype({"participant": "category", "unit": "category"}))
    for name in ("d_prime", "criterion", "typical_d_prime", "upper", "bias"):
        one, two = getattr(first, name), getattr(second, name)
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), abs=1e-8)


def test_what_can_not_be_estimated_is_said() -> None:
    table = observers(1.0, 0.0, people=4, trials=20)
    with pytest.raises(AnalysisError, match="no judgements"):
        detect(table.iloc[:0])
    with pytest.raises(AnalysisError, match="was on top"):
        detect(table[table["max_on_top"] == 1])
    with pytest.raises(AnalysisError, match="three participants"):
        fit_hierarchy(count_choices(table, ["participant"]).iloc[:2])
    with pytest.raises(AnalysisError, match="no participant was asked"):
        position_bias(table[table["max_on_top"] == 1])


def test_everybody_right_and_one_person_alone_give_finite_numbers() -> None:
    table = observers(1.0, 0.0, people=6, trials=20)
    right = table.assign(upper=table["max_on_top"], correct=1.0)
    one = table[table["participant"] == "p000"]
    for own in (right, one, one.iloc[:0:-1].head(8)):
        (found,) = detect(own)
        row = found.frame().iloc[0].dropna()
        assert np.isfinite(row.drop(["model", "condition"]).astype(float).drop(
            [name for name in row.index if name.endswith(("_low", "_high"))])).all()  # fmt: skip
    (found,) = detect(one)
    assert found.typical_d_prime is None and "new units" in found.d_prime.estimand
    (found,) = detect(right)
    assert found.bias.method.startswith("no interval") and "can't be judged" in found.verdict


def test_biased_people_and_units_are_found() -> None:
    table = observers(1.0, 0.0, people=20, trials=100, seed=4)
    stubborn = table["participant"] == "p003"
    table.loc[stubborn, "upper"] = 1.0
    table["correct"] = (table["upper"] == table["max_on_top"]).astype(float)
    people = position_bias(table).set_index("participant")
    assert people.index[people["biased"]].tolist() == ["p003"]
    assert people.loc["p003", "difference"] == 1.0
    assert (people["low"] <= people["difference"]).all() and (people["difference"] <= people["high"]).all()
    assert not position_bias(table[~stubborn], by="unit")["biased"].any()


def test_simulated_experiments_carry_no_bias() -> None:
    table = simulate_judgements(
        Layout(models=2, units=30, sessions=20, conditions=("natural", "synthetic")),
        Population(conditions={"synthetic": -0.5}),
        seed=3,
    )
    results = detect(table)
    assert [tuple(own.cell.values()) for own in results] == [
        (model, condition) for model in ("model-0", "model-1") for condition in ("natural", "synthetic")
    ]
    assert sum(own.bias_p < 0.01 for own in results) == 0
    for own in results:
        share = table[(table["model"] == own.cell["model"]) & (table["condition"] == own.cell["condition"])]
        expected = math.sqrt(2) * ndtri(share["correct"].mean())
        assert own.d_prime.value == pytest.approx(expected, abs=0.02)


def test_the_2021_people_prefer_no_side() -> None:
    results = {own.cell["condition"]: own for own in detect(main_trials(read_borowski()))}
    assert results["natural"].d_prime.value == pytest.approx(float(d_prime_from_proportion(415 / 450)), abs=0.03)
    assert results["synthetic"].d_prime.value == pytest.approx(float(d_prime_from_proportion(369 / 450)), abs=0.03)
    assert all("no position bias" in own.verdict for own in results.values())
