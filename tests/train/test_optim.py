"""Optimisers: our Muon against torch's, what gets which, the schedule by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import torch
from small_training import FAMILIES, Stream, tiny

from hagane.core.errors import StateError
from hagane.train.loop import Run, Settings
from hagane.train.objectives import NextToken
from hagane.train.optim import Muon, Optimisers, orthogonal, schedule


def test_schedule_by_hand():
    """10 steps, 2 of warm-up, a decay over the last 4: 1 - sqrt(k / 5)."""
    got = [schedule(step, steps=10, warmup=2, decay=0.4) for step in range(10)]
    want = [0.5, 1, 1, 1, 1, 1, 1 - 0.2**0.5, 1 - 0.4**0.5, 1 - 0.6**0.5, 1 - 0.8**0.5]
    assert got == pytest.approx(want)
    assert [schedule(step, steps=4, warmup=0, decay=0.0) for step in range(4)] == [1.0] * 4


@pytest.mark.parametrize("size", [(24, 24), (48, 16), (16, 48)])
def test_orthogonal_makes_singular_values_near_one(size: tuple[int, int]):
    """The quintic's own range is about 0.7 to 1.2; directions stay."""
    given = torch.randn(*size, generator=torch.Generator().manual_seed(1))
    got = orthogonal(given)
    values = torch.linalg.svdvals(got)
    assert values.min() > 0.5 and values.max() < 1.3
    u, _, v = torch.linalg.svd(given, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(got.flatten(), (u @ v).flatten(), dim=0) > 0.97


def test_our_muon_is_torchs_but_for_the_rounding():
    """Ten steps beside torch.optim.Muon (bf16 inside): the paths differ by less than 2 % of the way."""
    draw = torch.Generator().manual_seed(2)
    start = torch.randn(32, 48, generator=draw)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = Muon([ours], lr=0.01, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(10):
        gradient = torch.randn(32, 48, generator=draw)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        other.step()
    assert (ours - theirs).norm() < 0.02 * (ours - start).norm()


@pytest.mark.parametrize("name", FAMILIES)
def test_muon_gets_hidden_matrices_and_adamw_the_rest(name: str):
    """Embedding, head and norms are AdamW's; every matrix of every layer is Muon's; each weight has exactly one."""
    model = tiny(name, tie_word_embeddings=False)
    all_of_it = Optimisers(model, kind="muon", learning_rate=1e-3, weight_decay=0.1)
    muon, adamw = ([id(one) for group in part.param_groups for one in group["params"]] for part in all_of_it._all)
    names = {id(one): key for key, one in model.named_parameters()}
    assert sorted(muon + adamw) == sorted(names)
    assert {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)} <= set(adamw)
    layers = [key for key, one in model.named_parameters() if one.ndim == 2 and (".layers." in key or ".h." in key)]
    assert sorted(names[one] for one in muon) == sorted(layers)


def test_norms_do_not_decay():
    optimisers = Optimisers(tiny(), kind="adamw", learning_rate=1e-3, weight_decay=0.1)
    for group in optimisers._all[0].param_groups:
        assert {one.ndim >= 2 for one in group["params"]} == {group["weight_decay"] > 0}


def test_gradients_are_clipped_to_the_norm():
    run = Run(tiny(), NextToken(), Stream(), Settings(steps=1, learning_rate=1e-3, clip=0.05))
    run.accumulate(run.data.batch(0), list(range(8)))
    before = run._clip()
    after = torch.nn.utils.get_total_norm([one.grad for one in run.optimisers.parameters])
    assert before > 0.05 and float(after) == pytest.approx(0.05, rel=1e-3)


def test_a_model_with_nothing_to_learn_is_an_error():
    with pytest.raises(StateError, match="nothing of this model is trainable"):
        Optimisers(tiny().requires_grad_(False), kind="muon", learning_rate=1e-3, weight_decay=0.1)


def test_state_of_another_model_is_refused():
    state = dict(Optimisers(tiny(), kind="muon", learning_rate=1e-3, weight_decay=0.1).state())
    with pytest.raises(StateError, match="another model"):
        Optimisers(tiny("qwen2"), kind="muon", learning_rate=1e-3, weight_decay=0.1).load(state)
    with pytest.raises(StateError, match="the shape of"):
        Optimisers(tiny(width=64), kind="muon", learning_rate=1e-3, weight_decay=0.1).load(state)
