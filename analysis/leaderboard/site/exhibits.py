"""What the pages of models and units show: result files gathered by model, by set of stimuli, and by unit.

A unit's page has a section for each set of stimuli that it was shown with: same weights, protocol, pool and pictures.
Files of one set (machines' answers, and then people's) share a section, and each of their counts stands there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from analysis.intervals.quantiles import critical_value
from analysis.intervals.wilson import wilson_interval
from analysis.leaderboard.result import Result, Sheet, UnitFacts
from analysis.leaderboard.scores import CONTROLS, PEOPLE
from analysis.leaderboard.site.addresses import anchor
from analysis.leaderboard.standings import Leaderboard, Row, StandingsTable
from benchmark.errors import LeaderboardError
from benchmark.estimate import LEVEL, Estimate
from benchmark.observers.base import SHUFFLED
from benchmark.plumbing import PLUMBING
from benchmark.protocol import REFERENCES, Aggregator
from benchmark.units import Unit


@dataclass(frozen=True)
class Tally:
    """How often an observer was right about a unit.

    Attributes
    ----------
    right, answered
        Counts, as in the result file.
    observers
        How many people answered; 1 for a machine.
    """

    right: int
    answered: int
    observers: int = 1

    @property
    def estimate(self) -> Estimate:
        """The proportion with Wilson's interval over answers; only for units with answers."""
        value = self.right / self.answered
        low, high = wilson_interval(value, self.answered, critical_value(LEVEL))
        return Estimate(
            value, low, high, "Wilson's interval over answers, taken as independent", self.answered,
            "proportion correct", "this unit", LEVEL,
        )  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """What one observer made of a unit under one set of circumstances.

    Attributes
    ----------
    kind, observer
        Who answered: ``human`` and ``people``, or ``machine`` and its name.
    related
        Whether the observer is a relative of the model.
    condition, difficulty, references
        What was shown.
    pool_size
        Pictures in the pool, or in the part of it that the stimuli come from.
    model, twin
        How often the observer was right about the unit, and about its counterpart in the random-weight twin.
    """

    kind: str
    observer: str
    related: bool
    condition: str
    difficulty: str
    references: str
    pool_size: int
    model: Tally | None
    twin: Tally | None

    @property
    def is_control(self) -> bool:
        """Whether the observer is a control, which only marks the scale."""
        return self.observer in CONTROLS or self.observer.endswith(SHUFFLED)


@dataclass(frozen=True)
class Exhibit:
    """One model with one set of stimuli.

    Attributes
    ----------
    results
        Its result files.
    name
        What sets it apart from the model's other exhibits, in words.
    """

    results: tuple[Result, ...]
    name: str

    @property
    def first(self) -> Result:
        """The first of its files, which all others agree with in units and stimuli."""
        return self.results[0]

    @property
    def place(self) -> str:
        """Where it is found on pages: made of what its files say, so that links to it last."""
        first = self.first
        told = [first.pool.identity, first.model.weights, first.stimuli_hash]
        return anchor(first.protocol.identity, first.pool.name, of=told)

    @property
    def is_plumbing_check(self) -> bool:
        """Whether its numbers only show that the parts work together."""
        return PLUMBING in self.notes

    @property
    def notes(self) -> tuple[str, ...]:
        """What goes wherever its numbers go."""
        return tuple(dict.fromkeys(note for result in self.results for note in result.notes))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Kinds of references, natural ones first."""
        return tuple(sorted(facts.condition for facts in self.first.stimuli))

    def sheet(self, condition: str) -> tuple[Result, Sheet] | None:
        """Return the first sheet of pictures of a condition, with its file."""
        for result in self.results:
            for sheet in result.pictures:
                if sheet.condition == condition:
                    return result, sheet
        return None

    def judgements(self) -> list[list[Judgement]]:
        """Return the judgements of every unit, in the order of the file's units: people first, controls last."""
        tallies: list[dict[tuple[str, str, bool, str, str, str, int], dict[str, Tally]]] = [
            {} for _ in self.first.units
        ]
        for machine in {counts.key: counts for result in self.results for counts in result.machines}.values():
            key = (
                "machine", machine.observer, machine.related, machine.condition, machine.difficulty,
                machine.references, machine.pool_size,
            )  # fmt: skip
            for number, (right, answered) in enumerate(zip(machine.right, machine.answered)):
                if answered:
                    tallies[number].setdefault(key, {})[machine.subject] = Tally(right, answered)
        for people in {counts.key: counts for result in self.results for counts in result.people}.values():
            key = (
                people.kind, PEOPLE, False, people.condition, people.difficulty, people.references,
                self.first.pool.size,
            )  # fmt: skip
            for unit, right, answered in zip(people.unit, people.right, people.answered):
                if answered:
                    own = tallies[unit].setdefault(key, {})
                    before = own.get("model", Tally(0, 0, 0))
                    own["model"] = Tally(before.right + right, before.answered + answered, before.observers + 1)
        return [
            sorted((Judgement(*key, own.get("model"), own.get("twin")) for key, own in unit.items()), key=_place)
            for unit in tallies
        ]


