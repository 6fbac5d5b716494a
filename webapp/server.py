"""The server of a hosted study: Streamlit for the pages, routes beside it for answers and pictures."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmark.errors import HostingError
from webapp.admission import admin_hash
from webapp.downloads import share_downloads
from webapp.hosting import Hosting
from webapp.memory import Collector
from webapp.processes import run_processes
from webapp.routes import make_middleware
from webapp.store import report_problem

PAGES_AT_ONCE = 2
"""Pages that a process runs at a time. More would only wait for one another, and answers for all of them."""

WAITING_PEOPLE = 2048
"""Connections that wait to be let in; more are turned away by the system."""

SWITCH_SECONDS = 0.001
"""After so long a page that runs lets others go on: an answer that comes in meanwhile does not wait for its end."""

SCRIPT = Path(__file__).parent / "screens" / "entry.py"

GREY = "#808080"
"""The background: mid-grey, a part of the stimulus."""

LARGEST_MESSAGE_MB = 4
"""Megabytes of a message over the socket, in either direction; the largest that we send are charts."""

_served: Hosting | None = None
_has_experimenter = False
_turns = threading.BoundedSemaphore(PAGES_AT_ONCE)


def serve_hosting(hosting: Hosting) -> None:
    """Make a hosting the one that this process serves: its pages ask for it with :func:`served`."""
    global _served, _has_experimenter
    _served = hosting
    _has_experimenter = bool(admin_hash())
    if _has_experimenter:
        # It draws charts: what that needs takes seconds to import, in which nobody else would be served.
        import webapp.screens.experimenter  # noqa: F401


def served() -> Hosting:
    """Return what this process serves.

    Raises
    ------
    HostingError
        If it serves nothing: the pages are run by ``vimi serve`` alone.
    """
    if _served is None:
        raise HostingError("Nothing is being hosted. Start the pages with: vimi serve STUDY")
    return _served


def has_experimenter() -> bool:
    """Whether this process has a page for the experimenter; that is decided when it starts."""
    return _has_experimenter


@contextmanager
def turn() -> Iterator[None]:
    """Wait until it is one's turn to draw a page, first come, first served."""
    with _turns:
        yield


def streamlit_settings(address: str, port: int, hosts: Sequence[str] = ()) -> dict[str, Any]:
    """Return Streamlit's settings, all of them: none is left to a file or to the version that is installed.

    One theme, no menus, no statistics sent anywhere, no details of errors, and nothing that watches files. What is not
    decided here is as Streamlit has it by default.
    """
    from streamlit import config

    settings: dict[str, Any] = {
        name: option.default_val
        for name, option in config._config_options_template.items()
        if not option.sensitive and option.default_val is not None
    }
    settings |= {
        "global.developmentMode": False,
        "global.showWarningOnDirectExecution": False,
        "server.address": address,
        "server.port": port,
        "server.baseUrlPath": "",
        "server.headless": True,
        "server.showEmailPrompt": False,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.allowRunOnSave": False,
        "server.enableStaticServing": False,
        "server.scriptHealthCheckEnabled": False,
        "server.enableCORS": True,
        "server.corsAllowedOrigins": [],
        "server.enableXsrfProtection": True,
        "server.xsrfCookieSameSite": "strict",
        "server.allowedHosts": list(hosts),
        "server.trustedUserHeaders": {},
        "server.unsafeMetricsUserAttributes": [],
        "server.enableExpensiveMemoryStats": False,
        "server.enableAgentApi": False,
        # Nobody uploads anything, and whatever a page says is small. webapp.sockets is stricter with what comes in.
        "server.maxUploadSize": 1,
        "server.maxMessageSize": LARGEST_MESSAGE_MB,
        "server.maxWidgetStateSize": 1,
        # Compressing costs time at every click; what is large, nginx compresses.
        "server.enableWebsocketCompression": False,
        "server.websocketPingInterval": 30,
        # A tab that lost its connection finds its widgets for so long; where somebody is, the database knows.
        "server.disconnectedSessionTTL": 120,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.showSidebarNavigation": False,
        "client.allowedOrigins": [],
        "runner.magicEnabled": False,
        # Garbage is collected on a timer: see webapp.memory.
        "runner.postScriptGC": False,
        # A click waits for the end of the run that is under way, some milliseconds. Else each one would have a thread
        # of its own, and two of a tab would run at once.
        "runner.fastReruns": False,
        "runner.enforceSerializableSessionState": False,
        "logger.level": "warning",
        "logger.enableRich": False,
        "logger.hideWelcomeMessage": True,
        "theme.base": "light",
        "theme.backgroundColor": GREY,
        "theme.secondaryBackgroundColor": "#f4f4f4",
        "theme.textColor": "#0c0c0c",
        "theme.primaryColor": "#0c0c0c",
        "theme.linkColor": "#0c0c0c",
        "theme.borderColor": "#6a6a6a",
        "theme.baseRadius": "6px",
        "theme.showWidgetBorder": True,
    }
    return settings


