"""Random slopes: against lme4, against the same computation with dense matrices, and in everything that uses a fit."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2

from analysis.mixed_model import MixedModel, MixedModelFit
from analysis.mixed_model.design import lay_out_design, split_formula, split_random
from analysis.mixed_model.links import Link
from analysis.mixed_model.structure import find_structure
from analysis.mixed_model.system import System
from benchmark.errors import AnalysisError


@cache
def answers(people: int = 80, units: int = 50, each: int = 36, seed: int = 20261201) -> pd.DataFrame:
    """Return answers of people who differ in level and slope; the draws of a ``RandomState`` never change."""
    draw = np.random.RandomState(seed)
    root = np.linalg.cholesky(np.array([[0.64, 0.144], [0.144, 0.36]]))
    person = draw.standard_normal((people, 2)) @ root.T
    unit = draw.standard_normal((units, 2)) * [0.7, 0.5]
    who = np.repeat(np.arange(people), each)
    what = np.concatenate([draw.permutation(units)[:each] for _ in range(people)])
    x = np.round(draw.standard_normal(len(who)), 3)
    kind = draw.randint(3, size=len(who))
    eta = 0.8 + 0.4 * x + person[who, 0] + person[who, 1] * x + unit[what, 0] + unit[what, 1] * (kind == 1)
    eta = eta + np.array([0.0, 0.3, -0.2])[kind]
    return pd.DataFrame(
        {
            "participant": [f"p{n:02d}" for n in who],
            "unit": [f"u{n:02d}" for n in what],
            "layer": [f"l{n % 5}" for n in what],
            "x": x,
            "kind": np.array(list("abc"))[kind],
            "two": np.where(kind == 1, "b", "a"),
            "correct": (draw.random_sample(len(who)) < 1 / (1 + np.exp(-eta))).astype(int),
        }
    )


LME4 = {
    "correct ~ x + (1 + x|participant) + (1|unit)": (
        (-1600.50966, -1600.67933),
        (1.01996, 0.39791),
        {"participant": 0.83174, "x | participant": 0.49495, "unit": 0.62176},
        {"intercept, x | participant": 0.21030},
    ),
    "correct ~ x + (x||participant) + (1|unit)": (
        (-1601.21087, -1601.38045),
        (1.01241, 0.38349),
        {"participant": 0.82228, "x | participant": 0.48523, "unit": 0.62168},
        {},
    ),
    "correct ~ two + (1 + two|participant) + (1 + two|unit)": (
        (-1637.31617, -1637.37680),
        (0.82511, 0.38151),
        {"participant": 0.81394, "two[T.b] | participant": 0.09364, "unit": 0.60984, "two[T.b] | unit": 0.00641},
        {"intercept, two[T.b] | participant": -1.0, "intercept, two[T.b] | unit": -1.0},
    ),
    "correct ~ kind + (1 + kind|unit) + (1|participant)": (
        (-1637.21869, -1637.28158),
        (0.85745, 0.36979, -0.07079),
        {"unit": 0.64776, "kind[T.b] | unit": 0.04805, "kind[T.c] | unit": 0.20604, "participant": 0.78393},
        {"intercept, kind[T.c] | unit": -0.49308},
    ),
    "correct ~ x + (1 + x|participant) + (1|layer/unit)": (
        (-1600.50966, -1600.67960),
        (1.01997, 0.39791),
        {"participant": 0.83174, "x | participant": 0.49495, "layer": 0.0, "layer:unit": 0.62176},
        {"intercept, x | participant": 0.21030},
    ),
    "correct ~ x*two + (0 + x|participant) + (1|unit)": (
        (-1684.12100, -1684.20338),
        (0.76488, 0.36268, 0.39422, -0.05675),
        {"x | participant": 0.44730, "unit": 0.55197},
        {},
    ),
    "correct ~ x + (1 + x + two|participant) + (1|unit)": (
        (-1598.32574, -1598.51085),
        (1.11124, 0.40941),
        {"participant": 0.92494, "x | participant": 0.49138, "two[T.b] | participant": 0.32354, "unit": 0.62660},
        {
            "intercept, x | participant": 0.19892,
            "intercept, two[T.b] | participant": -0.78532,
            "x, two[T.b] | participant": -0.13502,
        },
    ),
}
"""What lme4 1.1.31 (R 4.2.2) finds: ``glmer(formula, answers, binomial, nAGQ = 1)`` and, for the second log-likelihood,
``nAGQ = 0``, with bobyqa to 1e-8: log-likelihoods, fixed effects, standard deviations, correlations."""


def fit(formula: str, method: str = "joint", table: pd.DataFrame | None = None, guess: float = 0.0) -> MixedModelFit:
    """Fit with lme4's curvature."""
    curvature = "expected" if method in ("joint", "restricted") else None
    model = MixedModel.from_formula(formula, guess=guess, method=method, curvature=curvature)  # type: ignore[arg-type]
    return model.fit(answers() if table is None else table)


