"""Pictures as they are sent, the files of the pages themselves, and signs of agents: what needs no browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from analysis.exclusions import SessionFacts, named_rule
from benchmark.database import answers, people
from benchmark.errors import HostingError
from benchmark.responses import read_responses
from benchmark.study import Study
from tests.hosted import host, make_hosted_study, walk_to_practice
from webapp.agents import Writing, pointer_signs, signed_agent
from webapp.answering import Answer, current_trial, first_pictures, record_answer
from webapp.hosting import Hosting
from webapp.page_files import make_document
from webapp.participation import Device, add_agent, add_writing, arrive, check_device, look_up
from webapp.renditions import SIZES, Rendition, Renditions
from webapp.routes import make_middleware

SIDE = 144


def textured(words: str, side: str) -> NDArray[np.uint8]:
    """Return a picture with as much detail as its name says: files of very different lengths."""
    draws = np.random.default_rng(abs(hash_of(words)) % 2**32)
    detail = draws.uniform(0, 60) if side == "max" else 2.0
    ramp = np.linspace(40, 200, SIDE)[:, None, None]
    return np.clip(ramp + draws.normal(0, detail, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def hash_of(words: str) -> int:
    return int.from_bytes(words.encode(), "big") % (2**61 - 1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_hosted_study(
        tmp_path_factory.mktemp("renditions") / "study", picture=textured, units={"per_model": 2},
        session={"main_trials": 4, "catch_trials": 2, "responses_per_unit": 3},
    )  # fmt: skip


@pytest.fixture
def hosting(study: Study, tmp_path: Path) -> Iterator[Hosting]:
    made = host(study, f"sqlite:///{tmp_path / 'answers.sqlite'}")
    yield made
    made.database.close()


@pytest.fixture
def client(hosting: Hosting) -> TestClient:
    return TestClient(Starlette(middleware=make_middleware(hosting)))


def decoded(body: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def unpack(body: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        parts.append(body[at + 4 : at + 4 + length])
        at += 4 + length
    return parts


@pytest.mark.parametrize("name", ["original", "lossless-96", "lossless-full", "compact-96", "compact-full"])
def test_every_picture_ever_asked_about_has_one_length_in_each_rendition(hosting: Hosting, name: str) -> None:
    rendition = Rendition.read(name)
    queries = sorted(hosting.layout.queries)
    bodies = [hosting.renditions.body(query, rendition) for query in queries]
    assert len({len(body) for body in bodies}) == 1
    assert all(decoded(body).shape == (SIDE, SIDE, 3) for body in bodies[:8])  # they are never made smaller
    files = {path.stat().st_size for path in map(hosting.study.image_path, queries)}
    assert len(files) > 10  # the files themselves would tell


def test_a_picture_that_is_too_detailed_for_its_length_gets_a_lower_quality(tmp_path: Path, study: Study) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    noisy = "f" * 32
    path = study.image_path(noisy)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path, "WEBP", lossless=True)
    made = Renditions(study, [noisy], "secret")
    body = made.body(noisy, Rendition("compact"))
    assert len(body) == made.compact_length and decoded(body).ndim == 3
    path.unlink()


def test_lossless_pictures_are_those_of_the_study_made_smaller_and_compact_ones_are_close(hosting: Hosting) -> None:
    name = next(iter(sorted(hosting.layout.pictures - hosting.layout.queries)))
    own = Image.open(hosting.study.image_path(name)).convert("RGB")
    assert np.array_equal(decoded(hosting.renditions.body(name, Rendition("lossless"))), np.asarray(own))
    small = np.asarray(own.resize((96, 96), Image.Resampling.LANCZOS))
    assert np.array_equal(decoded(hosting.renditions.body(name, Rendition("lossless", 96))), small)
    compact = decoded(hosting.renditions.body(name, Rendition("compact", 96))).astype(float)
    assert compact.shape == small.shape and np.abs(compact - small).mean() < 4
    assert hosting.renditions.is_ready(name, Rendition("compact", 96))  # it is kept


def test_names_of_renditions_are_read_back_and_others_refused() -> None:
    for name in ("original", "lossless-full", "compact-full", *(f"compact-{size}" for size in SIZES)):
        assert str(Rendition.read(name)) == name
    assert (
        Rendition.read("compact-160").recorded == "compact-160/1" and Rendition.read("original").recorded == "original"
    )
    for name in ("", "tiny", "compact", "compact-161", "original-160", "../compact-96", "compact-96\n"):
        with pytest.raises(HostingError, match="There is no rendition"):
            Rendition.read(name)


def test_the_pictures_of_a_trial_come_in_one_reply(hosting: Hosting, client: TestClient) -> None:
    person = walk_to_practice(hosting)
    shown = current_trial(hosting, person.token)
    assert shown is not None
    names = sorted({*shown.left, *shown.right, shown.upper, shown.lower})
    address = f"/pictures/compact-96/{'.'.join(names)}"
    reply = client.get(address, headers={"accept-encoding": "gzip"})
    assert reply.status_code == 200 and int(reply.headers["content-length"]) == len(reply.content)
    assert "immutable" in reply.headers["cache-control"] and reply.headers["content-encoding"] == "identity"
    parts = unpack(reply.content)
    assert parts == [hosting.renditions.body(name, Rendition("compact", 96)) for name in names]
    assert client.get(address, headers={"if-none-match": reply.headers["etag"]}).status_code == 304
    one = client.get(f"/image/compact-96/{names[0]}")
    assert one.content == parts[0] and one.headers["content-type"] == "image/jpeg"
    for wrong in (
        f"/pictures/compact-96/{'.'.join(names[::-1])}", f"/pictures/compact-97/{names[0]}",
        f"/pictures/compact-96/{'0' * 32}", f"/pictures/compact-96/{names[0]}.{names[0]}", "/pictures/compact-96/x",
        f"/pictures/compact-96/{'.'.join(sorted(hosting.layout.pictures)[:65])}",
    ):  # fmt: skip
        assert client.get(wrong).status_code == 404, wrong


def test_what_is_loaded_during_the_instructions_is_what_the_practice_shows(hosting: Hosting) -> None:
    from webapp.participation import agree, answer_colour_vision, finish_instructions

    known = arrive(hosting, None, kind="simulated").participant
    assert known is not None
    check_device(hosting, known.token, Device(1280, 800, megabits=3.5))
    agree(hosting, known.token)
    answer_colour_vision(hosting, known.token, "normal")
    ahead = first_pictures(hosting, look_up(hosting, known.token) or known)
    finish_instructions(hosting, known.token)
    shown = current_trial(hosting, known.token)
    assert shown is not None and len(ahead) == 5
    assert ahead == [sorted({*shown.left, *shown.right, shown.upper, shown.lower}), *shown.upcoming]
    with hosting.database.reading() as connection:
        assert connection.execute(sa.select(people.c.connection_mbps)).scalar_one() == 3.5


def test_what_was_shown_is_on_the_answer(hosting: Hosting) -> None:
    person = walk_to_practice(hosting)
    for rendition, recorded in (("compact-96", "compact-96/1"), ("original", "original"), (None, None)):
        shown = current_trial(hosting, person.token)
        assert shown is not None
        record_answer(
            hosting, Answer(participant=person.token, trial=shown.trial, position="upper", rendition=rendition)
        )
        with hosting.database.reading() as connection:
            query = sa.select(answers.c.rendition).order_by(answers.c.id.desc())
            assert connection.execute(query).scalars().first() == recorded
    assert set(read_responses(hosting.study, str(hosting.database.url))["rendition"].dropna()) == {
        "compact-96/1", "original",
    }  # fmt: skip
    with pytest.raises(ValueError, match="rendition"):
        Answer(participant=person.token, trial="t" * 32, position="upper", rendition="compact-9\n")


def test_a_connection_that_is_too_slow_is_screened_out_where_that_is_set(tmp_path: Path) -> None:
    slow = make_hosted_study(tmp_path / "study", units={"per_model": 2}, hosting={"slowest_connection": 1.0},
                             session={"main_trials": 4, "catch_trials": 2, "responses_per_unit": 3})  # fmt: skip
    made = host(slow, f"sqlite:///{tmp_path / 'answers.sqlite'}")
    known = arrive(made, None, kind="simulated").participant
    assert known is not None
    for speed, phase in ((0.5, "device"), (1.0, "consent")):
        assert check_device(made, known.token, Device(1280, 800, megabits=speed)).phase == phase
    unknown = arrive(made, None, kind="simulated").participant
    assert unknown is not None and check_device(made, unknown.token, Device(1280, 800)).phase == "consent"
    made.database.close()


# -------------------------------------------------------------------- the pages' own files


def test_scripts_are_sent_compressed_and_kept(client: TestClient) -> None:
    import streamlit

    script = next((Path(streamlit.__file__).parent / "static" / "static" / "js").glob("index.*.js"))
    reply = client.get(f"/static/js/{script.name}", headers={"accept-encoding": "gzip"})
    assert reply.status_code == 200 and reply.content == script.read_bytes()
    assert reply.headers["content-encoding"] == "gzip" and "immutable" in reply.headers["cache-control"]
    assert int(reply.headers["content-length"]) < script.stat().st_size / 2
    assert reply.headers["content-security-policy"]  # the other headers are there too
    for path in ("/static/../__init__.py", "/static/%2e%2e/__init__.py", "/static/js/nothing.js"):
        assert client.get(path, headers={"accept-encoding": "gzip"}).status_code == 404


def test_files_that_do_not_get_smaller_and_the_document_come_from_memory(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit

    font = next((Path(streamlit.__file__).parent / "static" / "static" / "media").glob("*.woff2"))
    content = font.read_bytes()
    replies = [client.get(path) for path in (f"/static/media/{font.name}", "/")]
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    for reply in replies:
        again = client.get(reply.url.path)
        assert again.status_code == 200 and again.content == reply.content and again.headers["content-security-policy"]
        same = client.get(reply.url.path, headers={"if-none-match": reply.headers["etag"]})
        assert same.status_code == 304 and not same.content
        assert same.headers["cache-control"] == reply.headers["cache-control"]
    assert replies[0].content == content and "content-encoding" not in replies[0].headers
    assert "immutable" in replies[0].headers["cache-control"] and replies[1].headers["cache-control"] == "no-cache"


def test_the_document_is_the_studys_and_not_to_be_translated(hosting: Hosting) -> None:
    import streamlit

    text = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    made = make_document(text, hosting.wording, ("./static/js/next.js",), 1_000_000)
    assert '<html lang="en" translate="no" class="notranslate">' in made
    assert '<meta name="google" content="notranslate" />' in made and "<title>Which picture belongs?</title>" in made
    assert "agent" not in made.partition("</head>")[0] and "MCP" not in made and "Loading the page" in made
    assert '<div id="root"><p class="vimi-loading"' in made and "WEIGHT" not in made and "./static/js/next.js" in made


# -------------------------------------------------------------------- agents


@pytest.mark.parametrize(
    ("headers", "agent"),
    [
        ({}, None),
        ({"User-Agent": "Firefox"}, None),
        ({"Signature": "sig1=:AA:", "Signature-Input": "sig1=();keyid=1"}, None),  # signed, but not as an agent
        ({"Signature-Agent": '"https://agent.example"'}, None),  # not signed
        ({"Signature": "s", "Signature-Input": 's=();tag="web-bot-auth"', "Signature-Agent": '"https://chatgpt.com"'},
         "chatgpt.com"),
        ({"signature": "s", "signature-input": 's=();tag="web-bot-auth"'}, "unnamed"),
        ({"signature": "s", "signature-input": "s=()", "signature-agent": "<script>"}, "script"),
    ],
)  # fmt: skip
def test_agents_that_sign_are_known(headers: dict[str, str], agent: str | None) -> None:
    assert signed_agent(headers) == agent


@pytest.mark.parametrize(
    ("trace", "signs"),
    [
        ({"moves": 60, "path": 500, "offset_x": 12, "offset_y": -3}, []),
        ({"moves": 0, "path": 0, "offset_x": 12, "offset_y": -3}, []),  # the pointer stayed where it was
        ({"moves": 1, "path": 300, "offset_x": 9, "offset_y": 0}, ["pointer jump"]),
        ({"moves": 40, "path": 300, "offset_x": 1, "offset_y": 0}, ["centred press"]),
        ({"moves": 1, "path": 300, "offset_x": 0, "offset_y": 0, "touch": 1}, []),
    ],
)
def test_pointers_that_jump_are_noticed(trace: dict[str, float], signs: list[str]) -> None:
    assert pointer_signs(trace, pointer=True) == signs and pointer_signs(trace, pointer=False) == []


@pytest.mark.parametrize(
    ("evidence", "passes"),
    [
        ("{}", True),
        ('{"agents": ["agent.example"]}', False),
        ('{"traps": {"pointer jump": 2, "centred press": 3}}', True),
        ('{"traps": {"pointer jump": 3}}', False),
        ('{"traps": {"centred press": 6}}', False),
        ('{"writing": {"keys": 90, "pasted": 0, "inserted": 3, "pastes": 0, "scripted": 0}}', True),
        ('{"writing": {"keys": 1, "pastes": 1, "pasted": 200, "inserted": 0, "scripted": 0}}', True),
        ('{"writing": {"keys": 0, "pastes": 0, "pasted": 0, "inserted": 80, "scripted": 0}}', False),
        ("no JSON", True),
    ],
)
def test_the_rule_on_agents_reads_the_evidence(evidence: str, passes: bool) -> None:
    import pandas as pd

    facts = SessionFacts(
        pd.Series({"session": "s", "evidence": evidence}),
        pd.DataFrame(columns=["session", "kind", "correct", "choice", "query_top"]),
    )
    assert named_rule("agent").passes(facts) is passes


def test_evidence_of_agents_is_kept_and_goes_with_the_answers(hosting: Hosting) -> None:
    from webapp.participation import withdraw

    person = walk_to_practice(hosting)
    for _ in range(2):
        add_agent(hosting, person.token, "agent.example")
    add_writing(hosting, person.token, Writing(keys=10, key_ms=120.5, seconds=9))

    def evidence() -> Any:
        import json

        with hosting.database.reading() as connection:
            stored = connection.execute(sa.select(people.c.evidence).where(people.c.token == person.token)).scalar_one()
        return None if stored is None else json.loads(stored)

    assert evidence()["agents"] == ["agent.example"] and evidence()["writing"]["key_ms"] == 120.5
    withdraw(hosting, person.receipt)
    add_writing(hosting, person.token, Writing(keys=3))
    assert evidence() is None
