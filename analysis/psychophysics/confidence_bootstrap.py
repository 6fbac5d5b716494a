"""Intervals of type-2 AUROC and meta-d': participants, and units if wanted, are resampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.answer_order import order_by_answers
from analysis.estimands import spell_estimand
from analysis.intervals.quantiles import percentile_ends
from analysis.psychophysics.meta_d_prime import (
    CONFIDENCES,
    LEAST_D_PRIME,
    confidence_cells,
    count_confidence,
    fit_meta_d_prime,
)
from analysis.psychophysics.type2 import concordance, type2_auroc
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

Resampled = Literal["participants", "units and participants"]

_AT_ONCE = 100
"""Bootstrap samples worked on together, to bound memory."""

_LEAST_USABLE = 0.99
"""Share of bootstrap samples that must allow a fit for there to be an interval."""


@dataclass(frozen=True)
class Draws:
    """Bootstrap samples: how often each participant, and each unit, was drawn in each of them."""

    person: NDArray[np.int64]
    unit: NDArray[np.int64]
    people: NDArray[np.float64]
    units: NDArray[np.float64] | None
    words: str
    estimand: str

    @classmethod
    def of(cls, own: pd.DataFrame, resample: Resampled, resamples: int, seed: int) -> Draws:
        """Draw the samples for a table of judgements, whatever participants and units are called."""
        rng = np.random.default_rng(seed)
        person = np.unique(own["participant"].astype(str).to_numpy(), return_inverse=True)[1]
        unit = np.unique(own["unit"].astype(str).to_numpy(), return_inverse=True)[1]
        mark = 2 * own["confidence"].to_numpy(np.int64) + own["correct"].to_numpy(np.int64)
        unit, person = order_by_answers(unit, person, mark)
        people, units = int(person.max()) + 1, int(unit.max()) + 1
        drawn = rng.multinomial(people, np.full(people, 1 / people), size=resamples).astype(np.float64)
        both = resample == "units and participants"
        again = rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64) if both else None
        words = f"bootstrap over {people:,} participants" + (f" and {units:,} units (pigeonhole)" if both else "")
        estimand = spell_estimand("new units and people" if both else "new people")
        return cls(person, unit, drawn, again, words, estimand)

    @property
    def count(self) -> int:
        """How many participants there are."""
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
        low, high = percentile_ends(sample[usable], level)
        method = f"percentile {self.words}, {len(sample):,} resamples"
        return Estimate(value, min(low, value), max(high, value), method, n, unit, self.estimand, level)


def estimate_auroc(own: pd.DataFrame, draws: Draws, level: float) -> Estimate:
    """Estimate type-2 AUROC in one cell."""
    value = type2_auroc(own["correct"], own["confidence"], own["participant"])
    place = (draws.person * 2 + own["correct"].to_numpy(np.int64)) * len(CONFIDENCES)
    place = place + own["confidence"].to_numpy(np.int64) - 1
    shape = (draws.count, 2, len(CONFIDENCES))
    if draws.units is None:
        above, pairs = concordance(np.bincount(place, minlength=math.prod(shape)).astype(np.float64).reshape(shape))
        total, agree = draws.people @ pairs, draws.people @ above
    else:
        total, agree = np.empty(len(draws.people)), np.empty(len(draws.people))
        for n, (people, units) in enumerate(zip(draws.people, draws.units)):
            counts = np.bincount(place, weights=units[draws.unit], minlength=math.prod(shape))
            above, pairs = concordance(counts.astype(np.float64).reshape(shape))
            total[n], agree[n] = people @ pairs, people @ above
    usable = total > 0
    sample = np.divide(agree, total, out=np.full(len(total), 0.5), where=usable)
    return draws.estimate(value, sample, usable, "type-2 AUROC", level, (0.0, 1.0))


def estimate_meta_d_prime(own: pd.DataFrame, draws: Draws, level: float) -> dict[str, Estimate | None]:
    """Estimate d', meta-d', their ratio and their difference in one cell, by their names in ``Metacognition``.

    Raises
    ------
    AnalysisError
        If meta-d' can't be fitted.
    """
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


def _resampled_counts(own: pd.DataFrame, draws: Draws) -> NDArray[np.float64]:
    """Return the counts of each bootstrap sample, shape (samples, 2, 2, levels)."""
    levels = len(CONFIDENCES)
    stimulus, response, confidence = confidence_cells(own)
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
