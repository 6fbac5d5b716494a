"""Rules on sessions: named, made from a protocol's numbers, and composed from one another.

A fact that was never recorded speaks for a session. Rules are composed with ``&``, ``|`` and ``~`` (or ``all_of``,
``any_of``, ``not_``) in the three-valued logic of Kleene (1952): unknown stays unknown until the known parts decide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import AnalysisError
from benchmark.protocol import Protocol, load_protocol
from benchmark.registry import Registry

Verdicts = NDArray[np.float64]
"""Shape (sessions,): 1 where a session passes, 0 where it fails, 0.5 where a fact is missing."""

UNKNOWN = 0.5


@dataclass(frozen=True)
class SessionFacts:
    """One session, as rules see it.

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
class SessionTable:
    """All sessions, as rules see them.

    Attributes
    ----------
    sessions
        The table of sessions, one row each; columns may be missing.
    answers
        Shape (sessions,): main, catch and repeated answers.
    catch, catch_right
        Catch trials, and those answered rightly.
    upper
        Answers that chose the upper query.
    rows
        The answers themselves, for rules that look at single ones.
    """

    sessions: pd.DataFrame
    answers: NDArray[np.int64]
    catch: NDArray[np.int64]
    catch_right: NDArray[np.int64]
    upper: NDArray[np.int64]
    rows: pd.DataFrame

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where a fact is missing."""
        if column not in self.sessions.columns:
            return np.full(len(self.sessions), np.nan)
        values = pd.to_numeric(self.sessions[column], errors="coerce")
        numbers: NDArray[np.float64] = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers

    def texts(self, column: str) -> list[str | None]:
        """Return a column as texts, None where a fact is missing."""
        if column not in self.sessions.columns:
            return [None] * len(self.sessions)
        return [None if pd.isna(value) else str(value) for value in self.sessions[column]]


def tabulate_sessions(sessions: pd.DataFrame, responses: pd.DataFrame) -> SessionTable:
    """Count what rules need to know of every session.

    Parameters
    ----------
    sessions
        Table of sessions.
    responses
        Table of responses; practice, and other sessions' answers, are ignored.
    """
    names = pd.Index(sessions["session"].astype(str))
    if not names.is_unique:
        raise AnalysisError(f"The session {names[names.duplicated()][0]!r} appears twice in the table of sessions.")
    place = names.get_indexer(pd.Index(responses["session"].astype(str)))
    own = (place >= 0) & (responses["kind"] != "practice").to_numpy()
    rows, place = responses[own], place[own]
    catch = (rows["kind"] == "catch").to_numpy()
    right = rows["correct"].to_numpy().astype(bool)
    upper = (rows["choice"].astype(str) == rows["query_top"].astype(str)).to_numpy()

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(place[chosen], minlength=len(names)).astype(np.int64)

    return SessionTable(
        sessions.reset_index(drop=True),
        count(np.ones(len(rows), dtype=bool)),
        count(catch),
        count(catch & right),
        count(upper),
        rows,
    )


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
    verdicts
        The same for all sessions at once, and whether a fact is missing; None for a rule that only looks at sessions
        one by one.
    """

    name: str
    meaning: str
    passes: Callable[[SessionFacts], bool]
    verdicts: Callable[[SessionTable], Verdicts] | None = None

    def judge(self, table: SessionTable) -> Verdicts:
        """Return the verdict on every session."""
        if self.verdicts is not None:
            return self.verdicts(table)
        by_session = dict(iter(table.rows.groupby(table.rows["session"].astype(str), sort=False)))
        none = table.rows.iloc[:0]
        return np.array(
            [
                float(self.passes(SessionFacts(session, by_session.get(str(session["session"]), none))))
                for _, session in table.sessions.iterrows()
            ],
            dtype=np.float64,
        )

    def __and__(self, other: Rule) -> Rule:
        return all_of(self, other)

    def __or__(self, other: Rule) -> Rule:
        return any_of(self, other)

    def __invert__(self) -> Rule:
        return not_(self)


def make_rule(name: str, meaning: str, verdicts: Callable[[SessionTable], Verdicts]) -> Rule:
    """Return a rule that judges all sessions at once.

    Parameters
    ----------
    name, meaning
        As in :class:`Rule`.
    verdicts
        From all sessions to 1 where one passes, 0 where it fails, ``UNKNOWN`` where a fact is missing.
    """

    def passes(facts: SessionFacts) -> bool:
        session = facts.session.to_frame().T
        if "session" not in session.columns:
            session = session.assign(session="")
        rows = facts.answers.assign(session=str(session["session"].iloc[0]))
        return bool(verdicts(tabulate_sessions(session, rows))[0] > 0)

    return Rule(name, meaning, passes, verdicts)


