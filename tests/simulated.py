"""Simulated experiments as the tables that a study has, and what is true of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.power.simulation import Population
from benchmark import schemas


def marginal_mean(population: Population, intercept: float | None = None) -> float:
    """Return the proportion correct over new units and people, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = np.sqrt(
        population.model**2 + population.unit**2 + population.unit_condition**2 + population.task**2
        + population.participant**2
    )  # fmt: skip
    eta = (population.intercept if intercept is None else intercept) + spread * nodes
    return float((population.probability(eta) * weights).sum() / weights.sum())


def as_responses(answers: pd.DataFrame) -> pd.DataFrame:
    """Return judgements as a table of responses: the unit's number is its index in its model's one layer."""
    correct, on_top = answers["correct"].to_numpy() == 1, answers["max_on_top"].to_numpy() == 1
    count = len(answers)
    names = {name: answers[name].astype(str).to_numpy() for name in ("model", "unit", "task", "participant", "session")}
    return schemas.RESPONSES.conform(
        pd.DataFrame(
            {
                "response_id": [f"r{k}" for k in range(count)], "protocol": "imi2023", "study": "study",
                "observer_kind": "human", "observer": names["participant"], "related": False,
                "session": names["session"], "session_status": "complete", "trial": names["task"],
                "trial_index": answers["trial_index"].to_numpy(), "kind": answers["kind"].astype(str).to_numpy(),
                "model": names["model"], "layer": "layer", "basis": "neuron",
                "index": [int(name.split("-")[1]) for name in names["unit"]], "aggregator": "mean",
                "condition": answers["condition"].astype(str).to_numpy(),
                "difficulty": answers["difficulty"].astype(str).to_numpy(),
                "references": answers["references"].astype(str).to_numpy(),
                "task": [int(name.split("-")[1]) for name in names["task"]],
                "query_top": np.where(on_top, "max", "min"), "choice": np.where(correct, "max", "min"),
                "correct": correct, "vimi_version": "0", "stimuli_hash": "hash",
            }
        )
    )  # fmt: skip


def session_facts(responses: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return sessions of which some break each rule, without regard to their answers."""
    rng = np.random.default_rng(seed)
    own = responses.drop_duplicates("session").sort_values("session")
    count = len(own)
    return schemas.SESSIONS.conform(
        pd.DataFrame(
            {
                "session": own["session"].to_numpy(), "study": "study", "protocol": "imi2023",
                "observer_kind": "human", "observer": own["observer"].to_numpy(),
                "session_status": rng.choice(["complete", "timed out"], count, p=[0.98, 0.02]), "cell": "cell",
                "total_seconds": rng.lognormal(6.2, 0.9, count), "instruction_seconds": rng.lognormal(3.8, 0.7, count),
                "practice_attempts": rng.choice([1, 2, 3, 4], count, p=[0.7, 0.2, 0.07, 0.03]),
                "earlier_participation": rng.random(count) < 0.05,
                "evidence": rng.choice(["{}", '{"automation": ["webdriver"]}'], count, p=[0.97, 0.03]),
            }
        )
    )  # fmt: skip
