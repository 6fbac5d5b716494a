"""The routes beside Streamlit's own: pictures, answers, heartbeats, and reports of problems.

An answer takes this way instead of Streamlit's socket: a transaction in a thread instead of a rerun of the page, a
reply that the browser can wait for, and a retry that does no harm.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from anyio import CapacityLimiter, current_time, sleep_until, to_thread
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmark.errors import HostingError, VimiError
from benchmark.hashing import hash_bytes
from webapp.agents import Writing, signed_agent
from webapp.answering import Answer, Token, name_current_trial, record_answer
from webapp.bots import handle_step
from webapp.hosting import Hosting
from webapp.page_files import PageFiles
from webapp.participation import add_agent, add_evidence, add_writing, look_up, see
from webapp.rates import Rates
from webapp.renditions import Rendition
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

MAKING_SECONDS = 0.15
"""How much later queries are sent that must be made first: longer than making one takes."""

DRAWERS = 2
"""Threads that read pictures and make smaller ones; answers have threads of their own."""

MOST_PICTURES = 64
"""Pictures in one reply; a trial has about twenty."""

PROBE_BYTES = 60_000
"""What a browser loads to see how fast its connection is."""

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


class WritingMessage(Writing):
    """How somebody's comment was written."""

    participant: Token


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
    drawing = CapacityLimiter(DRAWERS)
    probe_bytes = hashlib.shake_128(b"probe").digest(PROBE_BYTES)

    async def run(work: Callable[[], Any]) -> Any:
        return await to_thread.run_sync(work, limiter=limiter)

    async def run_drawing(work: Callable[[], list[bytes]]) -> list[bytes]:
        return await to_thread.run_sync(work, limiter=drawing)

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
            agent = signed_agent(request.headers)

            def work() -> Response:
                if agent is not None:
                    add_agent(hosting, token, agent)
                return act(message)

            return await _guarded(work)

        return endpoint

    async def _guarded(work: Callable[[], Response]) -> Response:
        """Run work in a thread; errors are noted for the experimenter only."""
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

    def writing(message: WritingMessage) -> Response:
        add_writing(hosting, message.participant, Writing(**message.model_dump(exclude={"participant"})))
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

    async def picture(request: Request) -> Response:
        """Send one picture: as stored in the study, or in the rendition that the address names."""
        name = str(request.path_params["name"])
        rendition = _read_rendition(str(request.path_params.get("rendition", "original")))
        if rendition is None or not PICTURE.fullmatch(name) or name not in hosting.layout.pictures:
            return _reply({"error": "no such picture"}, 404)
        tag = name if rendition.kind == "original" else f"{name}-{rendition.recorded}"
        return await send_pictures(request, rendition, [name], tag)

    async def pictures(request: Request) -> Response:
        """Send the pictures of a trial in one reply: on slow networks each request costs a round trip.

        Each picture follows its length, four bytes, the most significant first.
        """
        names = str(request.path_params["names"]).split(".")
        rendition = _read_rendition(str(request.path_params["rendition"]))
        # In the order of their names and each once: there is one address for a set of pictures.
        fine = len(names) <= MOST_PICTURES and names == sorted(set(names)) and all(map(PICTURE.fullmatch, names))
        if rendition is None or not fine or not hosting.layout.pictures.issuperset(names):
            return _reply({"error": "no such pictures"}, 404)
        tag = hash_bytes(f"{rendition.recorded} {' '.join(names)}".encode())[:32]
        return await send_pictures(request, rendition, names, tag)

    async def send_pictures(request: Request, rendition: Rendition, names: Sequence[str], tag: str) -> Response:
        if request.headers.get("if-none-match") == f'"{tag}"':
            return Response(status_code=304, headers=_immutable(tag))
        asked = [name for name in names if hosting.renditions.is_query(name)]
        due = current_time() + QUERY_SECONDS + QUERY_SPREAD * int(hosting.trial_token(0, tag)[:8], 16) / 2**32
        if not all(hosting.renditions.is_ready(name, rendition) for name in asked):
            due += MAKING_SECONDS
        try:
            bodies = await run_drawing(lambda: [hosting.renditions.body(name, rendition) for name in names])
        except OSError as error:
            detail = f"{error.filename or hosting.study.root / 'images'}: {error.strerror or error}"
            await run(lambda: _note(hosting, "missing image", detail))
            return _reply({"error": "no such picture"}, 404)
        if asked:
            await sleep_until(due)
        if len(names) == 1 and "names" not in request.path_params:
            kind = "image/jpeg" if rendition.kind == "compact" else "image/webp"
            return Response(bodies[0], media_type=kind, headers=_immutable(tag))
        body = b"".join(len(one).to_bytes(4, "big") + one for one in bodies)
        # Compressed as a whole, its length would tell of what is in it.
        headers = {**_immutable(tag), "content-encoding": "identity"}
        return Response(body, media_type="application/octet-stream", headers=headers)

    async def probe(request: Request) -> Response:
        """Send bytes that can't be compressed, to see how fast they arrive."""
        return Response(probe_bytes, media_type="image/webp", headers=_NOT_STORED)

    routes = [
        Route("/image/{name}", picture, methods=["GET", "HEAD"]),
        Route("/image/{rendition}/{name}", picture, methods=["GET", "HEAD"]),
        Route("/pictures/{rendition}/{names}", pictures, methods=["GET", "HEAD"]),
        Route("/api/probe", probe, methods=["GET"]),
        Route("/api/answer", posted(Answer, answer), methods=["POST"]),
        Route("/api/seen", posted(Sign, seen), methods=["POST"]),
        Route("/api/writing", posted(WritingMessage, writing), methods=["POST"]),
        Route("/api/problem", posted(Problem, problem), methods=["POST"]),
    ]
    if hosting.bots:
        routes.append(Route("/api/bot", bot, methods=["POST"]))
    return routes


