"""How sure: high when a passage holds the question, low when its words are scattered, foreign or absent."""

from __future__ import annotations

from itertools import pairwise

import pytest
from answer_passages import CORPUS, LEAVE, TRAVEL, passage
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.core.types import Statistics
from hagane.index.words import Ngram
from hagane.rag.answer import AnswerConfig
from hagane.rag.answer_choose import weights
from hagane.rag.answer_confidence import confidence
from hagane.rag.answer_features import features, needs, rate
from hagane.rag.answer_support import asked, holds, holds_unit, kind_of, own_words, unit_of

RULES = [passage("出張旅費規程.md", *TRAVEL), passage("休暇規程.md", *LEAVE, score=0.8)]


def sure(question, analyzer, passages=RULES) -> float:
    return confidence(asked(question, analyzer, CORPUS), passages, analyzer=analyzer)


def test_questions_rank_by_how_much_of_them_the_documents_hold(analyzer):
    questions = [
        "国内出張の日当は一般社員で一日いくらですか？",
        "海外出張の日当は一日いくらですか？",
        "海外赴任の住宅手当は月いくらですか？",
        "火星支社の郵便番号は？",
    ]
    values = [sure(question, analyzer) for question in questions]
    assert all(one >= other for one, other in pairwise(values)), values
    assert values[0] > values[1] > values[2] + 0.1
    assert values[0] > 0.7
    assert values[-1] < AnswerConfig().threshold


def test_no_passages_and_nothing_in_common_are_zero(analyzer):
    assert sure("国内出張の日当は？", analyzer, []) == 0.0
    assert sure("靴のサイズ", analyzer) == 0.0
    assert features(asked("靴", analyzer, CORPUS), [], analyzer=analyzer) == {}


@settings(max_examples=60, deadline=None)
@given(
    question=st.text(alphabet="出張日当いくら何円のは?？国内有給休暇取得AB12 ", min_size=0, max_size=30),
    texts=st.lists(st.text(alphabet="出張の日当は2500円。国内有給\n休暇AB", min_size=0, max_size=60), max_size=4),
    n_chunks=st.integers(0, 5),
)
def test_it_is_always_a_probability(question, texts, n_chunks):
    analyzer = Ngram()
    passages = [passage(f"{n}.md", text) for n, text in enumerate(texts)]
    value = confidence(asked(question, analyzer, Statistics(n_chunks, {})), passages, analyzer=analyzer)
    assert 0.0 <= value <= 1.0


@pytest.mark.parametrize(
    ("question", "kind", "unit"),
    [
        ("日当はいくらですか", "amount", ""),
        ("設立は何年ですか", "date", "年"),
        ("なぜ停電するのですか", "reason", ""),
        ("担当者は誰？", "person", ""),
        ("どこで申請しますか", "place", ""),
        ("申請方法を教えて", "how", ""),
        ("領収書は必要ですか", "yesno", ""),
        ("定員は何人ですか", "number", "人"),
        ("何故ですか", "reason", ""),
        ("本社は何県にありますか", "", "県"),
    ],
)
def test_what_a_question_asks_for(question, kind, unit):
    found = kind_of(question)
    assert unit_of(question) == unit
    assert found == kind or kind == ""


def test_an_answer_has_what_is_asked_for():
    assert holds("amount", "一日２，５００円とする")
    assert not holds("amount", "部長が承認する")
    assert holds("", "何でも")
    assert holds_unit("年", "設立は1998年です", "設立は何年ですか")
    assert not holds_unit("年", "2026年の計画", "2026年の設立は何年ですか")


def test_question_words_say_nothing(analyzer):
    assert own_words("出張の日当はいくらですか、教えてください", analyzer) == own_words("出張 日当", analyzer)
    assert own_words("何ですか", analyzer), "a question of nothing else keeps what it has"


def test_words_of_questions_need_not_be_repeated_but_names_do(analyzer):
    assert rate("名前") < rate("早い") + 0.1 < 0.3
    assert rate("アトランタ") > rate("計画") > rate("作る")
    need = needs(asked("アトランタの計画の名前は何ですか", analyzer, CORPUS))
    assert need["アトランタ"] > need["計画"] > 5 * need["名前"]


def test_a_question_in_english_weighs_its_words_by_rarity_alone(analyzer):
    known = asked("daily allowance overseas", analyzer, CORPUS)
    assert needs(known) == dict(known.weights)


def test_a_missing_name_counts_more_than_a_missing_word_of_questions(analyzer):
    text = "京都支社の定員は30人とする。"
    named = features(
        asked("アトランタ支社の定員は何人ですか", analyzer, CORPUS), [passage("定員.md", text)], analyzer=analyzer
    )
    vague = features(
        asked("名前のある支社の定員は何人ですか", analyzer, CORPUS), [passage("定員.md", text)], analyzer=analyzer
    )
    assert named["missing_most"] > 5 * vague["missing_most"] > 0


def test_every_coefficient_has_its_feature(analyzer):
    found = features(asked("国内出張の日当はいくら", analyzer, CORPUS), RULES, analyzer=analyzer)
    for half in ("confidence", "meaning"):
        assert weights()[half].keys() - {"bias"} <= found.keys()
