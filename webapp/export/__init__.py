"""Export: a study's answers as data sets that others can read, and its trials for laboratories that host elsewhere.

Answers of people, machine observers and simulated people leave in one table, with the very columns and rows in every
format; formats differ in files and spelling only. People appear under pseudonyms. An export is a folder that is
there as a whole or not at all, with a manifest that says what it was made from and the hash of every file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import HostingError, NameNotFound
from benchmark.progress import Reporter
from benchmark.study import Study
from webapp.export import datasets, experiments
from webapp.export.folder import ExportSource, Folder, new_export
from webapp.export.tables import Tables, collect_tables

ANSWERS: dict[str, Callable[[Folder, Tables], None]] = {
    "csv": datasets.write_csv,
    "parquet": datasets.write_parquet,
    "psych-ds": datasets.write_psych_ds,
    "bids": datasets.write_bids,
}
"""Formats that hold answers."""

TRIALS: dict[str, Callable[[Folder, Study, Reporter], None]] = {
    "jspsych": experiments.write_jspsych,
    "psychopy": experiments.write_psychopy,
}
"""Formats that hold trials."""

FORMATS = (*ANSWERS, *TRIALS)


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes
    ----------
    folder
        Where it is.
    format
        Its format.
    rows
        Rows of each table.
    files
        How many files there are, the manifest among them.
    """

    folder: Path
    format: str
    rows: dict[str, int]
    files: int


def export_study(
    study: Study,
    format: str,
    out: Path | str | None = None,
    *,
    database: str = "",
    pilot: bool = False,
    usable_only: bool = False,
    comments: bool = False,
    traces: bool = False,
    reporter: Reporter | None = None,
) -> Export:
    """Write a study's answers, or its trials, into a folder.

    Parameters
    ----------
    study
        The study.
    format
        One of :data:`FORMATS`.
    out
        The folder; it must be new, empty, or an earlier export that nobody has changed since. If it is not given,
        ``exports/FORMAT`` of the study.
    database
        URL of the database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.
    pilot
        Export people's answers to the pilot instead of those to the study; nothing else is then exported.
    usable_only
        Leave out sessions that fail an exclusion rule of the protocol, and their answers.
    comments
        Add people's free texts, in a table of their own: what somebody writes may say who they are.
    traces
        Add a table with what the browser noted of each answer besides: a summary of the pointer, early input.
    reporter
        Shows progress.

    Raises
    ------
    NameNotFound
        If there is no such format.
    HostingError
        If there is nothing to export, an option does not fit the format, or the folder holds something else.
    DatabaseError
        If the database can't be read.
    StorageError
        If the folder can't be written; an earlier export is then untouched.
    """
    if format not in FORMATS:
        raise NameNotFound("format of an export", format, FORMATS)
    options = {"pilot": pilot, "usable_only": usable_only, "comments": comments, "traces": traces}
    given = [f"--{name.replace('_', '-')}" for name, value in {**options, "database": database}.items() if value]
    if format in TRIALS and given:
        raise HostingError(
            f"The format {format!r} holds trials without answers, so {given[0]} does not apply. Leave it out."
        )
    target = Path(out) if out is not None else _usual_folder(study, format, options)
    with new_export(target, ExportSource.of(study, format, options)) as folder:
        if format in ANSWERS:
            write = ANSWERS[format]
            tables = collect_tables(
                study, database, pilot=pilot, usable_only=usable_only, comments=comments, traces=traces
            )
            write(folder, tables)
        else:
            TRIALS[format](folder, study, reporter or Reporter())
    return Export(target, format, folder.tables, len(folder.files) + 1)


def _usual_folder(study: Study, format: str, options: dict[str, bool]) -> Path:
    """Return the study's default folder for an export."""
    marks = [name.partition("_")[0] for name in ("pilot", "usable_only") if options[name]]
    return study.root / "exports" / "-".join([format, *marks])
