"""How often intervals of machine scores over few units cover: what is used, and what was tried beside it.

Run by hand: ``python -m tests.recovery.machine_intervals``. Each unit is asked about in 20 tasks. Five kinds of means:
a score of .83, one near the ceiling (.94), one of two kinds of units (bimodal), an excess over a control, and trained
minus twin where a quarter of the units gained. "Hall" is what ``analysis.machines.performance.estimate_mean`` gives.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from analysis.intervals.means import Interval, estimate_mean

Floats = NDArray[np.float64]
SEED = 20_261_130
COUNTS = (6, 10, 16, 24, 30, 40, 60, 84)
TASKS = 20
SHARE, DIFFERENCE = "proportion correct", "difference of proportions correct"


def draw(rng: np.random.Generator, studies: int, units: int) -> dict[str, tuple[Floats, float, str]]:
    """Return by kind the units' values, shape (studies, units), their true mean and its unit of measurement."""
    shape = (studies, units)

    def answered(chance: Floats) -> Floats:
        return np.asarray(rng.binomial(TASKS, chance) / TASKS, dtype=np.float64)

    score = answered(rng.beta(7, 1.45, shape))
    ceiling = answered(rng.beta(9, 0.6, shape))
    two = answered(np.where(rng.random(shape) < 0.3, rng.beta(2, 2, shape), rng.beta(20, 1, shape)))
    control = answered(rng.beta(6, 4, shape))
    gained = answered(np.where(rng.random(shape) < 0.25, rng.beta(8, 1, shape), rng.beta(6, 4, shape)))
    twin = answered(rng.beta(6, 4, shape))
    return {
        "score": (score, 7 / 8.45, SHARE),
        "near ceiling": (ceiling, 9 / 9.6, SHARE),
        "two kinds": (two, 0.3 * 0.5 + 0.7 * 20 / 21, SHARE),
        "excess": (score - control, 7 / 8.45 - 0.6, DIFFERENCE),
        "trained minus twin": (gained - twin, 0.25 * (8 / 9 - 0.6), DIFFERENCE),
    }


def covers(values: Floats, truth: float, unit: str, interval: Interval) -> float:
    """Return the share of studies whose interval holds the truth."""
    found = [estimate_mean(row, unit=unit, seed=seed, interval=interval) for seed, row in enumerate(values)]
    return float(np.mean([own.low <= truth <= own.high for own in found]))


def student_covers(values: Floats, truth: float) -> float:
    """Return the same for plain Student's t."""
    count = values.shape[1]
    half = t.ppf(0.975, count - 1) * values.std(axis=1, ddof=1) / np.sqrt(count)
    return float((np.abs(values.mean(axis=1) - truth) <= half).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--bootstraps", type=int, default=300, help="studies for the slow BCa bootstrap")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    print("| units | kind | Hall | Student's t | BCa |\n|---|---|---|---|---|")
    for count in COUNTS:
        rng = np.random.default_rng([given.seed, count])
        for kind, (values, truth, unit) in draw(rng, given.studies, count).items():
            hall, plain = covers(values, truth, unit, "student"), student_covers(values, truth)
            bca = covers(values[: given.bootstraps], truth, unit, "bca")
            print(f"| {count} | {kind} | {hall:.3f} | {plain:.3f} | {bca:.3f} |", flush=True)


if __name__ == "__main__":
    main()
