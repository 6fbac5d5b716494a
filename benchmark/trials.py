"""Trials: what one participant sees, in which order.

Sessions are laid out as passes over the units: in each pass every unit occurs once, in seeded order, and a
session is the next stretch of trials. So no unit occurs twice in a session, each unit is answered equally often,
and its tasks take turns. Slots behind the planned ones, to refill what was lost, come from the same function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from benchmark import schemas
from benchmark.errors import DocumentError
from benchmark.layers import NEURON
from benchmark.progress import Advance
from benchmark.protocol import REFERENCES, Protocol
from benchmark.randomness import generator_from
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.units import PLANTED, UNIT_COLUMNS
from benchmark.waves import Wave, first_wave, study_waves

LESS_OBVIOUS = (PLANTED, "orientation", NEURON, 1, "mean")
"""The planted unit of the less obvious practice trial: one needs to look, and can then be sure."""


@dataclass
class SessionCell:
    """Sessions that share what they ask about: a condition and difficulty, and, if nested, a model.

    Attributes
    ----------
    name
        ``natural-easy``, or ``resnet50-natural-easy``.
    tasks
        Distinct tasks of its units, from :func:`benchmark.tasks.assemble_tasks`.
    planted
        Tasks of planted units in the same condition.
    protocol
        The rules.
    seed
        The experiment's seed.
    """

    name: str
    tasks: pd.DataFrame
    planted: pd.DataFrame
    protocol: Protocol
    seed: int
    _passes: list[list[int]] = field(default_factory=list, repr=False)
    _shown: dict[str, np.ndarray[Any, np.dtype[np.int64]]] = field(default_factory=dict, repr=False)
    _kinds: list[list[str]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.by_unit, self.by_planted = _rows_by_unit(self.tasks), _rows_by_unit(self.planted)
        self.units = list(self.by_unit)
        self.length = self.protocol.rules.session.main_trials
        check_units(self.name, len(self.units), self.length)
        generator = generator_from(self.seed, "first task", self.name)
        self.first_task = generator.integers(0, [len(self.by_unit[unit]) for unit in self.units])

    @property
    def planned(self) -> int:
        """How many sessions give every unit the protocol's number of responses."""
        return planned_sessions(len(self.units), self.protocol)

    def _pass(self, number: int) -> list[int]:
        """Return the order of the units in a pass; no unit then occurs twice in a session."""
        while len(self._passes) <= number:
            count = len(self._passes)
            order = generator_from(self.seed, "pass", self.name, count).permutation(len(self.units)).tolist()
            begun = (count * len(self.units)) % self.length
            if begun:
                # The pass begins inside a session: what that session has shown comes later.
                shown = set(self._passes[-1][-begun:])
                fresh = [unit for unit in order if unit not in shown]
                opening = fresh[: self.length - begun]
                order = opening + [unit for unit in order if unit not in set(opening)]
            self._passes.append(order)
        return self._passes[number]

    def main_units(self, session: int) -> list[tuple[int, int]]:
        """Return the main trials of a session: number of the unit, and of the pass."""
        begin = session * self.length
        return [
            (self._pass(position // len(self.units))[position % len(self.units)], position // len(self.units))
            for position in range(begin, begin + self.length)
        ]

    def reference_kinds(self, session: int) -> list[str]:
        """Return which references each main trial of a session shows.

        Every session has the protocol's shares, rounded up for the rarer kinds. They fall on the units of the
        session that have had them least, so that units differ by a few at most.
        """
        shares = self.protocol.rules.session.references
        rare = [kind for kind in REFERENCES if kind != "both" and shares.get(kind, 0) > 0]
        while len(self._kinds) <= session:
            number = len(self._kinds)
            units = [unit for unit, _ in self.main_units(number)]
            noise = generator_from(self.seed, "references", self.name, number).random(len(units))
            kinds: list[str] = ["both" if shares.get("both", 0) > 0 or not rare else rare[0]] * len(units)
            free = set(range(len(units)))
            for kind in rare:
                shown = self._shown.setdefault(kind, np.zeros(len(self.units), dtype=np.int64))
                wanted = min(len(free), math.ceil(round(shares[kind] * len(units), 9)))
                for position in sorted(free, key=lambda p: (shown[units[p]], noise[p]))[:wanted]:
                    kinds[position] = kind
                    shown[units[position]] += 1
                    free.discard(position)
            self._kinds.append(kinds)
        return self._kinds[session]

    def slot(self, number: int) -> str:
        """Return the name of a session slot."""
        return f"{self.name}-{number:04d}"

    def practice(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the trials of a round of practice; any number from 0 upwards is a round.

        People practise before a slot is theirs, and again until they answer rightly, so that rounds are no part of
        a slot.
        """
        rules = self.protocol.rules.session
        generator = generator_from(self.seed, "practice", self.name, number)
        chosen = self._planted_trials(
            generator, "practice", number, rules.practice_obvious, rules.practice_less_obvious
        )
        for index, row in enumerate(chosen):
            yield self._trial(f"{self.name}-practice-{number:06d}", index, "practice", row, "both", generator)

    def session(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the trials of a session slot, practice first; any number from 0 upwards is a slot."""
        rules = self.protocol.rules.session
        generator = generator_from(self.seed, "session", self.name, number)
        name = self.slot(number)
        practice = self._planted_trials(
            generator, "practice", number, rules.practice_obvious, rules.practice_less_obvious
        )
        main = [
            ("main", self._task(unit, turn), kind)
            for (unit, turn), kind in zip(self.main_units(number), self.reference_kinds(number))
        ]
        catch = [
            ("catch", row, "both") for row in self._planted_trials(generator, "catch", number, rules.catch_trials, 0)
        ]
        body = [(main + catch)[n] for n in generator.permutation(len(main) + len(catch))]
        for index, (kind, row, references) in enumerate([("practice", row, "both") for row in practice] + body):
            yield self._trial(name, index, kind, row, references, generator)

    def _task(self, unit: int, turn: int) -> dict[Any, Any]:
        """Return the task that a unit's turn uses: its tasks follow one another from a seeded first one."""
        own = self.by_unit[self.units[unit]]
        return own[(int(self.first_task[unit]) + turn) % len(own)]

    def _planted_trials(
        self, generator: np.random.Generator, kind: str, turn: int, obvious: int, less_obvious: int
    ) -> list[dict[Any, Any]]:
        """Return tasks of planted units, no unit twice as long as there are enough.

        Practice and catch trials have tasks of their own: people are told the answers of practice, and would know
        the queries again.
        """
        easy = [key for key in self.by_planted if key != LESS_OBVIOUS]
        order = [easy[n] for n in generator.permutation(len(easy))]
        chosen = [order[n % len(order)] for n in range(obvious)] if order else []
        chosen += [LESS_OBVIOUS] * less_obvious if LESS_OBVIOUS in self.by_planted else []
        tasks = []
        for position, key in enumerate(chosen):
            own = self.by_planted[key]
            own = own[0 if kind == "practice" else 1 :: 2] if len(own) > 1 else own
            tasks.append(own[(turn + position // max(len(order), 1)) % len(own)])
        return tasks

    def _trial(
        self, session: str, index: int, kind: str, task: dict[Any, Any], references: str, generator: np.random.Generator
    ) -> dict[str, Any]:
        """Return a row of the table of trials: sides, and the order of the references, are drawn here."""
        row: dict[str, Any] = {name: task[name] for name in (*UNIT_COLUMNS, "condition", "difficulty", "task")}
        for side in ("max", "min"):
            strongest, *others = task[f"references_{side}"]
            row[f"references_{side}"] = [strongest, *(others[n] for n in generator.permutation(len(others)))]
            row[f"query_{side}"] = task[f"query_{side}"]
        return {
            **row,
            "trial": f"{session}/{index:02d}",
            "session": session,
            "trial_index": index,
            "kind": kind,
            "references": references,
            "query_top": "max" if generator.random() < 0.5 else "min",
            "label_overlap": task["label_overlap"],
        }


def _rows_by_unit(tasks: pd.DataFrame) -> dict[tuple[Any, ...], list[dict[Any, Any]]]:
    """Return the tasks of each unit as plain rows, units in order: sessions take them one by one."""
    found: dict[tuple[Any, ...], list[dict[Any, Any]]] = {}
    for row in tasks.to_dict("records"):
        found.setdefault(tuple(row[name] for name in UNIT_COLUMNS), []).append(row)
    return dict(sorted(found.items()))


def make_cells(tasks: pd.DataFrame, protocol: Protocol, seed: int, asked: set[str]) -> list[SessionCell]:
    """Divide tasks into the cells that sessions are made of.

    Parameters
    ----------
    tasks
        Distinct tasks, those of planted units among them.
    protocol
        Says whether sessions mix models.
    seed
        The experiment's seed.
    asked
        Models whose units people are asked about: twins are controls for machines.
    """
    return wave_cells(tasks, first_wave(tasks, protocol, asked), protocol, seed)


def wave_cells(tasks: pd.DataFrame, wave: Wave, protocol: Protocol, seed: int) -> list[SessionCell]:
    """Return the cells of a wave.

    A cell's sessions follow from its name, its units, the rules and the seed: models and conditions that are added
    to the study later change nothing in it.
    """
    planted = tasks[tasks["model"] == PLANTED]
    cells = []
    for plan in wave.cells:
        alike = (tasks["condition"] == plan.condition) & (tasks["difficulty"] == plan.difficulty)
        own = tasks[alike & tasks["model"].isin(plan.models)]
        cells.append(SessionCell(plan.name, own, planted[planted["condition"] == plan.condition], protocol, seed))
    return cells


def study_cells(study: Study, tasks: pd.DataFrame | None = None) -> list[SessionCell]:
    """Return the cells of a study, those of all its waves, so that refill slots and practice can be drawn from them."""
    tasks = assemble_tasks(study.stimuli()) if tasks is None else tasks
    protocol, seed = study.protocol, study.experiment.seed
    return [cell for wave in study_waves(study, tasks) for cell in wave_cells(tasks, wave, protocol, seed)]


def lay_out_trials(cells: list[SessionCell], advance: Advance = lambda count: None) -> pd.DataFrame:
    """Return the trials of all planned sessions, as the table of trials; ``advance`` is told of each session."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        for number in range(cell.planned):
            rows += cell.session(number)
            advance(1)
    return schemas.TRIALS.conform(pd.DataFrame(rows)) if rows else schemas.TRIALS.empty()


def planned_sessions(units: int, protocol: Protocol) -> int:
    """Return how many sessions give so many units the protocol's number of responses each."""
    rules = protocol.rules.session
    return math.ceil(units * rules.responses_per_unit / rules.main_trials)


def check_units(cell: str, units: int, main_trials: int) -> None:
    """Check that a session can ask about a different unit in every main trial.

    Raises
    ------
    DocumentError
        If there are too few units; the message says what to set.
    """
    if units < main_trials:
        raise DocumentError(
            f"A session of {main_trials} main trials that shows no unit twice needs as many units, but {cell} has "
            f"{units}. Set [session] main_trials to at most {units}, or add units or models."
        )
