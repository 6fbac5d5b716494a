"""From stimuli to distinct tasks: who is asked about what, with which pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmark.errors import StudyError
from benchmark.observers.base import Presentation
from benchmark.randomness import seed_from, uniforms
from benchmark.units import UNIT_COLUMNS

TASK_COLUMNS = [*UNIT_COLUMNS, "condition", "difficulty", "task"]
"""The columns that name a task."""


def assemble_tasks(stimuli: pd.DataFrame) -> pd.DataFrame:
    """Return one row per distinct task, in canonical order.

    Natural references belong to one task each; synthetic ones serve all tasks of their unit. Queries are natural
    in every condition, as in the 2023 paper. A task whose queries are equal to the unit has no right answer, as can
    happen with units that are silent: it is left out.

    Parameters
    ----------
    stimuli
        The table of stimuli.

    Returns
    -------
    The columns that name the task, its pictures (``query_max``, ``query_min``, and lists ``references_max``,
    ``references_min``, the strongest first), the activations of all of them, ``label_overlap`` and
    ``group_repeated``.

    Raises
    ------
    StudyError
        If there is no complete task.
    """
    seen = _Stimuli(stimuli)
    references: dict[tuple[Any, ...], list[int]] = {}
    conditions: dict[int, set[str]] = {}
    queries: dict[tuple[Any, ...], dict[str, int]] = {}
    for row in np.argsort(stimuli["position"].to_numpy(), kind="stable").tolist():
        unit, task, side = seen.unit[row], seen.task[row], seen.side[row]
        if seen.role[row] == "reference":
            references.setdefault((unit, seen.condition[row], task, side), []).append(row)
            conditions.setdefault(unit, set()).add(seen.condition[row])
        elif seen.role[row] == "query":
            queries.setdefault((unit, seen.difficulty[row], task), {})[side] = row
    rows: list[dict[str, Any]] = []
    for (unit, difficulty, task), pair in queries.items():
        if len(pair) < 2 or not seen.activation[pair["max"]] > seen.activation[pair["min"]]:
            continue
        for condition in conditions.get(unit, ()):
            chosen = {
                side: references.get((unit, condition, task, side)) or references.get((unit, condition, -1, side), [])
                for side in pair
            }
            if all(chosen.values()):
                names = dict(zip(TASK_COLUMNS, (*seen.units[unit], condition, difficulty, task)))
                rows.append({**names, **seen.describe(pair, chosen)})
    if not rows:
        raise StudyError("The study has no complete task: no unit has queries and references on both sides.")
    order = ["condition", "difficulty", *UNIT_COLUMNS, "task"]
    return pd.DataFrame(rows).sort_values(order, kind="stable").reset_index(drop=True)


class _Stimuli:
    """The columns of the table of stimuli as plain lists: tasks are put together row by row, and quickly so."""

    def __init__(self, stimuli: pd.DataFrame) -> None:
        numbers = stimuli.groupby(UNIT_COLUMNS, sort=False).ngroup()
        names = stimuli.loc[~numbers.duplicated(), UNIT_COLUMNS]  # in the order of their numbers
        self.units = list(names.itertuples(index=False, name=None))
        self.unit: list[int] = numbers.tolist()
        self.role: list[str] = stimuli["role"].tolist()
        self.side: list[str] = stimuli["side"].tolist()
        self.condition: list[str] = stimuli["condition"].tolist()
        self.difficulty: list[str] = stimuli["difficulty"].tolist()
        self.task: list[int] = stimuli["task"].tolist()
        self.picture: list[str] = stimuli["picture"].tolist()
        self.activation: list[float] = stimuli["activation"].astype(float).tolist()
        self.label = [label if isinstance(label, str) else "" for label in stimuli["label"].tolist()]
        self.repeated: list[bool] = stimuli["group_repeated"].astype(bool).tolist()

    def describe(self, pair: dict[str, int], references: dict[str, list[int]]) -> dict[str, Any]:
        """Return what a task shows, and what is known about it."""
        result: dict[str, Any] = {}
        for side in ("max", "min"):
            query, members = pair[side], references[side]
            result[f"query_{side}"] = self.picture[query]
            result[f"activation_query_{side}"] = self.activation[query]
            result[f"references_{side}"] = [self.picture[row] for row in members]
            result[f"activations_{side}"] = [self.activation[row] for row in members]
            result[f"label_query_{side}"] = self.label[query]
        shown = [row for members in references.values() for row in members]
        natural = all(self.condition[row] == "natural" for row in shown)
        result["label_overlap"] = self.label_overlap(pair, references)
        result["group_repeated"] = any(self.repeated[row] for row in (*pair.values(), *(shown if natural else ())))
        return result

    def label_overlap(self, pair: dict[str, int], references: dict[str, list[int]]) -> float:
        """Return how far labels alone give the answer away.

        The share of a query's own side that has the query's label, minus that of the other side, averaged over
        both queries: 0 if labels say nothing, 1 if they say all. NaN where pictures have no labels.
        """
        if not all(self.label[query] for query in pair.values()):
            return float("nan")
        labels = {side: [self.label[row] for row in members] for side, members in references.items()}
        if not all(any(shown) for shown in labels.values()):
            return float("nan")
        shares = {
            (side, other): labels[other].count(self.label[query]) / len(labels[other])
            for side, query in pair.items()
            for other in labels
        }
        own, wrong = shares["max", "max"] + shares["min", "min"], shares["max", "min"] + shares["min", "max"]
        return (own - wrong) / 2


def task_names(tasks: pd.DataFrame) -> list[str]:
    """Return the name of each task: ``resnet50/layer3.2.conv1/neuron/17/mean/natural/easy/4``.

    Coins and identifiers of answers are made from it, so that it spells out what a unit's own name leaves unsaid, and
    must stay as it is.
    """
    return ["/".join(map(str, key)) for key in tasks[TASK_COLUMNS].itertuples(index=False, name=None)]


def flip_coins(names: list[str], *words: str | int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Flip a fair coin for each name, keyed by the name and by what the coins are for; shape (names,)."""
    keys = np.array([seed_from(*words, name) for name in names], dtype=np.uint64)
    return np.asarray(uniforms(keys, 0, 1)[:, 0] < 0.5)