def _place(judgement: Judgement) -> tuple[object, ...]:
    return (
        judgement.condition, judgement.kind != "human", judgement.kind != "simulated", judgement.is_control,
        judgement.difficulty, judgement.observer,
        REFERENCES.index(judgement.references) if judgement.references in REFERENCES else len(REFERENCES),
        judgement.references, -judgement.pool_size,
    )  # fmt: skip


@dataclass
class ModelExhibit:
    """A model by its name, with all that is known of it.

    Attributes
    ----------
    name
        Its name.
    rows
        Its rows, each with the table that it stands in.
    exhibits
        Its sets of stimuli that have units; published means have none.
    results
        Its result files.
    """

    name: str
    rows: list[tuple[StandingsTable, Row]] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """What goes wherever its numbers go."""
        return tuple(dict.fromkeys(note for result in self.results for note in result.notes))


@dataclass(frozen=True)
class Appearance:
    """A unit in an exhibit.

    Attributes
    ----------
    exhibit
        The exhibit.
    number
        The unit's place among the file's units.
    facts
        What is known of it.
    judgements
        What observers made of it.
    """

    exhibit: Exhibit
    number: int
    facts: UnitFacts
    judgements: tuple[Judgement, ...]


def gather_models(leaderboard: Leaderboard) -> list[ModelExhibit]:
    """Return the models of a leaderboard, by name."""
    models: dict[str, ModelExhibit] = {}
    shown: dict[str, Result] = {}
    for table in leaderboard:
        for row in table.rows:
            models.setdefault(row.model.name, ModelExhibit(row.model.name)).rows.append((table, row))
            shown |= {result.hash: result for result in row.results}
    for result in shown.values():
        models[result.model.name].results.append(result)
    for model in models.values():
        model.exhibits = list(_exhibits(model.results))
    return [models[name] for name in sorted(models)]


def _exhibits(results: Iterable[Result]) -> Iterator[Exhibit]:
    """Yield the sets of stimuli of a model's results.

    Raises
    ------
    LeaderboardError
        If two files of one set have different units.
    """
    sets: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        if result.units:
            key = (result.protocol.identity, result.pool.identity, result.model.weights, result.stimuli_hash)
            sets.setdefault(key, []).append(result)
    for own in sets.values():
        units = [[unit_of(result.model.name, facts) for facts in result.units] for result in own]
        if any(other != units[0] for other in units):
            raise LeaderboardError(
                f"Two result files of {own[0].label} have the same stimuli but different units: "
                f"{' and '.join(str(result.place) for result in own)}. One of them is wrong. Check them with vimi "
                "leaderboard verify."
            )
    several = len({own[0].model.weights for own in sets.values()}) > 1
    names = [_exhibit_name(own[0], several) for own in sets.values()]
    for name, own in zip(names, sets.values()):
        told = f"{name}, stimuli {own[0].stimuli_hash[:6]}" if names.count(name) > 1 else name
        yield Exhibit(tuple(own), told)


def _exhibit_name(result: Result, with_weights: bool) -> str:
    weights = f", weights {result.model.weights[:6] or 'not known'}" if with_weights else ""
    return f"{result.protocol.identity} on {result.pool.name}{weights}"


def gather_units(model: ModelExhibit) -> dict[Unit, list[Appearance]]:
    """Return the units of a model with their appearances, layer by layer from the input to the output."""
    found: dict[Unit, list[Appearance]] = {}
    for exhibit in model.exhibits:
        for number, (facts, judgements) in enumerate(zip(exhibit.first.units, exhibit.judgements())):
            found.setdefault(unit_of(model.name, facts), []).append(
                Appearance(exhibit, number, facts, tuple(judgements))
            )
    return dict(sorted(found.items(), key=lambda item: _along(item[0], item[1])))


def unit_of(model: str, facts: UnitFacts) -> Unit:
    """Return the unit that facts are of."""
    return Unit(model, facts.layer, facts.index, facts.basis, cast(Aggregator, facts.aggregator))


def _along(unit: Unit, appearances: Sequence[Appearance]) -> tuple[object, ...]:
    depth = appearances[0].facts.depth
    return (1.0 if depth is None else depth, unit.layer, unit.basis, unit.index, unit.aggregator)
