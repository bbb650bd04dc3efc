"""Follow-up questions stand alone after rewriting; others stay as they are; the history's label stays with them."""

from __future__ import annotations

import pytest

from hagane.core.labels import Label
from hagane.models.fake import FakeChat
from hagane.rag.answer_rewrite import Turn, is_follow_up, label_of, rewrite


def turns(*questions: str) -> list[Turn]:
    return [Turn(question, Label()) for question in questions]


@pytest.mark.parametrize(
    ("before", "question", "carried", "left"),
    [
        ("正社員の有給は何日もらえる？", "じゃあパートは？", ["有給", "何日"], ["正社員"]),
        ("有給は何日もらえる？", "それはいつまでに使えばいい？", ["有給"], ["何日"]),
        ("出張の日当はいくらですか。", "管理職は？", ["日当", "いくら"], []),
        ("在宅勤務の申請方法は？", "誰に出せばいい？", ["在宅勤務"], []),
        ("育休は何か月取れる？", "男性も？", ["育休", "何か月"], []),
        ("What is the password rule?", "How often do I change it?", ["password"], []),
    ],
)
def test_a_follow_up_takes_what_it_lacks(analyzer, before, question, carried, left):
    got = rewrite(question, turns("無関係な最初の質問？", before), analyzer=analyzer)
    assert got.startswith(question)
    assert all(word in got for word in carried)
    assert not any(word in got for word in left)
    assert "無関係" not in got


@pytest.mark.parametrize(
    "question",
    ["経費精算の締め切りはいつですか？", "領収書をなくした場合はどうすればいいですか？", "有給休暇とは何ですか？"],
)
def test_a_whole_question_stays_as_it_is(analyzer, question):
    assert not is_follow_up(question, analyzer)
    assert rewrite(question, turns("出張の日当は？"), analyzer=analyzer) == question


def test_without_a_history_nothing_changes(analyzer):
    assert rewrite("それはいつまで？", [], analyzer=analyzer) == "それはいつまで？"


def test_the_label_is_the_join_of_the_history():
    history = [Turn("a", Label.parse("confidential:hr")), Turn("b", Label.parse("internal:board"))]
    assert str(label_of(history, Label.parse("public"))) == "confidential:board+hr"
    assert label_of([], Label.parse("internal")) == Label.parse("internal")


def test_a_model_may_write_the_sentence_from_the_conversation_only(analyzer):
    history = turns("正社員の有給は何日もらえる？")
    good = FakeChat("パートの有給は何日もらえる？")
    assert rewrite("じゃあパートは？", history, analyzer=analyzer, model=good) == "パートの有給は何日もらえる？"
    bad = FakeChat("社長の給与はいくら？")
    assert rewrite("じゃあパートは？", history, analyzer=analyzer, model=bad).startswith("じゃあパートは？")


def test_the_model_is_asked_under_the_label_of_the_history(analyzer):
    model = FakeChat("")
    rewrite("それは？", [Turn("給与は？", Label.parse("restricted:hr"))], analyzer=analyzer, model=model)
    assert str(model.requests[0].label) == "restricted:hr"
