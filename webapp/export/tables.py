"""The tables of an export: answers, sessions with the verdict of every rule, and, if asked for, comments and traces.

Every table has a schema, from which each format's codebook is made. Nothing else of the database leaves it: no token,
no receipt, no hash of a person, and nothing of the table of payments, which is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from analysis.exclusions import Rule, judge_sessions, protocol_rules, usable_responses
from benchmark import schemas
from benchmark.database import Database, answers, database_url, hosting_identity, people, read_sessions, reading_people
from benchmark.database import sessions as sessions_table
from benchmark.errors import DatabaseError, HostingError
from benchmark.responses import read_responses
from benchmark.schemas import Column, Schema
from benchmark.study import Study

ORDER = ["observer_kind", "observer", "session", "references", "trial_index", "response_id"]
"""Columns by which the rows of every format are ordered; no two answers agree in all of them."""

COMMENTS = Schema(
    "comments",
    (
        Column("observer", "string", "pseudonym of the participant"),
        Column("observer_kind", "string", "who answers", values=("human", "machine", "simulated")),
        Column(
            "comment",
            "string",
            "free text at the end; an apostrophe precedes a text that a spreadsheet would read as a formula",
        ),
    ),
)
"""What people wrote, as it is exported if that is asked for."""

TRACES = Schema(
    "traces",
    (
        Column("response_id", "string", "the answer, as in the table of responses"),
        Column("session", "string", "session, as in the table of responses"),
        Column("early_inputs", "integer", "keys and clicks before the buttons were unlocked", nullable=True),
        Column("server_ms", "number", "from sending the trial to its answer, by the server's clock", nullable=True),
        Column(
            "trace", "string", "pointer and keys in summary, as JSON: numbers by name; see the notes", nullable=True
        ),
    ),
)
"""What the browser noted of answers besides, as it is exported if that is asked for."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class ExportTable:
    """A table and what its columns mean."""

    schema: Schema
    frame: pd.DataFrame


Tables = dict[str, ExportTable]
"""Tables by name: ``responses``, ``sessions`` and perhaps ``comments`` and ``traces``."""


def collect_tables(
    study: Study,
    database: str = "",
    *,
    pilot: bool = False,
    usable_only: bool = False,
    comments: bool = False,
    traces: bool = False,
) -> Tables:
    """Read a study's answers, and what is known about their sessions.

    The parameters are those of :func:`webapp.export.export_study`. Sessions are read before and after the answers, so
    that nobody is exported who withdraws meanwhile, and no session has another state than its answers.

    Raises
    ------
    HostingError
        If there are no answers.
    DatabaseError
        If a database that was named is not there, or can't be read.
    """
    _check_database(study, database, pilot)
    before = _read_people(study, database, pilot)
    responses = read_responses(study, database, pilot=pilot)
    after = _read_people(study, database, pilot, comments=comments, traces=traces)
    withdrawn = set(before.sessions["session"]) - set(after.sessions["session"])
    responses = responses[~responses["session"].isin(withdrawn)]
    rules = protocol_rules(study.protocol)
    sessions = _judge(after.sessions, responses, rules)
    if usable_only:
        responses = usable_responses(responses, sessions)
        sessions = sessions[sessions["usable"]]
    if responses.empty:
        raise HostingError(
            f"{study.root} has no {'pilot ' if pilot else ''}answers{' of usable sessions' if usable_only else ''} to "
            "export. Let people answer with vimi serve, or machines with vimi observe; --database names another "
            "database."
        )
    responses = responses.assign(answered_at=_to_microseconds(responses["answered_at"]))
    found = {
        "responses": (schemas.RESPONSES, responses.sort_values(ORDER, kind="stable")),
        "sessions": (sessions_schema(rules), sessions.sort_values(["observer_kind", "observer", "session"])),
    }
    if comments:
        found["comments"] = (COMMENTS, after.comments[after.comments["observer"].isin(responses["observer"])])
    if traces:
        found["traces"] = (TRACES, after.traces[after.traces["response_id"].isin(responses["response_id"])])
    return {name: ExportTable(schema, schema.conform(frame)) for name, (schema, frame) in found.items()}


def sessions_schema(rules: Sequence[Rule]) -> Schema:
    """Return the schema of the table of sessions, with a column for the verdict of each rule."""
    return Schema(
        "sessions",
        (
            *schemas.SESSIONS.columns,
            *(
                Column(_verdict(rule), "boolean", f"whether the session passes the rule: {rule.meaning}")
                for rule in rules
            ),
            Column("usable", "boolean", "whether the session passes all rules, so that its answers count"),
            Column("reasons", "string", "names of the rules that it fails", nullable=True),
        ),
    )


