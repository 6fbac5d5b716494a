"""Proportion correct, with intervals: per model, condition, difficulty and observer.

The interval is a bias-corrected and accelerated (BCa) bootstrap over units, as in the 2023 paper. It speaks for
new units of these models, answered by this observer; drawn as these were (a layer uniformly, then a unit in it), or,
weighted by the widths of layers, any unit of the model alike. Differences are paired by unit.

Reference: Efron (1987), Better bootstrap confidence intervals, JASA 82.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, bootstrap, norm

from analysis.estimands import Drawing, known_weights, name_units, spell_estimand
from analysis.rows import spread_out
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.model_card import TWIN_SUFFIX
from benchmark.observers.base import LOW_LEVEL, SHUFFLED
from benchmark.units import PLANTED, UNIT_COLUMNS, unit_names

CHANCE = 0.5

RESAMPLES = 10_000
LEVEL = 0.95
ESTIMAND = spell_estimand("new units", observer="this observer")
"""What a mean over units speaks for, unless its observer is named."""

ROUNDING = 1e-12
"""Units whose values lie no further apart all agree: shares of answers differ by more, sums of floats by less."""

UNIT_KEY = [name for name in UNIT_COLUMNS if name != "model"]
"""What a unit and its counterpart in the twin share."""


def unit_means(responses: pd.DataFrame, value: str = "correct") -> pd.Series:
    """Return the mean answer per unit, indexed by everything that names a unit but its model."""
    return responses.groupby(UNIT_KEY)[value].mean()


def estimate_mean(
    values: NDArray[np.floating],
    *,
    unit: str,
    seed: int = 0,
    estimand: str = ESTIMAND,
    weights: NDArray[np.floating] | None = None,
    level: float = LEVEL,
) -> Estimate:
    """Estimate the mean of a unit-level quantity.

    Parameters
    ----------
    values
        Shape (units,): one number per unit.
    unit
        Unit of measurement.
    seed
        Of the bootstrap.
    estimand
        What the mean speaks for.
    weights
        Shape (units,): how much each unit counts; all alike if None.
    level
        Coverage of the interval.

    Returns
    -------
    The mean with a BCa interval over units, which are ordered by their values before they are resampled: neither
    their names nor their order matter. Where all units agree, a bootstrap has nothing to resample: a proportion then
    gets Wilson's interval for so many units, and anything else says that it has none.

    Raises
    ------
    ValueError
        If there are no units.
    """
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        raise ValueError("There are no units to estimate from.")
    shares = np.ones(len(data)) if weights is None else np.asarray(weights, dtype=np.float64)
    mean = float(data.mean()) if weights is None else float(np.average(data, weights=shares))
    if np.ptp(data) <= ROUNDING:
        return _without_spread(float(np.median(data)), len(data), unit, estimand, level)
    order = np.lexsort((shares, data))
    data, shares = data[order], shares[order]
    even = bool(np.ptp(shares) == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        interval = bootstrap(
            (data,) if even else (data, shares),
            np.mean if even else _weighted_mean,
            n_resamples=RESAMPLES,
            confidence_level=level,
            method="BCa",
            batch=1000,
            paired=not even,
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    if not (np.isfinite(low) and np.isfinite(high)):
        return _without_spread(mean, len(data), unit, estimand, level)
    return Estimate(mean, min(low, mean), max(high, mean), "BCa bootstrap over units", len(data), unit, estimand, level)


def _weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Return the weighted mean along an axis."""
    mean: NDArray[np.float64] = (values * weights).sum(axis=axis) / weights.sum(axis=axis)
    return mean


def _without_spread(mean: float, count: int, unit: str, estimand: str, level: float) -> Estimate:
    """Return the estimate of units that all agree."""
    if unit.startswith("proportion") and 0 <= mean <= 1:
        # Wilson (1927), with as many answers as there are units.
        square = float(norm.ppf((1 + level) / 2)) ** 2
        middle = (mean + square / (2 * count)) / (1 + square / count)
        half = math.sqrt(square * (mean * (1 - mean) / count + square / (4 * count**2))) / (1 + square / count)
        low, high = max(0.0, middle - half), min(1.0, middle + half)
        method = "Wilson interval, all units agree"
    else:
        low, high = (0.0, 1.0) if unit == "probability" else (-math.inf, math.inf)
        if unit.startswith("difference of proportions"):
            low, high = -1.0, 1.0
        method = "no interval: all units agree"
    return Estimate(mean, min(low, mean), max(high, mean), method, count, unit, estimand, level)


