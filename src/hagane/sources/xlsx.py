"""XLSX by its XML, in one pass: values, formulas without values, merged cells, formats, boxes, notes.

Not through openpyxl: that needs two passes for formulas, misses the Japanese built-in date formats,
and stays free to be the second reader of every quoted cell.
Source: ECMA-376 part 1, 18.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import SourceError
from ..core.types import Aside, Blob, Document
from .archive import Package
from .build import Builder, fold, stem
from .detect import MEDIA
from .grid import Cell
from .limits import Budget, Limits
from .numfmt import BUILTIN, JAPANESE_DATES, is_date, iso, moment, number_text, shown_moment, shown_number
from .ooxml import core_meta, drawing_paragraphs, relations
from .sheets import add_sheet
from .xmltree import Element, attribute, child, events, local, parse

_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7})")
_MOST_CELLS = 5_000_000


@dataclass(frozen=True, slots=True)
class _Style:
    code: str = "General"
    shown_code: str = "General"
    is_strong: bool = False


@dataclass(frozen=True, slots=True)
class _Book:
    strings: list[str]
    styles: list[_Style]
    from_1904: bool


class XlsxParser:
    """A workbook: each worksheet a page, each row a block with its cells."""

    def __init__(self, *, limits: Limits, budget: Budget | None = None) -> None:
        self._limits = limits
        self._budget = budget

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, encrypted, empty, hostile, too_large."""
        made = Builder()
        with Package(blob.file, limits=self._limits, budget=self._budget) as package:
            book, sheets = _workbook(package)
            hidden = []
            for page, (sheet, link) in enumerate(sheets, 1):
                name = fold(sheet.get("name") or f"Sheet{page}")
                if sheet.get("state", "visible") != "visible":
                    hidden.append(name)
                if link is None or link.target not in package or not link.kind.endswith("/worksheet"):
                    continue  # chart sheets hold no cells
                if page > self._limits.max_pages:
                    raise SourceError(f"more than {self._limits.max_pages} sheets", reason="too_large")
                add_sheet(made, name, _sheet_cells(package.read(link.target), book, self._limits), page=page)
                _boxes_and_notes(package, link.target, made, page)
            meta = core_meta(package)
        if hidden:
            meta["hidden_sheets"] = "、".join(hidden)
        title = meta.pop("title", "")
        yield made.document(
            blob,
            media=MEDIA["xlsx"],
            limits=self._limits,
            title=title or _title(made) or stem(blob.path),
            pages=max(1, len(sheets)),
            meta=meta,
        )


def worksheet(file: str, page: int, *, limits: Limits) -> tuple[str, list[Cell]]:
    """The name and the cells of one worksheet (counted from 1) as they stand, for showing it.
    Raises: SourceError as the parser; ValueError for a sheet that the file does not have."""
    with Package(file, limits=limits) as package:
        book, sheets = _workbook(package)
        if not 1 <= page <= len(sheets):
            raise ValueError(f"sheet {page} of {len(sheets)}")
        sheet, link = sheets[page - 1]
        if link is None or link.target not in package or not link.kind.endswith("/worksheet"):
            raise ValueError(f"sheet {page} holds no cells")
        return fold(sheet.get("name") or f"Sheet{page}"), _sheet_cells(package.read(link.target), book, limits)


def _workbook(package: Package) -> tuple[_Book, list[tuple[Element, Any]]]:
    """What all sheets share, and each sheet with the link to its part (None: there is none)."""
    root = next((name for name in ("xl/workbook.xml", "xl/Workbook.xml") if name in package), None)
    book_path = root or _main_part(package)
    tree = parse(package.read(book_path))
    links = relations(package, book_path)
    sheets = [(e, links.get(attribute(e, "id") or "")) for e in child(tree, "sheets") or ()]
    return _book(package, tree, links), sheets


def _main_part(package: Package) -> str:
    for link in relations(package, "").values():
        if link.kind.endswith("/officeDocument"):
            return link.target
    raise SourceError("it has no workbook", reason="damaged")


def _title(made: Builder) -> str:
    """The first title line on a sheet; a sheet's name says less than the file's."""
    return next((b.text for b in made.blocks if b.kind == "heading" and b.level > 1), "") if made.blocks else ""


def _book(package: Package, tree: Element, links: dict) -> _Book:
    properties = child(tree, "workbookPr")
    from_1904 = properties is not None and properties.get("date1904") in ("1", "true")
    by_kind = {link.kind.rpartition("/")[2]: link.target for link in links.values()}
    strings_at, styles_at = by_kind.get("sharedStrings"), by_kind.get("styles")
    strings = list(_strings(package.read(strings_at))) if strings_at and strings_at in package else []
    styles = _styles(parse(package.read(styles_at))) if styles_at and styles_at in package else []
    return _Book(strings, styles, from_1904)


def _strings(data: bytes) -> Iterator[str]:
    for event, element in events(data):
        if event == "end" and local(element) == "si":
            yield rich_text(element)
            element.clear()


def rich_text(element: Element) -> str:
    """The text of a string item, without the furigana that Excel keeps beside it (rPh)."""
    pieces = []
    for part in element:
        if local(part) == "t":
            pieces.append(part.text or "")
        elif local(part) == "r":
            pieces.extend(t.text or "" for t in part if local(t) == "t")
    return "".join(pieces)