def all_of(*rules: Rule, name: str = "") -> Rule:
    """Return the rule that a session passes if it passes all of these."""
    return _compose(rules, " and ", np.min, name)


def any_of(*rules: Rule, name: str = "") -> Rule:
    """Return the rule that a session passes if it passes at least one of these."""
    return _compose(rules, " or ", np.max, name)


def not_(rule: Rule, name: str = "") -> Rule:
    """Return the rule that a session passes if it fails this one; unknown if that one is unknown."""
    meaning = f"It is not so that: {rule.meaning[:1].lower()}{rule.meaning[1:]}"
    return make_rule(name or f"not {_bracket(rule.name)}", meaning, lambda table: 1 - rule.judge(table))


def _compose(rules: Sequence[Rule], word: str, combine: Callable[..., Any], name: str) -> Rule:
    """Return a rule made of rules.

    Raises
    ------
    AnalysisError
        If there are none.
    """
    if not rules:
        raise AnalysisError("A combined rule needs at least one rule.")

    def verdicts(table: SessionTable) -> Verdicts:
        combined: Verdicts = combine(np.stack([rule.judge(table) for rule in rules]), axis=0)
        return combined

    meaning = word.strip().capitalize().replace("And", "All of these hold").replace("Or", "One of these holds")
    return make_rule(
        name or word.join(_bracket(rule.name) for rule in rules),
        f"{meaning}: {' '.join(rule.meaning for rule in rules)}",
        verdicts,
    )


def _bracket(name: str) -> str:
    return f"({name})" if " and " in name or " or " in name else name


def _known(passed: NDArray[np.bool_], known: NDArray[np.bool_]) -> Verdicts:
    """Return verdicts from what passes and where that is known."""
    return np.where(known, passed.astype(np.float64), UNKNOWN)


def _is_complete(table: SessionTable) -> Verdicts:
    states = table.texts("session_status")
    return np.array([UNKNOWN if state is None else float(state == "complete") for state in states])


RULES: Registry[Callable[..., Rule]] = Registry("exclusion rule")
"""How each rule is made, by its name: a function of its settings."""

COMPLETE = make_rule("complete", "The session was finished.", _is_complete)


@RULES.register("catch")
def catch_rule(least: float) -> Rule:
    """Return the rule that asks for a share of catch trials answered rightly."""

    def verdicts(table: SessionTable) -> Verdicts:
        share = table.catch_right / np.maximum(table.catch, 1)
        return _known(share >= least - 1e-9, table.catch > 0)

    return make_rule("catch", f"At least {least:.0%} of the catch trials are right.", verdicts)


@RULES.register("total time")
def total_time_rule(shortest: float, longest: float, trials: int) -> Rule:
    """Return the rule on the time from the first trial to the last answer, in seconds for so many trials."""

    def verdicts(table: SessionTable) -> Verdicts:
        seconds, share = table.numbers("total_seconds"), table.answers / trials
        with np.errstate(invalid="ignore"):
            passed = (shortest * share <= seconds) & (seconds <= longest * share)
        return _known(passed, ~np.isnan(seconds))

    return make_rule("total time", f"{shortest:g} to {longest:g} s for {trials} trials.", verdicts)


@RULES.register("instruction time")
def instruction_time_rule(shortest: float) -> Rule:
    """Return the rule on the time spent on the instructions, in seconds."""

    def verdicts(table: SessionTable) -> Verdicts:
        seconds = table.numbers("instruction_seconds")
        return _known(np.nan_to_num(seconds, nan=-1.0) >= shortest, ~np.isnan(seconds))

    return make_rule("instruction time", f"At least {shortest:g} s on the instructions.", verdicts)


@RULES.register("positions")
def position_rule(least: int, trials: int) -> Rule:
    """Return the rule that asks for the upper and the lower query to be chosen so often in so many trials."""

    def verdicts(table: SessionTable) -> Verdicts:
        wanted = least * table.answers / trials
        rarer = np.minimum(table.upper, table.answers - table.upper)
        return _known(rarer >= wanted - 1e-9, table.answers > 0)

    return make_rule(
        "positions", f"Upper and lower query each chosen at least {least} times in {trials} trials.", verdicts
    )


