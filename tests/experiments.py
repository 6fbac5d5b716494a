"""Experiments that are smaller still than the tiny study, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from benchmark.experiment import Experiment
from tests.conftest import make_experiment, trained_model

FEW = 16
"""Pictures in the pool of a small experiment: as many as one batch of the survey holds."""


def small_experiment(pictures: Path, checkpoint: Path, **changes: Any) -> Experiment:
    """Return an experiment of one model with its twin, in the natural condition."""
    values: dict[str, Any] = {
        "pool": {"source": f"folder:{pictures}", "crop": 32},
        "models": [trained_model(checkpoint)],
        "units": {"per_model": 6},
        "stimuli": {"conditions": ["natural"], "references": 2, "tasks": 2},
        "session": {"main_trials": 4, "responses_per_unit": 4},
    }
    values.update(changes)
    return make_experiment(pictures, checkpoint, **values)


def write_experiment(path: Path, experiment: Experiment) -> Path:
    """Write an experiment as the file that a user would write."""
    path.write_text(tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    return path
