"""The language of a mapping: how a table's columns become vimi's.

A rule starts from cells (a column, several joined by a template, or a constant) and changes them step by step, always
in the same order: what is missing, replacements, a pattern, translated values, numbers for names, arithmetic, limits,
bins, and what stands in for a missing cell. A list of rules is tried in order, cell by cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from analysis.importing.cells import by_distinct, plain_number, spell, spell_number, to_booleans, to_numbers
from analysis.importing.faults import FILE, Faults
from analysis.importing.schema import MISSING
from benchmark.documents import Document
from benchmark.errors import ImportFailure, suggest

Scalar = bool | int | float | str
_FIELD = re.compile(r"\{([^{}]+)\}")


def _check_pattern(pattern: str) -> str:
    if pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None
    return pattern


Pattern = Annotated[str, BeforeValidator(_check_pattern)]


class Test(Document):
    """What a cell must be for a rule to apply; all that is given must hold.

    Attributes
    ----------
    is_, not_
        The cell is one of these, or none of them.
    above, below, at_least, at_most
        The cell is such a number.
    matches
        A regular expression matches somewhere in the cell.
    missing
        Whether the cell is missing.
    """

    __test__ = False  # no test case of pytest's

    is_: Scalar | tuple[Scalar, ...] | None = Field(default=None, alias="is")
    not_: Scalar | tuple[Scalar, ...] | None = Field(default=None, alias="not")
    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    matches: Pattern = ""
    missing: bool | None = None

    @model_validator(mode="after")
    def _something(self) -> Test:
        if not self.model_fields_set:
            raise ValueError(
                "state what the cell must be: is, not, above, below, at_least, at_most, matches or missing"
            )
        return self


Where = dict[str, Test | Scalar | tuple[Scalar, ...]]


class MappingRule(Document):
    """How a wanted column is made.

    Attributes
    ----------
    column
        The column to take.
    template
        Text with columns in braces, ``"{layer}.{kernel}"``; missing where one of them is.
    value
        A constant.
    where
        Rows that the rule is for; elsewhere its result is missing.
    missing
        Spellings of a missing cell, beside those of the file.
    replace
        Text to be replaced wherever it occurs in the cell.
    pattern
        Regular expression; its first group, or all that it matches, takes the place of the cell.
    values
        Cells and what they mean.
    unmatched
        What becomes of a cell that ``values`` does not list or ``pattern`` does not match: an error, the cell as it
        is, or a missing cell.
    codes
        Whether distinct cells get numbers from 0, in alphabetical order.
    absolute
        Whether the sign of a number is dropped.
    scale, offset
        A number is multiplied, then added to.
    least, most
        Numbers outside are missing, and counted.
    bins
        Upper ends of bins: a number becomes the number of its bin, from 1.
    otherwise
        What stands in for a missing cell.
    time
        How a time is spelled: ``s`` or ``ms`` since 1970, or a format such as ``%d.%m.%Y %H:%M:%S``.
    take
        For facts of sessions: how the cells of a session become one. ``only``: they agree.
    """

    column: str = ""
    template: str = ""
    value: Scalar | None = None
    where: Where = Field(default_factory=dict)
    missing: tuple[Scalar, ...] = ()
    replace: dict[str, str] = Field(default_factory=dict)
    pattern: Pattern = ""
    values: dict[str, Scalar] = Field(default_factory=dict)
    unmatched: Literal["error", "keep", "missing"] = "error"
    codes: bool = False
    absolute: bool = False
    scale: float | None = None
    offset: float | None = None
    least: float | None = None
    most: float | None = None
    bins: tuple[float, ...] = ()
    otherwise: Scalar | None = None
    time: str = ""
    take: Literal["only", "first", "last", "sum", "mean", "least", "most", "span", "count"] = "only"

    @model_validator(mode="after")
    def _one_source(self) -> MappingRule:
        given = [name for name in ("column", "template", "value") if name in self.model_fields_set]
        if len(given) != 1:
            raise ValueError("give exactly one source: column, template or value")
        if self.template and not _FIELD.search(self.template):
            raise ValueError("a template must name columns in braces; for a constant, use value")
        if list(self.bins) != sorted(set(self.bins)):
            raise ValueError("the upper ends of the bins must increase")
        return self

    @property
    def sources(self) -> list[str]:
        """Names of the columns that it reads."""
        own = [self.column] if self.column else _FIELD.findall(self.template)
        return [*own, *self.where]

    @property
    def called(self) -> str:
        """What to call it in messages: the column that the user looks for."""
        return self.column or self.template or f"value {self.value!r}"


def _as_rule(given: Any) -> Any:
    """Read the short forms of a rule: a column's name, or a template."""
    if isinstance(given, str):
        return {"template": given} if _FIELD.search(given) else {"column": given}
    return given


def _as_rules(given: Any) -> Any:
    return tuple(map(_as_rule, given)) if isinstance(given, list | tuple) else (_as_rule(given),)


Rules = Annotated[tuple[MappingRule, ...], BeforeValidator(_as_rules), Field(min_length=1)]


