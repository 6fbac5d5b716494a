"""What the tests compare layers with: every module's input and output, taken by hooks of its own.

Nothing here uses vimi's tracing or reading: a layer's tensor is looked up under the name of its module, a residual
sum is added up from its parts, and a normalisation that is fused with its activation is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

Keep = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Recording:
    """The first input and the first output of every module, by name."""

    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give normalisations and layer scales random parameters of either sign, as training does.

    Scales keep away from zero and shifts are positive, so that no channel dies behind a rectifier.
    """
    generator = torch.Generator().manual_seed(seed)

    def fill(tensor: torch.Tensor, low: float, high: float, signed: bool = False) -> None:
        values = torch.rand(tensor.shape, generator=generator) * (high - low) + low
        signs = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
        tensor.data.copy_(values * signs if signed else values)

    for inner in module.modules():
        if isinstance(inner, nn.modules.batchnorm._BatchNorm):
            fill(inner.running_mean, -0.2, 0.2)
            fill(inner.running_var, 0.5, 2.0)
        if isinstance(inner, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm):
            fill(inner.weight, 0.5, 1.5, signed=True)
            fill(inner.bias, 0.2, 0.6)
        gamma = getattr(inner, "gamma", None)
        if isinstance(gamma, nn.Parameter):
            fill(gamma, 0.5, 1.5, signed=True)
    return module.eval().requires_grad_(False)


def record(module: nn.Module, pictures: torch.Tensor, keep: Keep = torch.clone) -> Recording:
    """Run pictures through a model and keep what each module was given and what it gave, at that moment."""
    recording = Recording()

    def before(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[object, ...]) -> None:
            if args and isinstance(args[0], torch.Tensor):
                recording.inputs.setdefault(name, keep(args[0].detach()))

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[object, ...], out: object) -> None:
            if isinstance(out, torch.Tensor):
                recording.outputs.setdefault(name, keep(out.detach()))

        return hook

    handles = []
    for name, inner in module.named_modules():
        handles += [inner.register_forward_pre_hook(before(name)), inner.register_forward_hook(after(name))]
    with torch.no_grad():
        module(pictures)
    for handle in handles:
        handle.remove()
    return recording


def layer_tensor(module: nn.Module, recording: Recording, name: str) -> torch.Tensor:
    """Return the tensor of a layer, before any activation function."""
    parent, _, last = name.rpartition(".")
    if last.startswith("add"):
        return _residual_sum(module, recording, parent, last)
    layer = module.get_submodule(name)
    if isinstance(layer, nn.BatchNorm2d) and isinstance(getattr(layer, "act", nn.Identity()), nn.Identity) is False:
        given = recording.inputs[name]
        return functional.batch_norm(
            given, layer.running_mean, layer.running_var, layer.weight, layer.bias, False, 0.0, layer.eps
        )
    return recording.outputs[name]


def _residual_sum(module: nn.Module, recording: Recording, block: str, which: str) -> torch.Tensor:
    """Return what a block adds up: its branch and its shortcut."""
    inside = dict(module.get_submodule(block).named_children())
    if which in ("add1", "add2"):  # two sums in a row: attention, then the MLP
        total = recording.inputs[block] + recording.outputs[f"{block}.drop_path1"]
        return total if which == "add1" else total + recording.outputs[f"{block}.drop_path2"]
    branch = next(part for part in ("drop_path", "bn3", "bn2") if part in inside)
    shortcut = next((part for part in ("downsample", "shortcut") if part in inside), None)
    given = recording.inputs[block] if shortcut is None else recording.outputs[f"{block}.{shortcut}"]
    return recording.outputs[f"{block}.{branch}"] + given


def channel_axis(module: nn.Module, name: str, tensor: torch.Tensor) -> int:
    """Return where the channels of a layer's tensor are: last behind linear layers and plain layer norms."""
    layer = None if name.rpartition(".")[2].startswith("add") else module.get_submodule(name)
    if tensor.ndim == 3 or isinstance(layer, nn.Linear):
        return tensor.ndim - 1
    return tensor.ndim - 1 if isinstance(layer, nn.LayerNorm) and "2d" not in type(layer).__name__ else 1


def mean_per_channel(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the mean over everything but pictures and channels, shape (batch, channels)."""
    spread = [d for d in range(1, tensor.ndim) if d != axis]
    return tensor.double().mean(spread) if spread else tensor.double()
