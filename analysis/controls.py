"""Checks on what a proportion correct means: guessing, one side's share, learning, consistency and reaction times.

The proportion correct is read against a guess rate of one half. Trials without references test that: whoever is right
there more, or less, often than by half knows something of the queries alone. Trials with one side of references say
which side carries the task. The place of a trial in its session says whether people learn. Repeated trials say how far
a person agrees with themselves. Reaction times say whether wrong answers are hasty ones.

All take a table of judgements. Trials without references and repeated trials are left out of such a table unless they
are asked for: ``judgements(responses, references=None, kinds=("main", "repeated"))`` has them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import binomtest, t

from analysis.estimands import spell_estimand
from analysis.sandwich import LEVEL, Clusters, clustered_estimate, clustered_proportion
from analysis.variance_components import split_variance
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.protocol import REFERENCES

GUESS = 0.5
RESAMPLES = 2000
ALL_ANSWERS = 'judgements(responses, references=None, kinds=("main", "repeated"))'

_BY_PERSON = spell_estimand("new people")


# ------------------------------------------------------------------------------------------------ guessing


@dataclass(frozen=True)
class GuessingCheck:
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
        text += f", p = {self.p:.3f} against one half"
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
                text += f" {count} {word}{'s' if count > 1 else ''} of {len(table):,} depart from it (Holm)."
        return text


def check_guessing(table: pd.DataFrame, level: float = LEVEL) -> GuessingCheck:
    """Test the guess rate of one half on trials without references.

    Parameters
    ----------
    table
        Table of judgements, with those without references; main trials alone are used.
    level
        Coverage of the intervals.

    Raises
    ------
    AnalysisError
        If no answer was given without references.
    """
    own = _main(table)
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
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint

    counts = own.groupby(own[by].astype(str), sort=True)["correct"].agg(["size", "sum"])
    answers, right = counts["size"].to_numpy(np.int64), counts["sum"].to_numpy(np.int64)
    low, high = proportion_confint(right, answers, alpha=1 - level, method="beta")
    p = np.array([float(binomtest(int(k), int(n), GUESS).pvalue) for k, n in zip(right, answers)])
    holm = multipletests(p, method="holm")[1]
    return pd.DataFrame(
        {
            by: counts.index.to_numpy(), "answers": answers, "right": right, "proportion": right / answers,
            "low": np.asarray(low), "high": np.asarray(high), "p": p, "p_holm": holm, "departs": holm < 0.05,
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


# ------------------------------------------------------------------------------------------------ one side


@dataclass(frozen=True)
class ReferencesComparison:
    """Proportions correct with both sides of references, one, or none, in one cell.

    Attributes
    ----------
    cell
        What the cell is: ``{"model": "resnet50", "condition": "natural"}``.
    proportions
        For each kind of references shown: the proportion correct.
    differences
        For each kind but ``both``: its proportion less that with both sides; empty where both were never shown.
    max_minus_min
        Proportion with the maximal side alone less that with the minimal side alone; None unless both kinds exist.
    """

    cell: dict[str, str]
    proportions: dict[str, Estimate]
    differences: dict[str, Estimate]
    max_minus_min: Estimate | None

    @property
    def verdict(self) -> str:
        """Which side carries the task, in words."""
        name = " ".join(self.cell.values())
        parts = ", ".join(f"{kind} {estimate}" for kind, estimate in self.proportions.items())
        if self.max_minus_min is None:
            return f"{name}: {parts}."
        if not self.max_minus_min.excludes_zero:
            return f"{name}: {parts}; neither side alone is shown to carry more than the other."
        side = "maximal" if self.max_minus_min.value > 0 else "minimal"
        return f"{name}: {parts}; the {side} side alone carries more (difference {self.max_minus_min})."

    def table(self) -> pd.DataFrame:
        """Return one row for each kind of references, with the difference from both sides."""
        rows = []
        for kind, estimate in self.proportions.items():
            difference = self.differences.get(kind)
            rows.append(
                {
                    **self.cell, "references": kind, "value": estimate.value, "low": estimate.low,
                    "high": estimate.high, "difference": difference.value if difference else None,
                    "difference_low": difference.low if difference else None,
                    "difference_high": difference.high if difference else None,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)


def compare_references(
    table: pd.DataFrame, by: Sequence[str] = ("model", "condition"), level: float = LEVEL
) -> list[ReferencesComparison]:
    """Compare answers to trials with both sides of references, one side, and none.

    Parameters
    ----------
    table
        Table of judgements, with all kinds of references; main trials alone are used.
    by
        Columns that make the cells.
    level
        Coverage of the intervals, two-way clustered; differences are not paired, but share their clusters.

    Raises
    ------
    AnalysisError
        If the table shows a single kind of references.
    """
    own = _main(table)
    kinds = own["references"].astype(str)
    if kinds.nunique() < 2:
        raise AnalysisError(
            f"All {len(own):,} answers were given with references {kinds.iloc[0]!r}: there is nothing to compare. Take "
            f"the table from {ALL_ANSWERS}, or ask some trials with one side or none ([session] references)."
        )
    results = []
    for cell, part in _cells(own, by):
        shown = part["references"].astype(str).to_numpy()
        correct = part["correct"].to_numpy(np.float64)
        clusters = Clusters.of(part)

        def difference(
            first: str,
            second: str,
            shown: NDArray[Any] = shown,
            correct: NDArray[np.float64] = correct,
            clusters: Clusters = clusters,
        ) -> Estimate:
            return _difference(correct, shown == first, shown == second, clusters, level)

        present: list[str] = [kind for kind in REFERENCES if (shown == kind).any()]
        proportions = {
            kind: clustered_proportion(
                correct[shown == kind], Clusters.of(part[shown == kind]), unit="proportion correct", level=level,
            )
            for kind in present
        }  # fmt: skip
        others = {kind: difference(kind, "both") for kind in present if kind != "both" and "both" in present}
        sides = difference("max", "min") if {"max", "min"} <= set(present) else None
        results.append(ReferencesComparison(cell, proportions, others, sides))
    return results


# ------------------------------------------------------------------------------------------------ learning


@dataclass(frozen=True)
class Learning:
    """How answers change over a session, in one cell.

    Attributes
    ----------
    cell
        What the cell is.
    slope
        Change of the proportion correct from the first trial of the cell to the last, by a straight line.
    p
        p of no change.
    log_odds
        The same change by logistic regression, in log odds; None where it has no finite estimate.
    first_half, second_half
        Proportions up to the cell's median trial index, and beyond it.
    difference
        Second half less first.
    """

    cell: dict[str, str]
    slope: Estimate
    p: float
    log_odds: Estimate | None
    first_half: Estimate
    second_half: Estimate
    difference: Estimate

    @property
    def verdict(self) -> str:
        """What the cell says of learning, in words."""
        name, halves = " ".join(self.cell.values()), f"{self.first_half} in the first half, {self.second_half} after"
        if not self.slope.excludes_zero:
            return f"{name}: no change over a session is shown ({halves}; p = {self.p:.3f})."
        word = "improve" if self.slope.value > 0 else "get worse"
        return f"{name}: people {word} over a session by {self.slope} ({halves}; p = {self.p:.3f})."


def learning_curve(
    table: pd.DataFrame,
    by: Sequence[str] = ("model", "condition", "references"),
    *,
    factors: Sequence[str] = ("unit", "participant"),
    level: float = LEVEL,
) -> list[Learning]:
    """Estimate how answers change over a session.

    Parameters
    ----------
    table
        Table of judgements; main trials alone are used.
    by
        Columns that make the cells.
    factors
        What answers hang together through: ``("participant",)`` speaks for new people and these units.
    level
        Coverage of the intervals.

    Raises
    ------
    AnalysisError
        If all trials of a cell have the same place in their sessions.
    """
    results = []
    for cell, own in _cells(_main(table), by):
        place, correct = own["trial_index"].to_numpy(np.float64), own["correct"].to_numpy(np.float64)
        if np.ptp(place) == 0:
            raise AnalysisError(
                f"Learning of {' '.join(cell.values())} can't be seen: all its trials have the same place in their "
                "sessions. Leave this analysis out."
            )
        clusters = Clusters.of(own, factors)
        value, influence = _line(place, correct)
        slope = clustered_estimate(
            value, influence, clusters, unit="change of the proportion correct over a session", level=level,
        )  # fmt: skip
        early = place <= np.median(place)
        if early.all():  # more than half of the trials come last
            early = place < place.max()
        halves = [
            clustered_proportion(
                correct[half],
                Clusters.of(own[half], factors),
                unit="proportion correct",
                level=level,
            )
            for half in (early, ~early)
        ]
        results.append(
            Learning(
                cell=cell,
                slope=slope,
                p=clusters.p_value(value, influence),
                log_odds=_logistic(place, correct, clusters, level),
                first_half=halves[0],
                second_half=halves[1],
                difference=_difference(correct, ~early, early, clusters, level),
            )
        )
    return results


def _line(place: NDArray[np.float64], correct: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the change of a straight line over the whole range, and each answer's influence on it."""
    centred = (place - place.mean()) / np.ptp(place)
    spread = float((centred**2).sum())
    value = float((centred * correct).sum()) / spread
    influence: NDArray[np.float64] = centred * (correct - correct.mean() - value * centred) / spread
    return value, influence


