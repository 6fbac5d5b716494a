"""That fitted mixed models speak as statsmodels' fits do, and that what they say is right."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy.special import expit
from scipy.stats import chi2, kstest

from analysis import MixedModel
from analysis.mixed_model import MixedModelFit
from analysis.mixed_model.design import split_formula
from analysis.power import Layout, Population
from analysis.power.simulation import simulate_judgements
from benchmark.errors import AnalysisError


def studied(seed: int = 3, unit: float = 0.8) -> pd.DataFrame:
    layout = Layout(models=5, units=10, tasks=4, conditions=("natural", "synthetic"), sessions=10, trials=20)
    return simulate_judgements(
        layout, Population(conditions={"synthetic": -0.5}, unit=unit), seed=seed, predictor=np.linspace(-1, 1, 5)
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return studied()


@pytest.fixture(scope="module")
def fit(table: pd.DataFrame) -> MixedModelFit:
    return MixedModel(("condition",), ("unit", "participant", "model", "model:condition")).fit(table)


def likelihood_fit(table: pd.DataFrame, fixed: str, *random: str) -> MixedModelFit:
    return MixedModel(fixed, random, method="propagation-joint", misleading=False).fit(table)


@pytest.fixture(scope="module")
def both(table: pd.DataFrame) -> tuple[MixedModelFit, object]:
    data = table.assign(correct=table["correct"].astype(int), condition=table["condition"].astype(str))
    reference = smf.logit("correct ~ condition * predictor", data).fit(disp=False)
    return MixedModel("1 + condition * predictor", (), guess=0.0, method="joint").fit(data), reference


class TestAsStatsmodels:
    """Without random effects and guessing the model is a logistic regression."""

    @pytest.mark.parametrize("name", ["params", "bse", "tvalues", "pvalues"])
    def test_columns_of_the_coefficients(self, both: tuple[MixedModelFit, object], name: str) -> None:
        own, reference = both
        found, wanted = getattr(own, name), getattr(reference, name).rename({"Intercept": "intercept"})
        pd.testing.assert_series_equal(found[wanted.index], wanted, rtol=1e-4, atol=1e-8, check_names=False)

    def test_numbers_of_the_fit(self, both: tuple[MixedModelFit, object]) -> None:
        own, reference = both
        for name in ("llf", "aic", "bic", "df_resid", "df_model", "nobs"):
            assert getattr(own, name) == pytest.approx(getattr(reference, name), rel=1e-6), name
        wanted = reference.conf_int(0.1).rename({"Intercept": "intercept"})  # type: ignore[attr-defined]
        pd.testing.assert_frame_equal(own.conf_int(0.1).loc[wanted.index], wanted, rtol=1e-4)
        wanted = reference.cov_params().rename({"Intercept": "intercept"}, axis="index")  # type: ignore[attr-defined]
        pd.testing.assert_frame_equal(
            own.cov_params(), wanted.set_axis(own.params.index, axis="columns"), rtol=1e-3, check_names=False
        )

    def test_wald_and_prediction(self, both: tuple[MixedModelFit, object], table: pd.DataFrame) -> None:
        own, reference = both
        asked = ["condition[T.synthetic]", "predictor"]
        wanted = reference.wald_test(  # type: ignore[attr-defined]
            np.array([[0.0, 1, 0, 0], [0, 0, 1, 0]]), scalar=True, use_f=False
        )
        assert own.params.index.tolist()[:3] == ["intercept", *asked]
        found = own.wald_test(asked)
        assert found.statistic * found.degrees_of_freedom == pytest.approx(float(wanted.statistic), rel=1e-3)
        assert found.p == pytest.approx(float(wanted.pvalue), rel=1e-3) and math.isinf(
            found.residual_degrees_of_freedom
        )
        rows = table.iloc[::37]
        data = rows.assign(condition=rows["condition"].astype(str))
        pd.testing.assert_series_equal(own.predict(rows), reference.predict(data), rtol=1e-5, check_names=False)  # type: ignore[attr-defined]


def test_the_summary_is_statsmodels_own(fit: MixedModelFit) -> None:
    shown = fit.summary()
    for text in (shown.as_text(), shown.as_html(), shown.as_latex()):
        assert "condition" in text and "Answers" in text and "participant" in text
    assert f"{fit.params['intercept']:.4f}" in shown.as_text()


def test_a_wald_test_of_one_effect_is_its_t_test(fit: MixedModelFit) -> None:
    name = "condition[T.synthetic]"
    found = fit.wald_test(f"{name} = 0")
    assert found.p == pytest.approx(fit.pvalues[name], rel=1e-9)
    assert found.statistic == pytest.approx(fit.tvalues[name] ** 2, rel=1e-9)
    assert found.residual_degrees_of_freedom == fit.degrees_of_freedom[name]
    exact = fit.wald_test(f"{name} = {float(fit.params[name])!r}")
    assert exact.p == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("hypothesis", ["colour = 0", "condition[T.synthetic] = x y", "condition[T.synthetic], 2 *"])
def test_a_hypothesis_that_cannot_be_read_is_named(fit: MixedModelFit, hypothesis: str) -> None:
    with pytest.raises(AnalysisError, match=r"can't be read.*condition\[T.synthetic\] = 0"):
        fit.wald_test(hypothesis)


def test_a_hypothesis_said_twice_is_refused(fit: MixedModelFit) -> None:
    with pytest.raises(AnalysisError, match="twice"):
        fit.wald_test(["intercept = 0", "2 * intercept = 0"])


def test_contrasts_are_differences_of_effects(fit: MixedModelFit) -> None:
    (found,) = fit.contrasts("condition")
    effect = fit.wald("condition[T.synthetic]", 0.95)
    assert (found.first, found.second) == ("natural", "synthetic")
    assert found.difference.value == pytest.approx(-effect.value)
    assert (found.difference.low, found.difference.high) == pytest.approx((-effect.high, -effect.low))
    assert found.difference.estimand == effect.estimand
    assert found.p == pytest.approx(fit.pvalues["condition[T.synthetic]"])
    with pytest.raises(AnalysisError, match="no column 'colour'"):
        fit.contrasts("colour")


class TestLikelihoodRatio:
    def test_against_its_formula(self, table: pd.DataFrame) -> None:
        small = likelihood_fit(table, "1", "unit")
        fixed = likelihood_fit(table, "1 + condition", "unit")
        random = likelihood_fit(table, "1 + condition", "unit", "participant")
        found = fixed.compare(small)
        assert found.statistic == pytest.approx(2 * (fixed.llf - small.llf)) and found.degrees_of_freedom == 1
        assert found.p == pytest.approx(chi2.sf(found.statistic, 1))
        found = random.compare(fixed)
        assert found.p == pytest.approx(chi2.sf(found.statistic, 1) / 2) and "half" in found.reference
        found = random.compare(small)
        assert found.p == pytest.approx((chi2.sf(found.statistic, 1) + chi2.sf(found.statistic, 2)) / 2)

    def test_what_cannot_be_compared(self, table: pd.DataFrame, fit: MixedModelFit) -> None:
        small, large = likelihood_fit(table, "1", "unit"), likelihood_fit(table, "1 + condition", "unit")
        with pytest.raises(AnalysisError, match="not a part"):
            small.compare(large)
        with pytest.raises(AnalysisError, match="not a part"):
            large.compare(large)
        with pytest.raises(AnalysisError, match="method"):
            fit.compare(small)
        with pytest.raises(AnalysisError, match="same answers"):
            large.compare(likelihood_fit(table.iloc[1:], "1", "unit"))
        restricted = [MixedModel(fixed, ("unit",), misleading=False).fit(table) for fixed in ("1", "1 + condition")]
        with pytest.raises(AnalysisError, match=r'"propagation-joint" in MixedModel\(...\) or'):
            restricted[1].compare(restricted[0])


class TestPrediction:
    def test_new_levels_are_integrated_out(self, fit: MixedModelFit) -> None:
        rows = pd.DataFrame({"condition": ["natural", "synthetic"]}, index=[7, 9])
        rng = np.random.default_rng(0)
        drawn = rng.normal(0, math.sqrt((fit.sds**2).sum()), 400_000)
        eta = fit.params["intercept"] + np.array([0.0, fit.params["condition[T.synthetic]"]])
        wanted = [0.5 + 0.5 * expit(own + drawn).mean() for own in eta]
        found = fit.predict(rows)
        assert found.index.tolist() == [7, 9]
        assert found.to_numpy() == pytest.approx(wanted, abs=0.001)
        assert found.equals(fit.predict(rows, levels="new"))

    def test_known_levels_keep_their_own(self, fit: MixedModelFit, table: pd.DataFrame) -> None:
        known, new = fit.predict(), fit.predict(levels="new")
        shares = table.assign(known=known).groupby("unit", observed=True)[["known", "correct"]].mean()
        assert shares.corr().iloc[0, 1] > 0.8 and new.nunique() == 2
        pd.testing.assert_series_equal(fit.predict(table), known)
        assert fit.predict(table.drop(columns="participant")).nunique() < known.nunique()

    def test_what_is_missing_is_named(self, fit: MixedModelFit) -> None:
        with pytest.raises(AnalysisError, match="condition"):
            fit.predict(pd.DataFrame({"unit": ["a"]}))
        with pytest.raises(AnalysisError, match="'known' and 'new'"):
            fit.predict(levels="all")  # type: ignore[arg-type]


def test_residuals_are_normal_where_the_model_holds_and_not_where_it_does_not(table: pd.DataFrame) -> None:
    drawn = table.assign(correct=np.random.default_rng(4).random(len(table)) < 0.8)
    fit = MixedModel("1", (), misleading=False).fit(drawn)
    residuals = fit.residuals(seed=1)
    assert kstest(residuals["residual"], "norm").pvalue > 0.01
    assert residuals.index.equals(fit.table.index)
    pd.testing.assert_frame_equal(residuals, fit.residuals(seed=1))
    assert not residuals["residual"].equals(fit.residuals(seed=2)["residual"])
    half = np.arange(len(table)) % 2 == 0
    mixed = drawn.assign(correct=drawn["correct"] | half)
    by_half = MixedModel("1", (), misleading=False).fit(mixed).residuals(seed=1)["residual"]
    assert by_half[half].mean() - by_half[~half].mean() > 0.3


def test_nested_factors_are_spelled_as_in_lme4() -> None:
    assert split_formula("correct ~ x + (1 | model/unit)") == ("correct", "x", ("model", "model:unit"))
    assert split_formula("correct ~ x + (1 || a) + (1|a/b/c)")[2] == ("a", "a:b", "a:b:c")


def test_groups_without_fixed_effects_have_no_contrasts(fit: MixedModelFit) -> None:
    with pytest.raises(AnalysisError, match="no fixed effect"):
        fit.contrasts("model")
