"""Preference pairs as packed rows: chosen answers are documents 0, 2, 4, … of a row, each followed by its rejected one.

Both answers of a pair stand in one row with their prompts, as `objectives.Preference` wants them. Which pairs share a
row is planned once (best fit); epochs reorder the rows. Pairs are few and short: they are kept in memory.

Legend: T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hagane.core.errors import UsageError
from hagane.core.labels import Label, join

from .dataset import Ids
from .order import Order, State
from .pack import best_fit, blank
from .words import NO_LOSS, Batch, Packed, Row, stack


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with its chosen and its rejected answer, as tokens. `line` as in `words.Row`."""

    chosen: Ids
    rejected: Ids
    label: Label
    source: str
    line: int

    @property
    def n_tokens(self) -> int:
        return len(self.chosen.ids) + len(self.rejected.ids)


def encode_pair(row: Row, encode: Callable[[Row], Ids]) -> Pair:
    """A row of preference as tokens; of the prompt nothing is learnt. `encode`: of a conversation.

    Raises: UsageError for a row of another kind, and for answers that earn no loss or are the same."""
    if row.kind != "preference":
        raise UsageError(f"{row.source}:{row.line} holds no pair of answers", hint="it needs chosen and rejected")
    prompt = tuple(replace(turn, learn=False) for turn in row.messages)
    both = [
        encode(replace(row, messages=(*prompt, *answer), chosen=(), rejected=()))
        for answer in (row.chosen, row.rejected)
    ]
    if not all(any(one.learnt[1:]) for one in both):
        raise UsageError(f"{row.source}:{row.line}: an answer of the pair is empty", hint="leave the row out")
    if list(both[0].ids) == list(both[1].ids):
        raise UsageError(f"{row.source}:{row.line}: chosen and rejected are the same", hint="leave the row out")
    return Pair(both[0], both[1], row.label, row.source, row.line)


def row_of(pairs: Sequence[Pair], T: int) -> Packed:
    """The pairs one behind the other. Raises: ValueError when they are longer than T."""
    if sum(pair.n_tokens for pair in pairs) > T:
        raise ValueError(f"{sum(pair.n_tokens for pair in pairs)} tokens in a row of {T}")
    row, at = blank(T), 0
    for number, one in enumerate(answer for pair in pairs for answer in (pair.chosen, pair.rejected)):
        ids, learnt = np.asarray(one.ids, np.int64), np.asarray(one.learnt, np.bool_)
        end = at + len(ids)
        row.ids_T[at:end] = ids
        row.targets_T[at : end - 1] = np.where(learnt[1:], ids[1:], NO_LOSS)
        row.documents_T[at:end] = number
        row.positions_T[at:end] = np.arange(len(ids))
        at = end
    row.positions_T[at:] = np.arange(T - at)
    return row


class PairFeed:
    """`loop.Data` of pairs: a pure function of (seed, epoch, step). `label` is the join of all pairs' labels.

    Raises: UsageError for no pairs, and for a pair that no row of T tokens holds (see `too_long`)."""

    def __init__(self, pairs: Sequence[Pair], *, T: int, rows: int, seed: int) -> None:
        if not pairs:
            raise UsageError("there are no pairs of answers", hint="rows need chosen and rejected")
        if long := too_long(pairs, T):
            raise UsageError(
                f"{long[0].source}:{long[0].line}: the pair has {long[0].n_tokens} tokens, a row {T}",
                hint=f"set training.tokens to {max(pair.n_tokens for pair in long)}, or leave {len(long)} pairs out",
            )
        self._pairs, self._T, self._seed = pairs, T, seed
        self._rows = best_fit([pair.n_tokens for pair in pairs], T)
        self._order = Order(len(self._rows), rows)
        self.label = join(*(pair.label for pair in pairs))

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return self._order.n_steps

    def batch(self, step: int) -> Batch:
        rows = self._chosen(step)
        label = join(*(pair.label for row in rows for pair in row))
        return stack([row_of(row, self._T) for row in rows], step=step, label=label)

    def state(self, step: int) -> tuple[int, int, int]:
        at = self._at(step)
        return at.seed, at.epoch, at.step

    def documents(self, step: int, row: int) -> list[str]:
        """source:line of the pairs in a row of a step."""
        return [f"{pair.source}:{pair.line}" for pair in self._chosen(step)[row]]

    def steps_of(self, name: str, *, epoch: int = 0) -> list[int]:
        """The steps, counted over all epochs, at which the pair of SOURCE:LINE, or all of SOURCE, is learnt in an epoch."""
        rows = {
            number for number, row in enumerate(self._rows)
            if any(name in (self._pairs[n].source, f"{self._pairs[n].source}:{self._pairs[n].line}") for n in row)
        }  # fmt: skip
        return sorted({epoch * self.n_steps + self._order.step_of(row, seed=self._seed, epoch=epoch) for row in rows})

    def dev(self) -> tuple[Batch, ...]:
        """Each pair once, in the order of the plan: what a dev loss is measured on."""
        return tuple(self.batch(step) for step in range(self.n_steps))

    def _at(self, step: int) -> State:
        return self._order.state_at(step, seed=self._seed)

    def _chosen(self, step: int) -> list[list[Pair]]:
        return [[self._pairs[n] for n in self._rows[row]] for row in self._order.rows(self._at(step)).tolist()]


def too_long(pairs: Sequence[Pair], T: int) -> list[Pair]:
    """The pairs that no row of T tokens holds."""
    return [pair for pair in pairs if pair.n_tokens > T]
