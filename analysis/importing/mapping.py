"""Any laboratory's table, by a mapping file.

A mapping says, in TOML, which column means what: see ``docs/importing.md``. It knows nothing that the table does not
say: what it does not map is either missing, or one of a few stated defaults that the data set's notes repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BeforeValidator, Field, field_validator, model_validator

from analysis.importing.faults import FILE
from analysis.importing.layout import (
    is_parquet,
    name_without_ending,
    read_csv_text,
    read_json_text,
    read_parquet_text,
)
from analysis.importing.rules import Pattern, Rules, Where
from analysis.importing.schema import MISSING
from benchmark import schemas
from benchmark.documents import Document, parse, read_toml
from benchmark.errors import ImportFailure, suggest

COLUMNS = {column.name: column for column in (*schemas.RESPONSES.columns, *schemas.RESPONSES.optional)}
SESSION_COLUMNS = {column.name: column for column in schemas.SESSIONS.columns}

POSITION = schemas.Column("position", "string", "which query was chosen", nullable=True, values=("upper", "lower"))

OTHER_TARGETS = ("position", "answer", "right_answer")
"""What a mapping may give beside columns of the schema: the position that was chosen, and two cells to be compared."""

TARGETS = (
    tuple(name for name in COLUMNS if name not in ("protocol", "study", "vimi_version", "related")) + OTHER_TARGETS
)

SESSION_TARGETS = tuple(
    name
    for name in schemas.SESSIONS.names
    if name not in ("session", "study", "protocol", "observer_kind", "observer", "cell")
)


class FileLayout(Document):
    """How the files are written.

    Attributes
    ----------
    format
        What they are; ``auto`` goes by the ending.
    delimiter, quote
        What separates and encloses cells; ``auto`` finds the separator in the header.
    encoding
        Of the text.
    decimal, thousands
        How numbers are spelled.
    skip
        Lines above the header.
    header
        Names of the columns, where the file has no header.
    missing
        Spellings of a missing cell.
    pattern
        Which files of a folder are meant: ``"*/data_*.csv"``.
    name
        Column to make of the file's name, without its ending.
    rows
        In JSON: where the list of trials stands in a record.
    json_columns
        Columns whose cells are JSON objects, to be taken apart.
    fill
        Columns whose cells stand only in some rows of a file.
    """

    format: Literal["auto", "csv", "json", "parquet"] = "auto"
    delimiter: str = "auto"
    quote: str = '"'
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    skip: int = Field(default=0, ge=0)
    header: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    pattern: str = ""
    name: str = ""
    rows: str = ""
    json_columns: tuple[str, ...] = Field(default=(), alias="json")
    fill: tuple[str, ...] = ()

    @field_validator("header")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for number, name in enumerate(value) if name in value[:number]]
        if twice:
            raise ValueError(f"two columns are called {twice[0]!r}")
        return value

    @field_validator("delimiter")
    @classmethod
    def _separator(cls, value: str) -> str:
        value = {"tab": "\t", "comma": ",", "semicolon": ";"}.get(value, value)
        if value != "auto" and len(value) != 1:
            raise ValueError("one character, or 'auto'")
        return value

    def read(self, path: Path, called: str = "") -> pd.DataFrame:
        """Read one file as a table of text; ``called`` tells it from the others, if its name alone does not."""
        stem = path.name.removesuffix(".gz").lower()
        form = self.format
        if form == "auto":
            form = "parquet" if stem.endswith(".parquet") or is_parquet(path) else "csv"
            form = "json" if stem.endswith((".json", ".jsonl", ".ndjson")) else form
        if form == "parquet":
            frame = read_parquet_text(path)
        elif form == "json":
            frame = read_json_text(path, encoding=self.encoding, rows=self.rows)
        else:
            frame = read_csv_text(
                path, delimiter=self.delimiter, encoding=self.encoding, quote=self.quote, skip=self.skip,
                columns=self.header,
            )  # fmt: skip
        frame[FILE] = called or path.name
        if self.name:
            if self.name in frame.columns:
                raise ImportFailure(
                    f"[file] name: {path} already has a column {self.name!r}; choose another name for the column with "
                    "the file's name."
                )
            frame[self.name] = name_without_ending(called or path.name)
        return frame


class Wide(Document):
    """One row a session, with columns for each trial.

    Attributes
    ----------
    pattern
        Regular expression with the groups ``trial`` and ``field``: ``"t(?P<trial>[0-9]+)_(?P<field>.+)"``.
    """

    pattern: Pattern

    @field_validator("pattern")
    @classmethod
    def _groups(cls, value: str) -> str:
        if "(?P<trial>" not in value or "(?P<field>" not in value:
            raise ValueError("the pattern needs the groups (?P<trial>…) and (?P<field>…)")
        return value


class Fold(Document):
    """A trial is spread over several rows.

    Attributes
    ----------
    by
        Columns that name the trial.
    part
        Column that names the part: ``rating.rt`` is then ``rt`` of the part ``rating``.
    """

    by: tuple[str, ...] = Field(min_length=1)
    part: str


class Join(Document):
    """Another file with further columns: of trials, units or sessions.

    Attributes
    ----------
    file
        The file, relative to the mapping.
    on
        Columns that must agree: names that both have, or ``{ here = "there" }``.
    prefix
        What to put before the names of its columns.
    optional
        Whether rows may lack a counterpart.
    delimiter, encoding, format
        As of the files.
    """

    file: str
    on: tuple[str, ...] | dict[str, str]
    prefix: str = ""
    optional: bool = False
    delimiter: str = "auto"
    encoding: str = "utf-8"
    format: Literal["auto", "csv", "json", "parquet"] = "auto"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Columns here and there."""
        return list(self.on.items()) if isinstance(self.on, dict) else [(name, name) for name in self.on]


