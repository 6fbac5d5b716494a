"""Estimates in the rows of tables, and results that show themselves as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from analysis.multiple_tests import spell_p
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate, spell_value

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "AnalysisError", "AnalysisResult", "Estimate", "Plotted", "Record", "ResultList", "ShownAsText", "name_row",
    "spread_out",
]  # fmt: skip


def spread_out(name: str, estimate: Estimate | None) -> dict[str, float]:
    """Return an estimate as three entries of a row: ``name``, ``name_low``, ``name_high``; missing for None."""
    if estimate is None:
        return {name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def name_row(names: Mapping[str, str], estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as a row, behind the names of what it is of; a name wins where both have a column (unit)."""
    return {**names, **{key: value for key, value in estimate.as_dict().items() if key not in names}}


class AnalysisResult:
    """What `analysis` returns: numbers to compute with, words to read, and where it makes sense a picture.

    ``frame()`` holds every number at full precision, one row an estimate; ``readable()`` writes each estimate out with
    its interval. Printing and notebooks show the latter below the caption.
    """

    def frame(self) -> pd.DataFrame:
        """Return the numbers: one row an estimate, plain columns."""
        raise NotImplementedError

    def readable(self) -> pd.DataFrame:
        """Return the result as people read it: every estimate written out with its interval."""
        raise NotImplementedError

    @property
    def caption(self) -> str:
        """What the numbers are, and how their intervals were made."""
        raise NotImplementedError

    def __str__(self) -> str:
        shown = self.readable()
        return f"{self.caption}\n{shown.to_string(index=False)}" if len(shown) else self.caption

    def _repr_html_(self) -> str:
        shown = self.readable()
        return f"<p>{escape(self.caption)}</p>{shown.to_html(index=False) if len(shown) else ''}"

    def to_latex(self, **options: Any) -> str:
        r"""Return ``readable()`` as a LaTeX table with the caption; it needs the package booktabs.

        Parameters
        ----------
        options
            What ``pandas.DataFrame.style.to_latex`` takes in place of the defaults: ``label``, ``position``, ...
        """
        shown = self.readable()
        named = shown.rename(columns=_escape_latex).map(_escape_latex)
        return str(
            named.style.hide(axis="index").to_latex(
                **{"hrules": True, "caption": _escape_latex(self.caption), **options}
            )
        )


class Plotted:
    """A result that can be drawn: a class writes ``_draw``, which takes the options of ``plot`` and returns axes."""

    def plot(self, ax: Axes | None = None, **options: Any) -> Any:
        """Draw the result, and return the matplotlib axes.

        Parameters
        ----------
        ax
            Axes of a figure of your own, from ``plt.subplots()``, that make room for the panels. None opens a figure
            of pyplot.
        options
            What the function of :mod:`analysis.figures` behind takes beside the table: ``note``, say.

        Raises
        ------
        AnalysisError
            If there is nothing to draw, or the axes stand in no grid.
        """
        from analysis.figures.style import drawing_into

        with drawing_into(ax):
            return self._draw(**options)

    def _draw(self, **options: Any) -> Any:
        raise NotImplementedError


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$",
}  # fmt: skip


def _escape_latex(value: Any) -> Any:
    """Return text with LaTeX's special characters escaped, and anything else as it is."""
    return "".join(_LATEX.get(character, character) for character in value) if isinstance(value, str) else value


class ShownAsText:
    """A result that is a sentence, or a few lines: a notebook displays what ``str`` gives."""

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self)).replace(chr(10), '<br>')}</p>"


_MOST = 12
"""Parts of a field that are shown one by one; of more, only the number is."""


class Record(AnalysisResult):
    """A dataclass that is shown as a table of its fields, one row each: ``what`` and ``value``.

    Tables and arrays are shown by their number of rows, a field with several estimates or records in a row each.
    """

    def row(self) -> dict[str, Any]:
        """Return the fields as a row of plain columns: an estimate as three, and no tables, arrays or tuples."""
        return _plain(self)

    def frame(self) -> pd.DataFrame:
        """Return the fields as one row of plain columns."""
        import pandas as pd

        return pd.DataFrame([self.row()])

    def readable(self) -> pd.DataFrame:
        """Return one row a field as people read it."""
        import pandas as pd

        rows = [row for own in fields(self) for row in _spell_field(own.name, getattr(self, own.name))]  # type: ignore[arg-type]
        return pd.DataFrame(rows, columns=["what", "value"])

    @property
    def caption(self) -> str:
        """What the result is: the first line of its class's documentation."""
        return (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]


