"""Power and design: formulas against simulations, fast tests against the analysis's own, optima against brute force."""

from __future__ import annotations

import itertools
import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from analysis.comparison import compare_conditions, compare_models
from analysis.power import (
    GOALS,
    Costs,
    Design,
    Goal,
    Optimum,
    Population,
    Screening,
    Variances,
    allocation_table,
    answers_for_difference,
    compare_sessions,
    default_protocol_design,
    describe_power,
    design_of_study,
    error_rates,
    expected_bill,
    find_design,
    optimize,
    read_design,
    sessions_until,
    simulate_analysis,
    simulate_judgements,
    simulate_power,
    smallest_detectable,
)
from analysis.power.analyses import difference_p, interval_width, model_means, regress_means
from analysis.power.error_rates import TESTS, logistic_slope
from analysis.power.forecast import component_ends, components_of
from analysis.power.goals import predict_error
from analysis.power.optimization import Aim, goal_precision
from analysis.power.simulation import Layout, draw_answers, judgement_table
from analysis.power.variances import (
    SampleSizes,
    approximate_effect,
    approximate_power,
    difference_variance,
    expected_means,
    link_difference,
    link_slope,
    mean_variance,
    slope_variance,
)
from analysis.proportions import estimate_proportions
from analysis.scaling import ScalingResult, assess_equivalence, fit_scaling
from analysis.variance_components import Components
from benchmark.errors import AnalysisError, DocumentError
from benchmark.progress import Reporter

TYPICAL = Variances.from_deviations(0.83, 0.10, 0.05)
SMALL = Design(models=4, decades=1.0, units=30, sessions=20, trials=20, catch_trials=0)


# ------------------------------------------------------------------------------------------------------- designs


def test_the_default_is_the_2023_study() -> None:
    design = Design()
    assert (design.slots, design.answers, design.answers / design.units) == (567, 2520, 30)
    assert design.cost == pytest.approx(567 * 2.79, rel=1e-6)
    assert design.span == pytest.approx(math.log10(88_591_464 / 7_066_380))


def test_a_design_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "design.toml"
    path.write_text(
        '[design]\npredictor = [6.5, 7.0, 8.5]\ncrossed = true\nsessions = 200\nconditions = ["natural", "synthetic"]\n'
        "[design.truth]\nmodel = 0.3\nconditions = {synthetic = -0.8}\n"
        "[design.exclusions]\ninattentive = 0.1\ndropout = 0.05\n[design.costs]\nfee = 0.33\nunit = 0.2\n"
    )
    design = read_design(path)
    assert design == find_design(path)
    assert design.models == 3 and design.span == 2.0 and design.values.sum() == pytest.approx(0)
    assert design.slots == 400 and design.truth.conditions == {"synthetic": -0.8}
    assert find_design(None) == Design()


@pytest.mark.parametrize(
    "text, message",
    [
        ("[design]\nmodel = 3\n", "unknown key"),
        ("[design]\nunits = 20\n", "shows no unit twice"),
        ("[design]\nmodels = 4\npredictor = [1.0, 2.0]\n", "4 models need as many"),
        ("[design]\npredictor = [1.0, 2.0]\ndecades = 1.0\n", "not both"),
        ('[design]\nconditions = ["a", "a"]\n', "none twice"),
        ("[design.truth]\nguess = 0.7\nlapse = 0.4\n", "no room"),
        ("[design.truth.conditions]\nsynthetic = 1.0\n", "the design lacks"),
        ("[design.exclusions]\ninattentive = 0.6\none_sided = 0.5\n", "fewer than all"),
        ("[design]\nsessions = 0\n", "greater than or equal to 1"),
        ("[design.truth]\nslope = 0.0\n", "a design can't have slope: effects are what power is asked about"),
        ("[design.truth]\nmodel_condition = 0.1\n", "can't have model_condition: the formulas"),
        ("[design.truth]\nmisleading = 0.1\n", "can't have misleading"),
        ("[design.truth]\ninattentiv = 0.1\n", "Did you mean 'inattentive'"),
        ("[design.exclusions]\nposition_trials = 5\n", "unknown key"),
        ('[design]\ntasks = "ten"\n', "without quotation marks"),
        ("[design.truth]\nintercept = inf\n", "finite"),
        ("[design.truth]\ninattentive = 0.1\n[design.exclusions]\ninattentive = 0.2\n", "both in its truth"),
    ],
)
def test_a_wrong_design_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "design.toml"
    path.write_text(text)
    with pytest.raises(DocumentError, match=message):
        read_design(path)


