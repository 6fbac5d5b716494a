"""The 2021 answers of real people, as the importer reads them, for tests that need real input."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from analysis import import_csv, judgements

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT.parent / "shared" / "data" / "borowski2021" / "experiment_1.csv"
MAPPING = ROOT / "docs" / "examples" / "borowski2021.toml"


def read_borowski() -> pd.DataFrame:
    """Return main, catch and repeated answers with all kinds of references; skips the test where they are missing."""
    if not FILE.is_file():
        pytest.skip(f"the answers of Borowski et al. (2021) are not at {FILE}")
    return _read().copy()


@cache
def _read() -> pd.DataFrame:
    table = judgements(import_csv(FILE, MAPPING).responses, kinds=("main", "catch", "repeated"), references=None)
    # The mapping keeps trials without references apart; for tests, each of the ten came once.
    return table.assign(session=table["participant"])


def main_trials(table: pd.DataFrame) -> pd.DataFrame:
    """Return the main trials with both sides of references."""
    return table[(table["kind"] == "main") & (table["references"] == "both")].reset_index(drop=True)
