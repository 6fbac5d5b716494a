"""Agreement of people and machines: against brute force, against known truth, and where nothing can be compared."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit

from analysis.agreement import (
    MACHINE_COLUMNS,
    calibrate,
    error_consistency,
    machine_answers,
    model_agreement,
    score_forecasts,
    unit_agreement,
)
from analysis.agreement.correlation import weighted_pearson, weighted_spearman
from analysis.agreement.forecasts import log_loss
from analysis.intervals.bootstrap import resample_weights
from analysis.judgement_table import judgements
from analysis.power.simulation import Layout, Population, simulate_judgements
from benchmark import schemas
from benchmark.errors import AnalysisError
from benchmark.units import PLANTED
from tests.hand_made import answer_rows

KEYS = ["model", "condition", "difficulty", "references", "unit", "layer"]


def machine_of(people: pd.DataFrame, *, noise: float = 0.5, sign: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Return answers of a machine that sees people's true chances through noise."""
    table = people.drop_duplicates("task")[[*KEYS, "task"]].reset_index(drop=True)
    chance = people.groupby("task", observed=True)["probability"].mean().reindex(table["task"]).to_numpy()
    evidence = sign * logit(chance) + np.random.default_rng(seed).normal(0, noise, len(table))
    return table.assign(probability=expit(evidence), correct=(evidence > 0).astype(float), observer="features:seer")


def crossed(seed: int = 1, **population: float) -> pd.DataFrame:
    layout = Layout(models=2, units=20, tasks=2, sessions=30, trials=40, crossed=True)
    return simulate_judgements(layout, Population(**{"task": 0.5, **population}), seed=seed)  # type: ignore[arg-type]


