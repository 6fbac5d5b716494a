"""Backups of a study's people and answers, taken while they answer, and getting them back.

Both kinds of database back up to the same thing: a SQLite file with the tables of one study, copied within one
transaction that sees one moment, so that nobody has to stop. It restores into either kind. A backup holds the
laboratory's keys and whatever the recruiter's identifiers table holds: it is written for its owner's eyes alone.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from benchmark import __version__
from benchmark.database import Database, answers, database_url, hosting_identity, metadata, people, sessions
from benchmark.errors import DatabaseError
from benchmark.storage import disk_errors, write_atomically, write_json
from benchmark.study import Study
from webapp.participation import erase
from webapp.store import SECRET, keys, migrate, migration_settings, open_store, withdrawals

_AT_ONCE = 2000
"""Rows that are held in memory at a time."""

_OWNER_ONLY = 0o600

_NUMBERED = (people, sessions, answers)
"""Tables that refer to one another by number."""

_facts = sa.Table(
    "backup",
    sa.MetaData(),
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""What a backup says of itself; it stands in no database but a backup."""


@dataclass(frozen=True)
class Backup:
    """A backup that was checked.

    Attributes
    ----------
    path
        The file.
    study
        The study's name in the database.
    made_at
        When, in seconds since 1970.
    version
        The version of vimi that made it.
    counts
        Rows of each table.
    has_secret
        Whether ``VIMI_SECRET`` was set where it was made; if so, the keys are not in it.
    """

    path: Path
    study: str
    made_at: float
    version: str
    counts: dict[str, int]
    has_secret: bool


@dataclass(frozen=True)
class Restored:
    """What a restoration did.

    Attributes
    ----------
    backup
        What was restored.
    kept
        The copy of what was there before, if anything was.
    withdrawn
        People who had withdrawn since the backup was made, and whose answers were deleted anew.
    notes
        What the experimenter should know.
    """

    backup: Backup
    kept: Path | None
    withdrawn: int
    notes: tuple[str, ...]


# -------------------------------------------------------------------- backing up


def back_up(study: Study, out: Path | str, url: str = "") -> Backup:
    """Back up the people and answers of a study, its pilot included, while they answer.

    Parameters
    ----------
    study
        The study.
    out
        The file to write. An older backup is replaced once the new one is complete and checked.
    url
        The database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.

    Raises
    ------
    DatabaseError
        If there is nothing to back up, the database was set up by another version of vimi, ``out`` is a file that is
        no backup, or the written file fails its check.
    """
    out = Path(out)
    identity = hosting_identity(study)
    database = Database(database_url(study, url))
    try:
        if not identity or (database.path is not None and not database.path.is_file()):
            raise DatabaseError(f"{study.root} has never been hosted with {database}: there is nothing to back up.")
        _refuse_to_overwrite(out)
        with database.reading() as connection:
            if not database.is_sqlite:
                connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            _check_version(connection, database)
            return _write_backup(connection, identity, out)
    finally:
        database.close()


def _refuse_to_overwrite(out: Path) -> None:
    """Check that a file is a backup before it is replaced: it might be the database itself."""
    if not out.exists():
        return
    try:
        _read_facts(out)
    except DatabaseError:
        raise DatabaseError(f"{out} exists and is not a backup; choose another name.") from None


def _check_version(connection: Connection, database: Database) -> None:
    """Check that a database has the tables that this version of vimi knows; it is not changed while others use it."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    current = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory.from_config(migration_settings(connection)).get_current_head()
    if current != newest:
        raise DatabaseError(
            f"The tables of {database} have version {current}, but this vimi uses version {newest}. Back up with the "
            "version of vimi that serves the study, or start vimi serve once with this one."
        )


def _write_backup(connection: Connection, identity: str, out: Path) -> Backup:
    """Copy a study's rows out of a transaction into a file, check the file, and move it to its place."""
    counts: dict[str, int] = {}

    def write(unfinished: Path) -> None:
        copy = Database(_file_url(unfinished))
        try:
            migrate(copy)
            with copy.writing() as target:
                for table in _tables(connection):
                    counts[table.name] = _copy_rows(connection, target, table, identity)
                _facts.create(target)
                facts = {
                    "study": identity, "made_at": repr(time()), "version": __version__,
                    "has_secret": str(int(bool(os.environ.get(SECRET)))),
                    **{f"rows {name}": str(count) for name, count in counts.items()},
                }  # fmt: skip
                target.execute(_facts.insert(), [{"name": name, "value": value} for name, value in facts.items()])
        finally:
            copy.close()
        with closing(sqlite3.connect(unfinished)) as plain:
            plain.execute("PRAGMA journal_mode = DELETE")  # one file, that can be read from a read-only disk
        if read_backup(unfinished).counts != counts:
            raise DatabaseError(f"The backup {out} differs from what was copied, so vimi discarded it. Try again.")

    write_atomically(out, write, mode=_OWNER_ONLY)
    return read_backup(out)


def _tables(connection: Connection) -> list[sa.Table]:
    """Return the tables that a database has, those that are referred to first: the payments may have been dropped."""
    there = set(sa.inspect(connection).get_table_names())
    return [table for table in metadata.sorted_tables if table.name in there]


