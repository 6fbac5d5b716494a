"""Whether a condition's effect holds for new models: coverage with and without ``model:condition``.

    python -m tests.recovery.estimand --simulations 100 --seed 5000

Studies in which the effect differs between models are simulated and fitted with the random effects of the default, and
without the one that lets the effect differ. The interval of the default should hold the truth in 93 to 97 of 100. The
third row is the default's estimate and error with Student's t on models - 1 degrees of freedom, whatever the variance
between models.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t

from analysis.mixed_model import MixedModel
from analysis.power.simulation import Layout, Population, simulate_judgements

LAYOUT = Layout(models=9, units=24, tasks=4, conditions=("natural", "synthetic"), sessions=14, trials=24)
TRUTH = {"conditions": {"synthetic": -0.8}, "intercept": 1.0, "unit": 0.8, "participant": 0.4, "model": 0.25}
SPREADS = (0.0, 0.1, 0.2, 0.4, 0.8)
MODELS = {
    "default": MixedModel(("condition",)),
    "without model:condition": MixedModel(("condition",), ("unit", "unit:condition", "participant", "model")),
}


def hold(task: tuple[float, int, tuple[str, ...]]) -> list[dict[str, object]]:
    """Simulate one study; say for each model whether the interval of the condition holds the truth."""
    spread, seed, fits = task
    table = simulate_judgements(LAYOUT, Population(**TRUTH, model_condition=spread), seed=seed)  # type: ignore[arg-type]
    rows = []
    for name in fits:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit = MODELS[name].fit(table)
        effect, freedom = fit.fixed["condition[T.synthetic]"], fit.freedom("condition[T.synthetic]")
        widths = {name: (effect.high - effect.low) / 2}
        if math.isfinite(freedom):
            error = fit.standard_errors["condition[T.synthetic]"]
            widths[f"{name}, t with models - 1"] = float(t.ppf(0.975, LAYOUT.models - 1)) * error
        truth = TRUTH["conditions"]["synthetic"]  # type: ignore[index]
        for own, width in widths.items():
            rows.append(
                {
                    "spread": spread, "fit": own, "held": abs(effect.value - truth) <= width, "width": 2 * width,
                    "value": effect.value, "freedom": freedom,
                }
            )  # fmt: skip
    return rows


def cover(simulations: int, seed: int, processes: int, spreads: Sequence[float], fits: Sequence[str]) -> pd.DataFrame:
    """Return coverage, its Monte Carlo error and the mean width, one row a spread and fit."""
    tasks = [(spread, seed + number, tuple(fits)) for number in range(simulations) for spread in spreads]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        rows = [row for part in pool.imap_unordered(hold, tasks) for row in part]
    table = pd.DataFrame(rows).groupby(["spread", "fit"])[["held", "width", "value", "freedom"]].mean().reset_index()
    table["error"] = np.sqrt(table["held"] * (1 - table["held"]) / simulations)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--processes", type=int, default=max(os.cpu_count() or 1, 1))
    parser.add_argument("--spreads", type=float, nargs="+", default=SPREADS)
    parser.add_argument("--fits", nargs="+", choices=list(MODELS), default=list(MODELS))
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    table = cover(options.simulations, options.seed, options.processes, options.spreads, options.fits)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