@cache
def slopes() -> MixedModelFit:
    """Return a fit that many tests look at."""
    return fit("correct ~ x + (1 + x|participant) + (1|unit)")


@pytest.mark.parametrize("formula", LME4)
def test_lme4_finds_the_same(formula: str) -> None:
    (laplace, quick), coefficients, deviations, correlations = LME4[formula]
    found = fit(formula)
    assert found.converged
    assert found.log_likelihood == pytest.approx(laplace, abs=0.01)
    assert found.log_likelihood > laplace - 0.001  # no worse a maximum
    assert found.params.to_numpy() == pytest.approx(np.array(coefficients), abs=1e-3)
    assert {f.name: float(sd) for f, sd in zip(found.design.factors, found.sds)} == pytest.approx(
        deviations, rel=0.01, abs=2e-3
    )
    for name, value in correlations.items():
        assert found.correlations[name].value == pytest.approx(value, abs=0.01), name
    assert fit(formula, "parity").log_likelihood == pytest.approx(quick, abs=0.05)


def test_formulas_as_in_lme4() -> None:
    assert split_formula("y ~ x + (1 + x|g) + (1|h)") == ("y", "x", ("1 + x | g", "h"))
    assert split_formula("y ~ x + (x|g)")[2] == ("x | g",)
    assert split_formula("y ~ x + (x||g)")[2] == ("g", "0 + x | g")
    assert split_formula("y ~ x*z + (x*z||g)")[2] == ("g", "0 + x | g", "0 + z | g", "0 + x:z | g")
    assert split_formula("y ~ x + (0 + x||g)")[2] == ("0 + x | g",)
    assert split_formula("y ~ (1 + x|a/b)")[2] == ("1 + x | a", "1 + x | a:b")
    assert split_formula("y ~ (log(x) + 1|g)")[1:] == ("1", ("log(x) + 1 | g",))
    assert split_random("unit") == ("1", "unit") and split_random("1 + x | a:b") == ("1 + x", "a:b")


def test_two_bars_leave_the_values_of_one_column_correlated() -> None:
    """As in lme4, where only numbers are decorrelated by two bars."""
    model = MixedModel.from_formula("correct ~ kind + (kind||participant) + (1|unit)")
    design = lay_out_design(answers(), model.fixed, tuple(model.random or ()), guess=0.5, lapse=0.0)
    assert [(term.group, term.effects) for term in design.terms] == [("participant", ("kind[a]", "kind[b]", "kind[c]"))]
    assert [factor.name for factor in design.factors][:2] == ["participant", "kind[a] | participant"]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("correct ~ x + (1 + x|participant) + (1|participant)", "named twice: participant"),
        ("correct ~ x + (x|participant) + (0 + x|participant)", "named twice: x | participant"),
        ("correct ~ x + (1 + nothing|participant)", "nothing"),
        ("correct ~ x + (1 + x|nobody)", "no column 'nobody'"),
        ("correct ~ x + (1 + x + twice|participant)", "can't be distinguished"),
        ("correct ~ x + (1 + x|)", "can't be read"),
        ("correct ~ x + (1 + zero|participant)", "zero in every answer"),
    ],
)
def test_what_can_not_be_fitted_is_said(formula: str, message: str) -> None:
    table = answers().assign(twice=2 * answers()["x"], zero=0.0)
    with pytest.raises(AnalysisError, match=message.replace("|", r"\|")):
        fit(formula, table=table)
    with pytest.raises(AnalysisError, match="several"):
        split_random("x || participant")


