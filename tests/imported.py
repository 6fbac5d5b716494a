"""Tables as other laboratories publish them, made for tests: the 2023 release in its exact shape, at any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

IMI_COLUMNS = (
    "rt", "button_pressed", "switched_queries", "confidence", "choice", "correct", "min_query", "max_query",
    "min_references", "max_references", "catch_trial", "is_demo", "trial_type", "trial_index", "time_elapsed",
    "internal_node_id", "response_index", "participant_id", "corrected_trial_index", "task_id", "task_number", "batch",
    "channel", "layer", "mode", "model", "passed_checks", "demo_trials_result", "demo_trials_details",
    "catch_trials_result", "catch_trials_details", "total_response_time_result", "total_response_time_details",
    "row_variability_result", "row_variability_details", "instruction_time_result", "instruction_time_details",
    "instruction_time_details_extracted", "total_response_time_details_extracted",
    "row_variability_details_details_upper_extracted", "row_variability_details_details_lower_extracted",
    "catch_trials_details_ratio_extracted", "catch_trials_details_correctly_answered_extracted",
    "demo_trials_details_extracted", "multi_participation",
)  # fmt: skip
"""The 45 columns of the release."""

# model, mode and hardness of a cell; the names of its tasks; whether the column model tells the hardness
IMI_CELLS: tuple[tuple[str, str, str, str], ...] = (
    ("googlenet", "natural", "", "googlenet_natural"),
    ("googlenet", "optimized", "", "googlenet_optimized"),
    ("densenet_201", "natural", "", "densenet_201_natural"),
    ("resnet50", "natural", "", "resnet50_natural"),
    ("resnet50", "optimized", "", "resnet50_optimized"),
    ("resnet50", "natural", "_hard85", "resnet50_hard85_natural"),
    ("resnet50", "natural", "_hard95", "resnet50_hard95_natural"),
    ("resnet50", "natural", "_hard99", "resnet50_hard99_natural"),
    ("resnet50", "optimized", "_hard95", "resnet50_synthetic-hard95"),
    ("resnet50-l2", "natural", "", "resnet50-l2_natural"),
    ("clip-resnet50", "natural", "", "clip-resnet50_natural"),
    ("clip-resnet50", "natural", "_hard95", "clip-resnet50_hard95_natural"),
    ("wide_resnet50", "optimized", "", "wide_resnet50_optimized"),
    ("in1k-vit_b32", "natural", "", "in1k-vit_b32_natural"),
    ("clip-vit_b32", "natural", "", "clip-vit_b32_natural"),
    ("convnext_b", "natural", "", "convnext_b_natural"),
)

TRAP = "resnet50_synthetic-hard95"
"""Name of the tasks whose rows carry the plain name of the model in the first version."""


def imi_table(sessions: int = 32, *, version: Literal[1, 2] = 1, seed: int = 0, main: int = 40) -> pd.DataFrame:
    """Return a table in the shape of the release: practice in one or two rounds, main and catch trials.

    Sessions go round the cells; every session is another person's.
    """
    generator = np.random.default_rng(seed)
    rounds = 1 + (generator.random(sessions) < 0.4).astype(int)
    length = 5 * rounds + main + 5
    session = np.repeat(np.arange(sessions), length)
    rows = len(session)
    position = np.arange(rows) - np.repeat(np.cumsum(length) - length, length)
    demo = position < 5 * rounds[session]
    inside = position - 5 * rounds[session]
    catch = ~demo & (inside % 9 == 4)
    cell = session % len(IMI_CELLS)
    named = np.array([model for model, *_ in IMI_CELLS])[cell]
    hard = np.array([suffix for *_, suffix, _ in IMI_CELLS])[cell]
    task = np.array([task for *_, task in IMI_CELLS])[cell]
    if version == 1:
        hard = np.where(task == TRAP, "", hard)
    mode = np.array([mode for _, mode, *_ in IMI_CELLS])[cell]
    number = session // len(IMI_CELLS)
    task_id = np.char.add(np.char.add(task, "-"), number.astype(str))
    unit = generator.permuted(np.tile(np.arange(84), (sessions, 1)), axis=1)[session, np.maximum(inside, 0) % 84]
    correct = generator.random(rows) < np.where(catch | demo, 0.97, 0.8)
    switched = generator.random(rows) < 0.5
    confidence = generator.integers(1, 4, rows)
    upper = correct == switched
    batch = generator.integers(0, 20, rows)
    base = np.char.add("layer", (unit % 7).astype(str))
    picture = np.char.add(np.char.add("trials/", np.where(demo, position % 5, unit).astype(str)), "/queries/")
    total = np.round(generator.uniform(200, 1500, sessions), 3)
    instruction = np.round(generator.uniform(16, 200, sessions), 3)
    right = np.bincount(session[catch & correct], minlength=sessions)
    top = np.bincount(session[~demo & upper], minlength=sessions)
    nine = json.dumps([f"max_{n}.png" for n in range(9)])

    def text(values: Any) -> pd.Series:
        return pd.Series(values, dtype="object")

    def facts(make: Any) -> pd.Series:
        return text(np.array([make(s) for s in range(sessions)], dtype=object)[session])

    def unless(hidden: Any, values: Any) -> pd.Series:
        return text(values).mask(hidden)

    columns: dict[str, Any] = {
        "rt": np.round(generator.lognormal(8, 0.6, rows), 1),
        "button_pressed": np.where(upper, confidence - 1, confidence + 2),
        "switched_queries": switched,
        "confidence": confidence,
        "choice": np.where(correct, "b", "a"),
        "correct": correct,
        "min_query": np.char.add(picture, "min.png"),
        "max_query": np.char.add(picture, "max.png"),
        "min_references": nine.replace("max", "min"),
        "max_references": nine,
        "catch_trial": catch,
        "is_demo": demo,
        "trial_type": "2afc-image-confidence-response",
        "trial_index": position + 7,
        "time_elapsed": (position + 1) * 5000,
        "internal_node_id": np.char.add("0.0-", np.char.add(position.astype(str), ".0")),
        "response_index": session % 3,
        "participant_id": "anonymized" if version == 1 else np.char.add("P", np.char.zfill(session.astype(str), 4)),
        "corrected_trial_index": inside,
        "task_id": task_id,
        "task_number": number,
        "batch": unless(demo, np.where(catch, -1, batch)),
        "channel": unless(demo, np.where(catch, unit % 5, unit)),
        "layer": unless(demo, np.where(catch, "mixed4a", base)),
        "mode": unless(demo, np.where(catch, "catch_trial", mode)),
        "model": unless(demo, np.where(catch, "catch/manual", np.char.add(named, hard))),
        "passed_checks": True,
        "demo_trials_result": True,
        "demo_trials_details": facts(lambda s: str({"n_demo_trials_blocks": int(rounds[s])})),
        "catch_trials_result": True,
        "catch_trials_details": facts(lambda s: str({"ratio": right[s] / 5, "correctly_answered": int(right[s])})),
        "total_response_time_result": True,
        "total_response_time_details": facts(lambda s: str({"total_time": float(total[s])})),
        "row_variability_result": True,
        "row_variability_details": facts(lambda s: str({"n_upper_row": int(top[s]), "n_lower_row": int(45 - top[s])})),
        "instruction_time_result": True,
        "instruction_time_details": facts(lambda s: str({"total_time": float(instruction[s])})),
        "instruction_time_details_extracted": instruction[session],
        "total_response_time_details_extracted": total[session],
        "row_variability_details_details_upper_extracted": top[session],
        "row_variability_details_details_lower_extracted": main + 5 - top[session],
        "catch_trials_details_ratio_extracted": right[session] / 5,
        "catch_trials_details_correctly_answered_extracted": right[session],
        "demo_trials_details_extracted": rounds[session],
        "multi_participation": False,
    }
    return pd.DataFrame(columns, columns=list(IMI_COLUMNS))


def write_imi(folder: Path, table: pd.DataFrame | None = None, name: str = "responses_main.csv") -> Path:
    """Write a table where the release has it; returns the file."""
    path = folder / "human_responses" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (imi_table() if table is None else table).to_csv(path, index=False)
    return path
