"""Simulated experiments: laid out fairly, screened by the protocol's rules, and true to the truth they were given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.exclusions import SessionFacts, catch_rule, position_rule
from analysis.power.simulation import (
    Layout,
    Population,
    Screening,
    draw_answers,
    judgement_table,
    simulate_judgements,
)
from benchmark.errors import AnalysisError


def lay_out(layout: Layout, rng: np.random.Generator) -> pd.DataFrame:
    """Return the trials of a layout as whole numbers, one row each."""
    answers = draw_answers(layout, Population(), rng)
    names = ("condition", "model", "unit", "task", "participant", "trial_index")
    return pd.DataFrame({name: getattr(answers, name) for name in names})


@pytest.mark.parametrize(
    "units, trials, sessions", [(84, 40, 63), (41, 40, 82), (40, 40, 7), (50, 49, 100), (7, 3, 21)]
)
@pytest.mark.parametrize("crossed", [False, True])
def test_no_unit_twice_in_a_session_and_all_equally_often(
    units: int, trials: int, sessions: int, crossed: bool
) -> None:
    layout = Layout(models=2, units=units, trials=trials, sessions=sessions, crossed=crossed)
    table = lay_out(layout, np.random.default_rng(3))
    assert len(table) == layout.slots * trials
    assert not table.duplicated(["participant", "unit"]).any()
    counts = table["unit"].value_counts()
    assert counts.max() - counts.min() <= 1
    # Tasks take turns: those of a unit differ by one answer at most.
    by_task = table.groupby(["unit", "task"]).size().groupby("unit")
    assert (by_task.max() - by_task.min()).max() <= 1
    assert (table["task"] // layout.tasks == table["unit"]).all()


def test_units_that_share_a_session_are_drawn_at_random() -> None:
    """The constraint where a pass begins inside a session must not tie units together."""
    table = lay_out(Layout(models=1, units=12, trials=8, sessions=6000), np.random.default_rng(0))
    together = pd.crosstab(table["participant"], table["unit"]).to_numpy()
    pairs = (together.T @ together)[np.triu_indices(12, 1)] / 6000
    # 8 of 12: a pair is together with probability 8/12 * 7/11.
    assert pairs.mean() == pytest.approx(8 / 12 * 7 / 11)
    assert np.abs(pairs - pairs.mean()).max() < 5 * np.sqrt(0.42 * 0.58 / 6000)


def test_a_session_longer_than_the_units_repeats_them_evenly() -> None:
    table = lay_out(Layout(models=1, units=5, trials=12, sessions=10), np.random.default_rng(0))
    assert table.groupby("participant")["unit"].nunique().eq(5).all()


def test_a_seed_gives_one_experiment_and_another_seed_another() -> None:
    layout, population = Layout(models=2, sessions=20, catch_trials=2), Population(inattentive=0.2)
    first, again, other = (
        simulate_judgements(layout, population, seed=seed, screening=Screening()) for seed in (4, 4, 5)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not first["correct"].equals(other["correct"])


def test_answers_follow_their_truth() -> None:
    layout = Layout(models=4, sessions=200, catch_trials=5, references_none=0.1)
    table = simulate_judgements(
        layout, Population(lapse=0.04, slope=0.5), seed=0, predictor=np.array([-1.0, 0.0, 0.5, 2.0])
    )
    main = table[(table["kind"] == "main") & (table["references"] == "both")]
    assert table["correct"].mean() == pytest.approx(table["probability"].mean(), abs=0.005)
    bins = pd.cut(main["probability"], np.linspace(0.5, 0.96, 6))
    by_bin = main.groupby(bins, observed=True)[["correct", "probability"]].mean()
    assert np.abs(by_bin["correct"] - by_bin["probability"]).max() < 0.02
    blank = table[table["references"] == "none"]
    assert len(blank) == layout.slots * 4 and (blank["probability"] == 0.5).all()
    assert (blank.groupby("session").size() == 4).all()
    assert (table.loc[table["kind"] == "catch", "probability"] == 0.96).all()
    assert ((table["upper"] == table["max_on_top"]) == (table["correct"] == 1)).all()


def test_screening_is_the_protocols_rules() -> None:
    """The fast rules pass exactly the sessions that the rules of the analysis pass."""
    layout = Layout(models=1, sessions=300, catch_trials=5)
    table = simulate_judgements(layout, Population(inattentive=0.5, one_sided=0.2, lapse=0.05), seed=2)
    names = {0.0: "min", 1.0: "max"}
    rules = (catch_rule(0.8), position_rule(5, 45))
    slow, fast = [], []
    for _, own in table.groupby("session", observed=True, sort=False):
        answers = own.assign(choice=own["correct"].map(names), query_top=own["max_on_top"].map(names))
        slow.append(all(rule.passes(SessionFacts(pd.Series(), answers)) for rule in rules))
        catch = own.loc[own["kind"] == "catch", "correct"].to_numpy(dtype=bool)
        fast.append(bool(Screening().passes(catch[None], np.array([int(own["upper"].sum())]), len(own))[0]))
    assert slow == fast
    assert 0 < sum(slow) < 300


def test_only_sessions_that_pass_count_and_the_others_are_replaced() -> None:
    layout = Layout(models=3, sessions=400, catch_trials=5)
    population = Population(inattentive=0.3, one_sided=0.1, lapse=0.03)
    screening = Screening(dropout=0.15)
    answers = draw_answers(layout, population, np.random.default_rng(1), None, screening)
    table = judgement_table(answers)
    by_session = table[table["kind"] == "catch"].groupby("session", observed=True)["correct"].mean()
    assert len(by_session) == layout.slots and by_session.min() >= 0.8
    assert table.groupby("session", observed=True)["upper"].sum().between(5, 40).all()
    assert answers.recruited == layout.slots + answers.unfinished + answers.excluded
    attentive, guessing, pressing = screening.pass_probabilities(layout, population)
    passing = 0.85 * (0.6 * attentive + 0.3 * guessing + 0.1 * pressing)
    expected = layout.slots / passing
    assert answers.recruited == pytest.approx(expected, abs=4 * np.sqrt(layout.slots * (1 - passing)) / passing)
    assert answers.unfinished / answers.recruited == pytest.approx(0.15, abs=0.03)
    kept = 0.3 * guessing / (0.6 * attentive + 0.3 * guessing + 0.1 * pressing)
    guessers = (table[table["kind"] == "catch"].groupby("session", observed=True)["probability"].max() == 0.5).mean()
    assert guessers == pytest.approx(kept, abs=0.03)


def test_what_can_not_be_simulated_says_so() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(AnalysisError, match=r"^Layout: models: .*greater than or equal to 1"):
        draw_answers(Layout(models=0), Population(), rng)
    with pytest.raises(AnalysisError, match="more than everybody"):
        draw_answers(Layout(), Population(inattentive=0.8, one_sided=0.3), rng)
    with pytest.raises(AnalysisError, match="nobody among"):
        draw_answers(Layout(models=1, sessions=2), Population(one_sided=1.0), rng, None, Screening())
