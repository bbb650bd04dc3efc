"""Mails (EML): headers as meta, the plain text (or the page) as body, attachments as parts.

Headers are decoded by our own rules, not the declared charset alone: mails that declare Latin-1
and hold raw Shift_JIS are as old as mail in Japan.
"""

from __future__ import annotations

import datetime as dt
import email
import email.header
import email.message
import email.policy
import email.utils
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import SourceError
from ..core.types import Aside, Blob, Document
from .archive import Inner
from .build import Builder, fold
from .decode import decode
from .files import read_bytes, unpacked
from .html import page_blocks
from .limits import Budget, Limits
from .text import text_blocks

Mail = email.message.Message
LABELS = {"from": "差出人", "to": "宛先", "cc": "CC", "bcc": "BCC", "subject": "件名", "date": "日付"}
_ORDER = ("subject", "from", "to", "cc", "bcc", "date")
_SECRET = ("application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted", "multipart/encrypted")
_SIGNATURES = (
    "application/pkcs7-signature",
    "application/x-pkcs7-signature",
    "application/pgp-signature",
    "application/pgp-keys",
)
_ENDINGS = {"message/rfc822": ".eml", "text/calendar": ".ics", "text/html": ".html", "text/plain": ".txt"}
_DEEPEST = 50
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]+")


class MailParser:
    """One document for the mail itself, and whatever `inner` makes of its attachments."""

    def __init__(self, *, limits: Limits, budget: Budget | None = None, inner: Inner | None = None) -> None:
        self._limits = limits
        self._budget = budget or Budget(limits)
        self._inner = inner

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        """The mail, then its attachments. Raises: SourceError encrypted, empty, too_large."""
        message = email.message_from_bytes(_ascii_based(read_bytes(blob)), policy=email.policy.compat32)
        made = Builder()
        headers = {name: header(message, name) for name in _ORDER}
        meta = add_headers(made, headers)
        bodies: list[Mail] = []
        attached: list[Mail] = []
        _sort(message, bodies, attached, 0)
        n_before = len(made.blocks)
        for part in bodies:
            add_body(made, *_body(part))
        if any(part.get_content_type() in _SECRET for part in message.walk()) and len(made.blocks) == n_before:
            raise SourceError("the mail is encrypted", reason="encrypted")
        if not attached or made.blocks:
            yield made.document(blob, media="message/rfc822", limits=self._limits, title=headers["subject"], meta=meta)
        for number, part in enumerate(attached, 1):
            if part.get_content_type() not in _SIGNATURES:
                yield from self._attachment(part, number)

    def _attachment(self, part: Mail, number: int) -> Iterator[Document | Aside]:
        name = file_name(part, number)
        self._budget.part()
        if part.get_content_type() == "message/rfc822" or isinstance(part.get_payload(), list):
            inner = part.get_payload()
            data = inner[0].as_bytes() if isinstance(inner, list) and inner else b""
        else:
            data = payload(part)
        yield from attachment(name, data, self._budget, self._inner)


def attachment(name: str, data: bytes, budget: Budget, inner: Inner | None) -> Iterator[Document | Aside]:
    """One attachment through the router, or why not."""
    if name.lower() == "winmail.dat":
        yield Aside(name, "unsupported", "an Outlook container (TNEF)")
    elif inner is None:
        yield Aside(name, "unsupported", "attachments are not read here")
    else:
        budget.unpack(len(data))
        yield from unpacked(data, name, inner)


