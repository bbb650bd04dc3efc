"""Numbers for quotes: every place is cited once, in the order of its first use, and quoted verbatim."""

from __future__ import annotations

from collections.abc import Sequence

from hagane.core.types import Citation, Passage
from hagane.prepare.cut import locate


class Citer:
    """Gives out the marks `[n]` of one answer."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._known: dict[tuple[str, str, str], Citation] = {}

    def cite(self, passage: int, block: int, start: int, end: int) -> tuple[Citation, bool]:
        """The citation of the characters `start` to `end` of a block, and whether it is new."""
        chunk = self._passages[passage].chunk
        place, quote = locate(chunk.blocks[block], start, end)
        key = (chunk.document, chunk.version, f"{place}")
        found = self._known.get(key)
        if found is not None:
            return found, False
        made = Citation(
            n=len(self._known) + 1,
            document=chunk.document,
            path=chunk.path,
            version=chunk.version,
            label=chunk.label,
            place=place,
            quote=quote,
        )
        self._known[key] = made
        return made, True
