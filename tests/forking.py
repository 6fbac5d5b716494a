"""Starts ``vimi`` commands of tests from a process that has imported what servers need: it forks for each of them.

It reads what to start from its standard input, a line of JSON each, and ends when that is closed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Forked:
    """A process that was started so: as much of ``subprocess.Popen`` as a server needs."""

    _parent: subprocess.Popen[str] | None = None

    def __init__(self, arguments: list[str], *, cwd: Path, log: Path, environment: dict[str, str]) -> None:
        if Forked._parent is None:
            Forked._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.forking"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True,
            )  # fmt: skip
        parent = Forked._parent
        assert parent.stdin is not None and parent.stdout is not None
        order = {"arguments": arguments, "cwd": str(cwd), "log": str(log), "environment": environment}
        parent.stdin.write(json.dumps(order) + "\n")
        parent.stdin.flush()
        self.pid = int(parent.stdout.readline())

    def poll(self) -> int | None:
        """Return None while the process is there; nobody knows what it ended with."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return 0


def become(order: dict[str, Any]) -> None:
    """Turn this process into the command that was ordered."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(order["cwd"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for place, file in enumerate((nothing, log, log)):
        os.dup2(file, place)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["vimi", *order["arguments"]]
    from benchmark.command_line import main

    main()


def wait_for_orders() -> None:
    """Import what takes long, and fork for every order."""
    import gc

    import benchmark.command_line.tables
    import benchmark.workflow  # noqa: F401
    import webapp.screens.participant
    import webapp.server  # noqa: F401

    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while line := sys.stdin.readline():
        process = os.fork()
        if process == 0:
            become(json.loads(line))
            return
        print(process, flush=True)


if __name__ == "__main__":
    wait_for_orders()
