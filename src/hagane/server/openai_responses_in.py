"""What POST /v1/responses takes. Nothing is stored, so whatever refers to something stored is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hagane.core.labels import PUBLIC
from hagane.core.types import ChatRequest, Message, Part

from .openai_shapes import (
    IGNORED,
    ChoiceIn,
    FunctionIn,
    Given,
    HaganeIn,
    ModelId,
    NameIn,
    ParameterError,
    choice_of,
    finite,
    picture,
    refuse_unknown,
    tools_of,
)  # fmt: skip

_IGNORED = IGNORED | {"max_tool_calls", "prompt_cache_options", "reasoning", "stream_options", "truncation"}
_NEUTRAL = {"background": False, "top_logprobs": 0, "include": []}
_STORED = ("previous_response_id", "conversation", "prompt")


class PartItem(Given):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None


class Item(Given):
    """A message, a function's call or its result, as they come back from an answer; reasoning is left out."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[PartItem] | None = None
    call_id: str | None = Field(None, max_length=200)
    name: str | None = Field(None, max_length=200)
    arguments: str | None = None
    output: str | list[PartItem] | None = None
    hagane: HaganeIn | None = Field(None, description="what came with it, for its label")

    def message(self, where: str) -> Message | None:
        """Raises: ParameterError for items that nothing here reads."""
        if self.type == "message" and self.role is not None:
            role: Any = "system" if self.role == "developer" else self.role
            return Message(role, tuple(_parts(self.content, f"{where}.content")))
        if self.type == "function_call" and self.call_id and self.name:
            return Message("assistant", (Part("tool_call", self.arguments or "{}", id=self.call_id, name=self.name),))
        if self.type == "function_call_output" and self.call_id:
            text = "".join(part.text for part in _parts(self.output, f"{where}.output"))
            return Message("tool", (Part("tool_result", text, id=self.call_id),))
        if self.type == "reasoning":
            return None
        hint = "nothing is stored: send the item itself" if self.type == "item_reference" else None
        raise ParameterError(where, "not an item that is read here", code="unsupported_value", hint=hint)


def _parts(content: str | list[PartItem] | None, where: str) -> list[Part]:
    if isinstance(content, str):
        return [Part("text", content)]
    return [_part(part, f"{where}.{n}") for n, part in enumerate(content or ())]


def _part(part: PartItem, where: str) -> Part:
    if part.type in ("input_text", "output_text", "text", "refusal"):
        return Part("text", part.text or part.refusal or "")
    if part.type == "input_image" and part.image_url:
        return picture(part.image_url, where=where)
    raise ParameterError(where, "only text and pictures are read", code="unsupported_value")


class FunctionTool(FunctionIn):
    type: Literal["function"]


class FunctionChoice(Given):
    type: Literal["function"]
    name: str = Field(max_length=200)


class FormatItem(Given):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class TextIn(Given):
    format: FormatItem | None = None


class ResponsesBody(BaseModel):
    """POST /v1/responses."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: ModelId
    input: str | Annotated[list[Item], Field(min_length=1, max_length=2000)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    text: TextIn | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = Field(None, description="given back, not kept")

    def talk(self) -> tuple[ChatRequest, list[str | None]]:
        """The request without its label, and what the client says of each message's label. Raises: ParameterError."""
        extra = self.model_extra or {}
        for name in _STORED:
            if extra.get(name) is not None:
                raise ParameterError(name, "nothing is stored here", hint="send the whole conversation in `input`")
        refuse_unknown(extra, _IGNORED, _neutral(extra))
        messages, labels = self._messages()
        tools = tools_of(list(self.tools or ()))
        choice = self.tool_choice
        if isinstance(choice, FunctionChoice):
            choice = ChoiceIn(type="function", function=NameIn(name=choice.name))
        request = ChatRequest(
            tuple(messages),
            PUBLIC,
            max_tokens=self.max_output_tokens or 0,
            temperature=self.temperature,
            seed=None,
            top_p=self.top_p,
            tools=tools,
            tool_choice=choice_of(choice, tools),
            parallel_calls=self.parallel_tool_calls,
            schema=self._schema(),
        )
        return request, labels

    def _messages(self) -> tuple[list[Message], list[str | None]]:
        messages: list[Message] = [Message.of("system", self.instructions)] if self.instructions else []
        labels: list[str | None] = [None] * len(messages)
        items = [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        for n, item in enumerate(items):
            message = item.message(f"input.{n}")
            if message is not None:
                messages.append(message)
                labels.append(item.hagane.label if item.hagane else None)
        if not messages:
            raise ParameterError("input", "there is nothing in it to answer", code="invalid_value")
        return messages, labels

    def _schema(self) -> dict[str, Any] | None:
        wanted = self.text.format if self.text else None
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return {"type": "object"}
        if wanted.schema_ is None:
            raise ParameterError("text.format", "json_schema without a schema", code="invalid_value")
        return finite(wanted.schema_, "text.format")


def _neutral(extra: dict[str, Any]) -> dict[str, Any]:
    """`include` may ask for encrypted reasoning: there is none, so nothing is missing."""
    include = extra.get("include")
    return _NEUTRAL | ({"include": include} if include == ["reasoning.encrypted_content"] else {})