def present(
    tasks: pd.DataFrame, *, references: str = "both", seed: int = 0, labels: dict[str, str] | None = None
) -> tuple[Presentation, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Show tasks to an observer: the position of the maximal query is drawn from the seed for each task.

    Parameters
    ----------
    tasks
        Distinct tasks, as from :func:`assemble_tasks`.
    references
        Which sides are shown.
    seed
        Decides which query is on top.
    labels
        Class labels of the pictures.

    Returns
    -------
    The presentation, and whether the maximal query is on top, shape (tasks,).
    """
    shown = {*tasks["query_max"], *tasks["query_min"]}
    shown.update(name for side in ("max", "min") for row in tasks[f"references_{side}"] for name in row)
    # In the order of their names: numbered as they come, the maximal query would have the smaller number.
    pictures = {name: place for place, name in enumerate(sorted(shown))}

    def number(names: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.array([[pictures[name] for name in row] for row in names], dtype=np.int64)

    top = flip_coins(task_names(tasks), seed, "query on top", references)
    queries = number(zip(tasks["query_max"], tasks["query_min"]))
    activations = tasks[["activation_query_max", "activation_query_min"]].to_numpy(dtype=np.float64, copy=True)
    sides = {side: number(tasks[f"references_{side}"]) for side in ("max", "min")}
    active = {side: np.array(tasks[f"activations_{side}"].tolist(), dtype=np.float64) for side in ("max", "min")}
    for side in ("max", "min"):
        if references not in ("both", side):
            sides[side] = np.full_like(sides[side], -1)
            active[side] = np.full_like(active[side], np.nan)
    upside_down = ~top
    queries[upside_down] = queries[upside_down, ::-1]
    activations[upside_down] = activations[upside_down, ::-1]
    known = labels or {}
    return (
        Presentation(
            tuple(pictures),
            queries,
            sides["max"],
            sides["min"],
            activations,
            active["max"],
            active["min"],
            tuple(known.get(picture, "") for picture in pictures),
        ),
        top,
    )