def _logistic(
    place: NDArray[np.float64], correct: NDArray[np.float64], clusters: Clusters, level: float
) -> Estimate | None:
    """Return the change over the whole range in log odds, by Newton's method."""
    if correct.min() == correct.max():
        return None
    design = np.column_stack([np.ones(len(place)), (place - place.mean()) / np.ptp(place)])
    coefficients = np.array([logit(correct.mean()), 0.0])
    for _ in range(50):
        chance = expit(design @ coefficients)
        information = (design * (chance * (1 - chance))[:, None]).T @ design
        step = np.linalg.solve(information, design.T @ (correct - chance))
        coefficients = coefficients + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    else:
        return None  # right and wrong answers lie on either side of a place: the slope has no finite estimate
    influence = (design * (correct - chance)[:, None]) @ np.linalg.inv(information)[1]
    return clustered_estimate(float(coefficients[1]), influence, clusters, unit="log odds", level=level)


def _drift(own: pd.DataFrame, level: float) -> Estimate | None:
    place, correct = own["trial_index"].to_numpy(np.float64), own["correct"].to_numpy(np.float64)
    if np.ptp(place) == 0:
        return None
    value, influence = _line(place, correct)
    return clustered_estimate(
        value, influence, Clusters.of(own), unit="change of the proportion correct over a session", level=level,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ consistency


@dataclass(frozen=True)
class Consistency:
    """How far people agree with themselves when a task is repeated, in one cell.

    Attributes
    ----------
    cell
        What the cell is.
    agreement
        Share of repeated trials with the same query chosen as the first time.
    kappa
        Agreement beyond chance (Cohen's kappa): 1 for full agreement, 0 for what the two proportions correct give
        already. None where an answer never varies.
    first, repeated
        Proportions correct of the two answers of such pairs.
    change
        Repeated less first.
    pairs, unpaired
        Repeated answers whose first answer was found, and those without one, which are left out.
    """

    cell: dict[str, str]
    agreement: Estimate
    kappa: Estimate | None
    first: Estimate
    repeated: Estimate
    change: Estimate
    pairs: int
    unpaired: int


def repeat_consistency(
    table: pd.DataFrame, by: Sequence[str] = ("model", "condition", "references"), level: float = LEVEL
) -> list[Consistency]:
    """Compare repeated answers with the first answer of the same person to the same task.

    Parameters
    ----------
    table
        Table of judgements, with main and repeated trials.
    by
        Columns that make the cells.
    level
        Coverage of the intervals, two-way clustered.

    Raises
    ------
    AnalysisError
        If there are no repeated trials, or none has a first answer.
    """
    kind = table["kind"].astype(str)
    again = table[kind == "repeated"]
    if again.empty:
        raise AnalysisError(
            f"There are no repeated trials, so consistency can't be measured. Take the table from {ALL_ANSWERS}, or "
            "leave this analysis out."
        )
    keys = ["participant", "session", "condition", "difficulty", "references", "task"]
    main = _as_text(table[kind == "main"], keys)
    first = main.sort_values("trial_index", kind="stable").drop_duplicates(keys)
    pairs = _as_text(again, keys).merge(
        first[[*keys, "correct", "trial_index"]], on=keys, how="left", suffixes=("", "_first")
    )
    found = (pairs["trial_index_first"] < pairs["trial_index"]).to_numpy()
    if not found.any():
        raise AnalysisError(
            f"None of the {len(again):,} repeated answers has a first answer of the same person to the same task in "
            "the table. Main and repeated trials must come from the same sessions."
        )
    results = []
    for cell, own in _cells(pairs.assign(found=found), by):
        good = own[own["found"]]
        if good.empty:
            continue
        clusters = Clusters.of(good)
        before, after = good["correct_first"].to_numpy(np.float64), good["correct"].to_numpy(np.float64)
        same = (before == after).astype(np.float64)
        share = [
            clustered_proportion(values, clusters, unit=unit, level=level)
            for values, unit in (
                (same, "proportion the same"), (before, "proportion correct"), (after, "proportion correct")
            )
        ]  # fmt: skip
        change = after - before
        results.append(
            Consistency(
                cell=cell,
                agreement=share[0],
                kappa=_kappa(before, after, clusters, level),
                first=share[1],
                repeated=share[2],
                change=clustered_estimate(
                    float(change.mean()), (change - change.mean()) / len(change), clusters,
                    unit="difference of proportions correct", bounds=(-1.0, 1.0), level=level,
                ),
                pairs=len(good),
                unpaired=len(own) - len(good),
            )
        )  # fmt: skip
    return results


def _kappa(
    before: NDArray[np.float64], after: NDArray[np.float64], clusters: Clusters, level: float
) -> Estimate | None:
    """Estimate Cohen's kappa of right and wrong, with the delta method."""
    p, q = before.mean(), after.mean()
    same = (before == after).astype(np.float64)
    agreed, chance = same.mean(), p * q + (1 - p) * (1 - q)
    if chance >= 1.0 - 1e-12:
        return None
    value = float((agreed - chance) / (1 - chance))
    on_chance = (2 * q - 1) * (before - p) + (2 * p - 1) * (after - q)
    influence = ((same - agreed) / (1 - chance) - (1 - agreed) / (1 - chance) ** 2 * on_chance) / len(same)
    return clustered_estimate(value, influence, clusters, unit="kappa", bounds=(-1.0, 1.0), level=level)


# ------------------------------------------------------------------------------------------------ reaction times


@dataclass(frozen=True)
class ReactionTimes:
    """Reaction times in one cell.

    Attributes
    ----------
    cell
        What the cell is.
    right, wrong
        Medians over participants of their median time of right, and wrong, answers, in seconds; None if nobody gave
        such answers.
    ratio
        Wrong over right: the median over participants who gave both; None if there are fewer than two.
    answers, left_out
        Answers with a time, and those whose time is missing or not above 0.
    """

    cell: dict[str, str]
    right: Estimate | None
    wrong: Estimate | None
    ratio: Estimate | None
    answers: int
    left_out: int


def reaction_times(
    table: pd.DataFrame,
    by: Sequence[str] = ("model", "condition", "references"),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> list[ReactionTimes]:
    """Summarise reaction times of right and wrong answers.

    Parameters
    ----------
    table
        Table of judgements; main trials alone are used.
    by
        Columns that make the cells; those without any time are left out.
    resamples, seed
        Of the bootstrap over participants.
    level
        Coverage of the intervals.

    Raises
    ------
    AnalysisError
        If no answer has a reaction time.
    """
    main = _main(table)
    seconds = main["rt_ms"].astype(np.float64) / 1000
    usable = (seconds > 0).to_numpy() & np.isfinite(seconds.to_numpy())
    if not usable.any():
        raise AnalysisError(f"None of the {len(main):,} answers has a reaction time. Leave this analysis out.")
    results = []
    for cell, own in _cells(main.assign(seconds=seconds.to_numpy(), usable=usable), by):
        good = own[own["usable"]]
        if good.empty:
            continue
        person = good["participant"].astype(str)
        medians = good.groupby([person, good["correct"] == 1], sort=True)["seconds"].median().unstack()
        right, wrong = (
            medians[side].dropna().to_numpy(np.float64) if side in medians else np.empty(0) for side in (True, False)
        )
        both = (
            (medians[False] / medians[True]).dropna().to_numpy(np.float64) if len(medians.columns) == 2 else np.empty(0)
        )
        results.append(
            ReactionTimes(
                cell=cell,
                right=_median(right, "s", resamples, seed, level),
                wrong=_median(wrong, "s", resamples, seed, level),
                ratio=_median(both, "ratio", resamples, seed, level) if len(both) > 1 else None,
                answers=len(good),
                left_out=len(own) - len(good),
            )
        )
    return results


def _median(values: NDArray[np.float64], unit: str, resamples: int, seed: int, level: float) -> Estimate | None:
    """Return the median with a percentile bootstrap over participants."""
    if not len(values):
        return None
    value = float(np.median(values))
    if len(values) == 1:
        return Estimate(value, 0.0, math.inf, "no interval: one participant", 1, unit, _BY_PERSON, level)
    rng = np.random.default_rng(seed)
    sample = np.median(rng.choice(values, size=(resamples, len(values))), axis=1)
    low, high = (float(end) for end in np.quantile(sample, [(1 - level) / 2, (1 + level) / 2]))
    method = (
        f"median over participants of their medians, percentile bootstrap over participants, {resamples:,} resamples"
    )
    return Estimate(value, min(low, value), max(high, value), method, len(values), unit, _BY_PERSON, level)


# ------------------------------------------------------------------------------------------------ parts


def _main(table: pd.DataFrame) -> pd.DataFrame:
    own = table[table["kind"].astype(str) == "main"]
    if own.empty:
        raise AnalysisError("There are no main trials in the table of judgements.")
    return own


def _cells(table: pd.DataFrame, by: Sequence[str]) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Return the cells of a table, sorted by their names."""
    keys = pd.MultiIndex.from_arrays([table[name].astype(str).to_numpy() for name in by], names=list(by))
    codes, cells = pd.factorize(keys, sort=True)
    return [(dict(zip(by, names, strict=True)), table[codes == code]) for code, names in enumerate(cells)]


def _as_text(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    return table.assign(**{name: table[name].astype(str) for name in names})


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


def _difference(
    correct: NDArray[np.float64],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    clusters: Clusters,
    level: float,
) -> Estimate:
    """Estimate the difference of two proportions of one table, whose clusters they share."""
    one, two = correct[first].mean(), correct[second].mean()
    influence = first * (correct - one) / first.sum() - second * (correct - two) / second.sum()
    return clustered_estimate(
        float(one - two), influence, clusters, unit="difference of proportions correct",
        bounds=(-1.0, 1.0), level=level,
    )  # fmt: skip
