"""What the hosted task stores besides sessions and answers: keys, settings, payments, problems, withdrawals.

All tables, those of :mod:`benchmark.database` too, are created and changed by the migrations in
``webapp/migrations``; a server that starts brings its database up to date first.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from benchmark.database import Database, metadata
from benchmark.errors import DatabaseError

SECRET = "VIMI_SECRET"
"""Environment variable with a laboratory's own key; without it, the database keeps one."""

_MIGRATION_LOCK = 8_317_205_117
"""Number of the lock under which PostgreSQL lets one server migrate at a time."""

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.String(128), nullable=False),
)

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("study", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("pseudonym", sa.String(20), primary_key=True),
    sa.Column("study", sa.String(64), nullable=False, index=True),
    sa.Column("recruiter", sa.String(20), nullable=False),
    sa.Column("recruiter_id", sa.String(200), nullable=False),
    sa.Column("submission_id", sa.String(200)),
)
"""The recruiter's own identifiers, if they are kept at all. Nothing refers to this table: it can be dropped alone."""

problems = sa.Table(
    "problems",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.String(64), nullable=False, index=True),
    sa.Column("pseudonym", sa.String(20)),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("trial", sa.String(200)),
    sa.Column("detail", sa.Text),
    sa.Column("at", sa.Double, nullable=False),
)

withdrawals = sa.Table(
    "withdrawals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.String(64), nullable=False, index=True),
    sa.Column("answers", sa.Integer, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
"""That somebody withdrew, and how many answers went: nothing about who."""

MOST_PROBLEMS = 10_000
"""Problems kept of a study: a broken browser must not fill the disk."""

MOST_PROBLEMS_EACH = 200
"""Problems kept of one participant: nobody may fill the list so that others' are lost."""


def open_store(url: str) -> Database:
    """Open a database and bring its tables up to date.

    Raises
    ------
    DatabaseError
        If it can't be reached, or was made by a newer version of vimi.
    """
    database = Database(url)
    migrate(database)
    return database


def migrate(database: Database) -> None:
    """Bring the tables of a database up to date; servers that start together take turns."""
    from alembic import command
    from alembic.util import CommandError

    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        try:
            command.upgrade(migration_settings(connection), "head")
        except CommandError as error:
            raise DatabaseError(
                f"The tables of {database} can't be updated: {error}. A newer version of vimi probably made them; use "
                "that version."
            ) from None


def migration_settings(connection: Connection) -> Any:
    """Return the settings with which the migrations run on a connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def secret_key(connection: Connection, name: str) -> bytes:
    """Return a key of the laboratory: made from ``VIMI_SECRET``, or drawn once and kept in the database.

    It keys the hashes of recruiters' identifiers and the tokens of trials, so that all servers behind one
    database agree, and nobody else can make either.
    """
    given = os.environ.get(SECRET, "")
    if given:
        return f"{name}:{given}".encode()
    query = sa.select(keys.c.value).where(keys.c.name == name)
    known = connection.execute(query).scalar()
    if known is None:
        # Servers that start together: all but the first find the key there.
        with suppress(sa.exc.IntegrityError), connection.begin_nested():
            connection.execute(keys.insert().values(name=name, value=secrets.token_hex(32)))
        known = connection.execute(query).scalar_one()
    return str(known).encode()


def read_setting(connection: Connection, study: str, name: str, default: Any = None) -> Any:
    """Return a setting that the experimenter changed while the study ran."""
    value = connection.execute(
        sa.select(settings.c.value).where(settings.c.study == study, settings.c.name == name)
    ).scalar()
    return default if value is None else json.loads(value)


def write_setting(connection: Connection, study: str, name: str, value: Any) -> None:
    """Change a setting while the study runs."""
    connection.execute(settings.delete().where(settings.c.study == study, settings.c.name == name))
    connection.execute(settings.insert().values(study=study, name=name, value=json.dumps(value)))


def report_problem(
    connection: Connection, study: str, kind: str, *, pseudonym: str | None = None, trial: str | None = None,
    detail: str = "",
) -> None:  # fmt: skip
    """Note that something went wrong, for the experimenter to see."""
    own = sa.func.count().filter(problems.c.pseudonym == pseudonym)
    known, of_one = connection.execute(sa.select(sa.func.count(), own).where(problems.c.study == study)).one()
    if known < MOST_PROBLEMS and (pseudonym is None or of_one < MOST_PROBLEMS_EACH):
        # PostgreSQL has no character zero.
        told = detail.replace("\0", "")[:2000]
        connection.execute(
            problems.insert().values(
                study=study, kind=kind[:40], pseudonym=pseudonym, trial=trial, detail=told, at=time()
            )
        )
