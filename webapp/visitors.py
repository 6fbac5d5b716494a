"""Which visitors belong together, without knowing who they are.

What one address may do is bounded: how often it guesses at the experimenter's door, how many pages it holds open, how
often they run. For that it need not be known. A visitor who comes directly is told by a keyed hash whose key is drawn
anew at every start. Behind a proxy, vimi sees the proxy's address alone: the proxy sorts addresses into a hundred
groups, and names the group, which a hundredth of the world shares. Neither is written down anywhere.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from ipaddress import IPv6Address, ip_address
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

HEADER = "x-vimi-visitor"
"""Header under which pages find who visits; what a visitor sends under that name is dropped."""

GROUP = "x-vimi-group"
"""Header in which the proxy names the group of an address."""

UNTOLD = "untold"
"""All who come through a proxy that does not say which group they belong to."""

SELF = "this machine"
"""Whoever sits at the server, or came there by a tunnel."""

_GROUP = re.compile(rb"[0-9a-z]{1,16}")
_SIGNS = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"forwarded", b"via")
"""Headers that proxies add."""


class Visitors:
    """Middleware that says on every request which visitor it comes from, in the header :data:`HEADER`.

    Parameters
    ----------
    app
        What comes next.
    behind_proxy
        Whether :data:`GROUP` may be believed: only if nobody can reach vimi but through the proxy.
    """

    def __init__(self, app: ASGIApp, behind_proxy: bool = False) -> None:
        self.app, self.behind_proxy = app, behind_proxy
        self._key = secrets.token_bytes(16)
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its visitor named."""
        if scope["type"] in ("http", "websocket"):
            headers = [(name, value) for name, value in scope["headers"] if name.lower() != HEADER.encode()]
            scope = {**scope, "headers": [*headers, (HEADER.encode(), self.name(scope).encode())]}
        await self.app(scope, receive, send)

    def name(self, scope: Scope) -> str:
        """Return what a request's visitor is called for as long as the server runs."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self.behind_proxy:
            group = headers.get(GROUP.encode(), b"")
            return f"group {group.decode()}" if _GROUP.fullmatch(group) else UNTOLD
        if any(sign in headers for sign in _SIGNS):
            if not self._warned:
                self._warned = True
                print(
                    "Visitors come through a proxy: start vimi serve with --behind-proxy, and let the proxy name their "
                    "groups as webapp/deployment/nginx.conf does, or what one address may do is not bounded."
                )
            return UNTOLD
        host = str((scope.get("client") or ("",))[0])
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return UNTOLD
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if address.is_loopback:
            return SELF
        # Whoever has one address of version 6 has a network of them.
        network = address.packed[:8] if isinstance(address, IPv6Address) else address.packed
        return hashlib.blake2b(network, digest_size=8, key=self._key).hexdigest()


def visitor_of(scope: Scope | dict[str, Any]) -> str:
    """Return the visitor that :class:`Visitors` found; :data:`UNTOLD` if it was not asked."""
    for name, value in scope["headers"]:
        if name == HEADER.encode():
            return str(value.decode())
    return UNTOLD
