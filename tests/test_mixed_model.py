"""The mixed model against brute force, its invariances, and what it makes of degenerate answers."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2, norm

from analysis.mixed_model import (
    ExpectationPropagation,
    Laplace,
    Link,
    MixedModel,
    estimate_guess_rates,
    estimate_lapse,
    guessing_sensitivity,
    lapse_sweep,
    learning_sensitivity,
)
from analysis.mixed_model.design import ModelMatrix, default_random, lay_out_design, split_formula
from analysis.mixed_model.expectation_propagation import normal_mixture
from analysis.mixed_model.factorisation import Factorisation
from analysis.mixed_model.marginal_means import integrate
from analysis.mixed_model.misleading import EVIDENCE, Cells, Mixture
from analysis.mixed_model.optimisation import maximise
from analysis.mixed_model.structure import find_structure
from analysis.mixed_model.system import System
from analysis.power.simulation import Layout, Population, simulate_judgements
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

RANDOM = ("unit", "participant", "model", "unit:condition", "task")


def tiny(crossed: bool = False, seed: int = 1, models: int = 3, sessions: int = 7) -> pd.DataFrame:
    layout = Layout(
        models=models,
        units=5,
        tasks=3,
        conditions=("natural", "synthetic"),
        sessions=sessions,
        trials=5,
        crossed=crossed,
    )
    population = Population(conditions={"synthetic": -0.5}, unit_condition=0.5, task=0.4)
    return simulate_judgements(layout, population, seed=seed, predictor=np.linspace(-1, 1, models))


def studied(seed: int = 3) -> pd.DataFrame:
    layout = Layout(models=6, units=14, tasks=4, conditions=("natural", "synthetic"), sessions=14, trials=24)
    population = Population(intercept=1.0, conditions={"synthetic": -0.6}, slope=0.4, unit=0.9, participant=0.5)
    return simulate_judgements(layout, population, seed=seed, predictor=np.linspace(-1, 1, 6))


STUDIED = studied()
MODEL = MixedModel("condition * predictor", ("unit", "participant", "model"))


@pytest.fixture(scope="module")
def fit():
    return MODEL.fit(STUDIED)


def system_of(table: pd.DataFrame, border_levels: int, random: tuple[str, ...] = RANDOM) -> System:
    design = lay_out_design(table, "condition*predictor", random, guess=0.5, lapse=0.01)
    return System(design, find_structure(design, border_levels=border_levels))


def rows_of(system: System, sds: np.ndarray) -> np.ndarray:
    """The matrix A of ``factorisation``, written out."""
    made = np.zeros((system.design.size, system.size))
    for position, sd in zip(system.positions, sds):
        made[np.arange(len(made)), position] = sd
    made[:, system.fixed_start :] = system.design.fixed
    return made


class TestLink:
    @settings(deadline=None)  # a busy machine is no error
    @given(st.sampled_from(["logit", "probit"]), st.floats(-5, 5), st.floats(0, 0.5), st.floats(0, 0.1), st.booleans())
    def test_derivatives_are_those_of_the_log_likelihood(self, name, eta, guess, lapse, correct):
        link, step = Link(name, guess, lapse), 1e-4
        places = np.array([eta - step, eta, eta + step])
        terms = link.terms(places, np.full(3, correct))
        which = 0 if correct else 1
        np.testing.assert_allclose(link.log_chances(places)[which], terms.log_likelihood, rtol=1e-13)
        np.testing.assert_allclose(link.scores(places)[which], terms.score, rtol=1e-12)

        def slope(values):
            return (values[2] - values[0]) / (2 * step)

        def close(value):
            return pytest.approx(value, rel=1e-5, abs=1e-6)

        assert slope(terms.log_likelihood) == close(terms.score[1])
        assert -slope(terms.score) == close(terms.observed[1])
        assert slope(terms.observed) == close(terms.observed_slope[1])
        assert slope(terms.expected) == close(terms.expected_slope[1])

    @settings(deadline=None)  # a busy machine is no error
    @given(st.sampled_from(["logit", "probit"]), st.floats(-6, 6), st.floats(0, 0.5), st.floats(0, 0.1))
    def test_expected_information_is_the_mean_of_the_observed_one(self, name, eta, guess, lapse):
        link = Link(name, guess, lapse)
        right, wrong = (link.terms(np.array([eta]), np.array([correct])) for correct in (True, False))
        chance = link.probability([eta])[0]
        mean = chance * right.observed[0] + (1 - chance) * wrong.observed[0]
        assert mean == pytest.approx(right.expected[0], rel=1e-6, abs=1e-12)

    def test_extreme_predictors_give_finite_terms(self):
        for name, lapse, correct in itertools.product(("logit", "probit"), (0.0, 0.02), (True, False)):
            for guess in (0.0, 0.5):
                terms = Link(name, guess, lapse).terms(np.array([-1e4, 1e4]), np.array([correct, correct]))
                assert all(np.isfinite(values).all() for values in vars(terms).values())

    def test_logistic_function_is_a_mixture_of_normal_ones(self):
        scales, weights = normal_mixture("logit")
        eta = np.linspace(-30, 30, 2001)
        assert weights.sum() == pytest.approx(1)
        assert np.abs(norm.cdf(eta[:, None] / scales) @ weights - expit(eta)).max() < 2e-7

    @settings(deadline=None)  # a busy machine is no error
    @given(st.sampled_from(["logit", "probit"]), st.floats(-4, 4), st.floats(0, 4))
    def test_integrals_over_a_normal_variable(self, name, mean, variance):
        points, weights = np.polynomial.hermite_e.hermegauss(100)
        below, _ = Link(name).distribution(mean + math.sqrt(variance) * points)
        exact = below @ weights / weights.sum()
        assert integrate(np.array([mean]), variance, name)[0][0] == pytest.approx(exact, abs=1e-7)


class TestFactorisation:
    @pytest.mark.parametrize("crossed", [False, True])
    @pytest.mark.parametrize("border_levels", [0, 2, 3, 15, 40])
    @pytest.mark.parametrize("fixed", [False, True])
    def test_against_dense_matrices(self, crossed, border_levels, fixed):
        system = system_of(tiny(crossed), border_levels)
        rng = np.random.default_rng(0)
        sds, weights = rng.uniform(0.3, 1.2, len(RANDOM)), rng.uniform(0.1, 1, system.design.size)
        rows = rows_of(system, sds)
        hessian = rows.T @ (weights[:, None] * rows)
        hessian[np.arange(system.fixed_start), np.arange(system.fixed_start)] += 1
        size = system.size if fixed else system.fixed_start
        inverse = np.linalg.inv(hessian[:size, :size])
        right = rng.normal(size=system.size)
        right[size:] = 0
        made = Factorisation(system, sds, weights)
        selected = made.select_inverse(fixed=fixed)
        assert made.log_determinant(fixed=fixed) == pytest.approx(np.linalg.slogdet(hessian[:size, :size])[1])
        assert made.solve(right, fixed=fixed)[:size] == pytest.approx(inverse @ right[:size])
        assert selected.variances[:size] == pytest.approx(np.diag(inverse))
        own = rows[:, :size]
        assert selected.leverages == pytest.approx(np.einsum("ij,jk,ik->i", own, inverse, own))

    def test_nested_people_fall_into_a_block_a_model_and_crossed_ones_into_one(self):
        nested = find_structure(system_of(tiny(), 2).design, border_levels=2)
        crossed = find_structure(system_of(tiny(crossed=True), 2).design, border_levels=2)
        assert len(nested.blocks) - 1 == 3
        assert len(crossed.blocks) - 1 == 1
        chain = [nested.chain[place].factor for place in range(4)]
        assert [RANDOM[which] for which in chain] == ["task", "unit:condition", "unit", "model"]


def engines(system: System, link: Link):
    for objective, curvature in itertools.product(("joint", "restricted", "penalised"), ("observed", "expected")):
        yield f"{objective} {curvature}", Laplace(system, link, objective, curvature)
    for objective in ("joint", "restricted"):
        yield f"propagation {objective}", ExpectationPropagation(system, link, objective)


class TestLikelihood:
    @pytest.mark.parametrize("name", ["logit", "probit"])
    def test_gradients_are_those_of_differences(self, name):
        system = system_of(tiny(sessions=24), 2)
        log_sds, coefficients = np.log([0.8, 0.5, 0.4, 0.6, 0.3]), np.array([0.7, -0.3, 0.2, 0.1])
        for title, engine in engines(system, Link(name, 0.5, 0.01)):
            point = log_sds if engine.free_fixed else np.concatenate([log_sds, coefficients])

            def value(place, engine=engine):
                return engine.evaluate(place[:5], None if engine.free_fixed else place[5:])

            steps = 1e-4 * np.eye(len(point))
            differences = [(value(point + step).value - value(point - step).value) / 2e-4 for step in steps]
            assert value(point).gradient == pytest.approx(np.array(differences), abs=2e-5), title

    def test_laplace_against_a_general_optimiser(self):
        system = system_of(tiny(), 2)
        link, sds, coefficients = (
            Link("logit", 0.5, 0.01),
            np.array([0.8, 0.5, 0.4, 0.6, 0.3]),
            np.array([0.7, -0.3, 0.2, 0]),
        )
        rows = rows_of(system, sds)
        size, given_part = system.fixed_start, rows[:, system.fixed_start :] @ coefficients

        def penalised(effects):
            terms = link.terms(given_part + rows[:, :size] @ effects, system.design.correct)
            return 0.5 * effects @ effects - terms.log_likelihood.sum(), effects - rows[:, :size].T @ terms.score

        found = minimize(penalised, np.zeros(size), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 2000})
        curved = link.terms(given_part + rows[:, :size] @ found.x, system.design.correct).observed
        hessian = np.eye(size) + rows[:, :size].T @ (curved[:, None] * rows[:, :size])
        exact = found.fun + 0.5 * np.linalg.slogdet(hessian)[1]
        made = Laplace(system, link, "joint", "observed").evaluate(np.log(sds), coefficients)
        assert made.value == pytest.approx(exact, abs=1e-8)

    @settings(max_examples=12, deadline=None)
    @given(st.integers(0, 10**6), st.floats(0.2, 1.2), st.floats(-0.5, 2), st.sampled_from(["logit", "probit"]))
    def test_one_factor_against_quadrature(self, seed, sd, intercept, name):
        """The likelihood of one factor is a product of one-dimensional integrals."""
        rng = np.random.default_rng(seed)
        link = Link(name, 0.5, 0.02)
        unit = np.repeat(np.arange(12), rng.integers(4, 12, 12))
        correct = rng.random(len(unit)) < link.probability(intercept + sd * rng.normal(size=12)[unit])
        if not 0.5 < correct.mean() < 0.98:
            return
        table = pd.DataFrame({"correct": correct.astype(float), "unit": unit})
        design = lay_out_design(table, "1", ("unit",), guess=0.5, lapse=0.02)
        system = System(design, find_structure(design))
        points, weights = np.polynomial.hermite_e.hermegauss(120)
        logs = np.array([link.terms(np.full(len(unit), intercept + sd * x), correct).log_likelihood for x in points])
        by_unit = np.array([np.bincount(unit, row) for row in logs])
        exact = np.log((weights / weights.sum()) @ np.exp(by_unit)).sum()
        place = np.log([sd]), np.array([intercept])
        propagated = -ExpectationPropagation(system, link, "joint").evaluate(*place).value
        laplace = -Laplace(system, link, "joint", "observed").evaluate(*place).value
        # With so few answers a unit Laplace's approximation may be off by one; propagation by a tenth of that.
        assert abs(laplace - exact) < 2.5
        assert abs(propagated - exact) < max(0.05, 0.6 * abs(laplace - exact))

    def test_two_crossed_factors_against_quadrature(self):
        rng = np.random.default_rng(4)
        table = pd.DataFrame(list(itertools.product("ab", "xy", range(6))), columns=["unit", "participant", "again"])
        table["correct"] = (rng.random(len(table)) < 0.8).astype(float)
        design = lay_out_design(table, "1", ("unit", "participant"), guess=0.5, lapse=0.0)
        system, link = System(design, find_structure(design)), Link("logit", 0.5, 0.0)
        points, weights = np.polynomial.hermite_e.hermegauss(30)
        weights = weights / weights.sum()
        sds, intercept = (0.9, 0.6), 0.8
        counts = table.groupby(["unit", "participant"])["correct"].agg(["sum", "size"])
        total = np.zeros((30, 30, 30, 30))
        for (unit, person), (right, size) in counts.iterrows():
            grid = np.meshgrid(points, points, points, points, indexing="ij", sparse=True)
            eta = intercept + sds[0] * grid["ab".index(unit)] + sds[1] * grid[2 + "xy".index(person)]
            chance = link.probability(eta)
            total = total + right * np.log(chance) + (size - right) * np.log(1 - chance)
        exact = math.log(np.einsum("ijkl,i,j,k,l->", np.exp(total), weights, weights, weights, weights))
        made = ExpectationPropagation(system, link, "joint").evaluate(np.log(sds), np.array([intercept]))
        assert -made.value == pytest.approx(exact, abs=0.01)

    def test_a_standard_deviation_of_zero_is_no_effect(self):
        table = tiny(sessions=24)
        with_it, without = system_of(table, 2), system_of(table, 2, ("unit", "participant", "model", "unit:condition"))
        log_sds = np.log([0.8, 0.5, 0.4, 0.6])
        for (title, one), (_, other) in zip(engines(with_it, Link()), engines(without, Link())):
            start = None if one.free_fixed else np.array([0.7, -0.3, 0.2, 0.1])
            zero = one.evaluate(np.append(log_sds, -np.inf), start)
            assert zero.value == pytest.approx(other.evaluate(log_sds, start).value, abs=1e-7), title


class TestInvariance:
    @pytest.mark.parametrize("method", ["default", "joint", "parity"])
    def test_order_of_rows_and_names_of_levels(self, method):
        table = STUDIED
        model = replace(MODEL, method=method)
        one = model.fit(table)
        names = ["unit", "participant", "model"]
        other = table.astype(dict.fromkeys([*names, "condition"], str)).sample(frac=1, random_state=5)
        for number, name in enumerate(names):
            levels = sorted(other[name].unique())
            renamed = np.random.default_rng(number).permutation(levels)
            other[name] = other[name].map(dict(zip(levels, (f"{number}{level}" for level in renamed))))
        two = model.fit(other.reset_index(drop=True))
        assert two.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-8)
        assert two.coefficients == pytest.approx(one.coefficients, abs=1e-8)
        assert two.sds == pytest.approx(one.sds, abs=1e-8)
        assert two.covariance == pytest.approx(one.covariance, abs=1e-8)

    def test_splitting_sessions_and_tables(self):
        table = STUDIED.copy()
        one = MODEL.fit(table)
        table["session"] = table["session"].astype(str) + np.where(table["trial_index"] < 12, "/1", "/2")
        half = len(table) // 2
        two = MODEL.fit(pd.concat([table.iloc[half:], table.iloc[:half]]))
        assert two.coefficients == pytest.approx(one.coefficients, abs=1e-8)

    def test_the_start_of_the_search_does_not_matter(self, fit):
        engine = MODEL.engine(fit.system)
        other = maximise(engine, np.log([1.5, 0.2, 1.0]))
        assert np.exp(other.log_sds) == pytest.approx(fit.sds, abs=1e-6)
        assert other.evaluation.value == pytest.approx(-fit.log_likelihood, abs=1e-7)


class TestIntervals:
    def test_what_compares_models_has_few_degrees_of_freedom(self, fit):
        assert {name: fit.freedom(name) for name in fit.design.names} == {
            "intercept": 4.0,
            "predictor": 4.0,
            "condition[T.synthetic]": math.inf,
            "condition[T.synthetic]:predictor": 4.0,
        }
        assert "t with 4 degrees of freedom (6 models less 2)" in fit.fixed["predictor"].method
        assert fit.fixed["predictor"].n == 6
        slope = fit.fixed["predictor"]
        assert (slope.high - slope.value) / fit.standard_errors["predictor"] == pytest.approx(2.7764, abs=1e-3)

    def test_standard_error_is_the_curvature_of_the_likelihood(self):
        model = replace(MODEL, method="propagation-joint")
        fit = model.fit(STUDIED)
        engine = model.engine(fit.system)
        point = np.concatenate([fit.optimum.log_sds, fit.coefficients])

        def gradient(place):
            return engine.evaluate(place[:3], place[3:]).gradient

        steps = 1e-3 * np.eye(len(point))
        hessian = np.array([(gradient(point + step) - gradient(point - step)) / 2e-3 for step in steps])
        errors = np.sqrt(np.diag(np.linalg.inv((hessian + hessian.T) / 2)))
        assert list(fit.standard_errors.values()) == pytest.approx(errors[3:], rel=0.01)

    def test_profile_ends_where_the_likelihood_has_fallen(self, fit):
        interval = fit.profile("unit")
        for end in (interval.low, interval.high):
            start = fit.optimum.log_sds.copy()
            start[0] = math.log(end)
            held = maximise(MODEL.engine(fit.system), start, held=np.array([True, False, False]))
            fallen = 2 * (held.evaluation.value + fit.log_likelihood)
            assert fallen == pytest.approx(chi2.ppf(0.95, 1), abs=0.06)
        assert interval.low < fit.sds[0] < interval.high

    def test_profile_of_a_coefficient_is_near_walds(self, fit):
        profile, wald = fit.profile("condition[T.synthetic]"), fit.fixed["condition[T.synthetic]"]
        assert profile.low == pytest.approx(wald.low, abs=0.05)
        assert profile.high == pytest.approx(wald.high, abs=0.05)
        with pytest.raises(AnalysisError, match="no effect 'units'"):
            fit.profile("units")

    def test_bootstrap(self):
        layout = Layout(models=4, units=8, sessions=8, trials=16)
        table = simulate_judgements(layout, Population(intercept=1.0), seed=2)
        fit = MixedModel("1", ("unit", "participant")).fit(table)
        one, two = (fit.bootstrap(20, seed=1) for _ in range(2))
        pd.testing.assert_frame_equal(one.draws, two.draws)
        assert one.draws["intercept"].std() == pytest.approx(fit.standard_errors["intercept"], rel=0.6)
        assert one.estimates["unit"].low < fit.sds[0] < one.estimates["unit"].high
        assert set(one.frame()["name"]) == {"intercept", "unit", "participant"}
        with pytest.raises(AnalysisError, match="too few"):
            fit.bootstrap(3, seed=1)

    def test_simulated_answers_do_not_depend_on_the_order_of_rows(self, fit):
        other = MODEL.fit(STUDIED.sample(frac=1, random_state=1))
        # Two answers of one person about one unit in one condition may change places.
        cells = ["unit", "participant", "condition"]
        one, two = (own.simulate(3).groupby(cells, observed=True)["correct"].sum() for own in (fit, other))
        assert one.equals(two)
        assert 0.5 < one.sum() / len(STUDIED) < 1


class TestMarginalMeans:
    def test_against_simulated_levels(self, fit):
        rng = np.random.default_rng(0)
        spread = math.sqrt((fit.sds**2).sum())
        for row in fit.marginal_means(("condition",)):
            own = fit.table.iloc[fit.design.rows]["condition"].astype(str).to_numpy() == row.names["condition"]
            eta = (fit.design.fixed[own] @ fit.coefficients)[:, None] + rng.normal(0, spread, (own.sum(), 300))
            assert row.estimate.value == pytest.approx(Link().probability(eta).mean(), abs=0.002)
            assert row.estimate.low < row.estimate.value < row.estimate.high

    def test_median_unit_is_not_the_mean(self, fit):
        naive = Link().probability(fit.design.fixed @ fit.coefficients).mean()
        observed = STUDIED["correct"].mean()
        mean = fit.marginal_means()[0].estimate.value
        assert abs(mean - observed) < abs(naive - observed)

    def test_models_stay_at_their_own_effects(self, fit):
        means = fit.marginal_means(("model",))
        shares = STUDIED.groupby("model", observed=True)["correct"].mean()
        table = means.frame()
        assert table["value"].to_numpy() == pytest.approx(shares[table["model"]].to_numpy(), abs=0.03)
        methods = [mean.estimate.method for mean in means]
        assert all("integrated over" in method and "model" not in method.split(";")[0] for method in methods)

    def test_units(self, fit):
        units = fit.predict_units().frame()
        assert list(units.columns)[:3] == ["unit", "condition", "value"]
        assert len(units) == 6 * 14 * 2
        shares = STUDIED.groupby(["unit", "condition"], observed=True)["correct"].mean()
        own = shares[pd.MultiIndex.from_frame(units[["unit", "condition"]])].to_numpy()
        values = units["value"].to_numpy()
        assert np.corrcoef(own, values)[0, 1] > 0.8
        assert values.std() < own.std()

    def test_conditional_modes_are_shrunken(self, fit):
        modes = fit.conditional_modes("unit")
        assert modes["effect"].std() < fit.sds[0]
        assert (modes["standard_error"] > 0).all()
        assert (modes["standard_error"] < fit.sds[0]).all()

    def test_unknown_column(self, fit):
        with pytest.raises(AnalysisError, match="no column 'layers'"):
            fit.marginal_means(("layers",))


def finite(estimates: list[Estimate]) -> bool:
    return all(not math.isnan(x) for e in estimates for x in (e.value, e.low, e.high))


class TestDegenerate:
    """Ends in a message or a stated boundary, never in NaN."""

    table = tiny(models=4)

    @pytest.mark.parametrize(
        ("change", "fixed", "words"),
        [
            (lambda t: t.iloc[:0], "condition", "no rows"),
            (lambda t: t.assign(correct=1.0), "condition", "All 280 answers are right"),
            (lambda t: t.assign(correct=0.0), "condition", "All 280 answers are wrong"),
            (lambda t: t.assign(correct=(np.arange(len(t)) % 2).astype(float)), "1", "no more than by guessing"),
            (lambda t: t.assign(correct=np.where(t["condition"] == "natural", 1, t["correct"])), "condition", "100.0%"),
            (
                lambda t: t[(t["model"] == "model-0") | (t["condition"] == "natural")],
                "condition*predictor",
                "distinguished",
            ),
            (lambda t: t[t["condition"] == "natural"].assign(other=1.0), "other", "distinguished"),
            (lambda t: t.assign(other=0.0), "1 + other", "zero throughout"),
            (lambda t: t.assign(predictor=np.nan), "predictor", "predictor"),
            (lambda t: t.assign(unit=t["unit"].astype(object).where(t["trial_index"] > 0, None)), "1", "'unit'"),
            (lambda t: t.assign(correct=0.5), "1", "0 and 1"),
            (lambda t: t, "conditions", "conditions"),
            (lambda t: t, "1 + (", "can't be read"),
            (lambda t: t, "0", "intercept"),
            (lambda t: t.drop(columns="participant"), "1", "participant"),
        ],
    )
    def test_messages(self, change, fixed, words):
        with pytest.raises(AnalysisError, match=words):
            MixedModel(fixed, ("unit", "participant", "model")).fit(change(self.table))

    @pytest.mark.parametrize("method", ["default", "joint", "parity"])
    @pytest.mark.parametrize(
        ("change", "fixed"),
        [
            (lambda t: t.assign(participant="one"), "condition"),
            (lambda t: t[t["model"] == "model-0"], "condition"),
            (lambda t: t[t["model"].isin(["model-0", "model-1"])], "condition+predictor"),
            (lambda t: t[~((t["model"] == "model-0") & (t["condition"] == "synthetic"))], "condition"),
            (lambda t: t.assign(correct=np.where(t["unit"] == "unit-0", 1.0, t["correct"])), "condition"),
            (lambda t: t.assign(correct=np.where(t["model"] == "model-1", 1.0, t["correct"])), "condition"),
            (lambda t: t.iloc[::2].assign(participant=np.arange(len(t) // 2)), "condition"),
            (lambda t: t.assign(condition="natural"), "1"),
            (lambda t: t.iloc[::40], "1"),
        ],
    )
    def test_numbers_or_a_message(self, change, fixed, method):
        model = MixedModel(fixed, RANDOM[:4], method=method)
        try:
            fit = model.fit(change(self.table))
        except AnalysisError as error:
            assert len(str(error)) > 60
            return
        estimates = [
            *fit.fixed.values(),
            *fit.standard_deviations.values(),
            *(mean.estimate for mean in fit.marginal_means()),
        ]
        assert finite(estimates)
        assert math.isfinite(fit.log_likelihood)
        assert fit.converged or all(e.method.startswith("no interval") for e in fit.fixed.values())
        for name in fit.boundary:
            assert any(name in note and "boundary" in note for note in fit.notes)
            assert fit.standard_deviations[name].low == 0 < fit.standard_deviations[name].high

    def test_one_participant_is_left_out_with_a_note(self):
        fit = MixedModel("condition", ("unit", "participant")).fit(self.table.assign(participant="one"))
        assert [factor.name for factor in fit.design.factors] == ["unit"]
        assert any("participant is left out" in note for note in fit.notes)

    def test_factor_that_groups_like_another_is_left_out(self):
        fit = MixedModel("1", ("unit", "twin")).fit(self.table.assign(twin=self.table["unit"]))
        assert any("exactly as unit does" in note for note in fit.notes)

    def test_as_many_coefficients_as_models_leave_no_interval(self):
        two = STUDIED[STUDIED["model"].isin(["model-0", "model-5"])]
        fit = MixedModel("predictor", ("unit", "participant", "model")).fit(two)
        assert fit.fixed["predictor"].method.startswith("no interval: 2 models leave no degrees of freedom")
        assert fit.fixed["predictor"].low == -math.inf

    def test_no_spread_is_a_boundary_fit(self):
        rng = np.random.default_rng(0)
        answers = (np.argsort(np.argsort(rng.random(len(STUDIED)))) % 4 > 0).astype(float)
        fit = MixedModel("1", ("unit", "participant")).fit(STUDIED.assign(correct=answers))
        for name in fit.boundary:
            estimate = fit.standard_deviations[name]
            assert estimate.value == 0 == estimate.low < estimate.high < 1
            assert "boundary" in estimate.method
        assert fit.boundary

    def test_asked_for_nonsense(self):
        for words, change in (
            ("no link", {"link": "cloglog"}),
            ("no method", {"method": "bayes"}),
            ("expected curvature", {"method": "parity", "curvature": "observed"}),
        ):
            with pytest.raises(AnalysisError, match=words):
                MixedModel(**change)
        for words, change in (
            ("less than 1", {"guess": 0.9, "lapse": 0.2}),
            ("named twice", {"random": ("unit", "unit")}),
            ("no column 'units'", {"random": ("units",)}),
            ("lapse rate", {"lapse": 0.45}),
        ):
            with pytest.raises(AnalysisError, match=words):
                MixedModel(**change).fit(STUDIED)

    def test_without_random_effects_it_is_a_logistic_regression(self):
        import statsmodels.api as sm

        fit = MixedModel("predictor", (), guess=0.0, method="joint").fit(STUDIED)
        matrix = sm.add_constant(STUDIED["predictor"].to_numpy())
        reference = sm.Logit(STUDIED["correct"].to_numpy(), matrix).fit(disp=0)
        assert fit.coefficients == pytest.approx(reference.params, abs=1e-6)
        assert list(fit.standard_errors.values()) == pytest.approx(reference.bse, rel=1e-4)
        assert fit.log_likelihood == pytest.approx(reference.llf, abs=1e-6)


class TestFormula:
    def test_in_lme4s_spelling(self):
        formula = "correct ~ synthetic*logp + (1|unit) + (1 | unit:synthetic) + (1|model)"
        assert split_formula(formula) == ("correct", "synthetic*logp", ("unit", "unit:synthetic", "model"))
        assert split_formula("(1|unit)") == ("correct", "1", ("unit",))
        assert split_formula("correct ~ 1 + (1 + x | unit)") == ("correct", "1", ("1 + x | unit",))

    def test_names_of_columns_are_added_up(self):
        fit = MixedModel(("condition", "predictor"), ("unit", "model"), method="parity").fit(STUDIED)
        assert fit.design.names == ("intercept", "condition[T.synthetic]", "predictor")

    def test_summary(self, fit):
        table = fit.frame()
        assert list(table["name"]) == [*fit.design.names, "unit", "participant", "model"]
        own = table[table["effect"] == "fixed"].set_index("name")["estimand"]
        assert own.pop("condition[T.synthetic]") == "these models, new units and people; layer-uniform"
        assert own.eq("new models, new units and people; layer-uniform").all()

    def test_design_holds_every_answer_once(self):
        design: ModelMatrix = lay_out_design(STUDIED, "1", ("unit",), guess=0.5, lapse=0.0)
        assert sorted(design.rows) == list(range(len(STUDIED)))
        assert np.array_equal(design.correct, STUDIED["correct"].to_numpy()[design.rows] == 1)
        labels = np.array(design.factors[0].labels)[design.factors[0].codes]
        assert np.array_equal(labels, STUDIED["unit"].astype(str).to_numpy()[design.rows])

    def test_the_left_hand_side_is_obeyed(self):
        random = " + (1|unit)"
        table = STUDIED.assign(chosen=1 - STUDIED["correct"], time=STUDIED["trial_index"] + 0.5)
        asked = MixedModel.from_formula("chosen ~ 1" + random, guess=0.0, method="parity")
        usual = MixedModel.from_formula("~ 1" + random, guess=0.0, method="parity")
        assert asked.outcome == "chosen" and usual.outcome == "correct"
        assert asked.fit(table).coefficients == pytest.approx(-usual.fit(table).coefficients, abs=1e-6)
        for left, words in (
            ("time", "'time' holds 0.5, and an answer is right or wrong"),
            ("corect", "no column 'corect'. Did you mean 'correct'"),
            ("log(correct)", "left-hand side"),
            ("cbind(right, wrong)", "left-hand side"),
        ):
            with pytest.raises(AnalysisError, match=re.escape(words)):
                MixedModel.from_formula(f"{left} ~ 1{random}").fit(table)


class TestTables:
    """Tables of any types and any making."""

    model = MixedModel(("condition",), method="parity")
    base = model.fit(STUDIED)

    @pytest.mark.parametrize("dtype", ["string", "string[pyarrow]", object, "category"])
    def test_types_of_names(self, dtype):
        table = STUDIED.copy()
        for name in ("unit", "participant", "model", "condition"):
            table[name] = table[name].astype(str).astype(dtype)
        table.index = pd.Index(np.arange(len(table)) + 7, name="unit")
        assert self.model.fit(table).coefficients == pytest.approx(self.base.coefficients, abs=1e-9)

    def test_numbers_as_names_are_cells(self):
        table = STUDIED.copy()
        for name in ("unit", "participant", "model", "condition"):
            table[name] = table[name].cat.codes.astype(np.int64) + 1
        for made in (table, table.convert_dtypes(dtype_backend="pyarrow"), table.astype({"condition": float})):
            fit = self.model.fit(made)
            assert fit.design.names == ("intercept", "condition[T.2]")
            assert fit.coefficients == pytest.approx(self.base.coefficients, abs=1e-9)
            assert [mean.names["condition"] for mean in fit.marginal_means(("condition",))] == ["1", "2"]

    def test_numbers_elsewhere_are_a_trend(self):
        fit = replace(self.model, fixed="level").fit(STUDIED.assign(level=STUDIED["condition"].cat.codes + 1))
        assert fit.design.names == ("intercept", "level")

    def test_right_and_wrong_in_words(self):
        for right, wrong in (("True", "False"), ("true", "false"), ("1", "0"), (True, False)):
            table = STUDIED.assign(correct=np.where(STUDIED["correct"] == 1, right, wrong))
            assert self.model.fit(table).log_likelihood == pytest.approx(self.base.log_likelihood)
        with pytest.raises(AnalysisError, match=r"'correct' holds 'yes'\. Code right and wrong answers"):
            self.model.fit(STUDIED.assign(correct="yes"))
        with pytest.raises(AnalysisError, match="no column 'correct'"):
            self.model.fit(STUDIED.drop(columns="correct"))
        with pytest.raises(AnalysisError, match="Two columns"):
            self.model.fit(pd.concat([STUDIED, STUDIED[["unit"]]], axis=1))

    def test_units_of_one_name_in_several_models_are_several_units(self):
        table = STUDIED.assign(unit=STUDIED["unit"].cat.codes % 14)
        fit = self.model.fit(table)
        assert fit.log_likelihood == pytest.approx(self.base.log_likelihood, abs=1e-8)
        assert any("these are different units" in note for note in fit.notes)

    def test_two_models_of_one_name(self):
        table = STUDIED.assign(weights=np.where(STUDIED["trial_index"] % 2, "v1", "v2"))
        with pytest.raises(AnalysisError, match="stands for 2 models: the column 'weights' holds"):
            self.model.fit(table)


class TestNewModels:
    def test_default_lets_conditions_differ_between_units_and_models(self):
        assert default_random(STUDIED, ("condition",)) == (
            "unit", "participant", "model", "unit:condition", "model:condition",
        )  # fmt: skip
        assert default_random(STUDIED, "predictor") == ("unit", "participant", "model")
        crossed = tiny(crossed=True).assign(condition=lambda t: np.where(t["trial_index"] % 2, "a", "b"))
        assert "participant:condition" in default_random(crossed, "condition")

    def test_a_condition_speaks_for_new_models_only_if_it_may_differ_between_them(self, fit):
        layout = Layout(models=6, units=14, tasks=4, conditions=("natural", "synthetic"), sessions=8, trials=21)
        truth = Population(intercept=1.5, unit=0.5, model_condition=1.5)
        varied = simulate_judgements(layout, truth, seed=3, predictor=np.linspace(-1, 1, 6))
        effect = MixedModel(("condition",), method="parity").fit(varied)
        assert effect.freedom("condition[T.synthetic]") == 5
        assert effect.fixed["condition[T.synthetic]"].estimand.startswith("new models")
        assert effect.fixed["condition[T.synthetic]"].n == 6
        both = MixedModel("condition * predictor", method="parity").fit(varied)
        assert both.freedom("condition[T.synthetic]") == both.freedom("condition[T.synthetic]:predictor") == 4
        # Without model:condition it speaks for these models, and that is said.
        assert fit.fixed["condition[T.synthetic]"].estimand.startswith("these models")
        assert any("holds for these models alone" in note and "model:condition" in note for note in fit.notes)
        assert all(own.estimate.estimand.startswith("these models") for own in fit.marginal_means(("condition",)))
        assert all(own.estimate.estimand.startswith("new models") for own in effect.marginal_means(("condition",)))
        # Models that were shown in one condition alone do not count.
        lone = varied[(varied["condition"] == "natural") | ~varied["model"].isin(["model-0", "model-1"])]
        assert MixedModel(("condition",), method="parity").fit(lone).freedom("condition[T.synthetic]") == 3

    def test_an_effect_that_is_alike_in_all_models_has_the_degrees_of_freedom_of_units_and_people(self):
        alike = MixedModel(("condition",), method="parity").fit(STUDIED)
        assert "model:condition" in alike.boundary
        assert alike.freedom("condition[T.synthetic]") > 100
        assert "(Satterthwaite, no variance between models)" in alike.fixed["condition[T.synthetic]"].method
        # The variance whose parts are counted is the one that the interval has.
        system = alike.system
        asked = np.zeros(system.size)
        asked[system.fixed_start + 1] = 1.0
        solution = alike.optimum.evaluation.factorised.solve(asked, fixed=True)
        assert solution[system.fixed_start + 1] == pytest.approx(alike.standard_errors["condition[T.synthetic]"] ** 2)

    def test_coverage_where_the_condition_differs_between_models(self):
        layout = Layout(models=8, units=10, tasks=2, conditions=("natural", "synthetic"), sessions=10, trials=16)
        truth = Population(intercept=1.5, conditions={"synthetic": -0.7}, unit=0.5, model_condition=0.9)
        held = {True: 0, False: 0}
        for seed in range(8):
            table = simulate_judgements(layout, truth, seed=seed)
            for default in held:
                random = None if default else ("unit", "participant", "model")
                effect = MixedModel(("condition",), random, method="parity").fit(table).fixed["condition[T.synthetic]"]
                held[default] += effect.low <= -0.7 <= effect.high
        assert held[True] >= 7 > held[False]


class TestMisleading:
    """Units that are answered below chance."""

    layout = Layout(models=4, units=25, tasks=2, sessions=20, trials=25)
    model = MixedModel("1", ("unit", "participant"))

    def cells(self, misleading: float, seed: int = 1) -> Mixture:
        truth = Population(intercept=0.9, unit=1.0, participant=0.3, model=0.0, misleading=misleading)
        table = simulate_judgements(self.layout, truth, seed=seed)
        design = lay_out_design(table, "1", ("unit", "participant"), guess=0.5, lapse=0.0)
        return Mixture(Cells.read(design))

    def test_the_share_of_units_below_chance(self):
        found = [self.cells(0.2, seed) for seed in range(6)]
        assert np.mean([own.share().low <= 0.2 <= own.share().high for own in found]) > 0.8
        assert np.mean([own.share().value for own in found]) == pytest.approx(0.2, abs=0.04)
        assert all(own.p < 1e-6 for own in found)
        sure, chance = found[0].surely_below
        assert sure > 2 * chance > 0

    def test_where_there_are_none_none_are_found(self):
        found = [self.cells(0.0, seed) for seed in range(12)]
        assert min(own.p for own in found) > EVIDENCE
        assert np.mean([own.share().low for own in found]) < 0.005

    def test_they_are_set_apart_and_said(self):
        truth = Population(intercept=0.9, unit=1.0, participant=0.3, model=0.0, misleading=0.2)
        table = simulate_judgements(self.layout, truth, seed=3)
        fit = self.model.fit(table)
        assert fit.converged and fit.misleading is not None
        assert 10 < len(fit.set_apart) < 35
        assert not set(fit.set_apart) & set(fit.design.factor("unit").labels)
        worst = table.groupby("unit", observed=True)["correct"].mean().nsmallest(10).index.astype(str)
        assert set(worst) <= set(fit.set_apart)
        assert fit.standard_deviations["unit"].low < 1.0 < fit.standard_deviations["unit"].high
        assert "units mislead" in fit.notes[0] and "set apart" in fit.method
        # Names change nothing; other methods take the answers as they are.
        renamed = self.model.fit(table.assign(unit=table["unit"].astype(str).str[::-1]))
        assert renamed.coefficients == pytest.approx(fit.coefficients, abs=1e-8)
        assert replace(self.model, method="parity").fit(table).misleading is None


class TestFlat:
    def test_a_fit_whose_interval_says_nothing_has_not_converged(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"unit": np.repeat(np.arange(30), 20), "group": np.tile(["a", "b"], 300)})
        chance = np.where(table["group"] == "a", 0.8, 0.5)
        found = []
        for _ in range(12):
            table["correct"] = rng.random(600) < chance
            try:
                fit = MixedModel("group", ("unit",), method="joint").fit(table)
            except AnalysisError:
                continue
            effect = fit.fixed["group[T.b]"]
            found.append(fit.converged)
            if not fit.converged:
                assert effect.method.startswith("no interval") and effect.low == -math.inf
            else:
                assert effect.high - effect.low < 24
        assert found


class TestSensitivities:
    def test_lapse_from_catch_trials(self):
        catch = pd.DataFrame({"correct": [1.0] * 96 + [0.0] * 4, "participant": np.repeat(np.arange(20), 5)})
        lapse = estimate_lapse(catch)
        assert lapse.value == pytest.approx(4.5 / 101)
        assert lapse.low < 0.04 < lapse.high
        assert lapse.n == 20
        with pytest.raises(AnalysisError, match="no catch trials"):
            estimate_lapse(catch.iloc[:0])

    def test_lapses_shrink_what_is_not_corrected_for_them(self):
        layout = Layout(models=4, units=16, sessions=24, trials=30)
        truth = Population(intercept=2.5, unit=1.0, participant=0.5, model=0.2, lapse=0.05)
        table = simulate_judgements(layout, truth, seed=4)
        sweep = lapse_sweep(MixedModel("1", ("unit", "participant")), table, (0.0, 0.05, 0.3))
        assert sweep.fits[0.0].coefficients[0] < 2.1 < sweep.fits[0.05].coefficients[0]
        assert 0.3 in sweep.refused
        assert set(sweep.frame()["lapse"]) == {0.0, 0.05}

    def test_learning(self):
        layout = Layout(models=4, units=16, sessions=24, trials=30)
        table = simulate_judgements(layout, Population(intercept=0.5, learning=1.2), seed=4)
        moved = learning_sensitivity(MixedModel("1", ("unit", "participant")), table)
        learning = moved.other.fixed["learning"]
        assert learning.low < 1.2 < learning.high
        assert learning.low > 0
        assert list(moved.frame()["name"]) == ["intercept", "unit", "participant"]
        with pytest.raises(AnalysisError, match="No session has two trials"):
            learning_sensitivity(MODEL, table[table["trial_index"] == 0])

    def test_own_guess_rates(self):
        rng = np.random.default_rng(2)
        layout = Layout(models=2, units=20, sessions=40, trials=30)
        table = simulate_judgements(layout, Population(intercept=1.0, unit=0.6), seed=4)
        units = [str(name) for name in table["unit"].cat.categories]
        rates = dict(zip(units, rng.beta(20, 16, len(units))))
        asked = pd.DataFrame({"unit": np.repeat(units, 60), "references": "none"})
        asked["correct"] = (rng.random(len(asked)) < asked["unit"].map(rates)).astype(float)
        found = estimate_guess_rates(asked, [*units, "unseen"])
        assert found.mean == pytest.approx(20 / 36, abs=0.05)
        assert found.spread == pytest.approx(0.08, abs=0.04)
        by_unit = found.table.set_index("unit")["guess_rate"]
        assert by_unit["unseen"] == pytest.approx(found.mean)
        true = np.array([rates[name] for name in units])
        raw = asked.groupby("unit")["correct"].mean()[units].to_numpy()
        assert ((by_unit[units] - true) ** 2).mean() < ((raw - true) ** 2).mean()
        moved = guessing_sensitivity(MixedModel("1", ("unit", "participant")), table, asked)
        # With more right by guessing, less is owed to the references.
        assert moved.other.coefficients[0] < moved.base.coefficients[0]
        with pytest.raises(AnalysisError, match="without references"):
            estimate_guess_rates(asked.iloc[:0], units)
