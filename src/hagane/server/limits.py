"""The outer wall, plain ASGI: what is too big, too slow or malformed ends here, and every answer gets its headers.

Bodies are counted while they arrive; a request whose body does not arrive in time ends with 408. The name in the
Host header must be one of ours, so that a foreign name that points at this machine (DNS rebinding) opens nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hagane.core.log import get
from hagane.project.config_server import ServerConfig

from .errors import Refusal, answer, mistake, of_http

log = get("server.limits")
E = TypeVar("E", bound=Callable[..., Any])

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MEDIA = frozenset({"application/json", "application/x-www-form-urlencoded", "multipart/form-data"})
HEADERS_BYTES, HEADERS_N, URL_BYTES = 32_768, 100, 8_192
BODY_S, PIECE_S = 30.0, 30.0  # seconds for a whole body; for uploads, for the next piece of one
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?)(?::(\d{1,5}))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\ufffd]")  # U+FFFD: what was no UTF-8

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
STATIC = "/static/"  # the one place whose answers may be kept: their addresses carry a hash
CLOSE = {"Connection": "close"}


def takes_upload(endpoint: E) -> E:
    """Mark a route that reads its body itself, piece by piece, and counts it: any content type, no limit here."""
    endpoint.takes_upload = True  # type: ignore[attr-defined]
    return endpoint


def is_loopback(host: str) -> bool:
    """Whether binding to `host` shows the server to this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Limits:
    """Around the whole application. `host` is the address that the server is bound to."""

    def __init__(self, app: ASGIApp, *, config: ServerConfig, host: str, body_s: float = BODY_S, piece_s: float = PIECE_S) -> None:
        self._app, self._config = app, config
        self._body_bytes, self._body_s, self._piece_s = config.body_kb * 1024, body_s, piece_s
        self._local_only = is_loopback(host)
        self._names = set(LOCAL) | {name for name in (_name_of(config.url), host.lower()) if name}
        self._uploads: list[tuple[re.Pattern[str], Iterable[str]]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # no WebSocket here
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        head, started = scope["method"] == "HEAD", False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _dress(message, scope, self._config)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            self._check(scope)
            inner = {**scope, "method": "GET"} if head else scope
            await self._app(inner, self._counted(scope, receive), guarded)
        except Refusal as refusal:
            if not started:
                await answer(Request(scope), of_http(refusal))(scope, receive, guarded)
        except ClientDisconnect:  # in the middle of its body: what came of it is not kept, and nobody waits for an answer
            log.info("client left", method=scope["method"])
        except Exception as error:
            problem = mistake(error)
            if not started:  # else the answer ends torn, and the client sees that it does
                await answer(Request(scope), problem)(scope, receive, guarded)

    def _check(self, scope: Scope) -> None:
        """Everything that is known before the body. Raises: Refusal."""
        if scope["method"] not in METHODS:
            raise Refusal(405, "method_not_allowed", "this method is not known here")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > URL_BYTES:
            raise Refusal(414, "url_too_long", f"the address is longer than {URL_BYTES:,} bytes", hint="send long input in the body")
        check_path(scope["path"])
        given = scope["headers"]
        if len(given) > HEADERS_N or sum(len(name) + len(value) for name, value in given) > HEADERS_BYTES:
            raise Refusal(431, "headers_too_large", f"more than {HEADERS_N} headers or {HEADERS_BYTES:,} bytes of them", headers=CLOSE)
        headers = Headers(raw=given)
        self._check_host(headers)
        self._check_body(scope, headers)

    def _check_host(self, headers: Headers) -> None:
        given = headers.getlist("host")
        found = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        if found is None:
            raise Refusal(400, "host", "the Host header is missing or malformed")
        name = found[1]
        if name in self._names or is_loopback(name) or (not self._local_only and _is_address(name)):
            return
        if not self._local_only and self._config.url is None:
            return  # any name may point here; server.url says which one does
        raise Refusal(421, "host", "this server does not go by that name", hint="set server.url in hagane.yaml to the address that people type")

    def _check_body(self, scope: Scope, headers: Headers) -> None:
        if scope["method"] not in WITH_BODY:
            return
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise Refusal(400, "content_length", "Content-Length is not a number", headers=CLOSE)
        if length == "0" and "transfer-encoding" not in headers:
            return
        if self._is_upload(scope):
            return
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "content_encoding", "compressed bodies are not taken", headers=CLOSE)
        media = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in MEDIA:
            raise Refusal(415, "content_type", "this content type is not taken", hint=f"one of {', '.join(sorted(MEDIA))}", headers=CLOSE)
        if int(length) > self._body_bytes:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal(413, "body_too_large", f"the body is larger than {self._config.body_kb:,} KB", hint="server.body_kb in hagane.yaml", headers=CLOSE)

    def _is_upload(self, scope: Scope) -> bool:
        if self._uploads is None:
            routes = [r for r in scope["app"].routes if getattr(getattr(r, "endpoint", None), "takes_upload", False)]
            self._uploads = [(route.path_regex, route.methods) for route in routes]
        return any(scope["method"] in methods and regex.match(scope["path"]) for regex, methods in self._uploads)

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` that counts, and gives up on a body that does not come."""
        upload = scope["method"] in WITH_BODY and self._is_upload(scope)
        loop = asyncio.get_running_loop()
        seen, done, deadline = 0, False, None

        async def counted() -> Message:
            nonlocal seen, done, deadline
            if done:
                return await receive()
            if deadline is None or upload:
                deadline = loop.time() + (self._piece_s if upload else self._body_s)
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                done = True
                raise Refusal(408, "body_too_slow", "the body did not arrive in time", headers=CLOSE) from None
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                done = not message.get("more_body", False)
                if not upload and seen > self._body_bytes:
                    done = True
                    raise self._too_large()
            return message

        return counted


def check_path(path: str) -> None:
    """Raises: Refusal 400 for control characters, broken UTF-8, backslashes and steps out of a folder."""
    if _CONTROL.search(path) or "\\" in path:
        raise Refusal(400, "path", "the address holds a character that no address has")
    if any(part in (".", "..") for part in path.split("/")):
        raise Refusal(400, "path", "the address holds . or ..")


def _dress(message: Message, scope: Scope, config: ServerConfig) -> None:
    """The security headers; a route may set a narrower policy for itself, but nothing may be kept."""
    headers = MutableHeaders(raw=message.setdefault("headers", []))
    for name, value in SECURITY.items():
        headers.setdefault(name, value)
    if not (scope["path"].startswith(STATIC) and message["status"] in (200, 304)):
        headers["Cache-Control"] = "no-store"
    if is_secure(scope["scheme"], config):
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")


def is_secure(scheme: str, config: ServerConfig) -> bool:
    """Whether people reach the page by https: here, or at the proxy in front."""
    return scheme == "https" or (config.url or "").lower().startswith("https://")


def _name_of(url: str | None) -> str | None:
    host = urlsplit(url).hostname if url else None
    return f"[{host}]" if host and ":" in host else host


def _is_address(name: str) -> bool:
    """Whether `name` is an IP address: that cannot be pointed elsewhere."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
