"""FP8 products: refused where the device has none, near to fp32 where they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import torch
from small_training import Stream, tiny

from hagane.core.errors import UsageError
from hagane.train import fp8
from hagane.train.loop import Run, Settings
from hagane.train.objectives import NextToken

SETTINGS = Settings(steps=3, learning_rate=1e-3)


def test_a_device_without_fp8_is_refused_before_anything_runs():
    with pytest.raises(UsageError, match="'cpu' has no fp8") as caught:
        Run(tiny(), NextToken(), Stream(), replace(SETTINGS, fp8=True))
    assert "bf16" in str(caught.value.hint)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_is_refused_before_data_is_prepared():
    with pytest.raises(UsageError, match="no fp8 products"):
        fp8.check_here()


def test_an_older_gpu_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    with pytest.raises(UsageError, match=r"A100 has no fp8 products \(compute capability 8.0, 8.9"):
        fp8.check(torch.device("cuda"))


def test_products_and_gradients_are_near_those_of_fp32():
    """37 tokens (not a multiple of 16): within 10 % of the norm; three bits of mantissa allow no more."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(37, 64, generator=draw, requires_grad=True)
    w, bias = torch.randn(32, 64, generator=draw, requires_grad=True), torch.randn(32, generator=draw)
    g = torch.randn(37, 32, generator=draw)
    y = fp8.linear(x, w, bias)
    y.backward(g)
    for got, want in ((y, x @ w.T + bias), (x.grad, g @ w), (w.grad, g.T @ x)):
        assert 1e-4 < (got - want).norm() / want.norm() < 0.1


def test_the_layers_inside_the_blocks_do_it_and_the_head_does_not():
    model = tiny("llama", depth=2)
    before = NextToken().score(model, _micro()).total.item()
    assert fp8._into_fp8(model) == 14
    after = NextToken().score(model, _micro()).total.item()
    assert after == pytest.approx(before, rel=0.1)
    assert after != before
    assert model.get_output_embeddings().forward.__func__ is torch.nn.Linear.forward


def _micro():
    from hagane.train.objectives import Micro

    return Micro.of(Stream().batch(0), [0, 1])


def test_switches_are_held_against_the_checkpoint_only_when_on():
    """Runs from before the switches existed go on; a run with one does not go on without a word."""
    assert "fp8" not in SETTINGS.fixed()
    assert replace(SETTINGS, fp8=True, compile=True).fixed() == SETTINGS.fixed() | {"fp8": True, "compile": True}
