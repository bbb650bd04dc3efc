"""Derived files that are made once and checked each time: written under a temporary name, renamed, with a checksum.

Beside `NAME` stands `NAME.sha256`. A file that does not match it (cut short, flipped byte, foreign version) is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..core.errors import StorageError


def cache_root(given: Path | None) -> Path:
    """Where derived model files live: `given`, else HAGANE_CACHE, else ~/.cache/hagane."""
    return given or Path(os.environ.get("HAGANE_CACHE") or "~/.cache/hagane").expanduser()


def derived(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made by `make(temporary path)` unless it stands there whole.

    Several processes may ask at once: each makes its own, the last rename wins, all are equal.
    Raises: StorageError when the folder cannot be written; what `make` raises.
    """
    if is_whole(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as cause:
        raise StorageError(
            f"cannot write to {path.parent}: {cause.strerror}", hint="set HAGANE_CACHE to a folder that can be written"
        ) from cause
    temporary = Path(name)
    try:
        make(temporary)
        _publish(temporary, path)
    except OSError as cause:
        raise StorageError(f"cannot write {path}: {cause.strerror}", hint="is the disk full?") from cause
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return path


def is_whole(path: Path) -> bool:
    """Does `path` stand there with the bytes that were written?"""
    try:
        return _seal(path).read_text().strip() == _sha256(path)
    except (OSError, UnicodeDecodeError):
        return False


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    seal = temporary.with_name(temporary.name + ".seal")
    seal.write_text(_sha256(temporary) + "\n")
    os.replace(temporary, path)
    os.replace(seal, _seal(path))


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
