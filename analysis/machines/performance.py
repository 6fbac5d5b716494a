"""Proportion correct, with intervals: per model, condition, difficulty and observer.

The interval is Student's t over units, corrected for skewness by Hall's cubic transformation. It speaks for new units
of these models, answered by this observer; drawn as these were (a layer uniformly, then a unit in it), or, weighted by
the widths of layers, any unit of the model alike. Differences are paired by unit. The bias-corrected and accelerated
(BCa) bootstrap of the 2023 paper can be asked for: it covers .85 at 6 units, .91 at 16, .94 at 84 where it says .95
(``python -m tests.recovery.machine_intervals`` has all that was tried).

Where several models stand beside their random twins, one would look better or worse by luck: those verdicts are
corrected over all comparisons by one observer (Holm).

References: Hall (1992), On the removal of skewness by transformation, J. R. Stat. Soc. B 54; Efron (1987), Better
bootstrap confidence intervals, JASA 82; Holm (1979), Scand. J. Stat. 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.estimands import Drawing, known_weights, name_units, spell_estimand
from analysis.intervals.means import Interval, estimate_mean, p_of_mean
from analysis.multiple_tests import adjust_holm, spell_p
from analysis.results import AnalysisResult, Plotted, Record, spread_out
from analysis.settings import Chosen, Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate
from benchmark.model_card import TWIN_SUFFIX
from benchmark.observers.base import LOW_LEVEL, SHUFFLED
from benchmark.units import PLANTED, UNIT_COLUMNS, unit_names

CHANCE = 0.5

UNIT_KEY = [name for name in UNIT_COLUMNS if name != "model"]
"""What a unit and its counterpart in the twin share."""


def unit_means(responses: pd.DataFrame, value: str = "correct") -> pd.Series:
    """Return the mean answer per unit, indexed by everything that names a unit but its model."""
    return responses.groupby(UNIT_KEY)[value].mean()


@dataclass(frozen=True)
class MachineScore(Record):
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
    twin_p, twin_p_adjusted, twin_tests
        Its two-sided p-value against 0; the same after Holm over all comparisons with twins by this observer; and how
        many those are.
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
    twin_p: float | None = None
    twin_p_adjusted: float | None = None
    twin_tests: int = 0

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
        """What the score says, in words: trained minus twin, or whether a control is at chance as it should be.

        Trained minus twin is corrected for all comparisons with twins by this observer, shown such references.
        """
        if self.control in ("no references", "shuffled references"):
            return self._judge_control()
        difference = self.trained_minus_twin
        if difference is None:
            return ""
        p = self.twin_p_adjusted
        found = f"trained minus twin {difference}"
        if p is not None and self.twin_tests > 1:
            found += f", p {spell_p(p)} after Holm over {self.twin_tests} comparisons with twins"
        told = p < 1 - LEVEL if p is not None else difference.excludes_zero
        seen = f" with {self.control}" if self.control else ""
        if not told:
            end = "; tested alone it would be told from 0" if difference.excludes_zero else ""
            found = found if end else found.replace(str(difference), f"{difference} includes 0", 1)
            return (
                f"By {self.observer}{seen}, {self.model} ({self.condition}) is indistinguishable from its "
                f"random-weight twin: {found}{end}."
            )
        word = "better" if difference.value > 0 else "worse"
        return (
            f"By {self.observer}{seen}, {self.model} ({self.condition}) is answered {word} than its random-weight "
            f"twin: {found}."
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
        row["twin_p"], row["twin_p_adjusted"] = self.twin_p, self.twin_p_adjusted
        for name in ("score", "mis", "low_level", "excess", "twin", "trained_minus_twin"):
            row |= spread_out(name, getattr(self, name))
        return row


class MachineScores(list[MachineScore], Plotted, AnalysisResult):
    """Scores of machine observers; a notebook shows them as a table.

    ``plot(parameters={"resnet50": 25_600_000, ...})`` draws them against the size of the models.
    """

    def _draw(self, **options: Any) -> Any:
        """Draw scores against parameters, with twins and the low-level observer beside."""
        from analysis.figures import plot_machine_scores

        parameters: Mapping[str, int] = options.pop("parameters", {})
        if not parameters:
            raise AnalysisError("Scores are drawn against the size of models: plot(parameters={model: count, ...}).")
        shown = [own for own in self if own.model in parameters and own.is_headline]
        return plot_machine_scores(shown, dict(parameters), **options)

    def frame(self) -> pd.DataFrame:
        """Return one row a score, every number at full precision."""
        return pd.DataFrame([own.row() for own in self])

    def readable(self) -> pd.DataFrame:
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

    @property
    def caption(self) -> str:
        """What the numbers are."""
        if not self:
            return "No machine observer has answered yet, apart from the low-level one."
        return "Proportion correct, 95 % intervals over units. Rows with a control are no scores of a model."


@threaded
def score_machines(
    responses: pd.DataFrame,
    statistics: pd.DataFrame | None = None,
    *,
    drawing: Drawing = "layer-uniform",
    units: pd.DataFrame | None = None,
    interval: Interval = "student",
    **settings: Unpack[Settings],
) -> MachineScores:
    """Score every machine observer on every trained model.

    Every kind of references (both, max, min, none) is scored by itself, against controls that saw the same.

    Parameters
    ----------
    responses
        The table of responses; people's are ignored.
    statistics
        The table of unit statistics; flagged units are kept apart.
    drawing
        Layer-uniform, or unit-uniform, which weights each unit by the width of its layer.
    units
        Table of units, with the widths of their layers: for unit-uniform means.
    interval
        As for :func:`analysis.intervals.means.estimate_mean`.
    settings
        As for every estimator: :class:`Settings`.

    Raises
    ------
    AnalysisError
        If responses of two protocols are mixed, or a unit-uniform mean lacks the width of a layer.
    """
    chosen = choose(settings)
    # Without the many columns that no score needs: they would be moved with every choice of rows.
    needed = responses[["observer_kind", "kind", "protocol", *_CELL, *UNIT_KEY, "related", "correct", "probability"]]
    machines = needed[(needed["observer_kind"] == "machine") & (needed["kind"] == "main")]
    machines = machines[machines["model"] != PLANTED]
    if machines["protocol"].nunique() > 1:
        names = " and ".join(sorted(map(str, machines["protocol"].unique())))
        raise AnalysisError(
            f"Machines answered under {names}, and results of different protocols can't share a table. Analyse one at "
            "a time."
        )
    machines, apart = set_flagged_apart(machines, statistics)
    scores = MachineScores()
    facts = machines.groupby(_CELL, sort=True).agg(related=("related", "any"), protocol=("protocol", "first"))
    means = _means_by_cell(machines, ("correct", "probability"))
    for cell in facts.itertuples():
        model, condition, difficulty, references, observer = cell.Index
        if observer == LOW_LEVEL or model.endswith(TWIN_SUFFIX):
            continue
        same = (condition, difficulty, references)
        own = means["correct"][cell.Index]
        # Answers to shuffled references check an observer; nothing is to be subtracted from them.
        low_level = None if observer.endswith(SHUFFLED) else means["correct"].get((model, *same, LOW_LEVEL))
        twin = means["correct"].get((model + TWIN_SUFFIX, *same, observer))
        sure = means["probability"].get(cell.Index)
        question = _Question(model, drawing, units, chosen, interval)
        scores.append(
            MachineScore(
                model=model,
                condition=condition,
                difficulty=difficulty,
                references=references,
                observer=observer,
                protocol=str(cell.protocol),
                related=bool(cell.related),
                kept_apart=apart.get(model, 0),
                score=question.mean(own, "proportion correct", observer),
                mis=None if sure is None else question.mean(sure, "probability", observer),
                low_level=None if low_level is None else question.mean(low_level, "proportion correct", LOW_LEVEL),
                excess=question.difference(own, low_level, f"{observer} minus {LOW_LEVEL}"),
                twin=None if twin is None else question.mean(twin, "proportion correct", observer),
                trained_minus_twin=question.difference(own, twin, observer),
                twin_p=question.p_of_difference(own, twin),
            )
        )
    return _corrected(scores)


_CELL = ["model", "condition", "difficulty", "references", "observer"]
"""What is asked and answered alike: one row of scores."""


def _means_by_cell(machines: pd.DataFrame, values: Sequence[str]) -> dict[str, dict[tuple[str, ...], pd.Series]]:
    """Return, by value and cell, the mean of each unit, indexed as by :func:`unit_means`: all in one pass.

    A unit that has no value in a cell is not there, and neither is a cell without one.
    """
    found: dict[str, dict[tuple[str, ...], pd.Series]] = {}
    table = machines.groupby([*_CELL, *UNIT_KEY])[list(values)].mean()
    for value in values:
        known = table[value].dropna()
        parts = known.groupby(level=_CELL, sort=False)
        found[value] = {cell: part.droplevel(_CELL) for cell, part in parts}
    return found


def _corrected(scores: MachineScores) -> MachineScores:
    """Correct each observer's comparisons with twins, shown the same kind of references, for their number."""
    found = MachineScores(scores)
    for asked in {(score.observer, score.references) for score in scores}:
        own = [n for n, score in enumerate(scores) if (score.observer, score.references) == asked]
        places = [n for n in own if scores[n].twin_p is not None]
        adjusted = adjust_holm([p for n in places if (p := scores[n].twin_p) is not None])
        for place, p in zip(places, adjusted):
            found[place] = replace(found[place], twin_p_adjusted=float(p), twin_tests=len(places))
    return found


