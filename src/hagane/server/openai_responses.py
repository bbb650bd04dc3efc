"""A talk as a response: one object, or the events that lead to it. Source: OpenAI API reference, Responses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from hagane.core.types import ChatRequest, Delta, ToolCall, Usage
from hagane.project.talk import Talk

from .openai_chat import SKIP, dumps, new_id, problem_of
from .openai_responses_in import ResponsesBody


class Response:
    """What is known of one response so far."""

    def __init__(self, talk: Talk, body: ResponsesBody, request: ChatRequest) -> None:
        self._talk, self._body, self._request = talk, body, request
        self._id, self._created = new_id("resp_"), int(time.time())
        self.output: list[dict[str, Any]] = []
        self.last = Delta()

    def shown(self, status: str) -> dict[str, Any]:
        """The response object; `status` in_progress, or completed, which becomes incomplete where the answer was cut."""
        body, is_cut = self._body, self.last.finish == "length"
        done = status == "completed"
        usage = {"usage": _usage(self.last.usage or Usage())} if done else {}
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if done and not is_cut else None,
            "status": "incomplete" if done and is_cut else status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if done and is_cut else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": self._talk.model,
            "output": self.output,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": self._format()},
            "tool_choice": self._choice(),
            "tools": [
                {"type": "function", "name": t.name, "description": t.description, "parameters": dict(t.parameters), "strict": False}
                for t in self._request.tools
            ],
            "top_p": body.top_p,
            "truncation": "disabled",
            **usage,
        }

    def _format(self) -> dict[str, Any]:
        wanted = self._body.text.format if self._body.text else None
        if wanted is None or wanted.type != "json_schema":
            return {"type": wanted.type if wanted else "text"}
        return {"type": "json_schema", "name": wanted.name or "answer", "schema": wanted.schema_ or {}}

    def _choice(self) -> str | dict[str, Any]:
        choice = self._request.tool_choice
        return choice if choice in ("auto", "none", "required") else {"type": "function", "name": choice}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def response(talk: Talk, body: ResponsesBody, request: ChatRequest) -> Iterator[bytes]:
    """The whole response as one body; empty pieces on the way, so that a client that went away is noticed."""
    events = response_events(talk, body, request, torn_here=False)
    last: bytes = b""
    try:
        for event in events:
            last = event
            yield SKIP
    finally:
        events.close()
    data = last.partition(b"\ndata: ")[2]
    yield json.dumps(json.loads(data)["response"], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def response_events(
    talk: Talk, body: ResponsesBody, request: ChatRequest, *, folder: str = "", torn_here: bool = True
) -> Iterator[bytes]:
    """Server-sent events. What fails in the middle ends them with the event `error`, unless `torn_here` is false."""
    made = Response(talk, body, request)
    items = _Items(made, talk)
    deltas = talk.stream()
    try:
        for delta in deltas:
            if not items.n:
                yield items.event("response.created", response=made.shown("in_progress"))
                yield items.event("response.in_progress", response=made.shown("in_progress"))
            if delta.text:
                yield from items.text(delta.text)
            for call in delta.calls:
                yield from items.call(call)
            if delta.finish is not None:
                made.last = delta
        yield from items.close()
        is_cut = made.last.finish == "length"
        yield items.event("response.incomplete" if is_cut else "response.completed", response=made.shown("completed"))
    except Exception as error:
        if not items.n or not torn_here:
            raise
        said = problem_of(error, folder=folder)
        shown = {name: said["error"][name] for name in ("code", "message", "param")}
        yield items.event("error", **shown, **said)
    finally:
        deltas.close()


class _Items:
    """The output items as they open, grow and close. `n` events were made so far."""

    def __init__(self, made: Response, talk: Talk) -> None:
        self._made, self._talk = made, talk
        self._open: dict[str, Any] | None = None
        self._calls: dict[int, dict[str, Any]] = {}
        self._texts: list[str] = []
        self.n = 0

    def event(self, kind: str, **given: Any) -> bytes:
        data = {"type": kind, "sequence_number": self.n, **given}
        self.n += 1
        return f"event: {kind}\ndata: {dumps(data)}\n\n".encode("utf-8", "replace")

    def text(self, text: str) -> Iterator[bytes]:
        if self._open is None or self._open["type"] != "message":
            yield from self.close()
            self._texts = []
            yield self._begin({"id": new_id("msg_"), "type": "message", "status": "in_progress", "role": "assistant", "content": []})
            yield self._on("response.content_part.added", content_index=0, part=_text_part(""))
        self._texts.append(text)
        yield self._on("response.output_text.delta", content_index=0, delta=text, logprobs=[])

    def call(self, piece: ToolCall) -> Iterator[bytes]:
        item = self._calls.get(piece.n)
        if item is None:
            yield from self.close()
            item = {
                "id": new_id("fc_"), "type": "function_call", "status": "in_progress", "call_id": piece.id or new_id("call_"),
                "name": piece.name, "arguments": "",
            }  # fmt: skip
            self._calls[piece.n] = item
            yield self._begin(dict(item))
            self._open = item
        if piece.arguments:
            item["arguments"] += piece.arguments
            yield self._on("response.function_call_arguments.delta", delta=piece.arguments)

    def _begin(self, item: dict[str, Any]) -> bytes:
        self._open = item
        return self.event("response.output_item.added", output_index=len(self._made.output), item=dict(item))

    def _on(self, kind: str, **given: Any) -> bytes:
        assert self._open is not None
        return self.event(kind, item_id=self._open["id"], output_index=len(self._made.output), **given)

    def close(self) -> Iterator[bytes]:
        """The open item, if any, is complete. What belongs beside the answer stands in it as `hagane`."""
        item = self._open
        if item is None:
            return
        if item["type"] == "message":
            part = _text_part("".join(self._texts))
            yield self._on("response.output_text.done", content_index=0, text=part["text"], logprobs=[])
            yield self._on("response.content_part.done", content_index=0, part=part)
            item = {**item, "content": [part], "hagane": self._talk.shown}
        else:
            yield self._on("response.function_call_arguments.done", name=item["name"], arguments=item["arguments"])
            item = {**item, "hagane": {"label": self._talk.shown["label"]}}
        item["status"] = "incomplete" if self._made.last.finish == "length" else "completed"
        yield self.event("response.output_item.done", output_index=len(self._made.output), item=item)
        self._made.output.append(item)
        self._open = None


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
