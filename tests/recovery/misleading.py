"""What the mixed model finds where some units are answered below chance.

    python -m tests.recovery.misleading --simulations 50 --seed 7000

Every study is fitted by the default, which looks for such units and sets them apart, and without doing so. The truth is
that of the units that speak; the share of the others should lie in its interval in 93 to 97 of 100.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import warnings

import numpy as np
import pandas as pd

from analysis.mixed_model import MixedModel
from analysis.power.simulation import Layout, Population, simulate_judgements

LAYOUT = Layout(models=8, units=30, tasks=6, sessions=25, trials=36)
TRUTH = {"intercept": 0.9, "unit": 1.0, "participant": 0.4, "model": 0.3}
SHARES = (0.0, 0.05, 0.15, 0.3)


def recover(task: tuple[float, int]) -> list[dict[str, object]]:
    """Simulate one study and fit it both ways."""
    share, seed = task
    table = simulate_judgements(LAYOUT, Population(**TRUTH, misleading=share), seed=seed)
    rows: list[dict[str, object]] = []
    for looked in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit = MixedModel("1", ("unit", "participant", "model"), misleading=looked).fit(table)
        intercept, unit, found = fit.fixed["intercept"], fit.standard_deviations["unit"], fit.misleading
        rows.append(
            {
                "share": share,
                "fit": "default" if looked else "misleading=False",
                "fell back": any("found no maximum" in note for note in fit.notes),
                "set apart": found is not None,
                "share found": found.value if found else np.nan,
                "share held": found.low <= share <= found.high if found else np.nan,
                "intercept": intercept.value,
                "intercept held": intercept.low <= TRUTH["intercept"] <= intercept.high,
                "unit SD": unit.value,
                "unit SD held": unit.low <= TRUTH["unit"] <= unit.high,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7000)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--processes", type=int, default=max(os.cpu_count() or 1, 1))
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    tasks = [(share, options.seed + number) for number in range(options.simulations) for share in options.shares]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        table = pd.DataFrame([row for part in pool.imap_unordered(recover, tasks) for row in part])
    means = table.astype({"share held": float}).groupby(["share", "fit"]).mean().round(3)
    print(f"{options.simulations} studies of each share, seeds from {options.seed}")
    print(means.to_string())


if __name__ == "__main__":
    main()
