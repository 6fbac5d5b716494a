"""Load on a hosted study: people who arrive, pages they turn, answers they give. Run by hand:

    python -m tests.speed.hosting arrivals [STUDY] --people 300   # in a minute; --before DIR: an older vimi too
    python -m tests.speed.hosting flood [STUDY]                   # one socket floods; somebody else turns pages
    python -m tests.speed.hosting memory [STUDY]                  # 300 who come and leave, one after another
    python -m tests.speed.hosting answers [STUDY]                 # many who answer; then as fast as can be

Without STUDY, one of photographs is made, with slots for everybody. Whoever arrives fetches the page and all files that
it names, opens Streamlit's socket, and goes from the device check to the first trial as a browser does, with every
click a run of the page: ten of them, about four seconds apart. Then they answer every eight seconds or so (a protocol
counts on thirteen, a trial can't take less than three) over the route that browsers use, and fetch the pictures of
every trial in one reply. A page takes from the click until the server says that the page is complete. The generators
run on the same machine, and take their share of it: what they and everything else took is printed beside, as shares of
all cores while the people were there.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from benchmark.database import Database, answers
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from tests.servers import Server, running
from tests.speed.networks import make_study
from tests.tabs import Tab
from webapp.answering import ShownTrial
from webapp.bots import Recognition
from webapp.processes import choose_processes

LOCKED_SECONDS = 1.5
RENDITION = "lossless-160"
"""What a window of 1280 x 720 asks for."""

STARTING_SECONDS = 20
"""Before people come: so long the processes that play them need to start."""

HEADERS = {"content-type": "application/json", "accept-encoding": "gzip, deflate, br"}

LOADS = ("milliseconds", "pictures", "files", "pages", "errors", "acknowledged")


@dataclass
class Load:
    """What happened while so many people answered."""

    milliseconds: list[float] = field(default_factory=list)
    pictures: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    seconds: float = 0.0
    processor: float = 0.0
    """Processor seconds that those who played the people took."""


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
                self.connection.request(method, path, body, HEADERS)
                response = self.connection.getresponse()
                content = response.read()
                packed = response.headers["content-encoding"] == "gzip" and not path.startswith("/static/")
                return response.status, gzip.decompress(content) if packed else content
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
        tab = Tab(self.server.port, f"p={self.token}")
        self.open.callback(tab.close)
        tab.connect()
        self.load.pages.append(tab.run() * 1000)

    def see(self) -> None:
        """Fetch the pictures of the trial, and of those to come, that the browser does not have yet."""
        shown = self.shown
        for names in ([*shown["left"], *shown["right"], shown["upper"], shown["lower"]], *shown["upcoming"]):
            bundle = ".".join(sorted(set(names)))
            if bundle in self.known or not self.fetch_pictures:
                continue
            begun = time.perf_counter()
            status, _ = self.exchange("GET", f"/pictures/{RENDITION}/{bundle}")
            self.known.add(bundle)
            self.load.pictures.append((time.perf_counter() - begun) * 1000)
            if status != 200:
                self.load.errors.append(f"picture {status}")

    def answer(self) -> None:
        """Answer; the clock runs until the acknowledgement, with the next trial in it, is read."""
        trial = self.shown["trial"]
        task, _ = self.recognition.find(ShownTrial.model_validate(self.shown))
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


# -------------------------------------------------------------------- arrivals


SEEN = {"event": "checked", "value": {"width": 1280, "height": 800, "browser": "chrome", "capable": True}}
NAMED = re.compile(rb'(?:src|href)="\./(static/[^"]+)"')


class Newcomer(Person):
    """Somebody who comes as a browser does."""

    def walk(self, think: Callable[[], float]) -> None:
        """Go from the first file to the first trial."""
        for name in dict.fromkeys(NAMED.findall(self._fetch("/"))):
            self._fetch(f"/{name.decode()}")
        self.tab = Tab(self.server.port)
        self.open.callback(self.tab.close)
        self.tab.connect()
        self._turn(self.tab.run())
        self._turn(self.tab.run(**{"device-check": SEEN}))
        for step in ("agree", "colour", "lines", "vision", "page-", "page-", "page-", "page-", "instructed", "begin-"):
            if step == "page-" and any(name.endswith("-instructed") for name in self.tab.elements):
                continue
            time.sleep(think())
            if step in ("colour", "lines"):
                self._turn(self.tab.choose(step, "normal" if step == "colour" else "lower"))
            else:
                self._turn(self.tab.run(**{step: True}))
        if self.tab.exceptions:
            raise RuntimeError(self.tab.exceptions[0])
        (data,) = self.tab.components.values()
        self.token, self.shown = data["participant"], data["presentation"]

    def _fetch(self, path: str) -> bytes:
        """Fetch a file of the page."""
        begun = time.perf_counter()
        status, body = self.exchange("GET", path)
        self.load.files.append((time.perf_counter() - begun) * 1000)
        if status != 200:
            self.load.errors.append(f"{path}: {status}")
        return body

    def _turn(self, seconds: float) -> None:
        self.load.pages.append(seconds * 1000)


def let_arrive(
    port: int, study: Path, numbers: Sequence[int], within: float, until: float, think: float, pace: float, start: float
) -> Load:
    """Let some people arrive, each at a random moment of a minute, and answer until the time is over."""
    load = Load()
    server = Server(study, port)
    recognition = Recognition(assemble_tasks(Study.open(study).stimuli()))
    time.sleep(max(0.0, start - time.time()))
    spent = time.process_time()

    def take_part(number: int) -> None:
        generator = np.random.default_rng(number)
        person = Newcomer(server, load, recognition)

        def pause(seconds: float = think) -> float:
            return float(seconds * generator.uniform(0.5, 1.5))

        try:
            time.sleep(max(0.0, start + float(generator.uniform(0, within)) - time.time()))
            person.walk(pause)
            while time.time() < start + until and person.shown is not None:
                person.see()
                time.sleep(pause(pace))
                person.answer()
        except Exception as error:
            load.errors.append(f"{type(error).__name__}: {error}")
        finally:
            person.close()

    threads = [threading.Thread(target=take_part, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.processor = time.process_time() - spent
    return load


def family(process: int) -> list[psutil.Process]:
    """Return a process and those that it has begun."""
    first = psutil.Process(process)
    return [first, *first.children()]


def processor_seconds(process: int) -> float:
    """Return the processor time that a server has taken, with all its processes."""
    times = [one.cpu_times() for one in family(process)]
    return float(sum(spent.user + spent.system for spent in times))


def memory_mb(process: int) -> float:
    """Return the memory of a server, with all its processes; what they share counts once (Linux)."""
    return float(sum(one.memory_full_info().pss for one in family(process))) / 1e6


@contextmanager
def serving(given: argparse.Namespace, folder: Path | None) -> Iterator[tuple[Server, int, str]]:
    """Serve the study from an empty database, by an older vimi's sources if a folder is given.

    One page was opened already, so that nothing is imported amid what is measured: that belongs to the start.

    Yields
    ------
    The server, the number of its process, and its database.
    """
    with TemporaryDirectory() as place:
        url = f"sqlite:///{Path(place) / 'load.sqlite'}"
        environment = {"PYTHONPATH": str(folder)} if folder else {}
        options = ("--bots", "--database", url)
        if folder is None:
            options = (*options, "--processes", str(given.processes))
        with running(given.study, *options, environment=environment, cwd=folder) as server:
            assert server.process is not None
            with Tab(server.port, seconds=300) as tab:
                tab.open()
            yield server, server.process.pid, url


def versions(given: argparse.Namespace) -> Iterator[tuple[str, Path | None]]:
    """Return what is measured: an older vimi, if its sources are given, and this one."""
    if given.before is not None:
        yield "before", given.before
    yield "this one", None


def machine_seconds() -> float:
    """Return the processor time that the whole machine has taken (Linux)."""
    fields = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields[:8]) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def measure_arrivals(given: argparse.Namespace, console: Console) -> None:
    """Let people arrive at the server, and at an older one if there is one, and print what they met."""
    table = Table("version", "people", "page runs", "page p50 ms", "p95", "max", "answers", "answer p50 ms", "p95",
                  "max", "picture p95 ms", "file p95 ms", "CPU ms a page", "server %", "people %", "others %",
                  "memory MB", "errors", "lost or doubled")  # fmt: skip
    for version, folder in versions(given):
        with serving(given, folder) as (server, process, url):
            shares = [range(n, given.people, given.generators) for n in range(given.generators)]
            until = given.within + given.seconds
            start = time.time() + STARTING_SECONDS
            with ProcessPoolExecutor(given.generators, mp_context=get_context("spawn")) as pool:
                playing = pool.map(
                    let_arrive, repeat(server.port), repeat(given.study), shares, repeat(given.within), repeat(until),
                    repeat(given.think), repeat(given.pace), repeat(start),
                )  # fmt: skip
                time.sleep(max(0.0, start - time.time()))
                spent, busy = processor_seconds(process), machine_seconds()
                parts = list(playing)
                passed = time.time() - start
            spent, busy = processor_seconds(process) - spent, machine_seconds() - busy
            memory = memory_mb(process)
            load = Load(processor=sum(part.processor for part in parts))
            for part in parts:
                for name in LOADS:
                    getattr(load, name).extend(getattr(part, name))
            missing = count_missing(url, load)
        pages, answered = (
            [f"{value:.0f}" for value in np.percentile(values or [np.nan], [50, 95, 100])]
            for values in (load.pages, load.milliseconds)
        )
        cores = (os.cpu_count() or 1) * passed
        table.add_row(
            version, f"{given.people} in {given.within:.0f} s", str(len(load.pages)), *pages,
            str(len(load.acknowledged)), *answered, f"{np.percentile(load.pictures or [np.nan], 95):.0f}",
            f"{np.percentile(load.files or [np.nan], 95):.0f}", f"{1000 * spent / max(len(load.pages), 1):.0f}",
            *(f"{100 * part / cores:.0f}" for part in (spent, load.processor, busy - spent - load.processor)),
            f"{memory:.0f}", str(len(load.errors)), str(missing),
        )  # fmt: skip
        for error, count in Counter(load.errors).most_common(3):
            console.print(f"{version}: {count} x {error}")
    console.print(table)


# -------------------------------------------------------------------- memory


def measure_memory(given: argparse.Namespace, console: Console) -> None:
    """Let people come to their first trial and leave, one after another, and print the server's memory as they go."""
    table = Table("version", *(f"MB after {count}" for count in range(0, given.people + 1, given.people // 6)))
    recognition = Recognition(assemble_tasks(given.study_opened.stimuli()))
    for version, folder in versions(given):
        with serving(given, folder) as (server, process, _):
            seen = []
            for count in range(given.people + 1):
                if count % (given.people // 6) == 0:
                    seen.append(f"{memory_mb(process):.0f}")
                load = Load()
                person = Newcomer(server, load, recognition)
                try:
                    person.walk(lambda: 0.0)
                finally:
                    person.close()
            table.add_row(version, *seen[:7])
    console.print(table)


# -------------------------------------------------------------------- a flood


def measure_flood(given: argparse.Namespace, console: Console) -> None:
    """Let one socket flood the server, and measure how long somebody else's pages take meanwhile and afterwards."""
    table = Table("version", "messages a second", "messages sent", "other pages during", "median s", "longest s",
                  "until served s", "CPU s", "load")  # fmt: skip
    for version, folder in versions(given):
        for rate in given.rates:
            with serving(given, folder) as (server, process, _):
                spent = processor_seconds(process)
                flooder = Flooder(server.port, rate, given.seconds)
                flooder.start()
                served: list[float] = []
                while flooder.is_alive():
                    served.append(_open_a_page(server.port, given.patience))
                    time.sleep(0.5)
                last = _open_a_page(server.port, given.patience)
                spent = processor_seconds(process) - spent
                table.add_row(
                    version, str(rate), str(flooder.sent), str(len(served)), f"{np.median(served):.2f}",
                    f"{max(served):.2f}", f"{last:.2f}", f"{spent:.1f}", f"{os.getloadavg()[0]:.1f}",
                )  # fmt: skip
                flooder.join()
    console.print(table)


def _open_a_page(port: int, patience: float) -> float:
    begun = time.perf_counter()
    try:
        with Tab(port, seconds=patience) as tab:
            tab.open()
    except TimeoutError:
        return patience
    return time.perf_counter() - begun


class Flooder(threading.Thread):
    """One socket that asks for runs without end; it reads nothing of what comes back but as much as it must."""

    def __init__(self, port: int, rate: float, seconds: float) -> None:
        super().__init__(daemon=True)
        self.tab, self.rate, self.seconds, self.sent = Tab(port), rate, seconds, 0

    def run(self) -> None:
        """Ask, as often as the rate says; when it is shown out, come again."""
        ends = time.perf_counter() + self.seconds
        while time.perf_counter() < ends:
            try:
                with Tab(self.tab.port) as tab:
                    socket = tab.connect()
                    message = tab.message()
                    threading.Thread(target=_read, args=(socket,), daemon=True).start()
                    while time.perf_counter() < ends:
                        socket.send(message)
                        self.sent += 1
                        time.sleep(1 / self.rate)
            except (ConnectionClosed, OSError, TimeoutError):
                time.sleep(0.1)


def _read(socket: ClientConnection) -> None:
    try:
        while True:
            socket.recv()
    except ConnectionClosed:
        pass


# -------------------------------------------------------------------- answers


def measure_answers(given: argparse.Namespace, console: Console) -> None:
    """Let people answer who are there already, then as fast as the servers take it."""
    table = Table("servers", "people", "answers", "answers/s", "p50 ms", "p95 ms", "p99 ms", "page p50 ms",
                  "picture p95 ms", "load", "errors", "missing or doubled")  # fmt: skip
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
            f"{os.getloadavg()[0]:.1f}", str(len(load.errors)), str(missing),
        )  # fmt: skip
        for error in load.errors[:3]:
            console.print(error)
    console.print(table)


def main() -> None:
    """Read the arguments, put load on real servers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for name, measure, people, seconds in (
        ("arrivals", measure_arrivals, 300, 60.0), ("flood", measure_flood, 1, 20.0),
        ("memory", measure_memory, 300, 0.0), ("answers", measure_answers, 50, 60.0),
    ):  # fmt: skip
        verb = verbs.add_parser(name, help=str(measure.__doc__).partition(".")[0])
        verb.set_defaults(measure=measure)
        verb.add_argument(
            "study", nargs="?", type=lambda text: Path(text).resolve(), help="one is made if not given; minutes"
        )
        verb.add_argument("--people", type=int, default=people)
        verb.add_argument("--think", type=float, default=4.0, help="seconds between two clicks of a person")
        verb.add_argument("--seconds", type=float, default=seconds)
        if name == "answers":
            verb.add_argument("--database", default="", help="URL; a new SQLite file each time if not given")
            continue
        verb.add_argument("--before", type=lambda text: Path(text).resolve(), help="sources of an older vimi")
        verb.add_argument("--processes", type=int, default=choose_processes(), help="of this vimi's server")
        if name == "arrivals":
            verb.add_argument("--within", type=float, default=60.0, help="seconds in which all arrive")
            verb.add_argument("--pace", type=float, default=8.0, help="seconds between two answers of who has arrived")
            verb.add_argument("--generators", type=int, default=2, help="processes that play people")
        if name == "flood":
            verb.add_argument("--rates", type=float, nargs="+", default=[60.0, 200.0], help="messages a second")
            verb.add_argument("--patience", type=float, default=120.0, help="seconds that a page is waited for")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        if given.study is None:
            given.study = make_study(Path(folder) / "study", trials=20, slots=given.people + 20).root
        given.study_opened = Study.open(given.study)
        given.measure(given, Console(width=230))


if __name__ == "__main__":
    main()
