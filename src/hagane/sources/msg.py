"""Outlook's MSG files: MAPI properties in an OLE storage.

Source: MS-OXMSG (storage layout), MS-OXPROPS (property numbers).
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator
from dataclasses import replace

import olefile

from ..core.errors import SourceError
from ..core.types import Aside, Blob, Document
from .archive import Inner
from .build import Builder
from .decode import decode
from .html import decode_page
from .limits import Budget, Limits
from .mail import add_body, add_headers, attachment, safe_name

_SUBJECT, _SENDER_NAME, _SENDER, _SENDER_SMTP = 0x0037, 0x0C1A, 0x0C1F, 0x5D01
_TO, _CC, _BCC = 0x0E04, 0x0E03, 0x0E02
_BODY, _HTML, _SUBMITTED, _DELIVERED, _CLASS = 0x1000, 0x1013, 0x0039, 0x0E06, 0x001A
_LONG_NAME, _SHORT_NAME, _SHOWN_NAME, _DATA = 0x3707, 0x3704, 0x3001, 0x3701
_SMTP, _ADDRESS, _RECIPIENT_TYPE = 0x39FE, 0x3003, 0x0C15
_EPOCH = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
_ENCRYPTED = ("smime.p7m", ".pgp-encrypted", ".rpmsg")
_BROKEN = (OSError, ValueError, TypeError, IndexError, RecursionError)


class MsgParser:
    """One document for the mail itself, and whatever `inner` makes of its attachments."""

    def __init__(self, *, limits: Limits, budget: Budget | None = None, inner: Inner | None = None) -> None:
        self._limits = limits
        self._budget = budget or Budget(limits)
        self._inner = inner

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """The mail, then its attachments. Raises: SourceError damaged, encrypted, empty."""
        try:
            ole = olefile.OleFileIO(blob.file)
        except _BROKEN as cause:
            raise SourceError("its storage is damaged", reason="damaged") from cause
        with ole:
            yield from self._message(ole, (), blob, 0)

    def _message(
        self, ole: olefile.OleFileIO, at: tuple[str, ...], blob: Blob, depth: int
    ) -> Iterator[Document | Aside]:
        item = _Storage(ole, at)
        made = Builder()
        headers = _headers(item)
        meta = add_headers(made, headers)
        n_before = len(made.blocks)
        body = item.text(_BODY)
        if body.strip():
            add_body(made, body.replace("\r\n", "\n"), False)
        elif page := item.binary(_HTML):
            add_body(made, decode_page(page), True)
        parts = [_Storage(ole, path) for path in item.storages("__attach_version1.0_")]
        names = [_name(part, number) for number, part in enumerate(parts, 1)]
        if len(made.blocks) == n_before and any(name.lower().endswith(_ENCRYPTED) for name in names):
            raise SourceError("the mail is encrypted", reason="encrypted")
        yield made.document(
            blob, media="application/vnd.ms-outlook", limits=self._limits, title=headers["subject"], meta=meta
        )
        for name, part in zip(names, parts, strict=True):
            self._budget.part()
            yield from self._part(ole, name, part, blob, depth)

    def _part(
        self, ole: olefile.OleFileIO, name: str, part: _Storage, blob: Blob, depth: int
    ) -> Iterator[Document | Aside]:
        embedded = next(iter(part.storages(f"__substg1.0_{_DATA:04X}000D")), None)
        if embedded is None:
            yield from attachment(name, part.binary(_DATA), self._budget, self._inner)
            return
        if depth + 1 > self._limits.depth:
            yield Aside(name, "too_large", f"containers nested deeper than {self._limits.depth}")
            return
        inside = name if name.lower().endswith(".msg") else f"{name}.msg"
        part_blob = Blob(blob.file, inside, blob.size, blob.sha256)
        try:
            for found in self._message(ole, embedded, part_blob, depth + 1):
                yield _renamed(found, inside)
        except SourceError as problem:
            yield Aside(inside, problem.reason, str(problem))


def _renamed(found: Document | Aside, name: str) -> Document | Aside:
    return replace(found, name=f"{name}!/{found.name}" if found.name else name)


class _Storage:
    """The properties of one message, attachment or recipient."""

    def __init__(self, ole: olefile.OleFileIO, at: tuple[str, ...]) -> None:
        self._ole = ole
        self._at = at
        self._fixed = self._read_fixed()
        page = self._integer(0x3FFD) or self._integer(0x3FDE) or 0
        self._codec = {65001: "utf-8", 20127: "cp1252", 50220: "iso-2022-jp", 51932: "euc_jp"}.get(page, f"cp{page}")

    def storages(self, start: str) -> list[tuple[str, ...]]:
        """Paths of the storages right below whose names begin with `start`."""
        depth = len(self._at)
        found = {
            tuple(entry[: depth + 1])
            for entry in self._ole.listdir(streams=True, storages=True)
            if len(entry) > depth
            and tuple(entry[:depth]) == self._at
            and entry[depth].lower().startswith(start.lower())
        }
        return sorted(found)

    def binary(self, tag: int) -> bytes:
        return self._stream(tag, "0102") or self._stream(tag, "001F").decode("utf-16-le", "replace").encode("utf-8")

    def text(self, tag: int) -> str:
        if wide := self._stream(tag, "001F"):
            return wide.decode("utf-16-le", "replace").rstrip("\0")
        if narrow := self._stream(tag, "001E").rstrip(b"\0"):
            try:
                return decode(narrow, declared=self._codec)[0]
            except SourceError:
                return narrow.decode("latin-1")
        return ""

    def time(self, tag: int) -> dt.datetime | None:
        raw = self._fixed.get((tag, 0x0040))
        if raw is None:
            return None
        try:
            return _EPOCH + dt.timedelta(microseconds=struct.unpack("<Q", raw)[0] // 10)
        except OverflowError:
            return None

    def _integer(self, tag: int) -> int | None:
        raw = self._fixed.get((tag, 0x0003))
        return struct.unpack("<i", raw[:4])[0] if raw is not None else None

    def role(self) -> int:
        """A recipient's: 1 to, 2 cc, 3 bcc."""
        return self._integer(_RECIPIENT_TYPE) or 0

    def _stream(self, tag: int, kind: str) -> bytes:
        path = [*self._at, f"__substg1.0_{tag:04X}{kind}"]
        try:
            if not self._ole.exists(path) or self._ole.get_type(path) != olefile.STGTY_STREAM:
                return b""
            with self._ole.openstream(path) as stream:
                return stream.read()
        except _BROKEN as cause:
            raise SourceError("its storage is damaged", reason="damaged") from cause

    def _read_fixed(self) -> dict[tuple[int, int], bytes]:
        path = [*self._at, "__properties_version1.0"]
        try:
            if not self._ole.exists(path):
                return {}
            with self._ole.openstream(path) as stream:
                raw = stream.read()
        except _BROKEN as cause:
            raise SourceError("its storage is damaged", reason="damaged") from cause
        last = self._at[-1] if self._at else ""
        start = 32 if not self._at else 24 if last.startswith("__substg1.0_") else 8
        found = {}
        for at in range(start, len(raw) - 15, 16):
            kind, tag = struct.unpack_from("<HH", raw, at)
            found[tag, kind] = raw[at + 8 : at + 16]
        return found


