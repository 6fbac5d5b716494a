"""One look at every picture: groups, exact copies, unreadable files, and going on after a kill."""

from __future__ import annotations

import io
import shutil
import tracemalloc
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageEnhance, ImageOps
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from benchmark.cache import Cache
from benchmark.errors import PoolError, UnreadablePicture
from benchmark.experiment import Experiment
from benchmark.hashing import hash_pixels
from benchmark.model_card import ModelCard
from benchmark.model_zoo import Model, load_model
from benchmark.progress import Reporter
from benchmark.study import Study
from stimuli import survey as module
from stimuli.building import Builder
from stimuli.bundled import PHOTOGRAPHS, photograph
from stimuli.near_duplicates import (
    ALIKE,
    FEW,
    NEAR_BITS,
    SAME,
    Thresholds,
    find_thresholds,
    join_groups,
    near_duplicates,
    perceptual_hash,
)
from stimuli.pictures import canonical_crop, decode, to_pixels
from stimuli.planted import scores
from stimuli.pools import Entry, Pool
from stimuli.survey import Survey, survey_pool
from tests.conftest import paint_picture, write_pictures


class StoredPool(Pool):
    """Pictures in memory; None stands for a file that can't be read. It remembers what was looked at."""

    name = "stored"

    def __init__(self, pictures: Sequence[Image.Image | None], groups: Sequence[str | None] | None = None) -> None:
        self.pictures = list(pictures)
        self.entries = [
            Entry(f"{place:03d}.png", group=groups[place] if groups else str(place)) for place in range(len(pictures))
        ]
        self.seen: list[int] = []

    def original(self, place: int) -> Image.Image:
        self.seen.append(place)
        picture = self.pictures[place]
        return picture if picture is not None else decode(b"broken", self.entries[place].source)


@pytest.fixture(autouse=True)
def embedder_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_model", lambda card, device: load_once(card))


@lru_cache
def load_once(card: ModelCard) -> Model:
    return load_model(card)


def painted(count: int) -> list[Image.Image | None]:
    return [Image.fromarray(paint_picture(number)) for number in range(count)]


def same(first: Survey, second: Survey) -> bool:
    return (
        first.hash == second.hash
        and np.array_equal(first.places, second.places)
        and np.array_equal(first.planted, second.planted)
        and (first.unreadable, first.copies) == (second.unreadable, second.copies)
    )


# -------------------------------------------------------------------- what a survey knows


def test_a_survey_knows_hash_size_and_planted_activations_of_every_picture(tmp_path: Path) -> None:
    pictures = painted(5)
    found = survey_pool(StoredPool(pictures), tmp_path / "survey", crop=48)
    crops = [canonical_crop(picture, 48) for picture in pictures]
    assert found.table["picture"].tolist() == [hash_pixels(to_pixels(crop)) for crop in crops]
    assert found.table["perceptual_hash"].tolist() == [perceptual_hash(crop) for crop in crops]
    assert np.array_equal(found.planted, np.stack([scores(crop) for crop in crops]))
    assert set(zip(found.table["width"], found.table["height"])) == {(56, 48)}
    assert found.places.tolist() == list(range(5))
    assert not found.has_labels
    assert not (tmp_path / "survey").exists()


def test_exact_copies_are_left_out_and_counted_and_the_first_stays(tmp_path: Path) -> None:
    first, second, third = painted(3)
    found = survey_pool(StoredPool([first, second, first, third, second, first]), tmp_path / "survey", crop=48)
    assert found.table["source"].tolist() == ["000.png", "001.png", "003.png"]
    assert found.places.tolist() == [0, 1, 3]
    assert (found.copies, found.facts()["exact_copies_left_out"]) == (3, 3)


def test_progress_counts_every_picture_once(tmp_path: Path) -> None:
    counted: list[int] = []
    survey_pool(
        StoredPool([*painted(4), None]), tmp_path / "survey", crop=48, skip_unreadable=True, progress=counted.append
    )
    assert sum(counted) == 5


# -------------------------------------------------------------------- the cache


class FiledPool(StoredPool):
    """Pictures that are files, so that they are known again by their bytes."""

    def __init__(self, pictures: Sequence[Image.Image], groups: Sequence[str | None] | None = None) -> None:
        super().__init__(pictures, groups)
        self.files = [encode(picture) for picture in pictures]

    def content(self, place: int) -> bytes:
        return self.files[place]

    def decode(self, content: bytes, place: int) -> Image.Image:
        self.seen.append(place)
        return super().decode(content, place)


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def filed(count: int) -> FiledPool:
    return FiledPool([Image.fromarray(paint_picture(number)) for number in range(count)], [None] * count)


