"""The size of tests of a slope when there is none: the recommended one keeps it, the naive one does not.

Nine models of the published sizes differ by chance, with a standard deviation of .25 on the latent scale, and the
predictor has no effect. A logistic regression on single answers takes thousands of answers for its sample size; least
squares on the models' means takes the models.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.published import published_models
from analysis.scaling import ScalingResult, fit_scaling, predictor_values
from analysis.scaling.permutation import permute_slope
from analysis.scaling.regression import least_squares, make_slope, meta_regression
from analysis.scaling.robust import robust_weights

DRAWS = 300
LAYOUT = Layout(units=20, tasks=3, sessions=16, trials=20)
"""An eighth of the paper's answers a model, so that three hundred experiments take seconds."""


def score_test(x: np.ndarray, right: np.ndarray, asked: np.ndarray) -> float:
    """Return the p-value of a logistic regression on single answers, by its score test.

    The predictor is the same for all of a model's answers, so that counts per model hold all that the regression on
    single answers knows.
    """
    mean = right.sum() / asked.sum()
    centred = x - (asked @ x) / asked.sum()
    statistic = centred @ (right - asked * mean) / np.sqrt(mean * (1 - mean) * (asked @ centred**2))
    return float(2 * norm.sf(abs(statistic)))


@pytest.fixture(scope="module")
def experiments() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictor; and of each experiment and model, right answers, answers, and standard error over units."""
    x = predictor_values(published_models(), "parameters").to_numpy()
    right, asked, errors = [], [], []
    for seed in range(DRAWS):
        table = simulate_judgements(LAYOUT, Population(model=0.25), seed=seed)
        model, unit = (table[name].cat.codes.to_numpy() for name in ("model", "unit"))
        correct = table["correct"].to_numpy()
        right.append(np.bincount(model, correct))
        asked.append(np.bincount(model))
        means = (np.bincount(unit, correct) / np.bincount(unit)).reshape(LAYOUT.models, LAYOUT.units)
        errors.append(means.std(axis=1, ddof=1) / np.sqrt(LAYOUT.units))
    return x, np.array(right), np.array(asked), np.array(errors)


def share_of(p_values: list[float]) -> float:
    return float(np.mean(np.array(p_values) < 0.05))


def test_least_squares_on_means_keeps_its_size_and_the_naive_test_does_not(experiments) -> None:  # type: ignore[no-untyped-def]
    x, right, asked, _ = experiments
    naive = share_of([score_test(x, *experiment) for experiment in zip(right, asked)])
    p_values = []
    for experiment in right / asked:
        fit = least_squares(x, experiment)
        p_values.append(
            make_slope("x", float(fit.coefficients[0]), float(fit.standard_errors[0]), fit.degrees_of_freedom,
                       n=9, unit="", method="", estimand="").p
        )  # fmt: skip
    assert naive > 0.20
    assert 0.03 < share_of(p_values) < 0.08


def test_other_recommended_tests_keep_theirs(experiments) -> None:  # type: ignore[no-untyped-def]
    x, right, asked, errors = experiments
    meta = []
    for experiment, error in zip(right / asked, errors):
        fit = meta_regression(x, experiment, error)
        meta.append(
            make_slope("x", float(fit.coefficients[0]), float(fit.standard_errors[0]), fit.degrees_of_freedom,
                       n=9, unit="", method="", estimand="").p
        )  # fmt: skip
    assert 0.03 < share_of(meta) < 0.08
    # All 9! assignments are too many for each of so many experiments; seven of the models carry 7! each.
    exact = [permute_slope(x[:7], experiment[:7]).p for experiment in right / asked]
    assert 0.03 < share_of(exact) < 0.08


def test_the_object_computes_the_very_test_whose_size_was_measured(experiments) -> None:  # type: ignore[no-untyped-def]
    import pandas as pd

    x, right, asked, _ = experiments
    models = published_models()
    value = right[0] / asked[0]
    means = pd.DataFrame({"model": models["model"], "condition": "natural", "value": value})
    result = fit_scaling(means, models, predictors=["parameters"]).results[0]
    assert isinstance(result, ScalingResult)
    fit = least_squares(x, value)
    assert (result.least_squares.value, result.least_squares.standard_error) == pytest.approx(
        (float(fit.coefficients[0]), float(fit.standard_errors[0]))
    )
    weights, parts, freedom = robust_weights(x, np.arange(9))
    assert result.rung == "robust" and result.slope == result.robust
    assert (result.slope.value, result.slope.standard_error, result.slope.degrees_of_freedom) == pytest.approx(
        (float(weights @ value), float(np.sqrt(((parts @ value) ** 2).sum())), freedom)
    )


def test_the_score_test_is_that_of_the_regression_on_single_answers() -> None:
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    x = predictor_values(published_models(), "parameters").to_numpy()
    table = simulate_judgements(LAYOUT, Population(model=0.1), seed=7)
    model = table["model"].cat.codes.to_numpy()
    design = np.column_stack([np.ones(len(table)), x[model]])
    null = GLM(table["correct"].to_numpy(), np.ones(len(table)), family=Binomial()).fit()
    p = null.score_test(exog_extra=design[:, 1:])[1]
    ours = score_test(x, np.bincount(model, table["correct"]), np.bincount(model))
    assert ours == pytest.approx(float(np.squeeze(p)), rel=1e-6)
    wald = float(GLM(table["correct"].to_numpy(), design, family=Binomial()).fit().pvalues[1])
    assert ours == pytest.approx(wald, rel=0.05, abs=0.005)


def test_a_true_slope_is_found() -> None:
    """Power at a slope of about ten points per decade, models far apart in size: recovered without bias."""
    x = np.linspace(6, 9, 9)
    values = []
    for seed in range(40):
        table = simulate_judgements(LAYOUT, Population(model=0.1, slope=0.5), seed=seed, predictor=x - 7.5)
        truth = table.groupby("model", observed=True)["probability"].mean().to_numpy()
        found = table.groupby("model", observed=True)["correct"].mean().to_numpy()
        values.append((least_squares(x, found).coefficients[0], least_squares(x, truth).coefficients[0]))
    found, truth = np.array(values).T
    assert np.mean(found - truth) == pytest.approx(0.0, abs=3 * np.std(found - truth) / np.sqrt(40))
    assert np.mean(found) > 0.03
