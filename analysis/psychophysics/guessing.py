"""Guessing: how often people are right without references.

The proportion correct is read against a guess rate of one half. Whoever is right more, or less, often than by half
without references knows something of the queries alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, t

from analysis.estimands import spell_estimand
from analysis.multiple_tests import adjust_holm, spell_p
from analysis.psychophysics.cells import ALL_ANSWERS, main_trials
from analysis.psychophysics.learning import straight_line
from analysis.results import Plotted, Record
from analysis.sandwich import Clusters, clustered_estimate, clustered_proportion
from analysis.settings import Settings, choose
from analysis.threads import threaded
from analysis.variance_components import split_variance
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

GUESS = 0.5


@dataclass(frozen=True)
class GuessingCheck(Plotted, Record):
    """What trials without references say of the guess rate.

    Attributes
    ----------
    proportion
        Proportion right, clustered by unit and participant.
    p
        p of a proportion of one half, with the same clustering.
    p_participants
        p of a mean proportion over participants of one half: Student's t, one value a participant; 1 where there are
        fewer than two.
    p_answers
        p by the binomial distribution, as if all answers were independent; for comparison with those who report it.
    unit_spread
        Standard deviation between units of the true proportion; None where it can't be told from chance (too few
        answers a unit).
    units, people
        One row each: ``answers``, ``right``, ``proportion``, exact (Clopper-Pearson) ends ``low`` and ``high``, ``p``
        of one half (binomial), ``p_holm``, and ``departs`` (``p_holm`` below .05).
    drift
        Change of the proportion from the first trial of a session to the last: whether people learn to do without
        references; None where all such trials have the same place.
    seen, not_seen
        Proportion right about units that the person had, or had not, seen with references before; None if none is so.
    """

    proportion: Estimate
    p: float
    p_participants: float
    p_answers: float
    unit_spread: Estimate | None
    units: pd.DataFrame
    people: pd.DataFrame
    drift: Estimate | None
    seen: Estimate | None
    not_seen: Estimate | None

    @property
    def verdict(self) -> str:
        """What the check says, in words."""
        share = self.proportion
        text = f"Without references {share} of the answers are right ({int(self.units['answers'].sum()):,} answers"
        text += f", p {spell_p(self.p)} against one half"
        if self.p < 0.05:
            side = "above" if share.value > GUESS else "below"
            text += f"): the queries alone push answers {side} chance, so a guess rate of one half does not hold here."
        elif share.low <= 0.45 or share.high >= 0.55:
            text += "): no departure from one half is shown, but one of 5 points or more is not excluded either."
        else:
            text += "): a guess rate of one half holds within 5 points."
        if self.unit_spread is not None and self.unit_spread.low > 0:
            text += f" Units differ: their guess rates have a standard deviation of {self.unit_spread}."
        for table, word in ((self.units, "unit"), (self.people, "participant")):
            count = int(table["departs"].sum())
            if count:
                text += f" {count} of {len(table):,} {word}s {'departs' if count == 1 else 'depart'} from it (Holm)."
        return text

    def _draw(self, **options: Any) -> Any:
        """Draw the proportion right of every person and unit."""
        from analysis.figures import plot_guessing

        return plot_guessing(*guessing_points(self), **options)


def guessing_points(guessing: GuessingCheck) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the data of the figure: one row a person and unit, and the mean that stands behind both."""
    parts = []
    for kind, table in (("people", guessing.people), ("units", guessing.units)):
        own = table.reset_index()
        name = "participant" if "participant" in own else "unit" if "unit" in own else str(own.columns[0])
        own = own.rename(columns={name: "name", "proportion": "value", "departs": "flagged"})
        parts.append(own[["name", "value", "low", "high", "flagged", "answers"]].assign(kind=kind))
    drawn = pd.concat(parts, ignore_index=True)
    drawn["name"] = drawn["name"].astype(str)
    whole = guessing.proportion
    overall = pd.DataFrame(
        [{"kind": kind, "value": whole.value, "low": whole.low, "high": whole.high} for kind in ("people", "units")]
    )
    return drawn, overall


