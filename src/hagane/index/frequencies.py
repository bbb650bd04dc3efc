"""How many chunks hold each term, per label: what makes terms rare or common to a given reader.

Counted from the words table's terms and kept in one Arrow file beside it, valid for one version of the
table. Per label, so that a reader's figures never reveal what stands in documents above the clearance.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..core.types import Statistics


@dataclass(frozen=True, slots=True)
class Frequencies:
    version: int
    n_chunks: dict[str, int]  # label -> chunks
    terms: dict[str, Counter[str]]  # label -> term -> chunks

    @classmethod
    def count(cls, version: int, batches: Iterable[pa.RecordBatch]) -> Frequencies:
        """From columns label and tokens (terms parted by blanks)."""
        n_chunks: Counter[str] = Counter()
        terms: dict[str, Counter[str]] = {}
        for batch in batches:
            for label, tokens in zip(batch["label"].to_pylist(), batch["tokens"].to_pylist(), strict=True):
                n_chunks[label] += 1
                terms.setdefault(label, Counter()).update(set(tokens.split(" ")))
        for counter in terms.values():
            counter.pop("", None)
        return cls(version, dict(n_chunks), terms)

    def statistics(self, terms: Sequence[str], *, allowed: Callable[[str], bool]) -> Statistics:
        labels = [label for label in self.n_chunks if allowed(label)]
        frequencies = {term: sum(self.terms[label][term] for label in labels) for term in terms}
        return Statistics(sum(self.n_chunks[label] for label in labels), frequencies)

    def save(self, path: Path) -> None:
        """Atomic: written beside, synced, renamed."""
        labels, terms, counts = [], [], []
        for label, n in self.n_chunks.items():
            own = self.terms[label]
            labels += [label] * (len(own) + 1)
            terms += ["", *own]  # the empty term carries the number of chunks
            counts += [n, *own.values()]
        table = pa.table(
            {
                "label": pa.array(labels, pa.string()).dictionary_encode(),
                "term": terms,
                "n": pa.array(counts, pa.int32()),
            }
        ).replace_schema_metadata({"version": str(self.version)})
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path, *, version: int) -> Frequencies | None:
        """The saved figures; None when there are none for this version of the table."""
        try:
            with pa.OSFile(str(path)) as file:
                table = pa.ipc.open_file(file).read_all()
        except (FileNotFoundError, pa.ArrowInvalid):
            return None
        if (table.schema.metadata or {}).get(b"version") != str(version).encode():
            return None
        n_chunks: dict[str, int] = {}
        terms: dict[str, Counter[str]] = {}
        columns = (table[name].to_pylist() for name in ("label", "term", "n"))
        for label, term, n in zip(*columns, strict=True):
            if term:
                terms[label][term] = n
            else:
                n_chunks[label], terms[label] = n, Counter()
        return cls(version, n_chunks, terms)
