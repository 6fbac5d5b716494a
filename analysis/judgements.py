"""The one table that every analysis starts from: people's answers, indexed by the things that vary.

A table of responses (``benchmark.schemas.RESPONSES``) says all that is known of every answer. An analysis needs less,
and always the same: whether the answer is right, and which unit, task, person, model and condition it belongs to.
``judgements`` picks that out, once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.errors import AnalysisError
from benchmark.model_card import TWIN_SUFFIX
from benchmark.units import PLANTED, unit_names

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
    One row an answer, in the order given, with the columns of ``COLUMNS``; names are categories.

    Raises
    ------
    AnalysisError
        If nothing is left.
    """
    keep = responses["kind"].isin(kinds) & responses["observer_kind"].isin(observer_kinds)
    if references is not None:
        keep &= responses["references"].isin(references)
    if "catch" not in kinds and "practice" not in kinds:
        keep &= responses["model"] != PLANTED
    if not twins:
        keep &= ~responses["model"].str.endswith(TWIN_SUFFIX)
    own = responses[keep].reset_index(drop=True)
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
    return table.astype(dict.fromkeys(NAMES, "category"))


def about_trained(responses: pd.DataFrame) -> pd.Series:
    """Return which answers are about trained models: neither about random-weight twins nor about planted units."""
    return ~responses["model"].str.endswith(TWIN_SUFFIX) & (responses["model"] != PLANTED)
