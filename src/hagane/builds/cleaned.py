"""The text that a model learns from a document: headings and paragraphs in reading order, what cleaning left out not in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hagane.core.codec import document_from
from hagane.core.labels import Label
from hagane.core.types import Block
from hagane.train.words import Row

TIGHT = ("list_item", "row")  # blocks of these kinds follow each other without a blank line


def text_of(entry: Mapping[str, Any]) -> str:
    """The text of a parsed document as the ledger keeps it: {"document", "dropped": [[block, reason], ...]}.

    Blocks are parted by a blank line, list items and rows by a line end. Rows are said with their headers, as they are
    searched. "" when everything was left out.
    """
    left_out = {int(n) for n, _ in entry.get("dropped", ())}
    text, last = "", None
    for n, block in enumerate(document_from(entry["document"]).blocks):
        said = block.spoken.strip()
        if n in left_out or not said:
            continue
        text += (_gap(last, block) if last else "") + said
        last = block
    return text


def as_row(told: Mapping[str, Any]) -> Row:
    """A document's text as a row, from JSON as it goes through a pipe: {"source", "line", "label", "text"}."""
    return Row(Label.parse(told["label"]), told["source"], told["line"], told["text"])


def _gap(last: Block, block: Block) -> str:
    return "\n" if last.kind == block.kind and block.kind in TIGHT else "\n\n"