# ---------------------------------------------------------------- the same, densely


def small(seed: int = 3) -> pd.DataFrame:
    """Return few answers: 7 people, 9 units, 5 layers."""
    draw = np.random.RandomState(seed)
    size = 160
    table = pd.DataFrame(
        {
            "participant": [f"p{n}" for n in draw.randint(7, size=size)],
            "unit": [f"u{n}" for n in draw.randint(9, size=size)],
            "x": draw.standard_normal(size),
            "z": draw.standard_normal(size),
        }
    )
    eta = 0.5 + 0.5 * table["x"] + 0.6 * draw.standard_normal(7)[[int(name[1]) for name in table["participant"]]]
    table["correct"] = (draw.random_sample(size) < expit(eta)).astype(int)
    return table


def dense_laplace(design, spread, coefficients, guess):
    """Return minus the log-likelihood of Laplace's approximation (observed curvature), with dense matrices."""
    count = len(design.factors)
    sds, start = np.exp(spread[:count]), count
    columns = []
    for which, factor in enumerate(design.factors):
        term = next((own for own in design.terms if which in own.factors), None)
        values = np.ones(design.size)
        if term is not None:
            lower = np.eye(len(term.effects))
            place = start + sum(own.shears for own in design.terms[: design.terms.index(term)])
            for column in range(len(term.effects)):
                for row in range(column + 1, len(term.effects)):
                    lower[row, column] = spread[place]
                    place += 1
            values = term.columns @ lower[:, term.factors.index(which)]
        columns.append(sds[which] * values[:, None] * np.eye(factor.size)[factor.codes])
    matrix = np.hstack(columns)
    link = Link("logit", guess, 0.0)

    def penalised(u):
        terms = link.terms(design.fixed @ coefficients + matrix @ u, design.correct)
        return 0.5 * u @ u - terms.log_likelihood.sum(), u - matrix.T @ terms.score

    found = minimize(penalised, np.zeros(matrix.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9})
    u = found.x
    for _ in range(20):
        terms = link.terms(design.fixed @ coefficients + matrix @ u, design.correct)
        hessian = matrix.T @ (terms.observed[:, None] * matrix) + np.eye(len(u))
        u = u - np.linalg.solve(hessian, u - matrix.T @ terms.score)
    terms = link.terms(design.fixed @ coefficients + matrix @ u, design.correct)
    hessian = matrix.T @ (terms.observed[:, None] * matrix) + np.eye(len(u))
    return 0.5 * u @ u - terms.log_likelihood.sum() + 0.5 * np.linalg.slogdet(hessian)[1]


RANDOM = [
    ("1 + x | participant", "unit"),
    ("1 + x | participant", "1 + x + z | unit"),
    ("participant", "0 + x | participant", "0 + x + z | unit"),
]


@pytest.mark.parametrize("random", RANDOM)
@pytest.mark.parametrize("border", [0, 40])
def test_the_likelihood_is_that_of_dense_matrices(random: tuple[str, ...], border: int) -> None:
    design = lay_out_design(small(), "1 + x", random, guess=0.0, lapse=0.0)
    system = System(design, find_structure(design, border_levels=border))
    draw = np.random.RandomState(5)
    engine = MixedModel("1 + x", random, guess=0.0, method="joint").engine(system)
    for _ in range(3):
        spread = np.concatenate([draw.uniform(-1, 0.3, len(design.factors)), draw.uniform(-1, 1, len(system.shears))])
        coefficients = draw.uniform(-0.5, 0.5, 2)
        found = engine.evaluate(spread, coefficients).value
        assert found == pytest.approx(dense_laplace(design, spread, coefficients, 0.0), abs=1e-6)


