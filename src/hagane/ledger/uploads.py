"""Files that came through the page: their bytes are blobs, one row says which, with which label, from whom.

What makes an upload safe against a crash: the bytes are whole on disk first; then, in one transaction that holds the
database's write lock, the blob gets its name, the audit record is written, the row is committed. Whoever deletes
blobs looks at the rows under the same lock (`Documents`), so no blob of a row ever leaves. A blob that got its name
but no row is known by a mark in `incoming/`, and goes with the next `sweep`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import func, select

from ..core.errors import NotFoundError, RefusedError, StateError, StorageError, TooLargeError
from ..core.labels import PUBLIC, Label, join
from ..core.types import Principal
from ..core.whole_file import private_folder, sync_folder
from . import db
from .audit import AuditLog
from .blobs import FileBlobs
from .documents import originals, orphans
from .marks import apply_labels
from .records import effective, now, unlowered

SOURCE = "@uploads"  # the source of these documents; hagane.yaml cannot name one so
_PIECES = ".new-"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it was uploaded. `label` is the one that counts now: the upload's, and what its document got since."""

    path: str  # as its document carries it
    sha256: str
    size: int
    label: Label
    user: str  # name of the principal
    created_at: str
    document: str | None = None  # id; None while it was not read yet
    state: str = ""  # of that document, "" while not read
    floor: Label = PUBLIC  # what the upload itself says