@dataclass(frozen=True)
class MachineScore:
    """How well a machine observer answers for one model, condition, difficulty and kind of references.

    Attributes
    ----------
    score
        Proportion correct.
    mis
        Machine Interpretability Score: mean probability of the right answer; None if no answer has a probability.
    low_level
        Proportion correct of the low-level observer on the same tasks; None if it has not answered.
    excess
        Score minus low-level, paired by unit: the headline of a machine row.
    twin
        Proportion correct on the random-weight twin; None if there is none.
    trained_minus_twin
        Score minus twin, paired by unit.
    related
        Whether the observer is a relative of the model; such scores are never ranked.
    kept_apart
        Units that are flagged, and left out of all these numbers.
    """

    model: str
    condition: str
    difficulty: str
    references: str
    observer: str
    protocol: str
    related: bool
    kept_apart: int
    score: Estimate
    mis: Estimate | None
    low_level: Estimate | None
    excess: Estimate | None
    twin: Estimate | None
    trained_minus_twin: Estimate | None

    @property
    def is_headline(self) -> bool:
        """Whether the observer saw both sides of the references, as they belong; everything else is a control."""
        return self.references == "both" and not self.observer.endswith(SHUFFLED)

    @property
    def control(self) -> str:
        """What this score is a control of: ``no references``, ``shuffled references``, ``max references alone``."""
        if self.observer.endswith(SHUFFLED):
            return "shuffled references"
        return {"both": "", "none": "no references"}.get(self.references, f"{self.references} references alone")

    @property
    def verdict(self) -> str:
        """What the score says, in words: trained minus twin, or whether a control is at chance as it should be."""
        if self.control in ("no references", "shuffled references"):
            return self._judge_control()
        difference = self.trained_minus_twin
        if difference is None:
            return ""
        seen = f" with {self.control}" if self.control else ""
        if not difference.excludes_zero:
            return (
                f"By {self.observer}{seen}, {self.model} ({self.condition}) is indistinguishable from its "
                f"random-weight twin: trained minus twin {difference} includes 0."
            )
        word = "better" if difference.value > 0 else "worse"
        return (
            f"By {self.observer}{seen}, {self.model} ({self.condition}) is answered {word} than its random-weight "
            f"twin: trained minus twin {difference}."
        )

    def _judge_control(self) -> str:
        """Say whether an observer without usable references is at chance."""
        name = self.observer.removesuffix(SHUFFLED)
        subject = f"Control, {self.control}: by {name}, {self.model} ({self.condition}) {self.score}"
        if self.score.low <= CHANCE <= self.score.high:
            return f"{subject}, at chance as it should be."
        side = "above" if self.score.value > CHANCE else "below"
        return f"{subject}, {side} chance: the queries alone give something away."

    def row(self) -> dict[str, Any]:
        """Return the score as a row of a table: each estimate with its interval."""
        row: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "model",
                "condition",
                "difficulty",
                "references",
                "observer",
                "protocol",
                "related",
                "kept_apart",
            )
        }
        row["units"] = self.score.n
        for name in ("score", "mis", "low_level", "excess", "twin", "trained_minus_twin"):
            row |= spread_out(name, getattr(self, name))
        return row


