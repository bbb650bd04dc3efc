"""What a model gets to read: a few numbered pieces of the passages, each on one line, as data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hagane.core.seams import Analyzer
from hagane.core.types import Passage

from .answer_choose import Scored
from .answer_support import Unit, own_words

_MARK = re.compile(r"[\[［]\s*([0-9０-９]{1,3})\s*[\]］]")
_FENCE = re.compile(r"<<<|>>>")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One numbered piece: consecutive units of one block. `text` is as the model reads it."""

    number: int
    passage: int
    block: int
    start: int
    end: int
    text: str
    plain: str  # without heading: what sentences are checked against
    terms: frozenset[str]


def gather(
    scored: Sequence[Scored], passages: Sequence[Passage], *, analyzer: Analyzer, n_chars: int
) -> list[Evidence]:
    """The best units with their neighbours in the block, best first, up to `n_chars` characters in all."""
    by_block: dict[tuple[int, int], list[Unit]] = {}
    for one in scored:
        by_block.setdefault((one.unit.passage, one.unit.block), []).append(one.unit)
    found: list[Evidence] = []
    used: set[Unit] = set()
    left = n_chars
    for one in sorted(scored, key=lambda s: (-s.score, s.unit.passage, s.unit.place)):
        if one.unit in used or one.share <= 0:
            continue
        window = _window(one.unit, by_block[one.unit.passage, one.unit.block], used)
        piece = _piece(len(found) + 1, window, passages, analyzer)
        if found and len(piece.text) > left:
            break
        used.update(window)
        left -= len(piece.text)
        found.append(piece)
    return found


def _window(unit: Unit, block: Sequence[Unit], used: set[Unit]) -> list[Unit]:
    """The unit with the sentence before and behind it in its block, as far as they are free."""
    at = block.index(unit)
    window = [unit]
    if at and block[at - 1] not in used:
        window.insert(0, block[at - 1])
    if at + 1 < len(block) and block[at + 1] not in used:
        window.append(block[at + 1])
    return window


def _piece(number: int, window: Sequence[Unit], passages: Sequence[Passage], analyzer: Analyzer) -> Evidence:
    first, last = window[0], window[-1]
    plain = "".join(unit.text if unit.text.endswith(("。", "！", "？")) else f"{unit.text} " for unit in window).strip()
    chunk = passages[first.passage].chunk
    about = chunk.headings[-1] if chunk.headings else chunk.title
    text = f"{about}: {plain}" if about and about not in plain else plain
    terms = frozenset(analyzer.tokens(text)) | frozenset(term for unit in window for term in unit.terms)
    return Evidence(number, first.passage, first.block, first.start, last.end, harmless(text), plain, terms)


def harmless(text: str) -> str:
    """Document text as data in a prompt: one line, no marks `[n]` and no fences of ours."""
    text = _MARK.sub(lambda m: f"({m[1]})", text)
    return " ".join(_FENCE.sub("", text).split())


def shown(evidence: Sequence[Evidence]) -> str:
    """The numbered lines of a prompt."""
    return "\n".join(f"[{piece.number}] {piece.text}" for piece in evidence)


def content(text: str, analyzer: Analyzer) -> set[str]:
    """The terms of a sentence that say something."""
    return set(own_words(text, analyzer))
