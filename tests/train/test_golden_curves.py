"""Golden losses of 20 steps for what is learnt from given answers: SFT, LoRA, DPO. Pre-training: test_loop.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("peft", reason="the extra train is not installed")

import numpy as np
from small_training import SENTENCES, Stream, batch, row, tiny

from hagane.train.loop import Settings, train
from hagane.train.objectives import NextToken, Objective, Preference
from hagane.train.tune import Lora, add_adapter
from hagane.train.words import Batch

GOLDEN = Path(__file__).parent / "golden"
YES, NO = "はい、承認します。".encode(), "いいえ、却下です。".encode()


class Answers(Stream):
    """Prompts that are read and answers that are learnt: no loss on the first 20 bytes of each document."""

    def batch(self, step: int) -> Batch:
        return batch(step, learn_from=20)


class Pairs(Stream):
    """One prompt and two answers a row; the first is the better one."""

    def batch(self, step: int) -> Batch:
        draw = np.random.default_rng((7, step))
        rows = []
        for n in draw.integers(0, len(SENTENCES), 4):
            prompt = list(SENTENCES[n].encode()[:24])
            rows.append(row([[*prompt, *YES], [*prompt, *NO]], 128, learn_from=len(prompt) - 1))
        return Batch(*(np.stack(part) for part in zip(*rows, strict=True)), step=step)


def curve(kind: str) -> tuple[float, ...]:
    model = tiny("gemma3_text" if kind == "lora" else "llama", initializer_range=0.02)
    optimiser, rate, objective, feed = "adamw", 1e-2, NextToken(), Answers()
    if kind == "sft":
        optimiser, rate = "muon", 3e-3
    else:
        model = add_adapter(model, Lora(rank=4), seed=1)
    if kind == "dpo":
        objective, feed = Preference(beta=0.5), Pairs()
    settings = Settings(steps=20, learning_rate=rate, warmup_steps=4, micro_rows=4, optimiser=optimiser)
    learnt: Objective = objective
    return train(model, learnt, feed, settings).losses


@pytest.mark.parametrize(("kind", "falls_by"), [("sft", 0.5), ("lora", 0.1), ("dpo", 0.02)])
def test_golden_curve_of_20_steps_of_answers(kind: str, falls_by: float):
    """The losses that were written down (1e-4: sums go in another order on another processor), and they fall."""
    got = curve(kind)
    name = GOLDEN / f"{kind}_20_steps.txt"
    if os.environ.get("HAGANE_WRITE_GOLDEN"):
        name.write_text("".join(f"{loss:.6f}\n" for loss in got), "utf-8")
    want = [float(line) for line in name.read_text("utf-8").split()]
    assert got == pytest.approx(want, rel=1e-4)
    assert got[-1] < got[0] - falls_by
