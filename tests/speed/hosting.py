"""Load on a hosted study: from click to acknowledged answer, with many people at once. Run by hand:

    python -m tests.speed.hosting STUDY

Every simulated person holds a page open (Streamlit's socket, with the page really run), fetches the pictures of each
trial, thinks, and answers over the route that browsers use. The generator runs on the same machine, and takes its
share of it. Prints a table; then looks for the rate at which the server saturates.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from benchmark.database import Database, answers
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from tests.servers import Server, running
from webapp.answering import Presentation
from webapp.bots import Recognition

LOCKED_SECONDS = 1.5


@dataclass
class Load:
    """What happened while so many people answered."""

    milliseconds: list[float] = field(default_factory=list)
    pictures: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Person:
    """Somebody with a page open and a connection of their own."""

    def __init__(self, server: Server, load: Load, recognition: Recognition, fetch_pictures: bool = True) -> None:
        self.server, self.load, self.recognition, self.fetch_pictures = server, load, recognition, fetch_pictures
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self.known: set[str] = set()
        self.open = ExitStack()

    def exchange(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Send a request; a connection that the server has closed meanwhile is opened again, as browsers do."""
        for attempt in (1, 2):
            try:
                self.connection.request(method, path, body, {"content-type": "application/json"})
                response = self.connection.getresponse()
                return response.status, response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.connection.close()
                if attempt == 2:
                    raise
        raise AssertionError

    def post(self, path: str, message: dict[str, Any]) -> tuple[int, Any]:
        status, body = self.exchange("POST", path, json.dumps(message))
        return status, json.loads(body or b"null")

    def step(self, step: str, token: str = "", **values: Any) -> Any:
        status, reply = self.post("/api/bot", {"step": step, "participant": token, "values": values})
        if status != 200:
            raise RuntimeError(f"{step}: {status} {reply}")
        return reply

    def arrive(self) -> None:
        self.token = str(self.step("arrive")["participant"]["token"])
        self.step("check_device", self.token, width=1280, height=800, browser="chrome")
        self.step("agree", self.token)
        self.step("answer_colour_vision", self.token, answer="normal")
        self.step("finish_instructions", self.token)
        self.shown = self.step("current_trial", self.token)["trial"]

    def open_page(self) -> None:
        """Open the page as a browser does: the socket, and a run of the script until it says that it is finished."""
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
        from websockets import Subprotocol
        from websockets.sync.client import connect

        begun = time.perf_counter()
        address = f"ws://127.0.0.1:{self.server.port}/_stcore/stream"
        self.socket = self.open.enter_context(connect(address, subprotocols=[Subprotocol("streamlit")]))
        message = BackMsg()
        message.rerun_script.query_string = f"p={self.token}"
        self.socket.send(message.SerializeToString())
        while True:
            read = ForwardMsg()
            read.ParseFromString(self.socket.recv(timeout=60))
            if read.WhichOneof("type") == "script_finished":
                break
        self.load.pages.append((time.perf_counter() - begun) * 1000)

    def see(self) -> None:
        """Fetch the pictures of the trial that the browser does not have yet."""
        shown = self.shown
        for name in (*shown["left"], *shown["right"], shown["upper"], shown["lower"], *shown["upcoming"]):
            if name in self.known or not self.fetch_pictures:
                continue
            begun = time.perf_counter()
            status, _ = self.exchange("GET", f"/image/{name}")
            self.known.add(name)
            self.load.pictures.append((time.perf_counter() - begun) * 1000)
            if status != 200:
                self.load.errors.append(f"picture {status}")

    def answer(self) -> None:
        """Answer; the clock runs until the acknowledgement, with the next trial in it, is read."""
        trial = self.shown["trial"]
        task, _ = self.recognition.find(Presentation.model_validate(self.shown))
        position = "upper" if task["query_max"] == self.shown["upper"] else "lower"
        message = {
            "participant": self.token, "trial": trial, "position": position, "confidence": 2, "rt_ms": 2000.0,
            "onset_delay_ms": 16.0, "visible": True, "focused": True, "input": "pointer", "early_inputs": 0,
            "trace": {"moves": 40, "path": 900},
        }  # fmt: skip
        begun = time.perf_counter()
        status, reply = self.post("/api/answer", message)
        self.load.milliseconds.append((time.perf_counter() - begun) * 1000)
        if status != 200 or reply["state"] != "stored":
            self.load.errors.append(f"answer {status} {reply}")
            return
        self.load.acknowledged.append(trial)
        self.shown = reply["next"] or self.step("current_trial", self.token)["trial"]

    def close(self) -> None:
        self.open.close()
        self.connection.close()


