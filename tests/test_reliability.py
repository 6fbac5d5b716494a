"""Reliability: published figures, brute force, recovery where the truth is known, and tables that carry nothing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.intervals.bootstrap import percentile_estimate, resample_weights
from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.reliability import (
    accuracy_ceiling,
    answers_needed,
    estimate_reliability,
    implied_reliability,
    noise_ceiling,
    reliability_curve,
)
from analysis.reliability.analysis_of_variance import intraclass, step_up
from analysis.reliability.intervals import reliability_estimate
from analysis.reliability.split_halves import Halves, mean_correlation, split_answers
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

PUBLISHED = Path(__file__).resolve().parents[1] / "analysis" / "data" / "imi_2023.csv"


def table_of(counts: list[tuple[int, int]], people: int = 7, prefix: str = "unit") -> pd.DataFrame:
    """Return judgements of units with so many right and wrong answers, people taking turns."""
    rows = [
        {"unit": f"{prefix}-{number:03d}", "correct": float(place < right)}
        for number, (right, wrong) in enumerate(counts)
        for place in range(right + wrong)
    ]
    table = pd.DataFrame(rows)
    person = (np.arange(len(table)) * 5) % people
    return table.assign(
        model="model",
        condition="natural",
        difficulty="easy",
        references="both",
        participant=[f"person-{number}" for number in person],
        task=table["unit"] + "#0",
    )


def beta_counts(seed: int, units: int, answers: int, a: float = 7.0, b: float = 1.5) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    right = rng.binomial(answers, rng.beta(a, b, units))
    return [(int(s), int(answers - s)) for s in right]


# ------------------------------------------------------------------------------------------------ published numbers


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("natural", [0.75, 0.64, 0.56, 0.74, 0.72, 0.74, 0.74, 0.82, 0.63]),
        ("synthetic", [0.80, 0.54, 0.41, 0.66, 0.68, 0.72, math.nan, math.nan, 0.62]),
    ],
)
def test_published_intervals_imply_these_reliabilities(condition: str, expected: list[float]) -> None:
    table = pd.read_csv(PUBLISHED)
    for value, row in zip(expected, table.to_dict("records")):
        if math.isnan(value):
            assert math.isnan(row[condition])
            continue
        found = implied_reliability(row[condition], row[f"{condition}_low"], row[f"{condition}_high"], 84, 30)
        assert round(found.reliability, 2) == value
        assert found.ceiling == pytest.approx(math.sqrt(found.reliability))


def test_the_answers_that_published_intervals_ask_for() -> None:
    table = pd.read_csv(PUBLISHED)
    needed, ceilings = {}, {}
    for condition in ("natural", "synthetic"):
        rows = table.dropna(subset=condition)
        found = [
            implied_reliability(mean, low, high, 84, 30)
            for mean, low, high in rows[[condition, f"{condition}_low", f"{condition}_high"]].to_numpy()
        ]
        needed[condition] = (round(min(f.needed for f in found)), round(max(f.needed for f in found)))
        ceilings[condition] = (round(min(f.ceiling for f in found), 2), round(max(f.ceiling for f in found), 2))
    assert needed == {"natural": (60, 212), "synthetic": (65, 394)}
    assert ceilings == {"natural": (0.75, 0.90), "synthetic": (0.64, 0.90)}


def test_an_interval_as_narrow_as_chance_implies_no_reliability() -> None:
    found = implied_reliability(0.8, 0.795, 0.805, 84, 30)
    assert found.reliability < 0
    assert found.needed == math.inf
    assert (found.true_deviation, found.ceiling) == (0.0, 0.0)


@pytest.mark.parametrize("figures", [(1.0, 0.9, 1.0, 84, 30), (0.8, 0.9, 0.95, 84, 30), (0.8, 0.7, 0.9, 84, 1)])
def test_figures_that_are_no_interval_are_refused(figures: tuple[float, float, float, int, float]) -> None:
    with pytest.raises(AnalysisError, match="can't compute a reliability"):
        implied_reliability(*figures)


# ------------------------------------------------------------------------------------------------ brute force


def test_the_intraclass_correlation_is_that_of_mean_squares() -> None:
    counts = [(3, 1), (5, 5), (9, 0), (2, 4), (7, 2), (1, 1), (6, 6)]
    groups = [np.r_[np.ones(s), np.zeros(w)] for s, w in counts]
    everything = np.concatenate(groups)
    n, g = len(everything), len(groups)
    between = sum(len(x) * (x.mean() - everything.mean()) ** 2 for x in groups) / (g - 1)
    within = sum(((x - x.mean()) ** 2).sum() for x in groups) / (n - g)
    size = (n - sum(len(x) ** 2 for x in groups) / n) / (g - 1)
    single = (between - within) / (between + (size - 1) * within)
    k, s = np.array([len(x) for x in groups]), np.array([x.sum() for x in groups])
    found = intraclass(np.ones((1, g)), k, s)
    assert found[0][0] == pytest.approx(single)
    assert found[1][0] == pytest.approx((n / g) * single / (1 + (n / g - 1) * single))


def test_weights_stand_for_repeated_units() -> None:
    rng = np.random.default_rng(1)
    k, s = np.array([4, 6, 8, 5, 9]), np.array([1, 4, 8, 2, 5])
    weights = resample_weights(5, 3, rng)
    for row, found in zip(weights, intraclass(weights, k, s)[0]):
        drawn = np.repeat(np.arange(5), row.astype(int))
        assert found == pytest.approx(intraclass(np.ones((1, 5)), k[drawn], s[drawn])[0][0])


def test_the_mean_correlation_is_that_of_every_split_and_replicate() -> None:
    rng = np.random.default_rng(2)
    shown = (rng.random((12, 4)) < 0.8).astype(float)
    halves = Halves(rng.random((12, 4)) * shown, rng.random((12, 4)) * shown, shown)
    weights = resample_weights(12, 5, rng)
    for row, found in zip(weights, mean_correlation(weights, halves)):
        correlations = []
        for split in range(4):
            drawn = np.repeat(np.arange(12), (row * shown[:, split]).astype(int))
            correlations.append(np.corrcoef(halves.first[drawn, split], halves.second[drawn, split])[0, 1])
        assert found == pytest.approx(np.mean(correlations))


def test_halves_are_disjoint_random_parts_of_the_answers() -> None:
    answers, right = np.array([7, 10, 4]), np.array([3, 10, 0])
    size = answers // 2
    halves = split_answers(answers, right, size, 4000, np.random.default_rng(3))
    first, second = halves.first * size[:, None], halves.second * size[:, None]
    assert (first + second <= right[:, None] + 1e-9).all()
    assert (first + second >= (right - (answers - 2 * size))[:, None] - 1e-9).all()
    assert halves.first.mean(axis=1) == pytest.approx(right / answers, abs=0.02)
    # Drawn without replacement: P(both of one pair right) is s (s - 1) / (k (k - 1)).
    assert (halves.first * halves.second).mean(axis=1) == pytest.approx(
        right * (right - 1) / (answers * (answers - 1)), abs=0.02
    )


def test_the_ceiling_of_accuracy_is_that_of_leaving_each_answer_out() -> None:
    counts = [(3, 1), (2, 2), (5, 0), (1, 3), (2, 1)]
    lower, upper = [], []
    for s, w in counts:
        answers = [1] * s + [0] * w
        hits = []
        for place, answer in enumerate(answers):
            others = answers[:place] + answers[place + 1 :]
            mean = np.mean(others)
            hits.append(0.5 if mean == 0.5 else float((mean > 0.5) == (answer == 1)))
        lower.append(np.mean(hits))
        upper.append(max(s, w) / (s + w))
    found = accuracy_ceiling(table_of(counts))[0]
    assert found.lower.value == pytest.approx(np.mean(lower))
    assert found.upper.value == pytest.approx(np.mean(upper))
    assert found.lower.value <= found.upper.value


def test_spearman_brown_goes_forth_and_back() -> None:
    single = np.array([0.05, 0.3, -0.01])
    assert step_up(step_up(single, 30.0), 1 / 30) == pytest.approx(single)
    assert step_up(np.array([-0.5]), 4.0)[0] == -math.inf


# ------------------------------------------------------------------------------------------------ recovery


def test_the_truth_is_recovered_by_every_way() -> None:
    a, b, answers = 7.0, 1.5, 30
    rho = 1 / (a + b + 1)
    truth = answers * rho / (1 + (answers - 1) * rho)
    found = [
        estimate_reliability(table_of(beta_counts(seed, 84, answers), people=63), resamples=50, splits=100)[0]
        for seed in range(40)
    ]
    for name in ("by_answers", "by_participants", "intraclass"):
        values = [getattr(result, name).value for result in found]
        assert np.mean(values) == pytest.approx(truth, abs=0.025), name
    assert np.median([result.needed.value for result in found]) == pytest.approx(9 * (1 - rho) / rho, rel=0.1)


def test_simulated_experiments_have_the_reliability_of_their_probabilities() -> None:
    found, true = [], []
    for seed in range(12):
        table = simulate_judgements(Layout(models=1), Population(model=0.0), seed=seed)
        by_unit = table.groupby("unit", observed=True)
        means = by_unit["correct"].mean()
        found.append(estimate_reliability(table, resamples=50, splits=100)[0].intraclass.value)
        true.append(np.corrcoef(means, by_unit["probability"].mean())[0, 1] ** 2)
    assert np.mean(found) == pytest.approx(np.mean(true), abs=0.06)


@pytest.mark.parametrize(("units", "answers"), [(84, 30), (30, 10)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(units: int, answers: int) -> None:
    rho = 1 / (7 + 1.5 + 1)
    truth = answers * rho / (1 + (answers - 1) * rho)
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(1000 + seed)
        k = np.full(units, answers)
        s = np.array([right for right, _ in beta_counts(seed, units, answers)])
        value = float(intraclass(np.ones((1, units)), k, s)[1][0])
        replicates = intraclass(resample_weights(units, 300, rng), k, s)[1]
        found = reliability_estimate(value, replicates, "intraclass", units, "")
        covered += found.low <= truth <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_curve_that_is_observed_is_the_one_that_is_predicted() -> None:
    curve = reliability_curve(table_of(beta_counts(5, 400, 40)), answers=(1, 5, 20, 80))[0]
    for point in curve.points[:3]:
        assert point.observed is not None
        assert point.observed.value == pytest.approx(point.predicted.value, abs=0.03)
        assert point.observed.n == 400
    assert curve.points[3].observed is None
    values = [point.predicted.value for point in curve.points]
    assert values == sorted(values)
    shown = curve.frame()
    assert shown["units_observed"].tolist() == [400, 400, 400, 0]
    assert shown["observed"].isna().tolist() == [False, False, False, True]


def test_the_answers_needed_give_the_target() -> None:
    found = estimate_reliability(table_of(beta_counts(6, 84, 30)), target=0.8, resamples=200)[0]
    for end, other in (("value", "value"), ("low", "high"), ("high", "low")):
        needed = getattr(found.needed, end)
        assert step_up(np.array([getattr(found.single, other)]), needed)[0] == pytest.approx(0.8)
    assert found.ceiling.value == pytest.approx(math.sqrt(found.intraclass.value))
    assert found.ceiling.high == pytest.approx(math.sqrt(found.intraclass.high))


# ------------------------------------------------------------------------------------------------ signs and bounds


def test_a_negative_reliability_is_reported_as_it_is() -> None:
    found = estimate_reliability(table_of([(5, 5), (6, 4)] * 15))[0]
    assert found.intraclass.value < 0
    assert found.by_answers.value < 0
    assert found.single.value < 0
    assert found.needed.value == math.inf
    assert (found.ceiling.value, found.ceiling.low) == (0.0, 0.0)
    assert "0 stands for a negative reliability" in found.ceiling.method


def test_units_that_are_always_right_or_always_wrong_are_wholly_reliable() -> None:
    found = estimate_reliability(table_of([(10, 0), (0, 10)] * 6))[0]
    assert found.intraclass.value == pytest.approx(1)
    assert found.by_answers.value == pytest.approx(1)
    assert found.needed.value == pytest.approx(0)
    assert not any(math.isnan(v) for v in found.row().values() if isinstance(v, float))


def test_too_few_replicates_with_a_value_leave_no_interval() -> None:
    replicates = np.r_[np.full(10, np.nan), np.linspace(0.1, 0.2, 90)]
    for found in (
        reliability_estimate(0.15, replicates, "what", 10, ""),
        percentile_estimate(0.15, replicates, "what", 10, "correlation", "", (-1.0, 1.0)),
    ):
        assert found.method.startswith("no interval: ")
    kept = percentile_estimate(0.15, replicates[7:], "what", 10, "correlation", "")
    assert "3 without a value left out" in kept.method


def test_words_around_a_missing_interval_keep_it_in_front() -> None:
    nothing = Estimate(0.5, -math.inf, 1.0, "no interval: too few", 5, "reliability")
    assert noise_ceiling(nothing).method.startswith("no interval: square root")
    assert answers_needed(nothing).method.startswith("no interval: Spearman-Brown")


# ------------------------------------------------------------------------------------------------ invariance, limits


def test_neither_order_nor_names_matter() -> None:
    table = table_of(beta_counts(7, 30, 9))
    shuffled = table.sample(frac=1, random_state=3)
    names = {name: f"renamed-{place}" for place, name in enumerate(sorted(table["unit"].unique(), reverse=True))}
    renamed = table.assign(unit=table["unit"].map(names))
    first, second, third = (
        estimate_reliability(one, resamples=100, splits=50).frame() for one in (table, shuffled, renamed)
    )
    pd.testing.assert_frame_equal(first, second)
    by_people = [name for name in first.columns if name.startswith("by_participants")]
    pd.testing.assert_frame_equal(first.drop(columns=by_people), third.drop(columns=by_people))
    curves = [reliability_curve(one, resamples=50, splits=20)[0].frame() for one in (table, shuffled, renamed)]
    pd.testing.assert_frame_equal(curves[0], curves[1])
    pd.testing.assert_frame_equal(curves[0], curves[2])


def test_models_and_conditions_are_kept_apart() -> None:
    parts = [
        table_of(beta_counts(seed, 20, 8)).assign(model=model, condition=condition)
        for seed, (model, condition) in enumerate([("a", "natural"), ("a", "synthetic"), ("b", "natural")])
    ]
    found = estimate_reliability(pd.concat(parts), resamples=50, splits=20).frame()
    assert found[["model", "condition"]].to_numpy().tolist() == [["a", "natural"], ["a", "synthetic"], ["b", "natural"]]
    for row, part in zip(found.to_dict("records"), parts):
        alone = estimate_reliability(part, resamples=50, splits=20)[0]
        assert row["intraclass"] == alone.intraclass.value


def test_one_person_can_not_be_split() -> None:
    assert estimate_reliability(table_of(beta_counts(8, 20, 8), people=1))[0].by_participants is None


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([(4, 0)] * 10, "same proportion of right answers"),
        ([(2, 2)] * 10, "same proportion of right answers"),
        ([(1, 0), (0, 1)] * 10, "0 of 20 units have 2 answers"),
        ([(3, 1), (1, 3), (2, 2)], "3 of 3 units"),
    ],
)
def test_tables_that_carry_nothing_say_so(counts: list[tuple[int, int]], message: str) -> None:
    for analysis in (estimate_reliability, reliability_curve):
        with pytest.raises(AnalysisError, match=message):
            analysis(table_of(counts))


def test_an_empty_table_and_an_impossible_target_are_refused() -> None:
    with pytest.raises(AnalysisError, match="empty"):
        estimate_reliability(table_of([(3, 1)] * 3).head(0))
    with pytest.raises(AnalysisError, match="between 0 and 1"):
        estimate_reliability(table_of(beta_counts(9, 10, 4)), target=1.0)
    with pytest.raises(AnalysisError, match="at least 1"):
        reliability_curve(table_of(beta_counts(9, 10, 4)), answers=(0, 2))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_an_impossible_correlation_stays_impossible(factor: float) -> None:
    assert step_up(np.array([-math.inf]), factor).tolist() == [-math.inf]
