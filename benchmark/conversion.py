"""Turning a checkpoint that holds more than weights into a safetensors file, without running code from it.

torch reads checkpoints with an unpickler that calls only what it knows to be harmless. Whatever else a file
asks for (optimisers, argument records, classes of the training script) is answered here with inert stand-ins,
so that the weights can be taken out and the rest falls away.
"""

from __future__ import annotations

import pickletools
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from benchmark.errors import WeightsError
from benchmark.storage import write_atomically

LEGACY_PICKLES = 5
"""Pickles at the beginning of a checkpoint in the format of torch before 1.6."""

FORMER_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""What the pickles of checkpoints still call two of Python's modules."""

OF_WEIGHTS = re.compile(r"torch\.\w+Storage|torch\._utils\._rebuild_\w+|collections\.OrderedDict")
"""What every checkpoint asks for."""


class _Inert:
    """Stands in for anything: takes every argument and every state, and does nothing with them.

    Attributes
    ----------
    container
        What is made instead of the stand-in itself, where the file goes on to fill it.
    inner_state
        What the file says that the object's attributes are: of a pickled network, where its weights are.
    """

    container: type[Any] | None = None
    inner_state: Mapping[str, Any] = MappingProxyType({})

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return super().__new__(cls) if cls.container is None else cls.container()

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.inner_state = state

    def __call__(self, *args: Any, **options: Any) -> _Inert:
        return self

    def __eq__(self, other: object) -> bool:
        # torch calls only what is among the objects it was given: what a stand-in made passes for its class.
        return other is self or other is type(self)

    __hash__ = object.__hash__


def convert_checkpoint(source: Path, target: Path) -> int:
    """Write the weights of a checkpoint to a safetensors file.

    Of several dictionaries of tensors in the checkpoint (weights, moving averages, optimiser state) the one
    with most tensors is taken; names are kept. A network that was pickled whole counts as the dictionary of its
    parameters and buffers.

    Returns
    -------
    How many tensors were written.

    Raises
    ------
    WeightsError
        If the file is no checkpoint or holds no weights.
    StorageError
        If the target can't be written.
    """
    try:
        loaded = _load_with_stand_ins(source, unknown_names(source))
    except Exception as error:
        raise WeightsError(f"{source} can't be converted: {_reason(error)}") from None
    weights = max(_dictionaries(loaded), key=len, default={})
    if not weights:
        raise WeightsError(
            f"{source} holds neither a dictionary of tensors nor a network whose weights vimi can find. On the "
            "machine that made it, save the weights alone: torch.save(network.state_dict(), FILE)."
        )
    contents = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    write_atomically(target, lambda unfinished: save_file(contents, unfinished))
    return len(weights)


def unknown_names(source: Path) -> set[str]:
    """Return the names of all objects that a checkpoint asks for beyond weights, without creating any.

    Raises
    ------
    ValueError
        If the file is no checkpoint.
    """
    try:
        return set(get_unsafe_globals_in_checkpoint(str(source)))
    except (ValueError, LookupError):
        pass  # no archive: the format of torch before 1.6, five pickles in a row
    found: set[str] = set()
    with source.open("rb") as file:
        for _ in range(LEGACY_PICKLES):
            names = [str(argument) for code, argument, _ in pickletools.genops(file) if code.name == "GLOBAL"]
            for module, _, name in (line.partition(" ") for line in names):
                found.add(f"{FORMER_MODULES.get(module, module)}.{name}")
    return {name for name in found if not OF_WEIGHTS.fullmatch(name)}


def _load_with_stand_ins(source: Path, names: set[str]) -> Any:
    """Load a checkpoint with inert objects instead of unknown ones.

    What is filled like a dictionary or a list must be one, to torch's unpickler: which stand-ins those are shows
    only on the way, so loading begins anew whenever one more is known.
    """
    stand_ins: dict[str, type[_Inert]] = {
        name: type(f"StandIn{number}", (_Inert,), {}) for number, name in enumerate(sorted(names))
    }
    while True:
        try:
            with safe_globals([(stand_in, name) for name, stand_in in stand_ins.items()]):
                return torch.load(source, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            refused = re.search(r"Can only (append|extend|SETITEM).*\bStandIn(\d+)\b", str(error))
            if refused is None:
                raise
            name = sorted(names)[int(refused[2])]
            stand_ins[name].container = OrderedDict if refused[1] == "SETITEM" else list


def _weights_of(network: _Inert, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a pickled network's parameters and buffers as its ``state_dict`` would name them."""
    state = network.inner_state
    unsaved = state.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers"):
        tensors = state.get(kind)
        for name, tensor in tensors.items() if isinstance(tensors, dict) else ():
            kept = kind == "_parameters" or not (isinstance(unsaved, set | list) and name in unsaved)
            if kept and isinstance(tensor, torch.Tensor):
                yield f"{prefix}{name}", tensor.detach()
    inner = state.get("_modules")
    for name, module in inner.items() if isinstance(inner, dict) else ():
        if isinstance(module, _Inert):
            yield from _weights_of(module, f"{prefix}{name}.")


def _reason(error: Exception) -> str:
    """Return what torch found wrong with a checkpoint, without its advice."""
    lines = [line.removeprefix("WeightsUnpickler error:").strip() for line in str(error).splitlines()]
    advice = ("Weights only load failed", "Check the documentation", "Please file an issue", "(1)", "(2)")
    return next((line for line in lines if line and not line.startswith(advice)), type(error).__name__)


def _dictionaries(value: Any) -> list[dict[str, torch.Tensor]]:
    """Return the tensors of every dictionary inside a value, and those of every network."""
    if isinstance(value, _Inert):
        weights = dict(_weights_of(value, ""))
        return [weights] if weights else []
    if not isinstance(value, dict):
        return []
    tensors = {str(name): item for name, item in value.items() if isinstance(item, torch.Tensor)}
    inner = [found for item in value.values() for found in _dictionaries(item)]
    return ([tensors] if tensors else []) + inner
