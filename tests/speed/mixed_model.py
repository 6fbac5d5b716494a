"""How long mixed models take, beside lme4 where R has it (``apt-get install r-cran-lme4``).

    python -m tests.speed.mixed_model [--no-lme4] [--large-lme4]
    python -m tests.speed.mixed_model --million

Both are run one after another on the same machine; lme4 gets psyphy's ``mafc.logit(2)`` link, written out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.mixed_model import MixedModel, MixedModelFit
from analysis.mixed_model.fit import Method
from analysis.power.simulation import Layout, Population, simulate_judgements

DATA = Path(__file__).resolve().parents[1] / "data" / "glmm"

R_SCRIPT = """
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arguments[1])
guess <- as.numeric(arguments[3])
link <- structure(list(
  linkfun = function(mu) qlogis(pmin(pmax((mu - guess) / (1 - guess), 1e-10), 1 - 1e-10)),
  linkinv = function(eta) guess + (1 - guess) * pmin(pmax(plogis(eta), 1e-10), 1 - 1e-10),
  mu.eta = function(eta) pmax((1 - guess) * dlogis(eta), 1e-12),
  valideta = function(eta) TRUE, name = "guess"), class = "link-glm")
began <- proc.time()[["elapsed"]]
fit <- suppressWarnings(glmer(as.formula(arguments[2]), data, binomial(link), nAGQ = 0,
  control = glmerControl(optimizer = "bobyqa")))
seconds <- proc.time()[["elapsed"]] - began
sds <- as.data.frame(VarCorr(fit))
for (i in seq_along(fixef(fit)))
  cat("fixed", names(fixef(fit))[i], fixef(fit)[i], sqrt(diag(as.matrix(vcov(fit))))[i], "\\n")
for (i in seq_len(nrow(sds))) cat("sd", sds$grp[i], sds$sdcor[i], 0, "\\n")
cat("logLik all", as.numeric(logLik(fit)), 0, "\\n")
cat("seconds all", seconds, 0, "\\n")
"""


def fit_with_lme4(table: pd.DataFrame, formula: str, guess: float) -> dict[tuple[str, str], tuple[float, float]] | None:
    """Return lme4's answers, by kind and name; None without R and lme4."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "data.csv", Path(folder) / "fit.R"
        table.to_csv(data, index=False)
        script.write_text(R_SCRIPT, encoding="utf-8")
        done = subprocess.run(
            [rscript, str(script), str(data), formula, str(guess)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        print("  lme4 failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1])
        return None
    made = {}
    for line in done.stdout.splitlines():
        kind, name, value, error = line.split()
        made[kind, "intercept" if name == "(Intercept)" else name] = float(value), float(error)
    return made


def answers(fit: MixedModelFit) -> dict[tuple[str, str], tuple[float, float]]:
    """Return our answers in the same form."""
    errors = fit.standard_errors
    made = {("fixed", name): (float(v), errors[name]) for name, v in zip(fit.design.names, fit.coefficients)}
    made |= {("sd", f.name): (float(sd), 0.0) for f, sd in zip(fit.design.factors, fit.sds)}
    made["logLik", "all"] = fit.log_likelihood, 0.0
    made["seconds", "all"] = fit.seconds, 0.0
    return made


def compare(title: str, table: pd.DataFrame, formula: str, *, guess: float, lme4: bool, methods: list[Method]) -> None:
    """Print what each fit finds, and how long it takes."""
    print(f"\n{title}: {len(table):,} answers, {formula}, guess {guess:g}")
    columns = {}
    for method in methods:
        columns[method] = answers(MixedModel.from_formula(formula, guess=guess, method=method).fit(table))
    if lme4:
        reference = fit_with_lme4(table, formula, guess)
        if reference is not None:
            columns["lme4, nAGQ = 0"] = reference
    rows = []
    for key in columns[methods[0]]:
        cells = {name: column[key] for name, column in columns.items() if key in column}
        text = {n: f"{v:.4f} ({e:.4f})" if e else f"{v:.4f}" for n, (v, e) in cells.items()}
        rows.append({"": " ".join(key).replace(" all", "")} | text)
    print(pd.DataFrame(rows).to_string(index=False))
    print(f"memory, at most so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


def fit_a_million(seed: int) -> None:
    """Print what the default fit of a million answers costs: target under 3 minutes of processor time and 4 GB."""
    layout = Layout(models=9, units=84, tasks=10, conditions=("natural", "synthetic"), sessions=1390, trials=40)
    population = Population(intercept=0.7, conditions={"synthetic": -1.4}, unit=0.8, unit_condition=0.7)
    table = simulate_judgements(layout, population, seed=seed)
    began, wall = time.process_time(), time.perf_counter()
    fit = MixedModel(("condition",)).fit(table)
    print(f"{len(table):,} answers, random effects {', '.join(fit.model.random or ())}")
    print(f"{time.process_time() - began:.0f} s of processor time, {time.perf_counter() - wall:.0f} s of the clock")
    print(f"memory, at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.1f} GiB")
    print(fit.frame()[["name", "value", "low", "high", "method"]].to_string(index=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-lme4", action="store_true", help="leave lme4 out")
    parser.add_argument("--large-lme4", action="store_true", help="run lme4 on the large data set too (minutes)")
    parser.add_argument("--seed", type=int, default=17, help="of the simulated data sets")
    parser.add_argument("--million", action="store_true", help="only the default fit of 1,000,800 answers")
    options = parser.parse_args()
    if options.million:
        fit_a_million(options.seed)
        return
    lme4 = not options.no_lme4
    reference = json.loads((DATA / "lme4.json").read_text(encoding="utf-8"))
    every: list[Method] = ["parity", "joint", "restricted", "default"]
    warm = simulate_judgements(Layout(models=4, units=6, sessions=8, trials=12), Population(), seed=1)
    began = time.perf_counter()
    MixedModel().fit(warm)
    print(f"first fit, with what it imports: {time.perf_counter() - began:.1f} s")
    for name, large in (("natural.csv.gz", False), ("natural_and_synthetic.csv.gz", True)):
        with gzip.open(DATA / name) as file:
            table = pd.read_csv(file)
        own = lme4 and (not large or options.large_lme4)
        compare(name, table, reference[name]["formula"], guess=0.5, lme4=own, methods=every)
    layout = Layout(models=6, units=40, sessions=40, trials=30)
    population = Population(intercept=0.8, slope=0.4, unit=0.9, participant=0.45)
    table = simulate_judgements(layout, population, seed=options.seed, predictor=np.linspace(-1, 1, 6))
    formula = "correct ~ predictor + (1|unit) + (1|participant) + (1|model)"
    columns = ["correct", "predictor", "unit", "participant", "model"]
    for guess in (0.5, 0.0):
        title = f"simulated, seed {options.seed}"
        compare(title, table[columns], formula, guess=guess, lme4=lme4, methods=["parity", "default"])
    layout = Layout(conditions=("natural", "synthetic"), sessions=567, crossed=True)
    population = Population(intercept=0.7, conditions={"synthetic": -1.4}, unit=0.8, unit_condition=0.7)
    table = simulate_judgements(layout, population, seed=options.seed, predictor=np.linspace(-1, 1, 9))
    formula = "correct ~ condition*predictor + (1|unit) + (1|unit:condition) + (1|participant) + (1|model)"
    compare("sessions that mix all models", table, formula, guess=0.5, lme4=False, methods=["parity", "default"])


if __name__ == "__main__":
    main()
