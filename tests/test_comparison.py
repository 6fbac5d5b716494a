from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kruskal
from statsmodels.stats.multitest import multipletests

from analysis.comparison import compare_conditions, compare_models, compare_unit_means, model_means
from analysis.comparison.ranks import rank_models
from analysis.multiple_tests import adjust_holm
from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.proportions import cluster_means, estimate_proportions, read_answers
from analysis.same_units import group_models, read_same_units
from benchmark.errors import AnalysisError, NameNotFound
from tests.test_proportions import table_of

NESTED = Layout(models=4, units=20, sessions=15, trials=20)
CROSSED = Layout(models=4, units=20, sessions=60, trials=20, crossed=True)
ALIKE = Population(model=0.0)


def brute_force_error(table: pd.DataFrame, first: str, second: str) -> float:
    """Return the two-way error of a difference from the answers' influences, cluster by cluster."""
    means = cluster_means(read_answers(table, ("model",)))
    names = means.answers.cells["model"].tolist()
    table = table.reset_index(drop=True)
    variance = {}
    for source, columns in (("units", ["unit"]), ("people", ["participant"]), ("crossings", ["unit", "participant"])):
        total = pd.Series(0.0, index=table.index)
        for name, sign in ((first, 1), (second, -1)):
            own = (table["model"] == name).to_numpy()
            cell = names.index(name)
            count = means.counts[source][cell]
            influence = means.shares * (means.answers.correct - means.values[cell]) * own
            total += sign * influence * np.sqrt(count / (count - 1))
        sums = total.groupby([table[column].astype(str) for column in columns]).sum()
        variance[source] = (sums**2).sum()
    two_way = variance["units"] + variance["people"] - variance["crossings"]
    return float(np.sqrt(max(two_way, variance["units"], variance["people"])))


@pytest.mark.parametrize("layout", [NESTED, CROSSED], ids=["nested", "crossed"])
def test_errors_of_differences_count_shared_people(layout: Layout) -> None:
    table = simulate_judgements(layout, Population(model=0.3, participant=1.5), seed=1)
    joint = model_means(table)
    for a, first in enumerate(joint.names):
        for b, second in enumerate(joint.names[:a]):
            assert joint.errors[a, b] == pytest.approx(brute_force_error(table, first, second))
    assert ("share participants alone" in joint.method) == layout.crossed


def test_shared_people_make_a_difference_surer_than_its_parts() -> None:
    population = Population(model=0.0, unit=0.2, participant=2.0)
    table = simulate_judgements(CROSSED, population, seed=2)
    errors = {own.names["model"]: own.errors.two_way for own in estimate_proportions(table, ("model",))}
    joint = model_means(table)
    alone = np.hypot(errors[joint.names[0]], errors[joint.names[3]])
    assert joint.errors[0, 3] < 0.95 * alone
    nested = simulate_judgements(NESTED, population, seed=2)
    errors = {own.names["model"]: own.errors.two_way for own in estimate_proportions(nested, ("model",))}
    joint = model_means(nested)
    assert joint.errors[0, 3] == pytest.approx(np.hypot(errors[joint.names[0]], errors[joint.names[3]]), rel=0.02)


def test_a_twin_shares_its_units_places() -> None:
    rng = np.random.default_rng(3)
    easy = rng.random(30)
    parts = []
    for model, shift in (("net", 0.02), ("net-twin", 0.0)):
        rows = [
            (f"layer/{u}", f"{model}-{p}", int(rng.random() < 0.5 + 0.45 * easy[u] + shift))
            for u in range(30)
            for p in range(12)
        ]
        parts.append(table_of(rows, model))
    table = pd.concat(parts, ignore_index=True)
    paired = model_means(table)
    assert "net and net-twin share units" in paired.method and paired.units[0, 1] == 30
    renamed = table.assign(unit=table["unit"].where(table["model"] == "net", table["unit"] + "x"))
    apart = model_means(renamed)
    assert apart.units[0, 1] == 60
    assert paired.errors[0, 1] < 0.8 * apart.errors[0, 1]


