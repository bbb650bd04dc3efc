"""Our bodies and events against the schemas of OpenAI's own description of its API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from server import models_behind
from server.models_behind import TOOL
from server.site import copied

Check = Callable[[str, Any], None]
FUNCTION = {"type": "function", **TOOL["function"], "strict": False}
QUESTION = "領収書を紛失したときは何を提出する?"


def with_null(node: Any) -> Any:
    """`nullable: true`, which the description still writes in places, as JSON Schema has it."""
    if isinstance(node, list):
        return [with_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: with_null(value) for key, value in node.items()}
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") is True else made


@pytest.fixture(scope="module")
def check(shared: Path) -> Check:
    tree = with_null(json.loads((shared / "oracles/openai/openapi.json").read_text(encoding="utf-8")))
    schemas = {"schemas": tree["components"]["schemas"]}

    def check(name: str, body: Any) -> None:
        jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": schemas}).validate(body)

    return check


@pytest.fixture(scope="module")
def served(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with models_behind.served(copied(template, tmp_path_factory.mktemp("schemas") / "company")) as served:
        served.key = served.site.token("reader")
        yield served


def ask(served: Any, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Authorization": f"Bearer {served.key}"}
    if body is None:
        return requests.get(served.url + path, headers=headers, timeout=60).json()
    answer = requests.post(served.url + path, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        return answer.json()
    data = [line[6:] for line in answer.content.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


CHATS = [
    {"model": "hagane", "messages": [{"role": "user", "content": QUESTION}]},
    {"model": "clerk", "messages": [{"role": "user", "content": "こんにちは"}]},
    {"model": "caller", "messages": [{"role": "user", "content": "奈良は?"}], "tools": [TOOL]},
]


@pytest.mark.long
@pytest.mark.parametrize("body", CHATS, ids=lambda body: body["model"])
class TestBodies:
    def test_a_completion(self, served: Any, check: Check, body: dict[str, Any]) -> None:
        check("CreateChatCompletionResponse", ask(served, "/v1/chat/completions", body))

    def test_its_chunks(self, served: Any, check: Check, body: dict[str, Any]) -> None:
        chunks = ask(served, "/v1/chat/completions", body | {"stream": True, "stream_options": {"include_usage": True}})
        assert len(chunks) > 3
        for chunk in chunks:
            check("CreateChatCompletionStreamResponse", chunk)

    def test_a_response(self, served: Any, check: Check, body: dict[str, Any]) -> None:
        check("Response", ask(served, "/v1/responses", responses_of(body)))

    def test_its_events(self, served: Any, check: Check, body: dict[str, Any]) -> None:
        events = ask(served, "/v1/responses", responses_of(body) | {"stream": True})
        assert len(events) > 6
        for event in events:
            check("ResponseStreamEvent", event)


def responses_of(body: dict[str, Any]) -> dict[str, Any]:
    tools = {"tools": [FUNCTION]} if "tools" in body else {}
    return {"model": body["model"], "input": body["messages"], "temperature": 1.0, "top_p": 1.0, **tools}


@pytest.mark.long
def test_models_and_vectors(served: Any, check: Check) -> None:
    check("ListModelsResponse", ask(served, "/v1/models"))
    check("Model", ask(served, "/v1/models/hagane"))
    check("CreateEmbeddingResponse", ask(served, "/v1/embeddings", {"model": "fake", "input": ["経費"], "encoding_format": "float"}))


@pytest.mark.long
def test_the_check_can_fail(served: Any, check: Check) -> None:
    body = ask(served, "/v1/chat/completions", CHATS[1])
    del body["choices"][0]["finish_reason"]
    with pytest.raises(jsonschema.ValidationError):
        check("CreateChatCompletionResponse", body)
