"""From cells to the columns of a schema, every cell that does not fit named by row and reason."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from analysis.importing.cells import by_distinct, spell_number, to_booleans, to_integers, to_numbers, to_times
from analysis.importing.faults import FILE, ROW, Faults
from benchmark.errors import suggest
from benchmark.schemas import Column, Schema

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "<NA>")
"""Spellings of a missing cell, unless a mapping says otherwise."""

LIMITS: dict[str, tuple[float, float, str]] = {
    "confidence": (1, 3, "confidence is 1, 2 or 3"),
    "probability": (0, 1, "a probability is 0 to 1"),
    "rt_ms": (0, np.inf, "a reaction time is not negative"),
    "trial_index": (0, np.inf, "trials are counted from 0"),
    "index": (0, np.inf, "units are counted from 0"),
    "references_per_side": (0, np.inf, "references are counted from 0"),
    "total_seconds": (0, np.inf, "a duration is not negative"),
    "instruction_seconds": (0, np.inf, "a duration is not negative"),
    "practice_attempts": (0, np.inf, "rounds are counted from 0"),
}
"""What numbers must lie between, on top of the schema."""


def with_origin(frame: pd.DataFrame, file: str, *, first: int = 2) -> pd.DataFrame:
    """Return a table with the columns that say where its rows come from.

    Parameters
    ----------
    frame
        The table.
    file
        Name of its file.
    first
        Number of its first row.
    """
    return frame.assign(**{FILE: file, ROW: np.arange(first, first + len(frame))})


def conform(schema: Schema, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table as its schema has it, times in microseconds: they then come back from Parquet as they went in."""
    given = {column.name: frame[column.name] for column in schema.columns if column.name in frame.columns}
    for column in schema.columns:
        if column.kind == "time":
            times = given.get(column.name, pd.Series(pd.NaT, index=frame.index))
            given[column.name] = pd.to_datetime(times, utc=True).astype("datetime64[us, UTC]")
    return schema.conform(frame.assign(**given))


def convert(
    values: pd.Series,
    column: Column,
    faults: Faults,
    *,
    called: str = "",
    form: str = "",
    decimal: str = ".",
    thousands: str = "",
) -> pd.Series:
    """Return a column as its schema wants it; cells that don't fit become faults.

    Parameters
    ----------
    values
        Text, or values of the right kind already.
    column
        What they must be.
    faults
        Collects what does not fit.
    called
        What the user calls the column, if not its name in the schema.
    form
        How times are spelled, see :func:`analysis.importing.cells.to_times`.
    decimal, thousands
        How numbers are spelled.
    """
    name = f"{called!r} (for {column.name})" if called and called != column.name else repr(column.name)
    textual = values.dtype.kind not in "biufM" and not isinstance(values.dtype, pd.DatetimeTZDtype)
    cells = values.mask(values.isin(MISSING)) if textual and column.kind != "string" else values
    if textual and column.kind == "string":
        cells = values.mask(values.isin(MISSING)) if column.nullable or column.values else values.mask(values == "")
    if column.kind == "string":
        read = cells if textual else by_distinct(cells, _spell)
        wrong = np.zeros(len(cells), dtype=bool)
        if column.values:
            wrong = (read.notna() & ~read.isin(column.values)).to_numpy()
            for value in pd.unique(read[wrong]):
                hint = suggest(str(value), column.values)
                here = wrong & (read == value).to_numpy()
                faults.add(here, name, f"it must be one of {', '.join(column.values)}. {hint}", values)
    elif column.kind == "integer":
        read, wrong = to_integers(cells, decimal, thousands)
        faults.add(wrong, name, "no whole number", values)
    elif column.kind == "number":
        read, wrong = to_numbers(cells, decimal, thousands)
        faults.add(wrong, name, "no number", values)
    elif column.kind == "boolean":
        read, wrong = to_booleans(cells)
        faults.add(wrong, name, "neither true nor false", values)
    elif column.kind == "time":
        read, wrong = to_times(cells, form)
        faults.add(wrong, name, "no time", values)
    else:
        read, wrong = by_distinct(cells, json.loads, "object"), np.zeros(len(cells), dtype=bool)
    if column.name in LIMITS:
        low, high, reason = LIMITS[column.name]
        numbers = read.astype("Float64")
        outside = ((numbers < low) | (numbers > high)).fillna(False).to_numpy(dtype=bool)
        faults.add(outside, name, reason, values)
        wrong = wrong | outside
    if column.name == "layer":
        strange = read.astype("str").str.contains("[/@]", regex=True).fillna(False).to_numpy(dtype=bool)
        faults.add(strange, name, "the name of a layer holds no '/' and no '@': replace them", values)
        wrong = wrong | strange
    if not column.nullable:
        empty = read.isna().to_numpy() & ~wrong
        faults.add(empty, name, f"it is needed ({column.meaning})", values)
    return read


def _spell(value: object) -> str:
    return spell_number(value) if isinstance(value, float) else str(value)
