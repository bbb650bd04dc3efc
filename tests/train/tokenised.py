"""Small sets of token shards for tests: each token of a set is told apart from every other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from hagane.core.labels import Label
from hagane.train.shard_set import ShardSet
from hagane.train.shards import Header, Tokenised, write_shards

LABELS = [Label.parse(text) for text in ("public", "internal", "confidential:hr", "internal:sales")]


def documents(lengths: Sequence[int], *, masked: bool = False) -> list[Tokenised]:
    """Documents whose tokens are numbered through, with labels in turn."""
    firsts = np.cumsum([0, *lengths])
    return [
        Tokenised(
            range(int(firsts[n]), int(firsts[n + 1])), LABELS[n % 4], f"規程{n % 3}.jsonl", n + 1,
            [(n + at) % 3 > 0 for at in range(length)] if masked else None,
        )
        for n, length in enumerate(lengths)
    ]  # fmt: skip


def source(given: Sequence[Tokenised]) -> Callable[[int], Iterator[Tokenised]]:
    return lambda first: iter(given[first:])


def header(n_tokens: int, *, masked: bool = False, shard_tokens: int = 64) -> Header:
    return Header("語彙", max(n_tokens, 2), "試験", masked, shard_tokens)


def made(folder: Path, lengths: Sequence[int], *, masked: bool = False, shard_tokens: int = 64) -> ShardSet:
    given = documents(lengths, masked=masked)
    write_shards(folder, source(given), header=header(sum(lengths), masked=masked, shard_tokens=shard_tokens))
    return ShardSet(folder)
