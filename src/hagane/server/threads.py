"""The one place where async meets threads: a pool of our own, one hop to the loop per piece.

The framework's default pool has 40 threads, and each open stream holds one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from hagane.core.errors import BusyError

T = TypeVar("T")
THREADS = 320
AHEAD = 16  # pieces of a body that wait for the thread that takes them
STREAMS = 256  # answers that may be open at once


class Threads:
    """`run` one call; `stream` an iterator."""

    def __init__(self, n: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(n, thread_name_prefix="hagane")
        self._streams = ThreadPoolExecutor(STREAMS, thread_name_prefix="answer")
        self._room = threading.Semaphore(STREAMS)

    async def run(self, function: Callable[..., T], *given: Any, **named: Any) -> T:
        """`function(*given, **named)` in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(function, *given, **named))

    def start(self, function: Callable[[], None]) -> None:
        """Run `function` in a thread of its own kind, so that open answers leave room for short calls.
        Raises: BusyError when as many answers are open as there may be."""
        if not self._room.acquire(blocking=False):
            raise BusyError(f"{STREAMS} answers are open", hint="try again in a moment")

        def run() -> None:
            try:
                function()
            finally:
                self._room.release()

        self._streams.submit(run)

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
