"""Finding a model's eligible layers by running it once and watching what happens.

The rule, for any model: inside the repeated blocks, every convolution, normalisation, linear layer and
residual sum, read before any activation; no stem, head or downsampling. A card may name other layers by
patterns (``blocks.*.mlp.fc1``). Nothing is looked up by architecture: the forward pass is traced with every
torch function intercepted, so that

- a residual sum is found although no module computes it, together with the module that sees it next;
- a normalisation fused with its activation is read in front of the activation;
- channels are followed through batch norms, concatenations, exact average pooling, layer scales, linear layers
  and convolutions of one position, which says whose mean follows from whose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.overrides import TorchFunctionMode

from benchmark.layers import Kind, Layer, LayerMap, Port, Product, Reading, TensorPlace
from benchmark.protocol import Aggregator

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
TIMM_NORMALISATIONS = ("RmsNorm", "SimpleNorm", "FrozenBatchNorm")
"""Beginnings of the class names of timm's normalisations that derive from none of torch's."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
CLASSIFIERS = ("classifier", "logits", "fc")
"""Parts of module names that say: not the body of a network."""
ASIDE = ("downsample", "shortcut", "skip", "transition", "stem", "head")
"""Parts of module names that say: not on the main path of a repeated block."""

UNSEEN_SUM = (
    "no module sees this sum before it is changed. To have it read, let it pass an nn.Identity() of its own in the "
    "block's forward pass"
)
RUN_TWICE = "its module runs more than once in a forward pass. To have it read, give each use a module of its own"
"""Why a layer that the rule asks for can't be read, and what its author can do."""

BATCH = 2
"""Pictures in the traced batch: two, so that the batch axis can be told from an axis of length one."""

_SAME = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "contiguous", "to",
         "float", "clone", "detach", "identity"}  # fmt: skip
_MOVED = {"permute", "transpose", "swapaxes", "flatten", "reshape", "view", "unflatten"}
_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
_PRODUCTS = {"mul", "mul_", "__mul__", "__imul__", "__rmul__", "multiply"}


def kind_of(module: nn.Module) -> Kind | None:
    """Return what a module computes, if it is a convolution, normalisation or linear layer."""
    if isinstance(module, CONVOLUTIONS):
        return "convolution"
    if isinstance(module, NORMALISATIONS) or type(module).__name__.startswith(TIMM_NORMALISATIONS):
        return "normalisation"
    if isinstance(module, nn.Linear):
        return "linear"
    return None


def find_blocks(model: nn.Module) -> list[str]:
    """Return the paths of a model's repeated blocks.

    A block is a member of a numbered series (``layer1.0``, ``blocks.3``, ``denseblock2.denselayer7``) with at
    least two convolutions or linear layers inside; of nested series the innermost counts. Numbered members
    of lists are preferred to numbered names.

    A model without such blocks may still have a structure: a series whose members are bare containers (ConvMixer's
    ``blocks.3``), or one that is a plain row of layers (VGG's ``features``). The first kind that a model has counts.
    """
    return _modules_in_series(model) or _modules_in_series(model, containers=True) or _plain_rows(model)


def _plain_rows(model: nn.Module) -> list[str]:
    """Return the lists of a model that are rows of layers: with at least two convolutions among their own members."""
    return [
        name
        for name, module in model.named_modules()
        if name
        and type(module) in CONTAINERS
        and not any(word in part for part in name.split(".") for word in (*ASIDE, *CLASSIFIERS))
        and sum(kind_of(member) == "convolution" for member in module.children()) >= 2
    ]


def _modules_in_series(model: nn.Module, *, containers: bool = False) -> list[str]:
    """Return the members of numbered series: modules with a class of their own, or else bare containers."""
    series: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        parts = name.split(".")
        if not name or kind_of(module) or not re.search(r"\d", parts[-1]):
            continue
        if (type(module) in CONTAINERS) is not containers:
            continue
        if any(word in part for part in parts for word in ASIDE):
            continue
        if sum(kind_of(inner) in ("convolution", "linear") for inner in module.modules()) < 2:
            continue
        series.setdefault(re.sub(r"\d+[a-z]?", "#", name), []).append(name)
    repeated = {name for members in series.values() if len(members) >= 2 for name in members}
    numbered = {name for name in repeated if name.rpartition(".")[2].isdigit()}
    chosen = numbered or repeated
    return [
        name
        for name, _ in model.named_modules()
        if name in chosen and not any(other.startswith(name + ".") for other in chosen)
    ]


