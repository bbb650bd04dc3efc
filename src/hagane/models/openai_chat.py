"""An OpenAI-compatible endpoint (`POST /chat/completions`, streamed) as a ChatModel: vLLM, llama.cpp, Ollama.

Only on this machine: every prompt goes there, whatever its label, until destinations have ceilings.
Source: OpenAI API reference, Chat; WHATWG HTML, server-sent events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.client import RemoteDisconnected
from typing import Any

import urllib3

from ..core.config import secret
from ..core.errors import ModelError, ModelRefusedError, UsageError
from ..core.types import ChatRequest, Delta, ToolCall, Usage
from .openai_body import chat_body, raw_body
from .this_machine import check_address

_PIECE_BYTES = 65_536
_MAX_EVENT = 8 << 20  # bytes of one event
_WORD = re.compile(r"[a-z][a-z0-9_.-]{0,59}", re.ASCII)
_FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}


class OpenAIChat:
    """ChatModel over HTTP. `address`: the base, for example http://127.0.0.1:8000/v1. `key`: env:NAME or empty.
    Safe for several threads: each open stream has a connection of its own, up to `streams` are kept for the next.

    Redirects are not followed. Raises: RefusedError for an address that is not on this machine.
    """

    is_instruct = True

    def __init__(
        self,
        *,
        address: str,
        model: str,
        key: str = "",
        name: str = "",
        timeout_s: float = 300.0,
        connect_s: float = 10.0,
        streams: int = 256,
    ) -> None:
        """`timeout_s`: how long the next piece of an answer may take, reading the prompt included."""
        self._host = check_address(address, key="address", gets="prompts")
        self.name = name or model
        self._address = address.rstrip("/")
        self._model = model
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if key:
            self._headers["Authorization"] = f"Bearer {secret(key, key='key')}"
        timeout = urllib3.Timeout(connect=connect_s, read=timeout_s)
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=streams, timeout=timeout, retries=False)

    def chat(self, request: ChatRequest) -> Iterator[Delta]:
        if not request.messages:
            raise UsageError("a request needs a message")
        if request.raw:
            answer = self._post("/completions", raw_body(request, self._model))
        else:
            answer = self._post("/chat/completions", chat_body(request, self._model))
        ended = False
        try:
            if answer.status != 200:
                raise self._refused(answer)
            reader = _Reader(self._host)
            for event in self._events(answer):
                yield from reader.take(event)
            yield reader.last()
            ended = True
        finally:
            if ended:
                answer.release_conn()
            else:
                answer.close()  # the endpoint sees it and stops

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.clear()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        for is_last in (False, True):
            try:
                return self._pool.request(
                    "POST", self._address + path, body=data, headers=self._headers, preload_content=False, redirect=False
                )
            except urllib3.exceptions.HTTPError as cause:
                # a kept connection that the endpoint gave up in that moment: nothing was read, so once more
                if is_last or not isinstance(cause.__cause__ or cause.__context__, RemoteDisconnected | ConnectionResetError):
                    raise self._silent(cause) from cause
        raise AssertionError("either returned or raised")

    def _events(self, answer: Any) -> Iterator[bytes]:
        """The data of each event; of an endpoint that does not stream, its whole answer as one."""
        if "event-stream" not in answer.headers.get("content-type", ""):
            yield self._whole(answer)
            return
        held, done = b"", False
        for piece in self._pieces(answer):
            if done:
                continue  # behind [DONE]: until the end of the answer, so that the connection can be kept
            if held:
                piece = held + piece
            *lines, held = piece.split(b"\n")
            if len(held) > _MAX_EVENT:
                raise ModelError(f"the model at {self._host} sent an event of more than {_MAX_EVENT} bytes")
            for line in lines:
                if line.startswith(b"data:"):
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        done = True
                        break
                    yield data

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        """What comes, as it comes."""
        try:
            if answer.chunked:
                yield from answer.read_chunked()
                return
            while piece := answer.read1(_PIECE_BYTES):
                yield piece
        except (urllib3.exceptions.HTTPError, OSError) as cause:
            raise self._silent(cause) from cause

    def _whole(self, answer: Any) -> bytes:
        try:
            data: bytes = answer.read(_MAX_EVENT)
        except (urllib3.exceptions.HTTPError, OSError) as cause:
            raise self._silent(cause) from cause
        return data

    def _silent(self, cause: BaseException) -> ModelError:
        return ModelError(
            f"the model {self.name} at {self._host} does not answer: {type(cause).__name__}", hint="is its server running?"
        )

    def _refused(self, answer: Any) -> ModelError:
        """The endpoint's refusal by its status and its code, without its text, which may quote the prompt."""
        word = ""
        try:
            said = json.loads(answer.read(_MAX_EVENT))["error"]
            word = next((w for w in (said.get("code"), said.get("type")) if isinstance(w, str) and _WORD.fullmatch(w)), "")
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        text = f"the model {self.name} at {self._host} answers {answer.status} {word}".rstrip()
        if answer.status in (400, 413, 422):
            return ModelRefusedError(text, hint="is the request too long for it, or does it lack something that the request asks for?")
        return ModelError(text, hint="check address, model and key")


class _Reader:
    """Events to deltas; what the last one says is kept for `last`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._finish = ""
        self._usage: Usage | None = None
        self._n_pieces = 0

    def take(self, data: bytes) -> Iterator[Delta]:
        try:
            event = json.loads(data)
            if event.get("error"):
                raise ModelError(f"the model at {self._host} failed in the middle of its answer")
            if event.get("usage"):
                usage = event["usage"]
                self._usage = Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
            choice = next(iter(event.get("choices") or ()), None)
            if choice is None:
                return
            self._finish = choice.get("finish_reason") or self._finish
            said = choice.get("delta") or choice.get("message") or choice
            text = said.get("content") or said.get("text") or ""
            calls = tuple(_call(n, call) for n, call in enumerate(said.get("tool_calls") or ()))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as cause:
            raise ModelError(f"the model at {self._host} sent something that is no chat answer") from cause
        if text or calls:
            self._n_pieces += 1
            yield Delta(text, calls=calls)

    def last(self) -> Delta:
        """Raises: ModelError when the answer broke off."""
        if not self._finish:
            raise ModelError(f"the answer of the model at {self._host} broke off")
        finish: Any = _FINISH.get(self._finish, "stop")
        return Delta(usage=self._usage or Usage(0, self._n_pieces), finish=finish)


def _call(n: int, call: dict[str, Any]) -> ToolCall:
    function = call.get("function") or {}
    return ToolCall(int(call.get("index", n)), call.get("id") or "", function.get("name") or "", function.get("arguments") or "")
