"""XML without surprises: no entity declarations, no external anything."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import IO
from xml.etree import ElementTree
from xml.parsers import expat

from ..core.errors import SourceError

Element = ElementTree.Element
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


class _RootReached(Exception):
    """The prolog is over; declarations can no longer come."""


def _refuse(*_: object) -> None:
    raise SourceError("its XML declares entities", reason="hostile")


def _root(*_: object) -> None:
    raise _RootReached


def check_prolog(stream: IO[bytes]) -> None:
    """Reads up to the root element. Raises: SourceError hostile (entities), damaged (not XML)."""
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse
    parser.StartElementHandler = _root
    try:
        parser.ParseFile(stream)
    except _RootReached:
        return
    except (expat.ExpatError, ValueError) as cause:
        raise SourceError("its XML is damaged", reason="damaged") from cause
    raise SourceError("its XML has no content", reason="damaged")


def parse(data: bytes) -> Element:
    """The root element. Raises: SourceError hostile or damaged."""
    check_prolog(io.BytesIO(data))
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, RecursionError) as cause:
        raise SourceError("its XML is damaged", reason="damaged") from cause


def parse_text(text: str) -> Element:
    """As `parse`, from decoded text; the encoding in the declaration no longer counts."""
    return parse(_DECLARATION.sub("", text, count=1).encode("utf-8", "replace"))


def events(data: bytes) -> Iterator[tuple[str, Element]]:
    """("start" or "end", element) in file order. Raises: SourceError hostile or damaged."""
    check_prolog(io.BytesIO(data))
    try:
        yield from ElementTree.iterparse(io.BytesIO(data), events=("start", "end"))
    except (ElementTree.ParseError, ValueError) as cause:
        raise SourceError("its XML is damaged", reason="damaged") from cause


def local(element: Element) -> str:
    """The tag without its namespace ("" for comments and processing instructions)."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Element, name: str) -> str | None:
    """An attribute by its name without namespace."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value
    return None


def child(element: Element | None, *path: str) -> Element | None:
    """The first descendant along `path` of names without namespace; None when there is none."""
    for name in path:
        if element is None:
            return None
        element = next((e for e in element if local(e) == name), None)
    return element
