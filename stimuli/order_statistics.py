"""Exact extremes of many rankings at once, from a stream.

Pictures are ordered by (activation, tie key), which is a total order: no two pictures ever compare equal, so the
extremes of a set do not depend on how the set was cut into pieces, nor on the order of the pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.randomness import Keys, tie_keys

TieKeys = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.generic]]
"""Gives the tie keys of units (rows) and places of pictures (rows x columns)."""


def content_ties(unit_keys: Keys, picture_keys: Keys) -> TieKeys:
    """Order ties by a seeded hash of unit and picture content."""

    def keys(units: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.generic]:
        return tie_keys(unit_keys[units][:, None], picture_keys[places])

    return keys


def place_ties(units: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.generic]:
    """Order ties by the picture's place in the pool, as the protocol of 2023 does."""
    return places


@dataclass(frozen=True)
class Extremes:
    """The most extreme pictures of every unit, on one side.

    Attributes
    ----------
    values
        Shape (units, count), float32; the most extreme first.
    places
        Shape (units, count), int32: the pictures' places in the pool.
    """

    values: NDArray[np.float32]
    places: NDArray[np.int32]


class ExtremeTracker:
    """Keeps the ``count`` largest and the ``count`` smallest activations of every unit, exactly, from a stream.

    Activations are gathered in a buffer and merged when it is full; memory is (2 x count + buffer) x units.

    Parameters
    ----------
    units
        Number of units.
    count
        How many extremes to keep on either side.
    ties
        Gives tie keys.
    buffer
        Pictures gathered between two merges; as many as make 256 MiB if not given, 1,024 at most.
    device
        Where merging happens.
    """

    def __init__(
        self, units: int, count: int, *, ties: TieKeys, buffer: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.units = units
        self.count = count
        self.ties = ties
        self.device = torch.device(device)
        self._buffer = torch.empty(
            (units, buffer or max(1, min(1024, 2**26 // max(units, 1)))), dtype=torch.float32, device=self.device
        )
        empty = (
            torch.empty((units, 0), dtype=torch.float32, device=self.device),
            torch.empty((units, 0), dtype=torch.int32, device=self.device),
        )
        self._kept = {False: empty, True: empty}  # by whether the side is that of the largest
        self._waiting: list[int] = []  # places of the pictures in the buffer

    def add(self, values: torch.Tensor, places: Sequence[int]) -> None:
        """Add pictures.

        Parameters
        ----------
        values
            Shape (pictures, units).
        places
            Places of the pictures.
        """
        places = list(places)
        while places:
            begin = len(self._waiting)
            taken = places[: self._buffer.shape[1] - begin]
            # Adding zero turns a negative zero, which compares equal but prints and hashes otherwise.
            self._buffer[:, begin : begin + len(taken)] = values[: len(taken)].T + 0.0
            self._waiting += taken
            places, values = places[len(taken) :], values[len(taken) :]
            if len(self._waiting) == self._buffer.shape[1]:
                self._merge()

    def add_extremes(self, low: Extremes, high: Extremes) -> None:
        """Add what another tracker has kept."""
        self._merge()
        for largest, extremes in ((False, low), (True, high)):
            values, places = self._kept[largest]
            self._kept[largest] = self._select(
                torch.cat([values, torch.from_numpy(extremes.values).to(self.device)], dim=1),
                torch.cat([places, torch.from_numpy(extremes.places).to(self.device)], dim=1),
                largest,
            )

    def _merge(self) -> None:
        if not self._waiting:
            return
        new = self._buffer[:, : len(self._waiting)]
        places = torch.tensor(self._waiting, dtype=torch.int32, device=self.device).expand(self.units, -1)
        self._waiting = []
        for largest, (kept, kept_places) in self._kept.items():
            self._kept[largest] = self._select(
                torch.cat([kept, new], dim=1), torch.cat([kept_places, places], dim=1), largest
            )

    def _select(self, values: torch.Tensor, places: torch.Tensor, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the extremes among the candidates, in any order."""
        width = values.shape[1]
        if width <= self.count:
            return values, places
        index = self._partition(values, largest)
        inside, outside = index[:, : self.count], index[:, self.count :]
        kept = values.gather(1, inside)
        edge = kept.amin(1) if largest else kept.amax(1)
        # Where the last one in and the first one out are equal, their tie keys decide.
        rows = (values.gather(1, outside)[:, 0] == edge).nonzero()[:, 0].cpu()
        if not len(rows):
            return kept, places.gather(1, inside)
        inside = inside.clone()
        for part in torch.split(rows, 4096):
            there = part.to(self.device)
            order = self._order(part.numpy(), values[there].cpu().numpy(), places[there].cpu().numpy(), largest)
            inside[there] = torch.from_numpy(order[:, : self.count].copy()).to(self.device)
        return values.gather(1, inside), places.gather(1, inside)

    def _partition(self, values: torch.Tensor, largest: bool) -> torch.Tensor:
        """Return indices of the extremes, and behind them the index of the most extreme of the others."""
        width, count = values.shape[1], self.count
        if self.device.type != "cpu":
            return values.topk(count + 1, dim=1, largest=largest).indices
        result = np.empty((len(values), count + 1), dtype=np.int64)
        array = values.numpy()

        def part(rows: slice) -> None:
            # numpy partitions with vector instructions where torch sorts.
            if largest:
                found = np.argpartition(array[rows], width - count - 1, axis=1)
                result[rows] = found[:, ::-1][:, [*range(count), count]]
            else:
                result[rows] = np.argpartition(array[rows], count, axis=1)[:, : count + 1]

        blocks = [slice(start, start + 2048) for start in range(0, len(values), 2048)]
        with ThreadPoolExecutor(torch.get_num_threads()) as executor:
            list(executor.map(part, blocks))
        return torch.from_numpy(result)

    def _order(
        self, units: NDArray[np.int64], values: NDArray[np.float32], places: NDArray[np.int32], largest: bool
    ) -> NDArray[np.int64]:
        """Return, for each unit, the order of its candidates, the most extreme first."""
        order = np.lexsort((self.ties(units, places.astype(np.int64)), values), axis=-1)
        # On the largest side the largest tie key is the most extreme, too: one order, read from its other end.
        return np.asarray(order[:, ::-1] if largest else order)

    def result(self, in_order: bool = True) -> tuple[Extremes, Extremes]:
        """Return the smallest and the largest, the most extreme first; unordered if only their sets matter."""
        self._merge()
        low, high = (self._finish(largest, in_order) for largest in (False, True))
        return low, high

    def _finish(self, largest: bool, in_order: bool) -> Extremes:
        values, places = self._kept[largest]
        if in_order:
            values, index = values.sort(dim=1, descending=largest)
            places = places.gather(1, index)
            tied = (values[:, 1:] == values[:, :-1]).any(dim=1).nonzero()[:, 0].cpu()
            for rows in torch.split(tied, 4096):
                there = rows.to(self.device)
                order = self._order(rows.numpy(), values[there].cpu().numpy(), places[there].cpu().numpy(), largest)
                places[there] = places[there].gather(1, torch.from_numpy(order.copy()).to(self.device))
        return Extremes(np.ascontiguousarray(values.cpu().numpy()), np.ascontiguousarray(places.cpu().numpy()))


def full_order(column: NDArray[np.float32], unit: int, ties: TieKeys) -> NDArray[np.int64]:
    """Return the places of all pictures in ascending order of (activation, tie key).

    Parameters
    ----------
    column
        Shape (pictures,): a unit's activations.
    unit
        The unit's row, for its tie keys.
    ties
        Gives tie keys.
    """
    places = np.arange(len(column), dtype=np.int64)
    keys = ties(np.array([unit]), places[None, :])[0]
    return np.asarray(np.lexsort((keys, column + np.float32(0.0))))
