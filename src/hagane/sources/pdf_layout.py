"""Segments to lines and tables in reading order: columns side by side, tables, stray cells.

A page is laid out frame by frame (see `pdf_chars`): the frame with most signs first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.types import Box
from .pdf_chars import ACROSS, DOWN, Char, Rule, View, in_frame, moved
from .pdf_lines import Segment, Wall, bands, segments, union, width_of
from .pdf_tables import Grid, Table, grids, headers, open_table, ruled_table

Gap = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PrintedLine:
    """A line of running text. `left` and `right` are the edges of its column, in its frame."""

    text: str
    box: Box
    u0: float
    v0: float
    u1: float
    v1: float
    size: float
    bold: bool
    left: float
    right: float
    confidence: float = 1.0


Item = PrintedLine | Table


def page_items(chars: Sequence[Char], rules: Sequence[Rule], view: View) -> list[Item]:
    """Everything written on a page, in reading order."""
    by_frame: dict[int, list[Char]] = {}
    for char in _upright_pairs(chars, view):
        by_frame.setdefault(char.frame, []).append(char)
    items: list[Item] = []
    for frame in sorted(by_frame, key=lambda f: -sum(not c.text.isspace() for c in by_frame[f])):
        found = grids(_in_frame(rules, frame, view)) if frame == ACROSS else []
        walls = [Wall(rule.x0, rule.y0, rule.y1) for grid in found for rule in grid.upright]
        items += arrange(_with_tables(segments(by_frame[frame], walls), found), down=frame == DOWN)
    return items


def _in_frame(rules: Sequence[Rule], frame: int, view: View) -> list[Rule]:
    return [Rule(*in_frame((r.x0, r.y0, r.x1, r.y1), frame, view)) for r in rules]


def _upright_pairs(chars: Sequence[Char], view: View) -> list[Char]:
    """縦中横: a few signs set across inside a column belong to the column."""
    columns = [c for c in chars if c.vertical]
    if len(columns) * 2 < sum(not c.text.isspace() for c in chars):
        return list(chars)
    found: list[Char] = []
    at = 0
    while at < len(chars):
        end = at
        while end < len(chars) and chars[end].frame == ACROSS and not (end > at and chars[end].fresh):
            end += 1
        run = [c for c in chars[at:end] if not c.text.isspace()]
        if run and len(run) <= 4 and at and chars[at - 1].frame == DOWN and _stands_under(run, chars[at - 1]):
            box = union(c.box for c in run)
            whole = Char("".join(c.text for c in run), box, DOWN, run[0].size, run[0].bold, True, False, False, *box)
            found.append(moved(whole, DOWN, view))
        else:
            found += chars[at:end]
        if end == at:
            found.append(chars[at])
            end += 1
        at = end
    return found


def _stands_under(run: Sequence[Char], last: Char) -> bool:
    x0, y0, x1, _ = union(c.box for c in run)
    return abs(x0 + x1 - last.box[0] - last.box[2]) < last.size and -1 < y0 - last.box[3] < last.size


def _with_tables(parts: list[Segment], found: Sequence[Grid]) -> list[Segment]:
    """The segments, those inside a grid replaced by one that holds the table."""
    for grid in found:
        x0, y0, x1, y1 = grid.box
        inside = [s for s in parts if x0 <= (s.u0 + s.u1) / 2 <= x1 and y0 <= (s.v0 + s.v1) / 2 <= y1 and not s.table]
        table = ruled_table(grid, inside) if inside else None
        if table is not None:
            names = {id(s) for s in inside}
            holder = Segment("", grid.box, x0, y0, x1, y1, inside[0].size, False, table)
            parts = [s for s in parts if id(s) not in names] + [holder]
    return parts


def arrange(parts: Sequence[Segment], *, down: bool = False) -> list[Item]:
    """Reading order of one region: groups of columns, tables and single lines from the first to the last."""
    if not parts:
        return []
    lines = bands(parts)
    left, right = min(s.u0 for s in parts), max(s.u1 for s in parts)
    items: list[Item] = []
    at = 0
    while at < len(lines):
        end, gutters = _group(lines, at, left, right, strict=False)
        columns = _split(lines[at:end], gutters)
        if gutters and all(_is_prose(column, down) for column in columns):
            items += [item for column in columns for item in arrange(column, down=down)]
            at = end
            continue
        end, gutters = _group(lines, at, left, right, strict=True)
        if gutters:
            items += _table_or_list(lines[at:end], gutters, left, right)
            at = end
            continue
        items += _flat(lines[at], left, right)
        at += 1
    return items


def _flat(band: Sequence[Segment], left: float, right: float) -> list[Item]:
    """A band without alignment to its neighbours: its segments one after the other, on one line."""
    items: list[Item] = [s.table for s in band if s.table is not None]
    written = [s for s in band if s.table is None]
    if written:
        items.append(line_of(written, left, right))
    return items


def line_of(band: Sequence[Segment], left: float, right: float) -> PrintedLine:
    text = band[0].text
    for last, part in itertools.pairwise(band):
        text += ("\t" if part.u0 - last.u1 > 2.5 * part.size else " ") + part.text
    return PrintedLine(
        text, union(s.box for s in band),
        min(s.u0 for s in band), min(s.v0 for s in band), max(s.u1 for s in band), max(s.v1 for s in band),
        max(s.size for s in band), all(s.bold for s in band), left, right,
    )  # fmt: skip


def _free(band: Sequence[Segment], left: float, right: float) -> list[Gap]:
    gaps: list[Gap] = []
    at = left - 1000
    for part in band:
        if part.u0 > at:
            gaps.append((at, part.u0))
        at = max(at, part.u1)
    gaps.append((at, right + 1000))
    return gaps


def _common(a: Sequence[Gap], b: Sequence[Gap], least: float) -> list[Gap]:
    found = []
    for a0, a1 in a:
        for b0, b1 in b:
            low, high = max(a0, b0), min(a1, b1)
            if high - low >= least:
                found.append((low, high))
    return found


def _inner(gaps: Sequence[Gap], lines: Sequence[Sequence[Segment]], n: int) -> list[Gap]:
    """The gaps that have writing on both sides in at least n bands each."""
    return [
        gap
        for gap in gaps
        if _at_least(n, (band[0].u1 <= gap[0] + 0.1 for band in lines))
        and _at_least(n, (band[-1].u0 >= gap[1] - 0.1 for band in lines))
    ]


def _at_least(n: int, claims: Iterable[bool]) -> bool:
    for claim in claims:
        n -= claim
        if n <= 0:
            return True
    return False


def _group(
    lines: Sequence[Sequence[Segment]], at: int, left: float, right: float, *, strict: bool
) -> tuple[int, list[Gap]]:
    """The longest run of bands from `at` that shares a gutter, and its gutters ([] when there is none).
    Strict: the run ends where it would lose a gutter (one table ends, another begins)."""
    sizes = sorted(s.size for band in lines for s in band)
    least = 0.8 * sizes[len(sizes) // 2]
    if any(s.table is not None for s in lines[at]) or not _starts_side_by_side(lines, at):
        return at, []
    gaps = _common(_free(lines[at], left, right), [(left - 999, right + 999)], least)
    end, kept = at + 1, _inner(gaps, lines[at : at + 1], 1)
    while end < len(lines) and not any(s.table is not None for s in lines[end]):
        narrower = _common(gaps, _free(lines[end], left, right), least)
        inner = _inner(narrower, lines[at : end + 1], 1)
        loses = len(inner) < len(kept) and (strict or not inner) and end - at > 1
        if loses or (not inner and kept) or _far_below(lines, end):
            break
        gaps, kept = narrower, inner
        end += 1
    both = _inner(gaps, lines[at:end], 2)
    return (end, both) if end - at >= 2 and kept and both else (at, [])


def _starts_side_by_side(lines: Sequence[Sequence[Segment]], at: int) -> bool:
    if len(lines[at]) > 1 or at + 1 == len(lines):
        return len(lines[at]) > 1
    first, second = lines[at][0], lines[at + 1][0]
    return (first.u1 < second.u0 or second.u1 < first.u0) and second.v0 < first.v1


def _far_below(lines: Sequence[Sequence[Segment]], end: int) -> bool:
    """Is the next band so far away that it is something else?"""
    space = min(s.v0 for s in lines[end]) - max(s.v1 for s in lines[end - 1])
    return space > 4.0 * max(s.height for s in lines[end - 1])


def _split(lines: Sequence[Sequence[Segment]], gutters: Sequence[Gap]) -> list[list[Segment]]:
    columns: list[list[Segment]] = [[] for _ in range(len(gutters) + 1)]
    for band in lines:
        for part in band:
            columns[sum((part.u0 + part.u1) / 2 > (low + high) / 2 for low, high in gutters)].append(part)
    return columns


def _table_or_list(lines: Sequence[Sequence[Segment]], gutters: Sequence[Gap], left: float, right: float) -> list[Item]:
    columns = _split(lines, gutters)
    if len(columns) == 2 and all(_is_marker(s.text) for s in columns[0]):
        return [item for band in lines for item in _flat(band, left, right)]
    return _open_tables(lines, [(low + high) / 2 for low, high in gutters], left, right)


def _open_tables(lines: Sequence[Sequence[Segment]], middles: Sequence[float], left: float, right: float) -> list[Item]:
    """A table; a line of its own in the first column (a caption inside it) parts it."""
    items: list[Item] = []
    names: list[str] | None = None
    run: list[Sequence[Segment]] = []

    def close() -> None:
        nonlocal run, names
        if len(run) == 1:
            items.append(line_of(run[0], left, right))
        elif run:
            table = open_table(run, middles)
            own = headers(table)
            table.names, table.named = own or names, own is not None
            names = table.names
            items.append(table)
        run = []

    for band in lines:
        alone = len(band) == 1 and (not middles or band[0].u0 < middles[0])
        if alone:
            close()
            items.append(line_of(band, left, right))
        else:
            run.append(band)
    close()
    return items


def _is_prose(column: Sequence[Segment], down: bool) -> bool:
    """Running text fills its column; cells do not. Vertical writing stands in tiers, not in tables."""
    lines = bands(column)
    if len(lines) < 3 or down:
        return len(lines) >= 3
    left, right = min(s.u0 for s in column), max(s.u1 for s in column)
    fills = sorted(sum(s.u1 - s.u0 for s in band) / max(1.0, right - left) for band in lines)
    widths = sorted(sum(width_of(s.text) for s in band) for band in lines)
    return fills[len(fills) // 2] > 0.6 and widths[len(widths) // 2] >= 8


def _is_marker(text: str) -> bool:
    return len(text) <= 4 and not text.isalpha()


def lines_of(items: Iterable[Item]) -> list[PrintedLine]:
    """All printed lines, those of tables included."""
    found: list[PrintedLine] = []
    for item in items:
        if isinstance(item, PrintedLine):
            found.append(item)
        else:
            found += [line_of(band, band[0].u0, band[-1].u1) for row in item.rows for band in row.lines]
    return found
