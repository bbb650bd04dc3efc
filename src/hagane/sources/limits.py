"""How much one file may ask for, counted over everything unpacked from it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from ..core.errors import SourceError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one file with all its parts. What passes a bound is set aside with its reason."""

    max_file_bytes: int = 200_000_000
    max_parts: int = 2_000
    max_unpacked_bytes: int = 1_000_000_000
    max_ratio: int = 200  # unpacked to packed bytes of one member
    max_chars: int = 20_000_000
    max_pages: int = 5_000
    depth: int = 3  # containers inside containers


class Budget:
    """What one file with all its parts has used so far."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.parts = 0
        self.unpacked_bytes = 0

    def part(self) -> None:
        """Count one more part. Raises: SourceError too_large."""
        self.parts += 1
        if self.parts > self.limits.max_parts:
            raise SourceError(f"more than {self.limits.max_parts} parts", reason="too_large")

    def unpack(self, n_bytes: int) -> None:
        """Count unpacked bytes. Raises: SourceError too_large."""
        self.unpacked_bytes += n_bytes
        if self.unpacked_bytes > self.limits.max_unpacked_bytes:
            raise SourceError(f"unpacks to more than {self.limits.max_unpacked_bytes} bytes", reason="too_large")


def check_chars(n_chars: int, limits: Limits) -> None:
    """Raises: SourceError too_large when a document's text is longer than allowed."""
    if n_chars > limits.max_chars:
        raise SourceError(f"more than {limits.max_chars} characters of text", reason="too_large")


@contextlib.contextmanager
def room_on_disk() -> Iterator[None]:
    """For writing parts to temporary files. Raises: StorageError when the disk is full: that is our trouble,
    and the file must not be set aside for it."""
    try:
        yield
    except OSError as cause:
        if cause.errno not in _FULL:
            raise
        raise StorageError("a part could not be unpacked: the disk is full", hint="free some space and try again") from cause
