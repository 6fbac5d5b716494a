"""How long imports take. Run by hand:

    python -m tests.speed.importing [ROWS]

Times a table in the shape of the 2023 release, and the same table through a mapping file. Prints a table.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter, process_time

from rich.console import Console
from rich.table import Table

from analysis.dataset import read_dataset
from analysis.importing.imi import import_imi
from analysis.importing.tables import import_csv
from tests.imported import imi_table, write_imi

MAPPING = """
name = "release"
protocol = "imi2023"

[columns]
observer = "{task_id}/{response_index}"
trial_index = "trial_index"
model = { column = "model", pattern = '[^_]+', otherwise = "practice" }
layer = { column = "layer", otherwise = "practice" }
index = { column = "channel", otherwise = 0 }
task = { column = "batch", values = { "-1" = 0 }, unmatched = "keep", otherwise = 0 }
condition = { column = "mode", values = { optimized = "synthetic", natural = "natural" }, otherwise = "natural" }
choice = { column = "choice", values = { a = "min", b = "max" } }
query_top = { column = "switched_queries", values = { True = "max", False = "min" } }
correct = "correct"
confidence = "confidence"
rt_ms = "rt"

[[kinds]]
kind = "practice"
where = { is_demo = true }

[[kinds]]
kind = "catch"
where = { catch_trial = true }

[sessions]
total_seconds = "total_response_time_details_extracted"
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=130_000)
    asked = parser.parse_args().rows
    shown = Table("what", "rows", "MiB", "seconds", "best of 3", "seconds of processor, best of 3")
    with tempfile.TemporaryDirectory() as folder:
        path = write_imi(Path(folder), imi_table(round(asked / 52) + 1).head(asked))
        mapping = Path(folder) / "mapping.toml"
        mapping.write_text(MAPPING, encoding="utf-8")
        dataset = import_imi(write_imi(Path(folder) / "small", imi_table(16)))  # loading libraries is not measured
        size = f"{path.stat().st_size / 2**20:.0f}"
        for what, work in (("import_imi", lambda: import_imi(path)), ("import_csv", lambda: import_csv(path, mapping))):
            seconds, processor = [], []
            for _ in range(3):
                begun, spent = perf_counter(), process_time()
                dataset = work()
                seconds.append(perf_counter() - begun)
                processor.append(process_time() - spent)
            rows = f"{len(dataset.responses):,}"
            shown.add_row(what, rows, size, f"{seconds[0]:.2f}", f"{min(seconds):.2f}", f"{min(processor):.2f}")
        rows = f"{len(dataset.responses):,}"
        begun, spent = perf_counter(), process_time()
        dataset.write(Path(folder) / "out")
        shown.add_row("write", rows, "", f"{perf_counter() - begun:.2f}", "", f"{process_time() - spent:.2f}")
        begun, spent = perf_counter(), process_time()
        read_dataset(Path(folder) / "out")
        shown.add_row("read", rows, "", f"{perf_counter() - begun:.2f}", "", f"{process_time() - spent:.2f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
