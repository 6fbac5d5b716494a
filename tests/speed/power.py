"""Power, sizes and optima of designs, and how long they take. Run by hand:

    python -m tests.speed.power [--simulations 1000] [--write docs/power.md]

Prints the tables of docs/power.md; --write puts them there.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from analysis.power import (
    Design,
    Variances,
    allocation_table,
    answers_for_difference,
    compare_sessions,
    error_rate_table,
    optimize,
    simulate_power,
    smallest_detectable,
)
from analysis.power.design import published_sizes
from analysis.power.goals import predict_error
from analysis.power.variances import approximate_power

# The nine models with torchvision's count for GoogLeNet, which spans 1.13 decades.
NINE = (math.log10(6_624_904), *sorted(published_sizes())[1:])
PUBLISHED = (
    ("9 models, 1.13 decades", 1, NINE, 0.3, 0.023, 0.10),
    ("9 models, 1.13 decades", 1, NINE, 0.3, 0.046, 0.30),
    ("9 models, 1.13 decades", 1, NINE, 0.3, 0.070, 0.59),
    ("9 models, 1.13 decades", 1, NINE, 0.3, 0.093, 0.82),
    ("9 models, 1.13 decades", 1, NINE, 0.3, 0.116, 0.95),
    ("9 models, 1.13 decades", 1, NINE, 0.2, 0.046, 0.50),
    ("9 models, 1.13 decades", 1, NINE, 0.2, 0.070, 0.83),
    ("18 models, the nine twice", 2, NINE, 0.3, 0.048, 0.62),
    ("36 models, the nine four times", 4, NINE, 0.3, 0.045, 0.88),
    ("9 models, evenly over 3 decades", 1, tuple(np.linspace(0, 3, 9)), 0.3, 0.028, 0.59),
)
"""What, times, predictor, SD between models on the link's scale, slope per decade, power as it was first simulated
(400 studies each)."""

SIZES = {
    "naive trial-level logistic": ".26 .37 .52 .64",
    "cluster by participant": ".19 .30 .44 .56",
    "cluster by unit": ".07 .13 .29 .42",
    "two-way unit + participant": ".05 .11 .25 .38",
    "cluster by model, z": ".17 .18 .18 .18",
    "cluster by model, t": ".12 .11 .12 .12",
    "OLS on model means": ".056 .060 .059 .060",
    "Spearman on model means": ".050 .061 .055 .048",
}
"""Sizes as they were first simulated (1,000 studies each), at SD 0, .1, .2 and .3."""


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    rows = [table.columns.tolist(), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def short(value: float, digits: int = 3) -> str:
    """Write a proportion without the zero before the point."""
    return f"{value:.{digits}f}".replace("0.", ".", 1)


def powers(simulations: int) -> pd.DataFrame:
    """Return the powers of ordinary least squares on model means, beside what was found before."""
    rows = []
    for what, times, predictor, deviation, effect, known in PUBLISHED:
        design = Design(predictor=predictor * times).changed(truth={"model": deviation})
        found = simulate_power(design, effect=effect, simulations=simulations).power
        error, freedom = predict_error(design, "slope")
        wide = math.hypot(math.sqrt(known * (1 - known) / 400), math.sqrt(found.value * (1 - found.value) / found.n))
        rows.append(
            {
                "design": what,
                "SD of models": deviation,
                "slope, points per decade": f"{100 * effect:.1f}",
                "power": f"{short(found.value)} [{short(found.low)}, {short(found.high)}]",
                "by formula": short(approximate_power(error, effect, freedom)),
                "found before": short(known, 2),
                "apart, in standard errors": f"{(found.value - known) / wide:+.1f}",
            }
        )
    return pd.DataFrame(rows)


def detectable(simulations: int) -> pd.DataFrame:
    """Return the smallest slopes that several designs find with 80 % power."""
    designs = {
        "2023: 9 models, 1.10 decades": Design(),
        "18 models, 1.10 decades": Design(models=18),
        "36 models, 1.10 decades": Design(models=36),
        "9 models, 2 decades": Design(decades=2.0),
        "9 models, 3 decades": Design(decades=3.0),
        "9 models, 1.10 decades, 4 times the sessions": Design(sessions=252),
        "9 models, 1.10 decades, 4 times the units": Design(units=336),
    }
    rows = []
    for what, design in designs.items():
        found = smallest_detectable(design, simulations=simulations)
        rows.append(
            {
                "design": what,
                "cost, USD": f"{design.cost:,.0f}",
                "slope found with 80 % power, points per decade": f"{100 * found.value:.1f} "
                f"[{100 * found.low:.1f}, {100 * found.high:.1f}]",
            }
        )
    return pd.DataFrame(rows)


def answers() -> pd.DataFrame:
    """Return what a difference of two models takes, nested and crossed."""
    variances = Variances.from_deviations(0.83, 0.10, 0.05)
    rows = []
    for per_unit in (30, 1):
        row: dict[str, object] = {"answers per unit": per_unit}
        for name, crossed, balanced in (
            ("nested", False, True),
            ("crossed, each person equally often about each model", True, True),
            ("crossed, at random", True, False),
        ):
            count = answers_for_difference(
                variances, 0.03, answers_per_unit=per_unit, crossed=crossed, balanced=balanced
            )
            row[name] = f"{count:,.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def optima() -> Iterator[tuple[str, str]]:
    """Yield optima for the money of the 2023 study's natural condition."""
    for what, design in (
        ("units cost nothing", Design()),
        ("a unit costs USD 0.50, a model USD 20", Design().changed(costs={"unit": 0.5, "model": 20.0})),
    ):
        for aim in ("mean", "difference", "slope"):
            found = optimize(design, Design().cost * 2, aim)  # type: ignore[arg-type]
            yield f"{aim}, {what}", " ".join(found.sentences)


