"""The words of the training room: rows of a data set, packed rows of tokens, batches.

Shapes: B batch (packed rows), T tokens of a packed row. Arrays are numpy; the loop turns them into tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hagane.core.labels import PUBLIC, Label

NO_LOSS = -100  # a target that earns no loss; torch.nn.functional.cross_entropy's own default
NO_DOCUMENT = -1  # the document of padding
BRANCH = 1 << 16  # document d + n BRANCH: the n-th branch of document d, which sees d and itself (see attention.py)

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = ("system", "user", "assistant", "tool")
Shape = Literal["text", "prompt_completion", "alpaca", "sharegpt", "messages", "preference"]

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `learn` False: an assistant's turn that is read but not learnt from."""

    role: Role
    content: str
    learn: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One example: plain `text`, or a conversation in `messages`, or a preference (`messages` is then the prompt,
    `chosen` and `rejected` are the two continuations). `line` counts from 1: of the file, or the row of a table."""

    label: Label
    source: str  # the file, as its reader was given it
    line: int
    text: str | None = None
    messages: tuple[Message, ...] = ()
    chosen: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()

    @property
    def kind(self) -> Literal["text", "messages", "preference"]:
        """Which of the three it is."""
        if self.chosen:
            return "preference"
        return "messages" if self.messages else "text"

    def texts(self) -> tuple[str, ...]:
        """Every piece of text in it, in order: what detectors and counters look at."""
        turns = (*self.messages, *self.chosen, *self.rejected)
        return (*(() if self.text is None else (self.text,)), *(turn.content for turn in turns))


@dataclass(frozen=True, slots=True)
class Packed:
    """A row of T tokens holding one or more documents (or pieces of them), then padding.

    `targets_T[i]` is already the token that follows `ids_T[i]` in its document, NO_LOSS where nothing is learnt:
    the loop shifts nothing. The last position of a piece aims at the first token of the next piece.
    """

    ids_T: Ids
    targets_T: Ids
    documents_T: NDArray[np.int32]  # 0, 1, … within the row, NO_DOCUMENT on padding: attention stays inside one
    positions_T: Ids  # counted from 0 in each document or piece, and in the padding


@dataclass(frozen=True, slots=True)
class Batch:
    """B packed rows and the step they belong to. `label` is the join of all that it was made of."""

    ids_BT: Ids
    targets_BT: Ids
    documents_BT: NDArray[np.int32]
    positions_BT: Ids
    step: int = 0
    label: Label = field(default=PUBLIC)

    @property
    def n_targets(self) -> int:
        """Positions that earn loss: the loop divides by the sum of these over micro-batches and ranks."""
        return int((self.targets_BT != NO_LOSS).sum())


def stack(rows: Sequence[Packed], *, step: int = 0, label: Label = PUBLIC) -> Batch:
    """Rows of equal T as one batch. Raises: ValueError for no rows or unequal lengths."""
    return Batch(
        np.stack([row.ids_T for row in rows]),
        np.stack([row.targets_T for row in rows]),
        np.stack([row.documents_T for row in rows]),
        np.stack([row.positions_T for row in rows]),
        step,
        label,
    )
