from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.exclusions import COMPLETE, Rule, catch_rule, exclude, named_rule, practice_rule, protocol_rules
from analysis.judgement_table import judgements
from analysis.multiverse import (
    HEADLINES,
    OFF,
    REFERENCES,
    REPEATED,
    Choice,
    proportion_headline,
    rule_choices,
    run_multiverse,
)
from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.proportions import Mean, estimate_proportions
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.protocol import load_protocol
from tests.simulated import as_responses, session_facts

ANSWERS = simulate_judgements(
    Layout(models=2, units=10, sessions=20, trials=20, catch_trials=5, conditions=("natural", "synthetic")),
    Population(conditions={"synthetic": -1.0}, inattentive=0.2),
    seed=1,
)
RESPONSES = as_responses(ANSWERS)
SESSIONS = session_facts(RESPONSES, seed=2)
MEANS: dict[str, Mean] = {"units": "units", "answers": "answers"}
CHOICES = (
    Choice("catch", {OFF: None, "80%": catch_rule(0.8), "100%": catch_rule(1.0)}, "80%"),
    Choice("practice", {OFF: None, "at most 1": practice_rule(1)}, "at most 1"),
)


def test_the_grid_is_every_combination_of_all_rules() -> None:
    found = run_multiverse(RESPONSES, SESSIONS, headlines=HEADLINES["units"])
    every = ("catch", "total time", "instruction time", "positions", "practice", "first participation", "authenticity")
    sizes = {choice.name: len(choice.options) for choice in rule_choices()}
    assert found.choices == tuple(name for name in every if name not in found.idle)
    assert found.grid == math.prod(sizes[name] for name in found.choices) >= 200
    table = found.frame()
    assert len(table) + 2 * len(found.failed) == 2 * found.grid  # two conditions
    assert not table.duplicated([*found.choices, "headline"]).any()
    assert (table.groupby("headline")["protocol"].sum() == 1).all()
    assert not table[["value", "low", "high"]].isna().any().any()


def test_each_specification_is_what_exclusion_and_estimate_say() -> None:
    found = run_multiverse(RESPONSES, SESSIONS, choices=CHOICES)
    assert found.grid == 12
    rules = {choice.name: choice.options for choice in CHOICES}
    for own in found:
        chosen = [rules[name][own.settings[name]] for name in rules]
        kept = exclude(RESPONSES, SESSIONS, [COMPLETE, *(rule for rule in chosen if isinstance(rule, Rule))])
        table = judgements(kept.responses)
        cells = estimate_proportions(table, ("condition",), mean=MEANS[own.settings["mean over"]])
        assert cells.cell(condition=own.headline).estimate == own.estimate
        assert (own.answers, own.sessions) == (len(table), kept.usable)
        expected = {"catch": "80%", "practice": "at most 1", "mean over": "units"}
        assert own.protocol == (own.settings == expected)


def test_the_protocols_specification_is_the_protocols_analysis() -> None:
    for name in ("imi2023", "vimi1"):
        protocol = load_protocol(name)
        kept = exclude(RESPONSES, SESSIONS, protocol_rules(protocol))
        expected = estimate_proportions(judgements(kept.responses), ("condition",))
        found = [own for own in run_multiverse(RESPONSES, SESSIONS, protocol=protocol, most=60) if own.protocol]
        assert {own.headline: own.estimate for own in found} == {
            cell.names["condition"]: cell.estimate for cell in expected
        }


