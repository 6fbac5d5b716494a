"""A study that is ready to be hosted, made by hand in a second: no network is run, and every picture is painted."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmark import schemas
from benchmark.experiment import Experiment
from benchmark.hashing import hash_pixels, hash_rows
from benchmark.model_sources import load_card
from benchmark.randomness import generator_from
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.trials import lay_out_trials, study_cells
from benchmark.units import PLANTED
from stimuli.planted import DETECTORS
from tests.hand_made import stimulus
from webapp.hosting import Hosting, open_hosting
from webapp.participation import (
    COLOUR_VISION,
    Device,
    Participant,
    agree,
    answer_colour_vision,
    arrive,
    check_device,
    finish_instructions,
)

SIDE = 40
TASKS = 3
REFERENCES = 3
MODELS = ("efficientnet_lite0", "efficientnet_lite1")


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def hosted_experiment(**changes: Any) -> Experiment:
    """Return the experiment of the hand-made study: two models, the natural condition."""
    values: dict[str, Any] = {
        "protocol": "vimi1",
        "seed": 5,
        "models": [{"card": name} for name in MODELS],
        "units": {"per_model": 6},
        "stimuli": {"conditions": ["natural"], "references": REFERENCES, "tasks": TASKS},
        "session": {"main_trials": 6, "catch_trials": 2, "responses_per_unit": 3},
        **changes,
    }
    return Experiment.model_validate(values)


def painted(words: str, side: str) -> NDArray[np.uint8]:
    """Return a picture: bright ones are maximal, dark ones minimal, so that a person could tell them apart."""
    generator = generator_from("painted", words)
    level = 190 if side == "max" else 60
    noise = generator.normal(0, 25, size=(SIDE // 8, SIDE // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return np.clip(level + noise + generator.normal(0, 4, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def store(study: Study, pixels: NDArray[np.uint8]) -> str:
    """Store a picture under the name that its pixels give it."""
    picture = hash_pixels(pixels)
    path = study.image_path(picture)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "WEBP", lossless=True, method=0, quality=0)
    return picture


_made: dict[str, Path] = {}


def make_hosted_study(
    root: Path, *, references: int = REFERENCES, picture: Callable[[str, str], NDArray[np.uint8]] = painted,
    **changes: Any,
) -> Study:  # fmt: skip
    """Make a study by hand; ``changes`` replace sections of its experiment, ``picture`` paints by name and side.

    Each kind is made once by a process; what a test gets is a copy.
    """
    key = repr((references, picture.__module__, picture.__qualname__, sorted(changes.items())))
    if key not in _made:
        folder = Path(tempfile.mkdtemp(prefix="vimi-hosted-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _make(folder / "study", references, picture, changes)
        _made[key] = folder / "study"
    root.parent.mkdir(parents=True, exist_ok=True)
    return Study.open(shutil.copytree(_made[key], root, dirs_exist_ok=True))


def _make(root: Path, references: int, picture: Callable[[str, str], NDArray[np.uint8]], changes: Any) -> None:
    experiment = hosted_experiment(**changes)
    study = Study.create(root, experiment)
    conditions = experiment.stimuli.conditions
    rows = []
    units = [
        (model, "layer", index, TASKS) for model in MODELS[: len(experiment.models)]
        for index in range(experiment.units.per_model)
    ]  # fmt: skip
    units += [(PLANTED, detector.layer, detector.index, 6) for detector in DETECTORS]
    for model, layer, index, tasks in units:
        for side, sign in (("max", 1.0), ("min", -1.0)):
            own = {"layer": layer, "side": side}
            for task in range(tasks):
                name = f"{model}/{layer}/{index}/{task}/{side}"
                for place in range(references):
                    made = store(study, picture(f"{name}/{place}", side))
                    rows.append(
                        stimulus(model, index, **own, task=task, position=place, picture=made,
                                 activation=sign * (9.0 - place))
                    )  # fmt: skip
                made = store(study, picture(f"{name}/query", side))
                rows.append(
                    stimulus(model, index, **own, role="query", task=task, difficulty="easy", picture=made,
                             activation=sign)
                )  # fmt: skip
            if "synthetic" in conditions:
                for place in range(references):
                    made = store(study, picture(f"{model}/{layer}/{index}/{side}/synthetic/{place}", side))
                    rows.append(
                        stimulus(model, index, **own, condition="synthetic", task=-1, position=place, rank=-1,
                                 picture=made, activation=sign * 20.0)
                    )  # fmt: skip
    stimuli = schemas.STIMULI.conform(pd.DataFrame(rows))
    schemas.STIMULI.write(stimuli, study.stimuli_path)
    study.update_manifest(
        pool={"size": 400},
        protocol=study.protocol.identity,
        models={
            entry.card: {
                "weights_hash": f"weights of {entry.card}", "twin": False, "parameters": 1_000_000,
                "card": load_card(entry.card).model_dump(mode="json"),
            }
            for entry in experiment.models
        },
    )  # fmt: skip
    for stage in ("units", "activations"):
        study.finish_stage(stage, "by hand", {})
    study.finish_stage("exemplars", "by hand", {"stimuli": hash_rows(stimuli)})
    study.finish_stage("visualizations", "by hand", {})
    trials = lay_out_trials(study_cells(study, assemble_tasks(stimuli)))
    schemas.TRIALS.write(trials, study.trials_path)
    study.finish_stage("trials", "by hand", {"trials": hash_rows(trials)})


def host(study: Study, url: str = "", **options: Any) -> Hosting:
    """Host a study in this process; bots may take part and its clock stands still, unless said otherwise."""
    options.setdefault("clock", Clock())
    options.setdefault("bots", True)
    return open_hosting(study, url, **options)


def walk_to_practice(hosting: Hosting, instruction_seconds: float = 60) -> Participant:
    """Let a simulated person arrive and go on until the practice begins."""
    participant = arrive(hosting, None, kind="simulated").participant
    assert participant is not None
    check_device(hosting, participant.token, Device(1280, 800, "chrome"))
    agree(hosting, participant.token)
    answer_colour_vision(hosting, participant.token, COLOUR_VISION[0])
    if isinstance(hosting.clock, Clock):
        hosting.clock.pass_by(instruction_seconds)
    return finish_instructions(hosting, participant.token)
