"""Commands as vimi tells its users to type them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path


def spell_command(*words: str | Path) -> str:
    """Return a command of vimi's as a shell takes it: quoted where a path has spaces or signs that a shell reads.

    >>> spell_command("gallery", "my study")
    "vimi gallery 'my study'"
    """
    return shlex.join(["vimi", *(str(word) for word in words)])


BUNDLED_OBSERVERS = ("efficientnet_lite0", "efficientnet_lite2")
"""Models with weights on every machine, as observers."""


def observe_command(study: str | Path, models: Iterable[str]) -> str:
    """Return the command that lets machines answer a study: a model that is asked about never observes itself.

    >>> observe_command("study", ["efficientnet_lite0"])
    'vimi observe study --observer lowlevel --observer features:efficientnet_lite2'
    """
    asked = set(models)
    others = [name for name in BUNDLED_OBSERVERS if name not in asked]
    chosen = others[:1] or BUNDLED_OBSERVERS
    options = [word for name in ("lowlevel", *(f"features:{name}" for name in chosen)) for word in ("--observer", name)]
    return spell_command("observe", study, *options)
