"""Originals as a person may look at them: a page as a picture, a worksheet as cells, a part's own bytes.

Runs in a worker process (`hagane.sources.render:handle`) with limits on time and memory: what is opened here came from
outside. Gets bytes and a name, never a path of the project; sealed originals are never on the disk.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import SourceError
from ..core.memory_file import memory_file
from ..core.registry import load
from ..core.types import Aside, Blob, Document
from .detect import detect
from .files import PARSERS, blob_of
from .limits import Budget, Limits

_DEEPEST = 3
_LARGEST = 4_000  # pixels of a picture's longer side; more is shown coarser
_WINDOW = 200  # rows of a worksheet at a time


def handle(request: Mapping[str, Any]) -> dict[str, Any]:
    """One look at an original: {"op": "page" | "sheet" | "bytes", "data", "path", "part", ...}.

    `part` is the name of a part inside the file ("" for the file itself). Raises: SourceError; ValueError for a page
    that is not there.
    """
    with memory_file() as (copy, path):
        copy.write(request["data"])
        copy.flush()
        blob = Blob(str(path), request["path"], len(request["data"]), "")
        data = _part(blob, request["part"]) if request["part"] else request["data"]
    if request["op"] == "bytes":
        return {"data": data}
    name = request["part"] or request["path"]
    with memory_file() as (copy, path):
        copy.write(data)
        copy.flush()
        blob = Blob(str(path), name, len(data), "")
        if request["op"] == "sheet":
            return _sheet(blob, request["page"], request["row"])
        return _page(blob, request["page"], request["dpi"])


class _Found(Exception):
    """The part that was looked for: a way out of parsers that hand their parts to a function."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


def _part(blob: Blob, part: str, depth: int = 0) -> bytes:
    """The bytes of the part called `part`, which may lie inside another one ("b.zip!/c.md")."""

    def look(name: str, path: Path) -> Iterator[Document | Aside]:
        if name == part:
            raise _Found(path.read_bytes())
        if part.startswith(f"{name}!/") and depth < _DEEPEST:
            raise _Found(_part(blob_of(path, path=name), part[len(name) + 2 :], depth + 1))
        return iter(())

    limits = Limits()
    made = load(PARSERS, detect(blob).kind, what="parser")
    try:
        for _ in made(limits=limits, budget=Budget(limits), inner=look).read(blob):
            pass
    except _Found as found:
        return found.data
    except TypeError as cause:
        raise SourceError("this file has no parts", reason="unsupported") from cause
    raise SourceError("the part is not in the file", reason="damaged")


def _page(blob: Blob, page: int, dpi: int) -> dict[str, Any]:
    """A PDF page or a picture as PNG, with its size in the unit of the document's boxes."""
    kind = detect(blob).kind
    if kind == "pdf":
        from .pdf import page_size, render_page

        width, height = page_size(blob, page)
        longest = max(width, height) * dpi / 72
        dpi = max(20, int(dpi * min(1.0, _LARGEST / longest)))
        return {"png": render_page(blob, page, dpi=dpi), "width": width, "height": height}
    if kind == "image":
        return _picture(blob, page)
    raise SourceError(f"{kind} has no pages to look at", reason="unsupported")


def _picture(blob: Blob, page: int) -> dict[str, Any]:
    from PIL import Image, ImageOps

    try:
        with Image.open(blob.file) as file:
            if file.width * file.height > 200_000_000:
                raise SourceError(f"{file.width} x {file.height} pixels", reason="too_large")
            if page > 1:
                file.seek(page - 1)
            image = ImageOps.exif_transpose(file)
            width, height = image.size
            image = image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")
            image.thumbnail((_LARGEST // 2, _LARGEST // 2))
            stream = io.BytesIO()
            image.save(stream, "PNG")
    except EOFError as cause:
        raise ValueError(f"page {page}") from cause
    except (Image.DecompressionBombError, OSError, SyntaxError) as cause:
        raise SourceError("not a readable picture", reason="damaged") from cause
    return {"png": stream.getvalue(), "width": float(width), "height": float(height)}


def _sheet(blob: Blob, page: int, row: int) -> dict[str, Any]:
    """The rows around `row` of one worksheet: cells as [row, column, rows, columns, text, strong, number]."""
    kind = detect(blob).kind
    if kind != "xlsx":
        raise SourceError(f"{kind} is shown by its rows", reason="unsupported")
    from .xlsx import worksheet

    name, cells = worksheet(blob.file, page, limits=Limits())
    last = max((cell.row + min(cell.rows, 1_000) - 1 for cell in cells), default=1)
    first = max(1, (row - 1) // _WINDOW * _WINDOW + 1)
    end = min(last, first + _WINDOW - 1)
    shown = []
    for cell in cells:
        top, bottom = max(cell.row, first), min(cell.row + cell.rows - 1, end)
        if top <= bottom and cell.column <= 200:
            shown.append([top, cell.column, bottom - top + 1, min(cell.columns, 200), cell.said, cell.is_strong, cell.numeric])
    return {"name": name, "cells": shown, "first": first, "end": end, "last": last}
