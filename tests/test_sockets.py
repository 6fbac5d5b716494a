"""What one page may ask of the server: floods wait outside, and what no browser says goes no further."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import anyio
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.hosted import make_hosted_study
from tests.servers import Server, running
from tests.tabs import Tab
from webapp import sockets
from webapp.memory import LARGEST_SHARE, SHORTEST_INTERVAL, Collector
from webapp.rates import Rates
from webapp.sockets import BoundedSockets, is_asked_by_browsers
from webapp.visitors import HEADER, SELF, UNTOLD, Visitors

# -------------------------------------------------------------------- visitors


def name(client: str | None, *, behind_proxy: bool = False, visitors: Visitors | None = None, **headers: str) -> str:
    scope = {
        "type": "http", "client": (client, 1) if client else None,
        "headers": [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()],
    }  # fmt: skip
    return (visitors or Visitors(lambda *_: None, behind_proxy)).name(scope)  # type: ignore[arg-type,return-value]


def test_an_address_is_one_visitor_and_is_not_known() -> None:
    visitors = Visitors(lambda *_: None)  # type: ignore[arg-type,return-value]
    first = name("203.0.113.77", visitors=visitors)
    assert first == name("203.0.113.77", visitors=visitors) != name("203.0.113.78", visitors=visitors)
    assert name("2001:db8:1:2::7", visitors=visitors) == name("2001:db8:1:2:ffff::9", visitors=visitors)
    assert name("::ffff:203.0.113.77", visitors=visitors) == first and "203" not in first
    assert first != name("203.0.113.77"), "The key is drawn at every start."


def test_who_comes_through_a_proxy_belongs_to_the_group_that_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert name("172.18.0.5", behind_proxy=True, x_vimi_group="g07") == "group g07"
    assert name("172.18.0.5", behind_proxy=True, x_vimi_group="Robert'); --") == UNTOLD
    assert name("172.18.0.5", behind_proxy=True) == UNTOLD
    assert capsys.readouterr().out == ""
    assert name("127.0.0.1", x_vimi_group="g07") == SELF, "Nobody names their own group."
    assert name("127.0.0.1", x_forwarded_proto="https") == UNTOLD
    assert "--behind-proxy" in capsys.readouterr().out


def test_nobody_says_themselves_which_visitor_they_are() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])

    scope = {"type": "http", "client": ("203.0.113.7", 1), "headers": [(HEADER.encode(), b"this machine")]}
    anyio.run(Visitors(app), scope, None, None)
    assert len(seen[0]) == 1 and seen[0][0][1] != b"this machine"


# -------------------------------------------------------------------- bounds, with a clock of our own


class Line:
    """A socket's other end: what it says, and what it is told."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = [{"type": "websocket.connect"}, *messages]
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return self.messages.pop(0) if self.messages else {"type": "websocket.disconnect", "code": 1001}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


def rerun(query: str = "") -> dict[str, Any]:
    message = BackMsg()
    message.rerun_script.query_string = query
    return {"type": "websocket.receive", "bytes": message.SerializeToString()}


class Time:
    """A clock that goes on only when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(sockets, "sleep", self.sleep)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def listen(bounds: BoundedSockets, messages: list[Any], visitor: str = "somebody") -> tuple[list[Any], Line]:
    """Let the server listen to a socket; returns what reached it."""
    line = Line(messages)
    scope = {"type": "websocket", "path": sockets.STREAM, "headers": [(HEADER.encode(), visitor.encode())]}
    heard: list[Any] = []
    bounds.app.heard = heard  # type: ignore[attr-defined]
    anyio.run(bounds, scope, line.receive, line.send)
    return heard, line


class App:
    """Streamlit's place: it listens until the socket is closed, and answers each message."""

    heard: list[Any]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                await send({"type": "websocket.send", "bytes": b"too late"})
                return
            if message["type"] == "websocket.receive":
                self.heard.append(message["bytes"])
                await send({"type": "websocket.send", "bytes": b"page"})