def with_names_like(table: pd.DataFrame, same: bool, prefix: bool = True) -> pd.DataFrame:
    """Name every model's units 0, 1, ... (the same names in all models), or apart."""
    names = {}
    for model, own in table.astype({"model": str, "unit": str}).groupby("model")["unit"]:
        for number, unit in enumerate(sorted(own.unique())):
            bare = f"layer/{number}" if same else f"{model}-layer/{number}"
            names[unit] = f"{model}/{bare}" if prefix else bare
    return table.assign(unit=table["unit"].astype(str).map(names))


@pytest.mark.parametrize("prefix", [True, False], ids=["with the model's name", "bare"])
@pytest.mark.parametrize("layout", [NESTED, CROSSED], ids=["nested", "crossed"])
def test_names_of_units_pair_nothing(layout: Layout, prefix: bool) -> None:
    table = simulate_judgements(layout, Population(model=0.3, unit=1.5), seed=6)
    alike, apart = (with_names_like(table, same, prefix) for same in (True, False))
    one, two = model_means(alike), model_means(apart)
    shared = "share participants alone" if layout.crossed else "share neither units nor participants"
    assert one.method == two.method and shared in one.method
    for name in ("values", "covariance", "errors", "freedom", "units"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=0, atol=1e-12)
    for a, b in zip(compare_models(alike), compare_models(apart), strict=True):
        assert (a.p, a.p_holm, a.p_max_t, a.difference.low) == (b.p, b.p_holm, b.p_max_t, b.difference.low)
    ranks = [rank_models(own).frame().drop(columns="method", errors="ignore") for own in (alike, apart)]
    pd.testing.assert_frame_equal(*ranks)
    proportions = [next(iter(estimate_proportions(own, ("condition",)))).errors.two_way for own in (alike, apart)]
    assert proportions[0] == pytest.approx(proportions[1], abs=1e-12)


def test_conditions_are_paired_within_a_model_whatever_others_units_are_called() -> None:
    table = two_conditions(3)
    # One model lacks half of its units in one condition; another model's units of those names have both.
    few = table[~((table["model"] == "model-1") & (table["condition"] == "synthetic")
                  & table["unit"].isin([f"unit-{k}" for k in range(20, 30)]))]  # fmt: skip
    alike, apart = (with_names_like(few, same, prefix=False) for same in (True, False))
    for a, b in zip(compare_conditions(alike), compare_conditions(apart), strict=True):
        assert a.difference.n == b.difference.n and a.p == b.p


def test_what_a_data_set_declares_is_paired() -> None:
    table = with_names_like(simulate_judgements(NESTED, Population(model=0.3, unit=1.5), seed=6), same=True)
    models = pd.DataFrame({"model": [f"model-{k}" for k in range(4)], "same_units_as": ["", "model-0", "", ""]})
    declared = read_same_units(models)
    assert declared == {"model-1": "model-0"}
    joint = model_means(table, same_units=declared)
    place = {name: number for number, name in enumerate(joint.names)}
    shared = 40 - joint.units
    assert shared[place["model-0"], place["model-1"]] == 20
    assert shared[place["model-0"], place["model-2"]] == shared[place["model-2"], place["model-3"]] == 0
    assert "model-0 and model-1 share units" in joint.method
    # A parent, when a table of models has one, and twins of what is declared, belong together, too.
    parents = read_same_units(pd.DataFrame({"model": ["net+sparse"], "parent": ["net"]}))
    groups = group_models(["net", "net-twin", "net+sparse", "other"], parents)
    assert groups["net"] == groups["net-twin"] == groups["net+sparse"] != groups["other"]


def test_two_models_of_one_name_are_not_merged() -> None:
    table = simulate_judgements(NESTED, ALIKE, seed=1)
    weights = np.where(table["participant"].astype(str).str[-1].isin(list("02468")), "v1", "v2")
    words = "'model-0' stands for 2 models: the column 'weights' holds"
    for call in (compare_models, rank_models):
        with pytest.raises(AnalysisError, match=words):
            call(table.assign(weights=weights))