def _styles(tree: Element) -> list[_Style]:
    codes = {int(e.get("numFmtId", "0")): e.get("formatCode", "") for e in child(tree, "numFmts") or ()}
    fonts = [_is_on(child(font, "b")) for font in child(tree, "fonts") or ()]
    fills = [
        (pattern := child(fill, "patternFill")) is not None
        and pattern.get("patternType") not in (None, "none", "gray125")
        for fill in child(tree, "fills") or ()
    ]
    found = []
    for form in child(tree, "cellXfs") or ():
        number, font, fill = (int(form.get(key, "0")) for key in ("numFmtId", "fontId", "fillId"))
        code = codes.get(number) or BUILTIN.get(number, "General")
        strong = (font < len(fonts) and fonts[font]) or (fill < len(fills) and fills[fill])
        found.append(_Style(code, codes.get(number) or JAPANESE_DATES.get(number, code), strong))
    return found


def _is_on(element: Element | None) -> bool:
    return element is not None and element.get("val", "1") not in ("0", "false")


def _sheet_cells(data: bytes, book: _Book, limits: Limits) -> list[Cell]:
    """All cells with text, merged ones with their spans, counted from 1."""
    found: dict[tuple[int, int], Cell] = {}
    merges: list[tuple[int, int, int, int]] = []
    row = column = n_chars = 0
    holder: Element | None = None
    for event, element in events(data):
        name = local(element)
        if event == "start":
            if name == "row":
                given = element.get("r", "")
                row, column = (int(given) if given.isdecimal() else row + 1), 0
            elif name == "sheetData":
                holder = element
            continue
        if name == "c":
            place = _REFERENCE.fullmatch(element.get("r", ""))
            row, column = (int(place[2]), column_number(place[1])) if place else (row, column + 1)
            cell = _cell(element, row, column, book)
            if cell is not None:
                found[row, column] = cell
                n_chars += len(cell.text)
                if n_chars > limits.max_chars or len(found) > _MOST_CELLS:
                    raise SourceError("a sheet holds more than is allowed", reason="too_large")
        elif name == "row":
            if holder is not None:
                holder.clear()
        elif name == "mergeCell" and (span := _span(element.get("ref", ""))):
            merges.append(span)
    for top, left, bottom, right in merges:
        if cell := found.get((top, left)):
            found[top, left] = replace(cell, rows=bottom - top + 1, columns=right - left + 1)
    if len(merges) * len(found) < _MOST_CELLS:  # what a merge covers is never shown
        hidden = {
            (r, c) for r, c in found for t, f, b, la in merges if t <= r <= b and f <= c <= la and (r, c) != (t, f)
        }
        found = {place: cell for place, cell in found.items() if place not in hidden}
    return list(found.values())


def column_number(letters: str) -> int:
    """A -> 1, AA -> 27."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def _span(reference: str) -> tuple[int, int, int, int] | None:
    match = re.fullmatch(rf"{_REFERENCE.pattern}:{_REFERENCE.pattern}", reference)
    if match is None:
        return None
    return int(match[2]), column_number(match[1]), int(match[4]), column_number(match[3])


def _cell(element: Element, row: int, column: int, book: _Book) -> Cell | None:
    kind = element.get("t", "n")
    parts = {local(part): part for part in element}
    value = parts["v"].text if "v" in parts else None
    index = int(element.get("s", "0") or 0)
    style = book.styles[index] if index < len(book.styles) else _Style()
    if kind == "inlineStr":
        value = rich_text(parts["is"]) if "is" in parts else ""
    elif kind == "s" and value is not None:
        number = int(value)
        value = book.strings[number] if 0 <= number < len(book.strings) else ""
    elif kind == "b" and value is not None:
        value = "True" if value.strip() in ("1", "true") else "False"
    elif kind == "n" and value is not None:
        return _number(value, row, column, style, book)
    if value is None and "f" in parts and parts["f"].text:
        value = "=" + parts["f"].text
    text = fold(value or "")
    if not text:
        return None
    return Cell(row, column, text, is_strong=style.is_strong, is_number=None if kind == "str" else False)


def _number(raw: str, row: int, column: int, style: _Style, book: _Book) -> Cell | None:
    raw = raw.strip()
    if not raw:
        return None
    try:
        value: int | float = float(raw) if "." in raw or "e" in raw.lower() else int(raw)
        if value != value or abs(value) > 1e300:
            raise ValueError(raw)
    except ValueError:
        return Cell(row, column, fold(raw), is_strong=style.is_strong, is_number=False)
    text, shown, is_number = number_text(value), None, True
    if is_date(style.code) and (when := moment(value, style.code, from_1904=book.from_1904)) is not None:
        text, shown, is_number = iso(when), shown_moment(when, style.code), False
    elif is_date(style.shown_code) and (when := moment(value, style.shown_code, from_1904=book.from_1904)) is not None:
        shown, is_number = shown_moment(when, style.shown_code), False
    elif style.code not in ("General", "@"):
        shown = shown_number(value, style.code)
    return Cell(row, column, text, shown=shown, is_strong=style.is_strong, is_number=is_number)


def _boxes_and_notes(package: Package, sheet: str, made: Builder, page: int) -> None:
    """Text boxes and cell notes: they hang on the sheet, not in its cells."""
    for link in relations(package, sheet).values():
        kind = link.kind.rpartition("/")[2]
        if link.target not in package:
            continue
        if kind == "drawing":
            for text in drawing_paragraphs(parse(package.read(link.target))):
                made.add("paragraph", text, page=page)
        elif kind == "comments":
            for note in parse(package.read(link.target)).iter():
                if local(note) == "comment" and (body := child(note, "text")) is not None:
                    made.add("paragraph", fold(rich_text(body)), page=page)
