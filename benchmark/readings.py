"""Reducing a model's tensors to one number per picture and unit, inside the forward pass.

Tensors are reduced in the hook that sees them: a later in-place operation may overwrite them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.hooks import RemovableHandle

from benchmark.errors import ActivationError
from benchmark.layers import LayerMap, Product, TensorPlace
from benchmark.protocol import Aggregator

if TYPE_CHECKING:
    from benchmark.bases.base import Basis

LATENT_BYTES = 64 * 2**20
"""Latents are encoded for so many pictures at once that they take no more memory than this."""


def aggregate(
    tensor: torch.Tensor, axis: int, batch: int, aggregator: Aggregator = "mean", prefix_tokens: int = 0
) -> torch.Tensor:
    """Reduce a tensor to one number per picture and channel.

    Parameters
    ----------
    tensor
        Shape (batch x k, ...), picture by picture: windows of a picture may stand side by side.
    axis
        Channel axis: 1 or the last.
    batch
        Number of pictures.
    aggregator
        ``mean`` over all positions or tokens, ``patches`` (the mean without prefix tokens), ``cls`` (the
        first token), ``max`` over positions.
    prefix_tokens
        How many tokens stand in front of the patches in a sequence of tokens.

    Returns
    -------
    Shape (batch, channels), float32 unless the tensor is float64.
    """
    work = tensor if tensor.dtype == torch.float64 else tensor.float()
    # Queries and keys of attention have their heads in front of the tokens.
    tokens = axis == work.ndim - 1 and work.shape[0] == batch and work.ndim in ((3, 4) if prefix_tokens else (3,))
    if aggregator == "cls":
        if not tokens or prefix_tokens < 1:
            raise ActivationError("The aggregator 'cls' needs a sequence of tokens that starts with a class token.")
        work = work[..., :1, :]
    if aggregator == "patches" and tokens:
        work = work[..., prefix_tokens:, :]
    spread = tuple(d for d in range(1, work.ndim) if d != axis)
    if aggregator == "max":
        reduced = work.amax(spread) if spread else work
        return reduced if reduced.shape[0] == batch else reduced.reshape(batch, -1, reduced.shape[1]).amax(1)
    reduced = work.mean(spread) if spread else work
    return reduced if reduced.shape[0] == batch else reduced.reshape(batch, -1, reduced.shape[1]).mean(1)


class Tap:
    """Calls a function with the tensor at a place, each time the place is passed.

    The module may run several times in a forward pass: only the call that the place names counts, so
    :meth:`rearm` must be called before each pass.
    """

    def __init__(self, module: nn.Module, place: TensorPlace, receive: Callable[[torch.Tensor], None]) -> None:
        self.place = place
        self.receive = receive
        self.calls = 0
        target = module.get_submodule(place.module)
        self.handle: RemovableHandle = (
            target.register_forward_pre_hook(self._input)
            if place.port == "input"
            else target.register_forward_hook(self._output)
        )

    def rearm(self) -> None:
        """Count calls from the beginning again."""
        self.calls = 0

    def _input(self, module: nn.Module, args: Any) -> None:
        self._pass(args[0])

    def _output(self, module: nn.Module, args: Any, out: Any) -> None:
        self._pass(out)

    def _pass(self, tensor: torch.Tensor) -> None:
        self.calls += 1
        if self.calls == self.place.call:
            self.receive(tensor)


class PlaceReader:
    """Reads the reduced activations at several places from one forward pass.

    Used as a context manager, so that its hooks never outlive it.

    Parameters
    ----------
    module
        The model, in evaluation mode.
    places
        Where to read.
    aggregator, prefix_tokens
        As for :func:`aggregate`.
    """

    def __init__(
        self, module: nn.Module, places: Sequence[TensorPlace], aggregator: Aggregator = "mean", prefix_tokens: int = 0
    ) -> None:
        self.module = module
        self.places = list(places)
        self.aggregator = aggregator
        self.prefix_tokens = prefix_tokens
        self._taps: list[Tap] = []
        self._parts: dict[int, torch.Tensor] = {}
        self._batch = 0

    def __enter__(self) -> Self:
        self._taps = [Tap(self.module, place, self._receiver(n, place)) for n, place in enumerate(self.places)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tap in self._taps:
            tap.handle.remove()
        self._taps = []

    def _receiver(self, number: int, place: TensorPlace) -> Callable[[torch.Tensor], None]:
        def receive(tensor: torch.Tensor) -> None:
            self._parts[number] = aggregate(tensor, place.axis, self._batch, self.aggregator, self.prefix_tokens)

        return receive

    def read_places(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Run a batch of shape (batch, 3, height, width) and return, per place, shape (batch, channels)."""
        self._batch, self._parts = pictures.shape[0], {}
        for tap in self._taps:
            tap.rearm()
        with torch.inference_mode():
            self.module(pictures)
        return [self._parts[number] for number in range(len(self.places))]


