"""Printed lines and tables of all pages to blocks: headings, paragraphs, list items, rows, running titles.

The document's text is the block texts joined by newlines; a block never leaves its page or column.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..core.text import squeeze
from ..core.types import Block, BlockKind, Box, Line, Place
from .pdf_layout import Item, PrintedLine, line_of
from .pdf_lines import Segment, glue, is_cjk, union
from .pdf_tables import Table, reading

_MARGIN = 0.12  # of the page's height: where running titles stand
_SENTENCE_END = ("。", "．", ".", "！", "？", "!", "?", "」", "）。")
_NUMERAL = "[0-9０-９一二三四五六七八九十百〇]+"
_ARTICLE = re.compile(rf"第\s*{_NUMERAL}\s*(編|部|章|節|款|条)(の{_NUMERAL})?(?![のにをはがで])")
_DECIMAL = re.compile(r"(\d{1,2}(?:[.．]\d{1,2}){1,4})[.．]?[\s　]+\S|(\d{1,2})[\s　]+\S")
_SIGNED = re.compile(r"附\s*則|別表|別紙|様式|【[^】]{1,30}】$|[■◆▼][^。]{1,40}$")
_CAPTION = re.compile(r"（[^（）]{1,20}）$")  # above an article, names it
_LEVELS = {"編": 1, "部": 1, "章": 1, "節": 2, "款": 3, "条": 3}
_BULLET = re.compile(
    r"[・·•●○◯▪◦‣※–\-*][\s　]*\S|[（(](?:\d{1,2}|[０-９]{1,2}|[一二三四五六七八九十]{1,3}|[a-zア-ン])[)）]"
    r"|[①-⑳]|\d{1,2}[.)．）][\s　]*(?!\d)\S|[ア-ン][.．)）]|[一二三四五六七八九十]{1,2}[、．](?![一二三四五六七八九十])"
)
_PAGE_NUMBER = re.compile(
    r"[-–—―\s]*(?:page|p\.?|頁)?\s*(?:\d{1,4}|[ivxlc]{1,6})(?:\s*(?:/|／|of)\s*\d{1,4})?\s*(?:ページ|頁)?[-–—―\s]*",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page as laid out. `scanned`: its lines come from OCR, sizes are rough."""

    number: int
    width: float
    height: float
    items: Sequence[Item]
    scanned: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    text: str
    blocks: tuple[Block, ...]


