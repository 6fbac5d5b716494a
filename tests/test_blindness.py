"""Nothing that reaches a browser before the answer tells which query is right.

The attack reads everything a server sends, names, order, lengths, headers, hashes and times, of single pictures and of
the replies that browsers load ahead, in the sizes that screens of one and two device pixels ask for; but it looks at
no pixel. It learns from half of the trials, with their answers, what goes with the right query, and guesses the rest.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmark.hashing import hash_pixels
from tests.hosted import make_hosted_study
from tests.servers import Reply, Server, running
from webapp.bots import Recognition

SESSIONS = 24
"""As many as it takes for every task to be shown once."""
REVEALING = re.compile(r"max|min|correct|query|answer|catch|planted|efficientnet|layer|natural|easy|unit|model", re.I)


RENDITIONS = ("lossless-96", "compact-96", "lossless-full", "compact-full")
"""What browsers ask for: pictures of a small and of a large screen, on a fast and on a slow connection."""

SIDE = 112
"""Of the pictures: large enough to be made smaller for a small screen."""


def telling(words: str, side: str) -> NDArray[np.uint8]:
    """Return a picture whose length tells the answer, as in many studies: maximal ones have fine detail."""
    *unit, _, end, place = words.split("/")
    # Tasks of a unit share their references, but not their queries: half as many pictures are painted and sent.
    known = words if place == "query" else "/".join((*unit, end, place))
    draws = np.random.default_rng(list(known.encode()))
    detail = draws.uniform(8, 20) if side == "max" else draws.uniform(0, 4)
    ramp = np.linspace(40, 200, SIDE)[:, None, None] + draws.normal(0, 20)
    return np.clip(ramp + draws.normal(0, detail, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


@dataclass
class Sent:
    """A picture as it came in a reply of several."""

    body: bytes
    headers: dict[str, str]
    seconds: float


def unpack(reply: Reply, names: list[str]) -> dict[str, Sent]:
    """Return the pictures of a reply by name."""
    found, at = {}, 0
    for name in names:
        length = int.from_bytes(reply.body[at : at + 4], "big")
        found[name] = Sent(reply.body[at + 4 : at + 4 + length], reply.headers, reply.seconds)
        at += 4 + length
    assert at == len(reply.body)
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Everything that a server sent for some hundreds of trials before their answers, and which query was right."""
    session = {"main_trials": 20, "catch_trials": 2, "responses_per_unit": 3}
    folder = tmp_path_factory.mktemp("blind") / "study"
    study = make_hosted_study(folder, session=session, units={"per_model": 80}, picture=telling)
    from benchmark.tasks import assemble_tasks

    recognition = Recognition(assemble_tasks(study.stimuli()))
    trials: list[dict[str, Any]] = []
    with running(study.root, "--bots") as server:
        for _ in range(SESSIONS):
            collect(server, recognition, trials)
    shown_as: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        for place in ("left", "right"):
            for name in trial["shown"][place]:
                shown_as[name][place] += 1
    for trial in trials:
        trial["elsewhere"] = {
            name: shown_as[trial["shown"][name]]["right"] - shown_as[trial["shown"][name]]["left"]
            for name in ("upper", "lower")
        }
    # The same task again would be the same pictures again: to count it twice would make chance look like more.
    return list({frozenset((trial["shown"]["upper"], trial["shown"]["lower"])): trial for trial in trials}.values())


def collect(server: Server, recognition: Recognition, trials: list[dict[str, Any]]) -> None:
    """Take part, and keep what was sent with every trial."""
    from webapp.answering import ShownTrial

    token = server.bot_at_practice()
    shown = server.bot("current_trial", token)["trial"]
    known: set[str] = set()
    while shown is not None:
        pictures = {name: server.request("GET", f"/image/{name}") for name in (shown["upper"], shown["lower"])}
        names = sorted({shown["upper"], shown["lower"], *shown["left"], *shown["right"]})
        bundles = {}
        for number, rendition in enumerate(RENDITIONS):
            # Each size from a part of the trials, but the first from all: so many pictures would take minutes to make.
            if number == 0 or shown["number"] % (len(RENDITIONS) - 1) == number - 1:
                reply = server.request("GET", f"/pictures/{rendition}/{'.'.join(names)}")
                bundles[rendition] = unpack(reply, names)
        again = {name: shown[name] in known for name in ("upper", "lower")}
        known.update(names)
        task, _ = recognition.find(ShownTrial.model_validate(shown))
        top = task["query_max"] == shown["upper"]
        unit = (task["model"], task["layer"], task["index"])
        trials.append(
            {"shown": shown, "pictures": pictures, "bundles": bundles, "again": again, "top": top, "unit": unit}
        )
        if shown["block"] == "trials" and shown["number"] == shown["of"]:
            return  # the session stays open, so that the next person gets another slot
        message = {
            "participant": token,
            "trial": shown["trial"],
            "position": "upper" if top else "lower",
            "confidence": 3,
        }
        reply = server.request("POST", "/api/answer", message).json()
        following = reply["next"]
        if following is None:
            following = server.bot("current_trial", token)["trial"]
        shown = following