def by_unit(seed: int, units: int, answers: int, correlation: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return people's answers about units, and a machine's scores that correlate with the units' chances."""
    rng = np.random.default_rng(seed)
    place, luck = rng.normal(size=(2, units))
    chance = 0.75 + 0.08 * place
    score = 0.6 + 0.1 * (correlation * place + math.sqrt(1 - correlation**2) * luck)
    names = [f"unit-{number}" for number in range(units)]
    table = pd.DataFrame({"unit": names, "model": "model", "layer": "layer"})
    table = table.assign(condition="natural", difficulty="easy", references="both", task=table["unit"] + "#0")
    people = table.loc[table.index.repeat(answers)].reset_index(drop=True)
    people["correct"] = (rng.random(len(people)) < np.clip(np.repeat(chance, answers), 0, 1)).astype(float)
    people["participant"] = [f"person-{number}" for number in rng.permutation(len(people)) // 20]
    return people, table.assign(probability=score, correct=1.0, observer="seer")


# ------------------------------------------------------------------------------------------------ machine answers


def test_machine_answers_have_the_names_of_judgements() -> None:
    machine = answer_rows("model", [(n, n % 3 > 0) for n in range(6)])
    people = answer_rows("model", [(n, True) for n in range(6)], observer="somebody", observer_kind="human")
    planted = answer_rows(PLANTED, [(0, True)], kind="catch")
    both = schemas.concatenate([machine, people, planted], schemas.RESPONSES)
    table = machine_answers(both, "features:seer")
    own = judgements(both)
    assert list(table.columns) == list(MACHINE_COLUMNS)
    for name in ("unit", "task", "model", "condition"):
        assert set(table[name].astype(str)) == set(own[name].astype(str))
    assert table["probability"].tolist() == [0.9 if n % 3 else 0.2 for n in range(6)]
    assert table["correct"].tolist() == [float(n % 3 > 0) for n in range(6)]


def test_probabilities_stay_with_their_answers_where_others_are_left_out() -> None:
    parts = [
        answer_rows("model-twin" if n % 2 else "model", [(n, True)], task=n, probability=n / 20) for n in range(10)
    ]
    parts.append(answer_rows("model", [(3, True)], references="max", probability=0.99))
    table = machine_answers(schemas.concatenate(parts, schemas.RESPONSES), "features:seer", twins=True)
    assert [float(unit.split("/")[-1]) / 20 for unit in table["unit"]] == table["probability"].tolist()


def test_observers_that_can_not_be_compared_are_refused() -> None:
    rows = answer_rows("model", [(n, True) for n in range(4)])
    with pytest.raises(AnalysisError, match="Did you mean 'features:seer'"):
        machine_answers(rows, "features:sear")
    with pytest.raises(AnalysisError, match="no probability in 4 of 4"):
        machine_answers(rows.assign(probability=np.nan), "features:seer")
    with pytest.raises(AnalysisError, match="answered 4 tasks twice"):
        machine_answers(schemas.concatenate([rows, rows], schemas.RESPONSES), "features:seer")


# ------------------------------------------------------------------------------------------------ units and models


def test_correlations_are_those_of_scipy() -> None:
    people = crossed()
    machine = machine_of(people, noise=2.0)
    human = people.groupby("unit", observed=True)["correct"].mean()
    score = machine.groupby("unit", observed=True)["probability"].mean()[human.index]
    found = {result.model: result for result in unit_agreement(people, machine, resamples=200)}
    assert set(found) == {"model-0", "model-1", "all models"}
    assert found["all models"].pearson.value == pytest.approx(stats.pearsonr(human, score)[0])
    assert found["all models"].spearman.value == pytest.approx(stats.spearmanr(human, score)[0])
    own = human[human.index.isin(people.loc[people["model"] == "model-1", "unit"].unique())]
    assert found["model-1"].pearson.value == pytest.approx(stats.pearsonr(own, score[own.index])[0])
    right = machine.groupby("unit", observed=True)["correct"].mean()[human.index]
    other = unit_agreement(people, machine, score="correct", resamples=50)[-1]
    assert other.pearson.value == pytest.approx(stats.pearsonr(human, right)[0])


def test_replicates_are_correlations_of_drawn_units() -> None:
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(size=(2, 15)), 1)
    weights = resample_weights(15, 6, rng)
    for row, one, two in zip(weights, weighted_pearson(weights, x, y), weighted_spearman(weights, x, y)):
        drawn = np.repeat(np.arange(15), row.astype(int))
        assert one == pytest.approx(stats.pearsonr(x[drawn], y[drawn])[0])
        assert two == pytest.approx(stats.spearmanr(x[drawn], y[drawn])[0])


def test_the_disattenuated_correlation_is_that_of_the_units_chances() -> None:
    truth, answers = 0.6, 40
    raw, corrected, covered = [], [], 0
    for seed in range(40):
        people, machine = by_unit(seed, 84, answers, truth)
        found = unit_agreement(people, machine, resamples=200)[0]
        assert found.disattenuated is not None
        raw.append(found.pearson.value)
        corrected.append(found.disattenuated.value)
        covered += found.disattenuated.low <= truth <= found.disattenuated.high
    reliability = answers * 0.08**2 / (answers * 0.08**2 + 0.75 * 0.25 - 0.08**2)
    assert np.mean(raw) == pytest.approx(truth * math.sqrt(reliability), abs=0.03)
    assert np.median(corrected) == pytest.approx(truth, abs=0.05)
    assert covered / 40 >= 0.87


def test_noise_of_the_machines_tasks_is_corrected_where_it_has_several() -> None:
    people, machine = by_unit(3, 60, 30, 0.9)
    rng = np.random.default_rng(4)
    several = machine.loc[machine.index.repeat(4)].reset_index(drop=True)
    several["task"] = [f"{unit}#{number % 4}" for number, unit in enumerate(several["unit"])]
    several["probability"] += rng.normal(0, 0.15, len(several))
    found = unit_agreement(people, several)[0]
    assert found.machine_reliability is not None
    assert found.disattenuated is not None
    assert found.disattenuated_both is not None
    expected = found.disattenuated.value / math.sqrt(found.machine_reliability.value)
    assert found.disattenuated_both.value == pytest.approx(expected)
    alone = unit_agreement(people, machine)[0]
    assert alone.machine_reliability is None
    assert alone.disattenuated_both is None
    assert "machine reliability is unknown" in alone.remark


def test_a_correlation_beyond_one_is_said_not_cut() -> None:
    for seed in range(40):
        people, machine = by_unit(seed, 30, 8, 1.0)
        found = unit_agreement(people, machine, resamples=100)[0]
        if found.disattenuated is not None and found.disattenuated.value > 1:
            assert "beyond 1 by sampling error" in found.remark
            return
    pytest.fail("no study had a disattenuated correlation beyond 1")


def test_people_without_reliability_leave_nothing_to_correct() -> None:
    people, machine = by_unit(1, 30, 10, 0.5)
    rank = people.groupby("unit").cumcount()
    odd = people["unit"].str.removeprefix("unit-").astype(int) % 2
    found = unit_agreement(people.assign(correct=(rank < 5 + odd).astype(float)), machine)[0]
    assert found.disattenuated is None
    assert "no correlation can be corrected" in found.remark
    assert not any(v != v for k, v in found.row().items() if k in ("pearson", "pearson_low", "pearson_high"))


def test_models_are_correlated_by_their_means() -> None:
    layout = Layout(models=6, units=20, tasks=2, sessions=20, trials=30)
    people = simulate_judgements(layout, Population(model=1.0), seed=2)
    machine = machine_of(people)
    found = model_agreement(people, machine, resamples=200)[0]
    human = people.groupby(["model", "unit"], observed=True)["correct"].mean().groupby("model", observed=True).mean()
    score = machine.groupby(["model", "unit"], observed=True)["probability"].mean()
    score = score.groupby("model", observed=True).mean()[human.index]
    pearson, spearman = stats.pearsonr(human, score), stats.spearmanr(human, score)
    assert found.these_models.value == found.pearson.value == pytest.approx(pearson[0])
    assert found.spearman.value == pytest.approx(spearman[0])
    assert (found.pearson.low, found.pearson.high) == pytest.approx(tuple(pearson.confidence_interval()))
    assert found.pearson.n == 6
    with pytest.raises(AnalysisError, match="share 2 models"):
        model_agreement(people[people["model"].isin(["model-0", "model-1"])], machine)


# ------------------------------------------------------------------------------------------------ single answers


def person_rows(answers: dict[str, list[int]]) -> pd.DataFrame:
    """Return each person's answers to tasks 0, 1, 2, ... of as many units."""
    rows = [
        {"participant": name, "unit": f"unit-{n}", "task": f"unit-{n}#0", "correct": float(right)}
        for name, given in answers.items()
        for n, right in enumerate(given)
    ]
    return pd.DataFrame(rows).assign(
        model="model", layer="layer", condition="natural", difficulty="easy", references="both"
    )


def machine_rows(right: list[int]) -> pd.DataFrame:
    table = person_rows({"seer": right}).rename(columns={"participant": "observer"})
    return table.assign(probability=np.where(table["correct"] > 0, 0.8, 0.3))


def kappa(one: list[int], two: list[int]) -> tuple[float, float]:
    """Return numerator and denominator of kappa, with the covariance over n - 1."""
    x, y = np.array(one, dtype=float), np.array(two, dtype=float)
    above = 2 * np.cov(x, y)[0, 1]
    return above, 1 - ((x == y).mean() - above)


def test_kappa_of_one_person_is_cohens_but_for_the_factor_that_makes_it_unbiased() -> None:
    h, m = [1, 1, 0, 1, 0, 1, 1, 0], [1, 0, 0, 1, 1, 1, 1, 0]
    found = error_consistency(person_rows({"a": h}), machine_rows(m))[0]
    above, below = kappa(h, m)
    assert found.kappa.value == pytest.approx(above / below)
    n, agree, p, q = 8, np.mean(np.array(h) == m), np.mean(h), np.mean(m)
    chance = p * q + (1 - p) * (1 - q)
    assert above * (n - 1) / n == pytest.approx(agree - chance)
    assert found.observed == pytest.approx(agree)
    assert "One person" in found.remark


def test_kappa_averages_people_and_counts_those_without_an_error() -> None:
    m = [1, 0, 1, 1, 0, 1]
    people = {"a": [1, 0, 1, 1, 1, 0], "b": [1, 1, 1, 1, 1, 1], "c": [0, 0, 1, 1, 0, 1]}
    found = error_consistency(person_rows(people), machine_rows(m))[0]
    parts = [kappa(given, m) for given in people.values()]
    assert found.kappa.value == pytest.approx(sum(p[0] for p in parts) / sum(p[1] for p in parts))
    assert found.people["kappa"].tolist() == pytest.approx([a / b for a, b in parts])
    assert found.people.loc[1, "kappa"] == 0
    assert found.expected == pytest.approx(1 - np.mean([b for _, b in parts]))


def test_errors_that_avoid_each_other_keep_their_sign() -> None:
    rng = np.random.default_rng(0)
    machine = (rng.random(60) < 0.7).astype(int).tolist()
    people = {f"person-{n}": [int(rng.random() < (0.5 if right else 0.95)) for right in machine] for n in range(12)}
    found = error_consistency(person_rows(people), machine_rows(machine))[0]
    assert found.kappa.value < -0.2
    assert found.kappa.high < 0


def test_independent_errors_have_no_consistency_and_the_interval_says_so() -> None:
    covered, values = 0, []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        machine = (rng.random(50) < 0.7).astype(int).tolist()
        people = {f"person-{n}": (rng.random(50) < 0.8).astype(int).tolist() for n in range(15)}
        found = error_consistency(person_rows(people), machine_rows(machine))[0]
        values.append(found.kappa.value)
        covered += found.kappa.low <= 0 <= found.kappa.high
    assert np.mean(values) == pytest.approx(0, abs=0.015)
    assert covered / 50 >= 0.88


def test_the_consistency_of_people_is_that_of_all_their_pairs() -> None:
    rng = np.random.default_rng(5)
    hard = rng.random(20) < 0.4
    people = {f"p{n}": (rng.random(20) < np.where(hard, 0.4, 0.95)).astype(int).tolist() for n in range(6)}
    table = person_rows(people).sample(frac=0.8, random_state=1)
    found = error_consistency(table, machine_rows(hard.astype(int).tolist()))[0]
    own = {name: part.set_index("task")["correct"] for name, part in table.groupby("participant")}
    above = below = 0.0
    pairs = 0
    for one, two in itertools.combinations(own.values(), 2):
        p, q = one.mean(), two.mean()
        for task in one.index.intersection(two.index):
            pairs += 1
            above += 2 * (one[task] - p) * (two[task] - q) / (1 - 1 / len(one)) / (1 - 1 / len(two))
            below += p + q - 2 * p * q
    assert found.human is not None
    assert found.human.value == pytest.approx(above / below)
    assert found.human_pairs == pairs
    assert found.human.low <= found.human.value <= found.human.high
    assert found.human.value > 0.1


def test_people_who_share_no_task_leave_the_ceiling_unknown() -> None:
    table = person_rows({"a": [1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1]})
    table["participant"] = ["a"] * 6 + ["b"] * 6
    found = error_consistency(table, machine_rows([1, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1]))[0]
    assert found.human is None
    assert "No task was answered by two people" in found.remark


# ------------------------------------------------------------------------------------------------ forecasts


def test_calibration_is_that_of_counting_in_bins() -> None:
    people = crossed()
    machine = machine_of(people, noise=1.0)
    found = calibrate(people, machine, bins=5)[0]
    joined = people[["task", "correct"]].astype({"task": str}).merge(
        machine[["task", "probability"]].astype({"task": str}), on="task"
    )  # fmt: skip
    p, h = joined["probability"].to_numpy(), joined["correct"].to_numpy()
    sure = np.maximum(p, 1 - p)
    followed = np.where(p > 0.5, h, 1 - h)
    place = pd.cut(sure, np.linspace(0.5, 1, 6), include_lowest=True).codes
    error = sum(abs(sure[place == b].sum() - followed[place == b].sum()) for b in range(5)) / len(p)
    assert found.error.value == pytest.approx(error)
    assert found.brier.value == pytest.approx(((sure - followed) ** 2).mean())
    assert found.bins["trials"].tolist() == np.bincount(place, minlength=5).tolist()
    assert found.bins["outcome"].tolist() == pytest.approx([followed[place == b].mean() for b in range(5)])
    truth = calibrate(people, machine, target="truth", bins=5)[0]
    shared = joined.drop_duplicates("task")["probability"]
    assert truth.bins["trials"].sum() == len(shared)
    assert truth.brier.value == pytest.approx(((1 - shared) ** 2).mean())


def test_a_machine_that_knows_peoples_chances_is_calibrated_and_predicts_best() -> None:
    people = crossed(3, participant=0.0, unit=1.5)
    machine = machine_of(people, noise=0.0)
    assert calibrate(people, machine)[0].error.value < 0.04
    found = score_forecasts(people, machine)[0]
    assert found.over_constant.high < 0
    assert found.over_coin.value == pytest.approx(found.machine.value - math.log(2))
    assert found.over_unit_means is not None
    assert found.over_unit_means.value < 0
    wrong = score_forecasts(people, machine_of(people, noise=0.0, sign=-1.0))[0]
    assert wrong.over_constant.low > 0


def test_losses_are_those_of_every_trial() -> None:
    people, machine = crossed(4), machine_of(crossed(4))
    found = score_forecasts(people, machine, resamples=50)[0]
    joined = people[["task", "unit", "correct"]].astype({"task": str, "unit": str}).merge(
        machine[["task", "probability"]].astype({"task": str}), on="task"
    )  # fmt: skip
    h = joined["correct"].to_numpy()
    assert found.machine.value == pytest.approx(log_loss(joined["probability"].to_numpy(), h).mean())
    assert found.trials == len(joined)
    constant = []
    for unit, right in zip(joined["unit"], h):
        others = joined.loc[joined["unit"] != unit, "correct"]
        p = (others.sum() + 1) / (len(others) + 2)
        constant.append(-math.log(p if right else 1 - p))
    assert found.constant.value == pytest.approx(np.mean(constant))


def test_certain_forecasts_are_clipped_or_lose_everything() -> None:
    people = crossed(5)
    machine = machine_of(people)
    certain = machine.assign(probability=machine["correct"].where(machine["correct"] > 0, 0.4))
    clipped = score_forecasts(people, certain, clip=0.01)[0]
    assert math.isfinite(clipped.machine.value)
    assert 0.5 < clipped.clipped <= 1
    bare = score_forecasts(people, certain, clip=0)[0]
    assert bare.machine.value == math.inf
    assert bare.machine.method.startswith("no interval: ")
    with pytest.raises(AnalysisError, match="clip of probabilities must lie"):
        score_forecasts(people, certain, clip=0.5)


# ------------------------------------------------------------------------------------------------ limits


def test_neither_order_nor_names_matter() -> None:
    people, machine = by_unit(6, 30, 8, 0.5)
    shuffle = {"frac": 1, "random_state": 2}

    def rename(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(unit="x" + table["unit"].str[::-1], task="x" + table["task"].str[::-1])

    variants = [
        (people, machine),
        (people.sample(**shuffle), machine.sample(**shuffle)),
        (rename(people), rename(machine)),
    ]
    for analysis in (unit_agreement, score_forecasts):
        rows = [analysis(one, two, resamples=60)[0].row() for one, two in variants]  # type: ignore[operator]
        for other in rows[1:]:
            for name, value in rows[0].items():
                same = other[name] == value or (value != value and other[name] != other[name])
                assert same or other[name] == pytest.approx(value, abs=1e-9), name
    kappas = [error_consistency(one, two.assign(correct=(two["probability"] > 0.55) * 1.0))[0] for one, two in variants]
    assert kappas[0].kappa.value == pytest.approx(kappas[1].kappa.value)
    assert kappas[0].kappa.high == pytest.approx(kappas[2].kappa.high)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_a_machine_that_scores_all_units_alike_is_refused(probability: float) -> None:
    people = crossed()
    machine = machine_of(people).assign(probability=probability, correct=1.0)
    with pytest.raises(AnalysisError, match="all 20 units have the same score from the machine observer"):
        unit_agreement(people, machine)
    with pytest.raises(AnalysisError, match="all 20 units have the same score from people"):
        unit_agreement(people.assign(correct=1.0), machine_of(people))


def test_a_machine_that_is_always_right_has_no_consistency_beyond_chance() -> None:
    people = crossed()
    machine = machine_of(people).assign(correct=1.0)
    found = error_consistency(people, machine)[0]
    assert found.kappa.value == 0
    assert found.kappa.method.startswith("no interval: ")
    with pytest.raises(AnalysisError, match="make no errors"):
        error_consistency(people.assign(correct=1.0), machine)


def test_too_little_in_common_is_said() -> None:
    people = crossed()
    machine = machine_of(people)
    one = machine[machine["unit"] == "unit-0"]
    for analysis in (unit_agreement, error_consistency, calibrate, score_forecasts):
        with pytest.raises(AnalysisError, match=r"1 (shared )?units|nobody answered two tasks"):
            analysis(people, one)  # type: ignore[operator]
        with pytest.raises(AnalysisError, match="in common"):
            analysis(people, machine.assign(condition="synthetic"))  # type: ignore[operator]
        with pytest.raises(AnalysisError, match="no answers of"):
            analysis(people, machine.head(0))  # type: ignore[operator]
    elsewhere = machine.assign(task="elsewhere " + machine["task"].astype(str))
    with pytest.raises(AnalysisError, match="nobody answered two tasks"):
        error_consistency(people, elsewhere)
    with pytest.raises(AnalysisError, match="Only one machine observer at a time"):
        unit_agreement(people, pd.concat([machine, machine.assign(observer="other")]))
