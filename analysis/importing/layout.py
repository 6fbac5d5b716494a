"""From files of any layout to one table of text, one row a trial.

Every cell stays text until it is known what it must be, so that a message can repeat what stands in the file. Each
row knows its file and its number there; the header is row 1.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.importing.cells import spell
from analysis.importing.faults import FILE, ROW
from analysis.importing.schema import with_origin
from benchmark.errors import ImportFailure, suggest

DELIMITERS = (",", ";", "\t", "|")
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_NO_TEXT = {
    b"PK\x03\x04": "a workbook of Excel or another zip archive: save the sheet as CSV (UTF-8), or unpack the archive",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel: save the sheet as CSV (UTF-8)",
    b"PAR1": 'a Parquet file: give it the ending .parquet, or write [file] format = "parquet" in the mapping',
    b"$FL2": "a file of SPSS: save it as CSV",
    b"SQLite format 3": "a database: export its table as CSV",
    b"%PDF": "a PDF",
    b"\x80\x04": "a pickle, which can run code when it is read: vimi reads none",
}
"""How files begin that are no text, and what they are."""
TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet")
"""Endings of files that are taken from a folder."""

_ENDINGS = (*TABLES, ".dat", ".tab", ".data", ".log")
"""Endings that are no part of a file's name."""

REMARKS = "remarks"
"""Key of a table's ``attrs`` under which its reader says what it has left out or filled."""


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a file's text, unpacked if it is packed; the mark that begins a UTF-16 or UTF-8 file tells its encoding.

    Raises
    ------
    ImportFailure
        If there is no such file, or it is no text in this encoding.
    """
    content = _read_bytes(path)
    _check_kind(path, content)
    chosen = encoding
    for mark, marked in _MARKS:
        if content.startswith(mark):
            content = content.removeprefix(mark)
            try:
                return _checked_text(path, content.decode(marked), marked)
            except UnicodeError:
                break  # the mark was put before text of another encoding
    try:
        return _checked_text(path, content.decode(chosen), chosen)
    except LookupError:
        raise ImportFailure(f"There is no encoding {encoding!r}; common ones are utf-8, utf-16, latin-1.") from None
    except UnicodeError as error:
        raise ImportFailure(
            f"{path} can't be read as {encoding} text: {error}. If it is text, state its encoding in the mapping: "
            '[file] encoding = "latin-1" or "utf-16".'
        ) from None


_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte-order marks, the longer ones first: UTF-32's begins like UTF-16's."""


