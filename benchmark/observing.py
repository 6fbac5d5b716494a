"""Machine observers at work on an engine: pictures are embedded in pieces, and other observers are a piece each."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.engines.base import Engine, Equipment, Piece, check_sendable
from benchmark.errors import EngineError
from benchmark.observers import create_observer
from benchmark.progress import Advance, Reporter
from benchmark.protocol import References
from benchmark.responses import observe
from benchmark.study import Study

if TYPE_CHECKING:
    import torch

    from benchmark.observers.base import Observer
    from benchmark.observers.embedding import Embedder

FEATURES = "features"
"""Kind of the observers whose pictures are embedded in pieces."""


@dataclass(frozen=True)
class StudyEquipment(Equipment[Study]):
    """A built study, as a worker finds it.

    Attributes
    ----------
    root
        Its folder, which all workers share.
    stimuli
        Hash of its stimuli.
    """

    root: str
    stimuli: str

    @classmethod
    def of(cls, study: Study) -> StudyEquipment:
        """Describe a study."""
        return cls(str(study.root.resolve()), study.stimuli_hash)

    def load(self) -> Study:
        """Open the study.

        Raises
        ------
        EngineError
            If it is not there, or has other stimuli.
        """
        study = Study(self.root)
        if not study.manifest_path.is_file() or study.stimuli_hash != self.stimuli:
            problem = "holds other stimuli" if study.manifest_path.is_file() else "is not there"
            raise EngineError(
                f"On {socket.gethostname()} the folder {self.root} {problem}. The machines of a cluster must share the "
                "study's folder through their file system, under the same path."
            )
        return study


@dataclass(frozen=True)
class FeatureEquipment(Equipment["Embedder"]):
    """The network of a feature observer.

    Attributes
    ----------
    study
        The study whose pictures it embeds.
    specification
        What stands behind ``features:``.
    device
        Kind of device that it runs on.
    """

    study: StudyEquipment
    specification: str
    device: str

    def load(self) -> Embedder:
        """Load the network."""
        from benchmark.observers.embedding import Embedder
        from benchmark.observers.features import FeatureObserver

        study = self.study.load()
        observer = FeatureObserver(self.specification, study, self.device)
        return Embedder(study, observer.model, observer.layers)


@dataclass(frozen=True)
class ObserverPiece(Piece[Study, pd.DataFrame]):
    """All answers of an observer, as one piece of work.

    Attributes
    ----------
    equipment
        The study.
    name
        Name of the observer.
    device
        Kind of device that its network runs on.
    references, shuffle_references
        As in :func:`benchmark.responses.observe`.
    """

    equipment: StudyEquipment
    name: str
    device: str
    references: tuple[References, ...]
    shuffle_references: bool

    def run(self, tools: Study, advance: Advance) -> pd.DataFrame:
        """Let the observer answer."""
        observer = create_observer(self.name, tools, self.device)
        answers = observe(tools, observer, references=self.references, shuffle_references=self.shuffle_references)
        advance(1)
        return answers


def observe_elsewhere(
    study: Study,
    names: Sequence[str],
    engine: Engine,
    device: torch.device,
    *,
    references: Sequence[References] = ("both",),
    shuffle_references: bool = False,
    reporter: Reporter | None = None,
) -> list[pd.DataFrame]:
    """Let observers answer a study's tasks on an engine whose workers are other processes.

    Observers that compare features have their pictures embedded in pieces, and the study keeps the vectors; all
    others are a piece each, done at the same time.

    Parameters
    ----------
    study
        The study.
    names
        Names of the observers.
    engine, device
        Who does the work, and on what.
    references, shuffle_references
        As in :func:`benchmark.responses.observe`.
    reporter
        Shows progress.

    Returns
    -------
    The answers of each observer, in the order of the names.
    """
    reporter = reporter or Reporter()
    site = StudyEquipment.of(study)
    answers: dict[str, pd.DataFrame] = {}
    whole = [
        ObserverPiece(site, name, device.type, tuple(references), shuffle_references)
        for name in dict.fromkeys(names)
        if name.partition(":")[0] != FEATURES
    ]
    if whole:
        with reporter.task(f"Observing: {', '.join(piece.name for piece in whole)}", len(whole)) as advance:
            for number, table in engine.run(whole, device=device, advance=advance):
                answers[whole[number].name] = table
    for name in dict.fromkeys(names):
        if name not in answers:
            observer = create_observer_here(name, study, engine, device, reporter)
            answers[name] = observe(study, observer, references=references, shuffle_references=shuffle_references)
    return [answers[name] for name in names]


def create_observer_here(name: str, study: Study, engine: Engine, device: torch.device, reporter: Reporter) -> Observer:
    """Create an observer in this process; if it compares features, others embed the pictures.

    Parameters
    ----------
    name
        Name of the observer.
    study
        The study that it answers.
    engine, device
        Whose workers embed, and on what; they are other processes.
    reporter
        Shows progress.

    Raises
    ------
    EngineError
        If its network is an object of this process.
    """
    from benchmark.observers.embedding import Spread
    from benchmark.observers.features import FeatureObserver

    # Its kinship, its layers and the hash of its weights are needed here; a CPU is enough for them.
    observer = create_observer(name, study, "cpu", reporter)
    if isinstance(observer, FeatureObserver):
        check_sendable(observer.card)
        equipment = FeatureEquipment(StudyEquipment.of(study), name.partition(":")[2], device.type)
        observer.spread = Spread(engine, device, equipment)
    return observer
