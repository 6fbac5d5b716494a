"""The preset ``imi2023``: the paper's recipe, on lucent's own functions.

One unit and sign at a time: a run of nine pictures without diversity, then runs of eight with a weight of
diversity that is searched for, until it is the largest one at which the weakest picture still beats the most
extreme natural one. It is kept as it was, full forward passes and all hooks included, so that its cost and its
pictures can be compared; :mod:`stimuli.visualization.fast` is what to use.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmark.layers import Layer
from benchmark.model_zoo import Model
from benchmark.randomness import seed_from
from benchmark.readings import Tap
from stimuli.visualization.diversity import diversity_loss, features_by_picture
from stimuli.visualization.fast import Prefix
from stimuli.visualization.parametrization import quiet_lucent
from stimuli.visualization.sets import IMAGES, SetRequest, SetResult
from stimuli.visualization.views import central_view


@dataclass(frozen=True)
class RecipeSettings:
    """Settings of the paper's recipe; the defaults are the paper's.

    Attributes
    ----------
    canvas
        Side of the finished pictures in pixels.
    most_steps, least_steps, window
        Hard cap of a run; steps before it may stop; steps whose two halves are compared.
    plain_images, diverse_images
        Pictures in the run without diversity, and in the others.
    first_weights
        Weights of diversity that are tried in turn, while they pass.
    bisections
        Runs between the last weight that passed and the first that failed.
    stop_ratio, smoothing
        A run has settled when the gradient norm, smoothed so much from step to step, differs by no more than this
        ratio between the halves of the window.
    """

    canvas: int = 224
    most_steps: int = 20_000
    least_steps: int = 2_500
    window: int = 2_000
    learning_rate: float = 0.05
    plain_images: int = IMAGES
    diverse_images: int = IMAGES - 1
    first_weights: tuple[float, ...] = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
    bisections: int = 7
    stop_ratio: float = 1.1
    smoothing: float = 0.99

    @classmethod
    def shrunk(cls, canvas: int, most_steps: int, images: int = IMAGES) -> RecipeSettings:
        """Return the recipe with all its step numbers shrunk by one factor, to at most so many steps.

        The smoothing of the stopping rule forgets over steps, too: it shrinks with them.
        """
        factor = most_steps / cls.most_steps
        return cls(
            canvas=canvas,
            most_steps=most_steps,
            least_steps=max(2, round(cls.least_steps * factor)),
            window=max(2, round(cls.window * factor)),
            plain_images=images,
            diverse_images=images - 1,
            smoothing=cls.smoothing ** (1 / factor),
        )

    @property
    def margin(self) -> int:
        """Pixels around the finished picture that are optimised and cut off: the paper's 16 at 224."""
        return max(2, round(self.canvas / 14))


@dataclass(frozen=True)
class _Run:
    """One optimisation: finished pictures in [0, 1], their signed activations, how alike they are, and its steps."""

    pictures: torch.Tensor
    activations: np.ndarray[Any, np.dtype[np.float64]]
    alike: float
    steps: int

    def beats(self, threshold: float) -> bool:
        return bool(self.activations.min() > threshold)


