"""What all Office Open XML packages share: relations, properties, drawings."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from ..core.errors import SourceError
from .archive import Package
from .build import fold
from .xmltree import Element, local, parse

_PROPERTIES = {
    "title": "title", "creator": "author", "created": "created", "modified": "date", "subject": "subject",
    "keywords": "keywords", "description": "description",
}  # fmt: skip
# Titles that templates and programs leave behind.
_EMPTY_TITLES = frozenset(
    {"powerpoint presentation", "powerpoint プレゼンテーション", "word document", "untitled", "無題"}
)


@dataclass(frozen=True, slots=True)
class Link:
    """One relation of a part: the last word of `kind` says what it is; `target` is a member's name."""

    kind: str
    target: str


def relations(package: Package, part: str) -> dict[str, Link]:
    """Relations of `part` ("" for the package), by id; external ones left out."""
    folder, name = posixpath.split(part)
    path = posixpath.join(folder, "_rels", name + ".rels")
    if path not in package:
        return {}
    found = {}
    for element in parse(package.read(path)):
        target = element.get("Target", "")
        if element.get("TargetMode") == "External" or not target:
            continue
        full = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
        found[element.get("Id", "")] = Link(element.get("Type", ""), full)
    return found


def core_meta(package: Package) -> dict[str, str]:
    """Title, author, dates of docProps/core.xml; nothing when it is missing or damaged."""
    if "docProps/core.xml" not in package:
        return {}
    try:
        tree = parse(package.read("docProps/core.xml"))
    except SourceError as problem:
        if problem.reason == "damaged":
            return {}
        raise
    meta = {}
    for element in tree:
        key = _PROPERTIES.get(local(element))
        if key and (value := fold(element.text or "")):
            meta[key] = value
    if meta.get("title", "").lower() in _EMPTY_TITLES:
        del meta["title"]
    return meta


def drawing_text(paragraph: Element) -> str:
    """The runs of one a:p; line breaks as \\v."""
    pieces = []
    for element in paragraph.iter():
        name = local(element)
        if name == "t":
            pieces.append(element.text or "")
        elif name == "br":
            pieces.append("\v")
    return "".join(pieces)


def drawing_paragraphs(tree: Element) -> Iterator[str]:
    """Each text body of a drawing as one text."""
    for body in tree.iter():
        if local(body) == "txBody":
            lines = [fold(drawing_text(p)) for p in body if local(p) == "p"]
            if text := "\n".join(line for line in lines if line):
                yield text