def test_a_page_that_went_away_amid_a_reply_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenLine(Line):
        async def send(self, message: Any) -> None:
            self.sent.append(message)
            raise ConnectionResetError

    bounds = BoundedSockets(App(), Time(monkeypatch))
    monkeypatch.setattr(f"{__name__}.Line", BrokenLine)
    heard, line = listen(bounds, [rerun(), rerun()])
    assert len(heard) == 2 and len(line.sent) == 1 and not bounds.open


def test_a_flood_waits_and_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time(monkeypatch)
    bounds = BoundedSockets(App(), clock)
    heard, line = listen(bounds, [rerun() for _ in range(1200)])
    assert len(heard) == sockets.MESSAGES_AT_ONCE + sockets.MOST_WAITS
    assert clock.now == pytest.approx(sockets.MOST_WAITS / sockets.MESSAGES_A_SECOND)
    assert line.sent[-1] == {"type": "websocket.close", "code": sockets.TOO_MUCH, "reason": ""}
    assert not bounds.open and bounds.closed == {"too much": 1}


def test_clicks_of_people_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time(monkeypatch)
    bounds = BoundedSockets(App(), clock)
    for _ in range(50):  # a room behind one address, in which everybody turns six pages in a minute
        before = clock.now
        assert len(listen(bounds, [rerun() for _ in range(6)])[0]) == 6
        assert clock.now == before
        clock.now += 1


def test_all_pages_of_an_address_have_one_budget_and_others_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time(monkeypatch)
    bounds = BoundedSockets(App(), clock)
    heard = sum(len(listen(bounds, [rerun() for _ in range(40)], "attacker")[0]) for _ in range(100))
    assert heard == 4000
    assert clock.now >= (4000 - sockets.VISITOR_AT_ONCE) / sockets.VISITOR_A_SECOND - 1
    before = clock.now
    for who in ("somebody else", UNTOLD, SELF):
        assert len(listen(bounds, [rerun()], who)[0]) == 1
    assert clock.now == before


def test_sockets_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SOCKETS_EACH", 3)
    monkeypatch.setattr(sockets, "SOCKETS", 5)
    bounds = BoundedSockets(App(), Time(monkeypatch))
    for held, who, reason in [
        ({"a": 3}, "a", "too many of one visitor"), ({"a": 3}, "b", ""), ({"a": 3, "b": 2}, "c", "full"),
        ({UNTOLD: 4}, UNTOLD, ""), ({}, "a", ""),
    ]:  # fmt: skip
        bounds.open.clear()
        bounds.open.update(held)
        bounds.closed.clear()
        heard, line = listen(bounds, [rerun()], who)
        assert list(bounds.closed) == ([reason] if reason else []) and len(heard) == (not reason)
        assert not reason or line.sent[0]["type"] == "websocket.close"
    bounds.open.clear()
    for _ in range(sockets.SOCKETS_AT_ONCE + 5):
        listen(bounds, [], "fast")
    assert bounds.closed["too fast"] >= 5


def test_what_no_browser_says_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = BoundedSockets(App(), Time(monkeypatch))
    for content, code in [
        ({"text": "hello"}, sockets.NOT_TEXT), ({"bytes": b"\xff\xff\xff"}, sockets.NOT_READ),
        ({"bytes": b"x" * (sockets.LARGEST_MESSAGE + 1)}, sockets.TOO_LARGE),
    ]:  # fmt: skip
        heard, line = listen(bounds, [{"type": "websocket.receive", **content}, rerun()])
        assert heard == [] and line.sent == [{"type": "websocket.close", "code": code, "reason": ""}]
    for message in (
        BackMsg(clear_cache=True), BackMsg(set_run_on_save=True), BackMsg(load_git_info=True),
        BackMsg(stop_script=True),
        BackMsg(debug_shutdown_runtime=True), BackMsg(debug_disconnect_websocket=True), BackMsg(),
    ):  # fmt: skip
        assert is_asked_by_browsers(message.SerializeToString()) is False
    skills = BackMsg()
    skills.backend_operation_request.install_skills.SetInParent()
    assert is_asked_by_browsers(skills.SerializeToString()) is False
    file = BackMsg()
    file.backend_operation_request.deferred_file.SetInParent()
    assert is_asked_by_browsers(file.SerializeToString()) and is_asked_by_browsers(rerun()["bytes"])


