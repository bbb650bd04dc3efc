"""Chunks to vectors, in batches that are durable each: stop anywhere, go on later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hagane.core.seams import Embedder
from hagane.core.types import Chunk

BATCH = 512  # chunks per store commit


def embed_text(chunk: Chunk) -> str:
    """What is embedded: title and heading path, then the text."""
    path = dict.fromkeys(part for part in (chunk.title, *chunk.headings) if part)
    return " > ".join(path) + "\n" + chunk.spoken


def embed_pending(index: Any, embedder: Embedder) -> Iterator[tuple[int, int]]:
    """Embed every chunk that has no vector; yields (done in this run, still waiting) per batch."""
    done, waiting = 0, len(index.pending_vectors())
    for chunks in index.iter_pending(BATCH):
        vectors = embedder.embed([embed_text(chunk) for chunk in chunks], kind="passage")
        index.add_vectors([chunk.id for chunk in chunks], vectors)
        done, waiting = done + len(chunks), waiting - len(chunks)
        yield done, max(waiting, 0)