class _Writer:
    """Collects blocks and the text that they are parts of."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.length = 0
        self.blocks: list[Block] = []

    def add(
        self, kind: BlockKind, lines: Sequence[PrintedLine], page: int, *,
        level: int = 0, reading: str | None = None, mark: str | None = None,
    ) -> None:  # fmt: skip
        """One block of these lines; `mark` stands between them (None: what running text needs)."""
        start = self.length
        if self.blocks:
            self.pieces.append("\n")
            start += 1
        text, spans = "", []
        for line in lines:
            between = (glue(text, line.text) if mark is None else mark) if text else ""
            text += between
            spans.append(Line(start + len(text), start + len(text) + len(line.text), page, _rounded(line.box)))
            text += line.text
        at = start + len(text)
        self.pieces.append(text)
        self.length = at
        box = _rounded(union(line.box for line in lines))
        if reading == text:
            reading = None
        self.blocks.append(
            Block(kind, text, Place(page=page, box=box, start=start, end=at), level, reading, tuple(spans))
        )


def _rounded(box: Box) -> Box:
    return round(box[0], 2), round(box[1], 2), round(box[2], 2), round(box[3], 2)


def write(sheets: Sequence[Sheet]) -> Written:
    """All pages as blocks, with the text they are parts of."""
    writer = _Writer()
    sheets = [_with_lines_apart(sheet) for sheet in sheets]
    running = _running(sheets)
    body = _body_size(sheets)
    ranks = _size_ranks(sheets, body)
    titled = False
    for sheet in sheets:
        groups = list(_groups(sheet, running))
        for at, group in enumerate(groups):
            if isinstance(group, Table):
                _write_table(writer, group, sheet, running)
                continue
            kind, level = _kind_of(group, sheet, body, ranks, running)
            if kind == "paragraph" and _names_article(groups[at : at + 2]):
                kind, level = "heading", 3
            if kind == "heading" and not titled and sheet is sheets[0]:
                kind = "title" if _is_title(group, body, ranks) else kind
                titled = True
            writer.add(kind, group, sheet.number, level=0 if kind == "title" else level)
    return Written("".join(writer.pieces), tuple(writer.blocks))


def _with_lines_apart(sheet: Sheet) -> Sheet:
    """Closely set lines have boxes that overlap a little: part them in the middle, so that a box holds
    nothing of the lines above and below it. Sizes of scans are rough; their boxes stay."""
    if sheet.scanned:
        return sheet
    named = [item for item in sheet.items if isinstance(item, PrintedLine)]
    parts = [
        s for item in sheet.items if isinstance(item, Table) for row in item.rows for band in row.lines for s in band
    ]
    whole: list[PrintedLine | Segment] = [*named, *parts]
    order = sorted(range(len(whole)), key=lambda at: whole[at].box[1])
    boxes = [list(thing.box) for thing in whole]
    for place, at in enumerate(order):
        for below in order[place + 1 : place + 40]:
            upper, lower = whole[at].box, whole[below].box
            if lower[1] > upper[3] + 1:
                break
            height = min(upper[3] - upper[1], lower[3] - lower[1])
            beside = lower[0] >= upper[2] or upper[0] >= lower[2]
            overlap = upper[3] - lower[1]
            if beside or overlap > 0.4 * height or overlap < -0.1 * height:
                continue
            middle = (upper[3] + lower[1]) / 2
            boxes[at][3] = min(boxes[at][3], middle - 0.1 * height)
            boxes[below][1] = max(boxes[below][1], middle + 0.1 * height)
    cut = {id(thing): (b[0], b[1], b[2], b[3]) for thing, b in zip(whole, boxes, strict=True)}
    for part in parts:
        part.box = cut[id(part)]
    items = [replace(item, box=cut[id(item)]) if isinstance(item, PrintedLine) else item for item in sheet.items]
    return replace(sheet, items=items)


def _names_article(pair: Sequence[list[PrintedLine] | Table]) -> bool:
    """（目的） above 第1条."""
    if len(pair) < 2 or isinstance(pair[0], Table) or isinstance(pair[1], Table):
        return False
    return len(pair[0]) == 1 and bool(_CAPTION.match(pair[0][0].text) and _ARTICLE.match(pair[1][0].text))


def _write_table(writer: _Writer, table: Table, sheet: Sheet, running: dict[int, BlockKind]) -> None:
    for at, row in enumerate(table.rows):
        lines = [line_of(band, band[0].u0, band[-1].u1) for band in row.lines]
        is_names = at == 0 and table.named
        kind: BlockKind = running.get(id(row), "row")
        told = None if is_names else reading(row, table.names)
        writer.add(kind, lines, sheet.number, reading=told, mark="\n")


def _key(text: str) -> str:
    return re.sub(r"[\d０-９]+", "#", squeeze(text))


def _in_margin(sheet: Sheet) -> Iterator[tuple[int, str, BlockKind, Box]]:
    """(id, text, header or footer, box) of what is written near the upper and lower edge."""
    for item in sheet.items:
        written = (
            [(id(item), item.text, item.box)]
            if isinstance(item, PrintedLine)
            else [
                (id(row), " ".join(row.cells), union(part.box for band in row.lines for part in band))
                for row in item.rows
            ]
        )
        for name, text, box in written:
            middle = (box[1] + box[3]) / 2 / max(1.0, sheet.height)
            if middle < _MARGIN:
                yield name, text, "header", box
            elif middle > 1 - _MARGIN:
                yield name, text, "footer", box


def _running(sheets: Sequence[Sheet]) -> dict[int, BlockKind]:
    """Running titles and page numbers by the id of their line or row."""
    found: dict[int, BlockKind] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for sheet in sheets:
        seen.update({(_key(text), kind) for _, text, kind, _ in _in_margin(sheet)})
    enough = max(2, round(0.4 * len(sheets)))
    for sheet in sheets:
        lowest = max((item.box[3] for item in sheet.items if isinstance(item, PrintedLine)), default=0.0)
        for name, text, kind, box in _in_margin(sheet):
            repeated = len(sheets) > 1 and seen[_key(text), kind] >= enough
            alone = kind == "header" or box[3] >= lowest - 1
            if repeated or (
                alone and _PAGE_NUMBER.fullmatch(text.strip()) and not (kind == "header" and sheet.scanned)
            ):
                found[name] = kind
    return found


def _body_size(sheets: Sequence[Sheet]) -> float:
    """The size in which most is printed; table cells count when there is nothing else."""
    weights: Counter[float] = Counter()
    for sheet in sheets:
        for item in sheet.items:
            if isinstance(item, PrintedLine):
                weights[round(item.size * 2) / 2] += len(item.text)
            else:
                for row in item.rows:
                    for band in row.lines:
                        for part in band:
                            weights[round(part.size * 2) / 2] += len(part.text) // 2
    return weights.most_common(1)[0][0] if weights else 10.0


def _size_ranks(sheets: Sequence[Sheet], body: float) -> list[float]:
    """Sizes clearly above the body's, largest first."""
    sizes = {
        round(item.size * 2) / 2
        for sheet in sheets
        for item in sheet.items
        if isinstance(item, PrintedLine) and item.size > 1.12 * body and len(item.text) <= 100
    }  # fmt: skip
    return sorted(sizes, reverse=True)


