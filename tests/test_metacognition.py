from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from analysis.psychophysics import measure_confidence, type2_auroc
from analysis.psychophysics.meta_d_prime import count_confidence, fit_meta_d_prime
from benchmark.errors import AnalysisError
from tests.borowski import main_trials, read_borowski


def observers(
    d_prime: float = 1.2,
    noise: float = 0.0,
    *,
    people: int = 40,
    trials: int = 60,
    criterion: float = 0.1,
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate observers whose confidence reads their evidence, with more noise or none."""
    rng = np.random.default_rng(seed)
    person, number = (grid.ravel() for grid in np.meshgrid(np.arange(people), np.arange(trials), indexing="ij"))
    top = rng.random(len(person)) < 0.5
    evidence = rng.normal(np.where(top, 1, -1) * d_prime / math.sqrt(2), 1)
    upper = evidence > criterion
    read = evidence + rng.normal(0, noise, len(evidence)) if noise else evidence
    strength = np.where(upper, read - criterion, criterion - read)
    confidence = 1.0 + (strength > 0.5) + (strength > 1.2)
    return pd.DataFrame(
        {
            "model": "model", "condition": "natural",
            "participant": [f"p{n:03d}" for n in person], "unit": [f"u{n:03d}" for n in number],
            "max_on_top": top.astype(float), "upper": upper.astype(float), "correct": (top == upper).astype(float),
            "confidence": confidence,
        }
    )  # fmt: skip


def likelihood_by_hand(counts: np.ndarray) -> tuple[float, float]:
    """Return meta-d' and its log-likelihood by a direct search over plain normal probabilities."""
    padded = counts + 1 / (2 * counts.shape[-1])
    z = norm.ppf(padded[:, 1].sum(axis=1) / padded.sum(axis=(1, 2)))
    relative = -z.sum() / 2 / (z[1] - z[0])

    def negative(parameters: np.ndarray) -> float:
        m = parameters[0]
        centre = relative * m
        above = np.concatenate([[centre], centre + np.cumsum(np.exp(parameters[1:3])), [np.inf]])
        below = np.concatenate([[centre], centre - np.cumsum(np.exp(parameters[3:])), [-np.inf]])
        total = 0.0
        for stimulus, mean in ((0, -m / 2), (1, m / 2)):
            upper = np.diff(norm.cdf(above - mean)) / norm.sf(centre - mean)
            lower = -np.diff(norm.cdf(below - mean)) / norm.cdf(centre - mean)
            total += (padded[stimulus, 1] * np.log(upper)).sum() + (padded[stimulus, 0] * np.log(lower)).sum()
        return -total

    best = min(
        (
            minimize(negative, [start, -0.5, -0.5, -0.5, -0.5], method="Nelder-Mead",
                     options={"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-8, "fatol": 1e-10})
            for start in (0.7, 2.0)
        ),
        key=lambda found: found.fun,
    )  # fmt: skip
    return best.x[0] / math.sqrt(2), -best.fun


def test_the_auroc_is_the_share_of_pairs_within_people() -> None:
    table = observers(people=6, trials=25, seed=4)
    agree = total = 0.0
    for _, own in table.groupby("participant"):
        for right in own.loc[own["correct"] == 1, "confidence"]:
            for wrong in own.loc[own["correct"] == 0, "confidence"]:
                agree += (right > wrong) + 0.5 * (right == wrong)
                total += 1
    assert type2_auroc(table["correct"], table["confidence"], table["participant"]) == pytest.approx(agree / total)


def test_people_who_are_good_and_sure_do_not_raise_the_auroc() -> None:
    sure = pd.DataFrame({"correct": [1, 1, 1, 0], "confidence": [3, 3, 3, 3], "participant": "a"})
    unsure = pd.DataFrame({"correct": [0, 0, 0, 1], "confidence": [1, 1, 1, 1], "participant": "b"})
    both = pd.concat([sure, unsure])
    assert type2_auroc(both["correct"], both["confidence"], both["participant"]) == 0.5
    with pytest.raises(AnalysisError, match="nobody here gave both"):
        type2_auroc([1, 1, 0], [1, 2, 3], ["a", "a", "b"])


@pytest.mark.parametrize(("noise", "seed"), [(0.0, 1), (1.0, 2), (0.5, 3)])
def test_meta_d_prime_maximises_the_likelihood(noise: float, seed: int) -> None:
    counts = count_confidence(observers(noise=noise, people=10, seed=seed))
    fit = fit_meta_d_prime(counts)
    value, likelihood = likelihood_by_hand(counts)
    assert fit.usable
    assert float(fit.meta_d_prime) == pytest.approx(value, abs=1e-4)
    assert float(fit.log_likelihood) == pytest.approx(likelihood, abs=1e-6)


def test_many_tables_are_fitted_as_each_alone() -> None:
    tables = np.stack([count_confidence(observers(people=8, noise=seed / 4, seed=seed)) for seed in range(5)])
    tables[4, :, :, 1] = 0  # nobody used the middle
    together = fit_meta_d_prime(tables)
    for n, counts in enumerate(tables):
        assert float(fit_meta_d_prime(counts).meta_d_prime) == pytest.approx(together.meta_d_prime[n], abs=1e-7)
    assert together.usable.all()


def test_an_ideal_observer_loses_nothing_and_a_noisy_one_does() -> None:
    (ideal,) = measure_confidence(observers(people=150, trials=80, seed=7), resamples=300)
    (noisy,) = measure_confidence(observers(people=150, trials=80, noise=1.0, seed=7), resamples=300)
    assert ideal.m_ratio is not None and noisy.m_ratio is not None and ideal.m_diff is not None
    assert ideal.m_ratio.low < 1 < ideal.m_ratio.high
    assert ideal.m_diff.low < 0 < ideal.m_diff.high
    assert ideal.m_ratio.high - ideal.m_ratio.low < 0.25
    assert noisy.m_ratio.high < 0.9
    assert ideal.d_prime is not None and ideal.d_prime.low < 1.2 < ideal.d_prime.high
    assert ideal.auroc is not None and noisy.auroc is not None and ideal.auroc.low > noisy.auroc.high
    assert "tells right answers from wrong ones" in ideal.verdict


def test_confidence_that_means_nothing_is_seen_as_such() -> None:
    table = observers(people=60, seed=9)
    rng = np.random.default_rng(1)
    table["confidence"] = rng.integers(1, 4, len(table)).astype(float)
    (found,) = measure_confidence(table, resamples=300)
    assert found.auroc is not None and found.auroc.low < 0.5 < found.auroc.high
    assert found.slope is not None and found.slope.low < 0 < found.slope.high
    assert found.meta_d_prime is not None and found.meta_d_prime.low < 0 < found.meta_d_prime.high
    assert "not shown" in found.verdict


def test_the_slope_is_that_of_a_regression_with_an_intercept_for_each_person() -> None:
    table = observers(people=9, trials=30, seed=12)
    (found,) = measure_confidence(table, resamples=50)
    dummies = pd.get_dummies(table["participant"]).to_numpy(float)
    design = np.column_stack([table["confidence"], dummies])
    expected = np.linalg.lstsq(design, table["correct"].to_numpy(), rcond=None)[0][0]
    assert found.slope is not None and found.slope.value == pytest.approx(expected)


def test_units_as_well_as_people_widen_the_interval() -> None:
    table = observers(people=30, trials=40, seed=3)
    (people,) = measure_confidence(table, resamples=400)
    (both,) = measure_confidence(table, resample="units and participants", resamples=400)
    for name in ("auroc", "meta_d_prime", "m_ratio"):
        one, two = getattr(people, name), getattr(both, name)
        assert one.value == two.value
        assert two.high - two.low > one.high - one.low
        assert "new people" in one.estimand and "new units and people" in two.estimand


def test_rows_and_names_do_not_matter() -> None:
    table = observers(people=15, trials=30, seed=6)
    again = table.sample(frac=1, random_state=2).reset_index(drop=True)
    again["participant"], again["unit"] = "x" + again["participant"], "y" + again["unit"]
    one, two = (
        measure_confidence(own, resample="units and participants", resamples=100).frame()
        for own in (table, again.astype({"participant": "category", "unit": "category"}))
    )
    pd.testing.assert_frame_equal(one, two, rtol=1e-8)


def test_what_can_not_be_estimated_is_said_and_never_a_number() -> None:
    table = observers(people=5, trials=20, seed=1)
    machines = table.assign(confidence=np.nan)
    with pytest.raises(AnalysisError, match="has a confidence"):
        measure_confidence(machines)
    with pytest.raises(AnalysisError, match="must be 1, 2 or 3"):
        measure_confidence(table.assign(confidence=4.0))
    (flat,) = measure_confidence(table.assign(confidence=2.0))
    assert flat.auroc is None and flat.slope is None and flat.meta_d_prime is None
    assert "all answers have confidence 2" in flat.verdict
    right = table.assign(upper=table["max_on_top"], correct=1.0)
    (found,) = measure_confidence(right, resamples=50)
    assert found.auroc is None and any("nobody here gave both" in reason for reason in found.reasons)
    assert all(level.accuracy.value == 1.0 and level.accuracy.low < 1.0 for level in found.levels)
    guessing = table.assign(upper=1 - table["max_on_top"], correct=0.0)
    (below,) = measure_confidence(guessing, resamples=50)
    assert below.m_ratio is None and any("next to chance" in reason for reason in below.reasons)


def test_answers_without_confidence_are_counted_and_left_out() -> None:
    table = observers(people=8, trials=20, seed=2)
    table.loc[::4, "confidence"] = np.nan
    (found,) = measure_confidence(table, resamples=50)
    assert found.missing == 40 and found.answers == 120
    (one,) = measure_confidence(table[table["participant"] == "p000"], resamples=50)
    assert one.auroc is None or one.auroc.method.startswith("no interval")


def test_the_2021_people_know_when_they_are_right() -> None:
    results = {own.cell["condition"]: own for own in measure_confidence(main_trials(read_borowski()))}
    expected = {"natural": (0.776, 0.866, 0.975), "synthetic": (0.716, 0.809, 0.955)}
    for condition, values in expected.items():
        found = results[condition]
        assert tuple(round(level.accuracy.value, 3) for level in found.levels) == values
        assert found.auroc is not None and found.auroc.low > 0.5
        assert found.slope is not None and found.slope.low > 0
        assert found.m_ratio is not None and 0 < found.m_ratio.low < found.m_ratio.value < 1
