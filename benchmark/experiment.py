"""The experiment file: everything that someone decides before a study is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from benchmark.documents import Document, parse, read_toml
from benchmark.hashing import hash_settings
from benchmark.model_card import TWIN_SUFFIX
from benchmark.protocol import Aggregator, Difficulty, Protocol, UnitRule, load_protocol, protocol_names

Name = Annotated[str, Field(min_length=1, max_length=200)]


class PoolSettings(Document):
    """The pictures that natural stimuli come from.

    Attributes
    ----------
    source
        ``bundled``, ``folder:PATH``, ``imagenet:PATH``, ``imagenette`` or ``imagenette:PATH``,
        ``webdataset:SHARDS``.
    view
        ``canonical``: people and all models see one crop; ``model``: each model sees the original through its
        own transform (a sensitivity analysis).
    crop
        Side of the canonical crop in pixels.
    """

    source: Name = "bundled"
    view: Literal["canonical", "model"] = "canonical"
    crop: int = Field(default=224, ge=32, le=1024)


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
            raise ValueError("training_data and training_images belong together")
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


class VisualizationSettings(Document):
    """How synthetic pictures are made.

    Attributes
    ----------
    preset
        ``fast``, or ``imi2023`` for the paper's recipe.
    canvas
        Side of the finished pictures in pixels.
    steps
        Most optimisation steps a run may take, if not the preset's own (504, or the paper's 20,000). For
        ``imi2023`` all step numbers of the recipe shrink with it.
    units
        Only the first so many units of a model get synthetic pictures; all of them if not given.
    """

    preset: Literal["fast", "imi2023"] = "fast"
    canvas: int = Field(default=224, ge=16, le=1024)
    steps: int | None = Field(default=None, gt=0)
    units: int | None = Field(default=None, gt=0)

    @property
    def most_steps(self) -> int:
        """Most optimisation steps a run may take."""
        return self.steps or {"fast": 504, "imi2023": 20_000}[self.preset]


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
    """Texts that participants read."""

    language: str = "en"
    consent: str = ""


class RecruitmentSettings(Document):
    """Where participants come from."""

    recruiter: Literal["open", "prolific", "mturk", "sona"] = "open"
    ethics_approval: str = ""


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
        """Hash of everything the file says, except where on this machine its pictures, weights and cards lie.

        Pictures and weights have hashes of their own, made of what is in them.
        """
        values = self.model_dump(mode="json")
        values["pool"]["source"] = self.pool.source.partition(":")[0]
        for entry in values["models"]:
            entry["weights"] = Path(entry["weights"]).name
            entry["card"] = Path(entry["card"]).name if _is_file(entry["card"]) else entry["card"]
        return hash_settings(values)


def read_experiment(path: Path | str) -> Experiment:
    """Read an experiment file; paths in it are relative to its folder.

    Raises
    ------
    DocumentError
        If a key is unknown, missing or wrong; all problems are named at once.
    """
    path = Path(path)
    values = read_toml(path)
    if "models" not in values:
        values["models"] = []
    experiment = parse(Experiment, values, str(path))
    folder = path.resolve().parent
    pool = experiment.pool.model_copy(update={"source": _absolute(experiment.pool.source, folder)})
    models = tuple(_with_absolute_paths(entry, folder) for entry in experiment.models)
    return experiment.model_copy(update={"pool": pool, "models": models})


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


def _absolute(source: str, folder: Path) -> str:
    """Return a pool's source with its path made absolute; addresses stay as they are."""
    kind, separator, place = source.partition(":")
    if not separator or not place or "://" in place:
        return source
    return f"{kind}:{folder / Path(place).expanduser()}"
