from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm, t

from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.psychophysics import (
    check_guessing,
    compare_references,
    learning_curve,
    reaction_times,
    repeat_consistency,
)
from analysis.sandwich import Clusters, clustered_estimate, clustered_proportion
from benchmark.errors import AnalysisError
from tests.borowski import main_trials, read_borowski

LAYOUT = Layout(models=1, units=30, sessions=30, trials=30)


def answers(intercept: float = 0.7, seed: int = 0, references: str = "both", **population: float) -> pd.DataFrame:
    own = {"intercept": intercept, "model": 0.0, "unit": 0.5, "participant": 0.2, **population}
    table = simulate_judgements(LAYOUT, Population(**own), seed=seed)
    return table.assign(references=references)


def guesses(seed: int = 0, spread: float = 0.0, mean: float = 0.0, learning: float = 0.0) -> pd.DataFrame:
    """Return answers without references, whose units push answers to one side, some more than others."""
    rng = np.random.default_rng(seed)
    table = answers(seed=seed, references="none")
    push = rng.normal(mean, spread, LAYOUT.units)[table["unit"].cat.codes.to_numpy()]
    eta = push + learning * (table["trial_index"].to_numpy() / LAYOUT.trials - 0.5)
    return table.assign(correct=(rng.random(len(table)) < expit(eta)).astype(float))


# ------------------------------------------------------------------------------------------------ clustered errors


def brute_variance(influence: np.ndarray, table: pd.DataFrame) -> float:
    unit, person = (table[name].astype(str).to_numpy() for name in ("unit", "participant"))

    def one(keys: np.ndarray) -> float:
        sums = [influence[keys == key].sum() for key in np.unique(keys)]
        return sum(value**2 for value in sums) * len(sums) / (len(sums) - 1)

    parts = one(unit), one(person), one(np.char.add(np.char.add(unit, "|"), person))
    return max(parts[0] + parts[1] - parts[2], *parts[:2])


def test_the_variance_is_that_of_both_factors_less_their_crossings() -> None:
    table = answers(seed=2).sample(200, random_state=1)
    correct = table["correct"].to_numpy()
    influence = (correct - correct.mean()) / len(correct)
    clusters = Clusters.of(table)
    variance, freedom = clusters.variance(influence)
    assert variance == pytest.approx(brute_variance(influence, table))
    assert min(clusters.counts) - 1 <= freedom <= sum(clusters.counts) - 2
    found = clustered_proportion(correct, clusters, unit="proportion correct")
    assert found.low < correct.mean() < found.high and found.n == min(clusters.counts)


def test_one_cluster_is_no_cluster_and_agreement_is_no_certainty() -> None:
    table = answers(seed=2)
    one = table[table["participant"] == "person-0"]
    assert Clusters.of(one).names == ("unit",) and "these people" in Clusters.of(one).estimand
    alone = clustered_proportion(np.ones(1), Clusters.of(one.head(1)), unit="proportion correct")
    assert (alone.low, alone.high) == (0.0, 1.0) and alone.method.startswith("no interval")
    agreed = clustered_proportion(np.ones(len(table)), Clusters.of(table), unit="proportion correct")
    assert agreed.high == 1.0 and 0.8 < agreed.low < 1.0
    still = clustered_estimate(0.0, np.zeros(len(table)), Clusters.of(table), unit="difference", bounds=(-1, 1))
    assert (still.low, still.high) == (-1, 1) and still.method.startswith("no interval")


def test_clustered_intervals_cover() -> None:
    inside = 0
    for seed in range(120):
        table = answers(seed=seed, unit=0.8, participant=0.5)
        found = clustered_proportion(table["correct"].to_numpy(), Clusters.of(table), unit="proportion correct")
        inside += found.low < TRUE_MEAN < found.high
    assert 0.90 <= inside / 120 <= 0.99


def _mean_of_logistic(mean: float, spread: float) -> float:
    x = np.linspace(-8, 8, 4001)
    return float(np.trapezoid(norm.pdf(x) * (0.5 + 0.5 * expit(mean + spread * x)), x))


TRUE_MEAN = _mean_of_logistic(0.7, float(np.hypot(0.8, 0.5)))


# ------------------------------------------------------------------------------------------------ guessing


