"""Designs: who is asked what, what is assumed to be true, whose sessions count, and what it all costs.

A design is written in a TOML file with one table, ``[design]``, and the tables ``[design.truth]`` (a
:class:`Population`), ``[design.exclusions]`` (a :class:`Screening`) and ``[design.costs]`` in it; whatever is left out
is as in the 2023 study. Or it is taken from the experiment of a study.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from analysis.power.simulation import Answers, Described, Floats, Layout, Population, Screening, draw_answers
from benchmark.documents import Document, parse, read_toml
from benchmark.errors import AnalysisError, DocumentError
from benchmark.experiment import Experiment, read_experiment
from benchmark.progress import Reporter
from benchmark.protocol import Rules, load_protocol


class Costs(Described):
    """What is paid for, in one currency (USD).

    Attributes
    ----------
    session
        Pay of a finished session, whether it counts or not.
    fee
        What the recruiter takes, as a share of pay.
    unfinished
        Share of the pay that people get who leave before the end.
    unit
        Of making a unit's stimuli, in one condition.
    model
        Of adding a model.
    fixed
        Whatever the size of the study.
    """

    session: float = Field(default=2.79, ge=0)
    fee: float = Field(default=0.0, ge=0)
    unfinished: float = Field(default=0.0, ge=0, le=1)
    unit: float = Field(default=0.0, ge=0)
    model: float = Field(default=0.0, ge=0)
    fixed: float = Field(default=0.0, ge=0)


UNPLANNED = {
    "slope": "effects are what power is asked about",
    "slopes": "effects are what power is asked about",
    "model_condition": "the formulas of errors do not know it",
    "misleading": "the formulas of errors do not know it",
    "misled": "the formulas of errors do not know it",
}
"""What a population may have, but not that of a design, and why not."""


class Design(Layout):
    """A design: the layout of a study, and what is assumed of it. The defaults are the natural condition of 2023.

    Attributes
    ----------
    predictor
        Each model's value of the predictor, in decades (log10 of parameters, say).
    decades
        Instead of ``predictor``: the range over which the models are spread evenly. If neither is given, nine models
        are those of the 2023 study, and any other number is spread over their range.
    truth
        What answers come from, and who comes; without an effect of the predictor.
    exclusions
        Whose sessions count.
    costs
        What is paid for.
    """

    catch_trials: int = Field(default=5, ge=0)
    predictor: tuple[float, ...] = ()
    decades: float | None = Field(default=None, gt=0)
    truth: Population = Population()
    exclusions: Screening = Screening()
    costs: Costs = Costs()

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("predictor") and "models" not in values:
            values = {**values, "models": len(values["predictor"])}
        return _people_in_truth(values)

    @field_validator("truth")
    @classmethod
    def _planned(cls, truth: Population) -> Population:
        for name in sorted(truth.model_fields_set & UNPLANNED.keys()):
            raise ValueError(f"a design can't have {name}: {UNPLANNED[name]}")
        if truth.inattentive + truth.one_sided >= 1:
            raise ValueError("inattentive and one-sided people together must be fewer than all")
        return truth

    @model_validator(mode="after")
    def _consistent(self) -> Design:
        if self.predictor and self.decades is not None:
            raise ValueError("give either the predictor's values or the decades they span, not both")
        if self.predictor and len(self.predictor) != self.models:
            raise ValueError(f"{self.models} models need as many values of the predictor, not {len(self.predictor)}")
        pool = self.units * (self.models if self.crossed else 1)
        if pool < self.trials:
            raise ValueError(
                f"a session of {self.trials} trials that shows no unit twice needs as many units, not {pool}: fewer "
                "trials, more units, or sessions that mix models"
            )
        unknown = sorted(set(self.truth.conditions) - set(self.conditions))
        if unknown:
            raise ValueError(f"the truth names conditions that the design lacks: {', '.join(unknown)}")
        if self.main_answers < 1:
            raise ValueError("no main trial of a session shows references")
        return self

    @property
    def sentence(self) -> str:
        """Who is asked what, in a line; what is assumed to be true and what it costs are left out."""
        conditions = "" if len(self.conditions) == 1 else f" in {len(self.conditions)} conditions"
        whose = "in all" if self.crossed else "a model"
        return (
            f"{_count(self.models, 'model')} with {_count(self.units, 'unit')} each{conditions}; "
            f"{_count(self.sessions, 'session')} {whose}, of {_count(self.trials, 'main trial')}"
        ) + (", in each condition" if conditions else "")

    @property
    def values(self) -> NDArray[np.float64]:
        """Each model's value of the predictor, less their mean, in decades."""
        if self.predictor:
            values = np.array(self.predictor, dtype=np.float64)
        elif self.decades is None and self.models == len(published_sizes()):
            values = published_sizes()
        else:
            values = np.linspace(0, np.ptp(published_sizes()) if self.decades is None else self.decades, self.models)
        centred: NDArray[np.float64] = values - values.mean()
        return centred

    @property
    def span(self) -> float:
        """Decades that the models span."""
        return float(np.ptp(self.values))

    @property
    def spread(self) -> float:
        """Sum of squares of the predictor about its mean."""
        return float((self.values**2).sum())

    @property
    def people_per_session(self) -> float:
        """How many people must come, on average, until a session counts.

        Raises
        ------
        AnalysisError
            If hardly anybody passes.
        """
        people, rules = self.truth, self.exclusions
        passing = rules.pass_probabilities(self, people)
        groups = (1 - people.inattentive - people.one_sided, people.inattentive, people.one_sided)
        counting = (1 - rules.dropout) * sum(share * chance for share, chance in zip(groups, passing))
        if counting < 1e-3:
            raise AnalysisError("Fewer than one person in a thousand passes the exclusion rules; they do not fit.")
        return 1 / counting

    @property
    def session_cost(self) -> float:
        """Expected cost of a session that counts: everybody who finishes is paid."""
        staying = 1 - self.exclusions.dropout
        paid = staying + (1 - staying) * self.costs.unfinished
        return self.costs.session * (1 + self.costs.fee) * paid * self.people_per_session

    @property
    def cost(self) -> float:
        """Expected cost of the study."""
        stimuli = self.models * (self.costs.model + self.units * len(self.conditions) * self.costs.unit)
        return self.costs.fixed + stimuli + self.slots * self.session_cost

    def studies(
        self, truth: Population, predictor: Floats, count: int, seed: int, title: str, reporter: Reporter | None
    ) -> Iterator[tuple[int, Answers]]:
        """Simulate studies one by one, with progress; number i is the same whatever their number."""
        with (reporter or Reporter()).task(title, count) as advance:
            for number in range(count):
                rng = np.random.default_rng([seed, number])
                yield number, draw_answers(self, truth, rng, predictor, self.exclusions)
                advance(1)

    def changed(self, **changes: Any) -> Design:
        """Return the design with some values changed, checked as a whole; tables may be changed in part.

        Raises
        ------
        DocumentError
            If the values do not fit together.
        """
        values = self.model_dump(exclude_unset=True)
        for name, value in _people_in_truth(changes).items():
            values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
        return parse(Design, values, "design")


