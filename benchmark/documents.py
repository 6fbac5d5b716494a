"""Reading what people write: TOML documents with a closed schema.

A key that the schema does not know is an error that suggests the near one: a misspelt setting must never be
ignored in an experiment that costs thousands.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from benchmark.errors import DocumentError, suggest

BLANK = "FILL IN"
"""What stands where only a person can decide; nothing with a blank in it is frozen, or shown to participants."""


class Document(BaseModel):
    """Base of every closed schema: unknown keys are refused, values can't be changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _takes_values_as_written(cls, value: Any, information: ValidationInfo) -> Any:
        """Refuse text for a number, and a number for true or false: nothing is converted silently."""
        field = cls.model_fields.get(str(information.field_name))
        wanted = _scalars(field.annotation) if field else set()
        if float in wanted and value in ("inf", "-inf", "nan"):
            return value  # JSON has no other word for them: result files say so of intervals that are not there
        if isinstance(value, str) and wanted & {int, float, bool} and str not in wanted and wanted <= _PLAIN:
            raise ValueError(f"must be {_WORDS[bool in wanted]}, without quotation marks (got {value!r})")
        if isinstance(value, bool) and wanted & {int, float} and bool not in wanted:
            raise ValueError(f"must be a number (got {str(value).lower()})")
        if isinstance(value, int) and not isinstance(value, bool) and wanted == {bool}:
            raise ValueError(f"must be true or false (got {value})")
        return value


_PLAIN = {int, float, bool, type(None)}
_WORDS = {False: "a number", True: "true or false"}


def _scalars(annotation: Any) -> set[Any]:
    """Return the types that a field may have, those of a union one by one."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _scalars(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*(_scalars(part) for part in get_args(annotation)))
    return {annotation}


Schema = TypeVar("Schema", bound=Document)


def read_toml(path: Path | str) -> dict[str, Any]:
    """Read a TOML file into plain values.

    Raises
    ------
    DocumentError
        If the file is missing or is no TOML; the message gives the line.
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DocumentError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise DocumentError(f"{path} is a folder; a TOML file is needed.") from None
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is not UTF-8 text, so it can't be a TOML file.") from None
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"{path} is not valid TOML: {error}.") from None


def parse(schema: type[Schema], values: dict[str, Any], where: str) -> Schema:
    """Check plain values against a schema.

    Parameters
    ----------
    schema
        The schema to check against.
    values
        The values, as TOML gives them.
    where
        What to call the document in messages.

    Raises
    ------
    DocumentError
        Naming every key that is unknown (with the near one), missing or has a wrong value.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise DocumentError(explain(schema, error, where)) from None


def explain(schema: type[BaseModel], error: ValidationError, where: str) -> str:
    """Say all that is wrong with a document in words; ``where`` is what to call it."""
    lines = [_explain(schema, problem) for problem in error.errors()]
    message = f"{where}: {'; '.join(dict.fromkeys(lines))}"
    return message if message.endswith("?") else f"{message}."


def _explain(schema: type[BaseModel], problem: Any) -> str:
    """Say one problem of a document in words."""
    location = [part for part in problem["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    key = str(location[-1]) if location else ""
    place = f"{_spell(location[:-1])} {key}".strip()
    if len(location) > 1 and isinstance(location[-1], int):
        within = f"{_spell(location[:-2])} {location[-2]} number {location[-1] + 1}".strip()
        place = _spell(location) if _keys_at(schema, location) else within
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key. {suggest(key, _keys_at(schema, location[:-1]))}".rstrip(".")
    if problem["type"] == "missing":
        return f"{place}: this key is required"
    if problem["type"] in ("tuple_type", "list_type") and isinstance(problem["input"], dict):
        return f"{_spell(location)}: there may be several, so it is written with two brackets: [[{key}]]"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    said = message if problem["type"] == "value_error" else f"{message} (got {problem['input']!r})"
    return f"{place}: {said}" if place else said


def _spell(location: list[int | str]) -> str:
    """Spell a place in a document as TOML would: ``[session]``, or ``[[models]] number 2``."""
    words: list[str] = []
    for part in location:
        if isinstance(part, int) and words:
            words[-1] = f"[{words[-1]}] number {part + 1}"
        elif isinstance(part, str):
            words.append(f"[{part}]")
    return " ".join(words)


def _keys_at(schema: type[BaseModel], location: list[int | str]) -> list[str]:
    """Return the keys that a schema knows at a place."""
    current: type[BaseModel] = schema
    for part in location:
        if isinstance(part, str) and part in current.model_fields:
            nested = next(_models_in(current.model_fields[part].annotation), None)
            if nested is None:
                return []
            current = nested
    return [field.alias or name for name, field in current.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Iterate over the schemas inside a type annotation, such as those of ``list[ModelEntry] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
