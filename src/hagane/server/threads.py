"""The one place where async meets threads: a pool of our own, one hop to the loop per piece.

The framework's default pool has 40 threads, and each open stream holds one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from hagane.core.errors import BusyError

T = TypeVar("T")
THREADS = 320
AHEAD = 16  # pieces of a body that wait for the thread that takes them
STREAMS = 256  # answers that may be open at once
EACH = 16  # of one account, so that nobody takes them all; server.answers_each


class TooManyError(BusyError):
    """One account has as many answers open as one account may."""

    http_status, code = 429, "too_many_answers"


class Threads:
    """`run` one call; `stream` an iterator."""

    def __init__(self, n: int = THREADS, *, each: int = EACH) -> None:
        self._pool = ThreadPoolExecutor(n, thread_name_prefix="hagane")
        self._streams = ThreadPoolExecutor(STREAMS, thread_name_prefix="answer")
        self._room = threading.Semaphore(STREAMS)
        self._each, self._held = each, Counter[str]()  # by account: answers that are open
        self._holding = threading.Lock()

    async def run(self, function: Callable[..., T], *given: Any, **named: Any) -> T:
        """`function(*given, **named)` in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(function, *given, **named))

    def start(self, function: Callable[[], None], *, who: str) -> None:
        """Run `function` for the account `who` in a thread of its own kind, so that open answers leave room for short
        calls. It counts until the thread ends, not until its reader goes away.
        Raises: TooManyError, BusyError when as many answers are open as there may be."""
        self._take(who)
        if not self._room.acquire(blocking=False):
            self._give(who)
            raise BusyError(f"{STREAMS} answers are open", hint="try again in a moment")

        def run() -> None:
            try:
                function()
            finally:
                self._room.release()
                self._give(who)

        try:
            self._streams.submit(run)
        except RuntimeError as cause:  # the pool is closed: the server ends
            self._room.release()
            self._give(who)
            raise BusyError("the server is ending", hint="try again in a moment") from cause

    @contextlib.contextmanager
    def counted(self, who: str) -> Generator[None, None, None]:
        """One of the answers of the account `who`, from entry to exit. Raises: TooManyError."""
        self._take(who)
        try:
            yield
        finally:
            self._give(who)

    def _take(self, who: str) -> None:
        with self._holding:
            if self._held[who] >= self._each:
                raise TooManyError(f"{self._each} answers of this account are open", hint="let one of them end, then try again (server.answers_each)")
            self._held[who] += 1

    def _give(self, who: str) -> None:
        with self._holding:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]

    async def stream(self, make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """The items of `make()`, drawn in one thread. When the reader goes away, the iterator is closed there as
        soon as it yields again; what it raises is raised here."""
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        gone = threading.Event()

        def say(kind: str, value: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(items.put_nowait, (kind, value))

        def draw() -> None:
            try:
                drawn = make()
                try:
                    for item in drawn:
                        if gone.is_set():
                            return
                        say("item", item)
                finally:
                    close = getattr(drawn, "close", None)
                    if close is not None:
                        close()
                say("end", None)
            except BaseException as error:
                say("error", error)

        self._pool.submit(draw)
        try:
            while True:
                kind, value = await items.get()
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                yield value
        finally:
            gone.set()

    async def feed(self, pieces: AsyncIterator[bytes], take: Callable[[Iterator[bytes]], T]) -> T:
        """`take` in a thread, given what `pieces` brings, at most AHEAD of them ahead; what it returns. It may return
        or raise before the end: then the rest is not waited for. When `pieces` raises (the sender went away), so does
        the iterator that `take` reads, and then this."""
        loop = asyncio.get_running_loop()
        waiting: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        room = asyncio.Semaphore(AHEAD)

        def drawn() -> Iterator[bytes]:
            while True:
                kind, value = waiting.get()
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                yield value
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(room.release)

        async def send() -> None:
            try:
                async for piece in pieces:
                    await room.acquire()
                    waiting.put(("item", piece))
                waiting.put(("end", None))
            except asyncio.CancelledError:
                waiting.put(("error", ConnectionAbortedError("the sender went away")))
                raise
            except BaseException as error:
                waiting.put(("error", error))

        sending = asyncio.create_task(send())
        try:
            return await self.run(lambda: take(drawn()))
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending

    def close(self) -> None:
        for pool in (self._pool, self._streams):
            pool.shutdown(wait=False, cancel_futures=True)
