"""Whose answers count: named rules on sessions, composed from a protocol, or from one another.

A rule looks at what is known of sessions as a whole, and at their answers, and says which pass. The paper's five rules
are the default: catch trials, total time, instruction time, both positions chosen, and few enough rounds of practice
(Zimmermann, Klein & Brendel, 2023, their exclusion criteria). Protocols add that the person had not taken part before.
A session that was not finished never counts.

A fact that was never recorded speaks for a session, and the report says how many sessions a rule could not judge for
want of one.

Exclusions decide what is analysed and which session slots are offered anew. They never decide payment.
"""

from analysis.exclusions.judging import Exclusion, describe_exclusions, exclude, judge_sessions, usable_responses
from analysis.exclusions.rules import (
    AUTHENTIC,
    COMPLETE,
    DEFAULT_RULES,
    FIRST_PARTICIPATION,
    PAPER_RULES,
    RULES,
    SPRUNG,
    UNKNOWN,
    Rule,
    SessionFacts,
    SessionTable,
    Verdicts,
    all_of,
    any_of,
    catch_rule,
    instruction_time_rule,
    make_rule,
    named_rule,
    not_,
    position_rule,
    practice_rule,
    protocol_rules,
    tabulate_sessions,
    total_time_rule,
)

__all__ = [
    "AUTHENTIC",
    "COMPLETE",
    "DEFAULT_RULES",
    "FIRST_PARTICIPATION",
    "PAPER_RULES",
    "RULES",
    "SPRUNG",
    "UNKNOWN",
    "Exclusion",
    "Rule",
    "SessionFacts",
    "SessionTable",
    "Verdicts",
    "all_of",
    "any_of",
    "catch_rule",
    "describe_exclusions",
    "exclude",
    "instruction_time_rule",
    "judge_sessions",
    "make_rule",
    "named_rule",
    "not_",
    "position_rule",
    "practice_rule",
    "protocol_rules",
    "tabulate_sessions",
    "total_time_rule",
    "usable_responses",
]
