"""Applying rules: which sessions are usable, which answers count, and who fell out and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.exclusions.rules import DEFAULT_RULES, UNKNOWN, Rule, SessionTable, Verdicts, tabulate_sessions
from analysis.results import AnalysisResult
from benchmark.errors import AnalysisError


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
    return _judge(tabulate_sessions(sessions, responses), rules)[0]


def _judge(table: SessionTable, rules: Sequence[Rule]) -> tuple[pd.DataFrame, dict[str, Verdicts]]:
    """Return sessions with their verdicts as ``judge_sessions`` does, and the verdicts themselves."""
    verdicts = {rule.name: rule.judge(table) for rule in rules}
    passed = {name: own > 0 for name, own in verdicts.items()}
    count = len(table.sessions)
    usable = np.all(list(passed.values()), axis=0) if passed else np.ones(count, dtype=bool)
    failed = np.array([~own for own in passed.values()]).reshape(len(passed), count).T
    names = list(passed)
    reasons = [", ".join(name for name, fails in zip(names, row) if fails) for row in failed.tolist()]
    judged = pd.DataFrame(
        {"session": table.sessions["session"].to_numpy(), **passed, "usable": usable, "reasons": reasons}
    )
    return judged.astype({"session": table.sessions["session"].dtype, "reasons": "str"}), verdicts


def usable_responses(responses: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Return the answers of usable sessions, and of observers that have no sessions to judge: machines."""
    usable = set(judged.loc[judged["usable"].astype(bool), "session"])
    known = set(judged["session"])
    keep = responses["session"].isin(usable) | ~responses["session"].isin(known)
    return responses[keep].reset_index(drop=True)


def describe_exclusions(judged: pd.DataFrame, rules: Iterable[Rule]) -> pd.DataFrame:
    """Return exclusions by rule: its meaning, how many fail it, and how many fail only this rule."""
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


@dataclass(frozen=True)
class Exclusion(AnalysisResult):
    """What is left after exclusions, and who fell out and why.

    Attributes
    ----------
    responses
        The answers that count: of usable sessions, and of observers without sessions (machines).
    judged
        One row a session: whether it passes each rule, is usable, and the names of the rules that it fails.
    report
        One row a rule: ``rule``, ``meaning``, ``fail``, ``fail only this``, and ``not judged``, the sessions for
        which the fact that it looks at was never recorded.
    sessions, usable
        How many there are, and how many are left.
    answers, kept
        Main and repeated answers of these sessions, and how many are left.
    """

    responses: pd.DataFrame
    judged: pd.DataFrame
    report: pd.DataFrame
    sessions: int
    usable: int
    answers: int
    kept: int

    def frame(self) -> pd.DataFrame:
        """Return one row a rule: how many sessions it leaves out."""
        return self.report.rename(columns=lambda name: name.replace(" ", "_"))

    def readable(self) -> pd.DataFrame:
        """Return one row a rule: how many sessions it leaves out."""
        return self.report

    @property
    def caption(self) -> str:
        """Who fell out, in a sentence."""
        return self.sentence()

    def sentence(self) -> str:
        """Report the exclusions in a sentence that a paper could print."""
        out = self.sessions - self.usable
        share = f" ({out / self.sessions:.1%})" if self.sessions else ""
        why = [f"{row['rule']} {row['fail']}" for _, row in self.report.iterrows() if row["fail"]]
        said = f"{out} of {self.sessions} sessions{share} were left out" + (f" ({', '.join(why)})" if why else "")
        blind = [f"{row['rule']} ({row['not judged']})" for _, row in self.report.iterrows() if row["not judged"]]
        missing = f" Not recorded, and so in favour of the session: {', '.join(blind)}." if blind else ""
        return f"{said}; {self.kept:,} of {self.answers:,} answers count.{missing}"


def exclude(responses: pd.DataFrame, sessions: pd.DataFrame, rules: Sequence[Rule] = DEFAULT_RULES) -> Exclusion:
    """Leave out the answers of sessions that break a rule.

    Practice is judged by no rule but that on its rounds, and machines have no sessions to judge: their rows stay.

    Parameters
    ----------
    responses
        Table of responses.
    sessions
        Table of sessions; facts that were never recorded, even whole columns, speak for a session.
    rules
        What to apply: finished sessions that pass the paper's five rules, if nothing else is said.

    Raises
    ------
    AnalysisError
        If two rules have one name, or a session stands twice in the table.
    """
    names = [rule.name for rule in rules]
    if len(set(names)) < len(names):
        raise AnalysisError(
            f"Two rules are called {next(n for n in names if names.count(n) > 1)!r}: give one of them another name."
        )
    table = tabulate_sessions(sessions, responses)
    judged, verdicts = _judge(table, rules)
    report = describe_exclusions(judged, rules)
    report["not judged"] = [int((verdicts[rule.name] == UNKNOWN).sum()) for rule in rules]
    counted = table.rows[table.rows["kind"].isin(["main", "repeated"])]
    good = set(judged.loc[judged["usable"], "session"].astype(str))
    return Exclusion(
        usable_responses(responses, judged), judged, report, len(judged), len(good), len(counted),
        int(counted["session"].astype(str).isin(good).sum()),
    )  # fmt: skip
