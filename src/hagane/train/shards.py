"""Token shards: written once, memory-mapped (or sealed, see vault.py), each document with its file, line and label; a manifest with sha256.

A shard is NNNNN.bin (token ids, uint16 or uint32, little endian), NNNNN.idx (one record per document), NNNNN.mask
(one byte per token, 1 where it is learnt; only in masked sets) and NNNNN.json, which is written last: a shard with it
is whole, and writing goes on behind the last of them. manifest.json comes last of all. A document lies in one shard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hagane.core.errors import SourceError, StateError, StorageError
from hagane.core.labels import Label, join

from .vault import OPEN, Vault
from .whole import PART, Out

FORMAT = 1
SHARD_TOKENS = 1 << 26
RECORD = np.dtype([("start", "<u8"), ("length", "<u4"), ("source", "<u4"), ("line", "<u4"), ("label", "<u2")])
MANIFEST, HEADER = "manifest.json", "writing.json"
ENDS = (".bin", ".idx", ".mask")


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A document as token ids, and where it came from. `learn`: which tokens are learnt; None: all of them."""

    ids: Sequence[int] | NDArray[np.integer]
    label: Label
    source: str
    line: int
    learn: Sequence[bool] | NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What a set of shards is made of; a set is only continued by an equal one."""

    tokenizer: str  # fingerprint
    vocab_size: int
    made_from: str  # what identifies the input: a hash of rows, policy and split
    masked: bool = False
    shard_tokens: int = SHARD_TOKENS
    format: int = FORMAT

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<u2") if self.vocab_size <= 1 << 16 else np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class Shard:
    """The record of one shard. `sources` and `labels` are what its index points into."""

    n_documents: int
    n_tokens: int
    n_learnt: int
    label: str
    sources: list[str]
    labels: list[str]
    sha256: dict[str, str]  # by file ending


def write_shards(
    folder: Path, documents: Callable[[int], Iterable[Tokenised]], *, header: Header, vault: Vault = OPEN
) -> dict[str, Any]:
    """Write the set, or go on where it was cut short; the manifest. Nothing is done when it is whole.

    `documents(n)` gives the documents from number n on, the same ones each time.
    Raises: StateError when the folder holds shards of something else, StorageError (disk full), SourceError for a
    document without tokens, ValueError for ids outside the vocabulary.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise StorageError(f"{folder} cannot be made: {type(cause).__name__}") from cause
    given = asdict(header)
    if (folder / MANIFEST).exists():
        manifest = read_json(folder / MANIFEST, vault)
        _same(folder, {name: manifest.get(name) for name in given}, given)
        return manifest
    if (folder / HEADER).exists():
        _same(folder, read_json(folder / HEADER, vault), given)
    else:
        vault.write(folder / HEADER, _json(given))
    for left in folder.glob(f"*{PART}"):
        left.unlink()
    done = [Shard(**read_json(folder / f"{n:05d}.json", vault)) for n in _finished(folder)]
    for shard in _written(folder, iter(documents(sum(s.n_documents for s in done))), header, vault, first=len(done)):
        done.append(shard)
    if not done:
        raise SourceError("there is no document to write", reason="empty", hint="name data that holds examples")
    manifest = given | totals(done) | {"shards": [asdict(shard) for shard in done]}
    vault.write(folder / MANIFEST, _json(manifest))
    (folder / HEADER).unlink()
    return manifest


def totals(shards: Sequence[Shard]) -> dict[str, Any]:
    """Sums over shards, and the join of their labels."""
    return {
        "n_documents": sum(shard.n_documents for shard in shards),
        "n_tokens": sum(shard.n_tokens for shard in shards),
        "n_learnt": sum(shard.n_learnt for shard in shards),
        "label": str(join(*(Label.parse(shard.label) for shard in shards))),
    }


