"""The wrapped keys of documents, originals and columns: a small SQLite file of its own in `.hagane/keys`.

Apart from the data, so that a key that is deleted here is gone for every copy of the data, too. Names say
what a key is for: a document's or conversation's id, `blob:`, `parsed:` and `steps:` with the name of a file,
`columns:` with an epoch. What lies here are ciphertexts under the project key (keys.py).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import StateError, StorageError
from ..core.whole_file import private_folder

BUSY_S = 30.0
_BATCH = 400

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, wrapped BLOB NOT NULL, made_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class KeyStore:
    """Wrapped keys by name. Any number of threads and processes. `durable`: every write is on the disk when it
    returns; without it, the caller syncs the file system before it relies on them (worker processes)."""

    def __init__(self, file: Path, *, durable: bool = True) -> None:
        self.file = file
        self._lock = threading.RLock()
        with self._explained():
            private_folder(file.parent)
            new = not file.exists()
            self._sql = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            for pragma in (
                f"busy_timeout={int(BUSY_S * 1000)}",
                "journal_mode=WAL",
                f"synchronous={'FULL' if durable else 'NORMAL'}",
                "secure_delete=ON",
                "temp_store=MEMORY",
                "cell_size_check=ON",
            ):
                self._sql.execute(f"PRAGMA {pragma}")
            if new:
                file.chmod(0o600)
            self._sql.executescript(_SCHEMA)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError) as cause:
            what = "the disk is full" if "full" in str(cause).lower() else f"the key store failed ({type(cause).__name__})"
            raise StorageError(f"{self.file}: {what}", hint="check space and rights of .hagane/keys, or restore it from a backup") from cause

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")

    def changed(self) -> int:
        """A number that changes whenever another connection changed the store."""
        with self._explained():
            return int(self._sql.execute("PRAGMA data_version").fetchone()[0])

    def get(self, names: Sequence[str]) -> dict[str, bytes]:
        """Those of `names` that there are, wrapped."""
        found: dict[str, bytes] = {}
        with self._explained():
            for at in range(0, len(names), _BATCH):
                batch = names[at : at + _BATCH]
                marks = ",".join("?" * len(batch))
                found.update(self._sql.execute(f"SELECT name, wrapped FROM keys WHERE name IN ({marks})", batch))
        return found

    def add(self, keys: Mapping[str, bytes]) -> None:
        """Keep keys, in one commit; those whose name is there already change nothing."""
        if keys:
            at = int(time.time())
            with self._writing() as sql:
                rows = [(name, wrapped, at) for name, wrapped in keys.items()]
                sql.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", rows)

    def drop(self, names: Iterable[str]) -> None:
        """Delete keys, in one commit. `purge` then leaves no byte of them."""
        rows = [(name,) for name in names]
        if rows:
            with self._writing() as sql:
                sql.executemany("DELETE FROM keys WHERE name = ?", rows)

    def names(self, prefix: str = "", *, older_s: int = 0) -> list[str]:
        """Names that begin with `prefix`, made at least `older_s` seconds ago."""
        query = "SELECT name FROM keys WHERE substr(name, 1, ?) = ? AND made_at <= ? ORDER BY name"
        with self._explained():
            return [row[0] for row in self._sql.execute(query, (len(prefix), prefix, int(time.time()) - older_s))]

    def rewrap(self, again: Callable[[str, bytes], bytes], *, project: str, without: Collection[str] = ()) -> None:
        """Replace every wrapped key by `again(name, wrapped)` and note the project key, all in one commit."""
        with self._writing() as sql:
            rows = [row for row in sql.execute("SELECT name, wrapped FROM keys") if row[0] not in without]
            sql.executemany("UPDATE keys SET wrapped = ? WHERE name = ?", [(again(name, old), name) for name, old in rows])
            sql.execute("INSERT OR REPLACE INTO meta VALUES ('project', ?)", (project,))

    @property
    def project(self) -> str | None:
        """Id of the project key that wraps these."""
        with self._explained():
            row = self._sql.execute("SELECT value FROM meta WHERE name = 'project'").fetchone()
        return None if row is None else str(row[0])

    @project.setter
    def project(self, id: str) -> None:
        with self._writing() as sql:
            sql.execute("INSERT OR REPLACE INTO meta VALUES ('project', ?)", (id,))

    def purge(self) -> None:
        """Leave no byte of deleted keys in the file or its log. Raises: StateError while another process reads."""
        with self._explained():
            self._sql.execute("VACUUM")
            busy = self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise StateError("another process reads the keys, so deleted ones are still in its log",
                             hint="end the other hagane and run sync again")  # fmt: skip

    def close(self) -> None:
        with self._lock:
            self._sql.close()
