"""Power by simulation: the whole study is simulated again and again, and analysed as the real one will be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arguments import check_kind
from analysis.estimands import spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.intervals.wilson import interval_of_count
from analysis.multiple_tests import ALPHA
from analysis.power.analyses import alpha_was_level
from analysis.power.design import Bill, Design
from analysis.power.goals import SCOPES, UNITS, WORDS, Goal, check_goal, prepare_studies
from analysis.power.simulation import judgement_table
from analysis.results import Record
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate
from benchmark.progress import Reporter

SIMULATIONS = 1000


@dataclass(frozen=True)
class Power(Record):
    """What a design can do.

    Attributes
    ----------
    design, goal
        What was assessed, and for what.
    effect
        The true effect; for equivalence usually 0.
    bound
        The declared margin of equivalence, or the width asked for; None for other goals.
    power
        Share of simulated studies that reach the goal.
    seen
        What the studies found: mean slope, difference or width.
    bill
        What they cost on average.
    """

    design: Design
    goal: Goal
    effect: float
    bound: float | None
    power: Estimate
    seen: Estimate
    bill: Bill

    def row(self) -> dict[str, Any]:
        """Return the result as a row of plain columns, behind the sizes of its design."""
        sizes = {name: getattr(self.design, name) for name in ("models", "units", "tasks", "sessions", "trials")}
        return {**sizes, "conditions": len(self.design.conditions), "crossed": self.design.crossed, **super().row()}

    @property
    def sentence(self) -> str:
        """The result in words."""
        chance = f"{100 * self.power.value:.0f} % [{100 * self.power.low:.0f}, {100 * self.power.high:.0f}]"
        points = 100 * abs(self.effect)
        bound = 0.0 if self.bound is None else 100 * self.bound
        match self.goal:
            case "slope" if self.effect == 0:
                return f"Where models' size changes nothing, a slope is found all the same in {chance} of studies."
            case "slope":
                return f"A slope of {points:.1f} points per decade is found with a power of {chance}."
            case "equivalence":
                true = f"a true slope of {points:.1f}" if self.effect else "no true slope"
                return (
                    f"With {true}, equivalence within {bound:.1f} points per decade is shown with a power of {chance}."
                )
            case "difference" | "condition":
                what = "Two models" if self.goal == "difference" else "Two conditions of a model"
                return f"{what} that differ by {points:.1f} points are distinguished with a power of {chance}."
        return (
            f"A model's 95 % interval is {100 * self.seen.value:.1f} points wide on average, and at most {bound:.1f} "
            f"points in {chance} of studies."
        )


@alpha_was_level
def simulate_power(
    design: Design,
    goal: Goal = "slope",
    *,
    effect: float = 0.0,
    bound: float | None = None,
    alpha: float = ALPHA,
    family: int = 1,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Power:
    """Simulate studies of a design, analyse each, and count how many reach the goal.

    Parameters
    ----------
    design
        The design.
    goal
        What is asked of it.
    effect
        The true effect, as a proportion: per decade for slopes; between two models, or between the first two
        conditions. It is set on the link's scale so that the expected proportions have it.
    bound
        Margin of equivalence (proportion per decade), or width asked for; needed by those two goals alone.
    alpha
        Size of each test; an interval's coverage is 95 %.
    family
        In how large a family of tests it stands: alpha is divided by it, as for the smallest p by Holm.
    simulations
        How many studies.
    seed
        Of all draws. Study number i is the same whatever their number, so that effects compare on the same luck.
    reporter
        Is told of progress.

    Raises
    ------
    AnalysisError
        If the design can't carry the goal, or there is no room for the effect.
    """
    check_kind(design, Design, "design", "Design(...) makes one, and find_design() gives the one of 2023.")
    check_goal(design, goal, bound, simulations, alpha)
    studied, population, outcome = prepare_studies(design, goal, effect)
    found = np.empty((simulations, outcome.size))
    people = np.empty(simulations)
    title = f"Studies, {goal} {100 * effect:.1f} points"
    for number, answers in studied.studies(population, outcome.predictor, simulations, seed, title, reporter):
        found[number] = outcome.measure(answers)
        people[number] = answers.recruited / studied.slots
    reached, seen = outcome.judge(found, alpha / family, bound)
    slots = design.slots
    # A goal may need fewer models than the design has: people and money are those of the whole design.
    per_session = float(people.mean())
    stimuli = design.cost - slots * design.session_cost
    money = stimuli + slots * design.session_cost * per_session / design.people_per_session
    return Power(
        design,
        goal,
        effect,
        bound,
        _share(reached, goal, alpha / family),
        _average(seen, goal),
        Bill(slots, slots * per_session, money),
    )


@alpha_was_level
def simulate_analysis(
    design: Design,
    analyse: Callable[[pd.DataFrame], float],
    *,
    effect: float = 0.0,
    alpha: float = ALPHA,
    simulations: int = 100,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Estimate:
    """Return the power of any analysis to find a slope: of a mixed model, say, too slow for a thousand studies.

    Parameters
    ----------
    design
        The design.
    analyse
        Gets a study's table of judgements (main trials with references) with the column ``predictor``, and returns a p.
    effect
        The true slope, in proportion correct per decade.
    alpha, simulations, seed, reporter
        As for :func:`simulate_power`, which simulates the same studies.

    Raises
    ------
    AnalysisError
        If the design can't carry a slope, or an analysis returns no p.
    """
    check_goal(design, "slope", None, simulations, alpha)
    one, population, outcome = prepare_studies(design, "slope", effect)
    reached = np.zeros(simulations, dtype=bool)
    title = "Studies, analysed one by one"
    for number, answers in one.studies(population, outcome.predictor, simulations, seed, title, reporter):
        table = judgement_table(answers, outcome.predictor)
        p = analyse(table[(table["kind"] == "main") & (table["references"] == "both")].reset_index(drop=True))
        if not 0 <= p <= 1:
            raise AnalysisError(f"The analysis of study {number} returned {p}, which is no p-value.")
        reached[number] = p <= alpha
    found = _share(reached, "slope", alpha)
    method = f"share of {simulations:,} simulated studies with p at most {alpha:.3g}; Wilson interval"
    return replace(found, method=method)


def _share(reached: NDArray[np.bool_], goal: Goal, alpha: float) -> Estimate:
    """Return the power, with Wilson's interval over simulations."""
    count, n = int(reached.sum()), len(reached)
    low, high = interval_of_count(count, n, LEVEL)
    words = f"share of {n:,} simulated studies in which {WORDS[goal]}, alpha {alpha:.3g}; Wilson interval"
    return Estimate(count / n, low, high, words, n, "probability", spell_estimand(SCOPES[goal]))


def _average(seen: NDArray[np.float64], goal: Goal) -> Estimate:
    """Return the mean of what simulated studies found."""
    value, n = float(seen.mean()), len(seen)
    estimand = spell_estimand(SCOPES[goal])
    if n < 2:
        return Estimate(value, -math.inf, math.inf, "no interval: one simulated study", n, UNITS[goal], estimand)
    half = critical_value(LEVEL) * float(seen.std(ddof=1)) / math.sqrt(n)
    return Estimate(
        value, value - half, value + half, f"mean of {n:,} simulated studies; normal interval", n, UNITS[goal], estimand
    )
