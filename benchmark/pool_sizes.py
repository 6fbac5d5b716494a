"""A study over a part of its pool: where a smaller pool's files are stored, and which sizes a protocol allows.

Difficulty is a rank, not a quantile: with fewer pictures, the same number of references and queries reaches further
into a unit's ranking, so a score depends on the size of the pool. N is a part of a protocol's identity, and answers
over two sizes share a figure, never a table. What belongs to a size lies in ``STUDY/pool_sizes/SIZE``:
``stimuli.parquet``, ``manifest.json`` (what it was made from), and answers in ``responses/``, apart from the study's
own.
:mod:`stimuli.pool_sizes` makes the stimuli.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import schemas
from benchmark.errors import PoolTooSmall, StudyError
from benchmark.hashing import hash_rows, hash_settings
from benchmark.protocol import DIFFICULTIES, Difficulty, Protocol
from benchmark.study import Study


class PoolSize(Study):
    """A study over a part of its pool: pictures and units are the study's, stimuli and answers its own.

    Parameters
    ----------
    root
        The study's folder.
    size
        Pictures in the part.
    """

    def __init__(self, root: Path | str, size: int) -> None:
        super().__init__(root)
        self.size = size

    @property
    def folder(self) -> Path:
        """Folder of what belongs to this size alone."""
        return self.root / "pool_sizes" / str(self.size)

    @property
    def facts_path(self) -> Path:
        """What the stimuli of this size were made from."""
        return self.folder / "manifest.json"

    @property
    def stimuli_path(self) -> Path:
        """The table of stimuli."""
        return self.folder / "stimuli.parquet"

    def response_path(self, observer: str) -> Path:
        """File of an observer's answers."""
        return self.folder / "responses" / super().response_path(observer).name

    @property
    def protocol(self) -> Protocol:
        """The protocol with this size of the pool."""
        return self.experiment.resolve_protocol().for_pool(self.size)

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of this size: ``protocol`` (its identity), ``difficulties``, ``notes`` and
        ``share_of_pictures_repeating_a_group``; empty if its stimuli have not been made.
        """
        if not self.facts_path.is_file():
            return {}
        try:
            return dict(json.loads(self.facts_path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}  # broken: made again

    @property
    def stimuli_hash(self) -> str:
        """Hash of the stimuli that observers see at this size.

        Raises
        ------
        StudyError
            If they have not been made.
        """
        facts = self.facts
        if not facts:
            raise StudyError(
                f"{self.folder} has no stimuli yet. Make them with stimuli.pool_sizes.make_pool_sizes, or make and "
                "answer them with benchmark.workflow.observe_pool_sizes."
            )
        return hash_settings(["pool size", self.size, facts["outputs"]])

    @property
    def stimuli_hashes(self) -> frozenset[str]:
        """Hashes that mark answers at this size."""
        return frozenset([self.stimuli_hash])

    @property
    def difficulties(self) -> tuple[Difficulty, ...]:
        """Those of the study's difficulties that this size allows."""
        return fitting_difficulties(self.protocol, self.size, self.experiment.stimuli.difficulties)

    @property
    def inputs(self) -> str:
        """Hash of everything that the stimuli of this size depend on, as it is now."""
        return hash_settings(
            [
                self.stage_outputs("units"),
                self.stage_outputs("activations"),
                self.stage_outputs("exemplars")["statistics"],
                self.experiment.seed,
                self.size,
                self.protocol.identity,
                self.difficulties,
            ]
        )

    @property
    def is_current(self) -> bool:
        """Whether stimuli have been made from what the study is now."""
        return self.facts.get("inputs") == self.inputs and self.stimuli_path.is_file()

    @property
    def is_whole(self) -> bool:
        """Whether stimuli have been made from what the study is now, and table and pictures are as they were made."""
        if not self.is_current:
            return False
        try:
            table = schemas.STIMULI.read(self.stimuli_path)
        except StudyError:
            return False
        same = hash_rows(table) == self.facts["outputs"]["stimuli"]
        return same and all(self.image_path(picture).is_file() for picture in table["picture"].unique())


def fitting_difficulties(protocol: Protocol, size: int, wanted: Sequence[Difficulty]) -> tuple[Difficulty, ...]:
    """Return the difficulties that a pool of a given size allows, easiest first."""
    kept: tuple[Difficulty, ...] = ()
    for difficulty in (name for name in DIFFICULTIES if name in wanted):
        try:
            protocol.windows(size, (*kept, difficulty))
        except PoolTooSmall:
            continue
        kept = (*kept, difficulty)
    return kept


def halved_sizes(study: Study) -> list[int]:
    """Return the sizes at which a study can be asked: its pool, half of it, and so on while one difficulty fits."""
    size = int(study.manifest["pool"]["size"])
    sizes: list[int] = []
    while size and fitting_difficulties(
        PoolSize(study.root, size).protocol, size, study.experiment.stimuli.difficulties
    ):
        sizes.append(size)
        size //= 2
    return sizes


def made_sizes(study: Study) -> list[PoolSize]:
    """Return the sizes whose stimuli have been made from what a study is now, the largest first."""
    folders = [path for path in (study.root / "pool_sizes").glob("*") if path.is_dir() and path.name.isdigit()]
    views = [PoolSize(study.root, int(path.name)) for path in folders]
    return sorted((view for view in views if view.is_current), key=lambda view: -view.size)
