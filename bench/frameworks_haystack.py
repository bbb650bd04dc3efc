"""Haystack's side of bench/frameworks.py; runs in Haystack's own environment.

Keyword: `InMemoryBM25Retriever` as it comes (BM25L, one token per kanji and kana). Hybrid: as in its
documentation, a pipeline of that retriever, `InMemoryEmbeddingRetriever` and `DocumentJoiner` with reciprocal rank
fusion, 100 documents each. Splitting: `MarkdownToDocument`, then `RecursiveDocumentSplitter` in characters with the
Japanese full stop among its separators (the default counts words by blanks, which Japanese does not have).
"""

from __future__ import annotations

import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import numpy as np
from frameworks_job import POOL, WIDTH, Stopwatch, ask_all, pages_of, read_job, read_lines, write, write_lines

SEPARATORS = ["\n\n", "\n", "。", " "]
LENGTH = 450  # characters, what Hagane fills chunks to


def split(job: dict) -> None:
    from haystack.components.converters import MarkdownToDocument
    from haystack.components.preprocessors import RecursiveDocumentSplitter

    pages = read_lines(job["pages"])
    watch = Stopwatch()
    converter = MarkdownToDocument(progress_bar=False)
    splitter = RecursiveDocumentSplitter(split_length=LENGTH, split_unit="char", separators=SEPARATORS)
    read = converter.run(sources=[page["file"] for page in pages], meta=[{"page": page["id"]} for page in pages])
    parts = splitter.run(documents=read["documents"])["documents"]
    watch.lap("split")
    rows = [{"id": part.id, "page": part.meta["page"], "text": part.content} for part in parts if part.content.strip()]
    write_lines(job["units"], rows)
    write(job, {"seconds": watch.seconds})


def search(job: dict) -> None:
    from haystack import Document
    from haystack.components.retrievers import InMemoryBM25Retriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    units, asked = read_lines(job["units"]), job["asked"]
    page_of = {unit["id"]: unit["page"] for unit in units}
    limit = POOL if len(set(page_of.values())) < len(page_of) else 10
    store, watch = InMemoryDocumentStore(), Stopwatch()
    store.write_documents([Document(id=unit["id"], content=unit["text"]) for unit in units])
    watch.lap("index keyword")
    words = InMemoryBM25Retriever(store, top_k=limit)
    modes = {"keyword": ask_all(asked, lambda at: ids(words.run(query=asked[at]), page_of))}
    if job.get("rows"):
        watch.skip()
        rows = np.fromfile(job["rows"], np.float32).reshape(-1, WIDTH)
        pipeline = hybrid(units, rows)
        watch.lap("index hybrid")
        questions = rows[len(units) :].tolist()

        def ask(at: int) -> list[str]:
            given = {"words": {"query": asked[at]}, "meaning": {"query_embedding": questions[at]}}
            return ids(pipeline.run(given)["joiner"], page_of)

        modes["hybrid"] = ask_all(asked, ask)
    write(job, {"seconds": watch.seconds, "modes": modes})


def hybrid(units: list[dict], rows):
    """The documented hybrid pipeline over a store of its own."""
    from haystack import Document, Pipeline
    from haystack.components.joiners import DocumentJoiner
    from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(
        [Document(id=u["id"], content=u["text"], embedding=row.tolist()) for u, row in zip(units, rows, strict=False)]
    )
    pipeline = Pipeline()
    pipeline.add_component("words", InMemoryBM25Retriever(store, top_k=POOL))
    pipeline.add_component("meaning", InMemoryEmbeddingRetriever(store, top_k=POOL))
    pipeline.add_component("joiner", DocumentJoiner(join_mode="reciprocal_rank_fusion"))
    pipeline.connect("words", "joiner")
    pipeline.connect("meaning", "joiner")
    return pipeline


def ids(said: dict, page_of: dict[str, str]) -> list[str]:
    return pages_of([document.id for document in said["documents"]], page_of)


if __name__ == "__main__":
    job = read_job()
    {"split": split, "search": search}[job["task"]](job)
