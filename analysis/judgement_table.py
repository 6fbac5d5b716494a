"""The one table that every analysis starts from: people's answers, indexed by the things that vary.

A table of responses (``benchmark.schemas.RESPONSES``) says all that is known of every answer. An analysis needs less,
and always the same: whether the answer is right, and which unit, task, person, model and condition it belongs to.
``judgements`` picks that out, once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.arguments import check_kind
from analysis.importing.cells import to_booleans
from benchmark import schemas
from benchmark.errors import AnalysisError, suggest
from benchmark.model_card import TWIN_SUFFIX
from benchmark.units import PLANTED, UNIT_COLUMNS, unit_names

PEOPLE = ("human", "simulated")
"""Observers whose answers are people's, or stand for people's."""

COLUMNS = {
    "correct": "1 if the maximal query was chosen, else 0",
    "model": "name of the model",
    "condition": "kind of the references",
    "difficulty": "quantile of the queries",
    "references": "which sides were shown: both, max, min or none",
    "unit": "name of the unit, with its model: the same in every condition",
    "layer": "layer of the unit",
    "task": "name of the task: the unit, and which of its disjoint sets of queries and references",
    "participant": "who answered",
    "session": "session of the answer",
    "trial_index": "position in the session, counted from 0",
    "upper": "1 if the upper query was chosen, else 0",
    "max_on_top": "1 if the maximal query was the upper one, else 0",
    "confidence": "1 to 3, or missing",
    "rt_ms": "reaction time in milliseconds, or missing",
    "kind": "main, catch or repeated",
}
"""Columns of the table of judgements, and what they mean."""

NAMES = ["model", "condition", "difficulty", "references", "unit", "layer", "task", "participant", "session", "kind"]
"""Those of them that hold names."""


def judgements(
    responses: pd.DataFrame,
    *,
    kinds: Sequence[str] = ("main",),
    observer_kinds: Sequence[str] = PEOPLE,
    references: Sequence[str] | None = ("both",),
    twins: bool = False,
) -> pd.DataFrame:
    """Return the judgements in a table of responses.

    Parameters
    ----------
    responses
        Table of responses, after exclusions.
    kinds
        Kinds of trials to keep: ``main``, ``catch``, ``repeated`` or ``practice``.
    observer_kinds
        Whose answers to keep.
    references
        Which sides must have been shown; None keeps all answers.
    twins
        Whether to keep answers about random-weight twins.

    Returns
    -------
    One row an answer, in the order given, with the columns of ``COLUMNS``; names are categories. Where responses tell
    it, ``references_per_side`` and the attributes of people (``expertise`` of ``person_expertise``) follow.

    Raises
    ------
    AnalysisError
        If nothing is left, a column is missing, or one holds something else than it should.
    """
    responses = _checked(responses)
    keep = responses["kind"].isin(kinds) & responses["observer_kind"].isin(observer_kinds)
    if references is not None:
        keep &= responses["references"].isin(references)
    if "catch" not in kinds and "practice" not in kinds:
        keep &= responses["model"] != PLANTED
    if not twins:
        keep &= ~responses["model"].str.endswith(TWIN_SUFFIX)
    own = responses[keep.to_numpy(dtype=bool)].reset_index(drop=True)
    if own.empty:
        raise AnalysisError(
            f"There are no answers to analyse: none of the {len(responses):,} rows is of kind {'/'.join(kinds)}, by "
            f"{'/'.join(observer_kinds)}" + (f", with references {'/'.join(references)}." if references else ".")
        )
    unit = unit_names(own)
    upper = own["choice"].to_numpy() == own["query_top"].to_numpy()
    table = pd.DataFrame(
        {
            "correct": own["correct"].astype(np.float64),
            "model": own["model"],
            "condition": own["condition"],
            "difficulty": own["difficulty"],
            "references": own["references"],
            "unit": unit,
            "layer": own["layer"],
            "task": unit + "#" + own["task"].astype(str),
            "participant": own["observer"],
            "session": own["session"],
            "trial_index": own["trial_index"].astype(np.int64),
            "upper": upper.astype(np.float64),
            "max_on_top": (own["query_top"] == "max").astype(np.float64),
            "confidence": own["confidence"].astype(np.float64),
            "rt_ms": own["rt_ms"],
            "kind": own["kind"],
        }
    )
    table = table.assign(**_declared(own))
    names = [*NAMES, *(name for name in table.columns if name not in COLUMNS)]
    return table.astype(dict.fromkeys(names, "category"))


def _checked(responses: pd.DataFrame) -> pd.DataFrame:
    """Return a table of responses with plain columns: Arrow's and pandas' own kinds of text read as any other.

    Raises
    ------
    AnalysisError
        Naming a column that is missing, there twice, or holds something else than it should.
    """
    check_kind(responses, pd.DataFrame, "responses", "Of a data set they are data.responses.")
    needed = [*UNIT_COLUMNS, *_NEEDED]
    missing = [name for name in needed if name not in responses.columns]
    if missing:
        raise AnalysisError(
            f"The table of responses has no column {missing[0]!r}. {suggest(missing[0], map(str, responses.columns))} "
            "Read answers with read_dataset, import_csv or import_imi."
        )
    twice = responses.columns[responses.columns.duplicated()]
    if len(twice):
        raise AnalysisError(f"The table of responses has two columns {str(twice[0])!r}. Drop one of them.")
    plain = responses.reset_index(drop=True)
    for name in ("kind", "observer_kind", "references", "model", "layer", "basis", "aggregator", "choice", "query_top"):
        if plain[name].dtype != "str":
            plain[name] = plain[name].astype("object").astype("str")
    if plain["correct"].dtype != bool:
        truths, wrong = to_booleans(plain["correct"].astype("object").map(_lower, na_action="ignore"))
        if wrong.any() or truths.isna().any():
            row = int((wrong | truths.isna().to_numpy()).argmax())
            raise AnalysisError(
                f"The column 'correct' of the responses is {responses['correct'].iloc[row]!r} in row {row}; it must be "
                "true or false."
            )
        plain["correct"] = truths.astype(bool)
    for name in ("confidence", "rt_ms"):
        plain[name] = _as_numbers(plain[name], name) if name in plain.columns else np.nan
    for name in ("trial_index", "task"):
        numbers = _as_numbers(plain[name], name)
        if numbers.isna().any() or (numbers != numbers.round()).any():
            row = int((numbers.isna() | (numbers != numbers.round())).to_numpy().argmax())
            raise AnalysisError(f"The column {name!r} of the responses must hold whole numbers; row {row} has none.")
        plain[name] = numbers.astype(np.int64)
    return plain


_NEEDED = (
    "correct", "condition", "difficulty", "references", "task", "observer", "observer_kind", "session", "trial_index",
    "choice", "query_top", "kind",
)  # fmt: skip


def _lower(value: object) -> str:
    return str(value).strip().lower()


def _as_numbers(values: pd.Series, name: str) -> pd.Series:
    """Return a column as floats, missing cells as NaN."""
    if values.dtype == np.float64:
        return values
    numbers = pd.to_numeric(values.astype("object").where(values.notna(), np.nan), errors="coerce").astype(np.float64)
    wrong = (numbers.isna() & values.notna()).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise AnalysisError(
            f"The column {name!r} of the responses is {values.iloc[row]!r} in row {row}; it must be a number."
        )
    return numbers


def _declared(own: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the optional columns of responses that hold something: the number of references, attributes of people.

    What is not known of some answers is called so: a missing name would take answers out of every grouping.
    """
    found: dict[str, pd.Series] = {}
    for name in own.columns:
        if name == "references_per_side" and own[name].notna().any():
            found[name] = own[name].astype("Int64").astype("str").fillna(UNKNOWN)
        elif str(name).startswith(schemas.PERSON) and own[name].notna().any():
            found[str(name).removeprefix(schemas.PERSON)] = own[name].astype("object").fillna(UNKNOWN).astype("str")
    return found


