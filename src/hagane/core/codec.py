"""The core types as plain JSON values and back: for stores on disk, worker frames and `--json`.

Lists, not mappings, for what is stored by the ten thousand (blocks, lines, places); the order of
fields is the format, and changes only with the stores' version numbers.
"""

from __future__ import annotations

from typing import Any

from .labels import Label
from .types import Aside, Block, Chunk, Citation, Document, Line, Place


def place_to(place: Place) -> list[Any]:
    box = None if place.box is None else [round(v, 2) for v in place.box]
    values = [place.page, box, place.cell, place.start, place.end, place.start_s, place.end_s]
    while values and values[-1] is None:
        values.pop()
    return values


def place_from(values: list[Any]) -> Place:
    page, box, cell, start, end, start_s, end_s = [*values, *[None] * (7 - len(values))]
    return Place(page, None if box is None else tuple(box), cell, start, end, start_s, end_s)


def place_shown(place: Place) -> dict[str, Any]:
    """The place as `--json` shows it: every key, null where the format has none."""
    return {
        "page": place.page,
        "box": None if place.box is None else [round(v, 2) for v in place.box],
        "cell": place.cell,
        "start": place.start,
        "end": place.end,
        "start_s": place.start_s,
        "end_s": place.end_s,
    }


def citation_shown(citation: Citation) -> dict[str, Any]:
    """A citation as `ask --json` shows it."""
    return {
        "n": citation.n,
        "document": citation.document,
        "path": citation.path,
        "version": citation.version,
        "label": str(citation.label),
        "place": place_shown(citation.place),
        "quote": citation.quote,
    }


def block_to(block: Block, *, text: bool = True) -> list[Any]:
    """Without `text`, the reader takes it from the document's text at the place."""
    lines = [[line.start, line.end, line.page, *(round(v, 2) for v in line.box)] for line in block.lines]
    return [block.kind, block.text if text else None, place_to(block.place), block.level, block.reading, lines]


def block_from(values: list[Any], text: str | None = None) -> Block:
    kind, own, place, level, reading, lines = values
    at = place_from(place)
    if own is None:
        assert text is not None
        own = text[at.start : at.end]
    return Block(kind, own, at, level, reading, tuple(Line(a, b, p, tuple(box)) for a, b, p, *box in lines))


def document_to(document: Document) -> dict[str, Any]:
    return {
        "name": document.name,
        "media": document.media,
        "title": document.title,
        "text": document.text,
        "blocks": [block_to(block, text=False) for block in document.blocks],
        "pages": document.pages,
        "meta": dict(document.meta),
    }


def document_from(tree: dict[str, Any]) -> Document:
    text = tree["text"]
    blocks = tuple(block_from(values, text) for values in tree["blocks"])
    return Document(tree["name"], tree["media"], tree["title"], text, blocks, tree["pages"], tree["meta"])


def aside_to(aside: Aside) -> dict[str, str]:
    return {"name": aside.name, "reason": aside.reason, "detail": aside.detail}


def chunk_to(chunk: Chunk) -> dict[str, Any]:
    return {
        "id": chunk.id,
        "document": chunk.document,
        "version": chunk.version,
        "path": chunk.path,
        "label": str(chunk.label),
        "ordinal": chunk.ordinal,
        "title": chunk.title,
        "headings": list(chunk.headings),
        "blocks": [block_to(block) for block in chunk.blocks],
    }


def chunk_from(tree: dict[str, Any]) -> Chunk:
    return Chunk(
        tree["id"],
        tree["document"],
        tree["version"],
        tree["path"],
        Label.parse(tree["label"]),
        tree["ordinal"],
        tree["title"],
        tuple(tree["headings"]),
        tuple(block_from(values) for values in tree["blocks"]),
    )
