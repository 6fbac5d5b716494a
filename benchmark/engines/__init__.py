"""Engines: where pieces of work are done, in this process or on many machines.

A new engine is a class with the methods of :class:`benchmark.engines.base.Engine`, registered below under the name
that ``--engine`` takes; import what is heavy inside the factory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmark.errors import EngineError
from benchmark.registry import Registry

if TYPE_CHECKING:
    from benchmark.engines.base import Engine
    from benchmark.progress import Reporter

Factory = Callable[[str, "Reporter | None"], "Engine"]

ENGINES: Registry[Factory] = Registry("engine")
"""Engines by name. A factory gets the address, empty if none was given, and a reporter that lost workers are told."""


def create_engine(name: str = "local", address: str = "", reporter: Reporter | None = None) -> Engine:
    """Return the engine of a name; it is a context manager, and what it started ends with it.

    Parameters
    ----------
    name
        ``local`` or ``ray``.
    address
        Where a cluster is to be found: ``HOST:PORT`` of its head, ``ray://HOST:PORT`` from outside of it, ``auto`` for
        the one that runs on this machine. Without it, Ray is started on this machine alone.
    reporter
        Is told of workers that were lost.

    Raises
    ------
    NameNotFound
        If there is no such engine.
    EngineError
        If the engine is not installed, or nothing answers at the address.
    """
    return ENGINES[name](address, reporter)


@contextmanager
def opened_engine(engine: Engine | str, address: str = "", reporter: Reporter | None = None) -> Iterator[Engine]:
    """Yield the engine of a name and close it afterwards; one that is open already is yielded and left open."""
    if isinstance(engine, str):
        with create_engine(engine, address, reporter) as created:
            yield created
    else:
        yield engine


@ENGINES.register("local")
def _local(address: str, reporter: Reporter | None) -> Engine:
    from benchmark.engines.local import LocalEngine

    if address:
        raise EngineError(
            f"The local engine runs in this process, so it takes no address. To use the cluster at {address}, add "
            "--engine ray."
        )
    return LocalEngine()


@ENGINES.register("ray")
def _ray(address: str, reporter: Reporter | None) -> Engine:
    from benchmark.engines.cluster import RayEngine

    return RayEngine(address, reporter=reporter)
