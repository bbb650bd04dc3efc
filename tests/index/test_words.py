"""What Sudachi and the bigrams make of Japanese office text."""

from __future__ import annotations

import pytest

from hagane.index.words import Ngram, Sudachi, pieces


@pytest.fixture(scope="module")
def sudachi():
    return Sudachi()


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("有給休暇の取得は1,000円まで。", ["有給", "休暇", "取得", "1000", "円"]),
        ("引越しの打合せ、引越の打ち合わせ", ["引っ越し", "打ち合わせ"] * 2),
        ("サーバとサーバー", ["サーバー"] * 2),
        ("第三十二条", ["第", "32", "条"]),
        ("PTOをとる", ["pto", "取る"]),
        ("経費精算のやり方を教えてください", ["経費", "精算", "遣る", "方", "教える", "下さる"]),
        ("個人情報保護委員会", ["個人", "情報", "保護", "委員", "会"]),
        ("0.5%、𠮷野家😀", ["0.5", "𠮷", "野家"]),
        ("deadbeefdeadbeefdeadbeefdeadbeef", ["deadbeefdeadbeefdeadbeefdeadbeef"]),
    ],
)
def test_sudachi_gives_short_units_in_normal_form_without_particles(sudachi, text, terms):
    assert sudachi.tokens(text) == terms


def test_english_and_katakana_spellings_of_a_word_meet(sudachi):
    """Sudachi's normal forms bridge them: the handbook is full of both."""
    assert sudachi.tokens("engineering handbook") == sudachi.tokens("エンジニアリング ハンドブック")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("有給休暇 PTO", ["有給", "給休", "休暇", "pto"]),
        ("茶", ["茶"]),
        ("k8sを使う v1.2", ["k8s", "を使", "使う", "v1", "2"]),
        ("１,０００円と1,00", ["1000", "円と", "1", "00"]),
        ("Straße_名", ["straße", "名"]),
    ],
)
def test_ngrams_are_bigrams_of_japanese_and_whole_words_of_the_rest(text, terms):
    assert Ngram().tokens(text) == terms


def test_pieces_lose_nothing_and_end_at_sentences():
    text = "休暇は申請による。" * 5_000
    cut = list(pieces(text, limit=1_000))
    assert "".join(cut) == text
    assert all(len(piece) <= 1_000 for piece in cut)
    assert all(piece.endswith("。") for piece in cut)


def test_a_text_without_ends_is_cut_at_the_limit():
    assert [len(piece) for piece in pieces("あ" * 2_500, limit=1_000)] == [1_000, 1_000, 500]


def test_cutting_does_not_change_the_terms(sudachi):
    """Pieces of 12,000 characters keep below Sudachi's 49,149 bytes and give what single sentences give."""
    sentence = "従業員は、所属長の承認を得て有給休暇を取得することができる。"
    assert sudachi.tokens(sentence * 2_000) == sudachi.tokens(sentence) * 2_000
