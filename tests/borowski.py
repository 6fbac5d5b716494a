"""The 2021 answers of real people, read by hand into a table of judgements, for tests that need real input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "borowski2021" / "experiment_1.csv"


def read_borowski() -> pd.DataFrame:
    """Return main, catch and repeated answers with all kinds of references; skips the test where they are missing."""
    if not FILE.is_file():
        pytest.skip(f"the answers of Borowski et al. (2021) are not at {FILE}")
    rows = pd.read_csv(FILE)
    rows = rows[rows["trial_type"] != "practice"].reset_index(drop=True)
    unit = "googlenet/" + rows["layer"] + "/" + rows["kernel_size"].astype(str) + "/" + rows["channel"]
    person = "p" + rows["subject_id"].astype(str)
    table = pd.DataFrame(
        {
            "correct": rows["correct"].astype(float),
            "model": "googlenet",
            "condition": np.where(rows["instr_type"] == "optimized", "synthetic", "natural"),
            "difficulty": "easy",
            "references": np.where(rows["instr_type"].str.startswith("none"), "none", "both"),
            "unit": unit,
            "layer": rows["layer"],
            "task": unit + "#" + rows["batch"].astype(str),
            "participant": person,
            "session": person,
            "trial_index": rows["trial_nr"],
            "upper": (rows["response"] == "a").astype(float),
            "max_on_top": (rows["query_order"] == "max_min").astype(float),
            "confidence": rows["abs_conf_rating"].astype(float),
            "rt_ms": rows["RT"] * 1000,
            "kind": np.where(rows["catch_trial"], "catch", rows["trial_type"]),
        }
    )
    names = [
        "model",
        "condition",
        "difficulty",
        "references",
        "unit",
        "layer",
        "task",
        "participant",
        "session",
        "kind",
    ]
    return table.astype(dict.fromkeys(names, "category"))


def main_trials(table: pd.DataFrame) -> pd.DataFrame:
    """Return the main trials with both sides of references."""
    return table[(table["kind"] == "main") & (table["references"] == "both")].reset_index(drop=True)
