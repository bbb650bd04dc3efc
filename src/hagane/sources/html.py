"""Web pages: what is the page's own and what is its frame; tables with their spans; ruby."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from ..core.types import Aside, Blob, Block, BlockKind, Document
from .build import Builder, fold
from .decode import decode
from .files import read_bytes
from .grid import Cell, add_table
from .limits import Limits

_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9._-]+)""", re.IGNORECASE)
_SKIPPED = frozenset(
    {"script", "style", "template", "noscript", "svg", "math-annotation", "iframe", "object", "select", "textarea"}
)
_VOID = frozenset(
    {"br", "img", "hr", "meta", "link", "input", "area", "base", "col", "embed", "source", "track", "wbr"}
)
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt",
        "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr",
        "html", "li", "main", "menu", "nav", "ol", "p", "pre", "section", "summary", "table", "ul", "tr", "td", "th",
        "thead", "tbody", "tfoot", "caption", "head", "title",
    }
)  # fmt: skip
_FRAMES: dict[str, BlockKind] = {
    "navigation": "navigation", "banner": "header", "contentinfo": "footer", "search": "navigation", "menu": "navigation",
    "nav": "navigation", "navbar": "navigation", "navbox": "navigation", "sidebar": "navigation", "breadcrumb": "navigation",
    "breadcrumbs": "navigation", "footer": "footer", "pagination": "navigation", "globalnav": "navigation",
}  # fmt: skip
_META = {
    "author": "author", "description": "description", "date": "date", "dc.date": "date", "dcterms.modified": "date",
    "article:published_time": "date", "article:modified_time": "date", "keywords": "keywords", "lang": "lang",
}  # fmt: skip
_WIDEST_SPAN, _TALLEST_SPAN = 200, 2_000
_MOST_TAKEN = 1_000_000  # places that spans may cover


class HtmlParser:
    """One page, one document."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError empty, too_large, unsupported."""
        page = _Page()
        page.take(decode_page(read_bytes(blob)))
        yield page.made.document(blob, media="text/html", limits=self._limits, title=page.title, meta=page.meta)


def decode_page(data: bytes) -> str:
    """A page's text by BOM, then by what it declares, then by its bytes."""
    declared = _DECLARED.search(data[:4096])
    return decode(data, declared=declared[1].decode("ascii") if declared else None)[0]


def page_blocks(source: str) -> list[Block]:
    """The blocks of a page or a piece of one."""
    page = _Page()
    page.take(source)
    return page.made.blocks


def table_reading(source: str) -> str:
    """What the rows of an HTML table say, one per line."""
    return "\n".join(block.spoken for block in page_blocks(source))


def _inline(text: str) -> str:
    """Blanks and line ends of the source folded; \\v stands for <br>."""
    if "\v" not in text:
        return fold(text)
    return "\n".join(line for piece in text.split("\v") if (line := fold(piece)))