def _same(folder: Path, found: dict[str, Any], given: dict[str, Any]) -> None:
    unlike = sorted(name for name in given if found.get(name) != given[name])
    if unlike:
        raise StateError(f"{folder} holds shards of another {', '.join(unlike)}", hint="write to an empty folder")


def _finished(folder: Path) -> Iterator[int]:
    n = 0
    while (folder / f"{n:05d}.json").exists():
        yield n
        n += 1


def _json(tree: Any) -> bytes:
    return (json.dumps(tree, ensure_ascii=False, indent=1) + "\n").encode()


def read_json(path: Path, vault: Vault = OPEN) -> dict[str, Any]:
    """A file of ours. Raises: StorageError when it is missing or damaged."""
    try:
        tree = json.loads(vault.read(path))
    except (ValueError, RecursionError) as cause:
        raise StorageError(f"{path} cannot be read: {type(cause).__name__}", hint="write the shards anew") from cause
    if not isinstance(tree, dict):
        raise StorageError(f"{path} is damaged", hint="write the shards anew")
    return tree


def _written(folder: Path, documents: Iterator[Tokenised], header: Header, vault: Vault, *, first: int) -> Iterator[Shard]:
    """Shards until the documents end; each is durable when it comes."""
    number, following = first, next(documents, None)
    while following is not None:
        name = f"{number:05d}"
        masking = vault.whole(folder / f"{name}.mask") if header.masked else nullcontext()
        with vault.whole(folder / f"{name}.bin") as tokens, masking as mask:
            one = _Open(header, tokens, mask)
            while following is not None and one.takes(following):
                one.add(following)
                following = next(documents, None)
        records = np.array(one.records, dtype=RECORD)
        with vault.whole(folder / f"{name}.idx") as index:
            index.write(records.tobytes())
        sums = {".bin": tokens.sha256, ".idx": index.sha256} | ({".mask": mask.sha256} if mask else {})
        label = join(*one.labels)
        sources, labels = list(one.sources), [str(label) for label in one.labels]
        shard = Shard(len(records), one.n_tokens, one.n_learnt, str(label), sources, labels, sums)
        vault.write(folder / f"{name}.json", _json(asdict(shard)))
        yield shard
        number += 1


class _Open:
    """A shard being filled."""

    def __init__(self, header: Header, tokens: Out, mask: Out | None) -> None:
        self.records: list[tuple[int, int, int, int, int]] = []
        self.sources: dict[str, int] = {}
        self.labels: dict[Label, int] = {}
        self.n_tokens = self.n_learnt = 0
        self._header, self._tokens, self._mask = header, tokens, mask

    def takes(self, document: Tokenised) -> bool:
        """A document longer than a shard gets one of its own."""
        return not self.records or self.n_tokens + len(document.ids) <= self._header.shard_tokens

    def add(self, document: Tokenised) -> None:
        ids = np.asarray(document.ids, dtype=np.int64)
        where = f"{document.source}:{document.line}"
        if not ids.size:
            raise SourceError(f"{where}: no token came of it", reason="empty", hint="leave empty rows out")
        if ids.min() < 0 or ids.max() >= self._header.vocab_size:
            raise ValueError(f"{where}: token ids outside the vocabulary of {self._header.vocab_size}")
        learn = np.ones(ids.size, np.uint8) if document.learn is None else np.asarray(document.learn, dtype=np.uint8)
        if learn.shape != ids.shape or (document.learn is not None and not self._header.masked):
            raise ValueError(f"{where}: a mask of {learn.size} for {ids.size} tokens (masked: {self._header.masked})")
        source = self.sources.setdefault(document.source, len(self.sources))
        label = self.labels.setdefault(document.label, len(self.labels))
        self.records.append((self.n_tokens, ids.size, source, document.line, label))
        self._tokens.write(ids.astype(self._header.dtype).tobytes())
        if self._mask is not None:
            self._mask.write(learn.tobytes())
        self.n_tokens += ids.size
        self.n_learnt += int(learn.sum())
