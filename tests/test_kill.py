"""Servers that are killed amid answers, or share a database: no acknowledged answer is lost or doubled."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from benchmark.database import Database, answers, sessions
from tests.hosted import make_hosted_study
from tests.servers import Server, free_port, running
from webapp.bots import BotPopulation, Crowd, RemoteHost, draw_crowd, play_in_real_time

pytest_plugins = ["tests.databases"]

BOTS = 12
KILLS = 3
SESSION = {"main_trials": 6, "catch_trials": 2, "responses_per_unit": 20}
PATIENT = BotPopulation(
    dropout=0, inattentive=0, unable=0, unwilling=0, small_window=0, slow=0, hasty=0, double_click=0.3
)


def draw_bots(server: Server, seed: int) -> Crowd:
    from benchmark.study import Study

    study = Study.open(server.study)
    return draw_crowd(
        study.stimuli(), study.protocol.rules.session, participants=BOTS, seed=seed, interval=2.0, population=PATIENT
    )


def check_answers(crowd: Crowd, url: str) -> int:
    """Check that the database holds what was acknowledged, once and as it was sent; returns how many answers."""
    database = Database(url)
    with database.reading() as connection:
        stored = connection.execute(sa.select(answers.c.token, answers.c.choice, answers.c.query_top)).fetchall()
        held = connection.execute(sa.select(sessions.c.slot).where(sessions.c.holds)).scalars().all()
    database.close()
    tokens = [row.token for row in stored]
    positions = {row.token: "upper" if row.choice == row.query_top else "lower" for row in stored}
    acknowledged = [answer for story in crowd.stories for answer in story.acknowledged]
    assert len(tokens) == len(set(tokens)) and len(held) == len(set(held))
    assert len({answer.trial for answer in acknowledged}) == len(acknowledged)
    missing = [answer.trial for answer in acknowledged if answer.trial not in positions]
    assert missing == []
    assert all(positions[answer.trial] == answer.position for answer in acknowledged)
    assert not any(story.miscounted for story in crowd.stories)
    # Nobody was still under way: what is stored was acknowledged, too.
    assert set(tokens) == {answer.trial for answer in acknowledged}
    return len(tokens)


def test_a_server_that_is_killed_again_and_again_loses_nothing(database_url: str, tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study", session=SESSION)
    server = Server(study.root, free_port(), ["--bots", "--processes", "2", "--database", database_url], {})
    server.start()
    generator = np.random.default_rng(11)
    over = threading.Event()
    kills = 0

    def kill_and_restart() -> None:
        nonlocal kills
        while kills < KILLS and not over.wait(float(generator.uniform(0.2, 1.2))):
            server.kill()
            kills += 1
            server.start()

    host = RemoteHost(server.url, patience=400)
    crowd = draw_bots(server, seed=4)
    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    try:
        play_in_real_time(crowd.lives(host), workers=BOTS, speed=40.0)
    finally:
        over.set()
        killer.join()
        server.kill()
        host.close()
    assert kills == KILLS and host.resent > 0
    assert check_answers(crowd, database_url) >= BOTS * 13
    assert {story.outcome for story in crowd.stories} == {"complete"}


def test_two_servers_share_a_database(database_url: str, tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study", session=SESSION)
    options = ("--bots", "--database", database_url)
    with running(study.root, *options) as first, running(study.root, *options) as second:
        hosts = [RemoteHost(one.url, patience=400) for one in (first, second)]

        class EitherHost:
            """Every message goes to the other server than the one before it."""

            turn = 0

            def other(self) -> RemoteHost:
                self.turn += 1
                return hosts[self.turn % 2]

            def step(self, *given: object, **values: object) -> object:
                return self.other().step(*given, **values)  # type: ignore[arg-type]

            def answer(self, answer: object) -> object:
                return self.other().answer(answer)  # type: ignore[arg-type]

        crowd = draw_bots(first, seed=5)
        play_in_real_time(crowd.lives(EitherHost()), workers=BOTS, speed=60.0)  # type: ignore[arg-type]
        for host in hosts:
            host.close()
    assert check_answers(crowd, database_url) >= BOTS * 13
    assert {story.outcome for story in crowd.stories} == {"complete"}


@pytest.mark.parametrize("moment", [0.004, 0.02])
def test_an_answer_is_stored_or_not_acknowledged(moment: float, tmp_path: Path) -> None:
    """Kill the server while answers are on their way to it, and look who was told that theirs is safe."""
    study = make_hosted_study(tmp_path / "study")
    server = Server(study.root, free_port(), ["--bots"], {})
    server.start()
    tokens = [server.bot_at_practice() for _ in range(6)]
    trials = [server.bot("current_trial", token)["trial"]["trial"] for token in tokens]
    told: list[str] = []

    def send(token: str, trial: str) -> None:
        message = {"participant": token, "trial": trial, "position": "upper", "confidence": 1}
        try:
            reply = server.request("POST", "/api/answer", message)
        except OSError:
            return
        if reply.status == 200:
            told.append(trial)

    threads = [threading.Thread(target=send, args=pair) for pair in zip(tokens, trials)]
    for thread in threads:
        thread.start()
    time.sleep(moment)
    server.kill()
    for thread in threads:
        thread.join()
    database = Database(f"sqlite:///{study.root / 'study.sqlite'}")
    with database.reading() as connection:
        stored = connection.execute(sa.select(answers.c.token)).scalars().all()
    database.close()
    assert set(told) <= set(stored) and len(stored) == len(set(stored))
