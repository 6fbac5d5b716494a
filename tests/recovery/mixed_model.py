"""How well mixed models find the truth: simulate studies with known effects, fit them, compare.

    python -m tests.recovery.mixed_model --simulations 100 --check 200 --write docs/recovery.md

Results are kept in a folder as they come (``--folder``), so that a run can be stopped, and go on.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.mixed_model import MixedModel
from analysis.mixed_model.fit import Method
from analysis.power.simulation import Layout, Population, simulate_judgements
from benchmark.errors import AnalysisError

METHODS: dict[str, tuple[Method, str | None]] = {
    "default": ("default", None),
    "propagation-joint": ("propagation-joint", None),
    "joint": ("joint", "observed"),
    "joint-expected": ("joint", "expected"),
    "restricted": ("restricted", "observed"),
    "parity": ("parity", None),
}
WORDS = {
    "default": "expectation propagation, restricted (the default)",
    "propagation-joint": "expectation propagation, maximum likelihood",
    "joint": "Laplace with observed information, maximum likelihood",
    "joint-expected": "Laplace with expected information, maximum likelihood (lme4's nAGQ = 1)",
    "restricted": "Laplace with observed information, restricted",
    "parity": "as lme4's nAGQ = 0",
}


@dataclass(frozen=True)
class Study:
    """A design, its truth, and the model that is fitted."""

    words: str
    layout: Layout
    population: Population
    fixed: str
    random: tuple[str, ...]
    methods: tuple[str, ...] = tuple(METHODS)

    @property
    def predictor(self) -> np.ndarray:
        return np.linspace(-1, 1, self.layout.models)

    @property
    def truth(self) -> dict[str, float]:
        """Each effect's true value, by the name that the fit gives it."""
        made = {"intercept": self.population.intercept, "predictor": self.population.slope}
        for name, value in self.population.conditions.items():
            made[f"condition[T.{name}]"] = value
        for name, value in self.population.slopes.items():
            made[f"condition[T.{name}]:predictor"] = value
        for name in self.random:
            made[f"sd {name}"] = getattr(self.population, name.replace(":", "_"))
        return made


TWO = ("natural", "synthetic")
STUDIES = {
    "natural": Study(
        "the natural half of the 2023 study: 9 models, 84 units each, 63 people per model, 40 trials each "
        "(22,680 answers)",
        Layout(models=9, units=84, tasks=10, sessions=63, trials=40),
        Population(intercept=0.7, slope=0.5, model=0.25, unit=1.0, participant=0.45),
        "predictor",
        ("unit", "participant", "model"),
    ),
    "both": Study(
        "the 2023 study with both conditions (45,360 answers); each person sees one model and one condition",
        Layout(models=9, units=84, tasks=10, conditions=TWO, sessions=63, trials=40),
        Population(
            intercept=0.7,
            conditions={"synthetic": -1.5},
            slope=0.5,
            slopes={"synthetic": -0.3},
            model=0.25,
            unit=0.85,
            unit_condition=0.7,
            participant=0.45,
        ),
        "condition*predictor",
        ("unit", "unit:condition", "participant", "model"),
        methods=("default", "joint", "parity"),
    ),
    "crossed": Study(
        "sessions that mix all models: 12 models, 30 units each, 270 people, 40 trials each (10,800 answers)",
        Layout(models=12, units=30, tasks=10, sessions=270, trials=40, crossed=True),
        Population(intercept=0.9, slope=0.5, model=0.3, unit=0.8, participant=0.5),
        "predictor",
        ("unit", "participant", "model"),
    ),
    "small": Study(
        "a small study: 8 models, 24 units each, 20 people per model, 36 trials each (5,760 answers)",
        Layout(models=8, units=24, tasks=6, sessions=20, trials=36),
        Population(intercept=0.9, slope=0.5, model=0.35, unit=0.9, participant=0.5),
        "predictor",
        ("unit", "participant", "model"),
    ),
}


LME4 = """\
lme4 uses the expected information in its determinant, both with nAGQ = 0 (`parity` here) and with nAGQ = 1 (here
`method="joint", curvature="expected"`). With a guess rate, the observed information differs from it, and `joint` and
`restricted` use the observed information in these tables. On `tests/data/glmm/natural.csv.gz` this lowers the
log-likelihood by 18. So the columns `parity` and `joint-expected` correspond to lme4."""
"""Whose numbers these are."""

FIRST_FRESH_SEED = 1000
"""Seeds from here on have never served to choose a method or an interval."""


