"""The cheap ends of the load bench, each a process of its own: a fake model server, and clients that start again when done.

    python bench/serve_fake.py model                 # prints "listening on URL", then serves until stdin ends
    python bench/serve_fake.py clients SPEC.json      # prints one JSON object when done

Both speak HTTP/1.1 by hand on asyncio protocols, so that what they cost hides nothing of what is measured between them.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

FIRST_S = 0.2  # until the first token
EVERY_S = 0.02  # between two tokens
TOKENS = 40
WORD = "鋼"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": [choice], **more}
    return chunk(b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = event({"content": WORD})
END = (
    event({}, "stop")
    + chunk(b'data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":40}}\n\n')
    + chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


class Model(asyncio.Protocol):
    """Answers every POST: the first token after 200 ms, then the others 20 ms apart."""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._held = transport, b""
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self._held = body[length:]
        self._start = self._loop.time() + FIRST_S
        self._loop.call_at(self._start, self._say, 0)

    def _say(self, n: int) -> None:
        if self._transport.is_closing():
            return
        if n == TOKENS:
            self._transport.write(END)
            return
        self._transport.write(HEAD + TOKEN if n == 0 else TOKEN)
        self._loop.call_at(self._start + (n + 1) * EVERY_S, self._say, n + 1)


async def model() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Model, "127.0.0.1", 0, backlog=512)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"cpu_s": cpu_s()}), flush=True)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round(used.ru_utime + used.ru_stime, 3)


class Client(asyncio.Protocol):
    """One client on one kept connection: asks, reads, asks again."""

    def __init__(self, requests: list[bytes], marks: dict[str, Any], found: dict[str, Any], until: float) -> None:
        self._requests, self._found, self._until = requests, found, until
        self._token, self._done = marks["token"], marks["done"]
        self._n_tokens = marks["n_tokens"]
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        if time.perf_counter() > self._until:
            self._transport.close()
            return
        self._first, self._held, self._n = 0.0, bytearray(), 0
        self._transport.write(self._requests[random.randrange(len(self._requests))])
        self._asked = time.perf_counter()

    def data_received(self, data: bytes) -> None:
        if not self._first and self._token in data:
            self._first = time.perf_counter()
        self._held += data
        if data.endswith(b"0\r\n\r\n") or self._is_whole():
            self._judge()
            self._ask()

    def _is_whole(self) -> bool:
        head, found, body = bytes(self._held).partition(b"\r\n\r\n") if len(self._held) < 4096 else (b"", b"", b"")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return bool(found and length and len(body) >= int(length))

    def _judge(self) -> None:
        found, took = self._found, time.perf_counter() - self._asked
        n = self._held.count(self._token)
        good = self._held.startswith(b"HTTP/1.1 200") and self._done in self._held and (not self._n_tokens or n == self._n_tokens)
        if not good:
            found["errors"] += 1
            found["example"] = bytes(self._held[:600]).decode("utf-8", "replace")
            return
        found["tokens"] += n
        found["first_s"].append(self._first - self._asked if self._first else took)
        found["whole_s"].append(took)
        at = self._held.rfind(b'"timings_s":{')
        if at >= 0:
            end = self._held.index(b"}", at)
            found["timings_s"].append(json.loads(bytes(self._held[at + 12 : end + 1])))

    def connection_lost(self, error: Exception | None) -> None:
        if time.perf_counter() < self._until:
            self._found["errors"] += 1
            self._found["example"] = "connection lost"
        if not self.ended.done():
            self.ended.set_result(None)


async def clients(spec: dict[str, Any]) -> None:
    url = urlsplit(spec["url"])
    requests = [request(spec, url, body) for body in spec["bodies"]]
    marks = {"token": spec["token"].encode(), "done": spec["done"].encode(), "n_tokens": spec["n_tokens"]}
    found: dict[str, Any] = {"errors": 0, "tokens": 0, "first_s": [], "whole_s": [], "timings_s": []}
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    until = started + spec["seconds"]
    ends = []
    for _ in range(spec["n"]):
        _, client = await loop.create_connection(lambda: Client(requests, marks, found, until), url.hostname, url.port)
        ends.append(client.ended)
        await asyncio.sleep(spec["spread_s"] / spec["n"])
    await asyncio.gather(*ends)
    print(json.dumps(found | {"seconds": time.perf_counter() - started, "cpu_s": cpu_s()}), flush=True)


def request(spec: dict[str, Any], url: Any, body: dict[str, Any]) -> bytes:
    data = json.dumps(body, ensure_ascii=False).encode()
    lines = [f"POST {url.path}/chat/completions HTTP/1.1", f"Host: {url.netloc}", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {spec['key']}"] if spec.get("key") else []
    lines += [f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(lines).encode() + data


if __name__ == "__main__":
    if sys.argv[1] == "model":
        uvloop.run(model())
    else:
        uvloop.run(clients(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
