"""Linear algebra on one thread, while a model is fitted.

A fit multiplies and factorises thousands of small matrices. Threads that are woken for each of them cost more than they
save, and on a machine that is busy otherwise a hundred times more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped, unused-ignore]


@cache
def _controller() -> ThreadpoolController:
    """Return what knows the libraries of linear algebra that are loaded."""
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold linear algebra to one thread."""
    with _controller().limit(limits=1, user_api="blas"):
        yield
