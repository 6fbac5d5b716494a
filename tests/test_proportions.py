from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from analysis.estimands import SCOPES, Scope, spell_estimand
from analysis.intervals.wilson import wilson_interval
from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.proportions import Interval, cluster_means, compare_intervals, estimate_proportions, read_answers
from analysis.proportions.answers import DEPTHS
from analysis.proportions.intervals import SPEAKS_FOR
from benchmark.errors import AnalysisError, NameNotFound
from tests.simulated import marginal_mean

NATURAL = Path(__file__).parent / "data" / "glmm" / "natural.csv.gz"
PLAIN = Population(model=0.0)
INTERVALS: tuple[Interval, ...] = get_args(Interval)
NARROW: tuple[Interval, ...] = ("answers", "units")
SMALL = simulate_judgements(Layout(models=2, units=12, sessions=9, trials=10), PLAIN, seed=3)


def paper_sized() -> pd.DataFrame:
    """Return nine models of 2,520 answers each."""
    data = pd.read_csv(NATURAL)
    model = "model-" + data["model"].astype(str)
    return pd.DataFrame(
        {
            "correct": data["correct"].astype(float), "model": model, "condition": data["cond"],
            "unit": model + "/layer/" + data["unit"].astype(str), "layer": "layer",
            "participant": "person-" + data["participant"].astype(str),
            "session": "session-" + data["participant"].astype(str), "kind": "main",
        }
    )  # fmt: skip


def table_of(rows: list[tuple[str, str, int]], model: str = "m") -> pd.DataFrame:
    """Return judgements from (unit, participant, correct)."""
    return pd.DataFrame(
        {
            "correct": [float(c) for _, _, c in rows], "model": model, "condition": "natural", "difficulty": "easy",
            "references": "both", "unit": [f"{model}/{u}" for u, _, _ in rows], "layer": "l",
            "participant": [p for _, p, _ in rows], "session": [p for _, p, _ in rows], "kind": "main",
        }
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- known numbers


def test_errors_of_an_experiment_of_the_papers_size() -> None:
    cells = estimate_proportions(paper_sized())
    mean = cells.frame()[["error_binomial", "error_participants", "error_units", "error_two_way"]].mean()
    assert mean.round(4).tolist() == [0.0077, 0.0091, 0.0134, 0.0142]
    for own in cells:
        assert (own.units, own.people, own.answers, own.estimate.n) == (84, 63, 2520, 84)
        assert own.components is not None
        # Both count the same sources of luck, by different formulas.
        assert own.components.standard_error == pytest.approx(own.errors.two_way, rel=0.03)
    table = paper_sized()
    pigeonhole = [compare_intervals(own).pigeonhole for _, own in table.groupby("model")]
    assert np.mean(pigeonhole) == pytest.approx(0.0177, abs=0.0002)


def test_variances_are_sums_over_clusters() -> None:
    found = estimate_proportions(SMALL)
    for own in found:
        rows = SMALL[SMALL["model"] == own.names["model"]]
        by_unit = rows.groupby("unit", observed=True)["correct"]
        share = rows["unit"].map(1 / by_unit.size() / by_unit.ngroups).astype(float)
        value = by_unit.mean().mean()
        score = share * (rows["correct"] - value)
        variance = {}
        for name in ("unit", "participant"):
            sums = score.groupby(rows[name], observed=True).sum()
            variance[name] = (sums**2).sum() * len(sums) / (len(sums) - 1)
        sums = score.groupby([rows["unit"], rows["participant"]], observed=True).sum()
        crossing = (sums**2).sum() * len(sums) / (len(sums) - 1)
        assert own.estimate.value == pytest.approx(value)
        assert own.errors.units == pytest.approx(math.sqrt(variance["unit"]))
        assert own.errors.participants == pytest.approx(math.sqrt(variance["participant"]))
        two_way = max(variance["unit"] + variance["participant"] - crossing, *variance.values())
        assert own.errors.two_way == pytest.approx(math.sqrt(two_way))
        assert own.errors.binomial == pytest.approx(math.sqrt(value * (1 - value) * (share**2).sum()))


def test_the_units_interval_is_the_papers_bootstrap() -> None:
    own = paper_sized().query("model == 'model-2'")
    means = own.groupby("unit")["correct"].mean().to_numpy()
    expected = bootstrap((means,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(7))
    found = estimate_proportions(own, interval="units").cells[0].estimate
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.0015)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.0015)
    assert found.method == "BCa bootstrap over units; mean over units"


def test_wilsons_interval() -> None:
    low, high = wilson_interval(0.9, 30, 1.959963984540054)
    assert [low, high] == pytest.approx([0.7438, 0.9654], abs=1e-4)
    assert wilson_interval(1.0, 10, 1.96)[1] == 1.0 and wilson_interval(0.0, 10, 1.96)[0] == 0.0


