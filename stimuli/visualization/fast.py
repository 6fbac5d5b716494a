"""The preset ``fast``: many sets in one batch, one run each.

A set's pictures are driven apart strongly while they are still coarse, so that they begin on different motifs, and
weakly from then on, so that each grows its own motif to full strength. A set is finished when it grows no more, however
early it beat the best natural picture; one that grows no more and does not beat it goes on without being driven apart.
One run takes the place of the paper's search over weights of diversity, which needs seven to fourteen. Strong diversity
that is held until the end shows as noise, and as many weak things in one picture.

Pictures are optimised beyond their border, and cut. What views show seldom, as corners, counts the more when they do.

A set that has converged leaves the batch and the next one enters. The batch has a fixed shape, idle slots are
padded, and everything random is keyed by set, picture and step: what becomes of a set never depends on who
shares its batch, bit by bit.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from benchmark.adam import Adam
from benchmark.errors import ActivationError
from benchmark.layers import Layer
from benchmark.model_zoo import Model
from benchmark.randomness import Keys, seed_from
from benchmark.readings import forward_to
from stimuli.visualization.diversity import diversity_loss, features_by_picture
from stimuli.visualization.parametrization import render, start_spectrum
from stimuli.visualization.sets import IMAGES, SetRequest, SetResult
from stimuli.visualization.views import ViewRange, central_view, draw_views, look_at, weigh_by_coverage


@dataclass(frozen=True)
class FastSettings:
    """Settings of the preset. Each of them is part of what a picture depends on.

    Attributes
    ----------
    canvas
        Side of the finished pictures in pixels.
    least_margin
        Pixels that are optimised around them at least. Views are shifted by half as many either way.
    steps
        Most steps a set may take.
    images
        Pictures in a set.
    sets
        Sets in a batch.
    learning_rate
        Of Adam.
    diversity
        Whether pictures of a set are driven apart at first.
    views
        How far random views reach; None shows the network the picture itself.
    early_steps, early_share, early_weight
        They are driven apart for so many steps, but no more than this share of those they may take, with this weight of
        diversity, in units of the set's activation above the middle of the pool.
    late_weight
        The weight of diversity from then on. A set that has converged and does not beat the best natural picture goes
        on without any.
    check_every
        Steps between two looks at the pictures as they would be finished.
    least_steps, window, gain
        A set has converged once it has taken so many steps and its mean activation, over so many checks, has grown by
        no more than this share.
    last_gain
        The same for a set that is no longer driven apart, since it did not beat the best natural picture.
    fold
        Whether batch norms in front of the layer are folded into their convolutions.
    half
        Whether the network runs in bfloat16 (on an accelerator); spectra and Adam stay in float32.
    """

    canvas: int = 224
    least_margin: int = 4
    steps: int = 504
    images: int = IMAGES
    sets: int = 2
    learning_rate: float = 0.05
    diversity: bool = True
    views: ViewRange | None = field(default_factory=ViewRange)
    early_steps: int = 48
    early_share: float = 0.25
    early_weight: float = 3.0
    late_weight: float = 0.3
    check_every: int = 12
    least_steps: int = 96
    window: int = 3
    gain: float = 0.05
    last_gain: float = 0.01
    fold: bool = True
    half: bool = False

    @property
    def margin(self) -> int:
        """Pixels around the finished picture that are optimised and cut off: the paper's 16 at 224."""
        return 0 if self.views is None else max(self.least_margin, round(self.canvas / 14))

    @property
    def size(self) -> int:
        """Side of the optimised picture."""
        return self.canvas + 2 * self.margin

    @property
    def early(self) -> int:
        """Steps for which pictures are driven apart: whole stretches between checks."""
        most = min(self.early_steps, self.early_share * self.steps)
        return int(most // self.check_every) * self.check_every if self.diversity else 0


def patch_side(model: Model) -> int:
    """Return the side of the patches that a network cuts its pictures into, in pixels; 1 if it cuts none.

    They are those of its first convolution, if its windows lie side by side.
    """
    first = next((module for module in model.module.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride:
        return 1
    return int(max(first.stride))


class Prefix:
    """A model up to one layer: it takes pictures and returns the layer's tensor, without computing later layers."""

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

    def activations(self, tensor: torch.Tensor, count: int, *, climbing: bool = False) -> torch.Tensor:
        """Return the activations of all the layer's units, shape (count, units), or what is climbed in their place."""
        return self.model.activations_at(self.layer, tensor, count, responses=climbing)


def fold_batch_norms(model: Model, layer: Layer) -> nn.Module:
    """Return a model whose batch norms are folded into the convolutions in front of them.

    A convolution or batch norm that is itself the layer, or that the layer is read at, is left as it is. The model
    stays as it was: what is folded, and what holds it, is copied; everything else is shared, as are all parameters.
    """
    spared = {layer.name, layer.place.module, layer.place.module.rpartition(".")[0]}
    pairs = [pair for pair in model.layer_map.foldable if not spared.intersection(pair)]
    module = _copy_around(model.module, {name for pair in pairs for name in pair})
    for convolution_name, norm_name in pairs:
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


def _copy_around(module: nn.Module, changing: set[str]) -> nn.Module:
    """Return a network whose modules of these names may be changed; what does not hold any of them is shared."""
    parts = [name.split(".") for name in changing]
    copied = {".".join(own[:end]) for own in parts for end in range(len(own) + 1)}
    shared: list[nn.Module | torch.Tensor] = [own for name, own in module.named_modules() if name not in copied]
    shared += [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(own): own for own in shared})


@dataclass
class _Slot:
    """A place in the batch: its set, and the best version so far of each of its pictures."""

    spectrum: torch.Tensor
    keys: Keys
    request: SetRequest | None = None
    step: int = 0
    begun: float = 0.0
    best: torch.Tensor | None = None
    best_activations: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    reached: list[float] = field(default_factory=list)


def visualize(
    model: Model,
    layer: Layer,
    requests: Iterable[SetRequest],
    settings: FastSettings,
    *,
    seed: int,
    start: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    prefix: Prefix | None = None,
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
    prefix
        The model up to the layer, at this canvas and precision and folded as the settings say, where it is at hand.
    """
    batch = _Batch(model, layer, settings, seed, start, dtype, prefix)
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
        prefix: Prefix | None = None,
    ) -> None:
        self.model, self.layer, self.settings, self.seed, self.start, self.dtype = (
            model, layer, settings, seed, start, dtype,
        )  # fmt: skip
        self.prefix = prefix or Prefix(model, layer, settings.canvas, fold=settings.fold, dtype=dtype)
        self.device = model.device
        images = settings.images
        idle = start_spectrum("idle", settings.size, images=images, dtype=dtype).to(self.device)
        self.slots = [
            _Slot(idle.clone().requires_grad_(True), np.zeros(images, dtype=np.uint64)) for _ in range(settings.sets)
        ]
        fused = dtype == torch.float32 and self.device.type in ("cpu", "cuda")
        self.optimizer = Adam([slot.spectrum for slot in self.slots], settings.learning_rate, fused=fused)
        self.coverage: torch.Tensor | None = None
        if settings.views is not None:
            weights = weigh_by_coverage(settings.views, settings.size, settings.canvas)
            self.coverage = torch.from_numpy(weights).to(self.device, dtype)
        shape = (settings.sets, images)
        self.channels = torch.zeros(settings.sets * images, dtype=torch.long, device=self.device)
        self.signs = torch.zeros(shape, dtype=dtype, device=self.device)
        self.middle = torch.zeros(settings.sets, dtype=dtype, device=self.device)
        self.span = torch.ones(settings.sets, dtype=dtype, device=self.device)
        self.weight = torch.zeros(settings.sets, dtype=dtype, device=self.device)

    @property
    def is_busy(self) -> bool:
        """Whether any set is in work."""
        return any(slot.request is not None for slot in self.slots)

    @property
    def _first_weight(self) -> float:
        """Weight of diversity that a set begins with."""
        if not self.settings.diversity:
            return 0.0
        return self.settings.early_weight if self.settings.early else self.settings.late_weight

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
            self.optimizer.forget(number)
            slot.request, slot.step, slot.best, slot.reached, slot.begun = request, 0, None, [], perf_counter()
            slot.keys = np.array(
                [seed_from(self.seed, "views", request.name, image) for image in range(images)], dtype=np.uint64
            )
            self.channels[number * images : (number + 1) * images] = request.unit.index
            self.signs[number] = request.sign
            self.middle[number] = request.threshold.middle
            self.span[number] = request.threshold.span
            self.weight[number] = self._first_weight

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
        for slot in self.slots:
            slot.spectrum.grad = None
        pictures = render(torch.cat([slot.spectrum for slot in self.slots]), settings.size)
        if maps is None:
            seen = central_view(pictures, settings.margin, self.prefix.side)
        else:
            pictures.register_hook(self._weigh)  # type: ignore[no-untyped-call]
            seen = look_at(pictures, maps, self.prefix.side)
        with self._precision():
            tensor = self.prefix.features(seen)
        active, alike = self._measure(tensor, settings.diversity, climbing=True)
        # Summed, not averaged, over pictures: the step of one does not depend on how many there are.
        loss = -active.sum()
        if alike is not None:
            reached = (active.detach().mean(1) - self.middle).maximum(self.span)
            loss = loss + settings.images * (self.weight * reached * alike).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _weigh(self, gradient: torch.Tensor) -> torch.Tensor:
        assert self.coverage is not None
        return gradient * self.coverage

    def _measure(
        self, tensor: torch.Tensor, diversity: bool, climbing: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return signed activations, shape (sets, images), and the similarity within each set, shape (sets,)."""
        settings = self.settings
        count = settings.sets * settings.images
        activations = self.prefix.activations(tensor, count, climbing=climbing)
        own = activations.gather(1, self.channels[:, None])[:, 0].view(settings.sets, settings.images)
        alike = None
        if diversity:
            features = features_by_picture(tensor, self.layer.place.axis, count)
            features = features.float() if features.dtype == torch.bfloat16 else features
            alike = diversity_loss(features.view(settings.sets, settings.images, *features.shape[1:]))
        return own * self.signs, alike

    def finished_pictures(self) -> torch.Tensor:
        """Return the pictures as they would be finished: cut, and rounded to 8 bits; shape (n, 3, canvas, canvas)."""
        settings = self.settings
        pictures = render(torch.cat([slot.spectrum.detach() for slot in self.slots]), settings.size)
        return (central_view(pictures, settings.margin, settings.canvas) * 255).round() / 255

    def _check(self) -> Iterator[SetResult]:
        """Look at sets whose turn it is as they would be finished, keep the best, and let finished ones go."""
        settings = self.settings
        due = [
            (number, slot)
            for number, slot in enumerate(self.slots)
            if slot.request is not None and (slot.step % settings.check_every == 0 or slot.step >= settings.steps)
        ]
        if not due:
            return
        with torch.inference_mode():
            tensor = self.prefix.features(central_view(self.finished_pictures(), 0, self.prefix.side))
            active, _ = self._measure(tensor, False)
        activations = active.double().cpu().numpy()
        for number, slot in due:
            if slot.step == settings.early:
                self.weight[number] = settings.late_weight
            if slot.step >= settings.early:
                self._keep(slot, activations[number])
            if self._has_converged(number, slot, activations[number]) or slot.step >= settings.steps:
                yield self._finish(number, slot)

    def _keep(self, slot: _Slot, activations: NDArray[np.float64]) -> None:
        """Keep each of a set's pictures as it is now, if it has never been better."""
        if slot.best is None:
            slot.best, slot.best_activations = slot.spectrum.detach().clone(), activations.copy()
            return
        better = activations > slot.best_activations
        slot.best_activations[better] = activations[better]
        rows = torch.from_numpy(better).to(self.device)
        slot.best[rows] = slot.spectrum.detach()[rows]

    def _has_converged(self, number: int, slot: _Slot, activations: NDArray[np.float64]) -> bool:
        """Record a set's activations, and say whether it has converged.

        A set that has, but does not beat the best natural picture, is no longer driven apart, and goes on.
        """
        settings = self.settings
        assert slot.request is not None
        threshold = slot.request.threshold
        slot.reached.append(float(activations.mean()) - threshold.middle)
        if slot.step < max(settings.least_steps, settings.early) or len(slot.reached) <= settings.window:
            return False
        growth = slot.reached[-1] - slot.reached[-1 - settings.window]
        accepted = bool(slot.best_activations.min() > threshold.best)
        freed = settings.diversity and not self.weight[number]
        if growth > (settings.last_gain if freed else settings.gain) * abs(slot.reached[-1]):
            return False
        if accepted or freed or not settings.diversity:
            return True
        self.weight[number] = 0.0
        slot.reached.clear()
        return False

    def _finish(self, number: int, slot: _Slot) -> SetResult:
        """Finish a set with its best pictures, and free its slot."""
        request, best = slot.request, slot.best
        assert request is not None and best is not None, "the last check keeps what there is"
        settings = self.settings
        with torch.no_grad():
            slot.spectrum.copy_(best)
        with torch.inference_mode():
            pictures = self.finished_pictures()
            tensor = self.prefix.features(central_view(pictures, 0, self.prefix.side))
            active, alike = self._measure(tensor, settings.diversity)
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
