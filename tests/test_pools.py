"""Pools list their pictures in one order, whatever they are kept in, and say plainly what is wrong with them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data_sets import SPELLINGS, data_set_name
from benchmark.errors import NameNotFound, PoolError, UnreadablePicture
from benchmark.hashing import hash_pixels
from benchmark.model_card import TrainingSpec
from benchmark.model_sources import load_card
from stimuli import pools
from stimuli.bundled import CROPS, PHOTOGRAPHS, crop_boxes, photograph
from stimuli.pictures import canonical_crop, to_pixels
from stimuli.pool_sources import open_pool
from stimuli.pools import Pool
from tests.conftest import CLASSES, paint_picture, write_pictures


def sources(pool: Pool) -> list[str]:
    return [entry.source for entry in pool.entries]


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(paint_picture(number)).save(buffer, "PNG")
    return buffer.getvalue()


# -------------------------------------------------------------------- folders


def test_a_folder_is_listed_in_order_of_its_paths_with_subfolders(picture_folder: Path, tmp_path: Path) -> None:
    for name in ("b.png", "a/z.png", "a/b/c.png", "B.png", "no suffix"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(paint_picture(len(name))).save(tmp_path / name, "PNG")
    pool = open_pool(f"folder:{tmp_path}")
    assert sources(pool) == ["B.png", "a/b/c.png", "a/z.png", "b.png", "no suffix"]
    assert len(open_pool(f"folder:{picture_folder}")) == 60


def test_a_picture_is_decoded_by_its_place(picture_folder: Path) -> None:
    pool = open_pool(f"folder:{picture_folder}")
    for place in (0, 17, 59):
        assert np.array_equal(to_pixels(pool.original(place)), paint_picture(place))


def test_hidden_files_and_what_systems_leave_behind_are_no_pictures(tmp_path: Path) -> None:
    Image.fromarray(paint_picture(0)).save(tmp_path / "one.png")
    (tmp_path / ".hidden").mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden/two.png"):
        (tmp_path / name).write_bytes(b"x")
    assert sources(open_pool(f"folder:{tmp_path}")) == ["one.png"]


def test_a_file_that_is_no_picture_is_named_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("hello")
    with pytest.raises(UnreadablePicture, match=str(tmp_path / "notes.jpg")):
        open_pool(f"folder:{tmp_path}").original(0)


@pytest.mark.parametrize("kind", ["folder", "imagenet"])
def test_a_missing_folder_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"nowhere does not exist"):
        open_pool(f"{kind}:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("kind", ["folder", "imagenet"])
def test_an_empty_folder_is_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "n01").mkdir()
    with pytest.raises(PoolError, match=f"{tmp_path} is empty"):
        open_pool(f"{kind}:{tmp_path}")


@pytest.mark.parametrize("kind", ["folder", "imagenet"])
def test_a_file_in_place_of_a_folder_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png(0))
    with pytest.raises(PoolError, match=r"picture\.png is a file; give a folder"):
        open_pool(f"{kind}:{path}")


@pytest.mark.parametrize("kind", ["folder", "imagenet", "webdataset"])
def test_a_kind_without_its_path_asks_for_it(kind: str) -> None:
    with pytest.raises(PoolError, match=f"{kind}:.+"):
        open_pool(kind)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("fodler:somewhere", "folder"),
        ("imagenets:x", "imagenet"),
        ("Bundled", "bundled"),
        ("webdatset:x", "webdataset"),
    ],
)
def test_an_unknown_kind_of_pool_suggests_the_near_one(wrong: str, near: str) -> None:
    with pytest.raises(NameNotFound, match=f"Did you mean .*'{near}'") as caught:
        open_pool(wrong)
    assert f"'{wrong.partition(':')[0]}'" in str(caught.value)


def test_what_lies_beside_pictures_does_not_disturb_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.PNG").write_bytes(png(0))
    (tmp_path / "no ending").write_bytes(png(1))
    (tmp_path / "strange.dat").write_bytes(png(2))
    for name in ("README.txt", "labels.csv", "empty", "._one.png"):
        (tmp_path / name).write_bytes(b"" if name == "empty" else b"some text")
    pool = open_pool(f"folder:{tmp_path}")
    assert sources(pool) == ["no ending", "one.PNG", "strange.dat"]
    assert pool.left_out == {pools.BESIDE: ["README.txt", "empty", "labels.csv"], pools.HIDDEN: ["._one.png"]}
    assert pool.notices() == [
        "Left out of the pool, 1 hidden files and folders: ._one.png.",
        "Left out of the pool, 3 no pictures: README.txt, empty, labels.csv.",
    ]


def test_a_zero_byte_picture_belongs_to_the_pool_and_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UnreadablePicture, match=r"a\.jpg"):
        open_pool(f"folder:{tmp_path}").original(0)


def test_links_are_followed_loops_cut_and_dangling_ones_named(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "pool"
    for folder in (elsewhere, root / "real"):
        folder.mkdir(parents=True)
    for number, path in enumerate((elsewhere / "a.png", elsewhere / "b.png", root / "real" / "c.png")):
        path.write_bytes(png(number))
    (root / "linked").symlink_to(elsewhere, target_is_directory=True)
    (root / "again").symlink_to(elsewhere, target_is_directory=True)
    (root / "real" / "up").symlink_to(root, target_is_directory=True)
    (root / "real" / "file.png").symlink_to(elsewhere / "a.png")
    (root / "gone").symlink_to(tmp_path / "nowhere")
    (root / "real" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "real" / "round").symlink_to(root / "real" / "round")
    os.mkfifo(root / "real" / "pipe.png")
    pool = open_pool(f"imagefolder:{root}")
    assert sources(pool) == [
        "again/a.png",
        "again/b.png",
        "linked/a.png",
        "linked/b.png",
        "real/c.png",
        "real/file.png",
    ]
    assert [entry.label for entry in pool.entries] == ["again"] * 2 + ["linked"] * 2 + ["real"] * 2
    assert pool.left_out == {
        pools.DANGLING: ["gone", "real/gone.png", "real/round"],
        pools.LOOPS: ["real/up"],
        pools.SPECIAL: ["real/pipe.png"],
    }
    assert np.array_equal(to_pixels(pool.original(5)), paint_picture(0))


def test_a_folder_that_may_not_be_read_is_an_error_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shut").mkdir()
    scan = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PoolError, match=r"shut of the pool can't be read: Permission denied"):
        open_pool(f"folder:{tmp_path}")


def test_names_that_are_not_utf8_are_spelled_and_their_pictures_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    for path in (tmp_path / name, folder / "a.png"):
        path.write_bytes(png(3))
    (tmp_path / os.fsdecode(b"bad\xfe.jpg")).write_bytes(b"no picture")
    pool = open_pool(f"folder:{tmp_path}")
    assert sources(pool) == ["\\xff/a.png", "bad\\xfe.jpg", "caf\\xe9.png"]
    assert np.array_equal(to_pixels(pool.original(2)), paint_picture(3))
    with pytest.raises(UnreadablePicture, match=r"bad\\xfe\.jpg can't be read"):
        pool.original(1)


def test_two_names_that_would_be_spelled_alike_are_refused(tmp_path: Path) -> None:
    for name in (os.fsdecode(b"a\xff.png"), "a\\xff.png"):
        (tmp_path / name).write_bytes(png(0))
    with pytest.raises(PoolError, match="two files that would both be called"):
        open_pool(f"folder:{tmp_path}")


def test_names_that_differ_in_case_alone_are_two_pictures(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "A.png", "a.PNG")):
        (tmp_path / name).write_bytes(png(number))
    assert sources(open_pool(f"folder:{tmp_path}")) == ["A.png", "a.PNG", "a.png"]


# -------------------------------------------------------------------- labelled folders and data sets


@pytest.mark.parametrize("spelled", ["cifar10", "CIFAR-10", "cifar_10", "Cifar 10"])
def test_a_labelled_folder_has_the_data_set_that_it_is_given_in_one_spelling(spelled: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "0.png").write_bytes(png(0))
    saw = load_card("efficientnet_lite0").model_copy(update={"training": TrainingSpec(data=("CIFAR10",), images=9)})
    held_out = open_pool(f"imagefolder:{tmp_path}", spelled)
    assert (held_out.name, held_out.data_set, held_out.split) == ("cifar-10", "cifar-10", "val")
    assert held_out.seen_by(saw) == "unseen"
    assert open_pool(f"imagefolder:{tmp_path / 'train'}", spelled).seen_by(saw) == "seen"
    assert open_pool(f"imagefolder:{tmp_path / 'train'}", spelled, "val").seen_by(saw) == "unseen"
    unnamed = open_pool(f"imagefolder:{tmp_path}")
    assert (unnamed.name, unnamed.seen_by(saw)) == ("imagefolder", "unknown")
    assert open_pool(f"folder:{tmp_path}", spelled).name == "cifar-10"


def test_imagenet_over_other_classes_is_a_labelled_folder_and_that_is_said(labelled_folder: Path) -> None:
    pool = open_pool(f"imagenet:{labelled_folder}")
    assert (pool.name, pool.data_set) == ("imagefolder", "")
    assert pool.seen_by(load_card("efficientnet_lite0")) == "unknown"
    (said,) = pool.notices()
    assert "is not ImageNet-1k" in said and "imagefolder:PATH" in said and "class0" in said
    assert {entry.label for entry in pool.entries} == {f"class{n}" for n in range(CLASSES)}


def test_a_pool_that_says_itself_what_it_is_takes_no_other_data_set(tmp_path: Path) -> None:
    (tmp_path / SYNSETS[0]).mkdir()
    (tmp_path / SYNSETS[0] / "0.png").write_bytes(png(0))
    assert open_pool(f"imagenet:{tmp_path}", "in1k").data_set == "imagenet-1k"
    with pytest.raises(PoolError, match=r"can't be called 'cifar-10'"):
        open_pool(f"imagenet:{tmp_path}", "cifar-10")


def test_every_spelling_of_a_data_set_leads_to_one_name_and_names_lead_to_themselves() -> None:
    assert all(data_set_name(other) == name for name, others in SPELLINGS.items() for other in (name, *others))
    assert data_set_name(" My Own Set ") == "My Own Set"
    assert load_card("efficientnet_lite0").training.data == ("imagenet-1k",)


# -------------------------------------------------------------------- ImageNet's layout

SYNSETS = ("n01440764", "n01443537")


def test_class_folders_are_labels(labelled_folder: Path) -> None:
    pool = open_pool(f"imagenet:{labelled_folder}")
    assert Counter(entry.label for entry in pool.entries) == {f"class{n}": 60 // CLASSES for n in range(CLASSES)}
    assert all(entry.source.startswith(f"{entry.label}/") for entry in pool.entries)
    assert sources(pool) == sorted(sources(pool))


def test_the_held_out_split_is_preferred(tmp_path: Path) -> None:
    for split, classes in (("train", SYNSETS), ("val", SYNSETS[:1])):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0.png").write_bytes(png(0))
    assert sources(open_pool(f"imagenet:{tmp_path}")) == [f"{SYNSETS[0]}/0.png"]
    assert len(open_pool(f"imagenet:{tmp_path / 'train'}")) == 2


def test_whether_a_model_saw_the_pool_follows_from_split_and_training_data(tmp_path: Path) -> None:
    for split in ("train", "val", "other"):
        (tmp_path / split / SYNSETS[0]).mkdir(parents=True)
        (tmp_path / split / SYNSETS[0] / "0.png").write_bytes(png(0))
    supervised, clip = load_card("efficientnet_lite0"), load_card("clip_resnet50")
    twin = supervised.as_twin()
    opened = {split: open_pool(f"imagenet:{tmp_path / split}") for split in ("train", "val", "other")}
    assert [opened[split].seen_by(supervised) for split in opened] == ["seen", "unseen", "unknown"]
    assert {opened[split].seen_by(clip) for split in opened} == {"unknown"}
    assert {opened[split].seen_by(twin) for split in opened} == {"unseen"}
    assert open_pool(f"folder:{tmp_path / 'train'}").seen_by(supervised) == "unknown"


def test_loose_pictures_beside_class_folders_are_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / "0.png").write_bytes(png(0))
    (tmp_path / "stray.png").write_bytes(png(1))
    with pytest.raises(PoolError, match=r"stray\.png.*folder:PATH"):
        open_pool(f"imagenet:{tmp_path}")


# -------------------------------------------------------------------- WebDataset


def test_shards_give_pictures_with_the_labels_of_their_neighbours(tmp_path: Path) -> None:
    for shard in range(3):
        members = {}
        for number in range(4):
            members[f"{number:04d}.png"] = png(10 * shard + number)
            members[f"{number:04d}.cls"] = str(number % 2).encode()
        write_shard(tmp_path / f"part-{shard:03d}.tar", {**members, "notes.json": b"{}"})
    pool = open_pool(f"webdataset:{tmp_path}/part-{{000..002}}.tar")
    assert sources(pool) == [f"part-{shard:03d}.tar/{number:04d}.png" for shard in range(3) for number in range(4)]
    assert [entry.label for entry in pool.entries] == ["0", "1"] * 6
    for place, number in ((0, 0), (6, 12), (11, 23)):
        assert np.array_equal(to_pixels(pool.original(place)), paint_picture(number))


def test_shards_in_any_order_give_the_same_pool(tmp_path: Path) -> None:
    paths = [write_shard(tmp_path / f"{n}.tar", {f"a{n}.png": png(n), f"b{n}.png": png(n + 5)}) for n in range(3)]
    forward = open_pool("webdataset:" + ",".join(map(str, paths)))
    backward = open_pool("webdataset:" + ",".join(map(str, reversed(paths))))
    assert sources(forward) == sources(backward)
    for place in range(6):
        assert np.array_equal(to_pixels(forward.original(place)), to_pixels(backward.original(place)))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", {"a.png": png(0)})
    with pytest.raises(PoolError, match=r"1\.tar does not exist"):
        open_pool(f"webdataset:{tmp_path}/{{0..1}}.tar")


def test_a_shard_that_is_truncated_compressed_or_no_tar_is_named(tmp_path: Path) -> None:
    whole = write_shard(tmp_path / "whole.tar", {"a.png": png(0), "b.png": png(1)}).read_bytes()
    (tmp_path / "half.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tar").write_text("no tar " * 200)
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(tmp_path / "whole.tar", "a.png")
    for name in ("half.tar", "text.tar", "packed.tar"):
        with pytest.raises(PoolError, match=f"{name} is not a readable, uncompressed tar"):
            open_pool(f"webdataset:{tmp_path / name}")


def test_shards_without_a_picture_are_an_empty_pool(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "texts.tar", {"a.txt": b"hello"})
    with pytest.raises(PoolError, match="is empty"):
        open_pool(f"webdataset:{path}")


def test_a_broken_picture_in_a_shard_is_named_with_its_shard(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.tar", {"a.png": png(0)[:200]})
    with pytest.raises(UnreadablePicture, match=r"a\.png.*0\.tar"):
        open_pool(f"webdataset:{path}").original(0)


def test_two_pictures_of_one_name_are_refused_because_sources_name_pictures(tmp_path: Path) -> None:
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        write_shard(tmp_path / folder / "0.tar", {"a.png": png(number)})
    with pytest.raises(PoolError, match=r"0\.tar/a\.png"):
        open_pool(f"webdataset:{tmp_path}/one/0.tar,{tmp_path}/two/0.tar")


def test_a_sample_is_one_picture_and_masks_and_shadows_are_named(tmp_path: Path) -> None:
    members = {"a.jpg": png(0), "a.seg.png": png(1), "._a.jpg": b"shadow", "a.cls": b"7", "a.txt": b"a caption",
               "__MACOSX/a.jpg": b"shadow", "b.left.png": png(2), "b.right.png": png(3),
               "sub/c.image.jpg": png(4)}  # fmt: skip
    pool = open_pool(f"webdataset:{write_shard(tmp_path / '0.tar', members)}")
    assert sources(pool) == ["0.tar/a.jpg", "0.tar/b.left.png", "0.tar/sub/c.image.jpg"]
    assert [entry.label for entry in pool.entries] == ["7", None, None]
    assert pool.left_out == {
        pools.HIDDEN: ["0.tar/._a.jpg", "0.tar/__MACOSX/a.jpg"],
        pools.FURTHER: ["0.tar/a.seg.png", "0.tar/b.right.png"],
    }
    assert np.array_equal(to_pixels(pool.original(0)), paint_picture(0))


def test_shards_may_be_named_by_a_pattern(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        write_shard(tmp_path / f"part-{number}.tar", {f"{number}.png": png(number)})
    assert sources(open_pool(f"webdataset:{tmp_path}/part-*.tar")) == [f"part-{n}.tar/{n}.png" for n in range(3)]
    assert sources(open_pool(f"webdataset:{tmp_path}/part-[01].tar,{tmp_path}/part-1.tar")) == [
        "part-0.tar/0.png", "part-1.tar/1.png",
    ]  # fmt: skip
    odd = write_shard(tmp_path / "odd[1].tar", {"a.png": png(0)})
    assert len(open_pool(f"webdataset:{odd}")) == 1
    with pytest.raises(PoolError, match=r"No file matches .*nothing-\*"):
        open_pool(f"webdataset:{tmp_path}/nothing-*.tar")
    with pytest.raises(PoolError, match=r"is a folder; name its shards: .*\*\.tar"):
        open_pool(f"webdataset:{tmp_path}")


# -------------------------------------------------------------------- bundled


def test_the_bundled_pool_is_800_pictures_of_20_photographs() -> None:
    pool = open_pool("bundled")
    assert len(pool) == 800
    assert Counter(entry.group for entry in pool.entries) == dict.fromkeys(PHOTOGRAPHS, CROPS)
    assert len(set(sources(pool))) == 800
    assert pool.few_sources


def test_no_two_bundled_pictures_are_the_same_and_none_is_flat() -> None:
    pool = open_pool("bundled")
    hashes = set()
    for place in range(0, 800, 13):
        pixels = to_pixels(pool.original(place))
        assert pixels.std() > 1
        assert min(pixels.shape[:2]) >= 64
        hashes.add(hash_pixels(pixels))
    assert len(hashes) == len(range(0, 800, 13))


def test_bundled_crops_lie_within_their_photographs_at_many_scales() -> None:
    for name in PHOTOGRAPHS:
        width, height = photograph(name).size
        boxes = crop_boxes(name)
        assert len(set(boxes)) == CROPS
        sides = {right - left for left, _, right, _ in boxes}
        assert all(0 <= left < right <= width and 0 <= top < bottom <= height for left, top, right, bottom in boxes)
        assert all(right - left == bottom - top for left, top, right, bottom in boxes)
        assert max(sides) > 1.5 * min(sides)


def test_the_bundled_pool_is_the_same_in_another_process() -> None:
    places = [0, 123, 456, 799]
    code = (
        "from stimuli.pool_sources import open_pool\n"
        "from stimuli.pictures import to_pixels\n"
        "from benchmark.hashing import hash_pixels\n"
        "pool = open_pool('bundled')\n"
        f"print(*(hash_pixels(to_pixels(pool.original(place))) for place in {places}))\n"
    )
    root = Path(__file__).parent.parent
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    pool = open_pool("bundled")
    assert found.stdout.split() == [hash_pixels(to_pixels(pool.original(place))) for place in places]


def test_crops_are_kept_up_to_a_bound_and_are_what_they_would_be_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path, 5)
    monkeypatch.setattr(pools, "KEPT_CROPS", 3 * 3 * 32**2)
    pool = open_pool(f"folder:{tmp_path}")
    first = [pool.crop(place, 32) for place in range(5)]
    again = [pool.crop(place, 32) for place in range(5)]
    assert [one is other for one, other in zip(first, again)] == [True, True, True, False, False]
    for place, crop in enumerate(again):
        assert np.array_equal(to_pixels(crop), to_pixels(canonical_crop(pool.original(place), 32)))
        assert np.array_equal(to_pixels(crop), to_pixels(pool.crop(place, 32, pool.original(place))))
    assert pool.crop(0, 24).size == (24, 24)  # another side is another crop
