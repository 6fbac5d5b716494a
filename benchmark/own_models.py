"""Own models: networks that neither timm nor a card describes, but a few lines of a user's Python.

A function returns the network. Beside it may stand what only its author can know, with the keys of a model card::

    # my_model.py
    import torch, torchvision

    def make(pretrained=True):
        network = torchvision.models.resnet18(num_classes=10)
        if pretrained:
            network.load_state_dict(torch.load("my_weights.pt", weights_only=True))
        return network

    make.card = {"input": {"size": 64}, "training": {"data": ["cifar-10"], "images": 50_000}}

It is named as ``my_model:make``, or by an entry point of an installed package in the group ``vimi.models``. In a
notebook, :func:`offer_model` gives a network that is already there a name. A network's weights are never pickled.
"""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from benchmark.documents import parse
from benchmark.errors import CardError, NameNotFound, VimiError, common_prefix, first_line, name_some, spell_error
from benchmark.hashing import hash_bytes
from benchmark.model_card import TWIN_SUFFIX, InputSpec, ModelCard, card_names, timm_family
from benchmark.randomness import seed_from

if TYPE_CHECKING:
    from torch import nn

ENTRY_POINTS = "vimi.models"
"""The group of entry points under which installed packages offer models."""

ASSUMED_INPUT: dict[str, Any] = {
    "size": 224,
    "crop_ratio": 0.875,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
"""What a network is taken to want to see where neither its author nor the network says it: ImageNet's usual."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*\Z")
"""What an own model may be called: the name becomes part of paths, units and addresses."""

GIVEN = ("timm", "weights", "twin")
"""Keys of a card that follow from the function or the network, so that nobody states them."""

NAMED = 6
"""Parameters that a message names, at most."""


@dataclass(frozen=True, eq=False)
class OfferedModel:
    """A network that was offered to this process.

    Attributes
    ----------
    card
        Its card.
    network
        The network itself; vimi works on copies of it.
    untrained
        Returns the same network with fresh random weights, for the twin; None if its modules can reset themselves.
    """

    card: ModelCard
    network: nn.Module
    untrained: Callable[[], nn.Module] | None


_offered: dict[str, OfferedModel] = {}


def offer_model(
    network: nn.Module, name: str, *, untrained: Callable[[], nn.Module] | None = None, **facts: Any
) -> ModelCard:
    """Give a network of this process a name, under which ``load_card`` and thus experiments and observers find it.

    Offering another network under the same name replaces the first. A new process knows nothing of it: to go on with a
    study there, offer the network again.

    Parameters
    ----------
    network
        The network, with its weights. It is copied whenever it is loaded, and never changed.
    name
        What it shall be called: letters, digits and ``_ . + -``.
    untrained
        A function that returns the network with fresh random weights, for the random-weight twin. Without it the
        twin is a copy whose modules reset their parameters.
    **facts
        What only its author knows, with the keys of a model card: ``input={"size": 64}``,
        ``training={"data": ["cifar-10"], "images": 50_000}``, ``layers=["features.*"]``, ``family="resnet"``.

    Returns
    -------
    The model's card.

    Raises
    ------
    CardError
        If the name can't be used, or it is no network.
    DocumentError
        If a fact is unknown or wrong; the message suggests the near key.
    """
    from torch import nn

    if not isinstance(network, nn.Module):
        raise CardError(f"{name!r} is a {type(network).__name__}; offer a torch.nn.Module.")
    _check_name(name)
    if name in find_entry_points():
        raise CardError(f"An installed package offers a model {name!r} already; offer yours under another name.")
    card = _complete(facts, name, f"object:{name}", f"the network offered as {name!r}", lambda: network)
    _offered[name] = OfferedModel(card, network, untrained)
    return card


def withdraw_model(name: str) -> None:
    """Forget a network that was offered; what was built from it stays."""
    _offered.pop(name, None)


def offered_names() -> list[str]:
    """Return the names of the networks that were offered to this process."""
    return sorted(_offered)


def find_offered(name: str) -> OfferedModel | None:
    """Return the network that was offered under a name, or None."""
    return _offered.get(name)


def how_to_offer(name: str) -> str:
    """Return the sentence that says how a network of a notebook gets a name."""
    return (
        "A network of a notebook is only known to the process that offers it: call "
        f"benchmark.own_models.offer_model(network, {name!r}) there first, and again in each new process."
    )


def find_entry_points() -> dict[str, str]:
    """Return the models that installed packages offer: names and their functions, as ``MODULE:FUNCTION``.

    Raises
    ------
    CardError
        If two packages offer different functions under one name.
    """
    found: dict[str, str] = {}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        address = f"{entry.module}:{entry.attr}"
        if found.setdefault(entry.name, address) != address:
            raise CardError(
                f"Two installed packages offer a model {entry.name!r}: {found[entry.name]} and {address}. Use one of "
                "these addresses as its name, or uninstall the other package."
            )
    return found


def card_from_function(address: str, name: str = "") -> ModelCard:
    """Make the card of the network that a function returns.

    Parameters
    ----------
    address
        ``MODULE:FUNCTION``; the module is looked for on Python's path and then in the current folder.
    name
        The model's name, if it has one already (that of an entry point); else the one that the function's ``card``
        states, or ``MODULE.FUNCTION``.

    Raises
    ------
    NameNotFound
        If there is no such module or function.
    CardError
        If the function raises, or returns something else than a network.
    DocumentError
        If what its ``card`` says is unknown or wrong.
    """
    function = _find_function(address)
    facts = _stated_facts(function, address)
    name = name or _stated_name(facts, address)
    _check_name(name)
    stated = {"source": _describe_file(address, function), **facts}
    stated.pop("name", None)
    return _complete(stated, name, f"python:{address}", f"{address}.card", lambda: _call(address, False))


def name_of_function(address: str) -> str:
    """Return the name that the network of a function has in studies and on the leaderboard; the network isn't made.

    Raises
    ------
    NameNotFound
        If there is no such module or function.
    CardError
        If its ``card`` is no dictionary.
    """
    return _stated_name(_stated_facts(_find_function(address), address), address)


def _stated_facts(function: object, address: str) -> Mapping[str, Any]:
    """Return the function's ``card``, empty if it has none."""
    facts = getattr(function, "card", {})
    if not isinstance(facts, Mapping):
        raise CardError(
            f"{address} has a 'card' that is a {type(facts).__name__}; it must be a dictionary with the keys of a "
            'model card: {"input": {"size": 64}}.'
        )
    return facts


def _stated_name(facts: Mapping[str, Any], address: str) -> str:
    return str(facts.get("name", address.replace(":", ".")))


def make_network(card: ModelCard, *, trained: bool = True) -> nn.Module:
    """Make an own model's network, to be changed by the caller.

    Parameters
    ----------
    card
        The card of an own model.
    trained
        Whether its weights are needed: if other weights are about to be loaded, a function need not load its own.

    Raises
    ------
    CardError
        If it can't be made; the message names the line that failed.
    """
    kind, _, place = card.weights.source.partition(":")
    return _call(place, trained) if kind == "python" else _copy(card, _recall(card).network)


def make_untrained(card: ModelCard, seed: int) -> nn.Module:
    """Make an own model's network with random weights that belong to a seed.

    The author's way comes first: ``pretrained=False`` of the function, or the ``untrained`` function of an offered
    network. Else the network is copied and its modules reset their parameters and buffers. Nothing trained may be left
    either way: what is reset is overwritten first, and what comes out the same for two seeds is compared with the
    trained network.

    Raises
    ------
    CardError
        If any parameter would keep its trained value, or none depends on the seed; the message names them.
    """
    first = _draw(card, seed_from(seed, "weights", card.architecture))
    second = _draw(card, seed_from(seed, "other weights", card.architecture))
    fixed, all_fixed = _fixed(first, second)
    kept = fixed if all_fixed else _kept(card, first, fixed)
    if kept:
        found = "come" if all_fixed else "are the trained values, and come"
        raise CardError(
            f"{_twin_of(card)} can't be made: {name_some(kept, NAMED)} {found} out the same for two different seeds. "
            f"Does {_way(card)} load weights, or set a seed itself? Leave both out; a fixed table, such as positions, "
            "belongs into a buffer instead of a parameter."
        )
    return first


def has_own_untrained(card: ModelCard) -> bool:
    """Whether the author of an own model says how it is made untrained."""
    kind, _, place = card.weights.source.partition(":")
    return _takes_pretrained(_find_function(place)) if kind == "python" else _recall(card).untrained is not None


# -------------------------------------------------------------------- random weights


def _draw(card: ModelCard, seed: int) -> nn.Module:
    """Make a network with random weights of a seed, leaving torch's generator as it is."""
    import torch

    kind, _, place = card.weights.source.partition(":")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # networks warn about their own initialisers
        torch.manual_seed(seed)
        if not has_own_untrained(card):
            return _reset(make_network(card), card)
        if kind == "python":
            return _call(place, False)
        factory = cast("Callable[[], nn.Module]", _recall(card).untrained)
        return _run(factory, f"the untrained= of {card.network}", {})


def _reset(network: nn.Module, card: ModelCard) -> nn.Module:
    """Let all modules of a network reset their parameters and buffers; what none of them resets is an error.

    Everything is overwritten by NaN first: what still holds one afterwards would have kept its trained value.
    """
    import torch

    stored = network.state_dict().keys()
    named = [*network.named_parameters(), *((n, b) for n, b in network.named_buffers() if n in stored)]
    values = [(name, tensor) for name, tensor in named if tensor.is_floating_point() or tensor.is_complex()]
    with torch.no_grad():
        for _, tensor in values:
            tensor.fill_(float("nan"))
        # Parts before wholes, so that a module's own way to initialise its parts has the last word.
        for inner in reversed(list(network.modules())):
            reset = getattr(inner, "reset_parameters", None) or getattr(inner, "_reset_parameters", None)
            if callable(reset):
                _guard(reset, f"{type(inner).__name__}.reset_parameters() of {card.network}", reset)
    left = [name for name, tensor in values if torch.isnan(tensor).any()]
    if left:
        raise CardError(
            f"{_twin_of(card)} would keep trained values: {name_some(left, NAMED)} belong to modules without "
            f"reset_parameters(). Say how to make the untrained network: {_how_untrained(card)}"
        )
    return network


def _fixed(first: nn.Module, second: nn.Module) -> tuple[list[str], bool]:
    """Return what is equal in two draws of random weights, constants aside; and whether nothing differs.

    Parameters are compared, and the statistics of batch norms.
    """
    import torch

    before, after = first.state_dict(), second.state_dict()
    learned = {name for name, _ in first.named_parameters(remove_duplicate=False)}
    statistics = {name for name in before if name.rpartition(".")[2] in ("running_mean", "running_var")}
    compared = [name for name in before if name in learned | statistics]
    equal = [name for name in compared if name in after and torch.equal(before[name], after[name])]
    varied = [name for name in equal if before[name].numel() and (before[name] != before[name].flatten()[0]).any()]
    return (equal, True) if len(equal) == len(compared) else (varied, False)


def _kept(card: ModelCard, untrained: nn.Module, fixed: list[str]) -> list[str]:
    """Return which of an untrained network's fixed values are those of the trained one.

    A table that training starts from is no trained value. If the trained network can't be made, none is trusted.
    """
    import torch

    if not fixed:
        return []
    try:
        trained = make_network(card).state_dict()
    except CardError:
        return fixed
    state = untrained.state_dict()
    return [name for name in fixed if name in trained and torch.equal(trained[name].cpu(), state[name].cpu())]


def _twin_of(card: ModelCard) -> str:
    return f"The random-weight twin of {card.name.removesuffix(TWIN_SUFFIX)}"


def _way(card: ModelCard) -> str:
    """Return what makes the untrained network, in words."""
    if not has_own_untrained(card):
        return "reset_parameters() of its modules"
    return f"{card.network} with pretrained=False" if card.weights.source.startswith("python:") else "untrained="


def _how_untrained(card: ModelCard) -> str:
    """Return what an author has to write to say how the network is made untrained."""
    if card.weights.source.startswith("python:"):
        return f"let {card.network} take a keyword 'pretrained', and return fresh random weights for pretrained=False."
    return "offer_model(network, name, untrained=FUNCTION), with a function that returns it with fresh random weights."


# -------------------------------------------------------------------- cards


def _check_name(name: str) -> None:
    """Check that a user's model may have a name: it must be unused, and valid in paths and addresses."""
    if not NAME.match(name) or name.endswith((TWIN_SUFFIX, ".toml")):
        raise CardError(
            f"A model can't be called {name!r}: use letters, digits and _ . + - (no '/', no ':', no '@'), and neither "
            f"{TWIN_SUFFIX!r} nor '.toml' at the end."
        )
    from benchmark.timm_loading import timm

    if name in card_names() or ("." in name and timm.is_model(name.partition(".")[0])):
        raise CardError(f"{name!r} is already the name of a model in vimi; choose another name.")


def _complete(
    facts: Mapping[str, Any], name: str, source: str, where: str, network: Callable[[], nn.Module]
) -> ModelCard:
    """Make a card from what an author states, what the network tells and what has to be assumed."""
    for key in GIVEN:
        if key in facts:
            raise CardError(f"{where}: {key!r} is read from the network itself; leave it out.")
    stated = facts.get("input", {})
    known: dict[str, Any] = dict(stated) if isinstance(stated, Mapping) else {}
    missing = [key for key in InputSpec.model_fields if key not in known]
    values: dict[str, Any] = {"title": name, "licence": "unknown", **facts, "name": name, "weights": {"source": source}}
    if missing or "family" not in facts:
        module = network()
        config = _timm_config(module)
        told = {key: config[key] for key in missing if config.get(key) is not None}
        assumed = [key for key in missing if key not in told and InputSpec.model_fields[key].is_required()]
        if isinstance(stated, Mapping):
            values["input"] = {**{key: ASSUMED_INPUT[key] for key in assumed}, **told, **known}
        if assumed:
            values.setdefault("input_note", f"assumed, since nobody states it: {', '.join(assumed)}")
        values.setdefault("family", _family_of(module, config, name))
    return parse(ModelCard, values, where)


def _timm_config(module: nn.Module) -> dict[str, Any]:
    """Return what a network's timm-like attributes say of its input, with the keys of a card."""
    config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None) or {}
    if not isinstance(config, Mapping):
        config = config.to_dict() if hasattr(config, "to_dict") else vars(config)
    size = config.get("input_size")
    interpolation = config.get("interpolation")
    return {
        "architecture": config.get("architecture"),
        "size": size[-1] if size else None,
        "crop_ratio": config.get("crop_pct"),
        "crop_mode": config.get("crop_mode"),
        "interpolation": None if not interpolation else "bilinear" if interpolation == "bilinear" else "bicubic",
        "mean": config.get("mean"),
        "std": config.get("std"),
    }


