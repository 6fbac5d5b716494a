"""The smoke test of a model: finds in seconds what would otherwise fail hours into a build, or spoil its scores.

Each check says what it found, or what is wrong and what to do about it. A check that needs another one that failed is
left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmark.device import choose_device
from benchmark.errors import CardError, VimiError, first_line, name_some, spell_error
from benchmark.hashing import hash_state
from benchmark.layers import Layer, LayerMap
from benchmark.model_card import ModelCard, ask_for_training
from benchmark.model_zoo import (
    RANDOM,
    Model,
    build_network,
    build_untrained,
    check_forward,
    count_parameters,
    find_layers,
)
from benchmark.progress import Reporter
from benchmark.protocol import Aggregator
from benchmark.randomness import generator_from
from benchmark.readings import ActivationReader, aggregate, forward_to

PICTURES = 6
"""Pictures in a batch: few, so that large networks are tested quickly, and enough to differ."""

ROUNDING = 1e-3
"""How far an activation may move with its neighbours, relative to the largest in its layer: rounding, in float32."""

CONSTANT = 1e-6
"""A channel whose values differ by less than this share of their size is constant, up to rounding."""

CANCELLED = 1e-5
"""A change that is smaller than this share of a layer's single values is rounding, whatever their mean is."""

MANY_CONSTANT = 0.1
"""Share of constant channels of a twin from which on that is said: a control that rests on few units is a weak one."""

MOST_CONSTANT = 0.9
"""Share of constant channels from which on a model is refused; networks whose branches begin at zero have many."""

ORDINARY = (
    "vimi works with ordinary networks of torch.nn: neither compiled nor scripted nor quantised, with all their "
    "parameters made (none lazy, none on the device 'meta')."
)
"""What is asked of a network that fails where networks do not."""

NAMED = 3
"""Layers that a message names, at most."""


@dataclass(frozen=True)
class SmokeCheck:
    """One check of a smoke test.

    Attributes
    ----------
    name
        What was checked.
    passed
        Whether it is as it must be.
    words
        What was found; if it failed, what is wrong and what to do.
    seconds
        How long it took.
    doubtful
        Whether it passed, but something about it should be known before hours are spent on the model.
    """

    name: str
    passed: bool
    words: str
    seconds: float
    doubtful: bool = False


