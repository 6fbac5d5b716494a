"""Prediction-powered scores: what the library gives, how often intervals cover, what can be saved, and refusals."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from analysis.agreement import PoweredScore, powered_means, saving_bound, score_with_machine, simulate_coverage
from analysis.agreement.prediction_powered import REFUSE, WARN, labelling_p
from analysis.estimands import spell_estimand
from benchmark.errors import AnalysisError

UNIT, PERSON, MEAN = 0.10**2, 0.05**2, 0.83
ANSWER = MEAN * (1 - MEAN) - UNIT - PERSON


def study(
    seed: int,
    correlation: float,
    *,
    labelled: int = 60,
    unlabelled: int = 300,
    answers: int = 10,
    people: int = 30,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return people's answers about some units, and a machine's about all."""
    rng = np.random.default_rng(seed)
    place, luck = rng.normal(size=(2, labelled + unlabelled))
    machine = pd.DataFrame({"unit": [f"unit-{n:04d}" for n in rng.permutation(len(place))]}).assign(
        probability=0.6 + 0.1 * (correlation * place + math.sqrt(1 - correlation**2) * luck),
        model="model",
        condition="natural",
        difficulty="easy",
        references="both",
        observer="seer",
        correct=1.0,
    )
    machine["task"] = machine["unit"] + "#0"
    own = machine.head(labelled)
    table = own.loc[own.index.repeat(answers)].drop(columns=["probability", "observer"]).reset_index(drop=True)
    chance = np.clip(0.75 + 0.12 * place[:labelled], 0, 1)
    table["correct"] = (rng.random(len(table)) < np.repeat(chance, answers)).astype(float)
    table["participant"] = [f"person-{n}" for n in rng.permutation(len(table)) % people]
    return table, machine


def only(found: tuple[PoweredScore, ...]) -> PoweredScore:
    assert len(found) == 1
    return found[0]


# ------------------------------------------------------------------------------------------------ the bound


def test_one_answer_a_unit_saves_four_per_cent_and_thirty_at_most_two_point_three_times() -> None:
    one = saving_bound(UNIT, PERSON, ANSWER, answers_per_unit=1, answers_per_person=40)
    thirty = saving_bound(UNIT, PERSON, ANSWER, answers_per_unit=30, answers_per_person=40)
    assert round(100 * (1 - 1 / one)) == 4
    assert round(thirty, 1) == 2.3


def test_the_bound_needs_further_units_and_units_that_differ() -> None:
    def bound(
        unit: float = UNIT, unlabelled: float = math.inf, person: float = PERSON, answer: float = ANSWER
    ) -> float:
        return saving_bound(
            unit, person, answer, answers_per_unit=30, answers_per_person=40, labelled=84, unlabelled=unlabelled
        )

    assert bound(unlabelled=0) == 1
    assert 1 < bound(unlabelled=84) < bound(unlabelled=840) < bound()
    assert bound(unlabelled=1e9) == pytest.approx(bound())
    assert bound(unit=0.0) == 1
    assert bound(person=0.0, answer=0.0) == math.inf
    with pytest.raises(AnalysisError, match="nothing to save"):
        bound(unit=0.0, person=0.0, answer=0.0)
    with pytest.raises(AnalysisError, match="at least 0"):
        bound(unit=-1.0)


# ------------------------------------------------------------------------------------------------ the estimate


def test_the_estimate_is_the_librarys() -> None:
    people, machine = study(1, 0.8)
    found = only(score_with_machine(people, machine, resamples=20))
    y = people.groupby("unit")["correct"].mean()
    scores = machine.set_index("unit")["probability"]
    scaled = (scores - scores.mean()) / (2 * scores.std(ddof=0))
    _, pointestimate = powered_means.ppi_library()
    f, g = scaled[y.index].to_numpy(), scaled[~scores.index.isin(y.index)].to_numpy()
    assert found.score.value == pytest.approx(float(np.squeeze(pointestimate(y.to_numpy(), f, g))))
    assert 0 < found.tuning < 1
    again = y.mean() + found.tuning * (g.mean() - f.mean())
    assert found.score.value == pytest.approx(again)
    assert found.human_only.value == pytest.approx(y.mean())
    assert (found.labelled, found.unlabelled, found.answers, found.people) == (60, 300, 600, 30)


