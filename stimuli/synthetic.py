"""Synthetic stimuli of a study: sets of pictures for its units, made, judged and stored one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.experiment import VisualizationSettings
from benchmark.hashing import hash_settings
from benchmark.model_zoo import Model
from benchmark.progress import Reporter
from benchmark.storage import write_json
from benchmark.study import Study
from benchmark.units import Unit
from stimuli.image_store import store_picture
from stimuli.planted import DETECTORS, paint
from stimuli.visualization import fast, recipe2023
from stimuli.visualization.sets import SetRequest, SetResult
from stimuli.visualization.thresholds import measure_thresholds

SETS_ON_CPU = 2
SETS_ON_ACCELERATOR = 16

Preset = fast.FastSettings | recipe2023.RecipeSettings


def preset_settings(settings: VisualizationSettings, images: int, device: torch.device) -> Preset:
    """Return the settings of a visualiser that an experiment asks for, for sets of so many images."""
    if settings.preset == "imi2023":
        return recipe2023.RecipeSettings.shrunk(settings.canvas, settings.most_steps, images)
    accelerated = device.type == "cuda"
    return fast.FastSettings(
        canvas=settings.canvas,
        steps=settings.most_steps,
        images=images,
        sets=SETS_ON_ACCELERATOR if accelerated else SETS_ON_CPU,
        half=accelerated,
    )


def make_sets(
    study: Study,
    model: Model,
    units: Sequence[Unit],
    columns: dict[Unit, NDArray[np.float32]],
    read: Callable[[int], NDArray[np.uint8]],
    *,
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """Make the synthetic pictures of a model's units; returns their rows of the table of stimuli.

    Each set is stored as soon as it is finished, so that a killed build goes on behind it.

    Parameters
    ----------
    study
        Where pictures and records go.
    model
        The model.
    units
        Its units.
    columns
        Their activations over the pool.
    read
        Returns a natural picture at the canvas, by row of the pool.
    reporter
        Shows progress.
    """
    wanted = study.experiment.visualization
    settings = preset_settings(wanted, study.protocol.references_per_side, model.device)
    seed = study.experiment.seed
    folder = study.root / "visualizations" / model.name
    rows: list[dict[str, Any]] = []
    by_layer: dict[str, list[Unit]] = {}
    for unit in units:
        by_layer.setdefault(unit.layer, []).append(unit)
    with (reporter or Reporter()).task(f"Visualisations of {model.name}", 2 * len(units)) as advance:
        for name, members in by_layer.items():
            layer = model.layer_map[name]
            prefix = fast.Prefix(model, layer, settings.canvas, dtype=torch.float32)
            requests = measure_thresholds(
                prefix, members, [columns[unit] for unit in members], read, canvas=settings.canvas, seed=seed
            )
            records: dict[str, dict[str, Any]] = {}
            missing: list[SetRequest] = []
            for request in requests:
                record = _stored(study, _record_path(folder, request, settings, model, seed))
                if record is not None:
                    records[request.name] = record
                    advance(1)
                else:
                    missing.append(request)
            for result in _visualize(model, name, missing, settings, seed):
                record = _record(study, result, wanted.preset, settings)
                write_json(_record_path(folder, result.request, settings, model, seed), record)
                records[result.request.name] = record
                advance(1)
            for request in requests:
                rows += _rows(request, records[request.name])
    return rows


def _visualize(
    model: Model, layer: str, requests: Sequence[SetRequest], settings: Preset, seed: int
) -> Iterator[SetResult]:
    """Run the preset's visualiser."""
    if isinstance(settings, fast.FastSettings):
        return fast.visualize(model, model.layer_map[layer], requests, settings, seed=seed)
    return recipe2023.visualize(model, model.layer_map[layer], requests, settings, seed=seed)


def _record_path(folder: Path, request: SetRequest, settings: Preset, model: Model, seed: int) -> Path:
    """Return where a set's record lies: its name says what the set depends on."""
    depends = [request.name, asdict(request.threshold), asdict(settings), model.weights_hash, model.device.type, seed]
    return folder / f"{hash_settings(depends)}.json"


def _stored(study: Study, path: Path) -> dict[str, Any] | None:
    """Return a set's record if an earlier run finished it and its pictures are still there."""
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record if all(study.image_path(picture).is_file() for picture in record["pictures"]) else None


def _record(study: Study, result: SetResult, preset: str, settings: Preset) -> dict[str, Any]:
    """Store a set's pictures and return its record."""
    threshold = result.request.threshold
    return {
        "set": result.request.name,
        "method": f"{preset}:{hash_settings(asdict(settings))[:8]}",
        "pictures": [store_picture(study, pixels) for pixels in result.pixels],
        "activations": result.activations.tolist(),
        "accepted": result.accepted,
        "over_best": [threshold.over_best(value) for value in result.activations.tolist()],
        "over_median": [threshold.over_median(value) for value in result.activations.tolist()],
        "margin": [threshold.margin(value) for value in result.activations.tolist()],
        "diversity_loss": result.diversity_loss,
        "steps": result.steps,
        "seconds": result.seconds,
        "threshold": asdict(threshold),
    }


def _rows(request: SetRequest, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a set's rows of the table of stimuli, the strongest picture first."""
    strongest_first = range(len(record["pictures"]) - 1, -1, -1)
    for position, number in enumerate(strongest_first):
        yield {
            **request.unit.fields(),
            "condition": "synthetic",
            "role": "reference",
            "side": request.side,
            "difficulty": "",
            "task": -1,
            "position": position,
            "picture": record["pictures"][number],
            "activation": request.sign * record["activations"][number],
            "rank": -1,
            "group_repeated": False,
            "method": record["method"],
            "accepted": record["accepted"],
            "over_best": record["over_best"][number],
            "over_median": record["over_median"][number],
            "margin": record["margin"][number],
            "diversity_loss": record["diversity_loss"],
            "steps": record["steps"],
        }


def paint_planted(study: Study, side: int) -> list[dict[str, Any]]:
    """Paint synthetic references for the planted units; returns their rows of the table of stimuli."""
    return [
        {
            **detector.unit.fields(),
            "condition": "synthetic",
            "role": "reference",
            "side": "max" if sign > 0 else "min",
            "difficulty": "",
            "task": -1,
            "position": number,
            "picture": store_picture(study, paint(detector, sign, number, side, study.experiment.seed)),
            "activation": float(sign),
            "rank": -1,
            "group_repeated": False,
            "method": "painted",
        }
        for detector in DETECTORS
        for sign in (1, -1)
        for number in range(study.protocol.references_per_side)
    ]
