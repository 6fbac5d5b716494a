"""Eligible layers of a model: which tensors count, where they can be seen, and which are copies of others.

A *layer* is a tensor of the forward pass, read before any activation function; its channels are units. A
*reading* is a place where a tensor is reduced to one number per picture and channel. In evaluation mode the
mean of a batch norm follows from the mean of its input, channel by channel, so most normalisation layers need
no reading of their own: a layer is an affine view of *columns*, the reduced channels of the readings. Two
units with the same column rank all pictures alike (or exactly opposite), which is what the ``canonical`` unit
rule counts once. The mean over positions also commutes with a linear layer and with a convolution that looks at
one position: such a layer's columns are *products* of the columns of its input, and its wide output is not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import NameNotFound

NEURON = "neuron"
"""The basis of ordinary channels. Dictionary latents are units in another basis of the same layer."""

Kind = Literal["convolution", "normalisation", "linear", "residual sum", "branch"]
Port = Literal["input", "output"]


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor can be seen: what goes into or comes out of a module's n-th call, and its channel axis."""

    module: str
    port: Port
    axis: int
    call: int = 1


@dataclass(frozen=True)
class Reading:
    """A tensor that is reduced during the pass; its channels become columns ``start`` to ``start + width``."""

    place: TensorPlace
    start: int
    width: int


@dataclass(frozen=True)
class Encoding:
    """Latents of a basis, encoded at every position of a tensor and reduced to columns ``start`` to ``start + width``.

    Attributes
    ----------
    space
        Which basis of which layer: ``blocks.4@topk-1024``.
    """

    place: TensorPlace
    space: str
    start: int
    width: int


@dataclass(frozen=True, eq=False)
class Product:
    """Columns ``start`` to ``start + width`` that follow from earlier ones by a matrix product.

    Attributes
    ----------
    columns, scale, shift
        Shape (inputs,): the reduced input is ``scale * column + shift``.
    module
        The linear layer or convolution, whose weight and bias are applied to it.
    """

    module: str
    start: int
    width: int
    columns: NDArray[np.int64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layer:
    """An eligible layer.

    Attributes
    ----------
    name
        timm's module path; a tensor without a module of its own says what it is: ``layer1.0.add``.
    kind
        What computes it.
    columns
        Shape (width,): the column that each channel's reduced activation is made of.
    scale, shift
        Shape (width,), float64: a channel's reduced activation is ``scale * column + shift``.
    place
        Where the tensor itself can be seen.
    depth
        Position among the eligible layers in the order of the forward pass, 0 to 1.
    basis
        The basis that its units are in.
    """

    name: str
    kind: Kind
    columns: NDArray[np.int64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    place: TensorPlace
    depth: float = 0.0
    basis: str = NEURON

    @property
    def space(self) -> str:
        """Layer and basis as names of units have them: ``blocks.4``, ``blocks.4@topk-1024``."""
        return spell_space(self.name, self.basis)

    @property
    def width(self) -> int:
        """Number of channels, which is the number of units."""
        return len(self.columns)


@dataclass(frozen=True, eq=False)
class LayerMap:
    """All eligible layers of a model, in the order of the forward pass.

    Attributes
    ----------
    layers
        The eligible layers.
    readings
        What a pass has to reduce to serve all of them.
    products
        Columns that are computed from those, in order.
    encodings
        Columns of latents.
    foldable
        Pairs (convolution, batch norm) of which the second reads the first and nothing else lies between.
    unreadable
        Layers that the rule asks for but that can't be read exactly, with the reason.
    """

    layers: tuple[Layer, ...]
    readings: tuple[Reading, ...]
    products: tuple[Product, ...] = ()
    foldable: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    encodings: tuple[Encoding, ...] = ()
    _by_name: dict[str, Layer] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._by_name.update({layer.space: layer for layer in self.layers})

    def __getitem__(self, name: str) -> Layer:
        """Return a layer by name; a basis other than the neurons' stands behind it: ``blocks.4@topk-1024``.

        Raises
        ------
        NameNotFound
            If it is no eligible layer.
        """
        if name not in self._by_name:
            raise NameNotFound("eligible layer", name, self._by_name)
        return self._by_name[name]

    @property
    def unit_count(self) -> int:
        """Units in all layers, copies included."""
        return sum(layer.width for layer in self.layers)

    @property
    def column_count(self) -> int:
        """Columns of all readings and products."""
        parts: list[Reading | Product | Encoding] = [*self.readings, *self.products, *self.encodings]
        return sum(part.width for part in parts)

    def with_layer(self, layer: Layer) -> LayerMap:
        """Return the map with a further layer of neurons, which gets a reading of its own.

        Parameters
        ----------
        layer
            Its name, kind, place, depth and, by the number of its columns, its width.
        """
        if self.encodings:
            raise ValueError("Further layers are added before bases.")
        if layer.space in self._by_name:
            return self
        # Readings come before products in the columns, so the columns of products move behind the new ones.
        start = sum(reading.width for reading in self.readings)
        width = layer.width

        def moved(columns: NDArray[np.int64]) -> NDArray[np.int64]:
            return columns + width * (columns >= start)

        own = replace(layer, columns=np.arange(start, start + width), scale=np.ones(width), shift=np.zeros(width))
        return replace(
            self,
            layers=(*(replace(other, columns=moved(other.columns)) for other in self.layers), own),
            readings=(*self.readings, Reading(layer.place, start, width)),
            products=tuple(
                replace(product, start=product.start + width, columns=moved(product.columns))
                for product in self.products
            ),
            _by_name={},
        )

    def with_basis(self, layer: str, basis: str, width: int) -> LayerMap:
        """Return the map with the latents of a basis of one of its layers as further units.

        Raises
        ------
        NameNotFound
            If it has no such layer.
        """
        host, start = self[layer], self.column_count
        columns = np.arange(start, start + width, dtype=np.int64)
        own = replace(host, columns=columns, scale=np.ones(width), shift=np.zeros(width), basis=basis)
        encoding = Encoding(host.place, own.space, start, width)
        return replace(self, layers=(*self.layers, own), encodings=(*self.encodings, encoding), _by_name={})

    def owners(self) -> list[tuple[str, int]]:
        """Return, for each column, the space and index of the unit that represents its rank-equivalence class.

        A column that no unit uses has an empty name.
        """
        owners = [("", number) for number in range(self.column_count)]
        for name, channels in self.representatives().items():
            columns = self[name].columns
            for channel in channels.tolist():
                owners[int(columns[channel])] = (name, channel)
        return owners

    def representatives(self) -> dict[str, NDArray[np.int64]]:
        """Return, by space, the indices of the units that represent their rank-equivalence class.

        The representative of a class is its first unit in the order of the forward pass.
        """
        taken = np.zeros(self.column_count, dtype=bool)
        result: dict[str, NDArray[np.int64]] = {}
        for layer in self.layers:
            first = np.unique(layer.columns, return_index=True)[1]
            first = np.sort(first[~taken[layer.columns[first]]])
            taken[layer.columns] = True
            result[layer.space] = first
        return result


def spell_space(layer: str, basis: str) -> str:
    """Return the name of a basis of a layer; the neurons' needs no mention."""
    return layer if basis == NEURON else f"{layer}@{basis}"