def test_tuning_is_found_where_the_machines_means_agree() -> None:
    people, machine = study(2, 0.9)
    own = machine["unit"].isin(people["unit"])
    first, second = machine.loc[own, "probability"], machine.loc[~own, "probability"]
    moved = machine.assign(
        probability=np.where(own, machine["probability"] - first.mean() + second.mean(), second.reindex(machine.index))
    )
    found = only(score_with_machine(people, moved, resamples=20))
    assert found.score.value == pytest.approx(found.human_only.value)
    before = only(score_with_machine(people, machine, resamples=20))
    assert found.tuning == pytest.approx(before.tuning, rel=0.05)


def test_a_good_machine_saves_and_a_bad_one_does_no_harm() -> None:
    good = only(score_with_machine(*study(3, 1.0, answers=30), resamples=100))
    bad = only(score_with_machine(*study(3, 0.0, answers=30), resamples=100))
    against = only(score_with_machine(*study(3, -1.0, answers=30), resamples=100))
    assert good.saving.low > 1.2
    assert good.score.high - good.score.low < good.human_only.high - good.human_only.low
    assert 0.85 < bad.saving.value < 1.25
    assert against.tuning == 0
    assert "does not predict people" in against.remark
    assert against.score.value == pytest.approx(against.human_only.value)
    for found in (good, bad):
        assert found.bound is not None
        assert found.bound_unlimited is not None
        assert found.bound.value <= found.bound_unlimited.value
        assert found.saving.low <= found.bound.high


def test_the_bound_that_is_estimated_is_that_of_the_truth() -> None:
    found = [only(score_with_machine(*study(seed, 0.5, answers=20), resamples=20)).bound for seed in range(12)]
    truth = saving_bound(
        0.12**2, 0.0, 0.75 * 0.25 - 0.12**2, answers_per_unit=20, answers_per_person=40, labelled=60, unlabelled=300
    )
    assert np.median([one.value for one in found if one is not None]) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize(("design", "each"), [((20, 200, 10, 0.9), 10), ((84, 300, 1, 0.7), 5), ((40, 40, 5, 0.0), 20)])
def test_intervals_cover_between_93_and_97_per_cent(design: tuple[int, int, int, float], each: int) -> None:
    found = simulate_coverage(*design, answers_per_person=each, studies=400, seed=3)
    noise = 2 * math.sqrt(0.95 * 0.05 / 400)
    assert 0.93 - noise <= found.coverage <= 0.97 + noise
    assert found.coverage_library < found.coverage
    assert found.saving < 1.2 * found.bound


def test_people_who_answer_about_many_units_widen_both_intervals() -> None:
    people, machine = study(4, 0.8)
    rng = np.random.default_rng(1)
    able = dict(zip(sorted(people["participant"].unique()), rng.random(30) < 0.5))
    chance = people["participant"].map(able).to_numpy(dtype=bool)
    apart = people.assign(correct=np.where(chance, 1.0, people["correct"] * (rng.random(len(people)) < 0.6)))
    found = only(score_with_machine(apart, machine, resamples=20))
    assert found.person_share > 0.3
    assert only(score_with_machine(people, machine, resamples=20)).person_share < 0.2
    few = only(score_with_machine(apart.assign(participant="one"), machine, resamples=20))
    assert few.person_share == 0
    assert "1 person answered" in few.remark
    assert few.score.estimand == spell_estimand("new units", observer="people, helped by seer")
    assert found.score.estimand == spell_estimand("new units and people", observer="people, helped by seer")
    assert few.score.high - few.score.low < found.score.high - found.score.low


def test_one_answer_a_unit_leaves_the_bound_unknown() -> None:
    found = only(score_with_machine(*study(5, 0.8, answers=1), resamples=20))
    assert found.bound is None
    assert "bound on the saving is unknown" in found.remark


def test_units_that_the_machine_lacks_are_left_out_and_counted() -> None:
    people, machine = study(6, 0.8)
    lacking = sorted(people["unit"].unique())[:5]
    found = only(score_with_machine(people, machine[~machine["unit"].isin(lacking)], resamples=20))
    assert found.labelled == 55
    assert "5 units" in found.remark


