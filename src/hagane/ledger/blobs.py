"""Bytes on disk: originals by their sha256, and derived bytes (parsed documents, outputs) by key.

Written to a temporary name, synced, renamed: what has a name is whole. Who may delete is the ledger's
business; these only do it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import zstandard

from ..core.errors import NotFoundError, StorageError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{2,120}")
_TEMPORARY = ".new-"


def write_whole(file: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `file` by `data` so that a crash leaves the old or the new bytes, never a mixture.
    Not `durable`: the caller calls `sync_all` before it relies on the bytes (two synced writes per file
    took most of the time of a large sync). Raises: StorageError (disk full, no rights)."""
    name = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=file.parent)
        with os.fdopen(handle, "wb") as out:
            out.write(data)
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


def sync_all(folder: Path) -> None:
    """Make everything written to the file system of `folder` durable, in one go.
    Raises: StorageError when the system could not."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(handle) != 0:
            raise StorageError(f"{folder}: {os.strerror(ctypes.get_errno())}", hint="check the disk and its free space")
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FileBlobs:
    """Original bytes by sha256, one file each, in 256 folders. Satisfies `core.seams.Blobs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, sha256: str) -> Path:
        """Where the bytes lie (or would lie). Raises: ValueError if `sha256` is not one."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError("not a sha256 in lower-case hex")
        return self.folder / sha256[:2] / sha256

    def put(self, data: bytes, *, durable: bool = True) -> str:
        """Keep `data`; its sha256. Writing the same bytes again costs nothing. Raises: StorageError."""
        sha256 = hashlib.sha256(data).hexdigest()
        file = self.file(sha256)
        if not file.exists():
            write_whole(file, data, durable=durable)
        return sha256

    def open(self, sha256: str, *, verify: bool = False) -> bytes:
        """The bytes. Raises: NotFoundError; StorageError when `verify` finds other bytes."""
        data = _read(self.file(sha256), f"original {sha256[:12]}")
        if verify and hashlib.sha256(data).hexdigest() != sha256:
            raise StorageError(f"original {sha256[:12]} is damaged", hint="restore it from a backup, or sync again")
        return data

    def has(self, sha256: str) -> bool:
        return self.file(sha256).exists()

    def delete(self, sha256: str) -> None:
        """Remove the bytes; fine if they are gone already."""
        _unlink(self.file(sha256))

    def list(self) -> Iterator[str]:
        """All sha256 that are kept, in order."""
        for file in _files(self.folder):
            if _SHA256.fullmatch(file.name):
                yield file.name

    def sweep_temporary(self) -> int:
        """Remove what interrupted writes left behind. Only under the writer lock."""
        return _sweep(self.folder)


class KeyedStore:
    """Derived bytes by key, compressed with zstd: parsed documents by version id, step outputs by step id."""

    def __init__(self, folder: Path, *, level: int = 3) -> None:
        self.folder = folder
        self._level = level

    def file(self, key: str) -> Path:
        """Where the bytes lie. Raises: ValueError if `key` could leave the folder."""
        if not _KEY.fullmatch(key):
            raise ValueError("a key is 3 to 121 letters, digits, _, . and -")
        return self.folder / key[-2:].lower() / f"{key}.zst"

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Keep `data` under `key`, replacing what was there. Raises: StorageError."""
        packed = zstandard.ZstdCompressor(level=self._level, write_checksum=True).compress(data)
        write_whole(self.file(key), packed, durable=durable)

    def get(self, key: str) -> bytes:
        """The bytes. Raises: NotFoundError; StorageError when damaged."""
        packed = _read(self.file(key), f"stored {key}")
        try:
            return zstandard.ZstdDecompressor().decompress(packed)
        except zstandard.ZstdError as cause:
            raise StorageError(f"stored {key} is damaged", hint="run hagane sync to make it again") from cause

    def has(self, key: str) -> bool:
        return self.file(key).exists()

    def delete(self, key: str) -> None:
        """Remove the bytes; fine if they are gone already."""
        _unlink(self.file(key))

    def list(self) -> Iterator[str]:
        """All keys, in order of their folders."""
        for file in _files(self.folder):
            if file.name.endswith(".zst"):
                yield file.name.removesuffix(".zst")

    def sweep_temporary(self) -> int:
        """Remove what interrupted writes left behind. Only under the writer lock."""
        return _sweep(self.folder)


ParsedStore = KeyedStore


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as cause:
        raise NotFoundError(f"{what} is not kept") from cause
    except OSError as cause:
        raise StorageError(f"{what}: {cause.strerror or type(cause).__name__}") from cause


def _unlink(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as cause:
        raise StorageError(f"{file.parent}: {cause.strerror or type(cause).__name__}") from cause


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for shard in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
            yield from sorted(shard.iterdir())


def _sweep(folder: Path) -> int:
    left = [file for file in _files(folder) if file.name.startswith(_TEMPORARY)]
    for file in left:
        _unlink(file)
    return len(left)
