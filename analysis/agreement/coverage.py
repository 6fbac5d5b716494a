"""How often intervals of prediction-powered scores cover the truth, in simulated studies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit, logit

from analysis.agreement.powered_means import (
    LEAST_PEOPLE,
    Labels,
    human_only_mean,
    powered_mean,
    ppi_library,
    shared_by_people,
)
from analysis.agreement.savings import saving_bound
from analysis.arrays import Floats
from analysis.results import Record
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL


@dataclass(frozen=True)
class Coverage(Record):
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
    """Simulate studies with known truth, and count how often the intervals cover it.

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
        raise AnalysisError(
            "A simulation needs at least three units of either kind, one answer per unit and two studies."
        )
    people = round(labelled * answers_per_unit / answers_per_person)
    if people < LEAST_PEOPLE:
        raise AnalysisError(
            f"{labelled * answers_per_unit} answers come from {people} people with {answers_per_person} answers each; "
            f"an interval for new people needs {LEAST_PEOPLE} people. Let each person answer about fewer units."
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
    ppi_mean_ci, _ = ppi_library()
    hits, values, savings = np.zeros((studies, 3)), np.empty((studies, 2)), np.empty(studies)
    for study in range(studies):
        place = rng.normal(size=labelled + unlabelled)
        machine = expit(correlation * place + math.sqrt(1 - correlation**2) * rng.normal(size=len(place)))
        unit = np.concatenate([rng.permutation(labelled) for _ in range(answers_per_unit)])
        person = np.arange(len(unit)) * people // len(unit)
        ability = person_sd * rng.normal(size=int(person.max()) + 1)
        p = 0.5 + 0.5 * expit(centre + unit_sd * place[unit] + ability[person])
        correct = (rng.random(len(unit)) < p).astype(np.float64)
        labels = Labels(unit, person.astype(np.int64), correct, machine[:labelled], machine[labelled:])
        y = labels.means
        if np.ptp(y) == 0:
            savings[study], values[study] = 1.0, y[0]
            continue
        shared = shared_by_people(labels)
        fits = (powered_mean(y, labels.labelled, labels.unlabelled, shared), human_only_mean(y, shared))
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
        raise AnalysisError(
            f"The mean proportion correct of simulated people must lie between 1/2 and 1, not at {mean}."
        )
    slope = 0.5 / ((mean - 0.5) * (1 - mean))

    def miss(latent: Floats) -> Floats:
        found = _moments(latent[0], latent[1], latent[2])
        return np.asarray(np.array([found[0], math.sqrt(found[1]), math.sqrt(found[2])]) - wanted)

    start = [float(logit(2 * mean - 1)), slope * unit_deviation, slope * person_deviation]
    found = least_squares(miss, start, bounds=([-30, 0, 0], [30, 30, 30]), xtol=1e-10, max_nfev=50)
    if np.abs(found.fun).max() > 1e-4:
        raise AnalysisError(
            f"No population between 1/2 and 1 has a mean of {mean} with standard deviations of "
            f"{unit_deviation} between units and {person_deviation} between people. Take smaller deviations."
        )
    return float(found.x[0]), float(found.x[1]), float(found.x[2])
