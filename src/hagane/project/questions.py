"""Verbs that ask: search and ask. Within a clearance, audited, never cached."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hagane.core.codec import citation_shown, place_shown
from hagane.core.errors import RefusedError
from hagane.core.types import Answer, Passage, Principal
from hagane.ledger.audit import digest
from hagane.rag.retrieve import Retrieved

from .wire import Project


def retrieve(project: Project, question: str, *, by: Principal, n: int | None = None) -> Retrieved:
    """The best passages that `by` may see. Documents whose new label the index does not know yet are left
    out: between the ledger's commit and the index's, the stricter one counts."""
    found = project.retriever.retrieve(question, clearance=by.clearance, n=n)
    unsettled = {document: label for document, label in project.ledger.marks.unsettled()}
    if unsettled:
        found = replace(found, passages=tuple(p for p in found.passages if p.chunk.document not in unsettled))
    return found


def search(project: Project, question: str, *, by: Principal, n: int = 10) -> dict[str, Any]:
    """Passages, scores and why, as `search --json` prints them."""
    project.require_synced()
    started = time.perf_counter()
    found = retrieve(project, question, by=by, n=n)
    seconds = time.perf_counter() - started
    project.ledger.audit.record(
        "search", principal=by.name, asked=digest(question), chunks=_ids(found.passages), found=len(found.passages)
    )
    return {
        "passages": [passage_shown(passage) for passage in found.passages],
        "terms": dict(found.terms),
        "index": project.share_complete(),
        "timings_s": {name: round(value, 4) for name, value in found.timings_s.items()} | {"total": round(seconds, 4)},
    }


def passage_shown(passage: Passage) -> dict[str, Any]:
    """A passage as JSON."""
    chunk = passage.chunk
    return {
        "document": chunk.document,
        "path": chunk.path,
        "version": chunk.version,
        "label": str(chunk.label),
        "title": chunk.title,
        "headings": list(chunk.headings),
        "score": round(passage.score, 5),
        "why": dict(passage.why),
        "place": place_shown(chunk.blocks[0].place),
        "text": chunk.text,
    }


def _ids(passages: tuple[Passage, ...]) -> str:
    """What was read, short enough for one audit field: the first chunks' ids."""
    return " ".join(passage.chunk.id for passage in passages[:10])
