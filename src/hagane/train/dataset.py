"""Files of examples to token shards: recognised, guarded, split without leaks, encoded; one set for each part.

Each part is a folder of shards (`train`, `dev`, `test`) that is written, resumed and verified by itself.
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

from hagane.core.text import squeeze

from .personal import Guard
from .rows import BadRow, Recognised, Rows
from .shard_set import ShardSet
from .shards import SHARD_TOKENS, Header, Tokenised, write_shards
from .split import PARTS, Part, Shares, split
from .whole import sha256_of
from .words import Row


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
class DataSet:
    """What came of it. `bad` are the rows left out, by name."""

    parts: dict[Part, ShardSet]
    recognised: tuple[Recognised, ...]
    bad: tuple[BadRow, ...]
    n_rows: int  # that were good
    n_dropped: int  # of these, for personal data
    n_masked: int


def copy_group(row: Row) -> str:
    """One group for rows of the same text (NFKC, white space aside). Near copies need groups of the caller's own."""
    key = "\0".join(squeeze(unicodedata.normalize("NFKC", text)) for text in row.texts())
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def write_dataset(
    folder: Path,
    files: Sequence[Rows],
    *,
    encoder: Encoder,
    guard: Guard,
    shares: Shares,
    seed: int,
    group: Callable[[Row], str] = copy_group,
    shard_tokens: int = SHARD_TOKENS,
) -> DataSet:
    """Write the parts, or go on where it was cut short. Groups are of rows as they may be used (masked).

    Raises: StateError when there is too little to split or the folder holds other data, SourceError, StorageError.
    """
    before = guard.n_dropped, guard.n_masked
    groups = [group(row) for rows in files for row in guard(rows)]
    bad, n_rows = tuple(one for rows in files for one in rows.bad), sum(rows.n_good for rows in files)
    dropped, masked = guard.n_dropped - before[0], guard.n_masked - before[1]
    parts = split(groups, shares, seed=seed)
    known = {"files": [[sha256_of(Path(rows.recognised.source)), str(rows.recognised), rows.how] for rows in files],
             "policy": guard.named, "shares": asdict(shares), "seed": seed}  # fmt: skip
    made: dict[Part, ShardSet] = {}
    for part in (part for part in PARTS if parts[part]):
        wanted = np.array(parts[part])
        named = json.dumps(known | {"part": part, "rows": hashlib.sha256(wanted.tobytes()).hexdigest()}, sort_keys=True)
        made_from = hashlib.sha256(named.encode()).hexdigest()
        header = Header(encoder.fingerprint, encoder.vocab_size, made_from, True, shard_tokens)
        write_shards(folder / part, _encoded(files, guard, wanted, encoder), header=header)
        made[part] = ShardSet(folder / part)
    return DataSet(made, tuple(rows.recognised for rows in files), bad, n_rows, dropped, masked)


def _encoded(
    files: Sequence[Rows], guard: Guard, wanted: NDArray[np.int64], encoder: Encoder
) -> Callable[[int], Iterator[Tokenised]]:
    def documents(first: int) -> Iterator[Tokenised]:
        chosen = iter(wanted[first:].tolist())  # ascending
        following = next(chosen, None)
        for n, row in enumerate(row for one in files for row in guard(one)):
            if following is None:
                return
            if n == following:
                ids = encoder.encode(row)
                yield Tokenised(ids.ids, row.label, row.source, row.line, ids.learnt)
                following = next(chosen, None)

    return documents
