"""The experiment file: everything that someone decides before a study is built."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from benchmark.data_sets import data_set_name
from benchmark.documents import BLANK, Document, parse, read_toml
from benchmark.hashing import hash_settings
from benchmark.model_card import TWIN_SUFFIX
from benchmark.protocol import (
    DIFFICULTIES,
    Aggregator,
    Difficulty,
    Protocol,
    UnitRule,
    load_protocol,
    protocol_names,
)

Name = Annotated[str, Field(min_length=1, max_length=200)]
Line = Annotated[str, Field(max_length=1000)]
Code = Annotated[str, Field(max_length=40, pattern=r"^[A-Za-z0-9-]*$")]

_RETURN_URL = r"^(https://[^\s\"'<>\\]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?/[^\s\"'<>\\]*)?$"
"""Encrypted, or this very machine for a dry run."""


class PoolSettings(Document):
    """The pictures that natural stimuli come from.

    Attributes
    ----------
    source
        ``bundled``, ``folder:PATH``, ``imagefolder:PATH`` (a folder for each class), ``imagenet:PATH``,
        ``imagenette`` or ``imagenette:PATH``, ``webdataset:SHARDS``.
    data_set, split
        The public data set that the pictures are (part of), ``cifar-10``, and which split, ``train`` or ``val``, where
        the source does not say it: whether a model saw the pool in training follows from them.
    view
        ``canonical``: people and all models see one crop; ``model``: each model sees the original through its
        own transform (a sensitivity analysis).
    crop
        Side of the canonical crop in pixels.
    """

    source: Name = "bundled"
    data_set: str = Field(default="", max_length=60)
    split: Literal["", "train", "val"] = ""
    view: Literal["canonical", "model"] = "canonical"
    crop: int = Field(default=224, ge=32, le=1024)

    @field_validator("data_set")
    @classmethod
    def _one_spelling(cls, value: str) -> str:
        return data_set_name(value)

    @field_validator("split", mode="before")
    @classmethod
    def _test_is_held_out(cls, value: Any) -> Any:
        return "val" if value in ("test", "validation") else value

    @model_validator(mode="after")
    def _split_of_something(self) -> PoolSettings:
        if self.split and not self.data_set:
            raise ValueError("split needs data_set: name the data set that it is a split of")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not given, so that experiments from before these settings keep their hashes."""
        values: dict[str, Any] = serialize(self)
        return {key: value for key, value in values.items() if value or key not in ("data_set", "split")}


class ModelEntry(Document):
    """A model of the experiment: its card, whether its twin is scored too, and what the card can't know."""

    card: Name
    twin: bool = False
    weights: str = ""
    training_data: tuple[str, ...] = ()
    training_images: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _training(self) -> ModelEntry:
        if bool(self.training_data) != (self.training_images is not None):
            raise ValueError("training_data and training_images must be given together")
        return self


class UnitSettings(Document):
    """How many units of each model, and by which rule, if not the protocol's."""

    per_model: int = Field(default=84, gt=0)
    rule: UnitRule | None = None
    aggregator: Aggregator | None = None


class StimulusSettings(Document):
    """Conditions and difficulties; K, B and class-disjoint tasks, if they depart from the protocol."""

    conditions: tuple[Literal["natural", "synthetic"], ...] = ("natural",)
    difficulties: tuple[Difficulty, ...] = ("easy",)
    references: int | None = Field(default=None, gt=0, le=25)
    tasks: int | None = Field(default=None, gt=0)
    distinct_classes: bool = False

    @field_validator("conditions", "difficulties")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(f"name at least one, and none twice, not {list(value)}")
        return value


FAST_VERSION = 2
"""Version of the preset ``fast``. 1: 224 px unless given, and a set ends soon after it beats the best natural picture.
2: the model's own size, and a set ends when it grows no more."""