def _family_of(module: nn.Module, config: Mapping[str, Any], name: str) -> str:
    """Return a network's family: timm's, else the name of its class, unless that is a mere container's."""
    from benchmark.timm_loading import timm

    architecture = str(config.get("architecture") or "").partition(".")[0]
    if architecture and timm.is_model(architecture):
        return timm_family(architecture)
    kind = type(module)
    return name if kind.__module__.startswith("torch.") else kind.__name__.lower()


def _describe_file(address: str, function: object) -> str:
    """Say in which state of which file a function stands: a changed file makes another card."""
    path = Path(_file_of(function))
    return f"{address} ({path.name}, hash {hash_bytes(path.read_bytes())[:8]})" if path.is_file() else address


# -------------------------------------------------------------------- functions


def _recall(card: ModelCard) -> OfferedModel:
    """Return the offered network that a card speaks of.

    Raises
    ------
    CardError
        If this process was never offered it.
    """
    name = card.weights.source.partition(":")[2]
    if name not in _offered:
        raise CardError(f"{card.name} is a network that was offered to another process. {how_to_offer(name)}")
    return _offered[name]


def _find_function(address: str) -> Callable[..., object]:
    """Return the function that ``MODULE:FUNCTION`` names."""
    path, _, name = address.partition(":")
    if path.endswith(".py") or "/" in path:
        plain = Path(path).stem
        raise CardError(
            f"{address!r} names a file; run vimi in its folder and name the module: {plain}:{name or 'make'}."
        )
    if not all(part.isidentifier() for part in [*path.split("."), *name.split(".")]):
        raise CardError(f"{address!r} names no function; write MODULE:FUNCTION, such as my_model:make.")
    module = _import(path)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise NameNotFound(f"function in {path}", name, _functions_of(module))
        found = getattr(found, part)
    if not callable(found) or _is_network(found):
        raise CardError(
            f"{address} is a {type(found).__name__}; name a function that returns the network: def make(): return …"
        )
    return cast("Callable[..., object]", found)


