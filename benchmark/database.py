"""The database of people's sessions and answers: its engine, and the tables that readers of responses need.

SQLite in WAL mode by default, PostgreSQL by URL; one SQLAlchemy layer for both. Several studies may share a
database; every row says whose it is. Times are seconds since 1970 (UTC). The hosted task adds tables of its own to
:data:`metadata`, and creates and migrates all of them.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

from benchmark import schemas
from benchmark.errors import DatabaseError, first_line
from benchmark.storage import disk_errors, write_json

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.study import Study

FILE = "sqlite:///"
"""What the URL of a file begins with; the rest is its path."""

BUSY_SECONDS = 30
"""How long a SQLite connection waits for another one's transaction."""

ASKING_SECONDS = 0.001
"""How often it is asked whether another process is through with its transaction, where that is about to write."""

PILOT = "pilot:"
"""What the ``study`` of answers begins with that were given while a study was only tried out."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Name = sa.String(200)
_Hash = sa.String(64)
_Time = sa.Double

people = sa.Table(
    "people",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", _Hash, nullable=False, index=True),
    sa.Column("pilot", sa.Boolean, nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("person", _Hash, nullable=False, index=True),
    sa.Column("submission", _Hash),
    sa.Column("token", _Hash, nullable=False, unique=True),
    sa.Column("pseudonym", sa.String(20), nullable=False, unique=True),
    sa.Column("receipt", sa.String(40), nullable=False, unique=True),
    sa.Column("recruiter", sa.String(20), nullable=False),
    sa.Column("language", sa.String(5), nullable=False),
    sa.Column("phase", sa.String(20), nullable=False),
    sa.Column("cell", _Name),
    sa.Column("outcome", sa.String(20)),
    sa.Column("consent_hash", _Hash),
    sa.Column("consented_at", _Time),
    sa.Column("colour_vision", sa.String(20)),
    sa.Column("window_width", sa.Integer),
    sa.Column("window_height", sa.Integer),
    sa.Column("browser", sa.String(40)),
    sa.Column("instructions_at", _Time),
    sa.Column("instruction_seconds", sa.Double),
    sa.Column("quiz_attempts", sa.Integer, nullable=False),
    sa.Column("practice_attempts", sa.Integer, nullable=False),
    sa.Column("comments", sa.Text),
    sa.Column("evidence", sa.Text),
    sa.Column("connection_mbps", sa.Double),
    sa.Column("hosting_hash", _Hash, nullable=False),
    sa.Column("arrived_at", _Time, nullable=False),
    sa.Column("seen_at", _Time, nullable=False),
    sa.Column("finished_at", _Time),
    sa.Column("ended_at", _Time),
    sa.UniqueConstraint("study", "pilot", "person"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", _Hash, nullable=False),
    sa.Column("pilot", sa.Boolean, nullable=False),
    sa.Column("participant", sa.ForeignKey("people.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("name", sa.String(40), nullable=False, unique=True),
    sa.Column("cell", _Name, nullable=False),
    sa.Column("slot", _Name),
    sa.Column("holds", sa.Boolean, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("usable", sa.Boolean),
    sa.Column("reasons", sa.Text),
    sa.Column("practice_attempts", sa.Integer, nullable=False),
    sa.Column("begun_at", _Time, nullable=False),
    sa.Column("leased_at", _Time),
    sa.Column("first_trial_at", _Time),
    sa.Column("issued_at", _Time),
    sa.Column("seen_at", _Time, nullable=False),
    sa.Column("ended_at", _Time),
    sa.Index(
        "uq_sessions_held_slot",
        "study",
        "pilot",
        "slot",
        unique=True,
        sqlite_where=sa.text("holds = 1"),
        postgresql_where=sa.text("holds"),
    ),
    sa.Index("ix_sessions_study_status", "study", "pilot", "status"),
)

answers = sa.Table(
    "answers",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("participant", sa.ForeignKey("people.id", ondelete="CASCADE"), nullable=False),
    sa.Column("session", sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("token", _Hash, nullable=False, unique=True),
    sa.Column("protocol", _Name, nullable=False),
    sa.Column("study_hash", _Name, nullable=False),
    sa.Column("stimuli_hash", _Hash, nullable=False),
    sa.Column("weights_hash", _Hash),
    sa.Column("consent_hash", _Hash),
    sa.Column("vimi_version", sa.String(40), nullable=False),
    sa.Column("trial", _Name, nullable=False),
    sa.Column("trial_index", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("model", _Name, nullable=False),
    sa.Column("layer", _Name, nullable=False),
    sa.Column("basis", _Name, nullable=False),
    sa.Column("index", sa.Integer, nullable=False),
    sa.Column("aggregator", sa.String(20), nullable=False),
    sa.Column("condition", sa.String(40), nullable=False),
    sa.Column("difficulty", sa.String(20), nullable=False),
    sa.Column("references", sa.String(12), nullable=False),
    sa.Column("task", sa.Integer, nullable=False),
    sa.Column("query_top", sa.String(4), nullable=False),
    sa.Column("choice", sa.String(4), nullable=False),
    sa.Column("correct", sa.Boolean, nullable=False),
    sa.Column("confidence", sa.Integer),
    sa.Column("rt_ms", sa.Double),
    sa.Column("onset_delay_ms", sa.Double),
    sa.Column("visible", sa.Boolean),
    sa.Column("focused", sa.Boolean),
    sa.Column("input", sa.String(12)),
    sa.Column("early_inputs", sa.Integer),
    sa.Column("server_ms", sa.Double),
    sa.Column("trace", sa.Text),
    sa.Column("rendition", sa.String(40)),
    sa.Column("answered_at", _Time, nullable=False),
    sa.UniqueConstraint("participant", "trial"),
)


class Database:
    """A database of people's answers.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``. What stands behind ``sqlite:///`` is the path
        as it is: a question mark, a hash or a percent sign in it mean nothing.

    Raises
    ------
    DatabaseError
        If the URL can't be understood, or its driver is missing. The message never repeats a password.
    """

    def __init__(self, url: str | URL) -> None:
        try:
            self.url = _with_driver(_parse(url))
            self.engine = _create_engine(self.url)
            self._lock = Lock()
        except (ArgumentError, ModuleNotFoundError, ValueError) as error:
            reason = str(error) if isinstance(error, ModuleNotFoundError) else "it is no database URL"
            raise DatabaseError(
                f"The database can't be used: {reason}. Give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; "
                "PostgreSQL needs the extra vimi[postgresql]."
            ) from None

    def __str__(self) -> str:
        return self.address if self.is_sqlite else self.url.render_as_string(hide_password=True)

    @property
    def address(self) -> str:
        """The URL, from which the same database can be opened again; it holds the password, if there is one."""
        return FILE + (self.url.database or "") if self.is_sqlite else self.url.render_as_string(hide_password=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self.engine.dialect.name == "sqlite"

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with self._explained(), self.engine.connect().execution_options(reading=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes; it is committed, durably, when the block ends without an error."""
        with self._explained(), self._turn(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread of this process writes to the file.

        SQLite lets one write at a time, and whoever waits for it asks again and again, up to a tenth of a second apart
        and in no order: with some dozens of writes a second, most of a write's time is that. A lock wakes the next one
        at once. Other processes are still waited for by SQLite, which also says so if it takes too long.
        """
        if not self.is_sqlite:
            yield
            return
        taken = self._lock.acquire(timeout=BUSY_SECONDS)
        try:
            yield
        finally:
            if taken:
                self._lock.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an unreachable or foreign database into an error that says what to do."""
        try:
            yield
        except sa.exc.DatabaseError as error:
            if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError):
                raise  # the database is well; what was to be written is not
            reason = first_line(error.orig) if error.orig else type(error).__name__
            raise DatabaseError(
                f"The database {self} can't be used: {reason}. Check that it runs, that the URL is right, and that "
                "vimi serve or vimi simulate has set it up."
            ) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _parse(url: str | URL) -> URL:
    """Return a URL; the path of a file is taken as it is."""
    if isinstance(url, str) and url.startswith(FILE):
        return URL.create("sqlite", database=url.removeprefix(FILE))
    return make_url(url)


