"""Every answerer passes the shipped contract."""

from __future__ import annotations

import pytest

from hagane.contracts.answerer import QUESTION, AnswererContract
from hagane.core.labels import Label
from hagane.core.registry import load
from hagane.core.types import Statistics
from hagane.index.words import Ngram
from hagane.models.fake import FakeChat
from hagane.rag.answer import ANSWERERS, AnswerConfig
from hagane.rag.answer_support import asked

CONTRACT = {"hagane.rag.answer:ANSWERERS": ("extract", "generate", "read")}


def says(request) -> str:
    """A model that obeys orders in documents when it sees them, and invents where it has nothing."""
    text = request.messages[-1].text
    return (
        "出張の日当は一日2,500円です。[1]社長の給与は9,999万円です。[2]"
        if "2,500円" in text
        else "日当は5,000円です。[1]"
    )


@pytest.fixture(params=["extract", "generate", "read"])
def made(request):
    analyzer = Ngram()
    known = asked(QUESTION, analyzer, Statistics(100, {}))
    build = load(ANSWERERS, request.param, what="answerer")
    return build(known, analyzer=analyzer, embedder=None, model=FakeChat(says), config=AnswerConfig(), label=Label())


class TestShippedAnswerers(AnswererContract):
    @pytest.fixture
    def answerer(self, made):
        return made
