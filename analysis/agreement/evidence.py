"""The evidence behind a machine's probabilities, and people's answers to the same tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.agreement.machines import observer_name
from analysis.agreement.pairing import number_units, pair_answers
from analysis.arrays import Floats, Integers
from benchmark.errors import AnalysisError
from benchmark.observers.base import SimilarityObserver

OTHER_EVIDENCE = ("lpips", "random", "oracle", "label")
"""Observers without the temperature of similarity observers: LPIPS has one of its own, the others have none."""


@dataclass(frozen=True)
class AnsweredTasks:
    """Tasks that people and machine answered: evidence, answers, right answers and unit of each."""

    evidence: Floats
    answers: Floats
    right: Floats
    unit: Integers

    @property
    def scale(self) -> float:
        """Root mean square of the evidence, over answers."""
        return math.sqrt(float((self.answers * self.evidence**2).sum() / self.answers.sum()))


def known_temperature(observer: str) -> float:
    """Return the default temperature of a similarity observer."""
    if observer.split(":")[0] in OTHER_EVIDENCE:
        raise AnalysisError(
            f"The observer {observer!r} does not use the temperature of similarity observers. Give the one it "
            "answered with, in the units of its evidence: used=..."
        )
    return SimilarityObserver.temperature


def evidence_behind(probability: Floats, used: float, where: str) -> Floats:
    """Return the evidence behind probabilities."""
    if ((probability <= 0) | (probability >= 1)).any():
        count = int(((probability <= 0) | (probability >= 1)).sum())
        raise AnalysisError(
            f"{where}: {count} of {len(probability)} probabilities are 0 or 1, which don't reveal how strong the "
            "evidence was. A temperature can only be fitted to observers that are never certain."
        )
    return np.asarray(used * (np.log(probability) - np.log1p(-probability)))


def gather_tasks(people: pd.DataFrame, machine: pd.DataFrame, used: float, where: str) -> AnsweredTasks:
    """Join people's answers to the evidence behind the machine's, task by task."""
    pairs = pair_answers(people, machine)
    pairs["unit_number"] = number_units(pairs, where, observer_name(machine))
    table = pairs.groupby("trial", sort=True).agg(
        unit=("unit_number", "first"),
        probability=("probability", "first"),
        answers=("correct", "size"),
        right=("correct", "sum"),
    )
    table = table.sort_values(["unit", "probability", "answers", "right"], kind="stable")
    evidence = evidence_behind(table["probability"].to_numpy(dtype=np.float64), used, where)
    if not np.abs(evidence).max() > 1e-12:
        raise AnalysisError(
            f"{where}: all probabilities are one half. The observer has no preference between the queries at any "
            "temperature."
        )
    return AnsweredTasks(
        evidence,
        table["answers"].to_numpy(dtype=np.float64),
        table["right"].to_numpy(dtype=np.float64),
        table["unit"].to_numpy(dtype=np.int64),
    )
