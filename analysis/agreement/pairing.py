"""What people and a machine both answered: the same groups, units and tasks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.agreement.machines import Score, observer_name
from analysis.arrays import Integers
from analysis.groups import KEYS, LEAST_UNITS
from benchmark.errors import AnalysisError

ALL_MODELS = "all models"


def shared_groups(
    people: pd.DataFrame, machine: pd.DataFrame, keys: list[str] | None = None
) -> Iterator[tuple[dict[str, str], pd.DataFrame, pd.DataFrame]]:
    """Yield what people and machine answered in each group that both have."""
    keys = KEYS if keys is None else keys
    for name, table in (("people", people), ("the machine observer", machine)):
        if table.empty:
            raise AnalysisError(f"There are no answers of {name} to compare.")
    theirs = {tuple(map(str, key)): part for key, part in machine.groupby(keys, observed=True, sort=True)}
    found = False
    for key, own in people.groupby(keys, observed=True, sort=True):
        names = tuple(map(str, key))
        if names in theirs:
            found = True
            yield dict(zip(keys, names)), own, theirs[names]
    if not found:
        raise AnalysisError(
            f"People and {observer_name(machine)} have no {', '.join(keys)} in common, so they can't be compared. "
            f"People answered {'/'.join(sorted(map(str, people['condition'].unique())))} with references "
            f"{'/'.join(sorted(map(str, people['references'].unique())))}, the observer "
            f"{'/'.join(sorted(map(str, machine['condition'].unique())))} with "
            f"{'/'.join(sorted(map(str, machine['references'].unique())))}."
        )


def unit_table(people: pd.DataFrame, machine: pd.DataFrame, score: Score, where: str) -> pd.DataFrame:
    """Return the units that both have answered about: mean, count, sum and sum of squares of each side.

    Ordered by what was answered, so that draws do not depend on names.
    """
    parts = []
    for side, table, column in (("human", people, "correct"), ("machine", machine, score)):
        if column not in table.columns:
            raise AnalysisError(f"Machines can be compared by 'probability' or 'correct', not by {column!r}.")
        values = pd.DataFrame(
            {
                "unit": table["unit"].astype(str),
                "model": table["model"].astype(str),
                "value": table[column].astype(float),
            }
        )
        values["square"] = values["value"] ** 2
        sums = values.groupby(["model", "unit"], sort=True)[["value", "square"]].sum()
        sums[f"{side}_count"] = values.groupby(["model", "unit"], sort=True).size()
        parts.append(sums.rename(columns={"value": f"{side}_total", "square": f"{side}_squares"}))
    units = pd.concat(parts, axis=1, join="inner").reset_index()
    if len(units) < LEAST_UNITS:
        raise AnalysisError(
            f"{where}: people and {observer_name(machine)} share {len(units)} units, but the comparison needs "
            f"{LEAST_UNITS}. Let the observer answer the study that people answered, or collect answers about more "
            "units."
        )
    for side in ("human", "machine"):
        units[side] = units[f"{side}_total"] / units[f"{side}_count"]
    order = ["human_count", "human_total", "machine_total", "unit"]
    return units.sort_values(order, kind="stable").reset_index(drop=True)


def pair_answers(people: pd.DataFrame, machine: pd.DataFrame) -> pd.DataFrame:
    """Return people's answers to tasks that the machine answered, with ``machine_correct`` and ``probability``."""
    keys = ["condition", "difficulty", "references", "task"]
    left = people[[*keys, "unit", "participant", "correct"]].astype(
        dict.fromkeys([*keys, "unit", "participant"], "str")
    )
    right = machine[[*keys, "correct", "probability"]].astype(dict.fromkeys(keys, "str"))
    right = right.rename(columns={"correct": "machine_correct"})
    pairs = left.merge(right, on=keys, how="inner", validate="many_to_one")
    pairs["trial"] = pairs["condition"] + "|" + pairs["difficulty"] + "|" + pairs["references"] + "|" + pairs["task"]
    return pairs.sort_values(["unit", "participant", "trial", "correct"], kind="stable").reset_index(drop=True)


def number_units(pairs: pd.DataFrame, where: str, observer: str) -> Integers:
    """Number the units of trials, in the order of their data."""
    units = pairs["unit"].nunique()
    if units < LEAST_UNITS:
        raise AnalysisError(
            f"{where}: people and {observer} answered tasks of {units} shared units, but the comparison needs "
            f"{LEAST_UNITS}. Let the observer answer the study that people answered, or collect answers about more "
            "units."
        )
    facts = pairs.groupby("unit")[["correct", "probability"]].agg(["size", "sum"])
    facts.columns = ["size", "right", "_", "probability"]
    order = facts.reset_index().sort_values(["size", "right", "probability", "unit"], kind="stable")["unit"]
    codes: Integers = pd.Index(order).get_indexer(pairs["unit"]).astype(np.int64)
    return codes
