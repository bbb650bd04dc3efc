"""The store in memory: exact BM25, exact cosine, nothing on disk. Tests, notebooks, small corpora."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..core.labels import Clearance, Label
from ..core.seams import Floats
from ..core.types import Chunk, Hit, Statistics
from .bm25 import idf, saturated


@dataclass(frozen=True, slots=True)
class _Row:
    chunk: Chunk
    counts: Mapping[str, int]
    length: int  # terms


@dataclass(frozen=True, slots=True)
class _View:
    """The rows turned round for search. Position = place in `ids`."""

    ids: list[str]
    labels: list[Label]  # distinct
    label_of: NDArray[np.intp]  # (n_chunks,) into labels
    lengths: NDArray[np.float64]  # (n_chunks,)
    postings: dict[str, tuple[list[int], list[int]]]  # term -> positions, counts
    vector_at: NDArray[np.intp]  # (n_vectors,) positions
    vectors: Floats  # (n_vectors, dim)

    def allowed(self, clearance: Clearance) -> NDArray[np.bool_]:
        """(n_chunks,): which rows the clearance may see."""
        return np.array([label.flows_to(clearance) for label in self.labels], dtype=bool)[self.label_of]


def unit_rows(ids: Sequence[str], vectors: Floats) -> Floats:
    """`vectors` as (n_ids, dim) float32. Raises: ValueError for another shape or rows not of length 1."""
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != len(ids):
        raise ValueError(f"vectors have shape {rows.shape}, ids are {len(ids)}")
    if len(rows) and not np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-2):
        raise ValueError("vectors must be rows of length 1")
    return rows


class MemoryIndex:
    """Index and Searcher over Python dictionaries. Contracts: hagane/contracts/{index,searcher}.py.

    Writers exclude each other; readers work on a view of the last complete write. Besides the seams it
    has the extra methods that every store of the house has: see LanceIndex.
    """

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._vectors: dict[str, Floats] = {}
        self._view: _View | None = None
        self._lock = threading.RLock()

    # writing

    def add(self, chunks: Sequence[Chunk], tokens: Sequence[Sequence[str]]) -> None:
        with self._lock:
            for chunk, terms in zip(chunks, tokens, strict=True):
                self._rows[chunk.id] = _Row(chunk, Counter(terms), len(terms))
            self._view = None

    def add_vectors(self, ids: Sequence[str], vectors: Floats) -> None:
        rows = unit_rows(ids, vectors)
        with self._lock:
            known = next(iter(self._vectors.values()), None)
            if known is not None and len(rows) and rows.shape[1] != len(known):
                raise ValueError(f"vectors have {rows.shape[1]} dimensions, the index has {len(known)}")
            self._vectors.update((i, row.copy()) for i, row in zip(ids, rows, strict=True) if i in self._rows)
            self._view = None

    def relabel(self, document: str, label: Label) -> None:
        self.relabel_many({document: label})

    def relabel_many(self, labels: Mapping[str, Label]) -> None:
        with self._lock:
            for key, row in self._rows.items():
                label = labels.get(row.chunk.document)
                if label is not None:
                    self._rows[key] = replace(row, chunk=replace(row.chunk, label=label))
            self._view = None

    def delete(self, documents: Sequence[str], *, purge: bool) -> None:
        gone = set(documents)
        with self._lock:
            self.delete_chunks([key for key, row in self._rows.items() if row.chunk.document in gone], purge=purge)

    def delete_chunks(self, ids: Sequence[str], *, purge: bool) -> None:
        with self._lock:
            for key in ids:
                self._rows.pop(key, None)
                self._vectors.pop(key, None)
            self._view = None

    def drop_vectors(self) -> None:
        """Forget all vectors, because another embedder is to make them anew."""
        with self._lock:
            self._vectors.clear()
            self._view = None

    # reading

    def _current(self) -> _View:
        with self._lock:
            if self._view is None:
                self._view = self._build()
            return self._view

    def _build(self) -> _View:
        ids = list(self._rows)
        rows = list(self._rows.values())
        number: dict[Label, int] = {}
        label_of = [number.setdefault(row.chunk.label, len(number)) for row in rows]
        postings: dict[str, tuple[list[int], list[int]]] = {}
        for at, row in enumerate(rows):
            for term, count in row.counts.items():
                places, counts = postings.setdefault(term, ([], []))
                places.append(at)
                counts.append(count)
        where = [at for at, key in enumerate(ids) if key in self._vectors]
        stacked = [self._vectors[ids[at]] for at in where]
        return _View(
            ids=ids,
            labels=list(number),
            label_of=np.array(label_of, dtype=np.intp),
            lengths=np.array([row.length for row in rows], dtype=np.float64),
            postings=postings,
            vector_at=np.array(where, dtype=np.intp),
            vectors=np.stack(stacked) if stacked else np.zeros((0, 0), dtype=np.float32),
        )

    def by_words(self, terms: Mapping[str, float], *, clearance: Clearance, n: int) -> list[Hit]:
        view = self._current()
        if not view.ids:
            return []
        scores = np.zeros(len(view.ids))
        mean = float(view.lengths.mean()) or 1.0
        for term, weight in terms.items():
            if weight > 0 and term in view.postings:
                places, counts = view.postings[term]
                gain = saturated(np.array(counts, dtype=np.float64), view.lengths[places], mean)
                scores[places] += weight * idf(len(view.ids), len(places)) * gain
        scores[~view.allowed(clearance)] = 0.0
        return self._best(view, np.flatnonzero(scores > 0), scores, n)

    def by_vector(self, vector: Floats, *, clearance: Clearance, n: int) -> list[Hit]:
        view = self._current()
        if not len(view.vector_at):
            return []
        scores = np.zeros(len(view.ids))
        scores[view.vector_at] = view.vectors @ np.asarray(vector, dtype=np.float32)
        return self._best(view, view.vector_at[view.allowed(clearance)[view.vector_at]], scores, n)

    def _best(self, view: _View, places: NDArray[np.intp], scores: NDArray[np.float64], n: int) -> list[Hit]:
        """The n best of `places`, highest score first, equal ones by chunk id."""
        if n < len(places):
            edge = np.partition(scores[places], len(places) - n)[len(places) - n] if n > 0 else np.inf
            places = places[scores[places] >= edge]
        order = sorted(places.tolist(), key=lambda at: (-scores[at], view.ids[at]))[: max(n, 0)]
        rows = self._rows
        return [
            Hit(view.ids[at], rows[view.ids[at]].chunk.document, float(scores[at]))
            for at in order
            if view.ids[at] in rows
        ]

    def chunks(self, ids: Sequence[str], *, clearance: Clearance) -> list[Chunk]:
        found = (self._rows.get(key) for key in ids)
        return [row.chunk for row in found if row is not None and row.chunk.label.flows_to(clearance)]

    def statistics(self, terms: Sequence[str], *, clearance: Clearance) -> Statistics:
        view = self._current()
        allowed = view.allowed(clearance) if view.ids else np.zeros(0, dtype=bool)
        frequencies = {t: int(allowed[view.postings[t][0]].sum()) if t in view.postings else 0 for t in terms}
        return Statistics(int(allowed.sum()), frequencies)

    # what every store of the house has besides the seams

    def ids(self, document: str | None = None) -> Iterator[tuple[str, str, str, str, bool]]:
        """(chunk, document, version, label, has a vector) of every chunk, or of one document's."""
        for key, row in list(self._rows.items()):
            if document is None or row.chunk.document == document:
                yield key, row.chunk.document, row.chunk.version, str(row.chunk.label), key in self._vectors

    def count(self) -> tuple[int, int]:
        """(chunks, vectors)."""
        return len(self._rows), len(self._vectors)

    def pending_vectors(self) -> list[str]:
        """Ids of the chunks that have no vector yet, sorted."""
        return sorted(self._rows.keys() - self._vectors.keys())

    def iter_pending(self, batch: int = 500) -> Iterator[list[Chunk]]:
        """The chunks that had no vector when the iteration began, in lists of at most `batch`."""
        waiting = self.pending_vectors()
        for start in range(0, len(waiting), batch):
            found = [self._rows[key].chunk for key in waiting[start : start + batch] if key in self._rows]
            if found:
                yield found

    def optimize(self) -> None:
        """Nothing to do."""

    def compact(self) -> None:
        """Nothing to do."""

    def remains(self) -> bool:
        """Nothing ever does."""
        return False

    def verify_erased(self, text: str) -> list[str]:
        """Where `text` is still held: ["rows"] or []."""
        held = any(text in row.chunk.text or text in row.chunk.spoken or text in row.counts or text == key
                   for key, row in self._rows.items())  # fmt: skip
        return ["rows"] if held else []
