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

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import NameNotFound

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
    """

    name: str
    kind: Kind
    columns: NDArray[np.int64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    place: TensorPlace
    depth: float = 0.0

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
    _by_name: dict[str, Layer] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._by_name.update({layer.name: layer for layer in self.layers})

    def __getitem__(self, name: str) -> Layer:
        """Return a layer by name.

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
        return sum(r.width for r in self.readings) + sum(p.width for p in self.products)

    def owners(self) -> list[tuple[str, int]]:
        """Return, for each column, the layer and channel that represent its rank-equivalence class.

        A column that no unit uses has an empty layer name.
        """
        owners = [("", number) for number in range(self.column_count)]
        for name, channels in self.representatives().items():
            columns = self[name].columns
            for channel in channels.tolist():
                owners[int(columns[channel])] = (name, channel)
        return owners

    def representatives(self) -> dict[str, NDArray[np.int64]]:
        """Return the channels of each layer that represent their rank-equivalence class.

        The representative of a class is its first unit in the order of the forward pass.
        """
        taken = np.zeros(self.column_count, dtype=bool)
        result: dict[str, NDArray[np.int64]] = {}
        for layer in self.layers:
            first = np.unique(layer.columns, return_index=True)[1]
            first = np.sort(first[~taken[layer.columns[first]]])
            taken[layer.columns] = True
            result[layer.name] = first
        return result