class VisualizationSettings(Document):
    """How synthetic pictures are made.

    Attributes
    ----------
    preset
        ``fast``, or ``imi2023`` for the paper's recipe.
    canvas
        Side in pixels that pictures are optimised at: ``model`` for each model's own input size, or a number. A network
        that sees its units' pictures at another size than its own answers other patterns.
    shown
        How pictures are brought to the one size at which all pictures are shown, that of the pool's crop: ``smooth``
        resamples them as natural ones are; ``pixels`` enlarges them by the largest whole number that fits, so that
        each pixel stays a square; ``canvas`` leaves them as they are, as studies did before there was a choice.
    steps
        Most optimisation steps a run may take, if not the preset's own (504, or the paper's 20,000). For
        ``imi2023`` all step numbers of the recipe shrink with it.
    units
        Only the first so many units of a model get synthetic pictures; all of them if not given.
    twins
        Whether random-weight twins get synthetic pictures, too, so that this condition has its negative control.
    version
        Version of the preset ``fast``: pictures change with it. 1 is that of studies that do not say it.
    """

    preset: Literal["fast", "imi2023"] = "fast"
    canvas: Literal["model"] | Annotated[int, Field(ge=16, le=1024)] = "model"
    shown: Literal["smooth", "pixels", "canvas"] = "smooth"
    steps: int | None = Field(default=None, gt=0)
    units: int | None = Field(default=None, gt=0)
    twins: bool = False
    version: int = Field(default=FAST_VERSION, ge=1, le=FAST_VERSION)

    @property
    def most_steps(self) -> int:
        """Most optimisation steps a run may take."""
        return self.steps or {"fast": 504, "imi2023": 20_000}[self.preset]

    def canvas_for(self, own: int) -> int:
        """Return the side in pixels that pictures of a model are optimised at, given that of its own input."""
        return own if self.canvas == "model" else self.canvas

    def identity(self, crop: int) -> dict[str, Any]:
        """Return what the pictures depend on, for the hash of an experiment whose pictures are shown at this size.

        What changes nothing is left out, so that studies from before a setting existed keep their hash.
        """
        values = self.model_dump(mode="json")
        if not self.twins:
            del values["twins"]
        if self.preset != "fast" or self.version == 1:
            del values["version"]
        if self.shown == "canvas" or self.canvas == crop:
            del values["shown"]
        return values


class SessionSettings(Document):
    """What departs from the protocol's session."""

    main_trials: int | None = Field(default=None, gt=0)
    catch_trials: int | None = Field(default=None, ge=0)
    responses_per_unit: int | None = Field(default=None, gt=0)
    references_none: float | None = Field(default=None, ge=0, le=1)
    references_max: float | None = Field(default=None, ge=0, le=1)
    references_min: float | None = Field(default=None, ge=0, le=1)
    feedback: bool | None = None


class TextSettings(Document):
    """Texts that participants read.

    Attributes
    ----------
    language
        Which of the shipped or own languages is used: ``en``, ``de``.
    folder
        Folder of own texts, ``LANGUAGE/NAME.md``, ``LANGUAGE/labels.toml`` and ``LANGUAGE/quiz.toml``; each replaces
        the shipped one of that name. They are taken over into the study whenever it is built.
    consent
        File of the own consent text; short for ``LANGUAGE/consent.md`` in the folder.
    """

    language: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    folder: str = ""
    consent: str = ""


class CompletionCodes(Document):
    """The code that a participant takes back to the recruiter, for each way in which a session can end.

    Any that is left empty is made from the study, so that every outcome has a code of its own.
    """

    complete: Code = ""
    screened_out: Code = ""
    no_consent: Code = ""
    failed_practice: Code = ""
    timed_out: Code = ""
    full: Code = ""


class RecruitmentSettings(Document):
    """Where participants come from, and what must be known before they may come.

    Attributes
    ----------
    recruiter
        ``open`` links, or links of Prolific, MTurk or SONA.
    ethics_approval, controller, contact, retention, pool_licence
        The approval's number; who is responsible for the data; whom to write to; how long data are kept; under
        which licence the pictures may be shown. All must be filled before a recruiter's link works.
    return_url
        Where to send a participant at the end; ``{code}``, ``{participant}``, ``{submission}`` and ``{study}`` are
        filled in. Recruiters that have a usual address get it by themselves.
    codes
        Completion codes by outcome.
    once
        One person takes part once in this ``study``, or once in all studies of the ``lab`` that share a database.
    keep_identifiers
        Whether the recruiter's own identifiers are kept, in the table of payments alone.
    payment_usd
        Pay of a session, if not the protocol's.
    partial_payment_usd
        Pay of people who were sent away after they had consented: those who failed the practice.
    full_payment_usd
        Pay of people who consented and then found every place taken.
    """

    recruiter: Literal["open", "prolific", "mturk", "sona"] = "open"
    ethics_approval: Line = ""
    controller: Line = ""
    contact: Line = ""
    retention: Line = ""
    pool_licence: Line = ""
    return_url: Annotated[str, Field(max_length=500, pattern=_RETURN_URL)] = ""
    codes: CompletionCodes = CompletionCodes()
    once: Literal["study", "lab"] = "study"
    keep_identifiers: bool = True
    payment_usd: float | None = Field(default=None, ge=0)
    partial_payment_usd: float = Field(default=0.0, ge=0)
    full_payment_usd: float = Field(default=0.0, ge=0)

    @property
    def unfilled(self) -> list[str]:
        """Names of the required fields that are still empty."""
        needed = ("ethics_approval", "controller", "contact", "retention", "pool_licence")
        return [name for name in needed if not self.stated(name)]

    def stated(self, name: str) -> str:
        """Return what a field says; nothing if it is empty or still a blank."""
        text = str(getattr(self, name)).strip()
        return "" if BLANK in text else text