def test_a_bucket_refills() -> None:
    now = [0.0]
    rates = Rates(2, 0.5, most=2, clock=lambda: now[0])
    assert [rates.allow("a") for _ in range(3)] == [True, True, False]
    assert rates.take("a") == pytest.approx(2.0) and rates.take("a") == pytest.approx(4.0)
    now[0] = 100
    assert rates.left("a") == 2 and rates.allow("a")
    for other in "bc":
        rates.allow(other)
    assert rates.left("a") == 2, "Only the latest are remembered."


# -------------------------------------------------------------------- memory


def test_collections_take_a_hundredth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.001, 5.0, 5.4])
    monkeypatch.setattr("webapp.memory.perf_counter", lambda: next(ticks))
    collector = Collector(lambda: 0)
    assert collector.collect() == SHORTEST_INTERVAL
    assert collector.collect() == pytest.approx(0.4 / LARGEST_SHARE)
    assert collector.pauses == pytest.approx([0.001, 0.4])


# -------------------------------------------------------------------- a real server

SEEN = {"event": "checked", "value": {"width": 1280, "height": 800, "browser": "chrome", "capable": True}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    study = make_hosted_study(tmp_path_factory.mktemp("server") / "study")
    with running(study.root, "--bots") as made:
        yield made


def test_one_flooding_socket_does_not_stop_the_study(server: Server) -> None:
    """Eighty times what a socket may send: few runs come of it, and somebody else's pages are served meanwhile."""
    over = threading.Event()
    runs, begun = [0], time.monotonic()

    def flood() -> None:
        while not over.is_set():
            with Tab(server.port) as flooder:
                socket = flooder.connect()
                reader = threading.Thread(target=count, args=(flooder, socket), daemon=True)
                reader.start()
                message = flooder.message()
                try:
                    while not over.wait(0.002):
                        socket.send(message)
                    socket.socket.shutdown(SHUT_RDWR)  # no farewell: the server is behind, and would let it wait
                except ConnectionClosed:
                    runs.append(0)  # shown out, and comes again
            reader.join()

    def count(flooder: Tab, socket: ClientConnection) -> None:
        try:
            while True:
                runs[-1] += flooder._take(socket.recv())
        except ConnectionClosed:
            pass

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    with Tab(server.port) as tab:
        tab.open()
        tab.run(**{"device-check": SEEN})
        tab.run(agree=True)
        assert tab.find("colour") and thread.is_alive()
    assert server.request("GET", "/_stcore/health").status == 200
    over.set()
    thread.join()
    # A machine so slow that it is behind the rate anyway need not let a message wait: time counts, too.
    allowed = sockets.MESSAGES_AT_ONCE + sockets.MOST_WAITS
    assert sum(runs) <= len(runs) * allowed + sockets.MESSAGES_A_SECOND * (time.monotonic() - begun)


def test_malformed_frames_leave_no_traceback_and_a_page_still_opens(server: Server) -> None:
    strange = [
        "text", b"\xff\xff\xff\xff", b"\x0a\xff", b"y" * (sockets.LARGEST_MESSAGE + 1), b"z" * 5_000_000, b"",
        BackMsg(clear_cache=True).SerializeToString(), BackMsg(debug_shutdown_runtime=True).SerializeToString(),
    ]  # fmt: skip
    for content in strange:
        with Tab(server.port) as tab:
            socket = tab.connect()
            try:
                socket.send(content)
                socket.recv(timeout=1)
            except (ConnectionClosed, TimeoutError):
                pass
    with Tab(server.port) as tab:
        assert tab.open().find("device-check")
    assert "Traceback" not in server.log() and "Exception" not in server.log(), server.log()[-3000:]


def test_pages_are_drawn_by_whoever_asks_and_nothing_else_is_collected(server: Server) -> None:
    """From arrival to the first trial over the socket, as browsers go; every page is there."""
    with Tab(server.port) as tab:
        tab.open()
        tab.run(**{"device-check": SEEN})
        tab.run(agree=True)
        tab.choose("colour", "normal")
        tab.choose("lines", "lower")
        tab.run(vision=True)
        while not any(name.endswith("-instructed") for name in tab.elements):
            tab.run(**{"page-": True})
        tab.run(instructed=True)
        tab.run(**{"begin-practice": True})
        (data,) = tab.components.values()
        assert data["presentation"]["number"] == 1 and not tab.exceptions


SETTINGS = """
[server]
baseUrlPath = "under-another-path"
enableXsrfProtection = false
maxUploadSize = 999
sslCertFile = "/nowhere/certificate.pem"
[runner]
postScriptGC = true
[theme]
font = "serif"
backgroundColor = "#ff0000"
[browser]
gatherUsageStats = true
"""


def test_settings_of_others_change_nothing(tmp_path: Path) -> None:
    import os
    import signal
    import subprocess
    import sys

    study = make_hosted_study(tmp_path / "study")
    for folder, content in (("work", SETTINGS), ("home", "broken = = 3")):
        (tmp_path / folder / ".streamlit").mkdir(parents=True)
        (tmp_path / folder / ".streamlit" / "config.toml").write_text(content, encoding="utf-8")
    server = Server(study.root, 0)
    environment = {
        **os.environ, "HOME": str(tmp_path / "home"), "STREAMLIT_SERVER_BASE_URL_PATH": "environment",
        "STREAMLIT_RUNNER_POST_SCRIPT_GC": "true", "STREAMLIT_GLOBAL_DEVELOPMENT_MODE": "true",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    from tests.servers import free_port

    server.port = free_port()
    with (study.root / f"server-{server.port}.log").open("ab") as log:
        server.process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.command_line", "serve", str(study.root), "--bots", "--port",
             str(server.port)],
            cwd=tmp_path / "work", env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        server.wait()
        with Tab(server.port) as tab:
            assert tab.open().find("device-check")
        assert "Traceback" not in server.log() and "under-another-path" not in server.log()
    finally:
        server.kill(signal.SIGKILL)


def test_settings_are_looked_up_in_a_table_and_can_not_be_changed_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit import config

    from webapp.server import GREY, remember_settings, streamlit_settings

    before = {section: set(config.get_options_for_section(section)) for section in ("theme", "server", "runner")}
    monkeypatch.setattr(config, "get_options_for_section", config.get_options_for_section)
    remember_settings(streamlit_settings("127.0.0.1", 8501))
    theme = config.get_options_for_section("theme")
    assert theme["backgroundColor"] == GREY and theme["font"] is None
    theme["backgroundColor"] = "red"
    assert config.get_options_for_section("theme")["backgroundColor"] == GREY
    assert config.get_options_for_section("nothing") == {}
    assert {section: set(config.get_options_for_section(section)) for section in before} == before


def test_every_setting_is_made_explicitly() -> None:
    from streamlit import config

    from webapp.server import streamlit_settings

    made = streamlit_settings("127.0.0.1", 8501, ["study.example.org"])
    known = config._config_options_template
    assert set(made) <= set(known)
    left = {name for name, option in known.items() if name not in made and not option.sensitive}
    assert all(known[name].default_val is None for name in left), "What has a default gets a value from us."
    assert made["runner.postScriptGC"] is False and made["server.fileWatcherType"] == "none"
    assert made["server.allowedHosts"] == ["study.example.org"] and made["server.baseUrlPath"] == ""
