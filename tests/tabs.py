"""A browser's tab without a browser: Streamlit's socket, with what pages say parsed as far as a person needs it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets import Subprotocol
from websockets.sync.client import ClientConnection, connect

TRIGGERS = "$$STREAMLIT_INTERNAL_KEY_{}__events"
"""Name of the widget that carries what a component says."""


@dataclass
class Tab:
    """An open page.

    Attributes
    ----------
    port
        Of the server, on this machine.
    query
        What stands behind the question mark.
    page
        Path of the page.
    elements
        Widgets of the last run by name: what stands behind the last hyphen of an identifier is the key that the page
        gave it, so that ``elements`` is asked by :meth:`find`.
    components
        What the components of the last run were given, by identifier.
    text
        All texts of the last run.
    """

    port: int
    query: str = ""
    page: str = ""
    seconds: float = 300
    elements: list[str] = field(default_factory=list)
    components: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    socket: ClientConnection | None = None
    held: ExitStack = field(default_factory=ExitStack)

    def open(self) -> Tab:
        """Open the socket and run the page; returns the tab."""
        self.connect()
        self.run()
        return self

    def connect(self) -> ClientConnection:
        """Open the socket, and say nothing yet."""
        self.socket = self.held.enter_context(
            connect(
                f"ws://127.0.0.1:{self.port}/_stcore/stream", subprotocols=[Subprotocol("streamlit")],
                additional_headers=self.headers, max_size=2**26, compression=None, ping_interval=None,
                open_timeout=self.seconds,
            )
        )  # fmt: skip
        return self.socket

    def message(self, **said: Any) -> bytes:
        """Return the message that asks for a run."""
        message = BackMsg()
        asked = message.rerun_script
        asked.query_string = self.query
        asked.page_name = self.page
        asked.context_info.url = f"http://127.0.0.1:{self.port}/{self.page}"
        for name, value in self.values.items():
            state = asked.widget_states.widgets.add()
            state.id, state.string_value = name, value
        for name, value in said.items():
            state = asked.widget_states.widgets.add()
            if value is True:
                state.id, state.trigger_value = self.find(name), True
            else:
                state.id, state.json_trigger_value = TRIGGERS.format(self.find(name)), json.dumps([value])
        return message.SerializeToString()

    def run(self, **said: Any) -> float:
        """Run the page, and say what happened to a widget meanwhile; returns the seconds until the page is there.

        A button that is clicked is named with ``True``, a component with ``{"event": ..., "value": ...}``.
        """
        assert self.socket is not None
        message = self.message(**said)
        begun = time.perf_counter()
        self.socket.send(message)
        self.elements, self.text = [], []
        self.components = {}
        while not self._take(self.socket.recv(timeout=self.seconds)):
            pass
        return time.perf_counter() - begun

    def _take(self, content: str | bytes) -> bool:
        """Read a message of the server; returns whether the page is complete."""
        assert isinstance(content, bytes)
        message = ForwardMsg()
        message.ParseFromString(content)
        kind = message.WhichOneof("type")
        if kind == "script_finished":
            return message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
        if kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        if kind != "delta" or message.delta.WhichOneof("type") != "new_element":
            return False
        element = message.delta.new_element
        what = element.WhichOneof("type")
        inside = getattr(element, what) if what else None
        name = str(getattr(inside, "id", ""))
        if name:
            self.elements.append(name)
        if what == "bidi_component":
            self.components[name] = json.loads(inside.json or inside.mixed.json or "null")  # type: ignore[union-attr]
        elif what == "exception":
            self.exceptions.append(inside.message)  # type: ignore[union-attr]
        elif what in ("html", "markdown"):
            self.text.append(inside.body)  # type: ignore[union-attr]
        return False

    def find(self, key: str) -> str:
        """Return the identifier of a widget by its key, or by what its key begins with."""
        names = [name for name in self.elements if name.split("-", 2)[-1].startswith(key)]
        assert names, f"The page has no {key}, but {self.elements}"
        return names[0]

    def choose(self, key: str, value: str) -> float:
        """Choose an option; returns the seconds until the page is there again."""
        self.values[self.find(key)] = value
        return self.run()

    def close(self) -> None:
        """Close the socket."""
        self.held.close()

    def __enter__(self) -> Tab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
