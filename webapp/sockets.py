"""Bounds of Streamlit's sockets: what one page, and all pages of one visitor, may ask of the server.

A page of Streamlit asks for a run of its script over a socket, and Streamlit runs it as often as it is asked. A browser
asks once for a click. Whatever asks more often than that waits, and is shown out if it does not stop; whatever no
browser says goes no further.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic

from anyio import sleep
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webapp.rates import Rates
from webapp.visitors import SELF, UNTOLD, visitor_of

STREAM = "/_stcore/stream"
"""Path of Streamlit's socket."""

LARGEST_MESSAGE = 64 * 1024
"""Bytes of a message from a browser; the longest free text has a quarter of that."""

MESSAGES_AT_ONCE = 40
"""Messages that a page may send in a burst,"""
MESSAGES_A_SECOND = 6.0
"""and how many a second in the long run."""

MOST_WAITS = 60
"""Messages in a row that had to wait, after which a socket is closed. A browser opens it again by itself."""

VISITOR_AT_ONCE = 400
"""Messages that all pages of a visitor may send in a burst: a laboratory's room, in which everybody begins at once,"""
VISITOR_A_SECOND = 40.0
"""and how many a second in the long run."""

SOCKETS_AT_ONCE = 150
"""Sockets that a visitor may open in a burst,"""
SOCKETS_A_SECOND = 5.0
"""and how many a second in the long run."""

SOCKETS_EACH = 300
"""Sockets that a visitor may hold open."""

SOCKETS = 2000
"""Sockets that are open at a time. Each holds a page in memory, about half a megabyte."""

TOO_MUCH, TOO_LARGE, NOT_TEXT, NOT_READ = 1008, 1009, 1003, 1002
"""Codes with which a socket is closed."""


def is_asked_by_browsers(message: bytes) -> bool | None:
    """Whether a message is one that a browser sends to our pages; None if it can't be read at all.

    Runs of the page, signs of life, and files that the experimenter downloads. Streamlit knows others, for developers
    and for uploads: emptying every cache, or writing files beside the script.
    """
    from streamlit.proto.BackMsg_pb2 import BackMsg

    read = BackMsg()
    try:
        read.ParseFromString(message)
    except Exception:
        return None  # whatever it fails for, no browser has sent it
    kind = read.WhichOneof("type")
    if kind == "backend_operation_request":
        return bool(read.backend_operation_request.WhichOneof("payload") == "deferred_file")
    return kind in ("rerun_script", "app_heartbeat")


class BoundedSockets:
    """Middleware that bounds what comes in over Streamlit's sockets.

    Parameters
    ----------
    app
        What comes next.
    clock
        Tells the time in seconds.

    Attributes
    ----------
    open
        Open sockets of each visitor.
    closed
        How many sockets were closed or refused, by the reason: full, too many of one visitor, too fast, text, too
        large, too much, not readable.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = monotonic) -> None:
        self.app, self.clock = app, clock
        self.open: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self._messages = Rates(VISITOR_AT_ONCE, VISITOR_A_SECOND, clock=clock)
        self._arrivals = Rates(SOCKETS_AT_ONCE, SOCKETS_A_SECOND, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a socket in if there is room, and watch it."""
        if scope["type"] != "websocket" or scope["path"] != STREAM:
            await self.app(scope, receive, send)
            return
        visitor = visitor_of(scope)
        reason = self._why_not(visitor)
        if reason:
            self.note(reason)
            await receive()
            await send({"type": "websocket.close", "code": TOO_MUCH, "reason": ""})
            return
        self.open[visitor] += 1
        try:
            watched = _Watched(self, visitor, receive, send)
            await self.app(scope, watched.receive, watched.send)
        finally:
            self.open[visitor] -= 1
            if not self.open[visitor]:
                del self.open[visitor]

    def is_one(self, visitor: str) -> bool:
        """Whether a visitor is one address, or a few, so that what it does may be bounded."""
        return visitor not in (UNTOLD, SELF)

    def _why_not(self, visitor: str) -> str:
        """Return why a socket is not let in; empty if it is."""
        if self.open.total() >= SOCKETS:
            return "full"
        if not self.is_one(visitor):
            return ""
        if self.open[visitor] >= SOCKETS_EACH:
            return "too many of one visitor"
        return "" if self._arrivals.allow(visitor) else "too fast"

    def note(self, reason: str) -> None:
        """Count a socket that was closed or refused; the first, the tenth, the hundredth is said."""
        self.closed[reason] += 1
        count = self.closed[reason]
        if count == 10 ** (len(str(count)) - 1):
            print(f"Sockets closed or refused so far: {count:,} ({reason}).")

    def wait(self, visitor: str) -> float:
        """Take a message out of a visitor's bucket; returns how many seconds it has to wait."""
        return self._messages.take(visitor) if self.is_one(visitor) else 0.0


class _Watched:
    """The two ends of a socket, with what may go through them."""

    def __init__(self, bounds: BoundedSockets, visitor: str, receive: Receive, send: Send) -> None:
        self._bounds, self._visitor, self._receive, self._send = bounds, visitor, receive, send
        self._own = Rates(MESSAGES_AT_ONCE, MESSAGES_A_SECOND, most=1, clock=bounds.clock)
        self._waits = 0
        self._closed = False

    async def receive(self) -> Message:
        """Return the next message that may pass. The socket is not read meanwhile, so that a flood stays outside."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return message
            content = message.get("bytes")
            if content is None:
                return await self._close(NOT_TEXT, "text")
            if len(content) > LARGEST_MESSAGE:
                return await self._close(TOO_LARGE, "too large")
            wait = max(self._own.take(""), self._bounds.wait(self._visitor))
            self._waits = self._waits + 1 if wait else 0
            if self._waits > MOST_WAITS:
                return await self._close(TOO_MUCH, "too much")
            if wait:
                await sleep(wait)
            passes = is_asked_by_browsers(content)
            if passes is None:
                return await self._close(NOT_READ, "not readable")
            if passes:
                return message

    async def send(self, message: Message) -> None:
        """Pass a message of the server on, unless the socket is closed.

        A page that went away without a word is closed, too, and is heard of next: what could not be sent is no error,
        which Streamlit would answer with another one and both with a traceback in the log.
        """
        if self._closed:
            return
        self._closed = message["type"] == "websocket.close"
        try:
            await self._send(message)
        except OSError:
            self._closed = True

    async def _close(self, code: int, reason: str) -> Message:
        """Close the socket; returns what tells the server that the page is gone."""
        self._bounds.note(reason)
        if not self._closed:
            await self.send({"type": "websocket.close", "code": code, "reason": ""})
        return {"type": "websocket.disconnect", "code": code, "reason": ""}
