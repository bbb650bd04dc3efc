"""The characters of a PDF page, in points of the page as shown (crop box and rotation applied).

pdfium gives boxes in PDF user space (origin bottom left, before rotation); here they become boxes
with the origin top left, each in the *frame* in which its writing runs: `ACROSS` (left to right),
`DOWN` (vertical columns, or a quarter turn clockwise), `BACK` (upside down), `UP` (a quarter turn
counter-clockwise). Inside a frame writing runs along u and lines follow each other along v.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pypdfium2.raw as pdfium

from ..core.types import Box

ACROSS, DOWN, BACK, UP = 0, 1, 2, 3
_DROPPED = frozenset("\x00\ufeff\u00ad\u200b\r\n")
_HYPHENS = frozenset("\ufffe\x02")  # pdfium's marks for a hyphen at a line's end
_SHIFTED = frozenset("、。，．ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ")  # stand off the middle of a column
_MAX_CHARS = 400_000  # of one page; above that it is not a page that somebody reads
_MAX_SEGMENTS = 20_000


@dataclass(frozen=True, slots=True)
class Char:
    """One character: `box` as shown, `u0..v1` the same box in its frame, `size` in points."""

    text: str
    box: Box
    frame: int
    size: float
    bold: bool
    vertical: bool  # upright signs in a column (a vertical font)
    fresh: bool  # pdfium saw a new line before it
    spaced: bool  # pdfium saw a blank before it that is not in the file
    u0: float
    v0: float
    u1: float
    v1: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight printed line parallel to an edge of the page, as shown."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def is_flat(self) -> bool:
        return abs(self.y1 - self.y0) < abs(self.x1 - self.x0)


class View:
    """How a page is shown: user space to points from the top left corner."""

    def __init__(self, page: Any) -> None:
        self.left, self.bottom, self.right, self.top = page.get_bbox()
        self.rotation = page.get_rotation() % 360
        self.width, self.height = page.get_size()

    def point(self, x: float, y: float) -> tuple[float, float]:
        if self.rotation == 90:
            return y - self.bottom, x - self.left
        if self.rotation == 180:
            return self.right - x, y - self.bottom
        if self.rotation == 270:
            return self.top - y, self.right - x
        return x - self.left, self.top - y

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        ax, ay = self.point(x0, y0)
        bx, by = self.point(x1, y1)
        return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)


def in_frame(box: Box, frame: int, view: View) -> Box:
    """A box as shown, as (u0, v0, u1, v1) of a frame."""
    x0, y0, x1, y1 = box
    if frame == DOWN:
        return y0, view.width - x1, y1, view.width - x0
    if frame == BACK:
        return view.width - x1, view.height - y1, view.width - x0, view.height - y0
    if frame == UP:
        return view.height - y1, x0, view.height - y0, x1
    return box


def moved(char: Char, frame: int, view: View) -> Char:
    """The same character seen in another frame."""
    u0, v0, u1, v1 = in_frame(char.box, frame, view)
    return replace(char, frame=frame, u0=u0, v0=v0, u1=u1, v1=v1)


def _is_bold(weight: int, name: str, cache: dict[str, bool]) -> bool:
    if name not in cache:
        low = name.lower()
        cache[name] = any(mark in low for mark in ("bold", "black", "heavy", "-b+", "w6", "w7", "w8"))
    return cache[name] or weight >= 600


def chars(textpage: Any, view: View) -> list[Char]:
    """All characters of a text page in the order of the file; generated ones are left out."""
    count = textpage.count_chars()
    raw = textpage.raw
    found: list[Char] = []
    bold_names: dict[str, bool] = {}
    high, fresh, spaced = 0, True, False
    for at in range(min(count, _MAX_CHARS)):
        code = pdfium.FPDFText_GetUnicode(raw, at)
        if pdfium.FPDFText_IsGenerated(raw, at) == 1 and code in (32, 13, 10):
            fresh, spaced = fresh or code != 32, spaced or code == 32
            continue
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000 and high:
            code, high = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00), 0
        text = chr(code) if not 0xD800 <= code < 0xE000 else ""
        text = "-" if text in _HYPHENS else text
        if not text or text in _DROPPED:
            continue
        char = _char(raw, at, text, view, bold_names)
        if char is not None:
            found.append(replace(char, fresh=fresh, spaced=spaced) if fresh or spaced else char)
            fresh = spaced = False
    return _stacked(found, view)


def _stacked(found: list[Char], view: View) -> list[Char]:
    """Runs of signs set below each other are columns, whatever their font says."""
    start = 0
    for at in range(1, len(found) + 1):
        if at < len(found) and _follows_down(found[at - 1], found[at]):
            continue
        run = found[start:at]
        if len(run) >= 2 and run[-1].box[1] - run[0].box[1] <= 1.3 * run[0].size * (len(run) - 1):
            found[start:at] = _as_column(run, view)
        start = at
    return found


def _follows_down(last: Char, char: Char) -> bool:
    """Is the sign below the last one? Commas and full stops are set to the right and a little up."""
    if last.frame != ACROSS or char.frame != ACROSS or char.fresh or ord(char.text) < 0x2E80:
        return False
    aside, down = abs(char.box[0] - last.box[0]), char.box[1] - last.box[1]
    if char.text in _SHIFTED or last.text in _SHIFTED:
        return aside < 0.8 * char.size and 0.4 * char.size < down < 2.0 * char.size
    return aside < 0.15 * char.size and 0.7 * char.size < down < 2.1 * char.size


def _as_column(run: list[Char], view: View) -> list[Char]:
    column = [replace(moved(char, DOWN, view), vertical=True) for char in run]
    steady = [char for char in column if char.text not in _SHIFTED] or column
    middle = sorted(steady, key=lambda char: char.v0)[len(steady) // 2]
    return [replace(char, v0=middle.v0, v1=middle.v1) for char in column]


def _char(raw: Any, at: int, text: str, view: View, bold_names: dict[str, bool]) -> Char | None:
    rect, matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()
    if not pdfium.FPDFText_GetLooseCharBox(raw, at, rect):
        return None
    scale, angle = 1.0, 0.0
    if pdfium.FPDFText_GetMatrix(raw, at, matrix):
        scale = math.hypot(matrix.c, matrix.d) or 1.0
        angle = math.degrees(math.atan2(matrix.b, matrix.a))
    size = abs(pdfium.FPDFText_GetFontSize(raw, at)) * scale
    ox, oy = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDFText_GetCharOrigin(raw, at, ox, oy)
    box = view.box(rect.left, rect.bottom, rect.right, rect.top)
    if size <= 0.5 or not all(math.isfinite(side) for side in box):
        return None
    # A quarter turn of the writing on the page as shown, counted clockwise.
    turn = round((view.rotation - angle) / 90.0) % 4
    vertical = turn == 0 and _is_vertical(rect, ox.value, size)
    if vertical and view.rotation == 0:  # pdfium's box is twice as wide as the sign
        left = view.point(ox.value, oy.value)[0]
        box = (left, box[1], left + size, box[3])
    if rect.right - rect.left < 0.01 or rect.top - rect.bottom < 0.01:  # a font without measures
        px, py = view.point(ox.value, oy.value)
        box = (px, py - 0.8 * size, px + 0.5 * size, py + 0.2 * size)
    frame = DOWN if vertical else turn
    name = _font_name(raw, at)
    bold = _is_bold(pdfium.FPDFText_GetFontWeight(raw, at), name, bold_names)
    return Char(text, box, frame, size, bold, vertical, False, False, *in_frame(box, frame, view))


def _is_vertical(rect: Any, origin_x: float, size: float) -> bool:
    """In fonts made for columns pdfium's box begins to the left of the sign, in others it begins with it."""
    return origin_x - rect.left > 0.3 * size


