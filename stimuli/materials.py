"""The inputs of a study's stages: its pool with its survey, its models, and what follows for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from benchmark import schemas
from benchmark.cache import Cache
from benchmark.data_sets import data_set_names
from benchmark.device import choose_device, prepare_torch
from benchmark.engines.base import Engine, check_sendable
from benchmark.engines.local import LocalEngine
from benchmark.errors import StudyError
from benchmark.experiment import ModelEntry
from benchmark.hashing import hash_pixels
from benchmark.model_card import ModelCard, TrainingSpec
from benchmark.model_sources import load_card
from benchmark.model_zoo import RANDOM, Model, load_model
from benchmark.progress import Advance, Reporter
from benchmark.protocol import Aggregator, Protocol, Windows
from benchmark.storage import write_atomically
from benchmark.study import Study
from benchmark.units import Unit, read_units
from stimuli.activations import BATCH_ON_ACCELERATOR, BATCH_ON_CPU, ActivationPlan, read_activations
from stimuli.loading import check_picture
from stimuli.pictures import resize_to, to_pixels
from stimuli.pool_sources import open_pool
from stimuli.pools import Pool
from stimuli.survey import Survey, survey_pool
from stimuli.synthetic import SetMaker


def resolve_card(entry: ModelEntry) -> ModelCard:
    """Return the card of a model of an experiment, with the training data that the experiment states."""
    card = load_card(entry.card)
    if entry.training_images is not None:
        stated = TrainingSpec(
            data=data_set_names(entry.training_data), images=entry.training_images, note="stated by the experiment"
        )
        card = card.model_copy(update={"training": stated})
    return card


def has_twin(entry: ModelEntry, card: ModelCard) -> bool:
    """Whether a model of an experiment has a twin: a random model has none."""
    return entry.twin and entry.weights != RANDOM and not card.twin


@dataclass
class Materials:
    """What the stages of a study work with, each thing read or loaded when it is first asked for.

    Attributes
    ----------
    study
        The study, or the draft of an extension.
    device_name
        Where networks run: ``auto``, ``cpu``, ``cuda``.
    skip_unreadable
        Whether files that are no readable picture are left out.
    reporter
        Shows progress.
    engine
        Who measures activations and makes synthetic pictures.
    device
        Where that is done; what is made depends on its kind.
    entries
        Number of the entry in the experiment that a loaded model, or twin, belongs to.
    """

    study: Study
    device_name: str
    skip_unreadable: bool
    reporter: Reporter
    engine: Engine = field(default_factory=LocalEngine)
    entries: dict[str, int] = field(default_factory=dict, init=False)
    _models: dict[str, Model] = field(default_factory=dict, init=False)
    _survey: Survey | None = field(default=None, init=False)
    _pool: Pool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.device = self.engine.choose_device(self.device_name)
        self._own_device = self._surveying_device = self.device
        if self.engine.is_elsewhere:
            # Others need the accelerator. This process reads layers off the models, and surveys the pool where it can.
            self._own_device = torch.device("cpu")
            self._surveying_device = choose_device("auto" if self.device.type == "cuda" else "cpu")
        prepare_torch(self._own_device)
        self.experiment = self.study.experiment
        self.seed = self.experiment.seed

    # ---------------------------------------------------------------- the pool

    @property
    def pool(self) -> Pool:
        """The pool of the experiment."""
        if self._pool is None:
            settings = self.experiment.pool
            self._pool = open_pool(settings.source, settings.data_set, settings.split)
        return self._pool

    @property
    def survey(self) -> Survey:
        """What is known of every picture of the pool."""
        if self._survey is None:
            for notice in self.pool.notices():
                self.reporter.say(notice)
            with self.reporter.task("Surveying the pool", len(self.pool)) as advance:
                self._survey = survey_pool(
                    self.pool,
                    self.study.root / "survey",
                    crop=self.experiment.pool.crop,
                    skip_unreadable=self.skip_unreadable,
                    device=self._surveying_device,
                    progress=advance,
                    cache=Cache.beside(self.study.root),
                )
            for notice in self._survey.notices():
                self.reporter.say(notice)
        return self._survey

    @property
    def protocol(self) -> Protocol:
        """The protocol with the size of the pool."""
        return self.experiment.resolve_protocol().for_pool(len(self.survey.table))

    @property
    def windows(self) -> Windows:
        """Where exemplars come from."""
        return self.protocol.windows(len(self.survey.table), self.experiment.stimuli.difficulties)

    def recall_survey(self) -> bool:
        """Take the survey over from an earlier run, if the pool still lists the same files."""
        state = self.study.manifest["stages"].get("units", {})
        path = self.study.tables / "pool.parquet"
        if state.get("state") != "done" or not path.is_file():
            return False
        table = schemas.POOL.read(path)
        places = {entry.source: place for place, entry in enumerate(self.pool.entries)}
        facts = self.study.manifest["pool"]
        expected = facts["size"] + facts["exact_copies_left_out"] + facts["unreadable_skipped"]
        # Studies from before files beside the pictures were left out counted them as unreadable.
        beside = {name for names in self.pool.left_out.values() for name in names} & set(facts["unreadable"])
        if len(self.pool) + len(beside) != expected or not set(table["source"]) <= set(places):
            raise StudyError(
                f"The pool {self.experiment.pool.source} has changed since {self.study.root} was built. Restore "
                "it, or build into another folder."
            )
        self._survey = Survey(
            table,
            np.array([places[source] for source in table["source"]], dtype=np.int64),
            self._read_planted(),
            tuple((name, "") for name in facts["unreadable"]),
            facts["exact_copies_left_out"],
        )
        return True

    def _write_planted(self, survey: Survey) -> None:
        contents = {"scores": np.ascontiguousarray(survey.planted.T)}
        path = self.study.tables / "planted.safetensors"
        write_atomically(path, lambda target: save_file(contents, target))

    def _read_planted(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(load_file(self.study.tables / "planted.safetensors")["scores"].T)

    # ---------------------------------------------------------------- models

    def models(self) -> dict[str, Model]:
        """Return the models of the experiment and the twins asked for, by name."""
        if not self._models:
            with self.reporter.task("Loading models", len(self.experiment.models)) as advance:
                self._models = self._load(advance)
        return self._models

    def _load(self, advance: Advance) -> dict[str, Model]:
        models: dict[str, Model] = {}
        for number, entry in enumerate(self.experiment.models):
            card = resolve_card(entry)
            if self.engine.is_elsewhere:
                check_sendable(card)
            model = self.load_entry(number)
            if model.name in models:
                raise StudyError(f"Two entries under [[models]] are both {model.name}; name each model once.")
            models[model.name] = model
            self.entries[model.name] = number
            if has_twin(entry, card):
                twin = model.card.as_twin()
                models[twin.name] = self.load_twin(twin)
                self.entries[twin.name] = number
            advance(1)
        return models

    def load_entry(self, number: int) -> Model:
        """Load the model of an entry of the experiment."""
        entry = self.experiment.models[number]
        return load_model(
            resolve_card(entry), weights=entry.weights, seed=self.seed, device=self._own_device,
            aggregator=self._aggregator, need_training=True,
        )  # fmt: skip

    def load_twin(self, card: ModelCard) -> Model:
        """Load the random-weight twin of a card."""
        return load_model(card, seed=self.seed, device=self._own_device, aggregator=self._aggregator)

    @property
    def _aggregator(self) -> Aggregator:
        return self.experiment.resolve_protocol().rules.units.aggregator

    def drawn(self, model: str) -> list[Unit]:
        """Return the units drawn from a model, in order."""
        table = self.study.units()
        return read_units(table[table["model"] == model].sort_values("draw"))

    def plan(self, model: Model) -> ActivationPlan:
        """Return what a model's activations depend on."""
        return ActivationPlan(
            model=model,
            pool=self.pool,
            survey=self.survey,
            units=tuple(self.drawn(model.name)),
            extremes=min(self.windows.reach, len(self.survey.table)),
            protocol=self.protocol,
            seed=self.seed,
            view=self.experiment.pool.view,
            crop=self.experiment.pool.crop,
            batch_size=BATCH_ON_CPU if self.device.type == "cpu" else BATCH_ON_ACCELERATOR,
            device=self.device.type,
        )

    # ---------------------------------------------------------------- visualisations

    def set_maker(self, model: Model) -> SetMaker:
        """Return what makes the synthetic pictures of a model."""
        return SetMaker(self.study, model, *self.to_visualize(model))

    def canvas(self, model: Model) -> int:
        """Return the side that a model's synthetic pictures are optimised at."""
        return self.experiment.visualization.canvas_for(model.card.input.size)

    def visualized(self, model: Model, units: Sequence[Unit]) -> list[Unit]:
        """Return those of a model's units that get synthetic pictures."""
        statistics = self.study.statistics()
        used = set(read_units(statistics[(statistics["model"] == model.name) & statistics["used"]]))
        return [unit for unit in units if unit in used][: self.experiment.visualization.units]

    def to_visualize(self, model: Model) -> tuple[list[Unit], dict[Unit, NDArray[np.float32]], Any]:
        """Return the units of a model that get synthetic pictures, their columns, and how to read a picture."""
        measured = read_activations(self.study.activations(model.name), self.plan(model))
        units = self.visualized(model, measured.units)
        canvas, crop = self.canvas(model), self.experiment.pool.crop
        pool, places, pictures = self.pool, self.survey.places, self.survey.table["picture"]

        @lru_cache(maxsize=512)
        def read(row: int) -> NDArray[np.uint8]:
            place = int(places[row])
            seen = pool.crop(place, crop)
            check_picture(hash_pixels(to_pixels(seen)), str(pictures[row]), pool.entries[place].source)
            return np.ascontiguousarray(to_pixels(resize_to(seen, canvas)).transpose(2, 0, 1))

        return units, {unit: measured.column(unit) for unit in units}, read
