"""Sealing: bytes under one key, texts of the ledger's columns, files in segments. AES-256-GCM throughout.

Whatever does not open as it was sealed (another key, another place, one bit changed, cut short) is a
StorageError, never other bytes.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import os
import threading
from collections.abc import Iterator
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..core.errors import StorageError
from .sealed_text import MARK, TAGGED

NONCE = 12  # bytes
TAG = 16
EPOCH = 8  # hex digits


class Ring(Protocol):
    """What sealing needs of `keys.Keys`."""

    def ready(self, name: str, *, make: bool) -> AESGCM: ...
    def secret(self, name: str) -> bytes: ...
    def name_key(self, purpose: str) -> bytes: ...
    def forget(self, name: str) -> None: ...


def unsealed(key: AESGCM, data: bytes, aad: bytes, what: str) -> bytes:
    """What was sealed as nonce and ciphertext. Raises: StorageError."""
    try:
        return key.decrypt(data[:NONCE], data[NONCE:], aad)
    except (InvalidTag, ValueError) as cause:
        raise StorageError(f"{what} is damaged or was sealed with another key", hint="restore it from a backup") from cause


class Cipher:
    """Seals bytes under one named key, such as a document's. Thread-safe, about 5 microseconds a call."""

    __slots__ = ("_ring", "name")

    def __init__(self, ring: Ring, name: str) -> None:
        self._ring = ring
        self.name = name

    def seal(self, data: bytes, *, aad: bytes) -> bytes:
        """`data` with a random nonce before it and a tag behind it: 28 bytes longer. `aad` says what it is and
        where it stands; it opens only with the same."""
        nonce = os.urandom(NONCE)
        return nonce + self._ring.ready(self.name, make=True).encrypt(nonce, data, aad)

    def open(self, data: bytes, *, aad: bytes) -> bytes:
        """The bytes. Raises: StorageError when they are not what was sealed here, or the key was deleted."""
        try:
            return self._ring.ready(self.name, make=False).decrypt(data[:NONCE], data[NONCE:], aad)
        except (InvalidTag, ValueError):
            self._ring.forget(self.name)  # deleted and made anew by another process?
        return unsealed(self._ring.ready(self.name, make=False), data, aad, "sealed data")


class ColumnSeal:
    """Seals texts of the ledger; satisfies `tables.Seal`.

    A text with an owner (a document, a conversation) is sealed under the owner's key with a random nonce, so
    that erasing the owner reaches every copy. The others are sealed under their column's key of the epoch. A
    `searchable` text can be looked up because equal texts are equal bytes: its nonce is made of it (its HMAC under a
    key of its own); with an owner, a tag (HMAC) stands before it instead. That much a thief sees: which are equal.
    Nonces have 96 bits: after 2^32 texts of a column the chance that two fell together is 2^-33.
    """

    def __init__(self, ring: Ring, epoch: str) -> None:
        self._ring = ring
        self._epoch = epoch
        self._own = threading.local()
        self._derived: dict[tuple[str, str], tuple[AESGCM, bytes]] = {}
        self._derived_tags: dict[str, bytes] = {}

    @contextlib.contextmanager
    def within(self, epoch: str) -> Iterator[None]:
        """For this thread's transaction: seal under the key of `epoch`."""
        before = getattr(self._own, "epoch", None)
        self._own.epoch = epoch
        try:
            yield
        finally:
            self._own.epoch = before

    def check(self, epoch: str) -> None:
        """Raises: StorageError when the epoch's key is missing or was sealed with another project's key."""
        self._ring.secret(f"columns:{epoch}")

    def seal(self, text: str, *, place: str, searchable: bool = False, owner: str | None = None) -> str:
        """`text` as it may lie in column `place` ("documents.title")."""
        data, aad = text.encode("utf-8", "surrogatepass"), place.encode()
        if owner is None:
            return f"{MARK}c{self._under_column(data, place, searchable=searchable)}"
        sealed = Cipher(self._ring, owner).seal(data, aad=aad)
        return f"{MARK}d{owner}{MARK}{base64.urlsafe_b64encode(sealed).decode()}"

    def tag(self, text: str, *, place: str) -> str:
        """What a tagged text begins with: equal for equal texts of a column."""
        key = self._derived_tags.get(place)
        if key is None:
            key = self._derived_tags[place] = self._ring.name_key(f"tag {place}")
        return f"{MARK}t{hmac.digest(key, text.encode('utf-8', 'surrogatepass'), 'sha256')[:16].hex()}"

    def tagged(self, text: str, *, place: str, owner: str | None) -> str:
        """`text` under its owner's key behind its tag; the same text of the same owner is the same bytes."""
        tag = self.tag(text, place=place)
        data = text.encode("utf-8", "surrogatepass")
        if owner is None:
            return f"{tag}{MARK}{self._under_column(data, place, searchable=True)}"
        nonce = hmac.digest(self._ring.name_key(f"nonce {place}"), owner.encode() + b"\0" + data, "sha256")[:NONCE]
        sealed = nonce + self._ring.ready(owner, make=True).encrypt(nonce, data, place.encode())
        return f"{tag}{owner}{MARK}{base64.urlsafe_b64encode(sealed).decode()}"

    def _under_column(self, data: bytes, place: str, *, searchable: bool) -> str:
        epoch = getattr(self._own, "epoch", None) or self._epoch
        key, nonces = self._keys(epoch, place)
        nonce = hmac.digest(nonces, data, "sha256")[:NONCE] if searchable else os.urandom(NONCE)
        return f"{epoch}{base64.urlsafe_b64encode(nonce + key.encrypt(nonce, data, place.encode())).decode()}"

    def open(self, sealed: str, *, place: str) -> str:
        """The text. Raises: StorageError for anything that was not sealed for `place`."""
        kind, aad = sealed[1:2], place.encode()
        try:
            if sealed[:1] != MARK or kind not in ("c", "d", "t"):
                raise StorageError(f"the ledger holds a text in the open, in {place}", hint="restore .hagane from a backup")
            owner, _, rest = ("", "", sealed[2:]) if kind == "c" else sealed[TAGGED if kind == "t" else 2 :].partition(MARK)
            if owner:
                opened = Cipher(self._ring, owner).open(_decoded(rest), aad=aad)
            else:
                key, _ = self._keys(rest[:EPOCH], place)
                opened = unsealed(key, _decoded(rest[EPOCH:]), aad, f"a text of the ledger ({place})")
            return opened.decode("utf-8", "surrogatepass")
        except (binascii.Error, ValueError) as cause:
            raise StorageError(f"a text of the ledger ({place}) is damaged", hint="restore it from a backup") from cause

    def _keys(self, epoch: str, place: str) -> tuple[AESGCM, bytes]:
        found = self._derived.get((epoch, place))
        if found is None:
            column = self._ring.secret(f"columns:{epoch}")
            found = AESGCM(derived(column, f"text {place}")), derived(column, f"nonce {place}")
            self._derived[epoch, place] = found
        return found


def derived(key: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose: HKDF-Expand of the uniformly random `key`. Source: RFC 5869, 2.3."""
    return hmac.digest(key, purpose.encode() + b"\x01", "sha256")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
