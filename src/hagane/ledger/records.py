"""What the ledger says of a document: Draft (what ingestion writes), Record (what is read), Version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from ..core.labels import Label, join
from ..core.text import folded_path

State = Literal["in", "aside", "duplicate"]


def now() -> str:
    """UTC with milliseconds, as every record of the ledger carries it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def document_id(source: str, path: str, n: int = 0) -> str:
    """The id of the document first seen at `path` of `source`; `n` counts up when that id is taken
    (a renamed document keeps its id, a new file may then stand at its first path)."""
    return "d_" + _hex(16, source, folded_path(path), str(n))


def version_id(document: str, sha256: str, fingerprint: str) -> str:
    """The id of a document's version: 12 hex digits of the document, its bytes and how it was parsed."""
    return _hex(12, document, sha256, fingerprint)


def _hex(n: int, *parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:n]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A document as ingestion found it. `source_label` is what the source gives; the ledger never lowers
    by it. `version` is "" when there is no parsed version (set aside). `parent` is the id of the container."""

    id: str
    source: str
    path: str
    source_label: Label
    state: State = "in"
    media: str = ""
    title: str = ""
    sha256: str = ""
    version: str = ""
    reason: str = ""  # why it is aside, or what was dropped
    detail: str = ""
    duplicate_of: str | None = None  # id of the kept twin
    parent: str | None = None
    pages: int = 0
    n_chars: int = 0
    n_chunks: int = 0
    quality: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0  # bytes
    mtime_ns: int = 0
    floor: Label | None = None  # joins the own mark: what the file's document was under another source


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Draft):
    """A document as the ledger holds it. `label` is the one that counts: the join of the source's label,
    the own mark and the container's, or the lowered one while the content stays the same."""

    label: Label
    mark: Label | None = None
    inherited: Label
    lowered: bool = False
    added_at: str = ""
    changed_at: str = ""


class Brief(NamedTuple):
    """What a list of documents looks at; `label` as written."""

    id: str
    path: str
    source: str
    title: str
    state: str
    label: str
    media: str
    parent: str | None
    changed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a document; old ones keep the label they had, or a stricter one."""

    id: str
    document: str
    seq: int
    current: bool
    label: Label
    path: str
    title: str
    media: str
    sha256: str
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What `put` did: versions that left (their parsed bytes are deleted already)."""

    dropped_versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What `delete` did. `widowed` are duplicates whose kept twin left: parse them anew.
    `touched` are derived things (answers, datasets, ...) that also hold other material."""

    documents: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    widowed: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()


_PLAIN = (
    "id", "source", "path", "state", "media", "title", "sha256", "version", "reason", "detail", "duplicate_of",
    "parent", "pages", "n_chars", "n_chunks", "size", "mtime_ns",
)  # fmt: skip


@lru_cache(maxsize=4096)
def label_of(text: str) -> Label:
    """A label as it stands in a row; there are few different ones and many rows."""
    return Label.parse(text)


def row_of(draft: Draft) -> dict[str, Any]:
    """The columns of `draft` that ingestion decides; labels are added by the ledger."""
    row = {name: getattr(draft, name) for name in _PLAIN}
    row["path"] = folded_path(draft.path)
    row["quality"] = dict(draft.quality)
    row["meta"] = dict(draft.meta)
    return row


def unlowered(row: Mapping[str, Any]) -> Label:
    """The join of everything that gives the document of `row` a label."""
    texts = [row["source_label"], row["inherited"], *([row["mark"]] if row["mark"] else [])]
    return join(*(label_of(text) for text in texts))


def effective(row: Mapping[str, Any]) -> Label:
    """The label that counts for the document of `row`."""
    if row["lowered_to"] and row["lowered_for"] == row["sha256"]:
        return label_of(row["lowered_to"])
    return unlowered(row)


def record_of(row: Mapping[str, Any]) -> Record:
    """A row of `documents` as Record."""
    return Record(
        **{name: row[name] for name in _PLAIN},
        source_label=label_of(row["source_label"]),
        quality=row["quality"],
        meta=row["meta"],
        label=label_of(row["label"]),
        mark=label_of(row["mark"]) if row["mark"] else None,
        inherited=label_of(row["inherited"]),
        lowered=bool(row["lowered_to"]) and row["lowered_for"] == row["sha256"],
        added_at=row["added_at"],
        changed_at=row["changed_at"],
    )


def version_of(row: Mapping[str, Any]) -> Version:
    """A row of `versions` as Version."""
    return Version(**{**row, "label": label_of(row["label"])})
