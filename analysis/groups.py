"""Groups of answers whose unit means may be compared, and how many answers each unit has in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.judgement_table import plain, require
from benchmark.errors import AnalysisError

KEYS = ["model", "condition", "difficulty", "references"]
"""What answers must share for their unit means to be compared."""

LEAST_UNITS = 5
"""With fewer units, neither a correlation nor its bootstrap says anything."""


def groups(judgements: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield the judgements of each model, condition, difficulty and kind of references, with their names."""
    if judgements.empty:
        raise AnalysisError("There are no answers to analyse: the table of judgements is empty.")
    judgements = plain(require(judgements, [*KEYS, "unit", "participant", "correct"]))
    number = "references_per_side"
    several = number in judgements and judgements[number].nunique() > 1
    for key, own in judgements.groupby([*KEYS, number] if several else KEYS, observed=True, sort=True):
        names = dict(zip(KEYS, map(str, key)))
        if several:
            names["references"] += f", {key[-1]} a side"
        yield names, own


def spell_group(names: dict[str, str]) -> str:
    """Return a group's names for messages: "resnet50 (natural, easy)"."""
    inside = [names["condition"], names["difficulty"]]
    if names["references"] != "both":
        inside.append(f"references {names['references']}")
    return f"{names['model']} ({', '.join(inside)})"


def count_answers(judgements: pd.DataFrame, *, least: int = 1, where: str = "this table") -> pd.DataFrame:
    """Return the number of answers and of right ones for each unit that has enough answers.

    Returns
    -------
    Columns ``unit``, ``answers``, ``right``; ordered by counts before names, so that what is drawn afterwards
    does not depend on how units are called.

    Raises
    ------
    AnalysisError
        If fewer than ``LEAST_UNITS`` units are left.
    """
    found = judgements.groupby("unit", observed=True, sort=True)["correct"].agg(["size", "sum"])
    table = pd.DataFrame(
        {
            "unit": found.index.astype(str),
            "answers": found["size"].to_numpy().astype(np.int64),
            "right": found["sum"].to_numpy().round().astype(np.int64),
        }
    )
    kept = table[table["answers"] >= least]
    if len(kept) < LEAST_UNITS:
        raise AnalysisError(
            f"{where}: {len(kept)} of {len(table)} units have {least} answers or more, but the analysis needs "
            f"{LEAST_UNITS}. Collect more answers, or analyse conditions that have enough."
        )
    return kept.sort_values(["answers", "right", "unit"], kind="stable").reset_index(drop=True)
