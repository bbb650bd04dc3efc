"""ZIP: the container itself, and the guarded reader that office files and books share.

Sizes in a ZIP's directory are claims; what counts is what comes out while unpacking.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ..core.errors import SourceError
from ..core.text import folded_path
from ..core.types import Aside, Blob, Document
from .decode import decode
from .limits import Budget, Limits, room_on_disk
from .parts import part_file

Inner = Callable[[str, Path], Iterator[Document | Aside]]  # parses one unpacked part
_CHUNK = 1 << 16
_SMALL = 1 << 20  # ratios below this many unpacked bytes are harmless: a blank page packs 1:1000
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, KeyError, RuntimeError)
_UTF8_NAME, _ENCRYPTED = 0x800, 0x1


class Package:
    """The members of a ZIP-shaped file, read under a budget. Use as a context."""

    def __init__(self, file: str, *, limits: Limits, budget: Budget | None = None) -> None:
        self._budget = budget or Budget(limits)
        self._limits = limits
        try:
            self._zip = zipfile.ZipFile(file)
        except _BROKEN as cause:
            raise SourceError("it is not a whole ZIP file", reason="damaged") from cause
        self.members = {member_name(info): info for info in self._zip.infolist()}

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def read(self, name: str) -> bytes:
        """One member's bytes. Raises: SourceError damaged, encrypted, hostile or too_large."""
        return b"".join(self.stream(name))

    def stream(self, name: str) -> Iterator[bytes]:
        """One member in pieces. Raises: as `read`."""
        info = self.members.get(name)
        if info is None:
            raise SourceError("a part that must be there is missing", reason="damaged")
        if info.flag_bits & _ENCRYPTED:
            raise SourceError("it is protected by a password", reason="encrypted")
        n_bytes = 0
        try:
            with self._zip.open(info) as member:
                while piece := member.read(_CHUNK):
                    n_bytes += len(piece)
                    self._check(n_bytes, len(piece), info.compress_size)
                    yield piece
        except _BROKEN as cause:
            raise SourceError("a part of it is damaged", reason="damaged") from cause

    def _check(self, n_bytes: int, n_new: int, n_packed: int) -> None:
        self._budget.unpack(n_new)
        if n_bytes > self._limits.max_file_bytes:
            raise SourceError(f"a part is larger than {self._limits.max_file_bytes} bytes", reason="too_large")
        if n_bytes > _SMALL and n_bytes > self._limits.max_ratio * max(n_packed, 1):
            raise SourceError(f"a part unpacks to more than {self._limits.max_ratio} times its size", reason="hostile")


def member_name(info: zipfile.ZipInfo) -> str:
    """A member's name; names without the UTF-8 flag are taken as what they decode to best (CP932 in Japan)."""
    if info.flag_bits & _UTF8_NAME or info.filename.isascii():
        return folded_path(info.filename)
    raw = info.orig_filename.encode("cp437", "replace")
    try:
        return folded_path(decode(raw)[0])
    except SourceError:
        return folded_path(info.filename)


def is_hostile(name: str) -> bool:
    """True for a name that would leave the folder it is unpacked into."""
    clean = name.replace("\\", "/")
    parts = clean.split("/")
    return clean.startswith("/") or ".." in parts or "\0" in name or (len(clean) > 1 and clean[1] == ":")


class ZipParser:
    """Each member a part of its own; system leftovers (`__MACOSX`, `.DS_Store`) are no documents."""

    def __init__(self, *, limits: Limits, budget: Budget | None = None, inner: Inner | None = None) -> None:
        self._limits = limits
        self._budget = budget or Budget(limits)
        self._inner = inner

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """Documents and asides of all members. Raises: SourceError damaged, empty, too_large."""
        found = False
        with Package(blob.file, limits=self._limits, budget=self._budget) as package:
            for name, info in package.members.items():
                if info.is_dir() or is_leftover(name):
                    continue
                found = True
                self._budget.part()
                yield from self._member(package, name)
        if not found:
            raise SourceError("there is no file in it", reason="empty")

    def _member(self, package: Package, name: str) -> Iterator[Document | Aside]:
        if is_hostile(name):
            yield Aside(name.replace("\0", ""), "hostile", "its name leads out of the archive")
            return
        with part_file() as (copy, path):
            with room_on_disk():
                problem = _unpack(package, name, copy)
                copy.flush()
            if problem is not None:
                yield Aside(name, problem.reason, str(problem))
                if self._budget.unpacked_bytes > self._limits.max_unpacked_bytes:
                    raise problem
            elif self._inner is None:
                yield Aside(name, "unsupported", "parts are not read here")
            else:
                yield from self._inner(name, path)


def _unpack(package: Package, name: str, copy: IO[bytes]) -> SourceError | None:
    try:
        for piece in package.stream(name):
            copy.write(piece)
    except SourceError as problem:
        return problem
    return None


def is_leftover(name: str) -> bool:
    """True for files that systems leave in archives and nobody wrote."""
    base = posixpath.basename(name)
    return name.startswith("__MACOSX/") or base in (".DS_Store", "Thumbs.db", "desktop.ini")
