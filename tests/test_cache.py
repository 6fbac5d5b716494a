"""The cache gives back what was put into it, or nothing; whoever deletes, damages or shares it changes no result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark import cache as module
from benchmark.cache import FOLDER, VARIABLE, Cache, size_of
from benchmark.doctor import _cache
from benchmark.experiment import Experiment
from benchmark.hashing import hash_bytes
from benchmark.observers import create_observer, features
from benchmark.study import Study
from benchmark.workflow import build
from stimuli import image_store, pools

NAMES = [hash_bytes(str(number).encode()) for number in range(6)]


def filled(folder: Path) -> Cache:
    cache = Cache(folder)
    for start in (0, 3):
        rows = np.arange(6).reshape(3, 2) + 10 * start
        assert cache.add("kind", {"a": 1}, NAMES[start : start + 3], {"rows": rows, "one": rows[:, 0]}) == ""
    return cache


def test_rows_come_back_by_picture_from_all_entries_of_their_settings_alone(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    rows = cache.read("kind", {"a": 1})
    assert set(rows.index) == set(NAMES)
    assert rows.get("rows")[NAMES[4]].tolist() == [32, 33]
    assert rows.get("one")[NAMES[0]] == 0
    assert not cache.read("kind", {"a": 2}).index and not cache.read("other", {"a": 1}).index


def test_other_versions_of_what_computes_have_other_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(tmp_path)
    monkeypatch.setattr(module, "_versions", lambda: {"numpy": "another"})
    assert not cache.read("kind", {"a": 1}).index


@pytest.mark.parametrize("damage", ["a bit", "cut", "empty", "renamed", "no tensors"])
def test_a_damaged_entry_is_not_trusted_and_goes(damage: str, tmp_path: Path) -> None:
    cache = filled(tmp_path)
    first, second = sorted(tmp_path.rglob("*.safetensors"))
    content = bytearray(first.read_bytes())
    if damage == "a bit":
        content[-3] ^= 4
    elif damage == "cut":
        del content[-8:]
    elif damage == "empty":
        content.clear()
    elif damage == "no tensors":
        content = bytearray(b"text" * 20)
    else:
        content = bytearray(second.read_bytes())
    first.write_bytes(content)
    left = cache.read("kind", {"a": 1})
    assert len(left.index) == 3
    assert sorted(tmp_path.rglob("*.safetensors")) == [second]
    filled(tmp_path)
    assert len(cache.read("kind", {"a": 1}).index) == 6


def test_a_deleted_cache_is_empty_and_can_be_filled_again(tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert not cache.read("kind", {"a": 1}).index
    filled(tmp_path / "cache")
    assert len(cache.read("kind", {"a": 1}).index) == 6


def test_many_processes_share_a_cache(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom benchmark.cache import Cache\n"
        "from benchmark.hashing import hash_bytes\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        "for n in range(15):\n"
        "    name = hash_bytes(str((n, int(sys.argv[2]) if n % 3 else 0)).encode())\n"
        "    assert cache.add('kind', 1, [name], {'x': np.array([[n]])}) == ''\n"
        "    assert cache.read('kind', 1).get('x')[name].tolist() == [n]\n"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen([*command, str(number)], cwd=root) for number in range(3)]
    assert [process.wait(timeout=300) for process in running] == [0, 0, 0]
    assert len(Cache(tmp_path).read("kind", 1).index) == 3 * 10 + 5


def test_only_what_is_neither_known_nor_cached_is_computed_and_once(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    said: list[str] = []

    def compute(pictures: list[str]) -> np.ndarray:
        asked.append(pictures)
        return np.array([[NAMES.index(picture)] for picture in pictures])

    def complete(folder: Path | None, known: dict[str, np.ndarray], pictures: list[str]) -> tuple[bool, list[int]]:
        missing = Cache(folder).complete("kind", 1, known, pictures, compute, said.append)
        return missing, [int(known[picture][0]) for picture in pictures]

    own = {NAMES[0]: np.array([0])}
    assert complete(tmp_path / "cache", own, [NAMES[2], NAMES[0], NAMES[1], NAMES[2]]) == (True, [2, 0, 1, 2])
    assert list(own) == [NAMES[0], NAMES[2], NAMES[1]]
    assert complete(tmp_path / "cache", own, NAMES[:3]) == (False, [0, 1, 2])
    assert complete(tmp_path / "cache", {}, NAMES[:4]) == (True, [0, 1, 2, 3])
    assert complete(tmp_path / "cache", {}, NAMES[:4]) == (True, [0, 1, 2, 3])
    assert asked == [[NAMES[2], NAMES[1]], [NAMES[0], NAMES[3]]]
    assert complete(None, {}, NAMES[:2]) == (True, [0, 1])
    assert asked.pop() == NAMES[:2] and not said
    (tmp_path / "file").write_text("in the way")
    assert complete(tmp_path / "file", {}, NAMES[:2]) == (True, [0, 1])
    assert len(said) == 1 and said[0].startswith("Work on pictures could not be cached")


def test_the_cache_lies_beside_the_study_or_where_the_environment_says_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Cache.beside(tmp_path / "study").folder == tmp_path / FOLDER
    assert _cache().found.startswith(f"{tmp_path / FOLDER}, nothing yet")
    filled(tmp_path / FOLDER)
    assert size_of(tmp_path / FOLDER) > 0
    monkeypatch.setenv(VARIABLE, str(tmp_path / "elsewhere"))
    assert Cache.beside(tmp_path / "study").folder == tmp_path / "elsewhere"
    monkeypatch.setenv(VARIABLE, "off")
    off = Cache.beside(tmp_path / "study")
    assert off.folder is None and off.add("kind", 1, NAMES[:1], {"x": np.zeros(1)}) == ""
    assert not off.read("kind", 1).index
    assert (_cache().state, _cache().found) == ("note", "off (VIMI_CACHE=off)")


@pytest.mark.parametrize("name", ["lowlevel", "features:efficientnet_lite0"])
def test_what_an_observer_computed_for_one_study_another_study_does_not_compute_again(
    name: str, tiny_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tuple(tiny_study.stimuli()["picture"].unique()[:5])

    def embed(study: Study) -> np.ndarray:
        return create_observer(name, study, "cpu").embed(pictures)

    studies = []
    for number in range(3):
        folder = tmp_path / str(number)
        shutil.copytree(tiny_study.root, folder, ignore=shutil.ignore_patterns("embeddings", "activations"))
        studies.append(Study(folder))
    monkeypatch.setenv(VARIABLE, "off")
    expected = embed(studies[0])
    observer = create_observer(name, studies[0], "cpu")
    known = observer.weights_hash, observer.kinship
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    assert np.array_equal(embed(studies[1]), expected)
    shutil.rmtree(studies[2].root / "images")  # whoever looks at a picture again fails
    monkeypatch.setattr(features, "load_model", lambda *_, **__: pytest.fail("the network is not needed"))
    features._load_once.cache_clear()
    observer = create_observer(name, studies[2], "cpu")
    assert np.array_equal(observer.embed(pictures), expected)
    assert (observer.weights_hash, observer.kinship) == known


def test_a_study_is_the_same_with_no_cache_an_empty_one_a_warm_one_and_one_deleted_in_the_middle(
    tmp_path: Path, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment.model_validate(
        {
            "pool": {"source": f"folder:{picture_folder}", "crop": 48},
            "models": [{"card": "timm:test_resnet", "weights": "random"}],
            "units": {"per_model": 2},
            "stimuli": {"references": 2, "tasks": 2},
            "session": {"main_trials": 2, "catch_trials": 0},
        }
    )

    def made(name: str, cache: str, deleted: bool = False) -> list[object]:
        monkeypatch.setenv(VARIABLE, cache)
        root = tmp_path / name
        if deleted:
            build(experiment, root, device="cpu", stage="units")
            shutil.rmtree(cache)
        study = build(experiment, root, device="cpu")
        stages = study.manifest["stages"]
        return [study.stimuli_hash, *(stages[stage]["outputs"] for stage in sorted(stages))]

    cache = str(tmp_path / "cache")
    expected = made("none", "off")
    assert made("empty", cache) == expected
    decoded: list[int] = []
    whole = pools.FilePool.decode
    monkeypatch.setattr(
        pools.FilePool, "decode", lambda pool, content, place: (decoded.append(place), whole(pool, content, place))[1]
    )
    encoded: list[str] = []
    store = image_store.store_picture
    monkeypatch.setattr(
        image_store, "store_picture", lambda study, pixels: (encoded.append(name := store(study, pixels)), name)[1]
    )
    assert made("warm", cache) == expected
    assert not decoded  # the survey decoded nothing
    assert not encoded  # nor was any crop encoded
    assert made("deleted", cache, deleted=True) == expected
    assert encoded and [path.name for path in Path(cache).iterdir()] == ["pictures"]
    images = [sorted((path.name, path.read_bytes()) for path in (tmp_path / name / "images").rglob("*.webp"))
              for name in ("none", "empty", "warm", "deleted")]  # fmt: skip
    assert images[0] and all(own == images[0] for own in images)


@pytest.mark.parametrize("linked", [True, False])
def test_an_encoded_picture_comes_back_whole_or_not_at_all(
    linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not linked:

        def refuse(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(os, "link", refuse)
    cache, made = Cache(tmp_path / "cache"), tmp_path / "a" / "picture.webp"
    made.parent.mkdir()
    made.write_bytes(b"encoded")
    assert not cache.take_picture(NAMES[0], {"quality": 1}, tmp_path / "b" / "picture.webp")
    cache.keep_picture(NAMES[0], {"quality": 1}, made)
    assert cache.take_picture(NAMES[0], {"quality": 1}, tmp_path / "b" / "picture.webp")
    assert (tmp_path / "b" / "picture.webp").read_bytes() == b"encoded"
    assert not cache.take_picture(NAMES[0], {"quality": 2}, tmp_path / "c" / "picture.webp")
    assert not cache.take_picture(NAMES[1], {"quality": 1}, tmp_path / "c" / "picture.webp")
    assert size_of(tmp_path / "cache") == (0 if linked else len(b"encoded"))
    [entry] = (tmp_path / "cache").rglob("*.webp")
    entry.write_bytes(b"damaged")
    assert not cache.take_picture(NAMES[0], {"quality": 1}, tmp_path / "c" / "picture.webp")
    assert not entry.exists()
    off = Cache(None)
    off.keep_picture(NAMES[0], 1, made)
    assert not off.take_picture(NAMES[0], 1, tmp_path / "c" / "picture.webp")


def test_the_low_level_observer_reads_the_cache_once(tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = Cache.read
    monkeypatch.setattr(Cache, "read", lambda self, kind, settings: (reads.append(kind), read(self, kind, settings))[1])
    observer = create_observer("lowlevel", tiny_study, "cpu")
    pictures = tuple(tiny_study.stimuli()["picture"].unique()[:6])
    observer.embed(pictures[:3])
    observer.embed(pictures)
    assert reads == ["lowlevel"]
