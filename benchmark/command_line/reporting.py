"""How verbs report: as text for people or, with ``--json``, as one JSON document for scripts.

A verb that reports returns a :class:`Told`. Registering it with :func:`reporting` adds the option ``--json`` and
decides what is printed, in this one place.
"""

from __future__ import annotations

import inspect
import json as json_format
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark import __version__
from benchmark.progress import signs_of_life

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

REPORTING: set[str] = set()
"""The verbs that report, by their path: ``leaderboard show``."""


@dataclass(frozen=True)
class Told:
    """What a verb has found.

    Attributes
    ----------
    facts
        Returns it for scripts: names, numbers, texts, paths, tables.
    show
        Prints it for people.
    check
        Raises the error, or the exit, that the verb ends with after it has reported.
    """

    facts: Callable[[], Mapping[str, Any]]
    show: Callable[[], object]
    check: Callable[[], object] = lambda: None


def reporting(group: typer.Typer, path: str, panel: str) -> Callable[[Callable[..., Told]], Callable[..., None]]:
    """Register a verb that reports.

    Parameters
    ----------
    group
        The application, or the group of verbs.
    path
        The verb with its group, as it is typed: ``models show``.
    panel
        The group of the help that lists it.

    Returns
    -------
    A decorator. The decorated function takes ``json`` besides its own parameters.
    """

    def register(verb: Callable[..., Told]) -> Callable[..., None]:
        def run(*args: Any, json: bool = False, **options: Any) -> None:
            if json:
                # Whatever else is printed on the way goes to the error stream.
                with redirect_stdout(sys.stderr), signs_of_life(f"vimi {path}"):
                    told = verb(*args, **options)
                    document = write_document(path, told.facts())
                sys.stdout.write(document)
            else:
                with signs_of_life(f"vimi {path}"):
                    told = verb(*args, **options)
                told.show()
            told.check()

        own = inspect.signature(verb, eval_str=True)
        option = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
        signature = own.replace(parameters=[*own.parameters.values(), option], return_annotation=None)
        run.__name__, run.__doc__, run.__module__ = verb.__name__, verb.__doc__, verb.__module__
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        REPORTING.add(path)
        group.command(path.rpartition(" ")[2], rich_help_panel=panel)(run)
        return run

    return register


def write_document(verb: str, facts: Mapping[str, Any]) -> str:
    """Return the JSON document of a verb: its name, vimi's version, and what it found."""
    document = {"verb": verb, "vimi": __version__, **plain(facts)}
    return json_format.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return a value as JSON has it: a table as a list of rows, NaN as null, infinity as a word.

    Raises
    ------
    TypeError
        If the value is of a kind that has no plain form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Decimal):
        return plain(float(value))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date):
        return None if value != value else value.isoformat()  # NaT is a date, and no date
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a data frame, without loading pandas
        return [plain(row) for row in value.to_dict("records")]
    if hasattr(value, "item"):  # a number of numpy's
        return plain(value.item())
    if type(value).__name__ == "NAType":
        return None
    raise TypeError(f"{type(value).__name__} can't be written as JSON")