# --------------------------------------------------------------------------------------------------- coverage


@pytest.mark.parametrize(
    ("layout", "sets"),
    [
        (Layout(models=1, units=40, sessions=30), 160),
        (Layout(models=3, units=30, sessions=40, trials=30, crossed=True), 60),
    ],
    ids=["nested", "crossed"],
)
@pytest.mark.parametrize(
    "population", [PLAIN, Population(model=0.0, unit=0.5, participant=1.0)], ids=["units differ", "people differ"]
)
def test_the_default_interval_covers_the_truth(layout: Layout, sets: int, population: Population) -> None:
    truth = marginal_mean(population)
    held = [
        own.estimate.low <= truth <= own.estimate.high
        for seed in range(sets)
        for own in estimate_proportions(simulate_judgements(layout, population, seed=seed))
    ]
    # 160 to 180 intervals: .95 within three of their standard errors.
    assert 0.90 <= np.mean(held) <= 0.99


def test_counting_one_source_of_luck_alone_covers_too_little() -> None:
    population = Population(model=0.0, unit=0.5, participant=1.0)
    truth, held = marginal_mean(population), dict.fromkeys(NARROW, 0)
    for seed in range(60):
        table = simulate_judgements(Layout(models=1, units=40, sessions=30), population, seed=seed)
        for interval in held:
            own = estimate_proportions(table, interval=interval).cells[0].estimate
            held[interval] += own.low <= truth <= own.high
    assert held["answers"] < 0.75 * 60 and held["units"] < 0.87 * 60


# -------------------------------------------------------------------------------------------------- invariance


@pytest.mark.parametrize("interval", INTERVALS)
def test_order_names_and_sessions_do_not_matter(interval: Interval) -> None:
    by = ("condition",) if interval == "models" else ("model",)
    first = estimate_proportions(SMALL, by, interval=interval)
    rng = np.random.default_rng(1)
    other = SMALL.sample(frac=1, random_state=2).astype(dict.fromkeys(("unit", "participant", "session"), str))
    for name in ("unit", "participant"):
        known = sorted(other[name].unique())
        other[name] = other[name].map(dict(zip(known, [f"x{k}" for k in rng.permutation(len(known))])))
    other["session"] = other["session"] + np.where(other["trial_index"] < 5, "a", "b")
    second = estimate_proportions(other, by, interval=interval)
    for one, two in zip(first, second, strict=True):
        assert one.names == two.names
        for end in ("value", "low", "high"):
            assert getattr(one.estimate, end) == pytest.approx(getattr(two.estimate, end), abs=1e-8)
        assert one.estimate.method == two.estimate.method


def test_answers_given_twice_by_one_person_are_one_persons() -> None:
    doubled = pd.concat([SMALL, SMALL.assign(session=SMALL["session"].astype(str) + "-again")])
    for one, two in zip(estimate_proportions(SMALL), estimate_proportions(doubled), strict=True):
        assert two.errors.two_way == pytest.approx(one.errors.two_way, rel=0.01)
        assert two.errors.binomial == pytest.approx(one.errors.binomial / math.sqrt(2))


# ----------------------------------------------------------------------------------- what estimates speak for


@pytest.mark.parametrize("interval", INTERVALS)
def test_every_estimate_says_what_it_is(interval: Interval) -> None:
    by = ("condition",) if interval == "models" else ("model", "condition")
    own = estimate_proportions(SMALL, by, interval=interval).cells[0].estimate
    assert own.estimand == spell_estimand(SPEAKS_FOR[interval], "layer-uniform")
    assert own.unit == "proportion correct" and own.n >= 2 and own.level == 0.95
    assert 0 <= own.low < own.value < own.high <= 1
    assert "mean over units" in own.method or interval == "models"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_has_an_interval_of_its_own(scope: Scope) -> None:
    own = estimate_proportions(SMALL, ("condition",), scope=scope).cells[0].estimate
    assert own.estimand == spell_estimand(scope)


def test_wider_scope_wider_interval() -> None:
    found = compare_intervals(paper_sized().query("model == 'model-6'")).estimates
    width = {name: own.high - own.low for name, own in found.items()}
    assert set(width) == set(INTERVALS) - {"models"}
    assert width["answers"] < width["units"] < width["two-way"] < width["two-way bootstrap"]
    assert width["people"] < width["two-way"]
    assert width["variance components"] == pytest.approx(width["two-way"], rel=0.05)


