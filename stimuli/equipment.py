"""What an engine's workers need while a study is built; each worker finds and loads it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from benchmark.engines.base import Equipment
from benchmark.errors import EngineError
from benchmark.extension import ExtensionDraft
from benchmark.hashing import hash_settings
from benchmark.model_card import ModelCard
from benchmark.model_zoo import Model
from benchmark.progress import Reporter
from benchmark.study import Stage, Study
from stimuli.activations import ActivationPlan
from stimuli.materials import Materials
from stimuli.synthetic import SetMaker


@dataclass(frozen=True)
class Site:
    """Where a worker finds a study that is being built.

    Attributes
    ----------
    root
        The study's folder, which all workers share.
    draft
        Whether an extension of it is being built.
    device
        Kind of device that networks run on.
    stages
        Stages that the work follows from.
    state
        Hash of what they made, so that a worker never works on another study's remains.
    """

    root: str
    draft: bool
    device: str
    stages: tuple[Stage, ...]
    state: str

    @classmethod
    def of(cls, study: Study, device: torch.device, stages: tuple[Stage, ...]) -> Site:
        """Return the site of a study as it is now."""
        return cls(
            str(study.root.resolve()), isinstance(study, ExtensionDraft), device.type, stages, _state_of(study, stages)
        )

    def open(self) -> Materials:
        """Return what the study's stages work with, in this process.

        Raises
        ------
        EngineError
            If the folder is not there, or holds something else.
        """
        study = ExtensionDraft(self.root) if self.draft else Study(self.root)
        if not study.manifest_path.is_file() or _state_of(study, self.stages) != self.state:
            problem = "holds another state of the study" if study.manifest_path.is_file() else "is not there"
            raise EngineError(
                f"On {socket.gethostname()} the folder {self.root} {problem}. The machines of a cluster must share the "
                "study's folder, the pool and the weights through their file system, under the same paths."
            )
        materials = Materials(study, self.device, True, Reporter())
        materials.recall_survey()
        return materials


def _state_of(study: Study, stages: Sequence[Stage]) -> str:
    manifest = study.manifest
    made = [manifest["stages"].get(stage, {}).get("outputs", {}) for stage in stages]
    return hash_settings([manifest["experiment"], made])


@lru_cache(maxsize=1)
def _open_site(site: Site) -> Materials:
    """Return the materials of a site; a worker opens a study once for all models."""
    return site.open()


@dataclass(frozen=True)
class PlanEquipment(Equipment[ActivationPlan]):
    """What a shard is measured with.

    Attributes
    ----------
    site
        Where the study is.
    model
        Name of the model.
    entry
        Number of its entry in the experiment.
    twin
        Whether it is the entry's twin.
    """

    site: Site
    model: str
    entry: int
    twin: bool

    def load(self) -> ActivationPlan:
        """Load the model and what its activations depend on."""
        materials = _open_site(self.site)
        return materials.plan(_load_named(materials, self.model, self.entry, self.twin))


@dataclass(frozen=True)
class SetEquipment(Equipment[SetMaker]):
    """What sets of pictures are made with; attributes as in :class:`PlanEquipment`."""

    site: Site
    model: str
    entry: int
    twin: bool

    def load(self) -> SetMaker:
        """Load the model and the activations of its units."""
        materials = _open_site(self.site)
        return materials.set_maker(_load_named(materials, self.model, self.entry, self.twin))


def _load_named(materials: Materials, name: str, entry: int, twin: bool) -> Model:
    """Load a model of the study, and no other."""
    facts = materials.study.manifest["models"][name]
    return materials.load_twin(ModelCard.model_validate(facts["card"])) if twin else materials.load_entry(entry)
