"""What a file is, by its content. The ending only decides between kinds of plain text,
where content cannot: a Markdown page is a text, and one column of a CSV is one too."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..core.errors import SourceError
from ..core.types import Blob
from .decode import decode

_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Detected:
    """`kind` is a key of the parser table; `media` a media type."""

    kind: str
    media: str


_OOXML = "application/vnd.openxmlformats-officedocument."
MEDIA = {
    "pdf": "application/pdf",
    "docx": _OOXML + "wordprocessingml.document",
    "pptx": _OOXML + "presentationml.presentation",
    "xlsx": _OOXML + "spreadsheetml.sheet",
    "xls": "application/vnd.ms-excel",
    "doc": "application/msword",
    "ppt": "application/vnd.ms-powerpoint",
    "msg": "application/vnd.ms-outlook",
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "rtf": "application/rtf",
    "epub": "application/epub+zip",
    "zip": "application/zip",
    "eml": "message/rfc822",
    "html": "text/html",
    "xml": "application/xml",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "ipynb": "application/x-ipynb+json",
    "markdown": "text/markdown",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "text": "text/plain",
}
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"BM", "image/bmp"),
)
_UNREAD = (
    (b"ID3", "audio"),
    (b"\xff\xfb", "audio"),
    (b"\xff\xf3", "audio"),
    (b"\xff\xf1", "audio"),
    (b"OggS", "audio"),
    (b"fLaC", "audio"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"SQLite format 3\0", "a database"),
    (b"wOFF", "a font"),
    (b"wOF2", "a font"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENDINGS = {
    ".md": "markdown", ".markdown": "markdown", ".mdx": "markdown",
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".txt": "text", ".text": "text", ".log": "text",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".eml": "eml", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
}  # fmt: skip
_KNOWN_FIELD = re.compile(
    r"(?:from|to|cc|bcc|subject|date|reply-to|message-id|return-path|received|delivered-to|mime-version|"
    r"content-type|sender|x-[a-z0-9-]+|dkim-signature|references|in-reply-to)$",
    re.IGNORECASE,
)
_FIELD = re.compile(r"([!-9;-~]+)[ \t]*:[ \t]*.*")
_HTML_START = re.compile(
    r"(?:\s|<!--.*?-->|<\?xml[^>]*\?>)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_HTML_TAG = re.compile(r"</(?:p|div|table|ul|ol|h[1-6]|td|li|span)>", re.IGNORECASE)
_MARKDOWN = re.compile(r"^(?:#{1,6} \S|```|\|? *:?-{3,}:? *\||[-*+] \[[ x]\] )|\[[^\]\n]+\]\([^)\s]+\)", re.MULTILINE)


def detect(blob: Blob) -> Detected:
    """What `blob` is. Raises: SourceError unsupported, empty, damaged, encrypted."""
    if blob.size == 0:
        raise SourceError("the file is empty", reason="empty")
    with open(blob.file, "rb") as stream:
        head = stream.read(_HEAD)
    binary = _binary(head, blob)
    return binary if binary is not None else _textual(head, blob)


def _kind(kind: str) -> Detected:
    return Detected(kind, MEDIA[kind])


def _binary(head: bytes, blob: Blob) -> Detected | None:
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):  # first: a stored part may be a PDF
        return _zip(blob)
    if b"%PDF-" in head[:1024]:
        return _kind("pdf")
    if head.startswith(_OLE):
        return _ole(blob)
    for magic, media in _IMAGES:
        if head.startswith(magic) and (magic != b"BM" or b"\0" in head[:32]):
            return Detected("image", media)
    if head[:4] == b"RIFF":
        if head[8:12] == b"WEBP":
            return Detected("image", "image/webp")
        raise SourceError("audio or video is not read yet", reason="unsupported")
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"heic", b"heix", b"mif1", b"avif"):
            return Detected("image", "image/heic")
        raise SourceError("audio or video is not read yet", reason="unsupported")
    for magic, what in _UNREAD:
        if head.startswith(magic) and not (len(magic) == 2 and _decodes(head)):
            raise SourceError(f"{what} is not read", reason="unsupported")
    if head.startswith(b"{\\rtf"):
        return _kind("rtf")
    return None


def _decodes(head: bytes) -> bool:
    try:
        decode(head)
    except SourceError:
        return False
    return True


def _zip(blob: Blob) -> Detected:
    try:
        with zipfile.ZipFile(blob.file) as package:
            names = set(package.namelist())
            declared = package.read("mimetype")[:100].decode("ascii", "replace").strip() if "mimetype" in names else ""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, KeyError) as cause:
        raise SourceError("it is not a whole ZIP file", reason="damaged") from cause
    if "[Content_Types].xml" in names or "_rels/.rels" in names:
        for folder, kind in (("word/", "docx"), ("ppt/", "pptx"), ("xl/", "xlsx")):
            if any(name.startswith(folder) for name in names):
                return _kind(kind)
    if declared == MEDIA["epub"] or "META-INF/container.xml" in names:
        return _kind("epub")
    for kind in ("odt", "ods", "odp"):
        if declared == MEDIA[kind]:
            return _kind(kind)
    return _kind("zip")


def _ole(blob: Blob) -> Detected:
    import olefile  # loads only when a file needs it

    try:
        with olefile.OleFileIO(blob.file) as ole:
            names = {"/".join(entry).lower() for entry in ole.listdir(streams=True, storages=True)}
    except (OSError, ValueError, TypeError, IndexError, RecursionError) as cause:
        raise SourceError("its storage is damaged", reason="damaged") from cause
    if "encryptedpackage" in names or "encryptioninfo" in names:
        raise SourceError("it is protected by a password", reason="encrypted")
    if "__properties_version1.0" in names:
        return _kind("msg")
    if "workbook" in names or "book" in names:
        return _kind("xls")
    if "worddocument" in names:
        return _kind("doc")
    if "powerpoint document" in names:
        return _kind("ppt")
    raise SourceError("a storage of unknown content", reason="unsupported")


def _textual(head: bytes, blob: Blob) -> Detected:
    ending = PurePosixPath(blob.path.lower()).suffix
    try:
        text = _head_text(head, whole=blob.size <= _HEAD)
    except SourceError:
        if b"\0" not in head and _is_mail(head.decode("latin-1").replace("\r\n", "\n")):
            return _kind("eml")  # each part of a mail has an encoding of its own
        raise
    if not text.strip():
        if blob.size <= _HEAD:
            raise SourceError("there is no text in it", reason="empty")
        return _kind("text")
    hint = _ENDINGS.get(ending)
    if _HTML_START.match(text):
        return _kind("html")
    if text.lstrip().startswith("<?xml") or (ending in (".xml", ".rss", ".svg") and text.lstrip().startswith("<")):
        return _kind("html") if "<html" in text[:2000] else _kind("xml")
    if hint == "markdown":
        return _kind("markdown")
    if _is_mail(text):
        return _kind("eml")
    if (found := _json(text, blob, ending)) is not None:
        return found
    if hint in ("csv", "tsv"):
        return _kind("tsv" if _is_grid(text, "\t", n_least=1) else "csv")
    if hint == "html" or (hint is None and len(_HTML_TAG.findall(text)) >= 3):
        return _kind("html")
    if hint == "text":
        return _kind("text")
    if hint == "eml":
        return _kind("eml")
    if _is_grid(text, "\t"):
        return _kind("tsv")
    if _is_grid(text, ","):
        return _kind("csv")
    front = text.startswith("---\n") and "\n---" in text[4:]
    return _kind("markdown") if front or len(_MARKDOWN.findall(text)) >= 2 else _kind("text")


def _head_text(head: bytes, *, whole: bool) -> str:
    if whole:
        return decode(head)[0]
    for cut in (0, 1, 2, 3, 4):  # the cut may fall into a character
        try:
            return decode(head[: len(head) - cut])[0]
        except SourceError:
            continue
    newline = head.rfind(b"\n")
    return decode(head[: newline + 1] if newline > 0 else head)[0]


def _is_mail(text: str) -> bool:
    """The first lines are header fields and at least two of them are mail's own."""
    lines = text.lstrip("\n").split("\n", 60)[:60]
    if lines and lines[0].startswith("From ") and "@" in lines[0]:
        lines = lines[1:]
    n_known = 0
    for line in lines:
        if line[:1] in (" ", "\t") and n_known:
            continue
        match = _FIELD.fullmatch(line)
        if match is None:
            break
        n_known += bool(_KNOWN_FIELD.match(match[1]))
    return n_known >= 2


