"""One writer per project: a lock of the operating system, so a killed process never leaves it behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import StateError, StorageError


@contextlib.contextmanager
def only_writer(file: Path) -> Iterator[None]:
    """Hold the project's writer lock. Raises: StateError when another process (or thread) holds it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as cause:
        raise StorageError(f"{file}: {cause.strerror}", hint="check space and rights of .hagane") from cause
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
            raise StateError(f"another sync is running (pid {holder})", hint="wait for it, or end it") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
