"""What the OpenAI-compatible routes take, and what they make of it. Unknown parameters are refused by name."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hagane.core.errors import UsageError
from hagane.core.labels import PUBLIC
from hagane.core.types import ChatRequest, Message, Part, Tool

# Harmless: they change no answer here, or say what is so anyway. docs/guides/api.md lists them.
IGNORED = frozenset({
    "metadata", "prediction", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "safety_identifier",
    "service_tier", "store", "user", "verbosity",
})  # fmt: skip
_PICTURE = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,", re.ASCII)

ModelId = Annotated[str, Field(min_length=1, max_length=200, description="an id of GET /v1/models")]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class ParameterError(UsageError):
    """A parameter that is refused, by its name."""

    code = "parameter"

    def __init__(self, param: str, what: str, *, code: str = "unsupported_parameter", hint: str | None = None) -> None:
        super().__init__(f"{param}: {what}", hint=hint)
        self.param, self.code = param, code  # type: ignore[misc]


class Given(BaseModel):
    """A part of a request; what we do not know in it is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class HaganeIn(Given):
    """What an answer brought along, given back with it."""

    label: str | None = Field(None, max_length=400, description="the label that came with this message")


class UrlIn(Given):
    url: str = Field(description="data:image/png;base64,... (addresses are not fetched)")


class PartIn(Given):
    type: str
    text: str | None = None
    image_url: UrlIn | None = None


class FunctionCallIn(Given):
    name: str = Field(max_length=200)
    arguments: str


class CallIn(Given):
    id: str = Field(max_length=200)
    type: Literal["function"] = "function"
    function: FunctionCallIn


class MessageIn(Given):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[PartIn] | None = None
    tool_calls: list[CallIn] | None = None
    tool_call_id: str | None = Field(None, max_length=200)
    hagane: HaganeIn | None = Field(None, description="of an assistant's or a tool's message: what came with it")

    @property
    def label(self) -> str | None:
        return self.hagane.label if self.hagane else None

    def message(self, where: str) -> Message:
        """Raises: ParameterError for parts that nothing here reads."""
        parts = parts_of(self.content, where=f"{where}.content")
        if self.role == "tool":
            text = "".join(part.text for part in parts)
            return Message("tool", (Part("tool_result", text, id=self.tool_call_id or ""),))
        calls = [Part("tool_call", call.function.arguments, id=call.id, name=call.function.name) for call in self.tool_calls or ()]
        role: Any = "system" if self.role == "developer" else self.role
        return Message(role, (*parts, *calls))


def parts_of(content: str | list[PartIn] | None, *, where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Part("text", content)]
    return [_part(part, f"{where}.{n}") for n, part in enumerate(content)]


def _part(part: PartIn, where: str) -> Part:
    if part.type in ("text", "input_text", "output_text"):
        return Part("text", part.text or "")
    if part.type == "image_url" and part.image_url is not None:
        return picture(part.image_url.url, where=where)
    raise ParameterError(where, "only text and image_url are read", code="unsupported_value")


def picture(url: str, *, where: str) -> Part:
    """A picture that stands in the request. Raises: ParameterError for an address: nothing is fetched from here."""
    head = _PICTURE.match(url)
    if head is None:
        raise ParameterError(where, "a picture is taken as data only", code="unsupported_value", hint="data:image/png;base64,...")
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except binascii.Error as cause:
        raise ParameterError(where, "this is no base64", code="invalid_value") from cause
    return Part("image", data=data, media=head[1])


class FunctionIn(Given):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolIn(Given):
    type: Literal["function"]
    function: FunctionIn


class NameIn(Given):
    name: str = Field(max_length=200)


class ChoiceIn(Given):
    type: Literal["function"]
    function: NameIn


class SchemaIn(Given):
    name: str = Field("answer", max_length=200)
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class FormatIn(Given):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaIn | None = None


class StreamOptions(Given):
    include_usage: bool | None = None


class ChatBody(BaseModel):
    """POST /v1/chat/completions."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: ModelId
    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=2000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    tools: Annotated[list[ToolIn], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChoiceIn | None = None
    parallel_tool_calls: bool | None = None
    response_format: FormatIn | None = None
    n: int | None = Field(None, description="1")
    logprobs: bool | None = Field(None, description="false")

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def labels(self) -> list[str | None]:
        return [message.label for message in self.messages]

    def request(self) -> ChatRequest:
        """The request without its label. Raises: ParameterError."""
        if self.n not in (None, 1):
            raise ParameterError("n", "one answer at a time")
        if self.logprobs:
            raise ParameterError("logprobs", "not given here")
        refuse_unknown(self.model_extra or {}, IGNORED, {"modalities": ["text"], "logit_bias": {}, "top_logprobs": 0})
        tools = tools_of([tool.function for tool in self.tools or ()])
        return ChatRequest(
            tuple(message.message(f"messages.{n}") for n, message in enumerate(self.messages)),
            PUBLIC,
            max_tokens=self.max_completion_tokens or self.max_tokens or 0,
            temperature=self.temperature,
            seed=self.seed,
            stop=stops_of(self.stop),
            top_p=self.top_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            tools=tools,
            tool_choice=choice_of(self.tool_choice, tools),
            parallel_calls=self.parallel_tool_calls,
            schema=_schema_of(self.response_format),
        )


def refuse_unknown(extra: Mapping[str, Any], ignored: frozenset[str], neutral: Mapping[str, Any]) -> None:
    """Raises: ParameterError for the first parameter that is neither known, nor harmless, nor null or `neutral`."""
    for name, value in extra.items():
        if value is None or name in ignored or (name in neutral and value == neutral[name]):
            continue
        shown = name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,59}", name) else "a parameter"
        raise ParameterError(shown, "not taken here", hint="docs/guides/api.md lists what is")


def stops_of(stop: str | list[str] | None) -> tuple[str, ...]:
    return tuple(s for s in ([stop] if isinstance(stop, str) else stop or ()) if s)


def tools_of(functions: list[FunctionIn]) -> tuple[Tool, ...]:
    tools = tuple(Tool(f.name, f.description or "", finite(f.parameters or {}, "tools")) for f in functions)
    if len({tool.name for tool in tools}) < len(tools):
        raise ParameterError("tools", "a name stands twice", code="invalid_value")
    return tools


def choice_of(choice: str | ChoiceIn | None, tools: tuple[Tool, ...]) -> str:
    if isinstance(choice, ChoiceIn):
        if choice.function.name not in {tool.name for tool in tools}:
            raise ParameterError("tool_choice", "names none of the tools", code="invalid_value")
        return choice.function.name
    if choice == "required" and not tools:
        raise ParameterError("tool_choice", "there are no tools", code="invalid_value")
    return choice or "auto"


def finite(value: dict[str, Any], where: str) -> dict[str, Any]:
    """`value`, if it can be written as JSON again. Raises: ParameterError for NaN and the like."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as cause:
        raise ParameterError(where, "this is not JSON", code="invalid_value") from cause
    return value


def _schema_of(wanted: FormatIn | None) -> Mapping[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise ParameterError("response_format", "json_schema without a schema", code="invalid_value")
    return finite(wanted.json_schema.schema_, "response_format")
