"""Plain text: paragraphs by blank lines, and the headings that Japanese writers mark by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..core.types import Aside, Blob, Block, Document, Place
from .build import fold, sliced
from .decode import decode
from .files import read_bytes
from .limits import Limits

__all__ = ["TextParser", "decode", "heading_level", "is_item", "is_numbered", "text_blocks"]

_NUMBER = r"[0-9０-９一二三四五六七八九十百]+"
_ARTICLE = re.compile(rf"第{_NUMBER}(編|部|章|節|款|条|項)(?:の{_NUMBER})?(?=$|[\s　（(「:：])")
_LEVELS = {"編": 1, "部": 1, "章": 2, "節": 3, "款": 4, "条": 4, "項": 5}
_DECIMAL = re.compile(r"(\d{1,2}(?:[.．]\d{1,2}){0,4})[.．]?[\s　]+\S")
_MARKED = re.compile(r"[■◆●□◇◎▼★＊]\s*\S|【[^】]+】$|〔[^〕]+〕$|＜[^＞]+＞$")
_NAMED = re.compile(r"(?:附則|付則|別表|別紙|前文|目次|はじめに|おわりに|まとめ)(?:$|[\s　0-9０-９一二三（(])")
_ITEM = re.compile(
    r"[・•‣◦–-][\s　]*\S|[*+][ \t]+\S|[(（][0-9０-９一二三四五六七八九十アイウエオa-z]{1,3}[)）]|[①-⑳]|[ア-オ][\s　.．)）]"
)
_SENTENCE_ENDS = ("。", "、", "，", ",", "．", ";", "；")
_LONGEST_HEADING = 45
_LONGEST_NUMBERED = 25


def heading_level(line: str) -> int:
    """1 to 6 when `line` (without outer blanks) reads as a heading, else 0."""
    if len(line) > _LONGEST_HEADING or line.endswith(_SENTENCE_ENDS):
        return 0
    if match := _ARTICLE.match(line):
        return _LEVELS[match[1]]
    if _NAMED.match(line):
        return 2
    if _MARKED.match(line):
        return 3
    if match := _DECIMAL.match(line):
        depth = match[1].replace("．", ".").count(".") + 1
        return min(6, depth) if depth > 1 else 0
    return 0


def is_numbered(line: str) -> bool:
    """True for "1. 目的": a heading when it stands alone, an item among its like."""
    match = _DECIMAL.match(line)
    return match is not None and "." not in match[1] and "．" not in match[1]


def is_item(line: str) -> bool:
    """True when `line` (without outer blanks) begins like an item of a list."""
    return bool(_ITEM.match(line))


class TextParser:
    """The decoded file is the document's text; blocks are slices of it."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError empty, too_large, unsupported."""
        text, codec = decode(read_bytes(blob))
        title = ""
        blocks = text_blocks(text)
        if blocks and blocks[0].kind == "title":
            title = blocks[0].text
        yield sliced(blob, text, blocks, media="text/plain", limits=self._limits, title=title, meta={"encoding": codec})


def text_blocks(text: str) -> list[Block]:
    """Headings, items and paragraphs of plain text, as slices of it."""
    blocks: list[Block] = []
    run: list[tuple[int, str]] = []  # lines of the paragraph being read: offset, line
    at = 0
    before, lines = "", text.split("\n")
    for number, line in enumerate(lines):
        shown = line.strip()
        level = heading_level(shown) if shown else 0
        numbered = bool(shown) and not level and is_numbered(shown)
        if numbered and len(shown) <= _LONGEST_NUMBERED and not shown.endswith(_SENTENCE_ENDS):
            after = lines[number + 1].strip() if number + 1 < len(lines) else ""
            level = 0 if is_numbered(before) or is_numbered(after) else 2
        alone = bool(level) or numbered or (bool(shown) and is_item(shown))
        before = shown
        if not shown or alone or (run and line[:1] in ("　", "\t")):
            _paragraph(blocks, run)
        if alone:
            _append(blocks, "heading" if level else "list_item", text, at, at + len(line), level)
        elif shown:
            run.append((at, line))
        at += len(line) + 1
    _paragraph(blocks, run)
    return _titled(text, blocks)


def _paragraph(blocks: list[Block], run: list[tuple[int, str]]) -> None:
    if run:
        start, (last, line) = run[0][0], run[-1]
        body = "\n".join(line for _, line in run)
        _append(blocks, "paragraph", body, start, last + len(line), 0, offset=start)
        run.clear()


def _append(blocks: list[Block], kind: str, text: str, start: int, end: int, level: int, *, offset: int = 0) -> None:
    piece = text[start - offset : end - offset]
    start += len(piece) - len(piece.lstrip())
    piece = piece.strip()
    reading = fold(piece) if "\n" in piece else None
    blocks.append(Block(kind, piece, Place(start=start, end=start + len(piece)), level, reading))  # type: ignore[arg-type]


def _titled(text: str, blocks: list[Block]) -> list[Block]:
    """A short first line that stands alone, or is set off by leading blanks, is the title."""
    if len(blocks) < 2 or blocks[0].kind != "paragraph":
        return blocks
    first = blocks[0]
    if "\n" in first.text or len(first.text) > _LONGEST_HEADING or first.text.endswith((*_SENTENCE_ENDS, ":", "：")):
        return blocks
    return [Block("title", first.text, first.place), *blocks[1:]]
