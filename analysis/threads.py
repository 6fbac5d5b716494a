"""Threads of linear algebra: one while a mixed model is fitted, and as many as were asked for elsewhere.

A fit multiplies and factorises thousands of small matrices. Threads that are woken for each of them cost more than they
save, and on a machine that is busy otherwise a hundred times more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import ParamSpec, TypeVar, cast

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped, unused-ignore]

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


@cache
def _controller() -> ThreadpoolController:
    """Return what knows the libraries of linear algebra that are loaded."""
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold linear algebra to one thread."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


def threaded(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Hold an estimator's linear algebra to the setting ``threads``, if it is given (see ``analysis.settings``)."""

    @wraps(function)
    def held(*given: Arguments.args, **named: Arguments.kwargs) -> Returned:
        threads = cast("int | None", named.get("threads"))
        if not isinstance(threads, int) or threads < 1:  # left out, or refused by the estimator
            return function(*given, **named)
        with _controller().limit(limits=threads, user_api="blas"):
            return function(*given, **named)

    return held
