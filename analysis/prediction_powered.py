"""Prediction-powered inference: a model's human score from few human answers, and a machine's answers on all units.

People answer about some units, a machine observer about those and many more. The machine's mean over the further units,
corrected by how far people and machine differ where both have answered, estimates the human score without bias,
however bad the machine is; and the better it foretells which units people find hard, the narrower the interval
(Angelopoulos, Bates, Fannjiang, Jordan & Zrnic, Science 2023; tuning: Angelopoulos, Duchi & Zrnic, 2023, "PPI++").
Point estimate, tuning and standard error come from the library ``ppi_py``. Three things are added here, because the
library takes its labels for independent and many:

- *Units are what is independent*, not answers: its labels are unit means.
- *People answer about several units.* Whoever is right more often is so for all of them, and unit means are then
  not independent of one another. What this adds to the variance is estimated from the answers (method of moments)
  and added, to the human-only interval as well.
- *Few units.* Tuning costs the residuals two degrees of freedom instead of none, and Student's t replaces the normal.

What it can save has a bound that no machine passes: a machine foretells units, not the luck of single answers nor of
people. With few answers a unit, that luck is nearly all the variance there is; see ``saving_bound``.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import expit, logit
from scipy.stats import norm, t

from analysis.agreement import Score, observer_name, shared_groups
from analysis.estimands import spell_estimand
from analysis.reliability import KEYS, percentile_estimate, spell_group, spread_out
from analysis.variance_components import split_variance
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEVEL = 0.95
LEAST_LABELLED = 15
"""Units that people must have answered about: the fewest for which coverage was measured."""
LEAST_UNLABELLED = 15
LEAST_PEOPLE = 5
"""Fewer people tell nothing of how people differ: the interval then speaks for these people alone."""
LEAST_FREEDOM = 5.0
"""Student's t gets no fewer degrees of freedom: below, intervals were seen to cover more than 97 %."""
RESAMPLES = 500


@dataclass(frozen=True)
class PoweredScore:
    """A model's human score with the help of a machine observer.

    Attributes
    ----------
    score
        Prediction-powered proportion correct.
    human_only
        The same from the human answers alone, its interval made in the same way.
    tuning
        Weight of the machine's scores after they were scaled, 0 to 1; 0 leaves them out.
    saving
        Variance of the human-only estimate over that of the prediction-powered one: how many times as many answers
        people would have to give for the same interval without the machine. Below 1 where tuning costs more than the
        machine brings.
    bound
        The saving of a machine that knows each unit's true human score, with as many further units as here. None with
        one answer a unit, since units and luck can't be told apart then.
    bound_unlimited
        The same with endlessly many further units.
    labelled, unlabelled
        Units that people and machine answered about; units that the machine alone answered about.
    answers, people
        Human answers used, and people who gave them.
    person_share
        Share of the score's variance that people's answering about several units adds.
    remark
        What must be said beside the numbers.
    """

    observer: str
    model: str
    condition: str
    difficulty: str
    references: str
    score: Estimate
    human_only: Estimate
    tuning: float
    saving: Estimate
    bound: Estimate | None
    bound_unlimited: Estimate | None
    labelled: int
    unlabelled: int
    answers: int
    people: int
    person_share: float
    remark: str

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table: each estimate with its interval."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("observer", *KEYS)}
        for name in ("score", "human_only", "saving", "bound", "bound_unlimited"):
            row |= spread_out(name, getattr(self, name))
        for name in ("tuning", "labelled", "unlabelled", "answers", "people", "person_share", "remark"):
            row[name] = getattr(self, name)
        return row


@dataclass(frozen=True)
class _Labels:
    """Human answers, and the machine's scores of the same and of further units."""

    unit: Integers
    person: Integers
    correct: Floats
    labelled: Floats
    unlabelled: Floats

    @property
    def counts(self) -> Floats:
        """Answers about each unit."""
        return np.bincount(self.unit).astype(np.float64)

    @property
    def means(self) -> Floats:
        """Proportion correct of each unit."""
        return np.asarray(np.bincount(self.unit, self.correct) / self.counts)


@dataclass(frozen=True)
class _Fit:
    """A mean, its variance and degrees of freedom; and how it was tuned."""

    value: float
    variance: float
    freedom: float
    tuning: float

    def half_width(self) -> float:
        return float(t.ppf((1 + LEVEL) / 2, self.freedom)) * math.sqrt(self.variance)


