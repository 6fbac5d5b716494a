"""The versioned rules of an experiment, and where in a unit's ranking its pictures come from.

A protocol is a TOML file in ``benchmark/protocols``. Its identity changes exactly when scores may change:
N (pictures in the pool), K (references a side), B (tasks a unit), the bands and the unit rule are all part of
it. Whatever departs from the file, the size of the pool included, makes it ``vimi1+<hash>``, and results of
two identities never share a table silently.

Where a pool is too small for a band to hold the pictures that B tasks need, the band widens to exactly those
pictures: a pool of 1,000 then explains a unit with its outermost 18 %, not 0.4 %, which is another, harder
experiment, and which is why N belongs to the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from benchmark.documents import Document, parse, read_toml
from benchmark.errors import NameNotFound, PoolTooSmall
from benchmark.hashing import hash_settings

Difficulty = Literal["easy", "medium", "hard", "very_hard"]
References = Literal["both", "max", "min", "none"]
Aggregator = Literal["mean", "patches", "cls", "max"]
UnitRule = Literal["imi2023", "canonical"]
Share = Annotated[float, Field(ge=0.0, le=0.5)]

DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard", "very_hard")
REFERENCES: tuple[References, ...] = ("both", "max", "min", "none")


class PoolRules(Document):
    """Rules on the pool: its nominal size, and whether a task may show a group twice."""

    size: int = Field(gt=0)
    distinct_groups: bool


class UnitRules(Document):
    """Rules on which units count.

    Attributes
    ----------
    rule
        How they are drawn.
    aggregator
        How a unit's activations become one number.
    drawn, used
        How many are drawn, and how many of them are used.
    constant_range
        Units whose activations differ by less are constant, on top of the rules that have no scale.
    """

    rule: UnitRule
    aggregator: Aggregator
    drawn: int = Field(gt=0)
    used: int = Field(gt=0)
    constant_range: float = Field(ge=0)

    @model_validator(mode="after")
    def _reserve(self) -> UnitRules:
        if self.drawn < self.used:
            raise ValueError(f"drawn ({self.drawn}) must be at least used ({self.used})")
        return self


class TaskRules(Document):
    """Rules on tasks: references a side (K), tasks a unit (B), how equal activations are ordered, and whether a
    query may share its class with a reference.
    """

    references_per_side: int = Field(gt=0)
    per_unit: int = Field(gt=0)
    ties: Literal["place", "content"]
    distinct_classes: bool


class Band(Document):
    """Where queries of a difficulty begin, and how wide their band is, as shares of the pool."""

    quantile: Share
    width: Share


class BandRules(Document):
    """Bands of the ranking, from either end."""

    references: Share
    easy: Share
    medium: Band
    hard: Band
    very_hard: Band


class SessionRules(Document):
    """Rules on what one participant sees, and for how long."""

    models: Literal["crossed", "nested"]
    main_trials: int = Field(gt=0)
    catch_trials: int = Field(ge=0)
    practice_obvious: int = Field(ge=0)
    practice_less_obvious: int = Field(ge=0)
    practice_attempts: int = Field(gt=0)
    responses_per_unit: int = Field(gt=0)
    references: dict[References, float]
    feedback: bool
    locked_seconds: float = Field(ge=0)
    frame_seconds: float = Field(ge=0)
    verdict_seconds: float = Field(ge=0)
    typical_seconds: float = Field(gt=0)
    payment_usd: float = Field(ge=0)

    @model_validator(mode="after")
    def _shares(self) -> SessionRules:
        if abs(sum(self.references.values()) - 1.0) > 1e-9 or min(self.references.values()) < 0:
            raise ValueError(f"the shares of references must be at least 0 and add up to 1, not {self.references}")
        return self


class ExclusionRules(Document):
    """Rules on whose answers count; they decide refilling and analysis, never payment.

    Numbers are those of a session of ``trials`` main and catch trials; for longer and shorter ones, times and
    counts grow and shrink with it.

    Attributes
    ----------
    trials
        Main and catch trials that the numbers below speak of.
    catch_correct
        Least share of catch trials answered rightly.
    total_seconds
        Shortest and longest time from the first trial to the last answer.
    instruction_seconds
        Shortest time spent on the instructions.
    each_position
        How often the upper and the lower query must be chosen at least.
    """

    trials: int = Field(gt=0)
    catch_correct: float = Field(ge=0, le=1)
    total_seconds: tuple[float, float]
    instruction_seconds: float = Field(ge=0)
    each_position: int = Field(ge=0)


class Rules(Document):
    """Everything a protocol file says."""

    name: str
    summary: str
    pool: PoolRules
    units: UnitRules
    tasks: TaskRules
    bands: BandRules
    session: SessionRules
    exclusions: ExclusionRules


@dataclass(frozen=True)
class Window:
    """Consecutive ranks, counted from the extreme end of a ranking: ``start`` to ``start + count``."""

    start: int
    count: int

    @property
    def stop(self) -> int:
        """First rank behind the window."""
        return self.start + self.count


@dataclass(frozen=True)
class Windows:
    """Windows of one side of a ranking of ``size`` pictures; the other side mirrors them."""

    size: int
    references: Window
    queries: dict[Difficulty, Window]

    @property
    def reach(self) -> int:
        """How many of the most extreme pictures a side's references and easy queries reach into."""
        easy = self.queries.get("easy")
        return max(self.references.stop, easy.stop if easy else 0)


