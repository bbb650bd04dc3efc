"""Garbage scores low, real text of any kind scores high."""

from __future__ import annotations

import pytest

from hagane.core.types import Block, Document, Place
from hagane.prepare.quality import Quality, QualityConfig, score

GOOD = "第10条 会社は、6か月間継続して勤務し、全労働日の8割以上出勤した従業員に、10日の年次有給休暇を付与する。\n"


def quality(text: str, **meta: str) -> Quality:
    block = Block("paragraph", text, Place(start=0, end=len(text)))
    document = Document("", "text/plain", "", text, (block,), meta=meta)
    return score(document, document.blocks)


def test_good_japanese_is_perfect() -> None:
    got = quality(GOOD)
    assert (got.score, got.reasons) == (1.0, ())
    assert got.japanese > 0.8
    assert got.n_chars == len(GOOD) - 2  # the blank and the line break


def test_shares_are_counted_by_hand() -> None:
    got = quality("休暇 AB 12 ++")
    assert (got.n_chars, got.japanese, got.letters, got.symbols) == (8, 0.25, 0.5, 0.25)
    assert got.mean_line == 11


@pytest.mark.parametrize(
    "garbage",
    [
        GOOD.encode("cp932").decode("latin-1"),
        GOOD.encode("cp932").decode("cp1252", "replace"),
        GOOD.encode().decode("latin-1"),
        GOOD.encode().decode("cp1252", "replace"),
        GOOD.encode().decode("cp932", "replace"),
        GOOD.encode("cp932").decode("utf-8", "replace"),
    ],
)
def test_misread_bytes_are_seen(garbage: str) -> None:
    got = quality(garbage)
    assert got.score < 0.5
    assert "mojibake" in got.reasons


@pytest.mark.parametrize(
    "text",
    ["São Paulo e Málaga são cidades; il a été à l'hôtel où l'été", "def f(x):\n    return {x: [x ** 2]}\n", "品名\t単価\nネジ\t1,200円\n", "繝 という字と縺れる糸の話", "振込先 東京ﾄｼ銀行ｶ)ﾊｶﾞﾈ", "𠮷野家と𩸽の昆布〆、Ω・㎡・①②③"],
)  # fmt: skip
def test_unusual_text_is_not_garbage(text: str) -> None:
    assert quality(text).score > 0.5


def test_repetition_and_doubtful_recognition_cost() -> None:
    assert quality("同じ行です。\n" * 100).reasons == ("repeated_lines",)
    assert quality(GOOD, ocr_confidence="0.4").score == pytest.approx(0.5)


def test_nothing_is_set_aside_but_garbage() -> None:
    assert not quality("\ufffd" * 200).is_enough(QualityConfig())
    assert quality("可").is_enough(QualityConfig())
    assert quality("\ufffd" * 200).is_enough(QualityConfig(least=0))
