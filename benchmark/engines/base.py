"""What an engine is: somebody who does pieces of work that do not depend on one another.

A piece says what to do in paths and small values, so that it can be sent anywhere. What it works with, such as a
model, is its equipment: also a small description, which is turned into the thing itself by whoever does the piece,
once for all pieces that have the same.

Workers may be processes on other machines. It is assumed that they share the study's folder, the pool and the files
of weights with the process that hands out the pieces, under the same paths, and have the same packages. What a piece
makes that is worth keeping it writes into the study's folder, under a name that says what it was made from: whoever
does the piece again after a kill, with whatever engine, finds it there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from benchmark.errors import EngineError
from benchmark.progress import Advance

if TYPE_CHECKING:
    from typing import Self

    import torch

    from benchmark.model_card import ModelCard

Tools = TypeVar("Tools")
Result = TypeVar("Result")


class Equipment(ABC, Generic[Tools]):
    """Describes the input of pieces; equal descriptions mean the same equipment. A frozen dataclass of small values."""

    @abstractmethod
    def load(self) -> Tools:
        """Load it.

        Raises
        ------
        VimiError
            If that is not possible where the piece is to be done; the message says why.
        """


class Piece(ABC, Generic[Tools, Result]):
    """A piece of work: a frozen dataclass of paths and small values.

    Attributes
    ----------
    equipment
        What it works with.
    """

    equipment: Equipment[Tools]

    @abstractmethod
    def run(self, tools: Tools, advance: Advance) -> Result:
        """Do the piece.

        Parameters
        ----------
        tools
            What its equipment loads.
        advance
            Called with the number of steps done since the last call.

        Returns
        -------
        What it makes, small enough to be sent; what is large goes into files.
        """


class Engine(ABC):
    """Does pieces of work. As a context manager, it gives back what it holds.

    Attributes
    ----------
    name
        What ``--engine`` calls it.
    is_elsewhere
        Whether pieces are done by other processes, so that nothing in the memory of this one can be used.
    """

    name: str
    is_elsewhere: bool = False

    @abstractmethod
    def choose_device(self, name: str) -> torch.device:
        """Return the kind of device that pieces are done on: ``auto`` prefers an accelerator.

        Raises
        ------
        VimiError
            If those who do the pieces have no such device.
        """

    @abstractmethod
    def run(
        self,
        pieces: Sequence[Piece[Any, Result]],
        *,
        device: torch.device,
        advance: Advance = lambda count: None,
        tools: Mapping[Equipment[Any], Any] | None = None,
    ) -> Iterator[tuple[int, Result]]:
        """Do pieces, in any order.

        Parameters
        ----------
        pieces
            The pieces.
        device
            What :meth:`choose_device` returned; equipment asks for its type.
        advance
            Called with the number of steps done since the last call.
        tools
            What this process has loaded already; engines that are elsewhere can't use it.

        Yields
        ------
        The number of a piece in the sequence, and what it made, as soon as it is finished.

        Raises
        ------
        VimiError
            Whatever a piece raised, with the message it has wherever it is done. What is finished is kept.
        """

    def close(self) -> None:  # noqa: B027 (an engine need not hold anything)
        """Give back what the engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_sendable(card: ModelCard) -> None:
    """Check that other processes can load a model.

    Raises
    ------
    EngineError
        If it is an object of this process.
    """
    if card.weights.source.partition(":")[0] == "object":
        raise EngineError(
            f"The model {card.name} exists only in this process, so a cluster's workers can't load it. Write a "
            "function that makes it, in a module installed on every machine, and name it as MODULE:FUNCTION. Or use "
            "the local engine."
        )
