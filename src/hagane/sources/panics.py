"""A Rust library that panics on a broken file must not end our process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import SourceError


@contextmanager
def panics_are_damage() -> Iterator[None]:
    """Raises: SourceError damaged when the library inside panics.

    PyO3's PanicException descends from BaseException and cannot be imported by name.
    """
    try:
        yield
    except BaseException as cause:
        if type(cause).__name__ != "PanicException":
            raise
        raise SourceError("its reader gave up on it", reason="damaged") from cause
