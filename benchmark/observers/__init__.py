"""Machine observers: they answer the trials that people answer, and write the same rows.

A new observer is a class with a name and an ``answer`` method, registered below under the name that the command
line takes; what stands behind a colon in that name is passed on to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmark.errors import ObserverError
from benchmark.registry import Registry

if TYPE_CHECKING:
    import torch

    from benchmark.observers.base import Observer
    from benchmark.progress import Reporter
    from benchmark.study import Study

Factory = Callable[["Study", str, "torch.device | str", "Reporter | None"], "Observer"]

OBSERVERS: Registry[Factory] = Registry("observer")
"""Observers by name. A factory gets the study, what stands behind the colon, the device and a reporter."""


def create_observer(
    name: str, study: Study, device: torch.device | str = "cpu", reporter: Reporter | None = None
) -> Observer:
    """Return the observer of a name such as ``lowlevel`` or ``features:efficientnet_lite0``.

    Raises
    ------
    NameNotFound
        If there is no such observer.
    ObserverError
        If it lacks something to answer with; the message says what.
    """
    kind, _, argument = name.partition(":")
    return OBSERVERS[kind](study, argument, device, reporter)


def _plain(name: str, argument: str) -> None:
    if argument:
        raise ObserverError(f"The observer {name!r} takes no argument after a colon, but got {argument!r}.")


@OBSERVERS.register("random")
def _random(study: Study, argument: str, device: torch.device | str, reporter: Reporter | None) -> Observer:
    from benchmark.observers.reference_points import RandomObserver

    _plain("random", argument)
    return RandomObserver()


@OBSERVERS.register("oracle")
def _oracle(study: Study, argument: str, device: torch.device | str, reporter: Reporter | None) -> Observer:
    from benchmark.observers.reference_points import OracleObserver

    _plain("oracle", argument)
    return OracleObserver()


@OBSERVERS.register("label")
def _label(study: Study, argument: str, device: torch.device | str, reporter: Reporter | None) -> Observer:
    from benchmark.observers.reference_points import LabelObserver

    _plain("label", argument)
    if not study.pool()["label"].notna().any():
        raise ObserverError("The observer 'label' needs a pool with class labels, such as imagenet:PATH.")
    return LabelObserver()


@OBSERVERS.register("lowlevel")
def _lowlevel(study: Study, argument: str, device: torch.device | str, reporter: Reporter | None) -> Observer:
    from benchmark.observers.lowlevel import LowLevelObserver

    _plain("lowlevel", argument)
    return LowLevelObserver(study, reporter)


@OBSERVERS.register("features")
def _features(study: Study, argument: str, device: torch.device | str, reporter: Reporter | None) -> Observer:
    from benchmark.observers.features import FeatureObserver

    if not argument:
        raise ObserverError(
            "The observer 'features' needs a model: features:CARD, such as features:efficientnet_lite0."
        )
    return FeatureObserver(argument, study, device, reporter)


@OBSERVERS.register("lpips")
def _lpips(study: Study, argument: str, device: torch.device | str, reporter: Reporter | None) -> Observer:
    from benchmark.observers.perceptual import LpipsObserver

    _plain("lpips", argument)
    return LpipsObserver(study, device, reporter)


@OBSERVERS.register("dreamsim")
def _dreamsim(study: Study, argument: str, device: torch.device | str, reporter: Reporter | None) -> Observer:
    from benchmark.observers.perceptual import DreamSimObserver

    _plain("dreamsim", argument)
    return DreamSimObserver(study, device, reporter)