def _read_bytes(path: Path) -> bytes:
    """Return what a file holds, unpacked by its ending, or by its first bytes where the ending is missing."""
    try:
        with open(path, "rb") as plain:
            start = plain.read(6)
        opener = _OPENERS.get(path.suffix.lower())
        opener = opener or next((own for magic, own in _PACKED.items() if start.startswith(magic)), open)
        with opener(path, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError:
        raise ImportFailure(f"There is no file {path}.") from None
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise ImportFailure(f"{path} can't be read: {error}.") from None


def _check_kind(path: Path, content: bytes) -> None:
    """Refuse files that are not text, whatever their names.

    Raises
    ------
    ImportFailure
        Naming what the file is, and what to save it as.
    """
    for magic, what in _NO_TEXT.items():
        if content.startswith(magic):
            raise ImportFailure(f"{path} is not text, but {what}.")


def _checked_text(path: Path, text: str, encoding: str) -> str:
    if "\x00" in text:
        raise ImportFailure(
            f"{path} can't be read as {encoding} text: it contains zero bytes, like UTF-16 without a byte order mark. "
            'State its encoding in the mapping: [file] encoding = "utf-16-le".'
        )
    return text


def is_parquet(path: Path) -> bool:
    """Return whether a file is Parquet, whatever its name says."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


class NothingInFile(ImportFailure):
    """A file without a single row: beside others it is left out and counted."""


def name_without_ending(name: str) -> str:
    """Return a file's name without the endings of tables and of packing; other points belong to the name."""
    for endings in (tuple(_OPENERS), _ENDINGS):
        for ending in endings:
            if name.lower().endswith(ending) and len(name) > len(ending):
                name = name[: -len(ending)]
                break
    return name


def sniff_delimiter(header: str) -> str:
    """Return what separates the columns of a header: whatever occurs most in it outside quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    found = max(DELIMITERS, key=bare.count)
    # R's write.table separates by spaces unless told otherwise.
    return " " if not bare.count(found) and re.search(r"\S +\S|^ +$", bare.strip("\r\n")) else found


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
        Lines above the header. A first line such as ``sep=;``, which Excel writes, is understood.
    columns
        Names of the columns, where the file has no header.

    Returns
    -------
    The table; rows that are wholly empty are left out. What else was left out or filled stands under ``REMARKS`` in
    its ``attrs``.

    Raises
    ------
    ImportFailure
        If the file can't be read, two columns have one name, or a row has more cells than the header.
    """
    text = read_text(path, encoding)
    if "\n" not in text:
        text = text.replace("\r", "\n")
    if not text.strip():
        raise NothingInFile(
            f"{path} is empty: there is no header in line {skip + 1}. Leave the file out, or export it again."
        )
    body = text.split("\n", skip)[-1] if text.count("\n") >= skip else ""
    said = re.match(r'"?sep=(.)"?[ \t]*\r?\n', body)
    if said:
        body, skip = body[said.end() :], skip + 1
        delimiter = said[1] if delimiter == "auto" else delimiter
    if not body.partition("\n")[0].strip():
        raise ImportFailure(f"{path}: there is no header in line {skip + 1}.")
    separator = sniff_delimiter(body.partition("\n")[0]) if delimiter == "auto" else delimiter
    # A long name such as JSON in a cell is no reason to stop: the whole file is in memory already.
    csv.field_size_limit(2**31 - 1)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    records = csv.reader(io.StringIO(body, newline=""), delimiter=separator, quotechar=quote or '"', quoting=quoting)
    names = _column_names(columns or next(records), path, skip + 1)
    first = skip + (1 if columns else 2)
    lengths = np.array([len(record) for record in records], dtype=np.int64)
    width = max(len(names), int(lengths.max(initial=0)))
    try:
        frame = pd.read_csv(
            io.StringIO(body), sep=separator, dtype="str", keep_default_na=False, na_filter=False, header=None,
            skip_blank_lines=False, quotechar=quote or '"', index_col=False, names=list(range(width)), quoting=quoting,
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        open_quote = re.search(r"EOF inside string starting at row (\d+)", str(error))
        if open_quote:
            raise ImportFailure(
                f"{path}, line {skip + 1 + int(open_quote[1])}: a quotation mark opens a text that no other closes, so "
                'that the rest of the file would be one cell. Close it, or write quote = "" under [file] in the '
                "mapping if quotation marks mean nothing in this file."
            ) from None
        raise ImportFailure(
            f"{path} can't be read as a table whose columns are separated by {separator!r}: {error}"
        ) from None
    frame = with_origin(frame.iloc[0 if columns else 1 :].reset_index(drop=True), path.name, first=first)
    cells = list(range(width))
    # A wholly empty row is no row.
    frame = frame[~(frame[cells].isna() | (frame[cells] == "")).all(axis=1)].reset_index(drop=True)
    if width > len(names):
        _check_surplus(frame, names, path, separator, lengths)
        frame = frame.drop(columns=cells[len(names) :])
    frame = frame.rename(columns=dict(enumerate(names)))
    remarks = []
    if not columns:
        again = _repeats_header(frame, names)
        if again.any():
            remarks.append(f"{int(again.sum()):,} rows of {path.name} that repeat its header are left out")
            frame = frame[~again].reset_index(drop=True)
    short = int(((lengths > 0) & (lengths < len(names))).sum())
    if short:
        remarks.append(f"{short:,} rows of {path.name} end before the last column: their last cells count as empty")
    if len(names) > 2:
        _check_quotes(frame, names, path, separator)
    frame.attrs[REMARKS] = remarks
    return frame


def _column_names(given: Sequence[str], path: Path, line: int) -> list[str]:
    """Return the names of columns; those without a name are numbered.

    Raises
    ------
    ImportFailure
        If two columns have one name: nobody could say which is meant.
    """
    names = [strip_cell(name) or f"Unnamed: {number}" for number, name in enumerate(given)]
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        places = [str(number + 1) for number, name in enumerate(names) if name == twice[0]]
        raise ImportFailure(
            f"{path}: the columns {' and '.join(places)} are both called {twice[0]!r}. Rename one of them, or name all "
            f"columns in the mapping: [file] header = [...], skip = {line}."
        )
    return names


def strip_cell(cell: str) -> str:
    """Return a cell without the white space and the invisible marks around it."""
    return cell.strip().strip(INVISIBLE).strip()


INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"
"""Marks that no editor shows."""


def _check_surplus(
    frame: pd.DataFrame, names: Sequence[str], path: Path, separator: str, lengths: NDArray[np.int64]
) -> None:
    """Check that cells beyond the header are empty, as separators at the end of rows leave them.

    Raises
    ------
    ImportFailure
        Naming the first row, the likely layout and the remedy.
    """
    surplus = frame[[name for name in frame.columns if isinstance(name, int) and name >= len(names)]]
    filled = (surplus.notna() & (surplus.apply(lambda own: own.str.strip()) != "")).any(axis=1).to_numpy()
    if not filled.any():
        return
    row = int(filled.argmax())
    cells = [cell for cell in frame.iloc[row][list(range(len(names) + len(surplus.columns)))] if isinstance(cell, str)]
    while cells and not cells[-1].strip():
        cells.pop()
    full = lengths[lengths > 0]
    leading = frame[0]
    if (full == len(names) + 1).all() and filled.all() and leading.is_unique:
        remedy = (
            "The first column has no name, as R's write.table leaves it: save it with col.names = NA or with "
            f"write.csv, or name all columns in the mapping: [file] skip = 1, header = ['row', "
            f"{', '.join(map(repr, names[:2]))}, ...]."
        )
        if separator == "," and _looks_split(cells):
            remedy += " Or numbers have decimal commas in a file that commas separate: save it with semicolons."
    elif separator == ",":
        remedy = (
            "Numbers with decimal commas, or text with commas, stand in a file that commas separate: save it with "
            "semicolons (then [file] decimal = ','), or with quotes around cells. R's write.table leaves the first "
            "column without a name: save with write.csv."
        )
    else:
        remedy = (
            f"A cell holds the separator {separator!r} without quotes around it, or a column has no name: save the "
            "file again with quotes, or name all columns in the mapping: [file] skip = 1, header = [...]."
        )
    raise ImportFailure(
        f"{path} can't be read as a table: row {int(frame[ROW].iloc[row]):,} has {len(cells)} cells, the header "
        f"{len(names)}, and so for {int(filled.sum()):,} of {len(frame):,} rows. {remedy}"
    )


def _looks_split(cells: Sequence[str]) -> bool:
    """Return whether a row has two whole numbers beside each other, as a decimal comma leaves them."""
    whole = [bool(re.fullmatch(r"-?\d+", cell.strip())) for cell in cells]
    return any(one and other for one, other in pairwise(whole))


def _repeats_header(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows repeat the header, as files that were joined line by line have them."""
    again = np.ones(len(frame), dtype=bool)
    for name in names:
        again &= (frame[name].str.strip() == name).fillna(False).to_numpy(dtype=bool)
        if not again.any():
            break
    return again


def _check_quotes(frame: pd.DataFrame, names: Sequence[str], path: Path, separator: str) -> None:
    """Refuse a quote that was never closed and has swallowed whole rows.

    Raises
    ------
    ImportFailure
        Naming the row.
    """
    for name in names:
        broken = frame[name].str.contains("\n", regex=False).fillna(False).to_numpy(dtype=bool)
        for row in np.flatnonzero(broken).tolist():
            inner = str(frame[name].iloc[row]).splitlines()
            if any(line.count(separator) == len(names) - 1 for line in inner[1:]):
                raise ImportFailure(
                    f"{path}: in row {int(frame[ROW].iloc[row]):,} the cell {name!r} contains whole rows of the "
                    "table, because its opening quote is never closed. Close it, or turn quoting off in the mapping: "
                    "[file] quote = ''."
                )


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
    if not text.strip():
        raise NothingInFile(f"{path} is empty. Leave the file out, or export it again.")
    try:
        try:
            records = _parse_json(text)
        except ValueError:
            records = [_parse_json(line) for line in text.splitlines() if line.strip()]
        trials = list(_trials(records if isinstance(records, list) else [records], rows, path))
    except _TwiceNamed as error:
        raise ImportFailure(f"{path}: a record has two values called {error}. Rename one of them.") from None
    except ValueError as error:
        raise ImportFailure(f"{path} is neither JSON nor lines of JSON: {error}") from None
    if not trials:
        raise NothingInFile(f"{path} holds no trials. Leave the file out, or export it again.")
    frame = pd.DataFrame(trials).astype(object)
    frame = frame.where(frame.notna(), "").astype("str")
    return with_origin(frame, path.name, first=1)


class _TwiceNamed(Exception):
    """Two values of a record have one name."""


def _parse_json(text: str) -> Any:
    """Read JSON whose objects name every value once: Python's reader would keep the last of two, silently."""
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceNamed(repr(next(name for name in names if names.count(name) > 1)))
    return record


def _trials(records: Iterable[Any], rows: str, path: Path) -> Iterator[dict[str, str]]:
    """Yield trials as flat rows of text."""
    for record in records:
        if isinstance(record, list):
            yield from _trials(record, rows, path)
        elif not isinstance(record, dict):
            raise ImportFailure(f"{path}: {json.dumps(record)[:60]} was found where a trial is expected.")
        elif rows:
            inner: Any = record
            for part in rows.split("."):
                inner = inner.get(part) if isinstance(inner, dict) else None
            if isinstance(inner, str):
                inner = _parse_json(inner)
            if not isinstance(inner, list):
                raise ImportFailure(f"{path}: a record has no list of trials under {rows!r}.")
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
            own = _flat(item, f"{prefix}{name}.")
        elif item is not None:
            own = {f"{prefix}{name}": json.dumps(item) if isinstance(item, list) else spell(item)}
        else:
            continue
        if flat.keys() & own.keys():
            raise _TwiceNamed(repr(min(flat.keys() & own.keys())))
        flat |= own
    return flat


def read_parquet_text(path: Path) -> pd.DataFrame:
    """Read Parquet, every cell as text: whole numbers beside missing ones stay exact.

    Raises
    ------
    ImportFailure
        If it is no Parquet, or two columns have one name.
    """
    frame = read_parquet(path)
    for name in frame.columns:
        missing = frame[name].isna()
        frame[name] = pd.Series([_spell_value(value) for value in frame[name]], index=frame.index).mask(missing, "")
    # A wholly empty row is no row, as in text.
    blank = (frame == "").all(axis=1) if len(frame.columns) else pd.Series(False, index=frame.index)
    frame = with_origin(frame, path.name, first=1)[~blank].reset_index(drop=True)
    if blank.any():
        frame.attrs[REMARKS] = [f"{int(blank.sum()):,} rows of {path.name} are wholly empty and left out"]
    return frame


def read_parquet(path: Path) -> pd.DataFrame:
    """Read Parquet, without the index that pandas may have stored in it; whole numbers stay whole beside missing ones.

    Raises
    ------
    ImportFailure
        If it is no Parquet, or two columns have one name.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        _column_names(table.column_names, path, 1)
        frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    except FileNotFoundError:
        raise ImportFailure(f"There is no file {path}.") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ImportFailure(f"{path} is not a readable Parquet file: {error}") from None
    return frame


def _spell_value(value: Any) -> str:
    """Spell a value of Parquet as a cell of text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray | list | tuple):
        return json.dumps([item.item() if isinstance(item, np.generic) else item for item in value], default=str)
    if isinstance(value, dict):
        return json.dumps(value, default=str)
    return spell(value.item() if isinstance(value, np.generic) else value)


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
        raise ImportFailure(f"{path} is a pickle. Reading one can run code, so vimi reads none. Give a text file.")
    return [path]


def call_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by what to call them: their names, or their places below the common folder where names repeat.

    Raises
    ------
    ImportFailure
        If a file is given twice.
    """
    whole = [path.resolve() for path in paths]
    twice = [path for number, path in enumerate(whole) if path in whole[:number]]
    if twice:
        raise ImportFailure(f"{twice[0]} is given twice, so its answers would count twice. Give it once.")
    if len({name_without_ending(path.name) for path in paths}) == len(paths):
        return {path.name: path for path in paths}
    common = Path(os.path.commonpath([path.parent for path in whole]))
    return {path.relative_to(common).as_posix(): given for path, given in zip(whole, paths)}


def count_others(given: Any, pattern: str, mapping: Any) -> list[str]:
    """Return notes on what a folder holds beside the tables: other files, links to nothing, folders with tables."""
    folders = [Path(item) for item in ([given] if isinstance(given, str | Path) else given) if Path(item).is_dir()]
    if pattern or not folders:
        return []
    own = {Path(mapping).resolve()} if isinstance(mapping, str | Path) else set()
    endings = [
        path.suffix.lower() or path.name
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and not _table_ending(path) and path.resolve() not in own
    ]
    notes = []
    if endings:
        counts = ", ".join(f"{endings.count(ending):,} {ending}" for ending in dict.fromkeys(endings))
        notes.append(f"{len(endings):,} files of the folder are no tables and were left out: {counts}")
    inside = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    dangling = [path.name for path in inside if _table_ending(path) and path.is_symlink() and not path.exists()]
    if dangling:
        names = ", ".join(dangling[:3]) + (" …" if dangling[3:] else "")
        notes.append(f"{len(dangling):,} links of the folder lead to no file and were left out: {names}")
    below = [path.name for path in inside if path.is_dir() and _holds_tables(path)]
    if below:
        names = ", ".join(below[:3]) + (" …" if below[3:] else "")
        notes.append(
            f"{len(below):,} folders inside the folder hold tables and were left out: {names}; "
            'to read them too: [file] pattern = "*.csv"'
        )
    return notes


def _holds_tables(folder: Path) -> bool:
    return any(_table_ending(path) for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file())


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


def join(
    frame: pd.DataFrame, other: pd.DataFrame, on: Sequence[tuple[str, str]], file: str
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Return a table with the columns of another one joined to it.

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
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1), positions < 0
