"""Shards as the loop wants them: batch by step, three integers of state, and whose documents a row holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

from .loader import Loader
from .order import State
from .words import Batch


class ShardFeed:
    """A loader as the training loop wants it (`loop.Data`): steps counted over all epochs, the rows of all ranks.

    Every rank reads every row of a step (a few MB), so that each knows the count of labels of the whole batch without
    asking the others. Epochs follow each other without end; the last step of one may have fewer rows.
    """

    def __init__(self, loader: Loader, *, seed: int) -> None:
        self._loader, self._seed = loader, seed

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return self._loader.n_steps

    def batch(self, step: int) -> Batch:
        """The rows of all processes, each of which takes its own."""
        return replace(self._loader.all_ranks(self._at(step)), step=step)

    def state(self, step: int) -> tuple[int, int, int]:
        """Seed, epoch, step within the epoch."""
        at = self._at(step)
        return at.seed, at.epoch, at.step

    def documents(self, step: int, row: int) -> list[str]:
        """What a row of the step's batch was made of, as SOURCE:LINE."""
        return [f"{one.source}:{one.line}" for one in self._loader.documents_of(self._at(step))[row]]

    def steps_of(self, name: str, *, epoch: int = 0) -> list[int]:
        """The steps, counted over all epochs, at which a document (SOURCE:LINE, or all of SOURCE) is learnt in an epoch."""
        return sorted({
            epoch * self.n_steps + step
            for document in self._loader.documents_called(name)
            for step in self._loader.steps_of(document, seed=self._seed, epoch=epoch)
        })  # fmt: skip

    def epoch(self) -> Iterator[Batch]:
        """Every row once."""
        return (self.batch(step) for step in range(self.n_steps))

    def _at(self, step: int) -> State:
        return self._loader.order.state_at(step, seed=self._seed)


class DevBatches(Sequence[Batch]):
    """The first `n_rows` packed rows of held-back data, in an order of their own that never changes; read when asked for."""

    def __init__(self, loader: Loader, *, n_rows: int) -> None:
        self._loader = loader
        self._n = min(loader.n_steps, max(1, -(-n_rows // loader.order.batch)))

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, at: int) -> Batch: ...
    @overload
    def __getitem__(self, at: slice) -> list[Batch]: ...
    def __getitem__(self, at: int | slice) -> Batch | list[Batch]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(self._n))]
        if not -self._n <= at < self._n:
            raise IndexError(at)
        return self._loader.all_ranks(State(0, 0, at % self._n))