class HostingSettings(Document):
    """How the hosted task behaves around its trials.

    Attributes
    ----------
    window_width, window_height
        Smallest window, in CSS pixels, that may take part.
    resume_minutes
        After so many minutes of silence a session is given back; who returns later starts again at the practice.
    colour_vision
        Whether the question on colour vision is asked; the answer is recorded and excludes nobody.
    visual_trap
        Whether two lines are shown that a program takes for a well-known illusion; the answer is evidence, and
        excludes nobody by itself.
    quiz
        Whether a comprehension quiz follows the instructions.
    comments
        Whether participants may leave a free text at the end.
    pictures
        How pictures are sent: ``original``, the study's own files; ``lossless``, in the size that is shown;
        ``compact``, that and as JPEGs of high quality; ``automatic``, lossless, and compact for those whose
        connection can't carry the lossless ones in time. Each answer records what was shown.
    prefetch_megabytes
        How much a browser loads ahead of the present trial, at most.
    slowest_connection
        Slowest connection, in Mbit/s, with which somebody may take part; 0 lets everybody in.
    target_width
        Width of a model's interval that the study aims at.
    show_means
        What the dashboard shows of the means while the study runs: nothing until every planned session is
        filled, or confidence sequences, which may be looked at any time.
    """

    window_width: int = Field(default=940, ge=320, le=4000)
    window_height: int = Field(default=600, ge=320, le=4000)
    resume_minutes: float = Field(default=30, gt=0, le=60 * 24 * 30)
    colour_vision: bool = True
    visual_trap: bool = True
    quiz: bool = False
    comments: bool = True
    pictures: Literal["automatic", "original", "lossless", "compact"] = "automatic"
    prefetch_megabytes: float = Field(default=8.0, ge=0, le=1000)
    slowest_connection: float = Field(default=0.0, ge=0, le=1000)
    target_width: float = Field(default=0.1, gt=0, lt=1)
    show_means: Literal["hidden", "confidence_sequences"] = "hidden"


