"""Agreement on single answers: error consistency, Cohen's kappa of being right.

Geirhos, Meding & Wichmann (NeurIPS 2020): with its sign, and beside that of two people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from analysis.agreement.machines import observer_name
from analysis.agreement.pairing import ALL_MODELS, pair_answers, shared_groups
from analysis.arrays import Floats, Integers
from analysis.estimands import spell_estimand
from analysis.groups import KEYS, LEAST_UNITS, spell_group
from analysis.intervals.quantiles import critical_value
from analysis.results import Record, ResultList, spread_out
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class ErrorConsistency(Record):
    """Whether people and a machine are wrong in the same trials, beyond what their accuracies make happen.

    Attributes
    ----------
    kappa
        Cohen's kappa of being right, person against machine, averaged over people; below 0 where errors avoid each
        other.
    observed, expected
        Share of trials in which both are right or both wrong; and what independent errors would give.
    human
        Kappa of two people who answered the same task: the ceiling. None where no task was answered by two.
    people
        One row a person: trials, accuracies, observed, expected, kappa (missing where errors are missing).
    """

    observer: str
    condition: str
    difficulty: str
    references: str
    kappa: Estimate
    observed: float
    expected: float
    human: Estimate | None
    human_pairs: int
    people: pd.DataFrame
    remark: str

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("observer", *KEYS[1:], "observed", "expected")}
        return row | spread_out("kappa", self.kappa) | spread_out("human", self.human) | {"remark": self.remark}


@threaded
def error_consistency(
    people: pd.DataFrame, machine: pd.DataFrame, **settings: Unpack[Settings]
) -> ResultList[ErrorConsistency]:
    """Estimate error consistency on the tasks that people and machine share, for each condition and difficulty.

    With accuracies p of a person and q of the machine on the person's n trials, independent errors agree in
    e = p q + (1 - p)(1 - q) of them, and kappa is (o - e) / (1 - e) for the observed agreement o (Geirhos, Meding &
    Wichmann, 2020, equation 3). o - e is twice the covariance of being right; because p and q come from the same
    trials, the plain difference is too small by 1/n, and n / (n - 1) undoes it. Numerator and denominator are averaged
    over people by their trials before dividing, so that people without an error count as well. The interval is that
    of a ratio, with clusters of people and of units (Cameron, Gelbach & Miller, 2011).

    Raises
    ------
    AnalysisError
        If no person shares two tasks with the machine, all people and the machine are always right, or all trials
        are about one unit.
    """
    level = choose(settings).level
    results = []
    for names, own, theirs in shared_groups(people, machine, KEYS[1:]):
        results.append(_error_consistency(names, own, theirs, level))
    return ResultList(results)


def _error_consistency(
    names: dict[str, str], own: pd.DataFrame, theirs: pd.DataFrame, level: float
) -> ErrorConsistency:
    where = spell_group({"model": ALL_MODELS, **names})
    observer = observer_name(theirs)
    pairs = pair_answers(own, theirs)
    trials = pairs.groupby("participant")["trial"].transform("size")
    alone = int(pairs.loc[trials < 2, "participant"].nunique()) if len(pairs) else 0
    pairs = pairs[trials >= 2].reset_index(drop=True)
    if pairs.empty:
        raise AnalysisError(
            f"{where}: nobody answered two tasks that {observer} also answered. Let the observer answer the study "
            "that people answered."
        )
    if pairs["unit"].nunique() < LEAST_UNITS:
        raise AnalysisError(
            f"{where}: the shared trials cover {pairs['unit'].nunique()} units; an interval that generalises to new "
            f"units needs {LEAST_UNITS}."
        )
    person = pd.Categorical(pairs["participant"]).codes.astype(np.int64)
    unit = pd.Categorical(pairs["unit"]).codes.astype(np.int64)
    h, m = pairs["correct"].to_numpy(dtype=np.float64), pairs["machine_correct"].to_numpy(dtype=np.float64)
    n = np.bincount(person).astype(np.float64)
    p, q = np.bincount(person, h) / n, np.bincount(person, m) / n
    share = (n / (n - 1))[person]
    above = 2 * share * (h - p[person]) * (m - q[person])
    agree = h * m + (1 - h) * (1 - m)
    below = 1 - agree + above
    if below.sum() <= 1e-9 * len(h):
        raise AnalysisError(
            f"{where}: people and {observer} make no errors, so their error consistency is undefined (0/0). Use "
            "harder queries."
        )
    kappa = float(above.sum() / below.sum())
    half, spread = _two_way_half_width(above - kappa * below, person, unit, float(below.sum()), level)
    method = (
        "Cohen's kappa of being right, means over people by their trials, covariance unbiased; "
        "two-way cluster-robust standard error (people and units), Student's t"
    )
    remarks = [f"{alone} people share one task with the observer, and are left out."] if alone else []
    estimand = spell_estimand("new units and people", observer=observer)
    bounded = (max(-1.0, kappa - half), min(1.0, kappa + half))
    if not spread:
        bounded, method = (-1.0, 1.0), "no interval: trials do not vary around the ratio; " + method
    observed = float(agree.mean())
    human, pairs_of_people, remark = _human_consistency(own, where, level)
    if remark:
        remarks.append(remark)
    if len(n) < 2:
        remarks.append("One person: the interval speaks for new units, not for new people.")
    ones = np.bincount(person, agree) / n
    chance = ones - np.bincount(person, above) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(1 - chance > 1e-9, (ones - chance) / (1 - chance), np.nan)
    table = pd.DataFrame(
        {
            "participant": pd.Categorical(pairs["participant"]).categories,
            "trials": n.astype(np.int64),
            "human": p,
            "machine": q,
            "observed": ones,
            "expected": chance,
            "kappa": each,
        }
    )
    return ErrorConsistency(
        observer=observer,
        **names,
        kappa=Estimate(
            kappa,
            min(bounded[0], kappa),
            max(bounded[1], kappa),
            method,
            min(len(n), int(unit.max()) + 1) if len(n) > 1 else int(unit.max()) + 1,
            "kappa",
            estimand,
            level,
        ),
        observed=observed,
        expected=float(1 - below.mean()),
        human=human,
        human_pairs=pairs_of_people,
        people=table,
        remark=" ".join(remarks),
    )


def _two_way_half_width(
    residual: Floats, person: Integers, unit: Integers, scale: float, level: float
) -> tuple[float, bool]:
    """Return half the width of a ratio's interval, from the residuals of its linear form, and whether they vary."""
    people, units = int(person.max()) + 1, int(unit.max()) + 1
    by_person = float((np.bincount(person, residual) ** 2).sum()) * people / max(people - 1, 1)
    by_unit = float((np.bincount(unit, residual) ** 2).sum()) * units / max(units - 1, 1)
    cell = person * units + unit
    _, cell = np.unique(cell, return_inverse=True)
    by_cell = float((np.bincount(cell, residual) ** 2).sum())
    if people < 2:
        variance, count = by_unit, units
    else:
        # The difference can fall below what either clustering finds by itself, even below zero; then that holds.
        variance, count = max(by_person + by_unit - by_cell, by_person, by_unit), min(people, units)
    half = critical_value(level, max(count - 1, 1)) * math.sqrt(variance) / scale
    return half, variance > 0


