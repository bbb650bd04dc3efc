"""The stock `openai` SDK against a running server: chat, stream, tools, responses, embeddings, models, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from loopback_openai import Endpoint
from server import models_behind
from server.models_behind import TOOL, Clerk, with_models
from server.site import Site, copied


@pytest.fixture(scope="module")
def served(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with models_behind.served(copied(template, tmp_path_factory.mktemp("sdk") / "company")) as served:
        yield served


def sdk(served: Any, role: str = "reader", clearance: str = "internal") -> openai.OpenAI:
    return openai.OpenAI(base_url=served.url + "/v1", api_key=served.site.token(role, clearance), max_retries=0)


@pytest.fixture(scope="module")
def client(served: Any) -> openai.OpenAI:
    return sdk(served)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


class TestModels:
    def test_the_assistant_the_models_and_the_embedder_are_listed(self, client: openai.OpenAI) -> None:
        kinds = {model.id: model.hagane["kind"] for model in client.models.list()}
        assert kinds["hagane"] == "assistant"
        assert kinds["clerk"] == "chat"
        assert kinds["fake"] == "embedding"

    def test_one_model_is_found_by_its_id(self, client: openai.OpenAI) -> None:
        assert client.models.retrieve("clerk").id == "clerk"
        with pytest.raises(openai.NotFoundError) as said:
            client.models.retrieve("無い模型")
        assert said.value.code == "model_not_found"


class TestAssistant:
    def test_it_answers_with_citations_that_plain_clients_ignore(self, client: openai.OpenAI) -> None:
        done = client.chat.completions.create(model="hagane", messages=[user("領収書を紛失したときは何を提出する?")])
        message = done.choices[0].message
        assert "支払証明書" in message.content
        assert done.choices[0].finish_reason == "stop"
        shown = message.hagane
        assert shown["citations"][0]["path"] == "rules/経費.txt"
        assert shown["label"] == "internal"
        assert set(shown) >= {"answer", "abstained", "why", "confidence", "nearest", "index", "usage", "timings_s"}

    def test_a_stream_says_the_same_and_ends_with_the_field(self, client: openai.OpenAI) -> None:
        chunks = list(client.chat.completions.create(
            model="hagane", messages=[user("領収書を紛失したときは何を提出する?")], stream=True, stream_options={"include_usage": True}
        ))  # fmt: skip
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert "支払証明書" in text
        last = next(c for c in chunks if c.choices and c.choices[0].finish_reason)
        assert last.choices[0].delta.hagane["answer"] == text
        assert chunks[-1].choices == []
        assert chunks[-1].usage.total_tokens == 0  # extract reads no model

    def test_an_abstention_is_said_in_words(self, client: openai.OpenAI) -> None:
        done = client.chat.completions.create(model="hagane", messages=[user("社長の靴のサイズは?")])
        assert "見当たりません" in done.choices[0].message.content
        assert done.choices[0].message.hagane["abstained"] is True

    def test_what_the_caller_may_not_see_is_not_answered(self, served: Any) -> None:
        asked = [user("等級4の月額基本給はいくら?")]
        low = sdk(served).chat.completions.create(model="hagane", messages=asked)
        high = sdk(served, "reader", "confidential:hr").chat.completions.create(model="hagane", messages=asked)
        assert "38万円" not in json.dumps(low.model_dump(), ensure_ascii=False)
        assert "38万円" in high.choices[0].message.content
        assert high.choices[0].message.hagane["label"] == "confidential:hr"

    def test_earlier_questions_complete_a_short_one(self, client: openai.OpenAI) -> None:
        before = user("領収書を紛失したときは何を提出する?")
        first = client.chat.completions.create(model="hagane", messages=[before])
        told = {"role": "assistant", "content": first.choices[0].message.content, "hagane": first.choices[0].message.hagane}
        alone = client.chat.completions.create(model="hagane", messages=[user("それは誰が?")])
        then = client.chat.completions.create(model="hagane", messages=[before, told, user("それは誰が?")])
        assert "支払証明書" not in alone.choices[0].message.content
        assert "支払証明書" in then.choices[0].message.content
        assert then.choices[0].message.hagane["label"] == "internal"

    def test_an_answer_that_comes_back_without_its_label_counts_as_all_that_the_caller_may_see(self, served: Any) -> None:
        """Nobody knows what went into it: the answer and the record carry the caller's whole clearance."""
        high = sdk(served, "reader", "restricted:*")
        told = {"role": "assistant", "content": "はい。"}
        done = high.chat.completions.create(model="hagane", messages=[user("在宅勤務は?"), told, user("通信費として月額いくら支給する?")])
        assert done.choices[0].message.hagane["label"] == "restricted:board+hr"
        assert served.site.records("ask")[-1]["label"] == "restricted:board+hr"

    def test_a_label_above_the_clearance_is_refused(self, client: openai.OpenAI) -> None:
        told = {"role": "assistant", "content": "38万円", "hagane": {"label": "confidential:hr"}}
        for model in ("hagane", "clerk"):
            with pytest.raises(openai.PermissionDeniedError):
                client.chat.completions.create(model=model, messages=[user("給与は?"), told, user("では5は?")])

    def test_a_million_characters_are_too_many(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.APIStatusError) as said:
            client.chat.completions.create(model="hagane", messages=[user("有給は?" * 250_000)])
        assert said.value.status_code == 413

    @pytest.mark.parametrize("text", ["有給\0は?", "", " ", "\x1b[2J"])
    def test_what_is_no_question_is_refused(self, client: openai.OpenAI, text: str) -> None:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="hagane", messages=[user(text)])

    def test_tools_are_refused(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="tools"):
            client.chat.completions.create(model="hagane", messages=[user("有給は?")], tools=[TOOL])


