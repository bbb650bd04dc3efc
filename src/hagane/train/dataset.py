"""Rows to token shards: guarded, split without leaks, encoded; one set of shards for each part.

Rows are walked twice, once to see which belong together (so that copies never straddle the split) and once to encode
them. Each part is a folder of shards (`train`, `dev`, `test`) that is written, resumed and verified by itself.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hagane.core.errors import ChangedError, StoppedError
from hagane.core.labels import Label, join
from hagane.core.text import squeeze

from .personal import Guard
from .rows import BadRow
from .shard_set import ShardSet
from .shards import SHARD_TOKENS, Header, Tokenised, write_shards
from .split import PARTS, Part, Shares, split
from .vault import OPEN, Vault
from .words import Row


class Origin(Protocol):
    """Where rows come from: the same ones in the same order each time. `bad` and `n_good` are of the last walk."""

    bad: list[BadRow]
    n_good: int

    @property
    def name(self) -> str: ...  # what it is, for people
    def known(self) -> list[str]: ...  # what its rows are made from, for fingerprints
    def __iter__(self) -> Iterator[Row]: ...


class Ids(Protocol):
    """An encoded row: `template.Encoded`, or anything like it. As many of `learnt` as of `ids`."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def learnt(self) -> Sequence[bool]: ...


@dataclass(frozen=True, slots=True)
class Encoder:
    """How rows become tokens. `fingerprint` changes whenever tokens would: tokenizer, template and what is learnt."""

    fingerprint: str
    vocab_size: int
    encode: Callable[[Row], Ids]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first walk over all rows saw. Row n of the lists is the n-th that may be used."""

    groups: list[str]
    n_bytes: NDArray[np.int64]  # of text that is learnt, in UTF-8
    marks: NDArray[np.uint64]  # hashes of rows: a second walk must see the same ones
    bad: tuple[BadRow, ...]
    n_rows: int  # that were good
    n_dropped: int  # of these, for personal data
    n_masked: int
    label: Label  # the join of all that may be used


@dataclass(frozen=True, slots=True)
class DataSet:
    """What came of it. `bad` are the rows left out, by name."""

    parts: dict[Part, ShardSet]
    recognised: tuple[str, ...]
    bad: tuple[BadRow, ...]
    n_rows: int  # that were good
    n_dropped: int  # of these, for personal data
    n_masked: int


class Grouping(Protocol):
    """Says which rows belong together: they never straddle the split."""

    def add(self, row: Row) -> None: ...
    def groups(self) -> list[str]: ...  # of each row that was added, in order


def copy_group(row: Row) -> str:
    """One group for rows of the same text (NFKC, white space aside)."""
    key = "\0".join(squeeze(unicodedata.normalize("NFKC", text)) for text in row.texts())
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


class Copies:
    """Rows of the same text belong together. Near copies need a grouping of the caller's own."""

    def __init__(self) -> None:
        self._groups: list[str] = []

    def add(self, row: Row) -> None:
        self._groups.append(copy_group(row))

    def groups(self) -> list[str]:
        return self._groups


def go_on() -> bool:
    """Nobody asks to stop."""
    return False


def survey(origins: Sequence[Origin], guard: Guard, *, grouping: Grouping, stop: Callable[[], bool] = go_on) -> Survey:
    """Walk over everything once. Raises: SourceError, StoppedError, and what the guard refuses."""
    before = guard.n_dropped, guard.n_masked
    sizes, marks, labels = [], [], {}
    for row in (row for origin in origins for row in guard(origin)):
        if stop():
            raise StoppedError("preparing was stopped", hint="run the same command again")
        grouping.add(row)
        sizes.append(n_learnt_bytes(row))
        marks.append(mark_of(row))
        labels[row.label] = None
    return Survey(
        grouping.groups(), np.array(sizes, np.int64), np.array(marks, np.uint64),
        tuple(one for origin in origins for one in origin.bad), sum(origin.n_good for origin in origins),
        guard.n_dropped - before[0], guard.n_masked - before[1], join(*labels),
    )  # fmt: skip


def n_learnt_bytes(row: Row) -> int:
    """UTF-8 bytes of what a row teaches: all of a text, an assistant's turns of a conversation."""
    turns = (*row.messages, *row.chosen)
    said = [turn.content for turn in turns if turn.role == "assistant" and turn.learn]
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in (*said, row.text or ""))


def mark_of(row: Row) -> int:
    """64 bits of everything in a row but its line."""
    turns = [(turn.role, turn.content, turn.learn) for turn in (*row.messages, *row.chosen, *row.rejected)]
    said = repr((str(row.label), row.source, row.text, turns)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little")


def write_dataset(
    folder: Path,
    origins: Sequence[Origin],
    *,
    encoder: Encoder,
    guard: Guard,
    shares: Shares,
    seed: int,
    surveyed: Survey | None = None,
    stop: Callable[[], bool] = go_on,
    shard_tokens: int = SHARD_TOKENS,
    vault: Vault = OPEN,
) -> DataSet:
    """Write the parts, or go on where it was cut short. Groups are of rows as they may be used (masked).

    Raises: StateError when there is too little to split or the folder holds other data, ChangedError when rows changed
    meanwhile, SourceError, StorageError, StoppedError.
    """
    seen = surveyed or survey(origins, guard, grouping=Copies(), stop=stop)
    parts = split(seen.groups, shares, seed=seed)
    known = {"files": [origin.known() for origin in origins], "policy": guard.named, "shares": asdict(shares), "seed": seed}
    made: dict[Part, ShardSet] = {}
    for part in (part for part in PARTS if parts[part]):
        wanted = np.array(parts[part])
        named = json.dumps(known | {"part": part, "rows": hashlib.sha256(wanted.tobytes()).hexdigest()}, sort_keys=True)
        made_from = hashlib.sha256(named.encode()).hexdigest()
        header = Header(encoder.fingerprint, encoder.vocab_size, made_from, True, shard_tokens)
        write_shards(folder / part, _encoded(origins, guard, wanted, seen, encoder, stop), header=header, vault=vault)
        made[part] = ShardSet(folder / part, vault=vault)
    return DataSet(made, tuple(one.name for one in origins), seen.bad, seen.n_rows, seen.n_dropped, seen.n_masked)


def chosen(
    origins: Sequence[Origin], guard: Guard, wanted: NDArray[np.int64], seen: Survey, *, stop: Callable[[], bool] = go_on
) -> Iterator[Row]:
    """The rows of these numbers (ascending). Raises: ChangedError when they are not the ones that were surveyed."""
    numbers = iter(wanted.tolist())
    following = next(numbers, None)
    for n, row in enumerate(row for origin in origins for row in guard(origin)):
        if following is None:
            return
        if stop():
            raise StoppedError("preparing was stopped; what is written is kept", hint="the same command goes on")
        if n >= len(seen.marks) or mark_of(row) != int(seen.marks[n]):
            raise ChangedError(f"{row.source}:{row.line} changed while it was read", hint="run the same command again")
        if n == following:
            yield row
            following = next(numbers, None)
    if following is not None:
        raise ChangedError("the data became less while it was read", hint="run the same command again")


def _encoded(
    origins: Sequence[Origin], guard: Guard, wanted: NDArray[np.int64], seen: Survey, encoder: Encoder, stop: Callable[[], bool]
) -> Callable[[int], Iterator[Tokenised]]:
    def documents(first: int) -> Iterator[Tokenised]:
        for row in chosen(origins, guard, wanted[first:], seen, stop=stop):
            ids = encoder.encode(row)
            yield Tokenised(ids.ids, row.label, row.source, row.line, ids.learnt)

    return documents
