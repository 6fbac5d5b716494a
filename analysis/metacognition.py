"""Confidence: do people know when they are right?

Four answers, from plain to model-based, for each model and condition.

*Accuracy at each confidence*, and how much it rises by step of confidence within people: calibration, as far as a scale
of 1 to 3 that promises no probabilities can be calibrated.

*Type-2 AUROC*: the chance that of one right and one wrong answer of the same person, drawn at random, the right one was
given with more confidence; ties count half. Pairs are formed within people only, so that a person who is both good and
sure adds nothing; all pairs of all people then count alike (a stratified Mann-Whitney statistic), which weights people
by the pairs they offer. Nobody is needed to have many errors, only some.

*meta-d'*: the d' that an observer with perfect access to their own evidence would need to produce this confidence
(Maniscalco & Lau, 2012, Consciousness and Cognition 21; 2014, in: The cognitive neuroscience of metacognition, chapter
3). The side of the maximal query is the stimulus, side and confidence together the response. Evidence is normal around
-m/2 and m/2; the criterion between the sides lies where it lies for d', relative to m; the criteria between levels of
confidence are free. meta-d' is the m that makes confidence, given stimulus and side, likeliest.

*M-ratio* = meta-d' / d', and *M-diff* = meta-d' - d': 1 and 0 for an observer who loses nothing on the way to
confidence.

Both d' and meta-d' are given on the scale of two-alternative forced choice, that of ``analysis.signal_detection``
(distance / sqrt(2)); the ratio knows no scale.

Bounds of what this can say: meta-d' is fitted to the answers of all people in a cell together, because 40 trials a
person are too few for a fit. People who place their criteria differently make pooled confidence look noisier than any
one person's: pooled meta-d' and M-ratio are biased downwards by such differences, and serve to compare cells whose
people were drawn alike. M-ratio depends somewhat on d' itself; compare it between cells of like d' only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtri

from analysis.estimands import spell_estimand
from analysis.sandwich import LEVEL, Clusters, clustered_estimate, clustered_proportion
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

CONFIDENCES = (1, 2, 3)
"""Levels of confidence that the task offers."""

RESAMPLES = 1000
LEAST_D_PRIME = 0.05
"""Below this d' there is next to nothing to be confident about, and M-ratio divides by nothing."""

Resampled = Literal["participants", "units and participants"]

_ROOT_TWO = math.sqrt(2.0)
_AT_ONCE = 100
"""Bootstrap samples worked on together, to bound memory."""

_LEAST_USABLE = 0.99
"""Share of bootstrap samples that must allow a fit for there to be an interval."""


# ------------------------------------------------------------------------------------------------ type-2 AUROC


def type2_auroc(correct: ArrayLike, confidence: ArrayLike, participant: ArrayLike) -> float:
    """Return the chance that a right answer was given with more confidence than a wrong one of the same person.

    Parameters
    ----------
    correct, confidence, participant
        Shape (answers,): 1 or 0, a level of confidence, and who answered.

    Raises
    ------
    AnalysisError
        If nobody gave both right and wrong answers.
    """
    right = np.asarray(correct, dtype=np.float64) == 1
    levels, level = np.unique(np.asarray(confidence, dtype=np.float64), return_inverse=True)
    people, person = np.unique(np.asarray(participant).astype(str), return_inverse=True)
    counts = np.zeros((len(people), 2, len(levels)))
    np.add.at(counts, (person, right.astype(int), level), 1.0)
    above, pairs = _concordance(counts)
    if not pairs.sum():
        raise AnalysisError(
            "Type-2 AUROC compares right with wrong answers of the same person, and nobody here gave both."
        )
    return float(above.sum() / pairs.sum())


