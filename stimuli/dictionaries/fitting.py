"""Fitting bases to a model's layers, resuming where a killed run stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from benchmark.bases import KINDS, BasisName, read_basis
from benchmark.bases.base import Basis, BasisCard, BasisTraining, read_card
from benchmark.bases.learning import LayerMoments, Learner, LearningSettings
from benchmark.errors import BasisError, StudyMismatch
from benchmark.hashing import hash_settings
from benchmark.layers import Layer, spell_space
from benchmark.model_zoo import Model
from benchmark.progress import Reporter
from benchmark.storage import remove_unfinished, write_atomically
from benchmark.study import package_versions
from stimuli.dictionaries.positions import (
    Pictures,
    PositionPlan,
    Positions,
    check_enough,
    read_positions,
    split_pictures,
)
from stimuli.dictionaries.quality import measure_quality, measure_replacement

KEEP_EVERY = 20.0
"""Seconds between two states of a training that are kept. When they are kept has no influence on the result."""
VERSION = 1
"""Version of how bases are fitted; it changes with every change of their weights."""


@dataclass(frozen=True)
class FittingSettings:
    """How bases are fitted.

    Attributes
    ----------
    k
        Active latents of a position.
    learning
        Epochs, batch size, learning rate.
    per_picture
        Positions of a picture at most.
    held_out
        Share of the pictures that quality is measured on.
    seed
        Seed of everything random.
    """

    k: int = 32
    learning: LearningSettings = field(default_factory=LearningSettings)
    per_picture: int = 256
    held_out: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class FittingPlan:
    """Which bases of a model are fitted, and to what.

    Attributes
    ----------
    model
        The model, with its further layers.
    wanted
        Names of bases by layer.
    pictures, groups
        The pictures, and the group of each: a group is never both learned from and measured on.
    settings
        How.
    view, crop, batch_size
        As for reading activations.
    """

    model: Model
    wanted: Mapping[str, Sequence[BasisName]]
    pictures: Pictures
    groups: Sequence[object]
    settings: FittingSettings
    view: str = "canonical"
    crop: int = 224
    batch_size: int = 32

    def card(self, layer: Layer, name: BasisName) -> BasisCard:
        """Return the card of a basis before it is fitted."""
        kind, settings = KINDS[name.kind], self.settings
        width = name.width or layer.width
        check_size(name, layer, settings.k)
        learns = kind.learner is not None and name.kind != "rotation"
        training = BasisTraining(
            epochs=settings.learning.epochs if kind.sparse else int(learns),
            batch_size=settings.learning.batch_size if learns else 0,
            learning_rate=settings.learning.learning_rate if kind.sparse else 0.0,
        )
        return BasisCard(
            name=str(name), kind=name.kind, model=self.model.name, model_weights=self.model.weights_hash,
            layer=layer.name, dimensions=layer.width, width=width, k=settings.k if kind.sparse else None,
            control=name.control, seed=settings.seed + 1 if name.control == "other_seed" else settings.seed,  # type: ignore[arg-type]
            one_sided=kind.sparse, origin="trained" if learns else "drawn", training=training,
        )  # fmt: skip

    def identity(self, card: BasisCard) -> str:
        """Return the hash of everything that a basis depends on."""
        settings = self.settings
        return hash_settings(
            [
                VERSION, card.model_dump(mode="json", exclude={"versions", "quality"}), list(self.pictures.hashes),
                settings.per_picture, settings.held_out, settings.seed, self.view, self.crop, self.batch_size,
                self.model.device.type,
            ]
        )  # fmt: skip


def check_size(name: BasisName, layer: Layer, k: int) -> None:
    """Check that a layer can have a basis of this name.

    Raises
    ------
    BasisError
        If it has fewer channels than the basis directions, or fewer latents than can be active.
    """
    width = name.width or layer.width
    if not KINDS[name.kind].sparse and width > layer.width:
        raise BasisError(f"{name} has {width:,} directions, but {layer.name} has {layer.width:,} channels.")
    if KINDS[name.kind].sparse and k > width:
        raise BasisError(f"{name} has {width:,} latents, so {k:,} can't be active: choose a smaller k.")


def basis_path(folder: Path, layer: str, name: BasisName | str) -> Path:
    """Return the file of a basis."""
    return folder / f"{spell_space(layer, str(name))}.safetensors"


def fit_bases(plan: FittingPlan, folder: Path, reporter: Reporter | None = None) -> list[Basis]:
    """Fit the bases of a model that a folder lacks, and return all of them, in the order of the plan.

    One pass over the pictures serves all layers and bases. What was finished before is read; a killed run goes on where
    it stopped, to the same weights.

    Raises
    ------
    StudyMismatch
        If the folder holds a basis of the same name that was fitted to something else.
    BasisError
        If there are too few positions.
    """
    remove_unfinished(folder)
    reporter = reporter or Reporter()
    cards = [
        plan.card(plan.model.layer_map[layer], name)
        for layer, names in plan.wanted.items()
        for name in names
        if KINDS[name.kind].learner is not None
    ]
    missing = [card for card in cards if not _is_fitted(basis_path(folder, card.layer, card.name), plan.identity(card))]
    if missing:
        _fit(plan, missing, folder, reporter)
    return [read_basis(basis_path(folder, card.layer, card.name)) for card in cards]


def _is_fitted(path: Path, identity: str) -> bool:
    """Whether a file is a basis of this identity.

    Raises
    ------
    StudyMismatch
        If it is another one.
    """
    if not path.is_file():
        return False
    read_card(path)
    with safe_open(path, framework="pt") as file:
        found = (file.metadata() or {}).get("identity", "")
    if found != identity:
        raise StudyMismatch(
            f"{path} was fitted to other pictures, weights or settings, and vimi does not mix them. Use another "
            "folder, or remove the file."
        )
    return True


def _fit(plan: FittingPlan, cards: Sequence[BasisCard], folder: Path, reporter: Reporter) -> None:
    model, settings = plan.model, plan.settings
    layers = tuple(model.layer_map[name] for name in dict.fromkeys(card.layer for card in cards))
    learned, held_out = split_pictures(plan.pictures, plan.groups, settings.held_out, settings.seed)
    if not len(learned) or not len(held_out):
        raise BasisError(
            f"{len(plan.pictures):,} pictures in {len(set(map(str, plan.groups))):,} groups can't be split into some "
            "to learn from and some to measure on. Use a larger pool."
        )
    common = {"per_picture": settings.per_picture, "seed": settings.seed, "view": plan.view, "crop": plan.crop}
    plans = [
        PositionPlan(model, layers, pictures, batch_size=plan.batch_size, **common)  # type: ignore[arg-type]
        for pictures in (learned, held_out)
    ]
    kept = folder / "positions"
    folders = [kept / own.identity for own in plans]
    with reporter.task(f"Positions of {model.name}", len(plan.pictures)) as advance:
        for own, place in zip(plans, folders):
            read_positions(own, place, advance)
    moments: dict[str, LayerMoments] = {}
    for card in cards:
        layer = model.layer_map[card.layer]
        positions, rest = (Positions(own, place, card.layer) for own, place in zip(plans, folders))
        if layer.name not in moments:
            moments[layer.name] = measure_moments(positions, card, model.device)
        training = card.training.model_copy(
            update={
                "pool": plan.pictures.pool.name, "pictures_hash": learned.hash, "pictures": len(learned),
                "held_out": len(held_out), "positions": len(positions),
            }
        )  # fmt: skip
        identity = plan.identity(card)
        basis = _learn(card, settings, moments[layer.name], positions, folder, identity, reporter)
        quality = measure_quality(basis, rest.parts())
        with reporter.task(f"{card.space} in the place of its layer", len(held_out)) as advance:
            replacement = measure_replacement(
                model, layer, basis, held_out, view=plan.view, crop=plan.crop, batch_size=plan.batch_size,
                advance=advance,
            )  # fmt: skip
        basis = basis.with_card(
            training=training,
            quality=quality.model_copy(update={"replacement": replacement}),
            versions=package_versions(),
        )
        basis.write(basis_path(folder, card.layer, card.name), identity=identity)
        _state_path(folder, card).unlink(missing_ok=True)
    shutil.rmtree(kept, ignore_errors=True)


def measure_moments(positions: Positions, card: BasisCard, device: torch.device) -> LayerMoments:
    """Return mean and size of a layer's positions.

    Raises
    ------
    BasisError
        If the layer does not vary.
    """
    total = torch.zeros(card.dimensions, dtype=torch.float64)
    for part in positions.parts():
        total += part.double().sum(0)
    centre = total / max(len(positions), 1)
    squares = sum(float((part.double() - centre).square().sum()) for part in positions.parts())
    scale = (squares / max(len(positions) * card.dimensions, 1)) ** 0.5
    if not scale > 0:
        raise BasisError(
            f"The layer {card.layer} of {card.model} is constant over these pictures: there is no basis to fit."
        )
    return LayerMoments(centre.float().to(device), torch.tensor(scale, dtype=torch.float32, device=device))


def _learn(
    card: BasisCard,
    settings: FittingSettings,
    moments: LayerMoments,
    positions: Positions,
    folder: Path,
    identity: str,
    reporter: Reporter,
) -> Basis:
    """Run a learner over the positions."""
    kind = KINDS[card.kind]
    assert kind.learner is not None
    learning = settings.learning
    if kind.sparse:
        check_enough(len(positions), card.width, card.k or 1, learning.batch_size, card.name)
    learner = kind.learner(card, learning, moments)
    path = _state_path(folder, card)
    done = _restore(learner, path, identity)
    steps = positions.steps(learning.batch_size) if kind.sparse else -(-len(positions) // learning.batch_size)
    total = steps * learner.epochs
    kept_at = monotonic()
    with reporter.task(f"Fitting {card.space} of {card.model}", total) as advance:
        advance(done)
        for step, batch in enumerate(_batches(positions, learner, card.seed, whole=kind.sparse)):
            if step < done:
                continue
            learner.learn(batch.to(moments.centre.device), step / total)
            advance(1)
            if monotonic() - kept_at > KEEP_EVERY and step + 1 < total:
                _keep(learner, path, identity, step + 1)
                kept_at = monotonic()
    return learner.finish()


def _batches(positions: Positions, learner: Learner, seed: int, *, whole: bool) -> Iterator[torch.Tensor]:
    """Yield the batches of all epochs; kinds that only count see every position."""
    size = learner.settings.batch_size
    for epoch in range(learner.epochs):
        if whole:
            yield from positions.epoch(size, epoch, seed)
        else:
            for part in positions.parts():
                yield from torch.split(part, size)


def _state_path(folder: Path, card: BasisCard) -> Path:
    return folder / f"{card.space}.learning.safetensors"


def _keep(learner: Learner, path: Path, identity: str, step: int) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in learner.state().items()}
    metadata = {"identity": identity, "step": json.dumps(step)}
    write_atomically(path, lambda target: save_file(state, target, metadata), durable=False)


def _restore(learner: Learner, path: Path, identity: str) -> int:
    """Let a learner go on from the state that an earlier run kept; returns how many steps it has taken."""
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = file.metadata() or {}
            if facts.get("identity") != identity:
                return 0
            learner.restore({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return int(facts["step"])
    except (OSError, SafetensorError):
        return 0
