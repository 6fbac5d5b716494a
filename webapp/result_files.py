"""The result files that a host puts on the web: read once, and again when they change.

Only what lies in the folders that the host has named is ever shown. Answers to the study that is being hosted are not
looked at: whoever runs a study must not see its means before it is complete, and here anybody could.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from analysis.leaderboard.result import Result, read_result
from analysis.leaderboard.standings import Leaderboard, build_leaderboard
from benchmark.errors import LeaderboardError

_Signature = tuple[tuple[Path, int, int], ...]


@dataclass(frozen=True)
class ShownResults:
    """What can be shown of some result files.

    Attributes
    ----------
    leaderboard
        The leaderboard of those that are whole.
    left_out
        Names of files that are no result files, or were changed after they were written.
    problem
        Why there is no leaderboard although there are files; empty if there is one.
    """

    leaderboard: Leaderboard
    left_out: tuple[str, ...] = ()
    problem: str = ""


class ResultFiles:
    """Folders of result files, and the leaderboard that they give.

    Parameters
    ----------
    folders
        Folders of result files.

    Raises
    ------
    LeaderboardError
        If one of them does not exist.
    """

    def __init__(self, folders: Sequence[Path | str]) -> None:
        self.folders = tuple(map(Path, folders))
        for folder in self.folders:
            if not folder.is_dir():
                raise LeaderboardError(
                    f"There is no folder {folder} with result files. Make one: vimi leaderboard add MODEL"
                )
        self._lock = Lock()
        self._signature: _Signature | None = None
        self._shown = ShownResults(Leaderboard((), ()))

    def read(self) -> ShownResults:
        """Return what the files give now."""
        with self._lock:  # of many visitors who come at once, one reads
            signature = self._look()
            if signature != self._signature:
                self._shown = self._make([path for path, _, _ in signature])
                self._signature = signature
            return self._shown

    def _look(self) -> _Signature:
        """Return which files there are, with their sizes and when they were changed."""
        found = []
        for folder in self.folders:
            for path in sorted(folder.rglob("*.json")):
                try:
                    facts = path.stat()
                except OSError:  # removed while the folder was being looked through
                    continue
                found.append((path, facts.st_size, facts.st_mtime_ns))
        return tuple(found)

    def _make(self, paths: Sequence[Path]) -> ShownResults:
        results: dict[str, Result] = {}
        left_out = []
        for path in paths:
            try:
                result = read_result(path)
            except LeaderboardError:
                left_out.append(path.name)
                continue
            if result.is_sealed:
                results.setdefault(result.hash, result)
            else:
                left_out.append(path.name)
        try:
            return ShownResults(build_leaderboard(results.values()), tuple(left_out))
        except LeaderboardError as error:  # two files contradict each other
            return ShownResults(Leaderboard((), ()), tuple(left_out), str(error))
