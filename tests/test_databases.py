"""Databases as laboratories have them: behind a pooler, with another encoding, in a folder with an odd name."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmark.database import Database, answers, database_url, people
from benchmark.errors import DatabaseError
from benchmark.responses import read_responses
from benchmark.study import Study
from benchmark.workflow import back_up_study, restore_study
from tests.answered import fallible, take_part
from tests.hosted import host, make_hosted_study
from webapp.participation import look_up
from webapp.store import open_store

pytest_plugins = ["tests.databases"]


def new_database(folder: str, encoding: str = "UTF8") -> str:
    """Create a database; the module is a plugin, and so can't be imported before pytest has seen it."""
    from tests.databases import new_postgresql_database

    return new_postgresql_database(folder, encoding)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_hosted_study(tmp_path_factory.mktemp("databases") / "study")


def test_people_take_part_through_a_pooler_of_transactions(study: Study, postgresql: str, pgbouncer: str) -> None:
    """No statement is prepared on the server: the next transaction may be on another one."""
    direct = new_database(postgresql)
    pooled = direct.replace(postgresql, pgbouncer)
    hosting = host(study, pooled)
    participants = [take_part(hosting, fallible(number)) for number in range(3)]
    with hosting.database.reading() as connection:
        # A statement that comes again and again would be prepared by psycopg.
        for _ in range(20):
            assert connection.execute(sa.select(sa.func.count()).select_from(answers)).scalar_one() > 0
        prepared = connection.execute(sa.text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
    assert prepared == 0
    assert all(look_up(hosting, one.token) is not None for one in participants)
    hosting.database.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_can_not_keep_every_text_is_refused_at_the_start(postgresql: str, encoding: str) -> None:
    pytest.importorskip("psycopg")
    url = new_database(postgresql, encoding)
    with pytest.raises(DatabaseError, match=f"stores text as {encoding}.*ENCODING 'UTF8'"):
        open_store(url)


def test_texts_are_kept_whatever_the_environment_says(
    study: Study, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    store = open_store(new_database(postgresql))
    with store.reading() as connection:
        assert connection.execute(sa.select(sa.literal("🙂 Ω"))).scalar_one() == "🙂 Ω"
    store.close()


@pytest.mark.parametrize("name", ["a study? really", "50%20 percent%", "hash#1", "Prüfung ä; 研究", "a&b=c?mode=ro"])
def test_a_folder_s_name_means_nothing(tmp_path: Path, name: str) -> None:
    study = make_hosted_study(tmp_path / name / "study")
    hosting = host(study)
    take_part(hosting, fallible(1))
    own = study.root / "study.sqlite"
    assert hosting.database.path == own and own.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {name}, "Nothing stands outside."
    assert len(read_responses(study)) > 0
    # What a database says of itself leads back to it.
    for url in (hosting.database.address, str(hosting.database), database_url(study)):
        again = Database(url)
        with again.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(people)).scalar_one() == 1
        again.close()
    hosting.database.close()
    back_up_study(study, tmp_path / name / "backup?.sqlite", hosting.database.address)
    restored = restore_study(study, tmp_path / name / "backup?.sqlite", f"sqlite:///{tmp_path / name / 'new#.sqlite'}")
    assert restored is not None and (tmp_path / name / "new#.sqlite").is_file()