def _stem_of_rows(model: nn.Module, blocks: Sequence[str]) -> set[str]:
    """Return the convolution that sees the pixels, and what normalises it, if they lie in a plain row of layers."""
    rows = set(_plain_rows(model)) & set(blocks)
    layers = [(name, kind) for name, module in model.named_modules() if (kind := kind_of(module))]
    stem = layers[:1] + list(takewhile(lambda layer: layer[1] == "normalisation", layers[1:]))
    return {name for name, _ in stem if name.rpartition(".")[0] in rows}


def trace_layers(
    model: nn.Module,
    input_size: int,
    patterns: Sequence[str] = (),
    aggregator: Aggregator = "mean",
) -> LayerMap:
    """Find the eligible layers of a model by tracing one forward pass.

    Parameters
    ----------
    model
        The model, in evaluation mode and on the CPU.
    input_size
        Height and width of its input, in pixels.
    patterns
        Module paths with ``*`` for any one part of a path; empty for the general rule.
    aggregator
        How activations become one number. Only the means commute with affine maps; with ``max`` every layer
        gets its own reading and only identical tensors count as copies.

    Raises
    ------
    ValueError
        If the model is in training mode.
    """
    if model.training:
        raise ValueError("Layers are traced in evaluation mode; call model.eval() first.")
    tracer = _Tracer(model, patterns, affine=aggregator != "max")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn((BATCH, 3, input_size, input_size), generator=generator, dtype=dtype)
    handles = [
        handle
        for module in model.modules()
        for handle in (
            module.register_forward_pre_hook(tracer.enter),
            module.register_forward_hook(tracer.leave),
        )
    ]
    try:
        with torch.no_grad(), tracer:
            model(pictures)
    finally:
        for handle in handles:
            handle.remove()
    return tracer.result()


