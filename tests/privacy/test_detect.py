"""Detectors find what people write, in either width, and leave other numbers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.privacy.check_digits import company_digit, my_number_digit
from hagane.privacy.detect import Card, CompanyNumber, Email, MyNumber, is_card
from hagane.privacy.fold import fold
from hagane.privacy.phone import Phone


def found(detector: MyNumber | CompanyNumber | Card | Email | Phone, text: str) -> list[str]:
    return [text[span.start : span.end] for span in detector.find(text)]


@given(st.text("0123456789", min_size=11, max_size=11), st.sampled_from(["", " ", "-", "－", "\u3000"]))
def test_every_my_number_is_found_in_its_groups(first: str, gap: str):
    whole = first + str(my_number_digit(first))
    text = f"個人番号は{gap.join((whole[:4], whole[4:8], whole[8:]))}です"
    assert found(MyNumber(), text) == [text[5:-2]]


@given(st.text("0123456789", min_size=12, max_size=12), st.sampled_from(["", " ", "-"]))
def test_every_company_number_is_found_behind_a_t_too(last: str, gap: str):
    whole = str(company_digit(last)) + last
    number = gap.join((whole[0], whole[1:5], whole[5:9], whole[9:]))
    assert found(CompanyNumber(), f"登録番号T{number}") == [number]


@pytest.mark.parametrize("text", ["1621498320257", "6214983202571", "0.621498320257", "6214-98320257", "6214 9832-0257", "6214-9832-0258"])
def test_other_numbers_are_no_my_number(text: str):
    """Longer numbers, figures, mixed groups, a wrong check digit."""
    assert found(MyNumber(), f"番号{text}を参照") == []


def test_a_number_hidden_behind_another_group_is_found():
    """Candidates overlap: the year before a number must not swallow its first group."""
    assert found(MyNumber(), "2024 6214 9832 0257") == ["6214 9832 0257"]


@pytest.mark.parametrize(
    "number",
    ["4000000000000000006", "4242424242424242", "5555555555554444", "2223003122003222", "371449635398431", "30569309025904",
     "38520000023237", "6011111111111117", "3566002020360505", "6200000000000005"],
)  # fmt: skip
def test_test_numbers_of_each_issuer_are_cards(number: str):
    """As payment providers publish them for tests."""
    assert is_card(number)
    assert found(Card(), f"カード番号は{number}です") == [number]


@pytest.mark.parametrize("number", ["4242424242424241", "9999999999999995", "0000000000000000", "4222222222222"])
def test_other_long_numbers_are_no_cards(number: str):
    assert found(Card(), f"伝票{number}") == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("連絡先はtaro@example.co.jpまで。", "taro@example.co.jp"),
        ("<mailto:hana_suzuki@example.jp>", "hana_suzuki@example.jp"),
        ("サーバーadmin@example.jp", "admin@example.jp"),
        ("担当:ｔａｒｏ＠ｅｘａｍｐｌｅ．ｊｐ。", "ｔａｒｏ＠ｅｘａｍｐｌｅ．ｊｐ"),
        ("'john@example.com'", "john@example.com"),
        ("**o'brien@example.com**", "o'brien@example.com"),
        ("/users?login=john@example.com", "john@example.com"),
        ("旧携帯 a..b.@docomo.ne.jp", "a..b.@docomo.ne.jp"),
        ("taro@例え.jpです", "taro@例え.jp"),
    ],
)
def test_addresses_end_where_the_sentence_goes_on(text: str, address: str):
    assert found(Email(), text) == [address]


@pytest.mark.parametrize("text", ["@example.jp", "単価@100.50円", "あとで@東京", "a@b", "メール＠アドレス"])
def test_an_at_sign_alone_is_no_address(text: str):
    assert found(Email(), text) == []


@pytest.mark.parametrize(
    "number",
    ["03-1234-5678", "(03)1234-5678", "03(1234)5678", "03 1234 5678", "03.1234.5678", "0312345678", "045-123-4567", "04992-2-1234",
     "090-1234-5678", "09012345678", "050 1234 5678", "0120-123-456", "0120-12-3456", "0570-012-345", "0800-123-4567", "+81-90-1234-5678",
     "+81 3 1234 5678", "+81(0)3-1234-5678", "０３－１２３４－５６７８", "０３ー１２３４ー５６７８"],
)  # fmt: skip
def test_telephone_numbers_in_every_spelling(number: str):
    assert found(Phone(), f"電話（{number}）まで") == [number]


@pytest.mark.parametrize(
    "text", ["2024-11-03-1234-5678", "〒123-4567", "01.23456789", "0123-4567-890", "00-1234-5678", "第03条", "1,031,234,567円", "0312345678901"]
)
def test_dates_amounts_and_codes_are_no_telephone_numbers(text: str):
    assert found(Phone(), f"番号 {text} を参照") == []


@given(st.text())
def test_folding_keeps_every_offset(text: str):
    assert len(fold(text)) == len(text)


@given(st.text(st.sampled_from("0123456789０１-－ー ()（）+＋.@a東")))
def test_spans_are_in_order_within_the_text_and_apart(text: str):
    for detector in (MyNumber(), CompanyNumber(), Card(), Email(), Phone()):
        ends = [0, *(edge for span in detector.find(text) for edge in (span.start, span.end)), len(text)]
        assert ends == sorted(ends)
        assert all(span.start < span.end and span.kind == detector.name for span in detector.find(text))
