"""A question to passages: words and vectors searched within the clearance, fused, weighed by page.

Nothing here reads without a clearance. What earned its place is in docs/log.md (ablation table).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import Field

from hagane.core.config import Config
from hagane.core.labels import Clearance
from hagane.core.seams import Analyzer, Embedder, Searcher
from hagane.core.types import Hit, Passage, Statistics
from hagane.index.fuse import by_document, weighted_sum

from .bridge import Bridges


class RetrieveConfig(Config):
    """How passages are ranked. Scores have no unit; weights are relative to each other."""

    n: int = Field(10, ge=1, le=200, description="passages given to the answerer")
    pool: int = Field(400, ge=10, le=5000, description="chunks taken from each ranking before fusion")
    words: float = Field(1.0, ge=0, description="weight of the word ranking (BM25)")
    vectors: float = Field(0.8, ge=0, description="weight of the vector ranking (cosine)")
    bridge: float = Field(0.5, ge=0, le=1, description="weight of a synonym beside a word of the question; 0: none")
    page: float = Field(0.5, ge=0, description="weight of a document's best chunks together beside each chunk's own")
    page_damping: float = Field(0.5, ge=0, le=1, description="what each further chunk of a document adds, per place")
    page_depth: int = Field(4, ge=1, description="chunks of a document that count")


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What a search found: passages best first, and what the answerer needs to judge them."""

    passages: tuple[Passage, ...]
    terms: Mapping[str, float]  # of the question, with weights; 1.0 is a word that the person wrote
    statistics: Statistics
    timings_s: Mapping[str, float]


class Retriever:
    """Search over one store. Safe for several threads. `embedder` None: words only."""

    def __init__(
        self, searcher: Searcher, analyzer: Analyzer, *, embedder: Embedder | None, config: RetrieveConfig
    ) -> None:
        self._searcher = searcher
        self._analyzer = analyzer
        self._embedder = embedder
        self._config = config
        self._bridges = Bridges.load(analyzer) if config.bridge else None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="retrieve")

    def close(self) -> None:
        """Let go of its threads; a search under way ends."""
        self._threads.shutdown(wait=False)

    def terms(self, question: str) -> dict[str, float]:
        """The question's words at weight 1, synonyms of them below."""
        own = dict.fromkeys(self._analyzer.tokens(question), 1.0)
        if self._bridges is None:
            return own
        return self._bridges.expand(own, weight=self._config.bridge)

    def retrieve(self, question: str, *, clearance: Clearance, n: int | None = None) -> Retrieved:
        """The `n` best passages (default: config.n) that `clearance` may see."""
        config, started = self._config, time.perf_counter()
        terms = self.terms(question)
        vectors = self._threads.submit(self._by_vector, question, clearance)
        words = self._searcher.by_words(terms, clearance=clearance, n=config.pool) if terms else []
        words_s = time.perf_counter() - started
        meaning = vectors.result()
        fused = fuse(words, meaning, config=config)
        ids = [hit.chunk for hit in fused[: n or config.n]]
        chunks = {chunk.id: chunk for chunk in self._searcher.chunks(ids, clearance=clearance)}
        why = explain(words, meaning)
        passages = tuple(
            Passage(chunks[hit.chunk], hit.score, why[hit.chunk])
            for hit in fused[: n or config.n]
            if hit.chunk in chunks
        )
        statistics = self._searcher.statistics(list(terms), clearance=clearance)
        timings = {"words": words_s, "search": time.perf_counter() - started}
        return Retrieved(passages, terms, statistics, timings)

    def _by_vector(self, question: str, clearance: Clearance) -> list[Hit]:
        if self._embedder is None or not self._config.vectors:
            return []
        vector = self._embedder.embed([question], kind="query")[0]
        return self._searcher.by_vector(vector, clearance=clearance, n=self._config.pool)


def explain(words: list[Hit], meaning: list[Hit]) -> dict[str, dict[str, float]]:
    """For each chunk: its place in each ranking that found it, counted from 1, and its cosine."""
    why: dict[str, dict[str, float]] = {}
    for at, hit in enumerate(words, start=1):
        why.setdefault(hit.chunk, {})["words"] = float(at)
    for at, hit in enumerate(meaning, start=1):
        why.setdefault(hit.chunk, {}).update(vectors=float(at), cosine=round(hit.score, 4))
    return why


def fuse(words: list[Hit], meaning: list[Hit], *, config: RetrieveConfig) -> list[Hit]:
    """One ranking of chunks, best first: both rankings stretched and summed, then weighed by page."""
    lists = [{hit.chunk: hit.score for hit in hits} for hits in (words, meaning)]
    scores = weighted_sum(lists, weights=[config.words, config.vectors])
    document_of = {hit.chunk: hit.document for hit in [*words, *meaning]}
    hits = [Hit(chunk, document_of[chunk], score) for chunk, score in scores.items()]
    if config.page:
        pages = dict(by_document(hits, damping=config.page_damping, depth=config.page_depth))
        top = max(pages.values(), default=0.0) or 1.0
        hits = [Hit(h.chunk, h.document, h.score + config.page * pages[h.document] / top) for h in hits]
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk))