class TestChat:
    def test_another_model_answers_and_says_its_label(self, client: openai.OpenAI, served: Any) -> None:
        done = client.chat.completions.create(
            model="clerk", messages=[{"role": "system", "content": "丁寧に。"}, user("こんにちは")], temperature=0.5, seed=3, max_tokens=50,
            stop=["終"], user="u", store=True, logprobs=False, n=1,
        )  # fmt: skip
        assert done.choices[0].message.content == "承りました：こんにちは"
        assert done.choices[0].message.hagane == {"label": "internal"}
        assert done.model == "clerk"
        assert done.usage.total_tokens > 0
        sent = served.clerk.seen[-1]
        assert {"temperature": 0.5, "seed": 3, "max_tokens": 50, "stop": ["終"]}.items() <= sent.items()
        assert sent["messages"][0] == {"role": "system", "content": "丁寧に。"}

    def test_a_stream_comes_in_pieces(self, client: openai.OpenAI) -> None:
        chunks = list(client.chat.completions.create(model="clerk", messages=[user("こんにちは")], stream=True))
        texts = [c.choices[0].delta.content for c in chunks if c.choices[0].delta.content]
        assert "".join(texts) == "承りました：こんにちは"
        assert len(texts) > 3
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert chunks[-1].choices[0].delta.hagane == {"label": "internal"}

    def test_tools_pass_through_both_ways(self, client: openai.OpenAI, served: Any) -> None:
        choice: Any = {"type": "function", "function": {"name": "weather"}}
        done = client.chat.completions.create(model="caller", messages=[user("奈良は晴れ?")], tools=[TOOL], tool_choice=choice)
        call = done.choices[0].message.tool_calls[0]
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"町": "奈良"})
        assert done.choices[0].finish_reason == "tool_calls"
        assert done.choices[0].message.content is None
        assert served.caller.seen[-1]["tools"] == [TOOL]
        told = {"role": "tool", "tool_call_id": call.id, "content": "晴れ", "hagane": {"label": "internal"}}
        back = [user("奈良は晴れ?"), done.choices[0].message.model_dump(exclude_none=True), told]
        client.chat.completions.create(model="clerk", messages=back, tools=[TOOL])
        assert served.clerk.seen[-1]["messages"][1]["tool_calls"][0]["id"] == "call_1"
        assert served.clerk.seen[-1]["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "晴れ"}

    def test_streamed_tool_calls_are_put_together_by_the_sdk(self, client: openai.OpenAI) -> None:
        with client.chat.completions.stream(model="caller", messages=[user("奈良は晴れ?")], tools=[TOOL]) as stream:
            done = stream.get_final_completion()
        assert done.choices[0].message.tool_calls[0].function.arguments == '{"町":"奈良"}'

    def test_a_schema_passes_through(self, client: openai.OpenAI, served: Any) -> None:
        shape: Any = {"type": "json_schema", "json_schema": {"name": "日", "schema": {"type": "object"}}}
        client.chat.completions.create(model="clerk", messages=[user("何日?")], response_format=shape)
        assert served.clerk.seen[-1]["response_format"]["json_schema"]["schema"] == {"type": "object"}

    def test_the_record_stands_before_the_answer_and_the_cost_behind_it(self, client: openai.OpenAI, served: Any) -> None:
        client.chat.completions.create(model="clerk", messages=[user("記録される問い")])
        asked, cost = served.site.records()[-2:]
        assert (asked["act"], asked["model"], asked["label"]) == ("chat", "clerk", "internal")
        assert (cost["act"], cost["finish"]) == ("chat.usage", "stop")
        assert cost["output_tokens"] > 0
        assert "問い" not in json.dumps([asked, cost], ensure_ascii=False)

    def test_a_client_that_goes_away_stops_the_model(self, client: openai.OpenAI, served: Any) -> None:
        """Within a piece; and what it cost so far is recorded."""
        stream = client.chat.completions.create(model="slow", messages=[user("話して")], stream=True)
        next(iter(stream))
        stream.close()
        assert served.slow.closed.acquire(timeout=20)
        while not (costs := [r for r in served.site.records("chat.usage") if r["model"] == "slow"]):
            pass
        assert costs[-1]["finish"] == "aborted"

    def test_no_answer_without_a_record(self, template: Path, tmp_path: Path) -> None:
        """The record cannot be written: nothing of the model's answer leaves."""
        with Endpoint(Clerk()) as clerk:
            site = Site(with_models(copied(template, tmp_path / "company"), clerk=clerk.address).path)
            program = site.program("reader")
            log = tmp_path / "company/.hagane/audit/log.jsonl"
            log.write_bytes(log.read_bytes()[:-10])
            said = program.post("/v1/chat/completions", json={"model": "clerk", "messages": [user("極秘の答え")]})
            site.close()
        assert said.status_code == 500
        assert said.json()["error"]["code"] == "audit"
        assert "承りました" not in said.text


class TestResponses:
    def test_the_assistant_answers_and_nothing_is_stored(self, client: openai.OpenAI) -> None:
        made = client.responses.create(model="hagane", input="領収書を紛失したときは何を提出する?", metadata={"用": "検査"})
        assert "支払証明書" in made.output_text
        assert made.output[0].hagane["citations"][0]["path"] == "rules/経費.txt"
        assert (made.status, made.store, made.metadata) == ("completed", False, {"用": "検査"})
        with pytest.raises(openai.BadRequestError, match="stored") as said:
            client.responses.create(model="hagane", input="では?", previous_response_id=made.id)
        assert said.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)

    def test_a_stream_comes_in_events(self, client: openai.OpenAI) -> None:
        events = list(client.responses.create(model="clerk", instructions="丁寧に。", input="こんにちは", stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        kinds = [event.type for event in events]
        assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
        assert kinds[-4:] == [
            "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"
        ]  # fmt: skip
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "承りました：こんにちは"
        assert events[-1].response.output_text == "承りました：こんにちは"
        assert events[-1].response.usage.total_tokens > 0

    def test_tools_pass_through_both_ways(self, client: openai.OpenAI, served: Any) -> None:
        """What came out goes back in as it is, and its label with it."""
        tool: Any = {"type": "function", **TOOL["function"], "strict": False}
        asked: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "奈良は晴れ?"}]}]
        made = client.responses.create(model="caller", input=asked, tools=[tool], tool_choice={"type": "function", "name": "weather"})
        call = made.output[0]
        assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"町":"奈良"}')
        told = {"type": "function_call_output", "call_id": call.call_id, "output": "晴れ", "hagane": {"label": "internal"}}
        back = client.responses.create(model="clerk", input=[*asked, *made.output, told], tools=[tool])
        sent = served.clerk.seen[-1]["messages"]
        assert sent[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"町":"奈良"}'}
        assert sent[2] == {"role": "tool", "tool_call_id": call.call_id, "content": "晴れ"}
        assert back.output[0].hagane == {"label": "internal"}

    def test_streamed_calls_come_in_events(self, client: openai.OpenAI) -> None:
        tool: Any = {"type": "function", **TOOL["function"], "strict": False}
        events = list(client.responses.create(model="caller", input="奈良は晴れ?", tools=[tool], stream=True))
        pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
        assert pieces == ['{"町":', '"奈良"}']
        assert events[-1].response.output[0].arguments == '{"町":"奈良"}'

    def test_an_answer_that_is_cut_says_so(self, client: openai.OpenAI) -> None:
        made = client.responses.create(model="clerk", input="こんにちは", max_output_tokens=3)
        assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")

    @pytest.mark.parametrize(
        "given",
        [{"background": True}, {"conversation": "c"}, {"prompt": {"id": "p"}}, {"include": ["file_search_call.results"]},
         {"input": [{"type": "item_reference", "id": "x"}]}, {"tools": [{"type": "web_search"}]}, {"input": []}],
    )  # fmt: skip
    def test_what_is_not_taken_is_refused(self, client: openai.OpenAI, given: dict[str, Any]) -> None:
        with pytest.raises(openai.BadRequestError):
            client.responses.create(**({"model": "clerk", "input": "こんにちは"} | given))

    def test_a_failure_in_the_middle_is_an_event(self, client: openai.OpenAI, served: Any) -> None:
        """The same for chat: the SDK raises it."""
        half = 'data: {"choices":[{"delta":{"content":"途中"}}]}\n\n'.encode()
        served.slow.says = (200, "text/event-stream", half)
        try:
            for stream in (
                client.responses.create(model="slow", input="こんにちは", stream=True),
                client.chat.completions.create(model="slow", messages=[user("こんにちは")], stream=True),
            ):
                with pytest.raises(openai.APIError, match="broke off"):
                    list(stream)
        finally:
            served.slow.says = None