class _Folder:
    """Finds modules in a folder once nothing else has found them.

    At the end of ``sys.path`` the folder would still come before packages that were installed from their checkout, as
    vimi is: a user's ``analysis.py`` would then be taken for vimi's ``analysis``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where the folder holds a module without a package."""
        return PathFinder.find_spec(name, [self.folder]) if path is None else None


def _import(path: str) -> ModuleType:
    """Import a module from Python's path or from the current folder, which comes last and hides nothing."""
    here = str(Path.cwd())
    others = [finder for finder in sys.meta_path if not isinstance(finder, _Folder)]
    before = [finder for finder in sys.meta_path if isinstance(finder, _Folder) and finder.folder != here]
    sys.meta_path[:] = [*others, _Folder(here), *before]  # and stays: a function may import its neighbours
    importlib.invalidate_caches()
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if path == missing or path.startswith(f"{missing}."):
            beside = [*Path.cwd().glob("*.py"), *(init.parent for init in Path.cwd().glob("*/__init__.py"))]
            hint = f"It was looked for in the current folder {here} and on Python's path."
            raise NameNotFound("Python module", missing, [entry.stem for entry in beside], hint) from None
        raise CardError(_failure(error, f"Importing {path}", _source_of(path))) from None
    except (Exception, SystemExit) as error:
        raise CardError(_failure(error, f"Importing {path}", _source_of(path))) from None


