"""Canaries: exposure is what its definition says, and a secret that was never learnt has next to none."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import numpy as np
import torch
from small_training import SENTENCES, row, tiny

from hagane.train.canary import N_DIGITS, costs, draw, exposure, fitted, log_below, others, sampled
from hagane.train.loop import Settings, train
from hagane.train.model import logits
from hagane.train.objectives import NextToken
from hagane.train.words import Batch


def encode(text: str) -> list[int]:
    return list(text.encode())


def test_a_canary_costs_what_the_plain_way_says():
    """Packed with others or alone, the sum of -log p of its tokens: computed from whole logits."""
    model = tiny(width=32)
    texts = [*SENTENCES, "倉庫アの開錠番号は123456789"]
    got = costs(model, texts, encode)
    for n, text in enumerate(texts):
        ids = torch.tensor([encode(text)])
        places = torch.arange(ids.shape[1])[None]
        logs = torch.log_softmax(logits(model, ids, places, torch.zeros_like(ids).int())[0], -1)
        plain = -logs[torch.arange(ids.shape[1] - 1), ids[0, 1:]].sum().item()
        assert got[n] == pytest.approx(plain, rel=1e-4)


def test_skew_normal_is_the_closed_forms():
    """Shape 0 is the normal distribution, shape 1 its square (Azzalini 1985, property H)."""
    normal = NormalDist()
    for z in (-6.0, -3.0, -1.0, 0.0, 0.5, 2.0, 5.0):
        assert log_below(z, 0.0) == pytest.approx(math.log(normal.cdf(z)), rel=1e-3, abs=1e-4)
        assert log_below(z, 1.0) == pytest.approx(2 * math.log(normal.cdf(z)), rel=1e-3, abs=1e-4)
    far = log_below(-30.0, 0.0)  # Mills: log of phi(30) / 30, less 1 / 900
    assert far == pytest.approx(-450 - 0.5 * math.log(2 * math.pi) - math.log(30) - 1 / 900, abs=1e-3)


def test_exposure_by_rank_is_the_definition():
    """The likeliest of 1,024 has 10 bits, the middle one 1, the last 0."""
    secrets = np.arange(1023, dtype=np.float64)
    assert sampled(-1.0, secrets) == pytest.approx(10.0)
    assert sampled(510.5, secrets) == pytest.approx(1.0, abs=0.01)
    assert sampled(2000.0, secrets) == pytest.approx(0.0)


@pytest.mark.parametrize("skewed", [False, True])
def test_the_fit_agrees_with_the_rank_where_both_see(skewed: bool):
    """Costs drawn from a normal or a skewed distribution: within half a bit down to one in 256."""
    random = np.random.default_rng(7)
    drawn = random.normal(30, 3, 20_000) + (np.abs(random.normal(0, 6, 20_000)) if skewed else 0)
    for share in (0.5, 0.1, 1 / 64, 1 / 256):
        at = float(np.quantile(drawn, share))
        assert fitted(at, drawn) == pytest.approx(-math.log2(share), abs=0.5)
    assert fitted(float(drawn.min()) - 20, drawn) > 14, "the fit sees beyond the sample"


def test_a_model_that_learnt_nothing_exposes_nothing():
    """P(exposure >= x) = 2^-x: of 12 canaries in a fresh model none reaches 10 bits, and the mean is that of 1.44."""
    model = tiny(width=32)
    found = [exposure(model, canary, encode, n=128) for canary in draw([0] * 12, seed=3)]
    assert max(one.fitted for one in found) < 10
    assert 0.4 < np.mean([one.fitted for one in found]) < 3.5


def test_a_canary_that_was_learnt_by_heart_stands_out_fully():
    """One canary, taught until the loss is near zero: no other secret is likelier."""
    known, unknown = draw([1, 0], seed=5)
    parts = row([encode(known.text)], 64)
    one = Batch(*(part[None] for part in parts))

    class Data:
        def batch(self, step: int) -> Batch:
            return one

        def state(self, step: int) -> tuple[int, int, int]:
            return 0, step, 0

        def documents(self, step: int, row: int) -> list[str]:
            return ["倉庫"]

    model = tiny(width=64, heads=2)
    train(model, NextToken(), Data(), Settings(steps=60, learning_rate=0.02, warmup_steps=2, micro_rows=1))
    learnt, other = (exposure(model, canary, encode, n=255) for canary in (known, unknown))
    assert learnt.sampled == pytest.approx(8.0), "first of 256"
    assert learnt.fitted > 12 > other.fitted


def test_drawn_secrets_are_different_and_the_same_each_time():
    canaries = draw([1, 2, 5], seed=11)
    assert canaries == draw([1, 2, 5], seed=11) != draw([1, 2, 5], seed=12)
    assert len({canary.before for canary in canaries}) == 3
    rivals = others(canaries[0], n=500, seed=0)
    assert len(set(rivals)) == 500 and canaries[0].secret not in rivals
    assert {len(secret) for secret in rivals} == {N_DIGITS}
