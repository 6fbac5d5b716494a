"""What a table of answers must be, beyond its cells: rows that count once, names that tell people apart, times in
milliseconds, and no column that varies within a cell without having been asked for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.importing.cells import EXACT, is_rounded
from analysis.importing.faults import Faults
from benchmark.errors import ImportFailure

CELL = ("model", "condition", "difficulty", "references", "references_per_side")
"""What makes a cell: answers that share all of it are pooled by every analysis."""

MOST_LEVELS = 30
"""A column with more distinct values is no factor of an experiment: it holds times, pictures or names."""

NO_NAMES = frozenset({"none", "nan", "null", "undefined", "nat", "<na>", "n/a", "#n/a", "#value!", "#ref!", "#name?"})
"""How programs spell that a name is missing."""

SIDES = (
    {"left", "right"}, {"upper", "lower"}, {"top", "bottom"}, {"up", "down"}, {"a", "b"}, {"max", "min"}, {"l", "r"},
)  # fmt: skip
"""Words for the two sides of a trial."""

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(rf"\d{{1,2}}-(?:{_MONTHS})(?:-\d\d(?:\d\d)?)?|(?:{_MONTHS})-\d{{1,4}}", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(\.0+)?")
_SHORTENED = re.compile(r"\d+(\.\d+)?[eE]\d+")

FASTEST_MEDIAN, SLOWEST_MEDIAN = 50.0, 3_600_000.0
"""No person takes less than 50 ms, or more than an hour, for half of the answers."""

ENOUGH_TIMES = 20
"""With fewer times, a strange median is said instead of refused."""

ENOUGH_ANSWERS = 20
"""With fewer answers, all of them can be wrong: that is said instead of refused."""


# ---------------------------------------------------------------- names


def has_decimal_names(values: pd.Series) -> bool:
    """Return whether all names are whole numbers, and some are spelled 1.0, as pandas does beside missing ones."""
    distinct = [str(value) for value in values.dropna().unique()]
    found = [_NUMBER.fullmatch(value) for value in distinct]
    exact = bool(distinct) and all(found) and not any(map(is_rounded, distinct))
    return exact and any(match[1] for match in found if match)


def without_decimals(values: pd.Series) -> pd.Series:
    """Return names without the decimals of whole numbers."""
    return values.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)


def check_names(values: pd.Series, called: str, faults: Faults) -> list[str]:
    """Check that names of people or sessions still are what was written down; return what must be said of them.

    Faults are numbers that a program has rounded, dates that a spreadsheet made of names, spellings of a missing
    value, and numbers that differ only in leading zeros or in how they are spelled (1e5).
    """
    distinct = [str(value) for value in values.dropna().unique()]
    strange = {name: "a program has rounded the number: export names as text" for name in distinct if is_rounded(name)}
    strange |= {
        name: "so programs spell a missing value: leave the row out by a rule in [[kinds]], or list it under missing"
        for name in distinct
        if name.casefold() in NO_NAMES
    }
    dates = [name for name in distinct if _DATE.fullmatch(name)]
    if len(dates) < len(distinct):
        reason = "a spreadsheet seems to have made a date of a name: export it as text, or name it by values"
        strange |= dict.fromkeys(dates, reason)
    by_number: dict[int, str] = {}
    for name in sorted((name for name in distinct if name.isdecimal()), key=lambda name: (-len(name), name)):
        other = by_number.setdefault(int(name), name)
        if other != name:
            strange[name] = (
                f"another row has {other!r}: write both alike, or tell them apart by a template such as "
                f'"P{{{called.split(chr(39))[1] if chr(39) in called else "column"}}}"'
            )
    for name in filter(_SHORTENED.fullmatch, distinct):
        number = float(name)
        plain = by_number.get(int(number)) if number.is_integer() and number < EXACT else None
        if plain is not None:
            strange.setdefault(name, f"another row has {plain!r}, which is the same number: export names as text")
    for name, reason in strange.items():
        faults.add((values == name).fillna(False).to_numpy(dtype=bool), called, reason, values)
    return _near(distinct, called)


def _near(names: Sequence[str], what: str) -> list[str]:
    """Return notes on names that differ only in case or white space."""
    kept: dict[str, str] = {}
    notes = []
    for name in names:
        other = kept.setdefault(" ".join(name.casefold().split()), name)
        if other != name:
            notes.append(f"{what}: {other!r} and {name!r} differ only in case or white space, and count as two")
    return notes[:3]


def check_labels(responses: pd.DataFrame) -> list[str]:
    """Return notes on models, layers and conditions that differ only in case or white space."""
    notes = []
    for column in ("model", "layer", "condition"):
        notes += _near([str(name) for name in responses[column].unique()], column)
    return notes


# ---------------------------------------------------------------- rows that count once


def check_copies(
    rows: pd.DataFrame, files: pd.Series, times: pd.Series | None, named: bool, origin: Faults
) -> list[str]:
    """Check that no answer is counted twice; return what must be said of rows that are equal.

    Parameters
    ----------
    rows
        What the files say of each answer, without what the reader added.
    files
        File of each answer.
    times
        Reaction times: with them, two equal rows are one answer.
    named
        Whether the file's name tells the person: then files may be equal in part without being copies.
    origin
        Names rows.

    Raises
    ------
    ImportFailure
        If a file's answers are all in another file, or an answer with its reaction time stands in two files.
    """
    codes = pd.util.hash_pandas_object(rows, index=False).to_numpy()
    timed = times is not None and bool(times.notna().any()) and times.nunique() > 1
    table = pd.DataFrame({"row": codes, "file": files.to_numpy(), "place": np.arange(len(codes))})
    if timed and times is not None:
        table = table[times.notna().to_numpy()]
    if table["file"].nunique() > 1 and (timed or not named):
        _check_files(table, timed and not named, origin)
    within = table[table.duplicated(["file", "row"], keep=False)]
    if not timed or within.empty:
        return []
    again = within[within.duplicated(["file", "row"])]
    first, second = within[within["row"] == again["row"].iloc[0]]["place"].iloc[:2]
    said = f"{origin.name_row(first)} and {origin.name_row(second)}"
    whole = table.groupby("file")["row"].agg(["size", "nunique"])
    if ((whole["nunique"] * 2 <= whole["size"]) & (whole["size"] >= 4)).any():
        raise ImportFailure(
            f"{origin.what}: {len(again):,} rows repeat another row in every cell, reaction times included (first: "
            f"{said}). The file seems to hold its answers twice: remove the copies."
        )
    return [f"{len(again):,} rows repeat another row in every cell, reaction times included (first: {said})"]


def _check_files(table: pd.DataFrame, single: bool, origin: Faults) -> None:
    """Refuse files that hold answers of another file; ``single`` refuses one such answer already."""
    shared = table.drop_duplicates(["row", "file"])
    shared = shared[shared.duplicated("row", keep=False)]
    if shared.empty:
        return
    pairs = shared.merge(shared, on="row", suffixes=("", "_other"))
    pairs = pairs[pairs["file"] != pairs["file_other"]]
    counts = pairs.groupby(["file", "file_other"]).agg(rows=("row", "nunique"), place=("place", "first"))
    counts["of"] = table.groupby("file")["row"].nunique().reindex(counts.index.get_level_values(0)).to_numpy()
    wrong = counts[(counts["rows"] == counts["of"]) | single]
    if wrong.empty:
        return
    wrong = wrong.sort_values("rows", ascending=False, kind="stable")
    file, other = wrong.index[0]
    rows, of = int(wrong["rows"].iloc[0]), int(wrong["of"].iloc[0])
    raise ImportFailure(
        f"{origin.what}: {rows:,} of {of:,} answers in {file} are in {other} too (first: "
        f"{origin.name_row(int(wrong['place'].iloc[0]))}). Each answer must count once: leave one of the files out. "
        "If the answers are different, map a column that distinguishes them, such as a session or a time."
    )


# ---------------------------------------------------------------- times


def check_times(times: pd.Series, what: str) -> list[str]:
    """Check that people's reaction times can be milliseconds; return what must be said of few ones.

    Raises
    ------
    ImportFailure
        If half of at least ``ENOUGH_TIMES`` times are impossible.
    """
    known = times.dropna()
    if known.empty:
        return []
    median = float(known.median())
    if median < FASTEST_MEDIAN:
        said = f"half of the {len(known):,} reaction times are below {median:.3g} ms, which nobody manages"
        remedy = 'they seem to be seconds: rt_ms = { column = "...", scale = 1000 }'
    elif median > SLOWEST_MEDIAN:
        said = f"half of the {len(known):,} reaction times are above {median:,.0f} ms, which is more than an hour"
        remedy = 'they seem to be microseconds, or scaled twice: rt_ms = { column = "...", scale = 0.001 }'
    else:
        return []
    if len(known) >= ENOUGH_TIMES:
        raise ImportFailure(f"{what}: {said}; {remedy}.")
    return [f"{said}; {remedy}"]


# ---------------------------------------------------------------- answers that are compared


def check_answers(given: pd.Series, right: pd.Series, called: tuple[str, str], what: str) -> list[str]:
    """Check that two columns that are compared spell answers in the same way; return what must be said of few ones.

    Columns that have no value in common make every answer wrong: ``ArrowLeft`` and ``left``, or ``['f']`` and ``f``.
    If each has a value that the other lacks, as when one counts from 0 and the other from 1, the notes say so.

    Parameters
    ----------
    given, right
        Answers and right answers in one spelling, missing where either is.
    called
        What to call the two columns.
    what
        What is read, as the message begins.

    Raises
    ------
    ImportFailure
        If at least ``ENOUGH_ANSWERS`` answers share no value with the right ones.
    """
    answers, targets = (list(dict.fromkeys(values.dropna())) for values in (given, right))
    common = set(answers) & set(targets)
    only = [[value for value in values if value not in common] for values in (answers, targets)]
    if not all(only) or (common and max(len(answers), len(targets)) > MOST_LEVELS):
        return []
    shown = [", ".join(map(repr, values[:3])) + (" …" if values[3:] else "") for values in only]
    if common:
        said = f"{called[0]} has {shown[0]}, which is never right; {called[1]} has {shown[1]}, which nobody answered"
    else:
        said = f"{called[0]} ({shown[0]}) and {called[1]} ({shown[1]}) have no value in common: every answer is wrong"
    remedy = "if the columns spell the same answers differently, translate one of them by values = { ... }"
    if not common and int(given.notna().sum()) >= ENOUGH_ANSWERS:
        raise ImportFailure(f"{what}: {said}; {remedy}.")
    return [f"{said}; {remedy}"]


# ---------------------------------------------------------------- columns that vary within a cell


@dataclass(frozen=True)
class Varying:
    """An unmapped column that varies within a cell.

    Attributes
    ----------
    name
        The column.
    values
        Its distinct values, the most frequent first.
    """

    name: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(value or "empty" for value in self.values[:4])
        return f"{self.name!r} ({len(self.values)} values: {shown}{', ...' if len(self.values) > 4 else ''})"


def find_varying(
    rows: pd.DataFrame,
    known: Collection[str],
    answers: pd.DataFrame,
    attributes: Sequence[str],
    joined: Collection[str],
) -> list[Varying]:
    """Return the columns that look like factors of the experiment, are not mapped, and vary within a cell.

    Parameters
    ----------
    rows
        What the files say of each main answer.
    known
        Columns that the mapping reads.
    answers
        The same answers as the mapping has read them: the columns of ``CELL`` that there are, ``layer``, ``unit``,
        ``observer``, ``session``, ``correct``, ``confidence``, and ``query_top`` where it was recorded.
    attributes
        Columns of ``answers`` that hold attributes of people.
    joined
        Columns that came from other files: facts of units among them are no factors.

    Notes
    -----
    Left aside are columns that name people, sessions or units one by one, that count the trials of a session, that
    follow from the layer, or that say again what was answered: two columns that agree where the answer is right are the
    answer and the right answer, and words for sides say what the mapping calls unknown.
    """
    count = len(rows)
    cell = _group(answers, [name for name in (*CELL, *attributes) if name in answers])
    layer, unit, observer, session = (_group(answers, [name]) for name in ("layer", "unit", "observer", "session"))
    naming = ((observer, 2), (unit, 2), (session, 3))
    answered = [name for name in ("correct", "query_top", "confidence") if name in answers]
    outcome, told = _group(answers, answered), [_group(answers, [name]) for name in answered]
    if "query_top" in answers:  # whether the upper query was chosen
        told.append(((answers["query_top"] == "max") == answers["correct"]).to_numpy().astype(np.int64))
    found = []
    for name in rows.columns:
        if name in known or str(name).startswith("\x00"):
            continue
        codes, values = pd.factorize(rows[name].str.strip().fillna(""))
        several = len(values)
        if several < 2 or several > min(MOST_LEVELS, count / 2) or not _varies(codes, cell):
            continue
        if any(not _varies(codes, other) and count >= 4 * _size(other) for other in (layer, outcome)):
            continue
        if any(_size(other) == 2 and not _varies(codes, other) for other in told):
            continue
        if any(_size(other) >= least and not _varies(other, codes) for other, least in naming):
            continue
        if name in joined and not _varies(codes, unit):
            continue
        if _counts_trials(rows[name], codes, session):
            continue
        if "query_top" not in answers and any({*map(_fold, values)} <= sides for sides in SIDES):
            continue
        frequency = np.bincount(codes, minlength=several)
        order = np.argsort(-frequency, kind="stable")
        found.append(Varying(str(name), tuple(str(values[place]) for place in order)))
    correct = answers["correct"].to_numpy(dtype=bool)
    text = {own.name: rows[own.name].map(_fold).to_numpy() for own in found}
    pairs = [(a, b) for a in text for b in text if a < b and np.array_equal(text[a] == text[b], correct)]
    answering = {name for pair in pairs for name in pair}
    return [own for own in found if own.name not in answering]


def _fold(cell: Any) -> str:
    return str(cell).strip().casefold()


def refuse_varying(found: Sequence[Varying]) -> str:
    """Say which columns vary within a cell, and what to do."""
    names = ", ".join(f'"{own.name}"' for own in found)
    return (
        f"{len(found)} column{'s vary' if len(found) > 1 else ' varies'} within a cell (a model, condition, difficulty "
        f"and kind of references) and the mapping does not read {'them' if len(found) > 1 else 'it'}: "
        f"{', '.join(map(str, found))}. Nothing is pooled unasked. Map what tells cells apart (condition, references, "
        "references_per_side, difficulty, or [people] for what is true of a person), or say at the top of the mapping "
        f"what is to be pooled: pooled = [{names}]"
    )


def _group(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each row's combination of values."""
    codes: Any = table.groupby(list(names), dropna=False, sort=False, observed=True).ngroup()
    result: NDArray[np.int64] = codes.to_numpy(dtype=np.int64)
    return result


def _size(codes: NDArray[np.int64]) -> int:
    return len(np.unique(codes))


def _varies(codes: NDArray[np.int64], within: NDArray[np.int64]) -> bool:
    """Return whether one grouping varies within another."""
    pairs = codes.astype(np.int64) * (int(within.max()) + 1) + within
    return len(np.unique(pairs)) > _size(within)


def _counts_trials(cells: pd.Series, codes: NDArray[np.int64], session: NDArray[np.int64]) -> bool:
    """Return whether a column holds whole numbers, none twice in a session."""
    if len(cells) < 5 * _size(session):
        return False
    pairs = codes.astype(np.int64) * (int(session.max()) + 1) + session
    return len(np.unique(pairs)) == len(pairs) and bool(cells.str.fullmatch(r"\s*\d+(?:\.0*)?\s*").all())
