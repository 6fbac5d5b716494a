"""Answers as data sets: CSV, Parquet, Psych-DS and BIDS, and the one reader of all of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import __version__, schemas
from benchmark.errors import HostingError
from benchmark.schemas import Column, Schema
from webapp.export.codebook import UNITS, introduce, write_codebook
from webapp.export.folder import ExportSource, Folder, find_changes, read_manifest
from webapp.export.tables import ORDER, ExportTable, Tables

PSYCH_DS_VERSION = "1.5.0"
BIDS_VERSION = "1.10.0"

MISSING = "n/a"
"""How BIDS spells an empty cell."""

TASK = "forcedchoice"
"""Name of the task in names of BIDS files."""

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


# -------------------------------------------------------------------- spelling


def spell(table: ExportTable, missing: str = "") -> pd.DataFrame:
    """Return a table's cells as text, from which :func:`parse` makes the very same values again.

    Parameters
    ----------
    table
        The table.
    missing
        What stands for an empty cell.
    """
    spelled = {
        column.name: [
            missing if empty else _SPELL[column.kind](value)
            for value, empty in zip(table.frame[column.name], table.frame[column.name].isna())
        ]
        for column in table.schema.columns
    }
    return pd.DataFrame(spelled, columns=table.schema.names, dtype="object")


_SPELL: dict[str, Callable[[Any], str]] = {
    "string": str,
    "integer": lambda value: str(int(value)),
    "number": lambda value: repr(float(value)),
    "boolean": lambda value: "true" if value else "false",
    "time": lambda value: str(value.strftime(_TIME)),
}

_PARSE: dict[str, Callable[[str], Any]] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": lambda text: {"true": True, "false": False}[text],
    "time": str,
}


def parse(cells: pd.DataFrame, schema: Schema, missing: str = "") -> pd.DataFrame:
    """Return the table that :func:`spell` spelled.

    Raises
    ------
    HostingError
        If a cell does not fit its column.
    """
    columns = {}
    for column in schema.columns:
        try:
            columns[column.name] = [_parse_cell(column, text, missing) for text in cells[column.name]]
        except (KeyError, ValueError) as error:
            raise HostingError(f"{schema.name}: {column.name!r} can't be read: {error}.") from None
    return schema.conform(pd.DataFrame(columns, columns=schema.names, dtype="object"))


def _parse_cell(column: Column, text: str, missing: str) -> Any:
    return None if column.nullable and text == missing else _PARSE[column.kind](text)


def _as_csv(cells: pd.DataFrame) -> str:
    """Return cells as CSV: a header, commas, quotes where needed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(cells.columns)
    writer.writerows(cells.itertuples(index=False, name=None))
    return text.getvalue()


def _as_tsv(cells: pd.DataFrame) -> str:
    """Return cells as BIDS wants them: tabs, no quotes; tabs and line breaks in a cell are spelled out."""
    rows = [cells.columns, *cells.itertuples(index=False, name=None)]
    return "".join("\t".join(_one_line(cell) for cell in row) + "\n" for row in rows)


def _one_line(cell: str) -> str:
    return cell.replace("\t", "\\t").replace("\n", "\\n")


# -------------------------------------------------------------------- CSV and Parquet


def write_csv(folder: Folder, tables: Tables) -> None:
    """Write each table as a CSV file."""
    _count(folder, tables)
    for name, table in tables.items():
        folder.write(f"{name}.csv", _as_csv(spell(table)), len(table.frame))
    spelling = "UTF-8, commas, a header; an empty cell has no value; times are in UTC."
    _finish(folder, tables, spelling, lambda name: f"`{name}.csv`")


def write_parquet(folder: Folder, tables: Tables) -> None:
    """Write each table as a Parquet file."""
    _count(folder, tables)
    for name, table in tables.items():
        table.schema.write(table.frame, folder.place(f"{name}.parquet", len(table.frame)))
    _finish(folder, tables, "Apache Parquet; columns have the kinds named here.", lambda name: f"`{name}.parquet`")


def _count(folder: Folder, tables: Tables) -> None:
    """Note how many rows each table has."""
    folder.tables.update({name: len(table.frame) for name, table in tables.items()})