@pytest.mark.parametrize("random", RANDOM)
@pytest.mark.parametrize(
    ("method", "curvature"),
    [("joint", "observed"), ("joint", "expected"), ("restricted", "observed"), ("parity", None), ("default", None)],
)
def test_gradients_are_those_of_differences(random: tuple[str, ...], method: str, curvature: str | None) -> None:
    design = lay_out_design(small(), "1 + x", random, guess=0.3, lapse=0.0)
    system = System(design, find_structure(design, border_levels=0))
    model = MixedModel("1 + x", random, guess=0.3, method=method, curvature=curvature)  # type: ignore[arg-type]
    engine = model.engine(system)
    draw = np.random.RandomState(8)
    count = len(design.factors) + len(system.shears)
    point = np.concatenate([draw.uniform(-0.8, 0.0, len(design.factors)), draw.uniform(-0.7, 0.7, len(system.shears))])
    if not engine.free_fixed:
        point = np.concatenate([point, [0.6, 0.3]])

    def evaluate(at):
        return engine.evaluate(at[:count], None if engine.free_fixed else at[count:])

    gradient = evaluate(point).gradient
    step = 1e-4
    for place in range(len(point)):
        ends = []
        for sign in (1, -1):
            moved = point.copy()
            moved[place] += sign * step
            ends.append(evaluate(moved).value)
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=2e-5), place


# ---------------------------------------------------------------- what uses a fit


def test_the_fit_does_not_depend_on_the_order_of_rows_and_names() -> None:
    one = fit("correct ~ x + (1 + x|participant) + (1|unit)", "parity")
    table = answers().sample(frac=1, random_state=4)
    names = {name: f"person {n * 7 % 80}" for n, name in enumerate(sorted(table["participant"].unique()))}
    other = fit(
        "correct ~ x + (1 + x|participant) + (1|unit)",
        "parity",
        table.assign(participant=table["participant"].map(names)),
    )
    assert other.log_likelihood == one.log_likelihood and (other.params == one.params).all()


def test_the_unit_of_a_slope_changes_nothing_but_its_unit() -> None:
    one = slopes()
    other = fit("correct ~ x + (1 + x|participant) + (1|unit)", table=answers().assign(x=answers()["x"] * 1e6))
    assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-6)
    assert other.sds == pytest.approx(one.sds * [1, 1e-6, 1], rel=1e-4)
    assert other.correlations["intercept, x | participant"].value == pytest.approx(
        one.correlations["intercept, x | participant"].value, abs=1e-4
    )


def test_every_number_is_reported_with_its_interval() -> None:
    found = slopes()
    table = found.frame().set_index(["effect", "name"])
    row = table.loc["correlation", "intercept, x | participant"]
    assert -1 < row["low"] < row["value"] < row["high"] < 1 and "Fisher" in row["method"]
    spread = table.loc["sd", "x | participant"]
    assert 0 < spread["low"] < 0.6 < spread["high"]  # what they were simulated with
    assert 2 < (spread["high"] - spread["low"]) / found.standard_error("x | participant") < 6
    assert "x | participant" in str(found) and "correlation" in found.summary().as_text()
    assert "participant" in found.to_latex() and "correlation" in found._repr_html_()
    assert found.parameters == 2 + 3 + 1


def test_the_default_method_finds_the_truth() -> None:
    found = MixedModel.from_formula("correct ~ x + kind + (1 + x|participant) + (1|unit)", guess=0.0).fit(answers())
    assert found.converged and found.method.startswith("expectation propagation")
    deviations, correlation = found.standard_deviations, found.correlations["intercept, x | participant"]
    assert deviations["participant"].low < 0.8 < deviations["participant"].high
    assert deviations["x | participant"].low < 0.6 < deviations["x | participant"].high
    assert correlation.low < 0.3 < correlation.high
    assert found.fixed["x"].low < 0.4 < found.fixed["x"].high