_NOT_STORED = {"cache-control": "no-store"}


def _immutable(tag: str) -> dict[str, str]:
    """Return the headers of pictures: their names are their content, so that they never change."""
    return {"cache-control": "public, max-age=31536000, immutable", "etag": f'"{tag}"'}


def _read_rendition(name: str) -> Rendition | None:
    try:
        return Rendition.read(name)
    except HostingError:
        return None


def _reply(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(body, status, headers={**_NOT_STORED, **(headers or {})})


def _note(hosting: Hosting, kind: str, detail: str, pseudonym: str | None = None, trial: str | None = None) -> None:
    """Note a problem for the experimenter."""
    with hosting.database.writing() as connection:
        report_problem(connection, hosting.identity, kind, detail=detail, pseudonym=pseudonym, trial=trial)


class OwnRoutes:
    """Middleware that answers on a hosted study's own routes, before a request goes through all of Streamlit's.

    Parameters
    ----------
    app
        What answers everything else.
    hosting
        The hosted study.
    """

    def __init__(self, app: ASGIApp, hosting: Hosting) -> None:
        self.app = app
        self._routes = ExceptionMiddleware(Router(make_routes(hosting), default=app, redirect_slashes=False))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        await (self._routes if scope["type"] == "http" else self.app)(scope, receive, send)


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


_SECURE = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


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
                message["headers"] = [*message["headers"], *(pair for pair in _SECURE if pair[0] not in given)]
            await send(message)

        await self.app(scope, receive, with_headers)


def make_middleware(hosting: Hosting, behind_proxy: bool = False) -> list[Middleware]:
    """Return the middleware that wraps Streamlit's own; ``behind_proxy`` as in :class:`webapp.visitors.Visitors`."""
    return [
        Middleware(SecureHeaders),
        Middleware(PageFiles, wording=hosting.wording),  # seventy files a visitor: what they pass through costs most
        Middleware(Visitors, behind_proxy=behind_proxy),
        Middleware(BoundedSockets),
        Middleware(NoUploads),
        Middleware(OwnRoutes, hosting=hosting),
    ]
