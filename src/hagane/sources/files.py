"""The door of the room: any file to documents, and asides for what cannot be read.

Containers are taken apart here, under one budget: parts, bytes unpacked, depth.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import HaganeError, SourceError
from ..core.registry import load
from ..core.seams import Parser
from ..core.types import Aside, Blob, Document
from .detect import detect
from .limits import Budget, Limits, room_on_disk
from .parts import part_file

PARSERS: dict[str, str] = {
    "pdf": "hagane.sources.pdf:PdfParser",
    "image": "hagane.sources.ocr:ImageParser",
    "docx": "hagane.sources.docx:DocxParser",
    "pptx": "hagane.sources.pptx:PptxParser",
    "xlsx": "hagane.sources.xlsx:XlsxParser",
    "xls": "hagane.sources.xls:XlsParser",
    "doc": "hagane.sources.legacy:LegacyParser",
    "ppt": "hagane.sources.legacy:LegacyParser",
    "rtf": "hagane.sources.legacy:LegacyParser",
    "odt": "hagane.sources.odf:OdfParser",
    "odp": "hagane.sources.odf:OdfParser",
    "ods": "hagane.sources.xls:XlsParser",
    "csv": "hagane.sources.sheets:CsvParser",
    "tsv": "hagane.sources.sheets:CsvParser",
    "html": "hagane.sources.html:HtmlParser",
    "xml": "hagane.sources.structured:XmlParser",
    "json": "hagane.sources.structured:JsonParser",
    "jsonl": "hagane.sources.structured:JsonParser",
    "ipynb": "hagane.sources.structured:NotebookParser",
    "markdown": "hagane.sources.markdown:MarkdownParser",
    "text": "hagane.sources.text:TextParser",
    "eml": "hagane.sources.mail:MailParser",
    "msg": "hagane.sources.msg:MsgParser",
    "epub": "hagane.sources.books:EpubParser",
    "zip": "hagane.sources.archive:ZipParser",
}


def read(
    blob: Blob, *, limits: Limits | None = None, parsers: Mapping[str, str | Parser] | None = None
) -> Iterator[Document | Aside]:
    """Every document in `blob`, and an Aside for the file or each part that cannot be read.

    Never raises for what a file holds (only for what the installation lacks). `parsers` replaces or adds parsers by kind (see PARSERS),
    as "module:Class" or as an object.
    """
    limits = limits or Limits()
    return _Router(limits, {**PARSERS, **(parsers or {})}, Budget(limits)).read(blob)


class _Router:
    def __init__(self, limits: Limits, parsers: Mapping[str, str | Parser], budget: Budget, *, depth: int = 0) -> None:
        self._limits = limits
        self._parsers = parsers
        self._budget = budget
        self._depth = depth

    def read(self, blob: Blob) -> Iterator[Document | Aside]:
        n_found = 0
        try:
            if blob.size > self._limits.max_file_bytes:
                raise SourceError(f"larger than {self._limits.max_file_bytes} bytes", reason="too_large")
            kind = detect(blob).kind
            for item in self._parser(kind).read(blob):
                n_found += 1
                yield item
        except SourceError as problem:
            yield Aside("", problem.reason, str(problem))
        except OSError as problem:
            yield Aside("", "unreadable", type(problem).__name__)
        except (MemoryError, RecursionError) as problem:
            yield Aside("", "memory" if isinstance(problem, MemoryError) else "hostile", type(problem).__name__)
        except (HaganeError, ImportError):
            raise  # our installation is at fault, not the file
        except Exception as problem:  # a parser met something nobody thought of: the run goes on, the file is named
            yield Aside("", "crashed", type(problem).__name__)
        else:
            if not n_found:
                yield Aside("", "empty", "there is nothing in it")

    def _parser(self, kind: str) -> Parser:
        given = self._parsers.get(kind)
        if given is not None and not isinstance(given, str):
            return given
        table = {name: target for name, target in self._parsers.items() if isinstance(target, str)}
        made = load(table, kind, what="parser")
        wanted = inspect.signature(made).parameters
        offered: dict[str, Any] = {
            "limits": self._limits,
            "max_pages": self._limits.max_pages,
            "budget": self._budget,
            "inner": self._inner,
        }
        return made(**{name: value for name, value in offered.items() if name in wanted})

    def _inner(self, name: str, path: Path) -> Iterator[Document | Aside]:
        """One part, unpacked at `path`: its documents carry `name` before their own."""
        if self._depth + 1 > self._limits.depth:
            yield Aside(name, "too_large", f"containers nested deeper than {self._limits.depth}")
            return
        deeper = _Router(self._limits, self._parsers, self._budget, depth=self._depth + 1)
        part = blob_of(path, path=name)
        for item in deeper.read(part):
            yield replace(item, name=f"{name}!/{item.name}" if item.name else name)


def blob_of(file: Path, *, path: str) -> Blob:
    """The blob of a file on disk, hashed. Raises: OSError."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return Blob(str(file), path, file.stat().st_size, digest.hexdigest())


def read_bytes(blob: Blob) -> bytes:
    """The whole file. Raises: OSError."""
    return Path(blob.file).read_bytes()


def unpacked(data: bytes, name: str, inner: Any) -> Iterator[Document | Aside]:
    """`data` as a part: written to a file that vanishes after parsing."""
    with part_file() as (copy, path):
        with room_on_disk():
            copy.write(data)
            copy.flush()
        yield from inner(name, path)
