"""timm, loaded in half the time: without torch's compiler, which vimi never uses.

torchvision asks the compiler one question when it is loaded, and timm marks a few methods as not to be compiled. Both
load ``torch._dynamo`` for it, and with that sympy, triton and inductor: more than half of the seconds that every
command about models would start with. While timm is loaded here, a stand-in answers; afterwards it is gone, and whoever
does want the compiler gets the real one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

_COMPILER, _COMPILER_UTILS = "torch._dynamo", "torch._dynamo.utils"


class _Standin(ModuleType):
    """A module that has what is asked of the compiler while timm is loaded; anything else loads the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _take_away()
        return getattr(import_module(self.__name__), name)


def _disable(function: Callable[..., Any] | None = None, recursive: bool = True, **options: Any) -> Any:
    """Mark a function as the compiler's own ``disable`` does, so that it is left out if somebody compiles later."""
    if function is None:
        return lambda later: _disable(later, recursive, **options)
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    return function


def _is_compile_supported(device_type: str) -> Any:
    """Ask the real compiler, once somebody wants to know."""
    return import_module(_COMPILER_UTILS).is_compile_supported(device_type)


def _take_away() -> None:
    for name in (_COMPILER, _COMPILER_UTILS):
        if isinstance(sys.modules.get(name), _Standin):
            del sys.modules[name]
    if isinstance(vars(torch).get("_dynamo"), _Standin):
        del torch._dynamo


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Put the stand-in where the compiler is looked for, unless it has been loaded already."""
    if _COMPILER in sys.modules:
        yield
        return
    compiler, utils = _Standin(_COMPILER), _Standin(_COMPILER_UTILS)
    compiler.__path__ = []
    vars(compiler).update(disable=_disable, utils=utils)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    sys.modules[_COMPILER], sys.modules[_COMPILER_UTILS] = compiler, utils
    # ``import torch._dynamo`` binds the parent's attribute only when it loads the module.
    vars(torch)["_dynamo"] = compiler
    try:
        yield
    finally:
        _take_away()


with _without_compiler():
    import timm

__all__ = ["timm"]
