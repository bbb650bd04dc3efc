"""A chunk's blocks, title, headings and path as compressed JSON: what a store keeps but never searches."""

from __future__ import annotations

import json
from typing import Any

import zstandard

from ..core.labels import Label
from ..core.types import Block, Chunk, Line, Place

_LEVEL = 3  # zstd; higher levels gain less than 5 % on rows of 1 to 2 KB


class Plain:
    """The `Sealer` of a project that is not encrypted."""

    form = "plain"

    def seal(self, document: str, data: bytes, *, bound: bytes) -> bytes:
        return data

    def open(self, document: str, sealed: bytes, *, bound: bytes) -> bytes:
        return sealed

    def term(self, term: str) -> str:
        return term


def pack(chunk: Chunk) -> bytes:
    """The fields of `chunk` that have no column of their own. Inverse: `unpack`."""
    blocks = [
        [b.kind, b.text, _place_fields(b.place), b.level, b.reading, [(x.start, x.end, x.page, x.box) for x in b.lines]]
        for b in chunk.blocks
    ]
    tree = [chunk.path, chunk.title, list(chunk.headings), blocks]
    data = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return zstandard.compress(data, _LEVEL)


def _place_fields(p: Place) -> tuple[Any, ...]:
    return p.page, p.box, p.cell, p.start, p.end, p.start_s, p.end_s


def _box(box: list[float] | None) -> tuple[float, float, float, float] | None:
    return None if box is None else (box[0], box[1], box[2], box[3])


def _place(values: list[Any]) -> Place:
    page, box, *rest = values
    return Place(page, _box(box), *rest)


def _line(values: list[Any]) -> Line:
    start, end, page, box = values
    return Line(start, end, page, (box[0], box[1], box[2], box[3]))


def text_of(payload: bytes) -> str:
    """The JSON of a payload."""
    return zstandard.decompress(payload).decode("utf-8", "surrogatepass")


def unpack(payload: bytes, *, id: str, document: str, version: str, label: str, ordinal: int) -> Chunk:
    """The chunk whose other fields `payload` holds. Raises: LabelError for an unknown label."""
    path, title, headings, blocks = json.loads(text_of(payload))
    return Chunk(
        id=id,
        document=document,
        version=version,
        path=path,
        label=Label.parse(label),
        ordinal=ordinal,
        title=title,
        headings=tuple(headings),
        blocks=tuple(
            Block(kind, text, _place(place), level, reading, tuple(_line(line) for line in lines))
            for kind, text, place, level, reading, lines in blocks
        ),
    )
