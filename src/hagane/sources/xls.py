"""Old XLS workbooks and OpenDocument sheets through calamine: values and merged cells, no formats."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import olefile
from python_calamine import CalamineError, CalamineWorkbook, PasswordError

from ..core.errors import SourceError
from ..core.types import Aside, Blob, Document
from .build import Builder, fold, stem
from .detect import MEDIA
from .grid import Cell
from .limits import Limits
from .numfmt import iso, number_text
from .panics import panics_are_damage
from .sheets import add_sheet


class XlsParser:
    """A workbook: each worksheet a page, each row a block with its cells."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, encrypted, empty, too_large."""
        with panics_are_damage():
            document = self._document(blob)
        yield document

    def _document(self, blob: Blob) -> Document:
        made = Builder()
        _check_whole(blob)
        try:
            book = CalamineWorkbook.from_path(blob.file)
        except PasswordError as cause:
            raise SourceError("it is protected by a password", reason="encrypted") from cause
        except (CalamineError, OSError, ValueError) as cause:
            reason = "encrypted" if "password" in str(cause).lower() else "damaged"
            raise SourceError("the workbook cannot be read", reason=reason) from cause
        names = book.sheet_names
        for page, name in enumerate(names, 1):
            try:
                sheet = book.get_sheet_by_name(name)
            except CalamineError:
                continue  # chart sheets hold no cells
            add_sheet(made, fold(name), _cells(sheet, self._limits), page=page)
        with open(blob.file, "rb") as stream:
            media = MEDIA["ods"] if stream.read(2) == b"PK" else MEDIA["xls"]
        return made.document(
            blob, media=media, limits=self._limits, title=_title(made) or stem(blob.path), pages=max(1, len(names))
        )


def _check_whole(blob: Blob) -> None:
    """A storage cut short makes calamine panic (with a long trace on stderr): find it first."""
    if not olefile.isOleFile(blob.file):
        return
    try:
        with olefile.OleFileIO(blob.file) as ole:
            for name in ("Workbook", "Book"):
                if ole.exists(name):
                    ole.openstream(name).close()
    except (OSError, ValueError, TypeError, IndexError, RecursionError) as cause:
        raise SourceError("its storage is damaged", reason="damaged") from cause


def _title(made: Builder) -> str:
    return next((b.text for b in made.blocks if b.kind == "heading" and b.level > 1), "")


def _cells(sheet: Any, limits: Limits) -> list[Cell]:
    spans = {}
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        spans[top, left] = (bottom - top + 1, right - left + 1)
    cells, n_chars = [], 0
    top = sheet.start[0] if sheet.start else 0
    left = sheet.start[1] if sheet.start else 0
    for row, values in enumerate(sheet.iter_rows(), top):
        for column, value in enumerate(values, left):
            text, is_number = _text(value)
            if text:
                rows, columns = spans.get((row, column), (1, 1))
                cells.append(Cell(row + 1, column + 1, text, rows, columns, is_number=is_number))
                n_chars += len(text)
        if n_chars > limits.max_chars:
            raise SourceError("a sheet holds more than is allowed", reason="too_large")
    return cells


def _text(value: Any) -> tuple[str, bool | None]:
    if isinstance(value, bool):
        return str(value), False
    if isinstance(value, int | float):
        return number_text(value), True
    if isinstance(value, dt.datetime | dt.date | dt.time | dt.timedelta):
        return iso(value), False
    return fold(str(value)), False if value else None
