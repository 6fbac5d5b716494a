"""Writing files so that a kill, a full disk or a second process never leaves half of one."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmark.errors import StorageError, StudyLocked

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EROFS, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says what to do.

    Raises
    ------
    StorageError
        In place of the operating system's error.
    """
    try:
        yield
    except Exception as error:
        number = _system_error(error)
        if number in _FULL:
            free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
            raise StorageError(
                f"The disk is full: {path} could not be written ({free / 2**20:,.0f} MiB are free). Everything "
                "finished so far is kept. Free some space and run the same command again."
            ) from None
        if number in _REFUSED:
            raise StorageError(f"{path} can't be written: {os.strerror(number)}. Choose another folder.") from None
        raise


def _system_error(error: Exception) -> int:
    """Return the operating system's number of an error, 0 if it has none.

    safetensors raises an error of its own, with the number only in its words.
    """
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found.group(1)) if found else 0


def write_atomically(path: Path, write: Callable[[Path], None], durable: bool = True, mode: int = 0o644) -> None:
    """Let ``write`` make a file beside the target, then move it there in one step.

    However the process ends, the target is either as it was or complete.

    Parameters
    ----------
    path
        The target; its folder is made if needed.
    write
        Called with the path of the file to make.
    durable
        Whether to wait until the file would outlive a power failure. What can be made again need not.
    mode
        Who may read it.

    Raises
    ------
    StorageError
        If the disk is full or can't be written; the target is then untouched.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        unfinished = Path(name)
        try:
            write(unfinished)
            if durable:
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
            unfinished.chmod(mode)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""

    def write(unfinished: Path) -> None:
        unfinished.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written: our own files, and those that safetensors writes first."""
    for pattern in (".*.tmp", ".tmp??????"):
        for path in folder.rglob(pattern):
            path.unlink(missing_ok=True)


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Make sure that no other process builds in the folder; the lock goes with the process, even killed.

    Raises
    ------
    StudyLocked
        If another process holds the lock; the message gives its number.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+")
    try:
        if not _lock(file):
            file.seek(0)
            holder = file.read().strip()
            raise StudyLocked(
                f"Another vimi process{f' (number {holder})' if holder else ''} is working on {folder}. Wait until "
                "it has finished, or build into another folder."
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
    finally:
        file.close()


def _lock(file: IO[str]) -> bool:
    """Try to lock an open file; return whether that worked."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
