"""Backups: taken while people answer, the same from both databases, and back into either."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from benchmark.command_line import app
from benchmark.database import Database, answers, metadata, people, sessions
from benchmark.errors import DatabaseError
from benchmark.study import Study
from tests import hosted
from tests.answered import answer_one, fallible, right_queries, take_part
from tests.hosted import make_hosted_study, walk_to_practice
from webapp.answering import current_trial
from webapp.backup import Backup, back_up, read_backup, restore, rows_of
from webapp.hosting import Hosting
from webapp.participation import withdraw
from webapp.store import keys, migrate, payments, report_problem, write_setting

pytest_plugins = ["tests.databases"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hosted_study(tmp_path_factory.mktemp("built") / "study").root


@pytest.fixture
def study(built: Path, tmp_path: Path) -> Study:
    """A study of the test's own that was never hosted."""
    shutil.copytree(built, tmp_path / "study", ignore=shutil.ignore_patterns("hosting.json", "*.sqlite*"))
    return Study.open(tmp_path / "study")


_open: list[Hosting] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the databases that a test opened."""
    yield
    while _open:
        _open.pop().database.close()


def host(study: Study, url: str = "") -> Hosting:
    """Host a study until the end of the test."""
    _open.append(hosted.host(study, url))
    return _open[-1]


@pytest.fixture
def other_url(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> str:
    """URL of a second database, of the other kind: within one kind other tests restore."""
    if database_url.startswith("postgresql"):
        return f"sqlite:///{tmp_path / 'other.sqlite'}"
    from tests.databases import new_postgresql_database  # pytest loads the module itself, as a plugin

    return new_postgresql_database(request.getfixturevalue("postgresql"))


def content(url: str, identity: str) -> dict[str, list[dict[str, Any]]]:
    """Return a study's rows of all tables, but for the numbers that nothing refers to."""
    database = Database(url)
    try:
        with database.reading() as connection:
            found = {
                table.name: [dict(row) for row in connection.execute(rows_of(table, identity)).mappings()]
                for table in metadata.sorted_tables
            }
    finally:
        database.close()
    for name in ("problems", "withdrawals"):
        for row in found[name]:
            del row["id"]
    return found


def fill(hosting: Hosting) -> str:
    """Let a few people take part in every way; returns the token of one who is in the middle of it."""
    take_part(hosting, fallible(1))
    take_part(hosting)
    under_way = take_part(hosting, most=3)
    withdraw(hosting, take_part(hosting).receipt)
    with hosting.database.writing() as connection:
        write_setting(connection, hosting.identity, "paused", True)
        report_problem(connection, hosting.identity, "slow decode", trial="slot-1")
        connection.execute(
            payments.insert().values(
                pseudonym=under_way.pseudonym, study=hosting.identity, recruiter="prolific", recruiter_id="somebody"
            )
        )
    return under_way.token


def test_either_database_backs_up_and_restores_into_the_other(
    study: Study, database_url: str, other_url: str, tmp_path: Path
) -> None:
    hosting = host(study, database_url)
    token = fill(hosting)
    made = back_up(study, tmp_path / "backup.sqlite", database_url)
    assert made.counts["people"] == 4 and made.counts["withdrawals"] == 1 and made.counts["payments"] == 1
    before = content(database_url, hosting.identity)
    restored = restore(study, made.path, other_url)
    assert restored.kept is None and restored.withdrawn == 0 and restored.notes == ()
    assert content(other_url, hosting.identity) == before
    # The participant goes on in the other database where they were, and new rows find free numbers.
    moved = host(study, other_url)
    first, second = current_trial(hosting, token), current_trial(moved, token)
    assert first is not None and second is not None and first.trial == second.trial
    assert answer_one(moved, token, True, right_queries(moved)) is not None
    with moved.database.writing() as connection:
        write_setting(connection, moved.identity, "paused", False)
    take_part(moved)


