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

Both d' and meta-d' are given on the scale of two-alternative forced choice (distance / sqrt(2)), that of
``analysis.psychophysics.detection``; the ratio knows no scale.

Bounds of what this can say: meta-d' is fitted to the answers of all people in a cell together, because 40 trials a
person are too few for a fit. People who place their criteria differently make pooled confidence look noisier than any
one person's: pooled meta-d' and M-ratio are biased downwards by such differences, and serve to compare cells whose
people were drawn alike. M-ratio depends somewhat on d' itself; compare it between cells of like d' only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.psychophysics.cells import split_cells
from analysis.psychophysics.confidence_bootstrap import Draws, Resampled, estimate_auroc, estimate_meta_d_prime
from analysis.psychophysics.meta_d_prime import CONFIDENCES
from analysis.results import Plotted, Record, ResultList, spread_out
from analysis.sandwich import Clusters, clustered_difference, clustered_estimate, clustered_proportion
from analysis.settings import Chosen, Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

RESAMPLES = 1000


@dataclass(frozen=True)
class Level:
    """A level of confidence: the share of answers given with it, and how many of them are right."""

    confidence: int
    answers: int
    share: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class Metacognition(Plotted, Record):
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

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table: each estimate with the ends of its interval."""
        row: dict[str, Any] = {
            **self.cell, "answers": self.answers, "participants": self.participants, "missing": self.missing
        }  # fmt: skip
        used = {own.confidence: own for own in self.levels}
        estimates = {f"accuracy_{value}": used[value].accuracy if value in used else None for value in CONFIDENCES}
        for name in ("slope", "high_minus_low", "auroc", "d_prime", "meta_d_prime", "m_ratio", "m_diff"):
            estimates[name] = getattr(self, name)
        for name, estimate in estimates.items():
            row |= spread_out(name, estimate)
        return {**row, "reasons": " ".join(self.reasons)}

    def _draw(self, **options: Any) -> Any:
        """Draw accuracy by confidence, and the type-2 area."""
        return self._draw_all([self], **options)

    @staticmethod
    def _draw_all(found: Sequence[Metacognition], **options: Any) -> Any:
        """Draw several cells, a panel for each model."""
        from analysis.figures import plot_confidence

        levels, areas = confidence_points(found)
        return plot_confidence(levels, areas if len(areas) else None, **options)


def confidence_points(found: Sequence[Metacognition]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the data of the figure: one row a cell and level of confidence, and one a cell with its type-2 area."""
    levels = [
        {
            **own.cell, "confidence": level.confidence, "value": level.accuracy.value, "low": level.accuracy.low,
            "high": level.accuracy.high, "share": level.share.value, "share_low": level.share.low,
            "share_high": level.share.high,
        }
        for own in found
        for level in own.levels
    ]  # fmt: skip
    areas = [
        {**own.cell, "value": own.auroc.value, "low": own.auroc.low, "high": own.auroc.high}
        for own in found
        if own.auroc
    ]
    return pd.DataFrame(levels), pd.DataFrame(areas)


@threaded
def measure_confidence(
    table: pd.DataFrame,
    by: Sequence[str] = ("model", "condition"),
    *,
    resample: Resampled = "participants",
    **settings: Unpack[Settings],
) -> ResultList[Metacognition]:
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
    settings
        As for every estimator: :class:`Settings`. By default 1,000 resamples.

    Returns
    -------
    One result a cell, sorted by its names; cells without any confidence are left out.

    Raises
    ------
    AnalysisError
        If no answer of the table has a confidence, or one lies outside 1 to 3.
    """
    chosen = choose(settings, resamples=RESAMPLES)
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
    results = []
    for cell, whole in split_cells(table, by):
        own = whole[whole["confidence"].notna()]
        if len(own):
            results.append(_measure_cell(own, cell, len(whole) - len(own), resample, chosen))
    return ResultList(results)


def _measure_cell(
    own: pd.DataFrame, cell: dict[str, str], missing: int, resample: Resampled, settings: Chosen
) -> Metacognition:
    level = settings.level
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
        draws = Draws.of(own, resample, settings.resamples, settings.seed)
        try:
            auroc = estimate_auroc(own, draws, level)
        except AnalysisError as error:
            reasons.append(str(error))
        try:
            fits.update(estimate_meta_d_prime(own, draws, level))
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
    return clustered_difference(correct, high, low, clusters, level)