class _Table:
    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.taken: set[tuple[int, int]] = set()
        self.row = -1
        self.column = 0
        self.in_head = False
        self.is_layout = False
        self.open: tuple[int, int, bool] | None = None  # rows, columns, header of the open cell

    def close_cell(self, text: str) -> None:
        if self.open is None:
            return
        rows, columns, is_header = self.open
        self.open = None
        while (self.row, self.column) in self.taken:
            self.column += 1
        if rows > 1 and len(self.taken) < _MOST_TAKEN:
            self.taken.update((self.row + r, self.column + c) for r in range(1, rows) for c in range(columns))
        self.cells.append(Cell(self.row, self.column, fold(text), rows, columns, is_header=is_header or self.in_head))
        self.column += columns


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.made = Builder()
        self.title = ""
        self.meta: dict[str, str] = {}
        self._open: list[str] = []
        self._frames: list[tuple[int, BlockKind]] = []  # depth in _open, kind of everything below
        self._skip = 0
        self._text: list[str] = []  # inline text of the block or cell being read
        self._tables: list[_Table] = []
        self._in_ruby = False  # furigana: beside the text, not in it
        self._pre = 0

    def take(self, source: str) -> None:
        """Read all of `source`."""
        self.feed(source)
        self.close()
        self._flush()
        while self._tables:
            self._end_table()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skip:
            self._skip += tag in _SKIPPED
            return
        if tag in _SKIPPED:
            self._skip = 1
            return
        given = {key: value or "" for key, value in attrs}
        if tag in _VOID:
            self._void(tag, given)
            return
        self._in_ruby = tag in ("rt", "rp")
        if tag not in _BLOCKS:
            return
        self._boundary(tag)
        if tag in ("p", "li", "td", "th", "tr", "dt", "dd") and self._open and self._open[-1] == tag:
            self._pop(tag)
        self._open.append(tag)
        if kind := self._frame(tag, given):
            self._frames.append((len(self._open), kind))
        if tag == "html" and given.get("lang"):
            self.meta["lang"] = given["lang"]
        self._start_table_part(tag, given)
        self._pre += tag == "pre"

    def _void(self, tag: str, given: dict[str, str]) -> None:
        if tag == "br":
            self._text.append("\n" if self._pre else "\v")
        elif tag == "hr":
            self._boundary(tag)
        elif tag == "meta":
            key = _META.get((given.get("name") or given.get("property") or "").lower())
            if key and given.get("content"):
                self.meta.setdefault(key, fold(given["content"])[:1_000])

    def _frame(self, tag: str, given: dict[str, str]) -> BlockKind | None:
        if tag in ("html", "body", "main", "article"):
            return None
        role = given.get("role", "").lower()
        if tag == "nav" or role in _FRAMES:
            return _FRAMES.get(role, "navigation")
        if tag in ("header", "footer"):
            inside = any(name in ("article", "main", "section") for name in self._open[:-1])
            return None if inside else ("header" if tag == "header" else "footer")
        words = f"{given.get('class', '')} {given.get('id', '')}".lower().split()
        return next((_FRAMES[word] for word in words if word in _FRAMES), None)

    def handle_endtag(self, tag: str) -> None:
        if self._skip:
            self._skip -= tag in _SKIPPED
            return
        self._in_ruby &= tag not in ("rt", "rp", "ruby") and tag not in _BLOCKS
        if tag not in _BLOCKS or tag not in self._open:
            if tag in ("p", "br"):
                self._boundary(tag)
            return
        self._boundary(tag)
        if tag == "table":
            self._end_table()
        elif tag in ("thead", "tr") and self._tables:
            self._tables[-1].in_head &= tag != "thead"
        self._pop(tag)

    def _pop(self, tag: str) -> None:
        while self._open:
            gone = self._open.pop()
            self._pre -= gone == "pre"
            if gone == tag:
                break
        while self._frames and self._frames[-1][0] > len(self._open):
            self._frames.pop()

    def handle_data(self, data: str) -> None:
        if self._skip or self._in_ruby:
            return
        if self._pre and not self._tables:
            self._text.append(data)
        elif data:
            self._text.append(data.replace("\v", " "))

    def _boundary(self, tag: str) -> None:
        """A block begins or ends: the text so far is one, unless it stands in a table's cell."""
        table = self._tables[-1] if self._tables else None
        if table is not None and not table.is_layout and tag not in ("table", "caption"):
            if table.open is not None:
                if tag in ("td", "th", "tr", "tbody", "thead", "tfoot"):
                    table.close_cell(self._taken())
                else:
                    self._text.append("\v")
                return
            if tag not in ("tr", "td", "th"):
                return
        self._flush()

    def _flush(self) -> None:
        if self._open and self._open[-1] == "pre":
            source = "".join(self._text).strip("\n")
            self._text.clear()
            self.made.add("code", source)
            return
        text = self._taken()
        if not text:
            return
        if self._open and self._open[-1] == "title":
            self.title = self.title or text
            return
        kind, level = self._kind()
        self.made.add(kind, text, level=level, reading=fold(text))

    def _taken(self) -> str:
        """The inline text so far, which is then forgotten."""
        text = _inline("".join(self._text))
        self._text.clear()
        return text

    def _kind(self) -> tuple[BlockKind, int]:
        if self._frames:
            return self._frames[-1][1], 0
        for tag in reversed(self._open):
            if tag[0] == "h" and tag[1:].isdigit():
                return "heading", int(tag[1:])
            if tag in ("li", "dd"):
                return "list_item", max(0, sum(name in ("ul", "ol", "menu", "dl") for name in self._open) - 1)
            if tag in ("figcaption", "caption"):
                return "caption", 0
            if tag in ("p", "div", "td", "table"):
                continue
        return "paragraph", 0

    def _start_table_part(self, tag: str, given: dict[str, str]) -> None:
        if tag == "table":
            if self._tables:
                self._lay_out(self._tables[-1])
            self._tables.append(_Table())
            self._tables[-1].is_layout = given.get("role") == "presentation"
        elif self._tables and tag in ("tr", "td", "th", "thead"):
            table = self._tables[-1]
            table.in_head |= tag == "thead"
            if tag == "tr":
                table.row, table.column = table.row + 1, 0
            elif tag in ("td", "th"):
                table.row = max(table.row, 0)
                rows, columns = (_span(given.get(key)) for key in ("rowspan", "colspan"))
                table.open = (min(rows, _TALLEST_SPAN), min(columns, _WIDEST_SPAN), tag == "th")

    def _lay_out(self, table: _Table) -> None:
        """A table with a table inside arranges the page: its cells are paragraphs."""
        if not table.is_layout:
            table.is_layout = True
            text = self._taken()
            for cell in table.cells:
                self.made.add("paragraph", cell.text)
            self.made.add("paragraph", text, reading=fold(text))
            table.cells, table.open = [], None

    def _end_table(self) -> None:
        if not self._tables:
            return
        table = self._tables.pop()
        if table.is_layout:
            self._flush()
            return
        table.close_cell(self._taken())
        if self._frames:
            for cell in table.cells:
                self.made.add(self._frames[-1][1], cell.text)
        elif max((cell.column for cell in table.cells), default=0) == 0:
            for cell in table.cells:
                self.made.add("paragraph", cell.text)
        else:
            add_table(self.made, table.cells)


def _span(value: str | None) -> int:
    return max(1, int(value)) if value and value.strip().isdecimal() and len(value) < 6 else 1
