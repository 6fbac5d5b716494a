"""Whatever happens while a file is written, the target is as it was or complete; one process builds at a time."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from benchmark import storage
from benchmark.errors import StorageError, StudyLocked
from benchmark.storage import only_process, remove_unfinished, write_atomically, write_json, write_text

HOLD = """
import sys, time
from pathlib import Path
from benchmark.storage import only_process
with only_process(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every flush of a file to the disk fail as on a full one."""

    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", fsync)


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run another process that holds the folder until it is ended."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_write_replaces_the_target_and_makes_its_folder(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "text.txt"
    write_text(target, "first: ä")
    write_text(target, "second: 漢")
    assert target.read_text(encoding="utf-8") == "second: 漢"
    assert os.listdir(target.parent) == ["text.txt"]


def test_what_is_written_can_be_read_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt", "content")
    assert (tmp_path / "text.txt").stat().st_mode & 0o777 == 0o644


def test_json_is_written_readably_and_keeps_every_letter(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"näme": [1, None, "漢"]})
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"näme": [1, None, "漢"]}
    assert "漢" in text
    assert text.endswith("\n")


@pytest.mark.parametrize("exception", [RuntimeError("defect"), KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_the_target_is_untouched_when_the_writer_fails_half_way(tmp_path: Path, exception: BaseException) -> None:
    target = tmp_path / "table"
    write_text(target, "what was there")

    def write(unfinished: Path) -> None:
        unfinished.write_text("half of what")
        raise exception

    with pytest.raises(type(exception)):
        write_atomically(target, write)
    assert target.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["table"]


def test_nothing_is_seen_at_the_target_before_the_write_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "table"

    def write(unfinished: Path) -> None:
        assert unfinished.parent == target.parent, "only a move within one folder is atomic"
        unfinished.write_text("all of it")
        assert not target.exists()

    write_atomically(target, write)
    assert target.read_text() == "all of it"


def test_a_full_disk_is_an_error_that_says_what_to_do_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "manifest.json"
    write_json(target, {"stages": 3})
    fill_the_disk(monkeypatch)
    with pytest.raises(StorageError) as caught:
        write_json(target, {"stages": 4})
    assert caught.value.exit_code == 1
    message = str(caught.value)
    assert "full" in message
    assert str(target) in message
    assert "kept" in message
    assert "Free some space and run the same command again" in message
    assert json.loads(target.read_text()) == {"stages": 3}
    assert os.listdir(tmp_path) == ["manifest.json"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the operating system refuse to make files larger than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_much(path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(256, 256, 3), dtype=np.uint8)
    if kind == "text":
        path.write_text("x" * 100_000)
    elif kind == "parquet":
        pd.DataFrame({"noise": noise.ravel()}).to_parquet(path)
    elif kind == "safetensors":
        save_file({"noise": noise}, path)
    else:
        Image.fromarray(noise).save(path, "WEBP", lossless=True)


@pytest.mark.parametrize("kind", ["text", "parquet", "safetensors", "picture"])
def test_a_disk_that_fills_up_half_way_is_recognised_whatever_library_was_writing(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.write_text("what was there")
    with largest_file(50_000), pytest.raises(StorageError, match="The disk is full") as caught:
        write_atomically(target, lambda unfinished: write_much(unfinished, kind))
    assert str(target) in str(caught.value)
    assert target.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["target"]


def test_a_disk_that_may_not_be_written_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    def write(unfinished: Path) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system", str(unfinished))

    with pytest.raises(StorageError, match="Choose another folder") as caught:
        write_atomically(tmp_path / "table.parquet", write)
    assert str(tmp_path / "table.parquet") in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_folder_that_can_not_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError) as caught:
        write_text(tmp_path / "file" / "below" / "text.txt", "content")
    assert str(tmp_path / "file") in str(caught.value)


def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / "images" / "picture.webp", tmp_path / ".lock", tmp_path / "notes.tmp"]
    for path in kept:
        write_text(path, "content")
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom benchmark.storage import write_atomically\n"
        "write_atomically(Path(sys.argv[1]), lambda path: (path.write_text('half'), os.kill(os.getpid(), 9)))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "images" / "other.webp")], check=False)
    assert done.returncode == -9
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - set(kept)
    assert len(left) == 1
    assert not (tmp_path / "images" / "other.webp").exists()
    remove_unfinished(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


def test_what_safetensors_leaves_behind_when_it_is_killed_is_removed_too(tmp_path: Path) -> None:
    # safetensors writes beside its target itself, under a name of its own, as long as 100 MB take.
    program = """
import os, sys, threading
import numpy as np
from pathlib import Path
from safetensors.numpy import save_file
from benchmark.storage import write_atomically
target = Path(sys.argv[1])
def watch():
    while True:
        if sum(file.stat().st_size > 0 for file in os.scandir(target.parent)):
            os.kill(os.getpid(), 9)
threading.Thread(target=watch, daemon=True).start()
write_atomically(target, lambda path: save_file({"zeros": np.zeros(100_000_000, dtype=np.uint8)}, path))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "shard.safetensors")], check=False)
    assert done.returncode == -9
    assert os.listdir(tmp_path)
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_second_process_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with holder(folder) as process:
        with pytest.raises(StudyLocked) as caught, only_process(folder):
            pytest.fail("two processes held one folder")
        assert str(process.pid) in str(caught.value)
        assert str(folder) in str(caught.value)
        assert caught.value.exit_code == 2


def test_a_refused_process_does_not_disturb_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        for _ in range(2):
            with pytest.raises(StudyLocked, match=str(process.pid)), only_process(tmp_path):
                pytest.fail("two processes held one folder")


def test_the_lock_is_free_after_the_process_that_held_it_was_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        with only_process(tmp_path):
            assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_the_lock_is_free_after_use_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="defect"), only_process(tmp_path):
        raise ValueError("defect")
    with only_process(tmp_path), pytest.raises(StudyLocked, match=str(os.getpid())), only_process(tmp_path):
        pytest.fail("the folder was held twice")
    with only_process(tmp_path):
        pass


def test_different_folders_can_be_held_at_the_same_time(tmp_path: Path) -> None:
    with only_process(tmp_path / "one"), only_process(tmp_path / "two"):
        pass
