"""Text, pure functions: normal forms for search, Japanese sentence ends, comparison keys.

The original is what is shown and cited; everything here makes keys beside it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib.resources import files

# Year before the first year of each era: 令和1 = 2019.
_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925, "大正": 1911, "明治": 1867}
_ERA_LETTERS = {"R": "令和", "H": "平成", "S": "昭和"}
_KANJI_DIGITS = {c: i for i, c in enumerate("〇一二三四五六七八九")}
_ERA_DATE = re.compile(r"(令和|平成|昭和|大正|明治)\s*(元|[0-9]{1,2}|[〇一二三四五六七八九十]{1,3})\s*年")
_ERA_SHORT = re.compile(
    r"(?<![A-Za-z0-9])([RHS])\s?([0-9]{1,2})[./年]\s?([0-9]{1,2})(?:[./月]\s?([0-9]{1,2})日?)?(?![0-9.])"
)
_KANJI_MONTH_DAY = re.compile(r"(?<=年)\s*([一二三四五六七八九十]{1,3})\s*月(?:\s*([一二三四五六七八九十]{1,3})\s*日)?")


def _kanji_number(text: str) -> int:
    """十二 -> 12, 二十 -> 20, 三 -> 3 (below 100)."""
    tens, ten, ones = text.rpartition("十")
    if not ten:
        return int("".join(str(_KANJI_DIGITS[c]) for c in text))
    return (_KANJI_DIGITS[tens] if tens else 1) * 10 + (_KANJI_DIGITS[ones] if ones else 0)


def _year(match: re.Match[str]) -> str:
    era, number = match.groups()
    number = "1" if number == "元" else number
    count = int(number) if number.isdecimal() else _kanji_number(number)
    return f"{_ERAS[era] + count}年"


def _short_year(match: re.Match[str]) -> str:
    letter, number, month, day = match.groups()
    return f"{_ERAS[_ERA_LETTERS[letter]] + int(number)}年{month}月" + (f"{day}日" if day else "")


@cache
def _old_forms() -> dict[int, str]:
    """Old character forms to today's: pairs in old_forms.txt."""
    table = files("hagane.core").joinpath("old_forms.txt").read_text(encoding="utf-8")
    pairs = (line.split() for line in table.splitlines() if line and not line.startswith("#"))
    return {ord(old): new for old, new in pairs}


@cache
def _old_form() -> re.Pattern[str]:
    """Any one old form: ten times faster to look for than to translate every character."""
    return re.compile("[" + "".join(map(chr, _old_forms())) + "]")


def for_search(text: str) -> str:
    """The search key of a text: NFKC, lower case, old forms to new, 和暦 to western years.

    Not of the same length as the text. Idempotent. Never shown.
    """
    text = unicodedata.normalize("NFKC", text)
    text = _old_form().sub(lambda m: _old_forms()[ord(m[0])], text)
    text = _ERA_DATE.sub(_year, text)
    text = _ERA_SHORT.sub(_short_year, text)
    text = _KANJI_MONTH_DAY.sub(
        lambda m: f"{_kanji_number(m[1])}月" + (f"{_kanji_number(m[2])}日" if m[2] else ""), text
    )
    return text.lower()


_SPACE = re.compile(r"\s+")


def squeeze(text: str) -> str:
    """Without any white space: how quotes are compared."""
    return _SPACE.sub("", text)


def one_line(text: str, *, limit: int = 0) -> str:
    """White space folded to single blanks; cut with … behind `limit` characters when limit > 0."""
    text = _SPACE.sub(" ", text).strip()
    return text if not limit or len(text) <= limit else text[: limit - 1] + "…"


def folded_path(path: str) -> str:
    """A path as documents carry it: `/`-separated and NFC."""
    return unicodedata.normalize("NFC", path.replace("\\", "/"))


_ENDS = "。．！？!?｡"
_CLOSERS = "」』）)】〉》”’\"'"
_OPENERS = {"「": "」", "『": "』", "（": "）", "(": ")", "【": "】", "〈": "〉", "《": "》"}
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Co|Ltd|Inc|No|vs|e\.g|i\.e|etc|Fig|Sec|Art)|\b[A-Z])\.$")


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans (start, end) of the sentences of `text`, in order, without surrounding white space.

    A sentence ends at 。！？ outside brackets, at . ! ? followed by white space (not behind an
    abbreviation), and at every line break. Brackets that never close do not swallow the rest.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for line in re.finditer(r"[^\n]+", text):
        start = line.start()
        for end in _ends(text, line.start(), line.end()):
            _append(spans, text, start, end)
            start = end
        _append(spans, text, start, line.end())
    return spans


def _ends(text: str, start: int, end: int) -> list[int]:
    found: list[int] = []
    depth: list[str] = []
    at = start
    while at < end:
        char = text[at]
        if char in _OPENERS and text.find(_OPENERS[char], at, end) > 0:
            depth.append(_OPENERS[char])
        elif depth and char == depth[-1]:
            depth.pop()
        elif not depth and (char in _ENDS or (char == "." and _is_latin_end(text, start, at, end))):
            if char in "!?" and at + 1 < end and text[at + 1].isalnum() and text[at + 1].isascii():
                at += 1  # an URL's question mark
                continue
            at += 1
            while at < end and (text[at] in _ENDS or text[at] in _CLOSERS):
                at += 1
            found.append(at)
            continue
        at += 1
    return found


def _is_latin_end(text: str, start: int, at: int, end: int) -> bool:
    if at + 1 < end and not text[at + 1].isspace() and text[at + 1] not in _CLOSERS:
        return False
    before = text[max(start, at - 6) : at + 1]
    return not _ABBREVIATION.search(before) and not re.fullmatch(r"\s*\d{1,3}\.", text[start : at + 1])


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if end > start:
        spans.append((start, end))


def answer_key(text: str) -> str:
    """How answers are compared: NFKC, lower case, without white space, punctuation (P*) and [n]; symbols stay."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"\[\d+\]", "", text)
    return "".join(c for c in text if not c.isspace() and unicodedata.category(c)[0] != "P")