class KindRule(Document):
    """Which rows are of a kind; the first rule that a row passes decides.

    Attributes
    ----------
    kind
        The kind, or ``drop``: no trial, or none that was answered.
    where
        What the row must be; without it, every row that is left.
    reason
        Why rows are dropped, as the data set's notes say it.
    """

    kind: Literal["main", "catch", "practice", "repeated", "drop"]
    where: Where = Field(default_factory=dict)
    reason: str = ""


class MappedModel(Document):
    """What is known of a model that has no card, or differs from it.

    Attributes
    ----------
    parameters, training_images, samples_seen
        Numbers.
    top1
        ImageNet accuracy, 0 to 1.
    family, year
        Family of architectures, year of publication.
    twin
        Whether its weights are random.
    same_units_as
        The model whose units these are, too: these two are compared unit by unit.
    """

    family: str | None = None
    parameters: int | None = Field(default=None, gt=0)
    training_images: int | None = Field(default=None, gt=0)
    samples_seen: int | None = Field(default=None, gt=0)
    top1: float | None = Field(default=None, ge=0, le=1)
    year: int | None = None
    twin: bool | None = None
    same_units_as: str | None = None


class UnitMapping(Document):
    """Facts of units, by rules: position of the layer (0 to 1), units in the layer, what computes it."""

    depth: Rules | None = None
    width: Rules | None = None
    kind: Rules | None = None


def _check_targets(known: Sequence[str]) -> Any:
    def check(given: Any) -> Any:
        if isinstance(given, dict):
            for name in given:
                if name not in known:
                    raise ValueError(f"there is no {name!r} to map to. {suggest(name, known)}")
        return given

    return BeforeValidator(check)


TAKEN = frozenset(
    {
        "chance", "condition", "confidence", "correct", "depth", "difficulty", "kind", "layer", "layer_type",
        "max_on_top", "model", "observer", "participant", "person", "question", "references", "references_per_side",
        "rt_ms", "session", "task", "trial_index", "unit", "upper",
    }
)  # fmt: skip
"""Names that tables of judgements use themselves: no attribute of people is called so."""


def _check_attributes(given: Any) -> Any:
    if isinstance(given, dict):
        for name in given:
            if not (name.isidentifier() and name == name.lower()) or name in TAKEN:
                raise ValueError(
                    f"{name!r} can't name an attribute of people: "
                    + ("tables of answers use it for something else" if name in TAKEN else "use a-z, 0-9 and _")
                )
    return given


class Mapping(Document):
    """A whole mapping.

    Attributes
    ----------
    name
        What the data set is called.
    protocol
        Identity of its protocol: answers of two protocols never share a table silently.
    source
        Where it comes from, as it should be cited.
    notes
        What must be said wherever the numbers are shown.
    positions
        ``unknown`` if it was not recorded which query was on top: then a coin stands in for it.
    pooled
        Columns that vary within a cell and are to be pooled all the same.
    people
        Attributes of people, such as expertise or laboratory: one value a person.
    """

    name: str = Field(min_length=1)
    protocol: str = Field(min_length=1)
    source: str = ""
    notes: tuple[str, ...] = ()
    positions: Literal["recorded", "unknown"] = "recorded"
    pooled: tuple[str, ...] = ()
    file: FileLayout = FileLayout()
    wide: Wide | None = None
    fold: Fold | None = None
    join: tuple[Join, ...] = ()
    kinds: tuple[KindRule, ...] = ()
    columns: Annotated[dict[str, Rules], _check_targets(TARGETS)]
    people: Annotated[dict[str, Rules], BeforeValidator(_check_attributes)] = Field(default_factory=dict)
    sessions: Annotated[dict[str, Rules], _check_targets(SESSION_TARGETS)] = Field(default_factory=dict)
    units: UnitMapping = UnitMapping()
    models: dict[str, MappedModel] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Mapping:
        lacking = [name for name in ("observer", "model", "layer", "index", "condition") if name not in self.columns]
        if lacking:
            raise ValueError(f"[columns] must name {lacking[0]} ({COLUMNS[lacking[0]].meaning})")
        if not self._tells_correct:
            raise ValueError(
                "[columns] must say which answers are right: correct, or choice (max, min), or answer and "
                "right_answer, or position (upper, lower) and query_top (max, min)"
            )
        if self.positions == "recorded" and not {"query_top", "position"} & set(self.columns):
            raise ValueError(
                "[columns] must say which query was on top: query_top (max, min), or position (upper, lower), the one "
                'that was chosen. If that was never recorded, write positions = "unknown" at the top of the mapping'
            )
        if "kind" in self.columns and self.kinds:
            raise ValueError("give the kinds of trials either by [[kinds]] or by kind in [columns], not both")
        return self

    @property
    def _tells_correct(self) -> bool:
        given = set(self.columns)
        return bool({"correct", "choice"} & given or {"answer", "right_answer"} <= given) or (
            {"position", "query_top"} <= given
        )


def read_mapping(path: Path | str) -> Mapping:
    """Read a mapping file; an unknown key is an error that suggests the near one.

    Raises
    ------
    DocumentError
        Naming what is wrong with it.
    """
    return parse(Mapping, read_toml(path), str(path))
