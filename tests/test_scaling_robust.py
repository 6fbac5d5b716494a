"""Slopes of unequal and related models: the robust error against its formulas, its size, and what verdicts say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import fractional_matrix_power
from scipy.stats import t

from analysis.published import published_means, published_models
from analysis.scaling import Refusal, ScalingResult, fit_scaling, predictor_values, robust_slope
from analysis.scaling.robust import EXPONENT, RobustFit, check_spread, robust_weights

SIZES = predictor_values(published_models(), "parameters").to_numpy()
CARDS = np.array([0, 1, 2, 2, 2, 2, 3, 3, 4])
"""The nine models' families by their cards: four ResNets and two vision transformers among them."""


def fitted(x: np.ndarray, y: np.ndarray, families: list[str] | None = None) -> RobustFit:
    found = robust_slope(x, y, families)
    assert isinstance(found, RobustFit)
    return found


def rejects(x: np.ndarray, clusters: np.ndarray, y: np.ndarray, at: float = 0.0) -> float:
    """Return the share of sets, shape (sets, models), in which a slope of ``at`` is rejected at 5 %."""
    weights, parts, freedom = robust_weights(x, clusters)
    ratio = np.abs(y @ weights - at) / np.sqrt(((y @ parts.T) ** 2).sum(axis=1))
    return float((2 * t.sf(ratio, freedom) < 0.05).mean())


def least_squares_rejects(x: np.ndarray, y: np.ndarray) -> float:
    centred = x - x.mean()
    slope = y @ centred / (centred @ centred)
    residual = y - y.mean(axis=1, keepdims=True) - slope[:, None] * centred
    error = np.sqrt((residual**2).sum(axis=1) / (len(x) - 2) / (centred @ centred))
    return float((2 * t.sf(np.abs(slope) / error, len(x) - 2) < 0.05).mean())


# ------------------------------------------------------------------ formulas


@pytest.mark.parametrize("seed", range(4))
def test_models_by_themselves_against_the_sandwich_written_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(7, 0.5, 9), rng.normal(0.8, 0.03, 9)
    design = np.column_stack([np.ones(9), x])
    bread = np.linalg.inv(design.T @ design)
    hat = design @ bread @ design.T
    residual = y - hat @ y
    h = np.diag(hat)
    scaled = residual / (1 - h) ** EXPONENT
    covariance = bread @ design.T @ np.diag(scaled**2) @ design @ bread
    found = fitted(x, y)
    assert found.slope == pytest.approx(np.polyfit(x, y, 1)[0])
    assert found.standard_error == pytest.approx(np.sqrt(covariance[1, 1]))
    # Between HC2 and HC3.
    two, three = (
        np.sqrt((bread @ design.T @ np.diag((residual / (1 - h) ** power) ** 2) @ design @ bread)[1, 1])
        for power in (0.5, 1.0)
    )
    assert two < found.standard_error < three
    assert 1 <= found.degrees_of_freedom <= 7 and found.clusters == 9


def test_degrees_of_freedom_are_those_of_the_variance_under_equal_spread() -> None:
    """Satterthwaite: 2 mean^2 / variance of the squared error, whose moments a simulation gives."""
    weights, parts, freedom = robust_weights(SIZES, CARDS)
    draws = ((np.random.default_rng(0).normal(size=(200_000, 9)) @ parts.T) ** 2).sum(axis=1)
    assert freedom == pytest.approx(2 * draws.mean() ** 2 / draws.var(), rel=0.03)
    # CR2 is free of bias where models are alike.
    assert draws.mean() == pytest.approx(weights @ weights, rel=0.02)


def test_clusters_against_bell_and_mccaffrey_written_out() -> None:
    y = np.random.default_rng(1).normal(0.8, 0.03, 9)
    design = np.column_stack([np.ones(9), SIZES])
    bread = np.linalg.inv(design.T @ design)
    hat = design @ bread @ design.T
    residual = y - hat @ y
    meat = np.zeros((2, 2))
    for family in range(5):
        own = np.asarray(CARDS == family)  # noqa: SIM300
        adjust = fractional_matrix_power(np.eye(int(own.sum())) - hat[np.ix_(own, own)], -0.5)
        score = design[own].T @ adjust @ residual[own]
        meat += np.outer(score, score)
    found = fitted(SIZES, y, [f"f{code}" for code in CARDS])
    assert found.standard_error == pytest.approx(np.sqrt((bread @ meat @ bread)[1, 1]))
    assert found.clusters == 5 and "5 families, CR2" in found.method