def _verdict(rule: Rule) -> str:
    """Return the name of the column with a rule's verdicts."""
    return f"passes_{rule.name.replace(' ', '_')}"


def _judge(sessions: pd.DataFrame, responses: pd.DataFrame, rules: Sequence[Rule]) -> pd.DataFrame:
    """Return the sessions that have answers, with the verdict of every rule."""
    states = responses.drop_duplicates("session").set_index("session")["session_status"]
    sessions = sessions[sessions["session"].isin(states.index)].reset_index(drop=True)
    # The state at the moment when the answers were read: somebody may have gone on since.
    sessions["session_status"] = sessions["session"].map(states)
    for name in ("begun_at", "ended_at"):
        sessions[name] = _to_microseconds(sessions[name])
    for name in ("language", "evidence"):  # what a browser had a hand in
        sessions[name] = _without_formulas(sessions[name])
    judged = judge_sessions(sessions, responses, rules)
    for rule in rules:
        sessions[_verdict(rule)] = judged[rule.name].astype(bool)
    sessions["usable"] = judged["usable"].astype(bool)
    sessions["reasons"] = [reasons or None for reasons in judged["reasons"]]
    return sessions


def _to_microseconds(times: pd.Series) -> pd.Series:
    """Return times to the microsecond: below that there is only noise, which formats would spell differently."""
    return pd.to_datetime(times, utc=True).dt.round("us").dt.as_unit("us")


def _without_formulas(texts: pd.Series) -> pd.Series:
    """Return texts with an apostrophe before those that a spreadsheet would take for a formula, and would run."""
    return texts.map(lambda text: f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text)


# -------------------------------------------------------------------- the database


@dataclass(frozen=True)
class _People:
    """What the database knows besides answers."""

    sessions: pd.DataFrame
    comments: pd.DataFrame
    traces: pd.DataFrame


def _check_database(study: Study, url: str, pilot: bool) -> None:
    """Check that people's answers can be there, where somebody asks for them by name."""
    path = Database(database_url(study, url)).path
    if url and path is not None and not path.is_file():
        raise DatabaseError(f"There is no database {path}. Check --database; nothing was exported.")
    if (url or pilot) and not hosting_identity(study):
        raise HostingError(
            f"{study.root} has never been hosted, so no database holds people's answers to it. Export it without "
            "--database and --pilot, or host it with vimi serve."
        )


def _read_people(study: Study, url: str, pilot: bool, *, comments: bool = False, traces: bool = False) -> _People:
    """Read sessions, and what else is asked for, if the study has ever been hosted."""
    with reading_people(study, url) as found:
        return _People(
            schemas.SESSIONS.empty() if found is None else read_sessions(*found, pilot=pilot),
            _read_comments(*found, pilot) if found is not None and comments else COMMENTS.empty(),
            _read_traces(*found, pilot) if found is not None and traces else TRACES.empty(),
        )


def _read_comments(connection: Connection, study: str, pilot: bool) -> pd.DataFrame:
    """Read what people wrote at the end."""
    rows = connection.execute(
        sa.select(people.c.pseudonym, people.c.kind, people.c.comments)
        .where(people.c.study == study, people.c.pilot == pilot, people.c.comments.is_not(None))
        .order_by(people.c.pseudonym)
    ).all()
    frame = pd.DataFrame(rows, columns=COMMENTS.names)
    frame["comment"] = _without_formulas(frame["comment"].map(_printable))
    return COMMENTS.conform(frame)


def _printable(text: str) -> str:
    """Return a text without control characters other than tabs and line breaks, which are one character each."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(character for character in lines if character in "\n\t" or character.isprintable())


def _read_traces(connection: Connection, study: str, pilot: bool) -> pd.DataFrame:
    """Read the browser's further records of answers."""
    rows = connection.execute(
        sa.select(answers.c.token, sessions_table.c.name, answers.c.early_inputs, answers.c.server_ms, answers.c.trace)
        .join_from(answers, sessions_table, answers.c.session == sessions_table.c.id)
        .join(people, answers.c.participant == people.c.id)
        .where(people.c.study == study, people.c.pilot == pilot)
        .order_by(answers.c.id)
    ).all()
    return TRACES.conform(pd.DataFrame(rows, columns=TRACES.names))