def test_a_survey_is_the_same_with_an_empty_a_warm_a_damaged_and_a_deleted_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 8)
    cache = Cache(tmp_path / "cache")
    without = survey_pool(filed(20), tmp_path / "survey", crop=48)

    def again(pool: FiledPool) -> list[int]:
        found = survey_pool(pool, tmp_path / "survey", crop=48, cache=cache)
        assert same(found, without)
        assert not (tmp_path / "survey").exists()
        return sorted(pool.seen)

    assert again(filed(20)) == list(range(20))  # empty
    assert again(filed(20)) == []  # warm
    entries = sorted(cache.folder.rglob("*.safetensors"))
    assert len(entries) == 3
    content = bytearray(entries[0].read_bytes())
    content[-40] ^= 1
    entries[0].write_bytes(content)
    entries[1].write_bytes(b"no tensors")
    recomputed = again(filed(20))  # damaged: those entries are recomputed, not trusted
    assert 8 <= len(recomputed) <= 16 and again(filed(20)) == []
    for path in cache.folder.rglob("*.safetensors"):
        path.unlink()
    assert again(filed(20)) == list(range(20))

    class Deleting(FiledPool):
        def decode(self, content: bytes, place: int) -> Image.Image:
            shutil.rmtree(cache.folder, ignore_errors=True)
            return super().decode(content, place)

    pool = filed(20)
    assert again(Deleting(pool.pictures, [None] * 20)) == []  # warm: nothing decoded, so nothing deleted
    shutil.rmtree(cache.folder)
    again(Deleting(pool.pictures, [None] * 20))  # deleted over and over, in the middle


def test_a_file_of_the_same_name_and_other_content_is_looked_at_anew(tmp_path: Path) -> None:
    cache, pool = Cache(tmp_path / "cache"), filed(6)
    survey_pool(filed(6), tmp_path / "survey", crop=48, cache=cache)
    pool.files[2] = encode(Image.fromarray(paint_picture(99)))
    found = survey_pool(pool, tmp_path / "survey", crop=48, cache=cache)
    assert pool.seen == [2]
    crop = canonical_crop(Image.fromarray(paint_picture(99)), 48)
    assert found.table["picture"][2] == hash_pixels(to_pixels(crop))


def test_another_crop_is_another_work(tmp_path: Path) -> None:
    cache, pool = Cache(tmp_path / "cache"), filed(4)
    survey_pool(filed(4), tmp_path / "survey", crop=48, cache=cache)
    survey_pool(pool, tmp_path / "survey", crop=40, cache=cache)
    assert sorted(pool.seen) == list(range(4))


def test_a_cache_that_cannot_be_written_is_said_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    found = survey_pool(filed(4), tmp_path / "survey", crop=48, cache=Cache(tmp_path / "cache"))
    assert same(found, survey_pool(filed(4), tmp_path / "survey", crop=48))
    assert any("could not be cached" in notice for notice in found.notices())


# -------------------------------------------------------------------- groups


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return decode(buffer.getvalue(), "copy")


