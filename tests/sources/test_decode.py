"""Encodings: Japanese text comes back from every encoding that Japanese files are written in."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.core.errors import SourceError
from hagane.sources.decode import decode

KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
KANJI = "株式会社出張旅費規程日本語文書上限円年月日部長承認申請休暇給与社員総務東京大阪価格表品名数量"
KATAKANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノ"
LETTERS = KANA + KANJI + KATAKANA + "、。（）「」・ー１２３ＡＢＣ" + "abcXYZ0123456789 ,.-\n"
CODECS = ("utf-8", "utf-8-sig", "cp932", "shift_jis", "euc_jp", "iso2022_jp", "utf-16", "utf-32")

# Detection needs some Japanese: a single rare kanji is anything in any encoding.
japanese = st.builds(
    lambda head, tail: head + tail,
    st.text(alphabet=KANA, min_size=4, max_size=8),
    st.text(alphabet=LETTERS, max_size=80),
)


@given(text=japanese, codec=st.sampled_from(CODECS))
def test_japanese_survives_every_encoding(text: str, codec: str):
    assert decode(text.encode(codec))[0] == text


@given(
    text=japanese,
    codec=st.sampled_from(("cp932", "euc_jp", "utf-8")),
    wrong=st.sampled_from(("iso-8859-1", "ascii", "x")),
)
def test_a_wrong_western_declaration_does_no_harm(text: str, codec: str, wrong: str):
    """Mails and pages declare Latin-1 by default and hold Japanese."""
    assert decode(text.encode(codec), declared=wrong)[0] == text


@given(text=japanese, codec=st.sampled_from(("utf-16-le", "utf-16-be")))
def test_utf16_without_a_bom_is_seen_by_its_nulls(text: str, codec: str):
    text += "\nplain ASCII words\n"
    assert decode(text.encode(codec))[0] == text


@given(data=st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused(data: bytes):
    with suppress(SourceError):
        text, codec = decode(data)
        assert "\r" not in text
        assert codec


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("髙橋と﨑山、①㈱№℡", "cp932"),
        ("ｶﾌﾞｼｷｶﾞｲｼﾔ ﾎｸﾄｾｲｷ ﾌﾘｺﾐ", "cp932"),
        ("これは①②③の説明です", "euc_jis_2004"),
        ("café à la crème, naïve déjà vu", "cp1252"),
        ("Größe über Straße", "cp1252"),
        ("“quoted” — it’s 5 €", "cp1252"),
        ("plain ASCII", "ascii"),
    ],
)
def test_signs_that_mislead_detectors(text: str, codec: str):
    assert decode(text.encode(codec))[0] == text


def test_iso2022_mails_with_windows_characters_are_read():
    """① and ㈱ (NEC row 13) and 髙 stand in no ISO-2022-JP standard and in many mails."""
    body = b"\x1b$B-!\x1b(B \x1b$B-jKLEM\x1b(B"
    assert decode(body)[0] == "① ㈱北斗"


def test_line_ends_become_newlines_and_the_bom_goes():
    assert decode("\ufeff一行目\r\n二行目\r三行目".encode())[0] == "一行目\n二行目\n三行目"


@pytest.mark.parametrize("data", [bytes(range(256)) * 8, b"\x00\x01\x02\x03" * 50, b"\x93\xfa\x00\x01\x02\x05\x81"])
def test_binary_is_no_text(data: bytes):
    with pytest.raises(SourceError) as caught:
        decode(data)
    assert caught.value.reason == "unsupported"