def _human_consistency(people: pd.DataFrame, where: str, level: float) -> tuple[Estimate | None, int, str]:
    """Estimate the kappa of two people who answered the same task.

    Every pair of people counts once for each task that both answered. A person's accuracy is that in all own trials.
    """
    own = pd.DataFrame(
        {
            "task": people["task"].astype(str),
            "unit": people["unit"].astype(str),
            "person": people["participant"].astype(str),
            "correct": people["correct"].to_numpy(dtype=np.float64),
        }
    ).drop_duplicates(["task", "person"])
    size = own.groupby("person")["correct"].transform("size")
    own = own[size >= 2].sort_values(["unit", "task", "person"], kind="stable").reset_index(drop=True)
    if own.empty:
        return None, 0, "Nobody answered two tasks: the consistency of people among themselves is unknown."
    person = pd.Categorical(own["person"]).codes.astype(np.int64)
    task = pd.Categorical(own["task"]).codes.astype(np.int64)
    right = own["correct"].to_numpy()
    n = np.bincount(person).astype(np.float64)
    p = (np.bincount(person, right) / n)[person]
    r = (right - p) / (1 - 1 / n[person])
    together = np.bincount(task).astype(np.float64)
    pairs = int((together * (together - 1) / 2).sum())
    if not pairs:
        return None, 0, "No task was answered by two people: their consistency among themselves is unknown."
    # Sums over ordered pairs i, j of one task: of 2 r_i r_j, and of p_i (1 - p_j) + p_j (1 - p_i).
    of_r, of_p = np.bincount(task, r), np.bincount(task, p)
    above = 2 * (of_r**2 - np.bincount(task, r**2))
    below = 2 * (together - 1) * of_p - 2 * (of_p**2 - np.bincount(task, p**2))
    if below.sum() <= 1e-9 * pairs:
        return None, pairs, "People make no errors in shared tasks: their consistency among themselves is unknown."
    kappa = float(above.sum() / below.sum())
    unit = pd.Categorical(own.drop_duplicates("task").sort_values("task")["unit"]).codes.astype(np.int64)
    units, people_count = int(unit.max()) + 1, len(n)
    residual = above - kappa * below
    by_unit = float((np.bincount(unit, residual) ** 2).sum()) / float(below.sum()) ** 2 * units / max(units - 1, 1)
    # Leave each person out: all pairs with them go.
    own_above = np.bincount(person, 4 * r * (of_r[task] - r))
    own_below = np.bincount(person, 2 * ((together[task] - 1) * p + (of_p[task] - p) - 2 * p * (of_p[task] - p)))
    rest = below.sum() - own_below
    method = "Cohen's kappa of being right, all pairs of people on shared tasks, accuracies of all own trials"
    estimand = spell_estimand("new units and people")
    count = min(units, people_count)
    if (rest <= 1e-9 * pairs).any() or count < 3:
        why = f"{people_count} people and {units} units are too few, or one person is in all pairs"
        value = min(max(kappa, -1.0), 1.0)
        return Estimate(value, -1.0, 1.0, f"no interval: {why}; {method}", count, "kappa", estimand, level), pairs, ""
    without = (above.sum() - own_above) / rest
    by_person = float((people_count - 1) / people_count * ((without - without.mean()) ** 2).sum())
    half = critical_value(level, count - 1) * math.sqrt(by_unit + by_person)
    value = min(max(kappa, -1.0), 1.0)
    return (
        Estimate(
            value,
            max(-1.0, value - half),
            min(1.0, value + half),
            f"{method}; standard error from units (clusters) plus people (jackknife), Student's t",
            count,
            "kappa",
            estimand,
            level,
        ),
        pairs,
        "",
    )
