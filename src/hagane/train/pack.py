"""Documents packed into rows of T tokens: best fit, no token dropped, cut documents learnt across the cut.

Which pieces share a row is planned once per set, T and seed, and kept beside the shards as plain arrays; epochs
reorder the rows. Source of best-fit packing: Ding et al., "Fewer truncations improve language modeling", ICML 2024.
"""

from __future__ import annotations

import io
import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hagane.core.errors import StateError, StorageError

from .order import Permutation
from .shard_set import ShardSet
from .shards import read_json
from .vault import OPEN, Vault
from .words import NO_DOCUMENT, NO_LOSS, Packed

PIECE = np.dtype([("document", "<u4"), ("start", "<u4"), ("length", "<u4")])
BLOCK = 8192  # documents packed together: rows are 99 % full, and planning stays linear
_ARRAYS = ("pieces", "ends", "of_document")


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indexes of `lengths`, in as few bins of `room` as best-fit-decreasing finds; equal input, equal output.

    The fullest bin that still has room takes the next longest piece. O(n) steps on integers of `room` bits.
    """
    bins: list[list[int]] = []
    with_room: dict[int, list[int]] = {}
    some = 0  # bit r: some bin has room r
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        length = lengths[n]
        if not 0 < length <= room:
            raise ValueError(f"a piece of {length} tokens in rows of {room}")
        fitting = some >> length
        if fitting:
            left = length + (fitting & -fitting).bit_length() - 1
            bin_ = with_room[left].pop()
            if not with_room[left]:
                some &= ~(1 << left)
        else:
            left, bin_ = room, len(bins)
            bins.append([])
        bins[bin_].append(n)
        left -= length
        if left:
            with_room.setdefault(left, []).append(bin_)
            some |= 1 << left
    return bins


def packed_pieces(lengths: NDArray[np.int64], T: int, *, seed: int) -> Iterator[list[tuple[int, int, int]]]:
    """Rows of pieces (document, start, length) that hold every token once. Documents meet in blocks drawn by `seed`."""
    if T < 2:
        raise ValueError(f"rows of {T} tokens")
    order = Permutation(len(lengths), seed=seed, epoch=-1)
    for first in range(0, len(lengths), BLOCK):
        block = order.at(np.arange(first, min(first + BLOCK, len(lengths))))
        rests: list[tuple[int, int, int]] = []
        for document, length in zip(block.tolist(), lengths[block].tolist(), strict=True):
            whole_pieces = length // T
            yield from ([(document, n * T, T)] for n in range(whole_pieces))
            if length % T:
                rests.append((document, whole_pieces * T, length % T))
        yield from ([rests[n] for n in row] for row in best_fit([rest[2] for rest in rests], T))


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What a plan belongs to, its sums, and the sha256 of its arrays."""

    shards: str  # mark of the set of shards
    T: int
    seed: int
    n_rows: int
    n_padding: int
    sha256: dict[str, str]


def plan_rows(shards: ShardSet, folder: Path, *, T: int, seed: int, vault: Vault = OPEN) -> RowPlan:
    """Plan the rows, or open the plan that is there for the same shards, T and seed.
    Raises: StateError when the folder holds another plan, StorageError (disk full)."""
    if (folder / "plan.json").exists():
        plan = RowPlan(folder, vault=vault)
        if (plan.header.shards, plan.header.T, plan.header.seed) != (shards.mark, T, seed):
            raise StateError(f"{folder} holds the rows of other shards, lengths or seed", hint="plan in an empty folder")
        return plan
    folder.mkdir(parents=True, exist_ok=True)
    counts: list[int] = []
    found: list[NDArray[np.void]] = []
    waiting: list[tuple[int, int, int]] = []
    for row in packed_pieces(shards.lengths(), T, seed=seed):
        counts.append(len(row))
        waiting += row
        if len(waiting) > 1 << 16:
            found.append(np.array(waiting, dtype=PIECE))
            waiting = []
    pieces = np.concatenate([*found, np.array(waiting, dtype=PIECE)])
    arrays = {
        "pieces": pieces,
        "ends": np.cumsum(counts, dtype=np.int64),
        "of_document": np.argsort(pieces["document"], kind="stable").astype(np.int64),
    }
    sums = {}
    for name, array in arrays.items():
        with vault.whole(folder / f"{name}.npy") as out:
            np.lib.format.write_array(out, array, allow_pickle=False)
        sums[name] = out.sha256
    header = PlanHeader(shards.mark, T, seed, len(counts), len(counts) * T - shards.n_tokens, sums)
    vault.write(folder / "plan.json", json.dumps(asdict(header), indent=1).encode())
    return RowPlan(folder, vault=vault)


