"""Every small protocol of the house, on one page. At most four methods each.

Backends stand in one file each and are named in a registry table (`core.registry`); each passes the
contract suite of its seam in `hagane.contracts`. Nothing here imports anything heavy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .labels import Clearance, Label
from .types import (
    AnswerPart,
    Aside,
    Blob,
    ChatRequest,
    Chunk,
    Delta,
    Document,
    Hit,
    Passage,
    Statistics,
)  # fmt: skip

Floats = NDArray[np.float32]
Kind = Literal["query", "passage"]


class Parser(Protocol):
    """Bytes to documents: one for a file, several for a container, Aside for what cannot be read.
    Raises: SourceError when nothing of the file can be read."""

    def read(self, blob: Blob) -> Iterator[Document | Aside]: ...


@runtime_checkable
class Analyzer(Protocol):
    """Text to search terms; the same for documents and questions. Terms hold no white space."""

    name: str

    def tokens(self, text: str) -> list[str]: ...


@runtime_checkable
class Embedder(Protocol):
    """Text to unit vectors. `fingerprint` changes whenever vectors would."""

    name: str
    dim: int
    fingerprint: str

    def embed(self, texts: Sequence[str], *, kind: Kind) -> Floats: ...  # (n_texts, dim), rows of length 1


class Index(Protocol):
    """The writing side of a store. Every call is durable when it returns and safe to repeat."""

    def add(self, chunks: Sequence[Chunk], tokens: Sequence[Sequence[str]]) -> None: ...
    def add_vectors(self, ids: Sequence[str], vectors: Floats) -> None: ...
    def relabel(self, document: str, label: Label) -> None: ...
    def delete(self, documents: Sequence[str], *, purge: bool) -> None: ...


class Sealer(Protocol):
    """What a store keeps content with, where the project is encrypted. `bound` ties the bytes to their place: sealed
    bytes opened elsewhere are an error. Raises: StorageError for changed bytes, another key or an erased document."""

    form: str  # how content is kept; a store written in another form has to be written anew

    def seal(self, document: str, data: bytes, *, bound: bytes) -> bytes: ...
    def open(self, document: str, sealed: bytes, *, bound: bytes) -> bytes: ...
    def term(self, term: str) -> str: ...  # the term, or a keyed hash of it: 32 hex digits


class Searcher(Protocol):
    """The reading side. There is no search without a clearance; results only hold chunks whose
    label flows to it. `terms` maps a token to its weight (1.0 for a word of the question)."""

    def by_words(self, terms: Mapping[str, float], *, clearance: Clearance, n: int) -> list[Hit]: ...
    def by_vector(self, vector: Floats, *, clearance: Clearance, n: int) -> list[Hit]: ...
    def chunks(self, ids: Sequence[str], *, clearance: Clearance) -> list[Chunk]: ...  # given order, missing left out
    def statistics(self, terms: Sequence[str], *, clearance: Clearance) -> Statistics: ...


class ChatModel(Protocol):
    """A language model. Deltas stream; the last one always carries usage and finish reason.
    Closing the iterator stops the model. Raises: ModelError."""

    name: str

    def chat(self, request: ChatRequest) -> Iterator[Delta]: ...


class Answerer(Protocol):
    """Passages to a cited answer. Yields nothing when the passages do not support one."""

    name: str

    def answer(self, asked: str, passages: Sequence[Passage]) -> Iterator[AnswerPart]: ...


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text that a detector names: characters, end exclusive. Never holds the text itself."""

    start: int
    end: int
    kind: str  # the detector's name


@runtime_checkable
class Detector(Protocol):
    """Finds personal data of one kind. Spans are in order, not empty, and do not overlap one another."""

    name: str

    def find(self, text: str) -> list[Span]: ...


class Blobs(Protocol):
    """Original bytes by sha256. `put` is atomic; `delete` leaves nothing on disk."""

    def put(self, data: bytes) -> str: ...
    def open(self, sha256: str) -> bytes: ...
    def delete(self, sha256: str) -> None: ...
    def list(self) -> Iterator[str]: ...


class Auditor(Protocol):
    """The audit log. Raises AuditError: then the act does not happen."""

    def record(self, act: str, *, principal: str, **fields: Any) -> str: ...  # the new head
    def digest(self, text: str) -> str: ...  # how a text stands in a record; the same for the same text


class JobRunner(Protocol):
    """Work in other processes, with limits."""

    def submit(self, request: Mapping[str, Any]) -> str: ...
    def state(self, job: str) -> str: ...
    def cancel(self, job: str) -> None: ...