def test_a_singular_fit_is_said_and_has_no_interval_of_correlations() -> None:
    found = fit("correct ~ two + (1 + two|participant) + (1|unit)")
    assert any("singular fit" in note for note in found.notes)
    correlation = found.correlations["intercept, two[T.b] | participant"]
    assert abs(correlation.value) == pytest.approx(1) and (correlation.low, correlation.high) == (-1, 1)
    assert "singular" in correlation.method


def test_likelihood_ratios_know_the_boundary() -> None:
    plain = fit("correct ~ x + (1|participant) + (1|unit)")
    apart = fit("correct ~ x + (x||participant) + (1|unit)")
    statistic = 2 * (slopes().log_likelihood - plain.log_likelihood)
    test = slopes().compare(plain)
    assert test.p == pytest.approx(0.5 * chi2.sf(statistic, 1) + 0.5 * chi2.sf(statistic, 2))
    assert apart.compare(plain).degrees_of_freedom == 1
    shear = slopes().compare(apart)
    assert shear.p == pytest.approx(chi2.sf(2 * (slopes().log_likelihood - apart.log_likelihood), 1))
    with pytest.raises(AnalysisError, match="nested"):
        apart.compare(slopes())


def test_predictions_and_effects_of_levels() -> None:
    found, table = slopes(), answers()
    people = found.conditional_modes("participant").set_index("level")
    lines = found.conditional_modes("x | participant").set_index("level")
    units = found.conditional_modes("unit").set_index("level")
    assert lines["effect"].std() < found.sds[1] and (lines["standard_error"] < found.sds[1]).all()
    eta = (
        found.params["intercept"]
        + found.params["x"] * table["x"]
        + table["participant"].map(people["effect"])
        + table["participant"].map(lines["effect"]) * table["x"]
        + table["unit"].map(units["effect"])
    )
    assert found.predict().to_numpy() == pytest.approx(expit(eta).to_numpy(), abs=1e-6)
    assert found.predict(table.head(9)).to_numpy() == pytest.approx(found.predict().to_numpy()[:9])
    # New people differ the more in their answers, the farther x is from 0: their mean is nearer to chance.
    rows = pd.DataFrame({"x": [0.0, 3.0], "participant": "nobody", "unit": "none"})
    fixed = expit(found.params["intercept"] + found.params["x"] * rows["x"])
    new = found.predict(rows, levels="new")
    sd0 = math.hypot(found.sds[0], found.sds[2])
    draws = np.random.default_rng(0).standard_normal(400_000)
    assert new[0] == pytest.approx(expit(found.params["intercept"] + sd0 * draws).mean(), abs=0.002)
    assert (fixed - new)[1] > (fixed - new)[0]


def test_standard_errors_of_effects_are_those_of_the_dense_inverse() -> None:
    """The covariance of a level's two effects is needed, and lies between two factors of the elimination."""
    found = MixedModel("1 + x", ("1 + x | participant", "unit"), guess=0.0, method="restricted").fit(small())
    system, sds = found.system, found.scales
    matrix = np.zeros((found.nobs, system.size))
    for which, position in enumerate(system.positions):
        values = system.values[which]
        matrix[np.arange(found.nobs), position] += sds[which] * (1.0 if values is None else values)
    matrix[:, system.fixed_start :] = found.design.fixed
    weights = found.optimum.evaluation.mode.terms.observed
    hessian = matrix.T @ (weights[:, None] * matrix)
    hessian[np.arange(system.fixed_start), np.arange(system.fixed_start)] += 1
    inverse = np.linalg.inv(hessian)
    term = found.design.terms[0]
    root = term.root(sds[list(term.factors)], found.optimum.shears)
    for number, name in enumerate(("participant", "x | participant")):
        modes = found.conditional_modes(name).set_index("level")
        for level, label in enumerate(found.design.factors[0].labels):
            places = [system.levels[which][level] for which in term.factors]
            variance = root[number] @ inverse[np.ix_(places, places)] @ root[number]
            assert modes.loc[label, "standard_error"] == pytest.approx(math.sqrt(variance), rel=1e-6)


