"""Reading token shards: documents by number, memory-mapped or opened block by block, with origin and label; verification against sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hagane.core.errors import HaganeError, StateError, StorageError
from hagane.core.labels import Label, join

from .shards import ENDS, FORMAT, MANIFEST, RECORD, Header, Shard, read_json, totals
from .vault import OPEN, Array, Vault


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document of a set comes from."""

    document: int
    source: str
    line: int
    label: Label
    n_tokens: int


class ShardSet:
    """A finished set of shards, opened in time that does not depend on its size. `label` is the join of all.

    Raises: StateError when the set is not finished, StorageError when a file is missing or of another size.
    """

    def __init__(self, folder: Path, *, vault: Vault = OPEN) -> None:
        self._vault = vault
        if not (folder / MANIFEST).exists():
            raise StateError(f"{folder} holds no finished token shards", hint="run the same command again: it goes on")
        tree = read_json(folder / MANIFEST, vault)
        if tree.get("format") != FORMAT:
            hint = "write the shards anew"
            raise StorageError(f"{folder / MANIFEST} has format {tree.get('format')!r}, not {FORMAT}", hint=hint)
        try:
            self.header = Header(**{name: tree[name] for name in Header.__dataclass_fields__})
            self._shards = [Shard(**one) for one in tree["shards"]]
            self.n_documents, self.n_tokens, self.n_learnt = (int(tree[n]) for n in ("n_documents", "n_tokens", "n_learnt"))
            self.label = Label.parse(tree["label"])
        except (KeyError, TypeError, ValueError) as cause:
            raise StorageError(f"{folder / MANIFEST} is damaged", hint="write the shards anew") from cause
        self.mark = hashlib.sha256(vault.read(folder / MANIFEST)).hexdigest()
        self._folder = folder
        self._firsts = np.cumsum([0, *(shard.n_documents for shard in self._shards)])
        self._maps: dict[tuple[int, str], Array] = {}
        for n in range(len(self._shards)):
            for end in self._ends():
                self._size(n, end)

    def ids(self, document: int) -> NDArray[np.unsignedinteger[Any]]:
        """The tokens of a document: a view of the file, uint16 or uint32."""
        shard, record = self._record(document)
        return self._map(shard, ".bin")[record["start"] : record["start"] + record["length"]]

    def learn(self, document: int) -> NDArray[np.bool_]:
        """Which of its tokens are learnt; all of them in a set without masks."""
        shard, record = self._record(document)
        if not self.header.masked:
            return np.ones(int(record["length"]), np.bool_)
        return self._map(shard, ".mask")[record["start"] : record["start"] + record["length"]].view(np.bool_)

    def origin(self, document: int) -> Origin:
        """File, line and label of a document."""
        number, record = self._record(document)
        shard = self._shards[number]
        source, label = shard.sources[record["source"]], Label.parse(shard.labels[record["label"]])
        return Origin(document, source, int(record["line"]), label, int(record["length"]))

    def documents_of(self, source: str, line: int | None = None) -> list[int]:
        """The numbers of the documents that come from a source, or from one line of it."""
        found: list[int] = []
        for n, shard in enumerate(self._shards):
            if source in shard.sources:
                records = self._map(n, ".idx")
                here = records["source"] == shard.sources.index(source)
                here = here if line is None else here & (records["line"] == line)
                found += (np.flatnonzero(here) + self._firsts[n]).tolist()
        return found

    @property
    def content(self) -> str:
        """Changes whenever a token, its mask or its document does; not with labels or names."""
        digest = hashlib.sha256(repr((self.header.tokenizer, self.header.vocab_size)).encode())
        for shard in self._shards:
            digest.update(repr([shard.sha256.get(end) for end in (".bin", ".mask")]).encode())
        digest.update(self.lengths().astype("<i8").tobytes())
        return digest.hexdigest()

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every document, in order of their numbers."""
        return np.concatenate([self._map(n, ".idx")["length"] for n in range(len(self._shards))]).astype(np.int64)

    def problems(self) -> Iterator[str]:
        """What does not fit together, one sentence each; nothing when the set is as it was written. Reads it all."""
        for n, shard in enumerate(self._shards):
            wrong = [end for end in self._ends() if self._vault.sha256(self._path(n, end)) != shard.sha256.get(end)]
            yield from (f"{n:05d}{end} is not what was written (sha256)" for end in wrong)
            if not wrong:
                yield from self._inside(n, shard)
        found = totals(self._shards)
        if found != {"n_documents": self.n_documents, "n_tokens": self.n_tokens, "n_learnt": self.n_learnt, "label": str(self.label)}:
            yield "the manifest's sums or label are not those of its shards"

    def _inside(self, n: int, shard: Shard) -> Iterator[str]:
        if read_json(self._path(n, ".json"), self._vault) != asdict(shard):
            yield f"{n:05d}.json is not what the manifest says"
        records, ids = self._map(n, ".idx")[:], self._map(n, ".bin")[:]
        ends = np.cumsum(records["length"], dtype=np.uint64)
        if (records["start"] != np.concatenate([[0], ends[:-1]])).any() or int(ends[-1]) != ids.size:
            yield f"{n:05d}.idx has gaps"
        if records["source"].max() >= len(shard.sources) or records["label"].max() >= len(shard.labels):
            yield f"{n:05d}.idx points at a file or label that is not there"
        if ids.max() >= self.header.vocab_size:
            yield f"{n:05d}.bin holds ids outside the vocabulary"
        if join(*(Label.parse(label) for label in shard.labels)) != Label.parse(shard.label):
            yield f"{n:05d}.json: the label is not the join of its documents' labels"

    def _ends(self) -> tuple[str, ...]:
        return ENDS if self.header.masked else ENDS[:2]

    def _path(self, shard: int, end: str) -> Path:
        return self._folder / f"{shard:05d}{end}"

    def _size(self, n: int, end: str) -> None:
        shard = self._shards[n]
        one = {".bin": self.header.dtype.itemsize * shard.n_tokens, ".idx": RECORD.itemsize * shard.n_documents}
        expected, path = one.get(end, shard.n_tokens), self._path(n, end)
        found = self._vault.n_bytes(path) if path.is_file() else None
        if found != expected:
            what = "is missing" if found is None else f"has {found:,} bytes, not {expected:,}"
            raise StorageError(f"{path} {what}", hint="write the shards anew, or bring the file back")

    def _map(self, shard: int, end: str) -> Array:
        if (shard, end) not in self._maps:
            dtype = {".bin": self.header.dtype, ".idx": RECORD}.get(end, np.dtype(np.uint8))
            self._maps[shard, end] = self._vault.array(self._path(shard, end), dtype)
        return self._maps[shard, end]

    def _record(self, document: int) -> tuple[int, Any]:
        if not 0 <= document < self.n_documents:
            raise IndexError(f"document {document} of {self.n_documents}")
        shard = int(np.searchsorted(self._firsts, document, side="right")) - 1
        return shard, self._map(shard, ".idx")[document - self._firsts[shard]]


def verify(folder: Path, *, vault: Vault = OPEN) -> list[str]:
    """What is wrong with the set in `folder`, one sentence each; an empty list when it is as it was written."""
    try:
        return list(ShardSet(folder, vault=vault).problems())
    except HaganeError as error:
        return [str(error)]
