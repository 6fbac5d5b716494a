"""The preset ``fast``: many sets in one batch, one constrained run each.

A set's pictures maximise the unit and are as different from one another as they can be while the weakest of
them still beats the best natural picture. The weight of diversity is a multiplier that moves with that
constraint: it grows while the weakest picture has room to spare and shrinks while it has none, so that one run
does what the paper's search over fixed weights does with seven to fourteen (the update is that of Rezende &
Viola 2018, Taming VAEs, with the roles of loss and constraint exchanged).

A set that has converged leaves the batch and the next one enters. The batch has a fixed shape, idle slots are
padded, and everything random is keyed by set, picture and step: what becomes of a set never depends on who
shares its batch, bit by bit.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from benchmark.errors import ActivationError
from benchmark.layers import Layer
from benchmark.model_zoo import Model
from benchmark.randomness import Keys, seed_from
from benchmark.readings import aggregate, forward_to
from stimuli.visualization.diversity import diversity_loss, features_by_picture
from stimuli.visualization.parametrization import render, start_spectrum
from stimuli.visualization.sets import IMAGES, SetRequest, SetResult
from stimuli.visualization.views import ViewRange, central_view, draw_views, look_at


@dataclass(frozen=True)
class FastSettings:
    """Settings of the preset. Each of them is part of what a picture depends on.

    Attributes
    ----------
    canvas
        Side of the finished pictures in pixels.
    steps
        Most steps a set may take.
    images
        Pictures in a set.
    sets
        Sets in a batch.
    learning_rate
        Of Adam.
    diversity
        Whether pictures of a set are driven apart.
    views
        How far random views reach; None shows the network the picture itself.
    first_weight, weight_rate, most_weight
        The multiplier of diversity: where it begins, how fast it moves, and its bound.
    enough_weight, least_room
        A set can converge once its multiplier is so large, or its weakest picture so close to the threshold (in
        units of the distance from the pool's median to its best picture).
    check_every
        Steps between two looks at the pictures as they would be finished.
    patience
        Checks without progress after which a set has converged.
    tolerance
        Progress smaller than this share does not count.
    fold
        Whether batch norms in front of the layer are folded into their convolutions.
    half
        Whether the network runs in bfloat16 (on an accelerator); spectra and Adam stay in float32.
    """

    canvas: int = 224
    steps: int = 504
    images: int = IMAGES
    sets: int = 2
    learning_rate: float = 0.05
    diversity: bool = True
    views: ViewRange | None = field(default_factory=ViewRange)
    first_weight: float = 1.0
    weight_rate: float = 0.1
    most_weight: float = 1e4
    enough_weight: float = 30.0
    least_room: float = 0.15
    check_every: int = 12
    patience: int = 2
    tolerance: float = 0.02
    fold: bool = True
    half: bool = False

    @property
    def margin(self) -> int:
        """Pixels around the finished picture that are optimised and cut off: the paper's 16 at 224."""
        return 0 if self.views is None else max(2, round(self.canvas / 14))

    @property
    def size(self) -> int:
        """Side of the optimised picture."""
        return self.canvas + 2 * self.margin


class Prefix:
    """A model up to one layer: pictures go in, the layer's tensor comes out, and nothing behind it is computed."""

    def __init__(self, model: Model, layer: Layer, canvas: int, *, fold: bool = True, dtype: torch.dtype) -> None:
        module = fold_batch_norms(model, layer) if fold else model.module
        self.model = model
        self.layer = layer
        self.run = forward_to(module if dtype == torch.float32 else copy.deepcopy(module).to(dtype), layer.place)
        self.dtype = dtype
        self.side = self._side(canvas)

    def _side(self, canvas: int) -> int:
        """Return the size that pictures are shown at: the canvas, unless the network takes only its own size."""
        own = self.model.card.input.size
        return canvas if canvas == own or self.takes(canvas) else own

    def takes(self, side: int) -> bool:
        """Whether the network, as far as the layer, runs on pictures of this size."""
        try:
            with torch.inference_mode():
                self.run(torch.zeros((1, 3, side, side), device=self.model.device, dtype=self.dtype))
        except ActivationError:
            raise
        except (RuntimeError, AssertionError, ValueError):
            return False
        return True

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the layer's tensor for pictures in [0, 1], shape (n, 3, side, side)."""
        return self.run(self.model.normalize(pictures).contiguous(memory_format=torch.channels_last))

    def activations(self, tensor: torch.Tensor, count: int) -> torch.Tensor:
        """Return the activations of all the layer's units, shape (count, channels)."""
        return aggregate(tensor, self.layer.place.axis, count, self.model.aggregator, self.model.prefix_tokens)


def fold_batch_norms(model: Model, layer: Layer) -> nn.Module:
    """Return a copy of a model whose batch norms are folded into the convolutions in front of them.

    A convolution or batch norm that is itself the layer, or that the layer is read at, is left as it is.
    """
    module = copy.deepcopy(model.module)
    spared = {layer.name, layer.place.module, layer.place.module.rpartition(".")[0]}
    for convolution_name, norm_name in model.layer_map.foldable:
        if convolution_name in spared or norm_name in spared:
            continue
        convolution, norm = module.get_submodule(convolution_name), module.get_submodule(norm_name)
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if norm.running_mean is None or norm.running_var is None or norm.weight is None or norm.bias is None:
            continue
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        convolution.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        convolution.bias = nn.Parameter(bias, requires_grad=False)
        parent, _, last = norm_name.rpartition(".")
        # What a normalisation fused with its activation does besides normalising stays.
        rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
        setattr(module.get_submodule(parent) if parent else module, last, nn.Sequential(*rest))
    return module


@dataclass
class _Slot:
    """A place in the batch: the set in it, and the best that has become of that set."""

    spectrum: torch.Tensor
    keys: Keys
    request: SetRequest | None = None
    step: int = 0
    begun: float = 0.0
    best: torch.Tensor | None = None
    best_score: tuple[bool, float] = (False, -math.inf)
    stale: int = 0


def visualize(
    model: Model,
    layer: Layer,
    requests: Iterable[SetRequest],
    settings: FastSettings,
    *,
    seed: int,
    start: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[SetResult]:
    """Make sets of pictures for units of one layer, and yield each as soon as it is finished.

    Parameters
    ----------
    model
        The model, its parameters frozen.
    layer
        The layer of all units asked for.
    requests
        What to make.
    settings
        How.
    seed
        The experiment's seed.
    start
        Shape (images, 3, ...): spectra that every set starts from, instead of random ones.
    dtype
        Precision; float64 is for tests.
    """
    batch = _Batch(model, layer, settings, seed, start, dtype)
    waiting = deque(requests)
    while waiting or batch.is_busy:
        batch.fill(waiting)
        yield from batch.advance()


class _Batch:
    """A batch of sets in work."""

    def __init__(
        self,
        model: Model,
        layer: Layer,
        settings: FastSettings,
        seed: int,
        start: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        self.model, self.layer, self.settings, self.seed, self.start, self.dtype = (
            model, layer, settings, seed, start, dtype,
        )  # fmt: skip
        self.prefix = Prefix(model, layer, settings.canvas, fold=settings.fold, dtype=dtype)
        self.device = model.device
        images = settings.images
        idle = start_spectrum("idle", settings.size, images=images, dtype=dtype).to(self.device)
        self.slots = [
            _Slot(idle.clone().requires_grad_(True), np.zeros(images, dtype=np.uint64)) for _ in range(settings.sets)
        ]
        fused = dtype == torch.float32 and self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            [slot.spectrum for slot in self.slots], lr=settings.learning_rate, fused=fused or None
        )
        shape = (settings.sets, images)
        self.channels = torch.zeros(settings.sets * images, dtype=torch.long, device=self.device)
        self.signs = torch.zeros(shape, dtype=dtype, device=self.device)
        self.goal = torch.zeros(settings.sets, dtype=dtype, device=self.device)
        self.span = torch.ones(settings.sets, dtype=dtype, device=self.device)
        self.weight = torch.zeros(settings.sets, dtype=dtype, device=self.device)
        self.smoothed = torch.zeros(shape, dtype=dtype, device=self.device)
        self.age = torch.zeros(settings.sets, dtype=dtype, device=self.device)

    @property
    def is_busy(self) -> bool:
        """Whether any set is in work."""
        return any(slot.request is not None for slot in self.slots)

    def fill(self, waiting: deque[SetRequest]) -> None:
        """Let waiting sets into idle slots."""
        images = self.settings.images
        for number, slot in enumerate(self.slots):
            if slot.request is not None or not waiting:
                continue
            request = waiting.popleft()
            start = self.start
            if start is None:
                key = seed_from(self.seed, "visualization", request.name)
                start = start_spectrum(key, self.settings.size, images=images, dtype=self.dtype)
            with torch.no_grad():
                slot.spectrum.copy_(start.to(self.device, self.dtype))
            self.optimizer.state.pop(slot.spectrum, None)
            slot.request, slot.step, slot.stale = request, 0, 0
            slot.best, slot.best_score, slot.begun = None, (False, -math.inf), perf_counter()
            slot.keys = np.array(
                [seed_from(self.seed, "views", request.name, image) for image in range(images)], dtype=np.uint64
            )
            self.channels[number * images : (number + 1) * images] = request.unit.index
            self.signs[number] = request.sign
            self.goal[number] = request.threshold.best
            self.span[number] = request.threshold.span
            self.weight[number] = self.settings.first_weight
            self.smoothed[number] = 0
            self.age[number] = 0

    def advance(self) -> Iterator[SetResult]:
        """Take steps up to the next check, and yield the sets that are then finished."""
        settings = self.settings
        busy = [slot for slot in self.slots if slot.request is not None]
        # Sets enter at different times: each is checked at its own steps, whatever the others have reached.
        count = min(
            min(settings.check_every - slot.step % settings.check_every, settings.steps - slot.step) for slot in busy
        )
        maps = self._maps(count)
        for turn in range(count):
            self._step(None if maps is None else maps[turn])
        for slot in busy:
            slot.step += count
        yield from self._check()

    def _maps(self, count: int) -> torch.Tensor | None:
        """Draw the views of the next steps, shape (count, sets x images, 2, 3)."""
        if self.settings.views is None:
            return None
        keys = np.concatenate([slot.keys for slot in self.slots])
        steps = np.repeat([slot.step for slot in self.slots], self.settings.images)
        drawn = [
            draw_views(keys, steps + turn, self.settings.views, self.settings.size, self.settings.canvas)
            for turn in range(count)
        ]
        return torch.from_numpy(np.stack(drawn)).to(self.device, self.dtype)

    def _precision(self) -> AbstractContextManager[object]:
        if self.settings.half and self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def _step(self, maps: torch.Tensor | None) -> None:
        """Take one step of the optimiser for all slots."""
        settings = self.settings
        self.optimizer.zero_grad(set_to_none=True)
        pictures = render(torch.cat([slot.spectrum for slot in self.slots]), settings.size)
        if maps is None:
            seen = central_view(pictures, settings.margin, self.prefix.side)
        else:
            seen = look_at(pictures, maps, self.prefix.side)
        with self._precision():
            tensor = self.prefix.features(seen)
        active, alike = self._measure(tensor)
        # Summed, not averaged, over pictures: the step of one does not depend on how many there are.
        loss = -active.sum()
        if alike is not None:
            loss = loss + settings.images * (self.weight * self.span * alike).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if alike is not None:
            self._move_weights(active.detach())

    def _measure(self, tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return signed activations, shape (sets, images), and the similarity within each set, shape (sets,)."""
        settings = self.settings
        count = settings.sets * settings.images
        activations = self.prefix.activations(tensor, count)
        own = activations.gather(1, self.channels[:, None])[:, 0].view(settings.sets, settings.images)
        alike = None
        if settings.diversity:
            features = features_by_picture(tensor, self.layer.place.axis, count)
            features = features.float() if features.dtype == torch.bfloat16 else features
            alike = diversity_loss(features.view(settings.sets, settings.images, *features.shape[1:]))
        return own * self.signs, alike

    def _move_weights(self, active: torch.Tensor) -> None:
        """Move the weight of diversity: up where the weakest picture has room to spare, down where it has none."""
        settings = self.settings
        self.age += 1
        self.smoothed.mul_(0.9).add_(active, alpha=0.1)
        mean = self.smoothed / (1 - 0.9**self.age)[:, None]
        room = (mean.amin(1) - self.goal) / self.span
        self.weight.mul_(torch.exp(settings.weight_rate * (room / 0.1).clamp(-1, 1)))
        self.weight.clamp_(settings.first_weight * 1e-3, settings.most_weight)

    def finished_pictures(self) -> torch.Tensor:
        """Return the pictures as they would be finished: cut, and rounded to 8 bits; shape (n, 3, canvas, canvas)."""
        settings = self.settings
        pictures = render(torch.cat([slot.spectrum.detach() for slot in self.slots]), settings.size)
        return (central_view(pictures, settings.margin, settings.canvas) * 255).round() / 255

    def _check(self) -> Iterator[SetResult]:
        """Look at sets whose turn it is as they would be finished, keep the best, and let finished ones go."""
        settings = self.settings
        with torch.inference_mode():
            pictures = self.finished_pictures()
            tensor = self.prefix.features(central_view(pictures, 0, self.prefix.side))
            active, alike = self._measure(tensor)
        activations = active.double().cpu().numpy()
        similarity = np.zeros(settings.sets) if alike is None else alike.double().cpu().numpy()
        room = (active.amin(1) - self.goal) / self.span
        pressed = (self.weight >= settings.enough_weight) | (room < settings.least_room) | (not settings.diversity)
        for number, slot in enumerate(self.slots):
            if slot.request is None or not (slot.step % settings.check_every == 0 or slot.step >= settings.steps):
                continue
            weakest = float(activations[number].min())
            accepted = weakest > slot.request.threshold.best
            # Among accepted sets the most diverse is best; before, the one whose weakest picture is strongest.
            by_diversity = accepted and settings.diversity
            score = (accepted, -float(similarity[number]) if by_diversity else weakest)
            if self._is_better(score, slot):
                slot.stale = 0
            else:
                slot.stale += 1
            if score > slot.best_score or slot.best is None:
                slot.best, slot.best_score = slot.spectrum.detach().clone(), score
            converged = slot.best_score[0] and slot.stale >= settings.patience and bool(pressed[number])
            if converged or slot.step >= settings.steps:
                yield self._finish(number, slot)

    def _is_better(self, score: tuple[bool, float], slot: _Slot) -> bool:
        """Whether a set has made progress that counts."""
        accepted, value = score
        before_accepted, before = slot.best_score
        if accepted != before_accepted:
            return accepted
        if math.isinf(before):
            return True
        assert slot.request is not None
        scale = abs(before) if accepted and self.settings.diversity else slot.request.threshold.span
        return value > before + self.settings.tolerance * scale

    def _finish(self, number: int, slot: _Slot) -> SetResult:
        """Let a set go with the best that became of it, and make its slot idle."""
        request, best = slot.request, slot.best
        assert request is not None and best is not None
        settings = self.settings
        with torch.no_grad():
            slot.spectrum.copy_(best)
        with torch.inference_mode():
            pictures = self.finished_pictures()
            tensor = self.prefix.features(central_view(pictures, 0, self.prefix.side))
            active, alike = self._measure(tensor)
        activations = active[number].double().cpu().numpy()
        order = np.argsort(activations, kind="stable")
        images = settings.images
        pixels = (pictures[number * images : (number + 1) * images] * 255).round().to(torch.uint8)
        result = SetResult(
            request=request,
            pixels=pixels.permute(0, 2, 3, 1).cpu().numpy()[order],
            activations=activations[order],
            diversity_loss=0.0 if alike is None else float(alike[number]),
            steps=slot.step,
            seconds=perf_counter() - slot.begun,
        )
        slot.request, slot.best = None, None
        self.signs[number] = 0
        self.weight[number] = 0
        return result
