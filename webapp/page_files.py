"""The files of the pages themselves: Streamlit's scripts, sent compressed, and the document that loads them.

Streamlit sends its scripts as they are, three megabytes before the first page is drawn, and leaves compression to a
proxy. A study that is served without one, or behind one that does not compress, is as slow as that. Here every file
is read and compressed once, kept in memory and sent with a year's caching: its name changes with its content. Whoever
arrives asks for some seventy files, so that what each of them costs the server counts as much as the pages do.

The document is Streamlit's, with the language of the study, a title, and signs that a browser must not translate it:
labels that a program reworded are not the ones that were agreed to, and a page whose text nodes are moved about breaks.
"""

from __future__ import annotations

import gzip
import html
import mimetypes
import re
from functools import cached_property
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmark.hashing import hash_bytes
from webapp.wording import Wording

COMPRESSED = {".js", ".css", ".json", ".svg", ".map", ".txt"}
"""Endings of files that get smaller; pictures and fonts do not."""

ASKED_FOR_NEXT = ("BidiComponent", "Html", "Button", "purify.es", "serialization", "_arrayReduce", "recordbatch")
"""Scripts that every page asks for once Streamlit has started, by the beginning of their names.

They are announced in the document, which saves a round trip or two; a name that a version of Streamlit does not have
is left out.
"""

_SCRIPTS = Path(__file__).parent / "components"