LAST_RELEASE = """
[design]
models = 6
conditions = ["natural", "synthetic"]
units = 60
tasks = 5
sessions = 40
trials = 45
catch_trials = 6
references_none = 0.1
decades = 1.5
[design.truth]
intercept = 0.9
conditions = {synthetic = -0.6}
unit_condition = 0.2
lapse = 0.02
learning = 0.1
link = "probit"
[design.exclusions]
inattentive = 0.08
one_sided = 0.03
dropout = 0.12
each_position = 6
trials = 50
[design.costs]
session = 3.1
fee = 0.33
unfinished = 0.25
unit = 0.2
model = 15.0
fixed = 120.0
"""
"""A design as files had it while inattentive people stood among the exclusions."""


def test_a_design_of_the_last_release_reads_to_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "design.toml"
    path.write_text(LAST_RELEASE)
    design = read_design(path)
    assert design.cost == pytest.approx(2643.9560659794442, rel=1e-12)
    assert design.people_per_session == pytest.approx(1.2715433934332043, rel=1e-12)
    found = simulate_power(design, "condition", effect=0.05, simulations=20, seed=1)
    assert (found.power.value, found.seen.value) == pytest.approx((0.7, 0.05065861758551673), rel=1e-12)
    text = LAST_RELEASE.replace("inattentive = 0.08\none_sided = 0.03\n", "")
    path.write_text(text.replace("[design.truth]\n", "[design.truth]\ninattentive = 0.08\none_sided = 0.03\n"))
    assert read_design(path) == design
    assert design.changed(exclusions={"inattentive": 0.1}) == design.changed(truth={"inattentive": 0.1})
    path.write_text(text + "[design.truth.people]\n")
    with pytest.raises(DocumentError, match="people: unknown key"):
        read_design(path)


def test_a_design_is_read_by_the_same_rules_as_it_is_written_in_python() -> None:
    with pytest.raises(AnalysisError, match=r"^Design: a session of 40 trials .* fewer trials"):
        Design(units=20)
    with pytest.raises(AnalysisError, match=r"^Screening: position_trials: unknown key"):
        Screening(position_trials=5)  # type: ignore[call-arg]
    with pytest.raises(AnalysisError, match="a design can't have slope: effects are what power is asked about"):
        Design(truth=Population(slope=0.1))


def test_the_size_of_a_test_is_still_taken_by_its_old_name() -> None:
    new = simulate_power(SMALL, effect=0.1, alpha=0.2, simulations=20)
    with pytest.warns(FutureWarning, match="simulate_power: .* write alpha=0.2"):
        old = simulate_power(SMALL, effect=0.1, level=0.2, simulations=20)  # type: ignore[call-arg]
    assert old == new and "alpha 0.2" in new.power.method and new.power.level == 0.95
    with pytest.raises(TypeError):
        simulate_power(SMALL, alpha=0.2, level=0.2, simulations=20)  # type: ignore[call-arg]


def test_a_power_shows_its_design_in_a_line() -> None:
    found = simulate_power(SMALL, effect=0.1, simulations=20)
    assert "Population(" not in str(found) and found.design.sentence in str(found)
    assert max(map(len, str(found).splitlines())) < 120
    row = found.frame().iloc[0]
    assert (row["models"], row["sessions"]) == (SMALL.models, SMALL.sessions) and row["power"] == found.power.value
    crossed = Design(models=1, units=40, conditions=("natural", "synthetic"), crossed=True, sessions=1, trials=1)
    assert crossed.sentence == (
        "1 model with 40 units each in 2 conditions; 1 session in all, of 1 main trial, in each condition"
    )


