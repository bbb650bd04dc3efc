"""Train, dev and test by group: near-duplicates share a group and never straddle the split.

A group's place is a hash of the seed and its id, so adding documents moves none that is already placed
(but for sets so small that a part would be empty).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hagane.core.errors import StateError

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Shares:
    """How much goes to dev and test, 0 to 1 each; train takes the rest. Usual: 0.01 to 0.1."""

    dev: float = 0.05
    test: float = 0.0

    def __post_init__(self) -> None:
        if min(self.dev, self.test) < 0 or self.dev + self.test >= 1:
            raise ValueError(f"shares of {self.dev} and {self.test} leave nothing to train on")


def place(group: str, *, seed: int) -> float:
    """Where a group stands between 0 and 1: 53 bits of a hash."""
    digest = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8, salt=seed.to_bytes(16, "little"))
    return (int.from_bytes(digest.digest(), "little") >> 11) / (1 << 53)


def part_of(group: str, shares: Shares, *, seed: int) -> Part:
    """The part that a group belongs to, whatever else there is: dev lowest, then test, then train."""
    at = place(group, seed=seed)
    if at < shares.dev:
        return "dev"
    return "test" if at < shares.dev + shares.test else "train"


def split(groups: Sequence[str], shares: Shares, *, seed: int) -> dict[Part, list[int]]:
    """Indexes of documents by part; `groups[n]` is the group of document n (its own id when it has no copies).

    A part that should hold something and came out empty, as happens with few groups, gets the one nearest to it.
    Raises: StateError when there are fewer groups than parts: one document cannot be both learnt and measured.
    """
    wanted = [part for part in PARTS if part == "train" or getattr(shares, part) > 0]
    unique = sorted(set(groups), key=lambda group: (place(group, seed=seed), group))
    if len(unique) < len(wanted):
        raise StateError(
            f"{len(groups)} documents in {len(unique)} groups of near-duplicates cannot be split into {', '.join(wanted)}",
            hint="add documents that differ, or set the shares of dev and test to 0",
        )
    order = {part: n for n, part in enumerate(("dev", "test", "train"))}
    wanted.sort(key=order.__getitem__)
    counts = [0] * len(wanted)
    for group in unique:
        counts[wanted.index(part_of(group, shares, seed=seed))] += 1
    _fill(counts)
    parts = [part for part, n in zip(wanted, counts, strict=True) for _ in range(n)]
    placed = dict(zip(unique, parts, strict=True))
    found: dict[Part, list[int]] = {part: [] for part in PARTS}
    for n, group in enumerate(groups):
        found[placed[group]].append(n)
    return found


def _fill(counts: list[int]) -> None:
    """Give every empty part one group of the largest; the groups stand in the order of the parts."""
    for n, count in enumerate(counts):
        if not count:
            counts[max(range(len(counts)), key=counts.__getitem__)] -= 1
            counts[n] += 1
