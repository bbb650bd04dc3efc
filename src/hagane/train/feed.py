"""Shards as the loop wants them: batch by step, three integers of state, and whose documents a row holds."""

from __future__ import annotations

from .loader import Loader
from .words import Batch


class ShardFeed:
    """`loop.Data` over a loader that gives whole batches (rank 0 of 1): the loop deals the rows to its ranks.

    Every rank reads every row of a step (a few MB from memory-mapped files), so that each knows the count of labels of
    the whole batch without asking the others. Epochs follow each other without end.
    """

    def __init__(self, loader: Loader, *, seed: int) -> None:
        self._loader, self._seed = loader, seed

    def batch(self, step: int) -> Batch:
        """The whole batch of a step counted over all epochs."""
        return self._loader.batch_at(self._loader.order.state_at(step, seed=self._seed))

    def state(self, step: int) -> tuple[int, int, int]:
        """Seed, epoch, step within the epoch."""
        state = self._loader.order.state_at(step, seed=self._seed)
        return state.seed, state.epoch, state.step

    def documents(self, step: int, row: int) -> list[str]:
        """ "source:line" of what a row of the step holds; nothing for a blank row that fills a short step."""
        rows = self._loader.documents_of(self._loader.order.state_at(step, seed=self._seed))
        return [f"{one.source}:{one.line}" for one in rows[row]] if row < len(rows) else []