def set_flagged_apart(responses: pd.DataFrame, statistics: pd.DataFrame | None) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave flagged units out; returns the rest, and how many were left out of each model."""
    if statistics is None:
        return responses, {}
    flagged = statistics[statistics["used"] & (statistics["flag"] != "")]
    if flagged.empty:
        return responses, {}
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
    settings: Chosen
    interval: Interval = "student"

    def mean(self, values: pd.Series, unit: str, observer: str) -> Estimate:
        """Estimate the mean of one number per unit, indexed by what names a unit but its model."""
        estimand = spell_estimand("new units", self.drawing, observer)
        return estimate_mean(
            values.to_numpy(), unit=unit, seed=self.settings.seed, estimand=estimand, weights=self._weights(values),
            level=self.settings.level, interval=self.interval,
        )  # fmt: skip

    def _weights(self, values: pd.Series) -> NDArray[np.float64] | None:
        """Return how much each unit counts; None where all count alike."""
        if self.drawing != "unit-uniform":
            return None
        layers = None if self.units is None else name_units(self.units)
        names = unit_names(values.index.to_frame(index=False).assign(model=self.model))
        return known_weights(names, layers, self.drawing)

    def difference(self, first: pd.Series, second: pd.Series | None, observer: str) -> Estimate | None:
        """Estimate the mean difference of two sets of units' means on the units they share."""
        paired = _pair(first, second)
        return None if paired is None else self.mean(paired, "difference of proportions correct", observer)

    def p_of_difference(self, first: pd.Series, second: pd.Series | None) -> float | None:
        """Return the p-value of that mean difference against 0; None where there is none."""
        paired = _pair(first, second)
        return None if paired is None else p_of_mean(paired.to_numpy(), self._weights(paired))


