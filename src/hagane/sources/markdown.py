"""Markdown as companies and site generators write it: front matter, shortcodes, tables, HTML inside.

A line scanner, not a full CommonMark: what counts is that every block is a slice of the file, that
nothing readable is lost, and speed (10 MB of pages a second or so).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from ..core.types import Aside, Blob, Block, BlockKind, Document, Place
from .build import fold, sliced
from .decode import decode
from .files import read_bytes
from .limits import Limits

_MARKS = re.compile(r"[\[\]*_`<>{}\\&~]")
_IMAGE = re.compile(r"!\[([^\[\]\n]*)\]\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)")
_LINK = re.compile(r"\[((?:[^\[\]\n]|\[[^\[\]\n]*\])*)\]\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)")
_REFERENCE = re.compile(r"\[([^\[\]\n]+)\]\[[^\[\]\n]*\]")
_SHORTCODE = re.compile(r"\{\{[<%]([^{}]*?)[>%]\}\}")
_ARGUMENT = re.compile(r"""(?:(\w+)=)?(?:"([^"]*)"|'([^']*)'|`([^`]*)`)""")
_COMMENT = re.compile(r"<!--.*?(?:-->|$)", re.DOTALL)
_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]+)>")
_ANCHOR = re.compile(r"\s*\{[#.][^{}]*\}|\s*\{:[^{}]*\}")
_STARS = re.compile(r"\*{1,3}(?=\S)|(?<=\S)\*{1,3}")
_UNDERSCORES = re.compile(r"(?<![A-Za-z0-9_])_{1,3}(?=[^\s_])|(?<=[^\s_])_{1,3}(?![A-Za-z0-9_])")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|<>~])")
_HEADING = re.compile(r"[ ]{0,3}(#{1,6})(?:[ \t]+|(?=[^#\s]))(.*)$")
_ITEM = re.compile(r"([ \t]*)(?:([-*+])|(\d{1,9}[.)]))[ \t]+(?=\S)(?:\[[ xX]\][ \t]+)?")
_RULE = re.compile(r"[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_SETEXT = re.compile(r"[ ]{0,3}(=+|-+)[ \t]*$")
_SEPARATOR = re.compile(r"[ \t>]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_CELL_END = re.compile(r"(?<!\\)\|")
_FRONT_KEY = re.compile(r"([A-Za-z_][\w-]*)\s*[:=]\s*(.*)$")
_NAMED_ARGUMENTS = frozenset({"title", "header", "summary", "name", "caption", "alt", "text"})
_SILENT = ("youtube", "vimeo", "include", "figure", "/")
_DATES = ("date", "lastmod", "updated", "last_updated", "modified")


class MarkdownParser:
    """One page, one document; its text is the file itself."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError empty, too_large, unsupported."""
        text, _ = decode(read_bytes(blob))
        meta, n_front = front_matter(text)
        scanner = _Scanner(text)
        if n_front:
            scanner.front(n_front, meta)
        blocks = scanner.run()
        date = next((meta[key] for key in _DATES if meta.get(key)), "")
        title = meta.get("title", "")
        yield sliced(
            blob, text, blocks, media="text/markdown", limits=self._limits, title=title, meta={**meta, "date": date}
        )


def front_matter(text: str) -> tuple[dict[str, str], int]:
    """The scalar fields of a YAML (---) or TOML (+++) head, and how many lines it takes (0: none)."""
    fence = text[:4]
    if fence not in ("---\n", "+++\n"):
        return {}, 0
    lines = text.split("\n", 400)[:400]
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() in (fence[:3], "...")), 0)
    meta: dict[str, str] = {}
    for line in lines[1:end]:
        if match := _FRONT_KEY.match(line):
            value = _scalar(match[2])
            if value and len(value) < 2_000:
                meta[match[1].lower()] = value
    return meta, end + 1 if end else 0


def _scalar(value: str) -> str:
    value = value.strip()
    if value[:1] == '"' and value.count('"') == 1:
        value = value[1:]  # a quoted scalar that goes on in the next line
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        inner = value[1:-1]
        return inner.replace('\\"', '"').replace("\\\\", "\\") if value[0] == '"' else inner.replace("''", "'")
    if value in ("|", ">", "|-", ">-", "[]", "{}", "null", "~"):
        return ""
    return value.partition(" #")[0].rstrip()