def test_the_design_of_an_experiment(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(
        'protocol = "imi2023"\n[[models]]\ncard = "resnet50"\n[[models]]\ncard = "googlenet"\n[[models]]\n'
        'card = "vit_b32"\n[stimuli]\nconditions = ["natural", "synthetic"]\n[recruitment]\npayment_usd = 3.0\n'
    )
    design = design_of_study(path)
    assert design == find_design(path)
    assert design.predictor == pytest.approx([math.log10(n) for n in (25_557_032, 7_066_380, 88_224_232)])
    assert (design.crossed, design.sessions, design.units, design.tasks) == (False, 63, 84, 20)
    assert design.slots == 3 * 2 * 63 and design.costs.session == 3.0
    path.write_text(path.read_text().replace("imi2023", "vimi1"))
    crossed = design_of_study(path)
    assert crossed.crossed and crossed.sessions == 3 * 63 and crossed.references_none == 0.1
    assert default_protocol_design().answers == pytest.approx(2520 * 0.9)


def test_excluded_people_cost_money() -> None:
    """The expected bill is that of the simulation, and of a count by hand."""
    design = SMALL.changed(
        catch_trials=5,
        sessions=100,
        exclusions={"inattentive": 0.2, "dropout": 0.1},
        costs={"fee": 0.3, "session": 2.0},
    )
    people = design.people_per_session
    # A guesser passes 4 of 5 catch trials with 6/32; 25 trials of a session need 25/9 at either position.
    assert people == pytest.approx(1 / (0.9 * (0.8 + 0.2 * 6 / 32)), rel=1e-3)
    assert design.session_cost == pytest.approx(2.0 * 1.3 * 0.9 * people)
    unfinished = design.changed(costs={"unfinished": 0.5})
    assert unfinished.session_cost == pytest.approx(2.0 * 1.3 * 0.95 * people)
    found = simulate_power(design, effect=0.05, simulations=30).bill
    expected = expected_bill(design)
    assert found.people == pytest.approx(expected.people, rel=0.02)
    assert found.money == pytest.approx(expected.money, rel=0.02)
    with pytest.raises(AnalysisError, match="one person in a thousand"):
        _ = SMALL.changed(
            catch_trials=5, truth={"lapse": 0.45}, exclusions={"catch_correct": 1.0, "dropout": 0.99}
        ).cost


# ------------------------------------------------------------------------------------------------------ formulas


def test_the_published_allocations() -> None:
    table = allocation_table(TYPICAL, [(84, 63), (84, 126), (168, 63), (168, 126), (250, 63)])
    assert table["standard error"].round(4).tolist() == [0.0145, 0.0128, 0.0123, 0.0102, 0.0114]
    shares = table.loc[0, ["units' share", "people's share", "answers' share"]].astype(float)
    assert shares.round(2).tolist() == [0.57, 0.19, 0.24]


def test_the_answers_that_a_difference_takes_nested_and_crossed() -> None:
    nested = answers_for_difference(TYPICAL, 0.03, answers_per_unit=30)
    crossed = answers_for_difference(TYPICAL, 0.03, answers_per_unit=1, crossed=True)
    assert nested == pytest.approx(4513, abs=1)
    assert crossed == pytest.approx(1183, abs=1)
    # By hand, nested: 2 (.01 30 + .0025 40 + .1286) / N = (.03 / 1.96)^2.
    assert nested == pytest.approx(2 * (0.3 + 0.1 + 0.1286) * (1.959964 / 0.03) ** 2, rel=1e-6)
    assert answers_for_difference(TYPICAL, 0.03, crossed=True, balanced=False) > crossed


@pytest.mark.parametrize("crossed", [False, True])
def test_formulas_agree_with_simulations(crossed: bool) -> None:
    """Variances of means, differences and slopes, from effects on the link's scale, over 600 simulated studies."""
    design = Design(
        models=3, predictor=(0.0, 0.4, 1.0), units=40, tasks=4, sessions=60 if crossed else 20, crossed=crossed,
        catch_trials=0,
    ).changed(truth={"unit": 0.9, "participant": 0.7, "task": 0.5, "model": 0.0, "lapse": 0.03})  # fmt: skip
    rng = np.random.default_rng(7)
    means = np.array([model_means(draw_answers(design, design.truth, rng)) for _ in range(600)])
    variances, counts = Variances.from_population(design.truth), SampleSizes.of(design)
    assert means.mean() == pytest.approx(variances.mean, abs=0.003)
    expected = mean_variance(variances, counts, 3 if crossed else 1).standard_error
    assert means.std(axis=0, ddof=1).mean() == pytest.approx(expected, rel=0.06)
    apart = (means[:, [0]] - means[:, [1, 2]]).std(axis=0, ddof=1).mean()
    assert apart == pytest.approx(
        difference_variance(variances, counts, crossed=crossed, models=3).standard_error, rel=0.07
    )
    slopes = regress_means(means, design.values).slope
    error = slope_variance(variances, counts, spread=design.spread, crossed=crossed, models=3).standard_error
    assert slopes.std(ddof=1) == pytest.approx(error, rel=0.09)


def test_components_on_the_scale_of_proportions_by_brute_force() -> None:
    population = Population(intercept=0.4, unit=0.8, participant=0.5, model=0.3, task=0.2, lapse=0.02)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 400, 4000))
    unit = z[0, :, :1] * 0.8
    rest = z[1] * 0.5 + z[2] * 0.3 + z[3] * 0.2
    by_unit = population.probability(0.4 + unit + rest).mean(axis=1)
    found = Variances.from_population(population)
    assert found.unit == pytest.approx(by_unit.var(ddof=1), rel=0.25)
    assert found.mean == pytest.approx(by_unit.mean(), abs=0.01)
    total = found.unit + found.participant + found.task + found.model + found.answer
    assert total == pytest.approx(found.mean * (1 - found.mean), rel=1e-9)