class ActivationReader(PlaceReader):
    """Reads the columns that the activations of all units are made of from one forward pass.

    Parameters
    ----------
    module, aggregator, prefix_tokens
        As for :class:`PlaceReader`.
    layer_map
        Which columns.
    bases
        The bases of the map's encodings, by space. Whatever their number, the network runs once.
    """

    def __init__(
        self,
        module: nn.Module,
        layer_map: LayerMap,
        aggregator: Aggregator = "mean",
        prefix_tokens: int = 0,
        bases: Mapping[str, Basis] | None = None,
    ) -> None:
        self.layer_map = layer_map
        self.bases = bases or {}
        own = [reading.place for reading in layer_map.readings]
        self._encoded = dict.fromkeys(encoding.place for encoding in layer_map.encodings)
        super().__init__(module, [*own, *self._encoded], aggregator, prefix_tokens)
        self._matrices: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] | None = None

    def read(self, pictures: torch.Tensor) -> torch.Tensor:
        """Run a batch and return the columns of the layer map.

        Parameters
        ----------
        pictures
            Shape (batch, 3, height, width), preprocessed.

        Returns
        -------
        Shape (batch, columns), float32, on the device of the model.
        """
        parts = self.read_places(pictures)
        count = len(self.layer_map.readings)
        own, encoded = parts[:count], dict(zip(self._encoded, parts[count:]))
        device = parts[0].device
        if self._matrices is None:
            self._matrices = [self._matrix(product, device) for product in self.layer_map.products]
        with torch.inference_mode():
            columns = torch.empty((len(pictures), self.layer_map.column_count), device=device)
            torch.cat(own, dim=1, out=columns[:, : sum(part.shape[1] for part in own)])
            for product, (index, weight, bias) in zip(self.layer_map.products, self._matrices):
                inputs = columns.index_select(1, index).to(weight.dtype)
                columns[:, product.start : product.start + product.width] = torch.addmm(bias, inputs, weight)
            done = dict.fromkeys(self._encoded, 0)
            for encoding in self.layer_map.encodings:
                first = done[encoding.place]
                latents = encoded[encoding.place][:, first : first + encoding.width]
                columns[:, encoding.start : encoding.start + encoding.width] = latents
                done[encoding.place] = first + encoding.width
        return columns

    def _receiver(self, number: int, place: TensorPlace) -> Callable[[torch.Tensor], None]:
        if number < len(self.layer_map.readings):
            return super()._receiver(number, place)
        bases = [self.bases[encoding.space] for encoding in self.layer_map.encodings if encoding.place == place]

        def receive(tensor: torch.Tensor) -> None:
            latents = [self.aggregate_latents(basis, tensor, place.axis, self._batch) for basis in bases]
            self._parts[number] = torch.cat(latents, dim=1)

        return receive

    def aggregate_latents(self, basis: Basis, tensor: torch.Tensor, axis: int, batch: int) -> torch.Tensor:
        """Encode a tensor at every position and reduce the latents to one number a picture, shape (batch, width).

        Pictures are taken a few at a time, so that the latents of all positions never take more than 64 MiB, or those
        of one picture if they are more.
        """
        windows = max(1, tensor.shape[0] // batch)
        size = tensor[:windows].numel() // tensor.shape[axis] * basis.card.width * 4
        step = max(1, LATENT_BYTES // size)
        return torch.cat(
            [
                aggregate(
                    basis.encode_tensor(tensor[start * windows : (start + step) * windows], axis),
                    axis, min(step, batch - start), self.aggregator, self.prefix_tokens,
                )
                for start in range(0, batch, step)
            ]
        )  # fmt: skip

    def _matrix(self, product: Product, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a product's input columns, and weights and bias with the inputs' affine map worked in."""
        module = cast(nn.Linear | nn.Conv2d, self.module.get_submodule(product.module))
        weight = module.weight.detach().double().cpu().flatten(1).T
        bias = torch.from_numpy(product.shift) @ weight
        if module.bias is not None:
            bias = bias + module.bias.detach().double().cpu()
        weight = torch.from_numpy(product.scale)[:, None] * weight
        exact = _exact_type(device)
        return torch.as_tensor(product.columns, device=device), weight.to(device, exact), bias.to(device, exact)


def unit_activations(
    columns: torch.Tensor, index: NDArray[np.int64], scale: NDArray[np.float64], shift: NDArray[np.float64]
) -> torch.Tensor:
    """Return units' activations as affine views of columns, rounded to float32 once.

    Parameters
    ----------
    columns
        Shape (batch, columns).
    index, scale, shift
        Shape (units,).

    Returns
    -------
    Shape (batch, units), float32.
    """
    exact = _exact_type(columns.device)
    own = columns.index_select(1, torch.as_tensor(index, device=columns.device)).to(exact)
    scaled = own * torch.as_tensor(scale, dtype=exact, device=columns.device)
    return (scaled + torch.as_tensor(shift, dtype=exact, device=columns.device)).float()


def _exact_type(device: torch.device) -> torch.dtype:
    """Return the precision of sums of few terms: double on a CPU, single where double is slow or missing."""
    return torch.float64 if device.type == "cpu" else torch.float32


class _Stop(Exception):
    """Ends a forward pass at a layer."""


def forward_to(module: nn.Module, place: TensorPlace) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that runs a model up to a place and returns the tensor there.

    What lies behind the place is never computed. The hook lives as long as the returned function is called:
    it is attached and removed at each call.
    """

    def run(pictures: torch.Tensor) -> torch.Tensor:
        seen: list[torch.Tensor] = []

        def receive(tensor: torch.Tensor) -> None:
            seen.append(tensor)
            raise _Stop

        tap = Tap(module, place, receive)
        try:
            module(pictures)
        except _Stop:
            pass
        finally:
            tap.handle.remove()
        if not seen:
            raise ActivationError(f"The forward pass never reached {place.port} of {place.module!r}.")
        return seen[0]

    return run


@contextmanager
def replaced(
    module: nn.Module, place: TensorPlace, change: Callable[[torch.Tensor], torch.Tensor] | None
) -> Iterator[None]:
    """Let a function change the tensor at a place in every forward pass; None changes nothing.

    What lies behind the place sees what the function returns.
    """
    if change is None:
        yield
        return
    calls = 0

    def begin(_module: nn.Module, _args: Any) -> None:
        nonlocal calls
        calls = 0

    def change_input(_module: nn.Module, args: Any) -> Any:
        nonlocal calls
        calls += 1
        return (change(args[0]), *args[1:]) if calls == place.call else None

    def change_output(_module: nn.Module, _args: Any, out: Any) -> Any:
        nonlocal calls
        calls += 1
        return change(out) if calls == place.call else None

    target = module.get_submodule(place.module)
    handles = [
        module.register_forward_pre_hook(begin),
        target.register_forward_pre_hook(change_input)
        if place.port == "input"
        else target.register_forward_hook(change_output),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
