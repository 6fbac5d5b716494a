"""Experiments that are smaller still than the tiny study, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from benchmark.experiment import Experiment
from tests.conftest import make_experiment

FEW = 30
"""Pictures that a small experiment's pool needs, and a few more."""


def small_experiment(pool: Path, checkpoint: Path, **changes: Any) -> Experiment:
    """Return an experiment of one model with its twin, in the natural condition."""
    values: dict[str, Any] = {
        "pool": {"source": f"folder:{pool}", "crop": 32},
        "models": [
            {
                "card": "timm:test_resnet",
                "weights": str(checkpoint),
                "twin": True,
                "training_data": ["stripes"],
                "training_images": 60,
            }
        ],
        "units": {"per_model": 6},
        "stimuli": {"conditions": ["natural"], "references": 3, "tasks": 3},
        "session": {"main_trials": 4, "responses_per_unit": 4},
    }
    values.update(changes)
    return make_experiment(pool, checkpoint, **values)


def write_experiment(path: Path, experiment: Experiment) -> Path:
    """Write an experiment as the file that a user would write."""
    path.write_text(tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    return path
