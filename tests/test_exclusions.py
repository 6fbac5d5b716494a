from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from analysis.exclusions import (
    AUTHENTIC,
    COMPLETE,
    FIRST_PARTICIPATION,
    PAPER_RULES,
    Rule,
    SessionFacts,
    all_of,
    any_of,
    catch_rule,
    describe_exclusions,
    exclude,
    instruction_time_rule,
    judge_sessions,
    named_rule,
    not_,
    position_rule,
    practice_rule,
    protocol_rules,
    total_time_rule,
    usable_responses,
)
from analysis.exclusions import RULES as RULES_BY_NAME
from analysis.power.simulation import Layout, Population, simulate_judgements
from benchmark import schemas
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.protocol import load_protocol
from tests.hand_made import answer_rows
from tests.simulated import as_responses, session_facts

MAIN, CATCH = 40, 5


def session_row(name: str = "s", **values: Any) -> dict[str, Any]:
    """Return a session that passes every rule."""
    return {
        "session": name, "study": "study", "protocol": "vimi1", "observer_kind": "human", "observer": "P1",
        "session_status": "complete", "cell": "natural-easy", "slot": "natural-easy-0000", "total_seconds": 672.0,
        "instruction_seconds": 60.0, "practice_attempts": 1, "earlier_participation": False, **values,
    }  # fmt: skip


def sessions_table(*rows: dict[str, Any]) -> pd.DataFrame:
    return schemas.SESSIONS.conform(pd.DataFrame(list(rows)))


def answers(
    session: str = "s", *, catch: tuple[int, int] = (CATCH, CATCH), main: int = MAIN, upper: int = 20, practice: int = 0
) -> pd.DataFrame:
    """Return a session's answers: so many right catch trials of so many, and so often the upper query in all."""
    right, of = catch
    marks = [True] * main + [n < right for n in range(of)] + [False] * practice
    table = answer_rows("model", list(enumerate(marks)), observer="P1", observer_kind="human", session=session)
    table["kind"] = ["main"] * main + ["catch"] * of + ["practice"] * practice
    # The chosen query is on top in the first ``upper`` of those that count; practice is always on top.
    chosen_upper = [n < upper for n in range(main + of)] + [True] * practice
    other = {"max": "min", "min": "max"}
    table["query_top"] = [c if up else other[c] for c, up in zip(table["choice"], chosen_upper)]
    return table


def facts(values: dict[str, Any] | None = None, **answered: Any) -> SessionFacts:
    table = answers(**answered)
    session = sessions_table(session_row(**(values or {}))).iloc[0]
    return SessionFacts(session, table[table["kind"] != "practice"])


RULES = {rule.name: rule for rule in protocol_rules(load_protocol("vimi1"))}


def test_both_protocols_have_the_papers_rules_in_one_order() -> None:
    names = ["complete", "catch", "total time", "instruction time", "positions", "practice", "first participation"]
    for protocol in ("vimi1", "imi2023"):
        assert [rule.name for rule in protocol_rules(load_protocol(protocol))] == names


def test_an_ordinary_session_passes_every_rule() -> None:
    assert all(rule.passes(facts()) for rule in RULES.values())


# ---------------------------------------------------------------- each of the paper's numbers, at its boundary


@pytest.mark.parametrize(("right", "passes"), [(5, True), (4, True), (3, False), (0, False)])
def test_four_of_five_catch_trials(right: int, passes: bool) -> None:
    assert RULES["catch"].passes(facts(catch=(right, 5))) is passes


@pytest.mark.parametrize(
    ("seconds", "passes"), [(134.9, False), (135.0, True), (135.1, True), (2500.0, True), (2500.1, False), (0, False)]
)
def test_135_to_2500_seconds(seconds: float, passes: bool) -> None:
    assert RULES["total time"].passes(facts({"total_seconds": seconds})) is passes


@pytest.mark.parametrize(("seconds", "passes"), [(14.99, False), (15.0, True), (3600.0, True)])
def test_15_seconds_of_instructions(seconds: float, passes: bool) -> None:
    assert RULES["instruction time"].passes(facts({"instruction_seconds": seconds})) is passes


@pytest.mark.parametrize(("upper", "passes"), [(0, False), (4, False), (5, True), (40, True), (41, False), (45, False)])
def test_each_position_5_times_of_45(upper: int, passes: bool) -> None:
    assert RULES["positions"].passes(facts(upper=upper)) is passes