def _people_in_truth(values: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of a design with inattentive and one-sided people in the truth.

    Files may have them among the exclusions, where they stood before one class said all of the people.
    """
    truth, exclusions = values.get("truth", {}), values.get("exclusions")
    if not isinstance(exclusions, dict) or not isinstance(truth, dict):
        return values
    people = {name: exclusions[name] for name in ("inattentive", "one_sided") if name in exclusions}
    for name in people.keys() & truth.keys():
        raise DocumentError(f"The design has {name} both in its truth and in its exclusions; leave it in the truth.")
    rules = {name: value for name, value in exclusions.items() if name not in people}
    return {**values, "truth": {**truth, **people}, "exclusions": rules} if people else values


class DesignFile(Document):
    """A file with a design in it."""

    design: Design


@cache
def published_sizes() -> NDArray[np.float64]:
    """Return log10 of the parameters of the nine models of the 2023 study."""
    with resources.as_file(resources.files("analysis") / "data" / "imi_2023.csv") as path:
        table = pd.read_csv(path)
    values: NDArray[np.float64] = np.log10(table["params"].to_numpy(dtype=np.float64))
    values.flags.writeable = False
    return values


def read_design(path: Path | str) -> Design:
    """Read a design from its TOML file.

    Raises
    ------
    DocumentError
        If a key is unknown or a value wrong; all problems are named at once.
    """
    return parse(DesignFile, read_toml(path), str(path)).design


def find_design(path: Path | str | None = None) -> Design:
    """Return the design that a path means: a design file, an experiment file or a study; the default if None."""
    if path is None:
        return Design()
    if Path(path).is_dir() or "design" not in read_toml(path):
        return design_of_study(path)
    return read_design(path)


Predictor = Literal["parameters", "training_images"]


def design_of_study(path: Path | str, predictor: Predictor = "parameters") -> Design:
    """Return the design of a study, or of an experiment file that no study was built from yet.

    What is assumed to be true stays the default: it is not known before people answer. Units of a condition that has
    fewer of them count for all conditions.

    Parameters
    ----------
    path
        The study's folder, or the experiment's TOML file.
    predictor
        What of the models' cards the slope is on.

    Raises
    ------
    AnalysisError
        If a card does not tell the predictor.
    StudyError, DocumentError
        If it can't be read.
    """
    if Path(path).is_dir():
        from benchmark.study import Study

        return design_of_experiment(Study.open(path).experiment, predictor)
    return design_of_experiment(read_experiment(path), predictor)


def design_of_experiment(experiment: Experiment, predictor: Predictor = "parameters") -> Design:
    """Return the design of an experiment; parameters and errors as for :func:`design_of_study`."""
    rules = experiment.resolve_protocol().rules
    session, limits = rules.session, rules.exclusions
    difficulties = experiment.stimuli.difficulties
    conditions = [
        condition if len(difficulties) == 1 else f"{condition}-{difficulty}"
        for condition in experiment.stimuli.conditions
        for difficulty in difficulties
    ]
    units = min(experiment.units_per_model(condition) for condition in experiment.stimuli.conditions)
    pay = experiment.recruitment.payment_usd
    values = {
        **_asked(rules, len(experiment.models), units),
        "predictor": model_predictor(experiment, predictor),
        "conditions": conditions,
        "exclusions": {
            "catch_correct": limits.catch_correct,
            "each_position": limits.each_position,
            "trials": limits.trials,
        },
        "costs": {"session": session.payment_usd if pay is None else pay},
    }
    return parse(Design, values, "design of the experiment")


def default_protocol_design(models: int = 9) -> Design:
    """Return the design of the default protocol: crossed sessions, a tenth of the trials without references."""
    rules = load_protocol("vimi1").rules
    return Design(**_asked(rules, models, rules.units.used))


def _asked(rules: Rules, models: int, units: int) -> dict[str, Any]:
    """Return who is asked what by the rules of a protocol."""
    session, crossed = rules.session, rules.session.models == "crossed"
    pool = units * (models if crossed else 1)
    return {
        "models": models,
        "units": units,
        "tasks": rules.tasks.per_unit,
        "sessions": math.ceil(pool * session.responses_per_unit / session.main_trials),
        "trials": session.main_trials,
        "catch_trials": session.catch_trials,
        "references_none": session.references.get("none", 0.0),
        "crossed": crossed,
    }


def model_predictor(experiment: Experiment, predictor: Predictor = "parameters") -> tuple[float, ...]:
    """Return log10 of each model's predictor, in the order of the experiment."""
    from benchmark.model_sources import load_card

    values = []
    for entry in experiment.models:
        card = load_card(entry.card)
        found = (
            card.parameters
            if predictor == "parameters"
            else entry.training_images or (card.training.images if card.training else None)
        )
        if not found:
            raise AnalysisError(
                f"The card of {entry.card} does not tell its {predictor.replace('_', ' ')}, so that a slope on them "
                "can't be planned: write it on the card, or plan with a [design] file."
            )
        values.append(math.log10(found))
    return tuple(values)


@dataclass(frozen=True)
class Bill:
    """What a simulated or planned study costs.

    Attributes
    ----------
    sessions
        Sessions that count.
    people
        People who came.
    money
        What they, the recruiter and the stimuli cost.
    """

    sessions: int
    people: float
    money: float


def expected_bill(design: Design) -> Bill:
    """Return the expected bill of a design."""
    slots = design.slots
    return Bill(slots, slots * design.people_per_session, design.cost)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