def _groups(sheet: Sheet, running: dict[int, BlockKind]) -> Iterator[list[PrintedLine] | Table]:
    """Paragraphs (lines that belong together) and tables, in order."""
    for run in _runs(sheet, running):
        if isinstance(run, Table):
            yield run
            continue
        right = max(line.u1 for line in run) if len(run) > 1 else run[0].right
        group = [run[0]]
        for line in run[1:]:
            if _begins_paragraph(group, line, right):
                yield group
                group = []
            group.append(line)
        yield group


def _runs(sheet: Sheet, running: dict[int, BlockKind]) -> Iterator[list[PrintedLine] | Table]:
    """Lines below each other in one column, of one size, without a wide gap."""
    gaps = sorted(
        b.v0 - a.v1
        for a, b in zip(sheet.items, sheet.items[1:], strict=False)
        if isinstance(a, PrintedLine) and isinstance(b, PrintedLine) and -0.5 * a.size < b.v0 - a.v1 < 1.5 * a.size
    )
    usual = gaps[len(gaps) // 3] if gaps else 0.0
    run: list[PrintedLine] = []
    for item in sheet.items:
        if isinstance(item, Table):
            if run:
                yield run
            run = []
            yield item
            continue
        if run and _breaks(run[-1], item, usual, sheet, running):
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def _breaks(last: PrintedLine, line: PrintedLine, usual: float, sheet: Sheet, running: dict[int, BlockKind]) -> bool:
    size = max(last.size, line.size)
    if id(last) in running or id(line) in running:
        return True
    if abs(last.left - line.left) > 1 or abs(last.right - line.right) > 1 or line.v0 < last.v0 + 0.2 * size:
        return True
    if line.v0 - last.v1 > usual + (0.6 if sheet.scanned else 0.4) * size:
        return True
    if abs(last.size - line.size) > (0.35 if sheet.scanned else 0.08) * size:
        return True
    return last.bold != line.bold and (len(last.text) < 60 or len(line.text) < 60)


def _begins_paragraph(group: Sequence[PrintedLine], line: PrintedLine, right: float) -> bool:
    first, last = group[0], group[-1]
    if _BULLET.match(line.text) or _ARTICLE.match(line.text) or _SIGNED.match(line.text):
        return True
    if _SIGNED.match(last.text) and len(group) == 1:
        return True
    aside = line.u0 - first.u0
    if aside > 6 * line.size or aside < -3 * line.size or (len(group) > 1 and line.u0 < last.u0 - 1.5 * line.size):
        return True
    if _BULLET.match(first.text):
        if line.u0 < first.u0 + 0.3 * line.size and last.u1 < right - 2.5 * line.size:
            return True
    elif line.u0 > last.u0 + 0.7 * line.size and not (len(group) == 1 and _ARTICLE.match(first.text)):
        return True
    if last.text.endswith(("、", ",", "-")):
        return False
    word = re.match(r"\S+", line.text)
    first_word = word.group() if word and not is_cjk(line.text[0]) else line.text[0]
    width = (line.u1 - line.u0) / max(1, len(line.text)) * (len(first_word) + 1)
    slack = right - last.u1
    if last.text.endswith(_SENTENCE_END):
        return slack > max(width, 1.8 * line.size)
    return slack > max(width + line.size, 2.5 * line.size, 0.2 * (right - first.u0))


def _kind_of(
    group: Sequence[PrintedLine], sheet: Sheet, body: float, ranks: Sequence[float], running: dict[int, BlockKind]
) -> tuple[BlockKind, int]:
    first = group[0]
    if id(first) in running:
        return running[id(first)], 0
    text = "".join(line.text for line in group)
    ends = text.endswith(_SENTENCE_END)
    size = round(first.size * 2) / 2
    large = size in ranks and len(group) <= 3 and len(text) <= 100
    short = len(group) == 1 and len(text) <= 60 and not ends
    if (large or short) and (level := _numbered_level(text, large or first.bold)):
        return "heading", level
    if large and not (ends and len(text) > 40):
        return "heading", min(3, 1 + ranks.index(size))
    if short and first.bold and first.size >= 0.95 * body and not text.endswith(("、", ",")):
        return "heading", min(4, len(ranks) + 1)
    if _BULLET.match(text):
        return "list_item", 0
    return "paragraph", 0


def _numbered_level(text: str, stands_out: bool) -> int:
    """The level that the numbering of a heading tells; 0 when there is none."""
    article = _ARTICLE.match(text)
    if article and len(text) <= 40:
        return _LEVELS[article.group(1)]
    if _SIGNED.match(text):
        return 1 if text[0] in "附別様" else 3
    decimal = _DECIMAL.match(text)
    if decimal and decimal.group(1):
        return min(6, decimal.group(1).replace("．", ".").count(".") + 1)
    return 1 if decimal and stands_out else 0


def _is_title(group: Sequence[PrintedLine], body: float, ranks: Sequence[float]) -> bool:
    size = round(group[0].size * 2) / 2
    return bool(ranks) and size == ranks[0] and size >= 1.2 * body and not _DECIMAL.match(group[0].text)
