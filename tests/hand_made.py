"""Tables and studies made by hand, so that their truth is known without the code under test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark import schemas
from benchmark.protocol import Protocol, load_protocol
from benchmark.study import Study
from benchmark.units import PLANTED
from stimuli.planted import DETECTORS

REFERENCES = 3
SIDES = ("max", "min")


def make_protocol(name: str = "vimi1", **session: Any) -> Protocol:
    """Return a protocol whose rules of a session are changed."""
    return load_protocol(name).override({"session": session})


def task_row(
    unit: tuple[str, str, int], number: int, condition: str = "natural", difficulty: str = "easy"
) -> dict[str, Any]:
    """Return a distinct task whose pictures are named after what they are."""
    model, layer, index = unit
    row: dict[str, Any] = {
        "model": model, "layer": layer, "basis": "neuron", "index": index, "aggregator": "mean",
        "condition": condition, "difficulty": difficulty, "task": number,
    }  # fmt: skip
    stem = "/".join(map(str, (*unit, condition, difficulty, number)))
    for sign, side in ((1.0, "max"), (-1.0, "min")):
        row[f"query_{side}"] = f"{stem}/{side}/query"
        row[f"activation_query_{side}"] = sign
        row[f"references_{side}"] = [f"{stem}/{side}/{place}" for place in range(REFERENCES)]
        row[f"activations_{side}"] = [sign * (5.0 - place) for place in range(REFERENCES)]
        row[f"label_query_{side}"] = ""
    return {**row, "label_overlap": 0.0, "group_repeated": False}


def make_tasks(
    units: Mapping[str, int],
    tasks: int = 4,
    conditions: Iterable[str] = ("natural",),
    difficulties: Iterable[str] = ("easy",),
) -> pd.DataFrame:
    """Return tasks of so many units of each model, and of all planted units."""
    own = [(model, f"layer{n % 3}", n) for model, count in units.items() for n in range(count)]
    rows = []
    for condition in conditions:
        rows += [task_row(unit, n, condition, d) for unit in own for d in difficulties for n in range(tasks)]
        planted = [(PLANTED, detector.layer, detector.index) for detector in DETECTORS]
        rows += [task_row(unit, n, condition) for unit in planted for n in range(6)]
    return pd.DataFrame(rows)


def stimulus(model: str, index: int, **values: Any) -> dict[str, Any]:
    """Return a row of the table of stimuli: a natural maximal reference, if nothing else is said."""
    return {
        "model": model, "layer": "layer", "basis": "neuron", "index": index, "aggregator": "mean",
        "condition": "natural", "role": "reference", "side": "max", "difficulty": "", "task": 0, "position": 0,
        "picture": "picture", "activation": 0.0, "rank": 0, "label": None, "group": "", "group_repeated": False,
        "method": "by hand", **values,
    }  # fmt: skip


def make_stimuli(
    model: str,
    units: int,
    tasks: int = 2,
    difficulties: Iterable[str] = ("easy",),
    synthetic: bool = False,
    references: int = REFERENCES,
) -> pd.DataFrame:
    """Return stimuli whose pictures are named after their place, so that tasks can be checked by reading."""
    rows = []
    for index in range(units):
        for side in SIDES:
            sign = 1.0 if side == "max" else -1.0
            for task in range(tasks):
                for position in range(references):
                    rows.append(
                        stimulus(model, index, side=side, task=task, position=position,
                                 picture=f"{model} {index} {side} {task} {position}",
                                 activation=sign * (9.0 - position))
                    )  # fmt: skip
                for difficulty in difficulties:
                    rows.append(
                        stimulus(model, index, role="query", side=side, task=task, difficulty=difficulty,
                                 picture=f"{model} {index} {side} {task} {difficulty}", activation=sign)
                    )  # fmt: skip
            if synthetic:
                for position in range(references):
                    rows.append(
                        stimulus(model, index, condition="synthetic", side=side, task=-1, position=position, rank=-1,
                                 picture=f"{model} {index} {side} synthetic {position}", activation=sign * 20.0)
                    )  # fmt: skip
    return schemas.STIMULI.conform(pd.DataFrame(rows))


def exemplar_stimuli(
    model: str, layer: str, index: int, activations: np.ndarray, pool: pd.DataFrame, tasks: int, outermost: str
) -> list[dict[str, Any]]:
    """Return stimuli of a unit by a plain sort of the pool.

    ``outermost`` says whether the outermost pictures are the references, as for units that people are asked
    about, or the queries, as for planted ones.
    """
    order = sorted(range(len(pool)), key=lambda place: (float(activations[place]), pool["picture"][place]))
    rows = []
    for side in SIDES:
        ranking = order[::-1] if side == "max" else order
        count = tasks * REFERENCES
        references = ranking[:count] if outermost == "references" else ranking[tasks : tasks + count]
        queries = ranking[count : count + tasks] if outermost == "references" else ranking[:tasks]
        for task in range(tasks):
            roles = [("reference", "", n, references[n * tasks + task]) for n in range(REFERENCES)]
            roles.append(("query", "easy", 0, queries[task]))
            for role, difficulty, position, place in roles:
                values = {
                    "layer": layer, "role": role, "side": side, "difficulty": difficulty, "task": task,
                    "position": position, "picture": pool["picture"][place], "label": pool["label"][place],
                    "activation": float(activations[place]), "rank": ranking.index(place),
                }  # fmt: skip
                rows.append(stimulus(model, index, **values))
    return rows


def answer_rows(
    model: str,
    correct: Iterable[tuple[int, bool]],
    observer: str = "features:seer",
    **values: Any,
) -> pd.DataFrame:
    """Return answers of a machine: pairs of a unit's number and whether the answer is right."""
    rows = []
    for number, (index, right) in enumerate(correct):
        chosen = "max" if right else "min"
        row = {
            "response_id": f"{observer}{model}{number}{sorted(values.items())}", "protocol": "vimi1", "study": "study",
            "observer_kind": "machine", "observer": observer, "related": False, "session": "session",
            "session_status": "complete", "trial": f"{model}/{index}/{number}", "trial_index": number,
            "kind": "main", "model": model, "layer": "layer", "basis": "neuron", "index": index,
            "aggregator": "mean", "condition": "natural", "difficulty": "easy", "task": number, "references": "both",
            "query_top": "max", "choice": chosen, "correct": right, "probability": 0.9 if right else 0.2,
            "vimi_version": "0", "stimuli_hash": "stimuli",
        }  # fmt: skip
        rows.append({**row, **values})
    return schemas.RESPONSES.conform(pd.DataFrame(rows))


def open_copy(study: Study, folder: Path) -> Study:
    """Return a copy of a study that a test may change."""
    import shutil

    shutil.copytree(study.root, folder)
    return Study.open(folder)
