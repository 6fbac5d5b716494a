"""Ray: pieces are tasks on the machines and accelerators of a cluster, or on the cores of this machine.

A task takes one accelerator, or as many cores as this process has torch threads. Its worker rounds as this process
would: the same number of threads, the same settings of torch, and batches of the same shape. Workers stay, and keep
what the last pieces worked with, so that a model is loaded once in each of them.

A worker or node that dies costs the pieces that it was doing: they are given to others. A piece whose workers die
again and again is given up. What a piece raises on purpose is not tried again, and is raised here as it would have
been by the local engine.

Ray sends functions and small values by pickling them, inside of the cluster that the user started; vimi itself reads
no pickled file. Ray's usage statistics and its dashboard are off.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from benchmark import errors
from benchmark.device import choose_device, prepare_torch
from benchmark.engines.base import Engine, Equipment, Piece, Result
from benchmark.errors import EngineError, VimiError, first_line
from benchmark.progress import Advance, Reporter
from benchmark.study import package_versions

try:
    # Before Ray is imported: it reads these when it is, and hands them on to what it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if len(os.environ.get("TMPDIR", "")) > 36 and os.path.isdir("/tmp"):
        # Ray's sockets lie some 70 letters below its temporary folder, and a socket's name may have 107.
        os.environ.setdefault("RAY_TMPDIR", "/tmp")
    import ray
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "ray":
        raise
    raise EngineError(
        "The engine 'ray' needs an extra that is not installed. Run uv pip install 'vimi[cluster]' here and on every "
        "machine of the cluster."
    ) from None

MOST_LOSSES = 5
"""Workers that may die of one piece before it is given up: a node that is lost takes each of its pieces once."""

KEPT = 2
"""Equipments that a worker keeps: pieces of one model and of the next overlap."""

SECONDS_TO_ANSWER = 5.0
"""How long an address may take to accept a connection."""

_LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
)

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_ALL_VISIBLE = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}
"""Ray hides all accelerators but the task's. What a process sees can't change once it has used one, but its next task
may be given another; so it sees all, and uses the one that the task was given."""


@dataclass(frozen=True)
class WorkerTerms:
    """What a worker needs to round as the process that hands out the pieces.

    Attributes
    ----------
    device
        Kind of device.
    threads
        Torch threads.
    versions
        Versions of everything that can change a number.
    """

    device: str
    threads: int
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def here(cls, device: torch.device) -> WorkerTerms:
        """Return the terms of this process."""
        return cls(device.type, torch.get_num_threads(), _versions())


@dataclass(frozen=True)
class PieceOutcome:
    """What became of a piece: what it made and the steps it took, or the error that it raised on purpose.

    An error travels as its name and its message; an exception's own constructor may want something else.
    """

    made: Any = None
    steps: int = 0
    error: str = ""
    message: str = ""


class RayEngine(Engine):
    """Does pieces as tasks of Ray.

    Parameters
    ----------
    address
        ``HOST:PORT`` of the head of a cluster that this machine is a node of, ``ray://HOST:PORT`` from outside of it,
        ``auto`` for the cluster on this machine. If empty, the one that ``RAY_ADDRESS`` names, or else a Ray of its
        own on this machine, which ends with the engine. A connection that the process has already is used, and
        stays.
    num_cpus
        Cores that a task takes; as many as this process has torch threads, if not given, or one where it takes an
        accelerator.
    reporter
        Is told of workers that were lost.

    Attributes
    ----------
    losses
        How often a worker died of a piece, or with it.

    Raises
    ------
    EngineError
        If nothing answers at the address.
    """

    name = "ray"
    is_elsewhere = True

    def __init__(self, address: str = "", *, num_cpus: float | None = None, reporter: Reporter | None = None) -> None:
        self.address = address
        self.num_cpus = num_cpus
        self.reporter = reporter or Reporter()
        self.losses = 0
        place = address or os.environ.get("RAY_ADDRESS", "") or "local"
        if place not in ("local", "auto"):
            _knock(place)
        self._connected_before = ray.is_initialized()
        if self._connected_before:
            _check_connection(address)
        else:
            _connect(place)

    def close(self) -> None:
        """Disconnect, if the engine connected itself; a Ray of its own ends."""
        if not self._connected_before and ray.is_initialized():
            ray.shutdown()

    def choose_device(self, name: str) -> torch.device:
        """Return the kind of device that tasks run on: that of the cluster's nodes, whatever this machine has."""
        accelerators = int(_most_of_a_node("GPU"))
        if name == "auto":
            return torch.device("cuda" if accelerators else "cpu")
        if name == "cpu":
            return torch.device("cpu")
        if name != "cuda":
            raise EngineError(f"The device {name!r} can't be used with --engine ray. Use --device cpu, cuda or auto.")
        if not accelerators:
            raise EngineError(
                "No node of the Ray cluster offers an accelerator. Start Ray on the machines that have one (ray start "
                "finds them, or give --num-gpus), or use --device cpu."
            )
        return torch.device("cuda")

    def run(
        self,
        pieces: Sequence[Piece[Any, Result]],
        *,
        device: torch.device,
        advance: Advance = lambda count: None,
        tools: Mapping[Equipment[Any], Any] | None = None,
    ) -> Iterator[tuple[int, Result]]:
        """Do pieces as tasks; each advances by all its steps once it is finished."""
        terms = WorkerTerms.here(device)
        task = self._task(terms)
        losses = [0] * len(pieces)
        running = {task.remote(piece, terms): number for number, piece in enumerate(pieces)}
        try:
            while running:
                finished, _ = ray.wait(list(running), num_returns=1)
                for reference in finished:
                    number = running.pop(reference)
                    try:
                        outcome = cast(PieceOutcome, ray.get(reference))
                    except _LOST as error:
                        losses[number] += 1
                        self._mourn(pieces[number], losses[number], error)
                        running[task.remote(pieces[number], terms)] = number
                        continue
                    except ray.exceptions.RaySystemError as error:
                        raise EngineError(f"Ray failed: {first_line(error)}") from None
                    if outcome.error:
                        raise _as_raised(outcome)
                    advance(outcome.steps)
                    yield number, outcome.made
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    ray.cancel(reference)

    def _task(self, terms: WorkerTerms) -> Any:
        """Return the task that does a piece; who retries is this process, which can say so."""
        options: dict[str, Any] = {"max_retries": 0, "max_calls": 0}
        if terms.device == "cuda":
            options |= {"num_gpus": 1, "num_cpus": self.num_cpus or 1, "runtime_env": _ALL_VISIBLE}
        else:
            # A task that wants more cores than any node has would wait for ever.
            options["num_cpus"] = self.num_cpus or max(1.0, min(float(terms.threads), _most_of_a_node("CPU")))
        most = _most_of_a_node("CPU")
        if options["num_cpus"] > most:
            raise EngineError(
                f"A task needs {options['num_cpus']:g} cores, but no node of the Ray cluster has more than {most:g}."
            )
        return ray.remote(**options)(_do_piece)

    def _mourn(self, piece: Piece[Any, Any], losses: int, error: Exception) -> None:
        """Say that a worker was lost, and give up on a piece that kills all its workers."""
        self.losses += 1
        reason = first_line(error)
        if losses >= MOST_LOSSES:
            raise EngineError(
                f"{losses} workers died one after another on {piece}: {reason} They probably ran out of memory, or "
                "the accelerator's driver fails. Finished work is kept."
            )
        self.reporter.say(f"A worker of the cluster was lost ({type(error).__name__}); its piece is done again.")


