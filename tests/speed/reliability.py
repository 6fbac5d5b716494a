"""How long reliability, agreement, temperature and prediction-powered scores take. Run by hand; prints a table.

    python -m tests.speed.reliability                         # times, on 9 models x 84 units x 30 answers
    python -m tests.speed.reliability --coverage [--studies N] [--write docs/prediction_powered.md]

With --coverage it simulates studies with known truth instead, and prints (or writes into a page, between its marks)
how often prediction-powered intervals hold the truth and what the machine saves.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from analysis.agreement import (
    calibrate,
    error_consistency,
    fit_temperature,
    model_agreement,
    saving_bound,
    score_forecasts,
    score_with_machine,
    simulate_coverage,
    unit_agreement,
)
from analysis.power.simulation import Layout, Population, simulate_judgements
from analysis.reliability import accuracy_ceiling, estimate_reliability, reliability_curve

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

DESIGNS = (
    # labelled, unlabelled, answers a unit, correlation, answers a person
    (15, 300, 3, 0.7, 5),
    (15, 60, 10, 0.0, 10),
    (20, 200, 30, 0.95, 20),
    (30, 300, 3, 0.7, 10),
    (30, 300, 10, 0.9, 10),
    (84, 420, 1, 1.0, 15),
    (84, 420, 1, 1.0, 5),
    (84, 420, 3, 0.5, 40),
    (84, 420, 10, 0.5, 40),
    (84, 420, 10, 0.9, 40),
    (84, 420, 30, 0.9, 40),
    (84, 420, 30, 1.0, 40),
    (84, 4200, 30, 1.0, 40),
)


def machine_table(judgements: pd.DataFrame, seed: int, noise: float = 0.7) -> pd.DataFrame:
    """Return answers of a machine that sees people's chances through noise."""
    keys = ["model", "condition", "difficulty", "references", "unit", "layer"]
    table = judgements.drop_duplicates("task")[[*keys, "task"]].reset_index(drop=True)
    chance = judgements.groupby("task", observed=True)["probability"].mean().reindex(table["task"]).to_numpy()
    evidence = logit(chance) + np.random.default_rng(seed).normal(0, noise, len(table))
    return table.assign(
        probability=expit(evidence), correct=(evidence > 0).astype(float), observer="features:simulated"
    )


def show_times() -> None:
    people = simulate_judgements(Layout(), Population(task=0.3), seed=1)
    machine = machine_table(people, seed=2)
    half = people[people["unit"].isin(people["unit"].cat.categories[::2])]
    jobs = {
        "reliability, 9 models": lambda: estimate_reliability(people),
        "learning curve, 9 models": lambda: reliability_curve(people),
        "accuracy ceiling, 9 models": lambda: accuracy_ceiling(people),
        "agreement on units, 9 models and all": lambda: unit_agreement(people, machine),
        "agreement on models": lambda: model_agreement(people, machine),
        "error consistency": lambda: error_consistency(people, machine),
        "calibration": lambda: calibrate(people, machine),
        "forecasts": lambda: score_forecasts(people, machine),
        "temperature": lambda: fit_temperature(people, machine),
        "prediction-powered scores, 9 models": lambda: score_with_machine(half, machine),
    }
    print(f"{len(people):,} answers, {people['unit'].nunique()} units, {len(machine):,} tasks")
    for name, job in jobs.items():
        begun, busy = perf_counter(), process_time()
        job()
        print(f"{name:<40}{perf_counter() - begun:8.2f} s, of them busy {process_time() - busy:6.2f} s")


def coverage_table(studies: int) -> str:
    """Return the measured table, as Markdown."""
    lines = [
        f"{studies:,} simulated studies a row: proportion correct .83, standard deviation .10 between units and .05 "
        f"between people; standard error of a coverage of .95: {(0.95 * 0.05 / studies) ** 0.5:.3f}. r: correlation of "
        "the machine's scores with the units' true places.",
        "",
        "| units with human answers | further units | answers a unit | answers a person | r | covers "
        "| human-only covers | library alone covers | true saving | reported (median) | bound |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for labelled, unlabelled, answers, correlation, each in DESIGNS:
        row = simulate_coverage(
            labelled, unlabelled, answers, correlation, answers_per_person=each, studies=studies, seed=1
        )
        numbers = [row.coverage, row.coverage_human_only, row.coverage_library]
        savings = [row.saving, row.saving_reported, row.bound]
        lines.append(
            f"| {labelled} | {unlabelled:,} | {answers} | {each} | {correlation:g} | "
            + " | ".join([*(f"{number:.3f}" for number in numbers), *(f"{number:.2f}" for number in savings)])
            + " |"
        )
        print(lines[-1], flush=True)
    lines += ["", "The bound with endlessly many further units, for the same variances and 40 answers a person:", ""]
    lines += ["| answers a unit | a perfect machine saves | times as many answers |", "|---|---|---|"]
    for answers in (1, 2, 5, 10, 30, 100):
        bound = saving_bound(
            0.1**2, 0.05**2, 0.83 * 0.17 - 0.1**2 - 0.05**2, answers_per_unit=answers, answers_per_person=40
        )
        lines.append(f"| {answers} | {100 * (1 - 1 / bound):.0f} % | {bound:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if not given.coverage:
        show_times()
        return
    table = coverage_table(given.studies)
    if given.write is None:
        print(table)
        return
    page = given.write.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    given.write.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
