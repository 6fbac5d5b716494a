"""This process: pieces are done one after the other, with what is loaded already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.engines.base import Engine, Equipment, Piece, Result
from benchmark.progress import Advance

if TYPE_CHECKING:
    import torch


class LocalEngine(Engine):
    """Does pieces in this process, in their order."""

    name = "local"

    def choose_device(self, name: str) -> torch.device:
        """Return this machine's device of a name."""
        from benchmark.device import choose_device

        return choose_device(name)

    def run(
        self,
        pieces: Sequence[Piece[Any, Result]],
        *,
        device: torch.device,
        advance: Advance = lambda count: None,
        tools: Mapping[Equipment[Any], Any] | None = None,
    ) -> Iterator[tuple[int, Result]]:
        """Do pieces in their order; equipment that is not among the tools is loaded, and kept until another is."""
        given = tools or {}
        last: tuple[Equipment[Any], Any] | None = None
        for number, piece in enumerate(pieces):
            equipment = piece.equipment
            if equipment in given:
                held = given[equipment]
            else:
                if last is None or last[0] != equipment:
                    last = None  # what is not used any more goes before the next is loaded
                    last = (equipment, equipment.load())
                held = last[1]
            yield number, piece.run(held, advance)
