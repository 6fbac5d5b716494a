"""How long signal detection, confidence, difficulty curves and the controls take. Run by hand; prints a table.

    python -m tests.speed.psychophysics [--rounds N]

Where other work shares the machine, the time of the processor says more than that of the clock.

The experiment is as large as the 2023 one: 9 models x 2 conditions x 63 people x 40 trials, 18 cells; difficulty curves
take two more models with four difficulties each.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter, process_time

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.psychophysics import (
    check_guessing,
    detect,
    fit_difficulty_curves,
    learning_curve,
    measure_confidence,
    position_bias,
    query_quantiles,
    reaction_times,
)
from benchmark.protocol import load_protocol


def simulate(models: int = 9) -> pd.DataFrame:
    """Return judgements with confidence and reaction times."""
    layout = Layout(models=models, conditions=("natural", "synthetic"))
    table = simulate_judgements(layout, Population(conditions={"synthetic": -0.8}), seed=1)
    rng = np.random.default_rng(2)
    sure = rng.normal(table["correct"] * 0.8, 1)
    table["confidence"] = 1.0 + (sure > 0.2) + (sure > 1.0)
    table["rt_ms"] = rng.lognormal(8, 0.6, len(table))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    table = simulate()
    quantiles = query_quantiles(load_protocol("imi2023"))
    harder = {"easy": 0.0, "medium": -0.5, "hard": -1.2, "very_hard": -2.0}
    parts = [
        simulate_judgements(Layout(models=2), Population(intercept=1.5 + shift), seed=n).assign(difficulty=name)
        for n, (name, shift) in enumerate(harder.items())
    ]
    difficulties = pd.concat(parts, ignore_index=True)
    none = table[table["trial_index"] < 4].assign(references="none")
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "d', criterion, position bias": (len(table), lambda: detect(table)),
        "position bias of each person": (len(table), lambda: position_bias(table)),
        "confidence, people resampled": (len(table), lambda: measure_confidence(table)),
        "confidence, units and people": (
            len(table),
            lambda: measure_confidence(table, resample="units and participants"),
        ),
        "difficulty curves, 2 models": (len(difficulties), lambda: fit_difficulty_curves(difficulties, quantiles)),
        "guessing": (len(none), lambda: check_guessing(none)),
        "learning": (len(table), lambda: learning_curve(table)),
        "reaction times": (len(table), lambda: reaction_times(table)),
    }
    shown = Table("analysis", "answers", "median s", "fastest s", "fastest s of processor", box=None)
    for name, (answers, run) in work.items():
        times, processor = [], []
        for _ in range(rounds):
            begun, begun_processor = perf_counter(), process_time()
            run()
            times.append(perf_counter() - begun)
            processor.append(process_time() - begun_processor)
        shown.add_row(
            name, f"{answers:,}", f"{statistics.median(times):.2f}", f"{min(times):.2f}", f"{min(processor):.2f}"
        )
    Console().print(shown)


if __name__ == "__main__":
    main()
