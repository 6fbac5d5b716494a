"""Several processes behind one port: they are watched, replaced, and end together; downloads are found by all."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from streamlit.runtime.media_file_storage import MediaFileKind, MediaFileStorageError

from benchmark import database as databases
from benchmark.database import Database
from benchmark.errors import DatabaseError, HostingError
from tests.hosted import make_hosted_study
from tests.servers import free_port, running
from webapp import processes
from webapp.downloads import SharedDownloads
from webapp.processes import choose_processes, run_processes
from webapp.server import listening

copies_processes = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't copy a process")


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "It did not come about."
        time.sleep(0.01)


@pytest.fixture
def watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[psutil.Process, Path]]:
    """A process that watches two others, each of which writes its number into a folder and waits."""
    monkeypatch.setattr(processes, "START_SECONDS", 0.0)
    monkeypatch.setattr(processes, "PAUSE_SECONDS", 0.0)

    def work() -> None:
        (tmp_path / f"begun-{os.getpid()}").touch()
        signal.pause()

    number = os.fork()
    if number == 0:
        code = 1
        try:
            run_processes(2, work, abandoned=(tmp_path / "abandoned").touch)
            code = 0
        finally:
            os._exit(code)
    made = psutil.Process(number)
    wait_until(lambda: len(begun(tmp_path)) == 2)
    yield made, tmp_path
    for one in [*(psutil.Process(n) for n in begun(tmp_path) if psutil.pid_exists(n)), made]:
        if one.is_running():
            one.kill()
    made.wait(60)


def begun(folder: Path) -> set[int]:
    return {int(path.name.rpartition("-")[2]) for path in folder.glob("begun-*")}


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def are_gone(numbers: set[int]) -> bool:
    return not any(psutil.pid_exists(n) and psutil.Process(n).status() != psutil.STATUS_ZOMBIE for n in numbers)


@copies_processes
def test_a_process_that_breaks_down_is_replaced(watcher: tuple[psutil.Process, Path]) -> None:
    made, folder = watcher
    first = begun(folder)
    os.kill(min(first), signal.SIGKILL)
    wait_until(lambda: len(begun(folder)) == 3)
    wait_until(lambda: {child.pid for child in made.children()} == begun(folder) - {min(first)})


@copies_processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_end_when_one_is_told_to(watcher: tuple[psutil.Process, Path], number: signal.Signals) -> None:
    made, folder = watcher
    made.send_signal(number)
    assert os.waitstatus_to_exitcode(os.waitpid(made.pid, 0)[1]) == 0
    assert are_gone(begun(folder)) and len(begun(folder)) == 2 and not (folder / "abandoned").exists()


@copies_processes
def test_none_is_left_behind_when_the_first_is_killed(watcher: tuple[psutil.Process, Path]) -> None:
    made, folder = watcher
    made.kill()
    os.waitpid(made.pid, 0)
    wait_until(lambda: are_gone(begun(folder)))
    assert (folder / "abandoned").exists()


@copies_processes
def test_one_that_fails_at_once_stops_the_server(tmp_path: Path) -> None:
    def work() -> None:
        if not (tmp_path / "first").exists():
            (tmp_path / "first").touch()
            raise HostingError("no")
        signal.pause()

    with pytest.raises(HostingError, match="stopped right after it started"):
        run_processes(4, work)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_process_does_the_work_itself() -> None:
    seen: list[int] = []
    run_processes(1, lambda: seen.append(os.getpid()))
    assert seen == [os.getpid()]


def test_how_many_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_processes(5) == 5
    monkeypatch.setattr(processes, "count_processors", lambda: 1)
    assert choose_processes() == 1
    monkeypatch.setattr(processes, "count_processors", lambda: 16)
    monkeypatch.setattr(sys, "platform", "linux")
    assert choose_processes() == processes.MOST_BY_DEFAULT == 2
    monkeypatch.setattr(sys, "platform", "darwin")
    assert choose_processes() == 1
    monkeypatch.delattr(os, "fork", raising=False)
    with pytest.raises(HostingError, match="--processes"):
        choose_processes(2)


@copies_processes
def test_a_study_goes_on_while_its_processes_are_killed(tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study")
    with running(study.root, "--bots", "--processes", "2") as server:
        assert server.process is not None
        above = psutil.Process(server.process.pid)
        wait_until(lambda: len(above.children()) == 2)
        told = [server.bot_at_practice() for _ in range(6)]  # each over a connection of its own: either may answer
        (one, other) = above.children()
        one.kill()
        assert server.bot("current_trial", told[0])["trial"] is not None, "The other one serves meanwhile."
        assert other.is_running()
        above.kill()
        wait_until(lambda: are_gone({other.pid}))
        wait_until(lambda: not is_open(server.port))
    log = server.log()
    assert "Traceback" not in log and "An update to the [server]" not in log


def test_what_is_short_is_sent_at_once() -> None:
    """Without this a reply of two parts waits for an acknowledgement that the other side puts off, 40 ms each time."""

    async def look() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening("127.0.0.1", port) as door:
            server = await asyncio.start_server(meet, sock=door.dup())
            async with server:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                value = await seen
                writer.close()
                await writer.wait_closed()
        return value

    port = free_port()
    assert asyncio.run(look()) != 0
    with listening("127.0.0.1", port), pytest.raises(HostingError, match="Choose another --port"):
        listening("127.0.0.1", port)


def test_downloads_are_found_by_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedDownloads, "folder", tmp_path, raising=False)
    one, other = SharedDownloads("/media"), SharedDownloads("/media")
    content = bytes(range(256)) * 40 + b"\n{}\n"
    name = one.load_and_get_id(content, "application/zip", MediaFileKind.DOWNLOADABLE, "stüdy-csv.zip")
    assert one.get_url(name) == f"/media/{name}.zip"
    found = other.get_file(f"{name}.zip")
    assert found == one.get_file(f"{name}.zip") and found.content == content and found.filename == "stüdy-csv.zip"
    assert one.load_and_get_id(content, "application/zip", MediaFileKind.DOWNLOADABLE, "stüdy-csv.zip") == name
    one.delete_file(name)
    assert list(tmp_path.iterdir()) == []
    for missing in (f"{name}.zip", "../../etc/passwd", ""):
        with pytest.raises(MediaFileStorageError):
            other.get_file(missing)


def test_a_write_waits_for_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two databases of one file stand for two processes: they share no lock but SQLite's."""
    url = f"sqlite:///{tmp_path / 'answers.sqlite'}"
    one, other = Database(url), Database(url)
    with one.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE counted (number INTEGER)")
    order: list[str] = []
    holding = threading.Event()

    def hold() -> None:
        with one.writing() as connection:
            connection.exec_driver_sql("INSERT INTO counted VALUES (1)")
            holding.set()
            time.sleep(0.2)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    with other.writing() as connection:
        order.append("second")
        assert connection.exec_driver_sql("SELECT count(*) FROM counted").scalar_one() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 1000 * databases.BUSY_SECONDS
        monkeypatch.setattr(databases, "BUSY_SECONDS", 0.05)
        with pytest.raises(DatabaseError, match="locked"), one.writing():
            raise AssertionError
    thread.join()
    assert order == ["first", "second"]
    one.close()
    other.close()
