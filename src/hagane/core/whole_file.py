"""Files that are whole or not there: written to a temporary name, synced, renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .errors import StorageError

TEMPORARY = ".new-"  # how the names of files begin that are being written; what is left of them may be swept


def write_whole(file: Path, data: bytes | Iterable[bytes], *, durable: bool = True) -> None:
    """Replace `file` by `data` (or its pieces) so that a crash leaves the old or the new bytes, never a mixture.
    Not `durable`: the caller calls `sync_all` before it relies on the bytes (two synced writes per file
    took most of the time of a large sync). Raises: StorageError (disk full, no rights)."""
    name = None
    try:
        private_folder(file.parent)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=file.parent)
        with os.fdopen(handle, "wb") as out:
            for piece in (data,) if isinstance(data, bytes) else data:
                out.write(piece)
            out.flush()
            if durable:
                os.fsync(out.fileno())
        os.replace(name, file)
        if durable:
            sync_folder(file.parent)
    except OSError as cause:
        if name is not None:
            with contextlib.suppress(OSError):
                os.unlink(name)
        raise StorageError(
            f"{file.parent}: {cause.strerror or type(cause).__name__}",
            hint="free some space or check the folder's rights, then run the command again",
        ) from cause


def private_folder(folder: Path) -> None:
    """Make `folder` and whatever is missing above it, for its owner only: `.hagane` may be missing whatever comes
    first, and `Path.mkdir` gives a mode to the last folder only. Folders that are there keep their modes. Raises: OSError."""
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
