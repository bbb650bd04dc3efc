"""Answers in pieces: in order, whole, one wake-up for many, and nothing left open when a client goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hagane.core.errors import BusyError, ModelError
from hagane.server import pieces, threads
from hagane.server.pieces import EVENTS, JSON, Pieces

Make = Callable[[], Iterator[bytes]]


class Client:
    """Both ends of ASGI. `leaves_after` pieces it goes away; `gate` holds up what is sent to it."""

    def __init__(self, *, leaves_after: int | None = None) -> None:
        self.start: dict[str, Any] = {}
        self.bodies: list[bytes] = []
        self.done = False
        self._left = asyncio.Event()
        self._leaves_after = leaves_after

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.bodies.append(message["body"])
        self.done = not message["more_body"]
        if self._leaves_after is not None and len(self.bodies) >= self._leaves_after:
            self._left.set()
        await asyncio.sleep(0)

    @property
    def text(self) -> str:
        return b"".join(self.bodies).decode()


def serve(make: Make, client_of: Callable[[], Client] = Client, *, media: str = EVENTS, torn: Any = None) -> Client:
    async def run() -> Client:
        client, pool = client_of(), threads.Threads()
        try:
            await asyncio.wait_for(Pieces(pool, make, who="u_1", media=media, torn=torn)({"type": "http"}, client.receive, client.send), 30)
        finally:
            pool.close()
        return client

    return asyncio.run(run())


def test_all_pieces_arrive_in_order() -> None:
    client = serve(lambda: (f"断片{n}。".encode() for n in range(3000)))
    assert client.text == "".join(f"断片{n}。" for n in range(3000))
    assert client.done
    assert dict(client.start["headers"])[b"content-type"] == EVENTS.encode()


def test_a_whole_body_says_its_length() -> None:
    client = serve(lambda: iter_of(b"", "{答}".encode()), media=JSON)
    assert (client.text, client.done) == ("{答}", True)
    assert dict(client.start["headers"])[b"content-length"] == b"5"


def iter_of(*items: bytes | BaseException) -> Iterator[bytes]:
    for item in items:
        if isinstance(item, BaseException):
            raise item
        yield item


def test_an_error_before_the_first_byte_is_raised() -> None:
    """So that the client gets its status."""
    with pytest.raises(ModelError):
        serve(lambda: iter_of(b"", ModelError("落ちた")))


def test_an_error_behind_it_ends_the_answer_with_what_torn_says() -> None:
    client = serve(lambda: iter_of("半分".encode(), ModelError("落ちた")), torn=lambda error: f"|{error}".encode())
    assert (client.text, client.done) == ("半分|落ちた", True)


def test_a_client_that_goes_away_closes_the_iterator_at_its_next_piece() -> None:
    closed = threading.Event()
    drawn: list[int] = []

    def make() -> Iterator[bytes]:
        try:
            for n in range(1_000_000):
                drawn.append(n)
                yield "話".encode()
        finally:
            closed.set()

    client = serve(make, lambda: Client(leaves_after=2))
    assert closed.wait(20)
    assert not client.done
    assert len(drawn) < 1_000_000


def test_a_client_that_went_before_the_first_byte_gets_nothing() -> None:
    closed, asked = threading.Event(), threading.Event()

    def make() -> Iterator[bytes]:
        try:
            asked.set()
            while True:
                yield b""
        finally:
            closed.set()

    def gone() -> Client:
        client = Client()
        client._left.set()
        return client

    client = serve(make, gone)
    assert asked.wait(20)
    assert closed.wait(20)
    assert (client.start, client.bodies) == ({}, [])


def test_a_thread_does_not_run_far_ahead_of_a_slow_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken until the end of the test: the pieces that wait are bounded."""
    monkeypatch.setattr(pieces, "_AHEAD", 10)
    drawn: list[int] = []
    stopped = threading.Event()

    def make() -> Iterator[bytes]:
        try:
            for n in range(500):
                drawn.append(n)
                yield "遅".encode()
        finally:
            stopped.set()

    class Slow(Client):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "http.response.body" and len(self.bodies) == 1:
                await asyncio.sleep(0.2)
                self.ahead = len(drawn)

    client = serve(make, Slow)
    assert client.text == "遅" * 500
    assert client.ahead < 100  # type: ignore[attr-defined]
    assert stopped.is_set()


def test_more_open_answers_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "STREAMS", 2)
    pool, hold = threads.Threads(), threading.Event()
    try:
        for n in range(2):
            pool.start(lambda: hold.wait(20) and None, who=f"u_{n}")
        with pytest.raises(BusyError):
            pool.start(lambda: None, who="u_3")
    finally:
        hold.set()
        pool.close()


def test_one_account_does_not_take_the_answers_of_all() -> None:
    """What it holds is given back when its threads end, also when they fail."""
    pool, hold, ended = threads.Threads(), threading.Event(), threading.Semaphore(0)

    def failing() -> None:
        try:
            hold.wait(20)
            raise ModelError("落ちた")
        finally:
            ended.release()

    try:
        for _ in range(threads.EACH):
            pool.start(failing, who="山田")
        for refused in (lambda: pool.start(failing, who="山田"), lambda: pool.counted("山田").__enter__()):
            with pytest.raises(threads.TooManyError) as found:
                refused()
            assert (found.value.http_status, found.value.retryable) == (429, True)
            assert found.value.hint
        pool.start(failing, who="佐藤")
        with pool.counted("佐藤"):
            pass
        hold.set()
        for _ in range(threads.EACH + 1):
            assert ended.acquire(timeout=20)
        pool._streams.shutdown(wait=True)
        assert not pool._held
    finally:
        hold.set()
        pool.close()
