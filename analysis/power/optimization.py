"""Units against participants against models: what a budget buys most of.

With a number of models and units, whatever is left of the budget goes to sessions: more of them never hurt. So every
number of models and units can be tried, and the best is the best there is, not an approximation of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from analysis.power.design import Design, published_sizes
from analysis.power.variances import (
    LEVEL,
    Counts,
    Parts,
    Variances,
    difference_variance,
    mean_variance,
    slope_variance,
)
from analysis.results import Record
from benchmark.errors import AnalysisError

Aim = Literal["mean", "difference", "slope"]
NEAR = 0.05
"""What is as good as the best: an interval at most this share wider."""

LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Costs:
    """What things cost.

    Attributes
    ----------
    session
        A session that counts, with what is paid to people whose sessions do not.
    unit
        A unit's stimuli in one condition.
    model
        Adding a model.
    fixed
        Whatever the size of the study.
    """

    session: float
    unit: float = 0.0
    model: float = 0.0
    fixed: float = 0.0

    def __post_init__(self) -> None:
        if not self.session > 0 or min(self.unit, self.model, self.fixed) < 0:
            raise AnalysisError(
                f"A session must cost something, or there is nothing to weigh; and nothing costs less than 0: {self}."
            )

    @classmethod
    def of(cls, design: Design) -> Costs:
        """Return the costs of a design, expected exclusions included."""
        return cls(design.session_cost, design.costs.unit, design.costs.model, design.costs.fixed)


@dataclass(frozen=True)
class Frame:
    """What stays as it is while units, sessions and models are weighed.

    Attributes
    ----------
    trials
        Main trials of a session; so many units at least must be there, for none to come twice.
    counted
        Those of them that show references.
    crossed
        Whether sessions mix models.
    conditions
        How many conditions; each has sessions of its own.
    tasks
        Tasks of a unit.
    models
        Models, if their number is not what is weighed.
    decades
        Over which models are spread evenly.
    most_units, most_models
        How many units a model has, and how many models there are to be had.
    """

    trials: int = 40
    counted: int = 40
    crossed: bool = False
    conditions: int = 1
    tasks: float = math.inf
    models: int = 9
    decades: float = 1.0
    most_units: int = 3000
    most_models: int = 100

    @classmethod
    def of(cls, design: Design, most_units: int = 3000, most_models: int = 100) -> Frame:
        """Return the frame of a design."""
        return cls(
            trials=design.trials,
            counted=design.main_answers,
            crossed=design.crossed,
            conditions=len(design.conditions),
            tasks=design.tasks,
            models=design.models,
            decades=design.span or float(np.ptp(published_sizes())),
            most_units=most_units,
            most_models=most_models,
        )

    def spread(self, models: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the predictor's sum of squares for so many models, evenly spread: m (m + 1) d^2 / (12 (m - 1))."""
        m = np.asarray(models, dtype=np.float64)
        squares: NDArray[np.float64] = m * (m + 1) * self.decades**2 / (12 * (m - 1))
        return squares


