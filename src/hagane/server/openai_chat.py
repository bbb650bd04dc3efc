"""A talk as chat completions: one object, or a stream of chunks. Written by hand: a chunk costs a few microseconds."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from hagane.core.errors import HaganeError
from hagane.core.types import Delta, ToolCall, Usage
from hagane.project.talk import Talk

from .errors import mistake, of_ours

DONE = b"data: [DONE]\n\n"
SKIP = b""  # a piece of which the client sees nothing yet


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def new_id(kind: str) -> str:
    """Not guessable, and nothing can be fetched by it: nothing is stored."""
    return f"{kind}{secrets.token_hex(12)}"


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


class Calls:
    """Pieces of tool calls, put together."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCall] = {}

    def take(self, pieces: tuple[ToolCall, ...]) -> None:
        for piece in pieces:
            so_far = self._calls.get(piece.n, ToolCall(piece.n))
            self._calls[piece.n] = ToolCall(
                piece.n, so_far.id or piece.id, so_far.name or piece.name, so_far.arguments + piece.arguments
            )

    def all(self) -> list[ToolCall]:
        return [self._calls[n] for n in sorted(self._calls)]


def completion(talk: Talk) -> Iterator[bytes]:
    """The whole answer as one body; empty pieces on the way, so that a client that went away is noticed."""
    texts: list[str] = []
    calls = Calls()
    last = Delta()
    deltas = talk.stream()
    try:
        for delta in deltas:
            texts.append(delta.text)
            calls.take(delta.calls)
            last = delta if delta.finish else last
            yield SKIP
    finally:
        deltas.close()
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None, "refusal": None}
    if called := calls.all():
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in called
        ]
    else:
        message["content"] = "".join(texts)
    message["hagane"] = talk.shown
    body = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": talk.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": last.finish}],
        "usage": usage_of(last.usage or Usage()),
    }
    yield dumps(body).encode("utf-8", "replace")


def chunks(talk: Talk, *, with_usage: bool) -> Iterator[bytes]:
    """Server-sent events: a chunk per piece; what belongs beside the answer stands in `hagane` of the last delta."""
    head = (
        f'data: {{"id":"{new_id("chatcmpl-")}","object":"chat.completion.chunk","created":{int(time.time())},'
        f'"model":{dumps(talk.model)},'
    )
    usage = '"usage":null,' if with_usage else ""
    before = f'{head}{usage}"choices":[{{"index":0,"delta":'
    after = ',"logprobs":null,"finish_reason":null}]}\n\n'
    begun = False
    deltas = talk.stream()
    try:
        for delta in deltas:
            if not begun:
                begun = True
                yield f'{before}{{"role":"assistant","content":"","refusal":null}}{after}'.encode("utf-8", "replace")
            if delta.text:
                yield f'{before}{{"content":{json.dumps(delta.text, ensure_ascii=False)}}}{after}'.encode("utf-8", "replace")
            if delta.calls:
                yield f'{before}{{"tool_calls":{dumps([_call(call) for call in delta.calls])}}}{after}'.encode("utf-8", "replace")
            if delta.finish is not None:
                end = f',"logprobs":null,"finish_reason":{json.dumps(delta.finish)}}}]}}\n\n'
                yield f'{before}{{"hagane":{dumps(talk.shown)}}}{end}'.encode()
                if with_usage:
                    yield f'{head}"choices":[],"usage":{dumps(usage_of(delta.usage or Usage()))}}}\n\n'.encode()
    finally:
        deltas.close()
    yield DONE


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"arguments": call.arguments} | ({"name": call.name} if call.name else {})
    named = {"id": call.id, "type": "function"} if call.id else {}
    return {"index": call.n, **named, "function": function}


def problem_of(error: BaseException, *, folder: str) -> dict[str, Any]:
    """The body of an error that comes in the middle of an answer."""
    problem = of_ours(error, folder=folder) if isinstance(error, HaganeError) else mistake(error)
    return problem.body


def torn(error: BaseException, *, folder: str) -> bytes:
    """The end of a stream that failed in the middle: an event with the error, as clients know it."""
    return event(problem_of(error, folder=folder))


def event(body: dict[str, Any]) -> bytes:
    return f"data: {dumps(body)}\n\n".encode("utf-8", "replace")
