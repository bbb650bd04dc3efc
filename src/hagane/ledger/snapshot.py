"""The ledger's files as of one moment, for a backup; and what a ledger that was brought back has to forget.

Works on the files themselves, while others read and write them.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import AuditError, StorageError
from . import db
from .audit import AuditLog, Head, head_bytes
from .sealed_text import MARK, TAGGED
from .tables import Sealed

if TYPE_CHECKING:
    from .keys import Keys

LEDGER = "ledger.db"
_OWNED = f"""(substr("{{0}}", 1, 2) = '{MARK}d' OR substr("{{0}}", 1, 2) = '{MARK}t' AND substr("{{0}}", {TAGGED + 1}, 1) <> '{MARK}')"""
"""Whether a column holds a text that is sealed under its owner's key (sealed_text.py)."""


def copy_database(file: Path, to: Path) -> None:
    """A copy of an SQLite file as of now, its write-ahead log included. Raises: StorageError."""
    try:
        source, target = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=db.BUSY_S), sqlite3.connect(to)
        try:
            source.backup(target)
        finally:
            target.close()
            source.close()
    except sqlite3.Error as cause:
        raise StorageError(f"{file} could not be copied ({type(cause).__name__})", hint="check space and rights") from cause


def copy_audit(log: AuditLog, to: Path) -> Head:
    """A copy of the audit log that ends with its head of now. Raises: AuditError, OSError."""
    to.mkdir(mode=0o700)

    def rest(head: Head) -> Head:
        for file in log.folder.iterdir():  # small ones, which must not know more than the log
            if file.is_file() and file.name not in ("log.jsonl", "head.json", "lock"):
                shutil.copyfile(file, to / file.name)
        return head

    head = log.anchor_now(rest)
    left = head.size
    with open(log.folder / "log.jsonl", "rb") as source, open(to / "log.jsonl", "wb") as target:
        while left:  # what was appended since stays out
            data = source.read(min(left, 1 << 20))
            if not data:
                raise AuditError("the log is shorter than its head says", hint="hagane audit verify")
            target.write(data)
            left -= len(data)
    (to / "head.json").write_bytes(head_bytes(head))
    return head


def columns_epoch(file: Path) -> str | None:
    """Which key the columns of the ledger in `file` want; None when it is not encrypted."""
    with _opened(file) as sql:
        row = sql.execute("SELECT value FROM facts WHERE name = 'sealed'").fetchone()
        return None if row is None else str(row[0])[1:]


def forget_erased(file: Path, keys: Keys | None) -> set[str]:
    """Delete the rows whose owner's key is gone: documents and conversations that were erased after the copy was made;
    their ids. And end all sessions, for some may have been ended since."""
    with _opened(file) as sql:
        gone: set[str] = set()
        if keys is not None:
            there = set(keys.names())
            for table in db.metadata.tables.values():
                for owner, column in {(c.type.owner, c.name) for c in table.columns if isinstance(c.type, Sealed) and c.type.owner}:
                    query = f'SELECT DISTINCT "{owner}" FROM "{table.name}" WHERE {_OWNED.format(column)}'
                    owners = {row[0] for row in sql.execute(query)} - there
                    sql.executemany(f'DELETE FROM "{table.name}" WHERE "{owner}" = ?', [(one,) for one in owners])
                    gone |= owners
            sql.execute("DELETE FROM feedback WHERE turn NOT IN (SELECT id FROM turns)")
        sql.execute("DELETE FROM sessions")
        sql.execute("DELETE FROM links")
    return gone


class _opened:
    """An SQLite file, in one transaction."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._sql = sqlite3.connect(self._file, timeout=db.BUSY_S)
            self._sql.execute("PRAGMA secure_delete=ON")
        except sqlite3.Error as cause:
            raise StorageError(f"{self._file} is damaged", hint="use another backup") from cause
        return self._sql

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._sql.commit()
        finally:
            self._sql.close()
        if isinstance(error, sqlite3.Error):
            raise StorageError(f"{self._file} is damaged", hint="use another backup") from error