def test_honest_guessing_passes_and_a_push_is_found() -> None:
    fair = check_guessing(guesses(seed=1))
    assert fair.p > 0.05 and fair.p_participants > 0.05
    assert "holds within 5 points" in fair.verdict or "no departure" in fair.verdict
    assert not fair.units["departs"].any() and not fair.people["departs"].any()
    pushed = check_guessing(guesses(seed=1, mean=-0.6))
    assert pushed.p < 0.001 and "below chance" in pushed.verdict and pushed.proportion.high < 0.5


def test_units_that_differ_are_found_with_their_spread() -> None:
    found = check_guessing(guesses(seed=4, spread=1.0))
    x = np.linspace(-8, 8, 4001)
    share = expit(x)
    truth = float(np.sqrt(np.trapezoid(norm.pdf(x) * share**2, x) - np.trapezoid(norm.pdf(x) * share, x) ** 2))
    assert found.unit_spread is not None
    assert found.unit_spread.low < truth < found.unit_spread.high and found.unit_spread.low > 0
    assert found.units["departs"].sum() >= 3 and "Units differ" in found.verdict
    same = check_guessing(guesses(seed=4))
    assert same.unit_spread is not None and same.unit_spread.low == 0.0


def test_learning_without_references_is_a_drift() -> None:
    found = check_guessing(guesses(seed=6, learning=2.0))
    assert found.drift is not None and found.drift.low > 0


def test_units_seen_before_are_told_apart() -> None:
    both = answers(seed=1)
    early = both[both["trial_index"] < 10]
    late = guesses(seed=1)
    late = late[late["trial_index"] >= 10].assign(unit=late["unit"])
    table = pd.concat([early, late], ignore_index=True)
    found = check_guessing(table)
    shown = set(zip(early["session"].astype(str), early["unit"].astype(str)))
    seen = [key in shown for key in zip(late["session"].astype(str), late["unit"].astype(str))]
    if any(seen):
        assert found.seen is not None
        assert found.seen.value == pytest.approx(late["correct"].to_numpy()[np.array(seen)].mean())
    else:
        assert found.seen is None
    assert found.not_seen is not None
    again = pd.concat([early.assign(unit=late["unit"].iloc[0]), late.assign(unit=late["unit"].iloc[0])])
    known = check_guessing(again)
    assert known.seen is not None and known.not_seen is None


def test_no_trials_without_references_is_said() -> None:
    with pytest.raises(AnalysisError, match="without references"):
        check_guessing(answers())
    with pytest.raises(AnalysisError, match="no main trials"):
        check_guessing(answers().assign(kind="repeated"))


# ------------------------------------------------------------------------------------------------ one side


def test_the_side_that_carries_the_task_is_named() -> None:
    parts = [
        answers(1.5, 1, "both"),
        answers(1.3, 2, "max"),
        answers(-1.5, 3, "min"),
        guesses(4),
    ]
    table = pd.concat([own.astype({"references": str}) for own in parts], ignore_index=True)
    (found,) = compare_references(table)
    assert list(found.proportions) == ["both", "max", "min", "none"]
    for kind, own in zip(found.proportions, parts):
        assert found.proportions[kind].value == pytest.approx(own["correct"].mean())
    assert found.max_minus_min is not None and found.max_minus_min.low > 0 and "maximal side" in found.verdict
    assert found.differences["min"].high < 0 < found.differences["max"].high
    assert found.frame().shape == (4, 9)
    with pytest.raises(AnalysisError, match="nothing to compare"):
        compare_references(parts[0])


# ------------------------------------------------------------------------------------------------ learning


def test_learning_is_found_and_its_absence_too() -> None:
    (found,) = learning_curve(answers(0.0, 3, learning=2.0))
    assert found.slope.low > 0 and found.p < 0.01 and "improve" in found.verdict
    assert found.second_half.value - found.first_half.value == pytest.approx(found.difference.value)
    (still,) = learning_curve(answers(0.7, 2))
    assert still.slope.low < 0 < still.slope.high and "no change" in still.verdict


