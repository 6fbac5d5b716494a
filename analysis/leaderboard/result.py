"""A result file: everything in a model's row of the leaderboard, with the counts that it was computed from.

A result file is JSON, named by what is in it, and never changed:

    MODEL/WEIGHTS/PROTOCOL/STIMULI-CONTENT.json

``WEIGHTS``, ``STIMULI`` and ``CONTENT`` are the first digits of hashes: of the weights, of the pictures that were
shown, and of the file's own content. It holds the model's card, the protocol with its rules, facts of the pool, each
unit with what is known of it, how many answers about each unit every observer got right, and the scores made from
those counts. So every number in it can be recomputed from it, and nothing else is needed to rebuild the leaderboard.
New answers make a new file, which names those that it takes the place of.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from benchmark.commands import spell_command
from benchmark.documents import Document, parse
from benchmark.errors import DocumentError, LeaderboardError
from benchmark.estimate import Estimate
from benchmark.hashing import hash_settings
from benchmark.model_card import AccuracySpec, TrainingSpec
from benchmark.storage import write_text

FORMAT = 1
"""Version of the layout of result files."""

SHORT = 12
"""Digits of a hash that stand in a path."""

Subject = Literal["model", "twin"]
Kind = Literal["trained", "untrained", "published"]
ObserverKind = Literal["machine", "human", "simulated", "published"]

LARGEST_FILE = 64 * 2**20
"""Bytes of a result file that is read at all."""


class ModelFacts(Document):
    """What is known of the model.

    Attributes
    ----------
    name, title, family, architecture
        As in its card; the architecture is timm's name of it, empty for a network of its author's own.
    kind
        ``trained``; ``untrained`` for weights that are random on purpose; ``published`` where only numbers are known.
    weights, twin_weights
        Hashes of the weights; empty where they are not known, or there is no twin.
    parameters, layers, units, canonical_units
        Counted on the network: eligible layers, their units, and the units no two of which rank all pictures alike.
    input
        What the network wants to see, as in its card.
    """

    name: str = Field(min_length=1, max_length=200)
    title: str
    family: str
    architecture: str = ""
    kind: Kind
    weights: str = Field(default="", pattern=r"^[0-9a-f]*$")
    twin_weights: str = Field(default="", pattern=r"^[0-9a-f]*$")
    parameters: int | None = None
    layers: int | None = None
    units: int | None = None
    canonical_units: int | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    training: TrainingSpec | None = None
    accuracy: AccuracySpec | None = None
    licence: str = "unknown"
    source: str = ""


class ProtocolFacts(Document):
    """The protocol: its identity, the name of its file, and all its rules."""

    identity: str = Field(pattern=r"^[a-z0-9_.-]+(\+[0-9a-f]{8})?$", max_length=60)
    name: str
    rules: dict[str, Any] = Field(default_factory=dict)


class PoolFacts(Document):
    """The pictures that natural stimuli come from.

    Attributes
    ----------
    name, source
        What it is called, and which kind of pool it is.
    identity
        Hash of the pictures in it.
    size
        Pictures in it.
    seen_in_training
        Whether the model was trained on them: ``seen``, ``unseen`` or ``unknown``.
    labelled
        Whether its pictures have classes.
    facts
        What the study's manifest says of it.
    """

    name: str
    source: str
    identity: str
    size: int = Field(ge=0)
    seen_in_training: str = "unknown"
    labelled: bool = False
    facts: dict[str, Any] = Field(default_factory=dict)


class StimulusFacts(Document):
    """What was shown in a condition.

    Attributes
    ----------
    condition
        Kind of the references.
    hash
        Hash of which picture serves which unit in which role.
    method
        How the references were made: settings of the visualiser, empty for natural ones.
    repeated_groups
        Share of pictures whose group the task shows twice.
    accepted
        Share of synthetic pictures whose set passes the acceptance rule; None for natural ones.
    """

    condition: str
    hash: str
    method: dict[str, Any] = Field(default_factory=dict)
    repeated_groups: float = 0.0
    accepted: float | None = None

    @property
    def words(self) -> str:
        """How the references were made, in words: ``fast 2, 64 px, at most 60 steps``."""
        if not self.method:
            return ""
        version, canvas, shown = (self.method.get(key) for key in ("version", "canvas", "shown"))
        preset = self.method["preset"] + (f" {version}" if version else "")
        size = "the model's own size" if canvas == "model" else f"{canvas} px"
        enlarged = ", shown pixel by pixel" if shown == "pixels" else ""
        return f"{preset}, {size}, at most {self.method['steps']} steps{enlarged}"


class UnitFacts(Document):
    """A unit with stimuli, and its statistics over the pool; see ``benchmark.schemas.UNIT_STATISTICS``."""

    layer: str
    basis: str
    index: int = Field(ge=0)
    aggregator: str
    kind: str = ""
    depth: float | None = None
    width: int | None = None
    flag: str = ""
    twin_flag: str = ""
    tie_share: float | None = None
    positive_share: float | None = None
    range_over_deviation: float | None = None
    query_gap: float | None = None


class MachineCounts(Document):
    """How often a machine observer was right about each unit of the model, or of its twin.

    Attributes
    ----------
    subject
        Whose units.
    condition, difficulty, references
        What was shown.
    observer, related
        Who answered, and whether it is a relative of the model.
    protocol, pool_size
        Identity of the protocol and pictures in the pool: those of the file, or of a part of the pool.
    right, answered
        One number a unit, in the order of the file's units; 0 of 0 where a unit has no tasks.
    probability
        Sum over a unit's answers of the probability given to the right one; empty if the observer gives none.
    """

    subject: Subject
    condition: str
    difficulty: str
    references: str
    observer: str
    related: bool
    protocol: str
    pool_size: int
    right: tuple[int, ...]
    answered: tuple[int, ...]
    probability: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> MachineCounts:
        if len(self.right) != len(self.answered) or (self.probability and len(self.probability) != len(self.right)):
            raise ValueError("right, answered and probability must each have one number per unit")
        if any(not 0 <= right <= answered for right, answered in zip(self.right, self.answered)):
            raise ValueError("a unit can't have more right answers than answers")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """What no two counts of a model may share."""
        return (self.subject, self.condition, self.difficulty, self.references, self.observer, self.protocol)


class PeopleCounts(Document):
    """How often people were right: one entry for each person and unit.

    Attributes
    ----------
    study
        Hash of the study; people of one study are the same in all its models' files.
    kind
        ``human``, or ``simulated``.
    condition, difficulty, references
        What was shown.
    people
        A code for each person.
    person, unit
        Numbers of the person and of the unit, one an entry.
    right, answered
        How many answers, and how many of them right.
    excluded
        Sessions that were left out by the protocol's rules.
    """

    study: str
    kind: Literal["human", "simulated"]
    condition: str
    difficulty: str
    references: str
    people: tuple[str, ...]
    person: tuple[int, ...]
    unit: tuple[int, ...]
    right: tuple[int, ...]
    answered: tuple[int, ...]
    excluded: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> PeopleCounts:
        if len({len(self.person), len(self.unit), len(self.right), len(self.answered)}) > 1:
            raise ValueError("person, unit, right and answered must each have one number per entry")
        if any(not 0 <= person < len(self.people) for person in self.person):
            raise ValueError("an entry names a person who is not among the people")
        if any(not 0 <= right <= answered for right, answered in zip(self.right, self.answered)):
            raise ValueError("a person can't have more right answers than answers")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """What no two counts of a model may share."""
        return (self.study, self.kind, self.condition, self.difficulty, self.references)


class Score(Document):
    """One number of the file, with its interval and what it is about; infinite ends are written as ``inf``.

    Attributes
    ----------
    quantity
        What it is: ``score``, ``excess``, ``twin``; see ``analysis.leaderboard.scores.QUANTITIES``.
    condition, difficulty, references, observer_kind, observer, pool_size
        What it was measured on, and by whom.
    answers
        Answers that a published number rests on, which has no counts; 0 for the others.
    """

    quantity: str
    condition: str
    difficulty: str
    references: str
    observer_kind: ObserverKind
    observer: str
    pool_size: int
    value: float
    low: float
    high: float
    method: str
    n: int
    unit: str
    estimand: str = ""
    level: float = 0.95
    answers: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Score:
        if not self.low <= self.value <= self.high:
            raise ValueError("a value must lie within its interval")
        return self

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two scores of a file may share."""
        return (
            self.quantity, self.condition, self.difficulty, self.references, self.observer_kind, self.observer,
            self.pool_size,
        )  # fmt: skip

    @property
    def estimate(self) -> Estimate:
        """The number as an estimate."""
        return Estimate(
            self.value, self.low, self.high, self.method, self.n, self.unit, self.estimand, self.level
        )  # fmt: skip


