"""A ChatRequest as the body of an OpenAI-compatible request. Only what was asked for is sent."""

from __future__ import annotations

import base64
from typing import Any

from ..core.errors import UsageError
from ..core.types import ChatRequest, Message, Part, Tool


def chat_body(request: ChatRequest, model: str) -> dict[str, Any]:
    """The body of POST /chat/completions. Raises: UsageError for parts that the wire does not know."""
    body: dict[str, Any] = {"model": model, "messages": [_message(message) for message in _joined(request.messages)]}
    body |= _common(request)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        choice = request.tool_choice
        is_word = choice in ("auto", "none", "required")
        body["tool_choice"] = choice if is_word else {"type": "function", "function": {"name": choice}}
        if request.parallel_calls is not None:
            body["parallel_tool_calls"] = request.parallel_calls
    if request.schema is not None:
        shape = {"name": "answer", "schema": dict(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    return body


def raw_body(request: ChatRequest, model: str) -> dict[str, Any]:
    """The body of POST /completions: the last message's text, without a chat template."""
    return {"model": model, "prompt": request.messages[-1].text, **_common(request)}


def _common(request: ChatRequest) -> dict[str, Any]:
    if request.grammar is not None:
        raise UsageError("grammars are for models that run in this project", hint="give a JSON Schema")
    given = {
        "max_tokens": request.max_tokens or None,
        "temperature": request.temperature,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "top_p": request.top_p,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return body | {"stream": True, "stream_options": {"include_usage": True}}


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": {name: value for name, value in function.items() if value}}


def _joined(messages: tuple[Message, ...]) -> list[Message]:
    """The calls of one turn in one message: the wire wants them together, with the text in front of them."""
    joined: list[Message] = []
    for message in messages:
        is_calls = bool(message.parts) and all(part.kind == "tool_call" for part in message.parts)
        if is_calls and joined and joined[-1].role == "assistant":
            joined[-1] = Message("assistant", joined[-1].parts + message.parts)
        else:
            joined.append(message)
    return joined


def _message(message: Message) -> dict[str, Any]:
    calls = [_call(part) for part in message.parts if part.kind == "tool_call"]
    result = next((part for part in message.parts if part.kind == "tool_result"), None)
    if result is not None:
        return {"role": "tool", "tool_call_id": result.id, "content": result.text}
    shown = [part for part in message.parts if part.kind != "tool_call"]
    content: Any = message.text
    if any(part.kind != "text" for part in shown):
        content = [_shown(part) for part in shown]
    body: dict[str, Any] = {"role": message.role, "content": content or ("" if not calls else None)}
    return body | ({"tool_calls": calls} if calls else {})


def _call(part: Part) -> dict[str, Any]:
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.text}}


def _shown(part: Part) -> dict[str, Any]:
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    if part.kind != "image":
        raise UsageError(f"the chat wire carries no {part.kind}")
    data = base64.b64encode(part.data).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{part.media};base64,{data}"}}
