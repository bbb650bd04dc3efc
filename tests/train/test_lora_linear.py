"""The short way through a LoRA layer computes what peft's does, and steps aside where it would not."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("peft", reason="the extra train is not installed")

import torch
from small_training import batch, tiny

from hagane.train.lora_linear import _forward, _is_plain, quicken
from hagane.train.objectives import Micro, NextToken
from hagane.train.tune import Lora, add_adapter


def adapted(*, dropout: float = 0.0):
    """A Gemma with an adapter that already changes something (B is not 0)."""
    model = add_adapter(tiny("gemma3_text", depth=2), Lora(rank=4, dropout=dropout), seed=1)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "lora_B" in name:
                one.copy_(0.1 * torch.randn(one.shape, generator=draw))
    return model


def layers(model) -> list[torch.nn.Module]:
    return [one for one in model.modules() if getattr(one, "forward", None) and getattr(one.forward, "__func__", None) is _forward]


def score(model) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = NextToken().score(model, Micro.of(batch(0, rows=2), [0, 1])).total
    total.backward()
    return float(total.detach()), {name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad}


def test_loss_and_gradients_are_those_of_peft():
    """Japanese text through two layers: the loss to 1e-6, each gradient to 1e-5 of its largest."""
    model = adapted()
    assert len(layers(model)) == 14
    short, gradients = score(model)
    for one in layers(model):
        del one.forward
    long, want = score(model)
    assert short == pytest.approx(long, rel=1e-6)
    for name, one in gradients.items():
        assert (one - want[name]).abs().max() <= 1e-5 * want[name].abs().max(), name


@pytest.mark.parametrize("why", ["dropout", "off", "autocast"])
def test_where_it_would_differ_peft_does_it(why: str):
    model = adapted(dropout=0.5 if why == "dropout" else 0.0).train()
    one, x = layers(model)[0], torch.ones(1, 32)
    if why == "off":
        with model.disable_adapter():
            assert not _is_plain(one, x)
    elif why == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not _is_plain(one, x)
    else:
        assert not _is_plain(one, x)
        assert _is_plain(one.eval(), x)
    assert quicken(model) == 14
