"""The server over HTTP: answers once, pictures for ever, and nothing for whoever has no business there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from benchmark.database import Database, answers, people
from benchmark.errors import DatabaseError
from benchmark.responses import read_responses
from benchmark.study import Study
from tests.hosted import make_hosted_study
from tests.servers import Server, running
from webapp.store import MOST_PROBLEMS_EACH, open_store, problems, report_problem


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    study = make_hosted_study(tmp_path_factory.mktemp("server") / "study")
    with running(study.root, "--bots") as made:
        yield made


def rows(server: Server, token: str) -> int:
    database = Database(f"sqlite:///{server.study / 'study.sqlite'}")
    with database.reading() as connection:
        query = sa.select(sa.func.count()).select_from(answers).join(people, people.c.id == answers.c.participant)
        count = connection.execute(query.where(people.c.token == token)).scalar_one()
    database.close()
    return int(count)


def answer(token: str, trial: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"participant": token, "trial": trial["trial"], "position": "upper", "confidence": 2, "rt_ms": 800, **values}


def test_health_and_security_headers(server: Server) -> None:
    for path in ("/", "/_stcore/health", "/image/none", "/withdraw"):
        headers = server.request("GET", path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("apart", [0.0, 0.03, 0.15, 1.0, 3.0])
def test_two_clicks_are_one_answer(server: Server, apart: float) -> None:
    token = server.bot_at_practice()
    trial = server.bot("current_trial", token)["trial"]
    replies: list[Any] = [None, None]

    def click(number: int) -> None:
        time.sleep(apart * number)
        # The second click chooses the other picture: what was stored first stands.
        position = ("upper", "lower")[number]
        replies[number] = server.request("POST", "/api/answer", answer(token, trial, position=position))

    threads = [threading.Thread(target=click, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = sorted(reply.json()["state"] for reply in replies)
    assert states == ["known", "stored"]
    assert replies[0].json()["correct"] == replies[1].json()["correct"]
    assert replies[0].json()["next"] == replies[1].json()["next"]
    assert rows(server, token) == 1


def test_many_at_once_are_one_answer(server: Server) -> None:
    token = server.bot_at_practice()
    trial = server.bot("current_trial", token)["trial"]
    states: list[str] = []

    def click() -> None:
        states.append(server.request("POST", "/api/answer", answer(token, trial)).json()["state"])

    threads = [threading.Thread(target=click) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states) == ["known"] * 11 + ["stored"] and rows(server, token) == 1


def test_an_answer_to_another_trial_stores_nothing_and_says_what_comes_next(server: Server) -> None:
    token = server.bot_at_practice()
    trial = server.bot("current_trial", token)["trial"]
    reply = server.request("POST", "/api/answer", answer(token, {"trial": "f" * 32}))
    assert reply.status == 409 and reply.json()["state"] == "stale"
    assert reply.json()["next"]["trial"] == trial["trial"] and rows(server, token) == 0


def test_nobody_answers_for_somebody_else(server: Server) -> None:
    first, second = server.bot_at_practice(), server.bot_at_practice()
    trial = server.bot("current_trial", first)["trial"]
    reply = server.request("POST", "/api/answer", answer(second, trial))
    assert reply.status == 409 and rows(server, first) == 0 and rows(server, second) == 0
    assert server.request("POST", "/api/answer", answer("x" * 32, trial)).status == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "left"}, {"confidence": 0}, {"confidence": 4}, {"rt_ms": -1}, {"rt_ms": "fast"}, {"more": 1},
        {"trace": {"A b": 1}}, {"trace": {str(n): n for n in range(50)}}, {"participant": "' or 1=1 --"},
        {"trial": "../../etc/passwd"}, {"rt_ms": 1e300},
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_without_details(server: Server, changes: dict[str, Any]) -> None:
    reply = server.request("POST", "/api/answer", {**answer("a" * 32, {"trial": "b" * 32}), **changes})
    assert reply.status == 400 and reply.json() == {"error": "not understood"}


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"participant": "\\u0000"}'])
def test_what_is_no_message_is_refused(server: Server, body: bytes) -> None:
    assert server.request("POST", "/api/answer", body).status == 400


def test_large_bodies_are_not_read(server: Server) -> None:
    reply = server.request("POST", "/api/answer", b'{"participant": "' + b"a" * 100_000 + b'"}')
    assert reply.status == 413 and len(reply.body) < 100


def test_a_flood_is_slowed_down_and_harms_nobody_else(server: Server) -> None:
    token, other = server.bot_at_practice(), server.bot_at_practice()
    trial = server.bot("current_trial", token)["trial"]
    statuses = [server.request("POST", "/api/answer", answer(token, trial)).status for _ in range(80)]
    assert 429 in statuses and statuses[0] == 200 and rows(server, token) == 1
    assert (
        server.request("POST", "/api/answer", answer(other, server.bot("current_trial", other)["trial"])).status == 200
    )


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_nobody_fills_the_memory_with_uploads(server: Server, method: str) -> None:
    # With the token of one's own browser, Streamlit would take any number of files.
    token = "0" * 32
    headers = {"cookie": f"_streamlit_xsrf={token}", "x-xsrftoken": token}
    assert server.request(method, "/_stcore/upload_file/any/file", b"x" * 1000, headers).status == 404


def test_nobody_fills_the_list_of_problems(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    with store.writing() as connection:
        for number in range(MOST_PROBLEMS_EACH + 5):
            report_problem(connection, "study", "script error", pseudonym="P1", detail=str(number))
            report_problem(connection, "study", "server error", detail=str(number))
        report_problem(connection, "study", "missing image", pseudonym="P2")
        kinds = Counter(connection.execute(sa.select(problems.c.kind)).scalars())
    store.close()
    assert kinds == {
        "script error": MOST_PROBLEMS_EACH, "server error": MOST_PROBLEMS_EACH + 5, "missing image": 1,
    }  # fmt: skip


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("No database at all. " * 50, encoding="utf-8")
    with pytest.raises(DatabaseError, match="not a database"):
        open_store(f"sqlite:///{tmp_path / 'notes.txt'}")


def test_pictures_are_immutable_and_named_after_their_content(server: Server) -> None:
    trial = server.bot("current_trial", server.bot_at_practice())["trial"]
    for name in (*trial["left"], *trial["right"], trial["upper"], trial["lower"], *trial["upcoming"][0]):
        reply = server.request("GET", f"/image/{name}")
        assert reply.status == 200 and reply.headers["content-type"] == "image/webp"
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert reply.headers["etag"] == f'"{name}"' and "last-modified" not in reply.headers
        again = server.request("GET", f"/image/{name}", headers={"if-none-match": reply.headers["etag"]})
        assert again.status == 304 and not again.body


def test_a_padded_picture_still_has_its_pixels(server: Server) -> None:
    import io

    import numpy as np
    from PIL import Image

    study = Study.open(server.study)
    trial = server.bot("current_trial", server.bot_at_practice())["trial"]
    lengths = set()
    for name in (trial["upper"], trial["lower"]):
        body = server.request("GET", f"/image/{name}").body
        lengths.add(len(body))
        with Image.open(io.BytesIO(body)) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), study.image(name))
    assert len(lengths) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/image/../study.sqlite", "/image/..%2f..%2fstudy.sqlite", "/image/%2e%2e/experiment.toml",
        "/image/" + "0" * 32,
        "/image/" + "A" * 32, "/image/x.webp", "/app/static/study.sqlite", "/study.sqlite",
        "/media/../study.sqlite", "/image/%00",
    ],
)  # fmt: skip
def test_nothing_but_pictures_of_trials_can_be_fetched(server: Server, path: str) -> None:
    reply = server.request("GET", path)
    assert b"SQLite" not in reply.body and b"[[models]]" not in reply.body
    if path.startswith("/image"):
        assert reply.status in (307, 400, 404)


def test_a_missing_picture_is_noted_for_the_experimenter(tmp_path: Path) -> None:
    from webapp.store import problems

    study = make_hosted_study(tmp_path / "study")
    with running(study.root, "--bots") as server:
        token = server.bot_at_practice()
        trial = server.bot("current_trial", token)["trial"]
        study.image_path(trial["upper"]).unlink()
        assert server.request("GET", f"/image/{trial['upper']}").status == 404
        told = {"participant": token, "kind": "missing image", "detail": trial["upper"], "trial": trial["trial"]}
        assert server.request("POST", "/api/problem", told).status == 204
        database = Database(f"sqlite:///{study.root / 'study.sqlite'}")
        with database.reading() as connection:
            noted = connection.execute(sa.select(problems.c.kind, problems.c.trial, problems.c.detail)).fetchall()
        database.close()
    assert [row.kind for row in noted] == ["missing image", "missing image"]
    assert noted[1].trial.startswith("natural-easy-practice-") and trial["upper"] in noted[0].detail


def test_bots_and_the_experimenters_page_are_closed_unless_asked_for(tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study")
    with running(study.root, "--pilot", environment={"VIMI_ADMIN_HASH": ""}) as server:
        assert server.request("POST", "/api/bot", {"step": "arrive", "values": {}}).status in (404, 405)
        assert server.request("GET", "/_stcore/agent/sessions").status in (403, 404, 405)
    assert "There is no page for the experimenter" in server.log()


def test_neither_log_nor_database_hold_an_address_or_a_user_agent(server: Server) -> None:
    agent = "Particular/1.0 (Never Stored)"
    server.request("GET", "/", headers={"user-agent": agent, "x-forwarded-for": "203.0.113.77"})
    server.bot_at_practice()
    content = b"".join(path.read_bytes() for path in server.study.glob("study.sqlite*")) + server.log().encode()
    assert b"Never Stored" not in content and b"203.0.113.77" not in content


def test_two_servers_behind_one_database_are_one_study(tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study")
    with running(study.root, "--bots") as first, running(study.root, "--bots") as second:
        token = first.bot_at_practice()
        servers = [first, second]
        trial = second.bot("current_trial", token)["trial"]
        assert trial == first.bot("current_trial", token)["trial"]
        stored = 0
        for turn in range(5):
            reply = servers[turn % 2].request("POST", "/api/answer", answer(token, trial))
            again = servers[(turn + 1) % 2].request("POST", "/api/answer", answer(token, trial))
            assert (reply.json()["state"], again.json()["state"]) == ("stored", "known")
            stored += 1
            assert reply.json()["next"] == again.json()["next"]
            if reply.json()["next"] is None:
                break
            trial = reply.json()["next"]
        assert rows(first, token) == stored == 5
    assert len(read_responses(study)) == 5


def test_a_port_that_is_taken_is_said_so(server: Server) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "benchmark.command_line", "serve", str(server.study), "--bots"]
    done = subprocess.run(
        [*command, "--port", str(server.port)],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 2 and "--port" in done.stderr and "Traceback" not in done.stderr
