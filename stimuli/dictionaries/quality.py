"""How well a basis describes its layer, on pictures that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import nn

from benchmark.bases.base import DENSE_SHARE, Basis, BasisQuality, Replacement
from benchmark.errors import BasisError
from benchmark.layers import Layer
from benchmark.model_zoo import Model
from benchmark.progress import Advance
from benchmark.readings import replaced
from stimuli.dictionaries.positions import Pictures
from stimuli.loading import batches, model_pixels

PREFIXES = (8, 4, 2, 1)
"""The first so-many-th part of the latents: R2 is given for each."""
CHUNK = 4096
"""Positions that are encoded at once."""


def measure_quality(basis: Basis, parts: Iterable[torch.Tensor]) -> BasisQuality:
    """Measure a basis on held-out positions.

    Parameters
    ----------
    basis
        The basis.
    parts
        Positions, shape (n, dimensions) each.

    Notes
    -----
    R2 is 1 - squared residuals / squared distances from the mean of these positions, summed over channels.
    """
    width, device = basis.card.width, basis.directions.device
    prefixes = sorted({max(1, width // part) for part in PREFIXES})
    residuals = dict.fromkeys(prefixes, 0.0)
    active = torch.zeros(width, dtype=torch.float64)
    total, squares, count = torch.zeros(basis.card.dimensions, dtype=torch.float64), 0.0, 0
    for part in parts:
        for positions in torch.split(part, CHUNK):
            own = positions.to(device)
            latents = basis.encode(own)
            for prefix in prefixes:
                kept = latents
                if prefix < width:
                    kept = latents.clone()
                    kept[:, prefix:] = 0
                residuals[prefix] += float((own - basis.decode(kept)).double().square().sum())
            active += (latents != 0).double().sum(0).cpu()
            total += own.double().sum(0).cpu()
            squares += float(own.double().square().sum())
            count += len(own)
    variance = squares - float(total.square().sum()) / max(count, 1)
    if not variance > 0:
        raise BasisError(
            f"The held-out positions of {basis.card.layer} are all alike: nothing can be measured on them."
        )
    r2 = {prefix: 1 - residual / variance for prefix, residual in residuals.items()}
    shares = active / max(count, 1)
    return BasisQuality(
        positions=count,
        r2=r2[width],
        l0=float(shares.sum()),
        dead=float((shares == 0).double().mean()),
        dense=float((shares > DENSE_SHARE).double().mean()),
        prefix_r2=r2 if len(r2) > 1 else {},
    )


def measure_replacement(
    model: Model,
    layer: Layer,
    basis: Basis,
    pictures: Pictures,
    *,
    view: str = "canonical",
    crop: int = 224,
    batch_size: int = 32,
    advance: Advance = lambda count: None,
) -> Replacement | None:
    """Measure what a network's answers lose when a layer is replaced by its reconstruction; None for no classifier.

    Parameters
    ----------
    model, layer, basis
        The network, the layer and its basis.
    pictures
        Held-out pictures.
    view, crop, batch_size
        As for reading activations.
    advance
        Called with the number of pictures done.

    Raises
    ------
    BasisError
        If the network's answers are not finite.
    """

    def read(row: int) -> NDArray[np.uint8]:
        place = int(pictures.places[row])
        return model_pixels(pictures.pool, place, model.card.input, view, crop, pictures.hashes[row])

    def reconstruct(tensor: torch.Tensor) -> torch.Tensor:
        moved = tensor.movedim(layer.place.axis, -1)
        flat = moved.reshape(-1, moved.shape[-1]).float()
        restored = torch.cat([basis.decode(basis.encode(part)) for part in torch.split(flat, CHUNK)])
        return restored.reshape(moved.shape).movedim(-1, layer.place.axis).to(tensor.dtype)

    centre = basis.tensors.get("centre")

    def flatten(tensor: torch.Tensor) -> torch.Tensor:
        moved = tensor.movedim(layer.place.axis, -1)
        middle = moved.flatten(0, -2).mean(0) if centre is None else centre.to(tensor.dtype)
        return middle.expand(moved.shape).movedim(-1, layer.place.axis).contiguous()

    kinds: tuple[Callable[[torch.Tensor], torch.Tensor] | None, ...] = (None, reconstruct, flatten)
    answers: list[list[torch.Tensor]] = [[], [], []]
    with torch.inference_mode():
        for members, pixels in batches(read, range(len(pictures)), batch_size):
            prepared = model.prepare(pixels)
            for number, change in enumerate(kinds):
                with replaced(model.module, layer.place, change):
                    output = model.module(prepared)
                if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[1] < 2:
                    return None
                answers[number].append(output[: len(members)].double().cpu())
            advance(len(members))
    logits = [torch.cat(part) for part in answers]
    if not all(bool(torch.isfinite(part).all()) for part in logits):
        raise BasisError(
            f"{model.name} answers NaN or infinity with {layer.name} replaced by what {basis.card.name} makes of it, "
            "so that the basis can't be judged. Look for values that are far too large in this layer."
        )
    truth, kind = _truth(logits[0], pictures.labels)
    losses = [float(nn.functional.cross_entropy(part, truth)) for part in logits]
    right = [float((part.argmax(1) == truth).double().mean()) for part in logits]
    lost = losses[2] - losses[0]
    return Replacement(
        answers=kind,
        top1=right[0], top1_replaced=right[1], top1_mean=right[2],
        cross_entropy=losses[0], cross_entropy_replaced=losses[1], cross_entropy_mean=losses[2],
        recovered=(losses[2] - losses[1]) / lost if lost > 0 else None,
    )  # fmt: skip


def _truth(logits: torch.Tensor, labels: Sequence[str]) -> tuple[torch.Tensor, Literal["labels", "own"]]:
    """Return the right answers: the labels, if they fit the outputs in their order, else the network's own.

    Class folders are counted in the order of their names, as everywhere; that they fit is seen from the network being
    right far more often than by chance.
    """
    from stimuli.pools import imagenet_classes

    own = logits.argmax(1)
    if labels and all(labels):
        names = sorted(imagenet_classes()) if set(labels) <= imagenet_classes() else sorted(set(labels))
        if len(names) == logits.shape[1]:
            numbers = {name: number for number, name in enumerate(names)}
            truth = torch.tensor([numbers[label] for label in labels])
            chance = 1 / len(names)
            right = int((own == truth).sum())
            if right > len(truth) * chance + 4 * (len(truth) * chance) ** 0.5 + 4:
                return truth, "labels"
    return own, "own"


def match_atoms(one: torch.Tensor, other: torch.Tensor) -> NDArray[np.float64]:
    """Return the cosine of each direction with its partner in another basis, matched one to one for the largest sum.

    Parameters
    ----------
    one, other
        Directions, shapes (width, dimensions) and (another width, dimensions).

    Returns
    -------
    Shape (width,): the cosine of each direction of ``one``; 0 for one that has no partner.
    """
    unit = [rows.double() / rows.double().norm(dim=1, keepdim=True).clamp_min(1e-12) for rows in (one, other)]
    cosine = (unit[0] @ unit[1].T).cpu().numpy()
    rows, columns = linear_sum_assignment(-cosine)
    result = np.zeros(len(cosine))
    result[rows] = cosine[rows, columns]
    return result
