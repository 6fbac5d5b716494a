"""From files of any layout to one table of text, one row a trial.

Every cell stays text until it is known what it must be, so that a message can repeat what stands in the file. Each
row knows its file and its number there; the header is row 1.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.importing.cells import spell
from analysis.importing.faults import FILE, ROW
from analysis.importing.schema import with_origin
from benchmark.errors import ImportFailure, suggest

DELIMITERS = (",", ";", "\t", "|")
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet")
"""Endings of files that are taken from a folder."""


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a file's text, unpacked if it is packed.

    Raises
    ------
    ImportFailure
        If there is no such file, or it is no text in this encoding.
    """
    opener = _OPENERS.get(path.suffix.lower(), open)
    chosen = "utf-8-sig" if encoding.replace("_", "-").lower() in ("utf-8", "utf8") else encoding
    try:
        with opener(path, "rt", encoding=chosen, newline="") as file:
            return str(file.read())
    except FileNotFoundError:
        raise ImportFailure(f"There is no file {path}.") from None
    except LookupError:
        raise ImportFailure(f"There is no encoding {encoding!r}; common ones are utf-8, utf-16, latin-1.") from None
    except (UnicodeError, EOFError, OSError, lzma.LZMAError) as error:
        raise ImportFailure(
            f"{path} can't be read as {encoding} text: {error}. If it is text, say its encoding in the mapping: "
            '[file] encoding = "latin-1" or "utf-16".'
        ) from None


def sniff_delimiter(header: str) -> str:
    """Return what separates the columns of a header: whatever occurs most in it outside quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=bare.count)


def read_csv_text(
    path: Path,
    *,
    delimiter: str = "auto",
    encoding: str = "utf-8",
    quote: str = '"',
    skip: int = 0,
    columns: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a table of separated values, every cell as text.

    Parameters
    ----------
    path
        The file, which may be packed (.gz, .bz2, .xz).
    delimiter
        What separates columns; ``auto`` finds out.
    encoding, quote
        How the text is written.
    skip
        Lines above the header.
    columns
        Names of the columns, where the file has no header.

    Returns
    -------
    The table; rows that are wholly empty are left out.

    Raises
    ------
    ImportFailure
        If the file can't be read, or a row has more cells than the header.
    """
    text = read_text(path, encoding)
    above = text.split("\n", skip + 1)
    header = above[skip] if len(above) > skip else ""
    if not header.strip():
        raise ImportFailure(f"{path}: there is no header in line {skip + 1}.")
    separator = sniff_delimiter(header) if delimiter == "auto" else delimiter
    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=separator, dtype="str", keep_default_na=False, na_filter=False, skiprows=skip,
            skip_blank_lines=False, quotechar=quote or '"', index_col=False, names=list(columns) or None,
            header=None if columns else 0, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise ImportFailure(
            f"{path} can't be read as a table whose columns are separated by {separator!r}: {error}"
        ) from None
    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    frame = with_origin(frame, path.name, first=skip + (1 if columns else 2))
    cells = frame[[name for name in frame.columns if name not in (FILE, ROW)]]
    # A row that ends early has missing cells, a wholly empty one is no row.
    blank = (cells.isna() | (cells == "")).all(axis=1)
    return frame[~blank].reset_index(drop=True)


def read_json_text(path: Path, *, encoding: str = "utf-8", rows: str = "") -> pd.DataFrame:
    """Read JSON: a list of trials, or lines of trials or of lists of trials. Nested values get dotted names.

    Parameters
    ----------
    path
        The file.
    encoding
        How the text is written.
    rows
        Where the list of trials stands in each record; the record's other values are repeated in its trials.

    Raises
    ------
    ImportFailure
        If it is no JSON, or holds no list of trials.
    """
    text = read_text(path, encoding)
    try:
        records = json.loads(text)
    except ValueError:
        try:
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise ImportFailure(f"{path} is neither JSON nor lines of JSON: {error}") from None
    trials = list(_trials(records if isinstance(records, list) else [records], rows, path))
    if not trials:
        raise ImportFailure(f"{path} holds no trials.")
    frame = pd.DataFrame(trials).astype(object)
    frame = frame.where(frame.notna(), "").astype("str")
    return with_origin(frame, path.name, first=1)


