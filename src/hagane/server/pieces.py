"""An answer that a thread makes piece by piece: to the client at once, no thread left behind when the client goes.

Leaner than a framework's streaming response: no queue object, no task per piece, and pieces that wait go out together.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .threads import Threads

EVENTS = "text/event-stream; charset=utf-8"
JSON = "application/json"
TICK_S = 0.004  # behind its first, a piece waits this long at most for pieces of other answers: one wake-up for all
_AHEAD = 1024  # pieces that may wait for a slow client before the thread waits, too
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Pieces(Response):
    """The bytes that `make()` yields; empty ones are only a chance to notice that the client went away.

    What `make()` raises before its first byte becomes an error answer; later, `torn(error)` ends the answer.
    `media` EVENTS: sent as they come; JSON: one body. `who` is the account for whom it is made.
    """

    def __init__(
        self, threads: Threads, make: Callable[[], Iterator[bytes]], *, who: str, media: str,
        torn: Callable[[BaseException], bytes] | None = None,
    ) -> None:  # fmt: skip
        self._threads, self._make, self._who, self._torn = threads, make, who, torn
        self.background = None
        self.status_code = 200
        self.init_headers(_HEADERS | {"Content-Type": media})
        self._whole = media == JSON

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        flow = _Flow(self._make, self._torn)
        self._threads.start(flow.draw, who=self._who)
        watch = asyncio.ensure_future(_watch(receive, flow))
        try:
            body, more = await flow.take()
            while self._whole and more:
                rest, more = await flow.take()
                body += rest
            if flow.gone:
                return
            headers = [*self.raw_headers, (b"content-length", b"%d" % len(body))] if self._whole else self.raw_headers
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": more})
            while more:
                body, more = await flow.take()
                if flow.gone:
                    return
                await send({"type": "http.response.body", "body": body, "more_body": more})
        finally:
            flow.leave()
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await watch


async def _watch(receive: Receive, flow: _Flow) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    flow.leave()


class _Ticks:
    """Wakes all flows that have something, together, at most once in TICK_S. One per loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: deque[_Flow] = deque()
        self._armed = False

    def add(self, flow: _Flow) -> None:
        """From any thread."""
        self._due.append(flow)
        if not self._armed:
            self._armed = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._loop.call_later, TICK_S, self._wake)

    def _wake(self) -> None:
        self._armed = False  # before looking: whoever comes later arms it again
        while self._due:
            self._due.popleft().wake()


_TICKS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Ticks] = weakref.WeakKeyDictionary()


class _Flow:
    """What passes from the thread to the loop."""

    def __init__(self, make: Callable[[], Iterator[bytes]], torn: Callable[[BaseException], bytes] | None) -> None:
        self._make, self._torn = make, torn
        self._loop = asyncio.get_running_loop()
        self._ticks = _TICKS.get(self._loop) or _TICKS.setdefault(self._loop, _Ticks(self._loop))
        self._waiting: deque[bytes] = deque()
        self._awake: asyncio.Future[None] | None = None
        self._told = False  # the loop will look; no need to tell it again
        self._ended = False
        self._error: BaseException | None = None
        self._begun = False
        self._room = threading.Event()
        self._crowded = False  # the thread waits for room
        self.gone = False

    def draw(self) -> None:
        """In the thread: all pieces, then the end."""
        try:
            pieces: Any = self._make()
            try:
                for piece in pieces:
                    if self.gone:
                        break
                    if piece:
                        self._waiting.append(piece)
                        self._tell()
                        if len(self._waiting) > _AHEAD:
                            self._wait_for_room()
            finally:
                pieces.close()
        except BaseException as error:
            self._error = error
        self._ended = True
        self._told = False  # the end is always told
        self._tell()

    def _wait_for_room(self) -> None:
        self._crowded = True
        self._room.clear()
        while len(self._waiting) > _AHEAD and not self.gone:
            self._room.wait(1.0)
            self._room.clear()
        self._crowded = False

    def _tell(self) -> None:
        if self._told:
            return
        self._told = True
        if self._begun:
            self._ticks.add(self)
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        if self._awake is not None and not self._awake.done():
            self._awake.set_result(None)

    async def take(self) -> tuple[bytes, bool]:
        """In the loop: what waits, and whether more may come. Raises what the thread raised before the first byte."""
        while True:
            self._told = False
            ended = self._ended  # read before the pieces: they are complete when it is set
            if self._waiting:
                body = self._drain()
                if ended and self._error is not None:
                    body += self._said()
                self._begun = True
                return body, not ended
            if ended or self.gone:
                if self._error is not None and not self.gone:
                    if not self._begun:
                        raise self._error
                    return self._said(), False
                return b"", False
            self._awake = self._loop.create_future()
            if not self._waiting and not self._ended and not self.gone:
                await self._awake
            self._awake = None

    def _drain(self) -> bytes:
        waiting = self._waiting
        body = waiting.popleft() if len(waiting) == 1 else b"".join(waiting.popleft() for _ in range(len(waiting)))
        if self._crowded:
            self._room.set()
        return body

    def _said(self) -> bytes:
        assert self._error is not None
        if self._torn is None:
            raise self._error
        return self._torn(self._error)

    def leave(self) -> None:
        """The client went away, or has everything: the thread stops at its next piece."""
        self.gone = True
        self._room.set()
        self.wake()
