"""How much of a mean's uncertainty comes from units, from people, and from single answers; and what more data buy.

Every person answers about some of the units, and every unit is answered about by some of the people: a crossed
design. More people make the last two parts smaller, but not the first: with so many units drawn, no number of
sessions makes an interval that speaks for new units narrower than the units allow.

The components are method-of-moments estimates for unbalanced crossed designs: Gao & Owen (2017), Efficient moment
calculations for variance components in large unbalanced crossed random effects models, Electronic Journal of
Statistics 11 (equations 3 to 6). They need counts and sums per unit and per person alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from analysis.estimands import spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.results import Record
from benchmark.estimate import LEVEL, Estimate

MOST_SESSIONS = 10_000_000
"""Beyond this, a number of sessions is as good as none."""


@dataclass(frozen=True)
class Components(Record):
    """Variance components of right and wrong answers about one model.

    Attributes
    ----------
    unit, person, answer
        Variance between units, between people, and of single answers beyond both.
    mean
        Proportion of right answers.
    units, people, answers
        How many there are.
    unit_share, person_share
        Sum of squared shares of the answers: 1 / units and 1 / people if all have equally many.
    """

    unit: float
    person: float
    answer: float
    mean: float
    units: int
    people: int
    answers: int
    unit_share: float
    person_share: float

    @property
    def spreads(self) -> bool:
        """Whether answers differ at all; if not, nothing can be said of what more data would bring."""
        return self.unit + self.person + self.answer > 0

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, for new units and new people."""
        return math.sqrt(self.unit * self.unit_share + self.person * self.person_share + self.answer / self.answers)

    @property
    def half_width(self) -> float:
        """Half the width of the mean's interval, for new units and new people.

        Student's t has as many degrees of freedom as the smaller of the two samples allows.
        """
        return _quantile(min(self.units, self.people)) * self.standard_error

    def width_after(self, sessions: float, units: int) -> float:
        """Return how wide the interval will be after so many sessions like those so far.

        Parameters
        ----------
        sessions
            Sessions in all; may be infinity.
        units
            Units that are asked about, equally often.
        """
        people = (self.person * self.person_share * self.people + self.answer * self.people / self.answers) / sessions
        return 2 * _quantile(min(units, sessions)) * math.sqrt(self.unit / units + people)

    def narrowest(self, units: int) -> float:
        """Return how wide the interval stays with so many units, whatever the number of sessions."""
        return self.width_after(math.inf, units)

    def sessions_for(self, width: float, units: int) -> float:
        """Return the number of sessions after which the interval is as narrow as asked; infinity if never."""
        if self.width_after(MOST_SESSIONS, units) > width:
            return math.inf
        low, high = 1, MOST_SESSIONS
        while high - low > 1:
            middle = (low + high) // 2
            if self.width_after(middle, units) <= width:
                high = middle
            else:
                low = middle
        return float(high)

    def units_for(self, width: float) -> int:
        """Return how many units are needed for the width to be reached with any number of sessions."""
        count = 2
        while self.narrowest(count) > width:
            count = max(count + 1, int(count * 1.02))
        return count

    def estimates(self, level: float = LEVEL) -> dict[str, Estimate]:
        """Return the components ``unit``, ``person`` and ``answer`` as estimates with intervals.

        Units' and people's are chi-square intervals of the variance of their means, less what the other components add
        to it. What single answers add is their mean times its complement, less the others, and as sure as that mean.
        """
        tail = (1 - level) / 2
        made = {}
        for name, count in (("unit", self.units), ("person", self.people)):
            value = float(getattr(self, name))
            noise = (self.unit + self.person + self.answer - value) / (self.answers / count)
            seen, freedom = value + noise, count - 1
            low, high = (max(seen * freedom / float(chi2.ppf(q, freedom)) - noise, 0.0) for q in (1 - tail, tail))
            method = f"method of moments, chi-square of the variance of means with {freedom} degrees of freedom"
            made[name] = Estimate(
                value, min(low, value), max(high, value), method, count, "variance of right answers",
                spell_estimand("new units" if name == "unit" else "new people"), level,
            )  # fmt: skip
        freedom = max(self.answers - self.units - self.people + 1, 1)
        error = math.hypot((1 - 2 * self.mean) * self.standard_error, self.answer * math.sqrt(2 / freedom))
        half = critical_value(level, max(min(self.units, self.people) - 1, 1)) * error
        made["answer"] = Estimate(
            self.answer, max(self.answer - half, 0.0), min(self.answer + half, max(0.25, self.answer)),
            "method of moments, delta method: the variance of right answers follows their mean", self.answers,
            "variance of right answers", spell_estimand("new units and people"), level,
        )  # fmt: skip
        return made

    def unit_ends(self) -> tuple[Components, Components]:
        """Return the components with the variance between units at either end of its interval.

        The interval is that of :meth:`estimates`.
        """
        found = self.estimates()["unit"]
        return replace(self, unit=found.low), replace(self, unit=found.high)


def _quantile(count: float) -> float:
    """Return the quantile of Student's t for so many independent things."""
    return critical_value(LEVEL, max(count - 1, 1))


def split_variance(
    unit_answers: ArrayLike, unit_right: ArrayLike, person_answers: ArrayLike, person_right: ArrayLike
) -> Components | None:
    """Estimate variance components from counts.

    Parameters
    ----------
    unit_answers, unit_right
        Answers about each unit, and right ones among them.
    person_answers, person_right
        The same answers, counted by person.

    Returns
    -------
    The components; None while they can't be distinguished: with fewer than two units or people, or no unit or nobody
    with two answers. An estimate below zero counts as zero.

    Raises
    ------
    ValueError
        If the two countings do not add up to the same.
    """
    n_unit, s_unit, n_person, s_person = (
        np.asarray(values, dtype=np.float64) for values in (unit_answers, unit_right, person_answers, person_right)
    )
    total, right = float(n_unit.sum()), float(s_unit.sum())
    if total != n_person.sum() or right != s_person.sum():
        raise ValueError("Answers by unit and answers by person are not the same answers.")
    units, people = len(n_unit), len(n_person)
    if min(units, people) < 2 or total in (units, people):
        return None
    within_units = float((s_unit - s_unit**2 / n_unit).sum()) / (total - units)  # person + answer
    within_people = float((s_person - s_person**2 / n_person).sum()) / (total - people)  # unit + answer
    all_pairs = total * right - right**2
    pairs_of_units = total**2 - float((n_unit**2).sum())
    pairs_of_people = total**2 - float((n_person**2).sum())
    coefficient = total**2 - total - pairs_of_units - pairs_of_people
    if coefficient == 0:
        return None
    answer = (all_pairs - within_people * pairs_of_units - within_units * pairs_of_people) / coefficient
    within_units, within_people = max(0.0, within_units), max(0.0, within_people)  # rounding may leave a crumb below
    answer = max(0.0, min(answer, within_units, within_people))
    return Components(
        unit=within_people - answer,
        person=within_units - answer,
        answer=answer,
        mean=right / total,
        units=units,
        people=people,
        answers=int(total),
        unit_share=float((n_unit**2).sum()) / total**2,
        person_share=float((n_person**2).sum()) / total**2,
    )