def _json(text: str, blob: Blob, ending: str) -> Detected | None:
    start = text.lstrip()
    if start[:1] not in ("{", "["):
        return None
    lines = [line for line in start.split("\n")[:3] if line.strip()]
    if blob.size > _HEAD:
        lines = lines[:-1] or lines
    if len(lines) >= 2 and all(_loads(line) for line in lines):
        return _kind("jsonl")
    if ending in (".json", ".ipynb") or _looks_json(start):
        return _kind("ipynb") if '"nbformat"' in text or '"cell_type"' in text[:5000] else _kind("json")
    return _kind("jsonl") if ending in (".jsonl", ".ndjson") else None


def _looks_json(text: str) -> bool:
    return bool(re.match(r'\{\s*(?:"(?:[^"\\]|\\.)*"\s*:|\})|\[\s*(?:[\[{"\]]|-?\d|true|false|null)', text)) and (
        len(text) >= _HEAD // 4 or _loads(text)
    )


def _loads(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_grid(text: str, delimiter: str, *, n_least: int = 3) -> bool:
    """True when the first rows all have the same number, two or more, of columns."""
    lines = text.split("\n")[:20]
    try:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return False
    return len(widths) >= n_least and widths[0] >= 2 and len(set(widths[:-1] or widths)) == 1
