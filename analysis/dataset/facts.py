"""Facts of sessions and units, derived from answers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.importing.schema import conform
from analysis.judgement_table import PEOPLE
from benchmark import schemas
from benchmark.units import PLANTED, UNIT_COLUMNS, unit_names

UNIT_FACTS = ["unit", "model", "layer", "depth", "width", "kind"]


def derive_sessions(responses: pd.DataFrame, facts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Derive the table of sessions from answers.

    Parameters
    ----------
    responses
        Table of responses. Sessions of machines are left out: exclusions judge people.
    facts
        What is known beside: a column ``session`` and any columns of the table of sessions.

    Returns
    -------
    One row a session, in order of appearance, schema ``SESSIONS``. What is neither told nor given is missing, and
    rules that look at it let the session pass.
    """
    people = responses[responses["observer_kind"].isin(PEOPLE)]
    if people.empty:
        return schemas.SESSIONS.empty()
    grouped = people.groupby("session", sort=False)
    names = ["study", "protocol", "observer_kind", "observer", "session_status"]
    table = grouped[names].first().reset_index()
    times = grouped["answered_at"].agg(["min", "max"]) if people["answered_at"].notna().any() else None
    table["cell"] = table["session"].map(_cells(people)).to_numpy()
    table["slot"] = None
    table["begun_at"] = pd.NaT if times is None else table["session"].map(times["min"])
    table["ended_at"] = pd.NaT if times is None else table["session"].map(times["max"])
    table["earlier_participation"] = False
    for column in ("total_seconds", "instruction_seconds"):
        table[column] = np.nan
    for column in ("practice_attempts", "colour_vision", "language", "evidence"):
        table[column] = None
    if facts is not None:
        own = facts.drop_duplicates("session").set_index("session")
        for column in own.columns:
            known = table["session"].map(own[column])
            table[column] = known.astype(object).where(known.notna(), table[column].astype(object))
    return conform(schemas.SESSIONS, table)


def _cells(people: pd.DataFrame) -> pd.Series:
    """Return the cell of each session: its conditions and difficulties, and its model where there are several."""
    main = people[people["kind"] == "main"]
    asked = main if len(main) else people
    cell = _joined(asked, "condition")
    cell = cell + "-" + _joined(asked, "difficulty").reindex(cell.index)
    if asked["model"].nunique() > 1:
        models = _joined(asked, "model").reindex(cell.index)
        nested = ~models.str.contains("+", regex=False)
        cell = cell.where(~nested, models + "-" + cell)
    rest = pd.Index(people["session"].unique()).difference(cell.index)
    return pd.concat([cell, pd.Series("no main trials", index=rest)]) if len(rest) else cell


def _joined(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the distinct values of a column in each session, joined by a plus."""
    pairs = table[["session", column]].drop_duplicates().sort_values(["session", column])
    several = pairs["session"].duplicated(keep=False)  # rare: joining every group would take seconds
    single = pairs[~several].set_index("session")[column].astype("str")
    if not several.any():
        return single
    return pd.concat([single, pairs[several].groupby("session")[column].agg("+".join)])


def unit_facts(responses: pd.DataFrame) -> pd.DataFrame:
    """Return the units that answers are about, ordered by name; their depth and width are not known from answers."""
    asked = responses.loc[responses["model"] != PLANTED, UNIT_COLUMNS].drop_duplicates().reset_index(drop=True)
    table = pd.DataFrame({"unit": unit_names(asked) if len(asked) else pd.Series(dtype="str")})
    table["model"], table["layer"] = asked["model"], asked["layer"]
    table["depth"], table["width"], table["kind"] = np.nan, np.nan, ""
    return order_units(table)


def order_units(units: pd.DataFrame) -> pd.DataFrame:
    """Return a table of units ordered by name, with the columns of ``UNIT_FACTS`` and their types."""
    ordered = units.sort_values("unit", ignore_index=True)
    text = dict.fromkeys(["unit", "model", "layer", "kind"], "str")
    return ordered.astype({**text, "depth": np.float64, "width": np.float64})[UNIT_FACTS]
