"""Synthetic stimuli of a study: sets of pictures for its units, made, judged and stored one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmark.engines.base import Equipment, Piece
from benchmark.errors import StudyError
from benchmark.experiment import FAST_VERSION, Experiment, VisualizationSettings
from benchmark.hashing import hash_settings
from benchmark.model_zoo import Model
from benchmark.progress import Advance, Reporter
from benchmark.storage import write_json
from benchmark.study import Study
from benchmark.units import Unit
from stimuli.image_store import store_picture
from stimuli.pictures import resize_to, to_pixels
from stimuli.planted import DETECTORS, paint
from stimuli.visualization import fast, recipe2023
from stimuli.visualization.sets import SetRequest, SetResult
from stimuli.visualization.thresholds import measure_thresholds

SETS_ON_CPU = 2
SETS_ON_ACCELERATOR = 16

BATCHES_IN_A_PIECE = 4
"""A piece of work is so many batches of sets at most: in smaller ones, more of a batch would idle while its last set
converges."""

Preset = fast.FastSettings | recipe2023.RecipeSettings


def preset_settings(
    settings: VisualizationSettings, images: int, device: torch.device, own: int, patch: int = 1
) -> Preset:
    """Return the settings of a visualiser that an experiment asks for.

    Parameters
    ----------
    settings
        What the experiment says.
    images
        Pictures in a set.
    device
        Where networks run.
    own
        Side of the model's own input.
    patch
        Side of the patches that the model cuts it into. Shifted by less, pictures show the grid of patches.

    Raises
    ------
    StudyError
        If the experiment was frozen with a version of the preset that is no longer made.
    """
    canvas = settings.canvas_for(own)
    if settings.preset == "imi2023":
        return recipe2023.RecipeSettings.shrunk(canvas, settings.most_steps, images)
    if settings.version != FAST_VERSION:
        raise StudyError(
            f"This study's synthetic pictures come from version {settings.version} of the preset 'fast', but this "
            f"vimi makes version {FAST_VERSION}. The two must not be mixed. You can still show, observe and analyse "
            "what is built; build what is missing into another folder."
        )
    return fast.FastSettings(
        canvas=canvas,
        least_margin=max(4, round(patch * canvas / own)),
        steps=settings.most_steps,
        images=images,
        sets=sets_in_batch(device),
        half=device.type == "cuda",
    )


def sets_in_batch(device: torch.device) -> int:
    """Return how many sets the preset ``fast`` advances side by side."""
    return SETS_ON_ACCELERATOR if device.type == "cuda" else SETS_ON_CPU


def to_shown(pixels: NDArray[np.uint8], crop: int, how: str) -> NDArray[np.uint8]:
    """Return a picture as it is shown: at the size of the pool's crop, so that all pictures have one size.

    Parameters
    ----------
    pixels
        Shape (side, side, 3).
    crop
        Side of natural pictures.
    how
        ``smooth``, ``pixels`` or ``canvas``: see :class:`benchmark.experiment.VisualizationSettings`.
    """
    side = len(pixels)
    if how == "canvas" or side == crop:
        return pixels
    if how == "pixels" and side < crop:
        return pixels.repeat(crop // side, axis=0).repeat(crop // side, axis=1)
    return to_pixels(resize_to(Image.fromarray(pixels), crop))


class SetMaker:
    """Makes the synthetic pictures of a model's units, and stores each set as soon as it is finished.

    A set that an earlier run finished is not made again, so that a killed build goes on behind it.

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
    """

    def __init__(
        self,
        study: Study,
        model: Model,
        units: Sequence[Unit],
        columns: Mapping[Unit, NDArray[np.float32]],
        read: Callable[[int], NDArray[np.uint8]],
    ) -> None:
        self.study, self.model, self.columns, self.read = study, model, columns, read
        self.by_layer = _by_layer(units)
        self.preset = study.experiment.visualization.preset
        wanted = study.experiment.visualization
        self.settings = preset_settings(
            wanted, study.protocol.references_per_side, model.device, model.card.input.size, fast.patch_side(model)
        )
        self.shown = wanted.shown
        self.seed = study.experiment.seed
        self.folder = study.root / "visualizations" / model.name
        self._requests: dict[str, list[SetRequest]] = {}
        self._prefix: fast.Prefix | None = None

    def prefix(self, layer: str) -> fast.Prefix:
        """Return the model up to a layer; the last one is kept, since a layer's pieces follow one another."""
        if self._prefix is None or self._prefix.layer.space != layer:
            place = self.model.layer_map[layer]
            self._prefix = fast.Prefix(self.model, place, self.settings.canvas, dtype=torch.float32)
        return self._prefix

    def requests(self, layer: str) -> list[SetRequest]:
        """Return the sets of a layer's units. What each has to beat is measured with all of the layer's together."""
        if layer not in self._requests:
            members = self.by_layer[layer]
            columns = [self.columns[unit] for unit in members]
            self._requests[layer] = measure_thresholds(
                self.prefix(layer), members, columns, self.read, canvas=self.settings.canvas, seed=self.seed
            )
        return self._requests[layer]

    def make(self, layer: str, sets: slice, advance: Advance) -> list[dict[str, Any]]:
        """Make some of a layer's sets; returns their rows of the table of stimuli."""
        requests = self.requests(layer)[sets]
        records: dict[str, dict[str, Any]] = {}
        missing: list[SetRequest] = []
        for request in requests:
            record = _stored(self.study, self._record_path(request))
            if record is not None:
                records[request.name] = record
                advance(1)
            else:
                missing.append(request)
        for result in self._visualize(layer, missing):
            record = self._record(result)
            write_json(self._record_path(result.request), record)
            records[result.request.name] = record
            advance(1)
        return [row for request in requests for row in _rows(request, records[request.name])]

    def _visualize(self, layer: str, requests: Sequence[SetRequest]) -> Iterator[SetResult]:
        """Run the preset's visualiser."""
        place, settings = self.model.layer_map[layer], self.settings
        if not isinstance(settings, fast.FastSettings):
            return recipe2023.visualize(self.model, place, requests, settings, seed=self.seed)
        prefix = self.prefix(layer) if settings.fold else None
        return fast.visualize(self.model, place, requests, settings, seed=self.seed, prefix=prefix)

    def _record_path(self, request: SetRequest) -> Path:
        """Return the path of a set's record: its name depends on everything that the set depends on."""
        depends = [
            request.name, asdict(request.threshold), asdict(self.settings), self.model.weights_hash,
            self.model.device.type, self.seed,
        ]  # fmt: skip
        if self.shown != "canvas":
            depends += [self.shown, self.study.experiment.pool.crop]
        return self.folder / f"{hash_settings(depends)}.json"

    def _record(self, result: SetResult) -> dict[str, Any]:
        """Store a set's pictures and return its record."""
        threshold = result.request.threshold
        crop = self.study.experiment.pool.crop
        shown = [to_shown(pixels, crop, self.shown) for pixels in result.pixels]
        return {
            "set": result.request.name,
            "method": f"{self.preset}:{hash_settings(asdict(self.settings))[:8]}",
            "pictures": [store_picture(self.study, pixels) for pixels in shown],
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


@dataclass(frozen=True)
class SetPiece(Piece[SetMaker, list[dict[str, Any]]]):
    """Sets of one layer that share batches; its result is their rows of the table of stimuli.

    Attributes
    ----------
    equipment
        Loads the set maker.
    layer
        The layer.
    start, stop
        Which of the layer's sets.
    """

    equipment: Equipment[SetMaker]
    layer: str
    start: int
    stop: int

    def run(self, tools: SetMaker, advance: Advance) -> list[dict[str, Any]]:
        """Make the sets."""
        return tools.make(self.layer, slice(self.start, self.stop), advance)


def set_pieces(
    equipment: Equipment[SetMaker],
    study: Study,
    units: Sequence[Unit],
    device: torch.device,
) -> list[SetPiece]:
    """Cut the sets of a model's units into pieces: whole layers, or, where a layer has many, several batches of it.

    A set does not depend on who shares its batch, so neither does it on the cut.
    """
    step = BATCHES_IN_A_PIECE * sets_in_batch(device) if study.experiment.visualization.preset == "fast" else 1
    return [
        SetPiece(equipment, layer, start, min(start + step, 2 * len(members)))
        for layer, members in _by_layer(units).items()
        for start in range(0, 2 * len(members), step)
    ]


def _by_layer(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    by_layer: dict[str, list[Unit]] = {}
    for unit in units:
        by_layer.setdefault(unit.space, []).append(unit)
    return by_layer


def make_sets(
    study: Study,
    model: Model,
    units: Sequence[Unit],
    columns: Mapping[Unit, NDArray[np.float32]],
    read: Callable[[int], NDArray[np.uint8]],
    *,
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """Make the synthetic pictures of a model's units in this process; returns their rows of the table of stimuli.

    Parameters
    ----------
    study, model, units, columns, read
        As in :class:`SetMaker`.
    reporter
        Shows progress.
    """
    maker = SetMaker(study, model, units, columns, read)
    with (reporter or Reporter()).task(f"Visualisations of {model.name}", 2 * len(units)) as advance:
        return [row for layer in maker.by_layer for row in maker.make(layer, slice(None), advance)]


def _stored(study: Study, path: Path) -> dict[str, Any] | None:
    """Return a set's record if an earlier run finished it and its pictures are still there."""
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record if all(study.image_path(picture).is_file() for picture in record["pictures"]) else None


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


def canvas_warning(settings: VisualizationSettings, own: Mapping[str, int]) -> str:
    """Say which models' synthetic pictures have another size than the model's own input; nothing if none has.

    Parameters
    ----------
    settings
        What the experiment says.
    own
        Sides of the models' own inputs, by name.
    """
    other = [f"{name} ({side})" for name, side in own.items() if settings.canvas_for(side) != side]
    if not other:
        return ""
    return (
        f"Synthetic pictures are optimised at {settings.canvas} px, and these models take another size: "
        f"{', '.join(other)}. Units answer other patterns there, so scores can be far lower. Leave canvas out under "
        '[visualization], or set it to "model", for each model\'s own size.'
    )


def planted_side(experiment: Experiment) -> int:
    """Return the side that synthetic references of planted units are painted at: the one that all pictures have."""
    wanted = experiment.visualization
    return wanted.canvas_for(experiment.pool.crop) if wanted.shown == "canvas" else experiment.pool.crop


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