def test_people_answer_during_a_backup(study: Study, database_url: str, tmp_path: Path) -> None:
    hosting = host(study, database_url)
    done = threading.Event()
    failures: list[BaseException] = []

    def answer(seed: int) -> None:
        try:
            while not done.is_set():
                take_part(hosting, fallible(seed))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=answer, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    made: list[Backup] = []
    try:
        while len(made) < 4 or made[-1].counts["answers"] < 60:
            made.append(back_up(study, tmp_path / f"{len(made)}.sqlite", database_url))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert made[0].counts["answers"] < made[-1].counts["answers"]
    for backup in made:
        with closing(sqlite3.connect(backup.path)) as connection:
            # One moment: no answer without its predecessors, no finished session without all its answers.
            gaps = sa.select(answers.c.session).group_by(answers.c.session)
            gaps = gaps.having(sa.func.count() != sa.func.max(answers.c.trial_index) + 1)
            assert connection.execute(str(gaps), (1,)).fetchall() == []
            scored = (
                sa.select(sa.func.count()).select_from(answers).where(answers.c.kind != sa.literal_column("'practice'"))
            )
            finished = sa.select(sa.func.count()).select_from(sessions).where(
                sessions.c.status == sa.literal_column("'complete'")
            )  # fmt: skip
            (count,), (complete,) = (connection.execute(str(query)).fetchone() for query in (scored, finished))
            assert count >= 8 * complete
        assert stat.S_IMODE(backup.path.stat().st_mode) == 0o600
        assert not backup.path.with_name(f"{backup.path.name}-wal").exists(), "A backup is one file."


def test_restoring_over_answers_is_refused_unless_asked_and_then_keeps_them(study: Study, tmp_path: Path) -> None:
    hosting = host(study)
    take_part(hosting)
    made = back_up(study, tmp_path / "backup.sqlite")
    take_part(hosting)
    late = content(f"sqlite:///{study.root / 'study.sqlite'}", hosting.identity)
    with pytest.raises(DatabaseError, match=r"2 people and .* --replace"):
        restore(study, made.path)
    done = restore(study, made.path, replace=True)
    assert done.kept is not None and read_backup(done.kept).counts["people"] == 2
    with hosting.database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(people)).scalar() == 1
    again = restore(study, done.kept, replace=True)
    assert again.backup.counts["people"] == 2
    assert content(f"sqlite:///{study.root / 'study.sqlite'}", hosting.identity) == late


def test_whoever_withdrew_since_stays_withdrawn(study: Study, database_url: str, tmp_path: Path) -> None:
    hosting = host(study, database_url)
    gone = take_part(hosting)
    made = back_up(study, tmp_path / "backup.sqlite", database_url)
    withdraw(hosting, gone.receipt)
    done = restore(study, made.path, database_url, replace=True)
    assert done.withdrawn == 1
    found = content(database_url, hosting.identity)
    assert found["answers"] == [] and found["people"][0]["outcome"] == "withdrawn"
    assert len(found["withdrawals"]) == 2, "The first withdrawal stays in the log, the second deletion joins it."


def test_another_study_in_the_database_is_left_alone(
    study: Study, built: Path, database_url: str, tmp_path: Path
) -> None:
    other_url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    shutil.copytree(built, tmp_path / "second", ignore=shutil.ignore_patterns("hosting.json", "*.sqlite*"))
    second = Study.open(tmp_path / "second")
    hosting, neighbour = host(study, database_url), host(second, database_url)
    take_part(neighbour)
    token = fill(hosting)
    made = back_up(study, tmp_path / "backup.sqlite", database_url)
    beside = content(database_url, neighbour.identity)
    before = content(database_url, hosting.identity)
    restore(study, made.path, database_url, replace=True)
    assert content(database_url, neighbour.identity) == beside
    after = content(database_url, hosting.identity)
    assert [row["token"] for row in after["answers"]] == [row["token"] for row in before["answers"]]
    # Numbers that another study has in the second database are moved out of the way.
    stranger = host(second, other_url)
    with stranger.database.writing() as connection:
        connection.execute(keys.delete())
        connection.execute(keys.insert(), before["keys"])
    take_part(stranger)
    restore(study, made.path, other_url)
    moved = host(study, other_url)
    assert len(content(other_url, hosting.identity)["answers"]) == len(before["answers"])
    assert answer_one(moved, token, True, right_queries(moved)) is not None


def test_keys_of_other_studies_are_not_lost(study: Study, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "second", ignore=shutil.ignore_patterns("hosting.json", "*.sqlite*"))
    url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    walk_to_practice(host(Study.open(tmp_path / "second"), url))
    walk_to_practice(host(study))
    made = back_up(study, tmp_path / "backup.sqlite")
    with pytest.raises(DatabaseError, match="other keys"):
        restore(study, made.path, url)


def test_a_lost_study_folder_gets_its_name_back(study: Study, tmp_path: Path) -> None:
    hosting = host(study)
    take_part(hosting)
    made = back_up(study, tmp_path / "backup.sqlite")
    hosting.database.close()
    for path in (study.root / "hosting.json", *study.root.glob("study.sqlite*")):
        path.unlink()
    restore(study, made.path)
    assert host(study).identity == hosting.identity