@pytest.mark.parametrize(("attempts", "passes"), [(1, True), (3, True), (4, False)])
def test_three_rounds_of_practice(attempts: int, passes: bool) -> None:
    assert RULES["practice"].passes(facts({"practice_attempts": attempts})) is passes


@pytest.mark.parametrize(("earlier", "passes"), [(False, True), (True, False)])
def test_one_participation(earlier: bool, passes: bool) -> None:
    assert FIRST_PARTICIPATION.passes(facts({"earlier_participation": earlier})) is passes


@pytest.mark.parametrize("status", schemas.SESSION_STATES)
def test_only_finished_sessions_count(status: str) -> None:
    assert COMPLETE.passes(facts({"session_status": status})) is (status == "complete")


# ---------------------------------------------------------------- shorter sessions


@pytest.mark.parametrize(("seconds", "passes"), [(26.9, False), (27.0, True), (500.0, True), (500.1, False)])
def test_time_shrinks_with_the_session(seconds: float, passes: bool) -> None:
    assert RULES["total time"].passes(facts({"total_seconds": seconds}, main=7, catch=(2, 2))) is passes


@pytest.mark.parametrize(("upper", "passes"), [(0, False), (1, True), (8, True), (9, False)])
def test_positions_shrink_with_the_session(upper: int, passes: bool) -> None:
    assert RULES["positions"].passes(facts(upper=upper, main=7, catch=(2, 2))) is passes


@pytest.mark.parametrize(
    ("right", "of", "passes"), [(2, 2, True), (1, 2, False), (0, 0, True), (8, 10, True), (7, 10, False)]
)
def test_the_share_of_catch_trials_speaks_for_any_number(right: int, of: int, passes: bool) -> None:
    assert RULES["catch"].passes(facts(catch=(right, of))) is passes


def test_practice_decides_nothing_by_its_answers() -> None:
    table = answers(upper=4, practice=10)  # all ten of them wrong, and the upper query chosen
    judged = judge_sessions(sessions_table(session_row()), table, tuple(RULES.values()))
    assert judged["reasons"].tolist() == ["positions"]


@pytest.mark.parametrize(
    ("rule", "name"),
    [("total time", "total_seconds"), ("instruction time", "instruction_seconds"), ("practice", "practice_attempts")],
)
def test_what_was_never_recorded_speaks_for_a_session(rule: str, name: str) -> None:
    assert RULES[rule].passes(facts({name: None}))


# ---------------------------------------------------------------- judging


def test_rules_are_composed_freely() -> None:
    rules = (catch_rule(1.0), total_time_rule(700, 900, 45), instruction_time_rule(61), position_rule(20, 45))
    judged = judge_sessions(sessions_table(session_row()), answers(), rules)
    assert judged.columns.tolist() == [
        "session", "catch", "total time", "instruction time", "positions", "usable", "reasons",
    ]  # fmt: skip
    assert judged["reasons"].tolist() == ["total time, instruction time"]
    strict = judge_sessions(sessions_table(session_row(practice_attempts=2)), answers(), (practice_rule(1),))
    assert not strict["usable"].any()


def test_sessions_are_judged_by_their_own_answers_in_the_order_given() -> None:
    table = pd.concat([answers("good"), answers("inattentive", catch=(2, 5)), answers("one button", upper=45)])
    names = ["one button", "unfinished", "good", "inattentive"]
    unfinished = {"session_status": "timed out", "total_seconds": None}
    rows = [session_row(name, **(unfinished if name == "unfinished" else {})) for name in names]
    judged = judge_sessions(sessions_table(*rows), table, tuple(RULES.values()))
    assert judged["session"].tolist() == names
    assert judged["usable"].tolist() == [False, False, True, False]
    assert judged["reasons"].tolist() == ["positions", "complete", "", "catch"]


def test_no_sessions_give_an_empty_table() -> None:
    judged = judge_sessions(schemas.SESSIONS.empty(), schemas.RESPONSES.empty(), tuple(RULES.values()))
    assert len(judged) == 0 and "usable" in judged
    assert describe_exclusions(judged, RULES.values())["fail"].tolist() == [0] * len(RULES)


def test_usable_responses_keep_machines() -> None:
    machine = answer_rows("model", [(0, True)], session="features:seer/model/natural")
    table = pd.concat([answers("good"), answers("bad", catch=(0, 5)), machine])
    judged = judge_sessions(sessions_table(session_row("good"), session_row("bad")), table, tuple(RULES.values()))
    kept = usable_responses(table, judged)
    assert set(kept["session"]) == {"good", "features:seer/model/natural"}
    assert len(kept) == MAIN + CATCH + 1


