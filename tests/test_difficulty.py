from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import multivariate_normal, norm

from analysis.psychophysics import fit_difficulty_curves, query_quantiles
from analysis.psychophysics.difficulty_inference import THRESHOLD
from analysis.psychophysics.difficulty_model import Counts, answer_scores, fit_parameters, gradient_of, integrate
from analysis.psychophysics.quantiles import query_distance
from benchmark.errors import AnalysisError
from benchmark.protocol import load_protocol

QUANTILES = query_quantiles(load_protocol("imi2023"))
TRUTH = {"intercept": -1.0, "slope": 1.1, "spread": 0.8, "slope_spread": 0.25}


def asked(
    seed: int = 0,
    *,
    units: int = 50,
    answers: int = 20,
    people: int = 50,
    person: float = 0.3,
    difficulties: tuple[str, ...] = tuple(QUANTILES),
    slope: float = TRUTH["slope"],
    intercept: float = TRUTH["intercept"],
) -> pd.DataFrame:
    """Simulate answers about units whose curves differ, each by somebody among the people."""
    rng = np.random.default_rng(seed)
    parts = []
    height, steepness = rng.normal(0, TRUTH["spread"], units), rng.normal(0, TRUTH["slope_spread"], units)
    ability = rng.normal(0, person, people)
    for difficulty in difficulties:
        unit = np.repeat(np.arange(units), answers)
        who = (np.arange(len(unit)) * 7 + rng.integers(people)) % people
        x = float(query_distance(QUANTILES[difficulty]))
        eta = intercept + height[unit] + (slope + steepness[unit]) * x + ability[who]
        parts.append(
            pd.DataFrame(
                {
                    "model": "model", "condition": "natural", "difficulty": difficulty,
                    "unit": [f"u{n:03d}" for n in unit], "participant": [f"p{n:03d}" for n in who],
                    "correct": (rng.random(len(unit)) < 0.5 + 0.5 * expit(eta)).astype(float),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def mean_truth(quantile: float, person: float = 0.3) -> float:
    """Return the true mean over units and people."""
    x = float(query_distance(quantile))
    spread = np.sqrt(TRUTH["spread"] ** 2 + (TRUTH["slope_spread"] * x) ** 2 + person**2)
    z = np.linspace(-8, 8, 4001)
    eta = TRUTH["intercept"] + TRUTH["slope"] * x + spread * z
    return float(np.trapezoid(norm.pdf(z) * (0.5 + 0.5 * expit(eta)), z))


def counts_of(seed: int, lapse: float = 0.0, units: int = 8) -> Counts:
    rng = np.random.default_rng(seed)
    answers = rng.integers(0, 15, (units, 4)).astype(float)
    return Counts(
        answers, np.floor(answers * rng.uniform(0.3, 1.0, (units, 4))), np.array([1.3, 0.2, -0.5, -1.0]), lapse
    )


def test_quantiles_are_those_of_the_protocols() -> None:
    # 9 references and 20 tasks: easy queries begin at rank 180 of 1,281,167 and take 20 places.
    assert QUANTILES["easy"] == pytest.approx(190 / 1_281_167)
    assert QUANTILES["medium"] == pytest.approx(0.01, abs=2e-5)
    assert QUANTILES["hard"] == pytest.approx(0.05, abs=2e-5)
    assert QUANTILES["very_hard"] == pytest.approx(0.15, abs=2e-5)
    small = query_quantiles(load_protocol("imi2023"), 1300)
    assert list(small) == ["easy", "very_hard"] and small["easy"] == pytest.approx(190 / 1300)
    np.testing.assert_allclose(query_distance([0.5, 0.025]), [0.0, 1.959964], atol=1e-6)
    with pytest.raises(AnalysisError, match="above 0 and up to"):
        query_distance([0.1, 0.7])


@pytest.mark.parametrize("lapse", [0.0, 0.03])
def test_the_likelihood_is_the_integral_over_units(lapse: float) -> None:
    counts = counts_of(3, lapse)
    parameters = np.array([0.8, 0.9, np.log(0.9), 0.3, np.log(0.4)])
    found = integrate(parameters, counts).log_likelihood
    cholesky = np.array([[0.9, 0.0], [0.3, 0.4]])
    covariance = cholesky @ cholesky.T
    axis = [np.linspace(-9 * s, 9 * s, 901) for s in np.sqrt(np.diag(covariance))]
    u, v = np.meshgrid(*axis, indexing="ij")
    prior = multivariate_normal([0, 0], covariance).pdf(np.stack([u, v], axis=-1))
    total = 0.0
    for answers, right in zip(counts.answers, counts.right):
        like = np.ones_like(u)
        for n, k, x in zip(answers, right, counts.x):
            chance = 0.5 + (0.5 - lapse) * expit(0.8 + u + (0.9 + v) * x)
            like = like * chance**k * (1 - chance) ** (n - k)
        total += np.log(np.trapezoid(np.trapezoid(like * prior, axis[1], axis=1), axis[0]))
    assert found == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("lapse", [0.0, 0.03])
def test_the_gradient_is_the_likelihoods(lapse: float) -> None:
    counts = counts_of(5, lapse)
    parameters = np.array([0.5, 0.7, np.log(0.8), 0.2, np.log(0.5)])
    gradient = gradient_of(parameters, counts, integrate(parameters, counts))
    for n in range(5):
        ends = []
        for sign in (1, -1):
            moved = parameters.copy()
            moved[n] += sign * 1e-4
            ends.append(integrate(moved, counts).log_likelihood)
        assert gradient[n] == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=5e-3)
    right, wrong = answer_scores(parameters, counts, integrate(parameters, counts))
    assert (right[..., 0] > 0).all() and (wrong[..., 0] < 0).all()


def test_the_fit_is_a_maximum() -> None:
    counts = counts_of(7, units=40)
    place, best = fit_parameters(counts)
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert integrate(place + rng.normal(0, 0.1, 5), counts).log_likelihood < best


def test_the_curve_is_recovered_with_honest_bands() -> None:
    inside, slopes, thresholds = [], 0, 0
    truth_at = np.array([mean_truth(share) for share in np.geomspace(1.5e-4, 0.5, 2000)])
    truth = float(np.interp(-THRESHOLD, -truth_at, np.geomspace(1.5e-4, 0.5, 2000)))
    for seed in range(10):
        curve = fit_difficulty_curves(asked(seed), QUANTILES).curves[0]
        rows = curve.curve.iloc[::15]
        inside += [row.low <= mean_truth(row.quantile) <= row.high for row in rows.itertuples()]
        slopes += curve.slope.low < TRUTH["slope"] < curve.slope.high
        thresholds += curve.threshold is None or curve.threshold.low <= truth <= curve.threshold.high
        assert curve.curve["value"].is_monotonic_decreasing and curve.curve["quantile"].is_monotonic_increasing
        for point in curve.points:
            assert abs(point.fitted - point.observed.value) < 0.05
    assert np.mean(inside) > 0.85 and slopes >= 8 and thresholds >= 8


def test_spreads_between_units_are_found_and_units_are_drawn_together() -> None:
    table = asked(2, units=120, answers=40, person=0.0)
    curve = fit_difficulty_curves(table, QUANTILES).curves[0]
    x = query_distance([QUANTILES[name] for name in QUANTILES])
    height = float(np.sqrt(TRUTH["spread"] ** 2 + (TRUTH["slope_spread"] * x.mean()) ** 2))
    assert curve.unit_spread.low < height < curve.unit_spread.high
    assert curve.slope_spread.low < TRUTH["slope_spread"] < curve.slope_spread.high
    raw = table[table["difficulty"] == "hard"].groupby("unit")["correct"].mean()
    shrunk = curve.units.set_index("unit")["hard"]
    assert shrunk.std() < raw.std() and np.corrcoef(shrunk, raw.loc[shrunk.index])[0, 1] > 0.7
    assert "falls with difficulty" in curve.verdict


def test_people_who_differ_widen_the_interval() -> None:
    alike, apart = (
        fit_difficulty_curves(asked(4, people=12, person=person), QUANTILES).curves[0] for person in (0.0, 1.5)
    )
    widths = [float((own.curve["high"] - own.curve["low"]).iloc[30]) for own in (alike, apart)]
    assert widths[1] > 1.3 * widths[0]


def test_rows_and_names_do_not_matter() -> None:
    table = asked(3, units=20)
    again = table.sample(frac=1, random_state=1).reset_index(drop=True)
    again["unit"], again["participant"] = "x" + again["unit"], "y" + again["participant"]
    one = fit_difficulty_curves(table, QUANTILES).curves[0]
    two = fit_difficulty_curves(again.astype({"unit": "category", "participant": "category"}), QUANTILES).curves[0]
    pd.testing.assert_frame_equal(one.curve, two.curve, rtol=1e-8)
    pd.testing.assert_frame_equal(one.frame(), two.frame(), rtol=1e-8)


def test_fewer_than_three_difficulties_are_refused_with_a_difference() -> None:
    two = asked(1, difficulties=("easy", "hard"))
    with pytest.raises(AnalysisError, match="two difficulties: a difference, no curve; easy less hard is"):
        fit_difficulty_curves(two, QUANTILES)
    with pytest.raises(AnalysisError, match="one difficulty"):
        fit_difficulty_curves(asked(1, difficulties=("easy",)), QUANTILES)
    mixed = pd.concat([two.assign(model="other"), asked(1, units=20)], ignore_index=True)
    found = fit_difficulty_curves(mixed, QUANTILES)
    assert len(found.curves) == 1 and len(found.refused) == 1 and found.refused[0].startswith("other natural")
    assert len(found.frame()) == 4


def test_what_can_not_be_fitted_is_said() -> None:
    table = asked(1, units=10)
    with pytest.raises(AnalysisError, match="no judgements"):
        fit_difficulty_curves(table.iloc[:0], QUANTILES)
    with pytest.raises(AnalysisError, match="lapses"):
        fit_difficulty_curves(table, QUANTILES, lapse=0.6)
    with pytest.raises(AnalysisError, match="quantile of the difficulty 'easy'"):
        fit_difficulty_curves(table, {"medium": 0.01, "hard": 0.05, "very_hard": 0.15})
    with pytest.raises(AnalysisError, match="all answers are right"):
        fit_difficulty_curves(table.assign(correct=1.0), QUANTILES)
    below = table.assign(correct=(np.arange(len(table)) % 5 == 0).astype(float))
    with pytest.raises(AnalysisError, match="no more than by guessing"):
        fit_difficulty_curves(below, QUANTILES)
    with pytest.raises(AnalysisError, match="one unit"):
        fit_difficulty_curves(table[table["unit"] == "u000"], QUANTILES)


def test_extreme_answers_still_give_finite_curves() -> None:
    table = asked(1, units=12)
    perfect = table.assign(correct=np.where(table["unit"] < "u006", 1.0, table["correct"]))
    chance = asked(2, units=12, intercept=-3.0, slope=0.0)
    for own in (perfect, chance, table[table["participant"] == "p001"]):
        curve = fit_difficulty_curves(own, QUANTILES).curves[0]
        assert np.isfinite(curve.curve.to_numpy()).all() and np.isfinite(curve.slope.value)
        assert (curve.curve["low"] <= curve.curve["value"]).all() and (
            curve.curve["value"] <= curve.curve["high"]
        ).all()
    assert fit_difficulty_curves(chance, QUANTILES).curves[0].threshold is None


def test_lapses_lower_the_ceiling() -> None:
    table = asked(5, units=30)
    curve = fit_difficulty_curves(table, QUANTILES, lapse=0.04).curves[0]
    assert curve.curve["high"].max() <= 0.96 and curve.lapse == 0.04
