"""The ledger of a project: what is there, what happened, who may. One object that opens it all.

ledger = Ledger.open(folder)          # folder of hagane.yaml; state lies in folder/.hagane
with ledger.only_writer():
    ledger.documents.put(drafts, keep=3)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from ..core.whole_file import private_folder
from . import db
from .accounts import Accounts
from .audit import AuditLog
from .blobs import FileBlobs, KeyedStore
from .conversations import Conversations
from .documents import Documents
from .feedback import Feedback
from .files import Files
from .groups import Groups
from .hidden import Hidden
from .lineage import Lineage
from .links import Links
from .lock import Writer
from .marks import Marks
from .queue import Queue
from .sessions import Sessions
from .steps import Steps
from .tally import Tally
from .tokens import Tokens
from .uploads import Uploads

if TYPE_CHECKING:
    from .keys import Keys


class Ledger:
    """`documents`, `marks` (labels), `steps`, `lineage`, `blobs`, `parsed`, `audit`. Thread-safe."""

    def __init__(self, state: Path, database: db.Database, *, keys: Keys | None = None) -> None:
        self.state = state
        self.keys = keys  # None: not encrypted
        self._db = database
        self.writer = Writer(state / "lock")
        self.audit = AuditLog(state / "audit", key=keys.name_key("audit digests") if keys is not None else None)
        self.blobs = FileBlobs(state / "blobs", keys=keys)
        self.parsed = KeyedStore(state / "parsed", keys=keys)
        self._outputs = outputs = KeyedStore(state / "steps", keys=keys, kind="steps")
        self.documents = Documents(database, self.blobs, self.parsed, outputs, keys=keys)
        self.marks = Marks(database, self.audit)
        self.steps = Steps(database, outputs)
        self.files = Files(database)
        self.conversations = Conversations(database, keys=keys)
        self.feedback = Feedback(database)
        self.queue = Queue(database)
        self.lineage = Lineage(database)
        self.accounts = Accounts(database, self.audit)
        self.groups = Groups(database, self.audit)
        self.sessions = Sessions(database, self.audit)
        self.links = Links(database, self.audit, self.sessions)
        self.tokens = Tokens(database, self.audit, self.sessions)
        self.tally = Tally(database)
        self.hidden = Hidden(database)  # for the audit log alone
        self.uploads = Uploads(database, self.blobs, self.audit, state / "incoming")

    @classmethod
    def open(cls, folder: Path, *, keys: Keys | None = None) -> Ledger:
        """Open or create the ledger in `folder`/.hagane, migrating an older schema; with `keys`, it is encrypted.
        Raises: StorageError (full, damaged, locked, no rights); StateError (written by a newer hagane)."""
        state = folder / ".hagane"
        with db.explained(state):  # what lies in it is for the one who made it: copies of all documents
            private_folder(state)
        return cls(state, db.Database.open(state / "ledger.db", keys=keys), keys=keys)

    def only_writer(self, command: str = "sync") -> AbstractContextManager[None]:
        """The project-wide writer lock, held by `command`. Raises: Busy "another sync is running (pid ...)"."""
        return self.writer.alone(command)

    def purge(self) -> None:
        """Leave no byte of deleted rows in the ledger's files. Once after deletions, not per document.
        Raises: StateError while another process still reads the old state."""
        self._db.purge()
        if self.keys is not None:
            self.keys.purge()

    def reseal(self, *, on: bool) -> None:
        """Encrypt or decrypt the whole ledger in one transaction; open it anew afterwards. Under the writer lock."""
        from .reseal import open_all, seal_all

        assert self.keys is not None
        if self._db.sealed != on:
            (seal_all if on else open_all)(self._db, self.keys)

    def renew_columns(self) -> None:
        """New keys for what the ledger's columns hold beside the documents' own. Under the writer lock; then `purge`."""
        from .reseal import renew

        assert self.keys is not None
        renew(self._db, self.keys)

    def convert_files(self) -> Iterator[int]:
        """Encrypt the files of all stores, or decrypt them, as the keys' state says; how many are done, now and then.
        Killed anywhere, doing it again goes on. Under the writer lock."""
        assert self.keys is not None
        done = 0
        for store in (self.blobs, self.parsed, self._outputs):
            for n in store.convert():
                done += n
                yield done

    def fact(self, name: str, default: Any = None) -> Any:
        """A small remembered JSON value of the project (index fingerprint, operating point, ...)."""
        with self._db.reading() as connection:
            query = select(db.facts.c.value).where(db.facts.c.name == name)
            row = connection.execute(query).first()
        return default if row is None else row.value

    def remember(self, **facts: Any) -> None:
        """Write facts in one durable commit."""
        with self._db.writing() as connection:
            db.upsert(connection, db.facts, [{"name": name, "value": value} for name, value in facts.items()])

    def close(self) -> None:
        self._db.close()
        if self.keys is not None:
            self.keys.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
