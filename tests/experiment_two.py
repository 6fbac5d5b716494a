"""A made-up table in the shape of experiment II of Borowski et al. (2021): the columns of I, and two more."""

from __future__ import annotations

import numpy as np
import pandas as pd

PUBLISHED = {
    ("natural", "Max-1"): 336, ("natural", "Max-9"): 373, ("natural", "Min-Max-1"): 385, ("natural", "Min-Max-9"): 418,
    ("optimized", "Max-1"): 300, ("optimized", "Max-9"): 307, ("optimized", "Min-Max-1"): 349,
    ("optimized", "Min-Max-9"): 330,
}  # fmt: skip
"""Right answers of 460 in each of the eight cells, as published: .7304 .8109 .8370 .9087, .6522 .6674 .7587 .7174."""

EXPERTS, LAYMEN, TRIALS = 10, 13, 20


def experiment_two(
    spelling: str = "{mode}", levels: tuple[str, str] = ("expert", "lay"), seed: int = 0
) -> pd.DataFrame:
    """Return a table with 23 people, 20 main trials a cell and person, practice and catch trials.

    Parameters
    ----------
    spelling
        How ``condition_name`` is written: of ``type`` (natural, optimized) and ``mode`` (Max-1 ... Min-Max-9).
    levels
        What experts and laymen are called.
    seed
        Of the order of right answers, units and times.
    """
    rng = np.random.default_rng(seed)
    people, rows = EXPERTS + LAYMEN, []
    right = {cell: rng.permutation(people * TRIALS) < count for cell, count in PUBLISHED.items()}
    for person in range(people):
        plan = [("practice", False, cell, n) for cell in list(PUBLISHED)[:2] for n in range(2)]
        for cell in rng.permutation(len(PUBLISHED)).tolist():
            own = list(PUBLISHED)[cell]
            plan += [("main", False, own, n) for n in range(TRIALS)] + [("main", True, own, 0)]
        for trial, (trial_type, catch, (kind, mode), n) in enumerate(plan):
            correct = bool(right[kind, mode][person * TRIALS + n]) if trial_type == "main" and not catch else True
            on_top, sure = bool(rng.random() < 0.5), int(rng.integers(1, 4))
            upper = correct == on_top
            layer = "r" if trial_type == "practice" else str(int(rng.integers(9)))
            channel = "r" if trial_type == "practice" else str(n % 2)
            batch = int(rng.integers(20))
            picture = f"stimuli/layer_{layer}/batch_{batch}/"
            rows.append(
                {
                    "subject_id_within_expert_type": person + 1 if person < EXPERTS else person - EXPERTS + 1,
                    "trial_nr": trial, "block_nr": trial // 21, "instr_type": kind, "trial_type": trial_type,
                    "catch_trial": catch, "batch": batch, "layer": f"layer_{layer}", "kernel_size": str(n % 4),
                    "channel": f"channel_{channel}", "query_order": "max_min" if on_top else "min_max",
                    "correct": correct, "conf_rating": sure if upper else -sure,
                    "RT": round(float(rng.lognormal(1.2, 0.5)), 6), "timeout": False, "response": "a" if upper else "b",
                    "correct_response": "a" if on_top else "b", "query_image_a": f"{picture}max_{n}.png",
                    "query_image_b": f"{picture}min_{n}.png", "old_trial_nr": np.nan, "old_block_nr": np.nan,
                    "seed": 42, "unit_name": f"{layer}, {n % 4} {channel}", "abs_conf_rating": sure,
                    "subject_id": person + 1, "expert_level": levels[0] if person < EXPERTS else levels[1],
                    "condition_name": spelling.format(type=kind, mode=mode),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