class Sheet(Document):
    """One picture with the first task of every unit: a row a unit, and in it K maximal references, K minimal ones, the
    maximal query and the minimal one.

    Attributes
    ----------
    condition
        Of the references.
    columns, side
        Pictures in a row, and their width and height in pixels.
    units
        Numbers of the units, one a row.
    webp
        The picture, WebP in base 64.
    """

    condition: str
    columns: int = Field(gt=0)
    side: int = Field(gt=0)
    units: tuple[int, ...]
    webp: str


class Making(Document):
    """When, with what and from which study the file was made; its experiment can be built again from this."""

    made_at: str
    versions: dict[str, str] = Field(default_factory=dict)
    study: str = ""
    seed: int = 0
    device: str = ""
    experiment: dict[str, Any] = Field(default_factory=dict)


class Result(Document):
    """A result file; see the module.

    Attributes
    ----------
    notes
        What goes wherever its numbers go: ``plumbing check, not a measurement``.
    source
        Where published numbers come from; empty for those that were measured.
    replaces
        Hashes of the files that this one takes the place of.
    hash
        Of everything else in the file.
    """

    format: Literal[1] = 1
    model: ModelFacts
    protocol: ProtocolFacts
    pool: PoolFacts
    stimuli: tuple[StimulusFacts, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""
    units: tuple[UnitFacts, ...] = ()
    machines: tuple[MachineCounts, ...] = ()
    people: tuple[PeopleCounts, ...] = ()
    scores: tuple[Score, ...] = ()
    pictures: tuple[Sheet, ...] = ()
    made: Making
    replaces: tuple[str, ...] = ()
    hash: str = ""

    @field_validator("machines", "people", "scores")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        keys = [value.key for value in values]
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"{'/'.join(map(str, twice))} appears twice")
        return values

    @model_validator(mode="after")
    def _counts_fit(self) -> Result:
        count = len(self.units)
        if any(len(counts.right) != count for counts in self.machines):
            raise ValueError(f"counts must have one number for each of the {count} units")
        if any(not 0 <= unit < count for counts in self.people for unit in counts.unit):
            raise ValueError("people's counts name a unit that the file does not have")
        if any(not 0 <= unit < count for sheet in self.pictures for unit in sheet.units):
            raise ValueError("a sheet of pictures names a unit that the file does not have")
        return self

    # ---------------------------------------------------------------- identity

    @property
    def stimuli_hash(self) -> str:
        """Hash of the set of stimuli: of what was shown in every condition."""
        return hash_settings({facts.condition: facts.hash for facts in self.stimuli})

    def shown(self, condition: str) -> StimulusFacts | None:
        """Return what was shown in a condition, or None if it is not among the file's."""
        return next((facts for facts in self.stimuli if facts.condition == condition), None)

    @property
    def content(self) -> dict[str, Any]:
        """Everything in the file but its hash, as JSON can say it."""
        values: dict[str, Any] = _plain(self.model_dump(mode="python", exclude={"hash"}))
        return values

    def sealed(self) -> Result:
        """Return the result with the hash of its content."""
        return self.model_copy(update={"hash": hash_settings(self.content)})

    @property
    def is_sealed(self) -> bool:
        """Whether the hash in the file is that of its content."""
        return self.hash == hash_settings(self.content)

    def says_the_same(self, other: Result) -> bool:
        """Whether another result says the same, whenever and with whatever it was made."""
        mine, theirs = (
            {key: value for key, value in result.content.items() if key not in ("made", "replaces")}
            for result in (self, other)
        )
        return mine == theirs

    def has_units_of(self, other: Result) -> bool:
        """Whether another result has the same units in the same order, flagged alike; twins' only of the same twin."""
        names = ["layer", "basis", "index", "aggregator", "flag"]
        if self.model.twin_weights == other.model.twin_weights:
            names.append("twin_flag")
        mine, theirs = (
            [tuple(getattr(unit, name) for name in names) for unit in result.units] for result in (self, other)
        )
        return mine == theirs

    def covers(self, other: Result) -> bool:
        """Whether everything that another result counted is counted here, too."""
        mine = {counts.key for counts in self.machines} | {counts.key for counts in self.people}
        theirs = {counts.key for counts in other.machines} | {counts.key for counts in other.people}
        return theirs <= mine

    @property
    def place(self) -> Path:
        """Path of the file below a folder of results."""
        model = self.model
        return Path(
            _safe(model.name), model.weights[:SHORT] or "weights-not-known", _safe(self.protocol.identity),
            f"{self.stimuli_hash[:SHORT]}-{self.hash[:8]}.json",
        )  # fmt: skip

    @property
    def label(self) -> str:
        """What the result is called in messages."""
        return f"{self.model.name} under {self.protocol.identity} on {self.pool.name}"