def test_effects_have_the_size_that_was_asked_for() -> None:
    design = Design(predictor=(0.0, 0.3, 1.5))
    for points in (0.06, -0.04):
        slope = linregress(design.values, expected_means(design, link_slope(design, points))).slope
        assert slope == pytest.approx(points, abs=1e-8)
    assert link_slope(design, 0.0) == 0.0 and link_difference(design, 0.0) == 0.0
    assert link_difference(design, -0.05) == -link_difference(design, 0.05)
    with pytest.raises(AnalysisError, match="no room"):
        link_slope(design, 0.9)
    with pytest.raises(AnalysisError, match="apart"):
        link_difference(design, 0.7)
    with pytest.raises(AnalysisError, match="three models"):
        link_slope(Design(models=2), 0.05)


def test_power_by_formula_is_that_of_the_noncentral_t() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(20_000, 9)) * 0.02 + 0.05 * Design().values
    error = 0.02 / math.sqrt(Design().spread)
    assert approximate_power(error, 0.05, 7) == pytest.approx(
        (regress_means(y, Design().values).p <= 0.05).mean(), abs=0.01
    )
    assert approximate_power(error, approximate_effect(error, 0.8, 7), 7) == pytest.approx(0.8, abs=1e-6)
    assert approximate_power(0.1, 0.0, 7) == pytest.approx(0.05)


def test_variances_that_can_not_be_are_refused() -> None:
    with pytest.raises(AnalysisError, match="less than units"):
        Variances.from_deviations(0.99, 0.2, 0.1)
    with pytest.raises(AnalysisError, match="negative"):
        Variances(0.8, -0.1, 0.0, 0.1)
    with pytest.raises(AnalysisError, match="no slope"):
        slope_variance(TYPICAL, SampleSizes(84, 63, 2520), spread=0.0)


def test_crossed_sessions_are_compared_with_nested_ones() -> None:
    table = compare_sessions(Design(), variances=TYPICAL).set_index("sessions")
    nested, crossed = table.loc["nested"], table.loc["crossed"]
    assert nested["standard error of a mean"] == pytest.approx(0.01448, abs=1e-5)
    assert crossed["standard error of a difference"] < nested["standard error of a difference"]
    assert nested["answers a model at 30 per unit"] == pytest.approx(4512.4, abs=0.1)
    assert crossed["people's share"] < 0.05 < nested["people's share"]
    # Whichever way the design itself is, the comparison is the same.
    mixed = compare_sessions(Design(crossed=True, sessions=567), variances=TYPICAL).set_index("sessions")
    pd.testing.assert_frame_equal(mixed, table)


# ------------------------------------------------------------------------- the same tests as those of the analysis


def test_slopes_are_those_of_the_scaling_analysis() -> None:
    """The fast regression of many studies gives the p, error and equivalence that ``fit_scaling`` gives of each."""
    design = Design(models=6, predictor=(6.8, 7.0, 7.3, 7.6, 7.7, 8.2), sessions=10, units=40, references_none=0.1)
    for seed in range(3):
        answers = draw_answers(design, design.truth, np.random.default_rng(seed))
        fast = regress_means(model_means(answers)[None], design.values)
        table = judgement_table(answers)
        table = table[(table["kind"] == "main") & (table["references"] == "both")]
        cells = estimate_proportions(table).frame()
        means = cells[["model", "condition", "value"]]
        models = pd.DataFrame(
            {
                "model": [f"model-{n}" for n in range(6)],
                "family": [f"family-{n % 2}" for n in range(6)],
                "parameters": 10.0 ** np.array(design.predictor),
            }
        )
        study = fit_scaling(means, models, predictors=("parameters",), joint=())
        slow = study.result("natural", "parameters")
        assert isinstance(slow, ScalingResult)
        assert fast.slope[0] == pytest.approx(slow.least_squares.value, rel=1e-8)
        assert fast.error[0] == pytest.approx(slow.least_squares.standard_error, rel=1e-8)
        assert fast.p[0] == pytest.approx(slow.least_squares.p, rel=1e-8)
        margin = float(fast.passing_margin()[0])
        assert not assess_equivalence(slow.least_squares, margin * 0.999).equivalent
        assert assess_equivalence(slow.least_squares, margin * 1.001).equivalent


