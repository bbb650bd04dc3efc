"""Does a generated sentence stand in the passage that it cites? Words, numbers and negation are compared.

A sentence passes when every number in it occurs in the cited piece, when the piece holds at least `support` of its
words, those of the question left aside, and when it does not deny what the piece does not deny.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hagane.core.seams import Analyzer
from hagane.core.text import for_search

from .answer_evidence import Evidence, content

_MARK = re.compile(r"[\[［]\s*([0-9０-９]{1,3})\s*[\]］]")
_NUMBER = re.compile(r"[0-9]+(?:[.,:/][0-9]+)*")
_KANJI_NUMBER = re.compile(r"[一二三四五六七八九十百千万]+(?=[年月日時分人名個件回台円割週歳才枚])")
_DENIES = re.compile(r"(?:ない|ません|不可|禁止|無効|不要|ぬ)(?!と?か)|\bnot\b|\bnever\b|\bno\b|n't\b")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence without its marks, the piece that supports it (None: nothing does), and why not."""

    text: str
    by: Evidence | None
    why: str = ""  # numbers, words, denial, empty


def check(sentence: str, evidence: Sequence[Evidence], *, question: str, analyzer: Analyzer, support: float) -> Verdict:
    """Judge one sentence. Cited pieces are tried first; a sentence without a mark, or with a wrong one, is given to
    the piece that holds most of it: a weak model's number is not trusted, its words are compared."""
    marks = [int(for_search(mark)) for mark in _MARK.findall(sentence)]
    text = _MARK.sub("", sentence).strip()
    words = content(text, analyzer)
    if not any(letter.isalpha() for word in words for letter in word):  # "1. 1." says nothing
        return Verdict(text, None, "empty")
    order = sorted(evidence, key=lambda e: (e.number not in marks, -len(words & e.terms), e.number))
    why = "words"
    for piece in order:
        why = _why_not(text, words, piece, question=question, analyzer=analyzer, support=support)
        if not why:
            return Verdict(text, piece)
    return Verdict(text, None, why)


def _why_not(text: str, words: set[str], piece: Evidence, *, question: str, analyzer: Analyzer, support: float) -> str:
    missing = numbers(text) - numbers(piece.text)
    if missing:
        return "numbers"
    new = words - content(question, analyzer)
    if new and len(new & piece.terms) / len(new) < support:
        return "words"
    if len(words & piece.terms) / len(words) < support:
        return "words"
    return "denial" if bool(_DENIES.search(for_search(text))) > bool(_DENIES.search(for_search(piece.text))) else ""


def numbers(text: str) -> set[str]:
    """The numbers of a text, thousands separators left out; those written in kanji before a counter too."""
    key = for_search(text)
    found = {match.replace(",", "") for match in _NUMBER.findall(key)}
    return found | set(_KANJI_NUMBER.findall(key))