def write_result(result: Result, folder: Path | str) -> Path:
    """Write a result below a folder of results, and return the path; one that is there already is left alone.

    Raises
    ------
    LeaderboardError
        If another file has its place.
    """
    sealed = result.sealed()
    path = Path(folder) / sealed.place
    if path.is_file():
        if read_result(path) != sealed:
            raise LeaderboardError(f"{path} exists with other content, and vimi never changes a result file. Move it.")
        return path
    write_text(path, _spell({**sealed.content, "hash": sealed.hash}) + "\n")
    return path


def read_result(path: Path | str) -> Result:
    """Read a result file.

    Raises
    ------
    LeaderboardError
        If it is missing, too large, no JSON, or breaks the layout; whether its hash is right is not looked at, see
        ``analysis.leaderboard.verification``.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise LeaderboardError(f"{path} is too large for a result file ({path.stat().st_size / 2**20:.0f} MiB).")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LeaderboardError(f"{path} is not a readable result file: {error}") from None
    if not isinstance(values, dict):
        raise LeaderboardError(f"{path} is not a result file: it holds a {type(values).__name__}, not an object.")
    if values.get("format") != FORMAT:
        raise LeaderboardError(
            f"{path} has the format {values.get('format')!r}, but this version of vimi reads {FORMAT}. Use the "
            f"version that wrote it ({values.get('made', {}).get('versions', {}).get('vimi', 'not said')})."
        )
    try:
        return parse(Result, values, str(path))
    except DocumentError as error:
        raise LeaderboardError(f"{error}") from None


def read_results(*folders: Path | str) -> list[Result]:
    """Read all result files below some folders, in the order of their paths; each content once.

    Raises
    ------
    LeaderboardError
        If a folder does not exist, or a file can't be read or was changed after it was written.
    """
    found: dict[str, Result] = {}
    for folder in folders:
        if not Path(folder).is_dir():
            raise LeaderboardError(
                f"There is no folder {folder} with result files. Make one: vimi leaderboard add MODEL"
            )
        for path in sorted(Path(folder).rglob("*.json")):
            result = read_result(path)
            if not result.is_sealed:
                raise LeaderboardError(
                    f"{path} was changed after it was written: its hash does not match its content. Restore it, or "
                    f"see what differs: {spell_command('leaderboard', 'verify', path)}"
                )
            found.setdefault(result.hash, result)
    return list(found.values())


def released_folder() -> Path:
    """Return the folder of the result files that come with vimi."""
    return Path(str(resources.files("analysis") / "leaderboard" / "results"))


def present_results(results: Iterable[Result]) -> list[Result]:
    """Return the results that no other one takes the place of."""
    known = list(results)
    replaced = {hash for result in known for hash in result.replaces}
    return [result for result in known if result.hash not in replaced]


def _safe(name: str) -> str:
    """Return a name as a part of a path: without slashes, and never hidden."""
    return re.sub(r"^\.", "%2E", quote(name, safe="+@,=~() "))


def _plain(value: Any) -> Any:
    """Return a value as JSON can say it; infinite numbers become words."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _spell(value: Any, indent: int = 0) -> str:
    """Write JSON that can be read and compared by eye: lists of plain values on one line."""
    pad, inner = " " * indent, " " * (indent + 1)
    if isinstance(value, dict) and value:
        parts = [f"{inner}{json.dumps(key)}: {_spell(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{pad}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        short = (json.dumps(item, ensure_ascii=False) for item in value)
        parts = [inner + (text if len(text) <= 400 else _spell(item, indent + 1)) for text, item in zip(short, value)]
        return "[\n" + ",\n".join(parts) + f"\n{pad}]"
    return json.dumps(value, ensure_ascii=False)


def iterate_scores(result: Result, **wanted: Any) -> Iterator[Score]:
    """Iterate over the scores of a result with certain properties: ``quantity="excess", condition="natural"``."""
    for score in result.scores:
        if all(getattr(score, name) == value for name, value in wanted.items()):
            yield score