def test_the_curve_rises_and_its_agreement_is_counted() -> None:
    found = run_multiverse(RESPONSES, SESSIONS, choices=CHOICES)
    table = found.frame()
    for headline, own in table.groupby("headline"):
        assert own["value"].is_monotonic_increasing and own["place"].tolist() == list(range(1, len(own) + 1))
        said = {one.headline: one for one in found.agreement()}[str(headline)]
        assert (said.lowest, said.highest) == (own["value"].min(), own["value"].max())
        assert said.reference == 0.5 and said.specifications == 12
        own = own.drop_duplicates("answer_set")
        assert said.distinct == len(own) <= 12
        assert said.same_side == (own["value"] > 0.5).mean()
        assert said.excluding == (own["low"] > 0.5).mean()
        assert f"over 12 specifications, which leave {len(own)} different sets of answers" in said.sentence()
        middle = float(own["value"].median())
        split = {one.headline: one for one in found.agreement(reference=middle)}[str(headline)]
        side = np.sign(said.protocol.value - middle)
        assert split.same_side == (np.sign(own["value"] - middle) == side).mean()


def test_any_headline_can_be_asked() -> None:
    def gap(table: pd.DataFrame) -> Estimate:
        cells = {own.names["condition"]: own.estimate for own in estimate_proportions(table, ("condition",))}
        value = cells["natural"].value - cells["synthetic"].value
        return Estimate(value, -1.0, 1.0, "no interval: a test", 10, "difference of proportions correct")

    found = run_multiverse(RESPONSES, SESSIONS, choices=CHOICES, headlines=gap)
    assert found.choices == ("catch", "practice") and len(found.specifications) == found.grid == 6
    (said,) = found.agreement()
    assert said.reference == 0.0 and said.protocol.value > 0 and said.excluding == 0.0
    named = run_multiverse(
        RESPONSES, SESSIONS, choices=CHOICES, headlines={"gap": gap, "natural": proportion_headline()}
    )
    assert named.choices[-1] == "mean over" and named.grid == 12


def test_a_sample_of_a_large_grid_holds_the_protocol_and_its_neighbours() -> None:
    one, two = (run_multiverse(RESPONSES, SESSIONS, most=80, seed=3) for _ in range(2))
    choices = [choice for choice in rule_choices() if choice.name not in one.idle]
    assert one.specifications == two.specifications
    assert one.grid == 2 * math.prod(len(choice.options) for choice in choices)
    settings = {tuple(own.settings.values()) for own in one} | {tuple(own.values()) for own, _ in one.failed}
    assert len(settings) == 80
    own = (*(choice.protocol for choice in choices), "units")
    assert own in settings
    for k, choice in enumerate(choices):
        for option in choice.options:
            assert (*own[:k], option, *own[k + 1 :]) in settings
    assert run_multiverse(RESPONSES, SESSIONS, most=80, seed=4).specifications != one.specifications


def test_order_and_names_of_sessions_do_not_matter() -> None:
    one = run_multiverse(RESPONSES, SESSIONS, choices=CHOICES)
    other = RESPONSES.sample(frac=1, random_state=1).assign(session=lambda own: own["session"].str[::-1])
    two = run_multiverse(
        other, SESSIONS.sample(frac=1, random_state=2).assign(session=lambda own: own["session"].str[::-1]),
        choices=CHOICES,
    )  # fmt: skip
    for first, second in zip(one, two, strict=True):
        assert first.settings == second.settings and first.answers == second.answers
        assert first.estimate.value == pytest.approx(second.estimate.value, abs=1e-8)
        assert first.estimate.low == pytest.approx(second.estimate.low, abs=1e-8)


