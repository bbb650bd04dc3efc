"""Verbatim copying: how many characters of a training row a model says by itself once it was given its beginning.

One forward pass per row tries all beginnings at once: where the likeliest next token is the row's own for a stretch of
tokens, greedy decoding from the beginning before it says just this stretch. Only learnt tokens count. What everybody
copies does not: text that also stands in held-out rows, or earlier in the same row (a quotation, a ruled line).

Legend: T tokens of a row, C characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .objectives import Micro, likeliest
from .pack import blank
from .shards import Tokenised
from .words import NO_LOSS, stack

COMMON = 20  # characters: so long a piece of text that stands elsewhere, too, is no copy of this row
MAX_TOKENS = 1024  # of a row that are looked at
MAX_COMMON = 4_000_000  # characters of held-out text that are kept in mind: 32 MB

Mask = NDArray[np.bool_]
Decode = Callable[[Sequence[int]], str]


class Corpus(Protocol):
    """Tokenised rows by number: a `ShardSet`, or `Kept`."""

    @property
    def n_documents(self) -> int: ...
    def ids(self, document: int) -> Any: ...
    def learn(self, document: int) -> Any: ...
    def origin(self, document: int) -> Any: ...  # has source, line and label


@dataclass(frozen=True, slots=True)
class Kept:
    """Tokenised rows in memory."""

    rows: tuple[Tokenised, ...]

    @property
    def n_documents(self) -> int:
        return len(self.rows)

    def ids(self, document: int) -> NDArray[np.int64]:
        return np.asarray(self.rows[document].ids, np.int64)

    def learn(self, document: int) -> Mask:
        row = self.rows[document]
        return np.ones(len(row.ids), np.bool_) if row.learn is None else np.asarray(row.learn, np.bool_)

    def origin(self, document: int) -> Tokenised:
        return self.rows[document]


class Joined:
    """Several corpora as one: what a model learnt in all its stages."""

    def __init__(self, parts: Sequence[Corpus]) -> None:
        self._parts = parts
        self._firsts = np.cumsum([0, *(part.n_documents for part in parts)])
        self.n_documents = int(self._firsts[-1])

    def ids(self, document: int) -> Any:
        part, number = self._at(document)
        return part.ids(number)

    def learn(self, document: int) -> Any:
        part, number = self._at(document)
        return part.learn(number)

    def origin(self, document: int) -> Any:
        part, number = self._at(document)
        return part.origin(number)

    def _at(self, document: int) -> tuple[Corpus, int]:
        n = int(np.searchsorted(self._firsts, document, side="right")) - 1
        return self._parts[n], document - int(self._firsts[n])


def folded(text: str) -> str:
    """Text as it is compared: NFKC, without white space."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def _pieces(text: str) -> NDArray[np.uint64]:
    """A hash of every run of COMMON characters, by where it begins."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    n = len(codes) - COMMON + 1
    hashed = np.zeros(max(0, n), dtype=np.uint64)
    for offset in range(COMMON if n > 0 else 0):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + n]
    return hashed


class Common:
    """The pieces of held-out texts, and in how many of the texts each stands."""

    def __init__(self, texts: Iterable[str]) -> None:
        found, n_characters = [], 0
        for text in texts:
            found.append(np.unique(_pieces(folded(text))))
            n_characters += len(text)
            if n_characters > MAX_COMMON:
                break
        joined = np.concatenate(found) if found else np.zeros(0, np.uint64)
        self._pieces, self._counts = np.unique(joined, return_counts=True)

    def covers(self, text: str, *, held_out: bool = False) -> Mask:
        """(C,): characters of a folded text that stand in other held-out texts or earlier in this one. `held_out`:
        the text is one of them itself."""
        pieces = _pieces(text)
        covered = np.zeros(len(text), np.bool_)
        if not len(pieces):
            return covered
        _, firsts, back = np.unique(pieces, return_index=True, return_inverse=True)
        known = firsts[back] != np.arange(len(pieces))
        if len(self._pieces):
            at = np.minimum(np.searchsorted(self._pieces, pieces), len(self._pieces) - 1)
            known |= (self._pieces[at] == pieces) & (self._counts[at] > int(held_out))
        for start in np.flatnonzero(known):
            covered[start : start + COMMON] = True
        return covered


@torch.no_grad()
def agreeing(model: torch.nn.Module, ids: Sequence[int], learnt: Sequence[bool]) -> Mask:
    """(T,): the tokens that are learnt and that greedy decoding says in their place, given all before them."""
    row = blank(len(ids))
    row.ids_T[:], row.documents_T[:] = ids, 0
    row.targets_T[:-1] = np.where(np.asarray(learnt, np.bool_)[1:], row.ids_T[1:], NO_LOSS)
    found = np.zeros(len(ids), np.bool_)
    places = np.flatnonzero(row.targets_T != NO_LOSS) + 1
    if not len(places):
        return found
    said_N, targets_N = likeliest(model, Micro.of(stack([row]), [0], device=next(model.parameters()).device))
    found[places] = (said_N == targets_N).cpu().numpy()
    return found


def stretches(agreed: Mask) -> list[tuple[int, int]]:
    """(start, end) of each run of agreeing tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], agreed.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def longest_copy(
    model: torch.nn.Module,
    ids: Sequence[int],
    learnt: Sequence[bool],
    *,
    decode: Decode,
    common: Common,
    held_out: bool = False,
) -> int:
    """Characters (folded) of the longest stretch of the row that comes back verbatim and is its own. The model is in
    evaluation mode. `held_out`: the row is one of those that `common` was made of."""
    ids, learnt = list(ids)[:MAX_TOKENS], list(learnt)[:MAX_TOKENS]
    if len(ids) < 2:
        return 0
    runs = list(stretches(agreeing(model, ids, learnt)))
    runs = [run for run in runs if len(folded(decode(ids[run[0] : run[1]]))) > COMMON] or _longest(runs)
    if not runs:
        return 0
    text = folded(decode(ids))
    own = ~common.covers(text, held_out=held_out)
    most = 0
    for start, end in runs:
        first, last = (len(folded(decode(ids[:at]))) for at in (start, end))
        most = max([most, *(b - a for a, b in stretches(own[first:last]))])
    return most


def _longest(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [max(runs, key=lambda run: run[1] - run[0])] if runs else []