def test_the_payments_may_have_been_dropped(study: Study, database_url: str, tmp_path: Path) -> None:
    hosting = host(study, database_url)
    take_part(hosting)
    with hosting.database.writing() as connection:
        payments.drop(connection)
    made = back_up(study, tmp_path / "backup.sqlite", database_url)
    assert "payments" not in made.counts
    restore(study, made.path, database_url, replace=True)


def test_what_is_no_backup_is_not_restored(study: Study, tmp_path: Path) -> None:
    hosting = host(study)
    take_part(hosting)
    made = back_up(study, tmp_path / "backup.sqlite")
    with pytest.raises(DatabaseError, match="no file"):
        restore(study, tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DatabaseError, match="not a backup"):
        restore(study, tmp_path / "text")
    with pytest.raises(DatabaseError, match="not a backup"):
        restore(study, study.root / "study.sqlite")
    with closing(sqlite3.connect(made.path)) as connection, connection:
        connection.execute("DELETE FROM answers WHERE id = 1")
    with pytest.raises(DatabaseError, match="damaged"):
        restore(study, made.path, replace=True)
    shutil.copyfile(back_up(study, tmp_path / "good.sqlite").path, tmp_path / "cut.sqlite")
    with (tmp_path / "cut.sqlite").open("r+b") as file:
        file.truncate(60_000)
    with pytest.raises(DatabaseError, match=r"damaged|not a backup"):
        read_backup(tmp_path / "cut.sqlite")


def test_a_backup_of_another_study_or_version_is_refused(study: Study, built: Path, tmp_path: Path) -> None:
    take_part(host(study))
    made = back_up(study, tmp_path / "backup.sqlite")
    shutil.copytree(built, tmp_path / "second", ignore=shutil.ignore_patterns("hosting.json", "*.sqlite*"))
    second = Study.open(tmp_path / "second")
    host(second)
    with pytest.raises(DatabaseError, match="another study"):
        restore(second, made.path)
    with closing(sqlite3.connect(made.path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="newer version"):
        restore(study, made.path, replace=True)


def test_nothing_is_overwritten_but_an_older_backup(study: Study, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="never been hosted"):
        back_up(study, tmp_path / "backup.sqlite")
    hosting = host(study)
    take_part(hosting)
    with pytest.raises(DatabaseError, match="choose another name"):
        back_up(study, study.root / "study.sqlite")
    out = tmp_path / "deep" / "backup.sqlite"
    assert back_up(study, out).counts["people"] == 1
    take_part(hosting)
    assert back_up(study, out).counts["people"] == 2
    assert [path.name for path in out.parent.iterdir()] == ["backup.sqlite"]
    with hosting.database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(DatabaseError, match="version 0000"):
        back_up(study, out)


def test_a_secret_from_the_environment_is_noted(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIMI_SECRET", "a laboratory's own")
    take_part(host(study))
    made = back_up(study, tmp_path / "backup.sqlite")
    assert made.has_secret and made.counts["keys"] == 0
    monkeypatch.delenv("VIMI_SECRET")
    (note,) = restore(study, made.path, replace=True).notes
    assert "VIMI_SECRET" in note


def test_every_table_says_which_study_its_rows_belong_to(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    migrate(database)
    with database.reading() as connection:
        for table in metadata.sorted_tables:
            assert connection.execute(rows_of(table, "nobody")).fetchall() == []
    database.close()
    with pytest.raises(ValueError, match="Nothing says"):
        rows_of(sa.Table("stray", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True)), "nobody")


@pytest.fixture
def runner() -> Iterator[CliRunner]:
    yield CliRunner()


def test_the_command_line(study: Study, tmp_path: Path, runner: CliRunner) -> None:
    take_part(host(study))
    out = tmp_path / "backup.sqlite"
    made = runner.invoke(app, ["backup", str(study.root), "--out", str(out)])
    assert made.exit_code == 0 and "1 people and" in made.stdout
    refused = runner.invoke(app, ["restore", str(study.root), str(out)])
    assert isinstance(refused.exception, DatabaseError)
    done = runner.invoke(app, ["restore", str(study.root), str(out), "--replace"])
    assert done.exit_code == 0 and "before-restore-" in done.stdout
    assert runner.invoke(app, ["backup", str(study.root)]).exit_code == 2, "The name of the file is never guessed."
