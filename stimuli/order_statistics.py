"""Exact extremes of many rankings at once, from a stream.

Pictures are ordered by (activation, tie key), which is a total order: no two pictures ever compare equal, so the
extremes of a set do not depend on how the set was cut into pieces, nor on the order of the pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Keeps the ``count`` largest (or smallest) activations of every unit, exactly, from a stream.

    Activations are gathered in a buffer and merged when it is full; memory is (count + buffer) x units.

    Parameters
    ----------
    units
        Number of units.
    count
        How many extremes to keep.
    largest
        Which side.
    ties
        Gives tie keys.
    buffer
        Pictures gathered between two merges.
    device
        Where merging happens.
    """

    def __init__(
        self,
        units: int,
        count: int,
        *,
        largest: bool,
        ties: TieKeys,
        buffer: int = 256,
        device: torch.device | str = "cpu",
    ) -> None:
        self.count = count
        self.largest = largest
        self.ties = ties
        self.buffer = max(buffer, 1)
        self.device = torch.device(device)
        # Kept as "larger is more extreme": the other side is stored with its sign turned.
        self._values = torch.empty((units, 0), dtype=torch.float32, device=self.device)
        self._places = torch.empty((units, 0), dtype=torch.int32, device=self.device)
        self._waiting: list[torch.Tensor] = []
        self._waiting_places: list[torch.Tensor] = []
        self._waiting_count = 0

    def add(self, values: torch.Tensor, places: Sequence[int]) -> None:
        """Add pictures.

        Parameters
        ----------
        values
            Shape (units, pictures).
        places
            Places of the pictures.
        """
        # Adding zero turns a negative zero, which compares equal but prints and hashes otherwise.
        self._waiting.append((values if self.largest else -values) + 0.0)
        self._waiting_places.append(torch.tensor(places, dtype=torch.int32, device=self.device))
        self._waiting_count += len(places)
        if self._waiting_count >= self.buffer:
            self._merge()

    def add_extremes(self, extremes: Extremes) -> None:
        """Add what another tracker has kept."""
        values = torch.from_numpy(extremes.values).to(self.device)
        self._merge()
        self._take(
            torch.cat([self._values, (values if self.largest else -values) + 0.0], dim=1),
            torch.cat([self._places, torch.from_numpy(extremes.places).to(self.device)], dim=1),
        )

    def _merge(self) -> None:
        if not self._waiting:
            return
        values = torch.cat([self._values, *self._waiting], dim=1)
        new = torch.cat(self._waiting_places).expand(values.shape[0], -1)
        places = torch.cat([self._places, new], dim=1)
        self._waiting, self._waiting_places, self._waiting_count = [], [], 0
        self._take(values, places)

    def _take(self, values: torch.Tensor, places: torch.Tensor) -> None:
        """Keep the extremes of the candidates."""
        if values.shape[1] <= self.count:
            self._values, self._places = values, places
            return
        top, index = values.topk(self.count + 1, dim=1)
        index = index[:, : self.count].clone()
        # Where the last one in and the first one out are equal, their tie keys decide.
        for rows in (top[:, -1] == top[:, -2]).nonzero()[:, 0].cpu().split(4096):
            there = rows.to(self.device)
            order = self._order(rows.numpy(), values[there].cpu().numpy(), places[there].cpu().numpy())
            index[there] = torch.from_numpy(order[:, : self.count].copy()).to(self.device)
        self._values, self._places = values.gather(1, index), places.gather(1, index)

    def _order(
        self, units: NDArray[np.int64], values: NDArray[np.float32], places: NDArray[np.int32]
    ) -> NDArray[np.int64]:
        """Return, for each unit, the order of its candidates, the most extreme first."""
        ties = self.ties(units, places.astype(np.int64))
        # lexsort is ascending; on the largest side the largest tie key is the most extreme, too.
        if self.largest:
            return np.asarray(np.lexsort((ties, values), axis=-1)[:, ::-1])
        return np.asarray(np.lexsort((ties, -values), axis=-1))

    def result(self, in_order: bool = True) -> Extremes:
        """Return the extremes, the most extreme first; without that order if only their set matters."""
        self._merge()
        values, places = self._values, self._places
        if in_order:
            values, index = values.sort(dim=1, descending=True)
            places = places.gather(1, index)
            for rows in (values[:, 1:] == values[:, :-1]).any(dim=1).nonzero()[:, 0].cpu().split(4096):
                there = rows.to(self.device)
                order = self._order(rows.numpy(), values[there].cpu().numpy(), places[there].cpu().numpy())
                places[there] = places[there].gather(1, torch.from_numpy(order.copy()).to(self.device))
        kept = values.cpu().numpy()
        return Extremes(np.ascontiguousarray(kept if self.largest else -kept + 0.0), places.cpu().numpy())


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