def _source_of(path: str) -> str:
    """Return the file of a module that could not be imported, or nothing."""
    try:
        spec = importlib.util.find_spec(path)
    except (ImportError, ValueError):
        return ""
    return (spec.origin or "") if spec else ""


def _functions_of(module: ModuleType) -> list[str]:
    """Return the names of what a module defines and could be called."""
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]
    return own or [name for name in vars(module) if not name.startswith("_")]


def _takes_pretrained(function: Callable[..., object]) -> bool:
    """Whether a function takes a keyword ``pretrained``."""
    parameter = _signature(function).get("pretrained")
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _signature(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _call(address: str, pretrained: bool) -> nn.Module:
    """Call an author's function; ``pretrained`` is given to those that take it."""
    function = _find_function(address)
    takes = _takes_pretrained(function)
    needed = [
        name
        for name, parameter in _signature(function).items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and not (takes and name == "pretrained")
    ]
    if needed:
        raise CardError(
            f"{address} needs the arguments {', '.join(needed)}, but vimi calls it with nothing except 'pretrained'. "
            "Give them defaults."
        )
    return _run(function, address, {"pretrained": pretrained} if takes else {})


def _run(function: Callable[..., object], what: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call what shall return a network, and check that it does."""
    made = _guard(lambda: function(**arguments), f"{what}{_spell(arguments)}", function)
    if not _is_network(made):
        hint = (
            " Return the network alone, and state facts as a dictionary: FUNCTION.card = {…}."
            if isinstance(made, tuple)
            else " Does it end in 'return'?"
            if made is None
            else ""
        )
        raise CardError(f"{what} returns {type(made).__name__!r} instead of a torch.nn.Module.{hint}")
    return cast("nn.Module", made)


def _spell(arguments: Mapping[str, Any]) -> str:
    return f"({', '.join(f'{name}={value!r}' for name, value in arguments.items())})" if arguments else ""


def _guard(work: Callable[[], Any], what: str, function: object) -> Any:
    """Call an author's code; what it raises becomes an error that names its line."""
    try:
        return work()
    except VimiError:
        raise
    except (Exception, SystemExit) as error:
        message = _failure(error, what, _file_of(function))
        if "pretrained=True" in what:
            message += ' If its weights are elsewhere: weights = "FILE", or "random" for the untrained network.'
        raise CardError(message) from None


def _failure(error: BaseException, what: str, file: str) -> str:
    """Say what an author's code raised and where: type, text, and the last line of theirs that was running."""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{Path(error.filename).name}, line {error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if frame.filename == file] or [
            frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename
        ]
        place = f"{Path(theirs[-1].filename).name}, line {theirs[-1].lineno}" if theirs else "no line of yours"
    text = explain_state_error(str(error)) or spell_error(error)
    return f"{what} raised {text} ({place})."


def explain_state_error(text: str) -> str:
    """Say what torch found wrong with a state dictionary in one line; empty if the error is another one.

    torch names the keys in lines of their own, below the first, and does not see that all of them begin alike.
    """
    if not text.startswith("Error(s) in loading state_dict"):
        return ""
    found = {
        kind: re.findall(r'"([^"]+)"', line)
        for kind in ("Missing", "Unexpected")
        for line in text.splitlines()
        if line.strip().startswith(f"{kind} key(s)")
    }
    sizes = re.findall(r"size mismatch for ([^:]+): (.*)", text)
    parts = [f"{kind.lower()} {name_some(names)}" for kind, names in found.items()]
    if sizes:
        parts.append(
            f"another size: {sizes[0][0]}, {sizes[0][1]}" + (f" and {len(sizes) - 1:,} more" if sizes[1:] else "")
        )
    shared = common_prefix(found.get("Unexpected", []))
    if shared and any(name.removeprefix(shared) in found.get("Missing", []) for name in found["Unexpected"]):
        parts.append(
            f"all names in the file begin with {shared!r}, which a wrapper added: take it off with "
            f'{{name.removeprefix("{shared}"): tensor for name, tensor in state.items()}}'
        )
    return f"{text.partition(chr(10))[0].rstrip(': ')}: {'; '.join(parts)}"


def _file_of(function: object) -> str:
    """Return the file that a function or class stands in, or nothing."""
    try:
        return inspect.getfile(inspect.unwrap(cast("Any", function)))
    except (TypeError, ValueError):
        return ""


def _is_network(value: object) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _copy(card: ModelCard, network: nn.Module) -> nn.Module:
    """Copy a network that belongs to the user."""
    try:
        return copy.deepcopy(network)
    except Exception as error:
        text = first_line(error)
        raise CardError(
            f"{card.network[0].upper()}{card.network[1:]} can't be copied ({text}). Move it into a function that "
            "returns it, and name that: MODULE:FUNCTION."
        ) from None