def ignore_settings_of_others() -> None:
    """Keep Streamlit from reading ``.streamlit/config.toml`` in the working folder, the home or beside a script.

    What stands there was written for another program. A ``baseUrlPath`` would move every page, and whatever has no
    default, such as fonts or a certificate, can't be undone by setting it.
    """
    from streamlit import config

    find = config.get_config_files
    config.get_config_files = lambda name: [] if name == "config.toml" else find(name)


def remember_settings(settings: Mapping[str, Any]) -> None:
    """Let Streamlit read its settings from a table.

    Every run of a page says the theme anew, for which Streamlit looks all of its options up several times: a sixth of
    what a page took.

    Parameters
    ----------
    settings
        As :func:`streamlit_settings` returns them.
    """
    from streamlit import config

    sections: dict[str, dict[str, Any]] = {}
    for name, option in config._config_options_template.items():
        value = settings.get(name, option.default_val)
        sections.setdefault(option.section, {})[option.name] = value
    find = config.get_options_for_section
    config.get_options_for_section = lambda section: dict(sections[section]) if section in sections else find(section)


def make_app(hosting: Hosting, behind_proxy: bool = False) -> Any:
    """Return the ASGI application of a hosted study; ``behind_proxy`` as in :class:`webapp.visitors.Visitors`."""
    import streamlit as st

    serve_hosting(hosting)

    def note_error(error: Exception) -> bool:
        detail = f"{type(error).__name__}: {error}"
        try:
            with hosting.database.writing() as connection:
                report_problem(connection, hosting.identity, "script error", detail=detail)
        except Exception:
            # The database itself may be what is wrong; people are told what to do all the same.
            print(f"A page failed and that could not be noted: {detail}")
        st.error(hosting.wording.label("page_problem"))
        return True

    middleware = make_middleware(hosting, behind_proxy)
    return st.App(SCRIPT, middleware=middleware, on_script_error=note_error)


def run_server(
    hosting: Hosting,
    *,
    address: str = "127.0.0.1",
    port: int = 8501,
    hosts: Sequence[str] = (),
    behind_proxy: bool = False,
    processes: int = 1,
) -> None:
    """Serve a study until the process is stopped.

    Parameters
    ----------
    hosting
        The study.
    address, port
        Where to listen.
    hosts
        Host names under which people reach the server; others are refused. Any, if empty.
    behind_proxy
        Whether everybody comes through a proxy that names groups of addresses.
    processes
        How many processes serve.

    Raises
    ------
    HostingError
        If the address can't be listened on, or a process does not start.
    """
    from streamlit import config

    ignore_settings_of_others()
    settings = streamlit_settings(address, port, hosts)
    remember_settings(settings)
    # Streamlit takes settings that come after it has read its own for a change, and says so in the log.
    config.get_config_options(options_from_flags=settings)
    import webapp.screens.participant
    import webapp.screens.withdrawal  # noqa: F401  what every visitor needs is there before the first one comes

    application = make_app(hosting, behind_proxy)

    def serve() -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        collector = Collector()
        collector.start()
        try:
            application.run(config=settings)
        finally:
            collector.stop()

    with listening(address, port) as door, TemporaryDirectory() as folder:
        let_in_through(door)
        if processes > 1:
            if has_experimenter():
                share_downloads(Path(folder))
            hosting.database.close()  # its connections are each process's own
        run_processes(processes, serve, abandoned=lambda: shutil.rmtree(folder, ignore_errors=True))


def listening(address: str, port: int) -> socket.socket:
    """Return a socket on which people are let in.

    Streamlit makes one without naming a protocol, so that Python's event loop doesn't know that it may switch Nagle's
    algorithm off, as it does for its own. A reply of two parts, or a page of a dozen messages, then waits until the
    other side acknowledges what came before, which it puts off by 40 ms each time.

    Raises
    ------
    HostingError
        If somebody listens there already, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        door.bind((address, port))
        door.listen(WAITING_PEOPLE)
        door.setblocking(False)
    except OSError as error:
        door.close()
        raise HostingError(
            f"The server can't listen on {address}:{port}: {error.strerror}. Choose another --port or --address."
        ) from None
    return door


def let_in_through(door: socket.socket) -> None:
    """Let Streamlit use an existing socket instead of its own."""
    from streamlit.web.server.starlette import starlette_server

    starlette_server._bind_socket = lambda *given: door.dup()
