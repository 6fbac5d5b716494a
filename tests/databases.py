"""Databases for tests: a fresh SQLite file, or a fresh database in a PostgreSQL of the test run's own.

Use it with ``pytest_plugins = ["tests.databases"]`` at the top of a test module, and the fixture ``database_url``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

_NUMBERS = count()


def find_binaries() -> Path | None:
    """Return the folder with PostgreSQL's programs, if it is on this machine: Debian keeps them off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


def make_service_folder(prefix: str) -> Path:
    """Make a folder for a server's sockets: a short path, since their names are limited, that any user may pass."""
    base = Path(tempfile.gettempdir()).resolve()
    passable = all(folder.stat().st_mode & 0o001 for folder in (base, *base.parents))
    return Path(tempfile.mkdtemp(prefix=prefix, dir=base if passable and len(str(base)) < 60 else "/tmp"))


def _run(user: str | None, *command: str | Path) -> None:
    # Output goes to a file: the server would hold a pipe open for as long as it runs.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(part) for part in command], user=user, cwd="/", stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, timeout=300,
        )  # fmt: skip
        if done.returncode:
            output.seek(0)
            raise RuntimeError(f"{command[0]} failed: {output.read().decode(errors='replace')}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server of this test run's own, on a socket in a temporary folder; gives the folder's path."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl) are not on this machine")
    user = None
    if os.geteuid() == 0:  # initdb refuses to run as root
        user = next((name for name in ("postgres", "nobody") if name in {u.pw_name for u in pwd.getpwall()}), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
    folder = make_service_folder("vimi-pg-")
    try:
        if user:
            shutil.chown(folder, user)
        data = folder / "data"
        _run(user, binaries / "initdb", "-D", data, "-U", "vimi", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        # What must outlive a power cut is no concern of tests; a server that is killed loses nothing by it.
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=150"
        _run(user, binaries / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
        try:
            yield str(folder)
        finally:
            _run(user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database: once a SQLite file, once a PostgreSQL database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'answers.sqlite'}"
    pytest.importorskip("psycopg")
    return new_postgresql_database(request.getfixturevalue("postgresql"))


def new_postgresql_database(folder: str, encoding: str = "UTF8") -> str:
    """Create an empty database on the server whose socket is in a folder; returns its URL."""
    import psycopg

    name = f"vimi{next(_NUMBERS)}"
    with psycopg.connect(host=folder, user="vimi", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE \"{name}\" ENCODING '{encoding}' TEMPLATE template0")
    return f"postgresql://vimi@/{name}?host={folder}"


@pytest.fixture(scope="session")
def pgbouncer(postgresql: str) -> Iterator[str]:
    """A real PgBouncer before that server, in its mode "transaction" and without prepared statements; its folder."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("pgbouncer is not on this machine: pooling by transaction could not be tried")
    user = next((name for name in ("postgres", "nobody") if name in {u.pw_name for u in pwd.getpwall()}), None)
    if os.geteuid() == 0 and user is None:
        pytest.skip("PgBouncer does not run as root, and there is no user postgres or nobody")
    folder = make_service_folder("vimi-pb-")
    (folder / "users").write_text('"vimi" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={postgresql}\n[pgbouncer]\npool_mode = transaction\nlisten_addr =\nlisten_port = 5432\n"
        f"unix_socket_dir = {folder}\nauth_type = trust\nauth_file = {folder / 'users'}\ndefault_pool_size = 3\n"
        f"logfile = {folder / 'log'}\npidfile = {folder / 'pid'}\n"
    )
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user)
    process = subprocess.Popen(
        [program, str(folder / "pgbouncer.ini")], user=user if os.geteuid() == 0 else None, cwd="/",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(2400):
            if (folder / ".s.PGSQL.5432").exists():
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield str(folder)
    finally:
        process.terminate()
        process.wait(120)
        shutil.rmtree(folder, ignore_errors=True)
