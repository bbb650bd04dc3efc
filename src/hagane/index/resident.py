"""All vectors of a store in memory, for exact search within a clearance.

72,000 x 384 float32 are 110 MB; a scan costs milliseconds and loses nothing, however few rows the
clearance allows. Larger stores use the approximate index for wide clearances (see lance.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..core.seams import Floats
from ..core.types import Hit

_GATHER = 0.25  # share of rows below which copying the allowed rows beats scoring all


@dataclass(frozen=True, slots=True)
class Resident:
    """One version of the vectors table."""

    version: int
    ids: pa.Array  # (n,) string
    documents: pa.Array
    labels: list[str]  # distinct
    label_of: NDArray[np.int32]  # (n,) into labels
    vectors: Floats  # (n, dim)

    @classmethod
    def of(cls, version: int, table: pa.Table) -> Resident:
        """From columns id, document, label, vector."""
        coded = pc.dictionary_encode(table["label"]).combine_chunks()
        vectors = table["vector"].combine_chunks()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        dim = table.schema.field("vector").type.list_size
        return cls(
            version=version,
            ids=table["id"].combine_chunks(),
            documents=table["document"].combine_chunks(),
            labels=coded.dictionary.to_pylist(),
            label_of=coded.indices.to_numpy(zero_copy_only=False).astype(np.int32),
            vectors=vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim),
        )

    def search(self, vector: Floats, *, allowed: Callable[[str], bool], n: int) -> list[Hit]:
        """The n nearest rows whose label is `allowed`, nearest first, equal ones by id; score = cosine."""
        may = np.array([allowed(label) for label in self.labels], dtype=bool)
        if not len(self.ids) or not may.any() or n <= 0:
            return []
        rows = np.arange(len(self.ids)) if may.all() else np.flatnonzero(may[self.label_of])
        if len(rows) == len(self.ids):
            scores = self.vectors @ vector
        elif len(rows) < _GATHER * len(self.ids):
            scores = self.vectors[rows] @ vector
        else:
            scores = (self.vectors @ vector)[rows]
        if n < len(rows):
            edge = np.partition(scores, len(scores) - n)[len(scores) - n]
            keep = scores >= edge
            rows, scores = rows[keep], scores[keep]
        hits = [
            Hit(self.ids[at].as_py(), self.documents[at].as_py(), float(score))
            for at, score in zip(rows.tolist(), scores, strict=True)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk))[:n]
