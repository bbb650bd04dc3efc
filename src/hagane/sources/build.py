"""Blocks to a document: offsets, titles, folded lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from ..core.errors import SourceError
from ..core.text import one_line
from ..core.types import Blob, Block, BlockKind, Document, Place
from .limits import Limits, check_chars

_BREAK = re.compile(r"[ \t\xa0]*[\r\n\v\f\x85\u2028\u2029]+[ \t\xa0]*")
_BLANKS = re.compile(r"[ \t\xa0]+")


def is_wide(char: str) -> bool:
    """True for Japanese and other characters that are written without blanks between words."""
    return (
        "\u2e80" <= char <= "\u9fff"
        or "\uf900" <= char <= "\ufaff"
        or "\uff01" <= char <= "\uffef"
        or char > "\U0001ffff"
    )


def fold(text: str) -> str:
    """`text` on one line; where two Japanese lines meet there is no blank between them."""
    if not text:
        return ""
    text = text.strip()
    if "\n" in text or "\r" in text or "\v" in text or "\f" in text or "\u2028" in text or "\x85" in text:
        text = _BREAK.sub(lambda m: _joint(text, m), text)
    return _BLANKS.sub(" ", text) if "  " in text or "\t" in text or "\xa0" in text else text


def _joint(text: str, match: re.Match[str]) -> str:
    before = text[match.start() - 1] if match.start() else " "
    after = text[match.end()] if match.end() < len(text) else " "
    return "" if is_wide(before) and is_wide(after) else " "


class Builder:
    """Collects blocks in reading order; the document's text is their texts joined by newlines."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._n_chars = 0

    def add(
        self,
        kind: BlockKind,
        text: str,
        *,
        level: int = 0,
        reading: str | None = None,
        page: int | None = None,
        cell: str | None = None,
    ) -> None:
        """Append one block; nothing happens for a text without visible characters."""
        text = text.strip()
        if not text:
            return
        start = self._n_chars + (1 if self.blocks else 0)
        end = start + len(text)
        place = Place(page=page, cell=cell, start=start, end=end)
        self.blocks.append(Block(kind, text, place, level, None if reading == text else reading))
        self._n_chars = end

    def heading(self) -> str:
        """The first title or heading, else nothing."""
        return next((block.text for block in self.blocks if block.kind in ("title", "heading")), "")

    def document(
        self,
        blob: Blob,
        *,
        media: str,
        limits: Limits,
        title: str = "",
        pages: int = 1,
        meta: Mapping[str, str] | None = None,
    ) -> Document:
        """The finished document. Raises: SourceError empty or too_large."""
        if not self.blocks:
            raise SourceError("there is no text in it", reason="empty")
        check_chars(self._n_chars, limits)
        text = "\n".join(block.text for block in self.blocks)
        shown = one_line(title, limit=200) or one_line(self.heading(), limit=200) or stem(blob.path)
        known = {key: value for key, value in (meta or {}).items() if value}
        return Document("", media, shown, text, tuple(self.blocks), pages, known)


def sliced(
    blob: Blob,
    text: str,
    blocks: list[Block],
    *,
    media: str,
    limits: Limits,
    title: str = "",
    meta: Mapping[str, str] | None = None,
) -> Document:
    """A document whose text is the decoded file itself. Raises: SourceError empty or too_large."""
    check_chars(len(text), limits)
    if not blocks:
        raise SourceError("there is no text in it", reason="empty")
    first = next((b.spoken for b in blocks if b.kind in ("title", "heading")), "")
    shown = one_line(title, limit=200) or one_line(first, limit=200) or stem(blob.path)
    return Document("", media, shown, text, tuple(blocks), 1, {k: v for k, v in (meta or {}).items() if v})


def stem(path: str) -> str:
    """A file's name without folders and ending: the title of last resort."""
    return PurePosixPath(path.rpartition("!/")[2]).stem or path
