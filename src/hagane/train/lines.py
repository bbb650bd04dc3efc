"""Lines of a data file as text: encoding recognised from the head, long and foreign lines named, never all in memory.

UTF-8 (with or without a byte order mark), CP932 (Shift_JIS) and EUC-JP. A file is read in one encoding; a line of
another one is a bad line, since nothing would tell 化け apart from text later on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hagane.core.errors import SourceError

HEAD_BYTES = 1 << 20
MAX_LINE_BYTES = 8 << 20  # a longer line is hardly a document; raise it where it is one
_BOM = b"\xef\xbb\xbf"
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a ZIP archive (or an Office file)",
    b"PAR1": "Parquet",
    b"%PDF": "a PDF",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x80\x04\x95": "pickle",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end. `bad` says why `text` may not be used."""

    number: int  # counted from 1
    text: str
    bad: str | None = None


def encoding_of(path: Path) -> str:
    """utf-8, cp932 or euc_jp, judged by the lines of the first MiB.

    Raises: SourceError for a file that is empty, binary, UTF-16 or in none of these.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as cause:
        raise SourceError(f"{path} cannot be read: {type(cause).__name__}", reason="unreadable") from cause
    if not head.removeprefix(_BOM).strip():
        raise SourceError(f"{path} is empty", reason="empty", hint="name a file that holds examples")
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            hint = "save it as UTF-8" if what == "UTF-16" else "unpack or convert it to JSONL, CSV or Parquet"
            raise SourceError(f"{path} is {what}, not text", reason="unsupported", hint=hint)
    lines = head.split(b"\n")
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines.pop()  # cut short
    if sum(b"\0" in line for line in lines) * 2 > len(lines):
        raise SourceError(f"{path} is binary, not text", reason="unsupported", hint="name a JSONL, CSV or Parquet file")
    return _judged(path, [line for line in lines if not line.isascii()], cut=len(head) == HEAD_BYTES)


def _judged(path: Path, lines: list[bytes], *, cut: bool) -> str:
    """By vote of the lines that tell: Japanese text of the one is hardly ever valid in the other."""
    if cut and len(lines) == 1:
        lines = [lines[0][:-4]]  # a character may be cut at the end; decoded without strictness about it below
    as_utf8 = sum(_decodes(line, "utf-8", cut=cut) for line in lines)
    if as_utf8 * 2 >= len(lines):
        return "utf-8"
    others = {name: [line for line in lines if _decodes(line, name, cut=cut)] for name in ("cp932", "euc_jp")}
    best = max(others, key=lambda name: (len(others[name]), -_oddity(others[name], name)))
    if len(others[best]) * 2 < len(lines):
        raise SourceError(
            f"{path} is neither UTF-8 nor CP932 nor EUC-JP", reason="unsupported", hint="save it as UTF-8"
        )
    return best


def _decodes(line: bytes, encoding: str, *, cut: bool) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError as error:
        return cut and error.end >= len(line)
    return True


def _oddity(lines: list[bytes], encoding: str) -> float:
    """Share of half-width katakana and rare characters: EUC-JP read as CP932 is full of them."""
    text = b"".join(lines).decode(encoding, "replace")
    odd = sum("\uff61" <= char <= "\uff9f" or unicodedata.category(char) in ("Co", "Cn", "So") for char in text)
    return odd / max(len(text), 1)


def lines_of(path: Path, *, encoding: str, max_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """Every line, in order; ends (\\n or \\r\\n) taken off. Lines that cannot be used carry `bad`.

    Raises: SourceError when the file cannot be read on.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(3) != _BOM:
                stream.seek(0)
            number = 0
            while raw := stream.readline(max_bytes + 2):
                number += 1
                n_bytes = len(raw)
                while not raw.endswith(b"\n") and (more := stream.readline(HEAD_BYTES)):
                    n_bytes += len(more)
                    raw = more if n_bytes > max_bytes + 2 else raw + more
                yield _line(number, raw, n_bytes, encoding, max_bytes)
    except OSError as cause:
        raise SourceError(f"{path} cannot be read: {type(cause).__name__}", reason="unreadable") from cause


def _line(number: int, raw: bytes, n_bytes: int, encoding: str, max_bytes: int) -> Line:
    ends = 2 if raw.endswith(b"\r\n") else int(raw.endswith(b"\n"))
    if n_bytes - ends > max_bytes:
        return Line(number, "", f"the line has {n_bytes - ends:,} bytes; at most {max_bytes:,} are read")
    raw = raw[: len(raw) - ends]
    if b"\0" in raw:
        return Line(number, "", f"binary: byte {raw.index(0) + 1} of the line is 0")
    other = None if encoding == "utf-8" or raw.isascii() else _text(raw, "utf-8")
    if other is not None and len(other) < len(raw) - 2:  # two characters of UTF-8: no accident
        return Line(number, "", f"the line is UTF-8, the file {encoding}")
    text = _text(raw, encoding)
    if text is not None:
        return Line(number, text)
    known = next((name for name in ("cp932", "euc_jp") if name != encoding and _text(raw, name) is not None), None)
    return Line(number, "", f"the line is not {encoding}" + (f" (it may be {known})" if known else ""))


def _text(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None
