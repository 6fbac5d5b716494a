"""Whose answers count: named rules on sessions, composed from a protocol.

A rule looks at one session, what is known of it as a whole and its answers, and says whether it passes. The paper's
five rules are the default: catch trials, total time, instruction time, both positions chosen, few enough rounds of
practice and no earlier participation (Zimmermann, Klein & Brendel, 2023, their exclusion criteria). A session that
was not finished never counts.

Exclusions decide what is analysed and which session slots are offered anew. They never decide payment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.protocol import Protocol


@dataclass(frozen=True)
class SessionFacts:
    """What rules look at.

    Attributes
    ----------
    session
        The session's row of the table of sessions.
    answers
        Its main, catch and repeated answers; practice is left out.
    """

    session: pd.Series
    answers: pd.DataFrame


@dataclass(frozen=True)
class Rule:
    """A named reason to leave a session out.

    Attributes
    ----------
    name
        Short name, as in reports.
    meaning
        What passes, in a sentence.
    passes
        Whether a session passes; a fact that was never recorded speaks for it.
    """

    name: str
    meaning: str
    passes: Callable[[SessionFacts], bool]


COMPLETE = Rule("complete", "The session was finished.", lambda facts: facts.session["session_status"] == "complete")


def catch_rule(least: float) -> Rule:
    """Return the rule that asks for a share of catch trials answered rightly."""

    def passes(facts: SessionFacts) -> bool:
        catch = facts.answers[facts.answers["kind"] == "catch"]
        return len(catch) == 0 or bool(catch["correct"].mean() >= least - 1e-9)

    return Rule("catch", f"At least {least:.0%} of the catch trials are right.", passes)


def total_time_rule(shortest: float, longest: float, trials: int) -> Rule:
    """Return the rule on the time from the first trial to the last answer, in seconds for so many trials."""

    def passes(facts: SessionFacts) -> bool:
        seconds, share = facts.session["total_seconds"], len(facts.answers) / trials
        return bool(pd.isna(seconds) or shortest * share <= seconds <= longest * share)

    return Rule("total time", f"{shortest:g} to {longest:g} s for {trials} trials.", passes)


def instruction_time_rule(shortest: float) -> Rule:
    """Return the rule on the time spent on the instructions, in seconds."""

    def passes(facts: SessionFacts) -> bool:
        seconds = facts.session["instruction_seconds"]
        return bool(pd.isna(seconds) or seconds >= shortest)

    return Rule("instruction time", f"At least {shortest:g} s on the instructions.", passes)


def position_rule(least: int, trials: int) -> Rule:
    """Return the rule that asks for the upper and the lower query to be chosen so often in so many trials."""

    def passes(facts: SessionFacts) -> bool:
        upper = int((facts.answers["choice"] == facts.answers["query_top"]).sum())
        wanted = least * len(facts.answers) / trials
        return min(upper, len(facts.answers) - upper) >= wanted - 1e-9

    return Rule("positions", f"Upper and lower query each chosen at least {least} times in {trials} trials.", passes)


def practice_rule(most: int) -> Rule:
    """Return the rule on rounds of practice."""

    def passes(facts: SessionFacts) -> bool:
        attempts = facts.session["practice_attempts"]
        return bool(pd.isna(attempts) or attempts <= most)

    return Rule("practice", f"At most {most} rounds of practice.", passes)


FIRST_PARTICIPATION = Rule(
    "first participation", "The person had not taken part before.",
    lambda facts: not bool(facts.session["earlier_participation"]),
)  # fmt: skip


SPRUNG = ("skip button", "hidden instruction", "untrusted input")
"""Signs that no person leaves behind: what they answer to can't be seen, or their events come from a script."""


def _is_authentic(facts: SessionFacts) -> bool:
    evidence = facts.session["evidence"]
    if pd.isna(evidence) or not evidence:
        return True
    signs = json.loads(evidence)
    return not any(sign in signs.get("traps", {}) for sign in SPRUNG) and "webdriver" not in signs.get("automation", [])


AUTHENTIC = Rule(
    "authenticity", "The browser was not driven by a program, and no trap that people can't see was sprung.",
    _is_authentic,
)  # fmt: skip
"""No part of a protocol's rules: it is for analyses that name it, and refuses nobody by itself."""


def protocol_rules(protocol: Protocol) -> tuple[Rule, ...]:
    """Return the exclusion rules of a protocol, in the order in which reports name them."""
    limits = protocol.rules.exclusions
    return (
        COMPLETE,
        catch_rule(limits.catch_correct),
        total_time_rule(*limits.total_seconds, limits.trials),
        instruction_time_rule(limits.instruction_seconds),
        position_rule(limits.each_position, limits.trials),
        practice_rule(protocol.rules.session.practice_attempts),
        FIRST_PARTICIPATION,
    )


def judge_sessions(sessions: pd.DataFrame, responses: pd.DataFrame, rules: Sequence[Rule]) -> pd.DataFrame:
    """Apply rules to sessions.

    Parameters
    ----------
    sessions
        Table of sessions.
    responses
        Table of responses; other sessions' are ignored.
    rules
        What to apply.

    Returns
    -------
    One row a session, in the order given: ``session``, one column a rule (whether it passes), ``usable`` (whether
    all do) and ``reasons`` (names of the rules that do not).
    """
    scored = responses[responses["kind"] != "practice"]
    by_session = dict(iter(scored.groupby("session", sort=False)))
    rows = []
    for _, session in sessions.iterrows():
        facts = SessionFacts(session, by_session.get(session["session"], scored.iloc[:0]))
        verdicts = {rule.name: rule.passes(facts) for rule in rules}
        failed = [name for name, passed in verdicts.items() if not passed]
        rows.append({"session": session["session"], **verdicts, "usable": not failed, "reasons": ", ".join(failed)})
    columns = ["session", *(rule.name for rule in rules), "usable", "reasons"]
    return pd.DataFrame(rows, columns=columns)


def usable_responses(responses: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Return the answers of usable sessions, and of observers that have no sessions to judge: machines."""
    usable = set(judged.loc[judged["usable"].astype(bool), "session"])
    known = set(judged["session"])
    keep = responses["session"].isin(usable) | ~responses["session"].isin(known)
    return responses[keep].reset_index(drop=True)


def describe_exclusions(judged: pd.DataFrame, rules: Iterable[Rule]) -> pd.DataFrame:
    """Return who falls out and why: for each rule, its meaning, how many fail it, and how many fail it alone."""
    rules = list(rules)
    passed = judged[[rule.name for rule in rules]].astype(bool)
    failures = (~passed).sum(axis=1)
    rows = [
        {
            "rule": rule.name,
            "meaning": rule.meaning,
            "fail": int((~passed[rule.name]).sum()),
            "fail only this": int((~passed[rule.name] & (failures == 1)).sum()),
        }
        for rule in rules
    ]
    return pd.DataFrame(rows, columns=["rule", "meaning", "fail", "fail only this"])
