"""QLoRA: the base in 4 bits, exact in state, learnt beside, merged as it was rounded."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("peft", reason="the extra train is not installed")

import torch
from small_training import FAMILIES, Stream, batch, tiny

from hagane.core.errors import RefusedError, StateError, UsageError
from hagane.train.fingerprint import fingerprint, fingerprint_of
from hagane.train.loop import Settings, train
from hagane.train.model import logits
from hagane.train.model_folder import load_folder, save_folder
from hagane.train.objectives import Micro, NextToken
from hagane.train.quantised import (
    BLOCK,
    NF4,
    Linear4,
    dequantise,
    is_quantised,
    n_bytes,
    quantise,
    rounded,
    whole,
    whole_folder,
)
from hagane.train.tune import Lora, add_adapter, load_adapter, merge, save_adapter

LORA = Lora(rank=4, alpha=8)
SETTINGS = Settings(steps=6, learning_rate=1e-2, warmup_steps=1, optimiser="adamw", micro_rows=2, save_every=2)


def adapted(*, seed: int = 0, base_seed: int = 0):
    return add_adapter(quantise(tiny(seed=base_seed)), LORA, seed=seed)


def said(model) -> torch.Tensor:
    micro = Micro.of(batch(0, rows=2), [0, 1])
    with torch.no_grad():
        return logits(model, micro.ids_BT, micro.positions_BT, micro.documents_BT)


def test_each_number_becomes_the_nearest_of_sixteen():
    """Against the definition: scale by the block's largest, take the nearest; also where the last block is short."""
    weight = torch.randn(7, 27, generator=torch.Generator().manual_seed(1))
    got = whole(*rounded(weight), (7, 27)).reshape(-1)
    flat, table = weight.reshape(-1), torch.tensor(NF4)
    for start in range(0, flat.numel(), BLOCK):
        block = flat[start : start + BLOCK]
        scale = block.abs().max()
        want = table[(block[:, None] / scale - table).abs().argmin(1)] * scale
        assert torch.equal(got[start : start + BLOCK], want)


def test_rounding_again_changes_nothing():
    weight = torch.randn(32, 64)
    once = whole(*rounded(weight), (32, 64))
    assert torch.equal(whole(*rounded(once), (32, 64)), once)
    assert torch.equal(whole(*rounded(torch.zeros(2, 64)), (2, 64)), torch.zeros(2, 64))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_model_says_what_its_whole_form_says(name: str):
    """In 4 bits or made whole: the same logits, the same fingerprint; another one than the base had."""
    model = tiny(name)
    before = fingerprint(model)
    quantise(model)
    assert is_quantised(model) and not any(one.requires_grad for one in model.parameters())
    four, mark = said(model), fingerprint(model)
    dequantise(model)
    assert not is_quantised(model)
    assert torch.allclose(said(model), four, atol=1e-6)
    assert fingerprint(model) == mark != before


def test_linear_layers_take_a_seventh_and_the_head_stays():
    model = tiny(width=64, heads=2, tie_word_embeddings=False)
    linear = sum(
        4 * one.weight.numel()
        for name, one in model.named_modules()
        if isinstance(one, torch.nn.Linear) and "head" not in name
    )
    before = n_bytes(model)
    quantise(model)
    assert before - n_bytes(model) == pytest.approx(linear * (1 - 0.5625 / 4))
    assert not isinstance(model.lm_head, Linear4)


def test_gradients_are_those_of_the_whole_base():
    """Of the adapter and of what flows on below it, against plain layers holding the rounded weights."""
    four, plain = adapted(), adapted()
    dequantise(plain)
    for model in (four, plain):
        with torch.no_grad():  # a fresh adapter's B is zero, and so its A would get no gradient
            for name, one in model.named_parameters():
                if "lora_B" in name:
                    one.copy_(torch.randn(one.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
        NextToken().score(model, Micro.of(batch(0, rows=2), [0, 1])).total.backward()
    found = dict(plain.named_parameters())
    n = 0
    for name, one in four.named_parameters():
        if one.requires_grad:
            assert "lora_" in name and one.grad.abs().max() > 0
            assert torch.allclose(one.grad, found[name].grad, rtol=1e-4, atol=1e-5 * found[name].grad.abs().max()), name
            n += 1
    assert n == 14, "two matrices for each of the seven layers"


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    straight, cut = adapted(), adapted()
    train(straight, NextToken(), Stream(rows=2), SETTINGS)
    seen: list[int] = []
    train(cut, NextToken(), Stream(rows=2), SETTINGS, folder=tmp_path, stop=lambda: len(seen) >= 3,
          watch=lambda event: seen.append(event.step) if event.kind == "step" else None)  # fmt: skip
    resumed = adapted(seed=7)
    train(resumed, NextToken(), Stream(rows=2), SETTINGS, folder=tmp_path)
    for (name, one), (_, other) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_merged_is_the_rounded_base_with_its_adapter():
    model = adapted()
    losses = train(model, NextToken(), Stream(rows=4), SETTINGS).losses
    assert losses[-1] < losses[0]
    beside = said(model)
    merged = merge(model)
    assert not is_quantised(merged)
    assert (said(merged) - beside).abs().max() < 1e-4


def test_an_adapter_belongs_to_the_rounded_base_and_no_other(tmp_path):
    """What is served must be what it learnt beside: the base before rounding is another one."""
    save_folder(tiny(), tmp_path / "base")
    (tmp_path / "base" / "tokenizer.json").write_text('{"言葉": 1}', "utf-8")
    model = add_adapter(quantise(load_folder(tmp_path / "base")), LORA, seed=0)
    train(model, NextToken(), Stream(rows=2), SETTINGS)
    save_adapter(model, tmp_path / "adapter")
    folder = whole_folder(tmp_path / "base", tmp_path / "whole")
    assert fingerprint_of(folder) == fingerprint(model)
    assert (folder / "tokenizer.json").read_text("utf-8") == '{"言葉": 1}'
    served = load_adapter(load_folder(folder), tmp_path / "adapter")
    assert torch.allclose(said(served), said(model), atol=1e-5)
    with pytest.raises(RefusedError, match="another base"):
        load_adapter(load_folder(tmp_path / "base"), tmp_path / "adapter")
    with pytest.raises(UsageError, match="not empty"):
        whole_folder(tmp_path / "base", tmp_path / "whole")


def test_state_is_exact_through_a_checkpoint_of_its_own():
    """Codes and scales are buffers: another model takes them over bit for bit."""
    one, other = quantise(tiny(seed=1)), quantise(tiny(seed=2))
    other.load_state_dict(one.state_dict())
    assert torch.equal(said(one), said(other))


def test_rounding_under_an_adapter_is_refused():
    with pytest.raises(StateError, match="adapter already"):
        quantise(add_adapter(tiny(), LORA, seed=0))