def _concordance(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for counts of shape (..., wrong and right, levels), the pairs that agree (ties half) and all pairs."""
    wrong, right = counts[..., 0, :], counts[..., 1, :]
    below = np.cumsum(wrong, axis=-1) - wrong
    return (right * (below + wrong / 2)).sum(axis=-1), right.sum(axis=-1) * wrong.sum(axis=-1)


# ------------------------------------------------------------------------------------------------ meta-d'


@dataclass(frozen=True)
class MetaFit:
    """Maximum-likelihood fits of meta-d', one for each table of counts.

    Attributes
    ----------
    d_prime, criterion
        Shape (tables,): d' on the scale of two-alternative forced choice, and the criterion.
    meta_d_prime
        Shape (tables,): meta-d', on the same scale.
    log_likelihood
        Shape (tables,): of confidence given stimulus and side, without the multinomial coefficients.
    usable
        Shape (tables,): whether d' is large enough for a fit, and the fit has converged.
    """

    d_prime: NDArray[np.float64]
    criterion: NDArray[np.float64]
    meta_d_prime: NDArray[np.float64]
    log_likelihood: NDArray[np.float64]
    usable: NDArray[np.bool_]


def count_confidence(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return counts of judgements, shape (2, 2, 3): maximal query below or on top, lower or upper chosen, level."""
    counts = np.zeros((2, 2, len(CONFIDENCES)))
    np.add.at(counts, _cells(table), 1.0)
    return counts


def _cells(table: pd.DataFrame) -> tuple[NDArray[np.int64], ...]:
    return (
        table["max_on_top"].to_numpy(np.int64),
        table["upper"].to_numpy(np.int64),
        table["confidence"].to_numpy(np.int64) - 1,
    )


def fit_meta_d_prime(counts: NDArray[np.float64], iterations: int = 100) -> MetaFit:
    """Fit meta-d' to tables of counts.

    Parameters
    ----------
    counts
        Shape (..., 2, 2, K): stimulus (maximal query below, on top), response (lower, upper), and confidence, of K
        levels from unsure to sure. 1 / (2 K) is added everywhere, which makes the log-linear correction of the rates
        (Hautus, 1995) and keeps every criterion finite.
    iterations
        Most steps of Fisher's scoring; each is damped until the likelihood rises.

    Returns
    -------
    The fits, with the leading shape of the counts.

    Raises
    ------
    AnalysisError
        If there are fewer than two levels of confidence, or a stimulus was never shown.
    """
    shape, levels = counts.shape[:-3], counts.shape[-1]
    if levels < 2:
        raise AnalysisError("meta-d' needs at least two levels of confidence.")
    flat = np.asarray(counts, dtype=np.float64).reshape(-1, 2, 2, levels)
    if (flat.sum(axis=(2, 3)) == 0).any():
        raise AnalysisError("meta-d' needs trials with the maximal query on top and trials with it below.")
    flat = flat + 1 / (2 * levels)
    chosen = flat.sum(axis=-1)
    upper = ndtri(chosen[..., 1] / chosen.sum(axis=-1))  # (tables, stimulus): z of choosing the upper query
    distance, criterion = upper[:, 1] - upper[:, 0], -upper.sum(axis=1) / 2
    usable = distance / _ROOT_TWO > LEAST_D_PRIME
    relative = np.where(usable, criterion / np.where(usable, distance, 1.0), 0.0)
    # Distance, in multiples of m, from the mean of a stimulus to the criterion, in the direction of the response.
    base = np.empty((len(flat), 2, 2))
    base[:, 0, 1], base[:, 1, 1] = relative + 0.5, relative - 0.5
    base[:, 0, 0], base[:, 1, 0] = -relative - 0.5, 0.5 - relative
    place = _begin(flat, base, distance)
    value, gradient, information = _evaluate(place, flat, base)
    damping = np.full(len(flat), 1e-3)
    done = ~usable
    size = place.shape[1]
    for _ in range(iterations):
        if done.all():
            break
        diagonal = np.einsum("bii->bi", information)
        damped = information + (damping[:, None] * diagonal + 1e-12)[:, None, :] * np.eye(size)
        step = np.clip(np.linalg.solve(damped, gradient[..., None])[..., 0], -1.0, 1.0)
        step[done] = 0.0
        tried = _evaluate(place + step, flat, base)
        better = tried[0] >= value - 1e-12
        still = np.abs(step).max(axis=1) < 1e-9
        place = np.where(better[:, None], place + step, place)
        value = np.where(better, tried[0], value)
        gradient = np.where(better[:, None], tried[1], gradient)
        information = np.where(better[:, None, None], tried[2], information)
        damping = np.clip(np.where(better, damping / 5, damping * 10), 1e-12, 1e8)
        done |= still
    return MetaFit(
        d_prime=(distance / _ROOT_TWO).reshape(shape),
        criterion=criterion.reshape(shape),
        meta_d_prime=(place[:, 0] / _ROOT_TWO).reshape(shape),
        log_likelihood=value.reshape(shape),
        usable=(usable & done).reshape(shape),
    )


def _begin(
    counts: NDArray[np.float64], base: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where the search begins: m at d', and criteria that fit the confidence of right answers."""
    levels = counts.shape[-1]
    increments = np.empty((len(counts), 2, levels - 1))
    for side in range(2):
        shares = counts[:, side, side, ::-1].cumsum(axis=-1)[:, ::-1]
        shares = shares / shares[:, :1]
        start = distance * base[:, side, side]
        places = -ndtri(np.exp(np.log(shares) + log_ndtr(-start)[:, None]))
        increments[:, side] = np.diff(places, axis=-1)
    return np.column_stack([distance, np.log(np.maximum(increments, 1e-3)).reshape(len(counts), -1)])


def _evaluate(
    place: NDArray[np.float64], counts: NDArray[np.float64], base: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return log-likelihood, its gradient and Fisher's information, for each table.

    ``place`` holds m and, for each side, logs of the distances from each criterion to the next.
    """
    tables, levels = len(place), counts.shape[-1]
    steps = np.exp(place[:, 1:]).reshape(tables, 2, levels - 1)
    offset = np.concatenate([np.zeros((tables, 2, 1)), np.cumsum(steps, axis=-1)], axis=-1)
    x = (place[:, 0, None, None] * base)[..., None] + offset[:, None]
    tail = log_ndtr(-x)
    ratio = np.exp(tail - tail[..., :1])  # chance of at least this confidence, given stimulus and side
    hazard = np.exp(-0.5 * x**2 - 0.5 * math.log(2 * math.pi) - tail)
    slope = np.zeros((*x.shape, place.shape[1]))
    slope[..., 0] = ratio * base[..., None] * (hazard[..., :1] - hazard)
    for side in range(2):
        for j in range(levels - 1):
            column = 1 + side * (levels - 1) + j
            inner = -(ratio * hazard)[:, :, side, j + 1 :] * steps[:, side, j, None, None]
            slope[:, :, side, j + 1 :, column] = inner
    chance = np.maximum(ratio - np.concatenate([ratio[..., 1:], np.zeros((*x.shape[:-1], 1))], axis=-1), 1e-300)
    slope = slope - np.concatenate([slope[..., 1:, :], np.zeros((*x.shape[:-1], 1, place.shape[1]))], axis=-2)
    value = (counts * np.log(chance)).sum(axis=(1, 2, 3))
    gradient = np.einsum("bsrk,bsrkp->bp", counts / chance, slope)
    expected = counts.sum(axis=-1, keepdims=True) / chance
    information = np.einsum("bsrk,bsrkp,bsrkq->bpq", expected, slope, slope, optimize=True)
    return value, gradient, information


# ------------------------------------------------------------------------------------------------ by cell


@dataclass(frozen=True)
class Level:
    """A level of confidence: the share of answers given with it, and how many of them are right."""

    confidence: int
    answers: int
    share: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class Metacognition:
    """What confidence says in one cell: a model and a condition, say.

    Attributes
    ----------
    cell
        What the cell is: ``{"model": "resnet50", "condition": "natural"}``.
    answers, participants
        How many there are, with confidence.
    missing
        Answers without confidence, which are left out.
    levels
        Accuracy at each confidence that was used.
    slope
        Rise of the proportion correct per step of confidence, within participants.
    high_minus_low
        Proportion correct at the highest confidence used, less that at the lowest.
    auroc
        Type-2 AUROC.
    d_prime, meta_d_prime, m_ratio, m_diff
        From pooled counts; None where they can't be had.
    reasons
        Why something is None.
    """

    cell: dict[str, str]
    answers: int
    participants: int
    missing: int
    levels: tuple[Level, ...]
    slope: Estimate | None
    high_minus_low: Estimate | None
    auroc: Estimate | None
    d_prime: Estimate | None
    meta_d_prime: Estimate | None
    m_ratio: Estimate | None
    m_diff: Estimate | None
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Whether confidence tells right from wrong, in words."""
        name = " ".join(self.cell.values())
        if self.auroc is None:
            return f"{name}: {self.reasons[0]}"
        if self.auroc.low > 0.5:
            return f"{name}: confidence tells right answers from wrong ones (type-2 AUROC {self.auroc})."
        if self.auroc.high < 0.5:
            return f"{name}: people are surer when they are wrong (type-2 AUROC {self.auroc})."
        return f"{name}: confidence is not shown to tell right answers from wrong ones (type-2 AUROC {self.auroc})."


def measure_confidence(
    table: pd.DataFrame,
    by: Sequence[str] = ("model", "condition"),
    *,
    resample: Resampled = "participants",
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> list[Metacognition]:
    """Measure what confidence says in each cell.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Columns that make the cells.
    resample
        What the bootstrap of AUROC and meta-d' draws: whole participants (speaks for new people, these units), or
        units and participants independently, which is conservative (the pigeonhole bootstrap: Owen, 2007, Annals of
        Applied Statistics 1).
    resamples, seed
        Of the bootstrap.
    level
        Coverage of the intervals.

    Returns
    -------
    One result a cell, sorted by its names; cells without any confidence are left out.

    Raises
    ------
    AnalysisError
        If no answer of the table has a confidence, or one lies outside 1 to 3.
    """
    present = table["confidence"].notna()
    if not present.any():
        raise AnalysisError(
            f"None of the {len(table):,} answers has a confidence: machine observers give none, and people only where "
            "the task asked for it. Leave the analysis of confidence out."
        )
    wrong = ~table.loc[present, "confidence"].isin(CONFIDENCES)
    if wrong.any():
        value = table.loc[present, "confidence"][wrong].iloc[0]
        raise AnalysisError(f"A confidence is {value:g}; it must be 1, 2 or 3.")
    keys = pd.MultiIndex.from_arrays([table[name].astype(str).to_numpy() for name in by], names=list(by))
    codes, cells = pd.factorize(keys, sort=True)
    results = []
    for code, names in enumerate(cells):
        inside = codes == code
        own = table[inside & present.to_numpy()]
        if len(own):
            cell = dict(zip(by, names, strict=True))
            missing = int(inside.sum()) - len(own)
            results.append(_measure_cell(own, cell, missing, resample, resamples, seed, level))
    return results


def _measure_cell(
    own: pd.DataFrame, cell: dict[str, str], missing: int, resample: Resampled, resamples: int, seed: int, level: float
) -> Metacognition:
    own = own.sort_values(["participant", "unit"], key=lambda column: column.astype(str), kind="stable")
    correct = own["correct"].to_numpy(np.float64)
    confidence = own["confidence"].to_numpy(np.float64)
    clusters = Clusters.of(own)
    levels = []
    for value in CONFIDENCES:
        at = confidence == value
        if at.any():
            share = clustered_proportion(at.astype(np.float64), clusters, unit="share of answers", level=level)
            accuracy = clustered_proportion(correct[at], Clusters.of(own[at]), unit="proportion correct", level=level)
            levels.append(Level(value, int(at.sum()), share, accuracy))
    reasons: list[str] = []
    slope = high_minus_low = auroc = None
    fits: dict[str, Estimate | None] = dict.fromkeys(("d_prime", "meta_d_prime", "m_ratio", "m_diff"))
    if len(levels) < 2:
        reasons.append(f"all answers have confidence {levels[0].confidence}, which then tells nothing.")
    else:
        slope = _slope(own, correct, confidence, clusters, level)
        if slope is None:
            reasons.append("everybody kept to one level of confidence: there is no slope within participants.")
        high_minus_low = _high_minus_low(correct, confidence, clusters, level)
        draws = _Draws.of(own, resample, resamples, seed)
        try:
            auroc = _estimate_auroc(own, draws, level)
        except AnalysisError as error:
            reasons.append(str(error))
        try:
            fits.update(_estimate_meta(own, draws, level))
        except AnalysisError as error:
            reasons.append(str(error))
        if fits["meta_d_prime"] is not None and fits["m_ratio"] is None:
            reasons.append("M-ratio divides by d', whose interval includes 0.")
    return Metacognition(
        cell=cell,
        answers=len(own),
        participants=own["participant"].nunique(),
        missing=missing,
        levels=tuple(levels),
        slope=slope,
        high_minus_low=high_minus_low,
        auroc=auroc,
        **fits,
        reasons=tuple(reasons),
    )


def _slope(
    own: pd.DataFrame,
    correct: NDArray[np.float64],
    confidence: NDArray[np.float64],
    clusters: Clusters,
    level: float,
) -> Estimate | None:
    """Regress right answers on confidence with an intercept for each participant."""
    person = pd.factorize(own["participant"].to_numpy())[0]
    count = np.bincount(person)
    x = confidence - (np.bincount(person, weights=confidence) / count)[person]
    y = correct - (np.bincount(person, weights=correct) / count)[person]
    spread = float((x**2).sum())
    if spread < 1e-9:
        return None
    value = float((x * y).sum()) / spread
    return clustered_estimate(
        value, x * (y - value * x) / spread, clusters, unit="proportion correct per step of confidence", level=level,
    )  # fmt: skip


def _high_minus_low(
    correct: NDArray[np.float64], confidence: NDArray[np.float64], clusters: Clusters, level: float
) -> Estimate:
    high, low = confidence == confidence.max(), confidence == confidence.min()
    top, bottom = correct[high].mean(), correct[low].mean()
    influence = high * (correct - top) / high.sum() - low * (correct - bottom) / low.sum()
    return clustered_estimate(
        float(top - bottom), influence, clusters, unit="difference of proportions correct",
        bounds=(-1.0, 1.0), level=level,
    )  # fmt: skip


@dataclass(frozen=True)
class _Draws:
    """Bootstrap samples: how often each participant, and each unit, was drawn in each of them."""

    person: NDArray[np.int64]
    unit: NDArray[np.int64]
    people: NDArray[np.float64]
    units: NDArray[np.float64] | None
    words: str
    estimand: str

    @classmethod
    def of(cls, own: pd.DataFrame, resample: Resampled, resamples: int, seed: int) -> _Draws:
        rng = np.random.default_rng(seed)
        # The table is sorted by participant and unit, so relabelling that keeps the order keeps the draws.
        person = np.unique(own["participant"].astype(str).to_numpy(), return_inverse=True)[1]
        unit = np.unique(own["unit"].astype(str).to_numpy(), return_inverse=True)[1]
        people, units = int(person.max()) + 1, int(unit.max()) + 1
        drawn = rng.multinomial(people, np.full(people, 1 / people), size=resamples).astype(np.float64)
        both = resample == "units and participants"
        again = rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64) if both else None
        words = f"bootstrap over {people:,} participants" + (f" and {units:,} units (pigeonhole)" if both else "")
        estimand = spell_estimand("new units and people" if both else "new people")
        return cls(person, unit, drawn, again, words, estimand)

    @property
    def count(self) -> int:
        return int(self.people.shape[1])

    def estimate(
        self, value: float, sample: NDArray[np.float64], usable: NDArray[np.bool_], unit: str, level: float,
        bounds: tuple[float, float] = (-math.inf, math.inf),
    ) -> Estimate:  # fmt: skip
        """Return the percentile interval, or none where too few samples allow the estimate."""
        share = float(usable.mean())
        n = self.count if self.units is None else min(self.count, self.units.shape[1])
        if self.count < 2:
            return Estimate(value, *bounds, "no interval: one participant", n, unit, self.estimand, level)
        if share < _LEAST_USABLE:
            method = f"no interval: {1 - share:.0%} of the bootstrap samples allow no fit"
            return Estimate(value, *bounds, method, n, unit, self.estimand, level)
        low, high = (float(end) for end in np.quantile(sample[usable], [(1 - level) / 2, (1 + level) / 2]))
        method = f"percentile {self.words}, {len(sample):,} resamples"
        return Estimate(value, min(low, value), max(high, value), method, n, unit, self.estimand, level)


def _estimate_auroc(own: pd.DataFrame, draws: _Draws, level: float) -> Estimate:
    value = type2_auroc(own["correct"], own["confidence"], own["participant"])
    place = (draws.person * 2 + own["correct"].to_numpy(np.int64)) * len(CONFIDENCES)
    place = place + own["confidence"].to_numpy(np.int64) - 1
    shape = (draws.count, 2, len(CONFIDENCES))
    if draws.units is None:
        above, pairs = _concordance(np.bincount(place, minlength=math.prod(shape)).astype(np.float64).reshape(shape))
        total, agree = draws.people @ pairs, draws.people @ above
    else:
        total, agree = np.empty(len(draws.people)), np.empty(len(draws.people))
        for n, (people, units) in enumerate(zip(draws.people, draws.units)):
            counts = np.bincount(place, weights=units[draws.unit], minlength=math.prod(shape))
            above, pairs = _concordance(counts.astype(np.float64).reshape(shape))
            total[n], agree[n] = people @ pairs, people @ above
    usable = total > 0
    sample = np.divide(agree, total, out=np.full(len(total), 0.5), where=usable)
    return draws.estimate(value, sample, usable, "type-2 AUROC", level, (0.0, 1.0))


def _estimate_meta(own: pd.DataFrame, draws: _Draws, level: float) -> dict[str, Estimate | None]:
    fit = fit_meta_d_prime(count_confidence(own))
    if not fit.usable:
        raise AnalysisError(
            f"meta-d' can't be estimated: d' is {float(fit.d_prime):.2f}, at or next to chance, so there is nothing to "
            "be confident about."
            if fit.d_prime <= LEAST_D_PRIME
            else "meta-d' can't be estimated: its likelihood has no maximum that could be found."
        )
    counts = _resampled_counts(own, draws)
    shown = (counts.sum(axis=(2, 3)) > 0).all(axis=1)
    counts[~shown] = 1.0
    again = fit_meta_d_prime(counts)
    usable = again.usable & shown
    d_prime, meta = float(fit.d_prime), float(fit.meta_d_prime)
    ratio = again.meta_d_prime / np.where(usable, again.d_prime, 1.0)
    first = draws.estimate(d_prime, again.d_prime, shown, "d'", level)
    return {
        "d_prime": first,
        "meta_d_prime": draws.estimate(meta, again.meta_d_prime, usable, "d'", level),
        "m_ratio": draws.estimate(meta / d_prime, ratio, usable, "ratio", level) if first.low > 0 else None,
        "m_diff": draws.estimate(meta - d_prime, again.meta_d_prime - again.d_prime, usable, "d'", level),
    }


def _resampled_counts(own: pd.DataFrame, draws: _Draws) -> NDArray[np.float64]:
    """Return the counts of each bootstrap sample, shape (samples, 2, 2, levels)."""
    levels = len(CONFIDENCES)
    stimulus, response, confidence = _cells(own)
    cell = (stimulus * 2 + response) * levels + confidence
    if draws.units is None:
        by_person = np.zeros((draws.count, 4 * levels))
        np.add.at(by_person, (draws.person, cell), 1.0)
        return (draws.people @ by_person).reshape(-1, 2, 2, levels)
    indicator = np.zeros((len(own), 4 * levels))
    indicator[np.arange(len(own)), cell] = 1.0
    parts = []
    for begin in range(0, len(draws.people), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        parts.append((draws.people[part][:, draws.person] * draws.units[part][:, draws.unit]) @ indicator)
    return np.concatenate(parts).reshape(-1, 2, 2, levels)


def confidence_table(results: Sequence[Metacognition]) -> pd.DataFrame:
    """Return results as a table, one row a cell: each estimate with the ends of its interval."""
    rows = []
    for result in results:
        row: dict[str, Any] = {
            **result.cell, "answers": result.answers, "participants": result.participants, "missing": result.missing
        }  # fmt: skip
        used = {own.confidence: own for own in result.levels}
        estimates = {f"accuracy_{value}": used[value].accuracy if value in used else None for value in CONFIDENCES}
        for name in ("slope", "high_minus_low", "auroc", "d_prime", "meta_d_prime", "m_ratio", "m_diff"):
            estimates[name] = getattr(result, name)
        for name, estimate in estimates.items():
            for part in ("value", "low", "high"):
                row[name if part == "value" else f"{name}_{part}"] = getattr(estimate, part) if estimate else None
        rows.append({**row, "reasons": " ".join(result.reasons)})
    return pd.DataFrame(rows)