def _connect(address: str) -> None:
    """Connect to a cluster, or start Ray on this machine."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options["include_dashboard"] = False
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, ImportError, TimeoutError, AssertionError) as error:
        raise EngineError(
            f"There is no Ray cluster at {address}: {first_line(error)} Start one with ray start --head and give the "
            "address that it prints. From a machine outside the cluster, give ray://HOST:10001."
        ) from None


def _check_connection(address: str) -> None:
    """Check that an address, if one is given, is that of the cluster that this process is connected to."""
    connected = ray.get_runtime_context().gcs_address
    if address not in ("", "auto", connected) and not address.startswith("ray://"):
        raise EngineError(
            f"This process is connected to the Ray cluster at {connected}, and can't work on the one at {address} as "
            "well. Call ray.shutdown() first."
        )


def _knock(address: str) -> None:
    """Make sure that somebody listens at an address, which Ray would otherwise find out in minutes."""
    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(
            f"The address {address!r} is not an address of a Ray cluster. Write HOST:PORT, ray://HOST:PORT or auto."
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER) as connection:
            speaks = _speaks_http2(connection)
    except (OSError, OverflowError) as error:
        raise EngineError(
            f"Nothing answers at {place} ({error}). Start a cluster with ray start --head, and give the address that "
            "it prints."
        ) from None
    if not speaks and os.environ.get("RAY_USE_TLS", "0") != "1":
        raise EngineError(
            f"Something answers at {place}, but it is not a Ray cluster. Give the address that ray start --head "
            "prints. From a machine outside the cluster, give ray://HOST:10001."
        )


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether the other end begins a connection as HTTP/2 does (RFC 9113, section 3.4), on which Ray's protocol runs.

    Ray itself would wait for minutes for a server that does not.
    """
    settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    reply = connection.recv(9)
    return len(reply) > 3 and reply[3] == settings[3]


