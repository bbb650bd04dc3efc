"""Detectors with check digits (マイナンバー, 法人番号, payment cards) and of e-mail addresses.

Numbers are found in full and half width, unbroken or in their usual groups. A check digit lets about one in
eleven (マイナンバー), nine (法人番号) and ten (cards, within issuers' ranges) of other numbers of that length
through: detectors say "may be", and err on the side of finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from hagane.core.seams import Span

from .check_digits import is_company_number, is_my_number, luhn
from .fold import fold

# Not inside a longer number: neither digits nor a digit behind a hyphen or a point may touch.
BEFORE = r"(?<![0-9])(?<![0-9][-.])"
AFTER = r"(?![0-9])(?![-.][0-9])"


def grouped(*sizes: int) -> str:
    """A pattern of digits in groups of these sizes, with one kind of blank or hyphen between them, or none."""
    first, *rest = sizes
    gap = f"(?P<gap{'_'.join(map(str, sizes))}>[ -]?)"
    again = f"(?P=gap{'_'.join(map(str, sizes))})"
    tail = "".join((gap if n == 0 else again) + f"[0-9]{{{size}}}" for n, size in enumerate(rest))
    return f"[0-9]{{{first}}}{tail}"


def spans(pattern: re.Pattern[str], text: str, kind: str, *, proven: Callable[[str], bool]) -> list[Span]:
    """What `pattern` (a look-ahead around group 1, so that candidates may overlap) finds and `proven` confirms."""
    found: list[Span] = []
    for match in pattern.finditer(text):
        start, end = match.span(1)
        if (not found or start >= found[-1].end) and proven(re.sub(r"[^0-9]", "", match[1])):
            found.append(Span(start, end, kind))
    return found


class MyNumber:
    """マイナンバー (個人番号): 12 digits with check digit, unbroken or 4-4-4."""

    name = "my_number"
    _PATTERN = re.compile(rf"{BEFORE}(?=({grouped(4, 4, 4)}){AFTER})")

    def find(self, text: str) -> list[Span]:
        return spans(self._PATTERN, fold(text), self.name, proven=is_my_number)


class CompanyNumber:
    """法人番号: 13 digits with check digit, unbroken or 1-4-4-4; also behind the T of an invoice number."""

    name = "company_number"
    _PATTERN = re.compile(rf"{BEFORE}(?=({grouped(1, 4, 4, 4)}){AFTER})")

    def find(self, text: str) -> list[Span]:
        return spans(self._PATTERN, fold(text), self.name, proven=is_company_number)


# Issuers' ranges as prefixes, and the lengths in use. Source: ISO/IEC 7812-1 and the brands' own pages.
_ISSUERS = re.compile(
    r"4(?:[0-9]{15}|[0-9]{18})"  # Visa: 16, 19; 13 has not been issued for long, and web pages number articles so
    r"|(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)[0-9]*(?<=^[0-9]{16})"  # Mastercard: 16
    r"|3[47][0-9]{13}"  # American Express: 15
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"  # JCB: 16 to 19
    r"|3(?:0[0-5][0-9]{11,16}|095[0-9]{10,15}|[689][0-9]{12,17})"  # Diners: 14 to 19
    r"|6(?:011[0-9]{12,15}|4[4-9][0-9]{13,16}|[25][0-9]{14,17})"  # Discover, UnionPay: 16 to 19
)


def is_card(digits: str) -> bool:
    """True when the digits lie in an issuer's range, have a length in use and end with their Luhn digit."""
    return 14 <= len(digits) <= 19 and _ISSUERS.fullmatch(digits) is not None and luhn(digits)


class Card:
    """Payment cards: 14 to 19 digits, unbroken or grouped 4-4-4-4(-3), 4-6-5 or 4-6-4."""

    name = "card"
    _GROUPS = "|".join((grouped(4, 4, 4, 4, 3), grouped(4, 4, 4, 4), grouped(4, 6, 5), grouped(4, 6, 4), "[0-9]{14,19}"))
    _PATTERN = re.compile(rf"{BEFORE}(?=((?:{_GROUPS})){AFTER})")

    def find(self, text: str) -> list[Span]:
        return spans(self._PATTERN, fold(text), self.name, proven=is_card)


class Email:
    """E-mail addresses, full width too, Japanese domain names too; carriers' old forms (a..b.@) count."""

    name = "email"
    # What people have in addresses; the rest of RFC 5322 (*, =, /, …) stands around them in texts and web addresses.
    _LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.%+_~'-")
    # The top level is Latin, so an address ends where Japanese text goes on: taro@example.co.jpまで.
    _DOMAIN = re.compile(r"@(?:[A-Za-z0-9\u3005-\u30ff\u4e00-\u9fff-]{1,63}\.){1,10}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,63})")

    def find(self, text: str) -> list[Span]:
        return list(self._addresses(fold(text)))

    def _addresses(self, text: str) -> Iterator[Span]:
        behind = 0
        for match in self._DOMAIN.finditer(text):
            start = match.start()
            while start > max(behind, match.start() - 254) and text[start - 1] in self._LOCAL:
                start -= 1
            while text[start] in "-'~":  # a folded ー (サーバーtaro@example.jp), a quotation mark
                start += 1
            if start < match.start():
                yield Span(start, match.end(), self.name)
                behind = match.end()
