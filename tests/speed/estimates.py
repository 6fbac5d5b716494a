"""Time of estimates, comparisons, ranks, exclusions and the multiverse at the size of the 2023 experiment. Run by hand:

    python -m tests.speed.estimates [--coverage SETS]

The answers are simulated: 9 models of 84 units, two conditions, 57,960 answers of 1,449 sessions. With ``--coverage``,
the default interval's coverage, the family-wise error of comparisons and the coverage of ranks are measured too, over
so many simulated experiments each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.comparison import compare_conditions, compare_models
from analysis.comparison.ranks import rank_models
from analysis.exclusions import exclude
from analysis.judgement_table import judgements
from analysis.multiverse import run_multiverse
from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.proportions import compare_intervals, estimate_proportions
from tests.simulated import as_responses, marginal_mean, session_facts

PLAIN = Population(model=0.0)
DESIGNS = {
    "nested, 84 units x 63 people x 40": Layout(models=1),
    "crossed, 9 models, 189 people x 40": Layout(models=9, sessions=189, crossed=True),
    "crossed, 3 models, 63 people x 40": Layout(models=3, sessions=63, crossed=True),
    "nested, 24 units x 15 people x 20": Layout(models=1, units=24, sessions=15, trials=20),
    "nested, 84 units x 6 people x 40": Layout(models=1, sessions=6),
    "nested, 8 units x 60 people x 8": Layout(models=1, units=8, sessions=60, trials=8),
}
POPULATIONS = {
    "units 1.0, people 0.4": PLAIN,
    "near the ceiling": Population(model=0.0, intercept=3.0, participant=0.6),
    "units 0.5, people 1.0": Population(model=0.0, unit=0.5, participant=1.0),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coverage", type=int, default=0, metavar="SETS")
    sets = parser.parse_args().coverage
    layout = Layout(models=9, conditions=("natural", "synthetic"), sessions=81, trials=40)
    answers = simulate_judgements(layout, Population(conditions={"synthetic": -1.5}), seed=1).iloc[:57_960]
    responses = as_responses(answers)
    sessions = session_facts(responses, seed=2)
    table = judgements(responses)
    own = table[(table["model"] == "model-0") & (table["condition"] == "natural")]
    rows: list[tuple[str, Callable[[], Any]]] = [
        ("proportions, 18 cells", lambda: estimate_proportions(table)),
        ("proportions, by unit", lambda: estimate_proportions(table, ("unit", "condition"))),
        ("proportions, 18 cells, BCa over units", lambda: estimate_proportions(table, interval="units")),
        ("all intervals of one cell", lambda: compare_intervals(own)),
        ("36 pairs of models", lambda: compare_models(table, condition="natural")),
        ("natural against synthetic, 9 models", lambda: compare_conditions(table)),
        ("ranks of 9 models", lambda: rank_models(table, condition="natural")),
        ("exclusions", lambda: exclude(responses, sessions)),
        ("multiverse", lambda: run_multiverse(responses, sessions)),
    ]
    shown = Table("what", "seconds", title=f"{len(table):,} answers, {len(sessions):,} sessions")
    for name, run in rows:
        start = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        if name == "multiverse":
            name = f"multiverse, {result.grid:,} specifications"
        shown.add_row(name, f"{seconds:.2f}")
    Console().print(shown)
    if sets:
        Console().print(coverage(sets))
        Console().print(errors(sets))


def coverage(sets: int) -> Table:
    """Return how often the default interval holds the truth."""
    shown = Table("design", "population", "truth", "intervals", "coverage", "width", title="two-way sandwich, 95 %")
    for design, layout in DESIGNS.items():
        for name, population in POPULATIONS.items():
            truth = marginal_mean(population)
            found = [
                cell.estimate
                for seed in range(sets)
                for cell in estimate_proportions(simulate_judgements(layout, population, seed=seed))
            ]
            held = np.mean([own.low <= truth <= own.high for own in found])
            width = np.mean([own.high - own.low for own in found])
            shown.add_row(design, name, f"{truth:.3f}", f"{len(found):,}", f"{held:.3f}", f"{width:.3f}")
    return shown


def errors(sets: int) -> Table:
    """Return how often comparisons and ranks of models that are all alike claim a difference."""
    shown = Table("design", "max-T", "Holm", "ranks all held", title=f"5 models that are alike, {sets} sets")
    for name, layout in {
        "nested": Layout(models=5, units=40, sessions=30),
        "crossed": Layout(models=5, units=40, sessions=150, crossed=True),
    }.items():
        tables: list[pd.DataFrame] = [simulate_judgements(layout, PLAIN, seed=seed) for seed in range(sets)]
        families = [compare_models(table).differences for table in tables]
        ranks = [all((own.rank.low, own.rank.high) == (1, 5) for own in rank_models(table)) for table in tables]
        shown.add_row(
            name,
            f"{np.mean([min(own.p_max_t for own in family) < 0.05 for family in families]):.3f}",
            f"{np.mean([min(own.p_holm for own in family) < 0.05 for family in families]):.3f}",
            f"{np.mean(ranks):.3f}",
        )
    return shown


if __name__ == "__main__":
    main()