def _with_driver(url: URL) -> URL:
    """Return a URL with the driver that vimi ships with."""
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"unknown kind of database: {url.get_backend_name()}")
    return url


def _create_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return _create_postgresql_engine(url)
    if url.database and url.database != ":memory:":
        with disk_errors(Path(url.database)):
            Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, below
        cursor = connection.cursor()
        for statement in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            cursor.execute(f"PRAGMA {statement}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that will write takes the lock at once: one that reads first and writes later could fail.
        if connection.get_execution_options().get("reading", False):
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_to_write(connection)

    return engine


def _begin_to_write(connection: Connection) -> None:
    """Take SQLite's lock, asking again every millisecond while another process has it.

    SQLite itself asks again after 1, 2, 5 and up to 100 ms. Two processes that write some dozens of times a second then
    wait a tenth of a second for what is free after three milliseconds.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    until = monotonic() + BUSY_SECONDS
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
            sleep(ASKING_SECONDS)
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # whose error is SQLAlchemy's
    finally:
        driver.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")


def _create_postgresql_engine(url: URL) -> Engine:
    # A statement that is prepared in a server process can't be asked for again through a pooler that gives every
    # transaction another one (PgBouncer in its mode "transaction").
    arguments = {"prepare_threshold": None, "client_encoding": "utf8"}
    engine = sa.create_engine(url, pool_size=20, max_overflow=20, pool_pre_ping=True, connect_args=arguments)

    def check_encoding(connection: Any, record: Any) -> None:
        """Refuse a database that can't keep every text: it would fail amid somebody's session."""
        encoding = connection.info.parameter_status("server_encoding") or "unknown"
        if encoding.upper() not in ("UTF8", "UTF-8", "UNICODE"):
            raise DatabaseError(
                f"The database {url.render_as_string(hide_password=True)} stores text as {encoding}, which can't hold "
                "every character that people may type. Create one in UTF-8: CREATE DATABASE name ENCODING 'UTF8' "
                "TEMPLATE template0; then give its URL."
            )

    # Before SQLAlchemy's own first question, which a database without an encoding answers with bytes.
    sa.event.listen(engine.pool, "connect", check_encoding, insert=True)
    return engine


def database_url(study: Study, url: str = "") -> str:
    """Return where a study's answers are: as given, as ``VIMI_DATABASE`` says, or in the study's own file."""
    return url or os.environ.get("VIMI_DATABASE", "") or f"{FILE}{study.root.resolve() / 'study.sqlite'}"


def hosting_identity(study: Study, create: bool = False) -> str:
    """Return the name under which a study's rows stand in a database; empty if it has never been hosted.

    It is drawn when the study is first hosted, and stays when models or conditions are added.
    """
    path = study.root / "hosting.json"
    if path.is_file():
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["study"])
        except (ValueError, KeyError, OSError) as error:
            raise DatabaseError(f"{path} can't be read ({error}); restore it from a backup of the study.") from None
    if not create:
        return ""
    drawn = path.with_name(f".hosting.{secrets.token_hex(4)}.tmp")
    write_json(drawn, {"study": secrets.token_hex(8)})
    with suppress(FileExistsError):
        os.link(drawn, path)  # of two servers that start together, one draws the name
    drawn.unlink()
    return hosting_identity(study)


@contextmanager
def reading_people(study: Study, url: str = "") -> Iterator[tuple[Connection, str] | None]:
    """Open the database of a study's people for reading.

    Yields a connection and the study's name there, as :func:`read_answers` takes them; None if the study has never
    been hosted, or its database is gone.
    """
    identity = hosting_identity(study)
    database = Database(database_url(study, url)) if identity else None
    if database is None or (database.path is not None and not database.path.is_file()):
        yield None
        return
    try:
        with database.reading() as connection:
            yield connection, identity
    finally:
        database.close()


def read_answers(
    connection: Connection, study: str, *, pilot: bool = False, session: int | None = None
) -> pd.DataFrame:
    """Return people's answers to a study, as the table of responses.

    Parameters
    ----------
    connection
        A connection to their database.
    study
        The study's name there, from :func:`hosting_identity`.
    pilot
        Return those of the pilot instead; the two never stand in one table.
    session
        Only those of this session.
    """
    own = [name for name in schemas.RESPONSES.names if name in answers.c and name not in ("session", "study")]
    query = (
        sa.select(
            answers.c.token.label("response_id"),
            answers.c.study_hash.label("study"),
            people.c.kind.label("observer_kind"),
            people.c.pseudonym.label("observer"),
            sa.literal(False).label("related"),
            sessions.c.name.label("session"),
            sessions.c.status.label("session_status"),
            *(answers.c[name] for name in own),
        )
        .join_from(answers, sessions, answers.c.session == sessions.c.id)
        .join(people, answers.c.participant == people.c.id)
        .where(people.c.study == study, people.c.pilot == pilot)
        .order_by(answers.c.id)
    )
    if session is not None:
        query = query.where(answers.c.session == session)
    return schemas.RESPONSES.conform(_read(connection, query))


def read_sessions(
    connection: Connection, study: str, *, pilot: bool = False, session: int | None = None
) -> pd.DataFrame:
    """Return what is known about people's sessions as a whole, as the table of sessions.

    Sessions without an answer are left out. The other parameters are those of :func:`read_answers`.
    """
    before = sa.func.lag(answers.c.answered_at).over(partition_by=answers.c.session, order_by=answers.c.id)
    given = sa.select(
        answers.c.session, answers.c.answered_at, answers.c.study_hash, answers.c.protocol, before.label("before")
    ).subquery()
    last = (
        sa.select(
            given.c.session,
            sa.func.max(given.c.answered_at).label("last"),
            sa.func.max(given.c.study_hash).label("study"),
            sa.func.max(given.c.protocol).label("protocol"),
            sa.func.count().filter(given.c.answered_at < given.c.before).label("steps_back"),
        )
        .group_by(given.c.session)
        .subquery()
    )
    # Where a clock was set back amid a session, nobody knows how long it took, and nobody is judged by it.
    known = sa.and_(last.c.steps_back == 0, last.c.last >= sessions.c.first_trial_at)
    query = (
        sa.select(
            sessions.c.name.label("session"),
            last.c.study,
            last.c.protocol,
            people.c.kind.label("observer_kind"),
            people.c.pseudonym.label("observer"),
            sessions.c.status.label("session_status"),
            sessions.c.cell,
            sessions.c.slot,
            sessions.c.begun_at,
            sessions.c.ended_at,
            sa.case((known, last.c.last - sessions.c.first_trial_at)).label("total_seconds"),
            people.c.instruction_seconds,
            sessions.c.practice_attempts,
            sa.literal(False).label("earlier_participation"),
            people.c.colour_vision,
            people.c.language,
            people.c.evidence,
            people.c.connection_mbps,
        )
        .join_from(sessions, people, sessions.c.participant == people.c.id)
        .join(last, last.c.session == sessions.c.id)
        .where(people.c.study == study, people.c.pilot == pilot)
        .order_by(sessions.c.id)
    )
    if session is not None:
        query = query.where(sessions.c.id == session)
    return schemas.SESSIONS.conform(_read(connection, query))


def _read(connection: Connection, query: sa.Select[Any]) -> pd.DataFrame:
    """Run a query; columns of times become times."""
    import pandas as pd

    result = connection.execute(query)
    frame = pd.DataFrame(result.fetchall(), columns=list(result.keys()))
    for name in frame.columns:
        if name.endswith("_at"):
            frame[name] = pd.to_datetime(frame[name].astype(float), unit="s", utc=True)
    return frame
