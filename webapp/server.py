"""The server of a hosted study: Streamlit for the pages, routes beside it for answers and pictures."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import HostingError
from webapp.hosting import Hosting
from webapp.routes import make_middleware, make_routes
from webapp.store import report_problem

SCRIPT = Path(__file__).parent / "screens" / "entry.py"

GREY = "#808080"
"""The background: mid-grey, a part of the stimulus."""

_served: Hosting | None = None


def serve_hosting(hosting: Hosting) -> None:
    """Make a hosting the one that this process serves: its pages ask for it with :func:`served`."""
    global _served
    _served = hosting


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


def streamlit_settings(address: str, port: int, hosts: Sequence[str] = ()) -> dict[str, Any]:
    """Return Streamlit's settings: one theme, no menus, no statistics sent anywhere, no details of errors."""
    settings: dict[str, Any] = {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.showEmailPrompt": False,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.allowRunOnSave": False,
        "server.enableStaticServing": False,
        "server.enableXsrfProtection": True,
        "server.enableAgentApi": False,
        "server.maxUploadSize": 1,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.showSidebarNavigation": False,
        "runner.magicEnabled": False,
        "logger.level": "warning",
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
    if hosts:
        settings["server.allowedHosts"] = list(hosts)
    return settings


def make_app(hosting: Hosting) -> Any:
    """Return the ASGI application of a hosted study."""
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

    return st.App(SCRIPT, routes=make_routes(hosting), middleware=make_middleware(), on_script_error=note_error)


def run_server(hosting: Hosting, *, address: str = "127.0.0.1", port: int = 8501, hosts: Sequence[str] = ()) -> None:
    """Serve a study until the process is stopped.

    Parameters
    ----------
    hosting
        The study.
    address, port
        Where to listen.
    hosts
        Host names under which people reach the server; others are refused. Any, if empty.

    Raises
    ------
    HostingError
        If the address can't be listened on.
    """
    check_port(address, port)
    make_app(hosting).run(config=streamlit_settings(address, port, hosts))


def check_port(address: str, port: int) -> None:
    """Check that nobody listens on a port yet.

    Raises
    ------
    HostingError
        If somebody does, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise HostingError(
                f"The server can't listen on {address}:{port}: {error.strerror}. Choose another --port or --address."
            ) from None
