"""PPTX by its XML: each slide a page; titles, text, groups, tables, SmartArt, speaker notes.

Source: ECMA-376 part 1, 19 and 21.
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
from .ooxml import Link, core_meta, drawing_text, relations
from .xmltree import Element, attribute, child, local, parse

_TITLES = frozenset({"title", "ctrTitle"})
_MARGINS = frozenset({"ftr", "hdr", "dt"})
_BODIES = frozenset({"body", "obj", ""})


class PptxParser:
    """One document; page n is slide n in the order shown."""

    def __init__(self, *, limits: Limits, budget: Budget | None = None) -> None:
        self._limits = limits
        self._budget = budget

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, encrypted, empty, hostile, too_large."""
        made = Builder()
        hidden = []
        with Package(blob.file, limits=self._limits, budget=self._budget) as package:
            main = next(
                (link.target for link in relations(package, "").values() if link.kind.endswith("/officeDocument")),
                "ppt/presentation.xml",
            )
            links = relations(package, main)
            slides = child(parse(package.read(main)), "sldIdLst")
            n_slides = 0
            for n_slides, slide in enumerate(slides if slides is not None else (), 1):
                if n_slides > self._limits.max_pages:
                    raise SourceError(f"more than {self._limits.max_pages} slides", reason="too_large")
                link = links.get(_relation(slide))
                if link is not None and link.target in package and _Slide(package, link.target, made, n_slides).run():
                    hidden.append(str(n_slides))
            meta = core_meta(package)
        if hidden:
            meta["hidden_slides"] = "、".join(hidden)
        yield made.document(
            blob,
            media=MEDIA["pptx"],
            limits=self._limits,
            title=meta.pop("title", ""),
            pages=max(1, n_slides),
            meta=meta,
        )


def _relation(slide: Element) -> str:
    """r:id, not the slide's own number, which is called id too."""
    return next((value for key, value in slide.attrib.items() if key.endswith("}id")), "")


class _Slide:
    def __init__(self, package: Package, part: str, made: Builder, page: int) -> None:
        self._package = package
        self._links = relations(package, part)
        self._tree = parse(package.read(part))
        self._made = made
        self._page = page

    def run(self) -> bool:
        """Appends the slide; True when it is hidden in the show."""
        shapes = child(self._tree, "cSld", "spTree")
        found = list(_shapes(shapes, 0)) if shapes is not None else []
        for shape in sorted(found, key=lambda s: _placeholder(s) not in _TITLES):  # stable: titles first
            self._shape(shape)
        self._notes()
        return self._tree.get("show") in ("0", "false")

    def _shape(self, shape: Element) -> None:
        if local(shape) == "graphicFrame":
            self._frame(shape)
            return
        body = child(shape, "txBody")
        role = _placeholder(shape)
        if body is None or role == "sldNum":
            return
        lines = [(p, text) for p in body if local(p) == "p" and (text := _text(p))]
        if role in _TITLES:
            self._made.add(
                "heading",
                "\n".join(t for _, t in lines),
                level=1,
                reading=fold("\n".join(t for _, t in lines)),
                page=self._page,
            )
            return
        for paragraph, text in lines:
            properties = child(paragraph, "pPr")
            level = properties.get("lvl", "0") if properties is not None else "0"
            bare = child(properties, "buNone") is not None
            marked = child(properties, "buChar") is not None or child(properties, "buAutoNum") is not None
            is_item = marked or (role in _BODIES and not bare and len(lines) > 1)
            kind = "footer" if role in _MARGINS else "list_item" if is_item else "paragraph"
            depth = int(level) if level.isdecimal() and is_item else 0
            self._made.add(kind, text, level=depth, reading=fold(text), page=self._page)

    def _frame(self, frame: Element) -> None:
        table = child(frame, "graphic", "graphicData", "tbl")
        if table is not None:
            head = child(table, "tblPr")
            first = head is not None and head.get("firstRow") in ("1", "true")
            rows = [row for row in table if local(row) == "tr"]
            add_table(self._made, _cells(rows), n_header=1 if first and len(rows) > 1 else None, page=self._page)
            return
        art = child(frame, "graphic", "graphicData", "relIds")
        link = self._links.get(attribute(art, "dm") or "") if art is not None else None
        if link is not None and link.target in self._package:
            for point in parse(self._package.read(link.target)).iter():
                if local(point) == "p" and (text := _text(point)):
                    self._made.add("list_item", text, reading=fold(text), page=self._page)

    def _notes(self) -> None:
        link: Link | None = next((link for link in self._links.values() if link.kind.endswith("/notesSlide")), None)
        if link is None or link.target not in self._package:
            return
        shapes = child(parse(self._package.read(link.target)), "cSld", "spTree")
        for shape in _shapes(shapes, 0) if shapes is not None else ():
            body = child(shape, "txBody")
            if body is not None and _placeholder(shape) == "body":
                text = "\n".join(t for p in body if local(p) == "p" and (t := _text(p)))
                self._made.add("paragraph", text, reading=f"発表者ノート: {fold(text)}", page=self._page)


def _shapes(tree: Element, depth: int) -> Iterator[Element]:
    """Shapes and frames in order, groups opened."""
    if depth > 50:
        raise SourceError("its groups are nested too deeply", reason="hostile")
    for element in tree:
        name = local(element)
        if name in ("sp", "graphicFrame", "cxnSp"):
            yield element
        elif name in ("grpSp", "AlternateContent", "Choice"):
            yield from _shapes(element, depth + 1)


def _placeholder(shape: Element) -> str:
    """The role of a shape: title, body, ftr...; "" for a body by index, "box" for a plain text box."""
    for properties in shape:
        if local(properties) in ("nvSpPr", "nvGraphicFramePr"):
            found = child(properties, "nvPr", "ph")
            if found is not None:
                return found.get("type", "")
    return "box"


def _text(paragraph: Element) -> str:
    return "\n".join(line for piece in drawing_text(paragraph).split("\v") if (line := fold(piece)))


def _cells(rows: list[Element]) -> list[Cell]:
    cells = []
    for number, row in enumerate(rows):
        for column, cell in enumerate(e for e in row if local(e) == "tc"):
            if cell.get("hMerge") in ("1", "true") or cell.get("vMerge") in ("1", "true"):
                continue
            body = child(cell, "txBody")
            texts = [t for p in (body if body is not None else ()) if local(p) == "p" and (t := _text(p))]
            spans = (cell.get(key, "1") for key in ("rowSpan", "gridSpan"))
            tall, wide = (max(1, min(int(s), 200)) if s.isdecimal() else 1 for s in spans)
            cells.append(Cell(number, column, fold("\n".join(texts)), tall, wide))
    return cells