COPIES = {
    "recompressed": recompressed,
    "resized": lambda image: image.resize((image.width * 2 // 3, image.height * 2 // 3)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "mirrored": ImageOps.mirror,
    "cropped": lambda image: image.crop(
        (image.width // 40, image.height // 40, image.width * 39 // 40, image.height * 39 // 40)
    ),
}
NAMES = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg", "camera.png"]


def test_altered_copies_of_a_photograph_are_one_group_and_photographs_never_are(tmp_path: Path) -> None:
    pictures = [alter(photograph(name)) for name in NAMES for alter in (lambda image: image, *COPIES.values())]
    pictures += [photograph(name) for name in PHOTOGRAPHS if name not in NAMES]
    pool = StoredPool(pictures, [None] * len(pictures))
    found = survey_pool(pool, tmp_path / "survey", crop=224).table
    assert len(found) == len(pictures)
    groups = found["group"].to_numpy()[: len(NAMES) * (1 + len(COPIES))].reshape(len(NAMES), -1)
    assert len(set(groups[:, 0])) == len(NAMES)
    assert not set(groups.ravel()) & set(found["group"][groups.size :])
    assert found["group"][groups.size :].is_unique
    wrong = [(NAMES[row], [*COPIES][column]) for row, column in np.argwhere(groups[:, 1:] != groups[:, :1])]
    assert not wrong


def test_groups_that_the_pool_declares_are_kept_and_need_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_model", None)
    found = survey_pool(StoredPool(painted(6), ["a", "b", "a", "c", "b", "a"]), tmp_path / "survey", crop=48)
    assert found.table["group"].tolist() == ["a", "b", "a", "c", "b", "a"]
    assert found.facts()["groups"] == 3
    assert found.facts()["share_in_shared_groups"] == pytest.approx(5 / 6, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(data=some.data(), count=some.integers(1, 24), block=some.integers(1, 30))
def test_near_duplicates_are_all_pairs_that_the_rule_names_whatever_the_block(
    data: some.DataObject, count: int, block: int
) -> None:
    seeds = data.draw(arrays.arrays(np.int64, 3, elements=some.integers(-(2**63), 2**63 - 1)))
    flips = data.draw(arrays.arrays(np.uint64, count, elements=some.integers(0, 2**14 - 1)))
    chosen = data.draw(arrays.arrays(np.int64, count, elements=some.integers(0, 2)))
    hashes = (seeds[chosen].view(np.uint64) ^ flips).view(np.int64)
    generator = np.random.default_rng(data.draw(some.integers(0, 99)))
    features = generator.normal(size=(3, 8))[chosen] + 0.6 * generator.normal(size=(count, 8))
    embeddings = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    limits = Thresholds(near_bits=data.draw(some.sampled_from([NEAR_BITS, 6])), certain_bits=1, alike=0.6, same=SAME)
    expected = []
    for first in range(count):
        for second in range(first + 1, count):
            apart = bin(int(hashes[first]) & (2**64 - 1) ^ int(hashes[second]) & (2**64 - 1)).count("1")
            alike = float(embeddings[first] @ embeddings[second])
            if min(abs(alike - ALIKE), abs(alike - SAME), abs(alike - limits.alike)) < 1e-5:
                return
            near = (apart <= limits.near_bits and alike >= limits.alike) or (apart <= 1 and alike >= ALIKE)
            if near or alike >= SAME:
                expected.append((first, second))
    found = near_duplicates(hashes, embeddings, limits, block=block)
    assert found.tolist() == components(count, expected)


def components(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Return the first member of each one's connected component."""
    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1].tolist()
    return [labels.index(label) for label in labels]


@settings(max_examples=150, deadline=None)
@given(data=some.data(), count=some.integers(1, 15))
def test_groups_are_the_connected_components_of_near_duplicates_and_declared_groups(
    data: some.DataObject, count: int
) -> None:
    member = some.integers(0, count - 1)
    pairs = data.draw(some.lists(some.tuples(member, member), max_size=12))
    declared = data.draw(some.lists(some.sampled_from([None, None, "a", "b", "c"]), min_size=count, max_size=count))
    links = pairs + [
        (a, b) for a in range(count) for b in range(a) if declared[a] is not None and declared[a] == declared[b]
    ]
    groups = join_groups(np.array(components(count, pairs)), declared)
    leaders = components(count, links)
    assert groups == [declared[leader] or f"#{leader}" for leader in leaders]


def uniform_pool(count: int, features: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes and embeddings of pictures that are much alike: cosines around .95, hashes 16 bits apart."""
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=features) * 4.4 + generator.normal(size=(count, features))
    bits = (generator.random(64) < 0.5) ^ (generator.random((count, 64)) < 0.14)
    hashes = np.packbits(bits, axis=1).view(">i8").ravel().astype(np.int64)
    return hashes, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def test_pictures_of_a_uniform_pool_are_not_one_group_and_copies_among_them_are_found() -> None:
    hashes, embeddings = uniform_pool(300)
    fixed = near_duplicates(hashes, embeddings, Thresholds())
    assert len(set(fixed.tolist())) == 1  # as with thresholds for varied photographs
    copies = embeddings[:20].astype(np.float32) + 0.0005 * np.random.default_rng(1).normal(size=(20, 32))
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    both, codes = np.concatenate([embeddings, copies.astype(np.float16)]), np.concatenate([hashes, hashes[:20]])
    limits = find_thresholds(codes, both)
    assert limits.adapted and limits.same > SAME and limits.near_bits < NEAR_BITS
    groups = near_duplicates(codes, both, limits)
    assert groups[300:].tolist() == list(range(20))
    assert len(set(groups[:300].tolist())) > 290


def test_few_pictures_and_varied_ones_have_the_fixed_thresholds() -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(-(2**62), 2**62, size=400)
    vectors = generator.normal(size=(400, 64))
    embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    limits = find_thresholds(hashes, embeddings)
    assert (limits.near_bits, limits.alike, limits.same, limits.adapted) == (NEAR_BITS, ALIKE, SAME, False)
    few, alike = uniform_pool(FEW - 1)
    assert not find_thresholds(few, alike).adapted


def test_thousands_of_alike_pictures_are_joined_without_a_list_of_pairs() -> None:
    hashes, embeddings = np.zeros(4000, np.int64), np.ones((4000, 8), np.float16) / np.float16(np.sqrt(8))
    tracemalloc.start()
    groups = near_duplicates(hashes, embeddings, Thresholds(), block=512)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(groups.tolist()) == {0}
    assert most < 2**25


def test_groups_that_cover_much_of_a_pool_are_said(tmp_path: Path) -> None:
    pictures = [photograph(NAMES[n // 4]).rotate(n % 4 * 0.2) for n in range(12)]
    found = survey_pool(StoredPool(pictures, [None] * 12), tmp_path / "survey", crop=224)
    assert found.facts()["groups"] == 3
    assert any("100% of the pictures have near-duplicates" in notice for notice in found.notices())


def test_perceptual_hashes_hardly_move_with_brightness_and_far_with_content() -> None:
    def apart(first: int, second: int) -> int:
        return bin((first ^ second) & (2**64 - 1)).count("1")

    hashes = [perceptual_hash(photograph(name)) for name in NAMES]
    for name, own in zip(NAMES, hashes):
        assert apart(own, perceptual_hash(ImageEnhance.Brightness(photograph(name)).enhance(0.8))) <= NEAR_BITS
    assert min(apart(a, b) for n, a in enumerate(hashes) for b in hashes[:n]) > NEAR_BITS


# -------------------------------------------------------------------- files that can't be read


def test_the_first_unreadable_file_stops_the_survey_by_name(tmp_path: Path) -> None:
    pictures = painted(8)
    pictures[3] = pictures[6] = None
    with pytest.raises(UnreadablePicture, match=r"003\.png.*--skip-unreadable"):
        survey_pool(StoredPool(pictures), tmp_path / "survey", crop=48)


def test_unreadable_files_are_skipped_on_request_counted_and_named(tmp_path: Path) -> None:
    pictures = painted(8)
    pictures[0] = pictures[6] = None
    found = survey_pool(StoredPool(pictures), tmp_path / "survey", crop=48, skip_unreadable=True)
    assert found.table["source"].tolist() == ["001.png", "002.png", "003.png", "004.png", "005.png", "007.png"]
    assert found.places.tolist() == [1, 2, 3, 4, 5, 7]
    assert [name for name, _ in found.unreadable] == ["000.png", "006.png"]
    assert all("no picture" in reason for _, reason in found.unreadable)
    facts = found.facts()
    assert (facts["size"], facts["unreadable_skipped"], facts["unreadable"]) == (6, 2, ["000.png", "006.png"])


def test_skipped_files_stand_in_the_manifest(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pool", 40)
    (folder / "0007.png").write_bytes(b"not a picture")
    whole = (folder / "0011.png").read_bytes()
    (folder / "0011.png").write_bytes(whole[: len(whole) // 2])
    experiment = Experiment.model_validate(
        {
            "pool": {"source": f"folder:{folder}", "crop": 48},
            "models": [{"card": "timm:test_resnet", "weights": "random"}],
            "units": {"per_model": 2},
            "stimuli": {"references": 2, "tasks": 2},
        }
    )
    study = Study.create(tmp_path / "study", experiment)
    with pytest.raises(UnreadablePicture, match=r"0007\.png"):
        Builder(study, "cpu", False, Reporter()).run("units")
    Builder(study, "cpu", True, Reporter()).run("units")
    facts = study.manifest["pool"]
    assert (facts["size"], facts["unreadable_skipped"]) == (38, 2)
    assert facts["unreadable"] == ["0007.png", "0011.png"]
    assert not set(facts["unreadable"]) & set(study.pool()["source"])


def test_a_pool_without_any_readable_picture_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"no readable picture.*000\.png.*no picture"):
        survey_pool(StoredPool([None] * 3), tmp_path / "survey", crop=48, skip_unreadable=True)


@pytest.mark.parametrize("groups", ["declared", "found"])
def test_a_shard_without_any_readable_picture_does_no_harm(
    groups: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 3)
    readable = [photograph(name) for name in NAMES[:4]]
    pool = StoredPool([None, None, None, *readable], [None] * 7 if groups == "found" else None)
    found = survey_pool(pool, tmp_path / "survey", crop=48, skip_unreadable=True)
    assert found.places.tolist() == [3, 4, 5, 6]
    assert found.table["group"].nunique() == 4


# -------------------------------------------------------------------- going on


class Killed(BaseException):
    """Stands for whatever ends a process."""


class KilledPool(StoredPool):
    """A pool whose process ends when it looks at a picture."""

    def __init__(self, pictures: Sequence[Image.Image | None], last: int) -> None:
        super().__init__(pictures)
        self.last = last

    def original(self, place: int) -> Image.Image:
        if place == self.last:
            raise Killed
        return super().original(place)


@pytest.mark.parametrize("last", [0, 4, 9, 12, 18])
def test_a_killed_survey_goes_on_behind_its_last_shard(
    last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 5)
    pictures = painted(19)
    pictures[11] = pictures[2]  # a copy in another shard
    expected = survey_pool(StoredPool(pictures), tmp_path / "whole", crop=48)
    with pytest.raises(Killed):
        survey_pool(KilledPool(pictures, last), tmp_path / "killed", crop=48)
    (tmp_path / "killed").mkdir(exist_ok=True)
    (tmp_path / "killed" / ".000009.safetensors.half.tmp").write_bytes(b"what a kill within a write leaves behind")
    pool = StoredPool(pictures)
    assert same(survey_pool(pool, tmp_path / "killed", crop=48), expected)
    assert min(pool.seen) == last // 5 * 5
    assert not (tmp_path / "killed").exists()


def test_a_damaged_or_a_strangers_shard_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 5)
    pictures = painted(15)
    expected = survey_pool(StoredPool(pictures), tmp_path / "whole", crop=48)
    with pytest.raises(Killed):
        survey_pool(KilledPool(pictures, 14), tmp_path / "killed", crop=40)
    shards = sorted((tmp_path / "killed").glob("*.safetensors"))
    assert len(shards) == 2
    pool = StoredPool(pictures)
    assert same(survey_pool(pool, tmp_path / "killed", crop=48), expected)
    assert sorted(pool.seen) == list(range(15))

    with pytest.raises(Killed):
        survey_pool(KilledPool(pictures, 14), tmp_path / "killed", crop=48)
    shards[0].write_bytes(shards[0].read_bytes()[:100])
    pool = StoredPool(pictures)
    assert same(survey_pool(pool, tmp_path / "killed", crop=48), expected)
    assert sorted(pool.seen) == [*range(5), *range(10, 15)]


def test_asking_to_skip_after_an_unreadable_file_stopped_the_survey_loses_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 5)
    pictures = painted(15)
    pictures[12] = None
    with pytest.raises(UnreadablePicture):
        survey_pool(StoredPool(pictures), tmp_path / "survey", crop=48)
    pool = StoredPool(pictures)
    found = survey_pool(pool, tmp_path / "survey", crop=48, skip_unreadable=True)
    assert len(found.table) == 14
    assert min(pool.seen) == 10


def test_a_file_that_was_skipped_once_is_an_error_when_it_is_not_to_be_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 5)
    pictures = painted(15)
    pictures[2] = None
    with pytest.raises(Killed):
        survey_pool(KilledPool(pictures, 14), tmp_path / "survey", crop=48, skip_unreadable=True)
    with pytest.raises(UnreadablePicture, match=r"002\.png"):
        survey_pool(StoredPool(pictures), tmp_path / "survey", crop=48)


def test_the_same_pictures_give_the_same_survey_whatever_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [*painted(10), None, *painted(3)]
    found = []
    for size in (3, 7, 100):
        monkeypatch.setattr(module, "SHARD", size)
        found.append(survey_pool(StoredPool(pictures), tmp_path / str(size), crop=48, skip_unreadable=True))
    assert same(found[0], found[1]) and same(found[1], found[2])
    assert found[0].copies == 3
