"""Pieces of a block: where to cut a long one, what a piece keeps, and where a quote stands.

A piece is a block too: its text is a slice, its place and lines are narrowed, and
`piece.text == document.text[piece.place.start:piece.place.end]` still holds. Blocks with printed lines
are only cut between lines, so that the text in a piece's boxes is the piece's text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from hagane.core.types import Block, Box, Line, Place

Span = tuple[int, int]
Measure = Callable[[str], int]

_BREAKS = re.compile(r"[。．！？!?、，,；;：:）)」』\]｜|\s]")


def cut_spans(block: Block, sentences: Sequence[Span], *, target: int, most: int, measure: Measure) -> list[Span]:
    """Where to cut `block.text`: spans of whole sentences, about equal, each at most `most`.

    A sentence that is itself too large is cut at a comma, else at a space, else anywhere. Spans of a
    block with lines are whole lines and overlap where a sentence ends within a line.
    """
    text = block.text
    spans = _group(text, _atoms(text, sentences, target, measure), target, most, measure)
    if not block.lines:
        return spans
    lines = _line_spans(block)
    widened = [_widen(span, lines) for span in spans]
    if any(measure(text[start:end]) > most for start, end in widened):
        return _group(text, _atoms(text, lines, target, measure), target, most, measure)
    return widened


def _atoms(text: str, spans: Sequence[Span], target: int, measure: Measure) -> list[tuple[Span, int]]:
    """Each span with its size, over-large ones cut to at most `target`."""
    atoms: list[tuple[Span, int]] = []
    for start, end in spans:
        size = measure(text[start:end])
        while size > target and end - start > 1:
            at = _break(text, start, end, target, measure)
            atoms.append(((start, at), measure(text[start:at])))
            start = at
            size = measure(text[start:end])
        atoms.append(((start, end), size))
    return atoms


def _break(text: str, start: int, end: int, target: int, measure: Measure) -> int:
    """The best place to cut behind, not farther than `target`; always moves on."""
    low, high = start + 1, min(end - 1, start + 2 * target + 4)
    while low < high:  # the last place whose text still fits
        middle = (low + high + 1) // 2
        if measure(text[start:middle]) <= target:
            low = middle
        else:
            high = middle - 1
    half = start + max(1, (low - start) // 2)
    breaks = [match.end() for match in _BREAKS.finditer(text, half, low)]
    return breaks[-1] if breaks else low


def _group(text: str, atoms: Sequence[tuple[Span, int]], target: int, most: int, measure: Measure) -> list[Span]:
    """Join atoms to about equal spans near `target`."""
    total = sum(size for _, size in atoms)
    goal = total / max(1, -(-total // target))
    spans: list[Span] = []
    size = 0
    for (start, end), cost in atoms:
        joins = bool(spans) and size + cost / 2 <= goal and measure(text[spans[-1][0] : end]) <= most
        if joins:
            spans[-1] = (spans[-1][0], end)
            size += cost
        else:
            spans.append((start, end))
            size = cost
    return spans


def _line_spans(block: Block) -> list[Span]:
    """The lines as spans of the block's text; what stands between two lines goes with the one before."""
    base = block.place.start or 0
    starts = sorted({min(max(line.start - base, 0), len(block.text)) for line in block.lines} | {0})
    ends = [*starts[1:], len(block.text)]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end > start]


def _widen(span: Span, lines: Sequence[Span]) -> Span:
    touched = [line for line in lines if line[0] < span[1] and line[1] > span[0]]
    return (min(span[0], touched[0][0]), max(span[1], touched[-1][1])) if touched else span


def narrow(block: Block, start: int, end: int) -> Block:
    """The piece of `block` between two offsets into its text."""
    if (start, end) == (0, len(block.text)):
        return block
    base = block.place.start or 0
    lines = tuple(line for line in block.lines if line.start < base + end and line.end > base + start)
    place = replace(block.place, start=base + start, end=base + end)
    if lines:
        place = replace(place, page=lines[0].page, box=_union(lines, lines[0].page))
    reading = None if block.reading is None else _reading_of(block, start, end)
    return replace(block, text=block.text[start:end], place=place, reading=reading, lines=lines)


def locate(block: Block, start: int, end: int) -> tuple[Place, str]:
    """Where the characters `start` to `end` of `block.text` stand, and the quote that stands there.

    With printed lines the quote is widened to whole lines of one page, so that it is the text in the
    box; a table row is quoted whole; else the quote is exact.
    """
    if block.kind == "row":
        return block.place, block.text
    base = block.place.start or 0
    lines = [line for line in block.lines if line.start < base + end and line.end > base + start]
    if lines:
        page = max({line.page for line in lines}, key=lambda p: (_overlap(lines, p, base + start, base + end), -p))
        lines = [line for line in lines if line.page == page]
        start = max(0, min(line.start for line in lines) - base)
        end = min(len(block.text), max(line.end for line in lines) - base)
        place = replace(block.place, page=page, box=_union(lines, page), start=base + start, end=base + end)
    else:
        place = replace(block.place, start=base + start, end=base + end)
    return place, block.text[start:end]


def _overlap(lines: Sequence[Line], page: int, start: int, end: int) -> int:
    return sum(min(line.end, end) - max(line.start, start) for line in lines if line.page == page)


def _union(lines: Sequence[Line], page: int) -> Box:
    boxes = [line.box for line in lines if line.page == page]
    return (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))


# --- the reading of a piece -----------------------------------------------------------------------

_MARKUP = re.compile(r"\]\([^)\s]*(?:\s[^)]*)?\)|<[^>\n]*>|\{\{.*?\}\}")


def _reading_of(block: Block, start: int, end: int) -> str | None:
    """The part of a reading that belongs to a piece of the text.

    A reading that is the text without its markup can be aligned letter by letter; of any other (a row
    with its headers) no part can be told, and the piece is read as it stands.
    """
    reading = block.reading or ""
    skipped = [match.span() for match in _MARKUP.finditer(block.text)]
    for skip in (skipped, []):
        ends = _align(block.text, reading, skip, (start, end))
        if ends is not None:
            return reading[ends[0] : ends[1]].strip()
    return None


def _align(text: str, reading: str, skipped: Sequence[Span], offsets: Span) -> Span | None:
    """Offsets into `text` as offsets into `reading`, if reading is text with pieces left out."""
    hidden = iter(skipped)
    hide = next(hidden, (len(text), len(text)))
    at = 0
    found: dict[int, int] = {}
    for index, char in enumerate(text):
        if index in offsets:
            found[index] = at
        if index >= hide[1]:
            hide = next(hidden, (len(text), len(text)))
        while at < len(reading) and reading[at].isspace():
            at += 1
        if index < hide[0] and at < len(reading) and reading[at] == char:
            at += 1
    if reading[at:].strip():
        return None
    return found.get(offsets[0], at), found.get(offsets[1], len(reading))
