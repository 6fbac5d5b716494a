"""Prediction-powered inference: a model's human score from few human answers, and a machine's answers on all units.

People answer about some units, a machine observer about those and many more. The machine's mean over the further units,
corrected by how far people and machine differ where both have answered, estimates the human score. It does so without
bias, however bad the machine is, *if the units that people answered about are a random part of all*. The better it
predicts which units people find hard, the narrower the interval (Angelopoulos, Bates, Fannjiang, Jordan & Zrnic,
Science 2023; tuning: Angelopoulos, Duchi & Zrnic, 2023, "PPI++").
Point estimate, tuning and standard error come from the library ``ppi_py``. Three things are added here, because the
library takes its labels for independent and many:

- *Units are what is independent*, not answers: its labels are unit means.
- *People answer about several units.* Whoever is right more often is so for all of them, and unit means are then
  not independent of one another. What this adds to the variance is estimated from the answers (method of moments)
  and added, to the human-only interval as well.
- *Few units.* Tuning costs the residuals two degrees of freedom instead of none, and Student's t replaces the normal.

Random labelling can't be seen in people's answers, but the machine has scored both kinds of units: where its mean on
labelled units differs from that on the others, they were not drawn alike, or it does not treat them alike (it was made
with them, say). Either biases the estimate: with a machine half a standard deviation better on labelled units, the
interval covers .48. A Welch test of the two means therefore stands beside every score, warns below .05 and refuses
below .001.

What it can save has a bound that no machine passes: a machine predicts units, not the luck of single answers nor of
people. With few answers a unit, that luck is nearly all the variance there is; see ``saving_bound``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from analysis.agreement.machines import Score, observer_name
from analysis.agreement.pairing import shared_groups
from analysis.agreement.powered_means import (
    LEAST_PEOPLE,
    Labels,
    PoweredMean,
    human_only_mean,
    powered_mean,
    shared_by_people,
)
from analysis.agreement.savings import saving_bounds
from analysis.arrays import Floats
from analysis.estimands import spell_estimand
from analysis.groups import KEYS, spell_group
from analysis.intervals.bootstrap import percentile_estimate
from analysis.multiple_tests import spell_p
from analysis.results import Record, ResultList, spread_out
from analysis.settings import Chosen, Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

LEAST_LABELLED = 15
"""Units that people must have answered about: the fewest for which coverage was measured."""

LEAST_UNLABELLED = 15
RESAMPLES = 500

WARN, REFUSE = 0.05, 0.001
"""P-values of the test of random labelling below which a score is warned of, and refused."""


@dataclass(frozen=True)
class PoweredScore(Record):
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
        one answer a unit, since units and luck can't be distinguished then.
    bound_unlimited
        The same with endlessly many further units.
    labelled, unlabelled
        Units that people and machine answered about; units that the machine alone answered about.
    answers, people
        Human answers used, and people who gave them.
    person_share
        Share of the score's variance that people's answering about several units adds.
    labelling_p
        P-value of Welch's test that the machine scores labelled and further units alike, as random labelling has it.
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
    labelling_p: float
    remark: str

    def row(self) -> dict[str, Any]:
        """Return the result as a row of a table: each estimate with its interval."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("observer", *KEYS)}
        for name in ("score", "human_only", "saving", "bound", "bound_unlimited"):
            row |= spread_out(name, getattr(self, name))
        for name in ("tuning", "labelled", "unlabelled", "answers", "people", "person_share", "labelling_p", "remark"):
            row[name] = getattr(self, name)
        return row