def test_the_slopes_are_those_of_least_squares_and_of_logistic_regression() -> None:
    import statsmodels.api as sm

    table = answers(0.3, 5, learning=0.5)
    (found,) = learning_curve(table, factors=("participant",))
    place = table["trial_index"].to_numpy() / np.ptp(table["trial_index"].to_numpy())
    design = sm.add_constant(place)
    assert found.slope.value == pytest.approx(float(np.polyfit(place, table["correct"], 1)[0]))
    fit = sm.GLM(table["correct"], design, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": table["participant"].cat.codes, "use_correction": True}
    )
    assert found.log_odds is not None and found.log_odds.value == pytest.approx(fit.params.iloc[1])
    error = (found.log_odds.high - found.log_odds.value) / t.ppf(0.975, found.log_odds.n - 1)
    assert error == pytest.approx(fit.bse.iloc[1], rel=2e-3)


def test_answers_that_turn_at_one_place_have_no_finite_slope_of_log_odds() -> None:
    for turn in (1, 3, 6):
        table = answers().head(8).assign(trial_index=np.arange(8))
        table["correct"] = (table["trial_index"] >= turn).astype(float)
        table = table.assign(model=table["model"].iloc[0], participant=table["participant"].iloc[0])
        (only,) = learning_curve(table)
        assert only.log_odds is None
        assert np.isfinite(only.slope.value)


def test_learning_that_can_not_be_seen() -> None:
    table = answers()
    with pytest.raises(AnalysisError, match="same place"):
        learning_curve(table.assign(trial_index=3))
    (right,) = learning_curve(table.assign(correct=1.0))
    assert right.log_odds is None and right.slope.method.startswith("no interval") and right.p == 1.0
    (apart,) = learning_curve(table.assign(correct=(table["trial_index"] > 14).astype(float)))
    assert apart.log_odds is None and apart.difference.value == 1.0


# ------------------------------------------------------------------------------------------------ consistency


