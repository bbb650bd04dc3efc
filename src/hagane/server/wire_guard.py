"""The HTTP parser with limits of its own: headers that do not end, heads that do not arrive, readers that do not read."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hagane.core.log import get

from .errors import Problem
from .limits import HEADERS_BYTES, HEADERS_N, SECURITY, URL_BYTES

log = get("server.wire_guard")
HEAD_S = 15.0  # from the first byte of a request, or from the connection, to the end of its headers
FAREWELL_S = 0.5  # for the end of an idle TLS connection when the server ends
LONGEST_HEAD = HEADERS_BYTES + URL_BYTES
READ_S = 60.0  # so long may a reader take nothing of what waits for it


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head_bytes = self._n_headers = 0
        self._waiting_bytes = 0  # of a head that is not complete: the parser keeps a long line to itself until it ends
        self._in_head = True
        self._late: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop("_late")
        self._stop("_stuck")
        super().connection_lost(exc)

    # ends

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def eof_received(self) -> None:
        """The other side has gone. Under TLS a polite end would wait for its farewell, 30 s long."""
        if self._is_idle and self.scheme == "https":
            self.transport.abort()

    def shutdown(self) -> None:
        super().shutdown()
        if self._is_idle and self.scheme == "https":
            self.loop.call_later(FAREWELL_S, self.transport.abort)

    # heads

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        self._waiting_bytes = self._waiting_bytes + len(data) if was_in_head and self._in_head else 0
        if self._waiting_bytes > LONGEST_HEAD and not self._over and not self.transport.is_closing():
            self._over = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        self._head_bytes = self._n_headers = 0
        self._in_head = True
        super().on_message_begin()
        self._await_head()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._n_headers += 1
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop("_late")
        self._in_head = False
        super().on_headers_complete()

    def _count(self, n_bytes: int) -> None:
        self._head_bytes += n_bytes
        if self._head_bytes > LONGEST_HEAD or self._n_headers > HEADERS_N:
            self._over = True
            raise ValueError("head too large")  # the parser ends with it, and send_400_response below answers

    def _await_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_S, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if self.transport is not None and not self.transport.is_closing():
            log.info("head too slow")
            self._say(Problem(408, "the request did not arrive in time", "head_too_slow"))

    def send_400_response(self, msg: str) -> None:
        if self._over:
            self._say(Problem(431, "the headers are too large", "headers_too_large"))
        else:
            self._say(Problem(400, "this is not an HTTP request", "http"))

    def _say(self, problem: Problem) -> None:
        """The error in our shape, and the end of the connection."""
        self._stop("_late")
        body = json.dumps(problem.body).encode()
        given = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Cache-Control": "no-store", "Connection": "close"}
        lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in {**SECURITY, **given}.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        self.transport.close()

    # readers

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(READ_S, self._abort)

    def resume_writing(self) -> None:
        self._stop("_stuck")
        super().resume_writing()

    def _abort(self) -> None:
        self._stuck = None
        log.info("reader too slow")
        self.transport.abort()

    def _stop(self, timer: str) -> None:
        handle = getattr(self, timer)
        if handle is not None:
            handle.cancel()
            setattr(self, timer, None)
