"""The study folder: one experiment, everything made for it, and a manifest that says from what.

experiment.toml        the frozen experiment
texts/LANGUAGE/        its own texts, taken over from where the experimenter keeps them
manifest.json          versions, hashes, states of the stages
timings.parquet        how long what took (outside every hash)
survey/                what is seen of the pool's pictures, in shards, until all are seen
pool.parquet           pictures of the pool
planted.safetensors    what planted units make of them
units.parquet          units that were drawn
activations/MODEL/     sampled units' columns, extremes of all units, header
statistics.parquet     which units are used, flagged, constant
visualizations/MODEL/  records of synthetic sets, one by one
images/ab/abcd….webp   content-addressed, lossless
stimuli.parquet        which picture serves which unit, role and rank
trials.parquet         one row per position of a session slot
extension/             tables of an extension that is being built, until they take the place of the study's
embeddings/            what machine observers made of the pictures
responses/             machine observers' answers, one Parquet file an observer
pool_sizes/SIZE/       stimuli over a smaller part of the pool, and answers to them
plan.toml              a plan of the analysis; preregistration.json once it is frozen
hosting.json           the study's name in the database of its people
study.sqlite           that database, unless another one is named
results/               estimates, figures, report
exports/, backups/     what was handed out, and what was kept before a restore
gallery/               a static page to look at
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import tomli_w

from benchmark import __version__, schemas
from benchmark.commands import spell_command
from benchmark.documents import read_toml
from benchmark.errors import StageMissing, StudyError, StudyMismatch
from benchmark.experiment import (
    Experiment,
    compare_experiments,
    forgotten_reception,
    parse_frozen,
    read_experiment,
    setting_differences,
)
from benchmark.hashing import hash_settings
from benchmark.plumbing import PLUMBING
from benchmark.protocol import Protocol
from benchmark.storage import only_process, remove_unfinished, write_atomically, write_json, write_text
from benchmark.texts import compare_texts

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Stage = Literal["units", "activations", "exemplars", "visualizations", "trials"]
STAGES: tuple[Stage, ...] = ("units", "activations", "exemplars", "visualizations", "trials")

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "torch-lucent",
    "numpy",
    "pandas",
    "pillow",
    "scikit-image",
    "scikit-learn",
)


class Study:
    """A study folder.

    Parameters
    ----------
    root
        The folder. It need not exist yet.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    # ---------------------------------------------------------------- opening

    @classmethod
    def open(cls, root: Study | Path | str) -> Study:
        """Open a study that has been built; one that is open already is returned as it is.

        Raises
        ------
        StudyError
            If the folder is no study.
        """
        if isinstance(root, Study):
            return root
        study = cls(root)
        if not study.manifest_path.is_file():
            raise StudyError(
                f"{root} is not a study: it has no manifest.json. Build one with: "
                + spell_command("build", "EXPERIMENT.toml", "--out", str(root))
            )
        return study

    @classmethod
    def create(cls, root: Path | str, experiment: Experiment) -> Study:
        """Freeze an experiment into a folder, or find it there already.

        Where its pictures and weights lie on this machine may have changed since; the study then knows the new place.

        Raises
        ------
        StudyMismatch
            If the folder holds a study of another experiment; the message says where they differ.
        StudyError
            If the folder holds something else.
        """
        study = cls(root)
        if study.manifest_path.is_file():
            study.check_experiment(experiment)
            study._freeze(experiment)
            return study
        if study.root.exists() and not study.root.is_dir():
            raise StudyError(f"{root} is a file; a study is a folder.")
        strangers = [p.name for p in study.root.iterdir() if p.name != ".lock"] if study.root.is_dir() else []
        if strangers and "experiment.toml" not in strangers:
            raise StudyError(f"{root} is neither empty nor a study (it holds {strangers[0]}). Choose another folder.")
        study._freeze(experiment)
        study.write_manifest(
            {
                "vimi": __version__,
                "experiment": experiment.hash,
                "protocol": experiment.resolve_protocol().identity,
                "versions": package_versions(),
                "notes": [],
                "stages": {},
            }
        )
        return study

    def _freeze(self, experiment: Experiment) -> None:
        """Write the experiment file of the study, unless it says the same already, and take its texts over.

        Raises
        ------
        StudyMismatch
            If the study's own file says something of how people are received that would be forgotten.
        """
        own = self.root / "experiment.toml"
        if own.is_file() and (forgotten := forgotten_reception(read_experiment(own), experiment)):
            raise StudyMismatch(
                f"{own} has settings for hosting that your experiment file lacks: {'; '.join(forgotten)}. Copy them "
                "into your file, or remove them from the study's."
            )
        changes = compare_texts(self.root / "texts", experiment.texts)
        path = self.tables / "experiment.toml"
        text = tomli_w.dumps(_without_none(experiment.model_dump(mode="json")))
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
        changes.apply()

    def take_texts_over(self) -> None:
        """Take own texts over that the study's experiment file names, as building does.

        Raises
        ------
        DocumentError
            If one of them is missing or no text.
        StudyError
            If one was edited in the study and its source has changed too.
        """
        changes = compare_texts(self.root / "texts", read_experiment(self.tables / "experiment.toml").texts)
        if changes.written or changes.removed:
            changes.apply()

    def check_experiment(self, experiment: Experiment) -> None:
        """Check that an experiment is the one that the study was built from.

        Raises
        ------
        StudyMismatch
            Naming the settings that differ.
        """
        if experiment.hash == self.manifest["experiment"]:
            return
        comparison = compare_experiments(self.experiment, experiment)
        if not comparison.changed:
            added = ", ".join(comparison.added) or "what an unfinished extension adds"
            raise StudyMismatch(
                f"{self.root} was built without {added}. To add that and keep all trials and answers, run the same "
                "command with --extend. For a separate study, build into another folder."
            )
        differences = setting_differences(self.experiment.model_dump(mode="json"), experiment.model_dump(mode="json"))
        raise StudyMismatch(
            f"{self.root} was built from another experiment: {'; '.join(differences[:5]) or 'its settings differ'}. "
            "Build into another folder, or restore the settings of this one."
        )

    @contextmanager
    def building(self) -> Iterator[None]:
        """Hold the study for this process, and clean up after a killed one.

        Raises
        ------
        StudyError
            If the folder is a file.
        StudyLocked
            If another process holds it.
        """
        if self.root.exists() and not self.root.is_dir():
            raise StudyError(f"{self.root} is a file; a study is a folder.")
        with only_process(self.root):
            remove_unfinished(self.root)
            yield

    # ---------------------------------------------------------------- places

    @property
    def tables(self) -> Path:
        """Folder of the manifest and of the tables; an extension that is being built has its own."""
        return self.root

    @property
    def manifest_path(self) -> Path:
        """The manifest."""
        return self.tables / "manifest.json"

    @property
    def stimuli_path(self) -> Path:
        """The table of stimuli."""
        return self.tables / "stimuli.parquet"

    @property
    def trials_path(self) -> Path:
        """The table of trials."""
        return self.tables / "trials.parquet"

    @property
    def results(self) -> Path:
        """Folder of estimates and figures."""
        return self.root / "results"

    def activations(self, model: str) -> Path:
        """Folder of a model's activations."""
        return self.root / "activations" / model

    def response_path(self, observer: str) -> Path:
        """File of an observer's answers."""
        return self.root / "responses" / f"{observer.replace(':', '-').replace('/', '_')}.parquet"

    def image_path(self, picture: str) -> Path:
        """File of a picture; its name is the hash of its pixels."""
        return self.root / "images" / picture[:2] / f"{picture}.webp"

    # ---------------------------------------------------------------- contents

    @cached_property
    def experiment(self) -> Experiment:
        """The frozen experiment."""
        path = self.tables / "experiment.toml"
        return parse_frozen(read_toml(path), str(path))

    @property
    def protocol(self) -> Protocol:
        """The protocol as this study uses it, with the size of its pool once that is known."""
        protocol = self.experiment.resolve_protocol()
        size = self.manifest.get("pool", {}).get("size")
        return protocol.for_pool(size) if size else protocol

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, read again from the file."""
        try:
            values: dict[str, Any] = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StudyError(f"{self.manifest_path} can't be read: {error}") from None
        missing = {"experiment", "notes", "stages"} - set(values if isinstance(values, dict) else ())
        if missing:
            raise StudyError(f"{self.manifest_path} is not a study's manifest: it lacks {', '.join(sorted(missing))}.")
        return values

    @property
    def hash(self) -> str:
        """Hash of the experiment and of everything that the stages made: canonical rows and pixels only."""
        manifest = self.manifest
        outputs = {name: stage.get("outputs", {}) for name, stage in manifest["stages"].items()}
        return hash_settings([manifest["experiment"], outputs])

    @property
    def stimuli_hash(self) -> str:
        """Hash of the stimuli that observers see."""
        stages = self.manifest["stages"]
        return hash_settings([stages.get(name, {}).get("outputs", {}) for name in ("exemplars", "visualizations")])

    @property
    def stimuli_hashes(self) -> frozenset[str]:
        """Hashes that mark answers to stimuli of this study: the present one, and those from before extensions.

        An extension leaves old stimuli as they are, so that answers to them stay valid.
        """
        present = self.stimuli_hash
        lineage = self.manifest.get("stimuli_lineage", {})
        # Stimuli that have been made anew since have other hashes; what came before them is then no part of them.
        return frozenset([present, *(lineage["earlier"] if lineage.get("of") == present else ())])

    @property
    def asked_models(self) -> list[str]:
        """Models whose units people are asked about, in order: twins are controls for machines."""
        return [name for name, facts in self.manifest.get("models", {}).items() if not facts["twin"]]

    @property
    def is_plumbing_check(self) -> bool:
        """Whether the study's numbers only show that the parts work together."""
        return PLUMBING in self.manifest["notes"]

    def write_manifest(self, values: dict[str, Any]) -> None:
        """Replace the manifest."""
        write_json(self.manifest_path, values)

    def update_manifest(self, **values: Any) -> None:
        """Replace some entries of the manifest."""
        self.write_manifest({**self.manifest, **values})

    def add_note(self, note: str) -> None:
        """Add a note that goes wherever the study's numbers go."""
        notes = self.manifest["notes"]
        if note not in notes:
            self.update_manifest(notes=[*notes, note])

    # ---------------------------------------------------------------- stages

    def stage_is_done(self, stage: Stage, inputs: str) -> bool:
        """Whether a stage has finished, from the very inputs that are there now."""
        state = self.manifest["stages"].get(stage, {})
        return bool(state.get("state") == "done" and state.get("inputs") == inputs)

    def finish_stage(self, stage: Stage, inputs: str, outputs: dict[str, str], **facts: Any) -> None:
        """Record that a stage has finished: its inputs, its outputs, and facts about it.

        Later stages that were made from something else are forgotten, so that nobody mixes them with this one.
        """
        stages = self.manifest["stages"]
        if stages.get(stage, {}).get("inputs") != inputs:
            for later in STAGES[STAGES.index(stage) + 1 :]:
                stages.pop(later, None)
        stages[stage] = {"state": "done", "inputs": inputs, "outputs": outputs, **facts}
        self.update_manifest(stages=stages, vimi=__version__, versions=package_versions())

    def stage_outputs(self, stage: Stage) -> dict[str, str]:
        """Return the hashes of what a stage made.

        Raises
        ------
        StageMissing
            If it has not run.
        """
        state = self.manifest["stages"].get(stage, {})
        if state.get("state") != "done":
            raise StageMissing(
                f"{self.root} has no {stage} yet. Run: "
                + spell_command("build", self.root / "experiment.toml", "--out", self.root, "--stage", stage)
            )
        return dict(state["outputs"])

    @contextmanager
    def timed(self, stage: str, what: str) -> Iterator[None]:
        """Record how long something took, in ``timings.parquet``, outside every hash."""
        import pandas as pd

        begun = perf_counter()
        yield
        path = self.root / "timings.parquet"
        row = pd.DataFrame({"stage": [stage], "what": [what], "seconds": [perf_counter() - begun]})
        timings = pd.concat([pd.read_parquet(path), row], ignore_index=True) if path.is_file() else row
        write_atomically(path, lambda unfinished: timings.to_parquet(unfinished, index=False))

    # ---------------------------------------------------------------- tables and pictures

    def _table(self, schema: schemas.Schema, path: Path, stage: Stage) -> pd.DataFrame:
        self.stage_outputs(stage)
        return schema.read(path)

    def pool(self) -> pd.DataFrame:
        """Return the pictures of the pool, in the order in which activations are stored."""
        return self._table(schemas.POOL, self.tables / "pool.parquet", "units")

    def units(self) -> pd.DataFrame:
        """Return the units that were drawn."""
        return self._table(schemas.UNITS, self.tables / "units.parquet", "units")

    def statistics(self) -> pd.DataFrame:
        """Return which of the drawn units are used, flagged or constant."""
        return self._table(schemas.UNIT_STATISTICS, self.tables / "statistics.parquet", "exemplars")

    def stimuli(self) -> pd.DataFrame:
        """Return which picture serves which unit, natural and, once they are made, synthetic."""
        return self._table(schemas.STIMULI, self.stimuli_path, "exemplars")

    def trials(self) -> pd.DataFrame:
        """Return the trials of all session slots."""
        return self._table(schemas.TRIALS, self.trials_path, "trials")

    def image(self, picture: str) -> NDArray[np.uint8]:
        """Return a picture's pixels, shape (height, width, 3).

        Raises
        ------
        StudyError
            If the file is missing or broken; the message names it.
        """
        import numpy as np
        from PIL import Image, UnidentifiedImageError

        path = self.image_path(picture)
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except FileNotFoundError:
            raise StudyError(f"The picture {path} is missing from the study; build it again.") from None
        except (OSError, UnidentifiedImageError) as error:
            raise StudyError(f"The picture {path} is broken ({error}); delete it and build again.") from None


def package_versions() -> dict[str, str]:
    """Return the versions of everything that can change a pixel or a number."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "vimi": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _without_none(value: Any) -> Any:
    """Leave out what TOML can't say: settings that were not given."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