def goal_precision(
    aim: Aim,
    variances: Variances,
    frame: Frame,
    models: int,
    units: NDArray[np.float64],
    sessions: NDArray[np.float64],
    level: float = LEVEL,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the standard error of an aim's estimate, and half the width of its interval.

    The variances are those of ``analysis.power.variances``, for many designs at once; the interval is Student's t with
    one degree of freedom less than units or people, whichever are fewer, and with models - 2 for a slope.

    Parameters
    ----------
    units, sessions
        Units of a model; sessions of a condition: of a model if nested, of all models if crossed. One shape.
    """
    mixed = models if frame.crossed else 1
    counts = Counts(units, sessions, sessions * frame.counted / mixed, frame.tasks)
    parts: Parts[NDArray[np.float64]]
    if aim == "mean":
        parts = mean_variance(variances, counts, mixed)
        freedom = np.minimum(units, sessions) - 1
    elif aim == "difference":
        parts = difference_variance(variances, counts, crossed=mixed > 1, models=models)
        freedom = np.minimum(2 * units, sessions * (1 if frame.crossed else 2)) - 1
    else:
        spread = float(frame.spread(models))
        parts = slope_variance(variances, counts, spread=spread, crossed=mixed > 1, models=models)
        freedom = np.full(units.shape, models - 2.0)
    error = parts.standard_error
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


def optimize_design(
    budget: float,
    costs: Costs,
    variances: Variances,
    aim: Aim = "mean",
    *,
    frame: Frame | None = None,
    level: float = LEVEL,
) -> Optimum:
    """Find the split of a budget over units, sessions and models that gives the narrowest interval.

    Parameters
    ----------
    budget
        What may be spent at most.
    costs
        What things cost.
    variances
        The components, as proportions; ``model`` counts for slopes alone.
    aim
        A model's mean, the difference of two, or the slope over models. The number of models is weighed for a slope
        alone.
    frame
        What stays as it is.
    level
        Coverage of the interval.

    Raises
    ------
    AnalysisError
        If the budget is too small for any design: no unit twice in a session, each unit asked about at least once, two
        sessions, and three models for a slope.
    """
    frame = frame or Frame()
    if not (frame.trials >= frame.counted >= 1 and frame.conditions >= 1 and frame.decades > 0):
        raise AnalysisError(f"These are no sessions of a study: {frame}.")
    choices = _choices(budget, costs, variances, aim, frame, level)
    if choices.empty:
        raise AnalysisError(
            f"USD {budget:,.2f} is too little for any design with sessions of {frame.trials} trials at USD "
            f"{costs.session:,.2f}: a session needs as many units as trials, "
            + ("a slope three models." if aim == "slope" else f"and each of the {frame.models} models two sessions.")
        )
    best = _best(choices)
    same = choices[choices["models"] == best["models"]]
    good_units = same.loc[same["half width"] <= best["half width"] * (1 + NEAR), "units"]
    by_models = choices.loc[choices.groupby("models")["half width"].idxmin()].reset_index(drop=True)
    good_models = by_models.loc[by_models["half width"] <= best["half width"] * (1 + NEAR), "models"]
    frontier = by_models if aim == "slope" else same.reset_index(drop=True)
    ladder = []
    for share in LADDER:
        rung = choices if share == 1.0 else _choices(budget * share, costs, variances, aim, frame, level)
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
        frame.crossed,
        tuple(
            name
            for name, reached in (
                ("units", best["units"] == frame.most_units),
                ("models", aim == "slope" and best["models"] == frame.most_models),
            )
            if reached
        ),
    )


def _best(choices: pd.DataFrame) -> pd.Series:
    """Return the best choice; among equals the cheapest, then the one with fewest models and units."""
    order = choices.assign(close=choices["half width"].round(15))
    return order.sort_values(["close", "cost", "models", "units"]).drop(columns="close").iloc[0]


def _choices(budget: float, costs: Costs, variances: Variances, aim: Aim, frame: Frame, level: float) -> pd.DataFrame:
    """Return every number of models and units that the budget allows, with all sessions that it leaves money for."""
    parts = []
    numbers = range(3, frame.most_models + 1) if aim == "slope" else [frame.models]
    for models in numbers:
        mixed = models if frame.crossed else 1
        units = np.arange(-(-frame.trials // mixed), frame.most_units + 1)
        stimuli = costs.fixed + models * (costs.model + units * frame.conditions * costs.unit)
        per_session = costs.session * frame.conditions * (1 if frame.crossed else models)
        # A little beyond whole numbers, so that a budget that fits exactly is not lost to rounding.
        sessions = np.floor((budget - stimuli) / per_session + 1e-9)
        answers = sessions * frame.counted / mixed
        kept = (sessions >= 2) & (answers >= units - 1e-9)
        if not kept.any():
            continue
        u, s = units[kept].astype(np.float64), sessions[kept]
        error, half = goal_precision(aim, variances, frame, models, u, s, level)
        parts.append(
            pd.DataFrame(
                {
                    "models": models,
                    "units": units[kept],
                    "sessions": s.astype(np.int64),
                    "answers per unit": answers[kept] / u,
                    "cost": stimuli[kept] + s * per_session,
                    "standard error": error,
                    "half width": half,
                }
            )
        )
    columns = ["models", "units", "sessions", "answers per unit", "cost", "standard error", "half width"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def optimize(
    design: Design,
    budget: float | None = None,
    aim: Aim = "mean",
    *,
    variances: Variances | None = None,
    most_units: int = 3000,
    most_models: int = 100,
) -> Optimum:
    """Find the best split of a budget for a design's sessions, costs and truth; parameters as above.

    Parameters
    ----------
    design
        Its numbers of units and sessions, and for a slope of models, are what is weighed; all else is kept.
    budget
        What may be spent; what the design costs if None.
    variances
        The components; from the design's truth if None.
    most_units, most_models
        How many units a model has, and how many models there are to be had.
    """
    return optimize_design(
        design.cost if budget is None else budget,
        Costs.of(design),
        Variances.from_population(design.population) if variances is None else variances,
        aim,
        frame=Frame.of(design, most_units, most_models),
    )