def _finish(
    folder: Folder, tables: Tables, spelling: str, where: Callable[[str], str], more: Iterable[str] = ()
) -> None:
    """Write what every format has: the codebook and a README."""
    write_codebook(folder, {name: (table.schema, where(name)) for name, table in tables.items()}, spelling)
    lines = [
        "# Answers to a study of vimi",
        "",
        "People, machine observers and simulated people chose which of two pictures belongs to the pictures that "
        "activate a unit of a vision model. One row of the table of responses is one answer; `observer_kind` says "
        "who gave it. Practice trials are included, and marked by `kind`.",
        "",
        *introduce(folder.source),
        "",
        "## Files",
        "",
        *(f"- {where(name)}: {len(table.frame)} rows" for name, table in tables.items()),
        "- `codebook.md`, `codebook.json`: what every column means",
        "- `manifest.json`: the sources of the export, and the SHA-256 of every file",
        *more,
        "",
        "## People",
        "",
        "People appear under pseudonyms. The laboratory's table of payments, which is never exported, identifies "
        "them: drop that table before you publish data. "
        + (
            "The table of comments holds what people wrote; read it before you share it, since it may identify people."
            if "comments" in tables
            else "People's comments are not included."
        ),
        "",
        "## Sessions",
        "",
        "Each session of a person has a row, with the result of every exclusion rule of the protocol. A session that "
        "fails a rule is excluded from analysis, never from payment. Machine observers have no sessions.",
        "",
    ]
    folder.write("README.md", "\n".join(lines))


# -------------------------------------------------------------------- Psych-DS


def write_psych_ds(folder: Folder, tables: Tables) -> None:
    """Write a Psych-DS data set: JSON-LD metadata that name every column, and CSV files under ``data/``."""
    _count(folder, tables)
    key = re.sub("[^A-Za-z0-9]", "", folder.source.study)[:12]
    where = {name: f"data/study-{key}_description-{name}_data.csv" for name in tables}
    for name, table in tables.items():
        folder.write(where[name], _as_csv(spell(table)), len(table.frame))
    columns: dict[str, tuple[Column, list[str]]] = {}
    for name, table in tables.items():
        for column in table.schema.columns:
            columns.setdefault(column.name, (column, []))[1].append(name)
    folder.write_json(
        "dataset_description.json",
        {
            "@context": "https://schema.org/",
            "@type": "Dataset",
            "name": _title(folder.source),
            "description": _summary(folder.source),
            "schemaVersion": f"Psych-DS {PSYCH_DS_VERSION}",
            "dateCreated": folder.source.made_at,
            "version": folder.source.study,
            "keywords": ["psychophysics", "interpretability", "vision models", "two-alternative forced choice"],
            "variableMeasured": [_property(column, names) for column, names in columns.values()],
        },
    )
    folder.write(".psychdsignore", "codebook.json\ncodebook.md\nmanifest.json\n")
    spelling = "UTF-8, commas, a header; an empty cell has no value; times are in UTC."
    _finish(
        folder, tables, spelling, lambda name: f"`{where[name]}`",
        ["- `dataset_description.json`: the metadata of Psych-DS. Add author, licence and citation before publishing"],
    )  # fmt: skip


def _property(column: Column, tables: list[str]) -> dict[str, Any]:
    """Return a column as a property of schema.org."""
    values = f" One of: {', '.join(column.values)}." if column.values else ""
    empty = " May be empty." if column.nullable else ""
    return {
        "@type": "PropertyValue",
        "name": column.name,
        "description": f"{column.meaning}.{values}{empty} In: {', '.join(tables)}.",
        **({"unitText": UNITS[column.name]} if column.name in UNITS else {}),
    }


def _title(source: ExportSource) -> str:
    """Return what a data set is called."""
    return f"vimi study {source.name}" + (", pilot" if source.options["pilot"] else "")


def _summary(source: ExportSource) -> str:
    """Return what a data set is, in a paragraph."""
    notes = "".join(f" Note: {note}." for note in source.notes)
    return (
        "Answers of people, machine observers and simulated people to a two-alternative forced choice on units of "
        f"vision models: which of two pictures belongs to those that activate the unit. Protocol {source.protocol}, "
        f"study {source.study}, stimuli {source.stimuli_hash}, exported by vimi {__version__}.{notes}"
    )


# -------------------------------------------------------------------- BIDS


