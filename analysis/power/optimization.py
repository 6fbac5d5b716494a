"""Units against participants against models: what a budget buys most of.

With a number of models and units, whatever is left of the budget goes to sessions: more of them never hurt. So every
number of models and units can be tried, and the best is the best there is, not an approximation of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from analysis.power.design import Design, published_sizes
from analysis.power.goals import predict_error
from analysis.power.variances import SampleSizes, Variances
from analysis.results import Record
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL

Aim = Literal["mean", "difference", "slope"]
NEAR = 0.05
"""What is as good as the best: an interval at most this share wider."""

LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)


def goal_precision(
    design: Design, aim: Aim, variances: Variances, sizes: SampleSizes[NDArray[np.float64]], level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the standard error of an aim's estimate, and half the width of its interval (Student's t).

    Parameters
    ----------
    sizes
        How much is asked about each model, for many designs at once.
    """
    error, freedom = predict_error(design, "width" if aim == "mean" else aim, variances, sizes)
    return error, t.ppf((1 + level) / 2, np.maximum(freedom, 1)) * error


@dataclass(frozen=True)
class Optimum(Record):
    """The best design for a budget.

    Attributes
    ----------
    aim, budget
        What was aimed at, with how much money.
    models, units, sessions
        The best numbers; sessions of a condition: of a model if nested, of all models if crossed.
    answers_per_unit
        Answers about each unit, in each condition.
    cost
        What it costs.
    standard_error, half_width
        Of the estimate, and half the width of its interval, as proportions (per decade, for a slope).
    units_as_good, models_as_good
        Fewest and most units (with the best number of models), and models (with the best number of units for each),
        whose interval is at most 5 % wider.
    frontier
        One row a choice: ``models``, ``units``, ``sessions``, ``answers per unit``, ``cost``, ``standard error``,
        ``half width``, ``over the best`` (how much wider its interval is). For slopes one row a number of models, with
        the best units for it; else one row a number of units.
    ladder
        The best for a quarter to four times the budget; columns as above, and ``budget``.
    crossed
        Whether sessions mix models.
    at_most
        What the best design takes all of that there is to be had: ``units``, ``models``, both or nothing.
    """

    aim: Aim
    budget: float
    models: int
    units: int
    sessions: int
    answers_per_unit: float
    cost: float
    standard_error: float
    half_width: float
    units_as_good: tuple[int, int]
    models_as_good: tuple[int, int]
    frontier: pd.DataFrame
    ladder: pd.DataFrame
    crossed: bool
    at_most: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The optimum in words, and how flat it is."""
        unit = "points per decade" if self.aim == "slope" else "points"
        sessions = f"{self.sessions:,} sessions" + (" of all models" if self.crossed else " each")
        answers = f"{self.answers_per_unit:.1f} answer{'s' if round(self.answers_per_unit, 1) != 1 else ''} a unit"
        best = (
            f"For USD {self.budget:,.0f} the {self.aim} is most exact with {self.models:,} models, {self.units:,} "
            f"units of each and {sessions} ({answers}): +-{100 * self.half_width:.2f} {unit}."
        )
        flat = (
            f"Anything from {self.units_as_good[0]:,} to {self.units_as_good[1]:,} units is within {NEAR:.0%} of that"
        )
        if self.aim == "slope":
            flat += f", and so is anything from {self.models_as_good[0]:,} to {self.models_as_good[1]:,} models"
        double = self.ladder[self.ladder["budget"] == 2 * self.budget]
        more: tuple[str, ...] = ()
        if len(double):
            more = (f"Twice the money gives +-{100 * float(double['half width'].iloc[0]):.2f} {unit}.",)
        if self.at_most:
            more = (f"It takes all {' and '.join(self.at_most)} that there are to be had.", *more)
        return (best, flat + ".", *more)


@threaded
def optimize(
    design: Design,
    budget: float | None = None,
    aim: Aim = "mean",
    *,
    variances: Variances | None = None,
    most_units: int = 3000,
    most_models: int = 100,
    **settings: Unpack[Settings],
) -> Optimum:
    """Find the split of a budget over units, sessions and models that gives the narrowest interval.

    Parameters
    ----------
    design
        Its numbers of units and sessions, and for a slope of models, are what is weighed; all else is kept. Models
        whose number is weighed are spread evenly over its decades.
    budget
        What may be spent at most; what the design costs if None.
    aim
        A model's mean, the difference of two, or the slope over models. The number of models is weighed for a slope
        alone.
    variances
        The components, as proportions; from the design's truth if None. ``model`` counts for slopes alone.
    most_units, most_models
        How many units a model has, and how many models there are to be had.
    settings
        ``level`` is the coverage of the interval.

    Raises
    ------
    AnalysisError
        If sessions cost nothing, or the budget is too small for any design: no unit twice in a session, each unit
        asked about at least once, two sessions, and three models for a slope.
    """
    level = choose(settings).level
    budget = design.cost if budget is None else budget
    found = Variances.from_population(design.truth) if variances is None else variances
    if not design.session_cost > 0:
        raise AnalysisError("A session must cost something, or there is nothing to weigh: set [design.costs] session.")
    choices = _choices(budget, design, found, aim, most_units, most_models, level)
    if choices.empty:
        raise AnalysisError(
            f"USD {budget:,.2f} is too little for any design with sessions of {design.trials} trials at USD "
            f"{design.session_cost:,.2f}: a session needs as many units as trials, "
            + ("a slope three models." if aim == "slope" else f"and each of the {design.models} models two sessions.")
        )
    best = _best(choices)
    same = choices[choices["models"] == best["models"]]
    good_units = same.loc[same["half width"] <= best["half width"] * (1 + NEAR), "units"]
    by_models = choices.loc[choices.groupby("models")["half width"].idxmin()].reset_index(drop=True)
    good_models = by_models.loc[by_models["half width"] <= best["half width"] * (1 + NEAR), "models"]
    frontier = by_models if aim == "slope" else same.reset_index(drop=True)
    ladder = []
    for share in LADDER:
        rung = choices if share == 1.0 else _choices(budget * share, design, found, aim, most_units, most_models, level)
        if len(rung):
            ladder.append({"budget": budget * share, **_best(rung).to_dict()})
    return Optimum(
        aim,
        budget,
        int(best["models"]),
        int(best["units"]),
        int(best["sessions"]),
        float(best["answers per unit"]),
        float(best["cost"]),
        float(best["standard error"]),
        float(best["half width"]),
        (int(good_units.min()), int(good_units.max())),
        (int(good_models.min()), int(good_models.max())),
        frontier.assign(**{"over the best": frontier["half width"] / best["half width"] - 1}),
        pd.DataFrame(ladder).astype({"models": int, "units": int, "sessions": int}),
        design.crossed,
        tuple(
            name
            for name, reached in (
                ("units", best["units"] == most_units),
                ("models", aim == "slope" and best["models"] == most_models),
            )
            if reached
        ),
    )


def _best(choices: pd.DataFrame) -> pd.Series:
    """Return the best choice; among equals the cheapest, then the one with fewest models and units."""
    order = choices.assign(close=choices["half width"].round(15))
    return order.sort_values(["close", "cost", "models", "units"]).drop(columns="close").iloc[0]


def _choices(
    budget: float, design: Design, variances: Variances, aim: Aim, most_units: int, most_models: int, level: float
) -> pd.DataFrame:
    """Return every number of models and units that the budget allows, with all sessions that it leaves money for."""
    parts = []
    costs, price, conditions = design.costs, design.session_cost, len(design.conditions)
    decades = design.span or float(np.ptp(published_sizes()))
    for models in range(3, most_models + 1) if aim == "slope" else [design.models]:
        own = design.model_copy(update={"models": models, "predictor": (), "decades": decades})
        mixed = models if design.crossed else 1
        units = np.arange(-(-design.trials // mixed), most_units + 1)
        stimuli = costs.fixed + models * (costs.model + units * conditions * costs.unit)
        per_session = price * conditions * (1 if design.crossed else models)
        # A little beyond whole numbers, so that a budget that fits exactly is not lost to rounding.
        sessions = np.floor((budget - stimuli) / per_session + 1e-9)
        answers = sessions * design.main_answers / mixed
        kept = (sessions >= 2) & (answers >= units - 1e-9)
        if not kept.any():
            continue
        u, s, a = units[kept].astype(np.float64), sessions[kept], answers[kept]
        error, half = goal_precision(own, aim, variances, SampleSizes(u, s, a, design.tasks), level)
        parts.append(
            pd.DataFrame(
                {
                    "models": models,
                    "units": units[kept],
                    "sessions": s.astype(np.int64),
                    "answers per unit": a / u,
                    "cost": stimuli[kept] + s * per_session,
                    "standard error": error,
                    "half width": half,
                }
            )
        )
    columns = ["models", "units", "sessions", "answers per unit", "cost", "standard error", "half width"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
