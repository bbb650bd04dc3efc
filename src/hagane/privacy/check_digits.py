"""Check digits: マイナンバー, 法人番号 and Luhn. Pure functions of strings of ASCII digits."""

from __future__ import annotations


def my_number_digit(first_11: str) -> int:
    """The 12th digit of a マイナンバー.

    11 - (Σ P·Q mod 11), 0 where that is 10 or 11. P: the digits from the right; Q: 2 to 7, then 2 to 6.
    Source: 平成26年総務省令第85号第五条.
    """
    total = sum(int(digit) * (n + 1 if n <= 6 else n - 5) for n, digit in enumerate(reversed(first_11), 1))
    rest = total % 11
    return 0 if rest <= 1 else 11 - rest


def is_my_number(digits: str) -> bool:
    """True for 12 digits that end with their check digit."""
    return len(digits) == 12 and my_number_digit(digits[:11]) == int(digits[11])


def company_digit(last_12: str) -> int:
    """The first digit of a 法人番号: 9 - (Σ P·Q mod 9). P: the digits from the right; Q: 1, 2, 1, 2, …

    Source: 法人番号の指定等に関する省令 (平成26年財務省令第70号) 第二条.
    """
    return 9 - sum(int(digit) * (1 if n % 2 else 2) for n, digit in enumerate(reversed(last_12), 1)) % 9


def is_company_number(digits: str) -> bool:
    """True for 13 digits that begin with their check digit."""
    return len(digits) == 13 and company_digit(digits[1:]) == int(digits[0])


def luhn(digits: str) -> bool:
    """True when the digits end with their Luhn check digit. Source: ISO/IEC 7812-1, annex B."""
    doubled = (2 * int(d) if n % 2 else int(d) for n, d in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