class Experiment(Document):
    """A whole experiment, as its TOML file says it."""

    protocol: str = "vimi1"
    seed: int = Field(default=42, ge=0)
    pool: PoolSettings = PoolSettings()
    models: tuple[ModelEntry, ...]
    units: UnitSettings = UnitSettings()
    stimuli: StimulusSettings = StimulusSettings()
    visualization: VisualizationSettings = VisualizationSettings()
    session: SessionSettings = SessionSettings()
    texts: TextSettings = TextSettings()
    recruitment: RecruitmentSettings = RecruitmentSettings()
    hosting: HostingSettings = HostingSettings()

    @field_validator("models")
    @classmethod
    def _models(cls, value: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
        if not value:
            raise ValueError("name at least one model: [[models]] with a card")
        names = [(entry.card, entry.weights) for entry in value]
        if len(set(names)) != len(names):
            raise ValueError("a model is listed twice")
        return value

    @field_validator("protocol")
    @classmethod
    def _protocol(cls, value: str) -> str:
        if value not in protocol_names():
            raise ValueError(f"there is no protocol {value!r}; known: {', '.join(protocol_names())}")
        return value

    def with_twins(self) -> Experiment:
        """Return the experiment with a random-weight twin beside every model."""
        return self.model_copy(
            update={"models": tuple(entry.model_copy(update={"twin": True}) for entry in self.models)}
        )

    def units_per_model(self, condition: str) -> int:
        """Return how many units of each model are asked about in a condition."""
        few = self.visualization.units if condition == "synthetic" else None
        return self.units.per_model if few is None else min(self.units.per_model, few)

    def resolve_protocol(self) -> Protocol:
        """Return the protocol with the experiment's departures from it."""
        protocol = load_protocol(self.protocol)
        session = {
            key: value
            for key in ("main_trials", "catch_trials", "responses_per_unit", "feedback")
            if (value := getattr(self.session, key)) is not None
        }
        shares = self._shares(protocol)
        if shares is not None:
            session["references"] = shares
        changes: dict[str, dict[str, Any]] = {
            "units": {"rule": self.units.rule, "aggregator": self.units.aggregator},
            "tasks": {"references_per_side": self.stimuli.references, "per_unit": self.stimuli.tasks},
            "session": session,
        }
        given = {name: {k: v for k, v in section.items() if v is not None} for name, section in changes.items()}
        if self.stimuli.distinct_classes:
            given["tasks"]["distinct_classes"] = True
        return protocol.override({name: section for name, section in given.items() if section})

    def _shares(self, protocol: Protocol) -> dict[str, float] | None:
        """Return the shares of trials by references, if the experiment sets any."""
        asked = {kind: getattr(self.session, f"references_{kind}") for kind in ("max", "min", "none")}
        if all(share is None for share in asked.values()):
            return None
        known = protocol.rules.session.references
        shares = {
            kind: known.get(kind, 0.0) if share is None else share  # type: ignore[call-overload]
            for kind, share in asked.items()
        }
        shares["both"] = round(1.0 - sum(shares.values()), 12)
        return {kind: share for kind, share in shares.items() if share}

    @property
    def hash(self) -> str:
        """Hash of the settings of stimuli and trials.

        Where on this machine pictures, weights and cards lie is left out: what is in them has hashes of its own. So
        is how people are received, which may still change when everything is built: see :attr:`hosting_hash`.
        """
        return hash_settings(self.contents)

    @property
    def contents(self) -> dict[str, Any]:
        """Settings of stimuli and trials, independent of where pictures, weights and cards are stored."""
        values = self.model_dump(mode="json", exclude=set(_RECEPTION))
        values["pool"]["source"] = self.pool.source.partition(":")[0]
        values["visualization"] = self._visualized.identity(self.pool.crop)
        for entry in values["models"]:
            entry["weights"] = Path(entry["weights"]).name
            entry["card"] = Path(entry["card"]).name if _is_file(entry["card"]) else entry["card"]
        return values

    @property
    def _visualized(self) -> VisualizationSettings:
        """What is said of synthetic pictures; where there are none, defaults are spelled as they first were."""
        said = self.visualization
        if "synthetic" in self.stimuli.conditions:
            return said
        return said.model_copy(update={**(_FIRST if said.canvas == "model" else _UNSAID)})

    @property
    def hosting_hash(self) -> str:
        """Hash of how people are received; it goes on every session."""
        values = self.model_dump(mode="json", include=set(_RECEPTION))
        values["texts"] = {"language": self.texts.language}
        return hash_settings(values)


_UNSAID = {"version": 1, "shown": "canvas"}
"""Settings of visualisations that frozen experiments from before they existed do not have, and what was done then."""
_FIRST = {**_UNSAID, "canvas": 224}

_RECEPTION = ("texts", "recruitment", "hosting")
"""Sections that say how people are received; what they see in a trial does not depend on them."""


@dataclass(frozen=True)
class ExperimentComparison:
    """How an experiment differs from an earlier one.

    Attributes
    ----------
    added
        What it has besides: models, twins, conditions, difficulties.
    changed
        Whatever else differs, so that what was made for the earlier one would not be the same any more.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]


def compare_experiments(old: Experiment, new: Experiment) -> ExperimentComparison:
    """Say what a new experiment adds to an old one, and what it changes."""
    before, after = old.contents, new.contents
    added, changed = _compare_models(before.pop("models"), after.pop("models"))
    for name, word in (("conditions", "condition"), ("difficulties", "difficulty")):
        had, has = before["stimuli"].pop(name), after["stimuli"].pop(name)
        changed += [f"stimuli.{name} lacks {value!r}" for value in had if value not in has]
        added += [f"the {word} {value!r}" for value in has if value not in had]
    hardest = max(DIFFICULTIES.index(value) for value in old.stimuli.difficulties)
    changed += [
        f"stimuli.difficulties adds {value!r}, which is easier than {DIFFICULTIES[hardest]!r}: a unit's queries are "
        "dealt from the easiest on, so that those of old trials would change"
        for value in new.stimuli.difficulties
        if value not in old.stimuli.difficulties and DIFFICULTIES.index(value) < hardest
    ]
    if "synthetic" not in old.stimuli.conditions:
        # Nothing was made by these settings yet.
        after["visualization"] = before["visualization"]
    return ExperimentComparison(tuple(added), (*changed, *setting_differences(before, after)))


def _compare_models(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Say which models are new, and which are gone or described otherwise."""
    added: list[str] = []
    changed: list[str] = []
    rest = list(after)
    for entry in before:
        name = entry["card"]
        same = [other for other in rest if (other["card"], other["weights"]) == (name, entry["weights"])]
        if not same:
            changed.append(f"models lacks {name!r}")
            continue
        rest.remove(same[0])
        if same[0]["twin"] and not entry["twin"]:
            added.append(f"the twin of {name!r}")
        elif entry["twin"] and not same[0]["twin"]:
            changed.append(f"models lacks the twin of {name!r}")
        changed += setting_differences({**entry, "twin": False}, {**same[0], "twin": False}, f"models {name!r}")
    return [f"the model {entry['card']!r}" for entry in rest] + added, changed


def setting_differences(old: Any, new: Any, where: str = "") -> list[str]:
    """List the settings in which two documents differ, each with its old and its new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in {**old, **new}
            for difference in setting_differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for n, (a, b) in enumerate(zip(old, new)) for d in setting_differences(a, b, f"{where}[{n}]")]
    return [] if old == new else [f"{where} was {old!r}, is {new!r}"]


def forgotten_reception(old: Experiment, new: Experiment) -> list[str]:
    """List settings of hosting that an experiment sets and a later one leaves at their defaults."""
    before, after = (
        _flatten(experiment.model_dump(mode="json", include=set(_RECEPTION), exclude_defaults=True))
        for experiment in (old, new)
    )
    return [f"{name} = {value!r}" for name, value in before.items() if name not in after]


def _flatten(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Return the leaves of nested settings by their dotted names."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _flatten(value, f"{where}{key}.") if isinstance(value, dict) else {f"{where}{key}": value}
    return leaves


def parse_frozen(values: dict[str, Any], where: str) -> Experiment:
    """Return an experiment as a study froze it: settings that did not exist then have the values of then.

    Raises
    ------
    DocumentError
        If a key is unknown, missing or wrong.
    """
    said = values.get("visualization", {})
    if isinstance(said, dict):
        values = {**values, "visualization": {**_FIRST, **said}}
    return parse(Experiment, values, where)


def read_experiment(path: Path | str) -> Experiment:
    """Read an experiment file; paths in it are relative to its folder.

    The file that a study keeps is read as it was meant when the study was built.

    Raises
    ------
    DocumentError
        If a key is unknown, missing or wrong; all problems are named at once.
    """
    path = Path(path)
    values = read_toml(path)
    if "models" not in values:
        values["models"] = []
    folder = path.resolve().parent
    frozen = path.name == "experiment.toml" and (folder / "manifest.json").is_file()
    experiment = (parse_frozen if frozen else partial(parse, Experiment))(values, str(path))
    pool = experiment.pool.model_copy(update={"source": absolute_source(experiment.pool.source, folder)})
    models = tuple(_with_absolute_paths(entry, folder) for entry in experiment.models)
    texts = experiment.texts.model_copy(
        update={
            name: str(folder / Path(value).expanduser())
            for name in ("folder", "consent")
            if (value := getattr(experiment.texts, name))
        }
    )
    return experiment.model_copy(update={"pool": pool, "models": models, "texts": texts})


def _is_file(card: str) -> bool:
    """Whether a card is given by its file instead of its name."""
    return card.removesuffix(TWIN_SUFFIX).endswith(".toml")


def _with_absolute_paths(entry: ModelEntry, folder: Path) -> ModelEntry:
    """Return a model with the paths of its card and its weights made absolute."""
    card, weights = entry.card, entry.weights
    if _is_file(card):
        card = str(folder / Path(card).expanduser())
    if weights not in ("", "random"):
        weights = str(folder / Path(weights).expanduser())
    return entry.model_copy(update={"card": card, "weights": weights})


def absolute_source(source: str, folder: Path) -> str:
    """Return a pool's source with its path, relative to a folder, made absolute; addresses stay as they are."""
    kind, separator, place = source.partition(":")
    if not separator or not place or "://" in place:
        return source
    paths = place.split(",") if kind == "webdataset" else [place]
    return f"{kind}:{','.join(str(folder / Path(path.strip()).expanduser()) for path in paths)}"