@pytest.mark.parametrize("layout", [NESTED, CROSSED], ids=["nested", "crossed"])
def test_models_that_are_alike_are_seldom_told_apart(layout: Layout) -> None:
    sets = 80
    families = [compare_models(simulate_judgements(layout, ALIKE, seed=seed)).differences for seed in range(sets)]
    for adjusted in ("p_max_t", "p_holm"):
        claims = np.mean([min(getattr(own, adjusted) for own in family) < 0.05 for family in families])
        assert claims <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / sets)
    # Unadjusted, a family of six is wrong far more often.
    assert np.mean([min(own.p for own in family) < 0.05 for family in families]) > 0.1
    # What an interval says and what its p-value says is the same.
    for family in families:
        for own in family:
            assert own.difference.excludes_zero == (own.p < 0.05)
            if abs(own.p_max_t - 0.05) > 0.002:
                assert own.simultaneous.excludes_zero == (own.p_max_t < 0.05)


def test_what_differs_is_found_and_the_better_stands_first() -> None:
    table = simulate_judgements(
        Layout(models=3, units=40, sessions=40), Population(model=0.0, slope=1.0), seed=1,
        predictor=np.array([0.0, 1.5, 3.0]),
    )  # fmt: skip
    found = compare_models(table)
    assert found.family == "all pairs of 3 models" and found.size == 3
    assert [(own.first, own.second) for own in found] == [
        ("model-2", "model-1"), ("model-2", "model-0"), ("model-1", "model-0"),
    ]  # fmt: skip
    for own in found:
        assert own.difference.value > 0 and own.p <= own.p_max_t <= 1 and own.p <= own.p_holm <= 1
        assert own.simultaneous.low <= own.difference.low and own.simultaneous.high >= own.difference.high
        assert "simultaneous over 3 differences" in own.simultaneous.method
        assert own.difference.estimand == "these models, new units and people; layer-uniform"
    assert found.differences[1].p_max_t < 0.001
    row = found.frame().iloc[0]
    assert row["family_size"] == 3 and row["family"] == found.family


def test_order_names_and_sessions_do_not_matter() -> None:
    table = simulate_judgements(CROSSED, ALIKE, seed=4)
    one = compare_models(table)
    names = {"model-0": "d", "model-1": "a", "model-2": "c", "model-3": "b"}
    other = table.sample(frac=1, random_state=1).astype({"model": str, "participant": str, "session": str})
    other["model"] = other["model"].map(names)
    other["participant"] = other["participant"].str[::-1]
    other["session"] += np.where(other["trial_index"] < 7, "a", "b")
    two = compare_models(other)
    for first, second in zip(one, two, strict=True):
        assert (names[first.first], names[first.second]) == (second.first, second.second)
        for name in ("p", "p_holm", "p_max_t"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), abs=1e-8)
        assert first.simultaneous.low == pytest.approx(second.simultaneous.low, abs=1e-8)


def test_holm_is_statsmodels_holm() -> None:
    p = np.random.default_rng(1).random(12) ** 3
    assert adjust_holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    published = adjust_holm(np.array([0.0218, 0.0424, 0.1711, 0.3211, 0.4281, 0.9192]))
    assert published[0] == pytest.approx(0.131, abs=5e-4)


# --------------------------------------------------------------------------------------------------- conditions


def two_conditions(seed: int, gap: float = -1.5, models: int = 3, sessions: int = 20) -> pd.DataFrame:
    layout = Layout(models=models, units=20, sessions=sessions, trials=20, conditions=("natural", "synthetic"))
    return simulate_judgements(layout, Population(model=0.0, conditions={"synthetic": gap}), seed=seed)


def test_conditions_are_paired_by_unit() -> None:
    table = two_conditions(1)
    found = compare_conditions(table)
    assert found.family == "natural minus synthetic within each of 3 models" and found.size == 3
    for k, own in enumerate(found):
        assert (own.first, own.second) == (f"model-{k} natural", f"model-{k} synthetic")
        rows = table[table["model"] == f"model-{k}"]
        means = rows.groupby(["unit", "condition"], observed=True)["correct"].mean().unstack()
        difference = means["natural"] - means["synthetic"]
        assert own.difference.value == pytest.approx(difference.mean())
        assert own.difference.n == 20
        # The paired error over units is the least that both people's and units' luck can leave.
        half = (own.difference.high - own.difference.low) / 2
        assert half > 1.9 * difference.std(ddof=1) / np.sqrt(20) * 0.99
    assert "share units" in found.differences[0].difference.method


