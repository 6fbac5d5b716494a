"""How well random slopes are found: people and units whose answers follow a number differently.

    python -m tests.recovery.random_slopes --studies 100 --seed 9000

Prints a table for docs/recovery.md. Three truths: the slope's SD between people, and its correlation with their level.
Each study is fitted with correlated slopes, and with the slopes left out.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import pandas as pd
from scipy.special import expit

from analysis.mixed_model import MixedModel
from benchmark.errors import AnalysisError

PEOPLE, UNITS, EACH, GUESS = 60, 60, 40, 0.5
SLOPE, LEVEL, UNIT = 0.5, 0.8, 0.8
WITH = "correct ~ x + (1 + x|participant) + (1|unit)"
WITHOUT = "correct ~ x + (1|participant) + (1|unit)"


def simulate(seed: int, spread: float, correlation: float) -> pd.DataFrame:
    """Return the answers of a study."""
    draw = np.random.default_rng(seed)
    shared = correlation * LEVEL * spread
    root = np.linalg.cholesky(np.array([[LEVEL**2, shared], [shared, spread**2 + 1e-12]]))
    person = draw.standard_normal((PEOPLE, 2)) @ root.T
    unit = UNIT * draw.standard_normal(UNITS)
    who = np.repeat(np.arange(PEOPLE), EACH)
    what = np.concatenate([draw.choice(UNITS, EACH, replace=False) for _ in range(PEOPLE)])
    x = draw.standard_normal(len(who))
    eta = 1.0 + person[who, 0] + (SLOPE + person[who, 1]) * x + unit[what]
    right = draw.random(len(who)) < GUESS + (1 - GUESS) * expit(eta)
    return pd.DataFrame({"participant": who, "unit": what, "x": x, "correct": right.astype(int)}).astype(
        {"participant": str, "unit": str}
    )


def main() -> None:
    """Simulate, fit, and print one row a truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--seed", type=int, default=9000)
    options = parser.parse_args()
    print(
        "| slope's SD between people | correlation | fits | slope found | held, slopes fitted | held, slopes left out "
        "| SD found | its interval held | correlation found | its interval held | singular |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for spread, correlation in ((0.0, 0.0), (0.4, 0.0), (0.8, 0.5)):
        rows = []
        for number in range(options.studies):
            table = simulate(options.seed + number, spread, correlation)
            try:
                fits = [MixedModel.from_formula(formula, guess=GUESS).fit(table) for formula in (WITH, WITHOUT)]
            except AnalysisError:
                continue
            found, without = fits
            own = found.standard_deviations["x | participant"]
            both = found.correlations["intercept, x | participant"]
            rows.append(
                {
                    "slope": found.fixed["x"].value,
                    "held": found.fixed["x"].low <= SLOPE <= found.fixed["x"].high,
                    "held without": without.fixed["x"].low <= SLOPE <= without.fixed["x"].high,
                    "sd": own.value,
                    "sd held": own.low <= spread <= own.high,
                    "correlation": both.value if "no interval" not in both.method else math.nan,
                    "correlation held": both.low <= correlation <= both.high,
                    "singular": "singular" in both.method,
                }
            )
        mean = pd.DataFrame(rows).mean()
        print(
            f"| {spread:g} | {correlation:g} | {len(rows)} | {mean['slope']:.3f} | {mean['held']:.0%} | "
            f"{mean['held without']:.0%} | {mean['sd']:.2f} | {mean['sd held']:.0%} | {mean['correlation']:.2f} | "
            f"{mean['correlation held']:.0%} | {mean['singular']:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
