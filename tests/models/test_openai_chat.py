"""The chat model over HTTP: what it sends, what it makes of odd answers, and that it stays on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from loopback_openai import Endpoint

from hagane.core.errors import ConfigError, ModelError, ModelRefusedError, RefusedError
from hagane.core.labels import Label
from hagane.core.types import ChatRequest, Delta, Message, Part, Tool, ToolCall, Usage
from hagane.models.openai_chat import OpenAIChat

ASKED = (Message.of("user", "年次有給休暇は何日ですか。"),)
WEATHER = Tool("天気", "ある町の天気", {"type": "object", "properties": {"町": {"type": "string"}}})


def request(**given: object) -> ChatRequest:
    return ChatRequest(ASKED, Label(), **given)  # type: ignore[arg-type]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def model(endpoint: Endpoint) -> OpenAIChat:
    return OpenAIChat(address=endpoint.address, model="模型")


@pytest.mark.parametrize(
    "address",
    ["https://api.example.com/v1", "http://10.0.0.1/v1", "http://0.0.0.0/v1", "http:///v1", "http://127.0.0.1.example.com/v1",
     "http://127.0.0.1@example.com/v1", "http://模型.example/v1"],
)  # fmt: skip
def test_address_elsewhere_is_refused_with_a_hint(address: str) -> None:
    with pytest.raises(RefusedError, match="not on this machine") as refused:
        OpenAIChat(address=address, model="模型")
    assert "localhost" in str(refused.value.hint)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/v1", "模型", "http://127.0.0.1:x/v1"])
def test_what_is_no_http_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        OpenAIChat(address=address, model="模型")


def test_only_what_was_asked_for_is_sent(endpoint: Endpoint, model: OpenAIChat) -> None:
    """A model's own defaults stay its own."""
    list(model.chat(request(max_tokens=0, temperature=None, seed=None)))
    messages = [{"role": "user", "content": "年次有給休暇は何日ですか。"}]
    assert endpoint.seen == [
        {"model": "模型", "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    ]


def test_the_key_goes_along_and_is_never_written_in_the_open(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", "hidden-key")
    list(OpenAIChat(address=endpoint.address, model="模型", key="env:MODEL_KEY").chat(request()))
    assert endpoint.headers[0]["Authorization"] == "Bearer hidden-key"
    with pytest.raises(ConfigError, match="env:NAME"):
        OpenAIChat(address=endpoint.address, model="模型", key="hidden-key")


def test_tools_calls_and_results_go_along(endpoint: Endpoint, model: OpenAIChat) -> None:
    call = Part("tool_call", '{"町":"奈良"}', id="call_1", name="天気")
    messages = (*ASKED, Message("assistant", (call,)), Message("tool", (Part("tool_result", "晴れ", id="call_1"),)))
    list(model.chat(ChatRequest(messages, Label(), tools=(WEATHER,), tool_choice="天気", parallel_calls=False)))
    sent = endpoint.seen[0]
    assert sent["tools"][0]["function"]["name"] == "天気"
    assert sent["tools"][0]["function"]["parameters"]["properties"] == {"町": {"type": "string"}}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "天気"}}
    assert sent["parallel_tool_calls"] is False
    assert sent["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"町":"奈良"}'
    assert sent["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "晴れ"}


def test_pictures_go_along_as_data_never_as_addresses(endpoint: Endpoint, model: OpenAIChat) -> None:
    parts = (Part("text", "これは何?"), Part("image", data=b"\x89PNG", media="image/png"))
    list(model.chat(ChatRequest((Message("user", parts),), Label())))
    assert endpoint.seen[0]["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw=="


def test_calls_come_back_in_pieces() -> None:
    class Caller:
        def chat(self, request: ChatRequest) -> Iterator[Delta]:
            yield Delta(calls=(ToolCall(0, "call_1", "天気"),))
            yield Delta(calls=(ToolCall(0, arguments='{"町":"奈良"}'),))
            yield Delta(usage=Usage(3, 2), finish="tool_calls")

    with Endpoint(Caller()) as endpoint:
        deltas = list(OpenAIChat(address=endpoint.address, model="模型").chat(request(tools=(WEATHER,))))
    assert [call for delta in deltas for call in delta.calls] == [
        ToolCall(0, "call_1", "天気"), ToolCall(0, arguments='{"町":"奈良"}')
    ]  # fmt: skip
    assert deltas[-1] == Delta(usage=Usage(3, 2), finish="tool_calls")


def test_an_endpoint_that_does_not_stream_is_understood(endpoint: Endpoint, model: OpenAIChat) -> None:
    message = {"role": "assistant", "content": "二十日です。"}
    whole = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}
    endpoint.says = (200, "application/json", json.dumps(whole).encode())
    assert list(model.chat(request())) == [Delta("二十日です。"), Delta(usage=Usage(5, 4), finish="stop")]


@pytest.mark.parametrize(
    ("status", "media", "body"),
    [
        (500, "application/json", b"{}"), (401, "text/html", "鍵".encode()), (301, "text/plain", b""), (307, "text/plain", b""),
        (200, "text/event-stream", 'data: {"choices":[{"delta":{"content":"途中"}}]}\n\n'.encode()),
        (200, "text/event-stream", b"data: [1]\n\n"), (200, "text/event-stream", b"data: {\n\n"),
        (200, "text/event-stream", 'data: {"error":{"message":"秘密"}}\n\n'.encode()), (200, "application/json", b"null"),
    ],
)  # fmt: skip
def test_an_odd_answer_is_a_model_error_without_its_text(
    endpoint: Endpoint, model: OpenAIChat, status: int, media: str, body: bytes
) -> None:
    """Broken off, redirected, refused, no JSON: said as an error that quotes nothing. No redirect is followed."""
    endpoint.says = (status, media, body)
    with pytest.raises(ModelError) as said:
        list(model.chat(request()))
    assert "秘密" not in str(said.value)
    assert len(endpoint.seen) == 1


def test_what_the_endpoint_calls_a_bad_request_is_one(endpoint: Endpoint, model: OpenAIChat) -> None:
    error = {"message": "your prompt 秘密 is too long", "code": "context_length_exceeded"}
    endpoint.says = (400, "application/json", json.dumps({"error": error}).encode())
    with pytest.raises(ModelRefusedError, match="400 context_length_exceeded") as said:
        list(model.chat(request()))
    assert "秘密" not in str(said.value)


def test_nobody_there_is_a_model_error() -> None:
    with Endpoint() as gone:
        address = gone.address
    with pytest.raises(ModelError, match="does not answer"):
        list(OpenAIChat(address=address, model="模型").chat(request()))


def test_closing_the_iterator_closes_the_connection() -> None:
    """The endpoint sees it, so that its model stops."""
    with Endpoint(slow_s=0.01) as endpoint:
        stream = OpenAIChat(address=endpoint.address, model="模型").chat(request())
        next(stream)
        stream.close()
        assert endpoint.closed.acquire(timeout=10)


def test_connections_are_kept_for_the_next_request(endpoint: Endpoint, model: OpenAIChat) -> None:
    for _ in range(3):
        list(model.chat(request()))
    pool = next(iter(model._pool.pools._container.values()))
    assert pool.num_connections == 1