@pytest.mark.parametrize("crossed", [False, True])
def test_differences_and_widths_are_those_of_the_analysis(crossed: bool) -> None:
    layout = Layout(
        models=2, units=40, sessions=24, crossed=crossed, catch_trials=3, references_none=0.1,
        conditions=("natural", "synthetic"),
    )  # fmt: skip
    answers = draw_answers(layout, Population(conditions={"synthetic": -0.4}), np.random.default_rng(5))
    table = judgement_table(answers)
    table = table[(table["kind"] == "main") & (table["references"] == "both")]
    counted = ~answers.catch & ~answers.blank
    natural = counted & (answers.condition == 0)
    pair = next(iter(compare_models(table, condition="natural")))
    difference, p = difference_p(answers, natural & (answers.model == 0), natural & (answers.model == 1))
    assert abs(difference) == pytest.approx(abs(pair.difference.value), rel=1e-10)
    assert p == pytest.approx(pair.p, rel=1e-8)
    first = next(own for own in compare_conditions(table) if own.first.startswith("model-0"))
    own = counted & (answers.model == 0)
    difference, p = difference_p(answers, own & (answers.condition == 0), own & (answers.condition == 1))
    assert difference == pytest.approx(first.difference.value, rel=1e-10)
    assert p == pytest.approx(first.p, rel=1e-8)
    for model in (0, 1):
        cell = estimate_proportions(table).cell(model=f"model-{model}", condition="natural")
        assert interval_width(answers, model) == pytest.approx(cell.estimate.high - cell.estimate.low, rel=1e-8)


def test_any_analysis_gives_the_power_of_its_own_test() -> None:
    def analyse(table: pd.DataFrame) -> float:
        means = table.groupby(["model", "unit"], observed=True).agg(
            correct=("correct", "mean"), predictor=("predictor", "first")
        )
        means = means.groupby("model", observed=True).mean()
        return float(linregress(means["predictor"], means["correct"]).pvalue)

    fast = simulate_power(SMALL, effect=0.15, simulations=40).power
    slow = simulate_analysis(SMALL, analyse, effect=0.15, simulations=40)
    assert slow.value == fast.value and 0 < slow.value < 1
    with pytest.raises(AnalysisError, match="no p-value"):
        simulate_analysis(SMALL, lambda table: float("nan"), simulations=1)


# --------------------------------------------------------------------------------------------------------- power


@pytest.mark.parametrize("deviation, effect, known", [(0.3, 0.046, 0.30), (0.3, 0.093, 0.82), (0.2, 0.070, 0.83)])
def test_the_published_powers(deviation: float, effect: float, known: float) -> None:
    """Within Monte-Carlo error of an independent simulation with 400 studies."""
    design = Design(catch_trials=0).changed(truth={"model": deviation})
    found = simulate_power(design, effect=effect, simulations=400).power
    assert found.n == 400 and found.low < found.value < found.high
    assert found.value == pytest.approx(known, abs=3 * math.sqrt(2 * known * (1 - known) / 400))
    error, freedom = predict_error(design, "slope")
    assert approximate_power(error, effect, freedom) == pytest.approx(found.value, abs=0.09)


def test_only_tests_that_count_models_keep_their_size() -> None:
    design = Design(units=42, sessions=32, catch_trials=0).changed(truth={"model": 0.3})
    found = error_rates(design, simulations=250)
    assert tuple(found) == TESTS
    assert found["naive trial-level logistic"].value > 0.4
    assert found["naive trial-level logistic"].value > found["cluster by unit"].value > 0.1
    for name in TESTS[-2:]:
        assert 0.02 <= found[name].value <= 0.09
    powers = error_rates(design, effect=0.15, simulations=50)
    assert powers["OLS on model means"].value > found["OLS on model means"].value


def test_the_trial_level_regression_is_statsmodels() -> None:
    import statsmodels.api as sm

    design = SMALL
    answers = draw_answers(design, design.truth, np.random.default_rng(0))
    fit = logistic_slope(answers.correct, answers.model, design.values)
    model = sm.GLM(
        answers.correct.astype(float), sm.add_constant(design.values[answers.model]), family=sm.families.Binomial()
    )
    assert fit.slope == pytest.approx(model.fit().params[1], rel=1e-6)
    assert fit.naive == pytest.approx(model.fit().bse[1], rel=1e-6)
    clustered = model.fit(cov_type="cluster", cov_kwds={"groups": answers.unit})
    assert fit.error(answers.unit) == pytest.approx(clustered.bse[1], rel=1e-6)
    with pytest.raises(AnalysisError, match="no finite slope"):
        logistic_slope(np.array([True, True, False, False]), np.array([1, 1, 0, 0]), np.array([0.0, 1.0]))