class TestErrors:
    def test_no_token(self, served: Any) -> None:
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=served.url + "/v1", api_key="nobody", max_retries=0).models.list()

    def test_unknown_model(self, client: openai.OpenAI) -> None:
        for name in ("gpt-無い", "/etc/passwd", "../x.gguf"):
            with pytest.raises(openai.NotFoundError) as said:
                client.chat.completions.create(model=name, messages=[user("こんにちは")])
            assert (said.value.code, said.value.param) == ("model_not_found", "model")
            assert said.value.body["hint"]

    @pytest.mark.parametrize(
        "given",
        [{"n": 2}, {"logprobs": True}, {"top_logprobs": 3}, {"audio": {"voice": "a", "format": "wav"}}, {"logit_bias": {"1": 5}},
         {"web_search_options": {}}, {"functions": [{"name": "f"}]}, {"modalities": ["audio"]}, {"新しい": 1}],
    )  # fmt: skip
    def test_unsupported_parameters_are_refused_by_name(self, client: openai.OpenAI, given: dict[str, Any]) -> None:
        with pytest.raises(openai.BadRequestError) as said:
            client.chat.completions.create(model="clerk", messages=[user("こんにちは")], extra_body=given)
        assert said.value.code == "unsupported_parameter"
        name = next(iter(given))
        assert said.value.param == (name if name.isascii() else "a parameter")

    def test_a_body_that_is_too_large(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.APIStatusError) as said:
            client.chat.completions.create(model="clerk", messages=[user("あ" * 1_000_000)])
        assert said.value.status_code == 413

    def test_pictures_by_address_are_not_fetched(self, client: openai.OpenAI) -> None:
        content: Any = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/絵.png"}}]
        with pytest.raises(openai.BadRequestError, match="data"):
            client.chat.completions.create(model="clerk", messages=[{"role": "user", "content": content}])

    def test_a_model_that_is_down_is_a_502(self, template: Path, tmp_path: Path) -> None:
        with Endpoint() as gone:
            address = gone.address
        site = Site(with_models(copied(template, tmp_path / "company"), gone=address).path)
        said = site.program("reader").post("/v1/chat/completions", json={"model": "gone", "messages": [user("居ますか")]})
        site.close()
        assert said.status_code == 502
        assert said.json()["error"]["type"] == "server_error"


class TestEmbeddings:
    def test_the_sdk_gets_vectors(self, client: openai.OpenAI) -> None:
        """It asks for base64 unless told otherwise."""
        both = [client.embeddings.create(model="fake", input=["有給休暇", "経費"], **how) for how in ({}, {"encoding_format": "float"})]
        first, second = ([row.embedding for row in made.data] for made in both)
        for one, other in zip(first, second, strict=True):
            assert one == pytest.approx(other)
        assert len(first[0]) == 64
        assert sum(v * v for v in first[0]) == pytest.approx(1.0, abs=1e-5)

    def test_dimensions_are_checked(self, client: openai.OpenAI) -> None:
        assert len(client.embeddings.create(model="fake", input="経費", dimensions=64).data[0].embedding) == 64
        with pytest.raises(openai.BadRequestError) as said:
            client.embeddings.create(model="fake", input="経費", dimensions=32)
        assert said.value.param == "dimensions"

    def test_only_the_embedder_makes_vectors(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="clerk", input="経費")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="text-embedding-3-small", input="経費")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="fake", messages=[user("こんにちは")])
