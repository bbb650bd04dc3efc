"""Sealed files: a header, then segments of 1 MiB, each AES-256-GCM. Memory stays flat, whatever the size.

The nonce of a segment is 7 random bytes of the file, its number, and whether it is the last: so no segment can be
dropped, doubled, moved or cut off. Source: Hoang, Reyhanitabar, Rogaway, Vizar, CRYPTO 2015 (STREAM).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..core.errors import StorageError

MAGIC = b"HGE1"
SEGMENT = 1 << 20  # bytes of plain text
_TAG = 16
_PREFIX = 7
_HEADER = len(MAGIC) + _PREFIX


def is_sealed(head: bytes) -> bool:
    """Whether a file that begins with `head` is sealed."""
    return head[: len(MAGIC)] == MAGIC


def seal(key: AESGCM, pieces: Iterable[bytes], *, aad: bytes) -> Iterator[bytes]:
    """The sealed file of the joined `pieces`, in pieces."""
    header = MAGIC + os.urandom(_PREFIX)
    yield header
    for number, (segment, last) in enumerate(_segments(pieces)):
        yield key.encrypt(_nonce(header, number, last=last), segment, header + aad)


class Sealing:
    """Seals what is written piece by piece into `file`, under a key that only this object has: for what is on its way
    in, whose own key is not known yet. At most two segments are in memory. Once it is gone nobody opens the file."""

    def __init__(self, file: IO[bytes], *, aad: bytes) -> None:
        self._key = AESGCM(AESGCM.generate_key(256))
        self._file, self._aad = file, aad
        self._header = MAGIC + os.urandom(_PREFIX)
        self._held = bytearray()
        self._number = 0
        file.write(self._header)

    def write(self, piece: bytes) -> None:
        """Raises: OSError (disk full)."""
        view = memoryview(piece)
        while len(self._held) + len(view) > SEGMENT:
            n = SEGMENT - len(self._held)
            self._held += view[:n]
            view = view[n:]
            self._put(last=False)
        self._held += view

    def end(self) -> None:
        """Write the last segment. Raises: OSError (disk full)."""
        self._put(last=True)

    def pieces(self, what: str) -> Iterator[bytes]:
        """What was written, once it was ended. Raises: StorageError when the file was changed."""
        self._file.seek(0)
        yield from opened(self._key, self._file, aad=self._aad, what=what)

    def _put(self, *, last: bool) -> None:
        nonce = _nonce(self._header, self._number, last=last)
        self._file.write(self._key.encrypt(nonce, bytes(self._held), self._header + self._aad))
        self._held.clear()
        self._number += 1


def opened(key: AESGCM, file: IO[bytes], *, aad: bytes, what: str) -> Iterator[bytes]:
    """The plain bytes of a sealed file, a segment at a time. Raises: StorageError when it is not whole or not ours;
    the segments given out before that were right."""
    header = file.read(_HEADER)
    if len(header) < _HEADER or not is_sealed(header):
        raise StorageError(f"{what} is not a sealed file", hint="restore it from a backup, or sync again")
    number, here = 0, file.read(SEGMENT + _TAG)
    while True:
        after = file.read(SEGMENT + _TAG)
        try:
            yield key.decrypt(_nonce(header, number, last=not after), here, header + aad)
        except (InvalidTag, ValueError) as cause:
            raise StorageError(f"{what} is damaged or was sealed with another key", hint="restore it from a backup, or sync again") from cause
        if not after:
            return
        number, here = number + 1, after


def _nonce(header: bytes, number: int, *, last: bool) -> bytes:
    if number >= 1 << 32:
        raise StorageError("a file is too large to be sealed", hint="4 PiB is the limit")
    return header[len(MAGIC) :] + struct.pack(">IB", number, last)


def _segments(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Segments of SEGMENT bytes and whether each is the last; the last may be shorter, or empty."""
    held = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        while len(held) + len(view) > SEGMENT:
            n = SEGMENT - len(held)
            held += view[:n]
            view = view[n:]
            yield bytes(held), False
            held.clear()
        held += view
    yield bytes(held), True