class RowPlan:
    """The rows of a set: which pieces of which documents, and back. Memory-mapped; opens at once."""

    def __init__(self, folder: Path, *, vault: Vault = OPEN) -> None:
        try:
            self.header = PlanHeader(**read_json(folder / "plan.json", vault))
            loaded = [_loaded(folder / f"{name}.npy", vault) for name in _ARRAYS]
        except (OSError, ValueError, TypeError, EOFError) as cause:
            raise StorageError(f"{folder} holds no readable plan of rows", hint="delete it: it is planned anew") from cause
        self._pieces, self._ends, self._of_document = loaded
        if len(self._ends) != self.header.n_rows or len(self._pieces) != len(self._of_document):
            raise StorageError(f"{folder}: the plan of rows is damaged", hint="delete it: it is planned anew")
        self._folder, self._vault = folder, vault
        self.n_rows = self.header.n_rows

    def pieces(self, row: int) -> list[tuple[int, int, int]]:
        """(document, start, length) of each piece of a row, in the order in which they stand."""
        if not 0 <= row < self.n_rows:
            raise IndexError(f"row {row} of {self.n_rows}")
        first = int(self._ends[row - 1]) if row else 0
        return [tuple(map(int, piece)) for piece in self._pieces[first : int(self._ends[row])]]  # type: ignore[misc]

    def rows_of(self, document: int) -> list[int]:
        """The rows that hold a piece of the document, in the order of its text."""
        places, at = range(len(self._of_document)), []
        first = bisect_left(places, document, key=lambda n: int(self._pieces["document"][self._of_document[n]]))
        for n in places[first:]:
            piece = int(self._of_document[n])
            if int(self._pieces["document"][piece]) != document:
                break
            row = int(np.searchsorted(self._ends, piece, side="right"))
            at.append((int(self._pieces["start"][piece]), row))
        return [row for _, row in sorted(at)]

    def problems(self) -> list[str]:
        """Arrays that are not what was written."""
        sums = self.header.sha256
        return [f"{name}.npy is not what was written (sha256)" for name in _ARRAYS if self._vault.sha256(self._folder / f"{name}.npy") != sums[name]]


def _loaded(path: Path, vault: Vault) -> NDArray[Any]:
    """Memory-mapped; of a sealed plan all of it, in memory: 12 bytes for each piece."""
    if vault.sealed:
        return np.lib.format.read_array(io.BytesIO(vault.read(path)), allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def packed(shards: ShardSet, pieces: Sequence[tuple[int, int, int]], T: int) -> Packed:
    """The pieces as one row of T tokens; see `words.Packed`."""
    row = blank(T)
    at = 0
    for n, (document, start, length) in enumerate(pieces):
        ids = shards.ids(document)
        learn = shards.learn(document)[start + 1 : start + length + 1]
        row.ids_T[at : at + length] = ids[start : start + length]
        row.targets_T[at : at + len(learn)] = np.where(learn, ids[start + 1 : start + length + 1].astype(np.int64), NO_LOSS)
        row.documents_T[at : at + length] = n
        row.positions_T[at : at + length] = np.arange(length)
        at += length
    row.positions_T[at:] = np.arange(T - at)
    return row


def blank(T: int) -> Packed:
    """A row of padding: nothing is learnt from it."""
    return Packed(
        np.zeros(T, np.int64), np.full(T, NO_LOSS, np.int64), np.full(T, NO_DOCUMENT, np.int32), np.arange(T, dtype=np.int64)
    )
