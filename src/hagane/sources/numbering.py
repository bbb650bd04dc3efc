"""Word's automatic numbers: 第1条, (1), ①, ア: they are in no run of text, only here.

Source: ECMA-376 part 1, 17.9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .xmltree import Element, attribute, child, local

_DIGITS = "〇一二三四五六七八九"
_KANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
_IROHA = "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセス"
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip
_WIDE = str.maketrans("0123456789", "０１２３４５６７８９")


@dataclass(frozen=True, slots=True)
class _Level:
    start: int
    form: str
    pattern: str


class Numbering:
    """Counts the numbered paragraphs of one document in order."""

    def __init__(self, tree: Element | None) -> None:
        self._abstract: dict[str, dict[int, _Level]] = {}
        self._numbers: dict[str, str] = {}
        self._starts: dict[tuple[str, int], int] = {}
        self._counts: dict[str, list[int]] = {}
        for element in tree if tree is not None else ():
            if local(element) == "abstractNum":
                levels = {_number(e, "ilvl"): _level(e) for e in element if local(e) == "lvl"}
                self._abstract[attribute(element, "abstractNumId") or ""] = levels
            elif local(element) == "num":
                key = attribute(element, "numId") or ""
                abstract = child(element, "abstractNumId")
                self._numbers[key] = "" if abstract is None else attribute(abstract, "val") or ""
                for override in element:
                    if (start := child(override, "startOverride")) is not None:
                        self._starts[key, _number(override, "ilvl")] = _number(start, "val")

    def label(self, number: str, level: int) -> str:
        """The next label of list `number` at `level` ("" for bullets); counting moves on."""
        abstract = self._numbers.get(number, "")
        levels = self._abstract.get(abstract, {})
        here = levels.get(level)
        if here is None:
            return ""
        counts = self._counts.setdefault(abstract or number, [0] * 10)
        first = self._starts.pop((number, level), None)
        counts[level] = first if first is not None else (counts[level] + 1 if counts[level] else here.start)
        for deeper in range(level + 1, len(counts)):
            counts[deeper] = 0
        if here.form in ("bullet", "none"):
            return ""
        return re.sub(r"%([1-9])", lambda m: self._said(levels, counts, int(m[1]) - 1), here.pattern)

    def _said(self, levels: dict[int, _Level], counts: list[int], level: int) -> str:
        form = levels[level] if level in levels else _Level(1, "decimal", "")
        return written(counts[level] or form.start, form.form)


def _number(element: Element, name: str) -> int:
    value = attribute(element, name) or ""
    return min(9, int(value)) if name == "ilvl" and value.isdecimal() else int(value) if value.isdecimal() else 0


def _level(element: Element) -> _Level:
    values = {local(e): attribute(e, "val") or "" for e in element}
    start = values.get("start", "1")
    return _Level(int(start) if start.isdecimal() else 1, values.get("numFmt", "decimal"), values.get("lvlText", ""))


def written(n: int, form: str) -> str:
    """`n` in one of Word's number forms; unknown ones as digits."""
    if form in ("decimalFullWidth", "decimalFullWidth2"):
        return str(n).translate(_WIDE)
    if form in (
        "japaneseCounting",
        "ideographDigital",
        "japaneseDigitalTenThousand",
        "chineseCounting",
        "taiwaneseCounting",
    ):
        return _kanji(n)
    if form in ("aiueo", "aiueoFullWidth"):
        return _KANA[(n - 1) % len(_KANA)]
    if form in ("iroha", "irohaFullWidth"):
        return _IROHA[(n - 1) % len(_IROHA)]
    if form.startswith("decimalEnclosedCircle") and 1 <= n <= 20:
        return chr(0x245F + n)
    if form in ("upperLetter", "lowerLetter"):
        letter = chr(65 + (n - 1) % 26) * ((n - 1) // 26 + 1)
        return letter if form == "upperLetter" else letter.lower()
    if form in ("upperRoman", "lowerRoman"):
        return _roman(n).upper() if form == "upperRoman" else _roman(n)
    return str(n)


def _kanji(n: int) -> str:
    if not 0 < n < 100:
        return "".join(_DIGITS[int(c)] for c in str(n))
    ten, one = divmod(n, 10)
    return ("" if ten == 0 else "十" if ten == 1 else _DIGITS[ten] + "十") + (_DIGITS[one] if one else "")


def _roman(n: int) -> str:
    if not 0 < n < 4000:
        return str(n)
    made = ""
    for value, sign in _ROMAN:
        while n >= value:
            made, n = made + sign, n - value
    return made