def plain(text: str) -> str:
    """`text` as a reader of the rendered page sees it, on one line."""
    if not _MARKS.search(text):
        return fold(text)
    if "{{" in text:
        text = _SHORTCODE.sub(_spoken_shortcode, text)
    if "<" in text:
        text = _COMMENT.sub("", text)
        text = _AUTOLINK.sub(r"\1", text)
        text = _TAG.sub("", _BREAK_TAG.sub("\n", text))
    if "](" in text:
        text = _IMAGE.sub(r"\1", text)
        text = _LINK.sub(r"\1", text)
    if "][" in text:
        text = _REFERENCE.sub(r"\1", text)
    if "{" in text:
        text = _ANCHOR.sub("", text)
    if "*" in text:
        text = _STARS.sub("", text)
    if "_" in text:
        text = _UNDERSCORES.sub("", text)
    text = text.replace("~~", "").replace("`", "")
    if "\\" in text:
        text = _ESCAPE.sub(r"\1", text)
    return fold(html.unescape(text) if "&" in text else text)


def _spoken_shortcode(match: re.Match[str]) -> str:
    """Titles and names inside a shortcode are read; file names, ids and colours are not."""
    body = match[1].strip()
    if body.startswith(_SILENT) and "title=" not in body:
        return ""
    values = []
    for key, *given in _ARGUMENT.findall(body):
        value = next((v for v in given if v), "")
        if key in _NAMED_ARGUMENTS or (not key and (" " in value or not value.isascii())):
            values.append(value)
    return " ".join(values)