def main() -> None:
    """Print the tables, and write them down if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--write", type=Path)
    settings = parser.parse_args()
    count = settings.simulations
    timings = []
    parts = [
        "# Power and design",
        "",
        f"All tables come from `python -m tests.speed.power --simulations {count} --write docs/power.md`, with seed 0. "
        "Simulated people vary as in the natural condition of the 2023 study (on the logit scale with guess rate .5: "
        "unit SD 1.0, participant SD .4, intercept .7). Each model has 84 units and 63 sessions of 40 trials.",
    ]

    def section(title: str, text: str, table: pd.DataFrame | None = None) -> None:
        parts.extend(["", f"## {title}", "", text])
        if table is not None:
            parts.extend(["", markdown(table)])
        print("\n".join(parts[-4:]), flush=True)

    start = perf_counter()
    section(
        "Power of the slope of model means",
        'Ordinary least squares on the means, t with models - 2 degrees of freedom, 5 %. "Found before" are '
        "figures from "
        "an earlier, independent simulation with 400 studies each. The last column is the difference between both "
        'simulations in standard errors. "By formula" uses the noncentral t. Verdicts use a robust standard error, '
        "which has less power: [scaling.md](scaling.md) shows both.",
        powers(count),
    )
    timings.append((f"{len(PUBLISHED)} x {count:,} studies, means", perf_counter() - start))
    start = perf_counter()
    section(
        "The smallest slope a design can detect",
        "The smallest slope that a design detects with 80 % power (SD of models .25).",
        detectable(count),
    )
    timings.append((f"7 x {count:,} studies, smallest slopes", perf_counter() - start))
    start = perf_counter()
    sizes = error_rate_table(Design(), simulations=count)
    timings.append((f"4 x {count:,} studies, eight tests each", perf_counter() - start))
    shown = sizes.assign(**{name: [short(value) for value in sizes[name]] for name in sizes.columns[1:]})
    section(
        "False positives: how often tests find a slope that does not exist",
        "The true slope is zero. The table shows how often each test finds a slope at 5 %, for several SDs between "
        "models (on the logit scale). Tests that take models as the sample keep alpha here, where models "
        "are alike and unrelated. If models vary unequally or are related, least squares and Spearman do not keep it. "
        "See [scaling.md](scaling.md), also for the test that verdicts use and its cost in power.",
        shown.assign(**{"found before": [SIZES[name] for name in shown["test"]]}),
    )
    allocation = allocation_table(
        Variances.from_deviations(0.83, 0.10, 0.05), [(84, 63), (84, 126), (168, 63), (168, 126), (250, 63)]
    )
    digits = {name: 1 if name == "answers per unit" else 4 if name == "standard error" else 2 for name in allocation}
    section(
        "Units against participants",
        "Standard error of a model's mean by formula (unit SD .10, participant SD .05, mean .83).",
        pd.DataFrame(
            {
                name: [f"{value:.{digits[name]}f}" if isinstance(value, float) else str(value) for value in column]
                for name, column in allocation.items()
            }
        ),
    )
    section(
        "Nested against crossed sessions",
        "Answers per model needed to estimate the difference of two models to +-3 points (same variances). Crossed "
        "sessions remove the differences between people. Most of the reduction from 4,512 to 1,183 comes from asking "
        "about more units.",
        answers(),
    )
    compared = compare_sessions(Design()).set_index("sessions").T.rename_axis("the 2023 design").reset_index()
    compared = compared.assign(
        **{
            name: [f"{value:,.0f}" if value > 10 else short(value, 4) for value in compared[name]]
            for name in ("nested", "crossed")
        }
    )
    section("", "The same for the 2023 design's nine models, from the logit model's variances.", compared)
    parts.remove("## ")
    start = perf_counter()
    lines = [f"- **{name}**: {text}" for name, text in optima()]
    timings.append(("6 optima with their budget ladders", perf_counter() - start))
    section("The best split of a budget", "Twice the money of the 2023 study's natural condition, nested sessions.")
    parts.extend(["", *lines])
    section(
        "How long it takes",
        "On one core of a shared machine.",
        pd.DataFrame([{"what": what, "seconds": f"{seconds:.0f}"} for what, seconds in timings]),
    )
    text = "\n".join(parts).replace("\n\n\n", "\n\n") + "\n"
    if settings.write:
        settings.write.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
