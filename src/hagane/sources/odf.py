"""OpenDocument text and presentations: headings, lists, tables with merged cells, slides.

Source: OpenDocument 1.3 part 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..core.errors import SourceError
from ..core.types import Aside, Blob, Document
from .archive import Package
from .build import Builder, fold
from .detect import MEDIA
from .grid import Cell, add_table
from .limits import Budget, Limits
from .text import heading_level
from .xmltree import Element, attribute, child, local, parse

_DEEPEST = 100
_GONE = frozenset(
    {"tracked-changes", "annotation-end", "sequence-decls", "note-citation", "ruby-text", "title", "desc"}
)
_WIDEST = 200


class OdfParser:
    """One document; in presentations page n is slide n."""

    def __init__(self, *, limits: Limits, budget: Budget | None = None) -> None:
        self._limits = limits
        self._budget = budget

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, encrypted, empty, hostile, too_large."""
        with Package(blob.file, limits=self._limits, budget=self._budget) as package:
            if "META-INF/manifest.xml" in package and _is_encrypted(parse(package.read("META-INF/manifest.xml"))):
                raise SourceError("it is protected by a password", reason="encrypted")
            body = child(parse(package.read("content.xml")), "body")
            meta = _meta(parse(package.read("meta.xml"))) if "meta.xml" in package else {}
        walker = _Walker()
        for kind in body if body is not None else ():
            walker.walk(kind, 0, -1)
        slides = body is not None and child(body, "presentation") is not None
        yield walker.made.document(
            blob,
            media=MEDIA["odp" if slides else "odt"],
            limits=self._limits,
            title=meta.pop("title", ""),
            pages=max(1, walker.page or 1),
            meta=meta,
        )


def _is_encrypted(manifest: Element) -> bool:
    return any(local(element) == "encryption-data" for element in manifest.iter())


def _meta(tree: Element) -> dict[str, str]:
    names = {"title": "title", "creator": "author", "date": "date", "subject": "subject"}
    found = {names[local(e)]: fold(e.text or "") for e in tree.iter() if local(e) in names}
    return {key: value for key, value in found.items() if value}


class _Walker:
    def __init__(self) -> None:
        self.made = Builder()
        self.page: int | None = None

    def walk(self, element: Element, depth: int, listed: int) -> None:
        """Appends everything below `element`; `listed` is the depth of the list it stands in, -1 for none."""
        if depth > _DEEPEST:
            raise SourceError("its XML is nested too deeply", reason="hostile")
        for part in element:
            name = local(part)
            if name in _GONE:
                continue
            if name == "page":
                self.page = (self.page or 0) + 1
            if name in ("h", "p"):
                self._paragraph(part, listed)
            elif name == "table":
                cells = _cells(part)
                add_table(self.made, cells, page=self.page)
            elif name == "notes":
                self.walk(part, depth + 1, -1)
            else:
                self.walk(part, depth + 1, listed + (name == "list"))

    def _paragraph(self, element: Element, listed: int) -> None:
        text = _text(element)
        given = attribute(element, "outline-level") or ""
        level = int(given) if given.isdecimal() else 1
        if local(element) == "h":
            self.made.add("heading", text, level=max(1, min(6, level)), page=self.page)
        elif listed >= 0:
            self.made.add("list_item", text, level=min(9, listed), page=self.page)
        elif level_by_hand := heading_level(text):
            self.made.add("heading", text, level=level_by_hand, page=self.page)
        else:
            self.made.add("paragraph", text, reading=fold(text), page=self.page)
        for part in element.iter():
            if local(part) in ("text-box", "note-body", "annotation"):
                self.walk(part, 1, -1)


def _text(element: Element) -> str:
    pieces: list[str] = []
    _collect(element, pieces)
    return "\n".join(line for piece in "".join(pieces).split("\v") if (line := fold(piece)))


def _collect(element: Element, pieces: list[str]) -> None:
    pieces.append(element.text or "")
    for part in element:
        name = local(part)
        if name in ("s", "tab"):
            pieces.append(" ")
        elif name == "line-break":
            pieces.append("\v")
        elif name not in _GONE and name not in ("text-box", "note", "annotation", "frame"):
            _collect(part, pieces)
        pieces.append(part.tail or "")


def _cells(table: Element) -> list[Cell]:
    cells = []
    rows = [row for row in table.iter() if local(row) == "table-row"]
    for number, row in enumerate(rows):
        column = 0
        for cell in row:
            if local(cell) not in ("table-cell", "covered-table-cell"):
                continue
            text = fold("\n".join(_text(p) for p in cell.iter() if local(p) in ("p", "h")))
            if text and local(cell) == "table-cell":
                tall, wide = (_count(attribute(cell, key)) for key in ("number-rows-spanned", "number-columns-spanned"))
                cells.append(Cell(number, column, text, tall, wide))
            column += _count(attribute(cell, "number-columns-repeated"))
    return cells


def _count(value: str | None) -> int:
    return max(1, min(int(value), _WIDEST)) if value and value.isdecimal() else 1