def test_marginal_means_simulations_residuals_and_refits() -> None:
    found = slopes()
    (mean,) = found.marginal_means()
    simulated = pd.concat([found.simulate(seed) for seed in range(20)])
    assert mean.estimate.value == pytest.approx(simulated["correct"].mean(), abs=0.02)
    assert mean.estimate.low < mean.estimate.value < mean.estimate.high
    residuals = found.residuals(1)["residual"]
    assert abs(residuals.mean()) < 0.1 and 0.8 < residuals.std() < 1.1
    model = MixedModel("1 + x", ("1 + x | participant", "unit"), guess=0.0, method="parity")
    refits = model.fit(small(1)).bootstrap(20, seed=1)
    assert "x | participant" in refits.draws
    with pytest.raises(AnalysisError, match="belong together"):
        found.profile("x | participant")
    assert found.profile("unit").low < found.sds[2]


def test_uncorrelated_slopes_have_profiles_in_their_own_unit() -> None:
    table = small(2).assign(x=small(2)["x"] * 100)
    found = MixedModel("1 + x", ("0 + x | participant", "unit"), guess=0.0, method="parity").fit(table)
    interval = found.profile("x | participant") if found.sds[0] else found.standard_deviations["x | participant"]
    assert interval.low <= found.sds[0] <= interval.high < 1.0


def test_slopes_of_models_speak_for_new_models() -> None:
    """``(1 + condition | model)`` says what ``(1|model) + (1|model:condition)`` says for the degrees of freedom."""
    draw = np.random.RandomState(2)
    size = 6000
    model, condition = draw.randint(8, size=size), draw.randint(2, size=size)
    effect = np.column_stack([0.4 * draw.standard_normal(8), 0.6 * draw.standard_normal(8)])
    eta = 1.0 + effect[model, 0] + (0.3 + effect[model, 1]) * condition
    table = pd.DataFrame(
        {
            "model": [f"m{n}" for n in model],
            "unit": [f"m{n}/u{u}" for n, u in zip(model, draw.randint(12, size=size))],
            "condition": np.array(["natural", "synthetic"])[condition],
            "correct": (draw.random_sample(size) < expit(eta)).astype(int),
        }
    )
    found = MixedModel(("condition",), ("unit", "1 + condition | model"), guess=0.0, method="parity").fit(table)
    name = "condition[T.synthetic]"
    assert found.speaks_for_new_models(name) and found.freedom(name) == 7
    assert found.scope == "new models" and not any("these models alone" in note for note in found.notes)
    without = MixedModel(("condition",), ("unit", "model"), guess=0.0, method="parity").fit(table)
    assert found.bse[name] > 2 * without.bse[name]


def test_a_slope_that_hardly_varies_has_an_interval_from_zero() -> None:
    """Its logarithm is undetermined: the standard error of it is many times one."""
    found = fit("correct ~ two + (1 + two|participant) + (1 + two|unit)")
    spread = found.standard_deviations["two[T.b] | unit"]
    assert spread.low == 0 and 0.05 < spread.high < 2


def test_a_fit_has_what_users_of_statsmodels_look_for() -> None:
    found = slopes()
    assert found.fittedvalues.between(0, 1).all() and len(found.resid) == found.nobs
    assert found.resid.mean() == pytest.approx(0, abs=0.02)
    assert found.random_effects["x | participant"].index.is_unique
    (one, two) = found.t_test("x = 0.4, intercept = 0")
    assert one.statistic == pytest.approx((found.params["x"] - 0.4) / found.bse["x"])
    assert two.p == pytest.approx(found.pvalues["intercept"])
    assert one.estimate.low < found.params["x"] < one.estimate.high
    (same,) = found.t_test("x")
    assert same.p == pytest.approx(found.wald_test("x = 0").p)