def test_order_and_scale_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    y, order = rng.normal(0.8, 0.03, 9), rng.permutation(9)
    families = [f"f{code}" for code in CARDS]
    first = fitted(SIZES, y, families)
    again = fitted(SIZES[order], y[order], [families[place] for place in order])
    assert (again.slope, again.standard_error, again.degrees_of_freedom) == pytest.approx(
        (first.slope, first.standard_error, first.degrees_of_freedom)
    )
    wide = fitted(10 * SIZES + 3, 5 * y - 1, families)
    assert (wide.slope, wide.standard_error) == pytest.approx((first.slope / 2, first.standard_error / 2))


# ------------------------------------------------------------------ size


@pytest.mark.parametrize("models", [9, 18])
def test_unequal_spread_does_not_break_its_size_as_it_breaks_that_of_least_squares(models: int) -> None:
    x = SIZES if models == 9 else np.linspace(SIZES.min(), SIZES.max(), 18)
    place = (x - x.min()) / np.ptp(x)
    noise = np.random.default_rng(20).normal(size=(4000, models))
    falling = noise * 6.0**-place
    alone = np.arange(models)
    assert least_squares_rejects(x, falling) > (0.18 if models == 9 else 0.07)
    assert rejects(x, alone, falling) < 0.07
    assert rejects(x, alone, noise) < 0.06
    # At a true slope the test has the same size: it is what equivalence and non-improvement rest on.
    assert rejects(x, alone, falling + 0.3 * x, at=0.3) < 0.07


def test_shared_errors_of_relatives_do_not_break_its_size_either() -> None:
    x = np.linspace(0, 1, 18)
    clusters = np.repeat(np.arange(6), 3)
    rng = np.random.default_rng(21)
    shared = np.sqrt(0.6) * rng.normal(size=(4000, 6))[:, clusters] + np.sqrt(0.4) * rng.normal(size=(4000, 18))
    assert least_squares_rejects(x, shared) > 0.18
    assert 0.02 < rejects(x, clusters, shared) < 0.06
    three = np.repeat(np.arange(3), [8, 8, 2])
    shared = np.sqrt(0.8) * rng.normal(size=(4000, 3))[:, three] + np.sqrt(0.2) * rng.normal(size=(4000, 18))
    assert least_squares_rejects(x, shared) > 0.4
    assert rejects(x, three, shared) < 0.06


def test_it_finds_a_true_slope_and_what_that_costs() -> None:
    """Where models are alike and unrelated, least squares with a power of .8 has a robust one of about .74 at 18."""
    x = np.linspace(-1, 1, 18)
    y = np.random.default_rng(22).normal(size=(4000, 18)) + 1.16 * x
    plain, robust = least_squares_rejects(x, y), rejects(x, np.arange(18), y)
    assert 0.75 < plain < 0.85
    assert plain - 0.12 < robust < plain


# ------------------------------------------------------------------ what is refused, and what is said


