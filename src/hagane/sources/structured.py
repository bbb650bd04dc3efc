"""JSON, JSON Lines, notebooks and XML: values with the path that leads to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..core.errors import SourceError
from ..core.text import one_line
from ..core.types import Aside, Blob, Block, Document, Place
from .build import Builder, fold, sliced
from .decode import decode
from .files import read_bytes
from .limits import Limits
from .xmltree import Element, local, parse_text

_STRING = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(rf'({_STRING})|([{{}}\[\]:,])|([^\s{{}}\[\]:,"]+)')
_TITLE_KEYS = ("title", "name", "subject", "タイトル", "題名", "件名", "名称")
_DEEPEST = 200
_XML_DECLARED = re.compile(rb"<\?xml[^>]*encoding=[\"']([A-Za-z0-9._-]+)[\"']")


class JsonParser:
    """Every value one block, a slice of the file; `reading` says the path: "社員 / 氏名: 山田"."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, empty, hostile, too_large, unsupported."""
        text, _ = decode(read_bytes(blob))
        blocks: list[Block] = []
        lines = is_lines(text)
        if lines:
            at = 0
            for line in text.split("\n"):
                _record(line, at, blocks)
                at += len(line) + 1
        else:
            _check(text)
            blocks.extend(_values(text))
        media = "application/jsonl" if lines else "application/json"
        yield sliced(blob, text, blocks, media=media, limits=self._limits, title=_json_title(text, lines))


def is_lines(text: str) -> bool:
    """True when each line is a JSON value of its own (judged by the first two)."""
    lines = [line for line in text.lstrip().split("\n", 3)[:2] if line.strip()]
    if len(lines) < 2:
        return False
    try:
        for line in lines:
            json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _check(text: str) -> None:
    try:
        json.loads(text)
    except RecursionError as cause:
        raise SourceError("its JSON is nested too deeply", reason="hostile") from cause
    except ValueError as cause:
        raise SourceError("it is not whole JSON", reason="damaged") from cause


def _json_title(text: str, lines: bool) -> str:
    if lines:
        return ""
    tree = json.loads(text)
    if not isinstance(tree, dict):
        return ""
    return next((v for key in _TITLE_KEYS if isinstance(v := tree.get(key), str)), "")


def _record(line: str, at: int, blocks: list[Block]) -> None:
    """One line of JSON Lines: one block, its values as they are read."""
    shown = line.strip()
    if not shown:
        return
    start = at + len(line) - len(line.lstrip())
    try:
        json.loads(shown)
        said = [block.spoken for block in _values(shown)]
    except (ValueError, RecursionError, SourceError):
        said = [shown]
    blocks.append(Block("row", shown, Place(start=start, end=start + len(shown)), 0, "、".join(said)))


def _values(text: str) -> Iterator[Block]:
    """The scalar values of one JSON text with their offsets. The text is known to be valid JSON."""
    path: list[str | None] = []  # key of each open object, None for an open list
    key_next = False
    for match in _TOKEN.finditer(text):
        string, sign, other = match.groups()
        if sign == "{" or sign == "[":
            path.append("" if sign == "{" else None)
            key_next = sign == "{"
            if len(path) > _DEEPEST:
                raise SourceError("its JSON is nested too deeply", reason="hostile")
        elif sign == "}" or sign == "]":
            path.pop()
            key_next = False
        elif sign == ",":
            key_next = bool(path) and path[-1] is not None
        elif string is not None and key_next:
            path[-1] = json.loads(string)
            key_next = False
        elif string is not None or other is not None:
            yield from _value(match, path)


def _value(match: re.Match[str], path: list[str | None]) -> Iterator[Block]:
    string, _, other = match.groups()
    start, end = match.span()
    if string is not None:
        value = json.loads(string)
        start, end = start + 1, end - 1
    else:
        value = other
    if not str(value).strip() or value == "null":
        return
    keys = " / ".join(fold(key) for key in path if key)
    said = f"{keys}: {fold(str(value))}" if keys else fold(str(value))
    yield Block("paragraph", match.string[start:end], Place(start=start, end=end), 0, said)


class NotebookParser:
    """A Jupyter notebook: Markdown cells as text, code cells as code, text outputs below them."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, empty, too_large."""
        from .markdown import _Scanner  # same room: cells are Markdown

        text, _ = decode(read_bytes(blob))
        _check(text)
        tree = json.loads(text)
        made = Builder()
        for cell in _cells(tree):
            source = _joined(cell.get("source"))
            if cell.get("cell_type") == "markdown":
                for block in _Scanner(source).run():
                    made.add(block.kind, block.text, level=block.level, reading=block.reading)
            else:
                made.add("code", source)
                for output in cell.get("outputs") or ():
                    made.add("code", _output(output))
        meta = tree.get("metadata") if isinstance(tree, dict) else None
        title = str(meta.get("title") or "") if isinstance(meta, dict) else ""
        yield made.document(blob, media="application/x-ipynb+json", limits=self._limits, title=title)


def _cells(tree: Any) -> list[dict[str, Any]]:
    if not isinstance(tree, dict):
        return []
    sheets = tree.get("worksheets")
    found = tree.get("cells") or (sheets[0].get("cells") if isinstance(sheets, list) and sheets else None) or []
    return [cell for cell in found if isinstance(cell, dict)]


def _joined(source: Any) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source or "")


def _output(output: Any) -> str:
    if not isinstance(output, dict):
        return ""
    data = output.get("data")
    return _joined(output.get("text") or (data.get("text/plain") if isinstance(data, dict) else ""))[:10_000]


class XmlParser:
    """The text of an XML file, one block per element that holds text; RSS and Atom entries as headings."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, hostile, empty, too_large."""
        data = read_bytes(blob)
        declared = _XML_DECLARED.search(data[:200])
        text, _ = decode(data, declared=declared[1].decode("ascii") if declared else None)
        root = parse_text(text)
        made = Builder()
        _walk(root, made, 0)
        title = next(
            (one_line(e.text or "") for e in root.iter() if local(e) == "title" and (e.text or "").strip()), ""
        )
        yield made.document(blob, media="application/xml", limits=self._limits, title=title)


def _walk(element: Element, made: Builder, depth: int) -> None:
    if depth > _DEEPEST:
        raise SourceError("its XML is nested too deeply", reason="hostile")
    name = local(element)
    if not name:
        return
    for key, value in element.attrib.items():
        if not value.isascii() or key.lower() in ("title", "label", "alt"):
            made.add("paragraph", value)
    if _is_prose(element):
        made.add("paragraph", fold("".join(element.itertext())))
        return
    value = (element.text or "").strip()
    if name == "title" and value:
        made.add("heading", fold(value), level=min(6, max(1, depth - 1)))
    elif "</" in value or "/>" in value:
        from .html import page_blocks  # feeds carry pages inside

        for block in page_blocks(value):
            made.add(block.kind, block.text, level=block.level, reading=block.reading)
    elif value:
        said = fold(value)
        made.add("paragraph", said, reading=f"{name}: {said}" if len(said) < 80 else None)
    for child in element:
        _walk(child, made, depth + 1)
        if (child.tail or "").strip():
            made.add("paragraph", fold(child.tail or ""))


def _is_prose(element: Element) -> bool:
    """Text with marked words inside: one paragraph, not one block per word."""
    return len(element) > 0 and bool((element.text or "").strip()) and any((c.tail or "").strip() for c in element)