@RULES.register("practice")
def practice_rule(most: int) -> Rule:
    """Return the rule on rounds of practice."""

    def verdicts(table: SessionTable) -> Verdicts:
        attempts = table.numbers("practice_attempts")
        return _known(np.nan_to_num(attempts, nan=0.0) <= most, ~np.isnan(attempts))

    return make_rule("practice", f"At most {most} rounds of practice.", verdicts)


def _is_first(table: SessionTable) -> Verdicts:
    earlier = table.numbers("earlier_participation")
    return _known(~(np.nan_to_num(earlier, nan=0.0) > 0), ~np.isnan(earlier))


FIRST_PARTICIPATION = make_rule("first participation", "The person had not taken part before.", _is_first)


SPRUNG = ("skip button", "hidden instruction", "untrusted input")
"""Signs that no person leaves behind: what they answer to can't be seen, or their events come from a script."""


def _is_authentic(table: SessionTable) -> Verdicts:
    found = np.full(len(table.sessions), UNKNOWN)
    for k, evidence in enumerate(table.texts("evidence")):
        signs = _read_evidence(evidence)
        if signs is not None:
            sprung = any(sign in (signs.get("traps") or {}) for sign in SPRUNG)
            found[k] = float(not sprung and "webdriver" not in (signs.get("automation") or []))
    return found


AUTHENTIC = make_rule(
    "authenticity", "The browser was not driven by a program, and no trap that people can't see was sprung.",
    _is_authentic,
)  # fmt: skip
"""No part of a protocol's rules: it is for analyses that name it, and refuses nobody by itself."""

LONG_TEXT = 40
"""Characters of a comment from which on it counts how it was written."""


@RULES.register("agent")
def agent_rule(jumps: int = 3, centred: int = 6) -> Rule:
    """Return the rule that asks for no marks of an agent that works a browser for somebody.

    No part of a protocol's rules: it is for analyses that name it, and refuses nobody by itself. Eye trackers, voice
    control and dictation leave some of the same marks, so that whoever fails is looked at. How often agents and
    people fail it is in ``docs/participants.md``.

    Parameters
    ----------
    jumps
        So many answers to which the pointer jumped, in place of moving there, are a mark.
    centred
        So many presses on the very middle of a button are one.
    """

    def verdicts(table: SessionTable) -> Verdicts:
        found = np.full(len(table.sessions), UNKNOWN)
        for k, evidence in enumerate(table.texts("evidence")):
            signs = _read_evidence(evidence)
            if signs is not None:
                found[k] = float(not _marks(signs, jumps, centred))
        return found

    return make_rule(
        "agent",
        f"No request was signed by an agent, the pointer jumped to fewer than {jumps} answers and pressed fewer than "
        f"{centred} buttons in their very middle, and no comment of {LONG_TEXT} characters came in without a key.",
        verdicts,
    )


def _marks(signs: dict[str, Any], jumps: int, centred: int) -> bool:
    """Return whether evidence holds a mark of an agent."""
    traps, writing = signs.get("traps") or {}, signs.get("writing") or {}
    return bool(
        signs.get("agents")
        or traps.get("pointer jump", 0) >= jumps
        or traps.get("centred press", 0) >= centred
        or (writing.get("inserted", 0) >= LONG_TEXT and writing.get("keys", 0) < writing["inserted"] / 4)
        or writing.get("scripted", 0) > 0
    )


def _read_evidence(text: str | None) -> dict[str, Any] | None:
    """Return evidence; None if it is missing or can't be read."""
    try:
        signs = json.loads(text) if text else None
    except json.JSONDecodeError:
        return None
    return signs if isinstance(signs, dict) else None


for _fixed in (COMPLETE, FIRST_PARTICIPATION, AUTHENTIC):
    RULES.register(_fixed.name)(lambda rule=_fixed: rule)


def named_rule(name: str, **settings: float) -> Rule:
    """Return a rule by its name, with its settings: ``named_rule("catch", least=0.8)``.

    Raises
    ------
    NameNotFound
        If there is no such rule.
    AnalysisError
        If a setting is missing or unknown.
    """
    make = RULES[name]
    try:
        return make(**settings)
    except TypeError as error:
        raise AnalysisError(f"The rule {name!r} does not take these settings: {error}.") from None


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


PAPER_RULES: tuple[Rule, ...] = tuple(
    rule
    for rule in protocol_rules(load_protocol("imi2023"))
    if rule.name in ("catch", "total time", "instruction time", "positions", "practice")
)
"""The paper's five rules, with the paper's numbers."""

DEFAULT_RULES: tuple[Rule, ...] = (COMPLETE, *PAPER_RULES)