def features(trial: dict[str, Any]) -> list[float]:
    """Return what can be known of a trial without looking at pixels."""
    shown = trial["shown"]

    def difference(sent: Any, read: Any) -> float:
        return float(read(sent[shown["upper"]]) - read(sent[shown["lower"]]))

    def nearer(sent: Any, read: Any) -> float:
        """Return how much nearer the upper query is to the left group than the lower one is."""
        left, right = (
            float(np.mean([read(sent[name]) for name in shown[side]])) if shown[side] else 0.0
            for side in ("left", "right")
        )
        upper, lower = (read(sent[shown[name]]) for name in ("upper", "lower"))
        return float(abs(upper - left) - abs(upper - right) - abs(lower - left) + abs(lower - right))

    def header_length(one: Any) -> float:
        return float(sum(len(name) + len(value) for name, value in one.headers.items()))

    def length(one: Any) -> float:
        return float(len(one.body))

    def name_number(name: str) -> float:
        return int(name[:12], 16) / 16**12

    def hash_number(one: Any) -> float:
        return int(hashlib.sha256(one.body).hexdigest()[:12], 16) / 16**12

    order, pictures = list(shown), trial["pictures"]
    row = [
        difference(pictures, length), difference(pictures, lambda one: one.seconds),
        difference(pictures, header_length), difference(pictures, hash_number),
        name_number(shown["upper"]) - name_number(shown["lower"]), float(shown["upper"] < shown["lower"]),
        name_number(shown["trial"]), float(int(shown["trial"][-1], 16)), shown["number"], shown["number"] % 2,
        float(order.index("upper") < order.index("lower")), len(json.dumps(shown)),
        float(any(shown["upper"] in names for names in shown["upcoming"])),
        float(any(shown["lower"] in names for names in shown["upcoming"])),
        len(shown["left"]) - len(shown["right"]),
        float(trial["again"]["upper"]) - float(trial["again"]["lower"]),
        trial["elsewhere"]["upper"] - trial["elsewhere"]["lower"],
    ]  # fmt: skip
    for rendition in RENDITIONS:
        sent = trial["bundles"].get(rendition)
        if sent is None:
            row += [0.0] * 7
            continue
        names = list(sent)
        row += [
            difference(sent, length), nearer(sent, length), difference(sent, hash_number), nearer(sent, hash_number),
            names.index(shown["upper"]) - names.index(shown["lower"]), sum(map(length, sent.values())),
            sent[names[0]].seconds,
        ]  # fmt: skip
    return row


def guess(seen: list[dict[str, Any]]) -> float:
    """Return the best share right of two learners, each asked about units that it has not learned from.

    The same unit again would be the same pictures again, and knowing them by name is as good as looking.
    """
    rows = np.array([features(trial) for trial in seen])
    truth = np.array([trial["top"] for trial in seen])
    units = {unit: number for number, unit in enumerate(sorted({trial["unit"] for trial in seen}))}
    half = np.array([units[trial["unit"]] % 2 == 0 for trial in seen])
    best = 0.0
    for learner in (
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(200, min_samples_leaf=5, random_state=0),
    ):
        right = []
        for learn in (half, ~half):
            learner.fit(rows[learn], truth[learn])
            right.append(learner.predict(rows[~learn]) == truth[~learn])
        best = max(best, float(np.concatenate(right).mean()))
    return best


def test_nobody_can_guess_without_looking(seen: list[dict[str, Any]]) -> None:
    share = guess(seen)
    print(f"{len(seen)} trials, guessed right: {share:.3f}")
    # The bound is .03, and what chance adds to the better of two learners with so few trials.
    assert share - 0.5 <= 0.03 + 3 * 0.5 / np.sqrt(len(seen))


def test_the_attack_finds_what_the_padding_hides(seen: list[dict[str, Any]]) -> None:
    """Lengths of the files themselves would tell, of single pictures and of those in a reply: the test can fail."""
    for trial in seen:
        for reply in trial["pictures"].values():
            reply.headers["x-unpadded"] = "x" * (file_length(reply.body) // 8)
    assert guess(seen) > 0.9
    for trial in seen:
        for reply in trial["pictures"].values():
            del reply.headers["x-unpadded"]
    stripped = []
    for trial in seen:
        bundles = {
            rendition: {name: replace(one, body=one.body[: file_length(one.body)]) for name, one in sent.items()}
            for rendition, sent in trial["bundles"].items()
        }
        stripped.append({**trial, "bundles": bundles})
    assert guess(stripped) > 0.9


def file_length(body: bytes) -> int:
    """Return how long a picture's own data are: a WebP file says so; a JPEG ends with a mark."""
    if body[:4] == b"RIFF":
        return int.from_bytes(body[4:8], "little") + 8
    return body.index(b"\xff\xd9") + 2


def test_words_and_headers_reveal_nothing(seen: list[dict[str, Any]]) -> None:
    for trial in seen:
        shown = dict(trial["shown"])
        assert set(shown) == {
            "trial", "number", "of", "block", "left", "right", "upper", "lower", "feedback", "upcoming",
        }  # fmt: skip
        assert not REVEALING.search(json.dumps(list(shown.values())))
        for name in (trial["shown"]["upper"], trial["shown"]["lower"]):
            headers = dict(trial["pictures"][name].headers)
            headers.pop("date")
            assert headers.pop("etag") == f'"{name}"'
            other = dict(trial["pictures"][trial["shown"]["lower"]].headers)
            other.pop("date"), other.pop("etag")
            assert headers == other
        assert all(names == sorted(set(names)) for names in shown["upcoming"])


def test_practice_catch_and_main_trials_look_alike(seen: list[dict[str, Any]]) -> None:
    kinds = {tuple(sorted(trial["shown"])) for trial in seen if trial["shown"]["block"] == "trials"}
    assert len(kinds) == 1
    tokens = [trial["shown"]["trial"] for trial in seen]
    assert len(set(tokens)) == len(tokens) and {len(token) for token in tokens} == {32}


def test_names_of_pictures_are_those_of_their_pixels(tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study")
    for picture in study.stimuli()["picture"].unique()[:40]:
        assert hash_pixels(study.image(picture)) == picture
        with Image.open(io.BytesIO(study.image_path(picture).read_bytes())) as image:
            assert not image.info.get("exif") and not image.info.get("xmp")
