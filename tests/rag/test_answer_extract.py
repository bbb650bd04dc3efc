"""The answerer without a model: the right sentences, verbatim, with their places."""

from __future__ import annotations

import re

import pytest
from answer_passages import CORPUS, INJECTED, LEAVE, TRAVEL, passage

from hagane.core.labels import Label
from hagane.core.types import Answer, AnswerPart, Block, Line, Place
from hagane.models.fake import HashEmbedder
from hagane.rag.answer import AnswerConfig, Answers


@pytest.fixture
def answers(analyzer):
    return Answers(analyzer, config=AnswerConfig(threshold=0.05))


def ask(answers, question, *passages, label="internal") -> Answer:
    *parts, last = answers.stream(question, passages, statistics=CORPUS, label=Label.parse(label))
    assert all(isinstance(part, AnswerPart) for part in parts)
    assert isinstance(last, Answer)
    assert "".join(part.text for part in parts).strip() == last.answer
    return last


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("国内出張の日当はいくらですか？", "2,500円"),
        ("東京の宿泊費の上限は？", "15,000円"),
        ("出張申請はいつまでに出せばいいですか", "3日前"),
        ("有給休暇は入社して何日もらえますか", "10日"),
        ("時間単位の取得は年何日まで？", "5日"),
    ],
)
def test_the_sentence_that_answers_is_there(answers, question, wanted):
    got = ask(
        answers, question, passage("規程/出張旅費規程.md", *TRAVEL), passage("規程/休暇規程.md", *LEAVE, score=0.9)
    )
    assert wanted in got.answer
    assert not got.abstained
    assert got.why == ""


def test_quotes_stand_verbatim_at_their_place(answers):
    given = passage("出張旅費規程.md", *TRAVEL)
    got = ask(answers, "東京の宿泊費の上限は？", given)
    assert got.citations
    for citation in got.citations:
        assert citation.quote == given.chunk.text[citation.place.start : citation.place.end]
        assert re.search(rf"{re.escape(citation.quote)}\[{citation.n}\]", got.answer)
        assert (citation.path, citation.version) == ("出張旅費規程.md", "v1")


def test_a_table_row_is_read_with_its_headers_and_quoted_whole(answers):
    rows = [
        Block("row", "ノートPC | 150000 | 部長", Place(cell="備品!A2:C2", start=0, end=19), reading="品名: ノートPC、単価: 150000、承認者: 部長"),
        Block("row", "マウス | 3000 | 課長", Place(cell="備品!A3:C3", start=20, end=36), reading="品名: マウス、単価: 3000、承認者: 課長"),
    ]  # fmt: skip
    got = ask(answers, "ノートPCの単価はいくら？", passage("備品.xlsx", *rows))
    assert got.answer.startswith("品名: ノートPC、単価: 150000")
    assert got.citations[0].quote == "ノートPC | 150000 | 部長"
    assert got.citations[0].place.cell == "備品!A2:C2"


def test_a_quote_from_a_page_is_the_text_in_its_box(answers):
    """Boxes belong to printed lines: the quote is widened to whole lines."""
    text = "国内出張の日当は一日2,500円\nとする。宿泊費の上限は一泊12,000円とする。"
    lines = (Line(0, 17, 3, (10, 10, 200, 20)), Line(18, len(text), 3, (10, 25, 200, 35)))
    block = Block("paragraph", text, Place(page=3, box=(10, 10, 200, 35), start=0, end=len(text)), lines=lines)
    got = ask(answers, "国内出張の日当はいくら？", passage("規程.pdf", block))
    assert "一日2,500円とする。" in got.answer
    assert got.citations[0].place.page == 3
    assert got.citations[0].place.box == (10, 10, 200, 35)
    assert got.citations[0].quote == text


def test_a_wrapped_line_is_no_sentence_end(answers):
    got = ask(
        answers,
        "出張申請の期限は？",
        passage(
            "a.txt", "出張申請は、所属する部署の上長へ、出発する日の\n3日前までに提出する。\n・様式は総務課にある。"
        ),
    )
    assert got.answer.startswith("出張申請は、所属する部署の上長へ、出発する日の3日前までに提出する。[1]")
    assert "様式" not in got.answer


def test_a_short_answer_takes_the_next_sentence_with_it(answers):
    got = ask(
        answers,
        "純水の流量は測れますか？",
        passage("FAQ.md", "測れません。電磁式のため、純水の流量測定には対応しません。", headings=("純水は測れますか",)),
    )
    assert got.answer.startswith("測れません。電磁式のため")