def repeated(agreeing: float, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    first = answers(0.0, seed)
    again = first[first["trial_index"] < 10].assign(kind="repeated")
    again = again.assign(trial_index=again["trial_index"] + 100)
    flip = rng.random(len(again)) >= agreeing
    again["correct"] = np.where(flip, 1 - again["correct"], again["correct"])
    return pd.concat([first.astype({"kind": str}), again.astype({"kind": str})], ignore_index=True)


def test_agreement_with_oneself_and_kappa() -> None:
    table = repeated(0.8, seed=3)
    (found,) = repeat_consistency(table)
    main, again = table[table["kind"] == "main"], table[table["kind"] == "repeated"]
    keys = ["participant", "task"]
    merged = again.merge(main[[*keys, "correct"]], on=keys, suffixes=("", "_first"))
    assert found.pairs == len(again) and found.unpaired == 0
    assert found.agreement.value == pytest.approx((merged["correct"] == merged["correct_first"]).mean())
    assert found.agreement.low < 0.8 < found.agreement.high
    p, q = merged["correct_first"].mean(), merged["correct"].mean()
    chance = p * q + (1 - p) * (1 - q)
    assert found.kappa is not None
    assert found.kappa.value == pytest.approx((found.agreement.value - chance) / (1 - chance))
    assert found.change.value == pytest.approx(q - p)


def test_full_agreement_and_missing_first_answers() -> None:
    table = repeated(1.0)
    (found,) = repeat_consistency(table)
    assert found.agreement.value == 1.0 and found.agreement.low < 1.0
    assert found.kappa is not None and found.kappa.value == 1.0
    (constant,) = repeat_consistency(table.assign(correct=1.0))
    assert constant.kappa is None
    lost = table[~((table["kind"] == "main") & (table["participant"].astype(str) == "person-0"))]
    (fewer,) = repeat_consistency(lost)
    assert fewer.unpaired == 10 and fewer.pairs == found.pairs - 10
    with pytest.raises(AnalysisError, match="no repeated trials"):
        repeat_consistency(answers())
    with pytest.raises(AnalysisError, match="has a first answer"):
        repeat_consistency(table[table["kind"] == "repeated"])


# ------------------------------------------------------------------------------------------------ reaction times


def test_reaction_times_are_medians_of_medians() -> None:
    rng = np.random.default_rng(3)
    table = answers(0.7, 3)
    wrong = (table["correct"] == 0).to_numpy()
    table["rt_ms"] = rng.lognormal(8, 0.5, len(table)) * np.where(wrong, 1.5, 1.0)
    table.loc[0, "rt_ms"] = -5.0
    table.loc[1, "rt_ms"] = np.nan
    (found,) = reaction_times(table)
    good = table[table["rt_ms"] > 0]
    expected = good[good["correct"] == 1].groupby("participant", observed=True)["rt_ms"].median().median() / 1000
    assert found.right is not None and found.right.value == pytest.approx(expected)
    assert found.wrong is not None and found.wrong.value > found.right.value
    assert found.ratio is not None and found.ratio.low < 1.5 < found.ratio.high
    assert found.left_out == 2 and found.answers == len(table) - 2


def test_reaction_times_that_are_not_there() -> None:
    table = answers()
    with pytest.raises(AnalysisError, match="has a reaction time"):
        reaction_times(table)
    (right,) = reaction_times(table.assign(rt_ms=2000.0, correct=1.0))
    assert right.wrong is None and right.ratio is None and right.right is not None and right.right.value == 2.0
    (one,) = reaction_times(table[table["participant"] == "person-0"].assign(rt_ms=2000.0))
    assert one.right is not None and one.right.method.startswith("no interval")


# ------------------------------------------------------------------------------------------------ invariance, real


def test_rows_and_names_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    parts = [repeated(0.8, 1), guesses(2).astype({"kind": str}), answers(0.2, 3, "max").astype({"kind": str})]
    table = pd.concat([own.astype({"references": str}) for own in parts], ignore_index=True)
    table["rt_ms"] = rng.lognormal(8, 0.5, len(table))
    again = table.sample(frac=1, random_state=5).reset_index(drop=True)
    for name in ("unit", "participant", "session", "task"):
        again[name] = ("x" + again[name].astype(str)).astype("category")
    one, two = check_guessing(table), check_guessing(again)
    assert one.proportion == two.proportion or one.proportion.low == pytest.approx(two.proportion.low, abs=1e-10)
    assert one.p == pytest.approx(two.p, abs=1e-10)
    for measure in (learning_curve, reaction_times, compare_references, repeat_consistency):
        for left, right in zip(measure(table), measure(again), strict=True):
            for name, value in vars(left).items():
                if hasattr(value, "low"):
                    other = getattr(right, name)
                    assert (value.value, value.low, value.high) == pytest.approx(
                        (other.value, other.low, other.high), abs=1e-10
                    )


def test_the_2021_answers_without_references_lie_below_chance() -> None:
    found = check_guessing(read_borowski())
    assert found.proportion.value == pytest.approx(194 / 450) and found.units["answers"].sum() == 450
    assert found.p_participants == pytest.approx(0.0497, abs=5e-5)
    assert found.p_answers == pytest.approx(0.004, abs=5e-4)
    assert found.unit_spread is not None and found.unit_spread.value == pytest.approx(0.10, abs=0.01)
    assert found.seen is not None and found.not_seen is not None
    assert round(found.not_seen.value, 3) == 0.447 and round(found.seen.value, 3) == 0.415


def test_the_2021_people_do_not_learn_and_repeat_themselves() -> None:
    table = read_borowski()
    results = learning_curve(main_trials(table), factors=("participant",))
    natural = next(own for own in results if own.cell["condition"] == "natural")
    assert round(natural.first_half.value, 3) == 0.912 and round(natural.second_half.value, 3) == 0.933
    assert natural.log_odds is not None
    error = (natural.log_odds.high - natural.log_odds.value) / t.ppf(0.975, 9)
    assert 2 * norm.sf(natural.log_odds.value / error) == pytest.approx(0.09, abs=0.005)
    again = {(own.cell["condition"], own.cell["references"]): own for own in repeat_consistency(table)}
    assert again["natural", "both"].repeated.value == pytest.approx(0.95)
    assert again["synthetic", "both"].repeated.value == pytest.approx(0.8333, abs=1e-4)
    assert all(own.unpaired == 0 for own in again.values())
    kinds = {own.cell["condition"]: own for own in compare_references(table)}
    assert kinds["natural"].proportions["both"].value == pytest.approx(415 / 450)
    assert kinds["natural"].differences["none"].high < 0
