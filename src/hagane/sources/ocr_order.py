"""What OCR found on a page, put into reading order: tilt taken out, ruby dropped, columns from the right.

Boxes come as quadrangles; each becomes a segment in the frame in which its writing runs, and the page is
then laid out as printed text is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.types import Box
from .pdf_chars import ACROSS, DOWN
from .pdf_layout import Item, arrange
from .pdf_lines import Segment, width_of

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]  # clockwise from the upper left
_KANA = re.compile(r"[ぁ-ゖァ-ヺー・\s]+")
_TALL = 1.5  # higher than wide by this: a column
_RUBY = 0.62  # of the size of the line that it explains


@dataclass(frozen=True, slots=True)
class Found:
    """One piece of writing as OCR gives it; `quad` in the units of the page."""

    text: str
    quad: Quad
    confidence: float  # 0..1

    @property
    def box(self) -> Box:
        xs, ys = [p[0] for p in self.quad], [p[1] for p in self.quad]
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height along its own edges."""
        a, b, c, d = self.quad
        return (math.dist(a, b) + math.dist(d, c)) / 2, (math.dist(a, d) + math.dist(b, c)) / 2


def in_order(found: Sequence[Found]) -> list[Item]:
    """Lines and tables in reading order. The writing direction with more signs comes first."""
    found = [piece for piece in found if piece.text.strip()]
    halves = _spread(found)
    if halves:
        left, right = halves
        first, second = (right, left) if _runs_down(found) else (left, right)
        return _page_in_order(first) + _page_in_order(second)
    return _page_in_order(found)


def _spread(found: Sequence[Found]) -> tuple[list[Found], list[Found]] | None:
    """The two pages of an open book: a wide sheet with an empty strip in the middle and text on both sides."""
    if len(found) < 10:
        return None
    x0, x1 = min(f.box[0] for f in found), max(f.box[2] for f in found)
    y0, y1 = min(f.box[1] for f in found), max(f.box[3] for f in found)
    width = x1 - x0
    if width < 1.15 * (y1 - y0):
        return None
    edges = sorted((f.box[0], f.box[2]) for f in found)
    reach, strips = edges[0][1], []
    for left, right in edges[1:]:
        if left - reach > 0.04 * width and 0.35 < ((left + reach) / 2 - x0) / width < 0.65:
            strips.append((left - reach, (left + reach) / 2))
        reach = max(reach, right)
    if not strips:
        return None
    middle = max(strips)[1]
    halves = [f for f in found if f.box[2] <= middle], [f for f in found if f.box[0] >= middle]
    return halves if all(_is_page(half) for half in halves) else None


def _is_page(half: Sequence[Found]) -> bool:
    """Lines of text, not cells: most signs stand in long lines."""
    if len(half) < 5:
        return False
    return sum(len(f.text) for f in half if len(f.text) >= 12) * 2 > sum(len(f.text) for f in half)


def _runs_down(found: Sequence[Found]) -> bool:
    return 2 * sum(len(f.text) for f in found if _is_column(f)) > sum(len(f.text) for f in found)


def _page_in_order(found: Sequence[Found]) -> list[Item]:
    frames: dict[int, list[Found]] = {ACROSS: [], DOWN: []}
    mainly_down = _runs_down(found)
    for piece in found:
        short = len(piece.text) <= 2 and not _is_column(piece)
        down = _is_column(piece) or (mainly_down and short and _in_a_column(piece, found))
        frames[DOWN if down else ACROSS].append(piece)
    tilt = _tilt(frames[ACROSS], frames[DOWN])
    items: list[Item] = []
    for frame in sorted(frames, key=lambda f: -sum(len(piece.text) for piece in frames[f])):
        parts = _without_ruby([_segment(piece, frame, tilt) for piece in frames[frame]])
        _even_sizes(parts)
        items += arrange(parts, down=frame == DOWN)
    return items


def _is_column(piece: Found) -> bool:
    width, height = piece.sides
    return height > _TALL * width and len(piece.text) > 1


def _in_a_column(piece: Found, found: Sequence[Found]) -> bool:
    """Does a short piece go on a column, above or below?"""
    x0, y0, x1, y1 = piece.box
    for other in found:
        if not _is_column(other):
            continue
        a0, b0, a1, b1 = other.box
        width = a1 - a0
        if abs(x0 + x1 - a0 - a1) < width and min(abs(y0 - b1), abs(b0 - y1)) < 1.5 * width:
            return True
    return False


def _tilt(across: Sequence[Found], down: Sequence[Found]) -> float:
    """The angle (radians) by which the page was put askew; 0 when it cannot be told or is not small."""
    angles: list[float] = []
    for piece in across:
        (ax, ay), (bx, by) = piece.quad[0], piece.quad[1]
        if piece.sides[0] > 5 * piece.sides[1]:
            angles.append(math.atan2(by - ay, bx - ax))
    for piece in down:
        (ax, ay), (dx, dy) = piece.quad[0], piece.quad[3]
        if piece.sides[1] > 5 * piece.sides[0]:
            angles.append(math.atan2(ax - dx, dy - ay))
    if len(angles) < 3:
        return 0.0
    middle = sorted(angles)[len(angles) // 2]
    return middle if abs(middle) < math.radians(12) else 0.0


def _segment(piece: Found, frame: int, tilt: float) -> Segment:
    cos, sin = math.cos(-tilt), math.sin(-tilt)
    cx = sum(p[0] for p in piece.quad) / 4
    cy = sum(p[1] for p in piece.quad) / 4
    x, y = cx * cos - cy * sin, cx * sin + cy * cos
    width, height = piece.sides
    if frame == DOWN:
        u0, v0, u1, v1 = y - height / 2, -x - width / 2, y + height / 2, -x + width / 2
    else:
        u0, v0, u1, v1 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    # A detector's box stands off the signs a little: about a fifth of its height.
    size = min(0.82 * (v1 - v0), 1.25 * (u1 - u0) / max(0.5, width_of(piece.text)))
    return Segment(piece.text, piece.box, u0, v0, u1, v1, size, False)


def _without_ruby(parts: list[Segment]) -> list[Segment]:
    """Ruby is kana in small print just before the line that it explains (above it, or to its right)."""
    return [part for part in parts if not (_KANA.fullmatch(part.text) and any(_explains(part, o) for o in parts))]


def _explains(small: Segment, line: Segment) -> bool:
    if line is small or small.height > _RUBY * line.height or len(small.text) > len(line.text):
        return False
    beside = -0.5 * line.height < line.v0 - small.v1 < 0.5 * line.height and small.v0 < line.v0
    return beside and small.u0 > line.u0 - line.height and small.u1 < line.u1 + line.height


def _even_sizes(parts: list[Segment]) -> None:
    """Sizes measured on boxes scatter: what is near the usual size is the usual size."""
    sizes = sorted(part.size for part in parts for _ in range(max(1, len(part.text) // 4)))
    if not sizes:
        return
    usual = sizes[len(sizes) // 2]
    for part in parts:
        part.size = usual if 0.7 * usual < part.size < 1.35 * usual else round(part.size * 2) / 2 or part.size
