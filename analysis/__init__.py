"""What the answers mean: estimates with intervals, and the figures that show them. Needs no torch.

``analysis/__init__.pyi`` lists the public names, by the question that each answers: the functions that most analyses
start from, and the chapters (modules) that hold everything else. Importing the package loads nothing else; a name's
module is loaded when the name is first used:

>>> from analysis import estimate_proportions, judgements, read_dataset
>>> from analysis import figures, power
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

if not TYPE_CHECKING:  # A type checker reads the stub.

    def __getattr__(name: str) -> object:
        """Return a public name; one that is public in a chapter alone is found there, with a warning."""
        try:
            return _find(name)
        except AttributeError:
            if name.startswith("_"):
                raise
        from importlib import import_module
        from pkgutil import iter_modules
        from warnings import warn

        for chapter in sorted(own.name for own in iter_modules(__path__) if own.name in __all__):
            module = import_module(f"{__name__}.{chapter}")
            if name in module.__all__:
                words = f"analysis.{name} is now analysis.{chapter}.{name}: from analysis.{chapter} import {name}"
                warn(words, FutureWarning, stacklevel=2)
                return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
