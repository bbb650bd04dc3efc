"""What a reader gets to read: whole passages under their headings, best first, as many as the budget takes.

A passage that does not fit is cut to neighbouring sentences around its best one, as readers saw in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hagane.core.types import Chunk, Passage

from .answer_choose import Scored
from .answer_evidence import harmless
from .answer_support import Unit

_ASIDE = frozenset({"header", "footer", "navigation", "meta"})
LEAST = 80  # characters; a shorter rest of the budget shows nothing of a passage
MOST_HEADING = 80


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage, or a part of it, as a reader model gets it. `passage`: its place among the passages."""

    passage: int
    heading: str
    text: str


def pick(scored: Sequence[Scored], passages: Sequence[Passage], *, n_chars: int) -> list[Shown]:
    """The passages in their order, up to `n_chars` characters of text in all; those without any sentence are left out."""
    found: list[Shown] = []
    left = n_chars
    for number, passage in enumerate(passages):
        here = [one for one in scored if one.unit.passage == number]
        if not here or (found and left < LEAST):
            continue
        whole = _whole(passage.chunk)
        text = whole if len(whole) <= left else _around(here, left)
        if text:
            found.append(Shown(number, _heading(passage.chunk), text))
            left -= len(text)
    return found


def _whole(chunk: Chunk) -> str:
    """A passage as it is read, on one line, without what stands around every page."""
    return harmless("\n".join(block.spoken for block in chunk.blocks if block.kind not in _ASIDE))


def _heading(chunk: Chunk) -> str:
    """The document's title and the nearest heading, where they differ."""
    parts = [chunk.title, *chunk.headings[-1:]]
    return harmless(" ".join(dict.fromkeys(part for part in parts if part.strip())))[:MOST_HEADING]


def _around(here: Sequence[Scored], n_chars: int) -> str:
    """Neighbouring sentences around the best one, at most `n_chars`; the best one is cut when it alone is longer."""
    best = max(range(len(here)), key=lambda at: here[at].score)
    first = last = best
    size = len(here[best].unit.text)
    while True:
        before = len(here[first - 1].unit.text) if first else n_chars
        behind = len(here[last + 1].unit.text) if last + 1 < len(here) else n_chars
        if min(before, behind) + size + 1 > n_chars:
            break
        if behind <= before:
            last, size = last + 1, size + behind + 1
        else:
            first, size = first - 1, size + before + 1
    return harmless(_joined([one.unit for one in here[first : last + 1]]))[:n_chars]


def _joined(units: Sequence[Unit]) -> str:
    text = ""
    for unit in units:
        gap = "" if not text or text.endswith(("。", "！", "？")) else " "
        text += gap + unit.text
    return text