@dataclass(frozen=True)
class _Shared:
    """What people's answering about several units adds to the variance of a mean over units.

    ``doubt`` is half the variance of that estimate: what Satterthwaite's formula needs, also where the estimate is 0.
    """

    variance: float
    doubt: float


def score_with_machine(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    score: Score = "probability",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[PoweredScore, ...]:
    """Estimate the human score of each model and condition from human answers and a machine's.

    The score is the mean over units, drawn as these were, of the proportion correct of people like these. The units
    that people answered about must be a random part of those that the machine answered about.

    Parameters
    ----------
    people
        Table of judgements.
    machine
        Table of machine answers, about more units than people's. Its score of a unit is the mean over the unit's
        tasks, which for a unit that people answered about need not be the tasks that they saw.
    score
        What the machine's score averages: its probability of the right answer, or whether it is right.
    resamples, seed
        Of the bootstrap over units that gives the saving its interval.

    Raises
    ------
    AnalysisError
        If fewer than ``LEAST_LABELLED`` units are shared, fewer than ``LEAST_UNLABELLED`` are the machine's alone, the
        machine scores all units alike, or all human unit means are equal.
    """
    observer = observer_name(machine)
    results = []
    for names, own, theirs in shared_groups(people, machine):
        where = spell_group(names)
        labels, left_out = _gather(own, theirs, score, where)
        results.append(_estimate(labels, left_out, names, observer, where, resamples, seed))
    return tuple(results)


def saving_bound(
    unit: float,
    person: float,
    answer: float,
    *,
    answers_per_unit: float,
    answers_per_person: float,
    labelled: int = 1,
    unlabelled: float = math.inf,
) -> float:
    """Return the saving of a machine that knows each unit's true human score: what no machine can pass.

    With ``n`` labelled units, ``k`` answers each, ``m`` by one person, the human-only variance is
    ``(unit + (m person + answer) / k) / n``. A perfect machine on ``N`` further units leaves ``unit / (n + N)`` of the
    first part: its optimal weight is ``N / (n + N)``. The rest is the luck of people and answers, which nothing about
    the units foretells. The bound is the ratio of the two.

    Parameters
    ----------
    unit, person, answer
        Variances between units, between people, and of single answers beyond both.
    answers_per_unit, answers_per_person
        The numbers k and m.
    labelled, unlabelled
        The numbers n and N; with endlessly many further units, the default, n does not matter.

    Raises
    ------
    AnalysisError
        If a variance is negative, all are 0, or a number of answers is not positive.
    """
    if min(unit, person, answer) < 0 or answers_per_unit <= 0 or answers_per_person <= 0 or labelled < 1:
        raise AnalysisError(
            "A bound on savings needs variances of 0 or more, and numbers of answers and units above 0."
        )
    luck = (answers_per_person * person + answer) / answers_per_unit
    if unit + luck == 0:
        raise AnalysisError("All variances are 0: there is nothing to save.")
    left = 0.0 if math.isinf(unlabelled) else unit * labelled / (labelled + unlabelled)
    return math.inf if left + luck == 0 else (unit + luck) / (left + luck)


# ----------------------------------------------------------------------------------------------------- estimation


def _gather(people: pd.DataFrame, machine: pd.DataFrame, score: Score, where: str) -> tuple[_Labels, int]:
    """Return the answers about shared units, in an order that does not depend on names, and how many units lack."""
    if score not in ("probability", "correct"):
        raise AnalysisError(f"A machine's score averages 'probability' or 'correct', not {score!r}.")
    scores = machine.groupby(machine["unit"].astype(str), sort=True)[score].mean()
    own = pd.DataFrame(
        {
            "unit": people["unit"].astype(str),
            "person": people["participant"].astype(str),
            "correct": people["correct"].astype(float),
        }
    )
    answered = own["unit"].unique()
    own = own[own["unit"].isin(scores.index)]
    facts = own.groupby("unit", sort=True)["correct"].agg(["size", "sum"]).assign(machine=scores)
    further = np.sort(scores[~scores.index.isin(facts.index)].to_numpy(dtype=np.float64))
    if len(facts) < LEAST_LABELLED:
        raise AnalysisError(
            f"{where}: people and {observer_name(machine)} both answered about {len(facts)} units, and "
            f"{LEAST_LABELLED} are needed: with fewer, how often the interval covers is unknown. Collect answers "
            "about more units."
        )
    if len(further) < LEAST_UNLABELLED:
        raise AnalysisError(
            f"{where}: {observer_name(machine)} answered about {len(further)} units beyond those of people, and "
            f"{LEAST_UNLABELLED} are needed: it can only help by what it says about further units. Build the study "
            "with more units, which only machines need to answer."
        )
    every = scores.to_numpy(dtype=np.float64)
    if np.ptp(facts["machine"].to_numpy()) <= 1e-9 or np.ptp(every) <= 1e-9:
        raise AnalysisError(
            f"{where}: {observer_name(machine)} scores all units alike ({every.mean():.3f}), and foretells nothing "
            "about them. Use the human answers alone, or another observer."
        )
    if np.ptp((facts["sum"] / facts["size"]).to_numpy()) == 0:
        raise AnalysisError(
            f"{where}: all units have the same proportion of right answers "
            f"({facts['sum'].sum() / facts['size'].sum():.3f}); without any variance, an interval can't be had. "
            "Collect more answers."
        )
    order = facts.reset_index().sort_values(["size", "sum", "machine", "unit"], kind="stable")
    unit = pd.Index(order["unit"]).get_indexer(own["unit"]).astype(np.int64)
    person = pd.Categorical(own["person"]).codes.astype(np.int64)
    by_unit = np.argsort(unit, kind="stable")
    labels = _Labels(
        unit[by_unit],
        person[by_unit],
        own["correct"].to_numpy(dtype=np.float64)[by_unit],
        order["machine"].to_numpy(dtype=np.float64),
        further,
    )
    return labels, len(answered) - len(facts)


def _estimate(
    labels: _Labels, left_out: int, names: dict[str, str], observer: str, where: str, resamples: int, seed: int
) -> PoweredScore:
    n, further = len(labels.labelled), len(labels.unlabelled)
    people = int(labels.person.max()) + 1
    y, counts = labels.means, labels.counts
    shared = _shared_by_people(labels)
    alone, powered = _human_only(y, shared), _powered(y, labels.labelled, labels.unlabelled, shared)

    rng = np.random.default_rng(seed)
    savings, bounds = np.empty(resamples), np.full((resamples, 2), np.nan)
    for row in range(resamples):
        # A replicate in which all drawn units agree has neither variance nor saving.
        chosen = rng.integers(n, size=n)
        extra = labels.unlabelled[rng.integers(further, size=further)]
        savings[row] = np.nan
        if np.ptp(y[chosen]) > 0 and np.ptp(labels.labelled[chosen]) > 0:
            with_machine = _powered(y[chosen], labels.labelled[chosen], extra, shared)
            if with_machine.variance > 0:
                savings[row] = _human_only(y[chosen], shared).variance / with_machine.variance
            bounds[row] = _bounds(y[chosen], counts[chosen], further, shared)
    estimand = spell_estimand("new units", observer=observer)

    def ratio(value: float, replicates: Floats, what: str, least: float) -> Estimate:
        return percentile_estimate(value, replicates, what, n, "times as many answers", estimand, (least, math.inf))

    remarks = []
    if left_out:
        remarks.append(f"{left_out} units that {observer} has not answered about are left out.")
    if people < LEAST_PEOPLE:
        remarks.append(
            f"{people} {'person' if people == 1 else 'people'} answered: too few to tell how people differ. The "
            "interval speaks for new units and these people, not for new people."
        )
    if powered.tuning == 0:
        remarks.append(f"{observer} does not foretell people here (tuning 0): the score rests on people alone.")
    bound: Estimate | None = None
    unlimited: Estimate | None = None
    if (counts >= 2).all():
        here, endless = _bounds(y, counts, further, shared)
        what = "saving of a machine that knows each unit, variance components by method of moments"
        bound = ratio(here, bounds[:, 0], f"{what}, {further} further units", 1.0)
        unlimited = ratio(endless, bounds[:, 1], f"{what}, endless further units", 1.0)
    else:
        remarks.append(
            "The bound on the saving is unknown: with one answer about a unit, units and luck can't be told apart."
        )
    crossing = (
        "variance of people who answer about several units added"
        if people >= LEAST_PEOPLE
        else f"{people} people, taken as given"
    )
    return PoweredScore(
        observer=observer,
        **names,
        score=_as_estimate(
            powered,
            f"prediction-powered mean over units (PPI++, ppi_py), {n} units with human answers and {further} without; "
            f"{crossing}; Student's t with {powered.freedom:.0f} degrees of freedom",
            n,
            observer,
            people,
        ),
        human_only=_as_estimate(
            alone,
            f"mean over units; {crossing}; Student's t with {alone.freedom:.0f} degrees of freedom",
            n,
            "",
            people,
        ),
        tuning=powered.tuning,
        saving=ratio(
            alone.variance / powered.variance if powered.variance > 0 else math.inf,
            savings,
            "variance of the human-only estimate over the prediction-powered one",
            0.0,
        ),
        bound=bound,
        bound_unlimited=unlimited,
        labelled=n,
        unlabelled=further,
        answers=len(labels.correct),
        people=people,
        person_share=shared.variance / powered.variance if powered.variance > 0 else 0.0,
        remark=" ".join(remarks),
    )


def _as_estimate(fit: _Fit, method: str, n: int, observer: str, people: int) -> Estimate:
    """Return a fit as a proportion, with ends between 0 and 1."""
    value = min(max(fit.value, 0.0), 1.0)
    half = fit.half_width()
    return Estimate(
        value,
        max(min(fit.value - half, value), 0.0),
        min(max(fit.value + half, value), 1.0),
        method,
        n,
        "proportion correct",
        spell_estimand(
            "new units and people" if people >= LEAST_PEOPLE else "new units",
            observer=f"people, helped by {observer}" if observer else "people",
        ),
    )


def _human_only(y: Floats, shared: _Shared) -> _Fit:
    """Return the mean of unit means."""
    n = len(y)
    return _join(float(y.mean()), [(float(y.var(ddof=1)) / n, n - 1.0)], shared, 0.0)


def _powered(y: Floats, labelled: Floats, unlabelled: Floats, shared: _Shared) -> _Fit:
    """Return the prediction-powered mean.

    The machine's scores are scaled to a standard deviation of 1/2, the largest that a proportion can have: the best
    weight is then never beyond 1, where the library cuts it off. Scaling uses the machine's scores alone, and leaves
    the estimate valid.
    """
    ppi_mean_ci, ppi_mean_pointestimate = _library()
    every = np.concatenate([labelled, unlabelled])
    scaled = (every - every.mean()) / (2 * every.std())
    f, g = scaled[: len(labelled)], scaled[len(labelled) :]
    low, high = (float(np.squeeze(end)) for end in ppi_mean_ci(y, f, g, alpha=1 - LEVEL))
    value = (low + high) / 2
    # The library does not tell its weight, but the estimate is linear in it.
    without, full = (float(np.squeeze(ppi_mean_pointestimate(y, f, g, lam=weight))) for weight in (0.0, 1.0))
    if abs(full - without) > 1e-9:
        tuning = min(max((value - without) / (full - without), 0.0), 1.0)
    else:
        # Means of the machine's scores are the same in both sets: move one score by a hair.
        moved = g + np.where(np.arange(len(g)) == 0, 1e-4, 0.0)
        with_hair = float(np.squeeze(ppi_mean_pointestimate(y, f, moved)))
        tuning = min(max((with_hair - without) / (float(moved.mean()) - float(f.mean())), 0.0), 1.0)
    n, further = len(y), len(g)
    error = ((high - low) / (2 * float(norm.ppf((1 + LEVEL) / 2)))) ** 2
    imputed = tuning**2 * float(g.var()) / further
    residual = max(error - imputed, 0.0) * n / (n - 2)
    parts = [(residual, n - 2.0), (imputed * further / (further - 1), further - 1.0)]
    return _join(value, parts, shared, tuning)


def _join(value: float, parts: list[tuple[float, float]], shared: _Shared, tuning: float) -> _Fit:
    """Add variances; degrees of freedom by Satterthwaite (1946), Biometrics Bulletin 2."""
    variance = sum(part for part, _ in parts) + shared.variance
    below = sum(part**2 / freedom for part, freedom in parts) + shared.doubt
    return _Fit(value, variance, max(variance**2 / below, LEAST_FREEDOM) if below > 0 else LEAST_FREEDOM, tuning)


def _library() -> tuple[Any, Any]:
    """Return the library's functions; importing it takes seconds, and would silence all warnings for good."""
    with warnings.catch_warnings():
        from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
    return ppi_mean_ci, ppi_mean_pointestimate


def _shared_by_people(labels: _Labels) -> _Shared:
    """Return what people's answering about several units adds to the variance of the mean over units.

    A mean over units gives each answer the weight 1 / (n k). The variance between people enters the mean by the sum of
    people's squared weights; the variance of unit means holds that part already which falls on single units.
    """
    people, n = int(labels.person.max()) + 1, len(labels.labelled)
    if people < LEAST_PEOPLE:
        return _Shared(0.0, 0.0)
    weight = 1 / (n * labels.counts[labels.unit])
    _, cell = np.unique(labels.unit * people + labels.person, return_inverse=True)
    beyond = float((np.bincount(labels.person, weight) ** 2).sum() - (np.bincount(cell, weight) ** 2).sum())
    beyond = max(beyond, 0.0)
    person, spread = _person_variance(labels)
    return _Shared(person * beyond, (spread * beyond) ** 2 / (people - 1))


def _person_variance(labels: _Labels) -> tuple[float, float]:
    """Return the variance between people, 0 where the estimate is negative; and that with the luck of their answers.

    The second is the expected mean square between people over their answers each: the estimate is a difference of mean
    squares, and varies as much as the larger of them.
    """
    given = np.bincount(labels.person).astype(np.float64)
    right = np.bincount(labels.person, labels.correct)
    n, people = float(given.sum()), len(given)
    size = (n - float((given**2).sum()) / n) / (people - 1)
    if n <= people:
        return 0.0, float(right.sum() / n * (1 - right.sum() / n))
    level = float((right**2 / given).sum())
    within = (float(right.sum()) - level) / (n - people)
    components = split_variance(labels.counts, np.bincount(labels.unit, labels.correct), given, right)
    if components is not None:
        person = components.person
    else:
        # One answer a unit: units are then part of what varies within a person.
        between = (level - float(right.sum()) ** 2 / n) / (people - 1)
        person = max((between - within) / size, 0.0)
    return person, person + within / size


def _bounds(y: Floats, counts: Floats, further: int, shared: _Shared) -> tuple[float, float]:
    """Return the bound on the saving with so many further units and with endlessly many; NaN with one answer a unit."""
    if (counts < 2).any():
        return math.nan, math.nan
    n = len(y)
    seen = float(y.var(ddof=1))
    noise = min(float((y * (1 - y) / (counts - 1)).mean()), seen)
    unit = seen - noise
    if noise + n * shared.variance <= 0:
        return math.inf if unit > 0 else 1.0, math.inf if unit > 0 else 1.0
    luck = noise + n * shared.variance
    return (unit + luck) / (unit * n / (n + further) + luck), (unit + luck) / luck


# ------------------------------------------------------------------------------------------------------ coverage


@dataclass(frozen=True)
class Coverage:
    """How often intervals cover the truth in simulated studies, and what the machine saves there.

    Attributes
    ----------
    correlation
        Of machine and human scores of units, on the scale on which they are drawn.
    coverage, coverage_human_only, coverage_library
        Share of studies whose interval holds the truth: prediction-powered, human-only, and the library's as it is.
    saving
        Variance of the human-only estimates over that of the prediction-powered ones, across studies: the true one.
    saving_reported
        Median of the savings that the studies estimate.
    bound
        ``saving_bound`` for this design.
    """

    labelled: int
    unlabelled: int
    answers_per_unit: int
    correlation: float
    studies: int
    coverage: float
    coverage_human_only: float
    coverage_library: float
    saving: float
    saving_reported: float
    bound: float


def simulate_coverage(
    labelled: int,
    unlabelled: int,
    answers_per_unit: int,
    correlation: float,
    *,
    mean: float = 0.83,
    unit_deviation: float = 0.10,
    person_deviation: float = 0.05,
    answers_per_person: int = 40,
    studies: int = 1000,
    seed: int = 0,
) -> Coverage:
    """Simulate studies with known truth, and count how often the intervals hold it.

    Units and people differ normally on the logit of a probability above guessing (1/2), so that the probabilities have
    the moments asked for. The machine's score of a unit correlates with the unit's
    place on that scale. Everyone gives about ``answers_per_person`` answers, about units in random order.

    Parameters
    ----------
    labelled, unlabelled, answers_per_unit
        Units with and without human answers, and answers a unit.
    correlation
        Of the machine's score and the units' place on the latent scale; 0 knows nothing, 1 everything.
    mean, unit_deviation, person_deviation
        Proportion correct, and standard deviations between units and between people.

    Raises
    ------
    AnalysisError
        If no such population exists, or the design is too small to be simulated.
    """
    if labelled < 3 or unlabelled < 3 or answers_per_unit < 1 or answers_per_person < 1 or studies < 2:
        raise AnalysisError("A simulation needs three units of either kind, an answer each, and two studies at least.")
    people = round(labelled * answers_per_unit / answers_per_person)
    if people < LEAST_PEOPLE:
        raise AnalysisError(
            f"{labelled * answers_per_unit} answers are the work of {people} people with {answers_per_person} answers "
            f"each, and an interval for new people needs {LEAST_PEOPLE}. Let each person answer about fewer units."
        )
    centre, unit_sd, person_sd = _match_moments(mean, unit_deviation, person_deviation)
    truth, unit_variance, person_variance = _moments(centre, unit_sd, person_sd)
    bound = saving_bound(
        unit_variance,
        person_variance,
        truth * (1 - truth) - unit_variance - person_variance,
        answers_per_unit=answers_per_unit,
        answers_per_person=labelled * answers_per_unit / people,
        labelled=labelled,
        unlabelled=unlabelled,
    )
    rng = np.random.default_rng(seed)
    ppi_mean_ci, _ = _library()
    hits, values, savings = np.zeros((studies, 3)), np.empty((studies, 2)), np.empty(studies)
    for study in range(studies):
        place = rng.normal(size=labelled + unlabelled)
        machine = expit(correlation * place + math.sqrt(1 - correlation**2) * rng.normal(size=len(place)))
        unit = np.concatenate([rng.permutation(labelled) for _ in range(answers_per_unit)])
        person = np.arange(len(unit)) * people // len(unit)
        ability = person_sd * rng.normal(size=int(person.max()) + 1)
        p = 0.5 + 0.5 * expit(centre + unit_sd * place[unit] + ability[person])
        correct = (rng.random(len(unit)) < p).astype(np.float64)
        labels = _Labels(unit, person.astype(np.int64), correct, machine[:labelled], machine[labelled:])
        y = labels.means
        if np.ptp(y) == 0:
            savings[study], values[study] = 1.0, y[0]
            continue
        shared = _shared_by_people(labels)
        fits = (_powered(y, labels.labelled, labels.unlabelled, shared), _human_only(y, shared))
        for column, fit in enumerate(fits):
            hits[study, column] = abs(fit.value - truth) <= fit.half_width()
            values[study, column] = fit.value
        low, high = ppi_mean_ci(y, labels.labelled, labels.unlabelled, alpha=1 - LEVEL)
        hits[study, 2] = float(np.squeeze(low)) <= truth <= float(np.squeeze(high))
        savings[study] = fits[1].variance / fits[0].variance
    return Coverage(
        labelled,
        unlabelled,
        answers_per_unit,
        correlation,
        studies,
        float(hits[:, 0].mean()),
        float(hits[:, 1].mean()),
        float(hits[:, 2].mean()),
        float(values[:, 1].var() / values[:, 0].var()),
        float(np.median(savings)),
        bound,
    )


def _moments(centre: float, unit_sd: float, person_sd: float) -> tuple[float, float, float]:
    """Return mean, variance between units and variance between people of 1/2 + 1/2 sigmoid(normal), by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    grid = 0.5 + 0.5 * expit(centre + unit_sd * nodes[:, None] + person_sd * nodes[None, :])
    of_units, of_people = grid @ weights, weights @ grid
    truth = float(weights @ of_units)
    return truth, float(weights @ (of_units - truth) ** 2), float(weights @ (of_people - truth) ** 2)


def _match_moments(mean: float, unit_deviation: float, person_deviation: float) -> tuple[float, float, float]:
    """Return centre and deviations on the latent scale that give probabilities the moments asked for."""
    wanted = np.array([mean, unit_deviation, person_deviation])
    if not (0.5 < mean < 1 and min(unit_deviation, person_deviation) >= 0):
        raise AnalysisError(f"Simulated people are right between 1/2 and 1 of the time, not {mean}.")
    slope = 0.5 / ((mean - 0.5) * (1 - mean))

    def miss(latent: Floats) -> Floats:
        found = _moments(latent[0], latent[1], latent[2])
        return np.asarray(np.array([found[0], math.sqrt(found[1]), math.sqrt(found[2])]) - wanted)

    start = [float(logit(2 * mean - 1)), slope * unit_deviation, slope * person_deviation]
    found = least_squares(miss, start, bounds=([-30, 0, 0], [30, 30, 30]), xtol=1e-10, max_nfev=50)
    if np.abs(found.fun).max() > 1e-4:
        raise AnalysisError(
            f"No such population: a mean of {mean} with a deviation of {unit_deviation} between units and "
            f"{person_deviation} between people can't be had between 1/2 and 1."
        )
    return float(found.x[0]), float(found.x[1]), float(found.x[2])
