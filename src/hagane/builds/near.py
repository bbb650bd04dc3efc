"""Which rows belong together: copies and near copies share a group, so that none is learnt and measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hagane.prepare.dedup import N_PERMUTATIONS, signature
from hagane.train.dataset import copy_group
from hagane.train.words import Row

LIKENESS = 0.7  # share of common 5-character pieces: a rule and its next version belong together, too
N_NEAR = 50_000  # different rows that are looked through for near copies: about a millisecond each; beyond, copies only
_BAND = 5  # minima that meet in a bucket: 99 % of pairs at LIKENESS meet in one of 25


class NearCopies:
    """A `train.dataset.Grouping`. Numbers do not tell rows apart here: two versions of one rule are one group, and so
    are all rows of a chain in which each is like the next."""

    def __init__(self, *, likeness: float = LIKENESS, most: int = N_NEAR) -> None:
        self._likeness, self._most = likeness, most
        self._numbers: dict[str, int] = {}  # copy group -> number among the different ones
        self._rows: list[int] = []
        self._signed: list[int] = []
        self._signatures: list[bytes] = []

    @property
    def whole(self) -> bool:
        """Whether all rows were looked through for near copies."""
        return len(self._numbers) <= self._most

    def add(self, row: Row) -> None:
        known = len(self._numbers)
        number = self._numbers.setdefault(copy_group(row), known)
        self._rows.append(number)
        if number == known < self._most and (found := signature("\n".join(row.texts()))):
            self._signed.append(number)
            self._signatures.append(found)

    def groups(self) -> list[str]:
        keys, roots = list(self._numbers), list(range(len(self._numbers)))
        if self._signatures:
            minima = np.frombuffer(b"".join(self._signatures), "<u4").reshape(-1, N_PERMUTATIONS)
            for one, other in _alike(minima, self._likeness):
                first, second = sorted((_root(roots, self._signed[one]), _root(roots, self._signed[other])))
                roots[second] = first
        return [keys[_root(roots, number)] for number in self._rows]


def _alike(minima: NDArray[np.uint32], likeness: float) -> list[tuple[int, int]]:
    """Pairs of rows that are alike: of those that meet in a bucket, each with the first and with the one before it."""
    found: list[tuple[int, int]] = []
    for at in range(0, N_PERMUTATIONS - _BAND + 1, _BAND):
        _, buckets = np.unique(minima[:, at : at + _BAND], axis=0, return_inverse=True)
        order = np.argsort(buckets.reshape(-1), kind="stable")
        same = np.flatnonzero(np.diff(buckets.reshape(-1)[order]) == 0) + 1
        starts = np.concatenate([[True], np.diff(buckets.reshape(-1)[order]) != 0])
        firsts = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
        for others in (firsts[same], same - 1):
            pairs = np.stack([order[others], order[same]], axis=1)
            shares = (minima[pairs[:, 0]] == minima[pairs[:, 1]]).mean(axis=1)
            found += [tuple(pair) for pair in pairs[shares >= likeness].tolist()]
    return found


def _root(roots: list[int], number: int) -> int:
    while roots[number] != number:
        roots[number] = roots[roots[number]]
        number = roots[number]
    return number