def test_exclusions_are_described_with_who_fails_one_rule_alone() -> None:
    table = pd.concat([answers("a"), answers("b", catch=(0, 5)), answers("c", catch=(0, 5), upper=0), answers("d")])
    rows = [session_row(name) for name in "abc"] + [session_row("d", total_seconds=10.0)]
    rules = tuple(RULES.values())
    described = describe_exclusions(judge_sessions(sessions_table(*rows), table, rules), rules).set_index("rule")
    assert described["fail"].to_dict() == {
        "complete": 0, "catch": 2, "total time": 1, "instruction time": 0, "positions": 1, "practice": 0,
        "first participation": 0,
    }  # fmt: skip
    assert described.loc[["catch", "total time", "positions"], "fail only this"].tolist() == [1, 1, 0]
    assert described.loc["total time", "meaning"] == "135 to 2500 s for 45 trials."
    assert described.loc["catch", "meaning"] == "At least 80% of the catch trials are right."


@pytest.mark.parametrize(
    ("evidence", "passes"),
    [
        (None, True),
        ('{"automation": []}', True),
        ('{"automation": ["no languages"], "traps": {"lines equal": 1}}', True),
        ('{"automation": ["webdriver"]}', False),
        ('{"automation": [], "traps": {"skip button": 1}}', False),
        ('{"automation": [], "traps": {"untrusted input": 45}}', False),
    ],
)
def test_a_program_is_known_by_what_no_person_can_do(evidence: str | None, passes: bool) -> None:
    assert AUTHENTIC.passes(facts({"evidence": evidence})) is passes
    assert AUTHENTIC not in protocol_rules(load_protocol("vimi1"))


# ---------------------------------------------------------------- composition


SCHEMA_FREE = ["session", "observer"]


def verdict(rule: Rule, values: dict[str, Any] | None = None, **answered: Any) -> bool:
    return rule.passes(facts(values, **answered))


def test_rules_combine_as_logic_does() -> None:
    slow, careful = instruction_time_rule(50), catch_rule(0.8)
    cases = [(seconds, right) for seconds in (10.0, 90.0) for right in (1, 5)]
    for seconds, right in cases:
        one, two = seconds >= 50, right >= 4
        given: dict[str, Any] = {"values": {"instruction_seconds": seconds}, "catch": (right, 5)}
        assert verdict(slow & careful, **given) is (one and two) is verdict(all_of(slow, careful), **given)
        assert verdict(slow | careful, **given) is (one or two) is verdict(any_of(slow, careful), **given)
        assert verdict(~slow, **given) is (not one) is verdict(not_(slow), **given)
        assert verdict(~(slow & careful), **given) is verdict(~slow | ~careful, **given)
    assert (slow & careful).name == "instruction time and catch"
    assert (~(slow | careful)).name == "not (instruction time or catch)"
    assert all_of(slow, careful, name="attentive").name == "attentive"
    assert "At least 50 s on the instructions. At least 80% of the catch trials are right." in (slow & careful).meaning
    with pytest.raises(AnalysisError, match="at least one rule"):
        all_of()


def test_what_is_unknown_stays_so_until_the_known_parts_decide() -> None:
    slow, careful = instruction_time_rule(50), catch_rule(0.8)
    unknown: dict[str, Any] = {"values": {"instruction_seconds": None}}
    # In favour of the session, even under a negation.
    assert verdict(slow, **unknown) and verdict(~slow, **unknown)
    assert not verdict(slow & careful, **unknown, catch=(0, 5))
    assert verdict(slow | careful, **unknown, catch=(0, 5))
    sessions = sessions_table(session_row(instruction_seconds=None))
    judged = exclude(answers(catch=(0, 5)), sessions, [slow & careful, slow | careful]).report
    assert judged["not judged"].tolist() == [0, 1]


def test_a_rule_of_ones_own_looks_at_sessions_one_by_one() -> None:
    quick = Rule("quick", "Fewer than 50 answers.", lambda own: len(own.answers) < 50)
    table = pd.concat([answers("a"), answers("b", main=60)])
    sessions = sessions_table(session_row("b"), session_row("a"))
    assert judge_sessions(sessions, table, [quick, ~quick])["quick"].tolist() == [False, True]
    assert judge_sessions(sessions, table, [quick, ~quick])["not quick"].tolist() == [True, False]


