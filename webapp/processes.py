"""Several processes that serve one study on one port.

Python runs one thread at a time, so that a single process serves pages with one of a machine's processors, however many
there are. Processes share what a study shares anyway, its database, and the socket on which people knock: whichever is
free opens the door. A page belongs to the process that holds its socket; where somebody is, the database knows.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep
from types import FrameType

from benchmark.errors import HostingError
from benchmark.processors import count_processors

MOST_BY_DEFAULT = 2
"""Processes of a server unless it is told otherwise."""

START_SECONDS = 10.0
"""A process that ends so soon after the server's start would only do so again; one that ends later is replaced."""

PAUSE_SECONDS = 1.0
"""Before a process is replaced, so that one that ends again and again leaves the others some of the machine."""

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Signals that end a server."""


def choose_processes(asked: int = 0) -> int:
    """Return how many processes serve: as requested, or one per processor, up to two.

    Parameters
    ----------
    asked
        How many are wanted; 0 leaves it to the machine.

    Raises
    ------
    HostingError
        If several are asked for on a system that can't copy a process.
    """
    if asked > 1 and not hasattr(os, "fork"):
        raise HostingError("This system can't serve with several processes: leave --processes out.")
    # On macOS, frameworks that a copied process meets may end it.
    return asked or (min(MOST_BY_DEFAULT, count_processors()) if sys.platform == "linux" else 1)


def run_processes(count: int, work: Callable[[], None], abandoned: Callable[[], None] = lambda: None) -> None:
    """Do some work in several processes until this one is told to stop; a process that fails is replaced.

    This process must not have begun any thread. It only watches: what it was told, by SIGINT or SIGTERM, it tells the
    others. If it is killed, they end with it.

    Parameters
    ----------
    count
        How many processes; with one, the work is done here.
    work
        What each does. It ends when it is told to stop.
    abandoned
        What each does besides before it ends because this process was killed, which then can't do it itself.

    Raises
    ------
    HostingError
        If a process ends with an error right after its start.
    """
    if count == 1:
        work()
        return
    gc.collect()
    gc.freeze()  # what is alive stays on pages of memory that the processes share
    watched, held = os.pipe()
    running: set[int] = set()
    opened = monotonic()
    stopping = False

    def start() -> None:
        sys.stdout.flush()  # else each process would say it again
        sys.stderr.flush()
        # A signal that came before the new process is its own would be taken by what it has inherited, and be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        process = os.fork()
        if process == 0:
            os.close(held)
            _be_one(watched, work, abandoned)
        running.add(process)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        if stopping:
            os.kill(process, signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for process in running:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    before = {number: signal.signal(number, stop) for number in STOPPING}
    failed = False
    try:
        for _ in range(count):
            start()
        while running:
            process, status = os.wait()
            running.discard(process)
            if stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if monotonic() - opened < START_SECONDS:
                failed = True
                stop(signal.SIGTERM, None)
            else:
                sleep(PAUSE_SECONDS)
                print(
                    f"A process of the server ended ({code}); vimi replaces it. No answer is lost.",
                    flush=True,
                )
                if not stopping:
                    start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(held)
        os.close(watched)
    if failed:
        raise HostingError("A server process stopped right after it started; its messages are above.")


def _be_one(watched: int, work: Callable[[], None], abandoned: Callable[[], None]) -> None:
    """Do the work in a separate process, and end it."""

    def watch() -> None:
        os.read(watched, 1)  # ends when whoever holds the other end is gone
        abandoned()
        os._exit(1)

    code = 1
    try:
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        threading.Thread(target=watch, name="vimi.watcher", daemon=True).start()
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"A process of the server failed: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what the parent would do at its end is not ours to do