def recover(name: str, seed: int, methods: Sequence[str]) -> list[dict[str, object]]:
    """Simulate one study, fit it by some methods, and return a record an effect."""
    study = STUDIES[name]
    table = simulate_judgements(study.layout, study.population, seed=seed, predictor=study.predictor)
    records: list[dict[str, object]] = []
    for key in methods:
        method, curvature = METHODS[key]
        model = MixedModel(study.fixed, study.random, method=method, curvature=curvature)  # type: ignore[arg-type]
        began = time.process_time()
        try:
            fit = model.fit(table)
        except AnalysisError as error:
            records.append({"study": name, "method": key, "seed": seed, "name": None, "error": str(error)})
            continue
        seconds = time.process_time() - began
        found = dict(fit.fixed) | {f"sd {factor}": est for factor, est in fit.standard_deviations.items()}
        for effect, estimate in found.items():
            records.append(
                {
                    "study": name,
                    "method": key,
                    "seed": seed,
                    "name": effect,
                    "value": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "error_of_it": fit.standard_error(effect.removeprefix("sd ")),
                    "converged": fit.converged,
                    "boundary": effect.removeprefix("sd ") in fit.boundary,
                    "seconds": seconds,
                }
            )
    return records


def _work(task: tuple[str, int, tuple[str, ...], str]) -> str:
    """Recover one simulated study, unless its results lie in the folder already."""
    name, seed, methods, folder = task
    path = Path(folder) / f"{name}-{seed}-{len(methods)}.json"
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            records = recover(name, seed, methods)
        path.with_suffix(".part").write_text(json.dumps(records), encoding="utf-8")
        path.with_suffix(".part").replace(path)
    return str(path)


def collect(
    names: Sequence[str], seeds: Sequence[int], folder: Path, processes: int, *, default_only: bool = False
) -> pd.DataFrame:
    """Return the records of all simulated studies: by every method of each study, or by the default alone."""
    folder.mkdir(parents=True, exist_ok=True)
    most = 1 if default_only else None
    tasks = [(name, seed, STUDIES[name].methods[:most], str(folder)) for seed in seeds for name in names]
    records: list[dict[str, object]] = []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for path in pool.imap_unordered(_work, tasks):
            records.extend(json.loads(Path(path).read_text(encoding="utf-8")))
    return pd.DataFrame(records)