def require_frame(table: object) -> None:
    """Refuse what is no table, such as a whole data set.

    Raises
    ------
    AnalysisError
        With what makes a table of it.
    """
    if not isinstance(table, pd.DataFrame):
        remedy = " judgements(dataset.responses) makes one." if hasattr(table, "responses") else ""
        raise AnalysisError(f"A table of judgements must be a pandas DataFrame, not a {type(table).__name__}.{remedy}")


def require(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a table of judgements that has these columns.

    Raises
    ------
    AnalysisError
        Naming one that is missing.
    """
    require_frame(table)
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise AnalysisError(
            f"The table of judgements has no column {missing[0]!r}. "
            f"{suggest(missing[0], map(str, table.columns))} judgements(responses) makes one."
        )
    return table


UNKNOWN = "not recorded"
"""Value of an attribute that is not known of some answers."""

SIDES = {"both": "Min-Max", "max": "Max", "min": "Min", "none": "no references"}


def split_conditions(table: pd.DataFrame) -> pd.DataFrame:
    """Return judgements whose conditions also say which references were shown, where that differs between answers.

    Parameters
    ----------
    table
        Table of judgements.

    Returns
    -------
    The table; ``natural`` becomes ``natural, Min-Max-9`` and so on if sides or the number of references a side vary,
    so that nothing that differs in them is pooled under one condition.
    """
    numbers = table["references_per_side"].astype(str) if "references_per_side" in table else None
    several = numbers is not None and numbers.nunique() > 1
    if table["references"].nunique() < 2 and not several:
        return table
    shown = table["references"].astype(str).map(SIDES)
    if numbers is not None:
        shown = shown + ("-" + numbers).where((numbers != UNKNOWN) & (table["references"].astype(str) != "none"), "")
    return table.assign(condition=(table["condition"].astype(str) + ", " + shown).astype("category"))


def plain(table: pd.DataFrame, *, outcome: str = "correct") -> pd.DataFrame:
    """Return a table of judgements of anybody's making in the types that analyses work with.

    Columns that hold names (``NAMES``) become categories of texts: conditions that are numbers are cells, never a
    trend. Numbers in any other column stay numbers. Arrow's, pandas's and NumPy's types, and "True" and "False" for
    right and wrong, come to the same. The index is dropped, whatever it is called.

    Parameters
    ----------
    table
        One row an answer.
    outcome
        Column that says which answers are right.

    Raises
    ------
    AnalysisError
        If two columns have one name, or the outcome is neither right nor wrong somewhere.
    """
    require_frame(table)
    if {"response_id", "observer_kind", "kind"} <= set(table.columns):
        raise AnalysisError(
            "This is a table of responses: practice, catch trials and machines are among them. judgements(responses) "
            "makes the table of judgements."
        )
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise AnalysisError(f"Two columns of the table are called {str(twice[0])!r}: rename or drop one.")
    made = table.reset_index(drop=True)
    changed: dict[str, pd.Series] = {}
    for name in made.columns:
        column = made[name]
        if name == outcome:
            changed[name] = _as_right(column)
        elif name in NAMES:
            changed[name] = _as_names(column)
        elif pd.api.types.is_bool_dtype(column.dtype) and not column.isna().any():
            changed[name] = column.astype(bool)
        elif isinstance(column.dtype, pd.CategoricalDtype | np.dtype):
            continue
        elif pd.api.types.is_numeric_dtype(column.dtype):
            changed[name] = column.astype("Float64").astype(np.float64)
        elif not pd.api.types.is_datetime64_any_dtype(column.dtype):
            changed[name] = column.astype(object).where(column.notna(), None)
    return made.assign(**changed) if changed else made


def _as_names(column: pd.Series) -> pd.Series:
    """Return a column of names as categories of texts, in their order; numbers in the order of numbers."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        labels = column.cat.categories
        if labels.dtype == pd.Index(["text"]).dtype:
            return column
        names = [_spell(label) for label in labels]
        if len(set(names)) == len(names):
            return column.cat.rename_categories(pd.Index(names))
        column = column.astype(object)
    column = column.astype(object)
    present = column[column.notna()]
    try:
        labels = sorted(present.unique())
    except TypeError:
        labels = sorted(present.unique(), key=_spell)
    spelled = present.map({label: _spell(label) for label in labels})
    order = list(dict.fromkeys(_spell(label) for label in labels))
    return pd.Series(pd.Categorical(spelled.reindex(column.index), categories=pd.Index(order)), index=column.index)


def _spell(label: object) -> str:
    """Return the text of a name: whole numbers without a point."""
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)


_RIGHT = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


def _as_right(column: pd.Series) -> pd.Series:
    """Return right and wrong answers as 1 and 0; missing ones stay missing."""
    if column.dtype == np.float64:
        return column
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return column.astype("Float64").astype(np.float64)
    values = column.astype(object)
    read = values.map(lambda value: _RIGHT.get(str(value).strip().lower(), np.inf), na_action="ignore")
    numbers = read.astype(np.float64)
    if np.isinf(numbers).any():
        strange = values[np.isinf(numbers)].iloc[0]
        raise AnalysisError(
            f"The column {column.name!r} holds {strange!r}. Code right and wrong answers as 1 and 0, or True and False."
        )
    return numbers


def about_trained(responses: pd.DataFrame) -> pd.Series:
    """Return which answers are about trained models: neither about random-weight twins nor about planted units."""
    return ~responses["model"].str.endswith(TWIN_SUFFIX) & (responses["model"] != PLANTED)