def table_of(x: np.ndarray, y: np.ndarray, families: list[str] | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = [f"m{n}" for n in range(len(x))]
    models = pd.DataFrame({"model": names, "parameters": 10.0**x})
    if families is not None:
        models["family"] = families
    return pd.DataFrame({"model": names, "condition": "natural", "value": y}), models


def test_two_families_that_lie_apart_are_refused() -> None:
    x = np.linspace(6, 8, 10)
    y = 0.8 + 0.03 * np.random.default_rng(3).normal(size=10)
    means, models = table_of(x, y, ["cnn"] * 5 + ["vit"] * 5)
    study = fit_scaling(means, models, predictors=["parameters"], smallest_effect={"parameters": 0.5})
    refused = study.results[0]
    assert isinstance(refused, Refusal)
    assert "two families that lie apart" in refused.reason and "no test is valid here" in refused.reason
    assert study.places["all slopes"]["natural", "parameters"].p == 1.0
    # It may still be asked for by name, as the 2023 slopes were made.
    plain = fit_scaling(means, models, predictors=["parameters"], rung="least squares").results[0]
    assert isinstance(plain, ScalingResult) and isinstance(plain.robust, Refusal)
    mixed = ["cnn", "vit"] * 5
    assert isinstance(fit_scaling(*table_of(x, y, mixed), predictors=["parameters"]).results[0], ScalingResult)


@pytest.mark.parametrize(
    ("families", "said", "warned"),
    [
        (None, "no family is known", "known for no model"),
        ([""] * 9, "no family is known", "known for no model"),
        (["a", "a", *[""] * 7], "8 families, CR2", "known for 2 of 9 models"),
        ([f"f{code}" for code in CARDS], "5 families, CR2", ""),
        (["a"] * 9, "all are of one family", ""),
        ([f"f{n}" for n in range(9)], "no two models are relatives", ""),
    ],
)
def test_the_verdict_says_what_it_rests_on(families: list[str] | None, said: str, warned: str) -> None:
    y = 0.8 + 0.03 * np.random.default_rng(4).normal(size=9)
    result = fit_scaling(*table_of(SIZES, y, families), predictors=["parameters"]).results[0]
    assert isinstance(result, ScalingResult)
    assert "all tests use least squares on 9 model means, heteroscedasticity-robust" in result.verdict.because
    assert said in result.verdict.because and "degrees of freedom" in result.verdict.because
    about = [warning for warning in result.warnings if "family of architectures" in warning]
    assert (warned in about[0]) if warned else not about


def test_equivalence_and_non_improvement_rest_on_the_same_error() -> None:
    y = 0.8 + 0.01 * np.random.default_rng(5).normal(size=9)
    families = [f"f{code}" for code in CARDS]
    result = fit_scaling(
        *table_of(SIZES, y, families), predictors=["parameters"], smallest_effect={"parameters": 0.05}
    ).results[0]
    assert isinstance(result, ScalingResult) and result.margins is not None
    found = fitted(SIZES, y, families)
    below = t.cdf((found.slope - 0.05) / found.standard_error, found.degrees_of_freedom)
    above = t.sf((found.slope + 0.05) / found.standard_error, found.degrees_of_freedom)
    assert result.margins.tests.p_non_improvement == pytest.approx(below)
    assert result.margins.tests.p == pytest.approx(max(below, above))
    assert result.place.p == pytest.approx(2 * t.sf(abs(found.slope) / found.standard_error, found.degrees_of_freedom))


def test_the_published_slopes_have_both_errors_side_by_side() -> None:
    study = fit_scaling(published_means(), published_models())
    row = study.frame().set_index(["condition", "predictor"]).loc["natural", "parameters"]
    assert row["rests_on"] == "robust"
    assert row["p_least_squares"] == pytest.approx(0.0218, abs=5e-5)
    assert row["standard_error_least_squares"] == pytest.approx(0.0245, abs=5e-5)
    assert (row["slope"], row["standard_error"], row["p"]) == pytest.approx((-0.0720, 0.0158, 0.0213), abs=5.1e-5)
    assert row["degrees_of_freedom"] == pytest.approx(2.9, abs=0.05)
    result = study.result("natural", "parameters")
    assert isinstance(result, ScalingResult)
    assert result.ladder()["rung"].tolist()[:2] == ["least squares", "robust"]
    # All slopes are as wide as their few models make them: nothing is told from 0 after Holm.
    assert {verdict.kind for verdict in study.verdicts} == {"undecided", "refused"}


def test_residuals_that_spread_at_one_end_are_told() -> None:
    x = np.linspace(6, 8, 10)
    y = 0.8 + np.array([0.2, -0.18, 0.15, -0.12, 0.1, -0.08, 0.05, -0.03, 0.02, -0.01])
    found = check_spread(x, y)
    assert found is not None and found.coefficient < -0.8 and found.p < 0.01
    result = fit_scaling(*table_of(x, y, ["a"] * 10), predictors=["parameters"]).results[0]
    assert isinstance(result, ScalingResult)
    assert any("scatter more at the lowest values" in warning for warning in result.warnings)
    even = [check_spread(x, row) for row in np.random.default_rng(6).normal(size=(60, 10))]
    assert sum(own is not None and own.p < 0.05 for own in even) <= 9
    assert check_spread(x, np.zeros(10)) is None
