"""Names of public data sets: one spelling each.

Whether a model saw a pool in training, and whether two models are relatives, follows from comparing these names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SPELLINGS: dict[str, tuple[str, ...]] = {
    # name -> other spellings; upper case, spaces and the signs - _ . / make no difference
    "imagenet-1k": ("imagenet", "imagenet1k", "in1k", "ilsvrc", "ilsvrc2012", "imagenet2012", "imagenet-1000"),
    "imagenet-21k": ("imagenet21k", "imagenet22k", "in21k", "in22k"),
    "imagenet-12k": ("imagenet12k", "in12k"),
    "imagenette": ("imagenette2",),
    "cifar-10": ("cifar10",),
    "cifar-100": ("cifar100",),
    "mnist": (),
    "fashion-mnist": ("fashionmnist", "fmnist"),
    "svhn": (),
    "stl-10": ("stl10",),
    "tiny-imagenet": ("tinyimagenet", "tiny-imagenet-200", "imagenet200"),
    "inaturalist-2017": ("inat2017", "inat17"),
    "inaturalist-2018": ("inat2018", "inat18"),
    "inaturalist-2021": ("inat2021", "inat21"),
    "places-365": ("places365",),
    "coco": ("mscoco", "coco2017", "coco2014"),
    "openai-wit": ("wit400m", "openaiwit"),
    "laion-400m": ("laion400m",),
    "laion-2b": ("laion2b",),
    "laion-5b": ("laion5b",),
    "lvd-142m": ("lvd142m",),
    "dfn-2b": ("dfn2b",),
    "dfn-5b": ("dfn5b",),
    "yfcc-100m": ("yfcc100m",),
    "jft-300m": ("jft300m",),
    "datacomp-1b": ("datacomp1b",),
}
"""Data sets that vimi knows by name. Any other name is kept as it is written."""


def _folded(name: str) -> str:
    return re.sub(r"[\s_./-]+", "", name).casefold()


_NAMES = {_folded(other): name for name, others in SPELLINGS.items() for other in (name, *others)}


def data_set_name(name: str) -> str:
    """Return the one spelling of a data set's name: ``cifar-10`` for ``CIFAR10``; an unknown name stays as it is."""
    return _NAMES.get(_folded(name), name.strip())


def data_set_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return each data set once, in its one spelling, in the order given."""
    return tuple(dict.fromkeys(map(data_set_name, names)))