@dataclass(frozen=True)
class Protocol:
    """A protocol: the rules of its file, as overridden by an experiment."""

    rules: Rules

    @property
    def name(self) -> str:
        """Name of the file that the rules come from."""
        return self.rules.name

    @property
    def references_per_side(self) -> int:
        """K, the references on either side of a trial."""
        return self.rules.tasks.references_per_side

    @property
    def tasks_per_unit(self) -> int:
        """B, the disjoint tasks of a unit."""
        return self.rules.tasks.per_unit

    def override(self, changes: dict[str, dict[str, Any]]) -> Protocol:
        """Return the protocol with some rules replaced: ``{"tasks": {"per_unit": 5}}``.

        Raises
        ------
        DocumentError
            If a rule does not exist or its value is wrong.
        """
        values = self.rules.model_dump()
        for section, replaced in changes.items():
            values[section] = {**values.get(section, {}), **replaced}
        return Protocol(parse(Rules, values, f"protocol {self.name}"))

    def for_pool(self, size: int) -> Protocol:
        """Return the protocol with N, the size of the pool that is really used, among its rules."""
        return self.override({"pool": {"size": size}})

    @property
    def identity(self) -> str:
        """The file's name if every rule is the file's, else the name with a hash of the rules."""
        if self.rules == load_protocol(self.name).rules:
            return self.name
        return f"{self.name}+{hash_settings(self.rules.model_dump(exclude={'summary'}))[:8]}"

    def windows(self, size: int, difficulties: tuple[Difficulty, ...] = ("easy",)) -> Windows:
        """Return the ranks that references and queries come from in a pool of ``size`` pictures.

        The arithmetic is exact: a quantile q begins at rank floor(q N) from either end, so that the upper
        window ends below rank ceil((1 - q) N), as in the 2023 paper. The easy queries follow the references.

        Raises
        ------
        PoolTooSmall
            If a difficulty does not fit without a picture serving twice; the message names the smallest
            pool that would do.
        """
        windows, problem = self._windows(size, difficulties)
        if problem:
            k, b = self.references_per_side, self.tasks_per_unit
            raise PoolTooSmall(
                f"{size:,} pictures are too few for {_names(difficulties)} under {self.name} with K = {k} references "
                f"a side and B = {b} tasks per unit: {problem}. The smallest pool that works has "
                f"{self.smallest_pool(difficulties):,} pictures. Use a larger pool, fewer tasks ([stimuli] tasks) or "
                "only easier difficulties."
            )
        return windows

    def smallest_pool(self, difficulties: tuple[Difficulty, ...] = ("easy",)) -> int:
        """Return the fewest pictures that allow these difficulties."""
        high = 1
        while self._windows(high, difficulties)[1]:
            high *= 2
        low = high // 2
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if self._windows(middle, difficulties)[1] else (low, middle)
        return high

    def _windows(self, size: int, difficulties: tuple[Difficulty, ...]) -> tuple[Windows, str]:
        """Return the windows, and what is wrong with them, if anything."""
        bands, b = self.rules.bands, self.tasks_per_unit
        references = Window(0, max(b * self.references_per_side, _ranks(bands.references, size)))
        queries: dict[Difficulty, Window] = {}
        problem = ""
        taken, owner = references.stop, "the references"
        for difficulty in (d for d in DIFFICULTIES if d in difficulties):
            if difficulty == "easy":
                window = Window(references.stop, max(b, _ranks(bands.easy, size)))
            else:
                band: Band = getattr(bands, difficulty)
                window = Window(_ranks(band.quantile, size), max(b, _ranks(band.width, size)))
            if window.start < taken and not problem:
                problem = (
                    f"{_names((difficulty,))} queries begin at rank {window.start:,}, "
                    f"inside the {taken:,} pictures of {owner}"
                )
            taken, owner = window.stop, f"the references and {_names((difficulty,))} queries"
            queries[difficulty] = window
        if 2 * taken > size and not problem:
            problem = f"the maximal and the minimal side need {2 * taken:,} pictures together"
        return Windows(size, references, queries), problem


def load_protocol(name: str) -> Protocol:
    """Load a protocol that ships with vimi.

    Raises
    ------
    NameNotFound
        If there is none of that name.
    """
    if name not in protocol_names():
        raise NameNotFound("protocol", name, protocol_names())
    with resources.as_file(resources.files("benchmark") / "protocols" / f"{name}.toml") as path:
        return Protocol(parse(Rules, read_toml(path), f"protocol {name}"))


def protocol_names() -> list[str]:
    """Return the names of the protocols that ship with vimi."""
    folder = resources.files("benchmark") / "protocols"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _ranks(share: float, size: int) -> int:
    """Return floor(share x size), exactly: .01 means one hundredth, not its binary neighbour."""
    fraction = Fraction(str(share)) * size
    return fraction.numerator // fraction.denominator


def _names(difficulties: tuple[Difficulty, ...]) -> str:
    """Spell difficulties for a sentence."""
    return ", ".join(repr(difficulty) for difficulty in difficulties)
