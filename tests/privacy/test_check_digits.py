"""Check digits against sums done by hand, published numbers, every single-digit error, and python-stdnum where installed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.privacy.check_digits import company_digit, is_company_number, is_my_number, luhn, my_number_digit


def digits(n: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=n, max_size=n)


def test_a_my_number_by_hand():
    """12345678901, from the right 1·2+0·3+9·4+8·5+7·6+6·7 + 5·2+4·3+3·4+2·5+1·6 = 212; 212 mod 11 = 3; 11-3 = 8."""
    assert my_number_digit("12345678901") == 8
    assert is_my_number("123456789018") and not is_my_number("123456789017")


def test_a_my_number_whose_rest_is_0_or_1_ends_with_0():
    """00000000000: rest 0. 00000000006: 6·2 = 12, rest 1."""
    assert my_number_digit("00000000000") == 0
    assert my_number_digit("00000000006") == 0


def test_a_company_number_by_hand():
    """700110005901: from the right 1·1+0·2+9·1+5·2+0·1+0·2+0·1+1·2+1·1+0·2+0·1+7·2 = 37; 37 mod 9 = 1; 9-1 = 8."""
    assert company_digit("700110005901") == 8
    assert is_company_number("8700110005901")


@pytest.mark.parametrize("number", ["7000012050002", "1180301018771"])
def test_published_company_numbers_are_right(number: str):
    """国税庁 and トヨタ自動車株式会社, as the public register shows them."""
    assert is_company_number(number)


@pytest.mark.parametrize("number", ["79927398713", "4242424242424242", "378282246310005", "3530111333300000"])
def test_published_luhn_numbers_are_right(number: str):
    assert luhn(number) and not luhn(number[:-1] + str((int(number[-1]) + 1) % 10))


@given(digits(15), st.integers(0, 15), st.integers(1, 9))
def test_luhn_sees_every_wrong_digit(first: str, at: int, by: int):
    whole = next(first + last for last in "0123456789" if luhn(first + last))
    wrong = whole[:at] + str((int(whole[at]) + by) % 10) + whole[at + 1 :]
    assert not luhn(wrong)


@given(digits(11))
def test_one_check_digit_is_right(first: str):
    assert [d for d in "0123456789" if is_my_number(first + d)] == [str(my_number_digit(first))]


@given(digits(12))
def test_a_company_number_never_begins_with_0(last: str):
    assert 1 <= company_digit(last) <= 9


@given(digits(11), digits(12))
def test_an_independent_implementation_agrees(first: str, last: str):
    """python-stdnum 1.19 and later: stdnum.jp.in_ and stdnum.jp.cn (LGPL: tests only)."""
    in_ = pytest.importorskip("stdnum.jp.in_", reason="the oracle python-stdnum is not installed")
    cn = pytest.importorskip("stdnum.jp.cn", reason="the oracle python-stdnum is not installed")
    for check in "0123456789":
        assert in_.is_valid(first + check) == is_my_number(first + check)
        assert cn.is_valid(check + last) == is_company_number(check + last)