def visualize(
    model: Model, layer: Layer, requests: Iterable[SetRequest], settings: RecipeSettings, *, seed: int
) -> Iterator[SetResult]:
    """Make sets of pictures one after the other, as the paper did."""
    for request in requests:
        begun = perf_counter()
        runner = _Runner(model, layer, request, settings, seed)
        plain = runner.run(settings.plain_images, 0.0, "plain")
        diverse, steps = _search(runner, settings)
        steps += plain.steps
        if diverse is None:
            chosen, activations, alike = plain.pictures, plain.activations, plain.alike
        else:
            order = np.argsort(diverse.activations, kind="stable")
            strongest = int(np.argmax(plain.activations))
            chosen = torch.cat([diverse.pictures[order.tolist()], plain.pictures[strongest][None]])
            activations = np.append(diverse.activations[order], plain.activations[strongest])
            alike = runner.similarity(chosen)
        ranked = np.argsort(activations, kind="stable")
        pixels = (chosen[ranked.tolist()] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        yield SetResult(request, pixels, activations[ranked], alike, steps, perf_counter() - begun)


def _search(runner: _Runner, settings: RecipeSettings) -> tuple[_Run | None, int]:
    """Search for the run with the largest weight of diversity that passes; returns it and all steps taken."""
    steps = 0
    best: _Run | None = None
    if settings.diverse_images < 1:
        return None, 0
    passed, failed = 0.0, math.inf
    threshold = runner.request.threshold.best
    for weight in settings.first_weights:
        run = runner.run(settings.diverse_images, weight, f"weight {weight}")
        steps += run.steps
        if not run.beats(threshold):
            failed = weight
            break
        best, passed = run, weight
    if math.isinf(failed):
        return best, steps
    for number in range(settings.bisections):
        weight = (passed + failed) / 2
        run = runner.run(settings.diverse_images, weight, f"bisection {number}")
        steps += run.steps
        if run.beats(threshold):
            best, passed = run, weight
        else:
            failed = weight
    return best, steps


class _Runner:
    """Optimises pictures for one unit and sign with lucent's parametrisation, transforms and hooks."""

    def __init__(self, model: Model, layer: Layer, request: SetRequest, settings: RecipeSettings, seed: int) -> None:
        self.model, self.layer, self.request, self.settings, self.seed = model, layer, request, settings, seed
        self.seen: list[torch.Tensor] = []
        prefix = Prefix(model, layer, settings.canvas, fold=False, dtype=torch.float32)
        # What thresholds are measured at, so that both sides of the comparison are the same thing.
        self.side = prefix.side
        # lucent's transforms change the size from step to step, by single pixels: a ViT takes only whole patches.
        self.resized = self.side != settings.canvas or not prefix.takes(settings.canvas + 2 * settings.margin + 1)

    def run(self, images: int, weight: float, name: str) -> _Run:
        """Run one optimisation to its end."""
        with quiet_lucent():
            from lucent.optvis import param
            from lucent.optvis.render import ModuleHook

        settings = self.settings
        size = settings.canvas + 2 * settings.margin
        with _seeded(seed_from(self.seed, self.request.name, name)), quiet_lucent():
            parameters, image_f = param.image(size, batch=images)
            transform = self._transforms()
            optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
            hooks = [ModuleHook(module) for module in self.model.module.modules()]  # as lucent does: on every module
            tap = Tap(self.model.module, self.layer.place, self._keep)
            stop = _StopRule(settings)
            steps = 0
            try:
                while steps < settings.most_steps:
                    optimizer.zero_grad()
                    picture = image_f()
                    picture.retain_grad()
                    loss = self._loss(transform(picture), images, weight, tap)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    steps += 1
                    assert picture.grad is not None
                    if stop.is_reached(float(picture.grad.flatten(1).norm(dim=1).max())):
                        break
            finally:
                tap.handle.remove()
                for hook in hooks:
                    hook.close()
            with torch.no_grad():
                finished = (central_view(image_f(), settings.margin, settings.canvas) * 255).round() / 255
            activations, alike = self._measure(finished)
        return _Run(finished, activations, alike, steps)

    def similarity(self, pictures: torch.Tensor) -> float:
        """Return how alike pictures are in the unit's layer."""
        return self._measure(pictures)[1]

    def _transforms(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the paper's transforms, scaled to the canvas, and the model's own normalisation."""
        with quiet_lucent():
            from lucent.optvis import transform

        scale = self.settings.canvas / 224
        steps = [
            transform.jitter(max(2, round(16 * scale))),
            transform.random_scale([0.95, 0.975, 1.0, 1.025, 1.05]),
            transform.random_rotate(list(range(-5, 6))),
            transform.jitter(max(2, round(8 * scale))),
        ]
        if self.resized:
            steps.append(torch.nn.Upsample(size=(self.side, self.side), mode="bilinear", align_corners=True))
        steps.append(self.model.normalize)
        composed: Callable[[torch.Tensor], torch.Tensor] = transform.compose(steps)
        return composed

    def _keep(self, tensor: torch.Tensor) -> None:
        """Keep the layer's tensor as it is now: an activation function behind it may overwrite it."""
        self.seen.append(tensor.clone())

    def _forward(self, pictures: torch.Tensor, tap: Tap) -> torch.Tensor:
        self.seen.clear()
        tap.rearm()
        try:
            self.model.module(pictures)
        except (RuntimeError, AssertionError, ValueError):
            # As in lucent, small pictures may be too small for what lies behind the layer.
            if not self.seen:
                raise
        return self.seen[0]

    def _loss(self, pictures: torch.Tensor, images: int, weight: float, tap: Tap) -> torch.Tensor:
        tensor = self._forward(pictures, tap)
        active = self.model.activations_at(self.layer, tensor, images, responses=True)
        loss = -self.request.sign * active[:, self.request.unit.index].mean()
        if weight:
            features = features_by_picture(tensor, self.layer.place.axis, images)
            loss = loss + weight * diversity_loss(features[None])[0]
        return loss

    def _measure(self, pictures: torch.Tensor) -> tuple[np.ndarray[Any, np.dtype[np.float64]], float]:
        """Return signed activations of finished pictures, and how alike they are."""
        tap = Tap(self.model.module, self.layer.place, self._keep)
        try:
            with torch.no_grad():
                shown = self.model.normalize(central_view(pictures, 0, self.side))
                tensor = self._forward(shown, tap)
                active = self.model.activations_at(self.layer, tensor, len(pictures))
                features = features_by_picture(tensor, self.layer.place.axis, len(pictures))
                alike = float(diversity_loss(features[None])[0])
        finally:
            tap.handle.remove()
        own = self.request.sign * active[:, self.request.unit.index]
        return own.double().cpu().numpy(), alike


class _StopRule:
    """Stops a run once the smoothed gradient norm has settled."""

    def __init__(self, settings: RecipeSettings) -> None:
        self.settings = settings
        self.smoothed: float | None = None
        self.history: deque[float] = deque(maxlen=settings.window)
        self.steps = 0

    def is_reached(self, norm: float) -> bool:
        """Record the gradient norm of a step, and say whether to stop."""
        keep = self.settings.smoothing
        self.smoothed = norm if self.smoothed is None else keep * self.smoothed + (1 - keep) * norm
        self.history.append(self.smoothed)
        self.steps += 1
        if self.steps < self.settings.least_steps or len(self.history) < self.settings.window:
            return False
        half = self.settings.window // 2
        values = list(self.history)
        first, second = float(np.mean(values[:half])), float(np.mean(values[half:]))
        low, high = sorted((first, second))
        return high <= self.settings.stop_ratio * low


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that lucent draws from, and put them back as they were."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