@threaded
def check_guessing(table: pd.DataFrame, **settings: Unpack[Settings]) -> GuessingCheck:
    """Test the guess rate of one half on trials without references.

    Parameters
    ----------
    table
        Table of judgements, with those without references; main trials alone are used.
    settings
        As for every estimator: :class:`Settings`.

    Raises
    ------
    AnalysisError
        If no answer was given without references.
    """
    level = choose(settings).level
    own = main_trials(table)
    own = own[own["references"].astype(str) == "none"]
    if own.empty:
        raise AnalysisError(
            "No answer was given without references, so the guess rate can't be tested. Take the table from "
            f"{ALL_ANSWERS}, or ask some trials without references ([session] references_none)."
        )
    correct = own["correct"].to_numpy(np.float64)
    clusters = Clusters.of(own)
    proportion = clustered_proportion(
        correct, clusters, unit="proportion correct without references", level=level,
    )  # fmt: skip
    by_person = _mean_by(own, "participant")
    units, people = _against_half(own, "unit", level), _against_half(own, "participant", level)
    seen = _seen_before(table, own)
    return GuessingCheck(
        proportion=proportion,
        p=clusters.p_value(float(correct.mean()) - GUESS, (correct - correct.mean()) / len(correct)),
        p_participants=_t_test(by_person - GUESS),
        p_answers=float(binomtest(int(correct.sum()), len(correct), GUESS).pvalue),
        unit_spread=_unit_spread(own, level),
        units=units,
        people=people,
        drift=_drift(own, level),
        seen=_proportion(own[seen], level),
        not_seen=_proportion(own[~seen], level),
    )


def _against_half(own: pd.DataFrame, by: str, level: float) -> pd.DataFrame:
    """Test each unit's, or participant's, proportion against one half."""
    from statsmodels.stats.proportion import proportion_confint

    counts = own.groupby(own[by].astype(str), sort=True)["correct"].agg(["size", "sum"])
    answers, right = counts["size"].to_numpy(np.int64), counts["sum"].to_numpy(np.int64)
    low, high = proportion_confint(right, answers, alpha=1 - level, method="beta")
    p = np.array([float(binomtest(int(k), int(n), GUESS).pvalue) for k, n in zip(right, answers)])
    p_holm = adjust_holm(p)
    return pd.DataFrame(
        {
            by: counts.index.to_numpy(), "answers": answers, "right": right, "proportion": right / answers,
            "low": np.asarray(low), "high": np.asarray(high), "p": p, "p_holm": p_holm, "departs": p_holm < 0.05,
        }
    )  # fmt: skip


def _unit_spread(own: pd.DataFrame, level: float) -> Estimate | None:
    """Estimate the standard deviation of the units' true proportions, from variance components."""
    by_unit = own.groupby(own["unit"].astype(str))["correct"].agg(["size", "sum"]).to_numpy(np.float64)
    by_person = own.groupby(own["participant"].astype(str))["correct"].agg(["size", "sum"]).to_numpy(np.float64)
    parts = split_variance(by_unit[:, 0], by_unit[:, 1], by_person[:, 0], by_person[:, 1])
    if parts is None or not parts.spreads or parts.answers / parts.units < 2:
        return None
    low, high = (math.sqrt(end.unit) for end in parts.unit_ends())
    value = math.sqrt(parts.unit)
    method = "variance components (method of moments, crossed units and participants), chi-square interval"
    estimand = spell_estimand("new units and people")
    return Estimate(
        value, min(low, value), max(high, value), method, parts.units, "proportion correct", estimand, level
    )


def _seen_before(table: pd.DataFrame, own: pd.DataFrame) -> NDArray[np.bool_]:
    """Return whether the session had shown each answer's unit with references before."""
    shown = table[table["references"].astype(str) != "none"]
    first = shown.groupby([shown["session"].astype(str), shown["unit"].astype(str)])["trial_index"].min()
    keys = pd.MultiIndex.from_arrays([own["session"].astype(str), own["unit"].astype(str)])
    earliest = first.reindex(keys).to_numpy(np.float64)
    before: NDArray[np.bool_] = np.nan_to_num(earliest, nan=np.inf) < own["trial_index"].to_numpy(np.float64)
    return before


def _drift(own: pd.DataFrame, level: float) -> Estimate | None:
    place, correct = own["trial_index"].to_numpy(np.float64), own["correct"].to_numpy(np.float64)
    if np.ptp(place) == 0:
        return None
    value, influence = straight_line(place, correct)
    return clustered_estimate(
        value, influence, Clusters.of(own), unit="change of the proportion correct over a session", level=level,
    )  # fmt: skip


def _mean_by(own: pd.DataFrame, by: str) -> NDArray[np.float64]:
    means: NDArray[np.float64] = own.groupby(own[by].astype(str), sort=True)["correct"].mean().to_numpy(np.float64)
    return means


def _t_test(distances: NDArray[np.float64]) -> float:
    """Return the two-sided p of a mean of 0."""
    count = len(distances)
    if count < 2:
        return 1.0
    error = float(distances.std(ddof=1)) / math.sqrt(count)
    if error == 0.0:
        return 1.0 if distances[0] == 0 else 0.0
    return float(2 * t.sf(abs(float(distances.mean())) / error, count - 1))


def _proportion(own: pd.DataFrame, level: float) -> Estimate | None:
    if own.empty:
        return None
    return clustered_proportion(
        own["correct"].to_numpy(np.float64),
        Clusters.of(own),
        unit="proportion correct without references",
        level=level,
    )
