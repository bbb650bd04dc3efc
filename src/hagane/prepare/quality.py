"""How readable the text of a document is: counts, shares and one score with its reasons."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hagane.core.config import Config
from hagane.core.types import Block, Document


class QualityConfig(Config):
    """When a document is too poor to be searched."""

    least: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Set aside below this score, 0 to 1; 0 keeps everything. Very low: only garbage goes",
    )


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares are of the characters that are not white space, 0 to 1. `score`: 1 is clean text."""

    n_chars: int
    japanese: float
    letters: float
    symbols: float
    mojibake: float
    repeated_lines: float  # share of lines that occurred before
    mean_line: float  # characters
    ocr_confidence: float | None
    score: float
    reasons: tuple[str, ...]

    def is_enough(self, config: QualityConfig) -> bool:
        """False when the document should be set aside."""
        return self.score >= config.least


_SPACE, _JAPANESE, _LETTER, _DIGIT, _SYMBOL, _BROKEN = range(6)

# Bytes read in the wrong encoding. UTF-8 as Latin-1 or cp1252: a letter of ã to é and two signs (ã‚’).
# cp932 as either: kana become ‚ or ƒ and a letter (‚Í). UTF-8 as cp932: kana become 縺, 繧, 繝 and a letter.
_SIGN = r"[\x80-\xbf\ufffd‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ€]"
_MISREAD = re.compile(rf"[à-ï]{_SIGN}{{2}}|(?:[\x82\x83‚ƒ]\S){{2,}}")
_MISREAD_AS_CP932 = re.compile(r"[縺繧繝]\S|[\u4e00-\u9fff][\uff61-\uff9f]{1,2}")


def _n_misread(text: str) -> int:
    """Characters of misread runs. U+FFFD and control characters are counted elsewhere."""
    found = 0
    if any(mark in text for mark in "ãæçåè‚ƒ\x82\x83"):
        found += sum(len(m[0]) - len(_BROKEN_SIGNS.findall(m[0])) for m in _MISREAD.finditer(text))
    if sum(map(text.count, "縺繧繝")) >= 3:
        found += sum(len(m[0]) for m in _MISREAD_AS_CP932.finditer(text))
    return found


_BROKEN_SIGNS = re.compile(r"[\ufffd\x80-\x9f]")


def score(document: Document, blocks: Sequence[Block]) -> Quality:
    """Judge `blocks` (those kept for search) of `document`."""
    text = "\n".join(block.text for block in blocks)
    counts = np.bincount(_classes(text), minlength=6)
    n_chars = int(counts.sum() - counts[_SPACE])
    whole = max(n_chars, 1)
    lines = [line for line in (raw.strip() for raw in text.split("\n")) if line]
    repeats = sum(n - 1 for line, n in Counter(lines).items() if len(line) > 3)
    broken = min(1.0, (int(counts[_BROKEN]) + _n_misread(text)) / whole)
    found = {
        "mojibake": broken,
        "symbols": float(counts[_SYMBOL]) / whole,
        "repeated_lines": repeats / max(len(lines), 1),
        "ocr_confidence": _confidence(document),
    }
    total, reasons = _overall(n_chars, found)
    return Quality(
        n_chars=n_chars,
        japanese=float(counts[_JAPANESE]) / whole,
        letters=float(counts[_JAPANESE] + counts[_LETTER]) / whole,
        mean_line=sum(map(len, lines)) / max(len(lines), 1),
        score=total,
        reasons=reasons,
        **found,
    )


def _overall(n_chars: int, found: dict[str, float | None]) -> tuple[float, tuple[str, ...]]:
    """One factor per weakness, multiplied; a weakness that costs more than a tenth is a reason."""
    if n_chars == 0:
        return 0.0, ("empty",)
    confidence = found["ocr_confidence"]
    factors = {
        "mojibake": max(0.0, 1 - 3 * found["mojibake"]),
        "symbols": 1 - max(0.0, found["symbols"] - 0.4) / 0.6,  # tables of figures and code hold up to 40 %
        "repeated_lines": 1 - max(0.0, found["repeated_lines"] - 0.5),  # forms repeat themselves
        "ocr_confidence": 1.0 if confidence is None else min(1.0, confidence / 0.8),
        "short": min(1.0, 0.5 + n_chars / 40),
    }
    total = 1.0
    for factor in factors.values():
        total *= factor
    return round(max(0.0, min(1.0, total)), 4), tuple(name for name, factor in factors.items() if factor < 0.9)


def _confidence(document: Document) -> float | None:
    try:
        return min(1.0, max(0.0, float(document.meta["ocr_confidence"])))
    except (KeyError, ValueError):
        return None


def _classes(text: str) -> NDArray[np.uint8]:
    """One class per character."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return _table()[np.minimum(codes, 0xFFFF)]


@cache
def _table() -> NDArray[np.uint8]:
    """Classes of the basic plane; everything above shares the last entry's place (rare kanji, emoji)."""
    table = np.empty(0x10000, dtype=np.uint8)
    for code in range(0x10000):
        table[code] = _class_of(chr(code))
    table[0xFFFF] = _JAPANESE
    return table


def _class_of(char: str) -> int:
    category = unicodedata.category(char)
    if char in "\n\t\r\f" or category[0] == "Z":
        return _SPACE
    if char == "\ufffd" or category in ("Cc", "Cs", "Co", "Cn"):
        return _BROKEN
    if "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uff66" <= char <= "\uff9f" or char in "々〆":
        return _JAPANESE
    return {"L": _LETTER, "M": _LETTER, "N": _DIGIT}.get(category[0], _SYMBOL)
