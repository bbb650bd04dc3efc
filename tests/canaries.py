"""Looks for words in every file of a folder, each with its own reader. For tests of erasure and of encryption.

A search through the bytes alone proves little: SQLite splits and keeps freed pages, Lance compresses and keeps old
versions, archives deflate. So each file is looked at
- as bytes, in UTF-8, UTF-16 (both ways), CP932, EUC-JP, ISO-2022-JP, as JSON spells it, as base64, and by its name;
- as every stream of zstd and deflate that begins anywhere in it, also inside another;
- as SQLite: every row of every table, with the write-ahead log (freed pages are bytes);
- as Lance: every version of every table, and each data and index file by itself;
- as Arrow.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

Found = Mapping[str, Sequence[str]]  # word -> places
_ZSTD = b"\x28\xb5\x2f\xfd"
_LARGEST = 64 << 20  # bytes of one unpacked stream
_DEEPEST = 4  # streams inside streams
_ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "cp932", "euc_jp", "iso2022_jp")


def find(folder: Path, words: Iterable[str]) -> dict[str, list[str]]:
    """Where each of `words` (at least three characters) stands below `folder`; [] where nowhere."""
    spelled = {word: spellings(word) for word in words}
    found: dict[str, list[str]] = {word: [] for word in spelled}

    def look(data: bytes, place: str) -> None:
        for word, ways in spelled.items():
            if any(way in data for way in ways):
                found[word].append(place)

    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = str(file.relative_to(folder))
        look(name.encode("utf-8", "surrogateescape"), f"name {name}")
        data = file.read_bytes()
        look(data, f"bytes {name}")
        for inner, how in streams(data):
            look(inner, f"{how} {name}")
        for value, place in _read(file, data, name):
            look(value, place)
            for inner, how in streams(value):
                look(inner, f"{how} {place}")
    for table in sorted(path for path in folder.rglob("*.lance") if path.is_dir()):
        for value, place in _versions(table):
            look(value, place)
            for inner, how in streams(value):
                look(inner, f"{how} {place}")
    return found


def spellings(word: str) -> set[bytes]:
    """How bytes may say `word`."""
    ways = {word.encode(encoding) for encoding in _ENCODINGS if _can(word, encoding)}
    ways |= {json.dumps(word)[1:-1].encode(), "".join(f"\\u{ord(c)}?" for c in word).encode(), word.encode("utf-7")}
    for n in range(3):  # base64 wherever it begins; the ends depend on what stands beside it
        coded = base64.b64encode(b"\0" * n + word.encode())
        ways.add(coded[4 if n else 0 : -4])
    return {way for way in ways if len(way) >= 5}


def _can(word: str, encoding: str) -> bool:
    try:
        return bool(word.encode(encoding))
    except UnicodeEncodeError:
        return False


def streams(data: bytes, *, depth: int = 0) -> Iterator[tuple[bytes, str]]:
    """What unpacks as zstd or deflate from any place in `data`, and what unpacks from that."""
    if depth >= _DEEPEST:
        return
    for inner, how in (*_zstd(data), *_zlib(data), *_deflate(data)):
        yield inner, how
        for deeper, more in streams(inner, depth=depth + 1):
            yield deeper, f"{how} {more}"


def _zstd(data: bytes) -> Iterator[tuple[bytes, str]]:
    view = memoryview(data)  # slices without copies
    at = data.find(_ZSTD)
    while at >= 0:
        with contextlib.suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(view[at:]), "zstd"
        at = data.find(_ZSTD, at + 1)


def _zlib(data: bytes) -> Iterator[tuple[bytes, str]]:
    """zlib (PDF) and gzip by their heads."""
    view = memoryview(data)
    for head, bits in ((b"\x78\x01", 15), (b"\x78\x5e", 15), (b"\x78\x9c", 15), (b"\x78\xda", 15), (b"\x1f\x8b\x08", 31)):
        at = data.find(head)
        while at >= 0:
            if inner := _inflated(view[at:], bits):
                yield inner, "zlib"
            at = data.find(head, at + 1)


def _deflate(data: bytes) -> Iterator[tuple[bytes, str]]:
    """The members of ZIP files, by their local heads: also of a file that is cut."""
    at = data.find(b"PK\3\4")
    while at >= 0:
        start = at + 30 + int.from_bytes(data[at + 26 : at + 28], "little") + int.from_bytes(data[at + 28 : at + 30], "little")
        if inner := _inflated(memoryview(data)[start:], -15):
            yield inner, "deflate"
        at = data.find(b"PK\3\4", at + 1)


def _inflated(data: memoryview, bits: int) -> bytes:
    try:
        return zlib.decompressobj(bits).decompress(data, _LARGEST)
    except zlib.error:
        return b""


def _read(file: Path, data: bytes, name: str) -> Iterator[tuple[bytes, str]]:
    if data[:15] == b"SQLite format 3":
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    yield _flat(row), f"row of {table} in {name}"
    elif data[:6] == b"ARROW1":
        import pyarrow as pa

        for batch in pa.ipc.open_file(pa.py_buffer(data)).read_all().to_pylist():
            yield _flat(batch.values()), f"arrow {name}"
    elif file.suffix == ".lance":
        from lance.file import LanceFileReader  # the package pylance (dev)

        for row in LanceFileReader(str(file)).read_all().to_table().to_pylist():
            yield _flat(row.values()), f"lance file {name}"


def _versions(table: Path) -> Iterator[tuple[bytes, str]]:
    import lancedb

    opened = lancedb.connect(str(table.parent)).open_table(table.stem)
    for version in opened.list_versions():
        opened.checkout(version["version"])
        for row in opened.search().to_arrow().to_pylist():
            row.pop("vector", None)
            yield _flat(row.values()), f"{table.stem} version {version['version']}"


def _flat(values: Iterable[Any]) -> bytes:
    """Values as bytes, one after the other."""
    parts = []
    for value in values:
        if isinstance(value, bytes):
            parts.append(value)
        elif isinstance(value, list | tuple):
            parts.append(_flat(value))
        elif isinstance(value, dict):
            parts.append(_flat(value.values()))
        else:
            parts.append(str(value).encode("utf-8", "surrogatepass"))
    return b"\0".join(parts)
