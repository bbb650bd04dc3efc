"""Old Word and PowerPoint and RTF through kreuzberg: their text, little structure."""

from __future__ import annotations

from collections.abc import Iterator

import kreuzberg

from ..core.errors import SourceError
from ..core.types import Aside, Blob, Document
from .build import Builder
from .detect import detect
from .limits import Limits
from .panics import panics_are_damage
from .text import text_blocks


class LegacyParser:
    """One document of paragraphs and what reads as headings."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """One document. Raises: SourceError damaged, empty, too_large."""
        media = detect(blob).media
        try:
            with panics_are_damage():
                found = kreuzberg.extract_file_sync(blob.file, media)
        except SourceError:
            raise
        except Exception as cause:  # its error classes differ by version; the file is what failed
            raise SourceError("it cannot be read", reason="damaged") from cause
        made = Builder()
        for block in text_blocks(found.content.replace("\r\n", "\n").replace("\r", "\n")):
            made.add(block.kind, block.text, level=block.level, reading=block.reading)
        title = found.metadata.get("title") if isinstance(found.metadata, dict) else None
        yield made.document(blob, media=media, limits=self._limits, title=str(title or ""))
