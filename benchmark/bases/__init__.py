"""Bases: what a unit is. Neurons, a random rotation, principal components, latents of dictionaries.

A new kind is a module with two names, ``BASIS`` (a :class:`~benchmark.bases.base.Basis`) and ``LEARNER`` (a
:class:`~benchmark.bases.learning.Learner`, or None if bases of this kind are only read), and one registration below.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import BasisError, NameNotFound
from benchmark.layers import NEURON
from benchmark.registry import Registry

if TYPE_CHECKING:
    from benchmark.bases.base import Basis
    from benchmark.bases.learning import Learner


@dataclass(frozen=True)
class BasisKind:
    """A kind of basis.

    Attributes
    ----------
    module
        Where its classes are.
    sparse
        Whether it is a dictionary: its name has a width, ``topk-1024``, it has k active latents, and controls.
    told
        What it is, in a line.
    """

    module: str
    sparse: bool
    told: str

    def check_learns(self) -> None:
        """Check that bases of this kind can be fitted.

        Raises
        ------
        BasisError
            If they only come from elsewhere.
        """
        if self.learner is None:
            raise BasisError(
                f"There is nothing to fit: {self.told}. Kinds that are fitted are {', '.join(fitted_kinds())}."
            )

    @property
    def basis(self) -> type[Basis]:
        """The class of its bases."""
        found: type[Basis] = import_module(self.module).BASIS
        return found

    @property
    def learner(self) -> type[Learner] | None:
        """What fits bases of this kind; None if they come from elsewhere."""
        found: type[Learner] | None = import_module(self.module).LEARNER
        return found


KINDS: Registry[BasisKind] = Registry("kind of basis")
"""Kinds of bases by name."""

for _name, _sparse, _told in (
    (NEURON, False, "the channels of the layer"),
    ("rotation", False, "a random rotation of the channels"),
    ("pca", False, "principal components"),
    ("topk", True, "a dictionary of which k latents are active at a position"),
    ("ordered", True, "a TopK dictionary whose every prefix reconstructs"),
):
    KINDS.register(_name)(BasisKind(f"benchmark.bases.{_name}", _sparse, _told))


def fitted_kinds() -> list[str]:
    """Return the kinds that are fitted to positions."""
    return [name for name in KINDS if KINDS[name].learner is not None]


CONTROLS = {
    "frozen_decoder": "its directions stay random, and only the encoder learns",
    "soft_frozen_decoder": "its directions stay within a cosine of .8 of random ones",
    "frozen_encoder": "its encoder stays random, and only the directions learn",
    "other_seed": "it is trained from another random start",
}
"""What stands against a dictionary: the same settings with a part of it random."""


@dataclass(frozen=True)
class BasisName:
    """A name of a basis, taken apart: ``topk-1024-frozen_decoder``.

    Attributes
    ----------
    kind
        Its kind.
    width
        Number of latents; None for a basis as wide as its layer.
    control
        Empty, or one of :data:`CONTROLS`.
    """

    kind: str
    width: int | None = None
    control: str = ""

    def __str__(self) -> str:
        return "-".join(str(part) for part in (self.kind, self.width, self.control) if part)

    @property
    def original(self) -> BasisName:
        """The dictionary that a control stands against; the name itself if it is none."""
        return BasisName(self.kind, self.width)


def parse_basis(text: str) -> BasisName:
    """Take the name of a basis apart.

    Raises
    ------
    NameNotFound
        If its kind or control does not exist.
    BasisError
        If a dictionary's name has no width, or another kind's has one that it does not take.
    """
    kind, *rest = text.split("-")
    known = KINDS[kind]
    width = int(rest.pop(0)) if rest and rest[0].isdecimal() else None
    control = rest.pop(0) if rest else ""
    if control and control not in CONTROLS:
        raise NameNotFound("control of a basis", control, CONTROLS, f"It is the last part of {text!r}.")
    if rest:
        raise BasisError(f"{text!r} is no basis; write a kind, a width and a control: topk-1024-frozen_decoder.")
    if known.sparse and not width:
        raise BasisError(f"{text!r} lacks the number of latents; write it behind the kind: {kind}-1024.")
    if kind in (NEURON, "rotation") and width:
        raise BasisError(f"{text!r} has as many units as its layer has channels; write {kind!r} alone.")
    if control and not known.sparse:
        raise BasisError(f"{text!r}: only dictionaries have the control {control!r}; {kind!r} is none.")
    return BasisName(kind, width, control)


def read_basis(path: Path | str) -> Basis:
    """Read a basis from its file.

    Raises
    ------
    BasisError
        If the file can't be read, or its tensors do not fit its card.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from benchmark.bases.base import read_card

    card = read_card(Path(path))
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BasisError(f"{path} can't be read ({error}).") from None
    return KINDS[card.kind].basis(card, tensors)
