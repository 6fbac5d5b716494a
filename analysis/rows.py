"""Estimates in the rows of tables, and results that show themselves as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.estimate import Estimate, spell_value

if TYPE_CHECKING:
    import pandas as pd


def spread_out(name: str, estimate: Estimate | None) -> dict[str, float]:
    """Return an estimate as three entries of a row: ``name``, ``name_low``, ``name_high``; missing for None."""
    if estimate is None:
        return {name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


class ShownAsTable:
    """A result that is shown as a table where it is printed, and where a notebook displays it.

    ``table()`` has every number at full precision; what is shown has each estimate with its interval, in words.
    """

    def frame(self) -> pd.DataFrame:
        """Return the result as people read it: every estimate written out with its interval."""
        raise NotImplementedError

    @property
    def caption(self) -> str:
        """What stands above the table: what the numbers are, and how intervals were made."""
        raise NotImplementedError

    def __str__(self) -> str:
        frame = self.frame()
        return f"{self.caption}\n{frame.to_string(index=False)}" if len(frame) else self.caption

    def _repr_html_(self) -> str:
        frame = self.frame()
        return f"<p>{escape(self.caption)}</p>{frame.to_html(index=False) if len(frame) else ''}"


class ShownAsText:
    """A result that is a sentence, or a few lines: a notebook displays what ``str`` gives."""

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self)).replace(chr(10), '<br>')}</p>"


_MOST = 12
"""Parts of a field that are shown one by one; of more, only the number is."""


class ShownAsRecord(ShownAsTable):
    """A dataclass that is shown as a table of its fields, one row each: ``what`` and ``value``.

    Tables and arrays are shown by their number of rows, a field with several estimates or records in a row each.
    """

    def frame(self) -> pd.DataFrame:
        """Return one row a field as people read it."""
        import pandas as pd

        rows = [row for own in fields(self) for row in _spell_field(own.name, getattr(self, own.name))]  # type: ignore[arg-type]
        return pd.DataFrame(rows, columns=["what", "value"])

    @property
    def caption(self) -> str:
        """What the result is: the first line of its class's documentation."""
        return (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]


def _spell_field(name: str, value: Any) -> list[tuple[str, str]]:
    """Return the rows of a field; none if it is empty."""
    name = name.replace("_", " ")
    parts: dict[str, Any] = {}
    if isinstance(value, Mapping):
        parts = dict(value)
    elif isinstance(value, tuple) and any(is_dataclass(one) for one in value):
        parts = {str(number): one for number, one in enumerate(value, start=1)}
    if 0 < len(parts) <= _MOST and all(is_dataclass(one) for one in parts.values()):
        return [(f"{name}: {key}", _spell(one)) for key, one in parts.items()]
    words = _spell(value)
    return [(name, words)] if words else []


def _spell(value: Any) -> str:
    """Write a field's value in a line."""
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return spell_value(float(value))
    if hasattr(value, "shape"):
        return f"{len(value):,} rows" if len(value.shape) else str(value)
    if isinstance(value, Mapping):
        short = len(value) <= _MOST
        return "; ".join(f"{key}: {_spell(one)}" for key, one in value.items()) if short else f"{len(value):,} entries"
    if isinstance(value, tuple | list | set | frozenset):
        short = len(value) <= _MOST and not any(is_dataclass(one) for one in value)
        return ", ".join(map(_spell, value)) if short else f"{len(value):,} entries"
    if is_dataclass(value) and (isinstance(value, ShownAsRecord) or type(value).__str__ is object.__str__):
        said = getattr(value, "sentence", None)
        if said is not None:
            return str(said() if callable(said) else said)
        own = [(one.name.replace("_", " "), _spell(getattr(value, one.name))) for one in fields(value)]
        return "; ".join(f"{name} {words}" for name, words in own if words)
    if isinstance(value, ShownAsTable):
        return value.caption
    return str(value)