def test_neither_order_nor_names_matter() -> None:
    people, machine = study(7, 0.8)
    first = only(score_with_machine(people, machine, resamples=30)).row()
    shuffled = only(score_with_machine(people.sample(frac=1, random_state=1), machine[::-1], resamples=30)).row()

    def rename(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(unit="x" + table["unit"].str[::-1])

    renamed = only(score_with_machine(rename(people), rename(machine), resamples=30)).row()
    for other in (shuffled, renamed):
        assert {k: v for k, v in other.items() if isinstance(v, str)} == {
            k: v for k, v in first.items() if isinstance(v, str)
        }
        numbers = [k for k, v in first.items() if not isinstance(v, str)]
        assert [other[k] for k in numbers] == pytest.approx([first[k] for k in numbers])


@pytest.mark.parametrize(("labelled", "unlabelled"), [(15, 60), (15, 300), (84, 420)])
def test_the_check_of_random_labelling_has_its_level_and_finds_what_breaks_coverage(
    labelled: int, unlabelled: int
) -> None:
    rng = np.random.default_rng([40, labelled, unlabelled])
    scores = rng.beta(6, 2, (400, labelled + unlabelled))
    shift = 0.5 * scores.std()
    p = np.array([labelling_p(own[:labelled], own[labelled:]) for own in scores])
    shifted = np.array([labelling_p(own[:labelled] + shift, own[labelled:]) for own in scores])
    assert 0.02 <= (p < WARN).mean() <= 0.09
    assert (p < REFUSE).mean() <= 0.01
    assert (shifted < WARN).mean() > (0.9 if labelled == 84 else 0.25)


def test_a_machine_that_treats_labelled_units_apart_is_warned_of_and_refused() -> None:
    people, machine = study(11, 0.8)
    plain = only(score_with_machine(people, machine, resamples=20))
    assert plain.labelling_p > WARN and "random part" not in plain.remark
    shared = machine["unit"].isin(people["unit"])

    def better(by: float) -> pd.DataFrame:
        return machine.assign(probability=machine["probability"] + by * shared)

    steps = [by for by in np.linspace(0, 0.1, 41) if REFUSE < welch(people, better(by)) < WARN]
    warned = only(score_with_machine(people, better(steps[-1]), resamples=20))
    assert "not a random part of all" in warned.remark and "may be biased" in warned.remark
    with pytest.raises(AnalysisError, match="labelled at random"):
        score_with_machine(people, better(0.1), resamples=20)
    # Easier units are labelled: the machine, which predicts them, shows it.
    easy = machine.sort_values("probability")["unit"].tail(120)
    chosen = machine[machine["unit"].isin(easy)]
    with pytest.raises(AnalysisError, match="labelled at random"):
        score_with_machine(people.assign(unit=people["unit"].map(dict(zip(people["unit"].unique(), chosen["unit"])))),
                           machine, resamples=20)  # fmt: skip


def welch(people: pd.DataFrame, machine: pd.DataFrame) -> float:
    shared = machine["unit"].isin(people["unit"])
    scores = machine["probability"].to_numpy()
    return labelling_p(scores[shared], scores[~shared])


# ------------------------------------------------------------------------------------------------ refusals


def test_what_can_not_be_estimated_is_said() -> None:
    people, machine = study(8, 0.8)
    own = machine["unit"].isin(people["unit"])
    with pytest.raises(AnalysisError, match="gives all units the same score"):
        score_with_machine(people, machine.assign(probability=1.0))
    with pytest.raises(AnalysisError, match="0 units beyond those of people"):
        score_with_machine(people, machine[own])
    with pytest.raises(AnalysisError, match="both answered about 1 units"):
        score_with_machine(people[people["unit"] == people["unit"].iloc[0]], machine)
    with pytest.raises(AnalysisError, match="same proportion of right answers"):
        score_with_machine(people.assign(correct=1.0), machine)
    with pytest.raises(AnalysisError, match="mean of 'probability' or of 'correct'"):
        score_with_machine(people, machine, score="confidence")  # type: ignore[arg-type]
    with pytest.raises(AnalysisError, match="come from 1 people"):
        simulate_coverage(20, 20, 2, 0.5)
    with pytest.raises(AnalysisError, match="No population between"):
        simulate_coverage(20, 20, 20, 0.5, mean=0.9, unit_deviation=0.4, answers_per_person=10)


def test_the_library_neither_silences_warnings_nor_brings_torch() -> None:
    code = (
        "import sys, warnings\n"
        "from analysis.agreement import powered_means\n"
        "before = list(warnings.filters)\n"
        "powered_means.ppi_library()\n"
        "assert list(warnings.filters) == before, warnings.filters\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=500)
