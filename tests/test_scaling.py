"""Slopes against the published numbers, brute force and degenerate input."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, pearsonr, rankdata, spearmanr, t, ttest_ind

from analysis.multiple_tests import spell_p
from analysis.published import published_means, published_models
from analysis.scaling import (
    KINDS,
    MixedModelSlope,
    Refusal,
    ScalingResult,
    ScalingStudy,
    adjust_holm,
    fit_scaling,
    judge,
    make_slope,
    meta_regression,
    models_from_cards,
    predictor_values,
    slope_from_estimate,
    tabulate_means,
)
from analysis.scaling.families import take_places
from analysis.scaling.permutation import permute_slope, permute_spearman
from analysis.scaling.predictors import Predictor
from analysis.scaling.regression import condition_number, least_squares, restricted_log_likelihood
from analysis.scaling.verdicts import MarginTests, _number
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import Estimate


@pytest.fixture(scope="module")
def published() -> ScalingStudy:
    """The slopes as they were published: by plain least squares."""
    return fit_scaling(published_means(), published_models(), rung="least squares")


def fitted(study: ScalingStudy, condition: str, predictor: str) -> ScalingResult:
    result = study.result(condition, predictor)
    assert isinstance(result, ScalingResult)
    return result


# condition, predictor: slope, error, low, high, p, exact p, Spearman, its exact p, most leverage, model, left one out
PUBLISHED = {
    ("natural", "parameters"): (
        -0.0720, 0.0245, -0.130, -0.014, 0.0218, 0.0231, -0.653, 0.063, 0.58, "googlenet", None,
    ),
    ("natural", "training images"): (
        -0.001, 0.011, -0.027, 0.025, 0.919, 0.958, 0.02, 1.0, 0.62, "clip_vit_b32", (-0.013, 0.020),
    ),
    ("natural", "accuracy"): (
        -0.016, 0.019, -0.061, 0.029, 0.428, 0.423, -0.40, 0.291, 0.46, "resnet50_l2", (-0.030, -0.001),
    ),
    ("synthetic", "parameters"): (
        -0.0688, 0.0430, -0.179, 0.042, 0.171, 0.167, -0.65, 0.123, 0.64, "googlenet", None,
    ),
    ("synthetic", "accuracy"): (
        -0.046, 0.017, -0.089, -0.002, 0.042, 0.042, -0.54, 0.236, 0.63, "resnet50_l2", (-0.055, -0.036),
    ),
}  # fmt: skip


@pytest.mark.parametrize("test", PUBLISHED)
def test_the_published_slopes_are_reproduced(published: ScalingStudy, test: tuple[str, str]) -> None:
    slope, error, low, high, p, exact, rho, rho_p, leverage, model, left_out = PUBLISHED[test]
    result = fitted(published, *test)
    found = result.slope.estimate
    assert found.value == pytest.approx(slope, abs=5.1e-4)
    assert result.slope.standard_error == pytest.approx(error, abs=5.1e-4)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5.1e-4)
    assert result.slope.p == pytest.approx(p, abs=5.1e-4)
    assert result.permutation.p == pytest.approx(exact, abs=5.1e-4)
    assert result.permutation.error == 0
    assert result.spearman.coefficient == pytest.approx(rho, abs=5.1e-3)
    assert result.spearman.p == pytest.approx(rho_p, abs=5.1e-4)
    assert result.highest_leverage == (model, pytest.approx(leverage, abs=5.1e-3))
    if left_out:
        assert tuple(result.leave_one_out) == pytest.approx(left_out, abs=5.1e-4)
    assert found.n == (9 if test[0] == "natural" else 7)
    assert found.estimand.startswith("new models")


def test_a_scaling_study_speaks_statsmodels(published: ScalingStudy) -> None:
    rows = published.frame().set_index(["condition", "predictor"])
    ends = published.conf_int()
    for found, column in ((published.params, "slope"), (published.bse, "standard_error"), (published.pvalues, "p"),
                          (ends[0], "low"), (ends[1], "high")):  # fmt: skip
        assert found.index.equals(rows.index)
        assert found.to_numpy() == pytest.approx(rows[column].to_numpy(dtype=float), rel=1e-9, nan_ok=True)
    assert published.params.isna().any() and published.params.notna().any()
    answered = published.params.notna()
    assert (published.conf_int(0.01)[0] < ends[0])[answered].all()
    with pytest.raises(AnalysisError, match="alpha"):
        published.conf_int(95)


def test_size_slopes_to_four_digits(published: ScalingStudy) -> None:
    natural, synthetic = (fitted(published, condition, "parameters") for condition in ("natural", "synthetic"))
    assert natural.slope.value == pytest.approx(-0.0720, abs=5e-5)
    assert natural.slope.standard_error == pytest.approx(0.0245, abs=5e-5)
    assert natural.slope.p == pytest.approx(0.0218, abs=5e-5)
    assert natural.permutation.p == pytest.approx(0.0231, abs=5e-5)
    assert natural.spearman.coefficient == pytest.approx(-0.653, abs=5e-4)
    assert synthetic.slope.value == pytest.approx(-0.0688, abs=5e-5)
    assert synthetic.slope.standard_error == pytest.approx(0.0430, abs=5e-5)


def test_holm_over_the_six_published_slopes(published: ScalingStudy) -> None:
    places = published.places["all slopes"]
    assert sorted(place.adjusted for place in places.values()) == pytest.approx(
        [0.131, 0.212, 0.684, 0.964, 0.964, 0.964], abs=5e-4
    )
    assert {place.size for place in places.values()} == {6}
    assert fitted(published, "natural", "parameters").place.adjusted == pytest.approx(0.131, abs=5e-4)
    # The refused test holds its place with the p-value of one model against six.
    assert places["synthetic", "training images"].p == pytest.approx(0.321, abs=5e-4)


def test_other_parameter_count_of_googlenet_gives_the_other_published_slopes() -> None:
    models = published_models()
    models.loc[models["model"] == "googlenet", "parameters"] = 6.62e6
    study = fit_scaling(published_means(), models, rung="least squares")
    natural, synthetic = (fitted(study, condition, "parameters") for condition in ("natural", "synthetic"))
    assert natural.slope.value == pytest.approx(-0.070, abs=1e-3)
    assert natural.slope.p == pytest.approx(0.022, abs=5e-4)
    assert tuple(natural.leave_one_out) == pytest.approx((-0.079, -0.060), abs=5.1e-4)
    assert natural.highest_leverage == ("googlenet", pytest.approx(0.60, abs=5.1e-3))
    assert (synthetic.slope.value, synthetic.slope.p) == pytest.approx((-0.067, 0.170), abs=5.1e-4)
    assert sorted(place.adjusted for place in study.places["all slopes"].values())[:3] == pytest.approx(
        [0.132, 0.212, 0.680], abs=1e-3
    )
    without = natural.points.set_index("model").loc["googlenet"]
    assert tuple(without[["slope_without", "standard_error_without", "p_without"]]) == pytest.approx(
        (-0.079, 0.038, 0.084), abs=5.1e-4
    )
    joint = study.joint["natural"]
    assert not isinstance(joint, Refusal)
    assert [slope.value for slope in joint.slopes] == pytest.approx([-0.077, 0.006], abs=6e-4)
    assert [slope.standard_error for slope in joint.slopes] == pytest.approx([0.026, 0.008], abs=5.1e-4)
    assert [slope.p for slope in joint.slopes] == pytest.approx([0.026, 0.48], abs=5e-3)


def test_one_model_against_six_is_refused(published: ScalingStudy) -> None:
    refused = published.result("synthetic", "training images")
    assert isinstance(refused, Refusal)
    assert refused.reason == "one model (clip_resnet50) against six"
    assert refused.verdict.kind == "refused"
    assert "one model (clip_resnet50) against six" in refused.verdict.because
    row = published.frame().set_index(["condition", "predictor"]).loc["synthetic", "training images"]
    numbers = row.drop(["models", "verdict", "because", "warnings"])
    assert numbers.isna().all(), "a refused slope has no number, not even in the table"


def test_what_must_be_said_of_the_published_points(published: ScalingStudy) -> None:
    images = fitted(published, "natural", "training images")
    said = " ".join(images.warnings)
    assert "Two models in all (clip_resnet50, clip_vit_b32) differ from the other seven" in said
    assert "clip_vit_b32 (Cook's distance 2.25)" in said
    assert "vit_b32 have none" in " ".join(fitted(published, "synthetic", "accuracy").warnings)
    assert "9 models, not the 22,680 answers" in images.effective_sample_size
    assert "7 degrees of freedom" in images.effective_sample_size
    assert isinstance(published.joint["synthetic"], Refusal)
    assert {verdict.kind for verdict in published.verdicts} == {"undecided", "refused"}
    assert all("no smallest effect was declared" in v.because for v in published.verdicts if v.kind == "undecided")


def test_models_differ_by_more_than_their_own_errors(published: ScalingStudy) -> None:
    between = [fitted(published, "natural", name).between_models for name in ("parameters", "training images")]
    assert [estimate.value for estimate in between if estimate] == pytest.approx([0.023, 0.036], abs=5.1e-4)
    assert all(estimate and estimate.low > 0 for estimate in between)
    mean_error = published_means().query("condition == 'natural'")["standard_error"].mean()
    assert mean_error == pytest.approx(0.013, abs=1e-3)


# ------------------------------------------------------------------ the parts against brute force


def random_points(seed: int, n: int, slope: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(7.5, 0.5, n)
    errors = rng.uniform(0.005, 0.03, n)
    return x, 0.8 + slope * (x - 7.5) + rng.normal(0, 0.03, n) + rng.normal(0, errors), errors


@pytest.mark.parametrize("seed", range(5))
def test_least_squares_against_closed_forms(seed: int) -> None:
    x, y, _ = random_points(seed, 8, 0.05)
    fit = least_squares(x, y)
    assert float(fit.coefficients[0]) == pytest.approx(pearsonr(x, y)[0] * y.std() / x.std())
    slope = make_slope(
        "x", float(fit.coefficients[0]), float(fit.standard_errors[0]), fit.degrees_of_freedom,
        n=8, unit="", method="", estimand="",
    )  # fmt: skip
    assert slope.p == pytest.approx(pearsonr(x, y)[1])
    centred = x - x.mean()
    assert fit.leverage == pytest.approx(1 / 8 + centred**2 / (centred @ centred))
    # Cook's distance by leaving each model out and looking at how far the fitted values move.
    fitted_values = fit.intercept + fit.coefficients[0] * x
    spread = ((y - fitted_values) ** 2).sum() / 6
    for n in range(8):
        rest = least_squares(np.delete(x, n), np.delete(y, n))
        moved = fitted_values - rest.intercept - rest.coefficients[0] * x
        assert fit.cook[n] == pytest.approx((moved @ moved) / (2 * spread))


@pytest.mark.parametrize("seed", range(4))
def test_meta_regression_against_a_brute_force_likelihood(seed: int) -> None:
    x, y, errors = random_points(seed, 10)
    fit = meta_regression(x, y, errors)

    def likelihood(tau: float) -> float:
        """Of contrasts of the means that are free of intercept and slope: another road to the same likelihood."""
        basis = np.linalg.svd(np.column_stack([np.ones(10), x]))[0][:, 2:]
        covariance = basis.T @ np.diag(errors**2 + tau**2) @ basis
        free = basis.T @ y
        return float(-0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * free @ np.linalg.solve(covariance, free))

    taus = np.linspace(0, 0.1, 4001)
    assert fit.between == pytest.approx(taus[np.argmax([likelihood(tau) for tau in taus])], abs=5e-5)
    design = np.column_stack([np.ones(10), x])
    ours = [restricted_log_likelihood(tau**2, design, y, errors**2) for tau in (0.0, 0.02, 0.05)]
    theirs = [likelihood(tau) for tau in (0.0, 0.02, 0.05)]
    assert np.diff(ours) == pytest.approx(np.diff(theirs))
    # Weighted least squares with these weights, and the error by Knapp and Hartung.
    weight = np.diag(1 / (errors**2 + fit.between**2))
    inverse = np.linalg.inv(design.T @ weight @ design)
    coefficients = inverse @ design.T @ weight @ y
    residual = y - design @ coefficients
    assert float(fit.coefficients[0]) == pytest.approx(coefficients[1])
    assert float(fit.standard_errors[0]) == pytest.approx(np.sqrt(inverse[1, 1] * (residual @ weight @ residual) / 8))
    assert fit.between_low <= fit.between <= fit.between_high
    for tau, share in ((fit.between_low, 0.975), (fit.between_high, 0.025)):
        if tau > 0:
            w = np.diag(1 / (errors**2 + tau**2))
            rest = y - design @ np.linalg.solve(design.T @ w @ design, design.T @ w @ y)
            assert rest @ w @ rest == pytest.approx(chi2.ppf(share, 8), rel=1e-6)


def test_meta_regression_with_equal_errors_is_least_squares() -> None:
    x, y, _ = random_points(3, 9)
    meta, least = meta_regression(x, y, np.full(9, 0.001)), least_squares(x, y)
    assert meta.coefficients == pytest.approx(least.coefficients)
    assert meta.standard_errors == pytest.approx(least.standard_errors)


def test_meta_regression_finds_no_variance_where_there_is_none() -> None:
    x = np.arange(8.0)
    fit = meta_regression(x, 0.5 + 0.01 * x + 0.001 * (-1) ** np.arange(8), np.full(8, 0.05))
    assert fit.between == fit.between_low == 0.0
    assert fit.between_high >= 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=4, max_size=5))
@settings(max_examples=30, deadline=None)
def test_exact_permutation_against_enumeration_with_ties(points: list[tuple[int, int]]) -> None:
    x, y = (np.array(column, dtype=float) for column in zip(*points))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return
    observed = abs(np.cov(x, y)[0, 1])
    found = [abs(np.cov(x, y[list(order)])[0, 1]) for order in permutations(range(len(y)))]
    assert permute_slope(x, y).p == pytest.approx(np.mean([value >= observed - 1e-9 for value in found]))
    result = permute_spearman(x, y)
    assert result.coefficient == pytest.approx(spearmanr(x, y)[0])
    a, b = rankdata(x), rankdata(y)
    found = [abs(np.cov(a, b[list(order)])[0, 1]) for order in permutations(range(len(y)))]
    assert result.p == pytest.approx(np.mean([value >= abs(np.cov(a, b)[0, 1]) - 1e-9 for value in found]))


def test_chunks_of_permutations_count_each_assignment_once() -> None:
    x, y, _ = random_points(0, 9, 0.08)
    exact = permute_slope(x, y)
    rng = np.random.default_rng(1)
    drawn = rng.permuted(np.tile(y, (200_000, 1)), axis=1) @ (x - x.mean())
    share = np.mean(np.abs(drawn) >= abs(y @ (x - x.mean())) - 1e-12)
    assert "362,880" in exact.method
    assert exact.p == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 200_000))


def test_more_models_than_can_be_counted_are_drawn() -> None:
    x, y, _ = random_points(2, 14, 0.05)
    order = np.random.default_rng(0).permutation(14)
    found, again, other = permute_slope(x, y), permute_slope(x[order], y[order]), permute_slope(x, y, seed=5)
    assert found == again, "neither rows nor names matter"
    assert found.error > 0 and "seed 0" in found.method
    assert found.p == pytest.approx(other.p, abs=6 * found.error)
    assert found.p == pytest.approx(float(pearsonr(x, y)[1]), abs=0.02)


# ------------------------------------------------------------------ families and intervals


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_holm_and_its_intervals_agree(p_values: list[float]) -> None:
    places = take_places("family", p_values)
    order = np.argsort(p_values, kind="stable")
    largest = 0.0
    for step, n in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - step) * p_values[n]))
        assert places[n].adjusted == pytest.approx(largest)
    for place in places:
        if 1e-6 < place.p < 1 - 1e-6 and abs(place.adjusted - 0.05) > 1e-9:
            error = 1.0 / t.isf(place.p / 2, 7)
            slope = make_slope("x", 1.0, error, 7, n=9, unit="", method="", estimand="")
            assert place.interval(slope).excludes_zero == (place.adjusted < 0.05)
            assert place.simultaneous_interval(slope).low <= place.interval(slope).low + 1e-12
    assert list(adjust_holm(p_values)) == [place.adjusted for place in places]


def test_holm_against_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = [0.2, 0.01, 0.01, 0.9, 0.03]
    assert adjust_holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_declared_families_are_corrected_apart() -> None:
    families = {
        "size": [("natural", "parameters"), ("synthetic", "parameters")],
        "accuracy": [("natural", "accuracy"), ("synthetic", "accuracy")],
    }
    study = fit_scaling(
        published_means(), published_models(), predictors=["parameters", "accuracy"], families=families,
        rung="least squares",
    )  # fmt: skip
    place = fitted(study, "natural", "parameters").place
    assert (place.family, place.size) == ("size", 2)
    assert place.adjusted == pytest.approx(2 * 0.0218, abs=1e-3)
    assert fitted(study, "natural", "parameters").verdict.kind == "declines"
    assert "2 tests, size" in fitted(study, "natural", "parameters").verdict.because
    for wrong, message in (
        ({"size": families["size"]}, "no declared family"),
        ({**families, "again": families["size"]}, "more than one family"),
        ({**families, "more": [("hard", "parameters")]}, "which is not analysed"),
    ):
        with pytest.raises(AnalysisError, match=message):
            fit_scaling(
                published_means(), published_models(), predictors=["parameters", "accuracy"], families=wrong
            )  # fmt: skip


# ------------------------------------------------------------------ verdicts


@given(st.floats(-0.2, 0.2), st.floats(1e-3, 0.1), st.integers(2, 30), st.integers(1, 8), st.floats(1e-3, 0.2))
@settings(max_examples=120, deadline=None)
def test_every_verdict_is_what_its_numbers_say(
    value: float, error: float, freedom: int, size: int, margin: float
) -> None:
    slope = make_slope(
        "parameters", value, error, freedom, n=freedom + 2, unit="proportion correct", method="", estimand=""
    )
    place = take_places("family", [slope.p, *[1.0] * (size - 1)])[0]
    from analysis.scaling import assess_equivalence

    tests = assess_equivalence(slope, margin)
    p_same, p_gain = (float(adjust_holm([p, *[1.0] * (size - 1)])[0]) for p in (tests.p, tests.p_non_improvement))
    verdict = judge("natural", slope, place, MarginTests(tests, p_same, p_gain, size))
    silent = judge("natural", slope, place, None)
    quantile = t.ppf(1 - 0.025 / size, freedom)
    one_sided = t.ppf(1 - 0.05 / size, freedom)
    if value - quantile * error > 0:
        expected = "improves"
    elif value + quantile * error < 0:
        expected = "declines"
    elif abs(value) + one_sided * error < margin:
        expected = "equivalent within m"
    elif value + one_sided * error < margin:
        expected = "does not improve by more than m"
    else:
        expected = "undecided"
    assert verdict.kind == expected
    assert verdict.kind in KINDS
    assert silent.kind == (expected if expected in ("improves", "declines") else "undecided")
    assert "no smallest effect was declared" in silent.because
    for said in (verdict, silent):
        assert str(slope.estimate) in said.sentence and f"{slope.estimate.n} models" in said.sentence
        assert said.because and "nan" not in said.because
    assert ("m" in verdict.kind.split()[-1:]) == (f"{margin:g}" in verdict.sentence)


def test_verdicts_of_the_published_slopes_with_a_declared_effect() -> None:
    study = fit_scaling(
        published_means(),
        published_models(),
        smallest_effect={"parameters": 0.01, "training images": 0.05},
        rung="least squares",
    )
    size = fitted(study, "natural", "parameters")
    assert size.verdict.kind == "does not improve by more than m"
    assert size.equivalence is not None
    assert size.equivalence.p_non_improvement == pytest.approx(0.006, abs=5e-4)
    assert fitted(study, "natural", "training images").verdict.kind == "equivalent within m"
    accuracy = fitted(study, "natural", "accuracy")
    assert accuracy.equivalence is None and accuracy.verdict.kind == "undecided"


# ------------------------------------------------------------------ refusals, rungs, degenerate input


def table_of(x: np.ndarray, y: np.ndarray, **columns: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = [f"m{n}" for n in range(len(x))]
    means = pd.DataFrame({"model": names, "condition": "natural", "value": y, **columns})
    return means, pd.DataFrame({"model": names, "family": "cnn", "parameters": 10.0**x})


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        ([6, 7, 8], "3 models, but a slope needs at least 4"),
        ([7, 7, 7, 7, 7], "all 5 models have the same parameters"),
        ([6, 7, 7, 7, 7], "one model (m0) against four"),
        ([6, 6, 7, 7, 7, 7], "two values only: two models (m0, m1) against four"),
        ([7, 7.1, 7.2, 7.3, 7.4], "span only 0.40"),
        ([6, 9, 9.01, 9.02, 9.03], "one model (m0) against four"),
    ],
)
def test_what_cannot_carry_a_slope_is_refused(x: list[float], reason: str) -> None:
    y = np.random.default_rng(0).uniform(0.7, 0.9, len(x))
    study = fit_scaling(*table_of(np.array(x, dtype=float), y), predictors=["parameters"])
    result = study.result("natural", "parameters")
    assert isinstance(result, Refusal)
    assert reason in result.reason
    assert 0 <= study.places["all slopes"]["natural", "parameters"].p <= 1
    assert study.frame()["slope"].isna().all()


def test_a_refused_contrast_holds_its_place_with_its_own_p() -> None:
    x, y = np.array([6, 7, 7, 7, 7.0]), np.array([0.9, 0.7, 0.72, 0.78, 0.71])
    study = fit_scaling(*table_of(x, y), predictors=["parameters"])
    assert study.places["all slopes"]["natural", "parameters"].p == pytest.approx(ttest_ind(y[:1], y[1:]).pvalue)


def test_means_on_a_line_and_equal_means_are_refused() -> None:
    x = np.linspace(6, 9, 6)
    for y in (0.5 + 0.05 * x / 9, np.full(6, 0.8)):
        result = fit_scaling(*table_of(x, y), predictors=["parameters"]).result("natural", "parameters")
        assert isinstance(result, Refusal) and "exactly on a line" in result.reason


def test_rungs_that_lack_something_are_refused_and_others_stand() -> None:
    x, y, errors = random_points(1, 8)
    result = fit_scaling(*table_of(x, y), predictors=["parameters"]).result("natural", "parameters")
    assert isinstance(result, ScalingResult)
    assert isinstance(result.meta_regression, Refusal) and "no positive standard error" in result.meta_regression.reason
    assert result.between_models is None and result.mixed_model is None
    assert isinstance(result.within_families, Refusal) and "one family" in result.within_families.reason
    ladder = result.ladder()
    assert ladder["rung"].tolist()[0] == "least squares" and ladder["rung"].tolist()[1] == "robust"
    assert ladder["refused"].iloc[2] != ""
    refused = fit_scaling(*table_of(x, y), predictors=["parameters"], rung="meta-regression").results[0]
    assert isinstance(refused, Refusal)
    study = fit_scaling(*table_of(x, y, standard_error=errors), predictors=["parameters"], rung="meta-regression")
    result = study.results[0]
    assert isinstance(result, ScalingResult)
    assert result.slope == result.meta_regression and result.place.p == result.slope.p
    with pytest.raises(AnalysisError, match="mixed_model"):
        fit_scaling(*table_of(x, y), predictors=["parameters"], rung="mixed model")


def test_a_mixed_model_is_the_third_rung() -> None:
    x, y, errors = random_points(1, 8)
    seen = []

    def mixed_model(condition: str, predictor: Predictor, values: pd.Series) -> MixedModelSlope | str:
        seen.append((condition, predictor.name, sorted(values.index)))
        latent = Estimate(0.3, -0.1, 0.7, "mixed model", 8, "logit per decade of parameters")
        found = Estimate(0.02, -0.01, 0.05, "mixed model", 8, predictor.unit)
        return MixedModelSlope(latent, slope_from_estimate(predictor.name, found, 6))

    study = fit_scaling(
        *table_of(x, y, standard_error=errors), predictors=["parameters"], rung="mixed model", mixed_model=mixed_model
    )
    result = study.results[0]
    assert isinstance(result, ScalingResult)
    assert seen == [("natural", "parameters", [f"m{n}" for n in range(8)])]
    assert result.slope.standard_error == pytest.approx(0.03 / t.ppf(0.975, 6))
    assert result.slope.interval() == pytest.approx((-0.01, 0.05))
    why = fit_scaling(
        *table_of(x, y), predictors=["parameters"], rung="mixed model", mixed_model=lambda *_: "it did not converge"
    ).results[0]
    assert isinstance(why, Refusal) and why.reason == "it did not converge"


def test_family_of_architectures_as_sensitivity(published: ScalingStudy) -> None:
    result = fitted(published, "natural", "parameters")
    points = result.points
    inner = points[["x", "value"]] - points.groupby("family")[["x", "value"]].transform("mean")
    assert not isinstance(result.within_families, Refusal)
    assert result.within_families.value == pytest.approx((inner["x"] @ inner["value"]) / (inner["x"] @ inner["x"]))
    assert result.within_families.degrees_of_freedom == 6
    assert isinstance(fitted(published, "synthetic", "parameters").within_families, Refusal)


def test_joint_predictors_that_are_too_alike_are_refused() -> None:
    x, y, _ = random_points(0, 12)
    means, models = table_of(x, y)
    models["training_images"] = models["parameters"] * 10.0 ** np.random.default_rng(0).normal(0, 0.02, 12)
    study = fit_scaling(means, models, predictors=["parameters", "training images"])
    joint = study.joint["natural"]
    assert isinstance(joint, Refusal) and "too alike" in joint.reason
    assert condition_number(np.column_stack([x, x])) > 1e8
    with pytest.raises(AnalysisError, match="collinear"):
        least_squares(np.column_stack([x, x]), y)


def test_order_of_rows_and_names_of_models_do_not_matter() -> None:
    means, models = published_means(), published_models()
    first = fit_scaling(means, models).frame()
    shuffled = fit_scaling(means.sample(frac=1, random_state=1), models.sample(frac=1, random_state=2)).frame()
    pd.testing.assert_frame_equal(first, shuffled)
    names = {name: f"z{9 - n}" for n, name in enumerate(models["model"])}
    renamed = fit_scaling(
        means.assign(model=means["model"].map(names)), models.assign(model=models["model"].map(names))
    ).frame()
    words = ["leverage_of", "cook_of", "because", "warnings"]
    pd.testing.assert_frame_equal(first.drop(columns=words), renamed.drop(columns=words), rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda means, models: (means.drop(columns="value"), models), "no column 'value'"),
        (lambda means, models: (pd.concat([means, means.iloc[:1]]), models), "two means"),
        (lambda means, models: (means, pd.concat([models, models.iloc[:1]])), "two rows"),
        (lambda means, models: (means, models.iloc[1:]), "has no row for googlenet"),
        (lambda means, models: (means.assign(value=np.nan), models), "is not a number"),
        (lambda means, models: (means.iloc[:0], models), "no means"),
        (lambda means, models: (means, models.assign(parameters=-1.0)), "positive number"),
        (lambda means, models: (means, models.assign(top1=76.1)), "share between 0 and 1"),
        (lambda means, models: (means, models.drop(columns="top1")), "no column 'top1'"),
    ],
)
def test_tables_that_make_no_sense_are_named(change: object, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        fit_scaling(*change(published_means(), published_models()))  # type: ignore[operator]


def test_unknown_names_suggest_the_near_one() -> None:
    with pytest.raises(NameNotFound, match="parameters"):
        fit_scaling(published_means(), published_models(), predictors=["parametres"])
    with pytest.raises(NameNotFound):
        fit_scaling(published_means(), published_models(), smallest_effect={"size": 0.03})


def test_models_without_a_predictor_are_left_out_and_named() -> None:
    models = published_models()
    models["top1"] = models["top1"].where(models["model"] != "vit_b32")
    result = fitted(fit_scaling(published_means(), models, predictors=["accuracy"]), "natural", "accuracy")
    assert len(result.points) == 8
    assert any("vit_b32" in warning for warning in result.warnings)


def test_too_few_known_values_are_told_from_too_few_models() -> None:
    models = published_models()
    models["top1"] = models["top1"].where(models["model"].isin(["googlenet", "resnet50"]))
    refused = fit_scaling(published_means(), models, predictors=["accuracy"]).result("natural", "accuracy")
    assert isinstance(refused, Refusal)
    assert refused.reason == "2 models, but a slope needs at least 4, and the predictor is unknown for the other 7"


def test_cards_make_the_table_of_models() -> None:
    table = models_from_cards(["googlenet", "resnet50"]).set_index("model")
    assert table.loc["googlenet", "parameters"] == 7_066_380
    assert table.loc["googlenet", "top1"] == pytest.approx(0.6915)
    assert predictor_values(table.reset_index(), "parameters")["googlenet"] == pytest.approx(np.log10(7_066_380))


def test_a_condition_without_means_is_refused_and_holds_its_place() -> None:
    study = fit_scaling(
        published_means(), published_models(), predictors=["parameters"], conditions=["natural", "hard"]
    )
    refused = study.result("hard", "parameters")
    assert isinstance(refused, Refusal) and refused.reason == "0 models, but a slope needs at least 4"
    assert study.places["all slopes"]["hard", "parameters"].p == 1.0
    assert fitted(study, "natural", "parameters").place.size == 2


def test_means_come_from_estimated_proportions() -> None:
    from analysis.power.simulation import Layout, Population, simulate_judgements
    from analysis.proportions import estimate_proportions

    x = np.linspace(6, 8, 6)
    layout = Layout(models=6, units=12, tasks=2, sessions=10, trials=12)
    table = simulate_judgements(layout, Population(model=0.1), seed=1, predictor=x)
    means = tabulate_means(estimate_proportions(table, by=("model", "condition")))
    models = pd.DataFrame({"model": [f"model-{n}" for n in range(6)], "family": "cnn", "parameters": 10**x})
    result = fit_scaling(means, models, predictors=["parameters"]).results[0]
    assert isinstance(result, ScalingResult) and not isinstance(result.meta_regression, Refusal)
    assert "6 models, not the 720 answers" in result.effective_sample_size
    truth = table.groupby("model", observed=True)["correct"].mean()
    assert dict(zip(means["model"], means["value"])) == pytest.approx(truth.to_dict(), abs=0.02)
    with pytest.raises(AnalysisError, match="by model; slopes need"):
        tabulate_means(estimate_proportions(table, by=("model",)))


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, ".000"), (-1.75e-5, "-.00002"), (0.000325, ".0003"), (-0.0421, "-.042"), (1.5, "1.500"), (-1e-12, ".000")],
)
def test_ends_of_intervals_are_never_rounded_onto_zero(value: float, written: str) -> None:
    assert _number(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.04996, ".04996"), (0.0499, ".0499"), (0.0501, ".050"), (0.0004, "< .001"), (0.99999, "1.000")],
)
def test_p_values_are_never_rounded_across_the_level(value: float, written: str) -> None:
    assert spell_p(value) == written
