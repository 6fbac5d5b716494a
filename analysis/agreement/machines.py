"""Answers of machine observers, as a table that matches the judgements."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from analysis.judgement_table import judgements
from benchmark.errors import AnalysisError, suggest
from benchmark.model_card import TWIN_SUFFIX
from benchmark.units import PLANTED

Score = Literal["probability", "correct"]

MACHINE_COLUMNS = {
    "observer": "name of the machine observer",
    "model": "name of the model",
    "condition": "kind of the references",
    "difficulty": "quantile of the queries",
    "references": "which sides were shown",
    "unit": "name of the unit, as in a table of judgements",
    "layer": "layer of the unit",
    "task": "name of the task, as in a table of judgements",
    "correct": "1 if the maximal query was chosen, else 0",
    "probability": "the machine's probability that the maximal query is right",
}
"""Columns of a table of machine answers, and what they mean."""


def machine_answers(
    responses: pd.DataFrame,
    observer: str,
    *,
    references: tuple[str, ...] | None = ("both",),
    twins: bool = False,
) -> pd.DataFrame:
    """Return one machine observer's answers, with their probabilities, in the names that judgements use.

    Parameters
    ----------
    responses
        Table of responses.
    observer
        Name of the observer.
    references
        Which sides must have been shown; None keeps all answers.
    twins
        Whether to keep answers about random-weight twins.

    Returns
    -------
    One row a task, with the columns of ``MACHINE_COLUMNS``; names are categories.

    Raises
    ------
    AnalysisError
        If there is no such machine observer, it has given no probabilities, or it answered a task twice.
    """
    machines = responses[(responses["observer_kind"] == "machine") & (responses["kind"] == "main")]
    own = machines[machines["observer"] == observer]
    if own.empty:
        known = machines["observer"].unique().tolist()
        raise AnalysisError(f"There are no answers of a machine observer {observer!r}. {suggest(observer, known)}")
    keep = own["model"] != PLANTED
    if references is not None:
        keep &= own["references"].isin(references)
    if not twins:
        keep &= ~own["model"].str.endswith(TWIN_SUFFIX)
    own = own[keep]
    table = judgements(own, observer_kinds=("machine",), references=references, twins=twins)
    probability = own["probability"].to_numpy(dtype=np.float64)
    if np.isnan(probability).any():
        raise AnalysisError(
            f"{observer} has given no probability in {int(np.isnan(probability).sum())} of {len(own)} answers: this "
            "comparison needs an observer that reports how sure it is."
        )
    table = table.assign(probability=probability, observer=observer)
    table = table.astype({"observer": "category"})[list(MACHINE_COLUMNS)]
    twice = table.duplicated(["task", "condition", "difficulty", "references"])
    if twice.any():
        raise AnalysisError(
            f"{observer} answered {int(twice.sum())} tasks twice, the first of them "
            f"{table.loc[twice, 'task'].iloc[0]}. They may include answers to older stimuli: keep those of one study."
        )
    return table


def observer_name(machine: pd.DataFrame) -> str:
    """Return the name of the one observer in a table of machine answers."""
    names = machine["observer"].astype(str).unique() if "observer" in machine.columns else np.array(["the machine"])
    if len(names) != 1:
        raise AnalysisError(f"Only one machine observer at a time can be compared with people, not {len(names)}.")
    return str(names[0])
