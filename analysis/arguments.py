"""What to say to somebody who gives a function another kind of thing than it takes."""

from __future__ import annotations

from typing import Any

from benchmark.errors import AnalysisError


def check_kind(value: Any, kind: type, name: str, remedy: str) -> None:
    """Check that an argument is of the kind that a function takes.

    Parameters
    ----------
    value, kind
        The argument, and what it must be.
    name
        The argument's name.
    remedy
        What makes such a thing, as a sentence.

    Raises
    ------
    AnalysisError
        If it is of another kind.
    """
    if not isinstance(value, kind):
        raise AnalysisError(f"{name} must be of type {kind.__name__}, not {type(value).__name__}. {remedy}")
