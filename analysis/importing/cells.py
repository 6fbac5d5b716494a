"""Cells of text as numbers, truth values and times; what can't be read is said, never guessed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0"})
FALSE = frozenset({"false", "f", "no", "n", "0", "0.0", "-0.0"})

Mask = NDArray[np.bool_]


def by_distinct(values: pd.Series, change: Callable[[Any], Any], dtype: str = "str") -> pd.Series:
    """Return a column changed cell by cell, each distinct cell once: columns of many rows hold few values.

    Missing cells stay missing; ``change`` may return None for one that can't be changed.
    """
    codes, distinct = _factorize(values)
    changed = pd.array([change(value) for value in distinct], dtype=dtype)
    return pd.Series(changed.take(codes, allow_fill=True), index=values.index)


def _factorize(values: pd.Series) -> tuple[NDArray[np.int64], Any]:
    """Return which distinct cell each cell is, -1 for a missing one, and the distinct cells."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(dtype=np.int64), values.cat.categories
    codes, distinct = pd.factorize(values)
    return codes, distinct


def _by_category(read: Callable[..., tuple[pd.Series, Mask]], values: pd.Series, *how: str) -> tuple[pd.Series, Mask]:
    """Read a column of categories by reading each category once."""
    codes, distinct = _factorize(values)
    known, wrong = read(pd.Series(distinct, dtype="str"), *how)
    return known.reindex(codes).set_axis(values.index), np.append(wrong, False)[codes]


def to_numbers(values: pd.Series, decimal: str = ".", thousands: str = "") -> tuple[pd.Series, Mask]:
    """Return numbers, and which cells hold something else.

    Parameters
    ----------
    values
        Text or numbers.
    decimal, thousands
        How the text spells numbers: a point where the comma is the decimal mark, or thousands that are no groups of
        three digits, are spelled in another way and so no numbers.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _by_category(to_numbers, values, decimal, thousands)
    missing = values.isna().to_numpy()
    if values.dtype.kind in "iuf":
        return values.astype(np.float64), np.zeros(len(values), dtype=bool)
    text = values.astype("str").str.strip()
    foreign = np.zeros(len(text), dtype=bool)
    if thousands:
        mark = re.escape(thousands)
        grouped = rf"[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?!\d)"
        marked = text.str.contains(mark, regex=True).fillna(False)
        foreign |= (marked & ~text.str.match(grouped).fillna(False)).to_numpy(dtype=bool)
        whole = text.str.partition(decimal)
        foreign |= whole[2].str.contains(mark, regex=True).fillna(False).to_numpy(dtype=bool)
        text = text.str.replace(thousands, "", regex=False)
    if decimal != ".":
        foreign |= text.str.contains(".", regex=False).fillna(False).to_numpy(dtype=bool)
        text = text.str.replace(decimal, ".", regex=False)
    numbers = pd.to_numeric(text.mask(missing), errors="coerce").astype(np.float64)
    numbers = numbers.mask(~np.isfinite(numbers) | foreign)
    return numbers, (numbers.isna().to_numpy() & ~missing)


def to_integers(values: pd.Series, decimal: str = ".", thousands: str = "") -> tuple[pd.Series, Mask]:
    """Return whole numbers as nullable integers, and which cells hold something else."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _by_category(to_integers, values, decimal, thousands)
    numbers, wrong = to_numbers(values, decimal, thousands)
    wrong = wrong | (numbers.notna() & (numbers != numbers.round())).to_numpy() | (numbers.abs() > EXACT).to_numpy()
    return numbers.mask(wrong).astype("Int64"), wrong


def to_booleans(values: pd.Series) -> tuple[pd.Series, Mask]:
    """Return truth values, and which cells hold something else than true/false, yes/no or 1/0."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _by_category(to_booleans, values)
    if values.dtype.kind == "b":
        return values.astype("boolean"), np.zeros(len(values), dtype=bool)

    def read(cell: Any) -> bool | None:
        spelled = str(cell).strip().casefold()
        return True if spelled in TRUE else False if spelled in FALSE else None

    read_values = by_distinct(values, read, "boolean")
    return read_values, read_values.isna().to_numpy() & values.notna().to_numpy()


def to_times(values: pd.Series, form: str = "") -> tuple[pd.Series, Mask]:
    """Return times in UTC, and which cells are none.

    Parameters
    ----------
    values
        Text or numbers.
    form
        ``s`` or ``ms`` since 1970, a format as of ``strptime``, or nothing for ISO 8601.
    """
    missing = values.isna().to_numpy()
    if isinstance(values.dtype, pd.DatetimeTZDtype) or values.dtype.kind == "M":
        return pd.to_datetime(values, utc=True), np.zeros(len(values), dtype=bool)
    if form in ("s", "ms"):
        numbers, wrong = to_numbers(values)
        return pd.to_datetime(numbers, unit=form, utc=True, errors="coerce"), wrong
    times = pd.to_datetime(values.astype("str").mask(missing), utc=True, errors="coerce", format=form or "ISO8601")
    return times, (times.isna().to_numpy() & ~missing)


EXACT = 2**53
"""From here on, a float no longer tells one whole number from the next."""


def spell_number(number: float) -> str:
    """Spell a number as people write it: whole ones without a point, as long as they are exact."""
    value = float(number)
    return str(int(value)) if value.is_integer() and abs(value) < EXACT else f"{value!r}"


_ROUNDED = re.compile(r"[+-]?(?:\d+\.0*|\d+(?:\.\d+)?[eE]\+\d+)")


def is_rounded(cell: str) -> bool:
    """Return whether a cell is a whole number that a program has rounded: 9.00720E+15, or 9007199254740992.0."""
    return bool(_ROUNDED.fullmatch(cell)) and ("e" in cell.lower() or abs(float(cell)) >= EXACT)


def plain_number(cell: str) -> str:
    """Return the plain spelling of a number, exactly: 1 for ``1.0``, ``01`` and ``+1``; other cells as they are."""
    found = re.fullmatch(r"\s*([+-]?)0*(\d+)(?:\.(\d*?)0*)?\s*", cell)
    if found is None:
        try:
            return spell_number(float(cell)) if re.fullmatch(r"\s*[+-]?[\d.]+(?:[eE][+-]?\d+)?\s*", cell) else cell
        except ValueError:
            return cell
    sign, whole, rest = found.groups()
    body = f"{whole}.{rest}" if rest else whole
    return f"-{body}" if sign == "-" and body != "0" else body


def spell(value: Any) -> str:
    """Spell a plain value as a cell of text: truth values as true and false."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return spell_number(value) if isinstance(value, float) else str(value)
