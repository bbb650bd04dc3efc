"""Has anything been written since? A number that changes with every commit of any connection, of any process.

Read in microseconds, so that what was read a moment ago can be used again only where nothing changed.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path


class Watermark:
    """Over one SQLite file, by a connection that never writes. Safe for several threads; never waits."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def now(self) -> int | None:
        """The same number twice: nothing was committed between. None: it cannot be told at once.
        Source: SQLite, PRAGMA data_version."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._connection is None:
                if self._closed:
                    return None
                address = f"{self._file.absolute().as_uri()}?mode=ro"
                self._connection = sqlite3.connect(address, uri=True, timeout=0, check_same_thread=False, isolation_level=None)
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return None
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None
