"""A detector of Japanese telephone numbers: fixed, mobile, free and service numbers, +81, in the usual spellings."""

from __future__ import annotations

import re

from hagane.core.seams import Span

from .fold import fold

_GAP = r"(?:\) ?-?|[ -]?\(| ?- ?| |\.)"
_CANDIDATE = re.compile(
    r"(?<![0-9])(?<![0-9][-.])"
    r"(?P<trunk>\+81[ -]?(?:\(0\)[ -]?|0)?|\(?0)"
    rf"(?P<area>[1-9][0-9]{{0,4}})(?P<gap1>{_GAP})?(?P<local>[0-9]{{1,4}})(?P<gap2>{_GAP})?(?P<last>[0-9]{{3,4}})"
    r"(?![0-9])(?![-.][0-9])"
)
# 11 digits with the 0; all others have 10. Source: 総務省 電気通信番号計画 (令和元年総務省告示第6号).
_ELEVEN = re.compile(r"[256789]0[0-9]{8}|800[0-9]{7}")
_LAST_OF_THREE = ("120", "570", "990", "180", "170")  # written 0120-123-456


def _is_number(match: re.Match[str]) -> bool:
    digits = match["area"] + match["local"] + match["last"]  # without the 0
    if not (len(digits) == 9 or (len(digits) == 10 and _ELEVEN.fullmatch(digits))):
        return False
    gaps = (match["gap1"] or "", match["gap2"] or "")
    if "." in gaps and gaps != (".", "."):
        return False  # 01.23456789 is a figure
    return len(match["last"]) == 4 or not gaps[1] or digits.startswith(_LAST_OF_THREE)


class Phone:
    """Japanese telephone numbers: 03-1234-5678, (03)1234-5678, 090 1234 5678, 0312345678, +81-90-1234-5678, 0120-…"""

    name = "phone"

    def find(self, text: str) -> list[Span]:
        found = []
        for match in _CANDIDATE.finditer(fold(text)):
            if _is_number(match):
                opened = match[0].startswith("(") and match[0].count("(") > match[0].count(")")  # "(03-…)": the text's own
                found.append(Span(match.start() + opened, match.end(), self.name))
        return found
