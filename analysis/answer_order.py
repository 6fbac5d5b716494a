"""Units and people in the order of what was answered, so that what is drawn next does not depend on their names."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import Integers
from benchmark.randomness import mix

_ROUNDS = 4


def order_by_answers(unit: ArrayLike, person: ArrayLike, mark: ArrayLike) -> tuple[Integers, Integers]:
    """Renumber units and people by what was answered, whatever they are called.

    Colours are refined in rounds, as in the test of Weisfeiler & Leman (1968): a unit's colour sums up the colours of
    the people who answered about it, and how; people's, those of units. What ends with the same colour is alike.

    Parameters
    ----------
    unit, person
        Shape (answers,): whole numbers from 0 on.
    mark
        Shape (answers,): the answer as a whole number, at least 0; all of an answer that matters for what is drawn.

    Returns
    -------
    Shape (answers,) twice: the new numbers of units and of people.
    """
    unit, person = np.asarray(unit, dtype=np.int64), np.asarray(person, dtype=np.int64)
    # People's multiplier differs from units', so that the two kinds of colours never cancel.
    marks = mix(np.asarray(mark).astype(np.uint64))
    of_units, of_people = np.zeros(unit.max() + 1, np.uint64), np.zeros(person.max() + 1, np.uint64)
    for _ in range(_ROUNDS):
        to_units = mix(of_people[person] * np.uint64(3) + marks)
        to_people = mix(of_units[unit] * np.uint64(5) + marks)
        next_units, next_people = of_units.copy(), of_people.copy()
        np.add.at(next_units, unit, to_units)
        np.add.at(next_people, person, to_people)
        of_units, of_people = mix(next_units), mix(next_people)
    return _rank(of_units)[unit], _rank(of_people)[person]


def _rank(colours: NDArray[np.uint64]) -> Integers:
    """Return the place of each colour in their order."""
    place = np.empty(len(colours), dtype=np.int64)
    place[np.argsort(colours, kind="stable")] = np.arange(len(colours))
    return place