def _most_of_a_node(resource: str) -> float:
    """Return how much of a resource the best node of the cluster has."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max((float(resources.get(resource, 0)) for resources in alive), default=0.0)


def _as_raised(outcome: PieceOutcome) -> VimiError:
    """Return the error that a piece raised, with its class and message."""
    kind: type[VimiError] = getattr(errors, outcome.error, VimiError)
    return kind.__new__(kind, outcome.message)


def _versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of everything that can change a number, but not the kind of machine."""
    return tuple((name, version) for name, version in package_versions().items() if name != "machine")


# ---------------------------------------------------------------- on the worker

_held: OrderedDict[tuple[Equipment[Any], int], Any] = OrderedDict()
"""What this worker has loaded, by equipment and accelerator, the last used at the end."""


def _do_piece(piece: Piece[Any, Any], terms: WorkerTerms) -> PieceOutcome:
    """Do a piece on a worker."""
    steps = 0

    def count(done: int) -> None:
        nonlocal steps
        steps += done

    try:
        _check_versions(terms)
        accelerator = _prepare(terms)
        return PieceOutcome(piece.run(_equip(piece.equipment, accelerator, terms), count), steps)
    except VimiError as error:
        return PieceOutcome(error=type(error).__name__, message=str(error))


def _check_versions(terms: WorkerTerms) -> None:
    """Check that this worker has the packages of the process that hands out the pieces.

    Raises
    ------
    EngineError
        Naming the packages that differ.
    """
    own = dict(_versions())
    differing = [
        f"{name} {own.get(name)} instead of {version}" for name, version in terms.versions if own.get(name) != version
    ]
    if differing:
        raise EngineError(
            f"The worker on {socket.gethostname()} has {', '.join(differing)}. All machines must run the same package "
            "versions, or their numbers could differ: install the same on every machine of the cluster."
        )


def _prepare(terms: WorkerTerms) -> int:
    """Set torch up as the process that hands out the pieces has; returns the accelerator of the task, or -1."""
    accelerator = -1
    if terms.device == "cuda":
        choose_device("cuda")  # a node that only says that it has an accelerator fails here, in words
        accelerator = accelerator_index(ray.get_gpu_ids(), os.environ.get(_VISIBLE))
        torch.cuda.set_device(accelerator)
    prepare_torch(torch.device(terms.device))
    if torch.get_num_threads() != terms.threads:
        torch.set_num_threads(terms.threads)  # Ray allows as many as the task has cores
    return accelerator


def accelerator_index(given: Sequence[int | str], visible: str | None) -> int:
    """Return torch's index of the accelerator that a task was given.

    Parameters
    ----------
    given
        Ray's names of the task's accelerators.
    visible
        ``CUDA_VISIBLE_DEVICES`` of the worker, if it is set: torch counts what is listed there.
    """
    name = str(given[0])
    listed = [part.strip() for part in (visible or "").split(",") if part.strip()]
    return listed.index(name) if name in listed else int(name)


def _equip(equipment: Equipment[Any], accelerator: int, terms: WorkerTerms) -> Any:
    """Return what a piece works with, loaded once while it is in use."""
    key = (equipment, accelerator)
    if key not in _held:
        while len(_held) >= KEPT:
            _held.popitem(last=False)
            if terms.device == "cuda":
                torch.cuda.empty_cache()
        _held[key] = equipment.load()
    _held.move_to_end(key)
    return _held[key]