class Arriving:
    """Bytes on their way into a file in `folder`. `sealed`: under a key that only this object has, so that a project
    that is encrypted never has them on disk in the open, nor whole in memory."""

    def __init__(self, folder: Path, *, sealed: bool) -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        self._sealing: Any = None
        with db.explained(folder):
            private_folder(folder)
            self._file: IO[bytes] | None = _held_file(folder)
            if sealed:
                from .sealed_files import Sealing  # late: a project that is not encrypted needs no cryptography

                self._sealing = Sealing(self._file, aad=b"arriving")

    def write(self, piece: bytes) -> None:
        """Raises: StorageError (disk full)."""
        assert self._file is not None
        self._hash.update(piece)
        self.size += len(piece)
        try:
            (self._sealing or self._file).write(piece)
        except OSError as cause:
            raise StorageError(f"the upload could not be kept: {cause.strerror}", hint="free some space, then upload it again") from cause

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def settle(self) -> None:
        """Nothing more comes. Make what came durable; what is sealed is copied for that by `place`. Raises: StorageError."""
        assert self._file is not None
        with db.explained(Path(self._file.name)):
            if self._sealing is not None:
                self._sealing.end()
            self._file.flush()
            if self._sealing is None:
                os.fsync(self._file.fileno())

    def place(self, blobs: FileBlobs) -> None:
        """Give the bytes their name among `blobs`, durably."""
        if blobs.holds(self.sha256):
            return
        if self._sealing is not None:
            blobs.put_pieces(self.sha256, self._sealing.pieces("an upload"))
            return
        assert self._file is not None
        file = blobs.file(self.sha256)
        with db.explained(file):
            private_folder(file.parent)
            os.link(self._file.name, file)
            sync_folder(file.parent)

    def drop(self) -> None:
        """Forget the temporary copy."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._file.name)
            self._file.close()
            self._file = None


def may_remove(upload: Upload, by: Principal) -> bool:
    """Whether `by`, who sees it, may take `upload` away."""
    return upload.user == by.name or "administer" in by.roles


def no_room() -> TooLargeError:
    return TooLargeError("there is no room for more uploads", hint="take uploads away, or raise server.upload_total_gb")


class Uploads:
    """The rows of `uploads`. `every` is for ingestion; people read through `list`."""

    def __init__(self, database: db.Database, blobs: FileBlobs, auditor: AuditLog, folder: Path) -> None:
        self._db = database
        self._blobs = blobs
        self._auditor = auditor
        self.folder = folder  # .hagane/incoming

    @contextlib.contextmanager
    def arriving(self) -> Iterator[Arriving]:
        """Room for one upload; whatever happens, nothing of it is left beside the blob."""
        bytes_in = Arriving(self.folder, sealed=self._blobs.sealing)
        try:
            yield bytes_in
        finally:
            bytes_in.drop()

    def total_bytes(self, *, but: str = "") -> int:
        """What all uploads take, without the one at the path `but`."""
        with self._db.reading() as connection:
            return _total(connection, but=but)

    def every(self) -> list[Upload]:
        """All uploads by path, whatever their label. For ingestion only."""
        with self._db.reading() as connection:
            return told(connection)

    def list(self, *, by: Principal) -> list[Upload]:
        """The uploads whose label flows to `by`, by path."""
        return [upload for upload in self.every() if upload.label.flows_to(by.clearance)]

    def require_free(self, path: str, *, by: Principal) -> None:
        """Raises: StateError when a file that `by` sees has this name. `put` looks again."""
        with self._db.reading() as connection:
            _require_free(connection, path, by=by)

    def find(self, path: str, *, by: Principal) -> Upload:
        """Raises: NotFoundError; also for what `by` may not see."""
        with self._db.reading() as connection:
            found = told(connection, path)
        if not found or not found[0].label.flows_to(by.clearance):
            raise NotFoundError("no such upload", hint="the page lists what there is")
        return found[0]

    def put(
        self, arrived: Arriving, path: str, *, label: Label, by: Principal, replace: bool = False, limit_bytes: int | None = None
    ) -> Upload:  # fmt: skip
        """Keep what arrived as `path`. With `replace` a file that stands there is replaced (without, only one that `by`
        may not see and is not told of), and its label can only rise: nothing lowers by itself. A document made of it
        before gets the label at once. Name and `limit_bytes`, of all uploads together, are looked at in the
        transaction that keeps the file: however many come at once, none is lost and none is too much.
        Raises: StateError when `by` sees a file there and does not `replace` it; TooLargeError; StorageError, AuditError;
        then nothing was kept."""
        arrived.settle()
        sha256 = arrived.sha256
        mark = self.folder / self._blobs.name_of(sha256)  # as the blob's file is called: sealed, it tells no known file
        begun = False
        try:
            with self._db.writing() as connection:
                if not replace:
                    _require_free(connection, path, by=by)
                if limit_bytes is not None and _total(connection, but=path) + arrived.size > limit_bytes:
                    raise no_room()
                begun = True
                held = connection.execute(select(db.uploads).where(db.uploads.c.path == path)).mappings().first()
                with db.explained(mark):
                    private_folder(self.folder)
                    mark.touch(mode=0o600)
                arrived.place(self._blobs)
                label = join(label, *([Label.parse(held["label"])] if held else []))
                replaced = held["sha256"] if held and held["sha256"] != sha256 else None
                self._auditor.record(
                    "upload", principal=by.name, name=self._auditor.digest(path), size=arrived.size, label=str(label),
                    sha256=self._auditor.file_digest(sha256), replaces=self._auditor.file_digest(replaced) if replaced else None,
                )  # fmt: skip
                row = {"path": path, "sha256": sha256, "size": arrived.size, "label": str(label), "user": by.name,
                       "created_at": now()}  # fmt: skip
                db.upsert(connection, db.uploads, [row])
                _raise_document(connection, path, label)
                if replaced:
                    _want_erasure(connection)
        except BaseException:
            if begun:
                self._leave([sha256])
                mark.unlink(missing_ok=True)
            raise
        mark.unlink(missing_ok=True)
        self._leave([replaced] if replaced else [])
        return Upload(path, sha256, arrived.size, label, by.name, row["created_at"], floor=label)

    def remove(self, path: str, *, by: Principal) -> Upload:
        """Take an upload away; its document goes with the next sync.
        Raises: NotFoundError; RefusedError when it is another's and `by` may not `administer`; AuditError."""
        with self._db.writing() as connection:
            found = told(connection, path)
            if not found or not found[0].label.flows_to(by.clearance):
                raise NotFoundError("no such upload", hint="the page lists what there is")
            if not may_remove(found[0], by):
                raise RefusedError("this file is another person's upload", hint="who uploaded it, or an administrator, can take it away")
            self._auditor.record(
                "upload.remove", principal=by.name, name=self._auditor.digest(path), sha256=self._auditor.file_digest(found[0].sha256)
            )  # fmt: skip
            connection.execute(db.uploads.delete().where(db.uploads.c.path == path))
            _want_erasure(connection)
        self._leave([found[0].sha256])
        return found[0]

    def _leave(self, sha256s: Sequence[str]) -> None:
        """Delete those bytes that nothing refers to."""
        if sha256s:
            with self._db.writing() as connection:
                for sha256 in orphans(connection, set(sha256s)):
                    self._blobs.delete(sha256)

    def sweep(self) -> int:
        """Remove what uploads left behind that were killed on their way: pieces, and blobs without a row. How many.
        Safe while others upload."""
        n = 0
        if not self.folder.is_dir():
            return 0
        for left in sorted(self.folder.iterdir()):
            if left.name.startswith(_PIECES):
                n += _removed_if_free(left)
            else:
                with self._db.writing() as connection:
                    n += self._blobs.delete_named(left.name, unless=originals(connection))
                    with contextlib.suppress(OSError):
                        left.unlink(missing_ok=True)
        return n


