"""Where parts of containers are unpacked to: a temporary file, or memory where nothing may touch the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..core.memory_file import memory_file
from .limits import room_on_disk

_memory_only = False


def keep_in_memory() -> None:
    """From now on this process unpacks parts into memory (an encrypted project's parser process)."""
    global _memory_only
    _memory_only = True


@contextmanager
def part_file() -> Iterator[tuple[IO[bytes], Path]]:
    """An empty file and its path. It vanishes behind the context. Write and flush, then hand out the path.
    Raises: StorageError when the disk is full."""
    if _memory_only:
        with memory_file() as made:
            yield made
        return
    with room_on_disk():
        handle, path = tempfile.mkstemp(prefix="hagane-part-")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream, Path(path)
    finally:
        os.unlink(path)
