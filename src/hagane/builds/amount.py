"""How much data a stage has: counted from shards, or estimated from a sample of rows while there are none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hagane.core.errors import StateError
from hagane.train.words import Row

SAMPLE = 200  # rows that are tokenised; the others are only counted in characters
TURN_TOKENS = 5  # marks of a chat template around a turn
# characters per token of Japanese business text with SentencePiece BPE of so many pieces; between them by logarithm
CHARACTERS = ((1000, 1.15), (4000, 1.45), (16_000, 1.8), (64_000, 2.1))


@dataclass(frozen=True, slots=True)
class Amount:
    """Of one pass over the training part. `labelled`: share of the tokens that earn loss; `document`: mean tokens of a
    document; `estimated`: from a sample."""

    tokens: float
    documents: int
    labelled: float = 1.0
    estimated: bool = False

    @property
    def document(self) -> float:
        return self.tokens / max(1, self.documents)

    def packed(self, tokens: int) -> int:
        """Rows of `tokens` that they fill; packing leaves about a hundredth empty."""
        return max(1, -(-int(self.tokens * 1.01) // tokens))


def characters_per_token(vocab: int) -> float:
    """What a tokenizer of that size needs for Japanese; a guess of 1.6 where the size is not known."""
    if not vocab:
        return 1.6
    low, high = CHARACTERS[0], CHARACTERS[-1]
    for one, other in itertools.pairwise(CHARACTERS):
        if one[0] <= vocab <= other[0]:
            low, high = one, other
            break
    else:
        return low[1] if vocab < low[0] else high[1]
    return low[1] + (high[1] - low[1]) * math.log(vocab / low[0]) / math.log(high[0] / low[0])


def estimated(
    rows: Iterable[Row], *, held_back: float = 0.0, tokens_of: Callable[[str], int] | None = None, vocab: int = 0
) -> Amount:
    """Every row is read once; the first SAMPLE are tokenised when there is `tokens_of`, the rest goes by characters.

    `held_back`: share that dev and test take. Raises: StateError when there is not one row."""
    n_rows = n_documents = n_characters = n_learnt = n_turns = seen_characters = seen_tokens = 0
    for row in rows:
        sizes, learnt = _sizes(row)
        n_rows, n_turns = n_rows + 1, n_turns + len(sizes)
        n_documents += 2 if row.kind == "preference" else 1
        n_characters, n_learnt = n_characters + sum(sizes), n_learnt + learnt
        if tokens_of is not None and n_rows <= SAMPLE:
            texts = row.texts()
            seen_characters += sum(len(text) for text in texts)
            seen_tokens += sum(tokens_of(text) for text in texts)
    if not n_rows:
        raise StateError("there is no row to learn from", hint="look at the data with hagane plan, or add documents")
    per_token = seen_characters / seen_tokens if seen_tokens else characters_per_token(vocab)
    tokens = n_characters / per_token + n_turns * TURN_TOKENS
    share = min(1.0, (n_learnt / per_token) / tokens) if n_learnt < n_characters else 1.0
    kept = 1.0 - held_back
    return Amount(tokens * kept, max(1, round(n_documents * kept)), share, estimated=True)


def _sizes(row: Row) -> tuple[list[int], int]:
    """Characters of each text, and of those that are learnt. A pair of answers is two texts with the same prompt."""
    if row.kind == "text":
        return [len(row.text or "")], len(row.text or "")
    if row.kind == "preference":
        prompt = sum(len(turn.content) for turn in row.messages)
        answers = [sum(len(turn.content) for turn in tail) for tail in (row.chosen, row.rejected)]
        return [prompt + answers[0], prompt + answers[1]], sum(answers)
    learnt = sum(len(turn.content) for turn in row.messages if turn.role == "assistant" and turn.learn)
    return [len(turn.content) for turn in row.messages], learnt
