"""Real servers for tests: processes of their own, stopped or killed, and asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.forking import Forked

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 300
"""A loaded machine is slow; a server that is broken ends by itself, and is not waited for."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Reply:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running ``vimi serve``."""

    study: Path
    port: int
    options: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | Forked | None = None
    cwd: Path = ROOT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        # The same on every machine, however many processors it has; tests of several processes ask for them.
        one = () if "--processes" in self.options else ("--processes", "1")
        self.process = Forked(
            ["serve", str(self.study), "--port", str(self.port), *one, *self.options], cwd=self.cwd,
            log=self.study / f"server-{self.port}.log",
            environment={**os.environ, "OMP_NUM_THREADS": "1", **self.environment},
        )  # fmt: skip
        self.wait()

    def wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process is not None and self.process.poll() is None, self.log()
            try:
                if self.request("GET", "/_stcore/health").status == 200:
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"The server did not start in {START_SECONDS} s: {self.log()}")

    def log(self) -> str:
        return (self.study / f"server-{self.port}.log").read_text(encoding="utf-8", errors="replace")

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)
            self.process.wait(timeout=300)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 120
    ) -> Reply:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  # our own server
            self.url + path, data=data, method=method, headers={"content-type": "application/json", **(headers or {})}
        )
        begun = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
                content = response.read()
                status, fields = response.status, response.headers
        except urllib.error.HTTPError as error:
            content, status, fields = error.read(), error.code, error.headers
        taken = time.perf_counter() - begun
        return Reply(status, {name.lower(): value for name, value in fields.items()}, content, taken)

    def bot(self, step: str, participant: str | None = None, **values: Any) -> Any:
        """Take a step as a simulated person."""
        message: dict[str, Any] = {"step": step, "values": values}
        if participant is not None:
            message["participant"] = participant
        reply = self.request("POST", "/api/bot", message)
        assert reply.status == 200, (reply.status, reply.body)
        return reply.json()

    def bot_at_practice(self) -> str:
        """Let a simulated person come as far as the practice; returns their token."""
        token = str(self.bot("arrive")["participant"]["token"])
        self.bot("check_device", token, width=1280, height=800, browser="chrome")
        self.bot("agree", token)
        self.bot("answer_colour_vision", token, answer="normal")
        self.bot("finish_instructions", token)
        return token


@contextmanager
def running(
    study: Path,
    *options: str,
    environment: dict[str, str] | None = None,
    port: int | None = None,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run a server for as long as the block lasts."""
    server = Server(study, port or free_port(), options, environment or {}, cwd=cwd or ROOT)
    try:
        server.start()
        yield server
    finally:
        server.kill()
