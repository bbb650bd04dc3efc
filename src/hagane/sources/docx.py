"""DOCX by its XML: headings by style and outline, lists with their automatic numbers, tables with
merged cells, text boxes, footnotes, comments; tracked changes as they will be when accepted.

Source: ECMA-376 part 1, 17.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..core.errors import SourceError
from ..core.types import Aside, Blob, BlockKind, Document
from .archive import Package
from .build import Builder, fold
from .detect import MEDIA
from .grid import Cell, add_table
from .limits import Budget, Limits
from .numbering import Numbering
from .ooxml import Link, core_meta, relations
from .text import heading_level
from .xmltree import Element, attribute, child, local, parse

_HEADING_NAME = re.compile(r"(?:heading|見出し|章見出し)\s*([1-9])", re.IGNORECASE)
_TITLE_NAMES = frozenset({"title", "表題", "題名", "タイトル"})
_LIST_NAME = re.compile(r"(?:list|箇条書き|段落番号|リスト)", re.IGNORECASE)
_LONGEST_BOLD = 45
_GONE = frozenset({"del", "moveFrom", "Fallback", "rt", "instrText", "delText", "pPr", "rPr", "sectPr"})
_BREAKS = {"tab": "\t", "br": "\v", "cr": "\v", "noBreakHyphen": "-", "softHyphen": ""}


@dataclass(frozen=True, slots=True)
class _Style:
    name: str = ""
    outline: int | None = None  # 0 to 8
    number: tuple[str, int] | None = None  # list and level


@dataclass(slots=True)
class _Paragraph:
    """What one w:p holds besides its style."""

    pieces: list[str] = field(default_factory=list)
    boxes: list[Element] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)  # part kind, id
    n_breaks_before: int = 0  # rendered page breaks before the first text
    n_breaks: int = 0

    @property
    def text(self) -> str:
        lines = "".join(self.pieces).split("\v")
        return "\n".join(line for piece in lines if (line := fold(piece)))


class DocxParser:
    """One document; pages only where Word left its own page breaks in the file."""

    def __init__(self, *, limits: Limits, budget: Budget | None = None) -> None:
        self._limits = limits
        self._budget = budget

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, encrypted, empty, hostile, too_large."""
        with Package(blob.file, limits=self._limits, budget=self._budget) as package:
            reader = _Reader(package)
            reader.run()
            meta = core_meta(package)
        made = reader.made
        title = next((b.text for b in made.blocks if b.kind == "title"), "") or meta.pop("title", "")
        yield made.document(
            blob, media=MEDIA["docx"], limits=self._limits, title=title, pages=max(1, reader.page or 1), meta=meta
        )


