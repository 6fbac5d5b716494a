"""Commands as vimi tells its users to type them."""

from __future__ import annotations

import shlex
from pathlib import Path


def spell_command(*words: str | Path) -> str:
    """Return a command of vimi's as a shell takes it: quoted where a path has spaces or signs that a shell reads.

    >>> spell_command("gallery", "my study")
    "vimi gallery 'my study'"
    """
    return shlex.join(["vimi", *(str(word) for word in words)])
