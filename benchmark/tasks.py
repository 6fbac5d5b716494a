"""From stimuli to distinct tasks: who is asked about what, with which pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmark.errors import StudyError
from benchmark.observers.base import Presentation
from benchmark.randomness import seed_from, uniforms

UNIT_COLUMNS = ["model", "layer", "basis", "index", "aggregator"]
TASK_COLUMNS = [*UNIT_COLUMNS, "condition", "difficulty", "task"]

PLANTED = "planted"
"""The ``model`` of units whose truth is known by construction; their tasks are catch and practice trials."""


def assemble_tasks(stimuli: pd.DataFrame) -> pd.DataFrame:
    """Return one row per distinct task, in canonical order.

    Natural references belong to one task each; synthetic ones serve all tasks of their unit. Queries are natural
    in every condition, as in the 2023 paper.

    Parameters
    ----------
    stimuli
        The table of stimuli.

    Returns
    -------
    The columns that name the task, its pictures (``query_max``, ``query_min``, and lists ``references_max``,
    ``references_min``, the strongest first), the activations of all of them, ``label_overlap`` and
    ``group_repeated``.
    """
    rows: list[dict[str, Any]] = []
    for unit, own in stimuli.groupby(UNIT_COLUMNS, sort=True):
        queries = own[own["role"] == "query"]
        references = own[own["role"] == "reference"]
        sets = {
            key: part.sort_values("position")
            for key, part in references.groupby(["condition", "task", "side"], sort=False)
        }
        conditions = sorted(references["condition"].unique())
        for (difficulty, task), pair in queries.groupby(["difficulty", "task"], sort=True):
            by_side = pair.set_index("side")
            for condition in conditions:
                chosen = {
                    side: sets[condition, task if (condition, task, side) in sets else -1, side]
                    for side in ("max", "min")
                    if (condition, task, side) in sets or (condition, -1, side) in sets
                }
                if len(chosen) == 2 and set(by_side.index) == {"max", "min"}:
                    row = dict(zip(UNIT_COLUMNS, unit))
                    rows.append({**row, "condition": condition, "difficulty": difficulty, "task": task,
                                 **_pictures(by_side, chosen)})  # fmt: skip
    if not rows:
        raise StudyError("The study has no complete task: no unit has queries and references on both sides.")
    order = ["condition", "difficulty", *UNIT_COLUMNS, "task"]
    return pd.DataFrame(rows).sort_values(order, kind="stable").reset_index(drop=True)


def _pictures(queries: pd.DataFrame, references: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return what a task shows, and what is known about it."""
    result: dict[str, Any] = {}
    for side in ("max", "min"):
        result[f"query_{side}"] = queries.at[side, "picture"]
        result[f"activation_query_{side}"] = float(queries.at[side, "activation"])
        result[f"references_{side}"] = references[side]["picture"].tolist()
        result[f"activations_{side}"] = references[side]["activation"].tolist()
        label = queries.at[side, "label"]
        result[f"label_query_{side}"] = label if isinstance(label, str) else ""
    result["label_overlap"] = _label_overlap(queries, references)
    natural = all((part["condition"] == "natural").all() for part in references.values())
    repeated = bool(queries["group_repeated"].any())
    result["group_repeated"] = repeated or (natural and any(p["group_repeated"].any() for p in references.values()))
    return result


def _label_overlap(queries: pd.DataFrame, references: dict[str, pd.DataFrame]) -> float:
    """Return how far labels alone give the answer away.

    The share of a query's own side that has the query's label, minus that of the other side, averaged over both
    queries: 0 if labels say nothing, 1 if they say all. NaN where pictures have no labels.
    """
    shares: list[float] = []
    for side, other in (("max", "min"), ("min", "max")):
        label = queries.at[side, "label"]
        if not isinstance(label, str) or references[side]["label"].isna().all():
            return float("nan")
        shares.append(float((references[side]["label"] == label).mean() - (references[other]["label"] == label).mean()))
    return float(np.mean(shares))


def task_names(tasks: pd.DataFrame) -> list[str]:
    """Return the name of each task: ``resnet50/layer3.2.conv1/neuron/17/mean/natural/easy/4``."""
    return ["/".join(map(str, key)) for key in tasks[TASK_COLUMNS].itertuples(index=False, name=None)]


def flip_coins(names: list[str], *words: str | int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Flip a fair coin for each name, keyed by the name and by what the coins are for; shape (names,)."""
    keys = np.array([seed_from(*words, name) for name in names], dtype=np.uint64)
    return np.asarray(uniforms(keys, 0, 1)[:, 0] < 0.5)


def present(
    tasks: pd.DataFrame, *, references: str = "both", seed: int = 0, labels: dict[str, str] | None = None
) -> tuple[Presentation, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Show tasks to an observer: the place of the maximal query is drawn by the seed, for each task by itself.

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