class _Reader:
    def __init__(self, package: Package) -> None:
        self.made = Builder()
        self._package = package
        main = next(
            (link.target for link in relations(package, "").values() if link.kind.endswith("/officeDocument")), ""
        )
        self._main = main if main in package else "word/document.xml"
        self._links = relations(package, self._main)
        self._root = parse(package.read(self._main))
        self._styles = _styles(self._part("styles"))
        self._numbering = Numbering(self._part("numbering"))
        self._notes = {kind: self._bodies(kind) for kind in ("footnote", "endnote", "comment")}
        paged = any(local(e) == "lastRenderedPageBreak" for e in self._root.iter())
        self.page: int | None = 1 if paged else None

    def run(self) -> None:
        """All of it: page headers, body, page footers."""
        self._margins("header")
        body = child(self._root, "body")
        for element in body if body is not None else ():
            self._element(element)
        self._margins("footer")

    def _part(self, kind: str) -> Element | None:
        link = next((link for link in self._links.values() if link.kind.endswith("/" + kind)), None)
        return parse(self._package.read(link.target)) if link and link.target in self._package else None

    def _bodies(self, kind: str) -> dict[str, Element]:
        tree = self._part(kind + "s")
        found = [e for e in tree if local(e) == kind] if tree is not None else []
        return {attribute(e, "id") or "": e for e in found if attribute(e, "type") is None}

    def _margins(self, kind: BlockKind) -> None:
        """Page headers or footers, each different text once."""
        said = set()
        links: list[Link] = [link for link in self._links.values() if link.kind.endswith("/" + kind)]
        for link in sorted(links, key=lambda link: link.target):
            if link.target not in self._package:
                continue
            for element in parse(self._package.read(link.target)).iter():
                if local(element) == "p" and (text := _paragraph(element).text) and text not in said:
                    said.add(text)
                    self.made.add(kind, text, reading=fold(text))

    def _element(self, element: Element) -> None:
        name = local(element)
        if name == "p":
            self._add_paragraph(element)
        elif name == "tbl":
            self._table(element)
        elif name in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag", "AlternateContent", "Choice"):
            for part in element:
                self._element(part)

    def _add_paragraph(self, element: Element) -> None:
        found = _paragraph(element)
        if self.page is not None:
            self.page += found.n_breaks_before
        text = found.text
        if text:
            kind, level, label = self._kind(element, text)
            said = f"{label} {fold(text)}" if label else fold(text)
            self.made.add(kind, text, level=level, reading=said, page=self.page)
        if self.page is not None:
            self.page += found.n_breaks - found.n_breaks_before
        for box in found.boxes:
            for part in box:
                self._element(part)
        for kind, number in found.notes:
            self._note(kind, number)

    def _note(self, kind: str, number: str) -> None:
        body = self._notes[kind].pop(number, None)
        if body is None:
            return
        text = "\n".join(t for p in body.iter() if local(p) == "p" and (t := _paragraph(p).text))
        said = f"コメント: {fold(text)}" if kind == "comment" else f"脚注: {fold(text)}"
        self.made.add("paragraph", text, reading=said, page=self.page)

    def _kind(self, element: Element, text: str) -> tuple[BlockKind, int, str]:
        properties = child(element, "pPr")
        style = self._styles.get(_value(properties, "pStyle"), _Style())
        number = _list_of(properties) or style.number
        label = ""
        if number is not None and number[0] != "0":
            label = self._numbering.label(*number)
        own = _value(properties, "outlineLvl")
        outline = int(own) if own.isdecimal() else style.outline
        if style.name.lower() in _TITLE_NAMES:
            return "title", 0, label
        if outline is not None and outline < 9 and len(text) <= 200:
            return "heading", min(6, outline + 1), label
        if (number is not None and number[0] != "0") or _LIST_NAME.match(style.name):
            return "list_item", number[1] if number else 0, label
        if level := heading_level(text):  # headings set by hand: 第1条（目的）, ■ 概要
            return "heading", level, label
        if len(text) <= _LONGEST_BOLD and not text.endswith(("。", "、", ".", ",", ":", "：")) and _is_bold(element):
            return "heading", 3, label
        return "paragraph", 0, label

    def _table(self, table: Element) -> None:
        cells, n_header = _cells(table)
        if max((cell.column for cell in cells), default=0) == 0:  # one column: a frame around text
            for row in _inside(table, "tr"):
                for part in (e for cell in _inside(row, "tc") for e in cell):
                    self._element(part)
            return
        add_table(self.made, cells, n_header=n_header or None, page=self.page)
        for element in table.iter():
            if local(element) == "lastRenderedPageBreak" and self.page is not None:
                self.page += 1
            for kind in ("footnote", "endnote", "comment"):
                if local(element) == kind + "Reference":
                    self._note(kind, attribute(element, "id") or "")


def _styles(tree: Element | None) -> dict[str, _Style]:
    raw = {attribute(e, "styleId") or "": e for e in (tree if tree is not None else ()) if local(e) == "style"}
    return {key: _resolve(key, raw, 0) for key in raw}


def _resolve(key: str, raw: dict[str, Element], depth: int) -> _Style:
    """A style with what it inherits."""
    element = raw.get(key)
    if element is None or depth > 20:
        return _Style()
    base = _resolve(_value(element, "basedOn"), raw, depth + 1)
    name = _value(element, "name")
    properties = child(element, "pPr")
    given = _value(properties, "outlineLvl")
    match = _HEADING_NAME.fullmatch(name.strip()) or _HEADING_NAME.fullmatch(key)
    outline = int(given) if given.isdecimal() else (int(match[1]) - 1 if match else base.outline)
    return _Style(name, outline, _list_of(properties) or base.number)


