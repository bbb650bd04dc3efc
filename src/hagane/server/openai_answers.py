"""The bodies that the OpenAI-compatible routes answer with, for the OpenAPI document; nothing is checked by them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    model_config = ConfigDict(extra="allow")


class ModelOut(Body):
    """One model. `hagane.kind` says what it is for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    hagane: dict[str, Any] = Field(description="kind: assistant, chat or embedding; title")


class ModelList(Body):
    object: Literal["list"] = "list"
    data: list[ModelOut]


class MessageOut(Body):
    role: Literal["assistant"]
    content: str | None
    hagane: dict[str, Any] = Field(description="label; of the assistant everything that `hagane ask --json` prints")


class ChoiceOut(Body):
    index: int
    message: MessageOut
    finish_reason: str


class UsageOut(Body):
    prompt_tokens: int
    total_tokens: int


class Completion(Body):
    """A chat completion; with `stream` a stream of chunks instead."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChoiceOut]
    usage: UsageOut


class VectorOut(Body):
    index: int
    object: Literal["embedding"]
    embedding: list[float] | str


class Vectors(Body):
    object: Literal["list"]
    model: str
    data: list[VectorOut]
    usage: UsageOut


class ResponseOut(Body):
    """A response; with `stream` a stream of events instead."""

    id: str
    object: Literal["response"]
    created_at: float
    status: str
    model: str
    output: list[dict[str, Any]]
    store: Literal[False]


def streamed(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """What a route says of its 200: `model`, or events."""
    return {200: {"model": model, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}
