"""The codebook of an export: what every column of every table means, for programs and for readers."""

from __future__ import annotations

from typing import Any

from benchmark.schemas import Column, ColumnKind, Schema
from webapp.export.folder import ExportSource, Folder

UNITS = {"rt_ms": "ms", "onset_delay_ms": "ms", "server_ms": "ms", "total_seconds": "s", "instruction_seconds": "s",
         "connection_mbps": "Mbit/s"}  # fmt: skip
"""Units of columns that are measured in one."""

SPELLING: dict[ColumnKind, str] = {
    "string": "text",
    "integer": "whole number",
    "number": "number, with a point",
    "boolean": "true or false",
    "time": "date and time in UTC, ISO 8601, to the microsecond",
    "strings": "list of texts",
    "integers": "list of whole numbers",
}
"""How each kind of column is spelled in files of text."""


NOTES: dict[str, tuple[str, ...]] = {
    "responses": (
        "`rt_ms` runs from the first frame of a trial's pictures to the key or button going down. It is empty if the "
        "person had seen the trial before, because the page was reloaded or opened again: how long they saw it is "
        "unknown. The answer still counts. Such trials carry `again` in the traces. Answers with plain buttons have "
        "no reaction times either.",
        "`rendition` says how the pictures were sent: `original`, the study's own files; `lossless-160/1`, lossless, "
        "references at 160 pixels; `compact-160/1`, JPEGs of quality 92 without colour subsampling. `full` means "
        "that references are not made smaller; queries never are. The number after the slash is the version of the "
        "method.",
    ),
    "sessions": (
        "`total_seconds` includes reloads and pauses. No rule looks at single reaction times, so a reload alone "
        "excludes nobody.",
        "`evidence` is JSON: `automation`, the browser's own report; `traps`, how often a sign was seen, such as "
        "`pointer jump` and `centred press`; `agents`, the agent that signed the requests (not verified); `writing`, "
        "figures on how the comment was written. None of these excludes anybody.",
    ),
    "traces": (
        "`trace` may hold: `moves`, `path`, `straight` (pixels), `first_move_ms`, `offset_x`, `offset_y` (pixels "
        "from the middle of the button), `touch`, `keys`, `untrusted` (events that a script made), `again` (1: shown "
        "before a reload, so that `rt_ms` is empty), `covered` (1: a key was pressed while a dialog covered the "
        "trial, and did not count).",
    ),
}
"""What a reader must know of a table besides its columns."""


def describe_column(column: Column) -> dict[str, Any]:
    """Return a column's entry in the codebook."""
    return {
        "name": column.name,
        "kind": column.kind,
        "meaning": column.meaning,
        "may_be_empty": column.nullable,
        **({"values": list(column.values)} if column.values else {}),
        **({"unit": UNITS[column.name]} if column.name in UNITS else {}),
    }


def write_codebook(folder: Folder, tables: dict[str, tuple[Schema, str]], spelling: str) -> None:
    """Write ``codebook.json`` and ``codebook.md``.

    Parameters
    ----------
    folder
        The export.
    tables
        Schema of each table, and in words where it is.
    spelling
        How values are spelled in this format.
    """
    folder.write_json(
        "codebook.json",
        {
            "spelling": spelling,
            "tables": {
                name: {
                    "where": where,
                    "rows": folder.tables.get(name),
                    "columns": [describe_column(column) for column in schema.columns],
                    "notes": list(NOTES.get(name, ())),
                }
                for name, (schema, where) in tables.items()
            },
        },
    )
    lines = ["# Codebook", "", spelling, ""]
    for name, (schema, where) in tables.items():
        lines += [f"## {name}", "", f"{where}. Rows: {folder.tables.get(name)}.", ""]
        lines += ["| column | kind | may be empty | meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(column) for column in schema.columns]
        lines.append("")
        for note in NOTES.get(name, ()):
            lines += [note, ""]
    folder.write("codebook.md", "\n".join(lines))


def _row(column: Column) -> str:
    """Return a column's row of the readable codebook."""
    meaning = column.meaning
    if column.name in UNITS:
        meaning += f" (unit: {UNITS[column.name]})"
    if column.values:
        meaning += f"; one of: {', '.join(column.values)}"
    cells = (f"`{column.name}`", SPELLING[column.kind], "yes" if column.nullable else "no", meaning.replace("|", "\\|"))
    return f"| {' | '.join(cells)} |"


def introduce(source: ExportSource) -> list[str]:
    """Return the README's lines about the study, in Markdown, for every format."""
    lines = [
        f"- study: `{source.name}` (hash `{source.study}`)",
        f"- protocol: `{source.protocol}`",
        f"- stimuli: `{source.stimuli_hash}`",
        f"- exported: {source.made_at}",
    ]
    lines += [f"- **{note}**" for note in source.notes]
    if source.options["pilot"]:
        lines.append("- **answers to a pilot, not to the study**")
    if source.options["usable_only"]:
        lines.append("- only sessions that pass all exclusion rules of the protocol")
    return lines
