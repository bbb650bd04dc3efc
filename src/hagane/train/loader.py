"""Batches by (seed, epoch, step): any step opens at once, on any number of processes; traced to documents and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hagane.core.errors import StateError
from hagane.core.labels import Label, join

from .order import Order, State
from .pack import RowPlan, blank, packed
from .shard_set import Origin, ShardSet
from .words import Batch, stack


class Loader:
    """Batches of `batch` packed rows a step over all processes, of which this one (`rank` of `world`) gets its part.

    Every process gets equally many rows; where a step has fewer, blank ones that earn no loss stand in. It holds no
    state: what a run has to keep is a `State`. Raises: StateError when the plan belongs to other shards.
    """

    def __init__(self, shards: ShardSet, plan: RowPlan, *, batch: int, rank: int = 0, world: int = 1) -> None:
        if plan.header.shards != shards.mark:
            raise StateError("the plan of rows belongs to other shards", hint="delete it: it is planned anew")
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        self.order = Order(plan.n_rows, batch)
        self.label: Label = shards.label
        self.T = plan.header.T
        self._shards, self._plan, self._rank, self._world = shards, plan, rank, world

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return self.order.n_steps

    def batch_at(self, state: State) -> Batch:
        """This process's rows of a step, with the join of their documents' labels."""
        rows = self.order.rows_of_rank(state, rank=self._rank, world=self._world)
        return self._batch(rows, n_rows=-(-self.order.batch // self._world), step=state.step)

    def all_ranks(self, state: State) -> Batch:
        """The rows of a step of all processes together; the last step of an epoch may have fewer."""
        return self._batch(self.order.rows(state), n_rows=0, step=state.step)

    def _batch(self, rows: NDArray[np.int64], *, n_rows: int, step: int) -> Batch:
        pieces = [self._plan.pieces(int(row)) for row in rows]
        made = [packed(self._shards, row, self.T) for row in pieces] + [blank(self.T)] * (n_rows - len(rows))
        label = join(*(self._shards.origin(document).label for row in pieces for document, _, _ in row))
        return stack(made, step=step, label=label)

    def documents_of(self, state: State) -> list[list[Origin]]:
        """The documents of each row of a step, of all processes: what to name when a batch goes wrong."""
        rows = self.order.rows(state)
        return [[self._shards.origin(document) for document, _, _ in self._plan.pieces(int(row))] for row in rows]

    def documents_called(self, name: str) -> list[int]:
        """The documents of SOURCE:LINE, or all of SOURCE."""
        source, _, line = name.rpartition(":")
        found = self._shards.documents_of(source, int(line)) if source and line.isdecimal() else []
        return found or self._shards.documents_of(name)

    def steps_of(self, document: int, *, seed: int, epoch: int) -> list[int]:
        """The steps of an epoch at which a document is learnt, in the order of its text; one per piece."""
        return [self.order.step_of(row, seed=seed, epoch=epoch) for row in self._plan.rows_of(document)]