class MachineScores(list[MachineScore]):
    """Scores of machine observers; a notebook shows them as a table."""

    def frame(self) -> pd.DataFrame:
        """Return the scores as people read them: one row each, every estimate written out with its interval."""
        rows = []
        for own in self:
            named = {
                "correct": own.score, "low-level": own.low_level, "excess": own.excess, "twin": own.twin,
                "trained - twin": own.trained_minus_twin,
            }  # fmt: skip
            rows.append(
                {
                    "model": own.model, "condition": own.condition, "difficulty": own.difficulty,
                    "control": own.control or "–", "observer": own.observer,
                    **{name: str(estimate) if estimate else "–" for name, estimate in named.items()},
                    "units": own.score.n,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        if not self:
            return "<p>No machine observer has answered yet, apart from the low-level one.</p>"
        said = "Proportion correct, 95 % intervals over units. Rows with a control are no scores of a model."
        return f"<p>{said}</p>{self.frame().to_html(index=False)}"


def score_machines(
    responses: pd.DataFrame,
    statistics: pd.DataFrame | None = None,
    seed: int = 0,
    *,
    drawing: Drawing = "layer-uniform",
    units: pd.DataFrame | None = None,
) -> MachineScores:
    """Score every machine observer on every trained model.

    Every kind of references (both, max, min, none) is scored by itself, against controls that saw the same.

    Parameters
    ----------
    responses
        The table of responses; people's are ignored.
    statistics
        The table of unit statistics; flagged units are kept apart.
    seed
        Of the bootstrap.
    drawing
        Layer-uniform, or unit-uniform, which weights each unit by the width of its layer.
    units
        Table of units, with the widths of their layers: for unit-uniform means.

    Raises
    ------
    AnalysisError
        If responses of two protocols are mixed, or a unit-uniform mean lacks the width of a layer.
    """
    machines = responses[(responses["observer_kind"] == "machine") & (responses["kind"] == "main")]
    machines = machines[machines["model"] != PLANTED]
    if machines["protocol"].nunique() > 1:
        names = " and ".join(sorted(map(str, machines["protocol"].unique())))
        raise AnalysisError(
            f"Machines answered under {names}, and results of two protocols never share a table: analyse one at a time."
        )
    machines, apart = set_flagged_apart(machines, statistics)
    scores = MachineScores()
    trained = machines[~machines["model"].str.endswith(TWIN_SUFFIX)]
    keys = ["model", "condition", "difficulty", "references", "observer"]
    for (model, condition, difficulty, references, observer), own in trained.groupby(keys, sort=True):
        if observer == LOW_LEVEL:
            continue
        same = machines[
            (machines["condition"] == condition)
            & (machines["difficulty"] == difficulty)
            & (machines["references"] == references)
        ]
        # Answers to shuffled references check an observer; nothing is to be subtracted from them.
        control = same[(same["model"] == model) & (same["observer"] == LOW_LEVEL) & (not observer.endswith(SHUFFLED))]
        twin = same[(same["model"] == model + TWIN_SUFFIX) & (same["observer"] == observer)]
        question = _Question(model, drawing, units, seed)
        sure = own[own["probability"].notna()]
        scores.append(
            MachineScore(
                model=model,
                condition=condition,
                difficulty=difficulty,
                references=references,
                observer=observer,
                protocol=str(own["protocol"].iloc[0]),
                related=bool(own["related"].any()),
                kept_apart=apart.get(model, 0),
                score=question.mean(unit_means(own), "proportion correct", observer),
                mis=question.mean(unit_means(sure, "probability"), "probability", observer) if len(sure) else None,
                low_level=question.mean(unit_means(control), "proportion correct", LOW_LEVEL) if len(control) else None,
                excess=question.difference(own, control, f"{observer} minus {LOW_LEVEL}"),
                twin=question.mean(unit_means(twin), "proportion correct", observer) if len(twin) else None,
                trained_minus_twin=question.difference(own, twin, observer),
            )
        )
    return scores


def set_flagged_apart(responses: pd.DataFrame, statistics: pd.DataFrame | None) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave flagged units out; returns the rest, and how many were left out of each model."""
    if statistics is None:
        return responses, {}
    flagged = statistics[statistics["used"] & (statistics["flag"] != "")]
    names = set(flagged[UNIT_COLUMNS].itertuples(index=False, name=None))
    kept = [key not in names for key in responses[UNIT_COLUMNS].itertuples(index=False, name=None)]
    return responses[np.array(kept, dtype=bool)], flagged["model"].value_counts().to_dict()


@dataclass(frozen=True)
class _Question:
    """Which units of a model count how much.

    A twin's units have the weights of the trained model's: they are the same places in the same architecture.
    """

    model: str
    drawing: Drawing
    units: pd.DataFrame | None
    seed: int

    def mean(self, values: pd.Series, unit: str, observer: str) -> Estimate:
        """Estimate the mean of one number per unit, indexed by what names a unit but its model."""
        weights = None
        if self.drawing == "unit-uniform":
            layers = None if self.units is None else name_units(self.units)
            names = unit_names(values.index.to_frame(index=False).assign(model=self.model))
            weights = known_weights(names, layers, self.drawing)
        estimand = spell_estimand("new units", self.drawing, observer)
        return estimate_mean(values.to_numpy(), unit=unit, seed=self.seed, estimand=estimand, weights=weights)

    def difference(self, first: pd.DataFrame, second: pd.DataFrame, observer: str) -> Estimate | None:
        """Estimate the mean difference of two sets of answers on the units they share."""
        if first.empty or second.empty:
            return None
        paired = pd.concat([unit_means(first), unit_means(second)], axis=1, join="inner")
        if paired.empty:
            return None
        return self.mean(paired.iloc[:, 0] - paired.iloc[:, 1], "difference of proportions correct", observer)


def score_table(scores: list[MachineScore]) -> pd.DataFrame:
    """Return scores as a table, one row each."""
    return pd.DataFrame([score.row() for score in scores])


def observer_check(responses: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return each machine observer's proportion correct on the planted units, whose truth is known.

    Only answers to tasks that show both sides count: where a side is missing, an honest observer may fail.
    """
    machines = responses[responses["observer_kind"] == "machine"]
    planted = machines[(machines["kind"] == "catch") & (machines["references"] == "both")]
    rows = [
        {"observer": observer, "condition": condition, "planted units": _planted(own, observer, seed)}
        for (observer, condition), own in planted.groupby(["observer", "condition"], sort=True)
    ]
    return pd.DataFrame(rows)


def _planted(responses: pd.DataFrame, observer: str, seed: int) -> Estimate:
    """Estimate an observer's proportion correct on planted units."""
    estimand = spell_estimand("new units", observer=observer)
    return estimate_mean(unit_means(responses).to_numpy(), unit="proportion correct", seed=seed, estimand=estimand)
