"""The folder of the site: written beside its place, and put there when it is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from benchmark.errors import LeaderboardError
from benchmark.storage import disk_errors, only_process

MANIFEST = "manifest.json"
KIND = "leaderboard of vimi"
"""What the manifest of a site calls it; a folder without it is never replaced."""


class SiteFolder:
    """A site in the making: files are written into it by their addresses.

    Attributes
    ----------
    root
        Where they are written.
    files
        SHA-256 of every file, by its address.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, str] = {}

    def write(self, address: str, content: str | bytes) -> str:
        """Write a file, and return its address; equal content may be written twice, other content may not.

        Raises
        ------
        LeaderboardError
            If the address leaves the folder, or something else has it.
        """
        data = content.encode("utf-8", "replace") if isinstance(content, str) else content
        parts = PurePosixPath(address).parts
        if not parts or address.startswith("/") or "\\" in address or any(part in ("", ".", "..") for part in parts):
            raise LeaderboardError(f"{address!r} is not an address within a site.")
        digest = hashlib.sha256(data).hexdigest()
        if self.files.setdefault(address, digest) != digest:
            raise LeaderboardError(f"Two pages of the site would have the address {address}.")
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return address

    def finish(self) -> None:
        """Write the manifest: what the site is, and the hash of every file."""
        manifest = {"kind": KIND, "files": dict(sorted(self.files.items()))}
        (self.root / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


@contextmanager
def new_site(out: Path) -> Iterator[SiteFolder]:
    """Make a site in a folder beside its place; when all is written, it takes that place.

    Whenever the process ends, the place holds the old site or the new one, both whole. Between two renamings it holds
    nothing for a moment, and the old site lies in the folder beside it; a process that is killed just then leaves it
    there, and the next one puts it back first.

    Raises
    ------
    LeaderboardError
        If the place holds anything that an earlier build has not written.
    StudyLocked
        If another process builds the same site.
    StorageError
        If the disk is full or can't be written.
    """
    out = out.absolute()
    beside = out.parent / f".{out.name}.unfinished"
    with disk_errors(out), only_process(beside):
        new, old = beside / "new", beside / "old"
        if old.exists() and not out.exists():
            old.rename(out)
        check_replaceable(out)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        new.mkdir()
        try:
            site = SiteFolder(new)
            yield site
            site.finish()
            # What came into the folder meanwhile is not to be lost either.
            check_replaceable(out)
            if out.exists():
                out.rename(old)
            try:
                new.rename(out)
            except OSError:
                if old.exists():
                    old.rename(out)
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """Check that nothing is lost if a site replaces this folder.

    Raises
    ------
    LeaderboardError
        If it is a file, or holds files that no earlier build has written.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise LeaderboardError(f"{out} can't be used: a site needs a folder of its own. Name another with --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        known = set(manifest["files"]) | {MANIFEST} if manifest["kind"] == KIND else set()
    except (OSError, ValueError, KeyError, TypeError):
        known = set()
    if not known:
        raise LeaderboardError(
            f"{out} holds something other than a leaderboard's site, so vimi does not overwrite it. Name an empty "
            "folder with --out."
        )
    for path in sorted(out.rglob("*")):
        own = path.relative_to(out).as_posix()
        if (path.is_file() or path.is_symlink()) and own not in known:
            raise LeaderboardError(
                f"{out} holds {own}, which vimi leaderboard build did not write and would remove. Move it away, or "
                "name another folder with --out."
            )
