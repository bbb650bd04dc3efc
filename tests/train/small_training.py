"""Small models and small Japanese batches for the tests of the training room."""

from __future__ import annotations

import numpy as np
import torch

from hagane.train.model import from_scratch
from hagane.train.scaling import Shape
from hagane.train.words import NO_DOCUMENT, NO_LOSS, Batch

torch.set_num_threads(1)
FAMILIES = ("llama", "mistral", "falcon", "gemma", "gemma3_text", "qwen2", "qwen3")
SENTENCES = (
    "年次有給休暇は、入社から六か月後に十日付与する。",
    "出張の日当は、課長以上が三千円、その他が二千五百円である。",
    "情報資産の持ち出しには、部門長の承認が要る。",
    "退職の申し出は、三十日前までに書面で行う。",
    "定期健康診断は、毎年五月に全社員が受ける。",
    "経費の精算は、翌月五日までに申請すること。",
)
VOCAB = 256  # the bytes of UTF-8


def shape(*, width: int = 32, depth: int = 1, heads: int = 2, context: int = 64) -> Shape:
    return Shape(VOCAB, width, depth, heads, heads, 2 * width, context)


def tiny(name: str = "llama", *, seed: int = 0, **kwargs):
    """A model of one layer, width 32. Weights wider than usual, so that what attention does is seen in the logits."""
    how = {key: kwargs.pop(key) for key in ("width", "depth", "heads", "context") if key in kwargs}
    return from_scratch(name, shape(**how), seed=seed, **{"initializer_range": 0.2, **kwargs})


def row(documents: list[list[int]], T: int, *, learn_from: int = 0):
    """ids, targets, documents, positions of one packed row; nothing is learnt of the first tokens of each document."""
    ids, targets = np.zeros(T, np.int64), np.full(T, NO_LOSS, np.int64)
    owner, positions = np.full(T, NO_DOCUMENT, np.int32), np.zeros(T, np.int64)
    at = 0
    for n, tokens in enumerate(documents):
        tokens = tokens[: T - at]
        end = at + len(tokens)
        ids[at:end], owner[at:end], positions[at:end] = tokens, n, np.arange(len(tokens))
        targets[at + learn_from : end - 1] = tokens[1 + learn_from :]
        at = end
    positions[at:] = np.arange(T - at)
    return ids, targets, owner, positions


def batch(step: int, *, rows: int = 8, T: int = 64, seed: int = 0, learn_from: int = 0) -> Batch:
    """Rows of whole and cut Japanese sentences as bytes: a pure function of (seed, step)."""
    draw = np.random.default_rng((seed, step))
    found = []
    for _ in range(rows):
        picked = [list(SENTENCES[n].encode())[: int(draw.integers(5, 60))] for n in draw.integers(0, len(SENTENCES), 4)]
        found.append(row(picked, T, learn_from=learn_from))
    return Batch(*(np.stack(part) for part in zip(*found, strict=True)), step=step)


class Stream:
    """Batches as the loop wants them: a pure function of the step."""

    def __init__(self, *, rows: int = 8, T: int = 64, seed: int = 0, per_epoch: int = 50) -> None:
        self.rows, self.T, self.seed, self.per_epoch = rows, T, seed, per_epoch

    def batch(self, step: int) -> Batch:
        return batch(step, rows=self.rows, T=self.T, seed=self.seed)

    def state(self, step: int) -> tuple[int, int, int]:
        return (self.seed, *divmod(step, self.per_epoch))

    def documents(self, step: int, row: int) -> list[str]:
        return [f"規程-{step}-{row}"]