def _held_file(folder: Path) -> IO[bytes]:
    """A temporary file that `sweep` leaves alone while we live."""
    while True:
        file = tempfile.NamedTemporaryFile(prefix=_PIECES, dir=folder, delete=False)  # noqa: SIM115 (closed by drop)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # no sweep came between making it and holding it
            return file
        file.close()


def _removed_if_free(piece: Path) -> int:
    """Remove a temporary file unless a living upload holds it."""
    with contextlib.suppress(OSError), open(piece, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        piece.unlink()
        return 1
    return 0


def told(connection: Any, path: str | None = None) -> list[Upload]:
    """Uploads with their documents, under the label that counts: what a person did to the document since counts as
    long as it is the same bytes; for other bytes, the file's label and everything that was ever joined to it."""
    d = db.documents.c
    columns = (d.id, d.path, d.state, d.sha256, d.source_label, d.inherited, d.mark, d.lowered_to, d.lowered_for)
    query, those = select(db.uploads), select(*columns).where(d.source == SOURCE, d.parent.is_(None))
    if path is not None:
        query, those = query.where(db.uploads.c.path == path), those.where(d.path == path)
    documents = {row["path"]: row for row in connection.execute(those).mappings()}
    found = []
    for row in connection.execute(query).mappings():
        own, document = Label.parse(row["label"]), documents.get(row["path"])
        label = own
        if document is not None:
            same = document["sha256"] == row["sha256"]
            label = effective(document) if same else own.join(unlowered(document))
            known = {"document": document["id"], "state": document["state"]} if same or not document["sha256"] else {}
        else:
            known = {}
        found.append(Upload(row["path"], row["sha256"], row["size"], label, row["user"], row["created_at"], floor=own, **known))
    return sorted(found, key=lambda upload: upload.path)


def _raise_document(connection: Any, path: str, label: Label) -> None:
    """A document that an upload at `path` became before carries the new file's label at once."""
    d = db.documents.c
    document = connection.execute(select(db.documents).where(d.source == SOURCE, d.path == path)).mappings().first()
    if document is not None:
        own = join(label, *([Label.parse(document["mark"])] if document["mark"] else []))
        ends = {} if label.flows_to(Label.parse(document["label"])) else {"lowered_to": None, "lowered_for": None}
        apply_labels(connection, [{**document, "mark": str(own), **ends}])


def _want_erasure(connection: Any) -> None:
    """The next sync leaves no byte of what was deleted."""
    db.upsert(connection, db.facts, [{"name": "purging", "value": True}])


def _total(connection: Any, *, but: str) -> int:
    sizes = select(func.coalesce(func.sum(db.uploads.c.size), 0)).where(db.uploads.c.path != but)
    return int(connection.execute(sizes).scalar_one())


def _require_free(connection: Any, path: str, *, by: Principal) -> None:
    if any(held.label.flows_to(by.clearance) for held in told(connection, path)):
        raise StateError("a file of that name is there already", hint="replace it, or choose another name")
