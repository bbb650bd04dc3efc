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
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import zstandard

from ..core.errors import NotFoundError, StorageError
from ..core.memory_file import memory_file
from ..core.whole_file import TEMPORARY, write_whole

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{2,120}")
_SEALED = ".sealed"
_BATCH = 100  # files between two syncs of a conversion


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


class Ring(Protocol):
    """What the stores need of `keys.Keys`."""

    strict: bool  # plain files are forgeries
    sealing: bool  # what is written is sealed

    def blob_name(self, sha256: str) -> str: ...
    def ready(self, name: str, *, make: bool) -> Any: ...
    def has(self, name: str) -> bool: ...
    def make(self, names: Sequence[str]) -> None: ...
    def drop(self, names: Sequence[str]) -> None: ...
    def forget(self, name: str) -> None: ...


class FileBlobs:
    """Original bytes by sha256, one file each, in 256 folders. Satisfies `core.seams.Blobs`.

    With `keys` they are sealed, each under a key of its own, and named so that a known file is not recognised."""

    def __init__(self, folder: Path, *, keys: Ring | None = None) -> None:
        self.folder = folder
        self._keys = keys

    def file(self, sha256: str) -> Path:
        """Where the bytes lie (or would lie), perhaps sealed: to read them, `open` or `on_path`.
        Raises: ValueError if `sha256` is not one."""
        name = self.name_of(sha256)
        return self.folder / name[:2] / name

    def name_of(self, sha256: str) -> str:
        """The file's name."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError("not a sha256 in lower-case hex")
        return f"{self._keys.blob_name(sha256)}{_SEALED}" if self._keys and self._keys.sealing else sha256

    def put(self, data: bytes, *, durable: bool = True) -> str:
        """Keep `data`; its sha256. Writing the same bytes again costs nothing. Raises: StorageError."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.put_pieces(sha256, [data], durable=durable)
        return sha256

    def put_pieces(self, sha256: str, pieces: Iterable[bytes], *, durable: bool = True) -> None:
        """As `put`, of `pieces` that are known to be the bytes with `sha256`, of which a few are in memory at a time."""
        file = self.file(sha256)
        if self._keys is None or not self._keys.sealing:
            if not file.exists():
                write_whole(file, pieces, durable=durable)
        elif not self._is_whole(file):
            key = self._keys.ready(_blob_key(file.name), make=True)
            write_whole(file, _sealed_files().seal(key, pieces, aad=b"blob"), durable=durable)

    @property
    def sealing(self) -> bool:
        """Whether what is written is sealed."""
        return self._keys is not None and self._keys.sealing

    def holds(self, sha256: str) -> bool:
        """Whether the bytes are kept and can be opened: a crash may have kept a sealed file without its key."""
        return any(self._is_whole(file) for file in self._places(sha256))

    def _is_whole(self, file: Path) -> bool:
        sealed = file.name.endswith(_SEALED)
        return file.exists() and (not sealed or (self._keys is not None and self._keys.has(_blob_key(file.name))))

    def open(self, sha256: str, *, verify: bool = False) -> bytes:
        """The bytes. Raises: NotFoundError; StorageError when they are damaged (plain ones: when `verify` finds
        other bytes)."""
        data = b"".join(self.stream(sha256))
        if verify and hashlib.sha256(data).hexdigest() != sha256:
            raise StorageError(f"original {sha256[:12]} is damaged", hint="restore it from a backup, or sync again")
        return data

    def stream(self, sha256: str) -> Iterator[bytes]:
        """The bytes in pieces of at most 1 MiB. Raises: as `open`; what was given out before is right."""
        yield from self._stream(self._found(sha256), f"original {sha256[:12]}")

    def _stream(self, file: Path, what: str) -> Iterator[bytes]:
        with _reading(file, what) as stream:
            if not file.name.endswith(_SEALED):
                while piece := stream.read(1 << 20):
                    yield piece
            elif self._keys is None:
                raise StorageError(f"{what} is encrypted", hint="hagane.yaml must name encryption.key")
            else:
                key = self._keys.ready(_blob_key(file.name), make=False)
                yield from _sealed_files().opened(key, stream, aad=b"blob", what=what)

    @contextlib.contextmanager
    def on_path(self, sha256: str) -> Iterator[Path]:
        """The bytes as a file that parsers can open; a sealed original is opened into memory, never onto the disk.
        Raises: as `open`."""
        file = self._found(sha256)
        if not file.name.endswith(_SEALED):
            yield file
            return
        with memory_file() as (copy, path):
            for piece in self.stream(sha256):
                copy.write(piece)
            copy.flush()
            yield path

    def has(self, sha256: str) -> bool:
        return any(file.exists() for file in self._places(sha256))

    def delete(self, sha256: str) -> None:
        """Remove the bytes and their key; fine if they are gone already."""
        self.delete_all([sha256])

    def delete_all(self, sha256s: Sequence[str]) -> None:
        """Remove many: the files first, then their keys in one commit."""
        self._delete([file for sha256 in sha256s for file in self._places(sha256)])

    def delete_unless(self, sha256s: Collection[str], *, dry: bool = False) -> int:
        """Remove every original that is not one of `sha256s`; with `dry` only count them. How many."""
        known = {file.name for sha256 in sha256s for file in self._places(sha256)}
        unknown = [file for file in self.files() if file.name not in known]
        if not dry:
            self._delete(unknown)
        return len(unknown)

    def delete_named(self, name: str, *, unless: Collection[str]) -> int:
        """Remove the original whose file is called `name`, unless it is one of `unless` (sha256); how many went."""
        known = {file.name for sha256 in unless for file in self._places(sha256)}
        found = [file for file in self.files() if file.name == name and name not in known]
        self._delete(found)
        return len(found)

    def convert(self) -> Iterator[int]:
        """Seal what lies in the open, or open what is sealed, as `keys.sealing` says; how many, a batch at a time."""
        sealing = self._keys is not None and self._keys.sealing
        left = [file for file in self.files() if file.name.endswith(_SEALED) != sealing]
        for at in range(0, len(left), _BATCH):
            batch = left[at : at + _BATCH]
            if self._keys is not None and sealing:
                self._keys.make([_blob_key(self._keys.blob_name(file.name)) for file in batch])
            for file in batch:
                self.put(b"".join(self._stream(file, "an original")), durable=False)
            sync_all(self.folder)
            self._delete(batch)
            yield len(batch)

    def has_file(self, name: str) -> bool:
        """Whether there is a sealed original whose file has this name (without its ending)."""
        return (self.folder / name[:2] / f"{name}{_SEALED}").exists()

    def _delete(self, files: Sequence[Path]) -> None:
        for file in files:
            _unlink(file)
        if self._keys is not None:
            self._keys.drop([_blob_key(file.name) for file in files if file.name.endswith(_SEALED)])

    def list(self) -> Iterator[str]:
        """All sha256 that are kept. Sealed ones are read for it: their names do not tell."""
        for file in self.files():
            if not file.name.endswith(_SEALED):
                yield file.name
                continue
            digest = hashlib.sha256()
            for piece in self._stream(file, "an original"):
                digest.update(piece)
            yield digest.hexdigest()

    def files(self) -> Iterator[Path]:
        """The files of all originals, in order of their names."""
        for file in _files(self.folder):
            if _SHA256.fullmatch(file.name.removesuffix(_SEALED)):
                yield file

    def sweep_temporary(self) -> int:
        """Remove what interrupted writes left behind. Only under the writer lock."""
        return _sweep(self.folder)

    def _places(self, sha256: str) -> list[Path]:
        """Where the bytes may lie: sealed, or in the open while the project is not (wholly) encrypted."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError("not a sha256 in lower-case hex")
        names = [f"{self._keys.blob_name(sha256)}{_SEALED}"] if self._keys else []
        names += [sha256] if self._keys is None or not self._keys.strict else []
        return [self.folder / name[:2] / name for name in names]

    def _found(self, sha256: str) -> Path:
        places = self._places(sha256)
        return next((file for file in places if file.exists()), places[0])


class KeyedStore:
    """Derived bytes by key, compressed with zstd: parsed documents by version id, step outputs by step id.
    With `keys` they are sealed, each under a key of its own; `kind` tells the stores' keys apart."""

    def __init__(self, folder: Path, *, level: int = 3, keys: Ring | None = None, kind: str = "parsed") -> None:
        self.folder = folder
        self._level = level
        self._keys = keys
        self._kind = kind

    def file(self, key: str) -> Path:
        """Where the bytes lie. Raises: ValueError if `key` could leave the folder."""
        if not _KEY.fullmatch(key):
            raise ValueError("a key is 3 to 121 letters, digits, _, . and -")
        return self.folder / key[-2:].lower() / f"{key}.zst"

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Keep `data` under `key`, replacing what was there. Raises: StorageError."""
        file = self.file(key)
        packed = zstandard.ZstdCompressor(level=self._level, write_checksum=True).compress(data)
        if self._keys and self._keys.sealing:
            own = self._keys.ready(f"{self._kind}:{key}", make=True)
            packed = b"".join(_sealed_files().seal(own, [packed], aad=self._aad(key)))
        write_whole(file, packed, durable=durable)

    def get(self, key: str) -> bytes:
        """The bytes. Raises: NotFoundError; StorageError when damaged."""
        what = f"stored {key}"
        with _reading(self.file(key), what) as stream:
            head = stream.read(4)
            stream.seek(0)
            if _sealed_files_head(head):
                if self._keys is None:
                    raise StorageError(f"{what} is encrypted", hint="hagane.yaml must name encryption.key")
                own = self._keys.ready(f"{self._kind}:{key}", make=False)
                packed = b"".join(_sealed_files().opened(own, stream, aad=self._aad(key), what=what))
            elif self._keys is not None and self._keys.strict:
                raise StorageError(f"{what} lies in the open in an encrypted project", hint="run hagane sync to make it again")
            else:
                packed = stream.read()
        try:
            return zstandard.ZstdDecompressor().decompress(packed)
        except zstandard.ZstdError as cause:
            raise StorageError(f"stored {key} is damaged", hint="run hagane sync to make it again") from cause

    def convert(self) -> Iterator[int]:
        """Seal what lies in the open, or open what is sealed, as `keys.sealing` says; how many, a batch at a time."""
        sealing = self._keys is not None and self._keys.sealing
        left = [key for key in self.list() if self.is_sealed(key) != sealing]
        for at in range(0, len(left), _BATCH):
            batch = left[at : at + _BATCH]
            if self._keys is not None and sealing:
                self._keys.make([f"{self._kind}:{key}" for key in batch])
            for key in batch:
                self.put(key, self.get(key), durable=False)
            sync_all(self.folder)
            yield len(batch)

    def is_sealed(self, key: str) -> bool:
        with _reading(self.file(key), f"stored {key}") as stream:
            return _sealed_files_head(stream.read(4))

    def has(self, key: str) -> bool:
        return self.file(key).exists()

    def delete(self, key: str) -> None:
        """Remove the bytes and their key; fine if they are gone already."""
        self.delete_all([key])

    def delete_all(self, keys: Sequence[str]) -> None:
        """Remove many: the files first, then their keys in one commit."""
        for key in keys:
            _unlink(self.file(key))
        if self._keys is not None:
            self._keys.drop([f"{self._kind}:{key}" for key in keys])

    def list(self) -> Iterator[str]:
        """All keys, in order of their folders."""
        for file in _files(self.folder):
            if file.name.endswith(".zst"):
                yield file.name.removesuffix(".zst")

    def sweep_temporary(self) -> int:
        """Remove what interrupted writes left behind. Only under the writer lock."""
        return _sweep(self.folder)

    def _aad(self, key: str) -> bytes:
        return f"{self._kind}\0{key}".encode()


ParsedStore = KeyedStore


def _blob_key(name: str) -> str:
    return f"blob:{name.removesuffix(_SEALED)}"


def _sealed_files_head(head: bytes) -> bool:
    return head == b"HGE1"


def _sealed_files() -> Any:
    """Loaded late: a project that is not encrypted needs no cryptography."""
    from . import sealed_files

    return sealed_files


@contextlib.contextmanager
def _reading(file: Path, what: str) -> Iterator[IO[bytes]]:
    try:
        stream = open(file, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError as cause:
        raise NotFoundError(f"{what} is not kept") from cause
    except OSError as cause:
        raise StorageError(f"{what}: {cause.strerror or type(cause).__name__}") from cause
    with stream:
        try:
            yield stream
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
    left = [file for file in _files(folder) if file.name.startswith(TEMPORARY)]
    for file in left:
        _unlink(file)
    return len(left)