@dataclass(frozen=True)
class _Columns:
    """What is known of a tensor's channels: their axis, and the columns that they are affine views of."""

    axis: int
    index: NDArray[np.int64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def through(self, scale: NDArray[np.float64], shift: NDArray[np.float64] | float) -> _Columns:
        """Return the columns after a further affine map."""
        with np.errstate(invalid="ignore"):  # weights that are not finite are named when activations are read
            return replace(self, scale=self.scale * scale, shift=self.shift * scale + shift)


@dataclass
class _Sum:
    """A residual sum that waits for a module to see it."""

    block: str
    tensor: torch.Tensor
    axis: int | None


class _Tracer(TorchFunctionMode):
    """Watches one forward pass."""

    def __init__(self, model: nn.Module, patterns: Sequence[str], affine: bool) -> None:
        super().__init__()
        self.affine = affine
        self.names = {module: name for name, module in model.named_modules()}
        self.blocks = find_blocks(model)
        self.stem = _stem_of_rows(model, self.blocks)
        self.patterns = [re.compile(re.escape(p).replace(r"\*", r"[^.]*") + r"\Z") for p in patterns]
        self.stack: list[nn.Module] = []
        self.kept: list[Any] = []  # every tensor seen: as long as one lives, its id belongs to it alone
        self.columns: dict[int, _Columns] = {}
        self.axes: dict[int, int] = {}
        self.seen_at: dict[int, TensorPlace] = {}  # a module output that a reading could be made of
        self.inputs: dict[nn.Module, set[int]] = {}
        self.aside: set[int] = set()
        self.sums: set[int] = set()
        self.waiting: list[_Sum] = []
        self.sum_counts: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self.readings: list[Reading] = []
        self.products: list[Product] = []
        self.fed: dict[str, _Columns] = {}  # what went into linear layers and one-position convolutions
        self.layers: list[Layer] = []
        self.named: set[str] = set()
        self.foldable: list[tuple[str, str]] = []
        self.unreadable: list[tuple[str, str]] = []
        self.width = 0

    # ---------------------------------------------------------------- functions

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        source = args[0] if args and isinstance(args[0], torch.Tensor) else None
        # Known before the call: an in-place function returns its own argument, then another value.
        before = self.columns.get(id(source)) if source is not None else None
        parts = self._parts(args, kwargs) if name in ("cat", "concat", "concatenate") else None
        out = func(*args, **kwargs)
        if not isinstance(out, torch.Tensor) or not out.is_floating_point():
            return out
        self.kept.append(out)
        axis = self._axis_of(args, out)
        known: _Columns | None = None
        if name in _SAME:
            known = before
        elif name in _MOVED and source is not None:
            axis = _moved_axis(name, args, source, out, self.axes.get(id(source)))
            # Flattening into the batch keeps each picture's positions together; a reshape need not.
            together = out.shape[0] == source.shape[0] or (name == "flatten" and out.shape[0] % BATCH == 0)
            if before is not None and axis is not None and together:
                known = replace(before, axis=axis)
            self._follow_sum(source, out, axis)
        elif name == "batch_norm":
            known = self._batch_norm(before)
        elif parts is not None:
            known = self._concatenate(parts, out, kwargs.get("dim", args[1] if len(args) > 1 else 0))
        elif name == "avg_pool2d" and source is not None and self.affine:
            known = before if _pools_exactly(source, out, args, kwargs) else None
        elif name in _PRODUCTS and source is not None and self.affine:
            known = self._scale_channels(before, source, args)
        elif name in _SUMS and source is not None:
            self._sum(args, out, axis)
        if known is not None:
            self.columns[id(out)] = known
            axis = known.axis
        else:
            self.columns.pop(id(out), None)
        if axis is not None and axis < out.ndim:
            self.axes[id(out)] = axis
        else:
            self.axes.pop(id(out), None)
        return out

    def _axis_of(self, args: Any, out: torch.Tensor) -> int | None:
        """Return the channel axis that a function's result takes over from an argument of its shape."""
        for argument in args:
            axis = self.axes.get(id(argument)) if isinstance(argument, torch.Tensor) else None
            if axis is not None and argument.ndim == out.ndim and argument.shape[axis] == out.shape[axis]:
                return axis
        return None

    def _parts(self, args: Any, kwargs: Any) -> list[torch.Tensor]:
        """Return the tensors that a concatenation joins."""
        joined = args[0] if args else kwargs.get("tensors", ())
        return [part for part in joined if isinstance(part, torch.Tensor)]

    def _batch_norm(self, before: _Columns | None) -> _Columns | None:
        """Follow channels through a batch norm in evaluation mode: an affine map per channel."""
        norm = self.stack[-1] if self.stack else None
        if before is None or not self.affine or not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            return None
        return before.through(*batch_norm_affine(norm)) if norm.running_mean is not None else None

    def _concatenate(self, parts: list[torch.Tensor], out: torch.Tensor, dim: int) -> _Columns | None:
        """Follow channels through a concatenation along the channel axis."""
        if dim % out.ndim != 1 or out.ndim < 3:
            return None
        known = [self._columns_for(part, 1) for part in parts]
        if any(part is None for part in known):
            return None
        columns = [part for part in known if part is not None]
        return _Columns(
            1,
            np.concatenate([part.index for part in columns]),
            np.concatenate([part.scale for part in columns]),
            np.concatenate([part.shift for part in columns]),
        )

    def _columns_for(self, tensor: torch.Tensor, axis: int) -> _Columns | None:
        """Return a tensor's columns; one that has none gets a reading where a module put it out."""
        known = self.columns.get(id(tensor))
        place = self.seen_at.get(id(tensor))
        if known is None and place is not None and self.affine and tensor.ndim > 2:
            known = self._read(tensor, replace(place, axis=axis))
        return known if known is not None and known.axis == axis else None

    def _scale_channels(self, before: _Columns | None, source: torch.Tensor, args: Any) -> _Columns | None:
        """Follow channels through a layer scale: a product with one parameter per channel."""
        factor = args[1] if len(args) > 1 else None
        if before is None or not isinstance(factor, torch.Tensor):
            return None
        width = source.shape[before.axis]
        aligned = factor.ndim == 1 and before.axis == source.ndim - 1
        aligned = aligned or (factor.ndim == source.ndim and factor.shape[before.axis] == width)
        is_parameter = factor.is_leaf and id(factor) not in self.axes and id(factor) not in self.columns
        if factor.numel() != width or not aligned or not is_parameter:
            return None
        return before.through(factor.detach().double().reshape(-1).numpy(), 0.0)

    def _sum(self, args: Any, out: torch.Tensor, axis: int | None) -> None:
        """Notice a residual sum: a block adds something to its own input or to its shortcut."""
        if len(args) < 2 or not isinstance(args[1], torch.Tensor) or args[1].shape != args[0].shape:
            return
        adder = self.stack[-1] if self.stack else None
        name = self.names.get(adder, "") if adder is not None else ""
        if adder is None or not self._in_block(name, itself=True) or out.shape[0] % BATCH:
            return
        own = self.inputs.get(adder, set())
        if any(id(term) in own or id(term) in self.sums or id(term) in self.aside for term in args[:2]):
            self.sums.add(id(out))
            self.waiting.append(_Sum(name, out, axis))

    def _follow_sum(self, source: torch.Tensor, out: torch.Tensor, axis: int | None) -> None:
        """Let a waiting sum be seen through a mere rearrangement of it."""
        for item in self.waiting:
            if item.tensor is source and out.shape[0] % BATCH == 0 and axis is not None:
                item.tensor, item.axis = out, axis
                self.sums.add(id(out))

    # ---------------------------------------------------------------- modules

    def enter(self, module: nn.Module, args: Any) -> None:
        """Pre-hook of every module."""
        name = self.names[module]
        parent = self.stack[-1] if self.stack else None
        self.stack.append(module)
        self.calls[name] = self.calls.get(name, 0) + 1
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        self.kept.extend(tensors)
        self.inputs.setdefault(module, set()).update(id(a) for a in tensors)
        if not tensors:
            return
        first = tensors[0]
        self._settle(first, name, "input")
        fed = self.columns.get(id(first)) if self.affine and _commutes_with_mean(module) else None
        # A token mixer's linear layer runs over positions, not channels: its mean follows from no column.
        if fed is not None and fed.axis == (first.ndim - 1 if isinstance(module, nn.Linear) else 1):
            self.fed[name] = fed
        if parent is not None and kind_of(parent) == "normalisation" and name == f"{self.names[parent]}.act":
            self._register(parent, first, name, "input")
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and first.ndim > 2:
            source = self.seen_at.get(id(first))
            if source is not None and source.port == "output":
                self.foldable.append((source.module, name))
            if self._eligible(name) and self.affine and self.columns.get(id(first)) is None:
                self._read(first, TensorPlace(name, "input", 1, self.calls[name]))

    def leave(self, module: nn.Module, args: Any, out: Any) -> None:
        """Forward hook of every module."""
        self.stack.pop()
        if not isinstance(out, torch.Tensor) or not out.is_floating_point():
            return
        name = self.names[module]
        self.kept.append(out)
        axis = _natural_axis(module, out)
        if axis is not None:
            self.axes[id(out)] = axis
        self._settle(out, name, "output")
        if any(word in name.rpartition(".")[2] for word in ASIDE):
            self.aside.add(id(out))
        self._register(module, out, name, "output")
        self.seen_at[id(out)] = TensorPlace(name, "output", self.axes.get(id(out), 1), self.calls[name])

    def _eligible(self, name: str) -> bool:
        """Whether the rule, or the card's patterns, ask for the layer of this name."""
        if self.patterns:
            return any(pattern.match(name) for pattern in self.patterns)
        return self._in_block(name)

    def _in_block(self, name: str, itself: bool = False) -> bool:
        """Whether a module is on the main path inside a repeated block."""
        block = next((b for b in self.blocks if name.startswith(b + ".") or (itself and name == b)), None)
        if block is None or name in self.stem:
            return False
        return not any(word in part for part in name[len(block) + 1 :].split(".") for word in ASIDE)

    def _register(self, module: nn.Module, tensor: torch.Tensor, where: str, port: Port) -> None:
        """Take a module's tensor into the list of layers, if it is eligible."""
        name, kind = self.names[module], kind_of(module)
        if name in self.named or not self._eligible(name) or (kind is None and not self.patterns):
            return
        self.named.add(name)
        axis = self.axes.get(id(tensor))
        if axis is None:
            axis = tensor.ndim - 1 if tensor.ndim == 3 else 1
        self._add_layer(name, kind or "branch", tensor, TensorPlace(where, port, axis, self.calls[where]))

    def _settle(self, tensor: torch.Tensor, where: str, port: Port) -> None:
        """Take a waiting residual sum into the list of layers, now that a module sees it."""
        for item in [item for item in self.waiting if item.tensor is tensor]:
            self.waiting.remove(item)
            count = self.sum_counts.get(item.block, 0) + 1
            name = f"{item.block}.add" if count == 1 else f"{item.block}.add{count}"
            if self.patterns and not self._eligible(name):
                continue
            self.sum_counts[item.block] = count
            axis = item.axis if item.axis is not None else (1 if tensor.ndim == 4 else tensor.ndim - 1)
            self.columns.pop(id(tensor), None)
            self._add_layer(name, "residual sum", tensor, TensorPlace(where, port, axis, self.calls[where]))

    def _add_layer(self, name: str, kind: Kind, tensor: torch.Tensor, place: TensorPlace) -> None:
        if tensor.ndim < 2 or tensor.shape[0] % BATCH:
            self.unreadable.append((name, f"its shape {tuple(tensor.shape)} has no axis of pictures"))
            return
        columns = self.columns.get(id(tensor))
        if columns is None or columns.axis != place.axis:
            fed = self.fed.get(name)
            columns = self._read(tensor, place) if fed is None else self._multiply(tensor, name, place.axis, fed)
        self.layers.append(Layer(name, kind, columns.index, columns.scale, columns.shift, place))

    def _read(self, tensor: torch.Tensor, place: TensorPlace) -> _Columns:
        """Plan a reading of a tensor, which gives its channels columns of their own."""
        self.readings.append(Reading(place, self.width, tensor.shape[place.axis]))
        return self._new_columns(tensor, place.axis)

    def _multiply(self, tensor: torch.Tensor, module: str, axis: int, fed: _Columns) -> _Columns:
        """Plan a product, which gives a linear layer's channels columns without reading its output."""
        width = tensor.shape[axis]
        self.products.append(Product(module, self.width, width, fed.index, fed.scale, fed.shift))
        return self._new_columns(tensor, axis)

    def _new_columns(self, tensor: torch.Tensor, axis: int) -> _Columns:
        width = tensor.shape[axis]
        index = np.arange(self.width, self.width + width, dtype=np.int64)
        columns = _Columns(axis, index, np.ones(width), np.zeros(width))
        self.width += width
        self.columns[id(tensor)] = columns
        self.kept.append(tensor)
        return columns

    # ---------------------------------------------------------------- result

    def result(self) -> LayerMap:
        """Return what was found."""
        for item in self.waiting:
            self.unreadable.append((f"{item.block}.add", UNSEEN_SUM))
        layers: list[Layer] = []
        twice = {block for block, count in self.sum_counts.items() if count > 1}
        for layer in self.layers:
            if layer.kind != "residual sum" and self.calls[layer.name] > 1:
                self.unreadable.append((layer.name, RUN_TWICE))
                continue
            block, _, last = layer.name.rpartition(".")
            name = f"{block}.add1" if last == "add" and block in twice else layer.name
            layers.append(replace(layer, name=name))
        last_layer = max(len(layers) - 1, 1)
        layers = [replace(layer, depth=position / last_layer) for position, layer in enumerate(layers)]
        parts = _drop_unused(layers, self.readings, self.products)
        return LayerMap(*parts, self._folds(), tuple(self.unreadable))

    def _folds(self) -> tuple[tuple[str, str], ...]:
        modules = {name: module for module, name in self.names.items()}
        return tuple(
            (conv, norm)
            for conv, norm in self.foldable
            if isinstance(modules[conv], nn.Conv2d) and self.calls[conv] == self.calls[norm] == 1
        )


def batch_norm_affine(norm: nn.modules.batchnorm._BatchNorm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and shift, each of shape (channels,), of a batch norm in evaluation mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("A batch norm without running statistics is not a fixed affine map.")
    scale = 1.0 / np.sqrt(norm.running_var.detach().double().cpu().numpy() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double().cpu().numpy()
    shift = -norm.running_mean.detach().double().cpu().numpy() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double().cpu().numpy()
    return scale, shift


def _drop_unused(
    layers: list[Layer], readings: list[Reading], products: list[Product]
) -> tuple[tuple[Layer, ...], tuple[Reading, ...], tuple[Product, ...]]:
    """Remove readings and products that no layer needs, and renumber the columns of the others.

    Readings come first, so that their columns can be laid side by side; products follow in order.
    """
    used = np.zeros(sum(r.width for r in readings) + sum(p.width for p in products), dtype=np.bool_)
    for layer in layers:
        used[layer.columns] = True
    for product in reversed(products):
        if used[product.start : product.start + product.width].any():
            used[product.columns] = True
    parts: list[Reading | Product] = [*readings, *products]
    kept = [part for part in parts if used[part.start : part.start + part.width].any()]
    starts = np.cumsum([0, *(part.width for part in kept)]).tolist()
    renumbered = np.full(len(used), -1, dtype=np.int64)
    for part, start in zip(kept, starts):
        renumbered[part.start : part.start + part.width] = np.arange(start, start + part.width)
    moved = [replace(part, start=start) for part, start in zip(kept, starts)]
    return (
        tuple(replace(layer, columns=renumbered[layer.columns]) for layer in layers),
        tuple(part for part in moved if isinstance(part, Reading)),
        tuple(replace(part, columns=renumbered[part.columns]) for part in moved if isinstance(part, Product)),
    )


def _commutes_with_mean(module: nn.Module) -> bool:
    """Whether a module applies the same linear map at every position separately."""
    if isinstance(module, nn.Linear):
        return True
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (1, 1)
        and module.stride == (1, 1)
        and module.padding in ((0, 0), 0, "valid", "same")
        and module.groups == 1
    )


def _natural_axis(module: nn.Module, out: torch.Tensor) -> int | None:
    """Return the channel axis that a module's kind implies for its output."""
    kind = kind_of(module)
    if kind == "convolution":
        return 1
    if kind == "normalisation":
        channels_first = isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm)
        return 1 if channels_first or "2d" in type(module).__name__ else out.ndim - 1
    return out.ndim - 1 if kind == "linear" else None


def _moved_axis(name: str, args: Any, source: torch.Tensor, out: torch.Tensor, axis: int | None) -> int | None:
    """Return where the channel axis is after a rearrangement, if it survives it."""
    if axis is None:
        return None
    if name == "permute":
        order = args[1:] if len(args) > 2 or isinstance(args[1], int) else args[1]
        return [d % source.ndim for d in order].index(axis)
    if name in ("transpose", "swapaxes"):
        a, b = ((d if isinstance(d, int) else 0) % source.ndim for d in args[1:3])
        return {a: b, b: a}.get(axis, axis)
    if axis == source.ndim - 1 and out.shape[-1] == source.shape[-1]:
        return out.ndim - 1
    if axis == 1 and out.ndim > 1 and out.shape[:2] == source.shape[:2]:
        return 1
    return None


def _pools_exactly(source: torch.Tensor, out: torch.Tensor, args: Any, kwargs: Any) -> bool:
    """Whether average pooling covers every position exactly once, so that the mean is unchanged."""
    kernel = kwargs.get("kernel_size", args[1] if len(args) > 1 else None)
    stride = kwargs.get("stride", args[2] if len(args) > 2 else None) or kernel
    pair = tuple(kernel) if isinstance(kernel, tuple | list) else (kernel, kernel)
    step = tuple(stride) if isinstance(stride, tuple | list) else (stride, stride)
    return pair == step and all(
        isinstance(size, int) and before == after * size
        for before, after, size in zip(source.shape[-2:], out.shape[-2:], pair)
    )