def _trials(records: Iterable[Any], rows: str, path: Path) -> Iterator[dict[str, str]]:
    """Yield trials as flat rows of text."""
    for record in records:
        if isinstance(record, list):
            yield from _trials(record, rows, path)
        elif not isinstance(record, dict):
            raise ImportFailure(f"{path}: {json.dumps(record)[:60]} stands where a trial is expected.")
        elif rows:
            inner: Any = record
            for part in rows.split("."):
                inner = inner.get(part) if isinstance(inner, dict) else None
            if isinstance(inner, str):
                inner = json.loads(inner)
            if not isinstance(inner, list):
                raise ImportFailure(f"{path}: a record holds no list of trials under {rows!r}.")
            shared = {name: value for name, value in _flat(record).items() if not _below(name, rows)}
            for trial in inner:
                yield shared | _flat(trial)
        else:
            yield _flat(record)


def _below(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return a nested record as one level of text, names joined by points."""
    flat: dict[str, str] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            flat |= _flat(item, f"{prefix}{name}.")
        elif isinstance(item, list):
            flat[f"{prefix}{name}"] = json.dumps(item)
        elif item is not None:
            flat[f"{prefix}{name}"] = spell(item)
    return flat


def read_parquet_text(path: Path) -> pd.DataFrame:
    """Read Parquet, every cell as text.

    Raises
    ------
    ImportFailure
        If it is no Parquet.
    """
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ImportFailure(f"{path} is no readable Parquet file: {error}") from None
    for name in frame.columns:
        missing = frame[name].isna()
        frame[name] = pd.Series([spell(value) for value in frame[name]], index=frame.index).mask(missing, "")
    return with_origin(frame, path.name, first=1)


def find_files(given: Path | str | Sequence[Path | str], pattern: str = "") -> list[Path]:
    """Return the files that are meant: a file, a folder's tables, a pattern, or several of these.

    Raises
    ------
    ImportFailure
        If nothing is there, or it is a pickle.
    """
    if not isinstance(given, str | Path):
        return [path for item in given for path in find_files(item, pattern)]
    path = Path(given)
    if path.is_dir():
        offered = path.rglob(pattern) if pattern else path.iterdir()
        found = sorted(p for p in offered if p.is_file() and not p.name.startswith("."))
        found = found if pattern else [p for p in found if _table_ending(p)]
        if not found:
            raise ImportFailure(f"{path} holds no {pattern or 'tables (' + ' '.join(TABLES) + ')'}.")
        return found
    if not path.exists() and any(sign in path.name for sign in "*?["):
        found = sorted(path.parent.glob(path.name))
        if not found:
            raise ImportFailure(f"Nothing matches {path}.")
        return found
    if not path.exists():
        raise ImportFailure(f"There is no file {path}.")
    if path.suffix in (".pkl", ".pickle"):
        raise ImportFailure(f"{path} is a pickle, which can run code when it is read: vimi reads none. Give text.")
    return [path]


def _table_ending(path: Path) -> bool:
    name = path.name.lower()
    return any(name.endswith((ending, *(ending + packed for packed in _OPENERS))) for ending in TABLES)


# ---------------------------------------------------------------- reshaping


def check_columns(frame: pd.DataFrame, names: Iterable[str], where: str, what: str = "the file") -> None:
    """Check that columns are there.

    Raises
    ------
    ImportFailure
        Naming the one that is not, and the near ones.
    """
    known = [name for name in frame.columns if not str(name).startswith("\x00")]
    for name in names:
        if name not in known:
            raise ImportFailure(f"{where}: {what} has no column {name!r}. {suggest(name, known)}")


def expand_json(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a table with the columns of JSON taken apart: ``response`` becomes ``response.Q0`` and so on.

    Cells that are no JSON object stay as they are.
    """
    check_columns(frame, names, "[file] json")
    for name in names:
        parts = [_object(cell) for cell in frame[name]]
        keys = dict.fromkeys(key for part in parts for key in part)
        added = {f"{name}.{key}": [part.get(key, "") for part in parts] for key in keys}
        frame = pd.concat([frame, pd.DataFrame(added, index=frame.index, dtype="str")], axis=1)
    return frame


def _object(cell: str) -> dict[str, str]:
    try:
        value = json.loads(cell)
    except (ValueError, TypeError):
        return {}
    return _flat(value) if isinstance(value, dict) else {}


def fill_down(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a table in which empty cells of columns hold what stands above them in the same file; at the top of a
    file, what stands below.
    """
    check_columns(frame, names, "[file] fill")
    frame = frame.copy()
    for name in names:
        cells = frame[name].mask(frame[name] == "")
        grouped = cells.groupby(frame[FILE], sort=False)
        filled = grouped.ffill()
        frame[name] = filled.fillna(filled.groupby(frame[FILE], sort=False).bfill()).fillna("")
    return frame


def melt(frame: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """Return a table with a row a trial, of one with columns for each trial.

    Parameters
    ----------
    frame
        One row a session, columns such as ``trial3_rt``.
    pattern
        Regular expression with the groups ``trial`` and ``field``; columns that match it wholly are taken apart.

    Returns
    -------
    The other columns, repeated; ``trial``; and one column for each field.
    """
    matches = {name: found for name in frame.columns if (found := re.fullmatch(pattern, name))}
    if not matches:
        raise ImportFailure(f"[wide]: no column matches {pattern!r}. The first are {', '.join(frame.columns[:5])}.")
    shared = [name for name in frame.columns if name not in matches]
    trials: dict[str, dict[str, str]] = {}
    for name, found in matches.items():
        trials.setdefault(found["trial"], {})[found["field"]] = name
    parts = []
    for trial, fields in trials.items():
        part = frame[shared].copy()
        part["trial"] = trial
        for name, column in fields.items():
            part[name] = frame[column]
        parts.append(part)
    joined = pd.concat(parts, keys=range(len(parts)))
    ordered = joined.swaplevel().sort_index(kind="stable").reset_index(drop=True)
    return ordered.where(ordered.notna(), "")


def fold(frame: pd.DataFrame, by: Sequence[str], part: str) -> pd.DataFrame:
    """Return a table with a row a trial, of one in which a trial is spread over several rows.

    Parameters
    ----------
    frame
        One row for each part of a trial.
    by
        Columns that name the trial.
    part
        Column that names the part: its values stand before the names of the columns, ``rating.rt``.

    Returns
    -------
    The columns of ``by``; for each part its columns with its name before; and, under their own names, the first cell
    of the trial that is not empty.
    """
    check_columns(frame, [*by, part], "[fold]")
    keys = [FILE, *by]
    twice = frame.duplicated([*keys, part])
    if twice.any():
        row = frame.loc[twice.idxmax()]
        raise ImportFailure(
            f"[fold]: {row[FILE]}, row {row[ROW]:,} is a second {part} = {row[part]!r} of the trial that "
            f"{', '.join(f'{name} = {row[name]!r}' for name in by)} names."
        )
    others = [name for name in frame.columns if name not in (*keys, ROW)]
    cells = frame[others].mask(frame[others] == "")
    table = pd.concat([frame[keys], frame[[ROW]], cells], axis=1).groupby(keys, sort=False).first().reset_index()
    folded = [table.where(table.notna(), "")]
    for value, rows in frame.groupby(part, sort=False):
        if value == "":
            continue
        own = rows.set_index(keys)[[name for name in others if name != part]].add_prefix(f"{value}.")
        matched = own.reindex(pd.MultiIndex.from_frame(table[keys]))
        folded.append(matched.reset_index(drop=True).fillna(""))
    return pd.concat(folded, axis=1)


def join(frame: pd.DataFrame, other: pd.DataFrame, on: Sequence[tuple[str, str]], file: str, all_rows: bool) -> Any:
    """Return a table with the columns of another one that says more of the same things.

    Parameters
    ----------
    frame
        The table.
    other
        The other one; what ``on`` names must name one row in it.
    on
        Pairs of columns, here and there, that must agree.
    file
        Name of the other file, for messages.
    all_rows
        Whether every row must have its counterpart; else what is missing is empty.

    Returns
    -------
    The table, and which of its rows lack a counterpart, shape (rows,).
    """
    here, there = [left for left, _ in on], [right for _, right in on]
    check_columns(frame, here, f"[[join]] {file}")
    check_columns(other, there, f"[[join]] {file}", file)
    keys = other[there].astype("str")
    twice = keys.duplicated()
    if twice.any():
        row = other.loc[twice.idxmax()]
        said = ", ".join(f"{name} = {row[name]!r}" for name in there)
        raise ImportFailure(f"[[join]] {file}: row {row[ROW]:,} is a second one with {said}.")
    index = pd.MultiIndex.from_frame(keys.set_axis(here, axis=1))
    positions = index.get_indexer(pd.MultiIndex.from_frame(frame[here].astype("str")))
    added = [name for name in other.columns if name not in (*there, FILE, ROW)]
    both = [name for name in added if name in frame.columns]
    if both:
        raise ImportFailure(
            f"[[join]] {file}: both tables have a column {both[0]!r}; join on it, or rename it in one of them."
        )
    columns = {}
    for name in added:
        cells = np.append(other[name].to_numpy(dtype=object), "")
        columns[name] = pd.Series(cells[positions], index=frame.index, dtype="str")
    lacking = positions < 0
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1), (
        lacking if all_rows else np.zeros(len(frame), dtype=bool)
    )
