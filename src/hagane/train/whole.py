"""Large files that are written bit by bit and are whole or not there, with the sha256 of what went into them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hagane.core.errors import StorageError
from hagane.core.whole_file import sync_folder

PART = ".part"


class Out:
    """A file being written, and the sha256 of what went into it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._sha256 = hashlib.sha256()
        self.n_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._sha256.update(data)
        self.n_bytes += len(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


@contextmanager
def whole(path: Path) -> Iterator[Out]:
    """`path` as it will be once the context ends well; otherwise it stays as it was.
    Raises: StorageError (disk full, no rights)."""
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as stream:
            yield Out(stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as cause:
        part.unlink(missing_ok=True)
        what = f"{path.name} cannot be written: {cause.strerror or type(cause).__name__}"
        raise StorageError(what, hint="free space on the disk, then go on: what is finished is kept") from cause
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """The file's sha256. Raises: StorageError."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as cause:
        raise StorageError(f"{path.name} cannot be read: {type(cause).__name__}") from cause
