"""One writer per project: a lock of the operating system, so a killed process never leaves it behind.

The lock's file names the holder. A command holds it while it writes; a server keeps it for its whole life, and
what it does itself then goes one after the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core.errors import StateError, StorageError
from ..core.whole_file import private_folder
from .records import now

AGAIN_S = 0.1  # between two tries for a lock that is waited for


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes: process, what it does, since when (UTC), and where it takes commands if it is a server."""

    pid: int
    command: str
    since: str
    socket: str | None = None

    def __str__(self) -> str:
        return f"pid {self.pid or 'unknown'}"


class Busy(StateError):
    """Another process (or thread) writes; `holder` says which."""

    code, retryable = "locked", True

    def __init__(self, holder: Holder) -> None:
        what = "a server runs" if holder.socket else f"another {holder.command} is running"
        hint = "stop it, or hand the command to it" if holder.socket else "wait for it, or end it"
        super().__init__(f"{what} ({holder})", hint=hint)
        self.holder = holder


class Writer:
    """The right to write to one project. `waits` is asked each time the lock is held elsewhere and tried again
    when it returns; it raises to give up (the default does)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.waits: Callable[[Holder], None] | None = None
        self._kept = False  # a server: this process has the lock for its whole life
        self._inside = threading.RLock()  # its threads, one after the other

    @contextlib.contextmanager
    def alone(self, command: str = "sync") -> Iterator[None]:
        """Hold the lock. In the process that keeps it: wait for its other threads.
        Raises: Busy when another process, or another thread of one that does not keep it, holds it."""
        if self._kept:
            with self._inside:
                yield
            return
        handle = self._take(command, None)
        try:
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def if_free(self, command: str = "sync") -> Iterator[bool]:
        """Hold the lock if nobody else does; whether it is held."""
        if self._kept:
            held = self._inside.acquire(blocking=False)
            try:
                yield held
            finally:
                if held:
                    self._inside.release()
            return
        try:
            handle = self._try(Holder(os.getpid(), command, now()))
        except Busy:
            yield False
            return
        try:
            yield True
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def kept(self, command: str, *, socket: str | None) -> Iterator[None]:
        """Keep the lock for this process; its threads take turns by `alone`. Raises: Busy."""
        handle = self._take(command, socket)
        self._kept = True
        try:
            yield
        finally:
            if self._inside.acquire(timeout=1.0):
                self._kept = False
                self._inside.release()
                os.close(handle)  # else one of them still writes: the lock goes with the process

    @property
    def is_kept(self) -> bool:
        """Whether this process keeps the lock for its whole life."""
        return self._kept

    def holder(self) -> Holder | None:
        """Who holds the lock now; None when nobody does, or this process keeps it."""
        if self._kept or not self.file.exists():
            return None
        try:
            handle = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(handle)
        finally:
            os.close(handle)
        return None

    def _take(self, command: str, socket: str | None) -> int:
        while True:
            try:
                return self._try(Holder(os.getpid(), command, now(), socket))
            except Busy as busy:
                if self.waits is None:
                    raise
                self.waits(busy.holder)
                time.sleep(AGAIN_S)

    def _try(self, holder: Holder) -> int:
        try:
            private_folder(self.file.parent)
            handle = os.open(self.file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as cause:
            raise StorageError(f"{self.file}: {cause.strerror}", hint="check space and rights of .hagane") from cause
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = _read(handle)
            os.close(handle)
            raise Busy(found) from None
        try:
            data = json.dumps(asdict(holder)).encode()
            os.pwrite(handle, data, 0)
            os.ftruncate(handle, len(data))
        except OSError as cause:
            os.close(handle)
            raise StorageError(f"{self.file}: {cause.strerror}", hint="check space and rights of .hagane") from cause
        return handle


def _read(handle: int) -> Holder:
    """Who wrote into the lock's file; of an earlier hagane only the process is known."""
    text = os.pread(handle, 4096, 0).decode(errors="replace").strip()
    try:
        tree = json.loads(text)
        return Holder(**tree) if isinstance(tree, dict) else Holder(int(tree), "sync", "")
    except (ValueError, TypeError):
        return Holder(0, "hagane", "")