@dataclass(frozen=True)
class SmokeTest:
    """What a smoke test found.

    Attributes
    ----------
    card
        The model's card, with its parameters counted if it could be built.
    checks
        Every check that could be made, in order.
    layers, units
        Eligible layers and the units in them; 0 if none were found.
    weights_hash
        Hash of the weights; empty if they could not be loaded.
    seconds_per_picture
        What reading the activations of one picture takes on this device; None if that could not be measured.
    device
        Where it ran.
    """

    card: ModelCard
    checks: tuple[SmokeCheck, ...]
    layers: int
    units: int
    weights_hash: str
    seconds_per_picture: float | None
    device: str

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[SmokeCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def seconds(self) -> float:
        """How long the whole test took."""
        return sum(check.seconds for check in self.checks)

    def require(self) -> None:
        """Do nothing if all checks passed.

        Raises
        ------
        CardError
            If any failed; the message names each of them, with what to do.
        """
        if self.passed:
            return
        count = len(self.failed)
        lines = "\n".join(f"  {check.name}: {check.words}" for check in self.failed)
        raise CardError(f"{self.card.name} can't be studied: {count} check{'s' * (count > 1)} failed.\n{lines}")


def smoke_test(
    card: ModelCard,
    *,
    weights: str = "",
    seed: int = 0,
    device: str = "auto",
    aggregator: Aggregator = "mean",
    synthetic: bool = True,
    need_training: bool = False,
    reporter: Reporter | None = None,
) -> SmokeTest:
    """Test whether a model can be studied.

    Parameters
    ----------
    card
        Its card.
    weights
        As for :func:`benchmark.model_zoo.load_model`.
    seed
        Seed of random weights and of the test's pictures.
    device
        Where the network runs: ``auto``, ``cpu``, ``cuda``.
    aggregator
        How activations become one number.
    synthetic
        Whether the model gets synthetic pictures, which need a gradient from units to pixels.
    need_training
        Whether it must be known what the model was trained on.
    reporter
        Shows progress.

    Returns
    -------
    What was found; :meth:`SmokeTest.require` turns failures into one error.
    """
    return _Run(card, weights, seed, choose_device(device), aggregator, synthetic, need_training).finish(
        reporter or Reporter()
    )


class _Failure(Exception):
    """A check failed, with these words."""


class _Doubt(str):
    """What a check that passed says, where a user should think twice."""


@dataclass
class _Run:
    """A smoke test under way: what one check finds is what the next ones work on."""

    card: ModelCard
    weights: str
    seed: int
    device: torch.device
    aggregator: Aggregator
    synthetic: bool
    need_training: bool
    checks: list[SmokeCheck] = field(default_factory=list)
    network: nn.Module | None = None
    weights_hash: str = ""
    layer_map: LayerMap | None = None
    model: Model | None = None
    columns: torch.Tensor | None = None
    seconds_per_picture: float | None = None

    def finish(self, reporter: Reporter) -> SmokeTest:
        """Run all checks that can be run."""
        steps = self._steps()
        with reporter.task(f"Testing {self.card.name}", len(steps)) as advance:
            for name, needs, work in steps:
                if needs():
                    self._check(name, work)
                advance(1)
        return SmokeTest(
            self.card,
            tuple(self.checks),
            len(self.layer_map.layers) if self.layer_map else 0,
            self.layer_map.unit_count if self.layer_map else 0,
            self.weights_hash,
            self.seconds_per_picture,
            self.device.type,
        )

    def _steps(self) -> list[tuple[str, Callable[[], bool], Callable[[], str]]]:
        """Return the checks in order: name, whether it can be made, and what makes it."""
        is_random = self.card.twin or self.weights == RANDOM
        return [
            ("network", lambda: True, self._build),
            ("training data", lambda: not is_random, self._training),
            ("parameters", self._has_network, self._parameters),
            ("same weights again", lambda: self._has_network() and self.card.is_own, self._repeat),
            ("forward pass", self._has_network, self._forward),
            ("layers", self._runs, self._layers),
            ("activations", lambda: self.model is not None, self._activations),
            ("evaluation mode", lambda: self.columns is not None, self._evaluation),
            ("neighbours", lambda: self.columns is not None and self._is_steady(), self._neighbours),
            ("channels", lambda: self.columns is not None, self._channels),
            ("gradient", lambda: self.columns is not None and self.synthetic, self._gradient),
            ("twin", lambda: self._has_network() and not is_random, self._twin),
        ]

    def _is_steady(self) -> bool:
        """Whether two passes agreed: otherwise nothing can be said of what a batch does."""
        return not any(check.name == "evaluation mode" and not check.passed for check in self.checks)

    def _check(self, name: str, work: Callable[[], str]) -> None:
        begun = perf_counter()
        try:
            words, passed = work(), True
        except (_Failure, VimiError) as error:
            words, passed = str(error), False
        except Exception as error:  # a network of somebody's own may fail anywhere, and in any way
            words, passed = f"raises {spell_error(error, 200)} {ORDINARY}", False
        doubtful = passed and isinstance(words, _Doubt)
        self.checks.append(SmokeCheck(name, passed, str(words), perf_counter() - begun, doubtful))

    def _has_network(self) -> bool:
        return self.network is not None

    def _runs(self) -> bool:
        return any(check.name == "forward pass" and check.passed for check in self.checks)

    # ---------------------------------------------------------------- checks

    def _build(self) -> str:
        self.network, self.card = build_network(self.card, weights=self.weights, seed=self.seed)
        self.weights_hash = hash_state(self.network.state_dict())
        kind = "random weights" if self.card.twin or self.weights == RANDOM else "its weights"
        return f"{self.card.network}, with {kind} (hash {self.weights_hash[:8]})"

    def _training(self) -> str:
        if self.card.training is not None:
            return f"{', '.join(self.card.training.data)}: {self.card.training.images:,} pictures"
        if self.need_training:
            raise ask_for_training(self.card)
        return _Doubt(
            "not known, and a build will ask for it: state training_data and training_images under [[models]], beside "
            "the function, or with --training-data and --training-images"
        )

    def _parameters(self) -> str:
        count = count_parameters(self._network, self.card)
        self.card = self.card.model_copy(update={"parameters": count})
        return f"{count:,}"

    def _repeat(self) -> str:
        """A user's code may draw new weights each time it is called: such a network differs in each run."""
        again, _ = build_network(self._own_card, weights=self.weights, seed=self.seed)
        if hash_state(again.state_dict()) != self.weights_hash:
            raise _Failure(
                f"{self.card.network} has different weights each time it is made, so a study could not be resumed. "
                "Does it load its weights? Random weights must come from torch's generator, without a seed of their "
                'own. To study an untrained network, set weights = "random".'
            )
        return "made twice, the weights are the same"

    def _forward(self) -> str:
        out = check_forward(self._network, self.card)
        with torch.no_grad():
            try:
                out = self._network(_normalized(self.card, self._pictures(0)[:2]))
            except Exception as error:
                raise _Failure(f"the forward pass raises {spell_error(error, 200)}") from None
        tensors = [tensor for tensor in _tensors(out) if tensor.is_floating_point()]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise _Failure(
                "the output has NaN or infinity for ordinary pictures. Check the weights, and the input's mean and std."
            )
        spec = self.card.input
        note = f"; {self.card.input_note}" if self.card.input_note else ""
        return f"{spec.size} px, crop {spec.crop_ratio:g}, {spec.interpolation}: finite{note}"

    def _layers(self) -> str:
        found = find_layers(self._network, self.card, self.aggregator)
        self.layer_map = found
        moved = self._network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = Model(self.card, moved, found, self.weights_hash, self.device, self.aggregator)
        first, last = found.layers[0].name, found.layers[-1].name
        words = f"{len(found.layers)} layers from {first} to {last}, {found.unit_count:,} units"
        if not found.unreadable:
            return words
        name, reason = found.unreadable[0]
        names = [layer for layer, _ in found.unreadable]
        return _Doubt(f"{words}; left out: {name_some(names, NAMED)}. The first, {name}: {reason}")

    def _activations(self) -> str:
        columns = self._read(self._pictures(0))
        bad = [layer.name for layer in self._map.layers if not np.isfinite(_values(columns, layer)).all()]
        if bad:
            raise _Failure(
                f"activations are NaN or infinite, first in layer {bad[0]} ({len(bad)} of {len(self._map.layers)} "
                "layers). They can't be ranked: check the weights."
            )
        self.columns = columns
        return f"finite in all layers, for {PICTURES} pictures"

    def _evaluation(self) -> str:
        begun = perf_counter()
        again = self._read(self._pictures(0))
        self.seconds_per_picture = (perf_counter() - begun) / PICTURES
        differing = self._differing(self._columns, again, 0.0 if self.device.type == "cpu" else ROUNDING)
        if differing:
            raise _Failure(
                f"the same pictures give different activations the second time (first in {differing[0]}). Something "
                "is random in evaluation mode: does dropout ask self.training, and does the network obey eval()?"
            )
        return f"two passes agree; {self.seconds_per_picture:.3g} s a picture on this {self.device.type}"

    def _neighbours(self) -> str:
        first, other = self._pictures(0), self._pictures(1)
        half = PICTURES // 2
        mixed = self._read(np.concatenate([first[:half], other[half:]]))[:half]
        differing = self._differing(self._columns[:half], mixed, ROUNDING)
        if not differing:
            differing = self._differing(self._columns[:1], self._read(first[:1]), ROUNDING)
        if differing:
            raise _Failure(
                f"a picture's activations depend on the other pictures in its batch (first in {differing[0]}), and so "
                "would the rankings. Does a batch norm use the batch's own statistics (track_running_stats), or does "
                "the network compute anything across the batch?"
            )
        return "a picture's activations do not depend on the others in its batch"

    def _channels(self) -> str:
        constant = {layer.name: _constant(_values(self._columns, layer)) for layer in self._map.layers}
        count = sum(int(flags.sum()) for flags in constant.values())
        share = count / self._map.unit_count
        dead = [name for name, flags in constant.items() if flags.all()]
        named = f" (all of {', '.join(dead[:NAMED])}{' and more' if len(dead) > NAMED else ''})" if dead else ""
        if share > MOST_CONSTANT:
            raise _Failure(
                f"{100 * share:.0f} % of the channels are the same for {PICTURES} very different pictures{named}; "
                "nobody can distinguish the pictures of such units. Check the weights, the input's mean and std, and "
                "which layers you named."
            )
        return f"{count:,} of {self._map.unit_count:,} are the same for {PICTURES} pictures{named}"

    def _gradient(self) -> str:
        """The visualiser works on a copy of the network and needs the gradient of a unit in the pixels."""
        layers = self._map.layers
        chosen = list(dict.fromkeys([layers[0].name, layers[len(layers) // 2].name, layers[-1].name]))
        try:
            module = copy.deepcopy(self._model.module)
        except Exception as error:
            raise _Failure(
                f"the network can't be copied, as visualisations need it ({first_line(error)[:200]}). Don't keep "
                "results of a computation as tensor attributes."
            ) from None
        for name in chosen:
            layer = self._map[name]
            values = _values(self._columns, layer)
            channel = int(np.argmax(np.ptp(values, axis=0)))  # a constant one has no gradient
            problem = self._gradient_problem(module, layer, channel)
            if problem:
                raise _Failure(
                    f"{problem} from unit {channel} of layer {name} to the pixels, so vimi can't make synthetic "
                    'pictures. Does the network detach, round or use numpy on the way? conditions = ["natural"] '
                    "needs no gradient."
                )
        return f"reaches the pixels from {', '.join(chosen)}"

    def _gradient_problem(self, module: nn.Module, layer: Layer, channel: int) -> str:
        """Say what is wrong with the gradient of a unit in the pixels; empty if nothing is."""
        pixels = _normalized(self.card, self._pictures(0)[:2]).to(self.device)
        pixels = pixels.contiguous(memory_format=torch.channels_last).requires_grad_(True)
        try:
            tensor = forward_to(module, layer.place)(pixels)
            reduced = aggregate(tensor, layer.place.axis, 2, self.aggregator, self._model.prefix_tokens)
            if not reduced.requires_grad:
                return "there is no gradient"
            (gradient,) = torch.autograd.grad(reduced[:, channel].sum(), pixels, allow_unused=True)
        except RuntimeError as error:
            return f"there is no gradient ({first_line(error)[:200]})"
        if gradient is None or not bool(gradient.any()):
            return "the gradient is zero"
        return "" if bool(torch.isfinite(gradient).all()) else "the gradient is not finite"

    def _twin(self) -> str:
        twin = build_untrained(self._own_card.as_twin(), self.seed).cpu().eval().requires_grad_(False)
        mine, state = {name: value.cpu() for name, value in self._network.state_dict().items()}, twin.state_dict()
        if mine.keys() != state.keys() or any(mine[name].shape != state[name].shape for name in mine):
            raise _Failure(
                "the untrained network's parameters differ from the trained one's, so their units can't be compared. "
                "Both must be the same architecture."
            )
        learned = [name for name, _ in self._network.named_parameters()]
        kept = [name for name in learned if torch.equal(mine[name], state[name]) and not _is_constant(mine[name])]
        if kept or all(torch.equal(mine[name], state[name]) for name in learned):
            which = ", ".join((kept or learned)[:NAMED])
            raise _Failure(
                f"the random-weight twin has the trained network's own values in {which}: the untrained network must "
                "be made without loading weights."
            )
        if self.card.is_own:
            again = build_untrained(self._own_card.as_twin(), self.seed).state_dict()
            if hash_state(again) != hash_state(state):
                raise _Failure(
                    "the random-weight twin differs each time it is made. Random weights must come from torch's "
                    "generator, which vimi seeds."
                )
        if self.layer_map is not None:
            found = find_layers(twin, self._own_card.as_twin(), self.aggregator)
            if [(layer.name, layer.width) for layer in found.layers] != [
                (layer.name, layer.width) for layer in self.layer_map.layers
            ]:
                raise _Failure("the random-weight twin's eligible layers differ from the model's.")
            doubt = self._read_twin(twin, found)
            if doubt:
                return _Doubt(doubt)
        return f"random weights in {len(learned)} tensors, none of them the model's"

    def _read_twin(self, twin: nn.Module, layers: LayerMap) -> str:
        """Check that a twin is a network that could be answered about: a dead one would flatter any model.

        Returns
        -------
        What should be known of it; empty if nothing.
        """
        model = Model(self._own_card.as_twin(), twin, layers, "", torch.device("cpu"), self.aggregator)
        with ActivationReader(twin, layers, model.aggregator, model.prefix_tokens) as reader:
            columns = reader.read(model.prepare(torch.from_numpy(self._pictures(0)))).cpu()
        found = [_values(columns, layer) for layer in layers.layers]
        if not all(np.isfinite(values).all() for values in found):
            raise _Failure(
                "the random-weight twin's activations are NaN or infinite. Check how the untrained network is made."
            )
        constant = sum(int(_constant(values).sum()) for values in found)
        share = constant / layers.unit_count
        if share > MOST_CONSTANT:
            raise _Failure(
                f"{100 * share:.0f} % of the random-weight twin's channels are the same for {PICTURES} very different "
                "pictures, so it can't serve as a control. Initialise it as the network was before training."
            )
        if share <= MANY_CONSTANT:
            return ""
        return (
            f"{constant:,} of the random-weight twin's {layers.unit_count:,} units are the same for {PICTURES} very "
            f"different pictures. Only the other {100 * (1 - share):.0f} % can be a control, and a row is ranked only "
            "if at least half of its twin's units count. Does the initialisation silence a branch (a gain of zero, a "
            "very small scale)?"
        )

    # ---------------------------------------------------------------- parts

    @property
    def _own_card(self) -> ModelCard:
        """The card without what the test has filled in."""
        return self.card.model_copy(update={"parameters": None})

    @property
    def _network(self) -> nn.Module:
        assert self.network is not None
        return self.network

    @property
    def _model(self) -> Model:
        assert self.model is not None
        return self.model

    @property
    def _map(self) -> LayerMap:
        assert self.layer_map is not None
        return self.layer_map

    @property
    def _columns(self) -> torch.Tensor:
        assert self.columns is not None
        return self.columns

    def _pictures(self, number: int) -> NDArray[np.uint8]:
        return varied_pictures(PICTURES, self.card.input.size, self.seed, number)

    def _read(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Read the columns of some pictures; shape (pictures, columns), on the CPU."""
        model = self._model
        try:
            with ActivationReader(model.module, self._map, model.aggregator, model.prefix_tokens) as reader:
                return reader.read(model.prepare(torch.from_numpy(pictures))).cpu()
        except VimiError:
            raise
        except Exception as error:
            raise _Failure(
                f"a batch of {len(pictures)} pictures raises {spell_error(error, 200)} The network "
                "must take batches of any number of pictures."
            ) from None

    def _differing(self, before: torch.Tensor, after: torch.Tensor, tolerance: float) -> list[str]:
        """Return the layers in which two readings of the same pictures differ by more than a tolerance."""
        names = []
        for layer in self._map.layers:
            one, other = _values(before, layer), _values(after, layer)
            largest, change = float(np.abs(one).max(initial=0.0)), float(np.abs(one - other).max(initial=0.0))
            # What is normalised over channels and then averaged over them cancels to nothing but rounding.
            same = change <= tolerance * largest  # not so if it is NaN
            if not same and not (tolerance and change <= CANCELLED * self._magnitude(layer)):
                names.append(layer.name)
        return names

    def _magnitude(self, layer: Layer) -> float:
        """Return the size of the largest single value in a layer's tensor, before it is reduced."""
        pictures = self._model.prepare(torch.from_numpy(self._pictures(0)[:2]))
        with torch.no_grad():
            return float(forward_to(self._model.module, layer.place)(pictures).abs().max())


def varied_pictures(count: int, size: int, seed: int, number: int = 0) -> NDArray[np.uint8]:
    """Make pictures that differ in all that a network may look at: colour, contrast, frequency and direction.

    Parameters
    ----------
    count, size
        How many, and their height and width.
    seed, number
        Which ones: another number gives other pictures.

    Returns
    -------
    Shape (count, 3, size, size).
    """
    generator = generator_from(seed, "smoke test", number)
    y, x = np.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(count):
        angle, frequency = generator.uniform(0, np.pi), 2 ** generator.uniform(0.5, 5.5)
        stripes = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + generator.uniform(0, 6))
        across, down = generator.uniform(0.2, 0.8, size=2)
        blot = np.exp(-((x - across) ** 2 + (y - down) ** 2) / generator.uniform(0.01, 0.2))
        noise = generator.normal(0, generator.uniform(0, 0.6), size=(3, size, size))
        colours = generator.normal(size=(3, 3, 1, 1))
        mixed = colours[0] * stripes + 2 * colours[1] * blot + noise + 0.8 * colours[2]
        pictures.append(np.rint(255 / (1 + np.exp(-mixed))).astype(np.uint8))
    return np.stack(pictures)


def _normalized(card: ModelCard, pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Turn pictures into what a card's network wants to see."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (card.input.mean, card.input.std))
    return (torch.from_numpy(pictures).float() / 255 - mean) / std


def _values(columns: torch.Tensor, layer: Layer) -> NDArray[np.float64]:
    """Return a layer's activations, shape (pictures, channels)."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(columns.double().numpy()[:, layer.columns] * layer.scale + layer.shift)


def _constant(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return, for each channel, whether it is the same for all pictures; shape (channels,)."""
    return np.asarray(np.ptp(values, axis=0) <= CONSTANT * np.abs(values).max(axis=0))


def _is_constant(tensor: torch.Tensor) -> bool:
    """Whether all of a tensor's values are one number, as those of a fresh bias are."""
    return tensor.numel() == 0 or bool((tensor == tensor.flatten()[0]).all())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Iterate over the tensors in what a network returns."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
