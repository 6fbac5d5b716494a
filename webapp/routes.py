"""The routes beside Streamlit's own: pictures, answers, signs of life, and what goes wrong.

An answer takes this way instead of Streamlit's socket: a transaction in a thread instead of a rerun of the page, a
reply that the browser can wait for, and a retry that does no harm.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

from anyio import CapacityLimiter, current_time, sleep_until, to_thread
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmark.errors import VimiError
from webapp.answering import Answer, Token, name_current_trial, record_answer
from webapp.bots import handle_step
from webapp.hosting import Hosting
from webapp.participation import add_evidence, look_up, see
from webapp.rates import Rates
from webapp.sockets import BoundedSockets
from webapp.store import report_problem
from webapp.visitors import Visitors

LARGEST_BODY = 8192
"""Bytes of a request that are read; an answer has a few hundred."""

REQUESTS_AT_ONCE = 30
"""How many requests a participant may send in a burst,"""
REQUESTS_A_SECOND = 5.0
"""and how many a second in the long run."""

THREADS = 8
"""Transactions that run at a time in one process; the database lets one write anyway."""

QUERY_SECONDS = 0.01
QUERY_SPREAD = 0.01
"""When a picture that serves as a query is sent, counted from its request: a delay of its own, which a key decides.

How long a file takes to read tells a little of its length. Behind a delay that is the same each time, and that nobody
can know, it tells nothing, however often one asks.
"""

PICTURE = re.compile(r"[0-9a-f]{32}")

CONTENT_SECURITY = "; ".join(
    (
        "default-src 'self'",
        # Streamlit mounts components through blobs, and its own charts build functions.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' blob: data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "content-security-policy": CONTENT_SECURITY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Problem(BaseModel):
    """Something that went wrong in a browser."""

    model_config = ConfigDict(extra="forbid")

    participant: Token
    kind: str = Field(pattern=r"^(missing image|slow decode|script error|small window)$")
    trial: Token | None = None
    detail: str = Field(default="", max_length=500)


class Sign(BaseModel):
    """A sign of life, or, with a name, a sign that a program answers."""

    model_config = ConfigDict(extra="forbid")

    participant: Token
    sign: str = Field(default="", max_length=40, pattern=r"^[a-z ]*$")


class TooLarge(Exception):
    """A request's body is larger than any honest one."""


async def read_body(request: Request, most: int = LARGEST_BODY) -> bytes:
    """Read a request's body, and stop reading where it gets too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise TooLarge
    return body


def make_routes(hosting: Hosting) -> list[Route]:
    """Return the routes of a hosted study."""
    limiter = CapacityLimiter(THREADS)
    rates = Rates(REQUESTS_AT_ONCE, REQUESTS_A_SECOND)
    strangers = Rates(burst=200, rate=50)
    lengths = _Lengths(hosting)

    async def run(work: Callable[[], Any]) -> Any:
        return await to_thread.run_sync(work, limiter=limiter)

    def posted(schema: type[BaseModel], act: Callable[[Any], Response]) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that reads a message, checks it and acts on it in a thread."""

        async def endpoint(request: Request) -> Response:
            try:
                message = schema.model_validate_json(await read_body(request))
            except TooLarge:
                return _reply({"error": "too large"}, 413)
            except ValidationError:
                return _reply({"error": "not understood"}, 400)
            except ClientDisconnect:
                return _reply({"error": "gone"}, 400)
            token = str(getattr(message, "participant", ""))
            if not rates.allow(token):
                return _reply({"error": "too many requests"}, 429, {"retry-after": "2"})
            return await _guarded(lambda: act(message))

        return endpoint

    async def _guarded(work: Callable[[], Response]) -> Response:
        """Run work in a thread; what goes wrong is noted for the experimenter and said to nobody else."""
        try:
            response: Response = await run(work)
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            try:
                await run(lambda: _note(hosting, "server error", detail))
            except Exception:
                print(f"A request failed and could not be noted: {detail}")
            return _reply({"error": "try again"}, 503, {"retry-after": "2"})
        return response

    def answer(message: Answer) -> Response:
        result = record_answer(hosting, message)
        if result.state == "unknown" and not strangers.allow("unknown"):
            return _reply({"error": "too many requests"}, 429, {"retry-after": "10"})
        codes = {"stored": 200, "known": 200, "stale": 409, "unknown": 404}
        return Response(
            result.model_dump_json(), codes[result.state], media_type="application/json", headers=_NOT_STORED
        )

    def seen(message: Sign) -> Response:
        if message.sign:
            add_evidence(hosting, message.participant, message.sign)
        else:
            see(hosting, message.participant)
        return Response(status_code=204)

    def problem(message: Problem) -> Response:
        known = look_up(hosting, message.participant)
        if known is not None:
            trial = name_current_trial(hosting, known.id)
            _note(hosting, message.kind, message.detail, pseudonym=known.pseudonym, trial=trial)
        return Response(status_code=204)

    async def bot(request: Request) -> Response:
        try:
            message = json.loads(await read_body(request))
        except (TooLarge, ValueError, ClientDisconnect):
            return _reply({"error": "not understood"}, 400)

        def step() -> Response:
            try:
                return _reply(handle_step(hosting, message))
            except (VimiError, ValidationError) as error:
                return _reply({"error": str(error)}, 400)

        return await _guarded(step)

    async def image(request: Request) -> Response:
        name = str(request.path_params["name"])
        if not PICTURE.fullmatch(name) or name not in hosting.layout.pictures:
            return _reply({"error": "no such picture"}, 404)
        if request.headers.get("if-none-match") == f'"{name}"':
            return Response(status_code=304, headers=_immutable(name))
        due = current_time() + QUERY_SECONDS + QUERY_SPREAD * int(hosting.trial_token(0, name)[:8], 16) / 2**32
        try:
            body = await run(lambda: lengths.padded(name))
        except OSError as error:
            detail = f"{hosting.study.image_path(name)}: {error.strerror}"
            await run(lambda: _note(hosting, "missing image", detail))
            return _reply({"error": "no such picture"}, 404)
        if name in hosting.layout.queries:
            await sleep_until(due)
        return Response(body, media_type="image/webp", headers=_immutable(name))

    routes = [
        Route("/image/{name}", image, methods=["GET", "HEAD"]),
        Route("/api/answer", posted(Answer, answer), methods=["POST"]),
        Route("/api/seen", posted(Sign, seen), methods=["POST"]),
        Route("/api/problem", posted(Problem, problem), methods=["POST"]),
    ]
    if hosting.bots:
        routes.append(Route("/api/bot", bot, methods=["POST"]))
    return routes


