"""An OpenAI-compatible server on loopback around a ChatModel: what models/openai_chat.py and the server's tests talk to.

    with Endpoint(FakeChat("はい。")) as endpoint:
        OpenAIChat(address=endpoint.address, model="模型")
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hagane.core.labels import Label
from hagane.core.types import ChatRequest, Delta, Message
from hagane.models.fake import FakeChat


class Endpoint:
    """`seen` holds the bodies, `headers` their headers; `closed` counts clients that went away in mid-stream.
    `slow_s` seconds pass between two pieces. `says` overrules the model with (status, content type, bytes)."""

    def __init__(self, model: Any = None, *, slow_s: float = 0.0) -> None:
        self.model = model or FakeChat("年次有給休暇は一年につき20日です。")
        self.slow_s = slow_s
        self.says: tuple[int, str, bytes] | None = None
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closed = threading.Semaphore(0)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def deltas(self, body: dict[str, Any]) -> Iterator[Delta]:
        """What the model says to a body."""
        if "prompt" in body:
            messages: tuple[Message, ...] = (Message.of("user", body["prompt"]),)
        else:
            messages = tuple(Message.of(m["role"], m["content"] if isinstance(m["content"], str) else "") for m in body["messages"])
        stop = tuple(body.get("stop", ()))
        return self.model.chat(ChatRequest(messages, Label(), max_tokens=body.get("max_tokens", 0), stop=stop))


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.seen.append(body)
            endpoint.headers.append(dict(self.headers))
            if endpoint.says:
                status, media, data = endpoint.says
                self.send_response(status)
                self.send_header("Content-Type", media)
                self.send_header("Location", endpoint.address)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            deltas = endpoint.deltas(body)
            try:
                for event in _events(deltas, is_raw="prompt" in body):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
                    self.wfile.flush()
                    time.sleep(endpoint.slow_s)
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                self.close_connection = True
                endpoint.closed.release()
            finally:
                with contextlib.suppress(AttributeError):
                    deltas.close()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _events(deltas: Iterator[Delta], *, is_raw: bool) -> Iterator[bytes]:
    for delta in deltas:
        if delta.finish is not None and delta.usage is not None:
            usage = {"prompt_tokens": delta.usage.input_tokens, "completion_tokens": delta.usage.output_tokens}
            yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": delta.finish}]})
            yield _event({"choices": [], "usage": usage})
        elif delta.calls:
            calls = [
                {"index": c.n, "id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in delta.calls
            ]
            yield _event({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]})
        elif is_raw:
            yield _event({"choices": [{"index": 0, "text": delta.text}]})
        else:
            yield _event({"choices": [{"index": 0, "delta": {"content": delta.text}}]})
    yield b"data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"