def write_bids(folder: Folder, tables: Tables) -> None:
    """Write BIDS behavioural data: every observer, machines too, is a subject, and every session a session of BIDS.

    So the rows are those of the other formats, cut up by session.
    """
    _count(folder, tables)
    responses, sessions = tables["responses"], tables["sessions"]
    folder.write_json(
        "dataset_description.json",
        {
            "Name": _title(folder.source),
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "GeneratedBy": [{"Name": "vimi", "Version": __version__, "Description": _summary(folder.source)}],
        },
    )
    folder.write_json(
        f"task-{TASK}_beh.json",
        {
            "TaskName": "Two-alternative forced choice",
            "TaskDescription": "Which of two pictures belongs to the pictures that activate a unit of a vision model?",
            **_sidecar(responses.schema),
        },
    )
    subjects = _labels(responses.frame["observer"].unique())
    people = responses.frame.drop_duplicates("observer")
    participants = pd.DataFrame(
        {
            "participant_id": [f"sub-{subjects[name]}" for name in people["observer"]],
            "observer": people["observer"].to_list(),
            "observer_kind": people["observer_kind"].to_list(),
        }
    )
    folder.write("participants.tsv", _as_tsv(participants), len(participants))
    kinds = next(column for column in responses.schema.columns if column.name == "observer_kind")
    folder.write_json(
        "participants.json",
        {
            "observer": {"Description": "name of the observer, or pseudonym of the participant, as in the answers"},
            "observer_kind": _describe(kinds),
        },
    )
    known = ExportTable(sessions.schema, sessions.frame)
    spelled = spell(responses, MISSING)
    facts = spell(known, MISSING)
    for observer, part in responses.frame.groupby("observer", sort=False):
        subject = f"sub-{subjects[observer]}"
        numbers = {name: f"ses-{number + 1:02d}" for number, name in enumerate(part["session"].unique())}
        for name, rows in part.groupby("session", sort=False):
            path = f"{subject}/{numbers[name]}/beh/{subject}_{numbers[name]}_task-{TASK}_beh.tsv"
            folder.write(path, _as_tsv(spelled.loc[rows.index]), len(rows))
        own = facts[facts["session"].isin(numbers)]
        if len(own):
            own = own.copy()
            own.insert(0, "session_id", [numbers[name] for name in own["session"]])
            folder.write(f"{subject}/{subject}_sessions.tsv", _as_tsv(own), len(own))
    if len(facts):
        folder.write_json("sessions.json", _sidecar(sessions.schema))
    for name in ("comments", "traces"):
        if name in tables:
            folder.write(f"sourcedata/{name}.tsv", _as_tsv(spell(tables[name], MISSING)), len(tables[name].frame))
            folder.write_json(f"sourcedata/{name}.json", _sidecar(tables[name].schema))
    folder.write(".bidsignore", "codebook.json\ncodebook.md\nmanifest.json\n")
    where = {
        "responses": f"`sub-*/ses-*/beh/*_task-{TASK}_beh.tsv`",
        "sessions": "`sub-*/sub-*_sessions.tsv`",
        "comments": "`sourcedata/comments.tsv`",
        "traces": "`sourcedata/traces.tsv`",
    }
    spelling = (
        f"UTF-8, tabs, a header, no quotes; {MISSING} stands for an empty cell, \\n and \\t in a text for a line break "
        "and a tab; times are in UTC."
    )
    _finish(
        folder, tables, spelling, where.__getitem__,
        ["- `participants.tsv`: every observer is a subject, machine observers too, so that no answer is left out"],
    )  # fmt: skip


def _labels(observers: Iterable[str]) -> dict[str, str]:
    """Return a label of letters and digits for each observer, no two alike even where case does not count."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for observer in observers:
        stem = re.sub("[^A-Za-z0-9]", "", observer) or "observer"
        label, number = stem, 1
        while label.casefold() in taken:
            number += 1
            label = f"{stem}x{number}"
        taken.add(label.casefold())
        labels[observer] = label
    return labels


def _sidecar(schema: Schema) -> dict[str, Any]:
    """Return BIDS's description of a table's columns."""
    return {column.name: _describe(column) for column in schema.columns}


def _describe(column: Column) -> dict[str, Any]:
    """Return BIDS's description of a column."""
    return {
        "Description": column.meaning,
        **({"Levels": {value: value for value in column.values}} if column.values else {}),
        **({"Units": UNITS[column.name]} if column.name in UNITS else {}),
    }


# -------------------------------------------------------------------- reading


def read_export(folder: Path | str) -> pd.DataFrame:
    """Read the answers of an export of any format, and check that they are unchanged.

    Returns
    -------
    The table of responses: the same for every format that was exported from the same answers.

    Raises
    ------
    HostingError
        If the folder is no export of answers, or was changed since.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    changes = find_changes(root)
    if changes:
        raise HostingError(f"{root} has changed since it was exported: {changes[0]}. Export the study again.")
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        "csv": lambda path: _read_csv(path / "responses.csv"),
        "parquet": lambda path: schemas.RESPONSES.read(path / "responses.parquet"),
        "psych-ds": lambda path: _read_csv(next(path.glob("data/*_description-responses_data.csv"))),
        "bids": _read_bids,
    }
    if manifest["format"] not in readers:
        raise HostingError(f"{root} holds trials ({manifest['format']}) without answers.")
    return readers[manifest["format"]](root)


def _read_csv(path: Path) -> pd.DataFrame:
    return parse(pd.read_csv(path, dtype="object", keep_default_na=False), schemas.RESPONSES)


def _read_bids(root: Path) -> pd.DataFrame:
    cells = [
        pd.read_csv(path, sep="\t", dtype="object", keep_default_na=False, quoting=csv.QUOTE_NONE)
        for path in sorted(root.glob("sub-*/ses-*/beh/*_beh.tsv"))
    ]
    table = parse(pd.concat(cells, ignore_index=True), schemas.RESPONSES, MISSING)
    return table.sort_values(ORDER, kind="stable").reset_index(drop=True)
