"""A release: what every row of the leaderboard is made with, so that rows can stand in one table.

A release is a TOML file in ``benchmark/releases``: an experiment without models, the machine observers that answer it,
which sides they are shown, and down to which part of the pool the score is followed. A file of one's own makes rows of
its own: whatever changes a score changes the protocol's identity, the pool, or the stimuli, and with them the table.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from benchmark.documents import Document, parse, read_toml
from benchmark.errors import NameNotFound
from benchmark.experiment import Experiment, ModelEntry
from benchmark.protocol import References

BUNDLED = "bundled"
"""The pool that comes with vimi, and the release that is made for it."""

STANDARD = "vimi1"
"""The release for real pools."""


class Release(Document):
    """What rows are made with.

    Attributes
    ----------
    name, summary
        What it is called, and what it does, in a sentence.
    observers
        Machine observers that answer; one that is made of the model itself is left out, and so is ``label`` where the
        pool has no classes.
    references
        Which sides they are shown.
    smallest_pool_share
        The score is also measured on halves of the pool, halves of those, and so on, down to this share; 1 for the
        whole pool alone.
    experiment
        The experiment, without pool and models.
    """

    name: str = Field(pattern=r"^[a-z0-9_-]+$", max_length=40)
    summary: str = ""
    observers: tuple[str, ...]
    references: tuple[References, ...] = ("both", "none")
    smallest_pool_share: float = Field(default=0.1, gt=0, le=1)
    experiment: dict[str, Any]

    @field_validator("experiment")
    @classmethod
    def _without_models(cls, value: dict[str, Any]) -> dict[str, Any]:
        given = [key for key in ("models", "pool") if key in value]
        if given:
            raise ValueError(f"a release has no {given[0]}: name them when you add a model")
        return value

    def experiment_for(
        self, entry: ModelEntry, pool: str, conditions: tuple[str, ...] = (), data_set: str = ""
    ) -> Experiment:
        """Return the experiment with one model.

        Parameters
        ----------
        entry
            The model.
        pool
            Source of the pool, as in an experiment: ``bundled``, ``imagenet:PATH``.
        conditions
            Only these; all of the release if not given.
        data_set
            The public data set that the pictures are part of, where the source does not say it.

        Raises
        ------
        DocumentError
            If the release's experiment has an unknown key or a wrong value.
        NameNotFound
            If the release does not have a condition.
        """
        stimuli = dict(self.experiment.get("stimuli", {}))
        offered = stimuli.get("conditions", ["natural"])
        for condition in conditions:
            if condition not in offered:
                raise NameNotFound("condition", condition, offered, f"These are the conditions of {self.name}.")
        if conditions:
            stimuli["conditions"] = [condition for condition in offered if condition in conditions]
        values = {**self.experiment, "stimuli": stimuli, "pool": {"source": pool, "data_set": data_set}}
        return parse(Experiment, {**values, "models": [entry.model_dump()]}, f"release {self.name}")


def release_names() -> list[str]:
    """Return the names of the releases that ship with vimi."""
    folder = resources.files("benchmark") / "releases"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_release(name: str = "", pool: str = BUNDLED) -> Release:
    """Return a release.

    Parameters
    ----------
    name
        Its name, or the path of a TOML file; if not given, the one that is made for the pool.
    pool
        Source of the pool.

    Raises
    ------
    NameNotFound
        If there is no release of that name.
    DocumentError
        If the file is no release.
    """
    name = name or (BUNDLED if pool == BUNDLED else STANDARD)
    if name.endswith(".toml"):
        return parse(Release, read_toml(Path(name)), f"release {name}")
    if name not in release_names():
        raise NameNotFound("release", name, release_names())
    with resources.as_file(resources.files("benchmark") / "releases" / f"{name}.toml") as path:
        return parse(Release, read_toml(path), f"release {name}")