def test_repeated_trials_and_one_sided_references_are_choices_where_there_are_any() -> None:
    changed = RESPONSES.copy()
    main = np.flatnonzero(changed["kind"] == "main")
    changed.loc[main[:40], "kind"] = "repeated"
    changed.loc[main[40:100], "references"] = "max"
    changed.loc[main[100:110], "references"] = "none"
    found = run_multiverse(changed, SESSIONS, most=60)
    assert {"repeated trials", "references"} <= set(found.choices)
    counts = {
        (own.settings["repeated trials"], own.settings["references"]): own.answers
        for own in run_multiverse(changed, SESSIONS, choices=(REPEATED, REFERENCES), headlines=HEADLINES["units"])
    }
    done = set(SESSIONS.loc[SESSIONS["session_status"] == "complete", "session"])
    finished = changed["session"].isin(done) & changed["kind"].isin(["main", "repeated"])
    both = finished & (changed["references"] == "both")
    assert counts == {
        ("left out", "both"): int((both & (changed["kind"] == "main")).sum()), ("counted", "both"): int(both.sum()),
        ("left out", "one side too"): int(
            (finished & (changed["references"] != "none") & (changed["kind"] == "main")).sum()
        ),
        ("counted", "one side too"): int((finished & (changed["references"] != "none")).sum()),
    }  # fmt: skip
    # Who makes choices of their own sees main trials with both sides alone.
    plain = run_multiverse(changed, SESSIONS, choices=CHOICES[1:], headlines=HEADLINES["units"])
    assert max(own.answers for own in plain) == counts["left out", "both"]


def test_answers_of_unknown_sessions_count_always_and_missing_facts_exclude_nobody() -> None:
    bare = SESSIONS[["session", "observer"]].iloc[5:]
    found = run_multiverse(RESPONSES, bare, choices=CHOICES[1:])
    assert {own.answers for own in found} == {int((RESPONSES["kind"] == "main").sum())}


def test_choices_that_change_nothing_are_dropped_and_results_are_counted_once() -> None:
    """Nobody fails the practice, and times are unknown: of a grid of hundreds, a few different results are left."""
    bare = SESSIONS[["session", "observer", "session_status"]]
    found = run_multiverse(RESPONSES, bare)
    assert {"total time", "instruction time", "practice"} <= set(found.idle)
    assert not set(found.idle) & set(found.choices)
    assert all((found.frame()[name] == option).all() for name, option in found.idle.items())
    assert "changes nothing" in found.idle_sentence or "change nothing" in found.idle_sentence
    for said in found.agreement():
        own = found.frame().query("headline == @said.headline")
        assert said.specifications == len(own) and said.distinct == own["answer_set"].nunique()
        # Two specifications of one set of answers have one estimate; those of different sets differ in their answers.
        assert (own.groupby("answer_set")["value"].nunique() == 1).all()
        assert said.distinct < said.specifications
    one = found.distinct()
    assert not one.duplicated(["headline", "answer_set"]).any()
    assert (one.groupby("headline")["protocol"].sum() == 1).all()
    none = run_multiverse(RESPONSES, bare, choices=CHOICES[1:], headlines=HEADLINES["units"])
    assert (
        none.idle == {"practice": "at most 1"}
        and none.choices == ()
        and {own.distinct for own in none.agreement()} == {1}
    )


def test_specifications_that_leave_nothing_are_named() -> None:
    nobody = catch_rule(1.1)
    choices = (Choice("catch", {OFF: None, "impossible": nobody}, OFF),)
    found = run_multiverse(RESPONSES, SESSIONS, choices=choices, headlines=HEADLINES["units"])
    assert found.failed == (({"catch": "impossible"}, "No answers are left."),)
    assert len(found.specifications) == 2
    with pytest.raises(AnalysisError, match="None of the 1 specifications leaves answers"):
        run_multiverse(RESPONSES, SESSIONS, choices=(Choice("catch", {"impossible": nobody}, "impossible"),),
                       headlines=HEADLINES["units"])  # fmt: skip


def test_grids_that_make_no_sense_are_refused() -> None:
    with pytest.raises(AnalysisError, match="lacks the protocol's option '70%'"):
        Choice("catch", {OFF: None}, "70%")
    with pytest.raises(AnalysisError, match="the same name"):
        run_multiverse(RESPONSES, SESSIONS, choices=(*CHOICES, CHOICES[0]))
    with pytest.raises(AnalysisError, match="needs at least one headline"):
        run_multiverse(RESPONSES, SESSIONS, choices=CHOICES, headlines={})
    assert math.prod(len(choice.options) for choice in rule_choices()) == 1296
    assert named_rule("catch", least=0.8).meaning == catch_rule(0.8).meaning
