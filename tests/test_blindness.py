"""Nothing that reaches a browser before the answer tells which query is right.

The attack reads everything a server sends, names, order, lengths, headers and times, but looks at no pixel. It learns
from half of the trials, with their answers, what goes with the right query, and guesses the other half.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmark.hashing import hash_pixels
from benchmark.study import Study
from tests.hosted import make_hosted_study
from tests.servers import Server, running
from webapp.bots import Recognition

SESSIONS = 24
"""As many as it takes for every task to be shown once."""
REVEALING = re.compile(r"max|min|correct|query|answer|catch|planted|efficientnet|layer|natural|easy|unit|model", re.I)


def retouch(study: Study) -> None:
    """Make lengths of files tell the answer, as they often do in real studies: maximal pictures get fine detail."""
    # The pictures are replaced in place under their old names; only what is sent matters here.
    for picture in study.stimuli().drop_duplicates("picture").itertuples():
        if picture.side == "max":
            path = study.image_path(picture.picture)
            with Image.open(path) as image:
                pixels = np.asarray(image).astype(int)
            noise = np.random.default_rng(len(pixels)).integers(-20, 20, pixels.shape)
            Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(
                path, "WEBP", lossless=True, method=0
            )


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Everything that a server sent for some hundreds of trials before their answers, and which query was right."""
    session = {"main_trials": 20, "catch_trials": 2, "responses_per_unit": 3}
    folder = tmp_path_factory.mktemp("blind") / "study"
    study = make_hosted_study(folder, session=session, units={"per_model": 80})
    retouch(study)
    from benchmark.tasks import assemble_tasks

    recognition = Recognition(assemble_tasks(study.stimuli()))
    trials: list[dict[str, Any]] = []
    with running(study.root, "--bots") as server:
        for _ in range(SESSIONS):
            collect(server, recognition, trials)
    # The same task again would be the same pictures again: to count it twice would make chance look like more.
    return list({frozenset((trial["shown"]["upper"], trial["shown"]["lower"])): trial for trial in trials}.values())


def collect(server: Server, recognition: Recognition, trials: list[dict[str, Any]]) -> None:
    """Take part, and keep what was sent with every trial."""
    from webapp.answering import Presentation

    token = server.bot_at_practice()
    shown = server.bot("current_trial", token)["trial"]
    pictures: dict[str, Any] = {}
    while shown is not None:
        for name in (shown["upper"], shown["lower"], *shown["left"], *shown["right"]):
            pictures[name] = server.request("GET", f"/image/{name}")
        task, _ = recognition.find(Presentation.model_validate(shown))
        top = task["query_max"] == shown["upper"]
        unit = (task["model"], task["layer"], task["index"])
        trials.append({"shown": shown, "pictures": dict(pictures), "top": top, "unit": unit})
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
    shown, pictures = trial["shown"], trial["pictures"]
    upper, lower = pictures[shown["upper"]], pictures[shown["lower"]]

    def mean(side: str, read: Any) -> float:
        return float(np.mean([read(pictures[name]) for name in shown[side]])) if shown[side] else 0.0

    def nearer(read: Any) -> float:
        left, right = mean("left", read), mean("right", read)
        near = [abs(read(one) - left) - abs(read(one) - right) for one in (upper, lower)]
        return near[0] - near[1]

    def header_length(one: Any) -> float:
        return float(sum(len(name) + len(value) for name, value in one.headers.items()))

    def name_number(name: str) -> float:
        return int(name[:12], 16) / 16**12

    order = list(shown)
    return [
        len(upper.body) - len(lower.body), nearer(lambda one: len(one.body)),
        upper.seconds - lower.seconds, nearer(lambda one: one.seconds),
        header_length(upper) - header_length(lower), nearer(header_length),
        name_number(shown["upper"]) - name_number(shown["lower"]), float(shown["upper"] < shown["lower"]),
        name_number(shown["trial"]), float(int(shown["trial"][-1], 16)), shown["number"], shown["number"] % 2,
        float(order.index("upper") < order.index("lower")), len(json.dumps(shown)),
        float(any(shown["upper"] in names for names in shown["upcoming"])),
        float(any(shown["lower"] in names for names in shown["upcoming"])),
        len(shown["left"]) - len(shown["right"]),
    ]  # fmt: skip


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
    """Lengths of the files themselves would tell: the test above can fail."""
    for trial in seen:
        for reply in trial["pictures"].values():
            riff = int.from_bytes(reply.body[4:8], "little") + 8
            reply.headers["x-unpadded"] = "x" * (riff // 8)
    assert guess(seen) > 0.9
    for trial in seen:
        for reply in trial["pictures"].values():
            reply.headers.pop("x-unpadded", None)


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
