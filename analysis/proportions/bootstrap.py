"""The two-way bootstrap: units and participants of a cell are resampled, each with replacement."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from analysis.answer_order import order_by_answers
from analysis.arrays import Floats
from analysis.proportions.answers import Codes
from analysis.proportions.clustered_means import ClusteredMeans

_CHUNK = 250
"""Resamples at a time: bounds the memory of the two-way bootstrap."""


def bootstrap_two_way(means: ClusteredMeans, rows: Codes, *, seed: int, resamples: int) -> Floats:
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
    unit, person = order_by_answers(unit, person, correct)
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