def test_two_models_alike_are_told_apart_as_rarely_as_the_level_says() -> None:
    for crossed in (False, True):
        design = Design(models=2, units=40, sessions=60 if crossed else 30, catch_trials=0, crossed=crossed)
        found = simulate_power(design, "difference", simulations=120)
        assert found.power.value == pytest.approx(0.05, abs=0.06)
        assert found.seen.value == pytest.approx(0.0, abs=0.009)


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_can_be_described(goal: Goal) -> None:
    design = SMALL.changed(conditions=("natural", "synthetic"))
    kind = {"bound": 0.2} if goal in ("equivalence", "width") else {"effect": 0.15}
    found = describe_power(design, goal, simulations=50, **kind)  # type: ignore[arg-type]
    assert found.asked is not None and 0 <= found.asked.power.value <= 1
    assert found.smallest.low <= found.smallest.value <= found.smallest.high
    assert len(found.sentences) >= 2 and "80 %" in found.sentences[0]
    assert set(found.facts.columns) == {"what", "value"} and not found.facts.isna().any(axis=None)
    again = describe_power(design, goal, simulations=50, **kind)  # type: ignore[arg-type]
    assert (again.smallest, again.asked) == (found.smallest, found.asked)


@pytest.mark.parametrize("goal", ["slope", "difference"])
def test_the_smallest_effect_has_the_power_it_is_given_for(goal: Goal) -> None:
    smallest = smallest_detectable(SMALL, goal, power=0.8, simulations=300)
    found = simulate_power(SMALL, goal, effect=smallest.value, simulations=200, seed=1).power
    assert found.value == pytest.approx(0.8, abs=0.1)
    error, freedom = predict_error(SMALL, goal)
    assert smallest.value == pytest.approx(approximate_effect(error, 0.8, freedom), rel=0.15)


def test_margins_and_widths_are_met_as_often_as_promised() -> None:
    for goal in ("equivalence", "width"):
        bound = smallest_detectable(SMALL, goal, power=0.7, simulations=150)  # type: ignore[arg-type]
        found = simulate_power(SMALL, goal, bound=bound.value, simulations=150, seed=9)  # type: ignore[arg-type]
        assert found.power.value == pytest.approx(0.7, abs=0.13)


def test_a_family_of_tests_costs_power() -> None:
    alone = simulate_power(SMALL, "difference", effect=0.1, simulations=100).power.value
    among = simulate_power(SMALL, "difference", effect=0.1, simulations=100, family=6).power.value
    assert among < alone


def test_progress_is_told() -> None:
    seen: list[int] = []

    class Listener(Reporter):
        @contextmanager
        def task(self, title: str, total: int):  # type: ignore[no-untyped-def]
            seen.append(-total)
            yield seen.append

    simulate_power(SMALL, simulations=7, reporter=Listener())
    assert seen == [-7] + [1] * 7