class _Lengths:
    """Pictures as they are sent: those that serve as a query all have the same length.

    A file's length tells how much detail a picture has, and with that, often, which query belongs to which group.
    What is added stands behind the picture's own data, where decoders do not look, and can't be compressed away.
    """

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting

    @cached_property
    def longest(self) -> int:
        """Length of the longest query in bytes."""
        paths = [self._hosting.study.image_path(name) for name in self._hosting.layout.queries]
        return max(path.stat().st_size if path.is_file() else 0 for path in paths)

    @cached_property
    def _filler(self) -> bytes:
        """What is added; made once, since the time to make it would tell how much is missing."""
        return hashlib.shake_128(self._hosting.identity.encode()).digest(self.longest)

    def padded(self, name: str) -> bytes:
        """Return the bytes to send for a picture."""
        body = self._hosting.study.image_path(name).read_bytes()
        missing = self.longest - len(body) if name in self._hosting.layout.queries else 0
        return body + self._filler[:missing] if missing > 0 else body


_NOT_STORED = {"cache-control": "no-store"}


def _immutable(name: str) -> dict[str, str]:
    """Return the headers of a picture: its name is its content, so that it never changes."""
    return {"cache-control": "public, max-age=31536000, immutable", "etag": f'"{name}"'}


def _reply(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(body, status, headers={**_NOT_STORED, **(headers or {})})


def _note(hosting: Hosting, kind: str, detail: str, pseudonym: str | None = None, trial: str | None = None) -> None:
    """Note a problem for the experimenter."""
    with hosting.database.writing() as connection:
        report_problem(connection, hosting.identity, kind, detail=detail, pseudonym=pseudonym, trial=trial)


class NoUploads:
    """Middleware that closes Streamlit's route for uploads: no page asks for a file.

    Streamlit keeps what is uploaded in memory, as much as anybody with a page open cares to send.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless it uploads something."""
        if scope["type"] == "http" and scope["path"].startswith("/_stcore/upload_file"):
            await _reply({"error": "no uploads"}, 404)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class SecureHeaders:
    """Middleware that puts the security headers on every response, Streamlit's own too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the headers to its response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                extra = [
                    (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given
                ]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await self.app(scope, receive, with_headers)


def make_middleware(behind_proxy: bool = False) -> list[Middleware]:
    """Return the middleware that wraps Streamlit's own; ``behind_proxy`` as in :class:`webapp.visitors.Visitors`."""
    return [
        Middleware(SecureHeaders),
        Middleware(Visitors, behind_proxy=behind_proxy),
        Middleware(BoundedSockets),
        Middleware(NoUploads),
    ]