def test_rules_have_names() -> None:
    assert {rule.name for rule in protocol_rules(load_protocol("imi2023"))} < set(RULES_BY_NAME)
    assert named_rule("positions", least=3, trials=45).meaning == position_rule(3, 45).meaning
    assert named_rule("authenticity") is AUTHENTIC
    with pytest.raises(NameNotFound, match="catch"):
        named_rule("catsh")
    with pytest.raises(AnalysisError, match="'catch' does not take these settings"):
        named_rule("catch", most=3)


def test_the_papers_rules_are_five_and_have_the_papers_numbers() -> None:
    assert [rule.name for rule in PAPER_RULES] == ["catch", "total time", "instruction time", "positions", "practice"]
    expected = [catch_rule(0.8), total_time_rule(135, 2500, 45), instruction_time_rule(15), position_rule(5, 45),
                practice_rule(3)]  # fmt: skip
    assert [rule.meaning for rule in PAPER_RULES] == [rule.meaning for rule in expected]


# ---------------------------------------------------------------- reports


def test_judging_all_sessions_at_once_is_judging_each() -> None:
    responses = as_responses(
        simulate_judgements(
            Layout(models=1, units=10, sessions=60, trials=10, catch_trials=5), Population(inattentive=0.3), seed=1
        )
    )
    sessions = session_facts(responses, seed=1)
    rules = (*RULES.values(), AUTHENTIC)
    together = judge_sessions(sessions, responses, rules)
    for number, session in sessions.iterrows():
        own = SessionFacts(session, responses[responses["session"] == session["session"]])
        for rule in rules:
            assert together.loc[number, rule.name] == rule.passes(own), rule.name
    assert 0 < together["usable"].sum() < 60


def test_the_report_says_who_fell_out_and_why() -> None:
    machine = answer_rows("model", [(0, True)], session="features:seer/model/natural")
    practice = answers("a", practice=3)
    table = pd.concat([practice, answers("b", catch=(0, 5)), answers("c", catch=(0, 0)), machine])
    rows = [session_row("a"), session_row("b", total_seconds=None), session_row("c", session_status="timed out")]
    found = exclude(table, sessions_table(*rows))
    assert found.report["rule"].tolist() == ["complete", *(rule.name for rule in PAPER_RULES)]
    assert found.report.set_index("rule")["fail"].to_dict() == {
        "complete": 1, "catch": 1, "total time": 0, "instruction time": 0, "positions": 0, "practice": 0,
    }  # fmt: skip
    assert found.report["not judged"].tolist() == [0, 1, 1, 0, 0, 0]
    assert (found.sessions, found.usable, found.answers, found.kept) == (3, 1, 120, 40)
    assert set(found.responses["session"]) == {"a", "features:seer/model/natural"}
    assert (found.responses["kind"] == "practice").sum() == 3
    assert found.sentence() == (
        "2 of 3 sessions (66.7%) were left out (complete 1, catch 1); 40 of 120 answers count. Not recorded, and so in "
        "favour of the session: catch (1), total time (1)."
    )


def test_imported_sessions_of_which_nothing_is_known_are_kept() -> None:
    bare = sessions_table(session_row("a"), session_row("b"))[SCHEMA_FREE]
    table = pd.concat([answers("a", catch=(0, 0)), answers("b", catch=(0, 0))])
    found = exclude(table, bare, (*RULES.values(), AUTHENTIC))
    assert found.usable == 2
    judged = found.report.set_index("rule")["not judged"]
    assert judged.to_dict() == {**dict.fromkeys(judged.index, 2), "positions": 0}
    assert AUTHENTIC.passes(facts({"evidence": "no JSON at all"}))
    none = exclude(table.iloc[:0], bare.iloc[:0])
    assert none.usable == 0 and none.sentence() == "0 of 0 sessions were left out; 0 of 0 answers count."


def test_what_can_not_be_reported_is_refused() -> None:
    rows = sessions_table(session_row("a"), session_row("a"))
    with pytest.raises(AnalysisError, match="'a' appears twice"):
        exclude(answers("a"), rows)
    with pytest.raises(AnalysisError, match="Two rules are called 'catch'"):
        exclude(answers("a"), rows.iloc[:1], [catch_rule(0.8), catch_rule(1.0)])