def tabulate(records: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return bias and coverage of each effect by each method, with their Monte Carlo errors."""
    study = STUDIES[name]
    rows = []
    known = records[(records["study"] == name) & records["method"].isin(study.methods)]
    for (method, effect), own in known.groupby(["method", "name"], sort=False):
        truth = study.truth[str(effect)]
        value = own["value"].to_numpy(dtype=np.float64)
        covered = ((own["low"] <= truth) & (own["high"] >= truth)).to_numpy()
        number = len(own)
        rows.append(
            {
                "method": method,
                "name": effect,
                "truth": truth,
                "mean": value.mean(),
                "spread": value.std(ddof=1),
                "bias": value.mean() / truth - 1,
                "bias_error": value.std(ddof=1) / math.sqrt(number) / abs(truth),
                "coverage": covered.mean(),
                "coverage_error": math.sqrt(max(covered.mean() * (1 - covered.mean()), 0.25 / number) / number),
                "boundary": own["boundary"].mean(),
                "converged": own["converged"].mean(),
                "seconds": own["seconds"].mean(),
                "studies": number,
            }
        )
    return pd.DataFrame(rows)


def write(records: pd.DataFrame, simulations: int) -> str:
    """Return the tables as Markdown."""
    lines = [
        "# How well mixed models recover known effects",
        "",
        f"We simulated each study design with known effects {simulations} times and fitted it with every method of",
        "`analysis.mixed_model`. To repeat this, run `python -m tests.recovery.mixed_model`. *Bias* is the bias",
        "of the mean",
        "over all studies, in per cent of the true value. *Coverage* is how often the reported 95 % interval",
        "contains the",
        "true value. The number after ± is the Monte Carlo error (one standard error). *Seconds* are processor",
        "time per fit.",
        "",
    ]
    tables = {name: tabulate(records, name) for name in STUDIES if (records["study"] == name).any()}
    lines += [_say_worst(tables), "", LME4, ""]
    for name, study in STUDIES.items():
        if name not in tables:
            continue
        table = tables[name]
        lines += [f"## {name}", "", study.words[0].upper() + study.words[1:] + ".", ""]
        effects = list(dict.fromkeys(table["name"]))
        methods = [key for key in METHODS if (table["method"] == key).any()]
        lines += ["Bias, %:", "", "| effect | truth | " + " | ".join(methods) + " |"]
        lines += ["| --- | --- | " + " | ".join("---" for _ in methods) + " |"]
        cells = table.set_index(["method", "name"])
        for effect in effects:
            row = [
                f"{100 * cells.loc[(m, effect), 'bias']:+.1f} ± {100 * cells.loc[(m, effect), 'bias_error']:.1f}"
                for m in methods
            ]
            lines.append(f"| {effect} | {study.truth[effect]:g} | " + " | ".join(row) + " |")
        lines += ["", "Coverage of the 95 % interval, %:", "", "| effect | " + " | ".join(methods) + " |"]
        lines += ["| --- | " + " | ".join("---" for _ in methods) + " |"]
        for effect in effects:
            row = [
                f"{100 * cells.loc[(m, effect), 'coverage']:.0f} ± {100 * cells.loc[(m, effect), 'coverage_error']:.0f}"
                for m in methods
            ]
            lines.append(f"| {effect} | " + " | ".join(row) + " |")
        lines += ["", "| | " + " | ".join(methods) + " |", "| --- | " + " | ".join("---" for _ in methods) + " |"]
        first = table.drop_duplicates("method").set_index("method")
        lines.append("| converged, % | " + " | ".join(f"{100 * first.loc[m, 'converged']:.0f}" for m in methods) + " |")
        zero = cells.xs("sd model", level="name")["boundary"] if "sd model" in effects else None
        if zero is not None:
            lines.append("| model SD at zero, % | " + " | ".join(f"{100 * zero[m]:.0f}" for m in methods) + " |")
        lines.append("| seconds a fit | " + " | ".join(f"{first.loc[m, 'seconds']:.1f}" for m in methods) + " |")
        failures = records[(records["study"] == name) & records["name"].isna()]
        if len(failures):
            lines += ["", f"{len(failures)} fits were refused: {failures['error'].iloc[0]}"]
        lines.append("")
    lines += ["The methods:", ""]
    lines += [f"- `{key}`: {words}" for key, words in WORDS.items()]
    return "\n".join(lines) + "\n"


def _say_worst(tables: dict[str, pd.DataFrame]) -> str:
    """Return how far each method's worst effects are off, over all studies."""
    every = pd.concat([table.assign(study=name) for name, table in tables.items()], ignore_index=True)
    rows = ["| method | largest bias, % | lowest coverage, % |", "| --- | --- | --- |"]
    for method, own in every.groupby("method", sort=False):
        far = own.loc[own["bias"].abs().idxmax()]
        rare = own.loc[own["coverage"].idxmin()]
        rows.append(
            f"| {WORDS[str(method)]} | {100 * far['bias']:+.1f} ± {100 * far['bias_error']:.1f} ({far['name']}, "
            f"{far['study']}) | {100 * rare['coverage']:.0f} ± {100 * rare['coverage_error']:.0f} ({rare['name']}, "
            f"{rare['study']}) |"
        )
    return "\n".join(rows)


def write_check(records: pd.DataFrame, simulations: int) -> str:
    """Return how the default does on seeds that no choice was made on."""
    lines = [
        "",
        "## On other seeds",
        "",
        "If a standard deviation is estimated as 0, its interval lies at the boundary. At first, the upper end",
        "of such an",
        "interval was one-sided. With that rule, the tables above showed a coverage of 88 % for the model SD of",
        "the small",
        "study. We then changed to the upper end of a two-sided interval and refitted the studies with a",
        "boundary fit. The",
        "tables above are therefore too optimistic for that interval. The following studies were not used for",
        "any choice:",
        f"{simulations} of each design, seeds from {FIRST_FRESH_SEED}.",
        "",
        "| study | effect | truth | bias, % | coverage, % | at zero, % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    biased = []
    for name in dict.fromkeys(records["study"]):
        for row in tabulate(records, name).itertuples():
            if abs(row.bias) > 0.1:
                biased.append(f"{row.name} of the study {name} ({100 * row.bias:+.1f} ± {100 * row.bias_error:.1f} %)")
            lines.append(
                f"| {name} | {row.name} | {row.truth:g} | {100 * row.bias:+.1f} ± {100 * row.bias_error:.1f} | "
                f"{100 * row.coverage:.0f} ± {100 * row.coverage_error:.0f} | {100 * row.boundary:.0f} |"
            )
    if biased:
        lines += ["", f"Biased by more than 10 %: {', '.join(biased)}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first study of each design")
    parser.add_argument("--check", type=int, default=0, help="studies with fresh seeds, by the default method alone")
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--processes", type=int, default=max(os.cpu_count() or 1, 1))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "recovery")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    seeds = range(options.seed, options.seed + options.simulations)
    records = collect(options.studies, seeds, options.folder, options.processes)
    text = write(records, options.simulations)
    if options.check:
        seeds = range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + options.check)
        checked = collect(["small", "crossed"], seeds, options.folder, options.processes, default_only=True)
        text += write_check(checked, options.check)
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