def test_an_interval_that_does_not_speak_for_the_scope_is_refused() -> None:
    with pytest.raises(
        AnalysisError, match="generalises to 'new units', not to 'new units and people'; for that, use two-way"
    ):
        estimate_proportions(SMALL, interval="units", scope="new units and people")
    with pytest.raises(AnalysisError, match="leave 'model' out"):
        estimate_proportions(SMALL, ("model",), scope="new models")
    with pytest.raises(NameNotFound, match="interval"):
        estimate_proportions(SMALL, interval="three-way")  # type: ignore[arg-type]
    with pytest.raises(NameNotFound, match="difficulty"):
        estimate_proportions(SMALL, ("dificulty",))


def test_means_over_units_and_over_answers() -> None:
    table = table_of([("a", f"p{k}", 1) for k in range(8)] + [("b", f"p{k}", 0) for k in range(2)])
    units, answers = (estimate_proportions(table, mean=mean).cells[0].estimate for mean in ("units", "answers"))
    assert (units.value, answers.value) == pytest.approx((0.5, 0.8))
    assert units.method.endswith("mean over units") and answers.method.endswith("mean over answers")


def test_unit_uniform_means_weight_units_by_width() -> None:
    table = table_of([(u, f"p{k}", int(k < right)) for u, right in (("a", 4), ("b", 2), ("c", 1)) for k in range(4)])
    units = pd.DataFrame({"unit": ["m/a", "m/b", "m/c"], "model": "m", "width": [10, 20, 70]})
    for interval in ("two-way", "units", "answers", "two-way bootstrap"):
        own = estimate_proportions(table, drawing="unit-uniform", units=units, interval=interval).cells[0].estimate
        assert own.value == pytest.approx(0.1 * 1 + 0.2 * 0.5 + 0.7 * 0.25)
        assert own.estimand.endswith("unit-uniform") and own.low < own.value < own.high
    for bad in (None, units.iloc[:2]):
        with pytest.raises(AnalysisError, match="width"):
            estimate_proportions(table, drawing="unit-uniform", units=bad)


def test_new_models_are_a_sample_of_models() -> None:
    population = Population(model=0.8, unit=0.2, participant=0.1)
    table = simulate_judgements(Layout(models=8, units=10, sessions=10, trials=10), population, seed=5)
    own = estimate_proportions(table, ("condition",), scope="new models").cells[0]
    means = [cell.estimate.value for cell in estimate_proportions(table, ("model",))]
    assert own.estimate.value == pytest.approx(np.mean(means))
    assert own.errors.units == pytest.approx(np.std(means, ddof=1) / math.sqrt(8))
    assert (own.estimate.n, own.units) == (8, 80)


# ------------------------------------------------------------------------------------------------------ factors


def test_layer_types_and_thirds_of_depth_come_from_the_table_of_units() -> None:
    depths = {"a": 0.0, "b": 1 / 3, "c": 0.34, "d": 2 / 3, "e": 0.7, "f": 1.0}
    table = table_of([(u, f"p{k}", (k + n) % 2) for n, u in enumerate(depths) for k in range(4)])
    units = pd.DataFrame(
        {"unit": [f"m/{u}" for u in depths], "depth": list(depths.values()), "kind": ["conv", "norm"] * 3}
    )
    by_depth = estimate_proportions(table, ("depth",), units=units)
    assert {cell.names["depth"]: cell.units for cell in by_depth} == dict.fromkeys(DEPTHS, 2)
    by_type = estimate_proportions(table, ("model", "layer_type"), units=units)
    assert [(cell.names["layer_type"], cell.units) for cell in by_type] == [("conv", 3), ("norm", 3)]
    assert by_type.cell(layer_type="conv").answers == 12
    with pytest.raises(NameNotFound):
        by_type.cell(layer_type="pool")
    with pytest.raises(AnalysisError, match="needs the table of units"):
        estimate_proportions(table, ("depth",))
    with pytest.raises(AnalysisError, match=r"has no value for 1 of 6 units \(first: m/f\)"):
        estimate_proportions(table, ("depth",), units=units.iloc[:5])


def test_a_table_of_units_as_studies_have_it_is_understood() -> None:
    table = table_of([("l/1", f"p{k}", k % 2) for k in range(4)] + [("l/2", f"p{k}", 1) for k in range(4)])
    units = pd.DataFrame(
        {
            "model": "m", "layer": "l", "basis": "neuron", "index": [1, 2], "aggregator": "mean", "draw": [0, 1],
            "kind": "conv", "depth": [0.1, 0.9], "width": 8, "twin": False,
        }
    )  # fmt: skip
    assert [own.names["depth"] for own in estimate_proportions(table, ("depth",), units=units)] == [
        "first third", "last third",
    ]  # fmt: skip