def _ascii_based(data: bytes) -> bytes:
    """A mail saved as UTF-16 or with a BOM, as UTF-8 bytes; all others as they are."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:3] == b"\xef\xbb\xbf" or b"\0" in data[:200]:
        return decode(data)[0].encode("utf-8")
    return data.lstrip(b"\r\n")


def header(message: Mail, name: str) -> str:
    """A header decoded to one line; several of the same name joined."""
    raw = [str(value) for key, value in message.raw_items() if key.lower() == name]
    return fold(", ".join(said for value in raw if (said := decode_header(value))))


def decode_header(value: str) -> str:
    """RFC 2047 words, raw 8-bit bytes, and their mixtures."""
    value = re.sub(r"\r?\n[ \t]*", " ", value)
    try:
        pieces: list[tuple[Any, Any]] = email.header.decode_header(value)
    except (email.errors.HeaderParseError, ValueError):
        pieces = [(value, None)]
    said = []
    for piece, charset in pieces:
        data = piece.encode("ascii", "surrogateescape") if isinstance(piece, str) and not _has_wide(piece) else piece
        said.append(_decoded(data, charset) if isinstance(data, bytes) else data)
    return "".join(said)


def _has_wide(text: str) -> bool:
    return any("\x7f" < char < "\udc80" or char > "\udcff" for char in text)


def _decoded(data: bytes, charset: str | None) -> str:
    try:
        return decode(data, declared=charset)[0] if data else ""
    except SourceError:
        return data.decode("latin-1")


def add_headers(made: Builder, headers: dict[str, str]) -> dict[str, str]:
    """One block per header, verbatim, read with its Japanese name; returns the meta, date as ISO."""
    meta = {name: value for name, value in headers.items() if value}
    for name in _ORDER:
        value = headers.get(name, "")
        said = value
        if name == "date" and value:
            when = moment(value)
            meta["date"] = when.isoformat() if when else ""
            said = f"{when.year}年{when.month}月{when.day}日 {when:%H:%M}" if when else value
        made.add("title" if name == "subject" else "meta", value, reading=f"{LABELS[name]}: {said}")
    return meta


def moment(value: str) -> dt.datetime | None:
    """A mail's date; ISO is accepted too."""
    try:
        return email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        pass
    try:
        return dt.datetime.fromisoformat(value.strip())
    except ValueError:
        return None


def _sort(part: Mail, bodies: list[Mail], attached: list[Mail], depth: int) -> None:
    """What is text to read and what is attached; of alternatives the plain one."""
    kind = part.get_content_type()
    if depth > _DEEPEST:
        raise SourceError("its parts are nested too deeply", reason="hostile")
    if part.is_multipart() and kind != "message/rfc822" and kind.startswith("multipart/"):
        parts = [p for p in part.get_payload() if isinstance(p, email.message.Message)]
        if kind == "multipart/alternative":
            _alternative(parts, bodies, attached, depth)
            return
        for inner in parts:
            _sort(inner, bodies, attached, depth + 1)
        return
    is_file = "attachment" in str(part.get("Content-Disposition", "")).lower() or _given_name(part)
    if kind in ("text/plain", "text/html", "text/enriched") and not is_file:
        bodies.append(part)
    elif kind not in _SECRET and (is_file or kind != "text/plain"):
        attached.append(part)


def _alternative(parts: list[Mail], bodies: list[Mail], attached: list[Mail], depth: int) -> None:
    sorted_parts = []
    for part in parts:
        found: tuple[list[Mail], list[Mail]] = ([], [])
        _sort(part, *found, depth + 1)
        sorted_parts.append(found)
    with_text = [found for found in sorted_parts if any(payload(body).strip() for body in found[0])]
    plain = [found for found in with_text if found[0][0].get_content_type() == "text/plain"]
    chosen = (plain or with_text)[:1]
    for found in sorted_parts:
        if found in chosen:
            bodies.extend(found[0])
        attached.extend(found[1])


def payload(part: Mail) -> bytes:
    """A part's bytes behind its transfer encoding; broken base64 as far as it goes."""
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _charset(part: Mail) -> str | None:
    try:
        return part.get_content_charset()
    except (LookupError, ValueError, TypeError):
        return None


def _body(part: Mail) -> tuple[str, bool]:
    return _decoded(payload(part), _charset(part)), part.get_content_type() == "text/html"


def add_body(made: Builder, text: str, is_page: bool) -> None:
    """A body's blocks: plain text by paragraphs, a page by its tags."""
    for block in page_blocks(text) if is_page else text_blocks(text):
        kind = "paragraph" if block.kind == "title" else block.kind
        made.add(kind, block.text, level=block.level, reading=block.reading)


def _given_name(part: Mail) -> str:
    for name, key in (("content-disposition", "filename"), ("content-type", "name")):
        try:
            value = part.get_param(key, header=name)
        except (ValueError, TypeError, LookupError):
            continue
        if isinstance(value, tuple):
            value = email.utils.collapse_rfc2231_value(value)
        if value:
            return decode_header(str(value))
    return ""


def file_name(part: Mail, number: int) -> str:
    """The attachment's name without folders; one made from its type when it has none."""
    kind = part.get_content_type()
    name = safe_name(_given_name(part))
    if not name and kind == "message/rfc822" and isinstance(inner := part.get_payload(), list) and inner:
        name = safe_name(header(inner[0], "subject"))[:80]
        name = f"{name}.eml" if name else ""
    return name or f"attachment-{number}{_ENDINGS.get(kind, '')}"


def safe_name(name: str) -> str:
    """A file name that is only a name."""
    return Path(_UNSAFE.sub("", name).replace("\\", "/")).name.replace("!/", "_").strip()
