"""The formats that examples come in: JSON lines, one JSON list, CSV, TSV, Parquet and plain text, with line numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hagane.core.errors import SourceError

from .lines import Line, encoding_of, lines_of

Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "text"]
FORMATS: Mapping[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".txt": "text", ".md": "text",
}  # fmt: skip
MAX_LIST_BYTES = 512 << 20  # a JSON list is read whole
_BATCH = 1024  # rows of Parquet in memory at once
PIECE = 2000  # characters of plain text, from which on a blank line ends a row


@dataclass(frozen=True, slots=True)
class Raw:
    """One example as its file holds it: `fields`, or `bad` with the reason. `line` counts from 1 (Parquet: the row)."""

    line: int
    fields: Mapping[str, Any]
    bad: str | None = None


def format_of(path: Path) -> tuple[Format, str]:
    """The format and the encoding ("" for Parquet). A .json file of JSON lines is read as lines, a .jsonl file that
    holds one list as a list. Raises: SourceError."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(FORMATS)
        raise SourceError(f"{path} ends with none of {known}", reason="unsupported", hint="convert it to JSONL")
    if not path.is_file():
        raise SourceError(f"{path} is no file", reason="unreadable", hint="name a file of examples")
    if kind == "parquet":
        return kind, ""
    encoding = encoding_of(path)
    if kind in ("json", "jsonl"):
        first = next((line.text.strip() for line in lines_of(path, encoding=encoding) if line.bad or line.text.strip()), "")
        if first.startswith("["):
            kind = "json"
        elif first.startswith("{") and (kind == "jsonl" or first.endswith("}")):
            kind = "jsonl"
        elif kind == "json":
            hint = "write a list of objects, or one object per line"
            raise SourceError(f"{path} holds no list of examples", reason="unsupported", hint=hint)
    return kind, encoding


def raws(path: Path, kind: Format, *, encoding: str, max_bytes: int, names: tuple[str, ...] | None = None) -> Iterator[Raw]:
    """Every example of the file, in order, bad ones too. `names`: the columns to read of Parquet, None for all.
    Raises: SourceError when the file cannot be read on."""
    if kind == "parquet":
        return _parquet(path, names)
    if kind == "json":
        return _list(path, encoding)
    lines = lines_of(path, encoding=encoding, max_bytes=max_bytes)
    if kind == "text":
        return _plain(lines)
    return _json_lines(lines) if kind == "jsonl" else _separated(path, lines, "\t" if kind == "tsv" else ",", max_bytes)


def _plain(lines: Iterator[Line]) -> Iterator[Raw]:
    """Paragraphs as they follow each other, some PIECE characters a row: a text file has no rows of its own."""
    held: list[str] = []
    first = size = 0
    for line in lines:
        if line.bad is not None:
            yield Raw(line.number, {}, line.bad)
        elif line.text.strip():
            first = first or line.number
            held.append(line.text)
            size += len(line.text)
        elif held and size >= PIECE:
            yield Raw(first, {"text": "\n".join(held).rstrip()})
            held, first, size = [], 0, 0
        elif held:
            held.append("")
    if held:
        yield Raw(first, {"text": "\n".join(held).rstrip()})


def _object(value: Any, line: int) -> Raw:
    return Raw(line, value) if isinstance(value, dict) else Raw(line, {}, "is no JSON object")


def _json_lines(lines: Iterator[Line]) -> Iterator[Raw]:
    for line in lines:
        if line.bad is not None:
            yield Raw(line.number, {}, line.bad)
        elif line.text.strip():
            try:
                value = json.loads(line.text)
            except (ValueError, RecursionError) as error:
                yield Raw(line.number, {}, _not_json(error))
            else:
                yield _object(value, line.number)


def _not_json(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} at column {error.colno}"
    return "is not JSON: nested too deeply" if isinstance(error, RecursionError) else "is not JSON: a number too long"


def _list(path: Path, encoding: str) -> Iterator[Raw]:
    if path.stat().st_size > MAX_LIST_BYTES:
        what = f"{path} is one JSON list of more than {MAX_LIST_BYTES:,} bytes"
        raise SourceError(what, reason="too_large", hint="write one object per line (JSONL)")
    try:
        text = path.read_bytes().decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as cause:
        line = cause.object.count(b"\n", 0, cause.start) + 1
        raise SourceError(f"{path}:{line}: not {encoding}", reason="damaged", hint="save it in one encoding") from cause
    decoder = json.JSONDecoder()
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]":
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as cause:
            what = f"{path}:{line}: the list cannot be read on here"
            raise SourceError(what, reason="damaged", hint="mend it, or write one object per line (JSONL)") from cause
        yield _object(value, line)


def _separated(path: Path, lines: Iterator[Line], separator: str, max_bytes: int) -> Iterator[Raw]:
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    bad: dict[int, str] = {}

    def fed() -> Iterator[str]:
        for line in lines:
            if line.bad is not None:
                bad[line.number] = line.bad
            yield line.text + "\n"

    reader = csv.reader(fed(), delimiter=separator, strict=True)
    names = _names(path, reader, bad)
    while True:
        first = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Raw(first, {}, f"is not CSV: {error}")
            continue
        found = [bad[n] for n in range(first, reader.line_num + 1) if n in bad]
        if found:
            yield Raw(first, {}, found[0])
        elif len(values) != len(names) and values:
            yield Raw(first, {}, f"has {len(values)} fields, the header {len(names)}")
        elif values:
            yield Raw(first, dict(zip(names, values, strict=True)))


def _names(path: Path, reader: Any, bad: Mapping[int, str]) -> list[str]:
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as cause:
        raise SourceError(f"{path}:1: the header is not CSV", reason="damaged") from cause
    if bad or not any(names) or len(set(names)) < len(names):
        why = next(iter(bad.values()), "names are missing or stand twice")
        raise SourceError(f"{path}:1: no header can be read: {why}", reason="damaged", hint="write field names in line 1")
    return names


def _parquet(path: Path, names: tuple[str, ...] | None) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            line = 0
            for batch in file.iter_batches(_BATCH, columns=None if names is None else list(names)):
                for value in batch.to_pylist():
                    line += 1
                    yield Raw(line, value)
    except (pa.ArrowException, OSError, ValueError) as cause:
        raise SourceError(f"{path} cannot be read as Parquet: {type(cause).__name__}", reason="damaged") from cause