def _headers(item: _Storage) -> dict[str, str]:
    people: dict[int, list[str]] = {1: [], 2: [], 3: []}
    for path in item.storages("__recip_version1.0_"):
        one = _Storage(item._ole, path)
        people.setdefault(one.role(), []).append(_person(one.text(_SHOWN_NAME), one.text(_SMTP) or one.text(_ADDRESS)))
    when = item.time(_SUBMITTED) or item.time(_DELIVERED)
    return {
        "subject": item.text(_SUBJECT).strip(),
        "from": _person(item.text(_SENDER_NAME), item.text(_SENDER_SMTP) or item.text(_SENDER)),
        "to": ", ".join(people[1]) or item.text(_TO).strip(),
        "cc": ", ".join(people[2]) or item.text(_CC).strip(),
        "bcc": ", ".join(people[3]) or item.text(_BCC).strip(),
        "date": when.replace(microsecond=0).isoformat() if when else "",
    }


def _person(name: str, address: str) -> str:
    name, address = name.strip(), address.strip()
    if "@" not in address:
        return name or address
    return f"{name} <{address}>" if name and name != address else address


def _name(part: _Storage, number: int) -> str:
    given = part.text(_LONG_NAME) or part.text(_SHORT_NAME) or part.text(_SHOWN_NAME)
    return safe_name(given) or f"attachment-{number}"