def _plain(record: Any, within: str = "") -> dict[str, Any]:
    """Return the plain columns of a dataclass; those of a dataclass in it have its field's name before theirs."""
    row: dict[str, Any] = {}
    for own in fields(record):
        name, value = f"{within}{own.name}", getattr(record, own.name)
        if isinstance(value, Estimate):
            row |= spread_out(name, value)
        elif value is None or isinstance(value, str | bool | int | float | np.generic):
            row[name] = value
        elif isinstance(value, Mapping):
            for key, one in value.items():
                if isinstance(one, Estimate):
                    row |= spread_out(f"{name}_{key}" if own.name not in _CELL else str(key), one)
                elif one is None or isinstance(one, str | bool | int | float | np.generic):
                    row[f"{name}_{key}" if own.name not in _CELL else str(key)] = one
        elif is_dataclass(value):
            row |= _plain(value, f"{name}_")
    return row


_CELL = {"cell", "names"}
"""Fields that say which cell a result is of: their entries are columns by themselves."""


Item = TypeVar("Item", bound=Record)


class ResultList(tuple[Item, ...], AnalysisResult):
    """Several results of one kind, one for each cell: a tuple that is shown as a table, one row each."""

    def frame(self) -> pd.DataFrame:
        """Return the rows of all results, below one another."""
        import pandas as pd

        return pd.concat([one.frame() for one in self], ignore_index=True) if self else pd.DataFrame()

    def readable(self) -> pd.DataFrame:
        """Return one row a result as people read it."""
        import pandas as pd

        return pd.DataFrame([_readable_row(one) for one in self])

    @property
    def caption(self) -> str:
        """What each result is."""
        return self[0].caption if self else "No results."

    def plot(self, ax: Axes | None = None, **options: Any) -> Any:
        """Draw all results in one figure, as ``plot`` of one does; see :meth:`Plotted.plot`."""
        from analysis.figures.style import drawing_into

        if not self:
            raise AnalysisError("There are no results to draw.")
        draw = getattr(type(self[0]), "_draw_all", None)
        if draw is None:
            raise AnalysisError(
                f"There is no figure for several {type(self[0]).__name__} results; .frame() has the numbers."
            )
        with drawing_into(ax):
            return draw(self, **options)


def _readable_row(record: Any) -> dict[str, str]:
    """Return a record's fields in words; a field with an entry for each factor of the cell gives a column each."""
    row: dict[str, str] = {}
    for own in fields(record):
        value = getattr(record, own.name)
        if own.name in _CELL and isinstance(value, Mapping):
            row |= {str(key): _spell(one) for key, one in value.items()}
        elif not (isinstance(value, tuple | list) and any(is_dataclass(one) for one in value)):
            row[own.name.replace("_", " ")] = _spell_named(own.name, value)
    return row


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
    words = _spell_named(name, value)
    return [(name, words)] if words else []


def _spell_named(name: str, value: Any) -> str:
    """Write a field's value in a line; a p-value (``p``, ``p_holm``, ``twin_p``) as p-values are written."""
    parts = name.replace("_", " ").split()
    if "p" in (parts[0], parts[-1]) and isinstance(value, float | np.floating) and 0 <= value <= 1:
        return spell_p(float(value))
    return _spell(value)


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
    if is_dataclass(value) and (isinstance(value, Record) or type(value).__str__ is object.__str__):
        said = getattr(value, "sentence", None)
        if said is not None:
            return str(said() if callable(said) else said)
        own = [(one.name.replace("_", " "), _spell_named(one.name, getattr(value, one.name))) for one in fields(value)]
        return "; ".join(f"{name} {words}" for name, words in own if words)
    if isinstance(value, AnalysisResult):
        return value.caption
    said = getattr(value, "sentence", None)
    return said if isinstance(said, str) else str(value)