def cells(line: str) -> list[str]:
    """The cells of a table line, verbatim."""
    line = line.strip().lstrip(">").strip()
    line = line.removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [cell.strip() for cell in _CELL_END.split(line)]


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.split("\n")
        self._starts: list[int] = []
        at = 0
        for line in self._lines:
            self._starts.append(at)
            at += len(line) + 1
        self._i = 0
        self._blocks: list[Block] = []
        self._indents: list[int] = []

    def run(self) -> list[Block]:
        n = len(self._lines)
        while self._i < n:
            self._step(self._lines[self._i])
        return self._blocks

    def front(self, n_lines: int, meta: dict[str, str]) -> None:
        reading = "\n".join(plain(value) for key in ("title", "description") if (value := meta.get(key)))
        self._emit("meta", 0, n_lines - 1, reading=reading)
        self._i = n_lines

    def _step(self, line: str) -> None:
        shown = line.strip()
        if not shown:
            self._i += 1
            return
        first = shown[0]
        if first != "-" and first not in "*+0123456789" and line[:1] not in (" ", "\t"):
            self._indents.clear()
        if first in "`~" and (shown.startswith("```") or shown.startswith("~~~")):
            self._fence(shown)
        elif first == "#" and (match := _HEADING.match(line)):
            self._heading(match)
        elif shown.startswith("<!--"):
            self._skip_to("-->")
        elif first == "{" and shown.startswith("{{") and shown.endswith("}}"):
            self._emit("paragraph", self._i, self._i)
            self._i += 1
        elif first == "<" and (end := _block_end(shown)):
            self._html_block(end)
        elif "|" in line and self._i + 1 < len(self._lines) and _is_separator(self._lines[self._i + 1]):
            self._table()
        elif first in "-*_" and _RULE.match(line):
            self._i += 1
        elif match := _ITEM.match(line):
            self._item(match)
        else:
            self._paragraph()

    def _fence(self, shown: str) -> None:
        mark = shown[:3]
        first = last = self._i + 1
        while last < len(self._lines) and not self._lines[last].strip().startswith(mark):
            last += 1
        if last > first:
            self._emit("code", first, last - 1, verbatim=True)
        self._i = last + 1

    def _heading(self, match: re.Match[str]) -> None:
        body = match[2].rstrip().rstrip("#").rstrip() or match[2]
        if anchor := _ANCHOR.search(body):
            body = body[: anchor.start()] if anchor.end() == len(body) else body
        self._slice("heading", self._starts[self._i] + match.start(2), body, level=len(match[1]))
        self._i += 1

    def _skip_to(self, end: str) -> None:
        while self._i < len(self._lines) and end not in self._lines[self._i]:
            self._i += 1
        self._i += 1

    def _html_block(self, end: str) -> None:
        first = self._i
        self._skip_to(end)
        if end == "</table>":
            from .html import table_reading  # the page parser loads only when a page has such a table

            last = min(self._i, len(self._lines)) - 1
            source = self._text[self._starts[first] : self._starts[last] + len(self._lines[last])]
            self._emit("table", first, last, reading=table_reading(source))

    def _table(self) -> None:
        header = [plain(cell) for cell in cells(self._lines[self._i])]
        self._emit("row", self._i, self._i, reading="、".join(cell for cell in header if cell))
        self._i += 2
        while self._i < len(self._lines) and "|" in (line := self._lines[self._i]) and line.strip():
            said = []
            for number, cell in enumerate(cells(line)):
                value = plain(cell)
                name = header[number] if number < len(header) else ""
                if value:
                    said.append(f"{name}: {value}" if name and name != value else value)
            self._emit("row", self._i, self._i, reading="、".join(said))
            self._i += 1

    def _item(self, match: re.Match[str]) -> None:
        indent = len(match[1].expandtabs(4))
        while self._indents and self._indents[-1] >= indent:
            self._indents.pop()
        level = len(self._indents)
        self._indents.append(indent)
        first = self._i
        self._i += 1
        self._continue()
        at = self._starts[first] + (match.start(3) if match[3] else match.end())
        last = self._i - 1
        self._slice("list_item", at, self._text[at : self._starts[last] + len(self._lines[last])], level=level)

    def _paragraph(self) -> None:
        first = self._i
        self._i += 1
        if self._i < len(self._lines) and (under := _SETEXT.match(self._lines[self._i])):
            line = self._lines[first]
            self._slice("heading", self._starts[first], line, level=1 if under[1][0] == "=" else 2)
            self._i += 1
            return
        self._continue()
        self._emit("paragraph", first, self._i - 1)

    def _continue(self) -> None:
        """Moves behind the lines that still belong to the paragraph or item begun."""
        while self._i < len(self._lines):
            line = self._lines[self._i]
            shown = line.strip()
            if not shown or shown[0] in "#|<{`~-*+" or shown[0].isdigit():
                if not shown or shown.startswith(
                    ("```", "~~~", "<!--", "{{", "<details", "</details", "<summary", "<table")
                ):
                    return
                if _HEADING.match(line) or _ITEM.match(line) or _RULE.match(line):
                    return
                if "|" in line and self._i + 1 < len(self._lines) and _is_separator(self._lines[self._i + 1]):
                    return
            self._i += 1

    def _emit(
        self, kind: BlockKind, first: int, last: int, *, reading: str | None = None, verbatim: bool = False
    ) -> None:
        start = self._starts[first]
        piece = self._text[start : self._starts[last] + len(self._lines[last])]
        self._slice(kind, start, piece, reading=piece.strip("\n") if verbatim else reading)

    def _slice(self, kind: BlockKind, start: int, piece: str, *, level: int = 0, reading: str | None = None) -> None:
        shown = piece.strip()
        start += len(piece) - len(piece.lstrip())
        if reading is None:
            reading = plain(_unquoted(shown))
        if not shown or (not reading and kind != "meta"):
            return
        place = Place(start=start, end=start + len(shown))
        self._blocks.append(Block(kind, shown, place, level, None if reading == shown else reading))


def _unquoted(text: str) -> str:
    """Without the > of quoted lines."""
    return re.sub(r"^[ \t]*(?:>[ \t]?)+", "", text, flags=re.MULTILINE) if ">" in text else text


def _is_separator(line: str) -> bool:
    return "-" in line and ("|" in line or ":" in line) and bool(_SEPARATOR.match(line))


def _block_end(shown: str) -> str:
    head = shown[:8].lower()
    if head.startswith("<table"):
        return "</table>"
    if head.startswith("<style"):
        return "</style>"
    return "</script>" if head.startswith("<script") else ""
