"""The two-way bootstrap: units and participants of a cell are resampled, each with replacement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.arrays import Floats
from analysis.proportions.answers import Codes
from analysis.proportions.clustered_means import ClusteredMeans

BOOTSTRAPS = 2_000

_CHUNK = 250
"""Resamples at a time: bounds the memory of the two-way bootstrap."""


def bootstrap_two_way(means: ClusteredMeans, rows: Codes, *, seed: int, resamples: int = BOOTSTRAPS) -> Floats:
    """Resample units and participants of one cell, each with replacement (Owen, 2007).

    Answers are weighted by how often their unit and their participant were drawn; nothing is copied. Units and people
    are ordered by their answers before anything is drawn, so that names do not matter.

    Returns
    -------
    Shape (resamples,): the mean in each resample. A resample without any answer is left out, which only tiny data have.
    """
    answers = means.answers
    unit = np.unique(answers.unit[rows], return_inverse=True)[1]
    person = np.unique(answers.person[rows], return_inverse=True)[1]
    correct, shares = answers.correct[rows], means.shares[rows]
    unit, person = _order_by_answers(unit, person, correct)
    units, people = int(unit.max()) + 1, int(person.max()) + 1
    shape = (units, people)
    asked = sparse.coo_array((shares, (unit, person)), shape=shape).tocsr()
    right = sparse.coo_array((shares * correct, (unit, person)), shape=shape).tocsr()
    rng = np.random.default_rng(seed)
    results = []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        of_units = rng.multinomial(units, np.full(units, 1 / units), size).astype(np.float64)
        of_people = rng.multinomial(people, np.full(people, 1 / people), size).astype(np.float64)
        weight = ((of_units @ asked) * of_people).sum(axis=1)
        hits = ((of_units @ right) * of_people).sum(axis=1)
        results.append(hits[weight > 0] / weight[weight > 0])
    return np.concatenate(results)


def _order_by_answers(unit: Codes, person: Codes, correct: Floats) -> tuple[Codes, Codes]:
    """Renumber units and people by what was answered, whatever they are called.

    Colours are refined in rounds, as in the test of Weisfeiler & Leman (1968): a unit's colour sums up the colours of
    the people who answered about it, and how; people's, those of units. What ends with the same colour is alike.
    """
    marks = correct.astype(np.uint64) + np.uint64(1)
    of_units, of_people = np.zeros(unit.max() + 1, np.uint64), np.zeros(person.max() + 1, np.uint64)
    for _ in range(4):
        to_units, to_people = (
            _mix(of_people[person] * np.uint64(3) + marks),
            _mix(of_units[unit] * np.uint64(5) + marks),
        )
        next_units, next_people = of_units.copy(), of_people.copy()
        np.add.at(next_units, unit, to_units)
        np.add.at(next_people, person, to_people)
        of_units, of_people = _mix(next_units), _mix(next_people)
    return _rank(of_units)[unit], _rank(of_people)[person]


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter whole numbers over all 64 bits (the finisher of Steele, Lea & Flood's SplitMix64, 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _rank(colours: NDArray[np.uint64]) -> Codes:
    """Return the place of each colour in their order."""
    place = np.empty(len(colours), dtype=np.int64)
    place[np.argsort(colours, kind="stable")] = np.arange(len(colours))
    return place
