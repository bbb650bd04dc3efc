"""Characters to segments (unbroken runs of writing) and segments to bands (what stands side by side).

Everything here works in one frame: writing runs along u, lines follow each other along v.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.types import Box
from .pdf_chars import Char

_GAP = 1.05  # of the size: a wider gap parts two segments
_WIDE = "\u3000"


def is_cjk(char: str) -> bool:
    return (
        "\u2e80" <= char <= "\ud7ff"
        or "\uf900" <= char <= "\ufaff"
        or "\uff00" <= char <= "\uffef"
        or char > "\U0001ffff"
    )


@dataclass(slots=True)
class Segment:
    """A run of writing; or, with `table` set, the place of a table in the flow."""

    text: str
    box: Box
    u0: float
    v0: float
    u1: float
    v1: float
    size: float
    bold: bool
    table: Any = None
    markers: int = field(default=0)

    @property
    def height(self) -> float:
        return self.v1 - self.v0


@dataclass(frozen=True, slots=True)
class Wall:
    """A printed line across the writing: no segment goes through it."""

    u: float
    v0: float
    v1: float


def union(boxes: Iterable[Box]) -> Box:
    sides = list(zip(*boxes, strict=True))
    return min(sides[0]), min(sides[1]), max(sides[2]), max(sides[3])


def glue(left: str, right: str) -> str:
    """What stands between two pieces of one paragraph: a blank between words, nothing in Japanese."""
    if not left or not right or left[-1].isspace() or right[0].isspace():
        return ""
    if is_cjk(left[-1]) or is_cjk(right[0]):
        return ""
    if left[-1] == "-" and len(left) > 1 and left[-2].isalpha() and right[0].islower():
        return ""
    return " "


def _between(last: Char, char: Char, spaced: bool) -> str:
    gap = char.u0 - last.u1
    if spaced:
        return " " if gap > 0.08 * char.size or not is_cjk(char.text) else ""
    both = is_cjk(last.text[-1]) and is_cjk(char.text[0])
    return " " if gap > (0.9 if both else 0.22) * max(char.size, last.size) else ""


def _joins(last: Char, char: Char, walls: Sequence[Wall]) -> bool:
    size = max(last.size, char.size)
    if abs(char.v1 - last.v1) > 0.35 * size and abs(char.v0 + char.v1 - last.v0 - last.v1) > 0.5 * size:
        return False
    gap = char.u0 - last.u1
    if not -0.6 * size <= gap <= _GAP * size:
        return False
    middle = (char.v0 + char.v1) / 2
    return not any(last.u1 - 1 <= wall.u <= char.u0 + 1 and wall.v0 <= middle <= wall.v1 for wall in walls)


def _segment(run: list[tuple[Char, str]]) -> Segment | None:
    while run and run[0][0].text == _WIDE:
        run = run[1:]
    while run and run[-1][0].text == _WIDE:
        run = run[:-1]
    if not run:
        return None
    signs = [char for char, _ in run]
    text = signs[0].text + "".join(space + char.text for char, space in run[1:])
    weights: dict[float, int] = {}
    for char in signs:
        weights[round(char.size, 1)] = weights.get(round(char.size, 1), 0) + 1
    return Segment(
        text=text, box=union(char.box for char in signs),
        u0=min(c.u0 for c in signs), v0=min(c.v0 for c in signs),
        u1=max(c.u1 for c in signs), v1=max(c.v1 for c in signs),
        size=max(weights, key=lambda size: (weights[size], size)),
        bold=sum(c.bold for c in signs) * 2 > len(signs),
    )  # fmt: skip


def segments(chars: Sequence[Char], walls: Sequence[Wall]) -> list[Segment]:
    """Runs of writing in the order of the file, then joined with their neighbours on the same line."""
    found: list[Segment] = []
    run: list[tuple[Char, str]] = []
    spaced = False

    def close() -> None:
        nonlocal run
        segment = _segment(run)
        if segment is not None:
            found.append(segment)
        run = []

    for char in chars:
        if char.text.isspace() and char.text != _WIDE:
            spaced = True
            continue
        spaced = spaced or char.spaced
        if run and char.box == run[-1][0].box:  # one glyph for several signs, as in "fi"
            run.append((char, ""))
        elif run and _joins(run[-1][0], char, walls):
            run.append((char, _between(run[-1][0], char, spaced)))
        else:
            close()
            run = [(char, "")]
        spaced = False
    close()
    return _merge(found, walls)


def bands(parts: Iterable[Segment]) -> list[list[Segment]]:
    """Segments that stand side by side, from the first line to the last, each from left to right."""
    found: list[tuple[float, float, list[Segment]]] = []
    for part in sorted(parts, key=lambda s: (s.v0 + s.v1) / 2):
        for at in range(len(found) - 1, max(-1, len(found) - 4), -1):
            v0, v1, members = found[at]
            overlap = min(v1, part.v1) - max(v0, part.v0)
            if overlap > 0.5 * min(v1 - v0, part.height):
                members.append(part)
                break
        else:
            found.append((part.v0, part.v1, [part]))
    return [sorted(members, key=lambda s: s.u0) for _, _, members in found]


def _merge(parts: list[Segment], walls: Sequence[Wall]) -> list[Segment]:
    merged: list[Segment] = []
    for band in bands(parts):
        current = band[0]
        for part in band[1:]:
            gap = part.u0 - current.u1
            size = max(part.size, current.size)
            middle = (part.v0 + part.v1) / 2
            walled = any(current.u1 - 1 <= w.u <= part.u0 + 1 and w.v0 <= middle <= w.v1 for w in walls)
            if walled or not -0.3 * size <= gap <= 0.5 * size:
                merged.append(current)
                current = part
                continue
            space = " " if gap > 0.22 * size and not (is_cjk(current.text[-1]) and is_cjk(part.text[0])) else ""
            longer = current if len(current.text) >= len(part.text) else part
            current = Segment(
                current.text + space + part.text, union((current.box, part.box)),
                min(current.u0, part.u0), min(current.v0, part.v0), max(current.u1, part.u1), max(current.v1, part.v1),
                longer.size, longer.bold,
            )  # fmt: skip
        merged.append(current)
    return merged


def width_of(text: str) -> float:
    """How wide a text is, in full-width signs."""
    return sum(1.0 if unicodedata.east_asian_width(char) in "WF" else 0.5 for char in text)
