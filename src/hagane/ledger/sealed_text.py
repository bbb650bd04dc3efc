"""What a sealed text of the ledger looks like, and whose key it wants. Without any cryptography (seal.py has that)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.errors import StorageError

MARK = "\x1f"  # begins every sealed text; plain texts that begin so are escaped
# Behind it: c, sealed under the column's key; d, under the owner's; t, under the owner's with a tag to look it up by.
TAGGED = 2 + 32  # characters of MARK, t and the tag: what is compared


@dataclass(frozen=True, slots=True)
class Owned:
    """A value for a sealed column, to be sealed under the key of `owner`: a document's or a conversation's id.
    Erasing the owner then reaches every copy. In a project that is not encrypted it is the bare value."""

    value: Any
    owner: str


def is_sealed(text: str) -> bool:
    """Whether a text as it lies in the ledger is sealed."""
    return text[:1] == MARK and text[1:2] in ("c", "d", "t")


def escaped(text: str) -> str:
    """A plain text as it lies in a ledger that is not encrypted: unlike any sealed one."""
    return f"{MARK}p{text}" if text.startswith(MARK) else text


def unescaped(text: str) -> str:
    """Inverse of `escaped`. Raises: StorageError for a sealed text: the project was encrypted meanwhile."""
    if not text.startswith(MARK):
        return text
    if text[1:2] != "p":
        raise StorageError("the ledger is encrypted", hint="run the command again; hagane.yaml must name encryption.key")
    return text[2:]
