"""Verbs about files that come through the page: upload, list, take away.

An upload is one more source, `@uploads`: its files come from the ledger's table and not from a folder. Its documents
have the path `uploads/USER/NAME`; each person has a folder of their own, so that a name that is taken by something
that one may not see is never told apart from a free one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hagane.core.errors import TooLargeError, UsageError
from hagane.core.labels import PUBLIC, Label
from hagane.core.text import folded_path
from hagane.core.types import Principal
from hagane.ledger.access import require
from hagane.ledger.uploads import SOURCE, Upload, no_room
from hagane.rag.changes import Source
from hagane.rag.scan import Found

from .wire import Project

FOLDER = "uploads"
LONGEST_PART_BYTES = 240
LONGEST_PATH = 800  # characters
DEEPEST = 16  # folders
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they make gpj.exe look like exe.jpg


def path_of(name: str, user: str) -> str:
    """The document path of what `user` uploads as `name`: `uploads/USER/NAME`, NFC. `name` may lie in folders.
    Raises: UsageError for a name that leads elsewhere or cannot be shown."""
    parts = [part.strip() for part in folded_path(name).split("/")]
    if not 1 <= len(parts) <= DEEPEST or any(part in ("", ".", "..") for part in parts):
        raise UsageError("the name is not one of a file below a folder", hint="for example 規程.pdf or 規程/旅費.pdf")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp") or c in _DIRECTIONS for c in name):
        raise UsageError("the name holds control characters", hint="rename the file, then upload it again")
    if any(len(part.encode()) > LONGEST_PART_BYTES for part in parts) or any(part.endswith("!") for part in parts[:-1]):
        raise UsageError(f"a part of the name is longer than {LONGEST_PART_BYTES} bytes, or a folder ends with !",
                         hint="rename it, then upload it again")  # fmt: skip
    path = "/".join([FOLDER, user.replace("/", "-"), *parts])
    if len(path) > LONGEST_PATH:
        raise UsageError(f"the name is longer than {LONGEST_PATH} characters", hint="use fewer folders or shorter names")
    return path


def upload(
    project: Project, name: str, chunks: Iterable[bytes], *, by: Principal, label: str | None = None,
    replace: bool = False, size: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Keep a file; when this returns, it is durable. `size` is what the sender announced, in bytes. Reading it is
    the business of the next sync (`project/work.py`).

    Raises: UsageError for a bad name; LabelError; RefusedError for a label above `by`; TooLargeError beyond the
    quotas; StateError when a file of `by` stands there and `replace` is not said; StorageError, AuditError.
    """
    path = path_of(name, by.name)
    own = project.label(label) if label else Label.parse(project.config.labels.default)
    require(own, by, what=f"what carries {own}")
    store, quota = project.ledger.uploads, project.config.server
    limit = quota.upload_mb * 1_000_000
    if size is not None and size > limit:
        raise _too_large(quota.upload_mb)
    if not replace:
        store.require_free(path, by=by)
    total = int(quota.upload_total_gb * 1e9)
    room = total - store.total_bytes(but=path)  # `put` looks again: others upload meanwhile
    with store.arriving() as arriving:
        for piece in chunks:
            if arriving.size + len(piece) > limit:
                raise _too_large(quota.upload_mb)
            if arriving.size + len(piece) > room:
                raise no_room()
            arriving.write(piece)
        kept = store.put(arriving, path, label=own, by=by, replace=replace, limit_bytes=total)
    return shown_upload(kept)


def uploads(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """The uploads that `by` may see, by path; `state` is "" until a file was read."""
    found = project.ledger.uploads.list(by=by)
    project.ledger.audit.record_with_others("list", principal=by.name, what="uploads", found=len(found))
    return [shown_upload(upload) for upload in found]


def remove_upload(project: Project, path: str, *, by: Principal) -> dict[str, Any]:
    """Take an upload away. Its document leaves search and disk with the next sync.
    Raises: NotFoundError; RefusedError when another person uploaded it and `by` may not administer."""
    return shown_upload(project.ledger.uploads.remove(folded_path(path), by=by))


def upload_source(project: Project) -> list[Source]:
    """The uploads as a source, if there are or were any. The label of a file is its documents' own mark; the
    source itself adds nothing."""
    ledger = project.ledger
    rows = ledger.uploads.every()
    if not rows and SOURCE not in ledger.files.sources():
        return []
    found, floors = [], {}
    for row in rows:
        file = ledger.blobs.file(row.sha256)  # where the bytes lie; the worker opens them by their sha256
        found.append(Found(row.path, str(file), row.size, _stamp(row.sha256), row.sha256))
        floors[row.path] = str(row.floor)
    return [Source(SOURCE, ledger.blobs.folder, project.folder, PUBLIC, listed=tuple(found), floors=floors)]


def unread(project: Project) -> list[str]:
    """For whom a sync has something to do with uploads: names of those whose files came, changed or left since the
    last one. Empty: nothing. A server that was killed between keeping a file and queueing its sync looks here."""
    ledger = project.ledger
    seen = {path: row.stamp for path, row in ledger.files.every(SOURCE).items()}
    rows = {row.path: row for row in ledger.uploads.every()}
    names = [row.user for path, row in rows.items() if seen.get(path) != _stamp(row.sha256)]
    names += [path.split("/")[1] for path in seen if path not in rows]
    return list(dict.fromkeys(names))


def shown_upload(upload: Upload) -> dict[str, Any]:
    """As JSON shows it."""
    kept = asdict(upload) | {"label": str(upload.label)}
    del kept["floor"]
    return kept


def _stamp(sha256: str) -> str:
    return f"upload {sha256}"


def _too_large(limit_mb: int) -> TooLargeError:
    return TooLargeError(f"the file is larger than {limit_mb} MB", hint="server.upload_mb sets the limit")