@threaded
def score_with_machine(
    people: pd.DataFrame,
    machine: pd.DataFrame,
    *,
    score: Score = "probability",
    **settings: Unpack[Settings],
) -> ResultList[PoweredScore]:
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
    settings
        As for every estimator: :class:`Settings`. Units are resampled, by default 500 times, for the saving's interval.

    Raises
    ------
    AnalysisError
        If the machine's scores contradict that labelled units are a random part of all (p below ``REFUSE``), if fewer
        than ``LEAST_LABELLED`` units are shared, fewer than ``LEAST_UNLABELLED`` are the machine's alone, the
        machine scores all units alike, or all human unit means are equal.
    """
    chosen = choose(settings, resamples=RESAMPLES)
    observer = observer_name(machine)
    results = []
    for names, own, theirs in shared_groups(people, machine):
        where = spell_group(names)
        labels, left_out = gather_tasks(own, theirs, score, where)
        results.append(_estimate(labels, left_out, names, observer, where, chosen))
    return ResultList(results)


def gather_tasks(people: pd.DataFrame, machine: pd.DataFrame, score: Score, where: str) -> tuple[Labels, int]:
    """Return the answers about shared units, in an order that does not depend on names, and how many units lack."""
    if score not in ("probability", "correct"):
        raise AnalysisError(f"A machine's score must be the mean of 'probability' or of 'correct', not of {score!r}.")
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
            f"{where}: people and {observer_name(machine)} both answered about {len(facts)} units, but the estimate "
            f"needs {LEAST_LABELLED}: with fewer, the coverage of the interval is unknown. Collect answers about more "
            "units."
        )
    if len(further) < LEAST_UNLABELLED:
        raise AnalysisError(
            f"{where}: {observer_name(machine)} answered about {len(further)} units beyond those of people, but the "
            f"estimate needs {LEAST_UNLABELLED}: the machine only helps through further units. Build the study with "
            "more units, which only machines need to answer."
        )
    every = scores.to_numpy(dtype=np.float64)
    if np.ptp(facts["machine"].to_numpy()) <= 1e-9 or np.ptp(every) <= 1e-9:
        raise AnalysisError(
            f"{where}: {observer_name(machine)} gives all units the same score ({every.mean():.3f}), so it predicts "
            "nothing. Use the human answers alone, or another observer."
        )
    if np.ptp((facts["sum"] / facts["size"]).to_numpy()) == 0:
        raise AnalysisError(
            f"{where}: all units have the same proportion of right answers "
            f"({facts['sum'].sum() / facts['size'].sum():.3f}); without variance there is no interval. Collect more "
            "answers."
        )
    order = facts.reset_index().sort_values(["size", "sum", "machine", "unit"], kind="stable")
    unit = pd.Index(order["unit"]).get_indexer(own["unit"]).astype(np.int64)
    person = pd.Categorical(own["person"]).codes.astype(np.int64)
    by_unit = np.argsort(unit, kind="stable")
    labels = Labels(
        unit[by_unit],
        person[by_unit],
        own["correct"].to_numpy(dtype=np.float64)[by_unit],
        order["machine"].to_numpy(dtype=np.float64),
        further,
    )
    return labels, len(answered) - len(facts)


def _estimate(
    labels: Labels, left_out: int, names: dict[str, str], observer: str, where: str, settings: Chosen
) -> PoweredScore:
    n, further = len(labels.labelled), len(labels.unlabelled)
    labelling = labelling_p(labels.labelled, labels.unlabelled)
    if labelling < REFUSE:
        raise AnalysisError(
            f"{where}: {_spell_labelling(labels, observer, labelling)} The correction needs units that were labelled "
            "at random. Use the human answers alone, draw the labelled units at random from all, or use a machine "
            "that was not made with them."
        )
    people = int(labels.person.max()) + 1
    y, counts = labels.means, labels.counts
    shared = shared_by_people(labels)
    alone, powered = human_only_mean(y, shared), powered_mean(y, labels.labelled, labels.unlabelled, shared)

    rng, resamples = np.random.default_rng(settings.seed), settings.resamples
    savings, bounds = np.empty(resamples), np.full((resamples, 2), np.nan)
    for row in range(resamples):
        # A replicate in which all drawn units agree has neither variance nor saving.
        chosen = rng.integers(n, size=n)
        extra = labels.unlabelled[rng.integers(further, size=further)]
        savings[row] = np.nan
        if np.ptp(y[chosen]) > 0 and np.ptp(labels.labelled[chosen]) > 0:
            with_machine = powered_mean(y[chosen], labels.labelled[chosen], extra, shared)
            if with_machine.variance > 0:
                savings[row] = human_only_mean(y[chosen], shared).variance / with_machine.variance
            bounds[row] = saving_bounds(y[chosen], counts[chosen], further, shared)
    estimand = spell_estimand("new units", observer=observer)

    def ratio(value: float, replicates: Floats, what: str, least: float) -> Estimate:
        return percentile_estimate(
            value, replicates, what, n, "times as many answers", estimand, (least, math.inf), settings.level
        )

    remarks = []
    if labelling < WARN:
        remarks.append(f"{_spell_labelling(labels, observer, labelling)} The score may be biased.")
    if left_out:
        remarks.append(f"{left_out} units that {observer} has not answered about are left out.")
    if people < LEAST_PEOPLE:
        remarks.append(
            f"{people} {'person' if people == 1 else 'people'} answered: too few to tell how people differ. The "
            "interval speaks for new units and these people, not for new people."
        )
    if powered.tuning == 0:
        remarks.append(f"{observer} does not predict people here (tuning 0): the score rests on people alone.")
    bound: Estimate | None = None
    unlimited: Estimate | None = None
    if (counts >= 2).all():
        here, endless = saving_bounds(y, counts, further, shared)
        what = "saving of a machine that knows each unit, variance components by method of moments"
        bound = ratio(here, bounds[:, 0], f"{what}, {further} further units", 1.0)
        unlimited = ratio(endless, bounds[:, 1], f"{what}, endless further units", 1.0)
    else:
        remarks.append(
            "The bound on the saving is unknown: with one answer about a unit, units and luck can't be distinguished."
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
            settings.level,
        ),
        human_only=_as_estimate(
            alone,
            f"mean over units; {crossing}; Student's t with {alone.freedom:.0f} degrees of freedom",
            n,
            "",
            people,
            settings.level,
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
        labelling_p=labelling,
        remark=" ".join(remarks),
    )


def labelling_p(labelled: Floats, unlabelled: Floats) -> float:
    """Return the p-value of Welch's test that a machine's mean score is the same on labelled and on further units.

    Parameters
    ----------
    labelled, unlabelled
        Shape (units,): the machine's scores of the units that people answered about, and of the others.
    """
    from scipy.stats import ttest_ind

    if np.ptp(np.concatenate([labelled, unlabelled])) <= 1e-12:
        return 1.0
    return float(ttest_ind(labelled, unlabelled, equal_var=False).pvalue)


def _spell_labelling(labels: Labels, observer: str, p: float) -> str:
    return (
        f"{observer} scores the {len(labels.labelled)} labelled units {labels.labelled.mean():.3f} and the "
        f"{len(labels.unlabelled)} others {labels.unlabelled.mean():.3f} on average (p {spell_p(p)}): they are not a "
        "random part of all, or it does not treat them alike."
    )


def _as_estimate(fit: PoweredMean, method: str, n: int, observer: str, people: int, level: float) -> Estimate:
    """Return a fit as a proportion, with ends between 0 and 1."""
    value = min(max(fit.value, 0.0), 1.0)
    half = fit.half_width(level)
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
        level,
    )