class TextTable:
    """The table of text that rules read.

    Parameters
    ----------
    frame
        One row a trial, every cell text, with the columns that say where rows come from.
    missing
        Spellings of a missing cell.
    decimal, thousands
        How numbers are spelled.
    """

    def __init__(
        self, frame: pd.DataFrame, missing: tuple[str, ...] = MISSING, decimal: str = ".", thousands: str = ""
    ) -> None:
        self.frame, self.missing, self.decimal, self.thousands = frame, missing, decimal, thousands
        self._cells: dict[str, pd.Series] = {}
        self.outside: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def columns(self) -> list[str]:
        """Names of the columns in the files."""
        return [name for name in self.frame.columns if not str(name).startswith("\x00")]

    def cells(self, name: str) -> pd.Series:
        """Return a column, stripped, with missing cells missing."""
        if name not in self._cells:
            text = self.frame[name].str.strip()
            self._cells[name] = text.mask(text.isna() | text.isin(self.missing))
        return self._cells[name]

    def rows_where(self, where: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return which rows pass all tests of a rule."""
        passing = np.ones(len(self), dtype=bool)
        for name, wanted in where.items():
            test = wanted if isinstance(wanted, Test) else Test.model_validate({"is": wanted})
            passing &= self._passing(self.cells(name), self.frame[name], test)
        return passing

    def _passing(self, cells: pd.Series, raw: pd.Series, test: Test) -> NDArray[np.bool_]:
        passing = np.ones(len(cells), dtype=bool)
        if test.is_ is not None:
            passing &= self._is_one_of(cells, raw, test.is_)
        if test.not_ is not None:
            passing &= ~self._is_one_of(cells, raw, test.not_)
        limits = (test.above, test.below, test.at_least, test.at_most)
        if any(limit is not None for limit in limits):
            numbers = to_numbers(cells, self.decimal, self.thousands)[0].to_numpy()
            with np.errstate(invalid="ignore"):
                for limit, compare in zip(limits, (np.greater, np.less, np.greater_equal, np.less_equal)):
                    if limit is not None:
                        passing &= compare(numbers, limit)
        if test.matches:
            passing &= cells.str.contains(_uncaptured(test.matches), regex=True).fillna(False).to_numpy(dtype=bool)
        if test.missing is not None:
            passing &= cells.isna().to_numpy() == test.missing
        return passing

    def _is_one_of(self, cells: pd.Series, raw: pd.Series, wanted: Any) -> NDArray[np.bool_]:
        found = np.zeros(len(cells), dtype=bool)
        for value in wanted if isinstance(wanted, tuple) else (wanted,):
            if isinstance(value, bool):
                found |= (to_booleans(cells)[0] == value).fillna(False).to_numpy(dtype=bool)
            elif isinstance(value, int | float):
                found |= (to_numbers(cells, self.decimal, self.thousands)[0] == value).to_numpy()
            else:
                found |= (cells == value).fillna(False).to_numpy(dtype=bool) | (raw == value).to_numpy(dtype=bool)
        return found

    # ---------------------------------------------------------------- evaluation

    def evaluate(
        self, rules: tuple[MappingRule, ...], target: str, faults: Faults, among: NDArray[np.bool_]
    ) -> pd.Series:
        """Return what rules make of the rows: text, or numbers where there was arithmetic.

        Parameters
        ----------
        rules
            Tried in order, until a cell is not missing.
        target
            What the result is for, as messages say it.
        faults
            Collects cells that rules can't read.
        among
            Rows that matter, shape (rows,).
        """
        result = self._apply(rules[0], target, faults, among)
        for rule in rules[1:]:
            open_rows = result.isna().to_numpy()
            if not open_rows.any():
                break
            other = self._apply(rule, target, faults, among & open_rows)
            if result.dtype != other.dtype:
                result, other = _textual(result), _textual(other)
            result = result.where(~open_rows, other)
        return result

    def _apply(self, rule: MappingRule, target: str, faults: Faults, among: NDArray[np.bool_]) -> pd.Series:
        among = among & self.rows_where(rule.where) if rule.where else among
        cells = self._fetch(rule).where(among)
        name = f"{rule.called!r} (for {target})"
        raw = cells
        if rule.missing:
            cells = cells.mask(cells.isin([spell(value) for value in rule.missing]))
        for old, new in rule.replace.items():
            cells = cells.str.replace(old, new, regex=False)
        if rule.pattern:
            cells = self._extract(cells, raw, rule, name, faults)
        if rule.values:
            cells = self._translate(cells, raw, rule, name, faults)
        if rule.codes:
            codes, _ = pd.factorize(cells, sort=True)
            cells = pd.Series(codes, index=cells.index, dtype=np.float64).mask(codes < 0)
        changed = self._calculate(cells, raw, rule, name, faults)
        if rule.otherwise is not None:
            changed = self._fill(changed, rule.otherwise, among)
        return changed

    def _fetch(self, rule: MappingRule) -> pd.Series:
        """Return the cells that a rule starts from, as text."""
        if rule.column:
            return self.cells(rule.column)
        if rule.value is not None:
            return pd.Series(spell(rule.value), index=self.frame.index, dtype="str")
        parts = _FIELD.split(rule.template)
        result = pd.Series(parts[0], index=self.frame.index, dtype="str")
        for field, text in zip(parts[1::2], parts[2::2]):
            result = result + self.cells(field) + text
        fields = parts[1::2]
        if len(fields) > 1:
            self._check_template(rule, fields, result)
        return result

    def _check_template(self, rule: MappingRule, fields: list[str], result: pd.Series) -> None:
        """Refuse a template that makes one name of two: 1 and 11 are "111", and so are 11 and 1."""
        distinct = pd.DataFrame({name: self.cells(name) for name in fields}).assign(**{"\x00made": result})
        distinct = distinct.dropna().drop_duplicates()
        twice = distinct[distinct["\x00made"].duplicated(keep=False)]
        if len(twice):
            same = twice[twice["\x00made"] == twice["\x00made"].iloc[0]]
            said = " and ".join(repr(tuple(row)) for row in same[fields].head(2).itertuples(index=False))
            raise ImportFailure(
                f"The template {rule.template!r} gives {same[chr(0) + 'made'].iloc[0]!r} for {said}. Put a separator "
                "between the columns, such as a slash."
            )

    def _extract(self, cells: pd.Series, raw: pd.Series, rule: MappingRule, name: str, faults: Faults) -> pd.Series:
        expression = re.compile(rule.pattern)

        def extract(cell: str) -> str | None:
            found = expression.search(cell)
            if found is None:
                return cell if rule.unmatched == "keep" else None
            return next((group for group in found.groups() if group is not None), found[0])

        result = by_distinct(cells, extract)
        wrong = (result.isna() & cells.notna()).to_numpy()
        if rule.unmatched == "error" and rule.otherwise is None:
            faults.add(wrong, name, f"it does not match the pattern {rule.pattern!r}", raw)
        return result

    def _translate(self, cells: pd.Series, raw: pd.Series, rule: MappingRule, name: str, faults: Faults) -> pd.Series:
        known = {key: spell(value) for key, value in rule.values.items()}
        folded = {key.casefold(): value for key, value in known.items()}

        def translate(cell: str) -> str | None:
            for spelling in (cell, plain_number(cell)):
                if spelling in known:
                    return known[spelling]
            return folded.get(cell.casefold(), cell if rule.unmatched == "keep" else None)

        result = by_distinct(cells, translate)
        wrong = (result.isna() & cells.notna()).to_numpy()
        if rule.unmatched == "error" and rule.otherwise is None:
            for cell in pd.unique(cells[wrong]):
                here = wrong & (cells == cell).fillna(False).to_numpy(dtype=bool)
                faults.add(here, name, f"the mapping's values do not list it. {suggest(str(cell), known)}", raw)
        return result

    def _calculate(self, cells: pd.Series, raw: pd.Series, rule: MappingRule, name: str, faults: Faults) -> pd.Series:
        limits = rule.least is not None or rule.most is not None
        if not (rule.absolute or rule.scale is not None or rule.offset is not None or limits or rule.bins):
            return cells
        numbers, wrong = to_numbers(cells, self.decimal, self.thousands)
        faults.add(wrong, name, "no number", raw)
        if rule.absolute:
            numbers = numbers.abs()
        if rule.scale is not None:
            numbers = numbers * rule.scale
        if rule.offset is not None:
            numbers = numbers + rule.offset
        outside = pd.Series(False, index=numbers.index)
        if rule.least is not None:
            outside |= numbers < rule.least
        if rule.most is not None:
            outside |= numbers > rule.most
        if outside.any():
            self.outside[name] = self.outside.get(name, 0) + int(outside.sum())
            numbers = numbers.mask(outside)
        if rule.bins:
            binned = np.searchsorted(np.asarray(rule.bins), numbers.to_numpy(), side="left") + 1.0
            above = (numbers > rule.bins[-1]).to_numpy()
            faults.add(above, name, f"it lies above the last bin, which ends at {rule.bins[-1]:g}", raw)
            numbers = pd.Series(binned, index=numbers.index).mask(numbers.isna() | above)
        return numbers

    def _fill(self, values: pd.Series, otherwise: Scalar, among: NDArray[np.bool_]) -> pd.Series:
        holes = values.isna().to_numpy() & among
        if not holes.any():
            return values
        if values.dtype.kind == "f" and isinstance(otherwise, int | float) and not isinstance(otherwise, bool):
            return values.mask(holes, float(otherwise))
        return _textual(values).mask(holes, spell(otherwise))


def sources_of(rules: Mapping[str, tuple[MappingRule, ...]]) -> Iterator[tuple[str, str]]:
    """Yield what each column that rules read is for, and its name."""
    for target, alternatives in rules.items():
        for rule in alternatives:
            for name in rule.sources:
                yield target, name


def _textual(values: pd.Series) -> pd.Series:
    return values if values.dtype.kind != "f" else by_distinct(values, spell_number)


def _uncaptured(pattern: str) -> str:
    """Turn the groups of a pattern into ones that capture nothing: pandas warns of others."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)


__all__ = ["FILE", "MappingRule", "Pattern", "Rules", "Scalar", "Test", "TextTable", "Where", "sources_of"]