def put_load(
    servers: Sequence[Server], people: int, think_seconds: float, seconds: float, fetch_pictures: bool = True
) -> Load:
    """Let people answer for some time, each about every ``think_seconds``."""
    load = Load()
    recognition = Recognition(assemble_tasks(Study.open(servers[0].study).stimuli()))
    crowd = [Person(servers[number % len(servers)], load, recognition, fetch_pictures) for number in range(people)]
    for person in crowd:
        person.arrive()
        person.open_page()
    start = time.perf_counter()

    def take_part(person: Person, number: int) -> None:
        generator = np.random.default_rng(number)
        try:
            time.sleep(float(generator.uniform(0, think_seconds)))
            while time.perf_counter() - start < seconds and person.shown is not None:
                person.see()
                locked = min(LOCKED_SECONDS, think_seconds / 2)
                time.sleep(locked + float(generator.exponential(think_seconds - locked)))
                person.answer()
        except Exception as error:
            load.errors.append(f"{type(error).__name__}: {error}")
        finally:
            person.close()

    threads = [threading.Thread(target=take_part, args=(person, number)) for number, person in enumerate(crowd)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - start
    return load


def count_missing(url: str, load: Load) -> int:
    """Return how many acknowledged answers the database does not hold exactly once."""
    database = Database(url)
    with database.reading() as connection:
        stored = connection.execute(sa.select(answers.c.token)).scalars().all()
    database.close()
    counts = {token: stored.count(token) for token in load.acknowledged}
    return sum(count != 1 for count in counts.values())


def main() -> None:
    """Read the arguments, put load on real servers and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--think", type=float, default=4.0, help="seconds between two answers of a person")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--database", default="", help="URL; a new SQLite file each time if not given")
    given = parser.parse_args()
    table = Table("servers", "people", "answers", "answers/s", "p50 ms", "p95 ms", "p99 ms", "page p50 ms",
                  "picture p95 ms", "errors", "missing or doubled")  # fmt: skip
    console = Console(width=150)
    setups = [(1, given.people, given.think, True), (2, given.people, given.think, True)]
    setups += [(1, 2 * given.people, given.think, True)]
    # As much as the servers take: without pictures, which a browser or nginx has by then.
    setups += [(count, 60, 0.3, False) for count in (1, 2)]
    for count, people, think, pictures in setups:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            url = given.database or f"sqlite:///{Path(folder) / 'load.sqlite'}"
            options = ("--bots", "--database", url)
            servers = [stack.enter_context(running(given.study, *options)) for _ in range(count)]
            load = put_load(servers, people, think, given.seconds, pictures)
            missing = count_missing(url, load)
        p50, p95, p99 = np.percentile(load.milliseconds, [50, 95, 99]) if load.milliseconds else [float("nan")] * 3
        table.add_row(
            str(count), f"{people}, every {think:g} s", str(len(load.acknowledged)),
            f"{len(load.acknowledged) / load.seconds:.1f}", f"{p50:.0f}", f"{p95:.0f}", f"{p99:.0f}",
            f"{np.median(load.pages):.0f}", f"{np.percentile(load.pictures, 95):.0f}" if load.pictures else "–",
            str(len(load.errors)), str(missing),
        )  # fmt: skip
        for error in load.errors[:3]:
            console.print(error)
    console.print(table)


if __name__ == "__main__":
    main()