def rows_of(table: sa.Table, identity: str) -> sa.Select[Any]:
    """Return the query for a study's rows of a table.

    The keys are the whole laboratory's: without them nobody would be recognised.
    """
    query = sa.select(table)
    if "study" in table.c:
        query = query.where(table.c.study == identity)
    elif "participant" in table.c:
        query = query.where(table.c.participant.in_(sa.select(people.c.id).where(people.c.study == identity)))
    elif table is not keys:
        raise ValueError(f"Nothing says which rows of the table {table.name} belong to a study.")
    return query.order_by(*table.primary_key.columns)


def _copy_rows(
    source: Connection, target: Connection, table: sa.Table, identity: str, shift: dict[str, int] | None = None
) -> int:
    """Copy a study's rows of a table; ``shift`` gives, for each table, how far numbers are moved up."""
    count = 0
    result = source.execute(rows_of(table, identity).execution_options(yield_per=_AT_ONCE))
    for part in result.mappings().partitions(_AT_ONCE):
        rows = [dict(row) for row in part]
        if shift is not None:
            rows = [_shifted(row, table, shift) for row in rows]
        target.execute(table.insert(), rows)
        count += len(rows)
    return count


def _file_url(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


# -------------------------------------------------------------------- reading a backup


def read_backup(path: Path | str) -> Backup:
    """Check a backup and say what is in it.

    Raises
    ------
    DatabaseError
        If the file is missing, no backup, damaged or incomplete.
    """
    path = Path(path)
    facts = _read_facts(path)
    counts = {name[5:]: int(value) for name, value in facts.items() if name.startswith("rows ")}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            sound = connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            sound = sound and not connection.execute("PRAGMA foreign_key_check").fetchall()
            sound = sound and all(_count(connection, name) == count for name, count in counts.items())
        except sqlite3.Error:
            sound = False
    if not sound:
        raise DatabaseError(
            f"The backup {path} is damaged: its content has changed since it was made. Use another backup."
        )
    return Backup(
        path, facts["study"], float(facts["made_at"]), facts["version"], counts, facts["has_secret"] == "1"
    )  # fmt: skip


def _count(connection: sqlite3.Connection, table: str) -> int:
    statement = sa.select(sa.func.count()).select_from(metadata.tables[table])
    return int(connection.execute(str(statement)).fetchone()[0])


def _read_facts(path: Path) -> dict[str, str]:
    """Return the facts that a backup states about itself."""
    if not path.is_file():
        raise DatabaseError(f"There is no file {path}; name a backup made by vimi backup.")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            facts = dict(connection.execute(str(sa.select(_facts))).fetchall())
        return {**facts, "study": str(facts["study"])}
    except (sqlite3.Error, KeyError):
        raise DatabaseError(f"{path} is not a backup of a study; name one made by vimi backup.") from None


# -------------------------------------------------------------------- restoring


def restore(study: Study, backup: Path | str, url: str = "", *, replace: bool = False) -> Restored:
    """Put a backup back.

    Whoever withdrew since the backup was made stays withdrawn, as far as the database still knows of it.

    Parameters
    ----------
    study
        The study.
    backup
        A file that :func:`back_up` made, from either kind of database.
    url
        The database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names. Other studies in it are
        left alone.
    replace
        Replace what the database holds of this study; a backup of that is kept first, in the study's folder.

    Raises
    ------
    DatabaseError
        If the file is no sound backup of this study or was made by a newer version of vimi, if the database holds
        people of this study and ``replace`` is not set, or keeps other studies with other keys.
    """
    found = read_backup(backup)
    known = hosting_identity(study)
    if known and known != found.study:
        raise DatabaseError(
            f"{found.path} is a backup of another study ({found.study}), not of the one in {study.root} ({known})."
        )
    database = open_store(database_url(study, url))
    try:
        with _brought_up_to_date(found.path) as copy, copy.reading() as source, database.writing() as target:
            tables = _tables(target)
            if not database.is_sqlite:
                names = ", ".join(target.dialect.identifier_preparer.format_table(table) for table in tables)
                target.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
            known_withdrawals = _withdrawals(target, found.study)
            receipts = _withdrawn_receipts(target, found.study)
            kept = _clear(target, study, found.study, tables, replace)
            _restore_keys(source, target, found.study)
            _restore_rows(source, target, tables, found.study)
            _complete_log(target, found.study, known_withdrawals)
            withdrawn = _withdraw_again(target, found.study, receipts)
            if not known:
                write_json(study.root / "hosting.json", {"study": found.study})
    finally:
        database.close()
    notes = []
    if found.has_secret != bool(os.environ.get(SECRET)):
        where = "was set where the backup was made but is not set here" if found.has_secret else "is set here only"
        notes.append(
            f"{SECRET} {where}: vimi will not recognise people who took part, unless you set it as it was then."
        )
    return Restored(found, kept, withdrawn, tuple(notes))


@contextmanager
def _brought_up_to_date(path: Path) -> Iterator[Database]:
    """Open a copy of a backup whose tables are those of this version of vimi."""
    with tempfile.TemporaryDirectory(prefix="vimi-restore-") as folder:
        copy = Path(folder) / "backup.sqlite"
        with disk_errors(copy):
            shutil.copyfile(path, copy)
        database = Database(_file_url(copy))
        try:
            migrate(database)
            yield database
        finally:
            database.close()


def _clear(target: Connection, study: Study, identity: str, tables: list[sa.Table], replace: bool) -> Path | None:
    """Remove the study's present rows before a restore; returns the backup of them."""
    there = target.execute(
        sa.select(sa.func.count()).select_from(people).where(people.c.study == identity)
    ).scalar_one()
    if not there:
        kept = None
    elif not replace:
        given = target.execute(sa.select(sa.func.count()).select_from(rows_of(answers, identity).subquery())).scalar()
        raise DatabaseError(
            f"The database already holds {there} people and {given} answers of this study. Restore into an empty "
            "database, or give --replace, which first backs up what is there."
        )
    else:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        kept = study.root / "backups" / f"before-restore-{moment}.sqlite"
        _write_backup(target, identity, kept)
    for table in reversed(tables):
        if "study" in table.c:
            target.execute(table.delete().where(table.c.study == identity))
        elif table is answers:
            own = sa.select(people.c.id).where(people.c.study == identity)
            target.execute(answers.delete().where(answers.c.participant.in_(own)))
    return kept


def _withdrawals(connection: Connection, identity: str) -> list[dict[str, Any]]:
    """Return the log of withdrawals."""
    query = sa.select(withdrawals.c.answers, withdrawals.c.at).where(withdrawals.c.study == identity)
    return [dict(row) for row in connection.execute(query).mappings()]


def _complete_log(target: Connection, identity: str, before: list[dict[str, Any]]) -> None:
    """Put back what the log of withdrawals said before and the backup does not."""
    restored = _withdrawals(target, identity)
    for row in before:
        if row not in restored:
            target.execute(withdrawals.insert().values(study=identity, **row))


def _withdrawn_receipts(connection: Connection, identity: str) -> list[str]:
    """Return the receipts of people who withdrew."""
    query = sa.select(people.c.receipt).where(people.c.study == identity, people.c.outcome == "withdrawn")
    return list(connection.execute(query).scalars())


def _withdraw_again(target: Connection, identity: str, receipts: list[str]) -> int:
    """Delete again the restored data of people who have withdrawn, and return their number."""
    query = sa.select(people.c.id).where(
        people.c.study == identity, people.c.receipt.in_(receipts), people.c.outcome.is_distinct_from("withdrawn")
    )
    found = list(target.execute(query).scalars())
    for participant in found:
        erase(target, identity, participant, time())
    return len(found)


def _restore_keys(source: Connection, target: Connection, identity: str) -> None:
    """Bring the laboratory's keys back; those of other studies are not to be lost for them."""
    there = {row.name: row.value for row in target.execute(sa.select(keys))}
    for row in source.execute(sa.select(keys)).fetchall():
        if there.get(row.name) == row.value:
            continue
        others = target.execute(sa.select(people.c.id).where(people.c.study != identity).limit(1)).first()
        if row.name in there and others is not None:
            raise DatabaseError(
                "The database holds other studies with other keys than the backup's, so returning participants would "
                "not be recognised. Restore into a separate database with --database."
            )
        target.execute(keys.delete().where(keys.c.name == row.name))
        target.execute(keys.insert().values(name=row.name, value=row.value))


def _restore_rows(source: Connection, target: Connection, tables: list[sa.Table], identity: str) -> None:
    """Copy a backup's rows."""
    shift = {table.name: _room(source, target, table) for table in _NUMBERED}
    for table in tables:
        if table is not keys:
            _copy_rows(source, target, table, identity, shift)
    if target.dialect.name == "postgresql":
        for table in tables:
            if "id" in table.c:
                following = sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0) + 1).scalar_subquery()
                sequence = sa.func.pg_get_serial_sequence(table.name, "id")
                target.execute(sa.select(sa.func.setval(sequence, following, False)))


def _room(source: Connection, target: Connection, table: sa.Table) -> int:
    """Return how far numbers must move up to be unused: 0 unless other studies use them."""
    low, high = source.execute(sa.select(sa.func.min(table.c.id), sa.func.max(table.c.id))).one()
    if low is None:
        return 0
    taken = target.execute(sa.select(table.c.id).where(table.c.id.between(low, high)).limit(1)).first()
    if taken is None:
        return 0
    return int(target.execute(sa.select(sa.func.max(table.c.id))).scalar_one())


def _shifted(row: dict[str, Any], table: sa.Table, shift: dict[str, int]) -> dict[str, Any]:
    """Return a row with its numbers shifted; numbers that nothing refers to are drawn again."""
    if table.name in shift:
        row["id"] += shift[table.name]
    elif "id" in row:
        del row["id"]
    for column in table.c:
        for key in column.foreign_keys:
            if row[column.name] is not None:
                row[column.name] += shift[key.column.table.name]
    return row
