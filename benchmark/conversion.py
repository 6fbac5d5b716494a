"""Turning a checkpoint that holds more than weights into a safetensors file, without running code from it.

torch reads checkpoints with an unpickler that calls only what it knows to be harmless. Whatever else a file
asks for (optimisers, argument records, classes of the training script) is answered here with inert stand-ins,
so that the weights can be taken out and the rest falls away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from benchmark.errors import WeightsError


class _Inert:
    """Stands in for anything: takes every argument and every state, and does nothing with them."""

    def __new__(cls, *args: Any, **options: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __call__(self, *args: Any, **options: Any) -> _Inert:
        return self


def convert_checkpoint(source: Path, target: Path) -> int:
    """Write the weights of a checkpoint to a safetensors file.

    Of several dictionaries of tensors in the checkpoint (weights, moving averages, optimiser state) the one
    with most tensors is taken; names are kept.

    Returns
    -------
    How many tensors were written.

    Raises
    ------
    WeightsError
        If the file is no checkpoint or holds no weights.
    """
    try:
        asked_for = get_unsafe_globals_in_checkpoint(str(source))
        stand_ins = [(type("_Inert", (_Inert,), {}), name) for name in asked_for]
        with safe_globals(stand_ins):  # type: ignore[arg-type]
            loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{source} can't be converted: {reason}") from None
    weights = max(_dictionaries(loaded), key=len, default={})
    if not weights:
        raise WeightsError(f"{source} holds no dictionary of tensors.")
    save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, target)
    return len(weights)


def _dictionaries(value: Any) -> list[dict[str, torch.Tensor]]:
    """Return the tensors of every dictionary inside a value."""
    if not isinstance(value, dict):
        return []
    tensors = {str(name): item for name, item in value.items() if isinstance(item, torch.Tensor)}
    inner = [found for item in value.values() for found in _dictionaries(item)]
    return ([tensors] if tensors else []) + inner