def _value(element: Element | None, name: str) -> str:
    found = child(element, name)
    return "" if found is None else attribute(found, "val") or ""


def _list_of(properties: Element | None) -> tuple[str, int] | None:
    numbered = child(properties, "numPr")
    if numbered is None:
        return None
    level = _value(numbered, "ilvl")
    number = _value(numbered, "numId")
    return (number, min(8, int(level)) if level.isdecimal() else 0) if number else None


def _paragraph(element: Element) -> _Paragraph:
    found = _Paragraph()
    _collect(element, found, 0)
    return found


def _collect(element: Element, found: _Paragraph, depth: int) -> None:
    if depth > 200:
        raise SourceError("its XML is nested too deeply", reason="hostile")
    for part in element:
        name = local(part)
        if name in _GONE or not name:
            continue
        if name == "t":
            found.pieces.append(part.text or "")
        elif name in _BREAKS:
            found.pieces.append(_BREAKS[name])
        elif name == "lastRenderedPageBreak":
            found.n_breaks += 1
            found.n_breaks_before += not "".join(found.pieces).strip()
        elif name == "txbxContent":
            found.boxes.append(part)
        elif name in ("footnoteReference", "endnoteReference", "commentReference"):
            found.notes.append((name.removesuffix("Reference"), attribute(part, "id") or ""))
        elif name not in ("footnotePr", "tbl"):
            _collect(part, found, depth + 1)


def _inside(element: Element, name: str) -> Iterator[Element]:
    """Children called `name`, looking through content controls."""
    for part in element:
        if local(part) == name:
            yield part
        elif local(part) in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _inside(part, name)


def _cells(table: Element) -> tuple[list[Cell], int]:
    """The cells with their spans, and how many leading rows the file calls header rows."""
    spans: list[tuple[Element, int, int, int, int]] = []  # cell, row, column, rows, columns
    open_at: dict[int, int] = {}  # column -> index in spans of the vertical merge above
    n_header = row = 0
    for line in _inside(table, "tr"):
        properties = child(line, "trPr")
        if child(properties, "del") is not None:
            continue
        if child(properties, "tblHeader") is not None and n_header == row:
            n_header += 1
        skipped = _value(properties, "gridBefore")
        column = int(skipped) if skipped.isdecimal() else 0
        for cell in _inside(line, "tc"):
            given = child(cell, "tcPr")
            width = _value(given, "gridSpan")
            columns = max(1, min(int(width), 200)) if width.isdecimal() else 1
            merge = child(given, "vMerge")
            if merge is not None and (attribute(merge, "val") or "continue") == "continue" and column in open_at:
                above = spans[open_at[column]]
                spans[open_at[column]] = (above[0], above[1], above[2], row - above[1] + 1, above[4])
            else:
                open_at.pop(column, None)
                if merge is not None:
                    open_at[column] = len(spans)
                spans.append((cell, row, column, 1, columns))
            column += columns
        row += 1
    return [_cell(*span) for span in spans], n_header if n_header < row else 0


def _is_bold(element: Element) -> bool:
    """True when every run with text is set bold by hand."""
    runs = [r for r in element.iter() if local(r) == "r" and any(local(t) == "t" and (t.text or "").strip() for t in r)]
    signs = [child(r, "rPr", "b") for r in runs]
    return bool(runs) and all(sign is not None and attribute(sign, "val") not in ("0", "false") for sign in signs)


def _cell(element: Element, row: int, column: int, rows: int, columns: int) -> Cell:
    texts = [t for p in element.iter() if local(p) == "p" and (t := _paragraph(p).text)]
    shade = child(element, "tcPr", "shd")
    filled = shade is not None and (attribute(shade, "fill") or "auto").lower() not in ("auto", "ffffff")
    return Cell(row, column, fold("\n".join(texts)), rows, columns, is_strong=_is_bold(element) or filled)