def test_models_without_both_conditions_are_named() -> None:
    table = two_conditions(2)
    table = table[~((table["model"] == "model-1") & (table["condition"] == "synthetic"))]
    found = compare_conditions(table)
    assert [own.first for own in found] == ["model-0 natural", "model-2 natural"]
    assert found.left_out == ("model-1: no unit with answers in both conditions",)
    with pytest.raises(AnalysisError, match="No model can be compared"):
        compare_conditions(table[table["model"] == "model-1"].pipe(
            lambda own: pd.concat([own, table_of([("x", "p", 1)], "other").assign(condition="synthetic")])
        ))  # fmt: skip
    with pytest.raises(NameNotFound, match="condition"):
        compare_conditions(table[table["condition"] == "natural"])


def test_conditions_that_are_alike_are_seldom_told_apart() -> None:
    sets = 60
    wrong = [
        min(own.p_max_t for own in compare_conditions(two_conditions(seed, gap=0.0, models=2))) < 0.05
        for seed in range(sets)
    ]
    assert np.mean(wrong) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / sets)


# -------------------------------------------------------------------------------------------------- degenerate


def test_what_can_not_be_compared_is_said() -> None:
    table = simulate_judgements(NESTED, ALIKE, seed=1)
    with pytest.raises(AnalysisError, match="two models"):
        compare_models(table, models=["model-0"])
    with pytest.raises(NameNotFound, match="model-9"):
        compare_models(table, models=["model-0", "model-9"])
    with pytest.raises(AnalysisError, match="mix the conditions natural, synthetic"):
        compare_models(two_conditions(1))
    lone = pd.concat([table, table_of([(f"u{k}", "p", k % 2) for k in range(5)], "lonely")])
    with pytest.raises(AnalysisError, match="lonely rests on 1 participant"):
        compare_models(lone)
    with pytest.raises(AnalysisError, match="single rests on 1 unit"):
        compare_models(pd.concat([table, table_of([("u", f"p{k}", k % 2) for k in range(5)], "single")]))


@pytest.mark.parametrize("right", [(1, 1), (1, 0)], ids=["both always right", "right against wrong"])
def test_models_whose_answers_all_agree_keep_some_doubt(right: tuple[int, int]) -> None:
    parts = [
        table_of([(f"u{k}", f"{name}{j}", mark) for k in range(6) for j in range(5)], name)
        for name, mark in zip("ab", right)
    ]
    own = compare_models(pd.concat(parts)).differences[0]
    assert own.difference.value == right[0] - right[1]
    assert own.difference.low < own.difference.value <= own.difference.high <= 1
    assert "2 right and 2 wrong answers added for a, b" in own.difference.method
    assert np.isfinite([own.p, own.p_holm, own.p_max_t]).all()


# ----------------------------------------------------------------------------------------------- the paper's tests


def test_the_papers_tests_on_unit_means() -> None:
    table = simulate_judgements(NESTED, Population(model=0.8), seed=3)
    found = compare_unit_means(table)
    means = table.groupby(["model", "unit"], observed=True)["correct"].mean()
    names = [f"model-{k}" for k in range(4)]
    expected = kruskal(*[means[name].to_numpy() for name in names])
    assert [found.statistic, found.p] == pytest.approx([expected.statistic, expected.pvalue])
    assert (found.models, found.units, len(found.pairs)) == (4, 80, 6)
    assert found.pairs["p_holm"].to_numpy() == pytest.approx(multipletests(found.pairs["p"], method="holm")[1])
    # Conover's t is a t-test on ranks with what Kruskal-Wallis leaves of their variance.
    ranks = means.round(12).rank()
    groups = [ranks[name].to_numpy() for name in names]
    spread = ranks.var(ddof=1) * (79 - expected.statistic) / 76 * (1 / 20 + 1 / 20)
    assert found.pairs["statistic"].iloc[0] == pytest.approx((groups[0].mean() - groups[1].mean()) / np.sqrt(spread))
    assert found.estimand == "these models, new units, these people; layer-uniform"
    with pytest.raises(AnalysisError, match="can't be ranked"):
        compare_unit_means(table.assign(correct=1.0))