def _pair(first: pd.Series, second: pd.Series | None) -> pd.Series | None:
    """Return the differences of two sets of units' means on the units they share; None without any."""
    if second is None:
        return None
    paired = pd.concat([first, second], axis=1, join="inner")
    return None if paired.empty else paired.iloc[:, 0] - paired.iloc[:, 1]


@threaded
def observer_check(responses: pd.DataFrame, **settings: Unpack[Settings]) -> pd.DataFrame:
    """Return each machine observer's proportion correct on the planted units, whose truth is known.

    Only answers to tasks that show both sides count: where a side is missing, an honest observer may fail.
    """
    chosen = choose(settings)
    machines = responses[responses["observer_kind"] == "machine"]
    planted = machines[(machines["kind"] == "catch") & (machines["references"] == "both")]
    rows = [
        {"observer": observer, "condition": condition, "planted units": _planted(own, observer, chosen)}
        for (observer, condition), own in planted.groupby(["observer", "condition"], sort=True)
    ]
    return pd.DataFrame(rows)


def _planted(responses: pd.DataFrame, observer: str, settings: Chosen) -> Estimate:
    """Estimate an observer's proportion correct on planted units."""
    estimand = spell_estimand("new units", observer=observer)
    values = unit_means(responses).to_numpy()
    return estimate_mean(values, unit="proportion correct", seed=settings.seed, estimand=estimand, level=settings.level)