def test_by_unit_the_interval_is_over_people() -> None:
    table = table_of([("a", f"p{k}", int(k < 27)) for k in range(30)] + [("b", f"p{k}", 1) for k in range(30)])
    first, second = estimate_proportions(table, ("unit",))
    low, high = wilson_interval(0.9, 30, 1.959963984540054)
    assert (first.estimate.low, first.estimate.high) == pytest.approx((low, high))
    assert first.estimate.n == 30 and "new people" in first.estimate.estimand
    assert second.estimate.value == second.estimate.high == 1.0 and second.estimate.low > 0.85
    # People who answer twice about a unit are not two people.
    twice = pd.concat([table, table])
    again = estimate_proportions(twice, ("unit",)).cells[0].estimate
    assert again.n == 30 and again.high - again.low >= 0.99 * (high - low)


# ------------------------------------------------------------------------------------------------- degenerate


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize(
    "rows",
    [
        [("a", "p", 1)],
        [("a", f"p{k}", 1) for k in range(5)],
        [(f"u{k}", "p", k % 2) for k in range(5)],
        [(f"u{k}", f"p{j}", 1) for k in range(5) for j in range(4)],
        [(f"u{k}", f"p{j}", 0) for k in range(2) for j in range(2)],
        [(f"u{k}", f"p{k}", k % 2) for k in range(6)],
        [("a", "p", 1), ("a", "q", 0), ("b", "p", 0), ("b", "q", 1)],
        [("a", "p", 1), ("a", "q", 1), ("b", "p", 0), ("b", "q", 0)],
    ],
    ids=["one answer", "one unit", "one person", "all right", "all wrong", "no crossing", "cancelling", "unit decides"],
)
def test_thin_answers_give_wide_intervals_and_never_nan(interval: Interval, rows: list[tuple[str, str, int]]) -> None:
    table = pd.concat([table_of(rows), table_of(rows, "n")]) if interval == "models" else table_of(rows)
    own = estimate_proportions(table, ("condition",), interval=interval).cells[0].estimate
    assert 0 <= own.low <= own.value <= own.high <= 1
    assert own.high - own.low > 0.1
    if own.method.startswith("no interval"):
        assert (own.low, own.high) == (0, 1)


def test_one_participant_can_not_speak_for_new_ones() -> None:
    own = estimate_proportions(table_of([(f"u{k}", "p", k % 2) for k in range(5)])).cells[0].estimate
    assert own.method.startswith("no interval: 1 participant can't speak for new ones")


def test_a_smaller_two_way_variance_gives_way_to_the_larger_one() -> None:
    # Within each unit, and for each person, right and wrong answers balance: only their crossings vary.
    table = table_of([(f"u{k}", f"p{j}", (k + j) % 2) for k in range(4) for j in range(4)])
    own = estimate_proportions(table).cells[0]
    assert own.errors.two_way == pytest.approx(max(own.errors.units, own.errors.participants), abs=1e-12)
    assert "the larger one-way variance" in own.estimate.method
    # And no interval is narrower than that of independent answers.
    low, high = wilson_interval(0.5, 16, 1.96)
    assert own.estimate.low <= low and own.estimate.high >= high


def test_tables_that_can_not_be_read_are_refused() -> None:
    with pytest.raises(AnalysisError, match="no answers"):
        estimate_proportions(SMALL.iloc[:0])
    with pytest.raises(AnalysisError, match="must hold only 0 and 1"):
        estimate_proportions(SMALL.assign(correct=0.3))
    broken = SMALL.astype({"participant": object})
    broken.loc[3, "participant"] = None
    with pytest.raises(AnalysisError, match="'participant' is empty in row 3"):
        estimate_proportions(broken)


def test_shares_sum_to_one_in_every_cell() -> None:
    answers = read_answers(SMALL, ("model", "condition"))
    for mean in ("units", "answers"):
        means = cluster_means(answers, mean=mean)
        assert np.bincount(answers.cell, means.shares) == pytest.approx(np.ones(len(answers.cells)))
        # What all clusters add up to is nothing: deviations are from the mean.
        for source in ("units", "people"):
            factor = np.sqrt(means.counts[source] / (means.counts[source] - 1))
            assert means.scores[source].sum(axis=0) / factor == pytest.approx(np.zeros(len(answers.cells)), abs=1e-12)


def test_the_table_has_every_number() -> None:
    table = estimate_proportions(SMALL).frame()
    assert table["model"].tolist() == ["model-0", "model-1"]
    assert (table["answers"] == 90).all() and table["right"].between(45, 90).all()
    assert not table.isna().any().any()


def test_units_keep_their_names_in_the_frame() -> None:
    cells = estimate_proportions(SMALL, by=("unit",))
    assert cells.frame()["unit"].tolist() == [cell.names["unit"] for cell in cells]