@pytest.mark.parametrize(
    "goal, design, bound, message",
    [
        ("slope", Design(models=2), None, "three models"),
        ("slope", Design(predictor=(1.0, 1.0, 1.0)), None, "differ in the predictor"),
        ("difference", Design(models=1), None, "needs two"),
        ("condition", Design(), None, "needs two"),
        ("equivalence", Design(), None, "declared margin"),
        ("width", Design(), 0.0, "width to reach"),
    ],
)
def test_goals_that_a_design_can_not_carry(goal: Goal, design: Design, bound: float | None, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        simulate_power(design, goal, bound=bound, simulations=2)


def test_effects_without_room_are_refused() -> None:
    design = Design(conditions=("natural", "synthetic"))
    with pytest.raises(AnalysisError, match="no room"):
        simulate_power(design, "condition", effect=0.5, simulations=2)
    with pytest.raises(AnalysisError, match="at least 50"):
        smallest_detectable(design, simulations=10)
    with pytest.raises(AnalysisError, match="power must lie"):
        smallest_detectable(design, power=0.01)


# -------------------------------------------------------------------------------------------------- optimal designs


@pytest.mark.parametrize("aim", ["mean", "difference", "slope"])
@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("unit_cost", [0.0, 1.5])
def test_no_design_is_better_than_the_optimum(aim: Aim, crossed: bool, unit_cost: float) -> None:
    """Every number of models, units and sessions that the budget and the rules allow, one by one."""
    design = Design(
        trials=6, references_none=1 / 6, crossed=crossed, models=3, decades=1.2, tasks=2,
        exclusions=Screening(catch_correct=0.0, each_position=0.0),
        costs=Costs(session=2.0, unit=unit_cost, model=3.0, fixed=4.0),
    )  # fmt: skip
    assert (design.main_answers, design.session_cost) == (5, 2.0)
    variances = replace(TYPICAL, model=0.0005, task=0.002)
    budget = 130.0
    found = optimize(design, budget, aim, variances=variances, most_units=40, most_models=6)
    best = math.inf
    for models, units, sessions in itertools.product(
        range(3, 7) if aim == "slope" else [3], range(1, 41), range(2, 66)
    ):
        mixed = models if crossed else 1
        spent = 4 + models * (3 + unit_cost * units) + 2 * sessions * (1 if crossed else models)
        answers = 5 * sessions / mixed
        if spent <= budget + 1e-9 and units * mixed >= 6 and answers >= units - 1e-9:
            own = design.changed(models=models)
            sizes = SampleSizes(*(np.array([float(n)]) for n in (units, sessions, answers)), tasks=2)
            half = goal_precision(own, aim, variances, sizes)[1][0]
            best = min(best, float(half))
    assert found.half_width == pytest.approx(best, rel=1e-12)
    assert found.cost <= budget + 1e-9 and found.answers_per_unit >= 1 - 1e-9
    assert found.units * (found.models if crossed else 1) >= 6
    assert found.units_as_good[0] <= found.units <= found.units_as_good[1]
    assert found.models_as_good[0] <= found.models <= found.models_as_good[1]
    assert (found.frontier["over the best"] >= -1e-12).all()
    assert found.ladder["half width"].is_monotonic_decreasing
    assert len(found.sentences) >= 2


@pytest.mark.parametrize("crossed", [False, True])
def test_the_optimiser_uses_the_formulas(crossed: bool) -> None:
    variances = replace(TYPICAL, model=0.0005, task=0.002, participant_model=0.0004)
    design = Design(crossed=crossed, models=5, decades=1.3, tasks=8)
    sessions, units = 120.0, 60.0
    counts = SampleSizes(units, sessions, sessions * 40 / (5 if crossed else 1), 8)
    spread = float(((np.linspace(0, 1.3, 5) - 0.65) ** 2).sum())
    expected = {
        "mean": mean_variance(variances, counts, 5 if crossed else 1),
        "difference": difference_variance(variances, counts, crossed=crossed, models=5),
        "slope": slope_variance(variances, counts, spread=spread, crossed=crossed, models=5),
    }
    for aim, parts in expected.items():
        many = SampleSizes(*(np.array([n]) for n in (counts.units, counts.people, counts.answers)), tasks=8)
        error, half = goal_precision(design, aim, variances, many)  # type: ignore[arg-type]
        assert error[0] == pytest.approx(parts.standard_error, rel=1e-10)
        assert half[0] > 1.95 * error[0]


def test_more_units_beat_more_answers_about_each() -> None:
    """Where units cost nothing, each is asked about once; where they cost, fewer are asked about oftener."""
    free = optimize(Design(), aim="mean")
    dear = optimize(Design().changed(costs={"unit": 5.0}), Design().cost * 4, "mean")
    assert free.answers_per_unit == pytest.approx(1.0, abs=0.01)
    assert dear.answers_per_unit > 3 and dear.at_most == ()
    assert free.half_width < predict_error(Design(), "width")[0] * 1.96
    assert "It takes all units" in " ".join(optimize(Design(), aim="mean", most_units=500).sentences)


def test_a_budget_that_is_too_small_is_refused() -> None:
    with pytest.raises(AnalysisError, match="too little"):
        optimize(Design(), 20.0)
    with pytest.raises(AnalysisError, match="must cost something"):
        optimize(Design(costs=Costs(session=0.0)), 100.0)
    with pytest.raises(AnalysisError, match="no main trial"):
        Design(references_none=1.0)


def test_an_exclusion_makes_sessions_dearer_and_results_less_exact() -> None:
    careless = Design().changed(exclusions={"inattentive": 0.3})
    found: list[Optimum] = [optimize(design, 3000.0) for design in (Design(), careless)]
    assert found[1].sessions < found[0].sessions and found[1].half_width > found[0].half_width


# ------------------------------------------------------------------------------------------- how many more sessions


def test_the_sessions_that_were_promised_bring_the_width() -> None:
    population = Population(unit=0.7, participant=0.6)
    table = simulate_judgements(Layout(models=2, units=200, sessions=40), population, seed=3)
    forecast = sessions_until(table, 0.05)
    assert not forecast.crossed and len(forecast.outlooks) == 2 and not forecast.unknown
    assert forecast.total.value == sum(own.more.value for own in forecast.outlooks) > 0
    for own in forecast.outlooks:
        assert own.reachable and own.more.low <= own.more.value <= own.more.high
        later = own.components.width_after(own.sessions + own.more.value, own.units)
        assert later <= 0.05 < own.components.width_after(own.sessions + own.more.value - 1, own.units)
        assert f"{own.more.value:,.0f} more" in own.sentence


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """The sessions that the true components need lie inside the interval, in at least 95 % of studies."""
    population = Population(unit=0.8, participant=0.5, model=0.0)
    layout = Layout(models=1, units=150, sessions=45)
    truth = Variances.from_population(population)
    exact = Components(truth.unit, truth.participant, truth.answer, truth.mean, 150, 45, 1800, 1 / 150, 1 / 45)
    wanted = exact.sessions_for(0.045, 150) - 45
    assert 0 < wanted < math.inf
    covered = 0
    for seed in range(80):
        own = sessions_until(simulate_judgements(layout, population, seed=seed), 0.045).outlooks[0]
        covered += own.more.low <= wanted <= own.more.high
    assert covered / 80 >= 0.92


def test_too_few_units_are_named_and_how_many_would_do() -> None:
    table = simulate_judgements(Layout(models=1, units=60, sessions=45), Population(), seed=0)
    forecast = sessions_until(table)
    own = forecast.outlooks[0]
    assert not own.reachable and math.isinf(forecast.total.value)
    assert own.narrowest > 0.02 and own.units_needed.low <= own.units_needed.value <= own.units_needed.high
    enough = int(own.units_needed.value)
    assert own.components.sessions_for(0.02, enough + 20) < math.inf == own.components.sessions_for(0.02, enough - 20)
    assert own.sessions_with_more_units == own.components.sessions_for(0.02, 2 * enough)
    assert "No number of sessions" in own.sentence and "can't reach" in forecast.sentences[0]
    assert len(forecast.frame()) == 1
    more = sessions_until(table, units=2 * enough).outlooks[0]
    assert more.reachable and more.more.value == own.sessions_with_more_units - own.sessions


def test_what_is_reached_needs_no_more() -> None:
    table = simulate_judgements(Layout(models=1, units=60, sessions=45), Population(), seed=0)
    forecast = sessions_until(table, 0.2)
    assert (forecast.total.low, forecast.total.value, forecast.total.high) == (0, 0, 0)
    assert "All means" in forecast.sentences[0] and "reached" in forecast.sentences[1]


def test_one_session_serves_all_models_where_they_are_crossed() -> None:
    layout = Layout(models=3, units=150, sessions=80, crossed=True, catch_trials=5, references_none=0.1)
    table = simulate_judgements(layout, Population(unit=0.6), seed=1)
    forecast = sessions_until(table, 0.05)
    assert forecast.crossed
    assert forecast.total.value == max(own.more.value for own in forecast.outlooks) > 0
    assert all(own.sessions == 80 for own in forecast.outlooks)
    shuffled = table.sample(frac=1, random_state=0)
    assert sessions_until(shuffled, 0.05) == forecast
    renamed = table.assign(unit="x" + table["unit"].astype(str), session="y" + table["session"].astype(str))
    assert sessions_until(renamed, 0.05) == forecast


def test_what_can_not_be_forecast_says_so() -> None:
    table = simulate_judgements(Layout(models=2, units=50, sessions=5), Population(), seed=0)
    with pytest.raises(AnalysisError, match="no main trials"):
        sessions_until(table.iloc[:0])
    with pytest.raises(AnalysisError, match="between 0 and 1"):
        sessions_until(table, 1.5)
    with pytest.raises(AnalysisError, match="two units"):
        sessions_until(table, units=1)
    with pytest.raises(AnalysisError, match="all answers agree"):
        sessions_until(table.assign(correct=1.0))
    with pytest.raises(AnalysisError, match="too few units"):
        sessions_until(table[table["session"] == "session-0"])
    one = table.assign(correct=np.where(table["model"] == "model-0", 1.0, table["correct"]))
    forecast = sessions_until(one, 0.2)
    assert (
        len(forecast.outlooks) == 1 and "model-0" in forecast.unknown[0] and forecast.unknown[0] in forecast.sentences
    )


def test_ends_of_components_hold_the_components() -> None:
    table = simulate_judgements(Layout(models=1, units=60, sessions=45), Population(), seed=0)
    components = components_of(table)
    assert components is not None
    low, high = component_ends(components)
    assert low.unit < components.unit < high.unit and low.answer < components.answer < high.answer
    assert low.standard_error < components.standard_error < high.standard_error
