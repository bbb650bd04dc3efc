"""What every ChatModel must do. Subclass and give the fixture `model`."""

from __future__ import annotations

import pytest

from ..core.labels import Label
from ..core.seams import ChatModel
from ..core.types import ChatRequest, Delta, Message

QUESTION = "年次有給休暇は何日ですか。"


def request(text: str = QUESTION, *, max_tokens: int = 12, **given: object) -> ChatRequest:
    """A request of one user message."""
    return ChatRequest((Message.of("user", text),), Label.parse("internal"), max_tokens=max_tokens, **given)  # type: ignore[arg-type]


def said(deltas: list[Delta]) -> str:
    """The text of a stream."""
    return "".join(delta.text for delta in deltas)


class ChatModelContract:
    @pytest.fixture
    def model(self) -> ChatModel:
        raise NotImplementedError("give the model under test")

    def test_it_has_a_name(self, model: ChatModel) -> None:
        assert model.name

    def test_the_last_delta_carries_usage_and_finish(self, model: ChatModel) -> None:
        deltas = list(model.chat(request()))
        assert deltas[-1].usage is not None
        assert deltas[-1].finish in ("stop", "length")
        assert all(delta.usage is None and delta.finish is None for delta in deltas[:-1])

    def test_usage_counts_what_went_in_and_came_out(self, model: ChatModel) -> None:
        """Twice the question costs more input; the output is within its limit."""
        short = list(model.chat(request()))[-1].usage
        long = list(model.chat(request(QUESTION * 4)))[-1].usage
        assert short is not None and long is not None
        assert 0 < short.input_tokens < long.input_tokens
        assert 0 <= short.output_tokens <= 12

    def test_the_limit_of_tokens_is_kept(self, model: ChatModel) -> None:
        last = list(model.chat(request(max_tokens=2)))[-1]
        assert last.usage is not None
        assert last.usage.output_tokens <= 2

    def test_the_same_request_gives_the_same_answer(self, model: ChatModel) -> None:
        """Temperature 0: nothing of the request before shows."""
        first = said(list(model.chat(request())))
        list(model.chat(request("別の質問を間に挟みます。")))
        assert said(list(model.chat(request()))) == first

    def test_a_stop_text_ends_the_answer_and_is_not_said(self, model: ChatModel) -> None:
        whole = said(list(model.chat(request())))
        assert whole, "the model under test must say something"
        stop = whole[len(whole) // 2]
        cut = said(list(model.chat(request(stop=(stop,)))))
        assert stop not in cut
        assert whole.startswith(cut)

    def test_closing_the_iterator_stops_the_model(self, model: ChatModel) -> None:
        """The next request is answered as if the first had never been."""
        expected = said(list(model.chat(request())))
        stream = model.chat(request("長い話をしてください。", max_tokens=400))
        next(stream)
        stream.close()
        assert said(list(model.chat(request()))) == expected

    def test_raw_text_is_taken_as_it_stands(self, model: ChatModel) -> None:
        last = list(model.chat(request(raw=True)))[-1]
        assert last.usage is not None
        assert last.usage.input_tokens > 0