def _font_name(raw: Any, at: int) -> str:
    buffer = ctypes.create_string_buffer(128)
    flags = ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(raw, at, buffer, 128, flags)
    return buffer.value.decode("utf-8", "replace")


def give_width(page: Any) -> None:
    """Text in a font that this machine lacks has no width and pdfium would leave it out; drawn as an
    outline it has one. Before the text page is loaded, in memory only."""
    for thing in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_TEXT], max_depth=1):
        left, right = ctypes.c_float(), ctypes.c_float()
        bottom, top = ctypes.c_float(), ctypes.c_float()
        pdfium.FPDFPageObj_GetBounds(thing.raw, left, bottom, right, top)
        if right.value - left.value < 0.05:  # pdfium asks for more than 0.01
            pdfium.FPDFTextObj_SetTextRenderMode(thing.raw, pdfium.FPDF_TEXTRENDERMODE_STROKE)
            pdfium.FPDFPageObj_Transform(thing.raw, 1, 0, 0, 1, 0, 0)  # has its bounds computed again


def rules(page: Any, view: View) -> list[Rule]:
    """Straight lines and the sides of rectangles that are drawn on the page."""
    found: list[Rule] = []
    for thing in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_PATH], max_depth=1):
        for x0, y0, x1, y1 in _segments(thing.raw):
            if len(found) >= _MAX_SEGMENTS:
                return found
            ax, ay = view.point(x0, y0)
            bx, by = view.point(x1, y1)
            if min(abs(ax - bx), abs(ay - by)) < 1.0 and max(abs(ax - bx), abs(ay - by)) > 4.0:
                found.append(Rule(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)))
    return found


def _segments(path: Any) -> Iterator[tuple[float, float, float, float]]:
    count = pdfium.FPDFPath_CountSegments(path)
    if count > 400:  # a drawing, not a frame
        return
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(path, matrix)
    start = last = None
    for at in range(count):
        segment = pdfium.FPDFPath_GetPathSegment(path, at)
        x, y = ctypes.c_float(), ctypes.c_float()
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        here = (
            matrix.a * x.value + matrix.c * y.value + matrix.e,
            matrix.b * x.value + matrix.d * y.value + matrix.f,
        )
        kind = pdfium.FPDFPathSegment_GetType(segment)
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            start = here
        elif kind == pdfium.FPDF_SEGMENT_LINETO and last is not None:
            yield (*last, *here)
        if pdfium.FPDFPathSegment_GetClose(segment) and start is not None:
            yield (*here, *start)
        last = here
