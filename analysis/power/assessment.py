"""What a design can do for a goal, in words and as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.arguments import check_kind
from analysis.multiple_tests import ALPHA
from analysis.power.analyses import alpha_was_level
from analysis.power.design import Design
from analysis.power.goals import Goal, goal_variance, predict_error
from analysis.power.simulated_power import SIMULATIONS, Power, simulate_power
from analysis.power.smallest_effect import smallest_detectable
from analysis.power.variances import SampleSizes, Variances
from analysis.results import AnalysisResult
from benchmark.estimate import Estimate
from benchmark.progress import Reporter


@dataclass(frozen=True)
class Assessment(AnalysisResult):
    """What a design can do for a goal, ready to be printed.

    Attributes
    ----------
    design, goal
        What was assessed.
    smallest
        The smallest effect that is found with the power asked for.
    asked
        The power for the effect that was asked about; None if none was.
    facts
        Facts of the design: ``what``, ``value``.
    sentences
        The answers in words.
    """

    design: Design
    goal: Goal
    smallest: Estimate
    asked: Power | None
    facts: pd.DataFrame
    sentences: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Return the smallest effect and, if one was asked about, the power for it: one row an estimate."""
        asked = [{"what": "power", "effect": self.asked.effect, **self.asked.power.as_dict()}] if self.asked else []
        smallest = {"what": "smallest effect", "effect": np.nan, **self.smallest.as_dict()}
        return pd.DataFrame([smallest, *asked])

    def readable(self) -> pd.DataFrame:
        """Return the facts of the design."""
        return self.facts

    @property
    def caption(self) -> str:
        """The answers in words."""
        return " ".join(self.sentences)


@alpha_was_level
def describe_power(
    design: Design,
    goal: Goal = "slope",
    *,
    effect: float | None = None,
    bound: float | None = None,
    power: float = 0.8,
    alpha: float = ALPHA,
    family: int = 1,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Assessment:
    """Assess a design for a goal: the smallest effect it finds, the power for a given one, and what it costs.

    Parameters
    ----------
    effect
        Effect to give the power for. For equivalence it is the true slope, 0 if not given.
    bound
        Margin of equivalence or width asked for.
    power, alpha, family, simulations, seed, reporter
        As for :func:`smallest_detectable`.
    """
    check_kind(design, Design, "design", "Design(...) makes one, and find_design() gives the one of 2023.")
    smallest = smallest_detectable(
        design, goal, power=power, alpha=alpha, family=family, simulations=simulations, seed=seed, reporter=reporter
    )
    asked = None
    if bound is not None if goal in ("equivalence", "width") else effect is not None:
        asked = simulate_power(
            design, goal, effect=effect or 0.0, bound=bound, alpha=alpha, family=family, simulations=simulations,
            seed=seed, reporter=reporter,
        )  # fmt: skip
    sentences = [smallest_sentence(design, goal, smallest, power)]
    if asked:
        sentences.append(asked.sentence)
    sentences += _advice(design, goal)
    return Assessment(design, goal, smallest, asked, design_table(design, goal), tuple(sentences))


def smallest_sentence(design: Design, goal: Goal, smallest: Estimate, power: float) -> str:
    """Say the smallest effect that a design finds."""
    size = f"{100 * smallest.value:.1f} points [{100 * smallest.low:.1f}, {100 * smallest.high:.1f}]"
    chance, models = f"{100 * power:.0f} %", f"{design.models:,} models over {design.span:.2f} decades"
    asked = f"{design.units:,} units and {design.answers:,.0f} answers a model"
    match goal:
        case "slope":
            return f"With {models}, {chance} power needs a slope of {size} per decade."
        case "equivalence":
            return (
                f"With {models} and no true slope, equivalence is shown with {chance} power within a margin of {size} "
                "per decade, and within no smaller one."
            )
        case "difference":
            return f"With {asked}, {chance} power needs two models that differ by {size}."
        case "condition":
            return (
                f"With {asked} in each condition, {chance} power needs two conditions of a model that differ by {size}."
            )
    return f"With {asked}, a model's 95 % interval is at most {size} wide in {chance} of studies."


def design_table(design: Design, goal: Goal) -> pd.DataFrame:
    """Return the facts of a design: ``what``, ``value``."""
    error, freedom = predict_error(design, goal)
    rows: list[tuple[str, str]] = [
        ("models", f"{design.models:,} over {design.span:.2f} decades"),
        ("conditions", ", ".join(design.conditions)),
        ("units a model", f"{design.units:,}"),
        ("sessions that count", f"{design.slots:,} ({'crossed' if design.crossed else 'nested'})"),
        ("answers a model and condition", f"{design.answers:,.0f}"),
        ("answers a unit and condition", f"{design.answers / design.units:,.1f}"),
        ("people who must come", f"{design.slots * design.people_per_session:,.0f}"),
        ("a session that counts", f"USD {design.session_cost:,.2f}"),
        ("cost", f"USD {design.cost:,.0f}"),
        (f"standard error of the {'mean' if goal == 'width' else goal}", f"{100 * error:.2f} points"),
        ("degrees of freedom", f"{freedom:,.0f}"),
    ]
    return pd.DataFrame(rows, columns=["what", "value"])


def _advice(design: Design, goal: Goal) -> list[str]:
    """Say where the variance comes from."""
    shares = goal_variance(design, goal, Variances.from_population(design.truth), SampleSizes.of(design))[0].shares
    if goal in ("slope", "equivalence"):
        return [
            f"{100 * shares['model']:.0f} % of the slope's variance is between models of one size: no number of units "
            "or people makes it smaller; more models, over more decades, do."
        ]
    if goal == "condition":
        return []
    return [
        f"Of the variance, {100 * shares['unit']:.0f} % are the units', {100 * shares['participant']:.0f} % the "
        f"people's, {100 * (shares['answer'] + shares['task']):.0f} % the single answers'."
    ]
