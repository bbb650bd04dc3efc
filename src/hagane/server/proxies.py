"""Behind a proxy: its X-Forwarded-* count, nobody else's do.

Where the server is reachable from other machines without TLS of its own, only trusted proxies (and this machine)
get through to it at all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from hagane.core.errors import ConfigError
from hagane.core.log import get

from .errors import Problem

log = get("server.proxies")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
DIRECT = Problem(403, "this server is reached through its proxy only", "direct", hint="open the address that your administrator gave you")


def networks(given: Sequence[str]) -> list[Network]:
    """Addresses and networks of hagane.yaml. Raises: ConfigError, also for one that trusts everybody."""
    found = []
    for text in given:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError as cause:
            raise ConfigError(f"server.trusted_proxies: {text!r} is not an address or a network", hint="for example 10.0.0.5 or 10.0.0.0/24") from cause
        if network.prefixlen == 0:
            raise ConfigError(f"server.trusted_proxies: {text!r} trusts everybody", hint="name the proxy's own address")
        found.append(network)
    return found


class Proxied:
    """Around the application. `alone`: there is no TLS here, so nobody comes but by a proxy."""

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str], alone: bool) -> None:
        self._networks, self._alone, self._app = networks(trusted), alone, app
        self._through = ProxyHeadersMiddleware(app, trusted_hosts=[str(network) for network in self._networks])  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        peer = _address(scope)
        if peer is not None and any(peer in network for network in self._networks):
            if self._alone:
                scope["scheme"] = "https"  # it is there for that; X-Forwarded-Proto may say otherwise
            await self._through(scope, receive, send)  # type: ignore[arg-type]
        elif self._alone and (peer is None or not peer.is_loopback):
            log.warning("direct request", peer=str(peer))
            await JSONResponse(DIRECT.body, DIRECT.status)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _address(scope: Scope) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Who is at the other end of the connection; IPv4 as such even on an IPv6 socket."""
    try:
        found = ipaddress.ip_address(scope["client"][0])
    except (TypeError, ValueError, KeyError):
        return None
    return getattr(found, "ipv4_mapped", None) or found
