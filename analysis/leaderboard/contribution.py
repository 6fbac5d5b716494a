"""A contribution to the leaderboard: a pull request that adds one result file, and changes none."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

from benchmark.errors import LeaderboardError

FOLDER = "analysis/leaderboard/results"
"""Where the result files that come with vimi lie in its repository."""


def find_contribution(against: str, repository: Path | str = ".") -> Path:
    """Return the result file that a checkout adds to a branch, and check that it does nothing else to the results.

    What is committed and what is not yet committed both count.

    Parameters
    ----------
    against
        The branch or commit that it is to be added to: ``origin/main``.
    repository
        A folder of the checkout.

    Raises
    ------
    LeaderboardError
        If git does not know the branch; if a result file was changed or deleted; if none or several were added, or
        something that is no result file was.
    """
    root = Path(_git(repository, "rev-parse", "--show-toplevel").strip())
    # A name that begins with a dash would be an option of git's.
    start = _git(root, "merge-base", "--end-of-options", against, "HEAD").strip()
    told = _git(root, "diff", "--name-status", "--no-renames", "-z", start, "--", FOLDER).split("\0")
    changes = dict(zip(told[1::2], told[0::2]))
    fresh = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", FOLDER).split("\0")
    changes |= {name: "A" for name in fresh if name}
    wrong = [f"{name} was {_WORDS.get(change, 'changed')}" for name, change in sorted(changes.items()) if change != "A"]
    added = sorted(name for name, change in changes.items() if change == "A")
    if wrong:
        raise LeaderboardError(
            f"Existing result files must not change: {'; '.join(wrong)}. Restore them (git checkout {against} -- "
            f"{FOLDER}). A new result lists the ones that it replaces under 'replaces'."
        )
    if len(added) != 1:
        found = f"{len(added)} are new: {', '.join(added[:5])}" if added else "none is new"
        raise LeaderboardError(f"A contribution must be exactly one new file in {FOLDER}; {found}.")
    path = root / added[0]
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode) or path.suffix != ".json":
        raise LeaderboardError(f"{added[0]} is not a result file: it must be a plain file whose name ends in .json.")
    return path


_WORDS = {"M": "changed", "D": "deleted", "T": "changed to another type of file"}


def _git(folder: Path | str, *arguments: str) -> str:
    """Run git in a folder, and return what it says."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        raise LeaderboardError(
            "git is not installed, and vimi needs it to see what a checkout changes. Install git."
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise LeaderboardError(f"git {arguments[0]} failed in {folder}: {reason}")
    return done.stdout
