"""What a parser process does with one file: read, clean, score, chunk, tokenise; content goes to stores.

Runs in worker processes (`hagane.jobs.worker`). The answer of `handle` holds ids, counts and reasons,
never text; the text lies in the blob and parsed stores under the returned keys.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hagane.core.codec import aside_to, block_to, document_to
from hagane.core.errors import HaganeError, SourceError
from hagane.core.registry import load
from hagane.core.types import Aside, Blob, Document
from hagane.index.words import ANALYZERS
from hagane.ledger.blobs import FileBlobs, KeyedStore
from hagane.ledger.records import document_id, version_id
from hagane.prepare import chunk, clean, dedup, quality
from hagane.sources import files
from hagane.sources.parts import keep_in_memory

CODE_VERSION = 1  # raise when the output for the same bytes and config changes (golden test)


def fingerprint(config: Mapping[str, Any], analyzer: str) -> str:
    """16 hex digits that change whenever a file would be prepared differently."""
    text = json.dumps([CODE_VERSION, config, analyzer], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def part_id(file_document: str, name: str) -> str:
    """The document id of a part (`name` "" is the file itself), stable when the file is renamed."""
    return document_id(file_document, name) if name else file_document


def index_text(title: str, headings: tuple[str, ...], spoken: str) -> str:
    """What a chunk is searched by: its title and heading path before its text."""
    return "\n".join([title, *headings, spoken])


def _with_ocr() -> dict[str, Any]:
    from hagane.sources.ocr import ImageParser, OcrEngine
    from hagane.sources.pdf import PdfParser

    engine = OcrEngine()
    return {"pdf": PdfParser(ocr=engine), "image": ImageParser(ocr=engine)}


class Prepare:
    """One worker's state: stores, analyzer, limits. `init` holds plain JSON values."""

    def __init__(self, init: Mapping[str, Any]) -> None:
        keys = None
        if init.get("keys"):
            from hagane.ledger.keys import Keys

            keys = Keys.of_worker(init["keys"])
            keep_in_memory()
        self.blobs = FileBlobs(Path(init["blobs"]), keys=keys)
        self.parsed = KeyedStore(Path(init["parsed"]), keys=keys)
        self.analyzer = load(ANALYZERS, init["analyzer"], what="analyzer")()
        self.clean = clean.CleanConfig(**init["clean"])
        self.quality = quality.QualityConfig(**init["quality"])
        self.chunk = chunk.ChunkConfig(**init["chunk"])
        self.limits = files.Limits(**init["limits"])
        self.mark = init["mark"]
        self.parsers = _with_ocr() if init["ocr"] else {}
        tempfile.tempdir = init["temporary"]  # unpacked parts lie under .hagane and are swept after a crash

    def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Prepare one file. Raises: nothing for a bad file, which comes back as an aside."""
        path = request["path"]
        try:
            size = os.stat(request["file"]).st_size  # an encrypted blob is a little larger than its bytes
            if size > self.limits.max_file_bytes:
                raise SourceError(f"{size:,} bytes", reason="too_large")
            data = self._bytes_of(request)
        except SourceError as cause:
            return {"sha256": "", "parts": [], "asides": [aside_to(Aside("", cause.reason, str(cause)))]}
        except OSError as cause:
            return {"sha256": "", "parts": [], "asides": [aside_to(Aside("", "unreadable", type(cause).__name__))]}
        sha256 = self.blobs.put(data, durable=False)
        size = len(data)
        del data
        parts: list[dict[str, Any]] = []
        asides: list[dict[str, str]] = []
        try:
            with self.blobs.on_path(sha256) as file:
                blob = Blob(str(file), path, size, sha256)
                for item in files.read(blob, limits=self.limits, parsers=self.parsers):
                    if isinstance(item, Aside):
                        asides.append(aside_to(item))
                    else:
                        parts.append(self._prepare(item, request["document"], sha256))
        except SourceError as cause:
            asides.append(aside_to(Aside("", cause.reason, str(cause))))
        kept = []
        for part in parts:
            if part["n_chunks"]:
                kept.append(part)
            else:
                self.parsed.delete(part["version"])
                asides.append(aside_to(Aside(part["name"], "empty", part["why_empty"])))
        return {"sha256": sha256, "size": size, "parts": kept, "asides": asides}

    def _bytes_of(self, request: Mapping[str, Any]) -> bytes:
        """The file's bytes: of an upload from the blob store, which knows how it is encrypted; else from the folder."""
        if request.get("blob"):
            try:
                return self.blobs.open(request["blob"])
            except HaganeError as cause:
                raise OSError(str(cause)) from cause  # set aside as unreadable
        with open(request["file"], "rb") as stream:
            return stream.read()

    def _prepare(self, document: Document, file_document: str, sha256: str) -> dict[str, Any]:
        version = version_id(part_id(file_document, document.name), sha256, self.mark)
        kept, dropped = clean.clean(document, self.clean)
        score = quality.score(document, kept)
        enough = score.is_enough(self.quality)
        drafts = chunk.chunk(document, kept, self.chunk) if enough else []
        keys = dedup.keys(document, kept)
        chunks = [
            {
                "ordinal": draft.ordinal,
                "headings": list(draft.headings),
                "blocks": [block_to(block, text=False) for block in draft.blocks],
                "tokens": " ".join(
                    self.analyzer.tokens(
                        index_text(document.title, draft.headings, "\n".join(b.spoken for b in draft.blocks))
                    )
                ),
            }
            for draft in drafts
        ]
        if chunks:
            left_out = [[drop.index, drop.reason] for drop in dropped]
            entry = {"document": document_to(document), "chunks": chunks, "dropped": left_out}
            self.parsed.put(version, json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode(), durable=False)
        return {
            "name": document.name,
            "version": version,
            "media": document.media,
            "title": document.title,
            "pages": document.pages,
            "meta": dict(document.meta),
            "n_chars": len(document.text),
            "n_chunks": len(chunks),
            "why_empty": "no text" if enough else "too poor: " + ", ".join(score.reasons),
            "quality": asdict(score),
            "dropped": dict(Counter(drop.reason for drop in dropped)),
            "signature": base64.b64encode(keys.signature).decode(),
            "numbers": keys.numbers,
            "content": keys.content,
        }