class PageFiles:
    """Middleware that sends Streamlit's own files compressed, and its document in a study's language.

    Parameters
    ----------
    app
        What is wrapped.
    wording
        Texts of the study.
    """

    def __init__(self, app: ASGIApp, wording: Wording) -> None:
        import streamlit

        self.app = app
        self._wording = wording
        self._folder = (Path(streamlit.__file__).parent / "static").resolve()
        self._replies: dict[tuple[str, bool], Response] = {}
        self._limiter = CapacityLimiter(1)  # whoever comes second finds the file compressed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer requests for the pages' files, with the study's document instead of Streamlit's."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        zipped = b"gzip" in headers.get(b"accept-encoding", b"")
        path = str(scope["path"])
        if path == "/" or path.startswith("/static/"):
            reply = self._replies.get((path, zipped))
            if reply is None:
                reply = await to_thread.run_sync(self._prepare, path, zipped, limiter=self._limiter)
            if reply is not None:
                if headers.get(b"if-none-match") == reply.headers["etag"].encode():
                    kept = {name: reply.headers[name] for name in ("etag", "cache-control", "vary")}
                    reply = Response(status_code=304, headers=kept)
                await reply(scope, receive, send)
                return
        await self.app(scope, receive, self._put_document(scope, receive, send, zipped))

    def _prepare(self, path: str, zipped: bool) -> Response | None:
        """Return the reply with a file or the document, the same for everybody; None if there is no such file."""
        if (path, zipped) not in self._replies:
            if path == "/":
                reply = self._document_reply(zipped)
            else:
                body = self._read(path)
                if body is None:
                    return None
                smaller = zipped and Path(path).suffix in COMPRESSED
                sent = gzip.compress(body, 9, mtime=0) if smaller else body
                reply = _reply(sent, mimetypes.guess_type(path)[0] or "text/plain", _FOREVER, zipped=smaller)
            self._replies[path, zipped] = reply
        return self._replies[path, zipped]

    def _document_reply(self, zipped: bool) -> Response:
        # It names the scripts of the version that runs now, so that it is asked for anew each time.
        body = self._zipped_document if zipped else self.document
        return _reply(body, "text/html; charset=utf-8", "no-cache", zipped=zipped)

    def _read(self, path: str) -> bytes | None:
        """Return a file as it is; None if there is no such file."""
        file = (self._folder / path.lstrip("/")).resolve()
        return file.read_bytes() if file.is_relative_to(self._folder) and file.is_file() else None

    def _put_document(self, scope: Scope, receive: Receive, send: Send, zipped: bool) -> Send:
        """Return a way to send that replaces Streamlit's document."""
        replaced = False

        async def replacing(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                headers = {name.lower(): value for name, value in message["headers"]}
                html_wanted = headers.get(b"content-type", b"").startswith(b"text/html")
                replaced = html_wanted and message["status"] in (200, 404)
                if replaced:
                    await self._document_reply(zipped)(scope, receive, send)
            if not replaced:
                await send(message)

        return replacing

    @cached_property
    def document(self) -> bytes:
        """The document that loads the pages."""
        text = (self._folder / "index.html").read_text(encoding="utf-8")
        return make_document(text, self._wording, self._announced, self._weight).encode()

    @cached_property
    def _zipped_document(self) -> bytes:
        return gzip.compress(self.document, 9, mtime=0)

    @cached_property
    def _announced(self) -> tuple[str, ...]:
        """Scripts that are asked for next, as addresses."""
        scripts = self._folder / "static" / "js"
        found = (sorted(scripts.glob(f"{stem}.*.js")) for stem in ASKED_FOR_NEXT)
        return tuple(f"./static/js/{paths[0].name}" for paths in found if len(paths) == 1)

    @cached_property
    def _weight(self) -> int:
        """Bytes that the browser loads before a page is drawn, as they are sent."""
        text = (self._folder / "index.html").read_text(encoding="utf-8")
        addresses = [*re.findall(r'(?:src|href)="\./(static/[^"]+)"', text), *(name[2:] for name in self._announced)]
        total = 0
        for address in dict.fromkeys(addresses):
            reply = self._prepare("/" + address, zipped=True)
            total += len(reply.body) if reply is not None else 0
        return total


def make_document(text: str, wording: Wording, announced: tuple[str, ...] = (), weight: int = 0) -> str:
    """Return Streamlit's document with a study's language and title.

    Parameters
    ----------
    text
        Streamlit's ``index.html``.
    wording
        Texts of the study.
    announced
        Addresses of scripts to load besides.
    weight
        Bytes that are loaded before a page is drawn; what is said while that lasts counts them.
    """
    language = html.escape(wording.language)
    title = html.escape(wording.label("title"))
    script = (_SCRIPTS / "translation.js").read_text(encoding="utf-8")
    loading = (_SCRIPTS / "loading.js").read_text(encoding="utf-8").replace("WEIGHT", str(weight))
    said = html.escape(wording.label("page_loading"))
    text = re.sub(r"<html[^>]*>", f'<html lang="{language}" translate="no" class="notranslate">', text, count=1)
    text = re.sub(r"<title>.*?</title>", f"<title>{title}</title>", text, count=1)
    # The way for programs that Streamlit offers is switched off here: nobody is sent there.
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'\s*<link rel="service-desc"[^>]*>', "", text)
    text = re.sub(
        r"<noscript>.*?</noscript>", f"<noscript><p>{html.escape(wording.label('no_script'))}</p></noscript>", text,
        flags=re.S,
    )  # fmt: skip
    head = [
        '<meta name="google" content="notranslate" />',
        f"<script>{script}</script>",
        *(f'<link rel="modulepreload" crossorigin href="{address}">' for address in announced),
        f"<style>{_LOADING_STYLE}</style>",
    ]
    text = text.replace("</head>", "\n".join(head) + "\n</head>", 1)
    placeholder = f'<div id="root"><p class="vimi-loading" role="status">{said} <span></span></p></div>'
    return text.replace('<div id="root"></div>', f"{placeholder}\n<script>{loading}</script>", 1)


_LOADING_STYLE = (
    "body { background: #808080; margin: 0; } "
    ".vimi-loading { font: 1.15rem system-ui, sans-serif; color: #0c0c0c; text-align: center; margin-top: 30vh; }"
)
_FOREVER = "public, max-age=31536000, immutable"


def _reply(body: bytes, kind: str, kept: str, zipped: bool) -> Response:
    headers = {"cache-control": kept, "vary": "accept-encoding", "etag": f'"{hash_bytes(body)[:16]}"'}
    if zipped:
        headers["content-encoding"] = "gzip"
    return Response(body, media_type=kind, headers=headers)
