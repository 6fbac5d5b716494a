"""Bayes factors against R's BayesFactor, brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import cauchy, norm

from analysis.published import published_means, published_models
from analysis.scaling import ScalingResult, fit_scaling, jzs_bayes_factor, regression_bayes_factor, savage_dickey
from benchmark.errors import AnalysisError


@pytest.mark.parametrize(
    ("r_squared", "n", "expected"), [(0.5499, 9, 3.1006), (0.0015, 9, 0.5086), (0.3389, 7, 1.0111)]
)
def test_agrees_with_r(r_squared: float, n: int, expected: float) -> None:
    """BayesFactor 0.9.12's linearReg.R2stat(N, p = 1, R2, rscale = sqrt(2) / 4)."""
    assert jzs_bayes_factor(r_squared, n) == pytest.approx(expected, abs=5.1e-5)


@pytest.mark.parametrize(("seed", "n", "scale"), [(0, 9, 0.354), (1, 7, 0.707), (2, 12, 1.0)])
def test_agrees_with_integration_over_the_slope(seed: int, n: int, scale: float) -> None:
    """The same model by another road: integrate the marginal likelihood over a Cauchy-distributed standardised slope.

    With the intercept and the error variance integrated out under their usual priors, the likelihood of a standardised
    slope b is an integral over the error variance, done here by quadrature on a grid.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = 0.8 * x + rng.normal(size=n)
    x = (x - x.mean()) / x.std()
    y = y - y.mean()
    total, product = float(y @ y), float(x @ y)

    sigma = np.exp(0.5 * np.log(total / n) + np.linspace(-5, 5, 801))

    def over_slopes(slopes: np.ndarray) -> np.ndarray:
        """Up to what both hypotheses share: over sigma, with slope = b sigma."""
        b = slopes[:, None]
        misfit = total / sigma**2 - 2 * b * product / sigma + b**2 * n
        return np.asarray(np.trapezoid(sigma ** -(n - 1.0) * np.exp(-misfit / 2), np.log(sigma), axis=1))

    null = over_slopes(np.zeros(1))[0]
    slopes = np.linspace(0, 12, 2401)
    above = np.trapezoid(over_slopes(slopes) * cauchy.pdf(slopes, scale=scale), slopes) / null
    below = np.trapezoid(over_slopes(-slopes) * cauchy.pdf(slopes, scale=scale), slopes) / null
    correlation = product / np.sqrt(total * n)
    found = regression_bayes_factor(float(correlation), n, scale=scale)
    assert found.bf10 == pytest.approx(above + below, rel=1e-3)
    assert found.bf_positive == pytest.approx(2 * above, rel=1e-3)
    assert found.bf_negative == pytest.approx(2 * below, rel=5e-3)


def test_published_slopes() -> None:
    study = fit_scaling(published_means(), published_models())
    expected = {
        ("natural", "training images"): (2.98, 1.97), ("natural", "accuracy"): (1.94, 1.60),
        ("synthetic", "accuracy"): (0.11, 0.47), ("natural", "parameters"): (0.08, 0.32),
        ("synthetic", "parameters"): (0.63, 0.99),
    }  # fmt: skip
    for test, (bic, jzs) in expected.items():
        result = study.result(*test)
        assert isinstance(result, ScalingResult)
        assert result.bayes_factor.bf01 == pytest.approx(jzs, abs=5.1e-3)
        assert result.bayes_factor.bf01_bic == pytest.approx(bic, abs=5.1e-3)
        assert "prior" in str(result.bayes_factor) and "BIC, rough" in str(result.bayes_factor)
        assert result.bayes_factor.bf_negative > result.bayes_factor.bf10 > result.bayes_factor.bf_positive


def test_one_sided_versions_average_to_the_two_sided_one_and_mirror() -> None:
    found, mirrored = regression_bayes_factor(0.4, 9), regression_bayes_factor(-0.4, 9)
    assert 0 <= found.numerical_error < 1e-8 and "relative error" in found.method
    assert (found.bf_negative + found.bf_positive) / 2 == pytest.approx(found.bf10)
    assert found.bf_negative == pytest.approx(mirrored.bf_positive)
    none = regression_bayes_factor(0.0, 9)
    assert none.bf_negative == pytest.approx(none.bf_positive) == pytest.approx(none.bf10)
    assert none.bf01 > 1


def test_sweep_holds_the_scale_asked_for() -> None:
    found = regression_bayes_factor(0.3, 9, scale=0.42)
    assert 0.42 in found.sweep["scale"].tolist()
    assert found.sweep["scale"].is_monotonic_increasing
    assert found.sweep["bf01"].is_monotonic_increasing, "wider priors favour the null"
    assert found.sweep.set_index("scale").loc[0.42, "bf10"] == pytest.approx(found.bf10)


@pytest.mark.parametrize("n", [3, 9, 40, 2000])
def test_extreme_correlations_stay_finite(n: int) -> None:
    for correlation in (0.0, 1e-9, 0.999, -0.999999):
        found = regression_bayes_factor(correlation, n)
        assert np.isfinite(found.sweep.to_numpy()).all()
        assert found.bf10 > 0


def test_impossible_requests_are_named() -> None:
    for r_squared, n, scale in ((1.0, 9, 0.35), (-0.1, 9, 0.35), (float("nan"), 9, 0.35), (0.2, 2, 0.35), (0.2, 9, 0)):
        with pytest.raises(AnalysisError):
            jzs_bayes_factor(r_squared, n, scale=scale)


@pytest.mark.parametrize("centre", [0.0, 0.5, 1.5])
def test_savage_dickey_on_a_normal_posterior(centre: float) -> None:
    draws = np.random.default_rng(0).normal(centre, 1, (4, 5000))
    found = savage_dickey(draws, float(norm.pdf(0, 0, 3)))
    truth = norm.pdf(0, centre, 1) / norm.pdf(0, 0, 3)
    assert found.bf01 == pytest.approx(truth, rel=0.06)
    assert found.low < found.bf01 < found.high
    assert found.bf01_normal == pytest.approx(truth, rel=0.05)
    assert found.bf10 == pytest.approx(1 / found.bf01)


def test_savage_dickey_refuses_what_draws_cannot_tell() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(AnalysisError, match="lie beyond"):
        savage_dickey(rng.normal(6, 1, 4000), 0.1)
    with pytest.raises(AnalysisError, match="lie beyond"):
        savage_dickey(rng.normal(0, 1, 150), 0.1)
    with pytest.raises(AnalysisError, match="finite"):
        savage_dickey([0.0, float("nan")] * 500, 0.1)
    with pytest.raises(AnalysisError, match="positive"):
        savage_dickey(rng.normal(0, 1, 4000), 0.0)
