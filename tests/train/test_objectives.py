"""Losses: chunked equals plain, only labels count, and preferences move the right way."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import numpy as np
import torch
import torch.nn.functional as F
from small_training import SENTENCES, batch, row, tiny

from hagane.core.errors import UsageError
from hagane.train import objectives
from hagane.train.model import logits
from hagane.train.objectives import Micro, NextToken, Preference, token_logs
from hagane.train.words import NO_LOSS, Batch


def micro_of(one: Batch) -> Micro:
    return Micro.of(one, list(range(len(one.ids_BT))))


def plainly(model, micro: Micro) -> torch.Tensor:
    """What one would write without a thought for memory."""
    all_BTV = logits(model, micro.ids_BT, micro.positions_BT, micro.documents_BT)
    cap = getattr(model.config, "final_logit_softcapping", None)
    all_BTV = all_BTV if cap is None else cap * torch.tanh(all_BTV / cap)
    return F.cross_entropy(all_BTV.flatten(0, 1), micro.targets_BT.flatten(), ignore_index=NO_LOSS, reduction="sum")


@pytest.mark.parametrize("chunk", [256 * 7, 1 << 24])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cap", [None, 5.0])
def test_chunked_loss_and_gradients_are_the_plain_ones(monkeypatch, chunk: int, tied: bool, cap: float | None):
    """Seven labels at a time or all at once: the same number, the same gradient of every weight (1e-5)."""
    monkeypatch.setattr(objectives, "CHUNK_LOGITS_CPU", chunk)
    monkeypatch.setattr(objectives, "CHUNK_ROWS", 1)
    model = tiny("llama", tie_word_embeddings=tied)
    model.config.final_logit_softcapping = cap
    micro = micro_of(batch(0, rows=3))
    plain = plainly(model, micro)
    plain.backward()
    want = {name: one.grad.clone() for name, one in model.named_parameters()}
    model.zero_grad()
    got = NextToken().score(model, micro).total
    got.backward()
    assert got.item() == pytest.approx(plain.item(), rel=1e-5)
    for name, one in model.named_parameters():
        assert (one.grad - want[name]).abs().max() <= 1e-5 * want[name].abs().max(), name


def test_only_labels_earn_loss():
    """Other ids where no loss is change what is read, not what is scored: masking all but one label leaves its loss."""
    model = tiny()
    one = batch(0, rows=1)
    targets = np.full_like(one.targets_BT, NO_LOSS)
    place = int(np.flatnonzero(one.targets_BT[0] != NO_LOSS)[3])
    targets[0, place] = one.targets_BT[0, place]
    masked = Batch(one.ids_BT, targets, one.documents_BT, one.positions_BT)
    micro = micro_of(masked)
    got = NextToken().score(model, micro).total.item()
    all_V = logits(model, micro.ids_BT, micro.positions_BT, micro.documents_BT)[0, place]
    assert got == pytest.approx(float(-torch.log_softmax(all_V, -1)[targets[0, place]]), rel=1e-5)
    assert NextToken().weight(masked) == 1


def test_no_logits_where_there_are_no_labels(monkeypatch):
    """The head sees as many rows as there are labels, at most a chunk of them at once."""
    seen: list[int] = []
    real = objectives._logits
    monkeypatch.setattr(objectives, "_logits", lambda x, *rest: seen.append(len(x)) or real(x, *rest))
    monkeypatch.setattr(objectives, "CHUNK_LOGITS_CPU", 256 * 10)
    monkeypatch.setattr(objectives, "CHUNK_ROWS", 1)
    one = batch(0, rows=2, learn_from=8)
    NextToken().score(tiny(), micro_of(one))
    assert sum(seen) == one.n_targets < one.ids_BT.size
    assert max(seen) <= 10


def test_a_token_taken_for_impossible_costs_a_finite_loss():
    """300 nats: its probability is 0 in fp32, its loss and gradient are those of the plain way."""
    x_ND, weight_VD = torch.tensor([[300.0, 0.0]], requires_grad=True), torch.eye(2)
    got = objectives._HeadLoss.apply(x_ND, weight_VD, None, torch.tensor([1]), None, True)
    got.backward()
    assert got.item() == pytest.approx(300.0)
    assert x_ND.grad.tolist() == [[1.0, -1.0]]


def test_a_batch_without_labels_scores_zero_and_can_be_differentiated():
    one = batch(0, rows=1)
    blank = Batch(one.ids_BT, np.full_like(one.targets_BT, NO_LOSS), one.documents_BT, one.positions_BT)
    got = NextToken().score(tiny(), micro_of(blank)).total
    got.backward()
    assert got.item() == 0.0


def pairs(seed: int, n: int = 4, T: int = 96) -> Batch:
    """A planted preference: the same question, chosen ends politely in です。, rejected in だよ。"""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        prompt = list(SENTENCES[int(draw.integers(len(SENTENCES)))].encode())[:24]
        rows.append(row([prompt + list("です。".encode()), prompt + list("だよ。".encode())], T, learn_from=23))
    return Batch(*(np.stack(part) for part in zip(*rows, strict=True)))


def test_preference_margin_grows_on_a_planted_preference():
    """From 0 before the first step to positive on every unseen pair after 12."""
    model, judge = tiny(), tiny()
    objective = Preference(beta=0.1, reference=judge.requires_grad_(False))
    held_out = pairs(1000)
    before = objective.score(model, micro_of(held_out)).sums
    assert before["margin"] == pytest.approx(0.0, abs=1e-3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    margins = []
    for step in range(12):
        one = pairs(step)
        scored = objective.score(model, micro_of(one))
        (scored.total / objective.weight(one)).backward()
        optimiser.step()
        optimiser.zero_grad()
        margins.append(scored.sums["margin"] / objective.weight(one))
    after = objective.score(model, micro_of(held_out)).sums
    assert margins[-1] > margins[0] + 1.0
    assert after["won"] == objective.weight(held_out) == 4


def test_preference_is_the_formula():
    """One pair by hand: -log sigmoid(beta ((c - r) - (c0 - r0)))."""
    model, judge = tiny(seed=1), tiny(seed=2)
    one = pairs(5, n=1)
    micro = micro_of(one)
    owner = micro.documents_BT[micro.targets_BT != NO_LOSS]
    with torch.no_grad():
        ours, theirs = token_logs(model, micro), token_logs(judge, micro)
        margin = (ours[owner == 0].sum() - ours[owner == 1].sum()) - (
            theirs[owner == 0].sum() - theirs[owner == 1].sum()
        )
        got = Preference(beta=0.3, reference=judge).score(model, micro)
    assert float(got.total) == pytest.approx(float(-F.logsigmoid(0.3 * margin)), rel=1e-5)
    assert got.sums["margin"] == pytest.approx(float(margin), rel=1e-5)


def test_half_a_pair_is_refused():
    one = pairs(0, n=1)
    targets = np.where(one.documents_BT == 1, NO_LOSS, one.targets_BT)
    broken = Batch(one.ids_BT, targets, one.documents_BT, one.positions_BT)
    with pytest.raises(UsageError, match="lacks one of its two answers"):
        Preference(reference=tiny()).score(tiny(), micro_of(broken))


def test_preference_without_reference_or_adapter_is_refused():
    with pytest.raises(UsageError, match="began from"):
        Preference().score(tiny(), micro_of(pairs(0, n=1)))


def test_an_adapter_is_its_own_reference():
    """In the loop, with the adapter taken off for the reference: the margin grows and the base stays."""
    pytest.importorskip("peft", reason="the extra train is not installed")
    from small_training import Stream

    from hagane.train.loop import Event, Settings, train
    from hagane.train.tune import Lora, add_adapter, fingerprint

    class Pairs(Stream):
        def batch(self, step: int) -> Batch:
            return pairs(step)

    base = tiny()
    mark = fingerprint(base)
    events: list[Event] = []
    settings = Settings(steps=10, learning_rate=1e-2, warmup_steps=1, optimiser="adamw", micro_rows=2)
    done = train(add_adapter(base, Lora(rank=4), seed=1), Preference(), Pairs(), settings, watch=events.append)
    margins = [event.values["margin"] for event in events if event.kind == "step"]
    assert margins[0] == pytest.approx(0.0, abs=1e-3) and margins[-1] > 1.0
    assert done.losses[0] == pytest.approx(np.log(2), rel=1e-3) and done.losses[-1] < done.losses[0]
    assert fingerprint(base) == mark
