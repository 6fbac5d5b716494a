"""A data set whose truth is known: simulated people, and simulated machine observers, in the tables of a real one.

Nobody answered, and the notes of the data set say so wherever its numbers are shown. It is there to try an analysis on
before there are answers, and to see what the analysis makes of a truth that can be looked up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from analysis.dataset import MODEL_FACTS, Dataset, derive_sessions, model_facts, unit_facts
from analysis.power.simulation import Layout, Population, simulate_judgements
from benchmark import __version__, schemas
from benchmark.errors import AnalysisError
from benchmark.model_card import TWIN_SUFFIX
from benchmark.units import PLANTED

Floats = NDArray[np.float64]

__all__ = ["SimulatedObserver", "simulate_dataset"]

NOTE = "all answers are simulated: nobody, and no machine observer, has seen a picture"
PROTOCOL = "simulated"
UNIT = ["model", "index", "condition"]


@dataclass(frozen=True)
class SimulatedObserver:
    """A machine observer that sees a difference of similarities, and says how sure it is.

    On a task, the difference is logistic around what the observer sees in the unit; the observer chooses by its sign,
    and states the probability ``expit(certainty * difference)``.

    Attributes
    ----------
    name
        Name of the observer; ``lowlevel`` is the control that excesses are taken over.
    skill
        Mean over units of what it sees, in log-odds of a right answer.
    spread
        Standard deviation of it over units.
    likeness
        Correlation, over units, of what it sees with what people see: -1 to 1.
    certainty
        Log-odds that it states for a difference of one: above 1 it is surer than it may be, below 1 less sure.
    twin_skill
        Its skill on random-weight twins of the models; None if it is not asked about twins.
    """

    name: str
    skill: float = 1.5
    spread: float = 1.0
    likeness: float = 0.5
    certainty: float = 1.0
    twin_skill: float | None = None


def simulate_dataset(
    layout: Layout,
    population: Population,
    *,
    seed: int,
    models: pd.DataFrame | None = None,
    observers: Sequence[SimulatedObserver] = (),
    further_units: int = 0,
    name: str = "simulated",
) -> Dataset:
    """Simulate a data set.

    Parameters
    ----------
    layout
        Who is asked what; catch trials, if any, are about planted units.
    population
        The truth about people. Those who do not attend stay in: to leave them out is the work of exclusions.
    seed
        Of everything that is drawn.
    models
        One row a model: ``model`` and any of the columns of a data set's models. With ``parameters``, the population's
        slope is per decade of parameters around the models' mean. If None, models are numbered and nothing is known
        of them.
    observers
        Machine observers, who answer every task that somebody was asked.
    further_units
        Units of each model and condition that only machines are asked about.
    name
        What the data set is called.

    Raises
    ------
    AnalysisError
        If the layout is empty, the table of models fits it not, or an observer can't be simulated.
    """
    facts = _check_models(models, layout)
    _check_observers(observers)
    predictor = None
    if facts["parameters"].notna().all():
        decades = np.log10(facts["parameters"].to_numpy(np.float64))
        predictor = decades - decades.mean()
    rng = np.random.default_rng([seed, 1])
    answers = simulate_judgements(layout, population, seed=seed, predictor=predictor)
    people = _people(answers, layout, population, facts["model"].tolist(), rng)
    tasks, seen = _seen_by_people(answers, people, layout, population, further_units, rng)
    machines = [_machine(observer, tasks, seen, rng) for observer in observers]
    responses = schemas.concatenate([people, *machines], schemas.RESPONSES)
    asked = sorted({str(model) for model in responses["model"]} - {PLANTED})
    known = model_facts(asked).set_index("model")
    own = facts.set_index("model")
    for column in own.columns:
        known.loc[own.index, column] = own[column]
    return Dataset(
        name=name,
        responses=responses,
        sessions=derive_sessions(people, _session_facts(people, rng)),
        units=unit_facts(responses),
        models=known.reset_index()[MODEL_FACTS],
        protocol=PROTOCOL,
        notes=(NOTE,),
        origin={"importer": "simulation", "seed": seed},
    )


def _check_models(models: pd.DataFrame | None, layout: Layout) -> pd.DataFrame:
    """Return the facts of the models, one row each, with all columns."""
    names = [f"model-{number}" for number in range(layout.models)]
    given = pd.DataFrame({"model": names}) if models is None else models.reset_index(drop=True)
    strange = [column for column in given.columns if column not in MODEL_FACTS]
    if "model" not in given or strange:
        raise AnalysisError(f"A table of models needs the column model, and may have {', '.join(MODEL_FACTS[1:])}.")
    if len(given) != layout.models or given["model"].duplicated().any():
        raise AnalysisError(f"The layout has {layout.models} models; the table must name each of them once.")
    filled = model_facts(given["model"]).set_index("model").loc[given["model"]].reset_index()
    for column in given.columns:
        filled[column] = given[column].astype(filled[column].dtype)
    return filled


def _check_observers(observers: Sequence[SimulatedObserver]) -> None:
    names = [observer.name for observer in observers]
    if len(set(names)) < len(names):
        raise AnalysisError("Two simulated observers have the same name.")
    for observer in observers:
        if not -1 <= observer.likeness <= 1 or observer.spread < 0 or observer.certainty <= 0:
            raise AnalysisError(
                f"{observer.name} can't be simulated: its likeness must lie from -1 to 1, its spread must not be "
                "negative, and its certainty must be above 0."
            )


def _people(
    answers: pd.DataFrame, layout: Layout, population: Population, models: list[str], rng: np.random.Generator
) -> pd.DataFrame:
    """Return people's judgements as responses."""
    code = answers["unit"].astype(str).str.removeprefix("unit-").astype(np.int64).to_numpy()
    task = answers["task"].astype(str).str.removeprefix("task-").astype(np.int64).to_numpy()
    catch = (answers["kind"] == "catch").to_numpy()
    right = answers["correct"].to_numpy() == 1
    named = np.array(models, dtype=object)[code // layout.units]
    session = answers["session"].astype(str).to_numpy()
    # Whoever sees the answer clearly is more often sure of it, and faster; more so where it is right.
    clear = np.clip((answers["probability"].to_numpy() - population.guess) / (1 - population.guess), 0, 1)
    sure = np.where(right, 0.2 + 0.65 * clear, 0.2 + 0.25 * clear)
    confidence = 1 + (rng.random((len(answers), 2)) < sure[:, None]).sum(axis=1)
    table = pd.DataFrame(
        {
            "observer_kind": "simulated",
            "observer": answers["participant"].astype(str).to_numpy(),
            "session": session,
            "trial_index": answers["trial_index"].to_numpy(),
            "kind": np.where(catch, "catch", "main"),
            "model": np.where(catch, PLANTED, named),
            "layer": "layer",
            "index": np.where(catch, answers.groupby("session", observed=True).cumcount(), code % layout.units),
            "condition": answers["condition"].astype(str).to_numpy(),
            "references": answers["references"].astype(str).to_numpy(),
            "task": np.where(catch, 0, task % layout.tasks),
            "query_top": np.where(answers["max_on_top"] == 1, "max", "min"),
            "correct": right,
            "confidence": confidence,
            "rt_ms": np.round(1000 * rng.lognormal(1.6 - 0.4 * clear, 0.5)),
        }
    )
    return _complete(table)


def _seen_by_people(
    answers: pd.DataFrame,
    people: pd.DataFrame,
    layout: Layout,
    population: Population,
    further_units: int,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.Series]:
    """Return the tasks that machines are asked, and what people see in each unit, in standard deviations."""
    main = ((people["kind"] == "main") & (people["references"] == "both")).to_numpy()
    own = people[main].assign(probability=answers.loc[main, "probability"].to_numpy())
    tasks = own.drop_duplicates(["model", "index", "condition", "task"]).drop(columns="probability")
    span = 1 - population.guess - population.lapse
    share = ((own.groupby(UNIT)["probability"].mean() - population.guess) / span).clip(0.005, 0.995)
    seen = pd.Series(logit(share.to_numpy()), index=share.index)
    spread = float(seen.std(ddof=0))
    seen = (seen - seen.mean()) / spread if spread > 0 else 0 * seen
    if further_units > 0:
        cells = tasks.drop_duplicates(["model", "condition"])
        numbers = layout.units + np.arange(further_units)
        more = cells.drop(columns=["index", "task"]).merge(pd.DataFrame({"index": numbers}), how="cross")
        nobody = pd.Series(rng.standard_normal(len(more)), index=pd.MultiIndex.from_frame(more[UNIT]))
        tasks = pd.concat([tasks, more.merge(pd.DataFrame({"task": np.arange(layout.tasks)}), how="cross")])
        seen = pd.concat([seen, nobody])
    return tasks.reset_index(drop=True), seen


def _machine(
    observer: SimulatedObserver, tasks: pd.DataFrame, seen: pd.Series, rng: np.random.Generator
) -> pd.DataFrame:
    """Return the responses of a machine observer to tasks."""
    alone = math.sqrt(1 - observer.likeness**2) * rng.standard_normal(len(seen))
    latent = observer.spread * (observer.likeness * seen + alone)
    where = pd.MultiIndex.from_frame(tasks[UNIT])
    parts = [(tasks, observer.skill + latent.reindex(where).to_numpy())]
    if observer.twin_skill is not None:
        # A twin has other units in the same places: what is seen in them has nothing to do with the trained ones.
        strange = pd.Series(observer.spread * rng.standard_normal(len(seen)), index=seen.index)
        twins = tasks.assign(model=tasks["model"] + TWIN_SUFFIX)
        parts.append((twins, observer.twin_skill + strange.reindex(where).to_numpy()))
    done = []
    for asked, sees in parts:
        difference = sees + rng.logistic(size=len(asked))
        done.append(
            asked.assign(
                observer_kind="machine",
                observer=observer.name,
                session=observer.name + "/" + asked["model"] + "/" + asked["condition"],
                correct=difference > 0,
                probability=expit(observer.certainty * difference),
                confidence=None,
                rt_ms=np.nan,
            )
        )
    table = pd.concat(done, ignore_index=True)
    table["trial_index"] = table.groupby("session").cumcount()
    return _complete(table)


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """Add what is the same for all simulated answers, and what follows from the others; the table of responses."""
    unit = table["model"] + "/" + table["layer"] + "/" + table["index"].astype(str)
    trial = unit + "/" + table["condition"] + "/" + table["task"].astype(str)
    constant: dict[str, Any] = {
        "protocol": PROTOCOL,
        "study": "simulated",
        "related": False,
        "session_status": "complete",
        "basis": "neuron",
        "aggregator": "mean",
        "difficulty": "easy",
        "vimi_version": __version__,
        "stimuli_hash": "simulated",
    }
    return schemas.RESPONSES.conform(
        table.assign(
            **constant,
            response_id=table["session"] + "/" + table["trial_index"].astype(str),
            trial=trial,
            choice=np.where(table["correct"], "max", "min"),
        )
    )


def _session_facts(people: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return how long sessions took, and how many rounds of practice were needed."""
    seconds = people.groupby("session", sort=True)["rt_ms"].sum() / 1000
    count = len(seconds)
    return pd.DataFrame(
        {
            "session": seconds.index.to_numpy(),
            "total_seconds": np.round(seconds.to_numpy(np.float64) + rng.uniform(20, 120, count), 1),
            "instruction_seconds": np.round(rng.lognormal(3.8, 0.5, count), 1),
            "practice_attempts": rng.choice([1, 2, 3], count, p=[0.8, 0.15, 0.05]),
        }
    )
