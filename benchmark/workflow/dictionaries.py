"""Dictionaries and other bases: fitting them to a layer, and checking a file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.progress import Reporter, default_reporter

if TYPE_CHECKING:
    from benchmark.bases.base import Basis, BasisCard
    from benchmark.doctor import Diagnosis
    from benchmark.model_zoo import Model


@dataclass(frozen=True)
class FittedBasis:
    """A basis and its file."""

    basis: Basis
    path: Path

    @property
    def card(self) -> BasisCard:
        """What is known of it."""
        return self.basis.card


def train_dictionary(
    model: str,
    layer: str,
    *,
    pool: str,
    kind: str = "topk",
    width: int | None = None,
    control: str = "",
    k: int = 32,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    positions: int = 256,
    held_out: float = 0.2,
    seed: int = 0,
    out: Path | str = "dictionaries",
    weights: str = "",
    crop: int = 224,
    device: str = "auto",
    skip_unreadable: bool = False,
    reporter: Reporter | None = None,
) -> FittedBasis:
    """Fit a dictionary, or another basis, to a layer of a model.

    What was finished by an earlier call with the same settings is not done again.

    Parameters
    ----------
    model
        Name or file of the model's card, ``timm:NAME`` or ``MODULE:FUNCTION``.
    layer
        An eligible layer, or any module whose output has channels: ``blocks.4``.
    pool
        The pool that it is fitted to, as an experiment names it: ``folder:PATH``.
    kind, width, control
        Kind of basis, number of latents, and for a control which part of it stays random; see :mod:`benchmark.bases`.
    k
        Active latents of a position.
    epochs, batch_size, learning_rate
        How long and in which steps it learns, if not as usual.
    positions
        Positions of a picture that are sampled at most.
    held_out
        Share of the pictures that its quality is measured on, and that it does not learn from.
    seed
        Seed of everything random.
    out
        Folder of the file, which is ``MODEL/LAYER@NAME.safetensors``.
    weights
        A checkpoint, or ``random``, in place of the card's weights.
    crop
        Side of the canonical crop.
    device
        Where the network runs and the basis learns.
    skip_unreadable
        Whether files that are no readable picture are left out.
    reporter
        Shows progress.

    Raises
    ------
    BasisError
        If settings contradict one another, or there are too few positions.
    VimiError
        If the model, the layer or the pool can't be used.
    """
    from dataclasses import replace

    from benchmark.bases import KINDS, BasisName, parse_basis
    from benchmark.bases.learning import LearningSettings
    from benchmark.cache import Cache
    from benchmark.device import choose_device, prepare_torch
    from benchmark.model_sources import load_card
    from benchmark.model_zoo import load_model
    from benchmark.storage import only_process
    from stimuli.activations import BATCH_ON_ACCELERATOR, BATCH_ON_CPU
    from stimuli.dictionaries.fitting import FittingPlan, FittingSettings, basis_path, check_size, fit_bases
    from stimuli.dictionaries.positions import Pictures
    from stimuli.pool_sources import open_pool
    from stimuli.survey import survey_pool

    reporter = reporter or default_reporter()
    chosen = parse_basis(str(BasisName(kind, width, control)))
    KINDS[chosen.kind].check_learns()
    target = choose_device(device)
    prepare_torch(target)
    opened = open_pool(pool)
    loaded = load_model(load_card(model), weights=weights, seed=seed, device=target).with_layer(layer)
    check_size(chosen, loaded.layer_map[layer], k)
    folder = Path(out) / loaded.name
    folder.mkdir(parents=True, exist_ok=True)
    with only_process(folder):
        for notice in opened.notices():
            reporter.say(notice)
        with reporter.task("Surveying the pool", len(opened)) as advance:
            survey = survey_pool(
                opened, folder / "survey", crop=crop, skip_unreadable=skip_unreadable, device=target,
                progress=advance, cache=Cache.beside(folder),
            )  # fmt: skip
        for notice in survey.notices():
            reporter.say(notice)
        usual = LearningSettings()
        given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
        learning = replace(usual, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        labels = tuple(survey.table["label"].fillna("").astype(str))
        plan = FittingPlan(
            model=loaded,
            wanted={layer: (chosen,)},
            pictures=Pictures(opened, survey.places, tuple(survey.table["picture"]), labels),
            groups=list(survey.table["group"]),
            settings=FittingSettings(k, learning, positions, held_out, seed),
            crop=crop,
            batch_size=BATCH_ON_CPU if target.type == "cpu" else BATCH_ON_ACCELERATOR,
        )
        (basis,) = fit_bases(plan, folder, reporter)
    return FittedBasis(basis, basis_path(folder, layer, chosen))


def check_dictionary(path: Path | str, model: str = "", *, weights: str = "") -> list[Diagnosis]:
    """Look at a basis file: whether it can be used, and what a user of it should know.

    Parameters
    ----------
    path
        The file.
    model
        A model that it shall belong to: then its layer and weights are compared, too.
    weights
        The model's weights, if not its card's.

    Raises
    ------
    BasisError
        If it can't be read.
    """
    from benchmark.bases import read_basis
    from benchmark.doctor import Diagnosis
    from benchmark.errors import VimiError, first_line

    basis = read_basis(path)
    card, quality = basis.card, basis.card.quality
    found = [Diagnosis("ok", "tensors", f"{len(basis.tensors)} tensors, finite, of the shapes that the card needs")]
    if model:
        try:
            loaded = _load(model, card, weights)
            loaded.with_bases([basis])
            found.append(
                Diagnosis("ok", "model", f"fits {card.layer} of {loaded.name}, with the weights it was made for")
            )
        except VimiError as error:
            found.append(Diagnosis("fail", "model", first_line(error)))
    if quality is None:
        found.append(Diagnosis("note", "quality", "was never measured"))
        return found
    found.append(_judge("R2", f"{quality.r2:.3f} on {card.training.held_out:,} held-out pictures", quality.r2 > 0))
    found.append(_judge("dead", f"{quality.dead:.1%} of the latents are active nowhere", quality.dead <= 0.01))
    if card.one_sided:
        dense = f"{quality.dense:.1%} of the latents are active at more than a tenth of the positions"
        biases = ": such latents are biases in disguise" if quality.dense > 0.05 else ""
        found.append(_judge("dense", dense + biases, not biases))
    prefixes = list(quality.prefix_r2.values())
    if card.kind == "ordered":
        rising = all(one <= other for one, other in pairwise(prefixes))
        found.append(_judge("prefixes", ", ".join(f"{r2:.3f}" for r2 in prefixes) + " R2, from short to long", rising))
    if card.control:
        found.append(Diagnosis("note", "control", f"this is a control ({card.control}): no dictionary to be explained"))
    return found


def _judge(what: str, found: str, good: bool) -> Diagnosis:
    from benchmark.doctor import Diagnosis

    return Diagnosis("ok" if good else "note", what, found)


def _load(model: str, card: BasisCard, weights: str) -> Model:
    from benchmark.model_sources import load_card
    from benchmark.model_zoo import load_model

    return load_model(load_card(model), weights=weights, seed=card.seed).with_layer(card.layer)
