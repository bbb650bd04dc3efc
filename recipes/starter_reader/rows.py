"""Families as packed rows: each family's passages once, its questions as branches behind them.

Legend: T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from families import Family, articles, families

from hagane.rag import reading
from hagane.train.pack import best_fit
from hagane.train.words import BRANCH, NO_DOCUMENT, NO_LOSS, Batch, Packed, stack

BLOCK = 64  # families that are packed together

ToIds = Callable[[str], list[int]]


def row_of(chosen: Sequence[Family], to_ids: ToIds, *, T: int, bos: int, eos: int) -> Packed:
    """Families one behind the other. Raises: ValueError when they are longer than T."""
    ids, targets, owners, places = [], [], [], []
    for number, family in enumerate(chosen):
        trunk = [bos, *to_ids(reading.shown(family.passages))]
        ids += trunk
        targets += [NO_LOSS] * len(trunk)
        owners += [number] * len(trunk)
        places += range(len(trunk))
        for n, (question, answer, passage) in enumerate(family.questions, start=1):
            asked, answered = to_ids(reading.asked(question)), to_ids(reading.answered(answer, passage))
            branch = [*asked, *answered, eos]
            ids += branch
            targets += [*[NO_LOSS] * (len(asked) - 1), *answered, eos, NO_LOSS]
            owners += [number + n * BRANCH] * len(branch)
            places += range(len(trunk), len(trunk) + len(branch))
    if len(ids) > T:
        raise ValueError(f"{len(ids)} tokens in a row of {T}")
    rest = T - len(ids)
    return Packed(
        np.array([*ids, *[eos] * rest], np.int64),
        np.array([*targets, *[NO_LOSS] * rest], np.int64),
        np.array([*owners, *[NO_DOCUMENT] * rest], np.int32),
        np.array([*places, *range(rest)], np.int64),
    )


def length_of(family: Family, to_ids: ToIds) -> int:
    """Tokens of a family in a row."""
    questions = sum(
        len(to_ids(reading.asked(question))) + len(to_ids(reading.answered(answer, passage))) + 1
        for question, answer, passage in family.questions
    )
    return 1 + len(to_ids(reading.shown(family.passages))) + questions


class Feed:
    """`loop.Data`: one row of T tokens a step, drawn by seed; epochs draw other cuts and neighbours."""

    def __init__(self, folder: Path, to_ids: ToIds, *, T: int, seed: int, bos: int, eos: int) -> None:
        self._set, self._to_ids, self._T, self._seed, self._ends = articles(folder), to_ids, T, seed, (bos, eos)
        self._epochs: dict[int, list[list[Family]]] = {}
        self._n = len(self._rows(0))

    def _rows(self, epoch: int) -> list[list[Family]]:
        if epoch not in self._epochs:
            rows: list[list[Family]] = []
            all_ = [one for one in families(self._set, seed=self._seed * 1000 + epoch) if one.questions]
            for at in range(0, len(all_), BLOCK):
                block = [(one, n) for one in all_[at : at + BLOCK] if (n := length_of(one, self._to_ids)) <= self._T]
                bins = best_fit([n for _, n in block], self._T)
                rows += [[block[n][0] for n in bin_] for bin_ in bins]
            self._epochs = {epoch: rows}
        return self._epochs[epoch]

    def _chosen(self, step: int) -> list[Family]:
        epoch, at = self._place(step)
        rows = self._rows(epoch)
        return rows[at % len(rows)]

    def _place(self, step: int) -> tuple[int, int]:
        return divmod(step, self._n)

    def batch(self, step: int) -> Batch:
        """One row."""
        return stack([row_of(self._chosen(step), self._to_ids, T=self._T, bos=self._ends[0], eos=self._ends[1])], step=step)

    def state(self, step: int) -> tuple[int, int, int]:
        """Seed, epoch, step within the epoch."""
        return self._seed, *self._place(step)

    def documents(self, step: int, row: int) -> list[str]:
        """Titles of what the row of a step holds."""
        return [title or "untitled" for family in self._chosen(step) for title, _ in family.passages]

    def answers(self, step: int) -> int:
        """Questions of a step."""
        return sum(len(family.questions) for family in self._chosen(step))