def test_the_newer_edition_is_preferred_unless_the_old_one_is_asked_for(answers):
    old = passage("出張旅費規程_2021年版.docx", "国内出張の日当は一日2,000円とする。")
    new = passage("出張旅費規程_2025年版.docx", "国内出張の日当は一日2,500円とする。", score=0.9)
    assert "2,500円" in ask(answers, "国内出張の日当はいくら？", old, new).answer
    assert "2,000円" in ask(answers, "2021年版では国内出張の日当はいくら？", old, new).answer


def test_editions_of_different_documents_do_not_meet(answers):
    rule = passage("経費規程_2020年版.md", "国内出張の日当は一日2,500円とする。")
    other = passage("価格表_2026.xlsx", "流量計の価格は42,000円とする。", score=0.9)
    assert "2,500円" in ask(answers, "国内出張の日当はいくら？", rule, other).answer


def test_what_nobody_wrote_is_not_answered(answers, analyzer):
    """Nothing in common, and too little in common: both abstain, say why, and show the nearest place."""
    given = passage("出張旅費規程.md", *TRAVEL)
    strict = Answers(analyzer, config=AnswerConfig(threshold=0.2))
    for made in (answers, strict):
        got = ask(made, "社長の靴のサイズは何センチですか？", given)
        assert got.abstained
        assert got.answer == ""
        assert got.citations == ()
        assert got.why == "low_confidence"
        assert [c.path for c in got.nearest] == ["出張旅費規程.md"]
        assert got.nearest[0].quote in given.chunk.text


def test_nothing_found_is_its_own_reason(answers):
    got = ask(answers, "日当は？")
    assert (got.abstained, got.why, got.confidence, got.nearest) == (True, "nothing_found", 0.0, ())


def test_orders_in_documents_change_nothing(answers):
    """The answer, its citations and its confidence are those of the same passages without the orders' document."""
    clean = ask(answers, "国内出張の日当はいくらですか？", passage("出張旅費規程.md", *TRAVEL))
    mixed = ask(
        answers,
        "国内出張の日当はいくらですか？",
        passage("出張旅費規程.md", *TRAVEL),
        passage("罠.md", *INJECTED, score=0.9),
    )
    assert mixed.answer == clean.answer
    assert mixed.citations == clean.citations
    assert "9,999" not in mixed.answer


def test_marks_written_in_a_document_are_not_our_marks(answers):
    """ "[7]" in a text stays as it is; only the mark behind the sentence is ours."""
    got = ask(answers, "駐車場の申請先は？", passage("a.md", "駐車場の申請先は総務課とする[7]。"))
    assert got.answer == "駐車場の申請先は総務課とする[7]。[1]"


def test_the_answer_carries_the_labels_of_what_it_shows(answers):
    given = passage("給与.md", "管理職の基本給は月額45万円とする。", label="confidential:hr")
    got = ask(answers, "管理職の基本給は月額いくら？", given, label="internal")
    assert str(got.label) == "confidential:hr"
    silent = ask(answers, "管理職の靴のサイズ？", given)
    assert str(silent.label) == "confidential:hr", "nearest places are shown too"


def test_the_label_of_the_conversation_stays(answers):
    got = ask(answers, "国内出張の日当はいくら？", passage("a.md", *TRAVEL, label="public"), label="restricted:board")
    assert str(got.label) == "restricted:board"


def test_meaning_helps_to_choose(analyzer):
    """With an embedder the sentence in near words wins over the one with the same single word."""
    given = passage("a.md", "休暇の種類は別表による。", "休暇を取りたいときは所属長へ申請書を出す。")
    answers = Answers(analyzer, config=AnswerConfig(threshold=0.0, sentences=1), embedder=HashEmbedder(512))
    assert "申請書を出す" in ask(answers, "休暇を取りたいとき申請書はどこへ出す？", given).answer


def test_english_documents_are_answered_in_english(answers):
    given = passage("Security.docx", "Passwords must have at least 14 characters. Do not reuse passwords.")
    got = ask(answers, "How many characters must passwords have?", given)
    assert got.answer.startswith("Passwords must have at least 14 characters.[1]")


def test_parts_stream_one_sentence_each(answers):
    stream = answers.stream(
        "宿泊費の上限と領収書は？", [passage("a.md", *TRAVEL)], statistics=CORPUS, label=Label.parse("internal")
    )
    first = next(stream)
    assert isinstance(first, AnswerPart)
    assert first.text.count("。") == 1
    assert [c.n for c in first.citations] == [1]
