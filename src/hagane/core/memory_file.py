"""A file that lies in memory only: what an encrypted project hands to parsers that want a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import StateError


@contextmanager
def memory_file() -> Iterator[tuple[IO[bytes], Path]]:
    """An empty file in memory and a path to it, for this process and its children. It vanishes when the context
    ends, or the process. Write, flush, then hand out the path. Raises: StateError where the system has none."""
    create = getattr(os, "memfd_create", None)
    if create is None:
        raise StateError("this system has no files in memory", hint="an encrypted project runs on Linux")
    with os.fdopen(create("hagane", os.MFD_CLOEXEC), "w+b") as stream:
        yield stream, Path(f"/proc/{os.getpid()}/fd/{stream.fileno()}")
